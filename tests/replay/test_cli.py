"""``headrace replay``: one JSON object, or a table; the same twice, on any hash seed."""

import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.app import run
from headrace.core.errors import HeadraceError
from headrace.core.scheduling.plan import DEFAULT_LIMITS
from headrace.core.scheduling.service import STRETCH
from headrace.core.scheduling.timeshare import MARGIN
from headrace.core.scheduling.waste import BRIGHT, PRICE, STOP
from headrace.replay.configuration import default_configuration
from headrace.replay.plots import cdf_points, thinned, write

JOBS = "job_id,submit_time,num_gpu,duration,vc\n" + "".join(
    f"{number},{number * 60},{(1, 1, 2, 4, 8, 16)[number % 6]},{300 + number * 97 % 4_000},vc-{number % 3}\n"
    for number in range(120)
)
LOG = "; MaxProcs: 8\n" + "".join(
    f"{number} {number * 20} -1 {30 + number * 13 % 200} {1 + number % 8} -1 -1 -1 300 -1 1 {number % 4} -1 -1 -1 -1 -1 -1\n"
    for number in range(60)
)
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn-1,64000,262144,2,A10\nn-2,96000,524288,4,T4\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np-1,4000,8192,1,500,\np-2,8000,8192,1,1000,\n"
MURI = "job_id,num_gpu,submit_time,iterations,model_name,iteration_time\n" + "".join(
    f"{number},{1 + number % 4},{number * 900},{50 + number * 31 % 400},bert,300\n" for number in range(40)
)
CLUSTER = "num_switch,num_node_p_switch,num_gpu_p_node\n1,2,4\n"
TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")
MEASURED = ("wall_s", "plan_microseconds_per_event")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with one small trace of each kind."""
    for name, text in (("jobs.csv", JOBS), ("log.swf", LOG), ("nodes.csv", NODES), ("pods.csv", PODS)):
        (tmp_path / name).write_text(text)
    (tmp_path / "muri.csv").write_text(MURI)
    (tmp_path / "n2g4.csv").write_text(CLUSTER)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert run(["replay", *map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def unmeasured(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in MEASURED}


@pytest.mark.parametrize("policy", ["default", "fifo", "easy", "conservative", "srtf", "srsf", "best-fit"])
@pytest.mark.parametrize(
    "kind", [("philly", "--trace", "jobs.csv", "--gpus", "32"), ("swf", "--trace", "log.swf")]
)
def test_a_replay_prints_its_figures_and_its_configuration(
    data: Path, capsys: pytest.CaptureFixture[str], policy: str, kind: tuple[str, ...]
) -> None:
    """Every job is in them, and what decided stands beside them."""
    found = answer(capsys, *kind, "--data", data, "--policy", policy)
    assert found["jobs"] == (120 if kind[0] == "philly" else 60)
    assert found["policy"] == policy
    assert found["configuration"]["planner"] == ("headrace" if policy == "default" else "classic")
    assert 0 < found["jct_p50_s"] <= found["jct_p99_s"]
    assert 0 < found["utilisation_percent"] <= 100


def test_the_same_replay_gives_the_same_figures_on_any_hash_seed(data: Path) -> None:
    """Two processes with different hash seeds; only what was measured differs."""
    words = ("philly", "--trace", str(data / "jobs.csv"), "--gpus", "16", "--likeness", "300", "--seed", "9")
    outs = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "headrace",
                "replay",
                *words,
                "--json",
                "--plot",
                str(data / f"{seed}.svg"),
            ],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        outs.append(unmeasured(json.loads(done.stdout)))
    assert outs[0] == outs[1]
    assert outs[0]["jobs"] == 300
    assert (data / "1.svg").read_bytes() == (data / "2.svg").read_bytes()


def test_openb_prints_every_seed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mean, spread, and each seed by its number."""
    found = answer(
        capsys, "openb", "--nodes", "nodes.csv", "--pods", "pods.csv", "--data", data, "--seeds", "1-3,7"
    )
    assert list(found["per_seed"]) == ["1", "2", "3", "7"]
    assert set(found["unallocated_gpu_percent"]) == {"mean", "sd"}
    assert "wall_s" in found


KINDS = {
    "openb": ("--nodes", "nodes.csv", "--pods", "pods.csv", "--seeds", "1-2"),
    "muri": ("--trace", "muri.csv", "--cluster", "n2g4.csv"),
    "philly": ("--trace", "jobs.csv", "--gpus", "32"),
    "swf": ("--trace", "log.swf"),
}
TITLES = {"openb": "pods", "muri": "muri", "philly": "jobs", "swf": "log"}
CLASSIC = {"openb": "fgd", "muri": "las", "philly": "easy", "swf": "easy"}
JCT = ("jct_mean_s", "jct_p50_s", "jct_p99_s", "makespan_s", "wall_s")
KEYS = {"openb": ("unallocated_gpu_percent", "per_seed", "wall_s"), "muri": JCT, "philly": JCT, "swf": JCT}


