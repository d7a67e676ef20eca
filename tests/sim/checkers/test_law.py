"""Promise 2 is watched: where things are placed, and by which verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.contracts import Tenant
from headrace.core.events import DecisionRecorded
from headrace.core.ids import Digest, ProjectId
from headrace.core.workload import PolicyRef
from headrace.sim.checkers.law import LawChecker, content_digest
from tests.sim.checkers.streams import (
    BETA,
    ESTATE,
    GANG,
    NORDIC,
    NORTH,
    SERVICE,
    Edit,
    chain,
    change,
    commit,
    document,
    drop,
    insert,
    placed,
    put,
    rank,
    rules,
    story,
    submitted,
    told,
    verdict,
)

ELSEWHERE, OTHER = verdict("acme", "south"), verdict("beta", "north")
DENIAL = verdict("acme", "north", allowed=False)
SECOND = replace(GANG, policy=PolicyRef(countries=("NO", "SE")))
BETA_UNDER = document("tenant", Tenant(BETA, (ProjectId("p"),), policy="uk-only"))

BROKEN: dict[str, tuple[str, Edit]] = {
    "a country that the policy does not list": (
        "jurisdiction",
        put("submit-1", submitted("acme-1", replace(GANG, policy=PolicyRef(countries=("GB", "SE"))))),
    ),
    "a profile that does not list it": (
        "jurisdiction",
        put("submit-2", submitted("beta-1", replace(SERVICE, policy=PolicyRef("uk-only")))),
    ),
    "a profile that nobody declared": (
        "jurisdiction",
        put("submit-2", submitted("beta-1", replace(SERVICE, policy=PolicyRef("lunar")))),
    ),
    "the policy of its tenant": (
        "jurisdiction",
        chain(
            put("submit-2", submitted("beta-1", replace(SERVICE, policy=PolicyRef()))),
            put("beta", BETA_UNDER),
        ),
    ),
    "a country that is not known": (
        "unknown-country",
        put(
            "estate",
            document("estate", replace(ESTATE, sites=(replace(NORTH, country=""), *ESTATE.sites[1:]))),
        ),
    ),
    "no verdict": ("verdict-unknown", drop("verdict-1")),
    "a verdict that came too late": (
        "verdict-unknown",
        chain(drop("verdict-1"), insert("place-1", DecisionRecorded(verdict("acme", "north")))),
    ),
    "a verdict that denies": (
        "verdict-denies",
        chain(
            put("verdict-1", DecisionRecorded(DENIAL)),
            change("place-1", verdict=DENIAL.id),
        ),
    ),
    "a verdict about another site": (
        "verdict-elsewhere",
        chain(put("verdict-1", DecisionRecorded(ELSEWHERE)), change("place-1", verdict=ELSEWHERE.id)),
    ),
    "a verdict about another tenant": (
        "verdict-elsewhere",
        chain(put("verdict-1", DecisionRecorded(OTHER)), change("place-1", verdict=OTHER.id)),
    ),
    "a verdict under another policy": (
        "verdict-policy",
        put("submit-4", submitted("acme-3", replace(SECOND, policy=PolicyRef(countries=("GB",))))),
    ),
    "a refused workload": (
        "refused-placed",
        insert("verdict-4", placed("acme-2", "south", rank("south/b/g-0-1"))),
    ),
    "a right that nobody recorded": ("verdict-unknown", change("drain", verdict="v")),
    "a right that was denied": (
        "verdict-denies",
        chain(insert("verdict-1", DecisionRecorded(DENIAL)), change("stop-7", verdict=DENIAL.id)),
    ),
    "a refusal by no verdict": ("verdict-unknown", change("refuse-3", verdicts=("v",))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_the_law_forbids_is_found(name: str) -> None:
    """Promise 2: a placement where its policy forbids, or whose evidence does not carry it."""
    rule, edit = BROKEN[name]
    found = rules(told(edit).law.violations)
    # A wrong placement may make one policy, or one digest of facts, mean two things as well.
    assert rule in found
    assert found <= {rule, "verdict-policy", "verdict-facts"}


def test_the_clean_story_breaks_no_law() -> None:
    """By the checker alone, told the same events."""
    checker = LawChecker()
    for committed in commit(story()):
        checker.observe(committed)
    assert checker.violations == []
    assert checker.verdicts


def test_a_verdict_is_named_by_all_that_it_says() -> None:
    """The digest that events refer to is that of the content, computed here again."""
    assert content_digest(NORDIC) == NORDIC.id
    for change_of_one in (
        replace(NORDIC, allowed=False),
        replace(NORDIC, reasons=("æ",)),
        replace(NORDIC, facts=Digest("x")),
        replace(NORDIC, place="site:north"),
    ):
        assert content_digest(change_of_one) == change_of_one.id != NORDIC.id
