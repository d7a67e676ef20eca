"""Instructions of the grid: what can't be met is refused, what can is met in time by the ladder, and nothing firm goes."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.estate import Connection, FlexibleWindow
from headrace.core.ids import NodeId, PlacementId, PowerNodeId, SiteId, WorkloadId
from headrace.core.observation import Capabilities, NodeReport
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.power.ladder import LEAST_GRACE_MS, PAUSE_LEAD_MS, PAUSE_MS, SEEN_MS, ladder_of
from headrace.core.power.limits import LEAD_MS, RESPONSE_MS
from headrace.core.power.shedding import Rung
from headrace.core.scheduling.explain import explain
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, parse_watts
from headrace.core.workload import EndReason, Flex, PolicyRef, Resources, State, WorkloadSpec, WorkloadType
from tests.core.small import (
    ALBION,
    FJORD,
    PAUSED,
    RUNNING,
    Core,
    core,
    derived,
    ended,
    estate,
    job,
    rebuilt,
    site,
)

ABLE = Capabilities("uid", pause=True, ports=True, pause_sheds=True)
IDLE_W, WAKE_W, STEP_W, WHOLE_W = 200, 100, 175, 1_000
"""Of a ``lab`` node: idle; what waking it adds; what each of its four accelerators adds; all of it."""
EVENING = InstructionId("evening")


def lab(capabilities: Capabilities = ABLE, **connection: Any) -> Core:
    """A core with four nodes at Fjord, whose engine can pause."""
    one = core()
    one.do(c.DeclareEngines({"local": capabilities}))
    if connection:
        firm_w = connection.pop("firm_w", 100_000)
        fjord = replace(site(FJORD, "NO", racks=2), connection=Connection(firm_w, **connection))
        one.apply(estate(fjord, site(ALBION, "GB")))
    return one


def whole(name: str, **more: Any) -> WorkloadSpec:
    """A job that takes a whole node at Fjord."""
    values: dict[str, Any] = {"resources": Resources("lab", 4, 250, 16), "site": FJORD, "grace_ms": 2_000}
    return job(name, **(values | more))


MINER = whole("miner", type=WorkloadType.FILLER)
PAUSABLE = whole("pausable", flex=Flex.PAUSABLE)
SAVED = whole("saved", flex=Flex.PAUSABLE, checkpoint_ms=60_000)
SPOT = whole("spot", flex=Flex.PREEMPTIBLE)
FIRM = whole("firm")
CAPPABLE = whole("cappable", flex=Flex.CAPPABLE)


def running(one: Core, *specs: WorkloadSpec) -> dict[str, PlacementId]:
    """Submit, place and start; the placements by their workloads' names."""
    one.submit(*specs)
    for placement in one.place():
        one.report(placement, *(RUNNING for _ in one.state.placements[placement].ranks))
    return names(one)


def names(one: Core) -> dict[str, PlacementId]:
    """Placements by their workloads' names."""
    return {one.state.workloads[p.workload].spec.name: p.id for p in one.state.placements.values()}


def instruct(
    one: Core, limit_w: int, *, starts_ms: int = 0, lasts_ms: int = 0, binding: bool = False, **more: Any
) -> list[ev.Event]:
    """Instruct Fjord from ``starts_ms`` from now."""
    from_ms = one.now_ms + starts_ms
    until_ms = from_ms + lasts_ms if lasts_ms else 0
    found = Instruction(more.pop("id", EVENING), FJORD, limit_w, from_ms, until_ms, **more)
    return one.made(c.Instruct(found, binding))


def follow(one: Core, after_ms: int = 0) -> list[ev.Event]:
    """What follows from the grid ``after_ms`` later."""
    one.now_ms += after_ms
    return one.made(c.FollowGrid())


def told(one: Core, events: list[ev.Event]) -> list[tuple[str, str]]:
    """Who was told what: ``(workload's name, pause | end | lift)``."""
    kinds = {
        ev.CurtailmentOrdered: "pause",
        ev.EvictionRequested: "end",
        ev.CurtailmentLifted: "lift",
    }
    by_id = {ident: name for name, ident in names(one).items()}
    return [(by_id[event.placement], kinds[type(event)]) for event in events]  # type: ignore[union-attr]


def draws_w(one: Core, where: SiteId = FJORD) -> int:
    """The most that a site can draw now, watts of IT load (PUE is 1 here)."""
    return int(one.world.power_w[one.world.fleet.power_index[PowerNodeId(where)]])


# -- the ladder --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit_w", "goes"),
    [
        (4_000, []),
        (3_999, [("miner", "end")]),
        (3_200, [("miner", "end")]),
        (3_199, [("miner", "end"), ("saved", "pause")]),
        (2_499, [("miner", "end"), ("saved", "pause"), ("spot", "end")]),
    ],
)
def test_rungs_are_used_in_order_and_no_more_of_them_than_it_takes(
    limit_w: int, goes: list[tuple[str, str]]
) -> None:
    """Miners, then pauses, then spot; what is firm stays, and so does what there is room for."""
    one = lab()
    running(one, FIRM, SPOT, SAVED, MINER)
    assert draws_w(one) == 4 * WHOLE_W
    instruct(one, limit_w)
    assert told(one, follow(one)) == goes
    assert follow(one, 1_000) == [], "who was told is not told again"


