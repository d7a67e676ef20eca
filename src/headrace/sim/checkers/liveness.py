"""At rest, once faults have stopped: everything placeable is placed, and everything is settled."""

from collections.abc import Collection, Iterable

from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.occupancy import Occupancy
from headrace.sim.checkers.papers import Papers


class LivenessChecker(Checker):
    """Asks, by brute force, of each workload that waits whether it could have been placed.

    ``occupancy`` is shared by those that ask it, and then told its events by whoever made it.
    """

    promise = 7

    def __init__(self, papers: Papers | None = None, occupancy: Occupancy | None = None) -> None:
        papers = Papers() if papers is None and occupancy is None else papers
        self._alone = occupancy is None
        self.occupancy = occupancy or Occupancy(papers)
        super().__init__(papers)
        self._keeps_papers = self._alone

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Those of the model, when no other has it."""
        return self.occupancy.handlers() if self._alone else ()

    def at_rest(self, now_ms: int, running: Collection[str]) -> None:
        """Nothing more happens by itself; ``running`` are placements whose processes all run or are paused."""
        for name in self.occupancy.queued:
            site = self.occupancy.placeable(name, now_ms)
            if site is not None:
                self.found("not-placed", name, f"it waits, and {site.id} could carry it")
        live = self.occupancy.live
        for placement, held in live.items():
            if held.stopping:
                self.found("stuck", placement, "it was to stop and has not ended")
            elif not held.started:
                self.found("stuck", placement, "it was placed and never started")
            if placement not in running:
                self.found("not-running", placement, "it has not ended, and its processes do not all run")
        for placement in running:
            if placement not in live:
                self.found(
                    "still-running", placement, "its processes run, and the journal has no such placement now"
                )
