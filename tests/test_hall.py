"""Miners and accelerators on one connection, the whole loop through sockets: instruction, miners, and what comes after them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headrace.actuate import Actuator
from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.codec import normalise
from headrace.core.contracts import Contract, PricePlan, Tenant
from headrace.core.ids import ContractId, PlanId, ProjectId
from headrace.core.power.ladder import ladder_of
from headrace.core.power.shedding import Rung
from headrace.core.workload import Flex, Resources, WorkloadSpec, WorkloadType
from headrace.devices.declared import hall_of, load_devices, without_hall
from headrace.devices.miners import PyasicMiner
from headrace.engines.declared import MINERS
from headrace.engines.fake import FakeEngine
from headrace.engines.miners import MinerEngine, MinerPace, machines_of
from headrace.journal.keys import Keys
from headrace.journal.sqlite import SqliteStore
from headrace.plant.site import read_estate
from headrace.ports import Engine
from headrace.reconcile import Reconciler
from headrace.service import Service
from tests.plant.small import control as ask_plant
from tests.plant.small import plant_here
from tests.test_actuate import FJORD, QUICK, TENANT, Live

ESTATE = """\
kind: estate
operator: {name: op, country: NO, zone: Europe/Oslo, currency: NOK}
sites:
  - name: fjord
    country: NO
    zone: Europe/Oslo
    energy: {source: hydro, carbon: 8, price: 0.45, currency: NOK}
    connection: {firm: 40kW, ramp_up: 30kW}
    pue: 1.1
    blocks:
      - name: ai
        commissioned: 2025-01-01
        groups: [{name: n, hardware: lab, nodes: 3, nodes_per_rack: 3}]
      - name: hall
        commissioned: 2025-01-01
        engine: miners
        groups:
          - {name: new, hardware: whatsminer-m50s, nodes: 2, nodes_per_rack: 2}
          - {name: aged, hardware: whatsminer-m30s, nodes: 2, nodes_per_rack: 2}
"""
OLD = ["fjord/hall/aged-0-0", "fjord/hall/aged-0-1"]
NEW = ["fjord/hall/new-0-0", "fjord/hall/new-0-1"]
OLD_W, NEW_W = 3_650 - 100, 3_440 - 100
"""What stopping one of them sheds."""
SPEED, DEADLINE_S = 2, 1.0
"""So many times as fast as the world: what the ladder waits for is real here, and a busy machine is no reason to be late."""
PACE = MinerPace(round_s=0.02, look_s=0.4, soon_s=0.1, again_s=0.5, odd_s=1.0, silent_s=2.0)


@dataclass
class Hall(Live):
    """A control plane with two engines at one site: a fake one of the accelerators, and the miners' on a plant."""

    miners: MinerEngine = field(init=False)

    async def start(self) -> None:
        """As at the start of its process."""
        self.control = Control(
            SqliteStore(self.folder / "journal.sqlite"), Keys.open(self.folder / "keys"), self.plant.clock
        )
        self.control.execute(SYSTEM, c.StartControl("live", "test"))
        sites = load_devices(self.plant.directory / "devices.yaml")
        machines = {
            one.node: PyasicMiner(one, self.plant.clock, DEADLINE_S)
            for one in hall_of(sites)
            if one.node is not None
        }
        self.miners = MinerEngine(self.folder / "miners", machines, PACE)
        engines: dict[str, Engine] = {"local": self.engine, MINERS: self.miners}
        self.reconciler = Reconciler(self.control, engines)
        self.reconciler.declare()
        self.control.commit()
        self.reconciler.fence()
        self.service = Service(self.control, self.reconciler)
        self.actuator = Actuator(without_hall(sites), self.service, self.pace, machines_of(engines))
        self.tasks = [asyncio.create_task(self.actuator.run()), asyncio.create_task(self._tick())]

    async def kill(self) -> None:
        """It ends in the middle of whatever it does; machines go on as they are."""
        await super().kill()
        self.miners.close()

    @property
    def true_w(self) -> float:
        physics = self.plant.physics
        return float(physics.drawn_w.sum() + physics.miner_w.sum())

    @property
    def mining(self) -> set[str]:
        """The nodes of miners that have a filler on them that runs, and is not to stop."""
        placements = self.world.state.placements.values()
        return {
            rank.node
            for one in placements
            for rank in one.ranks
            if one.started_ms and one.stop_reason is None and "/hall/" in rank.node
        }

    async def mines(self, count: int = 4) -> None:
        """A filler for each miner, and all of them draw."""
        await self.runs_all([mine(number) for number in range(count)])
        await self.becomes(lambda: sum(self.plant.physics.miner_w > 3_000) == count)

    async def runs_all(self, specs: list[WorkloadSpec]) -> None:
        self.control.execute(SYSTEM, c.Submit(TENANT, specs, specs[0].name))
        names = {one.name for one in specs}
        await self.becomes(
            lambda: all(
                one.state == "running"
                for one in self.world.state.workloads.values()
                if one.spec.name in names
            )
        )

    def placement_of(self, name: str) -> Any:
        work = next(one for one in self.world.state.workloads.values() if one.spec.name == name)
        return self.world.state.placements[work.placement]


