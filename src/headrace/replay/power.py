"""A hall through the prices of years, interval by interval, by somebody who knows at each time only what was known then.

Four ways to decide are played beside each other, under the same rules: greedily, looking ahead, always on, and by the one
threshold that turns out to have been best. What was possible is the best with all prices known (:mod:`headrace.solve.perfect`).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from statistics import fmean
from time import perf_counter
from zoneinfo import ZoneInfo

from headrace.core.power.dispatch import (
    Counts,
    Interval,
    LookAhead,
    Rules,
    State,
    admit,
    advance,
    below,
    faults,
    greedy,
    is_myopic_best,
    rules_of,
    settle,
)
from headrace.core.power.foresight import horizon_of
from headrace.core.power.hall import Hall
from headrace.core.power.threshold import ALWAYS, best_threshold
from headrace.core.units import MICROS, MS_PER_DAY, MS_PER_HOUR
from headrace.solve.highs import HighsLookAhead, machines_of
from headrace.solve.perfect import perfect_foresight

PUBLISHED = time(13)
"""When, local time, the prices of all hours of the next day are known."""
DAYS_BACK, FADES = 7, 0.7
"""What is expected of an hour beyond what is known: the mean of that hour of so many days, each counts so much of the next."""
WEIGHTS = tuple(FADES**day for day in range(DAYS_BACK))
PAYBACK = 8
"""A start has to be thought about for so many times the time in which a machine earns what it costs."""
LEAST_TAIL_MS, MOST_TAIL_MS = 24 * MS_PER_HOUR, 168 * MS_PER_HOUR
ADRIFT = 0.02
"""How far, as a part of it, costs or counts may be from what a plan was made for before it is made again."""

POLICIES = ("greedy", "look_ahead", "always_on", "best_threshold", "foresight")

Tell = Callable[[int, int], None] | None


@dataclass(frozen=True, slots=True)
class Market:
    """What befell, interval by interval without a gap.

    Prices in millionths of the hall's currency per MWh, carbon in micrograms per kWh, ``paid`` as the hall's quotes are.
    """

    starts_ms: tuple[int, ...]
    length_ms: int
    prices: tuple[int, ...]
    carbon: tuple[int, ...]
    paid: tuple[tuple[int, ...], ...]

    def interval(self, hall: Hall, number: int) -> Interval:
        """An interval as it came."""
        cost = hall.cost_micros_per_mwh(self.prices[number], self.carbon[number])
        values = hall.values_micros_per_mwh(self.paid[number])
        return Interval(self.starts_ms[number], self.length_ms, cost, values)


class KnownThen:
    """All that is known at the beginning of an interval, and no way to ask for more.

    Prices: of the hours of a day from 13:00 local time of the day before. Carbon and what work is paid: when the interval begins,
    and nothing of later ones.
    """

    def __init__(self, market: Market, zone: str) -> None:
        self.__market = market
        self.__published, self.__until = _publications(market, ZoneInfo(zone))

    def prices(self, number: int) -> tuple[int, ...]:
        """The prices known when interval ``number`` begins, from the first interval on."""
        return self.__market.prices[: self.known(number)]

    def known(self, number: int) -> int:
        """How many intervals have a price that is known when interval ``number`` begins."""
        at = bisect_right(self.__published, self.__market.starts_ms[number]) - 1
        return max(number + 1, self.__until[at])

    def carbon(self, number: int) -> tuple[int, ...]:
        """The carbon intensities of the intervals up to ``number``."""
        return self.__market.carbon[: number + 1]

    def paid(self, number: int) -> tuple[int, ...]:
        """What work is paid in interval ``number``."""
        return self.__market.paid[number]

    def start_ms(self, number: int) -> int:
        """When an interval begins, or will."""
        return self.__market.starts_ms[0] + number * self.__market.length_ms

    @property
    def length_ms(self) -> int:
        """How long an interval is."""
        return self.__market.length_ms


def _publications(market: Market, zone: ZoneInfo) -> tuple[list[int], list[int]]:
    """When something was published, and how many intervals from the first were known then."""
    first = datetime.fromtimestamp(market.starts_ms[0] / 1_000, UTC).astimezone(zone).date()
    last = datetime.fromtimestamp(market.starts_ms[-1] / 1_000, UTC).astimezone(zone).date()
    published, until = [], []
    day = first - timedelta(days=2)
    while day <= last:
        published.append(_ms(day, PUBLISHED, zone))
        until.append(bisect_left(market.starts_ms, _ms(day + timedelta(days=2), time(), zone)))
        day += timedelta(days=1)
    return published, until


def _ms(day: date, at: time, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, at, zone).timestamp() * 1_000)


@dataclass(slots=True)
class Account:
    """What a way to decide came to: sums in millionths and millijoules; ``counts`` of each interval."""

    gain_micros: int = 0
    earned_micros: int = 0
    energy_micros: int = 0
    restart_micros: int = 0
    energy_mj: int = 0
    counts: list[Counts] = field(default_factory=list)


Chooser = Callable[[int, State, Interval], Counts]


def play(rules: Rules, intervals: Sequence[Interval], choose: Chooser, account: Account) -> None:
    """Decide interval by interval from the hall's first state; every decision is checked against the rules."""
    state = rules.initial()
    for number, interval in enumerate(intervals):
        counts = choose(number, state, interval)
        if wrong := faults(rules, state, interval, counts):
            raise AssertionError(f"a dispatch broke its rules: {'; '.join(wrong)}")
        settled = settle(rules, state, interval, counts)
        account.gain_micros += settled.gain_micros
        account.earned_micros += settled.earned_micros
        account.energy_micros += settled.energy_micros
        account.restart_micros += settled.restart_micros
        account.energy_mj += settled.energy_mj
        account.counts.append(counts)
        state = advance(rules, state, interval, counts)


