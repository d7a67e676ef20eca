"""What a placement on mining machines is: what is wanted of them, what was seen, for how long they mined; and its file.

A machine has no memory of ours. So one file for each placement says what was ordered and what was seen of it; the machine says
what it does now. Time counts from one look at which it mined to the next, and time in which nobody looked does not count.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from headrace.core.ids import Epoch, NodeId, PlacementId
from headrace.core.units import MS_PER_MINUTE
from headrace.devices import MinerState
from headrace.engines import runner
from headrace.ports import PlacementReport, RankReport, RankState

TOLD_TO_END = 143
"""The exit code of who was told to end: 128 and SIGTERM, as everywhere."""
NOT_STARTED = 126
GAP_MS = MS_PER_MINUTE
"""Between two looks that are further apart nobody knows what the machine did."""
SAVE_MS = MS_PER_MINUTE
"""How often what it mined goes into its file while nothing else changes."""
FINAL = frozenset({RankState.EXITED, RankState.LOST})


class Wish(StrEnum):
    """What is wanted of a placement's machines."""

    MINE = "mine"
    PAUSE = "pause"
    STOP = "stop"


class Seen(StrEnum):
    """What a machine was seen doing. ``RESTS``: it says that it is off, and draws no more than it counts with then."""

    NOTHING = ""
    MINES = "mines"
    RESTS = "rests"


def seen_of(state: MinerState, idle_w: int) -> Seen:
    """What a machine says that it does. One that says that it is off and draws on neither mines nor rests."""
    if state.is_mining is True and (state.power_w is None or state.power_w > idle_w):
        return Seen.MINES
    if state.is_mining is False and state.power_w is not None and state.power_w <= idle_w:
        return Seen.RESTS
    return Seen.NOTHING


@dataclass(slots=True)
class Mining:
    """One rank: a machine. ``idle_w``: what its node counts with once it has stopped.

    ``look_ms``: when it was looked at last, by the boot-time clock (0: never since the start).
    """

    node: NodeId
    idle_w: int
    state: RankState = RankState.STARTING
    running_ms: int = 0
    paused_ms: int = 0
    exit_code: int | None = None
    reason: str = ""
    detail: str = ""
    estimated: bool = False
    seen: Seen = Seen.NOTHING
    look_ms: int = 0

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL

    def end(self, state: RankState, code: int | None, reason: str = "", detail: str = "") -> None:
        """It has ended."""
        self.state, self.exit_code, self.reason, self.detail = state, code, reason, detail
        self.estimated = state is RankState.LOST

    def count(self, now_ms: int) -> None:
        """It went on until ``now_ms`` as it was seen last: until it is told otherwise, or is seen to do the same still."""
        since_ms = now_ms - self.look_ms if self.look_ms else 0
        if 0 <= since_ms <= GAP_MS:
            self.running_ms += since_ms * (self.seen is Seen.MINES)
            self.paused_ms += since_ms * (self.seen is Seen.RESTS and self.state is RankState.PAUSED)
        self.look_ms = now_ms if self.look_ms else 0

    def look(self, wish: Wish, why: str, said: MinerState, now_ms: int) -> bool:
        """Take what the machine says at ``now_ms`` of the boot-time clock; whether its state is another."""
        before, seen = self.state, seen_of(said, self.idle_w)
        if seen is self.seen:
            self.count(now_ms)
        self.seen, self.look_ms = seen, now_ms
        if wish is Wish.STOP and seen is Seen.RESTS:
            self.end(RankState.EXITED, TOLD_TO_END, why)
        elif wish is Wish.PAUSE and seen is Seen.RESTS:
            self.state = RankState.PAUSED
        elif seen is Seen.MINES:
            # Also while it is to stop: it does not until it is seen to.
            self.state = RankState.RUNNING
        return self.state is not before


@dataclass(slots=True)
class Held:
    """A placement. ``why``: the reason that its end has when nobody asked for it; ``saved_ms``: by the boot-time clock."""

    placement: PlacementId
    epoch: Epoch
    ranks: list[Mining]
    max_duration_ms: int = 0
    wish: Wish = Wish.MINE
    why: str = ""
    saved_ms: int = field(default=0, compare=False)
    _report: PlacementReport | None = field(default=None, compare=False)

    @property
    def final(self) -> bool:
        """Whether all of it has ended."""
        return all(rank.final for rank in self.ranks)

    @property
    def report(self) -> PlacementReport:
        """What the engine says of it: the very object of before while it is as it was."""
        ranks = tuple(
            RankReport(
                number,
                one.state,
                one.running_ms,
                one.paused_ms,
                one.exit_code,
                one.reason,
                one.detail,
                one.estimated,
            )
            for number, one in enumerate(self.ranks)
        )
        if self._report is None or self._report.ranks != ranks or self._report.epoch != self.epoch:
            self._report = PlacementReport(self.placement, self.epoch, ranks)
        return self._report

    def look(self, rank: Mining, said: MinerState, now_ms: int) -> bool:
        """Take what the machine of a rank says; whether it should go into the file."""
        is_other = rank.look(self.wish, self.why, said, now_ms)
        if self.max_duration_ms and rank.running_ms >= self.max_duration_ms and self.wish is not Wish.STOP:
            self.wish, self.why, is_other = Wish.STOP, "max_duration", True
        return is_other or now_ms - self.saved_ms >= SAVE_MS

    def left_ms(self, rank: Mining) -> int | None:
        """How long it may still mine; None: as long as it likes."""
        return max(0, self.max_duration_ms - rank.running_ms) if self.max_duration_ms else None


def save(folder: Path, held: Held, *, durable: bool) -> None:
    """Write its file; OSError. ``durable``: also for a machine that loses its power."""
    held.saved_ms = runner.boot_ms()
    plain = {
        "placement": held.placement,
        "epoch": int(held.epoch),
        "max_duration_ms": held.max_duration_ms,
        "wish": held.wish.value,
        "why": held.why,
        "ranks": [asdict(rank) | {"look_ms": 0, "seen": ""} for rank in held.ranks],
    }
    runner.write_atomic(str(folder / f"{held.placement}.json"), plain, durable=durable)


def load(folder: Path) -> Iterator[Held]:
    """The placements of a folder; what is half written is none."""
    for path in sorted(folder.glob("*.json")):
        plain = runner.read_json(str(path))
        if isinstance(plain, dict):
            yield _of(plain)


def _of(plain: dict[str, Any]) -> Held:
    ranks = [
        Mining(**{**one, "node": NodeId(one["node"]), "state": RankState(one["state"]), "seen": Seen.NOTHING})
        for one in plain["ranks"]
    ]
    return Held(
        PlacementId(plain["placement"]),
        Epoch(plain["epoch"]),
        ranks,
        plain["max_duration_ms"],
        Wish(plain["wish"]),
        plain["why"],
    )
