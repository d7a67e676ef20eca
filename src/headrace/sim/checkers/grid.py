"""Promise 1 under instructions of the grid: what may be drawn comes under them in time, by the rungs, and comes back by ramps.

From the words of the promise, the public types and the events alone. Every placement counts at nameplate from ``PlacementMade``
to ``PlacementEnded``; one that was ordered paused for the grid and is seen paused, where pauses shed, counts its accelerators
as idle. Capped nodes, and what meters see beyond all that, count as :mod:`headrace.sim.checkers.caps` has it. Times are those
of the journal; ``looked`` says when a control plane has looked and committed, ``hindered`` that it could not for a while: from
then on it has the time of a new instruction again.

Held to: an instruction is kept from its beginning on, or ``SETTLE_MS`` after it was received. A pause that shows nothing has
failed after ``PAUSE_MS``, an end its grace and ``END_MS`` after it was ordered; then the next rung is ordered within
``NEXT_MS``, and what it was ordered late for counts from there: the site is under when the last of them is due.
"""

from collections.abc import Collection, Iterable, Iterator

from headrace.core.events import (
    AlarmRaised,
    Committed,
    CurtailmentLifted,
    CurtailmentOrdered,
    DocumentApplied,
    EngineDeclared,
    EvictionRequested,
    InstructionReceived,
    InstructionWithdrawn,
    NodeIntruded,
    PauseObserved,
    PauseRequested,
    PlacementEnded,
    PlacementMade,
    PlacementStarted,
    StopRequested,
    WorkloadSubmitted,
)
from headrace.core.units import MS_PER_MINUTE
from headrace.core.workload import EndReason, Flex, WorkloadSpec, WorkloadType
from headrace.sim.checkers.base import Handler
from headrace.sim.checkers.capped import LIFT_LOOKS, LIFT_MS, Capped
from headrace.sim.checkers.curtailable import (
    AHEAD_MS,
    CAP,
    NOBODY,
    PAUSE,
    REQUEUE,
    Held,
    Place,
    Standing,
)
from headrace.sim.checkers.papers import Papers

SETTLE_MS = 30_000
"""So long after it was received, what may be drawn is under an instruction that has begun."""
PAUSE_MS, END_MS = 5_000, 5_000
"""After so long a pause that is not seen has failed, and an end after its grace and so long."""
NEXT_MS = 5_000
"""Within so long of a failure the next rung is ordered."""


