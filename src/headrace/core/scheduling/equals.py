"""For :mod:`~headrace.core.scheduling.check`: who may be told to go for whom, by the words of the promise.

Fillers are there to be interrupted, and nobody else goes for a filler but for its higher priority; nor within a tenant for
anybody else.

A preemptible job that saves its state may be told to go for another such job of the same tenant, project and priority, once it
has run for a minute, or for as long as it takes to come back and to save again if that is less; never otherwise between
equals. Nothing here is shared with :mod:`headrace.core.scheduling.sharing`, which the planner reads.
"""

from headrace.core.workload import Flex, Placement, State, Workload, WorkloadSpec, WorkloadType

_MINUTE_MS = 60_000


def may_be_evicted(spec: WorkloadSpec) -> bool:
    """Whether it may be told to go for another at all."""
    return spec.flex is Flex.PREEMPTIBLE or spec.type is WorkloadType.FILLER


def is_paused_too_long(victim: Workload, placement: Placement, now_ms: int) -> bool:
    """Whether a pause keeps it on its nodes after its limit, and the grace that it has then, were over."""
    limit_ms = victim.spec.max_duration_ms
    if victim.state is not State.PAUSED or limit_ms == 0:
        return False
    since_ms = placement.started_ms if placement.started_ms else placement.made_ms
    return now_ms - since_ms >= limit_ms + max(victim.spec.grace_ms, _MINUTE_MS)


def wrong_upwards(victim: Workload, waiting: Workload) -> str:
    """Why one may not be told to go for another, which does not rank above it; "" when it may, or when they are equals.

    What runs in a reservation goes first, and between tenants their shares decide.
    """
    by_filler, of_filler = (one.spec.type is WorkloadType.FILLER for one in (waiting, victim))
    if waiting.spec.reservation is not None or (of_filler and not by_filler):
        return ""
    if _rank(waiting) == _rank(victim):
        return ""
    more = waiting.spec.priority - victim.spec.priority
    if of_filler and more < 0:
        return f"{victim.id} for {waiting.id}, a filler of lower priority"
    if not of_filler and more <= 0 and (by_filler or waiting.tenant == victim.tenant):
        return f"{victim.id} for {waiting.id}, which has no higher priority"
    return ""


def wrong_between_equals(victim: Workload, waiting: Workload, placement: Placement, now_ms: int) -> str:
    """Why one may not be told to go for its equal; "" when it may, or when they are no equals."""
    if (
        _rank(victim) != _rank(waiting)
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


def _rank(workload: Workload) -> tuple[str, str, int]:
    return workload.tenant, workload.spec.project, workload.spec.priority
