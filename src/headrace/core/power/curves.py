"""Power curves: what a class of workload draws and achieves per accelerator under a power cap.

A curve is a table of measurements. Between two of them both lines are straight: a cap is any whole number of watts between
the lowest and the highest that was measured, and nothing is known beyond. Draws are rounded up, performance down, so
that no rounding ever breaks a limit or a floor.

What a cap is credited with is a decision of its own (:data:`Credit`). A cap above what a load draws sheds nothing, and a
curve is a measurement of some other day: who has neither a fresh meter nor trust in the curve counts the cap itself.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headrace.core.units import ceil_div

I64 = NDArray[np.int64]
PPM = 1_000_000
"""Performance is counted in millionths of what the workload achieves under its reference cap."""

Credit = Literal["modelled", "enforced"]
"""What is taken to be drawn under a cap. ``modelled``: what the curve says. ``enforced``: the cap itself, or what the curve
says where that is more: what the actuator makes sure of by itself, whatever the load does."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Under a cap of ``cap_w`` watts an accelerator draws ``draw_mw`` milliwatts and achieves ``performance_ppm``."""

    cap_w: int
    draw_mw: int
    performance_ppm: int


@dataclass(frozen=True, slots=True)
class PowerCurve:
    """The curve of a class of workload, per accelerator; ``points`` by rising cap, at least one.

    Whoever makes one asks :meth:`faults` first; the other methods take a curve without any.
    """

    name: str
    points: tuple[CurvePoint, ...]

    @property
    def least_w(self) -> int:
        """The lowest cap of which something is known."""
        return self.points[0].cap_w

    @property
    def most_w(self) -> int:
        """The highest cap of which something is known."""
        return self.points[-1].cap_w

    def faults(self) -> tuple[str, ...]:
        """What can't be meant: caps that don't rise, draw or performance that falls as the cap rises; in words."""
        if not self.points:
            return ("it has no points",)
        found = []
        for below, above in pairwise(self.points):
            step = f"from {below.cap_w} W to {above.cap_w} W"
            if above.cap_w <= below.cap_w:
                found.append(f"its caps don't rise {step}")
            if above.draw_mw < below.draw_mw:
                found.append(
                    f"its draw falls {step} ({below.draw_mw / 1_000:g} W, {above.draw_mw / 1_000:g} W)"
                )
            if above.performance_ppm < below.performance_ppm:
                found.append(
                    f"its throughput falls {step} ({below.performance_ppm / PPM:g}, {above.performance_ppm / PPM:g})"
                )
        if self.points[0].draw_mw < 0 or self.points[0].performance_ppm < 0:
            found.append("it begins below nothing")
        return tuple(found)

    def at(self, cap_w: int) -> CurvePoint:
        """The point of a cap between the lowest and the highest; ValueError for one of which nothing is known."""
        for point in self.points:
            if point.cap_w == cap_w:
                return point
        for below, above in pairwise(self.points):
            if below.cap_w < cap_w < above.cap_w:
                return _between(below, above, cap_w)
        raise ValueError(f"{self.name}: nothing is known of a cap of {cap_w} W")

    def caps_w(self, most_w: int, measured: bool = False) -> tuple[int, ...]:
        """The caps up to ``most_w``: all whole watts, or only those that were ``measured``."""
        if measured:
            return tuple(point.cap_w for point in self.points if point.cap_w <= most_w)
        return tuple(range(self.least_w, min(most_w, self.most_w) + 1))


def confirmed_mw(point: CurvePoint, credit: Credit) -> int:
    """The milliwatts per accelerator that a cap is taken to draw (see :data:`Credit`)."""
    return point.draw_mw if credit == "modelled" else max(point.draw_mw, 1_000 * point.cap_w)


@dataclass(frozen=True, slots=True)
class Choices:
    """The caps that an accelerator may get, as columns: ``cap_w``, ``draw_mw``, ``performance_ppm``.

    Both rise strictly from each to the next: what draws more without achieving more is no choice. ``hull`` are the indexes of
    the corners of the least concave line above them, the first and the last choice included.
    """

    cap_w: I64
    draw_mw: I64
    performance_ppm: I64
    hull: I64


@dataclass(frozen=True, slots=True)
class Range:
    """What may be chosen on a curve: caps up to ``most_w``, of at least ``floor_ppm`` of the performance at ``reference_w``."""

    most_w: int
    reference_w: int
    floor_ppm: int = 0
    measured_only: bool = False


def choices(curve: PowerCurve, within: Range, credit: Credit) -> Choices | None:
    """The caps worth choosing in a range, performance relative to the reference; None where no cap keeps the floor."""
    reference_ppm = curve.at(within.reference_w).performance_ppm
    rows: list[tuple[int, int, int]] = []
    for cap_w in curve.caps_w(within.most_w, within.measured_only):
        point = curve.at(cap_w)
        performance_ppm = point.performance_ppm * PPM // reference_ppm if reference_ppm else 0
        if performance_ppm < within.floor_ppm:
            continue
        draw_mw = confirmed_mw(point, credit)
        if rows and performance_ppm <= rows[-1][2]:
            continue
        if rows and draw_mw <= rows[-1][1]:
            rows.pop()
        rows.append((cap_w, draw_mw, performance_ppm))
    if not rows:
        return None
    cap, draw, performance = np.array(rows, np.int64).T
    return Choices(cap, draw, performance, np.array(_hull(rows), np.int64))


def _between(below: CurvePoint, above: CurvePoint, cap_w: int) -> CurvePoint:
    width_w, way_w = above.cap_w - below.cap_w, cap_w - below.cap_w
    draw_mw = below.draw_mw + ceil_div((above.draw_mw - below.draw_mw) * way_w, width_w)
    gain_ppm = (above.performance_ppm - below.performance_ppm) * way_w // width_w
    return CurvePoint(cap_w, draw_mw, below.performance_ppm + gain_ppm)


def _hull(rows: list[tuple[int, int, int]]) -> list[int]:
    """Indexes of the upper concave hull of (draw, performance), left to right."""
    found: list[int] = []
    for index, (_, draw, performance) in enumerate(rows):
        while len(found) > 1:
            _, d_1, p_1 = rows[found[-2]]
            _, d_2, p_2 = rows[found[-1]]
            # The middle one lies on or below the line from the one before it to this one.
            if (p_2 - p_1) * (draw - d_1) <= (performance - p_1) * (d_2 - d_1):
                found.pop()
            else:
                break
        found.append(index)
    return found
