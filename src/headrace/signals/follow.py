"""A control plane follows its grid operators' servers (VTNs) live: what they say stands in the journal, and holds.

What is heard is compared with what the journal has of the same VTN, and the difference is taken as the system's own commands,
binding; only once that is durable is it acknowledged. The journal is the memory: after a restart what stands in it holds until
its end, or until the VTN *answers* that it is gone. A VTN that is silent withdraws nothing.

An answer that may hide something withdraws only what this process has heard itself, for of that the client asks by its id.
Anything else has to be missing from two answers in a row.
"""

import asyncio
import contextlib
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.errors import HeadraceError
from headrace.core.ids import PowerNodeId, SiteId
from headrace.core.power.grid import MOST_AHEAD_MS
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.power.openadr import SKEW_MS, SOURCE, Difference, Finding, difference
from headrace.core.power.openadr_reports import Metered, metered
from headrace.core.power.pue import meter_watts
from headrace.core.power.reading import PowerReading
from headrace.core.units import MS_PER_SECOND, format_watts
from headrace.service import InlineService
from headrace.signals.declared import VtnModel
from headrace.signals.openadr import MOST_RETRY_MS, SiteMeter, Ven, VenState
from headrace.signals.openadr_http import VtnError

SAMPLE_S = 1.0
"""How often it is noted what sites draw."""
MOST_SAMPLES = 20_000
"""Changes of a site's draw that are kept; of what was before them reports say that nothing was read."""
DECIDE_S = 0.003
"""So long commands are decided before somebody else has a turn."""
REFUSED = "refused"
HIDING = frozenset({"partial", "program", "registration"})
"""Findings of an answer that need not show all that holds: its list has no end, a program is not shown, or we are not known."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How things stand with a VTN. ``trouble``: why it isn't heard or can't be followed ("": it is), so since ``since_ms``.

    ``heard_ms``: when all that it says was last heard (0: not since the start). ``standing``: how many of its instructions hold
    now or later, by the journal. ``reports``: how many were sent since the start. ``findings``: all that is odd.
    """

    vtn: str
    url: str
    sites: tuple[SiteId, ...]
    poll_ms: int
    since_ms: int
    trouble: str = "it has not been asked yet"
    heard_ms: int = 0
    skew_ms: int = 0
    standing: int = 0
    reports: int = 0
    findings: tuple[Finding, ...] = ()


def is_of(vtn: str, one: Instruction) -> bool:
    """Whether an instruction was given by a VTN."""
    return one.source == SOURCE and one.id.startswith(f"{SOURCE}:{vtn}/")


def is_kept(old: Instruction, new: Instruction, now_ms: int) -> bool:
    """Whether what stands says what is heard: from as early on, until as late, and no later than clocks differ.

    Written anew it would count as just received each time that the VTN's clock is a second off, and would be due later each time.
    """
    if (old.site, old.limit_w, old.urgency) != (new.site, new.limit_w, new.urgency):
        return False
    has_begun = old.from_ms <= now_ms and new.from_ms <= now_ms
    if not has_begun and not 0 <= new.from_ms - old.from_ms <= SKEW_MS:
        return False
    if not old.until_ms or not new.until_ms:
        return old.until_ms == new.until_ms
    return 0 <= old.until_ms - new.until_ms <= SKEW_MS


def compared(
    standing: Iterable[Instruction], heard: Iterable[Instruction], now_ms: int
) -> tuple[Difference, int]:
    """What is to be done so that what stands is what is heard, and how many begin too far ahead to be taken yet."""
    before = {one.id: one for one in standing}
    near = [one for one in heard if one.from_ms <= now_ms + MOST_AHEAD_MS]
    after = [
        before[one.id] if one.id in before and is_kept(before[one.id], one, now_ms) else one for one in near
    ]
    return difference(before.values(), after), sum(one.from_ms > now_ms + MOST_AHEAD_MS for one in heard)


@dataclass(slots=True)
class _History:
    at_ms: list[int] = field(default_factory=list)
    watts: list[int] = field(default_factory=list)


