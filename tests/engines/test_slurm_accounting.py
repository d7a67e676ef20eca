"""What the runner records is what Slurm's own accounting says: a real slurmdbd on a real MariaDB.

Two things differ by definition, and like is compared with like:

- Slurm counts an allocation, from its start to its end, in whole seconds of the wall clock, so that an elapsed time of n seconds
  was anything between n-1 and n+1. The runner counts its rank's own time in milliseconds; the launch before it and the end
  after it are Slurm's alone, so that its time lies within Slurm's.
- A paused rank holds its nodes: Slurm's elapsed time is the runner's running and paused time together.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.core.ids import PlacementId
from headrace.engines.slurm.client import Commands
from headrace.ports import PlacementReport, RankState, StartOrder
from tests.engines.contract import LONG_GRACE_MS, become, ended, order_of
from tests.engines.slurm_site import SlurmHarness, SlurmSite, slurm_site

ROUNDS = 3


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

    state: str
    elapsed_s: int
    gpus: int
    account: str
    start_s: int
    end_s: int


def accounts_of(site: SlurmSite, placement: PlacementId) -> list[Accounted]:
    """Every job of a placement that slurmdbd knows the end of."""
    columns = "State,ElapsedRaw,AllocTRES,Account,Start,End"
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
        state, elapsed, tres, account, start, end = line.split("|")
        if end != "Unknown":
            amounts = dict(part.split("=") for part in tres.split(",") if part)
            gpus = int(amounts.get("gres/gpu", 0))
            found.append(Accounted(state.split()[0], int(elapsed), gpus, account, int(start), int(end)))
    return found


def seconds_of(harness: SlurmHarness, placement: PlacementId, ranks: int) -> tuple[int, int]:
    """The whole seconds of the wall clock in which its first runner began and its last one wrote its end."""
    records = [harness.record(placement, rank) for rank in range(ranks)]
    began = min(record["started_wall_ms"] for record in records)
    return began // 1_000, max(record["heartbeat_wall_ms"] for record in records) // 1_000


def held_ms(report: PlacementReport) -> int:
    """For how long the placement held its nodes, as its runners say."""
    return max(rank.running_ms + rank.paused_ms for rank in report.ranks)


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
    """Nine kinds of end, three times each: elapsed time and accelerators of each placement, and one job for each."""
    recorded: dict[PlacementId, tuple[int, int]] = {}
    nodes_of: dict[PlacementId, int] = {}
    for number, (command, nodes, accelerators, act) in enumerate(KINDS * ROUNDS):
        placement = PlacementId(f"acme-{number}.1")
        order = order_of(command, placement=placement, nodes=nodes, accelerators=accelerators)
        harness.engine.start(order)
        become(harness, *[RankState.RUNNING] * nodes, placement=placement)
        act(harness, order)
        recorded[placement] = held_ms(ended(harness, placement)), nodes * accelerators
        nodes_of[placement] = nodes
    harness.until(lambda: all(accounts_of(harness.site, placement) for placement in recorded))
    over_s, early_s, late_s = [], [], []
    for placement, (elapsed_ms, gpus) in recorded.items():
        (accounted,) = accounts_of(harness.site, placement)
        assert (accounted.gpus, accounted.account) == (gpus, "acme")
        over_s.append(accounted.elapsed_s - elapsed_ms / 1_000)
        first, last = seconds_of(harness, placement, nodes_of[placement])
        early_s.append(first - accounted.start_s)
        late_s.append(accounted.end_s - last)
    # Each within a second, by Slurm's whole seconds; and all together, where roundings are no more.
    assert all(-1 < one < 2 for one in over_s), over_s
    assert sum(over_s) / len(over_s) < 1, over_s
    # No runner's time outside what Slurm accounts for, in a single placement.
    assert min(early_s) >= 0, early_s
    assert min(late_s) >= 0, late_s


def test_an_account_that_does_not_exist_is_refused_with_the_next_step(harness: SlurmHarness) -> None:
    """The placement ends; one of an account that is there runs."""
    harness.engine.start(order_of("echo never", tenant="globex"))
    (rank,) = ended(harness).ranks
    assert (rank.state, rank.exit_code, rank.reason) == (RankState.EXITED, 126, "start_failed")
    assert "Slurm refuses it: " in rank.detail
    assert "Invalid account" in rank.detail
    assert "`sacctmgr add account NAME`" in rank.detail
