"""Many devices at once: all are answered for, one that fails spoils nothing, and what is confirmed was read back."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from headrace.core.ids import NodeId
from headrace.devices import DeviceError, DeviceFault, Limiter, Meter, Miner, Switch
from headrace.devices.fleet import discover, each, read_limits, read_meters, set_limits, stop_miners
from headrace.devices.miners import PyasicMiner
from headrace.devices.modbus import ModbusMeter
from headrace.devices.redfish import RedfishServer
from headrace.plant.physics import Failure
from tests.plant.small import control, devices_of, plant_here, until


def as_promised(
    server: RedfishServer, meter: ModbusMeter, miner: PyasicMiner
) -> tuple[Limiter, Switch, Meter, Miner]:
    """The adapters are what the protocols ask for: the type checker says so."""
    return server, server, meter, miner


def test_every_node_is_capped_read_back_and_the_feeds_follow(tmp_path: Path) -> None:
    """60 nodes with all three kinds of limit, through sockets; the meters show it a lag later."""

    async def main() -> None:
        async with plant_here(tmp_path, racks=10, load_permille=1_000) as plant, devices_of(plant) as devices:
            assert await discover(devices) == {}
            found = await set_limits(devices, dict.fromkeys(devices.servers, 700), 20.0)
            assert Counter(one.outcome for one in found.values()) == {"confirmed": 60}
            assert {one.way for one in devices.servers.values()} == {"environment", "control", "legacy"}

            async def is_down() -> bool:
                judged = await read_meters(devices, 5.0)
                return judged["fjord/feed-a/meter"].reading.watts <= 30 * 700

            await until(is_down)
            lifted = await set_limits(devices, dict.fromkeys(devices.servers, None), 20.0)
            assert {one.outcome for one in lifted.values()} == {"confirmed"}
            limits = await read_limits(devices, 20.0)
            assert all(not isinstance(one, DeviceError) and one.limit_w is None for one in limits.values())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (Failure.SILENT, "unanswered"),
        (Failure.GONE, "unanswered"),
        (Failure.REFUSES, "refused"),
        (Failure.IGNORES, "confirmed"),
    ],
)
def test_those_that_fail_are_named_and_all_others_confirmed(
    tmp_path: Path, failure: Failure, outcome: str
) -> None:
    """A tenth of the controllers fails from the start; of one that lies the confirmation is worth nothing, as the meter shows."""

    async def main() -> None:
        a_tenth = plant_here(tmp_path, 10, load_permille=1_000, fail_permille=100, fail_as=(failure,))
        async with a_tenth as plant, devices_of(plant, 1.0) as devices:
            found = await set_limits(devices, dict.fromkeys(devices.servers, 700), 10.0)
            told = await control(plant, "/nodes")
            failing = {node for node, one in told.items() if one["failure"] != "none"}
            assert len(failing) == 6
            assert {node for node, one in found.items() if one.outcome == outcome} >= failing
            assert all(found[NodeId(node)].outcome == "confirmed" for node in set(told) - failing)
            for node in failing:
                problem = found[NodeId(node)].problem
                assert outcome == "confirmed" or (problem is not None and problem.device == node)

            async def others_are_down() -> bool:
                now = await control(plant, "/nodes")
                return all((one["drawn_w"] <= 700) is (node not in failing) for node, one in now.items())

            await until(others_are_down)

    asyncio.run(main())


class Fickle(RedfishServer):
    """A controller on which somebody else sets another limit right after ours."""

    async def set_limit(self, watts: int | None) -> None:
        await super().set_limit(watts)
        await super().set_limit(900)


def test_one_that_takes_a_limit_and_holds_another_is_told_apart(tmp_path: Path) -> None:
    """What is read back counts, and not what was sent: somebody else set it back at once."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant, devices_of(plant) as devices:
            node = NodeId("fjord/b1/n-0-0")
            devices.servers[node] = Fickle(devices.servers[node].address, devices.web, plant.clock)
            found = (await set_limits(devices, {node: 700}, 10.0))[node]
            assert found.outcome == "differs"
            assert found.reading is not None
            assert found.reading.limit_w == 900
            assert "took 700 W and says 900 W" in str(found.problem)

    asyncio.run(main())


def test_a_node_that_nobody_declared_is_refused_by_name(tmp_path: Path) -> None:
    """Its watts can't be limited, and that is said; the others are."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant, devices_of(plant) as devices:
            known, unknown = NodeId("fjord/b1/n-0-0"), NodeId("fjord/b9/n-0-0")
            found = await set_limits(devices, {known: 700, unknown: 700}, 10.0)
            assert (found[known].outcome, found[unknown].outcome) == ("confirmed", "refused")
            assert "no management controller is declared" in str(found[unknown].problem)

    asyncio.run(main())


def test_the_deadline_of_all_holds_and_everybody_has_an_answer() -> None:
    """Whoever is still asked then is unanswered; no more than allowed were asked at once; nothing goes on afterwards."""
    running: list[int] = [0, 0, 0]

    async def slow() -> int:
        running[0] += 1
        running[1] = max(running[1], running[0])
        try:
            await asyncio.sleep(30)
        finally:
            running[0] -= 1
            running[2] += 1
        return 1

    async def quick() -> int:
        return 2

    async def broken() -> int:
        raise DeviceError("c", DeviceFault.REFUSED, "no;", "Ask another.")

    async def main() -> None:
        asks = {"a": quick, "c": broken, "b": quick} | {f"s{number}": slow for number in range(9)}
        found = await each(asks, 0.2, at_once=4)
        assert list(found) == list(asks)
        assert (found["a"], found["b"]) == (2, 2)
        faults = [one.fault for one in found.values() if isinstance(one, DeviceError)]
        assert Counter(faults) == {DeviceFault.REFUSED: 1, DeviceFault.TIMEOUT: 9}
        assert running == [0, 4, 4]
        assert await each({}, 0.2) == {}

    asyncio.run(main())


def test_a_defect_is_no_device_that_fails() -> None:
    """An error of our own is raised, and not shown as a device's."""

    async def defect() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(each({"a": defect}, 1.0))


def test_silent_miners_end_with_the_deadline_of_all(tmp_path: Path) -> None:
    """pyasic takes being cancelled for an answer; the deadline holds all the same, and who did not answer is named."""

    async def main() -> None:
        async with plant_here(tmp_path, miners=4) as plant, devices_of(plant) as devices:
            names = ["fjord/hall/m0001", "fjord/hall/m0003"]
            await control(plant, "/fail", {"kind": "miner", "names": names, "as": "silent"})
            failed = await stop_miners(devices, devices.miners, 1.5)
            assert set(failed) == set(names)
            assert (await control(plant, "/miners"))["fjord/hall/m0000"]["says_mining"] is False
            # Nothing goes on waiting for them.
            assert not [one for one in asyncio.all_tasks() if "PyasicMiner" in str(one.get_coro())]

    asyncio.run(main())
