"""Somebody wants to hide one decision from a tenant's auditor: without the operator's keys, with them, or with the journal.

Each attack says what somebody tries and what gives it away. Both verifiers judge each, and must agree.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core import events as ev
from headrace.evidence.standalone import compact
from headrace.journal.codec import Draft, Head, signed_bytes
from headrace.journal.merkle import leaf_hash
from tests.evidence.packs import (
    Change,
    Journal,
    Lines,
    another_key,
    hiding,
    judged,
    own_seqs,
    own_times,
    resealed,
    rewritten,
    said,
    small,
)
from tests.journal.small import BOREALIS

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    """A journal of two tenants."""
    world = small(tmp_path_factory.mktemp("journal"))
    yield world.journal
    world.control.store.close()


@pytest.fixture(scope="module")
def pack(journal: Journal) -> Lines:
    """Its pack for acme."""
    return journal.pack()


def _events(lines: Lines) -> list[int]:
    return [number for number, line in enumerate(lines) if line.startswith(b"event ")]


def _swapped(lines: Lines, one: int, other: int) -> Lines:
    out = list(lines)
    out[one], out[other] = out[other], out[one]
    return out


def test_a_pack_that_nobody_touched_is_believed(journal: Journal, pack: Lines) -> None:
    """Or all that follows would prove nothing."""
    found = judged(pack, journal.public, [journal.kept(), journal.kept_head()], "acme")
    assert found.events == len(own_seqs(journal))
    assert found.decisions >= 5
    assert said(resealed(pack, journal.own.sign), journal.public) == ""
    assert resealed(pack, journal.own.sign) == pack


# -- without the keys --------------------------------------------------------------------------------------------------


@QUICK
@given(where=st.integers(0, 1 << 30), flip=st.integers(1, 255))
def test_a_byte_that_is_flipped_is_found(journal: Journal, pack: Lines, where: int, flip: int) -> None:
    """Wherever it is: in a hash, a word, a payload, a digit, the seal."""
    data = b"".join(pack)
    where %= len(data)
    changed = data[:where] + bytes([data[where] ^ flip]) + data[where + 1 :]
    assert said(changed.splitlines(keepends=True), journal.public)


@QUICK
@given(where=st.integers(0, 1 << 30), more=st.binary(min_size=1, max_size=4))
def test_a_pack_that_is_cut_or_has_more_in_it_is_found(
    journal: Journal, pack: Lines, where: int, more: bytes
) -> None:
    """Cut anywhere, also between two lines; or with bytes put in anywhere, also after the end."""
    data = b"".join(pack)
    where %= len(data)
    wrong = said(data[:where].splitlines(keepends=True), journal.public)
    assert "cut" in wrong, wrong
    assert said((data[:where] + more + data[where:]).splitlines(keepends=True), journal.public)
    assert said((data + more).splitlines(keepends=True), journal.public)


@QUICK
@given(
    one=st.integers(0, 1 << 20),
    other=st.integers(0, 1 << 20),
    what=st.sampled_from(["drop", "twice", "swap", "move"]),
)
def test_a_line_that_is_dropped_doubled_or_moved_is_found(
    journal: Journal, pack: Lines, one: int, other: int, what: str
) -> None:
    """Events, gaps, texts, the first line and the last."""
    first, second = one % len(pack), other % len(pack)
    out = list(pack)
    match what:
        case "drop":
            out.pop(first)
        case "twice":
            out.insert(second, out[first])
        case "swap":
            out = _swapped(out, first, second)
        case _:
            out.insert(second, out.pop(first))
    assert out == pack or said(out, journal.public)


def test_the_tail_dropped_and_signed_by_another_key_is_found(journal: Journal, pack: Lines) -> None:
    """Somebody takes the last event out and seals it: with a key that is not the operator's."""
    last = _events(pack)[-1]
    forged = resealed(pack[:last] + pack[-2:], another_key().sign)
    assert "stands at the place" in said(forged, journal.public) or "not" in said(forged, journal.public)
    whole = resealed(pack, another_key().sign)
    assert "not what the operator signed" in said(whole, journal.public)
    named = pack[-2].replace(journal.public.hex().encode(), another_key().public.hex().encode())
    named_whole = resealed(pack, another_key().sign, named)
    wrong = said(named_whole, journal.public)
    assert f"signed by the key {another_key().public.hex()[:16]}" in wrong
    assert "Take the key from the operator itself" in wrong


