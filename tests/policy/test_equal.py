"""What decides is compiled from the rules; Cedar is the reference. They are held equal, and the unknown is never clean."""

from random import Random

import pytest

from headrace.core.errors import HeadraceError
from headrace.policy.cedar import PROFILES, of_countries, profile
from headrace.policy.reading import PolicySet, load
from headrace.policy.schema import ACTIONS, checked
from tests.policy.making import CarefulMaker, Maker, less_known, some_facts

SEEDS = range(12)
POLICIES = 40
REQUESTS = 8


def _random(chance: Random, *, may_guess: bool) -> PolicySet | None:
    """A random policy; None for one that is refused."""
    try:
        return load(Maker(chance).policy(), "random", may_guess=may_guess)
    except HeadraceError:
        return None


@pytest.mark.parametrize("seed", SEEDS)
def test_random_rules_decide_as_cedar_does(seed: int) -> None:
    """The same answer, by the same rules, on rules of every form and facts of every sort."""
    chance = Random(seed)
    compared = allowed = 0
    for _ in range(POLICIES):
        made = _random(chance, may_guess=True)
        for _ in range(REQUESTS if made is not None else 0):
            assert made is not None
            facts, action = some_facts(chance), chance.choice([*ACTIONS.values()])
            ours, theirs = made.decide(action, facts), made.by_cedar(action, facts)
            assert (ours[0], set(ours[1])) == (theirs[0], set(theirs[1])), (made.text, action, facts)
            compared += 1
            allowed += ours[0]
    assert compared > POLICIES * REQUESTS * 0.7
    assert 0 < allowed < compared


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_on_a_row_with_empty_cells_is_the_answer_on_every_full_one(seed: int) -> None:
    """While rules are examined cells are empty: what is answered then never depends on them."""
    chance = Random(2_000 + seed)
    answered = left_open = 0
    for _ in range(POLICIES):
        made = _random(chance, may_guess=True)
        for asked in made.by_action.values() if made is not None else ():
            row = asked.read(some_facts(chance))
            for ask in asked.asks * 6:
                found = ask([cell if chance.random() < 0.6 else None for cell in row])
                assert found is None or found is ask(row)
                answered += found is not None
                left_open += found is None
    assert answered > 100
    assert left_open > 100


@pytest.mark.parametrize("name", [*PROFILES, "countries"])
def test_profiles_decide_as_cedar_does(name: str) -> None:
    """So do the profiles that are shipped, and the shorthand of countries."""
    made = of_countries(("GB", "NO")) if name == "countries" else profile(name)
    chance = Random(7)
    for _ in range(150):
        facts, action = some_facts(chance), chance.choice([*ACTIONS.values()])
        assert made.decide(action, facts) == made.by_cedar(action, facts), (action, facts)


def _clean(chance: Random) -> PolicySet:
    """A random policy among those that are shown never to take the unknown for clean."""
    while True:
        maker = CarefulMaker(chance) if chance.random() < 0.8 else Maker(chance)
        try:
            return load(maker.policy(), "random")
        except HeadraceError:
            continue


@pytest.mark.parametrize("seed", SEEDS)
def test_less_knowledge_never_allows_more(seed: int) -> None:
    """Whatever is forgotten: what was refused stays refused, by the compiled rules and by Cedar."""
    chance = Random(1_000 + seed)
    refused = lost = 0
    for number in range(60):
        made = profile(PROFILES[number % len(PROFILES)]) if number % 6 == 0 else _clean(chance)
        for _ in range(6):
            facts, action = _facts(chance), chance.choice([*ACTIONS.values()])
            before, after = made.decide(action, facts)[0], made.by_cedar(action, less_known(chance, facts))[0]
            assert before or not after, (made.text, action, facts)
            refused += not before
            lost += before and not after
    assert refused > 50
    assert lost > 10


def _facts(chance: Random) -> dict[str, str | int | bool]:
    """Facts that fit each other."""
    while True:
        try:
            return checked(some_facts(chance))
        except HeadraceError:
            continue


def test_careless_rules_are_there_to_be_refused() -> None:
    """The proof is not empty: many random rules would allow more when less is known, and all of those are refused."""
    chance = Random(5)
    caught = 0
    for _ in range(300):
        made = _random(chance, may_guess=True)
        if made is None:
            continue
        for _ in range(4):
            facts, action = some_facts(chance), chance.choice([*ACTIONS.values()])
            if not made.decide(action, facts)[0] and made.decide(action, less_known(chance, facts))[0]:
                with pytest.raises(HeadraceError, match="for clean"):
                    load(made.text, "random")
                caught += 1
    assert caught > 10
