"""The ladder of curtailment: what is shed, in which order, so that a site comes down to what the grid allows; and goes on again.

Level-triggered: :func:`follow` looks at what stands, at what was told and has not done it yet, and tells the next. It is asked
again and again; where nothing is to be done it makes no events. What was told to go counts as gone until its deadline; one
that has not done it by then counts for nothing, and the next rung is used.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding
from headrace.core.estate import Site
from headrace.core.fleet import I64
from headrace.core.ids import NodeId, PowerNodeId, SiteId, WorkloadId
from headrace.core.power import limits
from headrace.core.power.caps import (
    CAP_MS,
    OFF_MS,
    OFF_W,
    Cappable,
    cappable,
    going_w,
    has_failed,
    is_worth,
    lowest_w,
    of_site,
    off_w,
    shared_out,
    with_overshoot,
)
from headrace.core.power.floors import restores_w
from headrace.core.power.instruction import GRID_LIMITS, InstructionId
from headrace.core.power.moving import Elsewhere
from headrace.core.power.pue import it_watts
from headrace.core.power.shedding import ORDER, Rung, ShedClass, shed_class
from headrace.core.units import MS_PER_HOUR, MS_PER_SECOND
from headrace.core.workload import EndReason, Flex, Placement, WorkloadSpec
from headrace.core.world import World

PAUSE_MS = 5 * MS_PER_SECOND
"""A pause that is not seen this long after it was ordered counts for nothing."""
SEEN_MS = 5 * MS_PER_SECOND
"""And an end that is not seen this long after its grace."""
LEAST_GRACE_MS = 5 * MS_PER_SECOND
"""However late it is, who has to end is given this."""
MOST_GRACE_MS = limits.LEAD_MS // 2 - SEEN_MS
"""And never more than this: there has to be time for another rung."""
PAUSE_LEAD_MS = PAUSE_MS + LEAST_GRACE_MS + 2 * SEEN_MS
"""So long before an instruction is due pauses are ordered: should one fail, its workload can still be ended in time."""

CAP_LEAD_MS = CAP_MS + PAUSE_LEAD_MS
"""So long before an instruction is due nodes are capped: should some fail, others can still be paused in time."""
OFF_LEAD_MS = OFF_MS + SEEN_MS
"""So long before an instruction is due nodes are shut down: the last rung."""
SOON_MS = MS_PER_HOUR
"""A node that somebody has reserved from so soon on is not shut down."""
_ENDS = frozenset({Rung.REQUEUE, Rung.PREEMPT})
_GO = _ENDS | {Rung.MINERS}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A placement, by which rung it is shed, and what that saves: watts of IT load. ``cost``: GPU-milliseconds lost, at most.

    ``ends_w``: what its end saves, whatever its rung. ``grace_ms``: what its owner asked for. ``is_saved``: it saves its state,
    so that it may end where its pause fails. ``helps``: its end sheds something, by itself or with those that share its nodes.
    ``moves``: it would end, and another site seems to have room for it. ``mj_per_th``: what its mining machines take for a
    terahash, the worst of them (0: it has none).
    """

    placement: Placement
    rung: Rung
    saves_w: int
    ends_w: int
    cost: int
    grace_ms: int
    is_saved: bool
    helps: bool
    moves: bool
    mj_per_th: int = 0

    @property
    def key(self) -> tuple[int, bool, int, int, int]:
        """Its turn: by rung, then who could go on elsewhere, then by what a watt costs, the youngest first.

        Of mining machines the least efficient first: of the same watts they earn least.
        """
        cost = self.cost // max(1, self.saves_w)
        return ORDER.index(self.rung), not self.moves, -self.mj_per_th, cost, -self.placement.made_seq


