"""Exactness: what a replica counted is read whole, or not at all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headrace.payloads.counters import CountersUnreadableError, TokenCounters, read_counters

METRICS = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total {prompt}
llamacpp:prompt_tokens_cached_total {cached}
llamacpp:prompt_seconds_total 0.156898
llamacpp:tokens_predicted_total {generated}
"""


@contextmanager
def replica(text: str, api_key: str = "its own") -> Iterator[str]:
    """Serve `text` as metrics to who has the key; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"Bearer {api_key}" and self.path == "/metrics"
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(text.encode() if known else b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_prompt_tokens_from_the_cache_count_as_prompt_tokens() -> None:
    with replica(METRICS.format(prompt=35, cached=33, generated=40)) as url:
        assert read_counters(url, "its own") == TokenCounters(prompt=68, generated=40, prompt_cached=33)


@pytest.mark.parametrize("lossy", ["1.2e+06", "12.5", "-3", "nan", ""])
def test_a_count_that_is_not_whole_is_refused(lossy: str) -> None:
    text = METRICS.format(prompt=1, cached=0, generated=lossy)
    with replica(text) as url, pytest.raises(CountersUnreadableError, match="tokens_predicted_total"):
        read_counters(url, "its own")


def test_another_replicas_key_is_named_as_the_cause() -> None:
    with replica("") as url, pytest.raises(CountersUnreadableError, match="401: the API key"):
        read_counters(url, "another's")


def test_a_server_without_counters_is_refused() -> None:
    with (
        replica("up 1\n") as url,
        pytest.raises(CountersUnreadableError, match="prompt_tokens_cached_total as ''"),
    ):
        read_counters(url, "its own")


def test_a_replica_that_is_gone_is_named(free_port: int) -> None:
    with pytest.raises(CountersUnreadableError, match=f"{free_port}/metrics did not answer"):
        read_counters(f"http://127.0.0.1:{free_port}", "any", timeout_s=1)


def test_only_http_is_spoken() -> None:
    with pytest.raises(CountersUnreadableError, match="no http"):
        read_counters("file:///etc", "any")
