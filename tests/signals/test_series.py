"""Series from CSV files: every interval once, what is odd named by its line, and daylight saving as clocks have it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

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
        "Leave the row out; or, if the whole file is in another zone, say so with --time-zone, like UTC."
    )
    assert len(read_series(path, "price", "UTC").series.starts_ms) == 24


@pytest.mark.parametrize("minutes", [60, 15])
def test_a_local_file_may_have_the_newest_first(write, minutes: int) -> None:  # type: ignore[no-untyped-def]
    """Three days around the end of summer time, upwards and downwards: the same series, nothing odd."""
    count = 73 * 60 // minutes
    first = datetime(2025, 10, 24, 22, tzinfo=UTC)
    local = [first + timedelta(minutes=minutes * number) for number in range(count)]
    rows = [
        f"{at.astimezone(ZoneInfo('Europe/Oslo')):%Y-%m-%d %H:%M},{number}\n"
        for number, at in enumerate(local)
    ]
    upwards = read_series(write("time,price\n" + "".join(rows)), "price", "Europe/Oslo")
    downwards = read_series(write("time,price\n" + "".join(reversed(rows))), "price", "Europe/Oslo")
    assert upwards.series.micros == tuple(number * 10**6 for number in range(count))
    assert downwards == upwards
    assert upwards.unsure == ""


def test_rows_in_no_order_are_unsure_of_the_hour_that_comes_twice(write) -> None:  # type: ignore[no-untyped-def]
    """The first of them is taken for the earlier, and it is said; without that hour nothing is unsure."""
    rows = local_day("2025-10-26", [0, 1, 2, 2, *range(3, 24)]).splitlines(keepends=True)
    mixed = rows[0] + "".join(rows[1:12:2] + rows[2:12:2] + rows[12:])
    found = read_series(write(mixed), "price", "Europe/Oslo")
    assert found.unsure == (
        "2025-10-26 02:00 comes twice in Europe/Oslo, and rows are in no order: the first of them is taken for the earlier"
    )
    assert read_series(write(mixed), "price", "UTC").unsure == ""
    assert read_series(write(mixed.replace("10-26", "10-25")), "price", "Europe/Oslo").unsure == ""


def test_a_row_without_a_value_is_no_time_that_can_not_be(write) -> None:  # type: ignore[no-untyped-def]
    """Spreadsheets have an empty row at 02:00 in spring; in autumn an empty first 02:00 leaves the second the later one."""
    spring = local_day("2026-03-29", list(range(24))).replace("02:00,2", "02:00,")
    found = read_series(write(spring), "price", "Europe/Oslo")
    assert len(found.series.starts_ms) == 23
    assert found.series.oddities == ()
    autumn = local_day("2025-10-26", [0, 1, 2, 2, *range(3, 24)]).replace("02:00,2", "02:00,")
    (odd,) = read_series(write(autumn), "price", "Europe/Oslo").series.oddities
    assert moment(odd.from_ms) == "2025-10-26T00:00Z"


def test_of_two_columns_of_one_name_none_is_taken(write) -> None:  # type: ignore[no-untyped-def]
    """Of values or of times; two others with one name hurt nobody."""
    path = write("utc,price,price\n2024-01-01T00:00Z,1,2\n")
    told = "columns 2 and 3 are both called 'price'. Give each a name of its own, or take out all but one."
    assert problem(path) == f"p.csv:1: {told}"
    assert "columns 1 and 2 are both called 'utc'." in problem(write("utc,utc,price\nx,y,1\n"))
    assert read_series(write("utc,price,a,a\n2024-01-01T00:00Z,1,2,3\n"), "price").series.micros == (10**6,)


@pytest.mark.parametrize(
    "time",
    [
        "9999-12-31T23:00Z",
        "9999-12-30T01:00Z",
        "0001-01-01T00:00Z",
        "0001-01-01T00:00",
        "0001-01-01T00:00+14:00",
        "31.12.9999 23:00",
        "1969-12-31T23:00Z",
        "2201-01-01T00:00Z",
    ],
)
def test_a_time_that_nobody_means_is_told_by_its_line(write, time: str) -> None:  # type: ignore[no-untyped-def]
    """Beyond what clocks can count, or far from any market."""
    path = write(f"time,price\n2024-01-01T00:00Z,1\n{time},2\n")
    written = problem(path, fallback_zone="Europe/Oslo")
    assert written.startswith("p.csv:3: '")
    assert written.endswith(
        "' can't be meant: it is not from 1970 to 2200. Correct the line or leave it out."
    )


@pytest.mark.parametrize(
    ("option", "step"),
    [
        ("--carbon-time-column", "Name it with --carbon-time-column;"),
        ("", "Call the column that has them utc or time;"),
    ],
)
def test_how_to_name_a_column_of_times_is_said_for_that_very_file(  # type: ignore[no-untyped-def]
    write, option: str, step: str
) -> None:
    """By its own option; where there is none, the column has to be called by one."""
    told = problem(write("a,price\nx,1\n"), option=option)
    assert told == f"p.csv:1: no column of times. {step} known: a, price."


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


@pytest.mark.parametrize("minutes", [15, 30])
@pytest.mark.parametrize("few", [2, 5])
def test_a_market_may_go_over_in_the_last_hours_of_a_file_or_in_the_first(minutes: int, few: int) -> None:
    """240 hours of which a few are in parts, or only a few of which are not: nothing lacks, and nothing is odd."""
    parts = 60 // minutes

    def split(which: range) -> list[Point]:
        return [
            Point(hour * HOUR + part * HOUR // parts, hour * 1_000, "x")
            for hour in which
            for part in range(parts)
        ]

    for points in (
        hours(*range(240 - few)) + split(range(240 - few, 240)),
        split(range(few)) + hours(*range(few, 240)),
        hours(*range(5)) + split(range(5, 240)),
        split(range(235)) + hours(*range(235, 240)),
    ):
        series = pack("p", points)
        assert series.length_ms == HOUR // parts
        assert series.micros == tuple(hour * 1_000 for hour in range(240) for _ in range(parts))
        assert series.oddities == ()


def test_a_single_row_within_an_hour_is_told_with_both_times() -> None:
    """It is no change of the market: which hour, and which row lies in it."""
    with pytest.raises(HeadraceError) as caught:
        pack(
            "p",
            sorted([*hours(*range(48)), Point(HOUR // 4 + HOUR, 1, "line x")], key=lambda one: one.start_ms),
        )
    assert caught.value.problem.line() == (
        "line x: 1970-01-01T01:15Z lies within the 1h from 1970-01-01T01:00Z of line 1. "
        "Correct one of the two, or keep rows of one length."
    )


def test_finer_values_are_averaged_over_longer_intervals() -> None:
    """Quarters of 0, 800, 800 and 800 are 600 in the hour; where one of them lacks, nothing is known of it."""
    quarter = HOUR // 4
    points = [
        Point(number * quarter, 800 if number % 4 else 0, "x")
        for number in range(400)
        if not 100 <= number < 131
    ]
    series = pack("p", points)
    found = aligned(series, [hour * HOUR for hour in range(100)], HOUR)
    assert set(found[:25]) == {600}
    assert set(found[25:33]) == {None}
    assert set(found[33:]) == {600}
    assert aligned(series, [0, HOUR // 2], HOUR // 2) == [400, 800]


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
    assert aligned(series, [0, HOUR // 4, HOUR, 9 * HOUR // 4], HOUR // 4) == [0, 0, 1_000, 2_000]
    assert aligned(series, [HOUR, 2 * HOUR + 1, 3 * HOUR], HOUR) == [1_000, None, None]
    quotes = [Point(DAY, 5, "a"), Point(3 * DAY, 6, "b")]
    one, two = quotes
    assert latest(quotes, [0, DAY, 2 * DAY, 3 * DAY]) == [None, one, one, two]


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
