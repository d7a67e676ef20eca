"""The fleet: an estate compiled into columns.

Index ``i`` is a node in every node column, ``p`` an element of the power tree in every power column. The order is
that of the estate, so that two processes agree on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.core.estate import Block, Estate, NodeGroup, Site
from headrace.core.hardware import CATALOGUE, HardwareType
from headrace.core.ids import NodeId, PowerNodeId, SiteId
from headrace.core.power.allot import TreeNode, allot
from headrace.core.power.pue import it_watts
from headrace.core.power.tree import graph_of, leaves_of

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class Fleet:
    """Columns over all nodes and all power elements; read-only once compiled.

    ``node_domain``, ``node_rail`` and ``node_pod`` number groups of nodes: on one fast fabric, on the same rails, in one block.
    ``power_parent`` is -1 at a connection. ``power_limit_w`` is IT load everywhere (at a connection the limit at the meter
    divided by the PUE). Where something has several feeders, elements of kind ``allotment`` stand for what they share, with
    limits that leave room for the loss of any one (:mod:`headrace.core.power.allot`). ``node_from_day`` is the first day (ISO, as
    ``yyyymmdd``) that a node can be placed on; 99991231 when never. ``own_engines`` are those of blocks that have another than
    their site, by number of the site and model of accelerator: nodes of one model at one site have one engine, so that a gang
    never has two.
    """

    sites: tuple[Site, ...]
    hardware: tuple[HardwareType, ...]
    node_ids: list[NodeId]
    node_index: dict[NodeId, int]
    node_site: I16
    node_hardware: I16
    node_leaf: I32
    node_from_day: I32
    node_domain: I32
    node_rail: I32
    node_pod: I32
    power_ids: list[PowerNodeId]
    power_index: dict[PowerNodeId, int]
    power_parent: I32
    power_site: I16
    power_limit_w: I64
    power_kind: list[str]
    site_index: dict[SiteId, int] = field(default_factory=dict)
    own_engines: dict[tuple[int, str], str] = field(default_factory=dict)

    def engine_at(self, site: int, model: str) -> str:
        """The engine that runs at site number ``site`` what asks for accelerators of a model ("": for none, or any)."""
        return self.own_engines.get((site, model)) or self.sites[site].engine

    def engine_of(self, node: int) -> str:
        """The engine of a node, by its number."""
        return self.engine_at(int(self.node_site[node]), self.hardware[self.node_hardware[node]].accelerator)

    def engine_under(self, site: SiteId, node: str) -> str:
        """The engine of a node of a site, by their names; its site's for one that is not there any more."""
        index = self.node_index.get(NodeId(node)) if self.own_engines else None
        return self.sites[self.site_index[site]].engine if index is None else self.engine_of(index)

    def engines_at(self, site: int) -> tuple[str, ...]:
        """All engines of site number ``site``, its own first."""
        own = (name for (number, _), name in self.own_engines.items() if number == site)
        return tuple(dict.fromkeys((self.sites[site].engine, *own)))

    def path(self, leaf: int) -> list[int]:
        """Power elements from ``leaf`` up to its connection, both included."""
        out = []
        while leaf >= 0:
            out.append(leaf)
            leaf = int(self.power_parent[leaf])
        return out


NEVER_DAY = 99991231


def day_number(day: str) -> int:
    """An ISO day as ``yyyymmdd``; ``NEVER_DAY`` for an empty one."""
    return int(day.replace("-", "")) if day else NEVER_DAY


