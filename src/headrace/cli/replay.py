"""``headrace replay``: published traces through the production scheduler, and through the classic policies beside it."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.cli.common import print_table, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.replay import muri as muri_trace
from headrace.replay import philly as philly_trace
from headrace.replay import plots
from headrace.replay import seeds as openb_seeds
from headrace.replay import swf as swf_log
from headrace.replay.classic import planner_of
from headrace.replay.clock import Job, Outcome
from headrace.replay.clock import replay as run_jobs
from headrace.replay.cluster import ReplayCluster
from headrace.replay.likeness import likeness
from headrace.replay.policies import POLICIES, Policy

app = typer.Typer(rich_markup_mode=None)
replay = typer.Typer(rich_markup_mode=None)
app.add_typer(replay, name="replay")

DATA = "HEADRACE_DATA"
PHILLY = "philly/philly_103959.csv"
OPENB_NODES = "openb/openb_node_list_gpu_node.csv"
OPENB_PODS = "openb/openb_pod_list_default.csv"
OPENB_PUBLISHED = "fgd_atc23/summary_unalloc.csv"
MURI_TRACE = "muri_philly/trace1.csv"
MURI_CLUSTER = "muri_philly/n8g8.csv"


def _writable(plot: Path | None) -> Path | None:
    """The file of a plot; HeadraceError where it can't be written, which nobody should hear after an hour only."""
    if plot is not None:
        plots.check(plot)
    return plot


AS_JSON = typer.Option(False, "--json", help="Print one JSON object.")
DATA_DIR = typer.Option(None, "--data", help=f"Where traces are [default: ${DATA}].")
POLICY = typer.Option("default", help="A policy; an unknown one lists them all.")
PLOT = typer.Option(
    None,
    "--plot",
    callback=_writable,
    help="Write allocation and completion times to this SVG file.",
)
TRACE = typer.Option(None, help="The trace, as it is or in the data directory.")
SEEDS = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})?(,[0-9]{1,18}(-[0-9]{1,18})?)*")
MOST_SEEDS = 10_000
MOST_LIKE = 1_000_000


@app.callback()
def group() -> None:
    """Replay."""


@replay.callback()
def replay_group() -> None:
    """Run a published trace through the scheduler on a simulated clock."""


@replay.command()
def philly(  # noqa: PLR0913, PLR0917
    trace: str | None = TRACE,
    gpus: int = typer.Option(2_048, help="GPUs of the cluster, in nodes of eight."),
    policy: str = POLICY,
    durations: str = typer.Option(
        "", help="known or unknown [default: unknown, if the policy can do without]."
    ),
    like: int = typer.Option(
        0,
        "--likeness",
        min=0,
        max=MOST_LIKE,
        help="So many jobs in the likeness of the trace, of 15 tenants.",
    ),
    seed: int = typer.Option(1, help="What --likeness is drawn from."),
    data: Path | None = DATA_DIR,
    as_json: bool = AS_JSON,
    plot: Path | None = PLOT,
) -> None:
    """Jobs of Philly: when each came, its GPUs and how long it ran."""
    chosen = named(policy, POLICIES)
    path = found(trace, "--trace", data, PHILLY)
    known = _durations(durations, chosen)
    jobs = philly_trace.read(path)
    if like:
        jobs = likeness(jobs, like, seed=seed)
    if known:
        jobs = [replace(job, expected_ms=job.duration_ms) for job in jobs]
    cluster = philly_trace.cluster_of(gpus, jobs)
    outcome = _run(f"{path.stem}, {chosen.name}", cluster, jobs, chosen)
    head = {
        "trace": path.name,
        "policy": chosen.name,
        "configuration": chosen.configuration(),
        "durations": "known" if known else "unknown",
        "gpus": gpus,
        "tenants": len({job.tenant for job in jobs}),
    }
    head |= {"likeness": like, "seed": seed} if like else {}
    _show(head | outcome.figures(), as_json)
    _plot_jobs(plot, f"{path.stem}, {chosen.name}", outcome)


@replay.command()
def swf(
    trace: str = typer.Option(..., help="The log, as it is or in the data directory."),
    policy: str = POLICY,
    processors: int | None = typer.Option(
        None, min=1, help="How many there are [default: as the log's header says]."
    ),
    data: Path | None = DATA_DIR,
    as_json: bool = AS_JSON,
    plot: Path | None = PLOT,
) -> None:
    """A log in the Standard Workload Format: jobs end at the time that they requested, which is what is expected of them."""
    chosen = named(policy, POLICIES)
    path = found(trace, "--trace", data, "")
    log = swf_log.read(path, processors or 0)
    jobs = log.jobs
    known = chosen.order != "arrival"
    if known:
        jobs = [replace(job, expected_ms=job.runs_ms) for job in jobs]
    outcome = _run(f"{path.stem}, {chosen.name}", log.cluster(), jobs, chosen)
    head = {
        "trace": path.name,
        "policy": chosen.name,
        "configuration": chosen.configuration(),
        "durations": "known" if known else "requested",
        "nodes": log.machine.nodes,
        "processors_per_node": log.machine.width,
        "tenants": len({job.tenant for job in jobs}),
        "skipped": log.skipped,
    }
    _show(head | outcome.figures(), as_json)
    _plot_jobs(plot, f"{path.stem}, {chosen.name}", outcome)


