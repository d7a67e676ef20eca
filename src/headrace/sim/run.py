"""Runs seeds and reports: what was covered, and the first promise that broke."""

import argparse
import gc
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from headrace.core.events import Committed
from headrace.core.scheduling.check import Violation
from headrace.core.units import MS_PER_DAY
from headrace.sim.rest import come_to_rest
from headrace.sim.script import LONG, SHORT, Scale
from headrace.sim.world import Simulation

Kind = Literal["long", "short"]
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
SHOWN_EVENTS = 20
_COLLECTED_EVERY = 5_000
"""Objects that a world makes between two looks for garbage: hardly any of it is in cycles."""


@dataclass(slots=True)
class Result:
    """What became of a seed. ``digest`` is of all bytes of its journal."""

    seed: int
    kind: Kind
    violations: list[Violation] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    grid: Counter[str] = field(default_factory=Counter)
    law: Counter[str] = field(default_factory=Counter)
    last: list[str] = field(default_factory=list)
    digest: str = ""
    wall_s: float = 0.0


def run_seed(seed: int, kind: Kind, days: float = 0) -> Result:
    """Play one world and bring it to rest; ``days`` stretches a long one (0: two days)."""
    scale = LONG if kind == "long" else SHORT
    if days:
        scale = replace(LONG, length_ms=round(days * MS_PER_DAY))
    began = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="headrace-sim-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        result = _play(seed, kind, scale, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result.wall_s = time.perf_counter() - began
    return result


def _play(seed: int, kind: Kind, scale: Scale, folder: Path) -> Result:
    sim = Simulation(seed, scale, folder)
    witness = sim.witness
    try:
        sim.run()
        come_to_rest(sim)
    except Exception as error:  # noqa: BLE001 - whatever production code raises here is a finding
        witness.own.insert(
            0, Violation(0, "control plane", f"{type(error).__name__}: {error} at {_where(error)}", "raised")
        )
    finally:
        sim.plant.die()
    return Result(
        seed,
        kind,
        witness.violations,
        witness.events,
        sim.switches.fired,
        Counter({str(state): count for state, count in witness.states.items()}),
        witness.notebook.denied,
        witness.notebook.asked,
        witness.shapes,
        Counter(witness.checkers.grid.covered),
        Counter(witness.checkers.lawchange.covered),
        [_line(committed) for committed in witness.last[-SHOWN_EVENTS:]],
        witness.heads.bytes.hexdigest(),
    )


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    names = []
    while trace is not None:
        names.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " < ".join(reversed(names[-4:]))


def _line(committed: Committed) -> str:
    return f"{committed.seq} {committed.at_ms} {committed.event}"[:400]


# -- many ---------------------------------------------------------------------------------------------------


def run_seeds(seeds: Iterable[int], kind: Kind, jobs: int = 1, days: float = 0) -> Iterator[Result]:
    """Play many worlds, in the order of their seeds."""
    work = [(seed, kind, days) for seed in seeds]
    if jobs == 1 or len(work) == 1:
        with _collected_rarely():
            for one in work:
                yield run_seed(*one)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _collect_rarely) as pool:
        yield from pool.imap(_run, work, chunksize=1 if kind == "long" else 8)


@contextmanager
def _collected_rarely() -> Iterator[None]:
    before = gc.get_threshold()
    _collect_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _collect_rarely() -> None:
    """What is imported is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_EVERY, 50, 50)


def _run(work: tuple[int, Kind, float]) -> Result:
    return run_seed(*work)


@dataclass(slots=True)
class Total:
    """What many seeds covered."""

    seeds: int = 0
    failed: list[int] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    grid: Counter[str] = field(default_factory=Counter)
    law: Counter[str] = field(default_factory=Counter)
    seed_s: float = 0.0

    def add(self, result: Result) -> None:
        """Count one seed in."""
        self.seeds += 1
        self.seed_s += result.wall_s
        if result.violations:
            self.failed.append(result.seed)
        for mine, its in (
            (self.events, result.events),
            (self.faults, result.faults),
            (self.states, result.states),
            (self.denied, result.denied),
            (self.requests, result.requests),
            (self.shapes, result.shapes),
            (self.grid, result.grid),
            (self.law, result.law),
        ):
            mine.update(its)


def _print_coverage(total: Total) -> None:
    for name, counts in (
        ("events", total.events),
        ("faults", total.faults),
        ("states", total.states),
        ("requests", total.requests),
        ("shapes placed", total.shapes),
        ("under instructions", total.grid),
        ("under changing law", total.law),
        ("denied", total.denied),
    ):
        listed = ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))
        print(f"{name} ({sum(counts.values())}): {listed or 'none'}")


def _print_failure(result: Result) -> None:
    print(f"seed {result.seed} commit {commit()} ({result.kind})")
    for line in result.last:
        print(f"  {line}")
    for violation in result.violations[:5]:
        print(f"  promise {violation.promise} {violation.rule}: {violation.subject}: {violation.detail}")
    if len(result.violations) > 5:
        print(f"  and {len(result.violations) - 5} more")


def commit() -> str:
    """The commit of this source, or "unknown" outside a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _seeds(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(first)]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="headrace sim", description="Play simulated worlds and check every promise."
    )
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", type=_seeds, help="several: 0-499")
    parser.add_argument("--days", type=float, default=0, help="simulated days of a long world (2)")
    parser.add_argument(
        "--long", dest="kind", action="store_const", const="long", default="long", help="two days each"
    )
    parser.add_argument("--short", dest="kind", action="store_const", const="short", help="30 minutes each")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="one line of JSON with the totals")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Play the seeds that are asked for; 1 when a promise broke."""
    asked = _arguments(argv)
    seeds = asked.seeds if asked.seeds is not None else [asked.seed or 0]
    began, total = time.perf_counter(), Total()
    for result in run_seeds(seeds, asked.kind, asked.jobs, asked.days):
        total.add(result)
        if result.violations:
            _print_failure(result)
    wall_s = time.perf_counter() - began
    if asked.json:
        numbers = {
            "seeds": total.seeds,
            "failed": total.failed,
            "wall_s": round(wall_s, 2),
            "events": sum(total.events.values()),
        }
        print(json.dumps(numbers))
    else:
        _print_coverage(total)
        each = total.seed_s / max(1, total.seeds)
        print(
            f"{total.seeds} {asked.kind} seeds, {len(total.failed)} failed, {wall_s:.1f} s, {each:.3f} s each"
        )
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
