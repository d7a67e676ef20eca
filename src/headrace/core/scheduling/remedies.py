"""What change would let a waiting workload start now: each is tried on the estate as it is before it is told.

Everything here is about the workload alone: that nobody goes before it is another question.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from headrace.core.fleet import I64
from headrace.core.ids import NodeId
from headrace.core.scheduling.columns import Scratch
from headrace.core.scheduling.findings import Finding, count, standing, start_at, start_of, staying
from headrace.core.scheduling.rank import Candidates, choose, has_room, increments_w, path_head_w
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.sight import Sight, Spot
from headrace.core.scheduling.topology import groups_of
from headrace.core.scheduling.windows import holds_of, lead_ms
from headrace.core.units import ceil_div, format_duration, format_watts
from headrace.core.workload import WHOLE_MILLI, Alternative, Topology, WorkloadSpec

Kind = Literal[
    "site", "alternative", "topology", "nodes", "duration", "quota", "contract", "power", "state", "room",
    "policy", "priority",
]  # fmt: skip
_MOST_ELEMENTS = 3
_LEAST_DURATION_MS = 60_000


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change after which a workload would start. ``text`` completes "would start ...".

    ``spec`` is what its owner would ask for instead; without one the change is somebody else's: ``amount`` more accelerators for
    a quota or a contract, watts by element, or ``nodes`` that must become ready or empty (names are the operator's to know).
    """

    kind: Kind
    text: str
    spec: WorkloadSpec | None = None
    amount: int = 0
    watts: dict[str, int] = field(default_factory=dict)
    nodes: tuple[NodeId, ...] = ()


