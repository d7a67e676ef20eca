"""Reconcile: what is wanted happens once, whatever gets lost on the way; and nothing is asked or forgotten too soon."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headrace.control import SYSTEM, Caller, Control
from headrace.core import commands as c
from headrace.core.errors import Problem, ProblemCode
from headrace.core.ids import Epoch, NodeId, PlacementId, WorkloadId
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.workload import EndReason, State, WorkloadSpec, WorkloadType
from headrace.documents import load
from headrace.engines.fake import FakeEngine
from headrace.journal.sqlite import JournalUnavailable, SqliteStore
from headrace.ports import FIRST_TENANT_UID, EngineError, PlacementReport, RankState, StartOrder
from headrace.reconcile import (
    ASK_AGAIN_MOST_MS,
    ASK_AGAIN_MS,
    MISSING_MS,
    MISSING_STOP_MS,
    START_TRIES,
    WALK_MS,
    Reconciler,
    replica_key,
)
from tests.journal.small import ACME, DOCUMENTS, SeededBytes, SetClock, job, keys, place, submit

LONG = ("sleep 3600",)


class Store(SqliteStore):
    """A store whose disk can be full."""

    full = False

    def append(self, *args: Any, **more: Any) -> None:
        if self.full:
            raise JournalUnavailable("disk full")
        super().append(*args, **more)


class Watched(Control):
    """A control loop that remembers what it was told of engines."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.told: list[c.Observe] = []

    def execute(self, caller: Caller, command: c.Command, key: str = "", asked: str = "") -> c.Reply:
        if isinstance(command, c.Observe):
            self.told.append(command)
        return super().execute(caller, command, key, asked)


class Engine(FakeEngine):
    """The fake engine, remembering what it was asked; it can be silent."""

    silent = False

    def __init__(self, clock: SetClock) -> None:
        super().__init__(clock, heartbeat_ms=1_000)
        self.orders: list[StartOrder] = []
        self.stops: list[PlacementId] = []

    def start(self, order: StartOrder) -> None:
        self.orders.append(order)
        super().start(order)

    def stop(self, placement: PlacementId, grace_ms: int) -> None:
        self.stops.append(placement)
        super().stop(placement, grace_ms)

    def observe(self) -> Sequence[PlacementReport]:
        if self.silent:
            raise EngineError(Problem(ProblemCode.ENGINE_UNAVAILABLE, "no answer."))
        return super().observe()

    @property
    def known(self) -> list[PlacementId]:
        return [report.placement for report in super().observe()]


@dataclass
class Plant:
    """A control loop, its engine and the loop that joins them."""

    store: Store
    clock: SetClock
    control: Watched
    engine: Engine
    reconciler: Reconciler

    def round(self, *, ms: int = 1_000, plan: bool = True) -> None:
        """Plan, act, let time pass, look; each durable before the next."""
        if plan:
            place(self.control)
        self.reconciler.act()
        self.clock.at_ms += ms
        self.look()

    def look(self) -> None:
        self.reconciler.observe()
        self.control.commit()

    def rounds(self, count: int, *, ms: int = 1_000, plan: bool = True) -> None:
        for _ in range(count):
            self.round(ms=ms, plan=plan)

    def submit(self, spec: WorkloadSpec, **more: Any) -> WorkloadId:
        return submit(self.control, spec.name, spec, **more)[0]

    def state_of(self, ident: WorkloadId) -> State:
        return self.control.world.state.workloads[ident].state

    @property
    def placements(self) -> list[PlacementId]:
        return list(self.control.world.state.placements)

    def billed_ms(self) -> int:
        return sum(one.running_ms for one in self.control.world.state.usage.by_key.values())


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    clock, store = SetClock(), Store(tmp_path / "journal.sqlite")
    control = Watched(store, keys(), clock, random=SeededBytes())
    control.execute(SYSTEM, c.StartControl("small", "0.1.0", "boot"))
    documents = load(DOCUMENTS.encode(), "small")
    control.execute(
        SYSTEM,
        c.ApplyDocuments(
            tuple(c.NormalisedDocument(one.kind, one.name, one.normalised) for one in documents)
        ),
    )
    control.commit()
    engine = Engine(clock)
    reconciler = Reconciler(control, {"fake": engine})
    reconciler.fence()
    yield Plant(store, clock, control, engine, reconciler)
    store.close()


