"""A journal that somebody touched is found out: every byte of it, every group, every link."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.journal.checkpoint import load
from headrace.journal.codec import Chain, Group, JournalCorrupt, stream_id
from headrace.journal.merkle import consistency_proof, is_consistent
from headrace.journal.sqlite import SqliteStore
from headrace.journal.verify import RANGE_EVENTS, leaves_of, verify
from tests.journal.small import SetClock, begun, job, keys, live_a_life, submit

COLUMNS = ("headers", "bodies", "root", "signature")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose journal has every kind of event, in several groups."""
    folder = tmp_path_factory.mktemp("small")
    clock = SetClock()
    control = begun(folder, clock=clock)
    live_a_life(control, clock)
    control.store.close()
    return folder / "journal.sqlite"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a journal of a few short groups, to try each of its bytes."""
    folder = tmp_path_factory.mktemp("tiny")
    control = begun(folder)
    submit(control, "k", job("one"))
    submit(control, "l", job("two"))
    control.store.close()
    return folder / "journal.sqlite"


@contextmanager
def _touched(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma synchronous=off")
    try:
        yield db
    finally:
        db.close()


def _copy(path: Path, folder: Path) -> Path:
    for one in path.parent.glob("journal.sqlite*"):
        shutil.copy(one, folder)
    return folder / path.name


def _is_found(path: Path) -> bool:
    try:
        verify(path, keys().public, jobs=1)
    except JournalCorrupt:
        return True
    return False


def test_a_sound_journal_verifies_whole(small: Path) -> None:
    """Every event, group and signature is counted; the replayed state is that of a restart."""
    store = SqliteStore(small, readonly=True)
    loaded = load(store, keys())
    found = verify(small, keys().public, replay=True)
    assert found.events == store.size() == loaded.world.state.version
    assert found.groups == found.signatures == len(list(store.group_sizes()))
    assert found.world is not None
    assert found.world.state == loaded.world.state
    store.close()


@pytest.mark.parametrize("column", COLUMNS)
def test_every_single_flipped_byte_is_found(column: str, tiny: Path, tmp_path: Path) -> None:
    """Of headers, bodies, roots and signatures, all of them."""
    path = _copy(tiny, tmp_path)
    missed: list[tuple[int, int]] = []
    tried = 0
    with _touched(path) as db:
        rows = db.execute(f"select first, {column} from groups order by first").fetchall()
        for first, data in rows:
            for index in range(len(data)):
                flipped = bytearray(data)
                flipped[index] ^= 1 << index % 8
                db.execute(f"update groups set {column} = ? where first = ?", (bytes(flipped), first))
                tried += 1
                if not _is_found(path):
                    missed.append((first, index))
            db.execute(f"update groups set {column} = ? where first = ?", (data, first))
    assert not missed
    assert tried > 30
    assert not _is_found(path)


@pytest.mark.parametrize("column", ["first", "count", "at_ms"])
@pytest.mark.parametrize("by", [-1, 1])
def test_a_groups_numbers_are_covered_too(column: str, by: int, tiny: Path, tmp_path: Path) -> None:
    """Its first event, its count and the time of its head."""
    path = _copy(tiny, tmp_path)
    with _touched(path) as db:
        db.execute(
            f"update groups set {column} = {column} + ? where first = (select max(first) from groups)", (by,)
        )
    assert _is_found(path)


def _drop(db: sqlite3.Connection, firsts: list[int]) -> None:
    db.execute("delete from groups where first = ?", (firsts[2],))


def _drop_the_first(db: sqlite3.Connection, _: list[int]) -> None:
    db.execute("delete from groups where first = 0")


def _swap(db: sqlite3.Connection, firsts: list[int]) -> None:
    """Exchange the contents of two groups, heads and all."""
    one, other = firsts[-2:]
    db.execute("update groups set first = -1 where first = ?", (one,))
    db.execute("update groups set first = ? where first = ?", (one, other))
    db.execute("update groups set first = ? where first = -1", (other,))


def _duplicate(db: sqlite3.Connection, firsts: list[int]) -> None:
    (size,) = db.execute("select max(first + count) from groups").fetchone()
    db.execute(
        "insert into groups select ?, count, at_ms, headers, bodies, root, signature from groups where first = ?",
        (size, firsts[-1]),
    )


@pytest.mark.parametrize("touch", [_drop, _drop_the_first, _swap, _duplicate])
def test_groups_that_are_dropped_swapped_or_doubled_are_found(
    touch: Callable[[sqlite3.Connection, list[int]], None], small: Path, tmp_path: Path
) -> None:
    """Whatever is done to whole groups; a restart does not get over it either."""
    path = _copy(small, tmp_path)
    with _touched(path) as db:
        touch(db, [first for (first,) in db.execute("select first from groups order by first")])
    assert _is_found(path)
    store = SqliteStore(path, readonly=True)
    with pytest.raises(HeadraceError, match="damaged"):
        load(store, keys())
    store.close()


def test_a_truncated_tail_is_found_by_whoever_holds_a_head(small: Path, tmp_path: Path) -> None:
    """The shorter journal verifies by itself; but it can't prove that it goes on from the head that was acknowledged."""
    path = _copy(small, tmp_path)
    store = SqliteStore(path, readonly=True)
    held = list(store.groups())[-1].head
    store.close()
    with _touched(path) as db:
        db.execute("delete from groups where first = (select max(first) from groups)")
    found = verify(path, keys().public)
    assert found.events < held.size
    store = SqliteStore(path, readonly=True)
    groups = list(store.groups())
    leaves = leaves_of(groups)
    store.close()
    with pytest.raises(ValueError, match="no consistency proof"):
        consistency_proof(leaves.__getitem__, held.size, found.events)
    assert not is_consistent(held.size, held.root, found.events, groups[-1].head.root, [])


