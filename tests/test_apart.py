"""Work on a moment of the world in a process of its own."""

import asyncio
import os
import time

import pytest

from headrace.apart import apart
from headrace.core.errors import HeadraceError, Problem, ProblemCode

WORLD = {"jobs": 3}


def refuse() -> bytes:
    """Somebody asked for what is not there."""
    raise HeadraceError(Problem(ProblemCode.NOT_FOUND, "no site 'x'.", "Known: y.", "sites[0]", ("y",)))


def fail() -> bytes:
    """A defect."""
    raise ZeroDivisionError("a defect")


def change() -> bytes:
    """Change what the parent has too."""
    WORLD["jobs"] += 1
    return str(WORLD["jobs"]).encode()


def forever() -> bytes:
    """Never answers."""
    time.sleep(600)
    return b""


def processes() -> set[str]:
    """The children of this process that have not ended."""
    path = f"/proc/self/task/{os.getpid()}/children"
    with open(path, encoding="ascii") as file:
        return set(file.read().split())


def test_it_sees_the_world_and_changes_nothing_of_it() -> None:
    """What it changes is gone with it."""
    assert asyncio.run(apart(change)) == b"4"
    assert WORLD == {"jobs": 3}


def test_a_refusal_comes_back_whole() -> None:
    """With its place, its next step and what is related."""
    with pytest.raises(HeadraceError) as caught:
        asyncio.run(apart(refuse))
    assert caught.value.problem == Problem(
        ProblemCode.NOT_FOUND, "no site 'x'.", "Known: y.", "sites[0]", ("y",)
    )


@pytest.mark.parametrize(
    ("work", "said"), [(fail, "ZeroDivisionError: a defect"), (lambda: os._exit(9), "without a word")]
)
def test_a_defect_is_named(work: object, said: str) -> None:
    """What went wrong in the other process, or that it ended."""
    with pytest.raises(HeadraceError, match=said) as caught:
        asyncio.run(apart(work))  # type: ignore[arg-type]
    assert caught.value.problem.code is ProblemCode.BROKEN


def test_others_go_on_meanwhile_and_a_cancelled_one_ends() -> None:
    """The loop turns while it works; its process is gone once nobody waits for it."""

    async def run() -> int:
        before = processes()
        task = asyncio.create_task(apart(forever))
        for _ in range(20):
            await asyncio.sleep(0.001)
        started = len(processes() - before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(2_000):
            if not processes() - before:
                return started
            await asyncio.sleep(0.005)
        raise AssertionError("its process is still there")

    assert asyncio.run(run()) == 1


def test_it_holds_nothing_open_of_its_parent() -> None:
    """A lock or a port that the parent leaves behind is free, though somebody is still planning."""

    def opened() -> bytes:
        paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return b" ".join(os.readlink(path).encode() for path in paths if os.path.lexists(path))

    with open("/dev/zero", "rb"):
        assert b"/dev/zero" not in asyncio.run(apart(opened))
