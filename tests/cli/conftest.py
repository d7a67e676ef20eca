"""One control plane for all tests of the command line, and a way to run commands against it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.cli.app import run
from tests.cli.plane import LAB, TENANTS, control_plane


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


Headrace = Callable[..., Said]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a control plane with the lab estate and its tenants."""
    with control_plane(tmp_path_factory.mktemp("plane") / "state") as state:
        with pytest.MonkeyPatch.context() as env:
            _point(env, state)
            assert run(["apply", "-f", str(LAB), "-f", str(TENANTS), "-y"]) == 0
        yield state


def _point(env: pytest.MonkeyPatch, state: Path) -> None:
    env.setenv("HEADRACE_STATE", str(state))
    env.delenv("HEADRACE_URL", raising=False)
    env.delenv("HEADRACE_TOKEN", raising=False)


@pytest.fixture
def headrace(plane: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Headrace:
    """Run a command as a user would, as far as the process's own environment goes."""
    _point(monkeypatch, plane)

    def call(*arguments: str | Path) -> Said:
        capsys.readouterr()
        code = run([str(one) for one in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call
