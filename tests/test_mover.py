"""The mover: what the world wants of copies comes about, whatever ends in between; and half a copy is never one."""

import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.data.model import CopyState
from headrace.core.ids import DataId, SiteId
from headrace.mover import AGAIN_MS, LOOK_MS, Mover
from headrace.service import InlineService
from headrace.stores.digest import digest_of, manifest_digest
from tests.journal.small import ACME, SetClock, begun, opened
from tests.stores.memory import KilledError, MemoryStore

CORPUS, HERE, THERE = DataId("acme.corpus"), SiteId("glomfjord"), SiteId("loughton")
FILES = {"a.bin": b"0123456789", "sub/b.txt": b"some text", "sub/c": b"x"}
DIGEST = manifest_digest({path: sha256(raw).hexdigest() for path, raw in FILES.items()})
SIZE = sum(map(len, FILES.values()))


class Moving:
    """A control plane with two sites, their stores, and a mover; it can be killed and begin again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.clock = folder, SetClock()
        self.stores = {HERE: MemoryStore(), THERE: MemoryStore()}
        self.stores[HERE].copies[CORPUS] = dict(FILES)
        control = begun(folder, clock=self.clock)
        estate = control.world.state.documents["estate/small"]
        twin = estate["sites"][0] | {"id": THERE, "country": "GB", "blocks": []}
        both = estate | {"sites": [estate["sites"][0], twin]}
        control.execute(SYSTEM, c.ApplyDocuments((c.NormalisedDocument("estate", "small", both),)))
        self._take(control)
        self.declare()

    def _take(self, control: Control) -> None:
        self.control = control
        control.execute(SYSTEM, c.DeclareStores(tuple(self.stores)))
        control.commit()
        self.mover = Mover(InlineService(control), self.stores)

    def again(self) -> None:
        """The process was killed: what was not committed is gone, and another one begins."""
        self.control.store.close()
        self._take(opened(self.folder, clock=self.clock))

    def declare(self, digest: str = DIGEST, size: int = SIZE) -> None:
        plain = {
            "id": CORPUS,
            "tenant": ACME,
            "name": "corpus",
            "digest": digest,
            "size_bytes": size,
            "site": HERE,
        }
        self.control.execute(SYSTEM, c.ApplyData(ACME, (c.NormalisedDocument("dataset", CORPUS, plain),)))
        self.control.commit()

    def ask(self) -> None:
        self.control.execute(SYSTEM, c.CopyData(CORPUS, THERE))
        self.control.commit()

    def settle(self, rounds: int = 6) -> None:
        for _ in range(rounds):
            self.mover.round()
            self.clock.at_ms += AGAIN_MS

    def state(self, site: SiteId = THERE) -> tuple[CopyState, str]:
        copy = self.control.world.state.copies[CORPUS][site]
        return copy.state, copy.problem


@pytest.fixture
def moving(tmp_path: Path) -> Moving:
    """A data set whose first copy is present."""
    made = Moving(tmp_path)
    made.settle(1)
    assert made.state(HERE)[0] is CopyState.PRESENT
    return made


def test_a_copy_comes_about_and_goes(moving: Moving) -> None:
    """Its bytes are those of the source; once it is removed nothing is left."""
    moving.ask()
    moving.settle()
    assert moving.state() == (CopyState.PRESENT, "")
    assert moving.stores[THERE].copies[CORPUS] == FILES
    moving.control.execute(SYSTEM, c.RemoveCopy(CORPUS, THERE))
    moving.control.commit()
    moving.settle()
    assert moving.state()[0] is CopyState.GONE
    assert not moving.stores[THERE].copies


def test_nothing_is_moved_before_what_wants_it_is_durable(moving: Moving) -> None:
    """A request that was lost in a crash moved nothing."""
    moving.control.execute(SYSTEM, c.CopyData(CORPUS, THERE))
    assert moving.mover.jobs() == []
    moving.control.commit()
    assert len(moving.mover.jobs()) == 1


def test_killed_at_any_step_a_copy_is_whole_or_none_and_comes_about_afterwards(tmp_path: Path) -> None:
    """Every step of both stores is the last one once: the journal never says present of what is not."""
    step = 0
    while True:
        moving = Moving(tmp_path / str(step))
        moving.settle(1)
        moving.ask()
        for store in moving.stores.values():
            store.steps = step
        try:
            moving.settle(1)
            is_over = True
        except KilledError:
            is_over = False
        for store in moving.stores.values():
            store.steps = None
        assert moving.stores[THERE].copies.get(CORPUS) in (None, FILES)
        moving.again()
        if moving.state()[0] is CopyState.PRESENT:
            assert moving.stores[THERE].copies[CORPUS] == FILES
        moving.settle()
        assert moving.state() == (CopyState.PRESENT, "")
        assert moving.stores[THERE].copies[CORPUS] == FILES
        moving.control.store.close()
        if is_over:
            break
        step += 1
    assert step > 8


def test_what_was_written_before_a_crash_is_used_and_not_believed(moving: Moving) -> None:
    """Whole files are not fetched again; one that has rotted meanwhile is, and the copy has the right bytes."""
    moving.ask()
    moving.stores[THERE].aside[CORPUS] = {"a.bin": b"0123456789", "sub/c": b"y"}
    moving.settle()
    assert moving.state() == (CopyState.PRESENT, "")
    assert moving.stores[THERE].copies[CORPUS] == FILES


def test_a_full_disk_delays_a_copy_until_there_is_room(moving: Moving) -> None:
    """It says why it waits, and goes on by itself."""
    moving.stores[THERE].full_after = 12
    moving.ask()
    moving.settle(2)
    state, problem = moving.state()
    assert state is CopyState.COPYING
    assert "no space left" in problem
    moving.stores[THERE].full_after = None
    moving.settle()
    assert moving.state() == (CopyState.PRESENT, "")


def test_a_source_that_is_gone_ends_the_copy_with_its_name(moving: Moving) -> None:
    """Nothing is left of it; asked again once there is a source, it comes about."""
    moving.ask()
    moving.stores[HERE].copies.clear()
    moving.settle(1)
    state, problem = moving.state()
    assert state is CopyState.FAILED
    assert "nothing is at acme.corpus" in problem
    assert CORPUS not in moving.stores[THERE].copies


def test_bytes_that_rotted_at_the_source_are_never_a_copy(moving: Moving) -> None:
    """Both digests are named, an alarm is raised, and what was written is gone."""
    moving.stores[HERE].copies[CORPUS]["a.bin"] = b"012345678X"
    moving.ask()
    moving.settle(2)
    state, problem = moving.state()
    assert state is CopyState.FAILED
    assert DIGEST in problem
    assert [alarm.subject for _, alarm in moving.control.world.state.alarms] == ["acme.corpus@loughton"]
    assert not moving.stores[THERE].copies
    assert not moving.stores[THERE].aside


def test_a_first_copy_that_is_not_what_was_declared_is_none(tmp_path: Path) -> None:
    """Named with both digests; put right and asked again, it is."""
    moving = Moving(tmp_path)
    moving.stores[HERE].copies[CORPUS]["sub/c"] = b"y"
    moving.settle(1)
    assert moving.state(HERE)[0] is CopyState.FAILED
    moving.stores[HERE].copies[CORPUS]["sub/c"] = b"x"
    moving.control.execute(SYSTEM, c.CopyData(CORPUS, HERE))
    moving.control.commit()
    moving.settle(1)
    assert moving.state(HERE) == (CopyState.PRESENT, "")


def test_a_first_copy_that_is_nowhere_says_where_it_belongs(tmp_path: Path) -> None:
    """With the command to ask again."""
    moving = Moving(tmp_path)
    moving.stores[HERE].copies.clear()
    moving.settle(1)
    assert moving.state(HERE)[1] == (
        "nothing is at memory:acme.corpus: put its files there, and ask again with "
        "'headrace data copy corpus --to glomfjord'"
    )


def test_a_copy_that_somebody_deleted_is_found(moving: Moving) -> None:
    """Not at once, but without anybody asking."""
    moving.stores[HERE].copies.clear()
    moving.clock.at_ms += LOOK_MS
    moving.settle(1)
    assert moving.state(HERE)[0] is CopyState.GONE
    assert len(moving.control.world.state.alarms) == 1


def test_a_removal_by_law_waits_for_its_grace(moving: Moving) -> None:
    """Until then the bytes are there, for what still reads them."""
    moving.ask()
    moving.settle()
    plain = moving.control.world.state.documents["dataset/acme.corpus"]
    wanted = plain | {"policy": {"countries": ["NO"]}, "on_forbidden": "remove", "grace_ms": 600_000}
    moving.control.execute(SYSTEM, c.ApplyData(ACME, (c.NormalisedDocument("dataset", CORPUS, wanted),)))
    moving.control.execute(SYSTEM, c.FollowLaw())
    moving.control.commit()
    moving.settle(2)
    assert moving.state()[0] is CopyState.REMOVING
    assert CORPUS in moving.stores[THERE].copies
    moving.clock.at_ms += 600_000
    moving.settle(1)
    assert moving.state()[0] is CopyState.GONE
    assert not moving.stores[THERE].copies


def test_the_digest_of_a_data_set_is_what_sha256sum_says(tmp_path: Path) -> None:
    """So that whoever has the files needs nothing of ours."""
    for path, raw in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(raw)
    command = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    said = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert digest_of(tmp_path) == (said.stdout.split()[0], SIZE, len(FILES)) == (DIGEST, SIZE, len(FILES))
