"""What every command shares: the client, the console, confirmation."""

import difflib
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.api.listing import where_listed
from headrace.api.views import WorkloadView
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.units import MS_PER_SECOND, format_duration, parse_duration_ms
from headrace.core.workload import TERMINAL
from headrace.sdk import Client

PLAIN_WIDTH = 200
"""Columns where no terminal says how many there are: a table in a file should not be folded."""
LEAST_CUT = 16
"""Letters that are left of a cell that is cut, however narrow the terminal is."""
PATIENCE_S = 2.0
"""How long a command goes on knocking at a control plane that does not answer."""
_COLOURS = {
    "running": "green",
    "succeeded": "green",
    "ready": "green",
    "queued": "yellow",
    "placed": "yellow",
    "paused": "yellow",
    "stopping": "yellow",
    "draining": "yellow",
    "failed": "red",
    "refused": "red",
    "down": "red",
}


class CommandClient(Client):
    """The SDK's client with the patience of somebody who sits before a terminal."""

    def __init__(self, base_url: str, token: str, timeout: float = 30.0) -> None:
        super().__init__(base_url, token, timeout, patience_s=PATIENCE_S)


def client() -> CommandClient:
    """The control plane's client, from the environment or the state directory; raises HeadraceError when neither says."""
    return CommandClient.from_env()


def console() -> Console:
    """Where commands print: with colour on a terminal, plainly and unfolded elsewhere."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=width)


def say(line: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def print_json(value: object) -> None:
    """Print a value as JSON."""
    say(msgspec.json.format(msgspec.json.encode(value)).decode())


def cut_last(rows: Iterable[Sequence[object]], columns: Sequence[str], width: int) -> list[list[object]]:
    """Rows whose last cell is cut to what is left of ``width`` columns: one line for each thing stays one line."""
    found = [list(one) for one in rows]
    widths = [len(name) for name in columns[:-1]]
    for one in found:
        widths = [max(wide, len(str(cell))) for wide, cell in zip(widths, one, strict=False)]
    room = max(LEAST_CUT, width - sum(widths) - 2 * len(widths))
    for one in found:
        text = str(one[-1])
        one[-1] = text if len(text) <= room else f"{text[: room - 1].rstrip()}…"
    return found


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> Table:
    """A plain table; columns named in ``right`` are numbers. States get a colour."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", justify="right" if column in right else "left")
    for row in rows:
        cells = ("" if cell is None else str(cell) for cell in row)
        made.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in cells))
    return made


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str, right: Sequence[str] = ()
) -> None:
    """Print rows as a table, or a sentence when there are none."""
    made = table(columns, rows, right)
    if made.row_count:
        out = console()
        # A line for each row, so that `grep` finds the whole of it.
        if not sys.stdout.isatty():
            out.width = made.__rich_measure__(out, out.options.update(max_width=10_000)).maximum
        out.print(made)
    else:
        say(empty)


def read_file(name: str) -> bytes:
    """A file's bytes, or standard input for ``-``; raises HeadraceError that names it."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        step = "Give a file, or - for standard input."
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"can't read {name}: {error.strerror}.", step)
        ) from None


def confirm(question: str, *, yes: bool) -> bool:
    """Ask, unless told not to; without a terminal to ask on, the answer is an error that says so."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, "nobody is there to confirm.", "Add -y to go on without asking.")
        )
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def age(since: str) -> str:
    """How long ago a time of the API was."""
    passed = datetime.now(UTC) - datetime.fromisoformat(since)
    return format_duration(max(0, int(passed.total_seconds() * 1000)))


def seconds(text: str, option: str) -> float:
    """A time from the command line in seconds: a plain number of them, or a duration with its unit, like 90s.

    Raises HeadraceError that names ``option``.
    """
    try:
        found = float(text)
    except ValueError:
        try:
            return parse_duration_ms(text) / MS_PER_SECOND
        except ValueError as error:
            raise HeadraceError(
                Problem(ProblemCode.BAD_INPUT, f"{error}.", "A plain number is seconds.", option)
            ) from None
    # So written that nan is refused too.
    if not found >= 0:
        message = f"{text!r} is no time to wait."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, "Give 0 or more seconds.", option))
    return found


def plain(value: Any) -> Any:
    """A typed result as plain dicts and lists."""
    return msgspec.to_builtins(value)


def resolve(using: Client, name: str) -> str:
    """The id of a workload by its id or its name; raises HeadraceError when that is none, or more than one.

    Of several workloads with one name, the only one that has not ended is meant; if all have, the last one.
    """
    try:
        return using.workload(name).workload.id
    except HeadraceError as error:
        if error.problem.code is not ProblemCode.NOT_FOUND:
            raise
    everything = list(using.workloads())
    found = [one for one in everything if one.name == name]
    live = [one for one in found if one.state not in TERMINAL]
    if len(live) == 1:
        return live[0].id
    if found and not live:
        return max(found, key=lambda one: one.submitted).id
    raise HeadraceError(_not_one(name, live or found, everything))


def _not_one(name: str, found: Sequence[WorkloadView], everything: Sequence[WorkloadView]) -> Problem:
    if not found:
        names = {known: None for one in everything for known in (one.name, one.id)}
        close = difflib.get_close_matches(name, names, n=1)
        meant = f"Did you mean {close[0]}? " if close else ""
        message = f"no workload has the id or the name {name!r}."
        return Problem(ProblemCode.NOT_FOUND, message, meant + where_listed("workload"))
    ids = tuple(one.id for one in found)
    return Problem(
        ProblemCode.BAD_INPUT, f"{len(found)} workloads are called {name!r}.", "Say the id.", related=ids
    )
