"""Units of prices: a currency per kWh or MWh, as ``nok_per_kwh``; and what is told about a wrong one."""

import re
from collections.abc import Mapping
from statistics import median

from headrace.core.errors import did_you_mean
from headrace.core.units import MICROS, div_half_even
from headrace.signals.series import Series, bad

_UNIT = re.compile(r"([a-z]{3})_per_([km])wh")
COMMON = ("nok_per_kwh", "eur_per_mwh", "usd_per_mwh")
ABSURD = 20
"""So many times what a MWh can earn no market's median price is: the unit is another."""
TINY = 1_000


def unit_in(column: str) -> str:
    """The unit that a column's name is, or ends with; "" when it says none."""
    found = re.search(r"(?:^|[^a-z])([a-z]{3}_per_[km]wh)$", column.lower())
    if found:
        return found[1]
    words = re.search(r"\b(eur|usd|nok|sek|dkk|gbp|pln|chf) ?/ ?([km])wh\b", column.lower())
    return f"{words[1]}_per_{words[2]}wh" if words else ""


def price_unit(given: str, column: str, declared: str) -> str:
    """Which unit a column of prices is in: as given, else as its name says, else as the hall declares.

    HeadraceError for none, for one that is no unit, and where what is given contradicts the column's name.
    """
    named = unit_in(column)
    if given and named and given.lower() != named:
        step = f"Leave out --unit, or give --unit {named}."
        raise bad("--unit", f"{given} is asked for, but the column {column!r} is in {named}.", step)
    unit = (given or named or declared).lower()
    if not unit:
        raise bad("--unit", f"nobody says which unit {column!r} is in.", f"Give one: {', '.join(COMMON)}.")
    if not _UNIT.fullmatch(unit):
        raise bad("--unit", f"no unit of prices {unit[:60]!r};", did_you_mean(unit[:60], COMMON))
    return unit


def per_mwh(series: Series, unit: str, currency: str, rates_micros: Mapping[str, int]) -> list[int]:
    """Prices in millionths of ``currency`` per MWh; HeadraceError when no rate is stated for the unit's own currency."""
    found = _UNIT.fullmatch(unit)
    if found is None:
        raise ValueError(unit)
    own, size = found[1].upper(), 1_000 if found[2] == "k" else 1
    if own != currency and own not in rates_micros:
        step = f"State what one {own} is in {currency}, as exchange: {{{own}: ...}}."
        raise bad(series.name, f"its prices are in {own}, and the hall states no rate for it.", step)
    rate = MICROS if own == currency else rates_micros[own]
    return [div_half_even(micros * size * rate, MICROS) for micros in series.micros]


def doubt(prices_micros: list[int], best_micros: int, unit: str) -> tuple[bool, str]:
    """Whether a unit can't be right, or (False, words) when it is to be doubted: the median price beside what a MWh earns."""
    middle = median(abs(price) for price in prices_micros)
    if best_micros <= 0 or not middle:
        return False, ""
    times = middle / best_micros
    beside = f"read as {unit}, the median price is {times:.3g} times what a MWh can earn"
    if times > ABSURD:
        return True, beside
    return False, beside if times * TINY < 1 else ""
