"""What the power tree counts beside nameplates: less where caps are in force, more where meters see more than is known."""

from typing import TYPE_CHECKING

from headrace.core.hardware import HardwareType
from headrace.core.ids import NodeId, PowerNodeId, SiteId
from headrace.core.power.caps import OFF_W, Cap, off_w
from headrace.core.workload import Placement

if TYPE_CHECKING:
    from headrace.core.world import World


class Counted:
    """Keeps ``World.power_w`` and the floors right for what is not in the catalogue.

    ``capped``: nodes that have a cap, by number. ``credit_w``: by how many watts less a node counts for it. ``excess_w``: by
    number of an element, how much more is seen there than is known.
    """

    __slots__ = ("_world", "capped", "credit_w", "excess_w")

    def __init__(self, world: "World") -> None:
        self._world = world
        self.capped: dict[int, None] = {}
        self.credit_w: dict[int, int] = {}
        self.excess_w: dict[int, int] = {}

    def anew(self) -> None:
        """Count all of it: the tree was summed up from nameplates alone."""
        world = self._world
        self.capped.clear()
        self.credit_w.clear()
        self.excess_w.clear()
        for node in world.state.caps:
            self.cap(node)
        self._floors()
        for element in world.state.excess:
            self.exceed(element)

    def cap(self, node: NodeId) -> None:
        """A node's cap, or what its controller says of it, or what runs there, is another."""
        world = self._world
        index, cap = world.fleet.node_index.get(node), world.state.caps.get(node)
        if index is None:
            return
        if cap is None:
            self.capped.pop(index, None)
        else:
            self.capped[index] = None
        change_w = self._credit(index, cap)
        if change_w > 0 or cap is None:
            world.memory.came_free(int(world.fleet.node_site[index]))

    def moved(self, placement: Placement) -> None:
        """What runs on a placement's nodes is another."""
        caps = self._world.state.caps
        for rank in placement.ranks:
            if rank.node in caps:
                self.cap(NodeId(rank.node))

    def exceed(self, element: PowerNodeId) -> None:
        """What a meter sees at an element beyond what is known is another."""
        world = self._world
        index = world.fleet.power_index.get(element)
        if index is None:
            return
        watts = world.state.excess.get(element, 0)
        change_w = watts - self.excess_w.pop(index, 0)
        if watts:
            self.excess_w[index] = watts
        self._add(index, change_w)
        self._floors()
        if change_w:
            # Which elements could ever become too little is another.
            world.memory.clear()

    def _credit(self, node: int, cap: Cap | None) -> int:
        """Count what a node's cap is worth now; by how many watts the tree counts less for it than before."""
        most_w = None if cap is None else cap.most_w
        if cap is not None and most_w is not None and cap.enforced_w == OFF_W:
            most_w = off_w(self._world.fleet.hardware[self._world.fleet.node_hardware[node]])
        now_w = 0 if most_w is None else max(0, self.uncapped_w(node) - most_w)
        change_w = now_w - self.credit_w.pop(node, 0)
        if now_w:
            self.credit_w[node] = now_w
        if change_w:
            self._add(int(self._world.fleet.node_leaf[node]), -change_w)
        return change_w

    def _add(self, element: int, watts: int) -> None:
        for above in self._world.path(element):
            self._world.power_w[above] += watts

    def _floors(self) -> None:
        """Nobody who could be shed is known to draw it: it is beyond shedding."""
        world = self._world
        found = [0] * len(world.fleet.sites)
        for element, watts in self.excess_w.items():
            found[int(world.fleet.power_site[element])] += watts
        world.floors.unknown(found)

    def uncapped_w(self, node: int) -> int:
        """Most that a node, by its number, could draw now if nothing capped it."""
        world = self._world
        hardware: HardwareType = world.fleet.hardware[world.fleet.node_hardware[node]]
        if node in world.intruded:
            return hardware.nameplate_w
        loud = int(world.node_mask[node]) & ~int(world.node_quiet[node])
        return hardware.node_watts(loud.bit_count(), int(world.node_ranks[node]) > 0)

    def credit_at(self, site: SiteId) -> int:
        """Watts that the caps in force at a site are worth now."""
        number = self._world.fleet.site_index[site]
        return sum(
            watts for node, watts in self.credit_w.items() if self._world.fleet.node_site[node] == number
        )

    def draw_w(self, node: int) -> int:
        """Most that a node is counted with now."""
        return self.uncapped_w(node) - self.credit_w.get(node, 0)
