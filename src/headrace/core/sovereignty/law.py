"""Policies and facts as documents: what buyers demand of a place, and what is stated of each site, with its source."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.core.authority import (
    Policy,
    PolicyEngine,
    Request,
    Role,
    Subject,
    Target,
    Verdict,
    digest_of,
)
from headrace.core.data.model import Dataset, data_id
from headrace.core.errors import HeadraceError, unknown
from headrace.core.estate import Site
from headrace.core.ids import DataId, SiteId, TenantId
from headrace.core.sovereignty.exposure import Place
from headrace.core.sovereignty.graph import Graph
from headrace.core.sovereignty.holdings import PartyId
from headrace.core.sovereignty.owning import Ownership, joined
from headrace.core.sovereignty.plain import PROFILES, decide, decide_place
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import PolicyRef

if TYPE_CHECKING:
    from headrace.core.world import World

FactValue = str | int | bool
DEFAULT = "public"
"""The policy of whoever names none."""
LAW = frozenset({"policy", "facts", "ownership", "dataset"})
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


Document = PolicyText | SiteFacts | Ownership | Dataset
KEEP, USE = "data.copy", "workload.place"
"""What is asked of a place for a data set: whether it may lie there, and whether it may be used there."""
CLASSES = ("public", "internal", "confidential", "restricted")
"""Classes of data, the most open first; what nobody stated is none of them."""
Class = tuple[TenantId, str, tuple[str, ...], tuple[str, ...]]
"""A class of work: whose it is, its policy's name, or countries, and the data sets that it uses."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """What keeps a workload from a site under a policy with rules: the rule and the facts (``why``), what stating an unknown fact
    would do (``change``), and the names of other policies that would allow it there, those of the estate first."""

    why: str
    change: str
    others: tuple[str, ...]


@dataclass(slots=True)
class Laws:
    """All policies and facts that are in force, and what of them is asked for a site."""

    policies: dict[str, PolicyText] = field(default_factory=dict)
    owners: dict[str, Ownership] = field(default_factory=dict)
    sites: dict[SiteId, SiteFacts] = field(default_factory=dict)
    datasets: dict[DataId, Dataset] = field(default_factory=dict)
    stamp: int = 0
    """Grows with every change of what is allowed: who was judged before has to be judged again."""
    remembered: dict[int, dict[Class, Verdict]] = field(default_factory=dict)
    """Verdicts by site number and class: each is made again only after something that it rests on has changed."""
    _known: dict[int, dict[str, FactValue]] = field(default_factory=dict)
    _blocked: "dict[tuple[TenantId, str, tuple[str, ...], tuple[str, ...], int], Blocked | None]" = field(
        default_factory=dict
    )
    _data: dict[tuple[DataId, str, int], Verdict] = field(default_factory=dict)
    _graph: Graph | None = None

    def forget(self, only: int | None = None) -> None:
        """Something is another, or it is another day; ``only``: what is stated of the site of that number, and nothing else."""
        self.stamp += 1
        self._blocked.clear()
        self._data.clear()
        if only is not None:
            self._known.pop(only, None)
            self.remembered.pop(only, None)
            return
        self._known.clear()
        self.remembered.clear()
        self._graph = None

    def take(self, value: "Document") -> None:
        """Take a document."""
        match value:
            case PolicyText():
                self.policies[value.id] = value
            case SiteFacts():
                self.sites[value.id] = value
            case Ownership():
                self.owners[value.id] = value
            case Dataset():
                self.datasets[value.id] = value

    def drop(self, kind: str, name: str) -> None:
        """Forget a document."""
        if kind == "policy":
            self.policies.pop(name, None)
        elif kind == "facts":
            self.sites.pop(SiteId(name), None)
        elif kind == "ownership":
            self.owners.pop(name, None)
        elif kind == "dataset":
            self.datasets.pop(DataId(name), None)

    def names(self, engine: PolicyEngine) -> tuple[str, ...]:
        """What a workload's policy may be called."""
        return tuple(sorted({*PROFILES, *engine.profiles, *self.policies}))

    def resolve(self, ref: PolicyRef, engine: PolicyEngine) -> Policy:
        """The policy that a reference means; HeadraceError for a name that nothing has."""
        if ref.countries:
            return Policy(f"countries:{'+'.join(sorted(ref.countries))}", tuple(sorted(ref.countries)))
        name = ref.profile or DEFAULT
        declared = self.policies.get(name)
        if declared is not None:
            return Policy(name, (), declared.cedar)
        # One truth for each name: a list of countries stands in only where nothing reads rules.
        if name in engine.profiles:
            return Policy(name, is_shipped=True)
        if name in PROFILES:
            return PROFILES[name]
        raise HeadraceError(unknown("policy", name, self.names(engine)))

    def named(self, world: "World", tenant: TenantId, ref: PolicyRef) -> PolicyRef:
        """The policy that a workload of ``tenant`` is under: its own, else its tenant's, else ``public``."""
        if ref.profile or ref.countries:
            return ref
        its = world.tenants.get(tenant)
        return PolicyRef(profile=its.policy if its is not None and its.policy else DEFAULT)

    def judge(self, world: "World", tenant: TenantId, ref: PolicyRef, site: int) -> Verdict:
        """May a workload of ``tenant`` under ``ref`` be placed at site number ``site`` today; HeadraceError for no policy.

        Its own policy comes first; then, of each data set that it uses, whether that may lie there and be used there.
        """
        policy = self.resolve(self.named(world, tenant, ref), world.policies)
        verdict = self.judge_by(world, tenant, policy, site, ref.data)
        if verdict.allowed and ref.data:
            verdict = self._with_data(world, tenant, ref.data, site, verdict)
        self.remembered.setdefault(site, {})[tenant, ref.profile, ref.countries, ref.data] = verdict
        return verdict

    def _with_data(
        self, world: "World", tenant: TenantId, used: tuple[str, ...], site: int, own: Verdict
    ) -> Verdict:
        """The first verdict about data that forbids what the work's ``own`` allows; else that one."""
        for name in used:
            data = self.datasets.get(data_id(tenant, name))
            if data is None:
                return _nothing(own, data_id(tenant, name))
            for verdict in self.of_data(world, data, site):
                if not verdict.allowed:
                    return verdict
        return own

    def _class_of(self, tenant: TenantId, used: tuple[str, ...]) -> str:
        """The most sensitive class of some data sets; "" for none, and where that of one is unknown."""
        found = [self.datasets.get(data_id(tenant, name)) for name in used]
        classes = [one.data_class if one is not None else "" for one in found]
        known = bool(classes) and all(one in CLASSES for one in classes)
        return max(classes, key=CLASSES.index) if known else ""

    def of_data(self, world: "World", data: Dataset, site: int) -> tuple[Verdict, Verdict]:
        """May a data set lie at site number ``site`` today, and may it be used there; remembered until something changes."""
        return self.of_action(world, data, KEEP, site), self.of_action(world, data, USE, site)

    def of_action(self, world: "World", data: Dataset, action: str, site: int) -> Verdict:
        """May an action be done with a data set at site number ``site`` today, by its own policy."""
        found = self._data.get((data.id, action, site))
        if found is None:
            policy = self.resolve(self.named(world, data.tenant, data.policy), world.policies)
            facts: dict[str, FactValue] = {"country": world.fleet.sites[site].country}
            if not policy.is_plain:
                facts = self.facts_for(world, data.tenant, policy, site) | {"work.kind": str(data.kind)}
                facts |= {"data.class": data.data_class} if data.data_class else {}
            subject = Subject("data", "", Role.SYSTEM, data.tenant)
            target = Target("site", None, world.fleet.sites[site].id)
            found = decide(world.policies, policy, subject, action, target, facts)
            self._data[data.id, action, site] = found
        return found

    def of_person(
        self,
        world: "World",
        who: Subject,
        owner: TenantId,
        ref: PolicyRef,
        action: str,
        site: int,
        data_class: str = "",
    ) -> Verdict:
        """May somebody read what is a tenant's, under ``ref``, where it lies: by the policy, whose people, and from where.

        From where they have access is what is stated with their token; what is not stated is unknown.
        """
        policy = self.resolve(self.named(world, owner, ref), world.policies)
        works_for = "tenant" if who.tenant == owner else "operator"
        facts: dict[str, FactValue] = {"country": world.fleet.sites[site].country}
        if not policy.is_plain:
            facts = self.facts_for(world, owner, policy, site)
            facts |= {"data.class": data_class} if data_class else {}
        facts["person.works_for"] = works_for
        facts |= {"person.countries": " ".join(who.countries)} if who.countries else {}
        asker = Subject("person", "", who.role, owner)
        target = Target("site", None, world.fleet.sites[site].id)
        return decide(world.policies, policy, asker, action, target, facts)

    def of_journal(self, world: "World", country: str) -> Verdict | None:
        """May the control plane's own state lie in a country ("": unknown), by its operator's policy; None for none."""
        operator = world.estate.operator if world.estate is not None else None
        if operator is None or operator.journal_policy == PolicyRef():
            return None
        policy = self.resolve(operator.journal_policy, world.policies)
        facts: dict[str, FactValue] = {"country": country}
        if not policy.is_plain:
            facts = {"site.country": country or "unknown", "site.operator.seat": operator.country}
            facts["work.kind"] = "journal"
            if world.policies.minds_the_day(policy):
                facts["day"] = world.now_ms // MS_PER_DAY
        subject = Subject("journal", "", Role.SYSTEM)
        target = Target("site", None, "control-plane")
        return decide(world.policies, policy, subject, "journal.replicate", target, facts)

    def blocked(self, world: "World", tenant: TenantId, ref: PolicyRef, site: int) -> "Blocked | None":
        """What keeps a workload of ``tenant`` from site number ``site`` under a policy with rules, and which other ones would do.

        None where it is allowed there, and for a list of countries. A policy with another tenant's name in its own is not named.
        """
        key = tenant, ref.profile, ref.countries, ref.data, site
        if key not in self._blocked:
            self._blocked[key] = self._blocked_by(world, tenant, ref, site)
        return self._blocked[key]

    def _blocked_by(self, world: "World", tenant: TenantId, ref: PolicyRef, site: int) -> "Blocked | None":
        policy = self.resolve(self.named(world, tenant, ref), world.policies)
        if policy.is_plain:
            return None
        subject = Subject("workload", "", Role.SYSTEM, tenant)
        target = Target("site", None, world.fleet.sites[site].id)
        facts = self.facts_for(world, tenant, policy, site, ref.data)
        found = world.policies.obstacle(policy, Request(subject, "workload.place", target, dict(facts)))
        if found is None:
            return None
        # Those that somebody declared first: they were written for this estate.
        names = sorted(
            self.names(world.policies), key=lambda one: (one not in self.policies, one == DEFAULT, one)
        )
        not_its = [one for one in world.tenants if one != tenant]
        others = [
            self.resolve(PolicyRef(profile=name), world.policies)
            for name in names
            if name != policy.name and not any(one in name for one in not_its)
        ]
        return Blocked(
            found.why,
            found.change,
            tuple(one.name for one in others if self.judge_by(world, tenant, one, site).allowed),
        )

    def judge_by(
        self, world: "World", tenant: TenantId, policy: Policy, site: int, used: tuple[str, ...] = ()
    ) -> Verdict:
        """The same under a policy, whoever uses it; nothing is remembered. ``used``: data sets, for how sensitive they are."""
        declared = world.fleet.sites[site]
        facts = None if policy.is_plain else self.facts_for(world, tenant, policy, site, used)
        return decide_place(world.policies, tenant, policy, declared, facts)

    def facts_for(
        self, world: "World", tenant: TenantId, policy: Policy, site: int, used: tuple[str, ...] = ()
    ) -> dict[str, FactValue]:
        """What a policy with rules is asked with about site number ``site``, for a workload of ``tenant``."""
        declared, its = world.fleet.sites[site], world.tenants.get(tenant)
        known = self._known.get(site)
        if known is None:
            known = self._known[site] = self._known_of(declared, world)
        facts = {**known, "site.tenancy": "dedicated" if declared.dedicated_to == tenant else "shared"}
        if world.policies.minds_the_day(policy):
            # For all others a verdict would be a new one each day, and say the same.
            facts["day"] = world.now_ms // MS_PER_DAY
        if its is not None and its.country:
            facts["tenant.country"] = its.country
        if used and (its_class := self._class_of(tenant, used)):
            facts["data.class"] = its_class
        return facts

    def _known_of(self, site: Site, world: "World") -> dict[str, FactValue]:
        """What is known of a site for every tenant alike. In which country it is, the estate alone says."""
        isolation = _least_isolation(world, site)
        country = world.estate.operator.country if world.estate else ""
        found = facts_of(site, isolation=isolation, operator_country=country)
        return {
            **found,
            **self._described(site, world),
            **self._stated(site.id),
            "site.country": found["site.country"],
        }

    def graph(self, day: str) -> Graph:
        """Who holds what on a day, by all that is stated."""
        if self._graph is None or self._graph.day != day:
            self._graph = Graph(joined(self.owners.values()), day)
        return self._graph

    def place_of(self, site: Site) -> Place | None:
        """Who operates and supplies a site, where that is stated; its facts come before what owners' documents have.

        Of several documents the first says who operates it, and all of them who supplies it.
        """
        stated = self.sites.get(site.id)
        places = [place for one in self.owners.values() for place in one.places if place.site == site.id]
        # Whoever any of them names has something in hand there.
        supplies = tuple(dict.fromkeys(supply for place in places for supply in place.supplies))
        if stated is not None and stated.operator:
            return Place(site.id, site.country, PartyId(stated.operator), supplies)
        return replace(places[0], country=site.country, supplies=supplies) if places else None

    def _described(self, site: Site, world: "World") -> dict[str, FactValue]:
        """What follows from who holds what: computed, and passed on as numbers and answers."""
        place = self.place_of(site)
        if place is None:
            return {}
        stated = self.sites.get(site.id)
        owner = PartyId(stated.owner) if stated is not None and stated.owner else None
        day = datetime.fromtimestamp(world.now_ms // 1_000, UTC).date().isoformat()
        return dict(world.policies.describe(self.graph(day), place, owner))

    def _stated(self, site: SiteId) -> dict[str, FactValue]:
        stated = self.sites.get(site)
        return {} if stated is None else stated.values()


_ISOLATES = {"none": 0, "uid": 1, "container": 2}
"""How well each way keeps tenants apart."""


def _least_isolation(world: "World", site: Site) -> str:
    """How tenants are kept apart wherever at a site something of theirs runs: as the engine does that does it least."""
    names = world.fleet.engines_at(world.fleet.site_index[site.id])
    said = [world.state.engines.get(name) for name in names]
    found = [one.isolation for one in said if one is not None and not one.mines]
    return min(found, key=lambda one: _ISOLATES.get(one, 0), default="")


def facts_of(site: Site, *, isolation: str = "", operator_country: str = "") -> dict[str, FactValue]:
    """What the estate and a site's engine say of it, for every tenant alike; what they don't say is left out: it is unknown."""
    found: dict[str, FactValue] = {"site.country": site.country or "unknown"}
    if site.energy_source:
        found["site.energy_source"] = site.energy_source
    if isolation:
        found["site.isolation"] = isolation
    if operator_country:
        found["site.operator.seat"] = operator_country
    return found


def _nothing(own: Verdict, data: DataId) -> Verdict:
    """The verdict about a data set that is not there."""
    reasons = (f"there is no data set {data}",)
    return Verdict(own.subject, own.action, own.place, False, reasons, own.policy, digest_of([data]))
