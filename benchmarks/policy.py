"""Decisions under the shipped profiles: cold, with facts never seen before; and cached, while facts and policies change."""

import gc
import statistics
import time
from dataclasses import dataclass
from random import Random

from benchmarks.registry import Figure
from headrace.core.authority import Policy, Request, Role, Subject, Target
from headrace.core.ids import SiteId, TenantId
from headrace.policy.cedar import PROFILES, CedarPolicies, profile
from headrace.policy.decisions import Decisions
from headrace.policy.engine import Policies
from headrace.policy.reference import by_cedar
from headrace.policy.schema import ACTIONS, PRINCIPAL_OF, Principal, Value, checked

COUNTRIES = ("NO", "GB", "SE", "FI", "IS", "DE", "FR", "US")
REACHING = ("US", "GB", "CN", "NO", "AE", "CA")
DAY = 20_780
COLD_P99_US = 500.0
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
    """Decisions a second over classes that were decided before, while a site's facts change every 200,000 decisions."""
    chance = Random(2)
    decisions, fresh = Decisions(Policies()), Decisions(Policies())
    askers = [f"{kind}-{number}" for kind in Principal for number in range(60)]
    sites = [f"site-{number}" for number in range(24)]
    for one in (decisions, fresh):
        _declare(one, askers, sites)
    asked = _asked(chance, askers, sites, 200_000)
    for key in asked:
        decisions.decide(*key)
    took: list[float] = []
    stale = 0
    for number in range(5 if quick else 25):
        changed, facts = sites[number % len(sites)], site_facts(chance)
        began = time.perf_counter()
        # What rests on the changed site is decided again within the timing.
        decisions.site(changed, facts)
        for key in asked:
            decisions.decide(*key)
        took.append(time.perf_counter() - began)
        fresh.site(changed, facts)
        fresh.forget()
        stale += sum(decisions.decide(*key) != fresh.decide(*key) for key in asked[number::1_009])
    notes: dict[str, object] = {
        "classes": len(decisions),
        "decisions": len(asked) * len(took),
        "changes": len(took),
        "stale": stale,
        "slowest_round_per_s": round(len(asked) / max(took)),
    }
    return Figure(len(asked) / statistics.median(took), notes, clean=not stale)


def _declare(decisions: Decisions, askers: list[str], sites: list[str]) -> None:
    """The same world each time."""
    chance = Random(3)
    decisions.common({"day": DAY})
    for name in PROFILES:
        decisions.policy(Policy(name))
    for name in sites:
        decisions.site(name, site_facts(chance))
    for number, name in enumerate(askers):
        subject = Subject("workload", "", Role.SYSTEM, TenantId(f"tenant-{number % 40}"))
        decisions.asker(name, subject, asker_facts(chance, Principal(name.partition("-")[0])))


def _asked(
    chance: Random, askers: list[str], sites: list[str], count: int
) -> list[tuple[str, str, str, str]]:
    found = []
    for _ in range(count):
        asker = chance.choice(askers)
        kind = Principal(asker.partition("-")[0])
        action = chance.choice([name for name, cedar in ACTIONS.items() if PRINCIPAL_OF[cedar] is kind])
        found.append((chance.choice(PROFILES), action, asker, chance.choice(sites)))
    return found
