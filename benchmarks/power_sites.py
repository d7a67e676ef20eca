"""Runs of instructions at sites of 1,000 nodes, one or two sites at once, each with processes of its own for everything.

A site is run by a process of its own: its plant, its control plane with the planner, and the engine's host stand apart from
another site's. What each of them needed of the processors is noted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from random import Random
from statistics import median

from benchmarks.power_plant import FIRST, Judged, Site, instruct, site
from benchmarks.registry import Figure
from headrace.core import events as ev
from headrace.core.power.caps import OFF_W
from headrace.journal.codec import decode
from headrace.journal.sqlite import SqliteStore

SILENT_PERMILLE = 50
KILL_SEED = 3
MOMENTS_S = ((0.05, 2.0), (2.0, 12.0), (0.05, 28.0))
"""Killed while orders go out, while the silent ones are waited for, and later: what was done has to stay."""


@dataclass(frozen=True)
class Run:
    """What one site is given: ``count`` instructions from number ``first`` on, drawn by ``seed``, with so many of a thousand
    controllers silent, other ones at each. ``hold_s`` when it is not drawn.
    """

    name: str
    nodes: int
    speed: int
    count: int
    silent: int
    seed: int
    first: int = 0
    kills: bool = False
    hold_s: float | None = None


@dataclass
class Found:
    """What came of a run: what was judged, how often each rung was used, and processors in use."""

    run: Run
    rows: list[Judged] = field(default_factory=list)
    used: Mapping[str, int] = field(default_factory=dict)
    processors: Mapping[str, float] = field(default_factory=dict)


def alone(run: Run) -> Found:
    """One site's run, from its start to its end."""
    chance = Random(f"{run.seed} {run.first}")
    found = Found(run)
    with site(run.nodes, run.speed, run.seed) as one:
        one.watched()
        for number in range(run.first, run.first + run.count):
            moment_s = chance.uniform(*MOMENTS_S[number % len(MOMENTS_S)]) if run.kills else None
            row = instruct(one, chance, run.seed * FIRST + number, run.hold_s, run.silent, moment_s)
            found.rows.append(row)
            if one.failure:
                raise RuntimeError(one.failure)
        found.processors, found.used = one.watch.processors(), used(one)
    return found


def together(runs: Sequence[Run], at_once: int) -> list[Found]:
    """All runs, so many at once."""
    with ProcessPoolExecutor(at_once, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(alone, runs))


def used(one: Site) -> Mapping[str, int]:
    """How often each rung of the ladder was used, by the journal: nodes, but for what was paused and ended."""
    store = SqliteStore(one.state / "journal.sqlite", readonly=True)
    counts: Counter[str] = Counter()
    for group in store.groups():
        for committed in decode(group):
            match committed.event:
                case ev.CapsOrdered(caps=caps):
                    off = sum(watts == OFF_W for _, watts in caps)
                    counts.update({"nodes_capped": len(caps) - off, "nodes_off": off})
                case ev.CurtailmentOrdered():
                    counts["paused"] += 1
                case ev.EvictionRequested():
                    counts["ended"] += 1
                case ev.ExcessMeasured(watts=watts) if watts:
                    counts["excess_seen"] += 1
    store.close()
    return dict(counts)


def notes(all_found: Sequence[Found], at_once: int) -> dict[str, object]:
    """What is said of runs beside how many were missed."""
    run = all_found[0].run
    said: dict[str, object] = {
        "nodes": run.nodes,
        "speed": run.speed,
        "meter_lag_s": 2,
        "sites": len(all_found),
        "sites_at_once": at_once,
    }
    counts: Counter[str] = Counter()
    for found in all_found:
        name, rows = found.run.name, found.rows
        took = [max(0.0, row.took_s) for row in rows]
        missed = [row for row in rows if row.is_missed]
        said |= {
            f"{name}_instructions": len(rows),
            f"{name}_missed": len(missed),
            f"{name}_seconds_median": round(median(took), 1),
            f"{name}_seconds_most": round(max(took), 1),
            f"{name}_processors": dict(found.processors),
        }
        if missed:
            said[f"{name}_misses"] = [
                f"{row.number}: {row.target_w} W, metered {row.metered_w}, true {row.true_w}, {row.readings} readings, "
                f"killed {row.killed_s}, kept {row.kept}"
                for row in missed[:5]
            ]
        counts.update(found.used)
    return said | dict(counts)


def _figure(runs: Sequence[Run], at_once: int) -> Figure:
    """Missed instructions of all runs."""
    found = together(runs, at_once)
    missed = sum(row.is_missed for one in found for row in one.rows)
    return Figure(missed, notes(found, at_once))


def real(quick: bool) -> Figure:
    """In real time: 100 instructions with all controllers, and at another site at once 100 with 5 % that do not answer."""
    if quick:
        return _figure([Run("silent", 60, 1, 1, SILENT_PERMILLE, 51, hold_s=1.0)], 1)
    return _figure([Run("all", 1_000, 1, 100, 0, 1), Run("silent", 1_000, 1, 100, SILENT_PERMILLE, 51)], 2)


def fast(quick: bool) -> Figure:
    """At 20 times the speed of the world: 1,000 and 1,000, one site after the other, as each needs the machine."""
    nodes, count = (120, 4) if quick else (1_000, 1_000)
    return _figure(
        [Run("all", nodes, 20, count, 0, 1), Run("silent", nodes, 20, count, SILENT_PERMILLE, 51)], 1
    )


def kills(quick: bool) -> Figure:
    """Killed at 50 moments, at two sites at once: while it sheds, with 5 % of the controllers silent, and while it holds."""
    if quick:
        return _figure([Run("kills", 60, 1, 1, SILENT_PERMILLE, KILL_SEED, kills=True, hold_s=1.0)], 1)
    return _figure(
        [
            Run("kills", 1_000, 1, 25, SILENT_PERMILLE, KILL_SEED, kills=True),
            Run("more_kills", 1_000, 1, 25, SILENT_PERMILLE, KILL_SEED, first=25, kills=True),
        ],
        2,
    )
