"""The client of an OpenADR 3.1 server (a VEN): it polls, says what holds for our sites, and reports back.

Polling is all that it needs: events say when they begin, and how late one is heard is the interval of polling, which is declared
and shown. The document has no conditional and no long poll; its notifiers, webhooks and MQTT, bring nothing but an earlier poll,
and are not used: a webhook wants an address that a grid operator can reach, MQTT a broker.

When the server can't be reached, what was last heard holds until its end, and :class:`VenState` says so. When it lists less than
before, what is missing counts as withdrawn once the server says of each that it is gone.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import httpx

from headrace.core.ids import SiteId
from headrace.core.power.instruction import Instruction
from headrace.core.power.openadr import Finding, FollowedEvent, Heard, SiteSignals, read
from headrace.core.power.openadr_reports import (
    ACKNOWLEDGED,
    DueReport,
    Metered,
    Span,
    acknowledgement,
    due,
    operating_state,
    report_body,
)
from headrace.core.units import MS_PER_HOUR, MS_PER_SECOND
from headrace.ports import Clock
from headrace.signals.declared import VtnModel
from headrace.signals.openadr_http import Listed, VtnClient, VtnError

FIRST_RETRY_MS = MS_PER_SECOND
MOST_RETRY_MS = 60 * MS_PER_SECOND
REGISTER_EVERY_MS = MS_PER_HOUR
MOST_REPORTS = 100
"""Reports of one poll; the others go with the next."""
MOST_ASKED_AFTER = 50
"""Events that are gone from the list and are asked for by id; of more it is said that the list is not to be believed."""
_REFUSED = (400, 403, 404, 409, 422)


class SiteMeter(Protocol):
    """What reports say of a site's power."""

    def metered(self, site: SiteId, from_ms: int, until_ms: int) -> Metered | None:
        """What the site drew from ``from_ms`` until ``until_ms``; None when nothing was read."""
        ...


class NoMeter:
    """Where nothing is metered: reports say that the reading is missing."""

    def metered(self, _site: SiteId, _from_ms: int, _until_ms: int) -> Metered | None:
        """Nothing."""
        return None


@dataclass(frozen=True, slots=True)
class VenState:
    """What a VTN says for our sites, as far as it is known.

    ``heard_ms``: when the whole of it was last heard (0: never). ``trouble``: why not since ("": it was). ``findings`` are all
    that is odd, those of registration and reports too. ``reports``: how many were sent since the start.
    """

    vtn: str
    poll_ms: int
    heard: Heard = Heard()
    heard_ms: int = 0
    trouble: str = ""
    skew_ms: int = 0
    reports: int = 0
    findings: tuple[Finding, ...] = ()

    def instructions(self, now_ms: int) -> tuple[Instruction, ...]:
        """What holds now or later: of what was last heard, what has not ended."""
        return tuple(one for one in self.heard.instructions if not one.until_ms or one.until_ms > now_ms)

    def line(self, now_ms: int) -> str:
        """How things stand with the server, in one line."""
        every = f"asked every {self.poll_ms / MS_PER_SECOND:g} s"
        if not self.trouble:
            return f"{self.vtn}: heard {max(0, now_ms - self.heard_ms) / MS_PER_SECOND:.0f} s ago, {every}"
        if not self.heard_ms:
            return f"{self.vtn}: never heard: {self.trouble}"
        held = len(self.instructions(now_ms))
        ago = f"{max(0, now_ms - self.heard_ms) / MS_PER_SECOND:.0f} s ago"
        return f"{self.vtn}: {self.trouble}; {held} instructions heard {ago} hold until their end"


