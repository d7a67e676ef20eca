"""What of a journal a tenant's pack shows: found in one reading of headers, in which only what may matter is decoded.

The tenant's own events of the time asked for are shown whole; so are the verdicts that they rest on, and the tenant's documents
that were in force, whenever they were recorded. The tenant's events next to that time, its last one, and the last one before each
checkpoint are shown without what they say: they prove that nothing lies between.
"""

import json
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from headrace.core import events as ev
from headrace.core.authority import Verdict
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.evidence.pack import FIXED, LINK, Groups, Wanted, canonical, pieces, stream_of
from headrace.evidence.pack_law import FOLLOWED, Grounds, Law
from headrace.evidence.pack_texts import SHOWN, Document, Texts, is_disclosed, texts_for
from headrace.journal.codec import Group, Head, decode

DECIDED = ev.KIND_OF[ev.DecisionRecorded]
_LOOKED_AT = FOLLOWED | {DECIDED}


class _Rests(msgspec.Struct):
    """What an event rests on."""

    verdict: str = ""
    verdicts: tuple[str, ...] = ()


_rests = msgspec.json.Decoder(_Rests).decode


@dataclass(slots=True)
class Selection:
    """``whole`` and ``headers``: numbers of events that are shown besides the tenant's own of the time asked for.

    ``texts``: by digest, with the event that each is from. ``others``: names of other tenants. ``decisions``: events of the
    tenant's, in that time, that rest on a verdict.
    """

    head: Head
    journal: str
    whole: set[int]
    headers: set[int]
    texts: Texts
    others: frozenset[str]
    decisions: int


@dataclass(slots=True)
class _Seen:
    """What a reading of the journal collects."""

    wanted: Wanted
    stream: bytes
    journal: str = ""
    head: Head | None = None
    own: int = 0
    decisions: int = 0
    before: int | None = None
    after: int | None = None
    last: int | None = None
    at_checkpoints: dict[int, int] = field(default_factory=dict)
    refs: set[str] = field(default_factory=set)
    verdicts: dict[str, tuple[int, Verdict]] = field(default_factory=dict)
    law: Law = field(default_factory=Law)
    grounds: list[Grounds] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    shown: dict[int, Document] = field(default_factory=dict)
    removed: list[tuple[int, str, str]] = field(default_factory=list)
    tenants: set[str] = field(default_factory=set)
    at_ms: dict[int, int] = field(default_factory=dict)

    def group(self, group: Group) -> None:
        """Look through a group: nearly all of it is passed over by its headers."""
        headers, bodies, stream = group.headers, group.bodies, self.stream
        is_own_here = stream in headers
        at = offset = 0
        for seq in range(group.first, group.first + group.count):
            kind = int.from_bytes(headers[at + 2 : at + 4])
            end = at + FIXED + LINK * headers[at + 1]
            following = offset + 20 + int.from_bytes(bodies[offset + 16 : offset + 20])
            is_own = is_own_here and any(
                headers.startswith(stream, link) for link in range(at + FIXED, end, LINK)
            )
            if is_own:
                self._own(
                    seq, kind, int.from_bytes(headers[at + 16 : at + 24]), bodies[offset + 20 : following]
                )
            if kind in _LOOKED_AT:
                alone = Group(seq, 1, headers[at:end], bodies[offset:following], group.head)
                self._other(next(decode(alone)), bodies[offset + 20 : following])
            at, offset = end, following
        self.head = group.head

    def _own(self, seq: int, kind: int, at_ms: int, payload: bytes) -> None:
        wanted = self.wanted
        self.own += 1
        self.last = seq
        for size in wanted.checkpoints:
            if seq < size:
                self.at_checkpoints[size] = seq
        if at_ms < wanted.from_ms:
            self.before = seq
        elif at_ms >= wanted.to_ms:
            self.after = seq if self.after is None else self.after
        elif kind == DECIDED:
            self.refs.add(_name_of(payload))
        else:
            found = _rests(payload)
            names = found.verdicts or ((found.verdict,) if found.verdict else ())
            self.refs.update(names)
            self.decisions += bool(names)

    def _other(self, one: ev.Committed, payload: bytes) -> None:
        event = one.event
        if isinstance(event, ev.DecisionRecorded):
            self.verdicts.setdefault(_name_of(payload), (one.seq, event.verdict))
            if event.verdict.subject.endswith(f"@{self.wanted.tenant}"):
                self.grounds += self.law.grounds(one.at_ms, event.verdict)
            return
        self.law.follow(one)
        if isinstance(event, ev.JournalOpened):
            self.journal = event.journal
        elif isinstance(event, ev.DocumentRemoved):
            self.removed.append((one.seq, event.kind, event.name))
            self.at_ms[one.seq] = one.at_ms
        elif isinstance(event, ev.DocumentApplied):
            self._applied(one.seq, one.at_ms, event)

    def _applied(self, seq: int, at_ms: int, event: ev.DocumentApplied) -> None:
        one = Document(seq, event.kind, event.name, event.verdict)
        if is_disclosed(event.kind, event.name, event.document, self.wanted.tenant):
            self.documents.append(one)
            self.at_ms[seq] = at_ms
        if event.kind in SHOWN:
            self.shown[seq] = one
        if event.kind == "tenant":
            self.tenants.add(event.name)


