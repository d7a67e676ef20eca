"""The writer's judgement: what it lets in, what it turns away, and what it refuses at submission."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from headrace.core.contracts import Contract
from headrace.core.ids import ContractId, PlanId, SiteId, TenantId, WindowId, WorkloadId
from headrace.core.scheduling.admit import admit, can_ever_fit
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.proposal import ProposedPlacement
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.windows import Window
from headrace.core.workload import Alternative, RankPlace, State
from tests.core.scheduling.small import ACME, START_MS, World, contract, fleet_of, group, site

Change = Callable[[ProposedPlacement], ProposedPlacement]


def glom() -> World:
    return World(
        fleet_of(site("glom", group(racks=2, per_rack=2)), site("lough", group(per_rack=1), country="GB"))
    )


def good(world: World) -> ProposedPlacement:
    world.submit(nodes=2, gpus=2, cpu_milli=1_000, memory_mb=1_000, at="glom")
    (proposal,) = plan(world.snapshot()).placements
    return proposal


def rank(changes: dict[str, object]) -> Change:
    """Tamper with the last rank."""
    return lambda p: replace(p, ranks=(*p.ranks[:-1], p.ranks[-1]._replace(**changes)))  # type: ignore[arg-type]


def test_admits_what_the_planner_proposes() -> None:
    """The world has not moved, so the plan holds."""
    world = glom()
    assert admit(world.snapshot(), good(world)) is None


@pytest.mark.parametrize(
    ("tamper", "refusal"),
    [
        (rank({"mask": 0b10001}), Refusal.HARDWARE),
        (rank({"mask": 1 << 70 | 1}), Refusal.HARDWARE),
        (rank({"mask": -1}), Refusal.HARDWARE),
        (rank({"mask": 0b1}), Refusal.HARDWARE),
        (rank({"mask": 0b111}), Refusal.HARDWARE),
        (rank({"cpu_milli": -1_000}), Refusal.HARDWARE),
        (rank({"memory_mb": 0}), Refusal.HARDWARE),
        (rank({"node": "glom/b/g-0-0"}), Refusal.HARDWARE),
        (rank({"node": "lough/b/g-0-0"}), Refusal.HARDWARE),
        (rank({"node": "nowhere"}), Refusal.HARDWARE),
        (lambda p: replace(p, ranks=p.ranks[:1]), Refusal.HARDWARE),
        (lambda p: replace(p, ranks=()), Refusal.HARDWARE),
        (lambda p: replace(p, site=SiteId("lough")), Refusal.HARDWARE),
        (lambda p: replace(p, site=SiteId("nowhere")), Refusal.HARDWARE),
        (lambda p: replace(p, workload=WorkloadId("nobody-1")), Refusal.TIME),
    ],
)
def test_refuses_a_tampered_proposal_and_never_raises(tamper: Change, refusal: Refusal) -> None:
    """What no planner makes is turned away, by name."""
    world = glom()
    assert admit(world.snapshot(), tamper(good(world))) is refusal


def test_refuses_what_the_world_has_outrun() -> None:
    """Each row: what happened since the plan, and the reason that the writer gives."""
    rows: list[tuple[Callable[[World, ProposedPlacement], object], Refusal]] = [
        (lambda w, p: w.run(w.submit(gpus=1), (p.ranks[0].node, 0b1)), Refusal.CAPACITY),
        (
            lambda w, p: w.run(w.submit(gpus=0, model="", cpu_milli=3_500), (p.ranks[0].node, 0)),
            Refusal.CAPACITY,
        ),
        (lambda w, p: w.closed.add(p.ranks[1].node), Refusal.NODE_STATE),
        (lambda w, p: w.limits_w.update({"glom": 800 + 2 * 450 - 1}), Refusal.POWER),
        (lambda w, p: w.limits_w.update({"glom/b/g-0": 400 + 2 * 450 - 1}), Refusal.POWER),
        (lambda w, p: w.contracts.clear(), Refusal.CONTRACT),
        (lambda w, p: setattr(w.workloads[p.workload], "state", State.STOPPED), Refusal.TIME),
        (lambda w, p: setattr(w.workloads[p.workload], "not_before_ms", START_MS + 1), Refusal.TIME),
    ]
    for happens, refusal in rows:
        world = glom()
        proposal = good(world)
        happens(world, proposal)
        assert admit(world.snapshot(), proposal) is refusal


def test_adds_up_the_power_of_ranks_that_share_a_path() -> None:
    """Each rank alone fits the rack, both together fit exactly, one watt less is too little."""
    world = glom()
    proposal = good(world)
    for limit_w, refusal in ((400 + 2 * 450, None), (400 + 2 * 450 - 1, Refusal.POWER)):
        world.limits_w["glom/b/g-0"] = limit_w
        assert admit(world.snapshot(), proposal) is refusal


def test_keeps_law_and_dedication() -> None:
    """Sites that the planner would not have chosen."""
    other = TenantId("other")
    world = World(fleet_of(site("a", group(), country="SE"), site("b", group(), dedicated_to=other)))
    world.submit(countries=("NO",))
    world.submit()
    first, second = world.queue()
    for workload, at, refusal in ((first, "a", Refusal.JURISDICTION), (second, "b", Refusal.DEDICATED)):
        ranks = (RankPlace(f"{at}/b/g-0-0", 1, 0, 0),)
        assert admit(world.snapshot(), ProposedPlacement(workload.id, SiteId(at), ranks)) is refusal


def test_gives_a_cluster_only_empty_nodes_and_all_of_them() -> None:
    """A partial mask is no cluster; nor is a node with somebody on it."""
    world = glom()
    world.submit("cluster", gpus=1)
    (proposal,) = plan(world.snapshot()).placements
    assert admit(world.snapshot(), proposal) is None
    assert admit(world.snapshot(), rank({"mask": 0b1})(proposal)) is Refusal.HARDWARE
    world.run(world.submit(gpus=0, model=""), (proposal.ranks[0].node, 0))
    assert admit(world.snapshot(), proposal) is Refusal.CAPACITY


def test_counts_a_reserved_contract() -> None:
    """Three of four are held: two more are too many."""
    world = glom()
    world.contracts = [Contract(ContractId("r"), ACME, PlanId("p"), "reserved", accelerators=4)]
    proposal = good(world)
    assert admit(world.snapshot(), proposal) is None
    world.run(world.submit(gpus=1), ("lough/b/g-0-0", 0b1))
    assert admit(world.snapshot(), proposal) is Refusal.CONTRACT


def ever(world: World, **ask: object) -> tuple[Refusal, str] | None:
    workload = world.submit(**ask)  # type: ignore[arg-type]
    return can_ever_fit(world.snapshot(), workload.spec, workload.tenant)


def test_lets_in_whatever_an_empty_estate_could_take() -> None:
    """Full nodes, drained nodes, a grid instruction and a block of next year are no reasons to refuse for ever."""
    world = World(fleet_of(site("glom", group(per_rack=2), commissioned="2031-01-01")))
    world.closed.update(world.fleet.node_ids)
    world.limits_w["glom"] = 0
    assert ever(world, nodes=2, gpus=4) is None


@pytest.mark.parametrize(
    ("ask", "refusal", "sentence"),
    [
        (
            {"gpus": 16},
            Refusal.HARDWARE,
            "asks 16 lab accelerators per node; the largest node has 4: ask for at most 4 per node, or 4 nodes of 4",
        ),
        (
            {"gpus": 32},
            Refusal.HARDWARE,
            "asks 32 lab accelerators per node; the largest node has 4: ask for at most 4 per node",
        ),
        (
            {"model": "H900"},
            Refusal.HARDWARE,
            "no node has H900 accelerators; there are: lab (4 per node)",
        ),
        (
            {"cpu_milli": 9_000},
            Refusal.HARDWARE,
            "asks 9000m cpu per node; the largest node has 4000m: ask for at most 4000m per node",
        ),
        (
            {"nodes": 5, "gpus": 2},
            Refusal.HARDWARE,
            "asks 5 nodes with 2 lab accelerators; the largest site that it may use has 4 such: ask for at most 4",
        ),
        (
            {"nodes": 2, "gpus": 4, "at": "lough"},
            Refusal.POWER,
            "asks 2 nodes with 4 lab accelerators; the power at lough (connection 1.5 kW of IT load, less in parts) "
            "carries at most 1: ask for at most 1",
        ),
        ({"countries": ("SE",)}, Refusal.JURISDICTION, "policy countries SE; sites are in GB, NO"),
        ({"at": "mars"}, Refusal.JURISDICTION, "no site mars; known: glom, lough"),
    ],
)
def test_refuses_at_once_what_can_never_fit_and_says_what_would(
    ask: dict[str, object], refusal: Refusal, sentence: str
) -> None:
    """The reason, and the largest ask that would do."""
    world = World(
        fleet_of(
            site("glom", group(per_rack=4)),
            site("lough", group(per_rack=3), country="GB", power_w=1_500),
        )
    )
    assert ever(world, **ask) == (refusal, sentence)


def test_a_block_without_a_day_of_commissioning_or_a_country_is_no_promise() -> None:
    """A plan is not capacity."""
    undated = World(fleet_of(site("glom", group(), commissioned="")))
    told = ever(undated)
    assert told is not None
    assert told[0] is Refusal.HARDWARE
    nowhere = World(fleet_of(site("glom", group(), country="")))
    told = ever(nowhere)
    assert told is not None
    assert told[0] is Refusal.JURISDICTION


def test_a_contract_that_is_too_small_refuses_and_one_that_may_come_does_not() -> None:
    """Reserved four, asked eight; and no contract at all yet."""
    world = World(fleet_of(site("glom", group())))
    world.contracts = [contract(kind="reserved", accelerators=4)]
    told = ever(world, nodes=2, gpus=4)
    assert told == (
        Refusal.CONTRACT,
        "asks 8 accelerators in all; its contract reserves 4: ask for at most 4",
    )
    world.contracts = []
    assert ever(world, nodes=2, gpus=4) is None


def test_sites_dedicated_to_another_are_closed_for_good() -> None:
    """They are not there: where another is served is nobody's to know."""
    other = site("hidden", group(), country="SE", dedicated_to=TenantId("other"))
    world = World(fleet_of(site("glom", group()), other))
    sweden, denmark = ever(world, countries=("SE",)), ever(world, countries=("DK",))
    assert sweden == (Refusal.JURISDICTION, "policy countries SE; site glom is in NO")
    assert denmark == (Refusal.JURISDICTION, "policy countries DK; site glom is in NO")
    alone = World(fleet_of(other))
    told = (Refusal.JURISDICTION, "no site that it may use; known: none")
    assert ever(alone, countries=("SE",)) == ever(alone, countries=("DK",)) == ever(alone) == told


