"""What planning found out and need not find out again: it stays true until what it rests on changes.

Whoever owns the world says what changes; a plan is the same with a memory as without one.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.core.contracts import Contract
from headrace.core.ids import PlacementId, SiteId, TenantId
from headrace.core.power.shedding import ShedClass
from headrace.core.scheduling.columns import Ask, Columns, Mask
from headrace.core.scheduling.held import Held
from headrace.core.scheduling.leaving import Holder
from headrace.core.scheduling.pools import Quick, Sieve, SitePools
from headrace.core.scheduling.queue import Kind
from headrace.core.scheduling.rank import site_order
from headrace.core.scheduling.rules import NodeRule, Rule, default_rule, everywhere
from headrace.core.scheduling.shapes import Demand
from headrace.core.scheduling.snapshot import Snapshot, Taken
from headrace.core.scheduling.standings import Standings
from headrace.core.scheduling.windows import Window, may_be_evicted
from headrace.core.workload import Placement, WorkloadSpec, WorkloadType

_MOST_REMEMBERED = 20_000
"""Classes of workloads and asks; a tenant can invent more than any memory holds."""


class Lane(NamedTuple):
    """A site where those look who ask for the same. ``more``, ``parts``: what each takes, and of the estate.

    ``need``: processors and memory as pools have them.
    """

    site: int
    name: SiteId
    ask: Ask
    accelerators: int
    cpu_milli: int
    memory_mb: int
    need: int
    sieves: list[Sieve]
    pools: SitePools
    option: int
    more: Taken
    parts: Taken
    quick: Quick


@dataclass(slots=True)
class Known:
    """What is known of all that ask for the same; sites are numbers.

    ``suit``: nodes of a site with the hardware; a site with too few of them is not there. ``by_rule``: a rule of costs decides.
    ``full``, ``never`` and ``vain``: how often something had come free at a site when it did not fit there, or would not have if
    all left that may leave, or all that may be told to go. Of one pass: ``sieves``, who failed at a site; ``out``, where it did
    not fit; ``ever``, reservations that there were when it would still have fitted if all left (-1: it would not have);
    ``beside``, where it did not fit with which of the holds there open to it (and whether it may be told to go); ``lanes``, by
    site and option. ``taken``: what so many nodes are, and which part of the estate. ``least``: by site, the least thousandths
    of accelerators that it takes.
    """

    ask: Ask
    suit: dict[int, Mask]
    by_rule: bool = False
    full: dict[int, int] = field(default_factory=dict)
    never: dict[int, int] = field(default_factory=dict)
    vain: dict[int, int] = field(default_factory=dict)
    stamp: int = -1
    sieves: dict[int, list[Sieve]] = field(default_factory=dict)
    out: set[int] = field(default_factory=set)
    ever: dict[int, int] = field(default_factory=dict)
    beside: set[tuple[int, tuple[bool, ...]]] = field(default_factory=set)
    lanes: dict[tuple[int, int], Lane] = field(default_factory=dict)
    taken: dict[int, tuple[Taken, Taken]] = field(default_factory=dict)
    least: dict[int, int] = field(default_factory=dict)

    def enter(self, stamp: int) -> None:
        """A pass begins: what was true of another one alone is gone."""
        if self.stamp != stamp:
            self.stamp = stamp
            for known in (self.sieves, self.out, self.ever, self.beside, self.lanes):
                if known:
                    known.clear()


@dataclass(slots=True)
class Option:
    """One of the things that would do for equal workloads.

    ``number`` is its index among what would do. ``allowed``: the sites where law, contract and hardware let it, the best first.
    ``most``: nodes that elastic work takes where there are as many. ``is_counted``: a quota or a contract has only so much.
    ``is_plain``: whole accelerators of one node, whichever has the fewest free, and nothing else decides. ``changes``: those of
    the memory. ``order``: the sites of ``allowed``, one object for all options that have the same. ``sheds``: what it lets be
    done to it when the grid asks.
    """

    number: int
    known: Known
    most: int
    allowed: dict[int, Contract]
    is_counted: bool
    changes: dict[int, int]
    order: tuple[int, ...]
    sheds: ShedClass = ShedClass.FIRM
    is_plain: bool = field(init=False)
    _sites: list[int] | None = None

    def __post_init__(self) -> None:
        ask = self.known.ask
        self.is_plain = not (
            ask.nodes != 1
            or self.most != 1
            or ask.whole
            or ask.is_fraction
            or ask.reservation is not None
            or self.is_counted
            or self.known.by_rule
        )

    @property
    def ask(self) -> Ask:
        """What placing needs to know of it."""
        return self.known.ask

    def enter(self) -> None:
        """A pass begins: all sites may be tried again but those that are known to be full since nothing came free there."""
        self._sites = None

    @property
    def sites(self) -> list[int]:
        """Of one pass: where it may still fit."""
        if self._sites is None:
            full, changes = self.known.full, self.changes
            self._sites = [site for site in self.order if full.get(site) != changes.get(site, 0)]
        return self._sites

    @property
    def first_site(self) -> int:
        """The first site where nobody who asks for the same has failed; -1 if there is none."""
        out, full, changes = self.known.out, self.known.full, self.changes
        for site in self.order:
            if site not in out and full.get(site) != changes.get(site, 0):
                return site
        return -1


@dataclass(slots=True)
class Shape:
    """What equal workloads have in common.

    ``plain``: the only option, if nothing else decides. Of one pass: ``hopeless``, not even what leaves or could be evicted would
    do; ``barred``, it has had its try at a barrier.
    """

    kind: WorkloadType
    options: list[Option]
    plain: Option | None
    stamp: int = -1
    hopeless: bool = False
    barred: bool = False

    def enter(self, stamp: int) -> None:
        """A pass begins: everything may be tried again but what is known to be full since nothing came free there."""
        if self.stamp == stamp:
            return
        self.stamp, self.hopeless, self.barred = stamp, False, False
        for option in self.options:
            option.known.enter(stamp)
            option.enter()

    @property
    def may_start(self) -> bool:
        """Whether there is a site where it may still fit."""
        return any(option.sites for option in self.options)

    @property
    def is_reserved(self) -> bool:
        """Whether a contract reserves what it gets, somewhere."""
        return any(paid.kind == "reserved" for option in self.options for paid in option.allowed.values())

    @property
    def is_allowed(self) -> bool:
        """Whether there is any site for it at all."""
        return any(option.allowed for option in self.options)


class Memory:
    """What holds from one plan to the next. ``changes``: by site, how often something came free there."""

    def __init__(self) -> None:
        self.stamp = 0
        self.changes: dict[int, int] = {}
        self.known: dict[Ask, Known] = {}
        self.shapes: dict[Kind, Shape] = {}
        self.allowed: dict[tuple[object, ...], dict[int, Contract]] = {}
        self.pools: dict[int, SitePools] = {}
        self.site_orders: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._held = Held()
        self.standings = Standings()
        self._evictable = Held(may_be_evicted)
        self._columns: Columns | None = None
        self._demand: Demand | None = None
        self._given: NodeRule | None = None
        self._orders: dict[TenantId, list[int]] = {}
        self._site_order: dict[TenantId, list[int]] = {}
        self._windows: list[Window] = []
        self.rule: Rule | None = None
        """What decides between nodes where the fewest free accelerators do not; None: nowhere."""

    # -- what the world says --------------------------------------------------------------------------------------

    def moved(self, placement: Placement, spec: WorkloadSpec, site: int, sign: int) -> None:
        """A placement has taken (1) or given back (-1) what it has at a site."""
        if sign < 0:
            self.came_free(site)
        self._held.moved(placement, sign)
        if may_be_evicted(spec):
            self._evictable.moved(placement, sign)

    def changed(self, placement: Placement, site: int) -> None:
        """A placement was told to stop, or has started: when its nodes have room is another question now."""
        pools = self.pools.get(site)
        if pools is not None and self._columns is not None:
            index = self._columns.fleet.node_index
            pools.turned.extend(index[rank.node] for rank in placement.ranks)  # type: ignore[index]

    def came_free(self, site: int) -> None:
        """Something at a site could be had now, or soon, that could not before."""
        self.changes[site] = self.changes.get(site, 0) + 1

    def forget_nodes(self) -> None:
        """The nodes of every site may be in another state: a day has begun."""
        self.pools.clear()
        self.known.clear()
        self.shapes.clear()

    def clear(self) -> None:
        """Documents have changed: nothing holds any more."""
        self.known.clear()
        self.shapes.clear()
        self.allowed.clear()
        self._site_order.clear()
        self.pools.clear()
        self._held.clear()
        self._evictable.clear()
        self._columns = self._demand = None

    # -- what a plan asks -----------------------------------------------------------------------------------------

    def begin(self, snapshot: Snapshot, columns: Columns, given: NodeRule | None) -> int:
        """Catch up with the world of a snapshot; the number of the pass that begins. ``given``: a rule instead of the default."""
        if self._columns is not columns or len(self.shapes) > _MOST_REMEMBERED:
            self.clear()
        self._columns = columns
        self._take_windows(snapshot)
        self._take_orders(snapshot)
        self._take_rule(snapshot, columns, given)
        if len(self.known) > _MOST_REMEMBERED:
            self.known.clear()
            self.shapes.clear()
        self.stamp += 1
        return self.stamp

    def _take_windows(self, snapshot: Snapshot) -> None:
        """What was found where a window held nodes is asked again once it holds them no more."""
        holding = [window for window in snapshot.windows if snapshot.now_ms < window.ends_ms]
        for window in self._windows:
            if window not in holding:
                self.came_free(window.site)
        self._windows = holding

    def _take_orders(self, snapshot: Snapshot) -> None:
        """Which sites are the best for those who care how much power is in use there: that changes by itself."""
        caring = [name for name, one in snapshot.tenants.items() if one.preferences.power_micros_per_kwh]
        orders = {tenant: site_order(snapshot, tenant) for tenant in caring}
        if orders != self._orders:
            self._orders = orders
            self.shapes.clear()
            self.allowed.clear()
            self._site_order.clear()

    def order_of(self, snapshot: Snapshot, tenant: TenantId) -> list[int]:
        """Sites, the best for a tenant first."""
        found = self._site_order.get(tenant)
        if found is None:
            found = self._site_order[tenant] = site_order(snapshot, tenant)
        return found

    def _take_rule(self, snapshot: Snapshot, columns: Columns, given: NodeRule | None) -> None:
        if self._demand is snapshot.demand and self._given is given:
            return
        before = self.rule
        self._demand, self._given = snapshot.demand, given
        self.rule = default_rule(columns, snapshot.demand) if given is None else everywhere(columns, given)
        if self.rule is None and before is None:
            return
        self.known.clear()
        self.shapes.clear()
        for pools in self.pools.values():
            pools.costs.clear()

    def holders(self, snapshot: Snapshot, site: int) -> dict[PlacementId, Holder]:
        """Placements that hold nodes of a site, in the order in which they were made."""
        return self._held.at(snapshot, site)

    def told(self, snapshot: Snapshot, site: int) -> tuple[int, int]:
        """How many hold nodes of a site, and of how many of them it was said when they end."""
        return len(self._held.at(snapshot, site)), self._held.told.get(site, 0)

    def evictable(self, snapshot: Snapshot, site: int) -> dict[PlacementId, Holder]:
        """Those of them that may be told to go."""
        return self._evictable.at(snapshot, site)

    def on_node(self, snapshot: Snapshot, site: int) -> dict[int, list[Holder]]:
        """Who holds something of each node, of this site and others, in the order in which they came."""
        held = self._held
        held.at(snapshot, site)
        if held.turned is None:
            for pools in self.pools.values():
                pools.ready.clear()
        for at, node in held.turned or ():
            if at in self.pools:
                self.pools[at].turned.append(node)
        held.turned = []
        return held.on_node

    def pools_at(self, snapshot: Snapshot, columns: Columns, site: int) -> SitePools:
        """The pools of a site as the snapshot has it."""
        pools = self.pools.get(site)
        if pools is None:
            pools = self.pools[site] = SitePools(columns, snapshot, site)
        pools.enter(snapshot, self.stamp)
        return pools
