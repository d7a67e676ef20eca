"""A small world told as events: one clean story, whose steps the tests take away, change and add to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from headrace.core.authority import Role, Verdict
from headrace.core.codec import document_name, normalise
from headrace.core.contracts import Contract, Maintenance, PricePlan, Reservation, Tenant
from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, PowerElement, Site
from headrace.core.events import (
    Committed,
    ControlStarted,
    DecisionRecorded,
    DocumentApplied,
    Event,
    EvictionRequested,
    InvoiceIssued,
    InvoiceLine,
    JournalOpened,
    NodeStateChanged,
    PauseObserved,
    PauseRequested,
    PlacementEnded,
    PlacementMade,
    PlacementStarted,
    StopRequested,
    TokenIssued,
    TokensMetered,
    UsageMetered,
    WorkloadRefused,
    WorkloadRequeued,
    WorkloadSubmitted,
)
from headrace.core.ids import (
    ContractId,
    Digest,
    Epoch,
    InvoiceNumber,
    OperatorId,
    PlacementId,
    PlanId,
    ProjectId,
    SiteId,
    TenantId,
    TokenId,
    WorkloadId,
)
from headrace.core.workload import (
    EndReason,
    PolicyRef,
    RankPlace,
    Resources,
    WorkloadSpec,
    WorkloadType,
)
from headrace.sim.checkers import Checkers, Rest

START_MS = 1_768_003_200_000
"""2026-01-10 in UTC."""
STEP_MS = 1_000
ACME, BETA = TenantId("acme"), TenantId("beta")
Steps = dict[str, Event]


def site(ident: str, country: str, block: Block, **changes: Any) -> Site:
    """Return a site whose energy costs a millionth per joule and whose grid emits 10 ug per joule."""
    made = Site(
        id=SiteId(ident),
        country=country,
        zone="UTC",
        connection=Connection(1_000_000),
        pue_permille=1_000,
        carbon_g_per_kwh=36,
        energy_price_micros_per_kwh=3_600_000,
        currency="NOK",
        blocks=(block,),
    )
    return replace(made, **changes)


def block(ident: str, racks: int, per_rack: int, **changes: Any) -> Block:
    """Return a block of lab nodes that is commissioned."""
    made = Block(ident, (NodeGroup("g", "lab", racks, per_rack),), commissioned="2025-06-01")
    return replace(made, **changes)


FEED = PowerElement("feed", "feed", 50_000)
NORTH = site("north", "NO", block("a", 2, 2, fed_by="feed"), power=(FEED,))
SOUTH = site("south", "GB", block("b", 1, 2, rating_w=1_300), pue_permille=1_200)
"""Has power for one of its two nodes: 1,000 W and 200 W idle."""
OWN = site("own", "NO", block("d", 1, 1), dedicated_to=BETA)
OPERATOR = Operator(OperatorId("op"), "Operator", "NO", "UTC", "NOK")
ESTATE = Estate(OPERATOR, (NORTH, SOUTH, OWN))
PLAN = PricePlan(
    PlanId("list"),
    "NOK",
    accelerator_micros_per_hour={"*": 3_600_000},
    reserved_micros_per_month={"lab": 31_000_000},
    token_micros_per_million={"input": 1_000_000, "output": 2_000_000},
    energy_pass_through=True,
)


def document(
    kind: str, value: Estate | Tenant | PricePlan | Contract | Reservation | Maintenance
) -> DocumentApplied:
    """Return the event that applies a document."""
    name = document_name(value)
    return DocumentApplied(kind, name, normalise(kind, name, value))


def spec(accelerators: int = 2, nodes: int = 1, **changes: Any) -> WorkloadSpec:
    """Return a job on lab accelerators."""
    resources = Resources("lab", accelerators, 1_000, 1_000)
    made = WorkloadSpec("w", WorkloadType.JOB, ProjectId("p"), resources, ("true",), nodes)
    return replace(made, **changes)


def submitted(workload: str, of: WorkloadSpec | None = None) -> WorkloadSubmitted:
    """Return a submission; the tenant is in the workload's name."""
    return WorkloadSubmitted(WorkloadId(workload), TenantId(workload.split("-", maxsplit=1)[0]), of or spec())


def rank(node: str, mask: int = 0b0011) -> RankPlace:
    """Return a rank on a node."""
    return RankPlace(node, mask, 1_000, 1_000)


def verdict(tenant: str, at: str, **changes: Any) -> Verdict:
    """Return the verdict that a workload of a tenant may be placed at a site."""
    made = Verdict(
        f"system@{tenant}",
        "workload.place",
        f"site:{at}",
        True,
        ("it may",),
        Digest("public"),
        Digest(f"facts of {at}"),
    )
    return replace(made, **changes)


def placed(
    workload: str, at: str, *ranks: RankPlace, attempt: int = 1, by: Verdict | None = None
) -> PlacementMade:
    """Return a placement of a workload."""
    tenant = TenantId(workload.split("-", maxsplit=1)[0])
    return PlacementMade(
        PlacementId(f"{workload}.{attempt}"),
        WorkloadId(workload),
        tenant,
        SiteId(at),
        ranks,
        (by or verdict(tenant, at)).id,
        3,
    )


