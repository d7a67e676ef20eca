"""From the events of an OpenADR 3.1 server (a VTN) to the instructions that hold for our sites.

Level-triggered: the result is a function of the list that the server has now, so that events which are repeated, reordered,
modified or withdrawn do what they say. Followed are ``IMPORT_CAPACITY_LIMIT``, ``DISPATCH_SETPOINT``, ``SIMPLE`` and
``ALERT_GRID_EMERGENCY``, as the 3.1.1 enumerations define them.

Garbage never loosens: where a limit can't be read the site's ``unreadable_w`` holds, a time that can't be read holds at once and
until it is withdrawn, and of contradicting events the least limit counts whatever their priorities. Findings tell all of it.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any

from headrace.core.ids import SiteId
from headrace.core.power.instruction import Instruction, InstructionId, Urgency
from headrace.core.power.openadr_times import FOREVER_MS, Schedule, Window, schedule_of
from headrace.core.units import PERMILLE, format_watts

LIMIT, SETPOINT, SIMPLE, EMERGENCY = (
    "IMPORT_CAPACITY_LIMIT",
    "DISPATCH_SETPOINT",
    "SIMPLE",
    "ALERT_GRID_EMERGENCY",
)
FOLLOWED = (LIMIT, SETPOINT, SIMPLE, EMERGENCY)
"""Payload types that become instructions."""
OTHERS = frozenset(
    """
    PRICE PRICE_ALTERNATE EXPORT_PRICE GHG CURVE OLS CHARGE_STATE_SETPOINT DISPATCH_SETPOINT_RELATIVE DISPATCH_INSTRUCTION
    CONTROL_SETPOINT CONTROL_LEVEL_OFFSET CONTROL_LEVEL_OFFSET_PERCENT IMPORT_CAPACITY_SUBSCRIPTION IMPORT_CAPACITY_RESERVATION
    IMPORT_CAPACITY_RESERVATION_FEE IMPORT_CAPACITY_AVAILABLE IMPORT_CAPACITY_AVAILABLE_PRICE EXPORT_CAPACITY_SUBSCRIPTION
    EXPORT_CAPACITY_RESERVATION EXPORT_CAPACITY_RESERVATION_FEE EXPORT_CAPACITY_AVAILABLE EXPORT_CAPACITY_AVAILABLE_PRICE
    EXPORT_CAPACITY_LIMIT ALERT_BLACK_START ALERT_POSSIBLE_OUTAGE ALERT_FLEX_ALERT ALERT_FIRE ALERT_FREEZING ALERT_WIND
    ALERT_TSUNAMI ALERT_AIR_QUALITY ALERT_OTHER CTA2045_REBOOT CTA2045_SET_OVERRIDE_STATUS
    """.split()  # noqa: SIM905 - it reads as the list that it is
)
"""The other payload types of the 3.1.1 enumerations: known, and not followed."""
LIKENESS = 0.85
"""How like a followed type one must be that nobody knows, to be taken for a slip in its name."""
SOURCE = "openadr"
MOST_PER_SITE = 1_000
"""Instructions for one site; what is more is held as one, at its least limit for all of its time."""
MOST_FINDINGS = 200
MOST_TEXT = 128
ABSURD = 10
"""A limit of more than so many connections is a slip in its unit, not a limit."""
SKEW_MS = 5_000
"""Clocks that differ by less agree: a server tells its time in whole seconds, and an answer travels."""
MOST_SKEW_MS = 86_400_000
_UNITS = {"W": 1, "KW": 1_000, "kW": 1_000, "MW": 1_000_000, "GW": 1_000_000_000}
"""What a value counts, in watts. ``KW`` is the enumeration's only power; ``mW`` is left out, for it may be a thousandth."""
_MOST_DIGITS = 40


