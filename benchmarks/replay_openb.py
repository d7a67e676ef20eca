"""The openb traces through the production planner: against the published harness, against FGD in ours, and against a bound."""

import csv
import os
import statistics
from functools import cache, lru_cache
from pathlib import Path

from benchmarks.registry import Figure
from headrace.core.scheduling.classic import BestFit, Fgd
from headrace.core.scheduling.rules import NodeRule
from headrace.core.scheduling.shapes import Shape
from headrace.replay.bound import lower_bound
from headrace.replay.openb import Cluster, arrivals, read_nodes, read_pods, replay, typical, until_full
from headrace.replay.seeds import configuration, is_flagged

SEEDS = range(42, 52)
QUICK_SEEDS = range(42, 44)
BOUND_SEEDS = range(42, 45)
"""The bound differs by less than 0.1 points from seed to seed, and takes the longest."""
DEFAULT = "openb_pod_list_default"


def data() -> Path:
    """Where the traces are: $HEADRACE_DATA, or shared/data beside the project."""
    return Path(os.environ.get("HEADRACE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def harness(quick: bool) -> Figure:
    """The greatest distance from the published means of BestFit and FGD on the default trace, in points."""
    published = _published(DEFAULT)
    found = {
        name: statistics.fmean(_left(DEFAULT, rule, seed) for seed in (QUICK_SEEDS if quick else SEEDS))
        for name, rule in (("BestFit", "best-fit"), ("FGD", "fgd"))
    }
    notes: dict[str, object] = {
        name: {"ours": round(value, 3), "published": published[name]} for name, value in found.items()
    }
    return Figure(max(abs(value - published[name]) for name, value in found.items()), notes)


def against_fgd(quick: bool) -> Figure:
    """The default policy's percent unallocated less FGD's in this harness, on the worst trace."""
    notes: dict[str, object] = {}
    worst = []
    for trace in _traces(quick):
        ours, fgd = _mean(trace, "default", quick), _mean(trace, "fgd", quick)
        published = _published(trace).get("FGD")
        worst.append(ours - fgd)
        notes[trace.removeprefix("openb_pod_list_")] = {
            "default": round(ours, 3),
            "fgd": round(fgd, 3),
            "fgd_published": published,
            "flagged": published is not None and is_flagged(fgd, published),
        }
    notes["configuration"] = configuration("default")
    return Figure(max(worst), notes)


def gap(quick: bool) -> Figure:
    """How much of the distance between FGD and the bound the default policy closes, on average over the traces."""
    notes: dict[str, object] = {}
    closed = []
    for trace in _traces(quick):
        seeds = QUICK_SEEDS[:1] if quick else BOUND_SEEDS
        bounds = [lower_bound(_cluster(), _arrived(trace, seed)).unallocated_percent for seed in seeds]
        bound = statistics.fmean(bounds)
        ours, fgd = _mean(trace, "default", quick), _mean(trace, "fgd", quick)
        closed.append((fgd - ours) / (fgd - bound))
        notes[trace.removeprefix("openb_pod_list_")] = {
            "bound": round(bound, 3),
            "closed": round(closed[-1], 3),
        }
    return Figure(statistics.fmean(closed), notes)


def _traces(quick: bool) -> list[str]:
    if quick:
        return [DEFAULT]
    return sorted(path.stem for path in (data() / "openb").glob("openb_pod_list_*.csv"))


def _mean(trace: str, rule: str, quick: bool) -> float:
    return statistics.fmean(_left(trace, rule, seed) for seed in (QUICK_SEEDS if quick else SEEDS))


@lru_cache(maxsize=1)
def _cluster() -> Cluster:
    return read_nodes(data() / "openb" / "openb_node_list_gpu_node.csv")


@lru_cache(maxsize=4)
def _pods(trace: str) -> tuple[Shape, ...]:
    return read_pods(data() / "openb" / f"{trace}.csv")


def _arrived(trace: str, seed: int) -> tuple[Shape, ...]:
    cluster = _cluster()
    return until_full(arrivals(_pods(trace), cluster.milli, seed), cluster.milli)


@cache
def _left(trace: str, rule: str, seed: int) -> float:
    """Percent unallocated when arrived demand reaches the cluster."""
    cluster, demand = _cluster(), typical(_pods(trace))
    rules: dict[str, NodeRule | None] = {"default": None, "best-fit": BestFit()}
    if rule == "fgd":
        rules["fgd"] = Fgd(cluster.hardware, demand)
    return replay(cluster, _arrived(trace, seed), demand, rules[rule]).unallocated_percent


def _published(trace: str) -> dict[str, float]:
    with (data() / "fgd_atc23" / "summary_unalloc.csv").open(newline="", encoding="utf-8") as file:
        return {
            row["policy"]: float(row["unalloc_gpu_pct_mean"])
            for row in csv.DictReader(file)
            if row["workload"] == trace and row["arrived_pct_of_gpu_capacity"] == "100"
        }
