"""Reading logs in the Standard Workload Format 2.2."""

from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.replay.classic import planner_of
from headrace.replay.clock import replay
from headrace.replay.policies import POLICIES
from headrace.replay.swf import Machine, read
from tests.replay.small import times

HEAD = "; Version: 2.2\n; MaxNodes: 4 (of the batch partition)\n; MaxProcs: 4\n"


def line(
    number: int, submit: int, run: int, got: int, asked: int = -1, limit: int = -1, status: int = 1
) -> str:
    """One job of user 3."""
    return f"{number} {submit} -1 {run} {got} -1 -1 {asked} {limit} -1 {status} 3 -1 -1 -1 -1 -1 -1\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "log.swf"
    path.write_text(text, encoding="latin-1")
    return path


def test_a_job_asks_for_what_it_requested_and_ends_when_that_is_over(tmp_path: Path) -> None:
    """Requested processors before those that it got; the requested time is the limit and the estimate."""
    text = HEAD + line(1, 100, 50, 2, 3, 40) + line(2, 110, 5, 2) + line(3, 105, 0, 1)
    first, third, second = read(written(tmp_path, text)).jobs
    assert (first.nodes, first.accelerators, first.limit_ms, first.expected_ms) == (3, 1, 40_000, 40_000)
    assert (first.duration_ms, first.runs_ms, first.tenant) == (50_000, 40_000, "user-3")
    assert (second.nodes, second.submit_ms, second.limit_ms) == (2, 10_000, 0)
    assert third.duration_ms == 1


def test_lines_that_are_no_job_are_counted(tmp_path: Path) -> None:
    """Those cancelled in the queue, parts of jobs, and those of which too little is known."""
    text = (
        HEAD
        + line(1, 0, 10, 1)
        + line(2, 0, -1, -1, 4, status=5)
        + line(3, 1, 7, 1, status=5)
        + line(4, 0, 3, 1, status=2)
        + line(4, 0, 3, 1, status=3)
        + line(5, 0, -1, 1)
        + line(6, 0, 3, -1)
        + line(7, -1, 3, 1)
    )
    log = read(written(tmp_path, text))
    assert [job.name for job in log.jobs] == ["1", "3"]
    assert log.skipped == {
        "cancelled before it ran": 1,
        "part of another job": 2,
        "processors not known": 1,
        "run time not known": 1,
        "submission not known": 1,
    }


@pytest.mark.parametrize(
    ("header", "machine"),
    [
        ("; MaxProcs: 128\n", Machine(128, 1)),
        ("; MaxNodes: 128\n", Machine(128, 1)),
        ("; MaxNodes: 16\n; MaxProcs: 128\n", Machine(16, 8)),
        ("; MaxNodes: 10\n; MaxProcs: 128\n", Machine(128, 1)),
        ("; MaxNodes: 2\n; MaxProcs: 256\n", Machine(4, 64)),
        ("; MaxNodes: 1\n; MaxProcs: 67\n", Machine(67, 1)),
    ],
)
def test_the_header_says_what_it_ran_on(tmp_path: Path, header: str, machine: Machine) -> None:
    """Nodes of equal width where that is so, and never wider than a node of ours can be."""
    assert read(written(tmp_path, header + line(1, 0, 1, 1))).machine == machine


def test_easy_counts_on_what_was_requested(tmp_path: Path) -> None:
    """A job that says that it is short passes, one that says nothing does not."""
    text = (
        HEAD
        + line(1, 0, 10, 3, limit=10)
        + line(2, 1, 10, 4, limit=10)
        + line(3, 2, 5, 1, limit=8)
        + line(4, 3, 1, 1)
    )
    log = read(written(tmp_path, text))
    cluster = log.cluster()
    outcome = replay(cluster, log.jobs, planner_of(POLICIES["easy"], cluster))
    assert times(outcome) == {"1": (0, 10), "2": (10, 20), "3": (2, 7), "4": (20, 21)}


