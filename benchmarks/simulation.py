"""Simulated worlds: every promise checked in each, on two processes."""

import time
from collections import Counter
from typing import Literal

from benchmarks.registry import Figure
from headrace.sim.run import run_seeds

JOBS = 2


def _play(kind: Literal["long", "short"], all_seeds: int, played: int) -> Figure:
    """Seconds for ``all_seeds``; a quick run plays fewer and scales, and says so."""
    faults: Counter[str] = Counter()
    failed: list[int] = []
    events = 0
    began = time.perf_counter()
    for result in run_seeds(range(played), kind, JOBS):
        faults.update(result.faults)
        events += sum(result.events.values())
        if result.violations:
            failed.append(result.seed)
    seconds = (time.perf_counter() - began) * all_seeds / played
    notes: dict[str, object] = {
        "seeds": played,
        "scaled_to": all_seeds,
        "violations_in_seeds": failed,
        "events": events,
        "faults": sum(faults.values()),
        "kinds_of_fault": len(faults),
    }
    return Figure(seconds, notes, clean=not failed)


def long(quick: bool) -> Figure:
    """500 worlds of two days."""
    return _play("long", 500, 10 if quick else 500)


def short(quick: bool) -> Figure:
    """10,000 worlds of 30 minutes."""
    return _play("short", 10_000, 200 if quick else 10_000)