@dataclass(frozen=True, slots=True)
class Ladder:
    """All of a site: what it draws at most, what of it can't be shed, and who sheds what (watts of IT load).

    ``caps``: nodes of cappable workloads whose limit may be lowered; the floor counts them in full. ``idle``: nodes with nothing
    on them that can be shut down. ``credit_w``: what caps in force are worth already.
    """

    site: SiteId
    draws_w: int
    floor_w: int
    candidates: tuple[Candidate, ...]
    caps: tuple[Cappable, ...] = ()
    idle: tuple[Cappable, ...] = ()
    credit_w: int = 0

    def by_rung(self) -> dict[Rung, int]:
        """Watts that each rung sheds."""
        found: dict[Rung, int] = {rung: 0 for rung in ORDER if rung is not Rung.KEEP}
        for one in self.candidates:
            if one.rung in found:
                found[one.rung] += one.saves_w
        found[Rung.CAP] += sum(one.saves_w for one in self.caps)
        found[Rung.OFF] += sum(one.saves_w for one in self.idle)
        return found

    def workloads(self) -> Iterator[tuple[Rung, WorkloadId]]:
        """Who is on which rung."""
        for one in self.candidates:
            yield one.rung, one.placement.workload


def grace_of(placement: Placement, spec: WorkloadSpec) -> int:
    """The grace that a placement ends with, milliseconds: its owner's, or the shorter one that it was told."""
    return min(spec.grace_ms, placement.stop_grace_ms) if placement.stop_grace_ms else spec.grace_ms


def ladder_of(world: World, site: SiteId) -> Ladder:
    """What can be shed at a site now, the next to go first."""
    number = world.fleet.site_index[site]
    root = world.fleet.power_index[PowerNodeId(site)]
    found, caps, elsewhere = [], list[Cappable](), Elsewhere(world, number)
    for placement in world.state.placements.values():
        if placement.site == site:
            spec = world.state.workloads[placement.workload].spec
            rung = world.rung(spec, placement)
            moves = rung in _ENDS and elsewhere.has_room(placement.tenant, spec)
            found.append(_candidate(world, placement, spec, rung, moves=moves))
            if spec.flex is Flex.CAPPABLE and world.state.limiters:
                caps += _cappable(world, placement)
    found.sort(key=lambda one: one.key)
    draws_w, floor_w = int(world.power_w[root]), world.floors.watts[number]
    return Ladder(
        site,
        draws_w,
        floor_w,
        tuple(found),
        tuple(caps),
        tuple(_idle(world, number)),
        world.counted.credit_at(site),
    )


def _cappable(world: World, placement: Placement) -> Iterator[Cappable]:
    """The nodes of a placement that it has for itself, and that can be limited further than they are."""
    fleet, ranks_there = world.fleet, Counter(rank.node for rank in placement.ranks)
    for name, ranks in ranks_there.items():
        node = NodeId(name)
        least_w, index = world.state.limiters.get(node), fleet.node_index[node]
        if least_w is None or node in world.state.intruders or int(world.node_ranks[index]) != ranks:
            continue
        used = int(world.node_mask[index]).bit_count()
        draws_w = world.counted.draw_w(index)
        cap = world.state.caps.get(node)
        is_coming = cap is not None and going_w(cap, draws_w, world.now_ms, world.started_ms) > 0
        if cap is not None and cap.wanted_w and not cap.is_met and (is_coming or not cap.is_done):
            # What was ordered counts as under way, or has failed: in either case only more than that is to be had. One that
            # rounds up does what it says.
            draws_w = min(draws_w, with_overshoot(cap.wanted_w))
        found = cappable(node, draws_w, lowest_w(world.hardware_of(node), used, least_w))
        if found is not None:
            yield found


def _idle(world: World, site: int) -> Iterator[Cappable]:
    """The nodes of a site that nothing runs on, that nobody has reserved soon, and that can be shut down."""
    kept = {
        node
        for window in world.windows
        if window.site == site and window.starts_ms - SOON_MS <= world.now_ms < window.ends_ms
        for node in window.nodes
    }
    for name in of_site(world.state.switches, world.fleet.sites[site].id):
        index = world.fleet.node_index.get(name)
        if index is None or index in kept or world.node_ranks[index] or name in world.state.intruders:
            continue
        if not world.node_here[index] or (name in world.state.caps and world.state.caps[name].is_off):
            continue
        found = cappable(name, world.counted.draw_w(index), OFF_W, off_w(world.hardware_of(name)))
        if found is not None:
            yield found


