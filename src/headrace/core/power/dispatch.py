"""Which machines of a hall run in an interval: what may be chosen, what is chosen, and what it earns.

The rules (docs/rfd/0012-dispatch.md has them in full): the draw stays under the connection; from one interval to the next
it changes by no more than the ramp; a machine that was started stays on for its minimum time, one that was stopped
stays off. Staying as it is always keeps every rule. Machines of a class are alike, so that a state is a count and when
the latest starts and stops come free. Counts are of machines, per load of the hall, in the order of ``Hall.loads()``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from headrace.core.power.hall import Hall, Load, Ramp, amount_micros, ramp_w
from headrace.core.units import format_duration, format_watts

Counts = tuple[int, ...]
Locks = tuple[tuple[int, int], ...]
"""(until when, how many machines), in order of time."""


class LoadState(NamedTuple):
    """How many machines are on, and how many of those that are on (off) have to stay so until when."""

    on: int
    held_on: Locks = ()
    held_off: Locks = ()


State = tuple[LoadState, ...]
"""One for each load."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval of the market: when, for how long, what a MWh costs, and what a MWh of each load earns."""

    start_ms: int
    length_ms: int
    cost_micros_per_mwh: int
    values_micros_per_mwh: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a hall's dispatch has to keep."""

    loads: tuple[Load, ...]
    connection_w: int
    ramp: Ramp
    starts_on: bool = False

    def initial(self) -> State:
        """The state before the first interval."""
        on = [load.count if self.starts_on or load.is_firm else 0 for load in self.loads]
        return tuple(LoadState(count) for count in fitted(self.loads, on, self.connection_w))

    def draw_w(self, counts: Sequence[int]) -> int:
        """What so many machines draw."""
        return sum(load.draw_w * count for load, count in zip(self.loads, counts, strict=True))


@dataclass(frozen=True, slots=True)
class Settled:
    """An interval's account. ``gain_micros`` = earned - energy (with fees and carbon) - restarts."""

    energy_mj: int
    earned_micros: int
    energy_micros: int
    restart_micros: int

    @property
    def gain_micros(self) -> int:
        """What is left."""
        return self.earned_micros - self.energy_micros - self.restart_micros


class LookAhead(Protocol):
    """Whoever plans several intervals at once. What it proposes is no more than a wish: :func:`admit` decides."""

    def plan(self, rules: Rules, state: State, ahead: Sequence[Interval]) -> list[Counts]:
        """Machines that should be on in each of the intervals ``ahead``, the first of which begins now."""
        ...


def rules_of(hall: Hall) -> Rules:
    """The rules of a hall."""
    return Rules(hall.loads(), hall.connection_w, hall.ramp, hall.starts_on)


def least_and_most(load: Load, state: LoadState, now_ms: int) -> tuple[int, int]:
    """Between which counts a load can be set at ``now_ms``, for its minimum times alone."""
    if load.is_firm:
        return load.count, load.count
    return _held(state.held_on, now_ms), load.count - _held(state.held_off, now_ms)


def greedy(rules: Rules, state: State, interval: Interval) -> Counts:
    """What earns most in this interval alone: whatever earns more than it costs, the best first. Blind to restarts."""
    cost = interval.cost_micros_per_mwh
    wanted = [
        load.count if value > cost else now.on if value == cost else 0
        for load, now, value in zip(rules.loads, state, interval.values_micros_per_mwh, strict=True)
    ]
    return admit(rules, state, interval, wanted)


def below(rules: Rules, state: State, interval: Interval, most_micros_per_mwh: int | None) -> Counts:
    """All miners while a MWh costs no more than a fixed threshold (None: always), none above; accelerators as greedy does."""
    cost = interval.cost_micros_per_mwh
    mines = most_micros_per_mwh is None or cost <= most_micros_per_mwh
    wanted = [
        load.count if (mines if load.kind == "miner" else most_micros_per_mwh is None or value > cost) else 0
        for load, value in zip(rules.loads, interval.values_micros_per_mwh, strict=True)
    ]
    return admit(rules, state, interval, wanted)


