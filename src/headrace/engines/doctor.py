"""What ``headrace doctor`` looks at: the engine on this machine, and each cluster that is declared."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.core.errors import HeadraceError, did_you_mean
from headrace.core.ids import NodeId, TenantId
from headrace.engines import runner
from headrace.engines.connect import ray_client, slurm_client
from headrace.engines.declared import BUILT_IN, EngineModel, RayModel, SlurmModel
from headrace.engines.machine import first_closed, first_unreadable
from headrace.engines.names import MOST_NAMED, misnamed
from headrace.engines.problems import others_may_write
from headrace.engines.ray.client import RayClient, RayNode
from headrace.engines.ray.engine import PREFIX
from headrace.engines.ray.engine import mark_of as ray_mark_of
from headrace.engines.slurm.client import (
    Job,
    SlurmClient,
    SlurmNode,
    configuration,
    hosts_of,
    named,
    require_known,
)
from headrace.engines.slurm.engine import COMMENT
from headrace.engines.slurm.leases import are_accounts_checked, jobs_in, mark_of, parsed

_OLDEST_PYTHON = (3, 8)
_SLURM = ("squeue", "sinfo", "sbatch", "scancel", "scontrol", "sdiag")


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
        program, place = Path(sys.executable), state if state.exists() else state.parent
        what, closed = str(state), first_closed(place)
        if closed is None:
            what, closed = f"{program} ({program.resolve()})", first_unreadable(program)
        if closed is None:
            text = "each has a Unix user of its own; with --no-isolation all of them would run as root"
            yield Finding("local", "tenants", True, text)
        else:
            step = (
                f"Move to a place that all may read, like /opt or /var/lib, or chmod o+rx {closed}, or run as another user than "
                "root (with --no-isolation its tenants run as root too, and read everything)."
            )
            yield Finding(
                "local", "tenants", False, f"their users can't use {what}: {closed} is closed to others", step
            )
    else:
        yield Finding(
            "local", "tenants", True, "not root: one tenant, or all as one user with --no-isolation"
        )
    cpus = len(os.sched_getaffinity(0))
    yield Finding("local", "machine", True, f"{cpus} cores for what runs here")


@dataclass(frozen=True, slots=True)
class Known:
    """What a control plane knows of names: the engine of each node of its estate, and its tenants."""

    engine_of: Mapping[NodeId, str]
    tenants: Collection[TenantId]

    def here(self, engine: str) -> list[NodeId]:
        """The nodes of an engine."""
        return [node for node, one in self.engine_of.items() if one == engine]


def examine(one: EngineModel, known: Known | None = None) -> list[Finding]:
    """What an engine's cluster needs, in the order in which one thing rests on another. ``known``: where a control plane runs."""
    return [
        *_spool(one),
        *_tenants(one),
        *_python(one),
        *_names(one, known),
        *(_ray(one, known) if one.ray is not None else _slurm(one, known)),
    ]


def examine_sites(declared: Sequence[EngineModel], known: Known) -> Iterator[Finding]:
    """Engines that sites of the estate name, and the file does not."""
    names = dict.fromkeys((*BUILT_IN, *(one.name for one in declared)))
    for name in dict.fromkeys(known.engine_of.values()):
        if name not in names:
            text = "a site of the estate has this engine, and the file does not declare it"
            yield Finding(
                name,
                "file",
                False,
                text,
                f"Declare it, or name another at the site: {did_you_mean(name, names)}",
            )


def _names(one: EngineModel, known: Known | None) -> Iterator[Finding]:
    """Names in the file that are nobody's."""
    if known is None:
        return
    here = frozenset(known.here(one.name))
    wrong = list(misnamed(one.named, here, known.engine_of, known.tenants or None))
    for each in wrong:
        yield Finding(one.name, "names", False, each.message.rstrip(";"), _sentence(each.next_step))
    if not wrong:
        yield Finding(
            one.name, "names", True, f"{len(here)} nodes of the estate; no name in the file is nobody's"
        )


def _hosts(
    one: EngineModel, known: Known | None, there: Collection[str], listed_by: str
) -> Iterator[Finding]:
    """Nodes that the cluster does not have under the name that it is asked for them."""
    here = [] if known is None else known.here(one.name)
    wanted = [*one.nodes.values(), *(one.node_names.get(node) or node.rpartition("/")[2] for node in here)]
    missing = [host for host in dict.fromkeys((*wanted, *one.addresses)) if host not in there]
    if missing:
        text = f"its cluster has no node {named(missing)}"
        step = f"Write what `{listed_by}` calls them as nodes: of the engine; {did_you_mean(missing[0], there, MOST_NAMED)}"
        yield Finding(one.name, "names", False, text, step)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


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


def _jobs(one: EngineModel, ours: int, foreign: Sequence[str], trouble: str, step: str) -> Iterator[Finding]:
    """What runs on an engine's nodes: of ours, of others, and what of it is not understood."""
    if trouble:
        what, _, look = trouble.rpartition(": ")
        yield Finding(one.name, "jobs", False, what, f"{_sentence(look)}.")
    if foreign:
        text = f"{len(foreign)} run on its nodes that were not placed from here: {named(foreign)}"
        yield Finding(
            one.name, "jobs", False, text, f"Their nodes count at nameplate and get no work. {step}"
        )
    elif not trouble:
        yield Finding(one.name, "jobs", True, f"{ours} of Headrace, none of others on its nodes")


def _is_of_spool(one: EngineModel, placement: str, mark: str) -> bool:
    """Whether a job's mark is one that this engine's spool made, as the engine itself tells."""
    root = one.spool
    if "/" in placement + mark:
        return False
    info = runner.read_json(str(root / "placements" / placement / "placement.json"))
    return (isinstance(info, dict) and info.get("mark") == mark) or (root / "marks" / mark).exists()


