"""Write an evidence pack: the leaves of the journal's tree in order, the tenant's shown, all others folded; in bounded memory.

It reads the store as it lies and asks nobody; it runs in a process of its own, so that who serves is not held up, and leaves the
seal to who has the key. ``python -m headrace.evidence.pack_export`` makes what standard input asks for.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.evidence.closing import CLOSING
from headrace.evidence.pack import (
    FIXED,
    FORMAT,
    LINK,
    WITHHELD,
    Figures,
    Groups,
    Sealer,
    Sign,
    Wanted,
    canonical,
    pieces,
    stream_of,
)
from headrace.evidence.pack_select import Selection, select
from headrace.journal.codec import Group
from headrace.journal.merkle import Frontier
from headrace.journal.sqlite import SqliteStore

Write = Callable[[bytes], object]

_NICE = 5
_FLUSH = 1 << 20


class _Text(msgspec.Struct):
    """The words of the operator's, or an engine's, in an event."""

    detail: str = ""
    reason: str = ""


_text = msgspec.json.Decoder(_Text).decode


class Folded:
    """A run of leaves that are not shown, as the roots of the largest subtrees that lie within it, from left to right."""

    __slots__ = ("begin", "end", "nodes")

    def __init__(self, begin: int = 0) -> None:
        self.begin = self.end = begin
        self.nodes: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """One leaf more."""
        place, begin, height = self.end, self.begin, 0
        nodes = self.nodes
        self.end = place + 1
        while place & 1 and (place - 1) << height >= begin:
            leaf = sha256(b"\x01" + nodes.pop() + leaf).digest()
            place >>= 1
            height += 1
        nodes.append(leaf)

    def heights(self) -> Iterator[tuple[bytes, int]]:
        """Each subtree's root with its height."""
        at = self.begin
        for node in self.nodes:
            height = (self.end - at).bit_length() - 1
            if at:
                height = min(height, (at & -at).bit_length() - 1)
            yield node, height
            at += 1 << height


class Edge(Frontier):
    """The right edge of the tree that the lines written so far make."""

    __slots__ = ()

    def fold(self, folded: Folded) -> None:
        """Add a run of leaves."""
        for node, height in folded.heights():
            place, peaks = self.size >> height, self.peaks
            found = node
            while place & 1:
                found = sha256(b"\x01" + peaks.pop() + found).digest()
                place >>= 1
            peaks.append(found)
            self.size += 1 << height


class Exporter:
    """Writes the leaves of one journal."""

    def __init__(self, wanted: Wanted, chosen: Selection, write: Write) -> None:
        self.wanted, self.chosen, self._write = wanted, chosen, write
        self.stream = stream_of(wanted.tenant)
        self.figures = Figures(decisions=chosen.decisions)
        self._edge, self._folded = Edge(), Folded()
        self._lines: list[bytes] = []
        self._pending = 0
        self._marks = chosen.whole | chosen.headers
        self._cuts = set(wanted.checkpoints)

    def line(self, *words: bytes) -> None:
        """Write a line."""
        line = b" ".join(words) + b"\n"
        self._lines.append(line)
        self._pending += len(line)
        if self._pending >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self._write(b"".join(self._lines))
        self._lines.clear()
        self._pending = 0

    def cut(self) -> None:
        """End the run of leaves that are not shown, if there is one."""
        folded = self._folded
        if folded.nodes:
            self._edge.fold(folded)
            self.line(b"gap", b"%d" % folded.end, *(node.hex().encode() for node in folded.nodes))
        self._folded = Folded(self._edge.size)

    def group(self, group: Group) -> None:
        """A commit group: each leaf is shown or folded. After a group with the tenant's own is a cut: it may hold its head."""
        before = self.figures.events
        is_own_here, end = self.stream in group.headers, group.first + group.count
        is_plain = not is_own_here and self._marks.isdisjoint(range(group.first, end))
        is_plain = is_plain and self._cuts.isdisjoint(range(group.first + 1, end))
        for seq, (header, salt, payload) in enumerate(_entries(group), group.first):
            body = sha256(salt + payload).digest()
            leaf = sha256(b"\x00" + header + body).digest()
            if is_plain or not self._show(seq, header, salt, body, payload, leaf):
                self._folded.add(leaf)
            if seq + 1 in self._cuts:
                self.cut()
        if self.figures.events > before:
            self.cut()

    def _show(self, seq: int, header: bytes, salt: bytes, body: bytes, payload: bytes, leaf: bytes) -> bool:
        at_ms = int.from_bytes(header[16:24])
        place = next((at for at in range(FIXED, len(header), LINK) if header.startswith(self.stream, at)), 0)
        is_in = bool(place) and self.wanted.from_ms <= at_ms < self.wanted.to_ms
        if not is_in and seq not in self._marks:
            return False
        self.cut()
        is_whole = (is_in and not self._names_others(header, payload)) or seq in self.chosen.whole
        if is_whole:
            self.line(b"event", header.hex().encode(), salt.hex().encode(), payload)
        else:
            self.line(b"header", header.hex().encode(), body.hex().encode())
        self._edge.append(leaf)
        self._folded = Folded(self._edge.size)
        figures = self.figures
        figures.events += is_in
        figures.withheld += is_in and not is_whole
        if place:
            figures.count, figures.leaf = int.from_bytes(header[place + 16 : place + 24]) + 1, leaf
        return True

    def _names_others(self, header: bytes, payload: bytes) -> bool:
        """Whether an event's free text names another tenant, or something of one, like ``acme-12``."""
        if int.from_bytes(header[2:4]) not in WITHHELD or not self.chosen.others:
            return False
        said = _text(payload)
        words = "".join(
            one if one.isalnum() or one == "-" else " " for one in f"{said.detail} {said.reason}"
        ).split()
        return any(
            word in self.chosen.others or word.rpartition("-")[0] in self.chosen.others for word in words
        )

    def texts(self) -> None:
        """Policies and facts, by digest."""
        for digest, (text, seq) in self.chosen.texts.items():
            self.line(b"text", digest.encode(), b"-" if seq is None else b"%d" % seq, text)

    def close(self, key: str) -> None:
        """The closing; raises HeadraceError when the journal is not what its head says."""
        self.cut()
        head, figures = self.chosen.head, self.figures
        if self._edge.size != head.size or self._edge.root() != head.root:
            step = "Run 'headrace journal verify': it says where."
            raise HeadraceError(
                Problem(ProblemCode.BROKEN, "the journal is damaged: its root is another.", step)
            )
        self.texts()
        closing = asked(self.wanted) | {
            "journal": self.chosen.journal,
            "key": key,
            "head": head.as_json(),
            "count": figures.count,
            "leaf": figures.leaf.hex(),
            "events": figures.events,
            "decisions": figures.decisions,
            "withheld": figures.withheld,
        }
        self.line(CLOSING[:-1], canonical(closing))
        self.flush()


