"""The same world without some placements: what the next plan will see once they have left."""

from collections.abc import Sequence
from dataclasses import replace

from headrace.core.scheduling.columns import columns_of, scratch_of, shift, use_of
from headrace.core.scheduling.snapshot import Snapshot, Taken
from headrace.core.workload import Placement

_NOTHING = Taken()


def without(snapshot: Snapshot, gone: Sequence[Placement]) -> Snapshot:
    """A snapshot as if ``gone`` had ended; nothing of the original is changed or remembered."""
    columns, state = columns_of(snapshot.fleet), scratch_of(snapshot, columns_of(snapshot.fleet))
    held, usage = dict(snapshot.contract_held_milli), dict(snapshot.usage)
    for one in gone:
        shift(columns, state, use_of(snapshot.fleet, one.ranks, snapshot.tenant_number(one.tenant)), 1)
        milli = sum(rank.accelerators_milli for rank in one.ranks)
        contract = snapshot.contracts.get(one.contract)
        if one.contract in held:
            held[one.contract] -= milli
        if contract is None or contract.kind != "reserved":
            key = one.tenant, one.project
            had = usage.get(key, _NOTHING)
            usage[key] = Taken(
                had.accelerators_milli - milli,
                had.cpu_milli - sum(rank.cpu_milli for rank in one.ranks),
                had.memory_mb - sum(rank.memory_mb for rank in one.ranks),
            )
    left = {one.id for one in gone}
    return replace(
        snapshot,
        node_mask=columns.full & ~state.bits,
        node_cpu_milli=columns.cpu_milli - state.cpu_milli,
        node_memory_mb=columns.memory_mb - state.memory_mb,
        node_ranks=state.ranks.astype(snapshot.node_ranks.dtype),
        node_share_milli=state.share_milli,
        node_sharer=state.sharer,
        power_w=snapshot.power_limit_w - state.head_w[:-1],
        contract_held_milli=held,
        usage=usage,
        placements={ident: one for ident, one in snapshot.placements.items() if ident not in left},
        stopping=None,
        memory=None,
    )
