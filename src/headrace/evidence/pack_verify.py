"""Verify an evidence pack offline: the file, the operator's public key, and what somebody kept outside of the journal.

It names the line and the event where something is wrong, computes again what it can of the verdicts, and says what is unproven.
Beside it stands `standalone.py`, which shares no code with it and which an auditor can read; a test holds them to one answer.
"""

import json
from base64 import b64decode
from binascii import Error as Base64Error
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is a class
from typing import Any, NoReturn

import msgspec

from headrace.core import events as ev
from headrace.core.authority import Policy, Request, Role, Subject, Target, Verdict
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import TenantId
from headrace.evidence.closing import CLOSING
from headrace.evidence.pack import (
    FIXED,
    FORMAT,
    KEPT,
    LINK,
    WITHHELD,
    Kept,
    canonical,
    kept_of,
    seal_message,
    stream_of,
)
from headrace.journal.codec import signed_bytes
from headrace.journal.keys import is_signed
from headrace.journal.merkle import Frontier, node_hash
from headrace.policy.engine import policies

NO_LEAF = bytes(32)
_AT_ONCE = 256
_HEADER = Struct(">BBH4xQQ")
"""Version, number of streams, kind, number and time."""
OPENED, DECIDED, APPLIED, REFUSED, PLACED = (
    ev.KIND_OF[kind]
    for kind in (
        ev.JournalOpened,
        ev.DecisionRecorded,
        ev.DocumentApplied,
        ev.WorkloadRefused,
        ev.PlacementMade,
    )
)
ASK_AGAIN = "Ask the operator for it again."
DO_NOT_RELY = "Do not rely on it; ask the operator why."
_FORM = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError),
    *(StructError, msgspec.MsgspecError),
)
"""What an operation raises on a pack that has not its form."""


class _Says(msgspec.Struct):
    """What matters of an event's payload."""

    verdict: str = ""
    verdicts: tuple[str, ...] = ()
    tenant: str = ""
    site: str = ""


class _Opened(msgspec.Struct):
    journal: str


_says = msgspec.json.Decoder(_Says).decode
_opened = msgspec.json.Decoder(_Opened).decode
JUDGED = frozenset({"workload.place", "data.copy"})
"""Actions whose verdicts are decided again from the policy and the facts that are shown."""


@dataclass(slots=True)
class Report:
    """What a pack proves. ``kept`` is what to keep of it; ``head_at_ms`` the time of the head that it is of."""

    tenant: str
    journal: str
    from_ms: int
    to_ms: int
    size: int
    head_at_ms: int
    events: int
    decisions: int
    withheld: int
    verdicts: int
    texts: int
    kept: bytes = b""
    verified: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)


def when(at_ms: int) -> str:
    """A time as people read it; the number itself where no calendar has it."""
    try:
        return (
            datetime.fromtimestamp(at_ms / 1000, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z")
        )
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"


def _wrong(text: str, step: str = DO_NOT_RELY, where: str = "") -> NoReturn:
    raise HeadraceError(Problem(ProblemCode.BROKEN, f"{text}.", step, where))


def read_kept(data: bytes, public: bytes, name: str) -> Kept:
    """A file that was kept: a head of the journal (alone, or as ``head`` in an answer of the API), or a pack's closing.

    Raises HeadraceError when it is neither, or not signed by the operator.
    """
    try:
        found = json.loads(data)
        closing = found.get("closing") if found.get("format") == KEPT else None
        head = closing["head"] if closing else found.get("head", found)
        root, signature = b64decode(head["root"], validate=True), b64decode(head["signature"], validate=True)
        message = signed_bytes(head["size"], head["at_ms"], root)
        kept = Kept(head["size"], head["at_ms"], root)
        sealed = None
        if closing:
            message_of = seal_message(unhexlify(found["pack"]), canonical(closing))
            sealed = (message_of, unhexlify(found["signature"]))
            kept.tenant, kept.count, kept.leaf = closing["tenant"], closing["count"], closing["leaf"]
    except (*_FORM, Base64Error):
        step = "Keep one with 'headrace journal head', 'headrace status --json' or 'headrace evidence verify --keep'."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"{name} is no checkpoint.", step)) from None
    if not is_signed(public, message, signature) or (sealed and not is_signed(public, *sealed)):
        step = "It was changed, or another operator's: keep one of this operator."
        _wrong(f"the checkpoint {name} is not signed by the key {public.hex()[:16]}...", step)
    return kept


