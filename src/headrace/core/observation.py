"""What engines report: data that the core decides on."""

from dataclasses import dataclass, field
from enum import StrEnum

from headrace.core.ids import Epoch, NodeId, PlacementId


class RankState(StrEnum):
    """What a runner says of its rank. ``LOST``: nothing runs and no end was recorded (reboot, killed runner)."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class RankReport:
    """What is known of one rank. Durations are by the host's boot-time clock and cumulative.

    ``exit_code`` is 128 + n after signal n, None while it runs or when the end was not seen (``LOST``). ``reason`` is empty, or
    ``max_duration`` or ``start_failed`` with ``detail``. ``estimated`` when the last heartbeat stands for the end.
    """

    rank: int
    state: RankState
    running_ms: int = 0
    paused_ms: int = 0
    exit_code: int | None = None
    reason: str = ""
    detail: str = ""
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class PlacementReport:
    """What an engine knows of one placement: always a report for every rank, in order of rank."""

    placement: PlacementId
    epoch: Epoch
    ranks: tuple[RankReport, ...]
    endpoints: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; ``isolation`` is none, uid or container.

    ``parts``: several ranks can share an accelerator. ``tenant``: the only one that it serves, "" for everybody. ``lease``: how
    it hands nodes over to a tenant beside bare ones, see :class:`~headrace.core.workload.WorkloadSpec`. ``pause_sheds``: what is
    paused draws no more than an idle accelerator, so that a pause counts against a limit of the grid as soon as it is seen.
    ``mines``: it runs no commands: its machines mine by themselves, for fillers without any, and it keeps no logs.
    """

    isolation: str
    pause: bool
    ports: bool
    parts: bool = True
    tenant: str = ""
    lease: str = ""
    pause_sheds: bool = False
    mines: bool = False


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Health of one node as the engine sees it.

    ``foreign``: who runs something on it that was not placed here, "" for nobody.
    """

    node: NodeId
    up: bool
    reason: str = ""
    foreign: str = ""
