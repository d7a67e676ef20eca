"""Where faults enter: a store that fails, engines that can't be reached, a process that dies.

Each stands on the seam that the production code has anyway; nothing is patched.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from headrace.core.errors import Problem, ProblemCode
from headrace.core.ids import Epoch, NodeId, PlacementId
from headrace.engines.fake import FakeEngine
from headrace.journal.codec import Group
from headrace.journal.projections import ProjectionRow
from headrace.journal.sqlite import JournalUnavailable, SqliteStore
from headrace.journal.vault import VaultEntry, VaultKey
from headrace.ports import (
    Capabilities,
    EngineError,
    EngineNode,
    LogChunk,
    NodeReport,
    PlacementReport,
    StartOrder,
)

CRASHES = (
    "crash-executed",
    "crash-before-append",
    "crash-after-append",
    "crash-replied",
    "crash-acting",
    "crash-acted",
    "crash-recovering",
    "crash-started",
)
"""Where the control plane dies: between decide, commit, reply and act, and while it comes back."""
_UNLIMITED_PAGES = 1 << 30


class Crash(BaseException):
    """The control plane dies here. No production code catches it: whatever is in memory is gone."""


def _passes(_what: str, _placement: PlacementId) -> bool:
    return True


def _nobody(*_: object) -> None:
    pass


@dataclass(slots=True)
class Switches:
    """Faults that are on or armed; they outlive the control plane. ``fired`` counts what really happened.

    ``tries`` is told of every order to stop, whether it can be sent or not; ``ends``, with its grace, once machines have it.
    ``gate`` is told of every order to stop, pause or resume that reaches an engine, and says whether its machines do it. What
    is paused draws less where it ``sheds``.
    """

    armed: list[str] = field(default_factory=list)
    disk_full: bool = False
    lose_commits: int = 0
    fail_commits: int = 0
    engine_down: bool = False
    gate: Callable[[str, PlacementId], bool] = _passes
    tries: Callable[[PlacementId], None] = _nobody
    ends: Callable[[PlacementId, int], None] = _nobody
    sheds: bool = True
    fired: Counter[str] = field(default_factory=Counter)

    def crash_at(self, point: str) -> None:
        """Die here, when a crash at this point is armed."""
        if point in self.armed:
            self.armed.remove(point)
            self.fired[point] += 1
            raise Crash(point)

    def clear(self) -> None:
        """No more faults from now on."""
        self.armed.clear()
        self.disk_full = self.engine_down = False
        self.lose_commits = self.fail_commits = 0


class FaultyStore(SqliteStore):
    """The production store on a disk that fills up; commits fail, or lose their answer."""

    def __init__(self, path: Path, switches: Switches) -> None:
        super().__init__(path)
        self.switches = switches
        self.limit()

    def limit(self) -> None:
        """Let SQLite find the disk full at its present size (or no longer)."""
        pages = _UNLIMITED_PAGES
        if self.switches.disk_full:
            found = self.query("pragma page_count")[0][0]
            pages = int(str(found))
        self.query(f"pragma max_page_count={pages}")

    def append(
        self,
        group: Group | None,
        rows: Sequence[ProjectionRow] = (),
        keys: Sequence[VaultKey] = (),
        entries: Sequence[VaultEntry] = (),
        erase: Sequence[str] = (),
    ) -> None:
        """As the production store does it, or as the faults have it."""
        switches = self.switches
        switches.crash_at("crash-before-append")
        if switches.fail_commits:
            switches.fail_commits -= 1
            switches.fired["failed-commit"] += 1
            raise JournalUnavailable("simulated: the disk refused")
        try:
            super().append(group, rows, keys, entries, erase)
        except JournalUnavailable:
            switches.fired["disk-full-hit"] += 1
            raise
        switches.crash_at("crash-after-append")
        if switches.lose_commits:
            switches.lose_commits -= 1
            switches.fired["lost-commit-answer"] += 1
            raise JournalUnavailable("simulated: no answer came from the disk, which did it")


class RemoteEngine:
    """An engine behind a network that fails; ``seen`` is told of every order that gets through."""

    def __init__(self, engine: FakeEngine, switches: Switches, seen: Callable[[StartOrder], None]) -> None:
        self.engine, self.switches, self.seen = engine, switches, seen

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine."""
        can = self.engine.capabilities
        return can if self.switches.sheds else replace(can, pause_sheds=False)

    def _reach(self) -> None:
        if self.switches.engine_down:
            step = "Wait."
            raise EngineError(Problem(ProblemCode.ENGINE_UNAVAILABLE, "the engine can't be reached.", step))

    def fence(self, epoch: Epoch, owner: str = "") -> None:
        """See :class:`headrace.ports.Engine`, as all below."""
        self._reach()
        self.engine.fence(epoch, owner)

    def start(self, order: StartOrder) -> None:
        """Start, unless it can't be reached; a control plane may die before or after."""
        self._reach()
        self.switches.crash_at("crash-acting")
        self.seen(order)
        self.engine.start(order)
        self.switches.crash_at("crash-acted")

    def stop(self, placement: PlacementId, grace_ms: int) -> None:
        """Stop, unless it can't be reached."""
        self.switches.tries(placement)
        self._reach()
        self.switches.crash_at("crash-acting")
        if self.switches.gate("stop", placement):
            self.engine.stop(placement, grace_ms)
            self.switches.ends(placement, grace_ms)
        self.switches.crash_at("crash-acted")

    def pause(self, placement: PlacementId) -> None:
        """Pause, unless it can't be reached."""
        self._reach()
        if self.switches.gate("pause", placement):
            self.engine.pause(placement)

    def resume(self, placement: PlacementId) -> None:
        """Resume, unless it can't be reached."""
        self._reach()
        if self.switches.gate("resume", placement):
            self.engine.resume(placement)

    def observe(self) -> Sequence[PlacementReport]:
        """Observe, unless it can't be reached."""
        self._reach()
        return self.engine.observe()

    def forget(self, placement: PlacementId) -> None:
        """Forget, unless it can't be reached."""
        self._reach()
        self.engine.forget(placement)

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        """Health of the nodes, unless it can't be reached."""
        self._reach()
        return self.engine.nodes(of)

    def host_of(self, node: NodeId) -> str:
        """What the engine calls a node."""
        return self.engine.host_of(node)

    def inventory(self) -> Sequence[EngineNode] | None:
        """Nothing: the engine has no view of its own."""
        return None

    @property
    def trouble(self) -> str:
        """What keeps it from being reached."""
        return "simulated: the engine can't be reached" if self.switches.engine_down else ""

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def cordon(self, nodes: Mapping[NodeId, str]) -> None:
        """Cordon nodes, unless it can't be reached."""
        self._reach()
        self.engine.cordon(nodes)

    def logs(self, placement: PlacementId, rank: int, stream: str, offset: int, limit: int) -> LogChunk:
        """Logs, unless it can't be reached."""
        self._reach()
        return self.engine.logs(placement, rank, stream, offset, limit)

    def erase_logs(self, placement: PlacementId) -> None:
        """Erase logs, unless it can't be reached."""
        self._reach()
        self.engine.erase_logs(placement)