def test_a_pack_cut_where_an_older_head_would_fit_is_found(tmp_path: Path) -> None:
    """What was acknowledged later is cut off at a commit's end, and an older head, rightly signed, is put under it."""
    world = small(tmp_path)
    old_pack, old_head = world.journal.pack(), world.journal.kept_head()
    world.work(1, "later")
    kept = world.journal.kept_head()
    new = world.journal.pack()
    same = next(at for at, (a, b) in enumerate(zip(old_pack, new, strict=False)) if a != b)
    assert same > 5
    cut = new[: len(old_pack) - 2] + new[-2:]
    assert said(cut, world.journal.public)
    # The old pack itself is a right one, of that time: who holds a newer head sees that it is old.
    assert said(old_pack, world.journal.public, [old_head]) == ""
    assert "the checkpoint is of" in said(old_pack, world.journal.public, [kept])
    world.control.store.close()


# -- with the operator's keys ------------------------------------------------------------------------------------------


def test_an_event_in_the_middle_folded_away_is_found_without_a_checkpoint(journal: Journal) -> None:
    """It is hidden among others' leaves, the root is right, and the operator signs: the numbers of the stream give it away."""
    own = own_seqs(journal)
    for hidden in own[1:-1]:
        assert "left out" in said(hiding(journal, {hidden}), journal.public)
    assert "left out" in said(hiding(journal, set(own[3:7])), journal.public)
    assert "left out" in said(hiding(journal, {own[0]}), journal.public)


def test_the_last_event_folded_away_is_found_by_what_was_kept(journal: Journal) -> None:
    """No later event tells of it. What the tenant kept says how many there were; without it, the pack says what is unproven."""
    own = own_seqs(journal)
    forged = hiding(journal, {own[-1]}, [journal.head.size])
    assert "are left out" in said(forged, journal.public, [journal.kept()])
    found = judged(forged, journal.public)
    assert any(f"came after event {own[-2]}" in one for one in found.unproven), found.unproven
    # A head alone says what the journal was, and not how much of it was whose: that is said too.
    plain = judged(forged, journal.public, [journal.kept_head()])
    assert any("no more events at a checkpoint than are shown" in one for one in plain.unproven)
    tail = hiding(journal, set(own[-3:]), [journal.head.size])
    assert "are left out" in said(tail, journal.public, [journal.kept()])


