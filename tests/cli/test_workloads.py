"""Workloads on the command line, on a live control plane with real processes."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Headrace, Said
from tests.cli.plane import ROOT, client_of


def submit(headrace: Headrace, name: str, command: str, *more: str) -> Said:
    """Submit a small job of fjord-ai that may run in Norway."""
    flags = ("--project", "research", "--countries", "NO", "--cpu", "100m", "--memory", "50MB")
    return headrace("submit", "--name", name, "-c", command, *flags, *more)


def test_a_job_runs_and_its_log_and_exit_code_come_back(headrace: Headrace) -> None:
    """`submit --follow` is a remote shell with a bill."""
    said = submit(headrace, "hello", "echo hello from $RANK", "--follow")
    assert said.code == 0, said
    assert "hello from 0" in said.out


def test_a_job_that_fails_says_so_with_its_code(headrace: Headrace) -> None:
    """The exit code of the workload is in the reason, and the command's own code is not 0."""
    said = submit(headrace, "fails", "echo before; exit 3", "--follow")
    assert said.code == 1
    assert "before" in said.out
    assert "3" in said.err
    ended = headrace("wait", "fails")
    assert ended.code == 1
    assert "failed" in ended.out


def test_a_name_stands_for_a_workload_as_long_as_it_is_unique(headrace: Headrace) -> None:
    """Two live workloads of one name need an id; one live among ended ones does not."""
    for _ in range(2):
        submit(headrace, "twin", "sleep 60")
    said = headrace("explain", "twin")
    assert said.code == 2
    ids = said.err.partition("[")[2].partition("]")[0].split(", ")
    assert len(ids) == 2
    assert headrace("stop", ids[0]).code == 0
    headrace("wait", ids[0], "--for", "stopped", "--timeout", "30")
    assert headrace("explain", "twin").out.startswith(ids[1])
    headrace("stop", "twin")
    assert headrace("explain", "no-such").code == 4


def test_a_gang_is_followed_rank_by_rank(headrace: Headrace) -> None:
    """Every rank's output is there, by rank and by stream."""
    submit(headrace, "gang", "echo rank $RANK of $WORLD_SIZE; echo aside >&2", "--nodes", "2", "--follow")
    assert headrace("logs", "gang").out == "rank 0 of 2\nrank 1 of 2\n"
    assert headrace("logs", "gang", "--rank", "1").out == "rank 1 of 2\n"
    assert headrace("logs", "gang", "--stderr", "--rank", "0").out == "aside\n"
    assert headrace("logs", "gang", "--rank", "7").code == 2


def test_pause_and_resume_are_seen(headrace: Headrace) -> None:
    """A paused workload says so, and a second pause changes nothing."""
    submit(headrace, "sleeper", "sleep 60")
    headrace("wait", "sleeper", "--for", "running", "--timeout", "30")
    assert headrace("pause", "sleeper").out.startswith("pausing ")
    assert headrace("wait", "sleeper", "--for", "paused", "--timeout", "30").code == 0
    assert "is paused already" in headrace("pause", "sleeper").out
    assert "is paused" in headrace("explain", "sleeper").out
    assert headrace("resume", "sleeper").out.startswith("resuming ")
    assert headrace("wait", "sleeper", "--for", "running", "--timeout", "30").code == 0
    assert headrace("stop", "sleeper").out.startswith("stopping ")
    assert headrace("wait", "sleeper", "--for", "stopped", "--timeout", "30").code == 0


def test_a_refused_workload_says_the_law_in_one_line(headrace: Headrace) -> None:
    """The refusal and its reason come back with the submission, with a code of their own."""
    said = headrace("submit", "-f", ROOT / "examples" / "workloads" / "train-se.yaml")
    assert said.code == 7
    assert "policy countries SE" in said.out
    assert "JURISDICTION" in headrace("ps", "--all").out


def test_what_can_never_fit_is_refused_at_once_with_what_would(headrace: Headrace) -> None:
    """Nothing is queued that no node could ever take."""
    said = submit(headrace, "giant", "true", "--gpu", "lab:400")
    assert said.code in (2, 7)
    assert said.err.startswith("headrace: ")


def test_the_same_key_submits_once(headrace: Headrace) -> None:
    """A script that is run again after a lost answer does nothing twice."""
    first = submit(headrace, "keyed", "true", "--key", "k-1", "--json")
    again = submit(headrace, "keyed", "true", "--key", "k-1", "--json")
    assert json.loads(first.out)["workloads"] == json.loads(again.out)["workloads"]
    assert json.loads(again.out)["repeated"] is True


def test_a_wrong_workload_file_is_named_by_line(headrace: Headrace, tmp_path: Path) -> None:
    """The same errors as for every document."""
    file = tmp_path / "w.yaml"
    file.write_text("kind: workload\nname: w\ntype: job\nproject: research\nnodes: -1\ncommands: [x]\n")
    said = headrace("submit", "-f", file)
    assert said.code == 2
    assert "w.yaml:5:" in said.err


