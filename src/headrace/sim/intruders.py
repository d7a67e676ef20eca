"""Strangers: work on nodes that nobody placed there, and clusters whose nodes and abilities change."""

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import TYPE_CHECKING

from headrace.core import commands as c
from headrace.core.fleet import compile_fleet
from headrace.core.ids import NodeId
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE
from headrace.ports import EngineNode, StartOrder
from headrace.sim.checkers.intruders import Look
from headrace.sim.clients import command
from headrace.sim.clusters import ClusterEngine, some_capabilities
from headrace.sim.faults import RemoteEngine
from headrace.sim.script import SHORT, Scale, Step

if TYPE_CHECKING:
    from headrace.sim.world import Simulation

STRANGERS = (
    "intruder",
    "intruder-starting",
    "intruder-draining",
    "intruders-rack",
    "intruders-block",
    "intruder-restart",
)
"""How strangers come: onto one node; just as a placement starts there; onto a draining one; onto many; while nobody looks."""
CLUSTERS = ("node-vanished", "node-drained", "node-short", "cluster-silent", "engine-changed")
"""What becomes of a cluster, in worlds that have one."""
_IN_SHORT = 0.35
"""How many short worlds have any of it."""
_STAY = 0.4
"""How many worlds come to rest with strangers still there."""
_PATTERNS = ("stay", "pass", "leave", "boot")


