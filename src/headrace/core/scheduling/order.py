"""Whose turn it is: guaranteed before borrowed, then priority, then who has the least for its weight, then arrival.

A share is the dominant one: of accelerators, processors and memory the greatest part of the estate, of the tenant first, then
of the project. It only grows while a pass places, so that a key that was right when it was made is at worst too early:
it is looked at again when it comes up.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace

from headrace.core.contracts import Quota, Tenant
from headrace.core.fleet import Fleet
from headrace.core.ids import ProjectId, TenantId
from headrace.core.scheduling.memory import Lane, Shape
from headrace.core.scheduling.queue import Kind, Line, Members
from headrace.core.scheduling.snapshot import Snapshot, Taken
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import WHOLE_MILLI, Workload, WorkloadSpec, WorkloadType

AGING_MS = MS_PER_DAY
"""A workload that has waited for so long goes as if its priority were one higher, and so on."""
_PARTS = 10**9
_NO_QUOTA = Quota()
_MOST_PRIORITY = 1 << 40


def waits_since_ms(workload: Workload) -> int:
    """Since when a queued workload could have been placed."""
    return max(workload.submitted_ms, workload.since_ms, workload.not_before_ms)


def aged_priority(workload: Workload, now_ms: int) -> int:
    """The priority of a workload, and one more for each :data:`AGING_MS` that it has waited; fillers don't age."""
    spec = workload.spec
    if now_ms - workload.submitted_ms < AGING_MS or spec.type is WorkloadType.FILLER:
        return spec.priority
    return spec.priority + max(0, now_ms - waits_since_ms(workload)) // AGING_MS


def most_milli(fleet: Fleet, asked: WorkloadSpec | Line) -> int:
    """The most thousandths of accelerators that any of what would do takes of its fewest nodes: what it claims of a guarantee.

    A cluster takes whole nodes, whatever it asks for of each. 0 if one of them would take none: no quota guarantees that.
    """
    need = asked.resources if isinstance(asked, WorkloadSpec) else asked
    each = [(need.accelerator, need.accelerators)]
    each += [(other.accelerator, other.accelerators) for other in asked.alternatives]
    if asked.type is WorkloadType.CLUSTER:
        each = [(model, max(count, _widest(fleet, model))) for model, count in each]
    counts = [count for _, count in each]
    return asked.nodes * max(counts) * need.share_milli if min(counts) else 0


def _widest(fleet: Fleet, model: str) -> int:
    """Accelerators of the node that has the most of a model, or of any."""
    return max((one.accelerators for one in fleet.hardware if model in ("", one.accelerator)), default=0)


@dataclass(slots=True)
class Account:
    """What somebody has in this pass: accelerators, for quotas, and of all three the parts of the estate (in billionths).

    ``share`` is the greatest of the parts over the weight. ``awaited_milli``: what those will take who wait for nodes that are
    theirs next; ``claimed_milli``: those of them who wait within what is guaranteed.
    """

    quota: Quota
    accelerators_milli: int = 0
    accelerator_parts: int = 0
    cpu_parts: int = 0
    memory_parts: int = 0
    share: int = 0
    awaited_milli: int = 0
    claimed_milli: int = 0
    weight: int = field(init=False)

    def __post_init__(self) -> None:
        self.weight = self.quota.weight

    def take(self, more: Taken, parts: Taken) -> None:
        """It gets ``more``, which is ``parts`` of the estate."""
        self.accelerators_milli += more[0]
        self.accelerator_parts = most = self.accelerator_parts + parts[0]
        self.cpu_parts = cpu = self.cpu_parts + parts[1]
        self.memory_parts = memory = self.memory_parts + parts[2]
        # Twice for each placement, and max() costs thrice as much.
        if cpu > most:  # noqa: PLR1730
            most = cpu
        if memory > most:  # noqa: PLR1730
            most = memory
        self.share = most if self.weight == 1 else most // self.weight

    def is_over(self, more_milli: int) -> bool:
        """Whether it would be more than it may ever have, once those who wait for their nodes have them."""
        # Who asks for none is no more over it than before: a limit may have been lowered under what is held.
        limit = self.quota.limit
        if limit <= 0 or more_milli <= 0:
            return False
        return self.accelerators_milli + self.awaited_milli + more_milli > limit * WHOLE_MILLI

    def is_within(self, more_milli: int) -> bool:
        """Whether it stays within what it is guaranteed."""
        return (
            self.accelerators_milli + self.claimed_milli + more_milli <= self.quota.guaranteed * WHOLE_MILLI
        )

    @property
    def borrows(self) -> bool:
        """Whether it has more than it is guaranteed."""
        return self.accelerators_milli > self.quota.guaranteed * WHOLE_MILLI


