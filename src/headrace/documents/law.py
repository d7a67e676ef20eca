"""Documents about law: policies in Cedar, and what is stated of a site, each with its source."""

from collections.abc import Iterator
from datetime import date
from typing import Any, Literal

from pydantic import Field

from headrace.core.errors import HeadraceError
from headrace.core.ids import SiteId
from headrace.core.sovereignty.law import FactValue, PolicyText, SiteFacts, Stated
from headrace.core.sovereignty.owning import Ownership
from headrace.documents.fields import Day, Model, Name, Text
from headrace.ownership.plain import OwnershipModel, converted, problems_of_ownership
from headrace.policy.check import accepted
from headrace.policy.schema import CERTIFICATES, checked

__all__ = ["FactsModel", "OwnershipModel", "PolicyTextModel", "core_of", "problems_of"]
MOST_FACTS = 500
_CERTIFIED = "certified_until."
_EPOCH = date(1970, 1, 1)
Where = tuple[str | int, ...]


class PolicyTextModel(Model):
    """``kind: policy``: rules in Cedar, under a name that tenants and workloads use like a profile's."""

    kind: Literal["policy"]
    name: Name
    cedar: str = Field(min_length=1, max_length=300_000)


class StatedModel(Model):
    """One fact of a site, its value, who says so, and the day on which it was seen to be so."""

    fact: Text
    value: Any
    source: Text
    as_of: Day | None = None


class FactsModel(Model):
    """``kind: facts``: what is stated of a site. What nobody states is unknown; unknown is not clean."""

    kind: Literal["facts"]
    site: Name
    facts: list[StatedModel] = Field(default=[], max_length=MOST_FACTS)
    operator: Text = ""
    owner: Text = ""


LawModel = PolicyTextModel | FactsModel | OwnershipModel


def core_of(model: LawModel) -> PolicyText | SiteFacts | Ownership:
    """The core object of a document about law."""
    match model:
        case PolicyTextModel():
            return PolicyText(model.name, model.cedar)
        case FactsModel():
            return _site_facts(model)
        case OwnershipModel():
            return _ownership(model)


def problems_of(model: LawModel) -> Iterator[tuple[Where, str, str]]:
    """What is wrong with a document about law beyond its single fields: places, messages and next steps."""
    match model:
        case PolicyTextModel():
            return _problems_of_policy(model)
        case FactsModel():
            return _problems_of_facts(model)
        case OwnershipModel():
            return problems_of_ownership(model)


def _site_facts(model: FactsModel) -> SiteFacts:
    """The core object of a site's facts; they are sorted, and the last day of a certificate is a number."""
    stated = (
        Stated(one.fact, _value(one.fact, one.value), one.source, one.as_of or "") for one in model.facts
    )
    return SiteFacts(
        SiteId(model.site), tuple(sorted(stated, key=lambda one: one.fact)), model.operator, model.owner
    )


def _ownership(model: OwnershipModel) -> Ownership:
    """The core object of what is held; persons' names are left out."""
    facts = converted(model)
    return Ownership.of(model.name, facts.public(), facts.places)


def _problems_of_policy(model: PolicyTextModel) -> Iterator[tuple[Where, str, str]]:
    """What is wrong with the rules of a policy, or proven to be: places, messages and next steps."""
    try:
        accepted(model.cedar, model.name, model.name)
    except HeadraceError as error:
        for problem in error.problems:
            where = f"{problem.where}: " if problem.where else ""
            yield ("cedar",), f"{where}{problem.message}", problem.next_step


def _problems_of_facts(model: FactsModel) -> Iterator[tuple[Where, str, str]]:
    """Facts that there are none of, that can't have such a value, or that are stated twice."""
    seen: set[str] = set()
    for number, one in enumerate(model.facts):
        if one.fact in seen:
            yield ("facts", number, "fact"), f"{one.fact} is stated twice;", "Keep one of them."
        seen.add(one.fact)
        if one.fact == "country":
            yield ("facts", number, "fact"), "the estate says in which country a site is;", "State it there."
            continue
        try:
            _value(one.fact, one.value)
        except HeadraceError as error:
            for problem in error.problems:
                yield ("facts", number, "value"), problem.message, problem.next_step


def _value(fact: str, value: object) -> FactValue:
    """A fact as policies know it; HeadraceError for what it can't be."""
    if fact.removeprefix(_CERTIFIED) in CERTIFICATES and isinstance(value, str | date):
        value = _day(value)
    found: dict[str, FactValue] = dict(checked({f"site.{fact}": value}, fact))
    return found[f"site.{fact}"]


def _day(value: str | date) -> object:
    """Days since 1970-01-01 of an ISO day; what is none stays what it is."""
    try:
        return (date.fromisoformat(str(value)) - _EPOCH).days
    except ValueError:
        return value