def _candidate(
    world: World, placement: Placement, spec: WorkloadSpec, rung: Rung, *, moves: bool
) -> Candidate:
    quiet_w = asleep_w = accelerators = mj_per_th = 0
    helps = False
    for rank in placement.ranks:
        accelerators += rank.mask.bit_count()
        if rank.node in world.state.intruders:
            # It counts at its nameplate until they are gone, whatever else ends there.
            continue
        hardware = world.hardware_of(rank.node)
        mj_per_th = max(mj_per_th, hardware.mj_per_th)
        count = 0 if placement.is_quiet else rank.mask.bit_count()
        quiet_w += count * (hardware.accelerator_w - hardware.accelerator_idle_w)
        # A node sleeps once nobody is on it, which only the last who goes can count on: whoever shares it counts without.
        node = world.fleet.node_index[NodeId(rank.node)]
        if world.node_ranks[node] == 1:
            asleep_w += hardware.node_watts(0, busy=True) - hardware.idle_w
        helps |= rung is not Rung.PAUSE and not world.floors.keeps(node)
    lost_ms = max(0, world.now_ms - (placement.started_ms or world.now_ms))
    if spec.checkpoint_ms:
        lost_ms = min(lost_ms, spec.checkpoint_ms) + spec.restart_ms
    is_saved = shed_class(spec) is ShedClass.SAVED
    cost = lost_ms * max(1, accelerators)
    ends_w = quiet_w + asleep_w
    saves_w = quiet_w if rung is Rung.PAUSE else ends_w
    helps |= saves_w > 0
    return Candidate(placement, rung, saves_w, ends_w, cost, spec.grace_ms, is_saved, helps, moves, mj_per_th)


@dataclass(frozen=True, slots=True)
class Target:
    """A site has to be at or under ``limit_w`` (IT load) by ``by_ms``, for an instruction; ``is_on``: one that holds already.

    For one that is still to come nobody goes before it is time.
    """

    limit_w: int
    by_ms: int
    why: InstructionId
    is_on: bool


def follow(world: World, _: c.FollowGrid, asked: Asked) -> Deciding:
    """Bring every site to what its instructions allow; let go on what was paused for the grid as far as that lets it."""
    by_site: dict[SiteId, list[limits.Standing]] = {}
    for standing in world.state.instructions.values():
        by_site.setdefault(standing.instruction.site, []).append(standing)
    paused: dict[SiteId, list[Placement]] = {}
    for ident in world.curtailed:
        placement = world.state.placements[ident]
        paused.setdefault(placement.site, []).append(placement)
    capped = {node.partition("/")[0] for node in world.state.caps}
    for site in world.fleet.sites:
        if site.id in by_site or site.id in paused or site.connection.windows or site.id in capped:
            here = limits.standings_at(site, by_site.get(site.id, ()), asked.now_ms)
            yield from _follow(world, site, here, paused.get(site.id, []), asked.now_ms)
    return None


def _targets(site: Site, standing: list[limits.Standing], now_ms: int) -> Iterator[Target]:
    """What the site must come down to, and by when; the ends of ramps are no targets, since nothing goes for them.

    Where its draw may fall only so fast it goes down with what is left of the time, and so begins before it holds.
    """
    ramp_w = site.connection.ramp_down_w_per_minute
    for one in standing:
        instruction = one.instruction
        if one.was_in_force and one.is_open(now_ms) and now_ms >= one.leads_ms:
            limit_w = it_watts(site, instruction.limit_w + one.glides_w(ramp_w, now_ms))
            is_on = bool(ramp_w) or instruction.from_ms <= now_ms
            yield Target(limit_w, one.point_due_ms(now_ms), instruction.id, is_on)


