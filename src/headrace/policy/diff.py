"""What a changed policy, or changed facts, would newly allow and newly forbid: a pure comparison of two worlds of verdicts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from headrace.core.authority import Policy, PolicyEngine, Request, Verdict
from headrace.policy.schema import Value

Asked = TypeVar("Asked")
Judge = Callable[[Asked], Verdict]


@dataclass(frozen=True, slots=True)
class Change(Generic[Asked]):
    """Something that is judged otherwise than before."""

    asked: Asked
    before: Verdict
    after: Verdict


@dataclass(frozen=True, slots=True)
class Difference(Generic[Asked]):
    """What changes: newly allowed, newly forbidden, and what stays allowed or forbidden by other rules or facts.

    In the order in which it was asked. ``alike``: so many are judged alike, by the same rules.
    """

    allowed: tuple[Change[Asked], ...]
    forbidden: tuple[Change[Asked], ...]
    otherwise: tuple[Change[Asked], ...]
    alike: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing is allowed or forbidden that was not."""
        return not self.allowed and not self.forbidden


def compare(asked: Iterable[Asked], before: Judge[Asked], after: Judge[Asked]) -> Difference[Asked]:
    """Judge everything twice. What is asked twice is reported twice: give each class once."""
    allowed: list[Change[Asked]] = []
    forbidden: list[Change[Asked]] = []
    otherwise: list[Change[Asked]] = []
    alike = 0
    for one in asked:
        change = Change(one, before(one), after(one))
        if change.before.allowed != change.after.allowed:
            (allowed if change.after.allowed else forbidden).append(change)
        elif change.before.reasons != change.after.reasons:
            otherwise.append(change)
        else:
            alike += 1
    return Difference(tuple(allowed), tuple(forbidden), tuple(otherwise), alike)


@dataclass(frozen=True, slots=True)
class Standing:
    """A request that stands: something that runs or is kept somewhere, under a policy. ``count``: so many are alike.

    Its ``request`` has the facts of the thing itself (work, data, person, tenant); those of the site come from the world that
    judges it.
    """

    label: str
    policy: str
    request: Request
    count: int = 1


@dataclass(frozen=True, slots=True)
class Worldview:
    """What judges: an engine, the policies by name, the facts of sites by id, and facts about everything else (the day)."""

    engine: PolicyEngine
    policies: Mapping[str, Policy]
    sites: Mapping[str, Mapping[str, Value]]
    common: Mapping[str, Value]

    def judge(self, one: Standing) -> Verdict:
        """The verdict on a standing request; a site that is gone has no facts, so that everything about it is unknown."""
        facts = {**one.request.facts, **self.common, **self.sites.get(one.request.target.id, {})}
        policy = self.policies.get(one.policy, Policy(one.policy))
        return self.engine.evaluate(policy, replace(one.request, facts=facts))


def difference(standing: Iterable[Standing], before: Worldview, after: Worldview) -> Difference[Standing]:
    """What would change for all that stands if ``before`` became ``after``."""
    return compare(standing, before.judge, after.judge)
