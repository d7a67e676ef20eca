"""What the estate says of an engine's nodes, against what the engine's cluster says: a table for people."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from headrace.core.fleet import Fleet
from headrace.core.ids import NodeId, TenantId
from headrace.engines.agent import AgentEngine
from headrace.engines.names import Misnamed, misnamed
from headrace.ports import Engine, EngineNode


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference: ``node`` is the estate's name and ``host`` the cluster's, either empty where there is none.

    ``is_short``: the cluster has less than the estate, so that what is placed there could not run.
    """

    node: str
    host: str
    what: str
    estate: str
    cluster: str
    is_short: bool = False

    def line(self) -> str:
        """In one line."""
        return f"{self.what}: the estate says {self.estate}, its cluster {self.cluster}"


def engines_of(fleet: Fleet) -> dict[NodeId, str]:
    """The engine of each node of the estate, its block's or its site's."""
    return {node: fleet.engine_of(index) for index, node in enumerate(fleet.node_ids)}


def mismatches(
    fleet: Fleet, nodes: Sequence[NodeId], engine: Engine, tenants: Collection[TenantId] | None = None
) -> list[Mismatch]:
    """Every difference between the estate's ``nodes`` of an engine and its cluster; none while there is no look at it.

    Also names that the file of engines says something of and that are no node's; and no tenant's, where ``tenants`` are given.
    """
    names = [_name(one) for one in misnamed_in(fleet, nodes, engine, tenants)]
    seen = engine.inventory()
    return names if seen is None else [*names, *_differences(fleet, nodes, engine, seen)]


def misnamed_in(
    fleet: Fleet, nodes: Sequence[NodeId], engine: Engine, tenants: Collection[TenantId] | None
) -> Sequence[Misnamed]:
    """Names in the file of engines that are nobody's, by the engine that was made of it."""
    named = engine.named if isinstance(engine, AgentEngine) else None
    if named is None or not (named.nodes or named.addresses or named.tenants):
        return ()
    return tuple(misnamed(named, frozenset(nodes), fleet.node_index, tenants))


def _name(one: Misnamed) -> Mismatch:
    node, host = (one.name, one.value) if one.field == "nodes" else ("", one.value)
    what = one.field if one.field != "tenants" else f"tenant {one.name}"
    return Mismatch(node, host, what, one.briefly(), "-")


def _differences(
    fleet: Fleet, nodes: Sequence[NodeId], engine: Engine, seen: Sequence[EngineNode]
) -> list[Mismatch]:
    there = {one.name: one for one in seen}
    first: dict[str, NodeId] = {}
    found: list[Mismatch] = []
    for node in nodes:
        host = engine.host_of(node)
        other = first.setdefault(host, node)
        if other != node:
            found.append(
                Mismatch(node, host, "name", f"another node than {other}", "one node", is_short=True)
            )
        elif host not in there:
            found.append(Mismatch(node, host, "node", "there", "no such node", is_short=True))
        else:
            found += _sizes(fleet, node, there[host])
    found += [
        Mismatch("", one.name, "node", "no such node", "there") for one in seen if one.name not in first
    ]
    return found


def _sizes(fleet: Fleet, node: NodeId, seen: EngineNode) -> Iterator[Mismatch]:
    hardware = fleet.hardware[int(fleet.node_hardware[fleet.node_index[node]])]
    for what, said, has in (
        ("accelerators", hardware.accelerators, seen.accelerators),
        ("processors", hardware.cpu_milli // 1_000, seen.cpu_milli // 1_000),
        ("memory, MB", hardware.memory_mb, seen.memory_mb),
    ):
        # More of what is only a share of the node does nobody harm.
        if has and (has < said or (what == "accelerators" and has != said)):
            yield Mismatch(node, seen.name, what, str(said), str(has), is_short=has < said)
