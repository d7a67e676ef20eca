"""What a file says about power becomes what the core keeps: feeders, breakers, windows, curves; and it is shown again."""

from dataclasses import replace
from pathlib import Path

import pytest

from headrace.core.codec import from_normalised
from headrace.core.errors import HeadraceError
from headrace.core.estate import Estate, FlexibleWindow, PuePoint, Site
from headrace.core.power.pue import it_watts, meter_watts
from headrace.documents import load
from headrace.documents.diff import changes
from headrace.documents.show import failover_findings, power_tree
from tests.documents.bad_files import curve, site, two_sides

EXAMPLE = Path(__file__).parents[2] / "examples" / "estates" / "redundant.yaml"


def estate_of(text: str | Path) -> Estate:
    (found,) = load(text if isinstance(text, Path) else text.encode())
    assert isinstance(found.value, Estate)
    return found.value


def one(text: str) -> Site:
    return estate_of(text).sites[0]


def test_several_feeders_are_kept_in_order_and_one_is_one() -> None:
    """Two files that say the same have one normalised form."""
    both = one(two_sides("[feed-a, feed-b]", "[feed-b, feed-a]"))
    assert (both.blocks[0].fed_by, both.blocks[0].feeders) == ("", ("feed-a", "feed-b"))
    assert both == one(two_sides("[feed-a, feed-b]", "[feed-a, feed-b]"))
    assert one(site("        fed_by: feed-a", "        fed_by: [feed-a]")) == one(site("fed_by", "fed_by"))


def test_a_breaker_is_derated() -> None:
    """5 MW x 0.8 may be drawn all the time; without a derating all of it, and no breaker is known."""
    (feed,) = one(site("rating: 20MW}", "rating: 5MW, derate: 0.8}")).power
    assert (feed.rating_w, feed.breaker_w) == (4_000_000, 5_000_000)
    (feed,) = one(site("rating: 20MW}", "rating: 5MW}")).power
    assert (feed.rating_w, feed.breaker_w) == (5_000_000, 0)
    rack = one(site("nodes_per_rack: 4}", "nodes_per_rack: 4, rack_rating: 40kW, rack_derate: 0.9}"))
    assert rack.blocks[0].groups[0].rack_rating_w == 36_000
    # What is next to nothing does not become "not stated".
    tiny = one(
        site("        fed_by: feed-a", "        fed_by: feed-a\n        rating: 1W\n        derate: 0.5")
    )
    assert tiny.blocks[0].rating_w == 1


def test_a_connection_has_windows_and_ramps() -> None:
    """Days by number, minutes of the local day; all days and all day where nothing is said."""
    said = "flexible: 10MW, ramp_up: 2MW, ramp_down: 5MW, windows: [{days: [sun, sat]}, {from: '22:00', until: '06:00'}]"
    line = one(site("flexible: 10MW", said)).connection
    assert line.windows == (FlexibleWindow(tuple(range(7)), 22 * 60, 6 * 60), FlexibleWindow((5, 6)))
    assert (line.ramp_up_w_per_minute, line.ramp_down_w_per_minute) == (2_000_000, 5_000_000)


def test_a_curve_is_meant_for_what_its_connection_carries_unless_it_says_so() -> None:
    """50 MW at the meter at 1.15: 43,478,260 W of IT load are load 1."""
    found = one(curve("pue: 1.15", "pue: 1.15")).pue_curve
    assert found is not None
    assert found.full_load_w == 50_000_000 * 1_000 // 1_150
    assert found.points[0] == PuePoint(500, 10, 1_200)
    stated = one(curve("design_outdoor_c: 30", "design_outdoor_c: 30, full_load: 20MW")).pue_curve
    assert stated is not None
    assert stated.full_load_w == 20_000_000
    where = one(curve("pue: 1.15", "pue: 1.15"))
    assert where.pue_permille == 1_150
    assert meter_watts(where, it_watts(where, 50_000_000)) <= 50_000_000


def test_the_example_comes_back_from_its_normalised_form() -> None:
    """With all of it, and only what is not as usual is written."""
    (document,) = load(EXAMPLE)
    assert from_normalised("estate", document.normalised) == document.value
    hall = document.normalised["sites"][2]
    assert "pue_curve" not in hall
    assert hall["blocks"][0]["redundancy"] == "N+1"


def test_what_does_not_outlive_a_loss_is_shown_with_its_arithmetic() -> None:
    """Nameplate against what is admitted, for each set of feeders; a plain tree says nothing."""
    estate = estate_of(EXAMPLE)
    found = [(one.claim, one.verdict, one.arithmetic) for one in failover_findings(estate, estate.sites[0])]
    assert found == [
        (
            "all on feed-a+feed-b at nameplate outlives any single loss",
            "contradicted",
            "6 kW at nameplate; 4 kW are admitted",
        )
    ]
    more = tuple(replace(one, rating_w=6_000) for one in estate.sites[0].power)
    enough = replace(estate.sites[0], power=more)
    assert [one.verdict for one in failover_findings(estate, enough)] == ["holds"]
    assert list(failover_findings(estate, one(site("fed_by", "fed_by")))) == []


@pytest.mark.parametrize("number", range(3))
def test_every_site_of_the_example_is_shown(number: int) -> None:
    """What has several feeders names them all."""
    estate = estate_of(EXAMPLE)
    shown = power_tree(estate, estate.sites[number], "2026-01-01")
    lines = [str(shown.label)]
    waiting = list(shown.children)
    while waiting:
        here = waiting.pop()
        lines.append(str(here.label))
        waiting.extend(here.children)
    assert any("fed by" in line for line in lines)


def test_changes_of_ramps_have_their_unit() -> None:
    """Watts a minute."""
    (old,), (new,) = (load(site("firm", f"ramp_up: {watts}, firm").encode()) for watts in ("2MW", "3MW"))
    assert [change.line() for change in changes(old.normalised, new.normalised)] == [
        "~ sites[glomfjord].connection.ramp_up_w_per_minute: 2 MW a minute -> 3 MW a minute"
    ]


def _ladder(steps: int) -> str:
    """Two ways at each of so many steps."""
    rungs = "".join(
        f"      - {{name: {side}{number}, kind: feed, rating: 20MW, fed_by: [a{number - 1}, b{number - 1}]}}\n"
        for number in range(1, steps)
        for side in "ab"
    )
    first = "      - {name: a0, kind: feed, rating: 20MW}\n      - {name: b0, kind: feed, rating: 20MW}\n"
    text = site("    blocks:", f"{first}{rungs}    blocks:")
    return text.replace("fed_by: feed-a\n", f"fed_by: [a{steps - 1}, b{steps - 1}]\n")


def test_a_tall_ladder_of_pairs_is_read_and_one_without_end_refused() -> None:
    """More paths than anyone could walk one by one; and no file keeps the control plane busy for minutes."""
    text = _ladder(40)
    assert one(text).blocks[0].feeders == ("a39", "b39")
    with pytest.raises(HeadraceError, match=r"2N is claimed, but a39 and b39 share"):
        load(text.replace("        delivered", "        redundancy: 2N\n        delivered").encode())
    with pytest.raises(HeadraceError, match="more than 100 power elements stand over block-1"):
        load(_ladder(400).encode())
