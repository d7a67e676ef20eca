"""Which countries reach a company or site, through what, with evidence; unknown wherever a tie isn't known."""

from dataclasses import replace

import pytest

from headrace.core.sovereignty.exposure import Exposures, Place, Supply, Through, exposures, exposures_of_site
from headrace.core.sovereignty.graph import Graph
from headrace.core.sovereignty.groups import Tie, countries_of, is_outside, is_tied
from headrace.core.sovereignty.holdings import (
    Answer,
    Coverage,
    Holdings,
    InterestKind,
    Party,
    PartyId,
    SourceId,
)
from tests.core.sovereignty.small import graph, link, party

OPERATOR, OWNER, SUPPLIER = PartyId("operator"), PartyId("owner"), PartyId("supplier")
YES, NO, UNKNOWN = Answer.YES, Answer.NO, Answer.UNKNOWN


def company(name: str, country: str, headquarters: str = "") -> Party:
    return party(name, country=country, headquarters=headquarters or country)


def person(name: str, *countries: str) -> Party:
    return party(name, nationalities=countries, residences=countries[:1])


def world(*more: object, staff: bool = True, suppliers: bool = True, owner: str = "NO") -> Graph:
    """A Norwegian operator, wholly held by one owner, with complete lists of staff and suppliers."""
    lists = [Coverage(OPERATOR, 0), Coverage(OWNER, 0)]
    for name in (OPERATOR, OWNER, SUPPLIER):
        lists += [Coverage(name, 0, InterestKind.STAFF)] * staff
        lists += [Coverage(name, 0, InterestKind.SUPPLIER)] * suppliers
    lists.append(Coverage(SUPPLIER, 0))
    links = [
        link("owner", "operator", 100),
        link("p-owner", "owner", 100),
        link("p-maker", "supplier", 100),
        *more,
    ]
    parties = [
        company("operator", "NO"), company("owner", owner), person("p-owner", owner), company("supplier", "US"),
        person("p-maker", "US"), person("p-tech", "IN"), company("bank", "JP"),
    ]  # fmt: skip
    return graph(links, parties=parties, coverage=lists)  # type: ignore[arg-type]  # links


def answers(found: Exposures, country: str) -> dict[str, Answer]:
    return {through.value: found.answer(country, through) for through in Through}


def test_an_operator_of_which_all_is_known_is_reached_by_no_other_country() -> None:
    """Norwegian in every way: any other country is out, and not unknown."""
    found = exposures(world(), OPERATOR)
    assert found.countries() == ("NO",)
    assert set(answers(found, "US").values()) == {NO}
    assert found.gaps == {}


def test_the_country_of_who_controls_it_reaches_it() -> None:
    """Through the owner and through who has the owner, with the holdings that show it."""
    found = exposures(world(owner="US"), OPERATOR)
    assert answers(found, "US") == {
        "seat": NO,
        "headquarters": NO,
        "control": YES,
        "person": NO,
        "custody": NO,
    }
    flags = [one for one in found.flags if one.country == "US" and one.by == "p-owner"]
    assert [[(step.holder, step.subject) for step in one.path] for one in flags] == [
        [("p-owner", "owner"), ("owner", "operator")]
    ] * 2


def test_people_reach_it_by_where_they_live_and_where_they_belong() -> None:
    """A technician from India; the source of the listing is named."""
    staff = link("p-tech", "operator", 0, InterestKind.STAFF, terms="technician", source=SourceId("list"))
    found = exposures(world(staff), OPERATOR)
    assert answers(found, "IN")["person"] is YES
    flag = next(one for one in found.flags if one.through is Through.PERSON)
    assert (flag.by, flag.sources, flag.why) == (
        "p-tech",
        ("list",),
        "p-tech is technician of operator; its nationality",
    )


@pytest.mark.parametrize(
    ("custody", "answer"),
    [(("keys",), YES), (("data", "operations"), YES), ((), UNKNOWN), (("nothing",), NO)],
)
def test_a_supplier_reaches_it_by_what_it_has_in_hand(custody: tuple[str, ...], answer: Answer) -> None:
    """Keys or data: yes. Not said what: unknown. Nothing, as somebody says: no."""
    supply = link("supplier", "operator", 0, InterestKind.SUPPLIER, custody=custody)
    found = exposures(world(supply), OPERATOR)
    assert answers(found, "US")["custody"] is answer


def test_what_reaches_a_supplier_reaches_who_it_supplies() -> None:
    """An operator's Norwegian supplier of keys whose owner is American; also at a site, and once for suppliers in a ring."""
    ring = [
        link("owner", "operator", 0, InterestKind.SUPPLIER, custody=("keys",)),
        link("supplier", "owner", 0, InterestKind.SUPPLIER, custody=("software",)),
        link("owner", "supplier", 0, InterestKind.SUPPLIER, custody=("data",)),
    ]
    found = exposures(world(*ring), OPERATOR)
    assert answers(found, "US")["custody"] is YES
    place = Place("glomfjord", "NO", OPERATOR, (Supply(SUPPLIER, ("hardware",), SourceId("contract")),))
    at_site = exposures_of_site(world(), place)
    assert answers(at_site, "US")["custody"] is YES
    flag = next(one for one in at_site.flags if one.country == "US" and one.through is Through.CUSTODY)
    assert flag.why.startswith("supplier has hardware in hand; ")
    assert "contract" in flag.sources


