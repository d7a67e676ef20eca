"""What other law would newly allow and forbid, before it is applied; and verdicts that are remembered and never stale."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random

import pytest

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.codec import Core as Value
from headrace.core.codec import document_name, normalise
from headrace.core.contracts import Tenant
from headrace.core.ids import SiteId
from headrace.core.sovereignty.judging import Difference, would_change
from headrace.core.sovereignty.law import PolicyText, SiteFacts, Stated, facts_of
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import PolicyRef, Resources, State
from headrace.core.world import World
from headrace.policy.cedar import PROFILES
from headrace.policy.engine import policies
from tests.core.small import (
    ACME,
    ALBION,
    BOREALIS,
    FJORD,
    RUNNING,
    START_MS,
    Core,
    core,
    estate,
    job,
    site,
    tenant,
)

STAFF = """
@id("staff") permit (principal, action, resource) when { ["NO", "GB"].containsAll(resource.staff_countries) };
"""
CERTIFIED = """
@id("good") permit (principal, action, resource) when { resource.certified_until.iso27001 >= context.day };
"""
ENGLISH = STAFF.replace('["NO", "GB"]', '["GB"]')
CLEAN = '@id("clean") permit (principal, action, resource) when { resource.exposure.US == "no" };'
KINDS: dict[type, str] = {PolicyText: "policy", SiteFacts: "facts", Tenant: "tenant"}
DAY = START_MS // MS_PER_DAY


def documents(one: Core, *values: Value) -> dict[str, dict[str, object]]:
    """All documents, with some values in the place of those of their names."""
    found = dict(one.state.documents)
    for value in values:
        kind, name = KINDS[type(value)], document_name(value)
        found[f"{kind}/{name}"] = normalise(kind, name, value)
    return found


def declare(one: Core, *values: Value) -> None:
    """Apply documents."""
    for value in values:
        kind, name = KINDS[type(value)], document_name(value)
        one.do(c.ApplyDocuments((c.NormalisedDocument(kind, name, normalise(kind, name, value)),)))


def law(*values: Value) -> Core:
    """A core that judges as a control plane does."""
    one = core()
    one.world = World(one.world.state, policies())
    declare(one, PolicyText("staff", STAFF), PolicyText("clean", CLEAN), PolicyText("certified", CERTIFIED))
    declare(one, *values)
    return one


def staff(where: SiteId, countries: str) -> SiteFacts:
    """From where the staff of a site has access."""
    return SiteFacts(where, (Stated("staff_countries", countries, "the register of staff"),))


def asked(one: Core, *values: Value, later_ms: int = 0) -> Difference:
    """What other documents, or a later time, would change; the world is as it was."""
    before = repr(one.state)
    found = would_change(one.world, documents(one, *values), one.now_ms + later_ms)
    assert repr(one.state) == before
    return found


def lines(found: Difference) -> list[tuple[str, str, str, str]]:
    """What is newly forbidden and allowed, in short."""
    said = {True: "allows", False: "forbids"}
    return [(said[one.after.allowed], one.tenant, one.policy, one.site) for one in found.changes]


def run(one: Core, name: str, policy: str, **more: object) -> str:
    """A job under a policy runs."""
    (ident,) = one.submit(job(name, policy=PolicyRef(profile=policy), **more))
    for placement in one.place():
        one.report(placement, RUNNING)
    assert one.state.workloads[ident].state is State.RUNNING
    return ident


def wait(one: Core, name: str, policy: str, **more: object) -> str:
    """A job under a policy waits: it was allowed somewhere when it was submitted, and is not now."""
    now = one.world.laws.sites.get(FJORD, staff(FJORD, "unknown"))
    open_to_all = SiteFacts(FJORD, (Stated("staff_countries", "NO", "x"), Stated("exposure.US", "no", "x")))
    declare(one, open_to_all)
    (ident,) = one.submit(job(name, policy=PolicyRef(profile=policy), **more))
    declare(one, now)
    assert one.state.workloads[ident].state is State.QUEUED
    return ident


def test_nothing_changes_when_nothing_changes() -> None:
    """The same documents, and the same day."""
    one = law(staff(FJORD, "NO"))
    run(one, "work", "staff")
    found = asked(one)
    assert (found.changes, found.freed, found.bound) == ((), (), ())
    assert found.classes == 3, "of those who run, and what each tenant's work is under by itself"


def test_a_changed_policy_says_what_it_newly_allows_and_forbids() -> None:
    """By tenant, policy and site, forbidden first, with both verdicts; what has to go, and where it may go on."""
    one = law(staff(FJORD, "NO"), staff(ALBION, "GB"))
    work = run(one, "work", "staff", site=FJORD)
    free = run(one, "free", "staff")
    found = asked(one, PolicyText("staff", ENGLISH))
    assert lines(found) == [("forbids", ACME, "staff", FJORD)]
    assert found.changes[0].before.reasons == ("policy staff: staff",)
    assert "site.staff_countries is NO" in found.changes[0].after.reasons[0]
    assert found.changes[0].running == (work, free)
    assert [(one.workload, one.site, one.sites) for one in found.bound] == [
        (work, FJORD, ()),
        (free, FJORD, (ALBION,)),
    ]


def test_a_changed_fact_says_what_it_newly_allows_and_forbids() -> None:
    """What was clean is not, and what becomes known to be clean is allowed; a fact that goes makes it unknown."""
    one = law(staff(FJORD, "NO"), staff(ALBION, "unknown"))
    run(one, "work", "staff")
    found = asked(one, staff(FJORD, "NO US"), staff(ALBION, "GB"))
    assert lines(found) == [("forbids", ACME, "staff", FJORD), ("allows", ACME, "staff", ALBION)]
    assert lines(asked(one, SiteFacts(FJORD))) == [("forbids", ACME, "staff", FJORD)]


def test_what_waits_and_would_become_placeable_is_named_with_the_room_there_is() -> None:
    """Also that there is none now."""
    one = law()
    small = wait(one, "small", "clean")
    large = wait(one, "large", "clean", nodes=4, resources=Resources("lab", 4, 250, 16))
    elsewhere = wait(one, "elsewhere", "staff")
    run(one, "other", "public", site=FJORD)
    found = asked(one, SiteFacts(FJORD, (Stated("exposure.US", "no", "the register"),)))
    assert [(each.workload, each.sites, each.starts) for each in found.freed] == [
        (small, (FJORD,), FJORD),
        (large, (FJORD,), None),
    ]
    assert all(each.is_tried for each in found.freed)
    assert elsewhere not in {each.workload for each in found.freed}
    assert found.changes[0].waiting == (small, large)


def test_what_waits_and_could_go_nowhere_any_more_is_named() -> None:
    """It is not told for as long as one site would do."""
    one = law(staff(FJORD, "NO"), staff(ALBION, "GB"))
    for number in range(5):
        run(one, f"full-{number}", "public", nodes=1, site=FJORD if number < 4 else ALBION)
    (waits,) = one.submit(job("waits", policy=PolicyRef(profile="staff")))
    assert not asked(one, staff(FJORD, "US")).bound
    found = asked(one, staff(FJORD, "US"), staff(ALBION, "US"))
    assert [(each.workload, each.site, each.sites) for each in found.bound] == [(waits, None, ())]


def test_what_a_tenants_work_is_under_by_itself_is_judged_though_nothing_runs() -> None:
    """Each tenant's own policy at each site: before its first workload is submitted, somebody may want to know."""
    one = law(staff(FJORD, "NO"))
    declare(one, tenant(ACME, policy="staff"))
    assert lines(asked(one, staff(ALBION, "GB"))) == [("allows", ACME, "staff", ALBION)]
    moved = asked(one, tenant(BOREALIS, policy="staff"))
    assert lines(moved) == [("forbids", BOREALIS, "staff", ALBION)]
    assert moved.changes[0].before.reasons == ("policy public: known-country: the site's country is known",)


