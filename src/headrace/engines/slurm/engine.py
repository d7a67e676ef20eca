"""The Slurm engine: a placement is one job, pinned to its nodes; each rank is a task of it, under the runner.

Jobs are those of the user who runs the control plane (root, so that the runner can give a rank to its tenant's Unix user), and
are charged to the tenant's account. A job's comment names its placement, epoch and mark.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.core.ids import Epoch, NodeId, TenantId
from headrace.core.workload import WHOLE_MILLI
from headrace.engines import runner
from headrace.engines.agent import AgentEngine, AgentSettings, Job
from headrace.engines.ranks import Held
from headrace.engines.slurm.client import SlurmClient, Submission
from headrace.ports import NodeReport, StartOrder

_COMMENT = re.compile(r"headrace placement=(\S+) epoch=([0-9]+) mark=([0-9a-f]+)")
_UNUSABLE = frozenset(
    {"down", "fail", "failing", "error", "unknown", "powered_down", "power_down", "powering_down"}
)


@dataclass(frozen=True, slots=True)
class SlurmSettings(AgentSettings):
    """As whom jobs run. ``accounts`` maps tenants to accounts (else a tenant's account has its name).

    ``gres`` is what accelerators are called, like ``gpu`` ("": none are asked for).
    """

    partition: str = ""
    accounts: Mapping[TenantId, str] = field(default_factory=dict)
    gres: str = "gpu"


class SlurmEngine(AgentEngine):
    """Runs placements on a Slurm cluster; implements :class:`headrace.ports.Engine`. End it with :meth:`close`."""

    def __init__(self, root: Path, client: SlurmClient, settings: SlurmSettings = SlurmSettings()) -> None:
        self._client, self._slurm = client, settings
        super().__init__(root, settings)

    def _why_never(self, order: StartOrder) -> str:
        if any(place.share_milli < WHOLE_MILLI for place in order.ranks):
            return "Slurm gives whole accelerators alone; ask for gpu: MODEL:1"
        return super()._why_never(order)

    def _submit_job(self, held: Held, order: StartOrder) -> str:
        return str(self._client.submit(self._submission(held, order)))

    def _cancel_jobs(self, jobs: Sequence[str]) -> None:
        self._client.cancel([int(job) for job in jobs])

    def _jobs_now(self) -> Sequence[Job]:
        found = []
        for job in self._client.jobs():
            ours = _COMMENT.search(job.comment)
            if ours is not None:
                waits = job.state in ("PENDING", "CONFIGURING")
                epoch, said = Epoch(int(ours[2])), f"{job.state} ({job.reason})"
                found.append(Job(str(job.id), ours[3], epoch, job.is_alive, waits, said))
        return found

    def _nodes_now(self) -> Sequence[NodeReport]:
        names = {self.host_of(NodeId(node)): NodeId(node) for node in self._slurm.nodes}
        seen: dict[NodeId, NodeReport] = {}
        for one in self._client.nodes():
            if one.name in names:
                is_up = not one.is_silent and one.state not in _UNUSABLE
                why = "" if is_up else one.reason or f"Slurm says {one.state}"
                seen[names[one.name]] = NodeReport(names[one.name], is_up, why)
        return list(seen.values())

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
        launch = (
            "srun --quiet --kill-on-bad-exit=0 --wait=0 --mpi=none --cpu-bind=none --input=none --output=none"
        )
        whole = all(
            place.accelerators == most
            for place, most in zip(order.ranks, order.node_accelerators, strict=True)
        )
        return Submission(
            name=f"hr.{order.placement}.e{order.epoch}",
            comment=f"headrace placement={order.placement} epoch={order.epoch} mark={held.info['mark']}",
            nodes=tuple(hosts),
            script=f"#!/bin/sh\nexec {launch} /bin/sh -c {shlex.quote(task)}\n",
            partition=settings.partition,
            account=settings.accounts.get(order.tenant, order.tenant),
            gres=f"{settings.gres}:{first.accelerators}" if settings.gres and first.accelerators else "",
            cpus=max(1, -(-first.cpu_milli // 1_000)),
            memory_mb=first.memory_mb,
            exclusive=whole and first.accelerators > 0,
        )
