"""Workloads that share accelerators in time with their equals: which they are, how long they ran, when one may go for another.

They are jobs that may be interrupted and come back from what they saved, and that ask for nothing but whole accelerators. Equals
are of one tenant, project and priority: between them what remains to be done decides who runs, so that nothing here
takes anything from anybody else.
"""

from typing import NamedTuple

from headrace.core.ids import ContractId, ProjectId, SiteId, TenantId
from headrace.core.units import MS_PER_MINUTE
from headrace.core.workload import (
    WHOLE_MILLI,
    Flex,
    Placement,
    PolicyRef,
    State,
    Workload,
    WorkloadSpec,
    WorkloadType,
)

PROTECTED_MS = MS_PER_MINUTE
"""So long at most a workload runs before it may go for an equal."""


class Group(NamedTuple):
    """What workloads that share accelerators in time have in common: equals that may run on the same nodes."""

    tenant: TenantId
    project: ProjectId
    priority: int
    model: str
    accelerator_memory_mb: int
    policy: PolicyRef
    site: SiteId | None
    contract: ContractId | None


def shares_time(spec: WorkloadSpec) -> bool:
    """Whether a workload shares accelerators in time with its equals."""
    # The first of these says no of nearly all, and this is asked of every workload that comes.
    if spec.flex is not Flex.PREEMPTIBLE or not spec.checkpoint_ms or spec.type is not WorkloadType.JOB:
        return False
    need = spec.resources
    return (
        need.accelerators > 0
        and need.share_milli == WHOLE_MILLI
        and spec.nodes > 0
        and spec.nodes_max in (0, spec.nodes)
        and spec.topology is None
        and not spec.alternatives
        and spec.reservation is None
    )


def group_of(workload: Workload) -> Group:
    """The group of a workload that shares."""
    spec = workload.spec
    need = spec.resources
    return Group(
        workload.tenant,
        spec.project,
        spec.priority,
        need.accelerator,
        need.accelerator_memory_mb,
        spec.policy,
        spec.site,
        spec.contract,
    )


def kind_of(workload: Workload) -> str:
    """Who its siblings are, from whom is learned how long it runs: of one project and one shape."""
    spec = workload.spec
    need = spec.resources
    return f"{workload.tenant}/{spec.project}/{need.accelerator}/{need.accelerators}x{spec.nodes}"


def attained_ms(workload: Workload, placement: Placement | None, now_ms: int) -> int:
    """How long a workload has run by now, in all its attempts, as far as that is known; pauses don't count."""
    if placement is None or not placement.started_ms:
        return workload.attained_ms
    found = workload.attained_ms + min((running for running, _ in placement.metered), default=0)
    if workload.state is State.RUNNING or placement.stop_reason is not None:
        found += max(0, now_ms - max(placement.metered_ms, placement.started_ms))
    return found


def protected_until_ms(placement: Placement, spec: WorkloadSpec) -> int | None:
    """Until when a workload that shares stays whatever its equals have left to do; None while its start is not confirmed.

    A minute; less for who comes back and saves its state again in less, since it loses nothing by going then.
    """
    if not placement.started_ms:
        return None
    return placement.started_ms + min(PROTECTED_MS, spec.restart_ms + spec.checkpoint_ms)


def are_equals(one: Workload, other: Workload) -> bool:
    """Whether neither ranks above the other by what was given to them: one tenant, project and priority; fillers never."""
    return (
        one.tenant == other.tenant
        and one.spec.project == other.spec.project
        and one.spec.priority == other.spec.priority
        and WorkloadType.FILLER not in (one.spec.type, other.spec.type)
    )


def ranks_below(waiting: Workload, victim: Workload) -> bool:
    """Whether what waits is sure not to rank above what runs, which then does not go for it.

    Between tenants that is for their shares to say, unless a filler waits. Of equals see :func:`may_go_for_equal`.
    """
    by_filler, of_filler = (one.spec.type is WorkloadType.FILLER for one in (waiting, victim))
    if waiting.spec.reservation is not None or (of_filler and not by_filler):
        return False
    if of_filler:
        return waiting.spec.priority < victim.spec.priority
    return (by_filler or waiting.tenant == victim.tenant) and waiting.spec.priority <= victim.spec.priority


def outlives_by_pause(workload: Workload, placement: Placement, now_ms: int) -> bool:
    """Whether one that is paused would have ended by its limit and its grace, had it not been: it may be told to go for others.

    Who let it start on nodes that they wait for relied on its limit.
    """
    spec = workload.spec
    if workload.state is not State.PAUSED or not spec.max_duration_ms:
        return False
    began_ms = placement.started_ms or placement.made_ms
    return began_ms + spec.max_duration_ms + max(spec.grace_ms, MS_PER_MINUTE) <= now_ms


def may_go_for_equal(waiting: Workload, victim: Workload, placement: Placement, now_ms: int) -> bool:
    """Whether one that runs may be told to go for one that waits and is its equal."""
    if not (shares_time(waiting.spec) and shares_time(victim.spec)):
        return False
    until_ms = protected_until_ms(placement, victim.spec)
    return until_ms is not None and now_ms >= until_ms
