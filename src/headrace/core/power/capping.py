"""Which cap each capped job gets, so that all together draw no more than a limit and as much as can be is achieved.

The problem: one cap for all accelerators of a job (a gang runs at the speed of its slowest, and one number is what an
operator can read back), at every instant no less than the job's floor, the sum of what the caps are credited with at or
under the limit, and the weighted sum of performances the greatest. It is solved in two steps (RFD 13):

1. Along the concave hulls of the curves, the best gain per watt first. That gives an upper bound too: no caps do better,
   nor caps that differ between the accelerators of a job, nor caps that change in the course of time.
2. The few jobs on which the difference to the bound can depend are decided exactly, by combining all of their caps and
   dropping what the bound excludes. With very many jobs the first step ends within a millionth of the bound, and that is it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.core.power.curves import Choices, Credit, PowerCurve, Range, choices
from headrace.core.units import ceil_div

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

MOST_DECIDED = 40
"""Jobs that the second step decides at most: those for whom another choice costs least."""
MOST_STATES = 20_000
"""Combinations that the second step keeps at most; beyond that it gives up being exact, and says so."""
CLOSE = 1e-6
"""The first step alone will do when it ends within this part of the bound."""
ROUNDING = 1e-9
"""The part of a bound that sums of floats may be wrong by."""
FILLERS = 64
"""Jobs among which the first step looks for somebody to use what is left of the limit."""
MOST_FILLS = 64


@dataclass(frozen=True, slots=True)
class Capped:
    """A job whose accelerators can be capped.

    ``ceiling_w`` is the highest cap that it may get (the one in force); performance counts relative to the cap ``reference_w``
    (0: the ceiling), and never falls below ``floor_ppm`` of that. ``weight``, at least 1, is what its performance counts for.
    """

    id: str
    curve: PowerCurve
    accelerators: int
    weight: int
    floor_ppm: int
    ceiling_w: int
    reference_w: int = 0
    measured_only: bool = False


@dataclass(frozen=True, slots=True)
class Allocation:
    """A cap for each job, in their order, with its draw (milliwatts, as credited) and its performance.

    ``value`` is the sum of weight × performance (ppm), and no allocation has more than ``bound``. ``is_exact``: proven to be
    the best there is; of more than :data:`MOST_DECIDED` jobs, up to what the last watt of the limit is worth.
    """

    caps_w: tuple[int, ...]
    draws_mw: tuple[int, ...]
    performances_ppm: tuple[int, ...]
    value: int
    bound: float
    is_exact: bool

    @property
    def draw_w(self) -> int:
        """What all draw together, in watts, rounded up."""
        return ceil_div(sum(self.draws_mw), 1_000)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No caps do: at the floors all together draw ``least_w`` watts; ``no_cap`` are jobs that no known cap keeps above theirs."""

    least_w: int
    no_cap: tuple[str, ...] = ()


class _Table(NamedTuple):
    """The choices of all jobs that share curve, floor and ceiling, and the segments of their hull."""

    choices: Choices
    draw_steps: I64
    gain_steps: I64


class _Jobs(NamedTuple):
    """The jobs as columns; ``table`` is the index of each one's choices."""

    tables: list[_Table]
    table: I64
    accelerators: I64
    weight: I64


class _Filled(NamedTuple):
    """What the first step chose (an index of the choices for each job), what is left, the bound, and the price of a milliwatt."""

    chosen: I64
    left_mw: int
    bound: float
    price: float


def allocate(jobs: Sequence[Capped], limit_w: int, credit: Credit = "modelled") -> Allocation | Unreachable:
    """The caps of ``jobs`` under ``limit_w`` watts for their accelerators together; deterministic.

    ``curve`` must be without faults, and ceilings and references within it (ValueError otherwise).
    """
    if not jobs:
        return Allocation((), (), (), 0, 0.0, True)
    tables, index = _tables(jobs, credit)
    hopeless = tuple(job.id for job, number in zip(jobs, index, strict=True) if tables[number] is None)
    if hopeless:
        return Unreachable(0, hopeless)
    columns = _columns(jobs, tables, index)
    limit_mw = 1_000 * limit_w
    lowest = np.array([int(table.choices.draw_mw[0]) for table in columns.tables], np.int64)
    least_mw = int((lowest[columns.table] * columns.accelerators).sum())
    if least_mw > limit_mw:
        return Unreachable(ceil_div(least_mw, 1_000))
    filled = _refill(columns, _fill(columns, limit_mw - least_mw))
    chosen, exact = _decide(columns, filled, limit_mw)
    return _allocation(columns, chosen, filled.bound, exact)