def test_a_larger_accelerator_is_named_when_none_has_so_much_memory() -> None:
    """Not that there are none of the model."""
    world = World(fleet_of(site("glom", group("g", "h100-8"), group("c", "lab"))))
    work = world.submit(model="H100")
    asked = replace(work.spec, resources=replace(work.spec.resources, accelerator_memory_mb=100_000))
    told = can_ever_fit(world.snapshot(), asked, work.tenant)
    assert told is not None
    assert told[1].startswith("asks accelerators of 100000 MB; the largest of H100 has ")


def test_of_alternatives_none_of_which_ever_fits_each_is_told() -> None:
    """Whoever asked for two things learns what is wrong with both."""
    world = World(fleet_of(site("glom", group("c", "lab"))))
    work = world.submit(model="H100", gpus=2)
    asked = replace(work.spec, alternatives=(Alternative("lab", 9),))
    told = can_ever_fit(world.snapshot(), asked, work.tenant)
    assert told is not None
    first, _, second = told[1].partition("; or ")
    assert first.startswith("no node has H100 accelerators")
    assert second.startswith("asks 9 lab accelerators per node")


def test_more_nodes_than_a_reservation_has_are_refused_at_once() -> None:
    """A gang of three in a reservation of two waits for what never comes; who names one that is not known yet may wait."""
    world = World(fleet_of(site("glom", group(per_rack=4))))
    held = WindowId("held")
    windows = (Window(held, ACME, 0, (0, 1), world.now_ms, world.now_ms + 1_000),)
    gang = world.submit(nodes=3)
    within = replace(gang.spec, reservation=held)
    snapshot = replace(world.snapshot(), windows=windows)
    told = can_ever_fit(snapshot, within, ACME)
    assert told == (
        Refusal.HARDWARE,
        "asks 3 nodes; its reservation held has 2 that would do: ask for at most 2",
    )
    assert can_ever_fit(snapshot, replace(within, nodes=2), ACME) is None
    assert can_ever_fit(snapshot, replace(within, reservation=WindowId("later")), ACME) is None