def admit(rules: Rules, state: State, interval: Interval, wanted: Sequence[int]) -> Counts:
    """The counts nearest to those ``wanted`` that keep every rule.

    Where less may run than is wanted, what earns least per MWh is left out first (of miners the least efficient), those that
    would have to start before those that run; where more has to run, what earns most stays first. Whatever then still fits of
    what was left out comes back: a machine that is too large for what may be drawn takes no place from those that are not.
    """
    loads = rules.loads
    spans = [least_and_most(load, now, interval.start_ms) for load, now in zip(loads, state, strict=True)]
    least, most = [span[0] for span in spans], [span[1] for span in spans]
    before = [now.on for now in state]
    wishes = [min(max(want, low), high) for want, low, high in zip(wanted, least, most, strict=True)]
    counts = list(wishes)
    floor_w, ceiling_w = reach_w(rules, rules.draw_w(before), interval.length_ms)
    worst = worst_first(loads, interval.values_micros_per_mwh)
    if rules.draw_w(counts) > ceiling_w:
        for end in (list(map(max, before, least)), least):
            _lower(loads, counts, end, worst, rules.draw_w(counts) - ceiling_w)
        for end in (list(map(min, before, wishes)), wishes):
            _refill(loads, counts, end, worst[::-1], ceiling_w - rules.draw_w(counts))
    if rules.draw_w(counts) < floor_w:
        for end in (list(map(min, before, most)), most):
            _raise(loads, counts, end, worst[::-1], floor_w - rules.draw_w(counts))
        for end in (list(map(max, before, wishes)), wishes):
            _trim(loads, counts, end, worst, rules.draw_w(counts) - floor_w)
    # Machines are whole: between a floor and a ceiling that are nearer than one of them, only staying is sure.
    return tuple(counts) if floor_w <= rules.draw_w(counts) <= ceiling_w else tuple(before)


def reach_w(rules: Rules, before_w: int, length_ms: int) -> tuple[int, int]:
    """The least and the most that may be drawn in an interval after one of ``before_w`` watts."""
    up, down = ramp_w(rules.ramp.up_w_per_hour, length_ms), ramp_w(rules.ramp.down_w_per_hour, length_ms)
    ceiling_w = min(rules.connection_w, before_w + up) if up else rules.connection_w
    return max(0, before_w - down) if down else 0, ceiling_w


def worst_first(loads: Sequence[Load], values: Sequence[int]) -> list[int]:
    """Indexes of the loads, those that earn least per MWh first; of equals miners first, and the later ones."""
    return sorted(range(len(loads)), key=lambda number: (values[number], loads[number].kind == "ai", -number))


def fitted(loads: Sequence[Load], counts: Sequence[int], connection_w: int) -> Counts:
    """``counts`` without as many machines as don't fit the connection: the last loads go first, firm ones never."""
    found = list(counts)
    excess = sum(load.draw_w * count for load, count in zip(loads, found, strict=True)) - connection_w
    least = [load.count if load.is_firm else 0 for load in loads]
    if excess > 0:
        _lower(loads, found, least, list(range(len(loads) - 1, -1, -1)), excess)
    return tuple(found)


def advance(rules: Rules, state: State, interval: Interval, counts: Sequence[int]) -> State:
    """The state after an interval with ``counts`` on."""
    return tuple(
        _advanced(load, now, interval.start_ms, count)
        for load, now, count in zip(rules.loads, state, counts, strict=True)
    )


def settle(rules: Rules, state: State, interval: Interval, counts: Sequence[int]) -> Settled:
    """What an interval earns and costs with ``counts`` on, after ``state``."""
    energy = earned = paid = restarts = 0
    for load, now, count, value in zip(
        rules.loads, state, counts, interval.values_micros_per_mwh, strict=True
    ):
        energy_mj = load.draw_w * count * interval.length_ms
        energy += energy_mj
        earned += amount_micros(energy_mj, value)
        paid += amount_micros(energy_mj, interval.cost_micros_per_mwh)
        restarts += max(0, count - now.on) * load.switching.restart_micros
    return Settled(energy, earned, paid, restarts)


def faults(rules: Rules, state: State, interval: Interval, counts: Sequence[int]) -> list[str]:
    """Which rules ``counts`` would break after ``state``, in words; empty for a dispatch that is right."""
    found = []
    for load, now, count in zip(rules.loads, state, counts, strict=True):
        least, most = least_and_most(load, now, interval.start_ms)
        if not least <= count <= most:
            found.append(f"{load.name}: {count} on, but {least} to {most} can be")
    floor_w, ceiling_w = reach_w(rules, rules.draw_w([now.on for now in state]), interval.length_ms)
    draw = rules.draw_w(counts)
    if not floor_w <= draw <= ceiling_w:
        found.append(f"{draw} W drawn, but {floor_w} to {ceiling_w} W can be")
    return found