def started(workload: str, attempt: int = 1) -> PlacementStarted:
    """Return the start of a placement."""
    return PlacementStarted(PlacementId(f"{workload}.{attempt}"))


def ended(
    workload: str,
    *times: tuple[int, int],
    reason: EndReason = EndReason.EXITED,
    code: int = 0,
    **changes: Any,
) -> PlacementEnded:
    """Return the end of a placement's first attempt."""
    made = PlacementEnded(PlacementId(f"{workload}.1"), reason, (code,) * len(times), times)
    return replace(made, **changes)


def metered(workload: str, *times: tuple[int, int]) -> UsageMetered:
    """Return usage of a placement's first attempt."""
    return UsageMetered(PlacementId(f"{workload}.1"), times)


_PRICES = {
    "capacity": ("accelerator-ms", 3_600_000, 3_600_000),
    "energy": ("uJ", 3_600_000, 3_600_000_000_000),
    "carbon": ("ugCO2e", 0, 1),
    "tokens-input": ("token", 1_000_000, 1_000_000),
    "tokens-output": ("token", 2_000_000, 1_000_000),
    "reserved": ("accelerator-day", 31_000_000, 31),
}


def line(item: str, quantity: int, amount: int = 0, at: str = "north", contract: str = "") -> InvoiceLine:
    """Return a line at the plan's price."""
    unit, price, per = _PRICES[item]
    return InvoiceLine(
        item, item, ProjectId("p"), SiteId(at), ContractId(contract), quantity, unit, price, per, "one", amount,
        "modelled", False, f"{item}@{at}", 1,
    )  # fmt: skip


def invoice(tenant: str, *lines: InvoiceLine, part: int = 0, **changes: Any) -> InvoiceIssued:
    """Return an invoice for January whose sums are right; lines without a contract are under the tenant's own."""
    made = tuple(one if one.contract else replace(one, contract=ContractId(f"{tenant}-all")) for one in lines)
    net = sum(one.amount_micros for one in made)
    issued = InvoiceIssued(
        InvoiceNumber(f"2026-01-{tenant}-NOK-{part}"), TenantId(tenant), "2026-01", "NOK", made, net, "none", None, 0,
        net, part,
    )  # fmt: skip
    return replace(issued, **changes)


GANG = spec(nodes=2)
SERVICE = spec(4, type=WorkloadType.SERVICE, policy=PolicyRef("nordic-only"))
SOUTHERN = spec(4, site=SiteId("south"))
FILLER = spec(1, type=WorkloadType.FILLER)
TOO_BIG = spec(resources=Resources("H100", 8), policy=PolicyRef(countries=("GB",)))
NORDIC = verdict("beta", "own", policy=Digest("nordic-only"))


