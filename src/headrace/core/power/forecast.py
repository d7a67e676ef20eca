"""What the next hours of a price or a carbon intensity may bring, from its past alone.

A forecast of one number for each hour is not what a job that may wait needs: it takes the best hours of a week, and what counts
is how far the good ones stand out, how long they last, and what it costs to have waited in vain. So this is a forecast of **how
levels follow each other**:

- The *level* of an hour is its rank among the hours of the last two weeks, in sixteen parts; its *mood* is how the last day
  ranked on average, in three. Ranks need no unit, no scale and no season, and outliers have no weight.
- How one level follows another is counted for each hour of the day. Where little was seen yet, the counts lean on those of
  all hours together, and these on levels and moods each by itself.
- What a level is worth is read off the last two weeks.

Everything is deterministic, and nothing is ever seen but what :meth:`Past.observe` was given.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

HOURS_OF_DAY = 24
LEVELS = 16
MOOD_ENDS = (0.35, 0.6)
"""Mean ranks of a day that part low, middle and high."""
MOODS = len(MOOD_ENDS) + 1
STATES = LEVELS * MOODS
RECENT_HOURS = 14 * HOURS_OF_DAY
"""The hours that ranks and values are read off."""
MOOD_HOURS = 24
LEAST_HOURS = 72
"""With fewer hours nothing is forecast."""
HOURLY_LEAN = 20.0
"""How many hours of evidence at one hour of the day weigh as much as what is known of all hours together."""
POOLED_LEAN = 20.0
"""The same for a level in a mood, against levels and moods each by itself."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How the hours to come may go; states are level × :data:`MOODS` + mood.

    ``state`` is that of the last hour seen, ``hour`` the hour of the day (UTC, or as counted by who observed) that comes next.
    ``moves[h, s, z]`` is the chance that an hour of day ``h`` is in state ``z`` when the one before was in ``s``;
    ``expected[h, s]`` is what that hour costs then, in the unit of what was observed.
    """

    state: int
    hour: int
    moves: F64
    expected: F64


class Forecast(Protocol):
    """Whoever can be shown one hour after the other, and says what may follow."""

    @property
    def hour(self) -> int:
        """The hour of the day that comes next."""

    @property
    def state(self) -> int:
        """The state of the last hour seen, -1 before the first."""

    def observe(self, value: float) -> None:
        """The next hour is over, and this was its value."""

    def outlook(self) -> Outlook | None:
        """What may follow; None while too little was seen."""


class Past:
    """What was seen so far of a series, hour after hour; ``first_hour`` is the hour of the day of the first value."""

    def __init__(self, first_hour: int = 0) -> None:
        self.hour = first_hour % HOURS_OF_DAY
        self.state = -1
        self._seen = 0
        self._recent = np.empty(RECENT_HOURS)
        self._ranks = np.full(MOOD_HOURS, 0.5)
        self._moves = np.zeros((HOURS_OF_DAY, STATES, STATES))

    def observe(self, value: float) -> None:
        """The next hour is over, and this was its value."""
        recent = self._recent[: min(self._seen, RECENT_HOURS)]
        lower, equal = np.count_nonzero(recent < value), np.count_nonzero(recent == value)
        rank = (lower + 0.5 * equal + 0.5) / (len(recent) + 1)
        self._recent[self._seen % RECENT_HOURS] = value
        self._ranks[self._seen % MOOD_HOURS] = rank
        mood = int(np.searchsorted(MOOD_ENDS, self._ranks[: self._seen + 1].mean()))
        state = min(int(rank * LEVELS), LEVELS - 1) * MOODS + mood
        # The ranks of the first day are those among a few hours: they tell nothing of what follows what.
        if self._seen > HOURS_OF_DAY:
            self._moves[self.hour, self.state, state] += 1
        self.state, self.hour, self._seen = state, (self.hour + 1) % HOURS_OF_DAY, self._seen + 1

    def outlook(self) -> Outlook | None:
        """What may follow; None before :data:`LEAST_HOURS` were seen."""
        if self._seen < LEAST_HOURS:
            return None
        # The hours beside it count half: what happens at seven happens at six or eight too.
        counts = self._moves + 0.5 * (np.roll(self._moves, 1, axis=0) + np.roll(self._moves, -1, axis=0))
        pooled = counts.sum(axis=0)
        pooled = (pooled + POOLED_LEAN * _apart(pooled)) / (pooled.sum(axis=1, keepdims=True) + POOLED_LEAN)
        moves = (counts + HOURLY_LEAN * pooled) / (counts.sum(axis=2, keepdims=True) + HOURLY_LEAN)
        expected = moves @ np.repeat(self._values_of_levels(), MOODS)
        return Outlook(self.state, self.hour, moves, expected)

    def _values_of_levels(self) -> F64:
        """The mean of the recent hours in each level."""
        recent = np.sort(self._recent[: min(self._seen, RECENT_HOURS)])
        ends = [len(recent) * level // LEVELS for level in range(LEVELS + 1)]
        return np.array([recent[first : max(last, first + 1)].mean() for first, last in pairwise(ends)])


def _apart(counts: F64) -> F64:
    """How states follow each other if levels went their way and moods theirs, from the counts of both together."""
    four = counts.reshape(LEVELS, MOODS, LEVELS, MOODS)
    # Of a level, or a mood, that was never seen, the best guess is that it stays.
    levels = four.sum(axis=(1, 3)) + 0.5 * np.eye(LEVELS) + 0.1
    moods = four.sum(axis=(0, 2)) + 0.5 * np.eye(MOODS)
    levels /= levels.sum(axis=1, keepdims=True)
    moods /= moods.sum(axis=1, keepdims=True)
    return np.kron(levels, moods)
