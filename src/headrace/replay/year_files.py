"""From files to the year of an estate: which price and which carbon holds at which site in which hour, and who says so.

A series may be of another year than the one that is simulated: then the same hour of the same day of its own year counts, which
is said. Where a file has no column for a site, what the estate declares of it counts, all year.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from headrace.core.contracts import Contract, PricePlan
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.estate import Estate, Site
from headrace.core.power.hall import Hall
from headrace.core.units import MICROS, MS_PER_HOUR
from headrace.documents import load
from headrace.documents.hall import load_hall
from headrace.documents.values import Bad, moment_ms, watts_or_none
from headrace.replay.carbon import close_columns
from headrace.replay.rows import Row, rows_of
from headrace.replay.year import Curtailment, SitePlan, hours_of
from headrace.signals.series import Series, moment
from headrace.signals.table import Table, read_series, read_table
from headrace.signals.units import per_mwh, price_unit

DECLARED = "declared"
"""Where a price or an intensity is from, if it is the estate's own constant."""
MOST_HELD = 48
"""Hours that a value may be held over, where its series has none; beyond that the file doesn't cover the year."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to read. ``columns`` are those of prices by site or grid zone; ``exchange``: (of, into) -> millionths.

    ``series_year`` 0: the first year that the prices cover, or the carbon if there are none. ``year`` 0: the first from then on
    that begins with a commissioned block.
    """

    estate: Path
    prices: Path | None = None
    carbon: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    exchange: Mapping[tuple[str, str], int] = field(default_factory=dict)
    halls: Mapping[str, Path] = field(default_factory=dict)
    instructions: Path | None = None
    year: int = 0
    series_year: int = 0


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a year needs; ``year`` and ``series_year`` are those that were settled on.

    ``notes`` are sentences about what was odd in the files, or counts for nothing in this year.
    """

    estate: Estate
    contracts: tuple[Contract, ...]
    price_plans: Mapping[str, PricePlan]
    plans: tuple[SitePlan, ...]
    starts_ms: tuple[int, ...]
    year: int
    series_year: int
    notes: tuple[str, ...] = ()


def read_year(asked: Asked) -> Inputs:
    """Everything from its files; HeadraceError for what can't be read or meant."""
    values = [document.value for document in load(asked.estate)]
    estates = [value for value in values if isinstance(value, Estate)]
    if not estates:
        raise _bad(
            str(asked.estate), "there is no estate in it.", "Give a file with a document of kind: estate."
        )
    estate = estates[0]
    _known_sites(estate, {**asked.halls}, "--hall")
    prices = read_table(asked.prices) if asked.prices else None
    carbon = read_table(asked.carbon) if asked.carbon else None
    series_year = asked.series_year or (
        _first_year(table) if (table := prices or carbon) is not None else _said(asked.year)
    )
    year = asked.year or _year_of(estate, series_year)
    starts_ms = hours_of(year, estate.operator.zone)
    reader = _Reader(asked, starts_ms, _moved(starts_ms, series_year - year))
    told = _instructions(asked.instructions, estate) if asked.instructions else {}
    plans = tuple(_plan(site, reader, prices, carbon, asked, tuple(told.values())) for site in estate.sites)
    if prices is not None and all(plan.sources["prices"] == DECLARED for plan in plans):
        step = "Say which, as --price-column SITE=COLUMN or ZONE=COLUMN."
        raise _bad(
            prices.path,
            f"no column of it is called like the grid zone of a site: {', '.join(prices.columns[1:])}.",
            step,
        )
    return Inputs(
        estate,
        tuple(value for value in values if isinstance(value, Contract)),
        {value.id: value for value in values if isinstance(value, PricePlan)},
        plans,
        starts_ms,
        year,
        series_year,
        (*reader.notes(), *_outside(told, starts_ms, year)),
    )


