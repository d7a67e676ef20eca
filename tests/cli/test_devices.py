"""``headrace up --devices`` and ``headrace devices`` of a live control plane, beside a real plant."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.app import run
from tests.cli.plane import LAB, TENANTS, client_of
from tests.cli.test_up import up
from tests.plant.small import control_apart, plant_apart

JOB = """\
kind: workload
name: {name}
type: job
project: research
resources: {{gpu: lab:4}}
commands: [sleep 3600]
policy: {{countries: [NO]}}
flex: {flex}
"""
PATIENCE_S = 60.0
JOBS = ("fjord-ai-1", "fjord-ai-2")


def wait_for(what: Callable[[], Any]) -> Any:
    """Wait until something is so; what it is."""
    until = time.monotonic() + PATIENCE_S
    while not (found := what()):
        if time.monotonic() > until:
            raise TimeoutError("it did not come about")
        time.sleep(0.1)
    return found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command; its exit code and what it said."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        code = run([str(one) for one in arguments])
        found = capsys.readouterr()
        return code, found.out + found.err

    return call


def test_a_file_of_devices_that_others_may_write_is_refused_and_one_that_is_not_there_named(
    tmp_path: Path,
) -> None:
    """It names whom the control plane gives orders to."""
    file = tmp_path / "devices.yaml"
    file.write_text("kind: devices\nsite: fjord\n")
    file.chmod(0o666)
    with up(tmp_path / "state", "--no-isolation", "--devices", str(file)) as words:
        assert "ready" not in words
        assert "the control plane gives orders to what it names, and" in words
    with up(tmp_path / "state", "--no-isolation", "--devices", str(tmp_path / "none.yaml")) as words:
        assert "ready" not in words
        assert "can't read" in words


def test_a_job_is_capped_for_the_grid_and_every_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[..., tuple[int, str]]
) -> None:
    """From `up --devices` to `explain`: what is asked, what the controller says, and for which instruction."""
    tmp_path.chmod(0o755)
    state = tmp_path / "state"
    monkeypatch.setenv("HEADRACE_STATE", str(state))
    for name in ("HEADRACE_URL", "HEADRACE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with (
        plant_apart(tmp_path / "plant", LAB, "--load", "0") as folder,
        up(state, "--no-isolation", "--devices", str(folder / "devices.yaml")) as begun,
    ):
        assert "devices 6 meters, 6 controllers, 0 miners (from " in begun
        assert said("apply", "-y", "-f", LAB, "-f", TENANTS)[0] == 0
        try:
            for flex in ("cappable", "firm"):
                (tmp_path / f"{flex}.yaml").write_text(JOB.format(name=flex, flex=flex))
                assert said("submit", "--tenant", "fjord-ai", "-f", tmp_path / f"{flex}.yaml")[0] == 0
            ranks = wait_for(lambda: _nodes(state))
            control_apart(folder, "/load", {"nodes": ranks, "permille": 1_000})

            def limiters() -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = json.loads(said("devices", "--json")[1])["limiters"]
                return found

            wait_for(lambda: all(one["least_w"] is not None for one in limiters()))
            wait_for(lambda: _sheds_by_cap(said))
            draws_w = json.loads(said("grid", "ls", "--json")[1])["sites"][0]["draws_w"]
            code, words = said(
                "grid", "instruct", "--site", "glomfjord", "--limit", f"{draws_w - 200}W", "--name", "evening"
            )
            assert code == 0, words
            (capped,) = wait_for(lambda: [one for one in limiters() if one["state"] == "capped"])
            assert capped["enforced_w"] == capped["wanted_w"] < 1_000
            assert capped["instruction"] == "evening"
            table = said("devices", "--concerned")[1]
            (line,) = [line for line in table.splitlines() if line.startswith(capped["node"])]
            assert f"limit {capped['wanted_w']} W" in line
            assert line.split()[-1] == "capped"
            explained = said("explain", "fjord-ai-1")[1]
            assert f"capped at {capped['wanted_w']} W on 1 node for instruction evening" in explained
            assert said("grid", "withdraw", "evening")[0] == 0
            wait_for(lambda: all(one["wanted_w"] is None for one in limiters()))
            # What it says is so a moment later.
            wait_for(lambda: {one["cap_w"] for one in control_apart(folder, "/nodes").values()} == {None})
        finally:
            # What runs outlives the control plane.
            said("stop", *JOBS)
            said("wait", *JOBS)


def _nodes(state: Path) -> list[str]:
    """The nodes of the two jobs, once both run."""
    with client_of(state) as client:
        both = [client.workload(ident) for ident in JOBS]
    running = [one for one in both if one.workload.state == "running"]
    return [rank.node for one in running for rank in one.ranks] if len(running) == len(both) else []


def _sheds_by_cap(said: Callable[..., tuple[int, str]]) -> bool:
    """Whether the site's ladder has somebody to cap."""
    (site,) = [
        one for one in json.loads(said("grid", "ls", "--json")[1])["sites"] if one["site"] == "glomfjord"
    ]
    return any(rung["rung"] == "cap" and rung["sheds_w"] for rung in site["rungs"])


def test_devices_without_a_control_plane_s_own_are_none_and_orders_want_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[..., tuple[int, str]]
) -> None:
    """The way to some is named."""
    monkeypatch.setenv("HEADRACE_STATE", str(tmp_path / "state"))
    with up(tmp_path / "state", "--no-isolation"):
        code, words = said("devices")
        assert (code, words.strip()) == (0, "no devices: start `headrace up` with --devices FILE.")
        code, words = said("devices", "--limit", "all=700W")
        assert code == 2
        assert "devices are told only by their file; Give it first" in words