def test_of_one_rung_the_cheapest_watts_go_first() -> None:
    """Who has least to lose: the one that began last, if all else is equal; a node that two share does not sleep for one."""
    one = lab()
    old = whole("old", flex=Flex.PREEMPTIBLE)
    running(one, old)
    one.now_ms += MS_PER_HOUR
    running(one, whole("young", flex=Flex.PREEMPTIBLE))
    instruct(one, draws_w(one) - 1)
    assert told(one, follow(one)) == [("young", "end")]


def test_who_could_go_on_elsewhere_goes_before_who_would_wait() -> None:
    """Law decides where; with room at another site the younger stays, and the older goes on there."""
    one = lab()
    anywhere = whole("anywhere", flex=Flex.PREEMPTIBLE, site=None, policy=PolicyRef(countries=("NO", "GB")))
    norway = whole("norway", flex=Flex.PREEMPTIBLE, site=None, policy=PolicyRef(countries=("NO",)))
    running(one, anywhere)
    one.now_ms += MS_PER_HOUR
    running(one, norway)
    instruct(one, draws_w(one) - 1)
    (event,) = follow(one)
    assert told(one, [event]) == [("anywhere", "end")]
    assert isinstance(event, ev.EvictionRequested)
    one.report(event.placement, ended(0))
    (moved,) = [one.state.placements[ident] for ident in one.place()]
    assert (moved.workload, moved.site) == (WorkloadId("acme-1"), ALBION)


@pytest.mark.parametrize("spec", [FIRM, CAPPABLE, PAUSABLE], ids=lambda spec: str(spec.name))
def test_what_is_firm_is_never_touched_even_for_what_binds(spec: WorkloadSpec) -> None:
    """On an engine whose pause sheds nothing, what may only be paused is as firm."""
    one = lab(replace(ABLE, pause_sheds=False))
    running(one, spec)
    alarms = [e for e in instruct(one, 1_000, binding=True) if isinstance(e, ev.AlarmRaised)]
    assert [(alarm.promise, alarm.subject) for alarm in alarms] == [(1, FJORD)]
    assert [type(event) for event in follow(one, RESPONSE_MS)] == [ev.AlarmRaised]
    assert follow(one, 1_000) == [], "whoever was told is not told again"


def test_what_saves_its_state_starts_again_elsewhere_where_a_pause_sheds_nothing() -> None:
    """A paused job may still draw: then it has to end, and its last checkpoint is what it goes on from."""
    one = lab(replace(ABLE, pause_sheds=False))
    placements = running(one, SAVED)
    instruct(one, 800)
    (event,) = follow(one)
    assert isinstance(event, ev.EvictionRequested)
    assert event.reason is EndReason.CURTAILED
    one.report(placements["saved"], ended(0, 143))
    work = next(iter(one.state.workloads.values()))
    assert (work.state, work.not_before_ms) == (State.QUEUED, 0)
    assert draws_w(one) == 4 * IDLE_W
    assert one.place() == []


# -- pauses ------------------------------------------------------------------------------------------------------------


def test_a_pause_counts_once_it_is_seen_and_no_longer_than_that() -> None:
    """What was ordered sheds nothing; when it goes on it counts in full before any engine hears of it."""
    one = lab()
    placement = running(one, PAUSABLE)["pausable"]
    instruct(one, 1_000)
    assert draws_w(one) == WHOLE_W + 3 * IDLE_W
    assert told(one, follow(one)) == [("pausable", "pause")]
    assert draws_w(one) == WHOLE_W + 3 * IDLE_W
    assert one.report(placement, PAUSED) == [ev.PauseObserved(placement, True)]
    assert draws_w(one) == IDLE_W + WAKE_W + 3 * IDLE_W
    assert derived(one.world) == derived(rebuilt(one.world))
    one.do(c.Withdraw(EVENING))
    assert told(one, follow(one)) == [("pausable", "lift")]
    assert draws_w(one) == WHOLE_W + 3 * IDLE_W
    assert one.report(placement, RUNNING) == [ev.PauseObserved(placement, False)]


def test_a_pause_that_is_not_seen_in_time_is_followed_by_the_next_rung() -> None:
    """An actuator that does not confirm counts for nothing: whoever saves its state ends, else another goes."""
    one = lab()
    running(one, SAVED)
    instruct(one, 1_000)
    assert told(one, follow(one)) == [("saved", "pause")]
    assert follow(one, PAUSE_MS - 1) == []
    assert told(one, follow(one, 1)) == [("saved", "end")]


def test_who_leaves_too_late_for_an_instruction_is_no_help_to_it() -> None:
    """Stopped by its tenant with a long grace: it draws on when the instruction is due, so another goes in its place."""
    one = lab()
    leaving = whole("leaving", grace_ms=60_000)
    running(one, leaving, SPOT, FIRM)
    one.do(c.Stop(one.state.placements[names(one)["leaving"]].workload))
    instruct(one, draws_w(one) - 500)
    assert told(one, follow(one)) == [("spot", "end")]
    one = lab()
    running(one, replace(leaving, grace_ms=20_000), SPOT, FIRM)
    one.do(c.Stop(one.state.placements[names(one)["leaving"]].workload))
    instruct(one, draws_w(one) - 500)
    assert follow(one) == [], "this one is gone in time"


