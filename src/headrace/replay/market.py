"""From files to the market of a hall: prices, carbon and what work is paid, brought onto the same intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.core.errors import HeadraceError, did_you_mean
from headrace.core.power.dispatch import hindrances, rules_of
from headrace.core.power.hall import Hall, Quote
from headrace.core.units import MS_PER_DAY
from headrace.replay.power import Market
from headrace.signals.entsoe import parse_carbon, parse_prices
from headrace.signals.series import Gaps, Point, Series, aligned, bad, latest, moment, once, refuse
from headrace.signals.table import Points, Read, read_points, read_series, read_table
from headrace.signals.units import doubt, per_mwh, price_unit

STALE_DAYS = 35
"""A quote that is held for longer than from one month to the next is told."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of values: a CSV file's ``column``, or (``column`` "") a document of ENTSO-E."""

    path: Path
    column: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to read: prices in ``unit`` ("": as they or the hall say), carbon or None; ``zone`` of times without an offset.

    ``resolution`` (``PT15M``) is that of prices, where a document of ENTSO-E has several. Columns of times are found by their
    names where they are "".
    """

    prices: Source
    unit: str = ""
    carbon: Source | None = None
    zone: str = ""
    time_column: str = ""
    gaps: Gaps = "hold"
    carbon_time_column: str = ""
    resolution: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The stretches of a market, the ``unit`` that prices were in, and what was odd, in sentences."""

    stretches: tuple[Market, ...]
    unit: str
    notes: tuple[str, ...]


def read_market(hall: Hall, folder: Path, asked: Asked) -> Found:
    """Everything a hall's replay needs; files of quotes are looked for from ``folder``. HeadraceError for what can't be meant."""
    notes: list[str] = []
    series, unit = _prices(hall, asked, notes)
    carbon = _carbon(hall, asked, series, notes)
    paid = _paid(hall, folder, series.starts_ms, asked.gaps, notes)
    prices = per_mwh(series, unit, hall.currency, hall.rates_micros)
    _doubted(hall, prices, paid, unit, asked, notes)
    stretches = []
    for first, last in _stretches(series, carbon):
        values = tuple(value or 0 for value in carbon[first:last])
        stretches.append(
            Market(
                series.starts_ms[first:last],
                series.length_ms,
                tuple(prices[first:last]),
                values,
                tuple(paid[first:last]),
            )
        )
    if not stretches:
        where = asked.carbon.path if asked.carbon else asked.prices.path
        raise bad(str(where), "prices and carbon have no time in common.", "Give files of the same time.")
    notes.extend(hindrances(rules_of(hall), series.length_ms))
    used = sum(len(one.starts_ms) for one in stretches)
    if used < len(series.starts_ms):
        notes.append(
            f"{len(series.starts_ms) - used} of {len(series.starts_ms)} intervals have no carbon intensity and are left out"
        )
    return Found(tuple(stretches), unit, tuple(notes))


def _prices(hall: Hall, asked: Asked, notes: list[str]) -> tuple[Series, str]:
    path = asked.prices.path
    if raw := _document(path):
        found = parse_prices(raw, str(path), asked.resolution, asked.gaps)
        notes.extend(one.line() for one in found.series.oddities)
        return found.series, price_unit(asked.unit, found.unit, "")
    if asked.resolution:
        raise bad("--resolution", f"{path} is no document of ENTSO-E, and has one column.", "Leave it out.")
    if not asked.prices.column:
        raise _unnamed("--column", path, "the prices")
    read = read_series(path, asked.prices.column, asked.zone, hall.zone, asked.time_column, asked.gaps)
    _told(path, read, notes)
    notes.extend(one.line() for one in read.series.oddities)
    return read.series, price_unit(asked.unit, asked.prices.column, hall.price_unit)


def _unnamed(option: str, path: Path, what: str) -> HeadraceError:
    """Nobody says which column: these are there."""
    step = f"Name it; {did_you_mean('', read_table(path).columns, limit=40)}"
    return bad(option, f"nobody says which column of {path} has {what}.", step)


def _told(path: Path, read: Read | Points, notes: list[str]) -> None:
    """What was taken for granted about the times of a file."""
    if read.assumed:
        notes.append(
            f"{path}: times have no offset, and are taken to be local in {read.zone}, the hall's zone"
        )
    if read.unsure:
        notes.append(f"{path}: {read.unsure}")


