"""Evidence is verified offline: whatever is changed in it is found and named, whoever changed it, the operator included."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core.events import KINDS as KINDS_OF_THE_CORE
from headrace.core.power.instruction import InstructionId
from headrace.core.power.reading import PowerReading
from headrace.core.power.settlement import Case, Readings, Settlement, Version, settle
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from headrace.evidence.document import path_of, tree
from headrace.evidence.figures import COUNTS, even, wrong_intervals
from headrace.evidence.verify import KINDS, canonical, root_of, verify
from headrace.journal.codec import signed_bytes
from headrace.journal.keys import Keys
from headrace.journal.merkle import inclusion_proof, leaf_hash, subtree_root
from tests.api.small import Small
from tests.core.power.test_settlement import cases
from tests.evidence.site import resealed, settled

Document = dict[str, Any]
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Small, bytes]]:
    """A control plane and the evidence of its instruction."""
    world, data = settled(tmp_path_factory.mktemp("site"))
    yield world, data
    world.store.close()


def test_what_was_not_changed_verifies_and_says_what_it_does_not_prove(made: tuple[Small, bytes]) -> None:
    """Eight things hold; that the readings are modelled, and what else is the operator's own word, is said."""
    world, data = made
    found = verify(data, world.control.keys.public)
    assert found.wrong == []
    assert len(found.verified) == 8
    assert "modelled) and those behind the baseline are the operator's own word" in found.unproven[0]
    assert any(
        "the watts of its connection and its ramp are the operator's own word" in one
        for one in found.unproven
    )
    assert any("that were passed over were not available" in one for one in found.unproven)
    assert len(found.unproven) == 6


# -- by anybody --------------------------------------------------------------------------------------------------------


@QUICK
@given(where=st.integers(0, 1 << 20), flip=st.integers(1, 255))
def test_any_byte_that_is_flipped_is_found(made: tuple[Small, bytes], where: int, flip: int) -> None:
    """Wherever it lies: in a figure, a name, the signature, or the form of the file."""
    world, data = made
    where %= len(data)
    changed = data[:where] + bytes([data[where] ^ flip]) + data[where + 1 :]
    assert verify(changed, world.control.keys.public).wrong


@QUICK
@given(where=st.integers(0, 1 << 20), more=st.binary(max_size=3))
def test_a_file_that_is_cut_or_has_more_in_it_is_found(
    made: tuple[Small, bytes], where: int, more: bytes
) -> None:
    """Cut anywhere, or with bytes put in anywhere: blanks too, which JSON would not mind."""
    world, data = made
    where %= len(data)
    cut = verify(data[:where], world.control.keys.public)
    assert "cut" in cut.wrong[0] or "not written" in cut.wrong[0]
    if more:
        longer = data[:where] + more + data[where:]
        assert longer == data or verify(longer, world.control.keys.public).wrong


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@QUICK
@given(part=st.integers(0, 1 << 20), value=JSON)
def test_what_has_not_its_form_is_found_and_never_raises(
    made: tuple[Small, bytes], part: int, value: Any
) -> None:
    """Any value in the place of any other, down to the last leaf."""
    world, data = made
    sealed = json.loads(data)
    places = list(_places(sealed))
    holder, name = places[part % len(places)]
    if holder[name] == value:
        return
    holder[name] = value
    assert verify(canonical(sealed) + b"\n", world.control.keys.public).wrong
    assert verify(canonical(value), world.control.keys.public).wrong


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    names = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for name in names:
        yield value, name
        yield from _places(value[name])


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (b'"limit_w":2000', b'"limit_w":2001', "instruction: not as it was signed"),
        (b'"compliance":"yes"', b'"compliance":"no"', "intervals: not as it was signed"),
        (b'"zone":"Europe/Oslo"', b'"zone":"Europe/Rome"', "site: not as it was signed"),
        (
            b'"format":"headrace settlement evidence 2"',
            b'"format":"headrace settlement evidence 1"',
            "format: ",
        ),
        (b'{"document":', b'{ "document":', "not written in the one way"),
        (b'"take":1}', b'"take":1,"take":1}', "not written in the one way"),
    ],
)
def test_who_has_not_the_key_changes_nothing_unseen(
    made: tuple[Small, bytes], before: bytes, after: bytes, named: str
) -> None:
    """The signature fails where the document changed, and the part that was changed is named."""
    world, data = made
    assert before in data
    wrong = verify(data.replace(before, after, 1), world.control.keys.public).wrong
    assert any(named in one for one in wrong), wrong
    assert any(one.startswith("signature") for one in wrong) == ("written" not in named)


