"""A request's head has an end: 431 for whoever sends more, and everybody else is served as before."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from headrace.api.head_limit import MAX_HEAD, BoundedHeads
from tests.api.small import small


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Where the API answers, over the protocol of the live server."""
    config = uvicorn.Config(small(tmp_path).app, http=BoundedHeads, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()
    server.should_exit = True
    thread.join()
    listening.close()


def answered(address: tuple[str, int], *pieces: bytes) -> bytes:
    """Everything that is answered to what is sent, until the server has nothing more to say."""
    with socket.create_connection(address, timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        out = b""
        while more := connection.recv(65_536):
            out += more
    return out


HEALTH = b"GET /healthz HTTP/1.1\r\nhost: a\r\n"
MANY = b"".join(b"x-%d: %s\r\n" % (number, b"v" * 1_000) for number in range(1_000))


@pytest.mark.parametrize(
    "pieces",
    [
        (HEALTH, b"x-large: " + b"v" * 1_000_000, b"\r\n\r\n"),
        (HEALTH, b"x-endless: " + b"v" * 1_000_000),
        (HEALTH, MANY, b"\r\n"),
        (b"GET /healthz?" + b"q" * 1_000_000 + b" HTTP/1.1\r\n\r\n",),
        (HEALTH + b"x-large: " + b"v" * (MAX_HEAD + 1) + b"\r\n\r\n",),
    ],
    ids=["one large header", "a header without an end", "many headers", "a large address", "all at once"],
)
def test_a_head_of_a_megabyte_gets_431_in_the_one_shape_and_nothing_else(
    address: tuple[str, int], pieces: tuple[bytes, ...]
) -> None:
    """One answer, that says what is too large; the application never sees the request."""
    said = answered(address, *pieces)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert json.loads(body)["error"]["code"] == "too_large"
    assert said.count(b"HTTP/1.1") == 1


def test_what_is_large_but_not_absurd_is_served_on_a_connection_that_is_kept(
    address: tuple[str, int],
) -> None:
    """The limit counts each request for itself, and never a body."""
    padded = HEALTH + b"x-large: " + b"v" * (MAX_HEAD - 1_000) + b"\r\n"
    body = b"content-length: 200000\r\n\r\n" + b"b" * 200_000
    last = HEALTH + b"connection: close\r\n\r\n"
    said = answered(address, padded + b"\r\n", padded[:30_000], padded[30_000:] + body, last)
    assert said.count(b"HTTP/1.1 200") == 3


def test_what_is_no_request_is_told_so(address: tuple[str, int]) -> None:
    """The other answer of the parser stays what it is."""
    assert answered(address, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
