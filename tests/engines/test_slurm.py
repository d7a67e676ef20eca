"""The Slurm engine keeps the contract on a real Slurm."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.core.ids import NodeId, PlacementId
from headrace.engines import runner
from headrace.engines.slurm.client import Commands
from headrace.engines.slurm.engine import SlurmEngine, SlurmSettings
from headrace.ports import Engine
from tests.engines.contract import EngineContract
from tests.engines.slurm_site import SlurmSite, slurm_site

PATIENCE_S = 40


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """Four nodes."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    with slurm_site(folder) as found:
        yield found
    shutil.rmtree(folder)


class SlurmHarness:
    """An engine on a spool of its own and the module's Slurm, and a look behind it."""

    def __init__(self, site: SlurmSite, root: Path) -> None:
        self.site, self.root = site, root
        self.made: list[SlurmEngine] = []
        self.engine: Engine = self.reopened()

    def reopened(self) -> Engine:
        """A new engine on the same spool; the old one is never asked again."""
        for old in self.made:
            old.close()
        settings = SlurmSettings(
            heartbeat_ms=200,
            poll_ms=100,
            partition="lab",
            nodes={NodeId(f"glomfjord/a/{name}"): name for name in self.site.names},
            addresses=dict.fromkeys(self.site.names, "127.0.0.1"),
        )
        self.made.append(SlurmEngine(self.root, Commands(self.site.conf), settings))
        return self.made[-1]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            told = f"{self.engine.observe()}; {self.made[-1].trouble}; {self.site.ask('squeue')}"
            assert time.monotonic() < give_up, f"did not happen in {PATIENCE_S} s: {told}"
            time.sleep(0.02)

    def pass_ms(self, duration_ms: int) -> None:
        """Wait for as long."""
        time.sleep(duration_ms / 1000)

    def record(self, placement: PlacementId, rank: int) -> dict[str, Any]:
        """What the runner wrote last."""
        found = runner.read_json(str(self.root / "placements" / placement / str(rank) / runner.RECORD))
        assert isinstance(found, dict)
        return found

    def kill_runner(self, placement: PlacementId, rank: int) -> None:
        """SIGKILL."""
        os.kill(self.record(placement, rank)["runner"][0], signal.SIGKILL)

    def close(self) -> None:
        """Leave no job behind, whatever the test left running."""
        for engine in self.made:
            engine.close()
        self.site.ask("scancel", "--user=root")
        self.until(lambda: not self.site.ask("squeue", "-h").strip())


@pytest.fixture
def harness(site: SlurmSite) -> Iterator[SlurmHarness]:
    """An engine on a short path that other users may pass through."""
    root = Path(tempfile.mkdtemp(prefix="headrace-"))
    root.chmod(0o711)
    made = SlurmHarness(site, root / "engine")
    yield made
    made.close()
    shutil.rmtree(root)


class TestSlurm(EngineContract):
    """The contract on a real Slurm."""
