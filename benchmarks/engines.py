"""A real Slurm through Headrace, against the same Slurm alone; and what a control plane costs with many jobs in one."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.registry import Figure
from headrace.demo.plant import Plant
from headrace.lab.slurm import GPUS, SlurmLab, slurm_lab
from headrace.sdk import Client

PATIENCE_S = 3_600.0
POLL_S = 0.1
MOST_MIB = 600
SENDERS = 4
"""So many sbatch at once are the fastest here."""
_TENANT = """kind: tenant
name: bench
projects: [main]
---
kind: price-plan
name: std
currency: GBP
prices: {accelerator_per_hour: {lab: 1.00}}
---
kind: contract
name: c
tenant: bench
plan: std
type: on-demand
starts: 2025-01-01
---
"""


@contextmanager
def _folder() -> Iterator[Path]:
    # Not below the system's long temporary paths: sockets have short ones.
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _estate(racks: int, per_rack: int, watts: int) -> str:
    estate = {
        "kind": "estate",
        "operator": {"name": "bench", "country": "GB", "zone": "Europe/London", "currency": "GBP"},
        "sites": [
            {
                "name": "site",
                "country": "GB",
                "zone": "Europe/London",
                "energy": {"source": "hydro", "carbon": 8, "price": 0.2, "currency": "GBP"},
                "connection": {"firm": f"{watts}W"},
                "pue": 1.0,
                "engine": "slurm",
                "power": [{"name": "feed", "kind": "feed", "rating": f"{watts}W"}],
                "blocks": [
                    {
                        "name": "b",
                        "fed_by": "feed",
                        "commissioned": "2025-01-01",
                        "groups": [
                            {"name": "lab", "hardware": "lab", "racks": racks, "nodes_per_rack": per_rack}
                        ],
                    }
                ],
            }
        ],
    }
    return json.dumps(estate)


@contextmanager
def _plane(folder: Path, lab: SlurmLab) -> Iterator[tuple[Plant, Client]]:
    """A control plane with an estate of the lab's nodes, on their Slurm."""
    plant = Plant(folder / "state")
    plant.state.mkdir()
    declared = {
        "kind": "engine",
        "name": "slurm",
        "spool": str(folder / "spool"),
        "slurm": {"conf": str(lab.conf), "partition": "lab"},
        "python": shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable,
        "addresses": dict.fromkeys(lab.names, "127.0.0.1"),
        "isolate": False,
    }
    (plant.state / "engines.yaml").write_text(json.dumps(declared))
    plant.start()
    try:
        with plant.client() as operator:
            racks = len({name.split("-")[1] for name in lab.names})
            operator.apply(_TENANT + _estate(racks, len(lab.names) // racks, 1_000 * len(lab.names) + 1_000))
            _until(lambda: _is_seen(operator, len(lab.names)), "the cluster is seen")
            yield plant, operator
    finally:
        plant.end()


def _is_seen(operator: Client, nodes: int) -> bool:
    return any(one.name == "slurm" and one.seen == nodes and not one.trouble for one in operator.engines())


def _until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"not in {PATIENCE_S:.0f} s: {what}")
        time.sleep(POLL_S)


# -- time lost ---------------------------------------------------------------------------------------------------------


def _direct(lab: SlurmLab, jobs: int, seconds: int) -> float:
    """Seconds from the first sbatch until the last job has ended."""
    command = ("sbatch", "--parsable", "--gres=gpu:1", "--mem=64", "--chdir=/", "--output=/dev/null")
    start = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as pool:
        for made in [pool.submit(lab.ask, *command, "--wrap", f"sleep {seconds}") for _ in range(jobs)]:
            made.result()
    _until(lambda: not lab.ask("squeue", "-h", "-o", "%i").strip(), "Slurm has ended its jobs")
    return time.monotonic() - start


def _job(number: int, seconds: int) -> dict[str, Any]:
    return {
        "name": f"j-{number}",
        "type": "job",
        "project": "main",
        "resources": {"gpu": "lab:1", "cpu": "100m", "memory": "64MB"},
        "commands": [f"sleep {seconds}"],
    }


def _through(operator: Client, jobs: int, seconds: int) -> float:
    """Seconds from the submission until the last job has ended well."""
    before = operator.status().workloads.get("succeeded", 0)
    start = time.monotonic()
    operator.submit([_job(number, seconds) for number in range(jobs)], tenant="bench")
    _until(
        lambda: operator.status().workloads.get("succeeded", 0) - before >= jobs, "all jobs have succeeded"
    )
    return time.monotonic() - start


def overhead(quick: bool) -> Figure:
    """Percent more time for jobs through Headrace than through sbatch, on the same real Slurm, one after the other."""
    nodes, jobs, seconds = (4, 32, 8) if quick else (16, 2_000, 10)
    with _folder() as folder, slurm_lab(folder / "slurm", nodes) as lab, _plane(folder, lab) as (_, operator):
        direct_s = _direct(lab, jobs, seconds)
        through_s = _through(operator, jobs, seconds)
    notes: dict[str, object] = {
        "nodes": nodes,
        "accelerators": nodes * GPUS,
        "jobs": jobs,
        "each_s": seconds,
        "direct_s": round(direct_s, 1),
        "through_s": round(through_s, 1),
        "ideal_s": jobs * seconds / (nodes * GPUS),
    }
    lost = (through_s / direct_s - 1) * 100
    return Figure(lost, notes, peer="sbatch, slurm-wlm 22.05", ratio=round(through_s / direct_s, 3))


# -- idle --------------------------------------------------------------------------------------------------------------


def _processes(pid: int) -> list[int]:
    """A process and all below it."""
    found, parents = [pid], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int(
                    entry.joinpath("stat").read_text().rpartition(")")[2].split()[1]
                )
            except OSError:
                continue
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _resident_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _processor_s(pid: int) -> tuple[float, float]:
    """Of a process and its threads, and of the children that it waited for; nothing for one that is gone: it is with those."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0, 0.0
    user, system, user_below, system_below = (int(one) / os.sysconf("SC_CLK_TCK") for one in fields[11:15])
    return user + system, user_below + system_below


def _parts_s(plane: int, pids: Sequence[int]) -> dict[str, float]:
    """What the control plane spent itself, in Slurm's commands and in its planner: all that it spent."""
    own_s, commands_s = _processor_s(plane)
    rest_s = sum(sum(_processor_s(pid)) for pid in pids if pid != plane)
    return {"control_plane": own_s, "slurm_commands": commands_s, "planner": rest_s}


def idle(quick: bool) -> Figure:
    """Percent of a core that a control plane takes while Slurm has so many jobs of its and nothing happens; its memory too.

    Nodes that never come up, so that this machine need not run them.
    """
    jobs, racks, span_s = (400, 1, 8) if quick else (10_000, 10, 60)
    with (
        _folder() as folder,
        slurm_lab(folder / "slurm", jobs // GPUS // racks, racks=racks, is_cloud=True) as lab,
        _plane(folder, lab) as (plant, operator),
    ):
        start = time.monotonic()
        operator.submit([_job(number, 3_600) for number in range(jobs)], tenant="bench")
        _until(lambda: lab.jobs_of_ours() >= jobs, "Slurm knows all jobs")
        known_s = time.monotonic() - start
        time.sleep(5)
        pids = _processes(plant.pid)
        before, start = _parts_s(plant.pid, pids), time.monotonic()
        time.sleep(span_s)
        after, spanned_s = _parts_s(plant.pid, pids), time.monotonic() - start
        parts = {name: (spent_s - before[name]) / spanned_s * 100 for name, spent_s in after.items()}
        memory = sum(map(_resident_mib, pids))
        known = lab.jobs_of_ours()
        seen = next(one for one in operator.engines() if one.name == "slurm")
    notes: dict[str, object] = {
        "jobs": known,
        "nodes": jobs // GPUS,
        "resident_mib": round(memory),
        "most_mib": MOST_MIB,
        "span_s": span_s,
        "submitted_s": round(known_s, 1),
        "trouble": seen.trouble,
    } | {f"{name}_percent": round(percent, 1) for name, percent in parts.items()}
    return Figure(sum(parts.values()), notes, clean=memory <= MOST_MIB and known >= jobs and not seen.trouble)
