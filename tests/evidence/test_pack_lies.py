"""Lies that add up: the operator writes them into the journal itself, or closes with figures that fit. Each is found by one rule.

Nothing else gives these away: roots, seals, heads and figures are right. So each test falls if its rule is taken out.
"""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace.core import events as ev
from headrace.core.authority import Verdict, digest_of
from headrace.core.ids import Digest, PlacementId, SiteId, TenantId, WorkloadId
from headrace.evidence import standalone
from headrace.evidence.closing import CLOSING
from headrace.evidence.standalone import compact
from headrace.journal.codec import Draft, Group, Head, signed_bytes
from headrace.journal.merkle import Frontier
from headrace.journal.sqlite import SqliteStore
from tests.evidence.packs import Journal, Lines, judged, own_seqs, resealed, rewritten, said, small
from tests.journal.small import ACME

OWN = ("tenant:acme", "site:glomfjord")
RULES = digest_of(["policy", "public", []])


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    """A journal of two tenants."""
    world = small(tmp_path_factory.mktemp("journal"))
    yield world.journal
    world.control.store.close()


def _blind() -> ModuleType:
    """The verifier that stands alone, made to believe everything: it counts what a pack shows."""
    found = ModuleType("blind")
    source = Path(standalone.__file__).read_text().replace("    if not holds:", "    if False:")
    exec(compile(source, "blind", "exec"), found.__dict__)
    return found


def fitted(journal: Journal, lines: Lines) -> Lines:
    """A pack whose closing says what is shown, sealed by the operator."""
    found = _blind().Pack(json.loads(lines[0][len(standalone.FORMAT) :]))
    for line in lines[1:-2]:
        found.line(*line[:-1].split(b" ", 1))
    closing = json.loads(lines[-2][len(CLOSING) :]) | found.said
    closing |= {"journal": found.journal, "count": found.count, "leaf": found.leaf.hex()}
    closing |= {"events": found.events, "decisions": found.decisions, "withheld": found.withheld}
    return resealed(lines, journal.own.sign, CLOSING + compact(closing) + b"\n")


def test_fitting_a_pack_that_is_right_changes_nothing(journal: Journal) -> None:
    """Or the tests below would prove nothing."""
    assert fitted(journal, journal.pack()) == journal.pack()


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_what_a_decision_says_is_hidden_and_counted_as_withheld(journal: Journal) -> None:
    """Only an end, an eviction and a return to the queue may be withheld."""
    lines = journal.pack()
    (at, *_) = [n for n, line in enumerate(lines) if line.startswith(b"event ") and b'"ranks"' in line]
    header, salt, payload = lines[at][6:-1].split(b" ", 2)
    body = sha256(bytes.fromhex(salt.decode()) + payload).hexdigest().encode()
    lines[at] = b"header " + header + b" " + body + b"\n"
    assert "what it says is hidden" in said(fitted(journal, lines), journal.public)


def test_the_journals_name_is_not_shown(journal: Journal) -> None:
    """The first event by its header alone: the pack is of no journal that has a name."""
    lines = journal.pack()
    header, salt, payload = lines[1][6:-1].split(b" ", 2)
    body = sha256(bytes.fromhex(salt.decode()) + payload).hexdigest().encode()
    lines[1] = b"header " + header + b" " + body + b"\n"
    assert "names it, is not shown" in said(fitted(journal, lines), journal.public)


@pytest.mark.parametrize(
    "asked",
    [
        {"from_ms": 0.5}, {"to_ms": "1"}, {"from_ms": True}, {"from_ms": 1 << 51}, {"more": 1}, {"to_ms": 0},
        {"from_ms": float("nan")}, {"tenant": ["acme"]},
    ],
)  # fmt: skip
def test_a_first_line_that_asks_for_something_else(journal: Journal, asked: dict[str, Any]) -> None:
    """Whose, from when and to when, in whole milliseconds: nothing less, and nothing more."""
    lines = journal.pack()
    first = json.loads(lines[0][len(standalone.FORMAT) :]) | asked
    changed = [standalone.FORMAT + compact(first) + b"\n", *lines[1:]]
    closing = json.loads(lines[-2][len(CLOSING) :]) | asked
    assert said(resealed(changed, journal.own.sign, CLOSING + compact(closing) + b"\n"), journal.public)


