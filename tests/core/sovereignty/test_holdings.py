"""What can't be is named: names, dates and sums; and what is stated reads as it was meant."""

from collections.abc import Sequence

import pytest

from headrace.core.sovereignty.graph import SHARES, VOTES, Graph
from headrace.core.sovereignty.holdings import (
    UNKNOWN,
    Conversion,
    Coverage,
    Interest,
    InterestKind,
    Party,
    PartyId,
    Share,
    SourceId,
    flaws,
)
from headrace.core.sovereignty.rows import Row, tightened
from tests.core.sovereignty.small import DAY, graph, holdings, link, party, percent

FLAWS: list[tuple[str, Sequence[Interest], Sequence[Party], Sequence[Coverage], str]] = [
    (
        "more than all",
        [link("p", "a", 60), link("q", "a", 41)],
        [],
        [],
        "its shares add up to 101 %: shares:p>a, shares:q>a.",
    ),
    (
        "more than all for a time",
        [link("p", "a", 60, since="2020-01-01"), link("q", "a", 60, since="2019-01-01", until="2020-01-02")],
        [],
        [],
        "its shares add up to 120 % from 2020-01-01: shares:p>a2020-01-01, shares:q>a2019-01-01.",
    ),
    (
        "of the votes",
        [link("p", "a", 60, InterestKind.VOTES), link("q", "a", 60, InterestKind.VOTES)],
        [],
        [],
        "its votes add up to 120 %: votes:p>a, votes:q>a.",
    ),
    (
        "of the board",
        [link("p", "a", 60, InterestKind.BOARD), link("q", "a", 60, InterestKind.BOARD)],
        [],
        [],
        "its board add up to 120 %: board:p>a, board:q>a.",
    ),
    (
        "less than a complete list",
        [link("p", "a", 60)],
        [],
        [Coverage(PartyId("a"), 0)],
        "its list of holders is called complete, but has 60 % at most.",
    ),
    (
        "before birth",
        [link("p", "a", 5, since="1990-01-01")],
        [party("p", since="1990-01-02")],
        [],
        "it begins 1990-01-01, but p was born 1990-01-02.",
    ),
    (
        "before founding",
        [link("p", "a", 5, since="1990-01-01")],
        [party("a", since="1990-01-02")],
        [],
        "it begins 1990-01-01, but a was founded 1990-01-02.",
    ),
    (
        "after the end",
        [link("p", "a", 5, since="1990-01-02")],
        [party("p", until="1990-01-02")],
        [],
        "it begins 1990-01-02, but p ended 1990-01-02.",
    ),
    (
        "backwards",
        [link("p", "a", 5, since="1990-01-02", until="1990-01-02")],
        [],
        [],
        "it ends 1990-01-02, but begins 1990-01-02.",
    ),
    (
        "a life backwards",
        [],
        [party("a", since="2020-01-01", until="2019-01-01")],
        [],
        "it ends 2019-01-01, but begins 2020-01-01.",
    ),
    ("nobody's", [link("a", "p", 5)], [], [], "p is a person: nobody has shares in it."),
    ("a source nobody stated", [link("p", "a", 5, source=SourceId("x"))], [], [], "no source 'x'."),
    (
        "a coverage of nobody",
        [link("p", "a", 5)],
        [],
        [Coverage(PartyId("z"), 0)],
        "a coverage of 'z', which is no party.",
    ),
]


@pytest.mark.parametrize(
    ("links", "parties", "coverage", "message"), [one[1:] for one in FLAWS], ids=[one[0] for one in FLAWS]
)
def test_what_cannot_be_is_named(
    links: Sequence[Interest], parties: Sequence[Party], coverage: Sequence[Coverage], message: str
) -> None:
    """With what it is about, and a next step."""
    found = list(flaws(holdings(links, parties=parties, coverage=coverage)))
    assert [flaw.message for flaw in found] == [message]
    assert all(flaw.what and flaw.next_step for flaw in found)


def test_what_follows_on_the_same_day_is_not_more_than_all() -> None:
    """One ends when the next begins, and ranges count with their least."""
    links = [
        link("p", "a", 100, since="2020-01-01", until="2021-01-01"),
        link("q", "a", 60, since="2021-01-01"),
        link("r", "a", (0, 100), since="2021-01-01"),
    ]
    assert list(flaws(holdings(links))) == []


def test_a_party_that_nobody_stated_is_named() -> None:
    """As a holder, and as a subject."""
    made = holdings([link("p", "a", 5)])
    broken = type(made)({}, made.interests)
    assert [flaw.message for flaw in flaws(broken)] == [
        "no party 'p', its holder.",
        "no party 'a', its subject.",
    ]


@pytest.mark.parametrize(("least", "most"), [(-1, 5), (6, 5), (0, 1_000_001)])
def test_a_share_outside_of_its_whole_cannot_be_made(least: int, most: int) -> None:
    """It is refused where it is made."""
    with pytest.raises(ValueError, match="no share"):
        Share(least, most)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (percent(25), "25 %"),
        (percent("0.0001"), "0.0001 %"),
        (percent((25, 50)), "25 to 50 %"),
        (UNKNOWN, "unknown"),
        (percent("12.50"), "12.5 %"),
    ],
)
def test_a_share_reads_as_people_write_it(share: Share, text: str) -> None:
    """Nothing known is called so."""
    assert str(share) == text


@pytest.mark.parametrize(
    ("held", "above", "found"),
    [
        ({"p": (0, 100), "q": 60}, 1_000_000, {"p": (0, 40), "q": 60}),
        ({"p": (0, 100), "q": (50, 60)}, 0, {"p": (40, 50), "q": (50, 60)}),
        ({"p": (0, 100), "q": (0, 100)}, 0, {"p": (0, 100), "q": (0, 100)}),
        ({"p": (10, 30)}, 1_000_000, {"p": (10, 30)}),
    ],
)
def test_ranges_are_cut_to_what_the_others_leave(
    held: dict[str, object], above: int, found: dict[str, object]
) -> None:
    """On a complete list from both sides, else from above alone."""
    row = Row({PartyId(name): percent(value) for name, value in held.items()}, above)
    assert dict(tightened(row).held) == {name: percent(value) for name, value in found.items()}


def test_several_holdings_of_one_holder_add_up() -> None:
    """Two classes of shares: one row of both, with both as its evidence."""
    links = [link("p", "a", 10), link("p", "a", (20, 30), since="2020-01-01")]
    of = graph(links)
    step = of.step(of.number[PartyId("p")], of.number[PartyId("a")], SHARES)
    assert (step.least_ppm, step.most_ppm) == (300_000, 400_000)
    assert step.interests == ("shares:p>a", "shares:p>a2020-01-01")


def test_a_graph_is_not_changed_by_a_change() -> None:
    """With an interest, and without it again: the first graph is as it was."""
    of = Graph(
        holdings(
            [link("p", "a", 10), link("q", "a", 0, InterestKind.WARRANT, converts=Conversion(percent(5)))]
        ),
        DAY,
    )
    before = of.book(SHARES).least.copy()
    more = of.with_interest(link("q", "a", 50))
    assert (of.book(SHARES).least == before).all()
    assert more.book(VOTES).least.tolist() == [100_000, 500_000]
    assert more.without_interest(link("q", "a", 50)).book(SHARES).least.tolist() == before.tolist()
    with pytest.raises(KeyError):
        of.with_interest(link("nobody", "a", 1))
