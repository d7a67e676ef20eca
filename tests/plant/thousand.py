"""How long it takes to cap 1,000 nodes and read back what they enforce, through sockets: `python -P -m tests.plant.thousand`.

It prints seconds, and nothing is asserted of them: they are this machine's, with whatever else runs on it.
"""

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headrace.devices.declared import load_devices
from headrace.devices.fleet import Devices, discover, read_limits, read_meters, set_limits
from headrace.devices.web import Web
from headrace.plant.run import PlantClock, read_plant
from tests.plant.small import control_apart, estate_file, plant_apart

CAP_W = 8_000
"""Of 10,200 W at most, and 7,400 W at the floor."""


@asynccontextmanager
async def timed(found: dict[str, Any], what: str) -> AsyncIterator[None]:
    """Wall and processor seconds of a step."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    found[what] = {
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - processor, 2),
    }


async def measure(folder: Path, deadline_s: float) -> dict[str, Any]:
    """The steps of a control plane on a plant's devices file."""
    found: dict[str, Any] = {}
    clock = PlantClock.of(folder)
    async with timed(found, "read the file"):
        sites = load_devices(folder / "devices.yaml")
    async with Devices.of(sites, clock, Web(deadline_s)) as devices:
        found["nodes"] = len(devices.servers)
        async with timed(found, "log in and discover"):
            await discover(devices, 60.0)
        for turn in ("cap and read back", "cap and read back again"):
            async with timed(found, turn):
                confirmed = await set_limits(devices, dict.fromkeys(devices.servers, CAP_W), 30.0)
            found[turn]["outcomes"] = dict(Counter(one.outcome for one in confirmed.values()))
        async with timed(found, "read all limits"):
            await read_limits(devices, 30.0)
        async with timed(found, "read all meters"):
            found["believed"] = sum(one.is_believed for one in (await read_meters(devices, 10.0)).values())
        found["meters"] = len(devices.meters)
    found["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def play(folder: Path, nodes: int, deadline_s: float, idle_s: float, *arguments: str) -> dict[str, Any]:
    """A plant of so many nodes in a process of its own, and a control plane's steps on it."""
    estate = estate_file(folder, racks=nodes // 6, hardware="h100-8")
    with plant_apart(folder / "plant", estate, "--load", "1000", *arguments) as made:
        pid = int(read_plant(made)["pid"])
        time.sleep(idle_s)
        before = cpu_seconds(pid)
        time.sleep(idle_s)
        idle = (cpu_seconds(pid) - before) / idle_s if idle_s else 0.0
        found = asyncio.run(measure(made, deadline_s))
        told = control_apart(made, "/nodes")
        found["plant"] = {"idle_cores": round(idle, 3), "cpu_s": cpu_seconds(pid), "nodes": len(told)}
        failing = sum(one["failure"] != "none" for one in told.values())
        found["plant"]["failing"] = failing
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(play(Path(temporary), 1_000, 2.0, 5.0, *sys.argv[1:]), indent=1))
