"""Whose turn it is: who gets the one place that is left."""

from collections.abc import Callable

import pytest

from headrace.core.contracts import Quota, Tenant
from headrace.core.ids import ContractId, ProjectId, TenantId
from headrace.core.scheduling.order import aged_priority
from headrace.core.scheduling.plan import plan
from headrace.core.workload import Workload
from tests.core.scheduling.small import ACME, START_MS, World, contract, fleet_of, group, placed, site

OTHER = TenantId("other")
A, B = ProjectId("a"), ProjectId("b")
HOUR_MS = 3_600_000


def lab(nodes: int) -> World:
    """Nodes of four accelerators, four processors and 8 GB; two tenants that pay for what they use."""
    return World(fleet_of(site("glom", group(per_rack=nodes))), contracts=[contract(), contract(OTHER)])


def node(number: int) -> str:
    return f"glom/b/g-0-{number}"


def one_left(holder: TenantId) -> World:
    """Two nodes, one of them held by ``holder``, whose share is therefore the greater."""
    world = lab(2)
    world.run(world.submit(gpus=4, tenant=holder), (node(0), 0b1111))
    return world


def first(world: World) -> str:
    """The one workload that is placed: all ask for a whole node, and one is left."""
    (found,) = placed(plan(world.snapshot()))
    return found


# -- aging ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waited_ms", "aged"),
    [
        (0, False),
        (24 * HOUR_MS - 1, False),
        (24 * HOUR_MS, True),
        (25 * HOUR_MS, True),
    ],
)
def test_who_waited_for_a_day_goes_before_a_smaller_share(waited_ms: int, aged: bool) -> None:
    """Both have priority 0: until then the tenant that has less goes first, though it came later."""
    world = one_left(ACME)
    old = world.submit(gpus=4)
    world.now_ms += waited_ms
    fresh = world.submit(gpus=4, tenant=OTHER)
    assert first(world) == (old if aged else fresh).id


@pytest.mark.parametrize(
    ("waited_h", "priority"), [(25, 1), (47, 1), (48, 2), (73, 3)], ids=["25 h", "47 h", "48 h", "73 h"]
)
@pytest.mark.parametrize("holder", [ACME, OTHER])
def test_each_day_of_waiting_is_level_with_one_priority_more(
    holder: TenantId, waited_h: int, priority: int
) -> None:
    """Between who waited at 0 and who has just come with the priority the shares decide, both ways."""
    world = one_left(holder)
    old = world.submit(gpus=4)
    world.now_ms += waited_h * HOUR_MS
    fresh = world.submit(gpus=4, tenant=OTHER, priority=priority)
    assert first(world) == (fresh if holder == ACME else old).id


def test_a_day_of_waiting_is_not_level_with_two_priorities_more() -> None:
    """The one that waited has the smaller share and came first, and goes after priority 2."""
    world = one_left(OTHER)
    world.submit(gpus=4)
    world.now_ms += 25 * HOUR_MS
    fresh = world.submit(gpus=4, tenant=OTHER, priority=2)
    assert first(world) == fresh.id


@pytest.mark.parametrize("kind", ["job", "filler"])
def test_a_filler_does_not_age(kind: str) -> None:
    """After 25 h it still goes after a fresh job, and after a fresh filler of a tenant that has less."""
    world = one_left(ACME)
    old = world.submit("filler", gpus=4)
    world.now_ms += 25 * HOUR_MS
    fresh = world.submit(kind, gpus=4, tenant=OTHER)
    assert aged_priority(old, world.now_ms) == 0
    assert first(world) == fresh.id


def _requeued(world: World, work: Workload) -> None:
    work.since_ms = world.now_ms + 2 * HOUR_MS


def _put_off(world: World, work: Workload) -> None:
    work.not_before_ms = world.now_ms + 2 * HOUR_MS


@pytest.mark.parametrize("delay", [_requeued, _put_off])
@pytest.mark.parametrize(("waited_h", "aged"), [(25, False), (26, True)], ids=["25 h", "26 h"])
def test_only_the_time_in_which_it_could_have_started_counts(
    delay: Callable[[World, Workload], None], waited_h: int, aged: bool
) -> None:
    """It was requeued after two hours, or backed off until then: a day from there on."""
    world = one_left(ACME)
    old = world.submit(gpus=4)
    delay(world, old)
    world.now_ms += waited_h * HOUR_MS
    fresh = world.submit(gpus=4, tenant=OTHER)
    assert first(world) == (old if aged else fresh).id


