"""The planner: one pass over the queue, from a snapshot to a plan. Pure and deterministic.

Workloads are taken by priority, then arrival; fillers after the others of their priority, since they would be
evicted for them again. Each is placed if it fits. If not, and what is leaving (or fillers that it may evict)
would make it fit, it waits for that on chosen nodes, and nothing of lower rank starts there or uses the power
that it will need. One that has waited for too long gets such nodes even if others must end first.

During a pass resources only shrink, so what did not fit once does not fit later: equal workloads share one
:class:`Shape`, and a pass costs about the number of shapes and what is placed, not the length of the queue.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from operator import attrgetter

import numpy as np

from headrace.core.contracts import Contract
from headrace.core.fleet import I64
from headrace.core.scheduling.leaving import (
    Departures,
    Fit,
    Holder,
    Horizon,
    fewest,
    holder_of,
    horizon_of,
    release,
)
from headrace.core.scheduling.memory import Memory
from headrace.core.scheduling.pools import Sieve, SitePools, Undecided
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.scheduling.queue import Line, Queue
from headrace.core.scheduling.rank import (
    Ask,
    Columns,
    Mask,
    Scratch,
    Use,
    accelerators_of,
    ask_of,
    choose,
    columns_of,
    increments_w,
    path_need_w,
    scratch_of,
    shift,
    site_order,
    site_refusal,
    suiting,
)
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.units import MS_PER_MINUTE
from headrace.core.workload import RankPlace, Workload, WorkloadType


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """Bounds of one pass.

    At most ``max_placements`` are placed, at most ``max_reservations`` workloads wait for what leaves or is
    evicted. A workload that has waited for ``starve_after_ms`` holds nodes against lower ranks until it fits
    there; at most ``max_barriers`` do.
    """

    max_placements: int = 10_000
    max_reservations: int = 256
    starve_after_ms: int = 10 * MS_PER_MINUTE
    max_barriers: int = 4


DEFAULT_LIMITS = PlanLimits()
_arrival = attrgetter("submitted_seq")
_NO_CAP_W = 1 << 60

Nodes = I64 | Sequence[int]


@dataclass(slots=True)
class Known:
    """What is known in this pass of all that ask for the same; sites are numbers.

    ``suit``: nodes of a site with the hardware; a site with too few of them has none. ``sieves``: who failed at a site.
    ``full``: sites where it doesn't fit now. ``ever``: reservations that there were when it would still have fitted
    if all left; -1: it would not have.
    """

    ask: Ask
    suit: dict[int, Mask]
    sieves: dict[int, dict[int, Sieve]] = field(default_factory=dict)
    full: set[int] = field(default_factory=set)
    ever: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Shape:
    """What equal workloads have in common, and what is known of them in this pass.

    ``sites`` are those where it may still fit, in order of preference; ``allowed`` all where law, contract and hardware
    let it. ``hopeless``: not even what leaves or could be evicted would do. ``barred``: it has had its try at
    a barrier.
    """

    known: Known
    kind: WorkloadType
    allowed: dict[int, Contract]
    sites: list[int] = field(default_factory=list)
    hopeless: bool = False
    barred: bool = False

    @property
    def ask(self) -> Ask:
        """What placing needs to know of them."""
        return self.known.ask


@dataclass(slots=True)
class Waiting:
    """Alike workloads in order of arrival, and how many of them had their turn."""

    shape: Shape
    members: list[Workload]
    turn: int = 0


def again_ms(snapshot: Snapshot, limits: PlanLimits = DEFAULT_LIMITS) -> int | None:
    """When time alone may next change the plan: a back-off ends, or somebody has waited for too long; None: never.

    Days begin too, for contracts and commissioning: who asks looks again at least now and then.
    """
    times = []
    for workload in snapshot.queue:
        if workload.not_before_ms > snapshot.now_ms:
            times.append(workload.not_before_ms)
        starving_ms = _waits_since_ms(workload) + limits.starve_after_ms + 1
        if starving_ms > snapshot.now_ms:
            times.append(starving_ms)
    return min(times, default=None)


def _waits_since_ms(workload: Workload) -> int:
    return max(workload.submitted_ms, workload.since_ms, workload.not_before_ms)


def plan(snapshot: Snapshot, limits: PlanLimits = DEFAULT_LIMITS) -> Plan:
    """What to place and what to evict now, given ``snapshot``, which is not changed."""
    return _Pass(snapshot, limits).run()


def _uses(nodes: Sequence[int], ranks: Sequence[RankPlace]) -> list[Use]:
    return [Use(node, *rank[1:]) for node, rank in zip(nodes, ranks, strict=True)]


class _Pass:
    def __init__(self, snapshot: Snapshot, limits: PlanLimits) -> None:
        self.snapshot, self.limits = snapshot, limits
        self.columns: Columns = columns_of(snapshot.fleet)
        self.order = site_order(snapshot.fleet)
        self.state: Scratch = scratch_of(snapshot, self.columns)
        self.owed: list[tuple[Sequence[int], Sequence[RankPlace]]] = []
        """What was placed and is not yet taken from ``state``."""
        self.pools: dict[int, SitePools] = {}
        self.soon: Scratch | None = None
        self.shapes: dict[tuple[object, ...], Shape] = {}
        self.memory = snapshot.memory or Memory()
        self.touched: set[int] = set()
        """Sites that are no longer as the snapshot shows them."""
        self.known: dict[Ask, Known] = {}
        self.holders: list[Holder] | None = None
        self.fillers: dict[int, list[Holder]] = {}
        self.leaving: set[int] = set()
        self.evicted: dict[str, Holder] = {}
        self.placements: list[ProposedPlacement] = []
        self.evictions: list[Eviction] = []
        self.reservations = 0
        self.barriers = 0
        self.cap_w: I64 | None = None
        """Behind a barrier: what lower ranks may use of each element, whoever leaves."""
        self.best_cases: dict[int, Scratch] = {}

    def run(self) -> Plan:
        now_ms, most = self.snapshot.now_ms, self.limits.max_placements
        heap: list[tuple[int, bool, int, int]] = []
        lines: list[Waiting] = []
        for line, members in self.lines():
            waiting = Waiting(self.shape(line, members[0]), members)
            heap.append(
                (-line.priority, line.type is WorkloadType.FILLER, members[0].submitted_seq, len(lines))
            )
            lines.append(waiting)
        heapify(heap)
        while heap and len(self.placements) < most:
            before, late, _, number = heap[0]
            waiting = lines[number]
            workload, shape = waiting.members[waiting.turn], waiting.shape
            waiting.turn += 1
            if workload.not_before_ms <= now_ms and not (shape.sites and self.start(workload, shape)):
                if late or not shape.allowed:
                    waiting.turn = len(waiting.members)
                else:
                    self.wait(workload, shape)
                    if self.is_over(waiting):
                        waiting.turn = len(waiting.members)
            if waiting.turn < len(waiting.members):
                heapreplace(heap, (before, late, waiting.members[waiting.turn].submitted_seq, number))
            else:
                heappop(heap)
        return Plan(self.snapshot.version, tuple(self.placements), tuple(self.evictions))

    def lines(self) -> Iterator[tuple[Line, list[Workload]]]:
        """Lines of alike workloads, each in order of arrival: a requeued one keeps the place that it had."""
        queue = self.snapshot.waiting
        if queue is None:
            queue = Queue(self.snapshot.queue)
        for line, members in queue.lines.items():
            yield line, sorted(members.values(), key=_arrival)

    def is_over(self, waiting: Waiting) -> bool:
        """Whether nothing comes of the rest of a line: none can start, nor wait for chosen nodes."""
        shape = waiting.shape
        if shape.sites or not (shape.hopeless or self.reservations >= self.limits.max_reservations):
            return False
        if shape.barred or self.barriers >= self.limits.max_barriers:
            return True
        return not any(self.starves(workload) for workload in waiting.members[waiting.turn :])

    def starves(self, workload: Workload) -> bool:
        """Whether it has waited for so long that it may hold nodes against lower ranks."""
        return self.snapshot.now_ms - _waits_since_ms(workload) > self.limits.starve_after_ms

    def shape(self, line: Line, workload: Workload) -> Shape:
        spec = workload.spec
        key = line[1:]
        shape = self.shapes.get(key)
        if shape is None:
            ask = ask_of(spec)
            known = self.known.get(ask)
            if known is None:
                known = self.known[ask] = self.recall(ask)
            suit = known.suit
            allowed = {site: paid for site, paid in self.allowed_sites(workload).items() if site in suit}
            shape = Shape(known, spec.type, allowed, list(allowed) if spec.nodes > 0 else [])
            self.shapes[key] = shape
        return shape

    def recall(self, ask: Ask) -> Known:
        """What earlier passes found of an ask, and still holds."""
        known = Known(ask, suiting(self.columns, ask))
        for site in known.suit:
            remembered = self.memory.sites.get(site)
            if remembered is None:
                continue
            if ask in remembered.full:
                known.full.add(site)
            if ask in remembered.never:
                known.ever[site] = -1
        return known

    def allowed_sites(self, workload: Workload) -> dict[int, Contract]:
        """Sites where law and contract let a workload, in order of preference, with what pays for it there."""
        spec, tenant = workload.spec, workload.tenant
        key = (tenant, spec.policy, spec.site, spec.contract, spec.resources.accelerator)
        allowed = self.memory.allowed.get(key)
        if allowed is None:
            allowed = self.memory.allowed[key] = {}
            for site in self.order:
                if spec.site is None or self.snapshot.fleet.sites[site].id == spec.site:
                    _, contract = site_refusal(self.snapshot, tenant, spec, site)
                    if contract is not None:
                        allowed[site] = contract
        return allowed

    @property
    def now(self) -> Scratch:
        """The present: the snapshot with what was placed since."""
        if self.owed:
            uses = [use for nodes, ranks in self.owed for use in _uses(nodes, ranks)]
            shift(self.columns, self.state, uses, -1)
            self.owed.clear()
        return self.state

    def choose_now(self, shape: Shape, site: int) -> Sequence[int] | None:
        """The nodes that it gets at a site now, ascending; None if no choice would do."""
        pools = self.pools.get(site)
        if pools is None:
            pools = self.pools[site] = SitePools(self.columns, self.now, site)
        known = shape.known
        sieves = known.sieves.get(site)
        if sieves is None:
            sieves = known.sieves[site] = {}
        found = pools.choose(known.ask, sieves)
        if not isinstance(found, Undecided):
            return found
        nodes = self.choose(shape, site, self.now)
        return None if nodes is None else nodes.tolist()

    def choose(self, shape: Shape, site: int, state: Scratch) -> I64 | None:
        known = shape.known
        return choose(self.columns, state, known.ask, site, known.suit[site])

    def fit(self, shape: Shape, site: int) -> Fit:
        """Where a shape fits at a site, by nodes, power and contract."""

        def nodes_in(state: Scratch) -> I64 | None:
            nodes = self.choose(shape, site, self.capped(state))
            return nodes if nodes is not None and self.covers(shape, site, nodes, state) else None

        return nodes_in

    def capped(self, state: Scratch) -> Scratch:
        """The state with no more power in it than those who wait already leave."""
        if self.cap_w is None:
            return state
        return state.with_head(np.minimum(state.head_w, self.cap_w))

    def covers(self, shape: Shape, site: int, nodes: Nodes, state: Scratch) -> bool:
        """Whether what its contract reserves is enough for it, beside what is held of it."""
        contract = shape.allowed[site]
        if contract.kind != "reserved":
            return True
        return (
            state.held.get(contract.id, 0) + accelerators_of(self.columns, shape.ask, nodes)
            <= contract.accelerators
        )

    def start(self, workload: Workload, shape: Shape) -> bool:
        """Place it at the first site where it fits; sites where it doesn't are not asked again in this pass."""
        while shape.sites:
            site = shape.sites[0]
            nodes = None if site in shape.known.full else self.choose_now(shape, site)
            if nodes is None and site not in shape.known.full:
                shape.known.full.add(site)
                if site not in self.touched:
                    self.memory.at(site).full.add(shape.ask)
            if (
                nodes is None
                or not self.covers(shape, site, nodes, self.state)
                or not self.spares(shape.ask, nodes)
            ):
                shape.sites.pop(0)
                continue
            ranks = self.pools[site].take(shape.ask, nodes)
            self.owed.append((nodes, ranks))
            self.touched.add(site)
            self.hold_contract(shape, site, nodes, self.state)
            if self.soon is not None:
                uses = _uses(nodes, ranks)
                shift(self.columns, self.soon, uses, -1)
                self.hold_contract(shape, site, nodes, self.soon)
                if site in self.best_cases:
                    shift(self.columns, self.best_cases[site], uses, -1)
            ident = self.snapshot.fleet.sites[site].id
            self.placements.append(ProposedPlacement(workload.id, ident, ranks))
            return True
        return False

    def spares(self, ask: Ask, chosen: Sequence[int]) -> bool:
        """Whether it leaves the power that is kept for those who wait, also once what they wait for has left.

        A node that would sleep then is kept awake by whoever starts on it now: that is more than what it adds today.
        """
        if self.soon is None or not (self.reservations or self.barriers):
            return True
        nodes = np.array(chosen, dtype=np.int64)
        elements, need = path_need_w(self.columns, nodes, increments_w(self.columns, self.soon, ask, nodes))
        if (self.capped(self.soon).head_w[elements] < need).any():
            return False
        if self.cap_w is not None:
            self.cap_w[elements] -= need
        return True

    def hold_contract(self, shape: Shape, site: int, nodes: Nodes, state: Scratch) -> None:
        if shape.allowed[site].kind != "reserved":
            return
        contract = shape.allowed[site].id
        state.held[contract] = state.held.get(contract, 0) + accelerators_of(self.columns, shape.ask, nodes)

    def wait(self, workload: Workload, shape: Shape) -> None:
        """Let it wait for what leaves, for fillers that it evicts, or, if it starves, behind a barrier."""
        if not shape.hopeless and self.reservations < self.limits.max_reservations:
            found = self.find_soon(workload, shape)
            if found is not None:
                self.reserve(workload, shape, *found)
                self.reservations += 1
                return
            shape.hopeless = True
        if shape.barred or self.barriers >= self.limits.max_barriers or not self.starves(workload):
            return
        shape.barred = True
        found = self.find_later(workload, shape)
        if found is not None:
            self.reserve(workload, shape, *found)
            self.barriers += 1

    def soon_state(self) -> Scratch:
        """The present, with everything that is already being stopped gone, and what waits for it in its place."""
        if self.soon is None:
            self.soon = self.now.copy()
            gone = []
            for placement in self.snapshot.placements.values():
                workload = self.snapshot.workloads.get(placement.workload)
                filler = workload is not None and workload.spec.type is WorkloadType.FILLER
                if placement.stop_reason is None and not filler:
                    continue
                holder = holder_of(self.snapshot, placement)
                if holder is None:
                    continue
                if placement.stop_reason is not None:
                    gone.append(holder)
                    self.leaving.add(holder.site)
                else:
                    self.fillers.setdefault(holder.site, []).append(holder)
            release(self.columns, self.soon, gone)
        return self.soon

    @property
    def reserved(self) -> int:
        """How many wait for chosen nodes so far."""
        return self.reservations + self.barriers

    def find_soon(self, workload: Workload, shape: Shape) -> tuple[int, Horizon] | None:
        """The site where what is leaving suffices, or else that where the fewest fillers need be evicted."""
        state = self.soon_state()
        best: tuple[int, Horizon] | None = None
        for site in shape.allowed:
            if not (self.leaving or self.evicted) or shape.known.ever.get(site) == -1:
                continue
            nodes = self.fit(shape, site)(state)
            if nodes is not None:
                return site, Horizon((), nodes)
        for site in shape.allowed:
            victims = [
                holder
                for holder in self.fillers.get(site, ())
                if holder.placement.id not in self.evicted and holder.may_be_evicted_for(workload)
            ]
            if not victims or not self.may_ever(shape, site):
                continue
            departures = Departures(self.columns, state, self.fit(shape, site))
            found = fewest(departures, shape.ask, site, victims)
            departures.reset()
            if found is not None and (best is None or found.cost < best[1].cost):
                best = site, found
        return best

    def may_ever(self, shape: Shape, site: int) -> bool:
        """Whether it would fit at a site if all left that could be evicted by anybody, or that end by themselves.

        Most that wait would not, and this costs one look where trying who leaves costs dozens. Later in the pass
        there is only less room than this, so that the answer is at worst too hopeful.
        """
        known = shape.known.ever.get(site)
        if known is not None and (known < 0 or known == self.reserved):
            return known >= 0
        best = self.best_cases.get(site)
        if best is None:
            best = self.best_cases[site] = self.soon_state().copy()
            leaving = [one for one in self.staying() if one.site == site and one.may_leave]
            release(self.columns, best, leaving)
        fits = self.choose(shape, site, self.capped(best)) is not None
        shape.known.ever[site] = self.reserved if fits else -1
        if not fits and site not in self.touched:
            self.memory.at(site).never.add(shape.ask)
        return fits

    def find_later(self, workload: Workload, shape: Shape) -> tuple[int, Horizon] | None:
        """The site and the nodes where a starving workload can run soonest."""
        state = self.soon_state()
        best: tuple[int, Horizon] | None = None
        best_key: tuple[object, ...] = ()
        for site, contract in shape.allowed.items():
            if not self.may_ever(shape, site):
                continue
            holders = [
                holder
                for holder in self.staying()
                if holder.site == site or (contract.kind == "reserved" and holder.contract == contract.id)
            ]
            departures = Departures(self.columns, state, self.fit(shape, site))
            found = horizon_of(departures, workload, holders)
            departures.reset()
            if found is None:
                continue
            evicted = [holder for holder in found.holders if holder.may_be_evicted_for(workload)]
            ends = [
                holder.end or (0, 0) for holder in found.holders if not holder.may_be_evicted_for(workload)
            ]
            key = (max(ends, default=(0, 0)), len(evicted))
            if best is None or key < best_key:
                best, best_key = (site, found), key
        return best

    def staying(self) -> Iterator[Holder]:
        """Live placements that nobody has told to stop yet."""
        if self.holders is None:
            found = (holder_of(self.snapshot, placement) for placement in self.snapshot.placements.values())
            self.holders = [
                holder for holder in found if holder is not None and holder.placement.stop_reason is None
            ]
        return (holder for holder in self.holders if holder.placement.id not in self.evicted)

    def reserve(self, workload: Workload, shape: Shape, site: int, horizon: Horizon) -> None:
        """Keep the nodes of ``horizon``, and the power that they will need, from everything of lower rank."""
        state, nodes = self.soon_state(), horizon.nodes
        self.touched.add(site)
        departures = Departures(self.columns, state, self.fit(shape, site))
        departures.leave(horizon.holders)
        added = increments_w(self.columns, state, shape.ask, nodes)
        elements, need = path_need_w(self.columns, nodes, added)
        slack = self.capped(state).head_w[elements] - need
        departures.reset()
        victims = [holder for holder in horizon.holders if holder.may_be_evicted_for(workload)]
        if len(victims) == len(horizon.holders):
            release(self.columns, state, victims)
            for holder in victims:
                self.evicted[holder.placement.id] = holder
                self.evictions.append(Eviction(holder.placement.id, workload.id))
            state.head_w[elements] -= need
            if site in self.best_cases:
                self.best_cases[site].head_w[elements] -= need
        else:
            # Others must end first: evicted now, a filler would only start again until they have. Meanwhile nobody
            # of lower rank counts on more than what is left beside it, whoever leaves.
            if self.cap_w is None:
                self.cap_w = np.full_like(state.head_w, _NO_CAP_W)
            self.cap_w[elements] = np.minimum(self.cap_w[elements], slack)
        # Lower ranks may use what is left beside it both now and once it runs.
        now = self.now
        now.head_w[elements] = np.minimum(now.head_w[elements], slack)
        for scratch in (now, state):
            scratch.open[nodes] = False
            self.hold_contract(shape, site, nodes, scratch)
        if site in self.pools:
            self.pools[site].limit(elements.tolist(), now)
            self.pools[site].close(nodes.tolist())
        if site in self.best_cases:
            self.best_cases[site].open[nodes] = False
