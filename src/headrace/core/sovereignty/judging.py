"""All that runs, judged again once policies, facts or the day are others: what is no longer allowed moves, and is told why."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding
from headrace.core.authority import Verdict
from headrace.core.ids import SiteId, TenantId, WorkloadId
from headrace.core.workload import TERMINAL, EndReason, Placement, PolicyRef
from headrace.core.world import World


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
        if verdict.id not in world.state.verdicts:
            yield ev.DecisionRecorded(verdict)
        said = "; ".join(verdict.reasons)
        yield ev.EvictionRequested(placement.id, EndReason.FORBIDDEN, f"it may not be there any more: {said}")
    return None


@dataclass(frozen=True, slots=True)
class Changed:
    """A class of work (a tenant's, under a policy) that a site would be judged otherwise for.

    ``policy``: a policy's name, or countries. ``running``: workloads of the class that are at the site now; ``waiting``: those
    that wait, wherever they may go.
    """

    tenant: TenantId
    policy: str
    site: SiteId
    before: Verdict
    after: Verdict
    running: tuple[WorkloadId, ...]
    waiting: tuple[WorkloadId, ...]


def would_change(world: World, documents: Mapping[str, dict[str, Any]], now_ms: int) -> list[Changed]:
    """What other documents (by ``kind/name``, all of them) would newly allow and forbid to what runs and waits; forbidden first.

    Sites are judged that are in both estates. Nothing is changed by it.
    """
    trial = World(replace(world.state, documents=dict(documents), requests={}), world.policies)
    trial.at(now_ms)
    running: dict[tuple[TenantId, PolicyRef, SiteId], list[WorkloadId]] = {}
    waiting: dict[tuple[TenantId, PolicyRef], list[WorkloadId]] = {}
    for work in world.state.workloads.values():
        if work.state in TERMINAL:
            continue
        waiting.setdefault((work.tenant, work.spec.policy), [])
        placement = world.state.placements.get(work.placement) if work.placement else None
        if placement is not None:
            running.setdefault((work.tenant, work.spec.policy, placement.site), []).append(work.id)
        else:
            waiting[work.tenant, work.spec.policy].append(work.id)
    found = []
    for (tenant, ref), waits in waiting.items():
        for number, site in enumerate(world.fleet.sites):
            then = trial.fleet.site_index.get(site.id)
            if then is None or tenant not in trial.tenants:
                continue
            before, after = world.place_verdict(tenant, ref, number), trial.place_verdict(tenant, ref, then)
            if before.allowed != after.allowed:
                here = running.get((tenant, ref, site.id), [])
                named = ref.profile or ", ".join(ref.countries) or trial.tenants[tenant].policy or "public"
                found.append(Changed(tenant, named, site.id, before, after, tuple(here), tuple(waits)))
    return sorted(found, key=lambda one: (one.after.allowed, one.tenant, one.policy, one.site))
