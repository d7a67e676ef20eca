"""For :mod:`~headrace.core.scheduling.check`: who may be told to go for whom, by the words of the promise.

A preemptible job that saves its state may be told to go for another such job of the same tenant, project and priority, once it
has run for a minute, or for as long as it takes to come back and to save again if that is less; never otherwise between
equals. Nothing here is shared with :mod:`headrace.core.scheduling.sharing`, which the planner reads.
"""

from headrace.core.workload import Flex, Placement, Workload, WorkloadSpec, WorkloadType

_MINUTE_MS = 60_000


def may_be_evicted(spec: WorkloadSpec) -> bool:
    """Whether it may be told to go for another at all."""
    return spec.flex is Flex.PREEMPTIBLE or spec.type is WorkloadType.FILLER


def wrong_between_equals(victim: Workload, waiting: Workload, placement: Placement, now_ms: int) -> str:
    """Why one may not be told to go for its equal; "" when it may, or when they are no equals."""
    ranks = [(one.tenant, one.spec.project, one.spec.priority) for one in (victim, waiting)]
    if (
        ranks[0] != ranks[1]
        or victim.spec.type is WorkloadType.FILLER
        or waiting.spec.reservation is not None
    ):
        return ""
    for one in (victim, waiting):
        spec = one.spec
        if spec.type is not WorkloadType.JOB or spec.flex is not Flex.PREEMPTIBLE or not spec.checkpoint_ms:
            return f"{victim.id} for {waiting.id}, its equal, and {one.id} is no job that saves its state"
    least_ms = min(_MINUTE_MS, victim.spec.restart_ms + victim.spec.checkpoint_ms)
    ran_ms = now_ms - placement.started_ms if placement.started_ms else 0
    if ran_ms < least_ms:
        return f"{victim.id} for {waiting.id}, its equal, after {ran_ms} ms: it has {least_ms} ms for itself"
    return ""
