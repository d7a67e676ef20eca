"""What an order comes to on one machine: the environment of each rank, and why it can never run there."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.engines.machine import LOOPBACK
from headrace.ports import StartOrder


@dataclass(frozen=True, slots=True)
class Runtime:
    """What every workload finds: ``python``, the paths it imports from, the real accelerators."""

    python: str
    paths: tuple[Path, ...]
    gpus: tuple[int, ...]


def why_never(order: StartOrder, uids: range | None) -> str:
    """Why ``order`` can never run on this machine, or "". ``uids``: the tenants' users, where they have any."""
    if order.lease:
        return f"this engine leases no nodes through {order.lease.capitalize()}"
    if not order.ranks or not len(order.ranks) == len(order.node_accelerators) == len(order.node_cpu_milli):
        return "the order does not give each rank its node; this is a defect, report it"
    for place, accelerators, cpu_milli in zip(
        order.ranks, order.node_accelerators, order.node_cpu_milli, strict=True
    ):
        if place.mask >> accelerators or place.cpu_milli > cpu_milli:
            return (
                f"node {place.node} has {accelerators} accelerators and {cpu_milli} milli-processors, not "
                f"accelerators {place.mask:#b} and {place.cpu_milli}"
            )
    if uids is not None and order.tenant_uid not in uids:
        return (
            f"user {order.tenant_uid} of tenant {order.tenant} is not in {uids}; set the engine's uid range"
        )
    fixed = sorted(name for name, port in order.ports.items() if port)
    if fixed and len(order.ranks) > 1:
        return f"port {fixed[0]} is fixed, but {len(order.ranks)} ranks share this machine; write `{fixed[0]}: auto`"
    return ""


def environment(
    order: StartOrder, number: int, info: dict[str, Any], work: Path, runtime: Runtime
) -> dict[str, str]:
    """All that one rank's processes find in their environment. Nothing of the engine's own is passed on."""
    place = order.ranks[number]
    env = {
        "PATH": os.pathsep.join(
            (str(Path(runtime.python).absolute().parent), "/usr/local/bin", "/usr/bin", "/bin")
        ),
        "HOME": str(work),
        "TMPDIR": str(work),
        "LANG": "C.UTF-8",
        # Logs are followed as they are written.
        "PYTHONUNBUFFERED": "1",
    }
    if runtime.paths:
        env["PYTHONPATH"] = os.pathsep.join(map(str, runtime.paths))
    env |= order.env
    env |= {
        "RANK": str(number),
        "WORLD_SIZE": str(len(order.ranks)),
        "LOCAL_RANK": str(sum(1 for other in order.ranks[:number] if other.node == place.node)),
        "MASTER_ADDR": info.get("address", LOOPBACK),
        "MASTER_PORT": str(info["master_port"]),
        "HEADRACE_WORKLOAD": order.workload,
        "HEADRACE_PLACEMENT": order.placement,
        "HEADRACE_TENANT": order.tenant,
        "HEADRACE_SITE": order.site,
        "HEADRACE_NODE": place.node,
        "HEADRACE_EPOCH": str(order.epoch),
        "HEADRACE_ACCELERATORS": str(place.accelerators),
        "HEADRACE_ACCELERATOR_SHARE": str(place.share_milli),
        "HEADRACE_ACCELERATOR_MODEL": order.accelerator,
        "HEADRACE_RUN": info["mark"],
    }
    for name, port in info["ports"][number].items():
        env[port_variable(name)] = str(port)
    if runtime.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in runtime.gpus if place.mask >> gpu & 1)
    return env


def port_variable(name: str) -> str:
    """The variable that a port's number is passed in: ``HEADRACE_PORT_HTTP`` for ``http``."""
    return "HEADRACE_PORT_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
