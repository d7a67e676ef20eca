"""The form of an evidence pack: its lines, the closing, the seal, and what is kept of one. Field by field: RFD 20.

A pack is lines. The first has the format and what was asked for; then come the leaves of the journal's Merkle tree, from first
to last, as ``event``, ``header`` or ``gap``; then ``text``, ``closing``, ``seal``. The seal is over all before it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from headrace.evidence.closing import CLOSING, LONGEST_CLOSING
from headrace.journal.codec import Group

FORMAT = b"headrace evidence pack 1 "
CONTEXT = b"headrace evidence pack 1\x00"
KEPT = "headrace evidence checkpoint 1"
NO_PACK = bytes(32)
"""In the place of a pack's digest, where a checkpoint is of none."""
FIXED, LINK = 48, 56
"""Bytes of a header before its links, and of each of these."""
WITHHELD = frozenset({13, 17, 18})
"""Kinds of event (`PlacementEnded`, `EvictionRequested`, `WorkloadRequeued`) whose text may name somebody else's. They rest on
no verdict of their own; every other event of the tenant's is shown whole."""
_PIECE_EVENTS, _PIECE_BYTES = 20_000, 1 << 24

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pack: of the journal at ``path``, its first ``size`` events; of ``tenant``, what happened from ``from_ms`` to
    before ``to_ms``. ``checkpoints``: sizes of the journal that it is to be compared at.
    """

    path: str
    size: int
    tenant: str
    from_ms: int
    to_ms: int
    checkpoints: tuple[int, ...] = ()


@dataclass(slots=True)
class Kept:
    """What somebody kept outside of the journal: a head, and, of a pack, how many events the tenant's stream had."""

    size: int
    at_ms: int
    root: bytes
    tenant: str = ""
    count: int = 0
    leaf: str = ""


@dataclass(slots=True)
class Figures:
    """What a pack closes with: events and decisions in its time, and how many of the events are withheld."""

    events: int = 0
    decisions: int = 0
    withheld: int = 0
    count: int = 0
    leaf: bytes = field(default=bytes(32))


def canonical(value: Any) -> bytes:
    """The one way in which a pack writes JSON: sorted keys, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def stream_of(tenant: str) -> bytes:
    """The id of a tenant's stream in headers."""
    return sha256(f"tenant:{tenant}".encode()).digest()[:16]


class Groups(Protocol):
    """Whatever has commit groups: a store."""

    def groups(self, first: int = 0) -> Iterator[Group]:
        """Those from the one that holds event ``first`` on, in order."""
        ...


def pieces(store: Groups, size: int) -> Iterator[list[Group]]:
    """The groups of the first ``size`` events, some at a time, each by a short reading of its own.

    A reading that stays open would keep the writer from emptying SQLite's log, which it does before it goes on after an erasure.
    """
    first = 0
    while first < size and (found := _piece(store, first, size)):
        first = found[-1].first + found[-1].count
        yield found


def _piece(store: Groups, first: int, size: int) -> list[Group]:
    # The reading ends with this function: nothing else holds it.
    found, read = [], 0
    for group in store.groups(first):
        found.append(group)
        end, read = group.first + group.count, read + len(group.headers) + len(group.bodies)
        if end >= size or read >= _PIECE_BYTES or end - first >= _PIECE_EVENTS:
            break
    return found


class Sealer:
    """Passes a pack on as it comes, and closes it with the seal."""

    def __init__(self, sign: Sign) -> None:
        self._sign, self._digest, self._held = sign, sha256(), b""

    def feed(self, data: bytes) -> bytes:
        """What may be passed on now; the last bytes are held back, since they may be the closing."""
        held = self._held + data
        out, self._held = held[:-LONGEST_CLOSING], held[-LONGEST_CLOSING:]
        self._digest.update(out)
        return out

    def end(self) -> bytes:
        """The rest, with the seal. Raises ValueError when no closing came."""
        body, mark, closing = self._held.rpartition(b"\n" + CLOSING)
        if not mark or not closing.endswith(b"\n"):
            raise ValueError("the pack has no closing")
        self._digest.update(body + b"\n")
        message = seal_message(self._digest.digest(), closing[:-1])
        return self._held + b"seal " + self._sign(message).hex().encode() + b"\n"


def seal_message(digest: bytes, closing: bytes) -> bytes:
    """What a seal is over: the SHA-256 of all lines before the closing, and the closing."""
    return CONTEXT + digest + CLOSING + closing + b"\n"


def kept_of(body: str, closing: dict[str, Any], signature: str) -> bytes:
    """The file that is kept of a pack: enough to compare a later one with, and to show who signed it."""
    kept = {"format": KEPT, "pack": body, "closing": closing, "signature": signature}
    return json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