@pytest.mark.parametrize("policy", ["default", "easy", "conservative"])
def test_a_log_without_requested_times_replays_all_the_same(tmp_path: Path, policy: str) -> None:
    """Nobody knows when who runs will end, so that no start can be promised and whoever fits passes."""
    text = HEAD + line(1, 0, 10, 3) + line(2, 1, 10, 4) + line(3, 2, 5, 1)
    log = read(written(tmp_path, text))
    cluster = log.cluster()
    outcome = replay(cluster, log.jobs, planner_of(POLICIES[policy], cluster))
    assert times(outcome) == {"1": (0, 10), "2": (10, 20), "3": (2, 7)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "1 2 3\n", "log.swf:4: a job has 18 fields, not 3."),
        (HEAD + line(1, 0, 1, 1).replace("1 0 ", "1 now ", 1), "log.swf:4: field 2 is 'now', not a number."),
        (HEAD, "there is no job in it"),
        ("", "there is no job in it"),
        (line(1, 0, 1, 1), "no header says MaxProcs or MaxNodes. Give --processors."),
        (HEAD + line(1, 0, 1, 1).replace("1 0 ", "1 nan ", 1), "log.swf:4: field 2 is 'nan', not from"),
        (HEAD + line(1, 0, 1, 1).replace("1 0 ", "1 inf ", 1), "log.swf:4: field 2 is 'inf', not from"),
        (HEAD + line(1, 0, 77, 1).replace("77", "inf"), "log.swf:4: field 4 is 'inf', not from"),
        (HEAD + line(1, 0, 1, 77).replace("77", "inf"), "log.swf:4: field 5 is 'inf', not from"),
        (HEAD + line(1, 0, 1, 77).replace("77", "2.5"), "log.swf:4: field 5 is '2.5', not a whole number."),
        (HEAD + line(1, 0, 1, 1, limit=77).replace("77", "1e300"), "log.swf:4: field 9 is '1e300', not from"),
        (
            "; MaxProcs: 99999999999\n" + line(1, 0, 1, 1),
            "log.swf:1: 99,999,999,999 processors make up 99,999,999,999 nodes, more than 1,000,000. Give",
        ),
        (f"; MaxProcs: {'9' * 5000}\n" + line(1, 0, 1, 1), "log.swf:1: maxprocs is '999"),
    ],
)
def test_a_bad_log_is_told_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    """File, line, field, and what to do."""
    with pytest.raises(HeadraceError) as caught:
        read(written(tmp_path, text))
    assert said in str(caught.value)


def test_who_knows_better_may_say_how_many_processors(tmp_path: Path) -> None:
    """Old logs have no header."""
    assert read(written(tmp_path, line(1, 0, 1, 1)), processors=32).machine == Machine(32, 1)


@pytest.mark.parametrize(("processors", "said"), [(-4, "there are no -4 processors"), (10**9, "more than")])
def test_a_number_of_processors_that_can_not_be_is_refused(
    tmp_path: Path, processors: int, said: str
) -> None:
    """None, or more than a computer has memory for."""
    with pytest.raises(HeadraceError, match=f"--processors: .*{said}"):
        read(written(tmp_path, line(1, 0, 1, 1)), processors)


@pytest.mark.parametrize("policy", ["default", "easy", "conservative", "srsf"])
def test_the_longest_times_are_replayed(tmp_path: Path, policy: str) -> None:
    """What a log may say at most is far within what planners count in."""
    most = 10_000_000_000
    text = HEAD + "".join(line(number, most - number, most, 4, limit=most) for number in range(1, 4))
    log = read(written(tmp_path, text))
    cluster = log.cluster()
    assert len(replay(cluster, log.jobs, planner_of(POLICIES[policy], cluster)).ran) == 3


def test_how_a_log_was_saved_changes_nothing(tmp_path: Path) -> None:
    """A byte order mark before a first line that is a job, and carriage returns."""
    text = line(1, 0, 10, 1) + line(2, 3, 10, 1)
    path = tmp_path / "log.swf"
    plain = read(written(tmp_path, text), 4)
    for saved in (f"\ufeff{text}", text.replace("\n", "\r\n")):
        path.write_bytes(saved.encode())
        assert read(path, 4) == plain


def test_a_log_out_of_order_is_sorted_and_its_numbers_may_be_twice(tmp_path: Path) -> None:
    """Logs that were joined have both; each line is a job."""
    text = HEAD + line(7, 20, 10, 1) + line(7, 5, 10, 1) + line(3, 10, 10, 1)
    found = read(written(tmp_path, text)).jobs
    assert [(job.name, job.submit_ms) for job in found] == [("7", 0), ("3", 5_000), ("7", 15_000)]