class Outlook:
    """Looks ahead over what is known, and over what is to be expected for a while after it; plans again when that changes."""

    def __init__(self, hall: Hall, rules: Rules, known: KnownThen, solver: LookAhead) -> None:
        self._hall, self._rules, self._known, self._solver = hall, rules, known, solver
        self._tail_ms = 0
        self._plan: list[Counts] = []
        self._ahead: list[Interval] = []
        self._made_at = self._made_with = 0

    def choose(self, number: int, state: State, interval: Interval) -> Counts:
        """The counts of an interval, by the plan that is in force."""
        if self._is_stale(number, state, interval):
            self._tail_ms = _tail_ms(self._rules, interval)
            self._ahead = list(self._expected(number))
            self._plan = self._solver.plan(self._rules, state, self._ahead)
            self._made_at, self._made_with = number, self._known.known(number)
        return admit(self._rules, state, interval, self._plan[number - self._made_at])

    def _is_stale(self, number: int, state: State, interval: Interval) -> bool:
        place = number - self._made_at
        if not self._plan or self._made_with != self._known.known(number) or place >= len(self._plan):
            return True
        planned = self._ahead[place]
        if planned.values_micros_per_mwh != interval.values_micros_per_mwh:
            return True
        scale = max(map(abs, interval.values_micros_per_mwh))
        if abs(planned.cost_micros_per_mwh - interval.cost_micros_per_mwh) > ADRIFT * scale:
            return True
        if place == 0:
            return False
        before = self._plan[place - 1]
        return any(
            abs(now.on - then) > 1 + ADRIFT * load.count
            for now, then, load in zip(state, before, self._rules.loads, strict=True)
        )

    def _expected(self, number: int) -> Iterator[Interval]:
        """The intervals from ``number`` on, as they are known or expected; longer ones where nothing is known."""
        known = self._known
        prices, carbon = known.prices(number), known.carbon(number)
        values = self._hall.values_micros_per_mwh(known.paid(number))
        per_day = MS_PER_DAY // known.length_ms
        for at in range(number, len(prices)):
            cost = self._hall.cost_micros_per_mwh(prices[at], _expect(carbon, at, per_day))
            yield Interval(known.start_ms(at), known.length_ms, cost, values)
        step = max(1, MS_PER_HOUR // known.length_ms)
        for at in range(len(prices), len(prices) + self._tail_ms // known.length_ms, step):
            price = round(fmean(_expect(prices, at + one, per_day) for one in range(step)))
            cost = self._hall.cost_micros_per_mwh(price, _expect(carbon, at, per_day))
            yield Interval(known.start_ms(at), step * known.length_ms, cost, values)


def _expect(values: Sequence[int], at: int, per_day: int) -> int:
    """A value as it is known, else the mean of what was at this time of the latest days that are."""
    length = len(values)
    if at < length:
        return values[at]
    back = at - ((at - length) // per_day + 1) * per_day
    same = [values[one] for one in range(back, max(-1, back - DAYS_BACK * per_day), -per_day) if one >= 0]
    return round(fmean(same, WEIGHTS[: len(same)])) if same else round(fmean(values))


def _tail_ms(rules: Rules, interval: Interval) -> int:
    """For how long after what is known one has to think: what is done before then still binds, or has to pay."""
    total = rules.draw_w([load.count for load in rules.loads])
    wanted = [
        2 * total * MS_PER_HOUR // rate
        for rate in (rules.ramp.up_w_per_hour, rules.ramp.down_w_per_hour)
        if rate
    ]
    for load, value in zip(rules.loads, interval.values_micros_per_mwh, strict=True):
        wanted.append(2 * max(load.switching.min_up_ms, load.switching.min_down_ms))
        hourly = max(1, value * load.draw_w // MICROS)
        wanted.append(PAYBACK * MS_PER_HOUR * load.switching.restart_micros // hourly)
    hours = max(LEAST_TAIL_MS, min(MOST_TAIL_MS, max(wanted))) // MS_PER_HOUR
    return hours * max(MS_PER_HOUR, interval.length_ms)


@dataclass(frozen=True, slots=True)
class Played:
    """A replay: accounts by policy, and what was possible. Amounts in millionths of the hall's currency.

    ``policies`` has ``greedy``, ``look_ahead`` (unless greedy is the best there is: :func:`is_myopic_best`), ``always_on``
    and ``best_threshold``, and ``foresight``, a dispatch made with all prices known. ``optimum_micros`` is what none can
    exceed, proven, of which ``slack_micros`` stand for rounding alone; ``chosen`` is the policy that the product follows, by
    the hall's rules alone and not by how it went.
    """

    hall: Hall
    intervals: tuple[tuple[Interval, ...], ...]
    policies: dict[str, Account]
    optimum_micros: int
    chosen: str
    threshold_micros: int
    how: str
    plans: int
    wall_s: float
    slack_micros: int = 0

    @property
    def profit_micros(self) -> int:
        """What the product would have earned."""
        return self.policies[self.chosen].gain_micros

    def ratio(self, policy: str = "") -> float | None:
        """What a policy earned of what was possible; None where that is less than one of the currency, roundings apart."""
        if self.optimum_micros - self.slack_micros < MICROS:
            return None
        return self.policies[policy or self.chosen].gain_micros / self.optimum_micros


def followed(hall: Hall, length_ms: int) -> str:
    """The policy that the product follows, by the hall's rules and the length of intervals alone."""
    return "greedy" if is_myopic_best(rules_of(hall), length_ms) else "look_ahead"


def policies_of(chosen: str) -> tuple[str, ...]:
    """What is played where ``chosen`` is followed: all, but looking ahead where greedy is the best there is."""
    return tuple(name for name in POLICIES if name != "look_ahead" or chosen == name)


def replay(hall: Hall, stretches: Sequence[Market], tell: Tell = None) -> Played:
    """Play every stretch of the market by every policy; each stretch begins with the hall's first state."""
    began = perf_counter()
    rules = rules_of(hall)
    intervals = tuple(
        tuple(market.interval(hall, number) for number in range(len(market.starts_ms)))
        for market in stretches
    )
    chosen = followed(hall, stretches[0].length_ms)
    found: dict[str, Account] = {name: Account() for name in policies_of(chosen)}
    threshold = best_threshold(rules, intervals)
    most, slack, hows, solver = 0.0, 0.0, set(), HighsLookAhead()
    for number, (market, stretch) in enumerate(zip(stretches, intervals, strict=True)):
        if tell is not None:
            tell(number, len(stretches))
        play(rules, stretch, lambda _, state, one: greedy(rules, state, one), found["greedy"])
        play(rules, stretch, lambda _, state, one: below(rules, state, one, None), found["always_on"])
        limit = None if threshold >= ALWAYS else threshold
        play(rules, stretch, lambda _, state, one: below(rules, state, one, limit), found["best_threshold"])  # noqa: B023
        if chosen == "look_ahead":
            outlook = Outlook(hall, rules, KnownThen(market, hall.zone), solver)
            play(rules, stretch, outlook.choose, found["look_ahead"])
        best = perfect_foresight(rules, horizon_of(stretch))
        plan = machines_of(rules, best.on_mw)
        play(rules, stretch, lambda at, state, one: admit(rules, state, one, plan[at]), found["foresight"])  # noqa: B023
        most, slack = most + best.most, slack + best.slack
        hows.add(best.how)
    how = " and ".join(sorted(hows))
    return Played(
        hall, intervals, found, math.ceil(most * MICROS), chosen, threshold, how, solver.plans,
        perf_counter() - began, math.ceil(slack * MICROS),
    )  # fmt: skip
