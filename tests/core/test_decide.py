"""Decide: idempotency, batches, and what each command does to a world or finds wrong with it."""

import copy
import json
from dataclasses import replace
from hashlib import sha256

import pytest

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.authority import Role
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import (
    ContractId,
    Epoch,
    NodeId,
    PlacementId,
    ProjectId,
    SiteId,
    TenantId,
    TokenId,
    WorkloadId,
)
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR
from headrace.core.workload import (
    EndReason,
    Flex,
    PolicyRef,
    RankPlace,
    Resources,
    State,
    WorkloadSpec,
    WorkloadType,
)
from headrace.core.world import REQUEST_RETENTION_MS
from tests.core.small import (
    ACME,
    ALBION,
    BOREALIS,
    FJORD,
    OPERATOR,
    RUNNING,
    STARTING,
    SYSTEM,
    Core,
    contract,
    core,
    document,
    ended,
    estate,
    job,
    service,
    site,
    tenant,
)

KEY, OTHER_KEY = b"k" * 16, b"o" * 16


def refused(one: Core, command: c.Command, key: bytes = b"") -> Problem:
    """The problem that a command is refused with; nothing may have changed."""
    before, events = copy.deepcopy(one.state), len(one.events)
    with pytest.raises(HeadraceError) as raised:
        one.do(command, key=key)
    assert one.state == before
    assert len(one.events) == events
    return raised.value.problem


# -- sent twice --------------------------------------------------------------------------------------------------------


def test_a_repeated_submission_gets_the_same_ids_and_makes_nothing() -> None:
    """The answer was lost, the client asks again: the workloads are those of the first time."""
    one = core()
    command = c.Submit(ACME, (job("a"), job("b"), job("c")), "digest")
    first = one.do(command, key=KEY)
    one.submit(job("between"))
    before = copy.deepcopy(one.state)
    again = one.do(command, key=KEY)
    assert isinstance(first, c.Submitted)
    assert first.workloads == ("acme-1", "acme-2", "acme-3")
    assert again == replace(first, repeated=True)
    assert one.state == before


def test_a_repeated_submission_names_those_that_the_law_refused_again() -> None:
    """The second answer says what the first one said."""
    one = core()
    command = c.Submit(ACME, (job("a"), job("b", policy=PolicyRef(countries=("SE",)))), "digest")
    first, again = one.do(command, key=KEY), one.do(command, key=KEY)
    assert isinstance(first, c.Submitted)
    assert isinstance(again, c.Submitted)
    assert [ident for ident, _ in first.refused] == ["acme-2"]
    assert [ident for ident, _ in again.refused] == ["acme-2"]
    assert "SE" in first.refused[0][1]
    assert "SE" in again.refused[0][1]


@pytest.mark.parametrize(
    "other",
    [
        c.Submit(ACME, (job("a"),), "another digest"),
        c.Submit(BOREALIS, (job("a"),), "digest"),
    ],
)
def test_a_key_that_was_used_for_something_else_is_refused(other: c.Submit) -> None:
    """A client that reuses keys would else take another's answer for its own."""
    one = core()
    one.do(c.Submit(ACME, (job("a"),), "digest"), key=KEY)
    problem = refused(one, other, KEY)
    assert problem.code is ProblemCode.IDEMPOTENCY_MISMATCH
    assert "new key" in problem.next_step


def test_a_key_of_another_kind_of_command_is_no_answer_to_a_submission() -> None:
    """The token's name is no workload's."""
    one = core()
    one.do(c.IssueToken("1" * 64, Role.TENANT_MEMBER, ACME), key=KEY)
    assert refused(one, c.Submit(ACME, (job(),), "digest"), KEY).code is ProblemCode.IDEMPOTENCY_MISMATCH