# -- starting ----------------------------------------------------------------------------------------------------------


def test_nothing_is_asked_of_an_engine_before_what_wants_it_is_durable(plant: Plant) -> None:
    """A start and a stop that a crash would take back were never asked."""
    ident = plant.submit(job("a", commands=LONG))
    snapshot = plant.control.world.snapshot(plant.clock.at_ms)
    plant.control.execute(SYSTEM, c.AdoptPlan(plan(snapshot, PlanLimits())))
    plant.reconciler.act()
    assert plant.engine.orders == []
    plant.control.commit()
    plant.round()
    assert plant.state_of(ident) is State.RUNNING
    plant.control.execute(SYSTEM, c.Stop(ident))
    plant.reconciler.act()
    assert plant.engine.stops == []
    plant.control.commit()
    plant.reconciler.act()
    assert plant.engine.stops == [f"{ident}.1"]


def test_a_start_whose_answer_is_lost_is_asked_again_and_runs_once(plant: Plant) -> None:
    """The engine did start it: what it reports goes before what it did not answer."""
    plant.engine.faults.lose_next_acks = 1
    plant.engine.faults.observe_delay_ms = 3 * ASK_AGAIN_MS
    ident = plant.submit(job("a", commands=LONG))
    plant.rounds(12)
    assert len(plant.engine.orders) > 1
    assert plant.engine.starts == {f"{ident}.1": 1}
    assert plant.state_of(ident) is State.RUNNING


