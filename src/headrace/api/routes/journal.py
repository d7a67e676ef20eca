"""The journal for auditors: its head, its events, and proofs that an event is in it."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

from fastapi import Path as PathParameter
from fastapi import Query, Response

from headrace.api.endpoint import MAX_PAGE, Group, head_view, reply
from headrace.api.guard import CallDep, callers, not_there, operators
from headrace.api.proofs import Entry, Leaves, entry_of
from headrace.api.views import Events, EventView, HeadView, Proof, rfc3339
from headrace.core.codec import to_plain
from headrace.core.events import Committed
from headrace.journal.codec import decode
from headrace.journal.sqlite import SqliteStore

journal = Group("journal")


@contextmanager
def reading(path: Path) -> Iterator[SqliteStore]:
    """The store through a connection of its own that can't write: a reader in a thread never meets the writer's."""
    store = SqliteStore(path, readonly=True)
    try:
        yield store
    finally:
        store.close()


@journal.get("/v1/journal/head", "journal.read", operators("journal"), HeadView)
async def head(call: CallDep) -> Response:
    """The newest signed head."""
    found = head_view(call.service.control.head)
    if found is None:
        raise not_there("head", "newest")
    return reply(found)


@journal.get("/v1/journal/events", "journal.read", operators("journal"), Events)
async def events(
    call: CallDep,
    start: Annotated[int, Query(alias="from", ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Response:
    """Events from a number on, in the journal's order."""
    path, size = call.service.control.store.path, call.service.control.durable

    def read() -> list[Committed]:
        with reading(path) as store:
            return list(islice(_committed(store, start, size), limit))

    found = await call.service.aside(read) if start < size else []
    views = tuple(_event_view(one) for one in found)
    return reply(Events(views, start + len(views)))


def _committed(store: SqliteStore, start: int, size: int) -> Iterator[Committed]:
    for group in store.groups(start):
        for one in decode(group, start):
            if one.seq < size:
                yield one


def _event_view(one: Committed) -> EventView:
    kind = type(one.event).__name__
    return EventView(one.seq, rfc3339(one.at_ms), kind, one.actor, to_plain(one.event))


@journal.get("/v1/journal/proof/{seq}", "invoice.read", callers("events"), Proof)
async def proof(call: CallDep, seq: Annotated[int, PathParameter(ge=0, le=2**53)]) -> Response:
    """That an event of one's own is in the journal, under the newest head; the operator's token may ask for any."""
    newest = head_view(call.service.control.head)
    path, tenant = call.service.control.store.path, call.tenant
    known: Leaves = call.request.app.state.leaves
    if newest is None or seq >= newest.size:
        raise not_there("event", str(seq))
    size = newest.size

    def prove() -> tuple[Entry, list[bytes]] | None:
        with reading(path) as store:
            entry = entry_of(store, seq)
            if entry is None or (tenant is not None and not entry.concerns(f"tenant:{tenant}")):
                return None
            known.extend(store, size)
            return entry, known.path(seq, size)

    found = await call.service.aside(prove)
    if found is None:
        raise not_there("event", str(seq))
    entry, audit_path = found
    leaf, *audit = (_base64(one) for one in (entry.leaf, *audit_path))
    parts = (_base64(entry.header), _base64(entry.salt), _base64(entry.payload))
    return reply(Proof(seq, *parts, leaf, tuple(audit), newest))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
