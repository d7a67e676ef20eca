"""Values of ownership as people write them: shares and dates, turned into the core's."""

import re
from fractions import Fraction

from headrace.core.sovereignty.holdings import UNKNOWN, WHOLE_PPM, Share
from headrace.core.units import ceil_div
from headrace.documents.source import show
from headrace.documents.values import Bad

_PART = r"([0-9]{1,3}(?:\.[0-9]{1,30})?)\s*%?"
_EXACT = re.compile(_PART)
_RANGE = re.compile(rf"(>?)\s*{_PART}\s*\.\.\s*(<?)\s*{_PART}")
_ONE_SIDED = re.compile(rf"(>=|<=|>|<)\s*{_PART}")
_FRACTION = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{1,9})")
_STEP = "Write it like 25%, 25%..50%, >25%..50%, >=75%, 1/3 or unknown."


def share(value: object) -> Share:
    """A part of a whole: ``25%``, ``25%..50%``, ``>25%..50%``, ``>=75%``, ``1/3`` or ``unknown``; what is finer than
    a ppm is widened.
    """
    if value == "unknown":
        return UNKNOWN
    if not isinstance(value, str) or "%" not in value + "%" * bool(_FRACTION.fullmatch(str(value))):
        raise Bad(f"{show(value)} is not a share.", _STEP)
    text = value.strip()
    if match := _FRACTION.fullmatch(text):
        if not int(match[2]):
            raise Bad(f"{show(value)} is not a share.", _STEP)
        return span(
            Fraction(int(match[1]), int(match[2])) * 100, Fraction(int(match[1]), int(match[2])) * 100
        )
    if match := _EXACT.fullmatch(text):
        return span(Fraction(match[1]), Fraction(match[1]))
    if match := _RANGE.fullmatch(text):
        return span(Fraction(match[2]), Fraction(match[4]), above=bool(match[1]), below=bool(match[3]))
    if match := _ONE_SIDED.fullmatch(text):
        percent = Fraction(match[2])
        if match[1].startswith(">"):
            return span(percent, Fraction(100), above=match[1] == ">")
        return span(Fraction(0), percent, below=match[1] == "<")
    raise Bad(f"{show(value)} is not a share.", _STEP)


def span(least: Fraction, most: Fraction, *, above: bool = False, below: bool = False) -> Share:
    """Bounds in per cent as a share; ``above`` and ``below``: a bound is not included. Raises Bad for what can't be."""
    low = least * WHOLE_PPM / 100
    high = most * WHOLE_PPM / 100
    least_ppm = low.numerator // low.denominator + above
    most_ppm = ceil_div(high.numerator, high.denominator) - below
    if least > 100 or most > 100:
        raise Bad(f"{float(max(least, most)):g} % is more than all.", "At most 100 %.")
    if least < 0 or least_ppm > most_ppm:
        raise Bad(
            f"a share from {float(least):g} to {float(most):g} % can't be.", "Write the smaller bound first."
        )
    return Share(least_ppm, most_ppm)


def amount_of_cap(amount: int, cap: int) -> Share:
    """What a post-money SAFE becomes: its amount of the cap, all capital included; rounded outwards."""
    part = Fraction(amount, cap)
    return span(part * 100, part * 100)
