"""Documents: applying twice changes nothing, and what is in use neither goes nor shrinks below its use."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from headrace.core import commands as c
from headrace.core.authority import Role
from headrace.core.codec import Core as Value
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.estate import NodeGroup, Site
from headrace.core.ids import OperatorId, PlacementId, PlanId, PowerNodeId, SiteId, WorkloadId
from headrace.core.workload import PolicyRef, Resources
from tests.core.small import (
    ACME,
    ALBION,
    BOREALIS,
    DOCUMENTS,
    FJORD,
    PRICES,
    RUNNING,
    Core,
    contract,
    core,
    document,
    ended,
    estate,
    job,
    service,
    site,
    tenant,
)

BRITAIN = site(ALBION, "GB")


def busy() -> Core:
    """``acme-1`` runs on two whole nodes in Norway, in Norway only; ``borealis-1`` on one accelerator there."""
    one = core()
    first = one.submit(
        service(nodes=2, resources=Resources("lab", 4), policy=PolicyRef(countries=("NO",))), tenant=ACME
    )[0]
    second = one.submit(service(), tenant=BOREALIS)[0]
    one.put(first, "fjord/b/g-0-0", "fjord/b/g-0-1", mask=15)
    one.put(second, "fjord/b/g-1-0")
    for placement in list(one.state.placements.values()):
        one.report(placement.id, *(RUNNING for _ in placement.ranks))
    return one


def problems_of(one: Core, command: c.Command) -> tuple[Problem, ...]:
    """The problems that a command is refused with; nothing may have changed."""
    before = copy.deepcopy(one.state)
    with pytest.raises(HeadraceError) as raised:
        one.do(command)
    assert one.state == before
    return raised.value.problems


def applying(*values: Value) -> c.ApplyDocuments:
    return c.ApplyDocuments(tuple(document(one) for one in values))


def test_applying_twice_changes_nothing() -> None:
    """Not an event; and it says so."""
    one = busy()
    version = one.state.version
    reply = one.apply(*DOCUMENTS)
    assert one.state.version == version
    assert isinstance(reply, tuple)
    assert [change.what for change in reply if isinstance(change, c.Change)] == ["unchanged"] * len(DOCUMENTS)


def test_only_what_differs_makes_an_event() -> None:
    """The answer names what was created, changed and left."""
    one = core()
    reply = one.apply(tenant(ACME, "main", "side"), tenant(BOREALIS), replace(PRICES, id=PlanId("other")))
    assert reply == (
        c.Change("tenant", "acme", "changed"),
        c.Change("tenant", "borealis", "unchanged"),
        c.Change("price-plan", "other", "created"),
    )
    assert len(one.made(applying(tenant(ACME, "main", "side"), tenant(BOREALIS, "main", "side")))) == 1


def test_a_document_that_refers_to_nothing_keeps_all_of_its_fellows_out() -> None:
    """All or none, with every problem at once."""
    bad = contract(ACME, plan=PlanId("pricez"), site=SiteId("fjrd"))
    found = problems_of(core(), applying(tenant(ACME, "main", "side"), bad))
    assert [problem.where for problem in found] == ["contract c-acme"] * 2
    lines = " ".join(problem.line() for problem in found)
    assert "Did you mean prices?" in lines
    assert "Did you mean fjord?" in lines


def test_documents_may_refer_to_each_other_whatever_their_order() -> None:
    """A contract before its tenant and its plan, in one go."""
    one = Core()
    one.do(c.StartControl("small", "0.1.0"))
    one.apply(*reversed(DOCUMENTS))
    assert len(one.state.documents) == len(DOCUMENTS)


USED: dict[str, tuple[c.Command, str, tuple[str, ...]]] = {
    "its tenant": (c.RemoveDocument("tenant", "acme"), "tenant acme", ("acme-1", "c-acme")),
    "its contract": (c.RemoveDocument("contract", "c-acme"), "contract c-acme is in use", ("acme-1",)),
    "its estate": (c.RemoveDocument("estate", "op"), "in use", ("acme-1",)),
    "its site": (applying(estate(BRITAIN)), "node fjord/b/g-0-0 would go", ("acme-1",)),
    "another's node": (
        applying(estate(site(FJORD, "NO", racks=1), BRITAIN)),
        "node fjord/b/g-1-0 would go",
        ("borealis-1",),
    ),
    "its hardware": (
        applying(
            estate(
                replace(
                    site(FJORD, "NO"),
                    blocks=(replace(site(FJORD, "NO").blocks[0], groups=(NodeGroup("g", "h100-8", 2, 2),)),),
                ),
                BRITAIN,
            )
        ),
        "change its hardware",
        ("acme-1",),
    ),
    "its country": (
        applying(estate(site(FJORD, "SE", racks=2), BRITAIN)),
        "would no longer be allowed",
        ("acme-1",),
    ),
    "its freedom": (
        applying(estate(site(FJORD, "NO", racks=2, dedicated_to=BOREALIS), BRITAIN)),
        "would be dedicated to borealis",
        ("acme-1",),
    ),
    "another's freedom": (
        applying(estate(site(FJORD, "NO", racks=2, dedicated_to=ACME), BRITAIN)),
        "would be dedicated to acme",
        ("borealis-1",),
    ),
    "its engine": (
        applying(estate(site(FJORD, "NO", racks=2, engine="slurm"), BRITAIN)),
        "would change its engine",
        ("acme-1",),
    ),
    "its project": (applying(tenant(ACME, "other")), "project main of tenant acme", ("acme-1",)),
    "its power": (
        # Two nodes at 1,000 W, one with one of four accelerators at 475 W, one idle at 200 W.
        applying(estate(site(FJORD, "NO", racks=2, limit_w=2_674), BRITAIN)),
        "fjord would be limited to 2674 W of IT load, but up to 2675 W draw on it",
        ("acme-1", "borealis-1"),
    ),
    "its rack's power": (
        applying(
            estate(
                replace(
                    site(FJORD, "NO"),
                    blocks=(
                        replace(site(FJORD, "NO").blocks[0], groups=(NodeGroup("g", "lab", 2, 2, 1_999),)),
                    ),
                ),
                BRITAIN,
            )
        ),
        "fjord/b/g-0 would be limited to 1999 W",
        ("acme-1",),
    ),
}
"""What is taken from a workload that runs, what the refusal says, and whom it names."""


@pytest.mark.parametrize("what", USED)
def test_what_is_in_use_is_not_taken_away(what: str) -> None:
    """It is refused with the list of who uses it, and nothing changes."""
    command, said, users = USED[what]
    found = problems_of(busy(), command)
    lines = " ".join(problem.line() for problem in found)
    assert said in lines
    for user in users:
        assert user in lines, user
    assert all(problem.next_step for problem in found)
    assert {problem.code for problem in found} <= {ProblemCode.IN_USE, ProblemCode.CONFLICT}


def _over(one: Core) -> None:
    """All of acme's work is over and was never metered."""
    for placement in list(one.state.placements.values()):
        one.do(c.Stop(placement.workload))
        one.report(placement.id, *(ended(number, 143) for number in range(len(placement.ranks))))


