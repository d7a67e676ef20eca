"""What if: the plan of a changed estate or queue, beside that of now; nothing that is true is touched."""

from copy import deepcopy
from dataclasses import replace

import pytest

from headrace.core.contracts import Quota
from headrace.core.errors import HeadraceError
from headrace.core.ids import TenantId
from headrace.core.planning.whatif import Changes, WhatIf, plan_now, what_if
from headrace.core.workload import PolicyRef, Resources
from tests.core import small
from tests.core.small import (
    ACME,
    ALBION,
    BOREALIS,
    FJORD,
    Core,
    contract,
    document,
    estate,
    job,
    site,
    tenant,
)

WHOLE = Resources("lab", 4, 250, 16)


def asked(core: Core, **changes: object) -> WhatIf:
    """What if, of a core that is as it was afterwards."""
    before = deepcopy(core.world.state)
    found = what_if(core.world, Changes(**changes), core.now_ms)  # type: ignore[arg-type]
    assert core.world.state == before, "asking changed the world"
    return found


def full(count: int = 6) -> Core:
    """Nodes that are taken whole, six are all, and one more job that waits."""
    core = small.core()
    core.submit(*(job(f"j{number}", resources=WHOLE) for number in range(count + 1)))
    core.place()
    return core


def test_without_changes_both_plans_are_the_plan_of_now() -> None:
    """Asked of nothing, it answers with what the planner would do."""
    core = small.core()
    core.submit(job("a"), job("b", resources=WHOLE))
    found = asked(core)
    assert found.now == found.then == plan_now(core.world, core.now_ms)
    assert [work.spec.name for work, _ in found.then.starts] == ["a", "b"]
    assert found.then.waiting == 0


def test_more_workloads_start_or_wait_with_their_reason() -> None:
    """As if they were submitted after all that wait."""
    core = full()
    found = asked(
        core,
        workloads=((ACME, job("more", resources=WHOLE)), (ACME, job("none", policy=PolicyRef("", ("SE",))))),
    )
    assert [(one.count, one.refusal) for one in found.now.waits] == [(1, "CAPACITY")]
    assert [(one.count, one.refusal) for one in found.then.waits] == [(2, "CAPACITY")]
    assert found.refused[0][1].startswith("policy countries SE")
    assert len(found.new) == 2


def test_a_larger_estate_lets_what_waits_start() -> None:
    """Another rack in Norway takes the job that waits."""
    core = full()
    larger = estate(site(FJORD, "NO", racks=3), site(ALBION, "GB"))
    found = asked(core, documents=(document(larger),))
    assert not found.now.starts
    assert [(work.spec.name, where.site) for work, where in found.then.starts] == [("j6", FJORD)]
    assert found.conflicts == ()


def test_what_would_lose_its_nodes_waits_with_the_others_and_it_is_said() -> None:
    """Without the British site two jobs are without nodes, and there is no room for them."""
    core = full()
    found = asked(core, documents=(document(estate(site(FJORD, "NO", racks=2))),))
    assert len(found.moved) == 2
    assert all("would go or change its hardware" in one for one in found.conflicts)
    assert found.then.waiting == 3


def test_removed_workloads_make_room() -> None:
    """As if they had been stopped."""
    core = full()
    running = next(iter(core.world.state.placements.values())).workload
    found = asked(core, removed=(running,))
    assert [work.spec.name for work, _ in found.then.starts] == ["j6"]


def test_drained_nodes_take_nothing_and_with_evict_give_up_what_they_have() -> None:
    """By site, block, rack or node."""
    core = small.core()
    core.submit(job("a", resources=WHOLE, site=FJORD))
    core.place()
    core.submit(job("b", resources=WHOLE))
    node = next(iter(core.world.state.placements.values())).ranks[0].node
    found = asked(core, drained=(str(FJORD),))
    assert [where.site for _, where in found.then.starts] == [ALBION]
    assert found.moved == ()
    found = asked(core, drained=(node,), evict=True)
    assert len(found.moved) == 1
    assert all(rank.node != node for _, where in found.then.starts for rank in where.ranks)
    assert len(found.then.starts) == 2


def test_at_a_later_time_what_is_sure_to_have_ended_is_gone() -> None:
    """Limits of duration count, expectations don't."""
    core = small.core()
    hour_ms = 3_600_000
    core.submit(
        *(job(f"j{number}", resources=WHOLE, max_duration_ms=hour_ms) for number in range(3)),
        *(job(f"e{number}", resources=WHOLE, expected_ms=hour_ms) for number in range(3)),
    )
    core.place()
    core.submit(*(job(f"w{number}", resources=WHOLE) for number in range(6)))
    found = asked(core, at_ms=core.now_ms + 2 * hour_ms)
    assert len(found.now.starts) == 0
    assert len(found.then.starts) == 3


def test_new_tenants_with_their_contracts_can_be_tried() -> None:
    """Documents that refer to each other are applied as one."""
    core = full(4)
    late = TenantId("late")
    found = asked(
        core,
        documents=(document(contract(late)), document(tenant(late))),
        workloads=((late, job("first", resources=WHOLE)),),
    )
    assert [work.tenant for work, _ in found.then.starts] == [late]


def test_a_smaller_quota_keeps_what_waits() -> None:
    """Of tenants' documents what counts is the quota."""
    core = small.core()
    core.submit(job("a"))
    found = asked(
        core, documents=(document(tenant(ACME, quota=Quota(limit=1))),), workloads=((ACME, job("b")),)
    )
    assert len(found.then.starts) == 1
    assert [one.refusal for one in found.then.waits] == ["QUOTA"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"removed": ("acme-99",)}, "no workload 'acme-99'"),
        ({"removed": ("contract/nope",)}, "no document 'contract/nope'"),
        ({"drained": ("fjord/x",)}, "no site, block, rack or node 'fjord/x'"),
        ({"workloads": ((ACME, job("big", nodes=99)),)}, "can never be placed"),
        ({"workloads": ((TenantId("nobody"), job()),)}, "no tenant 'nobody'"),
        ({"documents": (document(contract(TenantId("nobody"))),)}, "no tenant 'nobody'"),
    ],
)
def test_what_could_never_be_is_refused_as_it_would_be_in_earnest(
    changes: dict[str, object], message: str
) -> None:
    """Names that there are not, and workloads that fit nowhere."""
    with pytest.raises(HeadraceError, match=message):
        asked(full(), **changes)


def test_removed_documents_are_gone_and_what_uses_them_is_said() -> None:
    """A contract in use could not be removed: without it nothing more of its tenant starts."""
    core = small.core()
    core.submit(job("a"), tenant=BOREALIS)
    core.place()
    core.submit(job("b"), tenant=BOREALIS)
    found = asked(core, removed=("contract/c-borealis",))
    assert [one.refusal for one in found.then.waits] == ["CONTRACT"]
    assert found.conflicts[0].startswith("contract c-borealis is in use;")
    assert replace(found.now, waits=()).starts
