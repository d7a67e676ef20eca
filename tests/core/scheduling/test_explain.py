"""Every workload says why in one line, and what would change it."""

from dataclasses import replace

import pytest

from headrace.core.contracts import Quota, Tenant
from headrace.core.errors import HeadraceError
from headrace.core.ids import NodeId, ProjectId, TenantId, WindowId, WorkloadId
from headrace.core.scheduling.endings import Endings
from headrace.core.scheduling.explain import Explanation, explain
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.windows import Window
from headrace.core.workload import OUTLIVED, EndReason, State, Topology, Workload, WorkloadType
from tests.core.scheduling.small import ACME, START_MS, World, contract, fleet_of, group, placed, site


def told(world: World, workload: Workload) -> Explanation:
    return explain(world.snapshot(), workload.id)


def test_names_the_element_that_lacks_power_and_where_else_it_would_run() -> None:
    """The binding feed with its figures, and the country that the policy keeps it from."""
    world = World(
        fleet_of(site("glom", group(), feed_w=2_000), site("lough", group(), country="GB", price=2_000))
    )
    world.run(world.submit(gpus=4), ("glom/b/g-0-0", 0b1111))
    workload = world.submit(gpus=4, countries=("NO",))
    got = told(world, workload)
    assert got.refusal is Refusal.POWER
    assert got.line == (
        "waits: POWER: site glom: needs 800 W, feed glom/feed-a has 400 W of 2 kW left; "
        "would start if 400 W are freed there (or in GB if its policy allowed it)"
    )
    assert got.removed == {"CAPACITY": 1, "POWER": 3, "JURISDICTION": 4}


def test_adds_up_what_a_gang_needs_of_a_shared_element() -> None:
    """Each node alone would have the power, both together have not."""
    world = World(fleet_of(site("glom", group(), feed_w=800 + 1_000)))
    got = told(world, world.submit(nodes=2, gpus=4))
    assert got.line == (
        "waits: POWER: site glom: needs 1.6 kW, feed glom/feed-a has 1 kW of 1.8 kW left; "
        "would start with 1 node, or if 600 W are freed there"
    )


def test_says_when_an_element_is_over_its_limit() -> None:
    """A grid instruction took more than there was."""
    world = World(fleet_of(site("glom", group())))
    world.limits_w["glom"] = 700
    assert "connection glom has 0 W of 700 W left (it is 100 W over)" in told(world, world.submit()).line


def test_tells_capacity_state_and_hardware_apart() -> None:
    """In use, closed, or not there at all."""
    world = World(fleet_of(site("glom", group(per_rack=2))))
    world.run(world.submit(gpus=3), ("glom/b/g-0-0", 0b0111))
    world.closed.add("glom/b/g-0-1")
    rows = [
        (
            world.submit(gpus=2),
            Refusal.CAPACITY,
            "needs 1 node with 2 lab accelerators free, 0 of 1 such nodes have that; "
            "would start if 1 more node had it free; when is not known: 1 of 1 such nodes is held by work without an end",
        ),
        (
            world.submit(nodes=2),
            Refusal.NODE_STATE,
            "needs 2 nodes with 1 lab accelerator, 1 of the 2 that would do are draining, down or not commissioned; "
            "would have room with 1 node, or if 1 more of them was ready",
        ),
        (
            world.submit(gpus=8),
            Refusal.HARDWARE,
            "needs 1 node with 8 lab accelerators, 0 of 2 nodes could ever do; the largest node has 4; "
            "would need other nodes there, or a smaller ask",
        ),
    ]
    for workload, refusal, text in rows:
        got = told(world, workload)
        assert (got.refusal, got.line) == (refusal, f"waits: {refusal.name}: site glom: {text}")


def test_names_the_partitions_of_clusters_that_keep_nodes_closed_and_no_other_reason() -> None:
    """How many each of them; what the operator wrote of a node is not for tenants."""
    world = World(fleet_of(site("glom", group(per_rack=4))))
    said = (
        "drained in its cluster: partition gpu is down; `scontrol update partitionname=gpu state=up` opens it",
        "partition gpu is down; `scontrol update partitionname=gpu state=up` opens it",
        "partition old is inact; `scontrol update partitionname=old state=up` opens it",
        "a fan, ask Kari",
    )
    states = {NodeId(f"glom/b/g-0-{number}"): ("down", why) for number, why in enumerate(said)}
    world.closed.update(states)
    work = world.submit()
    assert explain(world.snapshot(), work.id, states=states).reason.endswith(
        "4 of the 4 that would do are draining, down or not commissioned "
        "(2 because partition gpu of their cluster is down, 1 because partition old of their cluster is inact)"
    )
    world.closed.discard(NodeId("glom/b/g-0-0"))
    assert explain(world.snapshot(), work.id, states=states).refusal is None