def test_of_a_line_only_those_age_who_waited() -> None:
    """Alike but for when they came: the old one goes, then the tenant that has less, then the young one."""
    world = lab(4)
    world.run(world.submit(gpus=4), (node(0), 0b1111))
    old = world.submit(gpus=4)
    world.now_ms = START_MS + 25 * HOUR_MS
    young, fresh = world.submit(gpus=4), world.submit(gpus=4, tenant=OTHER)
    assert placed(plan(world.snapshot())) == [old.id, fresh.id, young.id]


@pytest.mark.parametrize("nodes", [1, 2], ids=["singles", "gangs"])
def test_all_of_a_line_who_waited_go_before_a_smaller_share(nodes: int) -> None:
    """The second and the third of those that are alike have aged as the first has."""
    world = lab(1 + 4 * nodes)
    world.run(world.submit(gpus=4), (node(0), 0b1111))
    old = [world.submit(nodes=nodes, gpus=4) for _ in range(3)]
    world.now_ms += 25 * HOUR_MS
    fresh = world.submit(nodes=nodes, gpus=4, tenant=OTHER)
    assert placed(plan(world.snapshot())) == [*(one.id for one in old), fresh.id]


# -- shares of tenants and projects -----------------------------------------------------------------------------


def test_the_tenant_that_has_less_goes_first() -> None:
    """It came later."""
    world = one_left(ACME)
    world.submit(gpus=4)
    later = world.submit(gpus=4, tenant=OTHER)
    assert first(world) == later.id


@pytest.mark.parametrize("declared", [False, True], ids=["nothing declared", "declared"])
def test_of_one_tenant_the_project_that_has_less_goes_first(declared: bool) -> None:
    """Project a holds the half of the estate; what project b submits later goes before it."""
    world = one_left(ACME)
    if declared:
        world.tenants = {ACME: Tenant(ACME, (ProjectId("main"), B))}
    world.submit(gpus=4)
    later = world.submit(gpus=4, project=B)
    assert first(world) == later.id


@pytest.mark.parametrize(
    ("weight_a", "weight_b", "turn"),
    [(1, 1, "b"), (2, 1, "b"), (4, 1, "a"), (4, 2, "b"), (1, 2, "b"), (1, 4, "b")],
)
def test_the_weight_of_a_project_is_the_part_that_it_is_due(weight_a: int, weight_b: int, turn: str) -> None:
    """Project a holds three nodes and b one: a is due a turn before b only with a weight over three times b's."""
    world = lab(5)
    for number, project in enumerate((A, A, A, B)):
        world.run(world.submit(gpus=4, project=project), (node(number), 0b1111))
    quotas = {A: Quota(weight=weight_a), B: Quota(weight=weight_b)}
    world.tenants = {ACME: Tenant(ACME, (A, B), project_quotas=quotas)}
    # Whoever is not due it came first.
    early = world.submit(gpus=4, project=A if turn == "b" else B)
    late = world.submit(gpus=4, project=turn)
    assert first(world) == late.id != early.id


@pytest.mark.parametrize(("weight", "turn"), [(1, OTHER), (2, OTHER), (4, ACME)])
def test_the_weight_of_a_tenant_is_the_part_that_it_is_due(weight: int, turn: TenantId) -> None:
    """It holds three nodes and the other one: with a weight of four it is the first, though it came later."""
    world = lab(5)
    for number, tenant in enumerate((ACME, ACME, ACME, OTHER)):
        world.run(world.submit(gpus=4, tenant=tenant), (node(number), 0b1111))
    main = (ProjectId("main"),)
    world.tenants = {ACME: Tenant(ACME, main, quota=Quota(weight=weight)), OTHER: Tenant(OTHER, main)}
    world.submit(gpus=4, tenant=OTHER if turn == ACME else ACME)
    late = world.submit(gpus=4, tenant=turn)
    assert first(world) == late.id


def test_the_share_of_a_tenant_comes_before_that_of_a_project() -> None:
    """A project that has nothing goes after another tenant's that has something: its tenant has more."""
    world = lab(4)
    for number, tenant in enumerate((ACME, ACME, OTHER)):
        world.run(world.submit(gpus=4, tenant=tenant, project=A), (node(number), 0b1111))
    world.submit(gpus=4, project=B)
    late = world.submit(gpus=4, tenant=OTHER, project=A)
    assert first(world) == late.id