def test_another_key_is_named(made: tuple[Small, bytes], tmp_path: Path) -> None:
    """Given the wrong key, and signed anew with another one: both are found."""
    world, data = made
    other = Keys.open(tmp_path / "keys")
    assert [one.partition(":")[0] for one in verify(data, other.public).wrong] == ["key", "signature"]
    sealed = json.loads(data)
    sealed["signature"] = other.sign(
        b"headrace settlement evidence 2\x00" + canonical(sealed["document"])
    ).hex()
    sealed["key"] = other.public.hex()
    wrong = verify(canonical(sealed) + b"\n", world.control.keys.public).wrong
    assert [one.partition(":")[0] for one in wrong] == ["key", "signature"]
    assert verify(data, b"\0" * 32).wrong


# -- by the operator ---------------------------------------------------------------------------------------------------


def _breach(document: Document) -> None:
    """The meter showed more than the limit, and the document says that it complied."""
    document["readings"].insert(-1, [document["readings"][-1][0] - 600_000, 2_500, "modelled"])


def _swap(document: Document) -> None:
    rows = document["intervals"]
    rows[1], rows[2] = rows[2], rows[1]


def _shift(document: Document) -> None:
    """Every window of the baseline after the instruction."""
    for row in document["intervals"]:
        row["basis"][0][0] += 7_200_000
        row["basis"][0][1] += 7_200_000


def _windows(*basis: list[int], method: str = "") -> Callable[[Document], object]:
    """Other windows behind every baseline, and all figures that follow from them; ``R`` is added to negative times."""

    def change(document: Document) -> None:
        if method:
            named = {"asked": method, "method": method, "reasons": []}
            document["baseline"] |= named | {"take": COUNTS[method][0], "adjustment": None}
        take, received_ms = (
            document["baseline"]["take"],
            document["instruction"]["versions"][0]["received_ms"],
        )
        moved = [[at + received_ms if at <= 0 else at for at in one[:2]] + one[2:] for one in basis]
        for row in document["intervals"]:
            means = sorted((even(one[2], one[3]) for one in moved), reverse=True)[:take]
            row["basis"], row["baseline_w"] = moved, even(sum(means), take)
            row["reduction_mj"] = row["baseline_w"] * row["held_known_ms"] - row["held_energy_mj"]
            row["reduction_w"] = (
                even(row["reduction_mj"], row["held_known_ms"]) if row["held_known_ms"] else None
            )
        document["totals"]["reduction_mj"] = sum(row["reduction_mj"] for row in document["intervals"])

    return change


YEAR = 365 * MS_PER_DAY


def _other_head(document: Document) -> None:
    document["journal"]["head"]["root"] = b64encode(bytes(32)).decode()


