"""``estate show`` says in one page what there is, what it draws, and what is claimed without being so."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from headrace.core.estate import Estate
from headrace.documents import load
from headrace.documents.show import print_estate
from tests.documents.bad_files import site

EXAMPLES = Path(__file__).parents[2] / "examples" / "estates"


def _shown(name: str, today: str) -> str:
    estate = next(document.value for document in load(EXAMPLES / f"{name}.yaml") if document.kind == "estate")
    assert isinstance(estate, Estate)
    out = io.StringIO()
    print_estate(estate, today, Console(file=out, width=220, no_color=True))
    return out.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        "stargate-norway        NO       NO4            290 MW       1  25,000  100,000 GB300",
        "gb300: 1,389 racks x 18 nodes gb300-nvl72 (25,000 nodes), 132 kW a rack, 100,000 GB300",
        "roadmap-europe (country unknown): connection unknown",
        "country unknown: never placed on",
        "2026-12-31  loughton               phase-1",
        "24,000 accelerators at 50 MW                       contradicted",
    ],
)
def test_the_public_record_is_shown(line: str) -> None:
    """Equal racks in one line, blocks with their days, claims with their verdicts."""
    assert line in _shown("nordic-atlantic", "2026-01-01")


def test_the_power_tree_of_the_lab_is_shown_with_its_ratings() -> None:
    """From the connection to the racks, what feeds what."""
    shown = _shown("lab", "2026-01-01")
    tree = shown[shown.index("glomfjord (NO)") : shown.index("loughton (GB)")].splitlines()
    assert [line.strip("│├└─ ") for line in tree] == [
        "glomfjord (NO): connection 3.7 kW, PUE 1.1",
        "transformer transformer-1: 6 kW",
        "feed feed-a: 3 kW",
        "block block-1, commissioned 2025-02-01",
        "lab: 1 rack x 3 nodes lab, 3 kW a rack, 12 lab",
        "feed feed-b: 3 kW",
        "block block-2, commissioned 2025-02-01",
        "lab: 1 rack x 3 nodes lab, 3 kW a rack, 12 lab",
    ]


def test_the_day_decides_what_counts_as_commissioned() -> None:
    """The same estate, a day before and on the day."""
    assert "1 of 1 blocks commissioned" not in _shown("lab", "2025-03-14")
    assert "1 of 1 blocks commissioned" in _shown("lab", "2025-03-15")


def test_without_a_terminal_it_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """No colours, and no table folded to eighty columns, in a file or a pipe."""
    estate = load(EXAMPLES / "lab.yaml")[0].value
    assert isinstance(estate, Estate)
    print_estate(estate, "2026-01-01")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "2 of 2 blocks commissioned" in shown


def test_racks_on_the_same_rails_are_said() -> None:
    """Where a group says how many stand together."""
    estate = load(site("racks: 2", "racks: 2, rail_racks: 1").encode())[0].value
    assert isinstance(estate, Estate)
    out = io.StringIO()
    print_estate(estate, "2026-01-01", Console(file=out, width=220, no_color=True))
    assert "g: 2 racks x 4 nodes h100-8, 40.8 kW a rack, rails of 1 rack, 64 H100" in out.getvalue()
