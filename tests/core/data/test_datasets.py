"""Data sets: declared, copied, removed, judged again, and used only where they lie and may be used."""

from dataclasses import replace

import pytest

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.authority import Role, Subject
from headrace.core.data import events as of_data
from headrace.core.data.model import CopyState, Dataset
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.ids import DataId, SiteId, WorkloadId
from headrace.core.scheduling.check import check
from headrace.core.scheduling.explain import explain
from headrace.core.scheduling.proposal import Plan, ProposedPlacement
from headrace.core.workload import PolicyRef, RankPlace
from tests.core.small import (
    ACME,
    ADMIN,
    ALBION,
    BOREALIS,
    FJORD,
    MEMBER,
    OPERATOR,
    RUNNING,
    Core,
    contract,
    core,
    dataset,
    document,
    ended,
    job,
    tenant,
)

CORPUS = DataId("acme.corpus")


def stored(*more: Dataset) -> Core:
    """A core whose two sites have stores, with a data set that lies in Norway."""
    made = core()
    made.do(c.DeclareStores((FJORD, ALBION)))
    for one in more or (dataset(),):
        made.apply(one)
        made.arrive(one.id, one.site)
    return made


def state_of(one: Core, site: SiteId, data: DataId = CORPUS) -> tuple[CopyState, str]:
    """The state of a copy, and why it may not lie there any more."""
    copy = one.state.copies[data][site]
    return copy.state, copy.unlawful


def using(*names: str, **policy: object) -> PolicyRef:
    """A policy with the data that a workload uses."""
    return PolicyRef(data=names, **policy)  # type: ignore[arg-type]


def refused(one: Core, command: c.Command, who: Subject = MEMBER) -> HeadraceError:
    """The error of a command, which leaves no event behind."""
    before = len(one.events)
    with pytest.raises(HeadraceError) as raised:
        one.do(command, who)
    assert len(one.events) == before
    return raised.value


# -- declared and copied -----------------------------------------------------------------------------------------------


def test_a_first_copy_is_looked_at_before_it_is_present() -> None:
    """What is declared is only on its way until somebody has seen its bytes."""
    one = core()
    one.do(c.DeclareStores((FJORD,)))
    one.do(c.ApplyData(ACME, (document(dataset()),)), MEMBER)
    assert state_of(one, FJORD) == (CopyState.COPYING, "")
    one.arrive(CORPUS, FJORD)
    assert state_of(one, FJORD) == (CopyState.PRESENT, "")


def test_other_bytes_are_no_copy_whatever_is_reported() -> None:
    """A report with another digest, or fewer bytes, fails the copy with both named, and alarms."""
    for digest, size in (("e" * 64, 1_000), ("d" * 64, 999)):
        one = core()
        one.do(c.DeclareStores((FJORD,)))
        one.apply(dataset())
        failed, alarm = one.made(c.ReportCopies((c.CopyReport(CORPUS, FJORD, "present", digest, size),)))
        assert isinstance(failed, of_data.CopyFailed)
        assert digest in failed.problem
        assert isinstance(alarm, ev.AlarmRaised)
        assert state_of(one, FJORD)[0] is CopyState.FAILED


def test_a_copy_is_decided_by_right_and_by_policy_and_both_are_on_record() -> None:
    """The event names two verdicts: that whoever asked may, and that the data may lie there."""
    one = stored()
    (asked,) = one.made(c.CopyData(CORPUS, ALBION), MEMBER)
    assert isinstance(asked, of_data.CopyRequested)
    verdicts = [one.state.verdicts[name] for name in asked.verdicts]
    assert [(its.action, its.allowed) for its in verdicts] == [("dataset.copy", True), ("data.copy", True)]
    assert verdicts[1].place == "site:albion"
    assert asked.source == FJORD


def test_a_copy_that_policy_forbids_is_refused_with_the_rule_and_what_would_be_allowed() -> None:
    """Named: the policy, why, where it may lie, and where to look."""
    one = stored(dataset(policy=PolicyRef(countries=("NO",))))
    problem = refused(one, c.CopyData(CORPUS, ALBION)).problem
    assert problem.code is ProblemCode.JURISDICTION
    assert "countries:NO allows NO; the site is in GB" in problem.message
    assert problem.next_step == "It may lie at fjord. 'headrace data where corpus' says why."


def test_a_data_set_without_a_policy_is_under_its_tenants() -> None:
    """As workloads are."""
    one = core()
    one.do(c.DeclareStores((FJORD, ALBION)))
    one.apply(tenant(ACME, policy="nordic-only"), dataset())
    one.arrive(CORPUS, FJORD)
    assert "nordic-only" in refused(one, c.CopyData(CORPUS, ALBION)).problem.message


