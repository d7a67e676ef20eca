"""The runner: one process that runs one rank, keeps its record and outlives the control plane.

    python3 -I -S runner.py SPEC.json [LOCK_FD]

It is one file of the standard library alone, so that it can be shipped to any node. Everything it shares with an engine
is in files, next to the spec in the rank's directory:

- ``spec.json``: what to run, with the opened secrets; read once and deleted before anything starts;
- ``lock``: held (flock) for as long as the runner lives, so that a second start of the same rank does nothing. An
  engine may hand over the lock that it took itself as ``LOCK_FD``;
- ``record.json``: what became of the rank; replaced as a whole, and durable before anybody is told;
- ``control.json``: what the engine wants of it; read after SIGUSR1 and every second, so that no lost signal loses it.

SIGTERM ends the rank with the order's grace. So does SIGUSR2, by which a launcher that must not be outlived says (by its death)
that the rank was abandoned: its end is recorded as lost then, with exact durations, for it is no doing of the rank.

Durations are by the host's boot-time clock, which neither jumps nor stops in a suspend.
Exit status: 0 the end is recorded, or another runner has the rank; 3 the epoch of the order is superseded.
"""

# pathlib would cost each rank a fifth of its runner's start.
from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import sys
import time

# `typing` costs a tenth of the runner's start; type checkers know this name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

SPEC, RECORD, CONTROL, LOCK = "spec.json", "record.json", "control.json", "lock"
RUNNING, PAUSED, EXITED, LOST = "running", "paused", "exited", "lost"
STREAMS = ("stdout", "stderr")
CONTROL_POLL_MS = 1_000
RETRY_MS = 200
KILL_AGAIN_MS = 50
PIPE_BYTES = 1 << 16
NO_EXEC, SUPERSEDED = 127, 3
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38


class Superseded(Exception):
    """The order is of an epoch that a newer control plane has fenced off."""


def boot_ms() -> int:
    """Milliseconds since the host booted, suspends included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def boot_id() -> str:
    """The kernel's name for this boot of the host."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def read_stat(pid: int) -> tuple[str, int, int, int] | None:
    """State letter, parent, session and start time (clock ticks since boot) of a process; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in brackets, may hold spaces and brackets itself.
    rest = data[data.rindex(b")") + 2 :].split()
    return rest[0].decode(), int(rest[1]), int(rest[3]), int(rest[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had ``pid`` and start time ``started`` still runs (a zombie does not)."""
    found = read_stat(pid)
    return found is not None and found[3] == started and found[0] not in "ZX"


def processes() -> Iterator[tuple[int, str, int, int]]:
    """Pid, state letter, parent and session of every process that can be seen."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = read_stat(int(name))
            if found is not None:
                yield int(name), found[0], found[1], found[2]


def fsync_dir(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: str, value: Any, durable: bool = True) -> None:
    """Replace ``path`` by ``value`` as JSON, wholly or not at all; mode 0600."""
    temporary = f"{path}.{os.getpid()}.new"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(value, file, sort_keys=True)
            file.flush()
            if durable:
                os.fsync(fd)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        fsync_dir(os.path.dirname(path))


def read_json(path: str) -> Any:
    """What ``path`` holds; None when it does not exist or is not JSON (a reboot may have torn what was not synced)."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


