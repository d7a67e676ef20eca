"""Good plans of the planner itself, broken on purpose in every way there is: ``check`` names each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from headrace.core.contracts import Quota, Tenant
from headrace.core.estate import Connection, Site
from headrace.core.ids import PlacementId, SiteId, WindowId, WorkloadId
from headrace.core.scheduling.admit import admit
from headrace.core.scheduling.check import check
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.scheduling.windows import Window, may_be_evicted
from headrace.core.workload import (
    LEVELS,
    WHOLE_MILLI,
    Alternative,
    Flex,
    Level,
    Placement,
    PolicyRef,
    RankPlace,
    Resources,
    State,
    Topology,
    Workload,
    WorkloadType,
)
from tests.core.scheduling.rich import (
    OTHER,
    PROJECTS,
    Broken,
    Case,
    Good,
    Inapplicable,
    has_part,
    has_whole,
    is_cluster,
    is_firm,
    is_gang,
    make,
)
from tests.core.scheduling.small import ACME

SEEDS = range(120)
LEAST = 3
"""So many of the plans each kind must have broken: else it proves nothing."""

Breaker = Callable[[Good], Broken]
BREAKERS: dict[str, tuple[str, Breaker]] = {}


@cache
def good(seed: int) -> Case:
    """A world and its plan: made once, broken many times."""
    return make(seed)


def breaks(rule: str) -> Callable[[Breaker], Breaker]:
    """Say which rule a way of breaking a plan breaks."""

    def keep(breaker: Breaker) -> Breaker:
        BREAKERS[breaker.__name__] = (rule, breaker)
        return breaker

    return keep


# -- the gang -----------------------------------------------------------------------------------------------


@breaks("rank-count")
def a_rank_too_few(good: Good) -> Broken:
    one = good.some(lambda one: len(one.ranks) == good.work(one).spec.nodes)
    return good.instead(one, ranks=one.ranks[1:])


@breaks("rank-count")
def a_rank_too_many(good: Good) -> Broken:
    one = good.some(is_firm(good))
    return good.instead(one, ranks=(*one.ranks, one.ranks[0]))


@breaks("rank-count")
def elastic_over_its_maximum(good: Good) -> Broken:
    one = good.some(lambda one: good.work(one).spec.nodes_max > 0)
    more = good.work(one).spec.nodes_max + 1 - len(one.ranks)
    return good.instead(one, ranks=one.ranks + one.ranks[:1] * more)


@breaks("node-twice")
def a_node_twice(good: Good) -> Broken:
    one = good.some(is_gang)
    return good.with_rank(one, 1, node=one.ranks[0].node)


@breaks("placed-twice")
def placed_twice(good: Good) -> Broken:
    one = good.some()
    return good.world, replace(good.plan, placements=(*good.plan.placements, one))


@breaks("cluster-not-whole")
def a_cluster_on_part_of_a_node(good: Good) -> Broken:
    one = good.some(is_cluster(good))
    return good.with_rank(one, mask=one.ranks[0].mask & ~1)


@breaks("node-leased")
def a_job_beside_a_cluster(good: Good) -> Broken:
    one = good.some(is_cluster(good))
    rank = RankPlace(one.ranks[0].node, 0, 0, 0)
    return good.beside(
        one, rank, tenant=good.work(one).tenant, type=WorkloadType.JOB, resources=Resources(), alternatives=()
    )


@breaks("models-mixed")
def a_gang_on_two_models(good: Good) -> Broken:
    one = good.some(lambda one: is_gang(one) and one.ranks[0].mask > 0)
    node = good.elsewhere(
        lambda node: (
            node.startswith(f"{one.site}/")
            and good.kind(node).accelerator != good.kind(one.ranks[0].node).accelerator
        )
    )
    return good.with_rank(one, node=node)


# -- nodes --------------------------------------------------------------------------------------------------


@breaks("unknown-node")
def a_node_that_is_not_there(good: Good) -> Broken:
    one = good.some()
    return good.with_rank(one, node=f"{one.site}/b0/g0-9-9")


@breaks("node-elsewhere")
def a_node_of_another_site(good: Good) -> Broken:
    one = good.some()
    node = good.elsewhere(lambda node: not node.startswith(f"{one.site}/"))
    return good.with_rank(one, node=node)


@breaks("unknown-site")
def a_site_that_is_not_there(good: Good) -> Broken:
    one = good.some()
    return good.instead(one, site=SiteId("nowhere"))


@breaks("pinned-site")
def another_site_than_the_pinned(good: Good) -> Broken:
    one = good.some()
    return good.asking(one, site=SiteId("s0" if one.site == "s1" else "s1"))


@breaks("node-closed")
def a_closed_node(good: Good) -> Broken:
    one = good.some()
    good.world.closed.add(one.ranks[-1].node)
    return good.world, good.plan


@breaks("not-commissioned")
def a_block_of_tomorrow(good: Good) -> Broken:
    good.some()

    def later(site: Site) -> Site:
        return replace(site, blocks=tuple(replace(block, commissioned="2099-01-01") for block in site.blocks))

    return good.rebuilt(later)


@breaks("model")
def the_wrong_model(good: Good) -> Broken:
    one = good.some(lambda one: good.work(one).spec.resources.accelerator != "" and not is_gang(one))
    node = good.elsewhere(
        lambda node: (
            node.startswith(f"{one.site}/")
            and good.kind(node).accelerator != good.kind(one.ranks[0].node).accelerator
        )
    )
    return good.with_rank(one, node=node)


@breaks("accelerator-memory")
def too_little_accelerator_memory(good: Good) -> Broken:
    one = good.some(lambda one: one.ranks[0].mask > 0)
    more = good.kind(one.ranks[0].node).accelerator_memory_mb + 1
    return good.asking(one, resources=replace(good.work(one).spec.resources, accelerator_memory_mb=more))


@breaks("option")
def an_option_out_of_range(good: Good) -> Broken:
    one = good.some()
    return good.instead(one, option=len(good.work(one).spec.alternatives) + 1)


@breaks("model")
def another_option_than_it_got(good: Good) -> Broken:
    one = good.some(lambda one: has_whole(one) and good.kind(one.ranks[0].node).accelerator != "B200")
    spec = good.work(one).spec
    good.asking(one, alternatives=(*spec.alternatives, Alternative("B200", spec.resources.accelerators)))
    return good.instead(one, option=len(spec.alternatives) + 1)


# -- accelerators, processors, memory -----------------------------------------------------------------------


@breaks("accelerator-beyond")
def a_mask_beyond_the_node(good: Good) -> Broken:
    one = good.some(has_whole)
    mask, past = one.ranks[0].mask, 1 << good.kind(one.ranks[0].node).accelerators
    return good.with_rank(one, mask=(mask & (mask - 1)) | past)


@breaks("accelerator-count")
def an_accelerator_less(good: Good) -> Broken:
    one = good.some(lambda one: has_whole(one) and not is_cluster(good)(one))
    return good.with_rank(one, mask=one.ranks[0].mask & (one.ranks[0].mask - 1))


@breaks("accelerator-taken")
def the_accelerator_of_another(good: Good) -> Broken:
    one = good.some(has_whole)
    return good.beside(one, *one.ranks, tenant=good.work(one).tenant)


@breaks("accelerator-taken")
def the_accelerator_of_what_runs(good: Good) -> Broken:
    running = [
        p for p in good.world.placements.values() if p.ranks[0].mask and p.ranks[0].share_milli == WHOLE_MILLI
    ]
    one, other = good.some(lambda one: has_whole(one) and not is_gang(one)), good.one_of(running)
    rank = one.ranks[0]._replace(node=other.ranks[0].node, mask=other.ranks[0].mask)
    return good.instead(one, ranks=(rank,), site=other.site)


def _parts(good: Good, share: int) -> Broken:
    """Another of the same tenant on the same accelerator, with so many thousandths."""
    one = good.some(lambda one: has_part(one) and one.ranks[0].share_milli > 1)
    need = replace(good.work(one).spec.resources, share_milli=share)
    rank = one.ranks[0]._replace(share_milli=share)
    return good.beside(one, rank, tenant=good.work(one).tenant, resources=need)


@breaks("accelerator-over")
def parts_over_the_whole(good: Good) -> Broken:
    return _parts(good, 999)


@breaks("accelerator-shared")
def a_part_of_another_tenants(good: Good) -> Broken:
    one = good.some(lambda one: has_part(one) and one.ranks[0].share_milli < 900)
    other = ACME if good.work(one).tenant == OTHER else OTHER
    need = replace(good.work(one).spec.resources, share_milli=1)
    return good.beside(one, one.ranks[0]._replace(share_milli=1), tenant=other, resources=need)


@breaks("accelerator-mixed")
def the_whole_over_a_part(good: Good) -> Broken:
    return _parts(good, WHOLE_MILLI)


@breaks("accelerator-mixed")
def a_part_of_what_is_taken_whole(good: Good) -> Broken:
    one = good.some(has_whole)
    rank = one.ranks[0]
    need = replace(good.work(one).spec.resources, accelerators=1, share_milli=500)
    part = rank._replace(mask=rank.mask & -rank.mask, share_milli=500)
    return good.beside(
        one, part, tenant=good.work(one).tenant, resources=need, alternatives=(), type=WorkloadType.JOB
    )


@breaks("part")
def a_smaller_part_than_asked(good: Good) -> Broken:
    one = good.some(lambda one: has_part(one) and one.ranks[0].share_milli > 1)
    return good.with_rank(one, share_milli=one.ranks[0].share_milli - 1)


@breaks("resources")
def fewer_processors_than_asked(good: Good) -> Broken:
    one = good.some()
    need = good.work(one).spec.resources
    return good.asking(one, resources=replace(need, cpu_milli=one.ranks[0].cpu_milli + 1))


@breaks("cpu")
def more_processors_than_there_are(good: Good) -> Broken:
    one = good.some()
    return good.with_rank(one, cpu_milli=good.kind(one.ranks[0].node).cpu_milli + 1)


@breaks("memory")
def more_memory_than_there_is(good: Good) -> Broken:
    one = good.some()
    return good.with_rank(one, memory_mb=good.kind(one.ranks[0].node).memory_mb + 1)


# -- power --------------------------------------------------------------------------------------------------


def _load(good: Good, kind: str) -> tuple[str, int]:
    """An element of a kind that the plan touches, and what it draws once the plan is carried out."""
    after = Good(Case(good.world, good.plan, good.chance)).world
    after.adopt(Plan(0, good.plan.placements))
    fleet, load_w = after.fleet, after.power_w()
    leaves = {int(fleet.node_leaf[fleet.node_index[r.node]]) for p in good.plan.placements for r in p.ranks}  # type: ignore[index]
    above = sorted({element for leaf in leaves for element in fleet.path(leaf)})
    element = good.one_of([element for element in above if fleet.power_kind[element] == kind])
    return fleet.power_ids[element], load_w[element]


def _tight(good: Good, kind: str, limit: Callable[[Site, str, int], Site]) -> Broken:
    name, load_w = _load(good, kind)
    return good.rebuilt(lambda site: limit(site, name, load_w - 1) if name.split("/")[0] == site.id else site)


@breaks("power")
def more_power_than_a_rack_has(good: Good) -> Broken:
    def limit(site: Site, name: str, limit_w: int) -> Site:
        return replace(
            site,
            blocks=tuple(
                replace(
                    block,
                    groups=tuple(
                        replace(group, rack_rating_w=limit_w)
                        if name.rpartition("-")[0] == f"{site.id}/{block.id}/{group.id}"
                        else group
                        for group in block.groups
                    ),
                )
                for block in site.blocks
            ),
        )

    return _tight(good, "rack", limit)


@breaks("power")
def more_power_than_a_feed_has(good: Good) -> Broken:
    return _tight(
        good,
        "feed",
        lambda site, _, limit_w: replace(site, power=(replace(site.power[0], rating_w=limit_w),)),
    )


@breaks("power")
def more_power_than_the_grid_allows(good: Good) -> Broken:
    def limit(site: Site, _: str, limit_w: int) -> Site:
        return replace(site, connection=Connection(limit_w * site.pue_permille // 1_000))

    return _tight(good, "connection", limit)


@breaks("power")
def more_power_than_a_block_has(good: Good) -> Broken:
    good.rebuilt(
        lambda site: replace(site, blocks=tuple(replace(one, rating_w=10**9) for one in site.blocks))
    )

    def limit(site: Site, name: str, limit_w: int) -> Site:
        blocks = tuple(
            replace(one, rating_w=limit_w) if name == f"{site.id}/{one.id}" else one for one in site.blocks
        )
        return replace(site, blocks=blocks)

    return _tight(good, "block", limit)


# -- law, contracts, quotas ---------------------------------------------------------------------------------


@breaks("jurisdiction")
def a_forbidden_country(good: Good) -> Broken:
    one = good.some()
    return good.asking(one, policy=PolicyRef(countries=("SE",)))


@breaks("unknown-country")
def a_country_that_nobody_knows(good: Good) -> Broken:
    good.some()
    return good.rebuilt(lambda site: replace(site, country=""))


@breaks("dedicated")
def a_site_of_another_tenants(good: Good) -> Broken:
    one = good.some()
    owner = ACME if good.work(one).tenant == OTHER else OTHER
    return good.rebuilt(lambda site: replace(site, dedicated_to=owner) if site.id == one.site else site)


@breaks("contract-absent")
def no_contract_at_all(good: Good) -> Broken:
    good.world.contracts = []
    good.some()
    return good.world, good.plan


@breaks("contract-absent")
def contracts_that_have_ended(good: Good) -> Broken:
    good.world.contracts = [replace(one, ends="2025-01-01") for one in good.world.contracts]
    good.some()
    return good.world, good.plan


@breaks("contract-over-held")
def more_than_a_contract_holds(good: Good) -> Broken:
    good.some(lambda one: one.ranks[0].mask > 0)
    good.world.contracts = [replace(one, kind="reserved", accelerators=0) for one in good.world.contracts]
    return good.world, good.plan


def _limited(good: Good, *, project: bool) -> Broken:
    """All that a tenant, or its project, then has outside reserved contracts, and a limit just below it."""
    one = good.some(lambda one: one.ranks[0].mask > 0)
    tenant, name = good.work(one).tenant, good.work(one).spec.project
    good.world.contracts = [paid for paid in good.world.contracts if paid.kind != "reserved"]
    everything: list[Placement | ProposedPlacement] = [*good.world.placements.values(), *good.plan.placements]
    milli = sum(
        rank.accelerators_milli
        for some in everything
        for rank in some.ranks
        if good.world.workloads[some.workload].tenant == tenant
        and (not project or good.world.workloads[some.workload].spec.project == name)
    )
    # A limit of nothing is none.
    quota = Quota(limit=(milli - 1) // WHOLE_MILLI)
    good.world.tenants[tenant] = Tenant(
        tenant, PROJECTS, quota=Quota() if project else quota, project_quotas={name: quota} if project else {}
    )
    if not quota.limit:
        raise Inapplicable
    return good.world, good.plan


@breaks("quota")
def over_the_limit_of_a_tenant(good: Good) -> Broken:
    return _limited(good, project=False)


@breaks("quota")
def over_the_limit_of_a_project(good: Good) -> Broken:
    return _limited(good, project=True)


# -- windows ------------------------------------------------------------------------------------------------


def _begins(good: Good, one: ProposedPlacement, in_ms: int) -> Broken:
    """Works on the first of its nodes, announced since the plan was made."""
    world, node = good.world, good.world.fleet.node_index[one.ranks[0].node]  # type: ignore[index]
    at_ms, site = world.now_ms + in_ms, world.fleet.site_index[one.site]
    world.windows += (Window(WindowId("works"), None, site, (node,), at_ms, at_ms + 1),)
    return world, good.plan


@breaks("window")
def a_node_where_works_go_on(good: Good) -> Broken:
    return _begins(good, good.some(), 0)


@breaks("window")
def a_node_that_it_would_not_leave_in_time(good: Good) -> Broken:
    def stays(one: ProposedPlacement) -> bool:
        spec = good.work(one).spec
        return not may_be_evicted(spec) and spec.reservation is None and not spec.max_duration_ms

    return _begins(good, good.some(stays), 24 * 3_600_000)


@breaks("window")
def a_node_of_anothers_window(good: Good) -> Broken:
    on = [one for one in good.world.windows if one.is_on(good.world.now_ms)]
    one, window = good.some(lambda one: good.work(one).spec.reservation is None), good.one_of(on)
    node, site = good.world.fleet.node_ids[window.nodes[0]], good.world.fleet.sites[window.site].id
    return good.instead(one, site=site, ranks=(one.ranks[0]._replace(node=node),))


@breaks("window")
def a_node_outside_its_reservation(good: Good) -> Broken:
    one = good.some(lambda one: good.work(one).spec.reservation is not None)
    inside = {node for window in good.world.windows for node in window.nodes}
    node = good.elsewhere(
        lambda node: node.startswith(f"{one.site}/") and good.world.fleet.node_index[node] not in inside  # type: ignore[index]
    )
    return good.with_rank(one, node=node)


@breaks("window")
def one_whose_reservation_is_over(good: Good) -> Broken:
    good.some(lambda one: good.work(one).spec.reservation is not None)
    good.world.windows = tuple(replace(one, ends_ms=good.world.now_ms) for one in good.world.windows)
    return good.world, good.plan


# -- topology -----------------------------------------------------------------------------------------------


def _groups(good: Good, one: ProposedPlacement, level: Level) -> list[int]:
    """The groups of a level that its nodes are in, by the columns of the fleet (which ``check`` never reads)."""
    fleet = good.world.fleet
    column: Any = {
        "domain": fleet.node_domain,
        "rack": fleet.node_leaf,
        "rail": fleet.node_rail,
        "pod": fleet.node_pod,
        "site": fleet.node_site,
    }[level]
    return [int(column[fleet.node_index[rank.node]]) for rank in one.ranks]  # type: ignore[index]


def _standing(good: Good) -> Iterator[tuple[ProposedPlacement, Level, int]]:
    for one in good.plan.placements:
        for level in LEVELS:
            yield one, level, len(set(_groups(good, one, level)))


@breaks("pack")
def a_gang_that_must_stand_together(good: Good) -> Broken:
    found = [(one, level) for one, level, groups in _standing(good) if groups > 1]
    one, level = good.one_of(found)
    return good.asking(one, topology=Topology(pack=level, required=True))


@breaks("spread")
def a_gang_that_must_stand_apart(good: Good) -> Broken:
    found = [(one, level) for one, level, groups in _standing(good) if groups < len(one.ranks)]
    one, level = good.one_of(found)
    return good.asking(one, topology=Topology(spread=level, required=True))


# -- the queue, evictions, versions -------------------------------------------------------------------------


@breaks("not-queued")
def one_that_runs_already(good: Good) -> Broken:
    one = good.some()
    good.work(one).state = State.RUNNING
    return good.world, good.plan


@breaks("backing-off")
def one_that_backs_off(good: Good) -> Broken:
    one = good.some()
    good.work(one).not_before_ms = good.world.now_ms + 1
    return good.world, good.plan


@breaks("unknown-workload")
def one_that_is_not_there(good: Good) -> Broken:
    one = good.some()
    return good.instead(one, workload=WorkloadId("acme-999"))


def _evict(good: Good, wanted: Callable[[Workload], bool], waiting: str = "", times: int = 1) -> Broken:
    planned = {one.placement for one in good.plan.evictions}
    victims = [
        one.id
        for one in good.world.placements.values()
        if wanted(good.world.workloads[one.workload]) and one.id not in planned and not one.stop_reason
    ]
    by = WorkloadId(waiting) if waiting else good.one_of(good.world.queue()).id
    one = Eviction(good.one_of(victims), by)
    return good.world, replace(good.plan, evictions=(*good.plan.evictions, *(one,) * times))


def _may_go(work: Workload) -> bool:
    return work.spec.type is WorkloadType.FILLER or work.spec.flex is Flex.PREEMPTIBLE


@breaks("eviction-forbidden")
def evicting_a_firm_one(good: Good) -> Broken:
    return _evict(good, lambda work: not _may_go(work))


@breaks("eviction-for-nobody")
def evicting_for_nobody(good: Good) -> Broken:
    return _evict(good, _may_go, waiting="acme-999")


@breaks("eviction-for-nobody")
def evicting_for_one_that_runs(good: Good) -> Broken:
    running = [one.workload for one in good.world.placements.values()]
    return _evict(good, _may_go, waiting=good.one_of(running))


@breaks("eviction-upwards")
def evicting_for_a_filler(good: Good) -> Broken:
    pairs = [
        (waiting.id, victim.id)
        for waiting in good.world.queue()
        for victim in good.world.workloads.values()
        if waiting.spec.type is WorkloadType.FILLER
        and waiting.spec.reservation is None
        and victim.placement
        and victim.spec.flex is Flex.PREEMPTIBLE
        and victim.spec.type is not WorkloadType.FILLER
        and victim.spec.priority >= waiting.spec.priority
        and (victim.tenant, victim.spec.project) != (waiting.tenant, waiting.spec.project)
    ]
    waiting, victim = good.one_of(pairs)
    return _evict(good, lambda work: work.id == victim, waiting=waiting)


@breaks("eviction-of-an-equal")
def evicting_an_equal_that_saves_nothing(good: Good) -> Broken:
    victims = {
        (work.tenant, work.spec.project, work.spec.priority): work
        for work in good.world.workloads.values()
        if work.placement and work.spec.flex is Flex.PREEMPTIBLE and work.spec.type is not WorkloadType.FILLER
    }
    equals = [
        (work.id, victims[key].id)
        for work in good.world.queue()
        if work.spec.reservation is None
        and (key := (work.tenant, work.spec.project, work.spec.priority)) in victims
    ]
    waiting, victim = good.one_of(equals)
    return _evict(good, lambda work: work.id == victim, waiting=waiting)


@breaks("eviction-twice")
def evicting_twice(good: Good) -> Broken:
    return _evict(good, _may_go, times=2)


@breaks("eviction-unknown")
def evicting_what_holds_nothing(good: Good) -> Broken:
    waiting = good.one_of(good.world.queue()).id
    return good.world, replace(good.plan, evictions=(Eviction(PlacementId(f"{waiting}.77"), waiting),))


@breaks("future-base")
def a_base_in_the_future(good: Good) -> Broken:
    return good.world, replace(good.plan, base_version=good.plan.base_version + 1)


@pytest.mark.parametrize("name", BREAKERS)
def test_every_way_of_breaking_a_good_plan_is_found_and_named(name: str) -> None:
    """Promises 1, 2, 3, 5, 6: whatever a planner might do wrong, on whatever world, has its rule."""
    rule, breaker = BREAKERS[name]
    broken = 0
    for seed in SEEDS:
        try:
            world, plan = breaker(Good(good(seed)))
        except Inapplicable:
            continue
        rules = {violation.rule for violation in check(world.snapshot(), plan)}
        assert rule in rules, f"seed {seed}: {rules}"
        broken += 1
    assert broken >= LEAST


def test_nothing_is_found_in_the_plans_as_the_planner_made_them() -> None:
    """What was broken above was whole before; and the planner breaks no rule on worlds of every shape."""
    for seed in SEEDS:
        case = good(seed)
        assert check(case.world.snapshot(), case.plan) == [], f"seed {seed}"


def test_the_writer_lets_in_each_part_of_the_plans_as_the_planner_made_them() -> None:
    """One by one, each after those before it were placed: windows and the power that they keep too."""
    for seed in SEEDS:
        world = Good(good(seed)).world
        for number, one in enumerate(good(seed).plan.placements):
            assert admit(world.snapshot(), one) is None, f"seed {seed}, placement {number}"
            world.place(one)


def test_the_plans_have_something_of_every_shape() -> None:
    """A way of breaking them would prove little on plans without parts, alternatives, windows, elastic and required gangs."""
    specs = [
        (case.world.workloads[one.workload].spec, one)
        for case in map(good, SEEDS)
        for one in case.plan.placements
    ]
    assert sum(one.option > 0 for _, one in specs) >= LEAST
    assert sum(has_part(one) for _, one in specs) >= LEAST
    assert sum(spec.nodes < len(one.ranks) for spec, one in specs) >= LEAST
    wishes = [spec.topology for spec, _ in specs if spec.topology is not None and spec.topology.required]
    assert {wish.pack for wish in wishes} | {""} >= set(LEVELS)
    assert len({wish.spread for wish in wishes}) >= LEAST
    assert sum(spec.reservation is not None for spec, _ in specs) >= LEAST
    assert any(one.window is not None for case in map(good, SEEDS) for one in case.plan.evictions)
    assert (
        sum(_before_a_window(case, one) for case in map(good, SEEDS) for one in case.plan.placements) >= LEAST
    )


def _before_a_window(case: Case, one: ProposedPlacement) -> bool:
    """Whether a placement is on nodes of a window that is still to come."""
    index = case.world.fleet.node_index
    nodes = {index[rank.node] for rank in one.ranks}  # type: ignore[index]
    return any(
        case.world.now_ms < window.starts_ms and not nodes.isdisjoint(window.nodes)
        for window in case.world.windows
    )
