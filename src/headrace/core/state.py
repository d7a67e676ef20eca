"""The canonical state: all that the events say, and nothing that can be derived from it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headrace.core import events as ev
from headrace.core.authority import Role, Verdict
from headrace.core.data.model import Copy
from headrace.core.ids import (
    DataId,
    Epoch,
    InvoiceNumber,
    NodeId,
    PlacementId,
    PowerNodeId,
    SiteId,
    TenantId,
    TokenId,
    WindowId,
    WorkloadId,
)
from headrace.core.ledger import Ledger, Transfer
from headrace.core.metering import UsageRow, UsageTotals
from headrace.core.observation import Capabilities
from headrace.core.power.caps import Cap
from headrace.core.power.instruction import InstructionId
from headrace.core.power.limits import Standing
from headrace.core.scheduling.service import Sibling
from headrace.core.workload import Placement, Workload


@dataclass(slots=True)
class Token:
    """An API token as the world knows it: never its value."""

    id: TokenId
    number: int
    hash: str
    role: Role
    tenant: TenantId | None
    holder: str
    expires_ms: int
    revoked: bool = False
    countries: tuple[str, ...] = ()


@dataclass(slots=True)
class TenantRecord:
    """What must outlive a tenant's document: its number (for a Unix user of its own, never reused) and its counter."""

    number: int
    next_workload: int = 1
    erased: bool = False


@dataclass(slots=True)
class Done:
    """What an idempotency key already did: the digest of what was asked, the first thing made, how many, and the answer.

    Without an answer it is of a submission; or, without a digest too, of a journal from before answers were kept.
    """

    digest: str
    first: str
    count: int
    at_ms: int
    answer: dict[str, Any] | None = None


@dataclass(slots=True)
class State:
    """The canonical state after ``version`` events."""

    version: int = 0
    last_ms: int = 0
    journal: str = ""
    epoch: Epoch = Epoch(0)
    at: str = ""
    """The country that the journal lies in, as far as that was said."""
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    tenants: dict[TenantId, TenantRecord] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    nodes: dict[NodeId, tuple[str, str]] = field(default_factory=dict)
    falls: dict[NodeId, tuple[int, ...]] = field(default_factory=dict)
    """When each node went down lately."""
    intruders: dict[NodeId, str] = field(default_factory=dict)
    """Who runs something on a node that was not placed here."""
    engines: dict[str, Capabilities] = field(default_factory=dict)
    """What each engine said it can do."""
    workloads: dict[WorkloadId, Workload] = field(default_factory=dict)
    placements: dict[PlacementId, Placement] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    requests: dict[str, Done] = field(default_factory=dict)
    usage: UsageTotals = field(default_factory=UsageTotals)
    ledger: Ledger = field(default_factory=Ledger)
    invoices: dict[InvoiceNumber, ev.InvoiceIssued] = field(default_factory=dict)
    credits: dict[InvoiceNumber, ev.CreditNoteIssued] = field(default_factory=dict)
    alarms: list[tuple[int, ev.AlarmRaised]] = field(default_factory=list)
    reserved: dict[WindowId, tuple[str, ...]] = field(default_factory=dict)
    """The nodes of each reservation."""
    unisolated: dict[str, int] = field(default_factory=dict)
    """``tenant/period`` to how many of its placements shared a Unix user with others' ("none" isolation)."""
    instructions: dict[InstructionId, Standing] = field(default_factory=dict)
    """What the grid asks of sites: those that hold, those to come, and those whose ramp is not over."""
    limiters: dict[NodeId, int] = field(default_factory=dict)
    """Nodes whose watts can be limited, and the lowest limit that each one's controller takes."""
    switches: dict[NodeId, None] = field(default_factory=dict)
    """Nodes that can be shut down and started."""
    caps: dict[NodeId, Cap] = field(default_factory=dict)
    """Limits that controllers were asked for, also those that they are to drop and have not dropped yet."""
    excess: dict[PowerNodeId, int] = field(default_factory=dict)
    """By element of the power tree: watts that its meter sees beyond all that is known to draw there."""
    stores: dict[SiteId, None] = field(default_factory=dict)
    """Sites that have a store for data."""
    copies: dict[DataId, dict[SiteId, Copy]] = field(default_factory=dict)
    """Where each data set lies, or lay."""
    siblings: dict[str, list[Sibling]] = field(default_factory=dict)
    """How long those ran that share accelerators in time: by kind, in order of submission."""


class AuditRow(NamedTuple):
    """A decided action for the audit's projection: which token asked, what, under which verdict."""

    seq: int
    at_ms: int
    actor: int
    kind: str
    subject: str
    verdict: str


Row = UsageRow | Transfer | AuditRow
"""What apply returns for the projections."""
