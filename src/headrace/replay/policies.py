"""The policies that a replay can run, as values: the product's default, and the classic ones for comparison.

Conservative and EASY backfilling: Mu'alem and Feitelson, Utilization, Predictability, Workloads, and User Runtime Estimates in
Scheduling the IBM SP2 with Backfilling, IEEE TPDS 2001. SRTF and SRSF are preemptive, and know how long jobs run.
"""

from dataclasses import dataclass
from typing import Literal

from headrace.core.scheduling.plan import DEFAULT_LIMITS, PlanLimits, plan
from headrace.core.scheduling.proposal import Plan
from headrace.core.workload import Placement
from headrace.replay.cluster import ReplayCluster
from headrace.replay.configuration import default_configuration

MOST_RESERVED = 100
"""How many jobs conservative backfilling keeps a place for: each costs a search through all that is known to end."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How jobs are put in order and placed.

    ``limits``: of the production planner; None for a classic policy. ``order``: by arrival, or by what remains, as time or as
    time x accelerators; then who runs is evicted for who has less left. ``backfill``: whether others pass one that doesn't
    fit: nobody; anybody; or who delays none of the first ``reserved`` of those who wait. ``nodes``: those with the least
    free, or the first.
    """

    name: str
    what: str
    limits: PlanLimits | None = None
    order: Literal["arrival", "remaining-time", "remaining-service"] = "arrival"
    backfill: bool = True
    reserved: int = 0
    nodes: Literal["best-fit", "first-fit"] = "best-fit"

    @property
    def needs_durations(self) -> bool:
        """Whether it can't do without knowing how long jobs run."""
        return self.limits is None and (self.reserved > 0 or self.order != "arrival")

    def configuration(self) -> dict[str, object]:
        """All that decides, for printing beside a result."""
        if self.limits is not None:
            return default_configuration()
        return {
            "planner": "classic",
            "order": self.order,
            "backfill": self.backfill,
            "reserved": self.reserved,
            "nodes": self.nodes,
        }


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("default", "what the product does", limits=DEFAULT_LIMITS),
        Policy("fifo", "strictly by arrival: nobody passes the first that does not fit", backfill=False),
        Policy("fifo-backfill", "by arrival, and whoever fits passes; large jobs may starve"),
        Policy("best-fit", "the same: nodes with the least free first"),
        Policy("first-fit", "the same, on the first nodes that do", nodes="first-fit"),
        Policy("easy", "EASY: who passes must not delay the first of those who wait", reserved=1),
        Policy("conservative", "who passes must not delay anybody before it", reserved=MOST_RESERVED),
        Policy("srtf", "shortest remaining time first, preemptive", order="remaining-time"),
        Policy("srsf", "shortest remaining service first, preemptive", order="remaining-service"),
    )
}


class Production:
    """The product's own planner."""

    def __init__(self, limits: PlanLimits = DEFAULT_LIMITS) -> None:
        self.limits = limits

    def plan(self, cluster: ReplayCluster, now_ms: int) -> Plan:
        """What :func:`~headrace.core.scheduling.plan.plan` says."""
        return plan(cluster.snapshot(now_ms), self.limits)

    def started(self, placement: Placement, now_ms: int) -> None:
        """It sees that for itself."""

    def stopped(self, placement: Placement, now_ms: int) -> None:
        """It sees that for itself."""
