"""An engine in memory on a clock given to it: the same port as the real ones, with faults that a simulator switches on.

It stands for what lives outside the control plane: the object survives the control plane's restarts, and its own
account (:attr:`FakeEngine.ran`) is what an independent checker compares bills with. Nothing in it is random but what
``seed`` decides. A placement costs work only when something of it changes: reports are kept, and the tuple of them too.
"""

import heapq
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from headrace.core.errors import ProblemCode
from headrace.core.ids import Epoch, NodeId, PlacementId, TenantId, WorkloadId
from headrace.engines.machine import LOOPBACK
from headrace.engines.orders import Runtime, environment, why_never
from headrace.engines.problems import engine_error, refuse_superseded
from headrace.engines.script import Behave, Behaviour, behave_as_written
from headrace.ports import (
    Capabilities,
    Clock,
    EngineError,
    LogChunk,
    NodeReport,
    PlacementReport,
    RankReport,
    RankState,
    StartOrder,
)

_WORK, _RUNTIME = Path("/work"), Runtime("/usr/bin/python3", (), ())
_CANNOT_RUN = 126
_KILLED, _TERMINATED = 137, 143
_FINAL = (RankState.EXITED, RankState.LOST)


@dataclass(slots=True)
class Ran:
    """The engine's own account of one rank, kept after its placement is forgotten. ``ended_ms`` None while it runs.

    Times are the simulated true ones; ``running_ms`` and ``paused_ms`` what was or will be reported at its end.
    """

    placement: PlacementId
    workload: WorkloadId
    tenant: TenantId
    rank: int
    node: str
    epoch: Epoch
    started_ms: int
    ended_ms: int | None = None
    running_ms: int = 0
    paused_ms: int = 0
    estimated: bool = False


class _Rank:
    __slots__ = (
        "behaviour", "due_ms", "end_code", "end_ms", "node", "number", "paused_ms", "ran", "reason",
        "report", "running_ms", "since_ms", "state",
    )  # fmt: skip

    def __init__(self, number: int, node: str, behaviour: Behaviour, start_ms: int) -> None:
        self.number, self.node, self.behaviour = number, node, behaviour
        self.state = RankState.STARTING
        self.since_ms = start_ms
        self.running_ms = self.paused_ms = 0
        self.end_ms: int | None = None
        self.end_code = 0
        self.reason = ""
        self.due_ms = start_ms
        self.ran: Ran | None = None
        self.report = RankReport(number, RankState.STARTING)


class _Placement:
    __slots__ = ("endpoints", "epoch", "order", "pause_wanted", "ranks")

    def __init__(self, order: StartOrder, ranks: list[_Rank], endpoints: dict[str, str]) -> None:
        self.order, self.ranks, self.endpoints = order, ranks, endpoints
        self.epoch = order.epoch
        self.pause_wanted = False


@dataclass(slots=True)
class Faults:
    """What goes wrong; a simulator changes it as it likes. The engine's seed decides which starts, of a thousand.

    A start may lose its acknowledgement (it raises, but did start), be refused (it raises, and did not), or be
    delivered again, at once and ``duplicate_after_ms`` later. Observations may come ``observe_delay_ms`` late, and
    ranks start ``start_delay_ms`` late. ``rate_permille``: how fast the hosts' clocks run against true time.
    """

    lose_ack_permille: int = 0
    refuse_permille: int = 0
    duplicate_permille: int = 0
    duplicate_after_ms: int = 60_000
    lose_next_acks: int = 0
    duplicate_next_starts: int = 0
    refusing: bool = False
    observe_delay_ms: int = 0
    start_delay_ms: int = 0
    rate_permille: int = 1_000


