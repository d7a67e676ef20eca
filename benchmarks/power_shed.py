"""An instruction for a site of 100,000 accelerators, among 300,000: from its arrival to the complete list of orders."""

import statistics
import time
from random import Random

from benchmarks.registry import Figure
from benchmarks.scheduling import NOW_MS, TENANTS, Estates, as_in_the_planner, site, whole_plan
from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.authority import Role, Subject
from headrace.core.codec import normalise
from headrace.core.contracts import Contract, PricePlan, Tenant
from headrace.core.decide import decide
from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, Site
from headrace.core.ids import ContractId, OperatorId, PlanId, ProjectId, SiteId, TenantId, WorkloadId
from headrace.core.observation import Capabilities
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.power.ladder import ladder_of
from headrace.core.units import facility_watts
from headrace.core.workload import Flex, Resources, WorkloadSpec, WorkloadType
from headrace.core.world import World

SYSTEM = Subject("system", "control", Role.SYSTEM)
LARGE = SiteId("large")
MIX = (
    # Flex, type, and how many of a hundred workloads are of it.
    (Flex.FIRM, WorkloadType.JOB, 40),
    (Flex.PAUSABLE, WorkloadType.JOB, 30),
    (Flex.PREEMPTIBLE, WorkloadType.JOB, 20),
    (Flex.PREEMPTIBLE, WorkloadType.FILLER, 10),
)


def _estate(gpus: int) -> Estate:
    """One site with ``gpus`` accelerators of 290 MW for 100,000, and eleven that have twice as many together."""
    blocks = 20
    group = NodeGroup("g", "b300-8", gpus // (blocks * 32), 4)
    large = Site(
        id=LARGE,
        country="NO",
        zone="Europe/Oslo",
        connection=Connection(290_000_000 * gpus // 100_000),
        pue_permille=1_100,
        carbon_g_per_kwh=30,
        energy_price_micros_per_kwh=50_000,
        currency="GBP",
        engine="fake",
        blocks=tuple(Block(f"b{block}", (group,), commissioned="2024-01-01") for block in range(blocks)),
    )
    others = tuple(site(number, 2 * gpus // 11) for number in range(11))
    return Estate(Operator(OperatorId("bench"), "Bench", "GB", "Europe/London", "GBP"), (large, *others))


def _spec(chance: Random, number: int) -> WorkloadSpec:
    flex, kind, _ = chance.choices(MIX, [one[2] for one in MIX])[0]
    accelerators, nodes = chance.choice(((1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 8)))
    return WorkloadSpec(
        name=f"w-{number}",
        type=kind,
        project=ProjectId("main"),
        resources=Resources("B300", accelerators, 4_000 * accelerators, 32_000 * accelerators),
        commands=("python train.py",),
        nodes=nodes,
        flex=flex,
        site=LARGE,
        checkpoint_ms=600_000 if number % 2 else 0,
    )


def _made(gpus: int) -> Estates:
    """The estate with its large site full."""
    made = Estates(World(), Random(1))
    documents: list[tuple[str, str, object]] = [("estate", "bench", _estate(gpus))]
    documents.append(("price-plan", "std", PricePlan(PlanId("std"), "GBP", {"*": 2_000_000}, {}, {})))
    for tenant in TENANTS:
        documents.append(("tenant", tenant, Tenant(tenant, (ProjectId("main"),))))
        contract = Contract(ContractId(f"c-{tenant}"), tenant, PlanId("std"))
        documents.append(("contract", f"c-{tenant}", contract))
    for kind, name, value in documents:
        made.commit(ev.DocumentApplied(kind, name, normalise(kind, name, value), ""))  # type: ignore[arg-type]
    able = Capabilities("uid", pause=True, ports=True, pause_sheds=True)
    made.commit(ev.EngineDeclared("fake", able))
    for number in range(gpus // 4):
        tenant = TenantId(TENANTS[number % len(TENANTS)])
        ident = WorkloadId(f"{tenant}-{number}")
        made.commit(ev.WorkloadSubmitted(ident, tenant, _spec(made.chance, number), "", ""))
    for placement in made.adopt(whole_plan(made)[1]):
        made.commit(ev.PlacementStarted(placement))
    return made


def _decided(made: Estates, command: c.Command) -> int:
    """Decide a command and apply what follows, as the control loop does; how many events that were."""
    count = 0
    for event in decide(made.world, SYSTEM, command, NOW_MS):
        made.commit(event)
        count += 1
    return count


def shed(quick: bool) -> Figure:
    """Seconds (median) from an instruction for a quarter less to the last order that it takes."""
    gpus = 25_000 if quick else 100_000
    took, orders = [], 0
    made = _made(gpus)
    before = ladder_of(made.world, LARGE)
    meter_w = facility_watts(before.draws_w, 1_100) * 3 // 4
    for number in range(3):
        if number:
            made = _made(gpus)
        instruction = Instruction(InstructionId("quarter"), LARGE, meter_w, NOW_MS)
        with as_in_the_planner():
            start = time.perf_counter()
            _decided(made, c.Instruct(instruction))
            orders = _decided(made, c.FollowGrid())
            took.append(time.perf_counter() - start)
    world = made.world
    going_w = sum(
        one.saves_w
        for one in ladder_of(world, LARGE).candidates
        if one.placement.stop_reason is not None or one.placement.curtailed
    )
    notes: dict[str, object] = {
        "accelerators": 3 * gpus,
        "at_the_site": gpus,
        "running": len(before.candidates),
        "orders": orders,
        "draws_mw": round(before.draws_w * 1.1e-6, 1),
        "target_mw": round(meter_w * 1e-6, 1),
        "ordered_mw": round(going_w * 1.1e-6, 1),
        "worst": round(max(took), 3),
    }
    return Figure(
        statistics.median(took), notes, clean=going_w * 11 >= 10 * (before.draws_w * 11 // 10 - meter_w)
    )
