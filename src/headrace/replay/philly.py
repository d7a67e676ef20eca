"""Philly: jobs of Microsoft's GPU clusters in 2017.

Source: Jeon et al., Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads, USENIX ATC 2019. Several
sets of it are about, with other names for the same columns; all of them are read.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from headrace.replay.clock import Job
from headrace.replay.cluster import ReplayCluster, fleet_of, hardware
from headrace.replay.rows import CORRECT, MOST_NODES, MOST_S, Row, bad, shown, table_of

NODE_GPUS = 8
_COLUMNS: dict[str, tuple[str, ...]] = {
    "submission": ("submit_time", "submission_time", "submitted_time", "timestamp", "time"),
    "GPUs": ("num_gpu", "num_gpus", "gpus", "gpu_num"),
    "duration": ("duration", "real_duration", "runtime", "run_time"),
}
_TENANT = ("vc", "virtual_cluster", "tenant")
_STEP = "Give a CSV file of jobs."
_NAME = ("job_id", "jobid", "id", "name")


def read(path: Path, node_gpus: int = NODE_GPUS) -> list[Job]:
    """The jobs of a file, by submission, counted from the first. Jobs without a GPU are left out.

    Times are seconds or dates, durations seconds. A job of more GPUs than a node has gets as few nodes as do, each with the same
    number of them. Raises HeadraceError that names the file and the line.
    """
    names, rows = table_of(path, _STEP)
    columns = _columns(path, names) if names else {}
    jobs = [job for row in rows if (job := _job(row, columns, node_gpus)) is not None]
    if not jobs:
        raise bad(str(path), "there is no job in it." if names else "it is empty.", _STEP)
    first_ms = min(submit_ms for submit_ms, *_ in jobs)
    jobs.sort(key=lambda one: one[0])
    return [
        Job(name, tenant, submit_ms - first_ms, duration_ms, nodes, gpus)
        for submit_ms, name, tenant, duration_ms, nodes, gpus in jobs
    ]


def cluster_of(gpus: int, jobs: list[Job], node_gpus: int = NODE_GPUS) -> ReplayCluster:
    """``gpus`` GPUs in nodes of ``node_gpus``, for the tenants of ``jobs``."""
    if gpus < 1 or gpus % node_gpus:
        step = f"Give a multiple of {node_gpus}."
        raise bad("--gpus", f"{gpus} GPUs don't make up nodes of {node_gpus}.", step)
    if gpus > MOST_NODES * node_gpus:
        message = f"{gpus:,} GPUs are more than {MOST_NODES:,} nodes have."
        raise bad("--gpus", message, f"Give at most {MOST_NODES * node_gpus:,}.")
    fleet = fleet_of([(hardware("gpu", node_gpus), gpus // node_gpus)])
    return ReplayCluster(fleet, dict.fromkeys(job.tenant for job in jobs))


def shape_of(gpus: int, node_gpus: int) -> tuple[int, int]:
    """(Nodes, GPUs of each): the fewest nodes, and equal parts, rounded up."""
    nodes = -(-gpus // node_gpus)
    return nodes, -(-gpus // nodes)


_Row = tuple[int, str, str, int, int, int]


def _columns(path: Path, names: Sequence[str]) -> dict[str, str]:
    found = {}
    for what, known in (*_COLUMNS.items(), ("tenant", _TENANT), ("name", _NAME)):
        column = next((name for name in known if name in names), None)
        if column is not None:
            found[what] = column
        elif what in _COLUMNS:
            raise bad(f"{path}:1", f"no column says the {what} of a job.", f"Call it {' or '.join(known)}.")
    return found


def _job(row: Row, columns: Mapping[str, str], node_gpus: int) -> _Row | None:
    gpus = row.whole(columns["GPUs"])
    duration_ms = round(row.number(columns["duration"], most=MOST_S) * 1000)
    submit_ms = _submitted_ms(row, columns["submission"])
    if not gpus:
        return None
    tenant = row.text(columns["tenant"]) if "tenant" in columns else ""
    name = row.text(columns["name"]) if "name" in columns else row.where
    nodes, each = shape_of(gpus, node_gpus)
    # A job that took no time at all would end before it began.
    return submit_ms, name, tenant or "philly", max(1, duration_ms), nodes, each


def _submitted_ms(row: Row, column: str) -> int:
    """Seconds as milliseconds, or a date since 1970."""
    text = row.text(column)
    try:
        seconds = float(text)
    except ValueError:
        seconds = _since_1970(row, column)
    if not abs(seconds) <= MOST_S:
        raise bad(row.where, f"{column} is {shown(text)}, not within {MOST_S:,} seconds.", CORRECT)
    return round(seconds * 1000)


def _since_1970(row: Row, column: str) -> float:
    try:
        moment = datetime.fromisoformat(row.text(column))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        message = f"{column} is {shown(row.text(column))}, neither seconds nor a date."
        raise bad(row.where, message, CORRECT) from None
