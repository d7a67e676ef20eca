"""The writer's own judgement: may this placement be made in the world as it is, and could this spec ever be placed.

:func:`admit` reads only what a proposal touches and trusts nothing in it. :func:`can_ever_fit` asks the empty
estate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from headrace.core.ids import PowerNodeId, TenantId, WindowId
from headrace.core.power.shedding import rung_of, shed_class
from headrace.core.scheduling.columns import (
    Ask,
    Columns,
    ask_of,
    columns_of,
)
from headrace.core.scheduling.empty import Empty, empty_of
from headrace.core.scheduling.order import is_over_limit
from headrace.core.scheduling.proposal import ProposedPlacement
from headrace.core.scheduling.rank import lacks, of_data, site_refusal, suits
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.topology import stand_well
from headrace.core.scheduling.windows import Ends, ends_of, kept_w, may_be_evicted
from headrace.core.units import MS_PER_SECOND, ceil_div, format_watts
from headrace.core.workload import (
    WHOLE_MILLI,
    RankPlace,
    Resources,
    State,
    Topology,
    Workload,
    WorkloadSpec,
    option,
    options,
)


@dataclass(frozen=True, slots=True)
class Cells:
    """The columns of a snapshot cell by cell, for looks at a node or two: memory views cost a third of numpy's own indexing."""

    open: memoryview
    mask: memoryview
    cpu_milli: memoryview
    memory_mb: memoryview
    ranks: memoryview
    power_w: memoryview
    power_limit_w: memoryview
    columns: Columns

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Cells":
        """They show what the snapshot shows, also later."""
        return cls(
            snapshot.node_open.data,
            snapshot.node_mask.data,
            snapshot.node_cpu_milli.data,
            snapshot.node_memory_mb.data,
            snapshot.node_ranks.data,
            snapshot.power_w.data,
            snapshot.power_limit_w.data,
            columns_of(snapshot.fleet),
        )


def admit(snapshot: Snapshot, proposal: ProposedPlacement, cells: Cells | None = None) -> Refusal | None:
    """Why ``proposal`` can't be carried out in the world that ``snapshot`` shows now; None when it can.

    A workload that is not queued (any more) is refused as TIME, a proposal that no planner makes as HARDWARE.
    Takes time proportional to the ranks; never raises. ``cells``: the snapshot's, for who asks of many proposals.
    """
    workload = snapshot.workloads.get(proposal.workload)
    if workload is None or workload.state is not State.QUEUED or workload.not_before_ms > snapshot.now_ms:
        return Refusal.TIME
    spec, site = workload.spec, snapshot.fleet.site_index.get(proposal.site)
    if site is None or (spec.site is not None and spec.site != proposal.site):
        return Refusal.HARDWARE
    need = option(spec, proposal.option)
    if need is None:
        return Refusal.HARDWARE
    refusal = _claim_refusal(snapshot, workload, need, proposal, site)
    if refusal is not None:
        return refusal
    cells = cells or Cells.of(snapshot)
    nodes = _distinct_nodes(snapshot, cells, proposal, site)
    if nodes is None or not spec.nodes <= len(nodes) <= max(spec.nodes, spec.nodes_max):
        return Refusal.HARDWARE
    ask = ask_of(spec, need, snapshot.tenant_number(workload.tenant))
    reasons = [
        _rank_refusal(snapshot, cells, ask, node, rank)
        for node, rank in zip(nodes, proposal.ranks, strict=True)
    ]
    found = [reason for reason in reasons if reason is not None]
    if not ask.model and not cells.columns.of_site[nodes].all():
        # What has another engine than its site is had by the name of its accelerators alone.
        found.append(Refusal.HARDWARE)
    if not stand_well(cells.columns, spec.topology, nodes):
        found.append(Refusal.TOPOLOGY)
    if not _is_in_time(snapshot, spec, nodes):
        found.append(Refusal.WINDOW)
    return min(found) if found else _power_refusal(snapshot, cells, spec, site, nodes, proposal.ranks)


def _claim_refusal(
    snapshot: Snapshot, workload: Workload, need: Resources, proposal: ProposedPlacement, site: int
) -> Refusal | None:
    """Why law, contract or quota keep a workload from what a proposal gives it."""
    tenant = workload.tenant
    refusal, contract = site_refusal(snapshot, tenant, workload.spec, need.accelerator, site)
    if contract is None:
        return refusal
    asked_milli = sum(rank.accelerators_milli for rank in proposal.ranks)
    if contract.kind == "reserved":
        held_milli = snapshot.contract_held_milli.get(contract.id, 0)
        return Refusal.CONTRACT if held_milli + asked_milli > contract.accelerators * WHOLE_MILLI else None
    return Refusal.QUOTA if is_over_limit(snapshot, tenant, workload.spec.project, asked_milli) else None