@pytest.mark.parametrize("what", [name for name in USED if name != "its tenant"])
def test_what_is_no_longer_used_may_go(what: str) -> None:
    """The same change, after the work has ended."""
    command, _, _ = USED[what]
    one = busy()
    _over(one)
    assert one.made(command)


def test_limits_may_fall_to_what_draws_and_no_further() -> None:
    """The last watt counts."""
    one = busy()
    one.apply(estate(site(FJORD, "NO", racks=2, limit_w=2_675), BRITAIN))
    assert problems_of(one, applying(estate(site(FJORD, "NO", racks=2, limit_w=2_674), BRITAIN)))


def test_a_tenant_goes_only_after_its_work_its_contracts_and_its_tokens() -> None:
    """Each refusal names what is left."""
    one = busy()
    one.do(c.IssueToken("1" * 64, Role.TENANT_MEMBER, ACME))
    _over(one)
    remove = c.RemoveDocument("tenant", "acme")
    assert "c-acme" in " ".join(problem.line() for problem in problems_of(one, remove))
    one.do(c.RemoveDocument("contract", "c-acme"))
    (problem,) = problems_of(one, remove)
    assert problem.code is ProblemCode.IN_USE
    assert problem.related == ("t-1",)
    one.do(c.RevokeToken(one.world.by_number[1].id))
    assert len(one.made(remove)) == 1
    assert ACME in one.state.tenants


