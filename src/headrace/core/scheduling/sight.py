"""The estate as one waiting workload meets it: where it would fit, and what keeps it from where it would not.

Nothing here depends on who else waits; :mod:`~headrace.core.scheduling.ahead` has that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from headrace.core.contracts import Contract
from headrace.core.fleet import I64
from headrace.core.ids import ProjectId, TenantId
from headrace.core.scheduling.columns import (
    Ask,
    Columns,
    Mask,
    Scratch,
    accelerators_milli_of,
    ask_of,
    columns_of,
    scratch_of,
)
from headrace.core.scheduling.order import Account, Shares
from headrace.core.scheduling.rank import Candidates, candidates, choose, site_order, site_refusal
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.windows import Hold, ends_of, holds_of, kept_w, may_be_evicted
from headrace.core.workload import WHOLE_MILLI, WorkloadSpec, options

_NO_LIMIT_W = 1 << 60


@dataclass(frozen=True, slots=True)
class Ground:
    """The estate of a snapshot as arrays, and what everybody has: made once, for all questions about a workload."""

    snapshot: Snapshot
    columns: Columns
    free: Scratch
    shares: Shares

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Ground":
        """The ground of a snapshot."""
        columns = columns_of(snapshot.fleet)
        return cls(snapshot, columns, scratch_of(snapshot, columns), Shares(snapshot, columns.capacity))


@dataclass(frozen=True, slots=True)
class Spot:
    """One of the things that would do at one of the sites: ``option`` indexes what would do, ``contract`` pays for it there."""

    option: int
    ask: Ask
    site: int
    contract: Contract


@dataclass(frozen=True, slots=True)
class Short:
    """What is lacking of an amount of accelerators, in thousandths: it may have ``limit``, has ``held``, asks for ``asked``."""

    limit_milli: int
    held_milli: int
    asked_milli: int

    @property
    def over_milli(self) -> int:
        """By how much it would be too much."""
        return self.held_milli + self.asked_milli - self.limit_milli


class Sight:
    """What a tenant's workload with a spec sees: sites in its order, what would do, and where that fits."""

    def __init__(self, ground: Ground, tenant: TenantId, spec: WorkloadSpec) -> None:
        self.ground, self.tenant, self.spec = ground, tenant, spec
        self.snapshot, self.columns = ground.snapshot, ground.columns
        sharer = self.snapshot.tenant_number(tenant)
        self.asks = [ask_of(spec, need, sharer) for need in options(spec)]
        self.state, self.filling, self.held = self.with_windows(ground.free, self.snapshot.now_ms)
        """What is left for it; that on nodes that it may only fill; nodes that windows keep from it (None: no windows)."""
        order = site_order(self.snapshot, tenant)
        self.sites = [site for site in order if spec.site is None or self.id_of(site) == spec.site]

    def id_of(self, site: int) -> str:
        """The name of a site."""
        return self.snapshot.fleet.sites[site].id

    def other(self, spec: WorkloadSpec) -> "Sight":
        """What the same tenant's workload would see if it asked for something else."""
        return Sight(self.ground, self.tenant, spec)

    def spots(self) -> Iterator[Spot]:
        """Everything that law and contract allow, in order of preference."""
        for option, ask in enumerate(self.asks):
            for site in self.sites:
                _, contract = self.refusal(ask, site)
                if contract is not None:
                    yield Spot(option, ask, site, contract)

    def refusal(self, ask: Ask, site: int) -> tuple[Refusal | None, Contract | None]:
        """Why law or contract keep it from a site as such; else the contract that pays there."""
        return site_refusal(self.snapshot, self.tenant, self.spec, ask.model, site)

    def place(self) -> tuple[Spot, I64] | None:
        """The first spot where it would start now if nobody else waited, and the nodes there."""
        for spot in self.spots():
            nodes = self.nodes_at(spot)
            if nodes is not None:
                return spot, nodes
        return None

    def nodes_at(self, spot: Spot) -> I64 | None:
        """The nodes that it would get at a spot, with all that quota and contract leave."""
        nodes = self.free_at(spot)
        if nodes is None or self.contract_short(spot, nodes) or self.quota_short(spot, nodes):
            return None
        return nodes

    def free_at(self, spot: Spot) -> I64 | None:
        """The same whatever quota and contract leave."""
        nodes = choose(self.columns, self.state, spot.ask, spot.site)
        if nodes is None and self.filling is not None:
            nodes = choose(self.columns, self.filling, spot.ask, spot.site)
        return nodes

    # -- what is counted ------------------------------------------------------------------------------------------

    def asked_milli(self, spot: Spot, nodes: I64 | None) -> int:
        """Thousandths of accelerators that it takes on ``nodes``, or at least if they are not known."""
        ask = spot.ask
        if nodes is None:
            return ask.nodes * ask.accelerators * ask.share_milli
        return accelerators_milli_of(self.columns, ask, nodes)

    def contract_short(self, spot: Spot, nodes: I64 | None) -> Short | None:
        """What its contract lacks for it."""
        contract = spot.contract
        if contract.kind != "reserved":
            return None
        held_milli = self.ground.free.held_milli.get(contract.id, 0)
        short = Short(contract.accelerators * WHOLE_MILLI, held_milli, self.asked_milli(spot, nodes))
        return short if short.over_milli > 0 else None

    def quota_short(self, spot: Spot, nodes: I64 | None) -> list[tuple[ProjectId | None, Short]]:
        """What its tenant's quota lacks for it (None), and its project's; what a contract reserves is beside them."""
        if spot.contract.kind == "reserved":
            return []
        found: dict[int, tuple[ProjectId | None, Short]] = {}
        accounts: tuple[tuple[ProjectId | None, Account], ...] = (
            (None, self.ground.shares.tenant(self.tenant)),
            (self.spec.project, self.ground.shares.project(self.tenant, self.spec.project)),
        )
        for whose, account in accounts:
            asked_milli = self.asked_milli(spot, nodes)
            if account.is_over(asked_milli):
                limit_milli = account.quota.limit * WHOLE_MILLI
                # A tenant's only project may have its account.
                short = Short(limit_milli, account.accelerators_milli, asked_milli)
                found.setdefault(id(account), (whose, short))
        return list(found.values())

    # -- nodes ----------------------------------------------------------------------------------------------------

    def candidates(self, ask: Ask, site: int) -> Candidates:
        """The nodes of a site that each filter leaves, whatever windows keep."""
        return candidates(self.columns, self.ground.free, ask, site)

    def stands_badly(self, ask: Ask, site: int) -> bool:
        """Whether the free nodes of a site don't stand as it requires, however much power there were."""
        if ask.topology is None or self.choose_with_any_power(ask, site) is not None:
            return False
        return self.choose_with_any_power(ask._replace(topology=None), site) is not None

    def choose_with_any_power(self, ask: Ask, site: int) -> I64 | None:
        """The nodes that it would get at a site if power were no object."""
        free = self.ground.free
        return choose(self.columns, free.with_head(np.full_like(free.head_w, _NO_LIMIT_W)), ask, site)

    def with_windows(self, free: Scratch, at_ms: int) -> tuple[Scratch, Scratch | None, Mask | None]:
        """What of ``free`` is left for it at a time; that on nodes which it may only fill (None: it may not); nodes kept from it.

        Windows leave it the nodes that it is gone from in time, and the power that they don't need. Who has a limit but can't be
        told to go may be on nodes that are held, with what is kept for them.
        """
        if not self.snapshot.windows:
            return free, None, None
        if self.spec.reservation is not None:
            inside = self._inside(free)
            return replace(free, open=inside), None, ~inside
        let, held = self._let(free, at_ms)
        may_go, fills = may_be_evicted(self.spec), np.zeros_like(free.open)
        for holds, _ in let.values() if not may_go else ():
            for hold in holds:
                fills[hold.nodes] = True
        fills &= ~held
        head_w, filling_w = free.head_w.copy(), free.head_w.copy()
        for element, watts in self._kept_w(free, at_ms).items():
            holds, every = let.get(int(self.snapshot.fleet.power_site[element]), ([], False))
            left_w = int(head_w[element]) - watts
            if not (every and may_go):
                head_w[element] = left_w
            # What it draws on a reservation's nodes is part of what is kept for them.
            if left_w < 0 or not all(hold.is_sold for hold in holds):
                filling_w[element] = left_w
        filling = replace(free, open=free.open & fills, head_w=filling_w) if fills.any() else None
        return replace(free, open=free.open & ~held & ~fills, head_w=head_w), filling, held

    def _let(self, free: Scratch, at_ms: int) -> tuple[dict[int, tuple[list[Hold], bool]], Mask]:
        """By site the holds that it is gone in time for, and whether those are all; the nodes of the others."""
        ends, held = ends_of(self.spec, at_ms), np.zeros_like(free.open)
        found: dict[int, tuple[list[Hold], bool]] = {}
        for site, hold in holds_of(self.snapshot.windows, at_ms):
            let, every = found.get(site, ([], True))
            is_gone = ends.is_gone_by(hold)
            found[site] = (([*let, hold] if is_gone else let), every and is_gone)
            if not is_gone:
                held[hold.nodes] = True
        return found, held

    def _kept_w(self, free: Scratch, at_ms: int) -> dict[int, int]:
        """The power that reservations keep at a time when so much is free."""
        used = self.columns.full & ~free.bits
        return kept_w(
            self.columns,
            replace(self.snapshot, now_ms=at_ms, node_mask=used, node_ranks=free.ranks.astype(np.int32)),
        )

    def _inside(self, free: Scratch) -> Mask:
        """The free nodes of its reservation, while that is on."""
        inside = np.zeros_like(free.open)
        for window in self.snapshot.windows:
            if window.id == self.spec.reservation and window.is_on(self.snapshot.now_ms):
                nodes = np.array(window.nodes, dtype=np.int64)
                inside[nodes] = free.open[nodes]
        return inside
