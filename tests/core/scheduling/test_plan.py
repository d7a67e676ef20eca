"""What the planner promises, on small worlds: one table or one sentence each."""

from dataclasses import replace

import pytest

from headrace.core.contracts import Contract, Preferences, Tenant
from headrace.core.ids import ContractId, PlanId, ProjectId, SiteId, TenantId
from headrace.core.scheduling.memory import Memory
from headrace.core.scheduling.plan import PlanLimits, again_ms, plan
from headrace.core.scheduling.without import without
from headrace.core.workload import EndReason, Flex
from tests.core.scheduling.small import (
    ACME,
    START_MS,
    World,
    contract,
    evicted,
    fleet_of,
    group,
    ids,
    nodes_of,
    placed,
    site,
)

HOUR_MS = 3_600_000


def lab(nodes: int = 4, **changes: int) -> World:
    return World(fleet_of(site("glom", group(per_rack=nodes), **changes)))  # type: ignore[arg-type]


def node(number: int, rack: int = 0) -> str:
    return f"glom/b/g-{rack}-{number}"


def test_goes_by_priority_then_by_arrival_and_puts_fillers_after_their_equals() -> None:
    """The order of the queue is rank, not the order of the table."""
    world = lab()
    filler, late, first = world.submit("filler"), world.submit(), world.submit(priority=5)
    assert placed(plan(world.snapshot())) == ids([first, late, filler])


def test_skips_what_is_backing_off_without_holding_up_others() -> None:
    """A workload waits for its own moment alone."""
    world = lab()
    world.submit(not_before_ms=START_MS + 1)
    ready = world.submit(not_before_ms=START_MS)
    assert placed(plan(world.snapshot())) == ids([ready])


def test_places_a_gang_whole_on_different_nodes_or_not_at_all() -> None:
    """Four nodes take a gang of four; three left take none of it."""
    world = lab()
    gang = world.submit(nodes=4, gpus=2)
    assert nodes_of(plan(world.snapshot()), gang) == ["g-0-0", "g-0-1", "g-0-2", "g-0-3"]
    world.closed.add(node(2))
    assert placed(plan(world.snapshot())) == []


def test_never_spreads_a_gang_over_two_sites() -> None:
    """Two sites of two nodes are no four nodes."""
    world = World(fleet_of(site("a", group(per_rack=2)), site("b", group(per_rack=2))))
    world.submit(nodes=4)
    assert plan(world.snapshot()).placements == ()


def test_gives_the_lowest_free_accelerators() -> None:
    """Bits 0 and 2 are in use, so 1 and 3 are given."""
    world = lab(1)
    world.run(world.submit(gpus=2), (node(0), 0b0101))
    world.submit(gpus=2)
    assert [rank.mask for rank in plan(world.snapshot()).placements[0].ranks] == [0b1010]


def test_fills_broken_nodes_before_it_breaks_empty_ones() -> None:
    """Best fit: the fewest free accelerators that still do."""
    world = lab()
    world.run(world.submit(gpus=3), (node(2), 0b0111))
    world.run(world.submit(gpus=2), (node(3), 0b0011))
    one, two = world.submit(gpus=1), world.submit(gpus=2)
    got = plan(world.snapshot())
    assert nodes_of(got, one) == ["g-0-2"]
    assert nodes_of(got, two) == ["g-0-3"]


def test_takes_whole_racks_together_for_a_gang() -> None:
    """Of racks with 4, 3 and 4 candidates a gang of seven takes a full one and the one that fits the rest best."""
    world = World(fleet_of(site("glom", group(racks=3, per_rack=4))))
    world.closed.add(node(1, 1))
    gang = world.submit(nodes=7, gpus=4)
    got = nodes_of(plan(world.snapshot()), gang)
    assert got == ["g-0-0", "g-0-1", "g-0-2", "g-0-3", "g-1-0", "g-1-2", "g-1-3"]


