"""What a model replica says that it has served: its own counters, read over HTTP."""

import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass

# Replicas listen on addresses of the cluster: a proxy for the outside must not see these calls.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

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
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api_key}"})  # noqa: S310
    try:
        with _DIRECT.open(request, timeout=timeout_s) as response:
            text: str = response.read().decode(errors="replace")
    except urllib.error.HTTPError as refused:
        # It is a response too, and holds the connection until it is closed.
        refused.close()
        hint = "the API key is not this replica's" if refused.code == 401 else "is it a model replica?"
        raise CountersUnreadableError(f"{url} answered {refused.code}: {hint}") from None
    except (OSError, http.client.HTTPException) as broken:
        raise CountersUnreadableError(f"{url} did not answer: {broken}; has the replica stopped?") from broken
    pairs = (line.partition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: value.strip() for name, _space, value in pairs}


def _count(metrics: dict[str, str], name: str, base_url: str) -> int:
    text = metrics.get(name, "")
    # A count that came as 1.2e+06 has lost its last digits: nothing may be billed by it.
    if not (text.isascii() and text.isdigit()):
        raise CountersUnreadableError(f"{base_url}/metrics gave {name} as {text!r}, not as a whole number")
    return int(text)