REFUSALS: dict[str, tuple[c.Command, str]] = {
    "a site that there is not": (
        c.CopyData(CORPUS, SiteId("nowhere")),
        "no site 'nowhere'; known: albion, fjord",
    ),
    "a data set that there is not": (c.CopyData(DataId("acme.none"), ALBION), "no data set 'acme.none'"),
    "another tenant's": (c.CopyData(DataId("borealis.scans"), ALBION), "no data set 'borealis.scans'"),
    "a copy that there is not": (
        c.RemoveCopy(CORPUS, ALBION),
        "no copy of acme.corpus at 'albion'; known: fjord",
    ),
    "the last copy": (c.RemoveCopy(CORPUS, FJORD), "last copy of acme.corpus"),
    "a file where no copy is": (
        c.OpenData(CORPUS, ALBION, "a"),
        "no present copy of acme.corpus at 'albion'",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_asked_is_named(what: str) -> None:
    """And leaves nothing behind."""
    one = stored(dataset(), dataset("scans", tenant=BOREALIS))
    command, said = REFUSALS[what]
    assert said in refused(one, command).problem.line()


def test_a_site_without_a_store_is_refused_with_the_next_step() -> None:
    """For a copy, and for the first of a data set."""
    one = core()
    one.do(c.DeclareStores((FJORD,)))
    one.apply(dataset())
    one.arrive(CORPUS, FJORD)
    problem = refused(one, c.CopyData(CORPUS, ALBION)).problem
    assert "has no store" in problem.message
    assert "stores.yaml" in problem.next_step
    error = refused(one, c.ApplyData(ACME, (document(dataset("more", site=ALBION)),)))
    assert "has no store" in error.problem.message


def test_a_copy_asked_for_twice_is_one() -> None:
    """On its way, or present: nothing happens."""
    one = stored()
    one.do(c.CopyData(CORPUS, ALBION), MEMBER)
    for _ in range(2):
        assert one.do(c.CopyData(CORPUS, ALBION), MEMBER) == c.Named("acme.corpus@albion", changed=False)
        one.arrive(CORPUS, ALBION)


def test_a_store_that_cannot_now_delays_a_copy_and_says_so_once() -> None:
    """The disk is full: it stays on its way, with the problem named; repeated, the report makes no event."""
    one = core()
    one.do(c.DeclareStores((FJORD,)))
    one.apply(dataset())
    full = c.ReportCopies((c.CopyReport(CORPUS, FJORD, "delayed", problem="no space left"),))
    (event,) = one.made(full)
    assert isinstance(event, of_data.CopyFailed)
    assert not event.ended
    assert one.made(full) == []
    assert state_of(one, FJORD)[0] is CopyState.COPYING
    one.arrive(CORPUS, FJORD)
    assert one.state.copies[CORPUS][FJORD].problem == ""


def test_a_copy_that_vanished_is_an_alarm_and_no_copy() -> None:
    """Nothing is placed on bytes that are not there."""
    one = stored()
    _, alarm = one.made(c.ReportCopies((c.CopyReport(CORPUS, FJORD, "gone", problem="it is gone"),)))
    assert isinstance(alarm, ev.AlarmRaised)
    assert state_of(one, FJORD)[0] is CopyState.GONE


def test_a_removal_waits_for_nobody_who_does_not_use_it_and_refuses_for_who_does() -> None:
    """What runs on it is named; once it has ended, the copy goes."""
    one = stored()
    work, placement = one.started(job(policy=using("corpus")))
    error = refused(one, c.RemoveCopy(CORPUS, FJORD, last=True))
    assert (error.problem.code, error.problem.related) == (ProblemCode.IN_USE, (work.id,))
    one.do(c.Stop(work.id))
    one.report(placement, ended(0))
    one.do(c.RemoveCopy(CORPUS, FJORD, last=True), MEMBER)
    assert state_of(one, FJORD)[0] is CopyState.REMOVING
    one.do(c.ReportCopies((c.CopyReport(CORPUS, FJORD, "gone"),)))
    assert state_of(one, FJORD)[0] is CopyState.GONE


# -- documents ---------------------------------------------------------------------------------------------------------

CHANGES = {
    "digest": replace(dataset(), digest="e" * 64),
    "size": replace(dataset(), size_bytes=1),
    "site": replace(dataset(), site=ALBION),
}


@pytest.mark.parametrize("what", CHANGES)
def test_other_bytes_are_another_data_set(what: str) -> None:
    """What its copies were compared with can't change under them."""
    one = stored()
    problem = refused(one, c.ApplyData(ACME, (document(CHANGES[what]),))).problem
    assert what in problem.message
    assert "another name" in problem.next_step


def test_a_data_set_in_use_keeps_its_document_its_tenant_its_policy_and_its_site() -> None:
    """Each removal is refused, with what to remove first."""
    one = stored()
    one.submit(job(policy=using("corpus")))
    for command in (c.RemoveDocument("dataset", "acme.corpus"), c.RemoveDocument("tenant", "acme")):
        error = refused(one, command, OPERATOR)
        assert any("data set" in problem.message for problem in error.problems)
    smaller = one.state.documents["estate/op"] | {"sites": one.state.documents["estate/op"]["sites"][1:]}
    gone = refused(one, c.ApplyDocuments((c.NormalisedDocument("estate", "op", smaller),)), OPERATOR)
    assert any("acme.corpus" in problem.message for problem in gone.problems)


def test_a_tenant_declares_its_own_data_and_nothing_else() -> None:
    """Neither another's, nor any other kind of document."""
    one = core()
    one.do(c.DeclareStores((FJORD,)))
    for documents in ((document(dataset(tenant=BOREALIS)),), (document(contract(ACME)),)):
        assert refused(one, c.ApplyData(ACME, documents), ADMIN).problem.code is ProblemCode.FORBIDDEN


# -- used --------------------------------------------------------------------------------------------------------------


def test_work_runs_only_where_its_data_lies() -> None:
    """Under a policy that allows both sites; and what rests on which verdicts is on record."""
    one = stored()
    one.do(c.CopyData(CORPUS, ALBION), MEMBER)
    first = one.submit(job("first", policy=using("corpus"), site=ALBION))[0]
    assert one.place() == []
    one.arrive(CORPUS, ALBION)
    (placement,) = one.place()
    assert one.state.placements[placement].workload == first
    made = next(event for event in one.events if isinstance(event, ev.PlacementMade))
    assert [one.state.verdicts[name].action for name in made.verdicts] == [
        "workload.place",
        "data.copy",
        "workload.place",
    ]


def test_a_workload_that_waits_for_data_says_what_lacks_and_which_copy_would_help() -> None:
    """At the site that it asks for; and the copy is one that it could order."""
    one = stored()
    ident = one.submit(job(policy=using("corpus"), site=ALBION))[0]
    found = explain(one.world.snapshot(one.now_ms), ident)
    assert found.refusal is not None
    assert found.refusal.name == "DATA"
    assert "data set corpus is not there; it is at fjord" in found.line
    assert "would start at albion once 'headrace data copy corpus --to albion' is done" in found.line
    one.do(c.CopyData(CORPUS, ALBION), MEMBER)
    assert "would start at albion once corpus has come" in explain(one.world.snapshot(one.now_ms), ident).line
    one.arrive(CORPUS, ALBION)
    assert len(one.place()) == 1


def test_where_its_data_lies_is_full_the_other_site_is_named_too() -> None:
    """What would help first, and where data alone lacks beside it."""
    one = stored()
    one.started(*(job(f"busy-{number}", nodes=1, site=FJORD) for number in range(16)))
    for _ in range(20):
        for placement in one.place():
            one.report(placement, RUNNING)
    ident = one.submit(job(policy=using("corpus")))[0]
    line = explain(one.world.snapshot(one.now_ms), ident).line
    if one.place():
        pytest.fail(f"the site is not full: {line}")
    assert "'headrace data copy corpus --to albion'" in line


def test_the_policy_of_data_keeps_work_away_however_free_its_own_is() -> None:
    """Refused for good where nothing that the data allows is left, with the data set and its policy named."""
    one = stored(dataset(policy=PolicyRef(countries=("NO",))))
    ident = one.submit(job(policy=using("corpus"), site=ALBION))[0]
    work = one.state.workloads[ident]
    assert work.state.value == "refused"
    assert "data set corpus: policy countries:NO allows NO; the site is in GB" in work.reason


def test_unknown_data_is_named_with_what_there_is() -> None:
    """A name that is another tenant's is as unknown as one that nobody has."""
    one = stored(dataset(), dataset("scans", tenant=BOREALIS))
    for name in ("scans", "nothing"):
        with pytest.raises(HeadraceError) as raised:
            one.submit(job(policy=using(name)))
        assert raised.value.problem.line() == f"workloads[0].data: no data set {name!r}; known: corpus."


# -- change ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("does", ["keep", "remove"])
def test_a_copy_that_may_not_lie_there_any_more_is_named_and_goes_or_is_held(does: str) -> None:
    """Once: an alarm and the copy's own word; what uses it has to go; the copy itself only as its tenant said."""
    one = stored(dataset(on_forbidden=does, grace_ms=60_000))
    work, placement = one.started(job(policy=using("corpus")))
    one.apply(dataset(on_forbidden=does, grace_ms=60_000, policy=PolicyRef(countries=("GB",))))
    one.do(c.FollowLaw())
    one.do(c.FollowLaw())
    stop = one.state.placements[placement].stop_reason
    assert stop is not None
    assert stop.value == "forbidden"
    (alarm,) = [alarm for _, alarm in one.state.alarms]
    assert (alarm.promise, alarm.subject) == (2, "acme.corpus@fjord")
    copy = one.state.copies[CORPUS][FJORD]
    assert "countries:GB" in copy.unlawful
    if does == "keep":
        assert copy.state is CopyState.PRESENT
        assert "held, not lawful" in alarm.detail
        one.apply(dataset(on_forbidden=does, grace_ms=60_000))
        one.do(c.FollowLaw())
        assert one.state.copies[CORPUS][FJORD].unlawful == ""
    else:
        assert copy.state is CopyState.REMOVING
        assert copy.not_before_ms == one.now_ms + 60_000
    assert work.state.value == "stopping"


def test_a_copy_on_its_way_is_given_up_when_it_may_not_come() -> None:
    """The law changed meanwhile: its bytes never become a copy."""
    one = stored()
    one.do(c.CopyData(CORPUS, ALBION), MEMBER)
    one.apply(dataset(policy=PolicyRef(countries=("NO",))))
    one.do(c.FollowLaw())
    assert state_of(one, ALBION)[0] is CopyState.REMOVING
    assert one.arrive(CORPUS, ALBION) == []


def test_erasing_a_tenant_removes_its_data() -> None:
    """Every copy goes, though it is the last."""
    one = stored()
    one.do(c.EraseTenant(ACME), OPERATOR)
    assert state_of(one, FJORD)[0] is CopyState.REMOVING


# -- people ------------------------------------------------------------------------------------------------------------


def _operator(*countries: str) -> Subject:
    return Subject("token", "t-1", Role.OPERATOR_ADMIN, None, countries)


PEOPLE = {
    "the tenant's own": (MEMBER, True),
    "the operator's, from nobody knows where": (_operator(), False),
    "the operator's, from an allowed country": (_operator("NO"), True),
    "the operator's, from there and from elsewhere": (_operator("NO", "US"), False),
    "the operator's, from elsewhere": (_operator("US"), False),
}


@pytest.mark.parametrize("whose", PEOPLE)
def test_who_may_read_logs_and_open_data_hangs_on_whose_people_they_are_and_from_where(whose: str) -> None:
    """Under a list of countries; what nobody stated is no country of it."""
    who, may = PEOPLE[whose]
    policy = PolicyRef(countries=("NO",))
    one = stored(dataset(policy=policy))
    work, _ = one.started(job(policy=replace(policy, data=("corpus",))))
    for command in (c.ReadLog(work.id, 0), c.OpenData(CORPUS, FJORD, "a")):
        if may:
            (event,) = one.made(command, who)
            assert isinstance(event, ev.LogRead | of_data.DataRead)
            verdict = one.state.verdicts[event.verdicts[-1]]
            assert (verdict.action, verdict.allowed) in (("logs.read", True), ("support.access", True))
            assert verdict.subject.endswith("@acme")
        else:
            problem = refused(one, command, who).problem
            assert problem.code is ProblemCode.FORBIDDEN
            assert "--country" in problem.next_step


# -- the second opinion ------------------------------------------------------------------------------------------------


def test_the_independent_check_finds_work_that_is_placed_without_its_data() -> None:
    """Where no copy is, where it has other bytes, and where the data's own policy forbids it."""
    one = stored(dataset(policy=PolicyRef(countries=("NO",))))
    ident = one.submit(job(policy=using("corpus")))[0]

    def rules(node: str) -> set[str]:
        need = one.state.workloads[ident].spec.resources
        ranks = (RankPlace(node, 1, need.cpu_milli, need.memory_mb),)
        proposed = ProposedPlacement(WorkloadId(ident), SiteId(node.split("/", maxsplit=1)[0]), ranks)
        return {wrong.rule for wrong in check(one.world.snapshot(one.now_ms), Plan(0, (proposed,)))}

    assert rules("fjord/b/g-0-0") == set()
    assert rules("albion/b/g-0-0") == {"data", "jurisdiction"}
    one.state.copies[CORPUS][FJORD].digest = "e" * 64
    assert rules("fjord/b/g-0-0") == {"data"}
