"""Policies and facts as documents: they decide where work may be, and what is no longer allowed moves and is told why."""

from dataclasses import replace

import pytest

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.codec import from_normalised, normalise
from headrace.core.errors import HeadraceError
from headrace.core.ids import SiteId
from headrace.core.scheduling.explain import explain
from headrace.core.sovereignty.law import PolicyText, SiteFacts, Stated
from headrace.core.units import MS_PER_DAY, MS_PER_MINUTE
from headrace.core.workload import EndReason, PolicyRef, State
from headrace.core.world import World
from headrace.documents import load
from headrace.policy.engine import policies
from tests.core.small import ACME, ALBION, FJORD, RUNNING, Core, core, ended, job

STAFF = """
@id("staff") permit (principal, action, resource) when { ["NO", "GB"].containsAll(resource.staff_countries) };
"""
CERTIFIED = """
@id("good") permit (principal, action, resource) when { resource.certified_until.iso27001 >= context.day };
"""
NORWAY, ABROAD = "NO", "NO US"
NOW_DAY = 20_775


def law() -> Core:
    """A core that judges as a control plane does, with two policies."""
    one = core()
    one.world = World(one.world.state, policies())
    for name, text in (("staff", STAFF), ("certified", CERTIFIED)):
        declare(one, "policy", PolicyText(name, text))
    return one


def declare(one: Core, kind: str, value: PolicyText | SiteFacts) -> list[ev.Event]:
    """Apply a document about law."""
    document = c.NormalisedDocument(kind, value.id, normalise(kind, value.id, value))
    return one.made(c.ApplyDocuments((document,)))


def staff(site: SiteId, countries: str) -> SiteFacts:
    """From where the staff of a site has access."""
    return SiteFacts(site, (Stated("staff_countries", countries, "the register of staff"),))


def running(one: Core, policy: str) -> str:
    """A job under a policy runs; the site that it got."""
    one.submit(job("work", policy=PolicyRef(profile=policy), grace_ms=5_000))
    (placement,) = one.place()
    one.report(placement, RUNNING)
    return one.state.placements[placement].site


def test_a_declared_policy_decides_by_stated_facts_and_unknown_is_not_clean() -> None:
    """A site of which nobody says who works there takes nobody who asks for that."""
    one = law()
    declare(one, "facts", staff(ALBION, NORWAY))
    assert running(one, "staff") == ALBION


def test_nothing_runs_under_a_policy_before_its_facts_are_known() -> None:
    """It is refused for good only as far as the estate is known today."""
    one = law()
    one.submit(job("work", policy=PolicyRef(profile="staff")))
    (work,) = one.state.workloads.values()
    assert work.state is State.REFUSED
    (refused,) = [event for event in one.events if isinstance(event, ev.WorkloadRefused)]
    assert "staff" in refused.detail


def test_what_is_no_longer_allowed_is_named_moves_within_its_grace_and_is_told_why() -> None:
    """The fact changes, and is applied though something runs: that leaves, and goes on where it may."""
    one = law()
    declare(one, "facts", staff(ALBION, NORWAY))
    assert running(one, "staff") == ALBION
    declare(one, "facts", staff(FJORD, NORWAY))
    declare(one, "facts", staff(ALBION, ABROAD))
    (moved,) = one.made(c.FollowLaw())
    against = {known.place for known in one.state.verdicts.values() if not known.allowed}
    assert f"site:{ALBION}" in against
    assert isinstance(moved, ev.EvictionRequested)
    assert moved.reason is EndReason.FORBIDDEN
    assert moved.detail == (
        "it may not be there any more: policy staff does not permit it: site.staff_countries is NO US (rule staff); "
        f"changed: facts {ALBION} (staff_countries: the register of staff)"
    )
    assert one.made(c.FollowLaw()) == [], "it was told"
    one.report(moved.placement, ended(0, 143))
    (again,) = one.place()
    assert one.state.placements[again].site == FJORD