def test_a_forgotten_key_makes_something_new() -> None:
    """After two days it is a submission like any other; before, it is a repetition."""
    one = core()
    first = one.submit(job("a"), key=KEY)
    one.now_ms += REQUEST_RETENTION_MS
    assert one.submit(job("a"), key=KEY) == first
    one.now_ms += 1
    one.submit(job("b"), key=OTHER_KEY)
    assert one.submit(job("a"), key=KEY) == ["acme-3"]


def test_the_oldest_key_is_forgotten_only_when_it_is_older_than_two_days() -> None:
    """At exactly two days it still stands."""
    one = core()
    one.submit(job("a"), key=KEY)
    one.now_ms += REQUEST_RETENTION_MS
    one.submit(job("b"), key=OTHER_KEY)
    assert KEY.hex() in one.state.requests
    one.now_ms += 1
    one.submit(job("c"), key=b"n" * 16)
    assert list(one.state.requests) == [OTHER_KEY.hex(), (b"n" * 16).hex()]


@pytest.mark.parametrize(
    "command",
    [
        c.IssueToken("3" * 64, Role.TENANT_MEMBER, ACME),
        c.RevokeToken(TokenId("t-1")),
        c.Stop(WorkloadId("acme-1")),
        c.Pause(WorkloadId("acme-2"), pause=True),
        c.SetNodes((NodeId("albion/b/g-0-0"),), "draining", "a fan"),
        c.ApplyDocuments((document(tenant(ACME, "main", "side")),)),
    ],
    ids=lambda command: type(command).__name__,
)
def test_whatever_is_sent_twice_by_one_key_is_done_once(command: c.Command) -> None:
    """Also after its effect was undone by somebody: the key stands for one wish, not for a state."""
    one = core()
    one.do(c.IssueToken("1" * 64, Role.TENANT_MEMBER, ACME))
    one.started(service(), service())
    made = one.made(command, OPERATOR, KEY)
    assert len(made) == 2
    assert isinstance(made[1], ev.RequestAnswered)
    before = copy.deepcopy(one.state)
    reply = one.do(command, OPERATOR, KEY)
    assert one.state == before
    again = reply if isinstance(reply, tuple) else (reply,)
    assert all(isinstance(part, c.Named | c.Change) for part in again)
    assert not any(getattr(part, "changed", False) for part in again)
    assert [part.what for part in again if isinstance(part, c.Change)] in ([], ["unchanged"])


def test_equal_commands_ask_the_same_and_others_do_not() -> None:
    """In the order of their documents' names, or of a mapping's, lies no meaning; in everything else there is."""
    documents = [{"id": "x", "prices": {"a": 1, "b": 2}}, {"prices": {"b": 2, "a": 1}, "id": "x"}]
    first, same = (c.ApplyDocuments((c.NormalisedDocument("price-plan", "x", one),)) for one in documents)
    assert c.meaning(first) == c.meaning(same)
    assert c.meaning(c.Pause(WorkloadId("a-1"), pause=True)) != c.meaning(
        c.Pause(WorkloadId("a-1"), pause=False)
    )
    assert c.digest_of(c.Stop, "x") != c.digest_of(c.Pause, "x")


def test_what_is_asked_has_the_digest_that_it_had_in_every_version() -> None:
    """It is in journals: another digest for the same request would refuse who repeats it after an upgrade."""
    stop = c.Stop(WorkloadId("acme-1"))
    assert c.meaning(stop) == '{"workload": "acme-1"}'
    assert c.digest_of(c.Stop, c.meaning(stop)) == sha256(b'Stop\x00{"workload": "acme-1"}').hexdigest()


@pytest.mark.parametrize(
    "reply",
    [
        None,
        (),
        c.Named("t-1", changed=False, details=("a", "b")),
        c.Adopted((PlacementId("acme-1.1"),), ((WorkloadId("acme-2"), "STALE"),)),
        (c.Change("tenant", "acme", "unchanged"),),
        ("2026-11-acme-NOK-0", "2026-11-acme-EUR-0"),
    ],
    ids=repr,
)
def test_every_answer_is_given_again_from_its_plain_form(reply: c.Reply) -> None:
    """Through JSON, as the journal keeps it."""
    assert c.answer_again(json.loads(json.dumps(c.plain_answer(reply)))) == reply


