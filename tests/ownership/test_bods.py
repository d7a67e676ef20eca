"""BODS 0.4: the published fixtures are read, and what is broken is named with its JSON pointer."""

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.sovereignty.control import control
from headrace.core.sovereignty.graph import SHARES, Graph
from headrace.core.sovereignty.holdings import Answer, InterestKind, PartyId, PartyKind, Share
from headrace.ownership.bods import SCHEMA, load_bods, parse_bods
from headrace.ownership.facts import Facts
from tests.ownership.data import OWNERSHIP

FIXTURES = sorted((OWNERSHIP / "bods_examples").glob("*.json"))


def read(name: str) -> Facts:
    return load_bods(OWNERSHIP / "bods_examples" / f"{name}.json")


def broken(change: Callable[[list[Any]], object], name: str = "fermcat") -> list[str]:
    """What is said of a fixture after a change."""
    statements = json.loads((OWNERSHIP / "bods_examples" / f"{name}.json").read_text())
    change(statements)
    with pytest.raises(HeadraceError) as caught:
        parse_bods(json.dumps(statements).encode(), "x.json")
    return [problem.line() for problem in caught.value.problems]


def test_there_are_fixtures_to_read() -> None:
    """A folder that isn't there would make the next test pass with nothing."""
    assert len(FIXTURES) == 19


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: str(path.stem))
def test_every_published_fixture_is_read(path: Any) -> None:
    """Each has its parties, and every day of it can be looked at."""
    facts = load_bods(path)
    assert facts.holdings.parties
    for day in ("2015-01-01", *facts.holdings.days(), "2030-01-01"):
        Graph(facts.holdings, day).book(SHARES)


def test_the_synthetic_sample_of_300_statements_is_read() -> None:
    """A hundred entities, persons and relationships; what begins before its company is noted, and begins with it."""
    facts = load_bods(OWNERSHIP / "bods04_sample_300_statements.json")
    kinds = [party.kind for party in facts.holdings.parties.values()]
    assert (len(kinds), kinds.count(PartyKind.PERSON), len(facts.holdings.interests)) == (200, 100, 100)
    assert all(one.since == "2019-09-03" for one in facts.holdings.interests)
    assert len([note for note in facts.notes if "before the company" in note]) == 100


def test_what_is_shipped_is_the_published_schema() -> None:
    """Byte for byte: a schema of our own would validate something else."""
    for path in sorted(SCHEMA.glob("*.json")):
        assert path.read_bytes() == (OWNERSHIP / "bods_schema" / path.name).read_bytes()


def test_another_folder_of_schemas_can_be_named() -> None:
    """The published folder gives the same; one without schemas is named."""
    path = OWNERSHIP / "bods_examples" / "fermcat.json"
    assert load_bods(path, OWNERSHIP / "bods_schema") == load_bods(path)
    with pytest.raises(HeadraceError, match=r"no schema of BODS 0\.4 there"):
        load_bods(path, OWNERSHIP)


