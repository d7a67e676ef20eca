"""What the local engine holds of a placement and its ranks: the records on disk, read only when they changed."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.ids import Epoch, PlacementId
from headrace.engines import runner
from headrace.engines.machine import LOOPBACK
from headrace.ports import PlacementReport, RankReport, RankState

_FINAL = frozenset({runner.EXITED, runner.LOST})
_STATES = tuple(map(str, RankState))
_decode = msgspec.json.Decoder().decode
_KILL_TRIES = 40
_MAX_MS = 100 * 365 * 86_400_000
_KILL_PAUSE_S = 0.025


class Rank:
    """One rank of a placement on this machine."""

    def __init__(self, directory: Path, number: int, info: dict[str, Any]) -> None:
        self.directory = directory
        self.number = number
        self.info = info
        self.record_path = directory / runner.RECORD
        self._path = str(self.record_path)
        self.record: dict[str, Any] | None = None
        self.spawned_pid = 0
        self.spawn_ended = False
        self._seen: tuple[int, int, int] | None = None
        self.report = RankReport(number, RankState.STARTING)

    @property
    def final(self) -> bool:
        """Whether the end is known: it never changes again."""
        return self.report.state in (RankState.EXITED, RankState.LOST)

    def read(self) -> None:
        """Read the record if it was replaced since it was last read."""
        try:
            # Thousands are looked at in a second: without a Path it takes half as long.
            found = os.stat(self._path)
        except FileNotFoundError:
            return
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return
        record = _read(self._path)
        if is_sound(record):
            self._seen = seen
            self._take(record)

    def _take(self, record: dict[str, Any]) -> None:
        self.record = record
        self.report = RankReport(
            rank=self.number,
            state=RankState(record["state"]),
            running_ms=record["running_ms"],
            paused_ms=record["paused_ms"],
            exit_code=record["exit_code"],
            reason=record["reason"],
            detail=record["detail"],
            estimated=record["estimated"],
        )

    def close(
        self,
        state: RankState,
        exit_code: int | None,
        *,
        reason: str = "",
        detail: str = "",
        estimated: bool = False,
    ) -> None:
        """Record an end in the runner's stead.

        On a full disk it is known in memory alone, and is found again after a restart.
        """
        record = self.record or {
            "version": 1,
            "placement": self.info["placement"],
            "rank": self.number,
            "epoch": self.info["epoch"],
            "mark": self.info["mark"],
            "boot_id": runner.boot_id(),
            "runner": [0, 0],
            "child": [0, 0],
            "running_ms": 0,
            "paused_ms": 0,
            "heartbeat_ms": 0,
            "started_wall_ms": 0,
            "heartbeat_wall_ms": 0,
        }
        self._take(
            record
            | {
                "state": str(state),
                "exit_code": exit_code,
                "reason": reason,
                "detail": detail,
                "estimated": estimated,
            }
        )
        with contextlib.suppress(OSError):
            runner.write_atomic(str(self.record_path), self.record)

    def runner_lives(self, boot: str) -> bool:
        """Whether the runner on record is the process that has its pid now."""
        record = self.record
        return record is not None and record["boot_id"] == boot and runner.is_alive(*record["runner"])

    def signal_runner(self, number: int, boot: str) -> None:
        """Wake the runner; without a record it has yet to read its orders, and does so by itself."""
        if self.record is not None and self.runner_lives(boot):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.record["runner"][0], number)

    def runner_log(self) -> str:
        """The end of what a runner said that failed."""
        try:
            text = (self.directory / "runner.log").read_text(errors="replace").strip()
        except FileNotFoundError:
            text = ""
        return f"the runner failed: {text[-500:] or 'it said nothing'}"


def _read(path: str) -> Any:
    """The content of a JSON file; None when it isn't there or isn't JSON."""
    try:
        with open(path, "rb", buffering=0) as file:
            return _decode(file.read())
    except (FileNotFoundError, msgspec.DecodeError, RecursionError):
        return None


def is_sound(record: Any) -> bool:
    """Whether a file holds what a runner writes: without isolation, anybody's process may have written it."""
    if not isinstance(record, dict):
        return False
    get = record.get
    code = get("exit_code")
    return (
        get("state") in _STATES
        and _is_duration(get("running_ms"))
        and _is_duration(get("paused_ms"))
        and _is_process(get("runner"))
        and _is_process(get("child"))
        and (code is None or (type(code) is int and 0 <= code <= 255))
        and type(get("reason")) is type(get("detail")) is type(get("boot_id")) is str
        and type(get("estimated")) is bool
    )


