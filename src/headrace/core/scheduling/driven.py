"""For :mod:`~headrace.core.scheduling.check`: whether what drives the nodes of a placement can do what is asked of it.

By the words of the estate and of the engines. Nothing here is shared with :mod:`headrace.core.scheduling.rank`, which the
planner reads.
"""

from collections.abc import Iterator

from headrace.core.observation import Capabilities
from headrace.core.scheduling.ground import Ground
from headrace.core.scheduling.proposal import ProposedPlacement
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import WHOLE_MILLI, Resources, Workload, WorkloadType


def wrong_with_engines(
    snapshot: Snapshot, ground: Ground, workload: Workload, asked: Resources, proposed: ProposedPlacement
) -> Iterator[str]:
    """What is wrong with the engines of the nodes that a workload would get; nodes that are not there are told of elsewhere."""
    spots = [spot for rank in proposed.ranks if (spot := ground.find(rank.node)) is not None]
    engines = {spot.group.engine: spot.group.site for spot in spots}
    if len(engines) > 1:
        yield f"one gang on nodes of {' and '.join(sorted(engines))}: nobody can start it"
    for engine, number in engines.items():
        site = snapshot.fleet.sites[number]
        if engine != site.engine and not asked.accelerator:
            yield f"it asks for no accelerators by name, and {engine} is not the engine of {site.id}"
        said = snapshot.engines.get(engine)
        if said is not None:
            yield from (f"{engine} of {site.id} {what}" for what in _lacking(said, workload))


def _lacking(said: Capabilities, workload: Workload) -> Iterator[str]:
    spec = workload.spec
    if not said.parts and spec.resources.share_milli < WHOLE_MILLI:
        yield "gives whole accelerators alone"
    if said.tenant and said.tenant != workload.tenant:
        yield f"serves {said.tenant} alone"
    if spec.lease and spec.lease != said.lease:
        yield f"hands no nodes over by {spec.lease}"
    mines_alone = spec.type is WorkloadType.FILLER and len(spec.commands) == 0
    if mines_alone and not said.mines:
        yield "has nothing to run of it"
    if said.mines and not mines_alone:
        yield "runs nothing of anybody's"
