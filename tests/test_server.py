"""A live control plane: one to a state, closed cleanly, and after a crash it knows what became of what ran."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.core.errors import HeadraceError, ProblemCode
from headrace.server import Server, Settings
from headrace.state import ClientFile, StateDirectory
from tests.durability.client import TENANTS, Api
from tests.durability.evidence import read_journal
from tests.durability.harness import DOCUMENTS, control_plane

TENANT = TENANTS[0]
PATIENCE_S = 60.0


def wait_for(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > until:
            raise TimeoutError("it did not come about")
        time.sleep(0.05)


def submit(api: Api, name: str, command: str) -> str:
    """Submit a job; its name."""
    work = {
        "name": name,
        "type": "job",
        "project": "main",
        "resources": {"gpu": "lab:1"},
        "commands": [command],
    }
    status, data = api.call("POST", f"/v1/tenants/{TENANT}/workloads", {"workloads": [work]}, name)
    assert status == 201, data
    return str(data["workloads"][0])


def workload(api: Api, ident: str) -> dict[str, Any]:
    found: dict[str, Any] = api.call("GET", f"/v1/workloads/{ident}")[1]["workload"]
    return found


def test_after_a_crash_what_runs_is_adopted_and_what_ended_meanwhile_is_learnt(tmp_path: Path) -> None:
    """The real processes went on without the control plane: none is started twice, no exit code is lost."""
    with control_plane(tmp_path / "state") as plane:
        api = plane.api()
        api.apply(DOCUMENTS)
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        long = submit(api, "long", "sleep 600")
        short = submit(api, "short", f"read line < {gate}; exit 7")
        wait_for(lambda: {workload(api, one)["state"] for one in (long, short)} == {"running"})
        runners = set(plane.runners())
        assert len(runners) == 2
        plane.kill()
        # It ends while nobody is there to see it.
        gate.write_text("go\n")
        wait_for(lambda: len(plane.runners()) == 1)
        plane.start()
        api = plane.api()
        wait_for(lambda: workload(api, short)["state"] == "failed")
        assert workload(api, short)["exit_codes"] == [7]
        assert workload(api, long)["state"] == "running"
        assert set(plane.runners()) < runners
        journal = read_journal(tmp_path / "state" / "journal.sqlite")
        assert sorted(one.payload["placement"] for one in journal.of("PlacementMade")) == [
            f"{long}.1",
            f"{short}.1",
        ]
        (ended,) = journal.of("PlacementEnded")
        assert not ended.payload.get("estimated", False)
        assert ended.payload["ranks"][0][0] > 0


def test_sigterm_closes_cleanly(tmp_path: Path) -> None:
    """Exit code 0, nothing said, no planner left behind, a checkpoint of everything, and the port is free."""
    with control_plane(tmp_path / "state") as plane:
        plane.api().apply(DOCUMENTS)
        submit(plane.api(), "late", "exit 0")
        process, planners = plane.process, plane.planners()
        assert process is not None
        assert len(planners) == 1
        plane.end()
        assert process.returncode == 0
        assert plane.errors() == ""
        assert not Path(f"/proc/{planners[0]}").exists()
        journal = read_journal(tmp_path / "state" / "journal.sqlite")
        names = [path.name for path in (tmp_path / "state" / "checkpoints").iterdir()]
        assert any(str(journal.entries[-1].seq + 1) in name for name in names), names
        socket.create_server(("127.0.0.1", plane.port)).close()


def test_a_planner_that_dies_is_replaced_while_the_control_plane_runs(tmp_path: Path) -> None:
    """Nobody notices but the process table."""
    with control_plane(tmp_path / "state") as plane:
        plane.api().apply(DOCUMENTS)
        (first,) = plane.planners()
        os.kill(first, signal.SIGKILL)
        ident = submit(plane.api(), "a", "exit 0")
        wait_for(lambda: workload(plane.api(), ident)["state"] == "succeeded")
        assert plane.planners() not in ([], [first])


def test_a_state_is_held_by_one_and_the_refusal_names_it(tmp_path: Path) -> None:
    """The lock goes with its holder, however that ends."""
    directory = StateDirectory(tmp_path / "state")
    held = directory.hold()
    with pytest.raises(HeadraceError) as raised:
        Server(Settings(tmp_path / "state", port=0))
    assert raised.value.problem.code is ProblemCode.IN_USE
    assert str(os.getpid()) in raised.value.problem.message
    assert "--state" in raised.value.problem.next_step
    os.close(held)
    os.close(directory.hold())


def test_a_state_that_can_not_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    """A file stands where the directory should."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HeadraceError) as raised:
        Server(Settings(tmp_path / "file", port=0))
    assert raised.value.problem.code is ProblemCode.BAD_INPUT
    assert str(tmp_path / "file") in raised.value.problem.message


def test_the_file_for_clients_is_its_users_alone_and_garbage_is_none(tmp_path: Path) -> None:
    """It holds the admin's token."""
    directory = StateDirectory(tmp_path)
    assert directory.read_client() is None
    directory.write_client(ClientFile("http://127.0.0.1:1", "hr_x"))
    assert directory.client.stat().st_mode & 0o777 == 0o600
    assert directory.read_client() == ClientFile("http://127.0.0.1:1", "hr_x")
    assert [path.name for path in tmp_path.iterdir()] == ["client.json"]
    for garbage in (b"", b"{", b"[]", b"\xff", json.dumps({"url": 1}).encode()):
        directory.client.write_bytes(garbage)
        assert directory.read_client() is None
