"""A file that is wrong gets an error that names the thing, its line and column, and the next step."""

from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError, ProblemCode
from headrace.documents import load, load_all
from headrace.documents.source import MAX_BYTES
from tests.documents.bad_files import BAD_FILES, SITE, TENANT, WORK

GOLDEN = Path(__file__).with_name("bad_files.golden")


def _golden() -> dict[str, list[str]]:
    messages: dict[str, list[str]] = {}
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            messages[line[2:]] = []
        else:
            messages[list(messages)[-1]].append(line)
    return messages


def _problems(text: str | bytes) -> list[str]:
    with pytest.raises(HeadraceError) as raised:
        load(text if isinstance(text, bytes) else text.encode(), "x.yaml")
    return [problem.line() for problem in raised.value.problems]


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_wrong_file_gets_the_messages_that_the_golden_file_has(name: str) -> None:
    """Every message, word for word, with file, line, column and path."""
    assert _problems(BAD_FILES[name]) == _golden()[name]


def test_the_golden_file_has_nothing_but_the_cases() -> None:
    """A case that was removed leaves no message behind, and every case has one."""
    assert list(_golden()) == list(BAD_FILES)
    assert all(_golden().values())


@pytest.mark.parametrize("text", [SITE, WORK, TENANT])
def test_the_files_that_the_cases_start_from_are_right(text: str) -> None:
    """So that what a case reports is what the case changed."""
    assert len(load(text.encode(), "x.yaml")) == 1


def test_no_message_shows_a_secret() -> None:
    """A secret in a wrong place is not repeated on a screen or in a log."""
    for name in ("a secret that is a list", "a secret in env too"):
        assert "hunter2" not in "".join(_problems(BAD_FILES[name]))


def test_a_file_that_is_too_large_is_refused_before_it_is_read() -> None:
    """A megabyte of YAML is more than anybody writes."""
    with pytest.raises(HeadraceError) as raised:
        load(b"#" * (MAX_BYTES + 1), "x.yaml")
    assert raised.value.problem.code is ProblemCode.TOO_LARGE


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The path stands where the place stands."""
    missing = tmp_path / "estate.yaml"
    with pytest.raises(HeadraceError) as raised:
        load(missing)
    assert raised.value.problem.where == str(missing)
    assert "no such file" in raised.value.problem.message


def test_several_files_report_all_their_problems_at_once(tmp_path: Path) -> None:
    """Nobody mends one file to learn of the next."""
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("kind: tenant\nname: T\nprojects: [a]\n")
    with pytest.raises(HeadraceError) as raised:
        load_all([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert [Path(problem.where.split(":")[0]).name for problem in raised.value.problems] == [
        "a.yaml",
        "b.yaml",
    ]


def test_more_problems_than_anybody_reads_are_counted() -> None:
    """The first hundred are listed, the rest is a number."""
    lines = "".join(f"wrong-{number}: 1\n" for number in range(300))
    problems = _problems(TENANT + lines)
    assert len(problems) == 101
    assert problems[-1].startswith("and 200 more problems")
