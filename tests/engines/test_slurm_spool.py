"""Whose a spool is, on a real Slurm: what another control plane, or another spool, may do to this one's jobs and drains."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from headrace.core.ids import Epoch, NodeId
from headrace.core.scheduling.explain import PARTITION
from headrace.engines.declared import load_engines
from headrace.engines.doctor import Finding, examine
from headrace.engines.slurm.client import Commands
from headrace.engines.slurm.engine import SlurmEngine, SlurmSettings
from headrace.ports import EngineError, RankState
from tests.engines.contract import FIRST, become, order_of
from tests.engines.slurm_site import SlurmHarness, SlurmSite, slurm_site

HERE = NodeId("glomfjord/a/lab-0-0")
MINE, OTHER = "journal-a", "journal-b"
LOOKS = 5


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """Two nodes."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    with slurm_site(folder, nodes=2) as found:
        yield found
    shutil.rmtree(folder)


@pytest.fixture
def harness(site: SlurmSite) -> Iterator[SlurmHarness]:
    """An engine on a short path that other users may pass through."""
    root = Path(tempfile.mkdtemp(prefix="headrace-"))
    root.chmod(0o711)
    made = SlurmHarness(site, root / "engine", Commands(site.conf))
    yield made
    made.close()
    for name in site.names:
        if reason_of(site, name):
            site.ask("scontrol", "update", f"nodename={name}", "state=resume")
            made.until(lambda name=name: reason_of(site, name) == "")  # type: ignore[misc]
    shutil.rmtree(root)


def reason_of(site: SlurmSite, name: str = "lab-0-0") -> str:
    """Why Slurm says that a node is drained, "" when it is not."""
    state, _, reason = site.ask("sinfo", "-h", "-n", name, "-o", "%T|%E").strip().partition("|")
    return reason if state.startswith("drain") else ""


@contextmanager
def beside(harness: SlurmHarness, root: Path) -> Iterator[SlurmEngine]:
    """Another engine at the same time: of another control plane, or of another spool."""
    settings = SlurmSettings(
        poll_ms=100,
        partition="lab",
        nodes={NodeId(f"glomfjord/a/{name}"): name for name in harness.site.names},
    )
    with closing(SlurmEngine(root, Commands(harness.site.conf), settings)) as engine:
        yield engine


def look(harness: SlurmHarness, engine: SlurmEngine) -> None:
    """Let an engine look a few times more."""
    until = engine._looks + LOOKS
    harness.until(lambda: engine._looks >= until)


def test_a_stray_control_plane_touches_nothing_before_it_is_refused_nor_after(harness: SlurmHarness) -> None:
    """Another journal's, of a later epoch: jobs and drains stay, and the spool's owner goes on."""
    harness.engine.fence(Epoch(1), MINE)
    harness.engine.start(order_of("sleep 60"))
    harness.engine.cordon({NodeId("glomfjord/a/lab-0-1"): "a fan"})
    become(harness, RankState.RUNNING)
    harness.until(lambda: reason_of(harness.site, "lab-0-1") != "")
    before = reason_of(harness.site, "lab-0-1")
    with beside(harness, harness.root) as stray:
        stray.cordon({})
        look(harness, stray)
        with pytest.raises(EngineError, match=f"belongs to the control plane of journal {MINE}"):
            stray.fence(Epoch(7), OTHER)
        look(harness, stray)
    assert harness.jobs_of(FIRST) == ["RUNNING"]
    assert reason_of(harness.site, "lab-0-1") == before
    become(harness, RankState.RUNNING)
    assert harness.engine.trouble == ""


def test_a_superseded_control_plane_does_nothing_more_and_says_so(harness: SlurmHarness) -> None:
    """Its agent fights nobody over drains; it is not told that all is well."""
    harness.engine.fence(Epoch(1), MINE)
    old = harness.made[-1]
    with beside(harness, harness.root) as later:
        later.fence(Epoch(2), MINE)
        harness.until(lambda: "epoch 1 is superseded by 2" in old.trouble)
        old.cordon({HERE: "a fan"})
        look(harness, old)
        assert reason_of(harness.site) == ""
        assert "another control plane has taken over" in old.trouble
        assert later.trouble == ""


