"""GLEIF level 1 and 2: real records are read; a consolidation is an attestation, and an exception is unknown."""

import json
from typing import Any

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.sovereignty.control import control
from headrace.core.sovereignty.graph import SHARES, Graph
from headrace.core.sovereignty.holdings import UNKNOWN, Answer, PartyId, PartyKind
from headrace.ownership.gleif import load_gleif, parse_gleif
from tests.ownership.data import OWNERSHIP

GLEIF = OWNERSHIP / "gleif"
FUND, MANAGER = "001GPB6A9XPE8XJICC14", "5493001Z012YSB2A0K51"


def entity(lei: str = FUND, **more: object) -> dict[str, Any]:
    return {"LEI": lei, "Entity": {"LegalName": "x", "LegalJurisdiction": "NO", **more}}


def relationship(kind: str = "IS_DIRECTLY_CONSOLIDATED_BY", **more: object) -> dict[str, Any]:
    start, end = {"NodeID": FUND, "NodeIDType": "LEI"}, {"NodeID": MANAGER, "NodeIDType": "LEI"}
    return {"Relationship": {"StartNode": start, "EndNode": end, "RelationshipType": kind, **more}}


def said(*records: object) -> list[str]:
    with pytest.raises(HeadraceError) as caught:
        parse_gleif({"x.json": json.dumps(list(records)).encode()})
    return [problem.line() for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("entities", "relationships", "parties", "interests"),
    [("lei-data.json", "rr-data.json", 26, 10), ("lei-updates-data2.json", "rr-updates-data2.json", 12, 11)],
)
def test_real_records_of_both_levels_are_read(
    entities: str, relationships: str, parties: int, interests: int
) -> None:
    """Every entity and relationship; whoever has no record of level 1 is there, with its countries unknown."""
    facts = load_gleif(GLEIF / entities, GLEIF / relationships)
    assert (len(facts.holdings.parties), len(facts.holdings.interests)) == (parties, interests)
    assert len(facts.holdings.sources) == 2
    for one in facts.holdings.interests:
        assert one.share == UNKNOWN


def test_seat_and_headquarters_are_two_things() -> None:
    """A fund of the Cayman Islands that is led from Curacao, and one of Massachusetts."""
    parties = load_gleif(GLEIF / "lei-updates-data2.json").holdings.parties
    offshore = parties[PartyId("lei:00TR8NKAEL48RGTZEW89")]
    assert (offshore.country, offshore.headquarters) == ("KY", "CW")
    fund = load_gleif(GLEIF / "lei-data.json").holdings.parties[PartyId(f"lei:{FUND}")]
    assert (fund.country, fund.kind, fund.since) == ("US", PartyKind.ARRANGEMENT, "2012-11-29")


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("IS_DIRECTLY_CONSOLIDATED_BY", Answer.YES),
        ("IS_FUND-MANAGED_BY", Answer.UNKNOWN),
        ("IS_INTERNATIONAL_BRANCH_OF", Answer.YES),
    ],
)
def test_a_relationship_is_an_attestation(kind: str, answer: Answer) -> None:
    """Consolidation and branches are decisive; that a fund is managed leaves it unknown. Shares stay unknown in any case."""
    facts = parse_gleif({"x": json.dumps([entity(), entity(MANAGER), relationship(kind)]).encode()})
    found = control(Graph(facts.holdings, "2026-01-01"), PartyId(f"lei:{FUND}"))
    assert [(one.party, one.influence, one.controls) for one in found.controllers] == [
        (f"lei:{MANAGER}", answer, answer)
    ]
    assert found.unnamed.measured(SHARES).integrated == UNKNOWN


def test_a_reported_exception_makes_nothing_clean() -> None:
    """Nobody need be named: whoever stands over it is unknown, and the reason is kept."""
    exception = {
        "LEI": FUND,
        "ExceptionCategory": "ULTIMATE_ACCOUNTING_CONSOLIDATION_PARENT",
        "ExceptionReason": ["NO_KNOWN_PERSON"],
    }
    facts = parse_gleif({"x": json.dumps([entity(), exception]).encode()})
    assert facts.holdings.coverage[0].exempt == "ultimate accounting consolidation parent: no known person"
    assert (
        control(Graph(facts.holdings, "2026-01-01"), PartyId(f"lei:{FUND}")).unnamed.controls
        is Answer.UNKNOWN
    )


def test_gleifs_own_wrapping_is_read_too() -> None:
    """Texts under a dollar sign, records under their key: as its files have them."""
    text = json.dumps(
        {
            "records": [
                {"LEI": {"$": FUND}, "Entity": {"LegalName": {"$": "x"}, "LegalJurisdiction": {"$": "US-DE"}}}
            ]
        }
    )
    assert parse_gleif({"x": text.encode()}).holdings.parties[PartyId(f"lei:{FUND}")].country == "US"


def test_periods_say_from_when_and_until_when() -> None:
    """A relationship ends with its period; an inactive one without an end, with its last update."""
    period = {
        "StartDate": "2020-01-01T00:00:00Z",
        "EndDate": "2021-01-01T00:00:00Z",
        "PeriodType": "RELATIONSHIP_PERIOD",
    }
    ended = relationship(RelationshipPeriods=[{"PeriodType": "ACCOUNTING_PERIOD"}, period])
    inactive = relationship("IS_SUBFUND_OF", RelationshipStatus="INACTIVE") | {
        "Registration": {"LastUpdateDate": "2022-02-02T01:02:03Z"}
    }
    facts = parse_gleif({"x": json.dumps([entity(), entity(MANAGER), ended, inactive]).encode()})
    assert [(one.since, one.until) for one in facts.holdings.interests] == [
        ("2020-01-01", "2021-01-01"),
        ("", "2022-02-02"),
    ]


def test_a_relationship_older_than_its_company_begins_with_it() -> None:
    """Noted, with its place; one that was over by then is left out."""
    period = {"StartDate": "2010-01-01", "PeriodType": "RELATIONSHIP_PERIOD"}
    gone = {**period, "EndDate": "2011-01-01"}
    records = [
        entity(EntityCreationDate="2015-05-05"), entity(MANAGER), relationship(RelationshipPeriods=[period]),
        relationship("IS_SUBFUND_OF", RelationshipPeriods=[gone]),
    ]  # fmt: skip
    facts = parse_gleif({"x": json.dumps(records).encode()})
    assert [one.since for one in facts.holdings.interests] == ["2015-05-05"]
    assert [note.split(":")[0] for note in facts.notes] == ["x#/2", "x#/3"]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            entity("5493001Z012YSB2A0K52"),
            "x.json#/0: 5493001Z012YSB2A0K52 is no LEI: its check digits are wrong.",
        ),
        (entity("short"), "x.json#/0: 'short' is no LEI."),
        (entity(LegalJurisdiction="UK"), "x.json#/0: no country 'UK'. Did you mean GB?"),
        (entity(HeadquartersAddress={"Country": "XX"}), "x.json#/0: no country 'XX'."),
        (relationship("OWNS"), "x.json#/0: no type of relationship 'OWNS'."),
        ({"a": 1}, "x.json#/0: a record of neither level."),
        (7, "x.json#/0: 7 is no record."),
    ],
)
def test_what_is_broken_is_named_with_its_place(record: object, line: str) -> None:
    """One record, one problem."""
    assert said(record)[0].startswith(line)