@pytest.mark.parametrize("kind", KINDS)
def test_one_object_is_all_that_is_printed(data: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    """One line on standard output with the keys that scripts look for, and without a terminal nothing beside it."""
    assert run(["replay", kind, *KINDS[kind], "--data", str(data), "--json"]) == 0
    out, err = capfd.readouterr()
    assert out.count("\n") == 1
    assert set(KEYS[kind]) <= json.loads(out).keys()
    assert err == ""


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_shown_on_a_terminal_alone(data: Path, kind: str) -> None:
    """The bar goes where errors go, so that the figures may go to a file; it says what runs, and gets to its end."""
    here, there = pty.openpty()
    words = ("replay", kind, *KINDS[kind], "--data", str(data), "--json")
    command = [sys.executable, "-P", "-m", "headrace", *words]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=there, env=os.environ | {"TERM": "xterm"}, check=True
    )
    os.close(there)
    seen = os.read(here, 65_536).decode()
    os.close(here)
    assert set(KEYS[kind]) <= json.loads(done.stdout).keys()
    assert f"{TITLES[kind]}, default" in seen
    assert "100 %" in seen


def test_one_default_configuration_serves_every_replay(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it is printed, alike by the four; a classic policy has its own."""
    printed = [answer(capsys, kind, *KINDS[kind], "--data", data)["configuration"] for kind in KINDS]
    assert printed == [default_configuration()] * 4
    assert printed[0]["limits"] == asdict(DEFAULT_LIMITS)
    assert printed[0]["waste"] == {"bright": BRIGHT, "stop": STOP, "price": PRICE}
    assert printed[0]["service"]["age_stretch"] == STRETCH
    assert printed[0]["timeshare"]["exchange_margin"] == MARGIN
    for kind, words in KINDS.items():
        other = answer(capsys, kind, *words, "--data", data, "--policy", CLASSIC[kind])
        assert other["configuration"] != printed[0]


@pytest.mark.parametrize(
    ("policy", "published", "flagged"),
    [
        ("fgd", 0.5, False),
        ("fgd", 0.501, True),
        ("fgd", -0.501, True),
        ("best-fit", 0.0, False),
        ("best-fit", 9.0, True),
        ("default", 9.0, None),
        ("first-fit", 9.0, None),
    ],
)
def test_openb_says_where_it_disagrees_with_what_is_published(
    data: Path, capsys: pytest.CaptureFixture[str], policy: str, published: float, flagged: bool | None
) -> None:
    """By more than half a point, of the same policy and the same list of pods at 100 % arrived."""
    (data / "openb").mkdir()
    (data / "fgd_atc23").mkdir()
    (data / "openb" / "half.csv").write_text("cpu_milli,memory_mib,num_gpu,gpu_milli\n1000,1024,1,500\n")
    rows = [
        f"{pods},{name},{arrived},{figure}\n"
        for name in ("BestFit", "FGD")
        for pods, arrived, figure in (("half", 90, 50.0), ("half", 100, published), ("other", 100, 70.0))
    ]
    (data / "fgd_atc23" / "summary_unalloc.csv").write_text(
        "workload,policy,arrived_pct_of_gpu_capacity,unalloc_gpu_pct_mean\n" + "".join(rows)
    )
    words = ("--nodes", "nodes.csv", "--pods", "openb/half.csv", "--policy", policy, "--seeds", "1")
    found = answer(capsys, "openb", *words, "--data", data)
    assert found["unallocated_gpu_percent"]["mean"] == 0
    assert found["published"]["FGD"] == published
    assert found.get("flagged") is flagged


@pytest.mark.parametrize("kind", KINDS)
def test_a_plot_is_written_the_same_twice(data: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """Of each kind: allocation over arrived demand, and beside it completion times, which pods that stay don't have."""
    drawn = []
    for name in ("one.svg", "two.svg"):
        answer(capsys, kind, *KINDS[kind], "--data", data, "--plot", data / name)
        drawn.append((data / name).read_bytes())
    assert drawn[0] == drawn[1]
    titles = [text for text in TEXT.findall(drawn[0].decode()) if ", default: " in text]
    charts = ("allocated over arrived demand", "completion times, to the 99th percentile")
    shown = charts[:1] if kind == "openb" else charts
    assert titles == [f"{TITLES[kind]}, default: {what}" for what in shown]


def test_a_plot_that_can_not_be_written_is_told_before_anything_is_read(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever waited for an hour should not hear it then. The check leaves no file, and keeps the one that is there."""
    (data / "log.swf").write_text("no log at all\n")
    (data / "old.svg").write_text("<svg/>")
    trace = str(data / "log.swf")
    for plot, said in (("none/x.svg", "No such file"), ("", "it is a folder"), ("old.svg/x", "Not a dir")):
        assert run(["replay", "swf", "--trace", trace, "--plot", str(data / plot)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("headrace: --plot: can't write ")
        assert said in err
    for name in ("new.svg", "old.svg"):
        assert run(["replay", "swf", "--trace", trace, "--plot", str(data / name)]) == 2
        assert "log.swf:1: a job has 18 fields" in capsys.readouterr().err
    assert not (data / "new.svg").exists()
    assert (data / "old.svg").read_text() == "<svg/>"


def test_without_json_it_is_a_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each figure, those of the configuration too."""
    assert run(["replay", "swf", "--trace", str(data / "log.swf"), "--policy", "easy"]) == 0
    out = capsys.readouterr().out
    for name in ("jct_mean_s", "configuration.reserved", "processors_per_node"):
        assert name in out


def test_data_may_stand_in_the_environment(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no command has to say it."""
    monkeypatch.setenv("HEADRACE_DATA", str(data))
    assert answer(capsys, "swf", "--trace", "log.swf")["jobs"] == 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("philly", "--trace", "jobs.csv", "--policy", "eazy"), "no policy 'eazy'; known: best-fit"),
        (("philly", "--trace", "job.csv"), "no file job.csv"),
        (("philly",), "Give --trace, or --data with philly/"),
        (("philly", "--trace", "jobs.csv", "--gpus", "12"), "12 GPUs don't make up nodes of 8."),
        (("philly", "--trace", "jobs.csv", "--durations", "some"), "neither known nor unknown"),
        (
            ("philly", "--trace", "jobs.csv", "--policy", "easy", "--durations", "unknown"),
            "can't do without durations",
        ),
        (
            ("openb", "--nodes", "nodes.csv", "--pods", "pods.csv", "--seeds", "5-"),
            "'5-' is no list of numbers",
        ),
        (
            ("openb", "--nodes", "nodes.csv", "--pods", "pods.csv", "--seeds", "5-4"),
            "'5-4' has no number in it",
        ),
        (
            ("openb", "--nodes", "nodes.csv", "--pods", "pods.csv", "--policy", "x"),
            "no policy 'x'; known: best-fit",
        ),
        (
            ("openb", "--nodes", "nodes.csv", "--pods", "pods.csv", "--seeds", "1-1000000000"),
            "--seeds: '1-1000000000' is 1,000,000,000 seeds. Give at most 10,000.",
        ),
        (
            ("openb", "--nodes", "nodes.csv", "--pods", "pods.csv", "--seeds", "9" * 5_000),
            "is no list of numbers",
        ),
        (("openb", "--nodes", "nodes.csv", "--pods", "idle.csv"), "idle.csv: no pod in it asks for a GPU"),
        (("openb", "--nodes", "pods.csv", "--pods", "pods.csv"), "pods.csv:1: pods.csv lacks the columns sn"),
        (("muri", "--trace", "muri.csv", "--cluster", "muri.csv"), "muri.csv:1: muri.csv lacks the columns"),
        (
            ("swf", "--trace", "log.swf", "--processors", "-4"),
            "'--processors': Input should be greater than or equal to 1. Try",
        ),
        (("swf", "--trace", "log.swf", "--processors", "99999999999"), "--processors: 99,999,999,999 proc"),
        (
            ("philly", "--trace", "jobs.csv", "--likeness", "-1"),
            "'--likeness': Input should be greater than or equal to 0. Try",
        ),
        (
            ("philly", "--trace", "jobs.csv", "--likeness", "1000000000"),
            "Input should be less than or equal to 1000000. Try",
        ),
        (("philly", "--trace", "jobs.csv", "--gpus", "0"), "--gpus: 0 GPUs don't make up nodes of 8."),
        (("swf", "--trace", "log.swf", "--plot", "no/such/folder.svg"), "can't write no/such/folder.svg"),
    ],
)
def test_a_mistake_is_told_with_the_next_step(
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    """In one line on standard error, and the exit code is not 0."""
    (data / "idle.csv").write_text("cpu_milli,memory_mib,num_gpu,gpu_milli\n100,1,0,0\n")
    monkeypatch.chdir(data)
    monkeypatch.delenv("HEADRACE_DATA", raising=False)
    assert run(["replay", *words]) != 0
    out, err = capsys.readouterr()
    assert said in err
    assert (out, err.count("\n")) == ("", 1)


def test_a_plot_shows_no_more_points_than_a_screen_has(tmp_path: Path) -> None:
    """Thinned, with its last point; completion times to their 99th percentile."""
    points = [(float(number), 50.0) for number in range(10_001)]
    kept = thinned(points)
    assert len(kept) <= 402
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert cdf_points([3_600_000] * 200)[-1] == (1.0, 99.0)
    write(tmp_path / "one.svg", "t", points)
    write(tmp_path / "two.svg", "t", points, cdf_points([1, 2, 3]))
    assert (tmp_path / "one.svg").stat().st_size < (tmp_path / "two.svg").stat().st_size < 40_000
    with pytest.raises(HeadraceError, match="can't write"):
        write(tmp_path / "none" / "x.svg", "t", points)
