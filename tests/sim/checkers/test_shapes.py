"""Parts of accelerators, alternatives, elastic gangs, topology and quotas are watched by every checker that they concern."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.core.contracts import Quota, Tenant
from headrace.core.estate import Block, Estate, NodeGroup
from headrace.core.hardware import LAB
from headrace.core.ids import ContractId, ProjectId
from headrace.core.scheduling.refuse import Refusal
from headrace.core.workload import (
    Alternative,
    Level,
    RankPlace,
    Resources,
    Topology,
    WorkloadSpec,
    WorkloadType,
)
from headrace.sim.checkers import Checkers
from headrace.sim.checkers.exactness import ExactnessChecker
from tests.sim.checkers.streams import (
    ACME,
    END_MS,
    ESTATE,
    NORTH,
    RUNNING,
    Edit,
    chain,
    commit,
    document,
    insert,
    invoice,
    line,
    metered,
    placed,
    put,
    rank,
    rules,
    spec,
    story,
    submitted,
    told,
)
from tests.sim.checkers.test_contract import RESERVED
from tests.sim.checkers.test_exactness import ACMES

ONE, TWO, NEXT = "north/a/g-0-0", "north/a/g-0-1", "north/a/g-1-0"
P = ProjectId("p")


def part(share: int, **changes: Any) -> WorkloadSpec:
    """Return a job for thousandths of a lab accelerator."""
    return spec(resources=Resources("lab", 1, 1_000, 1_000, share), **changes)


def on(share: int, mask: int = 0b0001, node: str = ONE) -> RankPlace:
    """Return a rank with a part of an accelerator."""
    return RankPlace(node, mask, 1_000, 1_000, share)


def more(*works: tuple[str, WorkloadSpec, tuple[RankPlace, ...]], contract: str = "") -> Edit:
    """Return the edit in which more workloads are placed in the north, one after the other."""
    steps = [
        event
        for name, of, ranks in works
        for event in (
            submitted(name, of),
            replace(placed(name, "north", *ranks), contract=ContractId(contract)),
        )
    ]
    return insert("drain", *steps)


def only(of: WorkloadSpec, *ranks: RankPlace) -> Edit:
    """Return the edit in which one more workload is placed."""
    return more(("acme-9", of, ranks))


def gang(pack: Level | None = None, spread: Level | None = None, required: bool = True) -> WorkloadSpec:
    """Return a job of two nodes that must stand somehow."""
    return spec(nodes=2, topology=Topology(pack or "", spread or "", required))


def limited(limit: int, project: int = 0) -> Edit:
    """Return the edit that limits the tenant, and its project."""
    quotas = {P: Quota(limit=project)}
    return put(
        "acme", document("tenant", Tenant(ACME, (P,), quota=Quota(limit=limit), project_quotas=quotas))
    )


PAIRED = replace(LAB, id="paired", domain_nodes=2)
WIDE = document(
    "estate",
    Estate(
        ESTATE.operator,
        (
            replace(
                NORTH,
                blocks=(
                    Block("a", (NodeGroup("g", "paired", 4, 4, rail_racks=2),), "feed", 0, "", "2025-06-01"),
                    Block("b", (NodeGroup("g", "paired", 1, 4),), "feed", 0, "", "2025-06-01"),
                ),
            ),
            *ESTATE.sites[1:],
        ),
        {"paired": PAIRED},
    ),
)
"""In the north two nodes are a domain, four a rack, two racks hang on the same rails, four racks are a block."""


def stand(of: WorkloadSpec, *nodes: str) -> Edit:
    """Return the edit in which a gang stands on nodes of the wide estate: ``a-0-1`` is block, rack, node."""
    ranks = tuple(rank(f"north/{node[0]}/g{node[1:]}") for node in nodes)
    return chain(put("estate", WIDE), more(("acme-9", of, ranks)))


EITHER = spec(4, alternatives=(Alternative("H100", 8), Alternative("lab", 1)))
ELASTIC = spec(2, nodes=1, nodes_max=2)
BROKEN: dict[str, tuple[str, str, Edit]] = {
    "a part of another tenant's": (
        "isolation",
        "accelerator-shared",
        more(("acme-9", part(400), (on(400),)), ("beta-9", part(400), (on(400),))),
    ),
    "more than all of it": (
        "isolation",
        "accelerator-over",
        more(("acme-8", part(600), (on(600),)), ("acme-9", part(401), (on(401),))),
    ),
    "a part of what is taken whole": (
        "isolation",
        "accelerator-taken",
        more(("acme-8", spec(), (rank(ONE),)), ("acme-9", part(400), (on(400, 2),))),
    ),
    "the whole of what has a part": (
        "isolation",
        "accelerator-taken",
        more(("acme-8", part(400), (on(400, 2),)), ("acme-9", spec(), (rank(ONE),))),
    ),
    "another part than asked": ("capacity", "part", only(part(400), on(401))),
    "parts of two accelerators": (
        "capacity",
        "part",
        only(spec(resources=Resources("lab", 2, 1_000, 1_000, 400)), on(400, 0b0011)),
    ),
    "more processors than asked": ("capacity", "more", only(spec(), RankPlace(ONE, 0b0011, 1_001, 1_000))),
    "too little memory on an accelerator": (
        "capacity",
        "small",
        only(spec(resources=Resources("lab", 2, 1_000, 1_000, accelerator_memory_mb=1)), rank(ONE)),
    ),
    "none of what would do": ("capacity", "accelerators", only(EITHER, rank(ONE, 0b0011))),
    "each rank another alternative": (
        "capacity",
        "accelerators",
        only(replace(EITHER, nodes=2), rank(ONE, 0b1111), rank(TWO, 0b0001)),
    ),
    "a cluster on too small a node": (
        "capacity",
        "accelerators",
        only(spec(5, type=WorkloadType.CLUSTER), rank(ONE, 0b1111)),
    ),
    "two domains": ("capacity", "topology", stand(gang("domain"), "a-0-1", "a-0-2")),
    "two racks": ("capacity", "topology", stand(gang("rack"), "a-0-1", "a-1-2")),
    "two rails": ("capacity", "topology", stand(gang("rail"), "a-1-2", "a-2-1")),
    "two blocks": ("capacity", "topology", stand(gang("pod"), "a-0-1", "b-0-1")),
    "one domain": ("capacity", "topology", stand(gang(None, "domain"), "a-0-2", "a-0-3")),
    "one rack": ("capacity", "topology", stand(gang(None, "rack"), "a-0-1", "a-0-3")),
    "one rail": ("capacity", "topology", stand(gang(None, "rail"), "a-2-1", "a-3-1")),
    "one block": ("capacity", "topology", stand(gang(None, "pod"), "a-0-1", "a-3-1")),
    "more ranks than its most": ("states", "ranks", only(ELASTIC, rank(ONE), rank(TWO), rank(NEXT))),
    "fewer ranks than its least": (
        "states",
        "ranks",
        only(replace(ELASTIC, nodes=2, nodes_max=3), rank(ONE)),
    ),
    "a priority that it may not have": (
        "states",
        "priority",
        chain(
            put("acme", document("tenant", Tenant(ACME, (P,), max_priority=3))),
            insert("drain", submitted("acme-9", spec(priority=4))),
        ),
    ),
    # The gang had four accelerators, and gave them back; the service in the south has four.
    "more than a tenant's limit": ("contract", "quota", chain(limited(5), only(spec(), rank(ONE)))),
    "a thousandth more than its limit": ("contract", "quota", chain(limited(4), only(part(1), on(1)))),
    "more than a project's limit": ("contract", "quota", chain(limited(0, 5), only(spec(), rank(ONE)))),
    "a thousandth more than a contract holds": (
        "contract",
        "over-held",
        chain(
            put("acme-held", document("contract", replace(RESERVED, accelerators=1))),
            more(
                ("acme-8", part(600, contract=ContractId("acme-held")), (on(600),)),
                ("acme-9", part(401, contract=ContractId("acme-held")), (on(401, 2),)),
            ),
        ),
    ),
    "another model than its contract's": (
        "contract",
        "contract",
        chain(
            put("acme-held", document("contract", replace(RESERVED, model="H100"))),
            only(replace(EITHER, contract=ContractId("acme-held")), rank(ONE, 0b0001)),
        ),
    ),
}
CLEAN: dict[str, Edit] = {
    "parts of one tenant up to the whole": more(
        ("acme-8", part(600), (on(600),)), ("acme-9", part(400), (on(400),))
    ),
    "parts of two tenants side by side": more(
        ("acme-9", part(400), (on(400),)), ("beta-9", part(400), (on(400, 2),))
    ),
    "what was asked for first": only(EITHER, rank(ONE, 0b1111)),
    "the second alternative": only(replace(EITHER, nodes=2), rank(ONE, 0b0001), rank(TWO, 0b1000)),
    "the least": only(ELASTIC, rank(ONE)),
    "the most": only(ELASTIC, rank(ONE), rank(TWO)),
    "in one domain": stand(gang("domain"), "a-0-2", "a-0-3"),
    "in one rack": stand(gang("rack"), "a-0-1", "a-0-2"),
    "on the same rails": stand(gang("rail"), "a-2-1", "a-3-1"),
    "in one block, and in two racks": stand(gang("pod", "rack"), "a-0-1", "a-3-1"),
    "on other rails": stand(gang(None, "rail"), "a-1-2", "a-2-1"),
    "as it would not have wished": stand(gang("domain", required=False), "a-0-1", "b-0-1"),
    "up to the limits": chain(limited(6, 6), only(spec(), rank(ONE))),
    "reserved beyond a limit": chain(
        limited(4),
        more(("acme-9", spec(contract=ContractId("acme-held")), (rank(ONE),)), contract="acme-held"),
    ),
    "without accelerators at a limit": chain(limited(4), only(spec(0), rank(ONE, 0))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_what_was_asked_for_is_found(name: str) -> None:
    """Promises 5 and 6: by the checker that it concerns, as what it is."""
    which, rule, edit = BROKEN[name]
    assert rules(getattr(told(edit), which).violations) == {rule}


@pytest.mark.parametrize("name", CLEAN)
def test_what_was_asked_for_is_found_clean(name: str) -> None:
    """By all of them."""
    checkers = told(CLEAN[name])
    of_placements = (
        checkers.isolation,
        checkers.capacity,
        checkers.states,
        checkers.contract,
        checkers.power,
    )
    assert [one for checker in of_placements for one in checker.violations] == []


def test_parts_of_one_accelerator_draw_what_it_draws_once() -> None:
    """Promise 1: with the first part it is a taken one, and with the last part's end it idles again."""
    checkers = told(more(("acme-8", part(600), (on(600),)), ("acme-9", part(1), (on(1),))))
    # 200 W idle become 200 + 200 + 3 x 25.
    assert checkers.power.above_idle_w["north/a/g-0"] == 275


