"""Limits of a profile: each outside and all together, in every view; what is exactly at a limit keeps it."""

import pytest

from headrace.core.sovereignty.control import control
from headrace.core.sovereignty.graph import DILUTED_SHARES, SHARES, Graph
from headrace.core.sovereignty.groups import Tie
from headrace.core.sovereignty.holdings import Answer, Conversion, InterestKind, Party, PartyId, Share
from headrace.core.sovereignty.limits import Held, Limit, against, falls_to
from tests.core.sovereignty.small import graph, link, party, percent

A = PartyId("a")
YES, NO, UNKNOWN = Answer.YES, Answer.NO, Answer.UNKNOWN
LIMIT = Limit("north", ("NO",), 240_000, 390_000)


def people(**residences: str) -> list[Party]:
    return [
        party(name.replace("_", "-"), residences=(country,), nationalities=(country,))
        for name, country in residences.items()
    ]


def held(of: Graph, limit: Limit = LIMIT, view: object = SHARES) -> Held:
    return next(one for one in against(of, A, limit) if one.view == view)


@pytest.mark.parametrize(
    ("parts", "together", "single", "sums"),
    [
        ({"p_us": 24, "p_jp": 15, "p_no": 61}, percent(39), NO, NO),
        ({"p_us": "24.0001", "p_jp": "14.9999", "p_no": 61}, percent(39), YES, NO),
        ({"p_us": 20, "p_jp": "19.0001", "p_no": "60.9999"}, percent("39.0001"), NO, YES),
        ({"p_us": (20, 30), "p_no": (70, 80)}, percent((20, 30)), UNKNOWN, NO),
        ({"p_us": 20, "p_no": (60, 80)}, percent(20), NO, NO),
    ],
)
def test_each_outside_and_all_together(
    parts: dict[str, object], together: Share, single: Answer, sums: Answer
) -> None:
    """24 % and 39 %: exactly at a limit keeps it, a ppm more doesn't; a range across it is unknown."""
    links = [link(name.replace("_", "-"), "a", part) for name, part in parts.items()]
    made = graph(links, complete="a", parties=people(p_us="US", p_jp="JP", p_no="NO"))
    found = held(made)
    assert (found.together, found.is_single_exceeded, found.is_together_exceeded) == (together, single, sums)


def test_what_nobody_knows_may_be_outside() -> None:
    """A fifth that isn't on the list: with the 22 % outside above both limits, if the same party stands behind it."""
    made = graph([link("p-us", "a", 22), link("p-no", "a", 58)], parties=people(p_us="US", p_no="NO"))
    found = held(made)
    assert (found.together, found.is_together_exceeded) == (percent((22, 42)), UNKNOWN)
    assert found.is_single_exceeded is UNKNOWN
    assert [(one.party, one.share) for one in found.singles] == [
        ("p-us", percent((22, 42))),
        (None, percent((0, 20))),
    ]


def test_what_is_held_through_companies_counts_by_its_part() -> None:
    """Half of a company that has half; a company outside counts whole, whoever is behind it."""
    inside = party("b", country="NO", headquarters="NO")
    made = graph(
        [link("b", "a", 50), link("p-no", "a", 50), link("p-us", "b", 50), link("p-no", "b", 50)],
        complete="a b",
        parties=[*people(p_us="US", p_no="NO"), inside],
    )
    assert held(made).together == percent(25)
    outside = party("b", country="US", headquarters="US")
    made = graph(
        [link("b", "a", 50), link("p-no", "a", 50), link("p-us", "b", 50), link("p-no", "b", 50)],
        complete="a b",
        parties=[*people(p_us="US", p_no="NO"), outside],
    )
    assert held(made).together == percent(50)


def test_fully_diluted_may_exceed_what_is_kept_today() -> None:
    """20 % outside now; a convertible of 30 % more of all capital: 44 % then."""
    note = link("p-us", "a", 0, InterestKind.CONVERTIBLE, converts=Conversion(percent(30)))
    made = graph(
        [link("p-us", "a", 20), link("p-no", "a", 80), note],
        complete="a",
        parties=people(p_us="US", p_no="NO"),
    )
    assert held(made).exceeded is NO
    diluted = held(made, view=DILUTED_SHARES)
    assert (diluted.together, diluted.exceeded) == (percent(44), YES)


def test_a_profile_says_which_ties_count_for_it() -> None:
    """Led from abroad and registered at home: outside by headquarters, inside by seat."""
    company = party("b", country="NO", headquarters="US")
    made = graph(
        [link("b", "a", 100), link("p-no", "b", 100)], complete="a b", parties=[company, *people(p_no="NO")]
    )
    assert held(made).exceeded is YES
    assert held(made, Limit("seat", ("NO",), 240_000, 390_000, frozenset({Tie.SEAT}))).exceeded is NO


def test_who_is_left_out_of_a_report_is_not_taken_to_keep_the_limit() -> None:
    """Each of fifty has less than those shown; together they could be one's in nobody's eyes, but the group's sum counts all."""
    names = {f"p{number:03}": "US" for number in range(50)}
    made = graph([link(name, "a", 2) for name in names], complete="a", parties=people(**names))
    found = control(made, A, most=5)
    one = next(one for one in against(made, A, LIMIT, found) if one.view == SHARES)
    assert (one.together, one.is_together_exceeded, one.is_single_exceeded) == (percent(100), YES, UNKNOWN)
    assert held(made).is_single_exceeded is NO


def test_a_cascade_by_another_part_than_a_half() -> None:
    """The part is an argument: more than half, in whole ppm."""
    made = graph([link("p-x", "a", 50), link("p-y", "a", 50)], complete="a")
    assert falls_to(made, A, [PartyId("p-x")])[0].answer is YES
    assert falls_to(made, A, [PartyId("p-x")], least_ppm=500_001)[0].answer is NO
