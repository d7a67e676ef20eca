"""The ladder of curtailment: what is shed, in which order, so that a site comes down to what the grid allows; and goes on again.

Level-triggered: :func:`follow` looks at what stands, at what was told and has not done it yet, and tells the next. It is asked
again and again; where nothing is to be done it makes no events. What was told to go counts as gone until its deadline; one
that has not done it by then counts for nothing, and the next rung is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding
from headrace.core.estate import Site
from headrace.core.ids import NodeId, PlacementId, PowerNodeId, SiteId, WorkloadId
from headrace.core.power import limits
from headrace.core.power.floors import restores_w
from headrace.core.power.instruction import InstructionId
from headrace.core.power.pue import it_watts
from headrace.core.power.shedding import ORDER, Rung, rung_of, shed_class
from headrace.core.units import MS_PER_SECOND
from headrace.core.workload import EndReason, Placement, WorkloadSpec
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A placement, by which rung it is shed, and what that saves: watts of IT load. ``cost``: GPU-milliseconds lost, at most.

    ``grace_ms``: what its owner asked for.
    """

    placement: Placement
    rung: Rung
    saves_w: int
    cost: int
    grace_ms: int

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Its turn: by rung, then by what a watt costs, the youngest first."""
        return ORDER.index(self.rung), self.cost // max(1, self.saves_w), -self.placement.made_seq, 0


@dataclass(frozen=True, slots=True)
class Ladder:
    """All of a site: what it draws at most, what of it can't be shed, and who sheds what (watts of IT load)."""

    site: SiteId
    draws_w: int
    floor_w: int
    candidates: tuple[Candidate, ...]

    def by_rung(self) -> dict[Rung, int]:
        """Watts that each rung sheds."""
        found: dict[Rung, int] = {rung: 0 for rung in ORDER if rung is not Rung.KEEP}
        for one in self.candidates:
            if one.rung in found:
                found[one.rung] += one.saves_w
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
    engine = world.state.engines.get(world.site(site).engine)
    found = []
    for placement in world.state.placements.values():
        if placement.site == site:
            spec = world.state.workloads[placement.workload].spec
            rung = rung_of(shed_class(spec), engine)
            found.append(_candidate(world, placement, spec, rung))
    found.sort(key=lambda one: one.key)
    return Ladder(site, int(world.power_w[root]), world.floors.watts[number], tuple(found))


def _candidate(world: World, placement: Placement, spec: WorkloadSpec, rung: Rung) -> Candidate:
    watts = accelerators = 0
    for rank in placement.ranks:
        accelerators += rank.mask.bit_count()
        if rank.node in world.state.intruders:
            # It counts at its nameplate until they are gone, whatever else ends there.
            continue
        hardware = world.hardware_of(rank.node)
        count = 0 if placement.is_quiet else rank.mask.bit_count()
        watts += count * (hardware.accelerator_w - hardware.accelerator_idle_w)
        # A node sleeps once nobody is on it, which only the last who goes can count on: whoever shares it counts without.
        node = world.fleet.node_index[NodeId(rank.node)]
        if rung is not Rung.PAUSE and world.node_ranks[node] == 1:
            watts += hardware.node_watts(0, busy=True) - hardware.idle_w
    lost_ms = max(0, world.now_ms - (placement.started_ms or world.now_ms))
    if spec.checkpoint_ms:
        lost_ms = min(lost_ms, spec.checkpoint_ms) + spec.restart_ms
    return Candidate(placement, rung, watts, lost_ms * max(1, accelerators), spec.grace_ms)


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
    for site in world.fleet.sites:
        if site.id in by_site or site.id in paused or site.connection.windows:
            here = limits.standings_at(site, by_site.get(site.id, ()), asked.now_ms)
            yield from _follow(world, site, here, paused.get(site.id, []), asked.now_ms)
    return None


def _targets(site: Site, standing: list[limits.Standing], now_ms: int) -> Iterator[Target]:
    """What the site must come down to, and by when; the ends of ramps are no targets, since nothing goes for them."""
    for one in standing:
        instruction = one.instruction
        if one.was_in_force and one.is_open(now_ms) and now_ms >= instruction.from_ms - limits.LEAD_MS:
            is_on = instruction.from_ms <= now_ms
            yield Target(it_watts(site, instruction.limit_w), one.due_ms, instruction.id, is_on)


