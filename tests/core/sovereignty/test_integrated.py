"""Integrated ownership: cycles are legal, the five-entity one is computed by hand, and rings that nobody owns are
unknown.
"""

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.sovereignty.control import control
from headrace.core.sovereignty.graph import SHARES, Graph
from headrace.core.sovereignty.holdings import NOTHING, UNKNOWN, WHOLE_PPM, Answer, PartyId, Share
from headrace.core.sovereignty.integrated import gross, reach, rounded
from headrace.core.sovereignty.limits import falls_to
from tests.core.sovereignty import naive
from tests.core.sovereignty.small import alone, graph, link

RING = ("a", "b", "c", "d", "e")


def five() -> Graph:
    """Each of five companies has half of the next, the last of the first; p has the other half of a, p-else those of
    the others.
    """
    links = [link(one, RING[(at + 1) % 5], 50) for at, one in enumerate(RING)]
    links.append(link("p", "a", 50))
    links += [link("p-else", one, 50) for one in RING[1:]]
    return graph(links, complete=" ".join(RING))


@pytest.mark.parametrize(("entity", "part"), [("a", 16), ("b", 8), ("c", 4), ("d", 2), ("e", 1)])
def test_the_five_entity_cycle_is_what_was_computed_by_hand(entity: str, part: int) -> None:
    """RFD 18: p has 16/31 of a, and half as much of each that follows; p-else has the rest."""
    of = five()
    row = of.number[PartyId(entity)]
    mine = reach(of.book(), alone(of, "p")).share(row)
    rest = reach(of.book(), alone(of, "p-else")).share(row)
    exact = Fraction(part * WHOLE_PPM, 31)
    assert mine == Share(exact.__floor__(), exact.__ceil__())
    assert mine.least_ppm + rest.most_ppm == WHOLE_PPM


def test_a_company_in_the_cycle_has_more_of_it_than_it_can_keep() -> None:
    """RFD 18: by W(I-W)^-1 a has 1/31 of itself and 16/31 of b; without the detour through itself, half of b."""
    of = five()
    a, b = of.number[PartyId("a")], of.number[PartyId("b")]
    found = reach(of.book(), alone(of, "a"))
    for row, exact in ((a, 1 / 31), (b, 16 / 31)):
        least, most = gross(of.book(), found, row, a)
        assert least == pytest.approx(exact)
        assert most == pytest.approx(exact)
    assert found.share(b) == Share.exact(500_000)


def test_the_measures_contradict_each_other_in_the_cycle() -> None:
    """RFD 18: of e, p has 1/31 of the money, a weakest link of a half, no majority; and e falls to p by OFAC's cascade."""
    of = five()
    found = control(of, PartyId("e")).of(PartyId("p"))
    assert found is not None
    one = found.measured(SHARES)
    assert (one.integrated, one.weakest_link, one.majority) == (
        Share(32_258, 32_259),
        Share.exact(500_000),
        Answer.NO,
    )
    assert one.attributed == NOTHING
    assert falls_to(of, PartyId("e"), [PartyId("p")])[0].answer is Answer.YES


def test_entities_that_only_hold_each_other_are_unknown() -> None:
    """Somebody must own them, and nobody is known to: nothing at least, and all at most."""
    of = graph(
        [link("a", "b", 100), link("b", "a", 100), link("a", "c", 100), link("p", "d", 100)],
        complete="a b c d",
    )
    found = reach(of.book(), alone(of, "p"))
    assert [found.share(of.number[PartyId(name)]) for name in ("a", "b", "c")] == [UNKNOWN] * 3
    assert found.share(of.number[PartyId("d")]) == Share.exact(WHOLE_PPM)
    own = reach(of.book(), alone(of, "a"))
    assert own.share(of.number[PartyId("b")]) == Share.exact(WHOLE_PPM)
    assert gross(of.book(), own, of.number[PartyId("b")], of.number[PartyId("a")])[1] is None


def test_a_cycle_with_a_sliver_outside_belongs_to_who_has_the_sliver() -> None:
    """Two companies that have 99.9999 % of each other: the rest owns all of both, found by solving and not by waiting."""
    of = graph(
        [
            link("a", "b", "99.9999"),
            link("p", "b", "0.0001"),
            link("b", "a", "99.9999"),
            link("p", "a", "0.0001"),
        ],
        complete="a b",
    )
    found = reach(of.book(), alone(of, "p"))
    assert found.is_settled
    assert found.share(of.number[PartyId("a")]).least_ppm >= WHOLE_PPM - 1


@pytest.mark.parametrize(
    ("value", "share"),
    [
        (0.25, Share.exact(250_000)),
        (0.25 + 1e-14, Share.exact(250_000)),
        (0.25 - 1e-14, Share.exact(250_000)),
        (1 / 3, Share(333_333, 333_334)),
        (0.4999996, Share(499_999, 500_000)),
        (0.0, NOTHING),
        (1.0 + 1e-13, Share.exact(WHOLE_PPM)),
    ],
)
def test_results_are_rounded_outwards_to_whole_ppm(value: float, share: Share) -> None:
    """What is within a millionth of a ppm of a whole one counts as it; nothing is ever rounded to the nearest."""
    assert rounded(value, value) == share


def random_links(chance: Random, size: int) -> list[tuple[str, str, int]]:
    """Companies in cycles, each with a sliver of a person's."""
    names = [f"c{number}" for number in range(size)]
    links = []
    for name in names:
        holders = chance.sample([*names, "p0", "p1"], chance.randint(1, min(4, size)))
        cuts = sorted(chance.sample(range(1, WHOLE_PPM), len(holders)))
        parts = [end - start for start, end in zip([0, *cuts], cuts, strict=False)]
        links += [(holder, name, part) for holder, part in zip(holders, parts, strict=True)]
        links.append(("p2", name, WHOLE_PPM - cuts[-1]))
    return links


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_it_is_what_a_dense_solver_finds(seed: int, size: int) -> None:
    """W(I-W)^-1 of random graphs with cycles, by numpy's solver and by exact elimination, for every pair."""
    links = random_links(Random(seed), size)
    of = graph(
        [link(holder, name, Share.exact(part)) for holder, name, part in links],
        complete=" ".join({one[1] for one in links}),
    )
    matrix = {(holder, name): Fraction(part, WHOLE_PPM) for holder, name, part in links}
    dense = np.zeros((len(of), len(of)))
    for (holder, name), part in matrix.items():
        dense[of.number[PartyId(holder)], of.number[PartyId(name)]] = float(part)
    solved = np.linalg.solve((np.eye(len(of)) - dense).T, dense.T).T
    exact = naive.inverse(matrix)
    for holder in of.number:
        found = reach(of.book(), alone(of, holder))
        assert found.is_settled
        for name in of.number:
            row, column = of.number[holder], of.number[name]
            least, most = gross(of.book(), found, column, row)
            assert least == pytest.approx(solved[row, column], abs=1e-10)
            assert least == pytest.approx(float(exact.get((holder, name), 0)), abs=1e-11)
            assert most == pytest.approx(least, abs=1e-11)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_what_is_stated_makes_no_difference(seed: int) -> None:
    """The same holdings shuffled, and split in two, give the same columns to the byte."""
    chance = Random(seed)
    links = [link(holder, name, Share.exact(part)) for holder, name, part in random_links(chance, 6)]
    shuffled = chance.sample(links, len(links))
    one, other = graph(links).book(), graph(shuffled).book()
    for name in ("start", "holder", "least", "most", "spare", "out", "subjects"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
