"""The plan on the command line, and what if: nothing is applied, submitted or moved."""

import json
from pathlib import Path

from tests.cli.conftest import Headrace
from tests.cli.plane import LAB

JOB = "kind: workload\nname: tried\ntype: job\nproject: research\nresources: {gpu: lab:1}\ncommands: [sleep 1]\n"


def test_more_work_is_tried_and_not_submitted(headrace: Headrace, tmp_path: Path) -> None:
    """It would start, and is not there afterwards."""
    tried = tmp_path / "more.yaml"
    tried.write_text(JOB)
    before = headrace("journal", "head").out
    said = headrace("plan", "--what-if", tried)
    assert said.code == 0, said.err
    assert said.out.startswith("now: ")
    assert "(new)" in said.out
    assert headrace("journal", "head").out == before
    found = json.loads(headrace("plan", "--what-if", tried, "--json").out)
    assert [one["name"] for one in found["then"]["starts"] if one["is_new"]] == ["tried"]


def test_without_a_file_it_is_the_plan_of_now(headrace: Headrace) -> None:
    """One line, and a table of what starts and waits if anything does."""
    said = headrace("plan")
    assert said.code == 0, said.err
    assert said.out.startswith("the plan now: ")
    assert json.loads(headrace("plan", "--json").out)["then"] is None


def test_what_is_wrong_is_named_by_file_line_and_column(headrace: Headrace, tmp_path: Path) -> None:
    """In the second of two files, by the file's own lines; of the first what could never be placed."""
    first, second = tmp_path / "lab.yaml", tmp_path / "what-if.yaml"
    first.write_text(LAB.read_text())
    second.write_text("kind: what-if\nremove:\n- nobody-7\n")
    said = headrace("plan", "--what-if", first, "--what-if", second)
    assert said.code == 4
    assert f"{second}:3:3 remove[0]: no workload 'nobody-7'" in said.err
    second.write_text("kind: what-if\nremov: []\n")
    said = headrace("plan", "--what-if", second)
    assert said.code == 2
    assert f"{second}:2:1" in said.err
    assert "Did you mean remove?" in said.err
    second.write_text(JOB + "nodes: 99\n")
    said = headrace("plan", "--what-if", second)
    assert said.code == 7
    assert f"{second}:1:1" in said.err
