"""Promise 3, durability: what was acknowledged is in the journal, once; and nothing is done twice."""

from collections.abc import Iterable, Sequence
from typing import Any

from headrace.core.events import (
    KINDS,
    Committed,
    CreditNoteIssued,
    InvoiceIssued,
    PlacementEnded,
    PlacementMade,
    PlacementStarted,
    TokenIssued,
    WorkloadSubmitted,
)
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Papers


def created(event: object) -> str | None:
    """The identity that an event brings into the world, if any: it can do so once."""
    match event:
        case WorkloadSubmitted():
            return event.workload
        case PlacementMade():
            return event.placement
        case TokenIssued():
            return event.token
        case InvoiceIssued():
            return event.invoice
        case CreditNoteIssued():
            return event.note
        case _:
            return None


class DurabilityChecker(Checker):
    """Compares what clients were told, and what the engine ran, with the journal's events."""

    promise = 3

    def __init__(self, papers: Papers | None = None) -> None:
        self.seen: list[Committed] = []
        self.born: set[str] = set()
        self.keys: dict[bytes, int] = {}
        self.current_key = b""
        self.run: list[object] = []
        self.acks: list[tuple[bytes, tuple[str, ...], int]] = []
        self.ranks_of: dict[str, int] = {}
        self.started: set[str] = set()
        self.ended: set[str] = set()
        self.ran: set[tuple[str, int]] = set()
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Every event; and those of placements."""
        for kind in KINDS.values():
            yield kind, self._any
        yield PlacementMade, self._made
        yield PlacementStarted, self._started
        yield PlacementEnded, self._ended

    def _any(self, committed: Committed, event: Any) -> None:
        seen = self.seen
        if committed.seq != len(seen):
            self.found("sequence", f"event {committed.seq}", f"it comes after {len(seen)} events")
        elif seen and committed.at_ms < seen[-1].at_ms:
            self.found("time", f"event {committed.seq}", f"journal time goes back to {committed.at_ms}")
        seen.append(committed)
        ident = created(event)
        if ident is not None:
            if ident in self.born:
                self.found("made-twice", ident, f"event {committed.seq} makes what was made before")
            self.born.add(ident)
        if committed.request:
            self._key(committed)

    def _key(self, committed: Committed) -> None:
        """The events of one key follow each other at one moment: another run of them means that it acted again."""
        key = committed.request
        if key != self.current_key:
            self.current_key, self.run = key, []
        if key in self.keys and (not self.run or self.keys[key] != committed.at_ms):
            what = f"its key {key.hex()[:12]} acted before, at {self.keys[key]}"
            self.found("key-twice", f"event {committed.seq}", what)
        elif committed.event in self.run:
            self.found("key-twice", f"event {committed.seq}", f"its key {key.hex()[:12]} did this already")
        self.keys[key] = committed.at_ms
        # A batch makes workloads of new names by the thousand: only what makes nothing can be repeated unseen.
        if created(committed.event) is None or not self.run:
            self.run.append(committed.event)

    def _made(self, _committed: Committed, event: PlacementMade) -> None:
        self.ranks_of[event.placement] = len(event.ranks)

    def _started(self, _committed: Committed, event: PlacementStarted) -> None:
        if event.placement in self.started:
            self.found("started-twice", event.placement, "it was recorded as started before")
        self.started.add(event.placement)

    def _ended(self, _committed: Committed, event: PlacementEnded) -> None:
        if event.placement in self.ended:
            self.found("ended-twice", event.placement, "it was recorded as ended before")
        self.ended.add(event.placement)

    def acknowledged(self, request_key: bytes, ids: Sequence[str], seq: int) -> None:
        """A client was told that its request is done: what it made, and up to which event it is durable (-1: none).

        ``request_key`` is the digest as in ``Committed.request`` (empty: the request had no key).
        """
        self.acks.append((request_key, tuple(ids), seq))

    def engine_ran(self, placement: str, rank: int) -> None:
        """The engine started a real process."""
        subject = f"{placement} rank {rank}"
        if (placement, rank) in self.ran:
            self.found("ran-twice", subject, "the engine started a second process for it")
        self.ran.add((placement, rank))
        if placement not in self.ranks_of:
            self.found("ran-unknown", subject, "the engine started what no committed event placed")
        elif not 0 <= rank < self.ranks_of[placement]:
            self.found("ran-unknown", subject, f"the placement has {self.ranks_of[placement]} ranks")
        if placement in self.ended:
            self.found("ran-after-end", subject, "the engine started it after its end was recorded")

    def reopened(self, stream: Iterable[Committed]) -> None:
        """The journal was opened again after a crash: all of its events, from the first.

        Events after the last one observed are of a commit that nobody was told of: they may be there, whole. Tell
        them to ``observe`` as well.
        """
        events = list(stream)
        if len(events) < len(self.seen):
            self.found("lost", "journal", f"{len(self.seen)} events were committed, {len(events)} are left")
        for before, after in zip(self.seen, events, strict=False):
            if before != after:
                self.found("changed", f"event {before.seq}", "it is not what was committed")
        self._compare(events)

    def at_rest(self) -> None:
        """Compare all that was acknowledged with all events observed."""
        self._compare(self.seen)

    def _compare(self, events: Sequence[Committed]) -> None:
        born: dict[str, int] = {}
        first: dict[bytes, int] = {}
        by_key: dict[bytes, list[str]] = {}
        for committed in events:
            ident = created(committed.event)
            if ident is not None:
                born[ident] = born.get(ident, 0) + 1
            if committed.request:
                first.setdefault(committed.request, committed.seq)
                if isinstance(committed.event, WorkloadSubmitted):
                    by_key.setdefault(committed.request, []).append(committed.event.workload)
        for key, ids, seq in self.acks:
            self._acknowledgement(born, first, key, ids, seq)
            for ident in by_key.get(key, ()):
                if ident not in ids:
                    what = f"{ident} was made by a key that answered {', '.join(ids) or 'nothing'}"
                    self.found("key-twice", ident, what)
            if seq >= len(events):
                self.found("lost", f"event {seq}", f"acknowledged; the journal has {len(events)} events")

    def _acknowledgement(
        self, born: dict[str, int], first: dict[bytes, int], key: bytes, ids: tuple[str, ...], seq: int
    ) -> None:
        for ident in ids:
            times = born.get(ident, 0)
            if times != 1:
                rule = "made-twice" if times else "lost"
                self.found(rule, ident, f"acknowledged; the journal makes it {times} times")
        if key and seq >= 0 and first.get(key, seq + 1) > seq:
            self.found(
                "lost", f"key {key.hex()[:12]}", f"acknowledged up to event {seq}; nothing there is of it"
            )
