"""Promise 3, durability, and 4, exactness, on real processes: kill -9 at random points under load."""

import os

from tests.durability import harness
from tests.durability.judge import as_text

KILLS = int(os.environ.get("HEADRACE_KILLS", "25"))
SEED = int(os.environ.get("HEADRACE_KILLS_SEED", "2"))


def test_nothing_acknowledged_is_lost_and_nothing_is_done_twice_when_the_control_plane_is_killed() -> None:
    """Keys, heads, processes, records, invoices and ledger agree after HEADRACE_KILLS kills (25) at random moments."""
    report = harness.run(KILLS, SEED, pace_s=0.12)
    assert not report.violations, as_text(report.violations)
    assert report.kills >= KILLS
    assert report.acknowledged
    assert report.placements
