"""The planner as the process that it is: it follows, proposes, dies and comes back; the writer takes only what is still right."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.ids import NodeId, PlacementId, SiteId, WorkloadId
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.workload import RankPlace, Resources, State
from headrace.journal.codec import JournalCorrupt
from headrace.journal.sqlite import SqliteStore
from headrace.planner import CHECKPOINT_EVERY, RANKS_AT_ONCE, Follower, FromPlanner, PlannerProcess, parts_of
from tests.journal.small import SetClock, begun, job, live_a_life, opened, place, submit

PATIENCE_S = 60.0


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def control(tmp_path: Path, clock: SetClock) -> Iterator[Control]:
    made = begun(tmp_path, clock=clock)
    yield made
    made.store.close()


@pytest.fixture
def planner(control: Control, clock: SetClock, tmp_path: Path) -> Iterator[PlannerProcess]:
    made = PlannerProcess(tmp_path / "journal.sqlite", clock)
    yield made
    made.stop()


def heard(planner: PlannerProcess) -> list[FromPlanner]:
    """What the planner says next."""
    until = time.monotonic() + PATIENCE_S
    while not (found := planner.messages()):
        if not planner.alive or time.monotonic() > until:
            raise TimeoutError(f"the planner said nothing; alive: {planner.alive}")
        time.sleep(0.005)
    return found


def planned(planner: PlannerProcess, control: Control) -> Plan:
    """Tell the planner of what is durable; its next plan."""
    planner.tell(control.durable, control.now_ms())
    for message in heard(planner):
        assert message.alarms == ()
        if message.plan is not None:
            return message.plan
    raise AssertionError("it said something else than a plan")


def adopt(control: Control, proposal: Plan) -> c.Adopted:
    reply = control.execute(SYSTEM, c.AdoptPlan(proposal))
    control.commit()
    assert isinstance(reply, c.Adopted)
    return reply


def test_the_planner_follows_the_journal_and_plans_what_waits(
    planner: PlannerProcess, control: Control
) -> None:
    """The same plan as one made here, of the same version of the world; then the rest, and only that."""
    submit(control, "a", job("a"), job("b", nodes=2))
    first = planned(planner, control)
    assert first == plan(control.world.snapshot(control.now_ms()), PlanLimits())
    assert first.base_version == control.durable
    assert set(adopt(control, first).made) == {"acme-1.1", "acme-2.1"}
    submit(control, "c", job("c"))
    second = planned(planner, control)
    assert [part.workload for part in second.placements] == ["acme-3"]
    assert adopt(control, second).rejected == ()


def test_a_planner_that_was_killed_is_started_again_and_misses_nothing(
    planner: PlannerProcess, control: Control
) -> None:
    """What is said to the dead one is lost without harm; the new one reads the journal."""
    submit(control, "a", job("a"))
    adopt(control, planned(planner, control))
    os.kill(planner.process.pid, signal.SIGKILL)
    planner.process.wait()
    assert not planner.alive
    submit(control, "b", job("b"))
    for _ in range(3):
        planner.tell(control.durable, control.now_ms())
        assert planner.messages() == []
    planner.start()
    assert planner.restarts == 1
    assert [part.workload for part in planned(planner, control).placements] == ["acme-2"]


def test_parts_of_a_plan_that_became_stale_are_rejected_and_planned_anew(
    planner: PlannerProcess, control: Control
) -> None:
    """The node was drained meanwhile: that part is refused with its reason, the others are adopted."""
    whole = Resources("lab", 4)
    submit(control, "a", job("a", nodes=2, resources=whole), job("b", nodes=2, resources=whole))
    proposal = planned(planner, control)
    node = NodeId(proposal.placements[0].ranks[0].node)
    stale = proposal.placements[0].workload
    control.execute(SYSTEM, c.SetNodes((node,), "draining", "a fan"))
    control.commit()
    reply = adopt(control, proposal)
    assert reply.rejected == ((stale, "NODE_STATE"),)
    assert len(reply.made) == 1
    assert control.world.state.workloads[stale].state is State.QUEUED
    control.execute(SYSTEM, c.Stop(proposal.placements[1].workload))
    control.execute(SYSTEM, c.Observe((), missing=reply.made))
    control.commit()
    again = planned(planner, control)
    assert [part.workload for part in again.placements] == [stale]
    assert node not in [rank.node for rank in again.placements[0].ranks]
    assert len(adopt(control, again).made) == 1


def test_a_plan_comes_in_parts_of_few_ranks_in_its_own_order() -> None:
    """Evictions first; a gang that is larger than a part has one of its own; nothing is lost or said twice."""
    sizes = [1, 3, 2 * RANKS_AT_ONCE, 1] + [2] * RANKS_AT_ONCE
    rank = RankPlace("node", 1, 1_000, 1_000)
    placements = tuple(
        ProposedPlacement(WorkloadId(f"acme-{number}"), SiteId("site"), (rank,) * size)
        for number, size in enumerate(sizes)
    )
    evictions = tuple(
        Eviction(PlacementId(f"acme-{number}.1"), None) for number in range(2 * RANKS_AT_ONCE + 1)
    )
    parts = list(parts_of(Plan(7, placements, evictions)))
    assert tuple(one for part in parts for one in part.placements) == placements
    assert tuple(one for part in parts for one in part.evictions) == evictions
    assert {part.base_version for part in parts} == {7}
    first = next(number for number, part in enumerate(parts) if part.placements)
    assert not any(part.evictions for part in parts[first + 1 :])
    for part in parts:
        ranks = sum(len(one.ranks) for one in part.placements)
        assert ranks <= RANKS_AT_ONCE or len(part.placements) == 1
        assert len(part.evictions) <= RANKS_AT_ONCE
    assert list(parts_of(Plan(7))) == []


def test_the_planner_proposes_nothing_while_a_plan_is_being_adopted(
    planner: PlannerProcess, control: Control
) -> None:
    """It would only propose again what is adopted next; once that is over it plans the world as it is then."""
    submit(control, "a", job("a"))
    planner.tell(control.durable, control.now_ms(), adopting=True)
    submit(control, "b", job("b"))
    proposal = planned(planner, control)
    assert proposal.base_version == control.durable
    assert [part.workload for part in proposal.placements] == ["acme-1", "acme-2"]


def test_the_planner_leaves_ctrl_c_to_its_control_plane(planner: PlannerProcess, control: Control) -> None:
    """A terminal sends it to both: nothing of the planner's is printed, and it plans until the control plane is gone."""
    submit(control, "a", job("a"))
    planned(planner, control)
    os.kill(planner.process.pid, signal.SIGINT)
    submit(control, "b", job("b"))
    assert len(planned(planner, control).placements) == 2
    planner.link.close()
    assert planner.process.wait(PATIENCE_S) == 0


