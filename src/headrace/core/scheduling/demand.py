"""How often each shape is asked for, counted over all workloads as they come."""

from collections.abc import Iterable, Sequence

from headrace.core.scheduling.shapes import NO_DEMAND, Demand, Shape
from headrace.core.workload import Alternative, WorkloadSpec

TYPICAL_PERCENT = 95
"""Typical shapes are the most frequent ones that together are so much of what is asked for."""
_FIRST = 16
_Asked = tuple[str, int, int, int, int, tuple[Alternative, ...]]
"""Model, accelerators, share_milli, cpu_milli and memory_mb of a rank, and the alternatives to the model."""


class Popularity:
    """Counts of shapes; ``demand`` is taken anew whenever a quarter more has come, so that it is the same after a restart."""

    def __init__(self, specs: Iterable[WorkloadSpec] = ()) -> None:
        self._counts: dict[_Asked, int] = {}
        self._total, self._next = 0, _FIRST
        self._taken: tuple[tuple[_Asked, int], ...] = ()
        self._demand: Demand | None = NO_DEMAND
        for spec in specs:
            self.add(spec)

    def add(self, spec: WorkloadSpec) -> None:
        """Somebody asks for this."""
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
            self._taken, self._demand = tuple(self._counts.items()), None

    @property
    def demand(self) -> Demand:
        """The typical shapes of what had come when there was last a quarter more of it."""
        if self._demand is None:
            self._demand = typical([(_shape(asked), count) for asked, count in self._taken])
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
