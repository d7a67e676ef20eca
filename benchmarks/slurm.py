"""Against Slurm, in one run on one machine: 2,000 eight-GPU jobs from the first submission until all are allocated.

Nodes are alike on both sides: 16 GPUs, two processors, so that 1,000 of them hold all jobs at once. Nothing is started
on either side: Slurm's are CLOUD nodes whose start is ``/bin/true``; our engine takes orders and does nothing. Both keep
their state in one temporary directory's file system.

Slurm's time is the fastest of several ways to submit: an array of 2,000 tasks (one request), and 2,000 ``sbatch``
from four threads, with scheduling at submission and deferred. It ends when ``squeue`` shows nodes for every job. Slurm
writes its state every few seconds, after it has answered; what that would add is not counted. Ours is the production
path: control plane and planner as processes, HTTP with an idempotency key, one batch; it ends when the status, which is
answered once what it says is synced, shows every job placed.

Slurm selects by ``cons_tres``, its plugin for nodes with GPUs. Its older ``cons_res`` knows no ``--gpus`` and has left
later releases, but takes ``--gres`` and is faster: it is measured too and stands in the notes, with its own ratio.
"""

import http.client
import os
import pwd
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.registry import Figure
from headrace.clock import WallClock
from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.codec import normalise
from headrace.core.contracts import Contract, PricePlan, Tenant
from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, Site
from headrace.core.hardware import HardwareType
from headrace.core.ids import ContractId, OperatorId, PlanId, ProjectId, SiteId, TenantId
from headrace.engines.fake import FakeEngine
from headrace.ports import StartOrder
from headrace.server import Server, Settings
from headrace.state import ClientFile

TEMPLATE = Path(__file__).with_name("slurm.conf.in")
PROGRAMS = ("slurmctld", "munged", "sbatch", "squeue", "scontrol", "setpriv")
INSTALL = "apt-get install --no-install-recommends slurmctld slurm-client slurm-wlm-basic-plugins munge"
GPUS, CPUS, MEMORY_MB = 16, 2, 64_000
JOB_GPUS, JOB_CPUS = 8, 1
SETTLE_S = 5.0
"""A controller that has just started waits for some seconds before it schedules: that is not counted."""
PATIENCE_S = 1_800.0
CLIENTS = 4
TENANT = TenantId("tenant")


# -- Slurm -------------------------------------------------------------------------------------------------------------


def missing() -> list[str]:
    """Programs that this benchmark needs and this machine has not."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True, slots=True)
class Way:
    """How jobs reach Slurm: what submits them, whether scheduling is deferred, and by which plugin nodes are selected."""

    submit: Callable[["Slurm", int], None]
    defer: bool = False
    select: str = "cons_tres"


def render(folder: Path, port: int, nodes: int, way: Way, user: str = "root") -> str:
    """Slurm's configuration for a controller in ``folder``."""
    values = {
        "DIR": str(folder),
        "PORT": str(port),
        "USER": user,
        "NODES": str(nodes),
        "CPUS": str(CPUS),
        "GPUS": str(GPUS),
        "MEMORY_MB": str(MEMORY_MB),
        "DEFER": "defer," if way.defer else "",
        "SELECT": way.select,
    }
    text = TEMPLATE.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def count_allocated(queue: str) -> int:
    """Jobs that hold nodes, from lines of ``squeue -h -r -o '%T|%N'``: configuring or running, with nodes named."""
    rows = (line.strip().partition("|") for line in queue.splitlines())
    return sum(state in ("CONFIGURING", "RUNNING") and bool(nodes) for state, _, nodes in rows)


