"""Ownership as people write it: what is read, and what is named with its line and column when it can't be."""

from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.sovereignty.control import control
from headrace.core.sovereignty.exposure import Through, exposures_of_site
from headrace.core.sovereignty.graph import DILUTED_SHARES, SHARES, Graph
from headrace.core.sovereignty.groups import Tie
from headrace.core.sovereignty.holdings import UNKNOWN, Answer, Basis, InterestKind, PartyId, Share
from headrace.core.sovereignty.limits import against
from headrace.documents.values import Bad
from headrace.ownership.facts import Facts, together
from headrace.ownership.gleif import load_gleif
from headrace.ownership.plain import load_ownership, parse_ownership
from headrace.ownership.words import amount_of_cap, share
from tests.ownership.data import EXAMPLES, OWNERSHIP

BASE = """kind: ownership
name: test
sources:
  - {name: register, title: A register, url: "https://example.org", read: 2026-01-01}
parties:
  - {name: anna, type: person, title: Anna Person, nationality: ["NO"], residence: ["NO"], since: 1980-02-03}
  - {name: holding, type: company, title: A holding, country: "NO", headquarters: "NO", since: 2020-01-01}
  - {name: operator, type: company, title: An operator, country: GB, headquarters: unknown, since: 2021-01-01}
interests:
  - {name: top, type: shares, holder: anna, of: holding, share: 60%, since: 2020-01-01, source: register}
  - {name: low, type: shares, holder: holding, of: operator, share: ">50%..75%", since: 2021-01-01, source: register}
"""


def read(text: str) -> Facts:
    return parse_ownership(text.encode(), "x.yaml")


def said(text: str) -> list[str]:
    with pytest.raises(HeadraceError) as caught:
        read(text)
    return [problem.line() for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("25%", Share.exact(250_000)),
        ("12.3456 %", Share.exact(123_456)),
        ("25%..50%", Share(250_000, 500_000)),
        (">25%..50%", Share(250_001, 500_000)),
        ("50%..<75%", Share(500_000, 749_999)),
        (">=75%", Share(750_000, 1_000_000)),
        (">50%", Share(500_001, 1_000_000)),
        ("<=5%", Share(0, 50_000)),
        ("<5%", Share(0, 49_999)),
        ("1/3", Share(333_333, 333_334)),
        ("1/4", Share.exact(250_000)),
        ("33.33333333%", Share(333_333, 333_334)),
        ("unknown", UNKNOWN),
        ("100%", Share.exact(1_000_000)),
    ],
)
def test_shares_are_read_as_ranges(text: str, found: Share) -> None:
    """Exclusive bounds move by one ppm, what is finer than a ppm is widened."""
    assert share(text) == found


@pytest.mark.parametrize(
    "value",
    ["25", 25, "a%", "101%", "50%..25%", ">100%", "-5%", "1/0", "5/4", "", None, True, "25%..", "<0%"],
)
def test_what_is_no_share_is_named(value: object) -> None:
    """With what to write instead."""
    with pytest.raises(Bad) as caught:
        share(value)
    assert caught.value.next_step


def test_a_post_money_safe_is_its_amount_of_its_cap() -> None:
    """Five of a hundred; a third is between two ppm."""
    assert (amount_of_cap(5, 100), amount_of_cap(1, 3)) == (Share.exact(50_000), Share(333_333, 333_334))


def test_parties_interests_and_sources_are_read() -> None:
    """A person's name is kept apart; interests carry the file's name."""
    facts = read(BASE)
    assert facts.private == {PartyId("anna"): "Anna Person"}
    assert facts.holdings.parties[PartyId("anna")].name == ""
    assert [one.id for one in facts.holdings.interests] == ["test/top", "test/low"]
    assert [one.title for one in facts.holdings.sources.values()] == ["A register"]


def test_what_converts_is_read_with_its_rule() -> None:
    """A part of what comes after, of what was before, an amount under a cap, or nothing that is known."""
    text = (
        BASE
        + """
  - {name: a, type: warrant, holder: anna, of: operator, becomes: {share: 5%, of: existing}}
  - {name: b, type: convertible, holder: anna, of: operator, becomes: {amount: 10, cap: 200, votes: false}}
  - {name: c, type: convertible, holder: anna, of: operator}
"""
    )
    found = {one.id: one.converts for one in read(text).holdings.interests}
    warrant, safe, unknown = found["test/a"], found["test/b"], found["test/c"]  # type: ignore[index]  # by their names
    assert warrant is not None
    assert (warrant.part, warrant.basis, warrant.has_votes) == (Share.exact(50_000), Basis.EXISTING, True)
    assert safe is not None
    assert (safe.part, safe.basis, safe.has_votes) == (Share.exact(50_000), Basis.DILUTED, False)
    assert unknown is not None
    assert unknown.part == UNKNOWN


