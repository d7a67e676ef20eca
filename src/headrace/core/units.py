"""Units, exact arithmetic and the parsing of quantities.

Units end names everywhere: ``_ms`` milliseconds, ``_w`` watts, ``energy_mj`` millijoules (watt x millisecond is
exactly a millijoule), ``carbon_ug`` micrograms of CO2 equivalent, ``_micros`` millionths of a currency unit.
All of them are integers.
"""

import re
from fractions import Fraction
from math import ceil

MS_PER_SECOND = 1_000
MS_PER_MINUTE = 60_000
MS_PER_HOUR = 3_600_000
MS_PER_DAY = 86_400_000
MJ_PER_WH = 3_600_000
MJ_PER_KWH = 3_600_000_000
MICROS = 1_000_000
PERMILLE = 1_000

_DURATION = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_POWER = {"w": 1, "kw": 1_000, "mw": 1_000_000, "gw": 1_000_000_000}
_MEMORY_BYTES = {"mb": 10**6, "gb": 10**9, "tb": 10**12, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SMALL_M = re.compile(r"[\s0-9.]*m[wW]\s*")
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")


def div_half_even(numerator: int, denominator: int) -> int:
    """Divide integers, rounding halves to the even neighbour (banker's rounding); ``denominator`` must be positive."""
    if denominator <= 0:
        raise ValueError(f"denominator must be positive, not {denominator}")
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide integers, rounding up."""
    return -(-numerator // denominator)


def facility_watts(it_w: int, pue_permille: int) -> int:
    """Watts at the grid connection for ``it_w`` watts of IT load; rounded up, since a limit must hold."""
    return ceil_div(it_w * pue_permille, PERMILLE)


def carbon_ug(energy_mj: int, g_per_kwh: int) -> int:
    """Micrograms of CO2e of an energy, at a grid intensity in grams per kWh; half-even."""
    return div_half_even(energy_mj * g_per_kwh * MICROS, MJ_PER_KWH)


def parse_duration_ms(text: str) -> int:
    """``"90s"``, ``"2h"``, ``"1h30m"`` or ``"2d"`` in milliseconds; raises ValueError that shows the form."""
    rest, total = text.strip(), 0
    part = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
    while rest:
        match = part.match(rest)
        if match is None:
            raise ValueError(f"no duration: {text!r}; write it like 90s, 30m, 2h, 1h30m or 2d")
        total += round(Fraction(match[1]) * _DURATION[match[2]])
        rest = rest[match.end() :]
    if total <= 0:
        raise ValueError(f"no duration: {text!r}; it must be more than zero, like 90s, 30m or 2h")
    return total


def parse_watts(text: str) -> int:
    """``"50 MW"``, ``"12kW"`` or ``"700 W"`` in watts; raises ValueError that shows the form.

    ``mW`` and ``mw`` are refused: whoever writes them may mean a thousandth of a watt, or a million.
    """
    if _SMALL_M.fullmatch(text):
        raise ValueError(
            f"not a power: {text!r} may be a thousandth of a watt, or a million; write MW, kW or W"
        )
    return round(_quantity(text, _POWER, "a power", "700 W, 12 kW or 50 MW"))


def parse_memory_mb(text: str) -> int:
    """``"64GB"`` or ``"512MiB"`` in megabytes (10^6 bytes), rounded up; raises ValueError that shows the form."""
    return ceil(_quantity(text, _MEMORY_BYTES, "a size of memory", "512MB, 64GB or 2TiB") / 10**6)


def _quantity(text: str, table: dict[str, int], what: str, example: str) -> Fraction:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2].lower() not in table:
        raise ValueError(f"not {what}: {text!r}; write it like {example}")
    return Fraction(match[1]) * table[match[2].lower()]


def format_watts(watts: int) -> str:
    """A power for people, in four digits: ``"290 MW"``, ``"10.2 kW"``, ``"700 W"``."""
    for unit, size in (("GW", 10**9), ("MW", 10**6), ("kW", 10**3)):
        # From 999.95 on, four digits of the smaller unit would read 1000.
        if abs(watts) >= size - size // 20_000:
            return f"{watts / size:.4g} {unit}"
    return f"{watts} W"


def format_duration(duration_ms: int) -> str:
    """A duration for people: ``"2d 3h"``, ``"1h 5m"``, ``"12.3s"``."""
    if duration_ms < MS_PER_MINUTE:
        return f"{duration_ms // 100 / 10:.1f}s"
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, duration_ms = divmod(duration_ms, _DURATION[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def format_money(amount_micros: int, currency: str) -> str:
    """An amount with six decimals cut to what is needed, at least two: ``"12.50 NOK"``."""
    sign = "-" if amount_micros < 0 else ""
    whole, part = divmod(abs(amount_micros), MICROS)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole:,}.{decimals} {currency}"
