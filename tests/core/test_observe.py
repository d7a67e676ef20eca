"""What engines report, decided: a gang lives and dies as one, usage never goes back, and each end has its consequence."""

import copy
from dataclasses import replace

import pytest

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.ids import NodeId, PlacementId, WorkloadId
from headrace.core.metering import UsageRow
from headrace.core.observation import NodeReport, PlacementReport, RankReport, RankState
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import EndReason, Flex, State, Workload, WorkloadSpec, WorkloadType
from tests.core.small import (
    LOST,
    PAUSED,
    RUNNING,
    START_MS,
    STARTING,
    Core,
    core,
    ended,
    job,
    service,
)


def lost(number: int, running_ms: int = 0) -> RankReport:
    return RankReport(number, LOST, running_ms=running_ms, estimated=True)


def running(number: int, running_ms: int = 0, paused_ms: int = 0) -> RankReport:
    return RankReport(number, RUNNING, running_ms, paused_ms)


def kinds(events: list[ev.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def state_of(work: Workload) -> State:
    return work.state


def usage(one: Core) -> list[tuple[int, int]]:
    return [(row.running_ms, row.paused_ms) for row in one.rows if isinstance(row, UsageRow)]


# -- gangs -------------------------------------------------------------------------------------------------------------


def test_a_gang_runs_when_all_of_its_ranks_do() -> None:
    """Not before; and its endpoints and isolation are on record."""
    one = core()
    ident = one.submit(job(nodes=3))[0]
    (placement,) = one.place()
    for ranks in ((STARTING,) * 3, (RUNNING, STARTING, RUNNING)):
        assert one.report(placement, *ranks) == []
        assert one.state.workloads[ident].state is State.PLACED
    found = PlacementReport(
        placement, one.state.epoch, tuple(RankReport(n, RUNNING) for n in range(3)), {"http": "h:1"}
    )
    assert one.made(c.Observe((found,), isolation="uid")) == [
        ev.PlacementStarted(placement, {"http": "h:1"}, "uid")
    ]
    assert one.state.placements[placement].endpoints == {"http": "h:1"}
    assert one.state.placements[placement].isolation == "uid"
    assert one.made(c.Observe((found,), isolation="uid")) == []


def test_a_gang_with_one_failed_rank_takes_the_others_with_it_and_fails_whole() -> None:
    """The job's end says which rank it was, and every rank's code and usage is kept."""
    one = core()
    work, placement = one.started(job(nodes=3))
    (event,) = one.report(placement, running(0), ended(1, 3), running(2))
    assert event == ev.EvictionRequested(placement, EndReason.RANK_FAILED, "rank 1 ended with exit code 3")
    assert state_of(work) is State.STOPPING
    assert one.report(placement, running(0), ended(1, 3), running(2)) == []
    codes = (ended(0, 143, running_ms=5_000), ended(1, 3, running_ms=1_000), ended(2, 137, running_ms=6_000))
    (end,) = one.report(placement, *codes)
    assert isinstance(end, ev.PlacementEnded)
    assert (end.reason, end.exit_codes) == (EndReason.RANK_FAILED, (143, 3, 137))
    assert state_of(work) is State.FAILED
    assert work.reason == "rank 1 ended with exit code 3"
    assert usage(one) == [(12_000, 0)]
    assert one.state.placements == {}


def test_a_gang_that_lost_a_rank_with_its_node_goes_back_to_the_queue_whole() -> None:
    """At once: it is no fault of its own. What it used is billed, and marked as estimated."""
    one = core()
    work, placement = one.started(job(nodes=2))
    (event,) = one.report(placement, running(0), lost(1))
    assert isinstance(event, ev.EvictionRequested)
    assert event.reason is EndReason.NODE_LOST
    events = one.report(placement, ended(0, 143, running_ms=9_000), lost(1, 4_000))
    assert kinds(events) == ["PlacementEnded", "WorkloadRequeued"]
    assert isinstance(events[0], ev.PlacementEnded)
    assert events[0].exit_codes == (143, -1)
    assert events[0].estimated
    assert state_of(work) is State.QUEUED
    assert work.not_before_ms == 0
    assert usage(one) == [(13_000, 0)]
    assert one.place() == [f"{work.id}.2"]


def test_a_rank_that_ends_well_before_the_others_is_no_failure() -> None:
    """The gang has succeeded when all of them have."""
    one = core()
    work, placement = one.started(job(nodes=2))
    assert one.report(placement, ended(0), running(1)) == []
    assert kinds(one.report(placement, ended(0), ended(1))) == ["PlacementEnded"]
    assert state_of(work) is State.SUCCEEDED
    assert work.exit_codes == (0, 0)


def test_an_end_that_was_never_seen_running_is_an_end() -> None:
    """A job of a moment is over at the first look: it succeeded, and what it used counts."""
    one = core()
    ident = one.submit(job())[0]
    (placement,) = one.place()
    assert kinds(one.report(placement, ended(0, running_ms=70))) == ["PlacementStarted", "PlacementEnded"]
    assert one.state.workloads[ident].state is State.SUCCEEDED
    assert usage(one) == [(70, 0)]


def test_a_report_of_too_few_ranks_or_of_a_strange_placement_says_nothing() -> None:
    """Nothing is decided on half a truth."""
    one = core()
    _, placement = one.started(job(nodes=2))
    before = copy.deepcopy(one.state)
    assert one.report(placement, ended(0)) == []
    assert one.report(PlacementId("acme-9.1"), ended(0)) == []
    assert replace(one.state, verdicts={}, version=0) == replace(before, verdicts={}, version=0)


# -- what follows an end -----------------------------------------------------------------------------------------------


def test_a_start_that_failed_is_tried_again_after_a_wait_that_doubles() -> None:
    """One second, two, four; a try that is too early is not planned."""
    one = core()
    ident = one.submit(job())[0]
    work = one.state.workloads[ident]
    waits = []
    for attempt in range(1, 6):
        (placement,) = one.place()
        assert placement == f"{ident}.{attempt}"
        failed = ended(0, 126, reason="start_failed", detail="no such user")
        events = one.report(placement, failed)
        assert kinds(events) == ["PlacementEnded", "WorkloadRequeued"]
        assert state_of(work) is State.QUEUED
        assert work.reason == "rank 0 did not start: no such user"
        waits.append(work.not_before_ms - one.now_ms)
        one.now_ms = work.not_before_ms - 1
        assert one.place() == []
        one.now_ms += 1
    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000]


def test_a_start_that_can_not_be_ordered_is_stopped_and_ends_when_the_engine_says_so() -> None:
    """Its answer may have been lost: until the engine knows, its nodes are not given to others."""
    one = core()
    ident = one.submit(job())[0]
    (placement,) = one.place()
    order = c.Observe((), failed=((placement, "no answer"),))
    assert one.made(order) == [ev.EvictionRequested(placement, EndReason.START_FAILED, "no answer")]
    assert one.made(order) == []
    assert placement in one.state.placements
    events = one.missing(placement)
    assert kinds(events) == ["PlacementEnded", "WorkloadRequeued"]
    assert one.state.workloads[ident].not_before_ms == one.now_ms + 1_000
    assert usage(one) == []


def test_what_started_after_all_is_no_failed_start() -> None:
    """The engine's word goes before the lost answer's."""
    one = core()
    _, placement = one.started(job())
    assert one.made(c.Observe((), failed=((placement, "no answer"),))) == []


@pytest.mark.parametrize("reason", [EndReason.PREEMPTED, EndReason.DRAINED])
def test_what_had_to_make_room_is_queued_again_at_once(reason: EndReason) -> None:
    """With its old place in the line, and whatever its exit code."""
    for code in (0, 143):
        one = core()
        work, placement = one.started(job(flex=Flex.PREEMPTIBLE))
        one.state.placements[placement].stop_reason = reason
        work.state = State.STOPPING
        assert kinds(one.report(placement, ended(0, code))) == ["PlacementEnded", "WorkloadRequeued"]
        assert state_of(work) is State.QUEUED
        assert work.not_before_ms == 0


@pytest.mark.parametrize("code", [0, 1, 137])
@pytest.mark.parametrize("kind", [WorkloadType.SERVICE, WorkloadType.FILLER, WorkloadType.CLUSTER])
def test_a_service_that_ends_by_itself_comes_back_after_a_wait(kind: WorkloadType, code: int) -> None:
    """So do fillers and clusters; a service that dies at once does not spin."""
    one = core()
    spec = job(type=kind)
    work, placement = one.started(spec)
    assert kinds(one.report(placement, ended(0, code))) == ["PlacementEnded", "WorkloadRequeued"]
    assert state_of(work) is State.QUEUED
    assert work.not_before_ms == one.now_ms + 1_000


@pytest.mark.parametrize("code", [0, 143, 137])
@pytest.mark.parametrize("spec", [job(), service()], ids=["job", "service"])
def test_what_was_stopped_stays_stopped(spec: WorkloadSpec, code: int) -> None:
    """However it ended on the signal."""
    one = core()
    work, placement = one.started(spec)
    one.do(c.Stop(work.id))
    assert kinds(one.report(placement, ended(0, code))) == ["PlacementEnded"]
    assert state_of(work) is State.STOPPED


def test_a_stop_during_an_eviction_ends_it_for_good() -> None:
    """Who is on the way out is not queued again once its owner stopped it."""
    one = core()
    work, placement = one.started(service())
    node = NodeId(one.state.placements[placement].ranks[0].node)
    one.do(c.SetNodes((node,), "draining", "a fan", evict=True))
    assert one.state.placements[placement].stop_reason is EndReason.DRAINED
    since = one.state.placements[placement].stop_since_ms
    one.now_ms += 1_000
    assert kinds(one.made(c.Stop(work.id))) == ["StopRequested"]
    assert one.state.placements[placement].stop_since_ms == since
    one.report(placement, ended(0, 143))
    assert state_of(work) is State.STOPPED


def test_an_eviction_after_a_stop_changes_nothing() -> None:
    """Nor does a rank that then ends badly, or a node that is lost."""
    one = core()
    work, placement = one.started(job(nodes=2))
    one.do(c.Stop(work.id))
    node = NodeId(one.state.placements[placement].ranks[0].node)
    assert kinds(one.made(c.SetNodes((node,), "draining", "a fan", evict=True))) == ["NodeStateChanged"]
    assert one.report(placement, ended(0, 1), running(1)) == []
    one.report(placement, ended(0, 1), lost(1))
    assert state_of(work) is State.STOPPED


def test_what_reached_its_longest_duration_has_failed_and_a_service_does_not_come_back() -> None:
    """It says why."""
    for spec in (job(max_duration_ms=1_000), service(max_duration_ms=1_000)):
        one = core()
        work, placement = one.started(spec)
        one.report(placement, ended(0, 143, reason="max_duration"))
        assert state_of(work) is State.FAILED
        assert work.reason == "reached its max_duration"


def cluster(nodes: int = 1) -> WorkloadSpec:
    """Nodes leased whole, for a second."""
    return job(type=WorkloadType.CLUSTER, max_duration_ms=1_000, nodes=nodes)


def test_a_lease_that_lasted_for_its_time_has_stopped_as_it_was_asked_to() -> None:
    """It did not fail, and it does not come back."""
    one = core()
    work, placement = one.started(cluster())
    (end,) = one.report(placement, ended(0, 143, reason="max_duration"))
    assert isinstance(end, ev.PlacementEnded)
    assert (end.reason, end.exit_codes, end.detail) == (EndReason.STOPPED, (143,), "reached its max_duration")
    assert (state_of(work), work.reason) == (State.STOPPED, "reached its max_duration")


@pytest.mark.parametrize("code", [0, 143])
def test_the_time_of_a_gang_is_over_with_that_of_its_first_rank(code: int) -> None:
    """It did not fail at that: what comes back after a failure, a service or a lease, stays away."""
    for spec, after in (
        (job(nodes=2, max_duration_ms=1_000), State.FAILED),
        (service(nodes=2, max_duration_ms=1_000), State.FAILED),
        (cluster(nodes=2), State.STOPPED),
    ):
        one = core()
        work, placement = one.started(spec)
        (eviction,) = one.report(placement, ended(0, code, reason="max_duration"), running(1))
        assert eviction == ev.EvictionRequested(placement, EndReason.MAX_DURATION, "reached its max_duration")
        assert one.report(placement, ended(0, code, reason="max_duration"), running(1)) == []
        events = one.report(placement, ended(0, code, reason="max_duration"), ended(1, 143))
        assert kinds(events) == ["PlacementEnded"]
        assert (state_of(work), work.reason) == (after, "reached its max_duration")


def test_a_lease_that_no_engine_knows_after_its_time_does_not_come_back() -> None:
    """Its end was not seen; that its time was over was."""
    one = core()
    work, placement = one.started(cluster(nodes=2))
    one.report(placement, ended(0, 143, reason="max_duration"), running(1))
    (end,) = one.missing(placement)
    assert isinstance(end, ev.PlacementEnded)
    assert (end.reason, end.estimated) == (EndReason.STOPPED, True)
    assert (state_of(work), work.reason) == (State.STOPPED, "reached its max_duration")


def test_a_lease_that_went_before_its_time_comes_back() -> None:
    """With a node, or by itself."""
    for rank in (lost(0), ended(0, 143)):
        one = core()
        work, placement = one.started(cluster())
        one.report(placement, rank)
        assert state_of(work) is State.QUEUED


# -- what no engine knows any more -------------------------------------------------------------------------------------


def test_a_placement_that_no_engine_knows_ends_with_what_was_metered() -> None:
    """Its end was not seen: it is marked estimated, and its workload goes back to the queue."""
    one = core()
    work, placement = one.started(job())
    one.report(placement, running(0, 7_000), meter_ms=0)
    events = one.missing(placement)
    assert kinds(events) == ["PlacementEnded", "WorkloadRequeued"]
    (end, _) = events
    assert isinstance(end, ev.PlacementEnded)
    assert (end.reason, end.exit_codes, end.estimated) == (EndReason.NODE_LOST, (-1,), True)
    assert usage(one) == [(7_000, 0)]
    assert state_of(work) is State.QUEUED
    assert one.missing(placement) == []


def test_a_placement_that_was_to_stop_and_is_missing_has_stopped() -> None:
    """The reason is the one it had."""
    one = core()
    work, placement = one.started(service())
    one.do(c.Stop(work.id))
    assert kinds(one.missing(placement)) == ["PlacementEnded"]
    assert state_of(work) is State.STOPPED


# -- usage -------------------------------------------------------------------------------------------------------------


def test_usage_never_goes_back_when_a_report_is_lower() -> None:
    """A record that lost its tail takes nothing back, and what comes after it is counted from the highest."""
    one = core()
    _, placement = one.started(job(nodes=2))
    for first, second in ((10_000, 9_000), (4_000, 9_500), (0, 0), (11_000, 9_500)):
        one.report(placement, running(0, first), running(1, second), meter_ms=0)
    one.report(placement, ended(0, running_ms=10_500), ended(1, running_ms=9_000))
    assert one.state.usage.by_key
    assert sum(ran for ran, _ in usage(one)) == 11_000 + 9_500


def test_usage_is_metered_when_it_is_due_and_not_before() -> None:
    """Each placement by its own last time; with zero at once, without a number never."""
    one = core()
    _, placement = one.started(job())
    hour = MS_PER_HOUR
    one.now_ms = START_MS + hour - 1
    assert one.report(placement, running(0, 1), meter_ms=hour) == []
    one.now_ms += 1
    assert one.report(placement, running(0, 2), meter_ms=None) == []
    assert kinds(one.report(placement, running(0, 3), meter_ms=hour)) == ["UsageMetered"]
    one.now_ms += hour - 1
    assert one.report(placement, running(0, 4), meter_ms=hour) == []
    assert kinds(one.report(placement, running(0, 5), meter_ms=0)) == ["UsageMetered"]
    # Nothing was used since: nothing to record.
    assert one.report(placement, running(0, 5), meter_ms=0) == []
    assert usage(one) == [(3, 0), (2, 0)]


def test_nothing_is_metered_of_what_has_not_started() -> None:
    """A rank that waits for the others is not yet paid for; its time comes with the first reading after."""
    one = core()
    one.submit(job(nodes=2))
    (placement,) = one.place()
    assert one.report(placement, running(0, 900), STARTING, meter_ms=0) == []
    events = one.report(placement, running(0, 1_000), running(1, 100), meter_ms=0)
    assert kinds(events) == ["PlacementStarted", "UsageMetered"]
    assert usage(one) == [(1_100, 0)]


# -- pauses ------------------------------------------------------------------------------------------------------------


def test_a_pause_is_what_the_engine_saw_and_not_what_was_asked() -> None:
    """Paused when every rank is; running when every rank runs again; between the two, as it was."""
    one = core()
    work, placement = one.started(job(nodes=2))
    one.do(c.Pause(work.id, pause=True))
    assert state_of(work) is State.RUNNING
    assert placement in one.world.unsettled
    assert one.report(placement, RUNNING, PAUSED) == []
    assert one.report(placement, PAUSED, PAUSED) == [ev.PauseObserved(placement, True)]
    assert state_of(work) is State.PAUSED
    assert placement not in one.world.unsettled
    one.do(c.Pause(work.id, pause=False))
    assert one.report(placement, RUNNING, PAUSED) == []
    assert state_of(work) is State.PAUSED
    assert one.report(placement, RUNNING, RUNNING) == [ev.PauseObserved(placement, False)]
    assert state_of(work) is State.RUNNING


def test_what_ends_while_it_is_paused_ends() -> None:
    """Stopped or killed: a pause holds nothing back, and its time is kept apart."""
    one = core()
    work, placement = one.started(job())
    one.do(c.Pause(work.id, pause=True))
    one.report(placement, RankReport(0, PAUSED, 2_000, 3_000), meter_ms=0)
    assert state_of(work) is State.PAUSED
    one.report(placement, RankReport(0, RankState.EXITED, 2_000, 8_000, 137))
    assert state_of(work) is State.FAILED
    assert usage(one) == [(2_000, 3_000), (0, 5_000)]


def test_a_pause_is_forgotten_when_its_placement_goes() -> None:
    """What starts again starts running."""
    one = core()
    work, placement = one.started(service())
    one.do(c.Pause(work.id, pause=True))
    one.missing(placement)
    assert not work.pause_wanted
    (again,) = one.place()
    one.report(again, RUNNING)
    assert again not in one.world.unsettled


# -- nodes -------------------------------------------------------------------------------------------------------------


def test_a_node_that_is_down_gets_no_work_until_it_is_up_again() -> None:
    """Said once each way, with the reason."""
    one = core()
    node = NodeId("fjord/b/g-0-0")
    (down,) = one.node(node, up=False, reason="no heartbeat")
    assert down == ev.NodeStateChanged(node, "down", "no heartbeat")
    assert one.node(node, up=False, reason="no heartbeat") == []
    assert one.state.nodes == {node: ("down", "no heartbeat")}
    assert one.put(one.submit(job())[0], node).rejected == (("acme-1", "NODE_STATE"),)
    (up,) = one.node(node, up=True)
    assert up == ev.NodeStateChanged(node, "ready", "back up after: no heartbeat")
    assert one.node(node, up=True) == []
    assert one.state.nodes == {}
    assert one.put(WorkloadId("acme-1"), node).made == ("acme-1.1",)


def test_what_had_not_begun_on_a_node_that_went_down_waits_for_another_and_what_runs_there_is_its_engines_to_end() -> (
    None
):
    """A cluster keeps an order for a node that is down for ever; of what runs there it says itself what became of it."""
    one, node = core(), NodeId("fjord/b/g-0-0")
    runs, waits = one.submit(job(), job())
    (begun,) = one.put(runs, node).made
    one.report(begun, RUNNING)
    (unbegun,) = one.put(waits, node, mask=2).made
    down, evicted = one.node(node, up=False, reason="no heartbeat")
    detail = "it had not begun, and fjord/b/g-0-0 went down: no heartbeat"
    assert isinstance(down, ev.NodeStateChanged)
    assert evicted == ev.EvictionRequested(unbegun, EndReason.NODE_LOST, detail)
    assert one.node(node, up=False, reason="still none") == []


def test_a_node_that_is_drained_is_not_made_ready_by_its_engine() -> None:
    """Being up is the engine's word; being in service is the operator's."""
    one = core()
    node = NodeId("fjord/b/g-0-0")
    one.do(c.SetNodes((node,), "draining", "a fan"))
    assert one.node(node, up=True) == []
    # Nor after it was down: it comes up to be repaired, not to be placed on.
    assert one.node(node, up=False) == []
    assert one.node(node, up=True) == []
    assert one.state.nodes == {node: ("draining", "a fan")}


def test_a_node_that_the_estate_does_not_have_is_nobodys() -> None:
    """An engine may know more machines than the estate declares."""
    one = core()
    assert one.made(c.Observe((), nodes=(NodeReport(NodeId("fjord/b/g-9-9"), up=False),))) == []
    assert one.state.nodes == {}


def test_a_node_that_goes_down_again_and_again_gets_no_work_until_somebody_undrains_it() -> None:
    """Three times within an hour: cordoned with the reason; three times in two hours is bad luck."""
    node = NodeId("fjord/b/g-0-0")
    for between_ms, state in ((MS_PER_HOUR // 6, "draining"), (MS_PER_HOUR * 2 // 3, "ready")):
        one = core()
        last: ev.Event | None = None
        for _ in range(3):
            one.node(node, up=False, reason="no heartbeat")
            one.now_ms += between_ms
            (last,) = one.node(node, up=True)
        assert isinstance(last, ev.NodeStateChanged)
        assert last.state == state


def test_a_flapping_node_says_why_and_is_forgiven_once_somebody_undrained_it() -> None:
    """Its falls count from then on."""
    one, node = core(), NodeId("fjord/b/g-0-0")
    last: ev.Event | None = None
    for _ in range(3):
        one.node(node, up=False, reason="no heartbeat")
        (last,) = one.node(node, up=True)
    reason = "flapping: it went down 3 times within an hour, last after: no heartbeat"
    assert last == ev.NodeStateChanged(node, "draining", reason)
    assert one.node(node, up=True) == []
    one.do(c.SetNodes((node,), "ready"))
    one.node(node, up=False, reason="a fan")
    assert one.node(node, up=True) == [ev.NodeStateChanged(node, "ready", "back up after: a fan")]
