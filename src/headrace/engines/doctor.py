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
from headrace.engines.problems import others_may_write
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
            text = "each has a Unix user of its own; with --no-isolation all of them would run as root"
            yield Finding("local", "tenants", True, text)
        else:
            step = (
                f"Move to a place that all may read, like /opt or /var/lib, or chmod o+rx {closed}, or run as another user than "
                "root (with --no-isolation its tenants run as root too, and read everything)."
            )
            yield Finding("local", "tenants", False, f"{closed} is closed to their users", step)
    else:
        yield Finding(
            "local", "tenants", True, "not root: one tenant, or all as one user with --no-isolation"
        )
    cpus = len(os.sched_getaffinity(0))
    yield Finding("local", "machine", True, f"{cpus} cores for what runs here")


def examine(one: EngineModel) -> list[Finding]:
    """What an engine's cluster needs, in the order in which one thing rests on another."""
    return [
        *_spool(one),
        *_tenants(one),
        *_python(one),
        *(_ray(one) if one.ray is not None else _slurm(one)),
    ]


def _tenants(one: EngineModel) -> Iterator[Finding]:
    if one.gives_away_root:
        text = "isolate: false, and this is root: tenants run as root, here and on the nodes, and can read everything"
        step = "Take isolate: false out, or run Headrace as another user than root."
        yield Finding(one.name, "tenants", False, text, step)


def _spool(one: EngineModel) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=one.spool):
            pass
    except OSError as error:
        step = "Make it, where all nodes of the cluster see it under this path, for this user to write."
        yield Finding(one.name, "spool", False, f"{one.spool}: {error.strerror or error}", step)
        return
    open_to = others_may_write(one.spool)
    if open_to is not None:
        why, step = open_to
        yield Finding(one.name, "spool", False, f"what lies in {one.spool} is run, and {why}", step)
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

    yield _slurm_nodes(one, client, declared.partition)
    yield _leases(one, client)


def _slurm_nodes(one: EngineModel, client: SlurmClient, partition: str) -> Finding:
    try:
        found = client.nodes()
    except HeadraceError as error:
        return Finding(one.name, "nodes", False, error.problem.message, error.problem.next_step)
    here = [node for node in found if not partition or node.partition == partition]
    if not here:
        known = ", ".join(sorted({node.partition for node in found})) or "none"
        step = "Write one of them as partition:, or give this one nodes in slurm.conf."
        return Finding(
            one.name, "nodes", False, f"no node in partition {partition!r}; partitions: {known}", step
        )
    shut = next((node for node in here if node.partition_state != "up"), None) if partition else None
    if shut is not None:
        step = f"`scontrol update partitionname={shut.partition} state=up` opens it."
        return Finding(
            one.name, "nodes", False, f"partition {shut.partition} is {shut.partition_state}", step
        )
    up = sum(not node.is_silent and not node.is_drained for node in here)
    step = (
        "`sinfo -R` says why; `scontrol update nodename=... state=resume` takes a node back."
        if not up
        else ""
    )
    return Finding(one.name, "nodes", up > 0, f"{up} of {len(here)} nodes answer and take work", step)


def _leases(one: EngineModel, client: SlurmClient) -> Finding:
    """Whether clusters can be leased as reservations. That they can't be is no fault: bare ones can."""
    if one.slurm is None or not one.slurm.leases:
        return Finding(one.name, "leases", True, "bare nodes alone: leases: false")

    if one.slurm.rest is not None and one.slurm.conf is None and not _has_default_conf():
        step = "Write its path as conf: beside rest:; without leases, leases: false (drains need it all the same)."
        text = "leases and drains go through scontrol, which finds no slurm.conf"
        return Finding(one.name, "leases", False, text, step)

    def checked() -> str:
        if are_accounts_checked(client):
            return "bare nodes, and reservations of a tenant's account, if this user is an operator of Slurm"
        return "bare nodes alone: Slurm does not check who uses an account; leases: false keeps the planner from trying"

    return _asked(one, "leases", checked)


def _has_default_conf() -> bool:
    return "SLURM_CONF" in os.environ or Path("/etc/slurm/slurm.conf").exists()


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
