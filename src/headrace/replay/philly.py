"""Philly: jobs of Microsoft's GPU clusters in 2017.

Source: Jeon et al., Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads, USENIX ATC 2019. Several
sets of it are about, with other names for the same columns; all of them are read.
"""

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.replay.clock import Job
from headrace.replay.cluster import ReplayCluster, fleet_of, hardware

NODE_GPUS = 8
_COLUMNS: dict[str, tuple[str, ...]] = {
    "submission": ("submit_time", "submission_time", "submitted_time", "timestamp", "time"),
    "GPUs": ("num_gpu", "num_gpus", "gpus", "gpu_num"),
    "duration": ("duration", "real_duration", "runtime", "run_time"),
}
_TENANT = ("vc", "virtual_cluster", "tenant")
_NAME = ("job_id", "jobid", "id", "name")


def read(path: Path, node_gpus: int = NODE_GPUS) -> list[Job]:
    """The jobs of a file, by submission, counted from the first. Jobs without a GPU are left out.

    Times are seconds or dates, durations seconds. A job of more GPUs than a node has gets as few nodes as do, each with the same
    number of them. Raises HeadraceError that names the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            columns = _columns(path, rows.fieldnames or ())
            found = [_job(f"{path}:{rows.line_num}", row, columns, node_gpus) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _bad(str(path), f"can't read it: {error}.", "Give a CSV file of jobs.") from None
    jobs = [job for job in found if job is not None]
    if not jobs:
        raise _bad(str(path), "there is no job in it.", "Give a CSV file of jobs.")
    first_ms = min(submit_ms for submit_ms, *_ in jobs)
    jobs.sort(key=lambda one: one[0])
    return [
        Job(name, tenant, submit_ms - first_ms, duration_ms, nodes, gpus)
        for submit_ms, name, tenant, duration_ms, nodes, gpus in jobs
    ]


def cluster_of(gpus: int, jobs: list[Job], node_gpus: int = NODE_GPUS) -> ReplayCluster:
    """``gpus`` GPUs in nodes of ``node_gpus``, for the tenants of ``jobs``."""
    if gpus < 1 or gpus % node_gpus:
        raise _bad(
            "--gpus", f"{gpus} GPUs don't make up nodes of {node_gpus}.", f"Give a multiple of {node_gpus}."
        )
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
            raise _bad(f"{path}:1", f"no column says the {what} of a job.", f"Call it {' or '.join(known)}.")
    return found


def _job(where: str, row: Mapping[str, str], columns: Mapping[str, str], node_gpus: int) -> _Row | None:
    gpus = _number(where, columns["GPUs"], row)
    duration_ms = _milliseconds(where, columns["duration"], row)
    submit_ms = _milliseconds(where, columns["submission"], row)
    if gpus < 0 or duration_ms < 0:
        raise _bad(where, "less than nothing is asked for.", "Correct the line or leave it out.")
    if not gpus:
        return None
    tenant = row[columns["tenant"]] if "tenant" in columns else "philly"
    name = row[columns["name"]] if "name" in columns else where
    nodes, each = shape_of(gpus, node_gpus)
    # A job that took no time at all would end before it began.
    return submit_ms, name, tenant or "philly", max(1, duration_ms), nodes, each


def _number(where: str, column: str, row: Mapping[str, str]) -> int:
    try:
        return int(float(row[column]))
    except (TypeError, ValueError, OverflowError):
        raise _bad(
            where, f"{column} is {row[column]!r}, not a number.", "Correct the line or leave it out."
        ) from None


def _milliseconds(where: str, column: str, row: Mapping[str, str]) -> int:
    """Seconds as milliseconds, or a date since 1970."""
    try:
        return round(float(row[column]) * 1000)
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(row[column])
    except (TypeError, ValueError):
        raise _bad(
            where,
            f"{column} is {row[column]!r}, neither seconds nor a date.",
            "Correct the line or leave it out.",
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1000


def _bad(where: str, message: str, step: str) -> HeadraceError:
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where))
