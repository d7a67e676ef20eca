"""Who runs when jobs can't all run at once: the policies of a replay, as values behind one small interface.

:class:`Default` is the production rule; the others are the classic ones, as the published experiments ran them: at every
event all jobs are put in order, and placed anew one by one, each that doesn't fit being passed over.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from headrace.core.ids import WorkloadId
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.timeshare import Layout
from headrace.core.units import ceil_div
from headrace.core.workload import Flex, Placement, Resources, WorkloadSpec, WorkloadType
from headrace.replay.cluster import BEGIN_MS, PROJECT, ReplayCluster, fleet_of, hardware

_US = 1_000
"""Microseconds in a millisecond."""
TENANT = "replay"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Alike nodes."""

    nodes: int
    accelerators: int
    """On each node."""

    @property
    def size(self) -> int:
        """Accelerators in all."""
        return self.nodes * self.accelerators


@dataclass(slots=True, eq=False)
class Job:
    """What a policy may know of a job; the replay keeps it up to date. ``seq`` counts submissions.

    It wants ``accelerators`` on each of ``nodes`` nodes, and holds them ``on`` those (empty: it waits). ``overhead_us`` is what
    it loses before it attains anything after an event. ``expected_us`` is 0 when nobody says how long it runs.

    Replays count microseconds: the published figures come out exactly only if no two times that differ become equal.
    """

    id: WorkloadId
    seq: int
    submitted_us: int
    accelerators: int
    nodes: int
    overhead_us: int
    expected_us: int = 0
    attained_us: int = 0
    on: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Accelerators in all."""
        return self.accelerators * self.nodes

    @property
    def rest_us(self) -> int:
        """What remains of what is expected."""
        return self.expected_us - self.attained_us


class Choice(NamedTuple):
    """Who holds which nodes from now on (all others wait), and when the policy wants to be asked again at the latest."""

    layout: Layout
    again_us: int | None = None


class Policy(Protocol):
    """Chooses who runs; it is told of every arrival and end before it is asked."""

    def arrived(self, job: Job) -> None:
        """A job was submitted."""
        ...

    def ended(self, job: Job) -> None:
        """A job that ran has ended, with what it attained."""
        ...

    def choose(self, now_us: int, running: Sequence[Job]) -> Choice:
        """Who of ``running`` and of those that wait holds nodes from ``now_us`` on."""
        ...


class Default:
    """The production planner on a cluster of its own: jobs that may be interrupted, lose nothing by it and come back at once."""

    def __init__(self, cluster: Cluster) -> None:
        kind = hardware("gpu", cluster.accelerators)
        self._nodes = ReplayCluster(fleet_of([(kind, cluster.nodes)]))
        self._jobs: dict[WorkloadId, Job] = {}
        self._specs: dict[tuple[int, int, int], WorkloadSpec] = {}

    def arrived(self, job: Job) -> None:
        """Submit it."""
        self._jobs[job.id] = job
        self._nodes.submit(job.id, TENANT, self._spec(job), _journal_ms(job.submitted_us))

    def ended(self, job: Job) -> None:
        """It has ended by itself."""
        del self._jobs[job.id]
        placement = self._placement(job.id)
        self._meter(job, placement)
        self._nodes.end(placement, placement.metered_ms)

    def choose(self, now_us: int, running: Sequence[Job]) -> Choice:
        """What comes of plans for this moment, each carried out before the next, until one changes nothing."""
        nodes, now_ms = self._nodes, _journal_ms(now_us)
        for job in running:
            self._meter(job, self._placement(job.id), now_ms + ceil_div(job.overhead_us, _US))
        while True:
            proposed = plan(nodes.snapshot(now_ms))
            nodes.adopt(proposed, now_ms)
            if not proposed.evictions and not proposed.placements:
                break
        layout = {
            one.workload: tuple(nodes.node_of(rank) for rank in one.ranks)
            for one in nodes.placements.values()
        }
        # The millisecond that has begun counts in full, so that it is late enough.
        again_ms = proposed.again_ms
        return Choice(layout, None if again_ms is None else (again_ms + 1 - BEGIN_MS) * _US)

    def _placement(self, ident: WorkloadId) -> Placement:
        held = self._nodes.workloads[ident].placement
        if held is None:
            raise AssertionError(f"{ident} does not run")
        return self._nodes.placements[held]

    def _meter(self, job: Job, placement: Placement, until_ms: int = 0) -> None:
        """What it has attained by now, and from when on it attains more."""
        before_ms = self._nodes.workloads[job.id].attained_ms
        placement.metered = ((job.attained_us // _US - before_ms, 0),)
        placement.metered_ms = until_ms

    def _spec(self, job: Job) -> WorkloadSpec:
        """What it asks for; the rules of the experiment charge for events, and not for coming back or for what was not saved."""
        key = job.accelerators, job.nodes, job.expected_us
        found = self._specs.get(key)
        if found is None:
            found = self._specs[key] = WorkloadSpec(
                name="job",
                type=WorkloadType.JOB,
                project=PROJECT,
                resources=Resources("gpu", job.accelerators),
                commands=(),
                nodes=job.nodes,
                flex=Flex.PREEMPTIBLE,
                expected_ms=ceil_div(job.expected_us, _US),
                checkpoint_ms=1,
            )
        return found


def _journal_ms(at_us: int) -> int:
    return BEGIN_MS + at_us // _US


@dataclass
class Ordered:
    """Jobs in the order of a rank, the least first, placed anew at every event: first fit, and whole nodes for gangs.

    ``rank`` must not change while a job waits. ``runs_on``: one that runs is never interrupted, and nobody overtakes one that
    waits. ``changes_us``: how much more a job must attain until its rank changes, if it does.
    """

    cluster: Cluster
    rank: Callable[[Job], tuple[int, ...]]
    runs_on: bool = False
    changes_us: Callable[[Job], int | None] = lambda _: None
    waiting: dict[int, list[tuple[tuple[int, ...], Job]]] = field(default_factory=dict)

    def arrived(self, job: Job) -> None:
        """Let it wait."""
        insort(self.waiting.setdefault(job.size, []), (self.rank(job), job), key=_first)

    def ended(self, job: Job) -> None:
        """Nothing to do."""

    def choose(self, now_us: int, running: Sequence[Job]) -> Choice:
        """Who has nodes when all are placed anew."""
        ranked = [(self.rank(job), job) for job in running]
        # Of each size no more than that can have a place.
        for size, jobs in self.waiting.items():
            ranked += jobs[: self.cluster.size // size]
        if self.runs_on:
            ranked.sort(key=lambda each: (not each[1].on, each[0]))
        else:
            ranked.sort(key=_first)
        layout = self._placed(ranked)
        for rank, job in ranked:
            if not job.on and job.id in layout:
                jobs = self.waiting[job.size]
                del jobs[bisect_left(jobs, rank, key=_first)]
            elif job.on and job.id not in layout:
                self.arrived(job)
        times = [now_us + job.overhead_us + more for job in running if (more := self.changes_us(job))]
        return Choice(layout, min(times, default=None))

    def _placed(self, ranked: Iterable[tuple[tuple[int, ...], Job]]) -> Layout:
        left = [self.cluster.accelerators] * self.cluster.nodes
        layout: Layout = {}
        for _, job in ranked:
            if self.runs_on and job.on:
                nodes = job.on
            else:
                room = [node for node, free in enumerate(left) if free >= job.accelerators]
                nodes = tuple(room[: job.nodes])
            if len(nodes) == job.nodes:
                layout[job.id] = nodes
                for node in nodes:
                    left[node] -= job.accelerators
            elif self.runs_on:
                break
        return layout


def _first(each: tuple[tuple[int, ...], Job]) -> tuple[int, ...]:
    return each[0]


LAS_LEVELS_US = tuple(seconds * 1_000_000 for seconds in (3_250, 7_200, 18_000))
"""Accelerator x microseconds at which a job falls to the next queue, as the published simulator has it for Tiresias."""


def _level(job: Job) -> int:
    return sum(job.attained_us * job.size >= level for level in LAS_LEVELS_US)


def _falls_in_us(job: Job) -> int | None:
    level = _level(job)
    if level == len(LAS_LEVELS_US):
        return None
    return -(-LAS_LEVELS_US[level] // job.size) - job.attained_us


def srtf(cluster: Cluster) -> Ordered:
    """Shortest remaining time first."""
    return Ordered(cluster, lambda job: (job.rest_us, job.seq))


def srsf(cluster: Cluster) -> Ordered:
    """Shortest remaining service first: time x accelerators."""
    return Ordered(cluster, lambda job: (job.rest_us * job.size, job.seq))


def fifo(cluster: Cluster) -> Ordered:
    """In the order of submission; nobody overtakes, nobody is interrupted."""
    return Ordered(cluster, lambda job: (job.seq,), runs_on=True)


def las(cluster: Cluster) -> Ordered:
    """Least attained service first, in queues: discretised 2D-LAS (Gu et al., Tiresias, NSDI 2019)."""
    return Ordered(cluster, lambda job: (_level(job), job.seq), changes_us=_falls_in_us)


POLICIES: dict[str, Callable[[Cluster], Policy]] = {
    "default": Default,
    "srtf": srtf,
    "srsf": srsf,
    "fifo": fifo,
    "las": las,
}
NEED_DURATIONS = frozenset({"srtf", "srsf"})
"""Policies that can't do without durations."""
