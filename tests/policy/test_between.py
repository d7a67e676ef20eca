"""What a changed policy would allow and forbid, over all facts."""

from random import Random

import pytest

from headrace.core.errors import HeadraceError
from headrace.policy.between import Gap, between
from headrace.policy.cedar import profile
from headrace.policy.check import Effort
from headrace.policy.reading import PolicySet, load
from headrace.policy.schema import ACTIONS, checked
from tests.policy.making import CarefulMaker, Maker, some_facts

WIDE = '@id("a") permit (principal, action, resource) when { ["NO", "SE", "FI"].contains(resource.country) };'
NARROW = '@id("a") permit (principal, action, resource) when { ["NO", "SE"].contains(resource.country) };'
LOGS = '@id("b") forbid (principal, action == Action::"read-logs", resource) unless { principal.works_for == "tenant" };'


def _of(found: list[Gap], *, is_newly: bool) -> Gap:
    return next(one for one in found if (one.is_newly, one.action) == (is_newly, "place"))


def test_a_narrower_policy_allows_nothing_new_and_the_request_that_it_loses_is_shown() -> None:
    """Proven one way, shown the other, for each action."""
    found = between(load(WIDE, "old"), load(NARROW, "new"))
    assert len(found) == 2 * len(ACTIONS)
    assert {one.state for one in found if one.is_newly} == {"proven"}
    assert _of(found, is_newly=False).facts == (("site.country", "FI"),)


def test_policies_that_say_the_same_in_other_words_are_proven_to() -> None:
    """Another order, unless for when, three rules for one."""
    same = "\n".join(
        f'@id("r-{one}") permit (principal, action, resource) unless {{ resource.country != "{one}" }};'
        for one in ("SE", "FI", "NO")
    )
    assert {one.state for one in between(load(WIDE, "old"), load(same, "new"))} == {"proven"}


def test_a_change_for_one_action_shows_at_that_action_alone() -> None:
    """Logs are read by fewer; all else is as it was."""
    found = between(load(WIDE, "old"), load(f"{WIDE}\n{LOGS}", "new"))
    assert [one.action for one in found if one.state == "disproven"] == ["read-logs"]


def test_what_can_not_be_decided_is_said() -> None:
    """Out of steps, or asked in a way that does not split into classes."""
    named = '@id("a") permit (principal, action, resource) when { resource.id like "no-*" && resource.id like "*-1" };'
    exact = '@id("a") permit (principal, action, resource) when { resource.id like "no-*-1" };'
    assert "pattern" in _of(between(load(exact, "old"), load(named, "new")), is_newly=False).why
    brief = between(profile("uk-critical"), profile("eu-high"), Effort(steps=2))
    assert {one.state for one in brief} == {"unknown"}


def _random(chance: Random) -> PolicySet:
    while True:
        maker = chance.choice((Maker, CarefulMaker))(chance)
        try:
            return load(maker.policy(2), "ours", may_guess=True)
        except HeadraceError:
            continue


@pytest.mark.parametrize("seed", range(4))
def test_no_facts_contradict_what_is_proven_between_random_policies(seed: int) -> None:
    """Facts that the search never saw."""
    chance = Random(seed)
    proven = shown = 0
    for _ in range(12):
        old, new = _random(chance), _random(chance)
        for one in between(old, new, Effort(steps=2_000)):
            allowing, refusing = (new, old) if one.is_newly else (old, new)
            shown += one.state == "disproven"
            if one.state != "proven":
                continue
            proven += 1
            for _ in range(30):
                try:
                    facts = checked(some_facts(chance))
                except HeadraceError:
                    continue
                assert refusing.decide(one.action, facts)[0] or not allowing.decide(one.action, facts)[0]
    assert proven > 10
    assert shown > 10
