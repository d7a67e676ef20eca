"""What is promised for a time: reservations, work that names them, and maintenance, all of it changed and taken back at times."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from headrace.core import commands as c
from headrace.core.contracts import Maintenance, Reservation
from headrace.core.errors import ProblemCode
from headrace.core.fleet import compile_fleet
from headrace.core.hardware import CATALOGUE
from headrace.core.ids import NodeId, SiteId, TenantId, WindowId
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE
from headrace.core.workload import PolicyRef, Resources, WorkloadSpec, WorkloadType
from headrace.sim.clients import Answer, Request, command, submission
from headrace.sim.script import Scale, Step
from headrace.sim.work import SpecMaker

if TYPE_CHECKING:
    from headrace.sim.world import Simulation

RESERVATIONS, MAINTENANCES = (2, 5), (1, 4)
"""How many of each a long world has."""
_KINDS = (WorkloadType.JOB, WorkloadType.JOB, WorkloadType.SERVICE, WorkloadType.CLUSTER)


def calendar_steps(chance: Random, scale: Scale) -> Iterator[Step]:
    """The moments at which somebody thinks of a window."""
    for what, often in (("reserve", RESERVATIONS), ("maintain", MAINTENANCES)):
        for _ in range(chance.randint(*often)):
            yield Step(chance.randrange(scale.length_ms), "calendar", what)


class Calendar:
    """Declares windows, and does to them what people do; ``last_ms`` is when the last of them ends."""

    def __init__(self, sim: "Simulation", chance: Random, durations_ms: tuple[int, int]) -> None:
        self.sim, self.chance, self.durations_ms = sim, chance, durations_ms
        self.last_ms = 0
        self.made = 0
        self._maker: SpecMaker | None = None

    @property
    def maker(self) -> SpecMaker:
        """Makes what names reservations, by chance of its own."""
        if self._maker is None:
            self._maker = SpecMaker(self.chance, self.sim.people.ground, *self.durations_ms)
        return self._maker

    def happen(self, what: str) -> None:
        """Somebody declares a window."""
        if what == "reserve":
            self._reserve()
        else:
            self._maintain()

    def _later(self, least_ms: int, most_ms: int, what: Callable[[], None]) -> None:
        """After a while, unless the world is coming to rest by then."""

        def unless_resting() -> None:
            if not self.sim.is_resting:
                what()

        self.sim.later(self.chance.randint(least_ms, max(least_ms, most_ms)), unless_resting)

    def _times(self) -> tuple[int, int]:
        chance = self.chance
        now_ms = self.sim.true.at_ms // MS_PER_MINUTE * MS_PER_MINUTE
        starts_ms = now_ms + chance.choice((0, 2, 20, chance.randrange(600))) * MS_PER_MINUTE
        return starts_ms, starts_ms + chance.randint(20, 360) * MS_PER_MINUTE

    def _apply(
        self, window: Reservation | Maintenance, then: Callable[[Request, Answer], None] | None = None
    ) -> None:
        self.last_ms = max(self.last_ms, window.ends_ms)
        self.sim.ask(self.sim.people.apply(window), then)

    def _remove(self, kind: str, ident: WindowId) -> None:
        people = self.sim.people
        self.sim.ask(command(people.operator, c.RemoveDocument(kind, ident), people.key()))

    # -- reservations ---------------------------------------------------------------------------------------

    def _reserve(self) -> None:
        chance, people = self.chance, self.sim.people
        tenant = TenantId(chance.choice(list(people.members)))
        open_to = people.ground.open_to(tenant, PolicyRef()) if chance.random() < 0.9 else []
        site, hardware, count = chance.choice(people.ground.groups(open_to))
        nodes = chance.choice((1, 1, 2, 3, max(1, count // 2), count, count + 1))
        self.made += 1
        ident = WindowId(f"time-{self.made}")
        wanted = Reservation(ident, tenant, site, hardware.accelerator, nodes, *self._times())
        self._apply(wanted, lambda _request, _answer: self._reserved(wanted))

    def _reserved(self, held: Reservation) -> None:
        """It was admitted: people use it, and change their minds."""
        chance = self.chance
        left_ms = held.ends_ms - self.sim.true.at_ms
        for _ in range(chance.randint(1, 3)):
            self._later(0, left_ms, lambda: self._use(held))
        if chance.random() < 0.3:
            self._later(0, left_ms, lambda: self._change(held))
        if chance.random() < 0.25:
            self._later(0, left_ms + MS_PER_HOUR, lambda: self._remove("reservation", held.id))
        if chance.random() < 0.3:
            self._later(0, left_ms, lambda: self._drain(held))
        if chance.random() < 0.1:
            self._later(0, left_ms, lambda: self._trespass(held))

    def _change(self, held: Reservation) -> None:
        chance = self.chance
        move_ms = chance.choice((-60, -20, 20, 120)) * MS_PER_MINUTE
        changed = chance.choice(
            (
                replace(held, nodes=max(1, held.nodes + chance.choice((-1, 1)))),
                replace(held, ends_ms=max(held.starts_ms + MS_PER_MINUTE, held.ends_ms + move_ms)),
                replace(held, starts_ms=held.starts_ms + move_ms, ends_ms=held.ends_ms + move_ms),
            )
        )
        self._apply(changed)

    def _drain(self, held: Reservation) -> None:
        """One of its nodes goes, and comes back."""
        people = self.sim.people
        kept = sorted(self.sim.checkers.occupancy.kept(held))
        if not kept:
            return
        chosen = (NodeId(self.chance.choice(kept)),)
        drain = c.SetNodes(chosen, "draining", "work on it", self.chance.random() < 0.6)
        self.sim.ask(command(people.operator, drain, people.key()))
        ready = c.SetNodes(chosen, "ready")
        self._later(
            MS_PER_MINUTE,
            3 * MS_PER_HOUR,
            lambda: self._ready(command(people.operator, ready, people.key())),
        )

    def _ready(self, request: Request) -> None:
        self.sim.ask(request)

    def _use(self, held: Reservation) -> None:
        """Work of its tenant names it."""
        people = self.sim.people
        spec = self._naming(held)
        request = submission(people.members[held.tenant], held.tenant, ((spec, {}),), people.key())
        self.sim.ask_for(request)

    def _trespass(self, held: Reservation) -> None:
        """Another tenant names it, and is told that there is none."""
        people = self.sim.people
        others = [name for name in people.members if name != held.tenant]
        if not others:
            return
        tenant = self.chance.choice(others)
        items = ((self._naming(held), dict[str, str]()),)
        request = submission(people.members[tenant], tenant, items, people.key())
        request.expect = ProblemCode.NOT_FOUND
        self.sim.ask(request)

    def _naming(self, held: Reservation) -> WorkloadSpec:
        chance = self.chance
        drawn, _ = self.maker.make(held.tenant)
        kind = chance.choice(_KINDS)
        most = max(one.accelerators for one in CATALOGUE.values() if one.accelerator == held.model)
        need = Resources(held.model, chance.choice((1, most, most)), 100, 100)
        if need.accelerators == 1 and kind is not WorkloadType.CLUSTER and chance.random() < 0.5:
            need = replace(need, share_milli=chance.choice((250, 500, 810)))
        name = f"timed-{self.maker.made}"
        nodes = min(held.nodes, chance.choice((1, 1, 2, held.nodes)))
        is_elastic = kind in (WorkloadType.JOB, WorkloadType.SERVICE) and chance.random() < 0.25
        return replace(
            drawn,
            name=name,
            env={"WORK": name},
            type=kind,
            resources=need,
            commands=self.maker.commands(kind),
            nodes=nodes,
            nodes_max=nodes + chance.randint(1, 3) if is_elastic else 0,
            counters="",
            ports={},
            policy=PolicyRef(),
            site=chance.choice((None, held.site)),
            contract=None,
            alternatives=(),
            topology=None,
            reservation=held.id,
        )

    # -- maintenance ----------------------------------------------------------------------------------------

    def _maintain(self) -> None:
        chance = self.chance
        site = chance.choice(self.sim.people.ground.estate.sites).id
        self.made += 1
        window = Maintenance(
            WindowId(f"works-{self.made}"), site, *self._times(), self._parts(site), "new fans"
        )
        self._apply(window, lambda _request, _answer: self._maintained(window))

    def _parts(self, site: SiteId) -> tuple[str, ...]:
        chance = self.chance
        nodes = [
            node
            for node in compile_fleet(self.sim.people.ground.estate).node_ids
            if node.startswith(f"{site}/")
        ]
        node = str(chance.choice(nodes))
        rack, block = node.rpartition("-")[0], node.rpartition("/")[0]
        return chance.choice(((node,), (node,), (rack,), (block,), (), ("nowhere/b0",)))

    def _maintained(self, window: Maintenance) -> None:
        chance = self.chance
        left_ms = window.ends_ms - self.sim.true.at_ms
        if chance.random() < 0.3:
            longer = replace(window, ends_ms=window.ends_ms + 30 * MS_PER_MINUTE)
            self._later(0, left_ms, lambda: self._apply(longer))
        if chance.random() < 0.3:
            self._later(0, left_ms, lambda: self._remove("maintenance", window.id))
