"""The ports: what the core and the control loop need from outside, as protocols. Shells implement them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.core.errors import HeadraceError
from headrace.core.ids import Epoch, PlacementId, SiteId, TenantId, WorkloadId
from headrace.core.observation import NodeReport, PlacementReport, RankReport, RankState
from headrace.core.workload import RankPlace

__all__ = [
    "Capabilities",
    "Clock",
    "Engine",
    "EngineError",
    "LogChunk",
    "NodeReport",
    "PlacementReport",
    "RankReport",
    "RankState",
    "StartOrder",
]


FIRST_TENANT_UID = 200_000
"""Unix users of tenants are numbered from here, by the tenant's number: no accounts are made for them."""


class Clock(Protocol):
    """Where time comes from; the only one outside tests."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC by the wall clock; may jump."""
        ...


@dataclass(frozen=True, slots=True)
class StartOrder:
    """One placement to start. Idempotent: a second order of the same placement changes nothing.

    ``env`` includes the opened secrets. ``hardware`` gives, per rank, the accelerators and the milli-processors of its whole
    node, so that an engine on one machine can give the rank its share. ``max_duration_ms`` 0: no limit.
    """

    placement: PlacementId
    workload: WorkloadId
    tenant: TenantId
    tenant_uid: int
    site: SiteId
    epoch: Epoch
    commands: tuple[str, ...]
    env: dict[str, str]
    ranks: tuple[RankPlace, ...]
    node_accelerators: tuple[int, ...]
    node_cpu_milli: tuple[int, ...]
    accelerator: str
    ports: dict[str, int]
    grace_ms: int
    max_duration_ms: int


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a log: ``offset`` of its first byte, ``next_offset`` to go on from; ``ended`` when nothing will follow.

    Offsets count from the log's beginning, also when its first part was rotated away: then ``offset`` is above the one asked.
    """

    data: bytes
    offset: int
    next_offset: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; ``isolation`` is none, uid or container."""

    isolation: str
    pause: bool
    ports: bool


class EngineError(HeadraceError):
    """The engine could not do it now; the loop tries again."""


class Engine(Protocol):
    """Runs placements. Every call is idempotent and returns soon; what happened shows in ``observe``."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    def fence(self, epoch: Epoch) -> None:
        """From now on refuse orders of any epoch below ``epoch``, for good; before any other call of a control plane."""
        ...

    def start(self, order: StartOrder) -> None:
        """Start every rank of a placement, or nothing; EngineError when it can't be tried."""
        ...

    def stop(self, placement: PlacementId, grace_ms: int) -> None:
        """End every rank: SIGTERM to its process group, SIGKILL after ``grace_ms``. Nothing for an unknown placement."""
        ...

    def pause(self, placement: PlacementId) -> None:
        """Stop the ranks' processes without ending them (SIGSTOP)."""
        ...

    def resume(self, placement: PlacementId) -> None:
        """Let paused ranks go on."""
        ...

    def observe(self) -> Sequence[PlacementReport]:
        """Reports of every placement that is not forgotten, ended ones included."""
        ...

    def forget(self, placement: PlacementId) -> None:
        """The end of a placement is in the journal: its record may go (its logs stay until their retention ends)."""
        ...

    def nodes(self) -> Sequence[NodeReport]:
        """Health of the nodes; empty when the engine has nothing to say of any."""
        ...

    def logs(self, placement: PlacementId, rank: int, stream: str, offset: int, limit: int) -> LogChunk:
        """At most ``limit`` bytes of a rank's ``stdout`` or ``stderr`` from ``offset``."""
        ...

    def erase_logs(self, placement: PlacementId) -> None:
        """Delete a placement's logs."""
        ...
