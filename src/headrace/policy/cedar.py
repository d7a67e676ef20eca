"""The policy engine of Cedar: profiles and declared policies, asked for each request.

A verdict carries the ids and texts of the rules that determined it: the forbids that hold, else the permits that hold; where
neither does, which facts stood in the way. Its policy digest covers the text, the schema and the engine's version.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import msgspec

from headrace.core.authority import Obstacle, Policy, PolicyEngine, Request, Verdict
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.ids import Digest
from headrace.core.sovereignty.exposure import Place
from headrace.core.sovereignty.graph import Graph
from headrace.core.sovereignty.holdings import PartyId
from headrace.core.sovereignty.plain import PROFILES as LISTS
from headrace.core.sovereignty.plain import PlainPolicies
from headrace.policy import text
from headrace.policy.described import of_site
from headrace.policy.obstacle import obstacle_of
from headrace.policy.reading import PolicySet, load
from headrace.policy.schema import ACTIONS, Value

PROFILES = ("eu-high", "no-us-exposure", "nordic-only", "public", "uk-critical")
"""The profiles that are shipped."""


def load_file(path: Path) -> PolicySet:
    """A policy from a file, called by the file's name without its ending; HeadraceError as :func:`load`."""
    try:
        with path.open("rb") as file:
            raw = file.read(text.MAX_BYTES + 1)
    except OSError as error:
        step = "Check the path and the rights of the file."
        problem = (error.strerror or "unknown error").lower()
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"can't read it: {problem}.", step, str(path))
        ) from error
    return load(text.decoded(raw, str(path)), path.stem, str(path))


@lru_cache(maxsize=len(PROFILES))
def profile(name: str) -> PolicySet:
    """A profile that is shipped; HeadraceError with what there is for an unknown name."""
    if name not in PROFILES:
        raise HeadraceError(unknown("profile", name, PROFILES))
    where = f"{name}.cedar"
    raw = files("headrace.policy").joinpath("profiles", where).read_bytes()
    return load(text.decoded(raw, where), name, where)


@lru_cache(maxsize=1_024)
def of_countries(countries: tuple[str, ...]) -> PolicySet:
    """The policy that ``{countries: [NO, GB]}`` is short for: work and data stay there, and access comes from there.

    HeadraceError for what is not a country.
    """
    listed = ", ".join(json.dumps(country) for country in sorted(countries))
    said = ", ".join(sorted(countries))
    source = f"""@id("countries") @reason("the site is in one of {said}")
permit (principal, action, resource) when {{ [{listed}].contains(resource.country) }};
@id("people") @reason("people who are not the tenant's have access from {said} alone")
forbid (principal is Person, action, resource)
unless {{ principal.works_for == "tenant" || [{listed}].containsAll(principal.countries) }};
"""
    return load(source, f"countries:{'+'.join(sorted(countries))}")


@lru_cache(maxsize=1_024)
def _of_text(name: str, source: str) -> PolicySet:
    """Rules that a policy has with it, read once."""
    return load(source, name)


_SHORT = {"country": "site.country", "energy_source": "site.energy_source"}
"""What the plain engine calls facts of a site, and their names here."""


class CedarPolicies:
    """The policy engine for where work and data may be; rights of people are judged by another one, plain by default.

    ``policies`` are by name, beside the profiles that are shipped. A policy that is neither has its rules with it, or lists
    countries. Deterministic; without clock, I/O (after the profiles are read) or chance.
    """

    def __init__(
        self, policies: Mapping[str, PolicySet] | None = None, rights: PolicyEngine | None = None
    ) -> None:
        self._policies = dict(policies or {})
        self._rights = rights or PlainPolicies()

    @property
    def profiles(self) -> frozenset[str]:
        """The policies that it brings along, by name."""
        return frozenset({*PROFILES, *self._policies})

    def policy_set(self, policy: Policy) -> PolicySet:
        """The rules that a policy means: those it has with it, else those of its name, else its list of countries.

        HeadraceError for a name that nothing has, and for rules that can't be read.
        """
        if policy.text:
            return _of_text(policy.name, policy.text)
        found = self._policies.get(policy.name)
        if found is not None:
            return found
        if policy.name in PROFILES:
            return profile(policy.name)
        countries = policy.countries or (LISTS[policy.name].countries if policy.name in LISTS else ())
        if countries:
            return of_countries(countries)
        raise HeadraceError(unknown("policy", policy.name, self.profiles))

    def obstacle(self, policy: Policy, request: Request) -> Obstacle | None:
        """Which rule keeps a policy from allowing a request, by which facts; HeadraceError as :meth:`evaluate`."""
        action = ACTIONS.get(request.action)
        return None if action is None else obstacle_of(self.policy_set(policy), action, _facts(request))

    def minds_the_day(self, policy: Policy) -> bool:
        """Whether any of its rules asks for the day; HeadraceError for a policy that nothing has."""
        return "day" in self.policy_set(policy).mentions

    def describe(self, graph: Graph, place: Place, owner: PartyId | None) -> dict[str, Value]:
        """The facts of a site that follow from who holds what."""
        return of_site(graph, place, owner)

    def evaluate(self, policy: Policy, request: Request) -> Verdict:
        """Judge a request by a policy; HeadraceError for a policy that nothing has, or a fact of the wrong type."""
        action = ACTIONS.get(request.action)
        if action is None:
            return self._rights.evaluate(policy, request)
        rules = self.policy_set(policy)
        asked = rules.by_action[action]
        row = asked.read(_facts(request))
        allowed, determining = asked.decide(row)
        if determining:
            reasons = tuple(f"policy {rules.name}: {rule.said}" for rule in determining)
        else:
            way = asked.in_the_way(row) or f"it has no permit for {action}"
            reasons = (f"policy {rules.name} does not permit it: {way}",)
        return Verdict(
            subject=request.subject.klass,
            action=request.action,
            place=f"site:{request.target.id}",
            allowed=allowed,
            reasons=reasons,
            policy=rules.digest,
            facts=facts_digest(request.facts),
        )


def facts_digest(facts: Mapping[str, Value]) -> Digest:
    """What :func:`~headrace.core.authority.digest_of` gives for facts, in a quarter of the time: it is most of a decision's."""
    return Digest(hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest())


def _facts(request: Request) -> dict[str, Value]:
    """The request's facts, with who and where among them."""
    found: dict[str, Value] = dict(request.facts)
    for short, name in _SHORT.items():
        if short in found:
            found.setdefault(name, found[short])
    found["site.id"] = request.target.id
    found["tenant.id"] = request.subject.tenant or ""
    return found
