"""The simulated clock: jobs arrive and end, and whoever plans is asked whenever that could start somebody.

Deterministic: what happens in the same millisecond happens ends first, then arrivals in the order of the trace, and is planned
for once. Between events nothing is planned, since nothing can start that did not fit before.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

from headrace.core.ids import PlacementId, WorkloadId
from headrace.core.scheduling.proposal import Plan
from headrace.core.workload import WHOLE_MILLI, Placement, Resources, WorkloadSpec, WorkloadType
from headrace.replay.cluster import BEGIN_MS, PROJECT, ReplayCluster

_PROGRESS_EVERY = 512


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a trace, times counted from its beginning.

    It runs for ``duration_ms`` on each of ``nodes`` nodes, with ``accelerators`` of each. It is ended after ``limit_ms``
    (0: never); ``expected_ms`` is what its owner thinks (0: not known).
    """

    name: str
    tenant: str
    submit_ms: int
    duration_ms: int
    nodes: int
    accelerators: int
    limit_ms: int = 0
    expected_ms: int = 0

    @property
    def runs_ms(self) -> int:
        """How long it runs if nobody interrupts it: its duration, or its limit if that is less."""
        return min(self.duration_ms, self.limit_ms) if self.limit_ms else self.duration_ms

    @property
    def width(self) -> int:
        """Accelerators in all."""
        return self.nodes * self.accelerators


class Planner(Protocol):
    """Says what to start and what to evict now, in a cluster that it does not change."""

    def plan(self, cluster: ReplayCluster, now_ms: int) -> Plan:
        """The plan for ``now_ms``, which is journal time."""
        ...

    def started(self, placement: Placement, now_ms: int) -> None:
        """A placement that was planned has started."""
        ...

    def stopped(self, placement: Placement, now_ms: int) -> None:
        """A placement has ended, and its workload is gone; or it was evicted, and it waits again."""
        ...


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that ended: when it came, when it first started and when it ended."""

    job: Job
    started_ms: int
    ended_ms: int

    @property
    def wait_ms(self) -> int:
        """From its submission until it first started."""
        return self.started_ms - self.job.submit_ms

    @property
    def jct_ms(self) -> int:
        """From its submission until it ended."""
        return self.ended_ms - self.job.submit_ms


@dataclass(slots=True)
class Outcome:
    """What came of a replay.

    ``ran``: jobs in the order in which they ended; ``refused``: those that the cluster could never have held. ``busy_milli_ms``
    is what was in use, in thousandths of accelerators x milliseconds. ``steps``: at ``at_ms``, so much had arrived and so much
    was in use (thousandths). ``events``: arrivals and ends; ``plan_s``: seconds spent planning.
    """

    capacity_milli: int
    ran: list[Ran] = field(default_factory=list)
    refused: list[Job] = field(default_factory=list)
    steps: list[tuple[int, int, int]] = field(default_factory=list)
    events: int = 0
    plans: int = 0
    preemptions: int = 0
    busy_milli_ms: int = 0
    wall_s: float = 0.0
    plan_s: float = 0.0

    @property
    def makespan_ms(self) -> int:
        """From the first submission until the last end."""
        if not self.ran:
            return 0
        return max(one.ended_ms for one in self.ran) - min(one.job.submit_ms for one in self.ran)

    def figures(self) -> dict[str, object]:
        """The figures of the replay; all but ``wall_s`` and those with ``microseconds`` are the same every time."""
        jct = sorted(one.jct_ms for one in self.ran)
        wait = sorted(one.wait_ms for one in self.ran)
        whole = self.capacity_milli * self.makespan_ms
        return {
            "jobs": len(self.ran),
            "refused": len(self.refused),
            "jct_mean_s": _mean_s(jct),
            "jct_p50_s": quantile_s(jct, 50),
            "jct_p99_s": quantile_s(jct, 99),
            "wait_mean_s": _mean_s(wait),
            "wait_p50_s": quantile_s(wait, 50),
            "wait_p99_s": quantile_s(wait, 99),
            "makespan_s": self.makespan_ms / 1000,
            "utilisation_percent": round(100 * self.busy_milli_ms / whole, 3) if whole else 0.0,
            "events": self.events,
            "plans": self.plans,
            "preemptions": self.preemptions,
            "wall_s": round(self.wall_s, 3),
            "plan_microseconds_per_event": round(1e6 * self.plan_s / max(1, self.events), 1),
        }


def quantile_s(sorted_ms: Sequence[int], percent: int) -> float:
    """The least value that ``percent`` of all are not above, in seconds (nearest rank); 0 for none at all."""
    if not sorted_ms:
        return 0.0
    return sorted_ms[max(0, -(-len(sorted_ms) * percent // 100) - 1)] / 1000


def _mean_s(values_ms: Sequence[int]) -> float:
    # Rounded from an exact quotient of integers: a sum of floats would depend on the order.
    return round(sum(values_ms) / len(values_ms) / 1000, 3) if values_ms else 0.0


def replay(
    cluster: ReplayCluster,
    jobs: Sequence[Job],
    planner: Planner,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Run ``jobs`` through ``planner``. ``progress(done, all)`` is told of events every now and then."""
    began = time.perf_counter()
    outcome = _Clock(cluster, jobs, planner, progress).run()
    outcome.wall_s = time.perf_counter() - began
    return outcome


