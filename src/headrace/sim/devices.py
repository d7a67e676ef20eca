"""Controllers that limit nodes, and meters: they do what the journal says with delay, or not, and tell what they enforce.

They outlive the control plane: what they were last asked for stays in them when it dies. A server's loop is played here: before
each round it is told what they say, and after each commit they are asked for what is wanted, again and again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.estate import Site
from headrace.core.fleet import Fleet
from headrace.core.ids import NodeId, PowerNodeId
from headrace.core.units import MS_PER_MINUTE
from headrace.sim.checkers.papers import Ground

if TYPE_CHECKING:
    from headrace.sim.world import Simulation

LIMITERS = ("cap-silent", "cap-late", "cap-lost", "cap-rounded", "limiters-fewer", "excess")
"""Controllers that say and do nothing; that do it late; that forget; that round up; that are gone; and draw that nobody knows."""
SET_MS = (200, 3_000)
"""How long a controller takes to do as it is told."""
LATE_MS = (9_000, 30_000)
ANSWER_MS = (50, 600)
"""How soon after a change the control plane looks."""
STEPS_W = (1, 1, 1, 10, 50)
LEAST = (0, 300, 500, 700)
"""The lowest limit that a controller takes, in thousandths of its node's nameplate."""
WITHOUT = 0.15
"""How many nodes of a site that has controllers have none."""
METER = "simulated meter"