@contextlib.contextmanager
def epoch_lock(root: str, kind: int) -> Iterator[int]:
    """The engine's fenced epoch, which can't change inside; ``kind`` is LOCK_SH to read it, LOCK_EX to raise it."""
    fd = os.open(os.path.join(root, "epoch.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, kind)
        yield int(read_json(os.path.join(root, "epoch")) or 0)
    finally:
        os.close(fd)


def try_lock(directory: str) -> int | None:
    """Lock a rank's directory; None when another process has it. The lock goes with the descriptor."""
    fd = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def segment_name(stream: str, offset: int) -> str:
    """Name of the piece of a log that begins at ``offset`` bytes."""
    return f"{stream}.{offset:020d}"


def segments(directory: str, stream: str) -> list[int]:
    """Where the pieces of a log that are still there begin, in order."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(name[len(stream) + 1 :]) for name in names if name.startswith(stream + "."))


class Log:
    """One stream's log, in pieces of at most ``segment_bytes`` of which the newest ``keep`` are kept.

    A piece is named by the offset of its first byte, so offsets count from the log's beginning whatever was deleted.
    What can't be written (a full disk) is dropped and shows as a gap: a log must never hold up the work.
    """

    def __init__(self, directory: str, stream: str, segment_bytes: int, keep: int) -> None:
        self.directory, self.stream = directory, stream
        self.segment_bytes, self.keep = segment_bytes, keep
        self.offset = 0
        self.fd = -1
        self.room = 0

    def write(self, data: bytes) -> None:
        """Append ``data``, or drop what can't be written."""
        view = memoryview(data)
        while view:
            try:
                written = self._write_some(view)
            except OSError:
                self.close()
                written = len(view)
            self.offset += written
            view = view[written:]

    def _write_some(self, view: memoryview) -> int:
        # An erased log's open piece has no name any more: what follows begins a new one.
        if self.fd >= 0 and (self.room <= 0 or os.fstat(self.fd).st_nlink == 0):
            self.close()
        if self.fd < 0:
            self._open()
        written = os.write(self.fd, view[: self.room])
        self.room -= written
        return written

    def _open(self) -> None:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        path = os.path.join(self.directory, segment_name(self.stream, self.offset))
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.room = self.segment_bytes
        for old in segments(self.directory, self.stream)[: -self.keep]:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.directory, segment_name(self.stream, old)))

    def close(self) -> None:
        """Close the piece that is open."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


class Runner:
    """One rank, from its order to its recorded end."""

    def __init__(self, spec: dict[str, Any], directory: str, lock_fd: int) -> None:
        self.spec, self.directory, self.lock_fd = spec, directory, lock_fd
        self.record_path = os.path.join(directory, RECORD)
        self.control_path = os.path.join(directory, CONTROL)
        self.control_seen: tuple[int, int] | None = None
        self.wake_read, self.wake_write = _pipe(blocking=False)
        self.woken = False
        self.terminated = self.abandoned = False
        self.is_lost = False
        self.poll = select.poll()
        self.logs: dict[int, Log] = {}
        self.child = 0
        self.child_started = 0
        self.failure_read = -1
        self.state = RUNNING
        self.running_ms = self.paused_ms = 0
        self.since_ms = 0
        self.exit_code: int | None = None
        self.reason = self.detail = ""
        self.kill_at_ms: int | None = None
        self.record_due_ms = 0
        self.orphaned = False
        self.started_wall_ms = time.time_ns() // 1_000_000

    # --- from the order to a running child ------------------------------------------------------------------------

    def run(self) -> int:
        """Run the rank to its recorded end."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._catch_signals()
        gate = self._fork()
        try:
            started = self._begin(gate)
        except Superseded:
            os.close(gate)
            self._reap()
            return SUPERSEDED
        os.close(gate)
        if started:
            self._watch()
        self._finish()
        return 0

    def _catch_signals(self) -> None:
        def on_signal(number: int, _frame: Any) -> None:
            self.woken = True
            self.terminated = self.terminated or number in (signal.SIGTERM, signal.SIGUSR2)
            self.abandoned = self.abandoned or number == signal.SIGUSR2

        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, on_signal)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN)
        self.poll.register(self.wake_read, select.POLLIN)

    def _fork(self) -> int:
        """Fork the child, which waits at a gate until its start is on record; return the gate."""
        gate_read, gate = _pipe()
        self.failure_read, failure_write = _pipe()
        pipes = [_pipe() for _ in STREAMS]
        # The child says that it leads its session before anybody relies on that.
        self.child = os.fork()
        if self.child == 0:
            for fd in (gate, self.lock_fd, self.failure_read):
                os.close(fd)
            _become(self.spec, gate_read, failure_write, [write for _, write in pipes])
        os.close(gate_read)
        os.close(failure_write)
        os.read(self.failure_read, 1)
        found = read_stat(self.child)
        self.child_started = found[3] if found else 0
        for stream, (read, write) in zip(STREAMS, pipes, strict=True):
            os.close(write)
            os.set_blocking(read, False)
            self.poll.register(read, select.POLLIN)
            spec = self.spec
            self.logs[read] = Log(spec["log_dir"], stream, spec["log_segment_bytes"], spec["log_segments"])
        return gate

    def _begin(self, gate: int) -> bool:
        """Record the start and open the gate; False when a stop came first.

        The epoch's lock is held over both, so that a control plane that has fenced finds every earlier start on record.
        """
        while True:
            self._read_control()
            if self.kill_at_ms is not None:
                self.exit_code, self.detail = 128 + signal.SIGTERM, "stopped before it started"
                return False
            with epoch_lock(self.spec["root"], fcntl.LOCK_SH) as fenced:
                if self.spec["epoch"] < fenced:
                    raise Superseded
                self.since_ms = boot_ms()
                if self._record():
                    os.write(gate, b"g")
                    return True
            self.since_ms = 0
            if self.orphaned:
                return False
            # A full disk: what can't be recorded must not run yet.
            self.poll.poll(RETRY_MS)
            self._drain_wake()

    # --- while it runs --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            self.poll.poll(self._timeout_ms())
            self._drain_wake()
            self._pump()
            if not self._reap():
                break
            if self.exit_code is not None and self.kill_at_ms is None:
                # The main process ended by itself: what it left behind has nobody to wait for.
                self.kill_at_ms = boot_ms()
            self._read_control()
            self._enforce()
            if boot_ms() >= self.record_due_ms:
                if self.state == PAUSED:
                    # Somebody else may have let a process go on.
                    self._stop_processes()
                self._record()
        self._account(EXITED)
        self._pump()

    def _timeout_ms(self) -> int:
        now = boot_ms()
        due = min(self.record_due_ms, now + CONTROL_POLL_MS)
        if self.kill_at_ms is not None:
            due = min(due, max(self.kill_at_ms, now + KILL_AGAIN_MS))
        elif self.state == RUNNING and self.spec["max_duration_ms"]:
            due = min(due, self.since_ms + self.spec["max_duration_ms"] - self.running_ms)
        return max(0, due - now)

    def _enforce(self) -> None:
        """Stop what ran too long or was orphaned; kill when the grace is over."""
        now = boot_ms()
        limit_ms = self.spec["max_duration_ms"]
        ran_ms = self.running_ms + (now - self.since_ms if self.state == RUNNING else 0)
        if self.kill_at_ms is None and limit_ms and ran_ms >= limit_ms:
            self.reason = "max_duration"
            self._ask_to_end(now + self.spec["grace_ms"])
        if self.terminated or self.orphaned:
            self.is_lost = self.is_lost or (self.abandoned and self.kill_at_ms is None)
            self.terminated = False
            self._ask_to_end(now + self.spec["grace_ms"])
        if self.kill_at_ms is not None and now >= self.kill_at_ms:
            self._signal_descendants(signal.SIGKILL)

    def _ask_to_end(self, until_ms: int) -> None:
        # Asked again, the earlier deadline stands: repeating a stop never prolongs it.
        if self.kill_at_ms is not None:
            self.kill_at_ms = min(self.kill_at_ms, until_ms)
            return
        self.kill_at_ms = until_ms
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGTERM)
        if self.state == PAUSED:
            self._account(RUNNING)
            self._signal_descendants(signal.SIGCONT)
            self._record()

    def _pause(self, wanted: bool) -> None:
        if self.kill_at_ms is not None or wanted == (self.state == PAUSED):
            return
        if wanted:
            self._stop_processes()
            self._account(PAUSED)
        else:
            self._account(RUNNING)
            self._signal_descendants(signal.SIGCONT)
        self._record()

    def _stop_processes(self) -> None:
        # Again while anything runs: a process may fork between being listed and being stopped.
        for _ in range(5):
            if not self._signal_descendants(signal.SIGSTOP):
                return
            time.sleep(0.001)

    def _signal_descendants(self, number: int) -> int:
        """Signal every process below this runner that is not stopped or ended; return how many there were.

        Orphans come to the runner (it is their subreaper), so that a double fork or a session of its own hides nothing.
        """
        children: dict[int, list[tuple[int, str]]] = {}
        for pid, state, parent, _ in processes():
            children.setdefault(parent, []).append((pid, state))
        count, todo = 0, [os.getpid()]
        while todo:
            for pid, state in children.get(todo.pop(), ()):
                todo.append(pid)
                if state in "ZX" or (number == signal.SIGSTOP and state in "Tt"):
                    continue
                count += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        return count

    def _reap(self) -> bool:
        """Collect ended children; whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.child:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_read, 4096)

    def _pump(self) -> None:
        for fd, log in list(self.logs.items()):
            # Bounded, so that a flood of output can't hold up a stop.
            for _ in range(16):
                try:
                    data = os.read(fd, PIPE_BYTES)
                except BlockingIOError:
                    break
                if not data:
                    self.poll.unregister(fd)
                    os.close(fd)
                    del self.logs[fd]
                    break
                log.write(data)

    def _read_control(self) -> None:
        try:
            found = os.stat(self.control_path)
        except OSError:
            return
        seen = (found.st_ino, found.st_mtime_ns)
        if seen == self.control_seen and not self.woken:
            return
        control = read_json(self.control_path)
        if control is None:
            return
        until_ms = control["stop_until_ms"]
        if until_ms is not None and control.get("boot_id", boot_id()) != boot_id():
            # By the clock of another host: the grace runs from now, once.
            until_ms = (
                self.kill_at_ms if self.kill_at_ms is not None else boot_ms() + control["stop_grace_ms"]
            )
        if not self.since_ms:
            # Nothing runs yet that could be paused; a stop means that nothing shall.
            self.kill_at_ms = until_ms
            return
        self.control_seen, self.woken = seen, False
        if until_ms is None:
            self._pause(control["paused"])
        else:
            self._ask_to_end(until_ms)

    # --- what is on record ----------------------------------------------------------------------------------------

    def _account(self, state: str) -> None:
        """Close the interval of the state that it was in."""
        now = boot_ms()
        if self.state == PAUSED:
            self.paused_ms += now - self.since_ms
        elif self.state == RUNNING:
            self.running_ms += now - self.since_ms
        self.since_ms, self.state = now, state

    def _record(self) -> bool:
        """Write the record; False when it can't be written now (it is tried again)."""
        if self.since_ms and self.state != EXITED:
            self._account(self.state)
        now = boot_ms()
        record = {
            "version": 1,
            "placement": self.spec["placement"],
            "rank": self.spec["rank"],
            "epoch": self.spec["epoch"],
            "mark": self.spec["mark"],
            "boot_id": boot_id(),
            "runner": [os.getpid(), _own_start()],
            "child": [self.child, self.child_started],
            "state": self.state,
            "running_ms": self.running_ms,
            "paused_ms": self.paused_ms,
            "exit_code": self.exit_code if self.state == EXITED else None,
            "reason": self.reason if self.state == EXITED else "",
            "detail": self.detail,
            "estimated": False,
            "heartbeat_ms": now,
            # For people alone: the wall clock may have jumped since.
            "started_wall_ms": self.started_wall_ms,
            "heartbeat_wall_ms": time.time_ns() // 1_000_000,
        }
        try:
            write_atomic(self.record_path, record)
        except FileNotFoundError:
            # The rank's directory is gone: nobody can ever adopt, stop or bill this rank.
            self.orphaned = True
            self.record_due_ms = now + RETRY_MS
            return False
        except OSError:
            self.record_due_ms = now + RETRY_MS
            return False
        self.record_due_ms = now + self.spec["heartbeat_ms"]
        return True

    def _finish(self) -> None:
        """Record the end, however long the disk stays full: the exit code is nowhere else."""
        self.state = EXITED
        if self.is_lost:
            self.state, self.detail = LOST, "what launched it is gone"
        failure = os.read(self.failure_read, 4096) if self.exit_code == NO_EXEC else b""
        if failure:
            self.reason, self.detail = "start_failed", failure.decode(errors="replace")
        while not self._record() and not self.orphaned:
            time.sleep(RETRY_MS / 1000)