def _plan(
    site: Site,
    reader: "_Reader",
    prices: Table | None,
    carbon: Table | None,
    asked: Asked,
    told: Sequence[Curtailment],
) -> SitePlan:
    hours = len(reader.starts_ms)
    price, price_from = [site.energy_price_micros_per_kwh * 1_000] * hours, DECLARED
    column = _price_column(site, prices, asked)
    if prices is not None and column:
        price, price_from = reader.price(prices, column, site.currency), f"{Path(prices.path).name}: {column}"
    grams, grams_from = [site.carbon_g_per_kwh * MICROS] * hours, DECLARED
    found = close_columns(carbon, site.grid_zone) if carbon is not None and site.grid_zone else []
    if carbon is not None and len(found) == 1:
        grams, grams_from = reader.carbon(carbon, found[0]), f"{Path(carbon.path).name}: {found[0]}"
    hall = _hall(asked.halls[site.id], site) if site.id in asked.halls else None
    mine = tuple(one for one in told if one.site == site.id)
    return SitePlan(site, price, grams, hall, mine, {"prices": price_from, "carbon": grams_from})


def _price_column(site: Site, prices: Table | None, asked: Asked) -> str:
    if prices is None:
        return ""
    named = asked.columns.get(site.id) or asked.columns.get(site.grid_zone, "")
    if named and named not in prices.columns:
        raise HeadraceError(unknown(f"column of {prices.path}", named, prices.columns))
    if named or not site.grid_zone:
        return named
    found = close_columns(prices, site.grid_zone)
    return found[0] if len(found) == 1 else ""


def _hall(path: Path, site: Site) -> Hall:
    hall = load_hall(path)
    if hall.hashprice.file:
        raise _bad(f"{path} hashprice", "a year wants one hashprice.", "Write a number, like hashprice: 50.")
    try:
        hall.rate_micros(site.currency)
    except KeyError:
        step = f"State it, as exchange: {{{site.currency}: ...}}."
        message = f"{site.id} is in {site.currency}, and the hall, in {hall.currency}, states no rate for it."
        raise _bad(str(path), message, step) from None
    return hall


