"""How an event becomes bytes, how those bytes are chained, and how a chain is checked.

One commit group holds its events' headers and bodies, each concatenated, and a signed head. All integers big-endian.

    header  = version u8 | streams u8 | kind u16 | kind version u16 | 0 u16 | seq u64 | at_ms u64 | actor u64 | request 16
              then for each stream: id 16 | sequence u64 | previous leaf 32
    body    = salt 16 | length u32 | payload (JSON)
    leaf    = SHA-256(0x00 ‖ header ‖ SHA-256(salt ‖ payload))

A stream's id is the first 16 bytes of SHA-256("tenant:NAME" | "site:NAME" | "operator"): a header tells nobody's name.
The salt keeps a payload from being guessed from its leaf.
"""

import base64
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import msgspec

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.events import KIND_OF, KINDS, UPCASTS, VERSIONS, Committed, Event
from headrace.journal.merkle import Frontier

FORMAT = 1
SALT_BYTES = 16
NO_REQUEST = bytes(16)
NO_LEAF = bytes(32)

_HEADER = struct.Struct(">BBHHHQQQ16s")
_STREAM = struct.Struct(">16sQ32s")
_BODY = struct.Struct(">16sI")
_HEAD = struct.Struct(">QQ32s")
_HEAD_CONTEXT = b"headrace journal head 1\x00"

_encode = msgspec.json.Encoder().encode
_decoders: dict[int, Callable[[bytes], Event]] = {
    kind: msgspec.json.Decoder(event).decode for kind, event in KINDS.items()
}
_raw_decode = msgspec.json.Decoder(dict).decode


class JournalCorrupt(HeadraceError):
    """The journal is not what was committed; the message says where."""

    def __init__(self, seq: int, what: str) -> None:
        step = "Restore a backup; the state up to the event before it can be trusted."
        super().__init__(Problem(ProblemCode.BROKEN, f"journal is damaged at event {seq}: {what}.", step))
        self.seq = seq
        self._what = what

    def __reduce__(self) -> tuple[type["JournalCorrupt"], tuple[int, str]]:
        """So that it survives the way from a verifying worker."""
        return JournalCorrupt, (self.seq, self._what)


class Draft(NamedTuple):
    """An event on its way into the journal, with the names of the streams that it concerns."""

    event: Event
    at_ms: int
    streams: tuple[str, ...]
    request: bytes = b""
    actor: int = 0


def signed_bytes(size: int, at_ms: int, root: bytes) -> bytes:
    """What a head's signature is over."""
    return _HEAD_CONTEXT + _HEAD.pack(size, at_ms, root)


@dataclass(frozen=True, slots=True)
class Head:
    """A signed Merkle head: the tree's size and root at a time. Whoever holds one can't be shown another past."""

    size: int
    at_ms: int
    root: bytes
    signature: bytes

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return signed_bytes(self.size, self.at_ms, self.root)

    def as_json(self) -> dict[str, str | int]:
        """The form that goes out with an acknowledgement (base64)."""
        return {
            "size": self.size,
            "at_ms": self.at_ms,
            "root": base64.b64encode(self.root).decode(),
            "signature": base64.b64encode(self.signature).decode(),
        }


@dataclass(frozen=True, slots=True)
class Group:
    """One commit: ``count`` events from ``first`` on, as bytes, and the head that includes them."""

    first: int
    count: int
    headers: bytes
    bodies: bytes
    head: Head


@lru_cache(maxsize=65_536)
def stream_id(name: str) -> bytes:
    """A stream's id in headers."""
    return sha256(name.encode()).digest()[:16]


