"""Promise 1 is watched: every element of the tree, after every event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.estate import Connection, Estate, Site
from headrace.core.events import Committed
from headrace.sim.checkers.power import PowerChecker
from tests.sim.checkers.streams import (
    END_MS,
    ESTATE,
    FEED,
    NORTH,
    SOUTH,
    Edit,
    chain,
    commit,
    document,
    drop,
    insert,
    placed,
    put,
    rank,
    rest,
    rules,
    same,
    spec,
    started,
    story,
    submitted,
    told,
)


def estate(*sites: Site) -> Edit:
    """Return the edit that declares other sites in place of those of the same name."""
    by_id = {one.id: one for one in ESTATE.sites} | {one.id: one for one in sites}
    return put("estate", document("estate", Estate(ESTATE.operator, tuple(by_id.values()))))


def second(node: str, mask: int) -> Edit:
    """Return the edit that places one more workload in the south, where another runs at full draw."""
    of = spec(mask.bit_count())
    return insert(
        "start-4", submitted("acme-9", of), placed("acme-9", "south", rank(node, mask)), started("acme-9")
    )


# The gang: two nodes of 650 W in one rack, 400 W of idle nodes in the other: 1,700 W.
def rated(watts: int) -> Site:
    """Return the northern site with racks of that rating."""
    (one,) = NORTH.blocks
    return replace(NORTH, blocks=(replace(one, groups=(replace(one.groups[0], rack_rating_w=watts),)),))


BROKEN: dict[str, tuple[Edit, str]] = {
    "a rack": (estate(rated(1_299)), "north/a/g-0"),
    "a block": (estate(replace(NORTH, blocks=(replace(NORTH.blocks[0], rating_w=1_699),))), "north/a"),
    "a feed": (estate(replace(NORTH, power=(replace(FEED, rating_w=1_699),))), "north/feed"),
    "a connection": (estate(replace(NORTH, connection=Connection(1_699))), "north"),
    "a connection that cools": (
        estate(replace(NORTH, connection=Connection(2_039), pue_permille=1_200)),
        "north",
    ),
    "flexible watts count, and no more": (estate(replace(NORTH, connection=Connection(699, 1_000))), "north"),
    "a second workload": (second("south/b/g-0-1", 0b0001), "south/b"),
    "one that only uses processors": (
        chain(
            estate(replace(SOUTH, blocks=(replace(SOUTH.blocks[0], rating_w=1_200),))),
            second("south/b/g-0-1", 0),
        ),
        "south/b",
    ),
    "one placed before the other ended": (
        chain(
            drop("end-1"),
            estate(rated(1_300)),
            insert("place-1", placed("acme-8", "north", rank("north/a/g-0-0", 0b0100))),
        ),
        "north/a/g-0",
    ),
}
EXACT = {
    "a rack": estate(rated(1_300)),
    "a block": estate(replace(NORTH, blocks=(replace(NORTH.blocks[0], rating_w=1_700),))),
    "a feed": estate(replace(NORTH, power=(replace(FEED, rating_w=1_700),))),
    "a connection": estate(replace(NORTH, connection=Connection(1_700))),
    "a connection that cools": estate(replace(NORTH, connection=Connection(2_040), pue_permille=1_200)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_watt_over_any_element_is_found_there(name: str) -> None:
    """Promise 1: and nowhere else."""
    edit, element = BROKEN[name]
    found = told(edit).power.violations
    assert {one.subject for one in found} == {element}
    assert rules(found) == {"power"}


@pytest.mark.parametrize("name", EXACT)
def test_a_limit_that_is_just_reached_holds(name: str) -> None:
    """No watt is taken from the operator for nothing."""
    checkers = told(EXACT[name])
    checkers.power.at_rest(END_MS)
    assert checkers.power.violations == []


def test_the_checker_stands_alone_and_finds_the_story_clean() -> None:
    """It needs no other checker to be told the events, and no other module to know the estate."""
    checker = PowerChecker()
    for committed in commit(story()):
        checker.observe(committed)
    checker.at_rest(END_MS)
    assert checker.violations == []
    assert {element: watts for element, watts in checker.above_idle_w.items() if watts} == {
        "south/b/g-0": 800,
        "south/b": 800,
        "south": 800,
        "own/d/g-0": 800,
        "own/d": 800,
        "own": 800,
    }


def test_a_limit_lowered_below_what_runs_is_found_at_rest() -> None:
    """Lowering it is the operator's right; standing over it once all is settled is not."""
    lower = document(
        "estate",
        Estate(ESTATE.operator, (NORTH, replace(SOUTH, connection=Connection(1_000)), *ESTATE.sites[2:])),
    )
    checkers = told(insert("drain", lower))
    assert checkers.power.violations == []
    assert ("power", "south") in {(one.rule, one.subject) for one in checkers.at_rest(rest())}


def test_idle_draw_is_reserved_before_the_day_of_commissioning() -> None:
    """A block of tomorrow stands in the sum today; one without a day never does."""
    later = replace(SOUTH.blocks[0], id="c", commissioned="2026-01-11")
    for block, subjects in ((later, ["south"]), (replace(later, commissioned=""), [])):
        edit = estate(replace(SOUTH, blocks=(*SOUTH.blocks, block), connection=Connection(1_440)))
        checkers = told(edit)
        checkers.power.at_rest(END_MS)
        assert sorted({one.subject for one in checkers.power.violations}) == subjects


def test_an_end_gives_its_watts_back() -> None:
    """What is gone draws nothing: the next one fits, however often."""
    steps = same(story())
    checker = PowerChecker()
    stream = commit(steps)
    for committed in stream:
        checker.observe(committed)
    again = [one for one in stream if type(one.event).__name__ in {"PlacementMade", "PlacementEnded"}]
    made, ended = again[0], next(one for one in again if type(one.event).__name__ == "PlacementEnded")
    for turn in range(50):
        checker.observe(Committed(1_000 + 2 * turn, END_MS, made.event))
        checker.observe(Committed(1_001 + 2 * turn, END_MS, ended.event))
    assert checker.violations == []
    assert checker.above_idle_w["north"] == 0
