"""Estate and cluster compared: every difference is a row, and what is less than the estate says gets no work."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.control import Caller
from headrace.core import commands as c
from headrace.core.authority import Role, Subject
from headrace.core.fleet import compile_fleet
from headrace.core.ids import NodeId, TenantId
from headrace.core.observation import NodeReport
from headrace.engines.compare import Mismatch, mismatches
from headrace.engines.fake import FakeEngine
from headrace.engines.slurm.client import Commands
from headrace.engines.slurm.engine import SlurmEngine, SlurmSettings
from headrace.ports import EngineNode
from headrace.reconcile import Reconciler
from tests.api.small import HandClock, small
from tests.core.small import ACME, BOREALIS, estate

OPERATOR = Caller(Subject("token", "t-1", Role.OPERATOR_ADMIN), 1)
FULL = EngineNode("", accelerators=4, cpu_milli=8_000, memory_mb=64_000)


class Cluster(FakeEngine):
    """A fake engine with a cluster that it has looked at, or not yet (None)."""

    seen: Sequence[EngineNode] | None = None

    def host_of(self, node: NodeId) -> str:
        """The last two parts of a node's name; one of them has another."""
        return "other" if node.endswith("g-9-9") else node.rpartition("/b/")[2]

    def inventory(self) -> Sequence[EngineNode] | None:  # type: ignore[override]
        """As it was told."""
        return self.seen

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        """All of them are up."""
        return [NodeReport(node, up=True) for node in of]


def test_every_difference_is_a_row_and_only_less_than_the_estate_is_short() -> None:
    """Missing, of another size, or not in the estate; a node with more memory than declared harms nobody."""
    fleet, engine = compile_fleet(estate()), Cluster(HandClock())
    nodes = [node for node in fleet.node_ids if node.startswith("fjord/")]
    assert mismatches(fleet, nodes, engine) == []
    engine.seen = [
        replace(FULL, name="g-0-0"),
        replace(FULL, name="g-0-1", memory_mb=1_000),
        replace(FULL, name="g-1-0", accelerators=8, memory_mb=999_000),
        replace(FULL, name="n9"),
    ]
    lab = fleet.hardware[0]
    assert mismatches(fleet, nodes, engine) == [
        Mismatch(nodes[1], "g-0-1", "memory, MB", str(lab.memory_mb), "1000", is_short=True),
        Mismatch(nodes[2], "g-1-0", "accelerators", "4", "8"),
        Mismatch(nodes[3], "g-1-1", "node", "there", "no such node", is_short=True),
        Mismatch("", "n9", "node", "no such node", "there"),
    ]


def test_two_nodes_of_the_estate_can_t_be_one_of_the_cluster() -> None:
    """Both would be given the same accelerators."""
    fleet, engine = compile_fleet(estate()), Cluster(HandClock())
    engine.seen = [replace(FULL, name="g-0-0")]
    found = mismatches(fleet, [NodeId("fjord/b/g-0-0"), NodeId("albion/b/g-0-0")], engine)
    assert [(one.node, one.estate, one.is_short) for one in found] == [
        ("albion/b/g-0-0", "another node than fjord/b/g-0-0", True)
    ]


def test_a_node_that_is_less_than_the_estate_says_gets_no_work_until_it_is_right(tmp_path: Path) -> None:
    """Told once, with both numbers; and taken back without anybody's doing."""
    made = small(tmp_path)
    engine = Cluster(made.clock, heartbeat_ms=1_000)
    reconciler = Reconciler(made.control, {"local": engine})
    reconciler.fence()
    nodes = reconciler.nodes_of("local")
    here = {node: node.rpartition("/")[2] for node in nodes}
    engine.host_of = here.__getitem__  # type: ignore[assignment, method-assign]
    whole = [EngineNode(host, accelerators=4) for host in dict.fromkeys(here.values())]
    engine.seen = [replace(whole[0], accelerators=3), *whole[1:]]
    reconciler.observe()
    state = made.control.world.state
    short = [(node, reason) for node, (what, reason) in state.nodes.items() if what == "down"]
    assert short[0] == (nodes[0], "accelerators: the estate says 4, its cluster 3")
    version = state.version
    reconciler.observe()
    assert state.version == version
    engine.seen = whole
    reconciler.observe()
    assert nodes[0] not in state.nodes


def test_an_engine_is_told_which_of_its_nodes_the_operator_drains(tmp_path: Path) -> None:
    """Once in any case, for it waits for that; then each time that changes, with the reasons."""
    made = small(tmp_path)
    engine = Cluster(made.clock, heartbeat_ms=1_000)
    reconciler = Reconciler(made.control, {"local": engine})
    node = reconciler.nodes_of("local")[0]
    engine.cordoned = {node: "of an earlier start"}
    reconciler.observe()
    assert engine.cordoned == {}
    made.control.execute(OPERATOR, c.SetNodes((node,), "draining", "a fan"))
    reconciler.observe()
    assert engine.cordoned == {node: "a fan"}


def clusterless(folder: Path, **settings: Any) -> SlurmEngine:
    """An engine that never saw its cluster."""
    client = Commands(Path("/nowhere/slurm.conf"))
    return SlurmEngine(folder / "spool", client, SlurmSettings(uids=None, **settings))


def test_names_of_the_file_that_are_nobody_s_are_rows_with_what_is_meant(tmp_path: Path) -> None:
    """Of nodes, addresses and tenants, whether the cluster was seen or not; a name that is right is none."""
    fleet = compile_fleet(estate())
    here = [node for node in fleet.node_ids if node.startswith("fjord/")]
    engine = clusterless(
        tmp_path,
        nodes={NodeId("fjord/b/g-00-0"): "n1", NodeId("albion/b/g-0-0"): "n2", here[1]: "n3"},
        addresses={"n3": "10.0.0.3", "g-0-9": "10.0.0.9"},
        accounts={ACME: "acme", TenantId("acm"): "a"},
    )
    found = mismatches(fleet, here, engine, [ACME, BOREALIS])
    assert [(one.node, one.host, one.what, one.estate) for one in found] == [
        ("fjord/b/g-00-0", "n1", "nodes", f"no such node of the estate; did you mean {here[0]}?"),
        ("albion/b/g-0-0", "n2", "nodes", "no such node of this engine"),
        ("", "g-0-9", "addresses", "no such node that is called so; did you mean g-0-0?"),
        ("", "a", "tenant acm", f"no such tenant; did you mean {ACME}?"),
    ]
    assert not any(one.is_short for one in found)
    # Without tenants, or an estate, nothing is known of them.
    assert [one.what for one in mismatches(fleet, here, engine)] == ["nodes", "nodes", "addresses"]
    engine.close()


def test_the_reconciler_tells_names_that_are_nobody_s(tmp_path: Path) -> None:
    """For whoever starts a control plane; of what nobody applied yet nothing is told."""
    made = small(tmp_path)
    engine = clusterless(tmp_path, nodes={NodeId("fjord/b/g-0-o"): "n1"}, accounts={TenantId("fjord-a"): "a"})
    reconciler = Reconciler(made.control, {"local": engine})
    nodes, tenants = reconciler.misnamed()
    assert nodes.startswith("engine local: nodes: no node of the estate 'fjord/b/g-0-o'; known: ")
    assert tenants.startswith("engine local: tenants: no tenant 'fjord-a'; known: ")
    assert tenants.endswith("Did you mean fjord-ai?")
    engine.close()
