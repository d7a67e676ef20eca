"""When nodes will have room for an ask: where a starving workload can run soonest, as long as only nodes decide.

What is found of a node holds until something on it changes, so that a look costs a step for each node that was touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.core.fleet import I64
from headrace.core.scheduling.columns import Ask, Columns, Mask, Scratch
from headrace.core.scheduling.leaving import KNOWN, Holder, Horizon

NEVER = 1 << 62
_BY_AGE = 1 << 60
"""From here on keys are the age of work without an end, below it they are moments."""


@dataclass(slots=True)
class Ready:
    """By node of a site: the key of the last holder that has to leave until an ask has room there (0: it has it now)."""

    key: I64
    seen: int


def end_key(holder: Holder) -> int:
    """When a holder leaves by itself, as one number."""
    end = holder.end
    if end is None:
        return NEVER
    return end[1] if end[0] == KNOWN else _BY_AGE + end[1]


def soonest(
    columns: Columns,
    state: Scratch,
    ask: Ask,
    span: slice,
    suit: Mask,
    known: Ready | None,
    history: Sequence[int],
    on_node: dict[int, list[Holder]],
) -> tuple[Ready, Horizon | None]:
    """Where an ask has room soonest if nobody but time makes any, and who leaves until then; None if it never has.

    ``state``: what is left once all that is being stopped is gone; ``on_node``: who else is there.
    """
    if known is None:
        known = Ready(np.full(span.stop - span.start, NEVER), len(history))
        nodes = (np.flatnonzero(suit) + span.start).tolist()
    else:
        nodes = [node for node in sorted(set(history[known.seen :])) if suit[node - span.start]]
        known.seen = len(history)
    for node in nodes:
        known.key[node - span.start] = _ready(columns, state, ask, node, on_node.get(node, ()))
    key = np.where(state.open[span], known.key, NEVER)
    if np.count_nonzero(key < NEVER) < ask.nodes:
        return known, None
    # The soonest; of equals the first.
    chosen = np.sort(np.argsort(key, kind="stable")[: ask.nodes])
    holders: dict[str, Holder] = {}
    for at in chosen.tolist():
        for holder in on_node.get(at + span.start, ()):
            if end_key(holder) <= key[at]:
                holders[holder.placement.id] = holder
    order = sorted(holders.values(), key=lambda holder: (end_key(holder), holder.placement.made_seq))
    return known, Horizon(tuple(order), (chosen + span.start).astype(np.int64))


def _ready(columns: Columns, state: Scratch, ask: Ask, node: int, holders: Sequence[Holder]) -> int:
    free, cpu_milli, memory_mb = int(state.free[node]), int(state.cpu_milli[node]), int(state.memory_mb[node])
    ranks = int(state.ranks[node])
    total = int(columns.total[node])

    def has_room() -> bool:
        if ask.whole:
            return ranks == 0 and free == total
        return free >= ask.accelerators and cpu_milli >= ask.cpu_milli and memory_mb >= ask.memory_mb

    if has_room():
        return 0
    for holder in sorted(holders, key=end_key):
        key = end_key(holder)
        if key == NEVER:
            break
        use = next(use for use in holder.uses if use.node == node)
        free += use.bits.bit_count()
        cpu_milli += use.cpu_milli
        memory_mb += use.memory_mb
        ranks -= 1
        if has_room():
            return key
    return NEVER
