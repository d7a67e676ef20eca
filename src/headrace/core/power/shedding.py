"""How a workload makes room when the grid says so, and what it draws when it has: what can't be shed is the floor."""

from enum import StrEnum

from headrace.core.observation import Capabilities
from headrace.core.workload import Flex, WorkloadSpec, WorkloadType


class Rung(StrEnum):
    """A rung of the ladder, in the order in which they are used. ``KEEP``: none of them; it is never shed."""

    MINERS = "miners"
    CAP = "cap"
    PAUSE = "pause"
    REQUEUE = "requeue"
    PREEMPT = "preempt"
    OFF = "off"
    KEEP = "keep"


ORDER = tuple(Rung)


class ShedClass(StrEnum):
    """What a workload lets be done to it, whatever engine it runs on."""

    FILLER = "filler"
    PREEMPTIBLE = "preemptible"
    SAVED = "saved"
    PAUSABLE = "pausable"
    FIRM = "firm"


def shed_class(spec: WorkloadSpec) -> ShedClass:
    """What a workload lets be done to it. ``SAVED``: it may be paused, and saves its state, so that it may also start again."""
    if spec.type is WorkloadType.FILLER:
        return ShedClass.FILLER
    if spec.flex is Flex.PREEMPTIBLE:
        return ShedClass.PREEMPTIBLE
    if spec.flex is Flex.PAUSABLE and not spec.lease:
        return ShedClass.SAVED if spec.checkpoint_ms else ShedClass.PAUSABLE
    return ShedClass.FIRM


def rung_of(klass: ShedClass, engine: Capabilities | None) -> Rung:
    """The rung that sheds a workload of a class on an engine. A pause counts only where the engine says that it sheds."""
    match klass:
        case ShedClass.FILLER:
            return Rung.MINERS
        case ShedClass.PREEMPTIBLE:
            return Rung.PREEMPT
        case ShedClass.FIRM:
            return Rung.KEEP
        case _:
            if engine is not None and engine.pause and engine.pause_sheds:
                return Rung.PAUSE
            return Rung.REQUEUE if klass is ShedClass.SAVED else Rung.KEEP
