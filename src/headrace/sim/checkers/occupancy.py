"""Who waits and who holds what, and by brute force: could a workload be placed?

Everything is looked at again at every question: it is slow, short, and shares nothing with the planner's ranking.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from headrace.core.contracts import Contract, Maintenance, Reservation
from headrace.core.estate import Site
from headrace.core.events import (
    CapsLifted,
    CapsObserved,
    CapsOrdered,
    Committed,
    DocumentRemoved,
    EngineDeclared,
    EvictionRequested,
    ExcessMeasured,
    NodeIntruded,
    NodesReserved,
    NodeStateChanged,
    PlacementEnded,
    PlacementMade,
    PlacementStarted,
    StopRequested,
    WorkloadRefused,
    WorkloadRequeued,
    WorkloadSubmitted,
)
from headrace.core.hardware import HardwareType
from headrace.core.observation import Capabilities
from headrace.core.units import PERMILLE
from headrace.core.workload import Flex, RankPlace, WorkloadSpec, WorkloadType
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.caps import Caps
from headrace.sim.checkers.contract import in_force
from headrace.sim.checkers.papers import Papers, Spot, draw_w, iso_day
from headrace.sim.checkers.quiet import loads_w
from headrace.sim.checkers.wishes import (
    WHOLE,
    due_milli,
    each_bit,
    held_milli,
    limits_milli,
    what_lacks,
    would_do,
)


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
    contract: str = ""
    started: bool = False
    stopping: bool = False


@dataclass(slots=True)
class Use:
    """What is taken on a node; of each accelerator that is shared, whose parts and how many thousandths."""

    mask: int = 0
    parts: dict[int, tuple[str, int]] = field(default_factory=dict)
    cpu_milli: int = 0
    memory_mb: int = 0
    ranks: int = 0
    leased: bool = False

    def free(self, hardware: HardwareType) -> int:
        """Accelerators that nobody has any part of."""
        return hardware.accelerators - self.mask.bit_count()

    def has_part(self, tenant: str, milli: int) -> bool:
        """Whether a tenant's own accelerator has so many thousandths left."""
        return any(whose == tenant and taken + milli <= WHOLE for whose, taken in self.parts.values())


FREE = Use()


@dataclass(frozen=True, slots=True)
class Regard:
    """What a question regards: what is taken on nodes, what draws power, the state and date of nodes, where they stand.

    ``plans``: nodes without a day count too, where dates are not regarded. ``windows``: what is kept for a time.
    """

    taken: bool = True
    power: bool = True
    state: bool = True
    topology: bool = True
    plans: bool = False
    windows: bool = True


