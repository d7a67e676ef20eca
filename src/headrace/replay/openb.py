"""The openb traces: 1,213 nodes with 6,212 GPUs and the pods that asked for them, as the published experiment ran them.

Reading and arrivals stand apart from placing: a policy sees one pod at a time and the popularity of shapes. Source of
data and method: Weng, Yang et al., Beware of Fragmentation, USENIX ATC 2023. Pods are shuffled by the seed, then
re-sampled until they ask for more than the cluster has; nobody leaves; a pod that fits nowhere is refused for good.
"""

import csv
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.fleet import I64
from headrace.core.hardware import HardwareType
from headrace.core.scheduling.shapes import Demand, NodeView, Shape
from headrace.core.workload import WHOLE_MILLI

TYPICAL_PERCENT = 95
"""Typical pods are the most frequent specs that together cover so much of all pods, as in the paper."""
ARRIVED_PERCENT = 130
"""Up to how much of the cluster's GPUs pods are re-sampled."""
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes in order of name: of which type each is."""

    names: tuple[str, ...]
    hardware: tuple[HardwareType, ...]
    kind: I64

    @property
    def milli(self) -> int:
        """Thousandths of accelerators in all."""
        return WHOLE_MILLI * int(np.array([each.accelerators for each in self.hardware])[self.kind].sum())


class Policy(Protocol):
    """Chooses a node: the least cost wins, and of equals the first."""

    def costs(self, view: NodeView, shape: Shape) -> tuple[I64, I64]:
        """Cost of each row for ``shape``, which fits on all of them; and for a fraction which accelerator (else -1)."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """``unallocated_percent`` of all GPUs once arrived demand had reached 100 %; ``refused`` by shape, in thousandths."""

    unallocated_percent: float
    refused: tuple[tuple[Shape, int], ...]


def read_nodes(path: Path) -> Cluster:
    """The nodes of a file with columns sn, cpu_milli, memory_mib, gpu, model; those without a GPU are left out."""
    rows = sorted(_rows(path, ("sn", "cpu_milli", "memory_mib", "gpu", "model")), key=lambda row: row["sn"])
    rows = [row for row in rows if int(row["gpu"])]
    kinds: dict[HardwareType, int] = {}
    kind = [kinds.setdefault(_hardware(row), len(kinds)) for row in rows]
    return Cluster(tuple(row["sn"] for row in rows), tuple(kinds), np.array(kind, np.int64))


def read_pods(path: Path) -> tuple[Shape, ...]:
    """The pods of a file, in its order. The column gpu_spec may be missing: then every model will do."""
    return tuple(_shape(row) for row in _rows(path, ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")))


def typical(pods: Sequence[Shape]) -> Demand:
    """The most frequent specs, memory aside, that cover :data:`TYPICAL_PERCENT` of all pods."""
    count: Counter[Shape] = Counter(
        Shape(pod.accelerators, pod.share_milli, pod.cpu_milli, 0, pod.models) for pod in pods
    )
    shapes: list[tuple[Shape, int]] = []
    covered = 0
    for shape, times in count.most_common():
        if covered * 100 >= TYPICAL_PERCENT * len(pods):
            break
        shapes.append((shape, times))
        covered += times
    return Demand(tuple(shapes))


def arrivals(pods: Sequence[Shape], capacity_milli: int, seed: int) -> Iterator[Shape]:
    """The pods in random order, then re-sampled up to :data:`ARRIVED_PERCENT` of ``capacity_milli``."""
    chance = random.Random(seed)
    order = list(pods)
    chance.shuffle(order)
    yield from order
    asked_milli = sum(pod.milli for pod in order)
    while True:
        pod = pods[chance.randrange(len(pods))]
        asked_milli += pod.milli
        if asked_milli * 100 > ARRIVED_PERCENT * capacity_milli:
            return
        yield pod


def until_full(pods: Iterator[Shape], capacity_milli: int) -> tuple[Shape, ...]:
    """The first of ``pods`` that together ask for at least ``capacity_milli``."""
    taken: list[Shape] = []
    asked_milli = 0
    while asked_milli < capacity_milli and (pod := next(pods, None)) is not None:
        taken.append(pod)
        asked_milli += pod.milli
    return tuple(taken)


def replay(cluster: Cluster, arrived: Sequence[Shape], policy: Policy) -> Outcome:
    """Place ``arrived`` one by one, each where ``policy`` says, without knowledge of those that follow."""
    board = Board(cluster, policy)
    refused: dict[Shape, int] = {}
    for pod in arrived:
        if board.place(pod) is None:
            refused[pod] = refused.get(pod, 0) + pod.milli
    left_milli = int(board.view.left_milli.sum())
    return Outcome(100 * left_milli / cluster.milli, tuple(sorted(refused.items())))


class Board:
    """What every node has left, and for each shape the costs that still hold.

    The cost of a node depends on that node alone, so that only those touched since a shape was last asked for are
    asked for again.
    """

    def __init__(self, cluster: Cluster, policy: Policy) -> None:
        self.cluster = cluster
        self.view = _empty(cluster)
        self._policy = policy
        self._touched: list[int] = []
        self._known: dict[Shape, tuple[I64, I64, int]] = {}

    def place(self, pod: Shape) -> int | None:
        """Give ``pod`` what it asks for, and say on which node; None if no node has it."""
        cost, accelerator = self._costs(pod)
        node = int(cost.argmin())
        if cost[node] == _NEVER:
            return None
        self._take(node, int(accelerator[node]), pod)
        self._touched.append(node)
        return node

    def _costs(self, pod: Shape) -> tuple[I64, I64]:
        count = len(self.cluster.kind)
        known = self._known.get(pod)
        if known is None:
            cost, accelerator = np.full(count, _NEVER), np.full(count, -1)
            rows = np.arange(count)
        else:
            cost, accelerator, since = known
            rows = np.array(sorted(set(self._touched[since:])), np.int64)
        if len(rows):
            cost[rows] = _NEVER
            rows = rows[self._fits(self.view.at(rows), pod)]
            if len(rows):
                cost[rows], accelerator[rows] = self._policy.costs(self.view.at(rows), pod)
        self._known[pod] = (cost, accelerator, len(self._touched))
        return cost, accelerator

    def _fits(self, view: NodeView, pod: Shape) -> I64:
        accepted = np.array([pod.accepts(each.accelerator) for each in self.cluster.hardware])
        fits = (view.cpu_milli >= pod.cpu_milli) & (view.memory_mb >= pod.memory_mb)
        if pod.accelerators:
            fits &= accepted[view.kind]
            fits &= (view.left_milli >= pod.share_milli).sum(axis=1) >= pod.accelerators
        return np.flatnonzero(fits)

    def _take(self, node: int, accelerator: int, pod: Shape) -> None:
        left_milli = self.view.left_milli[node]
        if pod.is_fraction:
            left_milli[accelerator] -= pod.share_milli
        elif pod.accelerators:
            left_milli[np.flatnonzero(left_milli == WHOLE_MILLI)[: pod.accelerators]] = 0
        self.view.cpu_milli[node] -= pod.cpu_milli
        self.view.memory_mb[node] -= pod.memory_mb


def _empty(cluster: Cluster) -> NodeView:
    most = max(each.accelerators for each in cluster.hardware)
    have = np.array([[each.accelerators] for each in cluster.hardware])
    left_milli = np.where(np.arange(most) < have, WHOLE_MILLI, 0)[cluster.kind].astype(np.int64)
    cpu = np.array([each.cpu_milli for each in cluster.hardware], np.int64)
    memory = np.array([each.memory_mb for each in cluster.hardware], np.int64)
    return NodeView(cluster.kind.copy(), left_milli, cpu[cluster.kind], memory[cluster.kind])


def _rows(path: Path, wanted: tuple[str, ...]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [column for column in wanted if not rows or column not in rows[0]]
    if missing:
        raise HeadraceError(
            Problem(
                ProblemCode.BAD_INPUT,
                f"{path.name} lacks the columns {', '.join(missing)}.",
                "Give a node or pod list of the openb traces.",
                where=str(path),
            )
        )
    return rows


def _hardware(row: dict[str, str]) -> HardwareType:
    cpu_milli, memory_mb, accelerators = int(row["cpu_milli"]), int(row["memory_mib"]), int(row["gpu"])
    return HardwareType(
        id=f"{row['model']}-{accelerators}-{cpu_milli}-{memory_mb}",
        accelerator=row["model"],
        accelerators=accelerators,
        nameplate_w=0,
        idle_w=0,
        accelerator_w=0,
        accelerator_idle_w=0,
        cpu_milli=cpu_milli,
        memory_mb=memory_mb,
    )


def _shape(row: dict[str, str]) -> Shape:
    accelerators = int(row["num_gpu"])
    return Shape(
        accelerators=accelerators,
        share_milli=int(row["gpu_milli"]) if accelerators else WHOLE_MILLI,
        cpu_milli=int(row["cpu_milli"]),
        memory_mb=int(row["memory_mib"]),
        models=tuple(sorted(set(filter(None, row.get("gpu_spec", "").split("|"))))),
    )