def test_every_held_head_is_consistent_with_the_newest(small: Path) -> None:
    """From each group's head to the last one there is a proof."""
    store = SqliteStore(small, readonly=True)
    groups = list(store.groups())
    store.close()
    leaves, newest = leaves_of(groups), groups[-1].head
    for group in groups:
        proof = consistency_proof(leaves.__getitem__, group.head.size, newest.size)
        assert is_consistent(group.head.size, group.head.root, newest.size, newest.root, proof)


def test_another_operators_key_verifies_nothing(small: Path) -> None:
    """The signature is by this operator, or it is none; a restart refuses it likewise."""
    with pytest.raises(JournalCorrupt, match="not signed"):
        verify(small, keys("somebody else").public)
    store = SqliteStore(small, readonly=True)
    with pytest.raises(HeadraceError, match="not signed by this key"):
        load(store, keys("somebody else"))
    store.close()


def _groups(path: Path) -> list[Group]:
    store = SqliteStore(path, readonly=True)
    try:
        return list(store.groups())
    finally:
        store.close()


def test_each_stream_is_numbered_from_zero_and_linked_without_a_gap(small: Path) -> None:
    """A tenant that is given its own events sees that none is left out."""
    streams: dict[bytes, list[tuple[int, bytes, bytes]]] = {}
    groups = _groups(small)
    leaves = iter(leaves_of(groups))
    for group in groups:
        at = 0
        while at < len(group.headers):
            leaf, count = next(leaves), group.headers[at + 1]
            for index in range(at + 48, at + 48 + 56 * count, 56):
                link = group.headers[index : index + 56]
                found = (int.from_bytes(link[16:24]), link[24:], leaf)
                streams.setdefault(link[:16], []).append(found)
            at += 48 + 56 * count
    assert set(streams) == {
        stream_id(name) for name in ("operator", "tenant:acme", "tenant:borealis", "site:glomfjord")
    }
    for links in streams.values():
        assert [number for number, _, _ in links] == list(range(len(links)))
        previous = [bytes(32), *(leaf for _, _, leaf in links)]
        assert [before for _, before, _ in links] == previous[:-1]


def test_an_event_that_is_left_out_of_a_stream_is_noticed(small: Path) -> None:
    """Even where tree and numbers are right: a chain that knows the stream takes no event that skips one."""
    groups = _groups(small)
    known = Chain()
    known.check_links(groups[0])
    streams = {ident: (number + 1, leaf) for ident, (number, leaf) in known.streams.items()}
    with pytest.raises(JournalCorrupt, match="does not follow the last event of its stream"):
        Chain(None, streams).check_links(groups[1])


def test_damage_that_a_worker_finds_is_told_as_such(tmp_path: Path) -> None:
    """In a journal of several ranges, checked by several processes, the error that comes out is the same one."""
    control = begun(tmp_path)
    for number in range(RANGE_EVENTS // 1_000 + 3):
        specs = [job(f"w-{number}-{index}") for index in range(1_000)]
        submit(control, f"k-{number}", *specs)
    control.store.close()
    path = tmp_path / "journal.sqlite"
    assert verify(path, keys().public, jobs=2).events > RANGE_EVENTS
    with _touched(path) as db:
        first, bodies = db.execute("select first, bodies from groups order by first desc limit 1").fetchone()
        db.execute("update groups set bodies = ? where first = ?", (bodies[:-1], first))
    with pytest.raises(JournalCorrupt, match=r"damaged at event \d+") as caught:
        verify(path, keys().public, jobs=2)
    assert caught.value.seq >= first