@dataclass(slots=True)
class Device:
    """A node's controller: ``limit_w`` is what it really enforces (0: nothing), ``asked_w`` what is on its way (-1: nothing).

    It rounds up to ``step_w``. ``late`` counts settings that take longer than they may.
    """

    node: NodeId
    least_w: int
    step_w: int
    limit_w: int = 0
    asked_w: int = -1
    turn: int = 0
    late: int = 0
    is_silent: bool = False
    is_reached: bool = True

    def rounded_w(self, wanted_w: int) -> int:
        """What it enforces when it is asked for so much."""
        return -(-wanted_w // self.step_w) * self.step_w


class Devices:
    """All controllers and meters of a world, ``is_on`` where there are any."""

    def __init__(self, sim: "Simulation", chance: Random, *, is_on: bool) -> None:
        self.sim, self.chance, self.is_on = sim, chance, is_on
        self.devices: dict[str, Device] = {}
        self.excess: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._said: dict[str, int] = {}
        self._fleet: Fleet | None = None
        self._control: Control | None = None
        self._generation = -1
        self._is_over = False
        self._sites: dict[str, bool] = {}

    def has(self, site: str) -> bool:
        """Whether a site has controllers."""
        return self._sites.get(site, False)

    # -- what the control plane is told ---------------------------------------------------------------------------

    def report(self, control: Control) -> None:
        """The control plane's loop: it finds its devices when it starts, and hears what they say."""
        if not self.is_on:
            return
        is_new = control is not self._control or control.generation != self._generation
        if is_new or control.world.fleet is not self._fleet:
            if control is not self._control:
                self._reach()
            self._control, self._generation, self._fleet = control, control.generation, control.world.fleet
            self._told = dict.fromkeys(control.world.state.excess, -1)
            self._declare(control)
        caps = {node: self._says_w(node) for node in control.world.state.caps if self._is_reached(node)}
        self._said = {str(node): watts for node, watts in caps.items()}
        seen = {name: self.excess.get(name, 0) for name in (*self.excess, *self._told)}
        news = {name: watts for name, watts in seen.items() if self._told.get(name, 0) != watts}
        self._told.update(news)
        if caps or news:
            excess = {PowerNodeId(name): (watts, METER) for name, watts in news.items()}
            control.execute(SYSTEM, c.ReportDevices(caps, excess))

    def _is_reached(self, node: str) -> bool:
        return node in self.devices and self.devices[node].is_reached

    def _says_w(self, node: str) -> int:
        device = self.devices[node]
        return 0 if device.is_silent else device.limit_w

    def _declare(self, control: Control) -> None:
        """Say what can be limited."""
        fleet = control.world.fleet
        self._equip(fleet)
        mine = (one for one in self.devices.values() if one.is_reached and one.node in fleet.node_index)
        control.execute(SYSTEM, c.DeclareLimiters({one.node: one.least_w for one in mine}))

    def _equip(self, fleet: Fleet) -> None:
        """Most sites have controllers, on most of their nodes."""
        chance = self.chance
        for site in fleet.sites:
            if site.id not in self._sites:
                self._sites[site.id] = chance.random() < 0.85
        for index, node in enumerate(fleet.node_ids):
            if node not in self.devices and self._sites[fleet.sites[int(fleet.node_site[index])].id]:
                hardware = fleet.hardware[fleet.node_hardware[index]]
                least_w = max(1, hardware.nameplate_w * chance.choice(LEAST) // 1_000)
                device = self.devices[node] = Device(node, least_w, chance.choice(STEPS_W))
                device.is_reached = chance.random() >= WITHOUT

    def _reach(self) -> None:
        """A control plane that starts may find others than the one before."""
        if self._control is None or self._is_over or self.chance.random() > 0.2:
            return
        for device in self.devices.values():
            if self.chance.random() < 0.3:
                device.is_reached = not device.is_reached
        self.sim.switches.fired["limiters-fewer"] += 1

    # -- what they are asked ----------------------------------------------------------------------------------------

    def act(self) -> None:
        """After a commit: whoever enforces something else than is wanted is asked for it. Raises Crash."""
        control = self.sim.plant.control
        if not self.is_on or control is None or control.has_pending:
            return
        self._hear()
        caps = control.world.state.caps
        for node, device in self.devices.items():
            cap = caps.get(NodeId(node))
            wanted_w = cap.wanted_w if cap is not None else 0
            if not device.is_reached or device.is_silent or device.asked_w == wanted_w:
                continue
            if device.asked_w < 0 and device.limit_w == device.rounded_w(wanted_w):
                continue
            self.sim.switches.crash_at("crash-acting")
            self._ask(device, wanted_w)
            self.sim.switches.crash_at("crash-acted")

    def _hear(self) -> None:
        """What controllers and meters have said must stand in the journal by now."""
        known, said = self.sim.checkers.grid.caps, self._said
        for cap in known.caps.values():
            if said.get(cap.node, cap.said_w) != cap.said_w:
                what = f"its controller said that it enforces {said[cap.node]} W, not {cap.said_w} W"
                self.sim.witness.found(1, cap.node, what, "unheard")
        for element, watts in self._told.items():
            if known.excess.get(element, 0) != watts:
                what = (
                    f"its meter saw {watts} W beyond all that is known, not {known.excess.get(element, 0)} W"
                )
                self.sim.witness.found(1, element, what, "unheard")
        self._said = {}

    def _ask(self, device: Device, wanted_w: int) -> None:
        device.turn += 1
        device.asked_w = wanted_w
        turn, delay_ms = device.turn, self.chance.randint(*SET_MS)
        if device.late and wanted_w:
            device.late -= 1
            delay_ms = self.chance.randint(*LATE_MS)
            self.sim.switches.fired["cap-late"] += 1

        def arrive() -> None:
            if turn != device.turn:
                return  # It was asked for something else since.
            device.asked_w = -1
            if device.is_silent:
                return
            device.limit_w = device.rounded_w(wanted_w)
            if device.limit_w != wanted_w:
                self.sim.switches.fired["cap-rounded"] += 1
            self._look()

        self.sim.later(delay_ms, arrive)

    def _look(self) -> None:
        self.sim.look_within(self.chance.randint(*ANSWER_MS))

    # -- faults -------------------------------------------------------------------------------------------------------

    def meanwhile(self, site: Site) -> None:
        """The grid has asked for something: some controllers fail it, and something draws that nobody knows of."""
        if not self.is_on:
            return
        chance = self.chance
        mine = [one for one in self.devices.values() if one.node.startswith(f"{site.id}/")]
        for device in mine:
            draw = chance.random()
            if draw < 0.15:
                self._silence(device)
            elif draw < 0.25:
                device.late += 1
            elif draw < 0.4:
                self._later(chance.randint(5_000, 10 * MS_PER_MINUTE), partial(self._forget, device))
        if chance.random() < 0.35:
            self._later(chance.randint(0, 5 * MS_PER_MINUTE), lambda: self._exceed(site))

    def _later(self, delay_ms: int, what: Callable[[], None]) -> None:
        def unless_over() -> None:
            if not self._is_over:
                what()

        self.sim.later(delay_ms, unless_over)

    def _silence(self, device: Device) -> None:
        """It says nothing and does nothing, for a while or for ever; what it enforces it goes on to enforce."""
        delay_ms = self.chance.choice((0, 0, 0, 20_000, 2 * MS_PER_MINUTE))

        def silent() -> None:
            device.is_silent = True
            device.turn += 1
            device.asked_w = -1
            self.sim.switches.fired["cap-silent"] += 1
            self._look()
            if self.chance.random() < 0.7:
                self._later(self.chance.randint(5_000, 10 * MS_PER_MINUTE), speak)

        def speak() -> None:
            device.is_silent = False
            self._look()

        self._later(delay_ms, silent)

    def _forget(self, device: Device) -> None:
        """It starts anew, and knows of no limit."""
        if device.limit_w:
            device.limit_w = 0
            self.sim.switches.fired["cap-lost"] += 1
            self._look()

    def _exceed(self, site: Site) -> None:
        """A meter sees more than is known, for a while."""
        chance, ground = self.chance, Ground(self.sim.people.ground.estate)
        spots = ground.by_site.get(site.id, ())
        if not spots or any(name.partition("/")[0] == site.id for name in self.excess):
            return
        spot = chance.choice(spots)
        element = chance.choice((site.id, site.id, *spot.path))
        of_w = ground.limit_w.get(element, ground.limit_w[site.id])
        self.excess[element] = max(1, of_w * chance.choice((1, 20, 50, 100)) // 1_000)
        self.sim.switches.fired["excess"] += 1
        self._look()
        for _ in range(chance.choice((0, 0, 1, 2))):
            self._later(chance.randint(1_000, 4 * MS_PER_MINUTE), lambda: self._change(element))
        self._later(chance.randint(10_000, 12 * MS_PER_MINUTE), lambda: self._end(element))

    def _change(self, element: str) -> None:
        if element in self.excess:
            self.excess[element] = max(
                1, self.excess[element] * self.chance.choice((500, 900, 1_500)) // 1_000
            )
            self._look()

    def _end(self, element: str) -> None:
        self.excess.pop(element, None)
        self._look()

    # -- the end --------------------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """All controllers answer and do as they are told, and all that draws is known."""
        self._is_over = True
        self.excess.clear()
        for device in self.devices.values():
            device.is_silent, device.late = False, 0
        if self.is_on:
            self._look()