def _asked(one: EngineModel, what: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(one.name, what, True, ask())
    except HeadraceError as error:
        problem = error.problems[0]
        return Finding(one.name, what, False, problem.message, problem.next_step)


def _slurm(one: EngineModel, known: Known | None) -> Iterator[Finding]:
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
        what = "can't be read" if declared.conf.exists() else "is not there"
        yield Finding(one.name, "configuration", False, f"{declared.conf} {what}", step)
        return
    client = slurm_client(one)
    try:
        yield from _slurm_cluster(one, declared, client, known)
    finally:
        client.close()


def _slurm_cluster(
    one: EngineModel, declared: SlurmModel, client: SlurmClient, known: Known | None
) -> Iterator[Finding]:
    def version() -> str:
        found = client.version()
        require_known(found)
        return f"Slurm {found} answers"

    controller = _asked(one, "controller", version)
    yield controller
    if not controller.is_well:
        return
    try:
        nodes = client.nodes()
    except HeadraceError as error:
        yield Finding(one.name, "nodes", False, error.problem.message, error.problem.next_step)
        return
    yield _slurm_nodes(one, nodes, declared.partition)
    hosts = {node.name for node in nodes if declared.partition in ("", node.partition)}
    if hosts:
        yield from _hosts(one, known, hosts, "sinfo --Node")
    yield from _slurm_jobs(one, client, hosts)
    yield _leases(one, client)


def _slurm_jobs(one: EngineModel, client: SlurmClient, hosts: set[str]) -> Iterator[Finding]:
    try:
        jobs = [job for job in client.jobs() if job.is_alive]
        leased = _leased(one, client, jobs)
        ours = [job for job in jobs if _is_ours(one, client, job)]
        others = {job.full_id: job for job in jobs if job.nodes and job.full_id not in leased}
        for job in ours:
            others.pop(job.full_id, None)
        foreign = [
            f"{job.user} (job {job.full_id}) on {job.nodes}"
            for job in others.values()
            if not hosts.isdisjoint(hosts_of(job.nodes))
        ]
    except HeadraceError as error:
        yield Finding(one.name, "jobs", False, error.problem.message, error.problem.next_step)
        return
    step = "Let them end, or `scancel` them; then keep the partition to Headrace's user, or its people to leased clusters."
    yield from _jobs(one, len(ours), foreign, client.trouble, step)


def _is_ours(one: EngineModel, client: SlurmClient, job: Job) -> bool:
    said = COMMENT.fullmatch(job.comment) if job.uid == client.uid else None
    return said is not None and _is_of_spool(one, said[1], said[3])


def _leased(one: EngineModel, client: SlurmClient, jobs: Sequence[Job]) -> Collection[str]:
    """The jobs of leased clusters, which are their tenants' own."""
    if one.slurm is None or not one.slurm.leases:
        return ()
    seen = {each.name: each for each in parsed(client.run("scontrol", "show", "reservation", "--oneliner"))}
    inside = jobs_in(jobs, seen, client.uid)
    return {job.full_id for name, found in inside.items() if mark_of(name) for job in found}


def _slurm_nodes(one: EngineModel, found: Sequence[SlurmNode], partition: str) -> Finding:
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

    if one.slurm.rest is not None and configuration(one.slurm.conf) is None:
        step = "Write its path as conf: beside rest:; without leases, leases: false (drains need it all the same)."
        text = "leases and drains go through scontrol, which finds no slurm.conf"
        return Finding(one.name, "leases", False, text, step)

    def checked() -> str:
        if are_accounts_checked(client):
            return "bare nodes, and reservations of a tenant's account, if this user is an operator of Slurm"
        return "bare nodes alone: Slurm does not check who uses an account; leases: false keeps the planner from trying"

    return _asked(one, "leases", checked)


def _ray(one: EngineModel, known: Known | None) -> Iterator[Finding]:
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
        try:
            yield from _ray_nodes(one, one.ray, client.nodes(), known)
            yield from _ray_jobs(one, client)
        except HeadraceError as error:
            yield Finding(one.name, "cluster", False, error.problem.message, error.problem.next_step)
    client.close()
    yield Finding(one.name, "tenants", True, f"{one.ray.tenant} alone")


def _ray_nodes(
    one: EngineModel, declared: RayModel, found: Sequence[RayNode], known: Known | None
) -> Iterator[Finding]:
    alive = [node for node in found if node.is_alive]
    names = dict.fromkeys(name for node in alive for name in node.resources if ":" not in name)
    resource = declared.resource
    if not alive:
        step = "`ray status` on its head says why; `ray start --address=HEAD:6379` joins a node."
        yield Finding(one.name, "nodes", False, "none is alive", step)
    elif resource and resource not in names:
        step = 'Write what accelerators are called there as resource:, or resource: "" where there are none.'
        yield Finding(
            one.name, "nodes", False, f"none has a resource {resource!r}; they have {', '.join(names)}", step
        )
    else:
        yield Finding(one.name, "nodes", True, f"{len(alive)} nodes are alive")
    yield from _hosts(one, known, {node.name for node in found}, "ray list nodes")


def _ray_jobs(one: EngineModel, client: RayClient) -> Iterator[Finding]:
    jobs = [job for job in client.jobs() if job.is_alive]
    ours = [
        job for job in jobs if _is_of_spool(one, job.metadata.get(f"{PREFIX}placement", ""), ray_mark_of(job))
    ]
    foreign = [job.id or f"driver {job.number}" for job in jobs if job not in ours]
    step = "Let them end, or `ray job stop` them; whoever can reach the cluster can submit there."
    yield from _jobs(one, len(ours), foreign, "", step)
