"""The engine behind the port: verdicts with reasons and digests, deterministic, for every profile."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.authority import Policy, Request, Role, Subject, Target, Verdict, digest_of
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.ids import SiteId, TenantId
from headrace.core.sovereignty.plain import PROFILES as PROFILES_OF_LISTS
from headrace.core.sovereignty.plain import RIGHTS_POLICY, PlainPolicies
from headrace.policy import schema
from headrace.policy.cedar import PROFILES, CedarPolicies, facts_digest, profile
from headrace.policy.reading import ENGINE as NAME
from headrace.policy.reading import load
from headrace.policy.reference import request_of
from headrace.policy.schema import ACTIONS, PRINCIPAL_OF, Value

ENGINE = CedarPolicies()
WORK = Subject("workload", "", Role.SYSTEM, TenantId("albion-health"))
GLOMFJORD = Target("site", None, SiteId("glomfjord"))


def ask(policy: str, action: str = "workload.place", **facts: Value) -> Verdict:
    """A verdict about Glomfjord; facts of the site by name, others with two underscores for the dot."""
    named = {
        (name.replace("__", ".") if "__" in name else f"site.{name}"): value for name, value in facts.items()
    }
    return ENGINE.evaluate(Policy(policy), Request(WORK, action, GLOMFJORD, named))


def test_a_verdict_names_the_rules_that_determined_it() -> None:
    """Permits where it is allowed, forbids where one holds, the facts in the way where nothing permits it."""
    allowed = ask("nordic-only", country="NO")
    assert allowed.allowed
    assert allowed.reasons == ("policy nordic-only: nordic-site: the site is in a Nordic country",)
    forbidden = ask(
        "nordic-only", "support.access", country="NO", person__works_for="operator", person__countries="NO US"
    )
    assert not forbidden.allowed
    assert forbidden.reasons == (
        "policy nordic-only: nordic-people: people who are not the tenant's have access from Nordic countries alone",
    )
    refused = ask("nordic-only", country="GB")
    assert refused.reasons == ("policy nordic-only does not permit it: site.country is GB",)
    assert (refused.subject, refused.action, refused.place) == (
        "system@albion-health",
        "workload.place",
        "site:glomfjord",
    )


def test_who_and_where_are_facts_whatever_the_caller_says() -> None:
    """A rule about one tenant and one site: the request's own, not those that its facts claim."""
    source = """@id("ours") permit (principal, action, resource == Site::"glomfjord")
    when { context.tenant == Tenant::"albion-health" };"""
    engine = CedarPolicies({"mine": load(source, "mine")})
    for subject, site, allowed in (
        (WORK, GLOMFJORD, True),
        (replace(WORK, tenant=TenantId("fjord-ai")), GLOMFJORD, False),
        (WORK, replace(GLOMFJORD, id="loughton"), False),
    ):
        claimed: dict[str, Value] = {"tenant.id": "albion-health", "site.id": "glomfjord"}
        request = Request(subject, "workload.place", site, claimed)
        assert engine.evaluate(Policy("mine"), request).allowed is allowed


def test_a_forbid_overrides_every_permit_and_all_that_hold_are_named() -> None:
    """Two forbids hold beside the permit: both are reasons, the permit is not."""
    source = """@id("yes") @reason("all") permit (principal, action, resource);
    @id("no-1") forbid (principal, action, resource) when { resource.country == "unknown" };
    @id("no-2") @reason("only hydro") forbid (principal, action, resource) unless { resource.energy_source == "hydro" };"""
    engine = CedarPolicies({"mine": load(source, "mine")})
    found = engine.evaluate(Policy("mine"), Request(WORK, "data.copy", GLOMFJORD, {}))
    assert not found.allowed
    assert found.reasons == ("policy mine: no-1", "policy mine: no-2: only hydro")


def test_digests_cover_text_schema_engine_and_facts() -> None:
    """The same question has the same verdict; another rule, another fact, another id."""
    one, again = (
        ask("public", country="NO"),
        CedarPolicies().evaluate(
            Policy("public"), Request(WORK, "workload.place", GLOMFJORD, {"site.country": "NO"})
        ),
    )
    assert one == again
    assert one.id == again.id
    assert ask("public", country="SE").facts != one.facts
    assert ask("nordic-only", country="NO").policy != one.policy
    changed = load(profile("public").text + "\n// a comment\n", "public")
    assert changed.digest != profile("public").digest
    assert f"cedarpy {version('cedarpy')}" in NAME