def test_the_last_event_of_a_time_is_proven_by_the_next(journal: Journal) -> None:
    """Asked for a time that is over, the event after it is shown by its header: hiding the last one within is found."""
    times = own_times(journal)
    to_ms = times[len(times) // 2][1] + 1
    whole = journal.pack(to_ms=to_ms)
    found = judged(whole, journal.public)
    assert not any("came after event" in one for one in found.unproven)
    assert 0 < found.events < len(own_seqs(journal))
    inside = [seq for seq, at_ms in times if at_ms < to_ms]
    assert "left out" in said(hiding(journal, {inside[-1]}, to_ms=to_ms), journal.public)


def test_what_an_event_says_can_not_be_withheld(journal: Journal, pack: Lines) -> None:
    """The operator shows a placement's header alone: number, links and root are right, and it is found all the same."""
    for at in _events(pack):
        header, salt, payload = pack[at][6:-1].split(b" ", 2)
        kind = int(header[4:8], 16)
        if kind != ev.KIND_OF[ev.PlacementMade]:
            continue
        body = sha256(bytes.fromhex(salt.decode()) + payload).hexdigest().encode()
        changed = [*pack[:at], b"header " + header + b" " + body + b"\n", *pack[at + 1 :]]
        assert "what it says is hidden" in said(resealed(changed, journal.own.sign), journal.public)
        return
    raise AssertionError("no placement in the pack")


def test_a_payload_put_in_the_place_of_another_is_found(journal: Journal, pack: Lines) -> None:
    """Another text under the same header and salt; or with the other's salt: the leaf is another."""
    events = _events(pack)
    one, other = (pack[at][6:-1].split(b" ", 2) for at in (events[-1], events[-3]))
    for header, salt, payload in (
        (one[0], one[1], other[2]),
        (one[0], other[1], one[2]),
        (other[0], one[1], one[2]),
    ):
        line = b"event " + b" ".join((header, salt, payload)) + b"\n"
        changed = [*pack[: events[-1]], line, *pack[events[-1] + 1 :]]
        assert said(resealed(changed, journal.own.sign), journal.public)


def test_salts_that_are_swapped_are_found(journal: Journal, pack: Lines) -> None:
    """Between any two events that follow each other."""
    events = _events(pack)
    for first, second in pairwise(events):
        one, other = (pack[at].split(b" ", 3) for at in (first, second))
        one[2], other[2] = other[2], one[2]
        changed = list(pack)
        changed[first], changed[second] = b" ".join(one), b" ".join(other)
        assert said(resealed(changed, journal.own.sign), journal.public)


def test_an_event_twice_or_two_in_another_order_is_found_under_a_good_seal(
    journal: Journal, pack: Lines
) -> None:
    """The operator seals it: the tree says otherwise."""
    events = _events(pack)
    for at in events:
        assert "stands at the place" in said(
            resealed([*pack[:at], pack[at], *pack[at:]], journal.own.sign), journal.public
        )
    for one, other in pairwise(events):
        assert said(resealed(_swapped(pack, one, other), journal.own.sign), journal.public)


@QUICK
@given(line=st.integers(0, 1 << 20), word=st.integers(0, 1 << 20), bit=st.integers(0, 1 << 20))
def test_a_bit_of_a_header_salt_payload_or_hash_is_found_under_a_good_seal(
    journal: Journal, pack: Lines, line: int, word: int, bit: int
) -> None:
    """The operator changes what a line says, not how it is written, and seals it: the tree has another root."""
    shown = [at for at, one in enumerate(pack) if one.startswith((b"event ", b"header ", b"gap "))]
    at = shown[line % len(shown)]
    is_gap = pack[at].startswith(b"gap ")
    words = pack[at][:-1].split(b" ", -1 if is_gap else 3)
    place = (2 if is_gap else 1) + word % (len(words) - (2 if is_gap else 1))
    is_raw = place == 3 and not is_gap
    raw = bytearray(words[place] if is_raw else bytes.fromhex(words[place].decode()))
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    words[place] = bytes(raw) if is_raw else raw.hex().encode()
    changed = b"".join([*pack[:at], b" ".join(words) + b"\n", *pack[at + 1 :]])
    assert said(resealed(_split(changed), journal.own.sign), journal.public)


def _split(data: bytes) -> Lines:
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@QUICK
@given(line=st.integers(0, 1 << 20), place=st.integers(0, 1 << 20), value=JSON)
def test_what_has_not_its_form_is_named_and_never_raises(
    journal: Journal, pack: Lines, line: int, place: int, value: Any
) -> None:
    """Any value in the place of any other in any JSON of a pack, under a good seal: both verifiers have a word for it."""
    having = [at for at, one in enumerate(pack) if b"{" in one]
    at = having[line % len(having)]
    begin = pack[at].index(b"{")
    try:
        whole = json.loads(pack[at][begin:])
    except ValueError:
        return
    places = list(_places(whole))
    holder, name = places[place % len(places)]
    if holder[name] == value:
        return
    holder[name] = value
    changed = [*pack[:at], pack[at][:begin] + compact(whole) + b"\n", *pack[at + 1 :]]
    assert said(resealed(changed, journal.own.sign), journal.public)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    names = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for name in names:
        yield value, name
        yield from _places(value[name])


@QUICK
@given(
    at=st.integers(1, 1 << 20),
    word=st.sampled_from([b"event", b"header", b"gap", b"text", b"seal", b"closing", b""]),
    rest=st.lists(
        st.binary(max_size=9) | st.sampled_from([b"00" * 48, b"00" * 16, b"{}", b"-", b"9" * 30]), max_size=4
    ),
)
def test_a_line_of_nonsense_is_named_and_never_raises(
    journal: Journal, pack: Lines, at: int, word: bytes, rest: list[bytes]
) -> None:
    """Put anywhere, under a good seal."""
    at = 1 + at % (len(pack) - 3)
    changed = [*pack[:at], *_split(b" ".join([word, *rest]) + b"\n"), *pack[at:]]
    assert said(resealed(changed, journal.own.sign), journal.public)


def test_the_head_of_another_journal_is_found(journal: Journal, pack: Lines) -> None:
    """Signed by the operator's own key, of as many events: these are not in it."""
    head = journal.head
    root = leaf_hash(b"another journal")
    other = Head(head.size, head.at_ms, root, journal.own.sign(signed_bytes(head.size, head.at_ms, root)))
    closing = pack[-2].replace(compact(head.as_json()), compact(other.as_json()))
    assert closing != pack[-2]
    assert "is not in the journal" in said(resealed(pack, journal.own.sign, closing), journal.public)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"events":', b'"events":1'),
        (b'"decisions":', b'"decisions":1'),
        (b'"withheld":0', b'"withheld":1'),
        (b'"count":', b'"count":1'),
        (b'"journal":"small"', b'"journal":"other"'),
        (b'"tenant":"acme"', b'"tenant":"borealis"'),
        (b'"from_ms":0', b'"from_ms":1'),
        (b'"leaf":"', b'"leaf":"00'),
        (b'"key":"', b'"key":"00'),
    ],
)
def test_a_closing_that_says_what_is_not_shown_is_found(
    journal: Journal, pack: Lines, before: bytes, after: bytes
) -> None:
    """Under a good seal: each figure is counted again."""
    assert before in pack[-2]
    closing = pack[-2].replace(before, after, 1)
    assert (
        "it closes with" in said(resealed(pack, journal.own.sign, closing), journal.public)
        or before == b'"key":"'
    )
    assert said(resealed(pack, journal.own.sign, closing), journal.public)


