"""Proofs that an event is in the journal, made from the store's bytes as :mod:`headrace.journal.codec` lays them out."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from headrace.journal.codec import Group, stream_id
from headrace.journal.merkle import inclusion_proof
from headrace.journal.sqlite import SqliteStore

_FIXED, _LINK, _HASH = 48, 56, 32
_BODY = struct.Struct(">16sI")


@dataclass(frozen=True, slots=True)
class Entry:
    """An event's bytes."""

    header: bytes
    salt: bytes
    payload: bytes

    @property
    def leaf(self) -> bytes:
        """Its leaf in the Merkle tree."""
        return sha256(b"\x00" + self.header + sha256(self.salt + self.payload).digest()).digest()

    def concerns(self, stream: str) -> bool:
        """Whether the event is of a stream, like ``tenant:acme``."""
        ident = stream_id(stream)
        links = range(_FIXED, len(self.header), _LINK)
        return any(self.header[at : at + len(ident)] == ident for at in links)


def entries(group: Group) -> Iterator[Entry]:
    """The events of a commit group, in order."""
    at = offset = 0
    while at < len(group.headers):
        end = at + _FIXED + _LINK * group.headers[at + 1]
        salt, length = _BODY.unpack_from(group.bodies, offset)
        offset += _BODY.size + length
        yield Entry(group.headers[at:end], salt, group.bodies[offset - length : offset])
        at = end


class Leaves:
    """The leaves of the journal's tree, 32 bytes each, read on as the journal grows."""

    def __init__(self) -> None:
        self._hashes = bytearray()

    def extend(self, store: SqliteStore, size: int) -> None:
        """Read leaves until there are at least ``size``."""
        known = len(self._hashes) // _HASH
        if known >= size:
            return
        found = bytearray()
        for group in store.groups(known):
            for seq, entry in enumerate(entries(group), group.first):
                if seq >= known:
                    found += entry.leaf
        self._hashes += found

    def path(self, seq: int, size: int) -> list[bytes]:
        """The audit path of event ``seq`` in the tree of ``size`` events; raises ValueError outside of it."""
        hashes = self._hashes
        return inclusion_proof(lambda index: bytes(hashes[index * _HASH : (index + 1) * _HASH]), seq, size)


def entry_of(store: SqliteStore, seq: int) -> Entry | None:
    """The bytes of event ``seq``; None when the store has not so many."""
    for group in store.groups(seq):
        if group.first <= seq < group.first + group.count:
            return next(entry for number, entry in enumerate(entries(group), group.first) if number == seq)
        return None
    return None
