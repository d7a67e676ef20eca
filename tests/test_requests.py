"""Idempotency keys: the same key and request is answered as before and done once, another request is refused. Every command."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.control import SYSTEM, Control, request_digest
from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.authority import Role
from headrace.core.decide import ACTION_OF
from headrace.core.errors import HeadraceError, ProblemCode
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
from headrace.core.observation import Capabilities, RankState
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.scheduling.proposal import Plan
from headrace.core.streams import streams
from headrace.core.workload import PolicyRef, WorkloadType
from headrace.journal.codec import Draft
from headrace.policy.engine import policies
from tests.journal.small import (
    ACME,
    BOREALIS,
    MEMBER,
    START_MS,
    SetClock,
    begun,
    job,
    opened,
    place,
    report,
    submit,
)

KEY = "once"
HOUR_MS = 3_600_000
WORK, OTHER_WORK = WorkloadId("acme-1"), WorkloadId("acme-2")
PLACEMENT, OTHER_PLACEMENT = PlacementId("acme-1.1"), PlacementId("acme-2.1")
INVOICE = InvoiceNumber("2026-11-acme-NOK-0")
NODE, OTHER_NODE = NodeId("glomfjord/b/lab-0-0"), NodeId("glomfjord/b/lab-0-1")
Pair = tuple[c.Command, c.Command]


def _tenant(name: str, *projects: str) -> c.NormalisedDocument:
    return c.NormalisedDocument("tenant", name, {"id": name, "projects": list(projects)})


def _plans(control: Control) -> Pair:
    found = plan(control.world.snapshot(control.now_ms()), PlanLimits())
    return c.AdoptPlan(found), c.AdoptPlan(Plan(found.base_version))


def _these(first: c.Command, other: c.Command) -> Callable[[Control], Pair]:
    return lambda _: (first, other)


def _instruct(name: str, limit_w: int = 30_000) -> c.Instruct:
    return c.Instruct(
        Instruction(InstructionId(name), SiteId("glomfjord"), limit_w, START_MS + HOUR_MS), binding=True
    )


def _withdrawals(control: Control) -> Pair:
    for name in ("one", "two"):
        control.execute(SYSTEM, _instruct(name))
    first, other = (c.Withdraw(InstructionId(name), "it is over") for name in ("one", "two"))
    return first, other


def _followed(control: Control) -> Pair:
    """It says no more than that the grid be followed: there is no other of its kind."""
    control.execute(SYSTEM, _instruct("deep", limit_w=1))
    return c.FollowGrid(), _instruct("another")


def _unlawful(control: Control) -> Pair:
    """It says no more than that all be judged again: there is no other of its kind."""
    control.world.policies = policies()
    for country in ("NO", "SE"):
        text = f'@id("one") permit (principal, action, resource) when {{ resource.country == "{country}" }};'
        control.execute(
            SYSTEM,
            c.ApplyDocuments((c.NormalisedDocument("policy", "one", {"id": "one", "cedar": text}),)),
        )
        if country == "NO":
            submit(control, "", job("lawful", policy=PolicyRef(profile="one")))
            assert place(control)
    return c.FollowLaw(), _instruct("another")


def _datasets(*names: str, size: int = 10) -> tuple[c.NormalisedDocument, ...]:
    plain = {"tenant": "acme", "digest": "d" * 64, "size_bytes": size, "site": "glomfjord"}
    return tuple(
        c.NormalisedDocument("dataset", f"acme.{name}", plain | {"id": f"acme.{name}", "name": name})
        for name in names
    )


def _with_data(control: Control) -> list[DataId]:
    """Two data sets whose copies are present."""
    control.execute(SYSTEM, c.DeclareStores((SiteId("glomfjord"),)))
    control.execute(SYSTEM, c.ApplyData(ACME, _datasets("one", "two")))
    idents = [DataId("acme.one"), DataId("acme.two")]
    control.execute(SYSTEM, c.ReportCopies(tuple(_arrived(ident) for ident in idents)))
    return idents


def _arrived(ident: str) -> c.CopyReport:
    return c.CopyReport(DataId(ident), SiteId("glomfjord"), "present", "d" * 64, 10)


def _declared(control: Control) -> Pair:
    control.execute(SYSTEM, c.DeclareStores((SiteId("glomfjord"),)))
    return c.ApplyData(ACME, _datasets("one")), c.ApplyData(ACME, _datasets("one", "two"))


def _copied(control: Control) -> Pair:
    """Of copies that are gone, so that there is something to do."""
    one, two = _with_data(control)
    gone = (c.CopyReport(ident, SiteId("glomfjord"), "gone") for ident in (one, two))
    control.execute(SYSTEM, c.ReportCopies(tuple(gone)))
    return c.CopyData(one, SiteId("glomfjord")), c.CopyData(two, SiteId("glomfjord"))


def _removed(control: Control) -> Pair:
    one, two = _with_data(control)
    site = SiteId("glomfjord")
    return c.RemoveCopy(one, site, last=True), c.RemoveCopy(two, site, last=True)


def _opened(control: Control) -> Pair:
    one, _ = _with_data(control)
    site = SiteId("glomfjord")
    return c.OpenData(one, site, "a.bin"), c.OpenData(one, site, "b.bin")


def _reported(control: Control) -> Pair:
    control.execute(SYSTEM, c.DeclareStores((SiteId("glomfjord"),)))
    control.execute(SYSTEM, c.ApplyData(ACME, _datasets("one", "two")))
    return c.ReportCopies((_arrived("acme.one"),)), c.ReportCopies((_arrived("acme.two"),))


REQUESTS: dict[type, Callable[[Control], Pair]] = {
    c.StartControl: _these(c.StartControl("small", "0.2.0", "b"), c.StartControl("small", "0.2.1", "b")),
    c.ApplyDocuments: _these(
        c.ApplyDocuments((_tenant("zeta", "main"),)), c.ApplyDocuments((_tenant("zeta", "main", "side"),))
    ),
    c.RemoveDocument: _these(
        c.RemoveDocument("price-plan", "unused"), c.RemoveDocument("contract", "c-borealis")
    ),
    c.IssueToken: _these(
        c.IssueToken("a" * 64, Role.TENANT_MEMBER, ACME), c.IssueToken("b" * 64, Role.TENANT_ADMIN, ACME)
    ),
    c.RevokeToken: _these(c.RevokeToken(TokenId("t-2")), c.RevokeToken(TokenId("t-3"))),
    c.Submit: _these(c.Submit(ACME, (job("x"),), "asked"), c.Submit(ACME, (job("y"),), "asked for y")),
    c.Stop: _these(c.Stop(WORK), c.Stop(OTHER_WORK)),
    c.Pause: _these(c.Pause(WORK, pause=True), c.Pause(WORK, pause=False)),
    c.SetNodes: _these(
        c.SetNodes((NODE, OTHER_NODE), "draining", "a fan", evict=True),
        c.SetNodes((NODE, OTHER_NODE), "draining", "a fan"),
    ),
    c.AdoptPlan: _plans,
    c.Observe: _these(c.Observe((), missing=(PLACEMENT,)), c.Observe((), missing=(OTHER_PLACEMENT,))),
    c.RecordTokens: _these(c.RecordTokens(PLACEMENT, 0, 1, 2), c.RecordTokens(PLACEMENT, 0, 1, 3)),
    c.IssueInvoices: _these(c.IssueInvoices(BOREALIS, "2026-11"), c.IssueInvoices(ACME, "2026-11")),
    c.IssueCreditNote: _these(
        c.IssueCreditNote(INVOICE, 1_000, "late"), c.IssueCreditNote(INVOICE, 1_001, "late")
    ),
    c.EraseTenant: _these(c.EraseTenant(TenantId("gamma")), c.EraseTenant(TenantId("delta"))),
    c.ExportEvidence: _these(
        c.ExportEvidence(ACME, 0, 1, 1, "0" * 64), c.ExportEvidence(ACME, 0, 2, 1, "0" * 64)
    ),
    c.ReadLog: _these(c.ReadLog(WORK, 0), c.ReadLog(OTHER_WORK, 0)),
    c.DeclareEngines: _these(
        c.DeclareEngines({"a": Capabilities("uid", pause=True, ports=True)}),
        c.DeclareEngines({"b": Capabilities("uid", pause=True, ports=True)}),
    ),
    c.Instruct: _these(_instruct("one"), _instruct("one", limit_w=31_000)),
    c.Withdraw: _withdrawals,
    c.FollowGrid: _followed,
    c.FollowLaw: _unlawful,
    c.DeclareLimiters: _these(c.DeclareLimiters({NODE: 100}), c.DeclareLimiters({NODE: 200})),
    c.ReportDevices: _these(
        c.ReportDevices(excess={PowerNodeId("glomfjord"): (1, "feed")}),
        c.ReportDevices(excess={PowerNodeId("glomfjord"): (2, "feed")}),
    ),
    c.ApplyData: _declared,
    c.CopyData: _copied,
    c.RemoveCopy: _removed,
    c.OpenData: _opened,
    c.DeclareStores: _these(c.DeclareStores((SiteId("glomfjord"),)), c.DeclareStores(())),
    c.ReportCopies: _reported,
    c.RaiseAlarm: _these(c.RaiseAlarm(1, "a", "a drill"), c.RaiseAlarm(1, "b", "a drill")),
}
"""For each command: one, and another of its kind."""


def lived_in(folder: Path) -> Control:
    """A control plane in which each of these can be carried out."""
    clock = SetClock()
    control = begun(folder, clock=clock)
    control.execute(SYSTEM, c.ApplyDocuments((_tenant("gamma", "main"), _tenant("delta", "main"))))
    control.execute(SYSTEM, c.IssueToken("1" * 64, Role.TENANT_MEMBER, ACME))
    control.execute(SYSTEM, c.IssueToken("2" * 64, Role.TENANT_MEMBER, ACME))
    submit(control, "", job("a", type=WorkloadType.SERVICE), job("b", type=WorkloadType.SERVICE))
    control.submit(SYSTEM, BOREALIS, [(job("c"), {})], "", "c")
    made = place(control)
    for placement in made:
        report(control, placement, RankState.RUNNING)
    clock.at_ms += HOUR_MS
    for placement in made:
        report(control, placement, RankState.RUNNING, HOUR_MS, meter=True)
    control.execute(SYSTEM, c.IssueInvoices(ACME, "2026-11"))
    submit(control, "", job("waits"))
    return control


def seen(control: Control) -> tuple[str, int]:
    """All that the world holds, and how much waits for a commit."""
    return repr(control.world.state), len(control._pending.drafts) + len(control._pending.erase)


def given_again(reply: c.Reply) -> c.Reply:
    """An answer as it is given to who asks again: with the same names, and nothing changed by it."""
    match reply:
        case c.Submitted():
            return replace(reply, repeated=True)
        case c.Named():
            return replace(reply, changed=False)
        case tuple():
            return tuple(
                replace(one, what="unchanged") if isinstance(one, c.Change) else one for one in reply
            )  # type: ignore[return-value]
        case _:
            return reply


def check(control: Control, first: c.Command, others: list[c.Command], answer: c.Reply) -> None:
    """Another request is refused, the same one answered, and neither does anything."""
    before = seen(control)
    for other in others:
        with pytest.raises(HeadraceError) as raised:
            control.execute(SYSTEM, other, KEY)
        problem = raised.value.problem
        assert problem.code is ProblemCode.IDEMPOTENCY_MISMATCH, other
        assert "Use a new key" in problem.next_step
    assert control.execute(SYSTEM, first, KEY) == given_again(answer)
    assert seen(control) == before


def test_every_command_is_among_them() -> None:
    """A command that is added later has to say here what another request of its kind is."""
    assert set(REQUESTS) == set(ACTION_OF)


@pytest.mark.parametrize("kind", ACTION_OF, ids=lambda kind: kind.__name__)
def test_a_key_stands_for_one_request_in_its_batch_and_after_restarts(kind: type, tmp_path: Path) -> None:
    """Before its commit, after it, replayed from the journal, and taken from a checkpoint."""
    control = lived_in(tmp_path)
    first, other = REQUESTS[kind](control)
    unlike = c.Stop(OTHER_WORK) if kind is not c.Stop else c.Pause(WORK, pause=True)
    size = len(control._pending.drafts)
    answer = control.execute(SYSTEM, first, KEY)
    assert len(control._pending.drafts) > size, "it must do something, to be done once"
    others = [other, unlike, c.Submit(ACME, (job("z"),), "asked for z")]
    check(control, first, others, answer)
    control.commit()
    check(control, first, others, answer)
    for checkpointed in (False, True):
        if checkpointed:
            control.checkpoint()
        control.store.close()
        control = opened(tmp_path, seed=f"again {checkpointed}")
        check(control, first, others, answer)
    control.store.close()


def test_a_request_that_finds_nothing_to_do_takes_its_key_too(tmp_path: Path) -> None:
    """Asked again when there is something to do, the answer is that of the first time; and its key is no other's."""
    control = lived_in(tmp_path)
    undrain = c.SetNodes((NODE,), "ready")
    assert control.execute(SYSTEM, undrain, KEY) == c.Named("", changed=False)
    control.execute(SYSTEM, c.SetNodes((NODE,), "draining"))
    check(control, undrain, [c.SetNodes((NODE,), "draining")], c.Named("", changed=False))
    assert control.world.state.nodes[NODE][0] == "draining"
    control.store.close()


