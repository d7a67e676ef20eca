"""What fixed thresholds would have earned, many at once: the rule that a miner's price list is usually played by.

The same rules as in :mod:`headrace.core.power.dispatch`, on arrays with a row for each threshold. It looks for the best of
them in hindsight; what that one really earns is settled by the dispatch itself.
"""

from collections.abc import Sequence

import numpy as np

from headrace.core.power.dispatch import Interval, Rules, worst_first
from headrace.core.power.foresight import Floats, horizon_of
from headrace.core.units import MICROS, ceil_div

ALWAYS = 1 << 62
"""A threshold that no cost exceeds."""
COARSE, FINE = 40, 24
"""How many thresholds are tried over all costs, and then between the neighbours of the best."""


def best_threshold(rules: Rules, stretches: Sequence[Sequence[Interval]]) -> int:
    """The threshold, in millionths per MWh of all-in cost, under which miners would have earned most in hindsight."""
    costs = np.sort([one.cost_micros_per_mwh for stretch in stretches for one in stretch])
    parts = np.linspace(0, len(costs) - 1, COARSE).astype(int)
    values = {value for stretch in stretches for value in stretch[0].values_micros_per_mwh}
    tried = sorted({int(costs[0]) - 1, *(int(one) for one in costs[parts]), *values, ALWAYS})
    best = tried[int(np.argmax(gains_of(rules, stretches, tried)))]
    place = tried.index(best)
    low = tried[max(0, place - 1)]
    high = min(tried[min(len(tried) - 1, place + 1)], int(costs[-1]))
    between = costs[(costs >= low) & (costs <= high)]
    if not len(between):
        return best
    parts = np.linspace(0, len(between) - 1, FINE).astype(int)
    finer = sorted({best, *(int(one) for one in between[parts])})
    return finer[int(np.argmax(gains_of(rules, stretches, finer)))]


def gains_of(rules: Rules, stretches: Sequence[Sequence[Interval]], thresholds: Sequence[int]) -> Floats:
    """What each threshold would have earned, in the hall's currency."""
    total = np.zeros(len(thresholds))
    for stretch in stretches:
        total += _Played(rules, stretch, thresholds).gains()
    return total


class _Played:
    """A stretch of intervals under several thresholds; counts and locks are arrays [thresholds, loads]."""

    def __init__(self, rules: Rules, stretch: Sequence[Interval], thresholds: Sequence[int]) -> None:
        self._rules, self._stretch = rules, stretch
        # Costs reach 2^53 nowhere near: floats hold them exactly.
        self._thresholds = np.array(thresholds, np.float64)
        loads = rules.loads
        self._watts = np.array([load.draw_w for load in loads], np.float64)
        self._counts = np.array([load.count for load in loads], np.float64)
        self._miners = np.array([load.kind == "miner" for load in loads])
        self._firm = np.array([load.is_firm for load in loads])
        self._restart = np.array([load.switching.restart_micros / MICROS for load in loads])
        length = stretch[0].length_ms
        self._up = [ceil_div(load.switching.min_up_ms, length) for load in loads]
        self._down = [ceil_div(load.switching.min_down_ms, length) for load in loads]
        self._horizon = horizon_of(stretch)
        shape = (len(thresholds), len(loads))
        self._on = np.tile(np.array([now.on for now in rules.initial()], np.float64), (shape[0], 1))
        self._held_on, self._held_off = np.zeros(shape), np.zeros(shape)
        self._switched: dict[int, Floats] = {}
        self._memory = max([1, *self._up, *self._down])

    def gains(self) -> Floats:
        """What each threshold earns."""
        total = np.zeros(len(self._thresholds))
        per_machine = self._horizon.gains * (self._watts / MICROS)
        up, down = self._horizon.up_mw(self._rules) * MICROS, self._horizon.down_mw(self._rules) * MICROS
        orders: dict[tuple[int, ...], list[int]] = {}
        for t, interval in enumerate(self._stretch):
            values = interval.values_micros_per_mwh
            if values not in orders:
                orders[values] = worst_first(self._rules.loads, values)
            before = self._on
            self._release(t)
            self._on = self._chosen(interval, orders[values], float(up[t]), float(down[t]))
            self._note(t, self._on - before)
            total += self._on @ per_machine[t] - np.maximum(self._on - before, 0.0) @ self._restart
        return total

    def _chosen(self, interval: Interval, order: list[int], up: float, down: float) -> Floats:
        cost = interval.cost_micros_per_mwh
        worth = np.array(interval.values_micros_per_mwh) > cost
        mines = (cost <= self._thresholds)[:, None]
        always = (self._thresholds >= ALWAYS)[:, None]
        wanted = np.where(self._miners, mines, worth | always) * self._counts
        least = np.where(self._firm, self._counts, self._held_on)
        most = self._counts - self._held_off
        wishes = np.minimum(np.maximum(wanted, least), most)
        found = wishes.copy()
        drawn = self._on @ self._watts
        ceiling = np.minimum(self._rules.connection_w, drawn + up)
        floor = np.maximum(0.0, drawn - down)
        high = found @ self._watts > ceiling
        if high.any():
            for end in (np.maximum(self._on, least), least):
                self._move(found, order, end, found @ self._watts - ceiling, -1)
            for end in (np.minimum(self._on, wishes), wishes):
                self._fit(found, order[::-1], end, np.where(high, ceiling - found @ self._watts, 0.0), 1)
        low = found @ self._watts < floor
        if low.any():
            for end in (np.minimum(self._on, most), most):
                self._move(found, order[::-1], end, floor - found @ self._watts, 1)
            for end in (np.maximum(self._on, wishes), wishes):
                self._fit(found, order, end, np.where(low, found @ self._watts - floor, 0.0), -1)
        drawn = found @ self._watts
        fits = (floor <= drawn) & (drawn <= ceiling)
        return np.where(fits[:, None], found, self._on)

    def _move(self, found: Floats, order: list[int], end: Floats, excess: Floats, way: int) -> None:
        """Turn machines off (``way`` -1) or on until ``excess`` watts are gone, each load no further than to its ``end``."""
        for number in order:
            room = np.maximum(0.0, (end[:, number] - found[:, number]) * way)
            moved = np.minimum(room, np.ceil(np.maximum(excess, 0.0) / self._watts[number]))
            found[:, number] += way * moved
            excess = excess - moved * self._watts[number]

    def _fit(self, found: Floats, order: list[int], end: Floats, room: Floats, way: int) -> None:
        """Turn machines on (``way`` 1) or off again as far as ``room`` watts go, each load no further than to its ``end``."""
        for number in order:
            wish = np.maximum(0.0, (end[:, number] - found[:, number]) * way)
            moved = np.minimum(wish, np.floor(np.maximum(room, 0.0) / self._watts[number]))
            found[:, number] += way * moved
            room = room - moved * self._watts[number]

    def _release(self, t: int) -> None:
        for number, (up, down) in enumerate(zip(self._up, self._down, strict=True)):
            for span, held, sign in ((up, self._held_on, 1.0), (down, self._held_off, -1.0)):
                if span > 1 and (gone := self._switched.get(t - span)) is not None:
                    held[:, number] -= np.maximum(sign * gone[:, number], 0.0)
        self._switched.pop(t - self._memory, None)

    def _note(self, t: int, change: Floats) -> None:
        if not change.any():
            return
        self._switched[t] = change
        held_up = np.array([up > 1 for up in self._up])
        held_down = np.array([down > 1 for down in self._down])
        self._held_on = self._held_on + np.maximum(change, 0.0) * held_up
        self._held_off = self._held_off + np.maximum(-change, 0.0) * held_down
