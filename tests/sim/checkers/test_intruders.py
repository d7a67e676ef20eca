"""Strangers on nodes and what engines can do are watched: at every event, and after each look at engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.contracts import Reservation
from headrace.core.events import (
    AlarmRaised,
    EngineDeclared,
    Event,
    EvictionRequested,
    NodeIntruded,
    NodesReserved,
    NodeStateChanged,
    WorkloadRefused,
)
from headrace.core.ids import PlacementId, SiteId, WindowId, WorkloadId
from headrace.core.observation import Capabilities
from headrace.core.scheduling.refuse import Refusal
from headrace.core.workload import EndReason, Resources, WorkloadSpec
from headrace.sim.checkers import Checkers
from headrace.sim.checkers.intruders import LOOKS, IntruderChecker, Look
from headrace.sim.checkers.wishes import what_lacks
from tests.sim.checkers.streams import (
    ACME,
    ESTATE,
    NORTH,
    START_MS,
    Edit,
    commit,
    document,
    drop,
    ended,
    insert,
    placed,
    rank,
    rest,
    rules,
    same,
    spec,
    story,
    submitted,
    told,
)

NODE, BESIDE, SOUTHERN = "north/a/g-1-0", "north/a/g-0-0", "south/b/g-0-1"
WHO = "job 7 of root"
CAN = Capabilities("uid", pause=True, ports=True)
PART = spec(resources=Resources("lab", 1, 1_000, 1_000, share_milli=500))


def came(node: str = NODE, who: str = WHO) -> NodeIntruded:
    """Return that somebody came to a node (``who`` empty: left it)."""
    return NodeIntruded(node, who)


def after_one(*events: Event) -> Edit:
    """Return the edit that adds events once the gang of the story runs, without what comes of it later."""

    def edit(steps: dict[str, Event]) -> dict[str, Event]:
        return insert("start-1", *events)(
            drop("end-1", "place-6", "start-6", "evict-6", "end-6", "requeue-6")(steps)
        )

    return edit


def gone(reason: EndReason, detail: str = "for another") -> EvictionRequested:
    """Return that the gang is told to go."""
    return EvictionRequested(PlacementId("acme-1.1"), reason, detail)


def later(node: str = NODE) -> tuple[Event, ...]:
    """Return the placement of another workload on a node."""
    site = node.split("/", maxsplit=1)[0]
    return submitted("acme-9"), placed("acme-9", site, rank(node))


def test_what_is_placed_beside_strangers_is_found() -> None:
    """Promise 1: from the look that finds them on, their node gets no work, until they are gone."""
    assert rules(told(after_one(came(), *later())).intruders.violations) == {"intruded"}
    assert told(after_one(came(), came(who=""), *later())).intruders.violations == []
    assert told(after_one(came(), *later("north/a/g-1-1"))).intruders.violations == []


def test_strangers_come_once_and_leave_once() -> None:
    """An event says what changed."""
    assert rules(told(after_one(came(), came())).intruders.violations) == {"intruder-event"}
    assert rules(told(after_one(came(who=""))).intruders.violations) == {"intruder-event"}
    assert told(after_one(came(), came(who="job 8 of root"))).intruders.violations == []


def test_strangers_count_at_nameplate_for_whatever_comes_next() -> None:
    """Promise 1: South has power for one of its two nodes, and they draw it whole."""
    limit = insert("verdict-4", came(SOUTHERN))
    assert ("power", "south/b") in {(one.rule, one.subject) for one in told(limit).power.violations}
    gone_by_then = insert("verdict-4", came(SOUTHERN), came(SOUTHERN, ""))
    assert told(gone_by_then).violations == []


def test_strangers_on_a_node_without_a_day_draw_too() -> None:
    """Promise 1: whoever runs something there has shown that it is there."""
    site = replace(ESTATE.sites[1])
    undated = replace(site.blocks[0], id="c", commissioned="", rating_w=0)
    estate = document("estate", replace(ESTATE, sites=(NORTH, replace(site, blocks=(*site.blocks, undated)))))
    checkers = told(after_one(estate, came("south/c/g-0-0")))
    assert checkers.power.above_idle_w["south/c"] == 1_000


OVER = insert("start-4", came(SOUTHERN))
ALARM = AlarmRaised(1, "south/b", "more than it carries")


def looked(checkers: Checkers, times: int = 1, **changes: object) -> Checkers:
    """Return the checkers after looks at engines that say what is on record, but for the changes."""
    here, able = dict(checkers.intruders.here), dict(checkers.intruders.engines)
    look = replace(Look(here, able, dict.fromkeys(checkers.intruders.down, "down")), **changes)  # type: ignore[arg-type]
    for _ in range(times):
        checkers.power.looked()
        checkers.intruders.looked(look)
    return checkers


def test_a_limit_that_strangers_pass_is_alarmed() -> None:
    """What runs there runs on; somebody is told, for each element."""
    assert rules(looked(told(OVER)).power.violations) == {"no-alarm"}
    alarms = [replace(ALARM, subject=name) for name in ("south/b", "south")]
    assert looked(told(insert("start-4", came(SOUTHERN), *alarms))).violations == []
    # At rest they may stand over it, as long as they are there.
    both = told(insert("start-4", came(SOUTHERN), *alarms))
    assert "power" not in {one.rule for one in both.at_rest(rest())}


def test_of_strangers_who_are_followed_by_others_nobody_need_be_told_again() -> None:
    """While an element stands over its limit, its alarm stands."""
    again = insert("start-4", came(SOUTHERN), ALARM, came(SOUTHERN, "job 8 of root"))
    assert looked(told(again)).violations == []
    anew = insert("start-4", came(SOUTHERN), ALARM, came(SOUTHERN, ""), came(SOUTHERN))
    assert rules(looked(told(anew)).violations) == {"no-alarm"}


@pytest.mark.parametrize("there", [{NODE: WHO}, {}])
def test_strangers_are_on_record_after_few_looks(there: dict[str, str]) -> None:
    """They are seen when they come, and when they go; a look at what does not answer is none."""
    edit = same if there else insert("requeue-6", came())
    assert looked(told(edit), LOOKS - 1, there=there).intruders.violations == []
    assert rules(looked(told(edit), LOOKS, there=there).intruders.violations) == {"unseen"}
    assert looked(told(edit), 9, there=there, unseen=lambda _: True).intruders.violations == []


@pytest.mark.parametrize("down", [{NODE: "it is gone"}, {}])
def test_nodes_are_on_record_as_their_cluster_has_them(down: dict[str, str]) -> None:
    """One that it has no more, or that has less, gets no work; one that is back gets it."""
    edit = same if down else insert("requeue-6", NodeStateChanged(NODE, "down", "it is gone"))
    assert looked(told(edit), LOOKS - 1, down=down).intruders.violations == []
    assert rules(looked(told(edit), LOOKS, down=down).intruders.violations) == {"unseen"}


def test_a_drained_node_that_is_down_too_is_no_difference() -> None:
    """It gets no work either way."""
    drained = insert("requeue-6", NodeStateChanged(NODE, "draining", "work"))
    assert looked(told(drained), 9, down={NODE: "it is gone"}).intruders.violations == []


HARM: dict[str, tuple[Event, ...]] = {
    "lost, and its engine lost nothing": (came(BESIDE), gone(EndReason.NODE_LOST)),
    "drained, and nobody drained": (came(BESIDE), gone(EndReason.DRAINED)),
    "for them": (came(BESIDE), gone(EndReason.PREEMPTED, f"{WHO} is there")),
    "for a place that nobody else can have": (
        came(BESIDE),
        came("north/a/g-0-1"),
        gone(EndReason.PREEMPTED),
    ),
    "ended at once": (came(BESIDE), ended("acme-1", (1, 0), (1, 0), reason=EndReason.NODE_LOST, code=-1)),
    "its node is taken from it": (came(BESIDE), NodeStateChanged(BESIDE, "down", "crowded")),
}


@pytest.mark.parametrize("name", HARM)
def test_what_ends_for_strangers_is_found(name: str) -> None:
    """Nothing that ran beside them is lost or ended because of them."""
    assert "harmed" in rules(told(after_one(*HARM[name])).intruders.violations)


FAIR: dict[str, tuple[Event, ...]] = {
    "nobody is there": (gone(EndReason.NODE_LOST),),
    "one of its nodes can be had": (came(BESIDE), gone(EndReason.PREEMPTED)),
    "a node of it is drained": (
        NodeStateChanged("north/a/g-0-1", "draining", "work", "by somebody"),
        came(BESIDE),
        gone(EndReason.DRAINED),
    ),
    "it failed": (came(BESIDE), gone(EndReason.RANK_FAILED)),
    "somebody drains it": (came(BESIDE), NodeStateChanged(BESIDE, "draining", "work", "by somebody")),
    "it is kept for somebody": (
        document(
            "reservation",
            Reservation(WindowId("kept"), ACME, SiteId("north"), "lab", 1, START_MS, START_MS + 3_600_000),
        ),
        NodesReserved(WindowId("kept"), (BESIDE,)),
        came(BESIDE),
        came("north/a/g-0-1"),
        gone(EndReason.PREEMPTED),
    ),
}


@pytest.mark.parametrize("name", FAIR)
def test_what_ends_for_another_cause_is_no_harm(name: str) -> None:
    """A checker that cries wolf is switched off."""
    assert "harmed" not in rules(told(after_one(*FAIR[name])).intruders.violations)


def test_what_was_really_lost_is_no_harm() -> None:
    """The world is asked; so is a plan that was wrong or late."""
    for edit, excuse in (
        (after_one(*HARM["lost, and its engine lost nothing"]), "lost"),
        (after_one(*HARM["its node is taken from it"]), "fell"),
        (after_one(*HARM["for a place that nobody else can have"]), "plan"),
    ):
        checker = IntruderChecker()
        if excuse == "lost":
            checker.was_lost = lambda _: True
        elif excuse == "fell":
            checker.has_fallen = lambda _: True
        else:
            checker.excuse(["acme-1.1"])
        for committed in commit(edit(story())):
            checker.observe(committed)
        assert checker.violations == []


LACKS: dict[str, tuple[Capabilities, WorkloadSpec]] = {
    "parts": (replace(CAN, parts=False), PART),
    "another's": (replace(CAN, tenant="beta"), spec()),
    "ports": (replace(CAN, ports=False), spec(ports={"http": 0})),
    "lease": (CAN, replace(spec(), lease="slurm")),
}


@pytest.mark.parametrize("name", LACKS)
def test_a_placement_on_an_engine_that_lacks_what_it_needs_is_found(name: str) -> None:
    """What an engine can't do it declares, and then it does not get it."""
    can, of = LACKS[name]
    engine = NORTH.engine
    place = (submitted("acme-9", of), placed("acme-9", "north", rank(NODE)))
    found = told(after_one(EngineDeclared(engine, can), *place)).intruders.violations
    assert ("engine-lacks", "acme-9.1") in {(one.rule, one.subject) for one in found}
    assert what_lacks(can, "acme", of)
    able = Capabilities("uid", pause=True, ports=True, tenant="acme", lease="slurm")
    found = told(after_one(EngineDeclared(engine, able), *place)).intruders.violations
    assert "acme-9.1" not in {one.subject for one in found}
    assert not what_lacks(None, "acme", of)