def test_gives_a_cluster_whole_empty_nodes_with_all_that_they_have() -> None:
    """A node with one process is no empty node; the rank has everything of its node."""
    world = lab(3)
    world.run(world.submit(gpus=0, model="", cpu_milli=100), (node(0), 0))
    cluster = world.submit("cluster", nodes=2, gpus=1)
    (proposal,) = plan(world.snapshot()).placements
    assert proposal.workload == cluster.id
    assert [(r.node, r.mask, r.cpu_milli, r.memory_mb) for r in proposal.ranks] == [
        (node(1), 0b1111, 4_000, 8_000),
        (node(2), 0b1111, 4_000, 8_000),
    ]


def test_runs_processor_work_on_any_node() -> None:
    """No accelerators asked: the model does not matter, processors and memory do."""
    world = World(fleet_of(site("glom", group("g", "lab", 1, 1), group("h", "h100-8", 1, 1))))
    small, large = (
        world.submit(gpus=0, model="", cpu_milli=4_000),
        world.submit(gpus=0, model="", cpu_milli=5_000),
    )
    got = plan(world.snapshot())
    assert (nodes_of(got, small), nodes_of(got, large)) == (["g-0-0"], ["h-0-0"])


@pytest.mark.parametrize(
    ("cpu_milli", "memory_mb", "fit"),
    [(2_000, 4_000, 2), (2_001, 1, 1), (1, 4_001, 1), (4_001, 1, 0), (1, 8_001, 0)],
)
def test_counts_processors_and_memory(cpu_milli: int, memory_mb: int, fit: int) -> None:
    """A node of four processors and 8 GB, two jobs."""
    world = lab(1)
    for _ in range(2):
        world.submit(cpu_milli=cpu_milli, memory_mb=memory_mb)
    assert len(plan(world.snapshot()).placements) == fit


# A lab node idles at 200 W and draws 300 W once anything runs, 175 W more for each accelerator.
@pytest.mark.parametrize(
    ("limits", "fit"),
    [
        ({"power_w": 800 + 2 * 275}, 2),
        ({"power_w": 800 + 2 * 275 - 1}, 1),
        ({"feed_w": 800 + 274}, 0),
        ({"feed_w": 800 + 275}, 1),
    ],
)
def test_admits_by_nameplate_at_every_element(limits: dict[str, int], fit: int) -> None:
    """Four nodes, jobs that need a node's four processors each: so many as the connection and the feed carry."""
    world = lab(**limits)
    for _ in range(4):
        world.submit(cpu_milli=4_000)
    assert len(plan(world.snapshot()).placements) == fit


def test_looks_past_a_rack_without_power_to_one_that_has_it() -> None:
    """The preferred node is under a rack at its limit; the other rack takes the job."""
    world = World(fleet_of(site("glom", group("g", "lab", 2, 2, 1_000))))
    world.limits_w["glom/b/g-0"] = 400
    job = world.submit(nodes=2)
    assert nodes_of(plan(world.snapshot()), job) == ["g-1-0", "g-1-1"]


def test_starts_nothing_under_an_element_that_is_over_its_limit() -> None:
    """A grid instruction below what runs already admits nothing more."""
    world = lab()
    world.limits_w["glom"] = 700
    world.submit(gpus=0, model="", cpu_milli=1)
    assert plan(world.snapshot()).placements == ()


def test_keeps_law_dedication_site_and_contract() -> None:
    """Each site is forbidden for a reason of its own, one is left."""
    other = TenantId("other")
    world = World(
        fleet_of(
            site("a", group(), country="SE", price=1),
            site("b", group(), dedicated_to=other, price=2),
            site("c", group(), price=3),
            site("d", group(), price=4),
        ),
        contracts=[contract(site=SiteId("d")), contract(other)],
    )
    mine, pinned = world.submit(countries=("NO",)), world.submit(countries=("NO",), at="a")
    theirs = world.submit(tenant=other, countries=("NO",))
    stranger = world.submit(tenant=TenantId("stranger"))
    got = {proposal.workload: proposal.site for proposal in plan(world.snapshot()).placements}
    assert got == {mine.id: "d", theirs.id: "b"}
    assert pinned.id not in got
    assert stranger.id not in got


