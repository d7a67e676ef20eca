"""The local engine: real processes on this machine, each rank under a runner that outlives the control plane.

Below its root: ``epoch``, the lowest epoch whose orders count; ``placements/ID/placement.json``, which makes an
accepted order durable, with a directory for each rank (see :mod:`headrace.engines.runner`); ``work/``, the ranks'
working directories; ``logs/``, which outlive the placement's record; ``records/``, if those are kept. Whatever a crash
cuts short is completed when the order is repeated, or undone by the next :meth:`LocalEngine.fence`.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.core.errors import ProblemCode
from headrace.core.ids import Epoch, PlacementId
from headrace.core.workload import WHOLE_MILLI
from headrace.engines import runner
from headrace.engines.logs import read_log
from headrace.engines.machine import (
    PortPool,
    first_closed,
    first_unreadable,
    port_is_free,
    real_accelerators,
    share_cores,
)
from headrace.engines.orders import Runtime, environment, why_never
from headrace.engines.problems import as_engine_error, engine_error, refuse_closed, refuse_superseded
from headrace.engines.ranks import Held, Rank, end_leftovers, report_of
from headrace.ports import (
    FIRST_TENANT_UID,
    Capabilities,
    LogChunk,
    NodeReport,
    PlacementReport,
    RankState,
    StartOrder,
)

MOST_LOG_BYTES = 4 << 20
"""A single read of a log never returns more."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_CANNOT_RUN = 126
_LOCK_FD = 3
_LOCK_TRIES = 250
_LOCK_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What is seldom changed. ``None`` finds out: whether this is root, and which processors there are to share.

    ``runner_python`` runs the runners; ``devices`` is where accelerators are looked for; a log is kept in
    ``log_segments`` pieces of ``log_segment_bytes``, the oldest of which goes first. With ``keep_records`` the runners' records
    of forgotten placements stay in ``records/PLACEMENT.RANK.json``: for who wants to bill from them without the journal.
    """

    privileged: bool | None = None
    runner_python: str = sys.executable
    ports: range = range(20_000, 30_000)
    cores: tuple[int, ...] | None = None
    devices: Path = Path("/dev")
    log_segment_bytes: int = 8 << 20
    log_segments: int = 8
    heartbeat_ms: int = 5_000
    keep_records: bool = False


class LocalEngine:
    """Runs placements on this machine; implements :class:`headrace.ports.Engine`.

    ``python`` is what a workload finds as ``python``: its directory comes first in ``PATH``, and ``runtime_paths`` in
    ``PYTHONPATH``. As root, each tenant runs under its own numeric user of ``uid_range``. Otherwise, or with
    ``isolate=False``, everything runs as this process's user; one tenant alone is served then, unless ``isolate`` is
    false.

    Raises EngineError when the tenants' users could not read what they need.
    """

    def __init__(
        self,
        root: Path,
        python: str,
        runtime_paths: Sequence[Path] = (),
        uid_range: range = range(FIRST_TENANT_UID, FIRST_TENANT_UID + 100_000),
        *,
        isolate: bool = True,
        settings: LocalSettings = LocalSettings(),
    ) -> None:
        self._root = root.absolute()
        self._python = python
        self._runtime_paths = tuple(path.absolute() for path in runtime_paths)
        self._settings = settings
        privileged = os.geteuid() == 0 if settings.privileged is None else settings.privileged
        self._uids = uid_range if isolate and privileged else None
        self._one_tenant = isolate and self._uids is None
        self._pool = PortPool(settings.ports)
        self._cores = sorted(os.sched_getaffinity(0) if settings.cores is None else settings.cores)
        self._gpus = real_accelerators(settings.devices)
        self._boot = runner.boot_id()
        self._epoch: Epoch | None = None
        self._held: dict[str, Held] = {}
        self._spawned: dict[int, Rank] = {}
        self._mutex = threading.RLock()
        self._prepare()

    @property
    def capabilities(self) -> Capabilities:
        """``uid`` when each tenant has a Unix user of its own, else ``none``."""
        return Capabilities(isolation="none" if self._uids is None else "uid", pause=True, ports=True)

    def fence(self, epoch: Epoch) -> None:
        """Refuse orders below ``epoch`` from now on, then find what earlier control planes left and undo half an order.

        Raises EngineError when a later control plane has fenced already.
        """
        with self._mutex, runner.epoch_lock(str(self._root), fcntl.LOCK_EX) as fenced:
            refuse_superseded(epoch, fenced)
            if epoch > fenced:
                with as_engine_error("can't write the epoch"):
                    runner.write_atomic(str(self._root / "epoch"), int(epoch))
            self._epoch = epoch
            # Nobody else starts anything while the lock is held: what is half made now stays half made.
            self._load(undo=True)
            for held in self._held.values():
                for rank in held.ranks:
                    self._drop_unread_order(rank)

    def start(self, order: StartOrder) -> None:
        """Start every rank, or nothing. What can never run here ends at once with ``start_failed`` and the reason."""
        if not _SAFE_NAME.fullmatch(order.placement):
            raise engine_error(
                ProblemCode.BAD_INPUT,
                f"{order.placement!r} can't name a placement;",
                "use an id from the journal.",
            )
        with self._mutex, runner.epoch_lock(str(self._root), fcntl.LOCK_SH) as fenced:
            refuse_superseded(order.epoch, fenced)
            if (self._root / "logs" / order.placement / "ended").exists():
                raise engine_error(
                    ProblemCode.CONFLICT, f"placement {order.placement} has ended;", "make a new one."
                )
            held = self._held.get(order.placement)
            with as_engine_error(f"placement {order.placement} can't be started now"):
                if held is None:
                    held = self._accept(order)
                elif held.epoch < order.epoch:
                    self._save(held, epoch=int(order.epoch))
                    for rank in held.ranks:
                        rank.spawned_pid = 0
                if not held.info["failed"]:
                    for rank in held.ranks:
                        self._launch(held, rank, order)

    def stop(self, placement: PlacementId, grace_ms: int) -> None:
        """SIGTERM to each rank's process group, SIGKILL to all that is left after ``grace_ms``."""
        until_ms = runner.boot_ms() + max(0, grace_ms)

        def change(control: dict[str, Any]) -> dict[str, Any]:
            # The earlier deadline stands, whether the runner has read it yet or not.
            before_ms = control["stop_until_ms"]
            return control | {"stop_until_ms": until_ms if before_ms is None else min(before_ms, until_ms)}

        self._control(placement, change, ends=True)

    def pause(self, placement: PlacementId) -> None:
        """Stop every process of every rank (SIGSTOP)."""
        self._control(placement, lambda control: control | {"paused": True})

    def resume(self, placement: PlacementId) -> None:
        """Let the processes go on (SIGCONT)."""
        self._control(placement, lambda control: control | {"paused": False})

    def observe(self) -> Sequence[PlacementReport]:
        """Reports of all placements, from their records: durations are those that are safely on disk."""
        with self._mutex, as_engine_error("the placements can't be looked at now"), self._current_epoch():
            self._reap()
            for held in self._held.values():
                if not held.final:
                    self._refresh(held)
            return [held.report for held in self._held.values() if held.report is not None]

    def forget(self, placement: PlacementId) -> None:
        """Drop the record and the working directories of an ended placement; EngineError while it runs."""
        with self._mutex, self._current_epoch():
            held = self._held.get(placement)
            if held is None:
                return
            self._refresh(held)
            if held.report is not None and not held.final:
                raise engine_error(
                    ProblemCode.IN_USE, f"placement {placement} still runs;", "stop it and wait for its end."
                )
            with as_engine_error(f"placement {placement} can't be forgotten now"):
                logs = self._root / "logs" / placement
                logs.mkdir(mode=0o700, exist_ok=True)
                (logs / "ended").touch(mode=0o600)
                if self._settings.keep_records:
                    self._keep_records(held)
                trash = self._root / "trash" / uuid.uuid4().hex
                held.directory.rename(trash)
                del self._held[placement]
                shutil.rmtree(trash, ignore_errors=True)
                shutil.rmtree(self._work_dir(held.info), ignore_errors=True)

    def _keep_records(self, held: Held) -> None:
        """Give each rank's record a second name that stays; a crash half way does it again."""
        records = self._root / "records"
        records.mkdir(mode=0o700, exist_ok=True)
        for rank in held.ranks:
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(rank.record_path, records / f"{held.info['placement']}.{rank.number}.json")

    def nodes(self) -> Sequence[NodeReport]:
        """Nothing: this machine is up, or nobody could ask."""
        return ()

    def logs(self, placement: PlacementId, rank: int, stream: str, offset: int, limit: int) -> LogChunk:
        """At most ``limit`` bytes (and 4 MiB) of a rank's log; empty and ended when it is unknown or erased."""
        if stream not in runner.STREAMS:
            raise engine_error(
                ProblemCode.BAD_INPUT, f"no stream {stream!r};", f"use {' or '.join(runner.STREAMS)}."
            )
        if not _SAFE_NAME.fullmatch(placement):
            return LogChunk(b"", offset, offset, True)
        with self._mutex:
            held = self._held.get(placement)
            if held is not None and 0 <= rank < len(held.ranks):
                held.ranks[rank].read()
            known = held is not None and 0 <= rank < len(held.ranks) and not held.info["failed"]
            ended = not known or (held is not None and held.ranks[rank].final)
        directory = self._root / "logs" / placement / str(rank)
        return read_log(directory, stream, offset, min(limit, MOST_LOG_BYTES), ended)

    def erase_logs(self, placement: PlacementId) -> None:
        """Delete a placement's logs; what a running rank writes from now on begins a new piece."""
        if _SAFE_NAME.fullmatch(placement):
            with self._mutex:
                shutil.rmtree(self._root / "logs" / placement, ignore_errors=True)

    # --- preparing and loading ------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        # Tenants' users pass through to their own directories and can list nothing.
        self._root.chmod(0o711 if self._uids is not None else 0o700)
        for name, mode in (("placements", 0o700), ("logs", 0o700), ("trash", 0o700), ("work", 0o711)):
            (self._root / name).mkdir(mode=mode, exist_ok=True)
        (self._root / "work").chmod(0o711)
        for left in (self._root / "trash").iterdir():
            shutil.rmtree(left, ignore_errors=True)
        if self._uids is not None:
            work = self._root / "work"
            refuse_closed(work, first_closed(work.resolve()))
            for path in (Path(self._python), *self._runtime_paths):
                refuse_closed(path, first_unreadable(path))
        with self._mutex:
            self._load(undo=False)

    def _load(self, *, undo: bool) -> None:
        """Find the placements on disk that are not held yet; ``undo`` removes what never became a durable order."""
        for directory in sorted((self._root / "placements").iterdir()):
            if directory.name in self._held:
                continue
            info = runner.read_json(str(directory / "placement.json"))
            if info is not None:
                self._held[directory.name] = Held(directory, info)
            elif undo:
                shutil.rmtree(directory, ignore_errors=True)

    def _drop_unread_order(self, rank: Rank) -> None:
        """An order that no runner took holds secrets and will not be carried out: the epoch is over."""
        if (rank.directory / runner.SPEC).exists():
            lock = runner.try_lock(str(rank.directory))
            if lock is not None:
                (rank.directory / runner.SPEC).unlink(missing_ok=True)
                os.close(lock)

    # --- starting -------------------------------------------------------------------------------------------------

    def _accept(self, order: StartOrder) -> Held:
        """Allot what the placement needs and make the order durable; from here on it is completed, never doubled."""
        info: dict[str, Any] = {
            "version": 1,
            "placement": order.placement,
            "workload": order.workload,
            "tenant": order.tenant,
            "uid": order.tenant_uid if self._uids is not None else None,
            "epoch": int(order.epoch),
            "ranks": len(order.ranks),
            "mark": uuid.uuid4().hex,
            "master_port": 0,
            "ports": [],
            "cores": [],
            "failed": why_never(order, self._uids) or self._other_tenant(order),
        }
        if not info["failed"]:
            self._allot(order, info)
        directory = self._root / "placements" / order.placement
        directory.mkdir(mode=0o700, exist_ok=True)
        for rank in range(len(order.ranks)):
            (directory / str(rank)).mkdir(mode=0o700, exist_ok=True)
        held = Held(directory, info)
        if not info["failed"]:
            self._make_work_dirs(held)
        self._save(held)
        self._held[order.placement] = held
        return held

    def _save(self, held: Held, **changes: int) -> None:
        runner.write_atomic(str(held.directory / "placement.json"), held.info | changes)
        runner.fsync_dir(str(held.directory.parent))
        held.info.update(changes)

    def _other_tenant(self, order: StartOrder) -> str:
        if not self._one_tenant:
            return ""
        path = self._root / "tenant"
        served = runner.read_json(str(path))
        if served is None:
            runner.write_atomic(str(path), order.tenant)
            return ""
        if served == order.tenant:
            return ""
        return (
            f"not run as root, this machine serves tenant {served} alone; run it as root for a Unix user per tenant, "
            "or with --no-isolation"
        )

    def _allot(self, order: StartOrder, info: dict[str, Any]) -> None:
        taken: set[int] = set()
        used: Counter[int] = Counter()
        for held in self._held.values():
            if not held.final:
                taken.update(held.all_ports())
                used.update(core for cores in held.info["cores"] for core in cores)

        def take(name: str, fixed: int) -> int:
            port = fixed or self._pool.take(taken)
            if port is None:
                raise engine_error(
                    ProblemCode.ENGINE_UNAVAILABLE, "no port is free;", "widen the engine's port range."
                )
            if fixed and (port in taken or not port_is_free(port)):
                raise engine_error(
                    ProblemCode.CONFLICT, f"port {port} ({name}) is in use;", f"write `{name}: auto`."
                )
            taken.add(port)
            return port

        info["master_port"] = take("MASTER_PORT", 0)
        for place, accelerators, cpu_milli in zip(
            order.ranks, order.node_accelerators, order.node_cpu_milli, strict=True
        ):
            info["ports"].append({name: take(name, fixed) for name, fixed in sorted(order.ports.items())})
            part, whole = place.accelerators_milli, accelerators * WHOLE_MILLI
            part, whole = (part, whole) if place.mask else (place.cpu_milli, cpu_milli)
            cores = share_cores(self._cores, used, part, whole)
            used.update(cores)
            info["cores"].append(cores)

    def _work_dir(self, info: dict[str, Any]) -> Path:
        user = "shared" if info["uid"] is None else str(info["uid"])
        return self._root / "work" / user / str(info["placement"])

    def _make_work_dirs(self, held: Held) -> None:
        uid = held.info["uid"]
        top = self._work_dir(held.info)
        # What holds the ranks' folders stays the engine's own, for the tenant to pass through: in a folder of its own
        # it could put a link where its next placement's folder will be made, and have anybody's folder given to it.
        for path in (top.parent, top):
            _make_dir(path, 0o700 if uid is None else 0o710, None if uid is None else (os.geteuid(), uid))
        for rank in held.ranks:
            _make_dir(top / str(rank.number), 0o700, None if uid is None else (uid, uid))

    def _launch(self, held: Held, rank: Rank, order: StartOrder) -> None:
        """Hand one rank to a runner of its own, with the rank's lock, unless one has it or had it."""
        if rank.record_path.exists():
            return
        lock = runner.try_lock(str(rank.directory))
        if lock is None:
            if rank.spawned_pid:
                return
            # Of an earlier control plane: it will record its start, or find its epoch superseded and go.
            lock = self._await_lock(rank)
            if lock is None:
                return
        try:
            if rank.record_path.exists():
                return
            spec = rank.directory / runner.SPEC
            runner.write_atomic(str(spec), self._spec(held, rank, order), durable=False)
            try:
                pid = self._spawn(rank, spec, lock)
            except OSError:
                spec.unlink(missing_ok=True)
                raise
            self._spawned[pid] = rank
            rank.spawned_pid, rank.spawn_ended = pid, False
        finally:
            os.close(lock)

    def _await_lock(self, rank: Rank) -> int | None:
        for _ in range(_LOCK_TRIES):
            lock = runner.try_lock(str(rank.directory))
            if lock is not None or rank.record_path.exists():
                return lock
            time.sleep(_LOCK_PAUSE_S)
        raise engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"a runner holds rank {rank.number} of {rank.info['placement']} and records nothing;",
            "look for a full disk.",
        )

    def _spawn(self, rank: Rank, spec: Path, lock: int) -> int:
        output = str(rank.directory / "runner.log")
        return os.posix_spawn(
            self._settings.runner_python,
            [self._settings.runner_python, "-I", "-S", runner.__file__, str(spec), str(_LOCK_FD)],
            {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )

    def _spec(self, held: Held, rank: Rank, order: StartOrder) -> dict[str, Any]:
        work = self._work_dir(held.info) / str(rank.number)
        settings = self._settings
        runtime = Runtime(self._python, self._runtime_paths, self._gpus)
        return {
            "placement": order.placement,
            "rank": rank.number,
            "epoch": int(order.epoch),
            "mark": held.info["mark"],
            "root": str(self._root),
            "work_dir": str(work),
            "log_dir": str(self._root / "logs" / order.placement / str(rank.number)),
            "uid": held.info["uid"],
            "cores": held.info["cores"][rank.number],
            # Without commands, like a cluster that is leased bare, it is there until it is stopped.
            "argv": ["/bin/sh", "-e", "-c", "\n".join(order.commands) or "exec sleep infinity"],
            "env": environment(order, rank.number, held.info, work, runtime),
            "grace_ms": order.grace_ms,
            "max_duration_ms": order.max_duration_ms,
            "log_segment_bytes": settings.log_segment_bytes,
            "log_segments": settings.log_segments,
            "heartbeat_ms": settings.heartbeat_ms,
        }

    # --- controlling ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _current_epoch(self) -> Iterator[None]:
        """Nobody fences inside; EngineError when somebody has: a superseded control plane must not touch records."""
        with runner.epoch_lock(str(self._root), fcntl.LOCK_SH) as fenced:
            if self._epoch is not None:
                refuse_superseded(self._epoch, fenced)
            yield

    def _control(
        self, placement: PlacementId, change: Callable[[dict[str, Any]], dict[str, Any]], ends: bool = False
    ) -> None:
        with self._mutex, self._current_epoch():
            held = self._held.get(placement)
            if held is None or held.info["failed"]:
                return
            self._reap()
            for rank in held.ranks:
                with as_engine_error(f"placement {placement} can't be told now"):
                    self._control_rank(rank, change, ends)

    def _control_rank(
        self, rank: Rank, change: Callable[[dict[str, Any]], dict[str, Any]], ends: bool
    ) -> None:
        rank.read()
        if rank.final or (ends and self._end_unstarted(rank)):
            return
        path = str(rank.directory / runner.CONTROL)
        before = runner.read_json(path) or {"paused": False, "stop_until_ms": None}
        try:
            after = change(before)
            if after != before:
                runner.write_atomic(path, after, durable=False)
            number = signal.SIGUSR1
        except OSError:
            if not ends:
                raise
            # A full disk must not keep anything running: the runner takes SIGTERM for a stop with the order's grace.
            number = signal.SIGTERM
        rank.signal_runner(number, self._boot)

    def _end_unstarted(self, rank: Rank) -> bool:
        """Record the end of a rank that no runner has and none had, so that none ever will."""
        if rank.record is not None:
            return False
        lock = runner.try_lock(str(rank.directory))
        if lock is None:
            return False
        try:
            rank.read()
            if rank.record is None:
                rank.close(RankState.EXITED, 128 + signal.SIGTERM, detail="stopped before it started")
                (rank.directory / runner.SPEC).unlink(missing_ok=True)
            return rank.final
        finally:
            os.close(lock)

    # --- observing ------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        for pid in list(self._spawned):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if ended:
                self._spawned.pop(pid).spawn_ended = True

    def _refresh(self, held: Held) -> None:
        if held.info["failed"]:
            held.report = report_of(held, failed_code=_CANNOT_RUN)
            return
        for rank in held.ranks:
            if not rank.final:
                rank.read()
        gone = [
            rank
            for rank in held.ranks
            if not rank.final and rank.record and not rank.runner_lives(self._boot)
        ]
        self._close_lost(gone)
        unstarted = [rank for rank in held.ranks if rank.record is None and not self._is_starting(rank)]
        superseded = self._epoch is not None and held.epoch < self._epoch
        if superseded and len(unstarted) == len(held.ranks):
            # Cut short before anything ran: as if it had never been ordered. The next order completes it.
            held.report = None
            return
        for rank in unstarted:
            if rank.spawned_pid and rank.spawn_ended:
                rank.close(RankState.EXITED, _CANNOT_RUN, reason="start_failed", detail=rank.runner_log())
            elif superseded:
                rank.close(RankState.LOST, None, detail="never started: the control plane ended half way")
        held.report = report_of(held, failed_code=_CANNOT_RUN)

    def _is_starting(self, rank: Rank) -> bool:
        """Whether a runner has the rank that has nothing on record yet."""
        lock = runner.try_lock(str(rank.directory))
        if lock is None:
            return True
        # It may have recorded and ended between reading and locking.
        rank.read()
        os.close(lock)
        return rank.record is not None

    def _close_lost(self, ranks: Iterable[Rank]) -> None:
        """End ranks whose runner is gone at their last heartbeat, after making sure that nothing of them runs."""
        lost = []
        for rank in ranks:
            # The runner may have recorded its end just before it went.
            rank.read()
            if not rank.final:
                lost.append(rank)
        same_boot = [rank for rank in lost if rank.record and rank.record["boot_id"] == self._boot]
        alive = end_leftovers(same_boot) if same_boot else []
        for rank in lost:
            if rank not in alive:
                rank.close(RankState.LOST, None, estimated=True, detail="its runner vanished")


def _make_dir(path: Path, mode: int, owner: tuple[int, int] | None) -> None:
    """Make a directory, or take the one that is there; OSError for anything else of that name, a link above all."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=mode)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(fd, mode)
        if owner is not None:
            os.fchown(fd, *owner)
    finally:
        os.close(fd)