@dataclass(frozen=True, slots=True)
class SiteSignals:
    """What the operator declares for a site; all powers in watts at its meter.

    ``simple_w``: what SIMPLE's levels 1, 2 and 3 allow. ``unreadable_w`` holds where a limit is meant and can't be read.
    ``targets``: strings by which events mean it (one without targets means every site). ``zone`` reads times without an offset.
    ``is_generation_positive``: DISPATCH_SETPOINT counts consumption as negative; the enumeration counts it as positive.
    """

    site: SiteId
    connection_w: int
    simple_w: tuple[int, int, int]
    emergency_w: int
    unreadable_w: int
    targets: frozenset[str] = frozenset()
    zone: str = "UTC"
    is_generation_positive: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: of which event and interval (-1: the event; "": the server), and what is done."""

    code: str
    event: str
    interval: int
    message: str
    effect: str

    def line(self) -> str:
        """It in one line."""
        where = f"event {self.event}" if self.event else "the VTN"
        place = f", interval {self.interval}" if self.interval >= 0 else ""
        return f"{where}{place}: {self.message}; {self.effect}."


@dataclass(frozen=True, slots=True)
class FollowedEvent:
    """An event that means our ``sites``: what reports need of it. ``revision`` changes whenever it does.

    ``is_understood``: all that it says has a type that is known, so that it can be acknowledged.
    """

    id: str
    name: str
    revision: str
    sites: tuple[SiteId, ...]
    schedule: Schedule
    descriptors: tuple[Any, ...]
    is_understood: bool = True


@dataclass(frozen=True, slots=True)
class Heard:
    """What a server's list says for our sites: instructions, what is odd about them, and the events that mean us."""

    instructions: tuple[Instruction, ...] = ()
    findings: tuple[Finding, ...] = ()
    followed: tuple[FollowedEvent, ...] = ()
    events: int = 0

    def active(self, now_ms: int) -> tuple[Instruction, ...]:
        """The instructions that hold at ``now_ms``."""
        return tuple(one for one in self.instructions if one.is_active(now_ms))

    def limit_w(self, site: SiteId, now_ms: int) -> int | None:
        """The least limit that holds for a site, None when none does."""
        return min((one.limit_w for one in self.active(now_ms) if one.site == site), default=None)


@dataclass(frozen=True, slots=True)
class Difference:
    """How two lists of instructions differ, by id."""

    given: tuple[Instruction, ...]
    changed: tuple[Instruction, ...]
    withdrawn: tuple[Instruction, ...]


def difference(before: Iterable[Instruction], after: Iterable[Instruction]) -> Difference:
    """What came, what reads otherwise now, and what is gone."""
    old, new = {one.id: one for one in before}, {one.id: one for one in after}
    return Difference(
        tuple(one for key, one in new.items() if key not in old),
        tuple(one for key, one in new.items() if key in old and old[key] != one),
        tuple(one for key, one in old.items() if key not in new),
    )


def read(
    events: Sequence[object],
    programs: Sequence[object],
    sites: Sequence[SiteSignals],
    *,
    server: str,
    now_ms: int,
    skew_ms: int = 0,
    only_programs: frozenset[str] | None = None,
) -> Heard:
    """What the ``events`` and ``programs`` of ``server`` (JSON as decoded, believed in nothing) say for ``sites``.

    ``skew_ms``: how far the server's clock is ahead of ours; limits then hold by both clocks. ``only_programs``: ids of the
    programs that are followed (None: all). What has ended is left out.
    """
    reader = _Reader(programs, sites, server, now_ms, skew_ms)
    for ident, event in _distinct(events, reader):
        if _is_ours(event, only_programs, ident, reader):
            reader.event(ident, event)
    reader.weigh_priorities()
    kept = [one for site in sites for one in _bounded(reader.by_site[site.site], site.site, server, reader)]
    kept.sort(key=lambda one: (one.site, one.from_ms, one.id))
    return Heard(tuple(kept), reader.told(), tuple(reader.followed), len(events))


