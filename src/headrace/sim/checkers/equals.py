"""Promise 5, between equals: a job goes for another of its own tenant, project and priority only by the rule for that.

Both are preemptible jobs that save their state, and the one that goes has run for a minute, or for as long as it takes to come
back and to save again if that is less.
"""

from collections.abc import Iterable

from headrace.core.events import (
    Committed,
    EvictionRequested,
    PlacementMade,
    PlacementStarted,
    WorkloadSubmitted,
)
from headrace.core.ids import PlacementId, TenantId, WorkloadId
from headrace.core.units import MS_PER_MINUTE
from headrace.core.workload import EndReason, Flex, WorkloadSpec, WorkloadType
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Papers

_FOR = "made room for "


class EqualsChecker(Checker):
    """Knows for whom somebody went as its own tenant is told; of others' it can't be an equal. ``swaps`` counts them."""

    promise = 5

    def __init__(self, papers: Papers | None = None) -> None:
        self.specs: dict[WorkloadId, tuple[TenantId, WorkloadSpec]] = {}
        self.of: dict[PlacementId, WorkloadId] = {}
        self.started_ms: dict[PlacementId, int] = {}
        self.swaps = 0
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """What says who is whose equal, and who goes."""
        yield WorkloadSubmitted, self._submitted
        yield PlacementMade, self._made
        yield PlacementStarted, self._started
        yield EvictionRequested, self._goes

    def _submitted(self, _: Committed, event: WorkloadSubmitted) -> None:
        self.specs[event.workload] = event.tenant, event.spec

    def _made(self, _: Committed, event: PlacementMade) -> None:
        self.of[event.placement] = event.workload

    def _started(self, committed: Committed, event: PlacementStarted) -> None:
        self.started_ms[event.placement] = committed.at_ms

    def _goes(self, committed: Committed, event: EvictionRequested) -> None:
        waiting = self.specs.get(WorkloadId(event.detail.removeprefix(_FOR)))
        victim = self.specs.get(self.of.get(event.placement, WorkloadId("")))
        if event.reason is not EndReason.PREEMPTED or waiting is None or victim is None:
            return
        ranks = [(tenant, spec.project, spec.priority) for tenant, spec in (waiting, victim)]
        spec = victim[1]
        if ranks[0] != ranks[1] or spec.type is WorkloadType.FILLER or waiting[1].reservation is not None:
            return
        self.swaps += 1
        for _, one in (waiting, victim):
            if one.type is not WorkloadType.JOB or one.flex is not Flex.PREEMPTIBLE or not one.checkpoint_ms:
                self.found(
                    "equals", event.placement, f"{event.detail}, its equal, and one of them saves nothing"
                )
                return
        started_ms = self.started_ms.get(event.placement)
        least_ms = min(MS_PER_MINUTE, spec.restart_ms + spec.checkpoint_ms)
        if started_ms is None or committed.at_ms - started_ms < least_ms:
            self.found(
                "equals", event.placement, f"{event.detail}, its equal, before it had its {least_ms} ms"
            )