def test_a_restart_takes_no_drain_back_before_it_is_told_what_is_wanted(harness: SlurmHarness) -> None:
    """Strangers' jobs would begin on the node in between."""
    harness.engine.fence(Epoch(1), MINE)
    harness.engine.cordon({HERE: "a fan"})
    harness.until(lambda: reason_of(harness.site) != "")
    before = reason_of(harness.site)
    harness.engine = harness.reopened()
    harness.engine.fence(Epoch(2), MINE)
    look(harness, harness.made[-1])
    assert reason_of(harness.site) == before
    harness.engine.cordon({HERE: "a fan"})
    look(harness, harness.made[-1])
    assert reason_of(harness.site) == before
    harness.engine.cordon({})
    harness.until(lambda: reason_of(harness.site) == "")


def test_what_another_spool_drained_stays_drained(harness: SlurmHarness) -> None:
    """It is the other's to take back; for this one the node is not to be had."""
    harness.engine.fence(Epoch(1), MINE)
    harness.engine.cordon({})
    with beside(harness, harness.root.parent / "other") as other:
        other.fence(Epoch(1), OTHER)
        other.cordon({HERE: "a fan"})
        harness.until(lambda: reason_of(harness.site) != "")
        look(harness, harness.made[-1])
        assert reason_of(harness.site).endswith(": a fan")
        # Slurm asks a node that was drained before whether it is there.
        theirs = "drained in its cluster: headrace "
        harness.until(lambda: harness.engine.nodes([HERE])[0].reason.startswith(theirs))
        assert not harness.engine.nodes([HERE])[0].up
        other.cordon({})
        harness.until(lambda: reason_of(harness.site) == "")


def test_what_another_spool_runs_on_a_node_is_foreign_there(harness: SlurmHarness) -> None:
    """The same user's, with a comment like ours: what it draws is not on our account, and it is not ours to end."""
    harness.engine.fence(Epoch(1), MINE)
    with beside(harness, harness.root.parent / "other") as other:
        other.fence(Epoch(1), OTHER)
        other.start(order_of("sleep 60"))
        harness.until(lambda: other.observe()[0].ranks[0].state is RankState.RUNNING)
        harness.until(lambda: harness.engine.nodes([HERE])[0].foreign.startswith("root (job "))
        assert harness.engine.observe() == []
        assert other.nodes([HERE])[0].foreign == ""
        other.stop(FIRST, 0)
        harness.until(lambda: harness.engine.nodes([HERE])[0].foreign == "")


def test_a_drain_of_an_administrator_who_writes_headrace_stays(harness: SlurmHarness) -> None:
    """A word is not whose it is."""
    harness.engine.fence(Epoch(1), MINE)
    harness.engine.cordon({})
    harness.site.ask("scontrol", "update", "nodename=lab-0-0", "state=drain", "reason=headrace: keep out")
    look(harness, harness.made[-1])
    assert reason_of(harness.site) == "headrace: keep out"


def findings(harness: SlurmHarness, partition: str) -> Finding:
    """What the doctor says of the nodes of a partition."""
    file = harness.root.parent / "engines.yaml"
    cluster = f"{{conf: {harness.site.conf}, partition: {partition}}}"
    file.write_text(f"kind: engine\nname: a\nspool: {harness.root}\nslurm: {cluster}\n")
    file.chmod(0o600)
    (one,) = load_engines(file)
    (found,) = [each for each in examine(one) if each.what == "nodes"]
    return found


def test_the_doctor_sees_a_partition_that_is_shut_and_one_that_is_not_there(harness: SlurmHarness) -> None:
    """Each with the step that helps."""
    assert findings(harness, "lab").is_well
    wrong = findings(harness, "lba")
    assert (wrong.is_well, wrong.detail) == (False, "no node in partition 'lba'; partitions: lab")
    assert "resume" not in wrong.next_step
    harness.site.ask("scontrol", "update", "partitionname=lab", "state=down")
    try:
        shut = findings(harness, "lab")
        # What an explanation names to whoever waits for it. A node that was drained before has yet to answer first.
        said = PARTITION.search
        harness.until(lambda: said(harness.engine.nodes([HERE])[0].reason) is not None)
        reason = said(harness.engine.nodes([HERE])[0].reason)
        assert reason is not None
        assert reason.groups() == ("lab", "down")
    finally:
        harness.site.ask("scontrol", "update", "partitionname=lab", "state=up")
    assert (shut.is_well, shut.detail) == (False, "partition lab is down")
    assert shut.next_step == "`scontrol update partitionname=lab state=up` opens it."