def test_the_planner_ends_with_its_control_plane(planner: PlannerProcess) -> None:
    """However that ended: the link is closed, and nobody is left behind."""
    planner.link.close()
    assert planner.process.wait(PATIENCE_S) == 0


def test_a_checkpoint_of_the_planner_is_signed_and_loads_to_the_same_world(
    planner: PlannerProcess, control: Control, clock: SetClock, tmp_path: Path
) -> None:
    """The planner writes it because it folds the same events; the next start reads it, and not the journal."""
    submit(control, "a", job("a"), job("b"))
    place(control)
    for number in range(CHECKPOINT_EVERY):
        control.execute(SYSTEM, c.RaiseAlarm(1, str(number), "a drill"))
    control.commit()
    planner.tell(control.durable, control.now_ms())
    (found,) = [message.checkpoint for message in heard(planner) if message.checkpoint is not None]
    path, size = found
    assert size == control.durable
    control.adopt_checkpoint(Path(path), size)
    assert not Path(path).exists()
    assert [one[0] for one in control.store.checkpoints()] == [size]
    again = opened(tmp_path, clock=clock)
    assert again.world.state == control.world.state
    again.store.close()


def test_a_followers_world_is_the_writers(control: Control, clock: SetClock, tmp_path: Path) -> None:
    """After every kind of event; and the checkpoint that it writes is the one that the writer would."""
    store = SqliteStore(tmp_path / "journal.sqlite", readonly=True)
    follower = Follower(store)
    live_a_life(control, clock)
    submit(control, "late", job("late"))
    follower.catch_up(control.durable)
    assert follower.world.state == control.world.state
    follower.verify()
    assert follower.chain.streams == control.chain.streams
    path, size = follower.write_checkpoint()
    theirs = Path(path).read_bytes()
    control.checkpoint()
    (ours,) = [data for covered, _, _, data in control.store.checkpoints() if covered == size]
    assert theirs == ours
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert WorkloadId("acme-1") in follower.world.state.workloads
    store.close()


def test_what_a_follower_folded_is_verified_before_it_is_kept(
    control: Control, clock: SetClock, tmp_path: Path
) -> None:
    """A leaf that is not what the writer committed: no checkpoint is written of it (promise 3)."""
    follower = Follower(SqliteStore(tmp_path / "journal.sqlite", readonly=True))
    live_a_life(control, clock)
    with sqlite3.connect(tmp_path / "journal.sqlite") as damaged:
        ((first, bodies),) = damaged.execute("select first, bodies from groups order by first desc limit 1")
        damaged.execute("update groups set bodies = ? where first = ?", (bytes(16) + bodies[16:], first))
    follower.catch_up(control.durable)
    assert follower.world.state == control.world.state
    with pytest.raises(JournalCorrupt):
        follower.write_checkpoint()
