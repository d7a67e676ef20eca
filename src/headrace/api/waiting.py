"""Why the workloads of a page wait, in a few words each; `explain` has the whole of it.

Nobody records why a workload waits: it changes with every event. So it is worked out for the page that is asked for,
and once for all of its workloads that ask for the same.
"""

from collections.abc import Iterable

from headrace.core.ids import WorkloadId
from headrace.core.scheduling.ahead import Turns
from headrace.core.scheduling.explain import explain
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import State, Workload

MOST_EXPLAINED = 20
"""Different asks that one page explains: each looks at every node of the estate, and everybody else waits meanwhile."""


def reasons_of(snapshot: Snapshot, page: Iterable[Workload]) -> dict[WorkloadId, str]:
    """Why each queued workload of a page waits: ``POWER: site glomfjord: needs 450 W, ...``.

    Those that ask for anything new after ``MOST_EXPLAINED`` different asks are left out.
    """
    found: dict[WorkloadId, str] = {}
    known: dict[object, str] = {}
    for work in page:
        if work.state is not State.QUEUED:
            continue
        ask = _ask(work, snapshot.now_ms)
        if ask not in known and len(known) < MOST_EXPLAINED:
            # Who goes first is another question for each of them, and a look at the whole queue: it is asked once, below.
            known[ask] = explain(snapshot, work.id, in_full=False).reason.removeprefix("waits: ")
        if ask in known:
            found[work.id] = known[ask]
    fitting = [ident for ident, reason in found.items() if reason.startswith(_NEXT)]
    first = Turns(snapshot).first() if fitting else None
    for ident in fitting:
        if first is not None and ident == first.id:
            found[ident] += " and is first in the queue"
        else:
            found[ident] = f"{Refusal.RANK.name}:{found[ident].removeprefix(_NEXT)}, but others go first"
    return found


_NEXT = "NEXT:"


def _ask(work: Workload, now_ms: int) -> object:
    """What the reason depends on, but for the place in the queue."""
    spec = work.spec
    if work.not_before_ms > now_ms:
        return work.id
    shape = spec.nodes, spec.nodes_max, spec.resources, spec.alternatives, spec.topology, spec.expected_ms
    return (
        work.tenant,
        spec.project,
        spec.type,
        *shape,
        spec.policy,
        spec.site,
        spec.contract,
        spec.reservation,
        spec.lease,
    )
