"""The Slurm engine keeps the contract on a real Slurm, through its commands and through slurmrestd."""

import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.core.ids import NodeId, PlacementId
from headrace.engines import runner
from headrace.engines.slurm.client import (
    MOST_HOSTS,
    Commands,
    Job,
    SlurmClient,
    hosts_of,
    require_known,
)
from headrace.engines.slurm.engine import SlurmEngine, SlurmSettings
from headrace.engines.slurm.rest import RestClient
from headrace.ports import EngineError, EngineNode, RankState
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
from tests.engines.slurm_site import SlurmHarness, SlurmSite, slurm_site

PATIENCE_S = 40
HERE = NodeId("glomfjord/a/lab-0-0")


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """Four nodes and a slurmrestd."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    with slurm_site(folder, rest=True) as found:
        found.write_token(folder / "token")
        yield found
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def clients(site: SlurmSite) -> Iterator[dict[str, SlurmClient]]:
    """The ways to ask it."""
    commands = Commands(site.conf)
    rest = RestClient(site.address, user="root", token_file=site.folder / "token", commands=commands)
    yield {"commands": commands, "slurmrestd": rest}
    rest.close()


@pytest.fixture(params=["commands", "slurmrestd"])
def harness(
    site: SlurmSite, clients: dict[str, SlurmClient], request: pytest.FixtureRequest
) -> Iterator[SlurmHarness]:
    """An engine on a short path that other users may pass through, with each of the clients."""
    root = Path(tempfile.mkdtemp(prefix="headrace-"))
    root.chmod(0o711)
    made = SlurmHarness(site, root / "engine", clients[request.param])
    yield made
    made.close()
    shutil.rmtree(root)


@contextmanager
def hasty_clients(site: SlurmSite) -> Iterator[dict[str, SlurmClient]]:
    """The same, which give up after three seconds, where Slurm's own patience is ten."""
    conf = site.folder / "hasty" / "slurm.conf"
    conf.parent.mkdir(exist_ok=True)
    conf.write_text(f"{site.conf.read_text()}MessageTimeout=3\n")
    commands = Commands(conf)
    rest = RestClient(
        site.address, user="root", token_file=site.folder / "token", commands=commands, timeout_s=3
    )
    with closing(rest):
        yield {"commands": commands, "slurmrestd": rest}


class TestSlurm(EngineContract):
    """The contract on a real Slurm."""


# --- what is promised of Slurm alone --------------------------------------------------------------------------------


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
    assert harness.jobs_of(FIRST) == ["RUNNING"]
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
    harness.site.submit_other("--exclusive", "-w", "lab-0-0")
    harness.engine.start(order_of("echo never"))
    harness.until(lambda: harness.jobs_of(FIRST) == ["PENDING"])
    assert states(harness.engine) == [RankState.STARTING]
    harness.site.ask("scancel", "--name", "hr.acme-1.1.e1")
    (rank,) = ended(harness).ranks
    assert (rank.state, rank.exit_code, rank.running_ms) == (RankState.LOST, None, 0)
    assert "is CANCELLED" in rank.detail


def test_a_stop_takes_a_job_that_waits_out_of_the_queue(harness: SlurmHarness) -> None:
    """Nothing is left to start later."""
    harness.site.submit_other("--exclusive", "-w", "lab-0-0")
    harness.engine.start(order_of("echo never"))
    harness.until(lambda: harness.jobs_of(FIRST) == ["PENDING"])
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    assert ended(harness).ranks[0].exit_code == 143
    harness.until(lambda: harness.jobs_of(FIRST) == ["CANCELLED"])