def test_prefers_the_cheapest_energy_then_the_first_site() -> None:
    """Sites cost 3, 1 and 1: the second is taken, and the third when it is full."""
    sites = (
        site("a", group(per_rack=1), price=3),
        site("b", group(per_rack=1), price=1),
        site("c", group(per_rack=1), price=1),
    )
    world = World(fleet_of(*sites))
    for _ in range(3):
        world.submit(gpus=4)
    assert [proposal.site for proposal in plan(world.snapshot()).placements] == ["b", "c", "a"]


def test_prefers_the_connection_with_the_most_to_spare_if_the_tenant_says_so() -> None:
    """The first site is cheaper until so much of it is in use that its power counts for more than the price."""
    sites = (site("a", group(), price=1), site("b", group(), price=2))
    world = World(fleet_of(*sites))
    wish = Preferences(power_micros_per_kwh=1_000_000)
    world.tenants[ACME] = Tenant(ACME, (ProjectId("main"),), preferences=wish)
    memory = Memory()
    first = world.submit(gpus=4)
    snapshot = replace(world.snapshot(), memory=memory)
    assert [one.site for one in plan(snapshot).placements] == ["a"]
    world.run(first, ("a/b/g-0-0", 0b1111))
    world.submit(gpus=4)
    snapshot = replace(world.snapshot(), memory=memory)
    assert [one.site for one in plan(snapshot).placements] == ["b"]
    world.tenants[ACME] = Tenant(ACME, (ProjectId("main"),))
    assert [one.site for one in plan(world.snapshot()).placements] == ["a"]


def test_holds_a_reserved_contract_to_what_it_reserves() -> None:
    """Four reserved, two held: two more and no third."""
    reserved = Contract(ContractId("r"), ACME, PlanId("p"), "reserved", accelerators=4)
    world = World(fleet_of(site("glom", group())), contracts=[reserved])
    world.run(world.submit(gpus=2), (node(0), 0b11))
    for _ in range(3):
        world.submit()
    assert len(plan(world.snapshot()).placements) == 2


def test_places_no_more_than_its_limit_in_one_plan() -> None:
    """A bound on one plan keeps it short."""
    world = lab()
    for _ in range(5):
        world.submit()
    assert len(plan(world.snapshot(), PlanLimits(max_placements=3)).placements) == 3


def test_changes_nothing_in_the_snapshot() -> None:
    """The planner works on copies."""
    world = lab()
    world.submit(nodes=3)
    snapshot = world.snapshot()
    before = [column.copy() for column in (snapshot.node_mask, snapshot.power_w, snapshot.node_open)]
    plan(snapshot)
    for column, old in zip((snapshot.node_mask, snapshot.power_w, snapshot.node_open), before, strict=True):
        assert (column == old).all()


