"""Small plants for tests: an estate made on the spot, a plant in this process or one of its own, and its control channel."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from headrace.devices.declared import load_devices
from headrace.devices.fleet import Devices
from headrace.devices.web import Web
from headrace.plant.physics import Speeds
from headrace.plant.run import Plant, PlantClock, read_plant
from headrace.plant.site import Options, read_estate, site_fleet

QUICK = Speeds(
    load_ramp_ms=200,
    cap_delay_ms=50,
    cap_lag_ms=50,
    slow_ms=20_000,
    shutdown_ms=600,
    force_off_ms=50,
    boot_ms=600,
    miner_down_ms=300,
    miner_up_ms=300,
)
"""Everything happens within a second, so that tests need not wait for physics."""
ESTATE = """\
kind: estate
operator: {{name: op, country: NO, zone: Europe/Oslo, currency: NOK}}
sites:
  - name: fjord
    country: NO
    zone: Europe/Oslo
    energy: {{source: hydro, carbon: 8, price: 0.45, currency: NOK}}
    connection: {{firm: 40MW}}
    pue: 1.1
    power:
      - {{name: feed-a, kind: feed, rating: 20MW}}
      - {{name: feed-b, kind: feed, rating: 20MW}}
    blocks:
      - name: b1
        fed_by: feed-a
        commissioned: 2025-01-01
        groups: [{{name: n, hardware: {hardware}, racks: {racks}, nodes_per_rack: 3}}]
      - name: b2
        fed_by: feed-b
        commissioned: 2025-01-01
        groups: [{{name: n, hardware: {hardware}, racks: {racks}, nodes_per_rack: 3}}]
"""


def estate_file(folder: Path, racks: int = 1, hardware: str = "lab") -> Path:
    """An estate of one site with two feeds, a block at each, and ``racks`` racks of 3 nodes in each block."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "estate.yaml"
    path.write_text(ESTATE.format(racks=racks, hardware=hardware))
    return path


@asynccontextmanager
async def plant_here(
    folder: Path, racks: int = 1, estate: Path | None = None, **options: Any
) -> AsyncIterator[Plant]:
    """A plant in this process; of the small estate, or of another."""
    chosen = replace(Options(speeds=QUICK, lag_ms=200), **options)
    fleet = site_fleet(read_estate(estate or estate_file(folder, racks)), "")
    async with Plant(fleet, chosen, folder / "plant") as plant:
        yield plant


@asynccontextmanager
async def devices_of(plant: Plant, deadline_s: float = 5.0) -> AsyncIterator[Devices]:
    """What a control plane makes of a plant's devices file."""
    sites = load_devices(plant.directory / "devices.yaml")
    async with Devices.of(sites, plant.clock, Web(deadline_s)) as devices:
        yield devices


@contextmanager
def plant_apart(folder: Path, estate: Path, *arguments: str) -> Iterator[Path]:
    """A plant in a process of its own; its directory."""
    code = "import sys; from headrace.cli.plant import app; app(sys.argv[1:], standalone_mode=True)"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "plant", str(estate), "--out", str(folder), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready"):
                break
        else:
            raise AssertionError(f"the plant did not start: {said}")
        yield folder
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


async def control(plant: Plant, path: str, body: object = None) -> Any:
    """The control channel's answer: GET without a body, POST with one."""
    token = (plant.directory / "token").read_text().strip()
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {token}"}) as client:
        if body is None:
            found = await client.get(f"{plant.control_url}{path}")
        else:
            found = await client.post(f"{plant.control_url}{path}", json=body)
    assert found.status_code == 200, found.text
    return found.json()


def control_apart(folder: Path, path: str, body: object = None) -> Any:
    """The same for a plant in another process."""
    said = read_plant(folder)
    headers = {"Authorization": f"Bearer {Path(said['token']).read_text().strip()}"}
    with httpx.Client(trust_env=False, headers=headers, timeout=30) as client:
        url = f"{said['control']}{path}"
        found = client.get(url) if body is None else client.post(url, json=body)
    assert found.status_code == 200, found.text
    return found.json()


async def until(holds: Any, every_s: float = 0.05, patience_s: float = 20.0) -> None:
    """Wait until ``await holds()`` is true: what a test waits for comes in its own time, and a failure is that it never does."""
    for _ in range(int(patience_s / every_s)):
        if await holds():
            return
        await asyncio.sleep(every_s)
    raise AssertionError(f"it never came: {holds}")


def devices_file(folder: Path) -> dict[str, Any]:
    """A plant's devices file, as plain values: its lines are JSON."""
    found: dict[str, Any] = {"meters": [], "servers": [], "miners": []}
    name = ""
    for line in (folder / "devices.yaml").read_text().splitlines():
        if line.startswith("  - "):
            found[name].append(json.loads(line[4:]))
        else:
            name = line.partition(":")[0]
    return found


def clock_of(folder: Path) -> PlantClock:
    """The clock of the plant whose directory this is."""
    return PlantClock.of(folder)
