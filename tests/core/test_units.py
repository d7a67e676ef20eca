"""Quantities are integers, rounded the way that is stated and no other."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.units import (
    MJ_PER_KWH,
    MS_PER_DAY,
    MS_PER_HOUR,
    PERMILLE,
    carbon_ug,
    ceil_div,
    div_half_even,
    facility_watts,
    format_duration,
    format_money,
    format_watts,
    parse_duration_ms,
    parse_memory_mb,
    parse_watts,
)

_ANY = st.integers(-(10**24), 10**24)
_POSITIVE = st.integers(1, 10**18)


@given(_ANY, _POSITIVE)
def test_halves_go_to_the_even_neighbour(numerator: int, denominator: int) -> None:
    """As Python rounds an exact fraction."""
    assert div_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize("denominator", [0, -1])
def test_dividing_by_nothing_or_less_is_an_error(denominator: int) -> None:
    """A price per nothing is a mistake, not an infinity."""
    with pytest.raises(ValueError, match="must be positive"):
        div_half_even(1, denominator)


@given(_ANY, _POSITIVE)
def test_rounding_up_never_falls_short(numerator: int, denominator: int) -> None:
    """And never goes further than it must."""
    rounded = ceil_div(numerator, denominator)
    assert (rounded - 1) * denominator < numerator <= rounded * denominator


@given(st.integers(0, 10**12), st.integers(1_000, 3_000))
def test_watts_at_the_meter_are_never_below_the_exact_figure(it_w: int, pue: int) -> None:
    """A limit must hold, so that what is under a watt counts as one."""
    exact = Fraction(it_w * pue, PERMILLE)
    assert exact <= facility_watts(it_w, pue) < exact + 1


def test_a_kilowatt_hour_has_the_carbon_that_is_declared() -> None:
    """8 g per kWh is 8,000,000 µg."""
    assert carbon_ug(MJ_PER_KWH, 8) == 8_000_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("90s", 90_000),
        ("30m", 1_800_000),
        ("2h", 2 * MS_PER_HOUR),
        ("1h30m", 5_400_000),
        ("1.5h", 5_400_000),
        ("2d", 2 * MS_PER_DAY),
        (" 1w ", 7 * MS_PER_DAY),
    ],
)
def test_a_duration_is_what_it_says(text: str, ms: int) -> None:
    """In milliseconds."""
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "0s", "2", "h", "-1h", "1h-", "1 h", "1y", "1h 30m"])
def test_what_is_no_duration_is_shown_how_to_write_one(text: str) -> None:
    """The error has the form in it."""
    with pytest.raises(ValueError, match="like 90s, 30m"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("text", "watts"),
    [("700W", 700), ("12 kW", 12_000), ("0.5MW", 500_000), ("290 MW", 290_000_000), ("3GW", 3_000_000_000)],
)
def test_a_power_is_what_it_says(text: str, watts: int) -> None:
    """In watts, with or without a space, in any case."""
    assert parse_watts(text) == watts


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("512MB", 512), ("64GB", 64_000), ("2TB", 2_000_000), ("1GiB", 1_074), ("1MiB", 2)],
)
def test_a_size_of_memory_is_rounded_up(text: str, megabytes: int) -> None:
    """What is asked for is there."""
    assert parse_memory_mb(text) == megabytes


@pytest.mark.parametrize("text", ["", "W", "12", "-1W", "1e3W", "1,5kW", "1VA", "12 k W", "١W"])
def test_what_is_no_quantity_is_shown_how_to_write_one(text: str) -> None:
    """Neither a power nor a size of memory."""
    with pytest.raises(ValueError, match="write it like 700 W"):
        parse_watts(text)
    with pytest.raises(ValueError, match="write it like 512MB"):
        parse_memory_mb(text)


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (format_watts(700), "700 W"),
        (format_watts(10_200), "10.2 kW"),
        (format_watts(290_000_000), "290 MW"),
        (format_watts(-2_900), "-2.9 kW"),
        (format_duration(12_300), "12.3s"),
        (format_duration(3_900_000), "1h 5m"),
        (format_duration(2 * MS_PER_DAY + 3 * MS_PER_HOUR + 5_000), "2d 3h"),
        (format_money(12_500_000, "NOK"), "12.50 NOK"),
        (format_money(-1, "GBP"), "-0.000001 GBP"),
        (format_money(1_234_567_890_000, "USD"), "1,234,567.89 USD"),
    ],
)
def test_quantities_are_shown_as_people_write_them(shown: str, wanted: str) -> None:
    """With a unit, and no more digits than tell something."""
    assert shown == wanted