def test_an_answer_that_only_a_newer_version_gives_is_not_guessed() -> None:
    """It says so."""
    with pytest.raises(ValueError, match="newer version"):
        c.answer_again({"Later": {}})


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "code", "where"),
    [
        (job(project=ProjectId("none")), ProblemCode.NOT_FOUND, "workloads[1].project"),
        (job(policy=PolicyRef(profile="none")), ProblemCode.NOT_FOUND, "workloads[1].policy"),
        (job(site=SiteId("none")), ProblemCode.NOT_FOUND, "workloads[1].site"),
        (job(contract=ContractId("c-borealis")), ProblemCode.NOT_FOUND, "workloads[1].contract"),
        (job(nodes=5), ProblemCode.UNPLACEABLE, "workloads[1]"),
        (job(nodes=0), ProblemCode.UNPLACEABLE, "workloads[1]"),
        (job(resources=Resources("lab", 5)), ProblemCode.UNPLACEABLE, "workloads[1]"),
        (job(resources=Resources("lab", -1)), ProblemCode.UNPLACEABLE, "workloads[1]"),
        (job(resources=Resources("H100", 1)), ProblemCode.UNPLACEABLE, "workloads[1]"),
        (job(resources=Resources("lab", 1, 5_000)), ProblemCode.UNPLACEABLE, "workloads[1]"),
    ],
)
def test_one_bad_workload_in_a_batch_keeps_all_of_it_out(
    bad: WorkloadSpec, code: ProblemCode, where: str
) -> None:
    """All or none, and the problem says which one it was; the key stays free for the mended batch."""
    one = core()
    problem = refused(one, c.Submit(ACME, (job(), bad, job()), "digest"), KEY)
    assert problem.code is code
    assert problem.where == where
    assert one.submit(job(), job(), key=KEY) == ["acme-1", "acme-2"]


def test_a_workload_that_the_law_keeps_out_is_kept_with_its_verdicts() -> None:
    """It is refused for good, at once, and each site's verdict is on record."""
    one = core()
    ident = one.submit(job(policy=PolicyRef(profile="nordic-only"), site=ALBION))[0]
    work = one.state.workloads[ident]
    assert work.state is State.REFUSED
    assert work.reason.startswith("JURISDICTION: policy nordic-only")
    assert ident not in one.world.queue
    (event,) = [event for event in one.events if isinstance(event, ev.WorkloadRefused)]
    (verdict,) = [one.state.verdicts[digest] for digest in event.verdicts]
    assert verdict.place == "site:albion"
    assert not verdict.allowed


def test_a_tenants_own_policy_holds_where_a_workload_names_none() -> None:
    """And a policy that is named goes first."""
    one = core()
    one.apply(tenant(ACME, policy="nordic-only"))
    plain, named = one.submit(job(site=ALBION), job(site=ALBION, policy=PolicyRef(profile="uk-only")))
    assert one.state.workloads[plain].state is State.REFUSED
    assert one.state.workloads[named].state is State.QUEUED


def test_a_tenant_that_was_erased_submits_nothing_more() -> None:
    """Its name is spent, though its document still stands; erasing twice is once."""
    one = core()
    ident = one.submit(job())[0]
    problem = refused(one, c.EraseTenant(ACME))
    assert problem.code is ProblemCode.IN_USE
    assert problem.related == (ident,)
    one.do(c.Stop(ident))
    assert [type(event) for event in one.made(c.EraseTenant(ACME))] == [ev.TenantErased]
    assert one.made(c.EraseTenant(ACME)) == []
    problem = refused(one, c.Submit(ACME, (job(),), "digest"))
    assert problem.code is ProblemCode.CONFLICT
    assert "erased" in problem.message
    # Nor does applying it anew bring it back.
    one.do(c.RemoveDocument("contract", "c-acme"))
    one.do(c.RemoveDocument("tenant", "acme"))
    one.apply(tenant(ACME), contract(ACME))
    assert "erased" in refused(one, c.Submit(ACME, (job(),), "digest")).message


