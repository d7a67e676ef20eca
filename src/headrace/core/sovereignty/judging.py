"""All that runs, judged again once policies, facts or the day are others; and what that would come to, before they are.

Both ask the world's own verdicts, so that what is shown before is what happens after.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding, record
from headrace.core.authority import Verdict
from headrace.core.data.deciding import judge_copies
from headrace.core.ids import SiteId, TenantId, WorkloadId
from headrace.core.scheduling.findings import start_of
from headrace.core.scheduling.sight import Ground, Sight
from headrace.core.workload import TERMINAL, EndReason, Placement, PolicyRef, Workload
from headrace.core.world import World

_COMPUTED = ("operator.", "owner.", "control_", "exposure", "outside_eu", "staff_countries")
"""Facts that are computed from who holds what, unless somebody states them."""
MOST_TRIED = 500
"""Of so many workloads that the law would let go it is looked whether there is room for them now."""


def verdict_of(world: World, placement: Placement) -> Verdict:
    """May a placement be where it is."""
    spec = world.state.workloads[placement.workload].spec
    return world.place_verdict(placement.tenant, spec.policy, world.fleet.site_index[placement.site])


def follow_law(world: World, _: c.FollowLaw, asked: Asked) -> Deciding:
    """Tell all that may not be where it is to end there within its grace; its workload waits for a place that is allowed."""
    world.at(asked.now_ms)
    # All first: an eviction changes what is gone through. By class, so that many cost little more than few.
    judged = [(one, verdict_of(world, one)) for one in world.state.placements.values()]
    for placement, verdict in judged:
        if verdict.allowed or placement.stop_reason is not None:
            continue
        yield from record(world, verdict)
        yield ev.EvictionRequested(placement.id, EndReason.FORBIDDEN, _told(world, placement, verdict))
    yield from judge_copies(world, asked.now_ms)
    return None


def _told(world: World, placement: Placement, verdict: Verdict) -> str:
    """What a tenant is told of work that may not stay: what decides now, by which rule and fact, and which document changed."""
    ref, site = world.state.workloads[placement.workload].spec.policy, world.fleet.site_index[placement.site]
    blocked = world.laws.blocked(world, placement.tenant, ref, site)
    said = "; ".join(verdict.reasons) if blocked is None else blocked.why
    if ref.data and world.place_verdict(placement.tenant, replace(ref, data=()), site).allowed:
        return f"it may not be there any more, for its data: {said}"
    before = world.state.verdicts.get(placement.verdict)
    changed = "" if before is None else _document(world, placement, before, verdict, said)
    return f"it may not be there any more: {said}" + (f"; changed: {changed}" if changed else "")


def _document(world: World, placement: Placement, before: Verdict, now: Verdict, said: str) -> str:
    """The document whose change decides otherwise than ``before``: the policy's, or that of the facts that decide."""
    laws, ref = world.laws, world.state.workloads[placement.workload].spec.policy
    if before.policy != now.policy:
        return f"policy {laws.named(world, placement.tenant, ref).profile}"
    stated = laws.sites.get(placement.site)
    found = [one for one in (() if stated is None else stated.facts) if f"site.{one.fact} is " in said]
    if found:
        day = "the day, by " if "day is " in said else ""
        return f"{day}facts {placement.site} ({', '.join(f'{one.fact}: {one.source}' for one in found)})"
    if laws.owners and any(f"site.{family}" in said for family in _COMPUTED):
        return f"ownership {', '.join(sorted(laws.owners))}"
    return f"facts {placement.site}, which no longer state it" if before.facts != now.facts else ""


@dataclass(frozen=True, slots=True)
class Changed:
    """A class of work (a tenant's, under a policy) that a site would be judged otherwise for.

    ``policy``: a policy's name, or countries. ``running``: workloads of the class that are at the site now; ``waiting``: those
    that wait and may go there but for the law. Both may be empty: then it is what the tenant's work would be under by itself.
    """

    tenant: TenantId
    policy: str
    site: SiteId
    before: Verdict
    after: Verdict
    running: tuple[WorkloadId, ...]
    waiting: tuple[WorkloadId, ...]


@dataclass(frozen=True, slots=True)
class Freed:
    """A workload that waits, is allowed nowhere now, and would be at ``sites``; at ``starts`` it would have room at once.

    Room is looked for as if nobody else waited. ``is_tried`` false: there were too many to look for all.
    """

    workload: WorkloadId
    tenant: TenantId
    policy: str
    sites: tuple[SiteId, ...]
    starts: SiteId | None = None
    is_tried: bool = True


