"""Baselines of settlement: what a site would have drawn without the instruction, by methods that have names.

Each is the mean of the highest few of some windows in the past, so that it can be checked by hand. A method that has not
what it needs gives way to the next one, and says why.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND, PERMILLE, div_half_even

Method = Literal["high-5-of-10-adjusted", "high-5-of-10", "meter-before", "minute-before", "none"]
METHODS: tuple[Method, ...] = ("high-5-of-10-adjusted", "high-5-of-10", "meter-before", "minute-before")
"""Those that may be asked for; one that is not available gives way to the next."""
DAYS, HIGHEST = 10, 5
MOST_DAYS_BACK = 60
"""No day further back is comparable."""
LEAST_KNOWN_PERMILLE = 900
"""A window counts when at least this much of it is known."""
_FRIDAY = 4


@dataclass(frozen=True, slots=True)
class Window:
    """Energy of what is known (``known_ms``) of a span in the past."""

    from_ms: int
    until_ms: int
    energy_mj: int
    known_ms: int

    @property
    def mean_w(self) -> int:
        """Mean over what is known, which must be something; half-even."""
        return div_half_even(self.energy_mj, self.known_ms)

    @property
    def counts(self) -> bool:
        """Whether enough of it is known."""
        return self.known_ms * PERMILLE >= (self.until_ms - self.from_ms) * LEAST_KNOWN_PERMILLE


Basis = tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """By how much (``watts``) the hour before the notification was above the same hour of the comparable days."""

    watts: int
    hour: Window
    basis: Basis


@dataclass(frozen=True, slots=True)
class Baseline:
    """The method that was ``asked`` for, the one that was used, and why not the others (``reasons``, one for each).

    ``take``: the baseline of an interval is the mean of the ``take`` highest windows of its basis, plus the adjustment, and
    never below 0.
    """

    asked: Method
    method: Method
    take: int
    reasons: tuple[str, ...] = ()
    adjustment: Adjustment | None = None


class Unavailable(Exception):
    """A method has not what it needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Comparable:
    """Where windows of the past come from: ``window`` measures a span; ``asked_ms``: when the instruction was first received.

    Days are the site's. ``held``: when any instruction was in force, as (from, until); such days are left out. Working days are
    Monday to Friday: of holidays nothing is known.
    """

    window: Callable[[int, int], Window]
    zone: str
    asked_ms: int
    held: Sequence[tuple[int, int]]

    def same_time(self, from_ms: int, length_ms: int) -> Basis:
        """The windows of the ten last comparable days at the same local time, the newest first; raises Unavailable."""
        zone = ZoneInfo(self.zone)
        local = _local(from_ms, zone)
        is_working = local.weekday() <= _FRIDAY
        found: list[Window] = []
        for day in self._days(zone):
            if (day.weekday() <= _FRIDAY) == is_working:
                at_ms = _instant_ms(datetime.combine(day, local.time().replace(fold=0)), zone)
                one = self.window(at_ms, at_ms + length_ms) if at_ms is not None else None
                if one is not None and one.counts:
                    found.append(one)
                    if len(found) == DAYS:
                        return tuple(found)
        kind = "working" if is_working else "non-working"
        text = f"{len(found)} of {DAYS} {kind} days without an instruction have readings at {local:%H:%M}"
        raise Unavailable(text)

    def _days(self, zone: ZoneInfo) -> Iterator[date]:
        limited: set[date] = set()
        for from_ms, until_ms in self.held:
            day, last = _local(from_ms, zone).date(), _local(min(until_ms, self.asked_ms) - 1, zone).date()
            while day <= last:
                limited.add(day)
                day += timedelta(days=1)
        today = _local(self.asked_ms, zone).date()
        for number in range(1, MOST_DAYS_BACK + 1):
            day = today - timedelta(days=number)
            if day not in limited:
                yield day

    def before(self, length_ms: int) -> Window:
        """What was drawn right before the notification; raises Unavailable when hardly anything is known of it."""
        found = self.window(self.asked_ms - length_ms, self.asked_ms)
        if not found.counts:
            text = f"{found.known_ms // MS_PER_SECOND} s of the hour before the notification have readings"
            raise Unavailable(text)
        return found


def _local(at_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_ms // MS_PER_SECOND, zone)


def _instant_ms(naive: datetime, zone: ZoneInfo) -> int | None:
    """When it is a local time, the first time where it comes twice; None where the clock jumps over it."""
    aware = naive.replace(tzinfo=zone)
    instant = aware.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != naive.replace(tzinfo=None):
        return None
    return int(instant.timestamp()) * MS_PER_SECOND


def highest_w(basis: Basis, take: int) -> int:
    """The mean of the ``take`` highest means of some windows; half-even."""
    return div_half_even(sum(sorted((one.mean_w for one in basis), reverse=True)[:take]), take)


def baseline_of(
    asked: Method, past: Comparable, starts: Sequence[int], length_ms: int
) -> tuple[Baseline, list[tuple[int | None, Basis]]]:
    """The baseline of each interval, with the windows behind it, by the method asked for or the next one that is available."""
    reasons: list[str] = []
    for method in METHODS[METHODS.index(asked) :]:
        try:
            take, adjustment, bases = _by(method, past, starts, length_ms)
        except Unavailable as error:
            reasons.append(f"{method}: {error}")
            continue
        more_w = adjustment.watts if adjustment else 0
        watts = [max(0, highest_w(basis, take) + more_w) for basis in bases]
        return Baseline(asked, method, take, tuple(reasons), adjustment), list(zip(watts, bases, strict=True))
    return Baseline(asked, "none", 0, tuple(reasons)), [(None, ()) for _ in starts]


def _by(
    method: Method, past: Comparable, starts: Sequence[int], length_ms: int
) -> tuple[int, Adjustment | None, list[Basis]]:
    if method == "meter-before":
        return 1, None, [(past.before(MS_PER_HOUR),)] * len(starts)
    if method == "minute-before":
        found = past.window(past.asked_ms - MS_PER_MINUTE, past.asked_ms)
        if not found.known_ms:
            raise Unavailable("the minute before the notification has no readings")
        return 1, None, [(found,)] * len(starts)
    adjustment = None
    if method == "high-5-of-10-adjusted":
        hour = past.before(MS_PER_HOUR)
        basis = past.same_time(hour.from_ms, MS_PER_HOUR)
        adjustment = Adjustment(hour.mean_w - highest_w(basis, HIGHEST), hour, basis)
    return HIGHEST, adjustment, [past.same_time(at_ms, length_ms) for at_ms in starts]
