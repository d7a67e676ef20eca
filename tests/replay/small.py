"""Small traces whose replays can be followed by hand: times in seconds, processors on nodes of one."""

from collections.abc import Sequence

from headrace.core.units import MS_PER_SECOND
from headrace.replay.classic import planner_of
from headrace.replay.clock import Job, Outcome, replay
from headrace.replay.cluster import ReplayCluster, fleet_of, hardware
from headrace.replay.policies import POLICIES

Given = tuple[str, int, int, int]
"""Name, submission, duration, nodes."""


def job(name: str, submit_s: int, runs_s: int, nodes: int, each: int = 1, tenant: str = "t") -> Job:
    return Job(
        name,
        tenant,
        submit_s * MS_PER_SECOND,
        runs_s * MS_PER_SECOND,
        nodes,
        each,
        expected_ms=runs_s * MS_PER_SECOND,
    )


def cluster(nodes: int = 4, width: int = 1, tenants: Sequence[str] = ("t",)) -> ReplayCluster:
    return ReplayCluster(fleet_of([(hardware("p", width), nodes)]), tenants)


def run(policy: str, jobs: Sequence[Job], nodes: int = 4, width: int = 1) -> Outcome:
    made = cluster(nodes, width, [one.tenant for one in jobs])
    return replay(made, jobs, planner_of(POLICIES[policy], made))


def times(outcome: Outcome) -> dict[str, tuple[int, int]]:
    """When each job first started and when it ended, in seconds."""
    found = {
        ran.job.name: (ran.started_ms // MS_PER_SECOND, ran.ended_ms // MS_PER_SECOND) for ran in outcome.ran
    }
    return dict(sorted(found.items()))
