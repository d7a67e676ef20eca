"""Promise 6 is watched: who runs where, as whom, and what each tenant is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.sim.checkers.isolation import IsolationChecker
from tests.sim.checkers.streams import (
    BETA,
    ESTATE,
    NORTH,
    Edit,
    commit,
    document,
    insert,
    placed,
    put,
    rank,
    rules,
    story,
    told,
)

BETAS = document("estate", replace(ESTATE, sites=(replace(NORTH, dedicated_to=BETA), *ESTATE.sites[1:])))
BROKEN: dict[str, tuple[str, Edit]] = {
    "on another's site": ("dedicated", put("estate", BETAS)),
    "on a site that becomes another's": ("dedicated", insert("start-1", BETAS)),
    "on another's accelerator": (
        "accelerator-taken",
        insert("start-1", placed("acme-8", "north", rank("north/a/g-0-1", 0b0110))),
    ),
}
ANSWERS = {
    b'{"id": "beta-1", "state": "running"}': "beta-1",
    b'{"detail": "preempted for beta-2.1"}': "beta-2.1",
    b"the site is dedicated to beta.": "beta",
    b'{"dedicated_to":"beta"}': "beta",
    b"/v1/workloads/beta-99": "beta-99",
    b'{"contract": "beta-all"}': "beta-all",
    b"2026-01-beta-NOK-0": "2026-01-beta-NOK-0",
}
OWN = [
    b'{"id": "acme-1", "placement": "acme-1.1", "contract": "acme-all", "token": "t-1"}',
    b"the site is dedicated to another tenant; alphabeta-1, beta-max and beta_x are nothing",
    b'{"project": "p", "invoice": "2026-01-acme-NOK-0", "node": "north/a/g-0-0"}',
    b"",
    b"\xff\xfe beta\xc3",
]


@pytest.mark.parametrize("name", BROKEN)
def test_a_tenant_on_what_is_anothers_is_found(name: str) -> None:
    """Promise 6: a dedicated site serves one tenant alone, an accelerator one placement."""
    rule, edit = BROKEN[name]
    assert rules(told(edit).isolation.violations) == {rule}


@pytest.mark.parametrize("body", ANSWERS)
def test_an_answer_that_names_anothers_thing_is_found(body: bytes) -> None:
    """Promise 6: also in a sentence, a path, or for a thing that is not there."""
    checkers = told()
    checkers.isolation.answer_seen("acme", body)
    assert rules(checkers.isolation.violations) == {"told"}
    assert repr(ANSWERS[body]) in checkers.isolation.violations[0].detail
    fresh = told()
    fresh.isolation.answer_seen("beta", body)
    assert fresh.isolation.violations == []


@pytest.mark.parametrize("body", OWN[:-1])
def test_an_answer_about_ones_own_is_clean(body: bytes) -> None:
    """And so are words that only look like a name."""
    checkers = told()
    checkers.isolation.answer_seen("acme", body)
    assert checkers.isolation.violations == []


def test_an_answer_of_any_bytes_is_read() -> None:
    """What is no text is searched all the same."""
    checkers = told()
    checkers.isolation.answer_seen("acme", OWN[-1])
    assert rules(checkers.isolation.violations) == {"told"}


def test_a_token_is_its_tenants() -> None:
    """Nobody else is told of it."""
    checkers = told()
    checkers.isolation.answer_seen("beta", b'["t-1"]')
    assert rules(checkers.isolation.violations) == {"told"}


def test_a_user_is_of_one_tenant() -> None:
    """Promise 6: no two tenants' processes run as one user, and no tenant's as two."""
    checker = IsolationChecker()
    checker.uid_seen("acme", 7)
    checker.uid_seen("beta", 8)
    checker.uid_seen("acme", 7)
    assert checker.violations == []
    checker.uid_seen("beta", 7)
    assert [one.subject for one in checker.violations] == ["beta", "beta"]


def test_the_clean_story_isolates() -> None:
    """By the checker alone."""
    checker = IsolationChecker()
    for committed in commit(story()):
        checker.observe(committed)
    assert checker.violations == []
