"""What the API answers: one class for each shape, encoded by msgspec, documented by FastAPI, decoded by the SDK.

Times are RFC 3339 with their offset; None where something has not happened yet.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from headrace.core.events import CreditNoteIssued, InvoiceIssued


def rfc3339(at_ms: int) -> str:
    """A time for the outside: ``2026-11-22T10:55:40.123+00:00``."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def when(at_ms: int) -> str | None:
    """The same, None for 0."""
    return rfc3339(at_ms) if at_ms else None


@dataclass(frozen=True, slots=True)
class ProblemView:
    """Why a request was not carried out: ``message`` names the thing, ``next_step`` says what to do about it."""

    code: str
    message: str
    next_step: str = ""
    where: str = ""
    related: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorView:
    """Every error of the API: its first problem, and all of them."""

    error: ProblemView
    errors: tuple[ProblemView, ...]


@dataclass(frozen=True, slots=True)
class HeadView:
    """A signed head of the journal (base64): keep it, and nobody can rewrite the past before it unseen."""

    size: int
    at_ms: int
    root: str
    signature: str


@dataclass(frozen=True, slots=True)
class Health:
    """The process answers; ``commits`` says whether it can commit."""

    ok: bool
    commits: bool


@dataclass(frozen=True, slots=True)
class StatusView:
    """The control plane: ``workloads`` counts the caller's by state; ``problem`` says why nothing can be committed now.

    ``period`` is the billing period that it is (``2026-11``), in the operator's zone.
    """

    operator: str
    version: str
    journal: str
    epoch: int
    now: str
    events: int
    key_id: str
    public_key: str
    workloads: dict[str, int]
    alarms: int
    period: str = ""
    problem: ProblemView | None = None
    head: HeadView | None = None


@dataclass(frozen=True, slots=True)
class Whoami:
    """The token that asks, and all that it may do."""

    token: str
    role: str
    tenant: str | None
    expires: str | None
    may: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that a document changes: ``before`` None for a new one, ``after`` None for one that goes."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ChangeView:
    """What applying a document does: created, changed, unchanged, removed; of a workload also its id, or ``refused``, why."""

    kind: str
    name: str
    what: str
    differences: tuple[Difference, ...] = ()
    workload: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying did, or would do (``dry_run``)."""

    changes: tuple[ChangeView, ...]
    dry_run: bool
    head: HeadView | None = None


@dataclass(frozen=True, slots=True)
class DocumentName:
    """A document by its kind and name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents that the caller may see."""

    documents: tuple[DocumentName, ...]


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document in its normalised form."""

    kind: str
    name: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SiteView:
    """A site as a tenant may know it: where it is, and the constants declared for its energy."""

    id: str
    name: str
    country: str
    zone: str
    grid_zone: str
    energy_source: str
    carbon_g_per_kwh: int
    energy_price_micros_per_kwh: int
    currency: str
    pue_permille: int
    dedicated_to: str | None


@dataclass(frozen=True, slots=True)
class Sites:
    """Sites."""

    sites: tuple[SiteView, ...]


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node: ``state`` is ready, draining, down or planned (not commissioned yet).

    ``watts`` is what it can draw at most with what it runs, by ``watts_source`` (modelled: catalogue x state).
    """

    id: str
    site: str
    hardware: str
    accelerator: str
    accelerators: int
    used: int
    cpu_milli: int
    cpu_milli_used: int
    memory_mb: int
    memory_mb_used: int
    ranks: int
    state: str
    reason: str
    watts: int
    watts_source: str
    isolation: str


@dataclass(frozen=True, slots=True)
class Nodes:
    """A page of nodes; ``next`` is the ``after`` of the next page, empty at the end."""

    nodes: tuple[NodeView, ...]
    total: int
    next: str = ""


@dataclass(frozen=True, slots=True)
class Drained:
    """Nodes whose state changed, and placements that were told to leave."""

    nodes: tuple[str, ...]
    evicted: tuple[str, ...]
    head: HeadView | None = None


@dataclass(frozen=True, slots=True)
class MismatchView:
    """A difference between the estate and an engine's cluster. ``node`` or ``host`` is empty where there is none of that name."""

    node: str
    host: str
    what: str
    estate: str
    cluster: str


