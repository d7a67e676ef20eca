"""Electricity is followed along real paths: what is live, what everything carries, and what a planner's tree makes of it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.estate import Estate, Redundancy, Site
from headrace.core.fleet import compile_fleet
from headrace.core.power.redundancy import contradictions
from headrace.core.power.survive import dark
from headrace.core.power.tree import PowerGraph, Worst, graph_of, leaves_of
from tests.core.power.graphs import OPERATOR, block, element, fleet_of, group, limits_of, site, sites

A_AND_B = site(
    element("t1", 5_000, kind="transformer"),
    element("t2", 5_000, kind="transformer"),
    element("a", 4_000, "t1"),
    element("b", 4_000, "t2"),
    blocks=(block("hall", "a", "b", nodes=3), block("office", "a", nodes=1)),
)


def test_half_goes_each_way_and_all_of_it_where_one_is_left() -> None:
    """A hall of 3 kW on two sides beside an office of 1 kW on one of them, followed by hand."""
    graph = graph_of(A_AND_B)
    watts = {("a", "b"): 3_000, ("a",): 1_000}
    assert graph.loads(watts) == {"a": 2_500, "t1": 2_500, "b": 1_500, "t2": 1_500}
    assert graph.loads(watts, "t2") == {"a": 4_000, "t1": 4_000}
    assert graph.loads(watts, "a") == {"b": 3_000, "t2": 3_000}


def test_the_worst_loss_is_named() -> None:
    """What each carries now, at most, and when; what nothing can make worse says so."""
    worst = graph_of(A_AND_B).worst({("a", "b"): 3_000, ("a",): 1_000})
    assert worst["a"] == Worst(2_500, 4_000, "t2")
    assert worst["t2"] == Worst(1_500, 3_000, "t1")
    plain = graph_of(site(element("a", 10), blocks=(block("x", "a"),)))
    assert plain.worst({("a",): 7}) == {"a": Worst(7, 7, "")}


@pytest.mark.parametrize(
    ("lost", "live"),
    [("", "a b t1 t2"), ("t1", "b t2"), ("a", "b t1 t2"), ("b", "a t1 t2")],
)
def test_live_is_what_a_path_from_the_connection_reaches(lost: str, live: str) -> None:
    """A feed whose transformer is gone is dark, though nothing is wrong with it."""
    assert sorted(graph_of(A_AND_B).live(lost)) == live.split()


@settings(deadline=None)
@given(one=sites())
def test_two_walks_agree_on_what_goes_dark(one: Site) -> None:
    """Upwards from what hangs there, and downwards from the connection: written twice, on purpose."""
    graph = PowerGraph(one)
    for lost in graph.elements:
        upwards = {
            f"{leaf.block}/{name}"
            for leaf in graph.leaves
            for name in leaf.groups
            if not graph.is_live(leaf.feeders, lost)
        }
        assert upwards == set(dark(one, lost))


@settings(deadline=None)
@given(one=sites(), watts=st.integers(0, 10**7))
def test_no_watt_is_lost_or_made_on_the_way(one: Site, watts: int) -> None:
    """What arrives at the connection is the load of all that is live, whatever is lost."""
    graph = PowerGraph(one)
    tops = [name for name, of in graph.elements.items() if not of.feeds]
    loads = {leaf.feeders: watts for leaf in graph.leaves}
    for lost in ("", *graph.elements):
        arrived = graph.loads(loads, lost)
        alive = [feeders for feeders in loads if feeders and graph.is_live(feeders, lost)]
        assert sum(arrived.get(name, 0) for name in tops) == watts * len(alive)
        assert set(arrived) <= graph.live(lost)


# -- the planner's tree ------------------------------------------------------------------------------------------------


def test_two_sides_are_an_allotment_that_either_can_carry() -> None:
    """3 kW of hall and 1 kW of office on side a of 4 kW: all of both fits when b is lost, so nobody waits."""
    limits = limits_of(A_AND_B)
    assert limits["a+b"] == 3_000
    assert limits["a"] == 1_000
    assert "b" not in limits
    assert fleet_of(A_AND_B).power_kind[fleet_of(A_AND_B).power_ids.index("s/a+b")] == "allotment"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rating_w", "hall_w", "office_w"), [(4_000, 3_000, 1_000), (2_000, 1_500, 500), (400, 300, 100)]
)
def test_what_does_not_fit_under_a_loss_is_shared_by_nameplate(
    rating_w: int, hall_w: int, office_w: int
) -> None:
    """Each gets the same part of what it could draw."""
    power = [replace(one, rating_w=rating_w) if one.id in "ab" else one for one in A_AND_B.power]
    limits = limits_of(replace(A_AND_B, power=tuple(power)))
    assert (limits["a+b"], limits["a"]) == (hall_w, office_w)


def test_three_to_make_two_carries_two_thirds_of_all_ratings() -> None:
    """Three of 900 W in pairs: 600 W for each pair, 1.8 kW of 2.7 kW, since the third is the others' failover."""
    names = ("a", "b", "c")
    pairs = (("a", "b"), ("a", "c"), ("b", "c"))
    one = site(
        *(element(name, 900) for name in names),
        blocks=tuple(block("".join(pair), *pair, nodes=9) for pair in pairs),
    )
    limits = limits_of(one)
    assert [limits["+".join(pair)] for pair in pairs] == [600, 600, 600]