class Occupancy(Checker):
    """The model that liveness and explanation ask; it finds nothing itself."""

    def __init__(self, papers: Papers | None = None) -> None:
        self.known: dict[str, Waiting] = {}
        self.queued: dict[str, Waiting] = {}
        self.refused: dict[str, str] = {}
        self.live: dict[str, Live] = {}
        self.node_state: dict[str, str] = {}
        self.intruders: dict[str, None] = {}
        self.engines: dict[str, Capabilities] = {}
        self.caps = Caps()
        self.reserved: dict[str, tuple[str, ...]] = {}
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
            (NodeIntruded, self._intruded),
            (EngineDeclared, self._declared),
            (NodesReserved, self._reserve),
            (DocumentRemoved, self._removed),
            (CapsOrdered, self._cap),
            (CapsObserved, self._confirm),
            (CapsLifted, self._uncap),
            (ExcessMeasured, self._measured),
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
        self.live[event.placement] = Live(event.workload, event.tenant, event.ranks, event.contract)

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

    def _intruded(self, _committed: Committed, event: NodeIntruded) -> None:
        if event.who:
            self.intruders[event.node] = None
        else:
            self.intruders.pop(event.node, None)

    def _declared(self, _committed: Committed, event: EngineDeclared) -> None:
        self.engines[event.engine] = event.capabilities

    def _cap(self, committed: Committed, event: CapsOrdered) -> None:
        self.caps.ordered(event, committed.at_ms)

    def _confirm(self, _committed: Committed, event: CapsObserved) -> None:
        self.caps.observed(event)

    def _uncap(self, _committed: Committed, event: CapsLifted) -> None:
        self.caps.lifted(event)

    def _measured(self, _committed: Committed, event: ExcessMeasured) -> None:
        self.caps.measured(event)

    def _reserve(self, _committed: Committed, event: NodesReserved) -> None:
        self.reserved[event.reservation] = event.nodes

    def _removed(self, _committed: Committed, event: DocumentRemoved) -> None:
        if event.kind == "reservation":
            self.reserved.pop(event.name, None)

    def kept(self, window: Reservation | Maintenance) -> frozenset[str]:
        """The nodes that a window has, of those that there are."""
        spots = self.papers.ground.spots
        if isinstance(window, Reservation):
            return frozenset(node for node in self.reserved.get(window.id, ()) if node in spots)
        return frozenset(
            spot.node
            for spot in self.papers.ground.by_site.get(window.site, ())
            if not window.parts or any(part in (spot.node, *spot.path) for part in window.parts)
        )

    def is_kept_from(self, waiting: Waiting, node: str, now_ms: int) -> bool:
        """Whether a window that is not over may keep a node from it, or it names one that does not give it the node now."""
        papers, named = self.papers, waiting.spec.reservation
        if named is not None:
            own = papers.reservations.get(named)
            if own is None or not own.starts_ms <= now_ms < own.ends_ms or node not in self.kept(own):
                return True
        others: list[Reservation | Maintenance] = [
            *papers.reservations.values(),
            *papers.maintenances.values(),
        ]
        return any(now_ms < one.ends_ms and one.id != named and node in self.kept(one) for one in others)

    def is_near_window(self, waiting: Waiting, site: Site, now_ms: int) -> bool:
        """Whether a window at a site that is not over may keep nodes or power from it."""
        windows: list[Reservation | Maintenance] = [
            *self.papers.reservations.values(),
            *self.papers.maintenances.values(),
        ]
        return any(
            one.site == site.id and now_ms < one.ends_ms and waiting.spec.reservation != one.id
            for one in windows
        )

    def lawful(self, waiting: Waiting, site: Site) -> bool:
        """Whether its policy allows the site, as things are."""
        return self.papers.allows(waiting.spec.policy, waiting.tenant, site)

    def welcome(self, waiting: Waiting, site: Site) -> bool:
        """Whether the site is not another tenant's alone."""
        return site.dedicated_to in (None, waiting.tenant)

    def permitted(self, waiting: Waiting) -> list[Site]:
        """The sites that law and dedication leave it."""
        sites = self.papers.candidates(waiting.spec.site)
        return [site for site in sites if self.lawful(waiting, site) and self.welcome(waiting, site)]

    def able(self, waiting: Waiting, site: Site) -> bool:
        """Whether the site's engine can do what it asks for."""
        return not what_lacks(self.engines.get(site.engine), waiting.tenant, waiting.spec)

    def covered(self, waiting: Waiting, site: Site, now_ms: int) -> bool:
        """Whether a contract surely pays there now for something that would do."""
        return any(self._paid(waiting, option, site, now_ms) for option in would_do(waiting.spec))

    def _paid(self, waiting: Waiting, option: tuple[str, int], site: Site, now_ms: int) -> bool:
        """By a contract on demand; or by one that is named, and holds enough beyond all in use."""
        spec, today, (model, count) = waiting.spec, self.papers.contract_day(now_ms), option
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
            if fits and contract.kind == "reserved" and spec.contract == contract.id:
                # Which contract pays for what is not asked here: all that the tenant has counts against each of them.
                mine = (live for live in self.live.values() if live.tenant == waiting.tenant)
                taken = sum(held_milli(live.ranks) for live in mine)
                if taken + self._most_milli(waiting, model, count, site) <= contract.accelerators * WHOLE:
                    return True
        return False

    def _is_priced(self, contract: Contract, model: str) -> bool:
        """What has no price in a contract's plan can't be sold under it; ranks without accelerators need none."""
        plan = self.papers.plans.get(contract.plan)
        if not model or plan is None:
            return True
        return model in plan.accelerator_micros_per_hour or "*" in plan.accelerator_micros_per_hour

    def _most_milli(self, waiting: Waiting, model: str, count: int, site: Site) -> int:
        """Thousandths of accelerators that the fewest of its ranks take; whole nodes of a cluster: the largest ones."""
        spec = waiting.spec
        if spec.type is WorkloadType.CLUSTER:
            kinds = (spot.hardware for spot in self.papers.ground.by_site.get(site.id, ()))
            count = max((one.accelerators for one in kinds if model in ("", one.accelerator)), default=count)
        return spec.nodes * due_milli(spec, count)

    def is_within_quotas(self, waiting: Waiting, option: tuple[str, int], site: Site) -> bool:
        """Whether it surely stays within what its tenant and project may have; what a contract reserves is beside that."""
        tenant, project = waiting.tenant, str(waiting.spec.project)
        limits = limits_milli(self.papers, tenant, project)
        more = self._most_milli(waiting, *option, site)
        named = self.papers.contracts.get(waiting.spec.contract or "")
        if limits == (None, None) or not more or (named is not None and named.kind == "reserved"):
            return True
        whole = part = more
        for live in self.live.values():
            contract = self.papers.contracts.get(live.contract)
            if live.tenant == tenant and (contract is None or contract.kind != "reserved"):
                whole += held_milli(live.ranks)
                known = self.known.get(live.workload)
                if known is not None and known.spec.project == project:
                    part += held_milli(live.ranks)
        return all(most is None or has <= most for has, most in zip((whole, part), limits, strict=True))

    def placeable(self, name: str, now_ms: int) -> Site | None:
        """A site where a queued workload could be placed now, on free nodes, within power; None when there is none."""
        waiting = self.queued.get(name)
        if waiting is None or waiting.not_before_ms > now_ms:
            return None
        for site in self.permitted(waiting):
            if not self.able(waiting, site):
                continue
            for option in would_do(waiting.spec):
                if (
                    self._paid(waiting, option, site, now_ms)
                    and self.is_within_quotas(waiting, option, site)
                    and not (waiting.spec.reservation is None and self.is_near_window(waiting, site, now_ms))
                    # What is reserved has its power: that others draw it is no excuse, unless strangers do.
                    and self._fits(
                        waiting,
                        option,
                        site,
                        now_ms,
                        Regard(
                            power=waiting.spec.reservation is None
                            or bool(self.intruders)
                            or bool(self.caps.excess)
                        ),
                    )
                    and self.leaves_firm(waiting, option, site, now_ms)
                ):
                    return site
        return None

    def leaves_firm(self, waiting: Waiting, option: tuple[str, int], site: Site, now_ms: int) -> bool:
        """Whether what can't be shed there stays within the firm part of its connection, on whichever of the nodes that would do.

        The flexible part may be asked back at any time. Always, where there is none.
        """
        line, spec, today = site.connection, waiting.spec, iso_day(now_ms)
        if not line.flexible_w:
            return True
        uses, spots = self._uses(), self.papers.ground.spots
        here = [
            (rank, self._how_shed(known.spec, site))
            for live in self.live.values()
            if (known := self.known.get(live.workload)) is not None
            for rank in live.ranks
            if rank.node in spots and spots[rank.node].site == site.id
        ]
        found = sorted(
            (
                (_more_w(waiting, option[1], spot, use), spot.node, spot)
                for spot in self.papers.ground.by_site.get(site.id, ())
                for use in [uses.get(spot.node, FREE)]
                if self._node_does(waiting, option, spot, use, today, Regard())
            ),
            key=lambda one: one[0],
            # Nodes that must stand in a certain way may be any of them: sure is only what the dearest allow.
            reverse=spec.topology is not None and spec.topology.required,
        )
        # What its rack can't carry is no way of waking few.
        chosen = [one for one in found if self._powered(1, [one], "", uses, today)][: spec.nodes]
        if not self._powered(spec.nodes, chosen, "", uses, today):
            return False
        # Whoever comes has its accelerators beside all that are taken; whole nodes of a cluster are empty.
        more = [
            (RankPlace(spot.node, self._free_mask(waiting, option[1], spot, uses), 0, 0), how)
            for how in [self._how_shed(spec, site)]
            for _, _, spot in chosen
        ]
        ranks = [(rank, how == "quiet") for rank, how in (*here, *more) if how != "gone"]
        ground, excess_w = self.papers.ground, self.caps.excess
        loads = loads_w(ground, site.id, today, ranks, self.intruders, excess_w=excess_w)
        fixed_w = loads.get(site.id, 0)
        return fixed_w <= line.firm_w * PERMILLE // max(1, site.pue_permille)

    def _free_mask(self, waiting: Waiting, count: int, spot: Spot, uses: dict[str, Use]) -> int:
        if waiting.spec.type is WorkloadType.CLUSTER:
            count = spot.hardware.accelerators
        free = [
            bit for bit in range(spot.hardware.accelerators) if not uses.get(spot.node, FREE).mask >> bit & 1
        ]
        return sum(1 << bit for bit in free[:count])

    def _how_shed(self, spec: WorkloadSpec, site: Site) -> str:
        """What the grid leaves of it: all ("stays"), the node without its accelerators ("quiet"), or nothing ("gone")."""
        engine = self.engines.get(site.engine)
        if spec.type is WorkloadType.FILLER or spec.flex is Flex.PREEMPTIBLE:
            return "gone"
        if spec.flex is not Flex.PAUSABLE:
            return "stays"
        if engine is not None and engine.pause_sheds:
            return "quiet"
        return "gone" if spec.checkpoint_ms else "stays"

    def fits(self, waiting: Waiting, site: Site, now_ms: int, regard: Regard) -> bool:
        """Whether all its ranks find nodes at a site, for any of what would do, regarding only what ``regard`` says."""
        return any(self._fits(waiting, option, site, now_ms, regard) for option in would_do(waiting.spec))

    def _fits(
        self, waiting: Waiting, option: tuple[str, int], site: Site, now_ms: int, regard: Regard
    ) -> bool:
        """Whether all its ranks find nodes for one of what would do.

        Taking the nodes that add the least draw first is the best that can be done: limits are nested, and each
        rank counts one.
        """
        uses = self._uses()
        today = iso_day(now_ms)
        found: list[tuple[int, str, Spot]] = []
        for spot in self.papers.ground.by_site.get(site.id, ()):
            use = uses.get(spot.node, FREE)
            if regard.windows and self.is_kept_from(waiting, spot.node, now_ms):
                continue
            if self._node_does(waiting, option, spot, use if regard.taken else FREE, today, regard):
                found.append((_more_w(waiting, option[1], spot, use), spot.node, spot))
        found.sort(key=lambda one: one[:2])
        wish = waiting.spec.topology if regard.topology else None
        together: dict[str, list[tuple[int, str, Spot]]] = {"": found}
        if wish is not None and wish.required and wish.pack:
            together = {}
            for one in found:
                together.setdefault(one[2].among(wish.pack), []).append(one)
        apart = wish.spread if wish is not None and wish.required else ""
        return any(
            self._powered(waiting.spec.nodes, group, apart, uses if regard.power else None, today)
            for group in together.values()
        )

    def _node_does(
        self, waiting: Waiting, option: tuple[str, int], spot: Spot, use: Use, today: str, regard: Regard
    ) -> bool:
        hardware, spec, (model, count) = spot.hardware, waiting.spec, option
        asked = spec.resources
        is_ready = self.node_state.get(spot.node, "ready") == "ready" and spot.node not in self.intruders
        is_open = is_ready and spot.is_commissioned(today) and not self.caps.is_closed(spot.node)
        if not (spot.from_day or regard.plans) or (regard.state and not is_open):
            return False
        if model not in ("", hardware.accelerator):
            return False
        if use.leased or (spec.type is WorkloadType.CLUSTER and use.ranks):
            return False
        if (count or spec.type is WorkloadType.CLUSTER) and (
            hardware.accelerator_memory_mb < asked.accelerator_memory_mb
        ):
            return False
        is_part = asked.share_milli < WHOLE and use.has_part(waiting.tenant, asked.share_milli)
        return (
            (count <= use.free(hardware) or is_part)
            and asked.cpu_milli <= hardware.cpu_milli - use.cpu_milli
            and asked.memory_mb <= hardware.memory_mb - use.memory_mb
        )

    def _powered(
        self,
        ranks: int,
        options: list[tuple[int, str, Spot]],
        apart: str,
        uses: dict[str, Use] | None,
        today: str,
    ) -> bool:
        """Whether so many of some nodes, each in another group of the level ``apart``, can be powered (without ``uses``: all)."""
        ground = self.papers.ground
        load_w = {} if uses is None else self._load_w(uses, today)
        found, groups = 0, set[str]()
        for more_w, node, spot in options:
            if found == ranks:
                break
            group = spot.among(apart) if apart else node
            path = [element for element in spot.path if element in ground.limit_w]
            if group in groups or not (
                uses is None
                or all(load_w.get(element, 0) + more_w <= ground.limit_w[element] for element in path)
            ):
                continue
            found += 1
            groups.add(group)
            for element in spot.path:
                load_w[element] = load_w.get(element, 0) + more_w
        return found >= ranks

    def _load_w(self, uses: dict[str, Use], today: str) -> dict[str, int]:
        """What can be drawn below each element now."""
        ground = self.papers.ground
        load_w = dict(ground.idle_w(today))
        for node in dict.fromkeys([*uses, *self.intruders]):
            spot, use = ground.spots.get(node), uses.get(node, FREE)
            for element in () if spot is None else spot.path:
                drawn_w = draw_w(ground.spots[node].hardware, use.mask.bit_count(), use.ranks)
                if node in self.intruders:
                    drawn_w = ground.spots[node].hardware.nameplate_w
                idle_w = ground.spots[node].hardware.idle_w if ground.spots[node].from_day else 0
                load_w[element] = load_w.get(element, 0) + drawn_w - idle_w
        for element, watts in self.caps.excess.items():
            for above in ground.above.get(element, ()):
                load_w[above] = load_w.get(above, 0) + watts
        return load_w

    def _uses(self) -> dict[str, Use]:
        uses: dict[str, Use] = {}
        for live in self.live.values():
            known = self.known.get(live.workload)
            leased = known is not None and known.spec.type is WorkloadType.CLUSTER
            for rank in live.ranks:
                use = uses.setdefault(rank.node, Use())
                use.mask |= rank.mask
                for bit in each_bit(rank.mask) if rank.share_milli < WHOLE else ():
                    taken = use.parts.get(bit, ("", 0))[1]
                    use.parts[bit] = (live.tenant, taken + rank.share_milli)
                use.cpu_milli += rank.cpu_milli
                use.memory_mb += rank.memory_mb
                use.ranks += 1
                use.leased = use.leased or leased
        return uses


def _more_w(waiting: Waiting, count: int, spot: Spot, use: Use) -> int:
    """What one more rank adds to the draw of a node: nothing for the rest of an accelerator that is taken already."""
    spec, taken = waiting.spec, use.mask.bit_count()
    more = spot.hardware.accelerators if spec.type is WorkloadType.CLUSTER else count
    if spec.resources.share_milli < WHOLE and use.has_part(waiting.tenant, spec.resources.share_milli):
        more = 0
    before_w = draw_w(spot.hardware, taken, use.ranks)
    return draw_w(spot.hardware, taken + more, use.ranks + 1) - before_w