def test_a_certificate_that_lapses_is_judged_on_the_day_after() -> None:
    """Nobody has to apply anything: days change facts too."""
    one = law()
    today = one.now_ms // MS_PER_DAY
    last = SiteFacts(FJORD, (Stated("certified_until.iso27001", today, "certificate 7"),))
    declare(one, "facts", last)
    assert running(one, "certified") == FJORD
    before = one.world.laws.stamp
    assert one.made(c.FollowLaw()) == []
    one.now_ms += MS_PER_DAY
    events = one.made(c.FollowLaw())
    assert one.world.laws.stamp > before
    assert [type(event) for event in events] == [ev.EvictionRequested]


def test_a_certificate_lapses_by_days_of_utc_whatever_the_zone_of_the_operator() -> None:
    """Where a day begins later or earlier than in UTC, that is not when it ends."""
    one = law()
    assert one.world.estate is not None
    operator = replace(one.world.estate.operator, zone="Pacific/Auckland")
    one.apply(replace(one.world.estate, operator=operator))
    today = one.now_ms // MS_PER_DAY
    declare(one, "facts", SiteFacts(FJORD, (Stated("certified_until.iso27001", today, "certificate 7"),)))
    assert running(one, "certified") == FJORD
    one.now_ms = (today + 1) * MS_PER_DAY - 1
    assert one.made(c.FollowLaw()) == []
    one.now_ms += 1
    assert [type(event) for event in one.made(c.FollowLaw())] == [ev.EvictionRequested]


def test_of_an_operator_that_no_document_describes_everything_is_unknown() -> None:
    """Facts may name a company before anybody has stated who holds it; what else is stated of the site counts."""
    one = law()
    declare(one, "facts", replace(staff(FJORD, NORWAY), operator="house", owner="house"))
    assert running(one, "staff") == FJORD
    declare(one, "policy", PolicyText("norwegian", NORWEGIAN))
    one.submit(job("other", policy=PolicyRef(profile="norwegian")))
    assert list(one.state.workloads.values())[-1].state is State.REFUSED


def test_who_was_refused_under_a_policy_that_is_gone_is_still_told_why() -> None:
    """Nobody is under it, so it may go; what it refused goes on to say so."""
    one = law()
    one.submit(job("work", policy=PolicyRef(profile="staff")))
    (work,) = one.state.workloads.values()
    one.do(c.RemoveDocument("policy", "staff"))
    assert "staff" in explain(one.world.snapshot(one.now_ms), work.id).line


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("facts", staff(SiteId("fjrod"), NORWAY), "Did you mean fjord"),
    ],
)
def test_a_document_about_what_is_not_there_is_refused(kind: str, value: SiteFacts, says: str) -> None:
    """Facts of no site would be of no use, and a slip in a name would make a site unknown."""
    one = law()
    with pytest.raises(HeadraceError) as raised:
        declare(one, kind, value)
    assert says in raised.value.problem.next_step


def test_a_policy_that_somebody_uses_stays_and_one_that_nobody_has_is_named() -> None:
    """Of tenants and of workloads."""
    one = law()
    declare(one, "facts", staff(ALBION, NORWAY))
    running(one, "staff")
    with pytest.raises(HeadraceError, match="in use by workloads"):
        one.do(c.RemoveDocument("policy", "staff"))
    with pytest.raises(HeadraceError) as raised:
        one.submit(job("other", policy=PolicyRef(profile="staf")))
    assert "Did you mean staff" in raised.value.problem.next_step
    tenant = replace(one.world.tenants[ACME], policy="nowhere")
    with pytest.raises(HeadraceError, match="nowhere"):
        one.apply(tenant)
    one.do(c.RemoveDocument("policy", "certified"))
    assert "certified" not in one.world.laws.policies


