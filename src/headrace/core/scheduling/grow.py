"""Growing: elastic work starts with its fewest nodes; what is left when everybody had a turn goes to those that started.

Whose turn it is then is decided as before, anew after each step, but that nothing is guaranteed any more.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace

import numpy as np

from headrace.core.scheduling.columns import Columns, Mask
from headrace.core.scheduling.memory import Option
from headrace.core.scheduling.order import Waiting, aged_priority
from headrace.core.scheduling.topology import groups_of
from headrace.core.workload import Workload, WorkloadType

_STEPS = 16
"""It takes at least one of so many parts of what it could grow by at a time: each step is a search."""
Turn = tuple[int, bool, int, int, int, int]


@dataclass(slots=True)
class Elastic:
    """Work that started in this pass, as the ``at``-th of its placements, and could use more ``nodes``."""

    waiting: Waiting
    workload: Workload
    option: Option
    site: int
    at: int
    nodes: list[int]
    steps: int = 0
    step: int = field(init=False)

    def __post_init__(self) -> None:
        self.step = max(1, (self.option.most - len(self.nodes)) // _STEPS)

    def turn(self, now_ms: int) -> Turn:
        """When it is its turn, less first: priority, the shares of its tenant and its project, steps, arrival."""
        work, waiting = self.workload, self.waiting
        filler = work.spec.type is WorkloadType.FILLER
        shares = waiting.tenant.share, waiting.project.share
        return -aged_priority(work, now_ms), filler, *shares, self.steps, work.submitted_seq

    def others(self, columns: Columns, *, near: bool) -> Mask:
        """Other nodes of its site that it could have; ``near``: in racks where it is."""
        span = columns.spans[self.site]
        everybody, mine = np.arange(span.start, span.stop), np.array(self.nodes, dtype=np.int64)
        mask = self.option.known.suit[self.site].copy()
        mask[mine - span.start] = False
        wish = self.option.ask.topology
        if near:
            mask &= np.isin(groups_of(columns, "rack", everybody), groups_of(columns, "rack", mine))
        if wish is not None and wish.required and wish.pack:
            mask &= np.isin(groups_of(columns, wish.pack, everybody), groups_of(columns, wish.pack, mine))
        if wish is not None and wish.required and wish.spread:
            mask &= ~np.isin(
                groups_of(columns, wish.spread, everybody), groups_of(columns, wish.spread, mine)
            )
        return mask


def grow(
    elastic: Sequence[Elastic], now_ms: int, extend: Callable[[Elastic, int], Iterable[int] | None]
) -> None:
    """Let those who started grow, in turn. ``extend``: gives one so many more nodes; which, or None if there are not so many."""
    heap = [(one.turn(now_ms), number) for number, one in enumerate(elastic)]
    heapify(heap)
    while heap:
        turn, number = heap[0]
        one = elastic[number]
        if turn == one.turn(now_ms):
            one.step = min(one.step, one.option.most - len(one.nodes))
            found = extend(one, one.step) if one.step else None
            while found is None and one.step > 1:
                one.step //= 2
                found = extend(one, one.step)
            if found is None:
                heappop(heap)
                continue
            one.nodes.extend(found)
            one.steps += 1
        heapreplace(heap, (one.turn(now_ms), number))
