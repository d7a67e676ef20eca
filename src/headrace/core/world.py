"""The world: the state that events make, and the columns that decisions read. ``apply`` is the only thing that changes it.

:class:`State` is canonical: it is what a checkpoint holds, and everything else is derived from it. The writer owns one
world, the planner another that folds the same events.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.core.authority import PolicyEngine, Role, Subject, Target, Verdict
from headrace.core.codec import from_normalised
from headrace.core.contracts import Contract, Maintenance, PricePlan, Reservation, Tenant
from headrace.core.estate import Estate, Site
from headrace.core.fast import Fast, nodes_w
from headrace.core.fleet import NEVER_DAY, compile_fleet, day_number
from headrace.core.hardware import HardwareType
from headrace.core.ids import (
    ContractId,
    Digest,
    NodeId,
    PlacementId,
    PlanId,
    ProjectId,
    SiteId,
    TenantId,
    WindowId,
)
from headrace.core.metering import CPU_MODEL, contract_for, day_of, has_price, period_of
from headrace.core.observation import Capabilities
from headrace.core.power.counted import Counted
from headrace.core.power.floors import Floors, limits_of, restores_w
from headrace.core.power.shedding import Rung, rung_of, shed_class
from headrace.core.scheduling.demand import Popularity
from headrace.core.scheduling.endings import Endings
from headrace.core.scheduling.memory import Memory
from headrace.core.scheduling.queue import Queue
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.service import History
from headrace.core.scheduling.sharing import kind_of, shares_time
from headrace.core.scheduling.snapshot import Snapshot, Taken
from headrace.core.scheduling.windows import Window, windows_of
from headrace.core.sovereignty.law import Blocked, Document, Laws, SiteFacts
from headrace.core.sovereignty.plain import RIGHTS_POLICY, PlainPolicies, decide
from headrace.core.state import State, Token
from headrace.core.units import MS_PER_DAY, MS_PER_MINUTE
from headrace.core.workload import TERMINAL, WHOLE_MILLI, Placement, PolicyRef, WorkloadSpec
from headrace.core.workload import State as WorkloadState

REQUEST_RETENTION_MS = 2 * MS_PER_DAY
"""How long an idempotency key is remembered."""
ALARMS_KEPT = 1_000
_NOTHING = Taken()
_QUARTER_MS = 15 * MS_PER_MINUTE


class World:
    """State, and what is derived from it: typed documents, the fleet's columns, the queue, what is unsettled."""

    def __init__(self, state: State | None = None, policies: PolicyEngine | None = None) -> None:
        self.state = state or State()
        self.policies = policies or PlainPolicies()
        self.estate: Estate | None = None
        self.fleet = compile_fleet(None)
        self.tenants: dict[TenantId, Tenant] = {}
        self.plans: dict[PlanId, PricePlan] = {}
        self.contracts: dict[ContractId, Contract] = {}
        self.reservations: dict[WindowId, Reservation] = {}
        self.maintenances: dict[WindowId, Maintenance] = {}
        self.laws = Laws()
        self._windows: tuple[Window, ...] | None = None
        self.queue = Queue()
        self.popularity = Popularity()
        self.usage: dict[tuple[TenantId, ProjectId], Taken] = {}
        self.unsettled: dict[PlacementId, None] = {}
        self.stopping: dict[PlacementId, None] = {}
        self.curtailed: dict[PlacementId, None] = {}
        self.contract_held_milli: dict[ContractId, int] = {}
        self.by_number: dict[int, Token] = {}
        self.now_ms = self.state.last_ms
        self._paths: dict[int, list[int]] = {}
        self._contracts_for: dict[tuple[TenantId, int, str, ContractId | None], Contract | None] = {}
        self._rights: dict[
            tuple[Role, TenantId | None, str, str, TenantId | None], tuple[Verdict, Digest]
        ] = {}
        self._quarter, self._period, self._today = -1, "", ""
        self.power_limit_w = self.fleet.power_limit_w
        self._limit_until_ms = -1
        self.has_hours = False
        self.day = self.limited = self.started_ms = 0
        self.counted = Counted(self)
        self.memory = Memory()
        self.endings = Endings()
        self.admissions: dict[tuple[object, ...], tuple[Refusal, str] | None] = {}
        """Of the classes of workloads submitted since the last document: can it ever be placed."""
        self.known_names: dict[tuple[object, ...], None] = {}
        """And the names that they give, which are all known."""
        self.cleared: dict[WindowId, None] = {}
        """Windows that are going on and whose nodes are free of others, or of which an alarm says that they are not."""
        self._is_made = False
        for key, document in self.state.documents.items():
            self.take_document(key.split("/", 1)[0], document)
        self.rebuild()
        self.history = self._history()
        self._is_made = True

    # -- derived ---------------------------------------------------------------------------------------------------

    def take_document(self, kind: str, document: dict[str, Any]) -> None:
        """Take a document's typed form; after an estate, ``rebuild`` is due."""
        value = from_normalised(kind, document)
        if isinstance(value, Estate):
            self.estate = value
            self.fleet = compile_fleet(value)
        elif isinstance(value, Tenant):
            self.tenants[value.id] = value
        elif isinstance(value, PricePlan):
            self.plans[value.id] = value
        elif isinstance(value, Contract):
            self.contracts[value.id] = value
            # While a world is made there is nothing to count yet: that comes once, with all else.
            if self._is_made:
                self._recount()
        elif isinstance(value, Reservation):
            self.reservations[value.id] = value
        elif isinstance(value, Maintenance):
            self.maintenances[value.id] = value
        elif isinstance(value, Document):
            self.laws.take(value)
        # What is stated of one site is asked of that site alone.
        self._forget_classes(self.fleet.site_index.get(value.id) if isinstance(value, SiteFacts) else None)

    def _forget_classes(self, only_at: int | None = None) -> None:
        self._windows = None
        self.laws.forget(only_at)
        self.cleared.clear()
        self._contracts_for.clear()
        self.admissions.clear()
        self.known_names.clear()
        self.memory.clear()
        self._quarter = -1

    def drop_document(self, kind: str, name: str) -> None:
        """Forget a removed document's typed form."""
        if kind == "tenant":
            self.tenants.pop(TenantId(name), None)
        elif kind == "price-plan":
            self.plans.pop(PlanId(name), None)
        elif kind == "contract":
            self.contracts.pop(ContractId(name), None)
        elif kind == "reservation":
            self.reservations.pop(WindowId(name), None)
            self.state.reserved.pop(WindowId(name), None)
        elif kind == "maintenance":
            self.maintenances.pop(WindowId(name), None)
        elif kind == "estate":
            self.estate, self.fleet = None, compile_fleet(None)
            self.rebuild()
        else:
            self.laws.drop(kind, name)
        self._forget_classes()

    def rebuild(self) -> None:
        """Columns, queue and counters from the canonical state."""
        fleet = self.fleet
        count, powers = len(fleet.node_ids), len(fleet.power_ids)
        self._paths.clear()
        self.node_mask = np.zeros(count, np.uint64)
        self.node_cpu_milli = np.zeros(count, np.int64)
        self.node_memory_mb = np.zeros(count, np.int64)
        self.node_ranks = np.zeros(count, np.int32)
        self.node_ready = np.ones(count, np.bool_)
        self.node_quiet = np.zeros(count, np.uint64)
        self.power_w = np.zeros(powers, np.int64)
        self.floors = Floors(fleet)
        self._limit_until_ms = -1
        for node, (state, _) in self.state.nodes.items():
            if node in fleet.node_index:
                self.node_ready[fleet.node_index[node]] = state == "ready"
        self.intruded = {
            fleet.node_index[node]: None for node in self.state.intruders if node in fleet.node_index
        }
        for index in self.intruded:
            self.floors.strangers(index, 1)
        self._fast = Fast(self)
        self.node_share_milli = np.zeros((0, 0), np.int16)
        self.node_sharer = np.zeros((0, 0), np.int32)
        self.contract_held_milli = {}
        self.usage.clear()
        for placement in self.state.placements.values():
            self.hold(placement, 1, power=False)
            if placement.is_quiet:
                self._mark_quiet(placement)
        self.curtailed = {one.id: None for one in self.state.placements.values() if one.curtailed}
        self._commission(self.state.last_ms)
        self.limit(self.state.last_ms)
        self.memory.clear()
        self.endings.clear()
        # By arrival: a requeued workload keeps the place that it had.
        waiting = [work for work in self.state.workloads.values() if work.state is WorkloadState.QUEUED]
        self.queue = Queue(sorted(waiting, key=lambda work: work.submitted_seq))
        self.popularity = Popularity([work.spec for work in self.state.workloads.values()])
        self.unsettled = dict.fromkeys(
            placement.id for placement in self.state.placements.values() if self._is_unsettled(placement)
        )
        self.stopping = {
            placement.id: None
            for placement in self.state.placements.values()
            if placement.stop_reason is not None
        }
        self.by_number = {token.number: token for token in self.state.tokens.values()}

    def _commission(self, now_ms: int) -> None:
        """Which nodes are commissioned by now, and what every element of the power tree can draw at most; once a day."""
        fleet = self.fleet
        self.day = now_ms // MS_PER_DAY
        today = day_number(datetime.fromtimestamp(self.day * 86_400, UTC).date().isoformat())
        self.node_here = fleet.node_from_day <= today
        self.memory.forget_nodes()
        self.power_w[:] = 0
        if fleet.node_ids:
            # A block with a day has its idle draw reserved before that day: when it comes, nothing has to make room.
            counted = fleet.node_from_day < NEVER_DAY
            # Who runs something on a node without a day has shown that it is there.
            counted[list(self.intruded)] = True
            np.add.at(self.power_w, fleet.node_leaf[counted], nodes_w(self)[counted])
        self.floors.count_idle(fleet.node_from_day < NEVER_DAY)
        # Children come after their parents in the columns, so that one pass from the end sums every subtree.
        parents = fleet.power_parent.tolist()
        sums = self.power_w.tolist()
        for index in range(len(sums) - 1, -1, -1):
            if parents[index] >= 0:
                sums[parents[index]] += sums[index]
        self.power_w[:] = sums
        self.counted.anew()

    def at(self, now_ms: int) -> None:
        """Let it be ``now_ms``: what is allowed and what is commissioned change by days of UTC, contracts by the operator's."""
        if now_ms // MS_PER_DAY != self.day:
            self._commission(now_ms)
            # What is stated of a place (certificates, holdings) lapses by days of UTC, whatever the operator's zone.
            self._forget_classes()
        if now_ms >= self._limit_until_ms:
            self.limit(now_ms)
        # No zone's day begins within a quarter of an hour.
        if now_ms // _QUARTER_MS != self.now_ms // _QUARTER_MS:
            today = day_of(now_ms, self.zone)
            if today != self._today:
                self._today = today
                self._forget_classes()
        for window in self._windows or ():
            if self.now_ms < window.ends_ms <= now_ms:
                self.memory.came_free(window.site)
        self.now_ms = now_ms

    @property
    def windows(self) -> tuple[Window, ...]:
        """Reservations and maintenance, with the nodes of each."""
        if self._windows is None:
            self._windows = tuple(
                windows_of(self.fleet, self.reservations, self.maintenances, self.state.reserved)
            )
        return self._windows

    def reserve(self, reservation: WindowId, nodes: tuple[str, ...]) -> None:
        """A reservation has these nodes from now on."""
        self.state.reserved[reservation] = nodes
        self._forget_classes()

    def hold(self, placement: Placement, sign: int, *, power: bool = True) -> None:
        """Take (1) or give back (-1) what a placement has: accelerators, processors, memory, and power up the tree."""
        columns, fleet, intruded = self._fast, self.fleet, self.intruded
        spec = self.state.workloads[placement.workload].spec
        self.floors.hold(placement, self.rung(spec, placement), sign)
        self.memory.moved(placement, spec, fleet.site_index[placement.site], sign)
        self.endings.moved(placement, sign)
        held_milli = used_milli = used_mb = 0
        leaves: dict[int, int] = {}
        index = fleet.node_index
        for name, mask, cpu_milli, memory_mb, share_milli in placement.ranks:
            node = index[name]  # type: ignore[index]
            held_milli += mask.bit_count() * share_milli
            used_milli += cpu_milli
            used_mb += memory_mb
            if share_milli != WHOLE_MILLI:
                mask = self._share(node, mask, share_milli * sign, placement.tenant)  # noqa: PLW2901
            hardware = columns.hardware[node]
            before = columns.mask[node]
            busy = columns.ranks[node]
            after = columns.mask[node] = before ^ mask
            columns.cpu_milli[node] += sign * cpu_milli
            columns.memory_mb[node] += sign * memory_mb
            columns.ranks[node] = busy + sign
            if power and not (intruded and node in intruded):
                leaf, loud = columns.leaf[node], ~columns.quiet[node]
                delta_w = hardware.node_watts((after & loud).bit_count(), busy + sign > 0)
                delta_w -= hardware.node_watts((before & loud).bit_count(), busy > 0)
                leaves[leaf] = leaves.get(leaf, 0) + delta_w
        for leaf, delta_w in leaves.items():
            for element in self.path(leaf):
                columns.power_w[element] += delta_w
        if power and self.counted.capped:
            self.counted.moved(placement)
        if placement.contract:
            before_milli = self.contract_held_milli.get(placement.contract, 0)
            self.contract_held_milli[placement.contract] = before_milli + sign * held_milli
        self._use(placement, sign, Taken(held_milli, used_milli, used_mb))

    def intrude(self, node: NodeId, who: str) -> None:
        """Somebody runs something on a node that was not placed here; ``who`` is empty: nobody any more."""
        if who:
            self.state.intruders[node] = who
        else:
            self.state.intruders.pop(node, None)
        index = self.fleet.node_index.get(node)
        if index is None or bool(who) == (index in self.intruded):
            return
        if who:
            self.intruded[index] = None
        else:
            del self.intruded[index]
            self.memory.came_free(int(self.fleet.node_site[index]))
        self.floors.strangers(index, 1 if who else -1)
        columns = self._fast
        hardware = columns.hardware[index]
        more_w = hardware.nameplate_w
        if self.fleet.node_from_day[index] < NEVER_DAY:
            loud = columns.mask[index] & ~columns.quiet[index]
            more_w -= hardware.node_watts(loud.bit_count(), columns.ranks[index] > 0)
        for element in self.path(columns.leaf[index]):
            columns.power_w[element] += more_w if who else -more_w
        if index in self.counted.capped:
            self.counted.cap(node)

    def declare(self, engine: str, capabilities: Capabilities) -> None:
        """What an engine can do, from now on."""
        self.state.engines[engine] = capabilities
        # What can be shed hangs on what the engines can do.
        self.floors.clear()
        for placement in self.state.placements.values():
            spec = self.state.workloads[placement.workload].spec
            self.floors.hold(placement, self.rung(spec, placement), 1)
        self._forget_classes()

    def rung(self, spec: WorkloadSpec, placement: Placement) -> Rung:
        """How a workload is shed where it is placed."""
        return rung_of(shed_class(spec), self.state.engines.get(self.engine_of(placement)))

    def engine_of(self, placement: Placement) -> str:
        """The engine that runs a placement, by name."""
        return self.fleet.engine_under(placement.site, placement.ranks[0].node)

    # -- what the grid allows ------------------------------------------------------------------------------------------

    def limit(self, now_ms: int) -> None:
        """Limits of the power tree as they are now, and until when; ``limited`` counts how often they were looked at."""
        before, limited_before = self.power_limit_w, self.floors.limit_w
        found = limits_of(self.fleet, self.state.instructions.values(), self.kept_w(), now_ms)
        self.power_limit_w, self.floors.limit_w, self._limit_until_ms, self.floors.limited_by = found[:4]
        self.floors.held_to = found[4]
        self.limited += 1
        self.has_hours = any(site.connection.windows for site in self.fleet.sites)
        if len(before) != len(found[0]) or limited_before != found[1] or (before != found[0]).any():
            self.memory.clear()

    def kept_w(self) -> dict[int, int]:
        """By element of the power tree: what those need beyond what they draw who are paused or capped for the grid."""
        found: dict[int, int] = {}
        for ident in self.curtailed:
            for name, watts in restores_w(self.state.placements[ident], self.hardware_of).items():
                self.add_on_path(found, self.fleet.node_index[NodeId(name)], watts)
        for node, credit_w in self.counted.credit_w.items():
            self.add_on_path(found, node, credit_w)
        return found

    def quieten(self, placement: Placement, *, quiet: bool) -> None:
        """From now on a placement's accelerators draw what idle ones do, since it is paused (or no longer)."""
        if placement.is_quiet == quiet:
            return
        placement.is_quiet = quiet
        columns, fleet = self._fast, self.fleet
        for rank in placement.ranks:
            if rank.share_milli != WHOLE_MILLI:
                continue
            node = fleet.node_index[NodeId(rank.node)]
            hardware = columns.hardware[node]
            change_w = rank.mask.bit_count() * (hardware.accelerator_idle_w - hardware.accelerator_w)
            columns.quiet[node] ^= rank.mask
            if node not in self.intruded:
                for element in self.path(columns.leaf[node]):
                    columns.power_w[element] += change_w if quiet else -change_w
        if self.counted.capped:
            self.counted.moved(placement)
        self.memory.came_free(fleet.site_index[placement.site])

    def _mark_quiet(self, placement: Placement) -> None:
        for rank in placement.ranks:
            if rank.share_milli == WHOLE_MILLI:
                self._fast.quiet[self.fleet.node_index[NodeId(rank.node)]] ^= rank.mask

    def over(self, node: NodeId) -> list[int]:
        """The elements of the power tree above a node."""
        return self.path(self._fast.leaf[self.fleet.node_index[node]])

    def _recount(self) -> None:
        self.usage.clear()
        for placement in self.state.placements.values():
            ranks = placement.ranks
            cpu_milli, memory_mb = sum(one.cpu_milli for one in ranks), sum(one.memory_mb for one in ranks)
            self._use(placement, 1, Taken(sum(one.accelerators_milli for one in ranks), cpu_milli, memory_mb))

    def _use(self, placement: Placement, sign: int, more: Taken) -> None:
        """Count what a project has, but for what a contract reserves."""
        contract = self.contracts.get(placement.contract)
        if contract is not None and contract.kind == "reserved":
            return
        key = placement.tenant, placement.project
        has = self.usage.get(key, _NOTHING)
        self.usage[key] = Taken(has[0] + sign * more[0], has[1] + sign * more[1], has[2] + sign * more[2])

    def _share(self, node: int, mask: int, delta_milli: int, tenant: TenantId) -> int:
        """Take or give back a part of an accelerator; its bit if that is the first or the last part of it, else 0."""
        if not len(self.node_share_milli):
            shape = len(self.fleet.node_ids), max(one.accelerators for one in self.fleet.hardware)
            self.node_share_milli = np.zeros(shape, np.int16)
            self.node_sharer = np.zeros(shape, np.int32)
        at = node, mask.bit_length() - 1
        before = int(self.node_share_milli[at])
        after = before + delta_milli
        self.node_share_milli[at] = after
        self.node_sharer[at] = self.tenant_number(tenant) if after else 0
        return mask if not before or not after else 0

    def add_on_path(self, found: dict[int, int], node: int, watts: int) -> None:
        """Add watts of a node, by its number, to each element that feeds it."""
        for element in self.path(int(self.fleet.node_leaf[node])):
            found[element] = found.get(element, 0) + watts

    def path(self, leaf: int) -> list[int]:
        """An element of the power tree, by its number, and all above it."""
        path = self._paths.get(leaf)
        if path is None:
            path = self._paths[leaf] = self.fleet.path(leaf)
        return path

    def _is_unsettled(self, placement: Placement) -> bool:
        if not placement.started_ms or placement.stop_reason is not None:
            return True
        wanted = self.state.workloads[placement.workload].pause_wanted or bool(placement.curtailed)
        return wanted != placement.paused

    def settle(self, placement: Placement) -> None:
        """Remember whether what is wanted of a placement and what was seen of it differ."""
        if self._is_unsettled(placement):
            self.unsettled[placement.id] = None
        else:
            self.unsettled.pop(placement.id, None)
        if placement.stop_reason is not None:
            self.stopping[placement.id] = None

    def _history(self) -> History:
        """What is known of how long work runs; a checkpoint of before that was known has nobody in it."""
        history = History(self.state.siblings)
        for work in sorted(self.state.workloads.values(), key=lambda work: work.submitted_seq):
            if work.state not in TERMINAL and shares_time(work.spec):
                if work.id not in history:
                    history.enter(work.id, kind_of(work))
                history.attain(work.id, work.attained_ms)
        return history

    # -- questions -------------------------------------------------------------------------------------------------

    @property
    def zone(self) -> str:
        """The operator's time zone: billing periods are months in it."""
        return self.estate.operator.zone if self.estate else "UTC"

    def tenant_number(self, tenant: TenantId) -> int:
        """A tenant's number among those who share accelerators, above 0; KeyError for an unknown one."""
        return self.state.tenants[tenant].number + 1

    def hardware_of(self, node: str) -> HardwareType:
        """The type of a node; KeyError for an unknown one."""
        return self._fast.hardware[self.fleet.node_index[NodeId(node)]]

    def period(self, at_ms: int) -> str:
        """The billing period of an instant; remembered by quarter of an hour, since no zone's month begins within one."""
        quarter = at_ms // (_QUARTER_MS)
        if quarter != self._quarter:
            self._quarter, self._period = quarter, period_of(at_ms, self.zone)
        return self._period

    def site(self, site: SiteId) -> Site:
        """A site's declaration; KeyError for an unknown one."""
        return self.fleet.sites[self.fleet.site_index[site]]

    def place_verdict(self, tenant: TenantId, ref: PolicyRef, site: int) -> Verdict:
        """May a workload of ``tenant`` under ``ref`` be placed at site number ``site``; remembered by class."""
        known = self.laws.remembered.get(site)
        verdict = None if known is None else known.get((tenant, ref.profile, ref.countries, ref.data))
        return self.laws.judge(self, tenant, ref, site) if verdict is None else verdict

    def blocked(self, tenant: TenantId, ref: PolicyRef, site: int) -> Blocked | None:
        """What keeps it from there under a policy with rules; see :meth:`~headrace.core.sovereignty.law.Laws.blocked`."""
        return self.laws.blocked(self, tenant, ref, site)

    def right(self, subject: Subject, action: str, target: Target) -> tuple[Verdict, Digest]:
        """May ``subject`` do ``action`` to ``target``: the authority's verdict and its digest, remembered by class."""
        key = (subject.role, subject.tenant, action, target.kind, target.tenant)
        found = self._rights.get(key)
        if found is None:
            verdict = decide(self.policies, RIGHTS_POLICY, subject, action, target, {})
            found = self._rights[key] = (verdict, verdict.id)
        return found

    def contract_for(
        self, tenant: TenantId, site: int, model: str, named: ContractId | None
    ) -> Contract | None:
        """The contract that pays for ``model`` at site number ``site`` today, or None."""
        key = (tenant, site, model, named)
        if key not in self._contracts_for:
            where = self.fleet.sites[site].id
            day = day_of(self.now_ms, self.zone)
            priced = [one for one in self.contracts.values() if self._has_price(one, model or CPU_MODEL)]
            found = contract_for(priced, tenant, where, model or CPU_MODEL, day, named)
            self._contracts_for[key] = found
        return self._contracts_for[key]

    def _has_price(self, contract: Contract, model: str) -> bool:
        """Whether what a contract covers could be invoiced: nobody runs what no plan has a price for."""
        plan = self.plans.get(contract.plan)
        return plan is None or has_price(plan, model)

    def _open(self) -> npt.NDArray[np.bool_]:
        found = self.node_here & self.node_ready
        found[list(self.intruded)] = False
        found[list(self.counted.capped)] = False
        return found

    def snapshot(self, now_ms: int) -> Snapshot:
        """A view of now, for planning and explaining; valid until the next event is applied."""
        self.at(now_ms)
        return Snapshot(
            version=self.state.version,
            now_ms=now_ms,
            fleet=self.fleet,
            node_open=self._open(),
            node_mask=self.node_mask,
            node_cpu_milli=self.node_cpu_milli,
            node_memory_mb=self.node_memory_mb,
            node_ranks=self.node_ranks,
            power_w=self.power_w,
            power_limit_w=self.power_limit_w,
            floors=self.floors,
            limit_until_ms=self._limit_until_ms,
            queue=self.queue.values(),
            waiting=self.queue,
            memory=self.memory,
            endings=self.endings,
            history=self.history,
            workloads=self.state.workloads,
            placements=self.state.placements,
            place_verdict=self.place_verdict,
            contract_for=self.contract_for,
            contract_held_milli=self.contract_held_milli,
            node_share_milli=self.node_share_milli,
            node_sharer=self.node_sharer,
            contracts=self.contracts,
            tenant_number=self.tenant_number,
            usage=self.usage,
            tenants=self.tenants,
            stopping=self.stopping,
            windows=self.windows,
            intruders=self.state.intruders,
            caps=self.state.caps,
            excess=self.state.excess,
            engines=self.state.engines,
            copies=self.state.copies,
            datasets=self.laws.datasets,
            demand=self.popularity.demand,
            zone=self.zone,
            blocked=self.blocked,
        )