def test_a_job_that_somebody_suspends_in_slurm_is_told_and_ends_when_it_is_stopped(
    harness: SlurmHarness,
) -> None:
    """Its runner stands still too, so that the stop lets it go on first; until then it is said whom it keeps waiting."""
    harness.engine.start(order_of("sleep 30", nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    number = harness.site.ask("squeue", "-h", "-n", "hr.acme-1.1.e1", "-o", "%A").strip()
    harness.site.ask("scontrol", "suspend", number)
    harness.until(lambda: harness.made[-1].trouble != "")
    assert f"somebody suspended acme-1.1 (job {number}) in Slurm" in harness.made[-1].trouble
    assert f"`scontrol resume {number}`" in harness.made[-1].trouble
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    assert [rank.exit_code for rank in ended(harness).ranks] == [143, 143]
    harness.until(lambda: harness.made[-1].trouble == "")


def test_a_controller_that_is_gone_for_a_while_loses_nothing_and_doubles_nothing(
    harness: SlurmHarness,
) -> None:
    """What runs goes on and is seen; what is ordered meanwhile starts, once, when it is back."""
    harness.engine.start(order_of("sleep 2", "exit 3"))
    become(harness, RankState.RUNNING)
    harness.site.stop("slurmctld")
    # On another node: 22.05 gives a node that was busy to a new job before it knows its accelerators again, which fails it.
    late = order_of("echo late", placement=SECOND)
    elsewhere = late.ranks[0]._replace(node=NodeId("glomfjord/a/lab-0-1"))
    harness.engine.start(replace(late, ranks=(elsewhere,)))
    assert ended(harness).ranks[0].exit_code == 3
    harness.until(lambda: harness.made[-1].trouble != "")
    assert "slurmctld" in harness.made[-1].trouble
    assert states(harness.engine, SECOND) == [RankState.STARTING]
    harness.site.start_controller()
    assert ended(harness, SECOND).ranks[0].exit_code == 0
    assert read_all(harness.engine, SECOND, 0) == "late\n"
    harness.until(lambda: harness.made[-1].trouble == "")
    assert len(harness.jobs_of(SECOND)) == 1


def test_a_job_that_slurm_believes_to_run_after_its_placement_was_forgotten_is_cancelled(
    harness: SlurmHarness,
) -> None:
    """A controller that was killed comes back with what it knew before. Whose job that is, a restart here has not forgotten."""
    harness.engine.start(order_of("true"))
    ended(harness)
    harness.until(lambda: harness.jobs_of(FIRST) == ["COMPLETED"])
    (comment,) = (
        line
        for line in harness.site.ask("squeue", "-h", "-t", "all", "-o", "%k").splitlines()
        if line.endswith(f"mark={mark_of(harness)}")
    )
    harness.engine.forget(FIRST)
    stranger = comment[:-32] + "0" * 32
    again, other = (harness.site.submit_other(f"--comment={one}") for one in (comment, stranger))
    harness.settings = {"patience_ms": 500}
    harness.reopened()

    def state_of(job: int) -> str:
        return harness.site.ask("squeue", "-h", "-t", "all", "-j", str(job), "-o", "%T").strip()

    harness.until(lambda: state_of(again) == "CANCELLED")
    assert state_of(other) in ("PENDING", "RUNNING")


def mark_of(harness: SlurmHarness) -> str:
    """What Headrace knows the first placement's jobs by."""
    info = runner.read_json(str(harness.root / "placements" / FIRST / "placement.json"))
    return str(info["mark"])


def test_a_controller_that_stands_still_while_many_are_ordered_loses_none_and_doubles_none(
    harness: SlurmHarness, site: SlurmSite, request: pytest.FixtureRequest
) -> None:
    """Fifty orders and a controller that is stopped until a submission was given up, so that nobody knows what became of it."""
    placements = [PlacementId(f"acme-{number}.1") for number in range(50)]
    with hasty_clients(site) as clients:
        harness.client = clients[request.node.callspec.params["harness"]]
        harness.engine = harness.reopened()
        harness.until(lambda: harness.made[-1].trouble == "")
        with site.standing_still("slurmctld"):
            for placement in placements:
                harness.engine.start(order_of("echo once", placement=placement))
            harness.until(lambda: harness.made[-1].trouble != "")
            assert "it is tried again" in harness.made[-1].trouble or "is up" in harness.made[-1].trouble
            assert {state for one in placements for state in states(harness.engine, one)} == {
                RankState.STARTING
            }
        for placement in placements:
            assert [rank.exit_code for rank in ended(harness, placement).ranks] == [0]
            assert read_all(harness.engine, placement, 0) == "once\n"
        harness.until(lambda: harness.made[-1].trouble == "")
        assert [len(harness.jobs_of(one)) for one in placements] == [1] * len(placements)
        harness.made[-1].close()


def node_of(harness: SlurmHarness, name: str = "lab-0-0") -> EngineNode:
    """A node as the engine saw it last."""
    return next(one for one in harness.engine.inventory() or () if one.name == name)


def test_all_nodes_of_the_partition_are_seen_with_what_they_have(harness: SlurmHarness) -> None:
    """Those that the estate doesn't know too."""
    harness.until(lambda: harness.engine.inventory() is not None)
    assert harness.engine.inventory() == tuple(
        EngineNode(f"lab-0-{number}", accelerators=4, cpu_milli=16_000, memory_mb=64_000)
        for number in range(4)
    )


def test_a_node_that_slurm_takes_down_is_reported_with_its_reason_and_its_rank_is_lost(
    harness: SlurmHarness,
) -> None:
    """Its job ends there; the other nodes are up."""
    nodes = [NodeId(f"glomfjord/a/lab-0-{number}") for number in range(4)]
    harness.engine.start(order_of("sleep 30", nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.site.ask("scontrol", "update", "nodename=lab-0-1", "state=down", "reason=smoke")
    assert all(rank.exit_code in (None, 143, 137) for rank in ended(harness).ranks)
    harness.until(lambda: any(not one.up for one in harness.engine.nodes(nodes)))
    found = {one.node: one for one in harness.engine.nodes(nodes)}
    assert (found[nodes[1]].up, found[nodes[1]].reason) == (False, "smoke")
    assert sum(one.up for one in found.values()) == 3
    harness.site.ask("scontrol", "update", "nodename=lab-0-1", "state=resume")
    harness.until(lambda: all(one.up for one in harness.engine.nodes(nodes)))


def test_a_cordoned_node_is_drained_in_slurm_for_its_reason_and_given_back(harness: SlurmHarness) -> None:
    """What runs there runs on; nobody gets new work on it; it is up for the estate all the while."""
    harness.engine.start(order_of("sleep 30"))
    become(harness, RankState.RUNNING)
    harness.engine.cordon({HERE: 'a fan, "loud"'})
    harness.until(lambda: node_of(harness).is_drained)
    assert re.fullmatch(r"headrace [0-9a-f]{8}: a fan, 'loud'", node_of(harness).reason)
    assert harness.site.ask("sinfo", "-h", "-n", "lab-0-0", "-o", "%T").strip() == "draining"
    assert (states(harness.engine), harness.engine.nodes([HERE])[0].up) == ([RankState.RUNNING], True)
    harness.engine.cordon({})
    harness.until(lambda: not node_of(harness).is_drained and node_of(harness).is_up)
    assert node_of(harness).reason == ""


def test_what_others_drained_stays_drained_and_says_why(harness: SlurmHarness) -> None:
    """An operator's drain is not ended by ours; for the estate the node is not to be had."""
    harness.site.ask("scontrol", "update", "nodename=lab-0-0", "state=drain", "reason=new disks")
    harness.until(lambda: harness.engine.inventory() is not None and node_of(harness).is_drained)
    harness.engine.cordon({HERE: "a fan"})
    harness.engine.cordon({})
    harness.pass_ms(500)
    (found,) = harness.engine.nodes([HERE])
    assert (found.up, found.reason) == (False, "drained in its cluster: new disks")
    harness.site.ask("scontrol", "update", "nodename=lab-0-0", "state=resume")
    harness.until(lambda: harness.engine.nodes([HERE])[0].up)


def test_a_job_that_somebody_submitted_behind_our_back_is_foreign_on_its_nodes(harness: SlurmHarness) -> None:
    """With its user and number; ours is not, and another user's is whatever its comment says."""
    harness.engine.start(order_of("sleep 30"))
    become(harness, RankState.RUNNING)
    harness.until(lambda: harness.jobs_of(FIRST) == ["RUNNING"])
    (comment,) = harness.site.ask("squeue", "-h", "-o", "%k").split("\n")[:1]
    job = harness.site.submit_other("--nodes=2", "-w", "lab-0-[1-2]", f"--comment={comment}", user="nobody")
    harness.until(lambda: node_of(harness, "lab-0-1").foreign != "")
    found = {one.name: one.foreign for one in harness.engine.inventory() or ()}
    foreign = f"nobody (job {job})"
    assert found == {"lab-0-0": "", "lab-0-1": foreign, "lab-0-2": foreign, "lab-0-3": ""}
    harness.site.ask("scancel", str(job))
    harness.until(lambda: node_of(harness, "lab-0-1").foreign == "")


SEPARATORS = ("\n", "\r", "\x0b", "\x1c", "\u2028", "|")


def test_what_users_write_is_no_record_and_no_field_of_another_job(harness: SlurmHarness) -> None:
    """Whatever ends lines or columns there: nobody's job is cancelled for it, and nobody is foreign where no job is."""
    harness.engine.start(order_of("true"))
    ended(harness)
    bystander = harness.site.submit_other("-w", "lab-0-3")
    mark = mark_of(harness)
    for sign in SEPARATORS:
        for node in ("lab-0-0", "lab-0-2"):
            columns = f"PENDING|None|{node}|root|a|lab||n|headrace placement={FIRST} epoch=0 mark={mark}"
            forged = f"x{sign}{bystander}|{columns}"
            options = (f"--comment={forged}", f"--job-name={forged}", f"--account={forged}")
            harness.site.submit_other("-w", "lab-0-1", "--mem=10", *options, user="nobody")
    harness.until(lambda: node_of(harness, "lab-0-1").foreign.endswith("and 9 more"))
    for _ in range(3):
        looked(harness)
    assert harness.made[-1].trouble == ""
    assert harness.site.ask("squeue", "-h", "-j", str(bystander), "-o", "%T").strip() == "RUNNING"
    found = {one.name: one.foreign for one in harness.engine.inventory() or () if one.name != "lab-0-1"}
    assert found == {"lab-0-0": "", "lab-0-2": "", "lab-0-3": f"root (job {bystander})"}


def looked(harness: SlurmHarness) -> None:
    """Wait until the cluster was looked at anew."""
    before = harness.made[-1]._looks
    harness.until(lambda: harness.made[-1]._looks > before)


def test_jobs_of_every_kind_are_seen_and_none_blinds_the_engine(harness: SlurmHarness) -> None:
    """Heterogeneous ones, elements of arrays and what is no text; what is ordered runs all the while."""
    site = harness.site
    parts = site.submit_other("-wlab-0-1", ":", "-wlab-0-2", user="nobody")
    array = site.submit_other("-wlab-0-3", "--mem=10", "--array=1-3%1", user="nobody")
    site.submit_other("-wlab-0-3", "--mem=10", "--comment=\udcff\udcfe", "--job-name=\n\n", user="nobody")
    harness.engine.start(order_of("echo seen"))
    assert ended(harness).ranks[0].exit_code == 0
    harness.until(lambda: node_of(harness, "lab-0-3").foreign.count("job") == 2)
    assert node_of(harness, "lab-0-1").foreign == f"nobody (job {parts}+0)"
    assert node_of(harness, "lab-0-2").foreign == f"nobody (job {parts}+1)"
    assert f"nobody (job {array}_1)" in node_of(harness, "lab-0-3").foreign
    assert harness.made[-1].trouble == ""


def test_both_clients_tell_the_same_of_jobs_of_every_kind(site: SlurmSite) -> None:
    """Whose they are, what they are called, where and since when they run."""
    numbers = [
        site.submit_other("-wlab-0-1", ":", "-wlab-0-2", user="nobody"),
        site.submit_other("-wlab-0-3", "--mem=10", "--array=1-5%1", user="nobody"),
        site.submit_other("-wlab-0-3", "--mem=10", "--comment=\udcff|\n", user="nobody"),
    ]
    commands = Commands(site.conf)
    with closing(RestClient(site.address, user="root", token_file=site.folder / "token")) as rest:
        give_up = time.monotonic() + PATIENCE_S
        while [job.waits for job in rest.jobs() if job.is_alive].count(False) < 4:
            assert time.monotonic() < give_up
            time.sleep(0.1)
        found = [
            {job.id: replace(job, reason="") for job in client.jobs() if job.is_alive}
            for client in (commands, rest)
        ]
    site.ask("scancel", *map(str, numbers))
    assert found[0] == found[1]
    names = {job.full_id.replace("%1", "") for job in found[0].values()}
    parts, array, plain = numbers
    assert names == {f"{parts}+0", f"{parts}+1", f"{array}_1", f"{array}_[2-5]", str(plain)}
    while site.ask("squeue", "-h").strip():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_among_many_jobs_one_that_comes_or_goes_is_seen_at_once(site: SlurmSite) -> None:
    """The list is not made again for an hour, but Slurm's statistics tell of it; a node that is lost too takes its jobs along."""
    client = Commands(site.conf, many=0, again_s=3_600)
    client.jobs()

    def state_of(number: int) -> str:
        client.nodes()
        return next((one.state for one in client.jobs() if one.id == number), "")

    for end in ("scancel", "down"):
        number = site.submit_other("-w", "lab-0-1", "--no-requeue")
        site.until(lambda number=number: state_of(number) == "RUNNING", "it is seen to run")  # type: ignore[misc]
        if end == "scancel":
            site.ask("scancel", str(number))
        else:
            site.ask("scontrol", "update", "nodename=lab-0-1", "state=down", "reason=smoke")
        ended = {"scancel": "CANCELLED", "down": "NODE_FAIL"}[end]
        site.until(lambda number=number, ended=ended: state_of(number) == ended, f"it is seen as {ended}")  # type: ignore[misc]
    site.ask("scontrol", "update", "nodename=lab-0-1", "state=resume")
    site.until(lambda: site.ask("sinfo", "-h", "-n", "lab-0-1", "-o", "%T").strip() == "idle", "it is back")


def test_a_reason_of_several_lines_hides_no_node(harness: SlurmHarness) -> None:
    """It is the administrators' own text."""
    site, reason = harness.site, "disks\nlab-0-1|down|gpu|\u2028x"
    site.ask("scontrol", "update", "nodename=lab-0-0", "state=drain", f"reason={reason}")
    harness.until(lambda: harness.engine.inventory() is not None and node_of(harness).is_drained)
    assert node_of(harness).reason == reason
    assert [one.is_up for one in harness.engine.inventory() or ()] == [True] * 4
    site.ask("scontrol", "update", "nodename=lab-0-0", "state=resume")
    harness.until(lambda: not node_of(harness).is_drained and node_of(harness).is_up)


def test_a_partition_that_is_down_is_told_with_the_next_step(harness: SlurmHarness) -> None:
    """Its nodes are not to be had; what waits in it starts when it is up again."""
    harness.until(lambda: harness.made[-1].trouble == "")
    harness.site.ask("scontrol", "update", "partitionname=lab", "state=down")
    said = "partition lab is down; `scontrol update partitionname=lab state=up` opens it"
    harness.until(lambda: harness.made[-1].trouble == said)
    (found,) = harness.engine.nodes([HERE])
    assert (found.up, found.reason) == (False, f"drained in its cluster: {said}")
    harness.engine.start(order_of("echo late"))
    harness.until(lambda: harness.jobs_of(FIRST) == ["PENDING"])
    harness.site.ask("scontrol", "update", "partitionname=lab", "state=up")
    assert ended(harness).ranks[0].exit_code == 0
    harness.until(lambda: harness.made[-1].trouble == "")


def test_a_partition_that_does_not_exist_is_told_with_those_that_do(harness: SlurmHarness) -> None:
    """And it has no nodes."""
    harness.settings = {"partition": "lba"}
    harness.engine = harness.reopened()
    harness.until(lambda: harness.engine.inventory() is not None)
    assert harness.made[-1].trouble == ("no Slurm partition with nodes 'lba'; known: lab. Did you mean lab?")
    assert harness.engine.inventory() == ()


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

    def version(self) -> str:
        """One that is known."""
        return "22.05.8"

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


# --- host lists and versions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "hosts"),
    [
        ("", ()),
        ("x", ("x",)),
        ("gpu[1-3,7],x", ("gpu1", "gpu2", "gpu3", "gpu7", "x")),
        ("n[008-011]", ("n008", "n009", "n010", "n011")),
        ("a[1-2]b[3,5]-ib,c", ("a1b3-ib", "a1b5-ib", "a2b3-ib", "a2b5-ib", "c")),
        ("lab-0-[0-1]", ("lab-0-0", "lab-0-1")),
    ],
)
def test_a_host_list_names_its_hosts_in_order(expression: str, hosts: tuple[str, ...]) -> None:
    """With leading zeros, several brackets and what follows them."""
    assert hosts_of(expression) == hosts


@pytest.mark.parametrize(
    "expression",
    ["a[1", "a]1[", "a[1-x]", "a[]", "a[3-1]", "a[[1]]", f"a[0-{MOST_HOSTS}]", "a[0-999]b[0-999]"],
)
def test_what_is_no_host_list_is_a_named_error(expression: str) -> None:
    """Nothing is made of half of it, nor of one that would fill the memory."""
    with pytest.raises(
        EngineError, match=f"a host list says what is not understood: {re.escape(repr(expression))}"
    ):
        hosts_of(expression)


def test_both_clients_tell_the_version_of_the_controller(
    site: SlurmSite, clients: dict[str, SlurmClient]
) -> None:
    """The same, and it is known."""
    said = site.ask("sinfo", "--version").split()[1]
    for client in clients.values():
        assert client.version() == said
        require_known(client.version())


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("20.11.9", "Slurm 20.11.9 is older than supported; upgrade to 22.05 or later"),
        ("22.04.1", "older"),
        ("", "the version says what is not understood"),
    ],
)
def test_an_older_slurm_is_told_to_be_upgraded(version: str, said: str) -> None:
    """With its version; later ones pass."""
    with pytest.raises(EngineError, match=said):
        require_known(version)
    for later in ("22.05.0", "23.02.1", "25.11.0-0rc1"):
        require_known(later)


def test_an_engine_on_an_older_slurm_says_so_and_asks_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trouble names the version."""
    client = commands(tmp_path, "scontrol", "echo 'SLURM_VERSION           = 19.05.5'", monkeypatch)
    engine = SlurmEngine(tmp_path / "engine", client, SlurmSettings(uids=None, poll_ms=10))
    give_up = time.monotonic() + PATIENCE_S
    while "19.05.5" not in engine.trouble:
        assert time.monotonic() < give_up, engine.trouble
        time.sleep(0.01)
    engine.close()
    assert engine.trouble == "Slurm 19.05.5 is older than supported; upgrade to 22.05 or later."
    assert engine.inventory() is None


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


def test_a_line_that_is_not_understood_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other lines count as they are; nothing is left out of the next list that has none."""
    good = "sed 's/%i/17_3/; s/%A/19/; s/%U/65534/; s/%T/RUNNING/; s/%S/1700000000/'"
    text = f'echo "$SQUEUE_FORMAT" | {good}; test -e {tmp_path}/well || echo "$SQUEUE_FORMAT"'
    client = commands(tmp_path, "squeue", text, monkeypatch)
    (job,) = client.jobs()
    assert (job.id, job.full_id, job.uid, job.began_s) == (19, "17_3", 65_534, 1_700_000_000)
    assert client.trouble == (
        "squeue says of 1 jobs what is not understood: '%i'; they are left out: `squeue --all` shows whose they are"
    )
    (tmp_path / "well").touch()
    assert (client.jobs(), client.trouble) == ([job], "")


def test_a_machine_without_slurm_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not a traceback."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="there is no squeue here; install Debian's slurm-client"):
        Commands().jobs()
