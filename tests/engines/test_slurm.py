"""The Slurm engine keeps the contract on a real Slurm."""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.core.ids import NodeId, PlacementId
from headrace.engines import runner
from headrace.engines.slurm.client import Commands, Job
from headrace.engines.slurm.engine import SlurmEngine, SlurmSettings
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
from tests.engines.slurm_site import SlurmSite, slurm_site

PATIENCE_S = 40


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """Four nodes."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    with slurm_site(folder) as found:
        yield found
    shutil.rmtree(folder)


class SlurmHarness:
    """An engine on a spool of its own and the module's Slurm, and a look behind it."""

    def __init__(self, site: SlurmSite, root: Path) -> None:
        self.site, self.root = site, root
        self.settings: dict[str, Any] = {}
        self.made: list[SlurmEngine] = []
        self.engine: Engine = self.reopened()

    def reopened(self) -> Engine:
        """A new engine on the same spool; the old one is never asked again."""
        for old in self.made:
            old.close()
        settings: dict[str, Any] = {
            "heartbeat_ms": 200,
            "poll_ms": 100,
            "partition": "lab",
            "nodes": {NodeId(f"glomfjord/a/{name}"): name for name in self.site.names},
            "addresses": dict.fromkeys(self.site.names, "127.0.0.1"),
        }
        self.made.append(
            SlurmEngine(self.root, Commands(self.site.conf), SlurmSettings(**settings | self.settings))
        )
        return self.made[-1]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > give_up:
                told = f"{self.engine.observe()}; {self.made[-1].trouble}; {self.site.ask('squeue')}"
                raise AssertionError(f"did not happen in {PATIENCE_S} s: {told}")
            time.sleep(0.02)

    def pass_ms(self, duration_ms: int) -> None:
        """Wait for as long."""
        time.sleep(duration_ms / 1000)

    def record(self, placement: PlacementId, rank: int) -> dict[str, Any]:
        """What the runner wrote last."""
        found = runner.read_json(str(self.root / "placements" / placement / str(rank) / runner.RECORD))
        assert isinstance(found, dict)
        return found

    def kill_runner(self, placement: PlacementId, rank: int) -> None:
        """SIGKILL."""
        os.kill(self.record(placement, rank)["runner"][0], signal.SIGKILL)

    def close(self) -> None:
        """Leave no job behind, whatever the test left running."""
        for engine in self.made:
            engine.close()
        self.site.ask("scancel", "--user=root")
        self.until(lambda: not self.site.ask("squeue", "-h").strip())


@pytest.fixture
def harness(site: SlurmSite) -> Iterator[SlurmHarness]:
    """An engine on a short path that other users may pass through."""
    root = Path(tempfile.mkdtemp(prefix="headrace-"))
    root.chmod(0o711)
    made = SlurmHarness(site, root / "engine")
    yield made
    made.close()
    shutil.rmtree(root)


class TestSlurm(EngineContract):
    """The contract on a real Slurm."""


# --- what is promised of Slurm alone --------------------------------------------------------------------------------


def jobs_of(harness: SlurmHarness, placement: PlacementId = FIRST) -> list[str]:
    """States of all jobs that Slurm has of a placement, ended ones too."""
    # By its mark: a controller that is killed may give a number again, and every test has the same placements.
    info = runner.read_json(str(harness.root / "placements" / placement / "placement.json"))
    lines = harness.site.ask("squeue", "-h", "-t", "all", "-o", "%T %k").splitlines()
    return [line.split()[0] for line in lines if line.endswith(f"mark={info['mark']}")]


def test_a_placement_is_one_job_on_exactly_its_nodes(harness: SlurmHarness) -> None:
    """However often it is ordered; with its accelerators, in its tenant's account."""
    order = order_of("echo $CUDA_VISIBLE_DEVICES $HEADRACE_NODE", "sleep 30", nodes=2, accelerators=3)
    for _ in range(3):
        harness.engine.start(order)
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.engine = harness.reopened()
    harness.engine.start(order)
    harness.pass_ms(500)
    line = harness.site.ask("squeue", "-h", "-t", "running", "-o", "%D %N %a %b").split()
    assert line == ["2", "lab-0-[0-1]", "acme", "gres:gpu:3"]
    assert jobs_of(harness) == ["RUNNING"]
    for rank in range(2):
        harness.until(lambda rank=rank: read_all(harness.engine, FIRST, rank) != "")  # type: ignore[misc]
        assert read_all(harness.engine, FIRST, rank) == f"0,1,2 glomfjord/a/lab-0-{rank}\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"partition": "nosuch"}, "invalid partition"),
        ({"nodes": {NodeId("glomfjord/a/lab-0-0"): "lab-9-9"}}, "node"),
        ({"gres": "fpga"}, "generic resource"),
    ],
)
def test_what_slurm_will_never_do_ends_at_once_and_says_why(
    harness: SlurmHarness, changes: dict[str, Any], said: str
) -> None:
    """A partition, a node or a resource that it does not know; other placements run on."""
    harness.settings = changes
    harness.engine = harness.reopened()
    harness.engine.start(order_of("echo never"))
    (rank,) = ended(harness).ranks
    assert (rank.state, rank.exit_code, rank.reason) == (RankState.EXITED, 126, "start_failed")
    assert said in rank.detail.lower()
    assert rank.detail.startswith("Slurm refuses it: ")
    harness.settings = {}
    harness.engine = harness.reopened()
    harness.engine.start(order_of("echo once", placement=SECOND))
    assert ended(harness, SECOND).ranks[0].exit_code == 0


