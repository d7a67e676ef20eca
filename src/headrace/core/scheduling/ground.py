"""The estate as it was declared, read once more for :mod:`~headrace.core.scheduling.check`: nodes by name, power above them.

Nothing here is shared with :mod:`headrace.core.fleet`, which the planner reads.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from headrace.core.estate import Block, NodeGroup, Site
from headrace.core.hardware import HardwareType
from headrace.core.sovereignty.plain import PROFILES
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import Level, PolicyRef, Resources, WorkloadSpec


def countries_of(policy: PolicyRef) -> tuple[str, ...] | None:
    """The countries that a policy lists; empty for all of them, or for none named; None for what is no list: rules decide."""
    if policy.countries or not policy.profile:
        return policy.countries
    profile = PROFILES.get(policy.profile)
    return None if profile is None else profile.countries


def would_do(spec: WorkloadSpec, option: int) -> Resources | None:
    """What each node of an option gives: 0 is what was asked for first; None when there is no such option."""
    if option == 0:
        return spec.resources
    if not 0 < option <= len(spec.alternatives):
        return None
    other = spec.alternatives[option - 1]
    return replace(spec.resources, accelerator=other.accelerator, accelerators=other.accelerators)


@dataclass(frozen=True, slots=True)
class Group:
    """A group of nodes where it hangs: ``above`` are the elements from its block up to the connection.

    ``engine`` is its block's, or its site's where that says nothing.
    """

    ident: str
    site: int
    declared: NodeGroup
    hardware: HardwareType
    first: int
    commissioned: str
    above: tuple[str, ...]
    engine: str

    def nodes_in(self, rack: int) -> int:
        """How many nodes stand in a rack: the last one may be short."""
        before = rack * self.declared.nodes_per_rack
        return max(0, min(self.declared.nodes_per_rack, self.declared.node_count - before))

    @property
    def count(self) -> int:
        """How many nodes the group has."""
        return min(self.declared.node_count, self.declared.racks * self.declared.nodes_per_rack)

    def is_commissioned(self, today: str) -> bool:
        """Whether its nodes may be placed on by their date."""
        return self.commissioned != "" and self.commissioned <= today

    @property
    def rack_limit_w(self) -> int:
        """What a rack may draw: its rating, or the nameplate of its nodes when none is stated."""
        return self.declared.rack_rating_w or self.hardware.nameplate_w * self.declared.nodes_per_rack


@dataclass(frozen=True, slots=True)
class Spot:
    """A node, found by its name: ``number`` counts in its rack, ``index`` in the order of the estate."""

    group: Group
    rack: int
    number: int
    index: int

    @property
    def rack_ident(self) -> str:
        """The rack that it is in, by its name in the power tree."""
        return f"{self.group.ident}-{self.rack}"

    @property
    def path(self) -> tuple[str, ...]:
        """The elements of the power tree above it, its rack first."""
        return (self.rack_ident, *self.group.above)

    def place(self, level: Level) -> tuple[object, ...]:
        """The group of a level that it is in; two nodes are in one group exactly when these are equal."""
        match level:
            case "domain":
                return self.group.ident, self.rack, self.number // max(1, self.group.hardware.domain_nodes)
            case "rack":
                return self.group.ident, self.rack
            case "rail":
                width = self.group.declared.rail_racks
                return self.group.ident, self.rack // width if width else 0
            case "pod":
                return (self.group.above[0],)
            case "site":
                return (self.group.site,)


@dataclass(frozen=True, slots=True)
class Ground:
    """The declared estate: groups by ``site/block/group``, and what the elements above the racks may draw.

    ``limit_w`` is IT load, but at a connection watts at the meter. ``site_of`` numbers the sites.
    """

    groups: dict[str, Group]
    limit_w: dict[str, int]
    pue_permille: dict[str, int]
    site_of: dict[str, int]

    def find(self, node: str) -> Spot | None:
        """The node ``site/block/group-rack-number``, or None when the estate has none of that name."""
        parts = node.rsplit("-", 2)
        group = self.groups.get(parts[0])
        if group is None or len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
            return None
        rack, number = int(parts[1]), int(parts[2])
        if node != f"{parts[0]}-{rack}-{number}":
            return None
        if rack >= group.declared.racks or number >= group.nodes_in(rack):
            return None
        return Spot(group, rack, number, group.first + rack * group.declared.nodes_per_rack + number)

    def chain(self, element: str) -> tuple[str, ...]:
        """An element of the power tree and all above it; nothing for an unknown one."""
        for group in self.groups.values():
            if element in group.above:
                return group.above[group.above.index(element) :]
            if element.rpartition("-")[0] == group.ident:
                return (element, *group.above)
        return ()


# Deciding again and again on one estate is the rule; reading a large one takes milliseconds.
@lru_cache(maxsize=8)
def read(sites: tuple[Site, ...], hardware: tuple[HardwareType, ...]) -> Ground:
    """The ground of some sites, whose groups are of these types of node."""
    types = {kind.id: kind for kind in hardware}
    ground = Ground({}, {}, {}, {site.id: number for number, site in enumerate(sites)})
    first = 0
    for number, site in enumerate(sites):
        # By a curve it is no multiple of the load: headrace.core.power.survive looks at those.
        if site.pue_curve is None:
            ground.limit_w[site.id] = site.connection.total_w
        ground.pue_permille[site.id] = site.pue_permille
        feeders = {element.id: element.fed_by for element in site.power}
        for element in site.power:
            ground.limit_w[f"{site.id}/{element.id}"] = element.rating_w
        for block in site.blocks:
            above = _above(site, block, feeders)
            if block.rating_w:
                ground.limit_w[above[0]] = block.rating_w
            for declared in block.groups:
                ident = f"{above[0]}/{declared.id}"
                commissioned = block.commissioned if site.country else ""
                of = types[declared.hardware], first, commissioned, above, block.engine or site.engine
                group = Group(ident, number, declared, *of)
                ground.groups[ident] = group
                first += group.count
    return ground


def _above(site: Site, block: Block, feeders: dict[str, str]) -> tuple[str, ...]:
    """Elements from a block up to the connection, both included."""
    path, element = [f"{site.id}/{block.id}"], block.fed_by
    # An element that was passed already means a cycle: the edge refuses it, and this must end all the same.
    while element and f"{site.id}/{element}" not in path:
        path.append(f"{site.id}/{element}")
        element = feeders.get(element, "")
    return (*path, site.id)


def draw_w(hardware: HardwareType, ranks: int, loud: int) -> int:
    """The most that a node draws: idle, or its base, the accelerators of the mask ``loud`` in full and the others idle."""
    if not ranks:
        return hardware.idle_w
    resting = hardware.accelerators - loud.bit_count()
    return hardware.nameplate_w - resting * (hardware.accelerator_w - hardware.accelerator_idle_w)


def day_of(at_ms: int) -> str:
    """The day in UTC, in ISO form, that a moment is in."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + at_ms // MS_PER_DAY).isoformat()


def local_day_of(at_ms: int, zone: str) -> str:
    """The day in an IANA zone, in ISO form: contracts begin and end by it."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(ZoneInfo(zone)).date().isoformat()
