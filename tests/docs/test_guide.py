"""The guide can't rot: every `console` block of it is run against a live control plane."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.cli.plane import ROOT, control_plane
from tests.docs.guide import matches, play, shims, steps

PAGES = sorted((ROOT / "docs" / "guide").glob("*.md"))
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    """On an empty control plane, in order, with the output that is printed in the page."""
    work = tmp_path / "work"
    work.mkdir()
    # Copies of one's own: whose the checkout is, and who else may write it, is another matter.
    shutil.copytree(ROOT / "examples", work / "examples", copy_function=shutil.copyfile)
    for place in (work / "examples", *(work / "examples").rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
    path = f"{shims(tmp_path / 'bin')}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    with control_plane(tmp_path / "state") as state:
        wrong = play(page, work, kept | {"PATH": path, "HEADRACE_STATE": str(state)})
    assert not wrong, "\n\n".join(wrong)


def test_every_page_has_commands_and_stands_in_the_table_of_contents() -> None:
    """A page without a command proves nothing; one that nothing links to is not found."""
    readme = (ROOT / "README.md").read_text()
    for page in PAGES:
        assert steps(page.read_text()), page.name
        assert f"docs/guide/{page.name}" in readme, page.name


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.stem
)
def test_every_link_within_the_documents_leads_somewhere(page: Path) -> None:
    """No page sends its reader nowhere."""
    broken = [
        target
        for target in LINK.findall(page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_glossary_has_every_word_of_the_design() -> None:
    """The words that are used everywhere are explained in one place."""
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    words = (
        "estate site connection feed block row rack node accelerator domain tenant project principal contract "
        "workload job service cluster filler flex engine placement refusal instruction offer order evidence "
        "head verdict policy epoch"
    )
    missing = [word for word in words.split() if f"**{word.capitalize()}**" not in glossary]
    assert missing == []


@pytest.mark.parametrize(
    ("expected", "out", "same"),
    [
        ("a ... c", "a b  c\n", True),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a ...", "b", False),
        ("a", "a b", False),
        ("NODE  X", "NODE     X   ", True),
    ],
)
def test_wildcards_match_what_they_stand_for(expected: str, out: str, same: bool) -> None:
    """The judge of the guide is judged too."""
    assert matches(expected, out) is same
