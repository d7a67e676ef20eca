"""Adversarial worlds against a second mind: decisions of placement on which production and the brute-force oracle differ."""

import time

from benchmarks.registry import Figure
from tests.sovereignty_oracle.judge import Tally, play

DECISIONS, QUICK_DECISIONS = 100_000, 8_000
STEPS = 4
DEEP_EVERY = 4
"""So often a world is also planned, asked what would change, and completed by chance."""
SHOWN = 5


def disagreements(quick: bool) -> Figure:
    """Decisions on which the two differ, over worlds from the seeds 0 and up until there are enough."""
    wanted = QUICK_DECISIONS if quick else DECISIONS
    began, worked, tally, seed = time.perf_counter(), time.process_time(), Tally(), 0
    while tally.decisions < wanted:
        tally.add(play(seed, STEPS, deep=seed % DEEP_EVERY == 0))
        seed += 1
    notes: dict[str, object] = {
        "decisions": tally.decisions,
        "worlds": tally.worlds,
        "allowed": tally.allowed,
        "forbidden": tally.decisions - tally.allowed,
        "wider_than_need_be": tally.wider,
        "against_completions": tally.completions,
        "placements_judged": tally.placed,
        "kinds": dict(sorted(tally.kinds.items())),
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
        "first": [str(one) for one in tally.found[:SHOWN]],
    }
    # Nothing is shown by worlds in which nearly everything is allowed, or nearly nothing.
    is_clean = 0.05 < tally.allowed / tally.decisions < 0.95 and tally.completions > 0 and tally.placed > 0
    return Figure(len(tally.found), notes, clean=is_clean)
