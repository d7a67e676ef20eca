"""Drive the API without an event loop: a call is a coroutine that is stepped by hand and never really waits.

For simulations: with an :class:`~headrace.service.InlineService` nothing in a request waits for anything.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


def call(
    app: App, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """One request: its status, headers and body. ``path`` may have a query.

    Raises RuntimeError when the app waits for something that only an event loop could bring.
    """
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
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await app(scope, receive, send)

    steps = run()
    try:
        steps.send(None)
    except StopIteration:
        pass
    else:
        steps.close()
        raise RuntimeError(f"{method} {path} waits for an event loop")
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])