def test_gives_law_dedication_and_contract_with_their_own_words() -> None:
    """The verdict's reason, the owner's right, the missing contract."""
    other = TenantId("other")
    world = World(fleet_of(site("a", group(), country="SE")))
    law = told(world, world.submit(countries=("NO",)))
    assert law.refusal is Refusal.JURISDICTION
    assert "allows NO; the site is in SE; would start there if its policy allowed SE" in law.line
    unpaid = told(world, world.submit(tenant=other))
    assert unpaid.line == (
        "waits: CONTRACT: site a: no contract of other covers lab accelerators there; "
        "would need such a contract, valid now"
    )
    owned = World(fleet_of(site("a", group(), dedicated_to=other)))
    assert told(owned, owned.submit()).refusal is Refusal.DEDICATED


def test_says_how_much_of_a_reserved_contract_is_used_up() -> None:
    """Three of four held, two asked: one too many."""
    world = World(fleet_of(site("glom", group())), contracts=[contract(kind="reserved", accelerators=4)])
    world.run(world.submit(gpus=3), ("glom/b/g-0-0", 0b0111))
    got = told(world, world.submit(gpus=2))
    assert got.line == (
        "waits: CONTRACT: site glom: contract acme-demand has 3 of its 4 accelerators in use; needs 2; "
        "would start if 1 of them were freed, or the contract were larger by as many"
    )


def test_over_several_sites_gives_the_reason_nearest_to_success() -> None:
    """Forbidden in one, without the hardware in another, full in the third: it is full that matters."""
    world = World(
        fleet_of(
            site("a", group(), country="SE"), site("b", group("h", "h100-8")), site("c", group(per_rack=1))
        )
    )
    world.run(world.submit(gpus=4), ("c/b/g-0-0", 0b1111))
    got = told(world, world.submit(countries=("NO",)))
    assert got.refusal is Refusal.CAPACITY
    assert "site c" in got.line
    assert got.removed == {"JURISDICTION": 4, "HARDWARE": 4, "CAPACITY": 1}


def test_says_when_it_is_tried_again() -> None:
    """Backing off is a reason of its own."""
    world = World(fleet_of(site("glom", group())))
    workload = world.submit(not_before_ms=START_MS + 90_000)
    workload.reason = "rank 0 exited with 1"
    got = told(world, workload)
    assert got.refusal is Refusal.TIME
    assert got.line == (
        "waits: TIME: it is backing off after: rank 0 exited with 1; is tried again in 1m 30s"
    )


def test_says_who_goes_first_when_it_would_fit_alone() -> None:
    """Its place in the queue, and the one at the head."""
    world = World(fleet_of(site("glom", group(per_rack=1))))
    world.submit(gpus=4)
    urgent = world.submit(gpus=4, priority=3)
    last = told(world, world.submit(gpus=4))
    assert last.refusal is Refusal.RANK
    assert last.line.startswith(
        "waits: RANK: it fits at site glom, but 2 workloads go first (1 by priority and age, 1 by arrival), "
        f"{urgent.id} (priority 3) the next of its own tenant; starts with the next plan that leaves it room, "
        "or at once with priority 4"
    )
    assert told(world, urgent).line == (
        "waits: NEXT: it fits at site glom and is first in the queue; starts with the next plan"
    )


def test_another_tenants_work_is_counted_and_not_named() -> None:
    """How many go first, or end first, and why; never whose they are."""
    other = TenantId("other")
    world = World(fleet_of(site("glom", group(per_rack=1))), contracts=[contract(), contract(other)])
    secret = world.submit(gpus=4, priority=3, tenant=other)
    line = told(world, world.submit(gpus=4)).line
    assert "1 workload goes first (1 by priority and age);" in line
    assert secret.id not in line
    secret.spec = replace(secret.spec, max_duration_ms=3_600_000)
    world.run(secret, ("glom/b/g-0-0", 0b1111))
    got = told(world, world.submit(gpus=4))
    assert got.line.endswith("(in 1h), when 1 workload ends")
    assert secret.id not in got.line


