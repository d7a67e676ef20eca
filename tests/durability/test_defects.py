"""A defect in the loop ends the control plane: one that still answers, and does nothing, would be worse."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.engines.local import LocalEngine
from headrace.ports import PlacementReport
from headrace.server import Server, Settings
from tests.durability.harness import ROOT, control_plane


class DefectiveEngine(LocalEngine):
    """An engine that raises what no engine may raise."""

    def observe(self) -> Sequence[PlacementReport]:
        """Fail."""
        raise KeyError("a defect of an engine")


def serve(folder: str) -> None:
    """Serve with a defective engine: what the test below starts."""
    state = Path(folder)
    engine = DefectiveEngine(state / "engine", sys.executable, isolate=False)
    Server(Settings(state, port=0, isolate=False), {"local": engine}).run()


def test_a_defect_in_the_loop_ends_the_process_with_its_error(tmp_path: Path) -> None:
    """It does not go on without its loop; and the state that it leaves can be opened again."""
    code = f"from tests.durability.test_defects import serve; serve({str(tmp_path / 'state')!r})"
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, timeout=60, env=env
    )
    assert ended.returncode == 1
    assert "a defect of an engine" in ended.stderr
    with control_plane(tmp_path / "state") as plane:
        assert plane.api().call("GET", "/v1/status")[0] == 200
