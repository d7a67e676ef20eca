"""Watts at the meter from watts of IT load, and back: by one constant PUE, or by a curve of load and outdoor temperature.

On a curve the PUE is interpolated in load and in temperature, exactly. Below its least load the overhead stays what it is there:
fans and pumps do not stop with the computers. Below its lowest temperature the PUE is that of the lowest, above its highest it
goes on as it rose before. Whatever is rounded is rounded to the safe side: up at the meter, down in IT load.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from headrace.core.estate import PueCurve, Site
from headrace.core.units import PERMILLE
from headrace.core.units import facility_watts as by_constant


def meter_watts(site: Site, it_w: int, outdoor_c: int | None = None) -> int:
    """Watts at a site's meter for ``it_w`` watts of IT load; ``outdoor_c`` None: at the design temperature."""
    if site.pue_curve is None:
        return by_constant(it_w, site.pue_permille)
    return _up(_meter(site.pue_curve, it_w, outdoor_c))


def it_watts(site: Site, meter_w: int, outdoor_c: int | None = None) -> int:
    """The most watts of IT load that ``meter_w`` watts at a site's meter carry, 0 where they don't even carry the overhead."""
    curve = site.pue_curve
    if curve is None:
        return meter_w * PERMILLE // site.pue_permille
    # No PUE is below 1: the answer lies in 0 .. meter_w.
    least, most = 0, max(0, meter_w)
    while least < most:
        middle = (least + most + 1) // 2
        if _meter(curve, middle, outdoor_c) <= meter_w:
            least = middle
        else:
            most = middle - 1
    return least


def at_full_load(curve: PueCurve) -> Fraction:
    """What a curve says at full load and the design temperature, in thousandths."""
    return _pue(curve, Fraction(PERMILLE), curve.design_outdoor_c)


@dataclass(frozen=True, slots=True)
class Falling:
    """Where a curve says that more IT load draws less at the meter: between two loads, at a temperature."""

    outdoor_c: int
    from_permille: int
    to_permille: int


def falling(curve: PueCurve) -> tuple[Falling, ...]:
    """Where watts at the meter would fall as IT load grows: no such curve can be meant, and no limit could be held by it.

    Between two loads the meter's watts are a parabola of the load, whose slope is least at one of the ends.
    """
    found = []
    grid = _grid(curve)
    for outdoor_c in grid.outdoor_c:
        for low, high in pairwise(grid.loads):
            rise = Fraction(grid.pue[high, outdoor_c] - grid.pue[low, outdoor_c], high - low)
            # d(load x PUE) at both ends of the step
            slopes = (grid.pue[load, outdoor_c] + rise * load for load in (low, high))
            if min(slopes) <= 0:
                found.append(Falling(outdoor_c, low, high))
    return tuple(found)


def holes(curve: PueCurve) -> tuple[tuple[int, int], ...]:
    """The points of the grid, (load in thousandths, degrees), that a curve leaves out."""
    there = {(point.load_permille, point.outdoor_c) for point in curve.points}
    loads = sorted({point.load_permille for point in curve.points})
    outdoor = sorted({point.outdoor_c for point in curve.points})
    return tuple((load, degrees) for load in loads for degrees in outdoor if (load, degrees) not in there)


@dataclass(frozen=True, slots=True)
class _Grid:
    loads: tuple[int, ...]
    outdoor_c: tuple[int, ...]
    pue: Mapping[tuple[int, int], int]


@lru_cache(maxsize=64)
def _grid(curve: PueCurve) -> _Grid:
    return _Grid(
        tuple(sorted({point.load_permille for point in curve.points})),
        tuple(sorted({point.outdoor_c for point in curve.points})),
        {(point.load_permille, point.outdoor_c): point.pue_permille for point in curve.points},
    )


def _meter(curve: PueCurve, it_w: int, outdoor_c: int | None) -> Fraction:
    degrees = curve.design_outdoor_c if outdoor_c is None else outdoor_c
    load = Fraction(it_w * PERMILLE, curve.full_load_w)
    least = _grid(curve).loads[0]
    if load < least:
        overhead = (_pue(curve, Fraction(least), degrees) - PERMILLE) * least * curve.full_load_w
        return it_w + overhead / (PERMILLE * PERMILLE)
    return it_w * _pue(curve, load, degrees) / PERMILLE


def _pue(curve: PueCurve, load: Fraction, outdoor_c: int) -> Fraction:
    """PUE in thousandths at a load (thousandths of the full one, at least the curve's least) and a temperature."""
    grid = _grid(curve)
    here = [
        _between(grid.loads, load, [grid.pue[at, degrees] for at in grid.loads]) for degrees in grid.outdoor_c
    ]
    found = _between(grid.outdoor_c, Fraction(outdoor_c), here)
    if outdoor_c > grid.outdoor_c[-1] and len(grid.outdoor_c) > 1:
        (before, last), (low, high) = here[-2:], grid.outdoor_c[-2:]
        found += max(Fraction(0), (last - before) * Fraction(outdoor_c - high, high - low))
    return found


def _between(at: tuple[int, ...], where: Fraction, values: "list[int] | list[Fraction]") -> Fraction:
    """The value at ``where``, on straight lines between the points; beyond them that of the nearest."""
    if where <= at[0]:
        return Fraction(values[0])
    for number, (low, high) in enumerate(pairwise(at)):
        if where <= high:
            part = (where - low) / (high - low)
            return values[number] + (values[number + 1] - values[number]) * part
    return Fraction(values[-1])


def _up(watts: Fraction) -> int:
    return -(-watts.numerator // watts.denominator)
