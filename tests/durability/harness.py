"""Kills a real control plane at random moments under load, and judges from outside what is left.

Seeded: what is killed and when. What the operating system does with that is its own, so that a seed names a run and
does not repeat it.
"""

import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.durability import judge
from tests.durability.client import TENANTS, Api, Client, Kept, Unanswered
from tests.durability.launcher import READY

ROOT = Path(__file__).parents[2]
KILL_WITHIN_S = (0.05, 1.5)
AIMED, AIMED_WITHIN_S = 0.25, 0.15
"""So often it is killed just after it gave an order to the engine, at most so long after."""
KILLED_AT_START, START_WITHIN_S = 0.2, 1.3
"""So often it is killed again before it answers, at most so long after it was launched."""
START_S = 60.0
NODES = 16
CLIENTS = 2
LIVE = "queued", "placed", "running", "paused", "stopping"

DOCUMENTS = f"""
kind: estate
operator: {{name: harness, title: Harness, country: NO, zone: UTC, currency: NOK}}
sites:
  - name: glomfjord
    country: NO
    zone: Europe/Oslo
    energy: {{source: hydro, carbon: 8, price: 0.45, currency: NOK}}
    connection: {{firm: 40kW}}
    pue: 1.1
    blocks:
      - name: b
        commissioned: 2025-02-01
        groups: [{{name: lab, hardware: lab, racks: 1, nodes_per_rack: {NODES // 2}}}]
  - name: loughton
    country: GB
    zone: Europe/London
    energy: {{source: grid-mix, carbon: 125, price: 0.61, currency: NOK}}
    connection: {{firm: 40kW}}
    pue: 1.25
    blocks:
      - name: b
        commissioned: 2025-02-01
        groups: [{{name: lab, hardware: lab, racks: 1, nodes_per_rack: {NODES // 2}}}]
---
kind: price-plan
name: plan
currency: NOK
prices: {{accelerator_per_hour: {{lab: 12.34}}}}
energy: pass-through
""" + "".join(
    f"""---
kind: tenant
name: {tenant}
projects: [main]
---
kind: contract
name: c-{tenant}
tenant: {tenant}
plan: plan
type: on-demand
starts: 2025-01-01
"""
    for tenant in TENANTS
)
"""What the harness declares; ``judge`` has the same prices in its own words."""


class ControlPlane:
    """One state directory, and the process that serves it now."""

    def __init__(self, state: Path, *, meter_every_ms: int = 3_600_000, file_limit: int = 0) -> None:
        self.state = state
        self.port = _free_port()
        self.arguments = [str(meter_every_ms), str(file_limit)]
        self.process: subprocess.Popen[str] | None = None
        # Open for as long as the control plane may say something into it: `control_plane` closes it.
        self.said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115

    def launch(self) -> None:
        """Start it, without waiting until it answers."""
        command = [sys.executable, "-P", "-m", "tests.durability.launcher", str(self.state), str(self.port)]
        path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
        self.process = subprocess.Popen(
            [*command, *self.arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )

    def start(self) -> float:
        """Start it; seconds until it answered. RuntimeError with what it said when it ends instead."""
        began = time.monotonic()
        self.launch()
        if (
            self.process is None
            or self.process.stdout is None
            or self.process.stdout.readline().strip() != READY
        ):
            self.signal(signal.SIGTERM)
            raise RuntimeError(f"the control plane did not start: {self.errors()[-2_000:]}")
        return time.monotonic() - began

    def errors(self) -> str:
        """All that it wrote to its standard error."""
        self.said.seek(0)
        return self.said.read()

    def signal(self, number: signal.Signals) -> None:
        """Signal it and wait for its end."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)

    def end(self) -> None:
        """SIGTERM, as an operator does."""
        self.signal(signal.SIGTERM)

    @property
    def token(self) -> str:
        """The admin's token, from the file for clients on this machine."""
        return str(json.loads((self.state / "client.json").read_bytes())["token"])

    def api(self) -> Api:
        """A client of it."""
        return Api(self.port, self.token)

    def planners(self) -> list[int]:
        """Process ids of its planner."""
        if self.process is None:
            return []
        return [
            pid
            for pid, parent in _parents()
            if parent == self.process.pid and "headrace.planner" in _command(pid)
        ]

    def runners(self) -> list[int]:
        """Process ids of the runners that work for this state."""
        mark = f"{self.state}/engine/placements/"
        return [pid for pid, _ in _parents() if "runner.py" in (line := _command(pid)) and mark in line]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                data = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            yield int(name), int(data[data.rindex(")") + 2 :].split()[1])


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def control_plane(state: Path, **options: int) -> Iterator[ControlPlane]:
    """A started control plane; at the end it and all runners of its state are killed."""
    plane = ControlPlane(state, **options)
    try:
        plane.start()
        yield plane
    finally:
        plane.kill()
        for pid in plane.runners():
            _kill(pid)
        plane.said.close()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@dataclass
class Report:
    """What a run found."""

    violations: list[str]
    kept: Kept = field(default_factory=Kept)
    public: bytes = b""
    kills: int = 0
    start_kills: int = 0
    aimed_kills: int = 0
    planner_kills: int = 0
    runner_kills: int = 0
    acknowledged: int = 0
    placements: int = 0
    restarts_s: list[float] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)

    def summary(self) -> dict[str, object]:
        """For the benchmark's line."""
        median = statistics.median(self.restarts_s) if self.restarts_s else 0.0
        return {
            "kills": self.kills,
            "of_them_in_a_start": self.start_kills,
            "of_them_after_an_order": self.aimed_kills,
            "planner_kills": self.planner_kills,
            "runner_kills": self.runner_kills,
            "acknowledged": self.acknowledged,
            "placements": self.placements,
            "restart_median_s": round(median, 2),
            **self.notes,
        }


