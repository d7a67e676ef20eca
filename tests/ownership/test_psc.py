"""The UK's register of significant control: every kind of line of the snapshot, and what makes nothing clean."""

import json
from typing import Any

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.sovereignty.control import BANDS, control
from headrace.core.sovereignty.graph import SHARES, VOTES, Graph
from headrace.core.sovereignty.holdings import UNKNOWN, Answer, InterestKind, PartyId, PartyKind, Share
from headrace.ownership.facts import Facts
from headrace.ownership.psc import load_psc, parse_psc
from tests.ownership.data import OWNERSHIP

COMPANY = PartyId("gb-coh:01234567")
INDIVIDUAL = "individual-person-with-significant-control"


def read(name: str) -> Facts:
    return load_psc(OWNERSHIP / "uk_psc" / f"psc_{name}.json")


def line(**data: object) -> dict[str, Any]:
    base = {
        "kind": INDIVIDUAL,
        "links": {"self": f"/{data.get('etag', 'x')}"},
        "natures_of_control": ["ownership-of-shares-25-to-50-percent"],
    }
    return {"company_number": "1234567", "data": {**base, **data}}


def lines(*records: object) -> Facts:
    return parse_psc("\n".join(json.dumps(record) for record in records).encode(), "psc.txt")


def test_there_are_thirteen_kinds_of_lines_to_read() -> None:
    """And every one is read without a problem."""
    paths = sorted((OWNERSHIP / "uk_psc").glob("*.json"))
    assert len(paths) == 13
    for path in paths:
        load_psc(path)


def test_a_person_has_bands_of_shares_and_votes() -> None:
    """More than 25 % and at most 50 % of both, from the day of the notice; the name is kept apart."""
    facts = read("individual")
    found = control(Graph(facts.holdings, "2020-01-01"), COMPANY)
    one = found.controllers[0]
    for view in (SHARES, VOTES):
        assert one.measured(view).attributed == Share(250_001, 500_000)
        assert one.measured(view).bands == (BANDS[1],)
    assert one.controls is Answer.NO
    party = facts.holdings.parties[one.party or COMPANY]
    assert (party.kind, party.name, party.residences, party.nationalities) == (
        PartyKind.PERSON,
        "",
        ("GB",),
        ("GB",),
    )
    assert list(facts.private.values()) == ["Joe Bloggs"]


def test_what_has_ceased_is_there_until_it_ceased() -> None:
    """A holding from April to October 2016."""
    graph = {
        day: Graph(read("ceased_on").holdings, day) for day in ("2016-04-05", "2016-10-10", "2016-10-11")
    }
    assert [len(control(of, COMPANY).controllers) for of in graph.values()] == [0, 1, 0]


@pytest.mark.parametrize(
    ("nature", "kind", "share"),
    [
        ("ownership-of-shares-25-to-50-percent", InterestKind.SHARES, Share(250_001, 500_000)),
        ("ownership-of-shares-50-to-75-percent", InterestKind.SHARES, Share(500_001, 749_999)),
        ("ownership-of-shares-75-to-100-percent-as-trust", InterestKind.SHARES, Share(750_000, 1_000_000)),
        ("voting-rights-75-to-100-percent-as-firm", InterestKind.VOTES, Share(750_000, 1_000_000)),
        (
            "right-to-share-surplus-assets-50-to-75-percent-limited-liability-partnership",
            InterestKind.SHARES,
            Share(500_001, 749_999),
        ),
        ("right-to-appoint-and-remove-directors", InterestKind.BOARD, Share(500_001, 1_000_000)),
        (
            "right-to-appoint-and-remove-members-limited-liability-partnership",
            InterestKind.BOARD,
            Share(500_001, 1_000_000),
        ),
        ("significant-influence-or-control-as-trust", InterestKind.INFLUENCE, UNKNOWN),
        ("something-new", InterestKind.INFLUENCE, UNKNOWN),
    ],
)
def test_natures_of_control_are_read_as_bands(nature: str, kind: InterestKind, share: Share) -> None:
    """One that isn't known is influence that may be decisive, and is noted."""
    facts = lines(line(natures_of_control=[nature]))
    assert [(one.kind, one.share) for one in facts.holdings.interests] == [(kind, share)]
    assert bool(facts.notes) == (nature == "something-new")