def test_an_engine_is_asked_again_only_after_a_while(plant: Plant) -> None:
    """Rounds come ten times a second; orders don't."""
    plant.engine.faults.refusing = True
    plant.submit(job("a", commands=LONG))
    for _ in range(10):
        plant.round(ms=ASK_AGAIN_MS // 10)
    assert len(plant.engine.orders) == 1
    plant.round(ms=ASK_AGAIN_MS // 10)
    assert len(plant.engine.orders) == 2


def test_an_engine_that_takes_an_order_and_shows_nothing_is_asked_ever_more_rarely(plant: Plant) -> None:
    """Tens of thousands that it has still to start must not be asked for every two seconds."""
    plant.engine.faults.observe_delay_ms = 100 * ASK_AGAIN_MOST_MS
    ident = plant.submit(job("a", commands=LONG))
    place(plant.control)
    plant.reconciler.act()
    waits_ms = []
    for _ in range(7):
        asked, since_ms = len(plant.engine.orders), plant.clock.at_ms
        while len(plant.engine.orders) == asked:
            plant.clock.at_ms += ASK_AGAIN_MS // 2
            plant.reconciler.act()
        waits_ms.append(plant.clock.at_ms - since_ms)
    assert waits_ms == [2_000, 4_000, 8_000, 16_000, 32_000, ASK_AGAIN_MOST_MS, ASK_AGAIN_MOST_MS]
    assert plant.engine.starts == {f"{ident}.1": 1}
    # What is wanted now is another thing: that does not wait.
    plant.control.execute(SYSTEM, c.Stop(ident))
    plant.control.commit()
    plant.reconciler.act()
    assert plant.engine.stops == [f"{ident}.1"]


def test_an_order_that_its_engine_shows_is_not_given_again(plant: Plant) -> None:
    """A job may wait in a cluster's own queue for days: the engine has it, and says so. Once it does not, it is asked again."""
    plant.engine.faults.start_delay_ms = 1_000 * ASK_AGAIN_MOST_MS
    plant.submit(job("a", commands=LONG))
    plant.rounds(100)
    assert plant.engine.known == plant.placements
    assert len(plant.engine.orders) == 1
    plant.engine = Engine(plant.clock)
    plant.reconciler.engines = {"fake": plant.engine}
    plant.rounds(1 + ASK_AGAIN_MOST_MS // 1_000)
    assert len(plant.engine.orders) == 1
    assert plant.engine.known == plant.placements


def test_asking_goes_on_where_it_was_interrupted(plant: Plant) -> None:
    """Whoever has no time for more than one order at once still asks for all, each once, in order; the newest come last."""
    idents = [plant.submit(job(name, commands=LONG)) for name in ("a", "b")]
    place(plant.control)
    assert plant.reconciler.act(lambda: True)
    late = plant.submit(job("c", commands=LONG))
    place(plant.control)
    while plant.reconciler.act(lambda: True):
        pass
    assert [order.workload for order in plant.engine.orders] == idents
    while plant.reconciler.act(lambda: True):
        pass
    assert [order.workload for order in plant.engine.orders] == [*idents, late]


def test_what_ended_while_asking_was_interrupted_is_not_asked_for(plant: Plant) -> None:
    """The list of what is wanted was made before; what it names may be gone or settled."""
    idents = [plant.submit(job(name, commands=LONG)) for name in ("a", "b", "c")]
    place(plant.control)
    assert plant.reconciler.act(lambda: True)
    plant.control.execute(SYSTEM, c.Observe((), missing=(PlacementId(f"{idents[1]}.1"),)))
    plant.control.commit()
    while plant.reconciler.act(lambda: True):
        pass
    assert [order.workload for order in plant.engine.orders] == [idents[0], idents[2]]


def test_a_start_that_is_refused_for_good_goes_back_to_the_queue(plant: Plant) -> None:
    """After so many tries; then it is stopped, found missing, and planned again after a wait."""
    plant.engine.faults.refusing = True
    ident = plant.submit(job("a", commands=LONG))
    plant.round()
    while plant.state_of(ident) is State.PLACED:
        plant.round(ms=ASK_AGAIN_MS)
    assert len(plant.engine.orders) == START_TRIES
    assert "can't be started now" in plant.control.world.state.workloads[ident].reason
    assert (
        plant.control.world.state.placements[PlacementId(f"{ident}.1")].stop_reason is EndReason.START_FAILED
    )
    plant.engine.faults.refusing = False
    plant.rounds(2 + MISSING_STOP_MS // 1_000)
    assert plant.placements == [f"{ident}.2"]
    plant.rounds(3)
    assert plant.state_of(ident) is State.RUNNING
    assert plant.engine.starts == {f"{ident}.2": 1}


def test_a_refused_start_that_did_run_is_ended_and_billed(plant: Plant) -> None:
    """Every answer was lost and nothing was seen of it: it runs once, is stopped, and what it used counts."""
    plant.engine.faults.lose_ack_permille = 1_000
    plant.engine.faults.observe_delay_ms = (START_TRIES + 1) * ASK_AGAIN_MS
    ident = plant.submit(job("a", commands=LONG))
    first = PlacementId(f"{ident}.1")
    plant.round()
    while plant.state_of(ident) is State.PLACED:
        plant.round(ms=ASK_AGAIN_MS, plan=False)
    plant.engine.faults.lose_ack_permille = plant.engine.faults.observe_delay_ms = 0
    plant.rounds(30, plan=False)
    assert first not in plant.placements
    assert plant.engine.starts == {first: 1}
    assert plant.billed_ms() == sum(one.running_ms for one in plant.engine.ran) > 0


def test_reports_are_heard_in_parts_and_none_is_lost(plant: Plant) -> None:
    """So many ranks at once, and whether there is more; metering, too, comes to all of them once."""
    idents = [plant.submit(job(name, commands=("sleep 90000",))) for name in ("a", "b", "c")]
    place(plant.control)
    plant.reconciler.act()
    plant.clock.at_ms += 1_000
    seen = []
    more = True
    while more:
        more = plant.reconciler.observe(at_most=1)
        plant.control.commit()
        seen.append([plant.state_of(ident) for ident in idents].count(State.RUNNING))
    assert seen == [1, 2, 3]
    plant.clock.at_ms += plant.reconciler.meter_every_ms
    metered = []
    more = True
    while more:
        more = plant.reconciler.observe(at_most=1)
        plant.control.commit()
        placements = plant.control.world.state.placements.values()
        metered.append(sum(one.metered_ms == plant.clock.at_ms for one in placements))
    assert metered == [1, 2, 3]
    version = plant.control.world.state.version
    assert not plant.reconciler.observe(at_most=1)
    assert plant.control.world.state.version == version


def test_that_a_rank_ran_on_is_decided_on_only_when_it_is_metered(plant: Plant) -> None:
    """Thousands of ranks tell every few seconds how long they have run: then it is the newest that counts."""
    plant.submit(job("a", commands=("sleep 86400",)))
    plant.rounds(2)
    told = len(plant.control.told)
    plant.rounds(30)
    (report,) = plant.engine.observe()
    assert report.ranks[0].running_ms > 29_000
    assert len(plant.control.told) == told
    plant.reconciler.observe(meter_all=True)
    plant.control.commit()
    assert [one.reports for one in plant.control.told[told:]] == [[report]]
    assert plant.billed_ms() == report.ranks[0].running_ms


def test_what_the_world_forgot_is_ended_although_its_engine_says_nothing_new(plant: Plant) -> None:
    """All that is reported is compared with the world every second, whether it changed or not."""
    ident = plant.submit(job("a", commands=LONG))
    plant.rounds(2)
    plant.engine.faults.rate_permille = 0
    plant.look()
    before = plant.engine.observe()
    plant.control.execute(SYSTEM, c.Observe((), missing=(PlacementId(f"{ident}.1"),)))
    plant.control.commit()
    for _ in range(10):
        assert plant.engine.observe() is before
        assert plant.engine.stops == []
        plant.clock.at_ms += WALK_MS // 10
        plant.look()
    assert plant.engine.stops == [f"{ident}.1"]


# -- ending ------------------------------------------------------------------------------------------------------------


def test_an_end_is_forgotten_by_the_engine_only_once_it_is_durable(plant: Plant) -> None:
    """The commit fails: the record must still be there when the world is taken again. It is billed once."""
    ident = plant.submit(job("a", commands=("sleep 2",)))
    plant.round()
    plant.clock.at_ms += 2_000
    plant.store.full = True
    plant.reconciler.observe()
    # A second look before the commit is no leave to forget.
    plant.reconciler.observe()
    with pytest.raises(JournalUnavailable):
        plant.control.commit()
    assert plant.engine.known == [f"{ident}.1"]
    plant.control.recover()
    assert plant.state_of(ident) is State.RUNNING
    plant.store.full = False
    plant.look()
    assert plant.state_of(ident) is State.SUCCEEDED
    plant.look()
    assert plant.engine.known == []
    assert plant.billed_ms() == 2_000 == sum(one.running_ms for one in plant.engine.ran)


def test_what_was_seen_before_a_failed_commit_is_seen_again_after_the_recovery(plant: Plant) -> None:
    """The engine's report does not change, and yet it is news to the recovered world."""
    ident = plant.submit(job("a", commands=LONG))
    place(plant.control)
    plant.reconciler.act()
    plant.clock.at_ms += 1
    plant.store.full = True
    plant.reconciler.observe()
    assert plant.state_of(ident) is State.RUNNING
    with pytest.raises(JournalUnavailable):
        plant.control.commit()
    plant.control.recover()
    assert plant.state_of(ident) is State.PLACED
    plant.store.full = False
    plant.look()
    assert plant.state_of(ident) is State.RUNNING
    plant.rounds(5)
    assert plant.engine.starts == {f"{ident}.1": 1}


def test_what_runs_and_has_no_business_to_is_ended(plant: Plant) -> None:
    """A placement that no event made: stopped at once, and forgotten when it has ended."""
    plant.submit(job("a", commands=LONG))
    plant.round()
    stray = replace(plant.engine.orders[0], placement=PlacementId("acme-9.1"))
    plant.engine.start(stray)
    plant.clock.at_ms += 1
    plant.look()
    assert plant.engine.stops == ["acme-9.1"]
    plant.rounds(3)
    assert plant.engine.known == ["acme-1.1"]
    assert plant.state_of(WorkloadId("acme-1")) is State.RUNNING


def test_a_meter_may_hold_a_stop_back_for_a_last_look(plant: Plant) -> None:
    """Until it lets go; then it is stopped as ever."""
    ident = plant.submit(job("a", commands=LONG, type=WorkloadType.SERVICE))
    plant.rounds(2)
    asked: list[PlacementId] = []
    allowed = [False]

    def may_stop(placement: Any) -> bool:
        asked.append(placement.id)
        return allowed[0]

    plant.reconciler.may_stop = may_stop
    plant.control.execute(SYSTEM, c.Stop(ident))
    plant.control.commit()
    plant.rounds(3)
    assert asked == [f"{ident}.1"] * 3
    assert plant.engine.stops == []
    assert plant.state_of(ident) is State.STOPPING
    allowed[0] = True
    plant.rounds(2)
    assert plant.state_of(ident) is State.STOPPED


def test_an_engine_that_says_nothing_is_no_evidence_that_anything_ended(plant: Plant) -> None:
    """For however long; what it said before stands."""
    ident = plant.submit(job("a", commands=LONG))
    plant.rounds(2)
    plant.engine.silent = True
    plant.rounds(3, ms=MISSING_MS)
    assert plant.state_of(ident) is State.RUNNING
    plant.engine.silent = False
    plant.rounds(2)
    assert plant.state_of(ident) is State.RUNNING


def test_a_placement_that_its_engine_does_not_know_is_lost_after_half_a_minute(plant: Plant) -> None:
    """Not sooner: an engine that starts up has its records yet to read. Then it runs anew, elsewhere in time."""
    ident = plant.submit(job("a", commands=LONG))
    plant.rounds(2)
    plant.engine = Engine(plant.clock)
    plant.reconciler.engines = {"fake": plant.engine}
    plant.look()
    plant.clock.at_ms += MISSING_MS - 1
    plant.look()
    assert plant.placements == [f"{ident}.1"]
    plant.clock.at_ms += 1
    plant.look()
    assert plant.placements == []
    plant.rounds(2)
    assert plant.placements == [f"{ident}.2"]
    assert plant.state_of(ident) is State.RUNNING


def test_a_pause_is_asked_until_it_is_so_and_undone_likewise(plant: Plant) -> None:
    """By the engine's own reports."""
    ident = plant.submit(job("a", commands=LONG))
    plant.rounds(2)
    for pause, state in ((True, State.PAUSED), (False, State.RUNNING)):
        plant.control.execute(SYSTEM, c.Pause(ident, pause))
        plant.control.commit()
        plant.rounds(2)
        assert plant.state_of(ident) is state
        assert plant.control.world.unsettled == {}


def test_a_dead_nodes_work_runs_elsewhere_and_the_node_waits_for_its_return(plant: Plant) -> None:
    """Nobody has to do anything."""
    ident = plant.submit(job("a", commands=LONG))
    plant.rounds(2)
    placement = plant.control.world.state.placements[plant.placements[0]]
    node = NodeId(placement.ranks[0].node)
    plant.engine.kill_node(node)
    plant.rounds(3)
    again = plant.control.world.state.placements[plant.placements[0]]
    assert again.id == f"{ident}.2"
    assert again.ranks[0].node != node
    assert plant.state_of(ident) is State.RUNNING
    assert plant.control.world.state.nodes[node][0] == "down"
    plant.engine.revive_node(node)
    plant.round()
    assert plant.control.world.state.nodes == {}


def test_a_node_that_went_down_while_it_was_drained_is_down_once_it_is_taken_back(plant: Plant) -> None:
    """That somebody is done with a node makes no engine have it; it is back when its engine says so."""
    node = plant.control.world.fleet.node_ids[0]
    plant.control.execute(SYSTEM, c.SetNodes((node,), "draining", "work on it"))
    plant.control.commit()
    plant.round()
    plant.engine.kill_node(node, "unplugged")
    plant.round()
    assert plant.control.world.state.nodes[node] == ("draining", "work on it")
    plant.control.execute(SYSTEM, c.SetNodes((node,), "ready"))
    plant.control.commit()
    plant.round()
    assert plant.control.world.state.nodes[node] == ("down", "unplugged")
    plant.engine.revive_node(node)
    plant.round()
    assert plant.control.world.state.nodes == {}


# -- metering ----------------------------------------------------------------------------------------------------------


def test_what_runs_is_metered_every_hour_and_whenever_an_invoice_wants_it(plant: Plant) -> None:
    """Without any change of state; the sum is what the engine counted."""
    plant.submit(job("a", commands=("sleep 86400",)))
    plant.rounds(2)
    assert plant.billed_ms() == 0
    plant.rounds(61, ms=60_000)
    metered = plant.billed_ms()
    assert 0 < metered < 61 * 60_000 + 2_000
    plant.reconciler.observe(meter_all=True)
    plant.control.commit()
    (report,) = plant.engine.observe()
    assert plant.billed_ms() == report.ranks[0].running_ms


# -- orders ------------------------------------------------------------------------------------------------------------


def test_a_secret_is_opened_in_the_order_alone(plant: Plant, tmp_path: Path) -> None:
    """It is neither in the state nor in the store, only a reference; whoever starts it finds it in its environment."""
    plant.submit(job("a", commands=LONG), secrets={"PASSWORD": "correct horse"})
    plant.round()
    (order,) = plant.engine.orders
    assert order.env["PASSWORD"] == "correct horse"
    assert "correct horse" not in repr(plant.control.world.state)
    for path in tmp_path.iterdir():
        if path.is_file():
            assert b"correct horse" not in path.read_bytes()
    spec = plant.control.world.state.workloads[WorkloadId("acme-1")].spec
    assert spec.secrets["PASSWORD"].startswith("vault:")


def test_every_placement_of_a_replica_has_a_key_of_its_own(plant: Plant) -> None:
    """Of two services, of two attempts of one; derived, so that it can be said again."""
    spec = job("a", type=WorkloadType.SERVICE, commands=LONG, counters="llamacpp", ports={"http": 0})
    first = plant.submit(spec)
    plant.submit(replace(spec, name="b"))
    plant.rounds(2)
    plant.engine.lose_rank(PlacementId(f"{first}.1"), 0)
    plant.rounds(3)
    given = {order.placement: order.env["HEADRACE_API_KEY"] for order in plant.engine.orders}
    assert set(given) == {f"{first}.1", f"{first}.2", "acme-2.1"}
    assert len(set(given.values())) == 3
    root = plant.control.reveal(plant.control.world.state.workloads[first].spec.secrets["HEADRACE_API_KEY"])
    assert root not in given.values()
    assert given[PlacementId(f"{first}.1")] == replica_key(root, PlacementId(f"{first}.1"))


def test_an_order_says_all_that_an_engine_needs(plant: Plant) -> None:
    """Tenant and user, what each rank gets of which node, by the newest epoch."""
    plant.submit(job("a", commands=LONG, nodes=2, grace_ms=3_000, max_duration_ms=60_000))
    plant.round()
    (order,) = plant.engine.orders
    placement = plant.control.world.state.placements[plant.placements[0]]
    assert order.ranks == placement.ranks
    assert order.node_accelerators == (4, 4)
    assert order.node_cpu_milli == (4_000, 4_000)
    number = plant.control.world.state.tenants[ACME].number
    assert (order.tenant, order.tenant_uid) == (ACME, FIRST_TENANT_UID + number)
    assert (order.grace_ms, order.max_duration_ms) == (3_000, 60_000)
    assert order.epoch == plant.control.world.state.epoch


def test_a_superseded_control_plane_is_refused_by_the_engine(plant: Plant) -> None:
    """A newer one has fenced it: what the old one asks is not done."""
    plant.engine.fence(Epoch(plant.control.world.state.epoch + 1))
    ident = plant.submit(job("a", commands=LONG))
    plant.rounds(3)
    assert plant.engine.starts == {}
    assert plant.state_of(ident) is State.PLACED
    assert RankState.RUNNING not in [rank.state for report in plant.engine.observe() for rank in report.ranks]


# -- several engines --------------------------------------------------------------------------------------------------


def test_what_one_engine_lost_is_found_whatever_other_engines_there_are(plant: Plant) -> None:
    """Another engine, which has no site here, is looked at in the same rounds, before and after."""
    ident = plant.submit(job("a", commands=LONG))
    plant.rounds(2)
    plant.engine = Engine(plant.clock)
    plant.reconciler.engines = {
        "before": Engine(plant.clock),
        "fake": plant.engine,
        "later": Engine(plant.clock),
    }
    plant.look()
    plant.rounds(MISSING_MS // 1_000 + 3)
    assert plant.placements == [f"{ident}.2"]
    assert plant.state_of(ident) is State.RUNNING


def test_a_stop_before_the_order_ends_what_no_engine_knows(plant: Plant) -> None:
    """It was never started, and no engine says so for all others."""
    plant.reconciler.engines = {"before": Engine(plant.clock), "fake": plant.engine}
    ident = plant.submit(job("a", commands=LONG))
    place(plant.control)
    plant.control.execute(SYSTEM, c.Stop(ident))
    plant.control.commit()
    plant.rounds(MISSING_STOP_MS // 1_000 + 3)
    assert plant.placements == []
