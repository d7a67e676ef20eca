"""Instructions of a grid to 1,000 nodes behind a plant's real protocols: was the feed at or under its target in time?

A plant (a process) simulates the site; a control plane (a process) measures and limits it over Modbus and Redfish. What runs
is played by an engine in this process, and drawn in the plant by a link that knows nothing of instructions: nodes on which
something runs want all that they can draw, others nothing. Judged are the plant's own meter at the connection, read over
Modbus by a client of this benchmark's own, and the true watts of every step of the physics.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from pymodbus.client import ModbusTcpClient

from benchmarks.power_plane import READY, EngineHost
from benchmarks.registry import Figure
from headrace.core import events as ev
from headrace.core.power.caps import OFF_W
from headrace.journal.codec import decode
from headrace.journal.sqlite import SqliteStore
from headrace.plant.run import PlantClock
from tests.durability.client import Api, Unanswered
from tests.durability.harness import ROOT, _free_port
from tests.plant.small import devices_file, estate_file, plant_apart

SITE, TENANT = "fjord", "acme"
RESPONSE_S, HOLD_S, METER_LAG_S = 30.0, 15.0, 2.0
FIRST = 100_000
"""Instructions of a run are numbered from a multiple of it."""
SILENT_PERMILLE = 50
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

    def kill(self) -> None:
        """SIGKILL."""
        if self.plane is not None:
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


def instruct(
    one: Site, chance: Random, number: int, hold_s: float, silent: int, kill_s: float | None = None
) -> Judged:
    """An instruction of random depth; every other begins later. With ``kill_s`` the control plane is killed so long after.

    The first begins at once. The next comes while this one's work is still on its way back.
    """
    if one.readings and number % FIRST:
        one.until(one.now_s() + chance.uniform(5, 25))
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
    found = Judged(
        number, target_w, max(shown, default=0), len(shown), worst["worst_w"], took_s - lead_s, kill_s, kept
    )
    del one.readings[:-200]
    return found


def _killed(one: Site, at_s: float) -> bool:
    """Kill the control plane, and start it again; whether every cap that a device held it still held when it answered."""
    one.until(at_s)
    one.kill()
    before = one.caps()
    one.start()
    after = one.caps()
    # One that was on its way when it was killed may still come down.
    return all(after.get(node, 1 << 30) <= watts for node, watts in before.items())


def judged(one: Site, count: int, silent: int, seed: int, hold_s: float = HOLD_S) -> list[Judged]:
    """So many instructions, one after another."""
    chance = Random(seed)
    found = []
    for number in range(count):
        found.append(instruct(one, chance, seed * FIRST + number, hold_s, silent))
        if one.failure:
            raise RuntimeError(one.failure)
    return found


def notes(one: Site, runs: dict[str, Sequence[Judged]]) -> dict[str, object]:
    """What is said of a run beside how many were missed."""
    found: dict[str, object] = {"nodes": len(one.names), "speed": one.speed, "meter_lag_s": 2}
    for name, rows in runs.items():
        took = [max(0.0, row.took_s) for row in rows]
        found |= {
            f"{name}_instructions": len(rows),
            f"{name}_missed": sum(row.is_missed for row in rows),
            f"{name}_seconds_median": round(median(took), 1),
            f"{name}_seconds_most": round(max(took), 1),
        }
        missed = [row for row in rows if row.is_missed]
        if missed:
            found[f"{name}_misses"] = [
                f"{row.number}: {row.target_w} W, metered {row.metered_w}, true {row.true_w}, {row.readings} readings, "
                f"killed {row.killed_s}, kept {row.kept}"
                for row in missed[:5]
            ]
    return found | _used(one)


def _used(one: Site) -> dict[str, object]:
    """How often each rung of the ladder was used, by the journal: nodes, but for what was paused and ended."""
    store = SqliteStore(one.state / "journal.sqlite", readonly=True)
    counts: Counter[str] = Counter()
    for group in store.groups():
        for committed in decode(group):
            match committed.event:
                case ev.CapsOrdered(caps=caps):
                    off = sum(watts == OFF_W for _, watts in caps)
                    counts.update({"nodes_capped": len(caps) - off, "nodes_off": off})
                case ev.CurtailmentOrdered():
                    counts["paused"] += 1
                case ev.EvictionRequested():
                    counts["ended"] += 1
                case ev.ExcessMeasured(watts=watts) if watts:
                    counts["excess_seen"] += 1
    store.close()
    return dict(counts)


def _both(nodes: int, speed: int, counts: tuple[int, int], hold_s: float) -> Figure:
    """Missed instructions, without and with silent controllers."""
    with site(nodes, speed, 1) as one:
        runs: dict[str, Sequence[Judged]] = {}
        for name, count, silent in (("all", counts[0], 0), ("silent", counts[1], SILENT_PERMILLE)):
            if count:
                runs[name] = judged(one, count, silent, 1 + silent, hold_s)
        said = notes(one, runs)
    return Figure(sum(row.is_missed for rows in runs.values() for row in rows), said)


def real(quick: bool) -> Figure:
    """In real time: 100 instructions with all controllers, and 100 with 5 % that do not answer."""
    return _both(60, 1, (0, 1), 1.0) if quick else _both(1_000, 1, (100, 100), HOLD_S)


def fast(quick: bool) -> Figure:
    """At 20 times the speed of the world: 1,000 and 1,000."""
    return _both(120, 20, (4, 4), HOLD_S) if quick else _both(1_000, 20, (1_000, 1_000), HOLD_S)


def kills(quick: bool) -> Figure:
    """Killed at 50 moments: while it sheds, with 5 % of the controllers silent, and while it holds."""
    count, hold_s = (1, 1.0) if quick else (50, HOLD_S)
    chance = Random(3)
    with site(60 if quick else 1_000, 1, 3) as one:
        rows = []
        for number in range(count):
            # While orders go out, while the silent ones are waited for, and later: what was done has to stay.
            first_s, last_s = ((0.05, 2.0), (2.0, 12.0), (0.05, 28.0))[number % 3]
            moment_s = chance.uniform(first_s, last_s)
            rows.append(instruct(one, chance, 3 * FIRST + number, hold_s, SILENT_PERMILLE, moment_s))
        said = notes(one, {"kills": rows})
    return Figure(sum(row.is_missed for row in rows), said)
