"""What every engine with runners has in common: orders, records, controls and logs in one directory, its spool.

Below the spool's root: ``owner``, the journal whose control plane may use it; ``epoch``, the lowest epoch whose orders
count; ``placements/ID/placement.json``, which makes an accepted order durable, with a directory for each rank (see
:mod:`headrace.engines.runner`); ``work/``, the ranks' working directories; ``logs/``, which outlive the placement's record;
``records/``, if those are kept. Whatever a crash cuts short is completed when the order is repeated, or undone by the next
:meth:`SpoolEngine.fence`.

An engine says how a runner is launched, whether one still runs, and what the machines are like.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from headrace.core.errors import ProblemCode
from headrace.core.ids import Epoch, PlacementId
from headrace.engines import runner
from headrace.engines.logs import read_log
from headrace.engines.problems import (
    OWNER,
    as_engine_error,
    engine_error,
    refuse_other_journal,
    refuse_superseded,
    refuse_writable,
)
from headrace.engines.ranks import Held, Rank, report_of
from headrace.ports import EngineError, LogChunk, PlacementReport, RankState, StartOrder

MOST_LOG_BYTES = 4 << 20
"""A single read of a log never returns more."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
CANNOT_RUN = 126
"""The exit code of a rank that could not be started."""


def take_over(root: Path, epoch: Epoch, owner: str, fenced: int) -> None:
    """From now on a directory is ``owner``'s, and orders below ``epoch`` are refused; the lock of its epoch (``fenced``) is held.

    Raises EngineError when it is another journal's, or when a later control plane has fenced already.
    """
    known = runner.read_json(str(root / OWNER))
    refuse_other_journal(root, known, owner)
    refuse_superseded(epoch, fenced)
    with as_engine_error("can't write the epoch"):
        if owner and known is None:
            runner.write_atomic(str(root / OWNER), owner)
        if epoch > fenced:
            runner.write_atomic(str(root / "epoch"), int(epoch))


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """What is seldom changed: a log is kept in ``log_segments`` pieces of ``log_segment_bytes``, the oldest of which goes first.

    With ``keep_records`` the runners' records of forgotten placements stay in ``records/PLACEMENT.RANK.json``: for who wants to
    bill from them without the journal. ``look_at_most``: of more placements than that each look reads the next so many, in a few
    milliseconds.
    """

    log_segment_bytes: int = 8 << 20
    log_segments: int = 8
    heartbeat_ms: int = 5_000
    keep_records: bool = False
    look_at_most: int = 600


