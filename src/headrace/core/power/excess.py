"""What meters see beyond all that is known to draw there: what may be counted on top, never what may be taken off.

A reading is compared with the most that was counted at its element from :data:`WINDOW_MS` before it on: what was just shed may
still be drawn for a while. What two readings in a row show counts, and goes on counting for :data:`LASTS_MS`. What is seen at
an element and below it is counted once, below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.core.units import MS_PER_SECOND, ceil_div

WINDOW_MS = 10 * MS_PER_SECOND
"""What was counted so long before a reading may still have been drawn at it: loads fall within seconds, and meters lag."""
LASTS_MS = 30 * MS_PER_SECOND
"""So long after it was seen last an excess counts."""
LEAST_TOLERANCE_W = 50
"""No meter is more exact than this, nor is what a catalogue says."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Watts (IT load) that were counted at an element when it was looked at, ``at_ms``."""

    at_ms: int
    watts: int


@dataclass(frozen=True, slots=True)
class Beyond:
    """What one meter showed beyond what was counted, watts of IT load.

    ``last``: its last believed reading, ``(taken at, watts beyond)``; None after one that can't be compared. ``held``: what two
    in a row showed, ``(seen at, watts)``, of the last :data:`LASTS_MS`.
    """

    last: tuple[int, int] | None = None
    held: tuple[tuple[int, int], ...] = ()


def tolerance_w(nameplate_w: int) -> int:
    """By how much a reading may be above what is counted: 1 % of the meter's nameplate, and 50 W at least."""
    return max(LEAST_TOLERANCE_W, nameplate_w // 100)


def step_w(nameplate_w: int) -> int:
    """An excess is counted in steps of so many watts, rounded up: a reading that wavers makes no news."""
    return max(1, nameplate_w // 100)


def with_counted(
    history: Sequence[Counted], at_ms: int, watts: int, kept_ms: int = WINDOW_MS
) -> tuple[Counted, ...]:
    """The history of what was counted at an element, with what is counted at ``at_ms``; what is older than ``kept_ms`` goes.

    Of a time without a change only its ends are kept. A clock that was set back begins anew.
    """
    new = Counted(at_ms, watts)
    if history and at_ms < history[-1].at_ms:
        return (new,)
    is_same = len(history) > 1 and history[-2].watts == history[-1].watts == watts
    found = [*(history[:-1] if is_same else history), new]
    # What held when the time that is kept began is the last that is older than it.
    first = max((place for place, one in enumerate(found) if one.at_ms <= at_ms - kept_ms), default=0)
    return tuple(found[first:])


def most_counted_w(history: Sequence[Counted], at_ms: int) -> int | None:
    """The most that was counted from :data:`WINDOW_MS` before ``at_ms`` until then; None where that is not known so far back.

    What was counted next after ``at_ms`` is among it: between two looks it may have been counted already.
    """
    from_ms = at_ms - WINDOW_MS
    if not history or history[0].at_ms > from_ms:
        return None
    first = max(place for place, one in enumerate(history) if one.at_ms <= from_ms)
    last = next((place for place, one in enumerate(history) if one.at_ms >= at_ms), len(history) - 1)
    return max(one.watts for one in history[first : last + 1])


def beyond_w(history: Sequence[Counted], reading_w: int, at_ms: int, nameplate_w: int) -> int | None:
    """Watts that a believed reading of ``at_ms`` shows beyond what was counted (0: none); None where that is not known."""
    most_w = most_counted_w(history, at_ms)
    return None if most_w is None else max(0, reading_w - most_w - tolerance_w(nameplate_w))


def seen(before: Beyond, at_ms: int, watts: int, now_ms: int) -> Beyond:
    """A meter showed so much beyond at ``at_ms``. What counts is what two readings in a row show; one alone may be a spike."""
    if before.last is not None and before.last[0] == at_ms:
        return before
    held = tuple(one for one in before.held if now_ms - LASTS_MS < one[0] <= now_ms)
    if before.last is not None and min(before.last[1], watts):
        held = (*held, (now_ms, min(before.last[1], watts)))
    return Beyond((at_ms, watts), held)


def unseen(counts_w: int, now_ms: int) -> Beyond:
    """A meter can't be believed or compared now: what counts with it goes on to count, and only readings make it less."""
    return Beyond(None, ((now_ms, counts_w),) if counts_w else ())


def lasting_w(found: Beyond, now_ms: int) -> int:
    """What counts of what a meter showed: the most of the last :data:`LASTS_MS`."""
    return max((watts for at_ms, watts in found.held if at_ms > now_ms - LASTS_MS), default=0)


def own_excess(
    found: Mapping[int, int | None],
    known: Mapping[int, int],
    parents: Sequence[int],
    steps: Mapping[int, int],
) -> dict[int, int]:
    """What each metered element has beyond what is counted there and beyond what is seen below it.

    ``found``: by number of an element, what its meter shows of all below it, or None where it can't tell; then what is ``known``
    of it stays. ``parents``: of all elements, -1 at a connection; children have higher numbers. ``steps``: see :func:`step_w`.
    """
    below: dict[int, int] = {}
    own: dict[int, int] = {}
    for element in sorted(found, reverse=True):
        watts = found[element]
        if watts is None:
            own[element] = known.get(element, 0)
        else:
            left_w = max(0, watts - below.get(element, 0))
            own[element] = ceil_div(left_w, steps[element]) * steps[element]
        above = int(parents[element])
        while above >= 0 and own[element]:
            below[above] = below.get(above, 0) + own[element]
            above = int(parents[above])
    return own
