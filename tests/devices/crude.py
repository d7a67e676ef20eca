"""A server that says exactly what a test tells it to, whatever that is: for answers that no honest device gives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Answer = Callable[[bytes], bytes | None]


@asynccontextmanager
async def crude(answer: Answer, *, once: bool = False) -> AsyncIterator[int]:
    """Listens on a port of 127.0.0.1; what ``answer`` makes of what came is sent. None: it says nothing. Empty: it hangs up.

    ``once``: it hangs up after each answer.
    """
    waiting = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while raw := await reader.read(65_536):
                said = answer(raw)
                if said is None:
                    await waiting.wait()
                if not said:
                    break
                writer.write(said)
                await writer.drain()
                if once:
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        waiting.set()
        server.close()
        # Whoever waits is let go before the loop ends.
        await asyncio.sleep(0.05)


def http(body: str, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer."""
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body.encode())}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
