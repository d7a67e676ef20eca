"""Decisions under the shipped profiles: cold, with facts never seen before; and cached, while facts and policies change."""

import gc
import statistics
import time
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.registry import Figure
from headrace.core.authority import Policy, Request, Role, Subject, Target
from headrace.core.codec import normalise
from headrace.core.contracts import Tenant
from headrace.core.estate import Connection, Estate, Operator, Site
from headrace.core.ids import OperatorId, SiteId, TenantId
from headrace.core.sovereignty.law import SiteFacts, Stated
from headrace.core.state import State
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import PolicyRef
from headrace.core.world import World
from headrace.policy.cedar import PROFILES, CedarPolicies, profile
from headrace.policy.engine import Policies
from headrace.policy.reference import by_cedar
from headrace.policy.schema import ACTIONS, PRINCIPAL_OF, Principal, Value, checked

COUNTRIES = ("NO", "GB", "SE", "FI", "IS", "DE", "FR", "US")
REACHING = ("US", "GB", "CN", "NO", "AE", "CA")
DAY = 20_780
COLD_P99_US = 500.0
SITES, TENANTS = 24, 400
"""Of the remembered classes: each of the tenants under each profile at each site."""
AGREED = 400
"""Of the cold decisions, so many are made by Cedar as well."""


@dataclass(frozen=True)
class Made:
    """One request, whose facts no other request has."""

    policy: Policy
    request: Request


def site_facts(chance: Random) -> dict[str, Value]:
    """A site as imported evidence would describe it: some 45 facts, a few of them unknown."""
    facts: dict[str, object] = {
        "site.country": chance.choice(COUNTRIES),
        "site.energy_source": chance.choice(("hydro", "wind", "grid-mix")),
        "site.tenancy": chance.choice(("shared", "dedicated")),
        "site.isolation": chance.choice(("uid", "container", "container")),
        "site.encryption": chance.choice(("at-rest in-transit", "at-rest in-transit tenant-key")),
        "site.staff_countries": chance.choice(("NO", "GB", "GB NO", "DE FR", "GB US", "unknown")),
        "site.outside_eu_ppm": chance.randrange(1_000_001),
        "site.outside_eu_largest_ppm": 0,
    }
    for whose in ("site", "site.operator", "site.owner"):
        if whose != "site":
            facts[f"{whose}.seat"] = chance.choice(COUNTRIES)
        unknown_ppm = chance.choice((0, 0, 20_000, 300_000))
        facts[f"{whose}.control_max_ppm.*"] = unknown_ppm
        facts[f"{whose}.exposure.*"] = "no"
        for country in REACHING[:4]:
            least = chance.randrange(400_000)
            facts[f"{whose}.control_min_ppm.{country}"] = least
            facts[f"{whose}.control_max_ppm.{country}"] = least + unknown_ppm
            facts[f"{whose}.exposure.{country}"] = chance.choice(("no", "no", "no", "yes", "unknown"))
    for certificate in ("c5", "iso27001", "cyber_essentials_plus"):
        facts[f"site.certified_until.{certificate}"] = DAY + chance.randrange(-200, 800)
    return checked(facts)


def asker_facts(chance: Random, kind: Principal) -> dict[str, Value]:
    facts: dict[str, Value] = {
        "day": DAY,
        "tenant.country": "GB",
        "data.class": chance.choice(("internal", "restricted")),
    }
    if kind is Principal.WORK:
        return facts | {"work.kind": chance.choice(("job", "service"))}
    works_for = chance.choice(("tenant", "operator"))
    return facts | {
        "person.works_for": works_for,
        "person.countries": chance.choice(("NO", "GB", "US")),
        "consent": True,
    }


def _requests(count: int, seed: int) -> list[Made]:
    chance = Random(seed)
    made = []
    for number in range(count):
        action = chance.choice([*ACTIONS])
        facts = {**site_facts(chance), **asker_facts(chance, PRINCIPAL_OF[ACTIONS[action]])}
        subject = Subject("workload", "", Role.SYSTEM, TenantId(f"tenant-{number % 97}"))
        request = Request(subject, action, Target("site", None, SiteId(f"site-{number}")), facts)
        made.append(Made(Policy(PROFILES[number % len(PROFILES)]), request))
    return made


