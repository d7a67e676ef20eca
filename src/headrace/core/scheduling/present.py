"""The estate as it is in the middle of a pass: the snapshot, less what was placed since."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from headrace.core.contracts import Contract
from headrace.core.fleet import I64
from headrace.core.ids import ContractId, WindowId
from headrace.core.scheduling.columns import (
    Ask,
    Columns,
    Mask,
    Scratch,
    Use,
    accelerators_milli_of,
    lowest_bits,
    part_of,
    scratch_of,
    shift,
    take_ranks,
)
from headrace.core.scheduling.memory import Known, Memory, Option
from headrace.core.scheduling.pools import Sieve, SitePools, Undecided
from headrace.core.scheduling.proposal import ProposedPlacement
from headrace.core.scheduling.rank import choose, increments_w, path_need_w
from headrace.core.scheduling.rules import choose_by
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.windows import Ends, Hold, holds_of, kept_w
from headrace.core.workload import WHOLE_MILLI, RankPlace

Nodes = I64 | Sequence[int]
MOST_RACKS, MOST_WOKEN = 16, 8
"""So many racks, and nodes of each, are tried where who fits at all must wake few nodes."""
NO_CAP_W = 1 << 60
"""More than any element carries."""


def uses_of(nodes: Sequence[int], ranks: Sequence[RankPlace], sharer: int = 0) -> list[Use]:
    """What ranks take of nodes, which are indexes in the fleet."""
    return [Use(node, *rank[1:], sharer) for node, rank in zip(nodes, ranks, strict=True)]


class Present:
    """Pools for what they can decide; arrays, made when somebody first asks for them, for the rest.

    ``cap_w``: what those who wait leave of each element to whoever comes after them and stays; None while there are none.
    What reservations keep is counted by itself. ``holds``: by site, nodes that only who is gone in time may use.
    """

    def __init__(self, snapshot: Snapshot, columns: Columns, memory: Memory) -> None:
        self.snapshot, self.columns, self.memory = snapshot, columns, memory
        self._shut_at: set[int] = set()
        self.held_milli: dict[ContractId, int] = dict(snapshot.contract_held_milli)
        self.cap_w: I64 | None = None
        self._kept_w: I64 | None = None
        self._kept_over: I64 = np.zeros(0, dtype=np.int64)
        self.holds: dict[int, list[Hold]] = {}
        self._inside: dict[WindowId, Mask] = {}
        self._pools: dict[int, SitePools] = {}
        self._state: Scratch | None = None
        self._taken: list[tuple[int, RankPlace]] = []
        self._singles: list[tuple[Sequence[ProposedPlacement], int, int]] = []
        self._caught_up = 0
        self._floor_taken_w: dict[int, int] = {}
        if snapshot.windows:
            self._hold_windows()
            # What a window holds it holds until something comes free: the site is no other for that.
            self._shut_at.clear()
            for pools in self._pools.values():
                pools.begin()

    def floor_left_w(self, site: int) -> int | None:
        """How much more may be beyond shedding at a site; None where the grid asks nothing of it."""
        floors = self.snapshot.floors
        left_w = None if floors is None else floors.left_w(site)
        return None if left_w is None else left_w - self._floor_taken_w.get(site, 0)

    def choose_kept(self, known: Known, site: int) -> Iterator[Sequence[int]]:
        """Choices of nodes that wake few, for who may fit so where a site's floor has no room for more: the fewest first."""
        floors, ask = self.snapshot.floors, known.ask
        if self.floor_left_w(site) is None or ask.reservation is not None or floors is None:
            return
        state, span = self.open_to(ask, self.state), self.columns.spans[site]
        kept = np.zeros_like(state.open)
        kept[floors.kept] = True
        asleep = np.flatnonzero(known.suit[site] & state.open[span] & ~kept[span]) + span.start
        racks = self.columns.fleet.node_leaf[asleep]
        groups = [asleep[racks == rack] for rack in np.unique(racks)[:MOST_RACKS]]
        waking = [group[:count] for count in range(1, min(ask.nodes, MOST_WOKEN)) for group in groups]
        for few in (asleep[:0], *waking):
            opened = kept.copy()
            opened[few] = True
            found = self.choose_in(known, site, replace(state, open=state.open & opened))
            if found is not None:
                yield found.tolist()

    def take_floor(self, site: int, watts: int) -> None:
        """So much more is beyond shedding at a site."""
        self._floor_taken_w[site] = self._floor_taken_w.get(site, 0) + watts

    def _hold_windows(self) -> None:
        snapshot, columns, now_ms = self.snapshot, self.columns, self.snapshot.now_ms
        state = self.state
        for window in snapshot.windows:
            if window.tenant is not None and window.is_on(now_ms):
                inside = np.zeros_like(state.open)
                nodes = np.array(window.nodes, dtype=np.int64)
                inside[nodes] = snapshot.node_open[nodes]
                self._inside[window.id] = inside
        kept = kept_w(columns, snapshot)
        if kept:
            self._kept_w, self._kept_over = np.zeros_like(state.head_w), np.array(list(kept), dtype=np.int64)
            for element, watts in kept.items():
                self._kept_w[element] = watts
        for site, hold in holds_of(snapshot.windows, now_ms):
            self.holds.setdefault(site, []).append(hold)
            here = [element for element in kept if columns.fleet.power_site[element] == site]
            self._shut(site, hold.nodes, here)

    def has_changed(self, site: int) -> bool:
        """Whether a site is no longer as the snapshot and its windows show it."""
        pools = self._pools.get(site)
        return site in self._shut_at or (pools is not None and pools.has_changed)

    def is_on(self, reservation: WindowId) -> bool:
        """Whether a reservation is going on."""
        return reservation in self._inside

    def beside(self, site: int, ends: Ends, *, may_go: bool) -> Scratch | None:
        """The present of a site for one who is gone in time; None when that opens no more nodes to it.

        ``may_go``: it may be told to go.
        """
        holds = self.holds[site]
        open_to = [hold for hold in holds if ends.is_gone_by(hold)]
        if not open_to:
            return None
        state = self.state
        opened = state.open.copy()
        for hold in open_to:
            opened[hold.nodes] = self.snapshot.node_open[hold.nodes]
        # A node may be held twice: then both have to let it.
        for hold in holds:
            if not ends.is_gone_by(hold):
                opened[hold.nodes] = False
        state = replace(state, open=opened)
        # Who is only paused keeps its power beyond its limit: that is sure to be free of nobody who can't be told to go.
        sure = len(open_to) == len(holds) and (may_go or not any(hold.hard for hold in holds))
        if sure:
            return state
        if may_go:
            return self.capped(state)
        # On the held nodes alone: what it draws there is part of what is kept for them.
        held = np.zeros_like(opened)
        for hold in open_to:
            held[hold.nodes] = True
        state = replace(state, open=opened & held)
        return self._beside_kept(state, all_kept=all(hold.is_sold for hold in open_to))

    def _beside_kept(self, state: Scratch, *, all_kept: bool) -> Scratch:
        """A state without the power that reservations keep; ``all_kept``: its nodes are theirs, and draw what is kept for them.

        Where less is left than they keep, nothing is: that is what the writer sees.
        """
        if self._kept_w is None:
            return state
        over, head_w = self._kept_over, state.head_w.copy()
        left_w = head_w[over] - self._kept_w[over]
        head_w[over] = np.where((left_w >= 0) & all_kept, head_w[over], left_w)
        return state.with_head(head_w)

    @property
    def taken(self) -> list[tuple[int, RankPlace]]:
        """The nodes of all ranks placed so far that have no fraction, and the ranks; only ever longer."""
        index, taken = self.snapshot.fleet.node_index, self._taken
        for placements, start, stop in self._singles:
            ranks = [one.ranks[0] for one in placements[start:stop]]
            taken.extend([(index[rank.node], rank) for rank in ranks])  # type: ignore[index]
        self._singles.clear()
        return taken

    def took(self, placements: Sequence[ProposedPlacement], start: int) -> None:
        """Single ranks were taken from pools by the last of ``placements``, from ``start`` on; there may come others behind them.

        Most passes never ask which.
        """
        if len(placements) > start:
            self._singles.append((placements, start, len(placements)))

    @property
    def state(self) -> Scratch:
        """The present as arrays."""
        if self._state is None:
            self._state = scratch_of(self.snapshot, self.columns)
            self._state.held_milli = self.held_milli
        taken = self.taken
        seen, self._caught_up = self._caught_up, len(taken)
        if seen < len(taken):
            take_ranks(self.columns, self._state, taken[seen:])
        return self._state

    def capped(self, state: Scratch) -> Scratch:
        """A state with no more power in it than those who wait leave."""
        if self.cap_w is None and self._kept_w is None:
            return state
        head_w = state.head_w if self.cap_w is None else np.minimum(state.head_w, self.cap_w)
        if self._kept_w is not None:
            # Of what there is now, and not of what there was before others of this pass: that is what the writer sees.
            over = self._kept_over
            left_w = self.state.head_w[over] - self._kept_w[over]
            head_w = head_w.copy()
            head_w[over] = np.minimum(head_w[over], left_w)
        return state.with_head(head_w)

    def pools(self, site: int) -> SitePools:
        """The pools of a site."""
        pools = self._pools.get(site)
        if pools is None:
            pools = self._pools[site] = self.memory.pools_at(self.snapshot, self.columns, site)
        return pools

    def choose(self, known: Known, site: int) -> Sequence[int] | None:
        """The nodes that an ask gets at a site now, ascending; None if no choice would do."""
        if known.ask.reservation is not None:
            inside = self.choose_in(known, site, self.state)
            return None if inside is None else inside.tolist()
        pools = self._pools.get(site) or self.pools(site)
        if known.by_rule:
            return self._choose_by_rule(known, site, pools)
        found = pools.choose(known.ask, self.sieves(known, site))
        if not isinstance(found, Undecided):
            return found
        nodes = self.choose_in(known, site, self.capped(self.state))
        return None if nodes is None else nodes.tolist()

    def sieves(self, known: Known, site: int) -> list[Sieve]:
        """Where an ask may find nodes at a site, and which of them have not failed it yet."""
        found = known.sieves.get(site)
        if found is None:
            found = known.sieves[site] = self.pools(site).sieves(known.ask)
        return found

    def _choose_by_rule(self, known: Known, site: int, pools: SitePools) -> Sequence[int] | None:
        rule, ask = self.memory.rule, known.ask
        if rule is None:
            raise AssertionError("an ask goes by a rule that is not there")
        pools.costs[ask], found = choose_by(
            self.columns,
            self.capped(self.state),
            ask,
            known.suit[site],
            self.columns.spans[site],
            rule,
            pools.costs.get(ask),
            pools.history,
        )
        return None if found is None else [found[1]]

    def cost(self, known: Known, site: int, node: int) -> int:
        """What a rule found that a node costs."""
        return int(self._pools[site].costs[known.ask].cost[node - self.columns.spans[site].start])

    def choose_in(self, known: Known, site: int, state: Scratch, nodes: int = 0) -> I64 | None:
        """The nodes that an ask would get at a site in another state; ``nodes``: so many of them, not as many as it asks for."""
        ask = known.ask
        if ask.reservation is not None:
            state = replace(state, open=self._inside[ask.reservation])
        return choose(
            self.columns, state, ask._replace(nodes=nodes) if nodes else ask, site, known.suit[site]
        )

    def take(self, ask: Ask, site: int, nodes: Sequence[int]) -> tuple[RankPlace, ...]:
        """Take a rank's part of each of some nodes that pools have."""
        ranks = self._pools[site].take(ask, nodes)
        self._taken.extend(zip(nodes, ranks, strict=True))
        return ranks

    def take_apart(
        self, known: Known, site: int, nodes: Sequence[int], *, by_rule: bool
    ) -> tuple[RankPlace, ...]:
        """The same where pools can't: a fraction, or nodes that are held. ``by_rule``: its costs chose the accelerator."""
        ask, costs = known.ask, self.pools(site).costs.get(known.ask)
        state, fleet = self.state, self.snapshot.fleet
        if self._kept_w is not None and ask.reservation is not None:
            # What it draws was kept for it.
            chosen = np.array(nodes, dtype=np.int64)
            added = increments_w(self.columns, state, ask, chosen)
            elements, need = path_need_w(self.columns, chosen, added)
            self._kept_w[elements] -= need
        ranks = []
        for node in nodes:
            count, cpu_milli, memory_mb = ask.on(fleet.hardware[fleet.node_hardware[node]])
            if ask.is_fraction and by_rule and costs is not None:
                mask = 1 << int(costs.accelerator[node - self.columns.spans[site].start])
            elif ask.is_fraction:
                mask = part_of(self.columns, state, ask, node)
            else:
                mask = lowest_bits(int(state.bits[node]), count)
            ranks.append(RankPlace(fleet.node_ids[node], mask, cpu_milli, memory_mb, ask.share_milli))
        shift(self.columns, state, uses_of(nodes, ranks, ask.sharer), -1)
        self.pools(site).refresh(nodes, state, self.capped(state).head_w)
        return tuple(ranks)

    def close(self, site: int, nodes: I64, elements: I64, hold: Hold | None = None) -> None:
        """Nobody of lower rank starts on these nodes (but who is gone in time), and less is left of the elements over them."""
        if hold is not None:
            self.holds.setdefault(site, []).append(hold)
        for inside in self._inside.values():
            inside[nodes] = False
        self._shut(site, nodes, elements.tolist())

    def _shut(self, site: int, nodes: I64, elements: list[int]) -> None:
        self._shut_at.add(site)
        self.state.open[nodes] = False
        pools = self.pools(site)
        pools.limit(elements, self.capped(self.state).head_w)
        pools.close(nodes.tolist())

    def open_to(self, ask: Ask, state: Scratch) -> Scratch:
        """A state with the power that an ask may have of it: what is kept for reservations is there for whoever runs in them."""
        return state if ask.reservation is not None else self.capped(state)

    def covers(self, option: Option, site: int, asked_milli: int) -> bool:
        """Whether what its contract reserves is enough for it, beside what is held of it."""
        return _covers(option.allowed[site], asked_milli, self.held_milli)

    def covers_in(self, option: Option, site: int, nodes: I64, state: Scratch) -> bool:
        """The same on nodes of another state."""
        asked_milli = accelerators_milli_of(self.columns, option.ask, nodes)
        return _covers(option.allowed[site], asked_milli, state.held_milli)

    def hold(self, option: Option, site: int, nodes: Nodes, held_milli: dict[ContractId, int]) -> None:
        """Count it against what its contract reserves."""
        contract = option.allowed[site]
        if contract.kind == "reserved":
            asked = accelerators_milli_of(self.columns, option.ask, nodes)
            held_milli[contract.id] = held_milli.get(contract.id, 0) + asked


def _covers(contract: Contract, asked_milli: int, held_milli: Mapping[ContractId, int]) -> bool:
    if contract.kind != "reserved":
        return True
    return held_milli.get(contract.id, 0) + asked_milli <= contract.accelerators * WHOLE_MILLI
