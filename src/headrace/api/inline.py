"""Drive the API without an event loop: a request is a coroutine that is stepped by hand.

For simulations. With an :class:`~headrace.service.InlineService` nothing in a request waits for anything (:func:`call`);
with a service whose ``settled`` waits for a commit that somebody else makes, an :class:`Exchange` stays open until then.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


class Pause:
    """What a coroutine awaits to be left alone until its exchange goes on: normally, or by an error."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Exchange:
    """One request under way. ``path`` may have a query."""

    def __init__(
        self, app: App, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> None:
        plain, _, query = path.partition("?")
        given = {"host": "inline", "content-length": str(len(body))}
        given |= {name.lower(): value for name, value in (headers or {}).items()}
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(plain),
            "raw_path": plain.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
            "client": ("inline", 0),
            "server": ("inline", 80),
        }
        self._body = body
        self._sent: list[Message] = []
        self._steps = self._run(app, scope)

    async def _run(self, app: App, scope: Message) -> None:
        await app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _send(self, message: Message) -> None:
        self._sent.append(message)

    def go_on(self, error: Exception | None = None) -> bool:
        """Go on until it is answered (True) or waits (False); with ``error``, what it waited for has failed."""
        try:
            if error is None:
                self._steps.send(None)
            else:
                self._steps.throw(error)
        except StopIteration:
            return True
        return False

    def drop(self) -> None:
        """Nobody waits for the answer any more."""
        self._steps.close()

    @property
    def reply(self) -> Reply:
        """The answer, once there is one."""
        found = {name.decode(): value.decode("latin-1") for name, value in self._sent[0]["headers"]}
        return (
            self._sent[0]["status"],
            found,
            b"".join(message.get("body", b"") for message in self._sent[1:]),
        )


def call(
    app: App, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Reply:
    """One request from beginning to end. ``path`` may have a query.

    Raises RuntimeError when the app waits for something that only an event loop could bring.
    """
    exchange = Exchange(app, method, path, headers, body)
    if not exchange.go_on():
        exchange.drop()
        raise RuntimeError(f"{method} {path} waits for an event loop")
    return exchange.reply
