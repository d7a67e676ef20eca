"""Power readings: watts, when, and how far they can be believed."""

from dataclasses import dataclass
from typing import Literal

PowerSource = Literal["measured", "modelled", "nameplate", "stale"]
"""From best to worst. ``measured`` by a meter; ``modelled`` from catalogue and state; ``stale``: the meter stopped telling."""


@dataclass(frozen=True, slots=True)
class PowerReading:
    """``watts`` drawn (never negative) at ``at_ms`` (milliseconds UTC, when the meter took it), and by which ``meter``."""

    watts: int
    at_ms: int
    source: PowerSource
    meter: str = ""
