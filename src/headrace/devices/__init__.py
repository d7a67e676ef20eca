"""Devices: what measures watts, and what moves them, over the protocols that they speak.

The protocols below are asynchronous, because a control plane has a thousand devices and asks them all at once
(:mod:`headrace.devices.fleet`). Every call has a deadline, and raises :class:`DeviceError` that names the device and the next
step. What a device confirms is never what was sent: it is read back, and only a meter shows what is drawn.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import NodeId, PowerNodeId
from headrace.core.power.reading import PowerReading
from headrace.core.power.telemetry import Judgement, MeterSample

__all__ = [
    "DeviceError",
    "DeviceFault",
    "LimitRange",
    "LimitReading",
    "Limiter",
    "Meter",
    "Miner",
    "MinerState",
    "Switch",
]


class DeviceFault(StrEnum):
    """How a device failed: whether it is worth asking again, and whom to call."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TLS = "tls"
    CREDENTIALS = "credentials"
    REFUSED = "refused"
    RANGE = "range"
    UNEXPECTED = "unexpected"
    UNSUPPORTED = "unsupported"
    MISSING = "missing"


_CODES = {
    DeviceFault.CREDENTIALS: ProblemCode.UNAUTHENTICATED,
    DeviceFault.REFUSED: ProblemCode.CONFLICT,
    DeviceFault.RANGE: ProblemCode.BAD_INPUT,
    DeviceFault.UNSUPPORTED: ProblemCode.BAD_INPUT,
}


class DeviceError(HeadraceError):
    """A device did not do what it was asked, or did not say. ``device`` names it; ``fault`` says how it failed."""

    def __init__(self, device: str, fault: DeviceFault, message: str, next_step: str) -> None:
        code = _CODES.get(fault, ProblemCode.ENGINE_UNAVAILABLE)
        super().__init__(Problem(code, f"{device}: {message}", next_step))
        self.device, self.fault = device, fault


@dataclass(frozen=True, slots=True)
class LimitReading:
    """What a device says that it enforces, at ``at_ms`` (milliseconds UTC, by the control plane's clock).

    ``limit_w`` None: it limits nothing. ``enforced``: it says that it acts on the limit, and does not only hold the number.
    ``drawn_w``: what it says that it draws, if it says so in the same answer; no meter, and not to be counted on.
    """

    limit_w: int | None
    at_ms: int
    enforced: bool
    drawn_w: int | None = None


@dataclass(frozen=True, slots=True)
class LimitRange:
    """The least and the most watts that a device takes as a limit; None where it doesn't say."""

    least_w: int | None
    most_w: int | None


@dataclass(frozen=True, slots=True)
class MinerState:
    """What a miner says of itself at ``at_ms``: it may lie, and only a meter shows what is drawn.

    ``is_mining`` None: it does not say. ``power_w``: what it says that it draws. ``limit_w``: the power limit that it holds.
    """

    is_mining: bool | None
    power_w: int | None
    limit_w: int | None
    at_ms: int


class Meter(Protocol):
    """Measures the watts that flow through one element of the power tree."""

    @property
    def name(self) -> str:
        """Its name, unique at its site."""
        ...

    @property
    def element(self) -> PowerNodeId:
        """The element whose watts it measures; for a connection, the site's watts at the meter, cooling included."""
        ...

    @property
    def judgement(self) -> Judgement:
        """What it counts for now, by its readings so far: also when it stopped answering."""
        ...

    async def sample(self) -> MeterSample:
        """Ask it once; DeviceError when it doesn't answer, or not with numbers."""
        ...

    async def read(self) -> PowerReading:
        """Ask it once and judge: ``measured``, or ``stale`` at nameplate (``judgement`` says why). Raises like ``sample``."""
        ...


class Limiter(Protocol):
    """Caps the watts of one thing: a server, an accelerator, a miner. Every call is idempotent."""

    async def set_limit(self, watts: int | None) -> None:
        """Ask for at most ``watts`` (None: no limit). That it returns says that the device accepted it, and nothing more."""
        ...

    async def limit(self) -> LimitReading:
        """What it says that it enforces now."""
        ...

    async def range(self) -> LimitRange:
        """What it takes as a limit. The least is its floor: a cap can't shed more."""
        ...


class Switch(Protocol):
    """Turns a server off and on."""

    @property
    def node(self) -> NodeId:
        """The node of the estate."""
        ...

    async def off(self, *, at_once: bool = False) -> None:
        """Ask it to shut down; ``at_once`` without asking its operating system."""
        ...

    async def on(self) -> None:
        """Ask it to start."""
        ...

    async def is_on(self) -> bool:
        """Whether it says that it is on: true also while it starts or shuts down, for it draws."""
        ...


class Miner(Protocol):
    """A mining machine. It ramps down over seconds, and up over minutes; what it says is no measurement."""

    @property
    def name(self) -> str:
        """Its name, unique at its site."""
        ...

    async def stop(self) -> None:
        """Ask it to stop hashing and draw next to nothing."""
        ...

    async def resume(self) -> None:
        """Ask it to hash again."""
        ...

    async def set_limit(self, watts: int) -> None:
        """Ask it to draw at most ``watts``."""
        ...

    async def state(self) -> MinerState:
        """What it says of itself."""
        ...
