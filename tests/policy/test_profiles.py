"""The shipped profiles: what each demands, one demand at a time, and that it claims no more."""

from collections.abc import Mapping

import pytest

from headrace.policy.cedar import PROFILES, profile
from headrace.policy.described import EU
from headrace.policy.schema import ACTIONS, GROUPS, PRINCIPAL_OF, Principal, Value, checked

DAY = 20_780
Facts = Mapping[str, Value]

SITE: dict[str, Value] = {
    "site.country": "GB", "site.operator.seat": "GB", "site.operator.control_min_ppm.GB": 600_000, "site.staff_countries": "GB",
    "site.encryption": "at-rest in-transit", "site.isolation": "container", "site.certified_until.cyber_essentials_plus": DAY,
    "site.certified_until.iso27001": DAY, "data.class": "confidential", "day": DAY,
}  # fmt: skip
UNION: dict[str, Value] = {
    "site.country": "SE", "site.operator.seat": "FI", "site.outside_eu_ppm": 390_000, "site.outside_eu_largest_ppm": 240_000,
    "site.staff_countries": "FI SE", "site.encryption": "at-rest in-transit", "site.isolation": "container",
    "site.certified_until.c5": DAY, "data.class": "internal", "day": DAY,
}  # fmt: skip
CLEAN: dict[str, Value] = {
    "site.country": "NO", "site.exposure.US": "no", "site.operator.exposure.US": "no", "site.owner.exposure.US": "no",
    "site.control_max_ppm.US": 249_999, "site.staff_countries": "NO",
}  # fmt: skip
OURS: dict[str, Value] = {"person.works_for": "tenant"}
THEIRS: dict[str, Value] = {"person.works_for": "operator", "consent": True}

Row = tuple[str, dict[str, Value], tuple[str, ...]]
PLACE: list[Row] = [
    # a profile, what is other than in its good site, and what determines the answer: () where nothing permits it
    ("uk-critical", {}, ("uk-site",)),
    ("uk-critical", {"site.country": "IE"}, ()),
    ("uk-critical", {"site.operator.seat": "US"}, ()),
    ("uk-critical", {"site.operator.control_min_ppm.GB": 500_000}, ()),
    ("uk-critical", {"site.staff_countries": "GB IN"}, ()),
    ("uk-critical", {"site.encryption": "at-rest"}, ()),
    ("uk-critical", {"site.isolation": "uid"}, ()),
    ("uk-critical", {"site.certified_until.iso27001": DAY - 1}, ()),
    ("uk-critical", {"site.certified_until.cyber_essentials_plus": DAY - 1}, ()),
    ("uk-critical", {"data.class": "restricted"}, ("restricted",)),
    ("uk-critical", {"data.class": "unknown"}, ("restricted",)),
    ("uk-critical", {"data.class": "restricted", "site.tenancy": "dedicated"}, ("restricted",)),
    (
        "uk-critical",
        {
            "data.class": "restricted",
            "site.tenancy": "dedicated",
            "site.encryption": "at-rest in-transit tenant-key",
        },
        ("uk-site",),
    ),
    ("uk-critical", {"site.exposure.US": "yes"}, ("uk-site",)),
    ("eu-high", {}, ("eu-site",)),
    ("eu-high", {"site.country": "NO"}, ()),
    ("eu-high", {"site.operator.seat": "GB"}, ()),
    ("eu-high", {"site.outside_eu_ppm": 390_001}, ()),
    ("eu-high", {"site.outside_eu_largest_ppm": 240_001}, ()),
    ("eu-high", {"site.staff_countries": "FI GB"}, ()),
    ("eu-high", {"site.staff_countries": "FI unknown"}, ()),
    ("eu-high", {"site.encryption": "in-transit"}, ()),
    ("eu-high", {"site.isolation": "none"}, ()),
    ("eu-high", {"site.certified_until.c5": DAY - 1}, ()),
    ("eu-high", {"site.certified_until.c5": 0, "site.certified_until.secnumcloud": DAY + 3}, ("eu-site",)),
    ("eu-high", {"site.certified_until.c5": 0, "site.certified_until.ens_high": DAY}, ("eu-site",)),
    ("eu-high", {"data.class": "restricted"}, ("restricted",)),
    ("no-us-exposure", {}, ("not-exposed",)),
    ("no-us-exposure", {"site.exposure.US": "unknown"}, ()),
    ("no-us-exposure", {"site.operator.exposure.US": "yes"}, ()),
    ("no-us-exposure", {"site.owner.exposure.US": "unknown"}, ()),
    ("no-us-exposure", {"site.control_max_ppm.US": 250_000}, ()),
    ("no-us-exposure", {"site.country": "US"}, ("not-there",)),
    ("no-us-exposure", {"site.country": "PR"}, ("not-there",)),
    ("no-us-exposure", {"site.country": "unknown"}, ("not-there",)),
    ("no-us-exposure", {"site.staff_countries": "NO US"}, ("nobody-there",)),
    ("no-us-exposure", {"site.staff_countries": "NO unknown"}, ("nobody-there",)),
    ("no-us-exposure", {"site.exposure.CN": "yes"}, ("not-exposed",)),
    ("nordic-only", {}, ("nordic-site",)),
    ("nordic-only", {"site.country": "GB"}, ()),
    ("nordic-only", {"site.country": "unknown"}, ()),
    ("nordic-only", {"site.exposure.US": "yes"}, ("nordic-site",)),
    ("public", {}, ("known-country",)),
    ("public", {"site.country": "US"}, ("known-country",)),
    ("public", {"site.country": "unknown"}, ()),
]
GOOD: dict[str, Facts] = {
    "uk-critical": SITE, "eu-high": UNION, "no-us-exposure": CLEAN, "nordic-only": CLEAN, "public": CLEAN,
}  # fmt: skip
ALLOWING = {"uk-site", "eu-site", "not-exposed", "nordic-site", "known-country"}


