"""The queue: workloads that wait, by arrival and in lines of those that are alike."""

from collections.abc import Iterable, Iterator, Mapping, ValuesView
from typing import NamedTuple

from headrace.core.ids import ContractId, SiteId, TenantId, WorkloadId
from headrace.core.workload import Workload, WorkloadType


class Line(NamedTuple):
    """What workloads of one line have in common: rank but for their arrival, and all that decides where they fit."""

    priority: int
    type: WorkloadType
    tenant: TenantId
    nodes: int
    accelerator: str
    accelerators: int
    cpu_milli: int
    memory_mb: int
    profile: str
    countries: tuple[str, ...]
    site: SiteId | None
    contract: ContractId | None


Lines = Mapping[Line, Mapping[WorkloadId, Workload]]


def line_of(workload: Workload) -> Line:
    """The line that a workload stands in."""
    spec = workload.spec
    need, policy = spec.resources, spec.policy
    return Line(
        spec.priority,
        spec.type,
        workload.tenant,
        spec.nodes,
        need.accelerator,
        need.accelerators,
        need.cpu_milli,
        need.memory_mb,
        policy.profile,
        policy.countries,
        spec.site,
        spec.contract,
    )


class Queue(Mapping[WorkloadId, Workload]):
    """Queued workloads in the order in which they came in, and ``lines``: the same, line by line."""

    def __init__(self, workloads: Iterable[Workload] = ()) -> None:
        self._all: dict[WorkloadId, Workload] = {}
        self.lines: dict[Line, dict[WorkloadId, Workload]] = {}
        for workload in workloads:
            self.add(workload)

    def add(self, workload: Workload) -> None:
        """Let it wait."""
        self._all[workload.id] = workload
        line = line_of(workload)
        members = self.lines.get(line)
        if members is None:
            members = self.lines[line] = {}
        members[workload.id] = workload

    def remove(self, ident: WorkloadId) -> None:
        """It waits no longer; nothing happens if it did not."""
        workload = self._all.pop(ident, None)
        if workload is None:
            return
        line = line_of(workload)
        members = self.lines[line]
        del members[ident]
        if not members:
            del self.lines[line]

    def __getitem__(self, ident: WorkloadId) -> Workload:
        return self._all[ident]

    def __iter__(self) -> Iterator[WorkloadId]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def values(self) -> ValuesView[Workload]:
        """The workloads."""
        return self._all.values()