@pytest.mark.parametrize(
    ("guaranteed", "usage", "why"),
    [(4, 0, "1 within a guarantee"), (0, 2, "1 by arrival"), (0, 0, "1 by a smaller share")],
)
def test_who_goes_first_is_told_by_the_planners_own_order(guaranteed: int, usage: int, why: str) -> None:
    """Guaranteed before borrowed, then priority, then the smaller share, then arrival."""
    other = TenantId("other")
    world = World(fleet_of(site("glom", group())), contracts=[contract(), contract(other)])
    world.tenants = {ACME: Tenant(ACME, (ProjectId("main"),)), other: Tenant(other, (ProjectId("main"),))}
    world.tenants[other] = replace(world.tenants[other], quota=Quota(guaranteed=guaranteed))
    world.run(world.submit(gpus=2), ("glom/b/g-0-0", 0b0011))
    if usage:
        world.run(world.submit(gpus=2, tenant=other), ("glom/b/g-0-1", 0b0011))
    first = world.submit(gpus=1, tenant=other)
    got = told(world, world.submit(gpus=1))
    assert f"({why})" in got.line
    assert placed(plan(world.snapshot()))[0] == first.id


def test_a_filler_of_a_guaranteed_tenant_goes_after_what_borrows() -> None:
    """No guarantee covers a filler: a job that waits with nothing guaranteed is told to be before it."""
    other = TenantId("other")
    world = World(fleet_of(site("glom", group())), contracts=[contract(), contract(other)])
    world.tenants = {ACME: Tenant(ACME, (ProjectId("main"),)), other: Tenant(other, (ProjectId("main"),))}
    world.tenants[ACME] = replace(world.tenants[ACME], quota=Quota(guaranteed=4))
    filler, job = world.submit("filler", gpus=1), world.submit(gpus=1, tenant=other)
    assert "1 by priority and age" in told(world, filler).line
    assert placed(plan(world.snapshot()))[0] == job.id


def test_the_quota_that_is_used_up_is_named_with_what_it_lacks() -> None:
    """Of the tenant, or of the project."""
    world = World(fleet_of(site("glom", group())))
    world.tenants[ACME] = Tenant(ACME, (ProjectId("main"),), quota=Quota(limit=4))
    world.run(world.submit(gpus=3), ("glom/b/g-0-0", 0b0111))
    got = told(world, world.submit(gpus=2))
    assert got.refusal is Refusal.QUOTA
    assert got.line.startswith(
        "waits: QUOTA: site glom: tenant acme has 3 of the 4 accelerators that its quota allows in use; needs 2; "
        "would start if 1 of them were freed, or the quota were larger by as many"
    )
    world.tenants[ACME] = replace(
        world.tenants[ACME], quota=Quota(), project_quotas={ProjectId("main"): Quota(limit=3)}
    )
    assert "project main has 3 of the 3 accelerators" in told(world, world.submit(gpus=1)).line


def test_nodes_that_do_not_stand_as_required_are_told_from_nodes_that_are_in_use() -> None:
    """Enough are free, in two racks: it need not, or one more in a rack."""
    world = World(fleet_of(site("glom", group(racks=2, per_rack=2))))
    for node in ("glom/b/g-0-0", "glom/b/g-1-0"):
        world.run(world.submit(gpus=4), (node, 0b1111))
    got = told(world, world.submit(nodes=2, gpus=4, topology=Topology(pack="rack", required=True)))
    assert got.refusal is Refusal.TOPOLOGY
    assert got.line.startswith(
        "waits: TOPOLOGY: site glom: needs 2 nodes with 4 lab accelerators free within one rack; "
        "of the 2 that are free no such choice does; would start if it need not stand within one rack, or with 1 node, "
        "or if 1 more node in one rack had it free"
    )


def test_an_alternative_that_would_do_is_offered() -> None:
    """Other accelerators that stand idle, and the site that it did not ask for."""
    world = World(fleet_of(site("a", group(per_rack=1)), site("b", group("h", "h100-8", per_rack=1))))
    world.run(world.submit(gpus=4), ("a/b/g-0-0", 0b1111))
    assert "; would start with H100:2, or if " in told(world, world.submit(gpus=2)).line
    world = World(fleet_of(site("a", group(per_rack=1)), site("b", group(per_rack=1))))
    world.run(world.submit(gpus=4), ("a/b/g-0-0", 0b1111))
    assert "; would start at site b, or if " in told(world, world.submit(gpus=2, at="a")).line