BROKEN = [
    (lambda s: s[3]["recordDetails"]["interests"][0]["share"].update(exact=150), "/3/recordDetails/interests/0/share/exact"),
    (lambda s: s[0]["recordDetails"].update(birthDate="1990-13-45"), "/0/recordDetails/birthDate"),
    (lambda s: s[1].pop("recordId"), '#/1: "recordId"'),
    (lambda s: s[2]["recordDetails"]["entityType"].update(type="firm"), "/2/recordDetails/entityType/type"),
    (lambda s: s[4]["recordDetails"].update(subject=7), "/4/recordDetails/subject"),
    (lambda s: s[4].update(statementId="short"), "/4/statementId"),
    (lambda s: s[4].update(statementId=s[3]["statementId"]), "/4/statementId: statement 39a49605"),
    (lambda s: s[0]["publicationDetails"].update(bodsVersion="0.3"), "/0/publicationDetails/bodsVersion: BODS '0.3'"),
    (lambda s: s[11]["recordDetails"]["nationalities"][0].update(code="UK"), "no country 'UK'. Did you mean GB?"),
    (lambda s: s[12]["recordDetails"]["interests"][0].update(endDate="2019-01-01"), "it ends 2019-01-01, but begins 2019-09-11"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BROKEN, ids=[str(number) for number in range(len(BROKEN))])
def test_what_is_broken_is_named_with_its_pointer(change: Callable[[list[Any]], object], said: str) -> None:
    """One change to a fixture that is valid, and what is said of it."""
    lines = broken(change)
    assert any(said in line for line in lines), lines
    assert all(line.startswith("x.json#/") for line in lines)


def test_every_error_is_named_and_not_the_first_alone() -> None:
    """Three broken statements, three pointers."""

    def three(statements: list[Any]) -> None:
        statements[3]["recordDetails"]["interests"][0]["share"]["exact"] = 150
        statements[0]["recordDetails"]["birthDate"] = "1990-13-45"
        statements[1].pop("recordId")

    assert len(broken(three)) == 3


def test_an_interest_before_its_holder_was_born_is_named() -> None:
    """The holder of the first relationship was born 1990-06-12; the company can't be older than the relationship."""

    def early(statements: list[Any]) -> None:
        for statement in statements:
            statement["recordDetails"].pop("foundingDate", None)
        statements[3]["recordDetails"]["interests"][0]["startDate"] = "1980-01-01"

    lines = broken(early)
    assert any(
        "it begins 1980-01-01, but bods:per-5faa4103dee78621 was born 1990-06-12" in line for line in lines
    )


def test_shares_of_more_than_all_are_named() -> None:
    """Two holders of 80 % each from the same day."""

    def more(statements: list[Any]) -> None:
        for statement in statements:
            for one in statement["recordDetails"].get("interests", []):
                if one["type"] == "shareholding":
                    one["share"]["exact"] = 80

    assert any("its shares add up to 160 % from 2019-09-11" in line for line in broken(more))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[{", "x.json:1:3: not JSON"),
        (b'[{"a": NaN}]', "not JSON: NaN is no number"),
        (b"\xff", "not UTF-8"),
        (b"{}", "x.json#: {} is not of type"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_named(text: bytes, said: str) -> None:
    """Never a traceback, whatever the bytes."""
    with pytest.raises(HeadraceError) as caught:
        parse_bods(text, "x.json")
    assert said in caught.value.problem.line()


def test_control_is_as_of_a_day() -> None:
    """Fermcat: halves at first; one holder dies and leaves to another; then all is one's.

    From when the last one has all isn't said: between two statements it is a range, cut to what the other had until then.
    """
    holdings = read("fermcat").holdings
    entity, patrick = PartyId("bods:ent-93c75c87ab28f889"), PartyId("bods:per-41c0bb0cef246f7c")

    def has(day: str) -> Share:
        found = control(Graph(holdings, day), entity).of(patrick)
        assert found is not None
        return found.measured(SHARES).integrated

    assert has("2020-01-01") == Share.exact(500_000)
    assert has("2021-12-01") == Share.exact(500_000), "the other half is still somebody's"
    assert has("2022-02-01") == Share.exact(1_000_000)
    stated = [
        one.share for one in holdings.interests if one.holder == patrick and one.kind is InterestKind.SHARES
    ]
    assert stated == [Share.exact(500_000), Share(500_000, 1_000_000), Share.exact(1_000_000)]


def test_an_indirect_interest_is_not_counted_beside_its_links() -> None:
    """The state has 100 % of a company through a ministry and a holding: each link once, and the sum as an attestation."""
    facts = read("bods-package-fi-soe")
    entity, state = PartyId("bods:19f1c5afe9d7"), PartyId("bods:05ce06ec97b1")
    found = control(Graph(facts.holdings, "2023-01-01"), entity)
    ministry = found.of(PartyId("bods:7ff95ba3682c"))
    assert ministry is not None
    assert ministry.measured(SHARES).integrated == Share.exact(1_000_000)
    over = found.of(state)
    assert over is not None
    assert (over.influence, over.controls) == (Answer.YES, Answer.YES)
    assert over.attested[0].terms == "indirect shareholding"


def test_joint_holders_have_their_parts_through_the_arrangement() -> None:
    """An arrangement has all shares, two persons half of it each."""
    found = control(Graph(read("joint-ownership").holdings, "2019-01-01"), PartyId("bods:31c55e425764"))
    shares = {one.party: one.measured(SHARES).integrated for one in found.controllers}
    assert shares[PartyId("bods:1accb8b18b99")] == Share.exact(500_000)
    assert shares[PartyId("bods:f040df24d9ec")] == Share.exact(500_000)


def test_an_exempt_company_is_unknown_and_not_clean() -> None:
    """A listed company need not say who holds it: somebody without a name may have everything."""
    facts = read("listed-company-exempt-from-disclosure")
    found = control(Graph(facts.holdings, "2020-01-01"), PartyId("bods:4c7ea3bfbe6c"))
    assert [one.controls for one in found.controllers] == [Answer.UNKNOWN]
    assert found.unnamed.controls is Answer.UNKNOWN
    assert facts.holdings.coverage[0].exempt.startswith("Exempt from disclosure")


def test_persons_names_are_kept_apart() -> None:
    """They are in no holding; what is public of a person are its ties to countries."""
    facts = read("fermcat")
    assert facts.private[PartyId("bods:per-41c0bb0cef246f7c")] == "Patrick O'Donohue"
    persons = [one for one in facts.public().parties.values() if one.kind is PartyKind.PERSON]
    assert all((one.name, one.since, one.until) == ("", "", "") for one in persons)
    assert "Donohue" not in repr(facts)


def test_exclusive_bounds_and_fine_shares_are_kept() -> None:
    """From 25 % to less than 50 %; a third is between two ppm."""
    shares = [one.share for one in read("full-pep-declaration").holdings.interests]
    assert shares == [Share(250_000, 499_999)] * 2
    statements = json.loads((OWNERSHIP / "bods_examples" / "joint-ownership.json").read_text())
    statements[-1]["recordDetails"]["interests"][0]["share"]["exact"] = 33.33333333
    fine = parse_bods(json.dumps(statements).encode(), "x").holdings.interests[-1].share
    assert fine == Share(333_333, 333_334)
    assert Fraction(fine.least_ppm) < Fraction("333333.3333") < fine.most_ppm


def test_an_interest_that_is_not_said_may_be_shares_and_may_be_control() -> None:
    """A relationship without a type: unknown shares, and influence that may be decisive."""
    kinds = {
        (one.kind, one.decisive)
        for one in read("indirect-ownership").holdings.interests
        if one.holder == "bods:c25d4d612c2c"
    }
    assert (InterestKind.SHARES, Answer.UNKNOWN) in kinds
    assert (InterestKind.INFLUENCE, Answer.UNKNOWN) in kinds
