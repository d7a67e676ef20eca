"""Instructions: what the grid allows at a site for a time, below what its connection allows."""

from dataclasses import dataclass
from typing import Literal, NewType

from headrace.core.ids import SiteId

InstructionId = NewType("InstructionId", str)
"""Unique within a journal: ``source:name`` where a grid operator's server names it, ``person:n`` otherwise."""

GRID_LIMITS = "the grid limits "
"""How the reason of whoever makes way for an instruction begins: ``the grid limits SITE (instruction NAME)``."""
Urgency = Literal["normal", "emergency"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """At most ``limit_w`` watts at the meter of ``site`` from ``from_ms`` until ``until_ms`` (exclusive; 0: until withdrawn).

    ``source`` says who gave it: ``person``, or ``openadr`` and the like. An ``emergency`` uses every rung at once. Times are
    milliseconds UTC. Several may hold at once: the least of their limits counts.
    """

    id: InstructionId
    site: SiteId
    limit_w: int
    from_ms: int
    until_ms: int = 0
    source: str = "person"
    urgency: Urgency = "normal"
    note: str = ""

    def is_active(self, now_ms: int) -> bool:
        """Whether it holds at ``now_ms``."""
        return self.from_ms <= now_ms and (not self.until_ms or now_ms < self.until_ms)