def test_a_part_is_metered_as_its_part_of_the_sums() -> None:
    """Promise 4: rounded down from the beginning, however often it was metered meanwhile; energy likewise."""
    of, where = part(333), on(333)
    for cuts in ((), (1,), (1, 2, 3, 500, 998)):
        checker = ExactnessChecker()
        times = [metered("acme-9", (ms, 0)) for ms in (*cuts, 1_000)]
        for committed in commit(
            insert("submit-7", submitted("acme-9", of), placed("acme-9", "north", where), *times)(story())
        ):
            checker.observe(committed)
        used = checker.months["acme", "2026-01"].used
        # 20,000 ms of the gang, and 333 of it; 4,960,000 mJ, and a quarter of 1,000 W for a second, times 0.333.
        assert used["capacity", "p", "north"] == 20_000 + 333
        assert used["energy", "p", "north"] == (4_960_000 + 83_250) * 1_000


def test_what_a_part_costs_beside_the_rest_is_billed_to_the_millisecond() -> None:
    """An invoice that leaves the part out, or rounds it up, is found."""
    cases: tuple[tuple[int, set[str]], ...] = ((20_333, set()), (20_334, {"billed"}), (20_000, {"billed"}))
    for quantity, found in cases:
        lines = (
            line("capacity", quantity, quantity),
            line("energy", 5_043_250_000, 5_043),
            line("carbon", 50_432),
            *ACMES.lines[3:],
        )
        edit = chain(
            insert(
                "submit-7",
                submitted("acme-9", part(333)),
                placed("acme-9", "north", on(333)),
                metered("acme-9", (1_000, 0)),
            ),
            put("invoice-acme", invoice("acme", *lines)),
        )
        checkers = told(edit)
        checkers.exactness.at_rest({})
        assert {one.rule for one in checkers.exactness.violations if one.rule != "raw"} == found


