"""The planner as a process of its own: it follows the journal, folds the same events into its own world, and proposes.

The control plane tells it that something was committed; it answers with plans, which the writer re-validates. When it
dies, nothing is lost: it is started again and reads the journal. Messages are length-prefixed JSON over a socket pair.
Beside the hot path it runs the independent ``check`` on what it proposes and reports what that finds.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.core.scheduling.check import check
from headrace.core.scheduling.plan import PlanLimits, again_ms, plan
from headrace.core.scheduling.proposal import Plan, ProposedPlacement
from headrace.core.world import World
from headrace.journal.checkpoint import encode_checkpoint, fold, load, without_collection
from headrace.journal.codec import Group
from headrace.journal.sqlite import SqliteStore
from headrace.policy.engine import policies
from headrace.ports import Clock

_LENGTH = struct.Struct(">I")
RANKS_AT_ONCE = 250
"""Ranks that are adopted before somebody else has a turn: less than ten milliseconds."""
HEARD_AT_ONCE = 1 << 17
"""So many bytes of messages are decoded before somebody else has a turn: about a millisecond."""
IDLE_S = 1.0
"""Without news the planner looks this often whether time alone changes its plan: back-offs end."""
AGAIN_MS = 60_000
"""At least this often it plans anew: days begin."""
CHECKPOINT_EVERY = 50_000
"""Events between two checkpoints: a restart replays at most so many, in about a second."""
CHECK_AT_MOST = 2_000
"""Plans above so many placements are checked by ``headrace check``, not here."""


@dataclass(frozen=True, slots=True)
class ToPlanner:
    """The journal holds ``size`` events; it is ``now_ms`` by journal time.

    ``adopting``: a plan is being adopted; what is not yet adopted of it would only be proposed again.
    """

    size: int
    now_ms: int
    adopting: bool = False


@dataclass(frozen=True, slots=True)
class FromPlanner:
    """A plan, findings of the independent check as (promise, subject, detail), or a checkpoint's path and size to sign.

    A plan comes in parts; ``more`` of it follow.
    """

    plan: Plan | None = None
    more: bool = False
    checkpoint: tuple[str, int] | None = None
    alarms: tuple[tuple[int, str, str], ...] = ()


_encode = msgspec.json.Encoder().encode
_decode_to = msgspec.json.Decoder(ToPlanner).decode
_decode_from = msgspec.json.Decoder(FromPlanner).decode


class Follower:
    """A world that follows a store: the same events, folded again and verified. It never writes to the store."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        loaded = load(store, None, policies())
        self.world, self.chain = loaded.world, loaded.chain
        self.checkpointed = self.chain.size - loaded.replayed
        self._unverified: list[Group] = []

    @property
    def size(self) -> int:
        """Events that its world has."""
        return self.world.state.version

    def catch_up(self, size: int) -> None:
        """Apply what was committed since; :meth:`verify` it before anything rests on it but a proposal."""
        if size > self.size:
            self._unverified += fold(self.store, self.world)

    def verify(self) -> None:
        """Check the leaves and links of what was applied; raises JournalCorrupt."""
        groups, self._unverified = self._unverified, []
        for group in groups:
            self.chain.verify(group)

    def write_checkpoint(self) -> tuple[str, int]:
        """Write a checkpoint for the control plane to sign; its path and how many events it covers."""
        self.verify()
        self.checkpointed = self.chain.size
        folder = self.store.checkpoint_folder
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"unsigned-{self.chain.size}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode_checkpoint(self.world.state, self.chain))
        return str(path), self.chain.size


def serve(path: Path, link: socket.socket, limits: PlanLimits) -> None:
    """Plan until the control plane closes the link."""
    follower = Follower(SqliteStore(path, readonly=True))
    # What the world is made of lives as long as it does: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 200)
    reader = _Reader(link)
    planned, now_ms, due_ms, adopting = -1, 0, 0, False
    while True:
        news = reader.newest(IDLE_S)
        if reader.closed:
            return
        if news is not None:
            now_ms, adopting = news.now_ms, news.adopting
            follower.catch_up(news.size)
        elif planned < 0:
            continue
        else:
            now_ms += int(IDLE_S * 1000)
        if not adopting and (follower.size != planned or now_ms >= due_ms):
            planned = follower.size
            due_ms = _propose(follower.world, now_ms, link, limits)
        # Only now: whoever waits for the plan need not wait for it, and what is proposed is judged once more.
        follower.verify()
        if follower.size - follower.checkpointed >= CHECKPOINT_EVERY:
            send(link, _encode(FromPlanner(checkpoint=follower.write_checkpoint())))


