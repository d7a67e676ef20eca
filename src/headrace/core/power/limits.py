"""What the grid lets a site draw, and from when on: its connection and the instructions that stand.

Two limits belong to a site. What may *start* is held to an instruction from ``LEAD_MS`` before it begins, so that nothing begins
that would have to go at once. What can't be shed (the *floor*: firm work, and idle nodes) is held to every instruction that is
known, however far away, and to the firm part of the connection: so the ladder always reaches its target.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from headrace.core.estate import Connection, Site
from headrace.core.ids import SiteId
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.units import MS_PER_MINUTE, MS_PER_SECOND, ceil_div

LEAD_MS = 15 * MS_PER_MINUTE
"""So long before an instruction begins nothing starts above it: as long as the longest grace of what is preemptible."""
RESPONSE_MS = 30 * MS_PER_SECOND
"""So long after an instruction that begins at once its site is at or under it."""
STEP_MS = 10 * MS_PER_SECOND
"""A limit that rises along a ramp rises in steps of this."""
NO_LIMIT_W = 1 << 50
NEVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class Standing:
    """An instruction that was received at ``received_ms``; kept after its end for as long as the site's ramp lasts.

    ``ramp_ms``: how long its site takes to come down to it from what it drew then, where its draw may fall only so fast.
    """

    instruction: Instruction
    received_ms: int
    ramp_ms: int = 0

    @property
    def due_ms(self) -> int:
        """From when on the site must be at or under it: of every point of its ramp as long after as without one."""
        return max(self.instruction.from_ms, self.received_ms + RESPONSE_MS + self.ramp_ms)

    def point_due_ms(self, now_ms: int) -> int:
        """By when the point of its ramp at which it is now must be reached."""
        return min(self.due_ms, max(self.instruction.from_ms, now_ms + RESPONSE_MS))

    @property
    def leads_ms(self) -> int:
        """From when on nothing starts above it, and whoever is above it may have to go."""
        return self.instruction.from_ms - LEAD_MS - self.ramp_ms

    def glides_w(self, ramp_down_w: int, now_ms: int) -> int:
        """So far above it the site still has to be now, so that its draw falls by no more than ``ramp_down_w`` in a minute.

        It is how its site aims; it is judged by the same line ``RESPONSE_MS`` later, since nothing acts at once.
        """
        left_ms = self.due_ms - RESPONSE_MS - now_ms
        return ramp_down_w * left_ms // MS_PER_MINUTE if ramp_down_w and left_ms > 0 else 0

    def ended(self, at_ms: int) -> "Standing":
        """The same, withdrawn at ``at_ms``; one that has not begun by then never holds."""
        return replace(self, instruction=replace(self.instruction, until_ms=at_ms))

    @property
    def was_in_force(self) -> bool:
        """Whether it ever began."""
        one = self.instruction
        return not one.until_ms or one.from_ms < one.until_ms

    def is_open(self, now_ms: int) -> bool:
        """Whether its end is still to come."""
        return not self.instruction.until_ms or now_ms < self.instruction.until_ms


def ramp_ms(ramp_down_w: int, over_w: int) -> int:
    """How long it takes to come down by ``over_w`` at ``ramp_down_w`` a minute (0: no time at all)."""
    return ceil_div(max(0, over_w) * MS_PER_MINUTE, ramp_down_w) if ramp_down_w else 0


def renewed(
    known: Standing | None, instruction: Instruction, at_ms: int, takes_ms: int = 0, ramp_down_w: int = 0
) -> Standing:
    """An instruction as it stands from ``at_ms`` on. One that repeats what holds already, or loosens it, gives no new time.

    ``takes_ms``: how long its site takes to come down to it, by no more than ``ramp_down_w`` a minute. Who was on the way
    to a deeper limit goes on along the same line, and is there sooner.
    """
    if known is not None and known.is_open(at_ms) and known.was_in_force:
        old = known.instruction
        if old.site == instruction.site and old.from_ms <= at_ms and old.limit_w <= instruction.limit_w:
            looser_ms = ramp_ms(ramp_down_w, instruction.limit_w - old.limit_w)
            return Standing(instruction, known.received_ms, max(0, known.ramp_ms - looser_ms))
    return Standing(instruction, at_ms, takes_ms)


WINDOWS = InstructionId("windows")
"""The name under which the hours of a connection's flexible part limit a site, as an instruction would."""


