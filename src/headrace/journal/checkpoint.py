"""Checkpoints: the state after some events, signed by digest. A restart is the newest good one, plus the tail."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from headrace.core.apply import apply
from headrace.core.authority import PolicyEngine
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.state import State
from headrace.core.world import World
from headrace.journal.codec import Chain, Group, Head, decode
from headrace.journal.keys import Keys, is_signed
from headrace.journal.merkle import Frontier
from headrace.journal.sqlite import SqliteStore

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


# JSON, since quantities of an invoice may be larger than the 64 bits that MessagePack has.
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Checkpoint).decode


def encode_checkpoint(state: State, chain: Chain) -> bytes:
    """A checkpoint's bytes; ``state`` and ``chain`` must be at the same event."""
    frontier = chain.frontier
    return _encode(Checkpoint(CHECKPOINT_FORMAT, frontier.size, frontier.peaks, chain.streams, state))


def save(store: SqliteStore, keys: Keys, size: int, data: bytes) -> None:
    """Sign and keep a checkpoint of ``size`` events."""
    digest = sha256(data).digest()
    store.save_checkpoint(size, digest, keys.sign_checkpoint(digest), data)


def load(store: SqliteStore, keys: Keys | None, policies: PolicyEngine | None = None) -> Loaded:
    """The world from the newest checkpoint that this operator signed, plus the tail, verified; from genesis without one.

    Without ``keys`` no signature is checked: so does a follower, whose proposals are validated anyway.
    """
    with without_collection():
        return _load(store, keys, policies)


@contextmanager
def without_collection() -> Iterator[None]:
    """Build a large world without looking for cycles in it at every step: it has none, and the search doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(store: SqliteStore, keys: Keys | None, policies: PolicyEngine | None) -> Loaded:
    world, chain = World(None, policies), Chain()
    found = _newest(store, keys)
    if found is not None:
        world = World(found.state, policies)
        chain = Chain(Frontier(found.size, found.peaks), found.streams)
    before = world.state.version
    head = follow(store, world, chain)
    if (
        head is not None
        and keys is not None
        and not is_signed(keys.public, head.signed_bytes(), head.signature)
    ):
        step = "Put the operator's own keys back, or restore a backup."
        raise HeadraceError(
            Problem(ProblemCode.BROKEN, f"the head of {head.size} events is not signed by this key.", step)
        )
    return Loaded(world, chain, head, world.state.version - before)


def follow(store: SqliteStore, world: World, chain: Chain) -> Head | None:
    """Bring a world up to the store's end: verify each group's leaves and links, apply its events. The newest head, if any."""
    head = None
    for group in store.groups(chain.size):
        head = group.head
        if group.first < chain.size:
            continue
        chain.verify(group)
        for committed in decode(group):
            apply(world, committed)
    return head


def fold(store: SqliteStore, world: World) -> list[Group]:
    """Bring a world up to the store's end, by its events alone: the groups that it has now, for whoever verifies them."""
    found = []
    size = world.state.version
    for group in store.groups(size):
        if group.first >= size:
            for committed in decode(group):
                apply(world, committed)
            found.append(group)
    return found


def _newest(store: SqliteStore, keys: Keys | None) -> Checkpoint | None:
    """The newest checkpoint whose digest holds (and whose signature does, given keys); None to start from genesis."""
    for size, digest, signature, data in store.checkpoints():
        if sha256(data).digest() != digest or (
            keys is not None and not keys.is_checkpoint(digest, signature)
        ):
            continue
        if size > store.size():
            if keys is None:
                continue
            step = "Put the whole journal back: it was cut, and what it lost was acknowledged."
            message = f"the journal ends after {store.size()} events, but a checkpoint of {size} was signed."
            raise HeadraceError(Problem(ProblemCode.BROKEN, message, step))
        try:
            found = _decode(data)
        except msgspec.MsgspecError:
            continue  # Another version wrote it: an older one, or the whole journal, gives the same world.
        if found.format == CHECKPOINT_FORMAT and found.size == size:
            return found
    return None
