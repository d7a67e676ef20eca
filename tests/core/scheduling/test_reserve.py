"""A reservation's nodes are sure to be there: whoever is on them has left, with its grace, when it begins."""

from dataclasses import replace
from typing import Any

import pytest

from headrace.core.contracts import Reservation
from headrace.core.errors import Problem
from headrace.core.ids import SiteId, WindowId
from headrace.core.scheduling.check import check
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.proposal import Eviction, Plan
from headrace.core.scheduling.reserve import nodes_for
from headrace.core.scheduling.windows import MOST_LEAD_MS, Window, lead_ms, moments_of
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from headrace.core.workload import Flex, Workload
from tests.core.scheduling.small import ACME, START_MS, World, evicted, fleet_of, group, placed, site

YEAR_MS = 365 * MS_PER_DAY


def asked(nodes: int, starts_ms: int = MS_PER_HOUR, **more: Any) -> Reservation:
    starts_ms += START_MS
    values = (WindowId("mine"), ACME, SiteId("glom"), "lab", nodes, starts_ms, starts_ms + MS_PER_HOUR)
    return replace(Reservation(*values), **more)


def soon(starts_ms: int, *nodes: int, owned: bool = True) -> Window:
    starts_ms += START_MS
    return Window(WindowId("w"), ACME if owned else None, 0, nodes, starts_ms, starts_ms + MS_PER_HOUR)


def busy(world: World, *specs: dict[str, Any], mask: int = 0b1111) -> list[Workload]:
    """One workload on each of the first nodes."""
    works = []
    for number, more in enumerate(specs):
        work = world.submit(gpus=mask.bit_count())
        work.spec = replace(work.spec, **more)
        world.run(work, (f"glom/b/g-0-{number}", mask))
        works.append(work)
    return works


def told(world: World, wanted: Reservation, windows: tuple[Window, ...] = ()) -> str:
    """What a reservation is refused with."""
    found = nodes_for(world.snapshot(), wanted, windows)
    assert isinstance(found, Problem), found
    return found.message


class TestPower:
    """What is long over draws nothing."""

    def test_a_job_that_is_long_over_keeps_no_power(self) -> None:
        """Ten minutes on one node; in a year the rack, rated for its nodes alone, carries all four."""
        world = World(fleet_of(site("glom", group(rack_w=4_000))))
        busy(world, {"max_duration_ms": 10 * MS_PER_MINUTE}, mask=1)
        assert nodes_for(world.snapshot(), asked(4, YEAR_MS), ()) == (0, 1, 2, 3)

    def test_who_was_paused_beyond_its_limit_goes_for_the_power(self) -> None:
        """Beside the reserved nodes too; and the checker has it so."""
        world = World(fleet_of(site("glom", group())))
        work = busy(world, {"max_duration_ms": 10 * MS_PER_MINUTE})[0]
        world.now_ms += MS_PER_HOUR
        snapshot = replace(world.snapshot(), windows=(soon(MS_PER_HOUR, 2, 3),))
        found = plan(snapshot)
        assert evicted(found) == [work.id]
        assert check(snapshot, found) == []
        early = replace(snapshot, now_ms=START_MS + 5 * MS_PER_MINUTE)
        assert evicted(plan(early)) == []
        assert work.placement is not None
        forbidden = Plan(early.version, (), (Eviction(work.placement, None, WindowId("w")),))
        assert [one.rule for one in check(early, forbidden)] == ["eviction-forbidden"]


class TestCauses:
    """Who is refused learns what is in the way."""

    def test_a_job_without_an_end(self) -> None:
        """Its name, and why."""
        world = World(fleet_of(site("glom", group())))
        busy(world, {})
        assert "3 of them are sure to be free" in told(world, asked(4))
        assert "in the way is acme-1, which has no max_duration (1)" in told(world, asked(4))

    def test_a_maintenance(self) -> None:
        """All of its nodes."""
        world = World(fleet_of(site("glom", group())))
        message = told(world, asked(1), (soon(MS_PER_HOUR, 0, 1, 2, 3, owned=False),))
        assert "in the way is maintenance w (4)" in message

    def test_power(self) -> None:
        """The element that is used up."""
        world = World(fleet_of(site("glom", group(rack_w=2_500))))
        assert "the power of glom/b/g-0 carries no more" in told(world, asked(4))

    def test_nodes_that_are_not_ready_and_nodes_that_there_are_not(self) -> None:
        """What is broken, and what was never there."""
        world = World(fleet_of(site("glom", group())))
        world.closed.add(world.fleet.node_ids[0])
        assert "not ready or not there yet (1)" in told(world, asked(4))
        world.closed.clear()
        assert told(world, asked(5)).endswith("with the power that they can draw: there are 4;")