LIES: list[tuple[str, Callable[[Document], object], str]] = [
    ("an interval is left out", lambda d: d["intervals"].pop(1), "intervals: not the"),
    ("the last one is left out", lambda d: d["intervals"].pop(), "intervals: not the"),
    ("two change places", _swap, "in order: one is missing or misplaced"),
    ("one comes twice", lambda d: d["intervals"].insert(1, d["intervals"][1]), "intervals: not the"),
    ("energy", lambda d: d["intervals"][1].update(energy_mj=1), "energy_mj is 1, and"),
    ("a sum", lambda d: d["totals"].update(energy_mj=1), "totals: energy_mj is 1"),
    ("a count", lambda d: d["totals"].update(yes=9), "totals: yes is 9"),
    ("the saving", lambda d: d["totals"].update(reduction_mj=10**9), "totals: reduction_mj"),
    ("an interval's saving", lambda d: d["intervals"][1].update(reduction_mj=10**9), "reduction_mj is 1000000000"),
    ("the highest reading", lambda d: d["intervals"][1].update(highest_w=9), "highest_w is 9, and"),
    ("above the limit", _breach, "compliance is 'yes', and 'no' follows"),
    ("a baseline", lambda d: d["intervals"][1].update(baseline_w=9_999), "baseline_w is 9999, and"),
    ("its window", lambda d: d["intervals"][1]["basis"][0].__setitem__(2, 10**12), "follows from its windows"),
    ("a window that is not past", _shift, "a window of its baseline is not in the past"),
    ("the method", lambda d: d["baseline"].update(method="high-5-of-10"), "that is not how high-5-of-10 is made"),
    ("a millisecond, ten times", _windows(*[[1, 2, 3_000_000, 1]] * 10, method="high-5-of-10"), "not on an earlier day"),
    ("the same, of 1970", _windows(*[[1, 2, 3_000_000, 1]] * 10, method="high-5-of-10"), "more than 60 days back"),
    ("an hour of a year ago", _windows([-YEAR, MS_PER_HOUR - YEAR, 10**10, MS_PER_HOUR]), "not the 3600 s before"),
    (
        "a minute of a year ago",
        _windows([-YEAR, MS_PER_MINUTE - YEAR, 1_800_000_000, MS_PER_MINUTE], method="minute-before"),
        "not the 60 s before",
    ),
    ("one known millisecond", _windows([-MS_PER_HOUR, 0, 1 << 60, 1]), "less than nine tenths"),
    ("more known than there is", _windows([-MS_PER_HOUR, 0, 10**10, MS_PER_HOUR + 1]), "of its 3600000 known"),
    ("a minute that was not so", _windows([-60_000, 0, 9_000 * 60_000, 60_000], method="minute-before"), "and the readings"),
    ("no such zone", lambda d: d["site"].update(zone="Mars/Phobos"), "no time zone 'Mars/Phobos'"),
    ("an interval that there is not", lambda d: d.update(interval_ms=1_000), "none of 5, 15, 30 and 60 minutes"),
    ("readings that hold for ever", lambda d: d.update(hold_ms=10**9), "hold_ms: 1000000000 is not 60000"),
    ("its reasons", lambda d: d["baseline"].update(reasons=[]), "passed over"),
    ("the limit", lambda d: d["instruction"]["versions"][0].update(limit_w=3_000), "not what its events say"),
    ("when it came", lambda d: d["instruction"]["versions"][0].update(received_ms=0), "not what its events say"),
    ("when it ended", lambda d: d["instruction"]["versions"][0].update(ended_ms=1), "not what its events say"),
    ("another's events", lambda d: d["instruction"].update(id="morning"), "about another instruction"),
    ("another site's", lambda d: d["site"].update(id="loughton"), "not what its events say"),
    ("not final", lambda d: d.update(final=False), "until_ms, final"),
    ("readings in disorder", lambda d: d["readings"].reverse(), "readings: they are not in order"),
    ("what is stale as measured", lambda d: d["readings"][1].__setitem__(2, "stale"), "and 'unknown' follows"),
    ("a journal's name", lambda d: d["journal"].update(name="other"), "does not name it other"),
    ("a root", _other_head, "its head is not signed"),
    ("a size", lambda d: d["journal"]["head"].update(size=10**6), "its head is not signed"),
    ("the key", lambda d: d["journal"].update(key="00" * 32), "key: the document names another"),
    ("an event's time", lambda d: d["events"][2].update(at_ms=5), "its header says another kind, number or time"),
    ("its kind", lambda d: d["events"][2].update(kind="PlacementEnded"), "another kind, number or time"),
    ("its path", lambda d: d["events"][2]["path"].pop(), "not in the journal whose head this is"),
    ("its leaf", lambda d: d["events"][2].update(leaf=d["events"][1]["leaf"]), "its leaf is not"),
    ("its body", lambda d: d["events"][2].update(body=d["events"][1]["body"]), "not in the journal whose head"),
    ("a payload", lambda d: d["events"][1].update(payload=d["events"][0]["payload"]), "not what the journal holds"),
    ("an event twice", lambda d: d["events"].insert(2, d["events"][2]), "comes twice"),
    ("no journal", lambda d: d["events"].pop(0), "does not name it"),
]  # fmt: skip
"""What an operator may sign, how, and what is said of it."""


@pytest.mark.parametrize(("change", "named"), [one[1:] for one in LIES], ids=[one[0] for one in LIES])
def test_what_does_not_add_up_is_found_under_a_good_signature(
    made: tuple[Small, bytes], change: Callable[[Document], object], named: str
) -> None:
    """The operator signs it, and every digest is right: the figures and the journal say otherwise."""
    world, data = made
    changed = resealed(world, json.loads(data)["document"], change)
    wrong = verify(changed, world.control.keys.public).wrong
    assert any(named in one for one in wrong), wrong
    assert not any(one.startswith("signature") or "as it was signed" in one for one in wrong), wrong


