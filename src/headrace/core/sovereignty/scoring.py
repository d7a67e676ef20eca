"""Scores by a scheme that is data: objectives with weights, criteria with levels, and an assessment that names its
evidence.

The score is ``sum(score_i / max_i * weight_i)`` over the objectives, in parts per million of the sum of the weights;
the level is the lowest over the criteria. A criterion that nobody assessed is missing: it scores nothing and is at
the lowest level. An assessment without evidence is one too. Fractions are exact and rounded down once, at the end: no
rounding makes anybody look better.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from headrace.core.errors import did_you_mean
from headrace.core.sovereignty.holdings import WHOLE_PPM, Flaw, SourceId


@dataclass(frozen=True, slots=True)
class Criterion:
    """One question; ``points[k]`` is what level ``k`` of the scheme scores. Points rise with the levels."""

    name: str
    title: str
    points: tuple[int, ...]

    @property
    def most(self) -> int:
        """What can be scored at best."""
        return self.points[-1]


@dataclass(frozen=True, slots=True)
class Objective:
    """Criteria that are scored together, with the weight of their score."""

    name: str
    title: str
    weight: int
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Scheme:
    """Objectives, and the names of the levels from the lowest. ``verified`` false: nobody has held it against the
    text that it is from.
    """

    name: str
    title: str
    levels: tuple[str, ...]
    objectives: tuple[Objective, ...]
    source: str = ""
    verified: bool = False
    note: str = ""

    def criteria(self) -> Iterator[tuple[Objective, Criterion]]:
        """All criteria with their objectives, in order."""
        for objective in self.objectives:
            for criterion in objective.criteria:
                yield objective, criterion


@dataclass(frozen=True, slots=True)
class Finding:
    """What an assessor found for a criterion: the level that is reached, why, and by which sources."""

    criterion: str
    level: int
    says: str
    sources: tuple[SourceId, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """A criterion with what was found; ``finding`` None: missing."""

    criterion: Criterion
    finding: Finding | None
    level: int
    points: int


@dataclass(frozen=True, slots=True)
class ObjectiveScore:
    """An objective: points of ``most``, and what that adds to the score, rounded down."""

    objective: Objective
    criteria: tuple[Scored, ...]
    points: int
    most: int
    adds_ppm: int


@dataclass(frozen=True, slots=True)
class Score:
    """A scheme applied: ``score_ppm`` of everything, the lowest level, and which criteria hold it there."""

    scheme: Scheme
    objectives: tuple[ObjectiveScore, ...]
    score_ppm: int
    level: int
    held_by: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def level_name(self) -> str:
        """The level as the scheme calls it."""
        return self.scheme.levels[self.level]


def score(scheme: Scheme, findings: Iterable[Finding]) -> Score:
    """Apply a scheme to what was found; ValueError for what :func:`wrong_scheme` and :func:`wrong_findings` report."""
    found = list(findings)
    wrong = [*wrong_scheme(scheme), *wrong_findings(scheme, found)]
    if wrong:
        raise ValueError(f"{wrong[0].what}: {wrong[0].message}")
    by_name = {one.criterion: one for one in found}
    whole = sum(objective.weight for objective in scheme.objectives)
    total = Fraction(0)
    objectives = []
    for objective in scheme.objectives:
        criteria = tuple(_scored(criterion, by_name) for criterion in objective.criteria)
        points, most = sum(one.points for one in criteria), sum(one.most for one in objective.criteria)
        part = Fraction(points * objective.weight * WHOLE_PPM, most * whole)
        total += part
        objectives.append(ObjectiveScore(objective, criteria, points, most, int(part)))
    every = [one for objective in objectives for one in objective.criteria]
    level = min(one.level for one in every)
    return Score(
        scheme,
        tuple(objectives),
        int(total),
        level,
        tuple(one.criterion.name for one in every if one.level == level),
        tuple(one.criterion.name for one in every if one.finding is None),
    )


def _scored(criterion: Criterion, findings: Mapping[str, Finding]) -> Scored:
    finding = findings.get(criterion.name)
    level = 0 if finding is None else finding.level
    return Scored(criterion, finding, level, 0 if finding is None else criterion.points[level])


def wrong_scheme(scheme: Scheme) -> Iterator[Flaw]:
    """Everything that a scheme can't be."""
    if len(scheme.levels) < 2:
        yield Flaw(scheme.name, "a scheme with less than two levels.", "Name them from the lowest.")
    if not scheme.objectives or any(not one.criteria for one in scheme.objectives):
        yield Flaw(scheme.name, "an objective without criteria.", "Add at least one to each.")
    names = [one.name for one in scheme.objectives] + [one.name for _, one in scheme.criteria()]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield Flaw(twice, "the name stands twice.", "Rename one of them.")
    for objective in scheme.objectives:
        if objective.weight <= 0:
            yield Flaw(objective.name, f"a weight of {objective.weight}.", "Write a whole number above 0.")
    for _, criterion in scheme.criteria():
        yield from _wrong_points(scheme, criterion)


def _wrong_points(scheme: Scheme, criterion: Criterion) -> Iterator[Flaw]:
    points = criterion.points
    if len(points) != len(scheme.levels):
        message = f"{len(points)} points for {len(scheme.levels)} levels."
        yield Flaw(criterion.name, message, "Write one for each level, from the lowest.")
    elif list(points) != sorted(points) or points[0] < 0 or points[-1] <= 0:
        yield Flaw(
            criterion.name,
            "points that fall with the level, or are all nothing.",
            "Let them rise, like [0, 1, 2].",
        )


def wrong_findings(scheme: Scheme, findings: Iterable[Finding]) -> Iterator[Flaw]:
    """Everything in an assessment that doesn't fit the scheme."""
    known = {criterion.name for _, criterion in scheme.criteria()}
    seen: set[str] = set()
    for one in findings:
        if one.criterion not in known:
            yield Flaw(
                one.criterion,
                f"no criterion {one.criterion!r} in {scheme.name};",
                did_you_mean(one.criterion, known),
            )
        if one.criterion in seen:
            yield Flaw(one.criterion, "it is assessed twice.", "Keep one of them.")
        seen.add(one.criterion)
        if not 0 <= one.level < len(scheme.levels):
            yield Flaw(one.criterion, f"no level {one.level}.", f"Known: {', '.join(scheme.levels)}.")
        if not one.says or not one.sources:
            step = "Say what was found and name a source, or leave the criterion out: it is then missing."
            yield Flaw(one.criterion, "an assessment without evidence.", step)
