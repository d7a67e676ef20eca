"""The Muri traces: the rules of the simulator by hand, and the published figures on a real trace."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import HeadraceError, ProblemCode
from headrace.replay.configuration import default_configuration
from headrace.replay.muri import Durations, Simulation, TraceJob, read_cluster, read_trace, replay
from headrace.replay.queueing import NEED_DURATIONS, POLICIES, Cluster
from headrace.replay.result import Result, least, read_published

DATA = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[3] / "shared/data")) / "muri_philly"
S = 1_000_000
"""Microseconds in a second."""
TWO = Cluster(2, 8)
HEAD = "job_id,num_gpu,submit_time,iterations,model_name,iteration_time\n"


def run(
    jobs: list[TraceJob], policy: str = "default", cluster: Cluster = TWO, *, known: bool = True
) -> Simulation:
    """A simulation that has ended."""
    simulation = Simulation(
        sorted(jobs, key=lambda job: job.submitted_us), cluster, POLICIES[policy](cluster), known
    )
    simulation.run()
    return simulation


def job(submitted_s: float, accelerators: int, service_s: float, overhead_s: float = 0) -> TraceJob:
    return TraceJob(round(S * submitted_s), accelerators, round(S * service_s), round(S * overhead_s))


def seconds(simulation: Simulation) -> list[float]:
    return [each / S for each in simulation.jct_us]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_job_alone_takes_as_long_as_it_needs(policy: str) -> None:
    """Whatever the policy, and however large; it loses nothing to its own end."""
    assert seconds(run([job(5, 16, 100, 7)], policy)) == [100]


def test_every_event_costs_those_that_run_on() -> None:
    """A second job arrives and ends beside the first, which loses its overhead at both."""
    first, second = job(0, 1, 100, 7), job(10, 1, 20, 3)
    assert seconds(run([first, second], "srsf")) == [20, 100 + 2 * 7]


def test_less_than_the_overhead_is_not_made_good() -> None:
    """Between two events that are closer than the overhead nothing is attained, and nothing is lost either."""
    assert seconds(run([job(0, 1, 100, 7), job(2, 1, 1_000), job(4, 1, 2_000)], "srsf"))[0] == 100 + 4


def test_shortest_time_and_shortest_service_differ_by_size() -> None:
    """A large short job and a small longer one on one cluster: time says the former, service the latter."""
    jobs = [job(0, 16, 30), job(0, 1, 100)]
    assert seconds(run(jobs, "srtf")) == [30, 130]
    assert seconds(run(jobs, "srsf")) == [100, 130]


def test_first_in_first_out_lets_nobody_overtake() -> None:
    """The small one waits behind the large one that waits; nobody is interrupted."""
    found = run([job(0, 8, 100), job(1, 16, 10), job(2, 1, 5)], "fifo")
    assert seconds(found) == [100, 109, 113]
    assert found.preemptions == 0


def test_least_attained_service_falls_behind_newcomers() -> None:
    """A job that fell to the second queue makes way for a new one, and comes back when that has fallen too."""
    found = run([job(0, 16, 1_000), job(300, 16, 100)], "las")
    assert seconds(found) == [100, 1_100]
    assert found.preemptions == 1


def test_the_default_interrupts_for_what_remains_least() -> None:
    """Known durations: the newcomer with less remaining goes first, one with more waits."""
    found = run([job(0, 16, 1_000), job(100, 16, 500), job(100, 16, 950)])
    assert seconds(found) == [500, 1_500, 2_350]
    assert found.preemptions == 1


def test_the_default_learns_from_siblings() -> None:
    """Unknown durations: after twenty that ended within minutes, a newcomer goes before one that has run for a day."""
    short = [job(1_000 * number, 16, 100) for number in range(20)]
    found = run(
        [*short, job(20_000, 8, 200_000), job(20_001, 8, 200_000), job(150_000, 16, 100)], known=False
    )
    assert seconds(found)[:21] == [100] * 21
    assert found.preemptions == 2


@pytest.mark.parametrize("known", [True, False])
@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 50_000), st.integers(1, 15), st.integers(1, 2_000_000), st.integers(0, 60)),
        min_size=1,
        max_size=25,
    )
)
def test_nobody_waits_for_ever(known: bool, rows: list[tuple[int, int, int, int]]) -> None:
    """Any finite trace, with shapes that don't pack well, on nodes of five: all jobs end, none before it can."""
    jobs = [job(*row) for row in rows]
    found = run(jobs, cluster=Cluster(3, 5), known=known)
    assert len(found.jct_us) == len(jobs)
    assert found.now_us >= max(each.submitted_us + each.service_us for each in jobs)