class ModelledMeter:
    """What sites draw at most, by the catalogue and by what runs there; at their meters. Reports call it an estimate."""

    def __init__(self, control: Control, sites: Iterable[SiteId]) -> None:
        self._control = control
        self._drawn = {site: _History() for site in sites}

    def sample(self) -> None:
        """Note what each site draws now, where that has changed."""
        world, now_ms = self._control.world, self._control.now_ms()
        for site, kept in self._drawn.items():
            if site not in world.fleet.site_index:
                # Nothing is known of the time in which the estate doesn't have it.
                kept.at_ms.clear()
                kept.watts.clear()
                continue
            it_w = int(world.power_w[world.fleet.power_index[PowerNodeId(site)]])
            watts = meter_watts(world.site(site), it_w)
            if not kept.watts or kept.watts[-1] != watts:
                kept.at_ms.append(now_ms)
                kept.watts.append(watts)
                del kept.at_ms[:-MOST_SAMPLES], kept.watts[:-MOST_SAMPLES]

    def metered(self, site: SiteId, from_ms: int, until_ms: int) -> Metered | None:
        """What a site drew in a time, modelled; None where not all of it is known."""
        kept = self._drawn.get(site, _History())
        first = bisect_right(kept.at_ms, from_ms) - 1
        if first < 0 or until_ms <= from_ms:
            return None
        last = bisect_left(kept.at_ms, until_ms)
        times = [from_ms, *kept.at_ms[first + 1 : last]]
        watts = kept.watts[first : max(last, first + 1)]
        readings = [
            PowerReading(one, at_ms, "modelled", "model") for at_ms, one in zip(times, watts, strict=True)
        ]
        return metered(readings, from_ms, until_ms)

    async def run(self) -> None:
        """Note it again and again."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)


class Follower:
    """One VTN that is followed. ``turn`` is one poll and what follows from it; ``run`` goes on until it is cancelled.

    ``told`` hears of it when it begins or ceases to be heard.
    """

    def __init__(
        self,
        vtn: VtnModel,
        service: InlineService,
        meter: SiteMeter,
        told: Callable[[Followed], None] = lambda _: None,
    ) -> None:
        self._vtn, self._service, self._control, self._meter = vtn, service, service.control, meter
        self._told = told
        self._ven: Ven | None = None
        self._sites: frozenset[SiteId] = frozenset()
        self._heard: set[InstructionId] = set()
        """What this process has heard itself, and what of the rest the last answer did not list."""
        self._missing: set[InstructionId] = set()
        self._telling: asyncio.Task[None] | None = None
        self._is_new = True
        sites = tuple(SiteId(name) for name in sorted(vtn.sites))
        self._state = Followed(vtn.name, vtn.url, sites, vtn.poll, self._control.now_ms())

    def state(self) -> Followed:
        """How things stand now."""
        reports = self._ven.state.reports if self._ven is not None else 0
        standing = len(self._standing(self._control.now_ms()))
        return replace(self._state, standing=standing, reports=reports)

    async def run(self) -> None:
        """Ask, take, report, wait; sooner after a failure, and ever later while it lasts. Ends when it is cancelled."""
        failures = 0
        try:
            while True:
                began_s = time.monotonic()
                wait_ms = await self.turn()
                if wait_ms is None:
                    wait_ms = min(MOST_RETRY_MS, MS_PER_SECOND << min(failures, 16))
                    failures += 1
                else:
                    failures = 0
                spent_ms = int((time.monotonic() - began_s) * MS_PER_SECOND)
                await asyncio.sleep(max(0, wait_ms - spent_ms) / MS_PER_SECOND)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """End its connections."""
        if self._telling is not None:
            self._telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telling
        if self._ven is not None:
            await self._ven.aclose()
        self._telling = self._ven = None

    async def turn(self) -> int | None:
        """One poll, and what follows from it. In how many milliseconds the next is due; None: it failed here, not there."""
        try:
            ven = await self._client()
            wait_ms = await ven.listen()
            if ven.state.trouble:
                self._know(ven.state, ven.state.trouble)
                return wait_ms
            findings = await self._take(ven.state)
        except VtnError as error:
            self._know(None, str(error))
        except HeadraceError as error:
            self._know(None, f"what it says can't be kept: {error.problem.message}")
        except Exception as error:  # noqa: BLE001 - whatever a VTN makes us stumble over ends no control plane
            self._know(None, f"a defect of ours, which should be reported: {error!r}")
        else:
            self._know(ven.state, "", findings)
            # Only now, and only if all of it was taken: what was acknowledged is never forgotten. Meanwhile it is polled on,
            # however slow the VTN takes it.
            is_taken = not any(one.code == REFUSED for one in findings)
            if is_taken and (self._telling is None or self._telling.done()):
                self._telling = asyncio.create_task(self._tell(ven))
            return wait_ms
        return None

    def _know(self, heard: VenState | None, trouble: str, findings: Sequence[Finding] = ()) -> None:
        """Remember how it went; whoever wants to be told is told when that is new."""
        now_ms, before = self._control.now_ms(), self._state
        found = before.findings
        if heard is not None:
            found = (*self._own_findings(), *findings, *heard.findings)
        is_other = self._is_new or bool(trouble) != bool(before.trouble)
        self._is_new = False
        self._state = replace(
            before,
            since_ms=now_ms if is_other else before.since_ms,
            trouble=trouble,
            heard_ms=before.heard_ms if trouble else now_ms,
            skew_ms=before.skew_ms if heard is None else heard.skew_ms,
            findings=found,
        )
        if is_other:
            self._told(self.state())

    async def _client(self) -> Ven:
        """The client, for those of the declared sites that the estate has: nothing is said to a VTN of what isn't there."""
        index = self._control.world.fleet.site_index
        here = frozenset(SiteId(name) for name in self._vtn.sites if name in index)
        if self._ven is None or here != self._sites:
            await self.aclose()
            known = {name: one for name, one in self._vtn.sites.items() if name in here}
            self._sites = here
            self._heard.clear()
            self._missing.clear()
            self._ven = Ven(self._vtn.model_copy(update={"sites": known}), self._control, self._meter)
        return self._ven

    async def _tell(self, ven: Ven) -> None:
        try:
            await ven.tell()
        except Exception as error:  # noqa: BLE001 - as in `turn`
            text = f"a report can't be made, which should be reported: {error!r}"
            odd = Finding("defect", "", -1, text, "it is tried again")
            self._state = replace(self._state, findings=(*self._state.findings, odd))
        else:
            # What is odd about reports is known only now.
            known = set(self._state.findings)
            more = tuple(one for one in ven.state.findings if one not in known)
            self._state = replace(self._state, findings=(*self._state.findings, *more))

    def _own_findings(self) -> list[Finding]:
        """What is odd about the file, as against the estate."""
        world = self._control.world
        found = []
        for name, one in sorted(self._vtn.sites.items()):
            if name not in world.fleet.site_index:
                text = f"{name}: the estate has no such site"
                found.append(Finding("no_site", "", -1, text, "what is meant for it is not followed"))
                continue
            total_w = world.site(SiteId(name)).connection.total_w
            if one.connection != total_w:
                text = f"{name} has {format_watts(one.connection)} in the file, and {format_watts(total_w)} in the estate"
                found.append(Finding("connection", "", -1, text, "parts of it are taken of the file's"))
        return found

    # -- what is heard becomes what holds ------------------------------------------------------------------------------

    def _standing(self, now_ms: int) -> list[Instruction]:
        """Those of this VTN that the journal has, and that have not ended."""
        known = self._control.world.state.instructions.values()
        return [
            one.instruction for one in known if one.is_open(now_ms) and is_of(self._vtn.name, one.instruction)
        ]

    async def _take(self, state: VenState) -> list[Finding]:
        """Make what is heard stand in the journal; what is odd about that. HeadraceError when nothing can be kept now."""
        now_ms = self._control.now_ms()
        heard = state.instructions(now_ms)
        found, later = compared(self._standing(now_ms), heard, now_ms)
        findings: list[Finding] = []
        if later:
            text = f"{later} instructions begin more than a year from now"
            findings.append(Finding("later", "", -1, text, "they are taken when they are nearer"))
        gone, kept = self._gone(found.withdrawn, state.findings)
        if kept:
            text = f"{len(kept)} instructions that stood before the start are not listed, and the answer need not be whole"
            findings.append(Finding("kept", "", -1, text, "they hold until their end, or `grid withdraw`"))
        # What is stricter first: in no moment less holds than before and after.
        taken = sorted((*found.given, *found.changed), key=lambda one: (one.limit_w, one.id))
        findings += await self._instruct(taken)
        await self._withdraw(gone)
        await self._service.settled()
        self._heard = {one.id for one in heard}
        return findings

    def _gone(
        self, withdrawn: Sequence[Instruction], findings: Iterable[Finding]
    ) -> tuple[list[Instruction], list[Instruction]]:
        """What of that which is not listed is gone, and what may be hidden."""
        own = [one for one in withdrawn if one.id in self._heard]
        others = [one for one in withdrawn if one.id not in self._heard]
        if any(one.code in HIDING for one in findings):
            return own, others
        gone = [one for one in others if one.id in self._missing]
        self._missing = {one.id for one in others} - {one.id for one in gone}
        return own + gone, []

    async def _instruct(self, taken: Sequence[Instruction]) -> list[Finding]:
        refused = []
        began_s = time.perf_counter()
        for one in taken:
            try:
                self._control.execute(SYSTEM, c.Instruct(one, binding=True))
            except HeadraceError as error:
                if self._control.broken is not None:
                    raise
                event = one.id.split("/")[1]
                text = f"{one.site}: {format_watts(one.limit_w)} is refused: {error.problem.message}"
                refused.append(
                    Finding(REFUSED, event, -1, text, "what held before holds on; no reports are sent")
                )
            began_s = await _give_way(began_s)
        return refused

    async def _withdraw(self, gone: Sequence[Instruction]) -> None:
        began_s = time.perf_counter()
        for one in gone:
            try:
                self._control.execute(SYSTEM, c.Withdraw(one.id, f"{self._vtn.name} lists it no more"))
            except HeadraceError:
                # It ended meanwhile.
                if self._control.broken is not None:
                    raise
            began_s = await _give_way(began_s)


