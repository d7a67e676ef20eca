"""One authority: who may do what, as a table written by hand, and decide held to it command by command."""

import copy
import typing

import pytest

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.authority import Policy, Role, Subject, Target, Verdict
from headrace.core.decide import ACTION_OF, decide
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.ids import (
    DataId,
    InvoiceNumber,
    NodeId,
    PlacementId,
    PowerNodeId,
    TenantId,
    TokenId,
    WorkloadId,
)
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.scheduling.proposal import Plan
from headrace.core.sovereignty.law import Laws
from headrace.core.sovereignty.plain import (
    ACTIONS,
    PROFILES,
    RIGHTS,
    RIGHTS_POLICY,
    PlainPolicies,
    decide_place,
)
from headrace.core.sovereignty.plain import decide as judge
from headrace.core.workload import PolicyRef
from tests.core.small import (
    ACME,
    ADMIN,
    ALBION,
    BOREALIS,
    FJORD,
    MEMBER,
    OPERATOR,
    RUNNING,
    START_MS,
    SYSTEM,
    Core,
    core,
    dataset,
    job,
    service,
    shown,
    site,
)

CALLERS = {"system": SYSTEM, "operator": OPERATOR, "admin": ADMIN, "member": MEMBER}
"""The last two are of ``acme``."""
EVERYBODY = {"system", "operator", "admin", "member"}
OURS = {"system", "operator"}
OWNERS = {"system", "operator", "admin"}
MACHINE = {"system"}


def _evidence(tenant: TenantId) -> c.ExportEvidence:
    return c.ExportEvidence(tenant, 0, 1, 1, "0" * 64)


def _token(tenant: object, role: Role = Role.TENANT_MEMBER) -> c.IssueToken:
    return c.IssueToken("f" * 64, role, tenant)  # type: ignore[arg-type]


