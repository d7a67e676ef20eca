"""Replay, verification, restart and memory."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import journals
from benchmarks.registry import Figure
from headrace.clock import WallClock
from headrace.control import Control
from headrace.core.observation import RankState
from headrace.journal.checkpoint import encode_checkpoint
from headrace.journal.keys import Keys
from headrace.journal.sqlite import SqliteStore
from headrace.journal.verify import verify
from headrace.planner import PlannerProcess

RUNS = 3


def _timed_verify(path: Path, public: bytes, *, replay: bool) -> tuple[float, int]:
    rates, events = [], 0
    for _ in range(RUNS):
        start = time.perf_counter()
        found = verify(path / "journal.sqlite", public, replay=replay)
        rates.append(found.events / (time.perf_counter() - start))
        events = found.events
    return statistics.median(rates), events


def replay(quick: bool) -> Figure:
    """Events per second of a full verification with replay: leaves, links, roots, signatures, decoded, applied."""
    with journals.opened(gpus=64_000) as (control, path):
        mix = journals.mixed(control, 12_000 if quick else 60_000)
        rate, events = _timed_verify(path, control.keys.public, replay=True)
    return Figure(rate, {"events": events, "mix": dict(mix.most_common()), "runs": RUNS})


def leaves(quick: bool) -> Figure:
    """Events per second of verification alone: leaves, links, roots, signatures."""
    with journals.opened(gpus=64_000) as (control, path):
        journals.mixed(control, 24_000 if quick else 120_000)
        rate, events = _timed_verify(path, control.keys.public, replay=False)
    return Figure(rate, {"events": events, "runs": RUNS})


def restart(quick: bool) -> Figure:
    """Seconds from nothing to a world ready to decide, with live workloads, from a checkpoint (in a new process)."""
    live = 20_000 if quick else 100_000
    with journals.opened(gpus=160_000) as (control, path):
        journals.submit(control, 0, live)
        made = journals.place(control, 100_000)
        journals.report(control, made, RankState.RUNNING, 1_000, meter=False)
        control.checkpoint()
        journals.submit(control, live, 1_000)
        seconds = []
        for _ in range(RUNS):
            code = f"from benchmarks.storage import open_once; open_once({str(path)!r})"
            out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            seconds.append(float(out.stdout))
    notes: dict[str, object] = {"live": live + 1_000, "placed": len(made), "tail_events": 1_000, "runs": RUNS}
    return Figure(statistics.median(seconds), notes)


def open_once(folder: str) -> None:
    """Print the seconds that opening a state takes."""
    path = Path(folder)
    start = time.perf_counter()
    control = Control(SqliteStore(path / "journal.sqlite"), Keys.open(path / "keys"), WallClock())
    control.world.snapshot(control.now_ms())
    sys.stdout.write(f"{time.perf_counter() - start}")


def memory(quick: bool) -> Figure:
    """Resident MiB of control plane and planner together: estate, queue, and a plan made."""
    gpus, queued = (60_000, 20_000) if quick else (300_000, 100_000)
    code = f"from benchmarks.storage import hold; hold({gpus}, {queued})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    control_mib, planner_mib = (float(word) for word in out.stdout.split())
    notes: dict[str, object] = {
        "gpus": gpus,
        "queued": queued,
        "control_mib": round(control_mib),
        "planner_mib": round(planner_mib),
    }
    return Figure(control_mib + planner_mib, notes)


def hold(gpus: int, queued: int) -> None:
    """Build the world in this process, let a planner process follow it and plan, print both peaks in MiB."""
    with journals.opened(gpus, sites=12) as (control, path):
        journals.submit(control, 0, queued)
        encode_checkpoint(control.world.state, control.chain)
        planner = PlannerProcess(path / "journal.sqlite", WallClock())
        planner.tell(control.durable, control.now_ms())
        deadline = time.monotonic() + 120
        while not planner.messages() and time.monotonic() < deadline:
            time.sleep(0.2)
        found = [_peak_mib("self"), _peak_mib(str(planner.process.pid))]
        planner.stop()
    sys.stdout.write(" ".join(str(one) for one in found))


def _peak_mib(process: str) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{process}/status has no VmHWM")
