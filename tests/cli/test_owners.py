"""Who controls what, from files alone: the public record, published formats, and what is wrong with a question."""

import json
from pathlib import Path

import pytest

from headrace.cli.app import run
from tests.cli.plane import ROOT

RECORD = str(ROOT / "examples" / "sovereignty" / "public-record.yaml")
SCHEME = str(ROOT / "examples" / "sovereignty" / "eu-framework.yaml")
ASSESSMENT = str(ROOT / "examples" / "sovereignty" / "public-record-assessment.yaml")
Said = pytest.CaptureFixture[str]


def test_before_and_after_a_round_of_financing_others_may_control_it(capsys: Said) -> None:
    """The convertible of October 2025 is there from its day on, and nobody is called clean for want of data."""
    parties = []
    for day in ("2025-08-31", "2025-11-01"):
        assert run(["sovereignty", "control", RECORD, "--of", "nscale", "--on", day, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        parties.append({one["party"] for one in found["controllers"]})
    assert parties[1] - parties[0] >= {"dell", "nokia", "blue-owl", "series-b"}


def test_what_reaches_a_company_is_said_with_what_is_not_known(capsys: Said) -> None:
    """Of no other country it is said that it doesn't."""
    assert run(["sovereignty", "exposure", RECORD, "--of", "nscale"]) == 0
    said = capsys.readouterr().out
    assert "GB       seat     yes" in said
    assert "not known of headquarters" in said
    assert "every other country: unknown" in said


def test_pages_are_written_and_say_that_they_are_no_advice(tmp_path: Path, capsys: Said) -> None:
    """Of control, and of a score."""
    for command in (["control", RECORD, "--of", "nscale"], ["score", SCHEME, ASSESSMENT]):
        page = tmp_path / f"{command[0]}.html"
        assert run(["sovereignty", *command, "--html", str(page)]) == 0
        assert "no legal advice" in page.read_text()
    assert "wrote" in capsys.readouterr().out


def test_a_score_counts_nothing_that_has_no_evidence(capsys: Said) -> None:
    """And names what is missing."""
    assert run(["sovereignty", "score", SCHEME, ASSESSMENT]) == 0
    said = capsys.readouterr().out
    assert "change-of-control" in said
    assert "0 %, SEAL-0" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["control", RECORD, "--of", "nscal"], "Did you mean nscale"),
        (["control", RECORD, "--of", "nscale", "--on", "yesterday"], "no day"),
        (["control", "nowhere.yaml", "--of", "nscale"], "nowhere.yaml"),
        (["exposure", RECORD], "--site"),
        (["exposure", RECORD, "--site", "glomfjrd"], "Did you mean glomfjord"),
        (["score", ASSESSMENT, SCHEME], "kind"),
        (["control", RECORD, "--of", "nscale", "--html", "/nowhere/page.html"], "can't write"),
    ],
)
def test_what_is_wrong_with_a_question_is_named(arguments: list[str], says: str, capsys: Said) -> None:
    """With what there is, and what to do."""
    assert run(["sovereignty", *arguments]) != 0
    assert says in capsys.readouterr().err
