"""Whose turn comes before a waiting workload's, by the order that the planner follows, and why.

Shares are those of this moment: they grow while a pass places, which this leaves out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from headrace.core.ids import ProjectId, TenantId
from headrace.core.scheduling.columns import columns_of
from headrace.core.scheduling.order import AGING_MS, Shares, aged_priority, most_milli
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import Workload, WorkloadSpec, WorkloadType

Turn = tuple[bool, int, bool, int, int, int]
"""What decides whose turn it is, less first: does it borrow, priority (negative), is it a filler, the tenant's and the project's
share, arrival."""
_FILLER = WorkloadType.FILLER
_Own = tuple[int, bool, int]
"""Priority with age (negative), is it a filler, arrival: what decides within a project."""
_GUARANTEED, _PRIORITY, _SHARE, _ARRIVAL = range(4)


@dataclass(slots=True)
class Ahead:
    """Workloads whose turn comes first, by why: within what is guaranteed, priority (with age), share, arrival.

    ``own``: the first of them that is of the same tenant; ``highest``: the highest priority with age among them.
    """

    guaranteed: int = 0
    priority: int = 0
    share: int = 0
    arrival: int = 0
    own: Workload | None = None
    highest: int = 0

    @property
    def count(self) -> int:
        """How many they are."""
        return self.guaranteed + self.priority + self.share + self.arrival


class Turns:
    """The turns of all who wait in a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot, self.now_ms = snapshot, snapshot.now_ms
        self.shares = Shares(snapshot, columns_of(snapshot.fleet).capacity)
        self._on = {window.id for window in snapshot.windows if window.is_on(self.now_ms)}
        self._parts: dict[tuple[TenantId, ProjectId], tuple[int, int]] = {}
        self._favoured = self._perhaps_guaranteed()

    def is_due(self, workload: Workload) -> bool:
        """Whether it may be placed at this time."""
        if workload.not_before_ms > self.now_ms:
            return False
        reservation = workload.spec.reservation
        return reservation is None or reservation in self._on

    def of(self, workload: Workload) -> Turn:
        """The turn of a workload: less comes first."""
        level, filler, arrival = self._own(workload)
        key = workload.tenant, workload.spec.project
        return self._borrows(workload.tenant, workload.spec), level, filler, *self._share(key), arrival

    def first(self) -> Workload | None:
        """The workload that the planner looks at first."""
        if self._favoured:
            return min(self._due(), key=self.of, default=None)
        highest, found = -1 << 60, list[Workload]()
        for work in self._due():
            level = aged_priority(work, self.now_ms)
            if level > highest:
                highest = level
                found.clear()
            if level == highest:
                found.append(work)
        return min(found, key=self.of, default=None)

    def before(self, workload: Workload) -> Ahead:
        """Who goes before a workload."""
        found = Ahead(highest=-1 << 60)
        first: Turn | None = None
        counts = [0, 0, 0, 0]
        tenant, highest = workload.tenant, found.highest
        for other, why, level in self._before(workload):
            counts[why] += 1
            if level > highest:  # noqa: PLR1730 - a call for each of a hundred thousand is too much
                highest = level
            if other.tenant == tenant:
                turn = self.of(other)
                if first is None or turn < first:
                    found.own, first = other, turn
        found.highest = highest
        found.guaranteed, found.priority, found.share, found.arrival = counts
        return found

    def anybody_before(self, workload: Workload) -> bool:
        """Whether anybody goes before a workload."""
        return next(self._before(workload), None) is not None

    def priority_to_be_first(self, workload: Workload, ahead: Ahead) -> int | None:
        """The least priority with which it would go first; None when no priority that its tenant may use is enough."""
        if ahead.guaranteed or not ahead.count:
            return None
        tenant = self.snapshot.tenants.get(workload.tenant)
        aged = aged_priority(workload, self.now_ms) - workload.spec.priority
        wanted = ahead.highest + 1 - aged
        return wanted if tenant is None or wanted <= tenant.max_priority else None

    # -- within ---------------------------------------------------------------------------------------------------

    def _due(self) -> Iterator[Workload]:
        return (work for work in self.snapshot.queue if self.is_due(work))

    def _before(self, workload: Workload) -> Iterator[tuple[Workload, int, int]]:
        """Who goes before a workload, each with the place in :class:`Ahead` of why, and its priority with age.

        :meth:`of`, part by part: a hundred thousand may be queued, so that it stops at the first part that decides.
        """
        borrows, level, filler, tenant_share, project_share, arrival = self.of(workload)
        mine, equals = -level, (tenant_share, project_share, arrival)
        known = self._parts
        favoured, young_ms, now_ms = self._favoured, self.now_ms - AGING_MS, self.now_ms
        for other in self.snapshot.queue:
            spec = other.spec
            theirs = spec.priority if other.submitted_ms > young_ms else aged_priority(other, now_ms)
            owes = True
            if favoured and other.tenant in favoured:
                owes = self._borrows(other.tenant, spec)
            if owes != borrows:
                if owes:
                    continue
                why = _GUARANTEED
            elif theirs != mine or (spec.type is _FILLER) != filler:
                if theirs < mine or (theirs == mine and not filler):
                    continue
                why = _PRIORITY
            else:
                key = other.tenant, spec.project
                parts = known.get(key) or self._share(key)
                if (*parts, other.submitted_seq) >= equals:
                    continue
                why = _ARRIVAL if parts == equals[:2] else _SHARE
            if other.not_before_ms <= now_ms and (spec.reservation is None or self.is_due(other)):
                yield other, why, theirs

    def _own(self, workload: Workload) -> _Own:
        return -aged_priority(workload, self.now_ms), workload.spec.type is _FILLER, workload.submitted_seq

    def _share(self, key: tuple[TenantId, ProjectId]) -> tuple[int, int]:
        parts = self._parts.get(key)
        if parts is None:
            parts = self._parts[key] = self.shares.tenant(key[0]).share, self.shares.project(*key).share
        return parts

    def _perhaps_guaranteed(self) -> frozenset[TenantId]:
        """Tenants of whom something may go first because it is guaranteed."""
        snapshot = self.snapshot
        guaranteed = [name for name, one in snapshot.tenants.items() if one.quota.guaranteed]
        reserved = [one.tenant for one in snapshot.contracts.values() if one.kind == "reserved"]
        windows = [one.tenant for one in snapshot.windows if one.tenant is not None]
        return frozenset((*guaranteed, *reserved, *windows))

    def _borrows(self, tenant: TenantId, spec: WorkloadSpec) -> bool:
        """Whether it goes after all that is guaranteed; of a project too, whatever its priority."""
        if tenant not in self._favoured or spec.type is _FILLER:
            return True
        if spec.reservation is not None:
            return False
        contract = self.snapshot.contracts.get(spec.contract) if spec.contract is not None else None
        if contract is not None and contract.kind == "reserved":
            return False
        return not self.shares.is_within(tenant, spec.project, most_milli(self.snapshot.fleet, spec))
