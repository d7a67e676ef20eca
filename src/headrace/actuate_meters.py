"""Meters beside a live control plane: read again and again, judged, and compared with what is counted.

What a meter sees beyond all that is known to draw there is reported (:mod:`headrace.core.power.excess`); what it sees less is
not: a load that is low now may rise at once. Doubts about a meter are alarmed, once each.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.ids import PowerNodeId, SiteId
from headrace.core.power import excess
from headrace.core.power.excess import Beyond, Counted
from headrace.core.power.pue import it_watts
from headrace.core.power.reading import PowerReading
from headrace.core.power.telemetry import Doubt, Judgement
from headrace.core.power.tree import graph_of
from headrace.core.units import format_watts
from headrace.core.world import World
from headrace.devices import DeviceError, MinerState
from headrace.devices.fleet import Devices
from headrace.devices.modbus import ModbusMeter
from headrace.service import InlineService

CALM_S = 60.0
"""What a meter that was believed for so long is doubted for then is another doubt, and alarmed again."""


@dataclass(frozen=True, slots=True)
class Metered:
    """A meter of the devices file: its ``reading`` (at nameplate while it is doubted), why it is doubted, and what it adds.

    ``age_ms``: how old the reading is; None before the first. ``excess_w``: what counts at its element beyond what is known.
    ``is_compared``: its element is one of those that watts are counted at.
    """

    name: str
    element: PowerNodeId
    reading: PowerReading
    age_ms: int | None
    doubt: Doubt
    detail: str
    excess_w: int
    is_compared: bool


@dataclass(slots=True)
class _Doubted:
    """Whether a doubt of a meter was alarmed, and since when it is believed again, in seconds of this process's own clock."""

    is_told: bool = False
    calm: float | None = None