class _Reader:
    """What was read of a pack so far."""

    def __init__(self, asked: dict[str, Any], kept: Sequence[Kept]) -> None:
        self.tenant, self.from_ms, self.to_ms = asked["tenant"], asked["from_ms"], asked["to_ms"]
        is_form = len(asked) == 3 and type(self.from_ms) is type(self.to_ms) is int
        if not is_form or not isinstance(self.tenant, str) or self.from_ms >= self.to_ms:
            raise ValueError("the first line does not say whose it is, and from when to when")
        self.stream = stream_of(self.tenant)
        self.edge, self.at_ms, self.journal = Frontier(), 0, ""
        self.count, self.leaf, self.last_ms = 0, NO_LEAF, -1
        self.events = self.decisions = self.withheld = 0
        self.verdicts: dict[str, Verdict] = {}
        self.documents: set[int] = set()
        self.named: set[str] = set()
        self.texts: dict[str, Any] = {}
        self.last_seq: int | None = None
        self.met: list[tuple[Kept, int | None]] = []
        self.roots = {one.size: one for one in kept}
        self.leaves = {one.count: one.leaf for one in kept if one.tenant == self.tenant and one.count}

    def line(self, line: bytes) -> None:
        """One line between the first and the closing."""
        if line.startswith(b"event "):
            _, header, salt, payload = line.split(b" ", 3)
            payload = payload[:-1]
            self._event(unhexlify(header), sha256(unhexlify(salt) + payload).digest(), payload)
        elif line.startswith(b"gap "):
            self._gap(line[4:-1])
        elif line.startswith(b"header "):
            _, header, body = line[:-1].split(b" ")
            self._event(unhexlify(header), unhexlify(body), None)
        elif line.startswith(b"text "):
            self._text(*line[5:-1].split(b" ", 2))
        else:
            raise ValueError(f"no line of a pack begins with {line[:20]!r}")
        if self.edge.size in self.roots:
            self._meet(self.roots.pop(self.edge.size))

    def _meet(self, kept: Kept) -> None:
        """As many events as there were at a checkpoint."""
        if self.edge.root() != kept.root:
            step = "Show the operator both: the journal was rewritten since the checkpoint was given out, or is another one."
            _wrong(f"the first {kept.size} events are not those of the checkpoint", step)
        if kept.tenant == self.tenant and kept.count != self.count:
            text = f"at the checkpoint of {kept.size} events the tenant's stream had {kept.count}, and {self.count} are shown"
            _wrong(text, "Show the operator both: events of the tenant's are left out.")
        self.met.append((kept, self.last_seq))

    def _gap(self, rest: bytes) -> None:
        """Leaves that are not shown: each hash is of the largest subtree that begins where it stands and ends within the gap."""
        edge = self.edge
        end, *nodes = rest.split(b" ")
        last = int(end)
        for node in nodes:
            place, left = edge.size, last - edge.size
            if left <= 0 or len(node) != 64:
                raise ValueError("a gap with more hashes than it has subtrees")
            height = left.bit_length() - 1
            if place:
                height = min(height, (place & -place).bit_length() - 1)
            found, at = unhexlify(node), place >> height
            while at & 1:
                found, at = node_hash(edge.peaks.pop(), found), at >> 1
            edge.peaks.append(found)
            edge.size += 1 << height
        if edge.size != last or not nodes:
            raise ValueError("a gap with fewer hashes than it has subtrees")

    def _event(self, header: bytes, body: bytes, payload: bytes | None) -> None:
        version, streams, kind, seq, at_ms = _HEADER.unpack_from(header)
        if version != 1 or len(header) != FIXED + LINK * streams or len(body) != 32:
            raise ValueError("a header of another length than it says")
        if seq != self.edge.size or at_ms < self.at_ms:
            self._misplaced(seq)
        self.at_ms = at_ms
        leaf = sha256(b"\x00" + header + body).digest()
        self.edge.append(leaf)
        place = self._place(header)
        is_own = bool(place) and self.from_ms <= at_ms < self.to_ms
        if place:
            self._follow(seq, at_ms, header[place + 16 : place + LINK], leaf)
        if is_own:
            self.events += 1
            if payload is None:
                self.withheld += 1
                if kind not in WITHHELD:
                    _wrong(f"event {seq} is of the tenant's stream, and what it says is hidden")
        if kind == APPLIED:
            self.documents.add(seq)
        if payload is not None:
            self._says(seq, kind, payload, is_own)

    def _misplaced(self, seq: int) -> NoReturn:
        if seq == self.edge.size:
            _wrong(f"event {seq} is older than the one before it")
        _wrong(
            f"event {seq} stands at the place of event {self.edge.size}: events are missing, added or misplaced"
        )

    def _place(self, header: bytes) -> int:
        """Where in a header the link to the tenant's stream begins; 0 without one."""
        found = header.find(self.stream, FIXED)
        if found < 0 or ((found - FIXED) % LINK == 0 and header.find(self.stream, found + 1) < 0):
            return max(0, found)
        # Something else has the same bytes, or it is there twice.
        places = [at for at in range(FIXED, len(header), LINK) if header.startswith(self.stream, at)]
        if len(places) > 1:
            raise ValueError("a header that is twice in one stream")
        return places[0] if places else 0

    def _follow(self, seq: int, at_ms: int, link: bytes, leaf: bytes) -> None:
        number, before = int.from_bytes(link[:8]), link[8:]
        if number == self.count:
            if before != self.leaf:
                _wrong(f"event {seq} does not follow the event before it in the tenant's stream")
        elif number < self.count:
            _wrong(
                f"event {seq} is number {number} of the tenant's stream, which was at {self.count} already"
            )
        elif at_ms >= self.from_ms and self.last_ms < self.to_ms:
            left_out = number - self.count
            _wrong(
                f"before event {seq}, {left_out} of the tenant's stream may be of the time asked for and are left out"
            )
        self.count, self.leaf, self.last_ms, self.last_seq = number + 1, leaf, at_ms, seq
        kept = self.leaves.pop(self.count, None)
        if kept is not None and kept != leaf.hex():
            _wrong(
                f"event {seq} is not event {number} of the tenant's stream as it was kept: the journal was rewritten"
            )

    def _says(self, seq: int, kind: int, payload: bytes, is_own: bool) -> None:
        if kind == DECIDED:
            self._verdict(payload)
            return
        if kind == OPENED:
            self.journal = _opened(payload).journal if seq == 0 else self.journal
            return
        says = _says(payload)
        names = says.verdicts or ((says.verdict,) if says.verdict else ())
        for name in names:
            verdict = self.verdicts.get(name)
            if verdict is None:
                _wrong(f"event {seq} rests on the verdict {name[:16]}..., which is not shown before it")
            if verdict.allowed is (kind == REFUSED):
                _wrong(f"event {seq} is against the verdict that it rests on ({'; '.join(verdict.reasons)})")
        if kind == PLACED:
            self._placed(seq, says)
        self.decisions += is_own and bool(names)

    def _verdict(self, payload: bytes) -> None:
        """A verdict is named by the digest of its values, in the order in which they stand in its event."""
        values = list(json.loads(payload)["verdict"].values())
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        verdict = msgspec.json.decode(payload, type=ev.DecisionRecorded).verdict
        self.verdicts[sha256(text.encode()).hexdigest()] = verdict
        self.named |= {verdict.policy, verdict.facts}

    def _placed(self, seq: int, says: _Says) -> None:
        if not says.verdict:
            _wrong(f"event {seq} places a workload without a verdict")
        verdict = self.verdicts[says.verdict]
        is_place = (verdict.action, verdict.place) == ("workload.place", f"site:{says.site}")
        if not is_place or {says.tenant, verdict.subject.rpartition("@")[2]} != {self.tenant}:
            _wrong(
                f"event {seq} rests on a verdict about something else ({verdict.subject} at {verdict.place})"
            )

    def _text(self, digest: bytes, source: bytes, text: bytes) -> None:
        name = digest.decode()
        said = json.loads(text)
        ways = [text, said.encode()] if isinstance(said, str) else [text]
        if name not in [sha256(one).hexdigest() for one in ways]:
            _wrong(f"the text of {name[:16]}... has another digest")
        if source != b"-" and int(source) not in self.documents:
            _wrong(
                f"the text of {name[:16]}... is said to be from event {int(source)}, which is no document that is shown"
            )
        if name not in self.named:
            _wrong(f"no verdict names the text of {name[:16]}..., nor does another text")
        if isinstance(said, list | dict):
            self.named |= {one for one in said if isinstance(one, str) and len(one) == 64}
        self.texts[name] = said