def test_what_an_engine_can_do_is_on_record_once_it_is_open() -> None:
    """A control plane that knows an engine of old knows it wrong."""
    checkers = looked(
        told(insert("estate", EngineDeclared("local", CAN))), able={"local": replace(CAN, parts=False)}
    )
    assert rules(checkers.intruders.violations) == {"engine-unknown"}


def test_a_refusal_for_the_engine_is_true() -> None:
    """Promise 7: refused for what no engine can do, when one could, is refused wrongly."""
    event = WorkloadRefused(WorkloadId("acme-9"), Refusal.ENGINE.name, "no engine can")
    known = submitted("acme-9")
    assert "refused-wrongly" in rules(told(after_one(known, event)).explanation.violations)
    lacking = EngineDeclared(NORTH.engine, replace(CAN, tenant="beta"))
    assert told(after_one(lacking, known, event)).explanation.violations == []


def test_what_waits_though_strangers_left_is_found() -> None:
    """Promise 7: after they left, the node is used again; before, nobody could have it."""
    waits = drop("end-1", "place-6", "start-6", "evict-6", "end-6", "requeue-6", "drain")
    full = spec(4, site=SiteId("south"))
    for events, is_found in ((came(SOUTHERN),), False), ((came(SOUTHERN), came(SOUTHERN, "")), True):
        steps = drop("submit-4", "place-4", "start-4", "meter-4", "submit-5", "submit-6")(waits(story()))
        checkers = Checkers()
        crowd = [came("south/b/g-0-0")] if not is_found else []
        for committed in commit(insert("verdict-4", submitted("acme-8", full), *events, *crowd)(steps)):
            checkers.observe(committed)
        model = checkers.occupancy
        assert (model.placeable("acme-8", committed.at_ms) is not None) == is_found
