"""A real Ray on this machine: a head and a few raylets on loopback, that end with the block."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.lab.slurm import free_port

INSTALL = (
    "For Ray: `./headrace test --collect-only -q` makes it before it checks anything, and may be stopped then; "
    "or name an environment that has it in HEADRACE_RAY_VENV."
)
CHECKOUT = Path(__file__).resolve().parents[3]
VENV = Path(os.environ.get("HEADRACE_RAY_VENV", CHECKOUT / ".venv-ray"))
"""An environment that has Ray; `./headrace test` makes it."""
PYTHON = VENV / "bin" / "python"
HEAD = "head"
SLOTS = 4
"""Accelerators of each node, a resource called ``lab``."""
PATIENCE_S = 90
_STORE_BYTES = 80_000_000
_MARK = "HEADRACE_RAY_SITE"
_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # A dead node is known as such after a second and a half, not after a quarter of a minute.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "300",
    "RAY_health_check_failure_threshold": "5",
    # A raylet that has lost its head waits for it for so long.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_task_events_report_interval_ms": "200",
}


def missing() -> list[str]:
    """What this needs and this machine has not."""
    return [] if PYTHON.exists() else [f"Ray in {VENV}"]


@dataclass
class RayLab:
    """A Ray that runs. ``names``: its nodes beside the head, which has no processors of its own to give."""

    folder: Path
    names: tuple[str, ...]
    gcs_port: int
    dashboard_port: int
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The Python that has Ray."""
        return PYTHON

    @property
    def address(self) -> str:
        """Its dashboard."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    def start_head(self) -> None:
        """Start the head, which knows nothing of an earlier one."""
        self._start(
            HEAD,
            "--head",
            f"--port={self.gcs_port}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.dashboard_port}",
            f"--ray-client-server-port={free_port()}",
            "--no-monitor",
            "--num-cpus=0",
        )
        self.until(lambda: self._answers("/api/jobs/"), "the head answers")

    def start_node(self, name: str) -> None:
        """Start the raylet of a node, which joins the head that is there."""
        lab = json.dumps({"lab": SLOTS})
        self._start(name, f"--address=127.0.0.1:{self.gcs_port}", "--num-cpus=4", f"--resources={lab}")

    def restart(self) -> None:
        """Start a new head where the old one was, and all nodes again: those that were there are of another cluster."""
        for name in self.names:
            self.kill(name)
        self.start_head()
        for name in self.names:
            self.start_node(name)

    def alive(self) -> list[str]:
        """Names of the nodes that the head believes alive."""
        rows = self.get("/api/v0/nodes?limit=1000")["data"]["result"]["result"]
        return sorted(row["node_name"] for row in rows if row["state"] == "ALIVE")

    def kill(self, name: str) -> None:
        """SIGKILL all of Ray's own daemons of a node; the workers are left to find out."""
        daemon = self.nodes.pop(name)
        for pid in [*_children(daemon.pid), daemon.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.wait()

    def submit(self, entrypoint: str) -> str:
        """Submit a job as anybody might; its id."""
        return str(self._ask("POST", "/api/jobs/", {"entrypoint": entrypoint})["submission_id"])

    def stop(self, job: str) -> None:
        """Stop a job as anybody might."""
        self._ask("POST", f"/api/jobs/{job}/stop")

    def get(self, path: str) -> Any:
        """What the dashboard says."""
        return self._ask("GET", path)

    def jobs_of_ours(self) -> int:
        """How many jobs of Headrace it has or had lately."""
        return sum(
            any(key.startswith("headrace") for key in job["metadata"] or ()) for job in self.get("/api/jobs/")
        )

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        with httpx.Client(base_url=self.address, timeout=PATIENCE_S, trust_env=False) as http:
            return http.request(method, path, json=body).raise_for_status().json()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > give_up:
                step = f"Look into {self.folder}."
                raise HeadraceError(
                    Problem(ProblemCode.ENGINE_UNAVAILABLE, f"not in {PATIENCE_S} s: {what}.", step)
                )
            time.sleep(0.05)

    def _answers(self, path: str) -> bool:
        if self.nodes[HEAD].poll() is not None:
            step = f"Look into {self.folder}/{HEAD}.out."
            raise HeadraceError(Problem(ProblemCode.ENGINE_UNAVAILABLE, "the head of Ray ended.", step))
        with suppress(httpx.HTTPError, ValueError):
            self.get(path)
            return True
        return False

    def _start(self, name: str, *options: str) -> None:
        command = [
            str(PYTHON),
            "-m",
            "ray.scripts.scripts",
            "start",
            "--block",
            f"--node-name={name}",
            "--node-ip-address=127.0.0.1",
            f"--object-store-memory={_STORE_BYTES}",
            f"--temp-dir={self.folder}/{name}",
            f"--dashboard-agent-listen-port={free_port()}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--include-log-monitor=false",
            *options,
        ]
        with (self.folder / f"{name}.out").open("ab") as log:
            self.nodes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                env=os.environ | _ENV | {_MARK: str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ray's reaper ends the whole process group of a node.
                start_new_session=True,
            )


@contextmanager
def ray_lab(folder: Path, nodes: int = 4) -> Iterator[RayLab]:
    """A Ray of a head and nodes ``lab-0-0`` and so on, with :data:`SLOTS` accelerators each; ended with the block."""
    if missing():
        problem = Problem(ProblemCode.NOT_FOUND, f"a real Ray needs {', '.join(missing())}.", INSTALL)
        raise HeadraceError(problem)
    lab = RayLab(folder, tuple(f"lab-0-{number}" for number in range(nodes)), free_port(), free_port())
    folder.mkdir(exist_ok=True)
    try:
        lab.start_head()
        for name in lab.names:
            lab.start_node(name)
        lab.until(lambda: lab.alive() == [HEAD, *lab.names], "all nodes are there")
        yield lab
    finally:
        _end(lab)


def _end(lab: RayLab) -> None:
    for process in lab.nodes.values():
        process.terminate()
    for process in lab.nodes.values():
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    # What is left is known by the lab's folder: in its environment, or on its command line.
    for _ in range(100):
        left = [pid for pid in _all() if _is_of(pid, str(lab.folder))]
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]


def _is_of(pid: int, folder: str) -> bool:
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        if process.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        wanted = f"{_MARK}={folder}".encode()
        return wanted in process.joinpath("environ").read_bytes().split(b"\0")
    return False


def _children(pid: int) -> list[int]:
    found = []
    for other in _all():
        with suppress(OSError):
            if int(Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(other)
    return found
