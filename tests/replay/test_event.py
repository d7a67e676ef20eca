"""A demand-response event: the target holds at every instant, floors are kept, and bad files are told by their place."""

import os
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import HeadraceError, ProblemCode
from headrace.documents.event import load_event
from headrace.replay.event import Played, play, read_curves
from headrace.replay.event_judge import Level, MeasuredCurve, exact_optimum, overshoot_w

DATA = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[3] / "shared/data")) / "emerald_phoenix"
HEAD = "Workload,GPU power cap,throughput,total GPU power,normalized throughput,power per GPU\n"
CURVES = HEAD + "".join(
    f"{name},{cap},1,1,{part},{draw}\n"
    for name, points in {
        "train": ((100, 0.2, 99.5), (200, 0.7, 195.25), (300, 0.9, 290), (400, 1.0, 380)),
        "serve": ((100, 0.3, 98), (200, 0.8, 190), (300, 1.0, 260), (400, 1.0, 260)),
    }.items()
    for cap, part, draw in points
)
ROW = "train,200,1,1,0.7,195.25"
CLUSTER = """
event: {reduction: 0.25, of: modelled GPU power at 400 W, hours: 3, ramp_minutes: 10}
jobs:
  - {name: train, gpus: 16, tier: flex3, floor: 0.50}
  - {name: serve, gpus: 8, tier: flex1, floor: 0.90}
  - {name: serve, gpus: 8, tier: flex2}
"""


def played(folder: Path, cluster: str = CLUSTER, curves: str = CURVES) -> Played:
    (folder / "cluster.yaml").write_text(cluster)
    (folder / "curves.csv").write_text(curves)
    return play(load_event(folder / "cluster.yaml"), folder / "curves.csv")


def problems(folder: Path, cluster: str = CLUSTER, curves: str = CURVES) -> HeadraceError:
    with pytest.raises(HeadraceError) as told:
        played(folder, cluster, curves)
    return told.value


@pytest.mark.parametrize("credit", ["modelled", "enforced"])
def test_the_published_field_test_is_bettered_and_nearly_the_optimum(credit: str) -> None:
    """0.877 is what its published results give, weighted by GPUs; the optimum is of the same curves."""
    event = load_event(DATA / "cluster.yaml")
    found = play(event, DATA / "dvfs_sweep.csv", "modelled" if credit == "modelled" else "enforced")
    assert found.weighted_performance > 0.877
    assert found.optimum * 0.98 <= found.weighted_performance <= found.optimum
    assert found.held.is_exact
    assert found.overshoot_w <= 0
    for job, part in zip(event.jobs, found.held.performances_ppm, strict=True):
        assert part >= job.floor_ppm


def test_the_optimum_with_measured_caps_is_that_of_trying_all_of_them() -> None:
    """Six jobs of six caps: 46,656 combinations, in exact fractions."""
    event = load_event(DATA / "cluster.yaml")
    curves = read_curves(DATA / "dvfs_sweep.csv")
    found = play(event, DATA / "dvfs_sweep.csv", measured_only=True)
    options = [
        [
            (draw * job.gpus, float(part) * job.gpus)
            for _, draw, part in curves[job.name].points
            if part * 1_000_000 >= job.floor_ppm
        ]
        for job in event.jobs
    ]
    best = max(
        sum(value for _, value in chosen)
        for chosen in product(*options)
        if sum(draw for draw, _ in chosen) <= found.target_w
    )
    assert found.weighted_performance == pytest.approx(best / 256, abs=2e-6)
    assert found.optimum == pytest.approx(best / 256, abs=1e-6)


def test_the_baseline_is_what_the_jobs_draw_at_the_named_cap(tmp_path: Path) -> None:
    """16 x 380 W and 16 x 260 W; a quarter less, rounded down."""
    found = played(tmp_path)
    assert found.baseline_w == 16 * 380 + 16 * 260
    assert found.target_w == 7_680
    assert found.held.draw_w <= 7_680


