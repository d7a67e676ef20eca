"""Two readings of one estate agree: the checkers' own, and the one that decisions are made on."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from headrace.core.estate import Block, Connection, Estate, NodeGroup, PowerElement
from headrace.core.events import Committed, DocumentRemoved
from headrace.core.fleet import NEVER_DAY, compile_fleet, day_number
from headrace.core.ids import SiteId
from headrace.sim.checkers.papers import Ground, Papers
from tests.sim.checkers.streams import ESTATE, NORTH, OPERATOR, PLAN, commit, document, story

groups = st.builds(
    NodeGroup,
    id=st.sampled_from(["g", "g-1", "h"]),
    hardware=st.sampled_from(["lab", "h100-8", "gb300-nvl72"]),
    racks=st.integers(1, 3),
    nodes_per_rack=st.integers(1, 4),
    rack_rating_w=st.sampled_from([0, 9_000]),
    nodes=st.integers(0, 12),
)
blocks = st.builds(
    Block,
    id=st.sampled_from(["a", "b", "a-0"]),
    groups=st.lists(groups, min_size=1, max_size=3, unique_by=lambda group: group.id).map(tuple),
    fed_by=st.sampled_from(["", "feed", "ups"]),
    rating_w=st.sampled_from([0, 40_000]),
    commissioned=st.sampled_from(["", "2025-01-01", "2030-01-01"]),
)
POWER = (PowerElement("ups", "ups", 70_000, "feed"), PowerElement("feed", "feed", 80_000))
sites = st.builds(
    lambda ident, country, pue, watts, built: replace(
        NORTH,
        id=SiteId(ident),
        country=country,
        pue_permille=pue,
        connection=Connection(watts, 1_000),
        power=POWER,
        blocks=built,
    ),
    st.sampled_from(["north", "south", "north-2"]),
    st.sampled_from(["NO", ""]),
    st.integers(1_000, 2_000),
    st.integers(0, 10**9),
    st.lists(blocks, max_size=3, unique_by=lambda block: block.id).map(tuple),
)
estates = st.lists(sites, min_size=1, max_size=3, unique_by=lambda site: site.id).map(
    lambda several: Estate(OPERATOR, tuple(several))
)


@given(estate=estates)
def test_both_readings_of_an_estate_have_the_same_nodes_and_limits(estate: Estate) -> None:
    """Same nodes in the same order, same paths, same limits, same days: written twice, on purpose."""
    fleet, ground = compile_fleet(estate), Ground(estate)
    assert list(ground.spots) == fleet.node_ids
    for index, node in enumerate(fleet.node_ids):
        spot = ground.spots[node]
        assert spot.path == tuple(fleet.power_ids[p] for p in fleet.path(int(fleet.node_leaf[index])))
        assert spot.hardware == fleet.hardware[fleet.node_hardware[index]]
        assert spot.site == fleet.sites[fleet.node_site[index]].id
        assert (day_number(spot.from_day) if spot.from_day else NEVER_DAY) == fleet.node_from_day[index]
    for index, element in enumerate(fleet.power_ids):
        if element in ground.limit_w:
            assert ground.limit_w[element] == fleet.power_limit_w[index]
        else:
            # Only a block may be without a rating.
            assert fleet.power_kind[index] == "block"


@given(estate=estates)
def test_idle_draw_is_that_of_the_nodes_with_a_day(estate: Estate) -> None:
    """Summed node by node; a connection has that of all its nodes."""
    ground = Ground(estate)
    for today in ("2024-12-31", "2025-01-01", "2030-01-01"):
        idle_w = ground.idle_w(today)
        for site in estate.sites:
            nodes = (spot for spot in ground.spots.values() if spot.site == site.id and spot.from_day)
            assert idle_w.get(site.id, 0) == sum(spot.hardware.idle_w for spot in nodes)


def test_documents_are_read_as_they_were_written() -> None:
    """From the normalised form of an event, by the types alone."""
    papers = Papers()
    for committed in commit(story()):
        papers.observe(committed)
    assert papers.estate == ESTATE
    assert papers.plans == {"list": PLAN}
    assert list(papers.tenants) == ["acme", "beta"]
    assert papers.contracts["acme-held"].accelerators == 2
    assert papers.unreadable == []


def test_a_document_that_was_removed_is_no_longer_in_force() -> None:
    """Nor is one that another took the place of."""
    papers = Papers()
    for committed in commit(story()):
        papers.observe(committed)
    papers.observe(Committed(99, 0, document("price-plan", replace(PLAN, currency="GBP"))))
    papers.observe(Committed(100, 0, DocumentRemoved("contract", "acme-held")))
    papers.observe(Committed(101, 0, DocumentRemoved("poem", "x")))
    assert papers.plans["list"].currency == "GBP"
    assert "acme-held" not in papers.contracts
    papers.observe(Committed(102, 0, DocumentRemoved("estate", "op")))
    assert (papers.sites, papers.ground.spots) == ({}, {})