def test_a_request_that_was_refused_leaves_its_key_free(tmp_path: Path) -> None:
    """Nothing was done under it: mended, it may be asked by the same key."""
    control = lived_in(tmp_path)
    with pytest.raises(HeadraceError):
        control.execute(SYSTEM, c.IssueCreditNote(INVOICE, 10**15, "too much"), KEY)
    assert control.execute(SYSTEM, c.IssueCreditNote(INVOICE, 1, "late"), KEY) is not None
    control.store.close()


def test_equal_keys_of_two_tenants_never_meet(tmp_path: Path) -> None:
    """The operator's key is not the member's."""
    control = lived_in(tmp_path)
    control.execute(MEMBER, c.Stop(WORK), KEY)
    assert control.execute(SYSTEM, c.Stop(OTHER_WORK), KEY) == c.Named(OTHER_WORK)
    control.store.close()


def test_what_was_asked_may_be_said_beside_a_command_that_every_attempt_makes_anew(tmp_path: Path) -> None:
    """A token's second attempt has another value: it is the same request, and makes no second token."""
    control = lived_in(tmp_path)
    first = control.execute(SYSTEM, c.IssueToken("a" * 64, Role.TENANT_MEMBER, ACME), KEY, "a member")
    again = control.execute(SYSTEM, c.IssueToken("b" * 64, Role.TENANT_MEMBER, ACME), KEY, "a member")
    assert again == given_again(first)
    assert "b" * 64 not in control.world.state.tokens
    assert control.is_repeated(SYSTEM, c.IssueToken, KEY, "a member")
    assert not control.is_repeated(SYSTEM, c.IssueToken, "another", "a member")
    assert not control.is_repeated(SYSTEM, c.IssueToken, "", "a member")
    with pytest.raises(HeadraceError, match="used for another request"):
        control.is_repeated(SYSTEM, c.IssueToken, KEY, "an admin")
    control.store.close()