def test_at_a_lower_cap_performance_counts_against_what_was_achieved_there(tmp_path: Path) -> None:
    """Caps of 300 W were in force: nobody gets more, and 0.9 of the table is all there was."""
    found = played(tmp_path, CLUSTER.replace("at 400 W", "at 300 W"))
    assert found.baseline_w == 16 * 290 + 16 * 260
    assert max(found.held.caps_w) <= 300
    assert found.levels[0].caps_w[0] <= 300
    assert found.weighted_performance > 0.8


@pytest.mark.parametrize("ramp", ["0", "0.5", "10", "15", "600"])
def test_at_no_instant_is_more_drawn_than_the_target(tmp_path: Path, ramp: str) -> None:
    """Second by second along a straight ramp, by the curves alone; caps only fall on the way down."""
    found = played(tmp_path, CLUSTER.replace("ramp_minutes: 10", f"ramp_minutes: {ramp}"))
    curves = read_curves(tmp_path / "curves.csv")
    own = [curves[job.name] for job in found.event.jobs]
    ramp_ms, hold_ms = found.event.ramp_ms, found.event.hold_ms
    for level in found.levels:
        draw = sum(
            (
                curve.draw_w(cap) * job.gpus
                for curve, cap, job in zip(own, level.caps_w, found.event.jobs, strict=True)
            ),
            Fraction(0),
        )
        for at_ms in range(level.from_ms, level.until_ms + 1, max(1, (level.until_ms - level.from_ms) // 7)):
            away = max(0, -at_ms, at_ms - hold_ms)
            target = found.target_w + (found.baseline_w - found.target_w) * (
                Fraction(away, ramp_ms) if away else 0
            )
            assert draw <= target
    assert found.levels[0].from_ms == -ramp_ms
    assert found.levels[-1].until_ms == hold_ms + ramp_ms
    down = [level.caps_w for level in found.levels if level.from_ms <= 0]
    for before, after in pairwise(down):
        assert all(low <= high for high, low in zip(before, after, strict=True))
    assert found.overshoot_w <= 0


def test_an_overshoot_would_be_seen() -> None:
    """The judge's own check can fail: a level above its target, and a step in which old and new caps mix."""
    curve = MeasuredCurve("c", ((100, Fraction(100), Fraction(1, 2)), (200, Fraction(200), Fraction(1))))
    level = Level(0, 1, Fraction(250), (200, 100))
    assert overshoot_w([level], [curve, curve], [1, 1]) == 50
    swapped = Level(1, 2, Fraction(300), (100, 200))
    assert overshoot_w([Level(0, 1, Fraction(300), (200, 100)), swapped], [curve, curve], [1, 1]) == 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name: train", "name: trian"), "no curve of 'trian' in curves.csv; known: serve, train. Did you mean train?"),
        (("reduction: 0.25", "reduction: 0.9"), "1,024 W can't be reached: with every floor kept the jobs draw at least"),
        (("reduction: 0.25", "reduction: 0"), "a reduction of nothing is none."),
        (("reduction: 0.25", "reduction: 25"), "25 is more than the whole."),
        (("at 400 W", "at 500 W"), "caps of 500 W were in force, but 'train' was measured from 100 W to 400 W."),
        (("modelled GPU power at 400 W", "the meter"), "'the meter' is nothing that can be computed."),
        (("tier: flex2", "tier: flex9"), "jobs[2].tier: no tier 'flex9'; known: flex0, flex1, flex2, flex3."),
        (("tier: flex2", "weight: 3"), "jobs[2]: neither tier nor floor."),
        (("gpus: 16", "gpus: 0"), "jobs[0].gpus: 0 GPUs can't be."),
        (("gpus: 16", "gpu: 16"), "no field 'gpu' here; known: floor, gpus, name, tier, weight. Did you mean gpus?"),
        (("hours: 3, ", ""), "hours is missing."),
    ],
)  # fmt: skip
def test_an_event_that_cannot_be_meant_is_told_by_its_place(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    """Line, column and path, and what would do."""
    told = problems(tmp_path, CLUSTER.replace(*change))
    assert message in str(told)
    assert f"{tmp_path}/cluster.yaml:" in str(told)


def test_all_jobs_without_a_curve_are_named_at_once(tmp_path: Path) -> None:
    """Nobody corrects one after the other."""
    told = problems(tmp_path, CLUSTER.replace("serve", "server"))
    assert [one.code for one in told.problems] == [ProblemCode.NOT_FOUND] * 2


def test_a_target_out_of_reach_says_the_least_that_is_not(tmp_path: Path) -> None:
    """The printed least can be asked for, and one watt less can't."""
    told = problems(tmp_path, CLUSTER.replace("reduction: 0.25", "reduction: 0.6"))
    assert told.problem.code is ProblemCode.UNPLACEABLE
    least_w = int(told.problem.message.split("at least ")[1].split(" W")[0].replace(",", ""))
    whole_w = 16 * 380 + 16 * 260
    within = played(tmp_path, CLUSTER.replace("0.25", f"{int((1 - least_w / whole_w) * 1e6) / 1e6:.6f}"))
    assert within.held.draw_w == least_w
    problems(tmp_path, CLUSTER.replace("0.25", f"{int((1 - least_w / whole_w) * 1e6 + 200) / 1e6:.6f}"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((ROW, "train,200,1,1,0.1,195.25"), "its throughput falls from 100 W to 200 W (0.2, 0.1)"),
        ((ROW, "train,200,1,1,0.7,95.25"), "its draw falls from 100 W to 200 W (99.5 W, 95.25 W)"),
        ((ROW, "train,200,1,1,much,195.25"), "csv:3: normalized throughput is 'much', not a number."),
        ((ROW, "train,200,1,1,nan,195.25"), "curves.csv:3: normalized throughput is 'nan'"),
        ((ROW, "train,200,1,1,1e-999999999,1e999999999"), "curves.csv:3: power per GPU is"),
        ((ROW, "train,200.5,1,1,0.7,195.25"), "csv:3: GPU power cap is '200.5', not a whole number."),
        ((ROW, "train,100,1,1,0.7,195.25"), "curves.csv:3: 'train' at 100 W stands twice; first at"),
        ((ROW, "train,200,1"), "curves.csv:3: it has 3 fields, and the header 6."),
        (("power per GPU", "watts"), "curves.csv lacks the columns power per GPU."),
    ],
)  # fmt: skip
def test_a_table_of_curves_that_cannot_be_meant_is_told_by_its_line(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    """The line, the column, the class of workload."""
    assert message in str(problems(tmp_path, curves=CURVES.replace(*change)))


def test_a_broken_curve_that_nobody_runs_hurts_nobody(tmp_path: Path) -> None:
    """Only the curves of the event's jobs must be right."""
    found = played(tmp_path, curves=CURVES + "other,100,1,1,0.9,99\nother,200,1,1,0.2,50\n")
    assert found.overshoot_w <= 0


def test_rows_may_come_in_any_order(tmp_path: Path) -> None:
    """The table of a spreadsheet."""
    head, *rows = CURVES.splitlines()
    shuffled = "\n".join([head, *reversed(rows)]) + "\n"
    assert played(tmp_path, curves=shuffled).held == played(tmp_path).held


def many(count: int) -> tuple[str, str]:
    """An event of many jobs of unlike curves, and the curves."""
    names = [f"j{number}" for number in range(20)]
    curves = HEAD + "".join(
        f"{name},{cap},1,1,{1 - (400 - cap) / (500 + 37 * number):.4f},{cap * (0.8 + number / 113):.2f}\n"
        for number, name in enumerate(names)
        for cap in (100, 200, 300, 400)
    )
    jobs = "".join(
        f"  - {{name: j{number % 20}, gpus: {8 << number % 4}, floor: 0.3}}\n" for number in range(count)
    )
    return f"event: {{reduction: 0.25, hours: 3}}\njobs:\n{jobs}", curves


@pytest.mark.parametrize("count", [1, 3, 200, 1_000])
def test_the_optimum_that_is_printed_is_never_above_what_can_be(tmp_path: Path, count: int) -> None:
    """Not above the bound either, however many jobs; where it was not reached, it says that it is a bound."""
    found = played(tmp_path, *many(count))
    figures = found.figures()
    assert found.weighted_performance <= found.optimum <= found.bound
    assert found.weighted_performance >= 0.999 * found.optimum
    near = found.optimum - found.weighted_performance <= 2e-6
    assert figures["optimum_is"] == ("reached" if near else "a bound")


def test_an_optimum_that_needs_a_quarter_of_a_watt_more_is_none(tmp_path: Path) -> None:
    """One GPU of at most 285 W: a cap under which it draws 285.25 W is out of reach."""
    found = played(
        tmp_path,
        "event: {reduction: 0.25, hours: 3}\njobs: [{name: t, gpus: 1, floor: 0.5}]\n",
        HEAD + "t,200,1,1,0.70,195\nt,294,1,1,0.88,284.9\nt,295,1,1,0.89,285.25\nt,400,1,1,1,380\n",
    )
    assert (found.target_w, found.weighted_performance) == (285, 0.88)
    assert found.optimum == pytest.approx(0.88)
    assert found.figures()["optimum_is"] == "reached"


def test_caps_under_which_nothing_was_achieved_are_refused(tmp_path: Path) -> None:
    """A part of nothing can't be reckoned; the event says which caps were in force."""
    curves = HEAD + "t,100,1,1,0,95\nt,200,1,1,0,195\nt,400,1,1,1,380\n"
    cluster = "event: {reduction: 0.01, of: draw at 200 W, hours: 3}\njobs: [{name: t, gpus: 16, floor: 0}]\n"
    told = str(problems(tmp_path, cluster, curves))
    assert (
        "event.of: caps of 200 W were in force, under which 't' achieves nothing. Say a cap under which"
        in told
    )
    idle = MeasuredCurve("t", ((100, Fraction(95), Fraction(0)), (200, Fraction(195), Fraction(0))))
    assert exact_optimum([Job(16, 0, 16)], [idle], [200], 10_000, "modelled", False) == 0


class Job:
    """A job as the judge asks of it."""

    def __init__(self, gpus: int, floor_ppm: int, weight: int) -> None:
        self.gpus, self.floor_ppm, self.weight = gpus, floor_ppm, weight


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from([0, 500_000, 800_000]), st.integers(1, 5)),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 40),
)
def test_the_judge_finds_what_trying_everything_finds(
    asked: list[tuple[int, int, int]], target_w: int
) -> None:
    """Small curves of whole watts, where its table is exact."""
    curve = MeasuredCurve(
        "c", tuple((cap, Fraction(cap - 1), Fraction(part, 10)) for cap, part in ((2, 3), (4, 8), (5, 10)))
    )
    jobs = [Job(*one) for one in asked]
    found = exact_optimum(jobs, [curve] * len(jobs), [5] * len(jobs), target_w, "modelled", False)
    values = [
        sum(float(curve.throughput(cap)) * job.weight for cap, job in zip(caps, jobs, strict=True))
        for caps in product(range(2, 6), repeat=len(jobs))
        if sum(curve.draw_w(cap) * job.gpus for cap, job in zip(caps, jobs, strict=True)) <= target_w
        and all(
            curve.throughput(cap) * 1_000_000 >= job.floor_ppm for cap, job in zip(caps, jobs, strict=True)
        )
    ]
    assert found == pytest.approx(max(values, default=0.0) / sum(job.weight for job in jobs))
