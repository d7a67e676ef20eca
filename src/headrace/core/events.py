"""Every event of the journal, and the table that numbers them.

A payload is the JSON of one of these classes. A kind's number and the meaning of a field never change: a new meaning is
a new version, and ``UPCASTS`` turns an old payload into the newest one. Payloads hold no secrets and nothing about a
person: those are references into the vault.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headrace.core.authority import Role, Verdict
from headrace.core.data import events as of_data
from headrace.core.ids import (
    ContractId,
    Epoch,
    InvoiceNumber,
    NodeId,
    PlacementId,
    PowerNodeId,
    ProjectId,
    SiteId,
    TenantId,
    TokenId,
    WindowId,
    WorkloadId,
)
from headrace.core.observation import Capabilities
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.workload import EndReason, RankPlace, WorkloadSpec


@dataclass(frozen=True, slots=True)
class JournalOpened:
    """The first event of every journal: ``journal`` is its random name, ``format`` the version of its encoding."""

    journal: str
    format: int = 1


@dataclass(frozen=True, slots=True)
class ControlStarted:
    """A control plane took the journal over, with an epoch above every earlier one.

    ``at``: the country that the journal lies in, if that was said; ``verdict``: that it may, where the operator has a policy.
    """

    epoch: Epoch
    version: str
    boot_id: str = ""
    at: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class DecisionRecorded:
    """A verdict of a class not decided before; later events refer to it by its digest."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class DocumentApplied:
    """A document of any kind but a workload, in its normalised form (see ``headrace.documents``)."""

    kind: str
    name: str
    document: dict[str, Any]
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class NodesReserved:
    """The nodes that a reservation has, chosen when it was admitted, and again whenever it was changed or one of them went."""

    reservation: WindowId
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DocumentRemoved:
    """A document that nothing used was removed."""

    kind: str
    name: str
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class TokenIssued:
    """An API token; only its SHA-256 is kept. ``holder`` refers to a person's name in the vault. ``expires_ms`` 0: never.

    ``countries``: from where its holder has access, as far as that is stated.
    """

    token: TokenId
    hash: str
    role: Role
    tenant: TenantId | None
    holder: str = ""
    expires_ms: int = 0
    verdict: str = ""
    countries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """A token that no longer opens anything."""

    token: TokenId
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadSubmitted:
    """A workload was accepted into the queue; ``request_digest`` is of what was asked under the idempotency key."""

    workload: WorkloadId
    tenant: TenantId
    spec: WorkloadSpec
    verdict: str = ""
    request_digest: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadRefused:
    """A workload that may never run here: the refusal, in one line, and the verdicts that decided it."""

    workload: WorkloadId
    refusal: str
    detail: str
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementMade:
    """A workload got nodes, from the planner's version ``plan_version`` of the world, under a jurisdiction's verdict.

    ``contract`` is what pays for it. ``verdicts``: where it uses data sets, that verdict and those about each of them.
    """

    placement: PlacementId
    workload: WorkloadId
    tenant: TenantId
    site: SiteId
    ranks: tuple[RankPlace, ...]
    verdict: str
    plan_version: int
    contract: ContractId = ContractId("")
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementStarted:
    """Every rank of a placement runs. ``endpoints`` maps a port's name to ``host:port`` of rank 0."""

    placement: PlacementId
    endpoints: dict[str, str] = field(default_factory=dict)
    isolation: str = ""


@dataclass(frozen=True, slots=True)
class UsageMetered:
    """What each rank of a placement used so far: cumulative ``(running_ms, paused_ms)`` by the host's boot-time clock.

    ``source`` is that of the power reading: measured, modelled, nameplate or stale.
    """

    placement: PlacementId
    ranks: tuple[tuple[int, int], ...]
    source: str = "modelled"
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class PlacementEnded:
    """No process of a placement is left. ``ranks`` is the final cumulative usage as in :class:`UsageMetered`.

    ``exit_codes`` has one per rank (128 + n for signal n; -1 when unknown). ``estimated`` says that an end was not
    seen, and the last heartbeat stands for it.
    """

    placement: PlacementId
    reason: EndReason
    exit_codes: tuple[int, ...]
    ranks: tuple[tuple[int, int], ...]
    source: str = "modelled"
    estimated: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A workload was told to stop; ``verdict`` says by which right."""

    workload: WorkloadId
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A running workload was told to pause (``pause`` true) or to resume."""

    workload: WorkloadId
    pause: bool
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class PauseObserved:
    """Every rank of a placement is paused (or runs again)."""

    placement: PlacementId
    paused: bool


