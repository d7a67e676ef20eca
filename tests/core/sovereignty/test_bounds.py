"""Whatever is true within what is known, the bounds contain it: for every measure, in random worlds with cycles.

A world is drawn in which everything is known. Then part of it is forgotten: shares become ranges, holders are left
off lists or lose their names, conversions become ranges. Every measure of what is left must contain what the slow and
obvious way finds in the whole.
"""

from dataclasses import dataclass
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.sovereignty.control import Control, Measures, control
from headrace.core.sovereignty.graph import DILUTED_SHARES, DILUTED_VOTES, SHARES, VOTES, Graph, View
from headrace.core.sovereignty.holdings import (
    WHOLE_PPM,
    Answer,
    Basis,
    Conversion,
    Coverage,
    Holdings,
    Interest,
    InterestId,
    InterestKind,
    Party,
    PartyId,
    PartyKind,
    Share,
    flaws,
)
from headrace.core.sovereignty.limits import Limit, against, falls_to
from tests.core.sovereignty import naive

DAY = "2026-01-01"
HALF = Fraction(1, 2)


@dataclass
class World:
    """What is true: shares of everybody, what converts, and the truth's parties."""

    companies: list[str]
    persons: list[str]
    shares: dict[tuple[str, str], Fraction]
    converts: list[tuple[str, str, Basis, Fraction]]

    def votes(self) -> dict[tuple[str, str], Fraction]:
        return self.shares

    def matrix(self, view: View) -> dict[tuple[str, str], Fraction]:
        found = dict(self.shares)
        if view.diluted:
            for company in self.companies:
                parts: dict[Basis, dict[str, Fraction]] = {basis: {} for basis in Basis}
                for holder, subject, basis, part in self.converts:
                    if subject == company:
                        parts[basis][holder] = parts[basis].get(holder, Fraction(0)) + part
                if any(parts.values()):
                    found = naive.diluted(found, company, parts[Basis.DILUTED], parts[Basis.EXISTING])
        return found


def a_world(chance: Random) -> World:
    """Up to five companies and three persons; each company wholly held, at least a sliver of it by a person."""
    companies = [f"c{number}" for number in range(chance.randint(1, 5))]
    persons = [f"p{number}" for number in range(chance.randint(1, 3))]
    shares: dict[tuple[str, str], Fraction] = {}
    for company in companies:
        holders = chance.sample([*companies, *persons], chance.randint(1, len(companies) + len(persons)))
        holders = list(dict.fromkeys([*holders, chance.choice(persons)]))
        cuts = sorted(chance.sample(range(1, 40), len(holders) - 1))
        parts = [(end - start) * 25_000 for start, end in zip([0, *cuts], [*cuts, 40], strict=True)]
        for holder, ppm in zip(holders, parts, strict=True):
            shares[holder, company] = Fraction(ppm, WHOLE_PPM)
    converts: list[tuple[str, str, Basis, Fraction]] = []
    for company in companies:
        for _ in range(chance.choice((0, 0, 1, 2))):
            part = Fraction(chance.randint(0, 6) * 50_000, WHOLE_PPM)
            converts.append(
                (chance.choice([*companies, *persons]), company, chance.choice(list(Basis)), part)
            )
    return World(companies, persons, shares, converts)


@dataclass
class Forgotten:
    """What is left of a world; ``who``: whom each party without a name really is."""

    holdings: Holdings
    who: dict[str, str]


def forget(world: World, chance: Random, exactly: float) -> Forgotten:
    """Forget a part: with a chance of ``exactly`` a fact stays as it is."""
    left = Forgotten(Holdings({}, ()), {})
    interests: list[Interest] = []
    coverage: list[Coverage] = []
    for company in world.companies:
        kept, left_off = forget_list(world, left, company, chance, exactly)
        interests += kept
        coverage += covered(world, company, left_off, chance)
    for number, (holder, subject, basis, part) in enumerate(world.converts):
        conversion = Conversion(blurred(part, chance, exactly), basis)
        ident = InterestId(f"note-{number}")
        kind = InterestKind.CONVERTIBLE
        interests.append(Interest(ident, kind, PartyId(holder), PartyId(subject), converts=conversion))
    parties = {PartyId(name): Party(PartyId(name), PartyKind.COMPANY) for name in world.companies}
    parties |= {PartyId(name): Party(PartyId(name), PartyKind.PERSON) for name in world.persons}
    parties |= {PartyId(name): Party(PartyId(name), PartyKind.UNNAMED) for name in left.who}
    left.holdings = Holdings(parties, tuple(interests), tuple(coverage))
    return left


