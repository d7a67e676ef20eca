"""Which placements count less, because the grid asked for it: ordered paused, seen paused, where a pause sheds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace.core.events import (
    Committed,
    CurtailmentLifted,
    CurtailmentOrdered,
    EngineDeclared,
    PauseObserved,
    PlacementEnded,
    PlacementMade,
)
from headrace.core.workload import WHOLE_MILLI, RankPlace
from headrace.sim.checkers.papers import Ground, Papers, draw_w


@dataclass(slots=True)
class _Pause:
    """What is known of a placement's pause, by whomever it was asked for."""

    site: str
    ordered: bool = False
    seen: bool = False


class Quiet:
    """Told of pauses by the checker that keeps it; a placement ``is_quiet`` while its accelerators count as idle."""

    def __init__(self, papers: Papers) -> None:
        self.papers = papers
        self.engines: dict[str, bool] = {}
        self._pauses: dict[str, _Pause] = {}

    def made(self, event: PlacementMade) -> None:
        """A placement is there, and counts in full."""
        self._pauses[event.placement] = _Pause(event.site)

    def ended(self, event: PlacementEnded) -> None:
        """A placement is gone."""
        self._pauses.pop(event.placement, None)

    def ordered(self, event: CurtailmentOrdered | CurtailmentLifted) -> None:
        """It is to be paused for the grid, or no longer."""
        pause = self._pauses.get(event.placement)
        if pause is not None:
            pause.ordered = isinstance(event, CurtailmentOrdered)

    def seen(self, event: PauseObserved) -> None:
        """It is paused, or runs again."""
        pause = self._pauses.get(event.placement)
        if pause is not None:
            pause.seen = event.paused

    def declared(self, event: EngineDeclared) -> None:
        """An engine says whether what it pauses sheds."""
        self.engines[event.engine] = event.capabilities.pause_sheds

    def sheds(self, site: str) -> bool:
        """Whether a pause counts at a site."""
        found = self.papers.sites.get(site)
        return found is not None and self.engines.get(found.engine, False)

    def is_ordered(self, placement: str) -> bool:
        """Whether the grid holds it paused, or means to."""
        pause = self._pauses.get(placement)
        return pause is not None and pause.ordered

    def is_seen(self, placement: str) -> bool:
        """Whether it was last seen paused."""
        pause = self._pauses.get(placement)
        return pause is not None and pause.seen

    def is_quiet(self, placement: str) -> bool:
        """Whether its accelerators count as idle."""
        pause = self._pauses.get(placement)
        return pause is not None and pause.ordered and pause.seen and self.sheds(pause.site)

    def at(self, committed: Committed) -> Iterable[str]:
        """Placements that an event may make quiet, or no longer."""
        event = committed.event
        match event:
            case CurtailmentOrdered() | CurtailmentLifted() | PauseObserved():
                return (event.placement,)
            case EngineDeclared():
                return [name for name, pause in self._pauses.items() if pause.ordered]
            case _:
                return ()


def loud_mask(rank: RankPlace, *, is_quiet: bool) -> int:
    """The accelerators of a rank that count as taken. Of a part of one nobody knows what its other parts draw: it counts."""
    return 0 if is_quiet and rank.share_milli == WHOLE_MILLI else rank.mask


NOTHING: Mapping[str, int] = {}


def loads_w(
    ground: Ground,
    site: str,
    today: str,
    ranks: Iterable[tuple[RankPlace, bool]],
    foreign: Iterable[str],
    most_w: Mapping[str, int] = NOTHING,
    excess_w: Mapping[str, int] = NOTHING,
) -> dict[str, int]:
    """What can be drawn below each element of a site, looked at node by node: watts of IT load.

    Each rank with whether it is quiet. On nodes in ``foreign`` are strangers: those count at nameplate. ``most_w``: no more at
    these nodes, because of caps. ``excess_w``: what meters see beyond that, by element; it flows through all above it.
    """
    taken: dict[str, int] = {}
    count: dict[str, int] = {}
    for rank, is_quiet in ranks:
        taken[rank.node] = taken.get(rank.node, 0) | loud_mask(rank, is_quiet=is_quiet)
        count[rank.node] = count.get(rank.node, 0) + 1
    strange, loads = set(foreign), dict[str, int]()
    for spot in ground.by_site.get(site, ()):
        node = spot.node
        if node in strange:
            drawn_w = spot.hardware.nameplate_w
        elif node in count:
            drawn_w = draw_w(spot.hardware, taken[node].bit_count(), count[node])
        else:
            drawn_w = spot.hardware.idle_w if spot.from_day else 0
        if node in most_w:
            drawn_w = min(drawn_w, most_w[node])
        for element in spot.path:
            loads[element] = loads.get(element, 0) + drawn_w
    for element, watts in excess_w.items():
        for above in ground.above.get(element, ()):
            if above in loads:
                loads[above] += watts
    return loads
