"""What engines above a cluster's own scheduler have in common: a placement is a job there, which launches the runners.

Nothing here waits for the cluster: what is to be submitted, cancelled and looked at is done by one thread, the agent; calls of
the engine read what it last saw. A job says which placement it is and of which epoch: a control plane that comes back takes
up the jobs of the one before, and submits nothing twice.

The spool (see :mod:`headrace.engines.spool`) lies where all nodes of the cluster see it under the same path.
"""

import contextlib
import fcntl
import os
import threading
import uuid
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from headrace.core.errors import ProblemCode
from headrace.core.ids import Epoch, NodeId, PlacementId
from headrace.engines import runner
from headrace.engines.machine import PortPool
from headrace.engines.names import Named
from headrace.engines.orders import Runtime, environment, why_never
from headrace.engines.problems import IN_CLUSTER, as_engine_error, engine_error
from headrace.engines.ranks import Held, Rank, end_leftovers
from headrace.engines.spool import CANNOT_RUN, SpoolEngine, SpoolSettings
from headrace.ports import (
    FIRST_TENANT_UID,
    Capabilities,
    EngineError,
    EngineNode,
    NodeReport,
    RankState,
    StartOrder,
)

_CHOSEN = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES")
_MARK = attrgetter("mark")
_AT_ONCE, _BATCH, _PACE, _DOUBTFUL_LOOKS = 200, 4, 4, 2
_END_S, _INTERRUPT_S, _GIVE_UP_MS = 1.0, 0.1, 2_000
_NAME = "name"
"""The file of a spool that holds what its drains are known by: others drain nodes of the same cluster, some with Headrace."""


class Refused(EngineError):
    """The cluster will never do it as it was asked."""


class Postponed(EngineError):
    """The cluster can't do this one yet, and others all the same."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a Headrace as the cluster has it: whether it ``waits`` for its nodes, or ``is_alive`` at all; ``said``: its state.

    ``mark`` is the placement's: another Headrace on the same cluster may have placements of the same name.
    """

    id: str
    mark: str
    epoch: Epoch
    is_alive: bool
    waits: bool
    said: str


@dataclass(frozen=True, slots=True)
class AgentSettings(SpoolSettings):
    """How a cluster is used. ``nodes`` maps the estate's nodes to the cluster's (else the last part of a node's name is that).

    ``python`` runs the runner on the nodes, and is what workloads find, with ``runtime_paths``. With ``uids`` each tenant runs as
    its own Unix user. ``addresses``: where ranks reach each other, by the cluster's names of nodes (else those names).
    ``poll_ms``: how often the cluster is looked at, if that takes no longer than a fifth of it; ``abreast``: how many jobs are
    submitted at once; ``patience_ms``: how long a job may stay that has no business any more.
    """

    nodes: Mapping[NodeId, str] = field(default_factory=dict)
    python: str = "/usr/bin/python3"
    runtime_paths: tuple[Path, ...] = ()
    uids: range | None = range(FIRST_TENANT_UID, FIRST_TENANT_UID + 100_000)
    addresses: Mapping[str, str] = field(default_factory=dict)
    ports: range = range(20_000, 30_000)
    poll_ms: int = 1_000
    abreast: int = 4
    patience_ms: int = 15_000


class _Stage(Enum):
    """Where a launch is: to be submitted, being submitted, submitted, or refused for good."""

    QUEUED = auto()
    UNDER_WAY = auto()
    SUBMITTED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class _Launch:
    """One order's job. ``after``: the number of the last look at the cluster before it was submitted.

    For one that is queued again because nobody knows whether it was submitted: the look before which it is not tried again.
    """

    order: StartOrder
    stage: _Stage = _Stage.QUEUED
    job: str = ""
    after: int = 0
    why: str = ""


