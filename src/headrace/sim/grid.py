"""The grid: somebody who instructs sites, changes their mind, repeats and contradicts themselves; and actuators that fail it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from headrace.core.errors import ProblemCode
from headrace.core.estate import Estate, Site
from headrace.core.ids import PlacementId
from headrace.core.observation import Capabilities
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND, PERMILLE
from headrace.core.workload import Flex, PolicyRef, Resources, WorkloadType
from headrace.sim.clients import Answer, Asked, Request, instruction, submission, withdrawal
from headrace.sim.devices import Devices
from headrace.sim.estates import aside
from headrace.sim.faults import CRASHES
from headrace.sim.script import SHORT, Scale, Step
from headrace.sim.work import FOREVER, SHORT_MS, SpecMaker

if TYPE_CHECKING:
    from headrace.sim.world import Simulation

GRIDS = ("instruct", "emergency", "binding", "too-low", "past", "far")
"""What the grid asks for: less for a while; at once; whether it can be or not; less than can be; for what is over, or far."""
ACTUATORS = ("pause-ignored", "slow-end")
"""An engine that takes the order to pause, or to end, and does nothing: never, or not for a while."""
_IN_SHORT, _IN_LONG = (0.0, 0.08, 0.13), (0.18, 0.3, 0.3)
"""How many worlds have any of it: with devices that limit nodes, without, and with them again."""
_KINDS = ("instruct",) * 8 + ("emergency",) * 2 + GRIDS[1:]
LOOK_MS = (1_000, 1_150)
"""Between two looks while anything is on the move; a server looks ten times as often."""
HELD_LOOK_MS, RAMP_LOOK_MS = 60_000, 10_000
"""While somebody is held and nothing moves, and while a ramp goes on."""
_NEAR_MS = 75_000
"""So long before an instruction begins it is looked at every second, while more is drawn than it allows."""
_TRIES = 4
_LOADS = (
    (WorkloadType.FILLER, Flex.PREEMPTIBLE),
    (WorkloadType.FILLER, Flex.PAUSABLE),
    *((WorkloadType.JOB, Flex.PAUSABLE),) * 4,
    *((WorkloadType.JOB, Flex.PREEMPTIBLE),) * 2,
    (WorkloadType.JOB, Flex.FIRM),
)
"""Work that comes before the grid asks for something."""
_CAPPABLE = ((WorkloadType.JOB, Flex.CAPPABLE),) * 8
"""Where nodes can be limited, there is more of it that can be capped."""
CAPS = (1, 100, 300, 600, 900, PERMILLE, 1_030)
"""How much of what caps could save is asked for, in thousandths."""
LIGHT = (PERMILLE, 700, 300, 0, -200)
"""How much of what could be shed is left, in thousandths; below zero: more than is drawn now, which keeps others out."""


def grid_steps(chance: Random, scale: Scale) -> Iterator[Step]:
    """The moments at which the grid instructs somebody, by chance of their own."""
    is_short = scale.length_ms <= SHORT.length_ms
    for _ in range(chance.choice((1, 1, 2)) if is_short else chance.randint(2, 4)):
        yield Step(chance.randrange(scale.length_ms * 8 // 10), "grid", chance.choice(_KINDS))


def _flexible(chance: Random, site: Site) -> Site:
    line = site.connection
    if not line.flexible_w and chance.random() < 0.5:
        flexible_w = line.firm_w * chance.choice((100, 300)) // PERMILLE
        line = replace(line, firm_w=line.firm_w - flexible_w, flexible_w=flexible_w)
    if chance.random() < 0.6:
        line = replace(line, ramp_up_w_per_minute=max(1, line.total_w // chance.choice((1, 3, 8))))
    return replace(site, connection=line)


@dataclass(slots=True)
class _Given:
    """An instruction that was asked for: what, and whether it was accepted."""

    asked: Asked
    is_accepted: bool = False


class Grid:
    """Instructs, and lets actuators fail; ``is_on`` in worlds that have any of it. Tells the checker what it asks for."""

    def __init__(self, sim: "Simulation", chance: Random) -> None:
        self.sim, self.chance = sim, chance
        draw = chance.random()
        some, others, more = _IN_SHORT if sim.scale.length_ms <= SHORT.length_ms else _IN_LONG
        self.is_on, self.is_over = draw < more, False
        self.steps = tuple(grid_steps(chance, sim.scale)) if self.is_on else ()
        has_devices = draw < some or others <= draw < more
        self.devices = Devices(sim, aside(aside(chance)), is_on=has_devices)
        self.pausing = aside(chance) if self.is_on else None
        """Chance by which work that can be paused saves its state."""
        self.given: dict[str, _Given] = {}
        self._deaf: dict[PlacementId, None] = {}
        self._slow: dict[PlacementId, int] = {}
        self._ignored = self._slowed = self._loads = 0
        self._jitter = aside(chance)
        self._maker: SpecMaker | None = None
        self._skew_ms = 0
        if self.is_on:
            sim.switches.gate = self._gate
            sim.switches.sheds = chance.random() < 0.7

    def with_ramps(self, estate: Estate) -> Estate:
        """The same estate; in these worlds some connections are flexible, and some may rise only so fast."""
        sites = tuple(_flexible(self.chance, site) for site in estate.sites) if self.is_on else estate.sites
        return replace(estate, sites=sites)

    def able(self, can: Capabilities) -> Capabilities:
        """What a cluster can do; in these worlds what it pauses may shed."""
        return replace(can, pause_sheds=self.chance.random() < 0.6) if self.is_on else can

    # -- asking ---------------------------------------------------------------------------------------------

    def happen(self, kind: str) -> None:
        """Work of all kinds comes, and soon the grid asks for something."""
        if self.is_over:
            return
        sites = [site for site in self.sim.people.ground.estate.sites if site.country]
        self._load(self.chance.choice(self._limitable() or sites))
        self.sim.later(self.chance.randint(5_000, 60_000), lambda: self._instruct(kind, _TRIES))

    def _limitable(self) -> list[Site]:
        """The sites that may be used, and that have nodes that can be limited."""
        sites = self.sim.people.ground.estate.sites
        return [site for site in sites if site.country and self.devices.has(site.id)]

    def _load(self, site: Site) -> None:
        """Somebody has work for a while, of which some can be shed."""
        chance, people = self.chance, self.sim.people
        groups = people.ground.groups([site])
        tenants = [name for name in people.members if site.dedicated_to in (None, name)]
        if not groups or not tenants:
            return
        tenant, items = chance.choice(tenants), []
        more = self.devices.is_on
        for _ in range(chance.randint(2, 4) + 2 * more):
            _, hardware, count = chance.choice(groups)
            kind, flex = chance.choice((*_LOADS, *_CAPPABLE) if more else _LOADS)
            self._loads += 1
            drawn, _ = self.maker.make(tenant)
            need = Resources(
                hardware.accelerator, chance.choice((1, hardware.accelerators, hardware.accelerators)), 100, 1
            )
            if chance.random() < 0.1:
                need = replace(need, accelerators=1, share_milli=500)
            elif flex is Flex.CAPPABLE and chance.random() < 0.7:
                need = replace(need, accelerators=hardware.accelerators)
            length_s = chance.randint(240, 1_500 if self.sim.scale is SHORT else 6 * 3_600)
            name = f"load-{self._loads}"
            made = replace(
                drawn,
                name=name,
                type=kind,
                env={"WORK": name},
                resources=need,
                # Some take all of their grace to end.
                commands=(
                    *(("trap '' TERM",) if chance.random() < 0.25 else ()),
                    FOREVER if kind is WorkloadType.FILLER else f"sleep {length_s}",
                ),
                grace_ms=chance.choice((1_000, 10_000, 45_000)),
                nodes=min(count, chance.choice((1, 1, 2))),
                nodes_max=0,
                flex=flex,
                counters="",
                ports={},
                policy=PolicyRef(),
                site=site.id,
                contract=None,
                alternatives=(),
                topology=None,
                max_duration_ms=0,
                expected_ms=0,
                checkpoint_ms=MS_PER_MINUTE
                if chance.random() < 0.5 and flex not in (Flex.FIRM, Flex.CAPPABLE)
                else 0,
                restart_ms=0,
            )
            items.append((made, dict[str, str]()))
        self.sim.ask_for(submission(people.members[tenant], tenant, tuple(items), people.key()))

    @property
    def maker(self) -> SpecMaker:
        """Makes such work, by chance of its own."""
        if self._maker is None:
            self._maker = SpecMaker(self.chance, self.sim.people.ground, *SHORT_MS)
        return self._maker

    def _instruct(self, kind: str, tries: int) -> None:
        """The grid asks for something, sooner at a site where anything can be shed."""
        sim = self.sim
        if self.is_over:
            return
        sim.commit()
        sites = sim.people.ground.estate.sites
        could = [site for site in sites if self._could_w(site) > 0] if sim.plant.decides else []
        if self.devices.is_on and tries:
            could = [site for site in could if sim.checkers.grid.caps_w(site.id)[1]]
        if not could and tries:
            if self.devices.is_on:
                self._load(self.chance.choice(self._limitable() or sites))
            delay_ms = self.chance.randint(10_000, 90_000)
            sim.later(delay_ms, lambda: self._instruct(kind, tries - 1))
            return
        site = self.chance.choice(could or list(sites))
        self._ask(self._asked(kind, site))
        self._meanwhile(kind, site)

    def _could_w(self, site: Site) -> int:
        model = self.sim.checkers.grid
        return model.draw_w(site.id) - model.floors_w(site.id)[1]

    def _asked(self, kind: str, site: Site) -> Asked:
        chance, now_ms = self.chance, self.sim.wall.now_ms()
        name = f"grid-{len(self.given) + 1}"
        begins_ms = until_ms = 0
        minute = MS_PER_MINUTE
        is_short = self.sim.scale is SHORT
        delays: tuple[int, ...] = (0, 0, 10_000, 45_000, 3 * minute, 8 * minute, 17 * minute)
        if self.devices.is_on:
            delays = (*delays[:5], *delays[:5], *delays)
        wait_ms = chance.choice(delays if is_short else (*delays, MS_PER_HOUR, 6 * MS_PER_HOUR))
        lasts_ms = chance.randint(2 * minute, 12 * minute if is_short else 4 * MS_PER_HOUR)
        if wait_ms:
            begins_ms = (now_ms + wait_ms) // MS_PER_SECOND * MS_PER_SECOND
        if chance.random() < 0.7:
            until_ms = (now_ms + wait_ms + lasts_ms) // MS_PER_SECOND * MS_PER_SECOND
        if kind == "past":
            begins_ms = now_ms - 10 * minute
            until_ms = now_ms + chance.choice((-minute, 4 * minute))
        elif kind == "far":
            begins_ms, until_ms = now_ms + 30 * MS_PER_DAY, 0
        is_binding = kind == "binding" or (kind == "emergency" and chance.random() < 0.5)
        urgency = "emergency" if kind == "emergency" else "normal"
        return Asked(name, site.id, self._limit_w(kind, site), begins_ms, until_ms, urgency, is_binding)

    def _limit_w(self, kind: str, site: Site) -> int:
        """Watts at the meter, from what is drawn there now."""
        chance, model = self.chance, self.sim.checkers.grid
        drawn_w, (least_w, floor_w) = model.draw_w(site.id), model.floors_w(site.id)
        caps_w = model.caps_w(site.id)[1]
        if caps_w and kind != "too-low" and chance.random() < 0.6:
            # What caps can do, or nearly.
            it_w = model.uncapped_w(site.id) - caps_w * chance.choice(CAPS) // PERMILLE
            return max(1, -(-it_w * site.pue_permille // PERMILLE))
        if kind == "too-low" or (kind == "binding" and chance.random() < 0.6):
            it_w = least_w * chance.choice((500, 900, 990)) // PERMILLE
        else:
            it_w = floor_w + (drawn_w - floor_w) * (PERMILLE - chance.choice(LIGHT)) // PERMILLE
        return max(1, -(-it_w * site.pue_permille // PERMILLE))

    def _ask(self, asked: Asked) -> None:
        people, given = self.sim.people, _Given(asked)
        self.given[asked.id] = given
        if asked.binding:
            self.sim.checkers.grid.binding.add(asked.id)
        self.sim.commit()

        def accepted(_request: Request, _answer: Answer) -> None:
            if not given.is_accepted:
                given.is_accepted = True
                self._follow_up(given)

        self.sim.switches.fired["grid-instructs"] += 1
        self.sim.ask(instruction(people.operator, asked, people.key()), accepted)

    def denied(self, request: Request, code: str) -> None:
        """An instruction was turned down: for being too low, when it is well formed."""
        control = self.sim.plant.control
        asked = request.asked
        if asked is None or control is None or control.has_pending or request.same_as is not None:
            return
        is_over = asked.until_ms and asked.until_ms <= control.now_ms()
        if not is_over and code != ProblemCode.IDEMPOTENCY_MISMATCH:
            self.sim.checkers.grid.refused(asked.id, asked.site, asked.limit_w)

    # -- changing one's mind ------------------------------------------------------------------------------------

    def _follow_up(self, given: _Given) -> None:
        chance, asked = self.chance, given.asked
        begins_in_ms = max(0, asked.begins_ms - self.sim.wall.now_ms()) if asked.begins_ms else 0
        if asked.begins_ms > self.sim.wall.now_ms() + MS_PER_DAY:
            begins_in_ms = 0
        lasts_ms = asked.until_ms - max(asked.begins_ms, self.sim.wall.now_ms()) if asked.until_ms else 0
        span_ms = max(5 * MS_PER_MINUTE, begins_in_ms + max(0, min(lasts_ms, MS_PER_HOUR)))
        if not asked.until_ms or chance.random() < 0.3:
            self._later(chance.randint(1_000, 2 * span_ms), lambda: self._withdraw(given))
        draw = chance.random()
        if draw < 0.2:
            self._later(chance.randint(0, span_ms), lambda: self._replace(given))
        elif draw < 0.35:
            self._later(chance.randint(0, span_ms), lambda: self._ask_again(given))
        elif draw < 0.55:
            self._later(chance.randint(0, span_ms), lambda: self._overlap(given))
        if chance.random() < 0.3:
            # The control plane dies about when it matters.
            near_ms = max(0, begins_in_ms + chance.randint(-40_000, 15_000))
            self._later(near_ms, lambda: self.sim.switches.armed.append(chance.choice(CRASHES)))

    def _later(self, delay_ms: int, what: Callable[[], None]) -> None:
        def unless_over() -> None:
            if not self.is_over:
                what()

        self.sim.later(delay_ms, unless_over)

    def _withdraw(self, given: _Given) -> None:
        people = self.sim.people
        self.sim.switches.fired["grid-withdraws"] += 1
        self.sim.ask(withdrawal(people.operator, given.asked.id, people.key()))

    def _replace(self, given: _Given) -> None:
        """The same name, and another limit, or other times."""
        asked = given.asked
        site = next((one for one in self.sim.people.ground.estate.sites if one.id == asked.site), None)
        if site is None:
            return
        changed = self._asked("instruct", site)
        changed = replace(changed, id=asked.id, binding=asked.binding)
        if self.chance.random() < 0.5:
            changed = replace(changed, begins_ms=asked.begins_ms, until_ms=asked.until_ms)
        self.sim.switches.fired["grid-replaces"] += 1
        self.sim.commit()
        self.sim.ask(instruction(self.sim.people.operator, changed, self.sim.people.key()))

    def _ask_again(self, given: _Given) -> None:
        """What was said is said again, as another request."""
        self.sim.switches.fired["grid-repeats"] += 1
        self.sim.commit()
        self.sim.ask(instruction(self.sim.people.operator, given.asked, self.sim.people.key()))

    def _overlap(self, given: _Given) -> None:
        """Another instruction for the same site, whatever the first says."""
        site = next((one for one in self.sim.people.ground.estate.sites if one.id == given.asked.site), None)
        if site is not None:
            self.sim.switches.fired["grid-overlaps"] += 1
            self._ask(self._asked("instruct", site))

    # -- actuators ------------------------------------------------------------------------------------------

    def _meanwhile(self, kind: str, site: Site) -> None:
        """In some worlds, engines do not do as they are told."""
        if kind not in ("instruct", "emergency", "binding"):
            return
        if self.chance.random() < 0.35:
            self._ignored += self.chance.randint(1, 2)
        if self.chance.random() < 0.35:
            self._slowed += self.chance.randint(1, 2)
        self.devices.meanwhile(site)

    def _gate(self, what: str, placement: PlacementId) -> bool:
        """Whether an order gets to the machines; the checker is told of it in any case."""
        model = self.sim.checkers.grid
        model.asked(what, placement)
        if what == "pause":
            if self._ignored and placement not in self._deaf and model.quiet.is_ordered(placement):
                self._ignored -= 1
                self._deaf[placement] = None
                self.sim.switches.fired["pause-ignored"] += 1
            return placement not in self._deaf
        held = model.held.get(placement)
        if what == "stop" and held is not None and held.evicted:
            if self._slowed and placement not in self._slow:
                self._slowed -= 1
                self._slow[placement] = self.sim.true.at_ms + self.chance.randint(2_000, 40_000)
                self.sim.switches.fired["slow-end"] += 1
            return self.sim.true.at_ms >= self._slow.get(placement, 0)
        return True

    # -- looks ----------------------------------------------------------------------------------------------

    def looked(self) -> None:
        """A control plane has looked: the checker is told, and what hinders it."""
        sim, model = self.sim, self.sim.checkers.grid
        control = sim.plant.control
        if not self.is_on or control is None:
            return
        if sim.wall.skew_ms != self._skew_ms:
            self._skew_ms = sim.wall.skew_ms
            model.hindered()
        silent = [
            site.id
            for site in sim.people.ground.estate.sites
            if site.engine in sim.plant.engines and sim.plant.engines[site.engine].trouble
        ]
        model.looked(control.now_ms(), silent)

    def next_look_ms(self) -> int | None:
        """When the next look is worth it for the grid; None: not before something happens."""
        model, control = self.sim.checkers.grid, self.sim.plant.control
        if not model.places or control is None:
            return None
        now_ms = control.now_ms()
        if model.is_moving() or model.is_over(now_ms, _NEAR_MS):
            return self._jitter.randint(*LOOK_MS)
        due = [moment_ms - now_ms for moment_ms in model.boundaries(now_ms, _NEAR_MS)]
        if model.holds_anybody():
            due.append(RAMP_LOOK_MS if model.is_ramping() else HELD_LOOK_MS)
        return max(LOOK_MS[0], min(due)) if due else None

    # -- the end --------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Nobody instructs any more, actuators do as they are told, and what stands is withdrawn."""
        self.is_over = True
        self._deaf.clear()
        self._slow.clear()
        self._ignored = self._slowed = 0
        self.devices.calm()

    def withdraw_all(self) -> None:
        """What stands is withdrawn."""
        people = self.sim.people
        for ident in self.sim.checkers.grid.standing():
            self.sim.ask(withdrawal(people.operator, ident, people.key()))
