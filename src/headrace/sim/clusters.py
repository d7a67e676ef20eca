"""A cluster below some sites of a world: it has nodes of its own, says what it can do, and does not always answer.

All sites are played by one fake engine; what stands here is how the control plane sees it, as several engines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from headrace.core.errors import Problem, ProblemCode
from headrace.core.estate import Estate
from headrace.core.ids import NodeId, PlacementId, TenantId
from headrace.engines.fake import FakeEngine
from headrace.ports import Capabilities, EngineError, EngineNode, NodeReport, PlacementReport, StartOrder
from headrace.sim.faults import RemoteEngine, Switches

CLUSTER = "cluster"
"""The name of the engine."""
HAS_CLUSTER = 0.4
"""How many worlds have one."""


def with_cluster(chance: Random, estate: Estate) -> Estate:
    """The same estate; in some worlds, some of its sites are a cluster's."""
    if chance.random() >= HAS_CLUSTER:
        return estate
    chosen = chance.sample(range(len(estate.sites)), chance.randint(1, max(1, len(estate.sites) - 1)))
    return replace(
        estate,
        sites=tuple(
            replace(site, engine=CLUSTER) if index in chosen else site
            for index, site in enumerate(estate.sites)
        ),
    )


def some_capabilities(chance: Random, tenants: Sequence[TenantId]) -> Capabilities:
    """What a cluster may be able to do: mostly no parts of accelerators; sometimes it is one tenant's alone.

    All engines that there are can pause and have ports.
    """
    return Capabilities(
        isolation=chance.choice(("none", "uid")),
        pause=True,
        ports=True,
        parts=chance.random() < 0.3,
        tenant=chance.choice(list(tenants)) if chance.random() < 0.25 else "",
    )


class SiteEngine(RemoteEngine):
    """What one of several engines has of the fake one: the placements that it was told to start, and its sites' nodes."""

    def __init__(
        self,
        engine: FakeEngine,
        switches: Switches,
        seen: Callable[[StartOrder], None],
        sites: Sequence[str],
    ) -> None:
        super().__init__(engine, switches, seen)
        self.sites = tuple(sites)
        self.mine: dict[PlacementId, None] = {}
        self._all: Sequence[PlacementReport] | None = None
        self._seen: Sequence[PlacementReport] = ()
        self._health: Sequence[NodeReport] | None = None
        self._reported: Sequence[NodeReport] = ()

    def has(self, node: str) -> bool:
        """Whether a node is at one of its sites."""
        return node.partition("/")[0] in self.sites

    def start(self, order: StartOrder) -> None:
        """Start, and know it from now on."""
        self._reach()
        self.mine[order.placement] = None
        super().start(order)

    def observe(self) -> Sequence[PlacementReport]:
        """Its own placements; the same sequence while nothing changed."""
        reports = super().observe()
        if reports is not self._all:
            self._all = reports
            self._seen = tuple(one for one in reports if one.placement in self.mine)
        return self._seen

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        """What there is to say of its own nodes; the same sequence while nothing changed."""
        health = super().nodes(of)
        if health is not self._health:
            self._health = health
            self._reported = tuple(one for one in health if self.has(one.node))
        return self._reported