def _is_in_time(snapshot: Snapshot, spec: WorkloadSpec, nodes: list[int]) -> bool:
    """Whether windows let a workload on nodes: its own reservation's while that goes on, or others' while it is gone in time.

    When its own is over it is told to go, whatever comes next there.
    """
    if not snapshot.windows:
        return spec.reservation is None
    ends, inside = ends_of(spec, snapshot.now_ms), spec.reservation is None
    own_ms = [window.ends_ms for window in snapshot.windows if window.id == spec.reservation]
    for window in snapshot.windows:
        if snapshot.now_ms >= window.ends_ms:
            continue
        if window.id == spec.reservation:
            inside = window.is_on(snapshot.now_ms) and set(nodes) <= set(window.nodes)
        elif own_ms and own_ms[0] <= window.starts_ms:
            continue
        elif not set(nodes).isdisjoint(window.nodes) and not _ends_by(ends, window.starts_ms):
            return False
    return inside


def _is_gone_in_time(snapshot: Snapshot, spec: WorkloadSpec, site: int) -> bool:
    """Whether a workload is told to go before any reservation of a site begins: a limit ends nothing that is paused."""
    starts = [
        window.starts_ms
        for window in snapshot.windows
        if window.site == site and window.tenant is not None and snapshot.now_ms < window.ends_ms
    ]
    return not starts or (may_be_evicted(spec) and _ends_by(ends_of(spec, snapshot.now_ms), min(starts)))


def _ends_by(ends: Ends, at_ms: int) -> bool:
    return ends.certain_ms is not None and ends.certain_ms <= at_ms


def _distinct_nodes(
    snapshot: Snapshot, cells: Cells, proposal: ProposedPlacement, site: int
) -> list[int] | None:
    nodes: dict[int, None] = {}
    index, sites = snapshot.fleet.node_index, cells.columns.site
    for rank in proposal.ranks:
        node = index.get(rank.node)  # type: ignore[call-overload]
        if node is None or node in nodes or sites[node] != site:
            return None
        nodes[node] = None
    return list(nodes)


def _rank_refusal(snapshot: Snapshot, cells: Cells, ask: Ask, node: int, rank: RankPlace) -> Refusal | None:
    """Whether a node can give a rank exactly what its workload asks for."""
    hardware = cells.columns.kinds[node]
    count, cpu_milli, memory_mb = ask.on(hardware)
    if min(count, cpu_milli, memory_mb) < 0 or (ask.model and ask.model != hardware.accelerator):
        return Refusal.HARDWARE
    enough = ask.accelerators <= hardware.accelerators and ask.cpu_milli <= hardware.cpu_milli
    if not enough or ask.memory_mb > hardware.memory_mb:
        return Refusal.HARDWARE
    if ask.accelerator_memory_mb > hardware.accelerator_memory_mb or rank.share_milli != ask.share_milli:
        return Refusal.HARDWARE
    # A negative mask has all the bits beyond the node's accelerators.
    if rank.mask & ~hardware.accelerator_mask() or rank.accelerators != count:
        return Refusal.HARDWARE
    if (rank.cpu_milli, rank.memory_mb) != (cpu_milli, memory_mb):
        return Refusal.HARDWARE
    if not cells.open[node]:
        return Refusal.NODE_STATE
    full = (
        (ask.whole and cells.ranks[node] != 0)
        or (rank.mask & cells.mask[node] and _is_taken(snapshot, ask, node, rank))
        or cells.cpu_milli[node] + cpu_milli > hardware.cpu_milli
        or cells.memory_mb[node] + memory_mb > hardware.memory_mb
    )
    return Refusal.CAPACITY if full else None


def _is_taken(snapshot: Snapshot, ask: Ask, node: int, rank: RankPlace) -> bool:
    """Whether others, who have some of a rank's accelerators, have all of them, or too much of the one that it shares."""
    at = rank.mask.bit_length() - 1
    if not ask.is_fraction or not len(snapshot.node_share_milli):
        return True
    used_milli = int(snapshot.node_share_milli[node, at])
    mine = int(snapshot.node_sharer[node, at]) == ask.sharer
    return not used_milli or not mine or used_milli + ask.share_milli > WHOLE_MILLI