class FakeEngine:
    """Runs nothing, and reports what would have run; implements :class:`headrace.ports.Engine`.

    ``clock`` is the true time of the simulation; it must not go back. ``behave`` decides what a rank does.
    ``heartbeat_ms``: how often the durations of a running rank are reported anew, and so what a lost rank is rounded
    down to. Each heartbeat costs work: a long simulation wants them far apart.
    """

    def __init__(
        self,
        clock: Clock,
        behave: Behave = behave_as_written,
        *,
        isolation: str = "none",
        heartbeat_ms: int = 5_000,
        seed: int = 0,
        faults: Faults | None = None,
    ) -> None:
        self._clock, self._behave = clock, behave
        self._isolation = isolation
        self._heartbeat_ms = heartbeat_ms
        self.faults = faults or Faults()
        self.starts: Counter[PlacementId] = Counter()
        """How often the processes of a placement were really started: never more than once."""
        self.duplicates = 0
        """Orders that came again and changed nothing."""
        self.ran: list[Ran] = []
        self._random = random.Random(seed)
        self._epoch = Epoch(0)
        self._placements: dict[PlacementId, _Placement] = {}
        self._ended: set[PlacementId] = set()
        self._logs: dict[tuple[PlacementId, int], bytes] = {}
        self._due: list[tuple[int, int, PlacementId, int]] = []
        self._again: list[tuple[int, int, StartOrder]] = []
        self._unseen: list[tuple[int, int, PlacementReport]] = []
        self._seen: dict[PlacementId, PlacementReport] = {}
        self._seen_all: tuple[PlacementReport, ...] | None = ()
        self._newest_visible_ms = 0
        self._counter = 0
        self._dead: dict[str, str] = {}
        self._foreign: dict[str, str] = {}
        self._health: tuple[NodeReport, ...] | None = ()
        self.lost: dict[PlacementId, None] = {}
        """Placements of which a rank was lost."""
        self.fell: dict[str, None] = {}
        """Nodes that were ever killed."""
        self.cordoned: dict[NodeId, str] = {}
        self._slow: dict[str, int] = {}
        self._port = 20_000

    @property
    def capabilities(self) -> Capabilities:
        """Pauses, has ports; isolation as it was told."""
        return Capabilities(isolation=self._isolation, pause=True, ports=True, pause_sheds=True)

    # --- the port -------------------------------------------------------------------------------------------------

    def fence(self, epoch: Epoch, owner: str = "") -> None:
        """Refuse orders below ``epoch``; whose, does not matter: nothing is kept."""
        self._refuse_superseded(epoch)
        self._epoch = epoch

    def start(self, order: StartOrder) -> None:
        """Start every rank, or nothing; as the faults allow."""
        self._advance()
        self._refuse_superseded(order.epoch)
        if self.faults.refusing or self._chance(self.faults.refuse_permille):
            raise _error(ProblemCode.ENGINE_UNAVAILABLE, f"placement {order.placement} can't be started now;")
        if order.placement in self._ended:
            raise _error(ProblemCode.CONFLICT, f"placement {order.placement} has ended;")
        self._deliver(order)
        if self.faults.duplicate_next_starts or self._chance(self.faults.duplicate_permille):
            self.faults.duplicate_next_starts = max(0, self.faults.duplicate_next_starts - 1)
            heapq.heappush(self._again, (self._now() + self.faults.duplicate_after_ms, self._count(), order))
            self._deliver(order)
        if self.faults.lose_next_acks or self._chance(self.faults.lose_ack_permille):
            self.faults.lose_next_acks = max(0, self.faults.lose_next_acks - 1)
            raise _error(
                ProblemCode.ENGINE_UNAVAILABLE, f"no answer to the start of placement {order.placement};"
            )

    def stop(self, placement: PlacementId, grace_ms: int) -> None:
        """SIGTERM now, SIGKILL after ``grace_ms``."""
        for held, rank in self._live(placement):
            self._end_rank_within(held, rank, grace_ms, self._now())

    def pause(self, placement: PlacementId) -> None:
        """Stop the clocks of the ranks' work."""
        for held, rank in self._live(placement):
            held.pause_wanted = True
            if rank.state == RankState.RUNNING and rank.end_ms is None:
                self._move(held, rank, RankState.PAUSED, self._now())

    def resume(self, placement: PlacementId) -> None:
        """Let paused ranks go on."""
        for held, rank in self._live(placement):
            held.pause_wanted = False
            if rank.state == RankState.PAUSED:
                self._move(held, rank, RankState.RUNNING, self._now())

    def observe(self) -> Sequence[PlacementReport]:
        """What could be seen ``observe_delay_ms`` ago; the same tuple while nothing changed."""
        self._advance()
        now = self._now()
        while self._unseen and self._unseen[0][0] <= now:
            report = heapq.heappop(self._unseen)[2]
            if report.placement in self._placements:
                self._show(report)
        if self._seen_all is None:
            self._seen_all = tuple(self._seen.values())
        return self._seen_all

    def forget(self, placement: PlacementId) -> None:
        """Drop an ended placement; EngineError while it runs."""
        self._advance()
        held = self._placements.get(placement)
        if held is None:
            return
        if any(rank.state not in _FINAL for rank in held.ranks):
            raise _error(ProblemCode.IN_USE, f"placement {placement} still runs;")
        del self._placements[placement]
        self._ended.add(placement)
        self._seen.pop(placement, None)
        self._seen_all = None

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        """The nodes that were killed, as down; those that were revived, as up; with who else was let onto them.

        The same tuple while nothing changed.
        """
        if self._health is None:
            told = dict.fromkeys([*self._dead, *self._foreign])
            self._health = tuple(
                NodeReport(
                    NodeId(node),
                    not self._dead.get(node),
                    self._dead.get(node, ""),
                    self._foreign.get(node, ""),
                )
                for node in told
            )
        return self._health

    def intrude(self, node: str, who: str) -> None:
        """Somebody (``""``: nobody any more) runs something on a node that was not ordered here."""
        self._foreign[node] = who
        self._health = None

    def host_of(self, node: NodeId) -> str:
        """The node itself."""
        return node

    def inventory(self) -> None:
        """Nothing: it plays whatever nodes the estate has."""
        return

    @property
    def trouble(self) -> str:
        """Nothing."""
        return ""

    def close(self) -> None:
        """Nothing."""

    def cordon(self, nodes: Mapping[NodeId, str]) -> None:
        """Remember which nodes are to get no work from others."""
        self.cordoned = dict(nodes)

    def logs(self, placement: PlacementId, rank: int, stream: str, offset: int, limit: int) -> LogChunk:
        """What the rank's behaviour wrote."""
        self._advance()
        if stream not in ("stdout", "stderr"):
            raise _error(ProblemCode.BAD_INPUT, f"no stream {stream!r};")
        text = self._logs.get((placement, rank), b"") if stream == "stdout" else b""
        held = self._placements.get(placement)
        ended = held is None or not 0 <= rank < len(held.ranks) or held.ranks[rank].state in _FINAL
        offset = max(0, offset)
        data = text[offset : offset + max(0, limit)]
        return LogChunk(data, offset, offset + len(data), ended and not data)

    def erase_logs(self, placement: PlacementId) -> None:
        """Delete a placement's logs."""
        for key in [key for key in self._logs if key[0] == placement]:
            del self._logs[key]

    def next_due_ms(self) -> int | None:
        """When something happens next by itself (a start, an end, a heartbeat, a late report); None: nothing will."""
        due = [queue[0][0] for queue in (self._due, self._again, self._unseen) if queue]
        return min(due, default=None)

    # --- faults ---------------------------------------------------------------------------------------------------

    def kill_node(self, node: str, reason: str = "no heartbeat") -> None:
        """The node is gone: its ranks are lost at their last heartbeat, and it is reported down."""
        self._advance()
        self._dead[node] = reason
        self.fell[node] = None
        self._health = None
        for placement, held in list(self._placements.items()):
            for rank in held.ranks:
                if rank.node == node:
                    self.lose_rank(placement, rank.number)

    def revive_node(self, node: str) -> None:
        """The node is back, with nothing running on it."""
        if node in self._dead:
            self._dead[node] = ""
            self._health = None

    def slow_node(self, node: str, delay_ms: int) -> None:
        """Ranks on the node start ``delay_ms`` late; 0: no longer."""
        self._slow[node] = delay_ms

    def lose_rank(self, placement: PlacementId, number: int) -> None:
        """A rank's runner vanishes: it is lost, at its last heartbeat."""
        self._advance()
        held = self._placements.get(placement)
        if held is None or held.ranks[number].state in _FINAL:
            return
        self.lost[placement] = None
        rank = held.ranks[number]
        # What ran after the last heartbeat is nowhere on record.
        before = rank.report
        self._account(rank, self._now())
        rank.running_ms, rank.paused_ms = before.running_ms, before.paused_ms
        rank.state = RankState.LOST
        self._close(rank, estimated=True)
        rank.report = replace(before, state=RankState.LOST, estimated=True, detail="its runner vanished")
        self._publish(held)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return self._clock.now_ms()

    def _count(self) -> int:
        self._counter += 1
        return self._counter

    def _chance(self, permille: int) -> bool:
        return permille > 0 and self._random.randrange(1000) < permille

    def _refuse_superseded(self, epoch: Epoch) -> None:
        refuse_superseded(epoch, self._epoch)

    def _live(self, placement: PlacementId) -> Iterator[tuple[_Placement, _Rank]]:
        """The ranks of a placement that have not ended; reports what became of it afterwards."""
        self._advance()
        held = self._placements.get(placement)
        if held is None:
            return
        for rank in held.ranks:
            if rank.state not in _FINAL:
                yield held, rank
        self._publish(held)

    def _deliver(self, order: StartOrder) -> None:
        """An order reaches the nodes; again, it changes nothing."""
        if order.placement in self._placements or order.placement in self._ended or order.epoch < self._epoch:
            self.duplicates += 1
            return
        now = self._now()
        failed = why_never(order, None)
        info: dict[str, Any] = {"master_port": self._take_port(), "mark": order.placement, "ports": []}
        info["ports"] = [
            {name: port or self._take_port() for name, port in sorted(order.ports.items())}
            for _ in order.ranks
        ]
        first = info["ports"][0] if order.ranks else {}
        endpoints = {} if failed else {name: f"{LOOPBACK}:{port}" for name, port in first.items()}
        held = _Placement(order, [], endpoints)
        self._placements[order.placement] = held
        for number, place in enumerate(order.ranks):
            behaviour = Behaviour()
            if not failed:
                behaviour = self._behave(
                    order, number, partial(environment, order, number, info, _WORK, _RUNTIME)
                )
            rank = _Rank(
                number,
                place.node,
                behaviour,
                now + self.faults.start_delay_ms + self._slow.get(place.node, 0),
            )
            held.ranks.append(rank)
            if failed:
                rank.state = RankState.EXITED
                rank.report = RankReport(
                    number, RankState.EXITED, exit_code=_CANNOT_RUN, reason="start_failed", detail=failed
                )
            else:
                self._schedule(held, rank, rank.due_ms)
        if not failed:
            self.starts[order.placement] += 1
        for number, place in enumerate(order.ranks):
            if self._dead.get(place.node):
                self.lose_rank(order.placement, number)
        self._publish(held)
        self._advance()

    def _take_port(self) -> int:
        self._port = self._port + 1 if self._port < 60_000 else 20_000
        return self._port

    def _schedule(self, held: _Placement, rank: _Rank, at_ms: int) -> None:
        """Have the rank looked at again at ``at_ms``; what was scheduled for it before no longer counts."""
        rank.due_ms = at_ms
        heapq.heappush(self._due, (at_ms, self._count(), held.order.placement, rank.number))

    def _advance(self) -> None:
        """Let everything happen that is due by now, in order of time."""
        now = self._now()
        while self._again and self._again[0][0] <= now:
            self._deliver(heapq.heappop(self._again)[2])
        while self._due and self._due[0][0] <= now:
            at_ms, _, placement, number = heapq.heappop(self._due)
            held = self._placements.get(placement)
            if held is not None and held.ranks[number].due_ms == at_ms:
                self._happen(held, held.ranks[number], at_ms)

    def _happen(self, held: _Placement, rank: _Rank, at_ms: int) -> None:
        if rank.state in _FINAL:
            return
        if rank.state == RankState.STARTING:
            rank.state, rank.since_ms = RankState.PAUSED if held.pause_wanted else RankState.RUNNING, at_ms
            order = held.order
            rank.ran = Ran(
                order.placement, order.workload, order.tenant, rank.number, rank.node, order.epoch, at_ms
            )
            self.ran.append(rank.ran)
            self._logs[(order.placement, rank.number)] = rank.behaviour.stdout
        else:
            self._account(rank, at_ms)
        limit_ms = held.order.max_duration_ms
        if rank.end_ms is not None and at_ms >= rank.end_ms:
            self._exit(rank, rank.end_code)
        elif rank.running_ms >= rank.behaviour.duration_ms:
            self._exit(rank, rank.behaviour.exit_code)
        elif rank.end_ms is None and limit_ms and self._rated(rank.running_ms) >= limit_ms:
            rank.reason = "max_duration"
            self._end_rank_within(held, rank, held.order.grace_ms, at_ms)
        else:
            self._schedule_next(held, rank, at_ms)
        if rank.state not in _FINAL:
            rank.report = self._report(rank)
        self._publish(held, at_ms)

    def _schedule_next(self, held: _Placement, rank: _Rank, now: int) -> None:
        due = now + self._heartbeat_ms
        if rank.end_ms is not None:
            due = min(due, rank.end_ms)
        if rank.state == RankState.RUNNING:
            due = min(due, now + rank.behaviour.duration_ms - rank.running_ms)
            limit_ms = held.order.max_duration_ms
            if limit_ms and rank.end_ms is None:
                # Rounded up: a clock that runs slow reaches the limit later.
                due = min(
                    due,
                    now + -(-(limit_ms - self._rated(rank.running_ms)) * 1000 // self.faults.rate_permille),
                )
        self._schedule(held, rank, max(due, now + 1))

    def _end_rank_within(self, held: _Placement, rank: _Rank, grace_ms: int, now: int) -> None:
        if rank.state == RankState.STARTING:
            self._exit(rank, _TERMINATED)
            return
        if rank.state == RankState.PAUSED:
            self._move(held, rank, RankState.RUNNING, now)
        term_ms = rank.behaviour.term_ms
        at_once = term_ms is not None and term_ms <= grace_ms
        until_ms = now + (term_ms if at_once and term_ms is not None else max(0, grace_ms))
        if rank.end_ms is None or until_ms < rank.end_ms:
            rank.end_ms, rank.end_code = until_ms, _TERMINATED if at_once else _KILLED
        if rank.end_ms <= now:
            self._account(rank, now)
            self._exit(rank, rank.end_code)
        else:
            self._schedule_next(held, rank, now)

    def _move(self, held: _Placement, rank: _Rank, state: RankState, now: int) -> None:
        self._account(rank, now)
        rank.state = state
        rank.report = self._report(rank)
        self._schedule_next(held, rank, now)

    def _account(self, rank: _Rank, now: int) -> None:
        if rank.state == RankState.RUNNING:
            rank.running_ms += now - rank.since_ms
        elif rank.state == RankState.PAUSED:
            rank.paused_ms += now - rank.since_ms
        rank.since_ms = now

    def _exit(self, rank: _Rank, code: int) -> None:
        rank.state = RankState.EXITED
        rank.report = replace(self._report(rank), exit_code=code, reason=rank.reason)
        self._close(rank, estimated=False)

    def _close(self, rank: _Rank, *, estimated: bool) -> None:
        if rank.ran is not None:
            rank.ran.ended_ms = rank.since_ms
            rank.ran.estimated = estimated
            rank.ran.running_ms = rank.running_ms if estimated else self._rated(rank.running_ms)
            rank.ran.paused_ms = rank.paused_ms if estimated else self._rated(rank.paused_ms)

    def _rated(self, duration_ms: int) -> int:
        return duration_ms * self.faults.rate_permille // 1000

    def _report(self, rank: _Rank) -> RankReport:
        return RankReport(rank.number, rank.state, self._rated(rank.running_ms), self._rated(rank.paused_ms))

    def _publish(self, held: _Placement, at_ms: int | None = None) -> None:
        """Let the newest report of a placement be seen, after the delay; never before an older one."""
        report = PlacementReport(
            held.order.placement, held.epoch, tuple(rank.report for rank in held.ranks), held.endpoints
        )
        if not self.faults.observe_delay_ms and not self._unseen:
            self._show(report)
            return
        visible_ms = (self._now() if at_ms is None else at_ms) + self.faults.observe_delay_ms
        self._newest_visible_ms = max(self._newest_visible_ms, visible_ms)
        heapq.heappush(self._unseen, (self._newest_visible_ms, self._count(), report))

    def _show(self, report: PlacementReport) -> None:
        if self._seen.get(report.placement) != report:
            self._seen[report.placement] = report
            self._seen_all = None


def _error(code: ProblemCode, message: str) -> EngineError:
    return engine_error(code, message, "try again, or look at the faults of the simulation.")
