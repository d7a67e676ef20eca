"""A meter is believed where it can be, and where it can't it counts as nameplate, with the reason named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.power.telemetry import KEPT, Doubt, MeterRules, MeterSample, judge, kept
from headrace.core.units import MJ_PER_WH, MS_PER_HOUR

NOW = 1_800_000_000_000
RULES = MeterRules(nameplate_w=100_000, ramp_w_per_s=100_000)


def series(
    watts: list[int],
    every_ms: int = 1_000,
    clock: bool = False,
    energy: bool = False,
    sequence: bool = False,
    true_watts: list[int] | None = None,
) -> list[MeterSample]:
    """Readings up to NOW, ``every_ms`` apart; the energy counter follows ``true_watts`` by trapezoids, in whole watt-hours."""
    true = true_watts or watts
    found, total_mj = [], 10**12
    for number, shown in enumerate(watts):
        at_ms = NOW - (len(watts) - 1 - number) * every_ms
        total_mj += (true[number] + true[max(0, number - 1)]) * every_ms // 2 if number else 0
        found.append(
            MeterSample(
                shown,
                at_ms,
                at_ms - 500 if clock else None,
                total_mj // MJ_PER_WH * MJ_PER_WH if energy else None,
                number if sequence else None,
            )
        )
    return found


def frozen(samples: list[MeterSample], first: int, *fields: str) -> list[MeterSample]:
    """From ``first`` on these fields stay as they were."""
    old = samples[first]
    return [
        one
        if number < first
        else MeterSample(
            old.watts if "watts" in fields else one.watts,
            one.read_ms,
            old.taken_ms if "clock" in fields else one.taken_ms,
            old.energy_mj if "energy" in fields else one.energy_mj,
            old.sequence if "sequence" in fields else one.sequence,
        )
        for number, one in enumerate(samples)
    ]


MOVING = [60_000 + 500 * (number % 7) for number in range(25)]
CONSTANT = [60_000] * 25
EVERYTHING = frozen(
    series(MOVING, clock=True, energy=True, sequence=True), 12, "watts", "clock", "energy", "sequence"
)


@pytest.mark.parametrize(
    ("samples", "doubt", "said"),
    [
        pytest.param([], Doubt.ABSENT, "has not been read", id="never read"),
        pytest.param(series(MOVING), Doubt.NONE, "", id="a meter with watts alone that move"),
        pytest.param(series(CONSTANT, clock=True), Doubt.NONE, "", id="a true constant, and the clock goes on"),
        pytest.param(series(CONSTANT, sequence=True), Doubt.NONE, "", id="a true constant, and the update counter goes on"),
        pytest.param(series(CONSTANT, energy=True), Doubt.NONE, "", id="a true constant, and the energy fits"),
        pytest.param(series([0] * 25, clock=True, energy=True), Doubt.NONE, "", id="nothing drawn, and the clock goes on"),
        pytest.param(series([12] * 25, energy=True), Doubt.NONE, "", id="so little that the energy counter need not move"),
        pytest.param(series(CONSTANT[:8]), Doubt.NONE, "", id="the same for a short time"),
        pytest.param(series(CONSTANT), Doubt.FROZEN, "nothing shows", id="the same for long, and no sign of life"),
        pytest.param(EVERYTHING, Doubt.FROZEN, "its clock has stood still for 12.0s", id="all of it stands still"),
        pytest.param(frozen(series(MOVING, clock=True), 12, "clock"), Doubt.FROZEN, "its clock", id="the clock stands still"),
        pytest.param(
            frozen(series(MOVING, sequence=True), 12, "sequence"),
            Doubt.FROZEN,
            "its update counter",
            id="the counter stands still",
        ),
        pytest.param(
            frozen(series(CONSTANT, energy=True), 0, "energy"), Doubt.FROZEN, "nothing shows", id="watts and energy stand still"
        ),
        pytest.param(
            series(CONSTANT, clock=True, energy=True, true_watts=[60_000] * 5 + [75_000] * 20),
            Doubt.JUMPED,
            "reads 60 kW, while its energy counter grows as at",
            id="the watts froze, the load went up, and clock and energy go on",
        ),
        pytest.param(
            series([one // 2 for one in MOVING], energy=True, true_watts=MOVING),
            Doubt.JUMPED,
            "its energy counter grows as at",
            id="half of what the energy says",
        ),
        pytest.param(series([*MOVING, 5_000], every_ms=500), Doubt.JUMPED, "went by -5", id="a step down that no load can"),
        pytest.param(series([*MOVING, 99_000], every_ms=100), Doubt.JUMPED, "faster than", id="a step up no load can"),
        pytest.param(series([*MOVING, *[20_000] * 9]), Doubt.NONE, "", id="a step that the load can do"),
        pytest.param(series([*MOVING, 130_000]), Doubt.EXCESS, "draws 100 kW at most", id="more than all that hangs below"),
        pytest.param(series([*MOVING, 104_000]), Doubt.NONE, "", id="a little more than nameplate is measured so"),
        pytest.param(series([*MOVING, -20_000]), Doubt.NEGATIVE, "current transformer", id="negative"),
        pytest.param(series([-40, -31, -22, -40]), Doubt.NONE, "", id="noise around nothing"),
    ],
)  # fmt: skip
def test_a_meter_is_doubted_where_physics_or_its_own_word_contradicts_it(
    samples: list[MeterSample], doubt: Doubt, said: str
) -> None:
    """Believed, or at nameplate with the reason: and a constant load is no frozen meter."""
    judged = judge("m1", samples, RULES, NOW)
    assert (judged.doubt, said in judged.detail) == (doubt, True), judged.detail
    if doubt is Doubt.NONE:
        assert (judged.reading.source, judged.reading.watts) == ("measured", max(0, samples[-1].watts))
    else:
        assert (judged.reading.source, judged.reading.watts, judged.is_believed) == ("stale", 100_000, False)
        assert judged.detail.startswith("meter m1: ")


@pytest.mark.parametrize(
    ("off_ms", "doubt", "said"),
    [
        (-500, Doubt.NONE, ""),
        (900, Doubt.NONE, ""),
        (3_000, Doubt.CLOCK, "3.0s ahead"),
        (MS_PER_HOUR, Doubt.CLOCK, "1h ahead: it seems to tell local time, set it to UTC"),
        (-MS_PER_HOUR - 2_000, Doubt.CLOCK, "behind: it seems to tell local time"),
        (2 * MS_PER_HOUR - 1_500, Doubt.CLOCK, "ahead: it seems to tell local time"),
        (-20 * 60_000, Doubt.CLOCK, "20m behind"),
    ],
)
def test_a_clock_that_is_off_is_named_with_by_how_much(off_ms: int, doubt: Doubt, said: str) -> None:
    """An hour off at daylight saving is said to be that; the reading counts as nameplate until it is set right."""
    samples = [
        MeterSample(one.watts, one.read_ms, one.read_ms + off_ms, None, one.sequence)
        for one in series(MOVING, sequence=True)
    ]
    judged = judge("m1", samples, RULES, NOW)
    assert (judged.doubt, said in judged.detail) == (doubt, True), judged.detail


@pytest.mark.parametrize(("passed_ms", "doubt"), [(0, Doubt.NONE), (6_000, Doubt.NONE), (6_001, Doubt.OLD)])
def test_a_reading_ages_while_nobody_answers(passed_ms: int, doubt: Doubt) -> None:
    """A meter that stops answering is believed for its greatest age, and not a millisecond longer."""
    assert judge("m1", series(MOVING), RULES, NOW + passed_ms).doubt is doubt


def test_a_step_is_believed_once_it_has_held_and_the_energy_agrees() -> None:
    """A breaker that opens is no broken meter: it is doubted for as long as it takes to settle."""
    tripped = [*MOVING, *[0] * 20]
    samples = series(tripped, every_ms=250, clock=True, energy=True)
    seen = [
        judge("m1", samples[: end + 1], RULES, samples[end].read_ms).doubt for end in range(20, len(samples))
    ]
    assert Doubt.JUMPED in seen
    assert seen[-1] is Doubt.NONE


@given(st.lists(st.integers(30_000, 90_000), min_size=2, max_size=40), st.booleans(), st.integers(200, 2_000))
def test_an_honest_meter_is_believed_whatever_its_load_does(
    loads: list[int], clock: bool, every_ms: int
) -> None:
    """With its energy counter true to its watts, and steps within the ramp, no rule doubts it."""
    most_w = RULES.ramp_w_per_s * every_ms // 1_000
    shown = [loads[0]]
    for wanted in loads[1:]:
        shown.append(shown[-1] + max(-most_w, min(most_w, wanted - shown[-1])))
    samples = series(shown, every_ms, clock=clock, energy=True, sequence=True)
    judged = judge("m1", samples[-KEPT:], RULES, NOW)
    assert judged.doubt is Doubt.NONE, judged.detail


@given(st.lists(st.integers(-200_000, 300_000), min_size=0, max_size=30), st.integers(0, 60_000))
def test_whatever_a_meter_says_the_reading_is_never_negative_nor_above_what_can_be(
    watts: list[int], passed_ms: int
) -> None:
    """What counts is between nothing and a tenth above nameplate, and what is doubted counts at nameplate."""
    judged = judge("m1", series(watts), RULES, NOW + passed_ms)
    assert 0 <= judged.reading.watts <= 110_000
    assert judged.is_believed or judged.reading.watts == RULES.nameplate_w


def test_what_is_kept_is_a_window_and_no_future() -> None:
    """Old readings go; after the control plane's clock was set back, those of what is now the future go too."""
    samples: tuple[MeterSample, ...] = ()
    for number in range(200):
        samples = kept(samples, MeterSample(1, NOW + number * 1_000), RULES)
    assert (len(samples), samples[-1].read_ms - samples[0].read_ms) == (31, 30_000)
    assert len(kept(samples, MeterSample(1, NOW), RULES)) == 1