def test_the_right_to_appoint_most_of_the_board_is_control() -> None:
    """Whatever the shares are."""
    facts = lines(line(natures_of_control=["right-to-appoint-and-remove-directors"]))
    one = control(Graph(facts.holdings, "2020-01-01"), COMPANY).controllers[0]
    assert (one.board, one.controls, one.measured(SHARES).integrated.least_ppm) == (Answer.YES, Answer.YES, 0)


@pytest.mark.parametrize("name", ["exemptions", "super_secure", "corporate", "legal"])
def test_exemptions_secrets_and_what_is_not_stated_are_unknown(name: str) -> None:
    """Nobody can say that nobody controls the company."""
    facts = read(name)
    found = control(Graph(facts.holdings, "2020-01-01"), COMPANY)
    assert found.unnamed.controls is Answer.UNKNOWN
    assert all(one.controls is Answer.UNKNOWN for one in found.controllers)


def test_that_nobody_has_significant_control_is_read_as_what_it_says() -> None:
    """Nobody has more than a quarter: nobody who isn't named can have the majority, but somebody may have 25 %."""
    found = control(Graph(read("statement").holdings, "2020-01-01"), COMPANY)
    assert found.unnamed.controls is Answer.NO
    assert found.unnamed.measured(VOTES).attributed == Share(0, 250_000)
    assert (
        control(Graph(read("statement").holdings, "2016-07-11"), COMPANY).unnamed.controls is Answer.UNKNOWN
    )


@pytest.mark.parametrize(("name", "country"), [("no_country", ""), ("no_match", ""), ("not_found", "GB")])
def test_a_company_has_the_country_that_can_be_understood(name: str, country: str) -> None:
    """West Yorkshire is none: unknown, and noted."""
    facts = read(name)
    holder = next(party for party in facts.holdings.parties.values() if party.id != COMPANY)
    assert holder.country == country
    assert bool(facts.notes) == (name == "no_match")


def test_british_companies_have_one_name_in_all_lines() -> None:
    """A registered number leads to the company itself, whoever holds it in turn."""
    most = ["ownership-of-shares-75-to-100-percent"]
    registered = {"country_registered": "England", "registration_number": "56099"}
    kind = "corporate-entity-person-with-significant-control"
    facts = lines(
        line(kind=kind, name="B", identification=registered, natures_of_control=most),
        {**line(natures_of_control=most), "company_number": "00056099"},
    )
    found = control(Graph(facts.holdings, "2020-01-01"), COMPANY)
    assert [one.controls for one in found.controllers] == [Answer.YES, Answer.YES]
    assert found.controllers[1].measured(VOTES).majority is Answer.YES


def test_what_is_held_jointly_is_not_more_than_all() -> None:
    """Two who both have three quarters or more hold them together: what each has alone is unknown, and noted."""
    most = ["ownership-of-shares-75-to-100-percent"]
    facts = lines(line(etag="a", natures_of_control=most), line(etag="b", natures_of_control=most))
    assert [one.share for one in facts.holdings.interests] == [Share(0, 1_000_000)] * 2
    assert "held jointly" in facts.notes[0]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"company_number": "x y", "data": {"kind": INDIVIDUAL}}, "psc.txt:1: 'x y' is no company number."),
        (line(notified_on="2016-13-01"), "psc.txt:1: there is no day '2016-13-01'."),
        (line(natures_of_control="shares"), "psc.txt:1: 'shares' are no natures of control."),
        ({"company_number": "1"}, "psc.txt:1: a mapping is no line of the register."),
        (
            line(notified_on="2016-01-01", ceased_on="2015-01-01"),
            "psc.txt:1: psc:gb-coh:01234567:/x/0: it ends 2015-01-01",
        ),
        (
            line(notified_on="1980-01-01", date_of_birth={"year": 1990}),
            "it begins 1980-01-01, but psc:/x was born 1990-01-01",
        ),
    ],
)
def test_what_is_broken_is_named_with_its_line(record: object, message: str) -> None:
    """One line, one problem."""
    with pytest.raises(HeadraceError) as caught:
        lines(record)
    assert message in caught.value.problem.line()
