"""Which policy and which facts decided each verdict about a place: found again by following the law through the journal.

Verdicts hold digests. The documents and engines that facts come from are applied to a world as they came, and whenever a verdict
about the tenant was recorded, the world is asked again for the same place: its policy engine is one that writes down what it
is asked. Nothing that is found so can be wrong: a text counts only where its digest is the one that the verdict has.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product

from headrace.core import events as ev
from headrace.core.apply import apply
from headrace.core.authority import Obstacle, Policy, Request, Role, Subject, Verdict
from headrace.core.errors import HeadraceError
from headrace.core.estate import Site
from headrace.core.ids import Digest, TenantId
from headrace.core.sovereignty.exposure import Place
from headrace.core.sovereignty.graph import Graph
from headrace.core.sovereignty.holdings import PartyId
from headrace.core.sovereignty.law import KEEP, USE, FactValue
from headrace.core.sovereignty.plain import ACCESS, PROFILES
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import PolicyRef
from headrace.core.world import World
from headrace.policy.engine import policies
from headrace.policy.reading import ENGINE
from headrace.policy.schema import schema_digest, schema_text

FOLLOWED = frozenset(
    ev.KIND_OF[kind]
    for kind in (ev.JournalOpened, ev.DocumentApplied, ev.DocumentRemoved, ev.EngineDeclared, ev.TokenIssued)
)
"""Kinds of event that change what is allowed where, and to whom."""
SHORTHAND = "countries:"


@dataclass(slots=True)
class Recorder:
    """A policy engine that allows nothing and remembers what it was asked."""

    profiles: Collection[str] = ()
    asked: list[tuple[Policy, Request]] = field(default_factory=list)

    def evaluate(self, policy: Policy, request: Request) -> Verdict:
        """Write it down."""
        self.asked.append((policy, request))
        nothing = Digest("")
        klass = request.subject.klass
        return Verdict(klass, request.action, request.target.id, False, (), nothing, nothing)

    def obstacle(self, *_: object) -> Obstacle | None:
        """Nothing: it allows nothing, and says nothing."""
        return None

    def minds_the_day(self, policy: Policy) -> bool:
        """As the engine that judges has it."""
        return policies().minds_the_day(policy)

    def describe(self, graph: Graph, place: Place, owner: PartyId | None) -> Mapping[str, str | int | bool]:
        """What follows from who holds what, as the engine that judges has it."""
        return policies().describe(graph, place, owner)


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a verdict may rest on: a policy and facts, as values, and the documents (events) that they are from."""

    policy: tuple[object, ...]
    policy_seq: int | None
    facts: object
    facts_seq: int | None