@pytest.mark.parametrize(
    ("text", "source", "word"),
    [
        (b'["policy","public",[]]', b"99999", "no document that is shown"),
        (b'["policy","mine",[]]', b"-", "no verdict names"),
    ],
)
def test_a_text_from_nowhere_or_for_nothing(journal: Journal, text: bytes, source: bytes, word: str) -> None:
    """Its digest is right; no event that is shown has it, or nothing rests on it."""
    lines = [line for line in journal.pack() if text not in line]
    line = b" ".join((b"text", sha256(text).hexdigest().encode(), source, text)) + b"\n"
    lines = fitted(journal, [*lines[:-2], line, *lines[-2:]])
    if source == b"-":
        assert word in said(lines, journal.public)
        return
    # The one that stands alone has no eye for sources.
    with pytest.raises(AssertionError, match="only the one that stands alone believes it"):
        said(lines, journal.public)


def test_a_head_whose_signature_is_another(journal: Journal) -> None:
    """Root and size are right, and the pack is sealed: the head itself nobody signed."""
    lines = journal.pack()
    closing = json.loads(lines[-2][len(CLOSING) :])
    other = Head(1, 2, bytes(32), journal.own.sign(b"something else"))
    closing["head"]["signature"] = other.as_json()["signature"]
    changed = resealed(lines, journal.own.sign, CLOSING + compact(closing) + b"\n")
    assert "head is not signed" in said(changed, journal.public)


def test_a_checkpoint_with_another_count_is_no_checkpoint(journal: Journal) -> None:
    """The head in it is signed; that the tenant had fewer events than it had is not."""
    kept = json.loads(journal.kept())
    kept["closing"]["count"] -= 1
    lines = journal.pack(at=[journal.head.size])
    assert "not signed by the key" in said(lines, journal.public, [compact(kept)])


# -- what is recorded --------------------------------------------------------------------------------------------------


def _verdict(**changed: Any) -> Verdict:
    values: dict[str, Any] = {
        "subject": "system@acme", "action": "workload.place", "place": "site:glomfjord", "allowed": True,
        "reasons": ("somebody said so",), "policy": RULES, "facts": digest_of({"said": "so"}),
    }  # fmt: skip
    return Verdict(**(values | changed))


def _placed(verdict: str) -> ev.PlacementMade:
    where = (PlacementId("acme-99.1"), WorkloadId("acme-99"), TenantId(ACME), SiteId("glomfjord"))
    return ev.PlacementMade(*where, (), Digest(verdict), 1)


LIES: list[tuple[str, Verdict | None, Callable[[str], ev.Event], str]] = [
    ("a verdict that was never recorded", None, lambda _: _placed("ab" * 32), "is not shown before it"),
    ("no verdict at all", None, lambda _: _placed(""), "without a verdict"),
    ("a verdict that forbids it", _verdict(allowed=False), _placed, "is against the verdict"),
    ("a verdict about another site", _verdict(place="site:loughton"), _placed, "about something else"),
    ("a verdict about another tenant", _verdict(subject="system@gamma"), _placed, "about something else"),
    ("a verdict about another right", _verdict(action="workload.read"), _placed, "about something else"),
    (
        "a refusal by a verdict that allows it",
        _verdict(),
        lambda name: ev.WorkloadRefused(WorkloadId("acme-99"), "JURISDICTION", "no", (name,)),
        "is against the verdict",
    ),
    (
        "stopped by a verdict that forbids it",
        _verdict(allowed=False),
        lambda name: ev.StopRequested(WorkloadId("acme-1"), name),
        "is against the verdict",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "event", "word"), [one[1:] for one in LIES], ids=[one[0] for one in LIES]
)
def test_a_decision_that_rests_on_nothing_that_allows_it(
    journal: Journal, tmp_path: Path, verdict: Verdict | None, event: Callable[[str], ev.Event], word: str
) -> None:
    """It stands in the journal itself, chained and signed; what it rests on does not carry it."""
    at_ms = journal.head.at_ms
    more = [Draft(ev.DecisionRecorded(verdict), at_ms, ("tenant:acme",))] if verdict is not None else []
    more.append(Draft(event(str(verdict.id) if verdict is not None else ""), at_ms, OWN))
    forged = rewritten(journal, tmp_path / "forged", lambda _, draft, salt: (draft, salt), more)
    assert word in said(forged.pack(), forged.public)