def test_the_earliest_start_is_when_enough_have_ended() -> None:
    """By their limits, else as expected; the node that is free already is not waited for."""
    world = World(fleet_of(site("glom", group(per_rack=3))))
    hour_ms = 3_600_000
    runs = [world.submit(gpus=4, max_duration_ms=hours * hour_ms) for hours in (1, 5)]
    expected = world.submit(gpus=4)
    expected.spec = replace(expected.spec, expected_ms=2 * hour_ms)
    for number, work in enumerate([*runs, expected]):
        world.run(work, (f"glom/b/g-0-{number}", 0b1111))
    got = told(world, world.submit(nodes=2, gpus=4))
    assert got.earliest_ms == START_MS + 2 * hour_ms
    assert got.line.endswith(
        f"; at the earliest at 17:06 UTC (in 2h), when {runs[0].id} and {expected.id} end"
    )
    world.now_ms += 3 * hour_ms
    late = told(world, world.submit(nodes=2, gpus=4))
    assert late.earliest_ms == START_MS + 5 * hour_ms, "what is over its time may stay for ever"


def test_what_windows_keep_is_told_and_for_how_long_it_may_run_before() -> None:
    """Nodes of a maintenance that begins in two hours take what is gone by then."""
    world = World(fleet_of(site("glom", group(per_rack=2))))
    world.run(world.submit(gpus=4), ("glom/b/g-0-0", 0b1111))
    hour_ms = 3_600_000
    window = Window(WindowId("m"), None, 0, (1,), START_MS + 2 * hour_ms, START_MS + 4 * hour_ms)
    workload = world.submit(gpus=4)
    snapshot = replace(world.snapshot(), windows=(window,))
    got = explain(snapshot, workload.id)
    assert got.refusal is Refusal.WINDOW
    assert got.line == (
        "waits: WINDOW: site glom: needs 1 node with 4 lab accelerators, 1 node that would do is kept for a reservation or "
        "a maintenance; would start with a max_duration of 1h 59m; at the earliest at 19:06 UTC (in 4h)"
    )
    assert not placed(plan(snapshot))
    workload.spec = got.remedies[0].spec or workload.spec
    assert placed(plan(replace(world.snapshot(), windows=(window,)))) == [workload.id]


def test_what_ended_since_the_last_question_is_known() -> None:
    """Ends that are kept from one question to the next are those that a fresh look finds."""
    kept, world = Endings(), World(fleet_of(site("glom", group(per_rack=2))))
    placements = []
    for number in range(2):
        work = world.submit(gpus=4, max_duration_ms=(number + 1) * 3_600_000)
        placements.append(world.run(work, (f"glom/b/g-0-{number}", 0b1111)))
    waiting = world.submit(gpus=4)

    def asked() -> tuple[Explanation, Explanation]:
        snapshot = world.snapshot()
        return explain(snapshot, waiting.id), explain(replace(snapshot, endings=kept), waiting.id)

    first, same = asked()
    assert first == same
    world.end(placements[0])
    kept.moved(placements[0], -1)
    again = world.submit(gpus=4, max_duration_ms=9 * 3_600_000)
    kept.moved(world.run(again, ("glom/b/g-0-0", 0b1111)), 1)
    world.stop(placements[1])
    second, same = asked()
    assert second == same
    # What is told to go has its grace: ten seconds.
    assert second.earliest_ms == START_MS + 10_000


def test_says_where_it_runs_and_whether_it_moved() -> None:
    """One line for each state in which it holds nodes."""
    world = World(fleet_of(site("glom", group())))
    workload = world.submit(nodes=2, gpus=2)
    workload.attempt, workload.reason = 1, "node lost"
    placement = world.run(workload, ("glom/b/g-0-0", 0b11), ("glom/b/g-0-1", 0b11))
    assert told(world, workload).line == "runs: 2 nodes at site glom, 4 accelerators; attempt 2 (node lost)"
    world.stop(placement, EndReason.PREEMPTED)
    assert told(world, workload).line.startswith(
        "is stopping: 2 nodes at site glom, 4 accelerators; attempt 2, preempted"
    )
    for state in (State.PLACED, State.PAUSED):
        workload.state = state
        assert told(world, workload).line.startswith(f"is {state}")