@pytest.mark.parametrize(("units", "carried_w"), [(2, 900), (3, 1_800), (4, 2_700)])
def test_n_plus_one_carries_all_but_one(units: int, carried_w: int) -> None:
    """Of units of 900 W."""
    names = [f"u{number}" for number in range(units)]
    one = site(*(element(name, 900) for name in names), blocks=(block("hall", *names, nodes=9),))
    assert limits_of(one)["+".join(names)] == carried_w


def test_what_stands_on_one_thing_alone_keeps_its_whole_rating() -> None:
    """An element that carries what is below it alone is as it would be in a plain tree; what is above shares it."""
    one = site(
        element("a", 4_000),
        element("b", 4_000),
        element("row", 2_500, "a", "b", kind="row"),
        blocks=(block("x", "row", nodes=2), block("y", "row", nodes=2)),
    )
    fleet = fleet_of(one)
    above = [fleet.power_ids[index] for index in fleet.path(int(fleet.node_leaf[0]))]
    assert above == ["s/x/g-0", "s/x", "s/row", "s/a+b", "s"]
    assert limits_of(one)["row"] == 2_500


def test_racks_of_one_block_may_have_other_feeders_each() -> None:
    """They stay in their block, and have an allotment within it."""
    one = site(
        element("w1", 3_000),
        element("w2", 3_000),
        blocks=(block("hall", groups=(group("both", 2, "w1", "w2"), group("one", 1, "w1"))),),
    )
    fleet = fleet_of(one)
    paths = {name: fleet.path(int(fleet.node_leaf[index])) for name, index in fleet.node_index.items()}
    assert [fleet.power_ids[index] for index in paths["s/hall/both-0-0"]] == [  # type: ignore[index]
        "s/hall/both-0",
        "s/hall/w1+w2",
        "s/hall",
        "s",
    ]
    assert [fleet.power_ids[index] for index in paths["s/hall/one-0-0"]] == [  # type: ignore[index]
        "s/hall/one-0",
        "s/hall/+w1",
        "s/hall",
        "s",
    ]
    assert (limits_of(one)["hall/w1+w2"], limits_of(one)["hall/+w1"]) == (2_000, 1_000)


def test_what_has_a_day_comes_before_what_has_none() -> None:
    """A plan takes nothing from what is built; it gets what is left."""
    built, plan = (
        block("built", "a", "b", nodes=3),
        replace(block("plan", "b", "c", nodes=9), commissioned=""),
    )
    one = site(*(element(name, 4_000) for name in "abc"), blocks=(built, plan))
    limits = limits_of(one)
    assert limits["a+b"] == 3_000
    assert limits["b+c"] == 2_000  # with a lost, b carries half of it beside all of what is built


@settings(deadline=None)
@given(one=sites())
def test_parents_come_first_and_every_rack_is_in_its_block(one: Site) -> None:
    """What the planner's sums rest on, for any graph; and twice compiled is compiled alike."""
    fleet = fleet_of(one)
    for index, parent in enumerate(fleet.power_parent.tolist()):
        assert parent < index
    assert len(set(fleet.power_ids)) == len(fleet.power_ids)
    for index, node in enumerate(fleet.node_ids):
        path = [fleet.power_ids[p] for p in fleet.path(int(fleet.node_leaf[index]))]
        assert path[-1] == "s"
        assert "/".join(node.split("/")[:2]) in path
    again = compile_fleet(Estate(OPERATOR, (replace(one, note="again"),)))
    assert again.power_ids == fleet.power_ids
    assert (again.power_limit_w == fleet.power_limit_w).all()


