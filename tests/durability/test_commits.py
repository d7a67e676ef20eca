"""Commits that fail: whoever waits is told, and the service goes on when it can."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace.control import Control
from headrace.core.errors import HeadraceError
from headrace.journal.codec import Group
from headrace.journal.projections import ProjectionRow
from headrace.journal.sqlite import JournalUnavailable, SqliteStore
from headrace.journal.vault import VaultEntry, VaultKey
from headrace.service import Service
from tests.journal.small import ACME, MEMBER, SeededBytes, SetClock, begun, job, keys

PROBE_S = 0.01


class FailingStore(SqliteStore):
    """A store whose next appends fail as told."""

    def __init__(self, path: Path, *failures: Exception) -> None:
        super().__init__(path)
        self.failures = list(failures)

    def append(
        self,
        group: Group | None,
        rows: Sequence[ProjectionRow] = (),
        keys: Sequence[VaultKey] = (),
        entries: Sequence[VaultEntry] = (),
        erase: Sequence[str] = (),
    ) -> None:
        """Fail, or append."""
        if self.failures:
            raise self.failures.pop(0)
        super().append(group, rows, keys, entries, erase)


async def _submit(service: Service, name: str) -> tuple[str, ...]:
    submitted, _ = await service.submit(MEMBER, ACME, [(job(name), {})], name, "")
    return tuple(submitted.workloads)


async def _recovered(service: Service) -> None:
    while service.failure is not None:
        await asyncio.sleep(PROBE_S)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (JournalUnavailable("disk full"), "can't be written: disk full"),
        (RuntimeError("a defect"), "a commit failed"),
    ],
    ids=["a full disk", "a defect"],
)
def test_after_a_failed_commit_everybody_is_told_and_the_next_one_works(
    failure: Exception, said: str, tmp_path: Path
) -> None:
    """All who waited get the error, none of theirs is there, and what is asked after it recovered is done at once."""

    async def run(control: Control) -> tuple[list[object], tuple[str, ...]]:
        service = Service(control, probe_s=PROBE_S)
        asked = [_submit(service, f"lost-{number}") for number in range(5)]
        results: list[object] = list(await asyncio.gather(*asked, return_exceptions=True))
        await _recovered(service)
        made = await asyncio.wait_for(_submit(service, "kept"), 5)
        await service.close()
        return results, made

    begun(tmp_path).store.close()
    store = FailingStore(tmp_path / "journal.sqlite", failure)
    control = Control(store, keys(), SetClock(), random=SeededBytes("more"))
    results, made = asyncio.run(run(control))
    assert len(results) == 5
    assert all(isinstance(one, HeadraceError) and said in one.problem.message for one in results)
    assert made == ("acme-1",)
    assert [work.spec.name for work in control.world.state.workloads.values()] == ["kept"]
    store.close()


def test_while_nothing_can_be_committed_commands_are_refused_and_reads_are_answered(tmp_path: Path) -> None:
    """The durable world is shown; what was applied in vain is not."""

    async def run(control: Control, store: FailingStore) -> None:
        service = Service(control, probe_s=PROBE_S)
        kept = await _submit(service, "kept")
        store.failures = [JournalUnavailable("disk full")] * 20
        with pytest.raises(HeadraceError, match="disk full"):
            await _submit(service, "lost")
        head = await service.settled()
        assert head is not None
        assert head.size == control.world.state.version
        assert tuple(control.world.state.workloads) == kept
        with pytest.raises(HeadraceError, match="disk full"):
            await _submit(service, "refused")
        await _recovered(service)
        assert await _submit(service, "lost") == ("acme-2",)
        await service.close()

    begun(tmp_path).store.close()
    store = FailingStore(tmp_path / "journal.sqlite")
    asyncio.run(run(Control(store, keys(), SetClock(), random=SeededBytes("more")), store))
    store.close()
