"""Replays that can be followed by hand, policy by policy."""

from dataclasses import replace

import pytest

from headrace.core.scheduling.check import check
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.scheduling.proposal import Plan
from headrace.replay.clock import quantile_s
from headrace.replay.clock import replay as run_jobs
from headrace.replay.cluster import ReplayCluster
from headrace.replay.policies import POLICIES, Production
from tests.replay.small import cluster, job, run, times

FIVE = [job("a", 0, 10, 3), job("b", 1, 10, 4), job("c", 2, 5, 1), job("d", 3, 20, 1), job("e", 4, 3, 1)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("fifo", {"a": (0, 10), "b": (10, 20), "c": (20, 25), "d": (20, 40), "e": (20, 23)}),
        ("fifo-backfill", {"a": (0, 10), "b": (27, 37), "c": (2, 7), "d": (7, 27), "e": (10, 13)}),
        ("first-fit", {"a": (0, 10), "b": (27, 37), "c": (2, 7), "d": (7, 27), "e": (10, 13)}),
        ("easy", {"a": (0, 10), "b": (10, 20), "c": (2, 7), "d": (20, 40), "e": (7, 10)}),
        ("conservative", {"a": (0, 10), "b": (10, 20), "c": (2, 7), "d": (20, 40), "e": (7, 10)}),
    ],
)
def test_five_jobs_on_four_processors(policy: str, expected: dict[str, tuple[int, int]]) -> None:
    """FIFO keeps all behind the wide one, backfilling lets anybody delay it, EASY only those who don't."""
    assert times(run(policy, FIVE)) == expected


@pytest.mark.parametrize(
    ("policy", "last", "second"), [("easy", (3, 33), (33, 43)), ("conservative", (30, 60), (20, 30))]
)
def test_easy_may_delay_the_second_of_those_who_wait(
    policy: str, last: tuple[int, int], second: tuple[int, int]
) -> None:
    """Conservative backfilling keeps its place, too."""
    four = [job("a", 0, 10, 3), job("b", 1, 10, 3), job("f", 2, 10, 4), job("g", 3, 30, 1)]
    found = times(run(policy, four))
    assert found["b"] == (10, 20)
    assert (found["g"], found["f"]) == (last, second)


def test_the_production_planner_backfills_as_easy_does_when_nobody_may_wait_long() -> None:
    """One barrier at once: who is gone before the first of those who wait starts may use its nodes, nobody else."""
    made, limits = cluster(4), PlanLimits(starve_after_ms=0, max_barriers=1)
    assert times(run_jobs(made, FIVE, Production(limits))) == times(run("easy", FIVE))


def test_who_has_least_left_takes_the_place_of_others() -> None:
    """Shortest remaining time first is preemptive, and what was done stays done."""
    outcome = run("srtf", [job("long", 0, 100, 4), job("short", 10, 5, 4)])
    assert times(outcome) == {"long": (0, 105), "short": (10, 15)}
    assert outcome.preemptions == 1
    kept = run("srtf", [job("long", 0, 12, 4), job("short", 10, 5, 4)])
    assert times(kept) == {"long": (0, 12), "short": (12, 17)}
    assert kept.preemptions == 0


@pytest.mark.parametrize(
    ("policy", "wide", "narrow"), [("srtf", (0, 10), (10, 30)), ("srsf", (20, 30), (0, 20))]
)
def test_service_counts_accelerators_and_time_does_not(
    policy: str, wide: tuple[int, int], narrow: tuple[int, int]
) -> None:
    """A wide short job has less time left, and more service."""
    found = times(run(policy, [job("narrow", 0, 20, 1), job("wide", 0, 10, 4)]))
    assert (found["wide"], found["narrow"]) == (wide, narrow)


def test_only_those_on_the_nodes_that_are_needed_are_evicted() -> None:
    """The worst is not evicted where that would help nobody."""
    jobs = [job("a", 0, 50, 1, 2), job("b", 0, 40, 1, 1), job("c", 0, 45, 1, 1), job("d", 1, 5, 1, 2)]
    outcome = run("srtf", jobs, nodes=2, width=2)
    assert times(outcome)["d"] == (1, 6)
    assert outcome.preemptions == 1


def test_best_fit_fills_the_fuller_node_and_first_fit_the_first() -> None:
    """What that does to a job that needs a whole node."""
    jobs = [job("a", 0, 10, 1, 2), job("b", 0, 90, 1, 3), job("c", 1, 80, 1, 1), job("d", 20, 5, 1, 4)]
    assert times(run("best-fit", jobs, nodes=2, width=4))["d"] == (20, 25)
    assert times(run("first-fit", jobs, nodes=2, width=4))["d"] == (81, 86)


def test_a_job_ends_at_its_limit() -> None:
    """Whatever it still had to do."""
    outcome = run("default", [replace(job("a", 0, 100, 1), limit_ms=30_000)])
    assert times(outcome) == {"a": (0, 30)}


def test_what_could_never_fit_is_refused_and_counted() -> None:
    """It does not hold up the others."""
    outcome = run("fifo", [job("huge", 0, 1, 5), job("a", 0, 1, 4)])
    assert [one.name for one in outcome.refused] == ["huge"]
    assert times(outcome) == {"a": (0, 1)}


@pytest.mark.parametrize("policy", POLICIES)
def test_figures_are_those_of_the_jobs(policy: str) -> None:
    """One job of half the machine, alone: nothing waits, and half of it is in use."""
    figures = run(policy, [job("a", 5, 40, 2)]).figures()
    assert {name: figures[name] for name in ("jobs", "events", "jct_mean_s", "jct_p99_s", "wait_p99_s")} == {
        "jobs": 1,
        "events": 2,
        "jct_mean_s": 40.0,
        "jct_p99_s": 40.0,
        "wait_p99_s": 0.0,
    }
    assert (figures["makespan_s"], figures["utilisation_percent"]) == (40.0, 50.0)


def test_quantiles_are_nearest_ranks() -> None:
    """No interpolation: a figure is one that some job had."""
    assert [quantile_s([1_000, 2_000, 3_000, 4_000], percent) for percent in (1, 50, 75, 76, 99)] == [
        1,
        2,
        3,
        4,
        4,
    ]
    assert quantile_s([], 50) == 0


class Watched(Production):
    """The production planner, with a second opinion on every plan, and a plan without memory beside it."""

    seen = 0

    def plan(self, cluster: ReplayCluster, now_ms: int) -> Plan:
        snapshot = cluster.snapshot(now_ms)
        alone = plan(replace(snapshot, memory=None, waiting=None), self.limits)
        found = super().plan(cluster, now_ms)
        assert found == alone
        assert check(snapshot, found) == []
        self.seen += 1
        return found


def test_what_the_production_planner_does_here_is_what_it_does_anywhere() -> None:
    """Each plan of a replay is the same without memory, and the independent checker finds nothing wrong in it."""
    jobs = [
        job(
            f"j{number}", number * 7, 40 + number * 37 % 200, 1 + number % 3, 1 + number % 2, f"t{number % 3}"
        )
        for number in range(120)
    ]
    made, watched = cluster(6, 2, ["t0", "t1", "t2"]), Watched()
    outcome = run_jobs(made, jobs, watched)
    assert len(outcome.ran) == 120
    assert watched.seen == outcome.plans > 50
    assert max(ran.wait_ms for ran in outcome.ran) > 0
