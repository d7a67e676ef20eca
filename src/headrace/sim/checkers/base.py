"""What every checker is: it is told each committed event, keeps a small model of its own, and collects violations."""

from collections.abc import Callable, Iterable
from typing import Any

from headrace.core.events import Committed
from headrace.core.scheduling.check import Violation
from headrace.sim.checkers.papers import Papers

Handler = Callable[[Committed, Any], None]
"""Told an event, and its payload again by itself: of the one class that the handler is registered for."""


class Checker:
    """A checker of one promise. It raises nothing: what is wrong is in ``violations``, in the order it was found.

    ``papers`` are the documents in force; a checker that stands alone keeps its own.
    """

    promise = 0

    def __init__(self, papers: Papers | None = None) -> None:
        self.violations: list[Violation] = []
        self.papers = Papers() if papers is None else papers
        self._keeps_papers = papers is None
        self._table: dict[type, list[Handler]] = {}
        for kind, handler in self.handlers():
            self._table.setdefault(kind, []).append(handler)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Which classes of event it wants, and what is told of each; called once, at the end of construction."""
        return ()

    def observe(self, committed: Committed) -> None:
        """Take one event, in the order of the journal."""
        if self._keeps_papers:
            self.papers.observe(committed)
        for handler in self._table.get(type(committed.event), ()):
            handler(committed, committed.event)

    def found(self, rule: str, subject: str, detail: str) -> None:
        """Record that the promise is broken."""
        self.violations.append(Violation(self.promise, subject, detail, rule))
