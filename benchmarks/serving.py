"""Durable submissions over HTTP, batched and single, against a real control plane with its planner running."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import uvloop

from benchmarks import journals
from benchmarks.registry import Figure
from headrace.clock import WallClock
from headrace.control import SYSTEM
from headrace.engines.fake import FakeEngine
from headrace.engines.script import Behaviour
from headrace.ports import StartOrder
from headrace.server import Server, Settings
from headrace.state import ClientFile

RUNS = 3


@contextmanager
def control_plane(gpus: int = 32_000, *, starts: bool = True) -> Iterator[tuple[str, str, int]]:
    """A control plane in a process of its own, with the benchmarks' documents: its URL, admin token, process id.

    ``starts``: what is placed runs; otherwise it stays as it is, so that only planning and adopting go on.
    """
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        code = f"from benchmarks.serving import run_server; run_server({folder!r}, {gpus}, {starts})"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        try:
            if process.stdout is None or process.stdout.readline().strip() != "ready":
                raise RuntimeError("the control plane did not start")
            client = msgspec.json.decode((Path(folder) / "client.json").read_bytes(), type=ClientFile)
            yield client.url, client.token, process.pid
        finally:
            process.terminate()
            process.wait(30)


class _Idle(FakeEngine):
    """Takes every order and starts nothing."""

    def start(self, order: StartOrder) -> None:
        """Taken."""


def run_server(folder: str, gpus: int, starts: bool) -> None:
    """Serve a control plane on the fake engine: what is placed runs for ever."""
    kind = FakeEngine if starts else _Idle
    engine = kind(WallClock(), _for_ever, heartbeat_ms=3_600_000)
    server = Server(Settings(Path(folder), port=0, isolate=False), {"fake": engine})
    server.control.execute(SYSTEM, journals.documents(gpus=gpus))
    server.control.commit()
    server.run(_say_ready)


def _for_ever(_order: StartOrder, _rank: int, _env: Callable[[], dict[str, str]]) -> Behaviour:
    return Behaviour()


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _bodies(count: int, size: int) -> list[tuple[str, bytes]]:
    """(tenant, body) of ``count`` requests of ``size`` workloads each."""
    out: list[tuple[str, bytes]] = []
    for number in range(count):
        tenant = journals.TENANTS[number % len(journals.TENANTS)]
        rows = [
            {
                "name": f"work-{number}-{index}",
                "type": "job",
                "project": "main",
                "nodes": 1 + index % 4,
                "resources": {"gpu": f"H100:{1 + index % 8}", "cpu": 8, "memory": "64GB"},
                "commands": ["python train.py --config run.yaml"],
                "env": {"RUN": str(index % 100)},
                "priority": index % 3,
            }
            for index in range(size)
        ]
        out.append((tenant, msgspec.json.encode({"workloads": rows})))
    return out


class _Connection:
    """A keep-alive HTTP connection that costs as little as it can: the client shares the machine with its subject."""

    def __init__(self, url: str, token: str) -> None:
        self.host, _, self.port = url.removeprefix("http://").partition(":")
        self.token = token

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(self.host, int(self.port))

    async def submit(self, tenant: str, key: str, body: bytes) -> bytes:
        """Send one submission; the reply's body. Raises RuntimeError unless it was created."""
        head = (
            f"POST /v1/tenants/{tenant}/workloads HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.token}\r\n"
            f"Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        reply = await self.reader.readuntil(b"\r\n\r\n")
        length = int(reply.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        content = await self.reader.readexactly(length)
        if not reply.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(f"{reply[:40]!r} {content[:400]!r}")
        return content


async def _load(url: str, token: str, connections: int, bodies: list[tuple[str, bytes]]) -> float:
    """Send every body over some connections; seconds that it took."""
    opened = [_Connection(url, token) for _ in range(connections)]
    for one in opened:
        await one.open()
    work = iter(enumerate(bodies))
    stamp = time.time_ns()

    async def drain(one: _Connection) -> None:
        for number, (tenant, body) in work:
            await one.submit(tenant, f"{stamp}-{number}", body)

    start = time.perf_counter()
    await asyncio.gather(*(drain(one) for one in opened))
    return time.perf_counter() - start


def _syncs(process: int) -> int:
    """Bytes that the process had written to storage: only a sync (or pressure) counts up here."""
    for line in Path(f"/proc/{process}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def _measure(connections: int, count: int, size: int) -> Figure:
    rates: list[float] = []
    payload = 0
    with control_plane() as (url, token, process):
        for _ in range(RUNS):
            bodies = _bodies(count, size)
            payload += sum(len(body) for _, body in bodies)
            seconds = uvloop.run(_load(url, token, connections, bodies))
            rates.append(count * size / seconds)
        synced = _syncs(process)
    notes: dict[str, object] = {
        "connections": connections,
        "batch": size,
        "workloads": count * size * RUNS,
        "runs": RUNS,
    }
    if synced < payload // 2:
        raise RuntimeError(
            f"only {synced} bytes reached the disk for {payload} bytes of requests: commits are not synced"
        )
    return Figure(statistics.median(rates), notes | {"bytes_synced": synced, "worst": round(min(rates))})


def batched(quick: bool) -> Figure:
    """Workloads per second, in batches of 1,000 over 4 connections."""
    return _measure(4, 20 if quick else 60, 1_000)


def single(quick: bool) -> Figure:
    """Single submissions per second over 32 connections."""
    return _measure(32, 3_000 if quick else 10_000, 1)


def while_planning(quick: bool) -> Figure:
    """Milliseconds (99th percentile) of a durable submission while a full plan is made and adopted beside it."""
    gpus, queued = (75_000, 20_000) if quick else (300_000, 100_000)
    with control_plane(gpus, starts=False) as (url, token, _):
        bodies = _bodies(queued // 1_000, 1_000)
        took = uvloop.run(_probe(url, token, bodies, 6.0 if quick else 30.0))
    notes: dict[str, object] = {
        "gpus": gpus,
        "queued": queued,
        "median": round(statistics.median(took), 2),
        "worst": round(max(took), 1),
        "requests": len(took),
    }
    return Figure(statistics.quantiles(took, n=100)[98], notes)


async def _probe(url: str, token: str, bodies: list[tuple[str, bytes]], seconds: float) -> list[float]:
    """Fill the queue, then submit one after the other; milliseconds of each."""
    await _load(url, token, 2, bodies)
    one = _Connection(url, token)
    await one.open()
    took: list[float] = []
    singles = _bodies(len(journals.TENANTS), 1)
    until = time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        tenant, body = singles[len(took) % len(singles)]
        await one.submit(tenant, f"probe-{len(took)}-{time.time_ns()}", body)
        took.append(1_000 * (time.perf_counter() - start))
        await asyncio.sleep(0.01)
    return took