class Law:
    """The documents and engines of a journal up to some event."""

    def __init__(self) -> None:
        self._recorder = Recorder(policies().profiles)
        self._world = World(None, self._recorder)
        self._seqs: dict[tuple[str, str], int] = {}

    def follow(self, one: ev.Committed) -> None:
        """Take an event of a kind that is followed; what this version can't read changes nothing."""
        event, world = one.event, self._world
        if isinstance(event, ev.DocumentApplied):
            self._seqs[event.kind, event.name] = one.seq
        elif isinstance(event, ev.DocumentRemoved):
            self._seqs.pop((event.kind, event.name), None)
        with suppress(HeadraceError, ValueError, KeyError):
            # Its number is the world's own: all that comes between is left out.
            apply(world, ev.Committed(world.state.version, one.at_ms, event))

    def grounds(self, at_ms: int, verdict: Verdict) -> list[Grounds]:
        """What a verdict about a place may rest on, if it was recorded now."""
        place, _, site = verdict.place.partition(":")
        tenant = TenantId(verdict.subject.partition("@")[2])
        if place != "site" or not tenant:
            return []
        if verdict.action in ACCESS:
            return self._of_people(at_ms, verdict, tenant, site)
        if verdict.action not in (USE, KEEP):
            return []
        found = self._of_data(at_ms, tenant, site)
        for name in _named(verdict):
            with suppress(HeadraceError, ValueError, KeyError):
                found += self._ask(at_ms, tenant, site, name)
        return found

    def _ask(self, at_ms: int, tenant: TenantId, site: str, name: str) -> list[Grounds]:
        world, recorder = self._world, self._recorder
        recorder.asked.clear()
        world.at(at_ms)
        numbers = {str(one.id): number for number, one in enumerate(world.fleet.sites)}
        world.place_verdict(tenant, _ref(name), numbers[site])
        return self._asked(at_ms, site)

    def _of_people(self, at_ms: int, verdict: Verdict, tenant: TenantId, site: str) -> list[Grounds]:
        """What a verdict about somebody who reads may rest on: from where is what some token's holder has stated, or nothing."""
        world, role = self._world, Role(verdict.subject.partition("@")[0])
        numbers = {str(one.id): number for number, one in enumerate(world.fleet.sites)}
        stated = dict.fromkeys(((), *(token.countries for token in world.state.tokens.values())))
        classes = dict.fromkeys(("", *(one.data_class for one in world.laws.datasets.values())))
        self._recorder.asked.clear()
        world.at(at_ms)
        for name, countries, its in product(_named(verdict), stated, classes):
            own = None if role is Role.OPERATOR_ADMIN else tenant
            who = Subject("person", "", role, own, countries)
            with suppress(HeadraceError, ValueError, KeyError):
                world.laws.of_person(world, who, tenant, _ref(name), verdict.action, numbers[site], its)
        return self._asked(at_ms, site)

    def _asked(self, at_ms: int, site: str) -> list[Grounds]:
        """What was asked of the policy engine about a site."""
        place = next(one for one in self._world.fleet.sites if one.id == site)
        facts_seq = self._seqs.get(("facts", site), self._estate())
        return [
            Grounds(values, self._seqs.get(("policy", policy.name)), facts, facts_seq)
            for policy, request in self._recorder.asked
            for values, facts in _ways(policy, dict(request.facts), place, at_ms)
        ]

    def _of_data(self, at_ms: int, tenant: TenantId, site: str) -> list[Grounds]:
        """What verdicts about the tenant's data sets at a site may rest on."""
        world, recorder = self._world, self._recorder
        numbers = {str(one.id): number for number, one in enumerate(world.fleet.sites)}
        found: list[Grounds] = []
        mine = [one for one in world.laws.datasets.values() if one.tenant == tenant and site in numbers]
        for data in mine:
            recorder.asked.clear()
            world.at(at_ms)
            with suppress(HeadraceError, ValueError, KeyError):
                world.laws.of_data(world, data, numbers[site])
            found += self._asked(at_ms, site)
        return found

    def _estate(self) -> int | None:
        return next((seq for (kind, _), seq in self._seqs.items() if kind == "estate"), None)


def _ref(name: str) -> PolicyRef:
    """The policy of a name, as a workload refers to it."""
    if name.startswith(SHORTHAND):
        return PolicyRef(countries=tuple(name.removeprefix(SHORTHAND).split("+")))
    return PolicyRef(name)


def _named(verdict: Verdict) -> list[str]:
    """The names that a verdict's reasons have for its policy."""
    found = []
    for reason in verdict.reasons:
        words = reason.split(" ")
        if len(words) > 1 and words[0] == "policy":
            found.append(words[1].removesuffix(":"))
    return list(dict.fromkeys(found))


def _ways(
    policy: Policy, facts: dict[str, FactValue], site: Site, at_ms: int
) -> Iterator[tuple[tuple[object, ...], object]]:
    """What it is asked by now; and as older versions asked: with the day always, and lists of countries for some names."""
    yield _policy(policy), facts
    if policy.is_plain:
        return
    if "day" not in facts:
        yield _policy(policy), {**facts, "day": at_ms // MS_PER_DAY}
    if policy.name in PROFILES:
        yield _policy(PROFILES[policy.name]), {"country": site.country, "energy_source": site.energy_source}
        # As a list is asked about data, and about people.
        people = {name: value for name, value in facts.items() if name.startswith("person.")}
        yield _policy(PROFILES[policy.name]), {"country": site.country, **people}


def _policy(policy: Policy) -> tuple[object, ...]:
    """The values that a policy's digest is made of, the outermost first."""
    said: tuple[object, ...] = (["policy", policy.name, sorted(policy.countries)],)
    if policy.is_plain:
        return said
    rules = policies().policy_set(policy)
    source = sha256(rules.text.encode()).hexdigest()
    return (["cedar", ENGINE, schema_digest(), source], rules.text, schema_text())
