"""Promise 5, what was asked for is what is given: ready nodes of the right model, with room for all that is on them."""

from collections.abc import Iterable, Iterator

from headrace.core.events import (
    Committed,
    NodeStateChanged,
    PlacementEnded,
    PlacementMade,
    WorkloadRequeued,
    WorkloadSubmitted,
)
from headrace.core.workload import RankPlace, WorkloadSpec, WorkloadType
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Papers, Spot, iso_day
from headrace.sim.checkers.wishes import WHOLE, stand_wrongly, would_do


class CapacityChecker(Checker):
    """Holds each placement, when it is made, against its workload and against the nodes as they are just then.

    A plan that was right when it was made, and is adopted though the world has moved on, is found here.
    """

    promise = 5

    def __init__(self, papers: Papers | None = None) -> None:
        self.specs: dict[str, WorkloadSpec] = {}
        self.not_before_ms: dict[str, int] = {}
        self.closed: dict[str, str] = {}
        self.live: dict[str, tuple[str, tuple[RankPlace, ...]]] = {}
        self.on_node: dict[str, dict[str, RankPlace]] = {}
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Placements, and what opens or closes nodes."""
        return (
            (WorkloadSubmitted, self._submitted),
            (WorkloadRequeued, self._requeued),
            (NodeStateChanged, self._node),
            (PlacementMade, self._made),
            (PlacementEnded, self._ended),
        )

    def _submitted(self, _committed: Committed, event: WorkloadSubmitted) -> None:
        self.specs[event.workload] = event.spec

    def _requeued(self, _committed: Committed, event: WorkloadRequeued) -> None:
        self.not_before_ms[event.workload] = event.not_before_ms

    def _node(self, _committed: Committed, event: NodeStateChanged) -> None:
        if event.state == "ready":
            self.closed.pop(event.node, None)
        else:
            self.closed[event.node] = event.state

    def _made(self, committed: Committed, event: PlacementMade) -> None:
        spec = self.specs.get(event.workload)
        if spec is None or event.placement in self.live:
            return
        if self.not_before_ms.get(event.workload, 0) > committed.at_ms:
            self.found("backing-off", event.placement, "it was placed before its time")
        if spec.site is not None and spec.site != event.site:
            self.found("pinned", event.placement, f"placed at {event.site}, pinned to {spec.site}")
        if len({rank.node for rank in event.ranks}) != len(event.ranks):
            self.found("node-twice", event.placement, "two of its ranks share a node")
        today = iso_day(committed.at_ms)
        self.live[event.placement] = (event.workload, event.ranks)
        self._wished(event, spec)
        for rank in event.ranks:
            others = self.on_node.setdefault(rank.node, {})
            spot = self.papers.ground.spots.get(rank.node)
            if spot is not None:
                self._open(event.placement, spot, today)
                self._room(event.placement, spec, spot, rank, others)
            others[event.placement] = rank

    def _ended(self, _committed: Committed, event: PlacementEnded) -> None:
        for rank in self.live.pop(event.placement, ("", ()))[1]:
            self.on_node[rank.node].pop(event.placement, None)

    def _open(self, placement: str, spot: Spot, today: str) -> None:
        if spot.node in self.closed:
            self.found("node-closed", placement, f"placed on {spot.node}, which is {self.closed[spot.node]}")
        if not spot.is_commissioned(today):
            day = spot.from_day or "no known day"
            self.found("not-commissioned", placement, f"placed on {spot.node}, commissioned on {day}")

    def _wished(self, event: PlacementMade, spec: WorkloadSpec) -> None:
        """Every rank has what one and the same of the things that would do says; all stand as they must."""
        spots = self.papers.ground.spots
        ranks = {rank.node: (spots[rank.node], rank) for rank in event.ranks if rank.node in spots}
        lists = [
            [wrong for spot, rank in ranks.values() for wrong in _wrong(spec, model, count, spot, rank)]
            for model, count in would_do(spec)
        ]
        for rule, what in min(lists, key=len):
            self.found(rule, event.placement, what)
        what = stand_wrongly(spec, [spot for spot, _ in ranks.values()])
        if what:
            self.found("topology", event.placement, what)

    def _room(
        self, placement: str, spec: WorkloadSpec, spot: Spot, rank: RankPlace, others: dict[str, RankPlace]
    ) -> None:
        hardware = spot.hardware
        cpu_milli = rank.cpu_milli + sum(other.cpu_milli for other in others.values())
        memory_mb = rank.memory_mb + sum(other.memory_mb for other in others.values())
        if cpu_milli > hardware.cpu_milli or memory_mb > hardware.memory_mb:
            what = (
                f"{cpu_milli} milli-processors and {memory_mb} MB are taken on {spot.node}, more than it has"
            )
            self.found("no-room", placement, what)
        # A cluster leases its nodes whole: nobody is beside it, whoever came first.
        leased = spec.type is WorkloadType.CLUSTER or any(self._is_cluster(other) for other in others)
        if others and leased:
            self.found("not-whole", placement, f"{spot.node} is shared with a cluster")

    def _is_cluster(self, placement: str) -> bool:
        spec = self.specs.get(self.live.get(placement, ("", ()))[0])
        return spec is not None and spec.type is WorkloadType.CLUSTER


def _wrong(
    spec: WorkloadSpec, model: str, count: int, spot: Spot, rank: RankPlace
) -> Iterator[tuple[str, str]]:
    """What a rank has otherwise than one of the things that would do says: the rule, and how."""
    asked, hardware, whole = spec.resources, spot.hardware, spec.type is WorkloadType.CLUSTER
    if model not in ("", hardware.accelerator):
        yield "model", f"{spot.node} has {hardware.accelerator}, it asked for {model}"
    wanted = hardware.accelerators if whole else count
    if rank.mask.bit_count() != wanted or rank.mask >> hardware.accelerators or count > hardware.accelerators:
        what = f"bits {rank.mask:#x} of {hardware.accelerators} on {spot.node}, {max(wanted, count)} are due"
        yield "accelerators", what
    if rank.share_milli != (WHOLE if whole else asked.share_milli):
        what = f"{rank.share_milli} thousandths on {spot.node}, {asked.share_milli} were asked for"
        yield "part", what
    elif rank.share_milli < WHOLE and rank.mask.bit_count() != 1:
        yield "part", f"parts of bits {rank.mask:#x} on {spot.node}, not of one"
    if rank.mask and hardware.accelerator_memory_mb < asked.accelerator_memory_mb:
        yield "small", f"accelerators of {spot.node} have {hardware.accelerator_memory_mb} MB"
    got, due = (rank.cpu_milli, rank.memory_mb), (asked.cpu_milli, asked.memory_mb)
    if got[0] < due[0] or got[1] < due[1]:
        yield "short", f"less processor or memory on {spot.node} than it asked for"
    elif got != due and not whole:
        yield "more", f"more processor or memory on {spot.node} than it asked for"
