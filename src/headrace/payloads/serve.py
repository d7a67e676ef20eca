"""Serve the example model over the OpenAI protocol until told to stop.

    HEADRACE_PORT_HTTP=8000 HEADRACE_API_KEY=secret python -m headrace.payloads.serve

Listens on loopback. Each replica has a key of its own, so that its counters can be read, and its
tokens spent, only by who holds that key. On SIGTERM it finishes what it works on, up to
`--drain-seconds`; a second SIGTERM ends it at once. It must not be sent new requests by then.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence

from headrace.payloads.counters import CountersUnreadableError, read_requests_in_flight
from headrace.payloads.model import MODEL_NAME, ModelUnavailableError, Serving, start
from headrace.payloads.place import EnvironmentRefusedError, number, usable_cores

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})
_POLL_S = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; return 0 after a stop, 2 when the environment or the port doesn't allow a start."""
    options = _parser().parse_args(arguments)
    # Blocked before any thread exists, and waited for below: no handler runs inside the server.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    try:
        serving = serving_from(os.environ, slots=options.slots, context=options.context)
        server = start(serving)
    except (EnvironmentRefusedError, ModelUnavailableError) as refused:
        print(f"serve: {refused}", file=sys.stderr, flush=True)
        return 2
    base_url = server.listening_address
    print(
        f"serving {MODEL_NAME} on {base_url}/v1: {serving.threads} threads, {serving.slots} slots "
        f"of {serving.context_tokens_per_slot} tokens",
        flush=True,
    )
    signal.sigwait(_STOP)
    print("stopping: finishing what is in flight", flush=True)
    left = drain(base_url, serving.api_key, options.drain_seconds)
    del server
    print(f"stopped: {left} requests cut off" if left else "stopped", flush=True)
    return 0


def serving_from(environment: Mapping[str, str], *, slots: int, context: int) -> Serving:
    """Take port and key from the engine's environment. Raises EnvironmentRefusedError."""
    api_key = environment.get("HEADRACE_API_KEY", "")
    if not api_key:
        raise EnvironmentRefusedError(
            "HEADRACE_API_KEY is not set: a replica without a key would serve anybody"
        )
    return Serving(
        port=number(environment, "HEADRACE_PORT_HTTP", least=1, most=65535),
        api_key=api_key,
        threads=usable_cores(),
        slots=slots,
        context_tokens_per_slot=context,
    )


def drain(base_url: str, api_key: str, limit_s: float) -> int:
    """Wait until no request is left, or `limit_s` is over, or another signal comes; return how many are left."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            left = read_requests_in_flight(base_url, api_key)
        except CountersUnreadableError:
            return 0
        if not left or time.monotonic() >= deadline or signal.sigtimedwait(_STOP, _POLL_S):
            return left


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m headrace.payloads.serve", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--slots", type=int, default=2, help="requests worked on at once (default 2)")
    parser.add_argument(
        "--context", type=int, default=2048, help="tokens of prompt and answer per slot (default 2048)"
    )
    parser.add_argument(
        "--drain-seconds", type=float, default=10.0, help="longest wait for requests in flight"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
