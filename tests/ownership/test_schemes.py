"""Schemes and assessments as files, and the report: each criterion with its evidence or "missing", everything escaped."""

from html.parser import HTMLParser

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.sovereignty.control import control
from headrace.core.sovereignty.exposure import exposures
from headrace.core.sovereignty.graph import Graph
from headrace.core.sovereignty.holdings import PartyId
from headrace.core.sovereignty.limits import against
from headrace.ownership.plain import load_ownership, parse_ownership
from headrace.ownership.report import control_report, score_report
from headrace.ownership.schemes import load_assessment, load_scheme, parse_assessment, parse_scheme
from tests.ownership.data import EXAMPLES

SCHEME = """kind: sovereignty-scheme
name: s
title: A scheme
levels: [low, middle, high]
objectives:
  - {name: one, title: One, weight: 3, criteria: [{name: a, title: A}, {name: b, title: B, points: [0, 5, 10]}]}
  - {name: two, title: Two, weight: 1, criteria: [{name: c, title: C}]}
"""
ASSESSMENT = """kind: sovereignty-assessment
name: t
scheme: s
of: somebody
day: 2026-01-01
sources: [{name: visit, title: A visit}]
findings:
  - {criterion: a, level: high, says: seen, sources: [visit]}
  - {criterion: b, level: middle, says: seen, sources: [visit]}
"""


class Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def said(scheme: str, assessment: str = "") -> list[str]:
    def read() -> None:
        parse_assessment(assessment.encode(), "a.yaml", parse_scheme(scheme.encode(), "s.yaml"))

    with pytest.raises(HeadraceError) as caught:
        read()
    return [problem.line() for problem in caught.value.problems]


def test_the_shipped_scheme_has_eight_objectives_with_their_weights() -> None:
    """15, 10, 10, 15, 20, 15, 10 and 5: a hundred together, and marked as not verified."""
    scheme = load_scheme(EXAMPLES / "eu-framework.yaml")
    assert [one.weight for one in scheme.objectives] == [15, 10, 10, 15, 20, 15, 10, 5]
    assert not scheme.verified
    assert len(scheme.levels) == 5


def test_an_assessment_is_scored_and_what_nobody_assessed_is_missing() -> None:
    """(2 + 5) of 12 with weight 3, nothing of 2 with weight 1: 7/16 of all; the lowest level is the missing one's."""
    scheme = parse_scheme(SCHEME.encode(), "s.yaml")
    found = parse_assessment(ASSESSMENT.encode(), "a.yaml", scheme).score
    assert (found.score_ppm, found.level_name, found.missing, found.held_by) == (
        437_500,
        "low",
        ("c",),
        ("c",),
    )


def test_the_report_shows_each_criterion_with_its_evidence_or_missing() -> None:
    """The public record leaves almost everything missing; the page says that nothing was verified."""
    scheme = load_scheme(EXAMPLES / "eu-framework.yaml")
    page = Page(score_report(load_assessment(EXAMPLES / "public-record-assessment.yaml", scheme)))
    text = " ".join(page.texts)
    assert page.texts.count("missing") == len(list(scheme.criteria())) - 2
    assert "Not verified against the primary text." in text
    assert "No legal conclusion" in text
    assert "Four of seven registered directors reside in the US" in text


NASTY = "<script>alert(1)</script><img src=x onerror=y>\"'&"


