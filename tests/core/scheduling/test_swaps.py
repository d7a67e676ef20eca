"""Jobs that share accelerators in time: who goes for an equal with less left to do, and who never does."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import pytest

from headrace.core.contracts import Quota, Tenant
from headrace.core.ids import ProjectId, TenantId
from headrace.core.scheduling.check import check
from headrace.core.scheduling.explain import explain
from headrace.core.scheduling.memory import Memory
from headrace.core.scheduling.plan import again_ms, plan
from headrace.core.scheduling.proposal import Plan
from headrace.core.scheduling.service import History
from headrace.core.scheduling.sharing import PROTECTED_MS, are_equals, may_go_for_equal, shares_time
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE
from headrace.core.workload import (
    EndReason,
    Flex,
    Resources,
    State,
    Topology,
    Workload,
    WorkloadSpec,
    WorkloadType,
)
from headrace.replay.cluster import BEGIN_MS, PROJECT, ReplayCluster, hardware
from headrace.replay.cluster import fleet_of as fleet
from tests.core.scheduling.small import (
    ACME,
    World,
    contract,
    evicted,
    fleet_of,
    group,
    nodes_of,
    placed,
    site,
)

OTHER = TenantId("other")
H = MS_PER_HOUR


def make(nodes: int = 1, **changes: object) -> World:
    """One site with nodes of four accelerators each."""
    world = World(fleet_of(site("s", group(per_rack=nodes), **changes)))  # type: ignore[arg-type]
    world.contracts.append(contract(OTHER))
    return world


def share(world: World, hours: float = 0, gpus: int = 4, **changes: object) -> Workload:
    """Queue a job that shares: ``hours`` as its owner says (0: not said)."""
    asked: dict[str, object] = {
        "flex": Flex.PREEMPTIBLE,
        "checkpoint_ms": 10 * MS_PER_MINUTE,
        "expected_ms": round(hours * H),
    }
    return world.submit(gpus=gpus, **asked | changes)  # type: ignore[arg-type]


def run(world: World, work: Workload, node: int = 0, mask: int = 0b1111, ran_ms: int = H) -> Workload:
    """Let it have run for so long by now."""
    placement = world.run(work, (f"s/b/g-0-{node}", mask))
    placement.made_ms = placement.started_ms = world.now_ms - ran_ms
    return work


def planned(world: World) -> Plan:
    """The plan, which no rule finds wrong."""
    snapshot = world.snapshot()
    found = plan(snapshot)
    assert check(snapshot, found) == []
    return found


def carry_out(world: World, found: Plan) -> None:
    """All of it at once: who is told to go is gone."""
    world.adopt(found)
    for placement in list(world.placements.values()):
        if placement.stop_reason is EndReason.PREEMPTED:
            world.end(placement)


@dataclass(frozen=True)
class Case:
    """One job runs on the only node, another comes; whether the first goes for it."""

    ran: dict[str, object]
    comes: dict[str, object]
    goes: bool
    ran_ms: int = H
    change: Callable[[World], None] = lambda _: None


def _pause(world: World) -> None:
    for work in world.workloads.values():
        if work.state is State.RUNNING:
            work.state = State.PAUSED


def _reserve(world: World) -> None:
    world.contracts[0] = replace(world.contracts[0], kind="reserved", accelerators=4)


def _unconfirmed(world: World) -> None:
    for placement in world.placements.values():
        placement.started_ms = 0


LONG: dict[str, object] = {"hours": 10}
SHORT: dict[str, object] = {"hours": 1}
CASES = {
    "less is left": Case(LONG, SHORT, goes=True),
    "more is left": Case(SHORT | {"hours": 3}, LONG, goes=False),
    "as much is left": Case({"hours": 2}, SHORT, goes=False),
    "not for long yet": Case(LONG, SHORT, goes=False, ran_ms=PROTECTED_MS - 1),
    "for long enough": Case(LONG, SHORT, goes=True, ran_ms=PROTECTED_MS),
    "for as long as it takes to come back and save": Case(
        LONG | {"checkpoint_ms": 2_000, "restart_ms": 3_000}, SHORT, goes=True, ran_ms=5_000
    ),
    "a moment less than that": Case(
        LONG | {"checkpoint_ms": 2_000, "restart_ms": 3_000}, SHORT, goes=False, ran_ms=4_999
    ),
    "its start is not confirmed": Case(LONG, SHORT, goes=False, change=_unconfirmed),
    "it is paused": Case(LONG, SHORT, goes=False, change=_pause),
    "it saves nothing": Case(LONG | {"checkpoint_ms": 0}, SHORT, goes=False),
    "the other saves nothing": Case(LONG, SHORT | {"checkpoint_ms": 0}, goes=False),
    "it is firm": Case(LONG | {"flex": Flex.FIRM}, SHORT, goes=False),
    "the other is firm": Case(LONG, SHORT | {"flex": Flex.FIRM}, goes=False),
    "another tenant": Case(LONG, SHORT | {"tenant": OTHER}, goes=False),
    "another project": Case(LONG, SHORT | {"project": "side"}, goes=False),
    "a higher priority": Case(LONG | {"priority": 1}, SHORT, goes=False),
    "a lower priority": Case(LONG, SHORT | {"priority": 1}, goes=True),
    "under a reserved contract": Case(LONG, SHORT, goes=False, change=_reserve),
    "with a wish how it stands": Case(LONG, SHORT | {"topology": Topology(pack="rack")}, goes=False),
    "what would do instead": Case(LONG, SHORT | {"others": (("H100", 8),)}, goes=False),
    "elastic": Case(LONG, SHORT | {"nodes_max": 2}, goes=False),
    "a part of an accelerator": Case(LONG, SHORT | {"gpus": 1, "share_milli": 500}, goes=False),
}


@pytest.mark.parametrize("name", CASES)
def test_one_goes_for_an_equal_with_less_left_to_do_and_for_nobody_else(name: str) -> None:
    """Promise 5: only such a job for such a job, of one tenant, project and priority; ranks above it go before as ever."""
    case = CASES[name]
    world = make()
    run(world, share(world, **case.ran), ran_ms=case.ran_ms)  # type: ignore[arg-type]
    share(world, **case.comes)  # type: ignore[arg-type]
    case.change(world)
    assert evicted(planned(world)) == (["acme-1"] if case.goes else [])


def test_who_comes_starts_where_the_other_was_and_the_other_waits() -> None:
    """The plan after it places what the first one made room for; and at the same moment nothing moves any more."""
    world = make()
    long = run(world, share(world, 10))
    short = share(world, 1)
    carry_out(world, planned(world))
    then = planned(world)
    assert placed(then) == [short.id]
    assert evicted(then) == []
    carry_out(world, then)
    assert planned(world) == Plan(world.seq, (), (), None)
    assert long.state is State.QUEUED


def test_the_least_left_to_do_starts_first_whoever_came_first() -> None:
    """Among those that wait, too; accelerators count as much as time."""
    world = make(2)
    run(world, share(world, 1), node=0)
    share(world, 5)
    share(world, 3)
    wide = share(world, 2, nodes=2)
    narrow = share(world, 2)
    assert placed(planned(world)) == [narrow.id]
    assert wide.id not in placed(planned(world))


def test_nodes_that_are_waited_for_are_nobody_elses() -> None:
    """Another tenant's job of lower priority would fit beside the one that goes; it does not start on what is kept."""
    world = make(2)
    run(world, share(world, 10), node=0)
    share(world, 1, nodes=2)
    world.submit(gpus=4, tenant=OTHER, priority=-1)
    found = planned(world)
    assert evicted(found) == ["acme-1"]
    assert placed(found) == []