def test_a_tenants_policy_that_a_workload_names_too_is_one_line() -> None:
    """The same tenant, policy and site."""
    one = law(staff(FJORD, "NO"))
    declare(one, tenant(ACME, policy="staff"))
    work = run(one, "work", "staff")
    found = asked(one, staff(FJORD, "US"))
    assert lines(found) == [("forbids", ACME, "staff", FJORD)]
    assert found.changes[0].running == (work,)


def test_sites_of_another_tenant_alone_are_not_there() -> None:
    """What is allowed there changes for its own tenant."""
    one = law(staff(FJORD, "NO"))
    one.apply(estate(site(FJORD, "NO", racks=2, dedicated_to=BOREALIS), site(ALBION, "GB")))
    declare(one, tenant(ACME, policy="staff"), tenant(BOREALIS, policy="staff"))
    assert lines(asked(one, staff(FJORD, "US"))) == [("forbids", BOREALIS, "staff", FJORD)]


@pytest.mark.parametrize(
    ("days", "forbidden"),
    [(0, False), (9, False), (10, True), (400, True)],
)
def test_a_certificate_ends_the_day_after_its_last(days: int, forbidden: bool) -> None:
    """A day to come is judged as a change is: what lapses by then is named beforehand."""
    one = law(SiteFacts(FJORD, (Stated("certified_until.iso27001", DAY + 9, "certificate 7"),)))
    run(one, "work", "certified")
    found = asked(one, later_ms=days * MS_PER_DAY)
    assert [each.site for each in found.changes if not each.after.allowed] == [FJORD] * forbidden
    assert [each.site for each in found.bound] == [FJORD] * forbidden


