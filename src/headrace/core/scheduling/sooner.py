"""In words: who of its equals goes before a workload that shares accelerators in time, since less is left to do of them."""

from headrace.core.scheduling.sharing import group_of, shares_time
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.standings import contender_of, history_of
from headrace.core.scheduling.timeshare import order_of
from headrace.core.workload import Placement, State, Workload


def sooner(snapshot: Snapshot, workload: Workload) -> str:
    """``2 jobs of its own project have less left to do and go first (acme-4 before all)``; "" when there are none."""
    if not shares_time(workload.spec):
        return ""
    history, now_ms, group = history_of(snapshot), snapshot.now_ms, group_of(workload)
    mine = order_of(contender_of(history, workload, now_ms), runs=False)
    others: list[tuple[Workload, Placement | None]] = [
        (other, placement)
        for placement in snapshot.placements.values()
        if placement.tenant == workload.tenant
        and (other := snapshot.workloads[placement.workload]).state is State.RUNNING
    ]
    others += [(other, None) for other in snapshot.queue if other.tenant == workload.tenant]
    before = []
    for other, placement in others:
        if shares_time(other.spec) and group_of(other) == group:
            order = order_of(contender_of(history, other, now_ms, placement), runs=placement is not None)
            if order < mine:
                before.append((order, other.id))
    if not before:
        return ""
    first = min(before)[1]
    if len(before) == 1:
        return f"{first} of its own project has less left to do and goes first"
    return f"{len(before)} jobs of its own project have less left to do and go first, {first} before all"
