"""What the node-choice rules talk about: shapes of requests, how popular each is, and what nodes have left."""

from dataclasses import dataclass

import numpy as np

from headrace.core.fleet import I64
from headrace.core.workload import WHOLE_MILLI


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """What one rank asks of a node.

    ``share_milli`` is 1,000 for whole accelerators; less only when ``accelerators`` is 1. Zero accelerators is a rank
    that runs on processors alone. ``models`` are the accelerator models that will do; empty: any.
    """

    accelerators: int
    share_milli: int
    cpu_milli: int
    memory_mb: int
    models: tuple[str, ...] = ()

    @property
    def milli(self) -> int:
        """Thousandths of accelerators that it takes in all."""
        return self.accelerators * self.share_milli

    @property
    def is_fraction(self) -> bool:
        """Whether it takes part of one accelerator."""
        return self.accelerators == 1 and self.share_milli < WHOLE_MILLI

    def accepts(self, model: str) -> bool:
        """Whether accelerators of ``model`` will do."""
        return not self.models or model in self.models


@dataclass(frozen=True, slots=True)
class Demand:
    """How often each shape is asked for: all that a rule may know of what comes next."""

    shapes: tuple[tuple[Shape, int], ...]


NO_DEMAND = Demand(())
"""Nothing is known of what is asked for."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """What each candidate node has left, a row each.

    ``kind`` indexes the hardware that the rule was built for. ``left_milli[n, a]`` is what accelerator ``a`` has left,
    0 to 1,000, and 0 where the node has no such accelerator.
    """

    kind: I64
    left_milli: I64
    cpu_milli: I64
    memory_mb: I64

    def at(self, rows: I64) -> "NodeView":
        """Only ``rows``."""
        return NodeView(self.kind[rows], self.left_milli[rows], self.cpu_milli[rows], self.memory_mb[rows])


def whole_after(left_milli: I64, accelerators: int) -> I64:
    """``left_milli`` once the first ``accelerators`` untouched accelerators of each row are taken."""
    whole = left_milli == WHOLE_MILLI
    taken = whole & (np.cumsum(whole, axis=1) <= accelerators)
    return np.where(taken, 0, left_milli)
