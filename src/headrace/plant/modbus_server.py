"""The plant's meters behind Modbus TCP: gateways with up to 247 units each."""

import logging
import struct
from collections.abc import Sequence
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from headrace.plant.meters import REGISTERS, MeterFault, PlantMeter
from headrace.plant.physics import Physics

logging.getLogger("pymodbus").addHandler(logging.NullHandler())

UNITS = 247
"""Numbers that a gateway can give, by the specification."""


class MeterGateways:
    """The Modbus servers of a plant's meters."""

    def __init__(self, physics: Physics, meters: Sequence[PlantMeter], lag_ms: int) -> None:
        self.physics, self.meters, self.lag_ms = physics, meters, lag_ms
        self._servers: list[ModbusTcpServer] = []

    async def start(self, host: str, ports: Sequence[int]) -> list[int]:
        """Listen, each gateway at its port (0: a free one); the ports."""
        bound = []
        for number, port in enumerate(ports):
            devices = [self._device(meter) for meter in self.meters if meter.gateway == number]
            # A unit that is gone raises NoSuchIdException: with this option it then says nothing at all.
            server = ModbusTcpServer(devices, address=(host, port), ignore_missing_devices=True)
            await server.serve_forever(background=True)
            self._servers.append(server)
            # For a server, pymodbus's transport is asyncio's Server.
            listening: Any = server.transport
            bound.append(int(listening.sockets[0].getsockname()[1]))
        return bound

    async def stop(self) -> None:
        """Listen no more."""
        for server in self._servers:
            await server.shutdown()  # type: ignore[no-untyped-call]

    def _device(self, meter: PlantMeter) -> SimDevice:
        async def show(
            _function: int,
            start: int,
            _address: int,
            _count: int,
            registers: list[int],
            written: list[int] | list[bool] | None,
        ) -> ExcCodes | None:
            if meter.fault is MeterFault.GONE:
                raise NoSuchIdException
            if written is not None:
                return ExcCodes.ILLEGAL_FUNCTION
            words = struct.unpack(f">{REGISTERS}H", meter.registers(self.physics, self.lag_ms))
            registers[: REGISTERS - start] = words[start:]
            return None

        held = SimData(0, values=[0] * REGISTERS, datatype=DataType.REGISTERS)
        return SimDevice(id=meter.unit, simdata=[held], action=show)
