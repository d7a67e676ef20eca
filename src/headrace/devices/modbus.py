"""Meters over Modbus TCP.

A meter is a unit behind a gateway (or alone): its register map says where its watts stand, and where its energy counter, clock
and update counter, if it has them: what shows that a meter is alive (:mod:`headrace.core.power.telemetry`).
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ExceptionResponse

from headrace.core.ids import PowerNodeId
from headrace.core.power.reading import PowerReading
from headrace.core.power.telemetry import Judgement, MeterRules, MeterSample, judge, kept
from headrace.core.units import MJ_PER_WH
from headrace.devices import DeviceError, DeviceFault
from headrace.ports import Clock

# What it would say there (with all that came, in hexadecimal), our errors say by the meter's name: also where somebody else
# has a handler for everything.
logging.getLogger("pymodbus").addHandler(logging.NullHandler())
logging.getLogger("pymodbus").propagate = False

DEADLINE_S = 2.0
CONNECTIONS = 4
"""Connections to one gateway at most: many serve no more than eight in all."""
LARGEST_BLOCK = 125
"""Registers that one request may ask for, by the specification."""
RegisterType = Literal["uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
RegisterKind = Literal["holding", "input"]
_TYPES = AsyncModbusTcpClient.DATATYPE
_EXCEPTIONS: Mapping[int, tuple[DeviceFault, str, str]] = {
    1: (DeviceFault.UNSUPPORTED, "does not know this kind of register", "Try kind: input or kind: holding."),
    2: (DeviceFault.RANGE, "has no such register", "Correct the register map: many manuals count from 1, this file from 0."),
    3: (DeviceFault.RANGE, "does not give so many registers", "Correct the type in the register map."),
    4: (DeviceFault.REFUSED, "says that it failed", "Look at the meter."),
    6: (DeviceFault.REFUSED, "is busy", "It is asked again; read it less often."),
    10: (DeviceFault.UNREACHABLE, "has no way to the meter", "Look at the gateway's settings."),
    11: (DeviceFault.UNREACHABLE, "says that the meter does not answer", "Look at the unit number, and the wire between them."),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Register:
    """Where a number stands: ``address`` counts from 0; times ``scale`` it is in watts, watt-hours, milliseconds or counts.

    ``word_order``: which of several registers comes first; the bytes in each are big-endian, as the specification has it.
    """

    address: int
    type: RegisterType
    scale: float = 1.0
    kind: RegisterKind = "holding"
    word_order: Literal["big", "little"] = "big"

    @property
    def count(self) -> int:
        """Registers that it takes."""
        return int(_TYPES[self.type.upper()].value[1])

    @property
    def is_integer(self) -> bool:
        """Whether it holds an integer, which is exact."""
        return "int" in self.type


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """What a make of meter tells and where; ``sign`` -1 where it counts what is drawn as negative."""

    power: Register
    energy: Register | None = None
    clock: Register | None = None
    sequence: Register | None = None
    sign: Literal[1, -1] = 1

    def named(self) -> dict[str, Register]:
        """The registers that it has."""
        found = {"power": self.power, "energy": self.energy, "clock": self.clock, "sequence": self.sequence}
        return {name: one for name, one in found.items() if one is not None}

    def blocks(self) -> list[tuple[RegisterKind, int, int]]:
        """What to ask for: kind, first address, count. Neighbours are asked for together; nothing that isn't in the map is."""
        made: list[tuple[RegisterKind, int, int]] = []
        for one in sorted(self.named().values(), key=lambda register: (register.kind, register.address)):
            if made:
                kind, first, count = made[-1]
                longer = one.address + one.count - first
                if kind == one.kind and one.address <= first + count and longer <= LARGEST_BLOCK:
                    made[-1] = kind, first, max(count, longer)
                    continue
            made.append((one.kind, one.address, one.count))
        return made


@dataclass(frozen=True, slots=True)
class MeterAddress:
    """Where a meter is, what it measures, and what is known of it."""

    name: str
    element: PowerNodeId
    host: str
    port: int
    unit: int
    registers: RegisterMap
    rules: MeterRules


class _Line(AsyncModbusTcpClient):
    """A connection that knows whether anything came back (``heard``) since it was last asked."""

    def __init__(self, host: str, port: int, deadline_s: float) -> None:
        self.heard = False
        super().__init__(
            host, port=port, timeout=deadline_s, retries=0, reconnect_delay=0, trace_packet=self._hear
        )
        # What is longer than any frame is dropped unheard otherwise: a web server's page, say.
        self.ctx.max_buffer_size = 1 << 20

    def _hear(self, sending: bool, data: bytes) -> bytes:
        self.heard = not sending and (self.heard or bool(data))
        return data


