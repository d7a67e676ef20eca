"""``headrace replay``: one JSON object, or a table; the same twice, on any hash seed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.app import run
from headrace.core.errors import HeadraceError
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
MEASURED = ("wall_s", "plan_microseconds_per_event")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with one small trace of each kind but Muri's."""
    for name, text in (("jobs.csv", JOBS), ("log.swf", LOG), ("nodes.csv", NODES), ("pods.csv", PODS)):
        (tmp_path / name).write_text(text)
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
    """On standard error, and the exit code is not 0."""
    monkeypatch.chdir(data)
    monkeypatch.delenv("HEADRACE_DATA", raising=False)
    assert run(["replay", *words]) != 0
    assert said in capsys.readouterr().err


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
