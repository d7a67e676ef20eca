"""When the intervals of an OpenADR 3.1 event hold: starts, durations, what an interval takes over from its event, loops.

What can't be read is bounded, not guessed: a start has an earliest and a latest reading, an unreadable length is without end.
A limit then holds from the earliest start to the latest end. The rules are those of the OpenADR 3.1 User Guide, section 7.3.
Times are milliseconds UTC; :data:`FOREVER_MS` stands for never.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND

FOREVER_MS = 10**15
"""A moment that does not come, and a length without end."""
MOST_RANDOM_MS = MS_PER_DAY
"""However far a ``randomizeStart`` goes, a limit is held no earlier and no longer than this."""
MOST_CYCLES = 200
"""A loop that comes round more often in :data:`HORIZON_MS` is held as one."""
HORIZON_MS = 2 * MS_PER_DAY
"""How far ahead the rounds of a loop are told."""
_MOST_YEARS = 1_000
_MOST_TEXT = 64
_DURATION = re.compile(
    r"(-?)P(?=\d|T\d)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)([DW]))?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_NOW = re.compile(r"0001-01-01(?:[Tt ]00:00:00(?:\.0+)?(?:[Zz]|[+-]\d{2}:\d{2})?)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_YEAR = 9_999
_LAST_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Length:
    """An ISO 8601 duration: calendar months (years are twelve), and exact milliseconds besides. A day has 24 hours."""

    months: int = 0
    ms: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether it has no extent."""
        return not self.months and not self.ms

    def after(self, start_ms: int) -> int:
        """The moment this long after ``start_ms``, months counted in UTC; :data:`FOREVER_MS` when that is out of reach."""
        if start_ms >= FOREVER_MS or self.ms >= FOREVER_MS:
            return FOREVER_MS
        return min(FOREVER_MS, (_months_after(start_ms, self.months) if self.months else start_ms) + self.ms)


ENDLESS = Length(0, FOREVER_MS)
"""What a duration like ``P9999Y`` says."""
_NO_TIME = Length()


def _months_after(start_ms: int, months: int) -> int:
    if start_ms > _LAST_MS:
        return FOREVER_MS
    start = _EPOCH + timedelta(milliseconds=start_ms)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    if year > _LAST_YEAR:
        return FOREVER_MS
    # The 31st of a month that has no 31st: its last day.
    for day in range(start.day, start.day - 4, -1):
        try:
            return _ms(start.replace(year=year, month=month + 1, day=day))
        except ValueError:
            continue
    return FOREVER_MS


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def parse_length(value: object) -> Length | None:
    """``"PT1H30M"`` as a length; None when it is no duration, or a negative one. A thousand years and more are without end."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) <= _MOST_TEXT else None
    if match is None or match[1]:
        return None
    years, months, days = (int(match[group] or 0) for group in (2, 3, 4))
    days *= 7 if match[5] == "W" else 1
    exact_ms = (
        days * MS_PER_DAY
        + int(match[6] or 0) * MS_PER_HOUR
        + int(match[7] or 0) * MS_PER_MINUTE
        + int(Fraction(match[8] or 0) * MS_PER_SECOND)
    )
    is_endless = years + months // 12 >= _MOST_YEARS or exact_ms >= _MOST_YEARS * 365 * MS_PER_DAY
    return ENDLESS if is_endless else Length(12 * years + months, exact_ms)


@dataclass(frozen=True, slots=True)
class Moment:
    """A start: its earliest and its latest reading. ``is_now``: it says "now", whenever that is."""

    earliest_ms: int
    latest_ms: int
    is_now: bool = False


def parse_moment(value: object, zone: str = "UTC") -> Moment | None:
    """An RFC 3339 time; None when it is none. Without an offset it is read as UTC and as the local time of ``zone``, both.

    The year 1 means "now" (User Guide, 7.3): its bounds are not known here, and are those of all time.
    """
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        return None
    text = value.strip()
    if _NOW.fullmatch(text):
        return Moment(0, FOREVER_MS, is_now=True)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        if found.tzinfo is not None:
            at_ms = _ms(found.astimezone(UTC))
            return Moment(at_ms, at_ms)
        here = ZoneInfo(zone)
        # An hour that comes twice has two readings; one that is left out has two as well.
        readings = [_ms(found.replace(tzinfo=UTC))]
        readings += [_ms(found.replace(tzinfo=here, fold=fold).astimezone(UTC)) for fold in (0, 1)]
    except (OverflowError, ValueError):
        return None
    return Moment(min(readings), max(readings))


@dataclass(frozen=True, slots=True)
class Doubt:
    """What can't be right about an event's times: in which interval (-1: the event), what is wrong, and what is done."""

    code: str
    interval: int
    message: str
    effect: str


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval: it begins between ``earliest_ms`` and ``latest_ms`` and ends by ``end_ms``.

    ``number`` counts from 0 as the event lists them; ``ident`` is what the event calls it. ``random_ms``: its ``randomizeStart``.
    """

    number: int
    ident: int
    earliest_ms: int
    latest_ms: int
    end_ms: int
    random_ms: int
    payloads: object


