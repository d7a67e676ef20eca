"""A live control plane's orders reach real controllers through sockets, and what these say and meters see comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headrace.actuate import Actuator, DeviceStates, Pace
from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.codec import normalise
from headrace.core.contracts import Contract, PricePlan, Tenant
from headrace.core.ids import ContractId, NodeId, PlanId, PowerNodeId, ProjectId, SiteId, TenantId, WorkloadId
from headrace.core.observation import RankState
from headrace.core.power.caps import Cap
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.power.pue import meter_watts
from headrace.core.scheduling.plan import plan
from headrace.core.workload import Flex, Resources, WorkloadSpec, WorkloadType
from headrace.devices.declared import SiteDevices, load_devices
from headrace.engines.fake import FakeEngine
from headrace.journal.keys import Keys
from headrace.journal.sqlite import SqliteStore
from headrace.plant.physics import Power
from headrace.plant.run import Plant
from headrace.plant.site import read_estate
from headrace.reconcile import Reconciler
from headrace.service import Service
from tests.plant.small import control as ask_plant
from tests.plant.small import estate_file, plant_here, until

FJORD = SiteId("fjord")
TENANT = TenantId("acme")
NODES = 6
WHOLE_W, IDLE_W, LOWEST_W = 1_000, 200, 600
SPEED = 5
"""So many times as fast as the world: deadlines of the ladder are waited for."""
QUICK = Pace(
    round_s=0.05,
    deadline_s=1.0,
    again_s=0.1,
    again_most_s=0.2,
    read_back_s=0.3,
    silent_s=1.0,
    first_s=2.0,
    meters_s=0.1,
)
PATIENT = replace(QUICK, silent_s=60.0)


@dataclass
class Live:
    """A control plane with a fake engine beside a plant; what runs draws in the plant."""

    plant: Plant
    engine: FakeEngine
    folder: Path
    pace: Pace = QUICK
    sites: list[SiteDevices] | None = None
    control: Control = field(init=False)
    service: Service = field(init=False)
    reconciler: Reconciler = field(init=False)
    actuator: Actuator = field(init=False)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """As at the start of its process."""
        store = SqliteStore(self.folder / "journal.sqlite")
        self.control = Control(store, Keys.open(self.folder / "keys"), self.plant.clock)
        self.control.execute(SYSTEM, c.StartControl("live", "test"))
        self.reconciler = Reconciler(self.control, {"local": self.engine})
        self.reconciler.declare()
        self.control.commit()
        self.reconciler.fence()
        self.service = Service(self.control, self.reconciler)
        sites = load_devices(self.plant.directory / "devices.yaml") if self.sites is None else self.sites
        self.actuator = Actuator(sites, self.service, self.pace)
        self.tasks = [asyncio.create_task(self.actuator.run()), asyncio.create_task(self._tick())]

    async def kill(self) -> None:
        """It ends in the middle of whatever it does, and devices hear no more of it."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self.service.close()
        self.control.store.close()

    async def _tick(self) -> None:
        while True:
            self.reconciler.observe()
            if self.world.queue:
                snapshot = self.world.snapshot(self.control.now_ms())
                self.control.execute(SYSTEM, c.AdoptPlan(plan(snapshot)))
            await self.service.settled()
            self.reconciler.act()
            self._draw()
            await asyncio.sleep(0.02)

    def _draw(self) -> None:
        """Nodes on which something runs want all, and others nothing."""
        physics = self.plant.physics
        busy = {
            rank.node
            for held in self.engine._placements.values()
            for rank in held.ranks
            if rank.state is RankState.RUNNING
        }
        for number, name in enumerate(self.plant.fleet.node_ids):
            physics.demand_w[number] = physics.nameplate_w[number] if name in busy else physics.idle_w[number]

    @property
    def world(self) -> Any:
        return self.control.world

    @property
    def caps(self) -> dict[NodeId, Cap]:
        found: dict[NodeId, Cap] = self.world.state.caps
        return found

    @property
    def counted_w(self) -> int:
        """What is counted at the site, IT load."""
        return int(self.world.power_w[self.world.fleet.power_index[PowerNodeId(FJORD)]])

    @property
    def true_w(self) -> float:
        """What the plant's nodes really draw."""
        return float(self.plant.physics.drawn_w.sum())

    def states(self) -> DeviceStates:
        return self.actuator.states()

    def told(self, promise: int = 1) -> list[str]:
        """Alarms, in words."""
        return [
            f"{one.subject}: {one.detail}" for _, one in self.world.state.alarms if one.promise == promise
        ]

    async def runs(self, *names: str) -> None:
        """Submit workloads by what their names begin with, and wait until they run."""
        specs = [spec(name) for name in names]
        self.control.execute(SYSTEM, c.Submit(TENANT, specs, "-".join(names)))

        async def all_run() -> bool:
            work = self.world.state.workloads.values()
            return [one.state for one in work if one.spec.name in names] == ["running"] * len(names)

        await until(all_run)

    def instruct(self, it_w: int, name: str = "evening") -> None:
        """The grid allows so much of IT load from now on."""
        watts = meter_watts(self.world.site(FJORD), it_w)
        one = Instruction(InstructionId(name), FJORD, watts, self.control.now_ms())
        self.control.execute(SYSTEM, c.Instruct(one, binding=True))

    def withdraw(self, name: str = "evening") -> None:
        self.control.execute(SYSTEM, c.Withdraw(InstructionId(name)))

    async def becomes(self, what: Callable[[], object], patience_s: float = 30.0) -> None:
        """Wait until something is so."""

        async def holds() -> bool:
            return bool(what())

        await until(holds, 0.02, patience_s)


