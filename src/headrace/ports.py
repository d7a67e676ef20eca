"""The ports: what the core and the control loop need from outside, as protocols. Shells implement them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.core.errors import HeadraceError, Problem
from headrace.core.ids import DataId, Epoch, NodeId, PlacementId, SiteId, TenantId, WorkloadId
from headrace.core.observation import Capabilities, NodeReport, PlacementReport, RankReport, RankState
from headrace.core.workload import RankPlace

__all__ = [
    "Capabilities",
    "Clock",
    "Engine",
    "EngineError",
    "EngineNode",
    "LogChunk",
    "NodeReport",
    "PlacementReport",
    "RankReport",
    "RankState",
    "StartOrder",
    "Store",
    "StoreError",
    "StoredFile",
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
    node, so that an engine on one machine can give the rank its share. ``max_duration_ms`` 0: no limit. ``lease``: how the nodes
    are handed to the tenant, where nothing of ours runs on them ("": the commands run). ``node_idle_w``: what each rank's node
    counts with once nothing runs on it, in watts: one that draws more has not ended.
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
    lease: str = ""
    node_idle_w: tuple[int, ...] = ()


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
class EngineNode:
    """A node as an engine's cluster has it, by the cluster's own ``name``.

    ``is_drained``: it answers, and the cluster gives it no new work, for ``reason``. ``foreign``: who runs something on it
    that no Headrace ordered, "" for nobody. A number is 0 where the cluster doesn't tell.
    """

    name: str
    is_up: bool = True
    is_drained: bool = False
    reason: str = ""
    accelerators: int = 0
    cpu_milli: int = 0
    memory_mb: int = 0
    foreign: str = ""


class EngineError(HeadraceError):
    """The engine could not do it now; the loop tries again."""


class Engine(Protocol):
    """Runs placements. Every call is idempotent and returns soon; what happened shows in ``observe``."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    def fence(self, epoch: Epoch, owner: str = "") -> None:
        """From now on refuse orders of any epoch below ``epoch``, for good; before any other call of a control plane.

        ``owner``: the control plane's journal. EngineError when what the engine keeps on disk is another journal's.
        """
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

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        """Health of those nodes ``of`` the estate that the engine has something to say of."""
        ...

    def host_of(self, node: NodeId) -> str:
        """What the engine's cluster calls a node of the estate."""
        ...

    def inventory(self) -> Sequence[EngineNode] | None:
        """All nodes that its cluster has, as they were seen last; None when it has no view of its own, or has not looked yet."""
        ...

    @property
    def trouble(self) -> str:
        """What keeps it from its cluster now, and the next step; "" when nothing does."""
        ...

    def cordon(self, nodes: Mapping[NodeId, str]) -> None:
        """Of the estate's nodes these, and no others of its own, shall get no new work of anybody's, each for its reason."""
        ...

    def logs(self, placement: PlacementId, rank: int, stream: str, offset: int, limit: int) -> LogChunk:
        """At most ``limit`` bytes of a rank's ``stdout`` or ``stderr`` from ``offset``."""
        ...

    def erase_logs(self, placement: PlacementId) -> None:
        """Delete a placement's logs."""
        ...

    def close(self) -> None:
        """Look after nothing any more; what runs goes on."""
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a data set: its ``path`` within it, with slashes, and how many bytes it has."""

    path: str
    size_bytes: int


class StoreError(HeadraceError):
    """A store could not do it now (it is full, or away), and is asked again; or never will, if ``is_final``."""

    def __init__(self, problem: Problem, *, is_final: bool = False) -> None:
        super().__init__(problem)
        self.is_final = is_final


class Store(Protocol):
    """Where data sets lie at a site. A copy is there whole, or not at all: it is written aside, and then published.

    Calls block; several data sets may be worked on at once, one of them by one caller alone. What is written aside outlives
    whoever writes it. Every call raises StoreError.
    """

    def has(self, data: DataId) -> bool:
        """Whether a published copy is there."""
        ...

    def files(self, data: DataId) -> Sequence[StoredFile]:
        """The files of a published copy, by the bytes of their paths; StoreError (final) for none, or for links."""
        ...

    def read(self, data: DataId, path: str) -> Iterator[bytes]:
        """A file of a published copy, in pieces."""
        ...

    def pending(self, data: DataId) -> Sequence[StoredFile]:
        """The files that are whole of a copy that is not published; none if nothing was written."""
        ...

    def read_pending(self, data: DataId, path: str) -> Iterator[bytes]:
        """One of them, in pieces."""
        ...

    def write(self, data: DataId, path: str, pieces: Iterator[bytes]) -> None:
        """Write a file of a copy that is not published: it is whole and on disk once this returns, and else not there."""
        ...

    def discard(self, data: DataId) -> None:
        """Forget what was written of a copy and not published."""
        ...

    def publish(self, data: DataId, reader: int) -> None:
        """Make what was written the copy, at once; the Unix group ``reader`` may read it, where there are such."""
        ...

    def admit(self, data: DataId, reader: int) -> None:
        """Let the Unix group ``reader`` read a published copy, which somebody else put there, and nobody change it."""
        ...

    def drop(self, data: DataId) -> None:
        """Remove a copy, and what was written of it and not published; nothing for none."""
        ...

    def directory(self, data: DataId) -> str:
        """Where those who run at the site find a published copy."""
        ...
