"""Devices joined to a live control plane: what it orders of nodes is asked of their controllers, what devices say is reported.

Level-triggered: what is wanted (the caps of the durable world) is compared with what each controller said last, again and
again, and those that differ are asked. Nothing that matters is remembered here: after a restart everybody is asked anew. What
a controller was asked for counts for nothing; what it says that it enforces is reported, and what that is worth is decided in
the core. Nothing is asked before the event that wants it is durable, and nothing is undone at the end: caps stay in the devices.

Meters are read beside it, and what they see beyond all that is known to draw there is reported too
(:mod:`headrace.core.power.excess`).
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.actuate_lane import Lane
from headrace.actuate_meters import Metered, MeterWatch, at_odds
from headrace.control import SYSTEM, Batch
from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.errors import HeadraceError, unknown
from headrace.core.fleet import Fleet
from headrace.core.ids import NodeId, PowerNodeId
from headrace.core.power.caps import OFF_W, Cap
from headrace.devices import DeviceError, DeviceFault, LimitReading, MinerState
from headrace.devices.declared import SiteDevices
from headrace.devices.fleet import AT_ONCE, Devices, read_limit, read_miners, set_limit
from headrace.devices.redfish import RedfishServer
from headrace.engines.miners import Machine
from headrace.service import InlineService

DEFECT = "a defect of ours, which should be reported"
_NEED_PERSON = frozenset(
    {DeviceFault.CREDENTIALS, DeviceFault.TLS, DeviceFault.UNSUPPORTED, DeviceFault.MISSING}
)
"""Asked often, a controller that does not accept a password locks the account."""
TOLD_OFTEN = 3
"""A controller that says as often in a row that it enforces more than it was told, and the same, is told no more."""
LEAST_W = 1
"""The lowest limit of a controller that does not say what it takes."""
MOST_STRANGERS = 20
"""So many names that the estate does not have are looked at for what may have been meant."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often devices are asked, and how long they have; in seconds of this machine, whatever the clock of the world does.

    ``again_s``: a controller that did not do it is asked again after this, and twice as late each time, up to
    ``again_most_s``; one that a person has to see to, after ``person_s``. ``silent_s``: of one that has said nothing for so
    long nothing is known any more. ``force_s``: a node that does not shut down within this is turned off. ``at_once``: so many
    controllers are asked at the same time, and as many again of those that did not answer last time.
    """

    round_s: float = 0.5
    deadline_s: float = 4.0
    gather_s: float = 0.02
    again_s: float = 1.0
    again_most_s: float = 10.0
    person_s: float = 60.0
    read_back_s: float = 10.0
    silent_s: float = 30.0
    first_s: float = 10.0
    force_s: float = 12.0
    at_once: int = AT_ONCE
    meters_s: float = 1.0
    miners_s: float = 10.0


USUAL = Pace()


@dataclass(frozen=True, slots=True)
class Limited:
    """A node's controller. ``wanted_w``: what is asked of it (0: to drop its limit; None: nothing).

    ``enforced_w``: what it said last that it enforces (0: nothing; None: it has not said), so since ``since_ms``; it answered
    last at ``heard_ms`` (0: never since the start). ``least_w`` None: it could not be asked yet. ``trouble``: what it did not do.
    """

    node: NodeId
    way: str
    least_w: int | None
    wanted_w: int | None
    enforced_w: int | None
    since_ms: int
    heard_ms: int
    trouble: str


@dataclass(frozen=True, slots=True)
class Mined:
    """A miner of the devices file, and what it says of itself. ``wanted`` of it: mine, rest, or "" (nothing)."""

    name: str
    element: PowerNodeId
    state: MinerState | None
    trouble: str
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class DeviceStates:
    """How things stand with all devices. ``strangers``: names of the file that the estate does not have, each in a line."""

    servers: tuple[Limited, ...] = ()
    meters: tuple[Metered, ...] = ()
    miners: tuple[Mined, ...] = ()
    strangers: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(slots=True)
class _Server:
    """What is known of a controller; times without ``_ms`` are of this process's own clock, in seconds.

    ``said``: its last word that still holds. ``asked_w``: what it was asked last (-1: nothing). ``gave``: what it was told to
    enforce, what it said that it does, and how often in a row. ``failing``: since when it has not answered. ``can_switch``: it
    says whether its node is on. ``shut``: when its node was told first to shut down, until it is on again.
    """

    answered: float
    least_w: int | None = None
    said: LimitReading | None = None
    asked_w: int = -1
    gave: tuple[int, int, int] = (-1, -1, 0)
    failing: float | None = None
    failures: int = 0
    needs_person: bool = False
    again: float = 0.0
    can_switch: bool = False
    shut: float | None = None
    is_busy: bool = False
    was_tried: bool = False
    since_ms: int = 0
    heard_ms: int = 0
    trouble: str = ""

    @property
    def enforced_w(self) -> int:
        """What it says that it enforces, watts; 0: nothing, or it does not say."""
        said = self.said
        return said.limit_w or 0 if said is not None and said.enforced else 0

    def differs(self, wanted_w: int) -> bool:
        """Whether it has still to be told. One that enforces less than was asked has done it."""
        if self.said is None:
            return True
        if not wanted_w:
            return self.said.limit_w is not None
        if 0 < self.enforced_w <= wanted_w:
            return False
        # One that rounds up says the same each time: that is what it does, and what counts.
        is_all = self.gave[:2] == (wanted_w, self.enforced_w) and self.gave[2] >= TOLD_OFTEN
        return not (self.enforced_w and is_all)

    def told(self, wanted_w: int) -> None:
        """It was told to enforce so much, and has said what it does."""
        before, now = self.gave, (wanted_w, self.enforced_w)
        self.gave = (*now, before[2] + 1 if before[:2] == now else 1)

    def hear(self, said: LimitReading, now: float) -> None:
        """It said what it enforces."""
        before = self.enforced_w if self.said is not None else -1
        self.said, self.answered, self.heard_ms = said, now, said.at_ms
        self.failing, self.failures, self.trouble, self.needs_person = None, 0, "", False
        if self.enforced_w != before:
            self.since_ms = said.at_ms

    def miss(self, now: float, error: DeviceError | None, trouble: str = "") -> None:
        """It did not say."""
        self.trouble, self.failures = trouble if error is None else error.problem.line(), self.failures + 1
        self.needs_person = error is not None and error.fault in _NEED_PERSON
        self.failing = now if self.failing is None else self.failing


@dataclass(slots=True)
class _Told:
    """What was declared: when, and of which fleet and generation of the world it was worked out."""

    at: float = -1e9
    fleet: Fleet | None = None
    generation: int = -1
    is_due: bool = True


class Actuator:
    """All devices of a control plane. ``run`` goes on until it is cancelled, and leaves the devices as they are.

    ``machines``: miners that an engine drives, which are shown beside those of the file that are watched alone.

    Without any devices it takes back what an earlier control plane declared: nobody looks at what those controllers do.
    """

    def __init__(
        self,
        sites: Sequence[SiteDevices],
        service: InlineService,
        pace: Pace = USUAL,
        machines: Callable[[], Sequence[Machine]] = list,
    ) -> None:
        self.pace, self._machines = pace, machines
        self._service, self._control = service, service.control
        self._devices = Devices.of(sites, service.control.clock)
        self._begun = time.monotonic()
        self._servers = {node: _Server(self._begun) for node in self._devices.servers}
        self._watch = MeterWatch(self._devices, service)
        self._mined: dict[str, MinerState | DeviceError] = {}
        self._wanted: dict[NodeId, int] = {}
        # Those that have still to say what they take, or did not answer last.
        self._unsettled: dict[NodeId, None] = dict.fromkeys(self._servers)
        self._answered: set[NodeId] = set()
        self._wake, self._heard = asyncio.Event(), asyncio.Event()
        self._told = _Told()
        self._troubles: dict[str, str] = {}
        self._strange: tuple[Fleet | None, tuple[str, ...]] = (None, ())
        # Who did not answer last time waits in a lane of its own, and nobody else behind it.
        self._lanes = (Lane(self._attend, pace.at_once), Lane(self._attend, pace.at_once))
        service.on_durable.append(self._durable)

    # -- for whoever looks --------------------------------------------------------------------------------------------

    def states(self) -> DeviceStates:
        """How things stand now."""
        caps = self._control.world.state.caps
        return DeviceStates(
            tuple(self._limited(node, one, caps.get(node)) for node, one in self._servers.items()),
            tuple(self._watch.states()),
            tuple(self._miners()),
            self._strangers(),
            "; ".join(self._troubles.values()),
        )

    def _limited(self, node: NodeId, one: _Server, cap: Cap | None) -> Limited:
        return Limited(
            node,
            self._devices.servers[node].way or "",
            one.least_w,
            None if cap is None else cap.wanted_w,
            None if one.said is None else one.enforced_w,
            one.since_ms,
            one.heard_ms,
            one.trouble,
        )

    def _miners(self) -> Iterator[Mined]:
        for name, miner in self._devices.miners.items():
            found = self._mined.get(name)
            if isinstance(found, DeviceError):
                yield Mined(name, miner.address.element, None, found.problem.line())
            else:
                yield Mined(name, miner.address.element, found, "")
        # What an engine drives it looks at itself.
        for one in self._machines():
            element, world = PowerNodeId(one.node.rpartition("-")[0]), self._control.world
            trouble = one.trouble or at_odds(world, element, one.said)
            yield Mined(one.node, element, one.said, trouble, one.wanted)

    def _strangers(self) -> tuple[str, ...]:
        """Names of the file that are not of the estate, with what may have been meant."""
        fleet = self._control.world.fleet
        if self._strange[0] is not fleet:
            nodes, elements = list(fleet.node_index), list(fleet.power_index)
            found: list[tuple[str, str, Sequence[str]]]
            named = (*self._servers, *(one.node for one in self._machines()))
            found = [("node", node, nodes) for node in named if node not in fleet.node_index]
            found += [("power element", name, elements) for name in self._watch.strangers()]
            lines = [unknown(what, name, known).line() for what, name, known in found[:MOST_STRANGERS]]
            if len(found) > MOST_STRANGERS:
                lines.append(f"and {len(found) - MOST_STRANGERS} more.")
            self._strange = (fleet, tuple(lines))
        return self._strange[1]

    # -- the loops ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask, read and report until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forever(self._round, self.pace.round_s, self._wake))
                group.create_task(self._forever(self._report, self.pace.round_s, self._heard))
                group.create_task(self._forever(self._watch.turn, self.pace.meters_s))
                if self._devices.miners:
                    group.create_task(self._forever(self._look_at_miners, self.pace.miners_s))
        finally:
            for lane in self._lanes:
                await lane.close()
            await self._watch.close()
            await self._devices.close()

    async def _forever(
        self,
        turn: Callable[[], Coroutine[Any, Any, None]],
        every_s: float,
        sooner: asyncio.Event | None = None,
    ) -> None:
        while True:
            try:
                await turn()
                self._troubles.pop(turn.__name__, None)
            except HeadraceError as error:
                # The journal takes nothing now: it is tried again, and devices stay as they are.
                self._troubles[turn.__name__] = error.problem.line()
            except Exception as error:  # noqa: BLE001 - whatever a device makes us stumble over ends no control plane
                self._troubles[turn.__name__] = f"{DEFECT}: {error!r}"
            if sooner is None:
                await asyncio.sleep(every_s)
                continue
            try:
                async with asyncio.timeout(every_s):
                    await sooner.wait()
            except TimeoutError:
                continue
            sooner.clear()

    def _durable(self, batch: Batch) -> None:
        """What is ordered of nodes is asked at once, and not by the next round."""
        if any(isinstance(one.event, ev.CapsOrdered | ev.CapsLifted) for one in batch.committed):
            self._wake.set()

    async def _round(self) -> None:
        """Take what is wanted, ask those that differ, and say who can be limited."""
        caps = self._control.world.state.caps
        wanted = {node: cap.wanted_w for node, cap in caps.items()}
        # Nothing is asked of a device before the event that wants it is durable.
        await self._service.settled()
        self._wanted = wanted
        self._watch.sample()
        now = time.monotonic()
        for node in dict.fromkeys((*wanted, *self._unsettled)):
            server = self._servers.get(node)
            if server is not None and self._is_due(node, server, now):
                self._lanes[self._devices.servers[node].is_troubled].add(node)
        self._answered.update(wanted)
        await self._declare(now)

    def _is_due(self, node: NodeId, one: _Server, now: float) -> bool:
        """Whether a controller is to be asked for something now."""
        if one.is_busy:
            return False
        wanted_w = self._wanted.get(node)
        if wanted_w is not None and wanted_w != one.asked_w:
            return True
        if now < one.again:
            return False
        if one.least_w is None:
            return True
        if wanted_w is None:
            # Of those that were given up it has to be known when they are back.
            return one.failing is not None
        return one.differs(wanted_w) or now - one.answered >= self.pace.read_back_s

    async def _attend(self, node: NodeId) -> None:
        """Ask one controller for what is due of it; again where something else is wanted by then."""
        one = self._servers[node]
        if one.is_busy:
            return
        one.is_busy, is_other = True, True
        try:
            while is_other:
                wanted_w = self._wanted.get(node)
                await self._ask(node, one, wanted_w)
                is_other = self._wanted.get(node) != wanted_w
        except Exception as error:  # noqa: BLE001 - as in `_forever`
            one.miss(time.monotonic(), None, f"{DEFECT}: {error!r}")
        finally:
            one.is_busy, one.was_tried = False, True
            if one.least_w is None or one.failing is not None:
                self._unsettled[node] = None
            else:
                self._unsettled.pop(node, None)
        pace = self.pace
        wait_s = min(pace.again_most_s, pace.again_s * 2 ** min(max(0, one.failures - 1), 8))
        wait_s = pace.person_s if one.needs_person else wait_s
        one.again = time.monotonic() + (wait_s if one.failures else 0.0)
        self._answered.add(node)
        self._heard.set()

    async def _ask(self, node: NodeId, one: _Server, wanted_w: int | None) -> None:
        was_silent = self._is_silent(one, time.monotonic())
        one.asked_w = -1 if wanted_w is None else wanted_w
        if wanted_w is None:
            await self._discover(node, one)
        elif wanted_w == OFF_W:
            await self._switch(node, one, self._shut)
        elif one.differs(wanted_w):
            await self._set(node, one, wanted_w)
        else:
            self._take(one, await read_limit(self._devices, node, self.pace.deadline_s))
        if was_silent != self._is_silent(one, time.monotonic()):
            self._told.is_due = True

    async def _set(self, node: NodeId, one: _Server, wanted_w: int) -> None:
        if not wanted_w:
            # What it said holds no more from the moment that it is asked to drop it.
            one.said = None
            cap = self._control.world.state.caps.get(node)
            was_shut = one.shut is not None or (cap is not None and cap.enforced_w == OFF_W)
            if was_shut and not await self._switch(node, one, self._start):
                return
        done = await set_limit(self._devices, node, wanted_w or None, self.pace.deadline_s)
        if done.reading is None:
            one.miss(time.monotonic(), done.problem)
        else:
            failures = one.failures
            one.hear(done.reading, time.monotonic())
            one.told(wanted_w)
            if one.differs(wanted_w) and done.problem is not None:
                one.trouble, one.failures = done.problem.problem.line(), failures + 1
        if one.least_w is None and self._devices.servers[node].way is not None:
            await self._discover(node, one)

    async def _switch(
        self, node: NodeId, one: _Server, turn: Callable[[RedfishServer, _Server], Awaitable[bool]]
    ) -> bool:
        """Shut a node down, or start it; whether it is so now."""
        try:
            async with asyncio.timeout(self.pace.deadline_s):
                return await turn(self._devices.servers[node], one)
        except DeviceError as error:
            one.miss(time.monotonic(), error)
        except TimeoutError:
            one.miss(time.monotonic(), self._late(node))
        return False

    async def _shut(self, server: RedfishServer, one: _Server) -> bool:
        """Nothing runs on it, so that who does not shut down when asked is turned off."""
        now = time.monotonic()
        if await server.is_on():
            is_asked = one.shut is not None
            one.shut = one.shut if one.shut is not None else now
            if not is_asked or now - one.shut >= self.pace.force_s:
                await server.off(at_once=is_asked)
            one.failing, one.failures, one.trouble = None, 1, "it was told to shut down, and is on still"
            return False
        one.shut = one.shut if one.shut is not None else now
        one.hear(LimitReading(OFF_W, self._control.now_ms(), enforced=True), now)
        return True

    async def _start(self, server: RedfishServer, one: _Server) -> bool:
        """It may still be shutting down: only when that would be over it is believed to be on."""
        is_on, now = await server.is_on(), time.monotonic()
        if is_on and (one.shut is None or now - one.shut >= 2 * self.pace.force_s):
            one.shut = None
            return True
        if not is_on:
            await server.on()
        one.failing, one.failures, one.trouble = (
            None,
            1,
            "it was told to start, and is not known to stay on yet",
        )
        return False

    def _late(self, node: NodeId) -> DeviceError:
        text, step = (
            f"no answer within {self.pace.deadline_s:g} s;",
            "Look whether its management controller is up.",
        )
        return DeviceError(node, DeviceFault.TIMEOUT, text, step)

    async def _discover(self, node: NodeId, one: _Server) -> None:
        """Find out whether it can be limited, how far down, and whether it can be switched."""
        server = self._devices.servers[node]
        try:
            async with asyncio.timeout(self.pace.deadline_s):
                if one.least_w is None:
                    found = await server.range()
                    with contextlib.suppress(DeviceError):
                        one.can_switch = await server.is_on() or True
                    one.least_w, self._told.is_due = found.least_w or LEAST_W, True
                else:
                    # It did not answer when it was asked last.
                    one.hear(await server.limit(), time.monotonic())
        except DeviceError as error:
            one.miss(time.monotonic(), error)
        except TimeoutError:
            one.miss(time.monotonic(), self._late(node))
        else:
            one.failing, one.failures, one.trouble, one.needs_person = None, 0, "", False
            one.heard_ms = self._control.now_ms()

    def _take(self, one: _Server, found: LimitReading | DeviceError) -> None:
        if isinstance(found, DeviceError):
            one.miss(time.monotonic(), found)
        else:
            one.hear(found, time.monotonic())

    # -- what is reported ---------------------------------------------------------------------------------------------

    async def _report(self) -> None:
        """Say what controllers enforce, where that is news."""
        if not self._answered:
            return
        # Those that answer at about the same time make one event.
        await asyncio.sleep(self.pace.gather_s)
        self._heard.clear()
        answered, self._answered = self._answered, set()
        news = dict(self._news(answered, time.monotonic()))
        if news:
            try:
                await self._service.run(SYSTEM, c.ReportDevices(caps=news))
            except HeadraceError:
                self._answered |= answered
                raise

    def _news(self, nodes: Iterable[NodeId], now: float) -> Iterator[tuple[NodeId, int]]:
        caps = self._control.world.state.caps
        for node in nodes:
            cap = caps.get(node)
            watts = None if cap is None else self._enforced_w(cap, self._servers.get(node), now)
            if cap is not None and watts is not None:
                is_dropped = not cap.wanted_w and not watts
                if watts != cap.enforced_w or is_dropped:
                    yield node, watts

    def _enforced_w(self, cap: Cap, one: _Server | None, now: float) -> int | None:
        """What is to be reported of a node with a cap; None: nothing, for it may still be as it was."""
        if one is None:
            # Nobody here can ask its controller: whatever it does, nothing is known of it.
            return 0
        if one.said is None or now - one.answered >= self.pace.silent_s:
            is_lost = bool(cap.wanted_w) and now - one.answered >= self.pace.silent_s
            return 0 if is_lost else None
        if not cap.wanted_w and not one.enforced_w and one.said.limit_w is not None:
            # It holds a number that it does not act on, and may begin to: it is told again.
            return None
        return one.enforced_w

    def _is_silent(self, one: _Server, now: float) -> bool:
        return one.failing is not None and now - one.failing >= self.pace.silent_s

    async def _declare(self, now: float) -> None:
        """Say which nodes can be limited from here, where that is another set than is known."""
        told, control, pace = self._told, self._control, self.pace
        fleet = control.world.fleet
        if told.fleet is not fleet or told.generation != control.generation:
            told.is_due = True
        is_first = now - self._begun < pace.first_s
        if is_first and not all(one.was_tried or one.least_w for one in self._servers.values()):
            return
        if not told.is_due or now - told.at < 4 * pace.round_s:
            return
        told.at, told.fleet, told.generation, told.is_due = now, fleet, control.generation, False
        limiters, switches = dict(self._limiters(now)), frozenset(self._switches(now))
        if limiters == control.world.state.limiters and switches == control.world.state.switches.keys():
            return
        try:
            await self._service.run(SYSTEM, c.DeclareLimiters(limiters, switches))
        except HeadraceError:
            told.is_due = True
            raise

    def _limiters(self, now: float) -> Iterator[tuple[NodeId, int]]:
        known, index = self._control.world.state.limiters, self._control.world.fleet.node_index
        for node, one in self._servers.items():
            if node not in index:
                continue
            if self._is_silent(one, now):
                continue
            # Of one that could not be asked yet holds what an earlier control plane found, for a while.
            least_w = known.get(node) if one.least_w is None else one.least_w
            if least_w:
                yield node, least_w

    def _switches(self, now: float) -> Iterator[NodeId]:
        known, index = self._control.world.state.switches, self._control.world.fleet.node_index
        for node, one in self._servers.items():
            able = node in known if one.least_w is None else one.can_switch
            if able and node in index and not self._is_silent(one, now):
                yield node

    async def _look_at_miners(self) -> None:
        self._mined = await read_miners(self._devices, self.pace.miners_s)