def test_nothing_in_a_report_is_markup_from_elsewhere() -> None:
    """Whatever stands in titles, findings, names and terms: no script, no attribute, no address is loaded."""
    scheme = parse_scheme(
        SCHEME.replace("A scheme", f"'{NASTY.replace(chr(39), chr(39) * 2)}'").encode(), "s"
    )
    text = ASSESSMENT.replace("says: seen", f"says: '{NASTY.replace(chr(39), chr(39) * 2)}'")
    pages = [score_report(parse_assessment(text.encode(), "a", scheme))]
    nasty = NASTY.replace("'", "''")
    facts = parse_ownership(
        f"""kind: ownership
name: n
sources: [{{name: s, title: '{nasty}', url: '{nasty}'}}]
parties:
  - {{name: a, type: company, title: '{nasty}', source: s}}
  - {{name: b, type: company}}
interests:
  - {{type: influence, holder: a, of: b, decisive: unknown, terms: '{nasty}', source: s}}
  - {{type: staff, holder: a, of: b, terms: '{nasty}'}}
limits: [{{name: l, inside: ["NO"], single: 24%, together: 39%}}]
""".encode(),
        "n.yaml",
    )
    graph = Graph(facts.holdings, "2026-01-01")
    found = control(graph, PartyId("b"))
    held = {limit: against(graph, PartyId("b"), limit, found) for limit in facts.limits}
    pages.append(control_report(found, exposures(graph, PartyId("b")), held, facts.holdings.sources))
    for page in map(Page, pages):
        names = {tag for tag, _ in page.tags}
        assert not names & {"script", "img", "a", "link", "iframe", "object", "form"}
        assert {name for _, attrs in page.tags for name, _ in attrs} <= {
            "class",
            "lang",
            "charset",
            "name",
            "content",
            "http-equiv",
        }
        assert NASTY in "".join(page.texts)


def test_the_report_of_control_shows_measures_paths_limits_and_gaps() -> None:
    """The public record's operator: everything unknown, each with why."""
    facts = load_ownership(EXAMPLES / "public-record.yaml")
    graph = Graph(facts.holdings, "2025-11-30")
    nscale = PartyId("nscale")
    found = control(graph, nscale)
    held = {limit: against(graph, nscale, limit, found) for limit in facts.limits}
    text = " ".join(Page(control_report(found, exposures(graph, nscale), held, facts.holdings.sources)).texts)
    for part in (
        "anybody who is not named",
        "shares, fully diluted",
        "public-record/safe-dell",
        "Limit outside-europe",
        "W(I−W)⁻¹",
    ):
        assert part in text
    assert "headquarters of nscale is not known" in text


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("weight: 3", "weight: 0", "s.yaml:6:37 objectives[0].weight: 0 weight can't be."),
        ("points: [0, 5, 10]", "points: [0, 5]", "b: 2 points for 3 levels."),
        ("points: [0, 5, 10]", "points: [5, 0, 10]", "b: points that fall with the level"),
        ("name: two", "name: one", "one: the name stands twice."),
        ("levels: [low, middle, high]", "levels: [low]", "s: a scheme with less than two levels."),
        ("kind: sovereignty-scheme", "kind: scheme", "'scheme' is not of kind sovereignty-scheme."),
    ],
)
def test_what_is_wrong_in_a_scheme_is_named(before: str, after: str, line: str) -> None:
    """One change, one problem, with its place."""
    lines = said(SCHEME.replace(before, after))
    assert any(line in one for one in lines), lines


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("criterion: a", "criterion: z", "a.yaml:8:5 findings[0]: z: no criterion 'z' in s;"),
        ("level: high", "level: hgh", "no level 'hgh'; known: high, low, middle. Did you mean high?"),
        ("sources: [visit]}\n  - {criterion: b", "sources: [vist]}\n  - {criterion: b", "no source 'vist';"),
        ("criterion: b", "criterion: a", "a: it is assessed twice."),
        ("scheme: s", "scheme: other", "it is by scheme 'other', and this one is 's'."),
        (
            "says: seen, sources: [visit]}\n  - {criterion: b",
            "says: seen, sources: []}\n  - {criterion: b",
            "an empty list.",
        ),
    ],
)
def test_what_is_wrong_in_an_assessment_is_named(before: str, after: str, line: str) -> None:
    """Among it an assessment without evidence: leave it out, and it is missing."""
    assert before in ASSESSMENT
    lines = said(SCHEME, ASSESSMENT.replace(before, after, 1))
    assert any(line in one for one in lines), lines