def test_documents_about_law_come_as_texts_and_say_what_is_wrong_with_them() -> None:
    """Days of certificates are days; rules are checked; a fact that there is none of is named."""
    text = """
kind: policy
name: ours
cedar: |
  @id("here") permit (principal, action, resource) when { resource.country == "NO" };
---
kind: facts
site: fjord
operator: nscale
facts:
  - {fact: certified_until.iso27001, value: 2026-11-18, source: certificate 7, as_of: 2026-10-01}
  - {fact: staff_countries, value: [NO, GB], source: register}
"""
    policy, facts = load(text.encode(), "law.yaml")
    assert policy.value == PolicyText(
        "ours", '@id("here") permit (principal, action, resource) when { resource.country == "NO" };\n'
    )
    assert facts.value == SiteFacts(
        FJORD,
        (
            Stated("certified_until.iso27001", NOW_DAY, "certificate 7", "2026-10-01"),
            Stated("staff_countries", "GB NO", "register"),
        ),
        "nscale",
    )
    for one in (policy, facts):
        assert from_normalised(one.kind, one.normalised) == one.value
    for wrong, says in (
        (text.replace('NO" }', 'UK" }'), "GB"),
        (text.replace("staff_countries", "staf_countries"), "staff_countries"),
        (text.replace("2026-11-18", "soon"), "certified_until.iso27001"),
        (text.replace("[NO, GB]", "[NO, Narnia]"), "Narnia"),
        (text.replace("staff_countries, value: [NO, GB]", "country, value: GB"), "the estate says"),
    ):
        with pytest.raises(HeadraceError) as raised:
            load(wrong.encode(), "law.yaml")
        assert any(says in f"{problem.message} {problem.next_step}" for problem in raised.value.problems), (
            wrong
        )


OWNERS = """
kind: ownership
name: cap-table
sources: [{name: register, title: the register of companies}]
parties:
  - {name: operator, type: company, country: NO, headquarters: NO, source: register}
  - {name: founder, type: person, nationality: [NO], residence: [NO], source: register}
  - {name: fund, type: company, country: US, headquarters: US, source: register}
  - {name: state, type: state, country: US, source: register}
interests:
  - {name: founders, type: shares, holder: founder, of: operator, share: FOUNDER, source: register}
  - {name: funds, type: shares, holder: fund, of: operator, share: FUND, source: register}
  - {name: states, type: shares, holder: state, of: fund, share: 100%, source: register}
coverage:
  - {of: operator, complete: true, source: register}
  - {of: fund, complete: true, source: register}
sites:
  - {name: fjord, country: NO, operator: operator}
"""
NORWEGIAN = """
@id("norwegian") @reason("most of its operator is controlled from Norway")
permit (principal, action, resource) when { resource.operator.control_min_ppm.NO > 500000 };
"""


def test_who_controls_the_operator_decides_and_a_round_of_financing_moves_what_runs() -> None:
    """The cap table is a document; once the fund has most of it, nothing that asks for Norwegian control stays."""
    one = law()
    declare(one, "policy", PolicyText("norwegian", NORWEGIAN))
    before, after = (
        load(OWNERS.replace("FOUNDER", mine).replace("FUND", theirs).encode(), "owners.yaml")[0]
        for mine, theirs in (("80%", "20%"), ("40%", "60%"))
    )
    assert before.private == {}
    assert from_normalised("ownership", before.normalised) == before.value
    one.do(c.ApplyDocuments((c.NormalisedDocument("ownership", before.name, before.normalised),)))
    assert running(one, "norwegian") == FJORD
    assert one.made(c.FollowLaw()) == []
    one.do(c.ApplyDocuments((c.NormalisedDocument("ownership", after.name, after.normalised),)))
    (moved,) = one.made(c.FollowLaw())
    assert isinstance(moved, ev.EvictionRequested)
    assert moved.detail.endswith("; changed: ownership cap-table")
    assert "site.operator.control_min_ppm.NO is 400000 (rule norwegian)" in moved.detail


