"""What will leave and when: whom to evict for a waiting workload, and the nodes where it will run soonest.

Holders of capacity are put in the order in which they may be expected to leave. A workload's horizon is the
shortest beginning of that order after which it fits; what it doesn't need of that is put back. Since nothing
of lower rank starts on what the horizon holds, the horizon of a waiting workload only ever comes nearer.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from headrace.core.fleet import I64
from headrace.core.ids import ContractId, PlacementId
from headrace.core.scheduling.columns import Ask, Columns, Scratch, Use, shift, use_of
from headrace.core.scheduling.proposal import Eviction
from headrace.core.scheduling.rank import has_room, suits
from headrace.core.scheduling.sharing import outlives_by_pause, ranks_below
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.windows import MOST_LEAD_MS, may_be_evicted, must_clear
from headrace.core.units import MS_PER_MINUTE
from headrace.core.workload import HOLDING, WHOLE_MILLI, Flex, Placement, Workload, WorkloadType

_PRUNE_AT_MOST = 512
_MOST_DOUBLINGS = 10
KNOWN = 1
"""Of an end: a moment that is known, or expected."""
PROTECTED_MS = MS_PER_MINUTE
"""How long preemptible work runs before it may be evicted for the first time."""
_COMBINATIONS_AT_MOST = 256


@dataclass(frozen=True, slots=True)
class Holder:
    """A live placement with what it holds, rank by rank.

    ``contract`` is the reserved one that it counts against, if any.
    """

    placement: Placement
    workload: Workload
    site: int
    uses: tuple[Use, ...]
    contract: ContractId | None

    @property
    def kind(self) -> WorkloadType:
        """The type of its workload."""
        return self.workload.spec.type

    @property
    def priority(self) -> int:
        """The priority of its workload."""
        return self.workload.spec.priority

    @property
    def accelerators_milli(self) -> int:
        """Thousandths of accelerators that it holds."""
        return sum(rank.accelerators_milli for rank in self.placement.ranks)

    @property
    def wish(self) -> tuple[int, int, int]:
        """The order of eviction: least priority, fillers before others, youngest first."""
        return self.priority, self.kind is not WorkloadType.FILLER, -self.placement.made_seq

    def may_be_evicted_for(self, waiting: Workload, now_ms: int) -> bool:
        """A filler for all that ranks no lower; preemptible work for a higher priority, once it has run for a while.

        Either for what runs in a reservation; and anything that a pause keeps beyond its limit.
        """
        if waiting.spec.reservation is not None:
            return may_be_evicted(self.workload.spec) and self.workload.spec.reservation is None
        if self.kind is WorkloadType.FILLER:
            return self.priority <= waiting.spec.priority
        if outlives_by_pause(self.workload, self.placement, now_ms) and not ranks_below(
            waiting, self.workload
        ):
            return True
        if self.workload.spec.flex is not Flex.PREEMPTIBLE or self.priority >= waiting.spec.priority:
            return False
        return now_ms >= self.protected_until_ms

    @property
    def protected_until_ms(self) -> int:
        """Until when preemptible work may go on: twice as long after every time that it had to start again."""
        doublings = min(self.workload.attempt - 1, _MOST_DOUBLINGS)
        return self.placement.made_ms + (PROTECTED_MS << max(0, doublings))

    def damage(self, now_ms: int) -> int:
        """What evicting it costs, in thousandths of accelerators x milliseconds: what it has not saved, and to come back.

        No more than all that it has run, which is what beginning anew costs: to claim a long way back buys nothing beyond
        that. A filler is made to be interrupted: it loses nothing.
        """
        spec = self.workload.spec
        if self.kind is WorkloadType.FILLER:
            return 0
        ran_ms = max(0, now_ms - self.placement.started_ms) if self.placement.started_ms else 0
        lost_ms = ran_ms % spec.checkpoint_ms if spec.checkpoint_ms else ran_ms
        return self.accelerators_milli * min(ran_ms, lost_ms + spec.restart_ms)

    @property
    def may_leave(self) -> bool:
        """Whether it may be evicted for somebody, or ends by itself."""
        return may_be_evicted(self.workload.spec) or self.end_at(0) is not None

    @property
    def began_ms(self) -> int:
        """Since when it holds what it has."""
        return self.placement.started_ms or self.placement.made_ms

    @property
    def bounds_ms(self) -> Sequence[int]:
        """The moments at which it is said to end, ascending: as expected, by its limit."""
        spec = self.workload.spec
        expected_ms, most_ms = spec.expected_ms, spec.max_duration_ms
        if not (expected_ms or most_ms):
            return ()
        began_ms = self.began_ms
        if expected_ms and most_ms and expected_ms < most_ms:
            return began_ms + expected_ms, began_ms + most_ms
        return (began_ms + (min(expected_ms, most_ms) or expected_ms or most_ms),)

    def end_at(self, now_ms: int) -> tuple[int, int] | None:
        """When it ends by itself: (KNOWN, ms), (2, order of age) for a job without a limit, None for never.

        What it is expected to run counts until it has run for longer, then its limit: who outlived all that was said of it
        is as one of whom nothing was.
        """
        for end_ms in self.bounds_ms:
            if end_ms >= now_ms:
                return KNOWN, end_ms
        if self.kind in (WorkloadType.SERVICE, WorkloadType.CLUSTER):
            return None
        return 2, self.placement.made_seq


def holder_of(snapshot: Snapshot, placement: Placement) -> Holder | None:
    """The holder that a placement is; None when it is no longer its workload's."""
    workload = snapshot.workloads.get(placement.workload)
    site = snapshot.fleet.site_index.get(placement.site)
    if workload is None or site is None:
        return None
    if workload.placement != placement.id or workload.state not in HOLDING:
        return None
    contract = snapshot.contracts.get(placement.contract)
    reserved = contract.id if contract is not None and contract.kind == "reserved" else None
    uses = use_of(snapshot.fleet, placement.ranks, snapshot.tenant_number(placement.tenant))
    return Holder(placement, workload, site, uses, reserved)