def blurred(part: Fraction, chance: Random, exactly: float) -> Share:
    ppm = int(part * WHOLE_PPM)
    if chance.random() < exactly:
        return Share.exact(ppm)
    return Share(chance.randint(0, ppm), chance.randint(ppm, WHOLE_PPM))


def forget_list(
    world: World, left: Forgotten, company: str, chance: Random, exactly: float
) -> tuple[list[Interest], list[str]]:
    """What is left of a company's list of holders, and who is off it."""
    kept, left_off = [], []
    for (holder, subject), part in world.shares.items():
        if subject != company:
            continue
        name = holder
        if chance.random() > exactly:
            if chance.random() < 0.5:
                left_off.append(holder)
                continue
            if holder in world.persons:
                name = f"u{len(left.who)}"
                left.who[name] = holder
        ident = InterestId(f"{name}>{subject}")
        share = blurred(part, chance, exactly)
        kept.append(Interest(ident, InterestKind.SHARES, PartyId(name), PartyId(subject), share))
    return kept, left_off


def covered(world: World, company: str, left_off: list[str], chance: Random) -> list[Coverage]:
    """What may truly be said of the list: that it is complete, or has everybody with more than those who are off it."""
    if not left_off and chance.random() < 0.7:
        return [Coverage(PartyId(company), 0)]
    if chance.random() < 0.5:
        return []
    above = [
        naive.attributed(world.shares, world.shares, other, company)
        for other in (*world.companies, *world.persons)
        if other in left_off or (other, company) not in world.shares
    ]
    return [Coverage(PartyId(company), int(max(above, default=Fraction(0)) * WHOLE_PPM) or 1)]


def contains(share: Share, truth: Fraction) -> bool:
    return share.least_ppm <= truth * WHOLE_PPM <= share.most_ppm


def agrees(answer: Answer, truth: bool) -> bool:
    return answer is Answer.UNKNOWN or (answer is Answer.YES) == truth


VIEWS = (SHARES, VOTES, DILUTED_SHARES, DILUTED_VOTES)


def measured(found: Control, party: str, view: View) -> Measures:
    """What is said of a party; of one that isn't over the entity, what is said of anybody who isn't named."""
    known = found.of(PartyId(party))
    return (known or found.unnamed).measured(view)


def check_party(found: Control, world: World, party: str, entity: str, view: View) -> None:
    matrix = world.matrix(view)
    votes = world.matrix(View(votes=True, diluted=view.diluted))
    one = measured(found, party, view)
    where = (party, entity, str(view), one)
    assert contains(one.integrated, naive.reached(matrix, [party])[entity]), where
    assert contains(one.weakest_link, naive.weakest(matrix, [party], entity)), where
    assert contains(one.attributed, naive.attributed(matrix, votes, party, entity)), where
    assert agrees(one.majority, entity in naive.controlled(votes, party)), where
    if found.of(PartyId(party)):
        gross = naive.inverse(matrix).get((party, entity), Fraction(0)) * WHOLE_PPM
        assert one.gross_least_ppm <= gross, where
        assert one.gross_most_ppm is None or gross <= one.gross_most_ppm, where


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.4, 0.7, 0.9, 1.0]))
def test_the_bounds_contain_the_truth_of_any_completion(seed: int, exactly: float) -> None:
    """Every measure of every party in every view, against the whole world that was partly forgotten."""
    chance = Random(seed)
    world = a_world(chance)
    left = forget(world, chance, exactly)
    if list(flaws(left.holdings)) or too_much_converts(world):
        return
    graph = Graph(left.holdings, DAY)
    entity = chance.choice(world.companies)
    found = control(graph, PartyId(entity))
    for party in (*world.companies, *world.persons):
        if party != entity:
            for view in VIEWS:
                check_party(found, world, party, entity, view)


