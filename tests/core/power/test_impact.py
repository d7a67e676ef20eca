"""The planner keeps to what survives any single loss, and what a loss does is said with names."""

from dataclasses import replace

import pytest

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.estate import PueCurve, PuePoint, Site
from headrace.core.power.impact import Impact, Survivor, impact, worst_loads
from headrace.core.power.survive import overloads
from headrace.core.power.tree import Worst
from headrace.core.scheduling.check import check
from headrace.core.scheduling.proposal import Plan, ProposedPlacement
from headrace.core.workload import RankPlace, Resources
from tests.core.power.graphs import block, element, group
from tests.core.power.graphs import site as graph_site
from tests.core.small import BOREALIS, FJORD, Core, core, estate, job

POWER = (
    element("t1", 9_000, kind="transformer"),
    element("t2", 9_000, kind="transformer"),
    element("a", 2_000, "t1"),
    element("b", 2_000, "t2"),
)
BLOCKS = (block("hall", groups=(group("g", 3, "a", "b"),)), block("shed", groups=(group("g", 1, "a"),)))
WHOLE = Resources("lab", 4, 250, 16)


def hall(*, blocks: tuple[object, ...] = BLOCKS, power: tuple[object, ...] = POWER) -> Core:
    """A hall of three nodes on two sides of 2 kW, and a shed of one on one of them: 4 kW at nameplate, 2 kW of failover."""
    made = core()
    made.apply(estate(fjord(blocks=blocks, power=power)))
    return made


def fjord(*, blocks: tuple[object, ...] = BLOCKS, power: tuple[object, ...] = POWER) -> Site:
    return replace(graph_site(*power, blocks=blocks), id=FJORD)  # type: ignore[arg-type]


def group_w(one: Core) -> dict[str, int]:
    """What each group of the site can draw, from the racks of the world."""
    fleet = one.world.fleet
    found: dict[str, int] = {}
    for index, name in enumerate(fleet.power_ids):
        if fleet.power_kind[index] == "rack":
            key = name.partition("/")[2].rpartition("-")[0]
            found[key] = found.get(key, 0) + int(one.world.power_w[index])
    return found


def test_what_is_placed_survives_every_loss_and_the_next_one_waits() -> None:
    """Two whole nodes would fit both sides together, but not one of them beside what idles."""
    made = hall()
    made.submit(*(job(f"j{number}", resources=WHOLE) for number in range(4)))
    assert len(made.place()) == 1
    assert list(overloads(fjord(), group_w(made))) == []
    assert made.plan().placements == ()
    # And it was not too careful: one more would be too much for whichever side were left.
    more = group_w(made)
    assert list(overloads(fjord(), more | {"hall/g": more["hall/g"] + 800}))


def test_a_plan_that_would_not_survive_is_a_violation() -> None:
    """The second opinion finds what the allotment would have kept: with one side lost the other is over."""
    made = hall()
    first, second = made.submit(job("j1", resources=WHOLE), job("j2", resources=WHOLE))
    placements = tuple(
        ProposedPlacement(work, FJORD, (RankPlace(f"fjord/hall/g-{number}-0", 15, 250, 16),))
        for number, work in enumerate((first, second))
    )
    one = Plan(made.state.version, placements[:1])
    assert check(made.world.snapshot(made.now_ms), one) == []
    found = check(made.world.snapshot(made.now_ms), Plan(made.state.version, placements))
    assert [(violation.subject, violation.rule) for violation in found] == [
        ("fjord/b", "power"),
        ("fjord/a", "power"),
        ("fjord/b", "power"),
        ("fjord/a", "power"),
    ]
    assert all("lost, 2000 W are allowed" in violation.detail for violation in found)


def test_the_loss_of_a_side_names_who_hangs_on_it_alone() -> None:
    """The hall goes on, on the other side; the shed is dark with all that runs there."""
    made = hall()
    work = made.submit(job("shed"), tenant=BOREALIS)[0]
    assert made.put(work, "fjord/shed/g-0-0").made
    found = impact(made.world, "fjord/t1")
    assert isinstance(found, Impact)
    assert (found.kind, found.dark, found.nodes) == ("transformer", ("fjord/a",), ("fjord/shed/g-0-0",))
    assert (found.workloads, found.tenants, found.contracts) == ((work,), (BOREALIS,), ("c-borealis",))
    # 200 W each idle in the hall.
    assert found.survivors == (
        Survivor("fjord/t2", "transformer", 300, 600, 9_000),
        Survivor("fjord/b", "feed", 300, 600, 2_000),
    )
    assert worst_loads(made.world, fjord())["b"] == Worst(300, 600, "t1")


@pytest.mark.parametrize(
    ("lost", "kind", "nodes"),
    [
        ("fjord/b", "feed", 0),
        ("fjord/hall", "block", 3),
        ("fjord/hall/g-1", "rack", 1),
        ("fjord/hall/g-1-0", "node", 1),
        ("fjord", "connection", 4),
    ],
)
def test_anything_can_be_lost(lost: str, kind: str, nodes: int) -> None:
    """From the connection to a node."""
    found = impact(hall().world, lost)
    assert isinstance(found, Impact)
    assert (found.kind, len(found.nodes)) == (kind, nodes)
    assert found.workloads == ()


