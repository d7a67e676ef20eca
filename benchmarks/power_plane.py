"""A control plane for the power benchmarks: a real process with its devices, and an engine that outlives it.

The engine plays what runs: it stands in the benchmark's process and is asked over a socket, so that it goes on when the control
plane is killed. ``python -m benchmarks.power_plane STATE PORT PLANT ENGINE`` serves until SIGTERM.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from headrace.actuate import USUAL, Pace
from headrace.core.errors import HeadraceError
from headrace.core.ids import Epoch, NodeId, PlacementId
from headrace.engines.fake import FakeEngine
from headrace.plant.run import DEVICES, PlantClock
from headrace.ports import (
    Capabilities,
    Clock,
    EngineError,
    EngineNode,
    LogChunk,
    NodeReport,
    PlacementReport,
    RankState,
    StartOrder,
)
from headrace.server import Server, Settings

READY = "ready"
KEY = b"benchmark"
HEARTBEAT_MS = 3_600_000


class EngineHost:
    """A fake engine, for whoever asks at ``address`` (a Unix socket); one question at a time."""

    def __init__(self, address: str, clock: Clock) -> None:
        self.engine = FakeEngine(clock, heartbeat_ms=HEARTBEAT_MS)
        self._lock = threading.Lock()
        self._listener = Listener(address, "AF_UNIX", authkey=KEY)
        self._said: Sequence[PlacementReport] = ()
        self._number = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def busy(self) -> set[str]:
        """Nodes on which something runs that is not paused."""
        with self._lock:
            reports = self.engine.observe()
            orders = {name: held.order for name, held in self.engine._placements.items()}
        return {
            orders[report.placement].ranks[rank.rank].node
            for report in reports
            if report.placement in orders
            for rank in report.ranks
            if rank.state is RankState.RUNNING
        }

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                link = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: Connection) -> None:
        with link:
            while True:
                try:
                    name, arguments = link.recv()
                except (EOFError, OSError):
                    return
                with self._lock:
                    answer = self._answer(name, arguments)
                try:
                    link.send(answer)
                except OSError:
                    return

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        try:
            if name == "observe":
                return True, self._news(*arguments)
            return True, getattr(self.engine, name)(*arguments)
        except HeadraceError as error:
            return False, error.problems

    def _news(self, known: int) -> tuple[int, Sequence[PlacementReport] | None]:
        """All reports, where they are not what was told under the number ``known``."""
        reports = self.engine.observe()
        if reports is not self._said:
            self._said, self._number = reports, self._number + 1
        return self._number, None if known == self._number else reports


class FarEngine:
    """The engine at an address; see :class:`headrace.ports.Engine`."""

    trouble = ""

    def __init__(self, address: str) -> None:
        self._link = Client(address, "AF_UNIX", authkey=KEY)
        self._number = 0
        self._reports: dict[PlacementId, PlacementReport] = {}
        self._said: tuple[PlacementReport, ...] = ()
        self.capabilities: Capabilities = Capabilities("none", pause=True, ports=True, pause_sheds=True)

    def _ask(self, name: str, *arguments: Any) -> Any:
        self._link.send((name, arguments))
        is_done, answer = self._link.recv()
        if not is_done:
            raise EngineError(*answer)
        return answer

    def fence(self, epoch: Epoch, owner: str = "") -> None:
        self._ask("fence", epoch, owner)

    def start(self, order: StartOrder) -> None:
        self._ask("start", order)

    def stop(self, placement: PlacementId, grace_ms: int) -> None:
        self._ask("stop", placement, grace_ms)

    def pause(self, placement: PlacementId) -> None:
        self._ask("pause", placement)

    def resume(self, placement: PlacementId) -> None:
        self._ask("resume", placement)

    def observe(self) -> Sequence[PlacementReport]:
        number, reports = self._ask("observe", self._number)
        if reports is not None:
            # What did not change stays the same object: nobody looks at it again.
            known = self._reports
            self._said = tuple(
                known[one.placement] if known.get(one.placement) == one else one for one in reports
            )
            self._reports, self._number = {one.placement: one for one in self._said}, number
        return self._said

    def forget(self, placement: PlacementId) -> None:
        self._ask("forget", placement)

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        return ()

    def host_of(self, node: NodeId) -> str:
        return node

    def inventory(self) -> Sequence[EngineNode] | None:
        return None

    def cordon(self, nodes: Mapping[NodeId, str]) -> None:
        self._ask("cordon", dict(nodes))

    def logs(self, placement: PlacementId, rank: int, stream: str, offset: int, limit: int) -> LogChunk:
        found: LogChunk = self._ask("logs", placement, rank, stream, offset, limit)
        return found

    def erase_logs(self, placement: PlacementId) -> None:
        self._ask("erase_logs", placement)

    def close(self) -> None:
        self._link.close()


def main() -> int:
    """Serve until SIGTERM."""
    state, port, plant, engine = sys.argv[1:]
    clock, devices = PlantClock.of(Path(plant)), Path(plant) / DEVICES
    settings, pace = Settings(Path(state), port=int(port), isolate=False, devices=devices), USUAL
    if clock.speed > 1:
        # More often, as the plant's time passes faster; a controller has as long as it has. The plant answers within a
        # millisecond: to ask few at once does as much, and holds the loop up for less at a time.
        pace = Pace(round_s=0.05, meters_s=0.2, again_s=0.5, at_once=24)
        settings = replace(settings, tick_s=0.02)
    Server(settings, {"local": FarEngine(engine)}, clock, pace).run(_say_ready)
    return 0


def _say_ready() -> None:
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
