"""Series from CSV files: a column of values, and one of times in RFC 3339, in UTC, or local with a zone.

Commas, semicolons and tabs part the cells; a decimal comma will do where commas don't part them. Local times take the zone's
daylight saving: of the hour that comes twice in autumn the first row is the earlier one (the later one, where the newest stands
first), and a time of the hour that is left out in spring can't be, which shows that a file is not in the zone that it is read
in. A row without a value says nothing, not even that.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from io import StringIO
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

from headrace.core.errors import did_you_mean
from headrace.core.units import MICROS
from headrace.signals.series import YEARS, Gaps, Point, Series, bad, pack

MOST_BYTES = 1 << 28
MOST = Decimal(10) ** 9
"""The largest value that is taken for meant."""
DISORDER = 20
"""A file is in order of time where at most every so manieth step goes the other way."""
NOTHING = frozenset({"", "-", "n/a", "na", "n/e", "nan", "null", "none"})
"""Cells without a value: the interval is missing."""
TIMES = (
    "utc", "time", "datetime", "timestamp", "start", "start_time", "hour", "hour_utc", "date", "time_start", "valid_from",
    "datetime_utc", "time_utc", "timestamp_utc", "start_utc", "hourutc", "from", "mtu", "period",
)  # fmt: skip
_CORRECT = "Correct the line or leave it out."
_EUROPEAN = re.compile(r"([0-9]{2})[./]([0-9]{2})[./]([0-9]{4})[ T]([0-9]{2}:[0-9]{2}(:[0-9]{2})?)(?: - .*)?")
_UTC = re.compile(r"(^|[^a-z])utc([^a-z]|$)|hourutc", re.IGNORECASE)
_CET = re.compile(r"\bce(s)?t\b", re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file: its columns, and its rows, each with its line."""

    path: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    decimal_comma: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """A series from a file; ``zone`` is that of its times where they have no offset, and ``assumed`` whether nobody said so.

    ``unsure`` says, in a sentence without its end, which hour of autumn may be the other way round; "" for none.
    """

    series: Series
    zone: str
    assumed: bool
    unsure: str = ""


def read_table(path: Path) -> Table:
    """The columns and rows of a CSV file; HeadraceError for what is none."""
    text = _text(path)
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
    columns: tuple[str, ...] = ()
    rows = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns:
                rows.append((reader.line_num, tuple(cell.strip() for cell in cells)))
            else:
                columns = tuple(cell.strip() for cell in cells)
    except csv.Error as error:
        raise bad(f"{path}:{reader.line_num}", f"it is no CSV: {error}.", "Give a CSV file.") from None
    if not rows:
        raise bad(str(path), "it has no rows below its header.", "Give a file with values.")
    return Table(str(path), columns, tuple(rows), delimiter != ",")


def read_series(
    path: Path,
    column: str,
    zone: str = "",
    fallback_zone: str = "UTC",
    time_column: str = "",
    gaps: Gaps = "hold",
    option: str = "--time-column",
) -> Read:
    """A column of a CSV file as a series; its values are millionths of whatever unit it is in.

    Times without an offset are in ``zone``; without one in UTC or CET if the time's column says so, else in ``fallback_zone``.
    Raises HeadraceError for columns that are not there, or there twice, times and values that can't be read, each by its line;
    ``option`` is how whoever asks can name the column of times, "" if not at all.
    """
    found = read_points(path, column, zone, fallback_zone, time_column, option)
    return Read(pack(str(path), found.points, gaps), found.zone, found.assumed, found.unsure)


@dataclass(frozen=True, slots=True)
class Points:
    """The values of a column as they stand in the file; ``zone``, ``assumed`` and ``unsure`` as those of :class:`Read`.

    ``empty`` are the places of rows without a value.
    """

    points: tuple[Point, ...]
    zone: str
    assumed: bool
    unsure: str = ""
    empty: tuple[str, ...] = ()