def _distinct(events: Sequence[object], reader: "_Reader") -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Events with ids of their own: what is listed twice alike counts once; what differs under one id counts each time."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for event in events:
        if not isinstance(event, Mapping):
            reader.find("unreadable", "", -1, "an event is no object", "it can't mean anything")
            continue
        digest = hashlib.sha256(json.dumps(event, sort_keys=True, default=str).encode()).hexdigest()[:12]
        ident = event.get("id")
        if not isinstance(ident, str) or not 0 < len(ident) <= MOST_TEXT or not ident.isprintable():
            ident = f"unnamed-{digest}"
            reader.find("no_id", ident, -1, "it has no id", "it is known by what it says")
        found.setdefault(ident, {})[digest] = event
    for ident, versions in found.items():
        if len(versions) > 1:
            reader.find("twice", ident, -1, f"it is listed in {len(versions)} versions", "each of them holds")
        for digest, event in versions.items():
            # By what it says, not by its place in the list: an order means nothing.
            yield (f"{ident}#{digest}" if len(versions) > 1 else ident), event


def _is_ours(event: Mapping[str, Any], only: frozenset[str] | None, ident: str, reader: "_Reader") -> bool:
    if only is None:
        return True
    program = event.get("programID")
    if isinstance(program, str) and program:
        return program in only
    reader.find("no_program", ident, -1, "it names no program", "it is followed all the same")
    return True


def _targets(event: Mapping[str, Any]) -> frozenset[str] | None:
    """Whom an event means; None: everybody, also where that can't be read. OpenADR 3.0's ``{type, values}`` are read too."""
    said = event.get("targets")
    if not isinstance(said, list | tuple) or not said:
        return None
    found: set[str] = set()
    for one in said:
        values = one.get("values") if isinstance(one, Mapping) else [one]
        if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
            return None
        found.update(values)
    return frozenset(found)


def _units(holder: object) -> dict[str, object]:
    """Units by payload type, as an event or its program describes them."""
    said = holder.get("payloadDescriptors") if isinstance(holder, Mapping) else None
    return {
        one["payloadType"].strip().upper(): one.get("units")
        for one in (said if isinstance(said, list | tuple) else ())
        if isinstance(one, Mapping) and isinstance(one.get("payloadType"), str)
    }


@dataclass(frozen=True, slots=True)
class _Said:
    """What a payload says for a site: a limit in watts (None: none), and what is odd about it."""

    limit_w: int | None
    urgency: Urgency = "normal"
    text: str = ""
    odd: tuple[str, str, str] | None = None


