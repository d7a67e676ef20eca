"""What `policy check` calls proven holds for all facts; what it can't prove it says."""

from collections.abc import Mapping
from random import Random

import pytest

from headrace.core.countries import COUNTRIES
from headrace.core.errors import HeadraceError
from headrace.policy.cedar import PROFILES, profile
from headrace.policy.check import BRIEF, Answer, Claim, Effort, Report, accepted, check
from headrace.policy.reading import PolicySet, load
from headrace.policy.schema import ACTIONS, Value, checked
from tests.policy.making import Maker, some_facts

HEAD = "(principal, action, resource)"
NORDIC = (
    '@id("nordic") permit (principal, action, resource) when { ["NO", "SE"].contains(resource.country) };'
)


PERMIT_HYDRO_AND_MORE = """@id("x") permit (principal, action, resource) when {
  resource.energy_source == "hydro" && resource.isolation == "uid" && resource.tenancy == "dedicated" &&
  resource.control_max_ppm.US < 5 && resource.control_min_ppm.US > 4 };"""


def _state(report: Report, claim: Claim, rule: str = "") -> str:
    found = [
        one for one in report.answers if one.claim is claim and (one.rule.id if one.rule else "") == rule
    ]
    assert found, (claim, rule)
    return found[0].state


TABLE: list[tuple[str, str, Claim, str]] = [
    # what is asked beside the permit of Norway and Sweden, whose claim, and what is found
    ('@id("x") permit (principal, action, resource) when { resource.country == "NO" && resource.country == "SE" };',
     "x", Claim.NEVER, "proven"),
    ('@id("x") permit (principal, action, resource) when { resource.control_max_ppm.US < 0 };', "x", Claim.NEVER, "proven"),
    ('@id("x") permit HEAD when { resource.control_min_ppm.US > 300000 && resource.control_max_ppm.US < 300001 };',
     "x", Claim.NEVER, "proven"),
    ('@id("x") permit HEAD when { resource.control_min_ppm.US > 300000 && resource.control_max_ppm.US < 300002 };',
     "x", Claim.NEVER, "disproven"),
    ('@id("x") permit (principal, action, resource) when { resource.certified_until.c5 >= context.day + 30 } '
     'unless { resource.certified_until.c5 >= context.day };', "x", Claim.NEVER, "refused"),
    ('@id("x") permit (principal, action, resource) when { ["NO"].containsAll(resource.staff_countries) && '
     'resource.staff_countries.contains("SE") };', "x", Claim.NEVER, "proven"),
    ('@id("x") permit (principal is Person, action == Action::"place", resource) when { true };', "x", Claim.NEVER, "refused"),
    ('@id("x") permit (principal, action, resource);', "x", Claim.ALWAYS, "proven"),
    ('@id("x") permit (principal, action, resource) when { context.day >= 0 };', "x", Claim.ALWAYS, "proven"),
    ('@id("x") permit (principal, action, resource) when { context.day > 0 };', "x", Claim.ALWAYS, "disproven"),
    ('@id("x") forbid HEAD unless { resource.country == "GB" };', "nordic", Claim.OVERRIDDEN, "proven"),
    ('@id("x") forbid HEAD unless { resource.country == "GB" };', "", Claim.FORBIDS_ALL, "proven"),
    ('@id("x") forbid (principal, action in Action::"run", resource) unless { resource.country == "GB" };',
     "nordic", Claim.OVERRIDDEN, "disproven"),
    ('@id("x") forbid HEAD unless { resource.country == "SE" };', "nordic", Claim.OVERRIDDEN, "disproven"),
    ('@id("x") forbid HEAD when { ["GB", "unknown"].contains(resource.country) };', "x", Claim.IDLE, "proven"),
    ('@id("x") forbid HEAD unless { resource.country == "SE" };', "x", Claim.IDLE, "disproven"),
    ('@id("x") forbid (principal, action, resource) unless { context.day >= 0 };', "x", Claim.NEVER, "proven"),
    ('@id("x") forbid (principal, action, resource);', "x", Claim.ALWAYS, "proven"),
    ('@id("x") permit (principal, action, resource) when { resource.id like "no-*" && resource.id like "*-se" };', "x",
     Claim.ALWAYS, "disproven"),
    ('@id("x") permit (principal, action, resource) when { resource.id like "a*" && resource == Site::"b" };', "x",
     Claim.NEVER, "unknown"),
    ('@id("x") permit (principal, action, resource) when { resource.control_max_ppm.US + resource.control_max_ppm.CN < 1 && '
     'resource.control_max_ppm.US > 1 };', "x", Claim.NEVER, "refused"),
    ('@id("x") permit (principal, action, resource) when { resource.outside_eu_ppm + resource.control_max_ppm.US < 0 };', "x",
     Claim.NEVER, "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "about", "claim", "state"), TABLE)
def test_each_claim_is_proven_disproven_or_left_open(rule: str, about: str, claim: Claim, state: str) -> None:
    """By hand: what a rule beside another one can and can't do."""
    rule = rule.replace("HEAD", HEAD)
    if state == "refused":
        with pytest.raises(HeadraceError):
            load(f"{NORDIC}\n{rule}", "x")
        return
    report = check(load(f"{NORDIC}\n{rule}", "x"))
    assert _state(report, claim, about) == state


@pytest.mark.parametrize(
    "condition",
    [
        "resource.certified_until.c5 >= context.day && resource.certified_until.c5 < 1000",
        "resource.certified_until.c5 >= context.day && context.day < 1000 && resource.certified_until.c5 < 2000",
        "resource.certified_until.c5 >= context.day + 450000 && resource.certified_until.iso27001 + 450000 < context.day",
        "resource.certified_until.c5 > resource.certified_until.iso27001",
    ],
)
def test_days_that_are_compared_with_more_than_today_are_not_called_proven(condition: str) -> None:
    """Today stands in the middle of its range: what could hold on another day alone is found, or left open."""
    found = load(f'@id("x") permit {HEAD} when {{ {condition} }};', "x", may_guess=True)
    assert _state(check(found), Claim.NEVER, "x") != "proven"


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_have_no_rule_without_use_and_nothing_is_left_open(name: str) -> None:
    """Each rule of a shipped profile can hold, need not, and makes a difference; all proven by a request."""
    report = check(profile(name))
    assert report.errors == ()
    assert report.warnings == ()
    assert report.compared > 10


def test_what_is_wrong_is_an_error_and_what_may_be_meant_a_warning() -> None:
    """A contradiction is refused by apply; a permit without conditions, or a forbid without use, is shown."""
    everything = check(load('@id("a") permit (principal, action, resource);', "x"))
    assert everything.errors == ()
    assert {one.claim for one in everything.warnings} == {Claim.ALWAYS, Claim.ALLOWS_ALL}
    nothing = check(
        load(
            '@id("a") permit (principal, action, resource); @id("b") forbid (principal, action, resource);',
            "x",
        )
    )
    assert {one.claim for one in nothing.errors} == {Claim.OVERRIDDEN, Claim.FORBIDS_ALL}


def test_a_search_that_may_not_finish_concludes_nothing() -> None:
    """Out of steps, a claim is unknown with the reason, never proven; a request that was found is still one."""
    found = load(f"{NORDIC}\n{PERMIT_HYDRO_AND_MORE}", "x")
    assert _state(check(found), Claim.NEVER, "x") == "proven"
    brief = check(found, Effort(steps=3))
    assert _state(brief, Claim.NEVER, "x") == "unknown"
    assert {one.state for one in brief.answers} <= {"unknown", "disproven"}
    assert all("3 steps" in one.why for one in brief.answers if one.state == "unknown")


def test_apply_accepts_what_has_no_error_and_names_what_has() -> None:
    """With the place of each rule that is proven wrong; the same text is not looked at twice."""
    assert accepted(NORDIC, "nordic").errors == ()
    assert accepted(NORDIC, "nordic") is accepted(NORDIC, "nordic")
    with pytest.raises(HeadraceError) as found:
        accepted(f'{NORDIC}\n@id("no") forbid (principal, action, resource);', "x", "x.cedar")
    said = [problem.line() for problem in found.value.problems]
    assert said[0].startswith(
        "x.cedar:1:15: the permit 'nordic' is always overridden by a forbid, whatever the facts."
    )
    assert said[1].startswith("x.cedar: policy x allows nothing: it forbids everything")


def test_five_hundred_rules_are_looked_at_in_bounded_work() -> None:
    """Most of it is still decided; nothing is guessed."""
    rules = "\n".join(
        f'@id("r{number}") permit (principal, action, resource) when {{ resource.exposure.{country} == "no" && '
        f"resource.control_max_ppm.US < {number * 1_000} }};"
        for number, country in enumerate(sorted(COUNTRIES)[:200] * 2, 1)
    )
    report = check(load(rules, "x"), BRIEF)
    assert report.errors == ()
    assert sum(one.state == "disproven" for one in report.answers) > len(report.answers) * 0.9


def _random(chance: Random) -> PolicySet | None:
    try:
        return load(Maker(chance).policy(), "random", may_guess=True)
    except HeadraceError:
        return None


def _facts(chance: Random) -> dict[str, Value]:
    while True:
        try:
            return checked(some_facts(chance))
        except HeadraceError:
            continue


@pytest.mark.parametrize("seed", range(4))
def test_no_facts_contradict_what_is_proven_of_random_policies(seed: int) -> None:
    """Facts that the search never saw: a rule that never holds does not, one that always holds does, and so on."""
    chance = Random(seed)
    proven = 0
    for _ in range(25):
        policy = _random(chance)
        if policy is None:
            continue
        report = check(policy, Effort(steps=2_000, rows=40))
        claims = [one for one in report.answers if one.state == "proven"]
        for one in report.answers:
            if one.state == "disproven" and one.action:
                assert not _fits(policy, one, one.action, dict(one.facts)), (policy.text, one)
        proven += len(claims)
        for _ in range(40 if claims else 0):
            facts, action = _facts(chance), chance.choice([*ACTIONS.values()])
            for one in claims:
                assert _fits(policy, one, action, facts), (policy.text, one, action, facts)
    assert proven > 10


def _fits(policy: PolicySet, one: Answer, action: str, facts: Mapping[str, Value]) -> bool:
    """Whether a proven claim is true of one request."""
    asked = policy.by_action[action]
    row = asked.read(facts)
    holding = {rule.id for rule, ask in (*asked.permits, *asked.forbids) if ask(row)}
    allowed, by = asked.decide(row)
    if one.rule is None:
        is_about = not one.actions or action in one.actions
        return not is_about or allowed is (one.claim is Claim.ALLOWS_ALL)
    if action not in one.actions:
        return one.rule.id not in holding
    match one.claim:
        case Claim.NEVER:
            return one.rule.id not in holding
        case Claim.ALWAYS:
            return one.rule.id in holding
        case Claim.OVERRIDDEN:
            return not (allowed and one.rule in by)
        case Claim.IDLE:
            others = any(ask(row) for rule, ask in asked.forbids if rule != one.rule)
            permitted = any(ask(row) for _, ask in asked.permits)
            return one.rule.id not in holding or others or not permitted
    return False


def test_the_requests_that_disprove_are_told_apart_by_cedar_too() -> None:
    """Every answer with a request: Cedar decides it as the claim's denial says."""
    report = check(profile("nordic-only"))
    shown = {(one.rule.id if one.rule else "", one.claim): one for one in report.answers if one.facts}
    ways = {
        ("nordic-site", Claim.OVERRIDDEN): True,
        ("nordic-people", Claim.IDLE): False,
        ("", Claim.FORBIDS_ALL): True,
        ("", Claim.ALLOWS_ALL): False,
    }
    for key, allowed in ways.items():
        found = shown[key]
        assert report.policy.by_cedar(found.action, dict(found.facts))[0] is allowed