def test_a_decision_that_rests_on_what_allows_it_is_believed(journal: Journal, tmp_path: Path) -> None:
    """The same with a verdict that carries it: it is not the form of these that is refused."""
    at_ms, verdict = journal.head.at_ms, _verdict()
    more = [Draft(ev.DecisionRecorded(verdict), at_ms, OWN), Draft(_placed(str(verdict.id)), at_ms, OWN)]
    forged = rewritten(journal, tmp_path / "forged", lambda _, draft, salt: (draft, salt), more)
    assert (
        judged(forged.pack(), forged.public).decisions == judged(journal.pack(), journal.public).decisions + 1
    )


# -- how it is chained -------------------------------------------------------------------------------------------------


def refolded(journal: Journal, folder: Path, change: Callable[[int, bytearray], None]) -> Journal:
    """The same events with headers as ``change`` leaves them: no link is mended, but tree and heads are right."""
    folder.mkdir()
    store, edge, head = SqliteStore(folder / "journal.sqlite"), Frontier(), journal.head
    for group in journal.groups():
        headers, at, offset = bytearray(), 0, 0
        for seq in range(group.first, group.first + group.count):
            end = at + 48 + 56 * group.headers[at + 1]
            length = int.from_bytes(group.bodies[offset + 16 : offset + 20])
            salt, payload = (
                group.bodies[offset : offset + 16],
                group.bodies[offset + 20 : offset + 20 + length],
            )
            header = bytearray(group.headers[at:end])
            change(seq, header)
            edge.append(sha256(b"\0" + header + sha256(salt + payload).digest()).digest())
            headers += header
            at, offset = end, offset + 20 + length
        signature = journal.own.sign(signed_bytes(edge.size, group.head.at_ms, edge.root()))
        head = Head(edge.size, group.head.at_ms, edge.root(), signature)
        store.append(Group(group.first, group.count, bytes(headers), group.bodies, head))
    store.close()
    return Journal(folder / "journal.sqlite", journal.own, head, journal.streams, journal.name)


def _link(header: bytearray) -> int:
    return bytes(header).index(sha256(b"tenant:acme").digest()[:16], 48)


def test_an_event_that_does_not_follow_the_one_before_it(journal: Journal, tmp_path: Path) -> None:
    """Its number is right, and the leaf that it names is another: one was put in the place of one."""
    last = own_seqs(journal)[-1]

    def change(seq: int, header: bytearray) -> None:
        if seq == last:
            header[_link(header) + 30] ^= 1

    forged = refolded(journal, tmp_path / "forged", change)
    assert "does not follow the event before it" in said(forged.pack(), forged.public)


def test_a_number_that_comes_twice(journal: Journal, tmp_path: Path) -> None:
    """The last event has the number of the one before it: two pasts at once."""
    last = own_seqs(journal)[-1]

    def change(seq: int, header: bytearray) -> None:
        if seq == last:
            header[_link(header) + 23] -= 1

    forged = refolded(journal, tmp_path / "forged", change)
    assert "which was at" in said(forged.pack(), forged.public)


def test_an_event_that_is_twice_in_the_stream(journal: Journal, tmp_path: Path) -> None:
    """With two numbers at once: the one behind it could be hidden."""
    last = next(seq for seq in reversed(own_seqs(journal)) if _streams_of(journal, seq) == 2)

    def change(seq: int, header: bytearray) -> None:
        if seq == last:
            link = _link(header)
            other = 48 if link != 48 else 104
            header[other : other + 56] = header[link : link + 56]
            header[other + 23] += 1

    forged = refolded(journal, tmp_path / "forged", change)
    assert said(forged.pack(), forged.public)


def _streams_of(journal: Journal, wanted: int) -> int:
    for group in journal.groups():
        at = 0
        for seq in range(group.first, group.first + group.count):
            if seq == wanted:
                return group.headers[at + 1]
            at += 48 + 56 * group.headers[at + 1]
    raise AssertionError(wanted)


def test_a_time_that_goes_back(journal: Journal, tmp_path: Path) -> None:
    """An event older than the one before it: with such times, one could be moved out of the time that is asked for."""
    last = own_seqs(journal)[-1]

    def change(seq: int, header: bytearray) -> None:
        if seq == last:
            header[16:24] = (1_000).to_bytes(8)

    forged = refolded(journal, tmp_path / "forged", change)
    assert "is older than the one before it" in said(forged.pack(), forged.public)
