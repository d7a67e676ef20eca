"""Promise 7, explanation: what waits or is refused says why, in one line; and at rest, what it says is true."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from headrace.core.estate import Site
from headrace.core.events import Committed, WorkloadRefused
from headrace.core.scheduling.refuse import SENTENCES, Refusal
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.occupancy import Occupancy, Regard, Waiting
from headrace.sim.checkers.papers import Papers
from headrace.sim.checkers.wishes import each_option, would_do


def claims(line: str) -> tuple[Refusal, ...]:
    """The reasons that a line gives: by their sentence or their name in capitals, else by their name as a word."""
    exact = [
        reason for reason in Refusal if SENTENCES[reason] in line or re.search(rf"\b{reason.name}\b", line)
    ]
    if not exact:
        words = {word.replace("-", "_") for word in re.findall(r"[a-z_-]+", line.lower())}
        exact = [reason for reason in Refusal if reason.name.lower() in words]
    return tuple(exact)


class ExplanationChecker(Checker):
    """Reads the lines of ``explain`` and judges their claims by brute force."""

    promise = 7

    def __init__(self, papers: Papers | None = None, occupancy: Occupancy | None = None) -> None:
        papers = Papers() if papers is None and occupancy is None else papers
        self._alone = occupancy is None
        self.occupancy = occupancy or Occupancy(papers)
        super().__init__(papers)
        self._keeps_papers = self._alone

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Refusals, and those of the model when no other has it."""
        if self._alone:
            yield from self.occupancy.handlers()
        yield WorkloadRefused, self._refused

    def _refused(self, committed: Committed, event: WorkloadRefused) -> None:
        reason = Refusal.__members__.get(event.refusal.upper())
        if reason is None:
            self.found("no-reason", event.workload, f"refused for {event.refusal!r}, which is no reason")
        if not event.detail.strip() or "\n" in event.detail:
            self.found("not-a-line", event.workload, f"refused with {event.detail!r}: one line is promised")
        waiting = self.occupancy.known.get(event.workload)
        if waiting is None or reason in (Refusal.CONTRACT, Refusal.QUOTA, None):
            return
        for site in self.occupancy.permitted(waiting):
            if self._could_do(waiting, site, reason, committed.at_ms) and self._ever(waiting, site):
                what = f"refused for good as {event.refusal}; {site.id} could carry it when empty"
                self.found("refused-wrongly", event.workload, what)
                return

    def _could_do(self, waiting: Waiting, site: Site, reason: Refusal, now_ms: int) -> bool:
        """Whether the site's engine can do it; one that no contract pays for may be left out of what is said of engines."""
        model = self.occupancy
        if not model.able(waiting, site):
            return False
        within = any(model.is_within_quotas(waiting, option, site) for option in would_do(waiting.spec))
        return reason is not Refusal.ENGINE or (within and model.covered(waiting, site, now_ms))

    def _ever(self, waiting: Waiting, site: Site) -> bool:
        """Whether an estate with nothing on it, all of it commissioned, has the power."""
        empty = Occupancy(self.occupancy.papers)
        return empty.fits(waiting, site, _FAR_MS, Regard(taken=False, state=False, windows=False))

    def explained(self, workload: str, line: str, now_ms: int = 0) -> None:
        """``explain`` said ``line`` of a workload that waits or was refused, at ``now_ms`` (0: at the last event)."""
        at_ms = max(now_ms, self.occupancy.now_ms)
        # By the journal's time, and the day it is then: a clock that is set back takes days back that left nothing on record.
        self.papers.now_ms = now_ms or self.papers.now_ms
        if not line.strip() or "\n" in line.strip():
            self.found("not-a-line", workload, f"explained as {line!r}: one line is promised")
        elif not claims(line) and not self._may_be_next(workload, at_ms):
            self.found("no-reason", workload, f"explained without a reason: {line}")

    def _may_be_next(self, workload: str, at_ms: int) -> bool:
        """Whether it may wait for nothing but the next plan."""
        model, waiting = self.occupancy, self.occupancy.queued.get(workload)
        if model.placeable(workload, at_ms) is not None:
            return True
        if waiting is None:
            return False
        # What is left of a contract, or near a window, is more than the model knows: there it may well be next.
        return waiting.spec.contract is not None or any(
            model.is_near_window(waiting, site, at_ms) for site in model.permitted(waiting)
        )

    def at_rest(self, now_ms: int, lines: Mapping[str, str]) -> None:
        """Judge what is said of each workload that still waits: ``lines`` by workload."""
        for name, waiting in self.occupancy.queued.items():
            line = lines.get(name, "")
            self.explained(name, line, now_ms)
            reasons = claims(line)
            site = self.occupancy.placeable(name, now_ms)
            if reasons and reasons != (Refusal.RANK,) and site is not None:
                self.found("claim-false", name, f"it says {reasons[0].name}, and {site.id} could carry it")
            elif not all(self.is_true(reason, waiting, now_ms) for reason in reasons):
                said = ", ".join(reason.name for reason in reasons)
                self.found("claim-false", name, f"it says {said}, which is not what keeps it waiting")

    def is_true(self, reason: Refusal, waiting: Waiting, now_ms: int) -> bool:
        """Whether some site, with something that would do, is out of question for just that reason."""
        model = self.occupancy
        match reason:
            case Refusal.JURISDICTION:
                sites = model.papers.candidates(waiting.spec.site)
                return any(not model.lawful(waiting, site) for site in sites)
            case Refusal.DEDICATED:
                sites = model.papers.candidates(waiting.spec.site)
                return any(not model.welcome(waiting, site) for site in sites)
            case Refusal.TIME:
                return waiting.not_before_ms > now_ms or self._is_out_of_its_time(waiting, now_ms)
            case Refusal.WINDOW:
                return self._is_kept_out(waiting, now_ms)
            case Refusal.ENGINE:
                return any(not model.able(waiting, site) for site in model.permitted(waiting))
            case Refusal.RANK:
                return any(
                    other is not waiting and other.spec.priority >= waiting.spec.priority
                    for other in model.queued.values()
                )
            case Refusal.CONTRACT:
                return any(not model.covered(waiting, site, now_ms) for site in model.permitted(waiting))
            case Refusal.QUOTA:
                return any(
                    not model.is_within_quotas(waiting, option, site)
                    for site in model.permitted(waiting)
                    for option in would_do(waiting.spec)
                )
            case _:
                return any(
                    self._at(reason, replace(waiting, spec=spec), site, now_ms)
                    for site in model.permitted(waiting)
                    if model.able(waiting, site)
                    for spec in each_option(waiting.spec)
                )

    def _is_out_of_its_time(self, waiting: Waiting, now_ms: int) -> bool:
        """Whether the reservation that it names goes on at another time."""
        named = waiting.spec.reservation
        own = self.papers.reservations.get(named or "")
        return named is not None and (own is None or not own.starts_ms <= now_ms < own.ends_ms)

    def _is_kept_out(self, waiting: Waiting, now_ms: int) -> bool:
        """Whether some node of a site that it may use is kept from it."""
        by_site = self.papers.ground.by_site
        return any(
            self.occupancy.is_kept_from(waiting, spot.node, now_ms)
            for site in self.occupancy.permitted(waiting)
            for spot in by_site.get(site.id, ())
        )

    def _at(self, reason: Refusal, waiting: Waiting, site: Site, now_ms: int) -> bool:
        """Of a workload that only one thing would do for: whether it is out of question at a site for just that reason."""

        if self.occupancy.caps.touches(site.id) and reason in _BY_CAPS:
            return True

        def fits(*, taken: bool, power: bool, state: bool, topology: bool = False) -> bool:
            # That a block has no day yet is a state of its nodes as good as any.
            plans = reason is Refusal.NODE_STATE
            regard = Regard(taken, power, state, topology, plans, windows=False)
            return self.occupancy.fits(waiting, site, now_ms, regard)

        empty = fits(taken=False, power=False, state=False)
        ready = fits(taken=False, power=False, state=True)
        free = fits(taken=True, power=False, state=True)
        match reason:
            case Refusal.HARDWARE:
                return not empty
            case Refusal.NODE_STATE:
                return (empty and not ready) or (fits(taken=True, power=False, state=False) and not free)
            case Refusal.CAPACITY:
                return ready and not free
            case Refusal.TOPOLOGY:
                return free and not fits(taken=True, power=False, state=True, topology=True)
            case _ if not all(
                self.occupancy.leaves_firm(waiting, option, site, now_ms) for option in would_do(waiting.spec)
            ):
                # Only what can be shed may have the flexible part of a connection.
                return True
            case _:
                now = free and not fits(taken=True, power=True, state=True, topology=True)
                return now or (ready and not fits(taken=False, power=True, state=True, topology=True))


_BY_CAPS = (Refusal.CAPACITY, Refusal.POWER, Refusal.NODE_STATE)
"""Each of them may be said of a node that is capped, or of power that meters see beyond what is known."""
_FAR_MS = 253_000_000_000_000
"""In the year 9987: whatever has a date has it behind it."""
