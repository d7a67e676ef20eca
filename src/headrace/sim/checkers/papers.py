"""The documents in force, read from the events that applied them, and the ground of the estate among them.

They are decoded here by the types alone (not by the code that the journal's world uses).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from headrace.core.contracts import Contract, Maintenance, PricePlan, Reservation, Tenant
from headrace.core.estate import Block, Estate, NodeGroup, Site
from headrace.core.events import Committed, DocumentApplied, DocumentRemoved
from headrace.core.hardware import CATALOGUE, HardwareType
from headrace.core.units import MS_PER_DAY, PERMILLE
from headrace.core.workload import PolicyRef
from headrace.sim.checkers.lawbook import LawBook

T = TypeVar("T")

_EPOCH_DAY = date(1970, 1, 1).toordinal()


def iso_day(at_ms: int) -> str:
    """The day in UTC, in ISO form, that a moment is in."""
    return date.fromordinal(_EPOCH_DAY + at_ms // MS_PER_DAY).isoformat()


@dataclass(frozen=True, slots=True)
class Spot:
    """A node: its site, its hardware, its path up the power tree (rack first), and its first day ("": never).

    ``number`` counts in its rack; ``rails`` names those that its rack hangs on.
    """

    node: str
    site: str
    hardware: HardwareType
    path: tuple[str, ...]
    from_day: str
    number: int
    rails: str

    def among(self, level: str) -> str:
        """The group of a level of the topology that it stands in."""
        rack, block = self.path[0], self.path[1]
        fabrics = {
            "domain": f"{rack}:{self.number // max(1, self.hardware.domain_nodes)}",
            "rack": rack,
            "rail": self.rails,
            "pod": block,
            "site": self.site,
        }
        return fabrics[level]

    def is_commissioned(self, today: str) -> bool:
        """Whether it may be placed on by its date."""
        return self.from_day != "" and self.from_day <= today


def draw_w(hardware: HardwareType, taken: int, ranks: int) -> int:
    """The most that a node draws: idle with no rank on it; else its base, its taken accelerators, the others idle.

    The base is what is left of the nameplate without the accelerators.
    """
    if ranks == 0:
        return hardware.idle_w
    rest = hardware.accelerators - taken
    accelerators_w = taken * hardware.accelerator_w + rest * hardware.accelerator_idle_w
    return hardware.nameplate_w - hardware.accelerators * hardware.accelerator_w + accelerators_w


class Ground:
    """Nodes and power elements of an estate. Limits are watts of IT load, at a connection too."""

    def __init__(self, estate: Estate | None) -> None:
        self.spots: dict[str, Spot] = {}
        self.limit_w: dict[str, int] = {}
        self.by_site: dict[str, list[Spot]] = {}
        self.above: dict[str, tuple[str, ...]] = {}
        """By element, itself and all that it is fed through."""
        self._idle: tuple[str, dict[str, int]] = ("", {})
        if estate is not None:
            types = CATALOGUE | estate.hardware
            for site in estate.sites:
                self._add_site(site, types)

    def _add_site(self, site: Site, types: dict[str, HardwareType]) -> None:
        # At the meter it is IT load x PUE / 1000, rounded up: within the limit exactly when IT load is within this.
        self.limit_w[site.id] = site.connection.total_w * PERMILLE // max(1, site.pue_permille)
        self.by_site[site.id] = []
        fed_by = {element.id: element.fed_by for element in site.power}
        for element in site.power:
            self.limit_w[f"{site.id}/{element.id}"] = element.rating_w
        for block in site.blocks:
            ident = f"{site.id}/{block.id}"
            if block.rating_w:
                self.limit_w[ident] = block.rating_w
            above, feeder = [ident], block.fed_by
            while feeder and len(above) <= len(fed_by) + 1:
                above.append(f"{site.id}/{feeder}")
                feeder = fed_by.get(feeder, "")
            for group in block.groups:
                if group.hardware in types:
                    self._add_group(site, block, group, types[group.hardware], (*above, site.id))

    def _add_group(
        self, site: Site, block: Block, group: NodeGroup, hardware: HardwareType, above: tuple[str, ...]
    ) -> None:
        from_day = block.commissioned if site.country else ""
        left = group.node_count
        for rack in range(group.racks):
            ident = f"{above[0]}/{group.id}-{rack}"
            rails = f"{above[0]}/{group.id}:{rack // (group.rail_racks or group.racks)}"
            self.limit_w[ident] = group.rack_rating_w or hardware.nameplate_w * group.nodes_per_rack
            for number in range(min(left, group.nodes_per_rack)):
                name, path = f"{ident}-{number}", (ident, *above)
                spot = Spot(name, site.id, hardware, path, from_day, number, rails)
                self.above.update((element, path[index:]) for index, element in enumerate(path))
                self.spots[spot.node] = spot
                self.by_site[site.id].append(spot)
            left -= group.nodes_per_rack

    def idle_w(self, today: str) -> dict[str, int]:
        """What every element draws when nothing runs; a node with a day is reserved for before that day."""
        if self._idle[0] != today:
            idle: dict[str, int] = {}
            for spot in self.spots.values():
                if spot.from_day:
                    for element in spot.path:
                        idle[element] = idle.get(element, 0) + spot.hardware.idle_w
            self._idle = (today, idle)
        return self._idle[1]


class Papers:
    """The estate, tenants, price plans, contracts and laws in force; ``unreadable`` names what could not be decoded.

    ``now_ms``: the moment of the last event, or of whatever is asked about.
    """

    def __init__(self) -> None:
        self.estate: Estate | None = None
        self.ground = Ground(None)
        self.sites: dict[str, Site] = {}
        self.tenants: dict[str, Tenant] = {}
        self.plans: dict[str, PricePlan] = {}
        self.contracts: dict[str, Contract] = {}
        self.reservations: dict[str, Reservation] = {}
        self.maintenances: dict[str, Maintenance] = {}
        self.laws = LawBook()
        self.unreadable: list[str] = []
        self.now_ms = 0

    def allows(self, ref: PolicyRef, tenant: str, site: Site, at_ms: int | None = None) -> bool:
        """Whether the law in force allows work of a tenant under a policy at a site, now or at another moment."""
        declared = self.tenants.get(tenant)
        seat = self.estate.operator.country if self.estate is not None else "unknown"
        return self.laws.allows(ref, declared, site, self.now_ms if at_ms is None else at_ms, seat)

    def contract_day(self, at_ms: int) -> str:
        """The day that contracts begin and end by: that of the operator's zone."""
        zone = "UTC" if self.estate is None else self.estate.operator.zone
        return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(ZoneInfo(zone)).date().isoformat()

    def observe(self, committed: Committed) -> None:
        """Take an event: those of documents count."""
        event, self.now_ms = committed.event, committed.at_ms
        if isinstance(event, DocumentApplied):
            self._applied(event)
            self.laws.changed()
        elif isinstance(event, DocumentRemoved):
            self._removed(event)
            self.laws.changed()

    def _applied(self, event: DocumentApplied) -> None:
        match event.kind:
            case "estate":
                self._use(self._read(Estate, event))
            case "tenant":
                self._keep(self.tenants, Tenant, event)
            case "price-plan":
                self._keep(self.plans, PricePlan, event)
            case "contract":
                self._keep(self.contracts, Contract, event)
            case "reservation":
                self._keep(self.reservations, Reservation, event)
            case "maintenance":
                self._keep(self.maintenances, Maintenance, event)
            case _:
                if not self.laws.take(event.kind, event.name, event.document):
                    self.unreadable.append(f"{event.kind}/{event.name}")

    def _removed(self, event: DocumentRemoved) -> None:
        table: dict[str, dict[str, Any]] = {
            "tenant": self.tenants,
            "price-plan": self.plans,
            "contract": self.contracts,
            "reservation": self.reservations,
            "maintenance": self.maintenances,
        }
        if event.kind == "estate":
            self._use(None)
        else:
            table.get(event.kind, {}).pop(event.name, None)
            self.laws.drop(event.kind, event.name)

    def _use(self, estate: Estate | None) -> None:
        self.estate = estate
        self.ground = Ground(estate)
        self.sites = {} if estate is None else {site.id: site for site in estate.sites}

    def _keep(self, table: dict[str, T], wanted: type[T], event: DocumentApplied) -> None:
        document = self._read(wanted, event)
        if document is not None:
            table[event.name] = document

    def _read(self, wanted: type[T], event: DocumentApplied) -> T | None:
        try:
            return msgspec.convert(event.document, wanted)
        except msgspec.ValidationError as error:
            self.unreadable.append(f"{event.kind}/{event.name}: {error}")
            return None

    def candidates(self, pinned: str | None) -> Iterator[Site]:
        """The sites that a workload may ask for: all, or the one it is pinned to."""
        for site in self.sites.values():
            if pinned is None or pinned == site.id:
                yield site
