"""Node choice by a rule of costs: where the default applies, and the costs that still hold from plan to plan.

The cost of a node depends on that node alone, so that only nodes that were touched since an ask was last looked at are
asked for again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from headrace.core.fleet import I64
from headrace.core.hardware import HardwareType
from headrace.core.scheduling.columns import Ask, Columns, Mask, Scratch
from headrace.core.scheduling.shapes import Demand, NodeView, Shape
from headrace.core.scheduling.waste import Waste

_MOST_RULES = 4
NEVER = np.iinfo(np.int64).max
"""The cost of a node that can't take a rank."""


class NodeRule(Protocol):
    """Chooses a node: the least cost wins, and of equals the first."""

    def costs(self, view: NodeView, shape: Shape) -> tuple[I64, I64]:
        """Cost of each row for ``shape``, which fits on all of them; and for a fraction which accelerator (else -1)."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of costs and the types of hardware (by index in the fleet) for which it decides."""

    of: NodeRule
    decides: tuple[bool, ...]


@dataclass(slots=True)
class Costs:
    """Costs of an ask for the nodes of a site, and how much of the site's history they have in them."""

    cost: I64
    accelerator: I64
    seen: int


def default_rule(columns: Columns, demand: Demand) -> Rule | None:
    """The least expected loss, wherever it is another choice than the fewest free accelerators; None: nowhere.

    That is where accelerators are asked for in parts, or processors or memory run out before them.
    """
    hardware = columns.fleet.hardware
    decides = tuple(_is_contested(kind, demand) for kind in hardware)
    if not any(decides):
        return None
    counts = np.bincount(columns.fleet.node_hardware, minlength=len(hardware)).tolist()
    return Rule(_waste(hardware, tuple(counts), demand), decides)


@lru_cache(maxsize=_MOST_RULES)
def _waste(hardware: tuple[HardwareType, ...], counts: tuple[int, ...], demand: Demand) -> Waste:
    """A restart, and a second planner beside the first, ask for the same one."""
    return Waste(hardware, counts, demand)


def everywhere(columns: Columns, of: NodeRule) -> Rule:
    """A rule that decides for every type of hardware."""
    return Rule(of, (True,) * len(columns.fleet.hardware))


def _is_contested(kind: HardwareType, demand: Demand) -> bool:
    for shape, _ in demand.shapes:
        if (
            not shape.accelerators
            or shape.accelerators > kind.accelerators
            or not shape.accepts(kind.accelerator)
        ):
            continue
        scarce = (
            shape.cpu_milli * kind.accelerators > kind.cpu_milli * shape.accelerators
            or shape.memory_mb * kind.accelerators > kind.memory_mb * shape.accelerators
        )
        if shape.is_fraction or scarce:
            return True
    return False


def shape_of(ask: Ask) -> Shape:
    """An ask of one node, as rules have it."""
    models = (ask.model,) if ask.model else ()
    return Shape(ask.accelerators, ask.share_milli, ask.cpu_milli, ask.memory_mb, models)


def choose_by(
    columns: Columns,
    state: Scratch,
    ask: Ask,
    suit: Mask,
    span: slice,
    rule: Rule,
    known: Costs | None,
    history: Sequence[int],
) -> tuple[Costs, tuple[int, int] | None]:
    """The costs of an ask at a site now, and (cost, node) of the least that its power carries; None if there is none.

    ``known``: the costs as they were, None for none; ``history``: the nodes of the site touched so far, in order.
    """
    if known is None:
        count = span.stop - span.start
        known = Costs(np.full(count, NEVER), np.full(count, -1), len(history))
        nodes = np.flatnonzero(suit) + span.start
    else:
        touched = sorted(set(history[known.seen :]))
        known.seen = len(history)
        nodes = np.array(touched, dtype=np.int64)
        nodes = nodes[suit[nodes - span.start]]
    if len(nodes):
        _refresh(columns, state, ask, span, rule, known, nodes)
    cost = known.cost
    best = int(cost.argmin())
    if cost[best] == NEVER:
        return known, None
    if _carries(columns, state, ask, best + span.start, int(known.accelerator[best])):
        return known, (int(cost[best]), best + span.start)
    for at in np.argsort(cost, kind="stable").tolist():
        if cost[at] == NEVER:
            break
        if _carries(columns, state, ask, at + span.start, int(known.accelerator[at])):
            return known, (int(cost[at]), at + span.start)
    return known, None


def _refresh(
    columns: Columns, state: Scratch, ask: Ask, span: slice, rule: Rule, known: Costs, nodes: I64
) -> None:
    known.cost[nodes - span.start] = NEVER
    fits = state.open[nodes]
    fits &= state.cpu_milli[nodes] >= ask.cpu_milli
    fits &= state.memory_mb[nodes] >= ask.memory_mb
    if not ask.is_fraction:
        fits &= state.free[nodes] >= ask.accelerators
    nodes = nodes[fits]
    if not len(nodes):
        return
    left = state.left_milli(columns, ask, nodes)
    if ask.is_fraction:
        enough = (left >= ask.share_milli).sum(axis=1) >= ask.accelerators
        nodes, left = nodes[enough], left[enough]
        if not len(nodes):
            return
    kind = columns.fleet.node_hardware[nodes].astype(np.int64)
    view = NodeView(kind, left, state.cpu_milli[nodes], state.memory_mb[nodes])
    at = nodes - span.start
    known.cost[at], known.accelerator[at] = rule.of.costs(view, shape_of(ask))


def _carries(columns: Columns, state: Scratch, ask: Ask, node: int, accelerator: int) -> bool:
    """Whether the elements over a node carry a rank on it; ``accelerator``: which a fraction gets a part of."""
    step_w, wake_w, path = columns.rows[node]
    added = ask.accelerators * step_w + (wake_w if state.ranks[node] == 0 else 0)
    if ask.is_fraction and not int(state.bits[node]) >> accelerator & 1:
        # Somebody has a part of it: it is awake.
        added -= step_w
    head_w = state.head_w.data
    return all(head_w[element] >= added for element in path)
