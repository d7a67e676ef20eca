"""Caps: what a controller confirms counts, what it doesn't counts in full, and another goes for it in time."""

from dataclasses import replace
from typing import Any

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.codec import normalise
from headrace.core.contracts import Reservation
from headrace.core.ids import NodeId, PowerNodeId, WindowId
from headrace.core.power.caps import (
    CAP_MS,
    OFF_MS,
    OFF_W,
    Cap,
    Cappable,
    cappable,
    shared_out,
    with_overshoot,
)
from headrace.core.power.instruction import InstructionId
from headrace.core.power.ladder import CAP_LEAD_MS, ladder_of
from headrace.core.power.limits import RESPONSE_MS
from headrace.core.scheduling.check import check
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import Flex
from tests.core.power.test_ladder import (
    CAPPABLE,
    EVENING,
    FIRM,
    MINER,
    SAVED,
    SPOT,
    WHOLE_W,
    draws_w,
    follow,
    instruct,
    lab,
    running,
    told,
    whole,
)
from tests.core.small import ACME, FJORD, Core, derived, ended, job, rebuilt

LEAST_W = 100
"""Of a controller; a ``lab`` node's accelerators keep it at 600 W and more."""
LOWEST_W = 600
SAVES_W = WHOLE_W - with_overshoot(LOWEST_W)


def limited(**connection: Any) -> Core:
    """A core whose four nodes at Fjord can be limited."""
    one = lab(**connection)
    nodes = [node for node in one.world.fleet.node_ids if node.startswith(f"{FJORD}/")]
    one.do(c.DeclareLimiters(dict.fromkeys(nodes, LEAST_W)))
    return one


def orders(events: list[ev.Event]) -> dict[NodeId, int]:
    """What was ordered of which node."""
    return dict(cap for event in events if isinstance(event, ev.CapsOrdered) for cap in event.caps)


def confirm(one: Core, caps: dict[NodeId, int]) -> list[ev.Event]:
    """Controllers say so."""
    return one.made(c.ReportDevices(caps=caps))


def test_cappable_work_is_capped_before_anybody_pauses_and_each_by_the_same_part() -> None:
    """No deeper than it takes; and what is saved counts when it is confirmed, no sooner."""
    one = limited()
    running(one, FIRM, SAVED, CAPPABLE, whole("other", flex=Flex.CAPPABLE))
    instruct(one, 4 * WHOLE_W - 500)
    caps = orders(follow(one))
    assert len(caps) == 2
    assert len(set(caps.values())) == 1
    assert sum(WHOLE_W - with_overshoot(watts) for watts in caps.values()) >= 500
    assert min(caps.values()) > LOWEST_W
    assert draws_w(one) == 4 * WHOLE_W, "nothing is confirmed"
    assert follow(one, 1_000) == [], "what is under way is waited for"
    confirm(one, caps)
    assert draws_w(one) <= 4 * WHOLE_W - 500
    assert follow(one, 1_000) == []
    assert derived(one.world) == derived(rebuilt(one.world))


def test_what_miners_can_give_is_taken_from_nobody_else() -> None:
    """A miner ends before anybody is slowed."""
    one = limited()
    running(one, MINER, CAPPABLE)
    instruct(one, draws_w(one) - 300)
    assert told(one, follow(one)) == [("miner", "end")]


def test_a_controller_that_stays_silent_is_followed_by_the_next_rung_in_time() -> None:
    """One of two does not answer: its watts are got elsewhere, and it counts in full."""
    one = limited()
    running(one, SAVED, CAPPABLE, whole("other", flex=Flex.CAPPABLE))
    before_w = draws_w(one)
    instruct(one, before_w - 600)
    caps = orders(follow(one))
    heard = dict([max(caps.items())])
    confirm(one, heard)
    assert follow(one, CAP_MS - 1) == []
    deeper, pause = follow(one, 1)
    assert list(orders([deeper])) == list(heard)
    assert told(one, [pause]) == [("saved", "pause")]
    assert one.state.caps[min(caps)].enforced_w == 0
    assert CAP_MS < RESPONSE_MS // 2


def test_the_one_that_is_heard_is_asked_for_more_before_anybody_pauses() -> None:
    """As far as its hardware goes."""
    one = limited()
    running(one, SAVED, CAPPABLE, whole("other", flex=Flex.CAPPABLE))
    instruct(one, draws_w(one) - 300)
    caps = orders(follow(one))
    heard = dict([max(caps.items())])
    confirm(one, heard)
    deeper = follow(one, CAP_MS)
    assert list(orders(deeper)) == list(heard)
    confirm(one, orders(deeper))
    assert draws_w(one) <= one.state.instructions[EVENING].instruction.limit_w