def time_shared_bound(jobs: Sequence[Capped], limit_w: int, credit: Credit = "modelled") -> float:
    """What no caps can exceed even if they change in time and floors hold on average only; 0 where the limit can't be kept.

    The unit is that of :attr:`Allocation.value`.
    """
    tables, index = _tables([_without_floor(job) for job in jobs], credit)
    whole = _columns(jobs, tables, index)
    draws: list[float] = []
    gains: list[float] = []
    spent = value = 0.0
    for job, number in zip(jobs, whole.table.tolist(), strict=True):
        found = whole.tables[number].choices
        draw, performance = (
            column[found.hull].astype(float) for column in (found.draw_mw, found.performance_ppm)
        )
        floor = max(float(job.floor_ppm), performance[0])
        at = float(np.interp(floor, performance, draw))
        kept = performance > floor
        draw, performance = np.append(at, draw[kept]), np.append(floor, performance[kept])
        draws.extend(np.diff(draw) * job.accelerators)
        gains.extend(np.diff(performance) * job.weight)
        spent, value = spent + at * job.accelerators, value + floor * job.weight
    return _value_of(np.array(draws), np.array(gains), 1_000 * limit_w - spent, value)


def _without_floor(job: Capped) -> Capped:
    return Capped(
        job.id, job.curve, job.accelerators, job.weight, 0, job.ceiling_w, job.reference_w, job.measured_only
    )


def _value_of(draws: F64, gains: F64, left_mw: float, value: float) -> float:
    """``value`` and what the best segments add that fit into what is left, the last one in part."""
    if left_mw < 0:
        return 0.0
    order = np.argsort(-gains / np.maximum(draws, 1e-9), kind="stable")
    ends = np.cumsum(draws[order])
    parts = np.clip((left_mw - (ends - draws[order])) / np.maximum(draws[order], 1e-9), 0, 1)
    return value + float((parts * gains[order]).sum())


# -- jobs as columns ----------------------------------------------------------------------------------------------------


def _tables(jobs: Sequence[Capped], credit: Credit) -> tuple[list[_Table | None], list[int]]:
    """The choices of all jobs, None where no cap keeps a floor; and which of them are each job's."""
    # Plain tuples as keys: they are made and compared a hundred thousand times.
    known: dict[tuple[int, int, int, int, bool], int] = {}
    tables: list[_Table | None] = []
    index = []
    for job in jobs:
        key = (id(job.curve), job.ceiling_w, job.reference_w, job.floor_ppm, job.measured_only)
        number = known.get(key)
        if number is None:
            number = known[key] = len(tables)
            within = Range(job.ceiling_w, job.reference_w or job.ceiling_w, job.floor_ppm, job.measured_only)
            found = choices(job.curve, within, credit)
            tables.append(_table(found) if found is not None else None)
        index.append(number)
    return tables, index


def _columns(jobs: Sequence[Capped], tables: Sequence[_Table | None], index: Sequence[int]) -> _Jobs:
    accelerators = np.fromiter((job.accelerators for job in jobs), np.int64, len(jobs))
    weight = np.fromiter((job.weight for job in jobs), np.int64, len(jobs))
    whole = [table for table in tables if table is not None]
    return _Jobs(whole, np.array(index, np.int64), accelerators, weight)


def _table(found: Choices) -> _Table:
    return _Table(found, np.diff(found.draw_mw[found.hull]), np.diff(found.performance_ppm[found.hull]))


# -- the first step -----------------------------------------------------------------------------------------------------


def _fill(jobs: _Jobs, left_mw: int) -> _Filled:
    """From the least of every job up along the hulls, the best gain per milliwatt first, as long as it fits."""
    steps = np.array([len(table.draw_steps) for table in jobs.tables], np.int64)[jobs.table]
    first = np.cumsum(steps) - steps
    owner = np.repeat(np.arange(len(steps)), steps)
    number = np.arange(len(owner)) - first[owner]
    starts = np.cumsum([0] + [len(table.draw_steps) for table in jobs.tables])[:-1]
    where = starts[jobs.table][owner] + number
    draw = np.concatenate([table.draw_steps for table in jobs.tables])[where] * jobs.accelerators[owner]
    gain = np.concatenate([table.gain_steps for table in jobs.tables])[where] * jobs.weight[owner]
    base = np.array([int(table.choices.performance_ppm[0]) for table in jobs.tables], np.int64)[jobs.table]
    bound = float((base * jobs.weight).sum())
    slope = gain / draw
    # Stable: of equals the job that comes first, and of one job the lower segment.
    order = np.argsort(-slope, kind="stable")
    ends = np.cumsum(draw[order])
    whole = int(np.searchsorted(ends, left_mw, side="right"))
    taken = np.bincount(owner[order[:whole]], minlength=len(steps))
    bound += float(gain[order[:whole]].sum())
    spent = int(ends[whole - 1]) if whole else 0
    price = 0.0
    if whole < len(order):
        price = float(slope[order[whole]])
        bound += price * (left_mw - spent)
    chosen = np.empty(len(steps), np.int64)
    for index, table in enumerate(jobs.tables):
        mine = jobs.table == index
        chosen[mine] = table.choices.hull[taken[mine]]
    return _Filled(chosen, left_mw - spent, bound, price)