def too_much_converts(world: World) -> bool:
    sums: dict[str, Fraction] = {}
    for _, subject, basis, part in world.converts:
        if basis is Basis.DILUTED:
            sums[subject] = sums.get(subject, Fraction(0)) + part
    return any(part > 1 for part in sums.values())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.4, 0.7, 0.9, 1.0]))
def test_the_cascade_of_what_is_known_never_contradicts_the_whole(seed: int, exactly: float) -> None:
    """OFAC's rule for random lists of parties, against the plain fixpoint in the whole world."""
    chance = Random(seed)
    world = a_world(chance)
    left = forget(world, chance, exactly)
    if list(flaws(left.holdings)) or too_much_converts(world):
        return
    graph = Graph(left.holdings, DAY)
    entity = chance.choice(world.companies)
    others = [one for one in (*world.companies, *world.persons) if one != entity]
    listed = chance.sample(others, chance.randint(1, min(2, len(others))))
    for one in falls_to(graph, PartyId(entity), [PartyId(name) for name in listed]):
        truth = entity in naive.cascade(world.matrix(one.view), listed, HALF)
        assert agrees(one.answer, truth), (entity, listed, str(one.view), one.answer)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_wholly_known_has_no_bounds_but_those_of_rounding(seed: int) -> None:
    """With complete lists and exact shares every measure is exact to the ppm, and the answers are never unknown."""
    chance = Random(seed)
    world = a_world(chance)
    left = forget(world, chance, 1.0)
    lists = tuple(Coverage(PartyId(company), 0) for company in world.companies)
    graph = Graph(Holdings(left.holdings.parties, left.holdings.interests, lists), DAY)
    if too_much_converts(world):
        return
    entity = chance.choice(world.companies)
    for one in control(graph, PartyId(entity)).controllers:
        for view in VIEWS:
            found = one.measured(view)
            if view.diluted and world.converts:
                # A row of fractions is rounded outwards before it is used.
                assert found.integrated.unknown_ppm <= 200, (entity, one.party, found)
                continue
            assert found.majority is not Answer.UNKNOWN
            assert found.integrated.unknown_ppm <= 1
            assert found.attributed.is_exact
            assert found.weakest_link.is_exact
            truth = naive.reached(world.matrix(view), [str(one.party)])[entity] * WHOLE_PPM
            assert found.integrated == Share(truth.__floor__(), truth.__ceil__())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.9, 1.0]))
def test_limits_are_never_said_to_be_kept_when_the_whole_exceeds_them(seed: int, exactly: float) -> None:
    """Those outside, each and together, against the whole world; persons with odd numbers reside outside."""
    chance = Random(seed)
    world = a_world(chance)
    left = forget(world, chance, exactly)
    if list(flaws(left.holdings)) or too_much_converts(world):
        return
    outside = [name for name in world.persons if int(name[1:]) % 2]
    parties = {
        ident: Party(
            ident, one.kind, country="NO", headquarters="NO", nationalities=("NO",),
            residences=("US",) if ident in outside else ("NO",),
        )
        for ident, one in left.holdings.parties.items()
    }  # fmt: skip
    graph = Graph(Holdings(parties, left.holdings.interests, left.holdings.coverage), DAY)
    entity = chance.choice(world.companies)
    limit = Limit("nordic", ("NO",), 240_000, 390_000)
    for held in against(graph, PartyId(entity), limit):
        matrix = world.matrix(held.view)
        together = naive.reached(matrix, outside)[entity] if outside else Fraction(0)
        assert contains(held.together, together)
        assert agrees(held.is_together_exceeded, together * WHOLE_PPM > limit.together_ppm)
        singles = [naive.reached(matrix, [name])[entity] * WHOLE_PPM for name in outside]
        assert agrees(held.is_single_exceeded, any(part > limit.single_ppm for part in singles))


@pytest.mark.parametrize(
    ("share", "answer"),
    [
        (Share.exact(500_000), Answer.YES),
        (Share.exact(499_999), Answer.NO),
        (Share(400_000, 600_000), Answer.UNKNOWN),
    ],
)
def test_an_answer_is_unknown_where_the_bounds_do_not_agree(share: Share, answer: Answer) -> None:
    """Half or more: known on either side, unknown across."""
    assert share.at_least(500_000) is answer
