"""When nodes will have room for an ask: where a starving workload can run soonest, as long as only nodes decide.

What is found of a node holds until something on it changes, so that a look costs a step for each node that was touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.core.fleet import I64
from headrace.core.scheduling.columns import Ask, Columns, Mask, Scratch
from headrace.core.scheduling.leaving import KNOWN, Holder, Horizon

NEVER = 1 << 62
_BY_AGE = 1 << 60
"""From here on keys are the age of work without an end, below it they are moments."""


@dataclass(slots=True)
class Ready:
    """By node of a site: the key of the last holder that has to leave until an ask has room there (0: it has it now).

    ``leave``: those that do, by node, in order, each with its key and its age. ``until_ms``: when somebody on a node will have
    outlived what was said of it, so that the node has to be looked at again.
    """

    key: I64
    until_ms: I64
    seen: int
    turned: int
    leave: dict[int, list[tuple[int, int, Holder]]] = field(default_factory=dict)


def end_key(holder: Holder, now_ms: int) -> int:
    """When a holder leaves by itself, as one number."""
    end = holder.end_at(now_ms)
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
    logs: tuple[Sequence[int], Sequence[int]],
    there: tuple[dict[int, list[Holder]], int],
) -> tuple[Ready, Horizon | None]:
    """Where an ask has room soonest if nobody but time makes any, and who leaves until then; None if it never has.

    ``state``: what is left once all that is being stopped is gone; ``there``: who else is on each node, and the present
    moment. ``logs``: nodes of the site on which something was taken, and those whose holders are others, in the order in
    which it came about.
    """
    history, turned = logs
    on_node, now_ms = there
    if known is None:
        count = span.stop - span.start
        known = Ready(np.full(count, NEVER), np.full(count, NEVER), len(history), len(turned))
        nodes = np.flatnonzero(suit) + span.start
    else:
        late = (np.flatnonzero(known.until_ms < now_ms) + span.start).tolist()
        changed = sorted({*history[known.seen :], *turned[known.turned :], *late})
        nodes = np.array(changed, dtype=np.int64)
        nodes = nodes[suit[nodes - span.start]]
        known.seen, known.turned = len(history), len(turned)
    room = _has_room(columns, state, ask, nodes)
    known.key[nodes - span.start] = np.where(room, 0, NEVER)
    known.until_ms[nodes - span.start] = NEVER
    for node in nodes[~room].tolist():
        holders = on_node.get(node)
        if holders:
            known.key[node - span.start], known.leave[node] = _ready(
                columns, state, ask, node, holders, now_ms
            )
            known.until_ms[node - span.start] = _told_until_ms(holders, now_ms)
    key = np.where(state.open[span], known.key, NEVER)
    if np.count_nonzero(key < NEVER) < ask.nodes:
        return known, None
    # The soonest; of equals the first.
    chosen = np.sort(np.argsort(key, kind="stable")[: ask.nodes]) + span.start
    leave = {
        holder.placement.id: (at, age, holder)
        for node in chosen.tolist()
        for at, age, holder in (known.leave[node] if known.key[node - span.start] else ())
    }
    order = sorted(leave.values(), key=_moment)
    return known, Horizon(tuple([holder for _, _, holder in order]), chosen.astype(np.int64))


def _moment(leaving: tuple[int, int, Holder]) -> tuple[int, int]:
    return leaving[:2]


def _has_room(columns: Columns, state: Scratch, ask: Ask, nodes: I64) -> Mask:
    if ask.whole:
        empty: Mask = (state.ranks[nodes] == 0) & (state.free[nodes] == columns.total[nodes])
        return empty
    room: Mask = state.free[nodes] >= ask.accelerators
    room &= state.cpu_milli[nodes] >= ask.cpu_milli
    room &= state.memory_mb[nodes] >= ask.memory_mb
    return room


def _told_until_ms(holders: Sequence[Holder], now_ms: int) -> int:
    """The first moment, from now on, at which one of them is said to end."""
    return min((end for one in holders for end in one.bounds_ms if end >= now_ms), default=NEVER)


def _ready(
    columns: Columns, state: Scratch, ask: Ask, node: int, holders: Sequence[Holder], now_ms: int
) -> tuple[int, list[tuple[int, int, Holder]]]:
    """When a node without room for an ask has it, and who leaves until then."""
    free, cpu_milli, memory_mb = int(state.free[node]), int(state.cpu_milli[node]), int(state.memory_mb[node])
    ranks, total = int(state.ranks[node]), int(columns.total[node])
    order = sorted(
        [(end_key(holder, now_ms), holder.placement.made_seq, holder) for holder in holders], key=_moment
    )
    for count, (key, _, holder) in enumerate(order, 1):
        if key == NEVER:
            break
        use = next(use for use in holder.uses if use.node == node)
        free += use.bits.bit_count()
        cpu_milli += use.cpu_milli
        memory_mb += use.memory_mb
        ranks -= 1
        enough = free >= ask.accelerators and cpu_milli >= ask.cpu_milli and memory_mb >= ask.memory_mb
        if (ranks == 0 and free == total) if ask.whole else enough:
            return key, order[:count]
    return NEVER, []