@dataclass(frozen=True, slots=True)
class IntruderView:
    """A node on which somebody runs something that was not placed here: it counts at nameplate, and gets no work."""

    node: str
    who: str


@dataclass(frozen=True, slots=True)
class EngineView:
    """An engine: whose sites' workloads it runs, what it can do, and what keeps it from its cluster (``trouble``).

    ``nodes`` is how many the estate has of it, ``seen`` how many its cluster has (null: it has no view of its own).
    """

    name: str
    sites: tuple[str, ...]
    isolation: str
    parts: bool
    trouble: str
    nodes: int
    seen: int | None
    mismatches: tuple[MismatchView, ...]
    intruders: tuple[IntruderView, ...]


@dataclass(frozen=True, slots=True)
class Engines:
    """All engines of the control plane."""

    engines: tuple[EngineView, ...]


@dataclass(frozen=True, slots=True)
class PowerView:
    """An element of the power tree, in watts of IT load. ``parent`` is empty for a connection.

    What is fed by several names them all in ``feeders``. ``limit_w`` is what it may carry: a derated rating (of a breaker of
    ``breaker_w``, where that is said); of an ``allotment`` what may be admitted below it. ``worst_w`` is what it would carry if
    ``lost`` were lost: the one of all single losses that is worst for it ("": none is worse than now).
    """

    id: str
    kind: str
    site: str
    parent: str
    limit_w: int
    admitted_w: int
    feeders: tuple[str, ...] = ()
    breaker_w: int = 0
    worst_w: int = 0
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Power:
    """A page of the power tree, parents before children; ``admitted`` says what ``admitted_w`` counts."""

    elements: tuple[PowerView, ...]
    total: int
    admitted: str = "nameplate of what runs and starts, idle nodes included"
    next: str = ""


@dataclass(frozen=True, slots=True)
class RefusedView:
    """A workload that the law keeps out, and why."""

    workload: str
    reason: str


@dataclass(frozen=True, slots=True)
class SubmittedView:
    """The workloads that a submission made, in its order; ``repeated`` when an earlier one with its key did."""

    workloads: tuple[str, ...]
    refused: tuple[RefusedView, ...] = ()
    repeated: bool = False
    head: HeadView | None = None


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """A workload and how it stands. ``gpu`` is per node, as it is asked for: ``H100:8``, ``H100:0.5``, ``[H100:8, B200:8]``.

    Elastic work has ``nodes`` or more of them, up to ``nodes_max``, which is 0 for what has exactly ``nodes``.
    ``reason`` is why it ended, moved or was refused; of one that is queued why it waits, in a list that asks (``why``).
    """

    id: str
    tenant: str
    name: str
    type: str
    project: str
    state: str
    since: str
    submitted: str
    nodes: int
    gpu: str
    priority: int
    flex: str
    site: str | None
    placement: str | None
    attempt: int
    reason: str
    exit_codes: tuple[int, ...]
    pause_wanted: bool
    nodes_max: int = 0


@dataclass(frozen=True, slots=True)
class RankView:
    """Where a rank is. It has ``share_milli`` thousandths of each of its ``accelerators``: all, or a part of one."""

    rank: int
    node: str
    accelerators: int
    share_milli: int = 1_000