def story() -> Steps:
    """Return the story: a gang that ends, a service that pauses, a filler that is evicted, two that wait, invoices."""
    return {
        "opened": JournalOpened("j"),
        "control": ControlStarted(Epoch(1), "0"),
        "estate": document("estate", ESTATE),
        "plan": document("price-plan", PLAN),
        "acme": document("tenant", Tenant(ACME, (ProjectId("p"),))),
        "beta": document("tenant", Tenant(BETA, (ProjectId("p"),))),
        "acme-all": document("contract", Contract(ContractId("acme-all"), ACME, PLAN.id)),
        "beta-all": document("contract", Contract(ContractId("beta-all"), BETA, PLAN.id)),
        "acme-held": document(
            "contract",
            Contract(
                ContractId("acme-held"), ACME, PLAN.id, "reserved", None, "lab", 2, "2026-01-01", "2026-01-11"
            ),
        ),
        "token": TokenIssued(TokenId("t-1"), "hash", Role.TENANT_MEMBER, ACME),
        "verdict-1": DecisionRecorded(verdict("acme", "north")),
        "submit-1": submitted("acme-1", GANG),
        "place-1": placed("acme-1", "north", rank("north/a/g-0-0"), rank("north/a/g-0-1")),
        "start-1": started("acme-1"),
        "meter-1": metered("acme-1", (1_000, 0), (900, 0)),
        "verdict-2": DecisionRecorded(NORDIC),
        "submit-2": submitted("beta-1", SERVICE),
        "place-2": placed("beta-1", "own", rank("own/d/g-0-0", 0b1111), by=NORDIC),
        "start-2": started("beta-1"),
        "tokens-2": TokensMetered(PlacementId("beta-1.1"), 0, 100, 50),
        "pause-2": PauseRequested(WorkloadId("beta-1"), True),
        "paused-2": PauseObserved(PlacementId("beta-1.1"), True),
        "meter-2": metered("beta-1", (3_000, 500)),
        "end-1": ended("acme-1", (5_000, 0), (4_900, 100)),
        "submit-3": submitted("acme-2", TOO_BIG),
        "refuse-3": WorkloadRefused(WorkloadId("acme-2"), "HARDWARE", "no such hardware: no node has H100"),
        "verdict-4": DecisionRecorded(verdict("acme", "south")),
        "submit-4": submitted("acme-3", SOUTHERN),
        "place-4": placed("acme-3", "south", rank("south/b/g-0-0", 0b1111)),
        "start-4": started("acme-3"),
        "submit-5": submitted("acme-4", SOUTHERN),
        "verdict-6": DecisionRecorded(verdict("beta", "north")),
        "submit-6": submitted("beta-2", FILLER),
        "place-6": placed("beta-2", "north", rank("north/a/g-0-0", 0b0001)),
        "start-6": started("beta-2"),
        "evict-6": EvictionRequested(PlacementId("beta-2.1"), EndReason.PREEMPTED, "for another"),
        "end-6": ended("beta-2", (700, 0), reason=EndReason.PREEMPTED, code=143),
        "requeue-6": WorkloadRequeued(WorkloadId("beta-2"), "preempted", START_MS + 10**9),
        "submit-7": submitted("acme-5"),
        "stop-7": StopRequested(WorkloadId("acme-5")),
        "drain": NodeStateChanged("north/a/g-1-1", "draining"),
        "meter-4": metered("acme-3", (2_000, 0)),
        "invoice-acme": invoice(
            "acme",
            line("capacity", 20_000, 20_000),
            line("energy", 4_960_000_000, 4_960),
            line("carbon", 49_600),
            line("capacity", 8_000, 8_000, "south"),
            line("energy", 2_400_000_000, 2_400, "south"),
            line("carbon", 24_000, 0, "south"),
            line("reserved", 20, 20_000_000, "", "acme-held"),
        ),
        "invoice-beta": invoice(
            "beta",
            line("capacity", 700, 700),
            line("energy", 175_000_000, 175),
            line("carbon", 1_750),
            line("capacity", 14_000, 14_000, "own"),
            line("energy", 3_100_000_000, 3_100, "own"),
            line("carbon", 31_000, 0, "own"),
            line("tokens-input", 100, 100, "own"),
            line("tokens-output", 50, 100, "own"),
        ),
    }


RAW = {
    "acme-1.1": [(5_000, 0), (4_900, 100)],
    "beta-1.1": [(3_100, 500)],
    "acme-3.1": [(2_000, 0)],
    "beta-2.1": [(700, 0)],
}
RUNNING = ("beta-1.1", "acme-3.1")
LINES = {
    "acme-4": "waits: not enough power at south: 2000 W of 1300 W",
    "beta-2": "waits: it is backing off until 10:00",
}
KEYS = {"submit-1": b"key-1", "submit-2": b"key-2", "submit-4": b"key-4", "stop-7": b"key-7"}
END_MS = START_MS + 100 * STEP_MS


def rest(**changes: Any) -> Rest:
    """Return the world at rest after the story."""
    return replace(Rest(END_MS, RUNNING, RAW, LINES), **changes)


Edit = Callable[[Steps], Steps]


def change(name: str, **changes: Any) -> Edit:
    """Return the edit that changes fields of one step."""
    return lambda steps: steps | {name: replace(steps[name], **changes)}


def put(name: str, event: Event) -> Edit:
    """Return the edit that puts another event in the place of a step."""
    return lambda steps: steps | {name: event}


def drop(*names: str) -> Edit:
    """Return the edit that leaves steps out."""
    return lambda steps: {name: event for name, event in steps.items() if name not in names}


def insert(after: str, *events: Event) -> Edit:
    """Return the edit that adds events after a step."""

    def edit(steps: Steps) -> Steps:
        out: Steps = {}
        for name, event in steps.items():
            out[name] = event
            if name == after:
                out |= {f"{after}+{len(steps) + number}": added for number, added in enumerate(events)}
        return out

    return edit


def chain(*edits: Edit) -> Edit:
    """Return edits one after the other."""

    def edit(steps: Steps) -> Steps:
        for one in edits:
            steps = one(steps)
        return steps

    return edit


def same(steps: Steps) -> Steps:
    """Return the story as it is."""
    return steps


def commit(steps: Steps, keys: Mapping[str, bytes] = KEYS) -> list[Committed]:
    """Return the steps as committed events, a second apart."""
    return [
        Committed(seq, START_MS + seq * STEP_MS, event, keys.get(name, b""))
        for seq, (name, event) in enumerate(steps.items())
    ]


def told(edit: Edit = same, keys: Mapping[str, bytes] = KEYS) -> Checkers:
    """Return all checkers after they were told the story as edited."""
    checkers = Checkers()
    for committed in commit(edit(story()), keys):
        checkers.observe(committed)
    return checkers


def rules(found: list[Any]) -> set[str]:
    """Return the rules that were found broken; each violation says what and how in one line."""
    assert all(one.subject and one.detail and not re.search(r"\n", one.detail) for one in found)
    return {one.rule for one in found}