class _Reader:
    """Collects what the events of one list say."""

    def __init__(
        self, programs: Sequence[object], sites: Sequence[SiteSignals], server: str, now_ms: int, skew_ms: int
    ) -> None:
        self._sites, self._server, self._now_ms = sites, server, now_ms
        self._units_of = {
            one["id"]: _units(one)
            for one in programs
            if isinstance(one, Mapping) and isinstance(one.get("id"), str)
        }
        self.by_site: dict[SiteId, list[Instruction]] = defaultdict(list)
        self.followed: list[FollowedEvent] = []
        self._findings: dict[Finding, None] = {}
        self._more: Counter[str] = Counter()
        self._priorities: dict[InstructionId, int] = {}
        self._skew_ms = self._believed(skew_ms)

    def _believed(self, skew_ms: int) -> int:
        if abs(skew_ms) <= SKEW_MS:
            return 0
        ahead = "ahead of" if skew_ms > 0 else "behind"
        effect = "limits hold by both clocks"
        if abs(skew_ms) > MOST_SKEW_MS:
            effect = "limits hold a day earlier or longer, no more"
        self.find("skew", "", -1, f"its clock is {abs(skew_ms) // 1000} s {ahead} ours", effect)
        return max(-MOST_SKEW_MS, min(MOST_SKEW_MS, skew_ms))

    def find(self, code: str, event: str, interval: int, message: str, effect: str) -> None:
        """Note something; beyond :data:`MOST_FINDINGS` only how often."""
        if len(self._findings) < MOST_FINDINGS:
            self._findings[Finding(code, event, interval, message, effect)] = None
        else:
            self._more[code] += 1

    def told(self) -> tuple[Finding, ...]:
        """All findings, and how many there are besides."""
        besides = (
            Finding("more", "", -1, f"{count} more findings of {code}", "they are dealt with alike")
            for code, count in sorted(self._more.items())
        )
        return (*self._findings, *besides)

    def event(self, ident: str, event: Mapping[str, Any]) -> None:
        """What one event says for each site that it means."""
        wanted = _targets(event)
        meant = [site for site in self._sites if wanted is None or wanted & site.targets]
        if not meant:
            return
        units = self._units_of.get(str(event.get("programID")), {}) | _units(event)
        schedules: dict[str, Schedule] = {}
        for site in meant:
            if site.zone not in schedules:
                schedules[site.zone] = found = schedule_of(event, self._now_ms, site.zone)
                for doubt in found.doubts:
                    self.find(doubt.code, ident, doubt.interval, doubt.message, doubt.effect)
            for window in schedules[site.zone].windows(self._now_ms):
                self._window(ident, event, site, window, units)
        unknown = _unknown_types(schedules[meant[0].zone])
        for kind in unknown:
            self._unknown(ident, kind, meant)
        asked = event.get("reportDescriptors")
        self.followed.append(
            FollowedEvent(
                ident.partition("#")[0],
                _text(event.get("eventName")),
                _text(event.get("modificationDateTime")),
                tuple(site.site for site in meant),
                self._implied(event) if asked and not event.get("intervals") else schedules[meant[0].zone],
                tuple(asked) if isinstance(asked, list | tuple) else (),
                not unknown,
            )
        )

    def _unknown(self, ident: str, kind: str, meant: Sequence[SiteSignals]) -> None:
        """Tell of a payload type that nobody knows, and what is done where it may be a slip."""
        near = _near(kind)
        message = f"it has the payload type {_text(kind)!r}, which nobody knows"
        effect = "it is not followed, and not acknowledged"
        if near:
            message += f" (did it mean {near}?)"
            held = ", ".join(f"{format_watts(one.unreadable_w)} holds at {one.site}" for one in meant)
            effect = f"{held}, and it is not acknowledged"
        self.find("unknown_type", ident, -1, message, effect)

    def _implied(self, event: Mapping[str, Any]) -> Schedule:
        """The intervals on which an event without any wants reports: its own period, again and again (User Guide, 7.5)."""
        whole = event.get("duration") or "P9999Y"
        return schedule_of(
            {**event, "intervals": [{"id": 0, "payloads": []}], "duration": whole}, self._now_ms
        )

    def _window(
        self,
        ident: str,
        event: Mapping[str, Any],
        site: SiteSignals,
        window: Window,
        units: Mapping[str, object],
    ) -> None:
        from_ms, until_ms = self._held(ident, window)
        if until_ms <= self._now_ms:
            return
        number = window.slot.number
        for position, payload in enumerate(self._payloads(ident, window)):
            kind, values = _payload(payload)
            if kind and kind not in FOLLOWED and not _near(kind):
                continue
            said = _say(kind, values, units.get(kind), site)
            if said.odd is not None:
                self.find(said.odd[0], ident, number, said.odd[1], said.odd[2])
            if said.limit_w is None:
                continue
            turn = f"@{window.round}" if window.round else ""
            key = f"{SOURCE}:{self._server}/{ident}/{number}{turn}.{position}/{site.site}"
            name = _text(event.get("eventName")) or ident
            priority = event.get("priority")
            rank = f", priority {priority}" if isinstance(priority, int) else ""
            one = Instruction(
                id=InstructionId(key),
                site=site.site,
                limit_w=min(said.limit_w, site.connection_w),
                from_ms=max(0, from_ms),
                until_ms=0 if until_ms >= FOREVER_MS else until_ms,
                source=SOURCE,
                urgency=said.urgency,
                note=f"{_text(kind) or 'unreadable'}{said.text}; {name}{rank}",
            )
            self.by_site[site.site].append(one)
            self._priorities[one.id] = priority if isinstance(priority, int) else 10**9

    def _payloads(self, ident: str, window: Window) -> Sequence[object]:
        said = window.slot.payloads
        if isinstance(said, list | tuple):
            return said
        number = window.slot.number
        self.find("unreadable", ident, number, "its payloads are no list", "what can't be read holds")
        return (None,)

    def _held(self, ident: str, window: Window) -> tuple[int, int]:
        """From when until when a slot is held: by both clocks, and never less than it says where a random start is allowed."""
        from_ms = window.from_ms - max(0, self._skew_ms)
        until_ms = window.until_ms
        if until_ms < FOREVER_MS:
            until_ms += max(0, -self._skew_ms)
        if window.slot.random_ms:
            extent_ms = window.until_ms - window.from_ms
            far_ms = min(window.slot.random_ms, extent_ms)
            from_ms -= far_ms * _draw(self._server, ident, "start") // PERMILLE
            until_ms += far_ms * _draw(self._server, ident, "end") // PERMILLE
        return from_ms, min(until_ms, FOREVER_MS)

    def weigh_priorities(self) -> None:
        """Tell where a stricter event of lower priority holds beside one of higher priority."""
        for found in self.by_site.values():
            active = [one for one in found if one.is_active(self._now_ms)]
            least = min(active, key=lambda one: one.limit_w, default=None)
            if least is None:
                continue
            first = min(active, key=lambda one: self._priorities[one.id])
            if self._priorities[first.id] < self._priorities[least.id] and first.limit_w > least.limit_w:
                message = (
                    f"{first.id} has the higher priority and allows {format_watts(first.limit_w)}, "
                    f"{least.id} {format_watts(least.limit_w)}"
                )
                self.find("contradiction", "", -1, message, "the least limit holds; withdraw it to lift it")