class TestFillers:
    """Fillers exist to be interrupted."""

    def test_are_evicted_for_a_job_that_then_fits(self) -> None:
        """The youngest of the least priority goes, and only as many as are needed."""
        world = lab(2)
        old = world.run(world.submit("filler", gpus=4), (node(0), 0b1111))
        young = world.run(world.submit("filler", gpus=4), (node(1), 0b1111))
        job = world.submit(gpus=2)
        got = plan(world.snapshot())
        assert [(e.placement, e.waiting) for e in got.evictions] == [(young.id, job.id)]
        assert old.id != young.id
        assert got.placements == ()

    def test_of_least_priority_go_first(self) -> None:
        """Priority before age."""
        world = lab(2)
        low = world.submit("filler", gpus=4, priority=-1)
        world.run(low, (node(0), 0b1111))
        world.run(world.submit("filler", gpus=4), (node(1), 0b1111))
        world.submit(gpus=4)
        assert evicted(plan(world.snapshot())) == ids([low])

    def test_stay_when_they_have_the_higher_priority(self) -> None:
        """A filler that was given a priority keeps it."""
        world = lab(1)
        world.run(world.submit("filler", gpus=4, priority=1), (node(0), 0b1111))
        world.submit(gpus=4)
        assert plan(world.snapshot()).evictions == ()

    def test_stay_when_their_going_does_not_help(self) -> None:
        """Neither nodes nor power would be enough for the gang, so nobody is evicted for it."""
        world = lab(2)
        world.run(world.submit("filler", gpus=4), (node(0), 0b1111))
        world.run(world.submit("service", gpus=4), (node(1), 0b1111))
        world.submit(nodes=2, gpus=4)
        assert plan(world.snapshot()).evictions == ()
        power = lab(2, power_w=1_200)
        power.run(power.submit("filler", gpus=1), (node(0), 0b1))
        power.submit(nodes=2, gpus=4)
        assert plan(power.snapshot()).evictions == ()

    def test_are_evicted_for_power_alone(self) -> None:
        """There are nodes enough; the feed carries either the filler or the job."""
        world = lab(2, feed_w=1_300)
        filler = world.submit("filler", gpus=4)
        world.run(filler, (node(0), 0b1111))
        world.submit(gpus=4)
        assert evicted(plan(world.snapshot())) == ids([filler])

    def test_one_large_goes_rather_than_many_small(self) -> None:
        """As few as needed: one of four accelerators, not four of one."""
        world = lab(2)
        large = world.submit("filler", gpus=4)
        world.run(large, (node(0), 0b1111))
        for bit in range(4):
            world.run(world.submit("filler"), (node(1), 1 << bit))
        world.submit(gpus=4)
        assert evicted(plan(world.snapshot())) == ids([large])

    def test_that_are_leaving_suffice(self) -> None:
        """No second filler goes while what leaves would do, and nobody else takes the place."""
        world = lab(2)
        world.stop(world.run(world.submit("filler", gpus=4), (node(0), 0b1111)))
        world.run(world.submit("filler", gpus=3), (node(1), 0b0111))
        gang = world.submit(gpus=4)
        small = world.submit("filler", gpus=1)
        got = plan(world.snapshot())
        assert got.evictions == ()
        assert nodes_of(got, small) == ["g-0-1"]
        assert nodes_of(got, gang) == []

    def test_do_not_come_back_onto_what_they_left(self) -> None:
        """Two fillers leave for a gang one after the other; the first is queued again and finds no place."""
        world = lab(2)
        first = world.run(world.submit("filler", gpus=4), (node(0), 0b1111))
        second = world.run(world.submit("filler", gpus=4), (node(1), 0b1111))
        gang = world.submit(nodes=2, gpus=4)
        world.adopt(plan(world.snapshot()))
        assert {first.stop_reason, second.stop_reason} == {EndReason.PREEMPTED}
        world.end(first)
        halfway = plan(world.snapshot())
        assert (halfway.placements, halfway.evictions) == ((), ())
        world.end(second)
        assert placed(plan(world.snapshot())) == ids([gang])

    def test_are_evicted_for_each_of_several_equal_jobs(self) -> None:
        """Three jobs, three fillers: one plan evicts all, not one at a time."""
        world = lab(3)
        for number in range(3):
            world.run(world.submit("filler", gpus=4), (node(number), 0b1111))
        for _ in range(2):
            world.submit(gpus=4)
        assert len(plan(world.snapshot()).evictions) == 2

    def test_are_each_evicted_for_one_job_where_power_is_short(self) -> None:
        """Two jobs on free nodes, three fillers that hold the power: two different ones go, the third stays."""
        world = lab(5, feed_w=5 * 200 + 3 * 800)
        fillers = [world.submit("filler", gpus=4) for _ in range(3)]
        for number, filler in enumerate(fillers):
            world.run(filler, (node(number), 0b1111))
        for _ in range(2):
            world.submit(gpus=4)
        assert sorted(evicted(plan(world.snapshot()))) == ids(fillers[1:])

    def test_that_are_leaving_give_their_power_to_one_job_only(self) -> None:
        """The power of the one that leaves goes to the first job; for the second another filler goes."""
        world = lab(4, feed_w=4 * 200 + 2 * 800)
        leaving, staying = world.submit("filler", gpus=4), world.submit("filler", gpus=4)
        world.stop(world.run(leaving, (node(0), 0b1111)))
        world.run(staying, (node(1), 0b1111))
        world.submit(gpus=4)
        second = world.submit(gpus=4)
        got = plan(world.snapshot())
        assert evicted(got) == ids([staying])
        assert [eviction.waiting for eviction in got.evictions] == [second.id]

    def test_that_are_leaving_are_not_counted_with_what_has_just_been_given_away(self) -> None:
        """The free node goes to a small job, the leaver's to the next; for the third a filler has to go."""
        world = lab(3)
        world.stop(world.run(world.submit("filler", gpus=4), (node(0), 0b1111)))
        staying = world.submit("filler", gpus=4)
        world.run(staying, (node(2), 0b1111))
        world.submit(nodes=3, gpus=3, cpu_milli=9_999)
        jobs = [world.submit(gpus=4) for _ in range(3)]
        got = plan(world.snapshot())
        assert placed(got) == ids(jobs[:1])
        assert [(str(e.placement).split(".")[0], e.waiting) for e in got.evictions] == [
            (staying.id, jobs[2].id)
        ]

    def test_go_from_the_node_that_needs_the_fewest_to_go(self) -> None:
        """Among forty small ones: three that are older, on a node with room, rather than four that are younger."""
        world = lab(10)
        few = [world.submit("filler") for _ in range(3)]
        for bit, filler in enumerate(few):
            world.run(filler, (node(0), 1 << bit))
        world.run(world.submit("service", gpus=1), (node(1), 0b1))
        for number in range(1, 10):
            for bit in range(number == 1, 4):
                world.run(world.submit("filler"), (node(number), 1 << bit))
        world.submit(gpus=4)
        assert sorted(evicted(plan(world.snapshot()))) == ids(few)

    def test_leave_their_share_of_a_contract_to_the_job_that_waits_for_it(self) -> None:
        """Three of four reserved are leaving, for a job of four: a job of one does not take the fourth meanwhile."""
        world = lab(4)
        world.contracts = [contract(kind="reserved", accelerators=4)]
        world.stop(world.run(world.submit("filler", gpus=3), (node(0), 0b0111)))
        world.submit(gpus=4)
        world.submit(gpus=1)
        got = plan(world.snapshot())
        assert (got.placements, got.evictions) == ((), ())

    def test_are_not_evicted_for_fillers(self) -> None:
        """Nothing is gained by that."""
        world = lab(1)
        world.run(world.submit("filler", gpus=4, priority=-5), (node(0), 0b1111))
        world.submit("filler", gpus=4)
        assert plan(world.snapshot()).evictions == ()


