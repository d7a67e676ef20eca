"""Production against a second mind that shares no code with it, in awkward worlds; and the second mind against itself."""

from datetime import date
from fractions import Fraction
from random import Random
from typing import Any

import cedarpy
import pytest

from headrace.policy.cedar import profile
from headrace.policy.reading import load
from headrace.policy.reference import request_of
from headrace.policy.schema import by_path
from tests.sovereignty_oracle.cedar import Rule, Value, allows, facts_in, text_of
from tests.sovereignty_oracle.defects import BASE, DEFECTS, Defect, Shown
from tests.sovereignty_oracle.judge import Disagreement, Trial, played
from tests.sovereignty_oracle.rules import COUNTRIES, ENCRYPTIONS, SHIPPED, Rules
from tests.sovereignty_oracle.shares import (
    Choices,
    Group,
    Row,
    by_every_choice,
    least_game,
    lowest,
    most_game,
    part_of,
)
from tests.sovereignty_oracle.stated import WHOLE, Stated, stated_on
from tests.sovereignty_oracle.worlds import Maker


def test_production_and_the_oracle_never_differ() -> None:
    """Every tenant's every policy at every site, before and after changes; also by the planner, admission and what-if."""
    found = played(range(300, 303), steps=2)
    assert found.found == []
    assert found.decisions > 500
    assert found.allowed
    assert found.completions
    assert found.placed


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: one.what.replace(" ", "-"))
def test_a_defect_planted_in_production_is_found(defect: Defect) -> None:
    """In a small world that shows it; in which nothing is found without the defect."""
    assert _looked_at(defect.shown) == []
    with defect.planted() as more:
        assert _looked_at(defect.shown, **more), defect.what


def _looked_at(shown: Shown, **more: Any) -> list[Disagreement]:
    trial = Trial(0, deep=False, made=(*BASE, *shown.documents), **more)
    if shown.rules:
        assert trial.apply({"kind": "policy", "name": "asks", "cedar": text_of(shown.rules)}) == ""
        trial.rules["asks"] = shown.rules
    trial.decide()
    for one in shown.then:
        assert trial.apply(one) == ""
    trial.decide()
    return trial.tally.found


RING = {
    "parties": [{"name": name, "type": "person" if name in "pq" else "company"} for name in "abcdepq"],
    "interests": [
        {"type": "shares", "holder": holder, "of": of, "share": "50%"}
        for holder, of in ("ea", "pa", "ab", "qb", "bc", "qc", "cd", "qd", "de", "qe")
    ],
    "coverage": [{"of": name, "complete": True} for name in "abcde"],
}


@pytest.mark.parametrize(("entity", "part"), list(zip("abcde", (16, 8, 4, 2, 1), strict=True)))
def test_the_ring_of_five_is_what_was_computed_by_hand(entity: str, part: int) -> None:
    """RFD 18: p has 16/31 of a, and half as much of each that follows."""
    who = Group(frozenset("p"), frozenset("p"))
    assert part_of(stated_on([RING], "2026-01-01"), (False, False), entity, who) == (Fraction(part, 31),) * 2


@pytest.mark.parametrize("seed", range(12))
def test_its_bounds_are_those_of_trying_every_choice(seed: int) -> None:
    """In small random graphs with ranges and rings, walking to the least gives what trying all corners gives."""
    chance = Random(seed)
    names = "abc"
    rows = {}
    for name in names:
        holders = [one for one in ("a", "b", "c", "p", "q") if one != name]
        held = {}
        for holder in chance.sample(holders, 3):
            low = chance.choice((0, 0, 100_000, 300_000))
            held[holder] = (low, low + chance.choice((0, 200_000, 600_000)))
        is_whole = sum(high for _, high in held.values()) >= WHOLE and chance.random() < 0.7
        rows[name] = Row(held, is_whole)
    game = Choices({"p": Fraction(1), "q": Fraction(0)}, rows)
    assert lowest(game) == by_every_choice(game)


@pytest.mark.parametrize("seed", range(6))
def test_its_upper_bound_is_never_below_its_lower_one(seed: int) -> None:
    """In whole worlds as they are made; of what is known they meet."""
    maker = Maker(Random(seed), date(2026, 11, 18), 1.0)
    stated: Stated = stated_on(maker.ownership(["s"]), "2026-11-18")
    for entity in maker.companies:
        who = Group(frozenset({maker.persons[0]}), frozenset({maker.persons[0]}))
        low, high = part_of(stated, (False, False), entity, who)
        assert 0 <= low <= high <= 1
        assert set(least_game(stated, (False, False), entity, who).rows) <= set(stated.who)
        assert most_game(stated, (False, False), entity, who).fixed


def _some(path: str, chance: Random) -> Value:
    """A value for a fact of any type."""
    fact = by_path(tuple(path.split(".")))
    assert fact is not None
    if path in ("resource.id", "context.tenant.id"):
        return chance.choice(("site-1", "acme"))
    if isinstance(fact.unknown, bool) or fact.name == "day":
        return chance.choice((True, False)) if fact.name != "day" else 20_775
    if isinstance(fact.unknown, int):
        return chance.choice((0, 250_000, 500_000, 500_001, 20_775, WHOLE))
    if str(fact.kind).startswith("Set"):
        pool = ENCRYPTIONS if "encryption" in path else COUNTRIES
        return frozenset(chance.sample([*pool, "unknown"], chance.randint(0, 2)))
    if chance.random() < 0.2:
        return "unknown"
    return (
        chance.choice(("yes", "no"))
        if "exposure" in path
        else chance.choice(sorted(fact.words or COUNTRIES)[:8])
    )


def _name(path: str) -> str:
    fact = by_path(tuple(path.split(".")))
    assert fact is not None
    return fact.name


def _flat(value: Value) -> str | int | bool:
    """A value as requests have it."""
    return value if isinstance(value, str | int | bool) else " ".join(sorted(map(str, value)))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(15))
def test_its_cedar_is_cedar(seed: int) -> None:
    """Random policies with random facts, and the shipped profiles as they are restated, by cedarpy itself."""
    chance = Random(seed)
    policies: list[tuple[Rule, ...]] = [
        *SHIPPED.values(),
        *(Rules(chance, (), ("site-1",), ("acme",)).policy() for _ in range(8)),
    ]
    for rules in policies:
        text = text_of(rules)
        handle = cedarpy.PolicySet.from_str(text)
        for _ in range(4):
            values = {path: _some(path, chance) for path in facts_in(rules)}
            named = {_name(path): _flat(value) for path, value in values.items()}
            request, entities = request_of(
                "place", named, [one for one in named if not one.startswith("person")]
            )
            said = cedarpy.is_authorized(request, handle, entities).allowed
            assert said is allows(rules, values.__getitem__), text


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_the_restated_profiles_ask_for_what_the_shipped_ones_ask_for(name: str) -> None:
    """The same rules about the same facts: the oracle was not given an easier profile."""
    shipped, mine = profile(name), load(text_of(SHIPPED[name]), name)
    assert mine.mentions == shipped.mentions
    assert sorted((rule.id, rule.is_permit) for rule in mine.rules) == sorted(
        (rule.id, rule.is_permit) for rule in shipped.rules
    )
    assert [str(one) for one in mine.by_action["place"].facts] == [
        str(one) for one in shipped.by_action["place"].facts
    ]
