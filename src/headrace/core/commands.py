"""What can be asked of the writer. A command that changes nothing twice is one that may be sent twice."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

from headrace.core.authority import Role
from headrace.core.codec import from_plain, to_plain
from headrace.core.ids import (
    DataId,
    InvoiceNumber,
    NodeId,
    PlacementId,
    PowerNodeId,
    SiteId,
    TenantId,
    TokenId,
    WorkloadId,
)
from headrace.core.observation import Capabilities, NodeReport, PlacementReport
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.scheduling.proposal import Plan
from headrace.core.workload import WorkloadSpec


@dataclass(frozen=True, slots=True)
class StartControl:
    """Take the journal over: the first command of every start. ``journal`` names a new one, and is ignored otherwise.

    ``at``: the country in which the journal lies, as whoever starts it says ("": nobody said).
    """

    journal: str
    version: str
    boot_id: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class NormalisedDocument:
    """A document as its edge leaves it: normalised, so that the same meaning is the same document."""

    kind: str
    name: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ApplyDocuments:
    """Apply documents, all or none; what already is so makes no event."""

    documents: tuple[NormalisedDocument, ...]


@dataclass(frozen=True, slots=True)
class RemoveDocument:
    """Remove a document that nothing uses."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class IssueToken:
    """Make an API token known by its SHA-256; ``holder`` refers to a person in the vault.

    ``countries``: from where the holder has access.
    """

    hash: str
    role: Role
    tenant: TenantId | None
    holder: str = ""
    expires_ms: int = 0
    countries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """Let a token open nothing any more."""

    token: TokenId


@dataclass(frozen=True, slots=True)
class Submit:
    """Submit workloads of one tenant, all or none; ``digest`` is of what was asked, to tell a repeated key from a reused one."""

    tenant: TenantId
    specs: Sequence[WorkloadSpec]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a workload for good."""

    workload: WorkloadId


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause a workload (``pause`` true) or let it go on."""

    workload: WorkloadId
    pause: bool


@dataclass(frozen=True, slots=True)
class SetNodes:
    """Drain nodes (``state`` draining) or take them back (``ready``); with ``evict`` what runs on them is moved."""

    nodes: tuple[NodeId, ...]
    state: str
    reason: str = ""
    evict: bool = False


@dataclass(frozen=True, slots=True)
class AdoptPlan:
    """Adopt what is still right of a plan."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Observe:
    """What the engines report. ``failed`` are placements that can't be started, with why; ``missing`` ones that no engine knows.

    With ``meter_ms`` the usage of every reported placement that was last metered so long ago is recorded (0: of all).
    """

    reports: Sequence[PlacementReport]
    nodes: Sequence[NodeReport] = ()
    failed: Sequence[tuple[PlacementId, str]] = ()
    missing: Sequence[PlacementId] = ()
    isolation: str = ""
    meter_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeclareEngines:
    """What the engines can do that this control plane has, by name."""

    engines: Mapping[str, Capabilities]


@dataclass(frozen=True, slots=True)
class RecordTokens:
    """A replica's cumulative token counters, as batch number ``batch`` of its placement."""

    placement: PlacementId
    batch: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class IssueInvoices:
    """Issue a tenant's invoices for a period (``yyyy-mm``), one per currency."""

    tenant: TenantId
    period: str


@dataclass(frozen=True, slots=True)
class IssueCreditNote:
    """Give back ``amount_micros`` of an issued invoice."""

    invoice: InvoiceNumber
    amount_micros: int
    reason: str


@dataclass(frozen=True, slots=True)
class EraseTenant:
    """Destroy a tenant's keys and logs; its workloads must have ended."""

    tenant: TenantId


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Record that somebody reads a log."""

    workload: WorkloadId
    rank: int


@dataclass(frozen=True, slots=True)
class ExportEvidence:
    """Record that somebody gets a tenant's evidence pack, of a time, from the journal's head of ``size`` events with ``root``."""

    tenant: TenantId
    from_ms: int
    to_ms: int
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class RaiseAlarm:
    """Record what must not be."""

    promise: int
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Instruct:
    """Take an instruction of the grid; one of the same id is replaced. ``binding``: it holds even where it can't be met.

    What is not binding, and below what can't be shed, is refused.
    """

    instruction: Instruction
    binding: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """End an instruction now."""

    instruction: InstructionId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FollowGrid:
    """Shed what the instructions that stand ask for, and let go on what may: asked again and again."""


@dataclass(frozen=True, slots=True)
class DeclareLimiters:
    """Say which nodes' watts can be limited from here, with the lowest limit that each one's controller takes, in watts.

    ``switches``: those that can be shut down and started from here.
    """

    limiters: Mapping[NodeId, int]
    switches: Collection[NodeId] = ()


@dataclass(frozen=True, slots=True)
class ReportDevices:
    """What devices say: ``caps``, by node the watts that its controller enforces (0: none, or it does not say).

    ``excess``: by element, ``(watts, meter)`` that a meter sees beyond all that is known to draw there.
    """

    caps: Mapping[NodeId, int] = field(default_factory=dict)
    excess: Mapping[PowerNodeId, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FollowLaw:
    """Judge all that runs again, and let move what may not be where it is: asked whenever policies, facts or days change."""


@dataclass(frozen=True, slots=True)
class ApplyData:
    """Apply documents of a tenant's data sets, all or none."""

    tenant: TenantId
    documents: tuple[NormalisedDocument, ...]


