"""Who runs when jobs can't all run at once: the policies of a replay, as values behind one small interface.

:class:`Default` is the production rule; the others are the classic ones, as the published experiments ran them: at every
event all jobs are put in order, and placed anew one by one, each that doesn't fit being passed over.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from headrace.core.ids import WorkloadId
from headrace.core.scheduling.service import History, expect
from headrace.core.scheduling.timeshare import Contender, Layout, NodeRoom, Standing, decide
from headrace.core.units import ceil_div

_US = 1_000
"""Microseconds in a millisecond."""


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
    """The production rule: least expected remaining service first, learned from siblings where nobody says how long jobs run."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._history = History()
        self._standing = Standing()
        self._jobs: dict[WorkloadId, Job] = {}

    def arrived(self, job: Job) -> None:
        """Let it wait, among its siblings: all jobs of one size."""
        self._jobs[job.id] = job
        if not job.expected_us:
            self._history.enter(job.id, job.size)
        self._standing.put(self._contender(job, job.submitted_us // _US))

    def ended(self, job: Job) -> None:
        """Learn from it."""
        del self._jobs[job.id]
        if job.id in self._history:
            self._history.end(job.id, job.attained_us // _US)

    def choose(self, now_us: int, running: Sequence[Job]) -> Choice:
        """What :func:`~headrace.core.scheduling.timeshare.decide` says, given what is known by now."""
        standing, history, now_ms = self._standing, self._history, now_us // _US
        for job in running:
            if job.id in history:
                history.attain(job.id, job.attained_us // _US)
        for ident in (*history.changed(), *standing.ripe(now_ms)):
            if ident in standing:
                standing.put(self._contender(self._jobs[ident], now_ms))
        free = [self._cluster.accelerators] * self._cluster.nodes
        for job in running:
            for node in job.on:
                free[node] -= job.accelerators
        contenders = [self._contender(job, now_ms) for job in running]
        contenders += standing.foremost(self._cluster.size)
        decision = decide(contenders, [NodeRoom(each) for each in free], now_ms)
        layout = {ident: self._jobs[ident].on for ident in decision.keep}
        layout |= decision.start | decision.later
        for ident in layout:
            standing.drop(ident)
        for contender in contenders:
            if contender.on and contender.id not in layout:
                standing.put(replace(contender, on=()))
        # The millisecond that has begun counts in full, so that it is late enough.
        again_ms = decision.again_ms
        return Choice(layout, None if again_ms is None else (again_ms + 1) * _US)

    def _contender(self, job: Job, now_ms: int) -> Contender:
        submitted_ms, attained_ms = job.submitted_us // _US, job.attained_us // _US
        expected_ms = ceil_div(job.expected_us, _US)
        found = expect(self._history, job.id, job.size, attained_ms, now_ms - submitted_ms, expected_ms)
        return Contender(
            job.id,
            job.accelerators,
            job.nodes,
            found.index,
            job.seq,
            attained_ms,
            found.exact,
            job.on,
            outlook=found.outlook,
            delay_ms=ceil_div(job.overhead_us, _US),
            ripens_ms=submitted_ms + found.ripens_ms,
        )


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
