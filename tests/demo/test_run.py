"""The demo for real: the model, the gang, the miner, the bill; and that it leaves nothing running whatever happens."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.state import StateDirectory
from tests.cli.plane import LAB, processes_of

pytestmark = pytest.mark.model


@contextmanager
def demo(state: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A demo on its way, its output as it comes."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "headrace",
        "demo",
        "--state",
        str(state),
        "--paragraphs",
        "4",
        *more,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """Lines up to the one with these words, or all of them."""
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if words in line:
            break
    return lines


def test_the_whole_story_happens_and_leaves_a_journal_and_a_picture(tmp_path: Path) -> None:
    """Every chapter of the shipped estate comes true; the answer, the refusal, the wait and the bill are there."""
    state, picture = tmp_path / "state", tmp_path / "picture.svg"
    with demo(state, "--picture", str(picture), "--prompt", "Say hello.") as process:
        said = "".join(read_until(process, "\0"))
    assert process.returncode == 0, said
    for words in (
        "you: Say hello.",
        "tokens/s",
        "MH/s",
        "refused: JURISDICTION",
        "waits: POWER",
        "exit codes 0, 0",
        "score is paused for the grid, which limits glomfjord",
        "the firm endpoint answers all the while",
        "the limit is gone, and all that ran runs again",
        "verified: each interval follows from the readings and limits given",
        "the evidence of evening-glomfjord verifies offline",
        "the evidence of evening-loughton verifies offline",
        "has started by itself",
        "replica-counters",
        "modelled",
        "gCO2e",
        "is in it: nothing before it was rewritten",
    ):
        assert words in said, said
    held = json.loads((state / "evening-glomfjord.json").read_bytes())["document"]
    assert held["totals"]["held_known_ms"] > 0
    assert held["final"]
    assert "Say hello." in picture.read_text().replace("&#160;", " ")
    assert processes_of(state) == []


def test_other_watts_and_countries_change_the_refusal_the_wait_and_the_bill(tmp_path: Path) -> None:
    """With Glomfjord in Sweden and more power, the law lets another workload run, and nothing waits for power."""
    estate = tmp_path / "other.yaml"
    text = LAB.read_text().replace(
        "    country: NO\n    zone: Europe/Oslo\n    grid_zone",
        "    country: SE\n    zone: Europe/Oslo\n    grid_zone",
    )
    estate.write_text(text.replace("{firm: 3700W}", "{firm: 6kW}"))
    state = tmp_path / "state"
    with demo(state, "--estate", str(estate)) as process:
        said = "".join(read_until(process, "\0"))
    assert process.returncode == 0, said
    assert "With this estate assistant does not run" in said
    assert "it runs at glomfjord, in SE, as its policy allows" in said
    before, _, _ = said.partition("The grid asks for watts back")
    assert "waits: POWER" not in before
    assert "replica-counters" not in said
    assert processes_of(state) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_all_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C in the middle: the workloads are stopped first, the control plane after them."""
    state = tmp_path / "state"
    with demo(state) as process:
        read_until(process, "double SHA-256 a second")
        assert processes_of(state) != []
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert processes_of(state) == []


def test_a_control_plane_that_is_killed_fails_the_demo_and_nothing_is_left(tmp_path: Path) -> None:
    """The demo starts it again on the same state to stop what outlived it, and says that it failed."""
    state = tmp_path / "state"
    with demo(state) as process:
        read_until(process, "double SHA-256 a second")
        holder = int((StateDirectory(state).path / "lock").read_text())
        os.kill(holder, signal.SIGKILL)
        said, _ = process.communicate(timeout=90)
    assert process.returncode not in (0, None), said
    assert processes_of(state) == []