def _propose(world: World, now_ms: int, link: socket.socket, limits: PlanLimits) -> int:
    """Plan once; when to plan again, if nothing happens before."""
    if not world.queue and not world.windows:
        return now_ms + AGAIN_MS
    snapshot = world.snapshot(max(now_ms, world.state.last_ms))
    with without_collection():
        proposed = plan(snapshot, limits)
    due_ms = min(again_ms(snapshot, limits, proposed) or now_ms + AGAIN_MS, now_ms + AGAIN_MS)
    if not proposed.placements and not proposed.evictions:
        return due_ms
    parts = list(parts_of(proposed))
    for number, part in enumerate(parts, 1):
        send(link, _encode(FromPlanner(part, number < len(parts))))
    if len(proposed.placements) <= CHECK_AT_MOST:
        found = tuple((one.promise, one.subject, one.detail) for one in check(snapshot, proposed))
        if found:
            send(link, _encode(FromPlanner(alarms=found)))
    # What the writer turns down shows in no event: it is proposed again, but not at once, since it may be turned down again.
    return now_ms + int(IDLE_S * 1000)


def parts_of(proposed: Plan) -> Iterator[Plan]:
    """A plan in parts that are adopted in a few milliseconds each: evictions first, then placements in order."""
    evictions, placements, ranks = proposed.evictions, list[ProposedPlacement](), 0
    while len(evictions) > RANKS_AT_ONCE:
        yield Plan(proposed.base_version, (), evictions[:RANKS_AT_ONCE])
        evictions = evictions[RANKS_AT_ONCE:]
    for placement in proposed.placements:
        if placements and ranks + len(placement.ranks) > RANKS_AT_ONCE:
            yield Plan(proposed.base_version, tuple(placements), evictions)
            evictions, placements, ranks = (), [], 0
        placements.append(placement)
        ranks += len(placement.ranks)
    if placements or evictions:
        yield Plan(proposed.base_version, tuple(placements), evictions)


class _Reader:
    """Reads messages and keeps the newest: a planner that was busy skips to now."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.closed = False
        self._buffer = b""

    def newest(self, timeout_s: float) -> ToPlanner | None:
        found = None
        while True:
            ready, _, _ = select.select([self.link], [], [], 0 if found else timeout_s)
            if not ready:
                return found
            data = self.link.recv(1 << 16)
            if not data:
                self.closed = True
                return None
            self._buffer += data
            for message in self._messages():
                found = _decode_to(message)

    def _messages(self) -> Iterator[bytes]:
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if len(self._buffer) < _LENGTH.size + length:
                return
            yield self._buffer[_LENGTH.size : _LENGTH.size + length]
            self._buffer = self._buffer[_LENGTH.size + length :]


def send(link: socket.socket, message: bytes) -> None:
    """Send one message."""
    link.sendall(_LENGTH.pack(len(message)) + message)


class PlannerProcess:
    """The control plane's end: starts the process, tells it of commits, hands out its messages, starts it again."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.restarts = 0
        self._buffer = b""
        self.link, self.process = self._launch()

    def start(self) -> None:
        """Start the process again, after its death."""
        self.restarts += 1
        self._buffer = b""
        self.link.close()
        self.link, self.process = self._launch()

    def _launch(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "headrace.planner", str(self.path), str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        ours.setblocking(False)
        return ours, process

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def tell(self, size: int, now_ms: int, *, adopting: bool = False) -> bool:
        """Something was committed; whether it could be said. One message says it all: of several the last is enough."""
        message = _encode(ToPlanner(size, now_ms, adopting))
        try:
            self.link.send(_LENGTH.pack(len(message)) + message)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False
        return True

    def messages(self) -> list[FromPlanner]:
        """What the planner said since the last call, or the first of it if that is much: then the link stays readable."""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            self._buffer += self.link.recv(HEARD_AT_ONCE)
        found = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if len(self._buffer) < _LENGTH.size + length:
                break
            found.append(_decode_from(self._buffer[_LENGTH.size : _LENGTH.size + length]))
            self._buffer = self._buffer[_LENGTH.size + length :]
        return found

    def stop(self) -> None:
        """End the process."""
        self.link.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> None:
    """Entry of the process: the store's path and the link's descriptor."""
    # Ctrl-C goes to all processes of the terminal; the control plane closes the link, and that is the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    path, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    # The control plane keeps the other processor: planning is the work that can wait.
    os.nice(5)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        # The control plane is gone in the middle of a message: what it did not hear, the next one plans anew.
        serve(path, socket.socket(fileno=descriptor), PlanLimits())


if __name__ == "__main__":
    main()