def test_a_tenant_sees_and_touches_its_own(headrace: Headrace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tenant's token the other tenant's workloads do not exist, and the estate is not its business."""
    submit(headrace, "private", "sleep 60")
    ident = headrace("explain", "private").out.split()[0]
    token = headrace(
        "token", "issue", "tenant-admin", "--tenant", "albion-health", "--holder", "A. Person"
    ).out.strip()
    with monkeypatch.context() as env:
        env.setenv("HEADRACE_TOKEN", token)
        assert headrace("whoami").out.startswith("t-")
        assert "private" not in headrace("ps").out
        assert headrace("stop", ident).code == 4
        assert headrace("nodes").code == 3
    listed = headrace("token", "ls").out
    assert "A. Person" in listed
    assert token not in listed
    number = next(line.split()[0] for line in listed.splitlines() if "A. Person" in line)
    assert headrace("token", "revoke", number).out == f"revoked {number}\n"
    with monkeypatch.context() as env:
        env.setenv("HEADRACE_TOKEN", token)
        assert headrace("ps").code == 3
    headrace("stop", "private")


def test_flags_say_what_shape_a_workload_has(headrace: Headrace) -> None:
    """As a file says it: a range of nodes, alternatives, how they stand, what is known of time."""
    more = (
        "--gpu",
        "lab:1,H100:8",
        "--nodes",
        "1..3",
        "--spread",
        "rack",
        "--pack",
        "site",
        "--expected",
        "1m",
    )
    said = submit(headrace, "shaped", "sleep 60", *more, "--checkpoint", "10m")
    ident = said.out.split()[-1]
    line = next(line for line in headrace("ps").out.splitlines() if line.startswith(ident))
    assert "1..3" in line
    assert "[lab:1, H100:8]" in line
    (shown,) = (one for one in json.loads(headrace("ps", "--json").out) if one["id"] == ident)
    assert (shown["nodes"], shown["nodes_max"]) == (1, 3)
    headrace("stop", ident)


def test_flags_say_how_long_it_may_run_how_it_is_curtailed_and_who_pays(
    headrace: Headrace, plane: Path
) -> None:
    """What `explain` advises to give work can be given without a file."""
    flags = ("--max-duration", "2h", "--expected", "1h30m", "--flex", "pausable", "--priority", "3")
    said = submit(headrace, "bounded", "sleep 60", *flags, "--contract", "fjord-on-demand")
    assert said.code == 0, said
    ident = said.out.split()[-1]
    with client_of(plane) as control:
        spec = control.workload(ident).spec
    headrace("stop", ident)
    assert (spec["max_duration_ms"], spec["expected_ms"]) == (7_200_000, 5_400_000)
    assert (spec["flex"], spec["priority"], spec["contract"]) == ("pausable", 3, "fjord-on-demand")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--nodes", "0"), "--nodes: "),
        (("--nodes", "-1"), "--nodes: "),
        (("--max-duration", "10"), "--max-duration: '10' is not a duration."),
        (("--max-duration", "1h", "--expected", "2h"), "--expected: it is expected to take 2h"),
        (("--flex", "soft"), "--flex: no flex 'soft'"),
        (("--contract", "no such"), "--contract: "),
        (("--gpu", "lab:0.1234"), "--gpu: 'lab:0.1234' is finer than a thousandth"),
        (("--nodes", "3..1"), "--nodes: '3..1' ends before it begins."),
        (("--pack", "rakc"), "--pack: no level 'rakc'"),
        (("--required",), "--pack: a topology without pack and spread."),
        (("--checkpoint", "10"), "--checkpoint: '10' is not a duration."),
        (("--gpu-memory", "80GB"), "--gpu-memory: gpu_memory without gpu."),
    ],
)
def test_a_wrong_flag_is_named(headrace: Headrace, flags: tuple[str, ...], words: str) -> None:
    """With the flag that it was given by."""
    said = submit(headrace, "wrong", "true", *flags)
    assert said.code == 2
    assert words in said.err


def test_elastic_work_shows_the_logs_of_the_ranks_that_it_has(headrace: Headrace) -> None:
    """As many as it got, not as many as it could have had."""
    said = headrace("submit", "-f", ROOT / "examples" / "workloads" / "elastic.yaml", "--follow")
    assert said.code == 0, said
    ident = said.out.splitlines()[0].split()[-1]
    lines = headrace("logs", ident).out.splitlines()
    assert lines == [f"rank {rank} of {len(lines)}" for rank in range(len(lines))]
    assert 1 <= len(lines) <= 3


@pytest.mark.parametrize("name", ["fraction", "packed"])
def test_the_examples_of_shapes_run(headrace: Headrace, name: str) -> None:
    """Half of an accelerator, and a gang in one rack."""
    said = headrace("submit", "-f", ROOT / "examples" / "workloads" / f"{name}.yaml", "--follow")
    assert said.code == 0, said