def spec(name: str) -> WorkloadSpec:
    """A whole node of work; ``cap-``, ``save-``, ``spot-`` or ``firm-`` says what may be done to it."""
    flex = {"cap": Flex.CAPPABLE, "save": Flex.PAUSABLE, "spot": Flex.PREEMPTIBLE}.get(
        name.partition("-")[0], Flex.FIRM
    )
    return WorkloadSpec(
        name=name,
        type=WorkloadType.JOB,
        project=ProjectId("main"),
        resources=Resources("lab", 4, 1_000, 1_000),
        commands=("sleep 100000",),
        flex=flex,
        checkpoint_ms=60_000 if flex is Flex.PAUSABLE else 0,
    )


@asynccontextmanager
async def live(folder: Path, pace: Pace = QUICK, speed: int = SPEED, **options: Any) -> AsyncIterator[Live]:
    """A plant at rest, its estate applied, and a control plane that has found its devices."""
    async with plant_here(folder, load_permille=0, speed=speed, **options) as plant:
        one = Live(plant, FakeEngine(plant.clock, heartbeat_ms=600_000), folder, pace)
        await one.start()
        try:
            estate = read_estate(estate_file(folder))
            documents: list[tuple[str, str, Any]] = [
                ("estate", "op", estate),
                ("tenant", TENANT, Tenant(TENANT, (ProjectId("main"),))),
                ("price-plan", "std", PricePlan(PlanId("std"), "NOK", {"*": 1}, {}, {})),
                ("contract", "c", Contract(ContractId("c"), TENANT, PlanId("std"))),
            ]
            made = [
                c.NormalisedDocument(kind, name, normalise(kind, name, value))
                for kind, name, value in documents
            ]
            one.control.execute(SYSTEM, c.ApplyDocuments(tuple(made)))
            await one.becomes(lambda: len(one.world.state.limiters) == NODES)
            yield one
        finally:
            await one.kill()


def test_an_order_reaches_the_controllers_and_counts_when_they_say_so(tmp_path: Path) -> None:
    """Order, device, read back, credit; and back: the limit is dropped at the device, and the node is free again."""

    async def main() -> None:
        async with live(tmp_path) as one:
            await one.runs("cap-a", "cap-b", "firm")
            before_w = one.counted_w
            one.instruct(before_w - 500)
            await one.becomes(lambda: len(one.caps) == 2 and all(cap.is_done for cap in one.caps.values()))
            assert one.counted_w <= before_w - 500
            numbers = [one.world.fleet.node_index[node] for node in one.caps]
            wanted = [cap.wanted_w for cap in one.caps.values()]
            assert [int(watts) for watts in one.plant.physics.next_cap_w[numbers]] == wanted
            await one.becomes(lambda: one.true_w <= before_w - 500)
            shown = [row for row in one.states().servers if row.wanted_w is not None]
            assert [(row.wanted_w, row.enforced_w, row.trouble) for row in shown] == [
                (w, w, "") for w in wanted
            ]
            one.withdraw()
            await one.becomes(lambda: not one.caps)
            assert one.counted_w == before_w
            await one.becomes(lambda: one.true_w > before_w - 100)
            assert not any(row.wanted_w is not None for row in one.states().servers)

    asyncio.run(main())


