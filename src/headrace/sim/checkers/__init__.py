"""The independent checkers: told every committed event as it happens, and all that is left at rest.

They share no code with what they check but the public types, and rebuild what they must know from the events alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.core.events import KINDS, Committed
from headrace.core.scheduling.check import Violation
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.capacity import CapacityChecker
from headrace.sim.checkers.contract import ContractChecker
from headrace.sim.checkers.durability import DurabilityChecker
from headrace.sim.checkers.equals import EqualsChecker
from headrace.sim.checkers.exactness import Entry, ExactnessChecker
from headrace.sim.checkers.explanation import ExplanationChecker
from headrace.sim.checkers.grid import GridChecker
from headrace.sim.checkers.intruders import IntruderChecker
from headrace.sim.checkers.isolation import IsolationChecker
from headrace.sim.checkers.law import LawChecker
from headrace.sim.checkers.lawchange import LawChangeChecker
from headrace.sim.checkers.liveness import LivenessChecker
from headrace.sim.checkers.occupancy import Occupancy
from headrace.sim.checkers.papers import Papers
from headrace.sim.checkers.power import PowerChecker
from headrace.sim.checkers.states import StateChecker
from headrace.sim.checkers.windows import WindowChecker

__all__ = ["Checkers", "Entry", "Rest", "Violation"]


@dataclass(frozen=True, slots=True)
class Rest:
    """The world at rest, as seen from outside the journal.

    - ``now_ms``: journal time.
    - ``running``: placements whose processes all run, or are paused, at the engine.
    - ``raw``: the engine's own records of every placement it ever ran: each rank's true running and paused ms.
    - ``lines``: what ``explain`` says of each workload that waits.
    - ``states``: the state that the API shows of each workload (those that are left out are not compared).
    - ``ledger``: every entry of the ledger.
    """

    now_ms: int
    running: Collection[str]
    raw: Mapping[str, Sequence[tuple[int, int]]]
    lines: Mapping[str, str]
    states: Mapping[str, str] = field(default_factory=dict)
    ledger: Iterable[Entry] = ()


class Checkers:
    """All checkers of one simulated world. They raise nothing; look at ``violations`` as often as you like.

    Tell ``observe`` every committed event in order, once; ``durability``, ``isolation`` and ``explanation`` also
    what happens outside the journal (acknowledgements, processes, answers, users, explanations).
    """

    def __init__(self) -> None:
        self.papers = Papers()
        self.occupancy = Occupancy(self.papers)
        self.power = PowerChecker(self.papers)
        self.law = LawChecker(self.papers)
        self.lawchange = LawChangeChecker(self.papers)
        self.durability = DurabilityChecker(self.papers)
        self.equals = EqualsChecker(self.papers)
        self.exactness = ExactnessChecker(self.papers)
        self.capacity = CapacityChecker(self.papers)
        self.contract = ContractChecker(self.papers)
        self.isolation = IsolationChecker(self.papers)
        self.explanation = ExplanationChecker(self.papers, self.occupancy)
        self.liveness = LivenessChecker(self.papers, self.occupancy)
        self.states = StateChecker(self.papers)
        self.windows = WindowChecker(self.papers, self.occupancy)
        self.intruders = IntruderChecker(self.papers, self.occupancy)
        self.grid = GridChecker(self.papers)
        self.all: tuple[Checker, ...] = (
            self.occupancy,
            self.power,
            self.law,
            self.lawchange,
            self.durability,
            self.equals,
            self.exactness,
            self.capacity,
            self.contract,
            self.isolation,
            self.explanation,
            self.liveness,
            self.states,
            self.windows,
            self.intruders,
            self.grid,
        )
        self._table = self._handlers()

    def _handlers(self) -> dict[type, tuple[Handler, ...]]:
        """Every handler of each class of event, in one look-up."""
        table: dict[type, list[Handler]] = {kind: [] for kind in KINDS.values()}
        for checker in self.all:
            for kind, handler in checker.handlers():
                table.setdefault(kind, []).append(handler)
        return {kind: tuple(handlers) for kind, handlers in table.items()}

    @property
    def violations(self) -> list[Violation]:
        """All that was found so far, by checker."""
        return [violation for checker in self.all for violation in checker.violations]

    def observe(self, committed: Committed) -> None:
        """Take one committed event, in the order of the journal."""
        self.papers.observe(committed)
        event = committed.event
        for handler in self._table.get(type(event), ()):
            handler(committed, event)

    def at_rest(self, rest: Rest) -> list[Violation]:
        """Compare everything, once faults have stopped and nothing more happens by itself; all violations so far."""
        self.papers.now_ms = rest.now_ms
        self.power.at_rest(rest.now_ms)
        self.grid.at_rest(rest.now_ms)
        self.durability.at_rest()
        self.exactness.at_rest(rest.raw, rest.ledger)
        self.liveness.at_rest(rest.now_ms, rest.running)
        self.explanation.at_rest(rest.now_ms, rest.lines)
        self.states.at_rest(rest.states)
        return self.violations