def test_numbers_are_counted_for_each_tenant_and_never_used_again() -> None:
    """No tenant learns another's volume, and no name ever means two things."""
    one = core()
    assert one.submit(job(), job(), tenant=ACME) == ["acme-1", "acme-2"]
    assert one.submit(job(), tenant=BOREALIS) == ["borealis-1"]
    one.do(c.Stop(WorkloadId("acme-2")))
    assert one.submit(job(), tenant=ACME) == ["acme-3"]
    numbers = {ident: record.number for ident, record in one.state.tenants.items()}
    one.apply(tenant(TenantId("zeta")))
    one.do(c.RemoveDocument("tenant", "zeta"))
    one.apply(tenant(TenantId("eta")))
    assert numbers == {"acme": 0, "borealis": 1}
    assert {ident: record.number for ident, record in one.state.tenants.items()} == numbers | {
        "zeta": 2,
        "eta": 3,
    }


# -- workloads ---------------------------------------------------------------------------------------------------------


def test_stopping_what_waits_ends_it_at_once_and_stopping_what_runs_asks_its_engine() -> None:
    """Whoever asked twice asked once."""
    one = core()
    work, placement = one.started(service())
    waiting = one.submit(job())[0]
    one.do(c.Stop(waiting))
    assert one.state.workloads[waiting].state is State.STOPPED
    assert waiting not in one.world.queue
    one.do(c.Stop(work.id))
    assert work.state is State.STOPPING
    assert placement in one.world.unsettled
    for ident in (waiting, work.id):
        assert one.made(c.Stop(ident)) == []
        assert one.do(c.Stop(ident)) == c.Named(ident, changed=False)


@pytest.mark.parametrize("pause", [True, False])
def test_only_what_is_placed_can_be_paused_or_resumed(pause: bool) -> None:
    """Waiting, stopping or ended work can't; the problem names its state."""
    one = core()
    ident = one.submit(job())[0]
    assert "is queued" in refused(one, c.Pause(ident, pause)).message
    (placement,) = one.place()
    one.report(placement, RUNNING)
    one.do(c.Stop(ident))
    assert "is stopping" in refused(one, c.Pause(ident, pause)).message
    one.report(placement, ended(0, 143))
    problem = refused(one, c.Pause(ident, pause))
    assert problem.code is ProblemCode.CONFLICT
    assert "is stopped" in problem.message


def test_a_pause_that_is_so_already_makes_no_event() -> None:
    """And the other way round."""
    one = core()
    work, _ = one.started(service())
    assert one.made(c.Pause(work.id, pause=False)) == []
    assert len(one.made(c.Pause(work.id, pause=True))) == 1
    assert one.made(c.Pause(work.id, pause=True)) == []
    assert len(one.made(c.Pause(work.id, pause=False))) == 1


@pytest.mark.parametrize(
    ("role", "tenant_of"),
    [
        (Role.SYSTEM, None),
        (Role.SYSTEM, ACME),
        (Role.OPERATOR_ADMIN, ACME),
        (Role.TENANT_ADMIN, None),
        (Role.TENANT_MEMBER, None),
    ],
)
def test_no_token_is_of_a_role_and_a_scope_that_do_not_go_together(
    role: Role, tenant_of: TenantId | None
) -> None:
    """Above all none is the system's."""
    problem = refused(core(), c.IssueToken("1" * 64, role, tenant_of))
    assert problem.code is ProblemCode.BAD_INPUT


