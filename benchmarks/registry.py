"""What a benchmark is, and the table of them all."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What a run measured. ``peer`` and ``ratio`` when a peer ran in the same run; ``notes`` say what was measured how.

    ``clean`` false: something was broken on the way, and the figure does not hold however good it is.
    """

    figure: float
    notes: dict[str, object]
    peer: str = ""
    ratio: float | None = None
    clean: bool = True


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A figure with its goal. ``at_least`` false: the goal is the most that it may be. ``run(quick)`` measures it.

    A quick run judges on a smaller size and against ``quick_goal`` (the same goal when None).
    """

    name: str
    what: str
    unit: str
    goal: float
    run: Callable[[bool], Figure]
    at_least: bool = True
    quick_goal: float | None = None

    def line(self, *, quick: bool) -> dict[str, object]:
        """Run it; the line to print."""
        found = self.run(quick)
        goal = self.quick_goal if quick and self.quick_goal is not None else self.goal
        holds = found.figure >= goal if self.at_least else found.figure <= goal
        line: dict[str, object] = {
            "name": self.name,
            "figure": round(found.figure, 4),
            "unit": self.unit,
            "goal": f"{'>=' if self.at_least else '<='} {goal:g}",
            "holds": holds and found.clean,
            "quick": quick,
        }
        if found.peer:
            line |= {"peer": found.peer, "ratio": found.ratio}
        return line | found.notes
