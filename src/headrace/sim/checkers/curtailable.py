"""What may be drawn at sites that the grid instructs, who could be shed there and by which rung: a model from events alone."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from headrace.core.power.instruction import Instruction
from headrace.core.units import MS_PER_MINUTE, PERMILLE
from headrace.core.workload import WHOLE_MILLI, Flex, RankPlace, WorkloadSpec, WorkloadType
from headrace.sim.checkers.base import Checker
from headrace.sim.checkers.caps import Caps
from headrace.sim.checkers.papers import Papers, iso_day
from headrace.sim.checkers.quiet import Quiet, loads_w

AHEAD_MS = 15 * MS_PER_MINUTE
"""From so long before an instruction begins nothing starts that it would stop."""
FILLER, CAP, PAUSE, REQUEUE, PREEMPT = range(1, 6)
"""The rungs, in their order."""
NOBODY: Collection[str] = frozenset()
UNCAPPED: Mapping[str, int] = {}


@dataclass(slots=True)
class Held:
    """A placement that has not ended. ``told_ms``: when the grid asked it to pause or end; ``due_ms``: by when it has."""

    name: str
    workload: str
    site: str
    ranks: tuple[RankPlace, ...]
    spec: WorkloadSpec
    started: bool = False
    stopping: bool = False
    evicted: bool = False
    told_ms: int = -1
    due_ms: int = 0
    failed: bool = False
    could_lift_ms: int = -1
    looks: int = 0


@dataclass(slots=True)
class Standing:
    """An instruction that was received and has not ended. ``is_short``: what can't be shed may be more than it allows."""

    instruction: Instruction
    received_ms: int
    is_short: bool = False


@dataclass(slots=True)
class Ramp:
    """An instruction ended at ``since_ms``. What may be drawn rises from there: watts of IT load.

    From ``most_w``, what it allowed or what was drawn if that was more; whoever waits has waited long enough from ``least_w`` on.
    """

    since_ms: int
    most_w: int
    least_w: int


@dataclass(frozen=True, slots=True)
class Share:
    """A cap that was just ordered: what its node could draw before, what is wanted, and the least that could be.

    ``is_first``: nothing was asked of its controller before.
    """

    node: str
    draws_w: int
    wanted_w: int
    lowest_w: int
    is_first: bool


@dataclass(slots=True)
class Place:
    """What is known of a site. ``since_ms``: since when nothing beyond the control plane's power has changed there."""

    standing: dict[str, Standing] = field(default_factory=dict)
    ramps: list[Ramp] = field(default_factory=list)
    over: list[tuple[Standing, Ramp | None]] = field(default_factory=list)
    since_ms: int = 0
    failed_ms: int = -1
    alarm_ms: int = -1
    due_alarm: str = ""
    over_told: bool = False
    unshed_ms: int = -1
    batch: list[tuple[int, str]] = field(default_factory=list)
    passed_over: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    capping: list[Share] = field(default_factory=list)
    could_lift_ms: int = -1
    looks: int = 0


