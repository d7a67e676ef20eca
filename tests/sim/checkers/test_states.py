"""Workloads change state as their table says, and events are about things that are there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.events import (
    ControlStarted,
    CreditNoteIssued,
    DocumentApplied,
    Event,
    JournalOpened,
    LogRead,
    NodeStateChanged,
    PauseObserved,
    StopRequested,
    TenantErased,
    TokenRevoked,
    TokensMetered,
    WorkloadRefused,
    WorkloadRequeued,
)
from headrace.core.ids import Epoch, InvoiceNumber, PlacementId, TenantId, TokenId, WorkloadId
from headrace.core.workload import EndReason, WorkloadType
from headrace.sim.checkers.states import StateChecker
from tests.sim.checkers.streams import (
    ACME,
    Edit,
    chain,
    change,
    commit,
    drop,
    ended,
    insert,
    metered,
    placed,
    put,
    rank,
    rules,
    spec,
    started,
    story,
    submitted,
    told,
)


def again(workload: str) -> WorkloadRequeued:
    """Return the event that puts a workload back into the queue."""
    return WorkloadRequeued(WorkloadId(workload), "again")


LEASE: tuple[Event, ...] = (
    submitted("acme-8", spec(type=WorkloadType.CLUSTER, max_duration_ms=5_000)),
    placed("acme-8", "south", rank("south/b/g-0-1", 0b1111)),
    started("acme-8"),
    ended("acme-8", (5_000, 0), reason=EndReason.STOPPED, code=143),
)
"""A cluster for five seconds, that ended after them: nobody stopped it."""
NORTHERN = rank("north/a/g-1-0")
NAMELESS = replace(placed("acme-4", "south", rank("south/b/g-0-1")), placement=PlacementId("acme-44.1"))
BROKEN: dict[str, tuple[str, Edit]] = {
    "a second first event": ("opened", insert("drain", JournalOpened("k"))),
    "an epoch that comes back": ("epoch", insert("drain", ControlStarted(Epoch(1), "0"))),
    "a document of no kind": ("document", insert("drain", DocumentApplied("poem", "x", {}))),
    "a document that can't be read": ("document", insert("drain", DocumentApplied("tenant", "x", {"id": 3}))),
    "a contract of nobody": (
        "unknown",
        chain(drop("beta", "token"), drop(*(n for n in story() if n.endswith(("2", "6", "beta"))))),
    ),
    "a contract at no price": ("unknown", drop("plan")),
    "a token of nobody": ("unknown", change("token", tenant=TenantId("gamma"))),
    "a token that was never issued": ("unknown", insert("drain", TokenRevoked(TokenId("t-2")))),
    "a workload of nobody": ("unknown", insert("drain", submitted("gamma-1"))),
    "a workload that comes twice": ("submitted-twice", insert("submit-1", submitted("acme-1"))),
    "placed and never submitted": ("unknown", insert("drain", placed("acme-9", "north", NORTHERN))),
    "placed while it runs": (
        "transition",
        insert("start-1", placed("acme-1", "north", NORTHERN, NORTHERN, attempt=2)),
    ),
    "placed after its end": (
        "transition",
        insert("end-1", placed("acme-1", "north", NORTHERN, NORTHERN, attempt=2)),
    ),
    "placed though refused": ("transition", insert("refuse-3", placed("acme-2", "north", NORTHERN))),
    "placed though stopped": ("transition", insert("stop-7", placed("acme-5", "north", NORTHERN))),
    "a placement of no name": ("placement-name", insert("submit-5", NAMELESS)),
    "a node that is not there": (
        "unknown",
        insert("submit-5", placed("acme-4", "south", rank("south/b/g-9-0"))),
    ),
    "a node of another site": ("unknown", insert("submit-5", placed("acme-4", "south", NORTHERN))),
    "another tenant's placement": ("tenant", change("place-4", tenant=TenantId("beta"))),
    "half of a gang": ("ranks", chain(put("place-1", placed("acme-1", "north", NORTHERN)), drop("end-1"))),
    "started and never placed": ("unknown", insert("drain", started("acme-4"))),
    "started twice": ("transition", insert("start-1", started("acme-1"))),
    "started after its end": ("unknown", insert("end-1", started("acme-1"))),
    "paused before it started": (
        "transition",
        insert("place-1", PauseObserved(PlacementId("acme-1.1"), True)),
    ),
    "metered after its end": ("unknown", insert("end-1", metered("acme-1", (9_000, 0), (9_000, 0)))),
    "ended twice": ("unknown", insert("end-1", ended("acme-1", (5_000, 0), (4_900, 100)))),
    "the end of one rank of two": ("ranks", put("end-1", ended("acme-1", (5_000, 0)))),
    "stopped after its end": ("transition", insert("end-1", StopRequested(WorkloadId("acme-1")))),
    "stopped and never submitted": ("unknown", insert("drain", StopRequested(WorkloadId("acme-9")))),
    "refused while it runs": (
        "transition",
        insert("start-1", WorkloadRefused(WorkloadId("acme-1"), "POWER", "x")),
    ),
    "queued again while it runs": ("transition", insert("start-1", again("acme-1"))),
    "queued again while it is queued": ("transition", insert("submit-5", again("acme-4"))),
    "queued again though it succeeded": ("transition", insert("end-1", again("acme-1"))),
    "queued again though it was stopped": ("transition", insert("stop-7", again("acme-5"))),
    "queued again though it was to stop": (
        "transition",
        insert("evict-6", StopRequested(WorkloadId("beta-2"))),
    ),
    "queued again though its time was over": ("transition", insert("submit-5", *LEASE, again("acme-8"))),
    "a node of no estate": ("unknown", insert("drain", NodeStateChanged("moon/a/g-0-0", "down"))),
    "a node in no state": ("node-state", change("drain", state="asleep")),
    "tokens of nothing": ("unknown", insert("drain", TokensMetered(PlacementId("acme-4.1"), 0, 1, 1))),
    "a log of nothing": ("unknown", insert("drain", LogRead(WorkloadId("acme-9"), 0))),
    "a credit for nothing": (
        "unknown",
        insert("drain", CreditNoteIssued(InvoiceNumber("c"), InvoiceNumber("i"), ACME, "NOK", 1, "x")),
    ),
    "nobody erased": ("unknown", insert("drain", TenantErased(TenantId("gamma")))),
}
CLEAN: dict[str, Edit] = {
    "the story": lambda steps: steps,
    "a failure that is tried again": chain(
        put("end-1", ended("acme-1", (5_000, 0), (4_900, 100), reason=EndReason.NODE_LOST, code=-1)),
        insert("end-1", again("acme-1")),
    ),
    "a service whose replica ended": insert(
        "paused-2", ended("beta-1", (3_100, 500)), again("beta-1"), submitted("acme-8")
    ),
    "an end that was asked for": insert(
        "start-4",
        StopRequested(WorkloadId("acme-3")),
        ended("acme-3", (0, 0), reason=EndReason.STOPPED, code=143),
    ),
    "a lease whose time is over": insert("submit-5", *LEASE),
    "a start that is seen too late": insert("evict-6", started("beta-2")),
    "a pause that is taken back": insert("paused-2", PauseObserved(PlacementId("beta-1.1"), False)),
    "a start that failed": insert(
        "submit-5",
        placed("acme-4", "south", rank("south/b/g-0-1", 0b1111)),
        ended("acme-4", (0, 0), reason=EndReason.START_FAILED, code=-1),
        again("acme-4"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_step_that_the_table_does_not_have_is_found(name: str) -> None:
    """Promise 3: a state is reached only as the table says, about things that are there."""
    rule, edit = BROKEN[name]
    assert rules(told(edit).states.violations) == {rule}


@pytest.mark.parametrize("name", CLEAN)
def test_steps_that_the_table_has_are_found_clean(name: str) -> None:
    """Retries, late sights and stops are no violation."""
    checker = StateChecker()
    for committed in commit(CLEAN[name](story())):
        checker.observe(committed)
    later = [
        one for one in checker.violations if "beta-1.1" not in one.subject and "acme-3.1" not in one.subject
    ]
    assert later == []


def test_the_states_that_are_shown_are_those_of_the_events() -> None:
    """What the API tells of a workload follows from the journal."""
    shown = {
        "acme-1": "succeeded",
        "acme-2": "refused",
        "acme-3": "running",
        "acme-4": "queued",
        "acme-5": "stopped",
        "beta-1": "paused",
        "beta-2": "queued",
    }
    checkers = told()
    checkers.states.at_rest(shown)
    assert checkers.states.violations == []
    for workload, wrong in {
        "acme-1": "running",
        "acme-4": "running",
        "beta-1": "running",
        "acme-9": "queued",
    }.items():
        checkers = told()
        checkers.states.at_rest(shown | {workload: wrong})
        assert [(one.rule, one.subject) for one in checkers.states.violations] == [("state-shown", workload)]
