"""Following the logs of several ranks at once, line by line, each line with its rank before it."""

import sys
from collections.abc import Sequence
from queue import Queue
from threading import Thread
from typing import NamedTuple

from headrace.cli.common import client
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.sdk import Client

MOST_FOLLOWED = 64
"""Ranks that are followed at once: each has a connection, and asks twice a second."""


class _Heard(NamedTuple):
    """A line of a rank; or its end, with what ended it early."""

    rank: int
    line: bytes | None
    error: Exception | None = None


def follow_ranks(control: Client, ident: str, ranks: Sequence[int], stream: str) -> None:
    """Print the logs of ranks until the workload ends: of one as it is, of several as lines like ``[1] text``."""
    if len(ranks) == 1:
        for piece in control.logs(ident, ranks[0], stream, follow=True):
            _write(piece)
        return
    if len(ranks) > MOST_FOLLOWED:
        message = f"{ident} has {len(ranks)} ranks; at most {MOST_FOLLOWED} are followed at once."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, "Say which one with logs -f --rank N."))
    heard: Queue[_Heard] = Queue()
    for rank in ranks:
        # Daemons: Ctrl-C ends the command, whatever they wait for.
        Thread(target=_listen, args=(ident, rank, stream, heard), daemon=True).start()
    width, open_ranks = len(str(max(ranks))), len(ranks)
    while open_ranks:
        rank, line, error = heard.get()
        if error is not None:
            raise error
        if line is None:
            open_ranks -= 1
        else:
            _write(f"[{rank:>{width}}] ".encode() + line + b"\n")


def _listen(ident: str, rank: int, stream: str, heard: "Queue[_Heard]") -> None:
    rest = b""
    try:
        with client() as control:
            for piece in control.logs(ident, rank, stream, follow=True):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    heard.put(_Heard(rank, line))
    except Exception as error:  # noqa: BLE001 - whatever it is, the command has to end with it
        heard.put(_Heard(rank, None, error))
        return
    if rest:
        heard.put(_Heard(rank, rest))
    heard.put(_Heard(rank, None))


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
