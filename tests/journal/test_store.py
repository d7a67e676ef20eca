"""The store: idempotency over restarts, projections that are dropped and built again, one sync for a whole group."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.clock import WallClock
from headrace.control import Control
from headrace.core.apply import apply
from headrace.core.errors import HeadraceError
from headrace.core.world import World
from headrace.journal.codec import decode
from headrace.journal.projections import TABLES, ProjectionRow, project
from headrace.journal.sqlite import JournalUnavailable, SqliteStore
from headrace.service import Service
from tests.journal.small import ACME, MEMBER, SetClock, begun, job, keys, live_a_life, opened, submit

ROOT = Path(__file__).parents[2]


def test_an_idempotency_key_is_remembered_over_restarts_with_and_without_a_checkpoint(tmp_path: Path) -> None:
    """The same key and request: the same ids, nothing made; the same key and another request: refused."""
    control = begun(tmp_path)
    first = submit(control, "k", job("one"), job("two"))
    for checkpointed in (False, True):
        if checkpointed:
            control.checkpoint()
        control.store.close()
        control = opened(tmp_path)
        size = control.durable
        assert submit(control, "k", job("one"), job("two")) == first
        with pytest.raises(HeadraceError, match="used for another request"):
            submit(control, "k", job("one"), job("three"))
        assert control.durable == size
    control.store.close()


def test_a_key_whose_commit_failed_is_free(tmp_path: Path) -> None:
    """What was not acknowledged never was: asked again with its key, it is done, once."""
    control = begun(tmp_path)
    control.submit(MEMBER, ACME, [(job("one"), {})], "k", "d")
    control.store.query("pragma query_only = on")
    with pytest.raises(JournalUnavailable):
        control.commit()
    with pytest.raises(JournalUnavailable):
        control.submit(MEMBER, ACME, [(job("one"), {})], "k", "d")
    control.store.close()
    after = opened(tmp_path)
    made = after.submit(MEMBER, ACME, [(job("one"), {})], "k", "d")
    after.commit()
    assert not made.repeated
    assert list(after.world.state.workloads) == list(made.workloads)
    after.store.close()


def _rows(store: SqliteStore) -> dict[str, list[tuple[object, ...]]]:
    return {name: sorted(store.query(f"select * from {name}"), key=repr) for name in TABLES}


def _replayed(store: SqliteStore) -> list[ProjectionRow]:
    world = World()
    return [
        project(row)
        for group in store.groups()
        for committed in decode(group)
        for row in apply(world, committed)
    ]


def test_projections_that_are_dropped_and_built_again_by_replay_have_the_same_rows(tmp_path: Path) -> None:
    """Usage, transfers and audit hold nothing that the journal does not."""
    clock = SetClock()
    control = begun(tmp_path, clock=clock)
    live_a_life(control, clock)
    stored = _rows(control.store)
    assert all(stored.values()), "a life fills every table"
    control.store.rebuild([])
    assert not any(_rows(control.store).values())
    control.store.rebuild(_replayed(control.store), batch=3)
    assert _rows(control.store) == stored
    control.store.close()


def test_a_rebuild_that_is_cut_short_changes_nothing(tmp_path: Path) -> None:
    """It is one transaction: a replay that fails half way leaves the old rows."""
    clock = SetClock()
    control = begun(tmp_path, clock=clock)
    live_a_life(control, clock)
    stored = _rows(control.store)
    good = _replayed(control.store)
    with pytest.raises(KeyError):
        control.store.rebuild([*good, ProjectionRow("no such table", ())], batch=1)
    assert _rows(control.store) == stored
    control.store.close()


def test_a_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    """An old headrace never writes into what it does not understand."""
    store = SqliteStore(tmp_path / "journal.sqlite")
    store.query("update meta set value = '99' where key = 'format'")
    store.close()
    with pytest.raises(HeadraceError, match="has format 99"):
        SqliteStore(tmp_path / "journal.sqlite")


def test_a_file_that_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    """A named error, not one of the database's own."""
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"these bytes are no database, and there are more than a hundred of them" * 4)
    for readonly in (False, True):
        with pytest.raises(HeadraceError, match=r"journal\.sqlite"):
            SqliteStore(path, readonly=readonly)


def test_submissions_that_come_together_share_one_group(tmp_path: Path) -> None:
    """Fifty at once are acknowledged by a few commits, each with a head that includes it."""

    async def run(control: Control) -> list[int]:
        service = Service(control)
        asked = [
            service.submit(MEMBER, ACME, [(job(f"w-{number}"), {})], f"k-{number}", "")
            for number in range(50)
        ]
        heads = [head.size for _, head in await asyncio.gather(*asked) if head is not None]
        await service.close()
        return heads

    control = begun(tmp_path)
    before = len(list(control.store.group_sizes()))
    heads = asyncio.run(run(control))
    after = len(list(control.store.group_sizes()))
    assert len(heads) == 50
    assert after - before <= 3
    assert max(heads) == control.durable
    control.store.close()


def commit_groups(folder: str, groups: int, events: int) -> None:
    """Commit ``groups`` groups of ``events`` submissions: what the test below watches from outside."""
    path = Path(folder)
    control = Control(SqliteStore(path / "journal.sqlite"), keys(), WallClock())
    for number in range(groups):
        submit(control, f"k-{groups}-{number}", *(job(f"w-{number}-{index}") for index in range(events)))
    # Without closing the store, which would sync once more.
    os._exit(0)


def _syncs(folder: Path, groups: int, events: int) -> int:
    """Syncs that a process does for so many groups of so many events, by the kernel's own count."""
    out = folder / "strace.txt"
    code = f"from tests.journal.test_store import commit_groups; commit_groups({str(folder)!r}, {groups}, {events})"
    subprocess.run(
        ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(out), sys.executable, "-P", "-c", code],
        check=True,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"},
    )
    return len(re.findall(r"\b(?:fsync|fdatasync)\(\d+\)\s+= 0", out.read_text()))


@pytest.mark.needs_program("strace", "strace")
def test_one_sync_covers_a_group_however_many_events_it_has(tmp_path: Path) -> None:
    """Ten groups more take ten syncs more; a group of a hundred events takes as many as a group of one."""
    counts = {}
    for groups, events in ((2, 1), (2, 100), (12, 1)):
        folder = tmp_path / f"{groups}-{events}"
        folder.mkdir()
        begun(folder).store.close()
        counts[groups, events] = _syncs(folder, groups, events)
    assert counts[2, 1] >= 2
    assert counts[2, 100] == counts[2, 1]
    assert counts[12, 1] - counts[2, 1] == 10
