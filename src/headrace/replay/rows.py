"""Rows of a trace's CSV file, as far as it is one."""

import csv
from pathlib import Path

from headrace.core.errors import HeadraceError, Problem, ProblemCode


def rows_of(path: Path, wanted: tuple[str, ...], step: str) -> list[dict[str, str]]:
    """The rows of a file with the columns ``wanted``; raises HeadraceError with ``step`` when it has none or lacks some."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [column for column in wanted if not rows or column not in rows[0]]
    if missing:
        message = f"{path.name} lacks the columns {', '.join(missing)}."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where=str(path)))
    return rows
