"""What ``headrace doctor`` looks at: the engine on this machine, and each cluster that is declared."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from headrace.core.errors import HeadraceError
from headrace.engines.connect import ray_client, slurm_client
from headrace.engines.declared import EngineModel
from headrace.engines.machine import first_closed, first_unreadable
from headrace.engines.slurm.client import SlurmClient
from headrace.engines.slurm.leases import are_accounts_checked

_OLDEST_PYTHON = (3, 8)
_SLURM = ("squeue", "sinfo", "sbatch", "scancel", "scontrol")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``next_step`` says what to do where it is not well."""

    engine: str
    what: str
    is_well: bool
    detail: str
    next_step: str = ""


def examine_here(state: Path) -> Iterator[Finding]:
    """What the local engine needs."""
    if os.geteuid() == 0:
        closed = first_closed(state if state.exists() else state.parent) or first_unreadable(
            Path(sys.executable)
        )
        if closed is None:
            yield Finding("local", "tenants", True, "each has a Unix user of its own")
        else:
            step = f"chmod o+rx {closed}, move to a place that all may read, or run with --no-isolation."
            yield Finding("local", "tenants", False, f"{closed} is closed to their users", step)
    else:
        yield Finding(
            "local", "tenants", True, "not root: one tenant, or all as one user with --no-isolation"
        )
    cpus = len(os.sched_getaffinity(0))
    yield Finding("local", "machine", True, f"{cpus} cores for what runs here")


def examine(one: EngineModel) -> list[Finding]:
    """What an engine's cluster needs, in the order in which one thing rests on another."""
    return [*_spool(one), *_python(one), *(_ray(one) if one.ray is not None else _slurm(one))]


def _spool(one: EngineModel) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=one.spool):
            pass
    except OSError as error:
        step = "Make it, where all nodes of the cluster see it under this path, for this user to write."
        yield Finding(one.name, "spool", False, f"{one.spool}: {error.strerror or error}", step)
        return
    closed = first_closed(one.spool) if one.isolate else None
    if closed is not None:
        yield Finding(
            one.name, "spool", False, f"tenants' users can't pass through {closed}", f"chmod o+x {closed}"
        )
        return
    yield Finding(
        one.name, "spool", True, f"{one.spool} can be written here; that nodes see it, a first job shows"
    )


def _python(one: EngineModel) -> Iterator[Finding]:
    try:
        asked = [str(one.python), "-I", "-S", "-c", "import sys; print(*sys.version_info[:2])"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        # It is the nodes' Python: that this host has none is no fault.
        yield Finding(one.name, "python", True, f"{one.python} is not here; the nodes need it")
        return
    version = tuple(map(int, said))
    text = f"{one.python} is {'.'.join(said)}"
    if version < _OLDEST_PYTHON:
        yield Finding(
            one.name, "python", False, text, "The runner needs 3.8 or later: set python: of the engine."
        )
    else:
        yield Finding(one.name, "python", True, text)


def _asked(one: EngineModel, what: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(one.name, what, True, ask())
    except HeadraceError as error:
        problem = error.problems[0]
        return Finding(one.name, what, False, problem.message, problem.next_step)


def _slurm(one: EngineModel) -> Iterator[Finding]:
    declared = one.slurm
    if declared is None:
        raise TypeError(f"engine {one.name} is no Slurm")
    missing = [name for name in _SLURM if shutil.which(name) is None]
    if missing and declared.rest is None:
        text = f"no {', '.join(missing)} in PATH"
        yield Finding(one.name, "commands", False, text, "Install Debian's slurm-client, or declare rest:.")
        return
    yield Finding(
        one.name, "commands", True, "installed" if not missing else "not installed; slurmrestd is asked"
    )
    if declared.conf is not None and not os.access(declared.conf, os.R_OK):
        step = "Write the path of the cluster's slurm.conf as conf:."
        yield Finding(one.name, "configuration", False, f"{declared.conf} can't be read", step)
        return
    client = slurm_client(one)
    version = _asked(one, "controller", lambda: f"Slurm {client.version()} answers")
    yield version
    if not version.is_well:
        return

    def nodes() -> str:
        found = client.nodes()
        here = [node for node in found if not declared.partition or node.partition == declared.partition]
        if not here:
            known = ", ".join(sorted({node.partition for node in found})) or "none"
            return f"no node in partition {declared.partition!r}; partitions: {known}"
        up = sum(not node.is_silent and not node.is_drained for node in here)
        return f"{up} of {len(here)} nodes answer and take work"

    counted = _asked(one, "nodes", nodes)
    if counted.is_well and counted.detail.startswith(("no node", "0 of")):
        step = (
            "Compare partition: with `sinfo`; `scontrol update nodename=... state=resume` takes a node back."
        )
        counted = Finding(one.name, "nodes", False, counted.detail, step)
    yield counted
    yield _leases(one, client)


def _leases(one: EngineModel, client: SlurmClient) -> Finding:
    """Whether clusters can be leased as reservations. That they can't be is no fault: bare ones can."""
    if one.slurm is None or not one.slurm.leases:
        return Finding(one.name, "leases", True, "bare nodes alone: leases: false")

    def checked() -> str:
        if are_accounts_checked(client):
            return "bare nodes, and reservations of a tenant's account, if this user is an operator of Slurm"
        return "bare nodes alone: Slurm does not check who uses an account; leases: false keeps the planner from trying"

    return _asked(one, "leases", checked)


def _ray(one: EngineModel) -> Iterator[Finding]:
    if one.ray is None:
        raise TypeError(f"engine {one.name} is no Ray")
    try:
        client = ray_client(one)
    except HeadraceError as error:
        problem = error.problems[0]
        yield Finding(one.name, "dashboard", False, problem.message, problem.next_step)
        return
    version = _asked(one, "dashboard", lambda: f"Ray {client.version()} answers")
    yield version
    if version.is_well:
        yield _asked(one, "nodes", lambda: f"{sum(node.is_alive for node in client.nodes())} nodes are alive")
    yield Finding(one.name, "tenants", True, f"{one.ray.tenant} alone")
