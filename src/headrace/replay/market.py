"""From files to the market of a hall: prices, carbon and what work is paid, brought onto the same intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.core.errors import HeadraceError
from headrace.core.power.hall import Hall, Quote
from headrace.replay.power import Market
from headrace.signals.entsoe import parse_carbon, parse_prices
from headrace.signals.series import Gaps, Series, aligned, bad, latest, moment
from headrace.signals.table import read_points, read_series
from headrace.signals.units import doubt, per_mwh, price_unit


@dataclass(frozen=True, slots=True)
class Source:
    """A file of values: a CSV file's ``column``, or (``column`` "") a document of ENTSO-E."""

    path: Path
    column: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to read: prices in ``unit`` ("": as they or the hall say), carbon or None; ``zone`` of times without an offset."""

    prices: Source
    unit: str = ""
    carbon: Source | None = None
    zone: str = ""
    time_column: str = ""
    gaps: Gaps = "hold"


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
    carbon = _carbon(hall, asked, series.starts_ms, notes)
    paid = _paid(hall, folder, series.starts_ms)
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
    used = sum(len(one.starts_ms) for one in stretches)
    if used < len(series.starts_ms):
        notes.append(
            f"{len(series.starts_ms) - used} of {len(series.starts_ms)} intervals have no carbon intensity and are left out"
        )
    return Found(tuple(stretches), unit, tuple(notes))


def _prices(hall: Hall, asked: Asked, notes: list[str]) -> tuple[Series, str]:
    path = asked.prices.path
    if raw := _document(path):
        found = parse_prices(raw, str(path), gaps=asked.gaps)
        notes.extend(one.line() for one in found.series.oddities)
        return found.series, price_unit(asked.unit, found.unit, "")
    if not asked.prices.column:
        raise bad("--column", f"nobody says which column of {path} has the prices.", "Name it.")
    read = read_series(path, asked.prices.column, asked.zone, hall.zone, asked.time_column, asked.gaps)
    if read.assumed:
        notes.append(
            f"{path}: times have no offset, and are taken to be local in {read.zone}, the hall's zone"
        )
    notes.extend(one.line() for one in read.series.oddities)
    return read.series, price_unit(asked.unit, asked.prices.column, hall.price_unit)


def _carbon(hall: Hall, asked: Asked, starts_ms: Sequence[int], notes: list[str]) -> list[int | None]:
    if asked.carbon is None:
        return [0] * len(starts_ms)
    path = asked.carbon.path
    if raw := _document(path):
        series = parse_carbon(raw, str(path), asked.gaps)
    elif not asked.carbon.column:
        raise bad(
            "--carbon-column", f"nobody says which column of {path} has the carbon intensity.", "Name it."
        )
    else:
        series = read_series(path, asked.carbon.column, asked.zone, hall.zone, "", asked.gaps).series
    notes.extend(one.line() for one in series.oddities)
    if min(series.micros) < 0:
        raise bad(str(path), "a carbon intensity below nothing.", "Give grams of CO2e per kWh.")
    return aligned(series, starts_ms)


def _paid(hall: Hall, folder: Path, starts_ms: Sequence[int]) -> list[tuple[int, ...]]:
    columns: dict[Quote, list[int]] = {}
    for quote in hall.quotes():
        if quote not in columns:
            columns[quote] = _quoted(hall, quote, folder, starts_ms)
    return list(zip(*(columns[quote] for quote in hall.quotes()), strict=True))


def _quoted(hall: Hall, quote: Quote, folder: Path, starts_ms: Sequence[int]) -> list[int]:
    if not quote.file:
        return [quote.constant_micros] * len(starts_ms)
    path = folder / quote.file
    values = latest(read_points(path, quote.column, "", hall.zone).points, starts_ms)
    if values[0] is None:
        raise bad(
            str(path),
            f"it says nothing of {moment(starts_ms[0])}, when the prices begin.",
            "Give a longer file.",
        )
    return [value if value is not None else 0 for value in values]


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