def _power_refusal(
    snapshot: Snapshot,
    cells: Cells,
    spec: WorkloadSpec,
    site: int,
    nodes: list[int],
    ranks: tuple[RankPlace, ...],
) -> Refusal | None:
    if _is_below_floor(snapshot, spec, site, nodes, ranks):
        return Refusal.POWER
    kept: dict[int, int] = {}
    if snapshot.windows and spec.reservation is None and not _is_gone_in_time(snapshot, spec, site):
        kept = kept_w(cells.columns, snapshot, nodes)
    need_w: dict[int, int] = {}
    rows, mask, busy = cells.columns.rows, cells.mask, cells.ranks
    for node, rank in zip(nodes, ranks, strict=True):
        step_w, wake_w, path = rows[node]
        more_w = (rank.mask & ~mask[node]).bit_count() * step_w
        if not busy[node]:
            more_w += wake_w
        if len(nodes) == 1:
            need_w = dict.fromkeys(path, more_w)
            break
        for element in path:
            need_w[element] = need_w.get(element, 0) + more_w
    power_w, limit_w = cells.power_w, cells.power_limit_w
    for element, more_w in need_w.items():
        if power_w[element] + kept.get(element, 0) + more_w > limit_w[element]:
            return Refusal.POWER
    return None


def _is_below_floor(
    snapshot: Snapshot, spec: WorkloadSpec, site: int, nodes: list[int], ranks: tuple[RankPlace, ...]
) -> bool:
    """Whether more would be beyond shedding than the grid may ask a site to come down to."""
    floors = snapshot.floors
    left_w = None if floors is None else floors.left_w(site)
    # What was sold for a time is there in that time: its power was kept for it.
    if floors is None or left_w is None or spec.reservation is not None:
        return False
    rung = rung_of(shed_class(spec), snapshot.engines.get(snapshot.fleet.engine_of(nodes[0])))
    each = [(node, rank.accelerators) for node, rank in zip(nodes, ranks, strict=True)]
    return floors.needs_w(site, rung, each) > left_w


_MOST_SITES = 3
"""Sites that a line about rules names."""


