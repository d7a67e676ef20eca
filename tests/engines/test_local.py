"""The local engine keeps the contract with real processes, and what is promised of them alone."""

import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.core.ids import Epoch, PlacementId
from headrace.engines import runner
from headrace.engines.local import LocalEngine, LocalSettings
from headrace.engines.logs import read_log
from headrace.engines.machine import PortPool, port_is_free
from headrace.ports import Engine, EngineError, RankState
from tests.engines.contract import (
    FIRST,
    LONG_GRACE_MS,
    SECOND,
    EngineContract,
    become,
    ended,
    order_of,
    read_all,
    report_of,
    states,
)

PATIENCE_S = 20
IS_ROOT = os.geteuid() == 0


class LocalHarness:
    """An engine on a directory of its own, and a look behind it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings: dict[str, Any] = {"heartbeat_ms": 200}
        self.isolate = False
        self.engine: Engine = self.reopened()

    def reopened(self) -> Engine:
        """A new engine on the same directory; the old one is never asked again."""
        # What is called python for the workloads: a directory that every user may enter.
        settings = LocalSettings(**self.settings)
        return LocalEngine(self.root, "/bin/sh", isolate=self.isolate, settings=settings)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, f"did not happen in {PATIENCE_S} s: {self.engine.observe()}"
            time.sleep(0.005)

    def pass_ms(self, duration_ms: int) -> None:
        """Wait for as long."""
        time.sleep(duration_ms / 1000)

    def rank_dir(self, placement: PlacementId = FIRST, rank: int = 0) -> Path:
        """Where the record is."""
        return self.root / "placements" / placement / str(rank)

    def record(self, placement: PlacementId = FIRST, rank: int = 0) -> dict[str, Any]:
        """What the runner wrote last."""
        found = runner.read_json(str(self.rank_dir(placement, rank) / runner.RECORD))
        assert isinstance(found, dict)
        return found

    def kill_runner(self, placement: PlacementId, rank: int) -> None:
        """SIGKILL."""
        os.kill(self.record(placement, rank)["runner"][0], signal.SIGKILL)

    def close(self) -> None:
        """Leave no process behind, whatever the test left running."""
        for path in self.root.glob("placements/*/*/record.json"):
            record = runner.read_json(str(path))
            if record["state"] in ("running", "paused") and runner.is_alive(*record["runner"]):
                os.kill(record["runner"][0], signal.SIGTERM)
                path.with_name(runner.CONTROL).write_text('{"paused": false, "stop_until_ms": 0}')
                self.until(lambda record=record: not runner.is_alive(*record["runner"]))  # type: ignore[misc]


@pytest.fixture
def harness() -> Iterator[LocalHarness]:
    """An engine on a short path that other users may pass through (pytest's own directories are closed to them)."""
    root = Path(tempfile.mkdtemp(prefix="headrace-"))
    root.chmod(0o711)
    made = LocalHarness(root / "engine")
    yield made
    made.close()
    shutil.rmtree(root)


class TestLocal(EngineContract):
    """The contract on real processes."""


def written_pid(harness: LocalHarness, rank: int = 0, placement: PlacementId = FIRST) -> int:
    """The number that the rank wrote first."""
    harness.until(lambda: read_all(harness.engine, placement, rank).endswith("\n"))
    return int(read_all(harness.engine, placement, rank).split()[0])


def lives(pid: int) -> bool:
    """Whether a process runs."""
    found = runner.read_stat(pid)
    return found is not None and found[0] not in "ZX"


# --- the environment ----------------------------------------------------------------------------------------------


def test_nothing_of_the_control_planes_environment_reaches_a_rank(
    harness: LocalHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All variables that a rank has are named here."""
    monkeypatch.setenv("HEADRACE_TOKEN", "secret")
    monkeypatch.setenv("SURPRISE", "secret")
    harness.engine.start(order_of("env", env={"MINE": "1"}, ports={"http-api": 0}))
    ended(harness)
    names = {line.partition("=")[0] for line in read_all(harness.engine, FIRST, 0).splitlines()}
    assert names == {
        *("PATH", "HOME", "TMPDIR", "LANG", "PWD", "PYTHONUNBUFFERED", "MINE"),
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"),
        *(f"HEADRACE_{name}" for name in ("WORKLOAD", "PLACEMENT", "TENANT", "SITE", "NODE", "EPOCH", "RUN")),
        *("HEADRACE_ACCELERATORS", "HEADRACE_ACCELERATOR_MODEL", "HEADRACE_ACCELERATOR_SHARE"),
        "HEADRACE_PORT_HTTP_API",
    }


def test_a_rank_has_a_directory_of_its_own_and_inherits_no_open_file(harness: LocalHarness) -> None:
    """Where it starts is its home; all it has open are its three streams."""
    harness.engine.start(order_of("pwd; echo $HOME; ls; exec ls /proc/self/fd", nodes=2))
    ended(harness)
    first, second = (read_all(harness.engine, FIRST, rank).split() for rank in range(2))
    assert first[0] == first[1] != second[0]
    # The fourth is the directory that ls itself is reading.
    assert first[2:] == ["0", "1", "2", "3"]


def test_secrets_are_off_the_disk_once_a_rank_runs(harness: LocalHarness) -> None:
    """The order's file is gone, and the record does not repeat it."""
    harness.engine.start(order_of("sleep 30", env={"API_KEY": "hunter2"}))
    become(harness, RankState.RUNNING)
    files = [path for path in harness.root.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


def test_a_rank_is_held_to_its_share_of_the_cores(harness: LocalHarness) -> None:
    """A node's accelerators stand for the machine's cores; the least used come first."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    harness.settings["cores"] = cores
    harness.engine = harness.reopened()
    harness.engine.start(order_of("grep Cpus_allowed_list /proc/self/status"))
    harness.engine.start(
        order_of("grep Cpus_allowed_list /proc/self/status", placement=SECOND, accelerators=4)
    )
    for placement, count in ((FIRST, -(-len(cores) // 4)), (SECOND, len(cores))):
        ended(harness, placement)
        allowed = read_all(harness.engine, placement, 0).split()[1]
        assert len(_expand(allowed)) == count


def test_real_accelerators_are_shown_to_a_rank_by_number(harness: LocalHarness, tmp_path: Path) -> None:
    """Only those of its share; on a machine without any the variable is not set (see the environment above)."""
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl"):
        (tmp_path / name).touch()
    harness.settings["devices"] = tmp_path
    harness.engine = harness.reopened()
    harness.engine.start(order_of("echo $CUDA_VISIBLE_DEVICES", accelerators=2))
    ended(harness)
    assert read_all(harness.engine, FIRST, 0) == "0,1\n"


def test_a_port_that_somebody_has_is_not_given_out(harness: LocalHarness) -> None:
    """A fixed one that is taken is an error that names it; it may become free."""
    harness.engine.start(order_of("sleep 30", ports={"http": 20_555}))
    become(harness, RankState.RUNNING)
    with pytest.raises(EngineError, match=r"port 20555 \(http\) is in use; write `http: auto`"):
        harness.engine.start(order_of("sleep 30", placement=SECOND, ports={"http": 20_555}))
    assert report_of(harness.engine, SECOND) is None


def test_two_engines_of_one_machine_do_not_hand_out_the_same_ports() -> None:
    """Until it is bound a port looks free to both: a program that takes seconds to start would lose it."""
    pools = [PortPool(range(20_000, 30_000), Path("/srv") / name) for name in ("one", "other")]
    handed = [[pool.take(()) for _ in range(50)] for pool in pools]
    assert not set(handed[0]) & set(handed[1])


def test_a_port_that_somebody_has_on_another_address_is_not_free() -> None:
    """Programs that listen on every address could not bind it."""
    with socket.create_server(("127.0.0.2", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


# --- ends ---------------------------------------------------------------------------------------------------------

DAEMON = "setsid sh -c 'trap \"\" TERM HUP; echo $$; exec sleep 60' & "


@pytest.mark.parametrize("how", ["exits", "is stopped", "loses its runner"])
def test_what_forked_twice_into_a_session_of_its_own_ends_with_its_rank(
    harness: LocalHarness, how: str
) -> None:
    """Nothing of a placement is left when it is reported as ended."""
    last = "sleep 0.2; exit 0" if how == "exits" else "sleep 30"
    harness.engine.start(order_of(f"({DAEMON}) &", last))
    straggler = written_pid(harness)
    if how == "is stopped":
        harness.engine.stop(FIRST, 100)
    elif how == "loses its runner":
        harness.kill_runner(FIRST, 0)
    ended(harness)
    assert not lives(straggler)


def test_processes_that_clean_up_keep_their_grace_though_the_shell_is_gone(harness: LocalHarness) -> None:
    """The shell dies of SIGTERM at once; what it ran may still finish."""
    child = "sh -c 'trap \"sleep 0.3; echo saved; exit 0\" TERM; echo ready; while :; do sleep 0.05; done'"
    harness.engine.start(order_of(f"{child} & wait"))
    harness.until(lambda: read_all(harness.engine, FIRST, 0) == "ready\n")
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    ended(harness)
    assert read_all(harness.engine, FIRST, 0) == "ready\nsaved\n"


def test_a_pause_stops_every_process_of_the_rank(harness: LocalHarness) -> None:
    """Also those in sessions of their own; a resume lets all go on."""
    harness.engine.start(order_of(DAEMON, "sleep 30"))
    pid = written_pid(harness)
    become(harness, RankState.RUNNING)
    harness.engine.pause(FIRST)
    become(harness, RankState.PAUSED)
    assert _state(pid) == "T"
    assert _state(harness.record()["child"][0]) == "T"
    harness.engine.resume(FIRST)
    become(harness, RankState.RUNNING)
    harness.until(lambda: _state(pid) == "S")


def test_a_killed_runner_takes_its_rank_along(harness: LocalHarness) -> None:
    """What nobody meters does not run; what ran until the last heartbeat is kept."""
    harness.engine.start(order_of("echo $$; sleep 30 | sleep 30"))
    pid = written_pid(harness)
    harness.until(lambda: harness.record()["running_ms"] >= 200)
    harness.kill_runner(FIRST, 0)
    rank = ended(harness).ranks[0]
    assert (rank.state, rank.estimated) == (RankState.LOST, True)
    assert rank.running_ms >= 200
    assert not lives(pid)


def test_after_a_reboot_the_interval_ends_at_the_last_heartbeat(harness: LocalHarness) -> None:
    """A record of another boot is of nothing that runs, whatever has its pid now: that is left alone."""
    harness.engine.start(order_of("sleep 30"))
    become(harness, RankState.RUNNING)
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    ended(harness)
    ourselves = [os.getpid(), (runner.read_stat(os.getpid()) or ("", 0, 0, 0))[3]]
    before = harness.record() | {
        "state": "running",
        "running_ms": 12_345,
        "exit_code": None,
        "runner": ourselves,
    }
    _put_record(harness, before | {"boot_id": "another boot", "child": ourselves})
    harness.engine = harness.reopened()
    report = report_of(harness.engine)
    assert report is not None
    rank = report.ranks[0]
    assert (rank.state, rank.running_ms, rank.estimated) == (RankState.LOST, 12_345, True)


def test_a_pid_that_was_given_to_another_process_is_not_taken_for_the_runner(harness: LocalHarness) -> None:
    """Pid and start time must agree; the other process is not touched."""
    other = subprocess.Popen(["/bin/sleep", "30"], start_new_session=True)
    try:
        harness.engine.start(order_of("exit 0"))
        ended(harness)
        _put_record(
            harness,
            harness.record()
            | {"state": "running", "exit_code": None, "runner": [other.pid, 1], "child": [other.pid, 1]},
        )
        harness.engine = harness.reopened()
        assert states(harness.engine) == [RankState.LOST]
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_an_end_that_the_full_disk_does_not_take_is_recorded_when_it_does(harness: LocalHarness) -> None:
    """The exit code is nowhere else, so the runner keeps it and tries again; nothing torn is ever read."""
    harness.engine.start(
        order_of("echo before", "while [ ! -e go ]; do sleep 0.02; done", "echo lost", "exit 7")
    )
    harness.until(lambda: read_all(harness.engine, FIRST, 0) == "before\n")
    go = next(harness.root.glob(f"work/*/{FIRST}/0")) / "go"
    pid = harness.record()["runner"][0]
    # No file of the runner may grow any more: it gets the same kind of error as from a full disk.
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    assert limits == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    child = harness.record()["child"][0]
    go.touch()
    harness.until(lambda: runner.read_stat(child) is None)
    harness.pass_ms(2 * runner.RETRY_MS)
    assert states(harness.engine) == [RankState.RUNNING]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert ended(harness).ranks[0].exit_code == 7
    assert read_all(harness.engine, FIRST, 0) == "before\n"


def test_a_log_that_can_not_be_written_has_a_gap_and_keeps_its_offsets(tmp_path: Path) -> None:
    """A full disk must never hold up the work: what follows stands where it would have stood."""
    log = runner.Log(str(tmp_path / "log"), "stdout", segment_bytes=8, keep=10)
    log.write(b"0123")
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "log").touch()
    log.write(b"lost")
    (tmp_path / "log").unlink()
    log.write(b"89abcdefgh")
    log.close()
    chunk = read_log(tmp_path / "log", "stdout", 2, 4, ended=True)
    assert (chunk.data, chunk.offset, chunk.next_offset, chunk.ended) == (b"89ab", 8, 12, False)
    assert read_log(tmp_path / "log", "stdout", 12, 100, ended=True).data == b"cdef"
    assert read_log(tmp_path / "log", "stdout", 16, 100, ended=True).data == b"gh"
    assert read_log(tmp_path / "log", "stdout", 18, 100, ended=True).ended


# --- logs ---------------------------------------------------------------------------------------------------------


def test_a_rotated_log_keeps_its_offsets(harness: LocalHarness) -> None:
    """The oldest pieces go; what is left is found under the offsets that it always had."""
    harness.settings |= {"log_segment_bytes": 1_000, "log_segments": 3}
    harness.engine = harness.reopened()
    harness.engine.start(order_of("i=0; while [ $i -lt 1000 ]; do printf '%09d\\n' $i; i=$((i+1)); done"))
    ended(harness)
    chunk = harness.engine.logs(FIRST, 0, "stdout", 0, 10)
    assert chunk.offset == 7_000
    assert chunk.data == b"000000700\n"
    text = read_all(harness.engine, FIRST, 0)
    assert [int(line) for line in text.splitlines()] == list(range(700, 1_000))
    assert harness.engine.logs(FIRST, 0, "stdout", 9_990, 100).data == b"000000999\n"


def test_an_erased_log_goes_on_in_a_new_piece(harness: LocalHarness) -> None:
    """What was erased is gone from the disk though its writer still runs."""
    harness.engine.start(order_of("echo private", "while [ ! -e go ]; do sleep 0.02; done", "echo public"))
    harness.until(lambda: read_all(harness.engine, FIRST, 0) == "private\n")
    harness.engine.erase_logs(FIRST)
    (next(harness.root.glob(f"work/*/{FIRST}/0")) / "go").touch()
    ended(harness)
    chunk = harness.engine.logs(FIRST, 0, "stdout", 0, 100)
    assert (chunk.offset, chunk.data) == (8, b"public\n")


# --- crashes ---------------------------------------------------------------------------------------------


KILLED_CONTROL_PLANE = """
import os, signal, sys
from pathlib import Path
from headrace.engines.local import LocalEngine
from tests.engines.contract import SECOND, order_of
engine = LocalEngine(Path(sys.argv[1]), "/bin/sh", isolate=False)
engine.fence(1)
engine.start(order_of("echo $$", "while [ ! -e go ]; do sleep 0.02; done", "exit 6"))
engine.start(order_of("exit 5", placement=SECOND))
while any(rank.state == "starting" for report in engine.observe() for rank in report.ranks):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_ranks_outlive_a_killed_control_plane_and_are_adopted(harness: LocalHarness) -> None:
    """What runs goes on and is not started again; what ended meanwhile has its exit code and its time."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_CONTROL_PLANE, str(harness.root)],
        check=False,
        timeout=PATIENCE_S,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert killed.returncode == -signal.SIGKILL
    harness.engine = harness.reopened()
    harness.engine.fence(Epoch(2))
    pid = written_pid(harness)
    assert lives(pid)
    harness.engine.start(order_of("exit 1", epoch=2))
    (next(harness.root.glob(f"work/*/{FIRST}/0")) / "go").touch()
    assert [ended(harness, which).ranks[0].exit_code for which in (FIRST, SECOND)] == [6, 5]
    assert not ended(harness).ranks[0].estimated
    assert read_all(harness.engine, FIRST, 0) == f"{pid}\n"


def test_an_order_cut_short_before_it_was_durable_is_undone(harness: LocalHarness) -> None:
    """A directory without its order is removed when the next control plane takes over."""
    (harness.root / "placements" / FIRST / "0").mkdir(parents=True)
    harness.engine = harness.reopened()
    assert report_of(harness.engine) is None
    harness.engine.fence(Epoch(2))
    assert not (harness.root / "placements" / FIRST).exists()


def test_an_order_cut_short_before_any_rank_ran_is_as_if_never_given_until_repeated(
    harness: LocalHarness,
) -> None:
    """The next control plane repeats it, and gets the ports that were allotted before."""
    order = order_of("echo ran", nodes=2, ports={"http": 0})
    harness.settings["runner_python"] = "/nonexistent/python"
    harness.engine = harness.reopened()
    harness.engine.fence(Epoch(1))
    with pytest.raises(EngineError, match="can't be started now: No such file"):
        harness.engine.start(order)
    allotted = json.loads((harness.root / "placements" / FIRST / "placement.json").read_text())["ports"]
    del harness.settings["runner_python"]
    harness.engine = harness.reopened()
    harness.engine.fence(Epoch(2))
    assert report_of(harness.engine) is None
    harness.engine.start(order_of("echo ran", nodes=2, ports={"http": 0}, epoch=2))
    report = ended(harness)
    assert report.endpoints == {"http": f"127.0.0.1:{allotted[0]['http']}"}
    assert [read_all(harness.engine, FIRST, rank) for rank in range(2)] == ["ran\n", "ran\n"]


def test_a_gang_of_which_a_part_was_started_loses_the_rest_to_the_next_epoch(harness: LocalHarness) -> None:
    """Its running rank is adopted; the one that never started is lost with nothing to bill, and stays so."""
    harness.engine.fence(Epoch(1))
    harness.engine.start(order_of("sleep 30", nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.kill_runner(FIRST, 1)
    become(harness, RankState.RUNNING, RankState.LOST)
    (harness.rank_dir(FIRST, 1) / runner.RECORD).unlink()
    harness.engine = harness.reopened()
    harness.engine.fence(Epoch(2))
    assert states(harness.engine) == [RankState.RUNNING, RankState.LOST]
    report = report_of(harness.engine)
    assert report is not None
    assert (report.ranks[1].running_ms, report.ranks[1].estimated) == (0, False)
    harness.engine.start(order_of("sleep 30", nodes=2, epoch=2))
    assert states(harness.engine) == [RankState.RUNNING, RankState.LOST]


def test_a_runner_refuses_an_order_that_was_fenced_off_while_it_started(harness: LocalHarness) -> None:
    """Nothing runs, nothing is recorded, and the order's secrets are gone."""
    harness.engine.fence(Epoch(2))
    directory = harness.rank_dir()
    directory.mkdir(parents=True)
    spec = directory / runner.SPEC
    spec.write_text(json.dumps(_bare_spec(harness, epoch=1)))
    ended_with = subprocess.run(
        [sys.executable, "-I", "-S", runner.__file__, str(spec)], check=False, timeout=20
    )
    assert ended_with.returncode == runner.SUPERSEDED
    assert not spec.exists()
    assert not (directory / runner.RECORD).exists()
    assert not (directory / "ran").exists()


def test_a_second_runner_of_a_rank_does_nothing(harness: LocalHarness) -> None:
    """Not while the first has the lock, and not when it has recorded its end."""
    harness.engine.fence(Epoch(1))
    directory = harness.rank_dir()
    directory.mkdir(parents=True)
    spec = directory / runner.SPEC
    command = [sys.executable, "-I", "-S", runner.__file__, str(spec)]
    lock = runner.try_lock(str(directory))
    assert lock is not None
    spec.write_text(json.dumps(_bare_spec(harness, epoch=1)))
    assert subprocess.run(command, check=False, timeout=20).returncode == 0
    assert not (directory / "ran").exists()
    os.close(lock)
    assert subprocess.run(command, check=False, timeout=20).returncode == 0
    assert (directory / "ran").read_text() == "ran\n"
    spec.write_text(json.dumps(_bare_spec(harness, epoch=1)))
    assert subprocess.run(command, check=False, timeout=20).returncode == 0
    assert (directory / "ran").read_text() == "ran\n"


def test_a_superseded_control_plane_can_neither_stop_nor_forget(harness: LocalHarness) -> None:
    """Two control planes never work on one machine at once."""
    harness.engine.fence(Epoch(1))
    harness.engine.start(order_of("sleep 30"))
    become(harness, RankState.RUNNING)
    later = harness.reopened()
    later.fence(Epoch(2))
    for call in (
        lambda: harness.engine.stop(FIRST, 0),
        lambda: harness.engine.forget(FIRST),
        harness.engine.observe,
    ):
        with pytest.raises(EngineError, match="epoch 1 is superseded by 2"):
            call()
    harness.engine = later
    assert states(later) == [RankState.RUNNING]


def test_a_superseded_control_plane_says_so(harness: LocalHarness) -> None:
    """Whoever asks it is not told that all is well."""
    harness.engine.fence(Epoch(1), "journal-a")
    assert harness.engine.trouble == ""
    later = harness.reopened()
    later.fence(Epoch(2), "journal-a")
    with pytest.raises(EngineError, match="superseded"):
        harness.engine.observe()
    assert harness.engine.trouble.startswith(
        "epoch 1 is superseded by 2; another control plane has taken over"
    )
    assert later.trouble == ""


@pytest.mark.parametrize("epoch", [1, 2, 3, 100])
@pytest.mark.parametrize("owner", ["journal-b", ""])
def test_another_journals_control_plane_is_refused_whatever_its_epoch(
    harness: LocalHarness, epoch: int, owner: str
) -> None:
    """It is told whose the spool is and what to do; what runs goes on, and the owner's next start finds it."""
    harness.engine.fence(Epoch(2), "journal-a")
    harness.engine.start(order_of("sleep 30", epoch=2))
    become(harness, RankState.RUNNING)
    stray = harness.reopened()
    told = f"the spool {harness.root} belongs to the control plane of journal journal-a.*--state, or give this engine a spool"
    with pytest.raises(EngineError, match=told):
        stray.fence(Epoch(epoch), owner)
    assert states(harness.engine) == [RankState.RUNNING]
    harness.engine = harness.reopened()
    harness.engine.fence(Epoch(3), "journal-a")
    assert states(harness.engine) == [RankState.RUNNING]


def test_a_spool_without_an_owner_belongs_to_the_first_who_comes(harness: LocalHarness) -> None:
    """One from before owners were kept, whatever its epoch is, as long as nobody later has fenced."""
    harness.engine.fence(Epoch(4))
    harness.reopened().fence(Epoch(5), "journal-a")
    with pytest.raises(EngineError, match="belongs to the control plane of journal journal-a"):
        harness.reopened().fence(Epoch(6), "journal-b")


def test_ranks_whose_directory_was_deleted_end(harness: LocalHarness) -> None:
    """Nobody could ever stop or bill them."""
    harness.engine.start(order_of("sleep 30"))
    become(harness, RankState.RUNNING)
    who = harness.record()["runner"]
    shutil.rmtree(harness.root / "placements")
    harness.until(lambda: not runner.is_alive(*who))


# --- tenants ------------------------------------------------------------------------------------------------------


def test_one_user_serves_one_tenant(harness: LocalHarness) -> None:
    """Without a user for each tenant, a second tenant is told why and what would help."""
    harness.settings["privileged"] = False
    harness.isolate = True
    harness.engine = harness.reopened()
    assert harness.engine.capabilities.isolation == "none"
    harness.engine.start(order_of("echo mine"))
    assert ended(harness).ranks[0].exit_code == 0
    harness.engine = harness.reopened()
    harness.engine.start(order_of("echo theirs", placement=SECOND, tenant="other"))
    rank = ended(harness, SECOND).ranks[0]
    assert rank.reason == "start_failed"
    assert (
        "serves tenant acme alone; run it as root for a Unix user per tenant, or with --no-isolation"
        in rank.detail
    )


def test_tenants_can_not_reach_each_other(harness: LocalHarness) -> None:
    """As root each has a user: no groups, no way to more rights, nothing of another's readable. Else one is refused."""
    harness.isolate = True
    harness.engine = harness.reopened()
    if not IS_ROOT:
        assert harness.engine.capabilities.isolation == "none"
        return
    assert harness.engine.capabilities.isolation == "uid"
    harness.engine.start(
        order_of("echo private > $HOME/file; id -u; id -G; grep NoNewPrivs /proc/self/status; sleep 30")
    )
    harness.until(lambda: read_all(harness.engine, FIRST, 0).count("\n") == 3)
    assert read_all(harness.engine, FIRST, 0).split() == ["200001", "200001", "NoNewPrivs:", "1"]
    home = harness.root / "work" / "200001" / FIRST / "0"
    assert (home / "file").read_text() == "private\n"
    assert (home.stat().st_uid, stat.S_IMODE(home.stat().st_mode)) == (200_001, 0o700)
    record = harness.record()
    tries = [
        f"cat {home}/file",
        f"cat {harness.root}/logs/{FIRST}/0/stdout.{0:020d}",
        f"cat {harness.rank_dir()}/record.json",
        f"ls {harness.root}",
        f"ls {harness.root}/work/200001",
        f"cat /proc/{record['child'][0]}/environ",
        f"kill -9 {record['child'][0]}",
        f"kill -9 {record['runner'][0]}",
    ]
    script = " ; ".join(f"{{ {attempt} && echo GOT-IN; }} || true" for attempt in tries)
    harness.engine.start(order_of(script, placement=SECOND, tenant="other", uid=200_002))
    assert ended(harness, SECOND).ranks[0].exit_code == 0
    assert read_all(harness.engine, SECOND, 0) == ""
    assert read_all(harness.engine, SECOND, 0, "stderr").count("ermission denied") >= len(tries) - 2
    assert states(harness.engine) == [RankState.RUNNING]


def test_what_tenants_could_not_read_is_named_with_the_next_step(
    harness: LocalHarness, tmp_path: Path
) -> None:
    """A checkout under a closed directory is an error at once, not a mystery in a log."""
    harness.settings["privileged"] = True
    closed = tmp_path / "closed"
    (closed / "src").mkdir(parents=True)
    closed.chmod(0o700)
    root = harness.root.parent / "other"
    with pytest.raises(
        EngineError, match=r"because .* is closed to others; move it to a place that all may read, like"
    ):
        LocalEngine(root, "/bin/sh", [closed / "src"], settings=LocalSettings(privileged=True))


def _expand(ranges: str) -> list[int]:
    cores: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        cores.extend(range(int(first), int(last or first) + 1))
    return cores


def _state(pid: int) -> str:
    found = runner.read_stat(pid)
    return found[0] if found else ""


def _put_record(harness: LocalHarness, record: dict[str, Any]) -> None:
    runner.write_atomic(str(harness.rank_dir() / runner.RECORD), record)


def _bare_spec(harness: LocalHarness, epoch: int) -> dict[str, Any]:
    directory = harness.rank_dir()
    return {
        "placement": FIRST,
        "rank": 0,
        "epoch": epoch,
        "mark": "m",
        "root": str(harness.root),
        "work_dir": str(directory),
        "log_dir": str(directory / "logs"),
        "uid": None,
        "cores": [],
        "argv": ["/bin/sh", "-c", "echo ran >> ran"],
        "env": {"PATH": "/usr/bin:/bin"},
        "grace_ms": 1_000,
        "max_duration_ms": 0,
        "log_segment_bytes": 1_000,
        "log_segments": 2,
        "heartbeat_ms": 1_000,
    }
