"""Rows of a trace's CSV file, each with where it stands; its numbers are within bounds, or told by line and column."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from headrace.core.errors import HeadraceError, Problem, ProblemCode

MOST = 1_000_000_000
"""The most of anything that one row may ask for: accelerators, thousandths of processors, megabytes."""
MOST_S = 10_000_000_000
"""The longest time, in seconds: 317 years. Sums of a million jobs stay far within 64 bits of milliseconds."""
MOST_NODES = 1_000_000
WIDEST = 64
"""The most accelerators that a node of ours has."""
CORRECT = "Correct the line or leave it out."


def bad(where: str, message: str, step: str = CORRECT) -> HeadraceError:
    """A problem with what stands at ``where``."""
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file: ``where`` is its file and line, ``cells`` are its texts by column."""

    where: str
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """What stands in a column, "" if there is no such column."""
        return self.cells.get(column, "")

    def whole(self, column: str, least: int = 0, most: int = MOST) -> int:
        """A whole number from ``least`` to ``most``; raises HeadraceError that names line and column."""
        return whole(self.cells[column], column, self.where, (least, most))

    def number(self, column: str, least: float = 0, most: float = MOST) -> float:
        """A number from ``least`` to ``most``; raises HeadraceError that names line and column."""
        return number(self.cells[column], column, self.where, (least, most))


def number(text: str, what: str, where: str, within: tuple[float, float], step: str = CORRECT) -> float:
    """A number from one bound to the other; raises HeadraceError that names ``where`` and ``what``."""
    try:
        value = float(text)
    except ValueError:
        raise bad(where, f"{what} is {shown(text)}, not a number.", step) from None
    # So written that nan is refused too.
    if not within[0] <= value <= within[1]:
        raise bad(where, f"{what} is {shown(text)}, not from {within[0]:,} to {within[1]:,}.", step)
    return value


def whole(text: str, what: str, where: str, within: tuple[int, int], step: str = CORRECT) -> int:
    """As :func:`number`, and without a fraction; ``8.0`` will do."""
    value = number(text, what, where, within, step)
    if not value.is_integer():
        raise bad(where, f"{what} is {shown(text)}, not a whole number.", step)
    return int(value)


def shown(text: str, most: int = 40) -> str:
    """A text in quotes, cut where it is long."""
    return repr(text if len(text) <= most else f"{text[:most]}…")


def text_of(path: Path, step: str) -> str:
    """What stands in a file, without a byte order mark; raises HeadraceError that names the file, or the line that is no text."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise bad(str(path), f"can't read it: {error.strerror}.", step) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # What it counts from is behind the byte order mark.
        rest = error.object
        line = rest.count(b"\n", 0, error.start) + 1
        message = f"can't read it: byte {rest[error.start]:#04x} is no text in UTF-8."
        raise bad(f"{path}:{line}", message, step) from None


def table_of(path: Path, step: str) -> tuple[tuple[str, ...], list[Row]]:
    """The columns of a CSV file, none of an empty one, and its rows. Raises HeadraceError with ``step`` where it is none."""
    reader = csv.reader(StringIO(text_of(path, step), newline=""))
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    try:
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if columns:
                rows.append(Row(where, _cells(where, columns, cells)))
            else:
                columns = tuple(cell.strip() for cell in cells)
    except csv.Error as error:
        raise bad(f"{path}:{reader.line_num}", f"it is no CSV: {error}.", step) from None
    return columns, rows


def rows_of(path: Path, wanted: Sequence[str], step: str) -> list[Row]:
    """The rows of a file with the columns ``wanted``; raises HeadraceError with ``step`` when it has none or lacks some."""
    columns, rows = table_of(path, step)
    if not columns:
        raise bad(str(path), "it is empty.", step)
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise bad(f"{path}:1", f"{path.name} lacks the columns {', '.join(missing)}.", step)
    if not rows:
        raise bad(str(path), "it has no rows below its header.", step)
    return rows


def _cells(where: str, columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """The cells by column. Commas at the end of a row say nothing."""
    if len(cells) < len(columns) or any(cells[len(columns) :]):
        raise bad(where, f"it has {len(cells)} fields, and the header {len(columns)}.")
    return dict(zip(columns, cells, strict=False))