def test_who_ends_because_its_pause_failed_counts_with_all_that_its_end_saves() -> None:
    """Its node sleeps then, which a pause would not have brought: nobody else goes for that."""
    one = lab()
    running(one, SPOT, SAVED)
    instruct(one, draws_w(one) - (WHOLE_W - IDLE_W))
    assert told(one, follow(one)) == [("saved", "pause"), ("spot", "end")]
    one.do(c.Withdraw(EVENING))
    one = lab()
    running(one, SPOT, SAVED)
    instruct(one, draws_w(one) - 4 * STEP_W)
    assert told(one, follow(one)) == [("saved", "pause")]
    instruct(one, draws_w(one) - (WHOLE_W - IDLE_W), id=InstructionId("deeper"))
    assert told(one, follow(one, PAUSE_MS)) == [("saved", "end")]
    assert follow(one, 1_000) == []


def test_what_was_told_to_end_and_does_not_is_followed_by_another() -> None:
    """Until its deadline it counts as gone; from then on it does not."""
    one = lab()
    running(one, replace(MINER, grace_ms=1_000), SPOT)
    instruct(one, draws_w(one) - 1)
    assert told(one, follow(one)) == [("miner", "end")]
    assert follow(one, 1_000 + SEEN_MS - 1) == []
    assert told(one, follow(one, 1)) == [("spot", "end")]


def test_who_was_paused_by_its_tenant_stays_paused_when_the_grid_lets_it_go_on() -> None:
    """And who lets its workload go on while the grid holds it waits for the grid."""
    one = lab()
    placement = running(one, PAUSABLE)["pausable"]
    work = one.state.placements[placement].workload
    instruct(one, 1_000)
    follow(one)
    one.report(placement, PAUSED)
    one.do(c.Pause(WorkloadId(work), pause=True))
    one.do(c.Withdraw(EVENING))
    follow(one)
    assert not one.world.unsettled, "it is paused, and that is what is wanted"
    one.do(c.Pause(WorkloadId(work), pause=False))
    assert list(one.world.unsettled) == [placement]


def test_somebody_who_lets_it_go_on_behind_our_back_makes_it_count_in_full() -> None:
    """And the grid's limit is met by its end."""
    one = lab()
    placement = running(one, SAVED)["saved"]
    instruct(one, 1_000)
    follow(one)
    one.report(placement, PAUSED)
    one.now_ms += PAUSE_MS
    one.report(placement, RUNNING)
    assert draws_w(one) == WHOLE_W + 3 * IDLE_W
    assert told(one, follow(one)) == [("saved", "end")]


# -- time --------------------------------------------------------------------------------------------------------------


def test_nothing_starts_that_would_have_to_go_from_a_quarter_of_an_hour_before() -> None:
    """Before that it may: it can be gone in time."""
    one = lab()
    instruct(one, 1_700, starts_ms=LEAD_MS + 1, lasts_ms=MS_PER_HOUR)
    one.submit(MINER, replace(MINER, name="second"))
    assert len(one.place()) == 2
    other = lab()
    instruct(other, 1_700, starts_ms=LEAD_MS, lasts_ms=MS_PER_HOUR)
    other.submit(MINER, replace(MINER, name="second"))
    assert len(other.place()) == 1
    other.now_ms += LEAD_MS + MS_PER_HOUR
    assert len(other.place()) == 1


def test_who_has_to_go_for_a_coming_instruction_is_given_its_own_grace() -> None:
    """Told as late as leaves time for another rung, and not a second sooner."""
    one = lab()
    running(one, replace(SPOT, grace_ms=60_000))
    instruct(one, 1_000, starts_ms=LEAD_MS, lasts_ms=MS_PER_HOUR)
    early_ms = LEAD_MS - 2 * (60_000 + SEEN_MS) - 1
    assert follow(one, early_ms) == []
    (event,) = follow(one, 1)
    assert isinstance(event, ev.EvictionRequested)
    assert event.grace_ms == 60_000


def test_at_once_means_that_graces_are_cut() -> None:
    """To half of the time that is left, so that another can still go."""
    one = lab()
    running(one, replace(SPOT, grace_ms=900_000))
    instruct(one, 1_000)
    (event,) = follow(one)
    assert isinstance(event, ev.EvictionRequested)
    assert LEAST_GRACE_MS <= event.grace_ms <= RESPONSE_MS // 2
    assert one.state.placements[event.placement].stop_grace_ms == event.grace_ms


def test_pauses_for_a_coming_instruction_come_in_time_for_another_rung() -> None:
    """A pause costs nothing until it begins, and can fail."""
    one = lab()
    running(one, SAVED)
    instruct(one, 1_000, starts_ms=MS_PER_HOUR, lasts_ms=MS_PER_HOUR)
    assert follow(one, MS_PER_HOUR - PAUSE_LEAD_MS - 1) == []
    assert told(one, follow(one, 1)) == [("saved", "pause")]


