"""The default node choice: what it keeps free, and that its costs are sound."""

from collections.abc import Sequence
from math import exp, log
from random import Random

import numpy as np
import pytest

from headrace.core.hardware import HardwareType
from headrace.core.scheduling.shapes import Demand, NodeView, Shape
from headrace.core.scheduling.waste import BRIGHT, PRICE, STOP, Waste
from headrace.core.workload import WHOLE_MILLI


def hardware(
    accelerators: int, *, model: str = "M", cpu: int = 96, memory_mb: int = 1_000_000
) -> HardwareType:
    return HardwareType(
        id=f"{model}-{accelerators}-{cpu}-{memory_mb}",
        accelerator=model,
        accelerators=accelerators,
        nameplate_w=0,
        idle_w=0,
        accelerator_w=0,
        accelerator_idle_w=0,
        cpu_milli=cpu * 1000,
        memory_mb=memory_mb,
    )


def whole(accelerators: int, *, cpu: int = 8, memory_mb: int = 0, models: tuple[str, ...] = ()) -> Shape:
    return Shape(accelerators, WHOLE_MILLI, cpu * 1000, memory_mb, models)


def share(milli: int, *, cpu: int = 1) -> Shape:
    return Shape(1, milli, cpu * 1000, 0)


def view(
    *rows: tuple[Sequence[int], int], kind: Sequence[int] | None = None, memory_mb: int = 10**6
) -> NodeView:
    """Rows of (what each accelerator has left, processors left)."""
    width = max(len(left) for left, _ in rows)
    return NodeView(
        kind=np.array(kind or [0] * len(rows), np.int64),
        left_milli=np.array([[*left, *[0] * (width - len(left))] for left, _ in rows], np.int64),
        cpu_milli=np.array([cpu * 1000 for _, cpu in rows], np.int64),
        memory_mb=np.full(len(rows), memory_mb, np.int64),
    )


def test_the_loss_of_one_accelerator_is_as_by_hand() -> None:
    """One accelerator, one shape that takes it all: lost only if nobody comes; taking it adds the price."""
    rule = Waste([hardware(1)], [1], Demand(((whole(1), 5),)))
    cost, accelerator = rule.costs(view(([1000], 96)), whole(1))
    expected = -log((1 + STOP * exp(-BRIGHT)) / (1 + STOP)) / BRIGHT
    assert cost.tolist() == [round(PRICE * 1_000_000) - round(expected * 1_000_000)]
    assert accelerator.tolist() == [-1]


def test_the_last_share_of_an_accelerator_is_as_by_hand() -> None:
    """It saves what the node would lose if nobody came, and the same of the accelerator; and adds its part of the price."""
    rule = Waste([hardware(1)], [1], Demand(((share(50), 5),)))
    cost, accelerator = rule.costs(view(([50], 96)), share(50))
    saved = -log((1 + STOP * exp(-BRIGHT * 0.05)) / (1 + STOP)) / BRIGHT
    assert cost.tolist() == [round(PRICE * 50_000) - 2 * round(saved * 1_000_000)]
    assert accelerator.tolist() == [0]


@pytest.mark.parametrize(
    ("left", "asked", "chosen"),
    [
        ([1000, 300], 300, 1),  # the gap that it fills exactly, not a whole one
        ([700, 300], 300, 1),  # 0.7 is kept for the 0.7
        ([1000, 900], 700, 0),  # 0.2 would be of no use, 0.3 is
        ([0, 700], 700, 1),  # the only one with room
    ],
)
def test_a_share_goes_where_what_remains_can_be_used(left: list[int], asked: int, chosen: int) -> None:
    """With shares of 0.7 and 0.3 about."""
    rule = Waste([hardware(2)], [4], Demand(((share(700), 5), (share(300), 5))))
    _, accelerator = rule.costs(view((left, 96)), share(asked))
    assert accelerator.tolist() == [chosen]


def test_small_ones_leave_whole_nodes_to_gangs() -> None:
    """One accelerator is taken from a broken node while gangs of eight are about."""
    demand = Demand(((whole(8, cpu=80), 3), (whole(1), 10)))
    rule = Waste([hardware(8)], [10], demand)
    cost, _ = rule.costs(view(([1000] * 8, 96), ([1000] * 4, 48)), whole(1))
    assert cost.argmin() == 1