class ClusterEngine(SiteEngine):
    """A cluster that is looked at: all its nodes are reported, and while it is silent, what was seen last.

    A fault changes ``absent``, ``drained`` or ``short`` (by the estate's name of a node) and calls ``changed``. ``next`` is what
    it can do from the control plane's next start on.
    """

    def __init__(
        self,
        engine: FakeEngine,
        switches: Switches,
        seen: Callable[[StartOrder], None],
        sites: Sequence[str],
        capabilities: Capabilities,
    ) -> None:
        super().__init__(engine, switches, seen, sites)
        self.can = self.next = capabilities
        self.absent: dict[str, None] = {}
        self.drained: dict[str, str] = {}
        self.short: dict[str, EngineNode] = {}
        self.others: tuple[EngineNode, ...] = ()
        self._is_silent = False
        self._frozen: dict[PlacementId, PlacementReport] = {}
        self._of: Sequence[NodeId] | None = None
        self._inventory: tuple[EngineNode, ...] | None = None
        self._changes, self._looked = 0, -1

    @property
    def capabilities(self) -> Capabilities:
        """Those that it declares, until it is opened anew."""
        return self.can

    def reopen(self) -> None:
        """The control plane opens it: it can do what it can do by now, and has not been looked at yet."""
        self.can = self.next
        self._of = None
        if not self._is_silent:
            self._inventory = None

    def changed(self) -> None:
        """Something about its nodes is another than before."""
        self._changes += 1

    @property
    def is_silent(self) -> bool:
        """Whether it does not answer."""
        return self._is_silent

    def silence(self) -> None:
        """It answers no more: what was seen last holds."""
        if not self._is_silent:
            reports = self.engine.observe()
            self._frozen = {one.placement: one for one in reports if one.placement in self.mine}
            self._is_silent = True

    def answer(self) -> None:
        """It answers again."""
        self._is_silent = False
        self._frozen = {}
        self.changed()

    def _order(self) -> None:
        """An order is to reach it. EngineError while it does not answer."""
        self._reach()
        if self._is_silent:
            raise EngineError(
                Problem(ProblemCode.ENGINE_UNAVAILABLE, "the cluster does not answer.", "Wait.")
            )

    def start(self, order: StartOrder) -> None:
        """Start, when it answers."""
        self._order()
        super().start(order)

    def stop(self, placement: PlacementId, grace_ms: int) -> None:
        """Stop, when it answers."""
        self.switches.tries(placement)
        self._order()
        super().stop(placement, grace_ms)

    def pause(self, placement: PlacementId) -> None:
        """Pause, when it answers."""
        self._order()
        super().pause(placement)

    def resume(self, placement: PlacementId) -> None:
        """Resume, when it answers."""
        self._order()
        super().resume(placement)

    def forget(self, placement: PlacementId) -> None:
        """What is forgotten is not seen again, whether it answers or not."""
        super().forget(placement)
        self._frozen.pop(placement, None)

    def observe(self) -> Sequence[PlacementReport]:
        """What is seen, or was seen last; what is on its way here comes."""
        reports = super().observe()
        if not self._is_silent:
            return reports
        return tuple(self._frozen.setdefault(one.placement, one) for one in reports)

    def host_of(self, node: NodeId) -> str:
        """The cluster's names have no slashes."""
        return node.replace("/", "-")

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        """Each node ``of`` the estate, as it was seen last; the same sequence while nothing changed."""
        health = self._health
        if self._is_silent:
            # Also after a restart: a real one would have to wait for its first look.
            return self._reported if self._of is of else ()
        super().nodes(of)
        if self._looked != self._changes or self._of is not of or self._health is not health:
            self._looked, self._of = self._changes, of
            told = {one.node: one for one in self._health or ()}
            self._reported = tuple(self._report(node, told.get(node)) for node in of)
            self._inventory = (
                *(
                    self.short.get(node) or EngineNode(self.host_of(node))
                    for node in of
                    if node not in self.absent
                ),
                *self.others,
            )
        return self._reported

    def _report(self, node: NodeId, told: NodeReport | None) -> NodeReport:
        if node in self.absent:
            return NodeReport(node, False, f"its cluster has no node {self.host_of(node)}")
        if told is None:
            told = NodeReport(node, True)
        if told.up and node in self.drained:
            return replace(told, up=False, reason=f"drained in its cluster: {self.drained[node]}")
        return told

    def inventory(self) -> Sequence[EngineNode] | None:
        """The nodes that it has, as they were seen last; None before the first look."""
        return self._inventory

    @property
    def trouble(self) -> str:
        """What keeps it from answering."""
        return "simulated: the cluster does not answer" if self._is_silent else super().trouble


def engines_of(
    engine: FakeEngine,
    switches: Switches,
    seen: Callable[[StartOrder], None],
    estate: Estate,
    capabilities: Capabilities,
) -> Mapping[str, RemoteEngine]:
    """The engines that the sites of an estate name: one that has all of it, or two."""
    clustered = [site.id for site in estate.sites if site.engine == CLUSTER]
    if not clustered:
        return {"fake": RemoteEngine(engine, switches, seen)}
    others = [site.id for site in estate.sites if site.engine != CLUSTER]
    return {
        "fake": SiteEngine(engine, switches, seen, others),
        CLUSTER: ClusterEngine(engine, switches, seen, clustered, capabilities),
    }
