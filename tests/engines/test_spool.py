"""The spool: whose it is, and that nobody else may write it. No cluster is needed for that."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from headrace.engines import runner
from headrace.engines.local import LocalEngine
from headrace.engines.ray.client import RayClient
from headrace.engines.ray.engine import RayEngine, RaySettings
from headrace.ports import EngineError

NOBODY = 65_534


@contextmanager
def opened(root: Path) -> Iterator[RayEngine]:
    """An engine on a spool, above a cluster that is not there."""
    client = RayClient("http://127.0.0.1:1", timeout_s=1)
    with closing(RayEngine(root, client, RaySettings(tenant=None, poll_ms=10))) as engine:
        yield engine


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_spool_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """What lies there is run, as root for the most part: the error names the directory and what mends it."""
    root = tmp_path / "spool"
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(EngineError, match=rf"the spool {root} is not safe: .* may write {root}; `chmod go-w"):
        LocalEngine(root, "/bin/sh", isolate=False)
    assert list(root.iterdir()) == []


def test_a_spool_that_can_be_exchanged_is_refused(tmp_path: Path) -> None:
    """Whoever may write its directory puts another one there; not where that is like /tmp."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o777)
    with pytest.raises(EngineError, match=f"everybody may write {above}"):
        LocalEngine(above / "spool", "/bin/sh", isolate=False)
    above.chmod(0o1777)
    LocalEngine(above / "spool", "/bin/sh", isolate=False)


@pytest.mark.parametrize("whose", ["", "placements", ".."])
def test_a_spool_that_somebody_else_owns_is_refused(tmp_path: Path, whose: str) -> None:
    """He may write it whenever he likes; so with a folder in it, and the one above."""
    assert os.geteuid() == 0
    root = tmp_path / "above" / "spool"
    LocalEngine(root, "/bin/sh", isolate=False)
    os.chown((root / whose).resolve(), NOBODY, NOBODY)
    with pytest.raises(EngineError, match=f"is not safe: .* belongs to user {NOBODY}; `chown -h 0 "):
        LocalEngine(root, "/bin/sh", isolate=False)


def test_a_link_in_the_place_of_a_folder_of_the_spool_is_not_followed(tmp_path: Path) -> None:
    """What it leads to is somebody else's."""
    root, other = tmp_path / "spool", tmp_path / "other"
    root.mkdir()
    other.mkdir(mode=0o755)
    (root / "work").symlink_to(other)
    with pytest.raises(EngineError, match=f"the spool {root} can't be used"):
        LocalEngine(root, "/bin/sh", isolate=False)
    assert other.stat().st_mode & 0o777 == 0o755


def test_a_spool_is_made_so_that_nobody_else_may_write_it(tmp_path: Path) -> None:
    """Whatever the umask; the directories above too, where they are made with it."""
    before = os.umask(0)
    try:
        LocalEngine(tmp_path / "new" / "spool", "/bin/sh", isolate=False)
    finally:
        os.umask(before)
    for made in (tmp_path / "new", tmp_path / "new" / "spool"):
        assert made.stat().st_mode & 0o022 == 0


@pytest.mark.parametrize("name", ["runner.py", "gang.py"])
def test_programs_are_shipped_into_files_of_our_own_making(tmp_path: Path, name: str) -> None:
    """A link that waits there, or a file that somebody holds open, is not written."""
    root, prey = tmp_path / "spool", tmp_path / "prey"
    root.mkdir(mode=0o755)
    prey.write_text("before")
    (root / f"{name}.new").symlink_to(prey)
    with opened(root):
        assert prey.read_text() == "before"
        assert not (root / name).is_symlink()
        assert (root / name).stat().st_mode & 0o777 == 0o644
    assert (root / "runner.py").read_bytes() == Path(runner.__file__).read_bytes()


def test_a_spool_keeps_what_its_drains_are_known_by(tmp_path: Path) -> None:
    """Over restarts; another one's are another's."""
    names = []
    for root in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        with opened(root):
            names.append(runner.read_json(str(root / "name")))
    assert names[0] == names[2] != names[1]
