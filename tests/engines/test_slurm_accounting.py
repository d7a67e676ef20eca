"""What the runner records is what Slurm's own accounting says: a real slurmdbd on a real MariaDB.

Slurm counts an allocation, from the moment that its controller gives the nodes until it hears of the end. slurmdbd keeps whole
seconds of these two moments, slurmctld's log the milliseconds of the same two. The runner counts its rank's own time. So between
Slurm's moments there are: the launch, the rank's time, and the end. Each is taken by another: the launch ends at the wall clock
that the runner wrote when its rank began, the end begins at the one of its last record, and what is metered in between are
durations by the boot-time clock. A paused rank holds its nodes: its time is the runner's running and paused time together.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from headrace.core.ids import PlacementId
from headrace.engines.slurm.client import Commands
from headrace.ports import RankState, StartOrder
from tests.engines.contract import LONG_GRACE_MS, become, ended, order_of
from tests.engines.slurm_site import SlurmHarness, SlurmSite, slurm_site

ROUNDS = 3
TICK_MS = 10
CLOSE_MS = 1_000
"""So much may launch, metered time and end together differ from what is between Slurm's two moments."""


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """Four nodes, whose jobs are accounted for."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    with slurm_site(folder, accounting=True) as found:
        yield found
    shutil.rmtree(folder)


@pytest.fixture
def harness(site: SlurmSite) -> Iterator[SlurmHarness]:
    """An engine on it."""
    root = Path(tempfile.mkdtemp(prefix="headrace-"))
    root.chmod(0o711)
    made = SlurmHarness(site, root / "engine", Commands(site.conf))
    yield made
    made.close()
    shutil.rmtree(root)


@dataclass(frozen=True)
class Accounted:
    """What slurmdbd says of a job."""

    job: str
    state: str
    elapsed_s: int
    gpus: int
    account: str
    start_s: int
    end_s: int


def accounts_of(site: SlurmSite, placement: PlacementId) -> list[Accounted]:
    """Every job of a placement that slurmdbd knows the end of."""
    columns = "JobIDRaw,State,ElapsedRaw,AllocTRES,Account,Start,End"
    said = site.ask(
        "env",
        "SLURM_TIME_FORMAT=%s",
        "sacct",
        "-nXP",
        "-S",
        "now-1hour",
        f"--name=hr.{placement}.e1",
        "-o",
        columns,
    )
    found = []
    for line in said.splitlines():
        job, state, elapsed, tres, account, start, end = line.split("|")
        if end != "Unknown":
            amounts = dict(part.split("=") for part in tres.split(",") if part)
            gpus = int(amounts.get("gres/gpu", 0))
            found.append(Accounted(job, state.split()[0], int(elapsed), gpus, account, int(start), int(end)))
    return found


def moments_of(site: SlurmSite) -> dict[str, tuple[int, int]]:
    """When slurmctld gave each job its nodes, and when it heard of its end: ms of the wall clock, by its log."""
    log = (site.folder / "slurmctld.log").read_text()
    began = {job: at_ms for at_ms, job in _logged(_BEGUN, log)}
    # The first that it heard: one that is cancelled has ended for Slurm when it is told to.
    over = {job: at_ms for at_ms, job in reversed(_logged(_OVER, log))}
    return {job: (began[job], over[job]) for job in began if job in over}


def _logged(what: str, log: str) -> list[tuple[int, str]]:
    found = re.findall(rf"^\[(\S+)\] (?:{what}) JobId=([0-9]+) ", log, re.MULTILINE)
    return [(round(datetime.fromisoformat(at).timestamp() * 1_000), job) for at, job in found]


_BEGUN = "sched: Allocate|sched/backfill: _start_job: Started"
_OVER = "_job_complete:|_slurm_rpc_kill_job: REQUEST_KILL_JOB"


@dataclass(frozen=True)
class Metered:
    """What the runner of a rank says: when it began and wrote last, by the wall clock, and for how long it held its node.

    ``own_ms`` of its launch are the runner's, from when Slurm started the task's process (the kernel's word, 10 ms).
    """

    began_ms: int
    last_ms: int
    held_ms: int
    own_ms: int


def metered(harness: SlurmHarness, placement: PlacementId, rank: int) -> Metered:
    """By its record."""
    record = harness.record(placement, rank)
    ticks = record["child"][1] - record["runner"][1]
    return Metered(
        record["started_wall_ms"],
        record["heartbeat_wall_ms"],
        record["running_ms"] + record["paused_ms"],
        ticks * 1_000 // os.sysconf("SC_CLK_TCK"),
    )


def leave(harness: SlurmHarness, order: StartOrder) -> None:
    """It ends by itself."""


def stop(harness: SlurmHarness, order: StartOrder) -> None:
    """It is stopped."""
    harness.pass_ms(500)
    harness.engine.stop(order.placement, LONG_GRACE_MS)


def pause(harness: SlurmHarness, order: StartOrder) -> None:
    """It is paused for a while and goes on."""
    harness.engine.pause(order.placement)
    become(harness, *[RankState.PAUSED] * len(order.ranks), placement=order.placement)
    harness.pass_ms(800)
    harness.engine.resume(order.placement)


def pause_and_stop(harness: SlurmHarness, order: StartOrder) -> None:
    """It never goes on."""
    harness.engine.pause(order.placement)
    harness.pass_ms(1_100)
    harness.engine.stop(order.placement, LONG_GRACE_MS)


def kill(harness: SlurmHarness, order: StartOrder) -> None:
    """Its runner is killed."""
    harness.pass_ms(700)
    harness.kill_runner(order.placement, 0)


def cancel(harness: SlurmHarness, order: StartOrder) -> None:
    """An administrator cancels it in Slurm."""
    harness.pass_ms(400)
    harness.site.ask("scancel", "--name", f"hr.{order.placement}.e1")


Act = Callable[[SlurmHarness, StartOrder], None]
KINDS: list[tuple[str, int, int, Act]] = [
    ("sleep 0.9", 1, 1, leave),
    ("sleep 0.4; exit 3", 1, 2, leave),
    ("sleep 0.6; kill -9 $$", 1, 3, leave),
    ("sleep 1.2", 3, 4, leave),
    ("sleep 30", 2, 2, stop),
    ("sleep 0.5", 1, 1, pause),
    ("sleep 30", 1, 4, pause_and_stop),
    ("sleep 30", 1, 1, kill),
    ("sleep 30", 1, 2, cancel),
]
"""What runs, on how many nodes, with how many accelerators of each, and what becomes of it."""


def test_what_the_runners_record_is_what_slurm_accounts_for(harness: SlurmHarness) -> None:
    """Nine kinds of end, three times each: launch, metered time and end of each rank are Slurm's elapsed time within a second."""
    ended_so: dict[PlacementId, tuple[int, int, Act]] = {}
    for number, (command, nodes, accelerators, act) in enumerate(KINDS * ROUNDS):
        placement = PlacementId(f"acme-{number}.1")
        order = order_of(command, placement=placement, nodes=nodes, accelerators=accelerators)
        harness.engine.start(order)
        become(harness, *[RankState.RUNNING] * nodes, placement=placement)
        act(harness, order)
        reported = [rank.running_ms + rank.paused_ms for rank in ended(harness, placement).ranks]
        # What the control plane is told, and bills, is what is on record.
        assert reported == [metered(harness, placement, rank).held_ms for rank in range(nodes)]
        ended_so[placement] = nodes, accelerators, act
    harness.until(lambda: all(accounts_of(harness.site, placement) for placement in ended_so))
    moments, off_ms = moments_of(harness.site), []
    for placement, (nodes, accelerators, act) in ended_so.items():
        (accounted,) = accounts_of(harness.site, placement)
        assert (accounted.gpus, accounted.account) == (nodes * accelerators, "acme")
        began_ms, over_ms = moments[accounted.job]
        # What slurmdbd keeps are these two moments, in whole seconds; the log's lines are written just after them.
        assert began_ms // 1_000 - accounted.start_s in (0, 1)
        assert over_ms // 1_000 - accounted.end_s in (0, 1)
        assert accounted.elapsed_s == accounted.end_s - accounted.start_s
        for rank in range(nodes):
            said = metered(harness, placement, rank)
            launch_ms, end_ms = said.began_ms - began_ms, over_ms - said.last_ms
            assert launch_ms >= said.own_ms - TICK_MS >= -TICK_MS, (placement, said, began_ms)
            # One that is cancelled in Slurm has ended there before it has.
            assert end_ms >= 0 or act is cancel, (placement, said, over_ms)
            off_ms.append(abs(over_ms - began_ms - (launch_ms + said.held_ms + end_ms)))
    assert max(off_ms) < CLOSE_MS, off_ms
    assert sum(off_ms) / len(off_ms) < CLOSE_MS / 4, off_ms


def test_an_account_that_does_not_exist_is_refused_with_the_next_step(harness: SlurmHarness) -> None:
    """The placement ends; one of an account that is there runs."""
    harness.engine.start(order_of("echo never", tenant="globex"))
    (rank,) = ended(harness).ranks
    assert (rank.state, rank.exit_code, rank.reason) == (RankState.EXITED, 126, "start_failed")
    assert "Slurm refuses it: " in rank.detail
    assert "Invalid account" in rank.detail
    assert "`sacctmgr add account NAME`" in rank.detail
