"""Evidence packs: all that a tenant can show of what was decided for it, sealed; and what it keeps to compare them with."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from headrace.api.endpoint import Group, reply
from headrace.api.guard import Call, CallDep, not_there, of_tenant
from headrace.api.views_packs import CheckpointView
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import TenantId
from headrace.documents.values import Bad, moment_ms
from headrace.evidence.pack import KEPT, Wanted
from headrace.evidence.pack_export import check
from headrace.evidence.pack_stream import checkpoint_of, place_in, sealed_pieces
from headrace.journal.codec import Head

packs = Group("evidence")
TEXT = "text/plain; charset=utf-8"
MOST_CHECKPOINTS = 20
_TRIES = 100


class Streamed(StreamingResponse):
    """Sent as it is made; also where no event loop runs, as in a simulation."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            await self.stream_response(send)
            return
        await super().__call__(scope, receive, send)


@packs.get(
    "/v1/tenants/{tenant}/evidence", "evidence.export", of_tenant("tenant"), str, errors=(409,), media=TEXT
)
async def pack(
    call: CallDep,
    tenant: str,
    begins: Annotated[str, Query(alias="from", max_length=40, description="from when (RFC 3339)")] = "",
    until: Annotated[str, Query(alias="to", max_length=40, description="until before when (RFC 3339)")] = "",
    checkpoint: Annotated[
        list[Annotated[int, Query(ge=1, le=2**53)]] | None,
        Query(max_length=MOST_CHECKPOINTS, description="sizes of the journal at which it is to be compared"),
    ] = None,
) -> Response:
    """A tenant's evidence pack: keep the answer as it is, and verify it offline. Without its last line, the seal, it is cut."""
    head = await _head(call)
    to_ms = _moment(until, "to") if until else head.at_ms + 1
    from_ms = _moment(begins, "from") if begins else 0
    path = str(call.service.control.store.path.absolute())
    wanted = Wanted(path, head.size, tenant, from_ms, to_ms, tuple(sorted(set(checkpoint or ()))))
    check(wanted)
    if not place_in(call.service.control.chain.streams, TenantId(tenant))[0]:
        raise not_there("tenant", tenant)
    # Before anything of it is sent: who gets a pack has left a trace, though it may break off.
    await call.service.run(
        call.caller, c.ExportEvidence(TenantId(tenant), from_ms, to_ms, head.size, head.root.hex())
    )
    return Streamed(_pieces(call, wanted), media_type=TEXT)


async def _head(call: Call) -> Head:
    await call.service.settled()
    head = call.service.control.head
    if head is None:
        raise not_there("head", "newest")
    return head


async def _pieces(call: Call, wanted: Wanted) -> AsyncIterator[bytes]:
    keys, state = call.service.control.keys, call.request.app.state
    if not hasattr(state, "exporting"):
        state.exporting = asyncio.Lock()
    # One at a time: each reads the whole journal, and keeps a core busy.
    async with state.exporting:
        async for piece in sealed_pieces(wanted, keys.public, keys.sign, call.service.aside):
            yield piece


def _moment(text: str, name: str) -> int:
    try:
        return moment_ms(text)
    except Bad as bad:
        problem = Problem(ProblemCode.BAD_INPUT, bad.message, bad.next_step, f"query.{name}")
        raise HeadraceError(problem) from None


@packs.get("/v1/tenants/{tenant}/evidence/checkpoint", "evidence.export", of_tenant("tenant"), CheckpointView)
async def kept(call: CallDep, tenant: str) -> Response:
    """What to keep outside, now and then: with it, whatever is left out or rewritten before it is found in any later pack."""
    control = call.service.control
    for _ in range(_TRIES):
        head = await _head(call)
        if control.chain.size == head.size:
            place = place_in(control.chain.streams, TenantId(tenant))
            keys, journal = control.keys, control.world.state.journal
            made = checkpoint_of(tenant, journal, head, place, keys.public, keys.sign)
            return reply({"format": KEPT, **made})
    step = "Ask again; it is busy."
    raise HeadraceError(Problem(ProblemCode.CONFLICT, "the journal went on all the time.", step))