def _follow(
    world: World, site: Site, standing: list[limits.Standing], paused: list[Placement], now_ms: int
) -> Iterator[ev.Event]:
    root = world.fleet.power_index[PowerNodeId(site.id)]
    draws_w = int(world.power_w[root])
    passed = [one for one in _targets(site, standing, now_ms) if draws_w > one.limit_w]
    if passed:
        ladder = ladder_of(world, site.id)
        told: set[PlacementId] = set()
        for target in sorted(passed, key=lambda one: (one.limit_w, one.by_ms)):
            for event in _shed(ladder, target, now_ms):
                if event.placement not in told:
                    told.add(event.placement)
                    yield event
    elif paused:
        start_w = it_watts(site, limits.allowed(site.connection, standing, now_ms).start_w)
        yield from _lift(world, paused, min(start_w, int(world.fleet.power_limit_w[root])) - draws_w)


Order = ev.CurtailmentOrdered | ev.EvictionRequested


def _shed(ladder: Ladder, target: Target, now_ms: int) -> Iterator[Order]:
    """Tell as many to go, or to pause, as it takes, each when it is time; who was told counts until its deadline."""
    over_w = ladder.draws_w - target.limit_w
    free: list[Candidate] = []
    for one in ladder.candidates:
        if _is_on_its_way(one, target, now_ms):
            over_w -= one.saves_w
        elif one.placement.stop_reason is None and not one.placement.is_quiet:
            # A pause that had no effect in time is followed by the end, if the workload lets itself be ended.
            rung = Rung.REQUEUE if one.placement.curtailed else one.rung
            if rung is not Rung.KEEP and one.saves_w > 0:
                free.append(replace(one, rung=rung))
    for one in sorted(free, key=lambda one: one.key):
        if over_w <= 0:
            return
        over_w -= one.saves_w
        order = _order(one, target, now_ms)
        if order is not None:
            yield order


def _is_on_its_way(one: Candidate, target: Target, now_ms: int) -> bool:
    """Whether it was told to go, or to pause, and may be taken to have done so in time."""
    placement = one.placement
    if placement.stop_reason is not None:
        gone_ms = placement.stop_since_ms + (placement.stop_grace_ms or one.grace_ms) + SEEN_MS
        return now_ms < gone_ms <= max(target.by_ms, now_ms + MOST_GRACE_MS)
    return bool(placement.curtailed and not placement.is_quiet and now_ms < placement.curtailed_ms + PAUSE_MS)


def _order(one: Candidate, target: Target, now_ms: int) -> Order | None:
    """What it is told now, None while there is time."""
    left_ms = target.by_ms - now_ms
    if one.rung is Rung.PAUSE:
        is_time = target.is_on or left_ms <= PAUSE_LEAD_MS
        return ev.CurtailmentOrdered(one.placement.id, target.why) if is_time else None
    if not target.is_on and left_ms > 2 * (min(one.grace_ms, MOST_GRACE_MS) + SEEN_MS):
        return None
    # Half of the time that is left, so that another can still go for one that does not.
    grace_ms = min(one.grace_ms, MOST_GRACE_MS, max(LEAST_GRACE_MS, left_ms // 2 - SEEN_MS))
    return ev.EvictionRequested(one.placement.id, EndReason.CURTAILED, _why(one, target.why), grace_ms)


def _why(one: Candidate, why: InstructionId) -> str:
    text = f"the grid limits {one.placement.site} (instruction {why})"
    return f"{text}; its pause did not take effect" if one.placement.curtailed else text


def _lift(world: World, paused: list[Placement], left_w: int) -> Iterator[ev.Event]:
    """Let go on who was paused, those first that wait longest, as far as there is power for all that they may draw."""
    for placement in sorted(paused, key=lambda one: (one.curtailed_ms, one.made_seq)):
        needs_w = restores_w(placement, world.hardware_of)
        if needs_w <= left_w and placement.stop_reason is None:
            left_w -= needs_w
            yield ev.CurtailmentLifted(placement.id)
