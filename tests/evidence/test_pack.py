"""What is in an evidence pack: all of the tenant's, all that it rests on, and nothing of anybody else's."""

import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.authority import Role, Verdict, digest_of
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.events import KIND_OF
from headrace.core.ids import TokenId
from headrace.core.workload import PolicyRef
from headrace.documents import load
from headrace.evidence import pack as form
from headrace.evidence import standalone
from headrace.evidence.closing import closing_in
from headrace.evidence.pack import Sealer, pieces
from headrace.evidence.pack_export import Edge, Folded, export
from headrace.evidence.pack_verify import read_kept, verify_pack
from headrace.journal.codec import Draft, decode
from headrace.journal.merkle import leaf_hash, subtree_root
from headrace.journal.sqlite import SqliteStore
from headrace.policy.engine import policies
from tests.evidence.packs import Lines, World, judged, lived, own_times, rewritten, small
from tests.journal.small import (
    ACME,
    BOREALIS,
    START_MS,
    SeededBytes,
    SetClock,
    begun,
    job,
    keys,
    place,
    submit,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A journal in which everything has happened once."""
    made = lived(tmp_path_factory.mktemp("lived"))
    yield made
    made.control.store.close()


def _shown(lines: Lines) -> list[tuple[int, int, dict[str, Any]]]:
    """Number, kind and payload of each event that a pack shows whole."""
    found = []
    for line in lines:
        if line.startswith(b"event "):
            header, _, payload = line[6:-1].split(b" ", 2)
            found.append((int(header[16:32], 16), int(header[4:8], 16), json.loads(payload)))
    return found


def _texts(lines: Lines) -> dict[str, tuple[str, Any]]:
    found = (line[5:-1].split(b" ", 2) for line in lines if line.startswith(b"text "))
    return {digest.decode(): (source.decode(), json.loads(text)) for digest, source, text in found}


# -- what it has -------------------------------------------------------------------------------------------------------


def test_it_has_every_event_of_the_tenant_as_the_journal_has_it(world: World) -> None:
    """Each with its own payload, in order; and the first event of the journal, which names it."""
    shown = {seq: (kind, says) for seq, kind, says in _shown(world.journal.pack())}
    own = dict(own_times(world.journal))
    events = {one.seq: one.event for group in world.journal.groups() for one in decode(group)}
    assert own.keys() <= shown.keys()
    assert shown[0] == (KIND_OF[ev.JournalOpened], {"journal": "small", "format": 1})
    for seq in own:
        assert shown[seq][0] == KIND_OF[type(events[seq])]
    kinds = {kind for seq, (kind, _) in shown.items() if seq in own}
    wanted = (ev.WorkloadSubmitted, ev.WorkloadRefused, ev.PlacementMade, ev.PlacementEnded, ev.InvoiceIssued)
    assert {KIND_OF[kind] for kind in (*wanted, ev.LogRead, ev.StopRequested, ev.DecisionRecorded)} <= kinds


def test_every_decision_has_its_verdict_its_policy_and_its_facts(world: World) -> None:
    """Each placement's verdict is there with the policy's own rules, the site's facts, and the document that these are from."""
    lines = world.journal.pack()
    found, texts = judged(lines, world.journal.public), _texts(lines)
    verdicts = [says["verdict"] for _, kind, says in _shown(lines) if kind == KIND_OF[ev.DecisionRecorded]]
    assert len(verdicts) == found.verdicts
    assert found.decisions > 10
    places = [one for one in verdicts if one["action"] == "workload.place"]
    assert {one["allowed"] for one in places} == {True, False}
    for one in places:
        assert texts[one["policy"]][1][0] == "policy"
        source, facts = texts[one["facts"]]
        assert facts == {"country": "NO", "energy_source": "hydro"}
        estate = next(line for line in lines if line.startswith(b"header 01010004"))
        assert int(source) == int(estate[7 + 16 : 7 + 32], 16)
    for one in verdicts:
        assert one["policy"] in texts
        assert one["facts"] in texts
    assert any("2 verdicts were computed from them again" in one for one in found.verified)


def test_documents_in_force_are_there_also_from_before_the_time_asked_for(world: World) -> None:
    """The tenant's own document and its contract, with the verdicts by which they were applied; the estate by its digest."""
    lines = world.journal.pack(from_ms=START_MS + 3_600_000)
    documents = [says for _, kind, says in _shown(lines) if kind == KIND_OF[ev.DocumentApplied]]
    assert [(one["kind"], one["name"]) for one in documents] == [("tenant", "acme"), ("contract", "c-acme")]
    found = judged(lines, world.journal.public)
    assert 0 < found.events < len(own_times(world.journal))
    assert any("no other document" in one for one in found.unproven)


LAW = """
kind: policy
name: ours
cedar: |
  @id("at-home") @reason("the site is in Norway, and its energy is hydro")
  permit (principal, action, resource)
  when { resource.country == "NO" && resource.energy_source == "hydro" };
  @id("not-reached") @reason("nobody in the United States reaches it")
  forbid (principal, action, resource)
  unless { resource.exposure.US == "no" };
---
kind: facts
site: glomfjord
facts:
  - {fact: exposure.US, value: "no", source: the register of 2026, as_of: 2026-11-01}
"""


def test_a_policy_in_cedar_and_the_facts_behind_it_are_there_with_their_sources(tmp_path: Path) -> None:
    """The rules word by word, the facts, the document that states them, with its source; decided again from these alone."""
    clock = SetClock()
    store = SqliteStore(tmp_path / "journal.sqlite")
    begun(tmp_path, clock=clock).store.close()
    made = World(Control(store, keys(), clock, random=SeededBytes("cedar"), policies=policies()), clock)
    documents = tuple(c.NormalisedDocument(one.kind, one.name, one.normalised) for one in load(LAW.encode()))
    made.control.execute(SYSTEM, c.ApplyDocuments(documents))
    for policy in ("ours", "nordic-only", "public"):
        submit(made.control, f"by {policy}", job(f"by-{policy}", policy=PolicyRef(profile=policy)))
    assert len(place(made.control)) == 3
    lines = made.journal.pack()
    found, texts = judged(lines, made.journal.public), _texts(lines)
    verdicts = [says["verdict"] for _, kind, says in _shown(lines) if kind == KIND_OF[ev.DecisionRecorded]]
    (one,) = [one for one in verdicts if "policy ours" in one["reasons"][0]]
    _, (language, _, schema, rules) = texts[one["policy"]]
    assert language == "cedar"
    assert texts[rules][1] == documents[0].document["cedar"]
    assert "entity" in texts[schema][1]
    source, facts = texts[one["facts"]]
    assert facts["site.exposure.US"] == "no"
    assert facts["site.country"] == "NO"
    stated = {seq: says for seq, kind, says in _shown(lines) if kind == KIND_OF[ev.DocumentApplied]}
    assert stated[int(source)]["document"]["facts"][0]["source"] == "the register of 2026"
    assert found.verified[4].endswith("3 verdicts were computed from them again")
    assert not any("not shown" in one for one in found.unproven)
    # Whoever else is under a policy of its own: neither its rules nor what was stated for it are in here.
    theirs = b"".join(made.journal.pack(BOREALIS))
    assert b"at-home" not in theirs
    assert b"the register of 2026" not in theirs
    store.close()


def test_a_verdict_that_does_not_follow_from_its_rules_is_found(tmp_path: Path) -> None:
    """The operator records that a place is allowed which its own policy forbids: the rules say otherwise, whoever signs."""
    made = small(tmp_path)
    policy, facts = digest_of(["policy", "countries:SE", ["SE"]]), {"country": "NO", "energy_source": "hydro"}
    reasons = ("policy countries:SE allows it",)
    verdict = Verdict(
        "system@acme", "workload.place", "site:glomfjord", True, reasons, policy, digest_of(facts)
    )
    lie = Draft(ev.DecisionRecorded(verdict), made.journal.head.at_ms, ("tenant:acme", "operator"))
    journal = rewritten(made.journal, tmp_path / "more", lambda _, draft, salt: (draft, salt), [lie])
    with pytest.raises(HeadraceError, match="does not follow from policy and facts"):
        verify_pack(iter(journal.pack()), journal.public)
    made.control.store.close()


def test_the_verdict_of_the_operator_about_a_tenant_is_in_its_pack(tmp_path: Path) -> None:
    """The operator stops a workload by its own right: that verdict is in the operator's stream, and shown all the same."""
    made = small(tmp_path)
    (work,) = submit(made.control, "stopped", job("stopped"))
    made.control.execute(SYSTEM, c.Stop(work))
    made.control.commit()
    lines = made.journal.pack()
    judged(lines, made.journal.public)
    verdicts = [says["verdict"] for _, kind, says in _shown(lines) if kind == KIND_OF[ev.DecisionRecorded]]
    assert [one["place"] for one in verdicts if one["action"] == "workload.stop"] == ["workload:acme"]
    made.control.store.close()


def test_a_time_without_events_is_proven_to_have_none(world: World) -> None:
    """The events before and after it follow each other: nothing was between."""
    times = [at_ms for _, at_ms in own_times(world.journal)]
    before, after = next((a, b) for a, b in pairwise(times) if b - a > 1_000)
    found = judged(world.journal.pack(from_ms=before + 1, to_ms=after), world.journal.public)
    assert (found.events, found.decisions) == (0, 0)
    assert not any("came after event" in one for one in found.unproven)


# -- what it has not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tenant", "other"), [(ACME, BOREALIS), (BOREALIS, ACME)])
def test_it_says_nothing_of_other_tenants(world: World, tenant: str, other: str) -> None:
    """Neither a name, nor the id of a stream, nor a payload, nor its salt: of all that is not shown there are hashes alone."""
    lines = world.journal.pack(tenant)
    data = b"".join(lines)
    judged(lines, world.journal.public)
    assert other.encode() not in data
    assert form.stream_of(other).hex().encode() not in data
    assert form.stream_of(tenant).hex().encode() in data
    own = {seq for seq, _ in own_times(world.journal, tenant)}
    streams = {form.stream_of(tenant).hex(), _id("operator"), _id("site:glomfjord")}
    for line in lines:
        if line.startswith((b"event ", b"header ")):
            header = line.split(b" ")[1].decode()
            ids = {header[at : at + 32] for at in range(96, len(header), 112)}
            assert ids <= streams
    # Of the operator's own events those alone that the tenant's rest on.
    kinds = {kind for seq, kind, _ in _shown(lines) if seq not in own}
    assert kinds <= {KIND_OF[one] for one in (ev.JournalOpened, ev.DecisionRecorded, ev.DocumentApplied)}


def _id(stream: str) -> str:
    return sha256(stream.encode()).hexdigest()[:32]


@pytest.mark.parametrize(
    ("detail", "is_withheld"),
    [
        ("a fan", False),
        ("borealis needs it", True),
        ("made room for borealis-12", True),
        ("made room for borealis-12.1", True),
        ("borealissimo", False),
        ("acme asked for it", False),
    ],
)
def test_free_text_that_names_another_tenant_is_withheld_and_said_to_be(
    tmp_path: Path, detail: str, is_withheld: bool
) -> None:
    """What somebody wrote as the reason of a drain may name others: number, links and digest are shown, and not the text."""
    made = small(tmp_path)
    submit(made.control, "drained", job("drained"))
    (placement,) = place(made.control)
    node = made.control.world.state.placements[placement].ranks[0].node
    made.control.execute(SYSTEM, c.SetNodes((node,), "draining", detail, evict=True))  # type: ignore[arg-type]
    made.control.commit()
    lines = made.journal.pack()
    found = judged(lines, made.journal.public)
    assert found.withheld == is_withheld
    assert (detail.encode() in b"".join(lines)) is not is_withheld
    assert any("what 1 events say" in one for one in found.unproven) is is_withheld
    made.control.store.close()


def test_a_tenant_that_nobody_knows_has_no_pack(world: World) -> None:
    """It is named, with those there are; nothing is written."""
    written: list[bytes] = []
    with pytest.raises(HeadraceError) as error:
        export(world.journal.wanted("acmee"), "00", written.append)
    assert "no tenant 'acmee'" in str(error.value)
    assert "Did you mean acme?" in str(error.value)
    assert written == []


@pytest.mark.parametrize(
    ("times", "at", "code", "said"),
    [
        ((5, 5), (), ProblemCode.BAD_INPUT, "ends before it begins"),
        ((0, 1 << 50), (10**6,), ProblemCode.CONFLICT, "it is another one, or was cut"),
    ],
)
def test_what_can_not_be_exported_is_named(
    world: World, times: tuple[int, int], at: tuple[int, ...], code: ProblemCode, said: str
) -> None:
    """A time that is none, and a checkpoint of a longer journal."""
    written: list[bytes] = []
    with pytest.raises(HeadraceError) as error:
        export(world.journal.wanted(ACME, *times, at), "00", written.append)
    assert error.value.problem.code is code
    assert said in str(error.value)
    assert written == []


def test_a_damaged_journal_gives_no_pack(tmp_path: Path) -> None:
    """Its root is not the one that was signed: there is no closing, so that nothing can be sealed."""
    made = small(tmp_path)
    store, last = made.control.store, made.journal.groups()[-1]
    changed = bytes([last.bodies[0] ^ 1]) + last.bodies[1:]
    store.query("update groups set bodies = ? where first = ?", (changed, last.first))
    written: list[bytes] = []
    with pytest.raises(HeadraceError, match="journal verify"):
        export(made.journal.wanted(), "00", written.append)
    sealer = Sealer(made.journal.own.sign)
    sealer.feed(b"".join(written))
    with pytest.raises(ValueError, match="no closing"):
        sealer.end()
    made.control.store.close()


# -- how it is made ----------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 200), shown=st.sets(st.integers(0, 199)), cuts=st.sets(st.integers(1, 199)))
def test_leaves_that_are_folded_give_the_same_tree(size: int, shown: set[int], cuts: set[int]) -> None:
    """Whichever are shown and wherever a run is cut: by the exporter's tree and by that of the verifier that stands alone."""
    leaves = [leaf_hash(b"%d" % one) for one in range(size)]
    ours, theirs, folded = Edge(), standalone.Pack({"tenant": "acme", "from_ms": 0, "to_ms": 1}), Folded()

    def cut() -> None:
        nonlocal folded
        if folded.nodes:
            ours.fold(folded)
            theirs.fold(folded.end, folded.nodes)
        folded = Folded(ours.size)

    for index, leaf in enumerate(leaves):
        if index in shown:
            cut()
            ours.append(leaf)
            theirs.add(leaf, 0)
            folded = Folded(ours.size)
        else:
            folded.add(leaf)
        if index + 1 in cuts:
            cut()
            root = subtree_root(leaves.__getitem__, 0, index + 1)
            assert ours.root() == theirs.root() == root
    cut()
    assert ours.size == theirs.size == size
    assert ours.root() == theirs.root() == subtree_root(leaves.__getitem__, 0, size)


@pytest.mark.parametrize("chunk", [1, 7, 1_000, 1 << 20])
def test_a_sealed_pack_is_the_same_in_whatever_pieces_it_comes(world: World, chunk: int) -> None:
    """Passed on byte by byte or at once; the closing is found at its end."""
    lines = world.journal.pack()
    body = b"".join(lines[:-1])
    sealer = Sealer(world.journal.own.sign)
    out = b"".join(sealer.feed(body[at : at + chunk]) for at in range(0, len(body), chunk)) + sealer.end()
    assert out == b"".join(lines)
    closing = closing_in(out[-10_000:])
    assert closing is not None
    assert closing["tenant"] == "acme"
    assert closing_in(out[-10_000:-1]) is None


def test_the_store_is_read_in_pieces_that_end(world: World, tmp_path: Path) -> None:
    """Between two pieces no reading is open, so that the writer can empty its log; and each event is read once."""
    made = small(tmp_path)
    store = SqliteStore(made.journal.path, readonly=True)
    seen = 0
    for piece in pieces(store, made.journal.head.size):
        for group in piece:
            assert group.first == seen
            seen += group.count
        made.work(1, f"while reading {seen}")
        busy, _, _ = made.control.store.query("pragma wal_checkpoint(truncate)")[0]
        assert busy == 0
    store.close()
    made.control.store.close()


def test_a_pack_made_while_the_journal_grows_is_of_the_head_it_was_asked_for(tmp_path: Path) -> None:
    """What is committed meanwhile is not in it, and does not disturb it."""
    made = small(tmp_path)
    wanted, public = made.journal.wanted(), made.journal.public
    sealer, out = Sealer(made.journal.own.sign), list[bytes]()

    def write(data: bytes) -> None:
        out.append(sealer.feed(data))
        made.work(1, f"while writing {len(out)}")

    figures = export(wanted, public.hex(), write)
    out.append(sealer.end())
    assert judged(b"".join(out).splitlines(keepends=True), public).size == wanted.size
    assert figures.events < len(own_times(made.journal))
    made.control.store.close()


# -- what is kept ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b'{"size":1}',
        b'{"size":1,"at_ms":2,"root":"!","signature":""}',
        b"\xff",
    ],
)
def test_what_is_no_checkpoint_is_named_with_how_to_keep_one(world: World, data: bytes) -> None:
    """A broken file, or another one."""
    with pytest.raises(HeadraceError) as error:
        read_kept(data, world.journal.public, "kept.json")
    assert error.value.problem.code is ProblemCode.BAD_INPUT
    assert "kept.json is no checkpoint. Keep one with" in str(error.value)


