"""Promise 1 by caps is watched: who is capped, how deep, what that is worth, and when it is over; and what meters see on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from headrace.core.estate import Connection, Estate
from headrace.core.events import (
    CapsLifted,
    CapsObserved,
    CapsOrdered,
    Committed,
    CurtailmentLifted,
    CurtailmentOrdered,
    Event,
    ExcessMeasured,
    InstructionWithdrawn,
    LimitersDeclared,
    PauseObserved,
)
from headrace.core.ids import NodeId, PowerNodeId, SiteId
from headrace.core.workload import Flex, WorkloadSpec, WorkloadType
from headrace.sim.checkers.caps import worst_w
from headrace.sim.checkers.grid import GridChecker
from headrace.sim.checkers.power import PowerChecker
from tests.sim.checkers.streams import (
    ESTATE,
    NORTH,
    START_MS,
    document,
    placed,
    rank,
    spec,
    started,
    submitted,
)
from tests.sim.checkers.test_grid import (
    ID,
    NODES,
    Look,
    S,
    Step,
    Told,
    but,
    can,
    estate,
    goes,
    gone,
    instructed,
    looks,
    of,
    without,
)

ONE, TWO, FILLER, PAUSABLE, LATE, FIRM = (f"acme-{number}" for number in range(1, 7))
SITE = SiteId("north")
SPECS: dict[str, WorkloadSpec] = {
    ONE: spec(4, flex=Flex.CAPPABLE),
    TWO: spec(4, flex=Flex.CAPPABLE),
    FILLER: spec(4, type=WorkloadType.FILLER, flex=Flex.PREEMPTIBLE),
    PAUSABLE: spec(4, flex=Flex.PAUSABLE, checkpoint_ms=60_000),
    LATE: spec(4, flex=Flex.CAPPABLE),
    FIRM: spec(4),
}
HERE = (ONE, TWO, FILLER, PAUSABLE)
WHOLE_W, UNMINED_W, LIMIT_W = 4_000, 3_200, 2_900
"""Four whole nodes; three, and one idle; and what two caps of 833 W leave of that."""
LEAST_W, LOWEST_W, EVEN_W = 500, 600, 833
"""What controllers take, what four accelerators at their lowest take, and half of 300 W less, for certain."""


def ordered(*caps: int | tuple[int, int]) -> Event:
    """Return the order to cap nodes: the first ones, or by their number."""
    rows = [one if isinstance(one, tuple) else (at, one) for at, one in enumerate(caps)]
    return CapsOrdered(SITE, ID, tuple((NodeId(NODES[at]), watts) for at, watts in rows))


def says(at: int, watts: int) -> Event:
    """Return what the controller of a node says."""
    return CapsObserved(SITE, ((NodeId(NODES[at]), watts),))


def lifted(*nodes: int) -> Event:
    """Return the end of caps."""
    return CapsLifted(SITE, tuple(NodeId(NODES[at]) for at in nodes))


def limitable(*nodes: int) -> Event:
    """Return which nodes can be limited."""
    return LimitersDeclared(SITE, tuple((NodeId(NODES[at]), LEAST_W) for at in nodes))


def beyond(watts: int, element: str = "north") -> Event:
    """Return what a meter sees beyond what is known."""
    return ExcessMeasured(PowerNodeId(element), watts, "m1")


def before(*able: int, names: Sequence[str] = HERE, second: str = "", sheds: bool = True) -> list[Step]:
    """Return workloads that run, each on a node of its own, and which nodes can be limited; ``second`` shares the first."""
    steps: list[Step] = [(0, estate()), (0, can(sheds=sheds)), (0, limitable(*able))]
    for name, node in zip(HERE, NODES, strict=True):
        mask = 0b0011 if second and name == ONE else 0b1111
        steps.append((0, submitted(name, SPECS[name])))
        if name in names:
            steps += [(1, placed(name, "north", rank(node, mask))), (2, started(name))]
    for name in (LATE, FIRM):
        steps.append((0, submitted(name, SPECS[name])))
    if second:
        steps += [(1, placed(second, "north", rank(NODES[0], 0b1100))), (2, started(second))]
    return steps


ABLE = before(0, 1)
ORDER, SAID = ordered(EVEN_W, EVEN_W), [(102, says(0, EVEN_W)), (103, says(1, EVEN_W))]
LIFT = lifted(0, 1)
SHED: list[Step] = [(100, instructed(LIMIT_W)), (100, goes(FILLER)), (100, ORDER), (100, Look())]
CAPPED: list[Step] = [*SHED, (101, gone(FILLER)), *SAID, *looks(103, 190)]
BACK: list[Step] = [(200, InstructionWithdrawn(ID)), (200, LIFT), *looks(200, 260)]


def rules_of(steps: Sequence[Step]) -> set[str]:
    """Return the rules that the checkers of the grid and of power find broken."""
    grid, power = GridChecker(), PowerChecker()
    for seq, (at_s, what) in enumerate(steps):
        at_ms = START_MS + at_s * S
        if isinstance(what, Look):
            grid.looked(at_ms, what.silent)
        elif not isinstance(what, Told):
            committed = Committed(seq, at_ms, what)
            grid.observe(committed)
            power.observe(committed)
    grid.at_rest(START_MS + 10**6)
    power.at_rest(START_MS + 10**6)
    return {one.rule for one in (*grid.violations, *power.violations)}


PAUSED: list[Step] = [
    (108, CurtailmentOrdered(of(PAUSABLE), ID)),
    (109, PauseObserved(of(PAUSABLE), True)),
]
ENDED = (200, InstructionWithdrawn(ID))
ALL_BACK: list[Step] = [
    ENDED,
    (200, CurtailmentLifted(of(PAUSABLE))),
    (200, LIFT),
    (201, PauseObserved(of(PAUSABLE), False)),
    *looks(201, 260),
]
DEEP_W = UNMINED_W - 2 * (1_000 - worst_w(LOWEST_W))
"""All that caps can do."""
DEEP: list[Step] = [
    (100, instructed(DEEP_W)),
    (100, goes(FILLER)),
    (100, ordered(LOWEST_W, LOWEST_W)),
    (100, Look()),
    (101, gone(FILLER)),
    (102, says(0, LOWEST_W)),
]
SILENT: list[Step] = [*SHED, (101, gone(FILLER)), SAID[0]]
"""The second node's controller never says anything."""