def release(columns: Columns, state: Scratch, holders: Sequence[Holder], sign: int = 1) -> None:
    """Give back what ``holders`` hold (or take it again with ``sign`` -1)."""
    if not holders:
        return
    shift(columns, state, [use for holder in holders for use in holder.uses], sign)
    for holder in holders:
        if holder.contract is not None:
            before = state.held_milli.get(holder.contract, 0)
            state.held_milli[holder.contract] = before - sign * holder.accelerators_milli


Fit = Callable[[Scratch], I64 | None]
"""The nodes where the waiting workload would run in a state, or None."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """The holders that must leave, in order, the damage that this does, and the nodes where the waiting one will then run."""

    holders: tuple[Holder, ...]
    nodes: I64
    damage: int = 0

    @property
    def cost(self) -> tuple[int, int, int, int]:
        """The damage, how many leave, their priorities, and their age (younger is less)."""
        priorities = sum(holder.priority for holder in self.holders)
        age = -sum(holder.placement.made_seq for holder in self.holders)
        return self.damage, len(self.holders), priorities, age


class Departures:
    """Lets holders leave a state and come back; the state is as it was found once :meth:`reset` was called."""

    def __init__(self, columns: Columns, state: Scratch, fit: Fit) -> None:
        self.columns, self.state, self.fit = columns, state, fit
        self.gone: dict[PlacementId, Holder] = {}

    def leave(self, holders: Sequence[Holder]) -> None:
        """Exactly ``holders`` are gone."""
        wanted = {holder.placement.id: holder for holder in holders}
        back = [holder for ident, holder in self.gone.items() if ident not in wanted]
        away = [holder for ident, holder in wanted.items() if ident not in self.gone]
        release(self.columns, self.state, back, -1)
        release(self.columns, self.state, away)
        self.gone = wanted

    def fits_without(self, holders: Sequence[Holder]) -> I64 | None:
        """Where the waiting workload would run with exactly ``holders`` gone."""
        self.leave(holders)
        return self.fit(self.state)

    def reset(self) -> None:
        """Everybody is back."""
        self.leave(())

    def shortest(self, order: Sequence[Holder]) -> Horizon | None:
        """The shortest beginning of ``order`` after which it fits, without those of them that it doesn't need."""
        low, high = 0, 0
        # Few are enough, mostly: twice as many each time, and then between the last two.
        while self.fits_without(order[:high]) is None:
            if high == len(order):
                return None
            low, high = high + 1, min(len(order), max(1, 2 * high))
        while low < high:
            middle = (low + high) // 2
            if self.fits_without(order[:middle]) is None:
                low = middle + 1
            else:
                high = middle
        nodes = self.fits_without(order[:low])
        return None if nodes is None else self._near(list(order[:low]), nodes)

    def _near(self, holders: list[Holder], nodes: I64) -> Horizon:
        """Only those on the chosen nodes, when that is enough."""
        chosen = set(nodes.tolist())
        here = [holder for holder in holders if any(use.node in chosen for use in holder.uses)]
        found = self.fits_without(here) if len(here) < len(holders) else None
        return Horizon(tuple(holders), nodes) if found is None else Horizon(tuple(here), found)

    def pruned(self, horizon: Horizon, keep_first: Callable[[Holder], object]) -> Horizon:
        """The horizon without anybody who need not leave; who may stay is tried by ``keep_first``, greatest first."""
        holders, nodes = list(horizon.holders), horizon.nodes
        if len(holders) > _PRUNE_AT_MOST:
            return horizon
        for holder in sorted(holders, key=keep_first, reverse=True):  # type: ignore[arg-type]
            others = [other for other in holders if other is not holder]
            found = self.fits_without(others)
            if found is not None:
                holders, nodes = others, found
        return Horizon(tuple(holders), nodes)


