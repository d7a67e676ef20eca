"""What the journal says of an instruction: its versions, the site's draw, who was told and did it; by replaying the events.

The draw is modelled: the most that what the journal has placed at the site can draw, at its meter, after each event. It is the
only one that the journal holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from headrace.core import events as ev
from headrace.core.apply import apply
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.estate import Operator, Site
from headrace.core.ids import PlacementId, PowerNodeId, SiteId
from headrace.core.power.instruction import InstructionId
from headrace.core.power.pue import meter_watts
from headrace.core.power.reading import PowerReading
from headrace.core.power.settlement import Version
from headrace.core.workload import EndReason
from headrace.core.world import World
from headrace.journal.checkpoint import without_collection
from headrace.journal.codec import Group, decode
from headrace.journal.sqlite import SqliteStore

_GIVEN = {ev.KIND_OF[ev.InstructionReceived], ev.KIND_OF[ev.InstructionWithdrawn]}


@dataclass(slots=True)
class Told:
    """One instruction as the journal has it: ``versions`` with the events that made them (``seqs``) and ended them (None: none).

    ``ended_by`` goes with ``versions``.
    """

    site: SiteId
    versions: list[Version] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    ended_by: list[int | None] = field(default_factory=list)

    def end(self, at_ms: int, seq: int) -> None:
        """It was withdrawn, or replaced."""
        if not self.versions[-1].ended_ms:
            self.versions[-1] = replace(self.versions[-1], ended_ms=at_ms)
            self.ended_by[-1] = seq

    def is_over(self, at_ms: int) -> bool:
        """Whether its last version had ended by then."""
        return self.versions[-1].ends_ms <= at_ms


@dataclass(slots=True)
class Replayed:
    """What a replay found of one instruction at its site; ``events`` are (number, kind, time) of what belongs to it."""

    journal: str
    operator: Operator
    site: Site
    told: Told
    readings: list[PowerReading]
    events: list[tuple[int, str, int]]


def kinds_of(group: Group) -> Iterator[int]:
    """The kinds of a group's events, by their headers alone."""
    headers, at = group.headers, 0
    while at < len(headers):
        yield int.from_bytes(headers[at + 2 : at + 4])
        at += 48 + 56 * headers[at + 1]


def instructions(store: SqliteStore, size: int) -> dict[InstructionId, list[Told]]:
    """Every instruction among the first ``size`` events; one that was given again after it was over has several entries."""
    found: dict[InstructionId, list[Told]] = {}
    for group in _groups(store, size):
        if _GIVEN.isdisjoint(kinds_of(group)):
            continue
        for one in decode(group):
            if isinstance(one.event, ev.InstructionReceived):
                _receive(found, one, one.event)
            elif isinstance(one.event, ev.InstructionWithdrawn):
                found[one.event.instruction][-1].end(one.at_ms, one.seq)
    return found


def _receive(
    found: dict[InstructionId, list[Told]], one: ev.Committed, event: ev.InstructionReceived
) -> None:
    entries = found.setdefault(event.instruction.id, [])
    last = entries[-1] if entries else None
    if last is None or last.site != event.instruction.site or last.is_over(one.at_ms):
        if last is not None:
            last.end(one.at_ms, one.seq)
        last = Told(event.instruction.site)
        entries.append(last)
    else:
        last.end(one.at_ms, one.seq)
    last.versions.append(Version(event.instruction, one.at_ms))
    last.seqs.append(one.seq)
    last.ended_by.append(None)


def _groups(store: SqliteStore, size: int) -> Iterator[Group]:
    for group in store.groups():
        if group.first >= size:
            return
        yield group


class Follower:
    """Follows one instruction, and the draw of its site, through a replay."""

    def __init__(self, told: Told) -> None:
        self.world = World()
        self.told = told
        self.name = told.versions[0].instruction.id
        self.journal = ""
        self.operator: Operator | None = None
        self.site: Site | None = None
        self.readings: list[PowerReading] = []
        self.events: list[tuple[int, str, int]] = []
        self._own = {one for one in (*told.seqs, *told.ended_by) if one is not None}
        self._ordered: set[PlacementId] = set()

    def take(self, one: ev.Committed) -> None:
        """Apply an event, and see what it says."""
        if self._belongs(one):
            self.events.append((one.seq, type(one.event).__name__, one.at_ms))
        apply(self.world, one)
        if one.seq == self.told.seqs[0]:
            self.site = self.world.site(self.told.site)
            self.operator = self.world.estate.operator if self.world.estate else None
        self._read(one.at_ms)

    def _read(self, at_ms: int) -> None:
        world = self.world
        root = world.fleet.power_index.get(PowerNodeId(self.told.site))
        if root is None:
            return
        watts = meter_watts(world.site(self.told.site), int(world.power_w[root]))
        readings = self.readings
        # Within one millisecond the last one counts: what was between two events of one commit never was.
        if readings and readings[-1].at_ms == at_ms:
            readings.pop()
        if not readings or readings[-1].watts != watts:
            readings.append(PowerReading(watts, at_ms, "modelled"))

    def _belongs(self, one: ev.Committed) -> bool:
        match one.event:
            case ev.JournalOpened(journal=journal):
                self.journal = journal
                return True
            case ev.InstructionReceived() | ev.InstructionWithdrawn():
                return one.seq in self._own
            case ev.CurtailmentOrdered(placement=placement, instruction=name):
                return name == self.name and self._order(placement, one.at_ms)
            case ev.EvictionRequested(placement=placement, reason=EndReason.CURTAILED, detail=detail):
                said = f"the grid limits {self.told.site} (instruction {self.name})"
                return detail.startswith(said) and self._order(placement, one.at_ms)
            case ev.CurtailmentLifted(placement=placement) | ev.PauseObserved(placement=placement):
                return placement in self._ordered
            case ev.PlacementEnded(placement=placement):
                is_ours = placement in self._ordered
                self._ordered.discard(placement)
                return is_ours
            case ev.AlarmRaised(promise=1, subject=subject):
                return subject == self.told.site and self._is_its_time(one.at_ms)
            case _:
                return False

    def _order(self, placement: PlacementId, at_ms: int) -> bool:
        if self._is_its_time(at_ms):
            self._ordered.add(placement)
            return True
        return False

    def _is_its_time(self, at_ms: int) -> bool:
        return self.told.versions[0].received_ms <= at_ms < self.told.versions[-1].ends_ms


def replay(store: SqliteStore, told: Told, size: int) -> Replayed:
    """Replay the first ``size`` events for one instruction; what a site draws changes by events alone."""
    follower = Follower(told)
    with without_collection():
        for group in _groups(store, size):
            for one in decode(group):
                follower.take(one)
    if follower.site is None or follower.operator is None:
        step = "Ask for an instruction of a site that is in the estate."
        raise HeadraceError(Problem(ProblemCode.BROKEN, f"the journal has no site {told.site!r}.", step))
    return Replayed(
        follower.journal,
        follower.operator,
        follower.site,
        told,
        follower.readings,
        follower.events,
    )