def cold(quick: bool) -> Figure:
    """The median of decisions on facts never seen before, through the port; the verdict, its digests and its id included."""
    engine = CedarPolicies()
    for name in PROFILES:
        profile(name)
    requests = _requests(4_000 if quick else 40_000, 1)
    took: list[int] = []
    ids: set[str] = set()
    allowed = 0
    gc.collect()
    for one in requests:
        began = time.perf_counter_ns()
        verdict = engine.evaluate(one.policy, one.request)
        # By its id it is stored and referred to.
        ids.add(verdict.id)
        took.append(time.perf_counter_ns() - began)
        allowed += verdict.allowed
    cuts = statistics.quantiles(took, n=1_000)
    p99_us = cuts[989] / 1_000
    disagreed, cedar_us = _against_cedar(engine, requests[:: len(requests) // AGREED])
    notes: dict[str, object] = {
        "p99_us": round(p99_us, 1),
        "p99_goal_us": COLD_P99_US,
        "p99.9_us": round(cuts[998] / 1_000, 1),
        "decisions": len(ids),
        "allowed_share": round(allowed / len(took), 3),
        "facts_each": len(requests[0].request.facts),
        "cedar_itself_p50_us": round(cedar_us, 1),
        "compared_with_cedar": AGREED,
        "disagreements": disagreed,
    }
    is_clean = p99_us <= COLD_P99_US and not disagreed and 0.02 < allowed / len(took) < 0.98
    return Figure(statistics.median(took) / 1_000, notes, clean=is_clean)


def _against_cedar(engine: CedarPolicies, requests: list[Made]) -> tuple[int, float]:
    """How many decisions Cedar makes otherwise, and its median microseconds with policies parsed and facts as JSON."""
    disagreed = 0
    took: list[float] = []
    for one in requests:
        rules = engine.policy_set(one.policy)
        action = ACTIONS[one.request.action]
        facts = {
            **one.request.facts,
            "site.id": one.request.target.id,
            "tenant.id": str(one.request.subject.tenant),
        }
        began = time.perf_counter()
        allowed, _ = by_cedar(rules.handle, action, facts, rules.mentions)
        took.append((time.perf_counter() - began) * 1e6)
        disagreed += allowed != engine.evaluate(one.policy, one.request).allowed
    return disagreed, statistics.median(took)


def cached(quick: bool) -> Figure:
    """Decisions a second over classes that were decided before, while a site's facts change every 200,000 decisions.

    Asked as the control plane asks: the world's own verdicts, over documents.
    """
    chance = Random(2)
    world = _world()
    asked = _asked(chance, world, 200_000)
    for key in asked:
        world.place_verdict(*key)
    took: list[float] = []
    stale = 0
    for number in range(5 if quick else 25):
        changed = _stated(world.fleet.sites[number % SITES].id, site_facts(chance))
        began = time.perf_counter()
        # What rests on the changed site is decided again within the timing.
        world.take_document("facts", changed)
        for key in asked:
            world.place_verdict(*key)
        took.append(time.perf_counter() - began)
        world.state.documents[f"facts/site-{number % SITES}"] = changed
        fresh = World(world.state, world.policies)
        fresh.at(world.now_ms)
        stale += sum(world.place_verdict(*key) != fresh.place_verdict(*key) for key in asked[number::1_009])
    notes: dict[str, object] = {
        "classes": len({*asked}),
        "decisions": len(asked) * len(took),
        "changes": len(took),
        "stale": stale,
        "slowest_round_per_s": round(len(asked) / max(took)),
    }
    return Figure(len(asked) / statistics.median(took), notes, clean=not stale)


def _world() -> World:
    """Sites with facts and tenants, and nothing else; the same each time."""
    chance = Random(3)
    countries = {f"site-{number}": chance.choice(COUNTRIES) for number in range(SITES)}
    sites = tuple(
        Site(SiteId(name), country, "Etc/UTC", Connection(1_000), 1_000, 0, 0, "EUR")
        for name, country in countries.items()
    )
    estate = Estate(Operator(OperatorId("op"), "Op", "NO", "Etc/UTC", "EUR"), sites)
    documents = {"estate/op": normalise("estate", "op", estate)}
    for number in range(TENANTS):
        tenant = Tenant(TenantId(f"tenant-{number}"), (), "GB")
        documents[f"tenant/{tenant.id}"] = normalise("tenant", tenant.id, tenant)
    for name in countries:
        documents[f"facts/{name}"] = _stated(SiteId(name), site_facts(chance))
    world = World(State(documents=documents), Policies())
    world.at(DAY * MS_PER_DAY)
    return world


def _stated(site: SiteId, facts: dict[str, Value]) -> dict[str, Any]:
    """The document that states facts of a site."""
    stated = tuple(Stated(name.removeprefix("site."), value, "made") for name, value in facts.items())
    return normalise("facts", site, SiteFacts(site, stated))


def _asked(chance: Random, world: World, count: int) -> list[tuple[TenantId, PolicyRef, int]]:
    tenants, refs = [*world.tenants], [PolicyRef(profile=name) for name in PROFILES]
    return [(chance.choice(tenants), chance.choice(refs), chance.randrange(SITES)) for _ in range(count)]