def test_a_token_is_revoked_once_and_its_number_is_not_given_again() -> None:
    """The journal's actor numbers stay unambiguous."""
    one = core()
    for name in "12":
        one.do(c.IssueToken(name * 64, Role.TENANT_MEMBER, ACME))
    assert len(one.made(c.RevokeToken(TokenId("t-2")))) == 1
    assert one.made(c.RevokeToken(TokenId("t-2"))) == []
    assert one.do(c.IssueToken("3" * 64, Role.TENANT_MEMBER, ACME)) == c.Named("t-3")
    assert [token.revoked for token in one.world.by_number.values()] == [False, True, False]


def test_a_token_that_is_known_already_is_not_issued_again() -> None:
    """It would take the other's place, and the number after it would be given twice."""
    one = core()
    one.do(c.IssueToken("1" * 64, Role.TENANT_MEMBER, ACME))
    assert refused(one, c.IssueToken("1" * 64, Role.OPERATOR_ADMIN, None)).code is ProblemCode.CONFLICT
    assert one.do(c.IssueToken("2" * 64, Role.TENANT_MEMBER, ACME)) == c.Named("t-2")


# -- nodes and plans ---------------------------------------------------------------------------------------------------


def test_a_drain_moves_what_runs_only_when_it_is_asked_to() -> None:
    """Without ``evict`` nothing new comes; with it what is there leaves, even when the node drains already."""
    one = core()
    work, placement = one.started(service(site=ALBION))
    node = NodeId(one.state.placements[placement].ranks[0].node)
    one.do(c.SetNodes((node,), "draining", "a fan"))
    assert one.state.placements[placement].stop_reason is None
    assert one.put(one.submit(service())[0], node, mask=2).rejected == (("acme-2", "NODE_STATE"),)
    made = one.made(c.SetNodes((node,), "draining", "a fan", evict=True))
    assert made == [ev.EvictionRequested(placement, EndReason.DRAINED, "a fan")]
    assert one.made(c.SetNodes((node,), "draining", "a fan", evict=True)) == []
    one.report(placement, ended(0, 143))
    assert work.state is State.QUEUED
    assert work.not_before_ms == 0


def test_a_site_or_a_part_of_it_is_drained_by_its_name() -> None:
    """All of its nodes, each with its own event; what has no nodes is no part."""
    one = core()
    nodes = [node for node in one.world.fleet.node_ids if node.startswith("fjord/b/")]
    for name in ("fjord/b", "fjord"):
        made = one.made(c.SetNodes((NodeId(name),), "draining", "a fan"))
        assert [event.node for event in made if isinstance(event, ev.NodeStateChanged)] == nodes
        one.do(c.SetNodes((NodeId(name),), "ready"))
    assert refused(core(), c.SetNodes((NodeId("fjord/nope"),), "draining")).code is ProblemCode.NOT_FOUND


def test_a_drain_that_names_one_unknown_node_drains_none() -> None:
    """The known ones are untouched, and the error helps."""
    problem = refused(
        core(), c.SetNodes((NodeId("fjord/b/g-0-0"), NodeId("fjord/b/g-0-7")), "draining", "a fan")
    )
    assert problem.code is ProblemCode.NOT_FOUND
    assert "Did you mean fjord/b/g-0-" in problem.next_step


def test_what_a_plan_placed_is_placed_once() -> None:
    """The same plan twice: the second time all of it is stale."""
    one = core()
    one.submit(job("a"), job("b"))
    proposal = one.plan()
    first = one.do(c.AdoptPlan(proposal))
    assert isinstance(first, c.Adopted)
    assert set(first.made) == {"acme-1.1", "acme-2.1"}
    before = copy.deepcopy(one.state)
    again = one.do(c.AdoptPlan(proposal))
    assert isinstance(again, c.Adopted)
    assert again.made == ()
    assert set(again.rejected) == {("acme-1", "STALE"), ("acme-2", "STALE")}
    assert one.state == before