def test_what_no_connection_allowed_is_said_of_a_baseline(made: tuple[Small, bytes]) -> None:
    """An hour of 3 MW before, on a connection of 3.7 kW: no meter says otherwise, and nobody calls it proven."""
    world, data = made
    lie = _windows([-MS_PER_HOUR, 0, 3_000_000 * MS_PER_HOUR, MS_PER_HOUR])
    document = json.loads(data)["document"]
    # Without the readings of that hour the lie can't be computed away.
    begins_ms = document["intervals"][0]["from_ms"]
    document["readings"][0][0] = begins_ms
    found = verify(resealed(world, document, lie), world.control.keys.public)
    assert any("1 windows of the baseline are above the 3700 W" in one for one in found.unproven), found


def test_another_journals_head_is_found(made: tuple[Small, bytes]) -> None:
    """Signed by the operator's own key, of as many events: those of this document are not in it."""
    world, data = made

    def change(document: Document) -> None:
        head = document["journal"]["head"]
        root = leaf_hash(b"another journal")
        signature = world.control.keys.sign(signed_bytes(head["size"], head["at_ms"], root))
        head |= {"root": b64encode(root).decode(), "signature": b64encode(signature).decode()}

    wrong = verify(resealed(world, json.loads(data)["document"], change), world.control.keys.public).wrong
    assert wrong
    assert all(one.endswith("it is not in the journal whose head this is") for one in wrong)


def test_resealing_itself_changes_nothing(made: tuple[Small, bytes]) -> None:
    """The table above would be worth nothing if a document sealed anew failed as such."""
    world, data = made
    assert resealed(world, json.loads(data)["document"], lambda _: None) == data


# -- the verifier itself -----------------------------------------------------------------------------------------------


def test_it_knows_kinds_by_the_numbers_of_the_journal() -> None:
    """The verifier has its own table, since it imports nothing of the control plane."""
    assert {number: KINDS_OF_THE_CORE[number].__name__ for number in KINDS} == KINDS


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13, 32, 33])
def test_paths_are_those_of_the_journals_own_proofs(size: int) -> None:
    """Made level by level, and checked by code of the verifier's own."""
    leaves = [leaf_hash(bytes([one])) for one in range(size)]
    levels, root = tree(leaves), subtree_root(leaves.__getitem__, 0, size)
    for index, leaf in enumerate(leaves):
        path = path_of(levels, index)
        assert path == inclusion_proof(leaves.__getitem__, index, size)
        assert root_of(leaf, index, size, path) == root
        assert root_of(leaf, index + 1, size, path) != root
        assert root_of(leaf, index, size, [*path, leaf]) != root


@settings(max_examples=60, deadline=None)
@given(cases(), cases(), st.sampled_from([0, 0, 7, 60, 500, 4_001]))
def test_the_figures_are_computed_twice_alike(
    case: tuple[list[Version], list[PowerReading], int],
    other: tuple[list[Version], list[PowerReading], int],
    ramp_w: int,
) -> None:
    """What makes the document and what verifies it share no code, and agree on whatever a meter says, on every ramp and beside
    whatever else held.
    """
    versions, given_readings, now_ms = case
    readings = Readings(given_readings, now_ms)
    others = tuple(
        replace(one, instruction=replace(one.instruction, id=InstructionId("other"))) for one in other[0]
    )
    settling = Case(tuple(versions), readings, 900, "UTC", (), ramp_w, others)
    found = settle(settling, 5 * MS_PER_MINUTE, "minute-before")
    if not found.intervals:
        return
    document = json.loads(canonical(plain_document(settling, found)))
    assert wrong_intervals(document) == []


def plain_document(case: Case, found: Settlement) -> Document:
    """What the verifier of intervals reads of a document."""
    readings = case.readings
    return {
        "readings": [[one.at_ms, one.watts, one.source] for one in readings.all],
        "instruction": {
            "id": case.versions[0].instruction.id,
            "versions": [_plain(one) for one in case.versions],
        },
        "overlapping": [_plain(one) for one in case.others],
        "site": {"allowed_w": case.allowed_w, "ramp_down_w_per_minute": case.ramp_down_w},
        "hold_ms": readings.hold_ms,
        "as_of_ms": readings.known_until_ms,
        "interval_ms": found.interval_ms,
        "until_ms": found.until_ms,
        "final": found.final,
        "intervals": [asdict(one) for one in found.intervals],
    }


def _plain(one: Version) -> Document:
    return {**asdict(one.instruction), "received_ms": one.received_ms, "ended_ms": one.ended_ms}