def verify_pack(lines: Iterable[bytes], public: bytes, kept: Sequence[Kept] = (), tenant: str = "") -> Report:
    """Verify a pack, line by line, in bounded memory; ``tenant``: whose it should be.

    Raises HeadraceError at the first thing that is wrong, with its line.
    """
    number = 1
    try:
        rest = iter(lines)
        first = next(rest)
        reader = _begin(first, kept, tenant)
        body, waiting = sha256(first), list[bytes]()
        for line in rest:
            number += 1
            if line.startswith(CLOSING):
                body.update(b"".join(waiting))
                return _end(reader, rest, (body.digest(), line[len(CLOSING) : -1]), public)
            if not line.endswith(b"\n"):
                break
            # Many lines at once cost less to digest.
            waiting.append(line)
            if len(waiting) == _AT_ONCE:
                body.update(b"".join(waiting))
                waiting.clear()
            reader.line(line)
    except HeadraceError as error:
        raise HeadraceError(*(_at(one, number) for one in error.problems)) from None
    except StopIteration:
        pass
    except _FORM as error:
        what = str(error) or type(error).__name__
        _wrong(
            f"it has not the form of a pack ({what})",
            "It was changed on its way. " + ASK_AGAIN,
            f"line {number}",
        )
    _wrong("it is cut: its seal is missing", "It did not come whole. " + ASK_AGAIN, f"line {number}")