TABLE: dict[str, tuple[c.Command, set[str]]] = {
    "start the control plane": (c.StartControl("other", "0.1.0"), MACHINE),
    "apply documents": (c.ApplyDocuments(()), OURS),
    "remove a document": (c.RemoveDocument("price-plan", "spare"), OURS),
    "issue a token of one's tenant": (_token(ACME), OWNERS),
    "issue a token of another tenant": (_token(BOREALIS), OURS),
    "issue a token of the operator": (_token(None, Role.OPERATOR_ADMIN), OURS),
    "revoke a token of one's tenant": (c.RevokeToken(TokenId("t-2")), OWNERS),
    "revoke a token of another tenant": (c.RevokeToken(TokenId("t-3")), OURS),
    "revoke a token of the operator": (c.RevokeToken(TokenId("t-1")), OURS),
    "submit for one's tenant": (c.Submit(ACME, (job(),)), EVERYBODY),
    "submit for another tenant": (c.Submit(BOREALIS, (job(),)), OURS),
    "stop one's own": (c.Stop(WorkloadId("acme-1")), EVERYBODY),
    "stop another's": (c.Stop(WorkloadId("borealis-1")), OURS),
    "pause one's own": (c.Pause(WorkloadId("acme-1"), pause=True), EVERYBODY),
    "pause another's": (c.Pause(WorkloadId("borealis-1"), pause=True), OURS),
    "read one's own log": (c.ReadLog(WorkloadId("acme-1"), 0), EVERYBODY),
    "read another's log": (c.ReadLog(WorkloadId("borealis-1"), 0), OURS),
    "export one's own evidence": (_evidence(ACME), OWNERS),
    "export another's evidence": (_evidence(BOREALIS), OURS),
    "drain a node": (c.SetNodes((NodeId("fjord/b/g-0-0"),), "draining"), OURS),
    "adopt a plan": (c.AdoptPlan(Plan(0)), MACHINE),
    "report of engines": (c.Observe(()), MACHINE),
    "record tokens": (c.RecordTokens(PlacementId("acme-1.1"), 0, 1, 1), MACHINE),
    "say what engines can do": (c.DeclareEngines({}), MACHINE),
    "raise an alarm": (c.RaiseAlarm(1, "x", "y"), MACHINE),
    "invoice one's tenant": (c.IssueInvoices(ACME, "2026-11"), OURS),
    "invoice another tenant": (c.IssueInvoices(BOREALIS, "2026-11"), OURS),
    "credit an invoice": (c.IssueCreditNote(InvoiceNumber("x"), 1, "why"), OURS),
    "instruct a site": (
        c.Instruct(Instruction(InstructionId("x"), FJORD, 1, START_MS, 0), binding=True),
        OURS,
    ),
    "withdraw an instruction": (c.Withdraw(InstructionId("x")), OURS),
    "follow the grid": (c.FollowGrid(), MACHINE),
    "say which nodes can be limited": (c.DeclareLimiters({NodeId(f"{FJORD}/x/lab-0-0"): 100}), MACHINE),
    "judge all that runs again": (c.FollowLaw(), MACHINE),
    "report what devices say": (c.ReportDevices(excess={PowerNodeId(FJORD): (5, "feed")}), MACHINE),
    "declare one's data": (c.ApplyData(ACME, ()), EVERYBODY),
    "declare another's data": (c.ApplyData(BOREALIS, ()), OURS),
    "copy one's data": (c.CopyData(DataId("acme.corpus"), ALBION), EVERYBODY),
    "copy another's data": (c.CopyData(DataId("borealis.scans"), ALBION), OURS),
    "remove a copy of one's data": (c.RemoveCopy(DataId("acme.corpus"), FJORD, last=True), EVERYBODY),
    "remove a copy of another's data": (c.RemoveCopy(DataId("borealis.scans"), FJORD, last=True), OURS),
    "open one's data": (c.OpenData(DataId("acme.corpus"), FJORD, "a"), EVERYBODY),
    "open another's data": (c.OpenData(DataId("borealis.scans"), FJORD, "a"), OURS),
    "say which sites have stores": (c.DeclareStores((FJORD,)), MACHINE),
    "report what became of copies": (c.ReportCopies(()), MACHINE),
    "erase one's tenant": (c.EraseTenant(ACME), OURS),
    "erase another tenant": (c.EraseTenant(BOREALIS), OURS),
}
"""Every command, and who may give it."""
DENIED = {ProblemCode.FORBIDDEN, ProblemCode.NOT_FOUND}


@pytest.fixture(scope="module")
def lived() -> Core:
    """A core with a workload of each tenant that runs, and a token of each scope."""
    made = core()
    made.do(_token(None, Role.OPERATOR_ADMIN))
    made.do(c.IssueToken("1" * 64, Role.TENANT_MEMBER, ACME))
    made.do(c.IssueToken("2" * 64, Role.TENANT_MEMBER, BOREALIS))
    made.submit(service(), tenant=ACME)
    made.submit(service(), tenant=BOREALIS)
    for placement in made.place():
        made.report(placement, RUNNING)
    made.do(c.DeclareStores((FJORD, ALBION)))
    for tenant, name in ((ACME, "corpus"), (BOREALIS, "scans")):
        made.apply(dataset(name, tenant=tenant))
        made.arrive(f"{tenant}.{name}", FJORD)
    return made


def test_every_command_has_an_action_that_the_table_of_rights_knows() -> None:
    """Nothing can be asked that nobody decides; and the table below leaves no command out."""
    commands = set(typing.get_args(c.Command))
    assert set(ACTION_OF) == commands
    assert set(ACTION_OF.values()) <= set(ACTIONS)
    assert set(ACTIONS.values()) == set(RIGHTS)
    assert {type(command) for command, _ in TABLE.values()} == commands


