"""Instructions of a grid to 1,000 nodes behind a plant's real protocols: was the feed at or under its target in time?

A plant (a process) simulates the site; a control plane (a process) measures and limits it over Modbus and Redfish. What runs
is played by an engine in this process, and drawn in the plant by a link that knows nothing of instructions: nodes on which
something runs want all that they can draw, others nothing. Judged are the plant's own meter at the connection, read over
Modbus by a client of this benchmark's own, and the true watts of every step of the physics.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from pymodbus.client import ModbusTcpClient

from benchmarks.power_plane import READY, EngineHost
from benchmarks.processors import Watch
from headrace.core import events as ev
from headrace.journal.codec import decode
from headrace.journal.sqlite import SqliteStore
from headrace.plant.run import PlantClock, read_plant
from tests.durability.client import Api, Unanswered
from tests.durability.harness import ROOT, _free_port
from tests.plant.small import devices_file, estate_file, plant_apart

SITE, TENANT = "fjord", "acme"
RESPONSE_S, METER_LAG_S = 30.0, 2.0
HOLD_S, LONG_HOLD_S, PAUSE_S = (4.0, 16.0), 60.0, (2.0, 10.0)
"""How long an instruction is held after it is due (drawn; one in ten is held long), and how long until the next (drawn)."""
NO_CAP_W = 1 << 30
FIRST = 100_000
"""Instructions of a run are numbered from a multiple of it."""
PATIENCE_S = 120.0
SLOWEST_S = 0.02
DOCUMENTS = f"""
kind: price-plan
name: plan
currency: NOK
prices: {{accelerator_per_hour: {{H100: 12.34}}}}
---
kind: tenant
name: {TENANT}
projects: [main]
---
kind: contract
name: c
tenant: {TENANT}
plan: plan
type: on-demand
starts: 2025-01-01
"""
MIX = (
    # How many of a hundred nodes: type, flex, and what else is asked.
    (8, {"type": "filler", "flex": "preemptible", "priority": -100}),
    (30, {"type": "job", "flex": "cappable"}),
    (15, {"type": "job", "flex": "pausable", "checkpoint": {"every": "10m", "restart": "90s"}}),
    (15, {"type": "job", "flex": "preemptible"}),
    (22, {"type": "job", "flex": "firm"}),
)
"""The rest stays idle."""


@dataclass
class Judged:
    """One instruction: its target, the worst that the meter showed and that was true from when it was due until its end (watts
    at the connection), and seconds from its arrival until all later steps were at or under it.
    """

    number: int
    target_w: int
    metered_w: int
    readings: int
    true_w: int
    took_s: float
    killed_s: float | None = None
    kept: bool = True

    @property
    def is_missed(self) -> bool:
        """Whether it was not met, or could not be judged."""
        return not self.readings or max(self.metered_w, self.true_w) > self.target_w or not self.kept


@dataclass
class Site:
    """The plant, the control plane and the engine of one run."""

    folder: Path
    nodes: int
    speed: int
    seed: int
    stack: ExitStack = field(default_factory=ExitStack)
    plane: subprocess.Popen[str] | None = None
    ending: threading.Event = field(default_factory=threading.Event)
    readings: list[tuple[int, int]] = field(default_factory=list)
    failure: str = ""
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        estate = estate_file(self.folder, racks=self.nodes // 6, hardware="h100-8")
        arguments = ("--load", "0", "--speed", str(self.speed), "--seed", str(self.seed))
        self.plant = self.stack.enter_context(plant_apart(self.folder / "plant", estate, *arguments))
        self.clock = PlantClock.of(self.plant)
        said = json.loads((self.plant / "plant.json").read_text())
        self.url, self.token = str(said["control"]), Path(said["token"]).read_text().strip()
        self.names = [one["node"] for one in devices_file(self.plant)["servers"]]
        self.host = EngineHost(str(self.folder / "engine"), self.clock)
        self.stack.callback(self.host.close)
        self.state, self.port = self.folder / "state", _free_port()
        self.start()
        self.api().apply(estate.read_text() + "---" + DOCUMENTS)
        for work in (self._follow, self._read):
            threading.Thread(target=self._forever, args=(work,), daemon=True).start()

    def close(self) -> None:
        """End all processes."""
        self.ending.set()
        self.kill()
        self.stack.close()

    # -- the control plane ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-P", "-m", "benchmarks.power_plane", str(self.state), str(self.port)]
        self.plane = subprocess.Popen(
            [*command, str(self.plant), str(self.folder / "engine")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.plane.stdout is not None
        if self.plane.stdout.readline().strip() != READY:
            raise RuntimeError("the control plane did not start")
        self._watch_plane()

    def watched(self) -> None:
        """Count what processors are used for from now on."""
        self.watch = Watch()
        self.watch.add("benchmark", os.getpid())
        self.watch.add("plant", int(read_plant(self.plant)["pid"]))
        self._watch_plane()

    def _watch_plane(self) -> None:
        assert self.plane is not None
        self.watch.add("control_plane", self.plane.pid)
        self.watch.add("control_plane", self.plane.pid, below=True)

    def kill(self) -> None:
        """SIGKILL."""
        if self.plane is not None:
            self.watch.end("control_plane")
            self.plane.kill()
            self.plane.wait(30)
            assert self.plane.stdout is not None
            self.plane.stdout.close()
            self.plane = None

    def api(self) -> Api:
        """A client of it."""
        return Api(self.port, str(json.loads((self.state / "client.json").read_bytes())["token"]))

    def asked(self, method: str, path: str, body: object = None) -> Any:
        """The answer to a request; again as long as nobody answers."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                status, data = self.api().call(method, path, body)
            except Unanswered:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
                continue
            if status >= 400:
                raise RuntimeError(f"{method} {path}: {data}")
            return data

    # -- the plant --------------------------------------------------------------------------------------------------------

    def world(self, path: str, body: object = None) -> Any:
        """The plant's control channel."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def now_s(self) -> float:
        """By the plant's clock."""
        return self.clock.now_ms() / 1_000

    def until(self, at_s: float) -> None:
        """Wait until a time of the plant's clock."""
        while (left_s := at_s - self.now_s()) > 0:
            time.sleep(min(0.5, left_s / self.speed))

    def _forever(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a run without its world is no run
            if not self.ending.is_set():
                self.failure = f"{work.__name__}: {error!r}"

    def _follow(self) -> None:
        """What runs draws in the plant, and what doesn't does not."""
        drawn: set[str] = set()
        while not self.ending.is_set():
            busy = self.host.busy()
            for nodes, permille in ((busy - drawn, 1_000), (drawn - busy, 0)):
                if nodes:
                    self.world("/load", {"nodes": sorted(nodes), "permille": permille})
            drawn = busy
            time.sleep(max(SLOWEST_S, 0.1 / self.speed))

    def _read(self) -> None:
        """Read the meter at the connection: ``(taken at, watts)``."""
        (meter,) = [one for one in devices_file(self.plant)["meters"] if one["element"] == SITE]
        host, _, port = meter["address"].rpartition(":")
        client = ModbusTcpClient(host, port=int(port))
        client.connect()  # type: ignore[no-untyped-call]
        while not self.ending.is_set():
            words = client.read_holding_registers(0, count=12, device_id=meter["unit"]).registers
            raw = b"".join(word.to_bytes(2, "big") for word in words)
            row = int.from_bytes(raw[12:20], "big"), int.from_bytes(raw[:4], "big", signed=True)
            if not self.readings or self.readings[-1] != row:
                self.readings.append(row)
            time.sleep(max(SLOWEST_S, 0.2 / self.speed))
        client.close()  # type: ignore[no-untyped-call]

    # -- work -------------------------------------------------------------------------------------------------------------

    def fill(self) -> int:
        """Submit the mix, and wait until all of it runs and draws; how many nodes."""
        works: list[dict[str, Any]] = []
        for share, what in MIX:
            for _ in range(self.nodes * share // 100):
                works.append(self._work(f"w-{len(works)}", what))
        for first in range(0, len(works), 500):
            batch = {"workloads": works[first : first + 500]}
            self.asked("POST", f"/v1/tenants/{TENANT}/workloads", batch)
        self.wait(lambda: len(self.host.busy()) == len(works), "all of the work runs")
        self.wait(self._is_found, "all controllers are found")
        self.wait(self._is_loaded, "all of the work draws what it can")
        return len(works)

    def _is_loaded(self) -> bool:
        (ladder,) = self.asked("GET", f"/v1/grid?site={SITE}")["sites"]
        return bool(self.world("/state")["elements"][SITE]["true_w"] >= 0.98 * ladder["draws_w"])

    def _is_found(self) -> bool:
        rows = self.asked("GET", "/v1/devices?limit=1000")["limiters"]
        return all(one["least_w"] is not None for one in rows) and len(rows) == len(self.names)

    def _work(self, name: str, what: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": name,
            "project": "main",
            "resources": {"gpu": "H100:8", "cpu": 8, "memory": "64GB"},
            "commands": ["sleep 100000000"],
            "grace": "10s",
        } | what

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        until = time.monotonic() + PATIENCE_S
        while not holds():
            if self.failure or time.monotonic() > until:
                raise RuntimeError(self.failure or f"it did not come about that {what}")
            time.sleep(0.1)

    def silence(self, chance: Random, permille: int) -> None:
        """So many of a thousand controllers answer no more, others than before."""
        self.world("/fail", {"kind": "node", "names": "all", "as": "none"})
        names = chance.sample(self.names, len(self.names) * permille // 1_000)
        if names:
            self.world("/fail", {"kind": "node", "names": names, "as": "silent"})

    def caps(self) -> dict[str, int]:
        """What devices hold nodes to."""
        rows = self.world("/nodes")
        return {name: one["cap_w"] for name, one in rows.items() if one["cap_w"] is not None}


@contextmanager
def site(nodes: int, speed: int, seed: int) -> Iterator[Site]:
    """A site with all its work running."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        made = Site(folder, nodes, speed, seed)
        try:
            made.fill()
            yield made
        finally:
            made.close()


def held_s(chance: Random, number: int) -> float:
    """How long instruction ``number`` is held: one of each ten long, at another place of each."""
    short_s = chance.uniform(*HOLD_S)
    return LONG_HOLD_S if number % 10 == number // 10 % 10 else short_s


def instruct(
    one: Site, chance: Random, number: int, hold_s: float | None, silent: int, kill_s: float | None = None
) -> Judged:
    """An instruction of random depth; every other begins later. With ``kill_s`` the control plane is killed so long after.

    The first begins at once. The next comes while this one's work is still on its way back. Without ``hold_s`` it is drawn.
    """
    if one.readings and number % FIRST:
        one.until(one.now_s() + chance.uniform(*PAUSE_S))
    hold_s = held_s(chance, number) if hold_s is None else hold_s
    one.silence(chance, silent)
    (ladder,) = one.asked("GET", f"/v1/grid?site={SITE}")["sites"]
    floor_w, draws_w = ladder["floor_w"], ladder["draws_w"]
    target_w = round(floor_w + (draws_w - floor_w) * chance.uniform(0.05, 0.97))
    lead_s = 0.0 if kill_s is not None or number % 2 == 0 else chance.uniform(25, 35)
    name = f"i-{number}"
    body: dict[str, Any] = {"site": SITE, "limit": f"{target_w}W", "id": name, "binding": True}
    began_s = one.now_s()
    if lead_s:
        at = time.gmtime(began_s + lead_s)
        # Whole seconds, and never before.
        body["from"] = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", at)
    one.asked("POST", "/v1/grid/instructions", body)
    received_s = one.now_s()
    kept = True
    if kill_s is not None:
        kept = _killed(one, began_s + kill_s)
    due_s = received_s + max(RESPONSE_S, lead_s)
    one.until(due_s)
    one.world("/mark", {})
    one.until(due_s + hold_s)
    worst = one.world("/state")["elements"][SITE]
    ended_s = one.now_s()
    trace = one.world(f"/trace?element={SITE}&since_ms={round(began_s * 1_000)}")
    one.asked("POST", f"/v1/grid/instructions/{name}/withdraw", {})
    # What the meter has seen by the end it shows a lag later.
    one.until(ended_s + METER_LAG_S + 1)
    over = [at_ms for at_ms, watts in trace if watts > target_w]
    shown = [watts for at_ms, watts in list(one.readings) if due_s * 1_000 <= at_ms <= ended_s * 1_000]
    took_s = (max(over) / 1_000 - began_s) if over else 0.0
    # A control plane that started late had the mark set late: the trace has every step.
    true_w = max((watts for at_ms, watts in trace if at_ms >= due_s * 1_000), default=0)
    true_w = max(true_w, worst["worst_w"])
    found = Judged(number, target_w, max(shown, default=0), len(shown), true_w, took_s - lead_s, kill_s, kept)
    del one.readings[:-200]
    return found


def _killed(one: Site, at_s: float) -> bool:
    """Kill the control plane, and start it again; whether every cap that it still wanted a device held when it answered."""
    one.until(at_s)
    one.kill()
    before, size = one.caps(), _events(one)
    one.start()
    after = one.caps()
    wanted = _wanted_w(one, size)
    # One that was on its way when it was killed may still come down; one that was to be dropped may be gone.
    return all(
        after.get(node, NO_CAP_W) <= max(watts, wanted.get(node, NO_CAP_W)) for node, watts in before.items()
    )


def _events(one: Site) -> int:
    store = SqliteStore(one.state / "journal.sqlite", readonly=True)
    try:
        return store.size()
    finally:
        store.close()


def _wanted_w(one: Site, size: int) -> dict[str, int]:
    """Limits that nodes were told to keep by the first ``size`` events; of others every cap was lifted."""
    store, found = SqliteStore(one.state / "journal.sqlite", readonly=True), dict[str, int]()
    try:
        for committed in (each for group in store.groups() for each in decode(group)):
            match committed.event:
                case ev.CapsOrdered(caps=caps) if committed.seq < size:
                    found |= dict(caps)
                case ev.CapsLifted(nodes=nodes) if committed.seq < size:
                    for node in nodes:
                        found.pop(node, None)
    finally:
        store.close()
    return found