def _name_of(payload: bytes) -> str:
    """What a verdict is called by what rests on it: the digest of its values as they stand, also of an older version's."""
    return sha256(canonical(list(json.loads(payload)["verdict"].values()))).hexdigest()


def select(store: Groups, wanted: Wanted) -> Selection:
    """What a pack shows; raises HeadraceError for a tenant or a checkpoint that the journal has not."""
    seen = _Seen(wanted, stream_of(wanted.tenant))
    for piece in pieces(store, wanted.size):
        for group in piece:
            seen.group(group)
    head = seen.head
    if head is None or head.size != wanted.size:
        text = f"the journal has no head of {wanted.size} events."
        raise HeadraceError(Problem(ProblemCode.BROKEN, text, "Try again."))
    if not seen.own:
        raise HeadraceError(unknown("tenant", wanted.tenant, seen.tenants))
    docs = _in_force(seen)
    own = {seen.verdicts[name] for name in seen.refs if name in seen.verdicts}
    texts = texts_for([verdict for _, verdict in sorted(own)], seen.grounds)
    sources = {seq for _, seq in texts.values() if seq is not None}
    docs += [seen.shown[seq] for seq in sorted(sources & seen.shown.keys())]
    # Documents rest on verdicts too, of the operator's rights: those have texts of their own.
    refs = seen.refs | {one.verdict for one in docs if one.verdict}
    decided = sorted(seen.verdicts[name] for name in refs if name in seen.verdicts)
    texts = texts_for([verdict for _, verdict in decided], seen.grounds)
    whole = {0} | {seq for seq, _ in decided} | {one.seq for one in docs}
    marks = (seen.before, seen.after, seen.last, *seen.at_checkpoints.values())
    headers = {seq for seq in marks if seq is not None} | sources
    others = frozenset(seen.tenants - {wanted.tenant})
    return Selection(head, seen.journal, whole, headers - whole, texts, others, seen.decisions)


def _in_force(seen: _Seen) -> list[Document]:
    """The tenant's documents that were in force when the time asked for began, or came in it."""
    wanted = seen.wanted
    current: dict[tuple[str, str], Document] = {}
    shown: list[Document] = []
    gone = dict[int, tuple[str, str]]((seq, (kind, name)) for seq, kind, name in seen.removed)
    applied = {one.seq: one for one in seen.documents}
    for seq in sorted(applied.keys() | gone.keys()):
        if seen.at_ms[seq] >= wanted.to_ms:
            break
        one = applied.get(seq)
        is_before = seen.at_ms[seq] < wanted.from_ms
        if one is None:
            if is_before:
                current.pop(gone[seq], None)
        elif is_before:
            current[one.kind, one.name] = one
        else:
            shown.append(one)
    return [*current.values(), *shown]