@dataclass(frozen=True, slots=True)
class Victims:
    """Who may be told to go, in three orders: the least damage first, the largest, the least damage for what is had by it."""

    by_damage: list[Holder]
    by_size: list[Holder]
    by_rate: list[Holder]
    damage: dict[PlacementId, int]

    @classmethod
    def of(cls, holders: Iterable[Holder], now_ms: int) -> "Victims":
        """In order."""
        damage: dict[PlacementId, int] = {}
        keyed = []
        for holder in holders:
            lost, size = holder.damage(now_ms), holder.accelerators_milli
            damage[holder.placement.id] = lost
            keyed.append(((lost, *holder.wish), size, holder))
        keyed.sort(key=lambda one: one[0])
        by_size = sorted(keyed, key=lambda one: (-one[1], one[0]))
        by_rate = sorted(keyed, key=lambda one: (one[0][0] // max(1, one[1]), one[0]))
        return cls(
            [one[2] for one in keyed], [one[2] for one in by_size], [one[2] for one in by_rate], damage
        )

    def only(self, which: Callable[[Holder], bool]) -> "Victims":
        """Some of them."""
        left = {holder.placement.id for holder in self.by_damage if which(holder)}

        def some(order: list[Holder]) -> list[Holder]:
            return [holder for holder in order if holder.placement.id in left]

        return Victims(some(self.by_damage), some(self.by_size), some(self.by_rate), self.damage)


def least_damage(departures: Departures, ask: Ask, site: int, victims: Victims) -> Horizon | None:
    """Whom of ``victims`` to evict so that it fits: the least damage, then the fewest, of least priority, the youngest.

    Exact for small numbers of them that are alike in damage; otherwise the best of four greedy choices, from
    which nobody can be left out.
    """
    damage = victims.damage

    def wish(holder: Holder) -> tuple[int, ...]:
        return damage[holder.placement.id], *holder.wish

    def priced(horizon: Horizon) -> Horizon:
        return replace(horizon, damage=sum(damage[holder.placement.id] for holder in horizon.holders))

    first = departures.shortest(victims.by_damage)
    if first is None or not first.holders:
        return first
    found = [priced(departures.pruned(first, wish))]
    for other in (victims.by_size, victims.by_rate):
        horizon = departures.shortest(other)
        if horizon is not None:
            found.append(priced(departures.pruned(horizon, wish)))
    by_node = list(_by_node(departures, ask, site, victims.by_damage))
    nodes = departures.fits_without(by_node)
    if nodes is not None:
        found.append(priced(departures.pruned(Horizon(tuple(by_node), nodes), wish)))
    best = min(found, key=lambda horizon: horizon.cost)
    fewer = _fewer(departures, victims.by_damage, len(best.holders))
    return best if fewer is None else min(best, priced(fewer), key=lambda horizon: horizon.cost)


def _fewer(departures: Departures, order: Sequence[Holder], count: int) -> Horizon | None:
    trials = 0
    for size in range(1, count):
        for some in combinations(order, size):
            trials += 1
            if trials > _COMBINATIONS_AT_MOST:
                return None
            nodes = departures.fits_without(some)
            if nodes is not None:
                return Horizon(some, nodes)
    return None


def _by_node(departures: Departures, ask: Ask, site: int, order: Sequence[Holder]) -> Iterator[Holder]:
    """The victims on those nodes that need the fewest of them gone, as if power were no object."""
    columns, state = departures.columns, departures.state
    departures.reset()
    start = columns.spans[site].start
    usable = suits(columns, ask, site) & state.open[columns.spans[site]]
    roomy = (np.flatnonzero(usable & has_room(columns, state, ask, site)) + start).tolist()
    wanted = ask.nodes - len(roomy)
    if wanted <= 0:
        return
    on_node: dict[int, list[int]] = {}
    for position, holder in enumerate(order):
        for use in holder.uses:
            if usable[use.node - start]:
                on_node.setdefault(use.node, []).append(position)
    for node in roomy:
        on_node.pop(node, None)
    bounded = sorted(
        (_least_count(columns, state, ask, node, order, positions), positions[0], node)
        for node, positions in on_node.items()
    )
    chosen: list[tuple[int, tuple[int, ...], int]] = []
    for count, first, node in bounded:
        # No node from here on is better than the worst of those that were found.
        if len(chosen) == wanted and (count, (first,)) > chosen[-1][:2]:
            break
        some = _least_on(columns, state, ask, node, order, on_node[node])
        if some is not None:
            insort(chosen, (len(some), some, node))
            del chosen[wanted:]
    picked = {position for _, some, _ in chosen for position in some}
    yield from (order[position] for position in sorted(picked))


def _least_count(
    columns: Columns, state: Scratch, ask: Ask, node: int, order: Sequence[Holder], positions: Sequence[int]
) -> int:
    """No fewer than so many holders on a node have to leave for a rank to have enough accelerators there."""
    if ask.whole:
        return len(positions)
    missing = ask.accelerators - int(state.free[node])
    if missing <= 0 or ask.share_milli != WHOLE_MILLI:
        return 1
    gives = sorted(
        (next(use for use in order[at].uses if use.node == node).bits.bit_count() for at in positions),
        reverse=True,
    )
    count = 0
    for count, most in enumerate(gives, 1):  # noqa: B007 - it is what is asked for
        missing -= most
        if missing <= 0:
            break
    return count


def _least_on(
    columns: Columns, state: Scratch, ask: Ask, node: int, order: Sequence[Holder], positions: Sequence[int]
) -> tuple[int, ...] | None:
    """The fewest holders on a node whose leaving gives a rank its room there, the first in order among equals."""
    gives = {}
    for position in positions:
        use = next(use for use in order[position].uses if use.node == node)
        gives[position] = (use.bits.bit_count(), use.cpu_milli, use.memory_mb)
    hardware = columns.fleet.hardware[columns.fleet.node_hardware[node]]
    want = ask.on(hardware)
    left = int(state.free[node]), int(state.cpu_milli[node]), int(state.memory_mb[node])
    if ask.whole:
        return tuple(positions) if state.ranks[node] == len(positions) else None
    for size in range(1, len(positions) + 1):
        # A node with many small holders: beyond this the greedy choices have to do.
        for trial, some in enumerate(combinations(positions, size)):
            if trial > _COMBINATIONS_AT_MOST:
                return None
            room = (left[part] + sum(gives[position][part] for position in some) for part in range(3))
            if all(have >= need for have, need in zip(room, want, strict=True)):
                return some
    return None


def horizon_of(
    departures: Departures, holders: Sequence[Holder], may_evict: Callable[[Holder], bool], now_ms: int
) -> Horizon | None:
    """Where, and after whose leaving, a starving workload runs soonest; None if it could not after all who ever leave.

    Order: what it may evict, then what ends at a known time, then jobs without a limit, oldest first. What
    never ends by itself stays, since waiting for it would keep nodes empty for nothing.
    """
    keyed: list[tuple[tuple[int, ...], Holder]] = []
    for holder in holders:
        if may_evict(holder):
            keyed.append(((0, *holder.wish), holder))
        elif (end := holder.end_at(now_ms)) is not None:
            keyed.append((end, holder))
    keyed.sort(key=lambda pair: (pair[0], pair[1].placement.made_seq, pair[1].placement.id))
    found = departures.shortest([holder for _, holder in keyed])
    if found is None:
        return None
    rank = {holder.placement.id: (key[0] == 0, key) for key, holder in keyed}
    return departures.pruned(found, lambda holder: rank[holder.placement.id])


def leave_windows(
    snapshot: Snapshot, holders_at: Callable[[int], Mapping[PlacementId, Holder]]
) -> Iterator[Eviction]:
    """Who has to go because a window begins: who may be evicted, everybody for maintenance; and who ran in one that is over."""
    for window in snapshot.windows:
        if snapshot.now_ms < window.starts_ms - MOST_LEAD_MS:
            continue
        nodes = frozenset(window.nodes)
        for ident, holder in holders_at(window.site).items():
            there = any(use.node in nodes for use in holder.uses)
            goes = must_clear(
                window, holder.workload.spec, holder.began_ms, on_its_nodes=there, now_ms=snapshot.now_ms
            )
            if goes and holder.placement.stop_reason is None:
                yield Eviction(ident, None, window.id)
