"""Reservations and maintenance are watched: at every placement, and after each round of the control plane."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.contracts import Maintenance, Reservation
from headrace.core.events import (
    AlarmRaised,
    DocumentApplied,
    DocumentRemoved,
    Event,
    EvictionRequested,
    NodesReserved,
    StopRequested,
    WorkloadRequeued,
)
from headrace.core.ids import PlacementId, SiteId, WindowId, WorkloadId
from headrace.core.scheduling.refuse import Refusal
from headrace.core.units import MS_PER_MINUTE
from headrace.core.workload import EndReason, Flex, WorkloadSpec
from headrace.sim.checkers import Checkers
from headrace.sim.checkers.windows import PATIENCE_MS
from tests.sim.checkers.streams import (
    ACME,
    BETA,
    START_MS,
    Edit,
    document,
    ended,
    insert,
    placed,
    rank,
    rules,
    spec,
    submitted,
    told,
)

ONE, TWO = "north/a/g-0-1", "north/a/g-1-0"
HOUR_MS = 60 * MS_PER_MINUTE
NOW = Reservation(WindowId("now"), ACME, SiteId("north"), "lab", 1, START_MS, START_MS + HOUR_MS)
OTHER = replace(NOW, id=WindowId("other"), tenant=BETA)
LATER = replace(NOW, starts_ms=START_MS + HOUR_MS, ends_ms=START_MS + 2 * HOUR_MS)
SOON = replace(LATER, starts_ms=START_MS + 20 * MS_PER_MINUTE)
OVER = replace(NOW, ends_ms=START_MS + 1)
WORKS = Maintenance(WindowId("works"), SiteId("north"), START_MS, START_MS + HOUR_MS, ("north/a/g-1",))
NAMING = spec(reservation=WindowId("now"))


def declared(window: Reservation | Maintenance) -> DocumentApplied:
    """Return the event that applies a window."""
    return document("maintenance" if isinstance(window, Maintenance) else "reservation", window)


def reserved(window: Reservation, *nodes: str) -> tuple[Event, ...]:
    """Return the events of a reservation that was admitted."""
    return declared(window), NodesReserved(window.id, nodes or (TWO,))


def runs(of: WorkloadSpec, *nodes: str, workload: str = "acme-9") -> tuple[Event, ...]:
    """Return the events of one more workload that is placed."""
    return submitted(workload, of), placed(workload, "north", *(rank(node) for node in nodes or (TWO,)))


def then(*parts: tuple[Event, ...] | Event) -> Edit:
    """Return the edit that adds all of these before the end."""
    events = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
    return insert("stop-7", *events)


GOES = EvictionRequested(PlacementId("acme-9.1"), EndReason.PREEMPTED, "its nodes are reserved")
PLACED: dict[str, tuple[str, Edit]] = {
    "on nodes that are reserved": ("window", then(reserved(NOW), runs(spec()))),
    "on nodes of another reservation": (
        "window",
        then(reserved(replace(NOW, nodes=2), ONE, TWO), reserved(OTHER, ONE), runs(NAMING, ONE)),
    ),
    "in a maintenance": ("window", then(declared(WORKS), runs(spec()))),
    "outside of the reservation that it names": ("outside", then(reserved(NOW), runs(NAMING, ONE))),
    "before the reservation that it names": ("outside", then(reserved(LATER), runs(NAMING))),
    "after the reservation that it names": ("outside", then(reserved(OVER), runs(NAMING))),
    "by another tenant": ("outside", then(reserved(OTHER), runs(spec(reservation=WindowId("other"))))),
    "a reservation of too few nodes": ("reserved", then(reserved(replace(NOW, nodes=2)))),
    "a reservation elsewhere": ("reserved", then(reserved(NOW, "south/b/g-0-0"))),
    "a reservation of other accelerators": ("reserved", then(reserved(replace(NOW, model="H100")))),
    "a reservation that nobody made": ("reserved", then(NodesReserved(WindowId("none"), (TWO,)))),
}
LASTS: dict[str, tuple[str, Edit]] = {
    "two reservations with one node": ("shared", then(reserved(NOW), reserved(OTHER))),
    "a reservation in a maintenance": ("shared", then(reserved(NOW), declared(WORKS))),
    "a reservation without nodes": ("reserved", then(declared(NOW))),
    "what ran there when a reservation began": ("not-cleared", then(runs(spec()), reserved(NOW))),
    "what was not told to go, though an alarm says that it is there": (
        "not-cleared",
        then(runs(spec()), reserved(NOW), AlarmRaised(5, "now", "it has begun, and 1 workloads are there")),
    ),
    "what was not told to go so early that it has its grace": (
        "not-cleared",
        then(runs(spec(flex=Flex.PREEMPTIBLE, grace_ms=15 * MS_PER_MINUTE)), reserved(SOON)),
    ),
    "what ran there when a maintenance began": ("not-cleared", then(runs(spec()), declared(WORKS))),
    "what ran in a reservation that is over": ("not-left", then(reserved(NOW), runs(NAMING), declared(OVER))),
    "work that its reservation has room for": (
        "kept-waiting",
        then(reserved(NOW), submitted("acme-9", NAMING)),
    ),
}
KEPT: dict[str, Edit] = {
    "work in its reservation": then(reserved(NOW), runs(NAMING)),
    "work beside a reservation": then(reserved(NOW), runs(spec(), ONE)),
    "work before a reservation": then(runs(spec()), reserved(LATER)),
    "work beside a maintenance": then(declared(WORKS), runs(spec(), ONE)),
    "work that was told to go": then(runs(spec()), reserved(NOW), GOES),
    "work that was stopped": then(runs(spec()), declared(WORKS), StopRequested(WorkloadId("acme-9"))),
    "work that has ended": then(runs(spec()), reserved(NOW), GOES, ended("acme-9", (1, 0))),
    "two reservations one after the other": then(
        reserved(NOW), reserved(replace(LATER, id=WindowId("next")))
    ),
    "a reservation that was removed": then(
        reserved(NOW), DocumentRemoved("reservation", "now"), reserved(OTHER)
    ),
    "a breach that was recorded": then(
        reserved(NOW), declared(WORKS), AlarmRaised(5, "now", "1 of its nodes is not ready")
    ),
    "work that is too large for its reservation": then(
        reserved(NOW), submitted("acme-9", replace(NAMING, nodes=2))
    ),
    "work that is backing off": then(
        reserved(NOW),
        submitted("acme-9", NAMING),
        WorkloadRequeued(WorkloadId("acme-9"), "it failed", START_MS + HOUR_MS),
    ),
}


def after_rounds(edit: Edit) -> Checkers:
    """Return the checkers after the story and some rounds of the control plane."""
    checkers = told(edit)
    first_ms = checkers.occupancy.now_ms
    for number in range(5):
        checkers.windows.round_over(first_ms + number * PATIENCE_MS // 4)
    return checkers


def test_what_the_story_does_is_no_breach() -> None:
    """Without windows nothing is found."""
    assert after_rounds(then()).windows.violations == []


@pytest.mark.parametrize("name", PLACED)
def test_a_placement_against_a_window_is_found(name: str) -> None:
    """At once, when it is made."""
    rule, edit = PLACED[name]
    assert rules(told(edit).windows.violations) == {rule}


@pytest.mark.parametrize("name", LASTS)
def test_what_lasts_against_a_window_is_found(name: str) -> None:
    """Not in the first round: the control plane has time to deal with it."""
    rule, edit = LASTS[name]
    checkers = told(edit)
    checkers.windows.round_over(checkers.occupancy.now_ms)
    assert checkers.windows.violations == []
    assert rules(after_rounds(edit).windows.violations) == {rule}


@pytest.mark.parametrize("name", KEPT)
def test_what_keeps_to_windows_is_not_found(name: str) -> None:
    """However long it lasts."""
    assert after_rounds(KEPT[name]).windows.violations == []


def test_what_lasts_is_found_once() -> None:
    """It is told of once, however many rounds follow."""
    checkers = after_rounds(LASTS["a reservation without nodes"][1])
    checkers.windows.round_over(START_MS + HOUR_MS - 1)
    assert len(checkers.windows.violations) == 1


def test_who_waits_for_a_reservation_may_say_so() -> None:
    """TIME is true of who names one that goes on at another time; WINDOW of whom one keeps out."""
    checkers = told(then(reserved(LATER), submitted("acme-9", NAMING), submitted("acme-8", spec())))
    waits, now_ms = checkers.occupancy.queued, checkers.occupancy.now_ms
    assert checkers.explanation.is_true(Refusal.TIME, waits["acme-9"], now_ms)
    assert not checkers.explanation.is_true(Refusal.TIME, waits["acme-8"], now_ms)
    assert checkers.explanation.is_true(Refusal.WINDOW, waits["acme-8"], now_ms)
    assert checkers.occupancy.placeable("acme-9", now_ms) is None
    assert checkers.occupancy.placeable("acme-9", LATER.starts_ms) is not None
    elsewhere = told(then(submitted("acme-8", spec())))
    assert not elsewhere.explanation.is_true(Refusal.WINDOW, elsewhere.occupancy.queued["acme-8"], now_ms)
