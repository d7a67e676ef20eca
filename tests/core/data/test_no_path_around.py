"""No path around the authority: every command and route says what it places, moves or shows, and what decides that."""

import dataclasses
import typing
from collections.abc import Callable

import pytest

from headrace.api.app import GROUPS
from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.authority import Policy, PolicyEngine, Request, Verdict
from headrace.core.data import events as of_data
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.estate import Estate
from headrace.core.events import KINDS
from headrace.core.ids import DataId, WorkloadId
from headrace.core.sovereignty.plain import ACCESS, ACTIONS, PLACES, PlainPolicies
from headrace.core.workload import PolicyRef
from headrace.core.world import World
from tests.core.small import (
    ALBION,
    DOCUMENTS,
    FJORD,
    MEMBER,
    OPERATOR,
    RUNNING,
    SYSTEM,
    Core,
    dataset,
    document,
    estate,
    job,
)

CORPUS = DataId("acme.corpus")
PLACING: dict[type, tuple[str, ...]] = {
    c.StartControl: ("journal.replicate",),
    c.Submit: ("workload.place",),
    c.AdoptPlan: ("workload.place",),
    c.ApplyDocuments: ("data.copy",),
    c.ApplyData: ("data.copy",),
    c.CopyData: ("data.copy",),
    c.ReadLog: ("logs.read",),
    c.OpenData: ("support.access",),
    c.FollowLaw: ("workload.place", "data.copy"),
}
"""Commands by which something comes to lie or run somewhere, or is shown to people; and what policies decide of each."""
NEITHER: dict[type, str] = {
    c.RemoveDocument: "takes away",
    c.IssueToken: "opens nothing by itself: each use is decided",
    c.RevokeToken: "takes away",
    c.Stop: "takes away",
    c.Pause: "what runs stays where it is",
    c.SetNodes: "takes away; what moves is placed anew",
    c.Observe: "says what is",
    c.DeclareEngines: "says what is",
    c.RecordTokens: "says what is",
    c.IssueInvoices: "an invoice is the operator's own",
    c.IssueCreditNote: "an invoice is the operator's own",
    c.EraseTenant: "takes away",
    c.RaiseAlarm: "says what is",
    c.ExportEvidence: "a tenant's evidence is the control plane's own record, which its right decides",
    c.Instruct: "limits watts",
    c.Withdraw: "limits watts",
    c.FollowGrid: "limits watts; what moves is placed anew",
    c.DeclareLimiters: "says what is",
    c.ReportDevices: "says what is",
    c.RemoveCopy: "takes away",
    c.DeclareStores: "says what is",
    c.ReportCopies: "says what became of what was decided",
}
"""All others, and why no policy about places has to be asked."""
ROUTES: dict[str, type] = {
    "workload.submit": c.Submit,
    "document.apply": c.ApplyDocuments,
    "workload.logs": c.ReadLog,
    "dataset.apply": c.ApplyData,
    "dataset.copy": c.CopyData,
    "dataset.open": c.OpenData,
}
"""Rights of routes by which something is placed, moved or shown, and the command that each of them carries out."""
HARMLESS = frozenset(
    {
        "document.remove", "document.read", "estate.read", "site.read", "token.issue", "token.revoke", "token.read",
        "whoami.read", "workload.stop", "workload.pause", "workload.read", "workload.explain", "workload.key", "node.read",
        "node.drain", "invoice.read", "invoice.issue", "invoice.credit", "usage.meter", "tenant.erase", "journal.read",
        "evidence.export", "status.read", "plan.read", "grid.read", "grid.instruct", "dataset.read", "dataset.remove",
    }
)  # fmt: skip
"""Rights of all other routes: they take away, or show what is the control plane's own record."""
PUTS: dict[type, str] = {
    ev.PlacementMade: "verdict",
    of_data.CopyRequested: "verdicts",
    ev.LogRead: "verdicts",
    of_data.DataRead: "verdicts",
}
"""Events that put something somewhere or show it, and the field that names what allowed it."""


@dataclasses.dataclass
class Denying:
    """A policy engine that denies one action of policies, and writes down what it is asked."""

    denied: str = ""
    asked: list[str] = dataclasses.field(default_factory=list)
    profiles: frozenset[str] = PlainPolicies.profiles

    def evaluate(self, policy: Policy, request: Request) -> Verdict:
        """As the plain one, but for what is denied."""
        verdict = PlainPolicies().evaluate(policy, request)
        if request.action in PLACES or request.action in ACCESS:
            self.asked.append(request.action)
        if request.action != self.denied:
            return verdict
        return dataclasses.replace(verdict, allowed=False, reasons=(f"policy test denies {self.denied}",))

    def obstacle(self, *_: object) -> None:
        """Nothing."""

    def minds_the_day(self, _: Policy) -> bool:
        """No."""
        return False

    def describe(self, *_: object) -> dict[str, str | int | bool]:
        """Nothing."""
        return {}


def keeping(country: str) -> Estate:
    """The estate of an operator whose own state is kept in a country."""
    made = estate()
    policy = PolicyRef(countries=(country,))
    return dataclasses.replace(made, operator=dataclasses.replace(made.operator, journal_policy=policy))


def lived(engine: PolicyEngine) -> Core:
    """A core with data that is present, a workload that runs on it, and one that waits."""
    one = Core(World(None, engine))
    one.do(c.StartControl("small", "0.1.0", "boot", "NO"))
    one.apply(*DOCUMENTS)
    one.apply(keeping("NO"))
    one.do(c.DeclareStores((FJORD, ALBION)))
    one.apply(dataset())
    one.arrive(CORPUS, FJORD)
    one.submit(job("runs", policy=PolicyRef(data=("corpus",))))
    for placement in one.place():
        one.report(placement, RUNNING)
    one.submit(job("waits"))
    return one


