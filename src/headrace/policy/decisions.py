"""Verdicts remembered by class, exact after any change of facts or policies.

What asks and where it asks about are classes that are declared with their facts: a class of work of a tenant, a class of people,
a site. A decision is looked up by four names; it is made again only after something that it rests on has changed, and whatever
changes takes along only the decisions that rest on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.core.authority import Policy, PolicyEngine, Request, Subject, Target, Verdict
from headrace.core.errors import HeadraceError, unknown
from headrace.policy.schema import Value

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class _Asker:
    subject: Subject
    facts: dict[str, Value]


class Decisions:
    """Decisions of one policy engine. Not for several threads at once."""

    def __init__(self, engine: PolicyEngine) -> None:
        self._engine = engine
        self._policies: dict[str, Policy] = {}
        self._askers: dict[str, _Asker] = {}
        self._sites: dict[str, dict[str, Value]] = {}
        self._common: dict[str, Value] = {}
        self._verdicts: dict[Key, Verdict] = {}
        self._resting: dict[tuple[str, str], set[Key]] = {}

    def decide(self, policy: str, action: str, asker: str, site: str) -> Verdict:
        """May ``asker`` do ``action`` at ``site``, under ``policy``; HeadraceError for a name that was never declared."""
        key = (policy, action, asker, site)
        found = self._verdicts.get(key)
        return self._made(key) if found is None else found

    def policy(self, policy: Policy) -> None:
        """Declare a policy by its name, or say that its rules have changed."""
        self._policies[policy.name] = policy
        self._drop("policy", policy.name)

    def asker(self, name: str, subject: Subject, facts: Mapping[str, Value]) -> None:
        """Declare who asks, with the facts of the work, the data, the people and their tenant."""
        made = _Asker(subject, dict(facts))
        if self._askers.get(name) != made:
            self._askers[name] = made
            self._drop("asker", name)

    def site(self, name: str, facts: Mapping[str, Value]) -> None:
        """Declare a site with its facts."""
        made = dict(facts)
        if self._sites.get(name) != made:
            self._sites[name] = made
            self._drop("site", name)

    def common(self, facts: Mapping[str, Value]) -> None:
        """Declare the facts of every decision: the day. A change of them takes all decisions along."""
        made = dict(facts)
        if self._common != made:
            self._common = made
            self.forget()

    def engine(self, engine: PolicyEngine) -> None:
        """Ask another engine from now on: its policies are other rules, or it is of another version."""
        self._engine = engine
        self.forget()

    def forget(self) -> None:
        """Remember nothing."""
        self._verdicts.clear()
        self._resting.clear()

    def __len__(self) -> int:
        """So many decisions are remembered."""
        return len(self._verdicts)

    def _drop(self, kind: str, name: str) -> None:
        for key in self._resting.pop((kind, name), ()):
            self._verdicts.pop(key, None)

    def _made(self, key: Key) -> Verdict:
        policy, action, asker, site = key
        if policy not in self._policies:
            raise HeadraceError(unknown("policy", policy, self._policies))
        if asker not in self._askers:
            raise HeadraceError(unknown("class", asker, self._askers))
        if site not in self._sites:
            raise HeadraceError(unknown("site", site, self._sites))
        who = self._askers[asker]
        facts = {**self._common, **who.facts, **self._sites[site]}
        request = Request(who.subject, action, Target("site", None, site), facts)
        verdict = self._verdicts[key] = self._engine.evaluate(self._policies[policy], request)
        for kind, name in (("policy", policy), ("asker", asker), ("site", site)):
            self._resting.setdefault((kind, name), set()).add(key)
        return verdict
