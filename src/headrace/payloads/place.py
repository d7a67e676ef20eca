"""Where one rank stands: what the engine says in the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


class EnvironmentRefusedError(ValueError):
    """The engine's environment lacks something, or says something that can't be."""


@dataclass(frozen=True, slots=True)
class Place:
    """One rank of a gang, and where rank 0 can be met."""

    rank: int
    world_size: int
    local_rank: int
    master_addr: str
    master_port: int
    accelerators: int

    @property
    def is_leader(self) -> bool:
        """Whether the others report to this rank."""
        return self.rank == 0


def place_from(environment: Mapping[str, str]) -> Place:
    """Read a rank's place; without any of the variables it is the only rank there is.

    Raises EnvironmentRefusedError, naming the variable.
    """
    world_size = number(environment, "WORLD_SIZE", default=1, least=1)
    rank = number(environment, "RANK", default=0)
    if rank >= world_size:
        raise EnvironmentRefusedError(f"RANK={rank} is outside WORLD_SIZE={world_size}: ranks count from 0")
    if world_size > 1 and "MASTER_PORT" not in environment:
        raise EnvironmentRefusedError(
            "WORLD_SIZE is above 1, so set MASTER_ADDR and MASTER_PORT: where rank 0 is met"
        )
    return Place(
        rank=rank,
        world_size=world_size,
        local_rank=number(environment, "LOCAL_RANK", default=rank),
        master_addr=environment.get("MASTER_ADDR", "127.0.0.1"),
        master_port=number(environment, "MASTER_PORT", default=0, most=65535),
        accelerators=number(environment, "HEADRACE_ACCELERATORS", default=0),
    )


def number(
    environment: Mapping[str, str],
    name: str,
    *,
    default: int | None = None,
    least: int = 0,
    most: int = 2**31 - 1,
) -> int:
    """Read one whole number of the environment.

    Raises EnvironmentRefusedError when it is missing without a default, no number, or out of range.
    """
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise EnvironmentRefusedError(f"{name}={text!r} must be a whole number from {least} to {most}")
    return int(text)


def usable_cores() -> int:
    """Count the processors that this process may run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0))
