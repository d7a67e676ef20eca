"""``headrace up``: what it says before it serves, and ``status`` of what keeps it from its clusters."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.cli.app import run
from tests.cli.plane import LAB, ROOT

RAY = "kind: engine\nname: far\nspool: {state}/far\nray: {{url: 'http://127.0.0.1:1', tenant: t}}\nisolate: false\n"
SLURM = (
    "kind: engine\nname: near\nspool: {state}/near\nslurm: {{conf: /none/slurm.conf}}\nisolate: {isolate}\n"
)


@contextmanager
def up(state: Path, *options: str) -> Iterator[str]:
    """A control plane until the block ends; what it said up to `ready`."""
    command = [sys.executable, "-P", "-m", "headrace", "up", "--state", str(state), "--port", "0", *options]
    env = os.environ | {"PATH": f"{state}:{os.environ['PATH']}"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready"):
                break
        yield "".join(said)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_up_warns_when_tenants_would_be_root(tmp_path: Path) -> None:
    """By an option or by the file of engines; not where each has a user, or where a cluster's jobs are not this process's."""
    assert os.geteuid() == 0
    file = tmp_path / "engines.yaml"
    for isolate, warns in (("false", True), ("true", False)):
        file.write_text(f"{SLURM}---\n{RAY}".format(state=tmp_path, isolate=isolate))
        file.chmod(0o600)
        with up(tmp_path / "state", "--no-isolation", "--engines", str(file)) as said:
            why = "--no-isolation and isolate: false of near" if warns else "--no-isolation"
            assert f"WARNING: {why}, as root: what tenants run is root too." in said
            assert "the operator's token and keys" in said


@pytest.mark.parametrize("conf", ["/none/slurm.conf", "slurm.conf"])
def test_up_ends_soon_whatever_its_clusters_do(tmp_path: Path, conf: str) -> None:
    """A Slurm without its configuration, one whose commands never answer, a Ray that is not there: SIGTERM is heard."""
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "slurm.conf").touch()
    for name in ("scontrol", "squeue", "sinfo"):
        (state / name).write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/asked\nexec sleep 1000\n")
        (state / name).chmod(0o755)
    file = tmp_path / "engines.yaml"
    slurm = SLURM.replace("/none/slurm.conf", str(tmp_path / conf))
    file.write_text(f"{slurm}---\n{RAY}".format(state=tmp_path, isolate="true"))
    file.chmod(0o600)
    asked = tmp_path / "asked"
    # The patience of the block's end is half of what such a command may take.
    with up(state, "--no-isolation", "--engines", str(file)) as said:
        assert "ready" in said
        give_up = time.monotonic() + 30
        while conf == "slurm.conf" and not asked.exists():
            assert time.monotonic() < give_up
            time.sleep(0.05)
    for pid in asked.read_text().split() if asked.exists() else ():
        assert not Path(f"/proc/{pid}").exists()


def test_up_names_nodes_and_tenants_of_the_file_that_are_nobody_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is meant, where an estate is applied; doctor and the table of engines say the same, and so does no other name."""
    state = tmp_path / "state"
    state.mkdir()
    file = state / "engines.yaml"
    file.write_text(
        f"{SLURM}nodes: {{{{glomfjord/block-1/lab-0-o: n1}}}}\n".format(
            state=tmp_path, isolate="true"
        ).replace("slurm.conf}", "slurm.conf, accounts: {fjord-a: fjord, fjord-ai: fjord}}")
    )
    file.chmod(0o600)
    monkeypatch.setenv("HEADRACE_STATE", str(state))
    with up(state, "--no-isolation") as said:
        assert "WARNING: engine near: " not in said
        assert run(["apply", "-y", "-f", str(LAB), "-f", str(ROOT / "examples" / "tenants.yaml")]) == 0
        assert run(["engines"]) == 0
        table = capsys.readouterr().out
        assert "no such node of the estate; did you mean glomfjord/" in table
        assert "no such tenant; did you mean fjord-ai?" in table
        assert run(["doctor"]) == 1
        found = capsys.readouterr().out
    with up(state, "--no-isolation") as said:
        assert (
            "WARNING: engine near: nodes: no node of the estate 'glomfjord/block-1/lab-0-o'; known: " in said
        )
        assert "WARNING: engine near: tenants: no tenant 'fjord-a'; known: " in said
    for line in ("nodes: no node of the estate 'glomfjord/block-1/lab-0-o'", "tenants: no tenant 'fjord-a'"):
        assert line in found
    assert "Did you mean fjord-ai?" in found
    assert "'fjord-ai'" not in found


def test_status_says_what_keeps_an_engine_from_its_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to ask for the engines to learn that one does nothing."""
    state = tmp_path / "state"
    state.mkdir()
    file = state / "engines.yaml"
    file.write_text(RAY.format(state=tmp_path))
    file.chmod(0o600)
    monkeypatch.setenv("HEADRACE_STATE", str(state))
    with up(state, "--no-isolation"):
        assert run(["status"]) == 0
    said = capsys.readouterr().out
    assert "engine far: " in said
    assert "engine local" not in said


def test_a_control_plane_with_another_journal_is_refused_at_its_start(tmp_path: Path) -> None:
    """As often as it is tried, with the spool's path and the next step; the first one's spool stays its own."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "engines.yaml"
        file.write_text(RAY.format(state=tmp_path))
        file.chmod(0o600)
    with up(tmp_path / "first", "--no-isolation") as said:
        assert "ready" in said
        epoch = (tmp_path / "far" / "epoch").read_text()
        for _ in range(3):
            with up(tmp_path / "second", "--no-isolation") as told:
                assert "ready" not in told
                assert f"the spool {tmp_path}/far belongs to the control plane of journal" in told
        assert (tmp_path / "far" / "epoch").read_text() == epoch
