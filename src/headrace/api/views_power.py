"""What the API answers about the loss of an element of the power tree."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SurvivorView:
    """An element that stays live: watts of IT load now, and after the loss, against what it may carry."""

    id: str
    kind: str
    before_w: int
    after_w: int
    limit_w: int


@dataclass(frozen=True, slots=True)
class HitView:
    """A workload that would lose nodes: ``nodes`` of those that it has; ``contract`` pays for it."""

    workload: str
    name: str
    tenant: str
    contract: str
    flex: str
    nodes: int


@dataclass(frozen=True, slots=True)
class ImpactView:
    """What the loss of ``element`` does now. ``dark``: elements without power then; ``nodes``: the first of ``nodes_dark`` nodes.

    Workloads are the first of ``workloads_hit``; tenants, contracts and reservations (with nodes among the dark) are all.
    """

    element: str
    kind: str
    site: str
    dark: tuple[str, ...]
    nodes_dark: int
    nodes: tuple[str, ...]
    workloads_hit: int
    workloads: tuple[HitView, ...]
    tenants: tuple[str, ...]
    contracts: tuple[str, ...]
    reservations: tuple[str, ...]
    survivors: tuple[SurvivorView, ...]
