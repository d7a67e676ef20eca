"""The engine of mining machines keeps the contract as far as what mines can, on a plant's miners through sockets."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.core.ids import Epoch, NodeId, PlacementId
from headrace.devices.declared import load_devices
from headrace.devices.miners import PyasicMiner
from headrace.engines.miners import UNKNOWN, UNORDERED, Machine, MinerEngine, MinerPace
from headrace.plant.physics import Failure, Physics
from headrace.plant.run import Plant
from headrace.ports import Engine, EngineError, NodeReport, RankState
from tests.engines.contract import (
    FIRST,
    LONG_GRACE_MS,
    SECOND,
    HoldingContract,
    become,
    ended,
    order_of,
    report_of,
    states,
)
from tests.plant.small import plant_here

QUICK = MinerPace(round_s=0.02, look_s=0.1, soon_s=0.05, again_s=0.3, odd_s=0.5, silent_s=1.0)
NODES = [NodeId(f"glomfjord/a/lab-0-{number}") for number in range(3)]
DEADLINE_S = 0.5


class MinerHarness:
    """Three miners of a plant in a thread of its own, whose control is this harness's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loop = asyncio.new_event_loop()
        self._up, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._play(),))
        self._thread.start()
        assert self._up.wait(30)
        self.engine: Engine = self._open(NODES)

    async def _play(self) -> None:
        async with plant_here(self.folder, miners=len(NODES)) as plant:
            self.plant: Plant = plant
            self.physics.miner_on[:] = self.physics.miner_said_on[:] = False
            self.physics.miner_w[:] = 25.0
            self._up.set()
            await self._end.wait()
        # Connections that were accepted last are served last.
        await asyncio.sleep(0.2)
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await asyncio.sleep(0.05)

    @property
    def physics(self) -> Physics:
        return self.plant.physics

    def _open(self, nodes: list[NodeId]) -> MinerEngine:
        site = load_devices(self.plant.directory / "devices.yaml")[0]
        clock = self.plant.clock
        miners = {
            node: PyasicMiner(one, clock, DEADLINE_S) for node, one in zip(NODES, site.miners, strict=True)
        }
        made = MinerEngine(self.folder / "miners", {node: miners[node] for node in nodes}, QUICK)
        if not (self.folder / "miners" / "epoch").exists():
            made.fence(Epoch(1))
        made.nodes(NODES)
        return made

    def reopened(self, nodes: list[NodeId] = NODES) -> Engine:
        """The next control plane's engine; the one before asks nothing any more."""
        self.engine.close()
        self.engine = self._open(nodes)
        return self.engine

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it."""
        for _ in range(1_000):
            if condition():
                return
            time.sleep(0.02)
        raise AssertionError("it never came")

    def pass_ms(self, duration_ms: int) -> None:
        """Wait."""
        time.sleep(duration_ms / 1_000)

    def kill_runner(self, placement: PlacementId, rank: int) -> None:
        """There is none."""
        raise NotImplementedError

    def nodes(self) -> dict[NodeId, NodeReport]:
        return {one.node: one for one in self.engine.nodes(NODES)}

    def machine(self, number: int) -> Machine:
        """What the engine knows of a miner."""
        assert isinstance(self.engine, MinerEngine)
        return next(one for one in self.engine.machines() if one.node == NODES[number])

    def opened(self) -> Engine:
        """A second engine on the same directory."""
        return self._open(NODES)

    def fails(self, miner: int, how: Failure) -> None:
        self.physics.miner_failure[miner] = int(how)

    def close(self) -> None:
        self.engine.close()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)
        self._loop.close()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[MinerHarness]:
    """Three miners at rest, and an engine that has them."""
    made = MinerHarness(tmp_path)
    yield made
    made.close()


class TestMiners(HoldingContract):
    """The contract, of what runs no commands."""


def test_what_is_placed_mines_and_what_has_ended_draws_next_to_nothing(harness: MinerHarness) -> None:
    """By the world's own watts: running is drawing, and an end is reported once the draw is gone, not when it was ordered."""
    harness.engine.start(order_of(nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.until(lambda: list(harness.physics.miner_w) == [3_300, 3_300, 25])
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    ended(harness)
    assert list(harness.physics.miner_w < 500) == [True, True, True]


def test_a_machine_that_says_that_it_is_off_and_draws_has_not_stopped(harness: MinerHarness) -> None:
    """It took the order, and draws on by its own word: it is not taken to have ended, and is named."""
    harness.engine.start(order_of())
    become(harness, RankState.RUNNING)
    harness.until(lambda: harness.physics.miner_w[0] == 3_300)
    harness.physics.speeds = replace(harness.physics.speeds, miner_down_ms=100_000_000)
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    harness.until(lambda: "says that it is off and draws 3" in harness.machine(0).trouble)
    assert states(harness.engine) == [RankState.RUNNING]
    harness.physics.speeds = replace(harness.physics.speeds, miner_down_ms=100)
    ended(harness)
    assert harness.machine(0).trouble == ""


def test_one_that_does_not_answer_has_not_stopped_and_nobody_is_placed_on_it(harness: MinerHarness) -> None:
    """Silence is no end. Others are stopped meanwhile, and it is when it answers again."""
    harness.engine.start(order_of(nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.fails(0, Failure.SILENT)
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    become(harness, RankState.RUNNING, RankState.EXITED)
    harness.until(lambda: not harness.nodes()[NODES[0]].up)
    report = harness.nodes()[NODES[0]]
    assert "no answer from the miner" in report.reason
    assert report.foreign == ""
    harness.fails(0, Failure.NONE)
    ended(harness)
    harness.until(lambda: harness.nodes()[NODES[0]].up)


def test_an_order_that_was_lost_or_refused_is_given_again(harness: MinerHarness) -> None:
    """What is wanted is compared with what the machine does, for as long as it takes."""
    harness.fails(0, Failure.REFUSES)
    harness.engine.start(order_of())
    harness.until(lambda: "takes no orders" in harness.machine(0).trouble)
    assert states(harness.engine) == [RankState.STARTING]
    harness.fails(0, Failure.NONE)
    become(harness, RankState.RUNNING)


def test_a_machine_that_mines_for_nobody_is_told_to_stop_and_counts_in_full_until_it_has(
    harness: MinerHarness,
) -> None:
    """They begin by themselves when power comes back. One that is no node of the estate is left as it is."""
    harness.fails(0, Failure.REFUSES)
    for miner in (0, 1):
        harness.physics.miner_on[miner] = harness.physics.miner_said_on[miner] = True
    harness.until(lambda: harness.nodes()[NODES[0]].foreign == UNORDERED)
    harness.until(lambda: not harness.physics.miner_on[1])
    harness.until(lambda: harness.nodes()[NODES[1]].foreign == "")
    harness.fails(0, Failure.NONE)
    harness.until(lambda: not harness.physics.miner_on[0] and harness.nodes()[NODES[0]].foreign == "")
    harness.engine.nodes(NODES[:2])
    harness.physics.miner_on[2] = harness.physics.miner_said_on[2] = True
    harness.pass_ms(500)
    assert harness.physics.miner_on[2]


def test_of_an_idle_machine_that_is_silent_nothing_is_known(harness: MinerHarness) -> None:
    """It may have begun to mine: its node takes no work, and counts in full."""
    harness.until(lambda: harness.machine(2).said is not None)
    harness.fails(2, Failure.SILENT)
    harness.until(lambda: not harness.nodes()[NODES[2]].up)
    assert harness.nodes()[NODES[2]].foreign == UNKNOWN


def test_a_machine_that_lost_its_power_goes_on_with_what_it_had_or_is_stopped(harness: MinerHarness) -> None:
    """The machine's restart is no end of the placement, and no start of another."""
    harness.engine.start(order_of())
    become(harness, RankState.RUNNING)
    harness.physics.miner_on[0] = harness.physics.miner_said_on[0] = False
    harness.until(lambda: bool(harness.physics.miner_on[0]))
    assert states(harness.engine) == [RankState.RUNNING]


def test_what_it_mined_before_a_restart_counts_on_and_the_time_between_does_not(
    harness: MinerHarness,
) -> None:
    """Nobody looked: what the machine did then is not known."""
    harness.engine.start(order_of())
    become(harness, RankState.RUNNING)
    harness.pass_ms(400)
    harness.engine.pause(FIRST)
    become(harness, RankState.PAUSED)
    before = _ran_ms(harness)
    harness.reopened()
    assert _ran_ms(harness) == before >= 300
    harness.pass_ms(300)
    assert states(harness.engine) == [RankState.PAUSED]
    harness.engine.fence(Epoch(2))
    harness.engine.resume(FIRST)
    become(harness, RankState.RUNNING)
    harness.until(lambda: _ran_ms(harness) > before)


def _ran_ms(harness: MinerHarness) -> int:
    report = report_of(harness.engine)
    assert report is not None
    return report.ranks[0].running_ms


def test_a_machine_that_the_file_does_not_have_any_more_is_lost_with_what_it_ran(
    harness: MinerHarness,
) -> None:
    """Nobody can ask it. A placement on one that it never had fails to start, and says why."""
    harness.engine.start(order_of(nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.reopened(NODES[1:])
    harness.engine.fence(Epoch(2))
    assert states(harness.engine)[0] is RankState.LOST
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    assert [rank.exit_code for rank in ended(harness).ranks] == [None, 143]
    harness.engine.forget(FIRST)
    harness.engine.start(order_of(placement=SECOND, epoch=2))
    rank = ended(harness, SECOND).ranks[0]
    assert (rank.reason, rank.detail) == ("start_failed", f"no miner of the devices file is {NODES[0]}")
    assert not harness.nodes()[NODES[0]].up


@pytest.mark.parametrize("what", ["commands", "ports"])
def test_what_would_have_to_be_run_fails_to_start(harness: MinerHarness, what: str) -> None:
    """Nobody is told that something of theirs runs that does not."""
    order = order_of("echo never") if what == "commands" else order_of(ports={"http": 0})
    harness.engine.start(order)
    rank = ended(harness).ranks[0]
    assert (rank.exit_code, rank.reason) == (126, "start_failed")
    assert "run nothing of anybody's" in rank.detail


def test_a_machine_is_one_placements_until_it_has_stopped(harness: MinerHarness) -> None:
    """The next one's start is refused, and tried again by the loop."""
    harness.engine.start(order_of())
    become(harness, RankState.RUNNING)
    with pytest.raises(EngineError, match="has not ended what it did before"):
        harness.engine.start(order_of(placement=SECOND))
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    ended(harness)
    harness.engine.start(order_of(placement=SECOND))
    become(harness, RankState.RUNNING, placement=SECOND)


def test_another_control_plane_on_the_same_directory_is_the_only_one_that_is_heard(
    harness: MinerHarness,
) -> None:
    """The earlier one is told so, and tells machines nothing any more. Another journal's is refused at once."""
    earlier = harness.engine
    harness.engine = harness.opened()
    harness.engine.fence(Epoch(2))
    with pytest.raises(EngineError, match="epoch 1 is superseded by 2"):
        earlier.observe()
    assert "superseded" in earlier.trouble
    earlier.close()
    (harness.folder / "miners" / "owner").write_text('"journal-a"')
    with pytest.raises(EngineError, match="belongs to the control plane of journal journal-a"):
        harness.engine.fence(Epoch(3), "journal-b")


def test_logs_are_empty_and_have_ended(harness: MinerHarness) -> None:
    """What runs no commands writes none; a stream that nothing has is still an error."""
    harness.engine.start(order_of())
    assert harness.engine.logs(FIRST, 0, "stdout", 0, 10).ended
    with pytest.raises(EngineError, match="no stream 'stdlog'"):
        harness.engine.logs(FIRST, 0, "stdlog", 0, 10)