def test_a_trace_is_read_with_its_published_figures(tmp_path: Path) -> None:
    """Iterations x 1.015 of their time, in the order of submission; figures of the same name stand beside the result."""
    trace, cluster = tmp_path / "small.csv", tmp_path / "cluster.csv"
    trace.write_text(HEAD + "0,2,4000,100,bert,3000\n1,1,1000,2,unheard-of,500\n")
    cluster.write_text("num_switch,num_node_p_switch,num_gpu_p_node\n1,2,4\n")
    (tmp_path / "published_results.csv").write_text(
        "trace,policy,metric,value\nsmall,SRSF,avg_jct_s,9.5\nlarge,SRSF,avg_jct_s,1\nsmall,themis,makespan_s,3\n"
    )
    assert read_cluster(cluster) == Cluster(2, 4)
    assert read_trace(trace) == (job(1, 1, 1.015, 10), job(4, 2, 304.5, 10))
    found = replay(trace, cluster, "srsf")
    assert found.figures()["published"] == {"SRSF": {"avg_jct_s": 9.5}, "themis": {"makespan_s": 3}}
    assert found.jct_mean_s == (1.015 + 304.5) / 2
    assert (found.jct_s(0), found.jct_s(100), found.makespan_us) == (1.015, 304.5, 308_500_000)
    assert least(found.published, ["SRSF", "themis"]) == 9.5
    assert least(found.published, ["antman"]) is None


def test_what_can_not_be_run_is_refused(tmp_path: Path) -> None:
    """Unknown policies, jobs larger than the cluster, missing columns, policies without the durations that they need."""
    trace, cluster = tmp_path / "small.csv", tmp_path / "cluster.csv"
    trace.write_text(HEAD + "0,9,0,1,bert,1\n")
    cluster.write_text("num_switch,num_node_p_switch,num_gpu_p_node\n1,2,4\n")
    cases: list[tuple[Path, str, Durations, ProblemCode]] = [
        (trace, "srfs", "known", ProblemCode.NOT_FOUND),
        (trace, "srsf", "unknown", ProblemCode.BAD_INPUT),
        (trace, "srsf", "known", ProblemCode.UNPLACEABLE),
        (cluster, "srsf", "known", ProblemCode.BAD_INPUT),
    ]
    for path, policy, durations, code in cases:
        with pytest.raises(HeadraceError) as caught:
            replay(path, cluster, policy, durations)
        assert caught.value.problem.code is code


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0,0,0,1,bert,1", "num_gpu is '0', not from 1 to"),
        ("0,-4,0,1,bert,1", "num_gpu is '-4', not from 1 to"),
        ("0,x,0,1,bert,1", "num_gpu is 'x', not a number."),
        ("0,1,nan,1,bert,1", "submit_time is 'nan', not from 0 to"),
        ("0,1,0,-5,bert,1", "iterations is '-5', not from 0 to"),
        ("0,1,0,1,bert,inf", "iteration_time is 'inf', not from 0 to"),
        ("0,1,0,1e10,bert,1e10", "iterations x iteration_time is more than 10,000,000,000,000 ms."),
        ("0,1,0", "it has 3 fields, and the header 6."),
        ("\udcff", "can't read it: byte 0xff is no text in UTF-8."),
    ],
)
def test_a_bad_job_is_told_by_its_line(tmp_path: Path, row: str, said: str) -> None:
    """File, line, column; nobody runs for less than nothing."""
    path = tmp_path / "small.csv"
    path.write_bytes(f"{HEAD}0,1,0,1,bert,1\n{row}\n".encode(errors="surrogateescape"))
    with pytest.raises(HeadraceError) as caught:
        read_trace(path)
    assert f"small.csv:3: {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "cluster.csv: it has no rows below its header."),
        ("0,2,4\n", "cluster.csv:2: num_switch is '0', not from 1 to"),
        ("1,2,65\n", "cluster.csv:2: num_gpu_p_node is '65', not from 1 to 64."),
        ("10000,10000,8\n", "cluster.csv:2: num_switch x num_node_p_switch is 100,000,000, more than"),
        ("1,2,4\n1,2,4\n", "cluster.csv:3: a cluster has one row."),
    ],
)
def test_a_bad_cluster_is_told_by_its_line(tmp_path: Path, rows: str, said: str) -> None:
    """One row, with nodes in it."""
    path = tmp_path / "cluster.csv"
    path.write_text(f"num_switch,num_node_p_switch,num_gpu_p_node\n{rows}")
    with pytest.raises(HeadraceError) as caught:
        read_cluster(path)
    assert said in str(caught.value)


