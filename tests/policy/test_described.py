"""What is computed of control and exposure goes over into policies as it is, with its unknowns."""

import pytest

from headrace.core.authority import Policy, Request, Role, Subject, Target
from headrace.core.ids import SiteId, TenantId
from headrace.core.sovereignty.exposure import Place, Through
from headrace.core.sovereignty.graph import Graph
from headrace.core.sovereignty.holdings import (
    Coverage,
    Holdings,
    Interest,
    InterestId,
    InterestKind,
    Party,
    PartyId,
    PartyKind,
    Share,
)
from headrace.policy.cedar import CedarPolicies
from headrace.policy.described import of_company, of_site
from headrace.policy.schema import CHANNELS, Value, checked

DAY = "2026-11-23"
OPERATOR, FUND, FOUNDER = PartyId("operator"), PartyId("fund"), PartyId("founder")


def _graph(*, fund_in: str = "US", above_ppm: int = 0, fund_ppm: int = 300_000) -> Graph:
    """An operator in the United Kingdom: a founder there, a fund with ``fund_ppm``, holders above ``above_ppm`` listed."""
    parties = [
        Party(OPERATOR, PartyKind.COMPANY, country="GB", headquarters="GB"),
        Party(FUND, PartyKind.COMPANY, country=fund_in, headquarters=fund_in),
        Party(FOUNDER, PartyKind.PERSON, nationalities=("GB",), residences=("GB",)),
    ]
    shares = {FUND: fund_ppm, FOUNDER: 1_000_000 - fund_ppm - above_ppm}
    held = [
        Interest(InterestId(f"{holder}-shares"), InterestKind.SHARES, holder, OPERATOR, Share.exact(ppm))
        for holder, ppm in shares.items()
    ]
    held.append(Interest(InterestId("staff"), InterestKind.STAFF, FOUNDER, OPERATOR, terms="chief executive"))
    coverage = [
        Coverage(OPERATOR, above_ppm),
        Coverage(FUND, 0),
        Coverage(OPERATOR, 0, of=InterestKind.STAFF),
        Coverage(OPERATOR, 0, of=InterestKind.SUPPLIER),
    ]
    return Graph(Holdings({one.id: one for one in parties}, tuple(held), tuple(coverage)), DAY)


def _site(graph: Graph, *, owner: PartyId | None = OPERATOR) -> dict[str, Value]:
    return checked(of_site(graph, Place("loughton", "GB", OPERATOR), owner, {"site.isolation": "container"}))


def test_bounds_and_flags_go_over_with_their_countries() -> None:
    """What is known is exact, others are out; each channel is a fact of its own, by the same names."""
    facts = _site(_graph())
    assert facts["site.control_max_ppm.US"] == facts["site.control_min_ppm.US"] == 300_000
    assert facts["site.operator.control_min_ppm.GB"] == 700_000
    assert facts["site.control_max_ppm.*"] == 0
    assert facts["site.operator.seat"] == facts["site.country"] == "GB"
    assert facts["site.staff_countries"] == "GB"
    assert facts["site.outside_eu_ppm"] == 1_000_000
    assert facts["site.outside_eu_largest_ppm"] == 700_000
    assert facts["site.exposure.GB"] == "yes"
    assert facts["site.exposure.*"] == "no"
    assert set(CHANNELS) == {str(one) for one in Through}


def test_what_is_not_known_of_the_graph_is_not_known_to_the_policy() -> None:
    """An incomplete list of holders widens every country's upper bound; a country of nobody known is unknown."""
    facts = _site(_graph(above_ppm=200_000, fund_ppm=100_000))
    assert facts["site.control_min_ppm.US"] == 100_000
    assert facts["site.control_max_ppm.US"] == 300_000
    assert facts["site.control_max_ppm.*"] == 200_000
    hidden = _site(_graph(fund_in="", fund_ppm=600_000))
    assert hidden["site.control_max_ppm.*"] == 600_000
    assert hidden["site.exposure_control.*"] == "unknown"


def test_an_owner_that_is_not_known_leaves_the_control_of_the_site_unknown() -> None:
    """And facts that nobody stated are unknown, so that nothing is allowed by them."""
    facts = _site(_graph(), owner=None)
    assert not any(name.startswith(("site.owner", "site.control", "site.outside")) for name in facts)
    assert facts["site.operator.control_max_ppm.US"] == 300_000
    assert of_company(_graph(), "site.owner", PartyId("nobody")) == {}


@pytest.mark.parametrize(
    ("graph", "country", "allowed"),
    [
        (_graph(fund_in="GB"), "GB", True),
        (_graph(fund_in="GB"), "US", False),
        (_graph(fund_ppm=100_000), "GB", True),
        (_graph(fund_ppm=260_000), "GB", False),
        (_graph(fund_ppm=600_000), "GB", False),
        (_graph(fund_in=""), "GB", False),
        (_graph(fund_in="GB", above_ppm=100_000), "GB", True),
        (_graph(fund_in="GB", above_ppm=300_000), "GB", False),
    ],
)
def test_no_us_exposure_follows_from_the_graph(graph: Graph, country: str, allowed: bool) -> None:
    """A fund there with a minority below a quarter is seen and let through; above, or hidden, it is not."""
    place = Place("loughton", country, OPERATOR)
    facts = checked(of_site(graph, place, OPERATOR))
    request = Request(
        Subject("workload", "", Role.SYSTEM, TenantId("albion-health")),
        "workload.place",
        Target("site", None, SiteId("loughton")),
        facts,
    )
    assert CedarPolicies().evaluate(Policy("no-us-exposure"), request).allowed is allowed