def is_over_limit(snapshot: Snapshot, tenant: TenantId, project: ProjectId, more_milli: int) -> bool:
    """Whether it would be more than a tenant or its project may ever have outside reserved contracts."""
    known = snapshot.tenants.get(tenant)
    whole = known.quota.limit if known is not None else 0
    part = known.project_quotas.get(project, _NO_QUOTA).limit if known is not None else 0
    if not more_milli or not (whole or part):
        return False
    has = {key: taken.accelerators_milli for key, taken in snapshot.usage.items() if key[0] == tenant}
    if whole and sum(has.values()) + more_milli > whole * WHOLE_MILLI:
        return True
    return bool(part) and has.get((tenant, project), 0) + more_milli > part * WHOLE_MILLI


def _is_within(tenant: Account, project: Account, more_milli: int) -> bool:
    # Accelerators are what is guaranteed: who takes none of them borrows.
    if not more_milli or not tenant.quota.guaranteed or not tenant.is_within(more_milli):
        return False
    return not project.quota.guaranteed or project.is_within(more_milli)


class Shares:
    """What everybody has in this pass: tenants and their projects."""

    def __init__(self, snapshot: Snapshot, capacity: Taken) -> None:
        self.capacity = capacity
        self._tenants = snapshot.tenants
        self._of_tenant: dict[TenantId, Account] = {}
        self._of_project: dict[tuple[TenantId, ProjectId], Account] = {}
        self._usage = snapshot.usage

    def is_limited(self, tenant: TenantId, project: ProjectId) -> bool:
        """Whether somebody may have only so much."""
        return bool(self.tenant(tenant).quota.limit or self.project(tenant, project).quota.limit)

    def is_within(self, tenant: TenantId, project: ProjectId, more_milli: int) -> bool:
        """Whether it stays within what a tenant is guaranteed, and its project where that has a part of it."""
        return _is_within(self.tenant(tenant), self.project(tenant, project), more_milli)

    def borrows(self, tenant: TenantId) -> bool:
        """Whether a tenant has more than it is guaranteed."""
        return self.tenant(tenant).borrows

    def claim(self, tenant: TenantId, project: ProjectId, more_milli: int) -> None:
        """Somebody waits for so much, and gets it next; within what is guaranteed, or of what it may have at most."""
        is_within = self.is_within(tenant, project, more_milli)
        whole, part = self.tenant(tenant), self.project(tenant, project)
        for account in (whole,) if part is whole else (whole, part):
            account.awaited_milli += more_milli
            if is_within:
                account.claimed_milli += more_milli

    def tenant(self, tenant: TenantId) -> Account:
        """The account of a tenant."""
        account = self._of_tenant.get(tenant)
        if account is None:
            known = self._tenants.get(tenant)
            account = self._of_tenant[tenant] = Account(known.quota if known is not None else _NO_QUOTA)
            projects = (
                known.projects if known is not None else [key[1] for key in self._usage if key[0] == tenant]
            )
            for project in projects:
                self._enter(account, self._usage.get((tenant, project)))
        return account

    def project(self, tenant: TenantId, project: ProjectId) -> Account:
        """The account of a project: its tenant's, where there is no other project and only shares count."""
        account = self._of_project.get((tenant, project))
        if account is None:
            known = self._tenants.get(tenant)
            if known is not None and known.projects == (project,) and not _has_quotas(known):
                account = self._of_project[tenant, project] = self.tenant(tenant)
                return account
            quota = known.project_quotas.get(project, _NO_QUOTA) if known is not None else _NO_QUOTA
            account = self._of_project[tenant, project] = Account(quota)
            self._enter(account, self._usage.get((tenant, project)))
        return account

    def _enter(self, account: Account, taken: Taken | None) -> None:
        if taken is not None:
            account.take(taken, self.parts(taken))

    def parts(self, more: Taken) -> Taken:
        """What ``more`` is of the estate, in billionths."""
        capacity = self.capacity
        return Taken(
            more.accelerators_milli * _PARTS // capacity.accelerators_milli,
            more.cpu_milli * _PARTS // capacity.cpu_milli,
            more.memory_mb * _PARTS // capacity.memory_mb,
        )