def waits(of: WorkloadSpec, *others: Edit) -> Checkers:
    """Return the checkers that were told of one more workload in the queue."""
    return told(chain(*others, insert("drain", submitted("acme-9", of))))


def not_placed(checkers: Checkers) -> bool:
    """Whether it is found that the new one could have been placed."""
    checkers.liveness.at_rest(END_MS, RUNNING)
    assert rules(checkers.liveness.violations) <= {"not-placed", "stuck", "not-running"}
    return [one.subject for one in checkers.liveness.violations if one.rule == "not-placed"] == ["acme-9"]


# At rest three northern nodes are free, and one drains.
FULL = more(*((f"acme-8{n}", spec(4), (rank(node, 0b1111),)) for n, node in enumerate((TWO, NEXT))))
PLACEABLE: dict[str, tuple[WorkloadSpec, Edit]] = {
    "a part of a free accelerator": (part(400), lambda steps: steps),
    "the least of elastic work": (replace(ELASTIC, nodes=3, nodes_max=9), lambda steps: steps),
    "an alternative": (replace(EITHER, resources=Resources("H200", 8)), lambda steps: steps),
    "a gang in one rack": (gang("rack"), lambda steps: steps),
    "a gang in two racks": (gang(None, "rack"), lambda steps: steps),
    "up to its limit": (spec(4), limited(8)),
    "what it would rather have elsewhere": (
        replace(gang("domain", required=False), site=NORTH.id),
        lambda steps: steps,
    ),
    "the rest of an accelerator": (
        part(400),
        chain(FULL, more(("acme-8", spec(3), (rank(ONE, 0b1110),)), ("acme-7", part(600), (on(600),)))),
    ),
}
WAITING: dict[str, tuple[WorkloadSpec, Edit]] = {
    "more than the rest of an accelerator": (
        part(401),
        chain(FULL, more(("acme-8", spec(3), (rank(ONE, 0b1110),)), ("acme-7", part(600), (on(600),)))),
    ),
    "the rest of another tenant's": (
        part(400),
        chain(FULL, more(("acme-8", spec(3), (rank(ONE, 0b1110),)), ("beta-7", part(600), (on(600),)))),
    ),
    "the least of elastic work, one node short": (
        replace(ELASTIC, nodes=4, nodes_max=9),
        lambda steps: steps,
    ),
    "no alternative": (replace(EITHER, alternatives=(), resources=Resources("H200", 8)), lambda steps: steps),
    "three in one rack": (replace(gang("rack"), nodes=3), lambda steps: steps),
    "three in other racks": (replace(gang(None, "rack"), nodes=3), lambda steps: steps),
    "one domain for two": (gang("domain"), lambda steps: steps),
    "over its limit": (spec(4), limited(7)),
    "over its project's limit": (spec(4), limited(0, 7)),
    "more memory on each than there is": (
        spec(resources=Resources("lab", 1, accelerator_memory_mb=1)),
        lambda steps: steps,
    ),
}


