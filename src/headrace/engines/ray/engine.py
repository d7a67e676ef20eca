"""The Ray engine: a placement is one job, whose driver takes exactly its nodes and has each rank run under the runner.

The cluster is reached over HTTP alone. Jobs run as whoever runs the raylets: root, where each tenant has a Unix user of its own.
A job's metadata names its placement, epoch and mark.

Ray loses its jobs with its head, unless it keeps them in a database of its own, and a runner may outlive what launched it by the
grace of its order. So a rank on another host lives as long as its job, and then as long as its heartbeats come.
"""

import contextlib
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from headrace.core.errors import ProblemCode, unknown
from headrace.core.ids import Epoch, NodeId, TenantId
from headrace.core.workload import WHOLE_MILLI, RankPlace
from headrace.engines import runner
from headrace.engines.agent import AgentEngine, AgentSettings, Job, Refused
from headrace.engines.names import Named
from headrace.engines.problems import as_engine_error, engine_error
from headrace.engines.ranks import Held, Rank
from headrace.engines.ray import gang
from headrace.engines.ray.client import Holder, RayClient, RayJob, RayNode, Submission
from headrace.ports import Capabilities, EngineError, EngineNode, StartOrder

PREFIX = "headrace-"
"""How our jobs, groups and tasks are called."""
_RAYS_OWN = "_ray_internal_"
_LEAST_CPU = 0.01
_MEMORY = "memory"
"""What Ray calls a node's memory: what its own objects leave of it, in bytes. It counts and limits nobody."""
_SILENT_MS = 5_000
"""How long a runner on another host may be silent beyond three heartbeats."""
_DELETED_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class RaySettings(AgentSettings):
    """Whose cluster it is. ``tenant``: the one whose orders it takes. None: the operator's own, which takes anybody's; two
    tenants' processes share its nodes and Ray itself then.

    ``resource`` is what accelerators are called, like ``GPU`` or a resource of the cluster's own ("": none are asked for).
    ``ray_python`` runs on the cluster's head: the Python that has ``ray``. Ray forgets our ended jobs after ``keep_ended_ms``.
    Where ``addresses`` says nothing, Ray's addresses of its nodes stand. With ``uids`` the raylets must run as root.
    """

    tenant: TenantId | None = field(kw_only=True)
    uids: range | None = None
    resource: str = "GPU"
    ray_python: str = "python3"
    keep_ended_ms: int = 3_600_000