def _has_quotas(tenant: Tenant) -> bool:
    return bool(tenant.project_quotas or tenant.quota.limit or tenant.quota.guaranteed)


@dataclass(slots=True)
class Waiting:
    """Alike workloads in order of arrival; ``head`` is the one whose turn it is, ``members`` are those behind it.

    ``borrows``: what they ask for is not guaranteed to them; ``by_quota``: it is only while some of a quota is left, which has
    to be ``claim_milli``. ``key``: of those that don't age yet, but for their arrival (see :class:`Group`). ``ages``: whether any
    of them do. ``shape``, ``lane``: what they ask for and where plain ones look first, once it was their turn.
    """

    line: Line
    kind: Kind
    head: Workload
    members: Iterator[Workload]
    tenant: Account
    project: Account
    shape: Shape | None = None
    borrows: bool = True
    by_quota: bool = False
    claim_milli: int = 0
    key: int = 0
    ages: bool = False
    lane: Lane | None = None

    def is_over(self, more_milli: int) -> bool:
        """Whether it would be more than its tenant or its project may ever have."""
        return self.tenant.is_over(more_milli) or self.project.is_over(more_milli)

    def rank_at(self, priority: int) -> int:
        """Its rank with a priority."""
        return (self.borrows * _MOST_PRIORITY - priority) * 2 + self.line.is_filler


@dataclass(slots=True)
class Group:
    """The lines of one project, and a heap of the keys of those that still wait.

    A key is a rank, an arrival and a place in ``lines`` in one number, less first: numbers compare faster than tuples.
    """

    tenant: Account
    project: Account
    lines: list[Waiting] = field(default_factory=list)
    heap: list[int] = field(default_factory=list)

    @property
    def first(self) -> Waiting:
        """The line whose turn it is here."""
        return self.lines[self.heap[0] & PLACE]


PLACE = (1 << 24) - 1
"""The place in a key."""
RANK_BIT, ARRIVAL_BIT = 64, 24
"""Where the rank in a key begins, and where the arrival does."""


