"""The queue: workloads that wait, by arrival and in lines of those that are alike."""

from collections.abc import Iterable, Iterator, Mapping, ValuesView
from typing import NamedTuple

from headrace.core.ids import ContractId, ProjectId, SiteId, TenantId, WindowId, WorkloadId
from headrace.core.power.shedding import ShedClass, shed_class
from headrace.core.scheduling.sharing import shares_time
from headrace.core.workload import Alternative, Topology, Workload, WorkloadType, mines_alone


class Line(NamedTuple):
    """What workloads of one line have in common: rank but for their arrival, and all that decides where they fit."""

    priority: int
    project: ProjectId
    type: WorkloadType
    tenant: TenantId
    nodes: int
    accelerator: str
    accelerators: int
    cpu_milli: int
    memory_mb: int
    share_milli: int
    accelerator_memory_mb: int
    alternatives: tuple[Alternative, ...]
    nodes_max: int
    topology: Topology | None
    profile: str
    countries: tuple[str, ...]
    data: tuple[str, ...]
    site: SiteId | None
    contract: ContractId | None
    reservation: WindowId | None
    shares_time: bool
    lease: str
    sheds: ShedClass
    mines_alone: bool

    @property
    def is_filler(self) -> bool:
        """Whether they are fillers."""
        return self.type is WorkloadType.FILLER


class Kind:
    """All that decides where workloads may run, but not when: a line without its priority. One object for all that are alike.

    So that looking something up by it takes no walk over twenty fields.
    """

    __slots__ = ()


class Members(dict[WorkloadId, Workload]):
    """The workloads of a line in order of arrival, and of what kind they are.

    ``is_usual``: nothing is reserved for them, and they are no fillers and share no time. ``project``: whose they are.
    """

    __slots__ = ("is_usual", "kind", "project")

    def __init__(self, line: Line, kind: Kind) -> None:
        super().__init__()
        self.kind, self.project = kind, (line.tenant, line.project)
        sure = line.contract is not None or line.reservation is not None
        self.is_usual = not (sure or line.shares_time or line.is_filler)


def _arrival(member: tuple[WorkloadId, Workload]) -> int:
    return member[1].submitted_seq


_MOST_NOTED = 20_000
_MOST_KINDS = 20_000
Lines = Mapping[Line, Members]


def line_of(workload: Workload) -> Line:
    """The line that a workload stands in."""
    spec = workload.spec
    need, policy = spec.resources, spec.policy
    # Not by its own constructor, which costs as much again: this is made for each of thousands that come.
    fields = (
        spec.priority,
        spec.project,
        spec.type,
        workload.tenant,
        spec.nodes,
        need.accelerator,
        need.accelerators,
        need.cpu_milli,
        need.memory_mb,
        need.share_milli,
        need.accelerator_memory_mb,
        spec.alternatives,
        spec.nodes_max,
        spec.topology,
        policy.profile,
        policy.countries,
        policy.data,
        spec.site,
        spec.contract,
        spec.reservation,
        shares_time(spec),
        spec.lease,
        shed_class(spec),
        mines_alone(spec),
    )
    return tuple.__new__(Line, fields)


class Noted:
    """Workloads in the order in which they were noted, the last of them for certain."""

    def __init__(self) -> None:
        self._all: list[Workload] = []
        self._dropped = 0

    def add(self, workload: Workload) -> None:
        """Note one."""
        self._all.append(workload)
        if len(self._all) > _MOST_NOTED:
            cut = len(self._all) // 2
            self._dropped += cut
            del self._all[:cut]

    def since(self, moment: int) -> tuple[int, list[Workload] | None]:
        """The moment that is now, and who was noted since one that this gave (0: the beginning); None: too long ago to tell."""
        now = self._dropped + len(self._all)
        return now, None if moment < self._dropped else self._all[moment - self._dropped :]


class Queue(Mapping[WorkloadId, Workload]):
    """Queued workloads in the order in which they came in.

    ``lines`` are kept from the first time that somebody asks for them. ``noted``: whoever shares accelerators in time and came or
    went since then.
    """

    def __init__(self, workloads: Iterable[Workload] = ()) -> None:
        self._all: dict[WorkloadId, Workload] = {workload.id: workload for workload in workloads}
        self._members: dict[WorkloadId, Members] = {}
        self._lines: dict[Line, Members] | None = None
        self._kinds: dict[tuple[object, ...], Kind] = {}
        self.noted = Noted()

    def add(self, workload: Workload) -> None:
        """Let it wait."""
        self._all[workload.id] = workload
        if self._lines is not None:
            self._sort(self._lines, workload)

    def remove(self, ident: WorkloadId) -> None:
        """It waits no longer; nothing happens if it did not."""
        self._all.pop(ident, None)
        members = self._members.pop(ident, None)
        if members is not None and self._lines is not None:
            workload = members.pop(ident)
            if shares_time(workload.spec):
                self.noted.add(workload)
            if not members:
                del self._lines[line_of(workload)]

    @property
    def lines(self) -> Lines:
        """The same workloads, by what they have in common, each line in order of arrival."""
        if self._lines is None:
            self._lines = {}
            for workload in self._all.values():
                self._sort(self._lines, workload)
        return self._lines

    def kind(self, line: Line) -> Kind:
        """Of what kind those are that stand in a line, here or elsewhere."""
        key = line[1:]
        found = self._kinds.get(key)
        if found is None:
            if len(self._kinds) >= _MOST_KINDS:
                # Those that wait keep theirs: what was remembered of it is then found out once more for others.
                self._kinds.clear()
            found = self._kinds[key] = Kind()
        return found

    def _sort(self, lines: dict[Line, Members], workload: Workload) -> None:
        ident, line = workload.id, line_of(workload)
        members = lines.get(line)
        if members is None:
            members = lines[line] = Members(line, self.kind(line))
            members[ident] = workload
        else:
            is_late = next(reversed(members.values())).submitted_seq > workload.submitted_seq
            members[ident] = workload
            if is_late:
                # One that was requeued keeps the place that it had.
                in_order = sorted(members.items(), key=_arrival)
                members.clear()
                members.update(in_order)
        self._members[ident] = members
        if line.shares_time:
            self.noted.add(workload)

    def __getitem__(self, ident: WorkloadId) -> Workload:
        return self._all[ident]

    def __iter__(self) -> Iterator[WorkloadId]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def values(self) -> ValuesView[Workload]:
        """The workloads."""
        return self._all.values()
