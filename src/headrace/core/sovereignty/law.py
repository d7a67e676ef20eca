"""Policies and facts as documents: what buyers demand of a place, and what is stated of each site, with its source."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.core.authority import Policy, PolicyEngine, Verdict
from headrace.core.errors import HeadraceError, unknown
from headrace.core.estate import Site
from headrace.core.ids import SiteId, TenantId
from headrace.core.sovereignty.plain import PROFILES, decide_place
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import PolicyRef

if TYPE_CHECKING:
    from headrace.core.world import World

FactValue = str | int | bool
LAW = frozenset({"policy", "facts", "ownership"})
"""Kinds of document that change what is allowed: they are applied though something that runs may have to move for it."""


@dataclass(frozen=True, slots=True)
class PolicyText:
    """``kind: policy``: rules in Cedar, under a name that workloads and tenants use like a profile's."""

    id: str
    cedar: str


@dataclass(frozen=True, slots=True)
class Stated:
    """A fact of a site, its value, where that is from, and the day (ISO) on which it was seen to be so."""

    fact: str
    value: FactValue
    source: str
    as_of: str = ""


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """``kind: facts``: what is stated of the site ``id``. What nobody states is unknown, and unknown is not clean.

    ``operator`` and ``owner`` are parties of ownership documents: who controls them is computed from those.
    """

    id: SiteId
    facts: tuple[Stated, ...] = ()
    operator: str = ""
    owner: str = ""

    def values(self) -> dict[str, FactValue]:
        """The facts by the names that policies know them by."""
        return {f"site.{one.fact}": one.value for one in self.facts}


@dataclass(slots=True)
class Laws:
    """All policies and facts that are in force, and what of them is asked for a site."""

    policies: dict[str, PolicyText] = field(default_factory=dict)
    sites: dict[SiteId, SiteFacts] = field(default_factory=dict)
    stamp: int = 0
    """Grows with every change of what is allowed: who was judged before has to be judged again."""
    _known: dict[int, dict[str, FactValue]] = field(default_factory=dict)

    def forget(self) -> None:
        """Something is another, or it is another day."""
        self.stamp += 1
        self._known.clear()

    def take(self, value: PolicyText | SiteFacts) -> None:
        """Take a document."""
        if isinstance(value, PolicyText):
            self.policies[value.id] = value
        else:
            self.sites[value.id] = value

    def drop(self, kind: str, name: str) -> None:
        """Forget a document."""
        if kind == "policy":
            self.policies.pop(name, None)
        elif kind == "facts":
            self.sites.pop(SiteId(name), None)

    def names(self, engine: PolicyEngine) -> tuple[str, ...]:
        """What a workload's policy may be called."""
        return tuple(sorted({*PROFILES, *engine.profiles, *self.policies}))

    def resolve(self, ref: PolicyRef, engine: PolicyEngine) -> Policy:
        """The policy that a reference means; HeadraceError for a name that nothing has."""
        if ref.countries:
            return Policy(f"countries:{'+'.join(sorted(ref.countries))}", tuple(sorted(ref.countries)))
        name = ref.profile or "public"
        declared = self.policies.get(name)
        if declared is not None:
            return Policy(name, (), declared.cedar)
        if name in PROFILES:
            return PROFILES[name]
        if name in engine.profiles:
            return Policy(name, is_shipped=True)
        raise HeadraceError(unknown("policy", name, self.names(engine)))

    def judge(self, world: "World", tenant: TenantId, ref: PolicyRef, site: int) -> Verdict:
        """May a workload of ``tenant`` under ``ref`` be placed at site number ``site`` today; HeadraceError for no policy."""
        declared, its = world.fleet.sites[site], world.tenants.get(tenant)
        if not ref.profile and not ref.countries and its is not None and its.policy:
            ref = PolicyRef(profile=its.policy)
        policy = self.resolve(ref, world.policies)
        if policy.is_plain:
            return decide_place(world.policies, tenant, policy, declared)
        known = self._known.get(site)
        if known is None:
            engine = world.state.engines.get(declared.engine)
            country = world.estate.operator.country if world.estate else ""
            isolation = engine.isolation if engine is not None else ""
            known = self.facts_of(declared, isolation=isolation, operator_country=country)
            self._known[site] = known
        tenancy = "dedicated" if declared.dedicated_to == tenant else "shared"
        facts = {**known, "site.tenancy": tenancy, "day": world.now_ms // MS_PER_DAY}
        if its is not None and its.country:
            facts["tenant.country"] = its.country
        return decide_place(world.policies, tenant, policy, declared, facts)

    def facts_of(self, site: Site, *, isolation: str, operator_country: str) -> dict[str, FactValue]:
        """What is known of a site for every tenant alike: by the estate, by its engine, and by what is stated."""
        found: dict[str, FactValue] = {"site.country": site.country or "unknown"}
        if site.energy_source:
            found["site.energy_source"] = site.energy_source
        if isolation:
            found["site.isolation"] = isolation
        if operator_country:
            found["site.operator.seat"] = operator_country
        stated = self.sites.get(site.id)
        return found | (stated.values() if stated is not None else {})