def test_what_is_drawn_rises_again_no_faster_than_the_ramp() -> None:
    """New starts and what goes on alike; with no ramp, all at once."""
    one = lab(ramp_up_w_per_minute=600)
    placement = running(one, PAUSABLE)["pausable"]
    instruct(one, 1_000, lasts_ms=MS_PER_HOUR)
    follow(one)
    one.report(placement, PAUSED)
    one.submit(whole("next"))
    one.now_ms += MS_PER_HOUR - 1
    assert (follow(one), one.place()) == ([], [])
    # 900 W are drawn while it is paused; it needs 700 more, so that 1,600 W must be allowed: 600 W above the limit.
    assert follow(one, MS_PER_MINUTE - 9_000) == []
    assert told(one, follow(one, 9_001)) == [("pausable", "lift")]
    one.report(placement, RUNNING)
    assert one.place() == []
    one.now_ms += MS_PER_MINUTE + 20_000
    assert len(one.place()) == 1


def test_what_is_drawn_falls_no_faster_than_the_ramp() -> None:
    """One after the other, as the time goes; and it is due when the ramp lets it be, not sooner, and 30 s to do it."""
    one = lab(ramp_down_w_per_minute=600)
    spots = [whole(f"spot-{n}", flex=Flex.PREEMPTIBLE) for n in range(2)]
    running(one, *spots, FIRM)
    before_w = draws_w(one)
    instruct(one, before_w - 1_600)
    (standing,) = one.state.instructions.values()
    assert standing.due_ms == one.now_ms + 160_000 + RESPONSE_MS
    assert standing.point_due_ms(one.now_ms) == one.now_ms + RESPONSE_MS
    assert follow(one) == []
    (first,) = follow(one, 1_000)
    assert isinstance(first, ev.EvictionRequested), "a watt over what the ramp lets it draw by now"
    one.report(first.placement, ended(0))
    assert follow(one, 78_000) == [], "who is gone was a half of it"
    (second,) = follow(one, 2_000)
    assert isinstance(second, ev.EvictionRequested)
    one.report(second.placement, ended(0))
    assert follow(one, 79_000) == []
    assert draws_w(one) == before_w - 1_600


def test_one_that_is_loosened_on_the_way_down_goes_on_along_the_same_line() -> None:
    """It is no higher than the line was, and its end is reached sooner."""
    one = lab(ramp_down_w_per_minute=600)
    running(one, *(whole(f"spot-{n}", flex=Flex.PREEMPTIBLE) for n in range(2)), FIRM)
    before_w = draws_w(one)
    instruct(one, before_w - 1_600)
    line = [
        next(iter(one.state.instructions.values())).glides_w(600, one.now_ms + at) for at in (30_000, 90_000)
    ]
    began_ms = one.now_ms
    one.now_ms += 20_000
    instruct(one, before_w - 1_000)
    (standing,) = one.state.instructions.values()
    assert standing.due_ms == began_ms + 100_000 + RESPONSE_MS
    assert [standing.glides_w(600, began_ms + at) + 600 for at in (30_000, 90_000)] == line


def test_a_coming_instruction_is_approached_along_the_ramp() -> None:
    """It begins as long before it holds as it takes, and nothing new starts by then."""
    one = lab(ramp_down_w_per_minute=40)
    running(one, *(whole(f"spot-{n}", flex=Flex.PREEMPTIBLE) for n in range(2)))
    instruct(one, draws_w(one) - 1_600, starts_ms=2 * MS_PER_HOUR)
    assert follow(one, 2 * MS_PER_HOUR - 41 * MS_PER_MINUTE) == []
    assert follow(one, 2 * MS_PER_MINUTE) != []
    one.submit(whole("late", flex=Flex.PREEMPTIBLE))
    assert one.place() == []


def test_a_miner_that_starts_again_says_after_which_instruction() -> None:
    """From when it is placed and as long as it runs; one that starts beside an instruction that goes on says that."""
    one = lab()
    running(one, MINER)
    instruct(one, draws_w(one) - 300, lasts_ms=MS_PER_HOUR)
    ((placement, *_),) = [list(one.world.stopping) for _ in follow(one)]
    one.report(placement, ended(0, 143))
    ident = next(iter(one.state.workloads))
    one.now_ms += MS_PER_HOUR
    (again,) = one.place()
    assert "back after instruction evening ended" in explain(one.world.snapshot(one.now_ms), ident).line
    one.report(again, RUNNING)
    line = explain(one.world.snapshot(one.now_ms), ident).line
    assert line.endswith("; attempt 2 (back after instruction evening ended)")
    instruct(one, draws_w(one) - 300, id=InstructionId("late (b)"))
    follow(one)
    one.report(again, ended(0, 143))
    instruct(one, draws_w(one) + 5_000, id=InstructionId("late (b)"))
    one.place()
    line = explain(one.world.snapshot(one.now_ms), ident).line
    assert "back within what instruction late (b) allows" in line


def test_the_strictest_of_several_instructions_holds() -> None:
    """Whichever came first; and when it ends, the next one does."""
    one = lab()
    running(one, MINER, replace(MINER, name="second"))
    instruct(one, 2_000, lasts_ms=2 * MS_PER_HOUR, id=InstructionId("long"))
    instruct(one, 1_700, lasts_ms=MS_PER_HOUR, id=InstructionId("short"))
    assert len(follow(one)) == 1
    for placement in list(one.world.stopping):
        one.report(placement, ended(0, 143))
    one.now_ms += MS_PER_HOUR
    assert one.place() == [], "1,600 W are drawn, 400 W are left, and it needs 800"
    one.now_ms += MS_PER_HOUR
    assert len(one.place()) == 1


