"""Starting a payload as an engine does: a process of its own, told everything by its environment."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

Process = subprocess.Popen[str]
# start("serve", "--slots", "1", RANK="0") -> the running process, its output as lines of text.
StartPayload = Callable[..., Process]

SOURCE = Path(__file__).parents[2] / "src"
LONGEST_S = 120.0


@pytest.fixture
def start_payload() -> Iterator[StartPayload]:
    """Start payloads that are gone when the test is over, even when it hangs."""
    with ExitStack() as cleanup:

        def start(name: str, *arguments: str, **environment: str) -> Process:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"headrace.payloads.{name}", *arguments],
                env=os.environ | {"PYTHONPATH": str(SOURCE)} | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            cleanup.enter_context(process)
            cleanup.callback(process.kill)
            # Reading a line of a payload that says nothing would block for ever.
            watchdog = threading.Timer(LONGEST_S, process.kill)
            watchdog.start()
            cleanup.callback(watchdog.cancel)
            return process

        yield start


@pytest.fixture
def free_port() -> int:
    """Return a loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
