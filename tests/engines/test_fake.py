"""The fake engine keeps the contract, and breaks it exactly as it is told."""

from collections.abc import Callable

import pytest

from headrace.core.ids import PlacementId
from headrace.engines.fake import FakeEngine, Faults
from headrace.ports import Engine, EngineError, RankState
from tests.engines.contract import FIRST, SECOND, EngineContract, order_of, report_of, states


class Ticks:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        """The simulated time."""
        return self.ms


class FakeHarness:
    """A fake engine and its clock."""

    def __init__(self) -> None:
        self.clock = Ticks()
        self.fake = FakeEngine(self.clock, faults=Faults(start_delay_ms=20))
        self.engine: Engine = self.fake

    def reopened(self) -> Engine:
        """The same object: what it stands for does not restart with the control plane."""
        return self.fake

    def until(self, condition: Callable[[], bool]) -> None:
        """Let a minute pass in steps of ten milliseconds."""
        for _ in range(6_000):
            if condition():
                return
            self.clock.ms += 10
        raise AssertionError("did not happen within a simulated minute")

    def pass_ms(self, duration_ms: int) -> None:
        """Move the clock."""
        self.clock.ms += duration_ms

    def kill_runner(self, placement: PlacementId, rank: int) -> None:
        """Lose the rank."""
        self.fake.lose_rank(placement, rank)


@pytest.fixture
def harness() -> FakeHarness:
    """A fake engine of its own for each test."""
    return FakeHarness()


class TestFake(EngineContract):
    """The contract on the fake."""


def test_a_lost_acknowledgement_leaves_the_placement_started_once(harness: FakeHarness) -> None:
    """The order is repeated after the error, and nothing runs twice."""
    harness.fake.faults.lose_next_acks = 1
    with pytest.raises(EngineError, match="no answer"):
        harness.engine.start(order_of("sleep 10"))
    harness.engine.start(order_of("sleep 10"))
    assert harness.fake.starts == {FIRST: 1}
    assert [ran.placement for ran in _after(harness, 20).ran] == [FIRST]


def test_a_refusal_starts_nothing(harness: FakeHarness) -> None:
    """The error is true."""
    harness.fake.faults.refusing = True
    with pytest.raises(EngineError, match="can't be started now"):
        harness.engine.start(order_of("sleep 10"))
    assert report_of(harness.engine) is None
    assert not harness.fake.starts


def test_a_duplicate_of_a_start_does_nothing_even_long_after_the_end(harness: FakeHarness) -> None:
    """It is delivered again at once, and once more when the placement is forgotten."""
    harness.fake.faults.duplicate_next_starts = 1
    harness.engine.start(order_of("sleep 1"))
    _after(harness, 2_000)
    harness.engine.forget(FIRST)
    _after(harness, 120_000)
    assert report_of(harness.engine) is None
    assert (harness.fake.starts[FIRST], harness.fake.duplicates, len(harness.fake.ran)) == (1, 2, 1)


def test_a_delayed_observation_shows_the_past_in_order(harness: FakeHarness) -> None:
    """What happened comes later, never out of order, and not at all before."""
    harness.fake.faults.observe_delay_ms = 1_000
    harness.engine.start(order_of("sleep 0.5"))
    seen: list[list[RankState]] = []
    for _ in range(300):
        if not seen or seen[-1] != states(harness.engine):
            seen.append(states(harness.engine))
        harness.clock.ms += 10
    assert seen == [[], [RankState.STARTING], [RankState.RUNNING], [RankState.EXITED]]


def test_a_dead_node_loses_its_ranks_and_is_reported_down(harness: FakeHarness) -> None:
    """Durations stand at the last heartbeat; the account kept for checkers says the same."""
    harness.engine.start(order_of("sleep 60", nodes=2))
    _after(harness, 20)
    _after(harness, 12_345)
    harness.fake.kill_node("glomfjord/a/lab-0-1")
    report = report_of(harness.engine)
    assert report is not None
    assert [(rank.state, rank.running_ms) for rank in report.ranks][1] == (RankState.LOST, 10_000)
    assert [ran.running_ms for ran in harness.fake.ran if ran.rank == 1] == [10_000]
    assert [(node.node, node.up) for node in harness.engine.nodes(())] == [("glomfjord/a/lab-0-1", False)]
    harness.fake.revive_node("glomfjord/a/lab-0-1")
    assert [node.up for node in harness.engine.nodes(())] == [True]


def test_a_slow_node_starts_late(harness: FakeHarness) -> None:
    """The gang waits for its slowest rank."""
    harness.fake.slow_node("glomfjord/a/lab-0-1", 5_000)
    harness.engine.start(order_of("sleep 60", nodes=2))
    _after(harness, 1_000)
    assert states(harness.engine) == [RankState.RUNNING, RankState.STARTING]
    _after(harness, 5_000)
    assert states(harness.engine) == [RankState.RUNNING, RankState.RUNNING]


def test_durations_are_by_the_hosts_clock(harness: FakeHarness) -> None:
    """A host whose clock runs a tenth fast reports a tenth more."""
    harness.fake.faults.rate_permille = 1_100
    harness.engine.start(order_of("sleep 10"))
    _after(harness, 20_000)
    report = report_of(harness.engine)
    assert report is not None
    assert report.ranks[0].running_ms == 11_000


def test_nothing_changed_is_the_same_object(harness: FakeHarness) -> None:
    """So that a loop over thousands of placements costs nothing when nothing happens."""
    for number in range(100):
        harness.engine.start(order_of("sleep 60", placement=PlacementId(f"acme-{number}.1")))
    _after(harness, 30)
    before = harness.engine.observe()
    _after(harness, 30)
    assert harness.engine.observe() is before
    assert harness.fake.next_due_ms() is not None


def test_the_same_seed_makes_the_same_faults() -> None:
    """Chance is the seed's alone."""

    def outcome(seed: int) -> list[bool]:
        engine = FakeEngine(Ticks(), seed=seed, faults=Faults(lose_ack_permille=500))
        answers = []
        for number in range(50):
            try:
                engine.start(order_of("sleep 1", placement=PlacementId(f"acme-{number}.1")))
                answers.append(True)
            except EngineError:
                answers.append(False)
        return answers

    assert outcome(7) == outcome(7)
    assert outcome(7) != outcome(8)


def test_what_happens_between_two_looks_happens_at_its_own_time(harness: FakeHarness) -> None:
    """A clock that is moved in long steps gives the same durations as one moved in short ones."""
    harness.engine.start(order_of("sleep 7"))
    harness.engine.start(
        order_of("trap '' TERM", "sleep 60", placement=SECOND, max_duration_ms=9_000, grace_ms=1_500)
    )
    _after(harness, 1_000_000)
    first, second = report_of(harness.engine, FIRST), report_of(harness.engine, SECOND)
    assert first is not None
    assert second is not None
    assert (first.ranks[0].running_ms, first.ranks[0].exit_code) == (7_000, 0)
    assert (second.ranks[0].running_ms, second.ranks[0].exit_code) == (10_500, 137)


def _after(harness: FakeHarness, duration_ms: int) -> FakeEngine:
    harness.clock.ms += duration_ms
    harness.engine.observe()
    return harness.fake