def test_who_takes_any_model_leaves_the_sought_one() -> None:
    """Two thirds of the few B nodes are asked for by name: who needn't have one goes to A, who must goes to B."""
    demand = Demand(((whole(1), 20), (whole(1, models=("B",)), 6)))
    rule = Waste([hardware(8, model="A"), hardware(8, model="B")], [20, 8], demand)
    both = view(([1000] * 8, 96), ([1000] * 8, 96), kind=[1, 0])
    cost, _ = rule.costs(both, whole(1))
    assert cost.argmin() == 1


def test_processors_stay_with_accelerators_that_need_them() -> None:
    """A rank without accelerators goes where none is left, then where most processors are over."""
    rule = Waste([hardware(8)], [10], Demand(((whole(1, cpu=12), 1),)))
    rows = view(([1000] * 4, 48), ([1000] * 4, 60), ([0] * 4, 40))
    cost, accelerator = rule.costs(rows, whole(0, cpu=12))
    assert cost.argsort(kind="stable").tolist() in ([1, 2, 0], [2, 1, 0])
    assert cost[0] > 0
    assert accelerator.tolist() == [-1, -1, -1]


def test_memory_counts_where_it_is_what_runs_out() -> None:
    """A rank that takes memory alone goes where enough is left for the next accelerator."""
    demand = Demand(((whole(1, cpu=1, memory_mb=100_000), 1),))
    rule = Waste([hardware(8, memory_mb=800_000)], [10], demand)
    rows = NodeView(
        np.array([0, 0]), np.array([[1000], [1000]]), np.array([96_000, 96_000]), np.array([100_000, 200_000])
    )
    cost, _ = rule.costs(rows, whole(0, cpu=1, memory_mb=100_000))
    assert cost[0] > cost[1] + 100_000


def test_costs_belong_to_rows_and_fractions_get_an_accelerator_with_room() -> None:
    """In any order of rows each has the same cost; what was passed in is unchanged."""
    chance = Random(3)
    kinds = [hardware(8), hardware(4, model="N", cpu=32), hardware(1, cpu=8)]
    shapes = [(share(chance.randrange(10, 1000, 10)), chance.randint(1, 9)) for _ in range(12)]
    rule = Waste(kinds, [5, 5, 5], Demand((*shapes, (whole(1), 9), (whole(4, cpu=30), 2))))
    kind = [chance.randrange(3) for _ in range(60)]
    rows = view(
        *(
            ([chance.choice([0, 1000, chance.randrange(500, 1000)]) for _ in range(kinds[k].accelerators - 1)]
             + [1000], chance.randint(1, kinds[k].cpu_milli // 1000))
            for k in kind
        ),
        kind=kind,
    )  # fmt: skip
    before = [column.copy() for column in (rows.kind, rows.left_milli, rows.cpu_milli, rows.memory_mb)]
    order = np.array(chance.sample(range(60), 60), np.int64)
    for shape, _ in shapes:
        cost, accelerator = rule.costs(rows, shape)
        assert (rows.left_milli[np.arange(60), accelerator] >= shape.share_milli).all()
        again, where = rule.costs(rows.at(order), shape)
        assert again.tolist() == cost[order].tolist()
        assert where.tolist() == accelerator[order].tolist()
    for kept, column in zip(
        before, (rows.kind, rows.left_milli, rows.cpu_milli, rows.memory_mb), strict=True
    ):
        assert (kept == column).all()


@pytest.mark.parametrize("accelerators", [0, 1, 8, 16, 72])
def test_a_placement_never_costs_more_than_the_node_holds(accelerators: int) -> None:
    """Whatever the size of a node, the loss that is expected lies between nothing and all that is left."""
    kinds = [hardware(accelerators, cpu=256)]
    demand = Demand(((share(810), 5), (share(470), 5), (whole(1, cpu=3), 9), (whole(8, cpu=30), 1)))
    rule = Waste(kinds, [3], demand)
    rows = view(([1000] * accelerators or [0], 256), ([1000] * accelerators or [0], 9))
    for shape in (whole(0, cpu=9), whole(min(1, accelerators), cpu=3)):
        cost, _ = rule.costs(rows, shape)
        limit = (accelerators + PRICE * shape.accelerators) * 1_000_000
        assert (np.abs(cost) <= limit + 1).all()


def test_without_popularity_the_first_node_is_as_good_as_any() -> None:
    """A demand of nothing, and hardware that nothing fits on, give equal costs."""
    for demand in (Demand(()), Demand(((whole(99), 1),))):
        rule = Waste([hardware(8)], [2], demand)
        cost, _ = rule.costs(view(([1000] * 8, 96), ([1000] * 3, 40)), whole(1))
        assert len(set(cost.tolist())) == 1