# -- what can be promised ----------------------------------------------------------------------------------------------


def test_what_is_below_the_floor_is_refused_with_what_could_be_shed() -> None:
    """And leaves nothing; what is at the floor is taken."""
    one = lab()
    running(one, FIRM, PAUSABLE, MINER)
    floor_w = WHOLE_W + (IDLE_W + WAKE_W) + 2 * IDLE_W
    before = len(one.events)
    with pytest.raises(
        HeadraceError, match=r"fjord can't come down to 1.699 kW: 1.7 kW of 3.2 kW"
    ) as refused:
        instruct(one, floor_w - 1)
    assert "miners 800 W, pause 700 W" in refused.value.problem.message
    assert len(one.events) == before
    assert ev.InstructionReceived in map(type, instruct(one, floor_w))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"site": SiteId("fjrd")}, "Did you mean fjord"),
        ({"limit_w": -1}, "watts from 0"),
        (
            {"limit_w": 2_100_000_000},
            "a limit of 2.1 GW for fjord is more than 10 times the 100 kW of its connection",
        ),
        ({"until_ms": 1}, "over before it begins"),
        ({"from_ms": 1_795_000_000_000_000}, "more than a year"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_instruction_that_makes_no_sense_is_named(wrong: dict[str, Any], says: str) -> None:
    """With the next step, and nothing is changed."""
    one = lab()
    sound = Instruction(EVENING, FJORD, 50_000, one.now_ms, 0)
    with pytest.raises(HeadraceError) as refused:
        one.do(c.Instruct(replace(sound, **wrong), binding=True))
    assert says in refused.value.problem.line()
    assert not one.state.instructions


def test_a_name_that_stands_at_one_site_is_not_given_at_another() -> None:
    """It would lift what the first asks; once that is over, the name is free, and at its own site it may be given anew."""
    one = lab()
    first = Instruction(EVENING, FJORD, 50_000, one.now_ms)
    second = replace(first, site=ALBION, limit_w=10_000)
    one.do(c.Instruct(first))
    with pytest.raises(HeadraceError) as refused:
        one.do(c.Instruct(second, binding=True))
    assert refused.value.problem.code is ProblemCode.CONFLICT
    assert refused.value.problem.line() == (
        "the instruction 'evening' is one for fjord, and stands; Give the one for albion another name, "
        "or withdraw evening first."
    )
    assert one.state.instructions[EVENING].instruction == first
    assert one.made(c.Instruct(replace(first, limit_w=40_000)))
    one.do(c.Withdraw(EVENING))
    one.now_ms += 1
    assert one.made(c.Instruct(replace(second, from_ms=one.now_ms)))
    assert one.state.instructions[EVENING].instruction.site == ALBION


def test_what_a_refusal_says_to_ask_for_is_taken() -> None:
    """To the watt, however many digits it has: four of them would round it to what is refused again."""
    one = core()
    one.do(c.DeclareEngines({"local": ABLE}))
    # 206 nodes that idle at 200 W, with a PUE of 1.151: 47,421.2 W at the meter, which four digits would round down.
    fjord = replace(site(FJORD, "NO", racks=103), connection=Connection(100_000), pue_permille=1_151)
    one.apply(estate(fjord, site(ALBION, "GB")))
    with pytest.raises(HeadraceError) as refused:
        instruct(one, 1_000)
    wanted = re.search(r"Ask for ([0-9.]+ k?W) or more", refused.value.problem.line())
    assert wanted is not None, refused.value.problem.line()
    assert wanted[1] == "47422 W"
    with pytest.raises(HeadraceError, match="can't come down to 47421 W: 47422 W of"):
        instruct(one, parse_watts(wanted[1]) - 1)
    assert instruct(one, parse_watts(wanted[1]))


def test_what_a_site_is_under_already_is_never_refused() -> None:
    """The floor counts each part of an accelerator as the whole of it; a limit at what is drawn is met as things are."""
    one = lab()
    half = Resources("lab", 1, 250, 16, share_milli=500)
    running(one, *(whole(name, resources=half) for name in ("left", "right")))
    assert len({rank.node for held in one.state.placements.values() for rank in held.ranks}) == 1
    floor_w = one.world.floors.watts[one.world.fleet.site_index[FJORD]]
    assert floor_w > draws_w(one)
    assert instruct(one, draws_w(one))
    with pytest.raises(HeadraceError, match="can't come down to"):
        instruct(one, draws_w(one) - 1)


def test_firm_work_never_takes_what_the_grid_may_ask_back() -> None:
    """Beyond the firm part of a connection only what can be shed starts: the planner and the writer agree."""
    one = lab(firm_w=2_400, flexible_w=10_000)
    one.submit(*(replace(FIRM, name=f"firm-{n}") for n in range(3)))
    assert len(one.place()) == 2
    assert one.plan().placements == ()
    third = next(iter(one.world.queue))
    assert one.put(third, "fjord/b/g-1-1", mask=15).rejected == ((third, "POWER"),)
    one.submit(MINER)
    assert len(one.place()) == 1
    assert instruct(one, 2_400, lasts_ms=MS_PER_HOUR)


def test_what_comes_later_keeps_room_for_a_known_instruction() -> None:
    """However far away it is: what is firm may last until then."""
    one = lab()
    instruct(one, 2_000, starts_ms=24 * MS_PER_HOUR, lasts_ms=MS_PER_HOUR)
    one.submit(*(replace(FIRM, name=f"firm-{n}") for n in range(3)))
    assert len(one.place()) == 1
    one.do(c.Withdraw(EVENING))
    assert len(one.place()) == 2


def test_a_repeated_instruction_changes_nothing_and_another_of_its_name_replaces_it() -> None:
    """Whoever sends it twice does no harm."""
    one = lab()
    first = Instruction(EVENING, FJORD, 50_000, one.now_ms, one.now_ms + MS_PER_HOUR)
    assert len(one.made(c.Instruct(first))) == 1
    assert one.made(c.Instruct(first)) == []
    assert len(one.made(c.Instruct(replace(first, limit_w=40_000)))) == 1
    assert [standing.instruction.limit_w for standing in one.state.instructions.values()] == [40_000]
    assert one.made(c.Withdraw(EVENING))
    assert one.made(c.Withdraw(EVENING)) == []


def test_the_ladder_says_what_each_rung_would_shed() -> None:
    """Before anybody asks for it."""
    one = lab()
    running(one, FIRM, SPOT, SAVED, MINER)
    ladder = ladder_of(one.world, FJORD)
    assert ladder.draws_w == 4_000
    assert ladder.floor_w == WHOLE_W + (IDLE_W + WAKE_W) + 2 * IDLE_W
    assert ladder.by_rung() == {
        Rung.MINERS: 800,
        Rung.CAP: 0,
        Rung.PAUSE: 700,
        Rung.REQUEUE: 0,
        Rung.PREEMPT: 800,
        Rung.OFF: 0,
    }


# -- any order of things -----------------------------------------------------------------------------------------------

_SPECS = (
    MINER,
    PAUSABLE,
    SAVED,
    SPOT,
    FIRM,
    job("part", site=FJORD, flex=Flex.PREEMPTIBLE),
    job("small", site=FJORD),
)
_STEP = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from(range(len(_SPECS)))),
    st.tuples(st.just("instruct"), st.integers(800, 4_000)),
    st.tuples(st.just("coming"), st.integers(800, 4_000)),
    st.tuples(st.just("withdraw"), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from((1_000, 20_000, MS_PER_MINUTE, LEAD_MS, MS_PER_HOUR))),
    st.tuples(st.just("end"), st.integers(0, 5)),
    st.tuples(st.just("intrude"), st.integers(0, 1)),
)


