"""All checkers together: they find the story clean, stay silent on it in pieces, and raise nothing whatever comes."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import headrace.sim.checkers
from headrace.core.events import KINDS, Committed
from headrace.sim.checkers import Checkers
from tests.sim.checkers.streams import RAW, START_MS, commit, drop, rest, story, told

EVENTS = tuple(story().values())
PUBLIC = {
    "authority",
    "contracts",
    "estate",
    "events",
    "hardware",
    "ids",
    "observation",
    "power.instruction",
    "scheduling.check",
    "scheduling.refuse",
    "units",
    "workload",
}
"""Modules of the core whose types (and, of two, whose tables) a checker may use."""
NAMES = {
    "hardware": {"CATALOGUE", "HardwareType"},
    "observation": {"Capabilities"},
    "scheduling.check": {"Violation"},
    "units": {"MS_PER_DAY", "MS_PER_MINUTE", "PERMILLE"},
}


def test_the_clean_story_breaks_no_promise() -> None:
    """A checker that cries wolf is switched off."""
    checkers = told()
    assert checkers.violations == []
    assert checkers.at_rest(rest()) == []


def test_the_story_has_most_kinds_of_event() -> None:
    """What is never told is never checked."""
    kinds = {type(event) for event in EVENTS}
    assert len(kinds) >= 19
    assert kinds <= set(KINDS.values())


def test_every_checker_contributes_its_violations() -> None:
    """None is left out of the bundle."""
    checkers = told()
    for number, checker in enumerate(checkers.all):
        checker.found("rule", "subject", str(number))
    assert [one.detail for one in checkers.violations] == [str(number) for number in range(len(checkers.all))]


@settings(max_examples=60, deadline=None)
@given(order=st.lists(st.tuples(st.integers(0, len(EVENTS) - 1), st.integers(-3, 3)), max_size=60))
def test_no_order_of_events_makes_a_checker_raise(order: list[tuple[int, int]]) -> None:
    """Broken streams are what checkers are for: what is wrong is collected, never thrown."""
    checkers = Checkers()
    for seq, (which, late) in enumerate(order):
        key = b"k" if which % 3 == 0 else b""
        checkers.observe(Committed(seq + late, START_MS + (seq + late) * 1_000, EVENTS[which], key))
        checkers.explanation.explained("acme-4", "")
        checkers.durability.engine_ran("acme-1.1", late)
    checkers.durability.acknowledged(b"k", ["acme-1"], 3)
    checkers.durability.reopened(commit(story()))
    found = checkers.at_rest(rest())
    assert all(one.promise in range(1, 8) and one.rule and one.detail for one in found)


@settings(max_examples=60, deadline=None)
@given(left_out=st.sets(st.sampled_from(sorted(story())), max_size=25))
def test_no_gap_in_the_stream_makes_a_checker_raise(left_out: set[str]) -> None:
    """A journal with holes is found wrong, or is still a story; it never stops the simulation."""
    checkers = told(drop(*left_out))
    assert isinstance(checkers.at_rest(rest()), list)


def test_names_that_mean_nothing_make_no_checker_raise() -> None:
    """Every text of every event, replaced by another."""
    for event in EVENTS:
        for one in fields(event):
            value = getattr(event, one.name)
            if not isinstance(value, str):
                continue
            checkers = Checkers()
            changed: dict[str, Any] = {one.name: "?"}
            steps = {name: replace(event, **changed) if event == it else it for name, it in story().items()}
            for committed in commit(steps):
                checkers.observe(committed)
            checkers.at_rest(rest(raw=RAW | {"?": [(1, 1)]}))
            assert checkers.papers.sites or event.__class__.__name__ == "DocumentApplied"


def test_checkers_share_no_code_with_what_they_check() -> None:
    """They import the public types of the core and nothing else of it; nor any shell."""
    folder = Path(headrace.sim.checkers.__file__).parent
    seen = 0
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("headrace"):
                continue
            module = node.module or ""
            # What simulated buyers write down, and no code that judges it.
            if module.startswith(("headrace.sim.checkers", "headrace.sim.statutes")):
                continue
            seen += 1
            short = module.removeprefix("headrace.core.")
            assert short in PUBLIC, f"{path.name} imports {module}"
            names = {alias.name for alias in node.names}
            assert names <= NAMES.get(short, names), f"{path.name} imports {names} of {module}"
    assert seen > 20
