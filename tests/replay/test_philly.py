"""Reading Philly traces, whatever their columns are called, and saying where one is wrong."""

from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.replay.philly import cluster_of, read, shape_of


def written(folder: Path, text: str) -> Path:
    path = folder / "jobs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_jobs_come_by_submission_counted_from_the_first(tmp_path: Path) -> None:
    """Times are seconds; a job without a GPU is none; one without a duration ends at once."""
    path = written(
        tmp_path,
        "job_id,submit_time,num_gpu,duration,vc\n7,100,1,30,x\n8,90,16,2.5,y\n9,95,0,4,x\n10,91,2,0,x\n",
    )
    found = [
        (job.name, job.tenant, job.submit_ms, job.duration_ms, job.nodes, job.accelerators)
        for job in read(path)
    ]
    assert found == [
        ("8", "y", 0, 2_500, 2, 8),
        ("10", "x", 1_000, 1, 1, 2),
        ("7", "x", 10_000, 30_000, 1, 1),
    ]


def test_other_names_and_dates_will_do(tmp_path: Path) -> None:
    """A set with dates, and without names or virtual clusters."""
    path = written(
        tmp_path, "timestamp,num_gpus,runtime\n2017-10-03 00:00:10,4,60\n2017-10-03 00:00:00,1,60\n"
    )
    assert [(job.submit_ms, job.accelerators, job.tenant) for job in read(path)] == [
        (0, 1, "philly"),
        (10_000, 4, "philly"),
    ]


@pytest.mark.parametrize(
    ("gpus", "shape"), [(1, (1, 1)), (8, (1, 8)), (9, (2, 5)), (12, (2, 6)), (16, (2, 8)), (17, (3, 6))]
)
def test_gangs_have_the_fewest_nodes_in_equal_parts(gpus: int, shape: tuple[int, int]) -> None:
    """Rounded up: a rank is like the other."""
    assert shape_of(gpus, 8) == shape


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "jobs.csv:1: no column says the submission of a job. Call it submit_time or"),
        ("submit_time,num_gpu,duration\n", "there is no job in it"),
        ("submit_time,num_gpu,duration\n0,1,5\n0,two,5\n", "jobs.csv:3: num_gpu is 'two', not a number."),
        ("submit_time,num_gpu,duration\n0,1\n", "jobs.csv:2: it has 2 fields, and the header 3."),
        ("submit_time,num_gpu,duration\n0,1,5,7\n", "jobs.csv:2: it has 4 fields, and the header 3."),
        ("", "jobs.csv: it is empty. Give a CSV file of jobs."),
        (
            "submit_time,num_gpu,duration\nsoon,1,5\n",
            "jobs.csv:2: submit_time is 'soon', neither seconds nor a date.",
        ),
        ("submit_time,num_gpu,duration\n0,-1,5\n", "jobs.csv:2: num_gpu is '-1', not from 0 to"),
        ("submit_time,num_gpu,duration\n0,2.5,5\n", "jobs.csv:2: num_gpu is '2.5', not a whole number."),
        ("submit_time,num_gpu,duration\n0,1,-5\n", "jobs.csv:2: duration is '-5', not from 0 to"),
        ("submit_time,num_gpu,duration\n0,1,nan\n", "jobs.csv:2: duration is 'nan', not from 0 to"),
        ("submit_time,num_gpu,duration\n0,1,2017-10-03\n", "jobs.csv:2: duration is '2017-10-03', not a"),
        ("submit_time,num_gpu,duration\n1e300,1,5\n", "jobs.csv:2: submit_time is '1e300', not within"),
        ("submit_time,num_gpu,duration\n0001-01-01T00:00+23:00,1,5\n", "jobs.csv:2: submit_time is"),
        ("submit_time,num_gpu,duration\ninf,1,5\n", "jobs.csv:2: submit_time is 'inf'"),
    ],
)
def test_a_bad_file_is_told_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    """File, line, column, and what to do."""
    with pytest.raises(HeadraceError) as caught:
        read(written(tmp_path, text))
    assert said in str(caught.value)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    """Somebody gave the archive."""
    path = tmp_path / "jobs.csv"
    path.write_bytes(b"submit_time,num_gpu,duration\n\xff\xfe\x00")
    with pytest.raises(HeadraceError, match=r"jobs\.csv:2: can't read it: byte 0xff is no text in UTF-8"):
        read(path)


def test_how_a_file_was_saved_changes_nothing(tmp_path: Path) -> None:
    """A byte order mark before the column of tenants must not make one of two; nor may anything else do that."""
    text = "vc,submit_time,num_gpu,duration\nx,0,1,5\n\ny,1,1,5\n"
    plain = read(written(tmp_path, text))
    assert {job.tenant for job in plain} == {"x", "y"}
    for saved in (f"\ufeff{text}", text.replace("\n", "\r\n"), text.replace("5\n", "5,,\n") + ",,,\n"):
        path = tmp_path / "jobs.csv"
        path.write_bytes(saved.encode())
        assert [(one.tenant, one.submit_ms) for one in read(path)] == [
            (one.tenant, one.submit_ms) for one in plain
        ]


def test_two_jobs_of_one_name_are_two_jobs(tmp_path: Path) -> None:
    """Sets have a line for each attempt of a job; each of them took its GPUs."""
    path = written(tmp_path, "job_id,submit_time,num_gpu,duration\n7,5,1,30\n7,0,2,30\n7,0,2,30\n")
    assert [(job.name, job.submit_ms) for job in read(path)] == [("7", 0), ("7", 0), ("7", 5_000)]


def test_gpus_make_up_whole_nodes(tmp_path: Path) -> None:
    """Else the figure would be of another cluster than was asked for."""
    jobs = read(written(tmp_path, "submit_time,num_gpu,duration\n0,1,5\n"))
    assert cluster_of(64, jobs).capacity_milli == 64_000
    for gpus, said in ((60, "don't make up nodes of 8"), (0, "don't make"), (8 * 10**9, "are more than")):
        with pytest.raises(HeadraceError, match=f"--gpus: {gpus:,} GPUs {said}"):
            cluster_of(gpus, jobs)
