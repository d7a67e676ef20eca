"""Placements that look right, and that one rule alone stands against: the writer must not take the planner's word."""

from collections.abc import Iterator
from random import Random

from headrace.core.ids import SiteId
from headrace.core.scheduling.proposal import ProposedPlacement
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import WHOLE_MILLI, RankPlace, Workload, WorkloadType


def sly_placements(chance: Random, snapshot: Snapshot) -> Iterator[ProposedPlacement]:
    """Parts of accelerators of which others have parts, nodes that stand anyhow, and one node too many."""
    for work in snapshot.queue:
        spec = work.spec
        if spec.type is WorkloadType.CLUSTER:
            continue
        if spec.resources.share_milli < WHOLE_MILLI and spec.nodes == 1:
            yield from _beside(chance, snapshot, work)
        elif spec.nodes_max:
            yield from _anywhere(chance, snapshot, work, spec.nodes_max + 1)
        elif (spec.topology is not None and spec.topology.required) or snapshot.windows:
            yield from _anywhere(chance, snapshot, work, spec.nodes)


def _beside(chance: Random, snapshot: Snapshot, work: Workload) -> Iterator[ProposedPlacement]:
    """On an accelerator of which somebody has a part."""
    parts = [
        (placement.site, rank)
        for placement in snapshot.placements.values()
        for rank in placement.ranks
        if rank.share_milli < WHOLE_MILLI
    ]
    for site, rank in chance.sample(parts, min(2, len(parts))):
        yield ProposedPlacement(work.id, site, (_rank(work, rank.node, rank.mask),))


def _anywhere(chance: Random, snapshot: Snapshot, work: Workload, count: int) -> Iterator[ProposedPlacement]:
    """On nodes of the right model that nobody uses."""
    fleet, need = snapshot.fleet, work.spec.resources
    by_site: dict[SiteId, list[str]] = {}
    for node, name in enumerate(fleet.node_ids):
        hardware = fleet.hardware[fleet.node_hardware[node]]
        fits = need.accelerator in ("", hardware.accelerator) and need.accelerators <= hardware.accelerators
        if fits and not snapshot.node_mask[node] and snapshot.node_open[node]:
            by_site.setdefault(fleet.sites[int(fleet.node_site[node])].id, []).append(name)
    for site, nodes in by_site.items():
        if len(nodes) >= count:
            chosen = chance.sample(nodes, count)
            ranks = tuple(_rank(work, node, (1 << need.accelerators) - 1) for node in chosen)
            yield ProposedPlacement(work.id, site, ranks)


def _rank(work: Workload, node: str, mask: int) -> RankPlace:
    need = work.spec.resources
    return RankPlace(node, mask, need.cpu_milli, need.memory_mb, need.share_milli)
