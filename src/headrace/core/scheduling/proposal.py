"""What the planner proposes: data that the writer re-validates against the current world."""

from dataclasses import dataclass

from headrace.core.ids import PlacementId, SiteId, WindowId, WorkloadId
from headrace.core.workload import RankPlace


# Nobody changes one; but to make a frozen one takes four times as long, and a plan may hold a hundred thousand.
@dataclass(slots=True, unsafe_hash=True)
class ProposedPlacement:
    """A workload on nodes of one site: one rank on each of as many different nodes as it asks for.

    ``option`` says which of what would do it gets: an index into :func:`~headrace.core.workload.options`.
    """

    workload: WorkloadId
    site: SiteId
    ranks: tuple[RankPlace, ...]
    option: int = 0


@dataclass(frozen=True, slots=True)
class Eviction:
    """A placement to be ended so that ``waiting`` can be placed later; or, without one, because a window begins or is over."""

    placement: PlacementId
    waiting: WorkloadId | None
    window: WindowId | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Placements and evictions, made from version ``base_version`` of the world (the number of events applied).

    ``again_ms``: when what jobs that share accelerators in time have left to do may next change it by itself (None: never).
    """

    base_version: int
    placements: tuple[ProposedPlacement, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    again_ms: int | None = None
