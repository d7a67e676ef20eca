"""Series from CSV files: a column of values, and one of times in RFC 3339, in UTC, or local with a zone.

Commas, semicolons and tabs part the cells; a decimal comma will do where commas don't part them. Local times take the zone's
daylight saving: of the hour that comes twice in autumn the first row is the earlier one, and a time of the hour that is
left out in spring can't be, which shows that a file is not in the zone that it is read in.
"""

import csv
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

from headrace.core.errors import did_you_mean
from headrace.core.units import MICROS
from headrace.signals.series import Gaps, Point, Series, bad, pack

MOST_BYTES = 1 << 28
MOST = Decimal(10) ** 9
"""The largest value that is taken for meant."""
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
    """A series from a file; ``zone`` is that of its times where they have no offset, and ``assumed`` whether nobody said so."""

    series: Series
    zone: str
    assumed: bool


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
) -> Read:
    """A column of a CSV file as a series; its values are millionths of whatever unit it is in.

    Times without an offset are in ``zone``; without one in UTC or CET if the time's column says so, else in ``fallback_zone``.
    Raises HeadraceError for columns that are not there, times and values that can't be read, each by its line.
    """
    found = read_points(path, column, zone, fallback_zone, time_column)
    return Read(pack(str(path), found.points, gaps), found.zone, found.assumed)


@dataclass(frozen=True, slots=True)
class Points:
    """The values of a column as they stand in the file; ``zone`` and ``assumed`` as those of :class:`Read`."""

    points: tuple[Point, ...]
    zone: str
    assumed: bool


def read_points(
    path: Path, column: str, zone: str = "", fallback_zone: str = "UTC", time_column: str = ""
) -> Points:
    """As :func:`read_series`, without asking that times are a market's intervals."""
    table = read_table(path)
    value_at = _column(table, column, "column")
    time_at = _column(table, time_column, "time column") if time_column else _time_column(table)
    chosen = zone or _zone_of(table.columns[time_at])
    clock = _Clock(chosen or fallback_zone)
    points = []
    for line, cells in table.rows:
        where = f"{table.path}:{line}"
        if len(cells) <= max(value_at, time_at):
            raise bad(where, f"it has {len(cells)} fields, and the header {len(table.columns)}.", _CORRECT)
        start_ms = clock.ms(cells[time_at], where)
        micros = _micros(cells[value_at], column, where, decimal_comma=table.decimal_comma)
        if micros is not None:
            points.append(Point(start_ms, micros, where))
    return Points(tuple(points), clock.zone if clock.used else "", clock.used and not chosen)


class _Clock:
    """Texts as times; those without an offset are in a zone."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.used = False
        self._zone = ZoneInfo(zone)
        self._seen: set[datetime] = set()

    def ms(self, text: str, where: str) -> int:
        """A time in milliseconds UTC."""
        at = _parsed(text, where)
        if at.tzinfo is None:
            at = self._local(at, where)
        return (at - _EPOCH) // timedelta(milliseconds=1)

    def _local(self, at: datetime, where: str) -> datetime:
        self.used = True
        if at in self._seen:
            later = at.replace(tzinfo=self._zone, fold=1)
            # Only the hour that comes twice has a later one; anything else is a row that repeats another.
            return later.astimezone(UTC)
        self._seen.add(at)
        found = at.replace(tzinfo=self._zone).astimezone(UTC)
        if found.astimezone(self._zone).replace(tzinfo=None) != at:
            message = f"{at:%Y-%m-%d %H:%M} is left out in {self.zone} by daylight saving."
            raise bad(where, message, "Say the file's zone with --time-zone, like UTC.")
        return found


def _parsed(text: str, where: str) -> datetime:
    european = _EUROPEAN.fullmatch(text)
    if european:
        text = f"{european[3]}-{european[2]}-{european[1]}T{european[4]}"
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        shown = repr(text[:40])
        raise bad(where, f"{shown} is no time.", "Write it like 2026-12-01T08:00Z.") from None


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
    if name in table.columns:
        return table.columns.index(name)
    raise bad(f"{table.path}:1", f"no {what} {name[:60]!r};", did_you_mean(name[:60], table.columns))


def _time_column(table: Table) -> int:
    names = [re.sub(r"[^a-z]+", "_", column.lower()).strip("_") for column in table.columns]
    for wanted in TIMES:
        if wanted in names:
            return names.index(wanted)
    for number, name in enumerate(names):
        if name.startswith(("mtu", "time", "date", "utc", "hour")) or name.endswith(("utc", "time")):
            return number
    step = f"Name it with --time-column; {did_you_mean('', table.columns)}"
    raise bad(f"{table.path}:1", "no column of times.", step)


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
