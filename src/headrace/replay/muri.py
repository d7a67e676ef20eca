"""The Muri traces: jobs of Philly's virtual clusters on 64 GPUs, by the rules of the published simulator.

Source: Zhao et al., Multi-Resource Interleaving for Deep Learning Training, SIGCOMM 2022. A job needs its iterations times
1.015 of their time; it may be interrupted and moved at will; at every event each job that runs and doesn't end loses a few
seconds, by its size and model, whatever the policy decides. Jobs never share a GPU.

The simulation alone knows how long jobs run. A policy sees a :class:`~headrace.replay.queueing.Job`, whose ``expected_us`` is
0 when durations are unknown.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.ids import WorkloadId
from headrace.core.units import MS_PER_SECOND, ceil_div
from headrace.replay.configuration import default_configuration
from headrace.replay.queueing import NEED_DURATIONS, POLICIES, Choice, Cluster, Job, Policy
from headrace.replay.result import Result, read_published
from headrace.replay.rows import MOST_NODES, MOST_S, WIDEST, Row, bad, rows_of

Durations = Literal["known", "unknown"]
Progress = Callable[[int, int], None]
"""Is told how many of how many jobs have ended."""

_STRETCH_PERMILLE = 1_015
_SIZES = (1, 2, 4, 8, 16, 32)
_OVERHEAD_S = {
    "vgg16": (7, 7, 8, 9, 9, 10),
    "vgg19": (7, 7, 8, 9, 10, 10),
    "resnet18": (4, 5, 5, 7, 7, 7),
    "shufflenet_v2_x1_0": (4, 4, 5, 5, 7, 8),
    "bert": (10, 10, 10, 10, 10, 10),
    "gpt2": (10, 10, 10, 10, 10, 10),
    "a2c": (38, 39, 39, 46, 46, 46),
    "dqn": (5, 5, 6, 6, 8, 8),
}
_OTHER_S = 10
_TRACE_COLUMNS = ("num_gpu", "submit_time", "iterations", "model_name", "iteration_time")
_STEP = "Give a trace and a cluster of the Muri experiment."
_MOST_MS = MOST_S * MS_PER_SECOND
_CLUSTER_COLUMNS = ("num_switch", "num_node_p_switch", "num_gpu_p_node")


@dataclass(frozen=True, slots=True)
class TraceJob:
    """A job of a trace: with how long it takes when nothing interrupts it."""

    submitted_us: int
    accelerators: int
    """In all."""
    service_us: int
    overhead_us: int


def read_cluster(path: Path) -> Cluster:
    """The cluster of a file with the columns num_switch, num_node_p_switch and num_gpu_p_node, in one row.

    Raises HeadraceError that names the file and the line.
    """
    row, *more = rows_of(path, _CLUSTER_COLUMNS, _STEP)
    if more:
        raise bad(more[0].where, "a cluster has one row.")
    switches, each = row.whole("num_switch", 1), row.whole("num_node_p_switch", 1)
    if switches * each > MOST_NODES:
        message = f"num_switch x num_node_p_switch is {switches * each:,}, more than {MOST_NODES:,} nodes."
        raise bad(row.where, message, "Give a smaller cluster.")
    return Cluster(switches * each, row.whole("num_gpu_p_node", 1, WIDEST))


def read_trace(path: Path) -> tuple[TraceJob, ...]:
    """The jobs of a trace in order of submission; its times are in milliseconds.

    Raises HeadraceError that names the file and the line.
    """
    jobs = [_trace_job(row) for row in rows_of(path, _TRACE_COLUMNS, _STEP)]
    return tuple(sorted(jobs, key=lambda job: job.submitted_us))


def replay(
    trace: Path,
    cluster: Path,
    policy: str = "default",
    durations: Durations = "known",
    progress: Progress | None = None,
) -> Result:
    """Run a trace through a policy. Raises HeadraceError for unreadable files, jobs that never fit, unknown policies."""
    make = POLICIES.get(policy)
    if make is None:
        raise HeadraceError(unknown("policy", policy, POLICIES))
    if durations == "unknown" and policy in NEED_DURATIONS:
        raise HeadraceError(
            Problem(
                ProblemCode.BAD_INPUT,
                f"policy {policy} can't do without durations.",
                "Give --durations known, or one of: "
                + ", ".join(sorted(POLICIES.keys() - NEED_DURATIONS))
                + ".",
            )
        )
    machines, jobs, known = read_cluster(cluster), read_trace(trace), read_published(trace)
    for job in jobs:
        if job.accelerators > machines.size:
            raise HeadraceError(
                Problem(
                    ProblemCode.UNPLACEABLE,
                    f"A job of {trace.name} asks for {job.accelerators} GPUs, {cluster.name} has {machines.size}.",
                    "Give a larger cluster.",
                    where=str(trace),
                )
            )
    start = time.perf_counter()
    simulation = Simulation(jobs, machines, make(machines), durations == "known", progress)
    simulation.run()
    return Result(
        policy,
        durations,
        tuple(sorted(simulation.jct_us)),
        simulation.now_us,
        time.perf_counter() - start,
        simulation.preemptions,
        simulation.moves,
        simulation.events,
        default_configuration() if policy == "default" else {},
        known,
        [(100 * arrived / machines.size, 100 * held / machines.size) for arrived, held in simulation.steps],
    )


@dataclass
class Simulation:
    """A simulated clock that goes from event to event: an arrival, an end, or when the policy wants to be asked.

    ``jct_us``: completion times in the order of the ends. ``moves``: jobs that went on elsewhere without waiting.
    ``steps``: after each event, how many accelerators all jobs had asked for by then, and how many were held.
    """

    trace: Sequence[TraceJob]
    cluster: Cluster
    policy: Policy
    known: bool
    progress: Progress | None = None
    now_us: int = 0
    events: int = 0
    preemptions: int = 0
    moves: int = 0
    jct_us: list[int] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    _running: list[Job] = field(default_factory=list)
    _waiting: dict[WorkloadId, Job] = field(default_factory=dict)
    _service_us: dict[WorkloadId, int] = field(default_factory=dict)
    _arrived: int = 0
    _asked: int = 0

    def run(self) -> None:
        """Until all jobs have ended."""
        again_us: int | None = None
        while len(self.jct_us) < len(self.trace):
            self.events += 1
            self._advance(self._next_us(again_us))
            while self._arrived < len(self.trace) and self.trace[self._arrived].submitted_us <= self.now_us:
                self._arrive()
            choice = self.policy.choose(self.now_us, self._running)
            again_us = choice.again_us
            self._carry_out(choice)
            self.steps.append((self._asked, sum(job.size for job in self._running)))

    def _next_us(self, again_us: int | None) -> int:
        times = [self.now_us + self._service_us[job.id] - job.attained_us for job in self._running]
        if self._arrived < len(self.trace):
            times.append(self.trace[self._arrived].submitted_us)
        if again_us is not None:
            times.append(again_us)
        if not times:
            raise RuntimeError(
                f"the policy runs none of {len(self._waiting)} jobs, and nothing else will happen"
            )
        return min(times)

    def _advance(self, to_us: int) -> None:
        """Let those that run attain what they do; one that ends now has lost nothing to this event."""
        passed_us = to_us - self.now_us
        self.now_us = to_us
        running = []
        for job in self._running:
            service_us = self._service_us[job.id]
            if job.attained_us + passed_us >= service_us:
                job.attained_us = service_us
                self.jct_us.append(to_us - job.submitted_us)
                self.policy.ended(job)
                if self.progress is not None:
                    self.progress(len(self.jct_us), len(self.trace))
            else:
                job.attained_us += max(0, passed_us - job.overhead_us)
                running.append(job)
        self._running = running

    def _arrive(self) -> None:
        one, seq = self.trace[self._arrived], self._arrived
        self._arrived += 1
        nodes = ceil_div(one.accelerators, self.cluster.accelerators)
        job = Job(
            WorkloadId(f"job-{seq}"),
            seq,
            one.submitted_us,
            ceil_div(one.accelerators, nodes),
            nodes,
            one.overhead_us,
            one.service_us if self.known else 0,
        )
        self._asked += job.size
        self._service_us[job.id] = one.service_us
        self._waiting[job.id] = job
        self.policy.arrived(job)

    def _carry_out(self, choice: Choice) -> None:
        layout = choice.layout
        running = []
        for job in self._running:
            nodes = layout.get(job.id, ())
            if nodes:
                self.moves += nodes != job.on
                running.append(job)
            else:
                self.preemptions += 1
                self._waiting[job.id] = job
            job.on = nodes
        for ident, nodes in layout.items():
            started = self._waiting.get(ident)
            if started is not None:
                del self._waiting[ident]
                started.on = nodes
                running.append(started)
        self._running = running


def _trace_job(row: Row) -> TraceJob:
    accelerators = row.whole("num_gpu", 1)
    iterations, each_ms = row.number("iterations", most=_MOST_MS), row.number("iteration_time", most=_MOST_MS)
    if iterations * each_ms > _MOST_MS:
        raise bad(row.where, f"iterations x iteration_time is more than {_MOST_MS:,} ms.")
    service_us = iterations * each_ms * _STRETCH_PERMILLE
    column = next((number for number, size in enumerate(_SIZES) if accelerators <= size), len(_SIZES) - 1)
    seconds = _OVERHEAD_S.get(row.text("model_name"))
    overhead_s = _OTHER_S if seconds is None else seconds[column]
    return TraceJob(
        round(1_000 * row.number("submit_time", most=_MOST_MS)),
        accelerators,
        max(1, round(service_us)),
        overhead_s * 1_000_000,
    )
