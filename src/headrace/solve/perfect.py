"""Perfect foresight: what a hall could have earned with all prices known, solved for the whole file.

Years of intervals are one program too large to be solved quickly, and need not be: what is best in a week doesn't depend on
what is a season away. So it is solved in windows that overlap, each from where the one before left the hall, and only the
first part of each is kept. That this loses nothing is then proven: the prices of the limits that the windows found are
put into :func:`headrace.core.power.foresight.bound`, which holds for the whole file whatever they are. Where bound and
plan differ by more than ``CLOSE``, longer windows are tried.
"""

from dataclasses import dataclass

import numpy as np

from headrace.core.power.dispatch import Rules
from headrace.core.power.foresight import (
    Bound,
    Floats,
    Horizon,
    LimitPrices,
    Whole,
    bound,
    is_tied,
)
from headrace.core.units import MICROS
from headrace.solve.highs import Before, Held, SolverError, before_of, is_coarse, solve

KEPT, OVERLAP, LEAD = 600, 168, 72
"""Intervals of a window that are kept, and that are only looked at: behind them, and before."""
CLOSE = 1e-5
TRIES = 2
SMALL = 4_000
"""Intervals x loads up to which whole machines are solved exactly, where one of them is much of a limit."""
WHOLE_S = 10.0
TOLERANCE = 1e-7
"""By what part the solver's own bound for whole machines is raised: it lets rows be off by as little."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """``most``: what no dispatch can exceed, in the hall's currency. ``on_mw`` [T, loads]: the plan that comes nearest to it.

    ``how`` says in a word how it was found: ``alone`` (nothing ties the loads), ``windows``, or ``whole`` machines. ``slack`` is
    the part of ``most`` that stands for rounding alone.
    """

    most: float
    on_mw: Floats
    how: str
    slack: float = 0.0


def perfect_foresight(rules: Rules, horizon: Horizon) -> Optimum:
    """The best of a stretch of intervals whose prices are all known, from the hall's first state."""
    free = bound(rules, horizon, LimitPrices.none(len(horizon.starts_ms)))
    if not is_tied(rules, horizon):
        return Optimum(free.most, free.wishes, "alone", free.slack)
    found = _by_windows(rules, horizon, free)
    if horizon.gains.size > SMALL or not is_coarse(rules, horizon):
        return found
    try:
        whole = solve(rules, horizon, before_of(rules, rules.initial()), whole=True, limit_s=WHOLE_S)
    except SolverError:
        # In its time it came to nothing: what is proven without it still is.
        return found
    slack = TOLERANCE * abs(whole.most) + horizon.gains.size / MICROS
    most, slack = min((found.most, found.slack), (whole.most + slack, slack))
    return Optimum(most, whole.on, "whole", slack)


def _by_windows(rules: Rules, horizon: Horizon, free: Bound) -> Optimum:
    kept, overlap = KEPT, max(OVERLAP, 2 * _memory(rules, horizon))
    best, plan, worth = (free.most, free.slack), np.zeros_like(horizon.gains), -np.inf
    for _ in range(TRIES):
        stitched, starts, prices = _stitched(rules, horizon, kept, overlap)
        value = _worth(rules, horizon, stitched, starts)
        proven = bound(rules, horizon, prices)
        best = min(best, (proven.most, proven.slack))
        if value > worth:
            plan, worth = stitched, value
        if best[0] - worth <= CLOSE * abs(best[0]) or kept + overlap >= len(horizon.starts_ms):
            break
        kept, overlap = 3 * kept, 2 * overlap
    return Optimum(best[0], plan, "windows", best[1])


def _memory(rules: Rules, horizon: Horizon) -> int:
    """For how many intervals what is done in one binds later ones: minimum times, a whole ramp, paying back a start."""
    shortest = int(horizon.lengths_ms.min())
    times = [max(load.switching.min_up_ms, load.switching.min_down_ms) for load in rules.loads]
    total = rules.draw_w([load.count for load in rules.loads]) / MICROS
    ramps = [total / float(one.min()) for one in (horizon.up_mw(rules), horizon.down_mw(rules))]
    # A start that is dear is paid back over many intervals.
    usual = np.abs(horizon.gains).mean(axis=0)
    dear = [
        load.switching.restart_micros / load.draw_w / max(float(gain), 1e-9)
        for load, gain in zip(rules.loads, usual, strict=True)
    ]
    return int(min(max(times) / shortest + max(ramps) + 2 * max(dear), 2_000))


def _stitched(rules: Rules, horizon: Horizon, kept: int, overlap: int) -> tuple[Floats, Floats, LimitPrices]:
    length = len(horizon.starts_ms)
    on, starts, stops = (np.zeros_like(horizon.gains) for _ in range(3))
    up, down, connection = (np.zeros(length) for _ in range(3))
    start = before_of(rules, rules.initial())
    for first in range(0, length, kept):
        end, last = min(length, first + kept), min(length, first + kept + overlap)
        # The prices of the first limits depend on where a window begins: it begins before what is kept of it.
        lead = max(0, first - LEAD)
        before = _left(rules, horizon.starts_ms, lead, on, (starts, stops)) if lead else start
        window = Horizon(
            horizon.starts_ms[lead:last], horizon.lengths_ms[lead:last], horizon.gains[lead:last]
        )
        found = solve(rules, window, before)
        mine, part = slice(first, end), slice(first - lead, end - lead)
        on[mine], starts[mine], stops[mine] = found.on[part], found.start[part], found.stop[part]
        up[mine], down[mine] = found.prices.up[part], found.prices.down[part]
        connection[mine] = found.prices.connection[part]
    return on, starts, LimitPrices(up, down, connection)


def _left(rules: Rules, starts_ms: Whole, end: int, on: Floats, switched: tuple[Floats, Floats]) -> Before:
    """What the intervals before ``end`` leave: what is on, and what is held."""
    held = []
    for number, load in enumerate(rules.loads):
        spans = (load.switching.min_up_ms, load.switching.min_down_ms)
        held.append(
            Held(
                *(
                    tuple(
                        (int(starts_ms[at]) + span, float(part[at, number]))
                        for at in range(
                            int(np.searchsorted(starts_ms, starts_ms[end] - span, side="right")), end
                        )
                        if part[at, number] > 0
                    )
                    for part, span in zip(switched, spans, strict=True)
                )
            )
        )
    return Before(on[end - 1].copy(), tuple(held))


def _worth(rules: Rules, horizon: Horizon, on: Floats, starts: Floats) -> float:
    restarts = np.array([load.switching.restart_micros / load.draw_w for load in rules.loads])
    return float((horizon.gains * on).sum() - (starts.sum(axis=0) * restarts).sum())