def _follow(
    world: World, site: Site, standing: list[limits.Standing], paused: list[Placement], now_ms: int
) -> Iterator[ev.Event]:
    root = world.fleet.power_index[PowerNodeId(site.id)]
    draws_w = int(world.power_w[root])
    passed = [one for one in _targets(site, standing, now_ms) if draws_w > one.limit_w]
    if passed:
        ladder = ladder_of(world, site.id)
        told: set[str] = set()
        for target in sorted(passed, key=lambda one: (one.limit_w, one.by_ms)):
            orders, left_w = _shed(world, ladder, target, now_ms)
            for event in orders:
                # Of several instructions the deepest is asked first: who was told for it is not told again.
                whom = event.site if isinstance(event, ev.CapsOrdered) else event.placement
                if whom not in told:
                    told.add(whom)
                    yield event
            if left_w > 0 and now_ms >= target.by_ms:
                yield from _used_up(world, ladder, target, left_w)
    elif paused or world.state.caps:
        room_w = world.fleet.power_limit_w - world.power_w
        start_w = it_watts(site, limits.allowed(site.connection, standing, now_ms).start_w)
        room_w[root] = min(int(room_w[root]), start_w - draws_w)
        yield from _lift(world, paused, room_w)
        yield from _uncap(world, site.id, room_w)


Order = ev.CurtailmentOrdered | ev.EvictionRequested | ev.CapsOrdered


def _shed(world: World, ladder: Ladder, target: Target, now_ms: int) -> tuple[list[Order], int]:
    """Who is told to go, or to pause, or is capped, now: as many as it takes, each when it is time. And the watts that nobody
    is left for.

    Who was told counts until its deadline. Nobody is told before somebody of an earlier turn.
    """
    over_w = ladder.draws_w - target.limit_w - _being_capped_w(world, ladder.site, now_ms)
    free: list[Candidate] = []
    for one in ladder.candidates:
        if _gone_ms(world, one, target, now_ms) > now_ms:
            over_w -= one.saves_w if one.placement.stop_reason is None else one.ends_w
        elif one.placement.stop_reason is None and not one.placement.is_quiet and one.helps:
            # A pause that had no effect in time is followed by the end of who saves its state.
            if one.placement.curtailed:
                one = replace(one, rung=Rung.REQUEUE if one.is_saved else Rung.KEEP, saves_w=one.ends_w)  # noqa: PLW2901
            if one.rung is not Rung.KEEP:
                free.append(one)
    free.sort(key=lambda one: one.key)
    before = [one for one in free if ORDER.index(one.rung) < ORDER.index(Rung.CAP)]
    chosen, over_w = _as_needed(before, over_w)
    able, capped = _capped(world, _not_failed(world, ladder.caps, now_ms), over_w)
    if capped:
        over_w -= min(over_w, sum(one.saves_w for one in able))
    after, over_w = _as_needed(free[len(before) :], over_w)
    shut, over_w = _shut(_not_failed(world, ladder.idle, now_ms), over_w)
    if over_w > 0:
        after += _joining(ladder, after)
    left_ms = 0 if target.is_on else target.by_ms - now_ms
    is_off_time = bool(shut) and left_ms <= OFF_LEAD_MS
    told = after if is_off_time else _in_time(after, target, now_ms)
    orders: list[Order] = [_order(one, target, now_ms) for one in told]
    limits_w = [
        *(capped if told or is_off_time or left_ms <= CAP_LEAD_MS else ()),
        *(shut if is_off_time else ()),
    ]
    if limits_w:
        orders.insert(0, ev.CapsOrdered(ladder.site, target.why, tuple(limits_w)))
    first = chosen if orders else _in_time(chosen, target, now_ms)
    return [*(_order(one, target, now_ms) for one in first), *orders], over_w


def _as_needed(free: list[Candidate], over_w: int) -> tuple[list[Candidate], int]:
    """So many, in their turn, as it takes; and the watts that are left after them (0 or less: none)."""
    for count, one in enumerate(free):
        if over_w <= 0:
            return free[:count], over_w
        over_w -= one.saves_w
    return free, over_w


