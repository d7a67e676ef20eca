"""What the estate says of an engine's nodes, against what the engine's cluster says: a table for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace.core.fleet import Fleet
from headrace.core.ids import NodeId
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


def mismatches(fleet: Fleet, nodes: Sequence[NodeId], engine: Engine) -> list[Mismatch]:
    """Every difference between the estate's ``nodes`` of an engine and its cluster; none while there is no look at it."""
    seen = engine.inventory()
    if seen is None:
        return []
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
