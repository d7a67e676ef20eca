"""Who waits and who holds what, and by brute force: could a workload be placed?

Everything is looked at again at every question: it is slow, short, and shares nothing with the planner's ranking.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from headrace.core.contracts import Contract
from headrace.core.estate import Site
from headrace.core.events import (
    Committed,
    EvictionRequested,
    NodeStateChanged,
    PlacementEnded,
    PlacementMade,
    PlacementStarted,
    StopRequested,
    WorkloadRefused,
    WorkloadRequeued,
    WorkloadSubmitted,
)
from headrace.core.workload import RankPlace, WorkloadSpec, WorkloadType
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.contract import in_force
from headrace.sim.checkers.law import allowed_countries
from headrace.sim.checkers.papers import Papers, Spot, draw_w, iso_day


@dataclass(slots=True)
class Waiting:
    """A workload that was submitted: who wants what, and not before when."""

    tenant: str
    spec: WorkloadSpec
    not_before_ms: int = 0


@dataclass(slots=True)
class Live:
    """A placement that has not ended."""

    workload: str
    tenant: str
    ranks: tuple[RankPlace, ...]
    started: bool = False
    stopping: bool = False


@dataclass(slots=True)
class Use:
    """What is taken on a node."""

    taken: int = 0
    mask: int = 0
    cpu_milli: int = 0
    memory_mb: int = 0
    ranks: int = 0
    leased: bool = False


FREE = Use()


@dataclass(frozen=True, slots=True)
class Regard:
    """What a question regards: what is taken on nodes, what draws power, and the state and date of nodes.

    ``plans``: nodes without a day count too, where dates are not regarded.
    """

    taken: bool = True
    power: bool = True
    state: bool = True
    plans: bool = False


class Occupancy(Checker):
    """The model that liveness and explanation ask; it finds nothing itself."""

    def __init__(self, papers: Papers | None = None) -> None:
        self.known: dict[str, Waiting] = {}
        self.queued: dict[str, Waiting] = {}
        self.refused: dict[str, str] = {}
        self.live: dict[str, Live] = {}
        self.node_state: dict[str, str] = {}
        self.now_ms = 0
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """What moves a workload in or out of the queue, and what opens or closes nodes."""
        return (
            (WorkloadSubmitted, self._submitted),
            (WorkloadRefused, self._refused),
            (PlacementMade, self._made),
            (PlacementStarted, self._started),
            (PlacementEnded, self._ended),
            (StopRequested, self._stop),
            (EvictionRequested, self._evict),
            (WorkloadRequeued, self._requeued),
            (NodeStateChanged, self._node),
        )

    def _submitted(self, committed: Committed, event: WorkloadSubmitted) -> None:
        self.now_ms = committed.at_ms
        self.known[event.workload] = self.queued[event.workload] = Waiting(event.tenant, event.spec)

    def _refused(self, committed: Committed, event: WorkloadRefused) -> None:
        self.now_ms = committed.at_ms
        self.queued.pop(event.workload, None)
        self.refused[event.workload] = event.refusal

    def _made(self, committed: Committed, event: PlacementMade) -> None:
        self.now_ms = committed.at_ms
        self.queued.pop(event.workload, None)
        self.live[event.placement] = Live(event.workload, event.tenant, event.ranks)

    def _started(self, _committed: Committed, event: PlacementStarted) -> None:
        if event.placement in self.live:
            self.live[event.placement].started = True

    def _ended(self, committed: Committed, event: PlacementEnded) -> None:
        self.now_ms = committed.at_ms
        self.live.pop(event.placement, None)

    def _stop(self, _committed: Committed, event: StopRequested) -> None:
        self.queued.pop(event.workload, None)
        for live in self.live.values():
            if live.workload == event.workload:
                live.stopping = True

    def _evict(self, _committed: Committed, event: EvictionRequested) -> None:
        if event.placement in self.live:
            self.live[event.placement].stopping = True

    def _requeued(self, committed: Committed, event: WorkloadRequeued) -> None:
        self.now_ms = committed.at_ms
        workload = self.known.get(event.workload)
        if workload is not None:
            workload.not_before_ms = event.not_before_ms
            self.queued[event.workload] = workload

    def _node(self, _committed: Committed, event: NodeStateChanged) -> None:
        self.node_state[event.node] = event.state

    def lawful(self, waiting: Waiting, site: Site) -> bool:
        """Whether its policy allows the site."""
        countries = allowed_countries(waiting.spec, self.papers, waiting.tenant)
        return site.country != "" and (countries is None or site.country in countries)

    def welcome(self, waiting: Waiting, site: Site) -> bool:
        """Whether the site is not another tenant's alone."""
        return site.dedicated_to in (None, waiting.tenant)

    def permitted(self, waiting: Waiting) -> list[Site]:
        """The sites that law and dedication leave it."""
        sites = self.papers.candidates(waiting.spec.site)
        return [site for site in sites if self.lawful(waiting, site) and self.welcome(waiting, site)]

    def covered(self, waiting: Waiting, site: Site, now_ms: int) -> bool:
        """Whether a contract surely covers it there now: one on demand, or one that holds enough beyond all in use."""
        spec, today = waiting.spec, self.papers.contract_day(now_ms)
        model = spec.resources.accelerator
        for contract in self.papers.contracts.values():
            fits = (
                contract.tenant == waiting.tenant
                and spec.contract in (None, contract.id)
                and contract.site in (None, site.id)
                and contract.model in ("", model)
                and in_force(contract, today)
                and self._is_priced(contract, model)
            )
            if fits and contract.kind != "reserved":
                return True
            # What is reserved is for those who name it.
            if fits and spec.contract == contract.id and self._left(waiting, site, contract.accelerators):
                return True
        return False

    def _is_priced(self, contract: Contract, model: str) -> bool:
        """What has no price in a contract's plan can't be sold under it; ranks without accelerators need none."""
        plan = self.papers.plans.get(contract.plan)
        if not model or plan is None:
            return True
        return model in plan.accelerator_micros_per_hour or "*" in plan.accelerator_micros_per_hour

    def _left(self, waiting: Waiting, site: Site, holds: int) -> bool:
        # Which contract pays for what is not asked here: all that the tenant has counts against each of them.
        spec = waiting.spec
        each = spec.resources.accelerators
        if spec.type is WorkloadType.CLUSTER:
            # Whole nodes, whatever it asks of each; which nodes is not asked here: the largest.
            spots = self.papers.ground.by_site.get(site.id, ())
            kinds = (spot.hardware for spot in spots)
            model = spec.resources.accelerator
            each = max((one.accelerators for one in kinds if model in ("", one.accelerator)), default=each)
        mine = (live for live in self.live.values() if live.tenant == waiting.tenant)
        taken = sum(rank.mask.bit_count() for live in mine for rank in live.ranks)
        return taken + spec.nodes * each <= holds

    def placeable(self, name: str, now_ms: int) -> Site | None:
        """A site where a queued workload could be placed now, on free nodes, within power; None when there is none."""
        waiting = self.queued.get(name)
        if waiting is None or waiting.not_before_ms > now_ms:
            return None
        for site in self.permitted(waiting):
            if self.covered(waiting, site, now_ms) and self.fits(waiting.spec, site, now_ms, Regard()):
                return site
        return None

    def fits(self, spec: WorkloadSpec, site: Site, now_ms: int, regard: Regard) -> bool:
        """Whether all its ranks find nodes at a site, regarding only what ``regard`` says.

        Taking the nodes that add the least draw first is the best that can be done: limits are nested, and each
        rank counts one.
        """
        uses = self._uses()
        today = iso_day(now_ms)
        options: list[tuple[int, str, Spot]] = []
        for spot in self.papers.ground.by_site.get(site.id, ()):
            use = uses.get(spot.node, FREE)
            if self._node_does(spec, spot, use if regard.taken else FREE, today, regard):
                options.append((_more_w(spec, spot, use), spot.node, spot))
        if not regard.power:
            return len(options) >= spec.nodes
        return self._powered(spec.nodes, sorted(options, key=lambda option: option[:2]), uses, today)

    def _node_does(self, spec: WorkloadSpec, spot: Spot, use: Use, today: str, regard: Regard) -> bool:
        hardware, asked = spot.hardware, spec.resources
        is_open = self.node_state.get(spot.node, "ready") == "ready" and spot.is_commissioned(today)
        if not (spot.from_day or regard.plans) or (regard.state and not is_open):
            return False
        if asked.accelerator and asked.accelerator != hardware.accelerator:
            return False
        if use.leased or (spec.type is WorkloadType.CLUSTER and use.ranks):
            return False
        return (
            asked.accelerators <= hardware.accelerators - use.mask.bit_count()
            and asked.cpu_milli <= hardware.cpu_milli - use.cpu_milli
            and asked.memory_mb <= hardware.memory_mb - use.memory_mb
        )

    def _powered(
        self, ranks: int, options: list[tuple[int, str, Spot]], uses: dict[str, Use], today: str
    ) -> bool:
        ground = self.papers.ground
        load_w = dict(ground.idle_w(today))
        for node, use in uses.items():
            spot = ground.spots.get(node)
            for element in () if spot is None else spot.path:
                more_w = draw_w(ground.spots[node].hardware, use.taken, use.ranks)
                load_w[element] = load_w.get(element, 0) + more_w - ground.spots[node].hardware.idle_w
        found = 0
        for more_w, _, spot in options:
            if found == ranks:
                break
            path = [element for element in spot.path if element in ground.limit_w]
            if all(load_w.get(element, 0) + more_w <= ground.limit_w[element] for element in path):
                found += 1
                for element in spot.path:
                    load_w[element] = load_w.get(element, 0) + more_w
        return found >= ranks

    def _uses(self) -> dict[str, Use]:
        uses: dict[str, Use] = {}
        for live in self.live.values():
            known = self.known.get(live.workload)
            leased = known is not None and known.spec.type is WorkloadType.CLUSTER
            for rank in live.ranks:
                use = uses.setdefault(rank.node, Use())
                use.taken += rank.mask.bit_count()
                use.mask |= rank.mask
                use.cpu_milli += rank.cpu_milli
                use.memory_mb += rank.memory_mb
                use.ranks += 1
                use.leased = use.leased or leased
        return uses


def _more_w(spec: WorkloadSpec, spot: Spot, use: Use) -> int:
    """What one more rank adds to the draw of a node."""
    whole = spec.type is WorkloadType.CLUSTER
    more = spot.hardware.accelerators if whole else spec.resources.accelerators
    before_w = draw_w(spot.hardware, use.taken, use.ranks)
    return draw_w(spot.hardware, use.taken + more, use.ranks + 1) - before_w