def _draw(*words: str) -> int:
    """A number from 0 to 1,000 that is always the same for the same words: chance that can be repeated."""
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:4], "big") % (PERMILLE + 1)


def _text(value: object) -> str:
    """A text of the server's for people: printable, and short."""
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in value[:MOST_TEXT]).strip()


def _payload(payload: object) -> tuple[str, object]:
    """The type of a payload ("": it can't be told) and its values."""
    if not isinstance(payload, Mapping) or not isinstance(payload.get("type"), str):
        return "", None
    return payload["type"].strip().upper(), payload.get("values")


def _unknown_types(schedule: Schedule) -> list[str]:
    """Payload types of an event that are none of the enumeration."""
    listed = [slot.payloads for slot in schedule.slots if isinstance(slot.payloads, list | tuple)]
    kinds = {_payload(payload)[0] for payloads in listed for payload in payloads}
    return sorted(kinds - OTHERS - {"", *FOLLOWED})


def _near(kind: str) -> str:
    """The followed type that an unknown one is a slip of, by all likelihood; "" for none."""
    if kind in OTHERS:
        return ""
    return next(iter(get_close_matches(kind[:MOST_TEXT], FOLLOWED, 1, LIKENESS)), "")


def _say(kind: str, values: object, unit: object, site: SiteSignals) -> _Said:
    """What a payload of ``kind`` ("": unknown) says for a site."""
    match kind:
        case "":
            return _unreadable(site, "a payload has no type")
        case "ALERT_GRID_EMERGENCY":
            said = _text(values[0]) if isinstance(values, list | tuple) and values else ""
            return _Said(site.emergency_w, "emergency", f" {said}" if said else "")
        case "SIMPLE":
            return _simple(values, site)
        case "IMPORT_CAPACITY_LIMIT" | "DISPATCH_SETPOINT":
            return _power(kind, values, unit, site)
        case _:
            # A slip in a type's name, which is told of the event: what may be a limit that can't be read holds as one.
            return _Said(site.unreadable_w, text=" is no type")


