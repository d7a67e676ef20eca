"""Checkpoints are a cache: whatever becomes of one, a restart has the world that the journal says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.ids import NodeId, WorkloadId
from headrace.core.observation import RankState
from headrace.core.state import State
from headrace.core.workload import Flex, Resources
from headrace.journal.checkpoint import load, save
from headrace.journal.sqlite import SqliteStore
from tests.journal.small import (
    MEMBER,
    SetClock,
    begun,
    job,
    keys,
    live_a_life,
    opened,
    place,
    report,
    submit,
)


@pytest.fixture
def lived(tmp_path: Path) -> tuple[Path, State]:
    """A state with a whole life, a checkpoint in the middle of what follows, and a tail; and the world at its end."""
    clock = SetClock()
    control = begun(tmp_path, clock=clock)
    live_a_life(control, clock)
    submit(control, "before", job("before"))
    control.checkpoint()
    submit(control, "after", job("after"), job("after that"))
    control.store.close()
    return tmp_path, control.world.state


def _load(folder: Path, name: str = "operator") -> tuple[State, int]:
    store = SqliteStore(folder / "journal.sqlite", readonly=True)
    try:
        loaded = load(store, keys(name))
        return loaded.world.state, loaded.replayed
    finally:
        store.close()


def _only(folder: Path) -> Path:
    (found,) = (folder / "checkpoints").glob("[0-9]*")
    return found


def test_the_state_from_a_checkpoint_and_the_tail_is_that_from_genesis(lived: tuple[Path, State]) -> None:
    """And both are what the writer had; with the checkpoint, only the tail is replayed."""
    folder, state = lived
    with_checkpoint, tail = _load(folder)
    _only(folder).unlink()
    from_genesis, whole = _load(folder)
    assert with_checkpoint == from_genesis == state
    assert (tail, whole) == (2, state.version)


def _flip(at: int) -> Callable[[Path], None]:
    def touch(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return touch


def _cut(size: int) -> Callable[[Path], None]:
    def touch(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:size])

    return touch


def _rename(path: Path) -> None:
    path.rename(path.with_name("00000000000000000003"))


TOUCHES = {
    "digest": _flip(0),
    "signature": _flip(40),
    "state": _flip(-10),
    "empty": _cut(0),
    "cut in its signature": _cut(60),
    "cut in its state": _cut(500),
    "named as another": _rename,
}


@pytest.mark.parametrize("touched", TOUCHES)
def test_a_checkpoint_that_was_touched_is_passed_over(touched: str, lived: tuple[Path, State]) -> None:
    """The whole journal is replayed instead, to the same state."""
    folder, state = lived
    TOUCHES[touched](_only(folder))
    assert _load(folder) == (state, state.version)


def test_a_checkpoint_of_another_signature_is_passed_over(lived: tuple[Path, State]) -> None:
    """Somebody who can write files, but has no key, can't plant a state: not even one that is right."""
    folder, state = lived
    path = _only(folder)
    data = path.read_bytes()[96:]
    path.unlink()
    store = SqliteStore(folder / "journal.sqlite")
    save(store, keys("somebody else"), int(path.name), data)
    store.close()
    assert _load(folder) == (state, state.version)


def test_an_older_good_checkpoint_serves_when_the_newest_is_bad(lived: tuple[Path, State]) -> None:
    """Two are kept for this."""
    folder, _ = lived
    control = opened(folder)
    control.checkpoint()
    submit(control, "more", job("more"))
    state = control.world.state
    control.store.close()
    newest = max((folder / "checkpoints").glob("[0-9]*"))
    _flip(-1)(newest)
    assert _load(folder) == (state, 3)


def test_the_two_newest_are_kept_and_what_a_crash_left_half_written_goes(lived: tuple[Path, State]) -> None:
    """Neither a temporary file nor one that a planner wrote for a control plane that died stays for ever."""
    folder, _ = lived
    checkpoints = folder / "checkpoints"
    (checkpoints / ".7").write_bytes(b"half")
    (checkpoints / "unsigned-8").write_bytes(b"never signed")
    control = opened(folder)
    for number in range(3):
        submit(control, f"more-{number}", job("more"))
        control.checkpoint()
    control.store.close()
    names = sorted(path.name for path in checkpoints.iterdir())
    assert len(names) == 2
    assert all(name.isdigit() for name in names)


def test_a_checkpoint_is_of_what_is_durable(tmp_path: Path) -> None:
    """With something pending it is refused: a restart would know what was never acknowledged."""
    control = begun(tmp_path)
    control.keep("acme", "token-holders", "Ada")
    with pytest.raises(RuntimeError, match="commit first"):
        control.checkpoint()
    control.commit()
    assert control.checkpoint() == control.durable
    control.store.close()


def test_how_long_work_ran_is_known_after_a_restart(tmp_path: Path) -> None:
    """Of jobs that share accelerators in time: from a checkpoint, from genesis and without a restart the same is expected."""
    clock = SetClock()
    control = begun(tmp_path, clock=clock)
    shared: dict[str, object] = {
        "flex": Flex.PREEMPTIBLE,
        "checkpoint_ms": 1_000,
        "resources": Resources("lab", 1),
    }
    submit(control, "ended", *(job(f"job-{number}", **shared) for number in range(3)))
    made = place(control)
    for placement in made:
        report(control, placement, RankState.RUNNING)
    clock.at_ms += 3_600_000
    report(control, made[0], RankState.EXITED, 3_600_000, exit_code=0)
    works = [WorkloadId(placement.rpartition(".")[0]) for placement in made]
    node = NodeId(control.world.state.placements[made[1]].ranks[0].node)
    control.execute(SYSTEM, c.SetNodes((node,), "draining", "a fan", evict=True))
    for placement in [ident for ident, one in control.world.state.placements.items() if one.stop_reason]:
        report(control, placement, RankState.EXITED, 1_800_000, exit_code=143)
    control.commit()
    control.checkpoint()
    submit(control, "more", job("late", **shared))
    control.execute(MEMBER, c.Stop(works[2]))
    control.commit()
    world = control.world
    control.store.close()
    assert world.state.workloads[works[0]].attained_ms == 3_600_000
    assert world.state.workloads[works[1]].attained_ms == 1_800_000
    for tail in (True, False):
        store = SqliteStore(tmp_path / "journal.sqlite", readonly=True)
        loaded = load(store, keys())
        store.close()
        assert (loaded.replayed < world.state.version) == tail
        assert loaded.world.state == world.state
        for ident in world.state.workloads:
            assert list(loaded.world.history.rests_ms(ident)) == list(world.history.rests_ms(ident))
        if tail:
            _only(tmp_path).unlink()