async def _give_way(began_s: float) -> float:
    """Let others have a turn, if it is time; when this turn began."""
    if time.perf_counter() - began_s < DECIDE_S:
        return began_s
    await asyncio.sleep(0)
    return time.perf_counter()


class Following:
    """All VTNs that a control plane follows, each on its own: one that fails keeps none of the others.

    ``told`` may be set before ``run``; it hears of a VTN when it begins or ceases to be heard.
    """

    def __init__(self, vtns: Sequence[VtnModel], service: InlineService) -> None:
        self.told: Callable[[Followed], None] = lambda _: None
        sites = {SiteId(name) for vtn in vtns for name in vtn.sites}
        self._service = service
        self._names = [vtn.name for vtn in vtns]
        self._meter = ModelledMeter(service.control, sorted(sites))
        self._followers = [Follower(vtn, service, self._meter, self._tell) for vtn in vtns]

    def _tell(self, one: Followed) -> None:
        self.told(one)

    def states(self) -> list[Followed]:
        """How things stand with each."""
        return [one.state() for one in self._followers]

    def orphans(self) -> list[Instruction]:
        """What the journal has of VTNs that are not declared any more: nobody will withdraw it but a person."""
        control = self._service.control
        now_ms, known = control.now_ms(), control.world.state.instructions.values()
        return [
            one.instruction
            for one in known
            if one.instruction.source == SOURCE
            and one.is_open(now_ms)
            and not any(is_of(name, one.instruction) for name in self._names)
        ]

    async def run(self) -> None:
        """Follow them until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._meter.run())
            for one in self._followers:
                group.create_task(one.run())