def _is_duration(found: Any) -> bool:
    return type(found) is int and 0 <= found <= _MAX_MS


def _is_process(found: Any) -> bool:
    return type(found) is list and len(found) == 2 and type(found[0]) is type(found[1]) is int


class Held:
    """One placement on this machine: what was allotted to it, its ranks, and the newest report."""

    def __init__(self, directory: Path, info: dict[str, Any]) -> None:
        self.directory = directory
        self.info = info
        self.ranks = [Rank(directory / str(number), number, info) for number in range(info["ranks"])]
        self.report: PlacementReport | None = None

    @property
    def epoch(self) -> Epoch:
        """The epoch of the order."""
        return Epoch(self.info["epoch"])

    @property
    def final(self) -> bool:
        """Whether every rank has ended, and is reported so."""
        return self.report is not None and all(
            rank.state in (RankState.EXITED, RankState.LOST) for rank in self.report.ranks
        )

    def all_ports(self) -> Iterable[int]:
        """Every port that the placement has."""
        yield self.info["master_port"]
        for ports in self.info["ports"]:
            yield from ports.values()


def report_of(held: Held, failed_code: int) -> PlacementReport:
    """The report of a placement; the one before, when nothing changed."""
    failed = held.info["failed"]
    if failed:
        ranks = tuple(
            RankReport(
                rank.number, RankState.EXITED, exit_code=failed_code, reason="start_failed", detail=failed
            )
            for rank in held.ranks
        )
    else:
        ranks = tuple(rank.report for rank in held.ranks)
    before = held.report
    if before is not None and before.epoch == held.epoch and before.ranks == ranks:
        return before
    first = held.info["ports"][0] if held.info["ports"] else {}
    address = held.info.get("address", LOOPBACK)
    endpoints = {name: f"{address}:{port}" for name, port in first.items()} | held.info.get("access", {})
    return PlacementReport(PlacementId(held.info["placement"]), held.epoch, ranks, endpoints)


def end_leftovers(ranks: Sequence[Rank]) -> list[Rank]:
    """Kill what still runs of ranks whose runner is gone; return the ranks of which something would not go.

    A process belongs to a rank when it is of its session, or carries its mark in its environment: a double fork
    with a session of its own leaves no other trace once the runner is gone.
    """
    for attempt in range(_KILL_TRIES):
        alive: dict[int, Rank] = {}
        by_mark = {(str(rank.info["mark"]), str(rank.number)): rank for rank in ranks}
        by_session = {
            rank.record["child"][0]: rank
            for rank in ranks
            if rank.record is not None and _session_is_ours(rank.record)
        }
        for pid, state, _, session in runner.processes():
            rank = by_session.get(session) or by_mark.get(_mark_of(pid))
            if rank is not None and state not in "ZX":
                alive[pid] = rank
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if not alive:
            return []
        if attempt == _KILL_TRIES - 1:
            return [rank for rank in ranks if any(rank is other for other in alive.values())]
        time.sleep(_KILL_PAUSE_S)
    return []


def _session_is_ours(record: dict[str, Any]) -> bool:
    """Whether the session on record can't be a newer one: its leader's pid may have been given out again."""
    pid, started = record["child"]
    found = runner.read_stat(pid) if pid else None
    return pid != 0 and (found is None or found[3] == started)


def _mark_of(pid: int) -> tuple[str, str]:
    try:
        env = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ("", "")
    found = {b"HEADRACE_RUN": "", b"RANK": ""}
    for entry in env.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name in found:
            found[name] = value.decode(errors="replace")
    return (found[b"HEADRACE_RUN"], found[b"RANK"])
