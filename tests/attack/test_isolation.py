"""Promise 6 under attack: a tenant's processes, and whoever is another user of the machine, get at nothing that is not theirs."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.core.ids import PlacementId
from headrace.engines import runner
from headrace.engines.local import LocalEngine, LocalSettings
from headrace.journal.sqlite import SqliteStore
from tests.engines.contract import FIRST, SECOND, ended, order_of, read_all

PATIENCE_S = 20
SPRUNG = PlacementId("evil-1.2")


class _Engine:
    """A local engine that takes itself for root's, with a Unix user per tenant when it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.privileged = os.geteuid() == 0
        self.engine = LocalEngine(root, "/bin/sh", settings=LocalSettings(heartbeat_ms=200))

    def until(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, f"did not happen: {self.engine.observe()}"
            time.sleep(0.005)

    def close(self) -> None:
        for path in self.root.glob("placements/*/*/record.json"):
            self.engine.stop(PlacementId(path.parts[-3]), 0)
            record = runner.read_json(str(path))
            self.until(lambda who=record["runner"]: not runner.is_alive(*who))  # type: ignore[misc]


@pytest.fixture
def local() -> Iterator[_Engine]:
    """An engine on a short path that other users may pass through."""
    root = Path(tempfile.mkdtemp(prefix="headrace-"))
    root.chmod(0o711)
    made = _Engine(root / "engine")
    yield made
    made.close()
    shutil.rmtree(root)


def test_a_tenant_can_not_prepare_the_folder_of_its_next_placement(local: _Engine) -> None:
    """Names of placements are known beforehand: a link in the tenant's own folder must not lead root's hands elsewhere."""
    if not local.privileged:
        assert local.engine.capabilities.isolation == "none"
        return
    local.engine.start(order_of("echo out; echo private > file; sleep 60"))
    victim = local.root / "work" / "200001" / FIRST
    local.until(lambda: (victim / "0" / "file").exists() and "out" in read_all(local.engine, FIRST, 0))
    plant = "\n".join(
        f"ln -s {target} $HOME/../../{name} || true"
        for name, target in (
            (SPRUNG, victim),
            ("evil-1.3", local.root / "placements" / FIRST),
            ("evil-1.4", local.root / "logs" / FIRST),
        )
    )
    local.engine.start(order_of(plant, placement=SECOND, tenant="other", uid=200_002))
    ended(local, SECOND)  # type: ignore[arg-type]
    for name in (SPRUNG, PlacementId("evil-1.3"), PlacementId("evil-1.4")):
        local.engine.start(order_of("cat file || true; ls -a", placement=name, tenant="other", uid=200_002))
        ended(local, name)  # type: ignore[arg-type]
        assert "private" not in read_all(local.engine, name, 0)
        assert "record.json" not in read_all(local.engine, name, 0)
    owners = {
        str(path): path.lstat().st_uid
        for path in (victim / "0", local.root / "placements" / FIRST / "0", local.root / "logs" / FIRST / "0")
    }
    assert list(owners.values()) == [200_001, 0, 0], owners


SOUND = {
    "state": "running", "running_ms": 1, "paused_ms": 0, "runner": [1, 1], "child": [1, 1], "exit_code": None,
    "reason": "", "detail": "", "boot_id": "b", "estimated": False,
}  # fmt: skip
FORGED: dict[str, object] = {
    "nothing": None,
    "a list": [],
    "no field": {},
    "no such state": SOUND | {"state": "rich"},
    "more time than there is": SOUND | {"running_ms": 10**30},
    "less than none": SOUND | {"paused_ms": -1},
    "a text for a time": SOUND | {"running_ms": "1"},
    "an exit code that is none": SOUND | {"state": "exited", "exit_code": 10**30},
    "no process": SOUND | {"runner": []},
    "a text for a process": SOUND | {"child": ["1", 1]},
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_a_record_that_no_runner_wrote_stops_nobody(local: _Engine, forged: object) -> None:
    """Without isolation a workload can write what it likes there: the engine looks at it and goes on."""
    local.engine.start(order_of("sleep 60", uid=200_001))
    path = local.root / "placements" / FIRST / "0" / runner.RECORD
    local.until(path.exists)
    genuine = runner.read_json(str(path))
    assert local.engine.observe()[0].ranks[0].state == "running"
    runner.write_atomic(str(path), forged)
    assert local.engine.observe()[0].ranks[0].state == "running"
    runner.write_atomic(str(path), genuine)


def test_the_journal_is_closed_to_every_other_user_of_the_machine(tmp_path: Path) -> None:
    """Tenants' users pass through the state directory: what lies in it by a known name must be closed by itself."""
    before = os.umask(0o022)
    try:
        store = SqliteStore(tmp_path / "journal.sqlite")
        store.append(None, keys=[])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("journal.sqlite*")}
        assert modes, "there is a store"
        assert set(modes.values()) == {0o600}, {name: oct(mode) for name, mode in modes.items()}
        store.close()
        (tmp_path / "journal.sqlite").chmod(0o644)
        SqliteStore(tmp_path / "journal.sqlite").close()
        assert stat.S_IMODE((tmp_path / "journal.sqlite").stat().st_mode) == 0o600
    finally:
        os.umask(before)
