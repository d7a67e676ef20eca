"""Which reports an OpenADR 3.1 event asks for, when each is due, and what it says of a site's power.

Reports look back: ``USAGE``, ``DEMAND``, ``READING``, ``OPERATING_STATE``, ``SIMPLE_LEVEL`` and ``SETPOINT``. A forecast is not
given, for there is none that could be stood by; a type that is not known here is not given either: findings tell both. When a
report is due follows the User Guide, 7.5: at the end of an interval. ``DATA_QUALITY`` says whether a meter or a model spoke.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.core.ids import SiteId
from headrace.core.power.instruction import Instruction
from headrace.core.power.openadr import Finding, FollowedEvent
from headrace.core.power.openadr_times import Schedule
from headrace.core.power.reading import PowerReading, PowerSource

AGGREGATED = "AGGREGATED_REPORT"
"""The resource name of a report on several resources' sum."""
GIVEN = ("USAGE", "DEMAND", "READING", "OPERATING_STATE", "SIMPLE_LEVEL", "SETPOINT")
ACKNOWLEDGED = "acknowledged"
"""How the name of the report begins that says that an event was read."""
MOST_DESCRIPTORS = 20
MOST_INTERVALS = 1_000
MOST_BEHIND = 3
"""Of a report that comes again and again: so many of the last are still given."""
_POWER = {"W": 1, "KW": 1_000, "MW": 1_000_000}
_ENERGY_MJ = {"WH": 3_600_000, "KWH": 3_600_000_000, "MWH": 3_600_000_000_000}
_RANK: tuple[PowerSource, ...] = ("measured", "modelled", "nameplate", "stale")
_QUALITY = {"measured": "OK", "modelled": "ESTIMATED", "nameplate": "ESTIMATED", "stale": "BAD"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Metered:
    """What a site drew in a time: energy in millijoules, mean, peak and last power in watts, and the worst source among them."""

    energy_mj: int
    mean_w: int
    peak_w: int
    last_w: int
    source: PowerSource


def metered(readings: Sequence[PowerReading], from_ms: int, until_ms: int) -> Metered | None:
    """What ``readings`` say of a time: each holds until the next. None when nothing was read in it, nor just before it."""
    ordered = sorted(readings, key=lambda one: one.at_ms)
    inside = [one for one in ordered if from_ms <= one.at_ms < until_ms]
    before = [one for one in ordered if one.at_ms < from_ms][-1:]
    if not inside or until_ms <= from_ms:
        return None
    steps = [*before, *inside]
    ends = [one.at_ms for one in steps[1:]] + [until_ms]
    energy_mj = sum(one.watts * (end - max(from_ms, one.at_ms)) for one, end in zip(steps, ends, strict=True))
    covered_ms = until_ms - max(from_ms, steps[0].at_ms)
    return Metered(
        energy_mj,
        energy_mj // covered_ms if covered_ms else steps[-1].watts,
        max(one.watts for one in steps),
        steps[-1].watts,
        max((one.source for one in steps), key=_RANK.index),
    )


@dataclass(frozen=True, slots=True)
class Span:
    """One interval of an event as a report names it."""

    ident: int
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class DueReport:
    """A report that is due: of which event and descriptor, its ``name`` (the same each time), and the intervals it covers."""

    event: FollowedEvent
    name: str
    kind: str
    units: str
    reading: str
    is_aggregate: bool
    sites: tuple[SiteId, ...]
    spans: tuple[Span, ...]


def due(event: FollowedEvent, now_ms: int) -> tuple[list[DueReport], list[Finding]]:
    """The reports that an event asks for and whose time has come; what is asked for and not given is told."""
    found: list[DueReport] = []
    findings: list[Finding] = []
    for number, asked in enumerate(event.descriptors[:MOST_DESCRIPTORS]):
        kind = asked.get("payloadType") if isinstance(asked, Mapping) else None
        if not isinstance(kind, str) or kind not in GIVEN:
            what = f"a report of {kind[:40]!r}" if isinstance(kind, str) else "a report of no type"
            findings.append(Finding("report", event.id, -1, f"it asks for {what}", "none is given"))
        elif asked.get("historical", True) is False:
            findings.append(
                Finding("report", event.id, -1, f"it asks for a forecast of {kind}", "none is given")
            )
        else:
            found.extend(_of(event, number, kind, asked, now_ms))
    return found, findings


def _of(
    event: FollowedEvent, number: int, kind: str, asked: Mapping[str, Any], now_ms: int
) -> Iterator[DueReport]:
    turns = _Turns(event.schedule)
    length = len(turns.slots) or 1
    wanted, frequency = _count(asked, "numIntervals", -1), _count(asked, "frequency", -1)
    covers = wanted if wanted > 0 else (frequency if frequency > 0 else length)
    units, reading = asked.get("units"), asked.get("readingType")
    for turn, last in _lasts(asked, length, turns.ended(now_ms)):
        spans = [
            turns.span(index) for index in range(max(0, last - min(covers, MOST_INTERVALS) + 1), last + 1)
        ]
        yield DueReport(
            event,
            f"{kind}-{number}-{turn}",
            kind,
            units if isinstance(units, str) else "",
            reading if isinstance(reading, str) else "",
            asked.get("aggregate") is True,
            event.sites,
            tuple(spans),
        )


def _lasts(asked: Mapping[str, Any], length: int, ended: int) -> list[tuple[int, int]]:
    """Which reports are due, of those whose intervals have ``ended``: their numbers, and the numbers of their last intervals."""
    start, frequency = _count(asked, "startInterval", -1), _count(asked, "frequency", -1)
    repeat, wanted = _count(asked, "repeat", 1), _count(asked, "numIntervals", -1)
    # Zero leaves it to us: one for each interval, for as long as there are any.
    step = frequency if frequency > 0 else (1 if frequency == 0 else (wanted if wanted > 0 else length))
    first = start if start >= 0 else (step - 1 if frequency >= 0 else length - 1)
    if ended <= first:
        return []
    count = (ended - 1 - first) // step + 1
    if repeat >= 0 and frequency != 0:
        count = min(count, max(1, repeat))
    return [(turn, first + turn * step) for turn in range(max(0, count - MOST_BEHIND), count)]


def _count(asked: Mapping[str, Any], name: str, default: int) -> int:
    found = asked.get(name, default)
    return found if isinstance(found, int) and not isinstance(found, bool) else default


class _Turns:
    """The intervals of an event in one row, all rounds of a loop after one another."""

    def __init__(self, schedule: Schedule) -> None:
        self.slots = sorted(schedule.slots, key=lambda slot: (slot.end_ms, slot.latest_ms, slot.number))
        self._cycle_ms, self._end_ms = schedule.cycle_ms, schedule.end_ms

    def span(self, index: int) -> Span:
        """The interval with a number."""
        turn, number = divmod(index, len(self.slots))
        slot, shift_ms = self.slots[number], turn * self._cycle_ms
        until_ms = min(slot.end_ms + shift_ms, self._end_ms)
        return Span(slot.ident, min(slot.latest_ms + shift_ms, until_ms), until_ms)

    def ended(self, now_ms: int) -> int:
        """How many have ended."""
        if not self.slots:
            return 0
        until_ms = min(now_ms, self._end_ms)
        turns = 0
        if self._cycle_ms:
            turns = max(0, (until_ms - self.slots[-1].end_ms) // self._cycle_ms + 1)
        shift_ms = turns * self._cycle_ms
        # Of the round that is on its way, or cut off by the event's end.
        more = sum(
            min(slot.end_ms + shift_ms, self._end_ms) <= now_ms and slot.latest_ms + shift_ms < self._end_ms
            for slot in self.slots
        )
        return turns * len(self.slots) + more


def report_body(
    one: DueReport,
    client: str,
    resources: Mapping[SiteId, str],
    drawn: Mapping[tuple[SiteId, Span], Metered | None],
    instructions: Sequence[Instruction],
    simple_w: Mapping[SiteId, Sequence[int]],
) -> dict[str, Any]:
    """A report as the document's ``reportRequest``: for each site's resource, or for their sum, what it did in each interval."""
    units = _unit_of(one)
    described: dict[str, Any] = {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": one.kind}
    if units:
        described["units"] = units
    if one.reading:
        described["readingType"] = one.reading
    groups = (
        [(AGGREGATED, one.sites)] if one.is_aggregate else [(resources[site], (site,)) for site in one.sites]
    )
    return {
        "eventID": one.event.id,
        "clientName": client,
        "reportName": one.name,
        "payloadDescriptors": [described],
        "resources": [
            {
                "resourceName": name,
                "intervals": [
                    {
                        "id": span.ident,
                        "intervalPeriod": _period(span),
                        "payloads": _payloads(one, units, sites, span, drawn, instructions, simple_w),
                    }
                    for span in one.spans
                ],
            }
            for name, sites in groups
        ],
    }


def acknowledgement(
    event: FollowedEvent, client: str, resources: Mapping[SiteId, str], states: Mapping[SiteId, str]
) -> dict[str, Any]:
    """The report that says that an event was read, and each site's operating state with it."""
    idents = [slot.ident for slot in event.schedule.slots[:1]] or [0]
    return {
        "eventID": event.id,
        "clientName": client,
        "reportName": f"{ACKNOWLEDGED}-{event.revision}",
        "payloadDescriptors": [{"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "OPERATING_STATE"}],
        "resources": [
            {
                "resourceName": resources[site],
                "intervals": [
                    {"id": ident, "payloads": [{"type": "OPERATING_STATE", "values": [states[site]]}]}
                    for ident in idents
                ],
            }
            for site in event.sites
        ],
    }


def operating_state(site: SiteId, instructions: Sequence[Instruction], from_ms: int, until_ms: int) -> str:
    """``RUNNING_CURTAILED`` where an instruction held at any time in it, ``NORMAL`` else."""
    held = any(
        one.site == site and one.from_ms < until_ms and (not one.until_ms or one.until_ms > from_ms)
        for one in instructions
    )
    return "RUNNING_CURTAILED" if held else "NORMAL"


def _period(span: Span) -> dict[str, str]:
    seconds, rest = divmod(span.until_ms - span.from_ms, 1_000)
    start = (_EPOCH + timedelta(milliseconds=span.from_ms)).isoformat().replace("+00:00", "Z")
    return {"start": start, "duration": f"PT{seconds}.{rest:03d}S" if rest else f"PT{seconds}S"}


def _unit_of(one: DueReport) -> str:
    match one.kind:
        case "USAGE":
            return one.units if one.units in _ENERGY_MJ else "KWH"
        case "DEMAND" | "READING" | "SETPOINT":
            return one.units if one.units in _POWER else "KW"
        case _:
            return ""


def _payloads(
    one: DueReport,
    units: str,
    sites: Sequence[SiteId],
    span: Span,
    drawn: Mapping[tuple[SiteId, Span], Metered | None],
    instructions: Sequence[Instruction],
    simple_w: Mapping[SiteId, Sequence[int]],
) -> list[dict[str, Any]]:
    """The value of one interval, and its quality where it was metered."""
    held = [
        other
        for other in instructions
        if other.site in sites
        and other.from_ms < span.until_ms
        and (not other.until_ms or other.until_ms > span.from_ms)
    ]
    if one.kind == "OPERATING_STATE":
        return [_value(one.kind, "RUNNING_CURTAILED" if held else "NORMAL")]
    if one.kind == "SIMPLE_LEVEL":
        return [_value(one.kind, max((_level(other, simple_w) for other in held), default=0))]
    if one.kind == "SETPOINT":
        limits = [
            min((other.limit_w for other in held if other.site == site), default=None) for site in sites
        ]
        known = [limit for limit in limits if limit is not None]
        return [_value(one.kind, sum(known) / _POWER[units])] if len(known) == len(sites) else []
    found = [drawn.get((site, span)) for site in sites]
    read = [each for each in found if each is not None]
    if len(read) < len(found):
        # The enumeration wants a number beside MISSING; nothing is what it says was read.
        return [_value(one.kind, 0), _value("DATA_QUALITY", "MISSING")]
    worst = max((each.source for each in read), key=_RANK.index)
    return [_value(one.kind, _amount(one, units, read)), _value("DATA_QUALITY", _QUALITY[worst])]


def _amount(one: DueReport, units: str, read: Sequence[Metered]) -> float:
    if one.kind == "USAGE":
        return sum(each.energy_mj for each in read) / _ENERGY_MJ[units]
    if one.kind == "READING":
        return sum(each.last_w for each in read) / _POWER[units]
    watts = (each.peak_w if one.reading == "PEAK" else each.mean_w for each in read)
    return sum(watts) / _POWER[units]


def _level(one: Instruction, simple_w: Mapping[SiteId, Sequence[int]]) -> int:
    """The SIMPLE level whose limit an instruction is as strict as."""
    return sum(one.limit_w <= limit for limit in simple_w[one.site])


def _value(kind: str, value: float | str) -> dict[str, Any]:
    return {"type": kind, "values": [value]}