class Slurm:
    """A controller that runs: its clients' environment and its process."""

    def __init__(self, folder: Path, process: int) -> None:
        self.folder, self.process = folder, process
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.script = folder / "job.sh"
        self.script.write_text("#!/bin/sh\nexec python3 train.py --config run.yaml\n")

    def ask(self, *command: str) -> str:
        """Run one of Slurm's commands; its output. Raises CalledProcessError."""
        return subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    def submit(self, *options: str) -> None:
        """``sbatch`` eight GPUs on one node."""
        ask = ("-n1", f"-c{JOB_CPUS}", f"--gres=gpu:{JOB_GPUS}", "--export=NONE", "--output=/dev/null")
        self.ask("sbatch", *ask, *options, str(self.script))

    def allocated(self) -> int:
        """Jobs that hold nodes now."""
        return count_allocated(self.ask("squeue", "-h", "-r", "-o", "%T|%N"))

    def processor_s(self) -> float:
        """Processor seconds that the controller has used."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _child(*command: str, environment: dict[str, str] | None = None) -> Iterator[int]:
    """A process that ends with this block, or with this process, however that ends."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def controller(nodes: int, way: Way) -> Iterator[Slurm]:
    """A fresh Slurm of ``nodes`` nodes that schedules."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="headrace-slurm-")))
        folder.chmod(0o755)  # munge wants its socket to be reached by all.
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1_024))
        key.chmod(0o400)
        user = pwd.getpwuid(os.getuid()).pw_name
        (folder / "slurm.conf").write_text(render(folder, _free_port(), nodes, way, user))
        named = (
            f"--{name}={folder / file}"
            for name, file in (
                ("key-file", "munge.key"),
                ("socket", "munge.sock"),
                ("pid-file", "munge.pid"),
                ("log-file", "munge.log"),
                ("seed-file", "munge.seed"),
            )
        )
        stack.enter_context(_child("munged", "--foreground", "--force", "--num-threads=4", *named))
        _wait_for((folder / "munge.sock").exists, "munged did not start")
        process = stack.enter_context(_child("slurmctld", "-D", "-c", "-f", str(folder / "slurm.conf")))
        slurm = Slurm(folder, process)
        _wait_for(lambda: _answers(slurm), "slurmctld did not start")
        time.sleep(SETTLE_S)
        yield slurm


def _answers(slurm: Slurm) -> bool:
    done = subprocess.run(["scontrol", "ping"], env=slurm.environment, capture_output=True, check=False)
    return done.returncode == 0 and b"UP" in done.stdout


def _wait_for(holds: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + 60
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        time.sleep(0.05)


def _as_array(slurm: Slurm, jobs: int) -> None:
    slurm.submit(f"--array=0-{jobs - 1}")


def _one_by_one(slurm: Slurm, jobs: int) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(slurm.submit) for _ in range(jobs)]:
            done.result()


OLDER = "array_cons_res"
WAYS = {
    "array": Way(_as_array),
    "sbatch": Way(_one_by_one),
    "sbatch_defer": Way(_one_by_one, defer=True),
    OLDER: Way(_as_array, select="cons_res"),
}
"""The fastest is what we are compared with; ``OLDER`` is told beside it."""


def measure_slurm(way: str, nodes: int, jobs: int) -> dict[str, float]:
    """Seconds by one way of submission: accepted, allocated, and the controller's processor time."""
    with controller(nodes, WAYS[way]) as slurm:
        before = slurm.processor_s()
        start = time.perf_counter()
        WAYS[way].submit(slurm, jobs)
        accepted = time.perf_counter() - start
        while slurm.allocated() < jobs:
            if time.perf_counter() - start > PATIENCE_S:
                raise RuntimeError(f"Slurm allocated {slurm.allocated()} of {jobs} jobs in {PATIENCE_S} s")
            time.sleep(0.05)
        took = time.perf_counter() - start
        return {"accepted_s": accepted, "allocated_s": took, "cpu_s": slurm.processor_s() - before}


# -- ours --------------------------------------------------------------------------------------------------------------


