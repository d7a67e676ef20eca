"""The estate: operator, sites, power tree, blocks, node groups.

These are declarations, as an estate file states them after its edge (``headrace.documents``) has validated them.
:mod:`headrace.core.fleet` compiles them into the columns that decisions are made on.
"""

from dataclasses import dataclass, field
from typing import Literal

from headrace.core.hardware import HardwareType
from headrace.core.ids import OperatorId, SiteId, TenantId

PowerKind = Literal["transformer", "feed", "ups", "busway", "block", "row", "rack"]
EnergySource = Literal["hydro", "wind", "solar", "nuclear", "gas", "coal", "grid-mix", "unknown"]


@dataclass(frozen=True, slots=True)
class Connection:
    """What the grid allows at a site, in watts at the meter (cooling included): firm, and flexible on top of it."""

    firm_w: int
    flexible_w: int = 0

    @property
    def total_w(self) -> int:
        """Firm and flexible watts together."""
        return self.firm_w + self.flexible_w


@dataclass(frozen=True, slots=True)
class PowerElement:
    """An element of a site's power tree between the connection and the blocks; ``rating_w`` is IT load, derated.

    ``fed_by`` names another element of the site; empty means the connection itself.
    """

    id: str
    kind: PowerKind
    rating_w: int
    fed_by: str = ""


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Racks of equal nodes: ``racks`` racks of ``nodes_per_rack`` nodes of one hardware type, each rack rated ``rack_rating_w``.

    The last rack may be short: ``nodes`` (0: all) counts the nodes of the group. ``rail_racks`` racks next to each other hang
    on the same rails of the network (0: all of the group).
    """

    id: str
    hardware: str
    racks: int = 1
    nodes_per_rack: int = 1
    rack_rating_w: int = 0
    nodes: int = 0
    rail_racks: int = 0

    @property
    def node_count(self) -> int:
        """Nodes in the group."""
        return self.nodes or self.racks * self.nodes_per_rack


@dataclass(frozen=True, slots=True)
class Block:
    """A modular unit that is delivered and commissioned as one; its nodes can be placed on from ``commissioned``.

    Dates are ISO 8601 days, empty when not known: a block without a day of commissioning is a plan, not capacity.
    """

    id: str
    groups: tuple[NodeGroup, ...]
    fed_by: str = ""
    rating_w: int = 0
    delivered: str = ""
    commissioned: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """One place with one grid connection.

    ``country`` is an ISO 3166 alpha-2 code, empty when not known: then nothing is ever placed there. ``zone`` is an IANA
    time zone. ``carbon_g_per_kwh`` and ``energy_price_micros_per_kwh`` are declared constants. ``dedicated_to`` names the one
    tenant that the whole site serves. ``claims`` are statements about the site that physics may contradict: watts, accelerators.
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


@dataclass(frozen=True, slots=True)
class Operator:
    """Who runs the estate; billing periods are months in its ``zone``."""

    id: OperatorId
    name: str
    country: str
    zone: str
    currency: str


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
