"""``headrace replay event``, ``carbon`` and ``year``: what flexibility is worth, on published curves and series."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from headrace.cli import replay as traces
from headrace.cli.common import print_table, say
from headrace.cli.replay import AS_JSON, DATA_DIR, found
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.power.shifting import MOST_WINDOW_HOURS
from headrace.documents.event import load_event
from headrace.documents.values import Bad, price_micros
from headrace.replay import carbon as carbon_series
from headrace.replay import event as grid_event
from headrace.replay import year as estate_year
from headrace.replay import year_files

app = traces.app

CLUSTER = "emerald_phoenix/cluster.yaml"
CURVES = "emerald_phoenix/dvfs_sweep.csv"
CARBON = "carbon_2022/ci_hourly_2022.csv"
SHOWN_NOTES = 20


@traces.replay.command()
def event(
    cluster: str | None = typer.Option(
        None, help="The event and its jobs, as it is or in the data directory."
    ),
    curves: str | None = typer.Option(None, help="Power and throughput under power caps, the same way."),
    credit: str = typer.Option(
        "modelled", help="What a cap counts for: modelled (the curve), or enforced (the cap itself)."
    ),
    measured_caps: bool = typer.Option(
        False, "--measured-caps", help="Only caps that were measured, none between them."
    ),
    data: Path | None = DATA_DIR,
    as_json: bool = AS_JSON,
) -> None:
    """A demand-response event: which caps keep the target, and what is achieved under them."""
    told, table = found(cluster, "--cluster", data, CLUSTER), found(curves, "--curves", data, CURVES)
    if credit not in ("modelled", "enforced"):
        raise _bad("--credit", f"{credit!r} is neither modelled nor enforced.", "Say which.")
    played = grid_event.play(
        load_event(told), table, "modelled" if credit == "modelled" else "enforced", measured_caps
    )
    _show({"cluster": told.name, "curves": table.name} | played.figures(), as_json)


@traces.replay.command()
def carbon(
    series: str | None = typer.Option(
        None, help="Hourly carbon intensity, a column for each zone; as it is or in the data directory."
    ),
    zones: str = typer.Option("", help="Columns, with commas between them [default: all]."),
    length: int = typer.Option(24, min=1, help="Hours that a job needs."),
    window: int = typer.Option(168, min=1, max=MOST_WINDOW_HOURS, help="Hours that it may take to get them."),
    data: Path | None = DATA_DIR,
    as_json: bool = AS_JSON,
) -> None:
    """Interruptible jobs that wait for hours of little carbon, with a forecast that knows the past alone."""
    path = found(series, "--series", data, CARBON)
    if length > window:
        raise _bad("--length", f"{length} hours don't fit into {window}.", "Give a longer --window.")
    names = [name.strip() for name in zones.split(",") if name.strip()]
    _show({"series": path.name} | carbon_series.replay(path, names, length, window).figures(), as_json)


@traces.replay.command()
def year(  # noqa: PLR0913, PLR0917
    estate: Path = typer.Option(
        ..., help="A file with the estate, and its contracts and price plans if it has any."
    ),
    prices: str | None = typer.Option(
        None, help="Prices of energy, a column for each zone [default: as declared]."
    ),
    carbon: str | None = typer.Option(
        None, help="Carbon intensity in g/kWh, the same way [default: as declared]."
    ),
    price_column: list[str] = typer.Option([], help="SITE=COLUMN or ZONE=COLUMN; may be given again."),
    unit: str = typer.Option(
        "", help="That of prices: nok_per_kwh, eur_per_mwh... [default: as columns say]."
    ),
    exchange: list[str] = typer.Option([], help="NOK/GBP=0.075: one NOK is 0.075 GBP; may be given again."),
    hall: list[str] = typer.Option(
        [], help="SITE=HALL.yaml: its miners stand at this site; may be given again."
    ),
    instructions: Path | None = typer.Option(None, help="A CSV file of site, from, until, limit."),
    let: int = typer.Option(100, min=0, max=100, help="Percent that are let of what no contract holds."),
    load: int = typer.Option(
        100, min=0, max=100, help="Percent of its way from idle to nameplate that is drawn."
    ),
    shed: int = typer.Option(
        0, min=0, max=100, help="Percent of that which instructions may shed, after miners."
    ),
    year: int = typer.Option(0, "--year", help="Which year [default: the first with a commissioned block]."),
    series_year: int = typer.Option(0, help="Which year of the series [default: their first]."),
    data: Path | None = DATA_DIR,
    as_json: bool = AS_JSON,
) -> None:
    """A year of an estate, hour by hour: energy, money and carbon of each site and month. Simulated."""
    asked = year_files.Asked(
        estate,
        found(prices, "--prices", data, "") if prices else None,
        found(carbon, "--carbon", data, "") if carbon else None,
        _pairs(price_column, "--price-column"),
        unit,
        _rates(exchange),
        {site: Path(path) for site, path in _pairs(hall, "--hall").items()},
        instructions,
        _year(year, "--year"),
        _year(series_year, "--series-year"),
    )
    read = year_files.read_year(asked)
    assumed = estate_year.Assumptions(10 * let, 10 * load, 10 * shed)
    done = estate_year.simulate(
        read.estate, read.plans, read.contracts, read.price_plans, read.starts_ms, assumed
    )
    head = {"estate": read.estate.operator.id, "year": read.year, "series_year": read.series_year}
    percent = {"let_percent": let, "load_percent": load, "shed_percent": shed}
    _show(head | percent | done.figures() | {"notes": list(read.notes)}, as_json)


def _pairs(given: list[str], option: str) -> dict[str, str]:
    found_pairs = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise _bad(option, f"{one!r} is no pair.", "Write it like NAME=VALUE.")
        found_pairs[name.strip()] = value.strip()
    return found_pairs


def _rates(given: list[str]) -> dict[tuple[str, str], int]:
    rates = {}
    for pair, value in _pairs(given, "--exchange").items():
        of, slash, into = pair.upper().partition("/")
        try:
            micros = price_micros(value)
        except Bad as wrong:
            raise _bad("--exchange", wrong.message, wrong.next_step) from None
        if not (slash and of and into and micros):
            raise _bad("--exchange", f"{pair}={value} is no rate.", "Write it like NOK/GBP=0.075.")
        rates[of, into] = micros
    return rates


def _year(given: int, option: str) -> int:
    if given and not 1990 <= given <= 2100:
        raise _bad(option, f"{given} is no year that can be meant.", "Give one from 1990 to 2100.")
    return given


def _show(figures: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        say(json.dumps(figures))
        return
    notes = figures.get("notes", [])
    rows = _rows({name: value for name, value in figures.items() if name != "notes"})
    print_table(("figure", "value"), rows, "nothing", ("value",))
    for note in notes[:SHOWN_NOTES]:
        say(f"note: {note}")
    if len(notes) > SHOWN_NOTES:
        say(f"note: and {len(notes) - SHOWN_NOTES} more")


def _rows(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{above}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, one in enumerate(value, 1):
                yield from _rows(one, f"{above}{name}.{number}.")
        else:
            yield f"{above}{name}", value


def _bad(where: str, message: str, step: str) -> HeadraceError:
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where))
