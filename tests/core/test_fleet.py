"""An estate becomes columns in the order of the estate, and every node hangs on a path to its connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, PowerElement, Site
from headrace.core.fleet import NEVER_DAY, compile_fleet, day_number
from headrace.core.hardware import LAB
from headrace.core.ids import NodeId, OperatorId, PowerNodeId, SiteId

OPERATOR = Operator(OperatorId("op"), "", "NO", "Europe/Oslo", "NOK")


def _site(
    power: tuple[PowerElement, ...] = (), blocks: tuple[Block, ...] = (), country: str = "NO", name: str = "s"
) -> Site:
    return Site(
        SiteId(name),
        country,
        "Europe/Oslo",
        Connection(5_000, 1_000),
        1_100,
        8,
        450_000,
        "NOK",
        power=power,
        blocks=blocks,
    )


def _block(
    fed_by: str = "",
    racks: int = 2,
    nodes_per_rack: int = 3,
    nodes: int = 0,
    rating_w: int = 0,
    rack_w: int = 0,
) -> Block:
    group = NodeGroup("g", "lab", racks, nodes_per_rack, rack_w, nodes)
    return Block("b", (group,), fed_by, rating_w, commissioned="2025-02-01")


def test_nodes_are_named_by_site_block_group_rack_and_number() -> None:
    """In the order of the estate, so that two processes agree on every index."""
    fleet = compile_fleet(Estate(OPERATOR, (_site(blocks=(_block(racks=2, nodes_per_rack=2),)),)))
    assert fleet.node_ids == ["s/b/g-0-0", "s/b/g-0-1", "s/b/g-1-0", "s/b/g-1-1"]
    assert fleet.node_index[NodeId("s/b/g-1-0")] == 2


def test_the_last_rack_may_be_short() -> None:
    """Seven nodes in three racks of three."""
    fleet = compile_fleet(Estate(OPERATOR, (_site(blocks=(_block(racks=3, nodes=7),)),)))
    assert fleet.node_ids[-1] == "s/b/g-2-0"
    assert len(fleet.node_ids) == 7


def test_a_node_hangs_on_its_rack_block_feed_and_connection() -> None:
    """From the leaf to the root; the connection too in IT watts: 6,000 W at the meter at a PUE of 1.1."""
    power = (PowerElement("ups", "ups", 3_000, "feed"), PowerElement("feed", "feed", 4_000))
    fleet = compile_fleet(Estate(OPERATOR, (_site(power, (_block("ups", rating_w=2_500, rack_w=2_000),)),)))
    path = fleet.path(int(fleet.node_leaf[0]))
    assert [fleet.power_ids[element] for element in path] == ["s/b/g-0", "s/b", "s/ups", "s/feed", "s"]
    assert [int(fleet.power_limit_w[element]) for element in path] == [2_000, 2_500, 3_000, 4_000, 5_454]
    assert [fleet.power_kind[element] for element in path] == ["rack", "block", "ups", "feed", "connection"]


def test_without_a_rating_a_rack_carries_its_nodes_and_a_block_is_no_limit() -> None:
    """What nobody stated can't be exceeded."""
    fleet = compile_fleet(Estate(OPERATOR, (_site(blocks=(_block(),)),)))
    assert int(fleet.power_limit_w[fleet.power_index[PowerNodeId("s/b/g-0")]]) == 3 * LAB.nameplate_w
    assert int(fleet.power_limit_w[fleet.power_index[PowerNodeId("s/b")]]) > 10**15


@pytest.mark.parametrize(
    ("country", "commissioned", "day"),
    [("NO", "2025-02-01", 20250201), ("", "2025-02-01", NEVER_DAY), ("NO", "", NEVER_DAY)],
)
def test_a_plan_or_an_unknown_country_is_never_placed_on(country: str, commissioned: str, day: int) -> None:
    """A block without a day of commissioning is a plan; a site without a country is nowhere."""
    block = Block("b", (NodeGroup("g", "lab"),), commissioned=commissioned)
    fleet = compile_fleet(Estate(OPERATOR, (_site(blocks=(block,), country=country),)))
    assert [int(number) for number in fleet.node_from_day] == [day]


def test_days_are_numbers_that_sort_like_days() -> None:
    """And no day is after all days."""
    days = ["2025-02-01", "2025-12-31", "2026-01-01", ""]
    numbers = [day_number(day) for day in days]
    assert numbers == sorted(numbers)


def test_an_empty_estate_compiles() -> None:
    """No sites, no nodes, and columns of the right shape all the same."""
    fleet = compile_fleet(Estate(OPERATOR, ()))
    assert (len(fleet.node_ids), fleet.node_site.shape, fleet.power_limit_w.shape) == (0, (0,), (0,))


def test_a_cycle_is_named_and_not_followed_forever() -> None:
    """The edge reports it earlier; here it is the last line of defence."""
    power = (PowerElement("a", "feed", 1, "b"), PowerElement("b", "feed", 1, "a"))
    with pytest.raises(ValueError, match="cycle or an unknown feeder among a, b"):
        compile_fleet(Estate(OPERATOR, (_site(power),)))


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_any_tree_compiles_to_the_same_paths_in_any_order(order: list[int], feeders: list[int]) -> None:
    """Parents stand before their children in the columns, and every path ends at the connection."""
    elements = [
        PowerElement(f"e{number}", "feed", 1_000, f"e{feeder}" if feeder < number else "")
        for number, feeder in enumerate(feeders)
    ]
    fleet = compile_fleet(Estate(OPERATOR, (_site(tuple(elements[number] for number in order)),)))
    fed_by = {f"s/{element.id}": f"s/{element.fed_by}" if element.fed_by else "s" for element in elements}
    for index, ident in enumerate(fleet.power_ids[1:], start=1):
        assert fleet.power_parent[index] < index
        assert fleet.power_ids[fleet.power_parent[index]] == fed_by[ident]
        assert fleet.path(index)[-1] == 0
