"""What a hall could have earned at most: an upper bound that holds whoever made the numbers it is computed from.

Ramp and connection are what ties the loads together. With a price put on each of them (a multiplier of Lagrange, never
negative), every load stands alone, and the best for one machine that stands alone is found exactly, backwards from the end.
The sum over all machines, and what the prices put on the limits come to, is at least what any dispatch that keeps the rules
can earn, for *any* such prices. So the solver that proposes them need not be trusted: bad prices give a worse bound only.

Power is in MW here, money in units of the hall's currency, both floats; nothing of it is booked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.core.power.dispatch import Interval, Rules
from headrace.core.power.hall import ramp_w
from headrace.core.units import MICROS, MS_PER_HOUR

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
ROUNDING = 1e-11
"""By what part of all amounts in it the bound is raised, for what sums of floats may have lost."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """Consecutive intervals as arrays: ``starts_ms``, ``lengths_ms`` [T]; ``gains`` [T, loads]: of a MW in an interval."""

    starts_ms: Whole
    lengths_ms: Whole
    gains: Floats

    def up_mw(self, rules: Rules) -> Floats:
        """By how many MW the draw may rise into each interval; infinite without a ramp."""
        return _ramps(self.lengths_ms, rules.ramp.up_w_per_hour)

    def down_mw(self, rules: Rules) -> Floats:
        """By how many MW the draw may fall into each interval; infinite without a ramp."""
        return _ramps(self.lengths_ms, rules.ramp.down_w_per_hour)


@dataclass(frozen=True, slots=True)
class LimitPrices:
    """Prices put on the limits of each interval [T], none negative: ramps ``up`` and ``down``, ``connection``."""

    up: Floats
    down: Floats
    connection: Floats

    @classmethod
    def none(cls, intervals: int) -> "LimitPrices":
        """Nothing is short."""
        return cls(np.zeros(intervals), np.zeros(intervals), np.zeros(intervals))


def horizon_of(intervals: Sequence[Interval]) -> Horizon:
    """Intervals as arrays."""
    starts = np.array([one.start_ms for one in intervals], np.int64)
    lengths = np.array([one.length_ms for one in intervals], np.int64)
    values = np.array([one.values_micros_per_mwh for one in intervals], np.float64)
    costs = np.array([one.cost_micros_per_mwh for one in intervals], np.float64)
    hours = lengths / MS_PER_HOUR
    return Horizon(starts, lengths, (values - costs[:, None]) / MICROS * hours[:, None])


def first_free(starts_ms: Whole, span_ms: int) -> Whole:
    """For each interval the first one, after it, that begins ``span_ms`` or more later; T when there is none."""
    found = np.searchsorted(starts_ms, starts_ms + span_ms, side="left")
    return np.asarray(np.maximum(found, np.arange(1, len(starts_ms) + 1)), np.int64)


def alone(
    gains: Floats, restart: float, free_up: Whole, free_down: Whole, *, starts_on: bool
) -> tuple[float, list[int]]:
    """The most that a MW standing alone can earn, and when it is on (1) to do so.

    ``gains`` [T]; ``restart`` per start; ``free_up[t]`` is the first interval in which what started in t may stop.
    """
    length = len(gains)
    sums = np.concatenate(([0.0], np.cumsum(gains))).tolist()
    ups, downs = free_up.tolist(), free_down.tolist()
    on, off = [0.0] * (length + 1), [0.0] * (length + 1)
    for t in range(length - 1, -1, -1):
        stay, stop = sums[t + 1] - sums[t] + on[t + 1], off[downs[t]]
        on[t] = stay if stay >= stop else stop
        wait, start = off[t + 1], sums[ups[t]] - sums[t] - restart + on[ups[t]]
        off[t] = wait if wait >= start else start
    return (on if starts_on else off)[0], _path(sums, ups, downs, on, off, restart, starts_on=starts_on)


def _path(
    sums: list[float],
    ups: list[int],
    downs: list[int],
    on: list[float],
    off: list[float],
    restart: float,
    *,
    starts_on: bool,
) -> list[int]:
    path: list[int] = []
    runs, length = starts_on, len(ups)
    while (t := len(path)) < length:
        if runs:
            runs = sums[t + 1] - sums[t] + on[t + 1] >= off[downs[t]]
            path.extend([1] if runs else [0] * (downs[t] - t))
        else:
            runs = off[t + 1] < sums[ups[t]] - sums[t] - restart + on[ups[t]]
            path.extend([1] * (ups[t] - t) if runs else [0])
    return path


def is_tied(rules: Rules, horizon: Horizon) -> bool:
    """Whether connection or ramp can keep loads from what each would do alone."""
    total = sum(load.count * load.draw_w for load in rules.loads) / MICROS
    ramps = min(horizon.up_mw(rules).min(), horizon.down_mw(rules).min())
    return bool(total > rules.connection_w / MICROS or ramps < total)


class Bound(NamedTuple):
    """``most``: what no dispatch can exceed, in the hall's currency. ``wishes``: MW [T, loads] as each load would like alone.

    ``slack`` is the part of ``most`` that stands for rounding alone.
    """

    most: float
    wishes: Floats
    slack: float


def bound(rules: Rules, horizon: Horizon, prices: LimitPrices) -> Bound:
    """What no dispatch of these intervals can exceed, whatever the prices put on the limits are."""
    # Where there is no ramp none is short, whatever the solver says.
    up = np.where(np.isinf(horizon.up_mw(rules)), 0.0, np.maximum(prices.up, 0.0))
    down = np.where(np.isinf(horizon.down_mw(rules)), 0.0, np.maximum(prices.down, 0.0))
    connection = np.maximum(prices.connection, 0.0)
    limits = _limits(rules, horizon, up, down, connection)
    shadow = connection + (up - np.append(up[1:], 0.0)) - (down - np.append(down[1:], 0.0))
    before = [now.on for now in rules.initial()]
    total, scale = limits, abs(limits)
    wishes = np.zeros_like(horizon.gains)
    for number, load in enumerate(rules.loads):
        gains = horizon.gains[:, number] - shadow
        mw = load.count * load.draw_w / MICROS
        if load.is_firm:
            total += mw * float(gains.sum())
            wishes[:, number] = mw
        else:
            total += _alone_of(load.count, before[number], wishes, number, rules, horizon, gains)
        scale += mw * float(np.abs(horizon.gains[:, number]).sum() + np.abs(shadow).sum())
    # Each amount that is booked is rounded to a millionth: what is earned, and what is paid.
    slack = scale * ROUNDING + horizon.gains.size / MICROS
    return Bound(total + slack, wishes, slack)


def _alone_of(
    count: int, on: int, wishes: Floats, number: int, rules: Rules, horizon: Horizon, gains: Floats
) -> float:
    load = rules.loads[number]
    mw = load.draw_w / MICROS
    restart = load.switching.restart_micros / MICROS / mw
    ups = first_free(horizon.starts_ms, load.switching.min_up_ms)
    downs = first_free(horizon.starts_ms, load.switching.min_down_ms)
    total = 0.0
    for machines, starts_on in ((on, True), (count - on, False)):
        if machines:
            value, path = alone(gains, restart, ups, downs, starts_on=starts_on)
            total += machines * mw * value
            wishes[:, number] += machines * mw * np.array(path)
    return total


def _limits(rules: Rules, horizon: Horizon, up: Floats, down: Floats, connection: Floats) -> float:
    """What the prices on the limits come to."""
    before_mw = rules.draw_w([now.on for now in rules.initial()]) / MICROS
    total = float((up[up > 0] * horizon.up_mw(rules)[up > 0]).sum())
    total += float((down[down > 0] * horizon.down_mw(rules)[down > 0]).sum())
    total += float(connection.sum()) * rules.connection_w / MICROS
    return total + float(up[0] - down[0]) * before_mw


def _ramps(lengths_ms: Whole, rate_w_per_hour: int) -> Floats:
    if not rate_w_per_hour:
        return np.full(len(lengths_ms), np.inf)
    by_length = {length: ramp_w(rate_w_per_hour, length) / MICROS for length in set(lengths_ms.tolist())}
    return np.array([by_length[length] for length in lengths_ms.tolist()])
