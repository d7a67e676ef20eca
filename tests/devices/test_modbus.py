"""Meters over Modbus TCP: what they say is read by their map, judged, and every failure is named."""

import asyncio
import io
import logging
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.clock import WallClock
from headrace.core.ids import PowerNodeId
from headrace.core.power.telemetry import Doubt, MeterRules
from headrace.devices import DeviceError, DeviceFault
from headrace.devices.fleet import read_meters
from headrace.devices.modbus import Gateway, MeterAddress, ModbusMeter, Register, RegisterMap, RegisterType
from tests.devices.crude import crude
from tests.plant.small import control, devices_of, plant_here, until

FEED = "fjord/feed-a/meter"


def meter_at(port: int, registers: RegisterMap, deadline_s: float = 1.0) -> ModbusMeter:
    address = MeterAddress(
        "m1", PowerNodeId("fjord"), "127.0.0.1", port, 1, registers, MeterRules(nameplate_w=10**6)
    )
    return ModbusMeter(address, Gateway("127.0.0.1", port, deadline_s), WallClock())


def answering(words: bytes) -> bytes:
    """A Modbus answer of these registers, for a request that `crude` puts its transaction into."""
    return struct.pack(">BBB", 1, 3, len(words)) + words


async def asked(words: bytes, registers: RegisterMap, frame: bytes | None = None) -> int:
    """What a meter reads as that answers with these registers."""

    def answer(raw: bytes) -> bytes:
        said = answering(words) if frame is None else frame
        return raw[:2] + struct.pack(">HH", 0, len(said)) + said

    async with crude(answer) as port:
        meter = meter_at(port, registers)
        try:
            return (await meter.sample()).watts
        finally:
            meter._gateway.close()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"?",
        b"HTTP/1.1 404 Not Found\r\n\r\n" + 4_000 * b"<p>Not found.</p>",
        bytes(300),
    ],
)
def test_what_answers_and_is_no_meter_is_said_to_answer(said: bytes) -> None:
    """Not that it was silent; and nothing is printed beside, whoever listens to all logs."""

    async def ask() -> None:
        async with crude(lambda _: said) as port:
            meter = meter_at(port, RegisterMap(Register(0, "int32")), 0.3)
            with pytest.raises(
                DeviceError, match=f"m1: what answers at 127.0.0.1:{port} is no Modbus meter, or not unit 1;"
            ) as failed:
                await meter.sample()
            meter._gateway.close()
        assert failed.value.fault is DeviceFault.UNEXPECTED

    printed = io.StringIO()
    everything = logging.StreamHandler(printed)
    logging.getLogger().addHandler(everything)
    try:
        asyncio.run(ask())
    finally:
        logging.getLogger().removeHandler(everything)
    assert printed.getvalue() == ""


@pytest.mark.parametrize(
    ("type_", "words", "scale", "order", "sign", "watts"),
    [
        ("int16", struct.pack(">h", -200), 10.0, "big", -1, 2_000),
        ("uint16", struct.pack(">H", 65_000), 1.0, "big", 1, 65_000),
        ("int32", struct.pack(">i", -70_000), 1.0, "big", 1, -70_000),
        ("uint32", struct.pack(">HH", 1, 2), 1.0, "big", 1, 65_538),
        ("uint32", struct.pack(">HH", 2, 1), 1.0, "little", 1, 65_538),
        ("float32", struct.pack(">f", 412.5), 1_000.0, "big", 1, 412_500),
        ("float64", struct.pack(">d", 123_456.4), 1.0, "big", 1, 123_456),
        ("int64", struct.pack(">q", 12), 1_000.0, "big", 1, 12_000),
    ],
)
def test_watts_are_read_by_type_scale_order_and_sign(
    type_: RegisterType, words: bytes, scale: float, order: str, sign: int, watts: int
) -> None:
    """Kilowatts or tens of watts, either word first, either sign: the map says which, and what comes out is watts drawn."""
    register = Register(10, type_, scale, word_order="little" if order == "little" else "big")
    found = asyncio.run(asked(words, RegisterMap(register, sign=-1 if sign < 0 else 1)))
    assert found == watts


@pytest.mark.parametrize(
    ("frame", "fault", "said"),
    [
        (struct.pack(">BBB", 1, 0x83, 2), DeviceFault.RANGE, "no such register; Correct the register map"),
        (struct.pack(">BBB", 1, 0x83, 1), DeviceFault.UNSUPPORTED, "Try kind: input"),
        (struct.pack(">BBB", 1, 0x83, 4), DeviceFault.REFUSED, "says that it failed"),
        (
            struct.pack(">BBB", 1, 0x83, 11),
            DeviceFault.UNREACHABLE,
            "the meter does not answer; Look at the unit number",
        ),
        (struct.pack(">BBB", 1, 0x83, 99), DeviceFault.REFUSED, "code 99"),
        (answering(struct.pack(">f", float("nan"))), DeviceFault.UNEXPECTED, "says nan"),
        (answering(struct.pack(">H", 7)), DeviceFault.UNEXPECTED, "other than the 2 registers from 10"),
    ],
)
def test_each_exception_code_and_each_odd_answer_is_named_with_its_step(
    frame: bytes, fault: DeviceFault, said: str
) -> None:
    """A wrong address, a wrong kind, a gateway without its meter, no number: what to look at is in the error."""
    with pytest.raises(DeviceError) as caught:
        asyncio.run(asked(b"", RegisterMap(Register(10, "float32")), frame))
    assert (caught.value.fault, said in str(caught.value)) == (fault, True), str(caught.value)
    assert str(caught.value).startswith("m1: ")


