"""Random small fleets and queues: what must hold of every plan, recomputed here from first principles."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Protocol, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core.contracts import Contract
from headrace.core.ids import ContractId, PlanId, TenantId
from headrace.core.scheduling.admit import admit, can_ever_fit
from headrace.core.scheduling.columns import ask_of, columns_of, scratch_of
from headrace.core.scheduling.explain import explain
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.scheduling.proposal import Plan, ProposedPlacement
from headrace.core.scheduling.rank import choose
from headrace.core.scheduling.refuse import Refusal
from headrace.core.workload import EndReason, Flex, RankPlace, State, Workload, WorkloadType
from tests.core.scheduling.small import ACME, World, contract, fleet_of, group, site

ROOT = Path(__file__).parents[3]
OTHER = TenantId("other")
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


T = TypeVar("T")


class Draw(Protocol):
    """What draws an example, inside a strategy or inside a test."""

    def __call__(self, strategy: st.SearchStrategy[T]) -> T: ...


@st.composite
def fleets(draw: st.DrawFn) -> World:
    sites = []
    for index in range(draw(st.integers(1, 2))):
        power_w = draw(st.sampled_from([2_500, 4_000, 15_000, 1_000_000]))
        sites.append(
            site(
                f"s{index}",
                *(group(f"g{number}", **_group(draw)) for number in range(draw(st.integers(1, 2)))),  # type: ignore[arg-type]
                country=draw(st.sampled_from(["NO", "GB"])),
                power_w=power_w,
                feed_w=draw(st.sampled_from([0, 2_200, 12_000])),
                price=draw(st.integers(0, 2)),
                dedicated_to=draw(st.sampled_from([None, None, None, OTHER])),
            )
        )
    world = World(fleet_of(*sites), contracts=[contract(), contract(OTHER)])
    if draw(st.booleans()):
        reserved = Contract(
            ContractId("r"), ACME, PlanId("p"), "reserved", accelerators=draw(st.integers(1, 8))
        )
        world.contracts.insert(0, reserved)
    return world


def _group(draw: st.DrawFn) -> dict[str, object]:
    return {
        "hardware": draw(st.sampled_from(["lab", "lab", "h100-8"])),
        "racks": draw(st.integers(1, 2)),
        "per_rack": draw(st.integers(1, 3)),
        "rack_w": draw(st.sampled_from([0, 0, 1_500, 2_500, 20_000])),
    }


def submit_some(draw: Draw, world: World, most: int, kinds: tuple[str, ...]) -> None:
    for _ in range(draw(st.integers(0, most))):
        model = draw(st.sampled_from(["lab", "lab", "H100", ""]))
        world.submit(
            draw(st.sampled_from(kinds)),
            nodes=draw(st.integers(1, 4)),
            gpus=0 if not model else draw(st.integers(1, 4)),
            model=model,
            cpu_milli=draw(st.sampled_from([0, 500, 2_000, 4_000])),
            memory_mb=draw(st.sampled_from([0, 0, 5_000])),
            tenant=draw(st.sampled_from([ACME, ACME, OTHER])),
            priority=draw(st.integers(-1, 1)),
            flex=draw(st.sampled_from([Flex.FIRM, Flex.PREEMPTIBLE])),
            max_duration_ms=draw(st.sampled_from([0, 600_000, 3_600_000])),
            countries=draw(st.sampled_from([(), (), ("NO",), ("SE",)])),
        )


ALL = ("job", "job", "service", "cluster", "filler", "filler")


@st.composite
def busy_worlds(draw: st.DrawFn, kinds: tuple[str, ...] = ALL) -> World:
    """A world that has already run for a while: work placed, some of it being stopped, more queued."""
    world = draw(fleets())
    for _ in range(draw(st.integers(0, 2))):
        submit_some(draw, world, 6, kinds)
        world.adopt(plan(world.snapshot()))
        for placement in list(world.placements.values()):
            fate = draw(st.sampled_from(["stay", "stay", "stop", "end"]))
            if fate == "stop" and placement.stop_reason is None:
                world.stop(placement)
            elif fate == "end":
                world.end(placement)
        world.now_ms += draw(st.sampled_from([1_000, 400_000]))
    for name in draw(st.lists(st.sampled_from(world.fleet.node_ids), max_size=2)):
        world.closed.add(name)
    if draw(st.booleans()):
        element = draw(st.sampled_from(world.fleet.power_ids))
        world.limits_w[element] = draw(st.sampled_from([500, 1_500, 3_000]))
    submit_some(draw, world, 8, kinds)
    return world


def judge(world: World, proposal: ProposedPlacement) -> None:
    """One placement by the letter of its spec."""
    workload = world.workloads[proposal.workload]
    spec, place = workload.spec, world.fleet.sites[world.fleet.site_index[proposal.site]]
    assert workload.state is State.QUEUED
    assert place.dedicated_to in (None, workload.tenant)
    assert not spec.policy.countries or place.country in spec.policy.countries
    assert len({rank.node for rank in proposal.ranks}) == len(proposal.ranks) == spec.nodes
    for rank in proposal.ranks:
        index = world.fleet.node_index[rank.node]  # type: ignore[index]
        hardware = world.fleet.hardware[world.fleet.node_hardware[index]]
        assert world.fleet.sites[world.fleet.node_site[index]] == place
        assert rank.node not in world.closed
        assert rank.mask < 1 << hardware.accelerators
        assert spec.resources.accelerator in ("", hardware.accelerator)
        if spec.type is WorkloadType.CLUSTER:
            assert (rank.accelerators, rank.cpu_milli) == (hardware.accelerators, hardware.cpu_milli)
            assert not any(rank.node == r.node for p in world.placements.values() for r in p.ranks)
        else:
            need = (spec.resources.accelerators, spec.resources.cpu_milli, spec.resources.memory_mb)
            assert (rank.accelerators, rank.cpu_milli, rank.memory_mb) == need


def judge_whole(world: World, before_w: list[int], touched: set[int]) -> None:
    """Sums over the world after a plan was carried out."""
    for element, (watts, limit) in enumerate(zip(world.power_w(), world.limit_w(), strict=True)):
        assert watts <= limit if element in touched else watts == before_w[element]
    for paid in world.contracts:
        if paid.kind == "reserved":
            assert world.held_milli().get(paid.id, 0) <= paid.accelerators * 1_000
    snapshot = world.snapshot()
    for index, kind in enumerate(world.fleet.node_hardware):
        hardware = world.fleet.hardware[kind]
        assert snapshot.node_cpu_milli[index] <= hardware.cpu_milli
        assert snapshot.node_memory_mb[index] <= hardware.memory_mb


@QUICK
@given(busy_worlds())
def test_every_placement_keeps_every_promise_and_the_writer_admits_it(world: World) -> None:
    """No accelerator twice, power and contracts kept at every element, gangs whole; ``admit`` agrees one by one."""
    got = plan(world.snapshot())
    before_w = world.power_w()
    touched: set[int] = set()
    for proposal in got.placements:
        judge(world, proposal)
        assert admit(world.snapshot(), proposal) is None
        world.place(proposal)
        for rank in proposal.ranks:
            touched.update(world.fleet.path(int(world.fleet.node_leaf[world.fleet.node_index[rank.node]])))  # type: ignore[index]
    judge_whole(world, before_w, touched)


def _shape(workload: Workload) -> tuple[object, ...]:
    spec = workload.spec
    return spec.type, spec.nodes, spec.resources, spec.policy, spec.site, spec.contract, workload.tenant


@QUICK
@given(busy_worlds())
def test_nothing_of_lower_rank_overtakes_its_equal(world: World) -> None:
    """Of workloads of one shape a beginning by rank is placed, never a later one alone."""
    snapshot = world.snapshot()
    chosen = {proposal.workload for proposal in plan(snapshot).placements}
    ranked = sorted(snapshot.queue, key=lambda one: (-one.spec.priority, one.submitted_seq))
    waiting: set[tuple[object, ...]] = set()
    for workload in ranked:
        if workload.id in chosen:
            assert _shape(workload) not in waiting
        else:
            waiting.add(_shape(workload))


@QUICK
@given(busy_worlds())
def test_what_is_left_waiting_before_anything_is_held_back_really_does_not_fit(world: World) -> None:
    """Without barriers, evictions or leavers nothing fits after the plan: every choice of nodes is tried."""
    for placement in list(world.placements.values()):
        if (
            placement.stop_reason is not None
            or world.workloads[placement.workload].spec.type is WorkloadType.FILLER
        ):
            world.end(placement)
    world.adopt(plan(world.snapshot(), PlanLimits(starve_after_ms=10**12)))
    snapshot = world.snapshot()
    for workload in snapshot.queue:
        if world.workloads[workload.id].spec.type is not WorkloadType.FILLER:
            assert not any(_by_hand(world, workload, index) for index in range(len(world.fleet.sites)))


def _by_hand(world: World, workload: Workload, index: int) -> bool:
    """Whether any choice of nodes of a site would be admitted."""
    snapshot, spec = world.snapshot(), workload.spec
    from_site = [i for i, at in enumerate(world.fleet.node_site) if at == index]
    for some in combinations(from_site, spec.nodes):
        ranks = []
        for node in some:
            hardware = world.fleet.hardware[world.fleet.node_hardware[node]]
            free = [
                bit for bit in range(hardware.accelerators) if not int(snapshot.node_mask[node]) >> bit & 1
            ]
            count, cpu, memory = ask_of(spec).on(hardware)
            ranks.append(
                RankPlace(world.fleet.node_ids[node], sum(1 << b for b in free[:count]), cpu, memory)
            )
        if admit(snapshot, ProposedPlacement(workload.id, world.fleet.sites[index].id, tuple(ranks))) is None:
            return True
    return False


@QUICK
@given(busy_worlds())
def test_evictions_are_lawful_and_none_is_asked_for_twice(world: World) -> None:
    """Only fillers and starved-out preemptible work, of no higher rank, that nobody is stopping yet."""
    got = plan(world.snapshot())
    assert len({eviction.placement for eviction in got.evictions}) == len(got.evictions)
    started = {proposal.workload for proposal in got.placements}
    for eviction in got.evictions:
        assert eviction.waiting is not None
        placement, waiting = world.placements[eviction.placement], world.workloads[eviction.waiting]
        victim = world.workloads[placement.workload]
        assert placement.stop_reason is None
        assert eviction.waiting not in started
        assert waiting.spec.type is not WorkloadType.FILLER
        if victim.spec.type is WorkloadType.FILLER:
            assert victim.spec.priority <= waiting.spec.priority
        else:
            assert victim.spec.flex is Flex.PREEMPTIBLE
            assert victim.spec.priority < waiting.spec.priority


@QUICK
@given(busy_worlds(kinds=("filler", "filler", "job")), st.data())
def test_the_fewest_fillers_are_evicted_for_one_job_and_then_it_starts(
    world: World, data: st.DataObject
) -> None:
    """Against every smaller choice of fillers; with those evicted gone, the next plan places the job."""
    for workload in list(world.workloads.values()):
        if workload.state is State.QUEUED:
            del world.workloads[workload.id]
    for placement in world.placements.values():
        if placement.stop_reason is not None:
            # For good: one that came back with a higher priority would go first.
            placement.stop_reason = EndReason.STOPPED
    job = world.submit(nodes=data.draw(st.integers(1, 3)), gpus=data.draw(st.integers(1, 4)))
    got = plan(world.snapshot())
    if not got.evictions:
        return
    fillers = [
        placement
        for placement in world.placements.values()
        if world.workloads[placement.workload].spec.type is WorkloadType.FILLER
    ]
    assert not any(
        _fits_without(world, job, gone)
        for size in range(len(got.evictions))
        for gone in combinations(fillers, size)
    )
    world.adopt(got)
    for placement in [placement for placement in world.placements.values() if placement.stop_reason]:
        world.end(placement)
    assert job.id in {proposal.workload for proposal in plan(world.snapshot()).placements}


def _fits_without(world: World, job: Workload, gone: tuple[object, ...]) -> bool:
    kept = dict(world.placements)
    for placement in list(world.placements.values()):
        if placement in gone or placement.stop_reason is not None:
            del world.placements[placement.id]
    snapshot = world.snapshot()
    world.placements = kept
    spec, columns = job.spec, columns_of(world.fleet)
    for index in range(len(world.fleet.sites)):
        paid = snapshot.contract_for(job.tenant, index, "lab", None)
        place = world.fleet.sites[index]
        if paid is None or place.dedicated_to not in (None, job.tenant):
            continue
        asked = (
            snapshot.contract_held_milli.get(paid.id, 0) // 1_000 + spec.nodes * spec.resources.accelerators
        )
        if paid.kind == "reserved" and asked > paid.accelerators:
            continue
        if choose(columns, scratch_of(snapshot, columns), ask_of(spec), index) is not None:
            return True
    return False


@settings(parent=QUICK, max_examples=40)
@given(fleets(), st.data())
def test_everything_that_can_ever_fit_runs_in_the_end(world: World, data: st.DataObject) -> None:
    """Arrivals, then rounds in which the oldest work ends: no job waits for ever, and evictions come to an end."""
    submit_some(data.draw, world, 12, ("job", "job", "job", "filler", "cluster"))
    for workload in list(world.workloads.values()):
        if _is_filler(workload):
            # One with a priority above the others would rightly stay for ever.
            workload.spec = replace(workload.spec, priority=-1)
        if can_ever_fit(world.snapshot(), workload.spec, workload.tenant) is not None:
            del world.workloads[workload.id]
    for _ in range(60):
        world.adopt(plan(world.snapshot()))
        for placement in [placement for placement in world.placements.values() if placement.stop_reason]:
            world.end(placement)
        running = [p for p in world.placements.values() if not _is_filler(world.workloads[p.workload])]
        if running:
            world.end(min(running, key=lambda placement: placement.made_seq))
        world.now_ms += 120_000
    left = [one for one in world.queue() if not _is_filler(one)]
    assert [(one.id, explain(world.snapshot(), one.id).line) for one in left] == []


def _is_filler(workload: Workload) -> bool:
    return workload.spec.type is WorkloadType.FILLER


@QUICK
@given(busy_worlds())
def test_explains_every_workload_in_one_line_that_agrees_with_the_plan(world: World) -> None:
    """No reason is given for what fits, one is for what does not; counts never exceed the estate."""
    snapshot = world.snapshot()
    columns = columns_of(world.fleet)
    for workload in world.workloads.values():
        told = explain(snapshot, workload.id)
        assert told.line
        assert "\n" not in told.line
        assert sum(told.removed.values()) <= len(world.fleet.node_ids)
        if workload.state is not State.QUEUED:
            continue
        if told.refusal in (None, Refusal.RANK):
            state = scratch_of(snapshot, columns)
            assert any(
                choose(columns, state, ask_of(workload.spec), i) is not None
                for i in range(len(columns.spans))
            )
        else:
            assert isinstance(told.refusal, Refusal)
            assert workload.id not in {one.workload for one in plan(snapshot).placements}


def digest(got: Plan) -> str:
    return hashlib.sha256(repr(got).encode()).hexdigest()


def a_plan() -> str:
    """A plan with something of everything, for two processes to agree on."""
    world = World(
        fleet_of(
            site("a", group(racks=3), price=2, feed_w=12_000),
            site("b", group(racks=2), group("h", "h100-8", 2, 2), price=2, country="GB"),
        ),
        contracts=[contract(), contract(OTHER)],
    )
    for number in range(60):
        kind = ("filler", "job", "filler", "service", "cluster")[number % 5]
        world.submit(kind, nodes=1 + number % 3, gpus=1 + number % 4, tenant=(ACME, OTHER)[number % 2])
    world.adopt(plan(world.snapshot()))
    world.now_ms += 3_600_000
    for number in range(20):
        world.submit(nodes=1 + number % 4, gpus=1 + number % 4, priority=number % 3)
    world.now_ms += 3_600_000
    return digest(plan(world.snapshot()))


def test_two_processes_with_different_hash_seeds_make_the_same_plan() -> None:
    """Nothing depends on the order of a set."""
    program = "from tests.core.scheduling.test_properties import a_plan; print(a_plan())"
    told = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        run = subprocess.run(
            [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, check=True
        )
        told.add(run.stdout)
    assert told == {f"{a_plan()}\n".encode()}
