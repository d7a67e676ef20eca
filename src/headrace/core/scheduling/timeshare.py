"""Who of those that share accelerators in time should hold them now, on which nodes, and who must leave. Pure.

The contenders are jobs that may be evicted and come back from a checkpoint, of one priority, in a group of alike nodes. They are
chosen by the count of accelerators alone, the least index first; one that doesn't fit is passed over, so that nobody blocks
the line. Then they are packed: those that run stay, the others go where they fit best, and only if one of them finds no room
is everything laid out anew. Choosing first costs no more in completion times than a fresh layout at every event, and
moves much less.

An index that is an estimate counts by its power of two only, and of equals those that run go first: an estimate is not
worth an eviction for a few percent. One that rests on a stated duration counts exactly.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.core.ids import WorkloadId
from headrace.core.units import MS_PER_SECOND

Layout = dict[WorkloadId, tuple[int, ...]]
"""Who holds accelerators on which nodes."""

MARGIN = 2
"""An exchange must be worth this many times what it displaces."""
EXCHANGES_AT_MOST = 16
_VALUE_BITS = 64


class NodeRoom(NamedTuple):
    """Accelerators of a node that are free now; and those of others that are ``leaving``, who are no contenders any more.

    What contenders hold is in neither.
    """

    free: int
    leaving: int = 0


@dataclass(frozen=True, slots=True)
class Contender:
    """A workload that waits or runs: so many ``accelerators``, at least one, on each of ``nodes`` different nodes, all or none.

    - ``index``: the least goes first: see :class:`~headrace.core.scheduling.service.Expectation`, also for ``exact`` and
      ``outlook``. Of equals the one that has attained most goes first, then that of lower ``seq``.
    - ``on``: the nodes that it holds, as places in the list of nodes; empty: it waits.
    - ``protected``: it runs, and must not be evicted now.
    - ``delay_ms``: how long it takes from now until it attains more, if it runs.
    - ``ripens_ms``: when its index becomes less by itself while it waits (None: never).
    """

    id: WorkloadId
    accelerators: int
    nodes: int
    index: int
    seq: int
    attained_ms: int = 0
    exact: bool = False
    on: tuple[int, ...] = ()
    protected: bool = False
    outlook: tuple[tuple[int, int], ...] = ()
    delay_ms: int = 0
    ripens_ms: int | None = None
    size: int = field(init=False)
    """Accelerators in all."""
    lead: int = field(init=False)
    """What decides before anything else: the index, or for an estimate where its class begins."""

    def __post_init__(self) -> None:
        # Set although it is frozen: both are asked for hundreds of times in each decision.
        object.__setattr__(self, "size", self.accelerators * self.nodes)
        object.__setattr__(self, "lead", self.index if self.exact else class_of(self.index))


@dataclass(frozen=True, slots=True)
class Decision:
    """What should be.

    ``keep``: who stays where they are. ``start``: who has free nodes now; ``later``: who gets nodes that somebody must leave
    first. ``evict``: who must leave the nodes that they hold; one that is in ``start`` or ``later`` too moves.
    ``again_ms``: when time alone may change this (None: never).
    """

    keep: tuple[WorkloadId, ...]
    start: Layout
    later: Layout
    evict: tuple[WorkloadId, ...]
    again_ms: int | None


Order = tuple[int, bool, int, int, WorkloadId]
"""The place of a contender among others, least first: lead, who runs, attained time (negative), seq, id."""


def class_of(index: int) -> int:
    """The class of an index, as the least index of it: powers of two of accelerator-seconds."""
    seconds = index // MS_PER_SECOND
    return MS_PER_SECOND << (seconds.bit_length() - 1) if seconds else 0


def order_of(contender: Contender, runs: bool) -> Order:
    """Its place if it runs, or if it doesn't: of estimates of one class those that run go first."""
    waits = not runs and not contender.exact
    return contender.lead, waits, -contender.attained_ms, contender.seq, contender.id


