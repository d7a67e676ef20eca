"""What a model replica says that it has served: its own counters, read over HTTP."""

import contextlib
import http.client
import socket
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_PAGE_BYTES = 1 << 20
"""A page of metrics is a few kilobytes; what goes on for longer is none."""
MAX_COUNT_DIGITS = 15
"""A thousand million million tokens: more than that nobody served, and no ledger would take it."""

_PROMPT = "llamacpp:prompt_tokens_total"
_PROMPT_CACHED = "llamacpp:prompt_tokens_cached_total"
_GENERATED = "llamacpp:tokens_predicted_total"
_PROCESSING = "llamacpp:requests_processing"
_DEFERRED = "llamacpp:requests_deferred"


class CountersUnreadableError(RuntimeError):
    """A replica did not answer, or not with counters."""


@dataclass(frozen=True, slots=True)
class TokenCounters:
    """Tokens since the replica started; a restart begins again at zero.

    `prompt` counts as the protocol's `usage.prompt_tokens` does: with `prompt_cached`, the part
    that the replica had in memory from an earlier prompt and did not compute again.
    A request's prompt is added when it was read, its generated tokens when it ends or is cut off.
    """

    prompt: int
    generated: int
    prompt_cached: int = 0


def read_counters(base_url: str, api_key: str, *, timeout_s: float = 5.0) -> TokenCounters:
    """Ask the replica at `base_url` (without `/v1`) for its counters.

    Raises CountersUnreadableError.
    """
    metrics = read_metrics(base_url, api_key, timeout_s=timeout_s)
    cached = _count(metrics, _PROMPT_CACHED, base_url)
    return TokenCounters(
        prompt=_count(metrics, _PROMPT, base_url) + cached,
        generated=_count(metrics, _GENERATED, base_url),
        prompt_cached=cached,
    )


def read_requests_in_flight(base_url: str, api_key: str, *, timeout_s: float = 5.0) -> int:
    """Count the requests that the replica works on or holds back. Raises CountersUnreadableError."""
    metrics = read_metrics(base_url, api_key, timeout_s=timeout_s)
    return _count(metrics, _PROCESSING, base_url) + _count(metrics, _DEFERRED, base_url)


def read_metrics(base_url: str, api_key: str, *, timeout_s: float = 5.0) -> dict[str, str]:
    """Return the replica's metrics, value as text by name. Raises CountersUnreadableError."""
    if not base_url.startswith(("http://", "https://")):
        raise CountersUnreadableError(f"{base_url!r} is no http(s) address of a replica")
    url = f"{base_url.rstrip('/')}/metrics"
    try:
        status, page = _get(url, api_key, timeout_s)
    except (OSError, http.client.HTTPException, ValueError) as broken:
        raise CountersUnreadableError(f"{url} did not answer: {broken}; has the replica stopped?") from broken
    if status != 200:
        hint = "the API key is not this replica's" if status == 401 else "is it a model replica?"
        raise CountersUnreadableError(f"{url} answered {status}: {hint}")
    if len(page) > MAX_PAGE_BYTES:
        raise CountersUnreadableError(f"{url} gave more than {MAX_PAGE_BYTES} bytes: is it a model replica?")
    text = page.decode(errors="replace")
    pairs = (line.partition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: value.strip() for name, _space, value in pairs}


def _get(url: str, api_key: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and page. The replica is a tenant's: it may send us elsewhere, or byte by byte, or for ever.

    So no redirect is followed, no proxy sees the call, and the whole of it has one deadline.
    """
    where = urlsplit(url)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.netloc, timeout=timeout_s)
    late = threading.Event()
    with contextlib.closing(connection):
        connection.connect()
        deadline = threading.Timer(timeout_s, _cut, (connection.sock, late))
        deadline.daemon = True
        deadline.start()
        try:
            connection.request("GET", where.path, headers={"Authorization": f"Bearer {api_key}"})
            with connection.getresponse() as response:
                page = response.read(MAX_PAGE_BYTES + 1)
                rest = response.length
        finally:
            deadline.cancel()
    # Half a page may end within a number.
    if late.is_set() or (rest and len(page) <= MAX_PAGE_BYTES):
        raise http.client.IncompleteRead(page, rest)
    return response.status, page


def _cut(connected: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _count(metrics: dict[str, str], name: str, base_url: str) -> int:
    text = metrics.get(name, "")
    # A count that came as 1.2e+06 has lost its last digits: nothing may be billed by it.
    if not (text.isascii() and text.isdigit()):
        raise CountersUnreadableError(f"{base_url}/metrics gave {name} as {text!r}, not as a whole number")
    if len(text) > MAX_COUNT_DIGITS:
        raise CountersUnreadableError(
            f"{base_url}/metrics gave {name} with {len(text)} digits: nobody served that"
        )
    return int(text)