@dataclass(frozen=True, slots=True)
class CopyData:
    """Copy a data set to a site that its policy allows."""

    data: DataId
    site: SiteId


@dataclass(frozen=True, slots=True)
class RemoveCopy:
    """Remove the copy of a data set at a site; ``last``: also if it is the last one that is present."""

    data: DataId
    site: SiteId
    last: bool = False


@dataclass(frozen=True, slots=True)
class OpenData:
    """Record that somebody opens a file of a data set where it lies."""

    data: DataId
    site: SiteId
    file: str


@dataclass(frozen=True, slots=True)
class DeclareStores:
    """Say which sites have a store that is reached from here."""

    sites: tuple[SiteId, ...]


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What became of a copy: ``present``, with what its bytes are; ``failed`` for good or ``delayed``, with why; ``gone``.

    ``is_broken``: its bytes are other than they should be, which is alarming.
    """

    data: DataId
    site: SiteId
    what: Literal["present", "failed", "delayed", "gone"]
    digest: str = ""
    size_bytes: int = 0
    problem: str = ""
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class ReportCopies:
    """What whoever moves data says of copies."""

    reports: tuple[CopyReport, ...]


Command = (
    StartControl
    | DeclareEngines
    | ApplyDocuments
    | RemoveDocument
    | IssueToken
    | RevokeToken
    | Submit
    | Stop
    | Pause
    | SetNodes
    | AdoptPlan
    | Observe
    | RecordTokens
    | IssueInvoices
    | IssueCreditNote
    | EraseTenant
    | ReadLog
    | ExportEvidence
    | RaiseAlarm
    | Instruct
    | Withdraw
    | FollowGrid
    | DeclareLimiters
    | ReportDevices
    | FollowLaw
    | ApplyData
    | CopyData
    | RemoveCopy
    | OpenData
    | DeclareStores
    | ReportCopies
)


@dataclass(frozen=True, slots=True)
class Change:
    """What applying one document does: ``created``, ``changed``, ``unchanged`` or ``removed``."""

    kind: str
    name: str
    what: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """The workloads that a submission made, in its order; ``refused`` are those that the law keeps out, with why."""

    workloads: tuple[WorkloadId, ...]
    refused: tuple[tuple[WorkloadId, str], ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of a plan: placements made, and those rejected with the refusal's name."""

    made: tuple[PlacementId, ...]
    rejected: tuple[tuple[WorkloadId, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """The name of what a command made or touched; ``changed`` false when it was so already."""

    name: str
    changed: bool = True
    details: tuple[str, ...] = ()


Reply = Submitted | Adopted | Named | tuple[Change, ...] | tuple[InvoiceNumber, ...] | None


# -- asked again -------------------------------------------------------------------------------------------------------


def digest_of(kind: type[Command], asked: str) -> str:
    """The digest (SHA-256, hex) of a request for a command of ``kind``, where ``asked`` says all that was asked."""
    return sha256(f"{kind.__name__}\x00{asked}".encode()).hexdigest()


def meaning(command: Command) -> str:
    """All that a command asks, as one text: the same for equal commands, in every process and after every restart.

    Fields at their default are left out, so that a field added later makes no repeated request another one.
    """
    return json.dumps(to_plain(command), sort_keys=True)


def plain_answer(reply: Reply) -> dict[str, Any]:
    """A reply as JSON can hold it."""
    match reply:
        case None:
            return {}
        case tuple():
            name = "Change" if any(isinstance(one, Change) for one in reply) else "InvoiceNumber"
            return {name: to_plain(reply)}
        case _:
            return {type(reply).__name__: to_plain(reply)}


def answer_again(answer: Mapping[str, Any]) -> Reply:
    """The reply that ``plain_answer`` is of, as it is given again: what it says of now, that something changed, is not so."""
    for name, plain in answer.items():
        match name:
            case "Named":
                return replace(from_plain(Named, plain), changed=False)
            case "Change":
                changes: tuple[Change, ...] = from_plain(tuple[Change, ...], plain)
                return tuple(replace(one, what="unchanged") for one in changes)
            case "InvoiceNumber":
                numbers: tuple[InvoiceNumber, ...] = from_plain(tuple[InvoiceNumber, ...], plain)
                return numbers
            case "Adopted":
                return from_plain(Adopted, plain)
            case _:
                raise ValueError(f"an answer {name!r}: was it written by a newer version?")
    return None