def decide(
    contenders: Sequence[Contender], nodes: Sequence[NodeRoom], now_ms: int, *, exchanges: bool = True
) -> Decision:
    """Who should hold accelerators. Of each shape only the foremost that wait are needed: see :meth:`Standing.foremost`.

    ``exchanges``: a larger one may go before smaller ones that have less left to do, if it is worth that; not where they
    could start elsewhere at once.
    A decision that has been carried out is confirmed by the next one at the same instant.
    """
    room = [node.free + node.leaving for node in nodes]
    able: list[Contender] = []
    keep: list[WorkloadId] = []
    for one in contenders:
        if one.protected and one.on:
            keep.append(one.id)
            continue
        able.append(one)
        for node in one.on:
            room[node] += one.accelerators
    held = {one.id: one.on for one in able if one.on}
    able = _placeable(able, room)
    layout = _settle(able, room, held, exchanges)
    keep += [ident for ident, on in held.items() if layout.get(ident) == on]
    evict = [ident for ident, on in held.items() if layout.get(ident) != on]
    starting = [one for one in able if one.id in layout and layout[one.id] != one.on]
    start, later = _phases(starting, layout, [node.free for node in nodes])
    return Decision(tuple(keep), start, later, tuple(evict), _again_ms(able, layout, now_ms))


def _placeable(contenders: list[Contender], room: Sequence[int]) -> list[Contender]:
    """Those that would fit if nobody else of these were there."""
    most: dict[int, int] = {}
    found = []
    for one in contenders:
        count = most.get(one.accelerators)
        if count is None:
            count = most[one.accelerators] = sum(each >= one.accelerators for each in room)
        if one.on or one.nodes <= count:
            found.append(one)
    return found


def _settle(able: list[Contender], room: Sequence[int], held: Layout, exchanges: bool) -> Layout:
    """The layout that deciding again would not change.

    If the chosen can't be packed, they are placed one by one by rank, and that is taken if it gives the better classes more than
    leaving all where they are. Each turn of the loop gives better classes more, or finds somebody else who moves, so it ends.
    """
    capacity, now, moving = sum(room), held, set[WorkloadId]()
    while True:
        ordered = sorted(able, key=lambda one: order_of(one, one.id in held and one.id not in moving))
        chosen = _choose(ordered, capacity, exchanges)
        layout = _packed(chosen, room, held)
        if layout is not None:
            away = {ident for ident, on in now.items() if layout.get(ident, on) != on}
            if away <= moving:
                return layout
            # Who moves leaves first, and waits like others until it is back.
            moving |= away
            continue
        same = _one_by_one([*(one for one in ordered if one.id in held), *ordered], room, held)
        other = _one_by_one(ordered, room, held)
        better = other if _worth(ordered, other) > _worth(ordered, same) else same
        if better == held:
            return held
        held = better


def _worth(ordered: Iterable[Contender], layout: Layout) -> list[int]:
    """How many accelerators each class has, best class first: the first difference decides, and more is better."""
    total: dict[int, int] = {}
    for one in ordered:
        total[one.lead] = total.get(one.lead, 0) + (one.size if one.id in layout else 0)
    return list(total.values())


def _phases(starting: Sequence[Contender], layout: Layout, free: list[int]) -> tuple[Layout, Layout]:
    """Of those that start or move, best first: whose nodes are free now, and whose are not."""
    start: Layout = {}
    later: Layout = {}
    for one in sorted(starting, key=lambda one: order_of(one, runs=False)):
        nodes = layout[one.id]
        # One that moves must leave its own nodes before anything else.
        if not one.on and all(free[node] >= one.accelerators for node in nodes):
            start[one.id] = nodes
            for node in nodes:
                free[node] -= one.accelerators
        else:
            later[one.id] = nodes
    return start, later