class TestStarvation:
    """What has waited too long holds nodes against lower ranks."""

    def starving(self, world: World, **ask: object) -> object:
        gang = world.submit(**ask)  # type: ignore[arg-type]
        world.now_ms += HOUR_MS
        return gang

    def test_keeps_lower_ranks_off_the_nodes_that_free_soonest(self) -> None:
        """Nodes 0 and 1 end first; 2 is free: the gang keeps the free one and the first to end."""
        world = lab(4)
        for number, hours in ((0, 3), (1, 2), (3, 9)):
            world.run(world.submit(gpus=4, max_duration_ms=hours * HOUR_MS), (node(number), 0b1111))
        self.starving(world, nodes=2, gpus=4)
        world.submit(gpus=1)
        assert plan(world.snapshot()).placements == ()

    def test_lets_small_ones_through_before_it_starves(self) -> None:
        """The same world, an hour earlier."""
        world = lab(2)
        world.run(world.submit(gpus=4, max_duration_ms=HOUR_MS), (node(0), 0b1111))
        world.submit(nodes=2, gpus=4)
        small = world.submit(gpus=1)
        assert placed(plan(world.snapshot())) == ids([small])

    def test_lets_others_use_what_it_does_not_need(self) -> None:
        """The gang waits for nodes 0 and 1; node 2, which holds on longer, has a place left."""
        world = lab(3)
        for number, hours in ((0, 1), (1, 2)):
            world.run(world.submit(gpus=4, max_duration_ms=hours * HOUR_MS), (node(number), 0b1111))
        world.run(world.submit(gpus=3, max_duration_ms=9 * HOUR_MS), (node(2), 0b0111))
        self.starving(world, nodes=2, gpus=4)
        small = world.submit(gpus=1)
        assert nodes_of(plan(world.snapshot()), small) == ["g-0-2"]

    def test_keeps_the_power_that_it_needs(self) -> None:
        """Nodes are plenty, power is not: what is left of it now is not given to the small one."""
        world = lab(4, feed_w=800 + 2 * 800)
        world.run(world.submit(gpus=4, max_duration_ms=HOUR_MS), (node(0), 0b1111))
        self.starving(world, nodes=2, gpus=4)
        world.submit(gpus=1)
        assert plan(world.snapshot()).placements == ()

    def test_evicts_preemptible_work_of_lower_priority(self) -> None:
        """Preemptible and less important goes; the firm and the equal stay."""
        world = lab(2)
        weak = world.submit(gpus=4, flex=Flex.PREEMPTIBLE, priority=-1)
        world.run(weak, (node(0), 0b1111))
        world.run(world.submit(gpus=4, flex=Flex.PREEMPTIBLE), (node(1), 0b1111))
        self.starving(world, gpus=4)
        assert evicted(plan(world.snapshot())) == ids([weak])

    def test_does_not_wait_for_what_never_ends(self) -> None:
        """A service holds half of the estate for good: the other half is not kept empty for a gang of all."""
        world = lab(2)
        world.run(world.submit("service", gpus=4), (node(0), 0b1111))
        self.starving(world, nodes=2, gpus=4)
        small = world.submit(gpus=1)
        assert placed(plan(world.snapshot())) == ids([small])

    def test_higher_ranks_still_go_first(self) -> None:
        """A barrier holds against lower ranks alone."""
        world = lab(2)
        world.run(world.submit(gpus=4, max_duration_ms=HOUR_MS), (node(0), 0b1111))
        self.starving(world, nodes=2, gpus=4)
        urgent = world.submit(gpus=1, priority=1)
        assert placed(plan(world.snapshot())) == ids([urgent])

    def test_a_gang_of_everything_runs_in_spite_of_a_stream_of_small_jobs(self) -> None:
        """Each round a node's work ends and two small jobs come: without the barrier the gang never runs."""
        world = lab(4)
        for number in range(4):
            world.run(world.submit(gpus=4), (node(number), 0b1111))
        gang = world.submit(nodes=4, gpus=3)
        for _ in range(40):
            world.now_ms += 5 * 60_000
            oldest = min(world.placements.values(), key=lambda placement: placement.made_seq)
            world.end(oldest)
            world.submit(gpus=2)
            world.submit(gpus=2)
            world.adopt(plan(world.snapshot()))
            if gang.placement is not None:
                break
        assert gang.placement is not None


