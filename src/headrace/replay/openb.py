"""The openb traces: 1,213 nodes with 6,212 GPUs and the pods that asked for them, as the published experiment ran them.

Reading and arrivals stand apart from placing: the planner sees one pod at a time and the popularity of shapes. Source of
data and method: Weng, Yang et al., Beware of Fragmentation, USENIX ATC 2023. Pods are shuffled by the seed, then
re-sampled until they ask for more than the cluster has; nobody leaves; a pod that fits nowhere is refused for good.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np

from headrace.core.fleet import I64, Fleet
from headrace.core.hardware import HardwareType
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.rules import NodeRule
from headrace.core.scheduling.shapes import Demand, Shape
from headrace.core.workload import WHOLE_MILLI, Alternative, Resources, WorkloadSpec, WorkloadType
from headrace.replay.cluster import BEGIN_MS, PROJECT, ReplayCluster, fleet_of
from headrace.replay.rows import WIDEST, Row, bad, rows_of

TYPICAL_PERCENT = 95
"""Typical pods are the most frequent specs that together cover so much of all pods, as in the paper."""
ARRIVED_PERCENT = 130
"""Up to how much of the cluster's GPUs pods are re-sampled."""
MOST_PODS = 1_000_000
"""The most that may come until the cluster's GPUs are asked for: each costs a plan."""
_STEP = "Give a node or pod list of the openb traces."
TENANT = "replay"


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """``unallocated_percent`` of all GPUs once arrived demand had reached 100 %; ``refused`` by shape, in thousandths."""

    unallocated_percent: float
    refused: tuple[tuple[Shape, int], ...]


def read_nodes(path: Path) -> Cluster:
    """The nodes of a file with columns sn, cpu_milli, memory_mib, gpu, model; those without a GPU are left out.

    Raises HeadraceError that names the file, and the line where it is one.
    """
    rows = rows_of(path, ("sn", "cpu_milli", "memory_mib", "gpu", "model"), _STEP)
    made = sorted(((row.text("sn"), _hardware(row)) for row in rows), key=lambda one: one[0])
    made = [(name, hardware) for name, hardware in made if hardware.accelerators]
    if not made:
        raise bad(str(path), "no node in it has a GPU.", _STEP)
    kinds: dict[HardwareType, int] = {}
    kind = [kinds.setdefault(hardware, len(kinds)) for _, hardware in made]
    return Cluster(tuple(name for name, _ in made), tuple(kinds), np.array(kind, np.int64))


def read_pods(path: Path) -> tuple[Shape, ...]:
    """The pods of a file, in its order. The column gpu_spec may be missing: then every model will do.

    Raises HeadraceError that names the file, and the line where it is one.
    """
    rows = rows_of(path, ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli"), _STEP)
    return tuple(map(_shape, rows))


def check_demand(pods: Sequence[Shape], capacity_milli: int, where: str) -> None:
    """Raise HeadraceError unless no more than :data:`MOST_PODS` of ``pods`` ask for ``capacity_milli``."""
    asked_milli = sum(pod.milli for pod in pods)
    if not asked_milli:
        message = "no pod in it asks for a GPU, so that the cluster's are never all asked for."
        raise bad(where, message, "Give a list with pods that have num_gpu and gpu_milli.")
    if capacity_milli * len(pods) > MOST_PODS * asked_milli:
        message = (
            f"its pods ask for {asked_milli:,} thousandths of a GPU, {len(pods):,} of them: "
            f"more than {MOST_PODS:,} had to come until the cluster's {capacity_milli:,} are asked for."
        )
        raise bad(where, message, "Give fewer nodes, or pods that ask for more.")


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
    # Who asks for nothing never fills a cluster.
    while asked_milli:
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


def replay(
    cluster: Cluster, arrived: Sequence[Shape], demand: Demand, rule: NodeRule | None = None
) -> Outcome:
    """What is left once all of ``arrived`` had their turn, as :func:`play` has it."""
    refused: dict[Shape, int] = {}
    given_milli = 0
    for pod, is_placed in play(cluster, arrived, demand, rule):
        if is_placed:
            given_milli += pod.milli
        else:
            refused[pod] = refused.get(pod, 0) + pod.milli
    return Outcome(100 * (cluster.milli - given_milli) / cluster.milli, tuple(sorted(refused.items())))


def play(
    cluster: Cluster, arrived: Iterable[Shape], demand: Demand, rule: NodeRule | None = None
) -> Iterator[tuple[Shape, bool]]:
    """Let the production planner place each pod on its arrival and for good; which, and whether it was placed.

    ``demand``: the popularity of shapes, all that is known of those that follow. ``rule``: a classic rule of node choice in
    place of the planner's own.
    """
    nodes = ReplayCluster(_fleet(cluster))
    nodes.demand = demand
    for number, pod in enumerate(arrived):
        now_ms = BEGIN_MS + number
        work = nodes.submit(f"pod-{number}", TENANT, _spec(pod), now_ms)
        nodes.adopt(plan(nodes.snapshot(now_ms), rule=rule), now_ms)
        if work.placement is None:
            nodes.withdraw(work)
        yield pod, work.placement is not None


def _fleet(cluster: Cluster) -> Fleet:
    """The nodes in order of name, which decides between equals."""
    runs = [(kind, len(list(same))) for kind, same in groupby(cluster.kind.tolist())]
    return fleet_of([(cluster.hardware[kind], count) for kind, count in runs])


@lru_cache(maxsize=4_096)
def _spec(pod: Shape) -> WorkloadSpec:
    models = pod.models or ("",)
    return WorkloadSpec(
        name="pod",
        type=WorkloadType.JOB,
        project=PROJECT,
        resources=Resources(models[0], pod.accelerators, pod.cpu_milli, pod.memory_mb, pod.share_milli),
        commands=(),
        alternatives=tuple(Alternative(model, pod.accelerators) for model in models[1:]),
    )


def _hardware(row: Row) -> HardwareType:
    cpu_milli, memory_mb = row.whole("cpu_milli"), row.whole("memory_mib")
    accelerators, model = row.whole("gpu", most=WIDEST), row.text("model")
    return HardwareType(
        id=f"{model}-{accelerators}-{cpu_milli}-{memory_mb}",
        accelerator=model,
        accelerators=accelerators,
        nameplate_w=0,
        idle_w=0,
        accelerator_w=0,
        accelerator_idle_w=0,
        cpu_milli=cpu_milli,
        memory_mb=memory_mb,
    )


def _shape(row: Row) -> Shape:
    accelerators = row.whole("num_gpu", most=WIDEST)
    share_milli = row.whole("gpu_milli", 1, WHOLE_MILLI) if accelerators else WHOLE_MILLI
    if accelerators > 1 and share_milli != WHOLE_MILLI:
        message = f"gpu_milli is {share_milli} for {accelerators} GPUs: of several each is had whole."
        raise bad(row.where, message, f"Write {WHOLE_MILLI}, or num_gpu 1.")
    return Shape(
        accelerators=accelerators,
        share_milli=share_milli,
        cpu_milli=row.whole("cpu_milli"),
        memory_mb=row.whole("memory_mib"),
        models=tuple(sorted(set(filter(None, row.text("gpu_spec").split("|"))))),
    )