def test_a_changed_policy_is_named_as_what_changed_and_so_is_a_tenants_own() -> None:
    """And nothing of what another tenant has."""
    one = law()
    declare(one, "facts", staff(ALBION, NORWAY))
    assert running(one, "staff") == ALBION
    declare(one, "policy", PolicyText("staff", STAFF.replace('["NO", "GB"]', '["GB"]')))
    (moved,) = one.made(c.FollowLaw())
    assert isinstance(moved, ev.EvictionRequested)
    assert moved.detail.endswith("site.staff_countries is NO (rule staff); changed: policy staff")
    other = law()
    other.submit(job("work", grace_ms=5_000))
    (placement,) = other.place()
    other.report(placement, RUNNING)
    whose = replace(other.world.tenants[ACME], policy="staff")
    with pytest.raises(HeadraceError, match="no longer be allowed"):
        other.apply(whose)


def test_the_day_of_a_certificate_is_utc_wherever_the_operator_is() -> None:
    """At midnight of UTC it is one in Oslo since an hour: what was judged before is judged again all the same."""
    one = law()
    midnight_ms = (one.now_ms // MS_PER_DAY + 1) * MS_PER_DAY
    last = SiteFacts(
        FJORD, (Stated("certified_until.iso27001", midnight_ms // MS_PER_DAY - 1, "certificate 7"),)
    )
    declare(one, "facts", last)
    certified, fjord = PolicyRef(profile="certified"), one.world.fleet.site_index[FJORD]
    for after_ms, allowed in (
        (-20 * MS_PER_MINUTE, True),
        (-1, True),
        (0, False),
        (20 * MS_PER_MINUTE, False),
    ):
        one.world.at(midnight_ms + after_ms)
        assert one.world.place_verdict(ACME, certified, fjord).allowed is allowed, after_ms


def test_an_operator_that_no_document_has_is_unknown_and_not_the_estates() -> None:
    """Facts may name a company of which nobody has stated anything: decisions go on, and nothing of it is clean."""
    one = law()
    seated = '@id("here") permit (principal, action, resource) when { resource.operator.seat == "NO" };'
    declare(one, "policy", PolicyText("seated", seated))
    here = PolicyRef(profile="seated")
    assert one.world.place_verdict(ACME, here, one.world.fleet.site_index[FJORD]).allowed
    declare(one, "facts", SiteFacts(FJORD, (), operator="nobody-knows"))
    assert not one.world.place_verdict(ACME, here, one.world.fleet.site_index[FJORD]).allowed


def _owners(one: Core, name: str, text: str) -> None:
    (found,) = load(text.replace("cap-table", name).encode(), f"{name}.yaml")
    one.do(c.ApplyDocuments((c.NormalisedDocument("ownership", found.name, found.normalised),)))


def test_owners_documents_that_contradict_each_other_are_named_and_nothing_changes() -> None:
    """Each is right by itself; together somebody has more than all."""
    one = law()
    _owners(one, "first", OWNERS.replace("FOUNDER", "80%").replace("FUND", "20%"))
    with pytest.raises(HeadraceError, match="add up to"):
        _owners(one, "second", OWNERS.replace("FOUNDER", "80%").replace("FUND", "20%"))
    assert set(one.world.laws.owners) == {"first"}


SUPPLIED = """
@id("clean") permit (principal, action, resource) when { resource.exposure_custody.US == "no" };
"""


def test_whoever_any_document_names_as_a_supplier_counts() -> None:
    """A second document about the same site adds who has its keys in hand."""
    one = law()
    declare(one, "policy", PolicyText("clean", SUPPLIED))
    clean, fjord = PolicyRef(profile="clean"), one.world.fleet.site_index[FJORD]
    lists = "".join(
        f"  - {{of: operator, list: {what}, complete: true}}\n" for what in ("staff", "suppliers")
    )
    known = OWNERS.replace("FOUNDER", "80%").replace("FUND", "20%").replace("sites:\n", f"{lists}sites:\n")
    _owners(one, "first", known)
    assert one.world.place_verdict(ACME, clean, fjord).allowed
    head, _, _ = known.partition("interests:")
    supplier = "suppliers: [{supplier: fund, custody: [keys]}]"
    site = f"sites:\n  - {{name: fjord, country: NO, operator: operator, {supplier}}}\n"
    _owners(one, "second", head + site)
    assert not one.world.place_verdict(ACME, clean, fjord).allowed
