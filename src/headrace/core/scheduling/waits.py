"""Those who wait: for what is leaving, for whom they evict, or, once they have waited for too long, behind a barrier.

Nothing of lower rank starts on the nodes that they wait for, or uses the power that they will need.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headrace.core.fleet import I64
from headrace.core.ids import PlacementId, TenantId
from headrace.core.scheduling.columns import Ask, Scratch, Use, lowest_bits, shift, take_ranks
from headrace.core.scheduling.evicting import Evicting
from headrace.core.scheduling.leaving import (
    KNOWN,
    Departures,
    Fit,
    Holder,
    Horizon,
    holder_of,
    horizon_of,
    least_damage,
    release,
)
from headrace.core.scheduling.memory import Option, Shape
from headrace.core.scheduling.order import Shares, waits_since_ms
from headrace.core.scheduling.present import NO_CAP_W, Nodes, Present, uses_of
from headrace.core.scheduling.proposal import Eviction
from headrace.core.scheduling.rank import increments_w, path_need_w
from headrace.core.scheduling.ready import soonest
from headrace.core.scheduling.sharing import are_equals, shares_time
from headrace.core.scheduling.windows import MOST_LEAD_MS, Hold, may_be_evicted
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from headrace.core.workload import WHOLE_MILLI, RankPlace, Workload


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """Bounds of one pass.

    At most ``max_placements`` are placed, at most ``max_reservations`` workloads wait for what leaves or is
    evicted. A workload that has waited for ``starve_after_ms`` holds nodes against lower ranks until it fits
    there; at each site at most ``max_barriers`` do that know when they start, and as many that don't: since who holds their
    nodes has no known end. A tenant has at most half of either (but one).
    """

    max_placements: int = 10_000
    max_reservations: int = 256
    starve_after_ms: int = 10 * MS_PER_MINUTE
    max_barriers: int = 4


MOST_HELD_MS = MS_PER_DAY
"""Nobody keeps nodes from others for what ends later than in a day; nor for who has run for a day and never said until when."""
MOST_OWN_MS = MS_PER_HOUR
"""The same for who runs for the tenant itself: it could end that, and by a trifle without an end keep all others out."""

Found = tuple[Option, int, Horizon]
"""What a workload waits for: an option, a site, and who must leave which nodes."""


class Taker(NamedTuple):
    """A workload that gets nodes once others have left them."""

    workload: Workload
    option: Option
    nodes: tuple[int, ...]


class Waits:
    """Who waits for what in this pass, and what that leaves to others."""

    def __init__(self, present: Present, limits: PlanLimits, shares: Shares) -> None:
        self.present, self.limits, self.shares = present, limits, shares
        self.snapshot, self.columns = present.snapshot, present.columns
        self.evictions: list[Eviction] = []
        self.evicted: dict[PlacementId, Holder] = {}
        self.reservations = 0
        self.barriers = 0
        self._slots: dict[tuple[int, bool], dict[TenantId, int]] = {}
        self._refused: dict[tuple[int, TenantId], int] = {}
        self._soon: Scratch | None = None
        self._leaving: set[int] | None = None
        self._gone: list[Holder] = []
        self._best_cases: dict[tuple[int, bool], Scratch] = {}
        self.evicting = Evicting(present, shares)
        self.kept: set[int] = set()
        """Sites where nodes and power are kept for somebody."""
        self._caught_up = 0

    def wait(self, workload: Workload, shape: Shape) -> None:
        """Let it wait for what leaves, for those that it evicts, or, if it starves, behind a barrier."""
        if self.wait_shortly(workload, shape):
            return
        if not self.may_wait_long(shape, workload.tenant) or not self.starves(workload):
            return
        shape.barred = True
        found = self._find_later(workload, shape)
        if found is not None:
            option, site, horizon = found
            knows = self._knows(horizon, self.evicting.may_evict(workload, option, site))
            taken = self._slots.setdefault((site, knows), {})
            taken[workload.tenant] = taken.get(workload.tenant, 0) + 1
            self._reserve(workload, *found)
            self.barriers += 1

    def wait_shortly(self, workload: Workload, shape: Shape) -> bool:
        """Let it wait for what leaves, or for those that it evicts; whether there is anybody to wait for."""
        if shape.hopeless or self.reservations >= self.limits.max_reservations:
            return False
        found = self._find_soon(workload, shape)
        if found is None:
            shape.hopeless = True
            return False
        self._reserve(workload, *found)
        self._claim(workload, *found[:2])
        self.reservations += 1
        return True

    def swap(self, site: int, victims: Sequence[Holder], takers: Sequence[Taker]) -> bool:
        """Let ``takers`` wait for ``victims``, who are told to go: all of them or, where that would not do, none."""
        enough = self.reservations + len(takers) <= self.limits.max_reservations
        if not enough or not _have_room(self.present, self._soon_state(), victims, takers):
            return False
        self.reservations += len(takers)
        left = {holder.placement.id: holder for holder in victims}
        for number, taker in enumerate(takers):
            there = set(taker.nodes)
            goes = [one for one in left.values() if any(use.node in there for use in one.uses)]
            if number == len(takers) - 1:
                # Who only moves makes room for those who make room.
                goes = list(left.values())
            for one in goes:
                del left[one.placement.id]
            horizon = Horizon(tuple(goes), np.array(taker.nodes, dtype=np.int64))
            self._reserve(taker.workload, taker.option, site, horizon, lambda _: True)
        return True

    def soon(self, site: int) -> Scratch | None:
        """A site once all that is being stopped is gone; None while nothing is."""
        if site in self.leaving or any(holder.site == site for holder in self.evicted.values()):
            return self._soon_state()
        return None

    def may_wait_shortly(self, shape: Shape) -> bool:
        """Whether another of the same shape may wait for what leaves or is evicted."""
        return not shape.hopeless and self.reservations < self.limits.max_reservations

    def may_wait_long(self, shape: Shape, tenant: TenantId) -> bool:
        """Whether another of the same shape may wait behind a barrier, if it starves."""
        return not shape.barred and any(
            self._slots_at(site, tenant) for option in shape.options for site in option.allowed
        )

    def _slots_at(self, site: int, tenant: TenantId) -> list[bool]:
        """Which barriers a tenant may have at a site: those that know when they start (True), those that don't (False)."""
        slots = [one for one in (True, False) if self._has_slot(site, one, tenant)]
        if len(slots) == 1:
            # Nothing was said of anybody, or something of everybody: then the other kind is all that would be found.
            held, told = self.present.memory.told(self.snapshot, site)
            return [] if told == (0 if slots[0] else held) else slots
        return slots

    def _has_slot(self, site: int, knows: bool, tenant: TenantId) -> bool:
        """Whether a tenant may have one more barrier at a site, of those that know when they start, or of those that don't.

        Nor is a tenant looked at again and again to find that it may not: a search costs more than a placement.
        """
        most = self.limits.max_barriers
        part = max(1, most // 2)
        if self._refused.get((site, tenant), 0) >= part:
            return False
        taken = self._slots.get((site, knows))
        if taken is None:
            return most > 0
        return sum(taken.values()) < most and taken.get(tenant, 0) < part

    def _knows(self, horizon: Horizon, may_evict: Callable[[Holder], bool]) -> bool:
        """Whether it is known when a workload that waits for these starts."""
        return _start_ms(horizon, may_evict, self.snapshot.now_ms) is not None

    def _is_vain(self, workload: Workload, horizon: Horizon, may_evict: Callable[[Holder], bool]) -> bool:
        """Whether nodes would be kept for what does not end before long, as far as can be told."""
        now_ms = self.snapshot.now_ms
        for holder in horizon.holders:
            if may_evict(holder):
                continue
            end = holder.end_at(now_ms)
            if end is not None and end[0] == KNOWN:
                if end[1] - now_ms > MOST_HELD_MS:
                    return True
            elif now_ms - holder.began_ms > self._patience_ms(workload, holder):
                return True
        return False

    def _patience_ms(self, workload: Workload, holder: Holder) -> int:
        """How long somebody may have run, of whom nobody knows when it ends, to be waited for behind a barrier."""
        other = holder.workload
        if other.tenant != workload.tenant or (are_equals(workload, other) and shares_time(other.spec)):
            return MOST_HELD_MS
        return MOST_OWN_MS

    def starves(self, workload: Workload) -> bool:
        """Whether it has waited for so long that it may hold nodes against lower ranks."""
        return self.snapshot.now_ms - waits_since_ms(workload) > self.limits.starve_after_ms

    # -- what others may take ---------------------------------------------------------------------------------------

    def spares(self, ask: Ask, site: int, chosen: Nodes) -> bool:
        """Whether it leaves the power that is kept for those who wait, also once what they wait for has left.

        A node that would sleep then is kept awake by whoever starts on it now: that is more than what it adds today.
        """
        if site not in self.kept:
            return True
        nodes, state = np.array(chosen, dtype=np.int64), self._soon_state()
        elements, need = path_need_w(self.columns, nodes, increments_w(self.columns, state, ask, nodes))
        return not (self.present.open_to(ask, state).head_w[elements] < need).any()

    def placing(self, option: Option, site: int, nodes: Sequence[int]) -> None:
        """Somebody is about to be placed: less is left later, too."""
        if self._soon is None:
            return
        cap_w = self.present.cap_w
        if cap_w is not None and site in self.kept and option.ask.reservation is None:
            chosen = np.array(nodes, dtype=np.int64)
            added = increments_w(self.columns, self._soon_state(), option.ask, chosen)
            elements, need = path_need_w(self.columns, chosen, added)
            cap_w[elements] -= need
        self.present.hold(option, site, nodes, self._soon.held_milli)

    def placed_apart(self, ask: Ask, site: int, nodes: Sequence[int], ranks: tuple[RankPlace, ...]) -> None:
        """Somebody was placed where pools are not asked."""
        if self._soon is not None:
            uses = uses_of(nodes, ranks, ask.sharer)
            shift(self.columns, self._soon_state(), uses, -1)
            for best in self._bests(site):
                shift(self.columns, best, uses, -1)

    @property
    def reserved(self) -> int:
        """How many wait for chosen nodes so far."""
        return self.reservations + self.barriers

    # -- who leaves -------------------------------------------------------------------------------------------------

    @property
    def leaving(self) -> set[int]:
        """Sites where something is being stopped."""
        if self._leaving is None:
            snapshot, self._leaving = self.snapshot, set()
            idents = snapshot.stopping if snapshot.stopping is not None else snapshot.placements
            for ident in idents:
                placement = snapshot.placements.get(ident)
                if placement is None or placement.stop_reason is None:
                    continue
                holder = holder_of(snapshot, placement)
                if holder is not None and self._is_gone_soon(holder):
                    self._gone.append(holder)
                    self._leaving.add(holder.site)
        return self._leaving

    def _is_gone_soon(self, holder: Holder) -> bool:
        """Whether who was told to stop goes before long: with a day of grace it may not keep nodes empty for as long."""
        grace_ms = holder.workload.spec.grace_ms
        return holder.placement.stop_since_ms + grace_ms - self.snapshot.now_ms <= MOST_LEAD_MS

    def _holders(self, site: int) -> dict[str, Holder]:
        return self.present.memory.holders(self.snapshot, site)  # type: ignore[return-value]

    def _staying(self, site: int) -> Iterator[Holder]:
        """Live placements of a site that nobody has told to stop yet."""
        for ident, holder in self._holders(site).items():
            if holder.placement.stop_reason is None and ident not in self.evicted:
                yield holder

    def _soon_state(self) -> Scratch:
        """The present, with everything that is already being stopped gone, and what waits for it in its place."""
        if self._soon is None:
            self._soon = self.present.state.copy()
            if self.leaving:
                release(self.columns, self._soon, self._gone)
            self._caught_up = len(self.present.taken)
        seen, self._caught_up = self._caught_up, len(self.present.taken)
        taken = self.present.taken[seen:]
        take_ranks(self.columns, self._soon, taken)
        for (site, _), best in self._best_cases.items():
            span = self.columns.spans[site]
            take_ranks(self.columns, best, [one for one in taken if span.start <= one[0] < span.stop])
        return self._soon

    def _claim(self, waiting: Workload, option: Option, site: int) -> None:
        """What it waits for of its tenant's quota is no longer there for others of the tenant."""
        if option.allowed[site].kind != "reserved":
            more_milli = self.evicting.takes_milli(option, site)
            self.shares.claim(waiting.tenant, waiting.spec.project, more_milli)

    # -- where ------------------------------------------------------------------------------------------------------

    def _fit(self, option: Option, site: int) -> Fit:
        """Where an option fits at a site, by nodes, power and contract."""

        def nodes_in(state: Scratch) -> I64 | None:
            nodes = self.present.choose_in(option.known, site, self.present.open_to(option.ask, state))
            if nodes is None or not self.present.covers_in(option, site, nodes, state):
                return None
            return nodes

        return nodes_in

    def _find_soon(self, workload: Workload, shape: Shape) -> Found | None:
        """The site where what is leaving suffices, or else that where evicting does the least damage."""
        if self.leaving or self.evicted:
            for option in shape.options:
                for site in option.allowed:
                    may_fit = option.known.ever.get(site) != -1 and self.evicting.may_have(
                        workload, option, site
                    )
                    nodes = self._fit(option, site)(self._soon_state()) if may_fit else None
                    if nodes is not None:
                        return option, site, Horizon((), nodes)
        best: Found | None = None
        for option in shape.options:
            for site in option.allowed:
                found = self._by_eviction(workload, option, site)
                if found is not None and (best is None or found.cost < best[2].cost):
                    best = option, site, found
        return best

    def _by_eviction(self, workload: Workload, option: Option, site: int) -> Horizon | None:
        """Whom it would evict at a site with the least damage."""
        if not self._may_by_eviction(workload, option, site):
            return None
        victims = self.evicting.victims(workload, option, site, self.evicted)
        if not victims.by_damage:
            return None
        departures = Departures(self.columns, self._soon_state(), self._fit(option, site))
        found = least_damage(departures, option.ask, site, victims)
        departures.reset()
        return found

    def _may_by_eviction(self, waiting: Workload, option: Option, site: int) -> bool:
        """Whether it would fit at a site if all left that could be evicted by anybody."""
        if not self.present.memory.evictable(self.snapshot, site) or not self.evicting.may_have(
            waiting, option, site
        ):
            return False
        known, changes = option.known, self.present.memory.changes.get(site, 0)
        if known.vain.get(site) == changes or not self._may_ever(option, site):
            return False
        state = self._open_to(option, self._best_case(site, by_eviction=True))
        fits = self.present.choose_in(known, site, state) is not None
        if not fits and not self.present.has_changed(site):
            known.vain[site] = changes
        return fits

    def _open_to(self, option: Option, state: Scratch) -> Scratch:
        return self.present.open_to(option.ask, state)

    def _best_case(self, site: int, *, by_eviction: bool) -> Scratch:
        """A site if all left that could be evicted by anybody, or that end by themselves too."""
        soon = self._soon_state()
        best = self._best_cases.get((site, by_eviction))
        if best is None:
            best = self._best_cases[site, by_eviction] = soon.copy()
            gone = [
                one
                for one in self._staying(site)
                if (may_be_evicted(one.workload.spec) if by_eviction else one.may_leave)
            ]
            release(self.columns, best, gone)
        return best

    def _bests(self, site: int) -> Iterator[Scratch]:
        return (best for (at, _), best in self._best_cases.items() if at == site)

    def _may_ever(self, option: Option, site: int) -> bool:
        """Whether it would fit at a site if all left that could be evicted by anybody, or that end by themselves.

        Most that wait would not, and this costs one look where trying who leaves costs dozens. Later in the pass
        there is only less room than this, so that the answer is at worst too hopeful.
        """
        known, memory = option.known, self.present.memory
        changes = memory.changes.get(site, 0)
        if known.never.get(site) == changes:
            return False
        ever = known.ever.get(site)
        if ever is not None and (ever < 0 or ever == self.reserved):
            return ever >= 0
        state = self._open_to(option, self._best_case(site, by_eviction=False))
        fits = self.present.choose_in(known, site, state) is not None
        known.ever[site] = self.reserved if fits else -1
        if not fits and not self.present.has_changed(site):
            known.never[site] = changes
        return fits

    def _find_later(self, workload: Workload, shape: Shape) -> Found | None:
        """The option, the site and the nodes where a starving workload can run soonest."""
        best: Found | None = None
        best_key: tuple[object, ...] = ()
        for option in shape.options:
            for site in option.allowed:
                slots = self._slots_at(site, workload.tenant)
                may_evict = self.evicting.may_evict(workload, option, site)
                found = self._when_at(workload, option, site, may_evict) if slots else None
                if found is None:
                    continue
                if self._knows(found, may_evict) not in slots or self._is_vain(workload, found, may_evict):
                    at = site, workload.tenant
                    self._refused[at] = self._refused.get(at, 0) + 1
                    continue
                key = _soonest(found, may_evict, self.snapshot.now_ms)
                if best is None or key < best_key:
                    best, best_key = (option, site, found), key
        return best

    def _when_at(
        self, workload: Workload, option: Option, site: int, may_evict: Callable[[Holder], bool]
    ) -> Horizon | None:
        """Who has to leave until it runs at a site, the soonest first; None if it never does."""
        if not self.evicting.may_have(workload, option, site):
            return None
        quick = self._quickly(option, site)
        if quick is not None:
            return quick[0] if quick else None
        if not self._may_ever(option, site):
            return None
        holders, contract = list(self._staying(site)), option.allowed[site]
        if contract.kind == "reserved":
            holders += [
                holder
                for other in range(len(self.columns.spans))
                if other != site
                for holder in self._staying(other)
                if holder.contract == contract.id
            ]
        departures = Departures(self.columns, self._soon_state(), self._fit(option, site))
        found = horizon_of(departures, holders, may_evict, self.snapshot.now_ms)
        departures.reset()
        return found

    def _quickly(self, option: Option, site: int) -> list[Horizon] | None:
        """Where it runs soonest, if at all, as far as only time and room decide; None if anything else might."""
        present, ask = self.present, option.ask
        pools = present.pools(site)
        plain = ask.topology is None and ask.share_milli == WHOLE_MILLI and ask.reservation is None
        if not plain or option.allowed[site].kind == "reserved":
            return None
        memory = present.memory
        # What is kept for others, or counted, may be why it does not fit.
        is_free = site not in self.kept and site not in present.holds and not option.is_counted
        if (is_free or not pools.head) and not memory.holders(self.snapshot, site):
            # It does not fit now, and nobody is there to leave.
            return []
        if pools.head:
            return None
        soon = self._soon_state()
        if len(soon.share_milli) or site in self.leaving or memory.evictable(self.snapshot, site):
            return None
        on_node = memory.on_node(self.snapshot, site)
        pools.ready[ask], found = soonest(
            self.columns,
            soon,
            ask,
            self.columns.spans[site],
            option.known.suit[site],
            pools.ready.get(ask),
            (pools.history, pools.turned),
            (on_node, self.snapshot.now_ms),
        )
        return [] if found is None else [found]

    # -- keeping ----------------------------------------------------------------------------------------------------

    def _reserve(
        self,
        workload: Workload,
        option: Option,
        site: int,
        horizon: Horizon,
        goes: Callable[[Holder], bool] | None = None,
    ) -> None:
        """Keep the nodes of ``horizon``, and the power that they will need, from everything of lower rank.

        ``goes``: who of its holders is told to go (None: whom it may evict).
        """
        present, state, nodes = self.present, self._soon_state(), horizon.nodes
        self.kept.add(site)
        departures = Departures(self.columns, state, self._fit(option, site))
        departures.leave(horizon.holders)
        added = increments_w(self.columns, state, option.ask, nodes)
        elements, need = path_need_w(self.columns, nodes, added)
        # The others carry whatever is below them.
        tight = np.isin(elements, present.pools(site).tight)
        elements, need = elements[tight], need[tight]
        slack = present.open_to(option.ask, state).head_w[elements] - need
        departures.reset()
        may_evict = goes or self.evicting.may_evict(workload, option, site)
        victims = [holder for holder in horizon.holders if may_evict(holder)]
        now, hold = present.state, None
        if len(victims) == len(horizon.holders):
            release(self.columns, state, victims)
            for holder in victims:
                self.evicted[holder.placement.id] = holder
                self.evictions.append(Eviction(holder.placement.id, workload.id))
            state.head_w[elements] -= need
            for best in self._bests(site):
                best.head_w[elements] -= need
            # Lower ranks may use what is left beside it both now and once it runs.
            now.head_w[elements] = np.minimum(now.head_w[elements], slack)
        else:
            # Others must end first: evicted now, a filler would only start again until they have. Meanwhile nobody
            # of lower rank counts on more than what is left beside it, whoever leaves, but who is gone before it starts.
            if len(elements):
                if present.cap_w is None:
                    present.cap_w = np.full_like(state.head_w, NO_CAP_W)
                present.cap_w[elements] = np.minimum(present.cap_w[elements], slack)
            now_ms = self.snapshot.now_ms
            starts_ms = _start_ms(horizon, may_evict, now_ms)
            until_ms = now_ms - 1 if starts_ms is None else starts_ms
            hold = Hold(nodes, until_ms, hard=False, priority=workload.spec.priority)
        state.open[nodes] = False
        present.hold(option, site, nodes, now.held_milli)
        present.hold(option, site, nodes, state.held_milli)
        present.close(site, nodes, elements, hold)
        for best in self._bests(site):
            best.open[nodes] = False


def _have_room(present: Present, state: Scratch, victims: Sequence[Holder], takers: Sequence[Taker]) -> bool:
    """Whether all of ``takers`` have room and power on their nodes in a state without ``victims``."""
    columns = present.columns
    release(columns, state, victims)
    taken: list[Use] = []
    fits = True
    for _, option, nodes in takers:
        ask, chosen = option.ask, np.array(nodes, dtype=np.int64)
        room = state.open[chosen] & (state.free[chosen] >= ask.accelerators)
        room &= (state.cpu_milli[chosen] >= ask.cpu_milli) & (state.memory_mb[chosen] >= ask.memory_mb)
        elements, need = path_need_w(columns, chosen, increments_w(columns, state, ask, chosen))
        fits = bool(room.all() and (present.open_to(ask, state).head_w[elements] >= need).all())
        if not fits:
            break
        uses = [
            Use(node, lowest_bits(int(state.bits[node]), ask.accelerators), ask.cpu_milli, ask.memory_mb)
            for node in nodes
        ]
        shift(columns, state, uses, -1)
        taken += uses
    shift(columns, state, taken, 1)
    release(columns, state, victims, -1)
    return fits


def _start_ms(horizon: Horizon, may_evict: Callable[[Holder], bool], now_ms: int) -> int | None:
    """When the last of those ends who end by themselves; None if that is not known."""
    ends = [holder.end_at(now_ms) for holder in horizon.holders if not may_evict(holder)]
    if any(end is None or end[0] != KNOWN for end in ends):
        return None
    return max((end[1] for end in ends if end is not None), default=now_ms - 1)


def _soonest(found: Horizon, may_evict: Callable[[Holder], bool], now_ms: int) -> tuple[object, ...]:
    """When the last of those ends who end by themselves, and how many are evicted."""
    evicted = [holder for holder in found.holders if may_evict(holder)]
    ends = [holder.end_at(now_ms) or (0, 0) for holder in found.holders if not may_evict(holder)]
    return max(ends, default=(0, 0)), len(evicted)
