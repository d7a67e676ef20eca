"""Packs of journals that an older headrace wrote: what decided then is found again, though other rules decide now."""

import shutil
from pathlib import Path

import pytest

from headrace.core import events as ev
from headrace.evidence.pack import Wanted
from headrace.evidence.pack_select import select
from headrace.journal.codec import decode
from headrace.journal.sqlite import SqliteStore
from tests.evidence.packs import WHOLE_MS

GOLDEN = Path(__file__).parents[1] / "journal" / "golden"


@pytest.mark.parametrize("name", ["", "2", "3", "4", "5", "6"])
def test_the_texts_of_old_verdicts_are_shown(tmp_path: Path, name: str) -> None:
    """Those about places rest on lists of countries, which rules in Cedar have taken the place of."""
    shutil.copy(GOLDEN / name / "journal.sqlite", tmp_path)
    path = tmp_path / "journal.sqlite"
    store = SqliteStore(path, readonly=True)
    try:
        events = [one.event for group in store.groups() for one in decode(group)]
        found = select(store, Wanted(str(path), len(events), "acme", 0, WHOLE_MS))
    finally:
        store.close()
    verdicts = [one.verdict for one in events if isinstance(one, ev.DecisionRecorded)]
    placed = [
        one for one in verdicts if (one.action, one.subject.rpartition("@")[2]) == ("workload.place", "acme")
    ]
    assert placed
    assert {digest for one in placed for digest in (one.policy, one.facts)} <= found.texts.keys()
