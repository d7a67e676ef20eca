"""Work on a moment of the world, in a process of its own: a fork sees all memory as it is and copies none of it.

The child has one thread, touches no lock, socket or store of its parent, and leaves without cleaning up what is not its own.
"""

import asyncio
import gc
import os
import signal
import traceback
from collections.abc import Callable
from typing import NoReturn

import msgspec

from headrace.core.errors import HeadraceError, Problem, ProblemCode

_DONE, _REFUSED, _BROKEN = b"d", b"r", b"b"
_NICE = 5
"""Whoever is served goes first."""


async def apart(work: Callable[[], bytes]) -> bytes:
    """What ``work`` makes of this moment, while everybody else goes on. Raises the HeadraceError that it raises.

    What it changes in memory is gone with it. Cancelled, the process ends.
    """
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        _work(work, theirs)
    os.close(theirs)
    loop = asyncio.get_running_loop()
    try:
        said = await loop.run_in_executor(None, _read, ours)
    except asyncio.CancelledError:
        # The reader's thread ends with the pipe.
        os.kill(process, signal.SIGKILL)
        raise
    finally:
        loop.run_in_executor(None, os.waitpid, process, 0)
    kind, body = said[:1], said[1:]
    if kind == _DONE:
        return body
    if kind == _REFUSED:
        raise HeadraceError(*msgspec.json.decode(body, type=list[Problem]))
    text = body.decode() or "its process ended without a word; perhaps memory ran out"
    raise HeadraceError(Problem(ProblemCode.BROKEN, f"planning aside failed: {text}.", "Report this."))


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _work(work: Callable[[], bytes], descriptor: int) -> NoReturn:
    status = 1
    try:
        # Whoever restarts the parent must not find its lock and its port taken by this.
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
        os.nice(_NICE)
        # A collection would write to every page that is shared.
        gc.disable()
        with os.fdopen(descriptor, "wb") as file:
            file.write(_said(work))
        status = 0
    finally:
        os._exit(status)


def _said(work: Callable[[], bytes]) -> bytes:
    try:
        return _DONE + work()
    except HeadraceError as error:
        return _REFUSED + msgspec.json.encode(error.problems)
    except BaseException:  # noqa: BLE001 - nothing of the child may go on in its parent's code
        return _BROKEN + traceback.format_exc().strip().encode()