class Remedies:
    """Tries changes for one workload, of which ``finding`` is the reason nearest to success."""

    def __init__(self, sight: Sight, finding: Finding) -> None:
        self.sight, self.finding, self.spec = sight, finding, sight.spec
        self.columns, self.snapshot, self.state = sight.columns, sight.snapshot, sight.state

    def all(self) -> Iterator[Remedy]:
        """Changes that would do, the cheapest first: what its owner can do, then what others would have to."""
        for own in (self._site, self._alternative, self._loose, self._fewer, self._shorter):
            found = own()
            if found is not None:
                yield found
        others: dict[Refusal, Callable[[Spot, Candidates], Remedy | None]] = {
            Refusal.CONTRACT: self._more_counted,
            Refusal.QUOTA: self._more_counted,
            Refusal.POWER: self._power,
            Refusal.NODE_STATE: self._ready,
            Refusal.CAPACITY: self._room,
            Refusal.TOPOLOGY: self._room_together,
        }
        finding = self.finding
        if finding.refusal in others and finding.spot is not None and finding.found is not None:
            found = others[finding.refusal](finding.spot, finding.found)
            if found is not None:
                yield found

    # -- what its owner can do ------------------------------------------------------------------------------------

    def _site(self) -> Remedy | None:
        if self.spec.site is None:
            return None
        place = start_of(self.sight.other(replace(self.spec, site=None)))
        if place is None:
            return None
        site = self.snapshot.fleet.sites[place[0].site].id
        return Remedy("site", f"at site {site}", replace(self.spec, site=site))

    def _alternative(self) -> Remedy | None:
        """Other accelerators, as many on each node as asked for, or all that such a node has."""
        need = self.spec.resources
        if not need.accelerators or need.share_milli != WHOLE_MILLI:
            return None
        asked = {ask.model for ask in self.sight.asks}
        tried = dict[str, None]()
        for hardware in self.snapshot.fleet.hardware:
            model = hardware.accelerator
            if not model or model in asked or model in tried:
                continue
            tried[model] = None
            other = Alternative(model, min(need.accelerators, hardware.accelerators))
            if other.accelerators < need.accelerators:
                continue
            spec = replace(self.spec, alternatives=(*self.spec.alternatives, other))
            # Only the new option: that the others don't fit is known.
            only = replace(spec, resources=replace(need, accelerator=model), alternatives=())
            if start_of(self.sight.other(only)) is not None:
                return Remedy("alternative", f"with {model}:{other.accelerators}", spec)
        return None

    def _loose(self) -> Remedy | None:
        wish = self.spec.topology
        if wish is None or not wish.required:
            return None
        spec = replace(self.spec, topology=replace(wish, required=False))
        if start_of(self.sight.other(spec)) is None:
            return None
        return Remedy("topology", f"if it need not stand {standing(wish)}", spec)

    def _fewer(self) -> Remedy | None:
        """The most nodes with which it would fit."""
        best, most = 0, self.spec.nodes - 1
        for spot in self.sight.spots():
            if best >= most or not self._fits_on(spot, best + 1):
                continue
            low, high = best + 1, most
            while low < high:
                middle = (low + high + 1) // 2
                if self._fits_on(spot, middle):
                    low = middle
                else:
                    high = middle - 1
            best = low
        if not best:
            return None
        return Remedy("nodes", f"with {count(best, 'node')}", replace(self.spec, nodes=best))

    def _fits_on(self, spot: Spot, nodes: int) -> bool:
        return start_at(self.sight, replace(spot, ask=spot.ask._replace(nodes=nodes))) is not None

    def _shorter(self) -> Remedy | None:
        """Gone before a window begins."""
        if self.finding.refusal is not Refusal.WINDOW or self.spec.reservation is not None:
            return None
        now_ms, least_ms = self.snapshot.now_ms, max(lead_ms(self.spec), self.spec.grace_ms)
        moments = {hold.until_ms for _, hold in holds_of(self.snapshot.windows, now_ms)}
        for until_ms in sorted(moments, reverse=True):
            # In whole minutes, as people write it.
            most_ms = (until_ms - now_ms - least_ms) // _LEAST_DURATION_MS * _LEAST_DURATION_MS
            if most_ms < _LEAST_DURATION_MS or 0 < self.spec.max_duration_ms <= most_ms:
                continue
            spec = replace(self.spec, max_duration_ms=most_ms)
            if start_of(self.sight.other(spec)) is not None:
                return Remedy("duration", f"with a max_duration of {format_duration(most_ms)}", spec)
        return None

    # -- what others would have to --------------------------------------------------------------------------------

    def _more_counted(self, spot: Spot, _found: Candidates) -> Remedy | None:
        """More accelerators by contract or quota, where that alone keeps it."""
        short, sight = self.finding.short, self.sight
        nodes = sight.free_at(spot)
        if short is None or nodes is None:
            return None
        kind: Kind = "contract" if self.finding.refusal is Refusal.CONTRACT else "quota"
        asked_milli = sight.asked_milli(spot, nodes)
        shares = sight.ground.shares
        accounts = shares.tenant(sight.tenant), shares.project(sight.tenant, self.spec.project)
        # A tenant's only project may have its account.
        exceeded = {id(account) for account in accounts if account.is_over(asked_milli)}
        if exceeded and kind == "contract":
            return None
        over = ceil_div(short.over_milli, WHOLE_MILLI)
        text = f"if {over} of them were freed, or the {kind} were larger by as many"
        if len(exceeded) > 1:
            text = f"if the quotas of its tenant and its project were larger by {over}"
        elif short.held_milli < over * WHOLE_MILLI:
            text = f"if the {kind} were larger by {over}"
        return Remedy(kind, text, amount=over)

    def _power(self, spot: Spot, found: Candidates) -> Remedy | None:
        """So many watts at each element that lacks them, and so many of what can't be shed there."""
        short_w, stays_w = self.finding.short_w, self.finding.stays_w
        head_w = self.state.head_w.copy()
        for element, watts in short_w.items():
            head_w[element] += watts
        state = self.state.with_head(head_w)
        if not (short_w or stays_w) or not self._fits_in(spot, state, found.roomy, stays_w):
            return None
        tree, fleet = list(short_w.items()), self.snapshot.fleet
        texts = [f"{format_watts(watts)} are freed there" for _, watts in tree[:1]]
        texts += [
            f"{format_watts(watts)} at {fleet.power_kind[element]} {fleet.power_ids[element]}"
            for element, watts in tree[1:_MOST_ELEMENTS]
        ]
        more = len(tree) - _MOST_ELEMENTS
        texts += [f"less at {count(more, 'other element')}"] if more > 0 else []
        if stays_w:
            verb = "" if short_w else " are freed there"
            texts.append(f"{format_watts(stays_w)} of what the grid can't ask back{verb}")
        lacking: dict[str, int] = {fleet.power_ids[element]: watts for element, watts in tree}
        return Remedy("power", f"if {' and '.join(texts)}", watts=lacking)

    def _ready(self, spot: Spot, found: Candidates) -> Remedy | None:
        """As many of the nodes that are closed as are missing, those first that would have room."""
        missing = spot.ask.nodes - len(found.ready)
        closed = np.setdiff1d(found.suit, found.ready)
        # What it could only fill, or not have at all, is no better for being ready.
        may_have, _, _ = self.sight.with_windows(
            replace(self.sight.ground.free, open=np.ones_like(self.state.open)), self.snapshot.now_ms
        )
        closed = closed[may_have.open[closed]]
        opened = replace(self.state, open=self.state.open.copy())
        roomy = self._roomy(opened, spot, closed)
        for some in (roomy[:missing], roomy):
            opened.open[closed] = False
            opened.open[some] = True
            if len(some) and self._fits_in(spot, opened):
                text = f"if {len(some)} more of them {'was' if len(some) == 1 else 'were'} ready"
                return Remedy("state", text, nodes=self._names(some))
        return None

    def _fits_in(self, spot: Spot, state: Scratch, among: I64 | None = None, stays_w: int = 0) -> bool:
        """Whether it would start at a spot in another state, with what quota and contract leave.

        And with what the grid leaves of what can't be shed, and ``stays_w`` more: on the best of ``among``, by default of those
        that it would get.
        """
        nodes = choose(self.columns, state, spot.ask, spot.site)
        if nodes is None or self.sight.quota_short(spot, nodes) or self.sight.contract_short(spot, nodes):
            return False
        stays = staying(self.sight, spot, nodes if among is None else among)
        return stays is None or stays.over_w <= stays_w

    def _roomy(self, state: Scratch, spot: Spot, nodes: I64) -> I64:
        """Those of ``nodes`` with room and power for a rank."""
        span = self.columns.spans[spot.site]
        nodes = nodes[has_room(self.columns, state, spot.ask, spot.site)[nodes - span.start]]
        added = increments_w(self.columns, state, spot.ask, nodes)
        return nodes[added <= path_head_w(self.columns, state, nodes)]

    def _room(self, spot: Spot, found: Candidates) -> Remedy | None:
        """As many nodes emptied as are missing, those first that have the least on them."""
        missing = spot.ask.nodes - len(found.roomy)
        return self._emptied(spot, np.setdiff1d(found.ready, found.roomy), missing, "")

    def _room_together(self, spot: Spot, found: Candidates) -> Remedy | None:
        """The group that lacks the fewest nodes."""
        wish = spot.ask.topology or Topology()
        if not wish.pack or wish.spread:
            return None
        groups = groups_of(self.columns, wish.pack, found.ready)
        roomy = np.isin(found.ready, found.roomy)
        numbers, where, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        free = np.bincount(where, weights=roomy, minlength=len(numbers)).astype(np.int64)
        missing = np.where(sizes >= spot.ask.nodes, spot.ask.nodes - free, 1 << 30)
        if not len(missing) or missing.min() >= 1 << 30:
            return None
        best = int(missing.argmin())
        busy = found.ready[(where == best) & ~roomy]
        return self._emptied(spot, busy, int(missing[best]), f" in one {wish.pack}")

    def _emptied(self, spot: Spot, busy: I64, missing: int, where: str) -> Remedy | None:
        columns = self.columns
        taken = columns.total[busy] - self.state.free[busy]
        some = busy[np.lexsort((busy, taken))][: max(missing, 0)]
        if not len(some):
            return None
        if not self._fits_in(spot, self._without_use(some)):
            return None
        text = f"if {count(len(some), 'more node')}{where} had it free"
        return Remedy("room", text, nodes=self._names(some))

    def _without_use(self, nodes: I64) -> Scratch:
        """The estate if nothing ran on some nodes."""
        columns, state = self.columns, self.state.copy()
        used = columns.total[nodes] - state.free[nodes]
        spared = used * columns.step_w[nodes] + np.where(state.ranks[nodes] > 0, columns.wake_w[nodes], 0)
        spared *= state.moves(nodes)
        for row in columns.paths:
            np.add.at(state.head_w, row[nodes], spared)
        state.bits[nodes], state.free[nodes] = columns.full[nodes], columns.total[nodes]
        state.cpu_milli[nodes], state.memory_mb[nodes] = columns.cpu_milli[nodes], columns.memory_mb[nodes]
        state.ranks[nodes] = 0
        if len(state.share_milli):
            state.share_milli[nodes], state.sharer[nodes] = 0, 0
        return state

    def _names(self, nodes: I64) -> tuple[NodeId, ...]:
        return tuple(self.snapshot.fleet.node_ids[node] for node in nodes.tolist())
