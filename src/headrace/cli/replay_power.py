"""``headrace replay power``: a hall of miners and accelerators through the prices of years."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import typer

from headrace.cli.common import print_table, say
from headrace.cli.replay import AS_JSON, DATA_DIR, app, found, replay
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.power.hall import MJ_PER_MWH
from headrace.core.power.threshold import ALWAYS
from headrace.core.units import MICROS, MS_PER_MINUTE, format_money
from headrace.documents.hall import load_hall
from headrace.replay.market import Asked, Found, Source, read_market
from headrace.replay.power import POLICIES, Market, Played, followed, policies_of
from headrace.replay.power import replay as run
from headrace.signals.entsoe import RESOLUTIONS
from headrace.signals.series import moment

UG_PER_TONNE = 10**12
SHOWN_NOTES = 20
__all__ = ["app", "power"]


@replay.command()
def power(  # noqa: PLR0913, PLR0917
    hall: Path = typer.Option(..., help="The hall, as in examples/halls."),
    prices: str = typer.Option(..., help="Prices of energy: a CSV file, or an XML document of ENTSO-E."),
    column: str = typer.Option("", help="The column of a CSV file that has the prices."),
    unit: str = typer.Option(
        "",
        help="Theirs: nok_per_kwh, eur_per_mwh... [default: the column's name, else the hall's price_unit].",
    ),
    carbon: str | None = typer.Option(None, help="Carbon intensity in g/kWh: CSV, or generation by ENTSO-E."),
    carbon_column: str = typer.Option("", help="The column that has it."),
    time_column: str = typer.Option("", help="The prices' column of times [default: found by its name]."),
    carbon_time_column: str = typer.Option("", help="The carbon file's [default: found by its name]."),
    resolution: str = typer.Option(
        "", help="PT60M, PT30M or PT15M, where a document of ENTSO-E has prices of several."
    ),
    time_zone: str = typer.Option(
        "", help="The zone of times without an offset [default: as the column says, else the hall's]."
    ),
    gaps: str = typer.Option("hold", help="Missing or repeated intervals: hold (and say so), or refuse."),
    out: Path | None = typer.Option(None, help="Write the dispatch, interval by interval, to this CSV file."),
    of: str = typer.Option(
        "", help="Whose dispatch: greedy, look_ahead, foresight... [default: what is followed]."
    ),
    data: Path | None = DATA_DIR,
    as_json: bool = AS_JSON,
) -> None:
    """A hall on a connection through a file of prices: what was earned, and what was possible."""
    if gaps not in ("hold", "refuse"):
        raise _bad("--gaps", f"{gaps!r} is neither hold nor refuse.", "Say which.")
    if time_zone and time_zone not in available_timezones():
        raise _bad("--time-zone", f"no time zone {time_zone!r}.", "Write an IANA name, like Europe/Oslo.")
    if resolution and resolution not in RESOLUTIONS:
        raise HeadraceError(unknown("resolution", resolution, RESOLUTIONS))
    if of:
        _known(of, POLICIES)
    if out is not None:
        _check(out)
    declared = load_hall(hall)
    source = Source(found(prices, "--prices", data, ""), column)
    weighed = Source(found(carbon, "--carbon", data, ""), carbon_column) if carbon is not None else None
    asked = Asked(
        source, unit, weighed, time_zone, time_column, "refuse" if gaps == "refuse" else "hold",
        carbon_time_column, resolution,
    )  # fmt: skip
    market = read_market(declared, hall.parent, asked)
    if of:
        _known(of, policies_of(followed(declared, market.stretches[0].length_ms)))
    played = run(declared, market.stretches)
    if out is not None:
        _write(out, played, market.stretches, of or played.chosen)
    figures = _figures(played, market, source)
    if as_json:
        say(json.dumps(figures))
    else:
        _show(played, market, figures)


def _figures(played: Played, market: Found, source: Source) -> dict[str, Any]:
    stretches = market.stretches
    # Whoever came nearest: what is possible lies between that and the bound.
    foresight = max(account.gain_micros for account in played.policies.values())
    gap = None if played.ratio() is None else (played.optimum_micros - foresight) / played.optimum_micros
    last = stretches[-1]
    return {
        "hall": played.hall.name,
        "prices": source.path.name,
        "column": source.column,
        "unit": market.unit,
        "currency": played.hall.currency,
        "from": moment(stretches[0].starts_ms[0]),
        "until": moment(last.starts_ms[-1] + last.length_ms),
        "intervals": sum(len(one.starts_ms) for one in stretches),
        "interval_minutes": last.length_ms // MS_PER_MINUTE,
        "stretches": len(stretches),
        "policy": played.chosen,
        "profit": played.profit_micros / MICROS,
        "optimum_profit": played.optimum_micros / MICROS,
        "ratio": _rounded(played.ratio()),
        "optimum_gap": None if gap is None else round(gap, 9),
        "optimum_how": played.how,
        "always_on": played.policies["always_on"].gain_micros / MICROS,
        "best_threshold": played.policies["best_threshold"].gain_micros / MICROS,
        "best_threshold_per_mwh": None
        if played.threshold_micros >= ALWAYS
        else played.threshold_micros / MICROS,
        "policies": {name: _policy(played, name, stretches) for name in played.policies},
        "look_ahead_over_greedy": _over_greedy(played),
        "plans": played.plans,
        "notes": list(market.notes),
        "wall_s": round(played.wall_s, 2),
    }


def _policy(played: Played, name: str, stretches: tuple[Market, ...]) -> dict[str, Any]:
    account = played.policies[name]
    return {
        "profit": account.gain_micros / MICROS,
        "ratio": _rounded(played.ratio(name)),
        "earned": account.earned_micros / MICROS,
        "energy_cost": account.energy_micros / MICROS,
        "restart_cost": account.restart_micros / MICROS,
        "energy_mwh": round(account.energy_mj / MJ_PER_MWH, 3),
        "carbon_tonnes": round(_carbon_ug(played, name, stretches) / UG_PER_TONNE, 3),
    }


def _carbon_ug(played: Played, name: str, stretches: tuple[Market, ...]) -> int:
    loads = played.hall.loads()
    intensities = (value for one in stretches for value in one.carbon)
    lengths = (one.length_ms for one in stretches for _ in one.starts_ms)
    # Micrograms per kWh times millijoules: 3.6 x 10^9 of the product are a microgram.
    total = sum(
        intensity * length_ms * sum(load.draw_w * count for load, count in zip(loads, counts, strict=True))
        for counts, intensity, length_ms in zip(
            played.policies[name].counts, intensities, lengths, strict=True
        )
        if intensity
    )
    return total // (MJ_PER_MWH // 1_000)


def _over_greedy(played: Played) -> float | None:
    """By what part the look-ahead earns more than greedy; None where it isn't used, or greedy earns nothing."""
    greedy = played.policies["greedy"].gain_micros
    if played.chosen == "greedy" or greedy <= 0:
        return None
    return round(played.profit_micros / greedy - 1, 6)


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 9)


