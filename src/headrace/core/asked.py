"""What every decision is given and gives back."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.authority import Subject, Verdict
from headrace.core.errors import HeadraceError, Problem

if TYPE_CHECKING:
    from headrace.core.world import World

Deciding = Generator[ev.Event, None, c.Reply]
"""Events, each applied before the next is asked for, and then the reply."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What every decision is given beside its command; ``who`` asks, by the right that ``verdict`` gave."""

    verdict: str
    now_ms: int
    request: bytes
    who: Subject


def fail(problem: Problem) -> HeadraceError:
    """The exception that carries a problem to whoever asked."""
    return HeadraceError(problem)


def record(world: "World", verdict: Verdict) -> Iterator[ev.Event]:
    """Put a verdict on record, once by its content."""
    if verdict.id not in world.state.verdicts:
        yield ev.DecisionRecorded(verdict)
