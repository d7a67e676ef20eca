"""A running plant: its files, its control channel, its clock, and the whole loop through sockets."""

import asyncio
import json
import math
import stat
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.core.errors import HeadraceError
from headrace.devices.declared import load_devices
from headrace.devices.fleet import Devices, discover, read_meters, set_limits
from headrace.plant import loopback
from headrace.plant.run import PlantClock
from headrace.plant.site import Options, read_estate, site_fleet
from tests.plant.small import (
    clock_of,
    control,
    control_apart,
    devices_file,
    devices_of,
    estate_file,
    plant_apart,
    plant_here,
    until,
)


def test_its_files_name_every_device_and_its_secrets_are_its_own(tmp_path: Path) -> None:
    """A line for each device; passwords in files of mode 0600, in no other file; nothing listens beyond loopback."""

    async def main() -> None:
        async with plant_here(tmp_path, racks=2, miners=3) as plant:
            (site,) = load_devices(plant.directory / "devices.yaml")
            assert (len(site.meters), len(site.servers), len(site.miners)) == (5, 12, 3)
            assert len({one.url for one in site.servers}) == 12
            secrets = []
            for name in ("token", "controllers.password", "miners.password"):
                path = plant.directory / name
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                secrets.append(path.read_text().strip())
            for name in ("devices.yaml", "plant.json"):
                assert not any(secret in (plant.directory / name).read_text() for secret in secrets)
            addresses = [one["url"].split("/")[2] for one in devices_file(plant.directory)["servers"]]
            assert all(one.startswith("127.") for one in addresses)

    asyncio.run(main())


REFUSED: list[tuple[str, Any, str]] = [
    (
        "/fail",
        {"kind": "node", "names": ["fjord/b1/n-0-9"], "as": "silent"},
        "no node 'fjord/b1/n-0-9'; known:",
    ),
    ("/fail", {"kind": "node", "names": "all", "as": "slient"}, "Did you mean silent?"),
    ("/fail", {"kind": "meter", "names": ["x"], "as": "frozen"}, "no meter 'x'"),
    ("/fail", {"kind": "fan", "names": "all", "as": "gone"}, "no kind of device 'fan'"),
    ("/load", {"nodes": 3, "watts": 1}, "no list of names"),
    ("/load", {"nodes": "all"}, "the field 'permille' is missing"),
    ("/load", {"nodes": "all", "watts": "NaN"}, "watts: 'NaN' is no number"),
    ("/load", {"nodes": "all", "watts": math.nan}, "watts: 'nan' is no number"),
    ("/load", {"nodes": "all", "permille": math.inf}, "permille: 'inf' is no number"),
    ("/load", {"nodes": "all", "watts": 10**400}, "is no number"),
    ("/load", {"nodes": "all", "watts": True}, "watts: 'True' is no number"),
    ("/outdoor", {"celsius": "NaN"}, "celsius: 'NaN' is no number"),
    ("/outdoor", {}, "the field 'celsius' is missing"),
    ("/trip", {"element": "fjord/feed-a", "tripped": "false"}, "tripped: 'false' is neither true nor false"),
    ("/trip", {"element": "fjord/feed-a"}, "the field 'tripped' is missing"),
    ("/trip", {"element": ["fjord"], "tripped": True}, "is no text"),
    ("/fail", {"names": "all", "as": "silent"}, "the field 'kind' is missing"),
    ("/fail", {"kind": "meter", "names": "all", "as": "jumped", "value": "NaN"}, "value: 'NaN' is no number"),
    ("/trip", {"element": "fjord/feed-x", "tripped": True}, "no power element 'fjord/feed-x'"),
    ("/outdoor", [1], "no JSON object"),
]
"""What may not be asked of the channel, and what is said of it."""


def test_the_control_channel_wants_its_token_and_names_what_is_wrong(tmp_path: Path) -> None:
    """No token, no such node, no such failure, no JSON: a line that says so, and never a traceback."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant, httpx.AsyncClient(trust_env=False) as client:
            url = plant.control_url
            assert (await client.get(f"{url}/state")).status_code == 401
            token = (plant.directory / "token").read_text().strip()
            client.headers["Authorization"] = f"Bearer {token}"
            for path, body, said in REFUSED:
                answer = await client.post(f"{url}{path}", content=json.dumps(body))
                assert 400 <= answer.status_code < 500
                assert said in answer.json()["problem"]
            since = await client.get(f"{url}/trace", params={"element": "fjord", "since_ms": "noon"})
            assert "since_ms: 'noon' is no time" in since.json()["problem"]
            assert (await client.post(f"{url}/load", content=b"{")).status_code == 400
            # Nothing of it was taken: what is true can still be told, and nothing has tripped.
            elements = (await client.get(f"{url}/state")).json()["elements"]
            assert not any(one["tripped"] for one in elements.values())
            assert (await client.get(f"{url}/nodes")).status_code == 200

    asyncio.run(main())


def test_loads_breakers_and_the_worst_since_a_mark_are_told_truly(tmp_path: Path) -> None:
    """What a judge needs: true watts of each element, the worst since it was marked, and every step between."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant:
            await control(plant, "/load", {"nodes": "all", "permille": 1_000})

            async def true_w() -> int:
                return int((await control(plant, "/state"))["elements"]["fjord/feed-a"]["true_w"])

            async def is_up() -> bool:
                return await true_w() > 2_900

            await until(is_up)
            marked = (await control(plant, "/mark", {}))["now_ms"]
            await control(plant, "/load", {"nodes": ["fjord/b1/n-0-0"], "watts": 300})

            async def is_lower() -> bool:
                return await true_w() < 2_400

            await until(is_lower)
            worst = (await control(plant, "/state"))["elements"]["fjord/feed-a"]
            assert 2_800 < worst["worst_w"] <= 3_000
            trace = await control(plant, f"/trace?element=fjord/feed-a&since_ms={marked}")
            assert max(watt for _, watt in trace) <= worst["worst_w"]
            assert trace[-1][0] - trace[0][0] > 0
            await control(plant, "/trip", {"element": "fjord/feed-a", "tripped": True})

            async def is_dark() -> bool:
                return await true_w() == 0

            await until(is_dark)
            assert (await control(plant, "/outdoor", {"celsius": 31}))["celsius"] == 31.0
            assert (await control(plant, "/miners")) == {}

    asyncio.run(main())


