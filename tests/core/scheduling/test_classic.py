"""The classic node choices, as published."""

from math import exp
from random import Random

import numpy as np

from headrace.core.scheduling.classic import BestFit, Fgd, FirstFit, Fragmentation
from headrace.core.scheduling.shapes import Demand, NodeView, Shape
from tests.core.scheduling.test_waste import hardware, share, view, whole


def test_first_fit_takes_the_first() -> None:
    """All nodes cost the same, and so the first wins; of a node the first accelerator with room."""
    cost, accelerator = FirstFit().costs(view(([200, 900, 1000], 9), ([1000], 9)), share(500))
    assert cost.tolist() == [0, 0]
    assert accelerator.tolist() == [1, 0]


def test_best_fit_is_as_by_hand() -> None:
    """100 less the score, of which the fraction is cut: half by processors of 128, half by accelerators of 8."""
    rows = view(([1000, 1000], 64), ([1000, 500], 12), ([700], 8))
    cost, accelerator = BestFit().costs(rows, share(500, cpu=8))
    scores = [
        int((1 - ((cpu - 8) / 128 / 2 + (left - 0.5) / 8 / 2)) * 100)
        for cpu, left in ((64, 2), (12, 1.5), (8, 0.7))
    ]
    assert cost.tolist() == [100 - score for score in scores]
    assert accelerator.tolist() == [0, 1, 0]
    _, none = BestFit().costs(rows.at(np.array([0])), whole(2))
    assert none.tolist() == [-1]


def fragmentation(rows: NodeView, row: int, models: list[str], demand: Demand) -> int:
    """The measure, pod by pod and accelerator by accelerator."""
    found = 0
    lefts = [int(left) for left in rows.left_milli[row]]
    for shape, times in demand.shapes:
        runs = shape.accelerators > 0 and shape.accepts(models[int(rows.kind[row])])
        runs = runs and rows.cpu_milli[row] >= shape.cpu_milli
        runs = runs and sum(left >= shape.share_milli for left in lefts) >= shape.accelerators
        found += times * sum(left for left in lefts if not runs or left < shape.share_milli)
    return found


def test_fragmentation_and_its_growth_are_as_defined() -> None:
    """On random nodes: the measure, and the cost that comes of it for the best accelerator."""
    chance = Random(11)
    kinds = [hardware(4, model="A"), hardware(2, model="B")]
    demand = Demand(
        (
            (share(500), 4),
            (whole(1, cpu=12), 3),
            (whole(2, models=("A",)), 2),
            (whole(0, cpu=4), 5),
            (share(810), 2),
        )
    )
    pods = sum(times for _, times in demand.shapes)
    for _ in range(60):
        kind = chance.randrange(2)
        lefts = [chance.choice([0, 250, 500, 810, 1000]) for _ in range(kinds[kind].accelerators - 1)] + [
            1000
        ]
        rows = view((lefts, chance.randint(8, 40)), kind=[kind])
        before = fragmentation(rows, 0, ["A", "B"], demand)
        assert Fragmentation(kinds, demand).of(rows).tolist() == [before]
        asked = share(chance.choice([250, 500]), cpu=8)
        costs: list[int] = []
        for number, left in enumerate(lefts):
            if left >= asked.share_milli:
                after = view(
                    ([*lefts[:number], left - asked.share_milli, *lefts[number + 1 :]], 0), kind=[kind]
                )
                after.cpu_milli[:] = rows.cpu_milli - asked.cpu_milli
                growth = (fragmentation(after, 0, ["A", "B"], demand) - before) / pods / 1000
                costs.append(100 - int(100 / (1 + exp(growth))))
            else:
                costs.append(10**9)
        cost, accelerator = Fgd(kinds, demand).costs(rows, asked)
        assert cost.tolist() == [min(costs)]
        assert accelerator.tolist() == [costs.index(min(costs))]


def test_fgd_takes_whole_accelerators_that_are_untouched() -> None:
    """A gang of two on [0.5, 1, 1] leaves the half, which the typical pod of one half can use: nothing is lost."""
    demand = Demand(((Shape(1, 500, 0, 0), 1),))
    cost, accelerator = Fgd([hardware(3)], demand).costs(view(([500, 1000, 1000], 96)), whole(2))
    assert cost.tolist() == [50]
    assert accelerator.tolist() == [-1]
