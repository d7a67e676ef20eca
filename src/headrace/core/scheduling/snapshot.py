"""A versioned, read-only view of the world, for planning and explaining."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.core.authority import Verdict
from headrace.core.contracts import Contract, Tenant
from headrace.core.fleet import I16, I32, I64, Fleet
from headrace.core.ids import ContractId, NodeId, PlacementId, PowerNodeId, ProjectId, TenantId, WorkloadId
from headrace.core.observation import Capabilities
from headrace.core.power.limits import NEVER_MS
from headrace.core.scheduling.queue import Queue
from headrace.core.scheduling.shapes import NO_DEMAND, Demand
from headrace.core.workload import Placement, PolicyRef, Workload

if TYPE_CHECKING:
    from headrace.core.data.model import Copy, Dataset
    from headrace.core.ids import DataId, SiteId
    from headrace.core.power.caps import Cap
    from headrace.core.power.floors import Floors
    from headrace.core.scheduling.endings import Endings
    from headrace.core.scheduling.memory import Memory
    from headrace.core.scheduling.service import History
    from headrace.core.scheduling.windows import Window
    from headrace.core.sovereignty.law import Blocked

U64 = npt.NDArray[np.uint64]


class Taken(NamedTuple):
    """What somebody has of the estate: thousandths of accelerators, of processors, and megabytes of memory."""

    accelerators_milli: int = 0
    cpu_milli: int = 0
    memory_mb: int = 0


def _never_blocked(*_: object) -> None:
    """Where nothing reads rules, lists of countries are all there is."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the planner sees. Columns are indexed as in :class:`~headrace.core.fleet.Fleet`; views: copy before changing.

    - ``version``: events applied; ``now_ms``: journal time of planning.
    - ``node_open[i]``: commissioned and ready, so it may be placed on.
    - ``node_mask[i]``: bits of the accelerators in use; ``node_cpu_milli``, ``node_memory_mb``: in use;
      ``node_ranks``: ranks on it.
    - ``power_w[p]``: the most that what is below can draw now, IT watts, idle nodes included; placements being started and
      stopped count in full until their end is recorded. ``power_limit_w[p]``: the least of rating, contract, instruction.
    - ``queue``: queued workloads in order of arrival; ``waiting``: the same with its lines, if somebody keeps them.
    - ``memory``: what earlier plans found that still holds; the one thing here that a planner writes to.
    - ``endings``: when placements end, as far as it was found before: what explaining writes to.
    - ``history``: what is known of how long those run that share accelerators in time (None: nothing).
    - ``place_verdict(tenant, policy, site number)``: may it be placed there.
    - ``blocked(tenant, policy, site number)``: what keeps it from there under a policy with rules (None: nothing, or a list).
    - ``contract_for(tenant, site number, accelerator model, named contract)``: what pays for it, or None.
    - ``node_share_milli[i, a]``: thousandths of accelerator ``a`` that fractions have, all of them of the tenant of number
      ``node_sharer[i, a]``; no rows at all while there is no fraction.
    - ``contract_held_milli[contract]``: thousandths of accelerators in use under a contract.
    - ``contracts``: all that there are, by id; ``tenant_number(tenant)``: its number, above 0.
    - ``tenants``: what was declared of each, with its quotas.
    - ``usage[tenant, project]``: what a project has outside reserved contracts; ``tenants``: their quotas.
    - ``stopping``: placements that were told to stop (None: whoever asks has to look at all).
    - ``demand``: how often each shape is asked for.
    - ``windows``: of reservations and maintenance, those that are over too.
    - ``zone``: the operator's time zone: contracts begin and end on its days.
    - ``intruders``: nodes on which somebody runs something that was not placed here, who draw their nameplate; not open.
    - ``caps``: nodes whose watts are limited by their controllers, or were; not open. ``excess``: by element, what its meter
      sees beyond all that is known to draw there.
    - ``engines``: what the engines can do, by name, as far as they said so.
    - ``datasets``: what was declared of each data set; ``copies``: where each lies, by site.
    - ``floors``: what can't be shed at each site, and how much of it there may be (None: no limits of the grid).
    - ``limit_until_ms``: when ``power_limit_w`` may next change by time alone.
    """

    version: int
    now_ms: int
    fleet: Fleet
    node_open: npt.NDArray[np.bool_]
    node_mask: U64
    node_cpu_milli: I64
    node_memory_mb: I64
    node_ranks: I32
    power_w: I64
    power_limit_w: I64
    queue: Iterable[Workload]
    workloads: Mapping[WorkloadId, Workload]
    placements: Mapping[PlacementId, Placement]
    place_verdict: Callable[[TenantId, PolicyRef, int], Verdict]
    contract_for: Callable[[TenantId, int, str, ContractId | None], Contract | None]
    contract_held_milli: Mapping[ContractId, int]
    node_share_milli: I16
    node_sharer: I32
    contracts: Mapping[ContractId, Contract]
    tenant_number: Callable[[TenantId], int]
    usage: Mapping[tuple[TenantId, ProjectId], Taken] = field(default_factory=dict)
    tenants: Mapping[TenantId, Tenant] = field(default_factory=dict)
    stopping: Iterable[PlacementId] | None = None
    windows: "tuple[Window, ...]" = ()
    demand: Demand = NO_DEMAND
    zone: str = "UTC"
    intruders: Mapping[NodeId, str] = field(default_factory=dict)
    caps: "Mapping[NodeId, Cap]" = field(default_factory=dict)
    excess: Mapping[PowerNodeId, int] = field(default_factory=dict)
    engines: Mapping[str, Capabilities] = field(default_factory=dict)
    copies: "Mapping[DataId, Mapping[SiteId, Copy]]" = field(default_factory=dict)
    datasets: "Mapping[DataId, Dataset]" = field(default_factory=dict)
    floors: "Floors | None" = None
    limit_until_ms: int = NEVER_MS
    waiting: Queue | None = None
    memory: "Memory | None" = None
    endings: "Endings | None" = None
    history: "History | None" = None
    blocked: "Callable[[TenantId, PolicyRef, int], Blocked | None]" = _never_blocked
