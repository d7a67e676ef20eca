"""Caps for jobs: the target is kept, floors are kept, and nothing better is left on the table."""

from collections.abc import Sequence
from itertools import product

import highspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.power.capping import Allocation, Capped, Unreachable, allocate, time_shared_bound
from headrace.core.power.curves import PPM, Credit, CurvePoint, PowerCurve, Range, choices, confirmed_mw


def curve(*points: tuple[int, int, int], name: str = "c") -> PowerCurve:
    """Points of (cap in watts, draw in watts, percent of the performance)."""
    return PowerCurve(
        name, tuple(CurvePoint(cap, 1_000 * draw, PPM * part // 100) for cap, draw, part in points)
    )


CONCAVE = curve((100, 100, 40), (200, 190, 80), (300, 270, 100), name="concave")
# What comes last is worth more per watt than what comes before it.
HOLLOW = curve((100, 100, 40), (200, 200, 60), (300, 250, 100), name="hollow")
# A load that never draws more than 180 W: caps above that shed nothing.
LIGHT = curve((100, 100, 50), (200, 180, 100), (300, 180, 100), name="light")


def job(of: PowerCurve, gpus: int = 4, weight: int = 4, floor: int = 0, ceiling: int = 300) -> Capped:
    return Capped(of.name, of, gpus, weight, PPM * floor // 100, ceiling)


def reached(found: Allocation | Unreachable) -> Allocation:
    assert isinstance(found, Allocation)
    return found


def best_of_all(jobs: Sequence[Capped], limit_w: int, credit: Credit = "modelled") -> int | None:
    """The best value by trying everything; None where nothing fits."""
    options = []
    for one in jobs:
        full = one.curve.at(one.ceiling_w).performance_ppm
        points = [one.curve.at(cap) for cap in one.curve.caps_w(one.ceiling_w, one.measured_only)]
        options.append(
            [
                (
                    one.accelerators * confirmed_mw(point, credit),
                    one.weight * (point.performance_ppm * PPM // full),
                )
                for point in points
                if point.performance_ppm * PPM // full >= one.floor_ppm
            ]
        )
    values = [
        sum(value for _, value in chosen)
        for chosen in product(*options)
        if sum(draw for draw, _ in chosen) <= 1_000 * limit_w
    ]
    return max(values, default=None)


def test_everything_runs_freely_where_the_limit_allows_it() -> None:
    """No cap below the one in force unless the watts are needed."""
    found = reached(allocate([job(CONCAVE), job(HOLLOW)], 10_000))
    assert found.caps_w == (300, 300)
    assert found.performances_ppm == (PPM, PPM)
    assert found.is_exact


def test_watts_go_where_they_are_worth_most() -> None:
    """Two equal jobs, one of which counts double."""
    found = reached(allocate([job(CONCAVE, weight=4), job(CONCAVE, weight=8)], 4 * (190 + 270)))
    assert found.caps_w == (200, 300)
    assert found.draw_w == 4 * (190 + 270)


def test_a_cap_above_what_a_load_draws_sheds_nothing() -> None:
    """250 W for a load of 180 W frees no watt: something must go below what it draws."""
    found = reached(allocate([job(LIGHT)], 4 * 170))
    assert found.caps_w[0] < 200
    assert found.draw_w <= 4 * 170
    assert allocate([job(LIGHT, ceiling=250)], 4 * 180) == reached(allocate([job(LIGHT)], 4 * 180))


def test_without_trust_in_the_curve_a_cap_counts_for_itself() -> None:
    """Enforced: the cap, or the curve where it says more; so the same limit allows lower caps."""
    trusted = reached(allocate([job(CONCAVE)], 4 * 230))
    enforced = reached(allocate([job(CONCAVE)], 4 * 230, "enforced"))
    assert trusted.caps_w == (250,)
    assert enforced.caps_w == (230,)
    over = curve((100, 110, 50), (200, 190, 100), name="over")
    assert [confirmed_mw(point, "enforced") for point in over.points] == [110_000, 200_000]


@pytest.mark.parametrize(("floor", "cap"), [(0, 100), (50, 125), (80, 200), (100, 300)])
def test_a_floor_is_kept_whoever_else_could_use_the_watts(floor: int, cap: int) -> None:
    """The job that counts for little keeps what it was promised."""
    limit_w = 4 * 300 + 4 * CONCAVE.at(cap).draw_mw // 1_000
    found = reached(allocate([job(CONCAVE, weight=1, floor=floor), job(HOLLOW, weight=1_000)], limit_w))
    assert found.caps_w[0] >= cap
    assert found.performances_ppm[0] >= floor * PPM // 100


def test_what_cannot_be_reached_says_what_can() -> None:
    """The least with floors kept, in watts; and who has no cap at all that keeps its floor."""
    jobs = [job(CONCAVE, floor=80), job(HOLLOW, floor=60)]
    assert allocate(jobs, 1_000) == Unreachable(4 * 190 + 4 * 200)
    assert isinstance(allocate(jobs, 4 * 190 + 4 * 200), Allocation)
    hopeless = Capped("x", CONCAVE, 1, 1, PPM, 200, reference_w=300)
    assert allocate([hopeless], 10_000) == Unreachable(0, ("x",))


def test_nobody_gets_a_cap_that_was_never_measured_if_that_is_asked() -> None:
    """The measured points alone: coarser, and no better."""
    jobs = [Capped("x", CONCAVE, 4, 4, 0, 300, measured_only=True), job(HOLLOW)]
    found = reached(allocate(jobs, 4 * 420))
    assert found.caps_w[0] in (100, 200, 300)
    assert found.value <= reached(allocate([job(CONCAVE), job(HOLLOW)], 4 * 420)).value


def test_a_hollow_curve_is_not_cut_in_the_middle() -> None:
    """Greedy along the curve would stop at 200 W; the optimum leaves the one job low and the other free."""
    jobs = [job(HOLLOW), job(HOLLOW)]
    found = reached(allocate(jobs, 4 * 350))
    assert sorted(found.caps_w) == [100, 300]
    assert found.value == best_of_all(jobs, 4 * 350)
    assert found.is_exact


def test_what_draws_more_without_achieving_more_is_no_choice() -> None:
    """Columns rise strictly; the hull's corners are the steepest way up."""
    found = choices(curve((100, 100, 50), (110, 100, 60), (120, 120, 60)), Range(120, 120), "modelled")
    assert found is not None
    assert found.cap_w.tolist() == [110]
    hollow = choices(HOLLOW, Range(300, 300), "modelled")
    assert hollow is not None
    assert hollow.cap_w[hollow.hull].tolist() == [100, 300]


@pytest.mark.parametrize(
    ("points", "fault"),
    [
        (((100, 90, 50), (100, 95, 60)), "caps don't rise"),
        (((100, 90, 50), (200, 80, 60)), "draw falls from 100 W to 200 W (90 W, 80 W)"),
        (((100, 90, 50), (200, 95, 40)), "throughput falls from 100 W to 200 W (0.5, 0.4)"),
    ],
)
def test_a_curve_that_cannot_be_meant_says_why(points: tuple[tuple[int, int, int], ...], fault: str) -> None:
    """Each fault with its place."""
    assert fault in "; ".join(curve(*points).faults())
    assert not CONCAVE.faults()


def test_nothing_is_known_of_caps_beyond_those_that_were_measured() -> None:
    """No curve is drawn on."""
    with pytest.raises(ValueError, match="nothing is known of a cap of 99 W"):
        CONCAVE.at(99)


# -- properties ---------------------------------------------------------------------------------------------------------

steps = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=4)


@st.composite
def curves(draw: st.DrawFn) -> PowerCurve:
    """Any curve without faults, of a few watts, so that everything can be tried."""
    cap, watts, part = 5, draw(st.integers(1, 6)), draw(st.integers(1, 30))
    points = [CurvePoint(cap, 1_000 * watts, 10_000 * part)]
    for wide, more, better in draw(steps):
        cap, watts, part = cap + wide, watts + more, part + better
        points.append(CurvePoint(cap, 1_000 * watts, 10_000 * part))
    return PowerCurve("any", tuple(points))


@st.composite
def jobs_of_any_kind(draw: st.DrawFn) -> list[Capped]:
    """One to four jobs with floors, weights and sizes."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        of = draw(curves())
        made.append(
            Capped(
                str(number),
                of,
                draw(st.integers(1, 5)),
                draw(st.integers(1, 9)),
                draw(st.sampled_from([0, 300_000, 600_000, 900_000])),
                of.most_w,
                measured_only=draw(st.booleans()),
            )
        )
    return made


@settings(max_examples=300, deadline=None)
@given(jobs_of_any_kind(), st.integers(0, 250), st.sampled_from(["modelled", "enforced"]))
def test_no_caps_are_better_and_none_break_a_promise(
    jobs: list[Capped], limit_w: int, credit: Credit
) -> None:
    """Against trying everything: feasible exactly when something is, never over the limit, never under a floor, the best."""
    found = allocate(jobs, limit_w, credit)
    best = best_of_all(jobs, limit_w, credit)
    if isinstance(found, Unreachable):
        assert best is None
        assert found.no_cap or best_of_all(jobs, found.least_w, credit) is not None
        return
    assert sum(found.draws_mw) <= 1_000 * limit_w
    assert all(part >= one.floor_ppm for part, one in zip(found.performances_ppm, jobs, strict=True))
    assert best is not None
    assert found.value <= best <= found.bound * (1 + 1e-9) + 1
    assert found.bound <= time_shared_bound(jobs, limit_w, credit) * (1 + 1e-9) + 1
    assert found.is_exact
    assert found.value == best


mixes = st.lists(
    st.tuples(st.sampled_from([CONCAVE, HOLLOW, LIGHT]), st.integers(1, 64), st.integers(1, 9)),
    min_size=2,
    max_size=7,
)


@settings(max_examples=25, deadline=None)
@given(mixes, st.integers(45, 95))
def test_the_optimum_is_that_of_a_solver_that_knows_nothing_of_this(
    kinds: list[tuple[PowerCurve, int, int]], percent: int
) -> None:
    """HiGHS on the same choices as a mixed-integer program: the value is the same up to what a watt is worth."""
    jobs = [Capped(str(number), of, gpus, weight, 0, 300) for number, (of, gpus, weight) in enumerate(kinds)]
    limit_w = sum(one.accelerators * one.curve.at(300).draw_mw for one in jobs) * percent // 100_000
    found = allocate(jobs, limit_w)
    if isinstance(found, Unreachable):
        return
    best = by_highs(jobs, limit_w)
    assert found.value <= best * (1 + 1e-6)
    assert found.value >= best * (1 - 1e-4)


def by_highs(jobs: Sequence[Capped], limit_w: int) -> float:
    """One binary for each job and cap; one cap each; the sum of draws under the limit."""
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # it has no types
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("mip_rel_gap", 1e-7)
    total, value = [], []
    for one in jobs:
        found = choices(one.curve, Range(one.ceiling_w, one.ceiling_w, one.floor_ppm), "modelled")
        assert found is not None
        picks = [solver.addBinary() for _ in found.cap_w]
        solver.addConstr(sum(picks) == 1)
        total += [
            int(draw) * one.accelerators / 1_000 * pick
            for draw, pick in zip(found.draw_mw, picks, strict=True)
        ]
        value += [
            int(part) * one.weight / PPM * pick
            for part, pick in zip(found.performance_ppm, picks, strict=True)
        ]
    solver.addConstr(sum(total) <= limit_w)
    solver.maximize(sum(value))
    return float(solver.getObjectiveValue()) * PPM


def test_a_hundred_thousand_jobs_end_within_a_millionth_of_the_bound() -> None:
    """The shed planner asks about a whole site at once."""
    kinds = (CONCAVE, HOLLOW, LIGHT)
    jobs = [
        Capped(
            str(number),
            kinds[number % 3],
            1 + number % 16,
            1 + number % 7,
            (number % 4) * 250_000 * (number % 3 > 0),
            300,
        )
        for number in range(100_000)
    ]
    whole_w = sum(one.accelerators * one.curve.at(300).draw_mw for one in jobs) // 1_000
    found = reached(allocate(jobs, whole_w * 3 // 4))
    assert found.draw_w <= whole_w * 3 // 4
    assert found.value >= found.bound * (1 - 1e-6)
