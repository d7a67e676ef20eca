"""The published field test of 256 GPUs that shed 25 %: what the production allocator achieves, and the exact optimum."""

import os
from pathlib import Path

import highspy

from benchmarks.registry import Figure
from headrace.core.power.curves import PPM
from headrace.documents.event import EventFile, load_event
from headrace.replay.event import Played, play, read_curves

LEAST_SHARE = 0.98
"""Of the exact optimum."""


def data() -> Path:
    """Where the traces are: $HEADRACE_DATA, or shared/data beside the project."""
    return Path(os.environ.get("HEADRACE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def performance(quick: bool) -> Figure:
    """Weighted performance while the reduction is whole; not clean unless target and floors hold and the optimum is near."""
    folder = data() / "emerald_phoenix"
    event = load_event(folder / "cluster.yaml")
    found = play(event, folder / "dvfs_sweep.csv")
    enforced = play(event, folder / "dvfs_sweep.csv", "enforced")
    best = _by_highs(event, folder / "dvfs_sweep.csv", found.target_w)
    share = found.weighted_performance / best
    kept = all(
        part >= job.floor_ppm for part, job in zip(found.held.performances_ppm, event.jobs, strict=True)
    )
    notes: dict[str, object] = {
        "optimum_by_highs": round(best, 6),
        "optimum_by_table": round(found.optimum, 6),
        "share_of_optimum": round(share, 6),
        "bound_with_caps_changing_in_time": round(found.bound, 6),
        "with_enforced_credit": round(enforced.weighted_performance, 6),
        "worst_overshoot_watts": max(0.0, found.overshoot_w),
        "floors_kept": kept,
        "caps_watts": list(found.held.caps_w),
        "wall_s": round(found.wall_s, 3),
    }
    clean = kept and _holds(found) and _holds(enforced) and share >= LEAST_SHARE
    return Figure(found.weighted_performance, notes, clean=clean)


def _holds(found: Played) -> bool:
    return found.overshoot_w <= 0


def _by_highs(event: EventFile, curves: Path, target_w: int) -> float:
    """The optimum as a mixed-integer program: a binary for each job and each whole watt of its cap."""
    measured = read_curves(curves)
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # it has no types
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("mip_rel_gap", 1e-8)
    draws, values = [], []
    for job in event.jobs:
        curve = measured[job.name]
        top = curve.points[-1][0]
        before_w = event.reference_w or top
        picks = []
        for cap_w in curve.caps_w(before_w, False):
            part = curve.throughput(cap_w) / curve.throughput(before_w)
            if part * PPM >= job.floor_ppm:
                pick = solver.addBinary()
                picks.append(pick)
                draws.append(float(curve.draw_w(cap_w) * job.gpus) * pick)
                values.append(float(part) * job.weight * pick)
        solver.addConstr(sum(picks) == 1)
    solver.addConstr(sum(draws) <= target_w)
    solver.maximize(sum(values))
    return float(solver.getObjectiveValue()) / sum(job.weight for job in event.jobs)
