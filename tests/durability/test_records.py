"""The runners' raw records, for whoever wants to bill from them without the journal."""

import json
import sys
import time
from pathlib import Path

import pytest

from headrace.core.ids import Epoch
from headrace.engines.local import LocalEngine, LocalSettings
from tests.engines.contract import FIRST, order_of


@pytest.mark.parametrize("kept", [True, False])
def test_records_of_what_is_forgotten_stay_only_where_that_is_asked_for(kept: bool, tmp_path: Path) -> None:
    """Each rank's last record, as its runner wrote it; without the setting nothing stays."""
    settings = LocalSettings(keep_records=kept)
    engine = LocalEngine(tmp_path, sys.executable, isolate=False, settings=settings)
    engine.fence(Epoch(1))
    engine.start(order_of("exit 3", nodes=2))
    until = time.monotonic() + 30
    while not all(rank.state == "exited" for one in engine.observe() for rank in one.ranks):
        assert time.monotonic() < until
        time.sleep(0.02)
    raw = [
        json.loads((tmp_path / "placements" / FIRST / str(n) / "record.json").read_bytes()) for n in range(2)
    ]
    engine.forget(FIRST)
    engine.forget(FIRST)
    assert not any((tmp_path / "placements").iterdir())
    folder = tmp_path / "records"
    if not kept:
        assert not folder.exists()
        return
    assert [path.name for path in sorted(folder.iterdir())] == [f"{FIRST}.0.json", f"{FIRST}.1.json"]
    assert [json.loads(path.read_bytes()) for path in sorted(folder.iterdir())] == raw
    assert [record["exit_code"] for record in raw] == [3, 3]