def test_what_a_verified_pack_says_to_keep_is_a_checkpoint_for_the_next(tmp_path: Path) -> None:
    """Kept of one pack, it is met in the next, with the number of the tenant's events by then."""
    made = small(tmp_path)
    first = judged(made.journal.pack(), made.journal.public)
    made.work(2, "later")
    second = judged(made.journal.pack(at=[first.size]), made.journal.public, [first.kept])
    assert any(f"{first.events} were the tenant's, as they are now" in one for one in second.verified)
    # A tenant's is no more than a head for another's pack.
    theirs = judged(made.journal.pack(BOREALIS, at=[first.size]), made.journal.public, [first.kept])
    assert any("none of them was rewritten since" in one for one in theirs.verified)
    made.control.store.close()


def test_the_verifiers_know_kinds_by_the_numbers_of_the_journal() -> None:
    """The one that stands alone has its own table, since it imports nothing of the control plane."""
    names = (ev.JournalOpened, ev.DecisionRecorded, ev.WorkloadRefused, ev.PlacementMade)
    told = (standalone.OPENED, standalone.DECIDED, standalone.REFUSED, standalone.PLACED)
    assert told == tuple(KIND_OF[one] for one in names)
    hidden = (ev.PlacementEnded, ev.EvictionRequested, ev.WorkloadRequeued)
    assert {KIND_OF[one] for one in hidden} == form.WITHHELD == standalone.WITHHELD
    for one in hidden:
        assert not {"verdict", "verdicts"} & set(one.__dataclass_fields__)