class Curtailable(Checker):
    """Placements, instructions and ramps, and the arithmetic of them; it finds nothing itself."""

    promise = 1

    def __init__(self, papers: Papers | None = None) -> None:
        self.held: dict[str, Held] = {}
        self.at: dict[str, dict[str, Held]] = {}
        self.places: dict[str, Place] = {}
        self.intruders: dict[str, None] = {}
        self.caps = Caps()
        self.covered: dict[str, int] = {}
        self.now_ms = 0
        self._batch_ms = -1
        super().__init__(papers)
        self.quiet = Quiet(self.papers)

    def _cover(self, what: str) -> None:
        self.covered[what] = self.covered.get(what, 0) + 1

    # -- time -----------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """The orders of one moment are complete."""

    def _tick(self, at_ms: int) -> None:
        """An event of a moment: an earlier one's orders are judged, and what ends by itself has ended."""
        if self._batch_ms >= 0 and at_ms != self._batch_ms:
            self._judge()
        self.now_ms = at_ms
        self._close_all()

    def _close_all(self) -> None:
        """What ends by itself has ended by now. Looks without events may be undone: a clock is set back, and it stands again."""
        for site, place in self.places.items():
            for one, ramp in place.over:
                if one.instruction.until_ms > self.now_ms:
                    place.standing.setdefault(one.instruction.id, one)
                    place.ramps = [other for other in place.ramps if other is not ramp]
            place.over = [known for known in place.over if known[0].instruction.until_ms <= self.now_ms]
            for ident, one in list(place.standing.items()):
                until_ms = one.instruction.until_ms
                if until_ms and until_ms <= self.now_ms:
                    place.over.append((one, self._close(site, place, ident, until_ms)))

    def _surprise(self, site: str) -> None:
        """Something beyond the control plane's power changed: it has time to settle again."""
        if site in self.places:
            self.places[site].since_ms = self.now_ms

    def _reckon(self, site: str) -> None:
        """Other floors: what was enough for an instruction may be no longer."""
        place = self.places.get(site)
        for one in place.standing.values() if place is not None else ():
            one.is_short = one.is_short or self.it_w(site, one.instruction.limit_w) < self.floors_w(site)[1]

    # -- arithmetic -----------------------------------------------------------------------------------------

    def draw_w(
        self,
        site: str,
        gone: Collection[str] = NOBODY,
        quiet: Collection[str] = NOBODY,
        most_w: Mapping[str, int] | None = None,
    ) -> int:
        """The most that a site can draw, watts of IT load; without those in ``gone``, those in ``quiet`` paused.

        With caps by what their controllers say; or, with ``most_w``, no more at those nodes.
        """
        return self._loads(site, gone, quiet, most_w=most_w).get(site, 0)

    def _loads(
        self,
        site: str,
        gone: Collection[str] = NOBODY,
        quiet: Collection[str] = NOBODY,
        loud: Collection[str] = NOBODY,
        most_w: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        ranks = (
            (rank, name not in loud and (name in quiet or self.quiet.is_quiet(name)))
            for name, held in self.at.get(site, {}).items()
            if name not in gone
            for rank in held.ranks
        )
        most_w = self.caps.counted(site) if most_w is None else most_w
        ground, today = self.papers.ground, iso_day(self.now_ms)
        return loads_w(ground, site, today, ranks, self.intruders, most_w, self.caps.excess)

    def it_w(self, site: str, meter_w: int) -> int:
        """Watts of IT load that so many at the meter of a site carry."""
        found = self.papers.sites.get(site)
        return meter_w * PERMILLE // max(1, found.pue_permille if found is not None else PERMILLE)

    def rung(self, held: Held) -> int:
        """The rung that it would be shed by now; 0: it can't be."""
        spec, sheds = held.spec, self.quiet.sheds(held.site)
        if spec.type is WorkloadType.FILLER:
            return FILLER
        if spec.flex is Flex.PREEMPTIBLE:
            return PREEMPT
        if spec.flex is not Flex.PAUSABLE:
            return 0
        # Paused already, or the pause came to nothing.
        has_paused = held.failed or self.quiet.is_quiet(held.name)
        if sheds and not has_paused:
            return PAUSE
        return REQUEUE if spec.checkpoint_ms else 0

    def floors_w(self, site: str) -> tuple[int, int]:
        """What can't be shed at a site but by caps, watts of IT load: at least, and at most."""
        gone, quiet, leaves = set[str](), set[str](), set[str]()
        for name, held in self.at.get(site, {}).items():
            spec = held.spec
            if held.stopping:
                leaves.add(name)
            elif spec.type is WorkloadType.FILLER or spec.flex is Flex.PREEMPTIBLE:
                gone.add(name)
            elif spec.flex is Flex.PAUSABLE and self.quiet.sheds(site):
                if held.started and not held.failed:
                    quiet.add(name)
                leaves.add(name) if spec.checkpoint_ms or not held.started else None
            elif spec.flex is Flex.PAUSABLE and spec.checkpoint_ms:
                gone.add(name)
            elif spec.flex is Flex.PAUSABLE and not held.started:
                leaves.add(name)
        least_w = self.draw_w(site, gone | leaves, quiet, UNCAPPED)
        return least_w, self.draw_w(site, gone, quiet, UNCAPPED) + self._parts_w(site, gone)

    def _parts_w(self, site: str, gone: Collection[str]) -> int:
        """What a site may be thought to need beyond its draw, if each part of an accelerator counts as the whole of it."""
        spots, found_w, seen = self.papers.ground.spots, 0, set[tuple[str, int]]()
        for name, held in self.at.get(site, {}).items():
            for rank in held.ranks if name not in gone else ():
                if rank.share_milli == WHOLE_MILLI or rank.node not in spots:
                    continue
                hardware, accelerator = spots[rank.node].hardware, (rank.node, rank.mask)
                found_w += (hardware.accelerator_w - hardware.accelerator_idle_w) * (accelerator in seen)
                seen.add(accelerator)
        return found_w

    def _limit_w(self, site: str, now_ms: int, ahead_ms: int = 0) -> int | None:
        """The least of the instructions that hold, or begin within ``ahead_ms``: watts of IT load; None: there is none."""
        place = self.places.get(site)
        limits = [
            self.it_w(site, one.instruction.limit_w)
            for one in (place.standing.values() if place else ())
            if one.instruction.from_ms <= now_ms or one.instruction.from_ms < now_ms + ahead_ms
        ]
        return min(limits, default=None)

    def _ramp_w(self, site: str, now_ms: int, *, surely: bool = False) -> int | None:
        """What may be drawn so long after instructions ended: watts at the meter; None: nothing is in the way."""
        place, found = self.places.get(site), self.papers.sites.get(site)
        per_minute_w = 0 if found is None else found.connection.ramp_up_w_per_minute
        if place is None or found is None or not place.ramps or not per_minute_w:
            return None
        pue = found.pue_permille
        return min(
            -(-(one.least_w if surely else one.most_w) * pue // PERMILLE)
            + per_minute_w * (now_ms - one.since_ms) // MS_PER_MINUTE
            for one in place.ramps
        )

    def _stops(self, site: str, more: Callable[[], int], *, surely: bool = False) -> str:
        """What stands against drawing as much as ``more`` says at a site now; "": nothing. ``surely``: nothing ever may."""
        limit_w = self._limit_w(site, self.now_ms, AHEAD_MS)
        ramp_w = self._ramp_w(site, self.now_ms, surely=surely)
        if limit_w is None and ramp_w is None:
            return ""
        drawn_w = more()
        if limit_w is not None and drawn_w > limit_w:
            return f"{drawn_w} W of IT load could be drawn, and the grid allows {limit_w} W"
        pue = self.papers.sites[site].pue_permille
        if ramp_w is not None and -(-drawn_w * pue // PERMILLE) > ramp_w:
            return f"{drawn_w} W of IT load could be drawn, and by the ramp {ramp_w} W at the meter may be"
        return ""

    def _close(self, site: str, place: Place, ident: str, at_ms: int) -> Ramp | None:
        """An instruction ends: from here on the ramp counts, if it had begun."""
        one = place.standing.pop(ident)
        if one.instruction.from_ms >= at_ms:
            return None
        place.ramps = [ramp for ramp in place.ramps if not self._is_over(site, ramp)]
        drawn_w, limit_w = self.draw_w(site), self.it_w(site, one.instruction.limit_w)
        place.ramps.append(Ramp(at_ms, max(drawn_w, limit_w), min(drawn_w, limit_w)))
        return place.ramps[-1]

    def _is_over(self, site: str, ramp: Ramp) -> bool:
        found = self.papers.sites.get(site)
        if found is None or not found.connection.ramp_up_w_per_minute:
            return True
        risen_w = found.connection.ramp_up_w_per_minute * (self.now_ms - ramp.since_ms) // MS_PER_MINUTE
        return self.it_w(site, risen_w) + ramp.least_w >= self.it_w(site, found.connection.total_w)

    def _is_emergency(self, site: str) -> bool:
        return any(one.instruction.urgency == "emergency" for one in self.places[site].standing.values())

    def _projected_w(self, site: str, *, for_the_grid: bool = False) -> int:
        """What can be drawn once all has happened that was ordered, ``for_the_grid`` alone or by anybody, and has not failed."""
        gone, quiet = set[str](), set[str]()
        for name, held in self.at.get(site, {}).items():
            if held.failed or (
                held.told_ms >= 0 and self.now_ms >= held.due_ms and not self.quiet.is_quiet(name)
            ):
                continue
            if held.evicted or (held.stopping and not for_the_grid):
                gone.add(name)
            elif self.quiet.is_ordered(name) and self.quiet.sheds(site):
                quiet.add(name)
        return self.draw_w(site, gone, quiet, self.caps.hoped(site, self.now_ms))

    def _could_shed(self, site: str) -> Iterator[tuple[int, Held]]:
        """Who was not told, and would save something beside all that is ordered; with its rung."""
        gone, quiet = set[str](), set[str]()
        for name, held in self.at.get(site, {}).items():
            if held.stopping:
                gone.add(name)
            elif self.quiet.is_ordered(name):
                quiet.add(name)
        drawn_w = self.draw_w(site, gone, quiet)
        for name, held in self.at.get(site, {}).items():
            rung = self.rung(held)
            if not rung or held.stopping or not held.started or (name in quiet and rung == PAUSE):
                continue
            if name in quiet and not held.failed:
                continue
            less_w = (
                self.draw_w(site, gone, quiet | {name})
                if rung == PAUSE
                else self.draw_w(site, gone | {name}, quiet)
            )
            if less_w < drawn_w:
                yield rung, held

    def _is_firm(self, held: Held) -> bool:
        return held.spec.type is not WorkloadType.FILLER and held.spec.flex in (Flex.FIRM, Flex.CAPPABLE)

    def _is_intruded(self, site: str) -> bool:
        spots = self.papers.ground.spots
        return any(node in spots and spots[node].site == site for node in self.intruders)

    def _is_filler(self, held: Held) -> bool:
        return held.spec.type is WorkloadType.FILLER
