"""Reservations and maintenance are there in their window; and what ends in time fills the nodes that wait."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.core.contracts import Reservation
from headrace.core.errors import Problem
from headrace.core.ids import SiteId, WindowId
from headrace.core.scheduling.admit import admit
from headrace.core.scheduling.memory import Memory
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.scheduling.proposal import Plan
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.reserve import nodes_for
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.windows import LEAD_MS, Window
from headrace.core.workload import Flex, Workload
from tests.core.scheduling.small import (
    ACME,
    START_MS,
    World,
    evicted,
    fleet_of,
    group,
    nodes_of,
    placed,
    site,
)

HOUR = 3_600_000
WEEK = WindowId("week")


def lab(nodes: int = 4, power_w: int = 1_000_000) -> World:
    """One site with one rack of nodes of four accelerators."""
    return World(fleet_of(site("glom", group("g", "lab", 1, nodes), power_w=power_w)))


def window(*nodes: int, starts: int = HOUR, ends: int = 3 * HOUR, owned: bool = True) -> Window:
    return Window(WEEK, ACME if owned else None, 0, nodes, START_MS + starts, START_MS + ends)


def seen(world: World, *windows: Window) -> Snapshot:
    return replace(world.snapshot(), windows=windows)


def inside(world: World, work: Workload) -> Workload:
    """The same workload, naming the reservation."""
    work.spec = replace(work.spec, reservation=WEEK)
    return work


def adopted(snapshot: Snapshot, proposed: Plan) -> Plan:
    """The plan, after the writer let each part of it in."""
    for one in proposed.placements:
        assert admit(snapshot, one) is None, one
    return proposed


class TestBeforeAWindow:
    """What is on its nodes is sure to be gone when it begins."""

    def test_work_without_an_end_goes_elsewhere(self) -> None:
        """Two of three nodes are reserved: of two jobs one gets the third node, and the writer refuses the other."""
        world = lab(3)
        one, other = world.submit(gpus=4), world.submit(gpus=4)
        snapshot = seen(world, window(0, 1))
        found = adopted(snapshot, plan(snapshot))
        assert placed(found) == [one.id]
        assert nodes_of(found, one) == ["g-0-2"]
        sneaky = plan(world.snapshot()).placements[0]
        assert sneaky.ranks[0].node.endswith("g-0-0")
        assert admit(snapshot, replace(sneaky, workload=other.id)) is Refusal.WINDOW

    def test_work_that_ends_in_time_may_use_them(self) -> None:
        """Half an hour fits before an hour from now; an hour does not, for its start may take a moment."""
        world = lab(1)
        short = world.submit(gpus=2, max_duration_ms=HOUR // 2)
        world.submit(gpus=2, max_duration_ms=HOUR)
        snapshot = seen(world, window(0))
        assert placed(adopted(snapshot, plan(snapshot))) == [short.id]

    def test_what_its_owner_expects_is_not_enough(self) -> None:
        """An estimate may be wrong; a window that was sold may not."""
        world = lab(1)
        work = world.submit(gpus=2)
        work.spec = replace(work.spec, expected_ms=60_000)
        assert placed(plan(seen(world, window(0)))) == []

    def test_work_that_may_be_evicted_runs_until_shortly_before(self) -> None:
        """It is told to go a minute before, and nothing starts in that minute."""
        world = lab(1)
        work = world.submit(gpus=4, flex=Flex.PREEMPTIBLE)
        snapshot = seen(world, window(0))
        world.adopt(adopted(snapshot, plan(snapshot)))
        assert work.placement is not None
        world.now_ms = START_MS + HOUR - LEAD_MS - 1
        assert evicted(plan(seen(world, window(0)))) == []
        world.now_ms += 1
        assert evicted(plan(seen(world, window(0)))) == [work.id]
        world.end(world.placements[work.placement])
        world.now_ms += 1
        assert placed(plan(seen(world, window(0)))) == []

    def test_its_power_is_kept_from_who_stays(self) -> None:
        """Two nodes at nameplate and two idle: a job that stays would leave less than the reserved node can draw."""
        world = lab(3, power_w=1_000 + 2 * 200)
        stays = world.submit(gpus=1)
        snapshot = seen(world, window(0))
        assert placed(plan(snapshot)) == []
        assert placed(plan(world.snapshot())) == [stays.id]
        proposal = plan(world.snapshot()).placements[0]
        moved = replace(proposal, ranks=(proposal.ranks[0]._replace(node="glom/b/g-0-2"),))
        assert admit(snapshot, moved) is Refusal.POWER
        brief = world.submit(gpus=1, max_duration_ms=HOUR // 2)
        snapshot = seen(world, window(0))
        found = adopted(snapshot, plan(snapshot))
        # On the reserved node alone: elsewhere it could be paused beyond its limit, and keep the power.
        assert nodes_of(found, brief) == ["g-0-0"]

    def test_its_power_is_kept_from_who_fills_the_time_before_works_elsewhere(self) -> None:
        """Who is gone when works begin draws no less until then."""
        world = lab(3, power_w=1_000 + 2 * 200)
        brief = world.submit(gpus=1, max_duration_ms=HOUR // 2)
        works = replace(window(1, 2, owned=False), id=WindowId("works"))
        assert nodes_of(plan(seen(world, works)), brief) == ["g-0-0"]
        assert placed(plan(seen(world, works, window(0, starts=-1)))) == []


class TestInAWindow:
    """Its nodes are there for whoever names it, and for nobody else."""

    def test_only_who_names_it_runs_there(self) -> None:
        """Before it begins it waits, then it starts; another job does not."""
        world = lab(1)
        mine = inside(world, world.submit(gpus=4))
        world.submit(gpus=1)
        assert placed(plan(seen(world, window(0)))) == []
        snapshot = seen(world, window(0, starts=-1))
        assert placed(adopted(snapshot, plan(snapshot))) == [mine.id]

    def test_who_names_it_runs_nowhere_else(self) -> None:
        """A free node outside is of no use to it."""
        world = lab(2)
        mine = inside(world, world.submit(gpus=4))
        both = world.submit(nodes=1, gpus=4)
        snapshot = seen(world, window(1, starts=-1))
        found = adopted(snapshot, plan(snapshot))
        assert (nodes_of(found, mine), nodes_of(found, both)) == (["g-0-1"], ["g-0-0"])
        outside = replace(
            found.placements[0], ranks=(found.placements[0].ranks[0]._replace(node="glom/b/g-0-0"),)
        )
        assert admit(snapshot, replace(outside, workload=mine.id)) is Refusal.WINDOW

    def test_a_cluster_that_names_one_with_other_nodes_waits_and_the_others_start(self) -> None:
        """None of its nodes will do, though something could be evicted there."""
        world = World(fleet_of(site("glom", group("g", "lab", 1, 2), group("h", "h100-8", 1, 1))))
        world.run(world.submit("filler", gpus=4), ("glom/b/g-0-0", 0b1111))
        inside(world, world.submit("cluster", gpus=8, model="H100"))
        job = world.submit(gpus=4)
        snapshot = seen(world, window(0, starts=-1))
        assert placed(adopted(snapshot, plan(snapshot))) == [job.id]

    def test_what_comes_after_it_on_its_nodes_keeps_nobody_out(self) -> None:
        """Works begin when it is over, and who runs in it is told to go then; not if they begin before."""
        world = lab(1)
        mine = inside(world, world.submit(gpus=4))
        works = replace(window(0, starts=HOUR, ends=2 * HOUR, owned=False), id=WindowId("works"))
        snapshot = seen(world, window(0, starts=-1, ends=HOUR), works)
        found = adopted(snapshot, plan(snapshot))
        assert placed(found) == [mine.id]
        snapshot = seen(world, window(0, starts=-1, ends=HOUR + 1), works)
        assert admit(snapshot, found.placements[0]) is Refusal.WINDOW

    def test_fillers_make_room_for_it_whatever_their_priority(self) -> None:
        """Power that a filler elsewhere draws is freed for what was sold."""
        world = lab(2, power_w=1_000 + 200 + 100)
        filler = world.submit("filler", gpus=4, priority=9)
        world.run(filler, ("glom/b/g-0-1", 0b1111))
        inside(world, world.submit(gpus=4))
        assert evicted(plan(seen(world, window(0, starts=-1)))) == [filler.id]

    def test_what_ran_in_it_goes_when_it_is_over(self) -> None:
        """Also firm work: it was told when."""
        world = lab(1)
        mine = inside(world, world.submit(gpus=4))
        world.run(mine, ("glom/b/g-0-0", 0b1111))
        assert evicted(plan(seen(world, window(0, starts=-2, ends=1)))) == []
        assert evicted(plan(seen(world, window(0, starts=-2, ends=0)))) == [mine.id]
        waiting = world.submit(gpus=4)
        world.end(next(iter(world.placements.values())))
        assert placed(plan(seen(world, window(0, starts=-2, ends=0)))) == [waiting.id]

    def test_maintenance_clears_its_nodes_of_everybody(self) -> None:
        """Firm work too, and nothing starts there until it is over."""
        world = lab(2)
        firm = world.submit(gpus=4)
        world.run(firm, ("glom/b/g-0-0", 0b1111))
        assert evicted(plan(seen(world, window(0, starts=-1, owned=False)))) == [firm.id]
        job = world.submit(gpus=4)
        snapshot = seen(world, window(0, 1, starts=-1, owned=False))
        assert placed(plan(snapshot)) == []
        snapshot = seen(world, window(0, starts=-1, owned=False))
        assert nodes_of(plan(snapshot), job) == ["g-0-1"]


class TestAdmission:
    """A reservation is admitted when its nodes and their power are sure to be there."""

    def asked(self, nodes: int = 1) -> Reservation:
        return Reservation(
            WindowId("mine"), ACME, SiteId("glom"), "lab", nodes, START_MS + HOUR, START_MS + 2 * HOUR
        )

    def test_it_gets_nodes_that_are_sure_to_be_free(self) -> None:
        """Not those of work without an end; those of work that ends before or may be evicted."""
        world = lab(3)
        world.run(world.submit(gpus=1), ("glom/b/g-0-0", 1))
        world.run(world.submit(gpus=1, max_duration_ms=HOUR // 2), ("glom/b/g-0-1", 1))
        world.run(world.submit("filler", gpus=1), ("glom/b/g-0-2", 1))
        assert nodes_for(world.snapshot(), self.asked(2), []) == (1, 2)
        found = nodes_for(world.snapshot(), self.asked(3), [])
        assert isinstance(found, Problem)
        assert "2 of them are sure to be free" in found.message

    def test_it_gets_none_of_another_at_the_same_time(self) -> None:
        """Windows that don't overlap may share their nodes."""
        world = lab(1)
        other = window(0, starts=0, ends=HOUR)
        assert nodes_for(world.snapshot(), self.asked(), [other]) == (0,)
        overlapping = window(0, starts=0, ends=HOUR + 1)
        assert isinstance(nodes_for(world.snapshot(), self.asked(), [overlapping]), Problem)

    def test_all_reservations_of_a_time_have_their_power_together(self) -> None:
        """Two nodes draw more than there is: one of them can be reserved."""
        world = lab(2, power_w=1_000 + 200 + 100)
        assert nodes_for(world.snapshot(), self.asked(), []) == (0,)
        assert isinstance(nodes_for(world.snapshot(), self.asked(), [window(1)]), Problem)

    def test_it_keeps_the_nodes_that_it_has(self) -> None:
        """A change of its size moves nobody."""
        world = lab(4)
        assert nodes_for(world.snapshot(), self.asked(2), [], keep=[3]) == (0, 3)


