"""Promise 1 with one element lost: whatever is placed within the planner's limits, no survivor is over its rating."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from headrace.core.estate import Connection, PueCurve, PuePoint, Site
from headrace.core.hardware import LAB
from headrace.core.power.allot import Inequality, inequalities
from headrace.core.power.pue import it_watts
from headrace.core.power.survive import Overload, dark, overloads, several_ways
from headrace.core.power.tree import graph_of
from tests.core.power.graphs import below, block, element, filled, group, limits_of, site, sites, wishes

TWO_SIDES = site(
    element("a", 1_200),
    element("b", 900),
    blocks=(block("hall", "a", "b", nodes=5), block("office", "a", nodes=1)),
)
THREE_TO_MAKE_TWO = site(
    element("a", 900),
    element("b", 900),
    element("c", 900),
    blocks=(block("x", "a", "b", nodes=9), block("y", "a", "c", nodes=9), block("z", "b", "c", nodes=9)),
)
N_PLUS_ONE = site(
    element("u1", 1_000, kind="ups"),
    element("u2", 1_000, kind="ups"),
    element("u3", 1_000, kind="ups"),
    blocks=(block("hall", "u1", "u2", "u3", nodes=5),),
)
CROSSED = site(
    element("t1", 1_500, kind="transformer"),
    element("t2", 1_500, kind="transformer"),
    element("u1", 1_200, "t1", "t2", kind="ups"),
    element("u2", 1_200, "t1", "t2", kind="ups"),
    blocks=(block("hall", "u1", "u2", nodes=5), block("alone", "u1", nodes=1)),
)
RACKS = site(
    element("a", 2_000),
    element("b", 2_000),
    element("w1", 900, "a", kind="busway"),
    element("w2", 900, "b", kind="busway"),
    blocks=(block("hall", groups=(group("both", 4, "w1", "w2"), group("one", 2, "w1"))),),
)
HALLS = {
    "two sides": TWO_SIDES,
    "three to make two": THREE_TO_MAKE_TWO,
    "N+1": N_PLUS_ONE,
    "crossed": CROSSED,
    "racks with two cords": RACKS,
}


@settings(max_examples=250, deadline=None)
@given(data=st.data(), one=sites())
def test_no_single_loss_overloads_a_survivor(data: st.DataObject, one: Site) -> None:
    """For any graph and any load that keeps the planner's limits; also where no loss is."""
    load_w = filled(one, data.draw(wishes(one)))
    assert list(overloads(one, load_w)) == []


def _breaks(one: Site, held: Inequality, node: str, more_w: int) -> bool | None:
    """Whether a load that takes all nodes of an inequality to their limits, one of them raised, overloads its element.

    None: what hangs below them can't draw so much.
    """
    limits = limits_of(one)
    raised = {node: limits[node] + more_w}
    gone = dark(one, held.lost)
    wanted = {name: 10**9 for part in held.parts for name in below(one, part) if name not in gone}
    load_w = filled(one, wanted, raised)
    for part in held.parts:
        drawn_w = sum(load_w.get(name, 0) for name in below(one, part))
        if held.parts[part] and drawn_w < (limits | raised)[part]:
            return None
    lost = f"s/{held.lost}" if held.lost else ""
    found = [(found.element, found.lost) for found in overloads(one, load_w)]
    return (f"s/{held.element}", lost) in found


def _slack_w(one: Site, held: Inequality) -> Fraction:
    limits = limits_of(one)
    return held.rating_w - sum((part * limits[node] for node, part in held.parts.items()), Fraction(0))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(one=sites(), data=st.data())
def test_an_allotment_beyond_what_the_worst_loss_leaves_is_seen(one: Site, data: st.DataObject) -> None:
    """The checker can fail, in any graph: wherever a limit is raised beyond the room that its tightest case leaves."""
    # Nothing but the graph limits here, so that a load can be put wherever a limit allows it.
    one = replace(one, connection=Connection(10**9))
    one = replace(one, blocks=tuple(replace(made, rating_w=0) for made in one.blocks))
    cases = [(held, node) for held in inequalities(one, (LAB,)) for node, part in held.parts.items() if part]
    assume(cases)
    held, node = data.draw(st.sampled_from(cases))
    slack_w = _slack_w(one, held)
    assert slack_w >= 0
    broken = _breaks(one, held, node, int(slack_w / held.parts[node]) + 1)
    assume(broken is not None)
    assert broken
    assert not _breaks(one, held, node, 0)