WRONG = [
    ("60%", "160%", "x.yaml:10:65 interests[0].share: 160 % is more than all."),
    ("country: GB", "country: UK", "x.yaml:8:66 parties[2].country: no country 'UK'. Did you mean GB?"),
    ("holder: anna", "holder: ana", "x.yaml:10:39 interests[0].holder: no party 'ana';"),
    ("of: holding", "of: holdng", "Did you mean holding?"),
    ("source: register}\n  - {name: low", "source: registr}\n  - {name: low", "no source 'registr';"),
    ("name: low", "name: top", "x.yaml:11:12 interests[1].name: top stands twice."),
    ("type: company, title: A holding", "type: firm, title: A holding", "no type of party 'firm';"),
    ("type: shares, holder: anna", "type: stakes, holder: anna", "no type of interest 'stakes';"),
    ("since: 1980-02-03", "since: 2020-06-01", "it begins 2020-01-01, but anna was born 2020-06-01."),
    ("since: 2021-01-01}", "since: 2022-01-01}", "it begins 2021-01-01, but operator was founded 2022-01-01."),
    ("since: 2020-01-01, source", "since: 2020-01-01, until: 2019-01-01, source", "it ends 2019-01-01, but begins 2020-01-01."),
    ('nationality: ["NO"]', "country: GB", "a person has no country."),
    ("headquarters: unknown", "residence: [GB]", "a company has no residence."),
    ("kind: ownership", "kind: owners", "'owners' is not of kind ownership."),
    ("type: shares, holder: anna", "type: influence, holder: anna", "influence has no share."),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "line"), WRONG, ids=[one[2][:40] for one in WRONG])
def test_what_is_wrong_is_named_with_its_line(before: str, after: str, line: str) -> None:
    """One change to a file that is right."""
    assert before in BASE
    assert any(line in one for one in said(BASE.replace(before, after, 1))), said(
        BASE.replace(before, after, 1)
    )


_NOTE = "  - {{type: convertible, holder: {}, of: operator, becomes: {{share: 60%}}}}"
_INFLUENCE = "an attestation of influence without its source or answer."
MORE_WRONG = [
    ("  - {type: shares, holder: holding, of: holding, share: 50%}", "its shares add up to 110 % from 2020-01-01"),
    ("  - {type: influence, holder: anna, of: operator, decisive: yes}", _INFLUENCE),
    ("  - {type: influence, holder: anna, of: operator, source: register}", _INFLUENCE),
    ("  - {type: supplier, holder: anna, of: operator, decisive: yes}", "supplier are not decisive by themselves."),
    ("  - {type: loan, holder: anna, of: operator, becomes: {share: 5%}}", "loan don't convert."),
    ("  - {type: warrant, holder: anna, of: operator, becomes: {amount: 5}}", "what it becomes is said by half, or twice."),
    ("  - {type: warrant, holder: anna, of: operator, becomes: {amount: 5, cap: 4}}", "its amount is more than its cap."),
    ("  - {type: supplier, holder: anna, of: operator, custody: [key]}", "no custody 'key';"),
    ("  - {type: shares, holder: holding, of: anna, share: 5%}", "anna is a person: nobody has shares in it."),
    ("coverage:\n  - {of: holding, complete: true}", "its list of holders is called complete, but has 60 % at most"),
    ("coverage:\n  - {of: holding}", "a coverage says one thing."),
    ("coverage:\n  - {of: holding, complete: true, exempt: listed}", "a coverage says one thing."),
    ("sites:\n  - {name: north, country: XX, operator: operator}", "no country 'XX'."),
    ("sites:\n  - {name: north, operator: nobody}", "no party 'nobody';"),
    ("limits:\n  - {name: eu, inside: [NOR], single: 24%, together: 39%}", "no country 'NOR'. Did you mean NO?"),
    ("limits:\n  - {name: eu, inside: [FR], single: 24%, together: 39%, by: [sea]}", "no tie 'sea';"),
    (f"{_NOTE.format('anna')}\n{_NOTE.format('holding')}", "its warrants and convertibles add up to 120 %"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), MORE_WRONG, ids=[one[1][:40] for one in MORE_WRONG])
def test_what_is_added_wrongly_is_named(text: str, line: str) -> None:
    """One thing added to a file that is right."""
    lines = said(BASE + text + "\n")
    assert any(line in one for one in lines), lines
    assert all(one.startswith("x.yaml:") for one in lines)