def _joining(ladder: Ladder, going: list[Candidate]) -> list[Candidate]:
    """Who sheds nothing alone, but on a node that all others leave lets it sleep: it goes with them, where nothing else is left.

    Others who keep a node awake when they are paused may have to end after all.
    """
    ends = {one.placement.id for one in going if one.rung in _ENDS}
    ends |= {one.placement.id for one in ladder.candidates if one.placement.stop_reason is not None}
    idle = [
        one for one in ladder.candidates if not one.helps and one.rung in _GO and one.placement.id not in ends
    ]
    leaving = ends | {one.placement.id for one in idle}
    awake = {
        rank.node
        for one in ladder.candidates
        if one.placement.id not in leaving
        for rank in one.placement.ranks
    }
    return [one for one in idle if any(rank.node not in awake for rank in one.placement.ranks)]


def _shut(idle: list[Cappable], over_w: int) -> tuple[list[tuple[NodeId, int]], int]:
    """So many nodes to shut down as it takes, those that save most first; and the watts that are left after them."""
    found: list[tuple[NodeId, int]] = []
    for one in sorted(idle, key=lambda one: (-one.saves_w, one.node)):
        if over_w <= 0:
            break
        over_w -= one.saves_w
        found.append((one.node, OFF_W))
    return found, over_w


def _capped(
    world: World, able: list[Cappable], over_w: int
) -> tuple[list[Cappable], list[tuple[NodeId, int]]]:
    """Which nodes are to be capped, and at what. Those that round up, and would do so again, are left as they are: the others
    give what they don't.
    """
    caps = world.state.caps
    while True:
        found = shared_out(able, over_w)
        vain = {node for node, watts in found if not is_worth(caps.get(node), watts)}
        if not vain:
            return able, found
        able = [one for one in able if one.node not in vain]


def _in_time(chosen: list[Candidate], target: Target, now_ms: int) -> list[Candidate]:
    """Those who have to be told now, and all whose turn is before theirs."""
    last = max((at for at, one in enumerate(chosen) if _is_time(one, target, now_ms)), default=-1)
    return chosen[: last + 1]


def _being_capped_w(world: World, site: SiteId, now_ms: int) -> int:
    """Watts that caps save that were ordered and may yet be confirmed in time."""
    caps, found_w = world.state.caps, 0
    for node in of_site(caps, site):
        index = world.fleet.node_index.get(node)
        if index is not None:
            draws_w = world.counted.draw_w(index)
            found_w += going_w(caps[node], draws_w, now_ms, world.started_ms)
    return found_w


def _not_failed(world: World, nodes: Iterable[Cappable], now_ms: int) -> list[Cappable]:
    """Those whose controllers did what they were told last, or may yet."""
    caps, begun_ms = world.state.caps, world.started_ms
    return [one for one in nodes if one.node not in caps or not has_failed(caps[one.node], now_ms, begun_ms)]


def _gone_ms(world: World, one: Candidate, target: Target, now_ms: int) -> int:
    """Until when it may be taken to be going, or pausing, since it was told; 0 when it is not, or not in time.

    Time in which no control plane was there to ask its engine does not count.
    """
    placement, begun_ms = one.placement, world.started_ms
    if placement.stop_reason is not None:
        since_ms = max(placement.stop_since_ms, begun_ms)
        gone_ms = since_ms + (placement.stop_grace_ms or one.grace_ms) + SEEN_MS
        # Who was told by somebody else, or for a later instruction, may take longer than another would.
        return gone_ms if gone_ms <= max(target.by_ms, now_ms + LEAST_GRACE_MS + SEEN_MS) else 0
    if placement.curtailed and not placement.is_quiet:
        return max(placement.curtailed_ms, begun_ms) + PAUSE_MS
    return 0


