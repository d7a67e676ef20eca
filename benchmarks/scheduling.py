"""The planner alone: whole plans of a large estate, one more workload, and how both grow. Worlds without a journal."""

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random

from benchmarks import journals, storage
from benchmarks.registry import Figure
from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.apply import apply
from headrace.core.codec import normalise
from headrace.core.contracts import Contract, PricePlan, Tenant
from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, Site
from headrace.core.hardware import CATALOGUE
from headrace.core.ids import (
    ContractId,
    OperatorId,
    PlacementId,
    PlanId,
    ProjectId,
    SiteId,
    TenantId,
    WorkloadId,
)
from headrace.core.scheduling.explain import explain
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.scheduling.proposal import Plan
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import EndReason, PolicyRef, Resources, WorkloadSpec, WorkloadType
from headrace.core.world import World

NOW_MS = 1_790_000_000_000
COUNTRIES = ("NO", "GB", "SE", "FI", "IS", "NO", "GB", "NO", "SE", "FI", "NO", "GB")
TENANTS = tuple(TenantId(f"tenant-{number}") for number in range(40))
ALL = PlanLimits(max_placements=1 << 40)


def site(number: int, gpus: int) -> Site:
    """Half of the sites have racks of 72 in one domain, the others nodes of eight; every sixth has power for 95 % of it."""
    hardware, per_rack = ("gb300-nvl72", 18) if number % 2 else ("h100-8" if number % 4 else "b300-8", 4)
    kind = CATALOGUE[hardware]
    racks = gpus // (per_rack * kind.accelerators * 8)
    nameplate_w = racks * 8 * per_rack * kind.nameplate_w
    group = NodeGroup("g", hardware, racks, per_rack)
    return Site(
        id=SiteId(f"site-{number}"),
        country=COUNTRIES[number % 12],
        zone="Europe/London",
        connection=Connection(nameplate_w * 1_100 * (95 if number % 6 == 5 else 100) // 100_000 + 1),
        pue_permille=1_100,
        carbon_g_per_kwh=30,
        energy_price_micros_per_kwh=50_000 + 1_000 * number,
        currency="GBP",
        engine="fake",
        blocks=tuple(Block(f"b{block}", (group,), commissioned="2024-01-01") for block in range(8)),
    )


def spec(chance: Random, number: int) -> WorkloadSpec:
    """A job: mostly of one node, some gangs of whole nodes, a few of hundreds of accelerators."""
    model = chance.choice(("H100", "B300", "GB300", "GB300"))
    most = 4 if model == "GB300" else 8
    size = chance.random()
    if size < 0.97:
        accelerators, nodes = chance.choice((1, 1, 1, 1, 1, 2, most // 2, most)), 1
    elif size < 0.9985:
        accelerators, nodes = most, chance.choice((2, 2, 3, 4, 8))
    else:
        accelerators, nodes = most, chance.choice((16, 32, 64))
    anywhere = chance.random() < 0.6
    countries = (
        ()
        if anywhere
        else chance.choice((("NO",), ("GB",), ("FI", "NO", "SE"), ("FI", "GB", "IS", "NO", "SE")))
    )
    return WorkloadSpec(
        name=f"w-{number}",
        type=WorkloadType.JOB,
        project=ProjectId("main"),
        resources=Resources(model, accelerators, 4_000 * accelerators, 32_000 * accelerators),
        commands=("python train.py",),
        nodes=nodes,
        priority=chance.choice((0, 0, 0, 1, 2)),
        policy=PolicyRef(countries=countries),
    )


@dataclass
class Estates:
    """A world with documents, and the events that change it."""

    world: World
    chance: Random
    number: int = 0

    def commit(self, event: ev.Event, at_ms: int = NOW_MS) -> None:
        """Apply one event."""
        apply(self.world, ev.Committed(self.world.state.version, at_ms, event))

    def submit(self, count: int, waited_ms: int = 0) -> list[WorkloadId]:
        """Let workloads of all tenants wait, for up to ``waited_ms`` by now."""
        made = []
        for _ in range(count):
            tenant = self.chance.choice(TENANTS)
            ident = WorkloadId(f"{tenant}-{self.number}")
            self.commit(ev.WorkloadSubmitted(ident, tenant, spec(self.chance, self.number), "", ""))
            work = self.world.state.workloads[ident]
            work.submitted_ms = work.since_ms = NOW_MS - self.chance.randint(0, waited_ms)
            self.number += 1
            made.append(ident)
        return made

    def adopt(self, proposed: Plan) -> list[PlacementId]:
        """Make what was proposed."""
        made = []
        for one in proposed.placements:
            work = self.world.state.workloads[one.workload]
            ident = PlacementId(f"{one.workload}.{work.attempt + 1}")
            self.commit(ev.PlacementMade(ident, one.workload, work.tenant, one.site, one.ranks, "", 0))
            made.append(ident)
        return made

    def end(self, placement: PlacementId) -> None:
        """A job ends well."""
        ranks = len(self.world.state.placements[placement].ranks)
        self.commit(ev.PlacementEnded(placement, EndReason.EXITED, (0,) * ranks, ((0, 0),) * ranks))


def make(gpus: int, queued: int, seed: int = 1, sites: int = 12) -> Estates:
    """An estate of ``gpus`` over ``sites`` sites in five countries, and ``queued`` workloads that wait up to an hour."""
    estate = Estate(
        Operator(OperatorId("bench"), "Bench", "GB", "Europe/London", "GBP"),
        tuple(site(number, gpus // sites) for number in range(sites)),
    )
    made = Estates(World(), Random(seed))
    documents: list[tuple[str, str, object]] = [("estate", "bench", estate)]
    documents.append(("price-plan", "std", PricePlan(PlanId("std"), "GBP", {"*": 2_000_000}, {}, {})))
    for tenant in TENANTS:
        documents.append(("tenant", tenant, Tenant(tenant, (ProjectId("main"),))))
        documents.append(
            ("contract", f"c-{tenant}", Contract(ContractId(f"c-{tenant}"), tenant, PlanId("std")))
        )
    for kind, name, value in documents:
        made.commit(ev.DocumentApplied(kind, name, normalise(kind, name, value), ""))  # type: ignore[arg-type]
    made.submit(queued, MS_PER_HOUR)
    return made


@contextmanager
def as_in_the_planner() -> Iterator[None]:
    """Without looking for cycles meanwhile, as the planner's process does it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def whole_plan(made: Estates) -> tuple[float, Plan]:
    """Seconds of one plan by a planner that remembers nothing, and the plan."""
    made.world.memory.clear()
    with as_in_the_planner():
        start = time.perf_counter()
        found = plan(made.world.snapshot(NOW_MS), ALL)
        return time.perf_counter() - start, found


def full(quick: bool) -> Figure:
    """Seconds (median) of a plan from empty: 300,000 accelerators, 100,000 workloads waiting."""
    made = make(75_000, 25_000) if quick else make(300_000, 100_000)
    runs = [whole_plan(made) for _ in range(5 if quick else 9)]
    placed = runs[0][1].placements
    ranks = [rank for one in placed for rank in one.ranks]
    notes: dict[str, object] = {
        "nodes": len(made.world.fleet.node_ids),
        "queued": len(made.world.queue),
        "lines": len(made.world.queue.lines),
        "placements": len(placed),
        "ranks": len(ranks),
        "accelerators": sum(rank.accelerators for rank in ranks),
        "worst": round(max(seconds for seconds, _ in runs), 3),
        "runs": len(runs),
    }
    return Figure(statistics.median(seconds for seconds, _ in runs), notes)


def one(quick: bool) -> Figure:
    """Milliseconds (99th percentile) of a plan for one more workload on a full, running estate, where jobs end all the time."""
    made = make(75_000, 40_000) if quick else make(300_000, 160_000)
    running = made.adopt(whole_plan(made)[1])
    for ident in list(made.world.queue):
        made.commit(ev.StopRequested(ident, ""))
    took, placed = [], 0
    with as_in_the_planner():
        for _ in range(300 if quick else 1_000):
            for _ in range(2):
                made.end(running.pop(made.chance.randrange(len(running))))
            (ident,) = made.submit(1)
            start = time.perf_counter()
            found = plan(made.world.snapshot(NOW_MS))
            took.append(1_000 * (time.perf_counter() - start))
            running += made.adopt(found)
            placed += bool(found.placements)
            if ident in made.world.queue:
                made.commit(ev.StopRequested(ident, ""))
    notes: dict[str, object] = {
        "median": round(statistics.median(took), 3),
        "nodes": len(made.world.fleet.node_ids),
        "running": len(running),
        "placed": placed,
        "runs": len(took),
    }
    return Figure(statistics.quantiles(took, n=100)[98], notes)


def _best(made: Estates, runs: int) -> tuple[float, int]:
    found = [whole_plan(made) for _ in range(runs)]
    return min(seconds for seconds, _ in found), len(found[0][1].placements)


def fleet_growth(quick: bool) -> Figure:
    """How many times as much a placement costs on four times the fleet."""
    gpus, queued = (30_000, 5_000) if quick else (75_000, 12_000)
    small, large = make(gpus, queued), make(4 * gpus, queued)
    times = [_best(made, 7) for made in (small, large)]
    each = [seconds / placements for seconds, placements in times]
    notes: dict[str, object] = {
        "microseconds_each": [round(1e6 * one, 2) for one in each],
        "gpus": [gpus, 4 * gpus],
    }
    return Figure(each[1] / each[0], notes)


def queue_growth(quick: bool) -> Figure:
    """How many times as long a plan takes for ten times the queue."""
    gpus, queued = (60_000, 4_000) if quick else (300_000, 10_000)
    times = [_best(make(gpus, count), 7) for count in (queued, 10 * queued)]
    notes: dict[str, object] = {
        "seconds": [round(seconds, 4) for seconds, _ in times],
        "placements": [placements for _, placements in times],
        "queued": [queued, 10 * queued],
    }
    return Figure(times[1][0] / times[0][0], notes)


def run_all(made: Estates, running: list[PlacementId]) -> None:
    """Let placements run: most with a limit or an expected duration, some with neither."""
    for ident in running:
        work = made.world.state.workloads[made.world.state.placements[ident].workload]
        sort, lasts_ms = made.chance.random(), made.chance.randint(1, 72) * MS_PER_HOUR
        if sort < 0.6:
            work.spec = replace(work.spec, max_duration_ms=lasts_ms)
        elif sort < 0.8:
            work.spec = replace(work.spec, expected_ms=lasts_ms)
        made.commit(ev.PlacementStarted(ident))


def explaining(quick: bool) -> Figure:
    """Milliseconds (99th percentile) to say in full why one of 100,000 waits: fifty of different classes, on a full estate."""
    made = make(75_000, 50_000) if quick else make(300_000, 205_000)
    running = made.adopt(whole_plan(made)[1])
    run_all(made, running)
    lines = [next(iter(members.values())) for members in made.world.queue.lines.values()]
    picked = lines[:: max(1, len(lines) // 50)][:50]
    took, reasons = [], dict[str, int]()
    with as_in_the_planner():
        for number, work in enumerate([picked[0], *picked]):
            # Between two questions something ends everywhere, so that what was found before has to be caught up.
            for _ in range(4 if number else 0):
                made.end(running.pop(made.chance.randrange(len(running))))
            start = time.perf_counter()
            found = explain(made.world.snapshot(NOW_MS), work.id)
            took.append(1000 * (time.perf_counter() - start))
            reason = found.refusal.name if found.refusal is not None else "NEXT"
            reasons[reason] = reasons.get(reason, 0) + 1
    notes: dict[str, object] = {
        "median": round(statistics.median(took[1:]), 1),
        "first_of_all": round(took[0], 1),
        "reasons": reasons,
        "queued": len(made.world.queue),
        "running": len(running),
        "runs": len(picked),
    }
    return Figure(statistics.quantiles(took[1:], n=100, method="inclusive")[98], notes)


def rate(quick: bool) -> Figure:
    """Placements planned per second on a running estate where thousands of jobs end and come; and those committed beside it."""
    made = make(75_000, 25_000) if quick else make(300_000, 100_000)
    running = made.adopt(whole_plan(made)[1])
    for ident in list(made.world.queue):
        made.commit(ev.StopRequested(ident, ""))
    count = 5_000 if quick else 20_000
    with as_in_the_planner():
        plan(made.world.snapshot(NOW_MS), ALL)
        rates = [_steady(made, running, count) for _ in range(9)]
    notes: dict[str, object] = {
        "worst": round(min(rates)),
        "running": len(running),
        "ending_and_coming": count,
        "committed_per_s": round(_committed_per_s(quick)),
        "runs": len(rates),
    }
    return Figure(statistics.median(rates), notes)


def _steady(made: Estates, running: list[PlacementId], count: int) -> float:
    """``count`` jobs end and as many come: placements planned per second."""
    for _ in range(count):
        made.end(running.pop(made.chance.randrange(len(running))))
    waiting = made.submit(count)
    start = time.perf_counter()
    found = plan(made.world.snapshot(NOW_MS), ALL)
    per_s = len(found.placements) / (time.perf_counter() - start)
    running += made.adopt(found)
    for ident in waiting:
        if ident in made.world.queue:
            made.commit(ev.StopRequested(ident, ""))
    return per_s


def _committed_per_s(quick: bool) -> float:
    """Placements that the writer checks, decides, applies and commits per second."""
    count = 2_000 if quick else 8_000
    with journals.opened(gpus=count * 16) as (control, _):
        journals.submit(control, 0, count)
        proposed = plan(control.world.snapshot(control.now_ms()), ALL)
        start = time.perf_counter()
        control.execute(SYSTEM, c.AdoptPlan(proposed))
        control.commit()
        return len(proposed.placements) / (time.perf_counter() - start)


def memory(quick: bool) -> Figure:
    """Resident MiB of the planner's process, with its own world, at its peak."""
    found = storage.memory(quick)
    return Figure(float(str(found.notes["planner_mib"])), found.notes)
