"""The Slurm engine: a placement is one job, pinned to its nodes; each rank is a task of it, under the runner.

The spool (see :mod:`headrace.engines.spool`) lies where all nodes of the site see it under the same path. Jobs are those of the
user who runs the control plane (root, so that the runner can give a rank to its tenant's Unix user), and are charged to the
tenant's account.

Nothing here waits for Slurm: what is to be submitted, cancelled and looked at is done by one thread, the agent; calls of the
engine read what it last saw. A job's comment names its placement, epoch and mark: a control plane that comes back takes up
the jobs of the one before, and submits nothing twice.
"""

import fcntl
import re
import shlex
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

from headrace.core.errors import ProblemCode
from headrace.core.ids import Epoch, NodeId, PlacementId, TenantId
from headrace.engines import runner
from headrace.engines.machine import PortPool
from headrace.engines.orders import Runtime, environment, why_never
from headrace.engines.problems import engine_error
from headrace.engines.ranks import Held, Rank, end_leftovers
from headrace.engines.slurm.client import Job, Refused, SlurmClient, Submission
from headrace.engines.spool import CANNOT_RUN, SpoolEngine, SpoolSettings
from headrace.ports import (
    FIRST_TENANT_UID,
    Capabilities,
    EngineError,
    NodeReport,
    RankState,
    StartOrder,
)

_COMMENT = re.compile(r"headrace placement=(\S+) epoch=([0-9]+) mark=([0-9a-f]+)")
_CHOSEN = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES")
_AT_ONCE = 200
_UNUSABLE = frozenset(
    {"down", "fail", "failing", "error", "unknown", "powered_down", "power_down", "powering_down"}
)


@dataclass(frozen=True, slots=True)
class SlurmSettings(SpoolSettings):
    """Where and as whom jobs run. ``nodes`` maps the estate's nodes to Slurm's (else the last part of a node's name is Slurm's).

    ``accounts`` maps tenants to accounts (else a tenant's account has its name); ``gres`` is what its accelerators are called,
    like ``gpu`` ("": none are asked for). ``python`` runs the runner on the nodes, and is what workloads find, with
    ``runtime_paths``. With ``uids`` each tenant runs as its own Unix user. ``addresses``: where ranks reach each other, by
    Slurm's names of nodes (else those names). ``poll_ms``: how often Slurm is looked at; ``patience_ms``: how long a job may
    stay that has no business any more.
    """

    partition: str = ""
    nodes: Mapping[NodeId, str] = field(default_factory=dict)
    accounts: Mapping[TenantId, str] = field(default_factory=dict)
    gres: str = "gpu"
    python: str = "/usr/bin/python3"
    runtime_paths: tuple[Path, ...] = ()
    uids: range | None = range(FIRST_TENANT_UID, FIRST_TENANT_UID + 100_000)
    addresses: Mapping[str, str] = field(default_factory=dict)
    ports: range = range(20_000, 30_000)
    poll_ms: int = 1_000
    patience_ms: int = 15_000


class _Stage(Enum):
    """Where a launch is: to be submitted, being submitted, submitted, or refused for good."""

    QUEUED = auto()
    UNDER_WAY = auto()
    SUBMITTED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class _Launch:
    """One order's job. ``after``: the number of the last look at Slurm before it was submitted."""

    order: StartOrder
    stage: _Stage = _Stage.QUEUED
    job: int = 0
    after: int = 0
    why: str = ""


