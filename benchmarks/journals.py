"""Makes journals of a stated mix, through the production control loop, for the benchmarks that read them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from headrace.clock import WallClock
from headrace.control import SYSTEM, Caller, Control
from headrace.core import commands as c
from headrace.core.authority import Role, Subject
from headrace.core.codec import normalise
from headrace.core.contracts import Contract, PricePlan, Tenant
from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, Site
from headrace.core.ids import ContractId, Epoch, OperatorId, PlacementId, PlanId, ProjectId, SiteId, TenantId
from headrace.core.observation import PlacementReport, RankReport, RankState
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.workload import Resources, WorkloadSpec, WorkloadType
from headrace.journal.codec import decode
from headrace.journal.keys import Keys
from headrace.journal.sqlite import SqliteStore

TENANTS = tuple(TenantId(f"tenant-{number}") for number in range(8))
COUNTRIES = ("NO", "GB", "SE", "FI", "IS")


def estate(gpus: int, sites: int = 4) -> Estate:
    """An estate of ``gpus`` H100s (nodes of 8, racks of 4) over ``sites`` sites, with power for all of them."""
    racks = max(1, gpus // 32 // sites)
    return Estate(
        Operator(OperatorId("bench"), "Bench", "GB", "Europe/London", "GBP"),
        tuple(
            Site(
                id=SiteId(f"site-{number}"),
                country=COUNTRIES[number % len(COUNTRIES)],
                zone="Europe/London",
                connection=Connection(racks * 4 * 12_000),
                pue_permille=1_100,
                carbon_g_per_kwh=30,
                energy_price_micros_per_kwh=50_000,
                currency="GBP",
                engine="fake",
                blocks=(Block("b", (NodeGroup("g", "h100-8", racks, 4),), commissioned="2024-01-01"),),
            )
            for number in range(sites)
        ),
    )


def documents(gpus: int, sites: int = 4) -> c.ApplyDocuments:
    """The documents of a benchmark's world: estate, tenants, one price plan, a contract for each tenant."""
    out: list[tuple[str, str, object]] = [("estate", "bench", estate(gpus, sites))]
    out.append(
        (
            "price-plan",
            "std",
            PricePlan(PlanId("std"), "GBP", {"*": 2_000_000}, {}, {"input": 1, "output": 2}),
        )
    )
    for tenant in TENANTS:
        out.append(("tenant", tenant, Tenant(tenant, (ProjectId("main"),))))
        out.append(("contract", f"c-{tenant}", Contract(ContractId(f"c-{tenant}"), tenant, PlanId("std"))))
    return c.ApplyDocuments(
        tuple(c.NormalisedDocument(kind, name, normalise(kind, name, value)) for kind, name, value in out)  # type: ignore[arg-type]
    )


def spec(number: int) -> WorkloadSpec:
    """The ``number``-th workload: jobs of 1 to 4 nodes, every fifth one a service."""
    return WorkloadSpec(
        name=f"work-{number}",
        type=WorkloadType.SERVICE if number % 5 == 0 else WorkloadType.JOB,
        project=ProjectId("main"),
        resources=Resources("H100", 1 + number % 8, 8_000, 64_000),
        commands=("python train.py --config run.yaml",),
        nodes=1 if number % 5 == 0 else 1 + number % 4,
        env={"RUN": str(number % 100)},
        priority=number % 3,
    )


def member(tenant: TenantId) -> Caller:
    """A caller of a tenant."""
    return Caller(Subject("token", "bench", Role.TENANT_MEMBER, tenant), 2)


@contextmanager
def opened(gpus: int, sites: int = 4) -> Iterator[tuple[Control, Path]]:
    """A control loop over a fresh store, with documents applied; and its folder, which goes at the end."""
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        path = Path(folder)
        control = Control(SqliteStore(path / "journal.sqlite"), Keys.open(path / "keys"), WallClock())
        control.execute(SYSTEM, c.StartControl("bench", "bench"))
        control.execute(SYSTEM, documents(gpus, sites))
        control.commit()
        yield control, path
        control.store.close()


def submit(control: Control, start: int, count: int, batch: int = 1_000) -> None:
    """Submit ``count`` workloads in batches, in turns for each tenant."""
    for first in range(start, start + count, batch):
        tenant = TENANTS[(first // batch) % len(TENANTS)]
        specs: list[tuple[WorkloadSpec, dict[str, str]]] = [
            (spec(number), {}) for number in range(first, min(first + batch, start + count))
        ]
        control.submit(member(tenant), tenant, specs, f"key-{first}", "")
        control.commit()


def place(control: Control, at_most: int) -> list[PlacementId]:
    """Plan and adopt; the placements made."""
    proposed = plan(control.world.snapshot(control.now_ms()), PlanLimits(max_placements=at_most))
    reply = control.execute(SYSTEM, c.AdoptPlan(proposed))
    control.commit()
    return list(reply.made) if isinstance(reply, c.Adopted) else []


def report(
    control: Control, placements: list[PlacementId], state: RankState, running_ms: int, meter: bool
) -> None:
    """Let the engine say that the placements are in ``state`` after ``running_ms``."""
    reports = []
    code = 0 if state is RankState.EXITED else None
    for ident in placements:
        ranks = len(control.world.state.placements[ident].ranks)
        reports.append(
            PlacementReport(
                ident, Epoch(1), tuple(RankReport(r, state, running_ms, 0, code) for r in range(ranks))
            )
        )
    for first in range(0, len(reports), 1_000):
        part = reports[first : first + 1_000]
        control.execute(SYSTEM, c.Observe(part, isolation="none", meter_ms=0 if meter else None))
        control.commit()


def mixed(control: Control, workloads: int) -> Counter[str]:
    """Fill a journal with the whole life of ``workloads`` workloads; counts events by kind (at least eight)."""
    done = 0
    while done < workloads:
        size = min(4_000, workloads - done)
        submit(control, done, size)
        done += size
        while made := place(control, 4_000):
            report(control, made, RankState.RUNNING, 1_000, meter=False)
            report(control, made, RankState.RUNNING, 60_000, meter=True)
            _touch(control, made)
            live = [ident for ident in made if ident in control.world.state.placements]
            report(control, live, RankState.EXITED, 120_000, meter=False)
            for work in list(control.world.queue):
                # Services come back by themselves: they are stopped, so that the next ones get their nodes.
                if control.world.queue[work].attempt:
                    control.execute(SYSTEM, c.Stop(work))
            control.commit()
    return Counter(type(one.event).__name__ for group in control.store.groups() for one in decode(group))


def _touch(control: Control, made: list[PlacementId]) -> None:
    for ident in made[::5]:
        control.execute(SYSTEM, c.RecordTokens(ident, 0, 1_000, 200))
    for ident in made[1::5]:
        work = control.world.state.placements[ident].workload
        control.execute(SYSTEM, c.Pause(work, True))
        control.execute(SYSTEM, c.Pause(work, False))
    for ident in made[2::5]:
        control.execute(SYSTEM, c.Stop(control.world.state.placements[ident].workload))
    control.commit()