@dataclass(frozen=True, slots=True)
class EvictionRequested:
    """A placement must give its nodes back (preempted, drained, over its time, a rank gone); ``detail`` says for whom or why.

    ``grace_ms``: less than its own grace, for the grid (0: its own).
    """

    placement: PlacementId
    reason: EndReason
    detail: str = ""
    grace_ms: int = 0


@dataclass(frozen=True, slots=True)
class WorkloadRequeued:
    """A workload went back to the queue, not to be placed before ``not_before_ms``."""

    workload: WorkloadId
    reason: str
    not_before_ms: int = 0


@dataclass(frozen=True, slots=True)
class NodeStateChanged:
    """A node may be placed on (``ready``), no longer (``draining``), or is ``down``."""

    node: str
    state: str
    reason: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class NodeIntruded:
    """Somebody runs something on a node that was not placed here: ``who``, "" for nobody any more.

    Nothing is placed on it meanwhile, and it counts at its nameplate.
    """

    node: str
    who: str


@dataclass(frozen=True, slots=True)
class EngineDeclared:
    """What the engine of a name can do, from now on; see :class:`~headrace.core.observation.Capabilities`."""

    engine: str
    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class TokensMetered:
    """One reading of a replica's own token counters.

    ``batch`` counts per placement from 0, so that a batch is never taken twice; ``input_tokens`` and
    ``output_tokens`` are cumulative since the replica's start.
    """

    placement: PlacementId
    batch: int
    input_tokens: int
    output_tokens: int
    source: str = "replica-counters"


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line: quantities are summed over the events behind it and priced once.

    ``amount_micros`` = half-even(``quantity`` x ``price_micros`` / ``price_per``). ``usage_key`` finds the usage rows (and so the
    events) behind the line; ``usage_rows`` counts them. ``source`` is the worst among the line's power readings, or
    the counter's. ``estimated`` when any of them is.
    """

    item: str
    description: str
    project: ProjectId
    site: SiteId
    contract: ContractId
    quantity: int
    unit: str
    price_micros: int
    price_per: int
    price_unit: str
    amount_micros: int
    source: str
    estimated: bool
    usage_key: str
    usage_rows: int


@dataclass(frozen=True, slots=True)
class InvoiceIssued:
    """An invoice of one tenant for one period (``yyyy-mm``) in one currency, issued once."""

    invoice: InvoiceNumber
    tenant: TenantId
    period: str
    currency: str
    lines: tuple[InvoiceLine, ...]
    net_micros: int
    tax_name: str
    tax_permille: int | None
    tax_micros: int
    total_micros: int
    part: int = 0
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class CreditNoteIssued:
    """A correction of an issued invoice: an amount given back, with its reason."""

    note: InvoiceNumber
    invoice: InvoiceNumber
    tenant: TenantId
    currency: str
    amount_micros: int
    reason: str
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class TenantErased:
    """A tenant's keys in the vault were destroyed, its logs deleted; what accounting must keep stays."""

    tenant: TenantId
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class LogRead:
    """Somebody read a workload's log: an audited action. ``verdicts``: by which right, and by the policy that it is under."""

    workload: WorkloadId
    rank: int
    verdict: str = ""
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvidenceExported:
    """Somebody asked for a tenant's evidence pack, of ``from_ms`` to before ``to_ms``: audited before anything of it is sent.

    It is of the journal's first ``size`` events, whose head has ``root`` (hexadecimal), as the pack's closing says. Who: the
    header's actor, by the right that ``verdict`` names.
    """

    tenant: TenantId
    from_ms: int
    to_ms: int
    size: int
    root: str
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """The independent check, or the loop, found what must not be: ``promise`` is its number."""

    promise: int
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """What an idempotency key stands for: the digest of what was asked under it, and the answer in its plain form.

    It follows whatever the request did, which may be nothing. A submission has none: its events hold its digest, and its
    answer is its workloads. ``tenant`` is whose key it is (None: the operator's).
    """

    asked: str
    answer: dict[str, Any]
    tenant: TenantId | None = None


@dataclass(frozen=True, slots=True)
class InstructionReceived:
    """The grid (or a person for it) limits a site for a time; an earlier one of the same id is replaced."""

    instruction: Instruction
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class InstructionWithdrawn:
    """An instruction ends now, or never begins."""

    instruction: InstructionId
    reason: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class CurtailmentOrdered:
    """A placement is to be paused for an instruction, until :class:`CurtailmentLifted`."""

    placement: PlacementId
    instruction: InstructionId