def _refill(jobs: _Jobs, filled: _Filled) -> _Filled:
    """Use what is left: again and again the best step up that fits, among the jobs that the price nearly moves."""
    if not filled.price:
        return filled
    chosen, left_mw = filled.chosen.copy(), filled.left_mw
    near = _nearest(jobs, filled, FILLERS, up_alone=True)
    for _ in range(MOST_FILLS):
        best: tuple[int, int, int, int] | None = None
        for job in near:
            step = _best_step(jobs, job, int(chosen[job]), left_mw)
            if step is not None and (best is None or step[0] > best[0]):
                best = (*step, job)
        if best is None:
            break
        _, draw, to, job = best
        chosen[job], left_mw = to, left_mw - draw
    return filled._replace(chosen=chosen, left_mw=left_mw)


def _best_step(jobs: _Jobs, job: int, at: int, left_mw: int) -> tuple[int, int, int] | None:
    """The most that a job can gain with what is left: gain, milliwatts, the choice; None where nothing fits."""
    found = jobs.tables[jobs.table[job]].choices
    room_mw = int(found.draw_mw[at]) + left_mw // int(jobs.accelerators[job])
    to = int(np.searchsorted(found.draw_mw, room_mw, side="right")) - 1
    if to <= at:
        return None
    draw = int(found.draw_mw[to] - found.draw_mw[at]) * int(jobs.accelerators[job])
    gain = int(found.performance_ppm[to] - found.performance_ppm[at]) * int(jobs.weight[job])
    return (gain, draw, to) if gain else None


def _nearest(jobs: _Jobs, filled: _Filled, count: int, up_alone: bool = False) -> list[int]:
    """The jobs for whom another choice (or a higher one alone) costs least at the price, by that and by order."""
    ratio = jobs.accelerators / jobs.weight * filled.price
    cost = np.empty(len(ratio))
    for index, table in enumerate(jobs.tables):
        mine = np.flatnonzero(jobs.table == index)
        at = filled.chosen[mine]
        # Of the neighbours on the hull alone: that is where the next watt goes, or comes from.
        hull = table.choices.hull
        up = hull[np.minimum(np.searchsorted(hull, at, side="right"), len(hull) - 1)]
        down = hull[np.maximum(np.searchsorted(hull, at) - 1, 0)]
        ways = [up] if up_alone else [up, down]
        costs = [_cost(table.choices, at, to, ratio[mine]) for to in ways]
        cost[mine] = np.minimum.reduce(costs) * jobs.weight[mine]
    count = min(count, len(cost))
    return [int(job) for job in np.argsort(cost, kind="stable")[:count] if cost[job] < np.inf]


def _cost(found: Choices, at: I64, to: I64, ratio: F64) -> F64:
    """What going from one choice to another loses, infinite where they are the same."""
    gain = found.performance_ppm[to] - found.performance_ppm[at]
    return np.where(to == at, np.inf, np.abs(gain - ratio * (found.draw_mw[to] - found.draw_mw[at])))


# -- the second step ----------------------------------------------------------------------------------------------------


class _Field(NamedTuple):
    """The choices of one job that may be part of something better: index, milliwatts, value, and value less the price."""

    job: int
    at: I64
    draw: I64
    value: I64
    reduced: F64


