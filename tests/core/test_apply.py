"""Apply: what each event does to the world, and to whom it is shown."""

import copy
import typing
from itertools import pairwise

import pytest

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.apply import BACKOFF_MOST_MS, apply, backoff_ms, outcome
from headrace.core.authority import Role
from headrace.core.contracts import Reservation
from headrace.core.ids import Epoch, NodeId, SiteId, TenantId, TokenId, WindowId
from headrace.core.metering import UsageRow
from headrace.core.observation import RankReport
from headrace.core.state import AuditRow, Token
from headrace.core.streams import streams
from headrace.core.workload import EndReason, State, Workload, WorkloadType
from headrace.core.world import ALARMS_KEPT, World
from tests.core.small import (
    ACME,
    BOREALIS,
    RUNNING,
    START_MS,
    contract,
    core,
    ended,
    job,
    service,
    tenant,
)

QUEUED, SUCCEEDED, FAILED, STOPPED = State.QUEUED, State.SUCCEEDED, State.FAILED, State.STOPPED
OUTCOMES: dict[EndReason, tuple[State, State, State]] = {
    # The state after it: of a job that ended with 0, of one that did not, of a service.
    EndReason.EXITED: (SUCCEEDED, FAILED, QUEUED),
    EndReason.STOPPED: (STOPPED, STOPPED, STOPPED),
    EndReason.PREEMPTED: (QUEUED, QUEUED, QUEUED),
    EndReason.MAX_DURATION: (FAILED, FAILED, FAILED),
    EndReason.RANK_FAILED: (FAILED, FAILED, QUEUED),
    EndReason.NODE_LOST: (QUEUED, QUEUED, QUEUED),
    EndReason.START_FAILED: (QUEUED, QUEUED, QUEUED),
    EndReason.DRAINED: (QUEUED, QUEUED, QUEUED),
    EndReason.CURTAILED: (QUEUED, QUEUED, QUEUED),
    EndReason.FORBIDDEN: (QUEUED, QUEUED, QUEUED),
}


@pytest.mark.parametrize("reason", EndReason)
def test_what_becomes_of_a_workload_is_a_table(reason: EndReason) -> None:
    """By why its placement ended, what it is, and whether it ended well."""
    works = {
        kind: Workload("w", ACME, job(type=kind), 0, 0)  # type: ignore[arg-type]
        for kind in WorkloadType
    }
    well, badly, restarted = OUTCOMES[reason]
    assert outcome(works[WorkloadType.JOB], reason, (0, 0)) is well
    assert outcome(works[WorkloadType.JOB], reason, (0, 1)) is badly
    for kind in (WorkloadType.SERVICE, WorkloadType.CLUSTER, WorkloadType.FILLER):
        assert outcome(works[kind], reason, (0,)) is restarted
        assert outcome(works[kind], reason, (1,)) is restarted


def test_back_off_doubles_from_a_second_to_five_minutes() -> None:
    """And stays there, however often it fails."""
    waits = [backoff_ms(attempt) for attempt in range(1, 2_000)]
    assert waits[:4] == [1_000, 2_000, 4_000, 8_000]
    assert all(after in (2 * before, BACKOFF_MOST_MS) for before, after in pairwise(waits))
    assert waits[-1] == BACKOFF_MOST_MS == 300_000


def test_an_event_out_of_turn_is_an_error_and_changes_nothing() -> None:
    """A gap or a repetition in the journal is noticed before anything rests on it."""
    one = core()
    event = ev.AlarmRaised(1, "x", "y")
    before = copy.deepcopy(one.state)
    for seq in (one.state.version - 1, one.state.version + 1):
        with pytest.raises(ValueError, match=f"event {seq} does not follow version {one.state.version}"):
            apply(one.world, ev.Committed(seq, START_MS, event))
    assert one.state == before