@replay.command()
def openb(
    nodes: str | None = typer.Option(None, help="The list of nodes, as it is or in the data directory."),
    pods: str | None = typer.Option(None, help="The list of pods, as it is or in the data directory."),
    policy: str = POLICY,
    seeds: str = typer.Option("42-51", help="Numbers and ranges of them, such as 42-51 or 1,5,7-9."),
    data: Path | None = DATA_DIR,
    as_json: bool = AS_JSON,
    plot: Path | None = PLOT,
) -> None:
    """Pods of Alibaba's GPU-sharing cluster: what is unallocated when as much has been asked for as there is."""
    node_list, pod_list = found(nodes, "--nodes", data, OPENB_NODES), found(pods, "--pods", data, OPENB_PODS)
    published = pod_list.parent.parent / OPENB_PUBLISHED
    with _progress(f"{pod_list.stem}, {policy}") as tell:
        result = openb_seeds.run(node_list, pod_list, policy, _seeds(seeds), tell, published)
    _show({"nodes": node_list.name, "pods": pod_list.name} | result.figures(), as_json)
    if plot is not None:
        plots.write(plot, f"{pod_list.stem}, {policy}", result.curve)


@replay.command()
def muri(
    trace: str | None = TRACE,
    cluster: str | None = typer.Option(None, help="The cluster's file, as it is or in the data directory."),
    policy: str = POLICY,
    durations: str = typer.Option(
        "unknown", help="known or unknown: whether the policy knows how long jobs run."
    ),
    data: Path | None = DATA_DIR,
    as_json: bool = AS_JSON,
    plot: Path | None = PLOT,
) -> None:
    """Jobs of Philly's virtual clusters on 64 GPUs, as in the evaluation of Muri; nobody shares a GPU."""
    path, machines = (
        found(trace, "--trace", data, MURI_TRACE),
        found(cluster, "--cluster", data, MURI_CLUSTER),
    )
    if durations not in ("known", "unknown"):
        raise _bad("--durations", f"{durations!r} is neither known nor unknown.", "Say which.")
    with _progress(f"{path.stem}, {policy}") as tell:
        result = muri_trace.replay(
            path, machines, policy, "known" if durations == "known" else "unknown", tell
        )
    _show({"trace": path.name, "cluster": machines.name} | result.figures(), as_json)
    if plot is not None:
        cdf = plots.cdf_points([jct_us // 1_000 for jct_us in result.jct_us])
        plots.write(plot, f"{path.stem}, {policy}", result.curve, cdf)


# -- what they share ----------------------------------------------------------------------------------------------------


def found(given: str | None, option: str, data: Path | None, default: str) -> Path:
    """A file as it was given, or under the data directory; without either the default one there."""
    set_there = os.environ.get(DATA, "")
    base = data or (Path(set_there) if set_there else None)
    if given is None:
        if base is None:
            raise _bad(option, "nobody says which file.", f"Give {option}, or --data with {default} in it.")
        given = default
    candidates = [Path(given)] if base is None else [Path(given), base / given]
    for path in candidates:
        if path.is_file():
            return path
    where = f" in {base}" if base else ""
    raise HeadraceError(
        Problem(
            ProblemCode.NOT_FOUND, f"no file {given}{where}.", f"Give a path, or --data (or ${DATA}).", option
        )
    )


def named(policy: str, policies: Mapping[str, Policy]) -> Policy:
    """A policy by its name; HeadraceError lists them all."""
    if policy not in policies:
        raise HeadraceError(unknown("policy", policy, policies))
    return policies[policy]


def _durations(said: str, policy: Policy) -> bool:
    if said not in ("", "known", "unknown"):
        raise _bad("--durations", f"{said!r} is neither known nor unknown.", "Say which.")
    if said == "unknown" and policy.needs_durations:
        raise _bad("--durations", f"{policy.name} can't do without durations.", "Give --durations known.")
    return said == "known" or policy.needs_durations


def _seeds(text: str) -> list[int]:
    if not SEEDS.fullmatch(text):
        raise _bad("--seeds", f"{text!r} is no list of numbers.", "Give such as 42-51 or 1,5,7-9.")
    ends = [(first, last or first) for first, _, last in (part.partition("-") for part in text.split(","))]
    ranges = [range(int(first), int(last) + 1) for first, last in ends]
    count = sum(map(len, ranges))
    if count > MOST_SEEDS:
        raise _bad("--seeds", f"{text!r} is {count:,} seeds.", f"Give at most {MOST_SEEDS:,}.")
    made = dict.fromkeys(chain.from_iterable(ranges))
    if not made:
        raise _bad("--seeds", f"{text!r} has no number in it.", "Give the lesser one first, as in 42-51.")
    return list(made)


def _run(what: str, cluster: ReplayCluster, jobs: list[Job], policy: Policy) -> Outcome:
    with _progress(what) as tell:
        return run_jobs(cluster, jobs, planner_of(policy, cluster), tell)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(figures: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        say(json.dumps(figures))
        return
    print_table(("figure", "value"), _rows(figures), "nothing", ("value",))


def _rows(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _plot_jobs(plot: Path | None, title: str, outcome: Outcome) -> None:
    if plot is None:
        return
    whole = outcome.capacity_milli
    curve = [(100 * arrived / whole, 100 * used / whole) for _, arrived, used in outcome.steps]
    plots.write(plot, title, curve, plots.cdf_points(sorted(one.jct_ms for one in outcome.ran)))


def _bad(where: str, message: str, step: str) -> HeadraceError:
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where))
