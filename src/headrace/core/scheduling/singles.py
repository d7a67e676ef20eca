"""Work that asks for whole accelerators of one node, and that nothing else decides about: most of what waits.

It is placed here with as few steps as there can be, for as long as heads of lines fit at the first place where they look. All
else, and whoever does not fit there, is left to :mod:`~headrace.core.scheduling.plan`, which would place these alike.
"""

from collections.abc import Callable
from heapq import heapreplace
from typing import Final

from headrace.core.scheduling.order import ARRIVAL_BIT, PLACE, RANK_BIT, Order, Waiting
from headrace.core.scheduling.pool import ROOM, lowest
from headrace.core.scheduling.pools import carries, new
from headrace.core.scheduling.present import Present
from headrace.core.scheduling.proposal import ProposedPlacement
from headrace.core.workload import WHOLE_MILLI, RankPlace

blank: Final = object.__new__


class Singles:
    """Places them in a pass. ``kept``: sites where those who wait have to be asked first."""

    def __init__(
        self, present: Present, order: Order, kept: set[int], placements: list[ProposedPlacement], most: int
    ) -> None:
        self.present, self.order, self.kept = present, order, kept
        self.placements, self.most = placements, most

    def place(self, finds_lane: Callable[[Waiting], bool]) -> Waiting | None:
        """Place heads of lines in the order of their turns; the first that is left to others, None when there is nobody.

        ``finds_lane`` gives a line another lane, if there is one for it.
        """
        before = len(self.placements)
        left = self._place(finds_lane)
        self.present.took(self.placements, before)
        return left

    def _place(self, finds_lane: Callable[[Waiting], bool]) -> Waiting | None:  # noqa: C901, PLR0912, PLR0915
        # In one piece: as calls, the same would cost a tenth more.
        order, kept, placements, most = self.order, self.kept, self.placements, self.most
        heap, now_ms = order.heap, order.now_ms
        propose = placements.append
        while heap and len(placements) < most:
            _, tenant_share, project_share, first_key, group = heap[0]
            waiting = group.lines[first_key & PLACE]
            tenant, project = group.tenant, group.project
            if waiting.by_quota or tenant.share != tenant_share or project.share != project_share:
                # Another one's turn may have come.
                found = order.next()
                if found is None:
                    return None
                waiting, group = found, heap[0][4]
                tenant, project = group.tenant, group.project
            workload, lane = waiting.head, waiting.lane
            if lane is None or (kept and lane.site in kept) or workload.not_before_ms > now_ms:
                if finds_lane(waiting):
                    continue
                return waiting
            _, name, ask, count, cpu_milli, memory_mb, need, sieves, pools, option, more, parts, quick = lane
            sieve, head, pool, full, level, bits, rest, touch, is_alone = quick
            at, free, left, remains = -1, count, 0, 0
            if is_alone and not sieve.has_failed:
                # The first node with the fewest free accelerators, if it has room.
                while free < full and not level[free]:
                    free += 1
                left = level[free]
                if left:
                    at = left.bit_length() - 1
                    remains = rest[at] - need
                    if remains & ROOM != ROOM or (head and not carries(sieve, ask, at, head)):
                        at = -1
            if at < 0:
                place = pools.first_of(ask, sieves)
                if place is None:
                    if finds_lane(waiting):
                        continue
                    return waiting
                pool, at = place
                mask = pools.take_at(pool, at, count, need)
            elif head or free == full:
                mask = pools.take_at(pool, at, count, need)
            else:
                # What that does where no power is watched, and on a node that is not whole.
                touch(at)
                bit, mask = 1 << at, bits[at]
                if free > count:
                    mask = mask & -mask if count == 1 else lowest(mask, count)
                bits[at] ^= mask
                rest[at] = remains
                level[free] = left ^ bit
                level[free - count] |= bit
            rank = new(RankPlace, (pool.names[at], mask, cpu_milli, memory_mb, WHOLE_MILLI))
            # As its constructor makes it, in half the time.
            one = blank(ProposedPlacement)
            one.workload, one.site, one.ranks, one.option = workload.id, name, (rank,), option
            propose(one)
            tenant.take(more, parts)
            if project is not tenant:
                project.take(more, parts)
            then = next(waiting.members, None)
            if then is None or waiting.ages:
                order.done(then)
                continue
            # What done() does, but for calling it.
            waiting.head = then
            keys = group.heap
            heapreplace(keys, waiting.key | then.submitted_seq << ARRIVAL_BIT)
            first_key = keys[0]
            heapreplace(heap, (first_key >> RANK_BIT, tenant.share, project.share, first_key, group))
        return None
