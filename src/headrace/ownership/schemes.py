"""Schemes of scores and assessments by them, as people write them: ``kind: sovereignty-scheme`` and ``kind:
sovereignty-assessment``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from headrace.core.errors import HeadraceError, did_you_mean
from headrace.core.sovereignty.holdings import Source as Origin
from headrace.core.sovereignty.holdings import SourceId
from headrace.core.sovereignty.scoring import (
    Criterion,
    Finding,
    Objective,
    Scheme,
    Score,
    score,
    wrong_findings,
    wrong_scheme,
)
from headrace.documents import values
from headrace.documents.fields import Day, Model, Name, Text
from headrace.documents.report import bad_input, capped, validated
from headrace.documents.source import Place, Raw, Source, parse, read_bytes, show

SCHEME, ASSESSMENT = "sovereignty-scheme", "sovereignty-assessment"
_POINTS = BeforeValidator(values.count(0, 1_000_000, "points"))
_WEIGHT = BeforeValidator(values.count(1, 1_000_000, "weight"))


class CriterionModel(Model):
    """A question; without points of its own, each level is worth one more than the one below."""

    name: Name
    title: Text
    points: list[Annotated[int, _POINTS]] | None = None


class ObjectiveModel(Model):
    """Criteria with the weight that they have together."""

    name: Name
    title: Text
    weight: Annotated[int, _WEIGHT]
    criteria: list[CriterionModel] = Field(min_length=1, max_length=200)


class SchemeModel(Model):
    """``kind: sovereignty-scheme``."""

    kind: Literal["sovereignty-scheme"]
    name: Name
    title: Text
    source: Text = ""
    verified: Annotated[bool, BeforeValidator(values.flag)] = False
    note: Text = ""
    levels: list[Text] = Field(min_length=1, max_length=20)
    objectives: list[ObjectiveModel] = Field(min_length=1, max_length=100)


class SourceModel(Model):
    """Where a finding is from."""

    name: Name
    title: Text
    url: Text = ""
    read: Day | None = None
    sha256: Text = ""


class FindingModel(Model):
    """What was found for a criterion: the level it reaches, why, and where that is shown."""

    criterion: Name
    level: Text
    says: Text
    sources: list[Name] = Field(min_length=1, max_length=20)


class AssessmentModel(Model):
    """``kind: sovereignty-assessment``."""

    kind: Literal["sovereignty-assessment"]
    name: Name
    title: Text = ""
    scheme: Name
    of: Text
    day: Day
    sources: list[SourceModel] = Field(default=[], max_length=1_000)
    findings: list[FindingModel] = Field(default=[], max_length=10_000)


@dataclass(frozen=True, slots=True)
class Assessed:
    """An assessment with its score: of whom, on which day, and the sources of its findings."""

    name: str
    of: str
    day: str
    score: Score
    sources: dict[SourceId, Origin]


def load_scheme(path: Path) -> Scheme:
    """The scheme of a file; HeadraceError with every problem found, each with its line and column."""
    return parse_scheme(read_bytes(path), str(path))


def parse_scheme(raw: bytes, name: str) -> Scheme:
    """The scheme of a text, which errors call ``name``."""
    found = _one(raw, name, SCHEME)
    model = validated(SchemeModel, found.data, found.source)
    scheme = Scheme(
        model.name,
        model.title,
        tuple(model.levels),
        tuple(_objective(one, len(model.levels)) for one in model.objectives),
        model.source,
        model.verified,
        model.note,
    )
    places = _scheme_places(model)
    problems = [
        bad_input(f"{flaw.what}: {flaw.message}", flaw.next_step, found.source, places.get(flaw.what, ()))
        for flaw in wrong_scheme(scheme)
    ]
    if problems:
        raise HeadraceError(*capped(problems))
    return scheme


def _objective(model: ObjectiveModel, levels: int) -> Objective:
    criteria = tuple(
        Criterion(one.name, one.title, tuple(range(levels) if one.points is None else one.points))
        for one in model.criteria
    )
    return Objective(model.name, model.title, model.weight, criteria)


def _scheme_places(model: SchemeModel) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for number, objective in enumerate(model.objectives):
        places[objective.name] = ("objectives", number)
        for index, criterion in enumerate(objective.criteria):
            places[criterion.name] = ("objectives", number, "criteria", index)
    return places


def load_assessment(path: Path, scheme: Scheme) -> Assessed:
    """The assessment of a file by a scheme; HeadraceError with every problem found, each with its line and column."""
    return parse_assessment(read_bytes(path), str(path), scheme)


def parse_assessment(raw: bytes, name: str, scheme: Scheme) -> Assessed:
    """The assessment of a text, which errors call ``name``."""
    found = _one(raw, name, ASSESSMENT)
    source = found.source
    model = validated(AssessmentModel, found.data, source)
    problems = []
    if model.scheme != scheme.name:
        message = f"it is by scheme {model.scheme!r}, and this one is {scheme.name!r}."
        problems.append(bad_input(message, "Give the scheme that it is by.", source, ("scheme",)))
    known = {one.name for one in model.sources}
    findings = []
    for number, one in enumerate(model.findings):
        place = ("findings", number)
        for index, origin in enumerate(one.sources):
            if origin not in known:
                step = did_you_mean(origin, known)
                problems.append(bad_input(f"no source {origin!r};", step, source, (*place, "sources", index)))
        level = scheme.levels.index(one.level) if one.level in scheme.levels else None
        if level is None:
            step = did_you_mean(one.level, scheme.levels)
            problems.append(bad_input(f"no level {show(one.level)};", step, source, (*place, "level")))
        sources = tuple(SourceId(f"{model.name}/{origin}") for origin in one.sources)
        findings.append(Finding(one.criterion, level or 0, one.says, sources))
    places = {one.criterion: ("findings", number) for number, one in enumerate(model.findings)}
    for flaw in wrong_findings(scheme, findings):
        place_of = places.get(flaw.what, ())
        problems.append(bad_input(f"{flaw.what}: {flaw.message}", flaw.next_step, source, place_of))
    if problems:
        raise HeadraceError(*capped(problems))
    origins = {
        SourceId(f"{model.name}/{one.name}"): Origin(
            SourceId(f"{model.name}/{one.name}"), one.title, one.url, one.read or "", one.sha256
        )
        for one in model.sources
    }
    return Assessed(model.name, model.of, model.day, score(scheme, findings), origins)


def _one(raw: bytes, name: str, kind: str) -> Raw:
    found = parse(raw, name)
    source = found[0].source if found else Source(name)
    if len(found) != 1:
        message = "no document in it." if not found else f"{len(found)} documents, and not one."
        raise HeadraceError(bad_input(message, f"Give one document, of kind: {kind}.", source))
    data = found[0].data
    if not isinstance(data, dict) or data.get("kind") != kind:
        shown = show(data.get("kind")) if isinstance(data, dict) else show(data)
        raise HeadraceError(bad_input(f"{shown} is not of kind {kind}.", f"Begin with kind: {kind}.", source))
    return found[0]
