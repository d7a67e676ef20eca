"""What an event came to, by code that shares nothing with the allocator: exact fractions, and a table of every watt.

The optimum is that of the stated problem: for each job one cap (any whole watt that is known of, or a measured one), its floor
kept, the sum of draws at or under the target. It is found by dynamic programming over a dense table of milliwatts, or of more
where an event is large, in which every draw is rounded **down**: it is never less than the true optimum, and may be more.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PPM = 1_000_000
MILLI = 1_000
MOST_CELLS = 500_000_000
"""Steps of the table at most; a larger event is looked at in units of more than a milliwatt."""


class JobOfEvent(Protocol):
    """What is asked of a job."""

    @property
    def gpus(self) -> int:
        """How many, all under one cap."""

    @property
    def floor_ppm(self) -> int:
        """The least part of its throughput."""

    @property
    def weight(self) -> int:
        """What it counts for."""


@dataclass(frozen=True, slots=True)
class MeasuredCurve:
    """A curve as it was measured: ``points`` of (cap in watts, watts per GPU, throughput), by rising cap."""

    name: str
    points: tuple[tuple[int, Fraction, Fraction], ...]

    def draw_w(self, cap_w: int) -> Fraction:
        """Watts per GPU under a cap, on a straight line between the measured ones."""
        return self._at(cap_w, 1)

    def throughput(self, cap_w: int) -> Fraction:
        """Throughput under a cap, on a straight line between the measured ones."""
        return self._at(cap_w, 2)

    def caps_w(self, most_w: int, measured_only: bool) -> list[int]:
        """The caps of which something is known."""
        caps = [point[0] for point in self.points]
        known = caps if measured_only else list(range(caps[0], caps[-1] + 1))
        return [cap_w for cap_w in known if cap_w <= most_w]

    def _at(self, cap_w: int, column: int) -> Fraction:
        place = bisect_left([point[0] for point in self.points], cap_w)
        above = self.points[place]
        if above[0] == cap_w:
            return Fraction(above[column])
        below = self.points[place - 1]
        way = Fraction(cap_w - below[0], above[0] - below[0])
        return below[column] + way * (above[column] - below[column])


@dataclass(frozen=True, slots=True)
class Level:
    """Caps that are in force from ``from_ms`` until ``until_ms`` (from when the reduction must be whole), one for each job.

    ``least_target_w`` is the least that the target comes to meanwhile.
    """

    from_ms: int
    until_ms: int
    least_target_w: Fraction
    caps_w: tuple[int, ...]


def overshoot_w(levels: Sequence[Level], curves: Sequence[MeasuredCurve], gpus: Sequence[int]) -> float:
    """By how many watts the modelled draw exceeds the target at the worst instant; below zero: by how many it stays under.

    Where a level follows another, every mix of old and new caps is held against the target of both sides: on the way down
    the new caps are in force before their level begins, on the way up they are raised when it begins.
    """
    worst = Fraction(-(10**18))
    for before, level in zip((None, *levels), levels, strict=False):
        draws = [
            curve.draw_w(cap) * count for curve, cap, count in zip(curves, level.caps_w, gpus, strict=True)
        ]
        worst = max(worst, sum(draws, Fraction(0)) - level.least_target_w)
        if before is not None:
            mixed = sum(
                (
                    max(now, curve.draw_w(cap) * count)
                    for now, curve, cap, count in zip(draws, curves, before.caps_w, gpus, strict=True)
                ),
                Fraction(0),
            )
            # Caps are lowered within the last of the higher target, and raised within the first of it.
            worst = max(worst, mixed - max(before.least_target_w, level.least_target_w))
    return float(worst)


def exact_optimum(
    jobs: Sequence[JobOfEvent],
    curves: Sequence[MeasuredCurve],
    reference_w: Sequence[int],
    target_w: int,
    credit: str,
    measured_only: bool,
) -> float:
    """What no caps at or under ``target_w`` exceed in weighted performance, 0 to 1; 0 where none are.

    Where draws are whole units of the table it is the greatest there is.
    """
    options = [
        _options(job, curve, most_w, credit, measured_only)
        for job, curve, most_w in zip(jobs, curves, reference_w, strict=True)
    ]
    steps = sum(len(values) for _, values in options)
    target_mw = MILLI * target_w
    unit_mw = max(1, -(-target_mw * steps // MOST_CELLS))
    table = np.full(target_mw // unit_mw + 1, -np.inf)
    table[0] = 0.0
    for draws, values in options:
        better = np.full_like(table, -np.inf)
        for draw, value in zip((draws // unit_mw).tolist(), values.tolist(), strict=True):
            if draw < len(table):
                reach = len(table) - draw
                np.maximum(better[draw:], table[:reach] + value, out=better[draw:])
        table = better
    best = float(table.max())
    return max(0.0, best / sum(job.weight for job in jobs)) if np.isfinite(best) else 0.0


def _options(
    job: JobOfEvent, curve: MeasuredCurve, most_w: int, credit: str, measured_only: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw in whole milliwatts, rounded down, and weighted performance of every cap that keeps the floor."""
    before = curve.throughput(most_w)
    draws, values = [], []
    for cap_w in curve.caps_w(most_w, measured_only):
        # What achieved nothing before has nothing to lose.
        performance = curve.throughput(cap_w) / before if before else Fraction(0)
        if performance * PPM < job.floor_ppm:
            continue
        draw_w = curve.draw_w(cap_w)
        if credit == "enforced":
            draw_w = max(draw_w, Fraction(cap_w))
        draws.append(int(draw_w * job.gpus * MILLI))
        values.append(float(performance) * job.weight)
    return np.array(draws, np.int64), np.array(values, np.float64)
