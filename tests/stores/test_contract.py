"""One contract for every store of data: whole or not there, durable before it is said, and nothing outside of it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.core.errors import Problem, ProblemCode
from headrace.core.ids import DataId, SiteId
from headrace.ports import Store, StoredFile, StoreError
from headrace.stores.directory import DirectoryStore
from tests.stores.memory import MemoryStore

CORPUS = DataId("acme.corpus")
READER = os.getegid()
Make = Callable[[Path], Store]
MAKES: dict[str, Make] = {
    "directory": lambda folder: DirectoryStore(SiteId("fjord"), folder),
    "memory": lambda _: MemoryStore(),
}


@pytest.fixture(params=MAKES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    make: Make = MAKES[request.param]
    return make(tmp_path)


def written(store: Store, **files: bytes) -> None:
    """Files of a copy that is not published."""
    for path, raw in files.items():
        store.write(CORPUS, path, iter([raw]))


def test_what_is_written_is_no_copy_until_it_is_published(store: Store) -> None:
    """And then all of it is, at once."""
    written(store, b=b"two", a=b"one")
    assert not store.has(CORPUS)
    assert store.pending(CORPUS) == (StoredFile("a", 3), StoredFile("b", 3))
    assert b"".join(store.read_pending(CORPUS, "b")) == b"two"
    store.publish(CORPUS, READER)
    assert store.has(CORPUS)
    assert store.files(CORPUS) == (StoredFile("a", 3), StoredFile("b", 3))
    assert b"".join(store.read(CORPUS, "a")) == b"one"
    assert store.pending(CORPUS) == ()


def test_files_are_sorted_by_the_bytes_of_their_paths_whatever_lies_in_directories(store: Store) -> None:
    """As the digest of a data set wants them."""
    for path in ("b/x", "b-x", "a", "Z", "é"):
        store.write(CORPUS, path, iter([b"1"]))
    store.publish(CORPUS, READER)
    assert [one.path for one in store.files(CORPUS)] == ["Z", "a", "b-x", "b/x", "é"]


def test_a_file_whose_source_breaks_off_is_not_there(store: Store) -> None:
    """Half a file is no file; the next attempt writes it whole."""

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise StoreError(Problem(ProblemCode.ENGINE_UNAVAILABLE, "it went away;", "Wait."))

    with pytest.raises(StoreError):
        store.write(CORPUS, "a", broken())
    assert store.pending(CORPUS) == ()
    written(store, a=b"whole")
    assert store.pending(CORPUS) == (StoredFile("a", 5),)


def test_dropping_takes_the_copy_and_what_was_written_aside_and_may_be_done_twice(store: Store) -> None:
    """Nothing of either is left, and other data stays."""
    other = DataId("acme.other")
    for data in (CORPUS, other):
        store.write(data, "a", iter([b"1"]))
        store.publish(data, READER)
    written(store, b=b"2")
    for _ in range(2):
        store.drop(CORPUS)
        assert not store.has(CORPUS)
        assert store.pending(CORPUS) == ()
    assert store.has(other)


def test_discarding_leaves_the_copy(store: Store) -> None:
    """Only what is not published goes."""
    written(store, a=b"1")
    store.publish(CORPUS, READER)
    written(store, b=b"2")
    store.discard(CORPUS)
    store.discard(CORPUS)
    assert store.pending(CORPUS) == ()
    assert store.has(CORPUS)


def test_asking_for_what_is_not_there_says_so_for_good(store: Store) -> None:
    """It is no matter of trying again."""
    with pytest.raises(StoreError) as raised:
        store.files(CORPUS)
    assert raised.value.is_final
    assert raised.value.problem.next_step


# -- a directory -------------------------------------------------------------------------------------------------------


def test_a_link_in_a_copy_is_named_and_never_followed(tmp_path: Path) -> None:
    """Whoever puts one there reads nothing of the machine by it."""
    folder = tmp_path / "acme" / "corpus"
    folder.mkdir(parents=True)
    (folder / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(StoreError) as raised:
        DirectoryStore(SiteId("fjord"), tmp_path).files(CORPUS)
    assert raised.value.is_final
    assert "passwords" in raised.value.problem.message


def test_a_store_that_is_away_is_no_store_without_copies(tmp_path: Path) -> None:
    """Not mounted is another thing than removed: it is asked again."""
    with pytest.raises(StoreError) as raised:
        DirectoryStore(SiteId("fjord"), tmp_path / "away").has(CORPUS)
    assert not raised.value.is_final
    assert "fjord" in raised.value.problem.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_tenants_group_may_read_its_copy_and_change_nothing(tmp_path: Path) -> None:
    """No other tenant may look into it."""
    store = DirectoryStore(SiteId("fjord"), tmp_path)
    store.write(CORPUS, "sub/a", iter([b"1"]))
    store.publish(CORPUS, 200_007)
    for place, mode in (("acme", 0o710), ("acme/corpus", 0o750), ("acme/corpus/sub/a", 0o640)):
        found = (tmp_path / place).stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (mode, 0, 200_007), place
