"""How a gang stands: as it prefers where that can be had, anyhow where not; and a rack whose nodes are one domain."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.core.estate import Block, Estate
from headrace.core.fleet import Fleet, compile_fleet
from headrace.core.hardware import LAB
from headrace.core.scheduling.admit import can_ever_fit
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.refuse import Refusal
from headrace.core.workload import Level, Topology
from tests.core.scheduling.small import ACME, OPERATOR, World, fleet_of, group, nodes_of, placed, site

PACK: dict[Level, Topology] = {level: Topology(pack=level) for level in ("domain", "rack", "rail", "pod")}
SPREAD: dict[Level, Topology] = {level: Topology(spread=level) for level in ("domain", "rack", "rail", "pod")}


def levels() -> Fleet:
    """Two pods of two rails of two racks of two domains of two nodes: 32 nodes, named by pod, rack and place in the rack."""
    racks = group(hardware="pair", racks=4, per_rack=4, rail_racks=2)
    here = site("glom", racks)
    pods = tuple(Block(name, (racks,), "", 0, "2025-01-01", "2025-01-01") for name in ("p0", "p1"))
    pair = replace(LAB, id="pair", domain_nodes=2)
    return compile_fleet(Estate(OPERATOR, (replace(here, blocks=pods),), {"pair": pair}))


def name_of(value: object) -> str:
    """What a row is called: its wish, with the number of nodes and not which."""
    if isinstance(value, Topology):
        return "+".join(
            f"{how}:{what}" for how, what in (("pack", value.pack), ("spread", value.spread)) if what
        )
    return str(value) if isinstance(value, int) else ""


def group_of(node: str, level: str) -> tuple[int, ...]:
    """The group of ``p0/g-2-3`` at a level, by its name alone."""
    pod, _, rest = node.partition("/")
    _, rack, place = rest.split("-")
    parts = (int(pod[1:]), int(rack) // 2, int(rack) % 2, int(place) // 2)
    return parts[: {"pod": 1, "rail": 2, "rack": 3, "domain": 4}[level]]


def stands(nodes: list[str], wish: Topology) -> bool:
    """Whether nodes stand as a gang wishes."""
    packed = not wish.pack or len({group_of(node, wish.pack) for node in nodes}) == 1
    apart = not wish.spread or len({group_of(node, wish.spread) for node in nodes}) == len(nodes)
    return packed and apart


def chosen(opened: str, wanted: int, wish: Topology | None) -> list[str]:
    """The nodes that a gang gets where only those of ``opened`` can be placed on; ``!`` after one: its rack has power for one."""
    world = World(levels())
    names = opened.split()
    open_nodes = {f"glom/{name.rstrip('!')}" for name in names}
    world.closed = {str(node) for node in world.fleet.node_ids} - open_nodes
    for name in names:
        if name.endswith("!"):
            # Its four nodes are idle; one goes from 200 W to 1,000 W.
            world.limits_w[f"glom/{name.rpartition('-')[0]}"] = 4 * 200 + 800
    gang = world.submit(nodes=wanted, gpus=4, topology=wish)
    found = plan(world.snapshot()).placements
    assert [one.workload for one in found] == [gang.id]
    return [rank.node.removeprefix("glom/") for rank in found[0].ranks]


# A gang without a wish takes the fewest racks, and of a rack the first nodes: each row has nodes where that is not as wished.
@pytest.mark.parametrize(
    ("wish", "wanted", "opened"),
    [
        (PACK["domain"], 2, "p0/g-0-1 p0/g-0-2 p0/g-0-3"),
        (PACK["rack"], 2, "p0/g-0-0! p0/g-0-1! p0/g-1-0 p0/g-1-1"),
        (PACK["rail"], 3, "p0/g-0-0 p0/g-0-1 p0/g-2-0 p0/g-3-0 p0/g-3-1"),
        (PACK["pod"], 3, "p0/g-0-0 p0/g-0-1 p1/g-0-0 p1/g-1-0 p1/g-1-1"),
        (SPREAD["domain"], 2, "p0/g-0-0 p0/g-0-1 p0/g-0-2"),
        (SPREAD["rack"], 2, "p0/g-0-0 p0/g-0-1 p0/g-1-0"),
        (SPREAD["rail"], 2, "p0/g-0-0 p0/g-0-1 p0/g-1-0 p0/g-2-0"),
        (SPREAD["pod"], 2, "p0/g-0-0 p0/g-0-1 p0/g-2-0 p1/g-0-0"),
        (Topology(pack="pod", spread="rack"), 2, "p0/g-0-0 p1/g-0-0 p1/g-0-1 p1/g-1-0"),
        (Topology(pack="rack", spread="domain"), 2, "p0/g-0-0 p0/g-1-0 p0/g-1-1 p0/g-1-2"),
    ],
    ids=name_of,
)
def test_a_wish_is_met_where_it_can_be(wish: Topology, wanted: int, opened: str) -> None:
    """The nodes are as wished, which they are not without the wish."""
    assert not stands(chosen(opened, wanted, None), wish)
    assert stands(chosen(opened, wanted, wish), wish)


@pytest.mark.parametrize(
    ("wish", "wanted", "opened"),
    [
        (PACK["domain"], 2, "p0/g-0-1 p0/g-0-2"),
        (PACK["rack"], 2, "p0/g-0-0! p0/g-0-1! p0/g-1-0"),
        (PACK["rail"], 3, "p0/g-0-0 p0/g-0-1 p0/g-2-0"),
        (PACK["pod"], 3, "p0/g-0-0 p0/g-0-1 p1/g-0-0"),
        (SPREAD["domain"], 2, "p0/g-0-0 p0/g-0-1"),
        (SPREAD["rack"], 2, "p0/g-0-0 p0/g-0-2"),
        (SPREAD["rail"], 2, "p0/g-0-0 p0/g-1-0"),
        (SPREAD["pod"], 2, "p0/g-0-0 p0/g-2-0"),
        (Topology(pack="pod", spread="rack"), 2, "p0/g-0-0 p1/g-0-0"),
        (Topology(pack="rack", spread="domain"), 2, "p0/g-1-0 p0/g-1-1"),
    ],
    ids=name_of,
)
def test_a_gang_whose_wish_cannot_be_met_now_runs_anyway(wish: Topology, wanted: int, opened: str) -> None:
    """There are just nodes enough, and they do not stand as wished: it does not wait for others."""
    found = chosen(opened, wanted, wish)
    assert len(set(found)) == wanted
    assert not stands(found, wish)


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        (PACK["domain"], 3),
        (PACK["rack"], 5),
        (PACK["rail"], 9),
        (PACK["pod"], 17),
        (SPREAD["domain"], 17),
        (SPREAD["rack"], 9),
        (SPREAD["rail"], 5),
        (SPREAD["pod"], 3),
    ],
    ids=name_of,
)
def test_what_can_never_stand_so_runs_if_it_is_preferred_and_is_refused_if_it_is_required(
    wish: Topology, wanted: int
) -> None:
    """A node more than the largest group has, or than there are groups."""
    world = World(levels())
    gang = world.submit(nodes=wanted, gpus=4, topology=wish)
    assert can_ever_fit(world.snapshot(), gang.spec, ACME) is None
    found = plan(world.snapshot())
    assert placed(found) == [gang.id]
    assert len({rank.node for rank in found.placements[0].ranks}) == wanted
    gang.spec = replace(gang.spec, topology=replace(wish, required=True))
    refused = can_ever_fit(world.snapshot(), gang.spec, ACME)
    assert refused is not None
    assert refused[0] is Refusal.TOPOLOGY
    assert placed(plan(world.snapshot())) == []


def test_what_cannot_be_spread_over_enough_racks_is_spread_evenly() -> None:
    """Four over racks of three and two: two of each, not all three of the first."""
    found = chosen("p0/g-0-0 p0/g-0-1 p0/g-0-2 p0/g-1-0 p0/g-1-1", 4, SPREAD["rack"])
    assert found == ["p0/g-0-0", "p0/g-0-1", "p0/g-1-0", "p0/g-1-1"]


class TestRackOfOneDomain:
    """Two GB300 racks as in the catalogue: 18 nodes of 4 in each, on one fabric."""

    def world(self) -> World:
        return World(fleet_of(site("glom", group("gb", "gb300-nvl72", racks=2, per_rack=18))))

    def ask(self, world: World, nodes: int, topology: Topology | None) -> list[str]:
        gang = world.submit(nodes=nodes, gpus=4, model="GB300", topology=topology)
        return nodes_of(plan(world.snapshot()), gang)

    def test_a_rack_is_one_domain_of_72_accelerators(self) -> None:
        """And the other rack is another one."""
        fleet = self.world().fleet
        racks: dict[str, list[int]] = {}
        for index, node in enumerate(fleet.node_ids):
            racks.setdefault(node.rpartition("-")[0], []).append(index)
        assert list(racks) == ["glom/b/gb-0", "glom/b/gb-1"]
        domains = [np.unique(fleet.node_domain[nodes]).tolist() for nodes in racks.values()]
        assert [len(found) for found in domains] == [1, 1]
        assert domains[0] != domains[1]
        for nodes in racks.values():
            each = [fleet.hardware[fleet.node_hardware[node]].accelerators for node in nodes]
            assert each == [4] * 18
            assert sum(each) == 72

    def test_eighteen_nodes_are_had_in_one_domain(self) -> None:
        """All of the rack that is whole, since the other one has a node out of service."""
        world = self.world()
        world.closed.add("glom/b/gb-0-7")
        found = self.ask(world, 18, Topology(pack="domain", required=True))
        assert found == [f"gb-1-{number}" for number in range(18)]

    def test_eighteen_wait_while_no_domain_has_so_many(self) -> None:
        """34 nodes are free, 17 in each rack."""
        world = self.world()
        world.closed |= {"glom/b/gb-0-7", "glom/b/gb-1-0"}
        assert self.ask(world, 18, Topology(pack="domain", required=True)) == []
        assert len(self.ask(world, 18, None)) == 18

    def test_nineteen_are_never_had_in_one_domain(self) -> None:
        """They are refused, though there are 36 nodes, and without the demand they run."""
        world = self.world()
        wish = Topology(pack="domain", required=True)
        gang = world.submit(nodes=19, gpus=4, model="GB300", topology=wish)
        refused = can_ever_fit(world.snapshot(), gang.spec, ACME)
        assert refused is not None
        assert refused[0] is Refusal.TOPOLOGY
        assert placed(plan(world.snapshot())) == []
        gang.spec = replace(gang.spec, topology=replace(wish, required=False))
        assert can_ever_fit(world.snapshot(), gang.spec, ACME) is None
        assert len(nodes_of(plan(world.snapshot()), gang)) == 19
