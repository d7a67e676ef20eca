"""A journal that an older headrace wrote replays for ever, to the same state; and old payloads become new events."""

import json
import shutil
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.errors import HeadraceError
from headrace.core.events import KINDS, UPCASTS, VERSIONS, AlarmRaised
from headrace.core.ids import WorkloadId
from headrace.core.state import State
from headrace.journal.checkpoint import load
from headrace.journal.codec import Group, Head, JournalCorrupt, decode
from headrace.journal.sqlite import SqliteStore
from headrace.journal.verify import verify
from tests.journal.golden.make import make, state_json
from tests.journal.small import MEMBER, opened

FIRST = Path(__file__).parent / "golden"
GOLDEN = (FIRST, *(FIRST / name for name in ("2", "3", "4", "5", "6", "7", "45")))
"""The first; keys; a reservation and fractions; an engine, an intruder; instructions of the grid; caps; data sets; an export."""


RANK_FIELDS = 5


def stored(golden: Path) -> Any:
    """The state that was stored, with what fields that came later say of it: their default, where it is not empty."""
    state = json.loads((golden / "state.json").read_text())
    for work in state["workloads"].values():
        work["spec"]["resources"].setdefault("share_milli", 1_000)
    for placement in state.get("placements", {}).values():
        placement["ranks"] = [
            rank if len(rank) == RANK_FIELDS else [*rank, 1_000] for rank in placement["ranks"]
        ]
    return state


@pytest.fixture(params=GOLDEN, ids=["first", "2", "3", "4", "5", "6", "7", "45"])
def golden(request: pytest.FixtureRequest) -> Path:
    """The folder of a golden journal."""
    folder: Path = request.param
    return folder


@pytest.fixture
def journal(golden: Path, tmp_path: Path) -> Path:
    """A copy of a golden journal: opening it for writing must not change the one in the tree."""
    shutil.copy(golden / "journal.sqlite", tmp_path)
    return tmp_path / "journal.sqlite"


def test_a_golden_journal_replays_to_its_stored_state(golden: Path, journal: Path) -> None:
    """Read, verified, upcast and applied by today's code, it is what it was when it was written."""
    found = verify(journal, bytes.fromhex((golden / "signing.pub").read_text()), replay=True)
    assert found.world is not None
    assert json.loads(state_json(found.world.state)) == stored(golden)


def test_a_control_plane_starts_on_a_golden_journal(golden: Path, journal: Path) -> None:
    """The way of a restart gives the same state as full verification."""
    store = SqliteStore(journal)
    assert json.loads(state_json(load(store, None).world.state)) == stored(golden)
    store.close()


def test_the_golden_journals_have_every_kind_of_event(tmp_path: Path) -> None:
    """A kind that is added later needs a golden journal that has it, beside these."""
    kinds = set()
    for folder in GOLDEN:
        shutil.copy(folder / "journal.sqlite", tmp_path)
        store = SqliteStore(tmp_path / "journal.sqlite", readonly=True)
        kinds |= {type(one.event) for group in store.groups() for one in decode(group)}
        store.close()
    assert kinds == set(KINDS.values())


def test_the_stored_state_is_what_its_digest_says(golden: Path) -> None:
    """Nobody adjusted one without the other."""
    assert (
        sha256((golden / "state.json").read_bytes()).hexdigest()
        == (golden / "digest.txt").read_text().strip()
    )


def test_keys_of_a_golden_journal_still_stand_for_what_was_asked(tmp_path: Path) -> None:
    """Years later the same request has the same digest, and its answer can be read."""
    shutil.copy(FIRST / "2" / "journal.sqlite", tmp_path)
    control = opened(tmp_path)
    stop = c.Stop(WorkloadId("acme-1"))
    assert control.execute(MEMBER, stop, "stop") == c.Named("acme-1", changed=False)
    assert control.is_repeated(SYSTEM, c.IssueToken, "token", "a member")
    with pytest.raises(HeadraceError, match="used for another request"):
        control.execute(MEMBER, c.Stop(WorkloadId("acme-2")), "stop")
    assert not control.has_pending
    control.store.close()


def test_the_same_time_and_chance_make_the_same_journal(tmp_path: Path) -> None:
    """Byte for byte: nothing but its arguments gets into a journal."""
    groups = []
    for name in ("one", "other"):
        make(tmp_path / name)
        store = SqliteStore(tmp_path / name / "journal.sqlite", readonly=True)
        groups.append(list(store.groups()))
        store.close()
    assert groups[0] == groups[1]


def test_a_field_that_is_added_with_an_empty_default_changes_no_digest() -> None:
    """So that the golden state is compared by what it says, and not by how many fields there are."""
    assert json.loads(state_json(State())) == {}


# -- upcasts -------------------------------------------------------------------------------------------------------------

ALARM = next(kind for kind, event in KINDS.items() if event is AlarmRaised)


def _group(kind: int, version: int, payload: bytes) -> Group:
    header = struct.pack(">BBHHHQQQ16s", 1, 0, kind, version, 0, 0, 1_000, 0, bytes(16))
    body = struct.pack(">16sI", bytes(16), len(payload)) + payload
    return Group(0, 1, header, body, Head(1, 1_000, bytes(32), b""))


def _from_second(old: dict[str, Any]) -> dict[str, Any]:
    return {"promise": int(old["promise"]), "subject": old["about"], "detail": old["detail"]}


def _from_first(old: dict[str, Any]) -> dict[str, Any]:
    return {"promise": old["number"], "about": old["about"], "detail": ""}


def test_an_old_payload_goes_through_every_version_up_to_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind at version 3 reads what its versions 1 and 2 wrote, one step after another."""
    monkeypatch.setitem(VERSIONS, ALARM, 3)
    monkeypatch.setitem(UPCASTS, (ALARM, 1), _from_first)
    monkeypatch.setitem(UPCASTS, (ALARM, 2), _from_second)
    payloads = {
        1: b'{"number": "4", "about": "acme-1"}',
        2: b'{"promise": "4", "about": "acme-1", "detail": ""}',
        3: b'{"promise": 4, "subject": "acme-1", "detail": ""}',
    }
    for version, payload in payloads.items():
        (committed,) = decode(_group(ALARM, version, payload))
        assert committed.event == AlarmRaised(4, "acme-1", "")


@pytest.mark.parametrize(("kind", "version"), [(ALARM, 2), (9_999, 1)])
def test_what_a_newer_headrace_wrote_is_refused_and_not_guessed(kind: int, version: int) -> None:
    """An unknown kind or version stops the replay, and the error says whose it is."""
    with pytest.raises(JournalCorrupt, match="a newer headrace wrote it"):
        list(decode(_group(kind, version, b"{}")))


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[]", b'{"promise": "x", "subject": "", "detail": ""}', b"\xff"]
)
def test_a_payload_that_is_none_is_named_with_its_event(payload: bytes) -> None:
    """It verifies, as bytes do; that it means nothing is told as damage at its number."""
    with pytest.raises(JournalCorrupt, match="damaged at event 0: its payload does not decode"):
        list(decode(_group(ALARM, 1, payload)))