def obey(one: Core) -> None:
    """The engine does at once what is wanted."""
    for placement in list(one.state.placements.values()):
        work = one.state.workloads[placement.workload]
        if placement.stop_reason is not None:
            one.report(placement.id, *(ended(rank, 143) for rank, _ in enumerate(placement.ranks)))
        else:
            held = work.pause_wanted or placement.curtailed
            one.report(
                placement.id,
                *((PAUSED if held and placement.started_ms else RUNNING) for _ in placement.ranks),
            )


@settings(max_examples=120, deadline=None)
@given(steps=st.lists(_STEP, max_size=25), sheds=st.booleans())
def test_whatever_comes_in_whatever_order_a_site_is_under_its_limit_when_that_is_due(
    steps: list[tuple[str, int]], sheds: bool
) -> None:
    """With an engine that obeys; nothing firm ever goes, and what a world derives is what it would be anew."""
    one = lab(replace(ABLE, pause_sheds=sheds))
    taken = 0
    for what, number in steps:
        try:
            taken += _step(one, what, number, taken)
        except HeadraceError:
            continue
        for _ in range(3):
            follow(one)
            obey(one)
        one.place()
        obey(one)
        _look(one)
    assert derived(one.world) == derived(rebuilt(one.world))
    assert one.world.floors.watts == rebuilt(one.world).floors.watts


def _step(one: Core, what: str, number: int, taken: int) -> int:
    match what:
        case "submit":
            one.submit(_SPECS[number])
        case "instruct" | "coming":
            starts_ms = LEAD_MS if what == "coming" else 0
            ident = InstructionId(f"i-{taken}")
            instruct(one, number, starts_ms=starts_ms, lasts_ms=MS_PER_HOUR, id=ident)
            return 1
        case "withdraw":
            for ident in list(one.state.instructions)[-1:]:
                one.do(c.Withdraw(ident))
        case "wait":
            one.now_ms += number
        case "end":
            for placement in list(one.state.placements)[number : number + 1]:
                one.report(placement, ended(0))
        case "intrude":
            who = "somebody" if number else ""
            one.made(c.Observe((), nodes=(NodeReport(NodeId("fjord/b/g-0-0"), True, foreign=who),)))
    return 0


def _look(one: Core) -> None:
    due = [
        standing.instruction.limit_w
        for standing in one.state.instructions.values()
        if standing.instruction.site == FJORD
        and standing.instruction.is_active(one.now_ms)
        and standing.due_ms <= one.now_ms
    ]
    if due and not one.state.intruders and not one.world.stopping:
        assert draws_w(one) <= min(due)
    for event in one.events:
        if isinstance(event, ev.EvictionRequested):
            assert event.reason is EndReason.CURTAILED or not event.grace_ms
    gone = {p for p in one.world.stopping if one.state.placements[p].stop_reason is EndReason.CURTAILED}
    specs = [
        one.state.workloads[one.state.placements[p].workload].spec for p in gone | set(one.world.curtailed)
    ]
    assert all(
        spec.flex not in (Flex.FIRM, Flex.CAPPABLE) or spec.type is WorkloadType.FILLER for spec in specs
    )


