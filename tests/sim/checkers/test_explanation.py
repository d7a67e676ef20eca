"""Promise 7 is watched: every wait and refusal says why, in one line, and what it says is so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.events import NodeStateChanged, WorkloadRequeued
from headrace.core.ids import SiteId, WorkloadId
from headrace.core.scheduling.refuse import SENTENCES, Refusal
from headrace.core.workload import PolicyRef, Resources, WorkloadSpec
from headrace.sim.checkers.explanation import ExplanationChecker, claims
from tests.sim.checkers.streams import (
    END_MS,
    LINES,
    SOUTHERN,
    Edit,
    change,
    commit,
    drop,
    insert,
    put,
    rules,
    spec,
    story,
    submitted,
    told,
)

FITS = spec(4)


def waits(of: WorkloadSpec) -> Edit:
    """Return the edit with one more workload in the queue."""
    return insert("drain", submitted("acme-9", of))


REFUSED: dict[str, tuple[str, Edit]] = {
    "for no reason": ("no-reason", change("refuse-3", refusal="WEATHER")),
    "without a word": ("not-a-line", change("refuse-3", detail=" ")),
    "in two lines": ("not-a-line", change("refuse-3", detail="no\nhardware")),
    "though it would fit": ("refused-wrongly", put("submit-3", submitted("acme-2", spec(4, nodes=4)))),
    "for a country that is allowed": (
        "refused-wrongly",
        put("submit-3", submitted("acme-2", spec(4, policy=PolicyRef(countries=("NO",))))),
    ),
}
TRUE: dict[str, tuple[Edit, str]] = {
    "power": (waits(SOUTHERN), "waits: not enough power at south"),
    "law": (waits(replace(FITS, policy=PolicyRef(countries=("SE",)))), "JURISDICTION: only SE"),
    "dedication": (waits(replace(FITS, site=SiteId("own"))), "the site is dedicated to another tenant"),
    "hardware": (waits(spec(resources=Resources("H100", 8))), "no such hardware"),
    "state": (waits(spec(4, nodes=4)), "the nodes that would do are not ready: north/a/g-1-1 is draining"),
    "contract": (lambda steps: waits(FITS)(drop("acme-all")(steps)), "no contract of the tenant covers it"),
    "capacity": (
        waits(replace(SOUTHERN, nodes=2)),
        "the nodes that would do are in use",
    ),
}
FALSE: dict[str, tuple[Edit, str]] = {
    "power, and it would fit": (waits(FITS), "not enough power"),
    "power, and it is the law": (
        waits(replace(FITS, policy=PolicyRef(countries=("SE",)))),
        "not enough power",
    ),
    "power, and it is a drain": (waits(spec(4, nodes=4)), "not enough power"),
    "law, and it is a drain": (
        waits(spec(4, nodes=4, site=SiteId("north"))),
        "its policy does not allow the site",
    ),
    "hardware, and it is power": (waits(SOUTHERN), "no such hardware"),
    "a wait, and there is none": (waits(spec(4, nodes=4)), "it is backing off"),
    "capacity, and nothing is in use": (waits(spec(4, nodes=4)), "the nodes that would do are in use"),
    "another's site, and it is free": (waits(spec(4, nodes=4, site=SiteId("north"))), "DEDICATED"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_without_ground_is_found(name: str) -> None:
    """Promise 7: refused for good means for a named reason, and rightly."""
    rule, edit = REFUSED[name]
    assert rules(told(edit).explanation.violations) == {rule}


@pytest.mark.parametrize("name", TRUE)
def test_a_claim_that_is_true_is_found_clean(name: str) -> None:
    """Promise 7: the reason that is given is one."""
    edit, line = TRUE[name]
    checkers = told(edit)
    lines = {workload: LINES.get(workload, line) for workload in checkers.occupancy.queued}
    if name == "contract":
        lines["acme-4"] = line
    checkers.explanation.at_rest(END_MS, lines)
    assert checkers.explanation.violations == []


@pytest.mark.parametrize("name", FALSE)
def test_a_claim_that_is_false_is_found(name: str) -> None:
    """Promise 7: recomputed by brute force."""
    edit, line = FALSE[name]
    checkers = told(edit)
    checkers.explanation.at_rest(END_MS, LINES | {"acme-9": line})
    assert [(one.rule, one.subject) for one in checkers.explanation.violations] == [("claim-false", "acme-9")]


@pytest.mark.parametrize("line", ["", "  ", "two\nlines: not enough power", "it waits"])
def test_an_explanation_without_a_reason_is_found(line: str) -> None:
    """Promise 7: whenever it is asked, not only at rest."""
    checkers = told()
    checkers.explanation.explained("acme-4", line)
    assert len(checkers.explanation.violations) == 1


def test_what_the_next_plan_will_place_needs_no_reason() -> None:
    """It waits for nothing but its turn."""
    checkers = told(waits(FITS))
    checkers.explanation.explained("acme-9", "not looked at yet")
    assert checkers.explanation.violations == []


def test_a_reason_is_judged_at_the_time_of_the_question() -> None:
    """Journal time goes on without events: what has waited for its time until now needs no reason any more."""
    requeued = WorkloadRequeued(WorkloadId("acme-9"), "ended by itself", END_MS)
    edit = insert("drain", submitted("acme-9", FITS), requeued)
    for now_ms, found in ((0, 1), (END_MS, 0)):
        checkers = told(edit)
        checkers.explanation.explained("acme-9", "not looked at yet", now_ms)
        assert len(checkers.explanation.violations) == found


def test_a_line_that_is_missing_at_rest_is_found() -> None:
    """Promise 7: of every workload that waits."""
    checkers = told()
    checkers.explanation.at_rest(END_MS, {})
    assert [(one.rule, one.subject) for one in checkers.explanation.violations] == [
        ("not-a-line", "acme-4"),
        ("not-a-line", "beta-2"),
    ]


def test_a_reason_is_read_by_sentence_name_or_word() -> None:
    """Each of them, in whatever words surround it."""
    for reason in Refusal:
        assert claims(f"waits: {SENTENCES[reason]} at north") == (reason,)
        assert claims(f"{reason.name}: because") == (reason,)
        assert claims(f"waiting for {reason.name.lower()} at north") == (reason,)
    assert claims("it waits") == ()


def test_the_clean_story_explains_itself() -> None:
    """By the checker alone, a node that goes down included."""
    checker = ExplanationChecker()
    steps = insert("drain", NodeStateChanged("north/a/g-0-0", "down"))(story())
    for committed in commit(steps):
        checker.observe(committed)
    checker.at_rest(END_MS, LINES)
    assert checker.violations == []
