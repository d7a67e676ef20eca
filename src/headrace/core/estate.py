"""The estate: operator, sites, power tree, blocks, node groups.

These are declarations, as an estate file states them after its edge (``headrace.documents``) has validated them.
:mod:`headrace.core.fleet` compiles them into the columns that decisions are made on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from headrace.core.hardware import HardwareType
from headrace.core.ids import OperatorId, SiteId, TenantId
from headrace.core.units import MS_PER_SECOND
from headrace.core.workload import PolicyRef

PowerKind = Literal["transformer", "feed", "ups", "busway", "block", "row", "rack"]
EnergySource = Literal["hydro", "wind", "solar", "nuclear", "gas", "coal", "grid-mix", "unknown"]
Redundancy = Literal["", "single", "N+1", "2N", "distributed"]
"""How something is said to be fed; empty: nothing is said. What each means: :mod:`headrace.core.power.redundancy`."""

MINUTES_PER_DAY = 1_440
_DAYS_AHEAD = 9
"""A week of local days, and one more on either side: what changes at all changes within them."""
_QUARTER_S = 900


@dataclass(frozen=True, slots=True)
class FlexibleWindow:
    """When the flexible part of a connection may be used: on ``days`` (0 is Monday), from one minute of the local day to another.

    ``until_minute`` is exclusive. If it is not after ``from_minute`` it is one of the next day: 22:00 to 06:00 on a Friday ends
    on Saturday morning.
    """

    days: tuple[int, ...]
    from_minute: int = 0
    until_minute: int = MINUTES_PER_DAY

    def is_open(self, local: datetime) -> bool:
        """Whether a local time lies in it."""
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.from_minute < self.until_minute:
            return day in self.days and self.from_minute <= minute < self.until_minute
        if minute >= self.from_minute and day in self.days:
            return True
        return minute < self.until_minute and (day - 1) % 7 in self.days


@dataclass(frozen=True, slots=True)
class Connection:
    """What the grid allows at a site, in watts at the meter (cooling included): firm, and flexible on top of it.

    ``windows`` say when the flexible part may be used, in the site's zone; none: always. ``ramp_up_w_per_minute`` and
    ``ramp_down_w_per_minute``: how fast what is drawn may rise and fall (0: at once).
    """

    firm_w: int
    flexible_w: int = 0
    ramp_up_w_per_minute: int = 0
    ramp_down_w_per_minute: int = 0
    windows: tuple[FlexibleWindow, ...] = ()

    @property
    def total_w(self) -> int:
        """Firm and flexible watts together."""
        return self.firm_w + self.flexible_w

    def limit_w(self, at_ms: int, zone: str) -> int:
        """Watts at the meter that are allowed at an instant; ``zone`` is the site's, in which the windows are written."""
        if not self.windows or not self.flexible_w:
            return self.total_w
        local = _local(at_ms // MS_PER_SECOND, ZoneInfo(zone))
        return self.total_w if any(one.is_open(local) for one in self.windows) else self.firm_w

    def next_change_ms(self, at_ms: int, zone: str) -> int | None:
        """The first instant after ``at_ms`` from which another limit holds than at ``at_ms``; None: it stays as it is."""
        if not self.windows or not self.flexible_w:
            return None
        now_w = self.limit_w(at_ms, zone)
        for moment_ms in sorted(set(self._moments_ms(at_ms, ZoneInfo(zone)))):
            if moment_ms > at_ms and self.limit_w(moment_ms, zone) != now_w:
                return moment_ms
        return None

    def _moments_ms(self, at_ms: int, zone: ZoneInfo) -> Iterator[int]:
        """Instants of the next days at which a window can open or close: its own, and where the clock is put on or back."""
        first_s = at_ms // MS_PER_SECOND // _QUARTER_S * _QUARTER_S
        today = _local(first_s, zone).date()
        minutes = sorted({minute for one in self.windows for minute in (one.from_minute, one.until_minute)})
        for number in range(-1, _DAYS_AHEAD):
            for minute in minutes:
                yield from _instants_ms(today + timedelta(days=number), minute, zone)
        offset = _local(first_s, zone).utcoffset()
        # Every zone changes its offset on a quarter of an hour of UTC.
        for at_s in range(first_s, first_s + _DAYS_AHEAD * MINUTES_PER_DAY * 60, _QUARTER_S):
            if (found := _local(at_s, zone).utcoffset()) != offset:
                offset = found
                yield at_s * MS_PER_SECOND


def _local(at_s: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_s, zone)


def _instants_ms(day: date, minute: int, zone: ZoneInfo) -> Iterator[int]:
    """When it is this minute of a local day: twice where the clock is put back over it."""
    naive = datetime.combine(day, time()) + timedelta(minutes=minute)
    for fold in (0, 1):
        yield int(naive.replace(tzinfo=zone, fold=fold).astimezone(UTC).timestamp()) * MS_PER_SECOND


def _feeds(fed_by: str, feeders: tuple[str, ...]) -> tuple[str, ...]:
    return feeders or ((fed_by,) if fed_by else ())


@dataclass(frozen=True, slots=True)
class PowerElement:
    """An element of a site's power tree between the connection and the blocks; ``rating_w`` is IT load, derated.

    ``fed_by`` names another element of the site; empty means the connection itself. What is fed by several has them in
    ``feeders`` (sorted, two or more) and nothing in ``fed_by``: its load splits equally among those of them that are live.
    ``breaker_w`` is the rating before its derating, 0 where only the derated one is stated. ``redundancy`` is a claim.
    """

    id: str
    kind: PowerKind
    rating_w: int
    fed_by: str = ""
    feeders: tuple[str, ...] = ()
    breaker_w: int = 0
    redundancy: Redundancy = ""

    @property
    def feeds(self) -> tuple[str, ...]:
        """All that feeds it; none: the connection itself."""
        return _feeds(self.fed_by, self.feeders)


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Racks of equal nodes: ``racks`` racks of ``nodes_per_rack`` nodes of one hardware type, each rack rated ``rack_rating_w``.

    The last rack may be short: ``nodes`` (0: all) counts the nodes of the group. ``rail_racks`` racks next to each other hang
    on the same rails of the network (0: all of the group). ``feeders`` are what feeds its racks where the block does not say
    it for all of its groups (one or more, sorted). ``rack_breaker_w`` is a rack's rating before its derating, where stated.
    """

    id: str
    hardware: str
    racks: int = 1
    nodes_per_rack: int = 1
    rack_rating_w: int = 0
    nodes: int = 0
    rail_racks: int = 0
    feeders: tuple[str, ...] = ()
    rack_breaker_w: int = 0
    redundancy: Redundancy = ""

    @property
    def node_count(self) -> int:
        """Nodes in the group."""
        return self.nodes or self.racks * self.nodes_per_rack


@dataclass(frozen=True, slots=True)
class Block:
    """A modular unit that is delivered and commissioned as one; its nodes can be placed on from ``commissioned``.

    Dates are ISO 8601 days, empty when not known: a block without a day of commissioning is a plan, not capacity. ``fed_by``,
    ``feeders``, ``breaker_w`` and ``redundancy`` are those of a power element. ``engine`` runs what is placed on it ("": its
    site's does); what has accelerators of one model at a site has one engine.
    """

    id: str
    groups: tuple[NodeGroup, ...]
    fed_by: str = ""
    rating_w: int = 0
    delivered: str = ""
    commissioned: str = ""
    feeders: tuple[str, ...] = ()
    breaker_w: int = 0
    redundancy: Redundancy = ""
    engine: str = ""

    @property
    def feeds(self) -> tuple[str, ...]:
        """All that feeds it; nothing: the connection itself, or what its groups say."""
        return _feeds(self.fed_by, self.feeders)


@dataclass(frozen=True, slots=True)
class PuePoint:
    """A point of a curve: at ``load_permille`` of the full load and ``outdoor_c`` degrees outside, the PUE in thousandths."""

    load_permille: int
    outdoor_c: int
    pue_permille: int


@dataclass(frozen=True, slots=True)
class PueCurve:
    """PUE by load and outdoor temperature; ``points`` are a grid without holes, by load and then temperature, up to full load.

    ``full_load_w`` is the IT load at 1,000 thousandths. Limits are kept for ``design_outdoor_c`` degrees Celsius.
    """

    design_outdoor_c: int
    full_load_w: int
    points: tuple[PuePoint, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """One place with one grid connection.

    ``country`` is an ISO 3166 alpha-2 code, empty when not known: then nothing is ever placed there. ``zone`` is an IANA
    time zone. ``carbon_g_per_kwh`` and ``energy_price_micros_per_kwh`` are declared constants. ``dedicated_to`` names the one
    tenant that the whole site serves. ``claims`` are statements about the site that physics may contradict: watts, accelerators.
    With a ``pue_curve``, ``pue_permille`` is what it says at full load and the design temperature. ``redundancy`` is claimed of
    every block.
    """

    id: SiteId
    country: str
    zone: str
    connection: Connection
    pue_permille: int
    carbon_g_per_kwh: int
    energy_price_micros_per_kwh: int
    currency: str
    engine: str = "local"
    name: str = ""
    grid_zone: str = ""
    latitude: float | None = None
    longitude: float | None = None
    energy_source: EnergySource = "unknown"
    dedicated_to: TenantId | None = None
    power: tuple[PowerElement, ...] = ()
    blocks: tuple[Block, ...] = ()
    claimed_accelerators: int = 0
    claimed_w: int = 0
    note: str = ""
    pue_curve: PueCurve | None = None
    redundancy: Redundancy = ""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who runs the estate; billing periods are months in its ``zone``.

    ``journal_policy``: where the control plane's own state may lie (none: anywhere).
    """

    id: OperatorId
    name: str
    country: str
    zone: str
    currency: str
    journal_policy: PolicyRef = PolicyRef()


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement about the whole estate (or its sites in ``country``) that arithmetic may contradict.

    At least ``accelerators`` commissioned, or ``power_w`` of connections; ``by`` an ISO day, empty for no day at all.
    """

    id: str
    country: str = ""
    accelerators: int = 0
    power_w: int = 0
    by: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Estate:
    """All that an operator has; ``hardware`` are types beyond the catalogue, or in place of its entries."""

    operator: Operator
    sites: tuple[Site, ...]
    hardware: dict[str, HardwareType] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