@pytest.mark.parametrize(
    ("lost", "a", "b"),
    [
        ("fjord/hall", (500, 200), (300, 0)),
        ("fjord/hall/g-1", (500, 400), (300, 200)),
        ("fjord/hall/g-1-0", (500, 400), (300, 200)),
        ("fjord/shed", (500, 300), (300, 300)),
        ("fjord/shed/g-0-0", (500, 300), (300, 300)),
    ],
)
def test_the_loss_of_a_load_says_what_all_that_feeds_it_would_carry(
    lost: str, a: tuple[int, int], b: tuple[int, int]
) -> None:
    """A block, a rack and a node are on no way to anything: everything above stays live, and carries that much less."""
    found = impact(hall().world, lost)
    assert isinstance(found, Impact)
    carried = {one.element: (one.before_w, one.after_w) for one in found.survivors}
    assert carried == {"fjord/t1": a, "fjord/a": a, "fjord/t2": b, "fjord/b": b}


def test_a_node_that_is_lost_takes_what_runs_there_along() -> None:
    """All of it: 1,000 W, halved between both sides."""
    made = hall()
    work = made.submit(job("j1", resources=WHOLE))[0]
    assert made.put(work, "fjord/hall/g-1-0", mask=15).made
    found = impact(made.world, "fjord/hall/g-1-0")
    assert isinstance(found, Impact)
    assert found.workloads == (work,)
    carried = {one.element: (one.before_w, one.after_w) for one in found.survivors}
    assert carried["fjord/b"] == (700, 200)


def test_what_was_meant_is_looked_for_among_names_that_stand_once() -> None:
    """Feeders are elements of the site and of the tree: they are named once all the same."""
    found = impact(hall().world, "fjord/x")
    assert isinstance(found, Problem)
    listed = found.next_step.removeprefix("known: ").partition(".")[0].split(", ")
    assert len(listed) == len(set(listed)) > 4


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("fjord/c", "no element of the power tree 'fjord/c'"),
        ("fjrd/a", "Did you mean fjord?"),
        ("fjord/a+b", "an allotment: what hangs on a, b"),
    ],
)
def test_what_is_no_thing_cannot_be_lost(lost: str, said: str) -> None:
    """Unknown names, and allotments, which are none."""
    found = impact(hall().world, lost)
    assert isinstance(found, Problem)
    assert said in found.line()


def test_reservations_on_dark_nodes_are_named() -> None:
    """What was promised there is hit too."""
    made = hall()
    made.state.reserved["window"] = ("fjord/shed/g-0-0",)  # type: ignore[index]
    found = impact(made.world, "fjord/a")
    assert isinstance(found, Impact)
    assert found.reservations == ("window",)


def test_a_change_of_the_graph_under_what_runs_is_refused() -> None:
    """Taking a side away halves nothing that runs: who is beyond what survives is named."""
    made = hall()
    work = made.submit(job("j1", resources=WHOLE))[0]
    made.put(work, "fjord/hall/g-0-0", mask=15)
    weaker = tuple(replace(one, rating_w=900) if one.id == "b" else one for one in POWER)
    with pytest.raises(HeadraceError) as raised:
        made.apply(estate(fjord(power=weaker)))
    assert raised.value.problem.code is ProblemCode.IN_USE
    assert "fjord/a+b would be limited to 900 W of IT load, but up to 1400 W draw" in str(raised.value)
    assert work in str(raised.value)


def test_codes_of_problems() -> None:
    """A name that nothing has is not found, an allotment is bad input."""
    assert impact(hall().world, "fjord/c").code is ProblemCode.NOT_FOUND  # type: ignore[union-attr]
    assert impact(hall().world, "fjord/+a").code is ProblemCode.BAD_INPUT  # type: ignore[union-attr]


def test_the_second_opinion_reads_a_curve_of_its_own() -> None:
    """A connection whose meter a plan would overdraw at the design temperature, though not by the constant."""
    points = tuple(PuePoint(load, 30, pue) for load, pue in ((100, 1_600), (500, 1_300), (1_000, 1_100)))
    made = core()
    where = graph_site(blocks=(block("x", nodes=4),), connection_w=1_800)
    where = replace(where, id=FJORD, pue_permille=1_100, pue_curve=PueCurve(30, 4_000, points))
    made.apply(estate(where))
    # 800 W idle draw 1,200 W at the meter, and 275 W more 1,543 W; 1,350 W would draw 1,879 W.
    works = made.submit(job("j1"), job("j2"))
    nodes = ("fjord/x/g-0-0", "fjord/x/g-1-0")
    both = tuple(
        ProposedPlacement(work, FJORD, (RankPlace(node, 1, 250, 16),))
        for work, node in zip(works, nodes, strict=True)
    )
    snapshot = made.world.snapshot(made.now_ms)
    assert check(snapshot, Plan(made.state.version, both[:1])) == []
    found = check(snapshot, Plan(made.state.version, both))
    assert [(one.subject, one.rule) for one in found] == [("fjord", "power")]