def test_a_filler_goes_sooner_than_an_equal() -> None:
    """It is made for that, and loses nothing."""
    world = make(2)
    run(world, share(world, 10), node=0)
    filler = run(world, world.submit("filler", gpus=4, tenant=OTHER), node=1)
    share(world, 1)
    assert evicted(planned(world)) == [filler.id]


def test_where_there_is_room_nobody_goes() -> None:
    """It starts there."""
    world = make(2)
    run(world, share(world, 10), node=0)
    short = share(world, 1)
    found = planned(world)
    assert (evicted(found), nodes_of(found, short)) == ([], ["g-0-1"])


def test_a_project_takes_what_is_free_in_its_turn_alone() -> None:
    """Two tenants with as much get one node each, although one of them has three jobs that wait."""
    world = make(4)
    run(world, share(world, 10), node=0)
    run(world, world.submit(gpus=4, tenant=OTHER), node=1)
    mine = [share(world, 1) for _ in range(3)]
    theirs = [world.submit(gpus=4, tenant=OTHER) for _ in range(3)]
    started = placed(planned(world))
    assert len(set(started) & {one.id for one in mine}) == 1
    assert len(set(started) & {one.id for one in theirs}) == 1


def test_at_a_quota_equals_still_change_places() -> None:
    """A swap takes no more than was held; a start beside it would."""
    world = make(2)
    world.tenants[ACME] = Tenant(ACME, (ProjectId("main"),), quota=Quota(limit=4))
    run(world, share(world, 10), node=0)
    short = share(world, 1)
    found = planned(world)
    assert (evicted(found), placed(found)) == (["acme-1"], [])
    carry_out(world, found)
    assert placed(planned(world)) == [short.id]