def read_points(
    path: Path,
    column: str,
    zone: str = "",
    fallback_zone: str = "UTC",
    time_column: str = "",
    option: str = "--time-column",
) -> Points:
    """As :func:`read_series`, without asking that times are a market's intervals."""
    table = read_table(path)
    value_at = _column(table, column, "column")
    time_at = _column(table, time_column, "time column") if time_column else _time_column(table, option)
    chosen = zone or _zone_of(table.columns[time_at])
    rows = [_row(table, line, cells, column, (time_at, value_at)) for line, cells in table.rows]
    clock = _Clock(chosen or fallback_zone, [row.at for row in rows if row.at.tzinfo is None])
    starts_ms = clock.all_ms(rows)
    points = tuple(
        Point(start_ms, row.micros, row.where)
        for row, start_ms in zip(rows, starts_ms, strict=True)
        if row.micros is not None
    )
    empty = tuple(row.where for row in rows if row.micros is None)
    return Points(points, clock.zone if clock.used else "", clock.used and not chosen, clock.unsure, empty)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of two columns: where it stands, its time as written, its value (None: it has none)."""

    where: str
    at: datetime
    micros: int | None


def _row(table: Table, line: int, cells: tuple[str, ...], column: str, places: tuple[int, int]) -> _Row:
    where = f"{table.path}:{line}"
    if len(cells) <= max(places):
        raise bad(where, f"it has {len(cells)} fields, and the header {len(table.columns)}.", _CORRECT)
    time_at, value_at = places
    micros = _micros(cells[value_at], column, where, decimal_comma=table.decimal_comma)
    return _Row(where, _parsed(cells[time_at], where), micros)


class _Clock:
    """Times as they are written, as milliseconds UTC; those without an offset, ``times``, are in a zone.

    ``used``: some had none. ``unsure``: what the order of the rows doesn't tell, in a sentence without its end.
    """

    def __init__(self, zone: str, times: Sequence[datetime]) -> None:
        self.zone = zone
        self.used = bool(times)
        self.unsure = ""
        self._zone = ZoneInfo(zone)
        moves = [(one, other) for one, other in pairwise(times) if one != other]
        self._falls = 2 * sum(one > other for one, other in moves) > len(moves)
        against = [move for move in moves if (move[0] > move[1]) != self._falls]
        # Within the hour that comes twice both ways are right.
        against = [
            (one, other) for one, other in against if not (self._is_twice(one) and self._is_twice(other))
        ]
        self._disorder = len(against) * DISORDER > len(moves)

    def all_ms(self, rows: Sequence[_Row]) -> list[int]:
        """The time of every row, in their order; 0 for one that can't be and has no value."""
        found = [0] * len(rows)
        seen: dict[datetime, int] = {}
        for number in reversed(range(len(rows))) if self._falls else range(len(rows)):
            row = rows[number]
            first = number if row.at.tzinfo is not None else seen.setdefault(row.at, number)
            if first != number:
                self._doubt(rows, *sorted((first, number)))
                # Only the hour that comes twice has a later one; anything else is a row that repeats another.
                at: datetime | None = row.at.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
            else:
                at = row.at if row.at.tzinfo is not None else self._local(row)
            found[number] = 0 if at is None else (at - _EPOCH) // timedelta(milliseconds=1)
        return found

    def _doubt(self, rows: Sequence[_Row], one: int, other: int) -> None:
        """Two rows have the same local time: does their order say which of them is the earlier?"""
        at = rows[one].at
        parted = any(not self._is_twice(row.at) for row in rows[one + 1 : other])
        if self.unsure or not self._is_twice(at) or not (self._disorder or parted):
            return
        which = "the last" if self._falls else "the first"
        told = (
            f"comes twice in {self.zone}, and rows are in no order: {which} of them is taken for the earlier"
        )
        self.unsure = f"{at:%Y-%m-%d %H:%M} {told}"

    def _is_twice(self, at: datetime) -> bool:
        first, second = (at.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1))
        return first is not None and second is not None and first > second

    def _local(self, row: _Row) -> datetime | None:
        at = row.at
        found = at.replace(tzinfo=self._zone).astimezone(UTC)
        if found.astimezone(self._zone).replace(tzinfo=None) == at:
            return found
        if row.micros is None:
            return None
        step = (
            "Leave the row out; or, if the whole file is in another zone, say so with --time-zone, like UTC."
        )
        raise bad(row.where, f"{at:%Y-%m-%d %H:%M} is left out in {self.zone} by daylight saving.", step)


def _parsed(text: str, where: str) -> datetime:
    european = _EUROPEAN.fullmatch(text)
    if european:
        text = f"{european[3]}-{european[2]}-{european[1]}T{european[4]}"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        shown = repr(text[:40])
        raise bad(where, f"{shown} is no time.", "Write it like 2026-12-01T08:00Z.") from None
    if not YEARS[0] <= at.year <= YEARS[1]:
        message = f"{text[:40]!r} can't be meant: it is not from {YEARS[0]} to {YEARS[1]}."
        raise bad(where, message, _CORRECT)
    return at


def _micros(text: str, column: str, where: str, *, decimal_comma: bool) -> int | None:
    if text.lower() in NOTHING:
        return None
    try:
        value = Decimal(text.replace(",", ".") if decimal_comma else text)
    except InvalidOperation:
        raise bad(where, f"{column} is {text[:40]!r}, not a number.", _CORRECT) from None
    if not value.is_finite() or abs(value) > MOST:
        raise bad(where, f"{column} is {text[:40]!r}, which can't be.", _CORRECT)
    return int((value * MICROS).to_integral_value())


def _column(table: Table, name: str, what: str) -> int:
    places = [number for number, column in enumerate(table.columns, 1) if column == name]
    if len(places) > 1:
        listed = " and ".join(map(str, places))
        message = f"columns {listed} are both called {name[:60]!r}."
        raise bad(f"{table.path}:1", message, "Give each a name of its own, or take out all but one.")
    if places:
        return places[0] - 1
    raise bad(f"{table.path}:1", f"no {what} {name[:60]!r};", did_you_mean(name[:60], table.columns))


def _time_column(table: Table, option: str) -> int:
    names = [re.sub(r"[^a-z]+", "_", column.lower()).strip("_") for column in table.columns]
    called = (
        column
        for wanted in TIMES
        for column, name in zip(table.columns, names, strict=True)
        if name == wanted
    )
    like = (column for column, name in zip(table.columns, names, strict=True) if _is_like_a_time(name))
    found = next(called, None) or next(like, None)
    if found is not None:
        return _column(table, found, "time column")
    step = f"Name it with {option};" if option else "Call the column that has them utc or time;"
    raise bad(f"{table.path}:1", "no column of times.", f"{step} {did_you_mean('', table.columns)}")


def _is_like_a_time(name: str) -> bool:
    return name.startswith(("mtu", "time", "date", "utc", "hour")) or name.endswith(("utc", "time"))


def _zone_of(column: str) -> str:
    if _UTC.search(column.replace("_", " ")):
        return "UTC"
    return "Europe/Brussels" if _CET.search(column) else ""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        message = f"can't read it: {(error.strerror or 'unknown error').lower()}."
        raise bad(str(path), message, "Check the path and the rights of the file.") from None
    if len(raw) > MOST_BYTES:
        raise bad(str(path), f"more than {MOST_BYTES >> 20} MiB.", "Give a smaller file.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise bad(f"{path}:{line}", "it is no text in UTF-8.", "Save the file as UTF-8.") from None