def test_a_pack_of_another_tenant_under_this_ones_name_is_found(journal: Journal) -> None:
    """Borealis' pack with acme's name in it: nothing in it is of acme's stream."""
    theirs = journal.pack(BOREALIS)
    renamed = [theirs[0].replace(b"borealis", b"acme"), *theirs[1:]]
    closing = theirs[-2].replace(b"borealis", b"acme")
    assert said(resealed(renamed, journal.own.sign, closing), journal.public)


# -- with the journal itself: history is rewritten ---------------------------------------------------------------------


def _as_an_alarm(hidden: int) -> Change:
    """One event becomes an alarm of the operator's: as many events as before, and one decision less."""

    def change(seq: int, draft: Draft, salt: bytes) -> tuple[Draft, bytes]:
        drill = Draft(ev.AlarmRaised(1, "glomfjord", "a drill"), draft.at_ms, ("operator",), b"", 0)
        return (drill if seq == hidden else draft), salt

    return change


def test_history_rewritten_after_a_checkpoint_is_found(journal: Journal, tmp_path: Path) -> None:
    """One decision never was; all is chained and signed anew by the operator. It is a perfect journal, and another one."""
    own = own_seqs(journal)
    hidden = own[len(own) // 2]
    forged = rewritten(
        journal, tmp_path / "forged", lambda seq, draft, salt: None if seq == hidden else (draft, salt)
    )
    at = [forged.head.size]
    assert "is of" in said(forged.pack(at=at), journal.public, [journal.kept_head()])
    padded = rewritten(journal, tmp_path / "padded", _as_an_alarm(hidden))
    lines = padded.pack(at=[journal.head.size])
    for kept in (journal.kept_head(), journal.kept()):
        assert "are not those of the checkpoint" in said(lines, journal.public, [kept])
    # Nothing but what was kept could have told: without it this is plainly said to be unproven.
    found = judged(lines, journal.public)
    assert any("rewritten or left out before the operator made this pack" in one for one in found.unproven)


def test_two_checkpoints_of_one_size_show_two_journals(journal: Journal, pack: Lines, tmp_path: Path) -> None:
    """Two people who hold heads of a journal that was forked find it out by laying them side by side."""
    own = own_seqs(journal)
    forged = rewritten(journal, tmp_path / "forged", _as_an_alarm(own[-1]))
    assert forged.head.size == journal.head.size
    assert said(
        journal.pack(at=[journal.head.size]), journal.public, [journal.kept_head(), forged.kept_head()]
    )


def test_a_checkpoint_that_the_pack_was_not_made_for_says_so(journal: Journal, tmp_path: Path) -> None:
    """It can't be compared inside a gap: that is an error with the next step, and not silently passed over."""
    world = small(tmp_path)
    kept, size_then = world.journal.kept_head(), world.journal.head.size
    world.work(2, "later")
    early = world.journal.pack(from_ms=1 << 49)
    assert "export --checkpoint" in said(early, world.journal.public, [kept])
    at = [size_then]
    assert said(world.journal.pack(from_ms=1 << 49, at=at), world.journal.public, [kept]) == ""
    world.control.store.close()


def test_a_checkpoint_by_another_key_is_no_checkpoint(journal: Journal, pack: Lines) -> None:
    """Whoever wants the comparison to fail, or to hold, can't bring a checkpoint of their own."""
    own, head = another_key(), journal.head
    signature = own.sign(signed_bytes(head.size, head.at_ms, head.root))
    mine = replace(journal, own=own, head=Head(head.size, head.at_ms, head.root, signature))
    for kept in (mine.kept(), mine.kept_head()):
        wrong = said(pack, journal.public, [kept])
        assert "not signed by the key" in wrong, wrong
