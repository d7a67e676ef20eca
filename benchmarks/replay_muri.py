"""The Muri traces through the production rule for jobs that share accelerators in time, against the published figures."""

import os
from pathlib import Path

from benchmarks.registry import Figure
from headrace.replay.muri import Durations, replay
from headrace.replay.result import Result, least

TRACES = ("trace1", "trace1_pr", "trace2", "trace2_pr")
QUICK = TRACES[:2]
WITHOUT_DURATIONS = ("Tiresias_L", "themis", "antman")


def data() -> Path:
    """Where the traces are: $HEADRACE_DATA, or shared/data beside the project."""
    return Path(os.environ.get("HEADRACE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def known(quick: bool) -> Figure:
    """The worst ratio of the mean completion time to that of SRSF as published; SRSF as replayed here must agree with it."""
    clean = True
    notes: dict[str, object] = {}
    for trace in QUICK if quick else TRACES:
        again = _run(trace, "srsf", "known")
        agrees = _ratio(again, ("SRSF",))
        notes[f"{trace}_srsf_replayed"] = round(agrees, 6)
        clean = clean and abs(agrees - 1) < 0.005
    return _worst(quick, "known", ("SRSF",), notes, clean=clean)


def unknown(quick: bool) -> Figure:
    """The worst ratio of the mean completion time to the least of Tiresias-L, Themis and AntMan as published."""
    return _worst(quick, "unknown", WITHOUT_DURATIONS, {}, clean=True)


def _worst(
    quick: bool, durations: Durations, rivals: tuple[str, ...], notes: dict[str, object], *, clean: bool
) -> Figure:
    ratios = []
    for trace in QUICK if quick else TRACES:
        found = _run(trace, "default", durations)
        ratios.append(_ratio(found, rivals))
        notes[trace] = {
            "ratio": round(ratios[-1], 5),
            "jct_mean_s": round(found.jct_mean_s, 1),
            "jct_p99_s": round(found.jct_s(99), 1),
            "preemptions": found.preemptions,
            "wall_s": round(found.wall_s, 2),
        }
        notes["configuration"] = dict(found.configuration)
    return Figure(max(ratios), notes, clean=clean)


def _run(trace: str, policy: str, durations: Durations) -> Result:
    folder = data() / "muri_philly"
    return replay(folder / f"{trace}.csv", folder / "n8g8.csv", policy, durations)


def _ratio(found: Result, rivals: tuple[str, ...]) -> float:
    published = least(found.published, rivals)
    if published is None:
        raise LookupError(f"no published figures of {', '.join(rivals)} beside the trace")
    return found.jct_mean_s / published