class SlurmEngine(SpoolEngine):
    """Runs placements on a Slurm cluster; implements :class:`headrace.ports.Engine`. End it with :meth:`close`."""

    def __init__(self, root: Path, client: SlurmClient, settings: SlurmSettings = SlurmSettings()) -> None:
        super().__init__(root, settings, with_users=settings.uids is not None)
        self._settings, self._client = settings, client
        self._pool = PortPool(settings.ports)
        self._boot = runner.boot_id()
        self._launches: dict[PlacementId, _Launch] = {}
        self._jobs: dict[PlacementId, list[Job]] = {}
        self._looks = 0
        self._nodes: tuple[NodeReport, ...] = ()
        self._told_ms: dict[int, int] = {}
        self.trouble = ""
        """What keeps Slurm from being asked now; "" when nothing does."""
        self._prepare()
        self._runner = self._ship_runner()
        self._due, self._is_over = threading.Event(), threading.Event()
        self._agent = threading.Thread(target=self._serve, name="slurm-agent", daemon=True)
        self._agent.start()

    def close(self) -> None:
        """End the agent; what runs goes on."""
        self._is_over.set()
        self._due.set()
        self._agent.join()

    @property
    def capabilities(self) -> Capabilities:
        """``uid`` when each tenant has a Unix user of its own. A paused job still holds its accelerators."""
        return Capabilities(
            isolation="none" if self._settings.uids is None else "uid", pause=True, ports=True
        )

    def nodes(self) -> Sequence[NodeReport]:
        """The nodes that Slurm knows of those that the estate has, as it saw them last."""
        with self._mutex:
            return self._nodes

    def host_of(self, node: NodeId) -> str:
        """What Slurm calls a node of the estate."""
        return self._settings.nodes.get(node) or node.rpartition("/")[2]

    # --- starting -------------------------------------------------------------------------------------------------

    def _ship_runner(self) -> Path:
        """The runner where every node finds it."""
        source = Path(runner.__file__)
        target = self._root / "runner.py"
        temporary = self._root / "runner.py.new"
        shutil.copyfile(source, temporary)
        temporary.chmod(0o644)
        temporary.replace(target)
        return target

    def _why_never(self, order: StartOrder) -> str:
        if any(place.share_milli < 1_000 for place in order.ranks):
            return "Slurm gives whole accelerators alone; ask for gpu: MODEL:1"
        return why_never(order, self._settings.uids)

    def _allot(self, order: StartOrder, info: dict[str, Any]) -> None:
        taken = {port for held in self._held.values() if not held.final for port in held.all_ports()}

        def take(name: str, fixed: int) -> int:
            port = fixed or self._pool.take(taken)
            if port is None:
                raise engine_error(
                    ProblemCode.ENGINE_UNAVAILABLE, "no port is free;", "widen the engine's port range."
                )
            if fixed and fixed in taken:
                raise engine_error(
                    ProblemCode.CONFLICT, f"port {port} ({name}) is in use;", f"write `{name}: auto`."
                )
            taken.add(port)
            return port

        info["master_port"] = take("MASTER_PORT", 0)
        info["address"] = self._address(self.host_of(NodeId(order.ranks[0].node)))
        info["ports"] = [
            {name: take(name, fixed) for name, fixed in sorted(order.ports.items())} for _ in order.ranks
        ]
        info["cores"] = [[] for _ in order.ranks]

    def _address(self, host: str) -> str:
        return self._settings.addresses.get(host, host)

    def _environment(self, held: Held, rank: Rank, order: StartOrder, work: Path) -> dict[str, str]:
        runtime = Runtime(self._settings.python, self._settings.runtime_paths, ())
        return environment(order, rank.number, held.info, work, runtime)

    def _spec(self, held: Held, rank: Rank, order: StartOrder) -> dict[str, Any]:
        return super()._spec(held, rank, order) | {"inherit": list(_CHOSEN)}

    def _renew(self, held: Held) -> None:
        self._launches.pop(PlacementId(held.info["placement"]), None)

    def _launch(self, held: Held, order: StartOrder) -> None:
        if order.placement in self._launches or all(rank.record_path.exists() for rank in held.ranks):
            return
        for rank in held.ranks:
            if not rank.record_path.exists():
                runner.write_atomic(
                    str(rank.directory / runner.SPEC), self._spec(held, rank, order), durable=False
                )
        self._launches[order.placement] = _Launch(order)
        self._due.set()

    def _submission(self, held: Held, order: StartOrder) -> Submission:
        hosts = [self.host_of(NodeId(place.node)) for place in order.ranks]
        first, settings = order.ranks[0], self._settings
        # Tasks come in Slurm's order of nodes: which rank one is, its node's name says.
        chosen = "\n".join(f"{shlex.quote(host)}) rank={rank} ;;" for rank, host in enumerate(hosts))
        directory = shlex.quote(str(held.directory))
        task = (
            f'case "$SLURMD_NODENAME" in\n{chosen}\n*) echo "no rank for $SLURMD_NODENAME" >&2; exit 1 ;;\nesac\n'
            f"exec >>{directory}/$rank/runner.log 2>&1\n"
            f"exec {shlex.quote(settings.python)} -I -S {shlex.quote(str(self._runner))} {directory}/$rank/{runner.SPEC}"
        )
        launch = (
            "srun --quiet --kill-on-bad-exit=0 --wait=0 --mpi=none --cpu-bind=none --input=none --output=none"
        )
        whole = all(
            place.accelerators == most
            for place, most in zip(order.ranks, order.node_accelerators, strict=True)
        )
        return Submission(
            name=f"hr.{order.placement}.e{order.epoch}",
            comment=f"headrace placement={order.placement} epoch={order.epoch} mark={held.info['mark']}",
            nodes=tuple(hosts),
            script=f"#!/bin/sh\nexec {launch} /bin/sh -c {shlex.quote(task)}\n",
            partition=settings.partition,
            account=settings.accounts.get(order.tenant, order.tenant),
            gres=f"{settings.gres}:{first.accelerators}" if settings.gres and first.accelerators else "",
            cpus=max(1, -(-first.cpu_milli // 1_000)),
            memory_mb=first.memory_mb,
            exclusive=whole and first.accelerators > 0,
        )

    # --- observing ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """The agent looks."""

    def _lives(self, rank: Rank) -> bool:
        record = rank.record
        if record is not None and record["boot_id"] == self._boot:
            return rank.runner_lives(self._boot)
        # On another host: as long as its job runs.
        return self._may_run(rank.info["placement"])

    def _may_run(self, placement: PlacementId) -> bool:
        """Whether a job of a placement is alive, or may come to be."""
        launch = self._launches.get(placement)
        if launch is None:
            return not self._looks or any(job.is_alive for job in self._jobs.get(placement, ()))
        if launch.stage is _Stage.REFUSED:
            return False
        if launch.stage is not _Stage.SUBMITTED or self._looks <= launch.after:
            return True
        return any(job.is_alive for job in self._jobs.get(placement, ()))

    def _is_starting(self, rank: Rank) -> bool:
        if self._may_run(rank.info["placement"]):
            return True
        # It may have recorded and ended between being read and being looked at.
        rank.read()
        return rank.record is not None

    def _close_unstarted(self, rank: Rank) -> bool:
        launch = self._launches.get(rank.info["placement"])
        if launch is None:
            return False
        if launch.stage is _Stage.REFUSED:
            rank.close(RankState.EXITED, CANNOT_RUN, reason="start_failed", detail=launch.why)
            return True
        jobs = self._jobs.get(rank.info["placement"], [])
        said = f"{jobs[-1].state} ({jobs[-1].reason})" if jobs else "and is not known any more"
        rank.close(
            RankState.LOST, None, detail=f"Slurm job {launch.job} ended {said} before its runner began"
        )
        return True

    def _wake(self, rank: Rank, number: int) -> None:
        rank.signal_runner(number, self._boot)

    def _end_leftovers(self, ranks: Sequence[Rank]) -> list[Rank]:
        # On other hosts the job that ended took all of its processes with it.
        here = [rank for rank in ranks if rank.record and rank.record["boot_id"] == self._boot]
        return end_leftovers(here) if here else []

    # --- the agent ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._is_over.is_set():
            try:
                self._list()
                self._submit()
                self._tidy()
                self.trouble = ""
            except EngineError as error:
                self.trouble = error.problem.line()
            self._due.wait(self._settings.poll_ms / 1000)
            self._due.clear()

    def _list(self) -> None:
        """Look at all jobs and nodes."""
        found: dict[PlacementId, list[Job]] = {}
        for job in self._client.jobs():
            ours = _COMMENT.search(job.comment)
            if ours is not None:
                found.setdefault(PlacementId(ours[1]), []).append(job)
        nodes = self._client.nodes()
        with self._mutex:
            self._jobs = found
            self._looks += 1
            names = {self.host_of(NodeId(node)): NodeId(node) for node in self._settings.nodes}
            seen: dict[NodeId, NodeReport] = {}
            for one in nodes:
                if one.name in names:
                    is_up = not one.is_silent and one.state not in _UNUSABLE
                    why = "" if is_up else one.reason or f"Slurm says {one.state}"
                    seen[names[one.name]] = NodeReport(names[one.name], is_up, why)
            self._nodes = tuple(seen.values())

    def _submit(self) -> None:
        """Submit what waits for it, but what an earlier control plane has submitted."""
        with self._mutex:
            queued = [launch for launch in self._launches.values() if launch.stage is _Stage.QUEUED][
                :_AT_ONCE
            ]
        for launch in queued:
            if self._is_over.is_set():
                return
            with self._mutex:
                submission = self._claim(launch)
            if submission is None:
                continue
            try:
                job = self._client.submit(submission)
            except Refused as error:
                with self._mutex:
                    launch.stage, launch.why = _Stage.REFUSED, error.problem.line()
            except EngineError:
                with self._mutex:
                    launch.stage = _Stage.QUEUED
                raise
            else:
                with self._mutex:
                    launch.stage, launch.job, launch.after = _Stage.SUBMITTED, job, self._looks

    def _claim(self, launch: _Launch) -> Submission | None:
        """The job to submit for a launch; None when there is one, when it is over, or when nobody wants it any more."""
        order = launch.order
        held = self._held.get(order.placement)
        if held is None or self._launches.get(order.placement) is not launch:
            return None
        before = [
            job for job in self._jobs.get(order.placement, ()) if job.is_alive and _epoch(job) == order.epoch
        ]
        if before or all(rank.final for rank in held.ranks):
            launch.stage, launch.job, launch.after = (
                _Stage.SUBMITTED,
                before[0].id if before else 0,
                self._looks - 1,
            )
            return None
        with runner.epoch_lock(str(self._root), fcntl.LOCK_SH) as fenced:
            if order.epoch < fenced:
                return None
        launch.stage = _Stage.UNDER_WAY
        return self._submission(held, order)

    def _tidy(self) -> None:
        """Cancel jobs that have no business any more: their ranks have ended, or their epoch is over and they never began."""
        now_ms = runner.boot_ms()
        cancel: list[int] = []
        with self._mutex:
            alive: dict[int, int] = {}
            for placement, jobs in self._jobs.items():
                held = self._held.get(placement)
                launch = self._launches.get(placement)
                for job in jobs:
                    if not job.is_alive or self._belongs(job, held, launch):
                        continue
                    alive[job.id] = self._told_ms.get(job.id, now_ms)
                    waits = job.state in ("PENDING", "CONFIGURING")
                    if waits or now_ms - alive[job.id] >= self._settings.patience_ms:
                        cancel.append(job.id)
            self._told_ms = alive
            for placement in [one for one in self._launches if one not in self._held]:
                del self._launches[placement]
        self._client.cancel(cancel)

    def _belongs(self, job: Job, held: Held | None, launch: _Launch | None) -> bool:
        if held is None or all(rank.final for rank in held.ranks):
            return False
        if launch is not None and launch.job and job.id != launch.job:
            return any(rank.record is not None for rank in held.ranks)
        return True


def _epoch(job: Job) -> Epoch:
    found = _COMMENT.search(job.comment)
    return Epoch(int(found[2]) if found else 0)