class GridChecker(Capped):
    """Told the events, each look (``looked``), what hinders the control plane, and what engines are asked (``asked``)."""

    def __init__(self, papers: Papers | None = None) -> None:
        self.specs: dict[str, WorkloadSpec] = {}
        self.binding: set[str] = set()
        self._hindered: bool | None = None
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Placements, instructions, and what is shed for them."""
        return (
            (WorkloadSubmitted, self._submitted),
            (PlacementMade, self._made),
            (PlacementStarted, self._started),
            (PlacementEnded, self._ended),
            (StopRequested, self._stop),
            (PauseRequested, self._pause),
            (PauseObserved, self._seen),
            (EvictionRequested, self._evict),
            (CurtailmentOrdered, self._order),
            (CurtailmentLifted, self._lift),
            (InstructionReceived, self._received),
            (InstructionWithdrawn, self._withdrawn),
            (NodeIntruded, self._intruded),
            (EngineDeclared, self._declared),
            (DocumentApplied, self._applied),
            (AlarmRaised, self._alarm),
            *self._of_caps(),
        )

    # -- placements -----------------------------------------------------------------------------------------

    def _submitted(self, _committed: Committed, event: WorkloadSubmitted) -> None:
        self.specs[event.workload] = event.spec

    def _made(self, committed: Committed, event: PlacementMade) -> None:
        self._tick(committed.at_ms)
        self.quiet.made(event)
        spec = self.specs.get(event.workload)
        if spec is None:
            return
        site = event.site
        before = self.draw_w(site) if site in self.places else None
        held = Held(event.placement, event.workload, site, event.ranks, spec)
        self.held[held.name] = self.at.setdefault(site, {})[held.name] = held
        self._come_new(event)
        if before is None or self.draw_w(site) <= before:
            return
        why = self._stops(site, lambda: self.draw_w(site))
        if why:
            self.found("started-above", held.name, f"it was placed at {site}: {why}")

    def _started(self, _committed: Committed, event: PlacementStarted) -> None:
        held = self.held.get(event.placement)
        if held is not None:
            held.started = True

    def _ended(self, committed: Committed, event: PlacementEnded) -> None:
        self._tick(committed.at_ms)
        held = self.held.pop(event.placement, None)
        self.quiet.ended(event)
        if held is not None:
            del self.at[held.site][held.name]
            self.tenant_paused.pop(held.workload, None)

    def _stop(self, committed: Committed, event: StopRequested) -> None:
        self._tick(committed.at_ms)
        for held in self.held.values():
            held.stopping = held.stopping or held.workload == event.workload

    def _pause(self, committed: Committed, event: PauseRequested) -> None:
        self._tick(committed.at_ms)
        if event.pause:
            self.tenant_paused[event.workload] = None
        else:
            self.tenant_paused.pop(event.workload, None)

    def _seen(self, committed: Committed, event: PauseObserved) -> None:
        self._tick(committed.at_ms)
        was = self.quiet.is_quiet(event.placement)
        self.quiet.seen(event)
        held = self.held.get(event.placement)
        if held is None:
            return
        if event.paused:
            held.failed = False
        elif was:
            self._surprise(held.site)

    # -- shedding -------------------------------------------------------------------------------------------

    def _begin(self, committed: Committed, placement: str) -> tuple[Held, Place] | None:
        """The grid orders something of a placement: there must be an instruction for it."""
        self._tick(committed.at_ms)
        held = self.held.get(placement)
        if held is None:
            return None
        place = self.places.setdefault(held.site, Place())
        if not place.standing:
            self.found("uncurtailed", placement, f"it is shed, and the grid asks for nothing at {held.site}")
        spec = held.spec
        if spec.type is not WorkloadType.FILLER and spec.flex in (Flex.FIRM, Flex.CAPPABLE):
            self.found("firm-shed", placement, f"it is {spec.flex}, and is shed for the grid")
        if not place.batch:
            limits = [self.it_w(held.site, one.instruction.limit_w) for one in place.standing.values()]
            coming_w = self._projected_w(held.site, for_the_grid=True)
            if limits and coming_w <= min(limits):
                what = f"it is shed, and {coming_w} W are under all limits of {held.site} already"
                self.found("needless", placement, what)
        self._batch_ms = committed.at_ms
        return held, place

    def _order(self, committed: Committed, event: CurtailmentOrdered) -> None:
        found = self._begin(committed, event.placement)
        self.quiet.ordered(event)
        if found is None:
            return
        held, place = found
        if not self.quiet.sheds(held.site):
            self.found(
                "useless", held.name, f"it is paused for the grid, and nothing comes of that at {held.site}"
            )
        if event.instruction not in place.standing:
            self.found(
                "uncurtailed", held.name, f"it is paused for {event.instruction}, which does not stand"
            )
        place.batch.append((min(PAUSE, self.rung(held) or PAUSE), held.name))
        held.told_ms, held.due_ms, held.failed = committed.at_ms, committed.at_ms + PAUSE_MS, False
        self._cover("pauses")

    def _evict(self, committed: Committed, event: EvictionRequested) -> None:
        held = self.held.get(event.placement)
        if event.reason is not EndReason.CURTAILED or held is None:
            self._tick(committed.at_ms)
            if held is not None:
                held.stopping = True
            return
        found = self._begin(committed, event.placement)
        if found is None:
            return
        place, spec = found[1], held.spec
        is_late = held.told_ms >= 0 and committed.at_ms >= held.due_ms - 1_000
        can_pause = self.rung(held) == PAUSE and held.started and not is_late
        if can_pause and not self._is_emergency(held.site):
            self.found("not-paused", held.name, "it is ended for the grid, and could have been paused")
        elif (
            held.started
            and not spec.checkpoint_ms
            and spec.flex is Flex.PAUSABLE
            and not self._is_filler(held)
        ):
            what = "it is ended for the grid, can be paused alone, and saves nothing"
            self.found("lost-work", held.name, what)
        rung = REQUEUE if self.rung(held) == PAUSE else self.rung(held)
        if held.started:
            place.batch.append((rung, held.name))
        grace_ms = event.grace_ms or spec.grace_ms
        if event.grace_ms > spec.grace_ms:
            self.found(
                "grace", held.name, f"it gets {event.grace_ms} ms to end, more than its {spec.grace_ms} ms"
            )
        held.stopping = held.evicted = True
        held.told_ms, held.due_ms, held.failed = committed.at_ms, committed.at_ms + grace_ms + END_MS, False
        self._cover(f"ends on rung {rung}")

    def _lift(self, committed: Committed, event: CurtailmentLifted) -> None:
        self._tick(committed.at_ms)
        held, was = self.held.get(event.placement), self.quiet.is_quiet(event.placement)
        if not self.quiet.is_ordered(event.placement):
            self.found("lifted", event.placement, "it may go on, and was not held")
        self.quiet.ordered(event)
        if held is None:
            return
        held.could_lift_ms = -1
        if not held.evicted:
            held.told_ms, held.failed = -1, False
        for one in self.at[held.site].values():
            one.could_lift_ms, one.looks = -1, 0
        why = self._stops(held.site, lambda: self.draw_w(held.site)) if was and not held.stopping else ""
        if why:
            self.found("lifted-above", held.name, f"it goes on at {held.site}: {why}")
        self._cover("lifts")

    def _judge(self) -> None:
        """The orders of one moment: those of an earlier rung who were not told, when somebody of a later one goes."""
        self._batch_ms = -1
        for site, place in self.places.items():
            if not place.batch:
                continue
            self._judge_caps(site, place)
            batch, place.batch = place.batch, []
            last, who = max(batch)
            if self._is_emergency(site):
                continue
            due = (
                max(one.instruction.from_ms, one.received_ms + SETTLE_MS)
                for one in place.standing.values()
                if one.instruction.from_ms < self.now_ms + AHEAD_MS
            )
            due_ms = max(due, default=self.now_ms)
            for rung, held in self._could_shed(site):
                if rung < last:
                    place.passed_over.setdefault(held.name, (due_ms, last, who))

    def _look_passed(self, site: str, place: Place, now_ms: int) -> None:
        """Who needs less time may be told later, but before the instruction is due: nobody goes instead of them."""
        for name, (due_ms, last, who) in list(place.passed_over.items()):
            held = self.held.get(name)
            if held is None or self._was_told(site, place, held):
                del place.passed_over[name]
            elif now_ms >= due_ms:
                del place.passed_over[name]
                rung = CAP if self._is_cappable(held) else self.rung(held)
                what = f"it goes by rung {last}, and {name} of rung {rung} was not told"
                self.found("rungs", who, what)

    def _was_told(self, site: str, place: Place, held: Held) -> bool:
        """Whether somebody goes, or is capped by now as low as can be; or nothing is asked any more."""
        is_capped = self._is_cappable(held) and all(one.held is not held for one in self._could_cap(site))
        return held.told_ms >= 0 or held.stopping or is_capped or not place.standing

    # -- instructions ---------------------------------------------------------------------------------------

    def _received(self, committed: Committed, event: InstructionReceived) -> None:
        self._tick(committed.at_ms)
        one = event.instruction
        for place in self.places.values():
            place.standing.pop(one.id, None)
            place.over = [known for known in place.over if known[0].instruction.id != one.id]
        if one.until_ms and one.until_ms <= committed.at_ms:
            return
        place = self.places.setdefault(one.site, Place(since_ms=0))
        least_w, most_w = self.floors_w(one.site)
        limit_w = self.it_w(one.site, one.limit_w)
        place.standing[one.id] = Standing(one, committed.at_ms, limit_w < most_w)
        # Of strangers nobody knows how long they stay: alarms are theirs.
        if self._is_intruded(one.site):
            return
        if limit_w < least_w and one.id not in self.binding:
            what = f"{limit_w} W of IT load, of which {least_w} W can't be shed, and it is not binding"
            self.found("accepted-low", one.id, what)
        if limit_w < least_w:
            place.due_alarm = f"{one.id} allows {limit_w} W of IT load, {least_w} W can't be shed"
        self._cover("short" if limit_w < most_w else "feasible")
        self._cover("instructions ahead" if one.from_ms > committed.at_ms + SETTLE_MS else "instructions now")

    def refused(self, instruction: str, site: str, limit_w: int) -> None:
        """A well-formed instruction was refused as too low, just now."""
        self._cover("refused")
        most_w = self.floors_w(site)[1]
        if self.it_w(site, limit_w) >= most_w and not self._is_intruded(site):
            what = f"refused at {self.it_w(site, limit_w)} W of IT load, of which {most_w} W can't be shed"
            self.found("refused-wrongly", instruction, what)
        if instruction in self.binding:
            self.found("refused-wrongly", instruction, "refused, and it is binding")

    def _withdrawn(self, committed: Committed, event: InstructionWithdrawn) -> None:
        self._tick(committed.at_ms)
        for site, place in self.places.items():
            if event.instruction in place.standing:
                self._close(site, place, event.instruction, committed.at_ms)

    def _alarm(self, committed: Committed, event: AlarmRaised) -> None:
        self._tick(committed.at_ms)
        if event.promise == self.promise and event.subject in self.places:
            self.places[event.subject].alarm_ms = committed.at_ms
            self.places[event.subject].due_alarm = ""

    # -- what comes from outside ------------------------------------------------------------------------------

    def _intruded(self, committed: Committed, event: NodeIntruded) -> None:
        self._tick(committed.at_ms)
        if event.who:
            self.intruders[event.node] = None
        else:
            self.intruders.pop(event.node, None)
        spot = self.papers.ground.spots.get(event.node)
        if spot is not None:
            self._surprise(spot.site)

    def _declared(self, committed: Committed, event: EngineDeclared) -> None:
        self._tick(committed.at_ms)
        self.quiet.declared(event)
        for name, site in self.papers.sites.items():
            if site.engine == event.engine:
                self._surprise(name)
                self._reckon(name)

    def _applied(self, committed: Committed, event: DocumentApplied) -> None:
        if event.kind == "estate":
            self._tick(committed.at_ms)
            for site in self.places:
                self._surprise(site)
                self._reckon(site)

    def hindered(self) -> None:
        """The control plane could not decide or reach its engines, or its clock was put right: until the next look."""
        self._hindered = True

    def asked(self, what: str, placement: str) -> None:
        """An engine is asked to pause or to resume: it must be what the journal wants."""
        held = self.held.get(placement)
        if held is None:
            return
        wanted = self.quiet.is_ordered(placement) or held.workload in self.tenant_paused
        if what == "resume" and wanted:
            who = "the grid" if self.quiet.is_ordered(placement) else "its tenant"
            self.found("woken", placement, f"its engine is asked to let it go on, and {who} has it paused")
        elif what == "pause" and not wanted:
            self.found(
                "paused-unasked", placement, "its engine is asked to pause it, and nobody has it paused"
            )

    # -- looks ----------------------------------------------------------------------------------------------

    def looked(self, now_ms: int, silent: Collection[str] = NOBODY) -> None:
        """A control plane has looked and committed; ``silent``: sites whose engines did not answer."""
        if not self.places:
            self._hindered = None
            return
        if self._batch_ms >= 0:
            self._judge()
        self.now_ms = now_ms
        self._close_all()
        for site, place in self.places.items():
            if self._hindered or site in silent:
                place.since_ms = now_ms
            if place.due_alarm:
                self.found("no-alarm", site, f"{place.due_alarm}, and nobody was told")
                place.due_alarm = ""
            if place.passed_over:
                self._look_passed(site, place, now_ms)
            if place.standing:
                self._fail(site, place, now_ms)
                self._look(site, place, now_ms)
            if site not in silent and not self._is_intruded(site):
                self._look_up(site)
                self._look_caps_up(site, place)
        self._hindered = None

    def _fail(self, site: str, place: Place, now_ms: int) -> None:
        """Orders whose time is over and that came to nothing have failed."""
        for name, held in self.at.get(site, {}).items():
            if held.told_ms < 0 or held.failed or (self.quiet.is_quiet(name) and not held.evicted):
                continue
            if now_ms >= held.due_ms:
                held.failed = True
                place.failed_ms = max(place.failed_ms, held.due_ms)
                self._cover("orders that failed")
        self._fail_caps(site, place, now_ms)

    def _look(self, site: str, place: Place, now_ms: int) -> None:
        """Whether a site is under its instructions, as far as they are due."""
        due = [
            one
            for one in place.standing.values()
            if now_ms >= max(one.instruction.from_ms, max(one.received_ms, place.since_ms) + SETTLE_MS)
        ]
        if not due or self._is_intruded(site):
            place.unshed_ms = -1
            place.over_told = False
            return
        lowest_w = min(self.it_w(site, one.instruction.limit_w) for one in due)
        drawn_w = self.draw_w(site)
        self._cover("looks that are due")
        if drawn_w <= lowest_w:
            place.unshed_ms, place.over_told = -1, False
            return
        self._look_unshed(site, place, now_ms, lowest_w)
        kept = [self.it_w(site, one.instruction.limit_w) for one in due if not one.is_short]
        if (
            not kept
            or drawn_w <= min(kept)
            or place.over_told
            or self._is_excused(site, place, now_ms, min(kept))
        ):
            return
        place.over_told = True
        what = f"{drawn_w} W of IT load could be drawn, and since long the grid allows {min(kept)} W"
        if place.failed_ms >= 0 and not any(True for _ in self._could_shed(site)):
            self.found("no-way-down", site, f"{what}; orders failed, nobody is left, and nobody was told")
        else:
            self.found("grid-over", site, what)

    def _is_excused(self, site: str, place: Place, now_ms: int, limit_w: int) -> bool:
        """Whether an actuator failed, and what comes after it is under way in time, or nothing does and somebody was told."""
        own = {
            name
            for name, one in self.at.get(site, {}).items()
            if one.stopping and not one.evicted and self._is_firm(one)
        }
        if own and self.draw_w(site, own) <= limit_w:
            return True  # Its tenant, or a drain, told it to end: its grace is its own.
        if place.failed_ms < 0:
            return False
        if now_ms <= place.failed_ms + NEXT_MS:
            return True
        told = [one for one in self.at.get(site, {}).values() if one.told_ms >= 0 and not one.failed]
        if any(now_ms < one.due_ms and one.told_ms <= place.failed_ms + NEXT_MS for one in told):
            return True
        if self._is_coming(site, place.failed_ms + NEXT_MS, now_ms):
            return True
        return place.alarm_ms >= place.failed_ms and not any(True for _ in self._could_shed(site))

    def _look_unshed(self, site: str, place: Place, now_ms: int, limit_w: int) -> None:
        """Whether somebody who could go was not told for too long."""
        if self._projected_w(site) <= limit_w:
            place.unshed_ms = -1
            return
        left = next(self._could_shed(site), None)
        if left is None:
            place.unshed_ms = -1
        elif place.unshed_ms < 0:
            place.unshed_ms = now_ms
        elif now_ms - place.unshed_ms > NEXT_MS:
            what = f"more than {limit_w} W of IT load could be drawn at {site}, and it was not told to go"
            self.found("unshed", left[1].name, what)
            place.unshed_ms = now_ms + 10 * MS_PER_MINUTE

    def _look_up(self, site: str) -> None:
        """Whether somebody is held who could go on."""
        for name, held in self.at.get(site, {}).items():
            if not self.quiet.is_quiet(name) or held.stopping:
                continue
            if self.places[site].since_ms == self.now_ms or not self._may_go_on(site, name):
                held.could_lift_ms, held.looks = -1, 0
                continue
            if held.could_lift_ms < 0:
                held.could_lift_ms = self.now_ms
            held.looks += 1
            if held.looks > LIFT_LOOKS and self.now_ms - held.could_lift_ms > LIFT_MS:
                self.found("not-lifted", name, f"there is power for it at {site}, and it is held")
                held.could_lift_ms = self.now_ms + 10 * MS_PER_MINUTE

    # -- for those who decide when to look --------------------------------------------------------------------

    def is_over(self, now_ms: int, before_ms: int) -> bool:
        """Whether more could be drawn somewhere than an instruction allows that holds, or begins within ``before_ms``."""
        for site, place in self.places.items():
            limit_w = self._limit_w(site, now_ms, before_ms + 1) if place.standing else None
            if limit_w is not None and self.draw_w(site) > limit_w and self._may_change(site, place, now_ms):
                return True
        return False

    def _may_change(self, site: str, place: Place, now_ms: int) -> bool:
        """Whether looking on is worth it: it was just received, or somebody could still be told to go."""
        is_new = any(
            now_ms - max(place.since_ms, one.received_ms) < 2 * SETTLE_MS for one in place.standing.values()
        )
        return is_new or any(True for _ in self._could_shed(site))

    def boundaries(self, now_ms: int, before_ms: int) -> Iterator[int]:
        """When it is worth looking again: ``before_ms`` before an instruction begins, when it is due, and at its end."""
        for place in self.places.values():
            for one in place.standing.values():
                given = one.instruction
                due_ms = max(given.from_ms, max(one.received_ms, place.since_ms) + SETTLE_MS)
                moments = (given.from_ms - before_ms, given.from_ms, due_ms, given.until_ms)
                yield from (moment_ms for moment_ms in moments if moment_ms > now_ms)

    def is_moving(self) -> bool:
        """Whether something was ordered and not seen yet, or might go on."""
        return self._are_caps_moving() or any(
            one.could_lift_ms >= 0 or (one.told_ms >= 0 and (one.evicted or not self.quiet.is_quiet(name)))
            for name, one in self.held.items()
        )

    def holds_anybody(self) -> bool:
        """Whether anybody is paused for the grid, or any node capped."""
        return bool(self.caps.caps) or any(self.quiet.is_ordered(name) for name in self.held)

    def is_ramping(self) -> bool:
        """Whether a ramp goes on somewhere."""
        return any(
            not self._is_over(site, ramp) for site, place in self.places.items() for ramp in place.ramps
        )

    def standing(self) -> list[str]:
        """The instructions that stand."""
        return [ident for place in self.places.values() for ident in place.standing]

    def still_paused(self, placements: Iterable[str]) -> None:
        """Processes that stand still at rest: their tenant must want it so."""
        for name in placements:
            held = self.held.get(name)
            if held is not None and held.workload not in self.tenant_paused:
                self.found("not-resumed", name, "its processes are paused, and nobody has it paused")

    def is_open(self) -> bool:
        """Whether the grid asks for anything, holds anybody, or a ramp goes on."""
        return any(
            place.standing
            or any(not self._is_over(site, ramp) for ramp in place.ramps)
            or any(self.quiet.is_ordered(name) for name in self.at.get(site, ()))
            or self._are_caps_open(site, place)
            for site, place in self.places.items()
        )

    def at_rest(self, now_ms: int) -> None:
        """Nobody is held where the grid asks for nothing."""
        self._tick(now_ms)
        for name, held in self.held.items():
            place = self.places.get(held.site)
            if self.quiet.is_ordered(name) and not (place and place.standing):
                self.found("held", name, f"it is paused for the grid, which asks for nothing at {held.site}")
        for site, place in self.places.items():
            if not place.standing and self._are_caps_open(site, place):
                self.found("held", site, "nodes are capped for the grid, which asks for nothing")
