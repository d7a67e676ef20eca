"""The Slurm engine: a placement is one job, pinned to its nodes; each rank is a task of it, under the runner.

Jobs are those of the user who runs the control plane (root, so that the runner can give a rank to its tenant's Unix user), and
are charged to the tenant's account. A job's comment names its placement, epoch and mark; one that another user submitted is
foreign, whatever its comment says, but for those on the nodes of a leased cluster, which are its tenant's.
"""

import contextlib
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headrace.core.errors import unknown
from headrace.core.ids import Epoch, NodeId, PlacementId, TenantId
from headrace.core.workload import WHOLE_MILLI
from headrace.engines import runner
from headrace.engines.agent import AgentEngine, AgentSettings, Job
from headrace.engines.names import MOST_NAMED, Named
from headrace.engines.ranks import Held, Rank
from headrace.engines.slurm import client as slurm
from headrace.engines.slurm.client import (
    SlurmClient,
    SlurmNode,
    Submission,
    hosts_of,
    named,
    require_known,
)
from headrace.engines.slurm.leases import (
    INFO,
    LEASE,
    Leases,
    lease_of,
    mark_of,
    shared_account,
    taken_account,
    unstarted,
)
from headrace.ports import Capabilities, EngineNode, RankState, StartOrder

COMMENT = re.compile(r"headrace placement=(\S+) epoch=([0-9]+) mark=([0-9a-f]+)")
REMEMBERED_S = 600
"""How long it is known of a lease that is over: Slurm writes its state every few seconds."""
_UNUSABLE = frozenset(
    {"down", "fail", "failing", "error", "unknown", "powered_down", "power_down", "powering_down"}
)


@dataclass(frozen=True, slots=True)
class SlurmSettings(AgentSettings):
    """As whom jobs run. ``accounts`` maps tenants to accounts (else a tenant's account has its name).

    ``gres`` is what accelerators are called, like ``gpu`` ("": none are asked for). ``leases``: whether clusters may be leased as
    reservations, which the user must be allowed to make.
    """

    partition: str = ""
    accounts: Mapping[TenantId, str] = field(default_factory=dict)
    gres: str = "gpu"
    leases: bool = True


@dataclass(frozen=True, slots=True)
class _Suspended:
    """A job of ours that somebody suspended in Slurm: what Headrace pauses, Slurm never hears of."""

    job: str
    placement: PlacementId


