"""What an empty estate takes is found from its racks, and is what choosing among all of its nodes finds."""

from random import Random
from typing import Literal

import pytest

from headrace.core.estate import Block, Connection, Estate, NodeGroup, PowerElement, Site
from headrace.core.fleet import Fleet, compile_fleet
from headrace.core.ids import SiteId
from headrace.core.scheduling.columns import Ask, columns_of, empty_scratch
from headrace.core.scheduling.empty import Empty, empty_of
from headrace.core.scheduling.rank import choose
from headrace.core.workload import LEVELS, Level, Topology
from tests.core.scheduling.small import OPERATOR, fleet_of, group, site

TODAY = 20260101
HARDWARE = ("lab", "h100-8", "gb300-nvl72")


def drawn(chance: Random) -> Fleet:
    """One site of a few blocks under two feeds, with racks of several types, and ratings that bind here and there."""
    blocks = tuple(
        Block(
            f"b{number}",
            tuple(_group(chance, f"g{one}") for one in range(chance.randint(1, 3))),
            chance.choice(("feed-a", "feed-b", "")),
            chance.choice((0, 30_000, 120_000)),
            "2025-01-01",
            chance.choice(("2025-01-01", "2025-01-01", "2031-01-01", "")),
        )
        for number in range(chance.randint(1, 4))
    )
    feeds = (
        PowerElement("feed-a", "feed", chance.choice((40_000, 300_000))),
        PowerElement("feed-b", "feed", chance.choice((60_000, 500_000)), "feed-a"),
    )
    connection = Connection(chance.choice((70_000, 400_000, 2_000_000)))
    place = Site(
        SiteId("glom"), "NO", "Europe/Oslo", connection, 1_000, 20, 1_000, "NOK", power=feeds, blocks=blocks
    )
    return compile_fleet(Estate(OPERATOR, (place,)))


def _group(chance: Random, ident: str) -> NodeGroup:
    rack_w = chance.choice((0, 0, 9_000, 25_000))
    racks, per_rack = chance.randint(1, 6), chance.choice((1, 2, 4, 9))
    nodes = chance.choice((0, max(1, racks * per_rack - 1)))
    return NodeGroup(
        ident, chance.choice(HARDWARE), racks, per_rack, rack_w, nodes, rail_racks=chance.choice((0, 2, 3))
    )


def asks(chance: Random) -> Ask:
    """An ask of any kind that could fit, often just about."""
    wishes: tuple[Level | Literal[""], ...] = ("", *LEVELS)
    pack, spread = chance.choice(wishes), chance.choice(wishes)
    wish = Topology(pack, spread, chance.random() < 0.8) if pack or spread else None
    whole = chance.random() < 0.2
    return Ask(
        1,
        chance.choice(("", "lab", "H100", "GB300")),
        0 if whole else chance.choice((0, 1, 4, 8)),
        chance.choice((0, 1_000, 20_000)),
        chance.choice((0, 64, 500_000)),
        whole,
        accelerator_memory_mb=chance.choice((0, 0, 90_000)),
        topology=wish,
    )


@pytest.mark.parametrize("seed", range(150))
def test_what_fits_the_racks_fits_the_nodes(seed: int) -> None:
    """The most that fit, and not one more."""
    chance = Random(seed)
    fleet = drawn(chance)
    empty, columns = empty_of(fleet, TODAY), columns_of(fleet)
    state = empty_scratch(columns, TODAY)
    for _ in range(12):
        ask = asks(chance)
        most = empty.most(ask, 0)
        for nodes in {1, 2, 3, most, most + 1, chance.randint(1, 40)} - {0}:
            found = choose(columns, state, ask._replace(nodes=nodes), 0)
            assert empty.fits(ask._replace(nodes=nodes), 0) == (found is not None), (ask, nodes, most)


def test_what_differs_only_in_processors_and_number_is_found_once() -> None:
    """A batch of a thousand gangs, none like another, costs one look at the racks."""
    fleet = fleet_of(site("glom", group(racks=40)))
    empty = empty_of(fleet, TODAY)
    for number in range(1_000):
        assert empty.fits(Ask(1 + number % 90, "lab", 4, 250 + number, 16, False), 0)
    assert len(empty._most) == 1


def test_it_is_kept_for_a_fleet_and_a_day() -> None:
    """Another day may have more nodes that draw."""
    fleet = fleet_of(site("glom", group()))
    first: Empty = empty_of(fleet, TODAY)
    assert empty_of(fleet, TODAY) is first
    assert empty_of(fleet, TODAY + 1) is not first


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"accelerators": -1}, {"cpu_milli": -1}, {"memory_mb": -1}])
def test_an_ask_for_less_than_nothing_fits_nowhere(wrong: dict[str, int]) -> None:
    """The edge refuses it; this must not count upwards with it."""
    ask = Ask(1, "lab", 1, 0, 0, False)
    assert not empty_of(fleet_of(site("glom", group())), TODAY).fits(ask._replace(**wrong), 0)  # type: ignore[arg-type]