class MeterWatch:
    """All meters of a devices file. ``turn`` is one look at them; it waits for none."""

    def __init__(self, devices: Devices, service: InlineService) -> None:
        self._devices, self._service, self._control = devices, service, service.control
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._errors: dict[str, str] = {}
        self._history: dict[PowerNodeId, tuple[Counted, ...]] = {}
        self._beyond: dict[str, Beyond] = {}
        self._doubted: dict[str, _Doubted] = {}

    def states(self) -> Iterator[Metered]:
        """How things stand with each."""
        world, now_ms = self._control.world, self._control.now_ms()
        for name, meter in self._devices.meters.items():
            judged, element = self._judged(meter), meter.element
            is_read = judged.doubt is not Doubt.ABSENT
            yield Metered(
                name,
                element,
                judged.reading,
                max(0, now_ms - judged.reading.at_ms) if is_read else None,
                judged.doubt,
                judged.detail,
                world.state.excess.get(element, 0),
                element in world.fleet.power_index,
            )

    def strangers(self) -> list[str]:
        """Elements of meters that the estate does not have. Those past which several ways lead it has, uncounted."""
        world = self._control.world
        return [
            one.element
            for one in self._devices.meters.values()
            if one.element not in world.fleet.power_index and not _is_shared(world, one.element)
        ]

    async def turn(self) -> None:
        """Ask those that are not being asked, and take what the others said."""
        for name, meter in self._devices.meters.items():
            if name not in self._reading:
                self._reading[name] = asyncio.create_task(self._read(name, meter))
        self.sample()
        if self._devices.meters or self._control.world.state.excess:
            await self._compare()
            await self._alarm()

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, name: str, meter: ModbusMeter) -> None:
        try:
            await meter.read()
        except DeviceError as error:
            self._errors[name] = error.problem.line()
        except Exception as error:  # noqa: BLE001 - whatever a meter makes us stumble over ends no control plane
            self._errors[name] = f"a defect of ours, which should be reported: {error!r}"
        else:
            self._errors.pop(name, None)
        finally:
            del self._reading[name]

    def _judged(self, meter: ModbusMeter) -> Judgement:
        judged, error = meter.judgement, self._errors.get(meter.name, "")
        if judged.is_believed or not error:
            return judged
        return Judgement(judged.reading, judged.doubt, f"{judged.detail} {error}")

    # -- what they see beyond what is known ---------------------------------------------------------------------------

    def sample(self) -> None:
        """Note what is counted now at every element that has a meter."""
        world, now_ms = self._control.world, self._control.now_ms()
        explained = _explained(world)
        for meter in self._devices.meters.values():
            element, index = meter.element, world.fleet.power_index.get(meter.element)
            if index is None:
                self._history.pop(element, None)
                continue
            rules = meter.address.rules
            # A meter's clock may lie behind by as much as its answer may be old.
            kept_ms = excess.WINDOW_MS + 2 * rules.max_age_ms
            watts = int(world.power_w[index]) - explained.get(index, 0)
            history = self._history.get(element, ())
            self._history[element] = excess.with_counted(history, now_ms, watts, kept_ms)

    async def _compare(self) -> None:
        """Report what is seen beyond what is counted, where that is news; what nobody measures any more is taken back."""
        world = self._control.world
        index, state = world.fleet.power_index, world.state
        explained = _explained(world)
        found: dict[int, int | None] = {}
        steps: dict[int, int] = {}
        by: dict[int, str] = {}
        for name, meter in self._devices.meters.items():
            element = index.get(meter.element)
            if element is None:
                continue
            watts = self._seen(world, meter, element, explained.get(element, 0))
            best = found.get(element)
            if element not in found or best is None or (watts is not None and watts > best):
                found[element], by[element] = watts, name
            steps[element] = max(steps.get(element, 1), excess.step_w(meter.address.rules.nameplate_w))
        known = {index[one]: watts for one, watts in state.excess.items() if one in index}
        own = excess.own_excess(found, known, world.fleet.power_parent.tolist(), steps)
        ids = world.fleet.power_ids
        news = {
            PowerNodeId(ids[element]): (watts, by[element])
            for element, watts in own.items()
            if watts != known.get(element, 0)
        }
        news |= {PowerNodeId(ids[element]): (0, "") for element in known if element not in own}
        if news:
            await self._service.run(SYSTEM, c.ReportDevices(excess=news))

    def _seen(self, world: World, meter: ModbusMeter, element: int, explained_w: int) -> int | None:
        """What a meter shows of late beyond what is counted below it; None when it can't tell."""
        judged, now_ms = meter.judgement, self._control.now_ms()
        before = self._beyond.get(meter.name, Beyond())
        watts = None
        if judged.is_believed:
            reading_w, at_ms = judged.reading.watts, judged.reading.at_ms
            if world.fleet.power_parent[element] < 0:
                reading_w = it_watts(world.site(SiteId(meter.element)), reading_w)
            history = self._history.get(meter.element, ())
            watts = excess.beyond_w(history, reading_w, at_ms, meter.address.rules.nameplate_w)
            if watts is not None:
                self._beyond[meter.name] = now = excess.seen(before, at_ms, watts, now_ms)
                return excess.lasting_w(now, now_ms)
        self._beyond[meter.name] = excess.unseen(explained_w, now_ms)
        return None

    # -- doubts -------------------------------------------------------------------------------------------------------

    async def _alarm(self) -> None:
        now = time.monotonic()
        for name, meter in self._devices.meters.items():
            judged, known = self._judged(meter), self._doubted.setdefault(name, _Doubted())
            if judged.is_believed:
                known.calm = now if known.calm is None else known.calm
                if now - known.calm >= CALM_S:
                    known.is_told = False
                continue
            known.calm = None
            is_asked = name in self._errors or name not in self._reading or judged.doubt is not Doubt.ABSENT
            if is_asked and not known.is_told:
                await self._service.run(SYSTEM, c.RaiseAlarm(1, meter.element, judged.detail))
                known.is_told = True


def _explained(world: World) -> dict[int, int]:
    """By number of an element, what meters were said to see beyond what is known, there and below: part of what is counted."""
    found: dict[int, int] = {}
    for name, watts in world.state.excess.items():
        element = world.fleet.power_index.get(name, -1)
        while element >= 0:
            found[element] = found.get(element, 0) + watts
            element = int(world.fleet.power_parent[element])
    return found


def at_odds(world: World, element: PowerNodeId, said: MinerState | None) -> str:
    """That a miner at an element says that it is off where a meter sees more than is known to draw there; "" for none of it.

    Which of those below the meter goes on nobody can tell who has no meter nearer to them.
    """
    index = world.fleet.power_index.get(element, -1)
    while index >= 0 and said is not None and said.is_mining is False:
        name = world.fleet.power_ids[index]
        watts = world.state.excess.get(name, 0)
        if watts:
            text = f"it says that it is off, and at {name} {format_watts(watts)} are drawn that nobody is known to draw:"
            return f"{text} it, or another below it, goes on; look at it."
        index = int(world.fleet.power_parent[index])
    return ""


def _is_shared(world: World, name: PowerNodeId) -> bool:
    """Whether the estate has an element that several ways lead past: what it carries hangs on the others, and is not counted."""
    site, _, local = name.partition("/")
    if site not in world.fleet.site_index:
        return False
    return local in graph_of(world.site(SiteId(site))).elements