def test_a_journal_from_before_answers_were_kept_answers_by_the_key_alone(tmp_path: Path) -> None:
    """Its events have the key and not what was asked: whoever asks by the key gets the first thing's name, as ever."""
    control = lived_in(tmp_path)
    event = ev.StopRequested(WORK, next(iter(control.world.state.verdicts)))
    request = request_digest(SYSTEM, KEY)
    control._pending.drafts.append(Draft(event, control.now_ms(), streams(control.world, event), request))
    control.commit()
    for checkpointed in (False, True):
        if checkpointed:
            control.checkpoint()
        control.store.close()
        control = opened(tmp_path, seed=f"again {checkpointed}")
        assert control.world.state.requests[request.hex()].answer is None
        before = seen(control)
        assert control.execute(SYSTEM, c.Stop(WORK), KEY) == c.Named(WORK, changed=False)
        assert control.execute(SYSTEM, c.Stop(OTHER_WORK), KEY) == c.Named(WORK, changed=False)
        with pytest.raises(HeadraceError, match="used for another request"):
            control.execute(SYSTEM, c.Submit(ACME, (job("x"),), "asked"), KEY)
        assert seen(control) == before
    control.store.close()


@pytest.mark.parametrize("caller", [SYSTEM, MEMBER], ids=["operator", "member"])
def test_an_answer_is_of_the_stream_of_whose_key_it_is(tmp_path: Path, caller: object) -> None:
    """A tenant that is given its own events learns of no request of the operator's."""
    control = lived_in(tmp_path)
    who = MEMBER if caller is MEMBER else SYSTEM
    control.execute(who, c.Stop(WORK), KEY)
    last = control._pending.drafts[-1]
    assert isinstance(last.event, ev.RequestAnswered)
    assert last.streams == (("tenant:acme",) if who is MEMBER else ("operator",))
    control.store.close()