@pytest.mark.parametrize(
    ("state", "reason", "refusal", "line"),
    [
        (State.SUCCEEDED, "", None, "succeeded"),
        (
            State.FAILED,
            "rank 1 exited",
            None,
            "failed: rank 1 exited, exit codes 0, 3; see its logs, and submit it again",
        ),
        (
            State.REFUSED,
            "JURISDICTION: no",
            Refusal.JURISDICTION,
            "refused: JURISDICTION: no; submit it again with what the reason allows",
        ),
    ],
)
def test_says_how_it_ended(state: State, reason: str, refusal: Refusal | None, line: str) -> None:
    """A workload that is over has its reason too."""
    world = World(fleet_of(site("glom", group())))
    workload = world.submit()
    workload.state, workload.reason = state, reason
    workload.exit_codes = (0, 3) if state is State.FAILED else ()
    got = told(world, workload)
    assert (got.refusal, got.line) == (refusal, line)


def test_says_of_a_lease_whose_time_is_over_nothing_but_that() -> None:
    """It ended as it was asked to, also in a journal that calls it failed; one that went before its time is told as that."""
    world = World(fleet_of(site("glom", group())))
    workload = world.submit()
    workload.spec = replace(workload.spec, type=WorkloadType.CLUSTER, max_duration_ms=3_600_000)
    workload.reason, workload.exit_codes = OUTLIVED, (143,)
    for state in (State.STOPPED, State.FAILED):
        workload.state = state
        assert told(world, workload).line == "ended after its time of 1h; create it again"
    workload.reason = "rank 0 was lost"
    assert told(world, workload).line.startswith("failed: rank 0 was lost, exit codes 143; ")


def test_names_a_workload_that_there_is_not() -> None:
    """The error says where to look."""
    world = World(fleet_of(site("glom", group())))
    with pytest.raises(HeadraceError, match="no workload 'acme-9'"):
        explain(world.snapshot(), WorkloadId("acme-9"))


def test_what_is_short_now_is_told_before_what_a_site_never_has() -> None:
    """Power at one site is nearer than hardware that another will never have; so is a contract that is in use."""
    world = World(
        fleet_of(site("a", group("g", "h100-8", 1, 2), power_w=14_000), site("b", group("g", "lab", 1, 2)))
    )
    world.submit(gpus=8, model="H100", max_duration_ms=3_600_000)
    world.adopt(plan(world.snapshot()))
    got = told(world, world.submit(gpus=8, model="H100"))
    assert got.refusal is Refusal.POWER
    assert got.earliest_ms == world.now_ms + 3_600_000


def test_a_filler_of_a_guaranteed_project_keeps_none_of_its_jobs_back() -> None:
    """What is guaranteed goes before what is borrowed within a project too, whatever the priority: turns are told so."""
    other = TenantId("b")
    world = World(fleet_of(site("s", group("g", "lab", 1, 1))), contracts=[contract(), contract(other)])
    main = (ProjectId("main"),)
    world.tenants = {
        ACME: Tenant(ACME, main, quota=Quota(guaranteed=4)),
        other: Tenant(other, main),
    }
    world.submit("filler", gpus=4)
    first = world.submit(gpus=4, priority=-1)
    second = world.submit(gpus=4, tenant=other, priority=1)
    assert placed(plan(world.snapshot())) == [first.id]
    assert told(world, first).line.startswith("waits: NEXT")
    assert "1 workload goes first (1 within a guarantee)" in told(world, second).line


def test_both_quotas_that_are_short_are_told() -> None:
    """Of the tenant and of the project; and that both would have to be larger."""
    world = World(fleet_of(site("s", group("g", "lab", 1, 4))))
    main, side = ProjectId("main"), ProjectId("side")
    quotas = {main: Quota(limit=4)}
    world.tenants = {ACME: Tenant(ACME, (main, side), quota=Quota(limit=4), project_quotas=quotas)}
    world.run(world.submit(gpus=4), ("s/b/g-0-0", 0b1111))
    got = told(world, world.submit(gpus=3))
    assert got.line == (
        "waits: QUOTA: site s: tenant acme has 4 of the 4 accelerators that its quota allows in use and project main has 4 of "
        "the 4 accelerators that its quota allows in use; needs 3; "
        "would start if the quotas of its tenant and its project were larger by 3"
    )


def test_what_is_paused_beyond_its_limit_is_not_told_to_end_now() -> None:
    """Nobody knows when it goes on."""
    world = World(fleet_of(site("s", group("g", "lab", 1, 1))))
    paused = world.submit(gpus=4, max_duration_ms=60_000)
    world.adopt(plan(world.snapshot()))
    paused.state = State.PAUSED
    waiting = world.submit(gpus=4)
    world.now_ms += 86_400_000
    got = told(world, waiting)
    assert got.earliest_ms is None
    assert got.line.endswith("when is not known: 1 of 1 such nodes is held by work without an end")
