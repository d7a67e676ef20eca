"""Verify a whole journal, from genesis: leaves and links in worker processes, heads and (if asked) a replay here.

Workers take ranges of commit groups. Within a range they check every header's number, every leaf and every link between
events of one stream; what a range can't know, the state of each stream at its start, is compared here, range by
range. Roots need every leaf before them, so that they are computed here, from the leaves that the workers return.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from headrace.core.apply import apply
from headrace.core.world import World
from headrace.journal.checkpoint import without_collection
from headrace.journal.codec import Chain, Group, JournalCorrupt, decode
from headrace.journal.keys import is_signed
from headrace.journal.merkle import Frontier
from headrace.journal.sqlite import SqliteStore

RANGE_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class Verified:
    """What was verified: events, commit groups, whether every head's signature was, and the world if it was replayed."""

    events: int
    groups: int
    signatures: int
    world: World | None


@dataclass(frozen=True, slots=True)
class _Checked:
    """A range's leaves, concatenated, and for each stream its first (number, previous leaf) and last (number, leaf)."""

    leaves: bytes
    first: dict[bytes, tuple[int, bytes]]
    last: dict[bytes, tuple[int, bytes]]


def verify(path: Path, public: bytes | None, *, replay: bool = False, jobs: int = 2) -> Verified:
    """Verify the journal in the store at ``path``; raises JournalCorrupt at the first thing that is not as committed.

    ``public`` is the operator's key: given, every head's signature is checked. ``replay`` applies every event too.
    """
    store = SqliteStore(path, readonly=True)
    try:
        ranges = list(_ranges(store))
        world = World() if replay else None
        frontier, streams = Frontier(), dict[bytes, tuple[int, bytes]]()
        groups = signatures = 0
        with without_collection(), ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
            # A few ranges ahead, not all: a worker's leaves wait in memory until their turn.
            results = pool.map(_check_range, [(path, first, end) for first, end in ranges], chunksize=1)
            for (first, end), checked in zip(ranges, results, strict=True):
                _join(first, streams, checked)
                for group in _groups(store, first, end):
                    _check_root(group, frontier, checked.leaves, first)
                    signatures += _check_signature(group, public)
                    groups += 1
                    if world is not None:
                        for committed in decode(group):
                            apply(world, committed)
        return Verified(frontier.size, groups, signatures, world)
    finally:
        store.close()


def _ranges(store: SqliteStore) -> Iterator[tuple[int, int]]:
    start = end = 0
    for first, count in store.group_sizes():
        if first != end:
            raise JournalCorrupt(end, f"the next group starts at event {first}")
        end = first + count
        if end - start >= RANGE_EVENTS:
            yield start, end
            start = end
    if end > start:
        yield start, end


def _groups(store: SqliteStore, first: int, end: int) -> Iterator[Group]:
    for group in store.groups(first):
        if group.first >= end:
            return
        yield group


def _check_range(task: tuple[Path, int, int]) -> _Checked:
    path, first, end = task
    store = SqliteStore(path, readonly=True)
    try:
        known: dict[bytes, tuple[int, bytes]] = {}
        chain = Chain(Frontier(first), {})
        leaves: list[bytes] = []
        for group in _groups(store, first, end):
            leaves += chain.check_links(group, known)
        return _Checked(b"".join(leaves), known, chain.streams)
    finally:
        store.close()


def _join(seq: int, streams: dict[bytes, tuple[int, bytes]], checked: _Checked) -> None:
    for ident, start in checked.first.items():
        if streams.get(ident, (0, bytes(32))) != start:
            raise JournalCorrupt(
                seq, "a stream does not go on from where it was (this event or one of the next)"
            )
    streams.update(checked.last)


def _check_root(group: Group, frontier: Frontier, leaves: bytes, start: int) -> None:
    offset = (group.first - start) * 32
    for at in range(offset, offset + 32 * group.count, 32):
        frontier.append(leaves[at : at + 32])
    if frontier.size != group.head.size or frontier.root() != group.head.root:
        raise JournalCorrupt(group.first, "the Merkle root of its group is another")


def _check_signature(group: Group, public: bytes | None) -> int:
    if public is None:
        return 0
    if not is_signed(public, group.head.signed_bytes(), group.head.signature):
        raise JournalCorrupt(group.first, "the head of its group is not signed by the operator's key")
    return 1


def leaves_of(groups: Sequence[Group]) -> list[bytes]:
    """The leaf hashes of some groups, unchecked: for proofs."""
    out: list[bytes] = []
    for group in groups:
        out += Chain(Frontier(group.first), {}).check_links(group, {})
    return out
