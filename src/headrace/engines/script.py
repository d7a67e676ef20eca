"""What a fake rank does: a handful of shell commands read as a timetable instead of being run."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from string import Template

from headrace.ports import StartOrder

FOREVER_MS = 1 << 60


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one rank does: it runs for ``duration_ms`` of running time, then ends with ``exit_code``.

    ``stdout`` is what it writes at once. SIGTERM ends it ``term_ms`` later, or never (None).
    """

    duration_ms: int = FOREVER_MS
    exit_code: int = 0
    stdout: bytes = b""
    term_ms: int | None = 0


Behave = Callable[[StartOrder, int, Callable[[], dict[str, str]]], Behaviour]
"""Decides what rank ``int`` of an order does; the last argument gives the environment that it would find."""


def behave_as_written(order: StartOrder, rank: int, env: Callable[[], dict[str, str]]) -> Behaviour:
    """Read ``sleep N``, ``echo TEXT``, ``exit N``, ``kill -N $$`` and ``trap '' TERM``; one to a line or after ``;``.

    Variables of the environment are put in. Any other command ends the rank with 127, as a shell that can't find it.
    Without commands it runs until it is stopped.
    """
    if not order.commands:
        return Behaviour()
    duration_ms, written, term_ms = 0, b"", 0
    for line in "\n".join(order.commands).replace(";", "\n").splitlines():
        words = shlex.split(Template(line).safe_substitute(env()) if "$" in line else line)
        match words:
            case []:
                continue
            case ["sleep", seconds]:
                duration_ms += round(float(seconds) * 1000)
            case ["echo", *rest]:
                written += " ".join(rest).encode() + b"\n"
            case ["trap", "", "TERM"]:
                term_ms = -1
            case ["exit", code]:
                return _behaviour(duration_ms, int(code), written, term_ms)
            case ["kill", signal, "$"]:
                return _behaviour(duration_ms, 128 + int(signal.removeprefix("-")), written, term_ms)
            case _:
                return _behaviour(duration_ms, 127, written, term_ms)
    return _behaviour(duration_ms, 0, written, term_ms)


def _behaviour(duration_ms: int, exit_code: int, written: bytes, term_ms: int) -> Behaviour:
    return Behaviour(duration_ms, exit_code, written, None if term_ms < 0 else term_ms)
