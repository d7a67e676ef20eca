"""Series from CSV files: every interval once, what is odd named by its line, and daylight saving as clocks have it."""

from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.signals.series import Point, aligned, latest, moment, pack
from headrace.signals.table import read_series
from headrace.signals.units import doubt, per_mwh, price_unit

HOUR = 3_600_000
DAY = 24 * HOUR


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def written(text: str | bytes, name: str = "p.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


def problem(path: Path, column: str = "price", **more: str) -> str:
    with pytest.raises(HeadraceError) as caught:
        read_series(path, column, **more)  # type: ignore[arg-type]
    return caught.value.problem.line().replace(f"{path}", path.name)


@pytest.mark.parametrize(
    ("text", "first", "micros"),
    [
        (
            "utc,price\n2024-01-01T00:00Z,1.5\n2024-01-01T01:00Z,-0.25\n",
            "2024-01-01T00:00Z",
            (1_500_000, -250_000),
        ),
        (
            "time,price\n2024-01-01T01:00:00+01:00,1\n2024-01-01T02:00:00+01:00,2\n",
            "2024-01-01T00:00Z",
            (1_000_000, 2_000_000),
        ),
        (
            "hour_utc,price\n2024-01-01 00:00:00,1e1\n2024-01-01 01:00:00,2\n",
            "2024-01-01T00:00Z",
            (10_000_000, 2_000_000),
        ),
        (
            "MTU (CET/CEST);price\n01.07.2024 00:00 - 01.07.2024 01:00;1,5\n01.07.2024 01:00 - 01.07.2024 02:00;2\n",
            "2024-06-30T22:00Z",
            (1_500_000, 2_000_000),
        ),
        (
            "\ufefftimestamp\tprice\r\n2024-01-01T00:00Z\t1.2345678\r\n2024-01-01T01:00Z\t0\r\n",
            "2024-01-01T00:00Z",
            (1_234_568, 0),
        ),
        (
            "price,utc\n2,2024-01-01T01:00Z\n1,2024-01-01T00:00Z\n\n",
            "2024-01-01T00:00Z",
            (1_000_000, 2_000_000),
        ),
    ],
)
def test_files_as_they_come_are_read(write, text: str, first: str, micros: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    """Offsets, zones in the header, commas, semicolons, tabs, decimal commas, marks, any order."""
    found = read_series(write(text), "price")
    assert moment(found.series.starts_ms[0]) == first
    assert found.series.micros == micros
    assert found.series.length_ms == HOUR
    assert found.series.oddities == ()


def local_day(day: str, hours: list[int]) -> str:
    return "time,price\n" + "".join(f"{day} {hour:02}:00,{number}\n" for number, hour in enumerate(hours))


def test_the_hour_that_comes_twice_in_autumn_is_two_hours(write) -> None:  # type: ignore[no-untyped-def]
    """A local day of 25 hours: the first 02:00 is the earlier one."""
    found = read_series(write(local_day("2024-10-27", [0, 1, 2, 2, *range(3, 24)])), "price", "Europe/Oslo")
    assert len(found.series.starts_ms) == 25
    assert moment(found.series.starts_ms[2]) == "2024-10-27T00:00Z"
    assert moment(found.series.starts_ms[3]) == "2024-10-27T01:00Z"
    assert found.series.oddities == ()
    assert not found.assumed


def test_the_hour_that_is_left_out_in_spring_is_no_gap(write) -> None:  # type: ignore[no-untyped-def]
    """A local day of 23 hours; and who has 24 of them is not in that zone."""
    found = read_series(write(local_day("2024-03-31", [0, 1, *range(3, 24)])), "price", "Europe/Oslo")
    assert len(found.series.starts_ms) == 23
    assert found.series.oddities == ()
    path = write(local_day("2024-03-31", list(range(24))))
    assert problem(path, fallback_zone="Europe/Oslo") == (
        "p.csv:4: 2024-03-31 02:00 is left out in Europe/Oslo by daylight saving. "
        "Say the file's zone with --time-zone, like UTC."
    )
    assert len(read_series(path, "price", "UTC").series.starts_ms) == 24


def test_a_local_file_that_knows_no_second_hour_lacks_it(write) -> None:  # type: ignore[no-untyped-def]
    """A clock that is off by an hour at daylight saving shows."""
    found = read_series(write(local_day("2024-10-27", list(range(24)))), "price", fallback_zone="Europe/Oslo")
    assert found.assumed
    assert found.zone == "Europe/Oslo"
    (odd,) = found.series.oddities
    assert odd.line().endswith(
        "p.csv:5: missing 2024-10-27T01:00Z to 2024-10-27T02:00Z (1h): the value before it is held"
    )


def hours(*which: int) -> list[Point]:
    return [Point(number * HOUR, number * 1_000, f"line {number}") for number in which]


def test_a_short_gap_is_held_a_long_one_parts_the_series_and_both_are_named() -> None:
    """Up to three hours by the value before, which was known; no fiction over a day."""
    series = pack("p", hours(0, 1, 2, 5, 6, 10, 11))
    assert series.micros == (0, 1_000, 2_000, 2_000, 2_000, 5_000, 6_000, 6_000, 6_000, 6_000, 10_000, 11_000)
    parted = pack("p", hours(0, 1, 2, 30, 31))
    assert list(parted.stretches()) == [(0, 3), (3, 5)]
    assert [(odd.kind, odd.where, odd.done) for odd in parted.oddities] == [
        ("missing", "line 30", "left out; what comes after it begins anew")
    ]
    with pytest.raises(HeadraceError, match="line 30: missing 1970-01-01T03:00Z to 1970-01-02T06:00Z"):
        pack("p", hours(0, 1, 2, 30, 31), "refuse")


def test_of_two_values_for_one_hour_the_first_counts_and_the_second_is_named() -> None:
    """With whether they differ."""
    series = pack("p", [*hours(0, 1), Point(HOUR, 7, "line x"), Point(0, 0, "line y")])
    assert series.micros == (0, 1_000)
    assert [odd.done for odd in series.oddities] == [
        "another value as in line 1, which counts",
        "the same value as in line 0, which counts",
    ]


def test_a_market_that_goes_over_to_quarters_of_an_hour_is_one_series() -> None:
    """Hours are four quarters with one price; three quarters that lack are a gap, and no hour."""
    quarter = HOUR // 4
    points = hours(*range(30)) + [
        Point(30 * HOUR + n * quarter, n, f"q{n}") for n in range(60) if n not in (8, 9, 10)
    ]
    series = pack("p", points)
    assert series.length_ms == quarter
    assert len(series.starts_ms) == 30 * 4 + 60
    assert series.micros[:5] == (0, 0, 0, 0, 1_000)
    assert [(odd.kind, odd.where) for odd in series.oddities] == [("missing", "q11")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("utc,price\n2024-01-01T00:00Z,abc\n", "p.csv:2: price is 'abc', not a number."),
        ("utc,price\n2024-01-01T00:00Z,1e99\n", "p.csv:2: price is '1e99', which can't be."),
        (
            "utc,price\n2024-13-01T00:00Z,1\n",
            "p.csv:2: '2024-13-01T00:00Z' is no time. Write it like 2026-12-01T08:00Z.",
        ),
        (
            "utc,prise\n2024-01-01T00:00Z,1\n",
            "p.csv:1: no column 'price'; known: prise, utc. Did you mean prise?",
        ),
        ("a,price\nx,1\n", "p.csv:1: no column of times. Name it with --time-column; known: a, price."),
        ("utc,price\n", "p.csv: it has no rows below its header. Give a file with values."),
        ("", "p.csv: it has no rows below its header. Give a file with values."),
        ("utc,price\n2024-01-01T00:00Z\n", "p.csv:2: it has 1 fields, and the header 2."),
        ("utc,price\n2024-01-01T00:00Z,\n", "p.csv: there is no value in it. Give a file with values."),
        (b"utc,price\n\xff\n", "p.csv:2: it is no text in UTF-8. Save the file as UTF-8."),
        (
            "utc,price\n2024-01-01T00:00Z,1\n2024-01-01T07:00Z,1\n",
            "p.csv: its intervals are 7h long, and not 15, 30 or 60 minutes.",
        ),
        (
            "utc,price\n2024-01-01T00:00Z,1\n2024-01-01T01:00Z,1\n2024-01-01T02:20Z,1\n2024-01-01T03:20Z,1\n",
            "p.csv:4: 2024-01-01T02:20Z is not a whole number of intervals of 1h after p.csv:3.",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_its_line(write, text: str | bytes, told: str) -> None:  # type: ignore[no-untyped-def]
    """Never a traceback; always the next step."""
    assert problem(write(text)).startswith(told)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what to look at."""
    assert problem(tmp_path / "p.csv").startswith("p.csv: can't read it: no such file")


def test_values_are_brought_onto_other_intervals() -> None:
    """A series where it holds, a quote since it came, and nothing where there is nothing."""
    series = pack("p", hours(0, 1, 2))
    assert aligned(series, [0, HOUR // 4, HOUR, 2 * HOUR + 1, 3 * HOUR]) == [0, 0, 1_000, 2_000, None]
    quotes = [Point(DAY, 5, "a"), Point(3 * DAY, 6, "b")]
    assert latest(quotes, [0, DAY, 2 * DAY, 3 * DAY]) == [None, 5, 5, 6]


@pytest.mark.parametrize(
    ("given", "column", "declared", "unit"),
    [
        ("", "nok_per_kwh", "eur_per_mwh", "nok_per_kwh"),
        ("", "NO1_eur_per_mwh", "", "eur_per_mwh"),
        ("", "Day-ahead Price [EUR/MWh]", "", "eur_per_mwh"),
        ("", "price", "usd_per_mwh", "usd_per_mwh"),
        ("EUR_per_MWh", "price", "nok_per_kwh", "eur_per_mwh"),
    ],
)
def test_the_unit_of_a_column_is_as_given_or_named_or_declared(
    given: str, column: str, declared: str, unit: str
) -> None:
    """In that order."""
    assert price_unit(given, column, declared) == unit


@pytest.mark.parametrize(
    ("given", "column", "told"),
    [
        (
            "eur_per_mwh",
            "nok_per_kwh",
            "--unit: eur_per_mwh is asked for, but the column 'nok_per_kwh' is in nok_per_kwh.",
        ),
        ("", "price", "--unit: nobody says which unit 'price' is in."),
        (
            "eur_per_gwh",
            "price",
            "--unit: no unit of prices 'eur_per_gwh'; known: eur_per_mwh, nok_per_kwh, usd_per_mwh.",
        ),
    ],
)
def test_a_wrong_unit_is_refused(given: str, column: str, told: str) -> None:
    """Named, with what to give."""
    with pytest.raises(HeadraceError) as caught:
        price_unit(given, column, "")
    assert caught.value.problem.line().startswith(told)


def test_prices_become_millionths_of_the_halls_currency_per_mwh() -> None:
    """At the rate that the hall states; without one it is refused."""
    series = pack("p", [Point(0, 1_327_410, "a"), Point(HOUR, -11_001, "b")])
    assert per_mwh(series, "nok_per_kwh", "NOK", {}) == [1_327_410_000, -11_001_000]
    assert per_mwh(series, "eur_per_mwh", "NOK", {"EUR": 11_600_000}) == [15_397_956, -127_612]
    with pytest.raises(HeadraceError, match="its prices are in EUR, and the hall states no rate for it"):
        per_mwh(series, "eur_per_mwh", "NOK", {"USD": 1})


def test_a_price_that_is_hundreds_of_times_too_high_is_in_another_unit() -> None:
    """80 EUR/MWh read as EUR/kWh; 0.8 NOK/kWh read as NOK/MWh is doubted only: prices can be near nothing."""
    best = 1_000 * 10**6
    assert doubt([700 * 10**6] * 3, best, "u") == (False, "")
    assert doubt([80_000 * 1_000 * 10**6] * 3, best, "u")[0]
    wrong, words = doubt([700_000] * 3, best, "u")
    assert (wrong, words) == (False, "read as u, the median price is 0.0007 times what a MWh can earn")