def test_a_limit_that_is_not_the_one_asked_for_counts_at_what_it_is() -> None:
    """More than was asked sheds less; less than was asked sheds no more than is known."""
    one = limited()
    running(one, CAPPABLE)
    instruct(one, draws_w(one) - 200)
    (node, wanted_w), *_ = orders(follow(one)).items()
    before_w = draws_w(one)
    confirm(one, {node: wanted_w + 100})
    assert draws_w(one) == before_w - (WHOLE_W - with_overshoot(wanted_w + 100))
    assert not one.state.caps[node].is_done
    confirm(one, {node: wanted_w - 100})
    assert one.state.caps[node].is_done
    confirm(one, {node: 0})
    assert draws_w(one) == before_w, "it says that it enforces nothing"


def test_a_controller_that_rounds_up_has_done_it_and_the_next_rung_gives_the_rest() -> None:
    """What it says counts, 2 % above; it is not asked for the same again, and once, when its time is over, somebody else goes."""
    one = limited()
    running(one, SAVED, CAPPABLE)
    before_w = draws_w(one)
    instruct(one, before_w - 200)
    ((node, wanted_w),) = orders(follow(one)).items()
    said_w = wanted_w + wanted_w // 100
    confirm(one, {node: said_w})
    assert one.state.caps[node].is_done
    assert draws_w(one) == before_w - (WHOLE_W - with_overshoot(said_w))
    assert follow(one, CAP_MS - 1) == [], "it may still come down"
    assert told(one, follow(one, 1)) == [("saved", "pause")]
    assert [follow(one, 1_000) for _ in range(4)] == [[]] * 4
    assert one.state.caps[node].wanted_w == wanted_w