def _at(problem: Problem, number: int) -> Problem:
    where = problem.where or f"line {number}"
    return Problem(problem.code, problem.message, problem.next_step, where)


def _begin(first: bytes, kept: Sequence[Kept], tenant: str) -> _Reader:
    if not first.startswith(FORMAT) or not first.endswith(b"\n"):
        _wrong("this is no evidence pack, or it is cut in its first line", ASK_AGAIN)
    by_size: dict[int, bytes] = {}
    for one in kept:
        if by_size.setdefault(one.size, one.root) != one.root:
            step = "Show both to the operator, and to who else has one: there are two journals."
            _wrong(f"two checkpoints of {one.size} events, signed by the same key, have other roots", step)
    reader = _Reader(json.loads(first[len(FORMAT) :]), kept)
    if tenant and tenant != reader.tenant:
        _wrong(f"the pack is of the tenant {reader.tenant!r}, not of {tenant!r}", "Ask for the right one.")
    return reader


def _end(reader: _Reader, rest: Iterator[bytes], closing: tuple[bytes, bytes], public: bytes) -> Report:
    """The seal, the head, and whether the closing says what was shown."""
    body, line = closing
    seal = next(rest, b"")
    signature = seal[5:-1]
    if not seal.endswith(b"\n"):
        _wrong("it is cut: its seal is missing", "It did not come whole. " + ASK_AGAIN)
    if (
        not seal.startswith(b"seal ")
        or not seal.endswith(b"\n")
        or len(signature) != 128
        or signature.lower() != signature
    ):
        _wrong("the seal has not its form", "It was changed, or did not come whole. " + ASK_AGAIN)
    if next(rest, None) is not None:
        _wrong("something follows the seal", "It was changed on its way. " + ASK_AGAIN)
    said = json.loads(line)
    if not is_signed(public, seal_message(body, line), unhexlify(signature)):
        named = said.get("key") if isinstance(said, dict) else None
        if named != public.hex():
            step = "Is it this operator's? Take the key from the operator itself, never from the pack."
            _wrong(f"the pack is signed by the key {str(named)[:16]}..., not by {public.hex()[:16]}...", step)
        _wrong("the pack is not what the operator signed", "It was changed on its way. " + ASK_AGAIN)
    head = said["head"]
    _check_head(reader, head, public)
    shown = {
        "tenant": reader.tenant, "from_ms": reader.from_ms, "to_ms": reader.to_ms, "journal": reader.journal,
        "key": public.hex(), "head": head, "count": reader.count, "leaf": reader.leaf.hex(), "events": reader.events,
        "decisions": reader.decisions, "withheld": reader.withheld,
    }  # fmt: skip
    for name in sorted(shown.keys() | said.keys()):
        if shown.get(name) != said.get(name):
            _wrong(f"it closes with {name} {said.get(name)!r}, and shows {shown.get(name)!r}")
    _check_kept(reader, head["size"])
    again = _judge_again(reader)
    return _report(reader, head, again, kept_of(body.hex(), said, signature.decode()))


