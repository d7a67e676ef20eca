"""Documents on the command line: shown, asked, applied; wrong ones named by line and column."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Headrace
from tests.cli.plane import LAB, ROOT, TENANTS


def test_applying_twice_changes_nothing(headrace: Headrace) -> None:
    """What already is so makes no event."""
    before = headrace("journal", "head").out
    said = headrace("apply", "-f", LAB, "-f", TENANTS, "-y")
    assert said.code == 0
    assert all(line.endswith(": unchanged") for line in said.out.splitlines())
    assert headrace("journal", "head").out == before


def test_a_dry_run_shows_each_value_with_its_unit_and_changes_nothing(
    headrace: Headrace, tmp_path: Path
) -> None:
    """People see watts before they agree to them."""
    changed = tmp_path / "lab.yaml"
    changed.write_text(LAB.read_text().replace("{firm: 3700W}", "{firm: 2kW}"))
    said = headrace("apply", "-f", changed, "--dry-run")
    assert said.code == 0
    assert "~ sites[glomfjord].connection.firm_w: 3.7 kW -> 2 kW" in said.out
    assert "2 kW" in headrace("apply", "-f", changed, "--dry-run").out


def test_without_a_terminal_nobody_is_asked_and_nothing_is_applied(
    headrace: Headrace, tmp_path: Path
) -> None:
    """A script that forgot `-y` is told so."""
    changed = tmp_path / "lab.yaml"
    changed.write_text(LAB.read_text().replace("{firm: 3700W}", "{firm: 2kW}"))
    before = headrace("journal", "head").out
    said = headrace("apply", "-f", changed)
    assert said.code == 2
    assert "-y" in said.err
    assert headrace("journal", "head").out == before


def test_what_is_in_use_is_not_removed_and_its_users_are_listed(headrace: Headrace) -> None:
    """Removing a price plan names the contracts that need it."""
    said = headrace("remove", "price-plan", "lab-nok", "-y")
    assert said.code != 0
    assert "fjord-on-demand" in said.err


def test_a_document_is_applied_and_removed(headrace: Headrace, tmp_path: Path) -> None:
    """What nothing uses goes as it came."""
    file = tmp_path / "tenant.yaml"
    file.write_text("kind: tenant\nname: passing\nprojects: [one]\n")
    assert "+ tenant passing: created" in headrace("apply", "-f", file, "-y").out
    assert "passing" in headrace("documents").out
    assert headrace("remove", "tenant", "passing", "-y").out == "removed tenant passing.\n"
    assert "passing" not in headrace("documents").out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: tenant\nname: x\nprojekts: [a]\n", (":3:1 ", "Did you mean projects?")),
        ("kind: estat\n", ("Did you mean estate?",)),
        ("kind: [\n", ("not YAML",)),
        ("", ("no document in it",)),
    ],
)
def test_a_wrong_file_is_named_with_line_and_column(
    headrace: Headrace, tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    """The error says where, and what was probably meant; nothing is sent."""
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    said = headrace("apply", "-f", file, "-y")
    assert said.code == 2
    assert "wrong.yaml" in said.err
    assert all(word in said.err for word in words), said.err


def test_workloads_in_a_file_are_submitted_once(headrace: Headrace, tmp_path: Path) -> None:
    """Applying a file with a workload again does not run it twice."""
    file = tmp_path / "work.yaml"
    file.write_text(
        "kind: workload\nname: applied\ntype: job\nproject: research\ncommands: [sleep 60]\npolicy: {countries: [NO]}\n"
    )
    first = headrace("apply", "-f", file, "-y")
    assert "submitted applied as fjord-ai-" in first.out
    again = headrace("apply", "-f", file, "-y")
    assert "= workload applied: unchanged" in again.out
    headrace("stop", "applied")


def test_an_estate_is_shown_from_a_file_and_as_applied(headrace: Headrace) -> None:
    """The same tables for a plan on paper and for what is."""
    record = headrace("estate", "show", ROOT / "examples" / "estates" / "nordic-atlantic.yaml")
    assert record.code == 0
    assert "contradicted" in record.out
    live = headrace("estate", "show")
    assert "transformer glomfjord/transformer-1" in live.out or "transformer transformer-1" in live.out
    assert json.loads(headrace("estate", "show", "--json").out)["operator"]["id"] == "headrace-lab"


def test_a_window_that_names_what_is_not_there_is_told_by_line(headrace: Headrace, tmp_path: Path) -> None:
    """The place is that of the name in the file, not of the document."""
    text = (ROOT / "examples" / "windows.yaml").read_text()
    file = tmp_path / "windows.yaml"
    for old, new, path in (
        ("site: glomfjord", "site: glomfjrd", "site"),
        ("gpu: lab ", "gpu: H100 ", "gpu"),
        ("block-1/lab-0-1]", "block-1/lab-0-7]", "parts"),
        ("tenant: fjord-ai", "tenant: fjord", "tenant"),
    ):
        file.write_text(text.replace(old, new))
        number = next(number for number, line in enumerate(file.read_text().splitlines(), 1) if new in line)
        said = headrace("apply", "-f", file, "-y")
        assert said.code == 4
        assert f"windows.yaml:{number}:" in said.err
        assert f" {path}: no " in said.err


def test_a_moved_window_is_shown_in_times(headrace: Headrace, tmp_path: Path) -> None:
    """Not in milliseconds."""
    text = (ROOT / "examples" / "windows.yaml").read_text()
    file = tmp_path / "windows.yaml"
    file.write_text(text)
    assert headrace("apply", "-f", file, "-y").code == 0
    file.write_text(text.replace("2030-01-09T08", "2030-01-10T08"))
    said = headrace("apply", "-f", file, "--dry-run").out
    assert "~ ends_ms: 2030-01-09T07:00:00+00:00 -> 2030-01-10T07:00:00+00:00" in said
    for kind, name in (("reservation", "winter-training"), ("maintenance", "loughton-fans")):
        assert headrace("remove", kind, name, "-y").out == f"removed {kind} {name}.\n"
