"""A full disk under a real control plane: it stops acknowledging and says so, it never corrupts, and it goes on afterwards."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from headrace.journal.verify import verify
from tests.durability.client import TENANTS, Api
from tests.durability.evidence import read_journal
from tests.durability.harness import DOCUMENTS, ControlPlane, control_plane
from tests.durability.test_starts import wait_for

TENANT = TENANTS[0]
DISK_BYTES = 6 << 20
BATCH = 200


class Disk(Protocol):
    """Somewhere for a state that can run full."""

    path: Path
    file_limit: int

    def fill(self, plane: ControlPlane) -> None:
        """No byte more from now on."""

    def free(self, plane: ControlPlane) -> None:
        """Room again."""


class SmallDisk:
    """A file system of a few megabytes in memory, and a file that takes all that is left of it."""

    file_limit = 0

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, _: ControlPlane) -> None:
        """Write until there is no room."""
        with contextlib.suppress(OSError), (self.path / "filler").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1 << 8, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def free(self, _: ControlPlane) -> None:
        """Delete what took the room."""
        (self.path / "filler").unlink()


class LimitedFiles:
    """A limit on the size of every file that the control plane writes: what a quota does, and needs no rights."""

    file_limit = 1 << 30

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, plane: ControlPlane) -> None:
        """No file may become larger than the journal is."""
        store = plane.state / "journal.sqlite"
        self._limit(plane, max(store.stat().st_size, store.with_name("journal.sqlite-wal").stat().st_size))

    def free(self, plane: ControlPlane) -> None:
        """Lift the limit."""
        self._limit(plane, self.file_limit)

    def _limit(self, plane: ControlPlane, size: int) -> None:
        if plane.process is not None:
            resource.prlimit(plane.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _mount(path: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Disk]:
    """A small file system, where one may be mounted; else a limit on files, which every user may set."""
    path.mkdir()
    if not _mount(path):
        yield LimitedFiles(path)
        return
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def limited_files(path: Path) -> Iterator[Disk]:
    """A limit on files."""
    path.mkdir()
    yield LimitedFiles(path)


def submit(api: Api, name: str, count: int = BATCH) -> tuple[int, dict[str, object]]:
    """Submit workloads that wait (their power is not there yet), under their name as key."""
    works = [
        {
            "name": f"{name}-{index}",
            "type": "job",
            "project": "main",
            "resources": {"gpu": "lab:4"},
            "nodes": 8,
            "commands": ["sleep 600"],
            "env": {"PADDING": "x" * 200},
        }
        for index in range(count)
    ]
    return api.call("POST", f"/v1/tenants/{TENANT}/workloads", {"workloads": works}, name)


def _until_full(api: Api, acknowledged: set[str]) -> None:
    """Submit until the first refusal, which has to be the right one."""
    for number in range(500):
        status, data = submit(api, f"filling-{number}")
        if status != 201:
            error = data["error"]
            assert isinstance(error, dict)
            assert (status, error["code"]) == (503, "journal_unavailable")
            assert "Free space" in error["next_step"]
            return
        acknowledged.add(f"filling-{number}")
    raise AssertionError("the disk never was full")


def _names(state: Path) -> list[str]:
    found = read_journal(state / "journal.sqlite")
    assert found.problems == []
    return [one.payload["spec"]["name"] for one in found.of("WorkloadSubmitted")]


def _expected(acknowledged: set[str]) -> list[str]:
    return sorted(f"{key}-{index}" for key in acknowledged for index in range(BATCH))


@pytest.mark.parametrize("killed", [False, True], ids=["kept running", "killed while full"])
@pytest.mark.parametrize("disk_of", [small_disk, limited_files])
def test_a_full_disk_stops_acknowledging_and_says_so_and_nothing_is_corrupt(
    disk_of: object, killed: bool, tmp_path: Path
) -> None:
    """Refused with 503 while full, readable all the while; then it goes on, and holds exactly what was acknowledged."""
    make = small_disk if disk_of is small_disk else limited_files
    with make(tmp_path / "disk") as disk, _plane(disk) as plane:
        api, acknowledged = plane.api(), {"before"}
        api.apply(DOCUMENTS)
        assert submit(api, "before")[0] == 201
        disk.fill(plane)
        _until_full(api, acknowledged)
        for number in range(3):
            assert submit(api, f"refused-{number}")[0] == 503
        assert api.call("GET", "/healthz")[1] == {"ok": True, "commits": False}
        status, told = api.call("GET", "/v1/status")
        assert status == 200
        assert told["problem"]["code"] == "journal_unavailable"
        assert sum(told["workloads"].values()) == BATCH * len(acknowledged)
        if killed:
            plane.kill()
        disk.free(plane)
        if killed:
            plane.start()
        wait_for(lambda: api.call("GET", "/healthz")[1]["commits"])
        # A key that was refused is free: it can be asked again, and is done once.
        assert submit(api, "refused-0")[0] == 201
        assert submit(api, "before")[1]["repeated"]
        acknowledged.add("refused-0")
        plane.end()
        assert sorted(_names(plane.state)) == _expected(acknowledged)
        public = bytes.fromhex((plane.state / "keys" / "signing.pub").read_text())
        verified = verify(plane.state / "journal.sqlite", public, replay=True)
        assert verified.events == len(read_journal(plane.state / "journal.sqlite").entries)
        assert verified.signatures == verified.groups


def _plane(disk: Disk) -> contextlib.AbstractContextManager[ControlPlane]:
    return control_plane(disk.path / "state", file_limit=disk.file_limit)
