"""The plant's physics: caps act with a lag and no lower than their floor, what ramps takes its time, and sums are sums."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.plant.meters import MeterFault, PlantMeter
from headrace.plant.physics import MINER_IDLE_W, Failure, Physics, Power
from headrace.plant.site import Options, make_physics, read_estate, site_fleet
from tests.plant.small import estate_file

NOW = 1_800_000_000_000
FEED_A = "fjord/feed-a"


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate_file(tmp_path_factory.mktemp("estate"), racks=2)


def made(estate: Path, **options: object) -> Physics:
    chosen = Options(**({"load_permille": 1_000} | options))  # type: ignore[arg-type]
    return make_physics(site_fleet(read_estate(estate), ""), chosen, NOW)


def watts(physics: Physics, element: str) -> float:
    names = [str(name) for name in physics.fleet.power_ids]
    return float(physics.element_w[names.index(element)])


def test_a_cap_acts_after_a_delay_with_a_lag_and_holds(estate: Path) -> None:
    """Nothing at first; then down within two seconds; then never above the cap, whatever the load does."""
    physics = made(estate)
    physics.set_cap(0, 700)
    physics.advance(NOW + 200)
    assert physics.drawn_w[0] > 950
    physics.advance(NOW + 800)
    assert 700 < physics.drawn_w[0] < 950
    physics.advance(NOW + 3_000)
    for _ in range(100):
        physics.advance(physics.now_ms + 100)
        assert physics.drawn_w[0] <= 700
    assert physics.drawn_w[1] > 950


def test_a_cap_sheds_nothing_below_its_floor_nor_from_a_load_that_draws_less(estate: Path) -> None:
    """At the floor of its accelerators a node draws the rest all the same; a cap above what is drawn changes nothing."""
    physics = made(estate)
    physics.set_cap(0, 100)
    physics.demand_w[1] = 500
    physics.set_cap(1, 800)
    physics.advance(NOW + 20_000)
    assert physics.floor_w[0] == 600
    assert 590 < physics.drawn_w[0] <= 600
    assert 480 < physics.drawn_w[1] < 520


@pytest.mark.parametrize(
    ("failure", "after_ms", "is_down"),
    [
        (Failure.NONE, 3_000, True),
        (Failure.IGNORES, 60_000, False),
        (Failure.SLOW, 3_000, False),
        (Failure.SLOW, 12_000, True),
    ],
)
def test_a_cap_that_fails_does_what_its_failure_says(
    estate: Path, failure: Failure, after_ms: int, is_down: bool
) -> None:
    """Ignored for ever, or late."""
    physics = made(estate)
    physics.failure[0] = failure
    physics.set_cap(0, 700)
    physics.advance(NOW + after_ms)
    assert bool(physics.drawn_w[0] <= 700) is is_down


def test_a_node_that_shuts_down_draws_until_it_is_off_and_takes_its_time_to_be_back(estate: Path) -> None:
    """Ten seconds at idle, standby, a minute of start; then its load ramps up."""
    physics = made(estate)
    physics.reset(0, "GracefulShutdown")
    physics.advance(NOW + 9_000)
    assert physics.drawn_w[0] > 150
    physics.advance(NOW + 11_000)
    assert (physics.power[0], physics.drawn_w[0]) == (Power.OFF, 10.0)
    physics.reset(0, "On")
    physics.advance(NOW + 40_000)
    assert physics.power[0] == Power.TURNING_ON
    assert 150 < physics.drawn_w[0] < 250
    physics.advance(NOW + 75_000)
    assert physics.drawn_w[0] > 950
    physics.reset(0, "ForceOff")
    physics.advance(NOW + 76_000)
    assert physics.power[0] == Power.OFF


def test_miners_ramp_down_over_seconds_up_over_a_minute_and_start_anew_for_a_limit(estate: Path) -> None:
    """One that lies draws on; all of it shows at its element."""
    physics = made(estate, miners=3, miners_at=FEED_A)
    before_w = watts(physics, FEED_A)
    physics.miner_failure[2] = Failure.IGNORES
    for miner in range(3):
        physics.set_mining(miner, on=False)
    physics.advance(NOW + 4_000)
    assert MINER_IDLE_W < physics.miner_w[0] < 2_000
    physics.advance(NOW + 10_000)
    assert physics.miner_w.tolist() == [MINER_IDLE_W, MINER_IDLE_W, 3_300]
    assert watts(physics, FEED_A) == pytest.approx(before_w - 2 * (3_300 - MINER_IDLE_W), abs=100)
    physics.set_mining(0, on=True)
    physics.advance(NOW + 40_000)
    assert 1_000 < physics.miner_w[0] < 3_000
    physics.advance(NOW + 75_000)
    assert physics.miner_w[0] == 3_300
    physics.set_miner_limit(0, 2_000)
    physics.advance(physics.now_ms + 1_000)
    assert physics.miner_w[0] < 200
    physics.advance(physics.now_ms + 60_000)
    assert physics.miner_w[0] == 2_000


def test_a_slow_miner_stops_late_and_is_told_twice_without_harm(estate: Path) -> None:
    """A second order while the first waits changes nothing."""
    physics = made(estate, miners=1)
    physics.miner_failure[0] = Failure.SLOW
    physics.set_mining(0, on=False)
    physics.set_mining(0, on=False)
    physics.advance(NOW + 7_000)
    assert physics.miner_w[0] == 3_300
    physics.advance(NOW + 20_000)
    assert physics.miner_w[0] == MINER_IDLE_W
    physics.set_mining(0, on=False)
    physics.advance(NOW + 40_000)
    assert physics.miner_w[0] == MINER_IDLE_W


def test_below_an_open_breaker_all_is_dark_and_nothing_beside_it(estate: Path) -> None:
    """Nodes and miners below it draw nothing, and come back with it."""
    physics = made(estate, miners=2, miners_at=FEED_A)
    other_w = watts(physics, "fjord/feed-b")
    names = [str(name) for name in physics.fleet.power_ids]
    physics.tripped[names.index(FEED_A)] = True
    physics.advance(NOW + 1_000)
    assert watts(physics, FEED_A) == 0
    assert watts(physics, "fjord/feed-b") == pytest.approx(other_w, rel=0.05)
    physics.tripped[names.index(FEED_A)] = False
    physics.advance(NOW + 2_000)
    assert watts(physics, FEED_A) > 5_000


def test_the_connection_draws_the_pue_on_top_and_more_of_it_when_it_is_warm(estate: Path) -> None:
    """At the meter of the grid cooling counts; below it everything is IT load."""
    physics = made(estate)
    it_w = watts(physics, FEED_A) + watts(physics, "fjord/feed-b")
    assert watts(physics, "fjord") == pytest.approx(it_w * 1.1)
    physics.outdoor_celsius = 40.0
    physics.advance(NOW + 1_000)
    it_w = watts(physics, FEED_A) + watts(physics, "fjord/feed-b")
    assert watts(physics, "fjord") == pytest.approx(it_w * 1.1 * 1.1)


@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2_000), st.booleans()), max_size=12),
    st.integers(1, 30_000),
)
def test_sums_go_up_the_tree_and_nobody_draws_more_than_nameplate(
    estate: Path, orders: list[tuple[int, int, bool]], passed_ms: int
) -> None:
    """Whatever is ordered: each element draws what is below it, and energy is watts over time."""
    physics = made(estate)
    for node, cap_w, off in orders:
        physics.set_cap(node, cap_w)
        if off:
            physics.reset(node, "ForceOff")
    physics.advance(NOW + passed_ms)
    assert np.all(physics.drawn_w <= physics.nameplate_w)
    assert watts(physics, FEED_A) == pytest.approx(float(physics.drawn_w[:6].sum()))
    assert watts(physics, "fjord/b2") == pytest.approx(float(physics.drawn_w[6:].sum()))
    assert np.all(physics.element_w <= physics.most_w + 1e-6)
    assert np.all(physics.energy_mj <= physics.worst_w * passed_ms + 1e-3)
    assert np.all(physics.worst_w >= physics.element_w)


def test_the_same_seed_draws_the_same_watts(estate: Path) -> None:
    """Chance is seeded: two plants with one seed and the same orders can't be told apart."""
    first, second, other = (made(estate, seed=seed, fail_permille=250) for seed in (7, 7, 8))
    for physics in (first, second, other):
        physics.advance(NOW + 5_000)
    assert first.drawn_w.tolist() == second.drawn_w.tolist()
    assert first.failure.tolist() == second.failure.tolist()
    assert first.drawn_w.tolist() != other.drawn_w.tolist()
    assert int((first.failure != 0).sum()) == 3


