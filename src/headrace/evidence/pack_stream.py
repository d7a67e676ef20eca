"""A pack as it is made by a process of its own, passed on piece by piece, and sealed at its end by who has the key."""

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Protocol, TypeVar

from headrace.evidence.pack import NO_PACK, Sealer, Sign, Wanted, canonical, seal_message, stream_of
from headrace.evidence.pack_export import command
from headrace.journal.codec import Head

T = TypeVar("T")
PIECE_BYTES = 1 << 18


class Aside(Protocol):
    """Does blocking work elsewhere."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """Its result."""
        ...


class BrokenOff(Exception):
    """The process that made a pack ended before its end: who reads it gets no seal."""


async def sealed_pieces(wanted: Wanted, key: bytes, sign: Sign, aside: Aside) -> AsyncIterator[bytes]:
    """The bytes of a pack; ``key``: the public key that goes with ``sign``. Raises BrokenOff, so that it has no end."""
    arguments, request = command(wanted, key.hex())
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None  # noqa: S101 - for who reads types
    assert process.stdout is not None  # noqa: S101
    out, sealer = process.stdout, Sealer(sign)
    try:
        process.stdin.write(request)
        process.stdin.close()
        # Digested where it is read: who serves others must not wait for it.
        while ready := await aside(lambda: _next(out, sealer)):
            yield ready
        if await aside(process.wait):
            raise BrokenOff(_why(process))
        yield sealer.end()
    finally:
        # Whoever asked may be gone: then nobody reads what it writes.
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _next(out: IO[bytes], sealer: Sealer) -> bytes:
    """What may be passed on next; nothing at the end."""
    while piece := out.read(PIECE_BYTES):
        if ready := sealer.feed(piece):
            return ready
    return b""


def _why(process: subprocess.Popen[bytes]) -> str:
    said = process.stderr.read() if process.stderr is not None else b""
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    return f"the pack broke off: {last or f'its process ended with {process.returncode}'}"


def checkpoint_of(
    tenant: str, journal: str, head: Head, place: tuple[int, bytes], key: bytes, sign: Sign
) -> dict[str, object]:
    """What a tenant may keep of a head: it, and how many events its stream had by then (``place``: that, and the last leaf)."""
    count, leaf = place
    closing = {
        "tenant": tenant,
        "journal": journal,
        "key": key.hex(),
        "head": head.as_json(),
        "count": count,
        "leaf": leaf.hex(),
    }
    signature = sign(seal_message(NO_PACK, canonical(closing)))
    return {"pack": NO_PACK.hex(), "closing": closing, "signature": signature.hex()}


def place_in(streams: dict[bytes, tuple[int, bytes]], tenant: str) -> tuple[int, bytes]:
    """How many events a tenant's stream has, and its last leaf, in a journal's chain."""
    return streams.get(stream_of(tenant), (0, bytes(32)))