@pytest.mark.parametrize("name", PLACEABLE)
def test_what_could_be_placed_is_found_waiting(name: str) -> None:
    """Promise 7: by brute force, with all that it asks for."""
    of, edit = PLACEABLE[name]
    assert not_placed(waits(of, edit))


@pytest.mark.parametrize("name", WAITING)
def test_what_must_wait_for_its_shape_may_wait(name: str) -> None:
    """Promise 7: parts, least counts, topology and quotas are reasons."""
    of, edit = WAITING[name]
    assert not not_placed(waits(of, edit))


@pytest.mark.parametrize(
    ("of", "reason", "true"),
    [
        (replace(gang("rack"), nodes=3), "TOPOLOGY", True),
        (gang("rack"), "TOPOLOGY", False),
        (replace(gang(None, "rack"), nodes=3), "CAPACITY", False),
        (gang("domain"), "TOPOLOGY", True),
        (spec(4, nodes=4, topology=Topology("rack", required=True)), "NODE_STATE", True),
        (spec(4, nodes=4, topology=Topology("rack", required=True)), "POWER", False),
    ],
)
def test_a_claim_about_where_nodes_stand_is_judged(of: WorkloadSpec, reason: str, true: bool) -> None:
    """Promise 7: enough are free, and they stand wrongly."""
    checker = waits(of).explanation
    assert checker.is_true(Refusal[reason], checker.occupancy.queued["acme-9"], END_MS) is true


@pytest.mark.parametrize(
    ("limit", "true"), [((7, 0), True), ((0, 7), True), ((8, 8), False), ((0, 0), False)]
)
def test_a_claim_about_a_quota_is_judged(limit: tuple[int, int], true: bool) -> None:
    """Promise 7: with four more the tenant, or its project, would have eight."""
    checker = waits(spec(4), limited(*limit)).explanation
    assert checker.is_true(Refusal.QUOTA, checker.occupancy.queued["acme-9"], END_MS) is true


def test_no_quota_keeps_what_needs_no_accelerator_or_has_them_reserved() -> None:
    """Promise 7: a limit is on accelerators that no contract reserves, however many the tenant has already."""
    for of in (spec(0), spec(4, contract=ContractId("acme-held"))):
        checker = waits(of, limited(1)).explanation
        assert not checker.is_true(Refusal.QUOTA, checker.occupancy.queued["acme-9"], END_MS)