def _decide(jobs: _Jobs, filled: _Filled, limit_mw: int) -> tuple[I64, bool]:
    """What is chosen after the second step, and whether that is proven to be the best up to the last watt."""
    value = _value(jobs, filled.chosen)
    gap = filled.bound - value
    if gap <= 0:
        return filled.chosen, True
    if len(filled.chosen) > MOST_DECIDED and gap <= max(filled.price * 1_000, filled.bound * CLOSE):
        return filled.chosen, gap <= filled.price * 1_000
    # Sums of floats: without some room what is known already could seem to be excluded.
    gap += filled.bound * ROUNDING
    near = _nearest(jobs, filled, MOST_DECIDED)
    fields = [_field(jobs, job, filled.price, gap) for job in near]
    open_fields = [field for field in fields if len(field.at) > 1]
    fixed = np.ones(len(filled.chosen), bool)
    fixed[[field.job for field in open_fields]] = False
    room_mw = limit_mw - int((_draws(jobs, filled.chosen) * fixed).sum())
    floor = value - int((_values(jobs, filled.chosen) * fixed).sum()) - filled.bound * ROUNDING
    found, whole = _combine(open_fields, room_mw, floor, filled.price)
    chosen = filled.chosen.copy()
    for field, index in zip(open_fields, found, strict=True):
        chosen[field.job] = index
    free = np.array([len(table.choices.cap_w) > 1 for table in jobs.tables])[jobs.table]
    decided_all = whole and len(near) == int(free.sum())
    return chosen, decided_all or filled.bound - _value(jobs, chosen) <= filled.price * 1_000


def _field(jobs: _Jobs, job: int, price: float, gap: float) -> _Field:
    found = jobs.tables[jobs.table[job]].choices
    draw = found.draw_mw * jobs.accelerators[job]
    value = found.performance_ppm * jobs.weight[job]
    reduced = value - price * draw
    # What loses more than the gap against the job's best choice at the price can't be part of anything better.
    kept = np.flatnonzero(reduced >= reduced.max() - gap)
    return _Field(job, kept, draw[kept], value[kept], reduced[kept])


def _combine(fields: list[_Field], room_mw: int, floor: float, price: float) -> tuple[list[int], bool]:
    """The choices with the greatest value that fit; and whether no combination had to be left out unseen.

    Combinations are built up job by job, those that draw more without being worth more are dropped, and those that can't
    come to more than ``floor`` (what is known to fit) whatever follows.
    """
    rest = np.cumsum([0.0] + [float(field.reduced.max()) for field in reversed(fields)])[::-1]
    least = np.cumsum([0] + [int(field.draw.min()) for field in reversed(fields)])[::-1]
    draw, value = np.zeros(1, np.int64), np.zeros(1, np.int64)
    steps: list[tuple[I64, I64]] = []
    whole = True
    for place, field in enumerate(fields, 1):
        draws = (draw[:, None] + field.draw).ravel()
        values = (value[:, None] + field.value).ravel()
        promise = values + price * (room_mw - draws) + rest[place]
        kept = np.flatnonzero((draws + least[place] <= room_mw) & (promise >= floor))
        kept = kept[np.lexsort((-values[kept], draws[kept]))]
        best = np.maximum.accumulate(values[kept])
        kept = kept[np.append(True, best[1:] > best[:-1])]
        if len(kept) > MOST_STATES:
            whole = False
            kept = np.sort(kept[np.argsort(-promise[kept], kind="stable")[:MOST_STATES]])
        steps.append((kept // len(field.at), field.at[kept % len(field.at)]))
        draw, value = draws[kept], values[kept]
    at = int(np.argmax(value))
    found = []
    for parents, indexes in reversed(steps):
        found.append(int(indexes[at]))
        at = int(parents[at])
    return found[::-1], whole


# -- what is chosen -----------------------------------------------------------------------------------------------------


def _gather(jobs: _Jobs, chosen: I64, column: str) -> I64:
    found = np.empty(len(chosen), np.int64)
    for index, table in enumerate(jobs.tables):
        mine = jobs.table == index
        found[mine] = getattr(table.choices, column)[chosen[mine]]
    return found


def _draws(jobs: _Jobs, chosen: I64) -> I64:
    return _gather(jobs, chosen, "draw_mw") * jobs.accelerators


def _values(jobs: _Jobs, chosen: I64) -> I64:
    return _gather(jobs, chosen, "performance_ppm") * jobs.weight


def _value(jobs: _Jobs, chosen: I64) -> int:
    return int(_values(jobs, chosen).sum())


def _allocation(jobs: _Jobs, chosen: I64, bound: float, exact: bool) -> Allocation:
    return Allocation(
        tuple(_gather(jobs, chosen, "cap_w").tolist()),
        tuple(_draws(jobs, chosen).tolist()),
        tuple(_gather(jobs, chosen, "performance_ppm").tolist()),
        _value(jobs, chosen),
        bound,
        exact,
    )
