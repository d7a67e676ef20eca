"""When an interruptible job runs, if it may wait: hour by hour, with what has been seen by then.

A job needs ``need`` more hours of the ``left`` that remain to it. In each hour it runs, or waits; it must run once the two are
equal. Which is cheaper is solved backwards over how levels follow each other (:mod:`~headrace.core.power.forecast`): the
least expected cost of ``k`` hours out of ``n`` is either to run now and then ``k - 1`` of ``n - 1``, or to wait and then ``k`` of
``n - 1``. So it is not only weighed whether this hour is among the best, but what it costs to find out later that it was.
"""

import numpy as np
from numpy.typing import NDArray

from headrace.core.power.forecast import HOURS_OF_DAY, Forecast, Outlook, Past

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]

REFRESH_HOURS = 72
"""How long a table of decisions is used before it is made anew from what was seen meanwhile."""
MOST_WINDOW_HOURS = 31 * HOURS_OF_DAY
_NEVER = 1e15
"""A cost that nobody chooses."""


def decisions(outlook: Outlook, length: int, window: int) -> Flags:
    """Whether to run, for every situation: ``[left, hour of day, need, state]``; ``left`` to ``window``, ``need`` to ``length``.

    It never runs a job that needs nothing, and always one that needs all that is left; ``need`` beyond ``left`` runs too.
    """
    states = outlook.expected.shape[1]
    run = np.zeros((window + 1, HOURS_OF_DAY, length + 1, states), bool)
    run[0, :, 1:] = True
    costs = np.full((HOURS_OF_DAY, length + 1, states), _NEVER)
    costs[:, 0] = 0
    follow = np.ascontiguousarray(outlook.moves.swapaxes(1, 2))
    for left in range(1, window + 1):
        wait = np.roll(costs, -1, axis=0) @ follow
        now = np.full_like(wait, _NEVER)
        now[:, 1:] = outlook.expected[:, None, :] + wait[:, :-1]
        run[left] = now <= wait
        costs = np.minimum(now, wait)
        # What can't be done in time stays out of reach, however often averages of it were taken.
        costs[:, left + 1 :] = _NEVER
        run[left, :, left:] = True
        run[left, :, 0] = False
        costs[:, 0] = 0
    return run


class Shifter:
    """Decides for jobs of up to ``length`` hours in windows of up to ``window`` hours, at one place.

    It is shown each hour once that is over, and decides of the next one. While too little was seen nobody runs who may wait.
    """

    def __init__(
        self, length: int, window: int, first_hour: int = 0, forecast: Forecast | None = None
    ) -> None:
        if not 0 < length <= window <= MOST_WINDOW_HOURS:
            raise ValueError(f"{length} hours of {window} can't be chosen; at most {MOST_WINDOW_HOURS}")
        self.length, self.window = length, window
        self._forecast: Forecast = forecast or Past(first_hour)
        self._table: Flags | None = None
        self._age = REFRESH_HOURS

    def observe(self, value: float) -> None:
        """The hour that was decided of last is over, and this was its price or intensity."""
        self._forecast.observe(value)
        self._age += 1

    def next_hour(self) -> Flags:
        """Whether to run in the hour that comes, ``[left, need]``, the hour itself counted as left."""
        if self._age >= REFRESH_HOURS:
            outlook = self._forecast.outlook()
            if outlook is not None:
                self._table, self._age = decisions(outlook, self.length, self.window), 0
        if self._table is None:
            left, need = np.ogrid[: self.window + 1, : self.length + 1]
            return np.asarray((need >= left) & (need > 0))
        found: Flags = self._table[:, self._forecast.hour, :, self._forecast.state]
        return found

    def runs(self, left: int, need: int) -> bool:
        """Whether a job that needs ``need`` of the ``left`` hours that remain to it runs in the one that comes."""
        return bool(self.next_hour()[left, need])