CLEAN: dict[str, list[Step]] = {
    "capped, and lifted": [*ABLE, *CAPPED, *BACK],
    "a controller says nothing, and another goes deeper": [
        *ABLE,
        *but([*SILENT, *looks(104, 190)], (108, ordered((0, 686))), (109, says(0, 686))),
        *BACK,
    ],
    "a controller says nothing, and somebody pauses": [
        *ABLE,
        *but([*DEEP, *looks(104, 190)], *PAUSED),
        *ALL_BACK,
    ],
    "a limit is rounded up, and somebody pauses": [
        *ABLE,
        *but([*DEEP, (103, says(1, 650)), *looks(104, 190)], *PAUSED),
        *ALL_BACK,
    ],
    "a limit is lost, and confirmed again": [
        *ABLE,
        *but(CAPPED, (150, says(1, 0)), (153, says(1, EVEN_W))),
        *BACK,
    ],
    "a limit is lost, and somebody pauses": [
        *ABLE,
        *but(
            [*DEEP, (103, says(1, LOWEST_W)), *looks(104, 190)],
            (150, says(1, 0)),
            (151, CurtailmentOrdered(of(PAUSABLE), ID)),
            (152, PauseObserved(of(PAUSABLE), True)),
        ),
        *ALL_BACK,
    ],
    "one cap after another": [
        *ABLE,
        *CAPPED,
        (200, InstructionWithdrawn(ID)),
        (200, lifted(0)),
        *looks(200, 205),
        (206, lifted(1)),
    ],
    "caps go deeper when more is asked": [
        *ABLE,
        *CAPPED,
        (191, instructed(2_600)),
        (191, ordered(686, 686)),
        (192, says(0, 686)),
        (192, says(1, 686)),
        *looks(192, 230),
        (240, InstructionWithdrawn(ID)),
        (240, LIFT),
    ],
    "of what can't be seen who could be shed is shed": [
        *ABLE,
        (50, beyond(300)),
        (100, instructed(3_500)),
        (100, goes(FILLER)),
        (101, gone(FILLER)),
        *looks(101, 190),
        (191, beyond(0)),
        (200, InstructionWithdrawn(ID)),
    ],
    "only one node can be limited": [
        *before(1),
        (100, instructed(LIMIT_W)),
        (100, goes(FILLER)),
        (100, ordered((1, 686))),
        (101, gone(FILLER)),
        (102, says(1, 686)),
        *looks(103, 190),
        (200, InstructionWithdrawn(ID)),
        (200, lifted(1)),
    ],
    "who shares a node is not capped": [
        *before(0, 1, second=FIRM),
        (100, instructed(LIMIT_W)),
        (100, goes(FILLER)),
        (100, ordered((1, 686))),
        (101, gone(FILLER)),
        (102, says(1, 686)),
        *looks(103, 190),
        (200, InstructionWithdrawn(ID)),
        (200, lifted(1)),
    ],
}


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_right_is_not_found(name: str) -> None:
    """Caps in their turn, confirmed or followed by the next rung, and lifted in time are fine."""
    assert rules_of(CLEAN[name]) == set()