def test_published_figures_that_are_none_are_told_before_the_replay(tmp_path: Path) -> None:
    """By file and line; nobody waits for a replay to hear it."""
    (tmp_path / "published_results.csv").write_text("trace,policy,metric,value\nsmall,SRSF,avg_jct_s,nan\n")
    with pytest.raises(HeadraceError, match=r"published_results\.csv:2: value is 'nan'"):
        read_published(tmp_path / "small.csv")


def test_what_is_allocated_stands_beside_what_had_arrived(tmp_path: Path) -> None:
    """After each event, in percent of all GPUs: one job waits for the other, and at the end nothing is held."""
    trace, cluster = tmp_path / "small.csv", tmp_path / "cluster.csv"
    trace.write_text(HEAD + "0,4,0,100,bert,3000\n1,8,1000,100,bert,3000\n")
    cluster.write_text("num_switch,num_node_p_switch,num_gpu_p_node\n1,2,4\n")
    assert replay(trace, cluster, "fifo").curve == [(50, 50), (150, 50), (150, 100), (150, 0)]


# -- the published trace ---------------------------------------------------------------------------------------------


def real(policy: str, durations: Durations, trace: str = "trace1") -> Result:
    return replay(DATA / f"{trace}.csv", DATA / "n8g8.csv", policy, durations)


@pytest.mark.parametrize("policy", sorted(NEED_DURATIONS))
def test_reproduces_the_published_figures(policy: str) -> None:
    """Mean, 99th percentile and end of SRTF and SRSF: a hundredth of the 0.5 % that are asked for."""
    found = real(policy, "known")
    published = found.published[policy.upper()]
    assert found.jct_mean_s == pytest.approx(published["avg_jct_s"], rel=5e-5)
    assert found.makespan_us / S == pytest.approx(published["makespan_s"], rel=5e-5)


@pytest.mark.parametrize("trace", ["trace1", "trace1_pr"])
def test_the_default_with_durations_is_at_most_srsf(trace: str) -> None:
    """Mean completion time against the published one."""
    found = real("default", "known", trace)
    assert found.jct_mean_s <= found.published["SRSF"]["avg_jct_s"]


def test_the_default_without_durations_beats_those_that_need_none() -> None:
    """Tiresias-L, Themis and AntMan as published; the configuration is printed."""
    found = real("default", "unknown")
    best = least(found.published, ("Tiresias_L", "themis", "antman"))
    assert best is not None
    assert found.jct_mean_s < 0.9 * best
    assert found.configuration == default_configuration()