def _unreadable(site: SiteSignals, message: str, code: str = "unreadable") -> _Said:
    effect = f"{format_watts(site.unreadable_w)} holds at {site.site}"
    return _Said(site.unreadable_w, odd=(code, message, effect))


def _simple(values: object, site: SiteSignals) -> _Said:
    found = _numbers(values)
    if found is not None and all(one in (0, 1, 2, 3) for one in found):
        level = int(max(found))
        odd = None
        if len(found) > 1:
            odd = ("several_values", f"SIMPLE has {len(found)} values", f"level {level} holds throughout")
        return _Said(site.simple_w[level - 1] if level else None, text=f" level {level}", odd=odd)
    least_w = min(site.simple_w)
    message = "SIMPLE has no level from 0 to 3"
    return _Said(least_w, odd=("unreadable", message, f"{format_watts(least_w)} holds at {site.site}"))


def _numbers(values: object) -> list[Decimal] | None:
    """Values as exact numbers, also those in quotes; None when there are none or one of them is not finite."""
    if not isinstance(values, list | tuple) or not values:
        return None
    found = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
            return None
        try:
            number = Decimal(str(value)) if len(str(value)) <= _MOST_DIGITS else Decimal("nan")
        except (InvalidOperation, ValueError):
            return None
        if not number.is_finite():
            return None
        found.append(number)
    return found


def _power(kind: str, values: object, unit: object, site: SiteSignals) -> _Said:
    """A limit or a setpoint: the least of its values, in whole watts rounded down."""
    numbers = _numbers(values)
    if numbers is None:
        return _unreadable(site, f"{kind} has no number that can be read")
    odd = None
    if unit is None or unit == "":
        odd = ("no_unit", f"{kind} has no unit", "kilowatts are taken, the only power of the enumeration")
    scale = _UNITS.get("KW" if odd else str(unit))
    if scale is None:
        return _unreadable(site, f"{kind} has the unit {_text(unit) or 'of no text'}", "unknown_unit")
    if kind == SETPOINT and site.is_generation_positive:
        numbers = [-one for one in numbers]
    least = min(numbers)
    if least.adjusted() > _MOST_DIGITS or least * scale > ABSURD * site.connection_w:
        return _unreadable(
            site, f"{kind} is more than {ABSURD} times the connection of {site.site}", "absurd"
        )
    limit_w = int(least * scale // 1) if least > 0 else 0
    if least < 0:
        odd = ("negative", f"{kind} is below nothing", f"0 W holds at {site.site}: nothing is drawn")
    elif len(numbers) > 1:
        odd = ("several_values", f"{kind} has {len(numbers)} values", "the least of them holds throughout")
    elif limit_w > site.connection_w:
        odd = ("above_connection", f"{kind} is above the connection of {site.site}", "the connection holds")
    return _Said(limit_w, text=f" {format_watts(limit_w)}", odd=odd)


def _bounded(found: list[Instruction], site: SiteId, server: str, reader: _Reader) -> list[Instruction]:
    """At most :data:`MOST_PER_SITE` instructions: the strictest as they are, all others as one as strict as each of them."""
    if len(found) <= MOST_PER_SITE:
        return found
    found = sorted(found, key=lambda one: (one.urgency != "emergency", one.limit_w, one.from_ms, one.id))
    kept, rest = found[: MOST_PER_SITE - 1], found[MOST_PER_SITE - 1 :]
    message = f"{len(found)} instructions for {site}"
    reader.find("too_many", "", -1, message, f"the {len(rest)} loosest are held as one, at the least of them")
    hull = replace(
        min(rest, key=lambda one: one.limit_w),
        id=InstructionId(f"{SOURCE}:{server}/rest/{site}"),
        from_ms=min(one.from_ms for one in rest),
        until_ms=0 if any(not one.until_ms for one in rest) else max(one.until_ms for one in rest),
        urgency="emergency" if any(one.urgency == "emergency" for one in rest) else "normal",
        note=f"the least of {len(rest)} instructions",
    )
    return [*kept, hull]