def test_a_meter_shows_what_was_a_lag_ago_and_fails_when_told(estate: Path) -> None:
    """Watts, energy, clock and counter of two seconds ago; frozen, all four stay."""
    physics = made(estate)
    names = [str(name) for name in physics.fleet.power_ids]
    meter = PlantMeter("m", names.index(FEED_A), 0, 1)
    physics.advance(NOW + 5_000)
    physics.tripped[names.index(FEED_A)] = True

    def shown() -> int:
        return int.from_bytes(meter.registers(physics, 2_000)[:4], "big", signed=True)

    for step in range(1, 21):
        physics.advance(NOW + 5_000 + 100 * step)
    assert shown() > 5_000
    for step in range(21, 31):
        physics.advance(NOW + 5_000 + 100 * step)
    assert shown() == 0
    physics.tripped[:] = False
    meter.fail(MeterFault.FROZEN, 0, physics, 2_000)
    frozen = meter.registers(physics, 2_000)
    physics.advance(NOW + 20_000)
    assert meter.registers(physics, 2_000) == frozen
    meter.fail(MeterFault.NEGATIVE, 0, physics, 2_000)
    assert shown() < -5_000
    meter.fail(MeterFault.JUMPED, 0.5, physics, 2_000)
    assert 2_500 < shown() < 3_100


def test_the_trace_has_every_step_that_is_remembered(estate: Path) -> None:
    """Who judges sees each step, and not only what a meter shows of it."""
    physics = made(estate)
    for step in range(1, 11):
        physics.advance(NOW + 100 * step)
    names = [str(name) for name in physics.fleet.power_ids]
    trace = physics.trace(names.index(FEED_A), NOW + 500)
    assert [at_ms - NOW for at_ms, _ in trace] == [500, 600, 700, 800, 900, 1_000]
    assert all(5_500 < watt <= 6_000 for _, watt in trace)