@dataclass(frozen=True, slots=True)
class Window:
    """When a slot holds, in which ``round`` of the event's loop; ``until_ms`` is exclusive."""

    slot: Slot
    round: int
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """All intervals of an event. ``cycle_ms``: they come again after so long (0: they don't), until ``end_ms``.

    ``is_solid``: the rounds of a loop follow so closely that each interval holds throughout.
    """

    slots: tuple[Slot, ...]
    cycle_ms: int
    end_ms: int
    is_solid: bool
    doubts: tuple[Doubt, ...]

    def windows(self, now_ms: int) -> list[Window]:
        """When each slot holds, by the strictest reading; of a loop what touches now and :data:`HORIZON_MS` after it."""
        if not self.slots:
            return []
        if self.cycle_ms and self.is_solid:
            begins_ms = min(slot.earliest_ms for slot in self.slots)
            return [Window(slot, 0, begins_ms, self.end_ms) for slot in self.slots]
        return [
            Window(slot, turn, slot.earliest_ms + shift_ms, min(self.end_ms, slot.end_ms + shift_ms))
            for turn in self._rounds(now_ms)
            for slot in self.slots
            if slot.earliest_ms + (shift_ms := turn * self.cycle_ms) < self.end_ms
        ]

    def _rounds(self, now_ms: int) -> range:
        if not self.cycle_ms:
            return range(1)
        begins_ms = min(slot.earliest_ms for slot in self.slots)
        first = max(0, (now_ms - begins_ms) // self.cycle_ms - 1)
        last = (min(self.end_ms - 1, max(now_ms, begins_ms) + HORIZON_MS) - begins_ms) // self.cycle_ms
        return range(first, max(first, last) + 1)


class _Walk:
    """One pass over the intervals of an event, from which each takes what it doesn't say itself."""

    def __init__(self, event: Mapping[str, Any], now_ms: int, zone: str) -> None:
        self._now_ms, self._zone = now_ms, zone
        self._said = parse_moment(event.get("modificationDateTime"))
        self.doubts: list[Doubt] = []
        self._period = self._mapping(event.get("intervalPeriod"), -1)
        self._begin = self._start(self._period, -1)
        self._length = self._duration(self._period, -1)
        self._random_ms = self._random(self._period, -1)
        self.slots: list[Slot] = []
        self._before: tuple[int, int] | None = None

    def doubt(self, code: str, interval: int, message: str, effect: str) -> None:
        self.doubts.append(Doubt(code, interval, message, effect))

    def _mapping(self, value: object, number: int) -> Mapping[str, Any]:
        if value is not None and not isinstance(value, Mapping):
            self.doubt(
                "unreadable_time", number, "its intervalPeriod is no object", "it holds until withdrawn"
            )
            return {"duration": None}
        return value or {}

    def _start(self, period: Mapping[str, Any], number: int) -> Moment | None:
        if period.get("start") is None:
            return None
        found = parse_moment(period["start"], self._zone)
        if found is None:
            self.doubt("unreadable_time", number, "its start is no time", "it holds at once")
            return Moment(0, FOREVER_MS)
        if found.is_now:
            return self._now()
        if found.earliest_ms != found.latest_ms:
            effect = "it holds from the earliest to the latest of what it may mean"
            self.doubt("no_offset", number, "its start has no offset from UTC", effect)
        return found

    def _now(self) -> Moment:
        """What "now" means: since the event was last changed on the server, as far as that can be read."""
        if self._said is None or self._said.is_now:
            return Moment(0, FOREVER_MS, is_now=True)
        return Moment(min(self._said.earliest_ms, self._now_ms), self._said.latest_ms, is_now=True)

    def _duration(self, period: Mapping[str, Any], number: int) -> Length | None:
        if "duration" not in period:
            return None
        found = parse_length(period["duration"])
        if found is None:
            self.doubt(
                "unreadable_time", number, "its duration can't be read", "it holds until it is withdrawn"
            )
            return Length(0, -1)
        return found

    def _random(self, period: Mapping[str, Any], number: int) -> int:
        found = parse_length(period.get("randomizeStart", "PT0S"))
        if found is None:
            self.doubt("unreadable_time", number, "its randomizeStart can't be read", "none is taken")
            return 0
        far_ms = found.after(0)
        if far_ms > MOST_RANDOM_MS:
            self.doubt(
                "absurd_time", number, "its randomizeStart is more than a day", "a day is taken for it"
            )
        return min(far_ms, MOST_RANDOM_MS)

    def take(self, number: int, interval: Mapping[str, Any]) -> None:
        """The next interval of the list."""
        own = self._mapping(interval.get("intervalPeriod"), number)
        begin = self._begin_of(own, number)
        length = self._duration(own, number) or self._length
        if length is None:
            self.doubt("no_end", number, "it has no duration", "it holds until it is withdrawn")
            length = Length(0, -1)
        is_read = length.ms >= 0
        end_ms = length.after(begin.latest_ms) if is_read else FOREVER_MS
        # After an interval of unknown length the next may begin at once, or never.
        earliest_next = length.after(begin.earliest_ms) if is_read else begin.earliest_ms
        self._before = (earliest_next, end_ms)
        random_ms = self._random(own, number) if "randomizeStart" in own else self._random_ms
        if length.is_nothing:
            self.doubt("no_extent", number, "its duration is nothing", "it holds at no time: cancelled")
        elif begin.earliest_ms >= FOREVER_MS:
            self.doubt("unreachable", number, "it follows an interval without end", "it never begins")
        else:
            ident = interval.get("id")
            ident = ident if isinstance(ident, int) and not isinstance(ident, bool) else number
            payloads = interval.get("payloads")
            self.slots.append(
                Slot(number, ident, begin.earliest_ms, begin.latest_ms, end_ms, random_ms, payloads)
            )

    def _begin_of(self, own: Mapping[str, Any], number: int) -> Moment:
        found = self._start(own, number)
        if found is not None and not found.is_now:
            return found
        if self._before is not None:
            return Moment(*self._before)
        if self._begin is not None:
            return self._begin
        if found is None:
            self.doubt("no_start", number, "nothing says when it begins", "it holds at once")
        return found or self._now()


def schedule_of(event: Mapping[str, Any], now_ms: int, zone: str = "UTC") -> Schedule:
    """When the intervals of an event hold. ``zone`` reads local times; ``now_ms`` is needed by events that say "now"."""
    intervals = event.get("intervals")
    walk = _Walk(event, now_ms, zone)
    listed: Sequence[Any] = intervals if isinstance(intervals, list | tuple) else ()
    if intervals is not None and not isinstance(intervals, list | tuple):
        walk.doubt("unreadable", -1, "its intervals are no list", "what can't be read holds")
        listed = (None,)
    for number, interval in enumerate(listed):
        if not isinstance(interval, Mapping):
            walk.doubt("unreadable", number, "it is no object", "what can't be read holds")
        walk.take(number, interval if isinstance(interval, Mapping) else {"payloads": ""})
    return _looped(walk, event)


def _looped(walk: _Walk, event: Mapping[str, Any]) -> Schedule:
    """The schedule with the event's own ``duration``, which shortens the intervals or lets them come again."""
    slots, whole = tuple(walk.slots), _NO_TIME
    if event.get("duration") is not None:
        found = parse_length(event["duration"])
        if found is None:
            effect = "its intervals come again until it is withdrawn"
            walk.doubt("unreadable_time", -1, "its duration can't be read", effect)
        whole = ENDLESS if found is None else found
    # PT0S is what the document takes where nothing is said.
    if whole.is_nothing or not slots:
        return Schedule(slots, 0, FOREVER_MS, False, tuple(walk.doubts))
    begins_ms = min(slot.earliest_ms for slot in slots)
    ends_ms = max(slot.end_ms for slot in slots)
    until_ms = whole.after(slots[0].latest_ms)
    if until_ms <= ends_ms or ends_ms >= FOREVER_MS:
        return Schedule(slots, 0, until_ms, False, tuple(walk.doubts))
    cycle_ms = ends_ms - begins_ms
    is_fast = len(slots) > 1 and HORIZON_MS // cycle_ms > MOST_CYCLES
    if is_fast:
        effect = "each of its intervals holds all the time"
        walk.doubt("absurd_time", -1, f"it comes round every {cycle_ms} ms", effect)
    return Schedule(slots, cycle_ms, until_ms, is_fast or len(slots) == 1, tuple(walk.doubts))
