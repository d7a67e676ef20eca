"""Promises 3, 4 and 6 under attack: a replica is a tenant's, and what it answers can stop or starve nobody."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from headrace.payloads.counters import MAX_PAGE_BYTES, CountersUnreadableError, read_counters

GOOD = "llamacpp:prompt_tokens_total {0}\nllamacpp:prompt_tokens_cached_total 0\nllamacpp:tokens_predicted_total 1\n"
OK = b"HTTP/1.1 200 OK\r\n"


def _page(text: str) -> bytes:
    return OK + f"Content-Length: {len(text)}\r\n\r\n{text}".encode()


@contextmanager
def replica(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A replica that does with each connection what it likes."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)

    def serve() -> None:
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                connection.recv(65_536)
                answer(connection)
        except OSError:
            return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()
        thread.join()


def _drip(connection: socket.socket) -> None:
    """A byte from time to time, for as long as anybody listens (at most ten seconds)."""
    connection.sendall(OK + b"Content-Length: 1000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.1)


def _drip_headers(connection: socket.socket) -> None:
    connection.sendall(OK)
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.1)


def _flood(connection: socket.socket) -> None:
    """More than any page of metrics has (at most 64 MiB)."""
    connection.sendall(OK + b"\r\n")
    for _ in range(1_024):
        connection.sendall(b"#" * 65_535 + b"\n")


HOSTILE: dict[str, Callable[[socket.socket], None]] = {
    "a count of five thousand digits": lambda one: one.sendall(_page(GOOD.format("9" * 5_000))),
    "a count that no ledger takes": lambda one: one.sendall(_page(GOOD.format(10**18))),
    "a redirect to what is no address": lambda one: one.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n"
    ),
    "a redirect to the control plane's own machine": lambda one: one.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    ),
    "a page without an end": _flood,
    "a page byte by byte": _drip,
    "headers byte by byte": _drip_headers,
    "half of a page": lambda one: one.sendall(_page(GOOD.format(12_345))[:-60]),
    "nonsense": lambda one: one.sendall(b"\x00\xff" * 100),
    "a wrong length": lambda one: one.sendall(OK + b"Content-Length: -1\r\n\r\n"),
    "a wrong chunk": lambda one: one.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
def test_whatever_a_replica_answers_is_counters_or_one_kind_of_error(
    answer: Callable[[socket.socket], None],
) -> None:
    """Anything else would end the metering of all tenants, and with it the control plane."""
    with replica(answer) as url, pytest.raises(CountersUnreadableError):
        read_counters(url, "key", timeout_s=0.5)


def test_a_replicas_key_is_sent_to_the_replica_alone() -> None:
    """A redirect is not followed: the key, and the control plane's place in the network, are not the tenant's to lend."""
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(b"called")

    with replica(listen) as elsewhere:
        target = elsewhere.encode()
        move = b"HTTP/1.1 307 Moved\r\nLocation: " + target + b"/metrics\r\nContent-Length: 0\r\n\r\n"
        with (
            replica(lambda one: one.sendall(move)) as url,
            pytest.raises(CountersUnreadableError, match="307"),
        ):
            read_counters(url, "key", timeout_s=0.5)
    assert heard == []


def test_a_page_as_large_as_allowed_is_read_whole() -> None:
    """The limit is far above what a replica says."""
    text = "#" * (MAX_PAGE_BYTES - 200) + "\n" + GOOD.format(7)
    with replica(lambda one: one.sendall(_page(text))) as url:
        assert read_counters(url, "key").prompt == 7