class _Clock:
    def __init__(
        self,
        cluster: ReplayCluster,
        jobs: Sequence[Job],
        planner: Planner,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.cluster, self.planner, self.progress = cluster, planner, progress
        self.jobs = sorted(jobs, key=lambda job: job.submit_ms)
        self.outcome = Outcome(cluster.capacity_milli)
        self.ends: list[tuple[int, int, Placement]] = []
        self.made = 0
        self.waiting: dict[WorkloadId, Job] = {}
        self.started_ms: dict[WorkloadId, int] = {}
        self.left_ms: dict[WorkloadId, int] = {}
        self.of: dict[PlacementId, tuple[Job, int]] = {}
        self.specs: dict[tuple[int, int, int, int], WorkloadSpec] = {}
        self.possible: dict[tuple[int, int], bool] = {}
        self.arrived_milli = 0
        self.last_ms = 0
        self.told = 0

    def run(self) -> Outcome:
        arrivals, ends, outcome = self.jobs, self.ends, self.outcome
        at = 0
        while at < len(arrivals) or ends:
            now_ms = min(
                ends[0][0] if ends else arrivals[at].submit_ms,
                arrivals[at].submit_ms if at < len(arrivals) else ends[0][0],
            )
            outcome.busy_milli_ms += self.cluster.used_milli * (now_ms - self.last_ms)
            self.last_ms = now_ms
            while ends and ends[0][0] == now_ms:
                self.end(heappop(ends)[2], now_ms)
            while at < len(arrivals) and arrivals[at].submit_ms == now_ms:
                self.arrive(arrivals[at], at)
                at += 1
            if self.cluster.queue:
                self.plan(now_ms)
            outcome.steps.append((now_ms, self.arrived_milli, self.cluster.used_milli))
            self.tell()
        if self.progress is not None:
            self.progress(outcome.events, outcome.events)
        if self.cluster.queue:
            raise RuntimeError(f"{len(self.cluster.queue)} jobs of the trace were never started")
        return outcome

    def arrive(self, job: Job, number: int) -> None:
        self.outcome.events += 1
        if not self.could_ever(job):
            self.outcome.refused.append(job)
            return
        self.arrived_milli += job.width * WHOLE_MILLI
        work = self.cluster.submit(
            f"{job.tenant}-{number}", job.tenant, self.spec(job), BEGIN_MS + job.submit_ms
        )
        self.waiting[work.id] = job
        self.left_ms[work.id] = job.runs_ms

    def end(self, placement: Placement, now_ms: int) -> None:
        found = self.of.pop(placement.id, None)
        if found is None:
            return
        job, _ = found
        self.outcome.events += 1
        self.cluster.end(placement, BEGIN_MS + now_ms)
        self.planner.stopped(placement, BEGIN_MS + now_ms)
        work = placement.workload
        del self.left_ms[work]
        self.outcome.ran.append(Ran(job, self.started_ms.pop(work), now_ms))

    def plan(self, now_ms: int) -> None:
        """Plan until nobody is evicted any more: what an eviction is for starts in the plan after it."""
        cluster, outcome = self.cluster, self.outcome
        while cluster.queue:
            began = time.perf_counter()
            proposed = self.planner.plan(cluster, BEGIN_MS + now_ms)
            outcome.plan_s += time.perf_counter() - began
            outcome.plans += 1
            evicted = [cluster.placements[eviction.placement] for eviction in proposed.evictions]
            made = cluster.adopt(proposed, BEGIN_MS + now_ms)
            for placement in evicted:
                self.evict(placement, now_ms)
            for placement in made:
                self.start(placement, now_ms)
            if not proposed.evictions:
                return

    def start(self, placement: Placement, now_ms: int) -> None:
        work = placement.workload
        self.started_ms.setdefault(work, now_ms)
        self.of[placement.id] = self.waiting.pop(work), now_ms
        self.planner.started(placement, BEGIN_MS + now_ms)
        self.made += 1
        heappush(self.ends, (now_ms + self.left_ms[work], self.made, placement))

    def evict(self, placement: Placement, now_ms: int) -> None:
        job, since_ms = self.of.pop(placement.id)
        self.outcome.preemptions += 1
        self.planner.stopped(placement, BEGIN_MS + now_ms)
        self.waiting[placement.workload] = job
        # What it has done is kept: a trace says nothing of checkpoints.
        self.left_ms[placement.workload] -= now_ms - since_ms

    def could_ever(self, job: Job) -> bool:
        shape = job.nodes, job.accelerators
        found = self.possible.get(shape)
        if found is None:
            types = self.cluster.fleet.hardware
            enough = [
                types[kind].accelerators >= job.accelerators for kind in self.cluster.fleet.node_hardware
            ]
            found = self.possible[shape] = sum(enough) >= job.nodes
        return found

    def spec(self, job: Job) -> WorkloadSpec:
        key = job.nodes, job.accelerators, job.limit_ms, job.expected_ms
        found = self.specs.get(key)
        if found is None:
            found = self.specs[key] = WorkloadSpec(
                name="job",
                type=WorkloadType.JOB,
                project=PROJECT,
                resources=Resources("", job.accelerators),
                commands=(),
                nodes=job.nodes,
                # The planner lets a limit open kept nodes, a mere expectation does not; in a trace nobody lies for that.
                max_duration_ms=job.expected_ms or job.limit_ms,
                expected_ms=job.expected_ms,
            )
        return found

    def tell(self) -> None:
        if self.progress is not None and self.outcome.events - self.told >= _PROGRESS_EVERY:
            self.told = self.outcome.events
            self.progress(self.told, 2 * len(self.jobs))
