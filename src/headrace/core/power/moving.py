"""Whether work that has to leave a site could go on at another: by law, contract, nodes and power, as far as a look tells."""

import numpy as np

from headrace.core.fleet import NEVER_DAY
from headrace.core.ids import PowerNodeId, TenantId
from headrace.core.workload import WHOLE_MILLI, WorkloadSpec
from headrace.core.world import World


class Elsewhere:
    """Looks for room at other sites, once for each kind of workload. It decides who goes first, and promises nobody a place."""

    def __init__(self, world: World, site: int) -> None:
        self._world, self._site = world, site
        self._open = world.snapshot(world.now_ms).node_open if world.fleet.node_ids else np.zeros(0, np.bool_)
        self._known: dict[tuple[object, ...], bool] = {}

    def has_room(self, tenant: TenantId, spec: WorkloadSpec) -> bool:
        """Whether another site that a workload may have seems to have nodes and power for it now."""
        if spec.site is not None or spec.reservation is not None or spec.lease:
            return False
        key = tenant, spec.policy, spec.contract, spec.resources, spec.nodes
        found = self._known.get(key)
        if found is None:
            sites = range(len(self._world.fleet.sites))
            found = self._known[key] = any(
                self._may(tenant, spec, site) and self._fits(spec, site)
                for site in sites
                if site != self._site
            )
        return found

    def _may(self, tenant: TenantId, spec: WorkloadSpec, site: int) -> bool:
        world, declared = self._world, self._world.fleet.sites[site]
        if not world.place_verdict(tenant, spec.policy, site).allowed:
            return False
        if declared.dedicated_to not in (None, tenant):
            return False
        return world.contract_for(tenant, site, spec.resources.accelerator, spec.contract) is not None

    def _fits(self, spec: WorkloadSpec, site: int) -> bool:
        world, fleet, need = self._world, self._world.fleet, spec.resources
        here = (fleet.node_site == site) & self._open & (fleet.node_from_day < NEVER_DAY)
        nodes, steps_w = 0, []
        for number, hardware in enumerate(fleet.hardware):
            if (
                need.accelerator not in ("", hardware.accelerator)
                or hardware.accelerators < need.accelerators
            ):
                continue
            mine = np.flatnonzero(here & (fleet.node_hardware == number))
            taken = np.bitwise_count(world.node_mask[mine]).astype(np.int64)
            free = (hardware.accelerators - taken >= need.accelerators) & (
                world.node_cpu_milli[mine] + need.cpu_milli <= hardware.cpu_milli
            )
            nodes += int(free.sum())
            steps_w.append(hardware.node_watts(need.accelerators, busy=True) - hardware.idle_w)
        if nodes < spec.nodes or not steps_w:
            return False
        root = fleet.power_index[PowerNodeId(fleet.sites[site].id)]
        left_w = int(world.power_limit_w[root]) - int(world.power_w[root])
        return left_w >= spec.nodes * min(steps_w) * need.share_milli // WHOLE_MILLI