def test_a_plan_goes_only_after_the_contracts_that_have_its_prices() -> None:
    """The refusal names them."""
    found = problems_of(core(), c.RemoveDocument("price-plan", "prices"))
    lines = " ".join(problem.line() for problem in found)
    assert "c-acme" in lines
    assert "c-borealis" in lines


def test_a_contract_with_usage_stays_so_that_it_can_be_billed() -> None:
    """It may end instead."""
    one = busy()
    one.report(
        one.state.workloads[WorkloadId("acme-1")].placement or PlacementId(""),
        *(ended(number, 0, running_ms=60_000) for number in range(2)),
    )
    _over(one)
    found = problems_of(one, c.RemoveDocument("contract", "c-acme"))
    assert [problem.code for problem in found] == [ProblemCode.IN_USE]
    assert "has usage" in found[0].message
    one.apply(contract(ACME, ends="2026-11-19"))


def test_there_is_one_estate() -> None:
    """A second operator's needs a control plane of its own; the answer names both."""
    second = replace(estate(), operator=replace(estate().operator, id=OperatorId("second")))
    (problem,) = problems_of(core(), applying(second))
    assert problem.code is ProblemCode.CONFLICT
    assert problem.related == ("estate/op", "estate/second")


def test_an_estate_may_grow_under_what_runs() -> None:
    """Placements keep their nodes, and the columns theirs, though every index has moved."""
    one = busy()
    drawn = one.world.power_w[one.world.fleet.power_index[PowerNodeId("fjord")]]
    before = site(SiteId("arctic"), "NO", racks=3)
    one.apply(estate(before, site(FJORD, "NO", racks=4), BRITAIN))
    at = one.world.fleet.power_index[PowerNodeId("fjord")]
    assert at > 0
    # Four more nodes, idle.
    assert one.world.power_w[at] == drawn + 4 * 200
    for placement in list(one.state.placements.values()):
        one.report(placement.id, *(ended(number, 1) for number in range(len(placement.ranks))))
    assert set(one.world.node_mask.tolist()) == {0}
    assert one.world.power_w[at] == 8 * 200


@pytest.mark.parametrize(
    "change",
    [
        lambda: applying(estate(site(FJORD, "", racks=2), BRITAIN)),
        lambda: applying(estate(site(FJORD, "NO", racks=2, limit_w=10), BRITAIN)),
        lambda: c.RemoveDocument("estate", "op"),
    ],
)
def test_what_only_waits_holds_nothing_back(change: Callable[[], c.Command]) -> None:
    """A queue is no use of a node: the change is made, and the work waits with a reason."""
    one = core()
    one.submit(job(site=FJORD))
    assert one.made(change())
    assert one.plan().placements == ()


def test_removing_what_is_not_there_says_what_is() -> None:
    """With the nearest name."""
    (problem,) = problems_of(core(), c.RemoveDocument("contract", "c-acne"))
    assert problem.code is ProblemCode.NOT_FOUND
    assert "Did you mean c-acme?" in problem.next_step


def test_a_name_that_was_erased_is_not_in_the_way_of_others() -> None:
    """Its documents may go, and what it was billed by stays."""
    one = busy()
    _over(one)
    one.do(c.EraseTenant(ACME))
    one.do(c.RemoveDocument("contract", "c-acme"))
    one.do(c.RemoveDocument("tenant", "acme"))
    assert one.state.tenants[ACME].erased
    assert isinstance(one.world.site(FJORD), Site)
