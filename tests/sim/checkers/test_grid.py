"""Promise 1 under instructions is watched: shed in time, by the rungs, nobody firm, nothing started, and back by the ramp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from headrace.core.estate import Connection, Estate
from headrace.core.events import (
    AlarmRaised,
    Committed,
    CurtailmentLifted,
    CurtailmentOrdered,
    EngineDeclared,
    Event,
    EvictionRequested,
    InstructionReceived,
    InstructionWithdrawn,
    PauseObserved,
    PauseRequested,
    PlacementMade,
)
from headrace.core.ids import PlacementId, SiteId, WorkloadId
from headrace.core.observation import Capabilities
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.workload import EndReason, Flex, WorkloadSpec, WorkloadType
from headrace.sim.checkers.grid import GridChecker
from headrace.sim.checkers.power import PowerChecker
from tests.sim.checkers.streams import (
    ESTATE,
    NORTH,
    START_MS,
    document,
    ended,
    placed,
    rank,
    spec,
    started,
    submitted,
)

S = 1_000
FILLER, PAUSABLE, SPOT, FIRM = "acme-1", "acme-2", "acme-3", "acme-4"
NODES = ("north/a/g-0-0", "north/a/g-0-1", "north/a/g-1-0", "north/a/g-1-1")
SPECS: dict[str, WorkloadSpec] = {
    FILLER: spec(4, type=WorkloadType.FILLER, flex=Flex.PREEMPTIBLE),
    PAUSABLE: spec(4, flex=Flex.PAUSABLE, checkpoint_ms=60_000),
    SPOT: spec(4, flex=Flex.PREEMPTIBLE),
    FIRM: spec(4),
}
WHOLE_W, LIMIT_W = 4_000, 1_800
"""Four whole nodes; and what is left of them by all rungs: one whole, one paused, two idle."""
ID = InstructionId("grid-1")


@dataclass(frozen=True)
class Look:
    """A control plane looks and commits."""

    silent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    """Something that happens outside of the journal."""

    what: Callable[[GridChecker], None]


Step = tuple[int, Event | Look | Told]


def of(name: str, attempt: int = 1) -> PlacementId:
    """Return a placement of a workload."""
    return PlacementId(f"{name}.{attempt}")


def instructed(limit_w: int = LIMIT_W, begins_s: int = 100, until_s: int = 0, **changes: object) -> Event:
    """Return an instruction for the north."""
    until_ms = START_MS + until_s * S if until_s else 0
    one = Instruction(ID, SiteId("north"), limit_w, START_MS + begins_s * S, until_ms)
    return InstructionReceived(replace(one, **changes))  # type: ignore[arg-type]


def goes(name: str, grace_ms: int = 0) -> Event:
    """Return the order that somebody ends for the grid."""
    return EvictionRequested(of(name), EndReason.CURTAILED, "the grid", grace_ms)


def gone(name: str) -> Event:
    """Return the end of a placement."""
    return ended(name, (S, 0), reason=EndReason.CURTAILED)


def looks(first_s: int, last_s: int) -> list[Step]:
    """Return a look each second."""
    return [(at_s, Look()) for at_s in range(first_s, last_s + 1)]


def can(*, sheds: bool) -> Event:
    """Return what the engine of all sites can do."""
    return EngineDeclared("local", Capabilities("none", pause=True, ports=True, pause_sheds=sheds))


def estate(ramp_up_w_per_minute: int = 0) -> Event:
    """Return the estate, whose northern site may rise so fast."""
    line = Connection(1_000_000, ramp_up_w_per_minute=ramp_up_w_per_minute)
    sites = (replace(NORTH, connection=line), *ESTATE.sites[1:])
    return document("estate", Estate(ESTATE.operator, sites))


def before(
    *, sheds: bool = True, ramp_up_w_per_minute: int = 0, names: Sequence[str] = tuple(SPECS)
) -> list[Step]:
    """Return four workloads that run, each on a node of its own."""
    steps: list[Step] = [(0, estate(ramp_up_w_per_minute)), (0, can(sheds=sheds))]
    for name, node in zip(SPECS, NODES, strict=True):
        steps.append((0, submitted(name, SPECS[name])))
        if name in names:
            steps += [(1, placed(name, "north", rank(node, 0b1111))), (2, started(name))]
    return steps


SHED: list[Step] = [
    (100, instructed()),
    (100, goes(FILLER)),
    (100, CurtailmentOrdered(of(PAUSABLE), ID)),
    (100, goes(SPOT)),
    (100, Look()),
    (101, PauseObserved(of(PAUSABLE), True)),
    (102, gone(FILLER)),
    (102, gone(SPOT)),
    *looks(102, 190),
]
BACK: list[Step] = [
    (200, InstructionWithdrawn(ID)),
    (200, CurtailmentLifted(of(PAUSABLE))),
    (201, PauseObserved(of(PAUSABLE), False)),
    *looks(201, 260),
]


def without(steps: Sequence[Step], *dropped: Event) -> list[Step]:
    """Return the steps without some events."""
    return [one for one in steps if one[1] not in dropped]


def but(steps: Sequence[Step], *more: Step) -> list[Step]:
    """Return the steps with some more, in the order of time; looks come last."""
    return sorted([*steps, *more], key=lambda one: (one[0], isinstance(one[1], Look)))


def rules_of(steps: Sequence[Step], binding: bool = False) -> set[str]:
    """Return the rules that a checker finds broken, and that of power beside it none."""
    checker, power = GridChecker(), PowerChecker()
    if binding:
        checker.binding.add(ID)
    for seq, (at_s, what) in enumerate(steps):
        at_ms = START_MS + at_s * S
        if isinstance(what, Look):
            checker.looked(at_ms, what.silent)
        elif isinstance(what, Told):
            what.what(checker)
        else:
            checker.observe(Committed(seq, at_ms, what))
            power.observe(Committed(seq, at_ms, what))
    checker.at_rest(START_MS + 10**6)
    assert not power.violations
    return {one.rule for one in checker.violations}


again: PlacementMade = placed(SPOT, "north", rank(NODES[2], 0b1111), attempt=2)
LATER = instructed(begins_s=1_000)
SAVED = [
    *without(SHED, PauseObserved(of(PAUSABLE), True)),
    *[(106, goes(PAUSABLE)), (107, gone(PAUSABLE))],
]
CLEAN: dict[str, list[Step]] = {
    "shed and let go on": [*before(), *SHED, *BACK],
    "nothing asked": before(),
    "it was under the limit already": [
        *before(),
        (100, instructed(WHOLE_W)),
        *looks(100, 200),
        (210, InstructionWithdrawn(ID)),
    ],
    "a pause that shows nothing, and then it is ended": [
        *before(),
        *but(SAVED),
        (200, InstructionWithdrawn(ID)),
    ],
    "it starts long before": [
        *before(names=(FIRM,)),
        (3, instructed(begins_s=1_000)),
        (50, again),
        (60, InstructionWithdrawn(ID)),
    ],
    "the control plane was dead": [
        *before(),
        (100, instructed()),
        (150, Told(GridChecker.hindered)),
        *[(step[0] + 50, step[1]) for step in SHED[1:]],
        (300, InstructionWithdrawn(ID)),
        (300, CurtailmentLifted(of(PAUSABLE))),
    ],
    "the engine does not answer": [
        *before(),
        (100, instructed()),
        (100, goes(FILLER)),
        (100, CurtailmentOrdered(of(PAUSABLE), ID)),
        (100, goes(SPOT)),
        *[(at_s, Look(("north",))) for at_s in range(100, 200)],
        (200, InstructionWithdrawn(ID)),
        (200, CurtailmentLifted(of(PAUSABLE))),
    ],
    "by a ramp, step by step": [
        *before(ramp_up_w_per_minute=600),
        *SHED,
        *but(
            without(BACK, CurtailmentLifted(of(PAUSABLE)), PauseObserved(of(PAUSABLE), False)),
            (261, CurtailmentLifted(of(PAUSABLE))),
        ),
    ],
    "an emergency uses any rung": [
        *before(),
        (100, instructed(3_300, urgency="emergency")),
        (100, goes(SPOT)),
        (102, gone(SPOT)),
        *looks(102, 150),
        (160, InstructionWithdrawn(ID)),
    ],
}


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_right_is_not_found(name: str) -> None:
    """Sheds that are in time and in order, and restores by the ramp, are fine."""
    assert rules_of(CLEAN[name]) == set()


def test_what_can_not_be_met_needs_an_alarm_and_all_rungs() -> None:
    """A binding instruction below what is firm stands, with an alarm and all that can be shed gone."""
    alarm = AlarmRaised(1, "north", "too low")
    low = [(at_s, instructed(500) if what == SHED[0][1] else what) for at_s, what in SHED]
    assert rules_of([*before(), *but(low, (100, alarm)), *BACK], binding=True) == set()
    assert rules_of([*before(), *low, *BACK], binding=True) == {"no-alarm"}
    assert rules_of([*before(), *but(low, (100, alarm)), *BACK]) == {"accepted-low"}
    untold = without(low, goes(SPOT), gone(SPOT))
    assert rules_of([*before(), *but(untold, (100, alarm)), *BACK], binding=True) == {"unshed"}


BROKEN: dict[str, tuple[list[Step], set[str]]] = {
    "nobody is told": ([*before(), SHED[0], *looks(100, 190)], {"grid-over", "unshed"}),
    "it is told too late": (
        [
            *before(),
            SHED[0],
            *looks(100, 131),
            *[(step[0] + 40, step[1]) for step in SHED[1:]],
            (240, InstructionWithdrawn(ID)),
            (241, CurtailmentLifted(of(PAUSABLE))),
        ],
        {"grid-over"},
    ),
    "an end takes longer than is left": (
        [*before(), *but(without(SHED, gone(SPOT), goes(SPOT)), (100, goes(SPOT)), (150, gone(SPOT))), *BACK],
        {"no-way-down"},
    ),
    "a pause shows nothing, and nothing follows": (
        [
            *before(),
            *without(SHED, PauseObserved(of(PAUSABLE), True)),
            (200, InstructionWithdrawn(ID)),
            (200, CurtailmentLifted(of(PAUSABLE))),
        ],
        {"grid-over", "unshed"},
    ),
    "somebody firm goes": ([*before(), *but(SHED, (100, goes(FIRM))), *BACK], {"firm-shed", "needless"}),
    "a later rung goes first": (
        [
            *before(),
            *without(SHED, goes(FILLER), gone(FILLER)),
            (195, goes(FILLER)),
            (196, gone(FILLER)),
            *BACK,
        ],
        {"rungs", "grid-over", "unshed"},
    ),
    "it is ended where a pause would do": (
        [
            *before(),
            *but(
                without(SHED, PauseObserved(of(PAUSABLE), True), CurtailmentOrdered(of(PAUSABLE), ID)),
                (100, goes(PAUSABLE)),
                (103, gone(PAUSABLE)),
            ),
        ],
        {"not-paused"},
    ),
    "where pauses shed nothing": ([*before(sheds=False), *SHED, *BACK], {"useless", "grid-over", "unshed"}),
    "more than is asked for": (
        [
            *before(),
            (100, instructed(3_300)),
            (100, goes(FILLER)),
            (101, goes(SPOT)),
            (102, gone(FILLER)),
            (102, gone(SPOT)),
            *looks(102, 150),
        ],
        {"needless", "rungs"},
    ),
    "nothing was asked": ([*before(), (100, goes(FILLER)), (101, gone(FILLER))], {"uncurtailed"}),
    "it goes on while the limit holds": (
        [*before(), *SHED, (195, CurtailmentLifted(of(PAUSABLE)))],
        {"lifted-above"},
    ),
    "it starts while the limit holds": ([*before(), *SHED, (195, again), *BACK], {"started-above"}),
    "it starts shortly before": (
        [*before(names=(FIRM, PAUSABLE)), (150, LATER), (200, again), (210, InstructionWithdrawn(ID))],
        {"started-above"},
    ),
    "it is held for ever": (
        [
            *before(),
            *SHED,
            *without(BACK, CurtailmentLifted(of(PAUSABLE)), PauseObserved(of(PAUSABLE), False)),
        ],
        {"not-lifted", "held"},
    ),
    "faster than the ramp": ([*before(ramp_up_w_per_minute=10), *SHED, *BACK], {"lifted-above"}),
    "it starts faster than the ramp": (
        [
            *before(ramp_up_w_per_minute=1),
            *SHED,
            *BACK[:1],
            (201, again),
            (10**5, CurtailmentLifted(of(PAUSABLE))),
        ],
        {"started-above"},
    ),
    "its engine wakes it": (
        [*before(), *but(SHED, (150, Told(lambda one: one.asked("resume", of(PAUSABLE))))), *BACK],
        {"woken"},
    ),
    "its engine wakes what its tenant paused": (
        [
            *before(),
            (50, PauseRequested(WorkloadId(PAUSABLE), True)),
            *SHED,
            *BACK,
            (300, Told(lambda one: one.asked("resume", of(PAUSABLE)))),
        ],
        {"woken"},
    ),
    "its engine pauses it unasked": (
        [*before(), (50, Told(lambda one: one.asked("pause", of(PAUSABLE))))],
        {"paused-unasked"},
    ),
    "it was refused and could be": (
        [*before(), (50, Told(lambda one: one.refused(ID, "north", LIMIT_W)))],
        {"refused-wrongly"},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(name: str) -> None:
    """Each way to break it is found, and by its own rule."""
    steps, rules = BROKEN[name]
    found = rules_of(steps)
    assert found, "nothing was found"
    assert found <= rules
