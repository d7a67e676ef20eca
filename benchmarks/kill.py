"""kill -9 at random points under load, judged from outside."""

from benchmarks.registry import Figure
from tests.durability import harness

SEED = 1
KILLS = 500
QUICK_S = 18.0
"""Killing in a quick run; starting, settling and judging take as long again at the worst."""


def kill(quick: bool) -> Figure:
    """Violations of durability after 500 kills (as many as fit, when quick); what they were goes into the notes."""
    report = harness.run(KILLS, SEED, seconds=QUICK_S if quick else None, pace_s=0.12)
    notes = report.summary()
    if report.violations:
        notes["violations"] = report.violations[:5]
    return Figure(len(report.violations), notes)