def test_a_silent_controller_is_followed_by_the_next_rung(tmp_path: Path) -> None:
    """It delays no other, counts in full, and is not asked for again until it answers."""

    async def main() -> None:
        async with live(tmp_path) as one:
            await one.runs("cap-a", "save-a")
            (node,) = {rank.node for rank in _ranks(one, "cap-a")}
            await ask_plant(one.plant, "/fail", {"kind": "node", "names": [node], "as": "silent"})
            before_w = one.counted_w
            one.instruct(before_w - 300)
            await one.becomes(lambda: one.caps)
            await one.becomes(lambda: one.counted_w <= before_w - 300)
            assert {one.world.state.placements[ident].workload for ident in one.world.curtailed} == {
                _ident(one, "save-a")
            }
            assert one.caps[NodeId(node)].enforced_w == 0
            assert "no answer" in next(row for row in one.states().servers if row.node == node).trouble
            await one.becomes(lambda: NodeId(node) not in one.world.state.limiters)
            await ask_plant(one.plant, "/fail", {"kind": "node", "names": [node], "as": "none"})
            await one.becomes(lambda: NodeId(node) in one.world.state.limiters)
            # The other one gives enough: the order was taken back, and the controller has to say so.
            await one.becomes(lambda: NodeId(node) not in one.caps)

    asyncio.run(main())


def _ident(one: Live, name: str) -> WorkloadId:
    found: WorkloadId = next(work.id for work in one.world.state.workloads.values() if work.spec.name == name)
    return found


def _ranks(one: Live, name: str) -> Any:
    ident = one.world.state.workloads[_ident(one, name)].placement
    return one.world.state.placements[ident].ranks


def test_a_controller_that_confirms_and_does_nothing_is_found_by_a_meter(tmp_path: Path) -> None:
    """What the meter sees beyond what is credited counts, and the ladder goes on for it."""

    async def main() -> None:
        async with live(tmp_path) as one:
            await one.runs("cap-a", "save-a", "firm-a", "firm-b")
            # The history of what was counted reaches back far enough for a meter to be compared with it.
            began_ms = one.control.now_ms()
            await one.becomes(lambda: one.control.now_ms() > began_ms + 12_000)
            assert one.world.state.excess == {}
            (node,) = {rank.node for rank in _ranks(one, "cap-a")}
            await ask_plant(one.plant, "/fail", {"kind": "node", "names": [node], "as": "ignores"})
            before_w = one.counted_w
            one.instruct(before_w - 350)
            await one.becomes(lambda: one.caps and one.caps[NodeId(node)].is_done)
            await one.becomes(lambda: one.world.state.excess)
            (element,) = one.world.state.excess
            assert element in (PowerNodeId("fjord/b1"), PowerNodeId("fjord/b2"))
            assert 250 <= one.world.state.excess[element] <= 450
            await one.becomes(lambda: one.world.curtailed)
            await one.becomes(lambda: one.true_w <= before_w - 350)
            shown = {row.element: row for row in one.states().meters}
            assert shown[element].excess_w == one.world.state.excess[element]

    asyncio.run(main())


def test_after_a_restart_in_mid_shed_orders_are_asked_again_and_caps_count_on(tmp_path: Path) -> None:
    """Killed with half of its orders out: caps stay in the devices; the next control plane ends it."""

    async def main() -> None:
        async with live(tmp_path, PATIENT) as one:
            await one.runs("cap-a", "cap-b")
            (silent,) = {rank.node for rank in _ranks(one, "cap-b")}
            await ask_plant(one.plant, "/fail", {"kind": "node", "names": [silent], "as": "silent"})
            before_w = one.counted_w
            one.instruct(before_w - 600)
            await one.becomes(lambda: sum(cap.is_done for cap in one.caps.values()) == 1)
            (done,) = (node for node, cap in one.caps.items() if cap.is_done)
            await one.kill()
            held = one.plant.physics.cap_w[one.plant.fleet.node_index[done]]
            assert held < WHOLE_W, "the cap stays"
            await ask_plant(one.plant, "/fail", {"kind": "node", "names": [silent], "as": "none"})
            await one.start()
            assert one.caps[done].is_done, "and what was known of it too"
            await one.becomes(lambda: all(cap.is_done for cap in one.caps.values()) and len(one.caps) == 2)
            assert one.counted_w <= before_w - 600
            await one.becomes(lambda: one.true_w <= before_w - 600)

    asyncio.run(main())