def test_without_power_controllers_do_not_answer_either(tmp_path: Path) -> None:
    """Below an open breaker nobody confirms anything: a cap there is unanswered, and the meter reads nothing."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant, devices_of(plant, 1.0) as devices:
            assert await discover(devices) == {}
            await control(plant, "/trip", {"element": "fjord/feed-a", "tripped": True})
            found = await set_limits(devices, dict.fromkeys(devices.servers, 700), 10.0)
            outcomes = {node.split("/")[1]: one.outcome for node, one in found.items()}
            assert outcomes == {"b1": "unanswered", "b2": "confirmed"}

    asyncio.run(main())


def test_twenty_times_as_fast_everything_is_and_the_clock_says_so(tmp_path: Path) -> None:
    """In a process of its own: a control plane by the plant's clock believes its meters, and sheds through the sockets."""
    estate = estate_file(tmp_path, racks=5)
    with plant_apart(tmp_path / "plant", estate, "--speed", "20", "--load", "1000") as folder:
        clock = clock_of(folder)
        assert clock.speed == 20
        first, now = clock.now_ms(), time.monotonic()
        time.sleep(0.2)
        assert (clock.now_ms() - first) / (time.monotonic() - now) / 1_000 == pytest.approx(20, rel=0.2)
        asyncio.run(_shed(folder, clock))
        told = control_apart(folder, "/state")
        assert told["speed"] == 20
        assert told["elements"]["fjord/feed-a"]["true_w"] <= 15 * 700


async def _shed(folder: Path, clock: PlantClock) -> None:
    async with Devices.of(load_devices(folder / "devices.yaml"), clock) as devices:
        judged = await read_meters(devices, 5.0)
        assert all(one.is_believed for one in judged.values()), judged
        assert judged["fjord/feed-a/meter"].reading.watts > 14_000
        found = await set_limits(devices, dict.fromkeys(devices.servers, 700), 20.0)
        assert {one.outcome for one in found.values()} == {"confirmed"}

        async def is_down() -> bool:
            now = await read_meters(devices, 5.0)
            assert all(one.is_believed for one in now.values()), now
            return now["fjord/feed-a/meter"].reading.watts <= 15 * 700

        await until(is_down)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("site", "narvik", "no site 'narvik'; known: fjord."),
        ("miners_at", "fjord/feed-z", "no power element 'fjord/feed-z'"),
    ],
)
def test_what_is_not_in_the_estate_is_named(tmp_path: Path, option: str, value: str, said: str) -> None:
    """A site or an element that nobody has."""

    async def main() -> None:
        if option == "site":
            site_fleet(read_estate(estate_file(tmp_path)), value)
        else:
            async with plant_here(tmp_path, miners=1, miners_at=value):
                pass

    with pytest.raises(HeadraceError, match=said):
        asyncio.run(main())


def test_two_plants_at_once_don_t_share_an_address(tmp_path: Path) -> None:
    """Each takes a network of its own for its miners, whose port is their make's; a port that is taken is named."""

    async def main() -> None:
        async with (
            plant_here(tmp_path / "a", miners=1) as first,
            plant_here(tmp_path / "b", miners=1) as second,
        ):
            assert first.network != second.network
            base = int(first.control_url.rpartition(":")[2]) - 1
            with pytest.raises(HeadraceError, match=r"the plant can't start: .*Choose another --port-base"):
                async with plant_here(tmp_path / "c", port_base=base):
                    pass

    asyncio.run(main())


@pytest.mark.parametrize("node", [0, 249, 250, 999, 24_999])
def test_an_address_is_one_nodes_and_no_other(node: int) -> None:
    """From a node to its address and back; other addresses are nobody's."""
    assert loopback.node_of(loopback.node_address(64, node)) == node
    assert loopback.node_of(loopback.miner_address(64, node % 1_000)) == -1


@pytest.mark.parametrize("address", ["10.0.0.1", "127.64.0.1", "127.64.1.0", "127.64.1.251", "::1", ""])
def test_an_address_of_no_node_is_none(address: str) -> None:
    """Nothing answers there."""
    assert loopback.node_of(address) == -1


def test_the_default_options_are_those_of_the_command() -> None:
    """Meters lag two seconds, at the speed of the world, and nothing fails."""
    options = Options()
    assert (options.speed, options.lag_ms, options.fail_permille, options.way) == (1, 2_000, 0, "mixed")


def test_plants_that_begin_at_once_have_a_network_each(tmp_path: Path) -> None:
    """None takes the addresses of another's miners, and none fails to start for it."""

    async def begin() -> None:
        async with AsyncExitStack() as stack:
            folders = [tmp_path / name for name in ("one", "two", "three")]
            for folder in folders:
                folder.mkdir()
            made = (stack.enter_async_context(plant_here(folder, miners=2)) for folder in folders)
            plants = await asyncio.gather(*made)
            assert len({plant.network for plant in plants}) == len(folders)

    asyncio.run(begin())
