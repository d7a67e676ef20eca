"""What every command shares: the client, the console, confirmation."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.sdk import Client

console = Console(soft_wrap=True, highlight=False)


def client() -> Client:
    """The control plane's client, from the environment or the state directory; raises HeadraceError when neither says."""
    return Client.from_env()


def print_json(value: object) -> None:
    """Print a value as JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows as a table, or a sentence when there are none."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
        count += 1
    console.print(table if count else empty)


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
    return console.input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def plain(value: Any) -> Any:
    """A typed result as plain dicts and lists."""
    return msgspec.to_builtins(value)


def color() -> bool:
    """Whether to use colour: a terminal, and NO_COLOR is not set."""
    return console.is_terminal and "NO_COLOR" not in os.environ