@dataclass(frozen=True, slots=True)
class WorkloadDetail:
    """A workload with all that was asked and where it is; ``spec`` names secrets and holds none."""

    workload: WorkloadView
    spec: dict[str, Any]
    ranks: tuple[RankView, ...] = ()
    endpoints: dict[str, str] = field(default_factory=dict)
    isolation: str = ""
    contract: str = ""
    started: str | None = None
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Workloads:
    """A page of workloads in order of submission; ``next`` is the ``after`` of the next page, empty at the end."""

    workloads: tuple[WorkloadView, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class ExplanationView:
    """Why a workload is as it is: one ``line``; ``change`` is what would change it. ``removed`` counts nodes by reason.

    ``earliest`` is when it could start at the earliest, as far as it is known who ends when.
    """

    workload: str
    state: str
    refusal: str | None
    line: str
    change: str
    removed: dict[str, int]
    earliest: str | None = None


@dataclass(frozen=True, slots=True)
class StartView:
    """A workload that would start: where, with which accelerators, on which nodes. ``is_new``: it is only tried."""

    workload: str
    name: str
    tenant: str
    site: str
    gpu: str
    nodes: tuple[str, ...]
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class EvictionView:
    """A workload that would be ended, and the one that it is ended for (None: for a window that begins)."""

    workload: str
    name: str
    tenant: str
    waiting: str | None


@dataclass(frozen=True, slots=True)
class WaitingView:
    """So many alike that would wait on, and why; ``workload`` is the first of them. ``refusal`` is "" where nobody looked."""

    count: int
    workload: str
    name: str
    tenant: str
    refusal: str
    reason: str


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """What a plan would do; ``waiting`` counts all who wait on."""

    starts: tuple[StartView, ...]
    evictions: tuple[EvictionView, ...]
    waits: tuple[WaitingView, ...]
    waiting: int


@dataclass(frozen=True, slots=True)
class PlanView:
    """The plan of now, and (``then``, planned at ``at``) that of what was tried.

    ``conflicts``: why the documents could not be applied as things are; ``moved``: workloads that could not stay where they are;
    ``refused``: those that the law keeps out; ``gained`` and ``lost``: what starts in one of the two plans alone.
    """

    now: OutcomeView
    at: str
    then: OutcomeView | None = None
    conflicts: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    refused: tuple[RefusedView, ...] = ()
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What a command made or touched; ``changed`` false when it was so already."""

    name: str
    changed: bool
    head: HeadView | None = None


@dataclass(frozen=True, slots=True)
class LogView:
    """A piece of a log: ``data`` is base64; go on from ``next_offset``; ``ended`` when nothing will follow."""

    placement: str
    data: str
    offset: int
    next_offset: int
    ended: bool


@dataclass(frozen=True, slots=True)
class EndpointView:
    """Where a placement answers (a port's name to ``host:port``), and its key, empty when it has none."""

    workload: str
    placement: str
    endpoints: dict[str, str]
    api_key: str


@dataclass(frozen=True, slots=True)
class TokenView:
    """An API token; never its value."""

    id: str
    role: str
    tenant: str | None
    holder: str
    expires: str | None
    revoked: bool
    countries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens."""

    tokens: tuple[TokenView, ...]


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token: its value is said this once, and kept nowhere."""

    id: str
    value: str
    role: str
    tenant: str | None
    expires: str | None
    head: HeadView | None = None


@dataclass(frozen=True, slots=True)
class InvoiceView:
    """An invoice (or the draft of one), its credit notes, and what is left to pay of it."""

    invoice: InvoiceIssued
    draft: bool
    credit_notes: tuple[CreditNoteIssued, ...]
    due_micros: int


@dataclass(frozen=True, slots=True)
class Invoices:
    """Invoices."""

    invoices: tuple[InvoiceView, ...]


@dataclass(frozen=True, slots=True)
class InvoicesIssued:
    """The numbers of the invoices that were issued, one for each currency."""

    invoices: tuple[str, ...]
    head: HeadView | None = None


@dataclass(frozen=True, slots=True)
class UsageView:
    """A row of usage behind an invoice line: what the event ``seq`` of the journal added."""

    seq: int
    part: int
    at: str
    workload: str
    placement: str
    source: str
    accelerator_ms: int
    running_ms: int
    paused_ms: int
    energy_mj: int
    input_tokens: int
    output_tokens: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class LineEvents:
    """The rows of usage that an invoice line sums; none for one that bills a reservation or says something."""

    invoice: str
    line: int
    rows: tuple[UsageView, ...]


@dataclass(frozen=True, slots=True)
class EventView:
    """An event of the journal."""

    seq: int
    at: str
    kind: str
    actor: int
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Events:
    """A page of the journal; ``next`` is the ``from`` of the next one."""

    events: tuple[EventView, ...]
    next: int


@dataclass(frozen=True, slots=True)
class Proof:
    """That an event is in the journal: RFC 9162's audit path from its leaf to the root of ``head`` (all base64).

    ``leaf = SHA-256(0x00 | header | SHA-256(salt | payload))``.
    """

    seq: int
    header: str
    salt: str
    payload: str
    leaf: str
    path: tuple[str, ...]
    head: HeadView
