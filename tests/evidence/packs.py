"""Journals with two tenants in them, their packs, and what somebody may do to a pack: with the operator's keys, or without."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.errors import HeadraceError
from headrace.core.observation import RankState
from headrace.evidence import standalone
from headrace.evidence.closing import CLOSING
from headrace.evidence.pack import Sealer, Wanted, seal_message
from headrace.evidence.pack_export import Exporter, asked, export_sealed
from headrace.evidence.pack_select import Selection, select
from headrace.evidence.pack_stream import checkpoint_of, place_in
from headrace.evidence.pack_verify import Report, read_kept, verify_pack
from headrace.journal.codec import Chain, Draft, Group, Head, decode, signed_bytes
from headrace.journal.keys import Keys
from headrace.journal.sqlite import SqliteStore
from tests.journal.small import (
    ACME,
    BOREALIS,
    SetClock,
    begun,
    job,
    keys,
    live_a_life,
    place,
    report,
    submit,
)

Lines = list[bytes]
WHOLE_MS = 1 << 50


@dataclass(frozen=True, slots=True)
class Held:
    """Commit groups in memory."""

    all: list[Group]

    def groups(self, first: int = 0) -> Iterator[Group]:
        """Those from the one that holds event ``first`` on."""
        yield from (one for one in self.all if one.first + one.count > first)


@dataclass
class Journal:
    """A journal as it lies, with the operator's keys."""

    path: Path
    own: Keys
    head: Head
    streams: dict[bytes, tuple[int, bytes]]
    name: str

    def groups(self) -> list[Group]:
        """All commit groups."""
        store = SqliteStore(self.path, readonly=True)
        try:
            return list(store.groups())
        finally:
            store.close()

    @property
    def public(self) -> bytes:
        """The operator's public key."""
        return self.own.public

    def wanted(
        self, tenant: str = ACME, from_ms: int = 0, to_ms: int = WHOLE_MS, at: Sequence[int] = ()
    ) -> Wanted:
        """A pack of all that there is, unless said otherwise."""
        return Wanted(str(self.path), self.head.size, tenant, from_ms, to_ms, tuple(at))

    def pack(
        self, tenant: str = ACME, from_ms: int = 0, to_ms: int = WHOLE_MS, at: Sequence[int] = ()
    ) -> Lines:
        """A pack as the operator makes it."""
        out: list[bytes] = []
        export_sealed(self.wanted(tenant, from_ms, to_ms, at), self.public, self.own.sign, out.append)
        return _lines(out)

    def kept(self, tenant: str = ACME) -> bytes:
        """What a tenant keeps outside, as of now."""
        place = place_in(self.streams, tenant)
        made = checkpoint_of(tenant, self.name, self.head, place, self.public, self.own.sign)
        return standalone.compact({"format": "headrace evidence checkpoint 1", **made})

    def kept_head(self) -> bytes:
        """A head of the journal, as everybody gets it."""
        return standalone.compact(self.head.as_json())


@dataclass
class World:
    """A control loop with the time that it has."""

    control: Control
    clock: SetClock

    @property
    def journal(self) -> Journal:
        """Its journal as of now."""
        control = self.control
        assert control.head is not None
        streams = dict(control.chain.streams)
        return Journal(control.store.path, control.keys, control.head, streams, control.world.state.journal)

    def work(self, count: int = 3, seed: str = "more") -> None:
        """Workloads of acme, submitted, placed and ended, with some of borealis between them."""
        for number in range(count):
            submit(self.control, f"{seed}-{number}", job(f"{seed}-{number}"))
            for placement in place(self.control):
                self.clock.at_ms += 500
                report(self.control, placement, RankState.RUNNING)
                self.clock.at_ms += 500
                report(self.control, placement, RankState.EXITED, 500, exit_code=0)
            self.control.execute(SYSTEM, c.RaiseAlarm(1, "glomfjord", f"a drill {seed} {number}"))
            self.control.commit()


def lived(folder: Path) -> World:
    """A journal in which everything has happened once."""
    clock = SetClock()
    control = begun(folder, clock=clock)
    live_a_life(control, clock)
    return World(control, clock)


def small(folder: Path) -> World:
    """A journal of two tenants that is soon read."""
    clock = SetClock()
    world = World(begun(folder, clock=clock), clock)
    world.work(2)
    return world


def _lines(pieces: Sequence[bytes]) -> Lines:
    # Not splitlines: payloads may have other ends of lines in them than a pack's.
    return [line + b"\n" for line in b"".join(pieces).split(b"\n")[:-1]]


# -- judging -----------------------------------------------------------------------------------------------------------


def judged(lines: Lines, public: bytes, kept: Sequence[bytes] = (), tenant: str = "") -> Report:
    """What both verifiers say, which must agree; raises HeadraceError when it is wrong."""
    try:
        theirs: standalone.Pack | None = standalone.verify(iter(lines), public, kept)
    except standalone.Wrong:
        theirs = None
    try:
        ours = verify_pack(iter(lines), public, [read_kept(one, public, "kept") for one in kept], tenant)
    except HeadraceError:
        assert theirs is None or tenant, "only the one that stands alone believes it"
        raise
    assert theirs is not None, "only the one that stands alone does not believe it"
    assert (theirs.events, theirs.decisions, theirs.withheld) == (ours.events, ours.decisions, ours.withheld)
    return ours


def said(lines: Lines, public: bytes, kept: Sequence[bytes] = ()) -> str:
    """What is wrong with a pack in a line; "" for nothing."""
    try:
        judged(lines, public, kept)
    except HeadraceError as error:
        return error.problem.line()
    return ""