def test_a_job_that_is_cancelled_behind_our_back_before_it_begins_is_lost_with_its_reason(
    harness: SlurmHarness,
) -> None:
    """It waits for a node that somebody else has; then an administrator cancels it."""
    other = harness.site.ask("sbatch", "--parsable", "--exclusive", "-w", "lab-0-0", "--wrap", "sleep 60")
    harness.engine.start(order_of("echo never"))
    harness.until(lambda: jobs_of(harness) == ["PENDING"])
    assert states(harness.engine) == [RankState.STARTING]
    harness.site.ask("scancel", "--name", "hr.acme-1.1.e1")
    (rank,) = ended(harness).ranks
    assert (rank.state, rank.exit_code, rank.running_ms) == (RankState.LOST, None, 0)
    assert "is CANCELLED" in rank.detail
    harness.site.ask("scancel", other.strip())


def test_a_stop_takes_a_job_that_waits_out_of_the_queue(harness: SlurmHarness) -> None:
    """Nothing is left to start later."""
    other = harness.site.ask("sbatch", "--parsable", "--exclusive", "-w", "lab-0-0", "--wrap", "sleep 60")
    harness.engine.start(order_of("echo never"))
    harness.until(lambda: jobs_of(harness) == ["PENDING"])
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    assert ended(harness).ranks[0].exit_code == 143
    harness.until(lambda: jobs_of(harness) == ["CANCELLED"])
    harness.site.ask("scancel", other.strip())


def test_a_controller_that_is_gone_for_a_while_loses_nothing_and_doubles_nothing(
    harness: SlurmHarness,
) -> None:
    """What runs goes on and is seen; what is ordered meanwhile starts, once, when it is back."""
    harness.engine.start(order_of("sleep 2", "exit 3"))
    become(harness, RankState.RUNNING)
    harness.site.kill("slurmctld")
    harness.engine.start(order_of("echo late", placement=SECOND))
    assert ended(harness).ranks[0].exit_code == 3
    harness.until(lambda: harness.made[-1].trouble != "")
    assert "slurmctld" in harness.made[-1].trouble
    assert states(harness.engine, SECOND) == [RankState.STARTING]
    harness.site.start_controller()
    assert ended(harness, SECOND).ranks[0].exit_code == 0
    assert read_all(harness.engine, SECOND, 0) == "late\n"
    harness.until(lambda: harness.made[-1].trouble == "")
    assert len(jobs_of(harness, SECOND)) == 1


def test_a_node_that_slurm_takes_down_is_reported_with_its_reason_and_its_rank_is_lost(
    harness: SlurmHarness,
) -> None:
    """Its job ends there; the other nodes are up."""
    node = NodeId("glomfjord/a/lab-0-1")
    harness.engine.start(order_of("sleep 30", nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.site.ask("scontrol", "update", "nodename=lab-0-1", "state=down", "reason=smoke")
    assert all(rank.exit_code in (None, 143, 137) for rank in ended(harness).ranks)
    harness.until(lambda: any(not one.up for one in harness.engine.nodes()))
    found = {one.node: one for one in harness.engine.nodes()}
    assert (found[node].up, found[node].reason) == (False, "smoke")
    assert sum(one.up for one in found.values()) == 3
    harness.site.ask("scontrol", "update", "nodename=lab-0-1", "state=resume")
    harness.until(lambda: all(one.up for one in harness.engine.nodes()))


def test_ranks_and_callers_find_the_first_node_where_the_cluster_has_it(harness: SlurmHarness) -> None:
    """By the address that its node was given, in the environment and in the endpoints."""
    harness.settings = {"addresses": {"lab-0-0": "first.lab.example"}}
    harness.engine = harness.reopened()
    harness.engine.start(order_of("echo $MASTER_ADDR", "sleep 30", nodes=2, ports={"http": 0}))
    for rank in range(2):
        harness.until(lambda rank=rank: read_all(harness.engine, FIRST, rank) != "")  # type: ignore[misc]
        assert read_all(harness.engine, FIRST, rank) == "first.lab.example\n"
    report = report_of(harness.engine)
    assert report is not None
    assert report.endpoints["http"].startswith("first.lab.example:")


class DefectiveCommands(Commands):
    """Commands that raise what nothing here may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def jobs(self) -> list[Job]:
        """Fail."""
        self.asked.set()
        raise KeyError("a defect of a client")


def test_a_defect_of_the_agent_is_not_silent(tmp_path: Path) -> None:
    """Whoever observes gets its error, and the control plane ends with it: an engine that does nothing would be worse."""
    client = DefectiveCommands()
    engine = SlurmEngine(tmp_path / "engine", client, SlurmSettings(uids=None, poll_ms=10))
    assert client.asked.wait(PATIENCE_S)
    # Which waits until the agent has ended.
    engine.close()
    with pytest.raises(KeyError, match="a defect of a client"):
        engine.observe()


# --- what its commands say ------------------------------------------------------------------------------------------


def commands(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Slurm's commands, of which one says something else."""
    script = folder / name
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return Commands(timeout_s=1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("squeue", "echo nonsense", "squeue says what is not understood: 'nonsense'"),
        ("sinfo", "echo 'a|idle|gpu:8'", "sinfo says what is not understood: 'a|idle|gpu:8'"),
        (
            "squeue",
            "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
            "slurmctld is up",
        ),
        ("squeue", "exit 1", "squeue: it failed and said nothing"),
        ("sinfo", "exec sleep 60", "sinfo did not answer in 1 s"),
    ],
)
def test_an_answer_that_is_not_understood_is_a_named_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    """With the command, what it said and what to do; nothing is made of half a line."""
    client = commands(tmp_path, name, text, monkeypatch)
    with pytest.raises(EngineError, match=said.replace("|", r"\|")):
        client.jobs() if name == "squeue" else client.nodes()


def test_a_machine_without_slurm_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not a traceback."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="there is no squeue here; install Debian's slurm-client"):
        Commands().jobs()