@dataclass(frozen=True, slots=True)
class CurtailmentLifted:
    """A placement that was paused for the grid may go on; from now on it counts in full again."""

    placement: PlacementId


@dataclass(frozen=True, slots=True)
class LimitersDeclared:
    """Nodes of a site whose watts can be limited, each with the lowest limit that its controller takes; all others can't.

    ``switches``: those that can be shut down and started.
    """

    site: SiteId
    limiters: tuple[tuple[NodeId, int], ...]
    switches: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class CapsOrdered:
    """These nodes of a site are to draw at most so many watts each, for an instruction, until :class:`CapsLifted`."""

    site: SiteId
    instruction: InstructionId
    caps: tuple[tuple[NodeId, int], ...]


@dataclass(frozen=True, slots=True)
class CapsObserved:
    """What these nodes' controllers say that they enforce, in watts; 0: nothing, or nothing is known of it any more."""

    site: SiteId
    caps: tuple[tuple[NodeId, int], ...]


@dataclass(frozen=True, slots=True)
class CapsLifted:
    """These nodes are to have no cap any more; from now on they count in full again."""

    site: SiteId
    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class ExcessMeasured:
    """A meter sees ``watts`` of IT load more at an element of the power tree than all that is known to draw there; 0: no more."""

    element: PowerNodeId
    watts: int
    meter: str


Event = (
    JournalOpened
    | ControlStarted
    | DecisionRecorded
    | DocumentApplied
    | DocumentRemoved
    | TokenIssued
    | TokenRevoked
    | WorkloadSubmitted
    | WorkloadRefused
    | PlacementMade
    | PlacementStarted
    | UsageMetered
    | PlacementEnded
    | StopRequested
    | PauseRequested
    | PauseObserved
    | EvictionRequested
    | WorkloadRequeued
    | NodeStateChanged
    | NodeIntruded
    | EngineDeclared
    | TokensMetered
    | InvoiceIssued
    | CreditNoteIssued
    | TenantErased
    | LogRead
    | AlarmRaised
    | RequestAnswered
    | NodesReserved
    | InstructionReceived
    | InstructionWithdrawn
    | CurtailmentOrdered
    | CurtailmentLifted
    | LimitersDeclared
    | CapsOrdered
    | CapsObserved
    | CapsLifted
    | ExcessMeasured
    | EvidenceExported
    | of_data.Event
)

KINDS: dict[int, type] = {
    1: JournalOpened,
    2: ControlStarted,
    3: DecisionRecorded,
    4: DocumentApplied,
    5: DocumentRemoved,
    6: TokenIssued,
    7: TokenRevoked,
    8: WorkloadSubmitted,
    9: WorkloadRefused,
    10: PlacementMade,
    11: PlacementStarted,
    12: UsageMetered,
    13: PlacementEnded,
    14: StopRequested,
    15: PauseRequested,
    16: PauseObserved,
    17: EvictionRequested,
    18: WorkloadRequeued,
    19: NodeStateChanged,
    20: TokensMetered,
    21: InvoiceIssued,
    22: CreditNoteIssued,
    23: TenantErased,
    24: LogRead,
    25: AlarmRaised,
    26: RequestAnswered,
    27: NodesReserved,
    28: NodeIntruded,
    29: EngineDeclared,
    30: InstructionReceived,
    31: InstructionWithdrawn,
    32: CurtailmentOrdered,
    33: CurtailmentLifted,
    34: LimitersDeclared,
    35: CapsOrdered,
    36: CapsObserved,
    37: CapsLifted,
    38: ExcessMeasured,
    39: of_data.StoresDeclared,
    40: of_data.CopyRequested,
    41: of_data.CopyFinished,
    42: of_data.CopyFailed,
    43: of_data.CopyJudged,
    44: of_data.RemovalRequested,
    45: EvidenceExported,
    46: of_data.CopyRemoved,
    47: of_data.DataRead,
}
KIND_OF: dict[type, int] = {event: number for number, event in KINDS.items()}
VERSIONS: dict[int, int] = dict.fromkeys(KINDS, 1)
"""The newest version of each kind."""
UPCASTS: dict[tuple[int, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""(kind, old version) to the function that turns its payload into that of the next version."""


class Committed(NamedTuple):
    """An event with what its header says.

    ``request`` is the idempotency key's digest (16 bytes, empty for none); ``actor`` the number of the token that asked
    (0: the control plane itself).
    """

    seq: int
    at_ms: int
    event: Event
    request: bytes = b""
    actor: int = 0