class TestKeeping:
    """What a reservation has is kept as far as it is what it asks for."""

    def test_nodes_of_another_site_or_model_are_not_kept(self) -> None:
        """Its document changed: it goes where that says."""
        world = World(fleet_of(site("else", group()), site("glom", group(), group("h", "h100-8"))))
        assert nodes_for(world.snapshot(), asked(2), (), keep=(0, 1)) == (4, 5)
        assert nodes_for(world.snapshot(), asked(2, model="H100"), (), keep=(4, 5)) == (8, 9)

    def test_nodes_without_their_power_are_not_kept(self) -> None:
        """A rack that carries two of them; the rest come from another."""
        world = World(fleet_of(site("glom", group(racks=2, rack_w=2_700))))
        assert nodes_for(world.snapshot(), asked(3), (), keep=(0, 1, 2)) == (0, 1, 4)


class TestGrace:
    """Whoever is told to go for a window is told so early that it has its grace."""

    LONG = 10 * MS_PER_MINUTE

    @pytest.mark.parametrize(
        ("grace_ms", "lead_s"),
        [(1, 60), (10_000, 60), (30_000, 60), (30_001, 90), (LONG, 630), (900_000, 930)],
    )
    def test_the_lead_is_its_grace_and_half_a_minute(self, grace_ms: int, lead_s: int) -> None:
        """In half minutes, and a minute at least."""
        work = World(fleet_of(site("glom", group()))).submit()
        assert lead_ms(replace(work.spec, grace_ms=grace_ms)) == lead_s * 1_000

    def test_it_is_told_when_its_grace_says(self) -> None:
        """Ten minutes and a half before, and not earlier."""
        world = World(fleet_of(site("glom", group())))
        work = busy(world, {"flex": Flex.PREEMPTIBLE, "grace_ms": self.LONG})[0]
        window = soon(MS_PER_HOUR, 0)
        world.now_ms = window.starts_ms - self.LONG - 30_001
        assert evicted(plan(replace(world.snapshot(), windows=(window,)))) == []
        assert window.starts_ms - self.LONG - 30_000 in list(moments_of(window, world.now_ms))
        world.now_ms += 1
        assert evicted(plan(replace(world.snapshot(), windows=(window,)))) == [work.id]

    def test_nothing_starts_that_would_be_told_too_late(self) -> None:
        """Neither what may be evicted nor what has a limit; the checker says the same of it."""
        world = World(fleet_of(site("glom", group(per_rack=1))))
        starts_ms = self.LONG
        for more in ({"flex": Flex.PREEMPTIBLE}, {"max_duration_ms": MS_PER_MINUTE}):
            work = world.submit(gpus=4)
            work.spec = replace(work.spec, grace_ms=self.LONG, **more)
            snapshot = replace(world.snapshot(), windows=(soon(starts_ms, 0),))
            assert placed(plan(snapshot)) == []
            wrong = plan(replace(snapshot, windows=()))
            assert placed(wrong) == [work.id]
            short = replace(snapshot, windows=(soon(starts_ms - 1, 0),))
            assert [one.rule for one in check(short, wrong)] == ["window"]
            del world.workloads[work.id]

    def test_a_reservation_that_begins_before_they_are_gone_is_refused(self) -> None:
        """Five minutes are too few for ten of grace; and who is stopping already has what is left of its own."""
        world = World(fleet_of(site("glom", group(per_rack=2))))
        busy(
            world,
            {"flex": Flex.PREEMPTIBLE, "grace_ms": self.LONG},
            {"grace_ms": MS_PER_HOUR},
        )
        world.stop(list(world.placements.values())[1])
        message = told(world, asked(2, 5 * MS_PER_MINUTE))
        assert "acme-1, which would be told to go too late for its grace" in message
        assert "acme-3, which has until then to stop" in message
        assert nodes_for(world.snapshot(), asked(2, 2 * MS_PER_HOUR), ()) == (0, 1)

    def test_a_longer_grace_than_is_allowed_counts_as_work_without_an_end(self) -> None:
        """It may come from a journal of before there was a limit."""
        world = World(fleet_of(site("glom", group(per_rack=1))))
        busy(world, {"flex": Flex.PREEMPTIBLE, "grace_ms": MS_PER_DAY})
        assert "acme-1, which has too long a grace" in told(world, asked(1))

    def test_whoever_plans_looks_every_half_minute_before_a_window(self) -> None:
        """From the longest lead on; then when it begins, and when it ends."""
        window = soon(MS_PER_HOUR, 0)
        seen: list[int] = []
        now_ms = START_MS
        while (moments := list(moments_of(window, now_ms))) and len(seen) < 100:
            now_ms = min(moments)
            seen.append(now_ms - window.starts_ms)
        assert seen == [*range(-MOST_LEAD_MS, 1, 30_000), MS_PER_HOUR]