def test_another_that_can_be_limited_gives_what_was_rounded_away() -> None:
    """Before anybody pauses; and each is asked for less a few times, and not for ever."""
    one = limited()
    running(one, SAVED, CAPPABLE, whole("other", flex=Flex.CAPPABLE))
    limit_w = draws_w(one) - 300
    instruct(one, limit_w)
    caps, asked = orders(follow(one)), 0
    coarse = min(caps)
    for _ in range(200):
        confirm(
            one, {node: -(-watts // 25) * 25 if node == coarse else watts for node, watts in caps.items()}
        )
        events = follow(one, 1_000)
        caps, asked = orders(events), asked + len(orders(events))
        assert told(one, [event for event in events if not isinstance(event, ev.CapsOrdered)]) == []
    assert draws_w(one) <= limit_w
    assert asked <= 4


def test_one_that_rounds_up_is_asked_again_where_much_more_is_needed() -> None:
    """A deeper instruction: its step is not the end of what it can give."""
    one = limited()
    running(one, SAVED, CAPPABLE)
    instruct(one, draws_w(one) - 100)
    ((node, wanted_w),) = orders(follow(one)).items()
    confirm(one, {node: wanted_w + 5})
    one.now_ms += CAP_MS
    instruct(one, draws_w(one) - 200, id=InstructionId("deeper"))
    (deeper,) = [event for event in follow(one) if isinstance(event, ev.CapsOrdered)]
    assert orders([deeper])[node] < wanted_w - 5


def test_a_node_that_is_to_be_off_is_off_or_it_is_not() -> None:
    """A watt more than what is left of one that is off is one that is on."""
    assert not Cap(OFF_W, 0, EVENING, OFF_W + 1).is_done
    assert Cap(OFF_W, 0, EVENING, OFF_W).is_done


def test_a_capped_node_takes_no_new_work_and_counts_in_full_before_its_cap_is_lifted() -> None:
    """Lifted is not dropped: until its controller says so it stays as it is, for whoever looks."""
    one = limited()
    running(one, CAPPABLE)
    full_w = draws_w(one)
    instruct(one, full_w - 200, lasts_ms=MS_PER_HOUR)
    caps = orders(follow(one))
    confirm(one, caps)
    (node,) = caps
    index = one.world.fleet.node_index[node]
    assert not one.world.snapshot(one.now_ms).node_open[index]
    (event,) = follow(one, MS_PER_HOUR)
    assert event == ev.CapsLifted(FJORD, (node,))
    assert draws_w(one) == full_w
    assert not one.world.snapshot(one.now_ms).node_open[index]
    assert one.state.caps[node].wanted_w == 0
    confirm(one, {node: 0})
    assert one.state.caps == {}
    assert one.world.snapshot(one.now_ms).node_open[index]
    assert derived(one.world) == derived(rebuilt(one.world))


def test_nobody_takes_what_those_need_whose_caps_are_to_be_lifted() -> None:
    """After an instruction new work waits until what runs is as fast as before."""
    one = limited(firm_w=2 * WHOLE_W + 400)
    running(one, CAPPABLE, whole("other", flex=Flex.CAPPABLE))
    instruct(one, draws_w(one) - 400, lasts_ms=MS_PER_HOUR)
    confirm(one, orders(follow(one)))
    one.submit(whole("late", resources=FIRM.resources))
    one.now_ms += MS_PER_HOUR
    assert one.place() == []
    assert isinstance(follow(one)[0], ev.CapsLifted)


def test_who_ends_on_a_capped_node_takes_its_cap_along() -> None:
    """An idle node draws less than its cap: nothing is credited, and the cap is lifted when there is time."""
    one = limited()
    placements = running(one, CAPPABLE, FIRM)
    instruct(one, draws_w(one) - 200)
    confirm(one, orders(follow(one)))
    one.do(c.Stop(one.state.placements[placements["cappable"]].workload))
    one.report(placements["cappable"], ended(0))
    assert one.world.counted.credit_w == {}
    assert isinstance(follow(one, 1_000)[0], ev.CapsLifted)
    assert derived(one.world) == derived(rebuilt(one.world))


def test_only_nodes_that_their_workload_has_for_itself_are_capped() -> None:
    """What is firm is not slowed because of who is beside it."""
    one = limited()
    half = whole("half", flex=Flex.CAPPABLE).resources
    small = type(half)("lab", 2, 250, 16)
    running(one, whole("half", flex=Flex.CAPPABLE, resources=small), whole("beside", resources=small))
    assert ladder_of(one.world, FJORD).caps == ()


def test_a_coming_instruction_caps_in_time_for_another_rung() -> None:
    """Not sooner: who is slowed loses by it."""
    one = limited()
    running(one, CAPPABLE)
    instruct(one, draws_w(one) - 200, starts_ms=MS_PER_HOUR)
    assert follow(one, MS_PER_HOUR - CAP_LEAD_MS - 1) == []
    assert orders(follow(one, 1))


def test_an_instruction_below_what_is_firm_is_met_by_caps_where_they_reach() -> None:
    """What is cappable counts as beyond shedding for admission, and gives all that it can when it is asked."""
    one = limited()
    running(one, CAPPABLE)
    instruct(one, draws_w(one) - SAVES_W)
    caps = orders(follow(one))
    assert list(caps.values()) == [LOWEST_W]


def test_nodes_that_can_not_be_limited_any_more_count_in_full() -> None:
    """A devices file without them: nobody looks at what their controllers do."""
    one = limited()
    running(one, CAPPABLE)
    instruct(one, draws_w(one) - 200)
    before_w = draws_w(one)
    confirm(one, orders(follow(one)))
    one.do(c.DeclareLimiters({}))
    assert draws_w(one) == before_w
    assert one.state.limiters == {}


def switchable(*, reserved: bool = False) -> Core:
    """A core whose nodes at Fjord can be shut down, and not be limited otherwise."""
    one = lab()
    nodes = [node for node in one.world.fleet.node_ids if node.startswith(f"{FJORD}/")]
    one.do(c.DeclareLimiters({}, nodes))
    if reserved:
        starts_ms = one.now_ms + MS_PER_HOUR // 2
        window = Reservation(WindowId("soon"), ACME, FJORD, "lab", 4, starts_ms, starts_ms + MS_PER_HOUR)
        document = normalise("reservation", "soon", window)
        one.do(c.ApplyDocuments((c.NormalisedDocument("reservation", "soon", document),)))
    return one


def test_idle_nodes_are_shut_down_last_and_count_when_they_say_that_they_are_off() -> None:
    """As few as it takes, those that nobody uses; and they come back when there is power for them."""
    one = switchable()
    running(one, SPOT, FIRM)
    before_w = draws_w(one)
    instruct(one, before_w - (WHOLE_W - 200) - 100, lasts_ms=MS_PER_HOUR)
    end, off = sorted(follow(one), key=lambda event: type(event).__name__, reverse=True)
    assert told(one, [end]) == [("spot", "end")]
    assert list(orders([off]).values()) == [OFF_W]
    assert isinstance(end, ev.EvictionRequested)
    (node,) = orders([off])
    confirm(one, {node: OFF_W})
    assert draws_w(one) == before_w - (200 - with_overshoot(OFF_W))
    assert one.node(node, up=False) == [], "it was shut down, and did not fail"
    one.report(end.placement, ended(0))
    assert draws_w(one) <= before_w - (WHOLE_W - 200) - 100
    lifted, *_ = follow(one, MS_PER_HOUR)
    assert lifted == ev.CapsLifted(FJORD, (node,))
    assert draws_w(one) == before_w - (WHOLE_W - 200), "it counts as idle before it is told to start"
    assert not one.world.snapshot(one.now_ms).node_open[one.world.fleet.node_index[node]]
    confirm(one, {node: 0})
    assert one.world.snapshot(one.now_ms).node_open[one.world.fleet.node_index[node]]
    assert derived(one.world) == derived(rebuilt(one.world))


def test_a_node_that_does_not_say_that_it_is_off_is_followed_by_another() -> None:
    """It has longer than a cap: a server takes its time."""
    one = switchable()
    running(one, FIRM)
    instruct(one, draws_w(one) - 100)
    first = orders(follow(one))
    assert follow(one, OFF_MS - 1) == []
    second = orders(follow(one, 1))
    assert len(second) == 1
    assert first.keys().isdisjoint(second)


def test_nodes_that_somebody_has_reserved_soon_stay_on() -> None:
    """What was sold for a time is there in that time."""
    one = switchable(reserved=True)
    assert ladder_of(one.world, FJORD).idle == ()


def test_what_a_meter_sees_beyond_what_is_known_counts_and_is_beyond_shedding() -> None:
    """Nothing starts into it, the ladder goes on for it, and it is gone when the meter says so."""
    one = limited()
    running(one, SAVED, FIRM)
    before_w, floor_w = draws_w(one), ladder_of(one.world, FJORD).floor_w
    instruct(one, before_w)
    assert follow(one) == []
    one.do(c.ReportDevices(excess={PowerNodeId(FJORD): (300, "feed")}))
    assert draws_w(one) == before_w + 300
    assert ladder_of(one.world, FJORD).floor_w == floor_w + 300
    assert told(one, follow(one, 1_000)) == [("saved", "pause")]
    assert derived(one.world) == derived(rebuilt(one.world))
    one.do(c.ReportDevices(excess={PowerNodeId(FJORD): (0, "feed")}))
    assert draws_w(one) == before_w
    assert one.state.excess == {}


def test_the_second_opinion_counts_caps_and_what_meters_see() -> None:
    """A start that fits only because a node is capped is right with the cap, and wrong without or with an excess."""
    one = limited(firm_w=2 * WHOLE_W + 2 * 200 + 500)
    running(one, CAPPABLE, whole("second"))
    instruct(one, draws_w(one) - 350)
    confirm(one, orders(follow(one)))
    one.submit(job("spot", site=FJORD, flex=Flex.PREEMPTIBLE, nodes=2))
    snapshot = replace(
        one.world.snapshot(one.now_ms), power_limit_w=one.world.fleet.power_limit_w, floors=None
    )
    found = plan(snapshot, PlanLimits())
    assert len(found.placements) == 1
    assert check(snapshot, found) == []
    (uncapped,) = check(replace(snapshot, caps={}), found)
    (exceeded,) = check(replace(snapshot, excess={PowerNodeId(FJORD): 1_000}), found)
    assert {uncapped.promise, exceeded.promise} == {1}


def test_limits_are_shared_out_in_whole_watts_and_never_save_less_than_is_needed() -> None:
    """Rounding is on the safe side, and nobody goes below its lowest."""
    nodes = [
        found
        for found in (cappable(NodeId(f"fjord/{n}"), 1_000 + 37 * n, 600 + 11 * n) for n in range(20))
        if found is not None
    ]
    most_w = sum(one.saves_w for one in nodes)
    for needs_w in (1, 2, 17, 999, most_w - 1, most_w):
        limits = dict(shared_out(nodes, needs_w))
        saved_w = sum(one.draws_w - with_overshoot(limits[one.node]) for one in nodes)
        assert saved_w >= needs_w
        assert all(limits[one.node] >= one.least_w for one in nodes)
    assert all(
        watts == one.least_w for one, (_, watts) in zip(nodes, shared_out(nodes, most_w + 1), strict=True)
    )
    assert shared_out([], 5) == []
    assert shared_out([Cappable(NodeId("fjord/0"), 10, 5, 4)], 0) == []
