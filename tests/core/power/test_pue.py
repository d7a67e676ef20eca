"""From IT load to the meter and back, by a constant and by a curve: whole watts, on the safe side."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace.core.estate import PueCurve, PuePoint
from headrace.core.power.pue import Falling, at_full_load, falling, holes, it_watts, meter_watts
from headrace.core.units import facility_watts
from tests.core.power.graphs import fleet_of, site


def curve(*rows: tuple[int, int, int], design_c: int = 30, full_w: int = 1_000_000) -> PueCurve:
    """A curve from (load in thousandths, degrees, PUE in thousandths)."""
    return PueCurve(design_c, full_w, tuple(PuePoint(*row) for row in rows))


HALL = curve(
    (250, 10, 1_300), (250, 30, 1_500),
    (500, 10, 1_180), (500, 30, 1_300),
    (1_000, 10, 1_120), (1_000, 30, 1_200),
)  # fmt: skip


@pytest.mark.parametrize(
    ("it_w", "outdoor_c", "meter_w"),
    [
        (1_000_000, 30, 1_200_000),  # the points themselves
        (500_000, 10, 590_000),
        (750_000, 30, 937_500),  # halfway in load: 1.25
        (500_000, 20, 620_000),  # halfway in temperature: 1.24
        (750_000, 20, 900_000),  # halfway in both: (1.18 + 1.30 + 1.12 + 1.20) / 4
        (250_000, 30, 375_000),
        (100_000, 30, 225_000),  # the overhead of the least load, 125 kW, does not get less
        (0, 30, 125_000),
        (500_000, -20, 590_000),  # colder than known: as the coldest that is
        (500_000, 40, 680_000),  # hotter: on as it rose before, 0.06 for each 10 degrees
        (500_000, None, 650_000),  # unknown: the design temperature
    ],
)
def test_watts_at_the_meter_by_load_and_temperature(it_w: int, outdoor_c: int | None, meter_w: int) -> None:
    """Each by hand."""
    assert meter_watts(replace(site(), pue_curve=HALL), it_w, outdoor_c) == meter_w


@given(it_w=st.integers(0, 10**9), pue=st.integers(1_000, 3_000))
def test_a_constant_is_what_it_always_was(it_w: int, pue: int) -> None:
    """To the watt, both ways."""
    one = replace(site(), pue_permille=pue)
    assert meter_watts(one, it_w) == facility_watts(it_w, pue)
    assert it_watts(one, it_w) == it_w * 1_000 // pue


@st.composite
def curves(draw: st.DrawFn) -> PueCurve:
    """Any curve without holes that could be meant."""
    loads = sorted({*draw(st.sets(st.integers(10, 999), max_size=3)), 1_000})
    outdoor = sorted(draw(st.sets(st.integers(-30, 45), min_size=1, max_size=3)))
    rows = [(load, at, draw(st.integers(1_000, 1_600))) for load in loads for at in outdoor]
    made = curve(*rows, design_c=draw(st.sampled_from(outdoor)), full_w=draw(st.integers(1, 10**8)))
    assume(not falling(made))
    return made


@given(one=curves(), meter_w=st.integers(0, 2 * 10**8), outdoor_c=st.integers(-40, 50))
def test_the_it_limit_is_the_most_that_the_meter_allows(one: PueCurve, meter_w: int, outdoor_c: int) -> None:
    """One watt more would be over; and less is never more at the meter."""
    where = replace(site(), pue_curve=one)
    it_w = it_watts(where, meter_w, outdoor_c)
    if it_w:
        assert meter_watts(where, it_w, outdoor_c) <= meter_w
    assert meter_watts(where, it_w + 1, outdoor_c) > meter_w
    assert meter_watts(where, it_w, outdoor_c) <= meter_watts(where, it_w + 1, outdoor_c)


def test_the_limit_of_a_connection_is_kept_for_the_design_temperature() -> None:
    """1.2 MW at the meter at a PUE of 1.2 on the hottest day that is planned for, whatever the weather."""
    one = replace(site(connection_w=1_200_000), pue_curve=HALL)
    assert int(fleet_of(one).power_limit_w[0]) == 1_000_000
    assert at_full_load(HALL) == 1_200


def test_a_curve_that_says_more_load_draws_less_is_found() -> None:
    """At a PUE of 2.5 at half load 1.25 MW, at 1.0 at full load 1 MW: one of them can't be."""
    assert falling(curve((500, 30, 2_500), (1_000, 30, 1_000))) == (Falling(30, 500, 1_000),)
    assert falling(HALL) == ()
    # Not only between the ends: here both are fine, and it falls in between.
    assert falling(curve((100, 30, 3_000), (1_000, 30, 1_010))) != ()


def test_a_hole_is_found() -> None:
    """Each load has a point at each temperature."""
    assert holes(curve((500, 10, 1_200), (1_000, 30, 1_100))) == ((500, 30), (1_000, 10))
    assert holes(HALL) == ()