def test_each_part_of_a_plan_is_judged_after_the_parts_before_it() -> None:
    """Two that want the same accelerator: the first gets it, the second waits on."""
    one = core()
    first, second = one.submit(job("a"), job("b"))
    place = (RankPlace("fjord/b/g-0-0", 1, 250, 16),)
    parts = tuple(ProposedPlacement(ident, FJORD, place) for ident in (first, second))
    assert one.do(c.AdoptPlan(Plan(0, parts))) == c.Adopted(
        (PlacementId(f"{first}.1"),), ((second, "CAPACITY"),)
    )
    assert one.state.workloads[second].state is State.QUEUED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: one.do(c.SetNodes((NodeId("fjord/b/g-0-0"),), "draining")), "NODE_STATE"),
        (lambda one: one.node("fjord/b/g-0-0", up=False), "NODE_STATE"),
        (lambda one: one.do(c.Stop(WorkloadId("acme-1"))), "STALE"),
        (lambda one: one.apply(estate(site(FJORD, "NO", limit_w=600), site(ALBION, "GB"))), "POWER"),
        (lambda one: one.apply(estate(site(FJORD, "SE"), site(ALBION, "GB"))), "JURISDICTION"),
        (lambda one: one.apply(estate(site(FJORD, "NO", dedicated_to=BOREALIS))), "DEDICATED"),
        (lambda one: one.apply(estate(site(ALBION, "GB"))), "STALE"),
        (lambda one: one.do(c.RemoveDocument("contract", "c-acme")), "CONTRACT"),
        (lambda one: one.apply(contract(ACME, ends="2026-11-18")), "CONTRACT"),
    ],
    ids=[
        "drained", "down", "stopped", "less power", "another country", "dedicated", "no such site", "no contract",
        "contract ended",
    ],
)  # fmt: skip
def test_a_plan_is_judged_by_the_world_as_it_is_now(change: object, reason: str) -> None:
    """What became wrong since the planner looked is rejected with its reason; the workload waits on."""
    one = core()
    ident = one.submit(job(policy=PolicyRef(countries=("NO",))))[0]
    proposal = one.plan()
    assert proposal.placements[0].ranks[0].node == "fjord/b/g-0-0"
    assert callable(change)
    change(one)
    before = copy.deepcopy(one.state)
    assert one.do(c.AdoptPlan(proposal)) == c.Adopted((), ((ident, reason),))
    assert replace(one.state, verdicts={}, version=0) == replace(before, verdicts={}, version=0)
    assert one.state.placements == {}