class AgentEngine(SpoolEngine):
    """Runs placements on a cluster; implements :class:`headrace.ports.Engine`. End it with :meth:`close`."""

    def __init__(self, root: Path, settings: AgentSettings) -> None:
        super().__init__(root, settings, with_users=settings.uids is not None)
        self._settings = settings
        self._pool = PortPool(settings.ports, root)
        self._boot = runner.boot_id()
        self._launches: dict[PlacementId, _Launch] = {}
        self._jobs: dict[str, list[Job]] = {}
        self._listed: Sequence[Job] = ()
        self._alive: frozenset[str] = frozenset()
        self._owned, self._tidied = (-1, self._alive), -1
        self._looks = 0
        self._inventory: tuple[EngineNode, ...] = ()
        self._cordoned: dict[str, str] | None = None
        self._reported: tuple[Sequence[EngineNode], Sequence[NodeId], list[NodeReport]] | None = None
        self._told_ms: dict[str, int] = {}
        self._defect: Exception | None = None
        self._trouble = "it has not been asked yet"
        self._prepare()
        self._ours = f"headrace {self._name()}: "
        (self._root / "marks").mkdir(mode=0o700, exist_ok=True)
        self._marks: dict[str, None] = {path.name: None for path in sorted((self._root / "marks").iterdir())}
        self._runner = self._ship_runner()
        self._due, self._is_over = threading.Event(), threading.Event()
        self._next_look_ms = 0
        self._agent = threading.Thread(target=self._serve, name="engine-agent", daemon=True)
        self._agent.start()

    def close(self) -> None:
        """End the agent; what runs goes on. It takes some seconds at most, whatever the cluster is asked at this moment.

        What is given up then is as if it was never answered: the next start looks what became of it.
        """
        self._is_over.set()
        self._due.set()
        self._agent.join(_END_S)
        give_up_ms = runner.boot_ms() + _GIVE_UP_MS
        while self._agent.is_alive() and runner.boot_ms() < give_up_ms:
            # Again and again: after what was ended it may ask for something else.
            self._interrupt()
            self._agent.join(_INTERRUPT_S)

    @property
    def capabilities(self) -> Capabilities:
        """``uid`` when each tenant has a Unix user of its own. A paused job still holds its accelerators."""
        isolation = "none" if self._settings.uids is None else "uid"
        return Capabilities(isolation, pause=True, ports=True, parts=False)

    @property
    def trouble(self) -> str:
        """What keeps the cluster from being asked now, or an order from being submitted; "" when nothing does."""
        with self._mutex:
            waiting = (one for one in self._launches.values() if one.stage is _Stage.QUEUED and one.why)
            return (
                super().trouble
                or self._trouble
                or next((f"placement {one.order.placement} waits: {one.why}" for one in waiting), "")
            )

    @property
    def named(self) -> Named:
        """What was said of nodes and tenants by name."""
        return Named(self._settings.nodes, {}, tuple(self._settings.addresses))

    def host_of(self, node: NodeId) -> str:
        """What the cluster calls a node of the estate."""
        return self._settings.nodes.get(node) or node.rpartition("/")[2]

    def inventory(self) -> Sequence[EngineNode] | None:
        """The nodes that the cluster has, as they were seen last; None before the first look."""
        with self._mutex:
            return self._inventory if self._looks else None

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        """Health of the nodes of the estate, as they were seen last: one that the cluster does not have is down."""
        with self._mutex:
            if not self._looks:
                return ()
            seen = self._inventory
            if self._reported is None or self._reported[0] is not seen or self._reported[1] is not of:
                there = {one.name: one for one in seen}
                found = [self._report(node, there.get(self.host_of(node))) for node in of]
                self._reported = seen, of, found
            return self._reported[2]

    def _report(self, node: NodeId, seen: EngineNode | None) -> NodeReport:
        if seen is None:
            return NodeReport(
                node, False, f"its cluster has no node {self.host_of(node)}; see `headrace engines`"
            )
        if not seen.is_up:
            return NodeReport(node, False, seen.reason, seen.foreign)
        # What was drained from here is known here as what it is.
        if seen.is_drained and not seen.reason.startswith(self._ours):
            return NodeReport(node, False, f"{IN_CLUSTER}{seen.reason}", seen.foreign)
        return NodeReport(node, True, "", seen.foreign)

    def forget(self, placement: PlacementId) -> None:
        """Drop a placement, but not whose its jobs were: a cluster that lost its newest state may say that they run."""
        with self._mutex:
            held = self._held.get(placement)
            if held is not None:
                self._marks[held.info["mark"]] = None
                with as_engine_error(f"placement {placement} can't be forgotten now"):
                    (self._root / "marks" / held.info["mark"]).touch(mode=0o600)
            super().forget(placement)

    def cordon(self, nodes: Mapping[NodeId, str]) -> None:
        """Let the cluster give no new work to these nodes; what others drained there stays as it is."""
        wanted = {self.host_of(node): f"{self._ours}{reason or 'drained'}" for node, reason in nodes.items()}
        with self._mutex:
            if wanted != self._cordoned:
                self._cordoned = wanted
                self._due.set()

    # --- what a cluster says ----------------------------------------------------------------------------------------

    @abstractmethod
    def _submit_job(self, held: Held, order: StartOrder) -> str:
        """Submit the job that launches a placement's runners; its id. EngineError: not now, Refused: never, Postponed."""

    @abstractmethod
    def _cancel_jobs(self, jobs: Sequence[str]) -> None:
        """End jobs, as far as they are there."""

    @abstractmethod
    def _jobs_now(self) -> Sequence[Job]:
        """All jobs of Headrace that the cluster has, ended ones for as long as it keeps them; the very list when none changed."""

    @abstractmethod
    def _inventory_now(self) -> Sequence[EngineNode]:
        """All nodes that the cluster has. After :meth:`_jobs_now` in the same look; the very tuple when none changed."""

    @abstractmethod
    def _drain(self, nodes: Mapping[str, str]) -> None:
        """Give these nodes of the cluster no new work, each for its reason."""

    @abstractmethod
    def _undrain(self, nodes: Sequence[str]) -> None:
        """Give these nodes of the cluster work again, which this engine drained."""

    def _interrupt(self) -> None:
        """Give up what the cluster is being asked, as far as that can be done."""

    def _keep(self) -> None:
        """Look after what has no runner to do so; after each look."""

    def _is_open(self, _order: StartOrder) -> bool:
        """Whether an order may be submitted now; else it waits here, and holds up no other."""
        return True

    # --- starting -------------------------------------------------------------------------------------------------

    def _ship_runner(self) -> Path:
        """The runner where every node finds it."""
        return self._ship(Path(runner.__file__), "runner.py")

    def _ship(self, source: Path, name: str) -> Path:
        """Copy a program into the spool, for all to read, into a file that nobody else has made or has open."""
        target, temporary = self._root / name, self._root / f"{name}.new"
        with as_engine_error(f"{name} can't be written into the spool"):
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(source.read_bytes())
                os.fchmod(file.fileno(), 0o644)
            temporary.replace(target)
        return target

    def _name(self) -> str:
        """What the drains of this spool's engine are known by in the cluster, for as long as the spool is there."""
        path = str(self._root / _NAME)
        found = runner.read_json(path)
        if not isinstance(found, str):
            found = uuid.uuid4().hex[:8]
            with as_engine_error("the spool can't be named"):
                runner.write_atomic(path, found)
        return found

    def _why_never(self, order: StartOrder) -> str:
        return why_never(order, self._settings.uids)

    def _allot(self, order: StartOrder, info: dict[str, Any]) -> None:
        taken = {port for held in self._live for port in held.all_ports()}

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
        host = self.host_of(NodeId(order.ranks[0].node))
        info["address"] = self._settings.addresses.get(host, host)
        info["ports"] = [
            {name: take(name, fixed) for name, fixed in sorted(order.ports.items())} for _ in order.ranks
        ]
        info["cores"] = [[] for _ in order.ranks]

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
            if not order.lease and not rank.record_path.exists():
                runner.write_atomic(
                    str(rank.directory / runner.SPEC), self._spec(held, rank, order), durable=False
                )
        self._launches[order.placement] = _Launch(order)
        self._due.set()

    # --- observing ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        # The agent looks; one that has ended by a defect would leave an engine that answers and does nothing.
        if self._defect is not None:
            raise self._defect

    def _lives(self, rank: Rank) -> bool:
        record = rank.record
        if record is not None and record["boot_id"] == self._boot:
            return rank.runner_lives(self._boot)
        # On another host: as long as its job runs.
        return self._may_run(rank.info)

    def _may_run(self, info: Mapping[str, Any]) -> bool:
        """Whether a job of a placement is alive, or may come to be."""
        launch, is_alive = self._launches.get(info["placement"]), info["mark"] in self._alive
        if launch is None:
            return not self._looks or is_alive
        if launch.stage is _Stage.REFUSED:
            return False
        return is_alive or launch.stage is not _Stage.SUBMITTED or self._looks <= launch.after

    def _is_starting(self, rank: Rank) -> bool:
        if self._may_run(rank.info):
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
        said = [job.said for job in self._jobs.get(rank.info["mark"], ()) if job.id == launch.job]
        state = said[-1] if said else "not known any more"
        rank.close(RankState.LOST, None, detail=f"job {launch.job} is {state}, and its runner never began")
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
                if runner.boot_ms() >= self._next_look_ms:
                    self._list()
                    self._look_after()
                    self._trouble = ""
                # What comes between two looks goes at once, but not to a cluster that just failed.
                if not self._trouble:
                    self._submit()
            except EngineError as error:
                self._trouble = error.problem.line()
            except Exception as error:  # noqa: BLE001 - whoever asks the engine next is told
                self._defect = error
                return
            self._due.wait(max(0, self._next_look_ms - runner.boot_ms()) / 1000)
            self._due.clear()

    def _look_after(self) -> None:
        """Do what nobody has to order, as long as the spool is this control plane's."""
        with as_engine_error("the epoch can't be read now"), self._current_epoch():
            is_fenced = self._epoch is not None
        # Another's is refused at the fence: until then it is looked at and nothing else.
        if is_fenced or self._owner() is None:
            self._keep()
            self._tidy()
            self._drain_as_wanted()

    def _list(self) -> None:
        """Look at all jobs and nodes."""
        began_ms = runner.boot_ms()
        self._next_look_ms = began_ms + self._settings.poll_ms
        jobs, nodes = self._jobs_now(), tuple(self._inventory_now())
        with self._mutex:
            if jobs is not self._listed:
                self._listed, self._stirs = jobs, self._stirs + 1
                self._jobs = {mark: list(of) for mark, of in groupby(sorted(jobs, key=_MARK), _MARK)}
                self._alive = frozenset(job.mark for job in jobs if job.is_alive)
            self._inventory = nodes
            self._looks += 1
        now_ms = runner.boot_ms()
        # A cluster that is slow to answer is asked less often.
        self._next_look_ms = now_ms + max(self._settings.poll_ms, _PACE * (now_ms - began_ms))

    def _submit(self) -> None:
        """Submit what waits for it, but what an earlier control plane has submitted."""
        with self._mutex:
            waiting = (one for one in self._launches.values() if one.stage is _Stage.QUEUED)
            queued = list(islice((one for one in waiting if one.after <= self._looks), _AT_ONCE))
        step = _BATCH * self._settings.abreast
        for begin in range(0, len(queued), step):
            if self._is_over.is_set():
                return
            self._submit_batch(queued[begin : begin + step])

    def _submit_batch(self, launches: Sequence[_Launch]) -> None:
        with self._mutex:
            claimed = [(held, one) for one in launches if (held := self._claim(one)) is not None]
        todo, errors, failed = deque(claimed), list[Exception](), threading.Event()
        # Threads of a pool would be waited for when the process ends, however long the cluster takes to answer.
        submitters = [
            threading.Thread(
                target=self._submit_each, args=(todo, errors, failed), name="engine-submit", daemon=True
            )
            for _ in range(min(self._settings.abreast, len(claimed)))
        ]
        for one in submitters:
            one.start()
        for one in submitters:
            one.join()
        if errors:
            raise errors[0]

    def _submit_each(
        self, todo: deque[tuple[Held, _Launch]], errors: list[Exception], failed: threading.Event
    ) -> None:
        """Submit what is left to do, until nothing is; a defect is the agent's to tell."""
        while not self._is_over.is_set():
            try:
                held, launch = todo.popleft()
            except IndexError:
                return
            try:
                error = self._submit_one(held, launch, failed)
            except Exception as defect:  # noqa: BLE001 - raised again by the agent's thread
                errors.insert(0, defect)
                return
            if error is not None:
                errors.append(error)

    def _submit_one(self, held: Held, launch: _Launch, failed: threading.Event) -> EngineError | None:
        """Submit one job; what keeps the cluster from taking jobs now. Nothing more is sent once anything ``failed``."""
        if failed.is_set():
            with self._mutex:
                launch.stage = _Stage.QUEUED
            return None
        try:
            job = self._submit_job(held, launch.order)
        except Refused as error:
            with self._mutex:
                launch.stage, launch.why = _Stage.REFUSED, error.problem.line()
        except Postponed as error:
            with self._mutex:
                launch.stage, launch.why, launch.after = _Stage.QUEUED, error.problem.line(), self._looks + 1
        except EngineError as error:
            failed.set()
            with self._mutex:
                # It may have arrived all the same: what became of it shows in the next looks, though not at once.
                launch.stage, launch.after = _Stage.QUEUED, self._looks + _DOUBTFUL_LOOKS
            return error
        else:
            with self._mutex:
                launch.stage, launch.job, launch.after = _Stage.SUBMITTED, job, self._looks
                launch.why, self._stirs = "", self._stirs + 1
        return None

    def _claim(self, launch: _Launch) -> Held | None:
        """The placement to submit for a launch; None when there is one, when it is over, or when nobody wants it any more."""
        order = launch.order
        held = self._held.get(order.placement)
        if held is None or self._launches.get(order.placement) is not launch:
            return None
        jobs = self._jobs.get(held.info["mark"], ())
        before = [job.id for job in jobs if job.is_alive and job.epoch == order.epoch]
        if before or all(rank.final for rank in held.ranks):
            job, self._stirs = before[0] if before else "", self._stirs + 1
            launch.stage, launch.job, launch.after = _Stage.SUBMITTED, job, self._looks - 1
            return None
        with (
            as_engine_error("the epoch can't be read now"),
            runner.epoch_lock(str(self._root), fcntl.LOCK_SH) as fenced,
        ):
            if order.epoch < fenced:
                return None
        if not self._is_open(order):
            return None
        launch.stage = _Stage.UNDER_WAY
        return held

    def _tidy(self) -> None:
        """Cancel jobs that have no business any more: their ranks have ended, or their epoch is over and they never began."""
        now_ms = runner.boot_ms()
        cancel: list[str] = []
        with self._mutex:
            if self._stirs == self._tidied and not self._told_ms:
                return
            self._tidied = self._stirs
            alive: dict[str, int] = {}
            known = {held.info["mark"]: held for held in self._held.values()}
            self._marks |= dict.fromkeys(known)
            for mark in self._marks:
                held = known.get(mark)
                launch = None if held is None else self._launches.get(held.info["placement"])
                for job in self._jobs.get(mark, ()):
                    if not job.is_alive or self._belongs(job, held, launch):
                        continue
                    alive[job.id] = self._told_ms.get(job.id, now_ms)
                    if job.waits or now_ms - alive[job.id] >= self._settings.patience_ms:
                        cancel.append(job.id)
            # A mark is forgotten with its last job: only then can none of its jobs be left.
            for mark in [one for one in self._marks if one not in known and one not in self._jobs]:
                del self._marks[mark]
                self._stirs += 1
                with contextlib.suppress(OSError):
                    (self._root / "marks" / mark).unlink()
            self._told_ms = alive
            for placement in [one for one in self._launches if one not in self._held]:
                del self._launches[placement]
        if cancel:
            self._cancel_jobs(cancel)

    def _own_marks(self) -> frozenset[str]:
        """Marks of the placements that this spool made, as long as jobs of them may be left: no other's jobs are ours."""
        with self._mutex:
            if self._owned[0] != self._stirs:
                held = (one.info["mark"] for one in self._held.values())
                self._owned = self._stirs, frozenset(self._marks).union(held)
            return self._owned[1]

    def _drain_as_wanted(self) -> None:
        with self._mutex:
            if self._cordoned is None:
                # Not told yet: what an earlier control plane drained stays so, or work of others would begin there.
                return
            wanted, seen = dict(self._cordoned), {one.name: one for one in self._inventory}
        drain = {name: why for name, why in wanted.items() if name in seen and not seen[name].is_drained}
        ours = [one.name for one in seen.values() if one.is_drained and one.reason.startswith(self._ours)]
        undrain = [name for name in ours if name not in wanted]
        if drain:
            self._drain(drain)
        if undrain:
            self._undrain(undrain)

    def _belongs(self, job: Job, held: Held | None, launch: _Launch | None) -> bool:
        if held is None or all(rank.final for rank in held.ranks):
            return False
        if launch is not None and launch.job and job.id != launch.job:
            return any(rank.record is not None for rank in held.ranks)
        return True
