"""Work that asks for whole accelerators of one node, and that nothing else decides about: most of what waits.

It is placed here with as few steps as there can be, for as long as heads of lines fit at the first place where they look. All
else, and whoever does not fit there, is left to :mod:`~headrace.core.scheduling.plan`, which would place these alike.
"""

from heapq import heapreplace

from headrace.core.scheduling.order import Order, Waiting
from headrace.core.scheduling.pools import first
from headrace.core.scheduling.present import Present
from headrace.core.scheduling.proposal import ProposedPlacement


class Singles:
    """Places them in a pass. ``kept``: sites where those who wait have to be asked first."""

    def __init__(
        self, present: Present, order: Order, kept: set[int], placements: list[ProposedPlacement], most: int
    ) -> None:
        self.present, self.order, self.kept = present, order, kept
        self.placements, self.most = placements, most

    def place(self) -> Waiting | None:
        """Place heads of lines in the order of their turns; the first that is left to others, None when there is nobody."""
        order, kept, placements, most = self.order, self.kept, self.placements, self.most
        heap, now_ms, young_ms = order.heap, order.now_ms, order.young_ms
        propose, taken = placements.append, self.present.taken.append
        while heap and len(placements) < most:
            _, tenant_share, project_share, _, turn, group = heap[0]
            waiting = group.heap[0][3]
            if waiting.by_quota or group.tenant.share != tenant_share or group.project.share != project_share:
                # Another one's turn may have come.
                found = order.next()
                if found is None:
                    return None
                waiting, turn, group = found, heap[0][4], heap[0][5]
            workload, lane = waiting.head, waiting.lane
            if lane is None or lane.site in kept or workload.not_before_ms > now_ms:
                return waiting
            _, name, ask, count, cpu_milli, memory_mb, sieve, pools, option, more, parts = lane
            at = first(sieve, ask, pools.head)
            if at < 0:
                return waiting
            pool = sieve.pool
            rank = pools.take_at(pool, at, count, cpu_milli, memory_mb)
            taken((pool.nodes[at], rank))
            propose(ProposedPlacement(workload.id, name, (rank,), option))
            tenant, project = group.tenant, group.project
            tenant.take(more, parts)
            if project is not tenant:
                project.take(more, parts)
            then = next(waiting.members, None)
            if then is None or then.submitted_ms <= young_ms:
                order.done(then)
                continue
            # What done() does, but for calling it.
            waiting.head = then
            lines = group.heap
            heapreplace(lines, (waiting.rank, then.submitted_seq, lines[0][2], waiting))
            first_rank, arrival, _, _ = lines[0]
            heapreplace(heap, (first_rank, tenant.share, project.share, arrival, turn, group))
        return None