@given(
    st.dictionaries(
        st.text(max_size=20), st.text(max_size=20) | st.integers(-(2**63), 2**63 - 1) | st.booleans()
    )
)
def test_the_digest_of_facts_is_the_one_that_everybody_else_takes(facts: dict[str, Value]) -> None:
    """Whatever is in them: control characters, other scripts, the ends of integers."""
    assert facts_digest(facts) == digest_of(facts)


def test_verdicts_do_not_depend_on_the_process() -> None:
    """Other seeds of Python's hashes, the same reasons and the same ids."""
    code = """
from headrace.core.authority import Policy, Request, Role, Subject, Target
from headrace.policy.cedar import PROFILES, CedarPolicies
for name in PROFILES:
    facts = {"site.country": "GB", "site.staff_countries": "GB US NO", "site.encryption": "at-rest"}
    request = Request(Subject("workload", "", Role.SYSTEM, "t"), "support.access", Target("site", None, "s"), facts)
    found = CedarPolicies().evaluate(Policy(name), request)
    print(found.id, *found.reasons)
"""
    said = {
        subprocess.run(
            [sys.executable, "-P", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(said) == 1
    assert said.pop().count("\n") == len(PROFILES)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("action", ACTIONS)
def test_what_nobody_knows_is_never_allowed(name: str, action: str) -> None:
    """No facts at all: every profile refuses every action."""
    assert not ask(name, action).allowed


def test_rights_of_people_are_judged_as_before() -> None:
    """What is not about a place goes to the plain engine, with its verdicts."""
    member = Subject("token", "t-1", Role.TENANT_MEMBER, TenantId("albion-health"))
    request = Request(member, "node.read", Target("node"))
    found = ENGINE.evaluate(RIGHTS_POLICY, request)
    assert not found.allowed
    assert found.reasons == ("tenant-member may not node.read",)


@pytest.mark.parametrize(
    ("policy", "country", "allowed"),
    [
        (PROFILES_OF_LISTS["public"], "NO", True),
        (PROFILES_OF_LISTS["public"], "", False),
        (PROFILES_OF_LISTS["nordic-only"], "NO", True),
        (PROFILES_OF_LISTS["nordic-only"], "GB", False),
        (PROFILES_OF_LISTS["nordic-only"], "", False),
        (PROFILES_OF_LISTS["uk-only"], "GB", True),
        (PROFILES_OF_LISTS["eea-only"], "GB", False),
        (Policy("uk-only"), "GB", True),
        (Policy("countries:GB+NO", ("GB", "NO")), "GB", True),
        (Policy("countries:GB+NO", ("GB", "NO")), "SE", False),
    ],
)
def test_it_stands_behind_the_port_as_the_plain_engine_does(
    policy: Policy, country: str, allowed: bool
) -> None:
    """The same answers where a site has nothing but a country: profiles by name, and the shorthand."""
    request = Request(WORK, "workload.place", GLOMFJORD, {"country": country, "energy_source": "hydro"})
    assert ENGINE.evaluate(policy, request).allowed is allowed
    if policy.countries or policy.name == "public":
        assert PlainPolicies().evaluate(policy, request).allowed is allowed


def test_a_policy_may_have_its_rules_with_it() -> None:
    """Its own text counts, whatever its name; and it is read once."""
    rules = '@id("hydro") permit (principal, action, resource) when { resource.energy_source == "hydro" };'
    policy = Policy("public", text=rules)
    request = Request(WORK, "workload.place", GLOMFJORD, {"country": "NO", "energy_source": "hydro"})
    found = ENGINE.evaluate(policy, request)
    assert (found.allowed, found.reasons) == (True, ("policy public: hydro",))
    assert ENGINE.policy_set(policy) is ENGINE.policy_set(Policy("public", text=rules))
    assert not ENGINE.evaluate(policy, replace(request, facts={"country": "NO"})).allowed
    assert ENGINE.profiles >= set(PROFILES)


def test_a_policy_that_nothing_has_is_named_and_a_fact_of_a_wrong_type_too() -> None:
    """Neither gives a verdict."""
    with pytest.raises(HeadraceError, match="Did you mean nordic-only") as found:
        ask("nordic-olny", country="NO")
    assert found.value.problem.code is ProblemCode.NOT_FOUND
    with pytest.raises(HeadraceError, match=r"site\.country can't be 3"):
        ask("public", country=3)


def test_an_empty_text_is_unknown_and_an_empty_set_is_empty() -> None:
    """What an estate leaves empty isn't known; that nobody has access is."""
    facts: dict[str, Value] = {"site.country": "NO", "site.staff_countries": "", "site.exposure.US": ""}
    found = load(
        '@id("people") permit (principal, action, resource) when { resource.staff_countries.isEmpty() };\n'
        '@id("clean") forbid (principal, action, resource) when { resource.exposure.US == "unknown" };',
        "x",
    )
    assert [rule.id for rule in found.decide("place", facts)[1]] == ["clean"]
    assert found.decide("place", facts) == found.by_cedar("place", facts)
    assert found.decide("place", {**facts, "site.exposure.US": "no"})[0]


@pytest.mark.parametrize("action", ACTIONS.values())
def test_every_fact_stands_in_the_schema_as_its_type_says(action: str) -> None:
    """All facts of a request together, as Cedar's own entities, conform to the schema that policies are validated with."""
    names = []
    for name in schema.names():
        if name.startswith("work." if PRINCIPAL_OF[action] == "Person" else "person."):
            continue
        names += (
            [f"{name[:-1]}{country}" for country in schema.below(("resource", "exposure"))]
            if name.endswith("*")
            else [name]
        )
    request, entities = request_of(action, {}, names)
    parsed = cedarpy.Entities.from_json_str(
        json.dumps(entities), cedarpy.Schema.from_str(schema.schema_text())
    )
    found = cedarpy.is_authorized(request, profile("public").handle, parsed, schema.schema_text())
    assert found.diagnostics.errors == []
    assert found.decision is cedarpy.Decision.Deny
    _, fewer = request_of(action, {}, names[:-1])
    with pytest.raises(ValueError, match="does not conform to the schema"):
        cedarpy.Entities.from_json_str(json.dumps(fewer), cedarpy.Schema.from_str(schema.schema_text()))


BAD_FACTS: list[tuple[dict[str, object], str]] = [
    ({"site.contry": "NO"}, "no fact 'site.contry'; .*Did you mean site.country"),
    ({"site.country": "UK"}, "site.country can't be 'UK'; .*Did you mean GB"),
    ({"site.staff_countries": ["NO", "XX"]}, "can't be 'XX'"),
    ({"site.control_max_ppm.UK": 3}, "no fact 'site.control_max_ppm.UK'; .*Did you mean GB"),
    ({"site.certified_until.iso2701": 3}, "Did you mean iso27"),
    ({"site.control_max_ppm.US": 1_000_001}, "lies in 0 to 1000000"),
    ({"site.control_max_ppm.US": True}, "Give a whole number"),
    ({"site.control_max_ppm.US": 0.5}, "Give a whole number"),
    ({"consent": "yes"}, "Give true or false"),
    ({"site.control_min_ppm.US": 5, "site.control_max_ppm.US": 4}, "control_min_ppm.US is 5 and .*control_max_ppm.US is 4"),
    ({"site.control_min_ppm.US": 5, "site.control_max_ppm.*": 4}, "control_max_ppm.US is 4"),
    ({"site.outside_eu_largest_ppm": 5, "site.outside_eu_ppm": 4}, "outside_eu_largest_ppm is 5"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "said"), BAD_FACTS)
def test_facts_that_cant_be_are_named(facts: dict[str, object], said: str) -> None:
    """Unknown names, words, countries, sizes and types, each with what is meant."""
    with pytest.raises(HeadraceError, match=said):
        schema.checked(facts)


def test_a_country_that_is_not_named_is_as_the_rest() -> None:
    """The star stands for every country that isn't named; a named one is as it says; none at all is unknown."""
    rest: dict[str, Value] = {
        "site.exposure.*": "no",
        "site.operator.exposure.*": "no",
        "site.owner.exposure.*": "no",
    }
    facts = {**rest, "site.control_max_ppm.*": 0, "site.country": "NO", "site.staff_countries": "NO"}
    request = Request(WORK, "workload.place", GLOMFJORD, schema.checked(facts))
    assert ENGINE.evaluate(Policy("no-us-exposure"), request).allowed
    for name, value in (
        ("site.exposure.US", "yes"),
        ("site.owner.exposure.US", "unknown"),
        ("site.control_max_ppm.US", 250_000),
    ):
        other = replace(request, facts={**request.facts, name: value})
        assert not ENGINE.evaluate(Policy("no-us-exposure"), other).allowed
    for name in facts:
        fewer = {key: value for key, value in facts.items() if key != name}
        assert not ENGINE.evaluate(Policy("no-us-exposure"), replace(request, facts=fewer)).allowed, name
