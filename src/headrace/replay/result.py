"""What a replay of jobs came to: figures, completion times, and what was allocated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.replay.rows import MOST_S, rows_of

_US_PER_SECOND = 1_000_000
PUBLISHED = "published_results.csv"
"""Beside a trace: columns trace, policy, metric, value."""


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one replay.

    ``jct_us``: completion times from submission in microseconds, rising. ``makespan_us``: the end of the last job.
    ``curve``: (arrived, allocated) after each event, in percent of all accelerators; arrived demand only grows.

    ``configuration`` is what the policy was run with. ``published``: policy -> metric -> figure for the same trace, if known.
    """

    policy: str
    durations: str
    jct_us: tuple[int, ...]
    makespan_us: int
    wall_s: float
    preemptions: int
    moves: int
    events: int
    configuration: Mapping[str, object]
    published: Mapping[str, Mapping[str, float]]
    curve: Sequence[tuple[float, float]] = ()

    @property
    def jct_mean_s(self) -> float:
        """Mean completion time."""
        return sum(self.jct_us) / len(self.jct_us) / _US_PER_SECOND

    def jct_s(self, percent: int) -> float:
        """A percentile of the completion times: the one at that part of the sorted list."""
        last = len(self.jct_us) - 1
        return self.jct_us[min(last, len(self.jct_us) * percent // 100)] / _US_PER_SECOND

    def figures(self) -> dict[str, object]:
        """All of it but the single times and the curve, ready for JSON."""
        found: dict[str, object] = {
            "policy": self.policy,
            "durations": self.durations,
            "jobs": len(self.jct_us),
            "jct_mean_s": round(self.jct_mean_s, 3),
            "jct_p50_s": self.jct_s(50),
            "jct_p99_s": self.jct_s(99),
            "makespan_s": self.makespan_us / _US_PER_SECOND,
            "wall_s": round(self.wall_s, 3),
            "preemptions": self.preemptions,
            "moves": self.moves,
            "events": self.events,
            "configuration": dict(self.configuration),
        }
        if self.published:
            found["published"] = {policy: dict(metrics) for policy, metrics in self.published.items()}
        return found


def read_published(trace: Path) -> dict[str, dict[str, float]]:
    """Published figures of a trace by its file's name: policy -> metric -> figure. Empty when nothing is known beside it."""
    path = trace.with_name(PUBLISHED)
    if not path.is_file():
        return {}
    found: dict[str, dict[str, float]] = {}
    step = "Give the published figures, or move the file away."
    for row in rows_of(path, ("trace", "policy", "metric", "value"), step):
        if row.text("trace") == trace.stem:
            found.setdefault(row.text("policy"), {})[row.text("metric")] = row.number(
                "value", -MOST_S, MOST_S
            )
    return found


def least(published: Mapping[str, Mapping[str, float]], policies: Sequence[str]) -> float | None:
    """The least published mean completion time of some policies, in seconds; None if none of them is known."""
    known = [
        published[policy]["avg_jct_s"] for policy in policies if "avg_jct_s" in published.get(policy, {})
    ]
    return min(known, default=None)