class Order:
    """The lines of a queue, in the order of their turns.

    Two heaps: one of the projects by rank, shares and arrival, and in each one of its lines by rank and arrival.
    """

    def __init__(self, snapshot: Snapshot, shares: Shares) -> None:
        self.now_ms = snapshot.now_ms
        self.young_ms = snapshot.now_ms - AGING_MS
        self.contracts, self.fleet, self.shares = snapshot.contracts, snapshot.fleet, shares
        self.groups: dict[tuple[TenantId, ProjectId], Group] = {}
        self.heap: list[tuple[int, int, int, int, Group]] = []

    def enter_usual(self, line: Line, members: Members, head: Workload, behind: Iterator[Workload]) -> None:
        """What :meth:`enter` does for a usual line of whose tenant nothing is guaranteed."""
        group = self.groups.get(members.project)
        if group is None or group.tenant.quota.guaranteed or head.submitted_ms <= self.young_ms:
            self.enter(line, members.kind, head, behind)
            return
        waiting = Waiting(line, members.kind, head, behind, group.tenant, group.project)
        waiting.key = key = (_MOST_PRIORITY - line.priority) << RANK_BIT + 1 | len(group.lines)
        group.lines.append(waiting)
        group.heap.append(key | head.submitted_seq << ARRIVAL_BIT)

    def enter(self, line: Line, kind: Kind, head: Workload, members: Iterator[Workload]) -> Waiting:
        """A line gets turns, from :meth:`begin` on."""
        key = line.tenant, line.project
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(self.shares.tenant(line.tenant), self.shares.project(*key))
        waiting = Waiting(line, kind, head, members, group.tenant, group.project)
        if line.type is not WorkloadType.FILLER:
            self._claim(waiting)
        waiting.key = waiting.rank_at(line.priority) << RANK_BIT | len(group.lines)
        group.lines.append(waiting)
        # In order of arrival, unless they share time: if the first is young, all are.
        if head.submitted_ms <= self.young_ms or line.shares_time:
            waiting.ages = True
            group.heap.append(self._key(waiting, self._aged(waiting)))
        else:
            group.heap.append(waiting.key | head.submitted_seq << ARRIVAL_BIT)
        return waiting

    def begin(self) -> None:
        """All who may have turns are there."""
        for group in self.groups.values():
            heapify(group.heap)
            first = group.heap[0]
            self.heap.append((first >> RANK_BIT, group.tenant.share, group.project.share, first, group))
        heapify(self.heap)

    def _claim(self, waiting: Waiting) -> None:
        """Whether what a line asks for is guaranteed to it: never to fillers.

        They may be evicted by whoever comes: first in turn again, they would be started for that alone.
        """
        line = waiting.line
        contract = self.contracts.get(line.contract) if line.contract is not None else None
        if line.reservation is not None or (contract is not None and contract.kind == "reserved"):
            waiting.borrows = False
        elif waiting.tenant.quota.guaranteed:
            waiting.claim_milli = most_milli(self.fleet, line)
            waiting.by_quota = _has_quota(waiting)
            waiting.borrows = not waiting.by_quota

    def _aged(self, waiting: Waiting) -> int:
        return waiting.rank_at(aged_priority(waiting.head, self.now_ms))

    def _key(self, waiting: Waiting, rank: int) -> int:
        """The key of a line at a rank."""
        return rank << RANK_BIT | waiting.head.submitted_seq << ARRIVAL_BIT | waiting.key & PLACE

    def next(self) -> Waiting | None:
        """The line whose head goes now; None when there is nobody left."""
        while self.heap:
            _, tenant_share, project_share, _, group = self.heap[0]
            waiting = group.first
            if waiting.by_quota and not _has_quota(waiting):
                waiting.by_quota, waiting.borrows = False, True
                waiting.key = waiting.rank_at(waiting.line.priority) << RANK_BIT | waiting.key & PLACE
                heapreplace(group.heap, self._key(waiting, self._aged(waiting)))
            elif tenant_share == group.tenant.share and project_share == group.project.share:
                return waiting
            first = group.heap[0]
            then = first >> RANK_BIT, group.tenant.share, group.project.share, first, group
            heapreplace(self.heap, then)
        return None

    def done(self, then: Workload | None) -> None:
        """The head that :meth:`next` gave had its turn; ``then`` is the next of its line, None when nobody else has a chance."""
        group = self.heap[0][4]
        keys = group.heap
        if then is None:
            heappop(keys)
            if not keys:
                heappop(self.heap)
                return
        else:
            waiting = group.first
            waiting.head = then
            key = waiting.key | then.submitted_seq << ARRIVAL_BIT
            heapreplace(keys, self._key(waiting, self._aged(waiting)) if waiting.ages else key)
        first = keys[0]
        heapreplace(self.heap, (first >> RANK_BIT, group.tenant.share, group.project.share, first, group))


def _has_quota(waiting: Waiting) -> bool:
    """Whether the head of a line stays within what is guaranteed."""
    return _is_within(waiting.tenant, waiting.project, waiting.claim_milli)
