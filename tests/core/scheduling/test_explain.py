"""Every workload says why in one line, and what would change it."""

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.ids import TenantId, WorkloadId
from headrace.core.scheduling.explain import Explanation, explain
from headrace.core.scheduling.refuse import Refusal
from headrace.core.workload import EndReason, State, Workload
from tests.core.scheduling.small import START_MS, World, contract, fleet_of, group, site


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
        "would start if 600 W are freed there"
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
            "would start if 1 more node had it free",
        ),
        (
            world.submit(nodes=2),
            Refusal.NODE_STATE,
            "needs 2 nodes with 1 lab accelerator, 1 of the 2 that would do are draining, down or not commissioned; "
            "would need 1 more of them to be ready",
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
        f"waits: RANK: it fits at site glom, but 2 workloads go first, {urgent.id} (priority 3) the next of them"
    )
    assert told(world, urgent).line == (
        "waits: NEXT: it fits at site glom and is first in the queue; starts with the next plan"
    )


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


def test_names_a_workload_that_there_is_not() -> None:
    """The error says where to look."""
    world = World(fleet_of(site("glom", group())))
    with pytest.raises(HeadraceError, match="no workload 'acme-9'"):
        explain(world.snapshot(), WorkloadId("acme-9"))