def can_ever_fit(snapshot: Snapshot, spec: WorkloadSpec, tenant: TenantId) -> tuple[Refusal, str] | None:
    """Why ``spec`` can never be placed, and what could be; None when it could on the empty estate.

    Empty is as :mod:`~headrace.core.scheduling.empty` has it. A contract that does not exist yet may come: only one that is
    too small refuses. One of several alternatives is enough; if none is, it is said of each. Sites that are another
    tenant's alone are not there.
    """
    fleet = snapshot.fleet
    sites = [
        number
        for number, site in enumerate(fleet.sites)
        if site.dedicated_to in (None, tenant) and spec.site in (None, site.id)
    ]
    lawful = [site for site in sites if snapshot.place_verdict(tenant, spec.policy, site).allowed]
    if not lawful:
        return Refusal.JURISDICTION, _law_sentence(snapshot, spec, tenant, sites)
    asks = [ask_of(spec, need) for need in options(spec)]
    missing = {(site, ask): lacks(snapshot, tenant, spec, site, ask.model) for site in lawful for ask in asks}
    able = [site for site in lawful if any(not missing[site, ask] for ask in asks)]
    if not able:
        why = dict.fromkeys(f"{fleet.sites[site].id}: {text}" for (site, _), text in missing.items())
        return Refusal.ENGINE, f"no site that it may use can do it: {'; '.join(why)}"
    lawful = able
    day = datetime.fromtimestamp(snapshot.now_ms // MS_PER_SECOND, UTC)
    empty = empty_of(fleet, day.year * 10_000 + day.month * 100 + day.day)
    fitting = [(ask, found) for ask in asks if (found := [site for site in lawful if empty.fits(ask, site)])]
    if not fitting:
        never = [_Never(snapshot, empty, ask, lawful).refusal() for ask in asks]
        return max(refusal for refusal, _ in never), "; or ".join(dict.fromkeys(text for _, text in never))
    firm = [_beyond_firm(snapshot, spec, ask, found) for ask, found in fitting]
    if all(firm):
        return Refusal.POWER, firm[0]
    if spec.reservation is not None:
        small = _reservation_too_small(snapshot, [ask for ask, _ in fitting], spec.reservation)
        if small is not None:
            return small
    refusals = [_contract_too_small(snapshot, empty, spec, tenant, *one) for one in fitting]
    return None if None in refusals else refusals[0]


def _beyond_firm(snapshot: Snapshot, spec: WorkloadSpec, ask: Ask, sites: list[int]) -> str:
    """Why what can't be shed of it is more than the firm part of every connection carries, "" when one does."""
    fleet, floors = snapshot.fleet, snapshot.floors
    if floors is None:
        return ""
    texts = []
    for site in sites:
        most_w = floors.ever_w(site)
        if most_w is None:
            return ""
        columns = columns_of(fleet)
        kinds = np.unique(fleet.node_hardware[columns.spans[site]][suits(columns, ask, site)]).tolist()
        rung = rung_of(shed_class(spec), snapshot.engines.get(fleet.engine_at(site, ask.model)))
        need_w = floors.least_w(rung, kinds, ask.nodes, ask.accelerators)
        if need_w <= most_w:
            return ""
        texts.append(
            f"it draws {format_watts(need_w)} that the grid can't ask back, and the firm part of {fleet.sites[site].id} "
            f"carries {format_watts(max(most_w, 0))}"
        )
    return "; ".join(texts)


def _reservation_too_small(
    snapshot: Snapshot, asks: Sequence[Ask], reservation: WindowId
) -> tuple[Refusal, str] | None:
    """Whether a reservation has fewer nodes than are asked for; one that is not known yet may come."""
    window = next((one for one in snapshot.windows if one.id == reservation), None)
    if window is None:
        return None
    columns = columns_of(snapshot.fleet)
    inside = np.array(window.nodes, dtype=np.int64) - columns.spans[window.site].start
    most = max(int(np.count_nonzero(suits(columns, ask, window.site)[inside])) for ask in asks)
    least = min(ask.nodes for ask in asks)
    if most >= least:
        return None
    text = (
        f"asks {least} nodes; its reservation {reservation} has {most} that would do: ask for at most {most}"
    )
    return Refusal.HARDWARE, text if most else f"none of the nodes of its reservation {reservation} would do"


def _law_sentence(snapshot: Snapshot, spec: WorkloadSpec, tenant: TenantId, sites: list[int]) -> str:
    fleet = snapshot.fleet
    if not sites:
        known = [site.id for site in fleet.sites if site.dedicated_to in (None, tenant)]
        return f"no site {spec.site or 'that it may use'}; known: {', '.join(known) or 'none'}"
    by_data = {site: of_data(snapshot, tenant, spec, site) for site in sites}
    if any(by_data.values()):
        return "; ".join(f"{fleet.sites[site].id}: {why}" for site, why in by_data.items() if why)
    blocked = {site: snapshot.blocked(tenant, spec.policy, site) for site in sites[:_MOST_SITES]}
    if all(blocked.values()):
        said = [f"{fleet.sites[site].id}: {one.why}" for site, one in blocked.items() if one is not None]
        more = [f"and {len(sites) - _MOST_SITES} more sites"] if len(sites) > _MOST_SITES else []
        return "; ".join(said + more)
    countries = sorted({fleet.sites[site].country or "an unknown country" for site in sites})
    where = "sites are" if len(sites) > 1 else f"site {snapshot.fleet.sites[sites[0]].id} is"
    if spec.policy.countries:
        return f"policy countries {', '.join(spec.policy.countries)}; {where} in {', '.join(countries)}"
    if spec.policy.profile:
        return f"policy {spec.policy.profile}; {where} in {', '.join(countries)}"
    return "; ".join(snapshot.place_verdict(tenant, spec.policy, sites[0]).reasons)


def _contract_too_small(
    snapshot: Snapshot, empty: Empty, spec: WorkloadSpec, tenant: TenantId, ask: Ask, sites: list[int]
) -> tuple[Refusal, str] | None:
    """Whether what pays for it at each site where it fits holds less than it asks for."""
    least, largest = 0, 0
    for site in sites:
        contract = snapshot.contract_for(tenant, site, ask.model, spec.contract)
        if contract is None or contract.kind != "reserved":
            return None
        count = ceil_div(ask.accelerators * ask.share_milli * ask.nodes, WHOLE_MILLI)
        if ask.whole:
            count = empty.least_accelerators(ask, site)
        if contract.accelerators >= count:
            return None
        if contract.accelerators >= largest:
            least, largest = count, contract.accelerators
    text = f"asks {least} accelerators in all; its contract reserves {largest}: ask for at most {largest}"
    return Refusal.CONTRACT, text


@dataclass(frozen=True, slots=True)
class _Never:
    """What the empty estate does not take, in words."""

    snapshot: Snapshot
    empty: Empty
    ask: Ask
    sites: list[int]

    @property
    def model(self) -> str:
        return self.ask.model or "any"

    def refusal(self) -> tuple[Refusal, str]:
        """The stage that leaves too little at every site: the node, then the number of nodes, then power."""
        ask, hardware = self.ask, self.empty.hardware_at(self.sites)
        fitting = [one for one in hardware if not ask.model or one.accelerator == ask.model]
        if ask.model and not fitting:
            known = sorted(
                {f"{one.accelerator} ({one.accelerators} per node)" for one in hardware if one.accelerator}
            )
            text = f"no node has {ask.model} accelerators; there are: {', '.join(known) or 'none'}"
            return Refusal.HARDWARE, text
        for asked, had, what, unit in (
            (ask.accelerators, [one.accelerators for one in fitting], f"{self.model} accelerators", ""),
            (ask.cpu_milli, [one.cpu_milli for one in fitting], "cpu", "m"),
            (ask.memory_mb, [one.memory_mb for one in fitting], "memory", " MB"),
        ):
            if asked > max(had, default=0):
                return Refusal.HARDWARE, self.too_large(asked, max(had, default=0), what, unit)
        most_mb = max((one.accelerator_memory_mb for one in fitting), default=0)
        if ask.accelerator_memory_mb > most_mb:
            step = f"ask for at most {most_mb} MB of gpu_memory" if most_mb else "leave gpu_memory out"
            has = f"{most_mb} MB" if most_mb else "none of its own"
            return Refusal.HARDWARE, (
                f"asks accelerators of {ask.accelerator_memory_mb} MB; the largest of {self.model} has {has}: {step}"
            )
        counts = {site: self.empty.count(ask, site) for site in self.sites}
        most = max(counts.values(), default=0)
        if most < ask.nodes:
            end = f"the largest site that it may use has {most} such: ask for at most {most}"
            if not most:
                end = "no node has all of that at once: ask for less on each"
            return Refusal.HARDWARE, f"asks {ask.nodes} nodes {self.each()}; {end}"
        enough = [site for site in self.sites if counts[site] >= ask.nodes]
        if any(self.empty.fits(ask._replace(topology=None), site) for site in enough):
            return Refusal.TOPOLOGY, self.never_stand()
        return self.power_refusal(enough)

    def never_stand(self) -> str:
        wish = self.ask.topology or Topology()
        how = f"in one {wish.pack}" if wish.pack else f"each in another {wish.spread}"
        return (
            f"asks {self.ask.nodes} nodes {self.each()} {how}, and there are never so many: "
            "ask for fewer, for another level, or let it be preferred only"
        )

    def too_large(self, asked: int, most: int, what: str, unit: str) -> str:
        text = f"asks {asked}{unit} {what} per node; the largest node has {most}{unit}: "
        text += f"ask for at most {most}{unit} per node"
        spread = -(-asked * self.ask.nodes // most) if most and not unit else 0
        other = self.ask._replace(nodes=spread, accelerators=most)
        if spread and any(self.empty.fits(other, site) for site in self.sites):
            text += f", or {spread} nodes of {most}"
        return text

    def each(self) -> str:
        ask = self.ask
        parts = [f"{ask.accelerators} {self.model} accelerators"] if ask.accelerators else []
        if parts and ask.accelerator_memory_mb:
            parts[0] += f" of {ask.accelerator_memory_mb} MB"
        parts += [f"{ask.cpu_milli}m cpu"] if ask.cpu_milli else []
        parts += [f"{ask.memory_mb} MB memory"] if ask.memory_mb else []
        return f"with {', '.join(parts)}" if parts else "of its kind"

    def power_refusal(self, sites: list[int]) -> tuple[Refusal, str]:
        loose = self.ask._replace(topology=None)
        most, where = max((self.empty.most(loose, site), -site) for site in sites)
        site_id = self.snapshot.fleet.sites[-where].id
        limit_w = int(
            self.snapshot.fleet.power_limit_w[self.snapshot.fleet.power_index[PowerNodeId(site_id)]]
        )
        return Refusal.POWER, (
            f"asks {self.ask.nodes} nodes {self.each()}; the power at {site_id} (connection {format_watts(limit_w)} "
            f"of IT load, less in parts) carries at most {most}: ask for at most {most}"
            + ("" if most else ", or for less on each")
        )