def _check_head(reader: _Reader, head: dict[str, Any], public: bytes) -> None:
    root, edge = b64decode(head["root"], validate=True), reader.edge
    message = signed_bytes(head["size"], head["at_ms"], root)
    if not is_signed(public, message, b64decode(head["signature"], validate=True)):
        _wrong(f"the journal's head is not signed by the key {public.hex()[:16]}...")
    if head["size"] != edge.size or root != edge.root():
        _wrong(f"what it shows is not in the journal of {head['size']} events whose head it names")
    if not reader.journal:
        _wrong("the first event of the journal, which names it, is not shown")


def _check_kept(reader: _Reader, size: int) -> None:
    left = sorted(reader.roots)
    if left and left[-1] > size:
        step = "Ask for a newer pack; if there is none, the journal was cut."
        _wrong(f"the checkpoint is of {left[-1]} events, and the pack of the first {size}", step)
    if left or reader.leaves:
        step = "Ask for one with 'headrace evidence export --checkpoint FILE'."
        _wrong("the pack was not made to be compared with this checkpoint", step)


def _judge_again(reader: _Reader) -> int:
    """How many verdicts about places follow from the policy and facts that are shown; raises HeadraceError for one that does not.

    Rules in Cedar are decided again by the engine that is here, if it is the one that decided.
    """
    again = 0
    for verdict in reader.verdicts.values():
        policy, facts = (reader.texts.get(one) for one in (verdict.policy, verdict.facts))
        if verdict.action not in JUDGED or not isinstance(policy, list) or not isinstance(facts, dict):
            continue
        allowed = (
            _by_countries(policy, facts)
            if policy[:1] == ["policy"]
            else _by_cedar(reader, policy, verdict, facts)
        )
        if allowed is None:
            continue
        if allowed is not verdict.allowed:
            _wrong(
                f"the verdict about {verdict.place} ({'; '.join(verdict.reasons)}) does not follow from policy and facts"
            )
        again += 1
    return again


def _by_countries(policy: list[Any], facts: dict[str, Any]) -> bool | None:
    if len(policy) != 3 or not isinstance(policy[2], list) or "country" not in facts:
        return None
    return bool(facts["country"]) and (not policy[2] or facts["country"] in policy[2])


