"""Claims are reproduced or contradicted by arithmetic that is shown."""

from dataclasses import replace
from pathlib import Path

import pytest

from headrace.core.claims import Finding, figures, findings, milestones, site_findings
from headrace.core.estate import Block, Claim, Connection, Estate, NodeGroup, Operator, PowerElement, Site
from headrace.core.ids import OperatorId, SiteId
from headrace.documents import load

RECORD = Path(__file__).parents[2] / "examples" / "estates" / "nordic-atlantic.yaml"
OPERATOR = Operator(OperatorId("op"), "", "NO", "Europe/Oslo", "NOK")


def _site(
    connection_w: int = 0,
    accelerators: int = 0,
    claimed_w: int = 0,
    blocks: tuple[Block, ...] = (),
    pue: int = 1_000,
) -> Site:
    return Site(
        SiteId("s"), "NO", "Europe/Oslo", Connection(connection_w), pue, 8, 450_000, "NOK",
        blocks=blocks, claimed_accelerators=accelerators, claimed_w=claimed_w,
    )  # fmt: skip


def _block(name: str, nodes: int, day: str = "", hardware: str = "h100-8", rating_w: int = 0) -> Block:
    return Block(name, (NodeGroup("g", hardware, 1, nodes),), rating_w=rating_w, commissioned=day)


def _of(site: Site) -> dict[str, Finding]:
    return {finding.claim: finding for finding in site_findings(Estate(OPERATOR, (site,)), site)}


@pytest.mark.parametrize(
    ("site", "claim", "verdict", "arithmetic"),
    [
        (
            "stargate-norway",
            "100,000 accelerators at 290 MW",
            "holds",
            "2,900 W for each at the meter; needed: GB300 2,109 W",
        ),
        ("stargate-norway", "all 25,000 nodes can run at nameplate at once", "holds", "79.18 MW left"),
        (
            "loughton",
            "24,000 accelerators at 50 MW",
            "contradicted",
            "2,083 W for each at the meter; needed: GB300 2,200 W",
        ),
        ("loughton", "24,000 accelerators at 90 MW", "holds", "3,750 W for each at the meter"),
        ("loughton", "90 MW of power", "contradicted", "the connection allows 50 MW: 40 MW less"),
        (
            "loughton",
            "all 6,000 nodes can run at nameplate at once",
            "contradicted",
            "hold up to a PUE of 1.136",
        ),
        ("stargate-uk", "power for 50,000 accelerators", "unknown", "110 MW at the meter at PUE 1.2"),
        ("", "roadmap: 300,000 accelerators", "unknown", "300,000 in all blocks"),
        ("", "uk-share: 60,000 accelerators in GB by 2026-12-31", "unknown", "74,000 commissioned by then"),
    ],
)
def test_the_public_record_meets_physics(site: str, claim: str, verdict: str, arithmetic: str) -> None:
    """Each claim of the record that can be computed, with the numbers that decide it."""
    estate = load(RECORD)[-1].value
    assert isinstance(estate, Estate)
    (finding,) = [item for item in findings(estate) if (item.site, item.claim) == (site, claim)]
    assert finding.verdict == verdict
    assert arithmetic in finding.arithmetic


def test_a_claim_without_hardware_is_judged_by_both_generations() -> None:
    """Enough for the one and not for the other is not known; the figures of both are shown."""
    between = _of(_site(175_000_000, 100_000))["100,000 accelerators at 175 MW"]
    assert between.verdict == "unknown"
    assert "GB200 1,667 W" in between.arithmetic
    assert "GB300 1,834 W" in between.arithmetic
    assert _of(_site(160_000_000, 100_000))["100,000 accelerators at 160 MW"].verdict == "contradicted"
    assert _of(_site(290_000_000, 100_000))["100,000 accelerators at 290 MW"].verdict == "holds"


@pytest.mark.parametrize(
    ("nodes", "verdict"), [(0, "unknown"), (9, "contradicted"), (10, "holds"), (11, "holds")]
)
def test_claimed_accelerators_are_counted_in_the_blocks(nodes: int, verdict: str) -> None:
    """As many or more hold; fewer contradict; blocks without nodes say nothing."""
    block = _block("b", nodes) if nodes else Block("b", ())
    assert _of(_site(10**6, accelerators=80, blocks=(block,)))["80 accelerators"].verdict == verdict


@pytest.mark.parametrize(
    ("connection_w", "verdict"), [(0, "unknown"), (11_219, "contradicted"), (11_220, "holds")]
)
def test_the_connection_carries_all_nodes_or_it_does_not(connection_w: int, verdict: str) -> None:
    """One H100 node is 10,200 W, times 1.1 at the meter, to the watt."""
    found = _of(_site(connection_w, blocks=(_block("b", 1),), pue=1_100))
    assert found["all 1 node can run at nameplate at once"].verdict == verdict


def test_an_element_that_can_not_carry_what_hangs_below_is_named() -> None:
    """A block's rating, a feed above it, a rack; those that can are not listed."""
    site = replace(
        _site(10**6, blocks=(replace(_block("b", 2, rating_w=20_000), fed_by="ups"),)),
        power=(PowerElement("feed", "feed", 20_400), PowerElement("ups", "ups", 20_399, "feed")),
    )
    overloaded = [claim for claim, finding in _of(site).items() if finding.verdict == "contradicted"]
    assert overloaded == [
        "block b carries all below it at nameplate",
        "ups ups carries all below it at nameplate",
    ]


def test_figures_and_milestones_add_up_by_day() -> None:
    """Cumulative, by day of commissioning; a block without one counts only in the whole."""
    blocks = (_block("b1", 1, "2026-01-01"), _block("b2", 2, "2025-01-01", "b200-8"), _block("b3", 4))
    site = _site(100_000, blocks=blocks)
    estate = Estate(OPERATOR, (site,))
    assert figures(estate, site).accelerators == {"B200": 16, "H100": 40}
    assert [
        (item.day, item.blocks, item.accelerators, item.meter_w) for item in milestones(estate, site)
    ] == [
        ("2025-01-01", ("b2",), 16, 28_600),
        ("2026-01-01", ("b1",), 24, 38_800),
    ]
    assert figures(estate, site, by="2024-12-31").nodes == 0


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (Claim("c", accelerators=16), "holds"),
        (Claim("c", accelerators=17), "contradicted"),
        (Claim("c", accelerators=8, by="2025-06-01"), "holds"),
        (Claim("c", accelerators=9, by="2025-06-01"), "contradicted"),
        (Claim("c", accelerators=1, country="GB"), "contradicted"),
        (Claim("c", power_w=50_000), "holds"),
        (Claim("c", power_w=50_001), "contradicted"),
    ],
)
def test_a_claim_about_the_whole_estate_is_summed_over_its_sites(claim: Claim, verdict: str) -> None:
    """By country and by day, where it says so."""
    site = _site(50_000, blocks=(_block("b1", 1, "2025-01-01"), _block("b2", 1, "2026-01-01")))
    assert findings(Estate(OPERATOR, (site,), claims=(claim,)))[-1].verdict == verdict