class RayEngine(AgentEngine):
    """Runs placements on a Ray cluster; implements :class:`headrace.ports.Engine`. End it with :meth:`close`.

    A drain is kept here alone: Ray can't be told over HTTP to give a node no work and later some again. What is ordered on a
    drained node waits, and work that others submit to the cluster still comes to it.
    """

    def __init__(self, root: Path, client: RayClient, settings: RaySettings) -> None:
        self._client, self._ray = client, settings
        self._seen: Sequence[RayJob] = ()
        self._drained: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._beats: WeakKeyDictionary[Rank, tuple[Any, float]] = WeakKeyDictionary()
        super().__init__(root, settings)

    def close(self) -> None:
        """End the agent and its connections; what runs goes on."""
        super().close()
        self._client.close()

    # --- starting -------------------------------------------------------------------------------------------------

    def _ship_runner(self) -> Path:
        self._ship(Path(gang.__file__), "gang.py")
        return super()._ship_runner()

    def _why_never(self, order: StartOrder) -> str:
        owner = self._ray.tenant
        if owner is not None and order.tenant != owner:
            return f"this Ray cluster is {owner}'s alone, and tenants never share one; place {order.tenant} elsewhere"
        if any(place.share_milli < WHOLE_MILLI for place in order.ranks):
            return "Ray is asked for whole accelerators alone; ask for gpu: MODEL:1"
        return super()._why_never(order)

    def _allot(self, order: StartOrder, info: dict[str, Any]) -> None:
        super()._allot(order, info)
        host = self.host_of(NodeId(order.ranks[0].node))
        if host in self._ray.addresses:
            return
        if len(order.ranks) > 1 and not self._looks:
            # A node's name need not be one that others can reach it by.
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"the address of node {host} is not known before the Ray cluster has answered;",
                "it is tried again.",
            )
        info["address"] = self._addresses.get(host, host)

    def _submit_job(self, held: Held, order: StartOrder) -> str:
        self._refuse_impossible(order)
        name = f"{PREFIX}{order.placement}.e{order.epoch}.{held.info['mark']}"
        path = held.directory / "gang.json"
        with as_engine_error(f"placement {order.placement} can't be submitted now"):
            runner.write_atomic(str(path), self._gang(held, order, name), durable=False)
        script = self._root / "gang.py"
        metadata = {"placement": order.placement, "epoch": str(order.epoch), "mark": held.info["mark"]}
        command = [self._ray.ray_python, str(script), "place", str(path)]
        self._client.submit(
            Submission(
                id=name,
                entrypoint=f"exec {shlex.join(command)}",
                metadata={f"{PREFIX}{key}": value for key, value in metadata.items()},
            )
        )
        return name

    def _gang(self, held: Held, order: StartOrder, name: str) -> dict[str, Any]:
        """What the driver of a placement's job reads; see :mod:`headrace.engines.ray.gang`."""
        memory_mb = {one.name: one.memory_mb for one in self._inventory}
        hosts = [self.host_of(NodeId(place.node)) for place in order.ranks]
        return {
            "name": name,
            "root": str(self._root),
            "python": self._ray.python,
            "ranks": [
                {
                    "directory": str(held.directory / str(number)),
                    "node": host,
                    "resources": self._resources(place, memory_mb.get(host, 0)),
                }
                for number, (place, host) in enumerate(zip(order.ranks, hosts, strict=True))
            ],
        }

    def _resources(self, place: RankPlace, memory_mb: int) -> dict[str, float]:
        """What a rank's bundle has on its node, which declares ``memory_mb``."""
        wanted = {"CPU": max(_LEAST_CPU, place.cpu_milli / 1_000)}
        if self._ray.resource and place.accelerators:
            wanted[self._ray.resource] = float(place.accelerators)
        # A node that declares none would never have it.
        if place.memory_mb and memory_mb:
            wanted[_MEMORY] = float(place.memory_mb << 20)
        return wanted

    def _refuse_impossible(self, order: StartOrder) -> None:
        """Refused for nodes that the cluster does not have, or that have less than is asked."""
        there = {one.name: one for one in self._inventory}
        for place in order.ranks:
            name = self.host_of(NodeId(place.node))
            if name not in there:
                raise Refused(unknown("node of the Ray cluster", name, there))
            has, short = there[name], ""
            if self._ray.resource and place.accelerators > has.accelerators:
                short = f"{has.accelerators} {self._ray.resource}, not {place.accelerators}"
            elif place.cpu_milli > has.cpu_milli:
                short = f"{has.cpu_milli} milli-processors, not {place.cpu_milli}"
            elif has.memory_mb and place.memory_mb > has.memory_mb:
                short = f"{has.memory_mb} MB of what Ray calls memory, not {place.memory_mb}"
            if short:
                problem = engine_error(
                    ProblemCode.UNPLACEABLE,
                    f"node {name} of the Ray cluster has {short};",
                    "compare the estate with what the cluster has: `headrace engines`.",
                )
                raise Refused(*problem.problems)

    def _is_open(self, order: StartOrder) -> bool:
        # It waits here, not in the cluster, where a driver would wait with all of its memory. A node that was there once may
        # come back: a head that was started anew knows no node until it joins.
        there = {one.name: one.is_up and not one.is_drained for one in self._inventory}
        if not there:
            return False
        hosts = [self.host_of(NodeId(place.node)) for place in order.ranks]
        return all(there.get(host, host not in self._addresses) for host in hosts)

    @property
    def capabilities(self) -> Capabilities:
        """Those of an engine above a cluster, for one tenant alone where it has one."""
        return replace(super().capabilities, tenant=self._ray.tenant or "")

    @property
    def named(self) -> Named:
        """With the tenant whose it is."""
        owner = self._ray.tenant
        return replace(super().named, tenants={} if owner is None else {owner: "the cluster"})

    # --- looking --------------------------------------------------------------------------------------------------

    def _jobs_now(self) -> Sequence[Job]:
        self._seen = self._client.jobs()
        found = []
        for job in self._seen:
            epoch, mark = job.metadata.get(f"{PREFIX}epoch", ""), job.metadata.get(f"{PREFIX}mark", "")
            if job.id and mark and epoch.isdecimal():
                said = f"{job.status} ({job.message})"
                found.append(
                    Job(job.id, mark, Epoch(int(epoch)), job.is_alive, job.status == "PENDING", said)
                )
        return found

    def _inventory_now(self) -> Sequence[EngineNode]:
        nodes = self._client.nodes()
        foreign = self._foreign([one.id for one in nodes])
        # Of nodes of one name the living one counts, or the one that was there last.
        newest: dict[str, RayNode] = {}
        for one in sorted(nodes, key=lambda one: (one.is_alive, one.started_ms)):
            newest[one.name] = one
        self._addresses |= {one.name: one.address for one in newest.values()}
        # A head that has nothing to give is no node of anybody's estate.
        kinds = ("CPU", self._ray.resource)
        giving = [one for one in newest.values() if not one.is_alive or any(map(one.resources.get, kinds))]
        return [
            self._engine_node(one, foreign.get(one.id, ""))
            for one in sorted(giving, key=lambda one: one.name)
        ]

    def _engine_node(self, one: RayNode, foreign: str) -> EngineNode:
        why = "" if one.is_alive else f"Ray says that it is dead: {one.why}".rstrip(": ")
        return EngineNode(
            name=one.name,
            is_up=one.is_alive,
            is_drained=one.name in self._drained,
            reason=why or self._drained.get(one.name, ""),
            accelerators=int(one.resources.get(self._ray.resource, 0)),
            cpu_milli=round(one.resources.get("CPU", 0) * 1_000),
            memory_mb=int(one.resources.get(_MEMORY, 0)) >> 20,
            foreign=foreign,
        )

    def _foreign(self, nodes: Sequence[str]) -> dict[str, str]:
        """Who has something on which of the nodes that was not ordered from here, by the nodes' ids; another Headrace too.

        Of a job that runs and has nothing that Ray tells of, all nodes are taken to be its. Whose a thing is, its name and its
        job's metadata say, and who can reach the cluster can write anything there: it shows what is honest, and keeps nobody out.
        """
        marks = self._own_marks()
        ours = {job.number for job in self._seen if mark_of(job) in marks}
        others = {
            job.number: job.id or f"driver {job.number}"
            for job in self._seen
            if job.status == "RUNNING" and mark_of(job) not in marks
        }
        holders = list(self._client.holders("actors"))
        if others:
            holders += self._client.holders("tasks") + self._client.holders("placement_groups")
        theirs = [
            one
            for one in holders
            if one.node and one.job not in ours and not _is_known(one, of_others=one.job in others)
        ]
        found = {one.node: others.get(one.job, f"job {one.job}") for one in theirs}
        placed = {one.job for one in theirs}
        for number, name in others.items():
            if number not in placed:
                found = dict.fromkeys(nodes, name) | found
        return found

    # --- what still lives -----------------------------------------------------------------------------------------

    def _lives(self, rank: Rank) -> bool:
        if super()._lives(rank):
            return True
        record = rank.record
        return record is not None and record["boot_id"] != self._boot and self._beats_on(rank, record)

    def _beats_on(self, rank: Rank, record: Mapping[str, Any]) -> bool:
        """Whether a runner on another host, whose job is gone, recorded anything lately."""
        now_s = time.monotonic()
        beat, since_s = self._beats.get(rank, (-1, now_s))
        if beat != record.get("heartbeat_ms"):
            beat, since_s = record.get("heartbeat_ms"), now_s
        self._beats[rank] = beat, since_s
        return (now_s - since_s) * 1_000 < 3 * self._ray.heartbeat_ms + _SILENT_MS

    # --- changing -------------------------------------------------------------------------------------------------

    def _cancel_jobs(self, jobs: Sequence[str]) -> None:
        for job in jobs:
            self._client.stop(job)

    def _drain(self, nodes: Mapping[str, str]) -> None:
        self._drained |= nodes

    def _undrain(self, nodes: Sequence[str]) -> None:
        for node in nodes:
            self._drained.pop(node, None)

    def _tidy(self) -> None:
        super()._tidy()
        # Ray keeps ended jobs for ever, and lists all of them every time.
        over_ms = time.time_ns() // 1_000_000 - self._ray.keep_ended_ms
        marks = self._own_marks()
        ended = [
            one
            for one in self._seen
            if mark_of(one) in marks and not one.is_alive and one.ended_ms <= over_ms
        ]
        # What can't be deleted now is tried again, and must not keep anything else from being done.
        with contextlib.suppress(EngineError):
            for job in ended[:_DELETED_AT_ONCE]:
                self._client.delete(job.id)


def mark_of(job: RayJob) -> str:
    """The mark of the placement whose a job is, of this Headrace or another; "" when it is none's."""
    return job.metadata.get(f"{PREFIX}mark", "")


def _is_known(holder: Holder, *, of_others: bool) -> bool:
    """Whether it is Ray's own, or of a job of ours that began after the jobs were listed."""
    return holder.name.startswith(_RAYS_OWN if of_others else (PREFIX, _RAYS_OWN))