def _by_cedar(reader: _Reader, policy: list[Any], verdict: Verdict, facts: dict[str, Any]) -> bool | None:
    """What the rules say; None where they are not shown, or are of another version of engine or schema."""
    source = reader.texts.get(policy[-1]) if policy[:1] == ["cedar"] and isinstance(policy[-1], str) else None
    if not isinstance(source, str):
        return None
    subject = Subject("workload", "", Role.SYSTEM, TenantId(reader.tenant))
    target = Target("site", None, verdict.place.partition(":")[2])
    request = Request(subject, verdict.action, target, facts)
    try:
        found = policies().evaluate(Policy("declared", (), source), request)
    except HeadraceError:
        return None
    return found.allowed if found.policy == verdict.policy else None


def _report(reader: _Reader, head: dict[str, Any], again: int, kept: bytes) -> Report:
    made = Report(
        reader.tenant, reader.journal, reader.from_ms, reader.to_ms, head["size"], head["at_ms"], reader.events,
        reader.decisions, reader.withheld, len(reader.verdicts), len(reader.texts), kept,
    )  # fmt: skip
    span = f"{when(made.from_ms) if made.from_ms else 'the beginning'} to {when(made.to_ms)}"
    made.verified = [
        "the operator signed it, and it is as it was signed",
        f"{made.events} events of {made.tenant}, from {span}: none between them is left out or out of order",
        f"each is, as it is shown, in the journal {made.journal} of {made.size} events, whose head is of {when(head['at_ms'])}",
        f"{made.decisions} decisions rest on {made.verdicts} verdicts that are shown; each placement was allowed at its site",
        f"{made.texts} policies and facts have the digests that verdicts name; {again} verdicts were computed from them again",
        *(_compared(reader, one, seq) for one, seq in reader.met),
    ]
    made.unproven = list(_unproven(reader, made, again))
    return made


def _compared(reader: _Reader, kept: Kept, seq: int | None) -> str:
    start = f"the checkpoint of {kept.size} events, of {when(kept.at_ms)}: none of them was rewritten since"
    if kept.tenant == reader.tenant:
        return f"{start}, and {kept.count} were the tenant's, as they are now"
    return (
        start if seq is None else f"{start}, and the tenant's last one before it that is shown is event {seq}"
    )


def _unproven(reader: _Reader, made: Report, again: int) -> Iterator[str]:
    if not reader.met:
        yield (
            "that nothing was rewritten or left out before the operator made this pack: nobody's checkpoint was given "
            "(--checkpoint); keep this one for the next time (--keep)"
        )
    else:
        newest = max(one.size for one, _ in reader.met)
        yield f"that nothing from event {newest} on was rewritten or left out: the checkpoint ends before it"
        if not any(one.tenant == reader.tenant for one, _ in reader.met):
            yield "that the tenant had no more events at a checkpoint than are shown: only what --keep writes says how many"
    if reader.last_ms < made.to_ms:
        last = "before the journal's head" if reader.last_seq is None else f"after event {reader.last_seq}"
        yield f"that nothing of the tenant's came {last}: the next event will show it; until then it is the operator's word"
    if made.withheld:
        yield f"what {made.withheld} events say: their text may name others; number, time, kind and digest are proven"
    missing = len(reader.named - reader.texts.keys())
    if missing:
        yield f"what {missing} policies or facts are that verdicts name: their texts are not shown"
    places = sum(one.action in JUDGED for one in reader.verdicts.values())
    if places > again:
        yield f"whether {places - again} verdicts about places follow from policy and facts: that takes the policy's own engine"
    if made.from_ms:
        yield "that no other document of the tenant's was in force before that time than those shown"
    yield "facts (a site's country) and times are the operator's own word: digests prove which it went by when it decided"
    yield "that nothing ran, and nobody was refused, without the journal's having it"


def is_pack(first: bytes) -> bool:
    """Whether a file that begins so is a pack, or the beginning of one."""
    return bool(first) and (first.startswith(FORMAT) or FORMAT.startswith(first))