def test_what_is_shown_before_is_what_happens_after() -> None:
    """Random facts of random sites: exactly those that were named are told to leave."""
    chance = Random(7)
    one = law(staff(FJORD, "NO"), staff(ALBION, "GB"))
    for number in range(6):
        one.submit(
            job(f"work-{number}", policy=PolicyRef(profile=chance.choice(("staff", "certified", "public"))))
        )
    for placement in one.place():
        one.report(placement, RUNNING)
    told = 0
    for _ in range(12):
        facts = staff(chance.choice((FJORD, ALBION)), chance.choice(("NO", "GB", "US", "unknown")))
        before = {placed.id: placed.stop_reason for placed in one.state.placements.values()}
        shown = {each.workload for each in asked(one, facts).bound if each.site}
        declare(one, facts)
        made = one.made(c.FollowLaw())
        left = {
            one.state.placements[event.placement].workload
            for event in made
            if isinstance(event, ev.EvictionRequested) and before[event.placement] is None
        }
        assert left <= shown
        # Who is told already stays told, and is not told twice.
        assert all(before[one.state.workloads[ident].placement] is not None for ident in shown - left)  # type: ignore[index]
        told += len(left)
    assert told


def test_days_are_named_in_verdicts_only_of_policies_that_ask_for_them() -> None:
    """So that a class that is judged each day has one verdict, and not one for each day."""
    one = law(SiteFacts(FJORD, (Stated("certified_until.iso27001", DAY + 9, "certificate 7"),)))
    places = [PolicyRef(profile=name) for name in ("public", "certified")]
    today = [one.world.place_verdict(ACME, ref, 0) for ref in places]
    one.world.at(one.now_ms + MS_PER_DAY)
    public, certified = (one.world.place_verdict(ACME, ref, 0) for ref in places)
    assert public.id == today[0].id
    assert certified.id != today[1].id


FACTS = ("staff_countries", "exposure.US", "certified_until.iso27001", "encryption", "control_max_ppm.US")


def _value(chance: Random, fact: str) -> str | int:
    if fact == "certified_until.iso27001":
        return DAY + chance.randrange(-3, 4)
    if fact == "control_max_ppm.US":
        return chance.choice((0, 300_000))
    return chance.choice(
        {"exposure.US": ("yes", "no"), "encryption": ("at-rest", "")}.get(fact, ("NO", "GB US", ""))
    )


def _some(chance: Random) -> Iterable[Value]:
    match chance.randrange(6):
        case 0:
            yield PolicyText("ours", chance.choice((STAFF, ENGLISH, CLEAN, CERTIFIED)))
        case 1:
            yield tenant(
                chance.choice((ACME, BOREALIS)),
                policy=chance.choice(("", "ours", "nordic-only")),
                country="NO",
            )
        case _:
            chosen = sorted(chance.sample(FACTS, 3))
            facts = tuple(Stated(fact, _value(chance, fact), "somebody") for fact in chosen)
            yield SiteFacts(chance.choice((FJORD, ALBION)), facts)


@pytest.mark.parametrize("seed", range(4))
def test_remembered_verdicts_are_those_that_would_be_made_now(seed: int) -> None:
    """Through any order of changes to sites, policies, tenants and the day; some of them asked for in between, some not."""
    chance = Random(seed)
    one = law(PolicyText("ours", STAFF))
    refs = [
        PolicyRef(),
        PolicyRef(profile="ours"),
        PolicyRef(countries=("NO",)),
        *(PolicyRef(name) for name in PROFILES),
    ]
    for _ in range(40):
        declare(one, *_some(chance))
        if chance.random() < 0.2:
            one.now_ms += MS_PER_DAY
        one.world.at(one.now_ms)
        fresh = World(replace(one.world.state), policies())
        fresh.at(one.now_ms)
        for ref in chance.sample(refs, 4):
            for who in (ACME, BOREALIS):
                for number in (0, 1):
                    assert one.world.place_verdict(who, ref, number) == fresh.place_verdict(who, ref, number)


def test_a_change_of_one_sites_facts_takes_along_only_what_rests_on_it() -> None:
    """The verdicts about the others stay; the day takes all."""
    one = law(staff(FJORD, "NO"), staff(ALBION, "GB"))
    ref = PolicyRef(profile="staff")
    before = [one.world.place_verdict(ACME, ref, number) for number in (0, 1)]
    declare(one, staff(ALBION, "US"))
    # What is remembered is the same object.
    assert one.world.place_verdict(ACME, ref, 0) is before[0]
    assert not one.world.place_verdict(ACME, ref, 1).allowed
    one.world.at(one.now_ms + MS_PER_DAY)
    assert one.world.place_verdict(ACME, ref, 0) is not before[0]


def test_the_estate_says_what_it_declares_and_alone_in_which_country_a_site_is() -> None:
    """A country that isn't declared is unknown, and stays so whatever anybody states of the site."""
    bare = site(FJORD, "", energy_source="hydro")
    assert facts_of(bare, isolation="uid", operator_country="NO") == {
        "site.country": "unknown",
        "site.energy_source": "hydro",
        "site.isolation": "uid",
        "site.operator.seat": "NO",
    }
    one = law(SiteFacts(FJORD, (Stated("country", "GB", "somebody"),)))
    assert not one.world.place_verdict(ACME, PolicyRef(countries=("GB",)), 0).allowed
    assert one.world.place_verdict(ACME, PolicyRef(profile="nordic-only"), 0).allowed
