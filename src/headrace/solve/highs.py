"""HiGHS: plans for a hall over several intervals, and the best that could have been done with all prices known.

The program, for each load and interval: ``on`` (MW), ``start`` and ``stop`` (MW, not negative), with
``on[t] - on[t-1] = start[t] - stop[t]``; what started within the minimum time is on, what stopped within it is off (the
formulation of Rajan and Takriti, whose matrix is totally unimodular for each load alone); ramps and connection over
their sum. It is linear: a machine may be on in part, which :func:`headrace.core.power.dispatch.admit` makes whole. Where a
single machine is much of what ramp or connection leave, machines are whole here too.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil, log2
from time import monotonic
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.power.dispatch import (
    Counts,
    Interval,
    Locks,
    Rules,
    State,
    admit,
    advance,
    settle,
)
from headrace.core.power.foresight import Floats, Horizon, LimitPrices, Whole, horizon_of
from headrace.core.units import MICROS, format_watts

ON, START, STOP = 0, 1, 2
COARSE = 0.05
"""Machines are whole in a plan where one is more than this part of the connection or of what a ramp allows."""
TIME_IS_UP = "Time limit reached"
"""What HiGHS says then."""
PLAN_S, PLAN_GAP = 0.5, 1e-4
"""How long a plan of whole machines is looked for, and how near the best it has to be."""


WIDEST = 1e9
"""Programs with amounts beyond this (money per MW, or MW) are brought down to it: solvers count in absolute tolerances."""


class SolverError(HeadraceError):
    """The solver found no plan, though staying as it is always is one: in time, or for numbers too far apart."""


@dataclass(frozen=True, slots=True)
class Held:
    """What was switched before the first interval and still has to stay so: until when, and how many MW."""

    on: tuple[tuple[int, float], ...] = ()
    off: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Before:
    """What was on before the first interval, MW by load, and what of it (or of what was off) is held."""

    on_mw: Floats
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Solved:
    """``on``, ``start``, ``stop``: MW [T, loads]. ``most``: what can be earned at most, from here on.

    ``prices`` are those of the limits; of whole machines there are none.
    """

    on: Floats
    start: Floats
    stop: Floats
    most: float
    prices: LimitPrices


@dataclass(slots=True)
class _Rows:
    """The rows of a program, gathered part by part."""

    count: int = 0
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    columns: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)
    least: list[Floats] = field(default_factory=list)
    most: list[Floats] = field(default_factory=list)

    def begin(self, least: Floats, most: Floats) -> Whole:
        """New rows between two bounds; their numbers."""
        numbers = np.arange(self.count, self.count + len(least))
        self.least.append(least)
        self.most.append(most)
        self.count += len(least)
        return numbers

    def put(self, rows: Whole, columns: Whole, value: float) -> None:
        """The coefficient of a column in each of some rows."""
        self.rows.append(rows)
        self.columns.append(columns)
        self.values.append(np.full(len(rows), value))


def before_of(rules: Rules, state: State) -> Before:
    """A state of machines as MW."""
    sizes = [load.draw_w / MICROS for load in rules.loads]
    return Before(
        np.array([now.on * mw for now, mw in zip(state, sizes, strict=True)]),
        tuple(
            Held(_mw_of(now.held_on, mw), _mw_of(now.held_off, mw))
            for now, mw in zip(state, sizes, strict=True)
        ),
    )


def solve(
    rules: Rules, horizon: Horizon, before: Before, *, whole: bool = False, limit_s: float = 0, gap: float = 0
) -> Solved:
    """The plan that earns most from ``before`` on; with ``whole`` machines, within ``limit_s`` and up to ``gap`` of the best."""
    program, ties = _program(rules, horizon, before)
    money, mw = _scaled(program, whole=whole)
    highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    if not whole:
        # Simplifying such a program first costs more than it saves: a plan takes 3 ms without, 50 with.
        highs.setOptionValue("presolve", "off")
    else:
        _make_whole(rules, horizon, program)
        highs.setOptionValue("mip_rel_gap", gap)
        highs.setOptionValue("mip_abs_gap", 0.0)
        highs.setOptionValue("time_limit", limit_s)
    highs.passModel(program)
    highs.run()
    info, solution = highs.getInfo(), highs.getSolution()
    if not solution.value_valid:
        raise _unsolved(rules, horizon, highs.modelStatusToString(highs.getModelStatus()))
    shape = (len(horizon.starts_ms), len(rules.loads), 3)
    found = np.array(solution.col_value).reshape(shape) * mw
    sizes = np.array([load.draw_w / MICROS for load in rules.loads]) if whole else np.ones(shape[1])
    dual = np.array(solution.row_dual) * money
    prices = LimitPrices.none(shape[0]) if whole else _prices(ties, dual, shape[0])
    most = -(info.mip_dual_bound if whole else info.objective_function_value) * money * mw
    on, start, stop = (found[:, :, part] * sizes for part in (ON, START, STOP))
    return Solved(on, start, stop, most, prices)


def _unsolved(rules: Rules, horizon: Horizon, status: str) -> SolverError:
    """What is told when there is no plan: between which amounts it was looked for."""
    gains = np.abs(horizon.gains)
    total = rules.draw_w([load.count for load in rules.loads])
    message = (
        f"HiGHS finds no plan for {len(horizon.starts_ms)} intervals ({status}): a MW gains or loses up to {gains.max():.3g} "
        f"in one of them, and the loads draw up to {format_watts(total)}."
    )
    step = "Look for a figure of the hall, or a price, that is many times what can be meant."
    if status == TIME_IS_UP:
        step = "Allow it more time, or give it fewer intervals."
    return SolverError(Problem(ProblemCode.BAD_INPUT, message, step))


def _scaled(program: highspy.HighsLp, *, whole: bool) -> tuple[float, float]:
    """Bring the amounts of a program down where they are beyond :data:`WIDEST`; by what money, and MW, were divided."""
    cost, upper = np.array(program.col_cost_), np.array(program.col_upper_)
    money = _power_of_two(float(np.abs(cost).max(initial=0.0)) / WIDEST)
    # Of whole machines the columns are counts.
    mw = 1.0 if whole else _power_of_two(float(upper[np.isfinite(upper)].max(initial=0.0)) / WIDEST)
    if money > 1:
        program.col_cost_ = cost / money
    if mw > 1:
        program.col_lower_, program.col_upper_ = np.array(program.col_lower_) / mw, upper / mw
        program.row_lower_, program.row_upper_ = (
            np.array(side) / mw for side in (program.row_lower_, program.row_upper_)
        )
    return money, mw


def _power_of_two(least: float) -> float:
    """The least power of two, from 1 on, that is no less; dividing by it loses nothing."""
    return 2.0 ** max(0, ceil(log2(least))) if least > 1 else 1.0


class HighsLookAhead:
    """Plans by HiGHS; a :class:`~headrace.core.power.dispatch.LookAhead`."""

    def __init__(self) -> None:
        self.plans = 0
        self.seconds = 0.0

    def plan(self, rules: Rules, state: State, ahead: Sequence[Interval]) -> list[Counts]:
        """Machines that should be on in each of the intervals ahead."""
        began = monotonic()
        horizon, before = horizon_of(ahead), before_of(rules, state)
        plan = machines_of(rules, solve(rules, horizon, before).on)
        if is_coarse(rules, horizon):
            # Within its time it may have found little, or nothing: the better of both counts, by the rules themselves.
            with suppress(SolverError):
                found = solve(rules, horizon, before, whole=True, limit_s=PLAN_S, gap=PLAN_GAP)
                whole = machines_of(rules, found.on)
                plan = max((plan, whole), key=lambda one: worth_micros(rules, state, ahead, one))
        self.plans += 1
        self.seconds += monotonic() - began
        return plan


def is_coarse(rules: Rules, horizon: Horizon) -> bool:
    """Whether a single machine is much of what ramp or connection leave."""
    largest = max(load.draw_w for load in rules.loads) / MICROS
    limits = [rules.connection_w / MICROS, horizon.up_mw(rules).min(), horizon.down_mw(rules).min()]
    total = rules.draw_w([load.count for load in rules.loads]) / MICROS
    return any(limit < total and largest > COARSE * limit for limit in limits)


def worth_micros(rules: Rules, state: State, ahead: Sequence[Interval], plan: Sequence[Counts]) -> int:
    """What a plan earns once every rule is applied to it."""
    gain = 0
    for interval, wanted in zip(ahead, plan, strict=True):
        counts = admit(rules, state, interval, wanted)
        gain += settle(rules, state, interval, counts).gain_micros
        state = advance(rules, state, interval, counts)
    return gain


def machines_of(rules: Rules, on_mw: Floats) -> list[Counts]:
    """MW as the nearest whole machines."""
    sizes = np.array([load.draw_w / MICROS for load in rules.loads])
    return [tuple(row) for row in np.rint(on_mw / sizes).astype(int).tolist()]


def _mw_of(locks: Locks, mw: float) -> tuple[tuple[int, float], ...]:
    return tuple((until_ms, count * mw) for until_ms, count in locks)


def _program(
    rules: Rules, horizon: Horizon, before: Before
) -> tuple[highspy.HighsLp, list[tuple[str, Whole]]]:
    length, loads = horizon.gains.shape
    rows = _Rows()
    cost = np.zeros((length, loads, 3))
    cost[:, :, ON] = -horizon.gains
    upper = np.full((length, loads, 3), np.inf)
    lower = np.zeros((length, loads, 3))
    for number, load in enumerate(rules.loads):
        mw = load.draw_w / MICROS
        cost[:, number, START] = load.switching.restart_micros / MICROS / mw
        upper[:, number, ON] = load.count * mw
        if load.is_firm:
            lower[:, number, ON] = load.count * mw
        _balance(rows, number, loads, length, float(before.on_mw[number]))
        held = before.held[number]
        up_ms, down_ms = load.switching.min_up_ms, load.switching.min_down_ms
        _minimum(rows, horizon, (number, loads, START), up_ms, held.on, None)
        _minimum(rows, horizon, (number, loads, STOP), down_ms, held.off, load.count * mw)
    ties = _ties(rows, rules, horizon, float(before.on_mw.sum()))
    return _assembled(rows, cost, lower, upper), ties


def _column(number: int, loads: int, part: int, at: Whole) -> Whole:
    return np.asarray((at * loads + number) * 3 + part, np.int64)


def _balance(rows: _Rows, number: int, loads: int, length: int, before_mw: float) -> None:
    """on[t] - on[t-1] - start[t] + stop[t] = 0."""
    at = np.arange(length)
    side = np.zeros(length)
    side[0] = before_mw
    new = rows.begin(side, side)
    rows.put(new, _column(number, loads, ON, at), 1.0)
    rows.put(new[1:], _column(number, loads, ON, at[:-1]), -1.0)
    rows.put(new, _column(number, loads, START, at), -1.0)
    rows.put(new, _column(number, loads, STOP, at), 1.0)


def _minimum(
    rows: _Rows,
    horizon: Horizon,
    which: tuple[int, int, int],
    span_ms: int,
    held: Sequence[tuple[int, float]],
    all_mw: float | None,
) -> None:
    """What switched less than ``span_ms`` ago stays: starts <= on, or (with ``all_mw``) stops <= all - on."""
    number, loads, part = which
    starts = horizon.starts_ms
    length = len(starts)
    at = np.arange(length)
    held_mw = np.zeros(length)
    for until_ms, mw in held:
        held_mw[starts < until_ms] += mw
    first = np.searchsorted(starts + span_ms, starts, side="right")
    spans = np.maximum(at - first + 1, 0)
    if spans.max(initial=0) <= 1 and not held_mw.any():
        return
    room = -held_mw if all_mw is None else all_mw - held_mw
    new = rows.begin(np.full(length, -np.inf), room)
    rows.put(new, _column(number, loads, ON, at), -1.0 if all_mw is None else 1.0)
    # Each row sums the switches first[t] .. t.
    offsets = np.arange(int(spans.sum())) - np.repeat(np.cumsum(spans) - spans, spans)
    rows.put(np.repeat(new, spans), _column(number, loads, part, np.repeat(first, spans) + offsets), 1.0)


def _ties(rows: _Rows, rules: Rules, horizon: Horizon, before_mw: float) -> list[tuple[str, Whole]]:
    """Ramps and connection, each where it can bind at all; which rows they are."""
    length, loads = horizon.gains.shape
    at = np.arange(length)
    total = rules.draw_w([load.count for load in rules.loads]) / MICROS
    up, down = horizon.up_mw(rules), horizon.down_mw(rules)
    found: list[tuple[str, Whole]] = []
    if min(up.min(), down.min()) < total:
        least, most = -down, up.copy()
        least[0] += before_mw
        most[0] += before_mw
        new = rows.begin(least, most)
        found.append(("ramp", new))
        for number in range(loads):
            rows.put(new, _column(number, loads, ON, at), 1.0)
            rows.put(new[1:], _column(number, loads, ON, at[:-1]), -1.0)
    if total > rules.connection_w / MICROS:
        new = rows.begin(np.full(length, -np.inf), np.full(length, rules.connection_w / MICROS))
        found.append(("connection", new))
        for number in range(loads):
            rows.put(new, _column(number, loads, ON, at), 1.0)
    return found


def _assembled(rows: _Rows, cost: Floats, lower: Floats, upper: Floats) -> highspy.HighsLp:
    numbers, columns, values = (np.concatenate(parts) for parts in (rows.rows, rows.columns, rows.values))
    order = np.argsort(numbers, kind="stable")
    program: Any = highspy.HighsLp()
    program.num_col_, program.num_row_ = cost.size, rows.count
    program.col_cost_, program.col_lower_, program.col_upper_ = cost.ravel(), lower.ravel(), upper.ravel()
    program.row_lower_, program.row_upper_ = np.concatenate(rows.least), np.concatenate(rows.most)
    matrix = program.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_ = np.searchsorted(numbers[order], np.arange(rows.count + 1))
    matrix.index_, matrix.value_ = columns[order], values[order]
    built: highspy.HighsLp = program
    return built


def _make_whole(rules: Rules, horizon: Horizon, program: highspy.HighsLp) -> None:
    """Turn MW into machines: the columns' scale, their cost and bounds; and say that they are whole."""
    sizes = np.tile(np.repeat([load.draw_w / MICROS for load in rules.loads], 3), len(horizon.starts_ms))
    program.col_cost_ = np.array(program.col_cost_) * sizes
    program.col_lower_ = np.rint(np.array(program.col_lower_) / sizes)
    most = np.tile(np.repeat([float(load.count) for load in rules.loads], 3), len(horizon.starts_ms))
    program.col_upper_ = most
    program.a_matrix_.value_ = np.array(program.a_matrix_.value_) * sizes[np.array(program.a_matrix_.index_)]
    program.integrality_ = [highspy.HighsVarType.kInteger] * len(sizes)


def _prices(ties: Sequence[tuple[str, Whole]], dual: Floats, length: int) -> LimitPrices:
    """The prices of the limits: a row's dual is negative at its upper bound, positive at its lower one."""
    none = np.zeros(length)
    up = down = connection = none
    for what, rows in ties:
        if what == "ramp":
            up, down = np.maximum(-dual[rows], 0.0), np.maximum(dual[rows], 0.0)
        else:
            connection = np.maximum(-dual[rows], 0.0)
    return LimitPrices(up, down, connection)
