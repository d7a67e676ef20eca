"""Plots of a replay as SVG: what was allocated over what had arrived, and the distribution of completion times.

Nothing but the figures is in them: the same replay gives the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

import leather  # type: ignore[import-untyped]

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.units import MS_PER_HOUR

Points = Sequence[tuple[float, float]]

_MOST_POINTS = 400
_CDF_PERCENT = 99
_WIDTH, _HEIGHT = 720, 480
_LEAST_RANGE = 0.001
for _text in ("title", "legend", "tick", "axis_title"):
    # Its own default is a font that only one make of computer has.
    setattr(leather.theme, f"{_text}_font_family", "sans-serif")


def thinned(points: Points, most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """Every n-th point and the last one: no more than about ``most``."""
    every = -(-len(points) // most) or 1
    kept = [tuple(point) for point in points[::every]]
    if points and kept[-1] != tuple(points[-1]):
        kept.append(tuple(points[-1]))
    return [(round(x, 4), round(y, 4)) for x, y in kept]


def cdf_points(sorted_ms: Sequence[int]) -> list[tuple[float, float]]:
    """(Hours, percent of the jobs that took no longer), for rising times; up to the 99th percentile."""
    count = len(sorted_ms)
    upto = max(1, count * _CDF_PERCENT // 100)
    return [(at_ms / MS_PER_HOUR, 100 * number / count) for number, at_ms in enumerate(sorted_ms[:upto], 1)]


def check(path: Path) -> None:
    """Raise HeadraceError that names a file that can't be written, before anything is computed for it. Nothing is left behind."""
    try:
        # What is no regular file, like a pipe, may wait for its reader: only writing tells.
        if path.is_file():
            path.open("ab").close()
        elif not path.exists() or path.is_dir():
            path.open("xb").close()
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def write(path: Path, title: str, allocation: Points, cdf: Points = ()) -> None:
    """One file with a chart for each that has points. Raises HeadraceError that names a file that can't be written."""
    charts = []
    if allocation:
        named = f"{title}: allocated over arrived demand"
        charts.append(_chart(named, allocation, "arrived, % of the cluster", "allocated, %"))
    if cdf:
        named = f"{title}: completion times, to the {_CDF_PERCENT}th percentile"
        charts.append(_chart(named, cdf, "hours from submission to end", "jobs, %"))
    grid = leather.Grid()
    grid.add_many(charts)
    drawn: str = grid.to_svg(width=_WIDTH * len(charts), height=_HEIGHT)
    try:
        path.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> HeadraceError:
    reason = "it is a folder" if path.is_dir() else error.strerror
    step = "Give a file for --plot, in a folder that is there."
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, f"can't write {path}: {reason}.", step, "--plot"))


def _chart(title: str, points: Points, x: str, y: str) -> leather.Chart:
    chart = leather.Chart(title)
    shown = thinned(points)
    chart.add_x_scale(0, max(_LEAST_RANGE, *(at for at, _ in shown)))
    chart.add_y_scale(0, 100)
    chart.add_x_axis(name=x)
    chart.add_y_axis(name=y)
    chart.add_line(shown, width=1.5)
    return chart
