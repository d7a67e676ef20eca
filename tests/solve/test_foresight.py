"""Plans by HiGHS: the best with all prices known, held to a second mind that tries everything; and never believed unseen."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from headrace.core.errors import HeadraceError
from headrace.core.power.dispatch import Counts, Interval, Rules, admit, advance, settle
from headrace.core.power.foresight import Horizon, LimitPrices, bound, horizon_of, is_tied
from headrace.core.power.hall import Load, Ramp, Switching
from headrace.solve import perfect
from headrace.solve.highs import (
    HighsLookAhead,
    SolverError,
    before_of,
    is_coarse,
    machines_of,
    solve,
)
from headrace.solve.perfect import perfect_foresight
from tests.core.power.hall_judge import HOUR, Kind, Site, best, judge
from tests.core.power.halls import MICROS, Case, case, cases

QUARTER = HOUR // 4


def earned(one: Case, plan: list[Counts]) -> tuple[list[Counts], float]:
    """What a plan earns once every rule is applied to it."""
    state, gain, found = one.rules.initial(), 0, []
    for interval, wish in zip(one.intervals, plan, strict=True):
        counts = admit(one.rules, state, interval, wish)
        gain += settle(one.rules, state, interval, counts).gain_micros
        state = advance(one.rules, state, interval, counts)
        found.append(counts)
    return found, gain / MICROS


@settings(max_examples=80, deadline=None)
@given(one=cases())
def test_perfect_foresight_is_the_optimum_to_the_last_machine(one: Case) -> None:
    """Halls of a handful of machines: never less than the best there is, and no more."""
    most = float(best(one.site, one.costs))
    horizon = horizon_of(one.intervals)
    found = perfect_foresight(one.rules, horizon)
    assert found.most >= most - 1e-9
    if is_coarse(one.rules, horizon) or not is_tied(one.rules, horizon):
        assert found.most == pytest.approx(most, abs=1e-3)
        counts, gain = earned(one, machines_of(one.rules, found.on_mw))
        assert gain == pytest.approx(most, abs=1e-3)
        assert float(judge(one.site, one.costs, counts)) == pytest.approx(most, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(one=cases())
def test_looking_ahead_over_all_there_is_finds_the_optimum(one: Case) -> None:
    """The planner of the live hall, given the whole file, does as well as can be done."""
    plan = HighsLookAhead().plan(one.rules, one.rules.initial(), one.intervals)
    _, gain = earned(one, plan)
    most = float(best(one.site, one.costs))
    assert gain == pytest.approx(most, rel=2e-4, abs=1e-2)


@settings(max_examples=40, deadline=None)
@given(one=cases(count=3, longest=8))
def test_a_plan_goes_on_from_where_the_hall_is(one: Case) -> None:
    """Replanned at every interval, with what is held from before, nothing is lost."""
    planner, state, gain = HighsLookAhead(), one.rules.initial(), 0
    for number, interval in enumerate(one.intervals):
        wish = planner.plan(one.rules, state, one.intervals[number:])[0]
        counts = admit(one.rules, state, interval, wish)
        gain += settle(one.rules, state, interval, counts).gain_micros
        state = advance(one.rules, state, interval, counts)
    at_once = earned(one, HighsLookAhead().plan(one.rules, one.rules.initial(), one.intervals))[1]
    assert planner.plans == len(one.intervals)
    assert gain / MICROS == pytest.approx(at_once, rel=1e-3, abs=2e-2)


def hall_of_thousands(ramp_w: int, hours: int) -> tuple[Rules, list[int]]:
    """Three classes of a thousand machines on a connection too small for all; prices that swing by day and by week."""
    switching = Switching(400_000, 2 * HOUR, 3 * HOUR)
    loads = tuple(
        Load(f"m-{value}", "miner", 1_000, watts, switching)
        for value, watts in ((70, 3_068), (97, 3_010), (119, 3_500))
    )
    rules = Rules(loads, 8_000_000, Ramp(ramp_w, ramp_w))
    chance = np.random.default_rng(5)
    at = np.arange(hours)
    swing = 95 + 30 * np.sin(at / 24 * 2 * np.pi) + 25 * np.sin(at / 168 * 2 * np.pi)
    return rules, [int(price) for price in swing + chance.normal(0, 12, hours)]


def stretch_of(rules: Rules, costs: list[int]) -> Case:
    values = (70 * MICROS, 97 * MICROS, 119 * MICROS)
    intervals = tuple(
        Interval(number * HOUR, HOUR, cost * MICROS, values) for number, cost in enumerate(costs)
    )
    return Case(rules, intervals, None, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(("ramp_w", "lost"), [(0, 1e-4), (1_500_000, 1e-4), (400_000, 5e-4)])
def test_windows_that_overlap_lose_nothing(ramp_w: int, lost: float) -> None:
    """The bound, proven for the whole, is that of one program; what whole machines earn is short of it by fractions of one."""
    rules, costs = hall_of_thousands(ramp_w, 1_500)
    one = stretch_of(rules, costs)
    horizon = horizon_of(one.intervals)
    found = perfect_foresight(rules, horizon)
    _, gain = earned(one, machines_of(rules, found.on_mw))
    assert 1 - lost < gain / found.most <= 1
    at_once = solve(rules, horizon, before_of(rules, rules.initial()))
    assert found.most == pytest.approx(at_once.most, rel=perfect.CLOSE)
    assert bound(rules, horizon, at_once.prices)[0] == pytest.approx(at_once.most, rel=1e-7)


def test_a_liar_of_a_solver_can_make_the_bound_worse_and_never_wrong() -> None:
    """Whatever prices are put on ramp and connection, what can be earned is not above the bound."""
    rules, costs = hall_of_thousands(1_000_000, 200)
    horizon = horizon_of(stretch_of(rules, costs).intervals)
    at_once = solve(rules, horizon, before_of(rules, rules.initial()))
    chance = np.random.default_rng(9)
    for scale in (0.0, 0.5, 2.0, -1.0):
        noise = chance.normal(1.0, 0.3, 200)
        prices = LimitPrices(
            scale * noise * at_once.prices.up, scale * at_once.prices.down, scale * at_once.prices.connection
        )
        assert bound(rules, horizon, prices)[0] >= at_once.most


def test_longer_intervals_at_the_end_keep_minimum_times_in_hours() -> None:
    """Quarters of an hour that are known, hours that are expected: a machine that starts is on for two hours in either."""
    loads = (Load("m", "miner", 1, 10**6, Switching(0, 2 * HOUR, 0)),)
    rules = Rules(loads, 10**6, Ramp())
    gains = [-100, 300, -10, -10, -10, -10, -10, -10, -10, -10, -10]
    starts = [QUARTER * number for number in range(8)] + [2 * HOUR + HOUR * number for number in range(3)]
    lengths = [QUARTER] * 8 + [HOUR] * 3
    ahead = [
        Interval(start, length, -gain * MICROS, (0,))
        for start, length, gain in zip(starts, lengths, gains, strict=True)
    ]
    plan = HighsLookAhead().plan(rules, rules.initial(), ahead)
    # From 00:15 until 02:15 at least: the hour that begins at 02:00 is the first that ends later.
    assert [counts[0] for counts in plan] == [0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]


def test_a_case_of_costs_is_read_the_same_by_both_minds() -> None:
    """The helper that tells both of them the same hall."""
    one = case(Site((Kind(1, 10**6, Fraction(50), Fraction(0), 0, 0),), 10**6, None, None), [20, 80])
    assert best(one.site, one.costs) == 30
    assert earned(one, [(1,), (0,)])[1] == 30


@pytest.mark.parametrize("ramp", [1, 900 * 10**9])
@pytest.mark.parametrize("paid", [10**6, 10**15, 10**19])
def test_amounts_at_the_ends_of_what_can_be_declared_are_solved(ramp: int, paid: int) -> None:
    """Ten million machines, a MWh worth a thousand billion: scaled, and within the bound."""
    load = Load("a", "miner", 10**7, 1_000, Switching(10**15, 30 * HOUR, 30 * HOUR))
    rules = Rules((load,), 9 * 10**11, Ramp(ramp, 900 * 10**9))
    intervals = [Interval(number * HOUR, HOUR, number * MICROS, (paid * MICROS,)) for number in range(48)]
    found = perfect_foresight(rules, horizon_of(intervals))
    one = Case(rules, tuple(intervals), Site((), 0, None, None), ())
    counts, gain = earned(one, machines_of(rules, found.on_mw))
    assert gain <= found.most
    # A start costs a billion a machine: it has to be worth it.
    assert bool(counts[-1][0]) is (ramp > 1 and paid > 10**6)
    planned, gain = earned(one, HighsLookAhead().plan(rules, rules.initial(), intervals))
    assert gain <= found.most
    assert planned[-1] == counts[-1]


def test_scaling_changes_nothing_but_the_scale() -> None:
    """The same hall in units a billion times smaller: the same plan and prices, at the scale of the money."""
    kind = Kind(400, 100_000, Fraction(50), Fraction(1), 3, 3)
    small = case(Site((kind,), 10**7, 10**7, 2 * 10**6), [10, 90, 20, 10, 70, 30] * 4)
    times = 2**40
    horizon = horizon_of(small.intervals)
    large = Horizon(horizon.starts_ms, horizon.lengths_ms, horizon.gains * times)
    dear = Load("a", "miner", 400, 100_000, Switching(MICROS * times, 3 * HOUR, 3 * HOUR))
    rules = Rules((dear,), small.rules.connection_w, small.rules.ramp)
    one = solve(small.rules, horizon, before_of(small.rules, small.rules.initial()))
    other = solve(rules, large, before_of(rules, rules.initial()))
    np.testing.assert_allclose(other.on, one.on, atol=1e-6)
    assert other.most == pytest.approx(one.most * times)
    np.testing.assert_allclose(other.prices.connection / times, one.prices.connection, atol=1e-6)


def test_a_solver_that_finds_nothing_is_a_named_error_with_the_next_step() -> None:
    """No traceback: how much was to be solved, what it was about, and what to do."""
    kinds = tuple(Kind(30, 10**5, Fraction(50 + number), Fraction(3), 3, 3) for number in range(3))
    one = case(Site(kinds, 5 * 10**6, 10**6, 10**6), [10, 90, 20, 10, 70, 30] * 20)
    horizon, before = horizon_of(one.intervals), before_of(one.rules, one.rules.initial())
    with pytest.raises(HeadraceError) as caught:
        solve(one.rules, horizon, before, whole=True, limit_s=1e-9)
    assert isinstance(caught.value, SolverError)
    assert caught.value.problem.line() == (
        "HiGHS finds no plan for 120 intervals (Time limit reached): a MW gains or loses up to 42 in one of them, and the loads "
        "draw up to 9 MW. Allow it more time, or give it fewer intervals."
    )