@dataclass(frozen=True, slots=True)
class Bound:
    """A workload that runs where it might not any more, or waits and might go nowhere any more.

    ``site``: where it runs (None: it waits). ``sites``: where it would still be allowed; none: it would wait.
    """

    workload: WorkloadId
    tenant: TenantId
    policy: str
    site: SiteId | None
    sites: tuple[SiteId, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What other documents, or another day, would newly forbid and then newly allow, and which workloads feel it."""

    changes: tuple[Changed, ...]
    freed: tuple[Freed, ...]
    bound: tuple[Bound, ...]
    classes: int
    """So many classes of work were judged, each at every site."""


def would_change(world: World, documents: Mapping[str, dict[str, Any]], now_ms: int) -> Difference:
    """What other documents (by ``kind/name``, all of them) would newly allow and forbid at ``now_ms``, which may be later.

    Judged is what runs and waits, and the policy that each tenant's work is under by itself, at the sites of both estates that
    are open to the tenant. Nothing is changed by it.
    """
    return _Comparison(world, documents, now_ms).difference()


@dataclass(slots=True)
class _Class:
    """A class of work, and who is of it."""

    tenant: TenantId
    ref: PolicyRef
    running: dict[SiteId, list[Workload]] = field(default_factory=dict)
    waiting: list[Workload] = field(default_factory=list)


class _Comparison:
    """A world and the one that other documents would make of it."""

    def __init__(self, world: World, documents: Mapping[str, dict[str, Any]], now_ms: int) -> None:
        self.world = world
        self.trial = World(replace(world.state, documents=dict(documents), requests={}), world.policies)
        self.trial.at(now_ms)
        self.classes = [one for one in self._gathered() if one.tenant in self.trial.tenants]

    def _gathered(self) -> list[_Class]:
        world, found = self.world, dict[tuple[TenantId, PolicyRef], _Class]()
        for work in world.state.workloads.values():
            if work.state in TERMINAL:
                continue
            key = work.tenant, work.spec.policy
            one = found.setdefault(key, _Class(*key))
            placement = world.state.placements.get(work.placement) if work.placement else None
            if placement is None:
                one.waiting.append(work)
            else:
                one.running.setdefault(placement.site, []).append(work)
        for tenant in world.tenants:
            # Who names its tenant's policy is of the same class as who names none, but for a change of the tenant itself.
            own, then = PolicyRef(), self.trial.tenants.get(tenant)
            named = world.laws.named(world, tenant, own)
            if (tenant, named) not in found or then is None or then.policy != world.tenants[tenant].policy:
                found.setdefault((tenant, own), _Class(tenant, own))
        return list(found.values())

    def difference(self) -> Difference:
        changes, freed, bound = list[Changed](), list[Freed](), list[Bound]()
        for one in self.classes:
            named = self._named(one)
            pairs = dict(self._judged(one))
            changes += self._changes(one, named, pairs)
            bound += self._leaving(one, named, pairs)
            for work in one.waiting:
                mine = {site: pair for site, pair in pairs.items() if work.spec.site in (None, site)}
                before = any(was.allowed for was, _ in mine.values())
                after = tuple(site for site, (_, then) in mine.items() if then.allowed)
                if after and not before:
                    freed.append(Freed(work.id, one.tenant, named, after))
                elif before and not after:
                    bound.append(Bound(work.id, one.tenant, named, None, ()))
        changes.sort(key=lambda one: (one.after.allowed, one.tenant, one.policy, one.site))
        return Difference(tuple(changes), self._tried(freed), tuple(bound), len(self.classes))

    def _named(self, one: _Class) -> str:
        ref = self.trial.laws.named(self.trial, one.tenant, one.ref)
        return ref.profile or ", ".join(ref.countries)

    def _judged(self, one: _Class) -> list[tuple[SiteId, tuple[Verdict, Verdict]]]:
        """The verdicts of both worlds on a class, at each site where it may come into question."""
        world, trial, found = self.world, self.trial, []
        for number, site in enumerate(world.fleet.sites):
            then = trial.fleet.site_index.get(site.id)
            if then is None or (site.dedicated_to not in (None, one.tenant) and site.id not in one.running):
                continue
            before = world.place_verdict(one.tenant, one.ref, number)
            found.append((site.id, (before, trial.place_verdict(one.tenant, one.ref, then))))
        return found

    def _changes(
        self, one: _Class, named: str, pairs: Mapping[SiteId, tuple[Verdict, Verdict]]
    ) -> list[Changed]:
        found = []
        for site, (before, after) in pairs.items():
            if before.allowed == after.allowed:
                continue
            running = tuple(work.id for work in one.running.get(site, ()))
            waiting = tuple(work.id for work in one.waiting if work.spec.site in (None, site))
            found.append(Changed(one.tenant, named, site, before, after, running, waiting))
        return found

    def _leaving(
        self, one: _Class, named: str, pairs: Mapping[SiteId, tuple[Verdict, Verdict]]
    ) -> list[Bound]:
        found = []
        for site, works in one.running.items():
            if site not in pairs or pairs[site][1].allowed or not pairs[site][0].allowed:
                continue
            for work in works:
                sites = [
                    at for at, (_, then) in pairs.items() if then.allowed and work.spec.site in (None, at)
                ]
                found.append(Bound(work.id, one.tenant, named, site, tuple(sites)))
        return found

    def _tried(self, freed: list[Freed]) -> tuple[Freed, ...]:
        """Where there is room now for what would be let go; looked for in the world as it is, under the other law."""
        if not freed:
            return ()
        ground = Ground.of(replace(self.world.snapshot(self.world.now_ms), place_verdict=self._then))
        return tuple(
            replace(one, starts=self._start(ground, one))
            if number < MOST_TRIED
            else replace(one, is_tried=False)
            for number, one in enumerate(freed)
        )

    def _start(self, ground: Ground, one: Freed) -> SiteId | None:
        spec = self.world.state.workloads[one.workload].spec
        found = start_of(Sight(ground, one.tenant, spec))
        return None if found is None else self.world.fleet.sites[found[0].site].id

    def _then(self, tenant: TenantId, ref: PolicyRef, site: int) -> Verdict:
        """The other law's verdict on a site of the world as it is; a site that would be gone is allowed for nobody."""
        then = self.trial.fleet.site_index.get(self.world.fleet.sites[site].id)
        if then is None:
            return replace(self.world.place_verdict(tenant, ref, site), allowed=False)
        return self.trial.place_verdict(tenant, ref, then)
