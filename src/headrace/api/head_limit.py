"""The head of a request has an end: whoever sends more than ``MAX_HEAD`` of it gets 431 and is hung up on.

The server's own parser takes in whatever comes, before the application could look at it or at a token.
"""

from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.api.errors import problem_view
from headrace.api.views import ErrorView
from headrace.core.errors import Problem, ProblemCode

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers."""

MAX_SWALLOWED = 8 * 1024 * 1024
LINGER_S = 2.0
"""What is still read of a request that was answered with 431, and for how long, before the connection is cut."""


def _answer() -> bytes:
    message = f"the request's line and headers are more than {MAX_HEAD // 1024} KiB."
    view = problem_view(Problem(ProblemCode.TOO_LARGE, message, "Send what is large in the body."))
    body = msgspec.json.encode(ErrorView(view, (view,)))
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


class _TooLong(Exception):
    """The head is longer than any that means well."""


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with an end to what a head may be."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._in_head = True
        self._only_head = True
        """Whether the piece that is being read is of one head alone."""
        self._hung_up, self._swallowed = False, 0
        self._head = 0
        """Bytes of this head: those that the parser gave out, or those of the pieces that were nothing but head."""

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the head has no end."""
        if self._hung_up:
            self._swallowed += len(data)
            if self._swallowed > MAX_SWALLOWED:
                self.transport.close()
            return
        before, self._only_head = self._head, self._in_head
        super().data_received(data)
        # A header that is still coming has not been given out: count what came.
        if self._only_head and not self._is_over():
            self._head = max(self._head, before + len(data))
            if self._head > MAX_HEAD:
                self._hang_up()

    def send_400_response(self, msg: str) -> None:
        """Say what was wrong with what could not be read as a request."""
        if self._head > MAX_HEAD:
            self._hang_up()
        else:
            super().send_400_response(msg)

    def _is_over(self) -> bool:
        return self._hung_up or self.transport.is_closing()

    def _hang_up(self) -> None:
        """Answer, then take in and forget for a moment what is still being sent: a reset would lose the answer."""
        self._hung_up = True
        self.transport.write(_answer())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._only_head, self._head = True, False, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request's line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header that is whole."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head = self._only_head = False
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            raise _TooLong  # Out of a callback the parser makes an HttpParserError of it, and stops.