class Accountant(threading.Thread):
    """Closes the books now and then in the middle of it all: parts of an invoice must add up to the whole."""

    def __init__(self, api: Api, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.api, self.chance = api, chance
        self.ending = threading.Event()

    def run(self) -> None:
        """Issue an invoice every few seconds until told to end; no answer is no harm."""
        while not self.ending.wait(self.chance.uniform(2, 6)):
            try:
                self.api.call("POST", "/v1/meter")
                issue(self.api, self.chance.choice(TENANTS))
            except Unanswered:
                continue


def issue(api: Api, tenant: str) -> int:
    """Issue a tenant's invoice for this month; the status."""
    period = datetime.now(UTC).strftime("%Y-%m")
    return api.call("POST", f"/v1/tenants/{tenant}/invoices", {"period": period})[0]


def run(kills: int, seed: int, *, seconds: float | None = None, pace_s: float = 0.25) -> Report:
    """Kill ``kills`` times (or as often as fits in ``seconds``), let everything settle, and judge.

    What was left stays on disk when there is something to look at.
    """
    folder = Path(tempfile.mkdtemp(prefix="headrace-kill-"))
    report = run_in(folder, kills, seed, seconds=seconds, pace_s=pace_s)
    if report.violations:
        sys.stderr.write(f"left for a look: {folder}\n")
    else:
        shutil.rmtree(folder)
    return report


def run_in(
    folder: Path, kills: int, seed: int, *, seconds: float | None = None, pace_s: float = 0.25
) -> Report:
    """The same, with everything left in ``folder``: ``state``, ``witness``."""
    (folder / "witness").mkdir()
    report = Report([])
    with control_plane(folder / "state", meter_every_ms=2_000) as plane:
        _run(plane, folder / "witness", report, kills, seed, seconds, pace_s)
    found = judge.judge(folder / "state", folder / "witness", report.kept, report.public)
    report.violations.extend(found.violations)
    report.acknowledged, report.placements = len(report.kept.submitted), found.placements
    report.notes |= found.notes | {"retries": report.kept.retries, "heads": len(report.kept.heads)}
    return report


def _run(
    plane: ControlPlane,
    witness: Path,
    report: Report,
    kills: int,
    seed: int,
    seconds: float | None,
    pace_s: float,
) -> None:
    chance, api = random.Random(seed), plane.api()
    api.apply(DOCUMENTS)
    users = [
        Client(number, api, report.kept, random.Random(seed * 1_000 + number), str(witness), pace_s)
        for number in range(CLIENTS)
    ]
    accountant = Accountant(plane.api(), random.Random(seed + 1))
    for thread in (*users, accountant):
        thread.start()
    began = time.monotonic()
    while report.kills < kills and (seconds is None or time.monotonic() - began < seconds):
        _strike(plane, chance, report)
    report.notes["killing_s"] = round(time.monotonic() - began, 1)
    for ending in (accountant.ending, *(user.ending for user in users)):
        ending.set()
    for thread in (*users, accountant):
        thread.join(60)
        if thread.is_alive():
            report.violations.append("a client still waits for an answer, a minute after the last kill")
    report.violations.extend(
        f"a client failed: {user.failure!r}" for user in users if user.failure is not None
    )
    report.public = _settle(plane, report)
    plane.end()
    runners = plane.runners()
    if runners:
        report.violations.append(f"runners that nobody wants still run: {runners}")


def _strike(plane: ControlPlane, chance: random.Random, report: Report) -> None:
    """Wait a random while, kill, start again."""
    if chance.random() < AIMED:
        _await_start(plane, chance.uniform(0, AIMED_WITHIN_S))
        report.aimed_kills += 1
    else:
        time.sleep(chance.uniform(*KILL_WITHIN_S))
    draw = chance.random()
    if draw < 0.15 and (runners := plane.runners()):
        _kill(chance.choice(sorted(runners)))
        report.runner_kills += 1
    elif draw < 0.30 and (planners := plane.planners()):
        _kill(planners[0])
        report.planner_kills += 1
        # At times both die at once, at times the control plane sees it and starts another.
        time.sleep(chance.choice((0.0, 0.3)))
    plane.kill()
    report.kills += 1
    while chance.random() < KILLED_AT_START:
        plane.launch()
        time.sleep(chance.uniform(0.0, START_WITHIN_S))
        plane.kill()
        report.kills += 1
        report.start_kills += 1
    report.restarts_s.append(plane.start())


def _await_start(plane: ControlPlane, after_s: float) -> None:
    """Wait until the engine takes an order, and ``after_s`` more: the one moment in which something could start twice."""
    orders, until = plane.state / "engine" / "placements", time.monotonic() + KILL_WITHIN_S[1]
    before = set(os.listdir(orders))
    while time.monotonic() < until and not set(os.listdir(orders)) - before:
        time.sleep(0.002)
    time.sleep(after_s)


def _settle(plane: ControlPlane, report: Report, patience_s: float = 120.0) -> bytes:
    """Stop what would run for ever, wait until nothing is live, invoice; the operator's public key."""
    api, until = plane.api(), time.monotonic() + patience_s
    stopped: set[str] = set()
    live: list[dict[str, Any]] = []
    while time.monotonic() < until:
        live = api.call("GET", "/v1/workloads?live=true&limit=1000")[1]["workloads"]
        if not live:
            break
        for work in live:
            held = work["type"] == "service" or work["pause_wanted"]
            if held and work["id"] not in stopped:
                stopped.add(work["id"])
                api.call("POST", f"/v1/workloads/{work['id']}/stop")
        time.sleep(0.2)
    else:
        left = {work["id"]: work["state"] for work in live}
        report.violations.append(f"after {patience_s:.0f} s still not settled: {left}")
    report.notes["settle_s"] = round(patience_s - (until - time.monotonic()), 1)
    _await_forgotten(plane)
    for tenant in TENANTS:
        issue(api, tenant)
    status: dict[str, Any] = api.call("GET", "/v1/status")[1]
    if status["alarms"]:
        report.violations.append(f"{status['alarms']} alarms were raised")
    return bytes.fromhex(status["public_key"])


def _await_forgotten(plane: ControlPlane, patience_s: float = 20.0) -> None:
    """The engine forgets an ended placement a round later: only then is its record among those kept."""
    until = time.monotonic() + patience_s
    while any((plane.state / "engine" / "placements").iterdir()) and time.monotonic() < until:
        time.sleep(0.1)