def test_says_when_time_alone_may_change_it() -> None:
    """The end of the next back-off, or the moment at which somebody has waited for too long; never for an empty queue."""
    world, limits = lab(), PlanLimits(starve_after_ms=600_000)
    assert again_ms(world.snapshot(), limits) is None
    world.submit()
    assert again_ms(world.snapshot(), limits) == START_MS + 600_001
    world.submit(not_before_ms=START_MS + 90_000)
    assert again_ms(world.snapshot(), limits) == START_MS + 90_000
    world.now_ms = START_MS + 600_001
    assert again_ms(world.snapshot(), limits) == START_MS + 690_001
    world.now_ms = START_MS + 690_001
    assert again_ms(world.snapshot(), limits) is None


def test_whoever_was_started_many_times_is_evicted_only_if_it_lets_somebody_start() -> None:
    """The next plan, with it gone, is what shows that: `without` is the world as it is then."""
    world = lab()
    filler = world.submit("filler", gpus=4)
    placement = world.run(filler, ("glom/b/g-0-0", 0b1111))
    filler.attempt = 9
    job = world.submit(gpus=4)
    others = [world.submit(gpus=4) for _ in world.fleet.node_ids[1:]]
    for node, other in zip(world.fleet.node_ids[1:], others, strict=True):
        world.run(other, (node, 0b1111))
    assert evicted(plan(world.snapshot())) == [filler.id]
    then = without(world.snapshot(), [placement])
    world.end(placement)
    now = world.snapshot()
    for name in ("node_mask", "node_cpu_milli", "node_memory_mb", "node_ranks", "power_w"):
        assert getattr(then, name).tolist() == getattr(now, name).tolist(), name
    assert (then.placements, then.contract_held_milli) == (now.placements, now.contract_held_milli)
    assert placed(plan(then)) == [job.id]