def documents(nodes: int) -> c.ApplyDocuments:
    """One site of ``nodes`` nodes like Slurm's, with power for all of them, and a tenant."""
    kind = HardwareType(
        id="bench-16",
        accelerator="H100",
        accelerators=GPUS,
        nameplate_w=16_000,
        idle_w=3_000,
        accelerator_w=700,
        accelerator_idle_w=88,
        cpu_milli=1_000 * CPUS,
        memory_mb=MEMORY_MB,
    )
    group = NodeGroup("g", kind.id, racks=-(-nodes // 4), nodes_per_rack=4, nodes=nodes)
    site = Site(
        id=SiteId("site"),
        country="GB",
        zone="Europe/London",
        connection=Connection(nodes * kind.nameplate_w * 11 // 10 + 1),
        pue_permille=1_100,
        carbon_g_per_kwh=30,
        energy_price_micros_per_kwh=50_000,
        currency="GBP",
        engine="fake",
        blocks=(Block("b", (group,), commissioned="2024-01-01"),),
    )
    operator = Operator(OperatorId("bench"), "Bench", "GB", "Europe/London", "GBP")
    plan = PricePlan(PlanId("std"), "GBP", {"*": 2_000_000}, {}, {})
    rows: tuple[tuple[str, str, object], ...] = (
        ("estate", "bench", Estate(operator, (site,), {kind.id: kind})),
        ("price-plan", "std", plan),
        ("tenant", TENANT, Tenant(TENANT, (ProjectId("main"),))),
        ("contract", "c", Contract(ContractId("c"), TENANT, PlanId("std"))),
    )
    return c.ApplyDocuments(
        tuple(c.NormalisedDocument(kind, name, normalise(kind, name, value)) for kind, name, value in rows)  # type: ignore[arg-type]
    )


def run_server(folder: str, nodes: int) -> None:
    """Serve a control plane whose engine takes every start and shows no effect yet."""
    server = Server(Settings(Path(folder), port=0, isolate=False), {"fake": _ComingUp(WallClock())})
    server.control.execute(SYSTEM, documents(nodes))
    server.control.commit()
    server.run(_say_ready)


class _ComingUp(FakeEngine):
    """Nodes that never come up, as Slurm's CLOUD nodes: what is placed stays so."""

    def start(self, order: StartOrder) -> None:
        """Taken, and nothing is done."""


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


class _Client:
    """A keep-alive connection to a control plane."""

    def __init__(self, folder: str) -> None:
        found = msgspec.json.decode((Path(folder) / "client.json").read_bytes(), type=ClientFile)
        self.link = http.client.HTTPConnection(found.url.removeprefix("http://"))
        self.headers = {"Authorization": f"Bearer {found.token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: bytes = b"", key: str = "") -> bytes:
        """Send a request; the reply's body. Raises RuntimeError for any error."""
        headers = self.headers | ({"Idempotency-Key": key} if key else {})
        self.link.request(method, path, body or None, headers)
        reply = self.link.getresponse()
        content = reply.read()
        if reply.status >= 300:
            raise RuntimeError(f"{method} {path}: {reply.status} {content[:400]!r}")
        return content

    def placed(self) -> int:
        """Workloads that hold nodes, durably."""
        counts = msgspec.json.decode(self.ask("GET", "/v1/status"))["workloads"]
        return int(counts.get("placed", 0) + counts.get("running", 0))


def _bodies(jobs: int, batch: int) -> list[bytes]:
    rows = [
        {
            "name": f"job-{number}",
            "type": "job",
            "project": "main",
            "resources": {"gpu": f"H100:{JOB_GPUS}", "cpu": JOB_CPUS, "memory": "1GB"},
            "commands": ["python3 train.py --config run.yaml"],
        }
        for number in range(jobs)
    ]
    return [
        msgspec.json.encode({"workloads": rows[first : first + batch]}) for first in range(0, jobs, batch)
    ]


def _send(client: _Client, mine: list[tuple[int, bytes]]) -> None:
    for number, body in mine:
        client.ask("POST", f"/v1/tenants/{TENANT}/workloads", body, f"key-{number}")


def measure_ours(nodes: int, jobs: int, batch: int, connections: int) -> dict[str, float]:
    """Seconds on a fresh control plane: accepted, and allocated."""
    code = "import sys; from benchmarks.slurm import run_server; run_server(sys.argv[1], int(sys.argv[2]))"
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        command = [sys.executable, "-c", code, folder, str(nodes)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            if process.stdout is None or process.stdout.readline().strip() != "ready":
                raise RuntimeError("the control plane did not start")
            clients = [_Client(folder) for _ in range(connections)]
            bodies = list(enumerate(_bodies(jobs, batch)))
            clients[0].placed()
            time.sleep(1)
            with ThreadPoolExecutor(connections) as pool:
                start = time.perf_counter()
                sent = [
                    pool.submit(_send, client, bodies[first::connections])
                    for first, client in enumerate(clients)
                ]
                for one in sent:
                    one.result()
            accepted = time.perf_counter() - start
            while clients[0].placed() < jobs:
                if time.perf_counter() - start > PATIENCE_S:
                    raise RuntimeError(f"{clients[0].placed()} of {jobs} jobs were placed in {PATIENCE_S} s")
                time.sleep(0.005)
            return {"accepted_s": accepted, "allocated_s": time.perf_counter() - start}
        finally:
            process.terminate()
            process.wait(30)


# -- both --------------------------------------------------------------------------------------------------------------


def compare(nodes: int, jobs: int, ways: tuple[str, ...], runs: int = 3) -> Figure:
    """How many times as long Slurm takes, by its fastest way of ``ways``; ours are ``runs`` runs between them."""
    lacking = missing()
    if lacking:
        return Figure(0, {"missing": lacking, "install": INSTALL}, clean=False)
    version = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    ours: list[dict[str, float]] = []
    theirs: dict[str, dict[str, float]] = {}
    for turn in range(max(runs, len(ways))):
        if turn < runs:
            ours.append(measure_ours(nodes, jobs, batch=jobs, connections=1))
        if turn < len(ways):
            theirs[ways[turn]] = measure_slurm(ways[turn], nodes, jobs)
    fastest = min((way for way in theirs if way != OLDER), key=lambda way: theirs[way]["allocated_s"])
    slurm_s = theirs[fastest]["allocated_s"]
    ours_s = statistics.median(run["allocated_s"] for run in ours)
    notes: dict[str, object] = {
        "nodes": nodes,
        "jobs": jobs,
        "slurm_s": round(slurm_s, 3),
        "fastest_way": fastest,
        "ours_s": round(ours_s, 3),
        "ours_accepted_s": round(statistics.median(run["accepted_s"] for run in ours), 3),
        "ours_runs": [round(run["allocated_s"], 3) for run in ours],
    }
    if "sbatch" in theirs:
        singly = measure_ours(nodes, jobs, batch=1, connections=CLIENTS)
        notes["ours_one_by_one_s"] = round(singly["allocated_s"], 3)
    if OLDER in theirs:
        notes["ratio_cons_res"] = round(theirs[OLDER]["allocated_s"] / ours_s, 2)
    for way, seconds in theirs.items():
        notes |= {f"{way}_{name}": round(value, 3) for name, value in seconds.items()}
    ratio = slurm_s / ours_s
    return Figure(ratio, notes, peer=version, ratio=round(ratio, 2))


def thousand(quick: bool) -> Figure:
    """Slurm's seconds over ours on 1,000 nodes; quick: by array alone, which is Slurm's fastest way."""
    return compare(1_000, 2_000, ("array",) if quick else tuple(WAYS))


def twenty_thousand(quick: bool) -> Figure:
    """Slurm's seconds over ours on 20,000 nodes, by array: one ``sbatch`` after another is slower (quick: 1,000 nodes)."""
    return thousand(quick=True) if quick else compare(20_000, 2_000, ("array", OLDER))