def asked(wanted: Wanted) -> dict[str, str | int]:
    """What a pack's first line says was asked for."""
    return {"tenant": wanted.tenant, "from_ms": wanted.from_ms, "to_ms": wanted.to_ms}


def _entries(group: Group) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Header, salt and payload of each event."""
    headers, bodies = group.headers, group.bodies
    at = offset = 0
    while at < len(headers):
        end = at + FIXED + LINK * headers[at + 1]
        following = offset + 20 + int.from_bytes(bodies[offset + 16 : offset + 20])
        yield headers[at:end], bodies[offset : offset + 16], bodies[offset + 20 : following]
        at, offset = end, following


def export(wanted: Wanted, key: str, write: Write) -> Figures:
    """Write a pack without its seal; ``key``: the operator's public key in hexadecimal.

    Raises HeadraceError, before anything is written, for a tenant or a checkpoint that the journal has not.
    """
    check(wanted)
    store = SqliteStore(Path(wanted.path), readonly=True)
    try:
        return export_from(store, wanted, key, write)
    finally:
        store.close()


def export_from(store: Groups, wanted: Wanted, key: str, write: Write) -> Figures:
    """The same from a store that is open."""
    exporter = Exporter(wanted, select(store, wanted), write)
    exporter.line(FORMAT[:-1], canonical(asked(wanted)))
    for piece in pieces(store, wanted.size):
        for group in piece:
            exporter.group(group)
    exporter.close(key)
    return exporter.figures


def check(wanted: Wanted) -> None:
    """Raises HeadraceError for a time that is none, and for a checkpoint of a longer journal than there is."""
    if wanted.from_ms >= wanted.to_ms:
        text = "the time that was asked for ends before it begins;"
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, "give a --to after --from.", "query.to"))
    for size in wanted.checkpoints:
        if size > wanted.size:
            text = f"the checkpoint is of {size} events, and the journal has {wanted.size}: it is another one, or was cut."
            step = "Ask the operator for the journal that the checkpoint is of."
            raise HeadraceError(Problem(ProblemCode.CONFLICT, text, step, "query.checkpoint"))


def export_sealed(wanted: Wanted, key: bytes, sign: Sign, write: Write) -> Figures:
    """The same with its seal, in this process; ``key``: the public key that goes with ``sign``."""
    sealer = Sealer(sign)
    figures = export(wanted, key.hex(), lambda data: write(sealer.feed(data)))
    write(sealer.end())
    return figures


class _Request(msgspec.Struct):
    """What a process is asked for."""

    wanted: Wanted
    key: str


def command(wanted: Wanted, key: str) -> tuple[Sequence[str], bytes]:
    """The process that exports, and its input; what is wrong stands on its standard error."""
    return [sys.executable, "-P", "-m", "headrace.evidence.pack_export"], msgspec.json.encode(
        _Request(wanted, key)
    )


def main() -> int:
    """Make what standard input asks for."""
    os.nice(_NICE)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    out = sys.stdout.buffer
    try:
        export(request.wanted, request.key, out.write)
    except HeadraceError as error:
        sys.stderr.write("".join(f"{one.line()}\n" for one in error.problems))
        return 1
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