def test_the_verifier_that_stands_alone_is_short_and_alone() -> None:
    """At most 200 lines; the standard library and `cryptography`; nothing of headrace."""
    text = Path(standalone.__file__).read_text()
    assert len(text.splitlines()) <= 200
    assert "import headrace" not in text
    assert "from headrace" not in text


# -- what is in its stream by now ---------------------------------------------------------------------------------------


def test_what_was_sold_and_whose_token_ended_is_in_its_stream(world: World) -> None:
    """Contracts, reservations with their nodes, revoked tokens: counted, linked and shown; another's are not."""
    control = world.control
    reservation = c.NormalisedDocument(
        "reservation",
        "r-pack",
        {
            "id": "r-pack",
            "tenant": BOREALIS,
            "site": "glomfjord",
            "model": "lab",
            "nodes": 1,
            "starts_ms": control.now_ms() + 60_000,
            "ends_ms": control.now_ms() + 120_000,
        },
    )
    control.execute(SYSTEM, c.ApplyDocuments((reservation,)))
    issued = control.execute(SYSTEM, c.IssueToken("9" * 64, Role.TENANT_MEMBER, BOREALIS))
    assert isinstance(issued, c.Named)
    control.execute(SYSTEM, c.RevokeToken(TokenId(issued.name)))
    control.execute(SYSTEM, c.RemoveDocument("reservation", "r-pack"))
    control.commit()
    report = judged(world.journal.pack(BOREALIS), world.journal.public)
    assert report.tenant == BOREALIS
    own = {seq for seq, _ in own_times(world.journal, BOREALIS)}
    kinds = {one.seq: one.event for group in world.journal.groups() for one in decode(group)}
    mine = [kinds[seq] for seq in own]
    assert {type(one) for one in mine} >= {ev.NodesReserved, ev.TokenRevoked, ev.DocumentRemoved}
    sold = {(one.kind, one.name) for one in mine if isinstance(one, ev.DocumentApplied)}
    assert {("contract", "c-borealis"), ("reservation", "r-pack")} <= sold
    assert "r-pack" not in str(world.journal.pack(ACME))