def _pipe(blocking: bool = True) -> tuple[int, int]:
    read, write = os.pipe()
    if not blocking:
        os.set_blocking(read, False)
        os.set_blocking(write, False)
    return read, write


def _own_start() -> int:
    found = read_stat(os.getpid())
    return found[3] if found else 0


def _become(spec: dict[str, Any], gate_read: int, failure_write: int, outputs: list[int]) -> NoReturn:
    """In the child: wait at the gate, then turn into the rank's shell."""
    try:
        os.setsid()
        runner = os.getppid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            # Python ignores SIGPIPE, and what is ignored stays so over exec: `yes | head` would not end.
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.write(failure_write, b"r")
        if os.read(gate_read, 1) != b"g":
            os._exit(NO_EXEC)
        stdin = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((stdin, 0), (outputs[0], 1), (outputs[1], 2)):
            os.dup2(source, target)
        if spec["cores"]:
            os.sched_setaffinity(0, spec["cores"])
        if spec["uid"] is not None:
            os.setgroups([])
            os.setresgid(spec["uid"], spec["uid"], spec["uid"])
            os.setresuid(spec["uid"], spec["uid"], spec["uid"])
        # As the tenant: wherever the path leads, it leads nowhere that the tenant may not go.
        os.chdir(spec["work_dir"])
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        # Nothing runs unmetered: the rank goes with its runner.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != runner:
            os._exit(NO_EXEC)
        # What the node's own scheduler chose for this rank, its accelerators above all.
        chosen = {name: os.environ[name] for name in spec.get("inherit", ()) if name in os.environ}
        os.execve(spec["argv"][0], spec["argv"], spec["env"] | chosen)
    except BaseException as error:  # noqa: BLE001 - a forked child must never go on in its parent's code
        with contextlib.suppress(OSError):
            os.write(failure_write, f"{type(error).__name__}: {error}".encode()[:4000])
    os._exit(NO_EXEC)


def _close_inherited(keep: int | None) -> None:
    """Close what whoever started this runner had open and forgot to close: no workload may find it."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            # The directory that was just listed is closed already.
            with contextlib.suppress(OSError):
                os.close(int(name))


def main(argv: list[str]) -> int:
    """Run the rank that ``argv[1]`` describes, unless it is taken, was run already or is of a superseded epoch."""
    os.umask(0o077)
    path = os.path.abspath(argv[1])
    directory = os.path.dirname(path)
    if len(argv) > 2:
        lock_fd: int | None = int(argv[2])
        os.set_inheritable(int(argv[2]), False)
    else:
        lock_fd = try_lock(directory)
    _close_inherited(lock_fd)
    if lock_fd is None:
        return 0
    os.chdir("/")
    spec = read_json(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        fsync_dir(directory)
    if spec is None or os.path.exists(os.path.join(directory, RECORD)):
        return 0
    return Runner(spec, directory, lock_fd).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