def test_every_command_says_what_it_places_moves_or_shows() -> None:
    """A command that is added later has to say so here, or this fails."""
    assert set(PLACING) | set(NEITHER) == set(typing.get_args(c.Command))
    assert not set(PLACING) & set(NEITHER)
    assert {action for actions in PLACING.values() for action in actions} <= PLACES | ACCESS


def test_every_route_says_so_too() -> None:
    """A route whose right is new has to say here which command decides what it places, moves or shows."""
    rights = {one.action for group in GROUPS for one in group.endpoints}
    assert rights == set(ROUTES) | HARMLESS
    assert set(ROUTES.values()) | {c.StartControl, c.AdoptPlan, c.FollowLaw} == set(PLACING)
    assert rights <= set(ACTIONS)


def test_every_event_that_puts_something_somewhere_names_what_allowed_it() -> None:
    """And what it names is on record, and allowed."""
    one = lived(PlainPolicies())
    one.do(c.CopyData(CORPUS, ALBION), MEMBER)
    one.do(c.ReadLog(WorkloadId("acme-1"), 0), MEMBER)
    one.do(c.OpenData(CORPUS, FJORD, "a"), MEMBER)
    seen = set()
    for event in one.events:
        field = PUTS.get(type(event))
        if field is not None:
            seen.add(type(event))
            names = getattr(event, field)
            for name in (names,) if isinstance(names, str) else names:
                assert one.state.verdicts[name].allowed, event
            assert names
    assert seen == set(PUTS)
    assert set(PUTS) <= set(KINDS.values())


def _refused(one: Core, command: c.Command) -> bool:
    try:
        one.do(command, MEMBER if not isinstance(command, c.ApplyDocuments) else OPERATOR)
    except HeadraceError:
        return True
    return False


def _submitted(one: Core) -> bool:
    return one.state.workloads[one.submit(job("more"))[0]].state.value == "refused"


def _adopted(one: Core) -> bool:
    waiting = next(ident for ident, work in one.state.workloads.items() if work.spec.name == "waits")
    return not one.put(waiting, "fjord/b/g-1-0").made


def _evicted(one: Core) -> bool:
    one.do(c.FollowLaw(), SYSTEM)
    (placement,) = one.state.placements.values()
    alarmed = bool(one.state.alarms)
    return placement.stop_reason is not None and (alarmed or not one.state.copies[CORPUS][FJORD].unlawful)


def _started(one: Core) -> bool:
    try:
        one.do(c.StartControl("small", "0.1.0", "boot", "NO"), SYSTEM)
    except HeadraceError:
        return True
    return False


TRIES: dict[type, Callable[[Core], bool]] = {
    c.StartControl: _started,
    c.Submit: _submitted,
    c.AdoptPlan: _adopted,
    c.ApplyDocuments: lambda one: _refused(one, c.ApplyDocuments((document(dataset("more")),))),
    c.ApplyData: lambda one: _refused(one, c.ApplyData(dataset().tenant, (document(dataset("more")),))),
    c.CopyData: lambda one: _refused(one, c.CopyData(CORPUS, ALBION)),
    c.ReadLog: lambda one: _refused(one, c.ReadLog(WorkloadId("acme-1"), 0)),
    c.OpenData: lambda one: _refused(one, c.OpenData(CORPUS, FJORD, "a")),
    c.FollowLaw: _evicted,
}
"""For each command that places, moves or shows: whether what it asks does not come about."""


@pytest.mark.parametrize(
    ("kind", "action"),
    [(kind, action) for kind, actions in PLACING.items() for action in actions],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_what_a_policy_denies_does_not_come_about_by_any_command(kind: type, action: str) -> None:
    """The same world, the same command: it does with a policy that allows, and does not with one that denies that action."""
    engine = Denying()
    one = lived(engine)
    engine.denied = action
    one.world.laws.forget()
    one.world._forget_classes()
    assert TRIES[kind](one)
    assert action in engine.asked
    allowed = lived(Denying())
    assert not TRIES[kind](allowed)


@pytest.mark.parametrize(("at", "may"), [("NO", True), ("GB", False), ("", False)])
def test_the_control_plane_starts_only_where_its_own_state_may_lie(at: str, may: bool) -> None:
    """By its operator's policy; where nobody said is nowhere that a policy allows. What was refused left nothing."""
    one = lived(PlainPolicies())
    events, start = len(one.events), c.StartControl("small", "0.1.0", "boot", at)
    if may:
        one.do(start, SYSTEM)
        started = one.events[-1]
        assert isinstance(started, ev.ControlStarted)
        assert one.state.verdicts[started.verdict].action == "journal.replicate"
        return
    with pytest.raises(HeadraceError, match="own state may not lie") as raised:
        one.do(start, SYSTEM)
    assert raised.value.problem.code is ProblemCode.JURISDICTION
    assert "--at" in raised.value.problem.next_step
    assert len(one.events) == events


def test_nobody_can_lock_a_control_plane_out_of_where_it_is() -> None:
    """A policy that forbids the present place is refused when it is applied, and nothing changes."""
    one = lived(PlainPolicies())
    events = len(one.events)
    with pytest.raises(HeadraceError, match="own state may not lie in NO"):
        one.apply(keeping("GB"))
    assert len(one.events) == events