class SpoolEngine(ABC):
    """Keeps the spool. ``with_users``: each tenant runs as a numeric user of its own."""

    def __init__(self, root: Path, settings: SpoolSettings, *, with_users: bool) -> None:
        self._root = root.absolute()
        self._spool_settings = settings
        self._with_users = with_users
        self._epoch: Epoch | None = None
        self._superseded = ""
        self._held: dict[str, Held] = {}
        self._live: dict[Held, None] = {}
        self._turn: Iterator[Held] = iter(())
        self._reports: list[PlacementReport] | None = []
        self._stirs = 0
        self._mutex = threading.RLock()

    # --- what an engine says ----------------------------------------------------------------------------------------

    @abstractmethod
    def _why_never(self, order: StartOrder) -> str:
        """Why an order can never run here, or ""."""

    @abstractmethod
    def _allot(self, order: StartOrder, info: dict[str, Any]) -> None:
        """Put the ports and cores of a new placement into its ``info``; EngineError when there are none now."""

    @abstractmethod
    def _environment(self, held: Held, rank: Rank, order: StartOrder, work: Path) -> dict[str, str]:
        """All that a rank's processes find in their environment; ``work`` is their directory."""

    @abstractmethod
    def _launch(self, held: Held, order: StartOrder) -> None:
        """See to it that a runner takes each rank that none has, nor had."""

    @abstractmethod
    def _renew(self, held: Held) -> None:
        """A later control plane orders the placement: launches of the earlier one count for nothing."""

    @abstractmethod
    def _look(self) -> None:
        """Learn what became of what was launched; before the records are read."""

    @abstractmethod
    def _lives(self, rank: Rank) -> bool:
        """Whether the runner on record still runs, as far as can be told."""

    @abstractmethod
    def _is_starting(self, rank: Rank) -> bool:
        """Whether a runner may still take a rank that has nothing on record."""

    @abstractmethod
    def _close_unstarted(self, rank: Rank) -> bool:
        """Record the end of a rank that was launched and that no runner will ever take; whether it is one."""

    @abstractmethod
    def _wake(self, rank: Rank, number: int) -> None:
        """Signal a runner that its control has changed, if it can be: it looks by itself every second."""

    @abstractmethod
    def _end_leftovers(self, ranks: Sequence[Rank]) -> list[Rank]:
        """End what still runs of ranks whose runner is gone; the ranks of which something would not go."""

    # --- what a control plane asks ----------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """That another control plane has taken over, once that is seen; "" before."""
        return self._superseded

    def fence(self, epoch: Epoch, owner: str = "") -> None:
        """Refuse orders below ``epoch`` from now on, then find what earlier control planes left and undo half an order.

        A spool is the journal's whose control plane first fences it: an epoch counts one journal's starts and says nothing
        of another's. Raises EngineError when it is another journal's, or when a later control plane has fenced already.
        """
        with self._mutex, runner.epoch_lock(str(self._root), fcntl.LOCK_EX) as fenced:
            take_over(self._root, epoch, owner, fenced)
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
                    self._renew(held)
                if not held.info["failed"]:
                    self._launch(held, order)

    def stop(self, placement: PlacementId, grace_ms: int) -> None:
        """SIGTERM to each rank's process group, SIGKILL to all that is left after ``grace_ms``."""
        until_ms = runner.boot_ms() + max(0, grace_ms)

        def change(control: dict[str, Any]) -> dict[str, Any]:
            # The earlier deadline stands, whether the runner has read it yet or not.
            before_ms = control["stop_until_ms"]
            if before_ms is not None and before_ms <= until_ms:
                return control
            # On another host, whose clock is another one, the grace counts.
            by_clock = {"stop_until_ms": until_ms, "boot_id": runner.boot_id()}
            return control | by_clock | {"stop_grace_ms": max(0, grace_ms)}

        self._control(placement, change, ends=True)

    def pause(self, placement: PlacementId) -> None:
        """Stop every process of every rank (SIGSTOP)."""
        self._control(placement, lambda control: control | {"paused": True})

    def resume(self, placement: PlacementId) -> None:
        """Let the processes go on (SIGCONT)."""
        self._control(placement, lambda control: control | {"paused": False})

    def observe(self) -> Sequence[PlacementReport]:
        """Reports of all placements, from their records: durations are those that are safely on disk.

        Of more than ``look_at_most`` that live, each look reads the next so many, and of the others it says what it said before.
        What is as it was is reported by the very object of before, and when all is, by the very list.
        """
        with self._mutex, as_engine_error("the placements can't be looked at now"), self._current_epoch():
            self._look()
            for held in self._next_live():
                if held in self._live:
                    self._refresh(held)
            if self._reports is None:
                self._reports = [held.report for held in self._held.values() if held.report is not None]
            return self._reports

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
                if self._spool_settings.keep_records:
                    self._keep_records(held)
                trash = self._root / "trash" / uuid.uuid4().hex
                held.directory.rename(trash)
                self._let_go(held)
                shutil.rmtree(trash, ignore_errors=True)
                shutil.rmtree(self._work_dir(held.info), ignore_errors=True)

    def _keep_records(self, held: Held) -> None:
        """Give each rank's record a second name that stays; a crash half way does it again."""
        records = self._root / "records"
        records.mkdir(mode=0o700, exist_ok=True)
        for rank in held.ranks:
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(rank.record_path, records / f"{held.info['placement']}.{rank.number}.json")

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

    def _owner(self) -> Any:
        """The journal whose the spool is; None as long as it is nobody's."""
        return runner.read_json(str(self._root / OWNER))

    def _prepare(self) -> None:
        """Make the spool, and take up what is in it; EngineError when others may write it."""
        with as_engine_error(f"the spool {self._root} can't be used"):
            for place in (*reversed(self._root.parents), self._root):
                # Whatever the umask: what is made here, nobody else writes.
                if not place.exists():
                    place.mkdir(mode=0o755, exist_ok=True)
            refuse_writable(self._root)
            # Tenants' users pass through to their own directories and can list nothing.
            self._root.chmod(0o711 if self._with_users else 0o700)
            for name, mode in (("placements", 0o700), ("logs", 0o700), ("trash", 0o700), ("work", 0o711)):
                _make_dir(self._root / name, mode, None)
                refuse_writable(self._root / name)
        for left in (self._root / "trash").iterdir():
            shutil.rmtree(left, ignore_errors=True)
        with self._mutex:
            self._load(undo=False)

    def _load(self, *, undo: bool) -> None:
        """Find the placements on disk that are not held yet; ``undo`` removes what never became a durable order."""
        for directory in sorted((self._root / "placements").iterdir()):
            if directory.name in self._held:
                continue
            info = runner.read_json(str(directory / "placement.json"))
            if info is not None:
                self._hold(Held(directory, info))
            elif undo:
                shutil.rmtree(directory, ignore_errors=True)

    def _drop_unread_order(self, rank: Rank) -> None:
        """An order that no runner took holds secrets and will not be carried out: the epoch is over."""
        if (rank.directory / runner.SPEC).exists():
            lock = runner.try_lock(str(rank.directory))
            if lock is not None:
                (rank.directory / runner.SPEC).unlink(missing_ok=True)
                os.close(lock)

    def _hold(self, held: Held) -> None:
        self._held[held.directory.name] = held
        self._live[held] = None
        self._stirs += 1

    def _let_go(self, held: Held) -> None:
        del self._held[held.directory.name]
        self._live.pop(held, None)
        self._reports = None
        self._stirs += 1

    # --- accepting ------------------------------------------------------------------------------------------------

    def _accept(self, order: StartOrder) -> Held:
        """Allot what the placement needs and make the order durable; from here on it is completed, never doubled."""
        info: dict[str, Any] = {
            "version": 1,
            "placement": order.placement,
            "workload": order.workload,
            "tenant": order.tenant,
            "uid": order.tenant_uid if self._with_users else None,
            "epoch": int(order.epoch),
            "ranks": len(order.ranks),
            "mark": uuid.uuid4().hex,
            "master_port": 0,
            "ports": [],
            "cores": [],
            "failed": self._why_never(order),
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
        self._hold(held)
        return held

    def _save(self, held: Held, **changes: Any) -> None:
        runner.write_atomic(str(held.directory / "placement.json"), held.info | changes)
        runner.fsync_dir(str(held.directory.parent))
        held.info.update(changes)

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

    def _spec(self, held: Held, rank: Rank, order: StartOrder) -> dict[str, Any]:
        """What the runner of a rank reads."""
        work = self._work_dir(held.info) / str(rank.number)
        settings = self._spool_settings
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
            "env": self._environment(held, rank, order, work),
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
            try:
                if self._epoch is not None:
                    refuse_superseded(self._epoch, fenced)
            except EngineError as error:
                self._superseded = error.problem.line()
                raise
            yield

    def _control(
        self, placement: PlacementId, change: Callable[[dict[str, Any]], dict[str, Any]], ends: bool = False
    ) -> None:
        with self._mutex, self._current_epoch():
            held = self._held.get(placement)
            if held is None or held.info["failed"]:
                return
            self._stirs += 1
            self._look()
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
        self._wake(rank, number)

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

    def _next_live(self) -> list[Held]:
        """Whom to look at: all that have not ended, or the next ones where they are many."""
        most = self._spool_settings.look_at_most
        found = list(islice(self._turn, most))
        if len(found) < most:
            self._turn = iter(list(self._live))
            found += islice(self._turn, most - len(found))
        return found

    def _is_well(self, held: Held) -> bool:
        """Read what is new on record; whether every runner, or what will launch it, is there: mostly it is so."""
        if held.info["failed"]:
            return False
        for rank in held.ranks:
            if not rank.final:
                rank.read()
            if not (rank.final or (self._is_starting(rank) if rank.record is None else self._lives(rank))):
                return False
        return True

    def _refresh(self, held: Held) -> None:
        before = held.report
        if self._is_well(held):
            held.report = report_of(held, failed_code=CANNOT_RUN)
        else:
            self._make_out(held)
        if held.report is not before:
            self._reports = None
            if held.final:
                self._live.pop(held, None)
                self._stirs += 1

    def _make_out(self, held: Held) -> None:
        """What to report where something is not as it should be; ends on record what ended without recording it."""
        if held.info["failed"]:
            held.report = report_of(held, failed_code=CANNOT_RUN)
            return
        for rank in held.ranks:
            if not rank.final:
                rank.read()
        gone = [rank for rank in held.ranks if not rank.final and rank.record and not self._lives(rank)]
        self._close_lost(gone)
        unstarted = [rank for rank in held.ranks if rank.record is None and not self._is_starting(rank)]
        superseded = self._epoch is not None and held.epoch < self._epoch
        if superseded and len(unstarted) == len(held.ranks):
            # Cut short before anything ran: as if it had never been ordered. The next order completes it.
            held.report = None
            return
        for rank in unstarted:
            if not self._close_unstarted(rank) and superseded:
                rank.close(RankState.LOST, None, detail="never started: the control plane ended half way")
        held.report = report_of(held, failed_code=CANNOT_RUN)

    def _close_lost(self, ranks: Iterable[Rank]) -> None:
        """End ranks whose runner is gone at their last heartbeat, after making sure that nothing of them runs."""
        lost = []
        for rank in ranks:
            # The runner may have recorded its end just before it went.
            rank.read()
            if not rank.final:
                lost.append(rank)
        alive = self._end_leftovers(lost) if lost else []
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