def standings_at(site: Site, given: Iterable[Standing], now_ms: int) -> list[Standing]:
    """Those given, and what the connection itself asks: outside the hours of its flexible part no more than the firm one."""
    found = list(given)
    if site.connection.windows:
        found += _closed(site.connection, site.id, site.zone, now_ms // MS_PER_MINUTE)
    return found


@lru_cache(maxsize=1_000)
def _closed(connection: Connection, site: SiteId, zone: str, minute: int) -> tuple[Standing, ...]:
    # Hours begin and end with a minute.
    now_ms = minute * MS_PER_MINUTE
    change_ms = connection.next_change_ms(now_ms, zone)
    if connection.limit_w(now_ms, zone) < connection.total_w:
        from_ms, until_ms = 0, change_ms or 0
    elif change_ms is not None:
        from_ms, until_ms = change_ms, connection.next_change_ms(change_ms, zone) or 0
    else:
        return ()
    one = Instruction(WINDOWS, site, connection.firm_w, from_ms, until_ms, "connection")
    return (Standing(one, 0),)


def limit_w(standing: Standing, ramp_up_w: int, now_ms: int) -> int:
    """What may start under an instruction now, watts at the meter: after its end ``ramp_up_w`` more a minute (0: all at once)."""
    one = standing.instruction
    if now_ms < standing.leads_ms or not standing.was_in_force:
        return NO_LIMIT_W
    if not one.until_ms or now_ms < one.until_ms:
        return one.limit_w
    if not ramp_up_w:
        return NO_LIMIT_W
    # Cut to whole steps: what it is between two of them is never more than the ramp allows.
    since_ms = (now_ms - one.until_ms) // STEP_MS * STEP_MS
    return one.limit_w + ramp_up_w * since_ms // MS_PER_MINUTE


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a site may draw, in watts at the meter, until ``until_ms`` at least.

    ``start_w``: what may be started up to; ``floor_w``: what may be beyond shedding.
    """

    start_w: int
    floor_w: int
    until_ms: int


def allowed(connection: Connection, standings: Iterable[Standing], now_ms: int) -> Allowed:
    """What a connection and the instructions that stand for its site allow now."""
    total_w, ramp_up_w = connection.total_w, connection.ramp_up_w_per_minute
    start_w = total_w
    floor_w = connection.firm_w
    until_ms = NEVER_MS
    for one in standings:
        now_w = limit_w(one, ramp_up_w, now_ms)
        start_w = min(start_w, now_w)
        if one.was_in_force and one.is_open(now_ms):
            floor_w = min(floor_w, one.instruction.limit_w)
        until_ms = min(until_ms, next_change_ms(one, ramp_up_w, total_w, now_ms))
    return Allowed(start_w, floor_w, until_ms)


def next_change_ms(standing: Standing, ramp_up_w: int, total_w: int, now_ms: int) -> int:
    """When what an instruction allows changes next by time alone; a time beyond all times when it does not."""
    one = standing.instruction
    moments = [standing.leads_ms, one.from_ms, standing.due_ms]
    if one.until_ms:
        moments.append(one.until_ms)
        if ramp_up_w and now_ms >= one.until_ms and limit_w(standing, ramp_up_w, now_ms) < total_w:
            moments.append(one.until_ms + ((now_ms - one.until_ms) // STEP_MS + 1) * STEP_MS)
    return min((at_ms for at_ms in moments if at_ms > now_ms), default=NEVER_MS)


def is_over(standing: Standing, ramp_up_w: int, total_w: int, now_ms: int) -> bool:
    """Whether an instruction has no effect any more on a connection of ``total_w``."""
    if standing.is_open(now_ms):
        return False
    return limit_w(standing, ramp_up_w, now_ms) >= total_w