def test_each_event_goes_to_the_streams_that_it_concerns() -> None:
    """A tenant gets all of its own and nothing of others; a site what happens at it; the operator the rest."""
    one = core()
    _, placement = one.started(service(secrets={}))
    work = one.state.placements[placement].workload
    sold = Reservation(WindowId("r-1"), BOREALIS, SiteId("fjord"), "lab", 1, 0, 1)
    one.world.reservations[sold.id] = sold
    for name, whose in (("t-7", ACME), ("t-8", None)):
        role = Role.TENANT_MEMBER if whose else Role.OPERATOR_ADMIN
        one.state.tokens[name] = Token(TokenId(name), 7, name, role, whose, "", 0)
    for event, wanted in (
        (ev.WorkloadSubmitted(work, ACME, job()), ("tenant:acme",)),
        (ev.StopRequested(work), ("tenant:acme",)),
        (ev.PauseRequested(work, True), ("tenant:acme",)),
        (ev.WorkloadRequeued(work, "why"), ("tenant:acme",)),
        (ev.WorkloadRefused(work, "JURISDICTION", "why"), ("tenant:acme",)),
        (ev.LogRead(work, 0), ("tenant:acme",)),
        (ev.PlacementStarted(placement), ("tenant:acme", "site:fjord")),
        (ev.UsageMetered(placement, ((1, 0),)), ("tenant:acme", "site:fjord")),
        (ev.TokensMetered(placement, 0, 1, 1), ("tenant:acme", "site:fjord")),
        (ev.PauseObserved(placement, True), ("tenant:acme", "site:fjord")),
        (ev.EvictionRequested(placement, EndReason.DRAINED), ("tenant:acme", "site:fjord")),
        (ev.PlacementEnded(placement, EndReason.EXITED, (0,), ((0, 0),)), ("tenant:acme", "site:fjord")),
        (ev.NodeStateChanged("albion/b/g-0-0", "down"), ("site:albion",)),
        (ev.TenantErased(BOREALIS), ("tenant:borealis",)),
        (ev.RequestAnswered("asked", {}, BOREALIS), ("tenant:borealis",)),
        (ev.RequestAnswered("asked", {}), ("operator",)),
        (ev.TokenIssued(TokenId("t-1"), "1" * 64, Role.TENANT_MEMBER, ACME), ("tenant:acme", "operator")),
        (ev.TokenIssued(TokenId("t-1"), "1" * 64, Role.OPERATOR_ADMIN, None), ("operator",)),
        (ev.EvidenceExported(ACME, 0, 1, 1, "0" * 64), ("tenant:acme", "operator")),
        (ev.DocumentApplied("tenant", "acme", {}), ("tenant:acme", "operator")),
        (ev.DocumentApplied("contract", "c-new", {"tenant": "borealis"}), ("tenant:borealis", "operator")),
        (ev.DocumentApplied("reservation", "r-new", {"tenant": "acme"}), ("tenant:acme", "operator")),
        (ev.DocumentApplied("policy", "acme", {"tenant": "acme"}), ("operator",)),
        (ev.DocumentRemoved("contract", "c-acme"), ("tenant:acme", "operator")),
        (ev.DocumentRemoved("contract", "unknown"), ("operator",)),
        (ev.DocumentRemoved("reservation", "r-1"), ("tenant:borealis", "operator")),
        (ev.NodesReserved(WindowId("r-1"), ()), ("tenant:borealis", "operator")),
        (ev.TokenRevoked(TokenId("t-7")), ("tenant:acme", "operator")),
        (ev.TokenRevoked(TokenId("t-8")), ("operator",)),
        (ev.AlarmRaised(1, "x", "y"), ("operator",)),
        (ev.ControlStarted(Epoch(2), "0.1.0"), ("operator",)),
    ):
        assert streams(one.world, event) == wanted, event


def test_a_verdict_is_in_the_stream_of_whoever_it_is_about() -> None:
    """The tenant sees by which right it acted, and no one else's."""
    one = core()
    one.submit(job(), tenant=BOREALIS)
    one.place()
    found = {
        (event.verdict.action, streams(one.world, event))
        for event in one.events
        if isinstance(event, ev.DecisionRecorded)
    }
    assert ("workload.place", ("tenant:borealis", "operator")) in found
    assert ("document.apply", ("operator",)) in found
    assert not any("tenant:acme" in names for _, names in found)


def test_usage_becomes_a_row_and_a_sum_and_what_adds_nothing_becomes_neither() -> None:
    """However the time was cut into reports."""
    one = core()
    _, placement = one.started(service(nodes=2))
    one.now_ms += 5_000
    one.report(placement, RUNNING, RUNNING, meter_ms=0)
    assert [row for row in one.rows if isinstance(row, UsageRow)] == []
    for running_ms in (1_000, 1_000, 4_000):
        one.now_ms += 1_000
        one.report(placement, *(RankReport(number, RUNNING, running_ms) for number in range(2)), meter_ms=0)
    one.report(placement, ended(0, running_ms=5_000), ended(1, running_ms=4_000))
    rows = [row for row in one.rows if isinstance(row, UsageRow)]
    assert sum(row.running_ms for row in rows) == 9_000
    assert [row.running_ms for row in rows] == [2_000, 6_000, 1_000]
    (total,) = one.state.usage.by_key.values()
    assert total.running_ms == 9_000
    assert total.accelerator_ms == 9_000


def test_a_changed_document_takes_effect_on_the_columns_at_once() -> None:
    """A larger estate has its nodes, and what runs keeps its own."""
    one = core()
    _, placement = one.started()
    held = one.world.power_w.sum()
    assert held > 0
    node = one.state.placements[placement].ranks[0].node
    one.do(c.SetNodes((NodeId(node),), "draining", "a fan"))
    one.apply(tenant(TenantId("zeta")), contract(TenantId("zeta")))
    assert TenantId("zeta") in one.world.tenants
    assert not one.world.node_ready[one.world.fleet.node_index[NodeId(node)]]
    one.do(c.RemoveDocument("contract", "c-zeta"))
    assert "c-zeta" not in one.world.contracts


def test_alarms_are_kept_up_to_a_number() -> None:
    """An alarm that repeats for a year does not fill the memory; the journal has them all."""
    one = core()
    for number in range(ALARMS_KEPT + 10):
        one.do(c.RaiseAlarm(1, str(number), "a drill"))
    assert len(one.state.alarms) == ALARMS_KEPT
    assert one.state.alarms[-1][1].subject == str(ALARMS_KEPT + 9)


def test_what_a_person_decided_is_in_the_audit_with_its_verdict() -> None:
    """Who asked, what, by which right."""
    one = core()
    work, _ = one.started(service())
    one.do(c.Stop(work.id))
    row = one.rows[-1]
    assert isinstance(row, AuditRow)
    assert (row.kind, row.subject) == ("StopRequested", work.id)
    assert one.state.verdicts[row.verdict].action == "workload.stop"


def test_every_event_can_be_applied() -> None:
    """A kind without a function would stop the replay of a journal."""
    kinds = set(typing.get_args(ev.Event))
    assert kinds == set(ev.KINDS.values()) == set(ev.KIND_OF)
    world = World()
    for kind in kinds:
        # Without its fields it can't be applied; but there is a function that tried.
        with pytest.raises(AttributeError):
            apply(world, ev.Committed(0, START_MS, object.__new__(kind)))
