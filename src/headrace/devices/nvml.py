"""GPUs over NVML, where a driver is present: reading only, and the limit that is *enforced*.

Untested here: no machine of the tests has such a GPU, so that only what happens without one, and the arithmetic over a stand-in
for the library, are tested. The library (``nvidia-ml-py``) is optional and imported in one place, :func:`library`.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from headrace.core.units import MS_PER_SECOND
from headrace.devices import DeviceError, DeviceFault, LimitReading
from headrace.ports import Clock

_MILLI = 1_000


def library() -> Any:
    """NVML's Python binding; DeviceError when it is not installed."""
    try:
        return import_module("pynvml")
    except ImportError:
        raise DeviceError(
            "nvml",
            DeviceFault.MISSING,
            "the library nvidia-ml-py is not installed;",
            "Install it on the node, where the GPUs' driver is.",
        ) from None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU: its ``uuid``, and the ``limit`` that the driver enforces, with what it draws."""

    uuid: str
    limit: LimitReading


class NvmlGpus:
    """The GPUs of this machine. ``nvml`` is what :func:`library` returns."""

    def __init__(self, nvml: Any, clock: Clock) -> None:
        self._nvml, self._clock = nvml, clock
        self._call(nvml.nvmlInit)

    def close(self) -> None:
        """Let go of the driver."""
        self._call(self._nvml.nvmlShutdown)

    def read(self) -> list[GpuReading]:
        """All GPUs. A driver enforces the least of what was set, of its default and of what the board allows: that is read."""
        return [self._one(index) for index in range(int(self._call(self._nvml.nvmlDeviceGetCount)))]

    def _one(self, index: int) -> GpuReading:
        handle = self._call(self._nvml.nvmlDeviceGetHandleByIndex, index)
        uuid = self._call(self._nvml.nvmlDeviceGetUUID, handle)
        # Milliwatts; rounded up, for a limit that is a little higher than it looks would be too low to count on.
        limit_w = -(-int(self._call(self._nvml.nvmlDeviceGetEnforcedPowerLimit, handle)) // _MILLI)
        drawn_w = -(-int(self._call(self._nvml.nvmlDeviceGetPowerUsage, handle)) // _MILLI)
        text = uuid.decode() if isinstance(uuid, bytes) else str(uuid)
        return GpuReading(text, LimitReading(limit_w, self._clock.now_ms(), True, drawn_w))

    def _call(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            raise DeviceError(
                "nvml",
                DeviceFault.REFUSED,
                f"{function.__name__}: {error};",
                "Check with `nvidia-smi` whether the driver runs.",
            ) from error


AGE_MS = 2 * MS_PER_SECOND
"""How far back NVML's power reading averages on boards since 2020 at most; a cap shows in it after that time."""
