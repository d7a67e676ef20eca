"""What goes wrong, as data: a problem names the thing and the next step.

A refusal of a workload is a :class:`~headrace.core.scheduling.refuse.Refusal`; a command that cannot be carried out
is a :class:`Problem`. :class:`HeadraceError` carries a problem across layers that have no better way to return it.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ProblemCode(StrEnum):
    """The kinds of problem; the API maps each to one status code, and the CLI to one exit code."""

    BAD_INPUT = "bad_input"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    IN_USE = "in_use"
    TOO_LARGE = "too_large"
    UNPLACEABLE = "unplaceable"
    JURISDICTION = "jurisdiction"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    STALE = "stale"
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a command was not carried out.

    ``message`` names the thing, ``next_step`` says what to do; ``where`` is a place in the input
    (``line 3, column 5`` or ``sites[0].pue``), ``related`` lists things involved (who uses it, what would fit).
    """

    code: ProblemCode
    message: str
    next_step: str = ""
    where: str = ""
    related: tuple[str, ...] = ()

    def line(self) -> str:
        """The problem in one line."""
        place = f"{self.where}: " if self.where else ""
        related = f" [{', '.join(self.related)}]" if self.related else ""
        step = f" {self.next_step}" if self.next_step else ""
        return f"{place}{self.message}{related}{step}"


class HeadraceError(Exception):
    """A problem (or several, from one input) on its way to whoever asked."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.line() for problem in problems))
        self.problems = problems

    @property
    def problem(self) -> Problem:
        """The first problem."""
        return self.problems[0]


def did_you_mean(word: str, known: Iterable[str], limit: int = 12) -> str:
    """A next step for an unknown name: ``known: a, b. Did you mean a?``."""
    names = sorted(known)
    if not names:
        return "none is known yet."
    listed = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"known: {listed}." + (f" Did you mean {close[0]}?" if close else "")


def unknown(what: str, name: str, known: Iterable[str]) -> Problem:
    """The problem of a name that nothing has: ``no site 'glomfjrd'; known: ... Did you mean glomfjord?``."""
    return Problem(ProblemCode.NOT_FOUND, f"no {what} {name!r};", did_you_mean(name, known))