def test_without_power_for_more_equals_still_change_places() -> None:
    """The one that goes leaves its watts too."""
    world = make(2)
    run(world, share(world, 10), node=0)
    world.limits_w["s"] = world.power_w()[world.fleet.power_index["s"]]  # type: ignore[index]
    short = share(world, 1)
    found = planned(world)
    assert (evicted(found), placed(found)) == (["acme-1"], [])
    carry_out(world, found)
    assert placed(planned(world)) == [short.id]


def test_who_has_run_on_falls_behind_where_nobody_says_for_how_long() -> None:
    """Without stated durations: one that has run for long goes for one that has not, since that may soon be done."""
    world = make()
    run(world, share(world), ran_ms=40 * H)
    share(world)
    assert evicted(planned(world)) == ["acme-1"]


def test_what_it_attained_counts_over_all_attempts() -> None:
    """One that was interrupted has as much less left to do."""
    world = make()
    begun = share(world, 10)
    begun.attained_ms, begun.attempt = round(9.5 * H), 1
    run(world, share(world, 2))
    assert evicted(planned(world)) == ["acme-2"]


def test_the_planner_looks_again_when_protection_ends_or_an_index_ripens() -> None:
    """Time alone changes the plan then, and again_ms says when."""
    world = make()
    run(world, share(world, 10), ran_ms=1_000)
    share(world, 1)
    snapshot = world.snapshot()
    found = plan(snapshot)
    assert found.again_ms == world.now_ms + PROTECTED_MS - 1_000
    assert again_ms(snapshot, proposed=found) == found.again_ms
    world.now_ms = found.again_ms or 0
    assert evicted(planned(world)) == ["acme-1"]
    world = make()
    run(world, share(world), ran_ms=5 * MS_PER_MINUTE)
    share(world)
    found = planned(world)
    assert evicted(found) == []
    assert found.again_ms is not None
    world.now_ms = found.again_ms
    # By its class alone it may still be as good as the other: then a later moment is named.
    assert evicted(planned(world)) or (planned(world).again_ms or 0) > world.now_ms


def test_who_needs_more_than_all_its_equals_hold_waits_like_all_other_work() -> None:
    """A gang that waits for another tenant's nodes too stands behind a barrier when it has waited for long."""
    world = make(2)
    run(world, share(world, 1, gpus=4), node=0)
    run(world, world.submit(gpus=4, tenant=OTHER, max_duration_ms=2 * H), node=1)
    share(world, 20, nodes=2)
    world.now_ms += H
    late = world.submit(gpus=0, tenant=OTHER, cpu_milli=100, priority=-1, model="")
    assert late.id not in placed(planned(world))


def test_who_waits_for_an_equal_is_told_so() -> None:
    """Promise 7: in its one line, with the name of the one that goes first."""
    world = make()
    run(world, share(world, 1))
    late = share(world, 10)
    assert (
        "acme-1 of its own project has less left to do and goes first"
        in explain(world.snapshot(), late.id).line
    )
    share(world, 3)
    line = explain(world.snapshot(), late.id).line
    assert "2 jobs of its own project have less left to do and go first, acme-1 before all" in line
    first = share(world, 0.5)
    assert "less left" not in explain(world.snapshot(), first.id).line


# -- at random ---------------------------------------------------------------------------------------------------------


def rich(chance: Random) -> World:
    """Two sites, two tenants; some share, some don't."""
    sites = (site("s", group(per_rack=3)), site("t", group(per_rack=2), price=2_000))
    world = World(fleet_of(*sites), contracts=[contract(), contract(OTHER)])
    if chance.random() < 0.3:
        world.tenants[ACME] = Tenant(ACME, (ProjectId("main"),), quota=Quota(limit=8))
    if chance.random() < 0.3:
        world.limits_w["s"] = chance.choice((8_000, 10_000, 12_000))
    return world