def test_suppliers_sites_and_limits_are_read() -> None:
    """What a supplier has in hand; where a site stands; what those outside may have, and by which ties."""
    text = (
        BASE
        + """
  - {type: supplier, holder: holding, of: operator, custody: [keys, data], source: register}
coverage:
  - {of: operator, list: staff, complete: true, source: register}
sites:
  - {name: north, country: "NO", operator: operator, suppliers: [{supplier: holding, custody: [nothing]}]}
limits:
  - {name: north, inside: ["NO"], single: 24%, together: 39%, by: [seat]}
"""
    )
    facts = read(text)
    assert [one.custody for one in facts.holdings.interests if one.kind is InterestKind.SUPPLIER] == [
        ("keys", "data")
    ]
    assert (facts.places[0].site, facts.places[0].country, facts.places[0].operator) == (
        "north",
        "NO",
        "operator",
    )
    limit = facts.limits[0]
    assert (limit.single_ppm, limit.together_ppm, limit.by) == (240_000, 390_000, frozenset({Tie.SEAT}))


def test_facts_of_several_files_are_one() -> None:
    """A party here is the same as one of a register: what both say of it comes together under one name."""
    lei = "lei:5493001Z012YSB2A0K51"
    text = BASE.replace("title: A holding,", f"title: A holding, is: [{lei}],")
    gleif = load_gleif(OWNERSHIP / "gleif" / "rr-data.json")
    found = together([gleif, read(text)])
    assert PartyId(lei) not in found.holdings.parties
    managed = [
        one
        for one in found.holdings.interests
        if one.holder == "holding" and one.kind is InterestKind.INFLUENCE
    ]
    assert [one.terms for one in managed] == ["is fund-managed by (fully corroborated)"]
    assert found.holdings.parties[PartyId("holding")].country == "NO"


def test_files_that_contradict_each_other_are_refused() -> None:
    """Sixty and fifty per cent of the same holding, from two files."""
    other = read(BASE.replace("name: test", "name: other").replace("60%", "50%"))
    with pytest.raises(HeadraceError, match="add up to 110 %"):
        together([read(BASE), other])


def test_the_public_record_flags_what_is_unknown() -> None:
    """Who controls the operator isn't known, before and after each round; nothing of it is clean."""
    facts = load_ownership(EXAMPLES / "public-record.yaml")
    nscale = PartyId("nscale")
    parties = {}
    for day in ("2025-08-31", "2025-09-30", "2025-10-31"):
        graph = Graph(facts.holdings, day)
        found = control(graph, nscale)
        parties[day] = {one.party for one in found.controllers}
        assert found.unnamed.controls is Answer.UNKNOWN
        assert all(one.controls is Answer.UNKNOWN for one in found.controllers)
        assert all(held.exceeded is Answer.UNKNOWN for held in against(graph, nscale, facts.limits[0]))
    assert parties["2025-08-31"] == {"chief-executive", "nvidia"}
    assert parties["2025-09-30"] - parties["2025-08-31"] == {"series-b"}
    assert parties["2025-10-31"] - parties["2025-09-30"] == {"dell", "nokia", "blue-owl"}
    dell = control(Graph(facts.holdings, "2025-10-31"), nscale).of(PartyId("dell"))
    assert dell is not None
    assert dell.measured(DILUTED_SHARES).integrated == UNKNOWN
    assert dell.measured(SHARES).integrated.least_ppm == 0


def test_the_public_record_says_which_countries_reach_a_site() -> None:
    """Norway by where it stands, Britain by the operator's seat, three by where directors reside; no other is ruled out."""
    facts = load_ownership(EXAMPLES / "public-record.yaml")
    glomfjord = next(place for place in facts.places if place.site == "glomfjord")
    found = exposures_of_site(Graph(facts.holdings, "2025-11-30"), glomfjord)
    assert found.countries() == ("AU", "GB", "NO", "US")
    assert found.answer("NO", Through.SEAT) is Answer.YES
    assert found.answer("US", Through.PERSON) is Answer.YES
    assert found.answer("US", Through.SEAT) is Answer.NO
    assert {
        found.answer("FR", through)
        for through in (Through.HEADQUARTERS, Through.CONTROL, Through.PERSON, Through.CUSTODY)
    } == {Answer.UNKNOWN}


def test_a_file_that_cannot_be_read_is_named() -> None:
    """With its path."""
    with pytest.raises(HeadraceError, match="can't read it"):
        load_ownership(Path("/nowhere/x.yaml"))
