"""How the ranks of a gang meet and hand in what they found: JSON lines over TCP, to rank 0.

A follower says `{"hello": {"rank": 1, "task": "..."}}`; when all are there the leader answers `{"go": true}`.
At the end each says `{"result": {...}}` and is answered `{"done": true}`. A rank that goes away
closes its connection, so that the others end too, with the reason, and don't wait for ever.
"""

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO, Self

from headrace.payloads.place import Place

_LINE_BYTES = 1 << 20
_HELLO_S = 5.0
_RETRY_S = 0.1

Message = dict[str, Any]


class GangBrokenError(RuntimeError):
    """The ranks can't meet, or one of them went away."""


@dataclass(slots=True)
class Line:
    """One connection between two ranks."""

    peer: str
    link: socket.socket
    reader: BinaryIO = field(init=False)

    def __post_init__(self) -> None:
        self.reader = self.link.makefile("rb")

    def say(self, message: Message) -> None:
        """Send one message. Raises GangBrokenError."""
        try:
            self.link.sendall(json.dumps(message).encode() + b"\n")
        except OSError as broken:
            raise GangBrokenError(f"{self.peer} can't be reached any more: {broken}; see its log") from broken

    def hear(self, key: str, timeout_s: float) -> Any:
        """Wait for a message that has `key`; return what it says there. Raises GangBrokenError."""
        self.link.settimeout(timeout_s)
        try:
            text = self.reader.readline(_LINE_BYTES)
        except TimeoutError:
            raise GangBrokenError(
                f"{self.peer} said no {key!r} within {timeout_s:.0f} s; see its log"
            ) from None
        except OSError as broken:
            raise GangBrokenError(f"{self.peer} broke off before {key!r}: {broken}; see its log") from broken
        if not text:
            raise GangBrokenError(f"{self.peer} ended before it said {key!r}; see its log")
        message = _parse(text)
        if "error" in message:
            raise GangBrokenError(f"{self.peer} refused: {message['error']}")
        if key not in message:
            raise GangBrokenError(f"{self.peer} should have said {key!r}, but said {text[:80]!r}")
        return message[key]

    def close(self) -> None:
        """Hang up."""
        self.reader.close()
        self.link.close()


def _parse(text: bytes) -> Message:
    try:
        message = json.loads(text)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


@dataclass(slots=True)
class Gang:
    """The ranks that met. `lines` is by rank: the followers' for the leader, the leader's for a follower."""

    place: Place
    lines: dict[int, Line]

    def gather(self, result: Message, timeout_s: float) -> list[Message]:
        """Hand in this rank's result; on the leader return all of them by rank, elsewhere none.

        Each rank is waited for up to `timeout_s`. Raises GangBrokenError, naming the rank.
        """
        if not self.place.is_leader:
            self.lines[0].say({"result": result})
            self.lines[0].hear("done", timeout_s)
            return []
        results = {rank: line.hear("result", timeout_s) for rank, line in self.lines.items()}
        results[0] = result
        for line in self.lines.values():
            line.say({"done": True})
        return [results[rank] for rank in sorted(results)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _what: BaseException | None, _where: TracebackType | None
    ) -> None:
        for line in self.lines.values():
            line.close()


def meet(place: Place, task: str, *, timeout_s: float, say: Callable[[str], None]) -> Gang:
    """Wait until all ranks are there. `task` names what they are about to do, and must be the same for all.

    Raises GangBrokenError when that takes longer than `timeout_s`, naming who is missing.
    """
    if place.world_size == 1:
        return Gang(place, {})
    deadline_s = time.monotonic() + timeout_s
    if place.is_leader:
        return Gang(place, _receive(place, task, deadline_s, say))
    return Gang(place, {0: _join(place, task, deadline_s)})


def _receive(place: Place, task: str, deadline_s: float, say: Callable[[str], None]) -> dict[int, Line]:
    lines: dict[int, Line] = {}
    try:
        with _listen(place) as listener:
            while len(lines) < place.world_size - 1:
                link, address = _accept(listener, deadline_s, place, lines)
                line = Line(f"{address[0]}:{address[1]}", link)
                try:
                    rank = _admit(line, task, place, lines)
                except GangBrokenError as refused:
                    # Anybody can knock at a port: that must not end the gang.
                    say(f"turned away: {refused}")
                    line.close()
                    continue
                line.peer = f"rank {rank}"
                lines[rank] = line
        for line in lines.values():
            line.say({"go": True})
    except GangBrokenError:
        for line in lines.values():
            line.close()
        raise
    return lines


def _listen(place: Place) -> socket.socket:
    try:
        return socket.create_server((place.master_addr, place.master_port))
    except OSError as broken:
        raise GangBrokenError(
            f"rank 0 can't listen on MASTER_ADDR:MASTER_PORT {place.master_addr}:{place.master_port}: {broken}"
        ) from broken


def _accept(
    listener: socket.socket, deadline_s: float, place: Place, lines: dict[int, Line]
) -> tuple[socket.socket, tuple[str, int]]:
    listener.settimeout(max(deadline_s - time.monotonic(), 0.001))
    try:
        link, address = listener.accept()
    except TimeoutError:
        missing = [rank for rank in range(1, place.world_size) if rank not in lines]
        raise GangBrokenError(f"ranks {missing} of {place.world_size} did not come; see their logs") from None
    return link, address


def _admit(line: Line, task: str, place: Place, lines: dict[int, Line]) -> int:
    hello = line.hear("hello", _HELLO_S)
    rank, theirs = (hello.get("rank"), hello.get("task")) if isinstance(hello, dict) else (None, None)
    if not isinstance(rank, int) or not 0 < rank < place.world_size or rank in lines:
        raise _refusal(line, f"rank {rank!r} is not awaited in a gang of {place.world_size}")
    if theirs != task:
        raise _refusal(
            line, f"rank {rank} is about to do {theirs!r}, not {task!r}: give all ranks the same arguments"
        )
    return rank


def _refusal(line: Line, reason: str) -> GangBrokenError:
    line.say({"error": reason})
    return GangBrokenError(reason)


def _join(place: Place, task: str, deadline_s: float) -> Line:
    line = Line("rank 0", _connect(place, deadline_s))
    try:
        line.say({"hello": {"rank": place.rank, "task": task}})
        line.hear("go", max(deadline_s - time.monotonic(), 0.001))
    except GangBrokenError:
        line.close()
        raise
    return line


def _connect(place: Place, deadline_s: float) -> socket.socket:
    while True:
        left_s = deadline_s - time.monotonic()
        try:
            link = socket.create_connection(
                (place.master_addr, place.master_port), timeout=max(left_s, 0.001)
            )
            if link.getsockname() != link.getpeername():
                return link
            # Nobody listened, and the port that this end was given is the one it looked for: it met itself.
            link.close()
            raise ConnectionRefusedError("nobody listens there")
        except OSError as broken:
            # Rank 0 may start last.
            if left_s <= _RETRY_S:
                raise GangBrokenError(
                    f"rank 0 is not at {place.master_addr}:{place.master_port}: {broken}; see its log"
                ) from broken
            time.sleep(_RETRY_S)