@dataclass(slots=True)
class Gateway:
    """The connections to one host and port. A meter that doesn't answer holds one of them until its deadline."""

    host: str
    port: int
    deadline_s: float = DEADLINE_S
    _free: list[_Line] = field(default_factory=list)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS))

    def close(self) -> None:
        """Close the connections."""
        while self._free:
            self._free.pop().close()

    async def read(self, meter: str, unit: int, kind: RegisterKind, address: int, count: int) -> list[int]:
        """Registers of a unit; DeviceError in the name of ``meter``."""
        line: _Line | None = None
        try:
            async with asyncio.timeout(self.deadline_s), self._connection(meter) as client:
                line = client
                ask = client.read_holding_registers if kind == "holding" else client.read_input_registers
                answer = await ask(address, count=count, device_id=unit)
        except (TimeoutError, ModbusException) as error:
            if line is not None and line.heard:
                text = f"what answers at {self.host}:{self.port} is no Modbus meter, or not unit {unit};"
                step = "Check address and port, and what listens there."
                raise DeviceError(meter, DeviceFault.UNEXPECTED, text, step) from error
            text = f"no answer from unit {unit} at {self.host}:{self.port} within {self.deadline_s:g} s;"
            step = "Look at the meter, its unit number and its gateway."
            raise DeviceError(meter, DeviceFault.TIMEOUT, text, step) from error
        if isinstance(answer, ExceptionResponse):
            raise self._refused(meter, unit, address, answer.exception_code)
        if answer.isError() or len(answer.registers) != count:
            text = f"unit {unit} at {self.host}:{self.port} gives other than the {count} registers from {address};"
            raise DeviceError(meter, DeviceFault.UNEXPECTED, text, "Check whether it is a Modbus meter.")
        return list(answer.registers)

    @asynccontextmanager
    async def _connection(self, meter: str) -> AsyncIterator[_Line]:
        async with self._room:
            client = self._free.pop() if self._free else None
            if client is None or not client.connected:
                client = await self._connect(meter)
            try:
                yield client
            except BaseException:
                # An answer may come late: the next question on this connection would take it for its own.
                client.close()
                raise
            self._free.append(client)

    async def _connect(self, meter: str) -> _Line:
        client = _Line(self.host, self.port, self.deadline_s)
        if not await client.connect():
            client.close()
            text = f"no connection to {self.host}:{self.port};"
            raise DeviceError(
                meter, DeviceFault.UNREACHABLE, text, "Check address and port, and the meters' network."
            )
        return client

    def _refused(self, meter: str, unit: int, address: int, code: int) -> DeviceError:
        unknown = (DeviceFault.REFUSED, f"refuses with code {code}", "Look into the meter's manual.")
        fault, what, step = _EXCEPTIONS.get(code, unknown)
        return DeviceError(
            meter, fault, f"unit {unit} at {self.host}:{self.port}, register {address}: it {what};", step
        )


class ModbusMeter:
    """A :class:`~headrace.devices.Meter` behind a gateway."""

    def __init__(self, address: MeterAddress, gateway: Gateway, clock: Clock) -> None:
        self.address, self._gateway, self._clock = address, gateway, clock
        self._samples: tuple[MeterSample, ...] = ()

    @property
    def name(self) -> str:
        """See :class:`~headrace.devices.Meter`."""
        return self.address.name

    @property
    def element(self) -> PowerNodeId:
        """See :class:`~headrace.devices.Meter`."""
        return self.address.element

    @property
    def judgement(self) -> Judgement:
        """See :class:`~headrace.devices.Meter`."""
        return judge(self.name, self._samples, self.address.rules, self._clock.now_ms())

    async def sample(self) -> MeterSample:
        """See :class:`~headrace.devices.Meter`."""
        registers = self.address.registers
        held: dict[tuple[str, int], int] = {}
        for kind, first, count in registers.blocks():
            words = await self._gateway.read(self.name, self.address.unit, kind, first, count)
            held |= {(kind, first + place): word for place, word in enumerate(words)}
        values = {name: self._number(one, held) for name, one in registers.named().items()}
        watts, energy_wh = registers.sign * values["power"], values.get("energy")
        return MeterSample(
            watts=round(watts),
            read_ms=self._clock.now_ms(),
            taken_ms=_rounded(values.get("clock")),
            energy_mj=None if energy_wh is None else round(energy_wh * MJ_PER_WH),
            sequence=_rounded(values.get("sequence")),
        )

    async def read(self) -> PowerReading:
        """See :class:`~headrace.devices.Meter`."""
        new = await self.sample()
        self._samples = kept(self._samples, new, self.address.rules)
        return self.judgement.reading

    def _number(self, register: Register, held: Mapping[tuple[str, int], int]) -> float:
        words = [held[register.kind, register.address + place] for place in range(register.count)]
        kind = _TYPES[register.type.upper()]
        found: Any = AsyncModbusTcpClient.convert_from_registers(words, kind, word_order=register.word_order)
        if not isinstance(found, int | float) or not math.isfinite(found):
            text = f"register {register.address} says {found};"
            step = "It has no value there now: look at its wiring, or at the type in the register map."
            raise DeviceError(self.name, DeviceFault.UNEXPECTED, text, step)
        # Integers stay exact where they can: a clock in milliseconds has more digits than some floats.
        if register.is_integer and register.scale == int(register.scale):
            return found * int(register.scale)
        return found * register.scale


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
