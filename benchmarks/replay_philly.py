"""A whole replay: jobs in the likeness of the given Philly trace through the production planner, on a simulated clock."""

import gc
import os
import time
from pathlib import Path

from benchmarks.registry import Figure
from headrace.replay import philly
from headrace.replay.classic import planner_of
from headrace.replay.clock import replay
from headrace.replay.likeness import likeness
from headrace.replay.policies import POLICIES

JOBS = 80_000
GPUS = 2_048
SEED = 1
QUICK = 10
"""A quick run has a tenth of the jobs on a tenth of the cluster, and counts ten times its seconds."""
NOTED = ("jct_mean_s", "wait_mean_s", "utilisation_percent", "plans", "plan_microseconds_per_event")


def data() -> Path:
    """Where the traces are: $HEADRACE_DATA, or shared/data beside the project."""
    return Path(os.environ.get("HEADRACE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def default(quick: bool) -> Figure:
    """Seconds from the first arrival to the last end, the default policy, durations unknown to it."""
    scale = QUICK if quick else 1
    jobs = likeness(philly.read(data() / "philly" / "philly_103959.csv"), JOBS // scale, seed=SEED)
    nodes = -(-GPUS // philly.NODE_GPUS // scale)
    cluster = philly.cluster_of(nodes * philly.NODE_GPUS, jobs)
    policy = POLICIES["default"]
    gc.collect()
    began, used = time.perf_counter(), time.process_time()
    outcome = replay(cluster, jobs, planner_of(policy, cluster))
    seconds = (time.perf_counter() - began) * scale
    figures = outcome.figures()
    notes: dict[str, object] = {"jobs": len(jobs), "gpus": cluster.capacity_milli // 1_000, "seed": SEED}
    notes |= {"processor_s": round((time.process_time() - used) * scale, 2), "policy": policy.name}
    notes |= {name: figures[name] for name in NOTED} | {"configuration": policy.configuration()}
    return Figure(seconds, notes, clean=len(outcome.ran) == len(jobs))