class Chain:
    """What the next event is chained to: the number of events, each stream's last leaf, the tree's edge."""

    __slots__ = ("frontier", "streams")

    def __init__(
        self, frontier: Frontier | None = None, streams: Mapping[bytes, tuple[int, bytes]] | None = None
    ) -> None:
        self.frontier = frontier or Frontier()
        self.streams = dict(streams or {})

    @property
    def size(self) -> int:
        """Events so far."""
        return self.frontier.size

    def seal(self, drafts: Sequence[Draft], salts: bytes) -> tuple[bytes, bytes]:
        """Chain events: their headers and bodies as bytes. ``salts`` has 16 random bytes for each.

        The chain moves on: after a failed commit it is to be thrown away, as the world is.
        """
        headers: list[bytes] = []
        bodies: list[bytes] = []
        streams, frontier = self.streams, self.frontier
        seq = frontier.size
        for index, draft in enumerate(drafts):
            kind = KIND_OF[type(draft.event)]
            payload = _encode(draft.event)
            salt = salts[index * SALT_BYTES : (index + 1) * SALT_BYTES]
            header = _HEADER.pack(
                FORMAT, len(draft.streams), kind, VERSIONS[kind], 0, seq, draft.at_ms, draft.actor,
                draft.request or NO_REQUEST,
            )  # fmt: skip
            for name in draft.streams:
                ident = stream_id(name)
                number, previous = streams.get(ident, (0, NO_LEAF))
                header += _STREAM.pack(ident, number, previous)
            leaf = sha256(b"\x00" + header + sha256(salt + payload).digest()).digest()
            for name in draft.streams:
                ident = stream_id(name)
                streams[ident] = (streams.get(ident, (0, NO_LEAF))[0] + 1, leaf)
            frontier.append(leaf)
            headers.append(header)
            bodies.append(_BODY.pack(salt, len(payload)))
            bodies.append(payload)
            seq += 1
        return b"".join(headers), b"".join(bodies)

    def verify(self, group: Group) -> None:
        """Check a group's leaves, links and root against this chain, and move on; raises JournalCorrupt.

        The head's signature is the caller's to check: it has the key.
        """
        if group.first != self.size:
            raise JournalCorrupt(self.size, f"the next group starts at event {group.first}")
        frontier = self.frontier
        frontier.extend(self.check_links(group))
        if frontier.size != group.first + group.count or group.head.size != frontier.size:
            raise JournalCorrupt(
                frontier.size, f"its group says {group.count} events, head {group.head.size}"
            )
        if frontier.root() != group.head.root:
            raise JournalCorrupt(group.first, "the Merkle root of its group is another")

    def check_links(self, group: Group, first: dict[bytes, tuple[int, bytes]] | None = None) -> list[bytes]:
        """A group's leaves, after checking its events' numbers and links; moves this chain's streams on, not its tree.

        With ``first``, a stream that this chain does not know may start anywhere: where it does is put there.
        """
        streams, seq = self.streams, group.first
        leaves: list[bytes] = []
        for fixed, links, salt, payload in _entries(group):
            if int.from_bytes(fixed[8:16]) != seq:
                raise JournalCorrupt(seq, "its header has another number")
            leaf = sha256(b"\x00" + fixed + links + sha256(salt + payload).digest()).digest()
            for at in range(0, len(links), 56):
                ident = links[at : at + 16]
                number, previous = int.from_bytes(links[at + 16 : at + 24]), links[at + 24 : at + 56]
                known = streams.get(ident)
                if known is None and first is not None:
                    first[ident] = (number, previous)
                elif (number, previous) != (known or (0, NO_LEAF)):
                    raise JournalCorrupt(seq, "it does not follow the last event of its stream")
                streams[ident] = (number + 1, leaf)
            leaves.append(leaf)
            seq += 1
        return leaves


def _entries(group: Group) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Fixed header, stream links, salt and payload of each event; raises JournalCorrupt where bytes are missing."""
    headers, bodies = group.headers, group.bodies
    at, offset, seq = 0, 0, group.first
    unpack = _BODY.unpack_from
    try:
        while at < len(headers):
            end = at + 48 + 56 * headers[at + 1]
            salt, length = unpack(bodies, offset)
            offset += 20 + length
            if headers[at] != FORMAT or end > len(headers) or offset > len(bodies):
                raise JournalCorrupt(seq, "its bytes are cut or of another format")
            yield headers[at : at + 48], headers[at + 48 : end], salt, bodies[offset - length : offset]
            at = end
            seq += 1
    except (struct.error, IndexError):
        raise JournalCorrupt(seq, "its bytes are cut") from None
    if offset != len(bodies):
        raise JournalCorrupt(seq, "bytes follow its group's last body")


def decode(group: Group, start: int = 0) -> Iterator[Committed]:
    """The events of a group from sequence ``start`` on, upcast to their newest version."""
    unpack = _HEADER.unpack
    for fixed, _, _, payload in _entries(group):
        _, _, kind, version, _, seq, at_ms, actor, request = unpack(fixed)
        if seq < start:
            continue
        yield Committed(
            seq, at_ms, _event(seq, kind, version, payload), b"" if request == NO_REQUEST else request, actor
        )


def _event(seq: int, kind: int, version: int, payload: bytes) -> Event:
    if kind not in KINDS or version > VERSIONS[kind]:
        raise JournalCorrupt(seq, f"its kind {kind} version {version} is unknown: a newer headrace wrote it")
    try:
        if version == VERSIONS[kind]:
            event: Event = _decoders[kind](payload)
            return event
        data = _raw_decode(payload)
        while version < VERSIONS[kind]:
            data = UPCASTS[kind, version](data)
            version += 1
        converted: Event = msgspec.convert(data, KINDS[kind])
        return converted
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(seq, f"its payload does not decode ({error})") from None