class _Builder:
    def __init__(self, hardware: dict[str, HardwareType]) -> None:
        self.catalogue = CATALOGUE | hardware
        self.hardware: dict[str, int] = {}
        self.node_ids: list[NodeId] = []
        self.node_columns: list[tuple[int, ...]] = []
        self.own_engines: dict[tuple[int, str], str] = {}
        self.pods = self.rails = self.domains = 0
        self.power_ids: list[PowerNodeId] = []
        self.power_index: dict[PowerNodeId, int] = {}
        self.power_columns: list[tuple[int, int, int]] = []
        self.power_kind: list[str] = []

    def power(self, ident: str, parent: int, site: int, limit_w: int, kind: str) -> int:
        index = len(self.power_ids)
        self.power_ids.append(PowerNodeId(ident))
        self.power_index[PowerNodeId(ident)] = index
        self.power_columns.append((parent, site, limit_w))
        self.power_kind.append(kind)
        return index

    def site(self, number: int, site: Site) -> None:
        # facility(it) <= limit exactly when it <= this: so every limit of the tree is one of IT load.
        it_limit_w = it_watts(site, site.connection.total_w)
        root = self.power(site.id, -1, number, it_limit_w, "connection")
        graph = graph_of(site)
        if graph.is_tree:
            placed: dict[str, int] = {"": root}
            for element in graph.elements.values():
                ident, parent = f"{site.id}/{element.id}", placed[element.fed_by]
                placed[element.id] = self.power(ident, parent, number, element.rating_w, element.kind)
            for block in site.blocks:
                self.block(number, site, block, placed["".join(leaves_of(block)[0].feeders)])
        else:
            self.graph(number, site, root)

    def graph(self, number: int, site: Site, root: int) -> None:
        """A site with several ways up: a tree of allotments in the place of what is shared."""
        names = dict.fromkeys(group.hardware for block in site.blocks for group in block.groups)
        tree = allot(site, tuple(self.catalogue[name] for name in names))
        placed: dict[str, int] = {"": root}
        for node in tree.nodes:
            ident = f"{site.id}/{node.id}"
            placed[node.id] = self.power(ident, placed[node.parent], number, node.limit_w, node.kind)
        for block in site.blocks:
            inside = {group: part for (of, group), part in tree.parts.items() if of == block.id}
            self.block(number, site, block, placed[tree.over[block.id]], inside)

    def block(
        self,
        number: int,
        site: Site,
        block: Block,
        parent: int,
        inside: Mapping[str, TreeNode] | None = None,
    ) -> None:
        # A rating of 0 means "not stated": the sum of what hangs below can't exceed a limit that no one gave.
        ident = f"{site.id}/{block.id}"
        here = self.power(ident, parent, number, block.rating_w or _UNLIMITED_W, "block")
        day = day_number(block.commissioned) if site.country else NEVER_DAY
        self.pods += 1
        placed: dict[str, int] = {}
        for group in block.groups:
            if block.engine not in ("", site.engine):
                self.own_engines[number, self.catalogue[group.hardware].accelerator] = block.engine
            over, part = here, inside.get(group.id) if inside else None
            if part is not None:
                if part.id not in placed:
                    placed[part.id] = self.power(
                        f"{site.id}/{part.id}", here, number, part.limit_w, part.kind
                    )
                over = placed[part.id]
            self.group(number, ident, group, over, day)

    def group(self, number: int, block: str, group: NodeGroup, parent: int, day: int) -> None:
        hardware = self.hardware.setdefault(group.hardware, len(self.hardware))
        domain_nodes = self.catalogue[group.hardware].domain_nodes
        nameplate_w = self.catalogue[group.hardware].nameplate_w
        rating_w = group.rack_rating_w or nameplate_w * group.nodes_per_rack
        left = group.node_count
        for rack in range(group.racks):
            ident = f"{block}/{group.id}-{rack}"
            leaf = self.power(ident, parent, number, rating_w, "rack")
            self.rails += rack == 0 or (group.rail_racks > 0 and rack % group.rail_racks == 0)
            for node in range(min(left, group.nodes_per_rack)):
                self.domains += node % domain_nodes == 0
                self.node_ids.append(NodeId(f"{ident}-{node}"))
                self.node_columns.append((number, hardware, leaf, day, self.domains, self.rails, self.pods))
            left -= min(left, group.nodes_per_rack)


_UNLIMITED_W = 1 << 50


def compile_fleet(estate: Estate | None) -> Fleet:
    """Compile an estate into columns (empty ones for None).

    Raises ValueError for a power tree with a cycle (the edge reports it earlier).
    """
    build = _Builder(estate.hardware if estate else {})
    sites = estate.sites if estate else ()
    for number, site in enumerate(sites):
        build.site(number, site)
    nodes = np.array(build.node_columns or np.zeros((0, 7)), dtype=np.int64).reshape(-1, 7)
    power = np.array(build.power_columns or np.zeros((0, 3)), dtype=np.int64).reshape(-1, 3)
    return Fleet(
        sites=sites,
        hardware=tuple(build.catalogue[name] for name in build.hardware),
        node_ids=build.node_ids,
        node_index={ident: index for index, ident in enumerate(build.node_ids)},
        node_site=nodes[:, 0].astype(np.int16),
        node_hardware=nodes[:, 1].astype(np.int16),
        node_leaf=nodes[:, 2].astype(np.int32),
        node_from_day=nodes[:, 3].astype(np.int32),
        node_domain=nodes[:, 4].astype(np.int32),
        node_rail=nodes[:, 5].astype(np.int32),
        node_pod=nodes[:, 6].astype(np.int32),
        power_ids=build.power_ids,
        power_index=build.power_index,
        power_parent=power[:, 0].astype(np.int32),
        power_site=power[:, 1].astype(np.int16),
        power_limit_w=power[:, 2],
        power_kind=build.power_kind,
        site_index={site.id: number for number, site in enumerate(sites)},
        own_engines=build.own_engines,
    )