def add(world: World, chance: Random) -> None:
    """Queue a few."""
    for _ in range(chance.randint(0, 6)):
        tenant = chance.choice((ACME, ACME, OTHER))
        shape = {"gpus": chance.choice((1, 2, 3, 4)), "nodes": chance.choice((1, 1, 2))}
        priority = chance.choice((0, 0, 0, 1))
        if chance.random() < 0.75:
            share(
                world,
                chance.choice((0, 0, 1, 2, 5, 20)),
                tenant=tenant,
                priority=priority,
                cpu_milli=chance.choice((0, 1_000)),
                restart_ms=chance.choice((0, 30_000)),
                checkpoint_ms=chance.choice((1_000, 3_600_000)),
                at=chance.choice(("", "", "s")),
                **shape,
            )
        else:
            kind = chance.choice(("job", "filler", "service"))
            world.submit(kind, tenant=tenant, priority=priority, flex=chance.choice(tuple(Flex)), **shape)  # type: ignore[arg-type]


def assert_only_equals_go(world: World, found: Plan) -> None:
    """Whoever goes ranks lower than whom it goes for, or is its equal, shares, and has had its time."""
    for eviction in found.evictions:
        placement = world.placements[eviction.placement]
        victim = world.workloads[placement.workload]
        waiting = world.workloads[eviction.waiting]  # type: ignore[index]
        if are_equals(waiting, victim):
            assert may_go_for_equal(waiting, victim, placement, world.now_ms)
        elif victim.tenant != waiting.tenant or victim.spec.priority != waiting.spec.priority:
            assert not shares_time(victim.spec) or victim.spec.priority < waiting.spec.priority


@pytest.mark.parametrize("first", range(0, 120, 30))
def test_nothing_goes_round_in_circles_and_nothing_of_others_moves(first: int) -> None:
    """Round after round: plans of one moment come to rest, each breaks no rule, and a planner that remembers plans the same."""
    swapped = 0
    for seed in range(first, first + 30):
        chance = Random(seed)
        world = rich(chance)
        for step in range(8):
            add(world, chance)
            gone: set[str] = set()
            for again in range(12):
                snapshot = world.snapshot()
                found = plan(snapshot)
                told = f"seed {seed}, step {step}, plan {again}"
                assert check(snapshot, found) == [], told
                assert found == plan(replace(snapshot, memory=Memory())), told
                assert_only_equals_go(world, found)
                names = evicted(found)
                sharing = {name for name in names if shares_time(world.workloads[name].spec)}  # type: ignore[index]
                assert not sharing & gone, f"{told}: {sharing & gone} again"
                gone |= sharing
                swapped += len(sharing)
                carry_out(world, found)
                if not found.placements and not found.evictions:
                    break
            else:
                pytest.fail(f"seed {seed}, step {step}: plans of one moment never come to rest")
            world.now_ms += chance.choice((1_000, 61_000, 20 * MS_PER_MINUTE, 3 * H))
            for placement in list(world.placements.values()):
                if chance.random() < 0.15:
                    placement.stop_reason = None
                    world.end(placement)
    assert swapped > 10


@pytest.mark.parametrize("known", [True, False])
def test_what_is_kept_from_plan_to_plan_changes_no_plan(known: bool) -> None:
    """A planner with the same queue and history for ever plans as one that has just begun, from what a checkpoint has."""
    for seed in range(6):
        chance = Random(seed)
        cluster, now_ms = ReplayCluster(fleet([(hardware("x", 4), 3)])), BEGIN_MS
        for step in range(120):
            for number in range(chance.choice((0, 1, 1, 3))):
                asked = WorkloadSpec(
                    name="job",
                    type=WorkloadType.JOB,
                    project=PROJECT,
                    resources=Resources("x", chance.choice((1, 2, 4))),
                    commands=(),
                    nodes=chance.choice((1, 1, 2)),
                    flex=Flex.PREEMPTIBLE,
                    expected_ms=chance.choice((H, 5 * H)) if known else chance.choice((0, 0, 0, H)),
                    checkpoint_ms=chance.choice((1, H)),
                )
                cluster.submit(f"{step}.{number}", "replay", asked, now_ms)
            snapshot = cluster.snapshot(now_ms)
            again = History({kind: list(rows) for kind, rows in cluster.history.kinds.items()})
            for work in cluster.workloads.values():
                again.attain(work.id, work.attained_ms)
            found = plan(snapshot)
            assert found == plan(replace(snapshot, memory=None, waiting=None, history=again)), (
                f"{seed}, {step}"
            )
            cluster.adopt(found, now_ms)
            now_ms += chance.choice((1, MS_PER_MINUTE, 2 * H))
            for placement in list(cluster.placements.values()):
                if chance.random() < 0.1:
                    cluster.end(placement, now_ms)
            if cluster.queue and chance.random() < 0.1:
                cluster.withdraw(next(iter(cluster.queue.values())))