def resolve(ref: PolicyRef) -> Policy:
    """The policy that a reference means where nobody declared any."""
    return Laws().resolve(ref, PlainPolicies())


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("what", TABLE)
def test_decide_agrees_with_the_table_of_who_may(lived: Core, what: str, who: str) -> None:
    """Who may not is refused without an event and without a change; who may is never told that it may not."""
    command, may = TABLE[what]
    before, events = shown(lived.state), []
    deciding = decide(lived.world, CALLERS[who], command, lived.now_ms)
    error: HeadraceError | None = None
    try:
        events.append(next(deciding))
    except StopIteration:
        pass
    except HeadraceError as raised:
        error = raised
    assert shown(lived.state) == before
    if who not in may:
        assert error is not None
        assert error.problem.code in DENIED
        assert error.problem.next_step
        assert events == []
    elif error is not None:
        # Refused for what it asks, not for who asks.
        assert error.problem.code is not ProblemCode.FORBIDDEN
        assert (
            what in ("credit an invoice", "remove a document", "withdraw an instruction")
            or error.problem.code not in DENIED
        )


@pytest.mark.parametrize(
    ("theirs", "nobodys"),
    [
        (c.Stop(WorkloadId("borealis-1")), c.Stop(WorkloadId("borealis-9"))),
        (c.Pause(WorkloadId("borealis-1"), pause=True), c.Pause(WorkloadId("borealis-9"), pause=True)),
        (c.ReadLog(WorkloadId("borealis-1"), 0), c.ReadLog(WorkloadId("borealis-9"), 0)),
        (c.RevokeToken(TokenId("t-3")), c.RevokeToken(TokenId("t-9"))),
        (c.Submit(BOREALIS, (job(),)), c.Submit(typing.cast(typing.Any, "nobody"), (job(),))),
        (_token(BOREALIS), _token("nobody")),
        (_evidence(BOREALIS), _evidence(TenantId("nobody"))),
    ],
)
def test_what_is_another_tenants_is_answered_as_what_does_not_exist(
    lived: Core, theirs: c.Command, nobodys: c.Command
) -> None:
    """No tenant learns by asking which names another has; and the sentence reads like one."""
    said = []
    for command in (theirs, nobodys):
        with pytest.raises(HeadraceError) as raised:
            next(decide(lived.world, ADMIN, command, lived.now_ms))
        said.append(raised.value.problem.line())
    for old in ("borealis-1", "borealis-9", "t-3", "t-9", "borealis", "nobody"):
        said = [line.replace(f"'{old}'", "X") for line in said]
    assert said[0] == said[1]
    assert "ss " not in said[0], said[0]


def test_a_verdict_is_recorded_once_and_before_what_rests_on_it() -> None:
    """A thousand decisions of one class are one record, named by digest in each event."""
    one = core()
    for _ in range(3):
        one.submit(job("a"), job("b"))
    verdicts = [event.verdict for event in one.events if isinstance(event, ev.DecisionRecorded)]
    assert len({verdict.id for verdict in verdicts}) == len(verdicts)
    (mine,) = [verdict for verdict in verdicts if verdict.action == "workload.submit"]
    submitted = [event for event in one.events if isinstance(event, ev.WorkloadSubmitted)]
    assert len(submitted) == 6
    assert {event.verdict for event in submitted} == {mine.id}
    assert one.events.index(ev.DecisionRecorded(mine)) < one.events.index(submitted[0])


def test_a_refused_command_leaves_nothing_behind_not_even_its_verdict() -> None:
    """What nobody was allowed to do did not happen."""
    one = core()
    before, events = copy.deepcopy(one.state), len(one.events)
    for command in (
        c.Submit(ACME, (job(project="none"),)),
        c.SetNodes((NodeId("fjord/b/g-9-9"),), "draining"),
        c.Stop(WorkloadId("acme-77")),
        c.RemoveDocument("tenant", "nobody"),
        c.EraseTenant(typing.cast(typing.Any, "nobody")),
    ):
        with pytest.raises(HeadraceError):
            one.do(command, OPERATOR, b"k" * 16)
    assert one.state == before
    assert len(one.events) == events