@pytest.mark.parametrize("gpus", [1, 4])
@pytest.mark.parametrize("nodes", [1, 2], ids=["singles", "gangs"])
def test_shares_grow_as_a_pass_places(nodes: int, gpus: int) -> None:
    """All of the first tenant came first, project by project: turns go from tenant to tenant and project to project."""
    world = lab(6 * nodes)
    mine = [world.submit(nodes=nodes, gpus=gpus, project=one) for one in (A, A, B)]
    theirs = [world.submit(nodes=nodes, gpus=gpus, tenant=OTHER, project=one) for one in (A, A, B)]
    turns = [mine[0], theirs[0], mine[2], theirs[2], mine[1], theirs[1]]
    assert placed(plan(world.snapshot())) == [one.id for one in turns]


# -- the dominant resource --------------------------------------------------------------------------------------

Held = tuple[int, int, int]
"""Accelerators, thousandths of processors and megabytes; four nodes have 16, 16,000 and 32,000 of them."""


@pytest.mark.parametrize(
    ("more", "less"),
    [
        pytest.param(
            [(0, 4_000, 0)] * 2, [(4, 0, 0)], id="half of the processors, a quarter of the accelerators"
        ),
        pytest.param(
            [(0, 0, 8_000)] * 2, [(4, 0, 0)], id="half of the memory, a quarter of the accelerators"
        ),
        pytest.param(
            [(4, 0, 0)], [(0, 3_900, 0)], id="a quarter of the accelerators, less of the processors"
        ),
        pytest.param([(4, 0, 0)], [(0, 0, 7_900)], id="a quarter of the accelerators, less of the memory"),
        pytest.param([(0, 4_000, 0)], [(0, 0, 7_900)], id="a quarter of the processors, less of the memory"),
        pytest.param([(0, 0, 8_000)], [(0, 3_900, 0)], id="a quarter of the memory, less of the processors"),
        pytest.param([(0, 4_000, 0)], [(3, 3_000, 6_000)], id="a quarter of one, less of each of all three"),
    ],
)
@pytest.mark.parametrize("by_project", [False, True], ids=["tenants", "projects"])
def test_who_has_less_of_what_it_has_most_of_goes_first(
    more: list[Held], less: list[Held], by_project: bool
) -> None:
    """A share is the greatest part of accelerators, processors and memory, not their sum nor the first of them."""
    world = lab(4)
    names = ((ACME, A), (ACME, B)) if by_project else ((ACME, A), (OTHER, A))
    number = 0
    for (tenant, project), held in zip(names, (more, less), strict=True):
        for gpus, cpu_milli, memory_mb in held:
            model = "lab" if gpus else ""
            holds = world.submit(
                model=model,
                gpus=gpus,
                cpu_milli=cpu_milli,
                memory_mb=memory_mb,
                tenant=tenant,
                project=project,
            )
            world.run(holds, (node(number), (1 << gpus) - 1))
            number += 1
    # One node is left: the others can't be had by anybody.
    world.closed.update(node(taken) for taken in range(3))
    early, late = (world.submit(gpus=4, tenant=tenant, project=project) for tenant, project in names)
    assert first(world) == late.id != early.id


# -- contracts --------------------------------------------------------------------------------------------------


def sold(kind: str) -> World:
    """One node is left; ``acme`` has a contract of some kind beside the usual one."""
    world = lab(1)
    world.contracts.append(
        contract(id=ContractId("special"), kind=kind, accelerators=4 if kind == "reserved" else 0)
    )
    return world


@pytest.mark.parametrize("tenant", [ACME, OTHER], ids=["of its own tenant", "of another tenant"])
@pytest.mark.parametrize(("kind", "goes_first"), [("reserved", True), ("on-demand", False)])
def test_reserved_goes_before_on_demand_whatever_the_priorities(
    kind: str, goes_first: bool, tenant: TenantId
) -> None:
    """At priority -10, and later, before one at 10; another contract that is named changes nothing."""
    world = sold(kind)
    usual = world.submit(gpus=4, tenant=tenant, priority=10)
    special = world.submit(gpus=4, priority=-10, named="special")
    assert first(world) == (special if goes_first else usual).id


def test_what_is_reserved_does_not_count_as_a_share() -> None:
    """Its tenant has been served by its contract, and is level with the other: who came first goes first."""
    world = lab(2)
    world.contracts.append(contract(id=ContractId("special"), kind="reserved", accelerators=4))
    usual = world.submit(gpus=4)
    world.submit(gpus=4, tenant=OTHER)
    special = world.submit(gpus=4, named="special")
    assert placed(plan(world.snapshot())) == [special.id, usual.id]