def stranger_steps(chance: Random, scale: Scale, *, has_cluster: bool) -> Iterator[Step]:
    """The moments of these faults, by chance of their own: worlds without them are what they were."""
    if scale.length_ms <= SHORT.length_ms:
        strangers, clusters = int(chance.random() < _IN_SHORT), int(chance.random() < 2 * _IN_SHORT)
    else:
        strangers, clusters = chance.randint(1, 3), chance.randint(1, 2)
    kinds = [*chance.sample(STRANGERS, strangers), *chance.sample(CLUSTERS, clusters if has_cluster else 0)]
    for kind in kinds:
        # Not at the very end: they are to be seen coming and going.
        yield Step(chance.randrange(scale.length_ms * 9 // 10), "stranger", kind)


class Strangers:
    """Lets strangers come and go, and clusters change; ``here`` is who is where, whether anybody has seen it or not."""

    def __init__(self, sim: "Simulation", chance: Random) -> None:
        self.sim, self.chance = sim, chance
        self.here: dict[str, str] = {}
        self.fell: dict[str, None] = {}
        """Nodes that the cluster ever took from the control plane."""
        self._number = 100
        self._on_start = self._on_death = 0
        self._is_over = False
        self._opened: Mapping[str, RemoteEngine] = {}
        found = [one for one in sim.plant.engines.values() if isinstance(one, ClusterEngine)]
        self.cluster = found[0] if found else None
        """The cluster of this world."""

    # -- beginnings -----------------------------------------------------------------------------------------

    def happen(self, kind: str) -> None:
        """A fault begins."""
        waits = _KINDS[kind](self)
        if not waits:
            self.sim.switches.fired[kind] += 1
            self._look_soon()

    def _one(self) -> bool:
        """A stranger on one node, sooner on one where something runs."""
        self._come(self._node())
        return False

    def _starting(self) -> bool:
        """Strangers who come with the next orders to start."""
        self._on_start += self.chance.randint(1, 2)
        return True

    def _draining(self) -> bool:
        """A stranger on a node that is drained, before or just then."""
        control = self.sim.plant.control
        nodes = {} if control is None else control.world.state.nodes
        drained = [node for node, (state, _) in nodes.items() if state == "draining"]
        if drained and self.chance.random() < 0.5:
            self._come(self.chance.choice(drained))
            return False
        node, people = self._node(), self.sim.people
        people.drained.append(NodeId(node))
        one = c.SetNodes((NodeId(node),), "draining", "work on it", self.chance.random() < 0.5)
        self.sim.later(
            self.chance.randint(0, 5_000),
            lambda: self.sim.ask(command(people.operator, one, people.key())),
        )
        self._come(node)
        return False

    def _rack(self) -> bool:
        """Strangers all over a rack."""
        self._all_of(self._node().rpartition("-")[0] + "-")
        return False

    def _block(self) -> bool:
        """Strangers all over a block."""
        self._all_of(self._node().rpartition("/")[0] + "/")
        return False

    def _restart(self) -> bool:
        """The control plane dies, and strangers come or go meanwhile."""
        self._on_death += 1
        armed = self.sim.switches.armed
        armed.append(self.chance.choice(("crash-executed", "crash-replied", "crash-after-append")))
        # Also around the moment at which its epoch is on record, and no engine knows it yet.
        if self.chance.random() < 0.5:
            armed.append("crash-started")
        return True

    def ordered(self, order: StartOrder) -> None:
        """Something of ours is being started."""
        if self._on_start:
            self._on_start -= 1
            self._come(self.chance.choice(order.ranks).node)
            self.sim.switches.fired["intruder-starting"] += 1
            self._look_soon()

    def died(self, until_ms: int) -> None:
        """The control plane is dead for ``until_ms`` from now."""
        if not self._on_death:
            return
        self._on_death -= 1
        self.sim.switches.fired["intruder-restart"] += 1
        match self.chance.choice(_PATTERNS):
            case "stay":
                self._come(self._node())
            case "pass":
                self._come(self._node(), self.chance.randint(1, until_ms + 1_000))
            case "leave":
                for node in list(self.here):
                    self._leave(node)
                self._come(self._node())
            case _:
                node = self._node()
                delay_ms = max(0, until_ms + self.chance.randint(-50, 50))
                self.sim.later(delay_ms, lambda: self._come_late(node))

    def _come_late(self, node: str) -> None:
        if not self._is_over:
            self._come(node)

    # -- coming and going -----------------------------------------------------------------------------------

    def _node(self) -> str:
        """A node, sooner one that something runs on."""
        ran = [one.node for one in self.sim.engine.ran[-200:] if one.ended_ms is None]
        return self.chance.choice(ran if ran and self.chance.random() < 0.8 else list(self.sim.node_ids()))

    def _all_of(self, prefix: str) -> None:
        nodes = [node for node in self.sim.node_ids() if node.startswith(prefix)]
        together_ms = self._while_ms() if self.chance.random() < 0.5 else 0
        for node in nodes:
            self._come(node, together_ms)

    def _while_ms(self) -> int:
        if self.sim.scale is SHORT:
            return self.chance.randint(5_000, 15 * MS_PER_MINUTE)
        return self.chance.randint(MS_PER_MINUTE, 4 * MS_PER_HOUR)

    def _come(self, node: str, for_ms: int = 0) -> None:
        for_ms = for_ms or self._while_ms()
        self._number += 1
        who = f"job {self._number} of {self.chance.choice(('root', 'kari', 'ola'))}"
        self.here[node] = who
        self.sim.engine.intrude(node, who)
        if self.chance.random() < 0.2:
            # Before they go, others come.
            self.sim.later(for_ms, lambda: self._relieve(node, who))
        else:
            self.sim.later(for_ms, lambda: self._leave(node, who))

    def _relieve(self, node: str, who: str) -> None:
        if self.here.get(node) == who and not self._is_over:
            self._come(node)
            self._look_soon()

    def _leave(self, node: str, who: str = "") -> None:
        if node not in self.here or who not in ("", self.here[node]):
            return
        if self._is_over and who:
            return  # Who is there when the world comes to rest stays.
        del self.here[node]
        self.sim.engine.intrude(node, "")
        self._look_soon()

    def _look_soon(self) -> None:
        self.sim.look_within(self.chance.randint(100, 2_000))

    # -- clusters -------------------------------------------------------------------------------------------

    def _in_cluster(self, cluster: ClusterEngine) -> str:
        ran = [
            one.node for one in self.sim.engine.ran[-200:] if one.ended_ms is None and cluster.has(one.node)
        ]
        return self.chance.choice(ran or [node for node in self.sim.node_ids() if cluster.has(node)])

    def _for_a_while(self, cluster: ClusterEngine, over: Callable[[], None]) -> None:
        cluster.changed()

        def end() -> None:
            over()
            cluster.changed()
            self._look_soon()

        self.sim.later(self._while_ms(), end)

    def _vanished(self) -> bool:
        """The cluster has a node no more, and perhaps one that the estate has not."""
        cluster = self._cluster()
        node = self._in_cluster(cluster)
        cluster.absent[node] = self.fell[node] = None
        cluster.others = (EngineNode("spare-1", foreign="job 1 of root"),)
        self._for_a_while(cluster, lambda: cluster.absent.pop(node, None))
        return False

    def _drained(self) -> bool:
        """The cluster's own people drain a node."""
        cluster = self._cluster()
        node = self._in_cluster(cluster)
        cluster.drained[node], self.fell[node] = "disk", None
        self._for_a_while(cluster, lambda: _drop(cluster.drained, node))
        return False

    def _short(self) -> bool:
        """A node has less than the estate says."""
        cluster = self._cluster()
        node = NodeId(self._in_cluster(cluster))
        fleet = compile_fleet(self.sim.people.ground.estate)
        hardware = fleet.hardware[int(fleet.node_hardware[fleet.node_index[node]])]
        host = cluster.host_of(node)
        cluster.short[node] = self.chance.choice(
            (
                EngineNode(host, accelerators=hardware.accelerators // 2),
                EngineNode(host, accelerators=hardware.accelerators, memory_mb=hardware.memory_mb // 2),
                EngineNode(host, cpu_milli=hardware.cpu_milli // 2),
            )
        )
        self.fell[node] = None
        self._for_a_while(cluster, lambda: _drop(cluster.short, node))
        return False

    def _silent(self) -> bool:
        """The cluster does not answer for a while."""
        cluster = self._cluster()
        cluster.silence()
        self.sim.later(self.chance.randint(5_000, 40 * MS_PER_MINUTE), self._answers)
        return False

    def _answers(self) -> None:
        self._cluster().answer()
        self._look_soon()

    def _changed(self) -> bool:
        """From the next start of the control plane on, the cluster can do other things."""
        tenants = [one.id for one in self.sim.people.ground.tenants]
        self._cluster().next = self.sim.grid.able(some_capabilities(self.chance, tenants))
        self.sim.switches.armed.append(self.chance.choice(("crash-executed", "crash-replied")))
        return False

    def _cluster(self) -> ClusterEngine:
        cluster = self.cluster
        if cluster is None:
            raise LookupError("this world has no cluster")
        return cluster

    # -- looks ----------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """A control plane opens its engines: what each can do must be on record soon."""
        if self.cluster is not None:
            self.cluster.reopen()
        self._opened = self.sim.plant.engines

    def look(self) -> Look:
        """What engines say at this moment, when they are asked."""
        cluster, there = self.cluster, self.here
        down: dict[str, str] = {
            one.node: "its engine reports it down" for one in self.sim.engine.nodes(()) if not one.up
        }
        if cluster is not None:
            down |= dict.fromkeys(cluster.absent, "the cluster has it no more")
            down |= dict.fromkeys(cluster.drained, "the cluster drains it")
            down |= dict.fromkeys(cluster.short, "the cluster has less of it")
            if cluster.absent:
                there = {node: who for node, who in there.items() if node not in cluster.absent}
        able = {name: engine.capabilities for name, engine in self._opened.items()}
        self._opened = {}
        return Look(there, able, down, self._is_unseen)

    def _is_unseen(self, node: str) -> bool:
        """Whether no engine could say anything new of a node."""
        cluster = self.cluster
        return self.sim.switches.engine_down or (
            cluster is not None and cluster.is_silent and cluster.has(node)
        )

    # -- the end --------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Nobody comes any more and clusters are whole again; in some worlds, who is there stays."""
        self._is_over, self._on_start, self._on_death = True, 0, 0
        cluster = self.cluster
        if cluster is not None:
            for table in (cluster.absent, cluster.drained, cluster.short):
                table.clear()
            cluster.answer()
        if self.chance.random() >= _STAY:
            for node in list(self.here):
                self._leave(node)


def _drop(table: dict[str, str] | dict[str, EngineNode], node: str) -> None:
    table.pop(node, None)


_KINDS: dict[str, Callable[[Strangers], bool]] = {
    "intruder": Strangers._one,
    "intruder-starting": Strangers._starting,
    "intruder-draining": Strangers._draining,
    "intruders-rack": Strangers._rack,
    "intruders-block": Strangers._block,
    "intruder-restart": Strangers._restart,
    "node-vanished": Strangers._vanished,
    "node-drained": Strangers._drained,
    "node-short": Strangers._short,
    "cluster-silent": Strangers._silent,
    "engine-changed": Strangers._changed,
}
"""What each kind does; whether it waits for an occasion."""
