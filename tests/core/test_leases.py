"""A cluster that is handed over through Slurm goes where an engine can do that, and nowhere else."""

from typing import Any

import pytest

from headrace.core import commands as c
from headrace.core.errors import HeadraceError
from headrace.core.ids import PlacementId
from headrace.core.observation import Capabilities, RankReport, RankState
from headrace.core.scheduling.check import check
from headrace.core.workload import Resources, State, WorkloadSpec, WorkloadType
from tests.core.small import ALBION, FJORD, MEMBER, RUNNING, Core, core, derived, estate, job, rebuilt, site

CAN = Capabilities("uid", pause=True, ports=True, parts=False, lease="slurm")
CANNOT = Capabilities("uid", pause=True, ports=True)


def cluster(**more: Any) -> WorkloadSpec:
    """One whole node, leased through Slurm."""
    wanted: dict[str, Any] = {
        "type": WorkloadType.CLUSTER,
        "commands": (),
        "lease": "slurm",
        "resources": Resources("lab", 4, 250, 16),
    }
    return job(**(wanted | more))


def two_sites() -> Core:
    """One in Norway, whose engine leases nothing, and one in Britain, on a Slurm that does."""
    one = core(estate(site(FJORD, "NO"), site(ALBION, "GB", engine="narvik")))
    one.do(c.DeclareEngines({"narvik": CAN, "local": CANNOT}))
    return one


def test_a_lease_goes_to_the_engine_that_can_and_a_bare_cluster_where_there_is_room() -> None:
    """By the plan, and the independent check agrees."""
    one = two_sites()
    one.submit(*[cluster(name=f"leased-{number}") for number in range(3)], *[cluster(lease="")] * 2)
    plan = one.plan()
    assert check(one.world.snapshot(one.now_ms), plan) == []
    placed = one.place()
    sites = [
        (one.state.workloads[place.workload].spec.lease, place.site)
        for place in (one.state.placements[ident] for ident in placed)
    ]
    assert sorted(sites) == [("", FJORD), ("", FJORD), ("slurm", ALBION), ("slurm", ALBION)]
    (waits,) = (work for work in one.state.workloads.values() if work.state is State.QUEUED)
    assert waits.spec.lease == "slurm"


def test_a_lease_is_refused_at_once_where_no_engine_can() -> None:
    """With the reason ENGINE and the engine's name."""
    one = two_sites()
    with pytest.raises(
        HeadraceError, match=r"ENGINE: .*fjord: its engine local leases no nodes through Slurm"
    ):
        one.submit(cluster(site=FJORD))
    # What was found of one kind of lease says nothing of the other.
    assert one.submit(cluster(site=FJORD, lease=""))


def test_a_lease_can_t_be_put_where_the_engine_can_not() -> None:
    """The writer looks for itself."""
    one = two_sites()
    (work,) = one.submit(cluster())
    node = next(node for node in one.world.fleet.node_ids if node.startswith("fjord"))
    assert one.put(work, node).rejected == ((work, "ENGINE"),)


def test_a_lease_is_not_paused() -> None:
    """Its tenant's own jobs run there, which nobody here can stop and let go on."""
    one = two_sites()
    one.submit(cluster())
    (placement,) = one.place()
    one.report(placement, RUNNING)
    with pytest.raises(HeadraceError, match=r"is leased and can't be paused. Its tenant's own jobs"):
        one.do(c.Pause(one.state.placements[placement].workload, pause=True), subject=MEMBER)
    assert derived(one.world) == derived(rebuilt(one.world))


def test_why_a_lease_was_lost_is_told_with_the_end_of_its_placement() -> None:
    """In the words of the engine."""
    one = two_sites()
    (work,) = one.submit(cluster())
    (placement,) = one.place()
    one.report(placement, RUNNING)
    said = "its reservation x is not in Slurm any more: somebody deleted it"
    one.report(PlacementId(placement), RankReport(0, RankState.LOST, running_ms=5, detail=said))
    assert one.state.workloads[work].reason == f"rank 0 was lost: {said}"
    assert one.state.workloads[work].state is State.QUEUED