@pytest.mark.parametrize("name", HALLS)
def test_one_watt_more_than_allotted_overloads_a_survivor(name: str) -> None:
    """Each hall is full to the watt in some case: there one more on some allotment breaks it, and none does not."""
    one = HALLS[name]
    exact = [
        (held, node)
        for held in inequalities(one, (LAB,))
        for node, part in held.parts.items()
        if part > _slack_w(one, held)
    ]
    tried = [(_breaks(one, held, node, 0), _breaks(one, held, node, 1)) for held, node in exact]
    assert (False, True) in tried
    assert (False, False) not in tried


def test_an_overload_names_what_was_lost_and_what_it_would_carry() -> None:
    """A hall on two sides of 900 W: 1,000 W are fine as long as both are there."""
    one = site(element("a", 900), element("b", 900), blocks=(block("hall", "a", "b"),))
    assert list(overloads(one, {"hall/g": 1_000})) == [
        Overload("s/b", "s/a", 1_000, 900),
        Overload("s/a", "s/b", 1_000, 900),
    ]


def test_a_part_of_a_watt_over_is_over() -> None:
    """Thirds of a load are exact."""
    one = site(*(element(name, 33) for name in "abc"), blocks=(block("hall", "a", "b", "c"),))
    found = [found for found in overloads(one, {"hall/g": 100}) if not found.lost]
    assert [(one.element, one.carried_w) for one in found] == [("s/a", 34), ("s/b", 34), ("s/c", 34)]


def test_what_is_dark_is_what_no_path_reaches() -> None:
    """By walking from the connection, not by what things are called."""
    assert dark(CROSSED, "u1") == ("alone/g",)
    assert dark(CROSSED, "t1") == ()
    assert dark(RACKS, "a") == ("hall/one",)


def test_a_plain_tree_has_one_way_up() -> None:
    """Nothing has to be walked there."""
    assert not several_ways(site(element("a", 10), element("b", 10, "a"), blocks=(block("x", "b"),)))
    assert all(several_ways(one) for one in HALLS.values())


CURVE = PueCurve(
    30,
    1_000_000,
    tuple(
        PuePoint(load, at, pue)
        for load, at, pue in (
            (250, 10, 1_300), (250, 35, 1_500), (500, 10, 1_180), (500, 35, 1_301), (1_000, 10, 1_120), (1_000, 35, 1_203)
        )
    ),
)  # fmt: skip


@given(meter_w=st.integers(0, 1_300_000))
def test_the_connection_is_held_by_the_curve_too(meter_w: int) -> None:
    """Two readings of one curve: what the limit lets in is not over it, one watt more is."""
    one = replace(site(blocks=(block("x"),), connection_w=meter_w), pue_curve=CURVE)
    it_w = it_watts(one, meter_w)
    over = list(overloads(one, {"x/g": it_w}))
    # With less than the idle overhead at the meter nothing may run, and even that is too much.
    assert over == [] or it_w == 0
    assert [found.element for found in overloads(one, {"x/g": it_w + 1})] == ["s"]


def test_halves_are_what_each_side_of_two_carries() -> None:
    """The figure that all above rests on, by hand: half each, and all of it when the other is gone."""
    shares = graph_of(TWO_SIDES).shares(("a", "b"))
    assert shares == {"a": Fraction(1, 2), "b": Fraction(1, 2)}
    assert graph_of(TWO_SIDES).shares(("a", "b"), "a") == {"b": Fraction(1)}


def test_a_tall_ladder_of_pairs_is_walked_step_by_step() -> None:
    """Two ways at each of 60 steps are more paths than anyone could walk one by one."""
    power = [element("a0", 900), element("b0", 900)]
    for number in range(1, 60):
        below = f"a{number - 1}", f"b{number - 1}"
        power += [element(f"a{number}", 900, *below), element(f"b{number}", 900, *below)]
    one = site(*power, blocks=(block("hall", "a59", "b59"),))
    assert limits_of(one)["a59+b59"] == 900
    assert list(overloads(one, {"hall/g": 900})) == []
    assert {found.carried_w for found in overloads(one, {"hall/g": 901})} == {901}
