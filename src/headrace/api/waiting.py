"""Why the workloads of a page wait, in a few words each; `explain` has the whole of it.

Nobody records why a workload waits: it changes with every event. So it is worked out for the page that is asked for,
and once for all of its workloads that ask for the same.
"""

from collections.abc import Iterable
from dataclasses import replace

from headrace.core.ids import WorkloadId
from headrace.core.scheduling.explain import Explanation, explain
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import State, Workload, WorkloadType

MOST_EXPLAINED = 20
"""Different asks that one page explains: each looks at every node of the estate, and everybody else waits meanwhile."""


def reasons_of(snapshot: Snapshot, page: Iterable[Workload]) -> dict[WorkloadId, str]:
    """Why each queued workload of a page waits: ``POWER: site glomfjord: needs 450 W, ...``.

    Those that ask for anything new after ``MOST_EXPLAINED`` different asks are left out.
    """
    found: dict[WorkloadId, str] = {}
    known: dict[object, str] = {}
    # Who goes first is another question for each of them, and a look at the whole queue: it is asked once, below.
    alone = replace(snapshot, queue=())
    for work in page:
        if work.state is not State.QUEUED:
            continue
        ask = _ask(work, snapshot.now_ms)
        if ask not in known and len(known) < MOST_EXPLAINED:
            known[ask] = _short(explain(alone, work.id))
        if ask in known:
            found[work.id] = known[ask]
    fitting = [ident for ident, reason in found.items() if reason.startswith(_NEXT)]
    first = _first(snapshot) if fitting else None
    for ident in fitting:
        if ident != first:
            place = found[ident].removeprefix(_NEXT).removesuffix(_IS_FIRST)
            found[ident] = f"{Refusal.RANK.name}:{place}, but others go first"
    return found


_NEXT = "NEXT:"
_IS_FIRST = " and is first in the queue"


def _first(snapshot: Snapshot) -> WorkloadId | None:
    """The workload that the planner looks at first."""
    waiting = (work for work in snapshot.queue if work.not_before_ms <= snapshot.now_ms)
    first = min(waiting, key=_rank, default=None)
    return first.id if first is not None else None


def _rank(work: Workload) -> tuple[int, bool, int]:
    return -work.spec.priority, work.spec.type is WorkloadType.FILLER, work.submitted_seq


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
    )


def _short(told: Explanation) -> str:
    change = f"; {told.change}" if told.change else ""
    return told.line.removesuffix(change).removeprefix("waits: ")