class _Reader:
    """Columns as values for each hour of the year; each column is read once."""

    def __init__(self, asked: Asked, starts_ms: Sequence[int], looked_up_ms: Sequence[int]) -> None:
        self._asked, self.starts_ms, self._at_ms = asked, starts_ms, looked_up_ms
        self._series: dict[tuple[str, str], Series] = {}
        self._notes: list[str] = []

    def price(self, table: Table, column: str, currency: str) -> list[int]:
        """Prices in millionths of ``currency`` per MWh."""
        series = self._read(table, column)
        unit = price_unit(self._asked.unit, column, "")
        rates = {of: micros for (of, into), micros in self._asked.exchange.items() if into == currency}
        own = unit.partition("_")[0].upper()
        if own != currency and own not in rates:
            step = f"State it: --exchange {own}/{currency}=..."
            raise _bad(
                "--exchange", f"{column} is in {own}, and nobody says what that is in {currency}.", step
            )
        return self._hourly(series, per_mwh(series, unit, currency, rates))

    def carbon(self, table: Table, column: str) -> list[int]:
        """Micrograms per kWh."""
        series = self._read(table, column)
        if min(series.micros) < 0:
            raise _bad(table.path, f"{column} has an intensity below nothing.", "Give grams of CO2e per kWh.")
        return self._hourly(series, series.micros)

    def notes(self) -> list[str]:
        """What was odd in the columns that were read."""
        return self._notes

    def _read(self, table: Table, column: str) -> Series:
        key = (table.path, column)
        if key not in self._series:
            read = read_series(Path(table.path), column, option="")
            self._series[key] = read.series
            if read.assumed:
                self._notes.append(f"{table.path}: times have no offset, and are taken to be in UTC")
            self._notes.extend(f"{one.line()} ({column})" for one in read.series.oddities)
        return self._series[key]

    def _hourly(self, series: Series, values: Sequence[int]) -> list[int]:
        """The mean of every hour; where there is none, the last one is held for a while."""
        sums: dict[int, tuple[int, int]] = {}
        for start_ms, value in zip(series.starts_ms, values, strict=True):
            total, count = sums.get(start_ms // MS_PER_HOUR, (0, 0))
            sums[start_ms // MS_PER_HOUR] = total + value, count + 1
        found: list[int] = []
        missing = 0
        for at_ms in self._at_ms:
            total, count = sums.get(at_ms // MS_PER_HOUR, (0, 0))
            missing = 0 if count else missing + 1
            if missing > (MOST_HELD if found else 1):
                when = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat()
                raise _bad(
                    series.name,
                    f"it says nothing of {when}.",
                    "Give a file that covers the year, or another --series-year.",
                )
            found.append(round(total / count) if count else found[-1] if found else next(iter(values)))
        return found


def _moved(starts_ms: Sequence[int], years: int) -> list[int]:
    """The same hours of the same days of another year; of a 29 February that it doesn't have, those of the 28th."""
    if not years:
        return list(starts_ms)
    found = []
    for at_ms in starts_ms:
        at = datetime.fromtimestamp(at_ms / 1_000, UTC)
        try:
            moved = at.replace(year=at.year + years)
        except ValueError:
            moved = at.replace(year=at.year + years, day=28)
        found.append(int(moved.timestamp()) * 1_000)
    return found


def _said(year: int) -> int:
    if not year:
        raise _bad("--year", "nobody says which year.", "Give --year, or a file of prices or carbon.")
    return year


def _first_year(table: Table) -> int:
    """The first year of which a file has the middle."""
    path = Path(table.path)
    for column in table.columns[1:]:
        try:
            starts = read_series(path, column, option="").series.starts_ms
        except HeadraceError:
            continue
        first = datetime.fromtimestamp(starts[0] / 1_000, UTC)
        return first.year if (first.month, first.day) < (7, 1) else first.year + 1
    raise _bad(str(path), "no column of it can be read.", "Give a CSV file with times and values.")


def _year_of(estate: Estate, earliest: int) -> int:
    """The first year, not before ``earliest``, on whose first day something is commissioned that can run; else ``earliest``."""
    days = [
        block.commissioned
        for site in estate.sites
        if site.country and site.connection.total_w
        for block in site.blocks
        if block.commissioned and block.groups
    ]
    if not days:
        return earliest
    first = min(days)
    return max(earliest, int(first[:4]) + (first[5:] != "01-01"))


def _instructions(path: Path, estate: Estate) -> dict[str, Curtailment]:
    """What a file instructs, by where it stands."""
    rows = rows_of(path, ("site", "from", "until", "limit"), "Give a table of site, from, until, limit.")
    found = {row.where: _curtailment(row) for row in rows}
    _known_sites(estate, {one.site: where for where, one in found.items()}, "")
    return found


def _outside(told: Mapping[str, Curtailment], starts_ms: Sequence[int], year: int) -> Iterator[str]:
    """Instructions that no hour of the year sees, or not all of which it sees."""
    first_ms, end_ms = starts_ms[0], starts_ms[-1] + MS_PER_HOUR
    for where, one in told.items():
        span = f"{moment(one.from_ms)} to {moment(one.until_ms)}"
        if one.until_ms <= first_ms or end_ms <= one.from_ms:
            yield f"{where}: {span} is not in {year}: this instruction counts for nothing"
        elif one.from_ms < first_ms or end_ms < one.until_ms:
            yield f"{where}: {span} is not all in {year}: only what is counts"


def _curtailment(row: Row) -> Curtailment:
    try:
        from_ms, until_ms = moment_ms(row.text("from").strip()), moment_ms(row.text("until").strip())
        limit_w = watts_or_none(row.text("limit").strip())
    except Bad as wrong:
        raise _bad(row.where, wrong.message, wrong.next_step) from None
    if until_ms <= from_ms:
        raise _bad(row.where, "it ends before it begins.", "Correct the line.")
    return Curtailment(row.text("site").strip(), from_ms, until_ms, limit_w)


def _known_sites(estate: Estate, named: Mapping[str, object], option: str) -> None:
    sites = [str(site.id) for site in estate.sites]
    for name, where in named.items():
        if name not in sites:
            problem = unknown("site", name, sites)
            raise HeadraceError(
                Problem(problem.code, problem.message, problem.next_step, option or str(where))
            )


def _bad(where: str, message: str, step: str) -> HeadraceError:
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where))
