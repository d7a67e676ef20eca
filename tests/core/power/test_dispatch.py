"""The dispatch of a hall: every rule kept, judged machine by machine by somebody else; values as the market pays them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.power.dispatch import (
    Counts,
    Interval,
    Rules,
    State,
    admit,
    advance,
    below,
    faults,
    greedy,
    hindrances,
    is_myopic_best,
    settle,
    worst_first,
)
from headrace.core.power.foresight import LimitPrices, bound, horizon_of
from headrace.core.power.hall import (
    AiLoad,
    Hall,
    Load,
    MachineClass,
    Quote,
    Ramp,
    Switching,
    ai_mwh_micros,
    miner_mwh_micros,
)
from headrace.core.power.threshold import ALWAYS, best_threshold, gains_of
from tests.core.power.hall_judge import HOUR, Kind, Site, best, judge
from tests.core.power.halls import MICROS, Case, case, cases


def dispatched(one: Case, wishes: list[list[int]]) -> tuple[list[Counts], int]:
    """What becomes of wishes, and what it is settled at."""
    state, found, gain = one.rules.initial(), [], 0
    for interval, wish in zip(one.intervals, wishes, strict=True):
        counts = admit(one.rules, state, interval, wish)
        assert faults(one.rules, state, interval, counts) == []
        gain += settle(one.rules, state, interval, counts).gain_micros
        state = advance(one.rules, state, interval, counts)
        found.append(counts)
    return found, gain


@pytest.mark.parametrize(
    ("hashprice", "efficiency_mj", "value"),
    [(50, 20_000, "104.166667"), (50, 29_500, "70.621469"), (100, 13_500, "308.641975"), (0, 20_000, "0")],
)
def test_a_mwh_of_mining_earns_what_the_formula_says(hashprice: int, efficiency_mj: int, value: str) -> None:
    """1000 x hashprice / (24 x J per TH), to the millionth."""
    assert miner_mwh_micros(hashprice * MICROS, efficiency_mj) == int(Fraction(value) * MICROS)
    assert miner_mwh_micros(hashprice * MICROS, efficiency_mj, 10 * MICROS) == pytest.approx(
        10 * Fraction(value) * MICROS, abs=10
    )


def test_a_mwh_of_accelerators_earns_the_price_of_an_hour_over_the_facility_kw_per_gpu() -> None:
    """2.85 USD an hour at 1.5 kW are 1,900 USD per MWh."""
    assert ai_mwh_micros(2_850_000, 1_500) == 1_900 * MICROS
    assert ai_mwh_micros(2_850_000, 1_500, 10_500_000) == 19_950 * MICROS


def test_a_hall_names_its_loads_with_what_they_draw_and_earn() -> None:
    """Accelerators, then miners; watts rounded up; each quote in its own currency."""
    hall = Hall(
        "h", "Europe/Oslo", "NOK", 10**6, (MachineClass("m", 3, 18_300, 151_000),), Quote("USD", 50 * MICROS),
        ai=(AiLoad("a", 2, 1_500, Quote("NOK", 30 * MICROS), is_firm=True),), rates_micros={"USD": 10 * MICROS},
        fee_micros_per_mwh=5 * MICROS, carbon_micros_per_tonne=1_000 * MICROS,
    )  # fmt: skip
    assert [(load.name, load.kind, load.count, load.draw_w) for load in hall.loads()] == [
        ("a", "ai", 2, 1_500), ("m", "miner", 3, 2_764),
    ]  # fmt: skip
    assert hall.values_micros_per_mwh((30 * MICROS, 50 * MICROS)) == (20_000 * MICROS, 1_138_433_515)
    # 100 g/kWh are 0.1 t/MWh.
    assert hall.cost_micros_per_mwh(400 * MICROS, 100 * MICROS) == 505 * MICROS
    assert hall.firm_w() == 3_000


@settings(max_examples=150, deadline=None)
@given(one=cases(count=3, longest=12), data=st.data())
def test_whatever_is_wished_for_the_dispatch_keeps_every_rule(one: Case, data: st.DataObject) -> None:
    """Any wish becomes a dispatch that a judge, who follows each machine, finds right; and the money is the same."""
    wish = st.tuples(*(st.integers(-1, load.count + 1) for load in one.rules.loads)).map(list)
    wishes = data.draw(st.lists(wish, min_size=len(one.intervals), max_size=len(one.intervals)))
    counts, gain = dispatched(one, wishes)
    assert gain == pytest.approx(float(judge(one.site, one.costs, counts) * MICROS), abs=4 * len(counts))


@settings(max_examples=100, deadline=None)
@given(one=cases())
def test_what_is_said_to_be_possible_is_never_exceeded(one: Case) -> None:
    """The bound holds for the best dispatch there is, found by trying all; whatever prices are put on the limits."""
    most = float(best(one.site, one.costs))
    horizon = horizon_of(one.intervals)
    chance = np.random.default_rng(len(one.intervals))
    length = len(one.intervals)
    assert bound(one.rules, horizon, LimitPrices.none(length))[0] >= most
    for _ in range(5):
        prices = LimitPrices(*(chance.exponential(40.0, length) - 20 for _ in range(3)))
        assert bound(one.rules, horizon, prices)[0] >= most


@settings(max_examples=100, deadline=None)
@given(one=cases(kinds=1, count=1))
def test_a_machine_that_nothing_ties_to_others_is_bounded_exactly(one: Case) -> None:
    """Alone on a connection that is wide enough and without a ramp, the bound is the optimum."""
    free = case(
        Site(one.site.kinds, 10**7, None, None, one.site.hours, one.site.starts_on),
        [int(cost) for cost in one.costs],
    )
    most = float(best(free.site, free.costs))
    assert bound(free.rules, horizon_of(free.intervals), LimitPrices.none(len(free.costs)))[
        0
    ] == pytest.approx(most, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(one=cases(count=3, longest=15))
def test_many_thresholds_at_once_earn_what_each_does_alone(one: Case) -> None:
    """The arrays follow the same rules as the dispatch."""
    thresholds = [-60 * MICROS, 0, 40 * MICROS, 90 * MICROS, ALWAYS]
    together = gains_of(one.rules, [one.intervals], thresholds)
    for threshold, gain in zip(thresholds, together, strict=True):
        limit = None if threshold == ALWAYS else threshold
        assert played(one, limit) / MICROS == pytest.approx(gain, abs=1e-4)
    best_one = best_threshold(one.rules, [one.intervals])
    assert (
        played(one, None if best_one == ALWAYS else best_one) / MICROS
        >= max(
            played(one, None) / MICROS,
            played(one, min(i.cost_micros_per_mwh for i in one.intervals) - 1) / MICROS,
        )
        - 1e-4
    )


def played(one: Case, limit: int | None) -> int:
    state, gain = one.rules.initial(), 0
    for interval in one.intervals:
        counts = below(one.rules, state, interval, limit)
        gain += settle(one.rules, state, interval, counts).gain_micros
        state = advance(one.rules, state, interval, counts)
    return gain


@settings(max_examples=60, deadline=None)
@given(one=cases())
def test_where_nothing_ties_one_interval_to_the_next_greedy_is_the_best_there_is(one: Case) -> None:
    """So the product need not look ahead there."""
    kinds = tuple(
        Kind(kind.count, kind.watts, kind.value, Fraction(0), 0, 0, kind.firm) for kind in one.site.kinds
    )
    free = case(Site(kinds, 10**7, None, None, one.site.hours), [int(cost) for cost in one.costs])
    assert is_myopic_best(free.rules, free.intervals[0].length_ms)
    state, gain = free.rules.initial(), 0
    for interval in free.intervals:
        counts = greedy(free.rules, state, interval)
        gain += settle(free.rules, state, interval, counts).gain_micros
        state = advance(free.rules, state, interval, counts)
    assert gain == pytest.approx(float(best(free.site, free.costs)) * MICROS, abs=20)


@pytest.mark.parametrize(
    ("changed", "best_without_looking"),
    [
        ({}, True),
        ({"restart": 1}, False),
        ({"up": 2}, False),
        ({"down": 2}, False),
        ({"ramp": 400_000}, False),
        ({"up": 1, "down": 1}, True),
    ],
)
def test_what_ties_intervals_calls_for_looking_ahead(
    changed: dict[str, int], best_without_looking: bool
) -> None:
    """A cost of starting, minimum times beyond one interval, a ramp that binds."""
    kind = Kind(
        2,
        250_000,
        Fraction(50),
        Fraction(changed.get("restart", 0)),
        changed.get("up", 0),
        changed.get("down", 0),
    )
    one = case(Site((kind,), 500_000, changed.get("ramp"), None), [10])
    assert is_myopic_best(one.rules, HOUR) is best_without_looking


NO_RAMP = Ramp()


def hall_of_three(ramp: Ramp = NO_RAMP, connection_w: int = 300_000) -> tuple[Rules, State]:
    loads = tuple(Load(name, "miner", 100, 1_000, Switching()) for name in ("old", "newer", "newest"))
    rules = Rules(loads, connection_w, ramp, True)
    return rules, rules.initial()


def test_the_least_efficient_miners_go_first_and_come_last() -> None:
    """A ramp of 150 kW: the oldest are off at once, and half of the next; upwards the newest come first."""
    rules, on = hall_of_three(Ramp(150_000, 150_000))
    dear = Interval(0, HOUR, 500 * MICROS, (70 * MICROS, 90 * MICROS, 120 * MICROS))
    cheap = Interval(HOUR, HOUR, 10 * MICROS, (70 * MICROS, 90 * MICROS, 120 * MICROS))
    down = admit(rules, on, dear, (0, 0, 0))
    assert down == (0, 50, 100)
    off = advance(rules, advance(rules, on, dear, down), dear, (0, 0, 0))
    assert admit(rules, off, cheap, (100, 100, 100)) == (0, 50, 100)
    assert worst_first(rules.loads, dear.values_micros_per_mwh) == [0, 1, 2]


@pytest.mark.parametrize(
    ("on", "cost", "wanted", "counts"),
    [
        # From nothing: the large one can't start, and takes no place from 10 of the small ones.
        ((0, 0), 10, (1, 100), (0, 10)),
        ((0, 90), 10, (1, 100), (0, 100)),
        # Down to nothing: the large one can't stop, and 10 of the small ones can.
        ((1, 100), 500, (0, 0), (1, 90)),
    ],
)
def test_a_machine_too_large_for_the_ramp_keeps_no_other_from_running(
    on: Counts, cost: int, wanted: Counts, counts: Counts
) -> None:
    """One of 200 kW and a hundred of 1 kW, on a ramp of 10 kW; whichever earns more."""
    loads = (Load("large", "miner", 1, 200_000, Switching()), Load("small", "miner", 100, 1_000, Switching()))
    rules = Rules(loads, 300_000, Ramp(10_000, 10_000))
    state = tuple(now._replace(on=count) for now, count in zip(rules.initial(), on, strict=True))
    for values in ((90, 90), (90, 91), (91, 90)):
        interval = Interval(0, HOUR, cost * MICROS, (values[0] * MICROS, values[1] * MICROS))
        assert admit(rules, state, interval, wanted) == counts
        assert greedy(rules, state, interval) == counts


@pytest.mark.parametrize(
    ("connection_w", "ramp", "why"),
    [
        (2_000, Ramp(), "the connection carries 2 kW, of which firm accelerators leave 1.5 kW: none ever runs"),
        (9_000, Ramp(1, 0), "the ramp lets the hall rise by 1 W in 1h: none starts, unless others stop"),
        (9_000, Ramp(0, 2_000), "the ramp lets the hall fall by 2 kW in 1h: none stops, unless others start"),
    ],
)  # fmt: skip
def test_what_keeps_machines_from_ever_running_is_said(connection_w: int, ramp: Ramp, why: str) -> None:
    """Zeros without a word would be taken for a result. Of firm accelerators nothing is said, nor of what fits."""
    loads = (
        Load("gpu", "ai", 1, 500, Switching(), is_firm=True),
        Load("big", "miner", 2, 3_000, Switching()),
    )
    (told,) = hindrances(Rules(loads, connection_w, ramp), HOUR)
    assert told == f"one machine of big draws 3 kW, and {why}"
    assert hindrances(Rules(loads, 9_000, Ramp(3_000, 3_000)), HOUR) == []


def test_accelerators_take_the_connection_before_miners() -> None:
    """What earns more per MWh is on it; miners have what is left."""
    loads = (Load("gpus", "ai", 100, 1_500, Switching()), Load("asics", "miner", 100, 3_000, Switching()))
    rules = Rules(loads, 300_000, Ramp())
    interval = Interval(0, HOUR, 40 * MICROS, (1_900 * MICROS, 100 * MICROS))
    assert greedy(rules, rules.initial(), interval) == (100, 50)


@pytest.mark.parametrize(
    ("counts", "wrong"),
    [
        ((0, 0, 0), "0 W drawn, but 150000 to 300000 W can be"),
        ((101, 100, 100), "old: 101 on, but 0 to 100 can be; 301000 W drawn, but 150000 to 300000 W can be"),
    ],
)
def test_a_dispatch_that_breaks_a_rule_is_told_which(counts: Counts, wrong: str) -> None:
    """So that nobody's plan is believed."""
    rules, on = hall_of_three(Ramp(150_000, 150_000))
    interval = Interval(0, HOUR, 0, (1, 1, 1))
    assert "; ".join(faults(rules, on, interval, counts)) == wrong


def test_the_judge_would_notice_a_rule_that_is_broken() -> None:
    """The second mind can say no, for each of its reasons."""
    kind = Kind(1, 200_000, Fraction(50), Fraction(0), 2, 3)
    for connection, dispatch, reason in (
        (150_000, [(1,)], "the connection"),
        (200_000, [(1,), (0,)], "too short on"),
        (200_000, [(1,), (1,), (0,), (1,)], "too short off"),
    ):
        with pytest.raises(AssertionError, match=reason):
            judge(Site((kind,), connection, None, None), [Fraction(0)] * len(dispatch), dispatch)
    with pytest.raises(AssertionError, match="the ramp up"):
        judge(Site((kind,), 10**6, 100_000, None), [Fraction(0)], [(1,)])
    with pytest.raises(AssertionError, match="the ramp down"):
        judge(Site((kind,), 10**6, None, 100_000, starts_on=True), [Fraction(0)], [(0,)])
