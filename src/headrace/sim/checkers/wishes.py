"""What a workload asks for, read by the letter: what would do, how many nodes, how they must stand, what it may have."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from headrace.core.observation import Capabilities
from headrace.core.workload import RankPlace, WorkloadSpec, WorkloadType
from headrace.sim.checkers.papers import Papers, Spot

WHOLE = 1_000
"""Thousandths of an accelerator."""


def each_bit(mask: int) -> Iterator[int]:
    """The numbers of the accelerators of a mask."""
    for number in range(mask.bit_length()):
        if mask >> number & 1:
            yield number


def would_do(spec: WorkloadSpec) -> list[tuple[str, int]]:
    """Model and number of accelerators on each node, what was asked for first and then its alternatives."""
    first = (spec.resources.accelerator, spec.resources.accelerators)
    return [first, *((one.accelerator, one.accelerators) for one in spec.alternatives)]


def each_option(spec: WorkloadSpec) -> Iterator[WorkloadSpec]:
    """The same workload, once for each of what would do, without alternatives."""
    for model, count in would_do(spec):
        need = replace(spec.resources, accelerator=model, accelerators=count)
        yield replace(spec, resources=need, alternatives=())


def ranks_allowed(spec: WorkloadSpec) -> range:
    """How many ranks it may have."""
    return range(spec.nodes, max(spec.nodes, spec.nodes_max) + 1)


def stand_wrongly(spec: WorkloadSpec, spots: Sequence[Spot]) -> str:
    """How nodes break what the workload requires of where they stand; "" when they don't."""
    wish = spec.topology
    if wish is None or not wish.required:
        return ""
    if wish.pack and len({spot.among(wish.pack) for spot in spots}) > 1:
        return f"its nodes must be in one {wish.pack}"
    if wish.spread and len({spot.among(wish.spread) for spot in spots}) < len(spots):
        return f"each of its nodes must be in another {wish.spread}"
    return ""


def due_milli(spec: WorkloadSpec, count: int) -> int:
    """Thousandths of accelerators of one rank that asks for ``count`` on its node (of a cluster: at the least)."""
    return count * (WHOLE if spec.type is WorkloadType.CLUSTER else spec.resources.share_milli)


def held_milli(ranks: Sequence[RankPlace]) -> int:
    """Thousandths of accelerators that ranks have."""
    return sum(rank.mask.bit_count() * rank.share_milli for rank in ranks)


def limits_milli(papers: Papers, tenant: str, project: str) -> tuple[int | None, int | None]:
    """What a tenant, and a project of it, may have at most outside reserved contracts; None for no limit."""
    declared = papers.tenants.get(tenant)
    if declared is None:
        return None, None
    own = {str(name): quota for name, quota in declared.project_quotas.items()}.get(project)
    limits = (declared.quota.limit, 0 if own is None else own.limit)
    whole, part = (limit * WHOLE if limit else None for limit in limits)
    return whole, part


def what_lacks(can: Capabilities | None, tenant: str, spec: WorkloadSpec) -> str:
    """What an engine can't do of what a workload of a tenant asks for; "" when nothing, or nothing is known of it."""
    if can is None:
        return ""
    if can.tenant and can.tenant != tenant:
        return f"it is {can.tenant}'s alone"
    if spec.resources.share_milli != WHOLE and not can.parts:
        return "it can't give parts of accelerators"
    if spec.ports and not can.ports:
        return "it has no ports"
    if spec.lease and spec.lease != can.lease:
        return f"it hands no nodes over by {spec.lease}"
    return ""
