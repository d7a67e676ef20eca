"""OFAC's 50 % rule: the examples of FAQ 401 restated, what FAQ 398 and 399 say, and a plain fixpoint as its oracle."""

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.sovereignty.cascade import OFAC_PPM, OUT, Rule, cascade
from headrace.core.sovereignty.holdings import Answer, InterestKind, PartyId, Share
from headrace.core.sovereignty.limits import falls_to
from tests.core.sovereignty import naive
from tests.core.sovereignty.small import alone, graph, link

EXAMPLES = [
    # FAQ 401, example by example: who has how much of whom, the entity that is asked about, and whether it is blocked.
    ("x has half of a, a half of b", [("p-x", "a", 50), ("a", "b", 50)], "b", True),
    (
        "x has half of a and b, each a quarter of c",
        [("p-x", "a", 50), ("p-x", "b", 50), ("a", "c", 25), ("b", "c", 25)],
        "c",
        True,
    ),
    (
        "x has half of a and a tenth of b, a 40 % of b",
        [("p-x", "a", 50), ("p-x", "b", 10), ("a", "b", 40)],
        "b",
        True,
    ),
    (
        "x has half of a and a quarter of b, each a quarter of c: b is no way to c",
        [("p-x", "a", 50), ("p-x", "b", 25), ("a", "c", 25), ("b", "c", 25)],
        "c",
        False,
    ),
    (
        "x has a quarter of a and of b, each half of c: neither is a way to c",
        [("p-x", "a", 25), ("p-x", "b", 25), ("a", "c", 50), ("b", "c", 50)],
        "c",
        False,
    ),
    (
        "x has half of a, y half of b, each a quarter of c: what several blocked persons have adds up",
        [("p-x", "a", 50), ("p-y", "b", 50), ("a", "c", 25), ("b", "c", 25)],
        "c",
        True,
    ),
    # FAQ 399: shares of several blocked persons in one entity add up.
    ("x has a quarter of a, y another", [("p-x", "a", 25), ("p-y", "a", 25)], "a", True),
    ("just below a half", [("p-x", "a", "49.9999")], "a", False),
]


@pytest.mark.parametrize(
    ("links", "entity", "blocked"), [one[1:] for one in EXAMPLES], ids=[one[0] for one in EXAMPLES]
)
def test_the_examples_of_the_public_rule(
    links: list[tuple[str, str, object]], entity: str, blocked: bool
) -> None:
    """Each as OFAC has it, where the rest of every entity is somebody's who is not blocked."""
    rest: dict[str, Fraction] = {}
    for _, subject, share in links:
        rest[subject] = rest.get(subject, Fraction(100)) - Fraction(str(share))
    made = [link(*one) for one in links] + [
        link("p-other", name, share) for name, share in rest.items() if share
    ]
    of = graph(made, complete=" ".join(rest))
    listed = [name for name in (PartyId("p-x"), PartyId("p-y")) if name in of.number]
    assert falls_to(of, PartyId(entity), listed)[0].answer is (Answer.YES if blocked else Answer.NO)


@pytest.mark.parametrize(
    ("holder", "kind", "answer"),
    [
        ("p-x", InterestKind.SHARES, Answer.UNKNOWN),
        ("u-x", InterestKind.SHARES, Answer.UNKNOWN),
        ("p-x", InterestKind.BOARD, Answer.NO),
        ("p-x", InterestKind.INFLUENCE, Answer.NO),
    ],
)
def test_unknown_shares_are_not_clean_and_control_is_not_ownership(
    holder: str, kind: InterestKind, answer: Answer
) -> None:
    """FAQ 398: the rule speaks of ownership alone. Shares nobody knows, or a holder without a name, leave it unknown."""
    more = {"decisive": Answer.YES} if kind is InterestKind.INFLUENCE else {}
    rest = [] if kind is InterestKind.SHARES else [link("p-other", "a", 100)]
    of = graph(
        [
            link(holder, "a", (0, 100) if kind is InterestKind.SHARES else 100, kind, **more),
            link("p-x", "b", 1),
            *rest,
        ],
        complete="a" if rest else "",
    )
    assert falls_to(of, PartyId("a"), [PartyId("p-x")])[0].answer is answer


def test_the_rest_of_a_list_that_is_not_complete_may_be_anybodys() -> None:
    """A listed person with 30 %, and nobody knows who has the rest: unknown; with the rest somebody else's: no."""
    of = graph([link("p-x", "a", 30)])
    assert falls_to(of, PartyId("a"), [PartyId("p-x")])[0].answer is Answer.UNKNOWN
    of = graph([link("p-x", "a", 30), link("p-y", "a", 70)], complete="a")
    assert falls_to(of, PartyId("a"), [PartyId("p-x")])[0].answer is Answer.NO


def test_entities_that_hold_each_other_do_not_block_each_other() -> None:
    """Two that have each other by half are blocked when somebody listed comes in, and not by themselves."""
    links = [
        link("a", "b", 50),
        link("b", "a", 50),
        link("p-x", "c", 100),
        link("p-y", "a", 50),
        link("p-y", "b", 50),
    ]
    of = graph(links, complete="a b c")
    assert falls_to(of, PartyId("a"), [PartyId("p-x")])[0].answer is Answer.NO
    assert falls_to(of, PartyId("b"), [PartyId("p-y")])[0].answer is Answer.YES


def test_the_holdings_that_a_cascade_rests_on_are_named_in_order() -> None:
    """Each after those that it needs: x has a, a and x have b, b has c."""
    links = [link("b", "c", 60), link("p-x", "a", 50), link("p-x", "b", 10), link("a", "b", 40)]
    found = falls_to(graph(links), PartyId("c"), [PartyId("p-x")])[0]
    assert [(step.holder, step.subject) for step in found.proof] == [
        ("p-x", "a"),
        ("a", "b"),
        ("p-x", "b"),
        ("b", "c"),
    ]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12))
def test_it_is_what_a_plain_fixpoint_finds(seed: int, size: int) -> None:
    """Random graphs with cycles and many holdings of just a half: the same set, and every member has a proof."""
    chance = Random(seed)
    names = [f"c{number}" for number in range(size)]
    matrix: dict[tuple[str, str], Fraction] = {}
    for name in names:
        left = 100
        for holder in chance.sample([*names, "p-x", "p-y"], chance.randint(1, min(4, size))):
            part = min(left, chance.choice((5, 10, 25, 40, 50, 60)))
            left -= part
            matrix[holder, name] = Fraction(part, 100)
    of = graph(
        [link(*pair, Share.exact(int(part * 1_000_000))) for pair, part in matrix.items()]
        + [link("p-x", "z", 1)]
    )
    ranks = cascade(of.book(), alone(of, "p-x").certain, Rule(OFAC_PPM))
    inside = {of.parties[row].id for row in range(len(of)) if ranks[row] != OUT}
    assert inside == naive.cascade(matrix, ["p-x"], Fraction(1, 2))