def test_a_lender_with_covenants_may_control() -> None:
    """Whether a covenant is control nobody computes: unknown, by the lender's country."""
    loan = link("bank", "operator", 0, InterestKind.LOAN, terms="change of control needs consent")
    found = exposures(world(loan), OPERATOR)
    assert answers(found, "JP")["control"] is UNKNOWN
    assert answers(found, "FR")["control"] is NO


@pytest.mark.parametrize(
    ("made", "through"),
    [
        (world(staff=False), Through.PERSON),
        (world(suppliers=False), Through.CUSTODY),
        (graph([], parties=[party("operator", headquarters="NO")]), Through.SEAT),
        (graph([], parties=[party("operator", country="NO")]), Through.HEADQUARTERS),
        (graph([], parties=[party("operator", country="NO")]), Through.CONTROL),
        (graph([link("u-somebody", "operator", 100)]), Through.CONTROL),
    ],
)
def test_what_is_not_known_is_a_gap_by_its_channel(made: Graph, through: Through) -> None:
    """A list that nobody calls complete, a seat or headquarters that isn't stated, owners that nobody names."""
    found = exposures(made, OPERATOR)
    assert found.answer("FR", through) is UNKNOWN
    assert found.gaps[through]


def test_a_site_whose_country_is_not_known_may_stand_anywhere() -> None:
    """Its seat is then a gap, whatever the operator's is."""
    found = exposures_of_site(world(), Place("north", "", OPERATOR))
    assert found.answer("FR", Through.SEAT) is UNKNOWN
    assert exposures_of_site(world(), Place("north", "NO", OPERATOR)).answer("FR", Through.SEAT) is NO


TIES = [
    (company("a", "NO"), "NO", YES, NO),
    (company("a", "NO", "US"), "US", YES, YES),
    (company("a", "US", "NO"), "NO", YES, YES),
    (party("a", country="NO"), "US", UNKNOWN, UNKNOWN),
    (party("a"), "US", UNKNOWN, UNKNOWN),
    (person("p", "NO", "US"), "US", YES, NO),
    (person("p", "US", "NO"), "NO", YES, YES),
    (party("p", residences=("NO",)), "US", UNKNOWN, UNKNOWN),
    (party("p", residences=("US",)), "US", YES, YES),
    (party("s-norway", country="NO"), "US", NO, NO),
    (party("u"), "US", UNKNOWN, UNKNOWN),
]


@pytest.mark.parametrize(("one", "country", "tied", "outside"), TIES)
def test_ties_to_a_country_and_standing_outside_of_some(
    one: Party, country: str, tied: Answer, outside: Answer
) -> None:
    """Outside of Norway by a seat, headquarters or residence abroad, and by nationality when none is Norwegian."""
    assert is_tied(one, country) is tied
    assert is_outside(one, ("NO",)) is outside


def test_a_profile_says_which_ties_count() -> None:
    """By the seat alone, where a company is led from makes no difference; a person has no seat."""
    seat = frozenset({Tie.SEAT})
    assert is_outside(company("a", "NO", "US"), ("NO",), seat) is NO
    assert is_outside(person("p", "US"), ("NO",), seat) is NO
    assert countries_of(company("a", "NO", "US"), Tie.HEADQUARTERS) == ("US",)


def test_a_lender_to_who_controls_it_may_control_it_too() -> None:
    """What may be control of the owner may be control of what it owns."""
    loan = link("bank", "owner", 0, InterestKind.LOAN, terms="change of control needs consent")
    found = exposures(world(loan), OPERATOR)
    assert answers(found, "JP")["control"] is UNKNOWN
    assert answers(found, "FR")["control"] is NO


@pytest.mark.parametrize(("own", "others", "answer"), [(30, 21, YES), (30, 20, NO), ((20, 40), 21, UNKNOWN)])
def test_seats_of_the_board_add_up_of_one_holder_and_of_all_whom_it_controls(
    own: object, others: int, answer: Answer
) -> None:
    """An American has 30 % of the seats, twice or itself and through a company: more than half is control, a half is not."""
    board = InterestKind.BOARD
    twice = [
        link("p-us", "operator", own, board),
        link("p-us", "operator", others, board, since="2025-01-01"),
    ]
    through = [
        link("p-us", "operator", own, board),
        link("b", "operator", others, board),
        link("p-us", "b", 100),
    ]
    for seats in (twice, through):
        made = world(*seats, owner="NO")
        parties = {
            **made.holdings.parties,
            PartyId("p-us"): person("p-us", "US"),
            PartyId("b"): company("b", "NO"),
        }
        complete = (*made.holdings.coverage, Coverage(PartyId("b"), 0))
        again = Graph(Holdings(parties, made.holdings.interests, complete), made.day)
        assert answers(exposures(again, OPERATOR), "US")["control"] is answer


def test_who_has_no_name_may_be_anybody_whatever_is_said_of_it() -> None:
    """A director without a name who is said to live in Norway: no country is out."""
    staff = link("u-one", "operator", 0, InterestKind.STAFF)
    made = world(staff)
    hidden = party("u-one", country="NO", headquarters="NO")
    again = Graph(replace(made.holdings, parties={**made.holdings.parties, hidden.id: hidden}), made.day)
    assert answers(exposures(again, OPERATOR), "FR")["person"] is UNKNOWN
