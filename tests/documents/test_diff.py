"""What applying a document changes is shown before it is asked for."""

import pytest

from headrace.documents import Change, changes, load
from tests.documents.bad_files import SITE, changed, site


def _lines(old: str | None, new: str) -> list[str]:
    before = load(old.encode())[0].normalised if old else None
    return [change.line() for change in changes(before, load(new.encode())[0].normalised)]


def test_applying_the_same_twice_changes_nothing() -> None:
    """No change, no question."""
    assert _lines(SITE, SITE) == []


def test_a_new_document_is_one_change() -> None:
    """It is added as a whole."""
    before: list[Change] = changes(None, {"id": "x"})
    assert [change.action for change in before] == ["added"]


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (site("firm: 40MW", "firm: 30MW"), ["~ sites[glomfjord].connection.firm_w: 40 MW -> 30 MW"]),
        (
            site("    pue: 1.1\n", "    pue: 1.1\n    dedicated_to: openai\n"),
            ["+ sites[glomfjord].dedicated_to: openai"],
        ),
        (site("racks: 2", "racks: 3"), ["~ sites[glomfjord].blocks[block-1].groups[g].racks: 2 -> 3"]),
        (
            site("    blocks:\n", "    blocks:\n      - {name: block-0}\n"),
            ["+ sites[glomfjord].blocks[block-0]: block-0 (2 fields)"],
        ),
        (
            site("        delivered: 2025-01-01\n", ""),
            ["- sites[glomfjord].blocks[block-1].delivered: 2025-01-01"],
        ),
        (changed(SITE, "name: glomfjord", "name: rjukan"), None),
    ],
)
def test_a_change_is_one_line_that_names_the_thing(new: str, lines: list[str] | None) -> None:
    """Named things are matched by their names, so that a rename is one removed and one added."""
    shown = _lines(SITE, new)
    if lines is None:
        assert [line.split(":")[0] for line in shown] == ["- sites[glomfjord]", "+ sites[rjukan]"]
    else:
        assert shown == lines