@pytest.mark.parametrize("action", sorted(ACTIONS))
@pytest.mark.parametrize("role", sorted(Role))
def test_a_tenants_token_has_no_right_to_what_is_not_its_own(action: str, role: Role) -> None:
    """By any action, whatever the role, once the token has a tenant."""
    subject = Subject("token", "t", role, ACME)
    for target in (Target("thing", BOREALIS, "x"), Target("thing", None, "x")):
        assert not judge(PlainPolicies(), RIGHTS_POLICY, subject, action, target, {}).allowed


def test_an_action_that_nobody_declared_is_denied_to_all() -> None:
    """A route with a typo opens nothing."""
    for subject in CALLERS.values():
        found = judge(PlainPolicies(), RIGHTS_POLICY, subject, "workload.sell", Target("x", ACME), {})
        assert not found.allowed
        assert found.reasons == ("there is no action workload.sell",)


def test_a_verdict_is_about_a_class_and_not_about_a_person() -> None:
    """Two tokens of one role and tenant are one class; its name holds neither's."""
    other = Subject("token", "t-77", Role.TENANT_MEMBER, ACME)
    ours = [
        judge(PlainPolicies(), RIGHTS_POLICY, subject, "workload.read", Target("workload", ACME, ident), {})
        for subject, ident in ((MEMBER, "acme-1"), (other, "acme-2"))
    ]
    assert ours[0] == ours[1]
    assert "t-77" not in repr(ours[1])
    assert (
        ours[0].id != judge(PlainPolicies(), RIGHTS_POLICY, ADMIN, "workload.read", Target("w", ACME), {}).id
    )


@pytest.mark.parametrize(
    ("ref", "country", "allowed"),
    [
        (PolicyRef(), "NO", True),
        (PolicyRef(), "", False),
        (PolicyRef(profile="public"), "US", True),
        (PolicyRef(profile="nordic-only"), "IS", True),
        (PolicyRef(profile="nordic-only"), "GB", False),
        (PolicyRef(profile="uk-only"), "GB", True),
        (PolicyRef(profile="uk-only"), "NO", False),
        (PolicyRef(profile="eea-only"), "NO", True),
        (PolicyRef(profile="eea-only"), "GB", False),
        (PolicyRef(profile="eea-only"), "CH", False),
        (PolicyRef(countries=("NO", "GB")), "GB", True),
        (PolicyRef(countries=("NO", "GB")), "SE", False),
        (PolicyRef(countries=("NO",)), "", False),
        # The stricter of the two: countries stand where both are given.
        (PolicyRef(profile="public", countries=("NO",)), "GB", False),
    ],
)
def test_a_place_is_judged_by_its_country(ref: PolicyRef, country: str, allowed: bool) -> None:
    """Unknown is not allowed; every verdict has a reason, and names what decided it."""
    found = decide_place(PlainPolicies(), ACME, resolve(ref), site(FJORD, country))
    assert found.allowed is allowed
    assert found.reasons[0]
    assert found.policy == resolve(ref).digest


def test_a_policy_is_the_same_whatever_the_order_of_its_countries() -> None:
    """Else one rule would have many digests."""
    one, two = resolve(PolicyRef(countries=("NO", "GB"))), resolve(PolicyRef(countries=("GB", "NO")))
    assert one == two
    assert one.digest == two.digest
    assert one.digest != resolve(PolicyRef(countries=("NO",))).digest


def test_the_facts_that_a_verdict_rests_on_are_in_its_digest() -> None:
    """A site whose country changes is decided anew, under another digest."""
    here, there = (
        decide_place(PlainPolicies(), ACME, resolve(PolicyRef()), site(FJORD, country))
        for country in ("NO", "SE")
    )
    assert here.facts != there.facts
    assert here.id != there.id
    assert isinstance(here, Verdict)


def test_a_profile_is_found_by_its_own_name() -> None:
    """And an unknown one is an error, never a policy that allows everything."""
    for name, policy in PROFILES.items():
        assert resolve(PolicyRef(profile=name)) == policy == Policy(name, policy.countries)
    with pytest.raises(HeadraceError, match="nordic"):
        resolve(PolicyRef(profile="nordic"))
