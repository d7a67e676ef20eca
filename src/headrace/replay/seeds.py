"""The openb experiment over several seeds: what each leaves unallocated when arrived demand reaches the cluster."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.core.errors import HeadraceError, unknown
from headrace.core.scheduling.classic import BestFit, Fgd, FirstFit
from headrace.core.scheduling.rules import NodeRule
from headrace.core.scheduling.shapes import Demand, Shape
from headrace.replay.configuration import default_configuration
from headrace.replay.openb import (
    Cluster,
    arrivals,
    check_demand,
    play,
    read_nodes,
    read_pods,
    replay,
    typical,
    until_full,
)
from headrace.replay.rows import MOST, rows_of

PUBLISHED = "summary_unalloc.csv"
"""Beside the folder of the traces, in ``fgd_atc23``: the published figures."""
_PUBLISHED_COLUMNS = ("workload", "policy", "arrived_pct_of_gpu_capacity", "unalloc_gpu_pct_mean")
_PUBLISHED_AS = {"best-fit": "BestFit", "fgd": "FGD"}
_CURVE_POINTS = 400
FLAGGED_POINTS = 0.5
"""A policy in this harness further than this from what is published of it is said."""

POLICIES: Mapping[str, Callable[[Cluster, Sequence[Shape]], NodeRule | None]] = {
    "default": lambda _cluster, _pods: None,
    "first-fit": lambda _cluster, _pods: FirstFit(),
    "best-fit": lambda _cluster, _pods: BestFit(),
    "fgd": lambda cluster, pods: Fgd(cluster.hardware, typical(pods)),
}
"""By name: what chooses the node of a pod in place of the planner's own rule, given the cluster and the list of pods."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """``per_seed``: percent unallocated of all GPUs. ``curve``, of the first seed: (arrived, allocated) in percent of them."""

    policy: str
    per_seed: dict[int, float]
    curve: list[tuple[float, float]]
    published: dict[str, float]
    wall_s: float

    def figures(self) -> dict[str, object]:
        """All but the curve; ``sd`` is the sample's, 0 for a single seed.

        ``flagged``, for a policy with a published figure of its own: whether the mean disagrees with it.
        """
        values = list(self.per_seed.values())
        mean = statistics.fmean(values)
        found: dict[str, object] = {
            "policy": self.policy,
            "configuration": configuration(self.policy),
            "unallocated_gpu_percent": {
                "mean": round(mean, 4),
                "sd": round(statistics.stdev(values), 4) if len(values) > 1 else 0.0,
            },
            "per_seed": {str(seed): round(value, 4) for seed, value in self.per_seed.items()},
            "wall_s": round(self.wall_s, 3),
        }
        if self.published:
            found["published"] = self.published
        same = self.published.get(_PUBLISHED_AS.get(self.policy, ""))
        if same is not None:
            found["flagged"] = is_flagged(mean, same)
        return found


def is_flagged(ours: float, published: float) -> bool:
    """Whether two means in percent disagree by more than :data:`FLAGGED_POINTS`."""
    return abs(ours - published) > FLAGGED_POINTS


def run(
    nodes: Path,
    pods: Path,
    policy: str,
    seeds: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
    published: Path | None = None,
) -> Seeds:
    """Play every seed. Raises HeadraceError for an unknown policy or a file that is none of openb's."""
    make = POLICIES.get(policy)
    if make is None:
        raise HeadraceError(unknown("policy", policy, POLICIES))
    began = time.perf_counter()
    cluster, listed = read_nodes(nodes), read_pods(pods)
    check_demand(listed, cluster.milli, str(pods))
    known = _published(published, pods, policy)
    per_seed: dict[int, float] = {}
    come: tuple[Shape, ...] = ()
    for done, seed in enumerate(seeds):
        if progress is not None:
            progress(done, len(seeds))
        arrived = until_full(arrivals(listed, cluster.milli, seed), cluster.milli)
        come = come or arrived
        per_seed[seed] = replay(cluster, arrived, typical(listed), make(cluster, listed)).unallocated_percent
    if progress is not None:
        progress(len(seeds), len(seeds))
    wall_s = time.perf_counter() - began
    return Seeds(
        policy,
        per_seed,
        _curve(cluster, come, typical(listed), make(cluster, listed)),
        known,
        wall_s,
    )


def configuration(policy: str) -> dict[str, object]:
    """What a policy is run with: the same for every trace."""
    return default_configuration() if policy == "default" else {"rule": policy}


def _curve(
    cluster: Cluster, arrived: Sequence[Shape], demand: Demand, rule: NodeRule | None
) -> list[tuple[float, float]]:
    """How what is allocated grows with what has arrived."""
    points = [(0.0, 0.0)]
    every = max(1, len(arrived) // _CURVE_POINTS)
    asked_milli = given_milli = 0
    for number, (pod, is_placed) in enumerate(play(cluster, arrived, demand, rule), 1):
        asked_milli += pod.milli
        given_milli += pod.milli if is_placed else 0
        if number % every == 0 or number == len(arrived):
            points.append((100 * asked_milli / cluster.milli, 100 * given_milli / cluster.milli))
    return points


def _published(path: Path | None, pods: Path, policy: str) -> dict[str, float]:
    """The published mean for this list of pods: of the same policy, and of FGD."""
    if path is None or not path.is_file():
        return {}
    wanted = dict.fromkeys(filter(None, (_PUBLISHED_AS.get(policy), "FGD")))
    rows = rows_of(path, _PUBLISHED_COLUMNS, "Give the published figures, or move the file away.")
    return {
        row.text("policy"): row.number("unalloc_gpu_pct_mean", -MOST)
        for row in rows
        if row.text("workload") == pods.stem
        and row.text("arrived_pct_of_gpu_capacity") == "100"
        and row.text("policy") in wanted
    }