@pytest.mark.parametrize("action", [*GROUPS["run"], *GROUPS["keep"]])
@pytest.mark.parametrize(("name", "change", "rules"), PLACE, ids=str)
def test_a_site_is_good_for_a_profile_by_each_of_its_demands(
    name: str, change: dict[str, Value], rules: tuple[str, ...], action: str
) -> None:
    """For running and for keeping alike; decided by Cedar too."""
    facts = checked({**GOOD[name], **change})
    allowed, found = profile(name).decide(action, facts)
    assert tuple(rule.id for rule in found) == rules
    assert allowed is bool(set(rules) & ALLOWING)
    assert (allowed, found) == profile(name).by_cedar(action, facts)


PEOPLE: list[tuple[str, dict[str, Value], str]] = [
    # a profile, who asks, and which rule forbids it ("" for none)
    ("uk-critical", OURS, ""),
    ("uk-critical", {**THEIRS, "person.countries": "GB"}, ""),
    ("uk-critical", {**THEIRS, "person.countries": "GB", "consent": False}, "people"),
    ("uk-critical", {**THEIRS, "person.countries": "GB US"}, "people"),
    ("uk-critical", {**THEIRS}, "people"),
    ("uk-critical", {"person.countries": "GB"}, "people"),
    ("eu-high", OURS, ""),
    ("eu-high", {**THEIRS, "person.countries": "AT PT"}, ""),
    ("eu-high", {**THEIRS, "person.countries": "CH"}, "people"),
    ("eu-high", {**THEIRS, "person.countries": "AT", "consent": False}, "people"),
    ("nordic-only", OURS, ""),
    ("nordic-only", {"person.works_for": "supplier", "person.countries": "IS"}, ""),
    ("nordic-only", {"person.works_for": "supplier", "person.countries": "IS US"}, "nordic-people"),
    ("nordic-only", {}, "nordic-people"),
    ("no-us-exposure", {}, ""),
    ("public", {}, ""),
]


@pytest.mark.parametrize("action", GROUPS["access"])
@pytest.mark.parametrize(("name", "person", "rule"), PEOPLE, ids=str)
def test_people_get_in_as_a_profile_says(name: str, person: dict[str, Value], rule: str, action: str) -> None:
    """Logs and support alike: the tenant's own, others from where the profile says and with consent where it asks for it."""
    facts = checked({**GOOD[name], **person})
    allowed, found = profile(name).decide(action, facts)
    assert allowed is not bool(rule)
    assert not rule or [one.id for one in found] == [rule]
    assert (allowed, found) == profile(name).by_cedar(action, facts)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_says_what_it_demands_and_what_it_does_not_claim(name: str) -> None:
    """At its head, before any rule; each rule has a sentence for those who are refused."""
    found = profile(name)
    head = found.text.partition("\n@id")[0]
    assert head.startswith(f"// {name}: ")
    assert "// Demands: " in head
    assert "// Does not claim: " in head
    assert all(rule.reason for rule in found.rules)


def test_every_action_has_its_kind_of_principal_and_stands_in_one_group() -> None:
    """Work runs and is kept, people get in: the table of the schema by hand."""
    grouped = [action for members in GROUPS.values() for action in members]
    assert sorted(grouped) == sorted(ACTIONS.values())
    people = {action for action, kind in PRINCIPAL_OF.items() if kind is Principal.PERSON}
    assert people == {"read-logs", "support-access"}


def test_the_member_states_are_twenty_seven() -> None:
    """The profile and the facts mean the same union."""
    assert len(EU) == 27
    text = profile("eu-high").text
    assert text.count(", ".join(f'"{one}"' for one in EU[:14])) == 4
    assert text.count(", ".join(f'"{one}"' for one in EU[14:])) == 4
