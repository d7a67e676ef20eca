"""Packs over the API: who may have which, what is asked for, and what a broken maker leaves."""

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.api.views import rfc3339
from headrace.core.events import EvidenceExported
from headrace.evidence.closing import closing_in
from headrace.evidence.pack import Wanted
from headrace.evidence.pack_stream import BrokenOff, sealed_pieces
from headrace.evidence.pack_verify import read_kept
from headrace.journal.codec import decode
from tests.api.small import ALBION, JOB, Answer, Small, small
from tests.evidence.packs import judged
from tests.evidence.packs import small as small_journal

FJORD_PACK = "/v1/tenants/fjord-ai/evidence"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Small]:
    """A control plane with work of two tenants."""
    made = small(tmp_path)
    made.submit(dict(JOB, policy={"countries": ["NO"]}))
    made.submit(dict(JOB, project="radiology"), tenant=ALBION)
    made.run(5)
    yield made
    made.store.close()


def _kept(answer: Answer, world: Small) -> int:
    assert answer.status == 200, answer.body
    return read_kept(answer.body, world.control.keys.public, "kept").size


@pytest.mark.parametrize("token", ["admin", "fjord"])
def test_the_operator_and_the_tenants_admin_get_the_same_pack(world: Small, token: str) -> None:
    """It verifies, with the checkpoint that was kept before more happened."""
    kept = world.ask("GET", f"{FJORD_PACK}/checkpoint", token=token)
    world.submit(dict(JOB, name="more"))
    world.run(3)
    answer = world.ask("GET", f"{FJORD_PACK}?checkpoint={_kept(kept, world)}", token=token)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = judged(answer.body.splitlines(keepends=True), world.control.keys.public, [kept.body], "fjord-ai")
    assert found.events > 5
    assert found.decisions > 3
    assert b"albion" not in answer.body
    whole = judged(answer.body.splitlines(keepends=True), world.control.keys.public)
    again = world.ask("GET", FJORD_PACK)
    later = judged(again.body.splitlines(keepends=True), world.control.keys.public)
    assert later.events > whole.events, "that it was exported is among the tenant's events from then on"


def _exports(world: Small) -> list[int]:
    """The numbers of the events that say that a pack was exported."""
    events = (one for group in world.store.groups() for one in decode(group))
    return [one.seq for one in events if isinstance(one.event, EvidenceExported)]


@pytest.mark.parametrize("token", ["admin", "fjord"])
def test_who_got_a_pack_has_left_a_trace(world: Small, token: str) -> None:
    """In the tenant's stream and the operator's: of what time, of which head, by whose right; also if nobody reads it."""
    first = world.ask("GET", FJORD_PACK, token=token)
    closing = closing_in(first.body)
    assert closing is not None
    (event,) = _exports(world)
    second = world.ask("GET", FJORD_PACK, token=token)
    lines = [line for line in second.body.split(b"\n") if line.startswith(b"event ") and b'"root"' in line]
    (said,) = (json.loads(line.split(b" ", 3)[3]) for line in lines)
    head = closing["head"]
    assert (said["tenant"], said["size"], said["root"]) == (
        "fjord-ai",
        head["size"],
        b64decode(head["root"]).hex(),
    )
    assert (said["from_ms"], said["to_ms"]) == (closing["from_ms"], closing["to_ms"])
    verdict = world.control.world.state.verdicts[said["verdict"]]
    role = "operator-admin" if token == "admin" else "tenant-admin@fjord-ai"
    assert (verdict.subject, verdict.action, verdict.allowed) == (role, "evidence.export", True)
    assert event >= head["size"]
    judged(second.body.splitlines(keepends=True), world.control.keys.public)


def test_who_may_not_have_it_leaves_none(world: Small) -> None:
    """A refused export is none."""
    before = world.state
    for token in ("albion", "member"):
        assert world.ask("GET", FJORD_PACK, token=token).status in (403, 404)
    assert world.state == before
    assert _exports(world) == []


