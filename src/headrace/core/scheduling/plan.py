"""The planner: one pass over the queue, from a snapshot to a plan. Pure and deterministic.

Workloads are taken in the order of their turns. Each is placed if it fits. If not, and what is leaving (or what it may
evict) would make it fit, it waits for that on chosen nodes, and nothing of lower rank starts there or uses the
power that it will need. One that has waited for too long gets such nodes even if others must end first.

During a pass resources only shrink, so what did not fit once does not fit later: equal workloads share one
:class:`Shape`, and a pass costs about the number of shapes and what is placed, not the length of the queue.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from headrace.core.contracts import Contract
from headrace.core.ids import PlacementId, WorkloadId
from headrace.core.power.limits import NEVER_MS
from headrace.core.power.shedding import rung_of, shed_class
from headrace.core.scheduling.columns import Ask, Columns, Mask, accelerators_milli_of, ask_of, columns_of
from headrace.core.scheduling.grow import Elastic, grow
from headrace.core.scheduling.leaving import Holder, leave_windows
from headrace.core.scheduling.memory import Known, Lane, Memory, Option, Shape
from headrace.core.scheduling.order import Order, Shares, Waiting, waits_since_ms
from headrace.core.scheduling.pool import packed
from headrace.core.scheduling.present import Present
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.scheduling.queue import Kind, Queue, line_of
from headrace.core.scheduling.rank import site_refusal, suiting, suits
from headrace.core.scheduling.rules import NodeRule
from headrace.core.scheduling.sharing import are_equals, shares_time
from headrace.core.scheduling.singles import Singles
from headrace.core.scheduling.snapshot import Snapshot, Taken
from headrace.core.scheduling.swaps import Sharing, Turns
from headrace.core.scheduling.waits import PlanLimits, Waits
from headrace.core.scheduling.windows import ends_of, may_be_evicted, moments_of
from headrace.core.scheduling.without import without
from headrace.core.workload import WHOLE_MILLI, RankPlace, Workload, mines_alone, options

__all__ = ["DEFAULT_LIMITS", "PlanLimits", "again_ms", "plan"]

DEFAULT_LIMITS = PlanLimits()
SURE_ATTEMPTS = 3
"""Whoever was started more often is evicted only once it is certain that this lets somebody start."""


def again_ms(
    snapshot: Snapshot, limits: PlanLimits = DEFAULT_LIMITS, proposed: Plan | None = None
) -> int | None:
    """When time alone may next change the plan: a back-off ends, or somebody has waited for too long; None: never.

    ``proposed``: the plan for this snapshot, which knows when it may change by itself.
    Days begin too, for contracts and commissioning: who asks looks again at least now and then.
    """
    times = []
    for workload in snapshot.queue:
        if workload.not_before_ms > snapshot.now_ms:
            times.append(workload.not_before_ms)
        starving_ms = waits_since_ms(workload) + limits.starve_after_ms + 1
        if starving_ms > snapshot.now_ms and not shares_time(workload.spec):
            times.append(starving_ms)
    if proposed is not None and proposed.again_ms is not None:
        times.append(proposed.again_ms)
    for window in snapshot.windows:
        times += moments_of(window, snapshot.now_ms)
    if snapshot.limit_until_ms < NEVER_MS:
        times.append(snapshot.limit_until_ms)
    return min(times, default=None)


def plan(snapshot: Snapshot, limits: PlanLimits = DEFAULT_LIMITS, rule: NodeRule | None = None) -> Plan:
    """What to place and what to evict now, given ``snapshot``, which is not changed.

    ``rule``: chooses between nodes for all that asks for one of them, in place of the default.
    """
    found = _Pass(snapshot, limits, rule).run()
    doubtful = _doubtful(snapshot, found)
    if not doubtful:
        return found
    # Evicted again and again: only if it helps, which the next plan would show.
    gone = [snapshot.placements[one.placement] for one in found.evictions if one.waiting is not None]
    then = _Pass(without(snapshot, gone), limits, rule).run()
    helped = {one.workload for one in then.placements}
    kept = tuple(
        one
        for one in found.evictions
        if one.waiting is None or one.waiting in helped | _sure(found, doubtful)
    )
    return replace(found, evictions=kept)


def _doubtful(snapshot: Snapshot, found: Plan) -> set[WorkloadId]:
    """Those who wait for the end of somebody that was started many times already."""
    doubtful = set()
    for eviction in found.evictions:
        if eviction.waiting is not None:
            victim = snapshot.workloads[snapshot.placements[eviction.placement].workload]
            # Between equals the nodes that are left are those that are started on.
            swaps = are_equals(snapshot.workloads[eviction.waiting], victim)
            if victim.attempt > SURE_ATTEMPTS and not swaps:
                doubtful.add(eviction.waiting)
    return doubtful


def _sure(found: Plan, doubtful: set[WorkloadId]) -> set[WorkloadId]:
    return {one.waiting for one in found.evictions if one.waiting is not None} - doubtful


class _Pass:
    def __init__(self, snapshot: Snapshot, limits: PlanLimits, rule: NodeRule | None) -> None:
        self.snapshot, self.limits = snapshot, limits
        self.columns: Columns = columns_of(snapshot.fleet)
        self.memory = snapshot.memory or Memory()
        self.stamp = self.memory.begin(snapshot, self.columns, rule)
        self.present = Present(snapshot, self.columns, self.memory)
        self.shares = Shares(snapshot, self.columns.capacity)
        self.waits = Waits(self.present, limits, self.shares)
        self.sites = [site.id for site in snapshot.fleet.sites]
        self.placements: list[ProposedPlacement] = []
        self.elastic: list[Elastic] = []
        self.sharing: Sharing | None = None

    def run(self) -> Plan:
        most, placements, now_ms = self.limits.max_placements, self.placements, self.snapshot.now_ms
        order = Order(self.snapshot, self.shares)
        self.enter_lines(order)
        singles = Singles(self.present, order, self.waits.kept, placements, most)
        while (waiting := singles.place(self.finds_lane)) is not None:
            workload, shape = waiting.head, waiting.shape
            if shape is None or workload.not_before_ms > now_ms:
                # It shares accelerators in time, and was served as its group was; or it has to wait.
                order.done(next(waiting.members, None))
            elif self.start(waiting, workload, shape) or self.fills(waiting, workload, shape):
                order.done(next(waiting.members, None))
            else:
                order.done(self.fails(workload, shape, waiting))
        if len(placements) < most:
            # Else there are those who had no turn yet.
            grow(self.elastic, now_ms, self.extend)
        evictions = *leave_windows(self.snapshot, self.holders), *self.waits.evictions
        again_ms = self.sharing.again_ms() if self.sharing is not None else None
        return Plan(self.snapshot.version, tuple(placements), _once(evictions), again_ms)

    def holders(self, site: int) -> Mapping[PlacementId, Holder]:
        """Who holds nodes of a site."""
        return self.memory.holders(self.snapshot, site)

    def enter_lines(self, order: Order) -> None:
        """Lines of alike workloads, each in order of arrival: a requeued one keeps the place that it had."""
        queue = self.snapshot.waiting
        if queue is None:
            queue = Queue(self.snapshot.queue)
        shares = False
        for line, members in queue.lines.items():
            turns = iter(members.values())
            if members.is_usual:
                order.enter_usual(line, members, next(turns), turns)
            elif line.reservation is not None and not self.present.is_on(line.reservation):
                continue
            elif line.shares_time:
                shares = True
            else:
                order.enter(line, members.kind, next(turns), turns)
        if shares:
            self.enter_groups(order, queue)
        order.begin()

    def enter_groups(self, order: Order, queue: Queue) -> None:
        """Those that share accelerators in time, each group in the order of what they have left to do."""
        self.sharing = Sharing(self, queue)
        for group in self.sharing.standings.groups():
            turns = Turns(self.sharing, group)
            head = turns.head
            if head is not None:
                line = line_of(head)
                waiting = order.enter(line, queue.kind(line), head, iter(()))
                waiting.members = turns.take(waiting)

    def fails(self, workload: Workload, shape: Shape, waiting: Waiting) -> Workload | None:
        """It can't start now, and may wait; the next of its line that has a chance."""
        line, waits = waiting.line, self.waits
        if line.is_filler or not shape.is_allowed:
            return None
        if not shape.is_reserved and self.is_beyond(waiting, shape):
            return None
        if self.is_kept_out(shape):
            return None
        waits.wait(workload, shape)
        if shape.may_start or waits.may_wait_shortly(shape):
            return next(waiting.members, None)
        long = waits.may_wait_long(shape, workload.tenant)
        if not long and not self.present.holds:
            return None
        return next(
            (
                other
                for other in waiting.members
                if (long and waits.starves(other)) or self.may_fill(other, shape)
            ),
            None,
        )

    def is_beyond(self, waiting: Waiting, shape: Shape) -> bool:
        """Whether the least that any of what would do takes is more than its tenant or its project may ever have."""
        if not (waiting.tenant.quota.limit or waiting.project.quota.limit):
            return False
        return all(
            waiting.is_over(self.least_milli(option, site))
            for option in shape.options
            for site in option.allowed
        )

    def is_kept_out(self, shape: Shape) -> bool:
        """Whether only what the grid may ask for keeps it out, wherever it may run: nobody who leaves makes room there."""
        for option in shape.options:
            for site in option.allowed:
                left_w = None if option.ask.reservation is not None else self.present.floor_left_w(site)
                suit = np.flatnonzero(option.known.suit[site])[: option.ask.nodes]
                nodes = (suit + self.columns.spans[site].start).tolist()
                if left_w is None or self.floor_w(option, site, nodes) <= left_w:
                    return False
        return True

    def least_milli(self, option: Option, site: int) -> int:
        """The least thousandths of accelerators that an option takes at a site."""
        ask, least = option.ask, option.known.least
        if site not in least:
            suit = np.flatnonzero(option.known.suit[site]) + self.columns.spans[site].start
            nodes = suit[np.argsort(self.columns.total[suit], kind="stable")] if ask.whole else suit
            least[site] = accelerators_milli_of(self.columns, ask, nodes[: ask.nodes])
        return least[site]

    # -- what there is for it -------------------------------------------------------------------------------------

    def shape(self, kind: Kind, workload: Workload) -> Shape:
        """What a workload, and all of its kind, asks for."""
        shape = self.memory.shapes.get(kind)
        if shape is None:
            found = list(self.options(workload))
            alone = len(found) == 1 and found[0].is_plain and not shares_time(workload.spec)
            shape = Shape(workload.spec.type, found, found[0] if alone else None)
            self.memory.shapes[kind] = shape
        shape.enter(self.stamp)
        return shape

    def options(self, workload: Workload) -> Iterator[Option]:
        """What would do for a workload, in order of preference, as far as it may have it anywhere."""
        spec, remembered = workload.spec, self.memory.known
        if spec.nodes < 1:
            return
        sharer = self.snapshot.tenant_number(workload.tenant)
        for number, need in enumerate(options(spec)):
            ask = ask_of(spec, need, sharer)
            known = remembered.get(ask)
            if known is None:
                suit = self.suiting(ask)
                known = remembered[ask] = Known(ask, suit, self.goes_by_rule(ask, suit))
            places = self.allowed_sites(workload, need.accelerator)
            allowed = {site: paid for site, paid in places.items() if site in known.suit}
            if allowed:
                counted = (
                    self.shares.is_limited(workload.tenant, spec.project)
                    or any(one.kind == "reserved" for one in allowed.values())
                    or any(self.present.floor_left_w(site) is not None for site in allowed)
                )
                most = max(spec.nodes, spec.nodes_max)
                order = self.memory.site_orders.setdefault(tuple(allowed), tuple(allowed))
                changes, sheds = self.memory.changes, shed_class(spec)
                yield Option(number, known, most, allowed, counted, changes, order, sheds)

    def goes_by_rule(self, ask: Ask, suit: dict[int, Mask]) -> bool:
        """Whether a rule of costs decides between some of the nodes that suit."""
        rule = self.memory.rule
        if rule is None or ask.nodes != 1 or ask.whole or ask.reservation is not None:
            return False
        kinds = self.columns.fleet.node_hardware
        return any(
            rule.decides[kind]
            for site, mask in suit.items()
            for kind in np.unique(kinds[self.columns.spans[site]][mask]).tolist()
        )

    def suiting(self, ask: Ask) -> dict[int, Mask]:
        """The nodes with the hardware, by site; of a reservation's nodes only."""
        if ask.reservation is None:
            return suiting(self.columns, ask)
        window = next((one for one in self.snapshot.windows if one.id == ask.reservation), None)
        if window is None:
            return {}
        mask = suits(self.columns, ask, window.site)
        inside = np.zeros_like(mask)
        inside[np.array(window.nodes, dtype=np.int64) - self.columns.spans[window.site].start] = True
        found = mask & inside
        return {window.site: found} if found.any() else {}

    def allowed_sites(self, workload: Workload, model: str) -> dict[int, Contract]:
        """Sites where law and contract let a workload have ``model``, the best first, with what pays for it there."""
        spec, tenant = workload.spec, workload.tenant
        is_part = spec.resources.share_milli != WHOLE_MILLI
        runs = spec.lease, mines_alone(spec)
        key = (tenant, spec.policy, spec.site, spec.contract, model, is_part, runs)
        allowed = self.memory.allowed.get(key)
        if allowed is None:
            allowed = self.memory.allowed[key] = {}
            for site in self.memory.order_of(self.snapshot, tenant):
                if spec.site is None or self.snapshot.fleet.sites[site].id == spec.site:
                    _, contract = site_refusal(self.snapshot, tenant, spec, model, site)
                    if contract is not None:
                        allowed[site] = contract
        return allowed

    def finds_lane(self, waiting: Waiting) -> bool:
        """Whether there is a site where the head of a line, which does not fit where it looked first, looks next."""
        lane, kept = waiting.lane, self.waits.kept
        if lane is None and self.finds_first_lane(waiting):
            return True
        shape = waiting.shape
        if shape is None:
            if waiting.line.shares_time:
                return False
            shape = waiting.shape = self.shape(waiting.kind, waiting.head)
        option = shape.plain
        if option is None or waiting.head.not_before_ms > self.snapshot.now_ms:
            return False
        sites, known = option.sites, option.known
        if lane is not None and sites and sites[0] == lane.site and sites[0] not in kept:
            self.failed(known, sites.pop(0))
        out = known.out
        while sites and sites[0] in out:
            sites.pop(0)
        if not sites or sites[0] in kept:
            return False
        waiting.lane = known.lanes.get((sites[0], option.number)) or self.lane(option, sites[0])
        return True

    def finds_first_lane(self, waiting: Waiting) -> bool:
        """The same for a line that has not looked anywhere yet, where most find one, without a list of sites made for it."""
        shape = self.memory.shapes.get(waiting.kind)
        option = shape.plain if shape is not None else None
        if option is None or waiting.head.not_before_ms > self.snapshot.now_ms:
            return False
        known = option.known
        known.enter(self.stamp)
        site = option.first_site
        if site < 0 or site in self.waits.kept:
            return False
        waiting.lane = known.lanes.get((site, option.number)) or self.lane(option, site)
        return True

    def lane(self, option: Option, site: int) -> Lane:
        """A site for those who look there with a plain option."""
        present, known, ask = self.present, option.known, option.ask
        more, parts = known.taken.get(1) or self.taken(known, 1, ask.accelerators * WHOLE_MILLI)
        takes = ask.accelerators, ask.cpu_milli, ask.memory_mb, packed(ask.cpu_milli, ask.memory_mb)
        sieves, pools = present.sieves(known, site), present.pools(site)
        paid = option.number, more, parts
        lane = Lane(site, self.sites[site], ask, *takes, sieves, pools, *paid, pools.quick(ask, sieves))
        known.lanes[site, option.number] = lane
        return lane

    # -- placing --------------------------------------------------------------------------------------------------

    def start(self, waiting: Waiting, workload: Workload, shape: Shape) -> bool:
        """Place it with the first option, at the first site, where it fits; what failed is not asked again in this pass."""
        if len(shape.options) > 1 and all(option.known.by_rule for option in shape.options):
            return self.start_at_least_cost(waiting, workload, shape)
        for option in shape.options:
            sites = option.sites
            while sites:
                site = sites[0]
                nodes = self.nodes_at(waiting, option, site)
                if nodes is not None:
                    self.place(waiting, workload, option, site, nodes)
                    return True
                sites.pop(0)
        return False

    def start_at_least_cost(self, waiting: Waiting, workload: Workload, shape: Shape) -> bool:
        """Where a rule decides, the costs do before the order of what would do, site by site."""
        sites = dict.fromkeys(site for option in shape.options for site in option.sites)
        for site in sites:
            found = []
            for option in shape.options:
                if site not in option.sites:
                    continue
                nodes = self.nodes_at(waiting, option, site)
                if nodes is None:
                    option.sites.remove(site)
                else:
                    found.append((self.present.cost(option.known, site, nodes[0]), nodes[0], option, nodes))
            if found:
                _, _, option, nodes = min(found, key=lambda one: one[:2])
                self.place(waiting, workload, option, site, nodes)
                return True
        return False

    def nodes_at(self, waiting: Waiting, option: Option, site: int) -> Sequence[int] | None:
        """The nodes that it gets at a site now, with what its contract and those who wait leave."""
        known = option.known
        if site in known.out:
            return None
        nodes = self.present.choose(known, site)
        if nodes is None:
            self.failed(known, site)
            return None
        if (option.is_counted or site in self.waits.kept) and not self.is_left(waiting, option, site, nodes):
            others = self.present.choose_kept(known, site)
            nodes = next((one for one in others if self.is_left(waiting, option, site, one)), None)
            if nodes is None:
                return None
        topology = option.ask.topology
        if option.most > len(nodes) and topology is not None and topology.required and topology.pack:
            return self.roomy(waiting, option, site, nodes)
        return nodes

    def roomy(self, waiting: Waiting, option: Option, site: int, nodes: Sequence[int]) -> Sequence[int]:
        """As many nodes of an elastic gang's group where it could grow most: later it can't leave it."""
        known, count = option.known, len(nodes)
        low, high = count, option.most
        while low < high:
            # What fits on some nodes fits on fewer of them.
            more = (low + high + 1) // 2
            found = self.present.choose_in(
                known, site, self.present.open_to(known.ask, self.present.state), more
            )
            if found is not None and self.is_left(waiting, option, site, found.tolist()):
                nodes, low = found.tolist(), more
            else:
                high = more - 1
        return nodes[:count]

    def failed(self, known: Known, site: int) -> None:
        """It fits nowhere at a site any more in this pass, and also later until something comes free there."""
        known.out.add(site)
        if not self.present.has_changed(site):
            known.full[site] = self.memory.changes.get(site, 0)

    def may_fill(self, workload: Workload, shape: Shape) -> bool:
        """Whether it is gone early enough for some nodes that are held, and nothing like it failed there."""
        holds, spec = self.present.holds, workload.spec
        if not holds or not (spec.expected_ms or spec.max_duration_ms or may_be_evicted(spec)):
            return False
        ends = ends_of(workload.spec, self.snapshot.now_ms)
        found = {site: tuple([ends.is_gone_by(hold) for hold in here]) for site, here in holds.items()}
        lets = {site: (*open_to, may_be_evicted(spec)) for site, open_to in found.items() if any(open_to)}
        return any(
            site in option.allowed and (site, open_to) not in option.known.beside
            for option in shape.options
            for site, open_to in lets.items()
        )

    def fills(self, waiting: Waiting, workload: Workload, shape: Shape) -> bool:
        """Place it where it is in nobody's way: on nodes that are held until after it is gone."""
        if not self.present.holds or not self.may_fill(workload, shape):
            return False
        ends, holds = ends_of(workload.spec, self.snapshot.now_ms), self.present.holds
        may_go = may_be_evicted(workload.spec)
        for option in shape.options:
            if option.ask.reservation is not None:
                continue
            for site in option.allowed:
                open_to = tuple([ends.is_gone_by(hold) for hold in holds.get(site, ())])
                tried = site, (*open_to, may_go)
                if not any(open_to) or tried in option.known.beside:
                    continue
                state = self.present.beside(site, ends, may_go=may_go)
                nodes = None if state is None else self.present.choose_in(option.known, site, state)
                if nodes is not None and self.is_covered(waiting, option, site, nodes.tolist()):
                    self.place(waiting, workload, option, site, nodes.tolist(), apart=True)
                    return True
                if nodes is None:
                    option.known.beside.add(tried)
        return False

    def is_left(self, waiting: Waiting, option: Option, site: int, nodes: Sequence[int]) -> bool:
        """Whether its quota and its contract have so much left, and those who wait leave the power."""
        if not self.is_covered(waiting, option, site, nodes):
            return False
        return self.waits.spares(option.ask, site, nodes)

    def is_covered(self, waiting: Waiting, option: Option, site: int, nodes: Sequence[int]) -> bool:
        """Whether its quota and its contract have so much left."""
        if not option.is_counted:
            return True
        left_w = None if option.ask.reservation is not None else self.present.floor_left_w(site)
        if left_w is not None and self.floor_w(option, site, nodes) > left_w:
            return False
        asked_milli = accelerators_milli_of(self.columns, option.ask, nodes)
        if option.allowed[site].kind == "reserved":
            return self.present.covers(option, site, asked_milli)
        return not waiting.is_over(asked_milli)

    def floor_w(self, option: Option, site: int, nodes: Sequence[int]) -> int:
        """By how much what can't be shed at a site grows if a workload gets these nodes."""
        snapshot, floors = self.snapshot, self.snapshot.floors
        if floors is None:
            return 0
        engine = snapshot.engines.get(snapshot.fleet.engine_at(site, option.ask.model))
        count = option.ask.accelerators
        each = [(node, int(self.columns.total[node]) if option.ask.whole else count) for node in nodes]
        return floors.needs_w(site, rung_of(option.sheds, engine), each)

    def place(
        self,
        waiting: Waiting,
        workload: Workload,
        option: Option,
        site: int,
        nodes: Sequence[int],
        *,
        apart: bool = False,
    ) -> None:
        """Let it start there; ``apart``: in a way that takes nothing from those who wait."""
        if self.present.floor_left_w(site) is not None:
            self.present.take_floor(site, self.floor_w(option, site, nodes))
        ranks = self.take(option, site, nodes, apart=apart, by_rule=option.known.by_rule and not apart)
        self.enter(waiting, workload, option, site, ranks)
        if option.most > len(nodes) and not apart:
            at = len(self.placements) - 1
            self.elastic.append(Elastic(waiting, workload, option, site, at, list(nodes)))

    def take(
        self, option: Option, site: int, nodes: Sequence[int], *, apart: bool, by_rule: bool
    ) -> tuple[RankPlace, ...]:
        """Take a rank's part of each of some nodes."""
        ask = option.ask
        if apart or ask.share_milli != WHOLE_MILLI or ask.reservation is not None:
            if not apart:
                self.waits.placing(option, site, nodes)
            ranks = self.present.take_apart(option.known, site, nodes, by_rule=by_rule)
            self.waits.placed_apart(ask, site, nodes, ranks)
        else:
            self.waits.placing(option, site, nodes)
            ranks = self.present.take(ask, site, nodes)
        return ranks

    def extend(self, one: Elastic, count: int) -> list[int] | None:
        """Give elastic work so many more nodes, in racks where it is if it can be; which, or None if there are not so many."""
        option, site, present = one.option, one.site, self.present
        state = present.open_to(option.ask, present.state)
        for near in (True, False):
            known = replace(option.known, suit={site: one.others(self.columns, near=near)})
            found = present.choose_in(known, site, state, count)
            if found is not None and self.is_left(one.waiting, option, site, found.tolist()):
                break
        else:
            return None
        nodes: list[int] = found.tolist()
        first = self.placements[one.at]
        if present.floor_left_w(site) is not None:
            present.take_floor(site, self.floor_w(option, site, nodes))
        ranks = self.take(option, site, nodes, apart=False, by_rule=False)
        self.enter(one.waiting, one.workload, option, site, ranks)
        more = self.placements.pop().ranks
        both = sorted(zip([*one.nodes, *nodes], [*first.ranks, *more], strict=True), key=_node)
        self.placements[one.at] = replace(first, ranks=tuple([rank for _, rank in both]))
        return nodes

    def enter(
        self,
        waiting: Waiting,
        workload: Workload,
        option: Option,
        site: int,
        ranks: tuple[RankPlace, ...],
    ) -> None:
        """Count what it has, and propose it."""
        known = option.known
        more, parts = known.taken.get(len(ranks)) or self.taken(
            known, len(ranks), sum(rank.accelerators_milli for rank in ranks)
        )
        contract = option.allowed[site]
        if contract.kind == "reserved":
            held_milli = self.present.held_milli
            held_milli[contract.id] = held_milli.get(contract.id, 0) + more.accelerators_milli
        else:
            waiting.tenant.take(more, parts)
            if waiting.project is not waiting.tenant:
                waiting.project.take(more, parts)
        self.placements.append(ProposedPlacement(workload.id, self.sites[site], ranks, option.number))

    def taken(self, known: Known, count: int, accelerators_milli: int) -> tuple[Taken, Taken]:
        """What so many ranks have, and which part of the estate that is; the same for all who ask for the same."""
        ask = known.ask
        more = Taken(accelerators_milli, count * ask.cpu_milli, count * ask.memory_mb)
        found = more, self.shares.parts(more)
        if not ask.whole:
            known.taken[count] = found
        return found


def _node(placed: tuple[int, RankPlace]) -> int:
    return placed[0]


def _once(evictions: Iterable[Eviction]) -> tuple[Eviction, ...]:
    """Each placement once: two who need it gone are served by one end."""
    return tuple({eviction.placement: eviction for eviction in evictions}.values())
