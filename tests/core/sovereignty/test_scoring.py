"""Scores are what the formula says, exactly; levels are the lowest; nothing that is missing or without evidence helps."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.sovereignty.holdings import SourceId
from headrace.core.sovereignty.scoring import (
    Criterion,
    Finding,
    Objective,
    Scheme,
    score,
    wrong_findings,
    wrong_scheme,
)

LEVELS = ("low", "middle", "high")
SCHEME = Scheme(
    "s",
    "A scheme",
    LEVELS,
    (
        Objective("one", "One", 3, (Criterion("a", "A", (0, 1, 2)), Criterion("b", "B", (0, 5, 10)))),
        Objective("two", "Two", 1, (Criterion("c", "C", (0, 0, 7)),)),
    ),
)


def found(criterion: str, level: int) -> Finding:
    return Finding(criterion, level, "seen", (SourceId("visit"),))


@pytest.mark.parametrize(
    ("levels", "ppm", "level", "missing"),
    [
        ({"a": 2, "b": 2, "c": 2}, 1_000_000, 2, ()),
        ({"a": 0, "b": 0, "c": 0}, 0, 0, ()),
        ({"a": 2, "b": 1, "c": 1}, 437_500, 1, ()),
        ({"a": 2, "b": 2}, 750_000, 0, ("c",)),
        ({}, 0, 0, ("a", "b", "c")),
    ],
)
def test_the_score_is_the_formula_and_the_level_the_lowest(
    levels: dict[str, int], ppm: int, level: int, missing: tuple[str, ...]
) -> None:
    """``sum(score / max * weight)`` of all weights; a missing criterion scores nothing, at the lowest level."""
    result = score(SCHEME, [found(name, at) for name, at in levels.items()])
    assert (result.score_ppm, result.level, result.missing) == (ppm, level, missing)


@given(st.lists(st.integers(0, 2), min_size=3, max_size=3))
def test_no_rounding_makes_anybody_look_better(levels: list[int]) -> None:
    """The score is the exact fraction rounded down, and so is what each objective adds."""
    result = score(SCHEME, [found(name, at) for name, at in zip("abc", levels, strict=True)])
    a, b, c = levels
    exact = Fraction(3, 4) * Fraction((0, 1, 2)[a] + (0, 5, 10)[b], 12) + Fraction(1, 4) * Fraction(
        (0, 0, 7)[c], 7
    )
    assert result.score_ppm == int(exact * 1_000_000)
    assert sum(one.adds_ppm for one in result.objectives) <= result.score_ppm


@pytest.mark.parametrize(
    ("finding", "message"),
    [
        (found("z", 1), "no criterion 'z' in s;"),
        (found("a", 3), "no level 3."),
        (found("a", -1), "no level -1."),
        (Finding("a", 2, "seen"), "an assessment without evidence."),
        (Finding("a", 2, "", (SourceId("visit"),)), "an assessment without evidence."),
    ],
)
def test_a_finding_that_does_not_fit_is_named(finding: Finding, message: str) -> None:
    """And nothing is scored by it."""
    assert [flaw.message for flaw in wrong_findings(SCHEME, [finding])] == [message]
    with pytest.raises(ValueError, match=": "):
        score(SCHEME, [finding])


def test_a_criterion_is_assessed_once() -> None:
    """Two findings for one criterion contradict each other, or say the same twice."""
    assert [flaw.message for flaw in wrong_findings(SCHEME, [found("a", 1), found("a", 2)])] == [
        "it is assessed twice."
    ]


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (replace(SCHEME, levels=("low",)), "a scheme with less than two levels."),
        (replace(SCHEME, objectives=()), "an objective without criteria."),
        (replace(SCHEME, objectives=(replace(SCHEME.objectives[0], weight=0),)), "a weight of 0."),
        (replace(SCHEME, objectives=(SCHEME.objectives[0], SCHEME.objectives[0])), "the name stands twice."),
        (
            replace(SCHEME, objectives=(Objective("x", "X", 1, (Criterion("y", "Y", (0, 0, 0)),)),)),
            "points that fall with the level, or are all nothing.",
        ),
    ],
)
def test_a_scheme_that_cannot_be_is_named(scheme: Scheme, message: str) -> None:
    """Weights, levels, points and names."""
    assert message in [flaw.message for flaw in wrong_scheme(scheme)]