@pytest.mark.parametrize("path", [FJORD_PACK, f"{FJORD_PACK}/checkpoint"])
@pytest.mark.parametrize(
    ("token", "status", "said"),
    [("albion", 404, "no tenant"), ("member", 403, "may not evidence.export"), ("", 401, "no token")],
)
def test_nobody_else_gets_it(world: Small, path: str, token: str, status: int, said: str) -> None:
    """Another tenant learns not even that there is one; a member needs its admin."""
    answer = world.ask("GET", path, token=token)
    assert answer.status == status
    assert said in answer.body.decode()


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("?from=yesterday", 400, "'yesterday' is not a time"),
        ("?to=2026-11-18T00:00", 400, "has no offset"),
        ("?from=2027-01-01T00:00Z", 400, "ends before it begins"),
        ("?from=2026-11-18T12:00Z&to=2026-11-18T12:00Z", 400, "ends before it begins"),
        ("?checkpoint=99999", 409, "it is another one, or was cut"),
        ("?checkpoint=0", 400, "greater than or equal to 1"),
        ("?checkpoint=x", 400, "checkpoint"),
        ("?since=2026", 400, "no parameter 'since'"),
    ],
)
def test_what_can_not_be_asked_for_is_refused_before_anything_is_sent(
    world: Small, query: str, status: int, said: str
) -> None:
    """Each with its word and the next step; the world is as it was."""
    before = world.state
    answer = world.ask("GET", f"{FJORD_PACK}{query}")
    assert (answer.status, said in answer.body.decode()) == (status, True), answer.body
    assert answer.json["error"]["next_step"] or "checkpoint." in answer.body.decode()
    assert world.state == before


def test_a_tenant_that_is_not_there_is_named(world: Small) -> None:
    """As everywhere."""
    answer = world.ask("GET", "/v1/tenants/nobody/evidence")
    assert (answer.status, answer.codes) == (404, ["not_found"])


def test_only_what_happened_in_the_time_asked_for_counts(world: Small) -> None:
    """Events before it are shown where they are needed, and not counted."""
    from_ms = world.clock.at_ms
    world.clock.at_ms += 1_000
    world.submit(dict(JOB, name="later"))
    world.run(1)
    query = f"?from={rfc3339(from_ms + 1).replace('+00:00', 'Z')}"
    answer = world.ask("GET", FJORD_PACK + query)
    found = judged(answer.body.splitlines(keepends=True), world.control.keys.public)
    whole = judged(world.ask("GET", FJORD_PACK).body.splitlines(keepends=True), world.control.keys.public)
    assert 0 < found.events < whole.events
    assert found.from_ms == from_ms + 1


def test_what_is_kept_says_how_many_events_were_the_tenants(world: Small) -> None:
    """The same as the pack of that moment closes with; signed."""
    kept = json.loads(world.ask("GET", f"{FJORD_PACK}/checkpoint").body)["closing"]
    closing = closing_in(world.ask("GET", FJORD_PACK).body)
    assert closing is not None
    for name in ("count", "leaf", "head", "journal", "key", "tenant"):
        assert kept[name] == closing[name]


async def _now(work: object) -> object:
    return work()  # type: ignore[operator]


def test_a_pack_that_breaks_off_has_no_seal(tmp_path: Path) -> None:
    """The journal turns out to be damaged while it is read: what was sent is a cut pack, and there is an error."""
    made = small_journal(tmp_path)
    journal, last = made.journal, made.journal.groups()[-1]
    changed = bytes([last.bodies[0] ^ 1]) + last.bodies[1:]
    made.control.store.query("update groups set bodies = ? where first = ?", (changed, last.first))
    wanted = Wanted(str(journal.path), journal.head.size, "acme", 0, 1 << 50)
    pieces = sealed_pieces(wanted, journal.public, journal.own.sign, _now)  # type: ignore[arg-type]
    sent: list[bytes] = []

    async def read() -> None:
        async for piece in pieces:
            sent.append(piece)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(BrokenOff, match="the journal is damaged: its root is another"):
        read().send(None)
    assert closing_in(b"".join(sent)) is None
    made.control.store.close()


def test_whoever_goes_away_leaves_no_process(tmp_path: Path) -> None:
    """A reader that stops in the middle ends the process that makes the pack."""
    made = small_journal(tmp_path)
    wanted = Wanted(str(made.journal.path), made.journal.head.size, "acme", 0, 1 << 50)
    pieces = sealed_pieces(wanted, made.journal.public, made.journal.own.sign, _now)  # type: ignore[arg-type]

    async def leave() -> None:
        async for _ in pieces:
            break
        await pieces.aclose()  # type: ignore[attr-defined]

    with pytest.raises(StopIteration):
        leave().send(None)
    assert not [one for one in _children() if "pack_export" in one]
    made.control.store.close()


def _children() -> list[str]:
    mine = Path("/proc/self/task").iterdir()
    pids = [pid for task in mine for pid in (task / "children").read_text().split()]
    return [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in pids]