def test_a_plan_after_the_ends_of_a_contract_is_rejected_from_the_operators_midnight() -> None:
    """The proposal is as old as yesterday: the contract of today pays, or none."""
    one = core()
    one.apply(contract(ACME, ends="2026-11-19"))
    ident = one.submit(job())[0]
    proposal = one.plan()
    # The day begins in Oslo an hour before it does in UTC.
    midnight = (one.now_ms // MS_PER_DAY + 1) * MS_PER_DAY - MS_PER_HOUR
    one.now_ms = midnight
    assert one.do(c.AdoptPlan(proposal)) == c.Adopted((), ((ident, "CONTRACT"),))


@pytest.mark.parametrize(
    ("spec", "may"),
    [
        (job(), False),
        (job(flex=Flex.CAPPABLE), False),
        (job(flex=Flex.PAUSABLE), False),
        (job(flex=Flex.PREEMPTIBLE), True),
        (service(), False),
        (job(type=WorkloadType.FILLER), True),
    ],
)
def test_only_what_was_made_to_be_interrupted_is_preempted(spec: WorkloadSpec, may: bool) -> None:
    """Whatever the planner proposes; and only for something that waits, and only once."""
    one = core()
    work, placement = one.started(spec)
    waiting = one.submit(job("waiting", priority=1))[0]
    wanted = Plan(0, (), (Eviction(placement, waiting),))
    made = one.made(c.AdoptPlan(wanted))
    assert [type(event) for event in made] == ([ev.EvictionRequested] if may else [])
    assert (work.state is State.STOPPING) is may
    assert one.made(c.AdoptPlan(wanted)) == []


@pytest.mark.parametrize(
    ("state", "limit_ms", "ago_ms", "may"),
    [
        (State.PAUSED, 60_000, 121_000, True),
        (State.PAUSED, 60_000, 119_000, False),
        (State.PAUSED, 0, 86_400_000, False),
        (State.RUNNING, 60_000, 86_400_000, False),
    ],
)
def test_firm_work_goes_for_others_once_a_pause_keeps_it_beyond_its_limit(
    state: State, limit_ms: int, ago_ms: int, may: bool
) -> None:
    """With its grace, or a minute; whoever let it start relied on that."""
    one = core()
    work, placement = one.started(job(max_duration_ms=limit_ms))
    waiting = one.submit(job("waiting", priority=1))[0]
    one.state.placements[placement].started_ms = one.now_ms - ago_ms
    work.state = state
    made = one.made(c.AdoptPlan(Plan(0, (), (Eviction(placement, waiting),))))
    assert bool(made) is may


@pytest.mark.parametrize(
    ("runs", "waits", "ran_ms", "may"),
    [
        (3_600_000, 3_600_000, 60_000, True),
        (3_600_000, 3_600_000, 59_999, False),
        (2_000, 3_600_000, 2_000, True),
        (0, 3_600_000, 60_000, False),
        (3_600_000, 0, 60_000, False),
    ],
)
def test_one_goes_for_its_equal_only_if_both_save_their_state(
    runs: int, waits: int, ran_ms: int, may: bool
) -> None:
    """And once it has run for a minute, or for as long as it takes to save; whatever the planner proposes."""
    one = core()
    _, placement = one.started(job(flex=Flex.PREEMPTIBLE, checkpoint_ms=runs))
    waiting = one.submit(job("waiting", flex=Flex.PREEMPTIBLE, checkpoint_ms=waits))[0]
    one.state.placements[placement].started_ms = one.now_ms - ran_ms
    made = one.made(c.AdoptPlan(Plan(0, (), (Eviction(placement, waiting),))))
    assert bool(made) is may


@pytest.mark.parametrize(
    ("runs", "waits", "may"),
    [
        (job(flex=Flex.PREEMPTIBLE), job("w", priority=1), True),
        (job(flex=Flex.PREEMPTIBLE, priority=1), job("w"), False),
        (job(flex=Flex.PREEMPTIBLE), job("w", type=WorkloadType.FILLER), False),
        (job(flex=Flex.PREEMPTIBLE), job("w", type=WorkloadType.FILLER, priority=1), True),
        (job(type=WorkloadType.FILLER, priority=1), job("w"), True),
        (job(type=WorkloadType.FILLER, priority=1), job("w", type=WorkloadType.FILLER), False),
        (job(type=WorkloadType.FILLER), job("w", type=WorkloadType.FILLER), True),
    ],
)
def test_nothing_goes_for_what_does_not_rank_above_it(
    runs: WorkloadSpec, waits: WorkloadSpec, may: bool
) -> None:
    """Whatever the planner proposes: a filler takes from nobody but fillers, and within a tenant priority decides."""
    one = core()
    _, placement = one.started(runs)
    waiting = one.submit(waits)[0]
    made = one.made(c.AdoptPlan(Plan(0, (), (Eviction(placement, waiting),))))
    assert bool(made) is may


def test_an_eviction_for_what_no_longer_waits_is_not_made() -> None:
    """Nor one of a placement that is gone."""
    one = core()
    _, placement = one.started(job(flex=Flex.PREEMPTIBLE))
    waiting = one.submit(job("waiting"))[0]
    one.do(c.Stop(waiting))
    evictions = (
        Eviction(placement, waiting),
        Eviction(placement, WorkloadId("acme-99")),
        Eviction(PlacementId("acme-99.1"), waiting),
    )
    assert one.made(c.AdoptPlan(Plan(0, (), evictions))) == []


def test_one_tenant_is_not_told_which_workload_of_another_it_made_room_for() -> None:
    """Of its own it is told."""
    for whose, told in (
        (ACME, "made room for acme-2"),
        (BOREALIS, "made room for a workload that goes first"),
    ):
        one = core()
        work, placement = one.started(job(flex=Flex.PREEMPTIBLE))
        waiting = one.submit(job(priority=1), tenant=whose)[0]
        one.do(c.AdoptPlan(Plan(0, (), (Eviction(placement, waiting),))))
        assert work.reason == told


# -- counters ----------------------------------------------------------------------------------------------------------


def test_a_batch_of_tokens_counts_once_and_in_its_turn() -> None:
    """Again, out of turn, or of a placement that is gone: nothing. The row has the difference."""
    one = core()
    _, placement = one.started(service(counters="llamacpp"))
    assert len(one.made(c.RecordTokens(placement, 0, 100, 10))) == 1
    for batch in (0, 2):
        assert one.made(c.RecordTokens(placement, batch, 200, 20)) == []
    assert len(one.made(c.RecordTokens(placement, 1, 200, 25))) == 1
    assert one.made(c.RecordTokens(placement, 2, 200, 25)) == []
    assert one.made(c.RecordTokens(PlacementId("acme-9.1"), 0, 1, 1)) == []
    assert one.state.placements[placement].tokens == (200, 25)
    assert sum(sums.input_tokens for sums in one.state.usage.by_key.values()) == 200
    assert sum(sums.output_tokens for sums in one.state.usage.by_key.values()) == 25


@pytest.mark.parametrize("reading", [(99, 10), (100, 9), (0, 0)])
def test_a_counter_that_goes_back_raises_an_alarm_and_bills_nothing(reading: tuple[int, int]) -> None:
    """A replica restarts at zero in a new placement; in the same one something is wrong."""
    one = core()
    _, placement = one.started(service(counters="llamacpp"))
    one.do(c.RecordTokens(placement, 0, 100, 10))
    (alarm,) = one.made(c.RecordTokens(placement, 1, *reading))
    assert isinstance(alarm, ev.AlarmRaised)
    assert alarm.promise == 4
    assert alarm.subject == placement
    assert one.state.placements[placement].tokens == (100, 10)
    assert one.state.alarms[-1][1] == alarm


# -- the beginning -----------------------------------------------------------------------------------------------------


def test_a_journal_is_opened_once_and_every_start_has_an_epoch_of_its_own() -> None:
    """The name of the first start stands; the second one's is ignored."""
    one = Core()
    first = one.made(c.StartControl("first", "0.1.0", "boot"))
    assert first == [ev.JournalOpened("first"), ev.ControlStarted(Epoch(1), "0.1.0", "boot")]
    again = one.made(c.StartControl("second", "0.2.0", "boot"))
    assert again == [ev.ControlStarted(Epoch(2), "0.2.0", "boot")]
    assert one.state.journal == "first"


def test_what_has_not_started_is_started_when_its_engine_says_so() -> None:
    """A placement that starts is not yet running, whatever was asked."""
    one = core()
    one.submit(job(nodes=2))
    (placement,) = one.place()
    assert one.report(placement, RUNNING, STARTING) == []
    assert one.state.workloads[WorkloadId("acme-1")].state is State.PLACED
    assert [type(event) for event in one.report(placement, RUNNING, RUNNING)] == [ev.PlacementStarted]
    assert one.do(c.ReadLog(WorkloadId("acme-1"), 0), SYSTEM) is None