def _show(played: Played, market: Found, figures: dict[str, Any]) -> None:
    currency = played.hall.currency
    rows = []
    for name, account in played.policies.items():
        ratio = played.ratio(name)
        rows.append(
            (
                f"{name} *" if name == played.chosen else name,
                format_money(account.gain_micros // 10_000 * 10_000, currency),
                "" if ratio is None else f"{100 * ratio:.3f} %",
                f"{account.energy_mj / MJ_PER_MWH:,.0f}",
            )
        )
    rows.append(
        ("most possible", format_money(played.optimum_micros // 10_000 * 10_000, currency), "100 %", "")
    )
    print_table(("policy", "profit", "of the most", "MWh"), rows, "nothing", ("profit", "of the most", "MWh"))
    say(
        f"{figures['intervals']} intervals from {figures['from']} to {figures['until']}, prices in {market.unit}; * is followed."
    )
    for note in market.notes[:SHOWN_NOTES]:
        say(f"note: {note}")
    if len(market.notes) > SHOWN_NOTES:
        say(f"note: and {len(market.notes) - SHOWN_NOTES} more")


def _known(policy: str, played: Sequence[str]) -> None:
    """Raise HeadraceError for a policy that isn't played, and name those that are."""
    if policy not in played:
        raise HeadraceError(unknown("policy", policy, played))


def _check(path: Path) -> None:
    """Raise HeadraceError for a file that can't be written, before anything is computed for it. Nothing is left behind."""
    try:
        # What is no regular file, like a pipe, may wait for its reader: only writing tells.
        if path.is_file():
            path.open("ab").close()
        elif not path.exists() or path.is_dir():
            path.open("xb").close()
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> HeadraceError:
    reason = "it is a folder" if path.is_dir() else error.strerror
    return _bad("--out", f"can't write {path}: {reason}.", "Give a file in a folder that is there.")


def _write(path: Path, played: Played, stretches: tuple[Market, ...], policy: str) -> None:
    """The dispatch: a row for each interval, with the machines of each load that are on."""
    loads = played.hall.loads()
    head = [
        "start",
        "minutes",
        "stretch",
        "price_per_mwh",
        "cost_per_mwh",
        *(load.name for load in loads),
        "draw_w",
    ]
    counts = iter(played.policies[policy].counts)
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            for number, (market, intervals) in enumerate(zip(stretches, played.intervals, strict=True)):
                for price, one in zip(market.prices, intervals, strict=True):
                    on = next(counts)
                    draw = sum(load.draw_w * count for load, count in zip(loads, on, strict=True))
                    minutes = one.length_ms // MS_PER_MINUTE
                    cost = one.cost_micros_per_mwh / MICROS
                    writer.writerow([moment(one.start_ms), minutes, number, price / MICROS, cost, *on, draw])
    except OSError as error:
        raise _unwritable(path, error) from None


def _bad(where: str, message: str, step: str) -> HeadraceError:
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where))
