"""NVML, where it is not: the error names what is missing. Reading real GPUs is untested here, and said to be."""

import sys
from types import SimpleNamespace

import pytest

from headrace.clock import WallClock
from headrace.devices import DeviceError, DeviceFault
from headrace.devices.nvml import NvmlGpus, library


@pytest.mark.skipif("pynvml" in sys.modules, reason="the optional library nvidia-ml-py is here")
def test_without_the_library_the_error_says_what_to_install() -> None:
    """The one place that imports it."""
    with pytest.raises(DeviceError, match="nvidia-ml-py is not installed; Install it") as caught:
        library()
    assert caught.value.fault is DeviceFault.MISSING


class NVMLError(Exception):
    """As the library calls it."""


def stand_in(**changed: object) -> SimpleNamespace:
    """The functions of the library that are used, over two GPUs: milliwatts, bytes or text for names."""
    functions: dict[str, object] = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: (b"GPU-0", "GPU-1")[handle],
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: (500_000, 350_001)[handle],
        "nvmlDeviceGetPowerUsage": lambda handle: (499_000, 71_500)[handle],
    }
    return SimpleNamespace(**(functions | changed))


def test_the_enforced_limit_is_read_in_watts_rounded_up() -> None:
    """Over a stand-in for the library: a milliwatt above 350 W counts as 351 W."""
    found = NvmlGpus(stand_in(), WallClock()).read()
    assert [(one.uuid, one.limit.limit_w, one.limit.drawn_w) for one in found] == [
        ("GPU-0", 500, 499),
        ("GPU-1", 351, 72),
    ]


def test_a_driver_that_fails_is_named() -> None:
    """What NVML says, and the next step."""

    def fails() -> None:
        raise NVMLError("Driver Not Loaded")

    with pytest.raises(DeviceError, match="Driver Not Loaded; Check with `nvidia-smi`"):
        NvmlGpus(stand_in(nvmlInit=fails), WallClock())