def asked(limit_w: int, steps: Sequence[Step]) -> list[Step]:
    """Return the steps with another limit."""
    return replaced(instructed(LIMIT_W), instructed(limit_w), steps)


def replaced(old: Event, new: Event, steps: Sequence[Step]) -> list[Step]:
    """Return the steps with an event in place of another."""
    return [(at_s, new if what == old else what) for at_s, what in steps]


NEW = placed(LATE, "north", rank(NODES[0], 0b1111), attempt=1)
"""Somebody new, on a capped node."""
BROKEN: dict[str, tuple[list[Step], set[str]]] = {
    "nobody is capped": (
        [*ABLE, *without(CAPPED, ORDER, *(what for _, what in SAID if not isinstance(what, Look)))],
        {"grid-over", "unshed"},
    ),
    "somebody pauses instead": (
        [
            *ABLE,
            *but(
                without(CAPPED, ORDER, says(0, EVEN_W), says(1, EVEN_W)),
                (100, CurtailmentOrdered(of(PAUSABLE), ID)),
                (101, PauseObserved(of(PAUSABLE), True)),
            ),
            *without(ALL_BACK, LIFT),
        ],
        {"rungs"},
    ),
    "miners stay": (
        [
            *ABLE,
            *asked(3_700, without(CAPPED, goes(FILLER), gone(FILLER))),
            *BACK,
        ],
        {"rungs"},
    ),
    "a controller says nothing, and nothing follows": (
        [*ABLE, *SILENT, *looks(104, 190), *BACK],
        {"grid-over", "unshed"},
    ),
    "one that was lost is not followed": (
        [*ABLE, *but(CAPPED, (110, says(1, 0))), *looks(191, 250)],
        {"grid-over", "unshed", "held"},
    ),
    "more is seen, and nothing follows": (
        [*ABLE, *but(CAPPED, (110, beyond(200))), *looks(191, 250)],
        {"grid-over", "unshed", "held"},
    ),
    "somebody firm is capped": (
        [
            *before(0, 1, second=FIRM),
            *but(CAPPED),
            *BACK,
        ],
        {"firm-capped", "not-alone", "uneven", "grid-over", "unshed"},
    ),
    "a node that can't be limited": (
        [*before(0), *CAPPED, *BACK],
        {"not-limitable", "grid-over", "unshed"},
    ),
    "lower than its accelerators take": (
        [
            *ABLE,
            *asked(2_384, replaced(ORDER, ordered(580, 580), CAPPED)),
            *BACK,
        ],
        {"below-lowest", "grid-over", "unshed", "accepted-low", "no-alarm"},
    ),
    "one more than the other": (
        [*ABLE, *replaced(ORDER, ordered(931, 735), CAPPED), *BACK],
        {"uneven", "grid-over", "unshed"},
    ),
    "one of two alone": (
        [*ABLE, *without(replaced(ORDER, ordered(686), CAPPED), says(1, EVEN_W)), *BACK],
        {"uneven", "lifted", "grid-over", "unshed"},
    ),
    "deeper than it takes": (
        [*ABLE, *replaced(ORDER, ordered(700, 700), CAPPED), *BACK],
        {"needless", "grid-over", "unshed"},
    ),
    "where miners are enough": (
        [*ABLE, *asked(UNMINED_W, CAPPED), *BACK],
        {"needless"},
    ),
    "where nothing is asked": ([*ABLE, (100, ORDER), (101, LIFT)], {"uncurtailed"}),
    "a cap that nobody feels": (
        [*ABLE, *replaced(ORDER, ordered(990, 686), CAPPED), *BACK],
        {"useless", "uneven", "grid-over", "unshed"},
    ),
    "somebody new on a capped node": (
        [*before(0, 1, names=(ONE, TWO, PAUSABLE)), *without(CAPPED, goes(FILLER), gone(FILLER)), (195, NEW)],
        {"on-capped", "started-above", "held"},
    ),
    "lifted while it holds": ([*ABLE, *CAPPED, (195, LIFT)], {"lifted-above"}),
    "raised while it holds": (
        [*ABLE, *CAPPED, (195, ordered(990, 990))],
        {"lifted-above", "needless", "held"},
    ),
    "lifted twice": ([*ABLE, *CAPPED, *BACK, (270, LIFT)], {"lifted"}),
    "never lifted": ([*ABLE, *CAPPED, *without(BACK, LIFT)], {"not-lifted", "held"}),
    "before who is paused": (
        [
            *ABLE,
            *but([*DEEP, *looks(104, 190)], *PAUSED),
            *BACK,
            (270, CurtailmentLifted(of(PAUSABLE))),
        ],
        {"not-first", "not-lifted"},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(name: str) -> None:
    """Each way to break it is found, and by its own rule."""
    steps, rules = BROKEN[name]
    found = rules_of(steps)
    assert found, "nothing was found"
    assert found <= rules
    assert next(iter(_first(rules))) in found


def _first(rules: set[str]) -> list[str]:
    """Return the rule that names it: those of being over are beside it."""
    beside = {"grid-over", "unshed", "held", "accepted-low", "no-alarm", "lifted", "not-alone"}
    return sorted(rules - beside) or sorted(rules)


def test_an_instruction_may_ask_for_what_caps_save_and_not_for_more() -> None:
    """The floor of all that is cappable counts in full, and may be gone below by what their lowest caps save."""
    floor_w = 2 * 1_000 + 200 + 300
    saved_w = 2 * (1_000 - worst_w(LOWEST_W))
    for limit_w, is_wrong in ((floor_w - saved_w, True), (floor_w - saved_w - 1, False)):
        grid = GridChecker()
        for seq, (at_s, what) in enumerate(ABLE):
            grid.observe(Committed(seq, START_MS + at_s * S, what))  # type: ignore[arg-type]
        grid.refused(ID, SITE, limit_w)
        assert bool(grid.violations) is is_wrong


def small(watts: int) -> Event:
    """Return the estate whose northern site has so little power."""
    site = replace(NORTH, connection=Connection(watts))
    return document("estate", Estate(ESTATE.operator, (site, *ESTATE.sites[1:])))


def power_rules(first_w: int, *events: Event) -> set[str]:
    """Return what the checker of power finds: two whole nodes, then ``events``, then somebody wants 300 W more."""
    checker = PowerChecker()
    told: list[Event] = [
        small(first_w),
        limitable(0),
        submitted(ONE, SPECS[ONE]),
        submitted(TWO, SPECS[TWO]),
        submitted(LATE, SPECS[LATE]),
        placed(ONE, "north", rank(NODES[0], 0b1111)),
        placed(TWO, "north", rank(NODES[1], 0b1111)),
        *events,
        placed(LATE, "north", rank(NODES[2], 0)),
    ]
    for seq, event in enumerate(told):
        checker.observe(Committed(seq, START_MS + seq, event))
    return {one.rule for one in checker.violations}


FULL_W = 2_400
"""Two whole nodes and two idle ones; who comes wakes one of those, which takes 100 W."""
LOW = ordered((0, 800))
WORTH: dict[str, tuple[tuple[Event, ...], set[str]]] = {
    "nothing is capped": ((), {"power"}),
    "it is not confirmed": ((LOW,), {"power"}),
    "it is confirmed": ((LOW, says(0, 800)), set()),
    "it enforces more than was asked": ((LOW, says(0, 882)), set()),
    "and just too much, with what it may pass that by": ((LOW, says(0, 883)), {"power"}),
    "it is lost": ((LOW, says(0, 800), says(0, 0)), {"power"}),
    "it is out of reach": ((LOW, says(0, 800), limitable()), {"power"}),
    "it is lifted": ((LOW, says(0, 800), lifted(0)), {"power"}),
    "it was lifted, and is asked for again": ((LOW, says(0, 800), lifted(0), LOW), {"power"}),
    "it is raised": ((LOW, says(0, 800), ordered((0, 990))), {"power"}),
    "a meter sees more": ((LOW, says(0, 800), beyond(200)), {"power"}),
    "a meter below sees more": ((LOW, says(0, 800), beyond(200, "north/a/g-0")), {"power"}),
    "a meter sees little": ((LOW, says(0, 800), beyond(50)), set()),
    "a meter saw more": ((LOW, says(0, 800), beyond(200), beyond(0)), set()),
}


@pytest.mark.parametrize("name", WORTH)
def test_a_cap_counts_for_what_its_controller_says_and_meters_on_top(name: str) -> None:
    """Somebody new may come only where what is confirmed, at its worst, and what meters see leave room."""
    events, rules = WORTH[name]
    assert power_rules(FULL_W, *events) == rules


def test_a_cap_that_is_lifted_needs_power() -> None:
    """Who came because of a cap has its power; the cap stays until there is enough for both."""
    checker = PowerChecker()
    told: list[Event] = [
        small(FULL_W),
        limitable(0),
        *(submitted(name, SPECS[name]) for name in (ONE, TWO, LATE)),
        placed(ONE, "north", rank(NODES[0], 0b1111)),
        placed(TWO, "north", rank(NODES[1], 0b1111)),
        LOW,
        says(0, 800),
        placed(LATE, "north", rank(NODES[2], 0)),
        lifted(0),
    ]
    for seq, event in enumerate(told):
        checker.observe(Committed(seq, START_MS + seq, event))
    assert [one.rule for one in checker.violations] == ["power"] * len(checker.violations) != []


def test_nobody_new_takes_what_capped_nodes_need() -> None:
    """After an instruction, somebody new comes only where there is power to lift the caps beside it."""
    for watts, rules in ((3_199, {"overtaken"}), (3_200, set[str]())):
        grid = GridChecker()
        new = placed(LATE, "north", rank(NODES[2], 0b1111))
        steps: list[Step] = [
            (0, small(watts)),
            *before(0, 1, names=(ONE, TWO))[1:],
            (100, instructed(2_100)),
            (100, ordered(EVEN_W, EVEN_W)),
            (101, says(0, EVEN_W)),
            (101, says(1, EVEN_W)),
            (110, InstructionWithdrawn(ID)),
            (111, new),
        ]
        for seq, (at_s, what) in enumerate(steps):
            grid.observe(Committed(seq, START_MS + at_s * S, what))  # type: ignore[arg-type]
        assert {one.rule for one in grid.violations} == rules, watts