def test_a_control_plane_without_devices_takes_back_what_another_declared(tmp_path: Path) -> None:
    """Nobody looks at what those controllers do: their nodes count in full, none is capped again, and none stays closed."""

    async def main() -> None:
        async with live(tmp_path) as one:
            await one.runs("cap-a")
            before_w = one.counted_w
            one.instruct(before_w - 300)
            await one.becomes(lambda: one.caps and all(cap.is_done for cap in one.caps.values()))
            await one.kill()
            one.sites = []
            await one.start()
            await one.becomes(lambda: one.counted_w == before_w)
            assert one.world.state.limiters == {}
            one.withdraw()
            await one.becomes(lambda: not one.caps)
            assert one.plant.physics.cap_w.min() < WHOLE_W, "what the device holds is the device's"

    asyncio.run(main())


def test_a_meter_that_freezes_is_alarmed_once_and_adds_nothing(tmp_path: Path) -> None:
    """It counts at nameplate, which is what is counted anyway; when it is believed again it says so."""

    async def main() -> None:
        async with live(tmp_path) as one:
            name = "fjord/feed-a/meter"
            await one.becomes(lambda: all(row.doubt == "none" for row in one.states().meters))
            await ask_plant(one.plant, "/fail", {"kind": "meter", "names": [name], "as": "frozen"})
            await one.becomes(lambda: any(name in line for line in one.told()))
            row = next(row for row in one.states().meters if row.name == name)
            # Its clock stands still, and so falls behind.
            assert row.doubt in {"frozen", "clock"}
            assert row.reading.source == "stale"
            for _ in range(20):
                await asyncio.sleep(0.05)
            assert sum(name in line for line in one.told()) == 1
            assert one.world.state.excess == {}
            await ask_plant(one.plant, "/fail", {"kind": "meter", "names": [name], "as": "none"})
            await one.becomes(lambda: all(row.doubt == "none" for row in one.states().meters))

    asyncio.run(main())


def test_names_that_the_estate_does_not_have_are_named_with_what_is_meant(tmp_path: Path) -> None:
    """They are not declared, and nothing is ordered of them."""

    async def main() -> None:
        async with live(tmp_path) as one:
            await one.kill()
            (site,) = load_devices(one.plant.directory / "devices.yaml")
            first, *others = site.servers
            odd = replace(first, node=NodeId(f"{first.node}9"))
            meter = replace(site.meters[0], element=PowerNodeId("fjord/feed-x"))
            one.sites = [replace(site, servers=(odd, *others), meters=(meter, *site.meters[1:]))]
            await one.start()
            await one.becomes(lambda: len(one.world.state.limiters) == NODES - 1)
            node, element = one.states().strangers
            assert f"no node '{odd.node}'; known: " in node
            assert "Did you mean fjord/b" in node
            assert "no power element 'fjord/feed-x'; known: " in element

    asyncio.run(main())


def test_an_idle_node_is_shut_down_when_nothing_else_is_left_and_comes_back(tmp_path: Path) -> None:
    """It counts as off when it says so; afterwards it is started, and takes work when it says that it is on."""

    async def main() -> None:
        async with live(tmp_path, replace(QUICK, force_s=1.0)) as one:
            await one.runs("firm")
            await one.becomes(lambda: len(one.world.state.switches) == NODES)
            before_w = one.counted_w
            one.instruct(before_w - 100)
            await one.becomes(lambda: one.counted_w <= before_w - 100)
            (node,) = one.caps
            number = one.world.fleet.node_index[node]
            assert one.plant.physics.power[number] == Power.OFF
            assert not one.world.snapshot(one.control.now_ms()).node_open[number]
            one.withdraw()
            await one.becomes(lambda: not one.caps)
            assert one.plant.physics.power[number] != Power.OFF
            assert one.counted_w == before_w

    asyncio.run(main())