def _again_ms(able: Sequence[Contender], layout: Layout, now_ms: int) -> int | None:
    """When the first of those that run falls behind one that waits, or one that waits comes before one that runs."""
    waiting = [one for one in able if one.id not in layout]
    running = [one for one in able if one.id in layout]
    if not waiting or not running:
        return None
    first, last = min(one.lead for one in waiting), max(one.lead for one in running)
    times = []
    for one in running:
        for attained_ms, index in one.outlook:
            if attained_ms > one.attained_ms and class_of(index) > first:
                times.append(now_ms + one.delay_ms + attained_ms - one.attained_ms)
                break
    times += [one.ripens_ms for one in waiting if one.ripens_ms is not None and one.lead // 2 < last]
    return min((each for each in times if each > now_ms), default=None)


# -- who -----------------------------------------------------------------------------------------------------------


def _choose(ordered: Sequence[Contender], capacity: int, exchanges: bool) -> list[Contender]:
    """By count, best first; where all durations are stated, exchanged for more value.

    While less is passed over than there are accelerators, who was passed over will have its turn soon, and nothing is exchanged.
    """
    chosen, skipped, free = _greedy(ordered, capacity)
    if not exchanges or sum(one.size for one in skipped) < capacity or not all(one.exact for one in ordered):
        return chosen
    return _exchange(ordered, chosen, skipped, free)


def _greedy(ordered: Sequence[Contender], free: int) -> tuple[list[Contender], list[Contender], int]:
    chosen, skipped = [], []
    for one in ordered:
        size = one.size
        if size <= free:
            free -= size
            chosen.append(one)
        else:
            skipped.append(one)
    return chosen, skipped, free


def _exchange(
    ordered: Sequence[Contender], chosen: list[Contender], skipped: list[Contender], free: int
) -> list[Contender]:
    """One that was passed over displaces the last of the chosen smaller ones if it is worth so much more than they together.

    What it leaves over goes to whoever fits, best first.
    """
    place: dict[WorkloadId, int] = {}
    chosen = list(chosen)
    for one in skipped[:EXCHANGES_AT_MOST]:
        out = _displaced(one, chosen, free)
        if out is None:
            continue
        place = place or {each.id: number for number, each in enumerate(ordered)}
        free += sum(chosen[number].size for number in out) - one.size
        for number in out:
            del chosen[number]
        insort(chosen, one, key=lambda each: place[each.id])
    taken = {one.id for one in chosen}
    for one in ordered:
        if one.size <= free and one.id not in taken:
            chosen.append(one)
            free -= one.size
    return chosen


def _displaced(one: Contender, chosen: Sequence[Contender], room: int) -> list[int] | None:
    """Which of the chosen, from the last, would make room for ``one``; None if it isn't worth that, or can't be had."""
    limit, lost, out = _value(one), 0, []
    for number in range(len(chosen) - 1, -1, -1):
        if room >= one.size:
            break
        other = chosen[number]
        if other.size < one.size:
            room += other.size
            lost += _value(other)
            if MARGIN * lost >= limit:
                return None
            out.append(number)
    return out if room >= one.size else None


def _value(one: Contender) -> int:
    """What it gives to run it: accelerators per accelerator-millisecond that remains."""
    return (one.size << _VALUE_BITS) // max(1, one.index)


# -- where ---------------------------------------------------------------------------------------------------------


def _packed(chosen: Sequence[Contender], room: Sequence[int], held: Layout) -> Layout | None:
    """All of the chosen on nodes; None if neither leaving those that run where they are nor a new layout has room for all."""
    stay = [one for one in chosen if one.id in held]
    new = sorted((one for one in chosen if one.id not in held), key=_largest)
    rooms = Rooms(room, stay, held)
    if all(rooms.place(one) for one in (*stay, *new)):
        return rooms.layout
    rooms = Rooms(room, stay, held)
    anew = sorted(chosen, key=lambda one: (*_largest(one), one.id not in held))
    return rooms.layout if all(rooms.place(one) for one in anew) else None


def _largest(one: Contender) -> tuple[int, int]:
    return -one.accelerators, -one.nodes


def _one_by_one(order: Iterable[Contender], room: Sequence[int], held: Layout) -> Layout:
    """Each in turn, once, onto its own nodes or where it fits; who doesn't fit is passed over."""
    order = list({one.id: one for one in order}.values())
    rooms = Rooms(room, [one for one in order if one.id in held], held)
    for one in order:
        rooms.place(one)
    return rooms.layout


class Rooms:
    """What nodes have left while contenders are placed, and what of that is held by those whose turn comes later."""

    def __init__(self, room: Sequence[int], running: Iterable[Contender], held: Layout) -> None:
        self.layout: Layout = {}
        self._held = held
        self._left = list(room)
        self._theirs = [0] * len(self._left)
        self._levels: list[list[int]] = []
        for one in running:
            for node in held[one.id]:
                self._theirs[node] += one.accelerators

    def place(self, one: Contender) -> bool:
        """Onto its own nodes if they have the room, else where it fits; whether it found any."""
        each, own = one.accelerators, self._held.get(one.id, ())
        for node in own:
            self._theirs[node] -= each
        if own and all(self._left[node] >= each for node in own):
            nodes = own
        else:
            for node in own:
                self._note(node)
            nodes = self._unheld(each, one.nodes) or self._least_held(each, one.nodes)
            if not nodes:
                return False
        for node in nodes:
            self._left[node] -= each
            if nodes is not own:
                self._note(node)
        self.layout[one.id] = nodes
        return True

    def _note(self, node: int) -> None:
        """What a node has left now beyond what is held there; what was noted of it before is passed over."""
        spare = self._left[node] - self._theirs[node]
        if self._levels and spare > 0:
            heapq.heappush(self._levels[spare], node)

    def _unheld(self, each: int, count: int) -> tuple[int, ...]:
        """The fullest nodes with so much that nobody holds, of equals the first; none if there are too few."""
        if not self._levels:
            self._levels = [[] for _ in range(max(self._left) + 1)]
            for node in range(len(self._left)):
                self._note(node)
        found: dict[int, int] = {}
        for spare in range(each, len(self._levels)):
            level = self._levels[spare]
            while level and len(found) < count:
                node = heapq.heappop(level)
                if self._left[node] - self._theirs[node] == spare:
                    found[node] = spare
        if len(found) == count:
            return tuple(sorted(found))
        for node, spare in found.items():
            heapq.heappush(self._levels[spare], node)
        return ()

    def _least_held(self, each: int, count: int) -> tuple[int, ...]:
        """The nodes where so much takes least from those who come later; of equals the fullest, then the first."""
        may = [
            (max(0, theirs + each - left), left, node)
            for node, (left, theirs) in enumerate(zip(self._left, self._theirs, strict=True))
            if left >= each
        ]
        return tuple(sorted(node for *_, node in heapq.nsmallest(count, may))) if len(may) >= count else ()


# -- those who wait ------------------------------------------------------------------------------------------------


class Standing:
    """Contenders that wait, by shape and in order, so that a decision sees only those that have a chance."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, int], list[tuple[Order, Contender]]] = {}
        self._of: dict[WorkloadId, tuple[Order, Contender]] = {}
        self._ripening: list[tuple[int, WorkloadId]] = []

    def __contains__(self, ident: object) -> bool:
        return ident in self._of

    def __len__(self) -> int:
        return len(self._of)

    def put(self, contender: Contender) -> None:
        """It waits, as it is now: one of the same id goes."""
        self.drop(contender.id)
        order = order_of(contender, runs=False)
        insort(
            self._shapes.setdefault((contender.accelerators, contender.nodes), []),
            (order, contender),
        )
        self._of[contender.id] = order, contender
        if contender.ripens_ms is not None:
            heapq.heappush(self._ripening, (contender.ripens_ms, contender.id))

    def drop(self, ident: WorkloadId) -> None:
        """It waits no longer; nothing happens if it did not."""
        found = self._of.pop(ident, None)
        if found is not None:
            order, contender = found
            shape = self._shapes[contender.accelerators, contender.nodes]
            del shape[bisect_left(shape, order, key=lambda each: each[0])]

    def ripe(self, now_ms: int) -> list[WorkloadId]:
        """Whose index has become less by now; each is named once, and should be put again."""
        found: dict[WorkloadId, None] = {}
        while self._ripening and self._ripening[0][0] <= now_ms:
            ident = heapq.heappop(self._ripening)[1]
            if ident in self._of:
                found[ident] = None
        return list(found)

    def foremost(self, accelerators: int) -> list[Contender]:
        """Of each shape as many as ``accelerators`` could hold: of the others none would be chosen."""
        return [
            contender
            for (each, nodes), shape in self._shapes.items()
            for _, contender in shape[: accelerators // (each * nodes)]
        ]