def _carbon(hall: Hall, asked: Asked, prices: Series, notes: list[str]) -> list[int | None]:
    """The mean intensity of every interval of the prices."""
    if asked.carbon is None:
        return [0] * len(prices.starts_ms)
    path = asked.carbon.path
    if raw := _document(path):
        series = parse_carbon(raw, str(path), asked.gaps)
    elif not asked.carbon.column:
        raise _unnamed("--carbon-column", path, "the carbon intensity")
    else:
        column, times = asked.carbon.column, asked.carbon_time_column
        read = read_series(path, column, asked.zone, hall.zone, times, asked.gaps, "--carbon-time-column")
        _told(path, read, notes)
        series = read.series
    notes.extend(one.line() for one in series.oddities)
    if min(series.micros) < 0:
        raise bad(str(path), "a carbon intensity below nothing.", "Give grams of CO2e per kWh.")
    return aligned(series, prices.starts_ms, prices.length_ms)


def _paid(
    hall: Hall, folder: Path, starts_ms: Sequence[int], gaps: Gaps, notes: list[str]
) -> list[tuple[int, ...]]:
    columns: dict[Quote, list[int]] = {}
    for quote in hall.quotes():
        if quote not in columns:
            columns[quote] = _quoted(hall, quote, folder, starts_ms, gaps, notes)
    return list(zip(*(columns[quote] for quote in hall.quotes()), strict=True))


def _quoted(
    hall: Hall, quote: Quote, folder: Path, starts_ms: Sequence[int], gaps: Gaps, notes: list[str]
) -> list[int]:
    if not quote.file:
        return [quote.constant_micros] * len(starts_ms)
    path = folder / quote.file
    read = read_points(path, quote.column, "", hall.zone, option="")
    points, repeated = once(read.points)
    if gaps == "refuse":
        refuse(repeated)
    for point in points:
        if point.micros < 0:
            raise bad(point.where, f"{quote.column} is below nothing.", "Correct the line or leave it out.")
    _told(path, read, notes)
    notes.extend(f"{one.where}: repeats {moment(one.from_ms)}: {one.done}" for one in repeated)
    notes.extend(f"{where}: no {quote.column}: the quote before it is held" for where in read.empty)
    found = latest(points, starts_ms)
    if found[0] is None:
        message = f"it says nothing of {moment(starts_ms[0])}, when the prices begin."
        raise bad(str(path), message, "Give a longer file.")
    notes.extend(_stale(found, starts_ms))
    return [point.micros if point is not None else 0 for point in found]


def _stale(quotes: Sequence[Point | None], starts_ms: Sequence[int]) -> list[str]:
    """Quotes that are held for long, each once: until when, and for how many days."""
    held = {point: at_ms for point, at_ms in zip(quotes, starts_ms, strict=True) if point is not None}
    return [
        f"{point.where}: the quote of {moment(point.start_ms)} is held for {(at_ms - point.start_ms) // MS_PER_DAY} days, "
        f"to {moment(at_ms)}"
        for point, at_ms in held.items()
        if at_ms - point.start_ms > STALE_DAYS * MS_PER_DAY
    ]


def _doubted(
    hall: Hall, prices: list[int], paid: list[tuple[int, ...]], unit: str, asked: Asked, notes: list[str]
) -> None:
    """A price that is many times what the best machine earns is one in another unit; refused unless the unit was given."""
    earned = [hall.values_micros_per_mwh(quotes) for quotes in set(paid)]
    best = max(max(values[len(hall.ai) :] or values) for values in earned)
    wrong, words = doubt(prices, best, unit)
    if wrong and not asked.unit:
        raise HeadraceError(
            bad(str(asked.prices.path), f"{words}.", "Say the unit with --unit, if it is that.").problem
        )
    if words:
        notes.append(f"{words}: is that the unit?")


def _stretches(series: Series, carbon: Sequence[int | None]) -> list[tuple[int, int]]:
    found = []
    for first, last in series.stretches():
        begun = None
        for number in range(first, last + 1):
            has = number < last and carbon[number] is not None
            if has and begun is None:
                begun = number
            elif not has and begun is not None:
                found.append((begun, number))
                begun = None
    return found


def _document(path: Path) -> bytes:
    """What stands in a file that looks like XML; nothing of any other."""
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
        return path.read_bytes() if start.startswith(b"<") else b""
    except OSError as error:
        message = f"can't read it: {(error.strerror or 'unknown error').lower()}."
        raise bad(str(path), message, "Check the path and the rights of the file.") from None