# -- forging -----------------------------------------------------------------------------------------------------------


def resealed(lines: Lines, sign: Callable[[bytes], bytes], closing: bytes | None = None) -> Lines:
    """A pack with a seal over what stands there now (and another closing): what only who has a key can do."""
    body, last = lines[:-2], closing or lines[-2]
    digest = sha256(b"".join(body)).digest()
    signature = sign(seal_message(digest, last[len(CLOSING) : -1])).hex()
    return [*body, last, f"seal {signature}\n".encode()]


def hiding(
    journal: Journal, hidden: set[int], at: Sequence[int] = (), from_ms: int = 0, to_ms: int = WHOLE_MS
) -> Lines:
    """A pack for acme by an operator that folds events away as if they were others', and closes with figures that fit."""
    wanted = journal.wanted(from_ms=from_ms, to_ms=to_ms, at=at)
    out: list[bytes] = []
    sealer = Sealer(journal.own.sign)
    chosen = select(Held(journal.groups()), wanted)
    exporter = Hiding(wanted, chosen, lambda data: out.append(sealer.feed(data)), journal, hidden)
    exporter.line(standalone.FORMAT[:-1], standalone.compact(asked(wanted)))
    for group in journal.groups():
        exporter.group(group)
    exporter.close(journal.public.hex())
    out.append(sealer.end())
    return _lines(out)


class Hiding(Exporter):
    """Shows no leaf of ``hidden``."""

    def __init__(
        self,
        wanted: Wanted,
        chosen: Selection,
        write: Callable[[bytes], object],
        journal: Journal,
        hidden: set[int],
    ) -> None:
        fewer = len(hidden & _deciding(journal, wanted))
        # Without texts: one that no verdict names any more would give it away.
        super().__init__(wanted, replace(chosen, decisions=chosen.decisions - fewer, texts={}), write)
        self._hidden = hidden

    def _show(self, seq: int, *rest: bytes) -> bool:
        return seq not in self._hidden and super()._show(seq, *rest)


def _deciding(journal: Journal, wanted: Wanted) -> set[int]:
    """Numbers of the events that rest on a verdict, in the time that was asked for."""
    found = set()
    for group in journal.groups():
        for one in decode(group):
            named = getattr(one.event, "verdict", "") or getattr(one.event, "verdicts", ())
            is_decision = type(one.event).__name__ == "DecisionRecorded"
            if named and not is_decision and wanted.from_ms <= one.at_ms < wanted.to_ms:
                found.add(one.seq)
    return found


def own_times(journal: Journal, tenant: str = ACME) -> list[tuple[int, int]]:
    """Number and time of each of a tenant's events."""
    stream = sha256(f"tenant:{tenant}".encode()).digest()[:16]
    found: list[tuple[int, int]] = []
    for group in journal.groups():
        at = 0
        for seq in range(group.first, group.first + group.count):
            end = at + 48 + 56 * group.headers[at + 1]
            if any(group.headers.startswith(stream, link) for link in range(at + 48, end, 56)):
                found.append((seq, int.from_bytes(group.headers[at + 16 : at + 24])))
            at = end
    return found


def own_seqs(journal: Journal, tenant: str = ACME) -> list[int]:
    """The numbers of a tenant's events."""
    return [seq for seq, _ in own_times(journal, tenant)]


Change = Callable[[int, Draft, bytes], tuple[Draft, bytes] | None]
"""What becomes of an event (number, draft, salt) when history is rewritten; None: it never was."""


def rewritten(journal: Journal, folder: Path, change: Change, more: Sequence[Draft] = ()) -> Journal:
    """The same history with a change, chained and signed anew with the operator's own keys: perfect, but another one.

    ``more`` is one commit at its end.
    """
    folder.mkdir()
    store = SqliteStore(folder / "journal.sqlite")
    chain, head = Chain(), journal.head
    history = [(group.head.at_ms, list(_drafts(group))) for group in journal.groups()]
    history.append((head.at_ms, [(-1, draft, bytes(16)) for draft in more]))
    for at_ms, drafts in history:
        kept = [found for one in drafts if (found := change(*one)) is not None]
        if not kept:
            continue
        first = chain.size
        headers, bodies = chain.seal([draft for draft, _ in kept], b"".join(salt for _, salt in kept))
        root = chain.frontier.root()
        head = Head(chain.size, at_ms, root, journal.own.sign(signed_bytes(chain.size, at_ms, root)))
        store.append(Group(first, chain.size - first, headers, bodies, head))
    store.close()
    return Journal(folder / "journal.sqlite", journal.own, head, chain.streams, journal.name)


STREAMS = {
    sha256(one.encode()).digest()[:16]: one
    for one in (f"tenant:{ACME}", f"tenant:{BOREALIS}", "site:glomfjord", "operator")
}


def _drafts(group: Group) -> Iterator[tuple[int, Draft, bytes]]:
    at = offset = 0
    for one in decode(group):
        end = at + 48 + 56 * group.headers[at + 1]
        streams = tuple(STREAMS[group.headers[link : link + 16]] for link in range(at + 48, end, 56))
        salt = group.bodies[offset : offset + 16]
        offset += 20 + int.from_bytes(group.bodies[offset + 16 : offset + 20])
        at = end
        yield one.seq, Draft(one.event, one.at_ms, streams, one.request, one.actor), salt


def another_key() -> Keys:
    """Somebody else's."""
    return keys("somebody else")
