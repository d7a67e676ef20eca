"""The demo's control plane: a child process, its state in a directory that is kept, and a clean end."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.sdk import Client
from headrace.state import StateDirectory

END_S = 30.0
POLL_S = 0.2


class Plant:
    """``headrace up`` on a free port. ``why_shared`` says why tenants share one Unix user, empty when they don't."""

    def __init__(self, state: Path | None) -> None:
        self.state = (
            state.absolute() if state is not None else Path(tempfile.mkdtemp(prefix="headrace-demo-"))
        )
        self.why_shared = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, tenants apart when that is possible here; raises HeadraceError when it does not start."""
        if os.geteuid() != 0:
            self.why_shared = "only root can give each a user of its own."
        else:
            try:
                self._spawn("up")
            except HeadraceError as error:
                self.why_shared = error.problem.message.partition(";")[0] + "."
            else:
                return
        self._spawn("up", "--no-isolation")

    def again(self) -> None:
        """Start it again on the same state, as after a crash."""
        self._spawn("up", *(["--no-isolation"] if self.why_shared else []))

    def _spawn(self, *arguments: str) -> None:
        command = [
            sys.executable,
            "-P",
            "-m",
            "headrace",
            *arguments,
            "--state",
            str(self.state),
            "--port",
            "0",
        ]
        with tempfile.TemporaryFile("w+") as complaints:
            # A session of its own: Ctrl-C is for the demo, which ends what runs before it ends this.
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=complaints, text=True, start_new_session=True
            )
            for line in process.stdout or ():
                if line.startswith("ready"):
                    self._process = process
                    return
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            complaints.seek(0)
            said = complaints.read().strip().removeprefix("headrace: ") or f"exit code {process.returncode}"
        message = said.splitlines()[-1]
        raise HeadraceError(Problem(ProblemCode.BROKEN, message, "Mend that, and start the demo again."))

    def client(self, token: str = "") -> Client:
        """A client with a token, by default the operator's; raises HeadraceError when nobody knows the way."""
        known = StateDirectory(self.state).read_client()
        if known is None:
            problem = Problem(ProblemCode.BROKEN, f"no client.json in {self.state}.", "Start the demo again.")
            raise HeadraceError(problem)
        return Client(known.url, token or known.token, patience_s=3.0)

    @property
    def url(self) -> str:
        """Where it answers."""
        known = StateDirectory(self.state).read_client()
        return known.url if known is not None else ""

    @property
    def running(self) -> bool:
        """Whether it was started and not ended yet."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Its process, 0 for none."""
        return self._process.pid if self._process is not None else 0

    def stop_work(self) -> list[str]:
        """Stop every workload and wait until none is left; what could not be stopped. Starts a dead control plane again."""
        try:
            return self._stop_work()
        except HeadraceError:
            self._kill()
            self.again()
            return self._stop_work()

    def _stop_work(self) -> list[str]:
        with self.client() as control:
            for work in list(control.workloads(live=True)):
                control.stop(work.id)
            deadline = time.monotonic() + END_S
            while left := [work.id for work in control.workloads(live=True)]:
                if time.monotonic() >= deadline:
                    return left
                time.sleep(POLL_S)
        return []

    def end(self) -> None:
        """End the control plane; its state stays."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn a SIGTERM into what Ctrl-C does, so that both end what was started."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let nobody interrupt the cleaning up, which is bounded in time."""
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            with contextlib.suppress(TypeError):
                signal.signal(number, handler)
