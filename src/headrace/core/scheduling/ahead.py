"""Whose turn comes before a waiting workload's, by the order that the planner follows, and why.

Shares are those of this moment: they grow while a pass places, which this leaves out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headrace.core.ids import ProjectId, TenantId
from headrace.core.scheduling.columns import columns_of
from headrace.core.scheduling.order import AGING_MS, Shares, aged_priority, most_milli
from headrace.core.scheduling.queue import Line, Members, Queue
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
        self._queue = Queue(snapshot.queue) if snapshot.waiting is None else snapshot.waiting
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
        for others, why, level in self._before(workload):
            counts[why] += len(others)
            found.highest = max(found.highest, level)
            if others[0].tenant == workload.tenant:
                turn = self.of(others[0])
                if first is None or turn < first:
                    found.own, first = others[0], turn
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

    def _before(self, workload: Workload) -> Iterator[tuple[list[Workload], int, int]]:
        """Who goes before a workload, by line and in order of arrival, with the place in :class:`Ahead` of why, and their
        priority with age.

        A hundred thousand may be queued: what those of a line have in common is compared once, and of each it is only asked
        whether it is due.
        """
        borrows, level, filler, tenant_share, project_share, arrival = self.of(workload)
        turn, parts, now_ms = (borrows, -level, filler), (tenant_share, project_share), self.now_ms
        for line, members in self._queue.lines.items():
            if line.reservation is not None and line.reservation not in self._on:
                continue
            for theirs, some in self._by_level(line, members):
                why = self._why(line, theirs, turn, parts)
                if why < 0:
                    continue
                due = [one for one in some if one.not_before_ms <= now_ms]
                if why == _ARRIVAL:
                    due = [one for one in due if one.submitted_seq < arrival]
                if due:
                    yield due, why, theirs

    def _why(self, line: Line, theirs: int, turn: tuple[bool, int, bool], parts: tuple[int, int]) -> int:
        """Why those of a line and a priority go before whoever has a turn: the first part that decides; -1 if they don't.

        If only arrival decides, it is for the caller to compare.
        """
        borrows, mine, filler = turn
        owes = line.tenant not in self._favoured or self._borrows(line.tenant, line)
        if owes != borrows:
            return -1 if owes else _GUARANTEED
        if theirs != mine:
            return _PRIORITY if theirs > mine else -1
        if line.is_filler != filler:
            return _PRIORITY if filler else -1
        known = self._share((line.tenant, line.project))
        if known != parts:
            return _SHARE if known < parts else -1
        return _ARRIVAL

    def _by_level(self, line: Line, members: Members) -> Iterable[tuple[int, Iterable[Workload]]]:
        """The workloads of a line by priority with age."""
        if next(iter(members.values())).submitted_ms > self.now_ms - AGING_MS:
            # In order of arrival: if the first is young, all are.
            return ((line.priority, members.values()),)
        found: dict[int, list[Workload]] = {}
        for one in members.values():
            found.setdefault(aged_priority(one, self.now_ms), []).append(one)
        return found.items()

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

    def _borrows(self, tenant: TenantId, spec: WorkloadSpec | Line) -> bool:
        """Whether it goes after all that is guaranteed; of a project too, whatever its priority."""
        if tenant not in self._favoured or spec.type is _FILLER:
            return True
        if spec.reservation is not None:
            return False
        contract = self.snapshot.contracts.get(spec.contract) if spec.contract is not None else None
        if contract is not None and contract.kind == "reserved":
            return False
        return not self.shares.is_within(tenant, spec.project, most_milli(self.snapshot.fleet, spec))
