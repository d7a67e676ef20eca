"""Worlds from seeds: none may break a promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.core.events import KINDS
from headrace.sim.intruders import CLUSTERS, STRANGERS
from headrace.sim.lawmakers import LAPSES, LAWS, has_laws
from headrace.sim.run import Kind, Result, main, run_seed
from headrace.sim.script import FAULTS

REGRESSIONS: dict[Kind, list[int]] = json.loads(
    (Path(__file__).parent.parent / "seeds" / "failures.json").read_text()
)
"""Seeds that once found a defect."""
ASKED = os.environ.get("HEADRACE_SIM_SEEDS", "")
"""How many: ``100,500`` is 100 long ones and 500 short ones."""
PAUSED_FOR_THE_GRID = (163, 231)
"""Short worlds in which instructions have workloads paused, and let them go on."""
CAPPED = (12, 13, 113, 130, 238, 503)
"""Short worlds in which nodes are capped, controllers fail, and meters see more than is known."""
OF_DATA = (
    *("CopyRequested", "CopyJudged", "CopyFinished", "CopyFailed", "CopyRemoved"),
    *("RemovalRequested", "DataRead", "StoresDeclared", "EvidenceExported"),
)
"""Events that no simulated world has yet: of data sets and their copies, and of packs that are handed out (tests/core/data and
tests/evidence have them)."""
LAWFUL = range(2, 92, 3)
"""Worlds with laws of their own."""
LONG, SHORT = (int(number) for number in ASKED.split(",")) if ASKED else (2, 40)


def told(result: Result) -> str:
    """A failure as a bug report."""
    lines = [f"seed {result.seed} ({result.kind})", *result.last]
    lines += [f"promise {one.promise} {one.rule}: {one.subject}: {one.detail}" for one in result.violations]
    return "\n".join(lines)


@pytest.mark.parametrize("first", range(0, SHORT, 20))
def test_no_short_world_breaks_a_promise(first: int) -> None:
    """Half an hour with at least one fault."""
    for seed in range(first, min(first + 20, SHORT)):
        result = run_seed(seed, "short")
        assert not result.violations, told(result)
        assert sum(result.faults.values()) >= 1


@pytest.mark.parametrize("seed", range(LONG))
def test_no_long_world_breaks_a_promise(seed: int) -> None:
    """Two days, at least twenty nodes, two hundred workloads and ten faults."""
    result = run_seed(seed, "long")
    assert not result.violations, told(result)
    assert result.events["WorkloadSubmitted"] >= 200
    assert sum(result.faults.values()) >= 10


@pytest.mark.parametrize(
    ("kind", "seed"), [(kind, seed) for kind, seeds in REGRESSIONS.items() for seed in seeds]
)
def test_a_world_that_once_failed_stays_mended(kind: Kind, seed: int) -> None:
    """Every seed that found a defect is played again."""
    result = run_seed(seed, kind)
    assert not result.violations, told(result)


def test_short_worlds_cover_the_faults_and_the_events() -> None:
    """Sixty short worlds, and two in which the grid has somebody paused, see nearly every kind of fault and of event."""
    results = [run_seed(seed, "short") for seed in (*range(60), *PAUSED_FOR_THE_GRID)]
    faults = {name for result in results for name in result.faults}
    events = {name for result in results for name in result.events}
    hits = {"failed-commit", "lost-commit", "disk-full"}
    assert len(set(FAULTS) - hits - faults) <= 4
    assert len({*STRANGERS, *CLUSTERS} - faults) <= 1
    assert {"failed-commit", "lost-commit-answer"} <= faults
    covered = {name for result in results for name in result.grid}
    assert {"pauses", "lifts", "looks that are due", "feasible"} <= covered
    assert {kind.__name__ for kind in KINDS.values()} - events <= {
        *("CreditNoteIssued", "DocumentRemoved", "NodesReserved"),
        *OF_DATA,
    }


def test_short_worlds_cover_caps_and_what_becomes_of_them() -> None:
    """Controllers confirm, and round up, and say nothing; caps are lifted; and meters see more than is known, and no more."""
    results = [run_seed(seed, "short") for seed in CAPPED]
    covered = {name for result in results for name in result.grid}
    assert {
        *("caps ordered", "caps confirmed", "caps above what was asked", "caps that failed", "caps lifted"),
        *("excess", "excess over"),
    } <= covered
    assert {"cap-silent", "cap-rounded", "excess"} <= {name for result in results for name in result.faults}


def test_every_third_world_has_law_that_changes_while_things_run() -> None:
    """Facts, holdings and policies change, certificates and holdings lapse; some have to go for it, and are gone."""
    results = [run_seed(seed, "short") for seed in LAWFUL] + [run_seed(LAWFUL[0], "long")]
    assert all(has_laws(seed) for seed in LAWFUL)
    assert not [told(result) for result in results if result.violations]
    assert {*LAWS, *LAPSES} - {name for result in results for name in result.faults} == set()
    assert all(sum(result.law[what] for result in results) >= 5 for what in ("told to go", "gone"))
    assert not run_seed(LAWFUL[0] + 1, "short").law, "in other worlds nothing of it is there"


_DIGEST = "from headrace.sim.run import run_seed; print(run_seed(11, 'short').digest)"


def test_one_seed_is_one_world_whatever_the_hash_seed() -> None:
    """The same seed makes the same journal, byte by byte, in any process."""
    found = set()
    for hash_seed in ("0", "1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", _DIGEST]
        run = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        found.add(run.stdout.strip())
    assert found == {run_seed(11, "short").digest}


def test_another_seed_is_another_world() -> None:
    """Two seeds have nothing in common."""
    assert run_seed(1, "short").digest != run_seed(2, "short").digest


def test_the_command_prints_what_was_covered(capsys: pytest.CaptureFixture[str]) -> None:
    """It lists events, faults and states, and ends well when nothing broke."""
    assert main(["--seeds", "0-2", "--short"]) == 0
    out = capsys.readouterr().out
    for word in ("events (", "faults (", "states (", "requests (", "3 short seeds, 0 failed"):
        assert word in out
