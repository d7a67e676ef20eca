"""Miners through pyasic: a Whatsminer's own protocol, with what pyasic would take for success looked at here."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.clock import WallClock
from headrace.core.ids import PowerNodeId
from headrace.devices import DeviceError, DeviceFault
from headrace.devices.credentials import Login, SecretFile
from headrace.devices.fleet import read_miners, resume_miners, stop_miners
from headrace.devices.miners import MinerAddress, PyasicMiner
from tests.devices.crude import crude
from tests.plant.small import control, devices_of, plant_here, until

MINER = "fjord/hall/m0000"


def test_a_miner_stops_takes_a_limit_and_resumes(tmp_path: Path) -> None:
    """Encrypted orders with a token, as the maker documents them; each shows in what it says and in what it draws."""

    async def main() -> None:
        async with plant_here(tmp_path, miners=2) as plant, devices_of(plant) as devices:
            miner = devices.miners[MINER]
            first = await miner.state()
            assert (first.is_mining, first.limit_w) == (True, 3_300)
            await miner.set_limit(2_500)
            assert (await miner.state()).limit_w == 2_500

            async def draws(watts: int) -> bool:
                told = (await control(plant, "/miners"))[MINER]
                state = await miner.state()
                return bool(told["drawn_w"] == watts and state.power_w == watts)

            await until(lambda: draws(2_500))
            await miner.stop()
            assert (await miner.state()).is_mining is False
            await until(lambda: draws(25))
            await miner.resume()
            assert (await miner.state()).is_mining is True
            await until(lambda: draws(2_500))

    asyncio.run(main())


def test_a_hall_is_stopped_and_resumed_at_once(tmp_path: Path) -> None:
    """Many at a time, each with its own address; the hall's watts go and come back."""

    async def main() -> None:
        async with (
            plant_here(tmp_path, miners=12, miners_at="fjord/feed-b") as plant,
            devices_of(plant) as devices,
        ):
            assert await stop_miners(devices, devices.miners, 20.0) == {}
            states = await read_miners(devices, 20.0)
            assert all(not isinstance(one, DeviceError) and one.is_mining is False for one in states.values())

            async def drawn() -> int:
                return int((await control(plant, "/state"))["elements"]["fjord/feed-b"]["true_w"])

            async def is_down() -> bool:
                return await drawn() < 4_000

            await until(is_down)
            assert await resume_miners(devices, devices.miners, 20.0) == {}

            async def is_up() -> bool:
                return await drawn() > 12 * 3_300

            await until(is_up)

    asyncio.run(main())


def test_a_miner_that_lies_says_that_it_is_off_and_draws(tmp_path: Path) -> None:
    """It confirms, says that it stopped and that it draws nothing: the meter above it alone knows better."""

    async def main() -> None:
        async with plant_here(tmp_path, miners=1) as plant, devices_of(plant) as devices:
            await control(plant, "/fail", {"kind": "miner", "names": [MINER], "as": "ignores"})
            miner = devices.miners[MINER]
            await miner.stop()
            state = await miner.state()
            assert (state.is_mining, state.power_w) == (False, 25)
            await asyncio.sleep(0.5)
            assert (await control(plant, "/miners"))[MINER]["drawn_w"] == 3_300

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failure", "fault"),
    [
        ("refuses", DeviceFault.CREDENTIALS),
        ("gone", DeviceFault.UNREACHABLE),
        ("silent", DeviceFault.TIMEOUT),
    ],
)
def test_a_miner_that_fails_is_named_and_never_taken_for_stopped(
    tmp_path: Path, failure: str, fault: DeviceFault
) -> None:
    """pyasic calls a miner that doesn't answer "not mining": here it is an error, before and after a token was had."""

    async def main() -> None:
        async with plant_here(tmp_path, miners=1) as plant, devices_of(plant) as devices:
            miner = devices.miners[MINER]
            miner.deadline_s = 1.0
            await miner.set_limit(3_000)
            await control(plant, "/fail", {"kind": "miner", "names": [MINER], "as": failure})
            for order in (miner.stop, lambda: miner.set_limit(2_000)):
                with pytest.raises(DeviceError) as caught:
                    await order()
                assert (caught.value.fault, caught.value.device) == (fault, MINER), str(caught.value)
            if failure != "refuses":
                with pytest.raises(DeviceError):
                    await miner.state()

    asyncio.run(main())


def test_a_wrong_password_is_named_and_no_limit_above_nameplate_is_taken(tmp_path: Path) -> None:
    """The error names the file; what the miner refuses is refused."""

    async def main() -> None:
        async with plant_here(tmp_path, miners=1) as plant, devices_of(plant) as devices:
            with pytest.raises(DeviceError, match="refuses a limit of 9000 W"):
                await devices.miners[MINER].set_limit(9_000)
            path = tmp_path / "password"
            path.write_text("sesame\n")
            path.chmod(0o600)
            address = replace(devices.miners[MINER].address, login=Login("admin", SecretFile(path)))
            with pytest.raises(DeviceError, match="does not accept the password") as caught:
                await PyasicMiner(address, plant.clock).stop()
            assert caught.value.fault is DeviceFault.CREDENTIALS
            assert "sesame" not in str(caught.value)

    asyncio.run(main())


def test_pyasic_itself_finds_out_that_it_is_a_whatsminer(tmp_path: Path) -> None:
    """The plant's miner is what it says: at its make's port pyasic identifies it, without being told."""

    async def main() -> None:
        async with plant_here(tmp_path, miners=1) as plant, devices_of(plant) as devices:
            miner = PyasicMiner(replace(devices.miners[MINER].address, make="auto"), plant.clock)
            state = await miner.state()
            assert (state.is_mining, state.power_w, state.limit_w) == (True, 3_300, 3_300)
            assert "M50S" in str(miner._miner)
            await miner.stop()
            assert (await miner.state()).is_mining is False

    asyncio.run(main())


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (b"", DeviceFault.UNREACHABLE),
        (b"{}", DeviceFault.UNEXPECTED),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", DeviceFault.UNEXPECTED),
        (json.dumps({"STATUS": "S", "Msg": "hello"}).encode(), DeviceFault.UNEXPECTED),
        (json.dumps({"STATUS": "E", "Code": 14, "Msg": "invalid cmd"}).encode(), DeviceFault.REFUSED),
        (json.dumps([1, 2]).encode(), DeviceFault.UNEXPECTED),
    ],
)
def test_whatever_a_miner_answers_it_is_no_state_that_it_is_not_in(said: bytes, fault: DeviceFault) -> None:
    """Another machine at the address, half an answer, another shape: an error with the miner's name and a step."""

    async def main() -> None:
        sent: list[bytes] = []

        def answer(raw: bytes) -> bytes:
            # Once, and then it hangs up, as the protocol has it.
            sent.append(raw)
            return said

        async with crude(answer, once=True) as port:
            place = PowerNodeId("fjord")
            address = MinerAddress("m1", "fjord/hall", place, "127.0.0.1", 3_300, port=port)
            with pytest.raises(DeviceError) as caught:
                await PyasicMiner(address, WallClock()).state()
        assert caught.value.problem.next_step
        assert str(caught.value).startswith("m1: ")
        assert (caught.value.fault, sent != []) == (fault, True), str(caught.value)

    asyncio.run(main())