def mine(number: int) -> WorkloadSpec:
    """A filler that is what a miner does by itself."""
    return WorkloadSpec(
        f"mine-{number}",
        WorkloadType.FILLER,
        ProjectId("main"),
        Resources("sha256", 1, 1_000, 1_000),
        (),
        flex=Flex.PREEMPTIBLE,
    )


@asynccontextmanager
async def hall(folder: Path) -> AsyncIterator[Hall]:
    """A plant of three nodes and four miners, and a control plane that has found them and stopped what nobody ordered."""
    path = folder / "estate.yaml"
    path.write_text(ESTATE)
    async with plant_here(folder, estate=path, load_permille=0, speed=SPEED) as plant:
        one = Hall(plant, FakeEngine(plant.clock, heartbeat_ms=600_000), folder, QUICK)
        await one.start()
        try:
            documents: list[tuple[str, str, Any]] = [
                ("estate", "op", read_estate(path)),
                ("tenant", TENANT, Tenant(TENANT, (ProjectId("main"),))),
                ("price-plan", "std", PricePlan(PlanId("std"), "NOK", {"*": 1}, {}, {})),
                ("contract", "c", Contract(ContractId("c"), TENANT, PlanId("std"))),
            ]
            made = [
                c.NormalisedDocument(kind, name, normalise(kind, name, value))
                for kind, name, value in documents
            ]
            one.control.execute(SYSTEM, c.ApplyDocuments(tuple(made)))
            # Miners mine by themselves when they have power: until they were stopped they count in full.
            await one.becomes(lambda: one.world.state.intruders or not one.plant.physics.miner_on.any())
            await one.becomes(lambda: not one.world.state.intruders and not one.plant.physics.miner_on.any())
            await one.becomes(lambda: len(one.world.state.limiters) == 3)
            yield one
        finally:
            await one.kill()


def test_miners_go_first_the_least_efficient_of_them_and_accelerators_are_not_touched(tmp_path: Path) -> None:
    """Where half of the miners are enough, it is the older half; and they come back within the ramp, one after another."""

    async def main() -> None:
        async with hall(tmp_path) as one:
            await one.mines()
            await one.runs("firm-a", "save-a")
            before_w = one.counted_w
            assert before_w == 2 * (3_650 + 3_440) + 2 * 1_000 + 200
            one.instruct(before_w - OLD_W - 1_000)
            await one.becomes(lambda: one.counted_w <= before_w - OLD_W - 1_000)
            assert one.mining == set(NEW)
            await one.becomes(lambda: one.true_w <= before_w - OLD_W - 1_000)
            assert not one.world.curtailed
            assert not one.caps
            assert not [line for line in one.told() if line.startswith("fjord:")], "the ladder was enough"
            for name in ("firm-a", "save-a"):
                assert one.placement_of(name).stop_reason is None
            made_seq = max(held.made_seq for held in one.world.state.placements.values())
            one.withdraw()
            await one.becomes(lambda: one.mining == {*OLD, *NEW})
            back = [held.made_ms for held in one.world.state.placements.values() if held.made_seq > made_seq]
            assert len(back) == 2
            # 3,550 W and 30 kW a minute: the ramp rises in steps of 10 s, and one step carries one of them.
            assert max(back) - min(back) >= 5_000

    asyncio.run(main())


