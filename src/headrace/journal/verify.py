"""Verify a whole journal, from genesis: leaves and links in worker processes, heads and (if asked) a replay here.

Workers take ranges of commit groups. Within a range they check every header's number, every leaf and every link between
events of one stream; what a range can't know, the state of each stream at its start, is compared here, range by
range. Roots need every leaf before them, so that they are computed here, from the leaves that the workers return.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.core.apply import apply
from headrace.core.world import World
from headrace.journal.checkpoint import without_collection
from headrace.journal.codec import FORMAT, Chain, Group, JournalCorrupt, decode
from headrace.journal.keys import is_signed
from headrace.journal.merkle import Frontier
from headrace.journal.sqlite import SqliteStore

RANGE_EVENTS = 20_000

Bytes = npt.NDArray[np.uint8]


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
        with without_collection(), _mapper(min(jobs, len(ranges))) as run:
            # A few ranges ahead, not all: a worker's leaves wait in memory until their turn.
            results = run(_check_range, [(path, first, end) for first, end in ranges])
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


@contextmanager
def _mapper(jobs: int) -> Iterator[Callable[..., Iterator[_Checked]]]:
    """A ``map`` over ``jobs`` worker processes; over none for one job, which would only wait for its worker."""
    if jobs < 2:
        yield map
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        yield pool.map


def _ranges(store: SqliteStore) -> Iterator[tuple[int, int]]:
    start = end = 0
    for first, count in store.group_sizes():
        if first != end:
            raise JournalCorrupt(end, f"the next group starts at event {first}")
        if count < 1:
            raise JournalCorrupt(end, f"its group says that it has {count} events")
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
        groups = list(_groups(store, first, end))
    finally:
        store.close()
    checked = _check_at_once(groups)
    return checked if checked is not None else _check_one_by_one(groups, first)


def _check_one_by_one(groups: Sequence[Group], first: int) -> _Checked:
    """The plain way, event by event: it names the first that is wrong."""
    known: dict[bytes, tuple[int, bytes]] = {}
    chain = Chain(Frontier(first), {})
    leaves: list[bytes] = []
    for group in groups:
        leaves += chain.check_links(group, known)
    return _Checked(b"".join(leaves), known, chain.streams)


def _check_at_once(groups: Sequence[Group]) -> _Checked | None:
    """The same in a few passes over arrays; None when anything is wrong, for the plain way to say what."""
    leaves: list[bytes] = []
    starts: list[int] = []
    base = 0
    for group in groups:
        if not _take_leaves(group, base, leaves, starts):
            return None
        base += len(group.headers)
    headers = np.frombuffer(b"".join(group.headers for group in groups), np.uint8)
    at = np.array(starts, np.int64)
    numbers = _column(headers, at + 8, 8).view(">u8").ravel()
    if not np.array_equal(numbers, np.arange(groups[0].first, groups[0].first + len(at), dtype=np.uint64)):
        return None
    counts = headers[at + 1].astype(np.int64)
    events = np.repeat(np.arange(len(at)), counts)
    nth = np.arange(len(events)) - np.repeat(np.cumsum(counts) - counts, counts)
    links = _column(headers, at[events] + 48 + 56 * nth, 56)
    return _check_streams(links, events, np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, 32))


def _take_leaves(group: Group, base: int, leaves: list[bytes], starts: list[int]) -> bool:
    """Add a group's leaves and where its headers start; false when its bytes don't add up."""
    headers, bodies = group.headers, group.bodies
    at = offset = 0
    size, body_size, before = len(headers), len(bodies), len(leaves)
    # A copy of a begun hash costs less than a new one.
    inner, outer = sha256().copy, sha256(b"\x00").copy
    while at < size:
        if size - at < 48 or body_size - offset < 20 or headers[at] != FORMAT:
            return False
        end = at + 48 + 56 * headers[at + 1]
        following = offset + 20 + int.from_bytes(bodies[offset + 16 : offset + 20])
        if end > size or following > body_size:
            return False
        body = inner()
        body.update(bodies[offset : offset + 16])
        body.update(bodies[offset + 20 : following])
        leaf = outer()
        leaf.update(headers[at:end])
        leaf.update(body.digest())
        leaves.append(leaf.digest())
        starts.append(base + at)
        at, offset = end, following
    return offset == body_size and len(leaves) - before == group.count


def _column(data: Bytes, at: npt.NDArray[np.int64], width: int) -> Bytes:
    """``width`` bytes from each offset, one row each."""
    return np.ascontiguousarray(data[at[:, None] + np.arange(width)])


def _check_streams(links: Bytes, events: npt.NDArray[np.int64], leaves: Bytes) -> _Checked | None:
    """Check that every link follows the one before it in its stream; where each stream starts and ends."""
    # Half an id sorts faster; that two streams share it is found below, and left to the plain way.
    stream = np.ascontiguousarray(links[:, :8]).view(np.uint64).ravel()
    numbers = np.ascontiguousarray(links[:, 16:24]).view(">u8").ravel()
    order = np.argsort(stream, kind="stable")
    later, earlier = order[1:], order[:-1]
    follows = stream[later] == stream[earlier]
    later, earlier = later[follows], earlier[follows]
    if not np.array_equal(links[later, :16], links[earlier, :16]):
        return None
    if not np.array_equal(numbers[later], numbers[earlier] + 1):
        return None
    if not np.array_equal(links[later, 24:], leaves[events[earlier]]):
        return None
    edges = np.flatnonzero(np.concatenate([[True], ~follows])) if len(order) else np.zeros(0, np.int64)
    first: dict[bytes, tuple[int, bytes]] = {}
    last: dict[bytes, tuple[int, bytes]] = {}
    for start, after in zip(edges, [*edges[1:], len(order)], strict=True):
        begin, end = order[start], order[after - 1]
        ident = links[begin, :16].tobytes()
        first[ident] = (int(numbers[begin]), links[begin, 24:].tobytes())
        last[ident] = (int(numbers[end]) + 1, leaves[events[end]].tobytes())
    return _Checked(leaves.tobytes(), first, last)


def _join(seq: int, streams: dict[bytes, tuple[int, bytes]], checked: _Checked) -> None:
    for ident, start in checked.first.items():
        if streams.get(ident, (0, bytes(32))) != start:
            raise JournalCorrupt(
                seq, "a stream does not go on from where it was (this event or one of the next)"
            )
    streams.update(checked.last)


def _check_root(group: Group, frontier: Frontier, leaves: bytes, start: int) -> None:
    offset = (group.first - start) * 32
    frontier.extend([leaves[at : at + 32] for at in range(offset, offset + 32 * group.count, 32)])
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