class Ven:
    """One VTN's client. ``listen`` is one turn; ``run`` goes on until it is cancelled. ``state`` is what is known."""

    def __init__(
        self,
        vtn: VtnModel,
        clock: Clock,
        meter: SiteMeter | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._vtn, self._clock = vtn, clock
        self._meter: SiteMeter = meter or NoMeter()
        self._chance = chance or random.Random()
        self._client = VtnClient(vtn, clock.now_ms, transport)
        self._sites: list[SiteSignals] = vtn.signals()
        self._events: dict[str, Any] = {}
        self._programs: dict[str, str] = {}
        self._sent: dict[str, set[str]] = {}
        self._registered_ms: int | None = None
        self._failures = 0
        self._notes: dict[str, Finding] = {}
        self.state = VenState(vtn.name, vtn.poll)

    async def aclose(self) -> None:
        """End its connections."""
        await self._client.aclose()

    async def listen(self) -> int:
        """One turn of hearing; in how many milliseconds the next is due. What goes wrong stands in ``state.trouble``."""
        if self._registered_ms is None:
            # A VTN shows what means us only to who is registered. That it can't be done keeps nobody from hearing the rest.
            await self._apart("registration", self.register())
        try:
            await self.poll()
        except VtnError as error:
            self._failures += 1
            self.state = replace(self.state, trouble=str(error), findings=self._findings())
            return self._back_off_ms(error)
        self._failures = 0
        return self._vtn.poll

    async def tell(self) -> None:
        """What there is to tell the VTN: who we are, once an hour, and the reports that are due."""
        await self._apart("registration", self.register())
        await self._apart("reports", self.report())

    async def _apart(self, what: str, task: Awaitable[None]) -> None:
        """Do something whose failure is a finding, and no reason not to hear."""
        try:
            await task
        except VtnError as error:
            # That nobody answers is told by the poll.
            said = f"{what} can't be sent: {error}" if error.status else ""
            self._note(f"{what} fails", said, "it is tried again")
        else:
            self._note(f"{what} fails")
        self.state = replace(self.state, findings=self._findings())

    def _back_off_ms(self, error: VtnError) -> int:
        most_ms = min(MOST_RETRY_MS, FIRST_RETRY_MS << min(self._failures - 1, 16))
        # Spread over the upper half, so that many clients don't come back at once.
        wait_ms = most_ms // 2 + self._chance.randrange(most_ms // 2 + 1)
        return max(wait_ms, error.retry_after_ms)

    async def poll(self) -> VenState:
        """Ask for programs and events, and read what they say; VtnError leaves what was heard before."""
        now_ms = self._clock.now_ms()
        programs = await self._list("programs", [])
        only = self._followed_programs(programs.objects)
        listed = await self._listed_events(only)
        events, is_whole = await self._with_missing(listed, now_ms)
        # Ten thousand events take a second: others go on meanwhile.
        heard = await asyncio.to_thread(
            read,
            events,
            programs.objects,
            self._sites,
            server=self._vtn.name,
            now_ms=now_ms,
            skew_ms=self._client.skew_ms,
            only_programs=only,
        )
        if not is_whole:
            heard = self._kept(heard, now_ms)
        self._events = {one["id"]: one for one in events if _has_id(one)}
        live = {one.id for one in heard.followed}
        self._sent = {key: names for key, names in self._sent.items() if key in live}
        self.state = VenState(
            self._vtn.name,
            self._vtn.poll,
            heard,
            now_ms,
            "",
            self._client.skew_ms,
            self.state.reports,
            (*heard.findings, *self._notes.values()),
        )
        return self.state

    def _findings(self) -> tuple[Finding, ...]:
        return (*self.state.heard.findings, *self._notes.values())

    def _note(self, key: str, message: str = "", effect: str = "", event: str = "") -> None:
        """Keep something that is odd until it is not any more (no ``message``)."""
        if message:
            self._notes[key] = Finding(key.partition(" ")[0], event, -1, message, effect)
        else:
            self._notes.pop(key, None)

    def _followed_programs(self, programs: Iterable[Any]) -> frozenset[str] | None:
        """Ids of the declared programs; None: all are followed. One that is not shown any more is still known by its id."""
        if not self._vtn.programs:
            return None
        by_name = {
            one.get("programName"): one["id"] for one in programs if isinstance(one, dict) and _has_id(one)
        }
        for name in self._vtn.programs:
            missing = "" if name in by_name else f"it shows us no program {name!r}"
            effect = (
                "its events are asked for by its last id"
                if name in self._programs
                else "nothing of it is heard"
            )
            self._note(f"program {name}", missing, effect)
            if name in by_name:
                self._programs[name] = by_name[name]
        return frozenset(self._programs.values())

    async def _list(self, kind: str, asked: list[tuple[str, str]]) -> Listed:
        """What is open to all, and what means us: a server shows the latter only to who names the target, one at a time.

        Of an object's targets it shows those that were asked for: what is otherwise alike is one object, with all of them.
        """
        found = [await self._client.list(kind, asked)]
        found += [await self._client.list(kind, [*asked, ("targets", one)]) for one in self._vtn.targets]
        if len(found) == 1:
            return found[0]
        merged: dict[str, Any] = {}
        for one in (one for each in found for one in each.objects):
            targets = one.get("targets") if isinstance(one, dict) else None
            if not isinstance(targets, list):
                merged.setdefault(json.dumps(one, sort_keys=True), one)
                continue
            key = json.dumps({**one, "targets": 0}, sort_keys=True)
            before = merged.get(key, one)["targets"]
            merged[key] = {
                **one,
                "targets": [*before, *(target for target in targets if target not in before)],
            }
        return Listed(tuple(merged.values()), all(each.is_whole for each in found))

    async def _listed_events(self, only: frozenset[str] | None) -> Listed:
        # Not `active`: an active event is one that holds now, and those to come matter as much.
        if only is None:
            return await self._list("events", [])
        found = [await self._list("events", [("programID", program)]) for program in sorted(only)]
        return Listed(
            tuple(one for each in found for one in each.objects), all(each.is_whole for each in found)
        )

    async def _with_missing(self, listed: Listed, now_ms: int) -> tuple[list[Any], bool]:
        """The list, with those that were heard before, still hold, and are in truth still there: pages shift while one reads."""
        events = list(listed.objects)
        there = {one["id"] for one in events if _has_id(one)}
        holding = {
            ident
            for ident in self._events
            if ident not in there and any(f"/{ident}/" in one.id for one in self.state.instructions(now_ms))
        }
        is_whole = listed.is_whole and len(holding) <= MOST_ASKED_AFTER
        for ident in sorted(holding)[:MOST_ASKED_AFTER]:
            found = await self._still_there(ident)
            if found is not None:
                events.append(found)
        message = "" if is_whole else "its list can't be read to the end"
        self._note("partial", message, "what was heard before holds until its end")
        return events, is_whole

    async def _still_there(self, ident: str) -> Any:
        try:
            return await self._client.ask("GET", f"/events/{ident}")
        except VtnError as error:
            if error.status == 404:
                return None
            raise

    def _kept(self, heard: Heard, now_ms: int) -> Heard:
        """``heard``, and what held before and is not told otherwise."""
        known = {one.id for one in heard.instructions}
        kept = [one for one in self.state.instructions(now_ms) if one.id not in known]
        return replace(heard, instructions=(*heard.instructions, *kept))

    async def register(self) -> None:
        """Make ourselves and our sites known to the VTN, where they aren't yet; at first, and once an hour. VtnError: not now.

        That it is refused keeps nobody from hearing what is open to all: it is a finding.
        """
        now_ms = self._clock.now_ms()
        if self._registered_ms is not None and now_ms - self._registered_ms < REGISTER_EVERY_MS:
            return
        try:
            await self._register()
        except VtnError as error:
            if error.status not in _REFUSED:
                raise
            self._note("registration", f"registration is refused: {error}", "untargeted events are heard")
        else:
            self._note("registration")
        self._registered_ms = now_ms

    async def _register(self) -> None:
        name = self._vtn.ven
        ven = await self._own("vens", "venName", name, [("venName", name)])
        if ven is None:
            body = {"objectType": "VEN_VEN_REQUEST", "venName": name}
            ven = await self._client.ask("POST", "/vens", body=body)
        if not isinstance(ven, dict) or not _has_id(ven):
            raise VtnError("POST /vens gave no ven")
        for site in self._sites:
            await self._register_resource(ven["id"], site)

    async def _register_resource(self, ven: str, site: SiteSignals) -> None:
        name = self._vtn.resources[site.site]
        attributes = [{"type": "MAX_POWER_CONSUMPTION", "values": [site.connection_w / 1_000]}]
        body = {
            "objectType": "VEN_RESOURCE_REQUEST",
            "resourceName": name,
            "venID": ven,
            "attributes": attributes,
        }
        found = await self._own("resources", "resourceName", name, [("venID", ven), ("resourceName", name)])
        if found is None:
            await self._client.ask("POST", "/resources", body=body)
        elif found.get("attributes") != attributes:
            await self._client.ask("PUT", f"/resources/{found['id']}", body=body)

    async def _own(
        self, kind: str, field: str, name: str, asked: list[tuple[str, str]]
    ) -> dict[str, Any] | None:
        listed = await self._client.list(kind, asked)
        return next(
            (
                one
                for one in listed.objects
                if isinstance(one, dict) and one.get(field) == name and _has_id(one)
            ),
            None,
        )

    async def report(self) -> None:
        """Send the acknowledgements and reports that are due; what is refused is a finding, and is not tried again."""
        now_ms = self._clock.now_ms()
        room, looks = MOST_REPORTS, MOST_REPORTS
        for event in self.state.heard.followed:
            looks -= event.id not in self._sent
            if not room or not looks:
                break
            found, findings = due(event, now_ms)
            for finding in findings:
                self._note(f"report {event.id} {finding.message}", finding.message, finding.effect, event.id)
            # What says something that nobody knows is not said to be followed.
            acknowledges = self._vtn.acknowledge and event.is_understood
            if not found and not acknowledges:
                continue
            sent = await self._names_sent(event)
            bodies = [self._body(one) for one in found if one.name not in sent]
            if acknowledges and f"{ACKNOWLEDGED}-{event.revision}" not in sent:
                bodies.insert(0, self._acknowledgement(event, now_ms))
            for body in bodies[:room]:
                await self._send(event, body, sent)
            room -= len(bodies[:room])
        self.state = replace(self.state, findings=self._findings())

    async def _names_sent(self, event: FollowedEvent) -> set[str]:
        """Names of the reports that the VTN has of us for an event: after a restart nothing is told twice."""
        if event.id not in self._sent:
            listed = await self._client.list(
                "reports", [("eventID", event.id), ("clientName", self._vtn.ven)]
            )
            self._sent[event.id] = {
                one["reportName"]
                for one in listed.objects
                if isinstance(one, dict) and isinstance(one.get("reportName"), str)
            }
        return self._sent[event.id]

    async def _send(self, event: FollowedEvent, body: dict[str, Any], sent: set[str]) -> None:
        name = body["reportName"]
        try:
            await self._client.ask("POST", "/reports", body=body)
        except VtnError as error:
            if error.status not in _REFUSED:
                raise
            self._note(
                f"report {event.id} {name}", f"report {name} is refused: {error}", "it is let be", event.id
            )
        else:
            self.state = replace(self.state, reports=self.state.reports + 1)
        sent.add(name)

    def _acknowledgement(self, event: FollowedEvent, now_ms: int) -> dict[str, Any]:
        states = {
            site: operating_state(site, self.state.heard.instructions, now_ms, now_ms + 1)
            for site in event.sites
        }
        return acknowledgement(event, self._vtn.ven, self._vtn.resources, states)

    def _body(self, one: DueReport) -> dict[str, Any]:
        drawn: dict[tuple[SiteId, Span], Metered | None] = {
            (site, span): self._meter.metered(site, span.from_ms, span.until_ms)
            for site in one.sites
            for span in one.spans
        }
        simple_w = {site.site: site.simple_w for site in self._sites}
        return report_body(
            one, self._vtn.ven, self._vtn.resources, drawn, self.state.heard.instructions, simple_w
        )


def _event_of(one: Instruction) -> str:
    """The event that gave an instruction."""
    return one.id.split("/")[1].partition("#")[0]


def _has_id(one: object) -> bool:
    """Whether an object has an id that may stand in an address."""
    ident = one.get("id") if isinstance(one, dict) else None
    return (
        isinstance(ident, str)
        and 0 < len(ident) <= 128
        and all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in ident)
    )