class TestFilling:
    """Nodes that wait for somebody are used by who is gone before."""

    def waiting_gang(self) -> tuple[World, Workload]:
        """Two nodes, one busy for an hour; a gang of both has starved."""
        world = lab(2)
        world.run(world.submit(gpus=4, max_duration_ms=HOUR), ("glom/b/g-0-0", 0b1111))
        gang = world.submit(nodes=2, gpus=4)
        world.now_ms += 11 * 60_000
        return world, gang

    def test_a_job_that_ends_before_the_gang_can_start_fills_its_node(self) -> None:
        """By its limit, whatever its owner expects."""
        world, _ = self.waiting_gang()
        job = world.submit(gpus=4, max_duration_ms=HOUR // 2)
        job.spec = replace(job.spec, expected_ms=HOUR)
        assert placed(plan(world.snapshot())) == [job.id]

    @pytest.mark.parametrize(
        ("kind", "flex", "priority", "fills"),
        [
            ("job", Flex.FIRM, -1, False),
            ("job", Flex.PREEMPTIBLE, 0, False),
            ("job", Flex.PREEMPTIBLE, -1, True),
            ("filler", Flex.FIRM, 0, True),
        ],
    )
    def test_a_word_is_enough_only_of_those_whom_the_gang_could_tell_to_go(
        self, kind: str, flex: Flex, priority: int, fills: bool
    ) -> None:
        """To expect little costs nothing: whoever can't be made to leave could keep the gang waiting for ever."""
        world, _ = self.waiting_gang()
        job = world.submit(kind, gpus=4, flex=flex, priority=priority)
        job.spec = replace(job.spec, expected_ms=HOUR // 2)
        assert placed(plan(world.snapshot())) == ([job.id] if fills else [])

    def test_a_longer_one_or_one_without_an_end_does_not(self) -> None:
        """They would keep the gang waiting."""
        world, _ = self.waiting_gang()
        world.submit(gpus=4)
        world.submit(gpus=4, max_duration_ms=HOUR)
        assert placed(plan(world.snapshot())) == []

    def test_nothing_fills_what_waits_for_an_unknown_end(self) -> None:
        """Nobody could say that it is gone in time."""
        world = lab(2)
        world.run(world.submit(gpus=4), ("glom/b/g-0-0", 0b1111))
        world.submit(nodes=2, gpus=4)
        world.now_ms += 11 * 60_000
        world.submit(gpus=4, max_duration_ms=1_000)
        assert placed(plan(world.snapshot())) == []

    def test_easy_backfill_is_the_first_in_line_holding_at_once(self) -> None:
        """Without any patience and with one barrier the planner is EASY; with many it is conservative."""
        world = lab(2)
        world.run(world.submit(gpus=4, max_duration_ms=HOUR), ("glom/b/g-0-0", 0b1111))
        world.submit(nodes=2, gpus=4, max_duration_ms=HOUR)
        long = world.submit(gpus=4, max_duration_ms=2 * HOUR)
        world.now_ms += 1
        short = world.submit(gpus=4, max_duration_ms=HOUR // 2)
        assert placed(plan(world.snapshot())) == [long.id]
        easy = PlanLimits(starve_after_ms=0, max_barriers=1)
        assert placed(plan(world.snapshot(), easy)) == [short.id]

    def test_the_plan_is_the_same_with_a_memory(self) -> None:
        """Twice with one memory, and once without."""
        world, _ = self.waiting_gang()
        job = world.submit(gpus=4)
        job.spec = replace(job.spec, expected_ms=HOUR // 2)
        memory = Memory()
        found = [
            plan(
                replace(world.snapshot(), memory=memory, windows=(window(0, starts=2 * HOUR, ends=3 * HOUR),))
            )
            for _ in (1, 2)
        ]
        assert found[0] == found[1] == plan(seen(world, window(0, starts=2 * HOUR, ends=3 * HOUR)))
        assert np.array_equal(world.snapshot().node_open, [True, True])


def test_elastic_work_grows_only_within_its_reservation() -> None:
    """Free nodes outside are as good as none; and the writer takes the plan."""
    world = lab(4)
    work = inside(world, world.submit(gpus=4))
    work.spec = replace(work.spec, nodes_max=4)
    snapshot = seen(world, window(1, 2, starts=-1))
    found = adopted(snapshot, plan(snapshot))
    assert nodes_of(found, work) == ["g-0-1", "g-0-2"]


def test_a_node_in_two_windows_is_used_only_as_both_allow() -> None:
    """Gone before the maintenance is not gone from what is reserved now."""
    world = lab(1)
    world.submit(gpus=1, flex=Flex.PREEMPTIBLE)
    later = replace(window(0, starts=HOUR, ends=2 * HOUR, owned=False), id=WindowId("fans"))
    assert placed(plan(seen(world, window(0, starts=-1), later))) == []


def test_work_that_outlives_its_limit_is_told_to_go_when_the_window_begins() -> None:
    """It was let in since it would have ended; it was paused meanwhile. Work without a limit was there before."""
    world = lab(2)
    paused = world.submit(gpus=1, max_duration_ms=HOUR // 2)
    world.run(paused, ("glom/b/g-0-0", 1))
    world.run(world.submit(gpus=1), ("glom/b/g-0-1", 1))
    assert evicted(plan(seen(world, window(0, 1, starts=1)))) == []
    assert evicted(plan(seen(world, window(0, 1, starts=0)))) == [paused.id]


def test_a_window_at_one_site_keeps_no_power_at_another() -> None:
    """What a filler draws there is free for a job once it has left, as if there were no window."""
    two = [site(name, group("g", per_rack=1)) for name in ("s0", "s1")]
    world = World(fleet_of(*two))
    world.limits_w["s1"] = world.fleet.hardware[0].nameplate_w
    filler = world.submit("filler", gpus=4)
    world.run(filler, ("s1/b/g-0-0", 0b1111))
    world.submit(gpus=4, at="s1")
    assert evicted(plan(seen(world, window(0, starts=HOUR)))) == [filler.id]
