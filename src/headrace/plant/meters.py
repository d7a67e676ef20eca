"""The plant's meters: what the physics did a while ago, as registers; they freeze, jump, turn negative or go when told."""

import struct
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from headrace.core.units import MJ_PER_WH
from headrace.plant.physics import Physics

UPDATE_MS = 200
"""How often a meter writes its registers."""
REGISTERS = 12
"""Holding registers 0-1: watts (int32); 2-5: energy in watt-hours (uint64); 6-9: its clock in ms UTC (uint64); 10-11: its update
counter (uint32). The first word first."""


class MeterFault(StrEnum):
    """How a meter fails when told."""

    NONE = "none"
    FROZEN = "frozen"
    JUMPED = "jumped"
    NEGATIVE = "negative"
    GONE = "gone"
    CLOCK = "clock"


@dataclass(slots=True)
class PlantMeter:
    """One meter at an element. ``unit`` is its Modbus number behind gateway ``gateway``.

    ``value``: what its fault does: times the true watts (``jumped``), or milliseconds that its clock is off (``clock``).
    """

    name: str
    element: int
    gateway: int
    unit: int
    fault: MeterFault = MeterFault.NONE
    value: float = 0.0
    _frozen: bytes = field(default=b"", repr=False)

    def fail(self, fault: MeterFault, value: float, physics: Physics, lag_ms: int) -> None:
        """From now on it fails so, or not any more."""
        self.fault, self.value = MeterFault.NONE, value
        self._frozen = self.registers(physics, lag_ms)
        self.fault = fault

    def registers(self, physics: Physics, lag_ms: int) -> bytes:
        """What it shows now, as its registers' bytes."""
        if self.fault is MeterFault.FROZEN:
            return self._frozen
        at_ms = (physics.now_ms - lag_ms) // UPDATE_MS * UPDATE_MS
        row = physics.row_at(at_ms)
        watts = float(physics.past_w[row, self.element])
        if self.fault is MeterFault.JUMPED:
            watts *= self.value
        elif self.fault is MeterFault.NEGATIVE:
            watts = -watts
        shown = int(np.clip(round(watts), -(2**31), 2**31 - 1))
        clock_ms = at_ms + int(self.value if self.fault is MeterFault.CLOCK else 0)
        energy_wh = int(physics.past_mj[row, self.element] // MJ_PER_WH)
        return struct.pack(">iQQI", shown, energy_wh, clock_ms, at_ms // UPDATE_MS % 2**32)
