"""Starting, stopping and starting again: one control plane at a time, and nothing is forgotten between two."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.durability.client import TENANTS, Api, Unanswered
from tests.durability.evidence import read_journal
from tests.durability.harness import DOCUMENTS, ControlPlane, control_plane, issue

TENANT = TENANTS[0]
PATIENCE_S = 30.0


def submit(api: Api, name: str, key: str, **more: object) -> Any:
    """Submit one job; the answer's body, RuntimeError unless it was taken."""
    work = {
        "name": name,
        "type": "job",
        "project": "main",
        "resources": {"gpu": "lab:1"},
        "commands": ["exit 0"],
    }
    status, data = api.call("POST", f"/v1/tenants/{TENANT}/workloads", {"workloads": [work | more]}, key)
    if status != 201:
        raise RuntimeError(f"{status}: {data}")
    return data


def state_of(api: Api, workload: str) -> str:
    """A workload's state by the API."""
    return str(api.call("GET", f"/v1/workloads/{workload}")[1]["workload"]["state"])


def wait_for(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > until:
            raise TimeoutError("it did not come about")
        time.sleep(0.05)


def test_a_second_control_plane_on_one_state_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    """It ends with an error that names the holder and the next step; the first goes on."""
    with control_plane(tmp_path / "state") as first:
        assert first.process is not None
        second = ControlPlane(tmp_path / "state")
        with pytest.raises(RuntimeError, match=f"in use by process {first.process.pid}.*another --state"):
            second.start()
        second.said.close()
        first.api().apply(DOCUMENTS)
        assert submit(first.api(), "after", "k")["workloads"]


def test_a_stopped_and_started_control_plane_goes_on_where_it_was(tmp_path: Path) -> None:
    """After SIGTERM: what runs goes on running, keys and heads are remembered, numbers go on, a checkpoint is there."""
    with control_plane(tmp_path / "state") as plane:
        plane.api().apply(DOCUMENTS)
        first = submit(plane.api(), "first", "k1", commands=["sleep 60"])
        (ident,) = first["workloads"]
        wait_for(lambda: state_of(plane.api(), ident) == "running")
        runners = plane.runners()
        plane.end()
        assert plane.runners() == runners
        assert any((tmp_path / "state" / "checkpoints").iterdir())
        plane.start()
        again = submit(plane.api(), "first", "k1", commands=["sleep 60"])
        assert again["repeated"]
        assert again["workloads"] == [ident]
        assert again["head"]["size"] > first["head"]["size"]
        assert submit(plane.api(), "second", "k2")["workloads"] == [f"{TENANT}-2"]
        assert state_of(plane.api(), ident) == "running"
        assert set(runners) <= set(plane.runners())


@pytest.mark.parametrize("after_s", [0.2, 0.35, 0.5, 0.65, 0.8, 1.0])
def test_a_first_start_that_is_killed_leaves_a_state_that_its_operator_can_open(
    after_s: float, tmp_path: Path
) -> None:
    """Whatever was on disk by then: the next start has an admin token that works, in the file for clients."""
    plane = ControlPlane(tmp_path / "state")
    plane.launch()
    time.sleep(after_s)
    plane.kill()
    plane.said.close()
    with control_plane(tmp_path / "state") as plane:
        plane.api().apply(DOCUMENTS)
        assert submit(plane.api(), "first", "k1")["workloads"] == [f"{TENANT}-1"]


def test_the_admin_token_is_on_disk_before_the_journal_knows_it(tmp_path: Path) -> None:
    """A crash between the two would lock the operator out for good: the state is opened by a token that nobody has."""
    with control_plane(tmp_path / "state") as plane:
        made = read_journal(tmp_path / "state" / "journal.sqlite")
        (issued,) = made.of("TokenIssued")
        client = tmp_path / "state" / "client.json"
        # The state as a crash right after the first commit leaves it: the address is not known yet.
        plane.kill()
        client.write_text(json.dumps(json.loads(client.read_text()) | {"url": ""}))
        plane.start()
        assert plane.api().call("GET", "/v1/whoami")[0] == 200
        assert [one.seq for one in read_journal(tmp_path / "state" / "journal.sqlite").of("TokenIssued")] == [
            issued.seq
        ]


def test_after_a_reboot_an_interval_ends_at_its_last_heartbeat_and_is_marked_estimated(
    tmp_path: Path,
) -> None:
    """The processes are gone and the boot id is another: what was recorded is billed, and the invoice line says so."""
    with control_plane(tmp_path / "state") as plane:
        plane.api().apply(DOCUMENTS)
        (ident,) = submit(plane.api(), "long", "k1", commands=["sleep 600"])["workloads"]
        wait_for(lambda: state_of(plane.api(), ident) == "running")
        record_path = tmp_path / "state" / "engine" / "placements" / f"{ident}.1" / "0" / "record.json"
        # A heartbeat after the start, so that there is something to bill.
        wait_for(lambda: json.loads(record_path.read_bytes())["running_ms"] > 0)
        plane.kill()
        for pid in plane.runners():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not plane.runners())
        record = json.loads(record_path.read_bytes())
        record_path.write_text(json.dumps(record | {"boot_id": "00000000-0000-4000-8000-000000000000"}))
        plane.start()
        wait_for(lambda: _ended(tmp_path, ident))
        ended = _ended(tmp_path, ident)[0]
        assert ended["estimated"]
        assert ended["reason"] == "node_lost"
        assert ended["ranks"] == [[record["running_ms"], record["paused_ms"]]]
        wait_for(lambda: state_of(plane.api(), ident) == "running")
        plane.api().call("POST", f"/v1/workloads/{ident}/stop")
        wait_for(lambda: state_of(plane.api(), ident) == "stopped")
        assert issue(plane.api(), TENANT) == 201
        (invoice,) = plane.api().call("GET", "/v1/invoices")[1]["invoices"]
        lines = [line for line in invoice["invoice"]["lines"] if line["item"] == "capacity"]
        assert [line["estimated"] for line in lines] == [True]
        assert "estimated" in lines[0]["description"]


def _ended(folder: Path, workload: str) -> list[dict[str, Any]]:
    journal = read_journal(folder / "state" / "journal.sqlite")
    return [
        one.payload for one in journal.of("PlacementEnded") if one.payload["placement"] == f"{workload}.1"
    ]


def test_a_client_whose_connection_broke_learns_what_became_of_its_request(tmp_path: Path) -> None:
    """Killed under a request: with the same key it is answered the same, whether it had been done or not."""
    with control_plane(tmp_path / "state") as plane:
        plane.api().apply(DOCUMENTS)
        api, unanswered = plane.api(), 0
        for number in range(3):
            killing = threading.Timer(0.01 * number, plane.kill)
            killing.start()
            try:
                while True:
                    submit(api, f"w-{number}", f"k-{number}")
            except Unanswered:
                unanswered += 1
            killing.join()
            plane.start()
            answer = submit(api, f"w-{number}", f"k-{number}")
            assert submit(api, f"w-{number}", f"k-{number}")["workloads"] == answer["workloads"]
        assert unanswered == 3
        journal = read_journal(tmp_path / "state" / "journal.sqlite")
        names = [one.payload["spec"]["name"] for one in journal.of("WorkloadSubmitted")]
        assert sorted(names) == ["w-0", "w-1", "w-2"]