def test_one_that_lies_and_one_that_is_silent_are_followed_by_the_next_rungs(tmp_path: Path) -> None:
    """The silent one is not credited. The liar is found by a meter, named, and what it draws is met by others."""

    async def main() -> None:
        async with hall(tmp_path) as one:
            await one.mines()
            await one.runs("firm-a", "save-a")
            began_ms = one.control.now_ms()
            await one.becomes(lambda: one.control.now_ms() > began_ms + 12_000)
            assert one.world.state.excess == {}
            silent, liar = OLD
            await ask_plant(one.plant, "/fail", {"kind": "miner", "names": [silent], "as": "silent"})
            await ask_plant(one.plant, "/fail", {"kind": "miner", "names": [liar], "as": "ignores"})
            before_w = one.counted_w
            target_w = before_w - 2 * NEW_W - 600
            one.instruct(target_w)
            await one.becomes(lambda: one.true_w <= target_w, 60.0)
            assert one.mining <= {silent}
            assert one.placement_of("save-a").curtailed
            assert one.placement_of("firm-a").stop_reason is None
            await one.becomes(lambda: "fjord/hall" in one.world.state.excess)
            shown = {row.name: row for row in one.states().miners}
            assert "no answer" in shown[silent].trouble
            state = shown[liar].state
            assert state is not None
            assert state.is_mining is False
            assert "it says that it is off, and at fjord/hall 3." in shown[liar].trouble
            # What did not answer is still to stop, and does so once it can be told.
            await ask_plant(one.plant, "/fail", {"kind": "miner", "names": [silent, liar], "as": "none"})
            await one.becomes(lambda: one.mining == set() and not one.world.stopping, 60.0)

    asyncio.run(main())


def test_after_a_kill_in_mid_shed_the_next_control_plane_ends_it(tmp_path: Path) -> None:
    """What was stopped stays so, what runs is taken up and not started anew, and what is still wanted is asked."""

    async def main() -> None:
        async with hall(tmp_path) as one:
            await one.mines()
            await ask_plant(one.plant, "/fail", {"kind": "miner", "names": [OLD[0]], "as": "refuses"})
            before_w = one.counted_w
            ran = {held.id for held in one.world.state.placements.values() if held.ranks[0].node in NEW}
            one.instruct(before_w - 2 * OLD_W)
            await one.becomes(lambda: one.counted_w == before_w - OLD_W)
            await one.kill()
            assert not one.plant.physics.miner_on[_number(one, OLD[1])]
            await ask_plant(one.plant, "/fail", {"kind": "miner", "names": [OLD[0]], "as": "none"})
            await one.start()
            await one.becomes(lambda: one.counted_w <= before_w - 2 * OLD_W)
            assert ran == {held.id for held in one.world.state.placements.values()}
            assert one.mining == set(NEW)

    asyncio.run(main())


def _number(one: Hall, node: str) -> int:
    return next(number for number, place in enumerate(one.plant.physics.miners) if place.name == node)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (
            WorkloadSpec(
                "train",
                WorkloadType.JOB,
                ProjectId("main"),
                Resources("sha256", 1, 1_000, 1_000),
                ("echo never",),
            ),
            "only a filler without commands can have them",
        ),
        (
            WorkloadSpec(
                "fill",
                WorkloadType.FILLER,
                ProjectId("main"),
                Resources("lab", 1, 1_000, 1_000),
                (),
                flex=Flex.PREEMPTIBLE,
            ),
            "runs commands, and it has none",
        ),
    ],
)
def test_what_an_engine_can_not_do_is_refused_when_it_is_submitted(
    tmp_path: Path, spec: WorkloadSpec, why: str
) -> None:
    """Nothing of anybody's runs on a miner, and a filler with nothing to run is for miners alone."""

    async def main() -> None:
        async with hall(tmp_path) as one:
            with pytest.raises(Exception, match=why):
                one.control.execute(SYSTEM, c.Submit(TENANT, [spec], "key"))

    asyncio.run(main())


def test_work_without_accelerators_never_goes_to_a_miner(tmp_path: Path) -> None:
    """It waits, though four miners stand idle: a miner has a processor on paper, and runs nothing."""

    async def main() -> None:
        async with hall(tmp_path) as one:
            specs = [
                WorkloadSpec(
                    f"cpu-{number}",
                    WorkloadType.JOB,
                    ProjectId("main"),
                    Resources("", 0, 1_000, 1_000),
                    ("sleep 100000",),
                )
                for number in range(13)
            ]
            one.control.execute(SYSTEM, c.Submit(TENANT, specs, "cpus"))
            await one.becomes(lambda: len(one.world.state.placements) == 12)
            assert {rank.node.split("/")[1] for held in _held(one) for rank in held.ranks} == {"ai"}
            await asyncio.sleep(0.3)
            assert len(one.world.queue) == 1

    asyncio.run(main())


def _held(one: Hall) -> list[Any]:
    return list(one.world.state.placements.values())


def test_the_ladder_shows_miners_as_its_first_rung(tmp_path: Path) -> None:
    """With the watts that stopping them sheds, ready before any instruction."""

    async def main() -> None:
        async with hall(tmp_path) as one:
            await one.mines(3)
            ladder = ladder_of(one.world, FJORD)
            assert ladder.by_rung()[Rung.MINERS] == sum(
                OLD_W if "aged" in node else NEW_W for node in one.mining
            )

    asyncio.run(main())
