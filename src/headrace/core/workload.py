"""Workloads: what they ask for, their states, and the transitions between them as a table."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NamedTuple

from headrace.core.ids import ContractId, PlacementId, ProjectId, SiteId, TenantId, WindowId, WorkloadId
from headrace.core.units import MS_PER_DAY, MS_PER_MINUTE


class WorkloadType(StrEnum):
    """What kind of work it is: a batch (gang), a model endpoint, nodes leased whole, or work made to be interrupted."""

    JOB = "job"
    SERVICE = "service"
    CLUSTER = "cluster"
    FILLER = "filler"


class Flex(StrEnum):
    """How a workload may be curtailed, from not at all to ended at any time."""

    FIRM = "firm"
    CAPPABLE = "cappable"
    PAUSABLE = "pausable"
    PREEMPTIBLE = "preemptible"


class State(StrEnum):
    """State of a workload. ``PLACED`` has nodes but no confirmed process; ``STOPPING`` waits for its processes to end."""

    QUEUED = "queued"
    PLACED = "placed"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    REFUSED = "refused"


OUTLIVED = "reached its max_duration"
"""The reason of what was ended after its time: a job has failed then, a leased cluster has stopped as it was asked to."""
TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.STOPPED, State.REFUSED})
HOLDING = frozenset({State.PLACED, State.RUNNING, State.PAUSED, State.STOPPING})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.PLACED, State.STOPPED, State.REFUSED}),
    State.PLACED: frozenset(
        {State.RUNNING, State.STOPPING, State.QUEUED, State.FAILED, State.SUCCEEDED, State.STOPPED}
    ),
    State.RUNNING: frozenset(
        {State.PAUSED, State.STOPPING, State.QUEUED, State.FAILED, State.SUCCEEDED, State.STOPPED}
    ),
    State.PAUSED: frozenset(
        {State.RUNNING, State.STOPPING, State.QUEUED, State.FAILED, State.SUCCEEDED, State.STOPPED}
    ),
    State.STOPPING: frozenset({State.STOPPED, State.QUEUED, State.SUCCEEDED, State.FAILED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.STOPPED: frozenset(),
    State.REFUSED: frozenset(),
}


MOST_GRACE_MS = {"filler": MS_PER_MINUTE, "preemptible": 15 * MS_PER_MINUTE, "": MS_PER_DAY}
"""The longest grace of fillers, of what is preemptible, and of all else: who makes room is waited for."""


def most_grace_ms(kind: WorkloadType, flex: Flex) -> int:
    """The longest ``grace_ms`` of a workload of a type and a flex."""
    if kind is WorkloadType.FILLER:
        return MOST_GRACE_MS["filler"]
    return MOST_GRACE_MS.get(flex, MOST_GRACE_MS[""])


def mines_alone(spec: "WorkloadSpec") -> bool:
    """Whether it is a filler that gives nothing to run: machines that mine by themselves are all that it can have."""
    return spec.type is WorkloadType.FILLER and not spec.commands


WHOLE_MILLI = 1_000
"""Thousandths of an accelerator that is not shared."""

Lease = Literal["", "slurm"]
"""How the nodes of a cluster are handed over: ``slurm`` is a reservation of Slurm, for the account of its tenant alone."""

Level = Literal["domain", "rack", "rail", "pod", "site"]
LEVELS: tuple[Level, ...] = ("domain", "rack", "rail", "pod", "site")
"""How close nodes are, closest first: one fast fabric, one rack, one group of racks on the same rails, one block, one site."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What each node of a workload gives it: accelerators of one model ("" for none or any), processors, memory.

    ``share_milli`` below 1000 asks for that many thousandths of one accelerator (``accelerators`` is 1 then), which only
    workloads of the same tenant share. ``accelerator_memory_mb`` is the least memory of each accelerator (0: any).
    """

    accelerator: str = ""
    accelerators: int = 0
    cpu_milli: int = 0
    memory_mb: int = 0
    share_milli: int = WHOLE_MILLI
    accelerator_memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class Alternative:
    """Other accelerators that would do in the place of those in ``Resources``: so many of a model on each node."""

    accelerator: str
    accelerators: int


@dataclass(frozen=True, slots=True)
class Topology:
    """How a gang's nodes should stand: all within one group of a level (``pack``), or each in another one (``spread``).

    Required: else it waits. Otherwise as near to it as can be now. "" for no wish: then the fewest racks.
    """

    pack: Level | Literal[""] = ""
    spread: Level | Literal[""] = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """Which policy a workload is under: a profile's name, or the countries that it may run in; neither: anywhere.

    ``data``: its tenant's data sets that it uses, by name, in order. Where they may not be used it may not run: they are part of
    what is decided about a place, and so of every class of work that decisions are remembered by.
    """

    profile: str = ""
    countries: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """What a tenant asks for.

    ``nodes`` processes (ranks), one on each node, all or nothing; elastic work takes up to ``nodes_max`` of them (0: exactly
    ``nodes``). ``commands`` run in one shell, stopping at the first that fails. ``secrets`` maps a variable's name to a
    reference into the vault, never to a value. ``ports`` maps a name to a number, or to 0 for one that the engine chooses.
    ``max_duration_ms`` 0 means no limit; ``expected_ms`` is how long its owner thinks that it runs, which may be wrong (0: not
    known). It saves its state every ``checkpoint_ms`` (0: never) and needs ``restart_ms`` to come back from it.
    ``reservation`` names the one in whose nodes it runs. ``alternatives`` are tried after ``resources``, in order.
    ``counters`` names how a replica's token counters are read ("" for none; "llamacpp" for its metrics page). ``lease``: how a
    cluster's nodes are handed to its tenant ("": it has them bare, or runs its commands on them).
    """

    name: str
    type: WorkloadType
    project: ProjectId
    resources: Resources
    commands: tuple[str, ...]
    nodes: int = 1
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    priority: int = 0
    max_duration_ms: int = 0
    grace_ms: int = 10_000
    flex: Flex = Flex.FIRM
    policy: PolicyRef = PolicyRef()
    site: SiteId | None = None
    contract: ContractId | None = None
    counters: str = ""
    alternatives: tuple[Alternative, ...] = ()
    nodes_max: int = 0
    topology: Topology | None = None
    expected_ms: int = 0
    checkpoint_ms: int = 0
    restart_ms: int = 0
    reservation: WindowId | None = None
    lease: Lease = ""


class RankPlace(NamedTuple):
    """Where one rank is: its node and what it takes there. ``mask`` has a bit for each accelerator taken.

    With ``share_milli`` below 1000 it has one bit, and so many thousandths of that accelerator are taken. In an event it is an
    array in this order: gangs of thousands of ranks are read and written often.
    """

    node: str
    mask: int
    cpu_milli: int
    memory_mb: int
    share_milli: int = WHOLE_MILLI

    @property
    def accelerators(self) -> int:
        """Accelerators that it has, in whole or in part."""
        return self.mask.bit_count()

    @property
    def accelerators_milli(self) -> int:
        """Thousandths of accelerators that it has."""
        return self.mask.bit_count() * self.share_milli


def options(spec: WorkloadSpec) -> tuple[Resources, ...]:
    """What would do on each node, in order of preference: its resources, then its alternatives."""
    return spec.resources, *(
        replace(spec.resources, accelerator=other.accelerator, accelerators=other.accelerators)
        for other in spec.alternatives
    )


def option(spec: WorkloadSpec, number: int) -> Resources | None:
    """One of the options by its number; None when there is no such."""
    if number == 0:
        return spec.resources
    found = options(spec) if 0 < number <= len(spec.alternatives) else ()
    return found[number] if found else None


class EndReason(StrEnum):
    """Why a placement ended."""

    EXITED = "exited"
    STOPPED = "stopped"
    PREEMPTED = "preempted"
    MAX_DURATION = "max_duration"
    RANK_FAILED = "rank_failed"
    NODE_LOST = "node_lost"
    START_FAILED = "start_failed"
    DRAINED = "drained"
    CURTAILED = "curtailed"
    FORBIDDEN = "forbidden"


@dataclass(slots=True)
class Placement:
    """A workload on nodes for an interval; owned and mutated by the world.

    ``metered`` holds, for each rank, the running and paused milliseconds that usage was already recorded for; ``tokens`` the
    input and output tokens, in ``token_batches`` batches. ``wanted_seq`` is the event that last changed what is wanted of it: no
    engine is asked before that is durable. ``curtailed`` names the instruction for which it is held paused since
    ``curtailed_ms``; ``stop_grace_ms`` is what it was given to end, where the grid leaves less than its own grace (0: its own).
    It ``is_quiet`` while that is seen and counts against limits: its accelerators draw what idle ones do.
    """

    id: PlacementId
    workload: WorkloadId
    tenant: TenantId
    site: SiteId
    ranks: tuple[RankPlace, ...]
    made_ms: int
    made_seq: int
    verdict: str
    project: ProjectId = ProjectId("")
    contract: ContractId = ContractId("")
    wanted_seq: int = 0
    started_ms: int = 0
    endpoints: dict[str, str] = field(default_factory=dict)
    isolation: str = ""
    stop_reason: EndReason | None = None
    stop_since_ms: int = 0
    paused: bool = False
    metered: tuple[tuple[int, int], ...] = ()
    metered_ms: int = 0
    tokens: tuple[int, int] = (0, 0)
    token_batches: int = 0
    curtailed: str = ""
    curtailed_ms: int = 0
    stop_grace_ms: int = 0
    is_quiet: bool = False


@dataclass(slots=True)
class Workload:
    """A workload with its state; owned and mutated by the world. Times are journal time; 0 means not yet.

    ``attained_ms``: how long its earlier attempts ran, of one that shares accelerators in time with its equals.
    """

    id: WorkloadId
    tenant: TenantId
    spec: WorkloadSpec
    submitted_ms: int
    submitted_seq: int
    state: State = State.QUEUED
    since_ms: int = 0
    attempt: int = 0
    not_before_ms: int = 0
    pause_wanted: bool = False
    placement: PlacementId | None = None
    site: SiteId | None = None
    reason: str = ""
    exit_codes: tuple[int, ...] = ()
    verdict: str = ""
    attained_ms: int = 0