def hindrances(rules: Rules, length_ms: int) -> list[str]:
    """What keeps single machines from ever running, or from starting or stopping alone; in sentences without their end."""
    firm_w = sum(load.count * load.draw_w for load in rules.loads if load.is_firm)
    room_w = rules.connection_w - firm_w
    up_w, down_w = (ramp_w(rate, length_ms) for rate in _rates(rules.ramp))
    per = f"in {format_duration(length_ms)}"
    found = []
    for load in rules.loads:
        one = f"one machine of {load.name} draws {format_watts(load.draw_w)}"
        if load.is_firm:
            continue
        if load.draw_w > room_w:
            left = f", of which firm accelerators leave {format_watts(room_w)}" if firm_w else ""
            found.append(
                f"{one}, and the connection carries {format_watts(rules.connection_w)}{left}: none ever runs"
            )
        elif 0 < up_w < load.draw_w:
            found.append(
                f"{one}, and the ramp lets the hall rise by {format_watts(up_w)} {per}: none starts, unless others stop"
            )
        elif 0 < down_w < load.draw_w:
            found.append(
                f"{one}, and the ramp lets the hall fall by {format_watts(down_w)} {per}: none stops, unless others start"
            )
    return found


def is_myopic_best(rules: Rules, length_ms: int) -> bool:
    """Whether nothing ties one interval to the next, so that greedy can't be bettered by looking ahead."""
    if any(0 < ramp_w(rate, length_ms) < rules.connection_w for rate in _rates(rules.ramp)):
        return False
    free = [load for load in rules.loads if not load.is_firm]
    return not any(
        load.switching.restart_micros or max(load.switching.min_up_ms, load.switching.min_down_ms) > length_ms
        for load in free
    )


def _rates(ramp: Ramp) -> tuple[int, int]:
    return ramp.up_w_per_hour, ramp.down_w_per_hour


def _held(locks: Locks, now_ms: int) -> int:
    return sum(count for until_ms, count in locks if until_ms > now_ms)


def _kept(locks: Locks, now_ms: int, until_ms: int, more: int) -> Locks:
    """The locks that still hold after ``now_ms``, and one for ``more`` machines."""
    kept = tuple(lock for lock in locks if lock[0] > now_ms) if locks else locks
    return (*kept, (until_ms, more)) if more > 0 else kept


def _advanced(load: Load, now: LoadState, start_ms: int, count: int) -> LoadState:
    if count == now.on and not now.held_on and not now.held_off:
        return now
    up, down = load.switching.min_up_ms, load.switching.min_down_ms
    change = count - now.on
    return LoadState(
        count,
        _kept(now.held_on, start_ms, start_ms + up, change),
        _kept(now.held_off, start_ms, start_ms + down, -change),
    )


def _lower(
    loads: Sequence[Load], counts: list[int], least: Sequence[int], order: Sequence[int], excess_w: int
) -> None:
    for number in order:
        if excess_w <= 0:
            return
        gone = min(max(0, counts[number] - least[number]), -(-excess_w // loads[number].draw_w))
        counts[number] -= gone
        excess_w -= gone * loads[number].draw_w


def _raise(
    loads: Sequence[Load], counts: list[int], most: Sequence[int], order: Sequence[int], missing_w: int
) -> None:
    for number in order:
        if missing_w <= 0:
            return
        more = min(max(0, most[number] - counts[number]), -(-missing_w // loads[number].draw_w))
        counts[number] += more
        missing_w -= more * loads[number].draw_w


def _refill(
    loads: Sequence[Load], counts: list[int], most: Sequence[int], order: Sequence[int], room_w: int
) -> None:
    """As many more as fit into ``room_w``, each load up to its ``most``."""
    for number in order:
        more = min(max(0, most[number] - counts[number]), max(0, room_w) // loads[number].draw_w)
        counts[number] += more
        room_w -= more * loads[number].draw_w


def _trim(
    loads: Sequence[Load], counts: list[int], least: Sequence[int], order: Sequence[int], spare_w: int
) -> None:
    """As many fewer as ``spare_w`` allows, each load down to its ``least``."""
    for number in order:
        gone = min(max(0, counts[number] - least[number]), max(0, spare_w) // loads[number].draw_w)
        counts[number] -= gone
        spare_w -= gone * loads[number].draw_w