def _used_up(world: World, ladder: Ladder, target: Target, left_w: int) -> Iterator[ev.Event]:
    """An alarm, once, when a site is over its limit, it is due, and there is nobody left to tell."""
    failed_ms = [_gone_ms(world, one, target, 1 << 62) for one in ladder.candidates]
    caps = world.state.caps
    failed_ms += [caps[node].ordered_ms + caps[node].patience_ms for node in of_site(caps, ladder.site)]
    since_ms = max([target.by_ms, *failed_ms])
    for at_ms, alarm in reversed(world.state.alarms):
        if at_ms < since_ms:
            break
        if alarm.promise == 1 and alarm.subject == ladder.site:
            return
    detail = f"{left_w} W over what instruction {target.why} allows, and nobody is left who could be shed"
    yield ev.AlarmRaised(1, ladder.site, detail)


def _is_time(one: Candidate, target: Target, now_ms: int) -> bool:
    """Whether it has to be told now; for an instruction that is still to come as late as leaves time for another rung."""
    left_ms = target.by_ms - now_ms
    if target.is_on or one.rung is Rung.PAUSE:
        return target.is_on or left_ms <= PAUSE_LEAD_MS
    return left_ms <= 2 * (min(one.grace_ms, MOST_GRACE_MS) + SEEN_MS)


def _order(one: Candidate, target: Target, now_ms: int) -> Order:
    """What it is told."""
    if one.rung is Rung.PAUSE:
        return ev.CurtailmentOrdered(one.placement.id, target.why)
    # Half of the time that is left, so that another can still go for one that does not.
    left_ms = target.by_ms - now_ms
    grace_ms = min(one.grace_ms, MOST_GRACE_MS, max(LEAST_GRACE_MS, left_ms // 2 - SEEN_MS))
    return ev.EvictionRequested(one.placement.id, EndReason.CURTAILED, _why(one, target.why), grace_ms)


def _why(one: Candidate, why: InstructionId) -> str:
    text = f"{GRID_LIMITS}{one.placement.site} (instruction {why})"
    return f"{text}; its pause did not take effect" if one.placement.curtailed else text


def _lift(world: World, paused: list[Placement], room_w: I64) -> Iterator[ev.Event]:
    """Let go on who was paused, those first that wait longest, as far as there is power for all that they may draw.

    ``room_w``: what each element can still carry; what is given is taken off.
    """
    for placement in sorted(paused, key=lambda one: (one.curtailed_ms, one.made_seq)):
        needs_w: dict[int, int] = {}
        is_over = False
        for name, watts in restores_w(placement, world.hardware_of).items():
            if name in world.state.intruders:
                # It counts at its nameplate already; what is over a limit is not to grow all the same.
                is_over |= any(room_w[element] < 0 for element in world.over(NodeId(name)))
            else:
                world.add_on_path(needs_w, world.fleet.node_index[NodeId(name)], watts)
        if placement.stop_reason is None and not is_over and _take(room_w, needs_w):
            yield ev.CurtailmentLifted(placement.id)


def _uncap(world: World, site: SiteId, room_w: I64) -> Iterator[ev.Event]:
    """Lift caps as far as there is power for all that their nodes may draw without: of what runs first, then by age."""
    caps, lifted = world.state.caps, []
    for node in sorted(of_site(caps, site), key=lambda one: (caps[one].is_off, caps[one].ordered_ms, one)):
        index, needs_w = world.fleet.node_index.get(node), dict[int, int]()
        if index is not None:
            world.add_on_path(needs_w, index, world.counted.credit_w.get(index, 0))
        if caps[node].wanted_w and _take(room_w, needs_w):
            lifted.append(node)
    if lifted:
        yield ev.CapsLifted(site, tuple(lifted))


def _take(room_w: I64, needs_w: dict[int, int]) -> bool:
    """Take watts off what elements can still carry, if each of them can."""
    if any(watts > 0 and watts > room_w[element] for element, watts in needs_w.items()):
        return False
    for element, watts in needs_w.items():
        room_w[element] -= watts
    return True
