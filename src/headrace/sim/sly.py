"""Placements that look right, and that one rule alone stands against: the writer must not take the planner's word."""

from collections.abc import Iterator, Sequence
from random import Random

from headrace.core.ids import SiteId
from headrace.core.scheduling.columns import columns_of
from headrace.core.scheduling.proposal import ProposedPlacement
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.topology import stand_well
from headrace.core.workload import WHOLE_MILLI, RankPlace, Workload, WorkloadType


def sly_placements(chance: Random, snapshot: Snapshot) -> Iterator[ProposedPlacement]:
    """Parts of accelerators that others have, nodes that stand wrongly or are kept, and one node too many."""
    kept = {node for window in snapshot.windows if window.is_on(snapshot.now_ms) for node in window.nodes}
    for work in snapshot.queue:
        spec = work.spec
        if spec.type is WorkloadType.CLUSTER or spec.alternatives:
            continue
        if spec.resources.share_milli < WHOLE_MILLI and spec.nodes == 1:
            yield from _beside(chance, snapshot, work)
        if spec.nodes_max:
            for site, nodes in _free(snapshot, work).items():
                yield from _on(chance, snapshot, work, site, nodes, spec.nodes_max + 1)
        for site, nodes in _free(snapshot, work).items():
            if spec.topology is not None and spec.topology.required:
                yield from _standing_wrongly(chance, snapshot, work, site, nodes)
            elif spec.reservation is None and kept:
                inside = [node for node in nodes if node in kept]
                yield from _on(chance, snapshot, work, site, inside, spec.nodes)


def _beside(chance: Random, snapshot: Snapshot, work: Workload) -> Iterator[ProposedPlacement]:
    """On an accelerator of which another tenant has a part, or of which too little is left."""
    mine_milli = work.spec.resources.share_milli
    taken: dict[tuple[str, int], int] = {}
    parts: list[tuple[str, SiteId, RankPlace]] = []
    for placement in snapshot.placements.values():
        for rank in placement.ranks:
            if rank.share_milli < WHOLE_MILLI:
                key = rank.node, rank.mask
                taken[key] = taken.get(key, 0) + rank.share_milli
                parts.append((placement.tenant, placement.site, rank))
    wrong = [
        (site, rank)
        for tenant, site, rank in parts
        if tenant != work.tenant or taken[rank.node, rank.mask] + mine_milli > WHOLE_MILLI
    ]
    for site, rank in chance.sample(wrong, min(3, len(wrong))):
        yield ProposedPlacement(work.id, site, (_rank(work, rank.node, rank.mask),))


def _free(snapshot: Snapshot, work: Workload) -> dict[SiteId, list[int]]:
    """Nodes of the right model that nobody uses, by site."""
    fleet, need = snapshot.fleet, work.spec.resources
    found: dict[SiteId, list[int]] = {}
    for node in range(len(fleet.node_ids)):
        hardware = fleet.hardware[fleet.node_hardware[node]]
        fits = need.accelerator in ("", hardware.accelerator) and need.accelerators <= hardware.accelerators
        if fits and not snapshot.node_mask[node] and snapshot.node_open[node]:
            found.setdefault(fleet.sites[int(fleet.node_site[node])].id, []).append(node)
    return found


def _on(
    chance: Random, snapshot: Snapshot, work: Workload, site: SiteId, nodes: Sequence[int], count: int
) -> Iterator[ProposedPlacement]:
    if len(nodes) >= count:
        mask = (1 << work.spec.resources.accelerators) - 1
        chosen = [snapshot.fleet.node_ids[node] for node in chance.sample(nodes, count)]
        yield ProposedPlacement(work.id, site, tuple(_rank(work, node, mask) for node in chosen))


def _standing_wrongly(
    chance: Random, snapshot: Snapshot, work: Workload, site: SiteId, nodes: Sequence[int]
) -> Iterator[ProposedPlacement]:
    """On free nodes that don't stand as it requires, when some are found by chance."""
    columns = columns_of(snapshot.fleet)
    for _ in range(4):
        if len(nodes) < work.spec.nodes:
            return
        chosen = chance.sample(nodes, work.spec.nodes)
        if not stand_well(columns, work.spec.topology, chosen):
            yield from _on(chance, snapshot, work, site, chosen, len(chosen))
            return


def _rank(work: Workload, node: str, mask: int) -> RankPlace:
    need = work.spec.resources
    return RankPlace(node, mask, need.cpu_milli, need.memory_mb, need.share_milli)
