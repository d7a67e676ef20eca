"""Checkpoints: the state after some events, signed by digest. A restart is the newest good one, plus the tail."""

from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from headrace.core.apply import apply
from headrace.core.authority import PolicyEngine
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.world import State, World

from .codec import Chain, Head, decode
from .keys import Keys, is_signed
from .merkle import Frontier
from .sqlite import SqliteStore

CHECKPOINT_FORMAT = 1


@dataclass(slots=True)
class Checkpoint:
    """The canonical state with the chain that the next event hangs on."""

    format: int
    size: int
    peaks: list[bytes]
    streams: dict[bytes, tuple[int, bytes]]
    state: State = field(default_factory=State)


@dataclass(slots=True)
class Loaded:
    """A world as the store has it, the chain to go on with, and the newest head."""

    world: World
    chain: Chain
    head: Head | None
    replayed: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Checkpoint).decode


def encode_checkpoint(state: State, chain: Chain) -> bytes:
    """A checkpoint's bytes; ``state`` and ``chain`` must be at the same event."""
    frontier = chain.frontier
    return _encode(Checkpoint(CHECKPOINT_FORMAT, frontier.size, frontier.peaks, chain.streams, state))


def save(store: SqliteStore, keys: Keys, state: State, chain: Chain) -> int:
    """Write a checkpoint; returns the number of events that it covers."""
    data = encode_checkpoint(state, chain)
    digest = sha256(data).digest()
    store.save_checkpoint(chain.size, digest, keys.sign_checkpoint(digest), data)
    return chain.size


def load(store: SqliteStore, keys: Keys, policies: PolicyEngine | None = None) -> Loaded:
    """The world from the newest checkpoint that this operator signed, plus the tail, verified; from genesis without one."""
    for size, digest, signature, data in store.checkpoints():
        if size <= store.size() and sha256(data).digest() == digest and keys.is_checkpoint(digest, signature):
            try:
                found = _decode(data)
            except msgspec.MsgspecError:
                continue  # Written by another version: the tail from an older one, or all of it, gives the same world.
            if found.format == CHECKPOINT_FORMAT and found.size == size:
                chain = Chain(Frontier(found.size, found.peaks), found.streams)
                return follow(store, keys.public, World(found.state, policies), chain)
    return follow(store, keys.public, World(None, policies), Chain())


def follow(store: SqliteStore, public: bytes, world: World, chain: Chain) -> Loaded:
    """Bring a world up to the store's end: verify each group, its signature too, and apply its events."""
    head, before = None, world.state.version
    for group in store.groups(chain.size):
        if group.first < chain.size:
            continue
        chain.verify(group)
        head = group.head
        for committed in decode(group):
            apply(world, committed)
    if head is not None and not is_signed(public, head.signed_bytes(), head.signature):
        step = "Put the operator's own keys back, or restore a backup."
        raise HeadraceError(Problem(ProblemCode.BROKEN, f"the head of {head.size} events is not signed by this key.", step))
    return Loaded(world, chain, head, world.state.version - before)
