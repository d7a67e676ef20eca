"""How often each shape is asked for, counted over all workloads as they come."""

from collections.abc import Sequence

from headrace.core.scheduling.shapes import NO_DEMAND, Demand, Shape
from headrace.core.workload import Alternative, WorkloadSpec

TYPICAL_PERCENT = 95
"""Typical shapes are the most frequent ones that together are so much of what is asked for."""
_FIRST = 16
_Asked = tuple[str, int, int, int, int, tuple[Alternative, ...]]
"""Model, accelerators, share_milli, cpu_milli and memory_mb of a rank, and the alternatives to the model."""


class Popularity:
    """Counts of shapes; ``demand`` is taken anew whenever a quarter more has come, so that it is the same after a restart."""

    def __init__(self, specs: Sequence[WorkloadSpec] = ()) -> None:
        self._new: list[WorkloadSpec] = list(specs)
        self._counts: dict[_Asked, int] = {}
        self._total, self._next = 0, _FIRST
        self._demand = NO_DEMAND

    def add(self, spec: WorkloadSpec) -> None:
        """Somebody asks for this; counted when somebody wants to know."""
        self._new.append(spec)

    @property
    def demand(self) -> Demand:
        """The typical shapes of what had come when there was last a quarter more of it."""
        for spec in self._new:
            need = spec.resources
            key = (
                need.accelerator,
                need.accelerators,
                need.share_milli,
                need.cpu_milli,
                need.memory_mb,
                spec.alternatives,
            )
            self._counts[key] = self._counts.get(key, 0) + spec.nodes
            self._total += 1
            if self._total >= self._next:
                self._next = self._total * 5 // 4
                self._demand = typical([(_shape(one), count) for one, count in self._counts.items()])
        self._new.clear()
        return self._demand


def typical(counted: Sequence[tuple[Shape, int]]) -> Demand:
    """The most frequent of ``counted``, equals in their order, that together cover :data:`TYPICAL_PERCENT` of all."""
    total = sum(count for _, count in counted)
    shapes: list[tuple[Shape, int]] = []
    covered = 0
    for shape, count in sorted(counted, key=lambda one: -one[1]):
        if covered * 100 >= TYPICAL_PERCENT * total:
            break
        shapes.append((shape, count))
        covered += count
    return Demand(tuple(shapes))


def _shape(asked: _Asked) -> Shape:
    model, accelerators, share_milli, cpu_milli, memory_mb, alternatives = asked
    models = sorted({model, *(other.accelerator for other in alternatives)})
    return Shape(accelerators, share_milli, cpu_milli, memory_mb, () if "" in models else tuple(models))