def test_a_plain_tree_has_no_allotments() -> None:
    """Its elements, their order and their limits are what the estate says."""
    one = site(element("b", 7, "a"), element("a", 9), blocks=(block("x", "b"),))
    assert list(limits_of(one).items())[:4] == [("s", 10**9), ("a", 9), ("b", 7), ("x", 1 << 50)]


def test_a_cycle_is_found() -> None:
    """The edge reports it earlier; here nothing hangs."""
    with pytest.raises(ValueError, match="cycle"):
        PowerGraph(site(element("a", 1, "b", "c"), element("b", 1, "a"), element("c", 1)))
    with pytest.raises(ValueError, match="no power element x"):
        PowerGraph(site(element("a", 1), blocks=(block("hall", "a", "x"),)))


# -- claims ------------------------------------------------------------------------------------------------------------

T = element("t", 9, kind="transformer")
SIDES = (element("t1", 9), element("t2", 9), element("a", 9, "t1"), element("b", 9, "t2"))
ONE_TRANSFORMER = (T, element("a", 9, "t"), element("b", 9, "t"))


@pytest.mark.parametrize(
    ("power", "feeders", "claim", "said"),
    [
        (SIDES, "a b", "2N", None),
        (SIDES, "a b", "N+1", None),
        (SIDES, "a", "single", None),
        (SIDES, "", "single", None),
        (SIDES, "a b", "single", "it is fed by a, b"),
        (SIDES, "a", "2N", "it is fed by a alone"),
        (SIDES, "", "N+1", "by the connection itself"),
        (ONE_TRANSFORMER, "a b", "2N", "a and b share transformer t."),
        (ONE_TRANSFORMER, "a b", "N+1", "all its paths lead through transformer t"),
        ((*SIDES, element("c", 9)), "a b c", "2N", "it is fed by 3"),
        ((*SIDES, element("c", 9)), "a b c", "N+1", None),
        (SIDES, "a b", "distributed", "nothing else shares one of a, b"),
        ((*SIDES, element("u", 9, "a", "t2")), "a b", "distributed", None),
        ((element("t1", 9), element("t2", 9), element("a", 9, "t1", "t2"), element("b", 9, "t2")), "a b", "2N", "share feed t2"),
        ((element("t1", 9), element("t2", 9), element("a", 9, "t1", "t2"), element("b", 9, "t2")), "a b", "N+1", None),
    ],
)  # fmt: skip
def test_a_claim_is_held_against_the_paths(
    power: tuple[object, ...], feeders: str, claim: Redundancy, said: str | None
) -> None:
    """What it is called does not count; what is common is named."""
    hall = replace(block("hall", *feeders.split()), redundancy=claim)
    found = list(contradictions(site(*power, blocks=(hall,))))  # type: ignore[arg-type]
    assert [said in one.message for one in found if said] == ([True] if said else [])
    assert bool(found) == (said is not None)


def test_a_site_claims_it_of_all_its_blocks_and_a_group_of_itself() -> None:
    """Each that is not so is named."""
    hall, office = block("hall", "a", "b"), block("office", "a")
    found = list(contradictions(replace(site(*SIDES, blocks=(hall, office)), redundancy="2N")))
    assert [(one.kind, one.message) for one in found] == [
        ("site", "office: 2N is claimed, but it is fed by a alone.")
    ]
    racks = replace(group("g", 1, "a"), redundancy="2N")
    (one,) = contradictions(site(*SIDES, blocks=(block("hall", groups=(racks,)),)))
    assert (one.kind, one.what) == ("group", "hall/g")


def test_groups_that_are_fed_alike_are_one_leaf() -> None:
    """Whether their block says it or each of them."""
    by_group = block("hall", groups=(group("g", 1, "a", "b"), group("h", 1, "a", "b")))
    (leaf,) = leaves_of(by_group)
    assert (leaf.feeders, leaf.is_part) == (("a", "b"), False)