def test_no_answer_no_connection_and_no_modbus() -> None:
    """Silence ends at the deadline; a closed port and another protocol are named too."""

    async def main() -> None:
        registers = RegisterMap(Register(0, "int32"))
        async with crude(lambda raw: None) as port:
            with pytest.raises(DeviceError, match=r"no answer from unit 1 at .* within 0\.3 s"):
                await meter_at(port, registers, 0.3).sample()
        async with crude(lambda raw: b"SSH-2.0-OpenSSH_9.2\r\n") as port:
            with pytest.raises(DeviceError):
                await meter_at(port, registers, 0.3).sample()
        with pytest.raises(DeviceError, match="no connection to 127") as caught:
            await meter_at(1, registers).sample()
        assert caught.value.fault is DeviceFault.UNREACHABLE

    asyncio.run(main())


@pytest.mark.parametrize(
    ("registers", "blocks"),
    [
        (
            RegisterMap(Register(0, "int32"), Register(2, "uint64"), Register(6, "uint64")),
            [("holding", 0, 10)],
        ),
        (RegisterMap(Register(0, "int32"), Register(3, "int32")), [("holding", 0, 2), ("holding", 3, 2)]),
        (
            RegisterMap(Register(52, "float32", kind="input"), Register(0, "int16")),
            [("holding", 0, 1), ("input", 52, 2)],
        ),
        (RegisterMap(Register(0, "int32"), Register(0, "int32")), [("holding", 0, 2)]),
    ],
)
def test_neighbours_are_asked_for_together_and_nothing_that_is_not_in_the_map(
    registers: RegisterMap, blocks: list[tuple[str, int, int]]
) -> None:
    """A register in between that a meter doesn't have would be an exception for all of them."""
    assert registers.blocks() == blocks


def test_a_plants_meter_tells_true_watts_with_its_energy_and_its_clock(tmp_path: Path) -> None:
    """What it reads is what was drawn a lag ago; energy and clock are there to be judged by."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant, devices_of(plant) as devices:
            meter = devices.meters[FEED]
            first = await meter.sample()
            true_w = (await control(plant, "/state"))["elements"]["fjord/feed-a"]["true_w"]
            assert abs(first.watts - true_w) < 100
            assert first.taken_ms is not None
            assert 0 < first.read_ms - first.taken_ms < 2_000
            await asyncio.sleep(0.5)
            second = await meter.sample()
            assert second.sequence is not None
            assert first.sequence is not None
            assert second.sequence > first.sequence
            assert (second.energy_mj or 0) >= (first.energy_mj or 0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fault", "value", "doubt"),
    [
        ("frozen", 0, Doubt.FROZEN),
        ("negative", 0, Doubt.NEGATIVE),
        ("jumped", 40, Doubt.EXCESS),
        ("clock", 3_600_000, Doubt.CLOCK),
        ("gone", 0, Doubt.OLD),
    ],
)
def test_a_meter_that_fails_counts_as_nameplate_and_says_why(
    tmp_path: Path, fault: str, value: float, doubt: Doubt
) -> None:
    """Through the socket: believed, then told to fail, then at nameplate with the reason; then believed again."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant, devices_of(plant) as devices:
            meter = devices.meters[FEED]
            # As the file has it, but for the patience: a test need not wait six seconds for what is old.
            meter.address = replace(meter.address, rules=replace(meter.address.rules, max_age_ms=1_000))
            meter._gateway.deadline_s = 0.3
            assert (await meter.read()).source == "measured"
            await control(plant, "/fail", {"kind": "meter", "names": [FEED], "as": fault, "value": value})

            async def is_doubted() -> bool:
                judged = (await read_meters(devices, 5.0))[FEED]
                return (
                    judged.doubt is doubt
                    and judged.reading.source == "stale"
                    and judged.reading.watts == 3_000
                )

            await until(is_doubted)
            assert (await read_meters(devices, 5.0))["fjord/feed-b/meter"].is_believed
            await control(plant, "/fail", {"kind": "meter", "names": [FEED], "as": "none"})

            async def is_believed() -> bool:
                return (await read_meters(devices, 5.0))[FEED].is_believed

            await until(is_believed)

    asyncio.run(main())


def test_a_meter_that_is_silent_holds_up_no_other_behind_its_gateway(tmp_path: Path) -> None:
    """All the others of one gateway are read while one keeps its connection until the deadline."""

    async def main() -> None:
        async with plant_here(tmp_path, racks=4) as plant, devices_of(plant) as devices:
            silent = [FEED, "fjord/feed-b/meter"]
            await control(plant, "/fail", {"kind": "meter", "names": silent, "as": "gone"})
            judged = await read_meters(devices, 10.0)
            believed = {name for name, one in judged.items() if one.is_believed}
            assert believed == set(judged) - set(silent)
            assert "no answer from unit" in judged[FEED].detail

    asyncio.run(main())