# -- why ---------------------------------------------------------------------------------------------------------------


def said(one: Core, name: str) -> str:
    """The line that explains a workload."""
    ident = next(work.id for work in one.state.workloads.values() if work.spec.name == name)
    return explain(one.world.snapshot(one.now_ms), ident).line


def test_who_is_held_or_kept_out_for_the_grid_is_told_which_instruction_it_is() -> None:
    """Paused, waiting for watts below a limit, or waiting because it could not be shed."""
    one = lab()
    placement = running(one, PAUSABLE)["pausable"]
    instruct(one, 1_000, lasts_ms=MS_PER_HOUR)
    follow(one)
    one.report(placement, PAUSED)
    assert "is paused for the grid, which limits fjord (instruction evening)" in said(one, "pausable")
    one.submit(MINER)
    assert "limited by the grid's instruction evening" in said(one, "miner")
    other = lab()
    instruct(other, 1_000, starts_ms=24 * MS_PER_HOUR, lasts_ms=MS_PER_HOUR)
    other.submit(FIRM)
    assert other.place() == []
    assert "that the grid can't ask back, of which fjord has 200 W of 1 kW left" in said(other, "firm")


def test_who_lacks_power_and_what_the_grid_may_ask_back_is_told_of_both() -> None:
    """Freeing the one alone would change nothing: what is told to be enough is enough, and nothing less is told."""
    one = lab(firm_w=2_600)
    here = PolicyRef(countries=("NO",))
    instruct(one, 2_000, starts_ms=24 * MS_PER_HOUR, lasts_ms=MS_PER_HOUR)
    placements = running(one, FIRM, replace(SPOT, flex=Flex.PREEMPTIBLE))
    one.submit(replace(FIRM, name="second", policy=here))
    assert one.place() == []
    both = said(one, "second")
    assert (
        "needs 800 W, connection fjord has 200 W of 2.6 kW left; and needs 800 W that the grid can't ask back"
        in both
    )
    assert "of which fjord has 400 W of 2 kW left (by the grid's instruction evening)" in both
    assert "would start if 600 W are freed there and 400 W of what the grid can't ask back" in both
    # So much is freed, and more: it waits on, and says for what.
    one.report(placements["spot"], ended(0))
    assert one.place() == []
    alone = said(one, "second")
    assert "site fjord: needs 800 W that the grid can't ask back" in alone
    assert "would start if 400 W of what the grid can't ask back are freed there" in alone
    assert "at site" not in alone
    one.do(c.Withdraw(EVENING))
    assert len(one.place()) == 1


def test_what_the_firm_part_keeps_is_not_laid_to_an_instruction() -> None:
    """There is none: it is the connection's own."""
    one = lab(firm_w=2_400, flexible_w=10_000)
    one.submit(*(replace(FIRM, name=f"firm-{n}", policy=PolicyRef(countries=("NO",))) for n in range(3)))
    assert len(one.place()) == 2
    waits = next(one.state.workloads[ident].spec.name for ident in one.world.queue)
    line = said(one, waits)
    assert "fjord has 0 W of 2.4 kW left (by the firm part of its connection)" in line
    assert "at site" not in line


def test_who_is_held_for_the_grid_is_told_what_holds_now() -> None:
    """Not what ordered it and is over: another instruction took its place, or nothing did yet."""
    one = lab()
    placement = running(one, PAUSABLE)["pausable"]
    instruct(one, 1_000)
    follow(one)
    one.report(placement, PAUSED)
    instruct(one, 1_100, id=InstructionId("night"))
    assert "is paused for the grid, which limits fjord (instruction evening)" in said(one, "pausable")
    one.now_ms += 1_000
    one.do(c.Withdraw(EVENING))
    assert "which limits fjord (instruction night, it was told by evening)" in said(one, "pausable")
    one.do(c.Withdraw(InstructionId("night")))
    assert "which limited fjord (instruction evening, which does so no more)" in said(one, "pausable")


def test_what_was_paused_goes_before_what_is_new() -> None:
    """When the limit ends, the power that it needs is its own until it goes on."""
    one = lab(firm_w=1_700)
    placement = running(one, PAUSABLE)["pausable"]
    instruct(one, 1_000, lasts_ms=MS_PER_HOUR)
    follow(one)
    one.report(placement, PAUSED)
    one.submit(MINER)
    one.now_ms += MS_PER_HOUR
    assert one.place() == []
    assert told(one, follow(one)) == [("pausable", "lift")]
    assert one.place() == []
    assert derived(one.world) == derived(rebuilt(one.world))


def test_outside_the_hours_of_its_flexible_part_a_connection_is_its_firm_one() -> None:
    """Its end is known, so that who has to go is told in time, and nothing starts that would have to."""
    one = lab(firm_w=1_000, flexible_w=3_000, windows=(FlexibleWindow(tuple(range(7)), 0, 6 * 60),))
    night_ms = one.now_ms // MS_PER_DAY * MS_PER_DAY + MS_PER_DAY
    one.now_ms = night_ms
    running(one, MINER)
    assert draws_w(one) == WHOLE_W + 3 * IDLE_W
    six_ms = night_ms + 5 * MS_PER_HOUR
    one.now_ms = six_ms - LEAD_MS
    one.submit(replace(MINER, name="second"))
    assert (one.place(), follow(one)) == ([], [])
    one.now_ms = six_ms - 5_000
    assert told(one, follow(one)) == [("miner", "end")]


