"""Carbon-aware shifting replayed: a job at every hour of a series, decided hour by hour with what had been seen by then.

A job that comes at hour ``i`` needs ``length`` hours of [i, i + window). It is weighed against running at once; the oracle
takes the best hours of the window, which nobody can know; the other baseline takes those that were the best a week before.
Nothing can leak: the decision of an hour is taken before its value is shown to whoever decides, and no later one is shown at all.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.core.power.shifting import Shifter
from headrace.core.units import MICROS, MS_PER_DAY, MS_PER_HOUR
from headrace.signals.table import Read, Table, read_series, read_table

I64 = NDArray[np.int64]
WEEK_HOURS = 168


@dataclass(frozen=True, slots=True)
class Zone:
    """What the jobs of one zone came to: sums over all hours that they ran, in micrograms per kWh of each hour.

    ``at_once``, ``shifted``, ``last_week``, ``oracle`` are the sums of each way; ``contiguous``: an oracle with no interruption.
    """

    name: str
    jobs: int
    length: int
    at_once: int
    shifted: int
    last_week: int
    oracle: int
    contiguous: int
    oddities: tuple[str, ...] = ()

    def share(self, cost: int) -> float | None:
        """The part of the oracle's saving that a way saves; None where there is nothing to save."""
        whole = self.at_once - self.oracle
        return (self.at_once - cost) / whole if whole else None

    def figures(self) -> dict[str, object]:
        """All of it, ready for JSON: grams per kWh, mean of the hours that ran."""
        hours = self.jobs * self.length * MICROS
        return {
            "jobs": self.jobs,
            "at_once_g_per_kwh": round(self.at_once / hours, 3),
            "headrace": self._way(self.shifted, hours),
            "same_hour_last_week": self._way(self.last_week, hours),
            "oracle": self._way(self.oracle, hours),
            "oracle_contiguous": self._way(self.contiguous, hours),
            "oddities": list(self.oddities),
        }

    def _way(self, cost: int, hours: int) -> dict[str, object]:
        share = self.share(cost)
        return {
            "g_per_kwh": round(cost / hours, 3),
            "saving_percent": round(100 * (1 - cost / self.at_once), 3) if self.at_once else 0.0,
            "share_of_oracle": None if share is None else round(share, 4),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What a replay of several zones came to."""

    length: int
    window: int
    zones: tuple[Zone, ...]
    wall_s: float

    def figures(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        shares = [share for zone in self.zones if (share := zone.share(zone.shifted)) is not None]
        return {
            "length_hours": self.length,
            "window_hours": self.window,
            "worst_share_of_oracle": round(min(shares), 4) if shares else None,
            "zones": {zone.name: zone.figures() for zone in self.zones},
            "wall_s": round(self.wall_s, 3),
        }


def replay(path: Path, zones: Sequence[str], length: int, window: int) -> Result:
    """Replay the columns ``zones`` of a file (all of them when empty); HeadraceError for what can't be read or is too short."""
    began = time.perf_counter()
    table = read_table(path)
    chosen = [column_of(table, zone) for zone in zones] or list(table.columns[1:])
    found = tuple(_zone(path, name, length, window) for name in dict.fromkeys(chosen))
    return Result(length, window, found, time.perf_counter() - began)


def column_of(table: Table, zone: str) -> str:
    """The column of a zone (see :func:`close_columns`); HeadraceError where not just one has that name."""
    close = close_columns(table, zone)
    if len(close) == 1:
        return close[0]
    step = did_you_mean(zone, table.columns[1:], limit=40)
    raise HeadraceError(
        Problem(ProblemCode.NOT_FOUND, f"no column {zone!r} in {table.path};", step, "--zones")
    )


def close_columns(table: Table, zone: str) -> list[str]:
    """The columns that a zone may be: by its name, or else by the last part of theirs (``NO1`` for ``NO-NO1``)."""
    names = table.columns[1:]
    if zone in names:
        return [zone]
    wanted = zone.casefold()
    ends = {name: name.casefold().rpartition("-")[2] for name in names}
    same = [name for name in names if wanted in (name.casefold(), ends[name])]
    return same or [name for name in names if len(ends[name]) > 2 and wanted.startswith(ends[name])]


def jobs_of(values: I64, length: int, window: int, first_hour: int = 0) -> I64:
    """What each job costs that the product shifts, by the hour at which it comes; only those whose window ends in ``values``."""
    count = len(values) - window + 1
    need = np.full(count, length)
    cost = np.zeros(count, np.int64)
    shifter = Shifter(length, window, first_hour)
    for hour, value in enumerate(values.tolist()):
        first, last = max(0, hour - window + 1), min(hour, count - 1)
        if first <= last:
            came = np.arange(first, last + 1)
            now = came[shifter.next_hour()[window - (hour - came), need[first : last + 1]]]
            cost[now] += value
            need[now] -= 1
        shifter.observe(float(value))
    return cost


def oracle_of(values: I64, length: int, window: int) -> I64:
    """What each job costs at the best hours of its window."""
    views = sliding_window_view(values, window)
    return np.asarray(np.partition(views, length - 1, axis=1)[:, :length].sum(axis=1))


def contiguous_of(values: I64, length: int, window: int) -> I64:
    """What each job costs at the best hours in a row of its window."""
    runs = sliding_window_view(values, length).sum(axis=1)
    return np.asarray(sliding_window_view(runs, window - length + 1).min(axis=1))


def last_week_of(values: I64, length: int, window: int) -> I64:
    """What each job costs at the hours that were the best a week before; at once where there was no week before."""
    views = sliding_window_view(values, window)
    cost = views[:, :length].sum(axis=1)
    lag = WEEK_HOURS * -(-window // WEEK_HOURS)
    if len(views) > lag:
        best = np.argsort(views[:-lag], axis=1, kind="stable")[:, :length]
        cost[lag:] = np.take_along_axis(views[lag:], best, axis=1).sum(axis=1)
    return np.asarray(cost)


def _zone(path: Path, name: str, length: int, window: int) -> Zone:
    read = read_series(path, name, option="")
    series = read.series
    if series.length_ms != MS_PER_HOUR:
        minutes = series.length_ms // 60_000
        raise _bad(
            f"{path}: {name}", f"its values are {minutes} minutes apart, not an hour.", "Give hourly values."
        )
    if min(series.micros) < 0:
        raise _bad(f"{path}: {name}", "a carbon intensity below nothing.", "Give grams of CO2e per kWh.")
    stretches = [
        (np.array(series.micros[first:last], np.int64), series.starts_ms[first] % MS_PER_DAY // MS_PER_HOUR)
        for first, last in series.stretches()
        if last - first >= window
    ]
    if not stretches:
        raise _bad(
            f"{path}: {name}",
            f"it has no {window} hours in a row.",
            "Give a longer series, or a shorter --window.",
        )
    sums = [0, 0, 0, 0, 0, 0]
    for values, first_hour in stretches:
        ways = (
            sliding_window_view(values, length)[: len(values) - window + 1].sum(axis=1),
            jobs_of(values, length, window, first_hour),
            last_week_of(values, length, window),
            oracle_of(values, length, window),
            contiguous_of(values, length, window),
        )
        sums = [
            total + int(way.sum()) for total, way in zip(sums, (*ways, np.ones_like(ways[0])), strict=True)
        ]
    at_once, shifted, last_week, oracle, contiguous, jobs = sums
    return Zone(name, jobs, length, at_once, shifted, last_week, oracle, contiguous, _oddities(read))


def _oddities(read: Read) -> tuple[str, ...]:
    assumed = ("times have no offset, and are taken to be in UTC",) if read.assumed else ()
    return (*assumed, *(oddity.line() for oddity in read.series.oddities))


def _bad(where: str, message: str, step: str) -> HeadraceError:
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where))