class SlurmEngine(AgentEngine):
    """Runs placements on a Slurm cluster; implements :class:`headrace.ports.Engine`. End it with :meth:`close`."""

    def __init__(self, root: Path, client: SlurmClient, settings: SlurmSettings = SlurmSettings()) -> None:
        self._client, self._slurm = client, settings
        self._is_known = False
        self._foreign: dict[str, list[str]] = {}
        self._sorted: tuple[Sequence[slurm.Job], frozenset[str], Sequence[Job]] = ((), frozenset(), ())
        self._nodes: tuple[Sequence[SlurmNode], dict[str, list[str]], tuple[EngineNode, ...]] = ((), {}, ())
        self._closed = ""
        self._suspended: tuple[_Suspended, ...] = ()
        self._once_leased: dict[str, None] = {}
        self._leases = Leases(
            client, self._current_epoch, self._recording, self._give_access, settings.heartbeat_ms
        )
        super().__init__(root, settings)

    @property
    def trouble(self) -> str:
        """What keeps the cluster from being asked, or what is there from starting or going on; "" when nothing does."""
        found = super().trouble or self._closed or self._client.trouble or self._leases.trouble
        return found or _why_suspended(self._suspended)

    @property
    def capabilities(self) -> Capabilities:
        """As of any cluster; and it leases nodes."""
        return replace(super().capabilities, lease=LEASE if self._slurm.leases else "")

    @property
    def named(self) -> Named:
        """With the accounts of tenants."""
        return replace(super().named, tenants=self._slurm.accounts)

    def _why_never(self, order: StartOrder) -> str:
        account, accounts = self._account(order.tenant), self._slurm.accounts
        if self._slurm.leases and order.tenant not in accounts:
            # Whoever leases as the account's only tenant would share it without a word.
            why = taken_account(account, order.tenant, accounts)
            if why:
                return why
        if order.lease == LEASE and self._slurm.leases:
            why = shared_account(account, order.tenant, accounts)
            return why or super()._why_never(replace(order, lease=""))
        if any(place.share_milli < WHOLE_MILLI for place in order.ranks):
            return "Slurm gives whole accelerators alone; ask for gpu: MODEL:1"
        return super()._why_never(order)

    def _account(self, tenant: TenantId) -> str:
        return self._slurm.accounts.get(tenant, tenant)

    def _allot(self, order: StartOrder, info: dict[str, Any]) -> None:
        super()._allot(order, info)
        if order.lease:
            hosts = [self.host_of(NodeId(place.node)) for place in order.ranks]
            account, partition = self._account(order.tenant), self._slurm.partition
            info[INFO] = lease_of(order, info["mark"], hosts, account, partition)

    def _interrupt(self) -> None:
        self._client.interrupt()

    @contextlib.contextmanager
    def _recording(self) -> Iterator[None]:
        with self._mutex, self._current_epoch():
            yield

    def forget(self, placement: PlacementId) -> None:
        """Drop a placement, but not that it was a lease."""
        with self._mutex:
            held = self._held.get(placement)
            if held is not None and INFO in held.info:
                self._once_leased[held.info["mark"]] = None
            super().forget(placement)

    def _give_access(self, held: Held, access: Mapping[str, str]) -> None:
        self._save(held, access=dict(access))

    def _submit_job(self, held: Held, order: StartOrder) -> str:
        if INFO in held.info:
            return self._leases.make(held.info[INFO])
        return str(self._client.submit(self._submission(held, order)))

    def _cancel_jobs(self, jobs: Sequence[str]) -> None:
        try:
            self._client.cancel([int(job) for job in jobs if job.isdecimal()])
        finally:
            self._leases.drop(job for job in jobs if not job.isdecimal())

    def _drain(self, nodes: Mapping[str, str]) -> None:
        self._client.drain(nodes)

    def _undrain(self, nodes: Sequence[str]) -> None:
        self._client.undrain(nodes)

    def _jobs_now(self) -> Sequence[Job]:
        if not self._is_known:
            require_known(self._client.version())
            self._is_known = True
        jobs = self._client.jobs()
        found, foreign, own = self._reserved(jobs), dict[str, list[str]](), self._own_marks()
        suspended: list[_Suspended] = []
        is_leased, known = bool(found), self._sorted
        if not is_leased and jobs is known[0] and own == known[1]:
            return known[2]
        leased = {job.full_id for one in found if one.is_alive for job in self._leases.jobs_of(one.id)}
        for job in jobs:
            # Anybody may write such a comment: who submitted the job is Slurm's own word, and which marks are ours this spool's.
            ours = COMMENT.fullmatch(job.comment) if job.uid == self._client.uid else None
            if ours is not None and ours[3] in own:
                waits = job.waits or job.state == "CONFIGURING"
                epoch, said = Epoch(int(ours[2])), f"{job.state} ({job.reason})"
                found.append(Job(str(job.id), ours[3], epoch, job.is_alive, waits, said))
                if job.state == "SUSPENDED":
                    suspended.append(_Suspended(str(job.id), PlacementId(ours[1])))
            elif job.is_alive and job.nodes and job.full_id not in leased:
                for host in hosts_of(job.nodes):
                    foreign.setdefault(host, []).append(f"{job.user} (job {job.full_id})")
        if foreign != self._foreign:
            self._foreign = foreign
        self._suspended = tuple(suspended)
        # What is leased may change while no job does.
        self._sorted = () if is_leased else jobs, own, found
        return found

    def _reserved(self, jobs: Sequence[slurm.Job]) -> list[Job]:
        """The reservations of leases, as what a placement has on the cluster."""
        with self._mutex:
            held = [one.info["mark"] for one in self._held.values() if INFO in one.info]
            # Of those forgotten before this start it is not known what they were.
            before = self._marks if not self._looks else self._once_leased
            self._once_leased = {mark: None for mark in before if mark in self._marks}
            marks = dict.fromkeys([*held, *self._once_leased])
        if not marks or not (held or self._slurm.leases):
            return []
        # A controller that was killed may have one again that it had deleted: so long nobody forgets whose it was.
        found = [
            Job("", mark, Epoch(0), is_alive=False, waits=False, said="deleted")
            for mark in self._once_leased
            if self._is_young(mark)
        ]
        for one in self._leases.look(jobs).values():
            epoch, begin = mark_of(one.name) or (0, "")
            mark = next((mark for mark in marks if begin and mark.startswith(begin)), None)
            if mark is not None:
                said = "active" if one.is_active else "not active"
                found.append(Job(one.name, mark, Epoch(epoch), is_alive=True, waits=True, said=said))
        return found

    def _is_young(self, mark: str) -> bool:
        try:
            forgotten_s = (self._root / "marks" / mark).stat().st_mtime
        except OSError:
            return False
        return time.time() - forgotten_s < REMEMBERED_S

    def _keep(self) -> None:
        with self._mutex:
            leases = [held for held in self._held.values() if INFO in held.info and not held.info["failed"]]
        self._leases.keep(leases)
        self._wake_stopped()

    def _wake_stopped(self) -> None:
        """Let go on what was suspended in Slurm and is to end: its runner stands still too, and would never hear of it."""
        with self._mutex:
            stopped = [one.job for one in self._suspended if self._is_stopped(one.placement)]
        if stopped:
            self._client.run("scontrol", "resume", ",".join(stopped))

    def _is_stopped(self, placement: PlacementId) -> bool:
        held = self._held.get(placement)
        controls = (
            runner.read_json(str(rank.directory / runner.CONTROL)) for rank in (held.ranks if held else ())
        )
        return any(isinstance(one, dict) and one.get("stop_until_ms") is not None for one in controls)

    def _lives(self, rank: Rank) -> bool:
        # Of a lease the agent records the end itself.
        return INFO in rank.info or super()._lives(rank)

    def _close_unstarted(self, rank: Rank) -> bool:
        launch = self._launches.get(rank.info["placement"])
        if INFO in rank.info and launch is not None and not launch.why:
            rank.close(RankState.LOST, None, detail=unstarted(launch.job))
            return True
        return super()._close_unstarted(rank)

    def _inventory_now(self) -> Sequence[EngineNode]:
        partition, all_nodes = self._slurm.partition, self._client.nodes()
        if all_nodes is self._nodes[0] and self._foreign is self._nodes[1]:
            return self._nodes[2]
        seen = {one.name: one for one in all_nodes if partition in ("", one.partition)}
        self._closed = self._why_closed(all_nodes, seen)
        self._leases.look_at_nodes(seen)
        self._nodes = all_nodes, self._foreign, tuple(self._node(one) for one in seen.values())
        return self._nodes[2]

    def _why_closed(self, all_nodes: Sequence[SlurmNode], seen: Mapping[str, SlurmNode]) -> str:
        """Why the partition starts nothing, or ""."""
        partition = self._slurm.partition
        if not seen:
            return unknown(
                "Slurm partition with nodes", partition, {one.partition for one in all_nodes}
            ).line()
        return next((_why_no_work(one) for one in seen.values() if _is_closed(one)), "") if partition else ""

    def _node(self, seen: SlurmNode) -> EngineNode:
        is_up = not seen.is_silent and seen.state not in _UNUSABLE
        is_closed = self._slurm.partition != "" and _is_closed(seen)
        reason = seen.reason
        if not is_up:
            reason = reason or f"Slurm says {seen.state}"
        elif is_closed:
            reason = _why_no_work(seen)
        return EngineNode(
            name=seen.name,
            is_up=is_up,
            is_drained=seen.is_drained or is_closed,
            reason=reason,
            accelerators=seen.accelerators,
            cpu_milli=seen.cpus * 1_000,
            memory_mb=seen.memory_mb,
            foreign=named(self._foreign.get(seen.name, ())),
        )

    def _submission(self, held: Held, order: StartOrder) -> Submission:
        hosts = [self.host_of(NodeId(place.node)) for place in order.ranks]
        first, settings = order.ranks[0], self._slurm
        # Tasks come in Slurm's order of nodes: which rank one is, its node's name says.
        chosen = "\n".join(f"{shlex.quote(host)}) rank={rank} ;;" for rank, host in enumerate(hosts))
        directory = shlex.quote(str(held.directory))
        task = (
            f'case "$SLURMD_NODENAME" in\n{chosen}\n*) echo "no rank for $SLURMD_NODENAME" >&2; exit 1 ;;\nesac\n'
            f"exec >>{directory}/$rank/runner.log 2>&1\n"
            f"exec {shlex.quote(settings.python)} -I -S {shlex.quote(str(self._runner))} {directory}/$rank/{runner.SPEC}"
        )
        # The job's own script runs on its first node: one rank needs no step beside it.
        launch = (
            ""
            if len(hosts) == 1
            else (
                "srun --quiet --kill-on-bad-exit=0 --wait=0 --mpi=none --cpu-bind=none --input=none --output=none"
            )
        )
        whole = all(
            place.accelerators == most
            for place, most in zip(order.ranks, order.node_accelerators, strict=True)
        )
        return Submission(
            name=f"hr.{order.placement}.e{order.epoch}",
            comment=f"headrace placement={order.placement} epoch={order.epoch} mark={held.info['mark']}",
            nodes=tuple(hosts),
            script=f"#!/bin/sh\n{f'exec {launch} /bin/sh -c {shlex.quote(task)}' if launch else task}\n",
            # What the launch itself says, when no runner begins.
            output=str(held.directory / "job.log"),
            partition=settings.partition,
            account=self._account(order.tenant),
            gres=f"{settings.gres}:{first.accelerators}" if settings.gres and first.accelerators else "",
            cpus=max(1, -(-first.cpu_milli // 1_000)),
            memory_mb=first.memory_mb,
            exclusive=whole and first.accelerators > 0,
        )


def _is_closed(node: SlurmNode) -> bool:
    return node.partition_state != "up"


def _why_no_work(node: SlurmNode) -> str:
    name = node.partition
    return f"partition {name} is {node.partition_state}; `scontrol update partitionname={name} state=up` opens it"


def _why_suspended(suspended: Sequence[_Suspended]) -> str:
    """That jobs of ours stand still by somebody else's word, or ""."""
    if not suspended:
        return ""
    which = named([f"{one.placement} (job {one.job})" for one in suspended])
    jobs = ",".join(one.job for one in suspended[:MOST_NAMED])
    what = "it holds its nodes, and counts as running"
    return f"somebody suspended {which} in Slurm: {what}; `scontrol resume {jobs}` lets it go on"