def test_what_the_firm_part_could_never_carry_is_refused_at_once() -> None:
    """Instead of waiting for ever; what can be shed may have the flexible part."""
    one = lab(firm_w=1_400, flexible_w=10_000)
    with pytest.raises(
        HeadraceError, match=r"it draws 800 W that the grid can't ask back, .* fjord carries 600 W"
    ):
        one.submit(FIRM)
    one.submit(SPOT, job("small", site=FJORD))
    assert len(one.place()) == 2


# -- when something does not do as it was told -------------------------------------------------------------------------


def test_a_pause_that_fails_never_ends_work_that_saves_nothing() -> None:
    """It can't be shed then: somebody else goes, or somebody is told that nobody is left."""
    one = lab()
    running(one, PAUSABLE)
    instruct(one, 1_000)
    assert told(one, follow(one)) == [("pausable", "pause")]
    assert follow(one, PAUSE_MS) == []
    (alarm,) = follow(one, RESPONSE_MS - PAUSE_MS)
    assert isinstance(alarm, ev.AlarmRaised)
    assert "nobody is left who could be shed" in alarm.detail


def test_time_without_a_control_plane_counts_for_no_deadline() -> None:
    """Nobody asked the engine meanwhile."""
    one = lab()
    running(one, SAVED)
    instruct(one, 1_000)
    follow(one)
    one.now_ms += MS_PER_HOUR
    one.do(c.StartControl("small", "0.1.0", "boot"))
    assert follow(one, PAUSE_MS - 1) == []
    assert told(one, follow(one, 1)) == [("saved", "end")]


def test_who_was_paused_by_its_tenant_already_counts_at_once() -> None:
    """It is seen paused: there is nothing to wait for."""
    one = lab()
    placement = running(one, PAUSABLE)["pausable"]
    one.do(c.Pause(WorkloadId(one.state.placements[placement].workload), pause=True))
    one.report(placement, PAUSED)
    assert draws_w(one) == WHOLE_W + 3 * IDLE_W
    instruct(one, 1_000)
    assert told(one, follow(one)) == [("pausable", "pause")]
    assert draws_w(one) == IDLE_W + WAKE_W + 3 * IDLE_W


def test_nobody_of_a_later_rung_is_told_before_somebody_of_an_earlier_one() -> None:
    """Who needs more time is told first, and with it everybody whose turn is before."""
    one = lab()
    running(one, replace(MINER, grace_ms=1_000), replace(SPOT, grace_ms=60_000))
    instruct(one, 1_000, starts_ms=MS_PER_HOUR, lasts_ms=MS_PER_HOUR)
    assert follow(one, MS_PER_HOUR - 2 * (60_000 + SEEN_MS) - 1) == []
    assert told(one, follow(one, 1)) == [("miner", "end"), ("spot", "end")]


def test_two_who_share_a_node_without_accelerators_both_go_so_that_it_sleeps() -> None:
    """The end of neither sheds anything by itself."""
    one = lab()
    light = {"resources": Resources("", 0, 250, 16), "site": FJORD, "flex": Flex.PREEMPTIBLE}
    first, second = one.submit(job("one", **light), job("two", **light))
    for workload in (first, second):
        one.put(workload, "fjord/b/g-0-0", mask=0)
        one.report(PlacementId(f"{workload}.1"), RUNNING)
    assert draws_w(one) == 4 * IDLE_W + WAKE_W
    instruct(one, 4 * IDLE_W)
    assert sorted(told(one, follow(one))) == [("one", "end"), ("two", "end")]


def test_an_instruction_that_is_repeated_or_loosened_gives_no_new_time_to_meet_it() -> None:
    """Whoever changes a word of it each minute would never have to be obeyed; a stricter one has its own time."""
    one = lab()
    first = Instruction(EVENING, FJORD, 5_000, one.now_ms)
    one.do(c.Instruct(first))
    due_ms = one.state.instructions[EVENING].due_ms
    one.now_ms += 20_000
    one.do(c.Instruct(replace(first, limit_w=6_000, note="a word more")))
    assert one.state.instructions[EVENING].due_ms == due_ms
    one.do(c.Instruct(replace(first, limit_w=4_000)))
    assert one.state.instructions[EVENING].due_ms == one.now_ms + RESPONSE_MS


def test_who_fits_only_where_nobody_has_to_be_woken_gets_a_node_there() -> None:
    """Though another node would be the first choice: the floor has no room for one more that stays awake."""
    one = lab(firm_w=4 * IDLE_W + WAKE_W, flexible_w=10_000)
    (light,) = one.submit(job("light", resources=Resources("", 0, 250, 16), site=FJORD))
    one.put(light, "fjord/b/g-1-1", mask=0)
    one.submit(PAUSABLE, replace(PAUSABLE, name="second"))
    (placement,) = one.place()
    assert [rank.node for rank in one.state.placements[placement].ranks] == ["fjord/b/g-1-1"]
