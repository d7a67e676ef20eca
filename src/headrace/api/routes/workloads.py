"""Workloads: submit, list, explain, stop, pause, logs, endpoints."""

import base64
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Annotated, Any

from fastapi import Query, Response

from headrace.api.bodies import NoBody, body, check_text, read_body
from headrace.api.endpoint import (
    After,
    Group,
    IdPath,
    Limit,
    carry_out,
    head_view,
    idempotency_key,
    json_body,
    reply,
)
from headrace.api.guard import Call, CallDep, of_query_tenant, of_tenant, of_workload
from headrace.api.views import (
    Done,
    EndpointView,
    ExplanationView,
    LogView,
    RankView,
    RefusedView,
    SubmittedView,
    WorkloadDetail,
    Workloads,
    WorkloadView,
    rfc3339,
    when,
)
from headrace.api.waiting import reasons_of
from headrace.core import commands as c
from headrace.core.codec import to_plain
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import PlacementId, TenantId, WorkloadId
from headrace.core.scheduling.explain import explain
from headrace.core.workload import (
    TERMINAL,
    WHOLE_MILLI,
    Placement,
    Resources,
    State,
    Workload,
    WorkloadSpec,
    options,
)
from headrace.core.world import World
from headrace.documents import decode_workloads
from headrace.documents.schema import BatchModel
from headrace.ports import LogChunk
from headrace.reconcile import Reconciler, replica_key

workloads = Group("workloads")
MAX_LOG = 1_000_000
AUDITED_KEPT = 100_000
_LIVE = frozenset(State) - TERMINAL


# -- submit ------------------------------------------------------------------------------------------------------------


@workloads.write(
    "POST",
    "/v1/tenants/{tenant}/workloads",
    "workload.submit",
    of_tenant("workloads"),
    SubmittedView,
    status=201,
    errors=(422,),
    body=json_body(BatchModel),
)
async def submit(call: CallDep, tenant: IdPath) -> Response:
    """Submit workloads of a tenant, all or none; answered once they are durable."""
    key = idempotency_key(call.request)
    raw = await read_body(call.request)
    try:
        items = decode_workloads(raw)
    except HeadraceError:
        check_text(raw)
        raise
    submitted, head = await call.service.submit(
        call.caller, TenantId(tenant), items, key, sha256(raw).hexdigest()
    )
    refused = tuple(RefusedView(ident, reason) for ident, reason in submitted.refused)
    return reply(SubmittedView(submitted.workloads, refused, submitted.repeated, head_view(head)), 201)


# -- read --------------------------------------------------------------------------------------------------------------


@workloads.get("/v1/workloads", "workload.read", of_query_tenant("tenant"), Workloads)
async def list_workloads(
    call: CallDep,
    tenant: Annotated[str, Query(max_length=63)] = "",
    state: Annotated[list[State] | None, Query(max_length=len(State))] = None,
    live: Annotated[bool, Query(description="only those that have not ended")] = False,
    why: Annotated[bool, Query(description="say in reason why those that are queued wait")] = False,
    limit: Limit = 100,
    after: After = "",
) -> Response:
    """Workloads in order of submission: a tenant's, or with the operator's token everybody's."""
    wanted = frozenset(state) if state else frozenset(State)
    wanted &= _LIVE if live else wanted
    whose = TenantId(tenant) if tenant else call.tenant
    found = (work for work in _from(call.world, whose, after) if work.state in wanted)
    page = list(islice(found, limit + 1))
    following = page[limit - 1].id if len(page) > limit else ""
    del page[limit:]
    reasons = reasons_of(call.world.snapshot(call.service.control.now_ms()), page) if why else {}
    return reply(Workloads(tuple(workload_view(work, reasons.get(work.id, "")) for work in page), following))


def _from(world: World, tenant: TenantId | None, after: str) -> Iterable[Workload]:
    """Workloads after ``after``; a tenant's are counted, so that a page of them costs what it shows."""
    known = world.state.workloads
    if after and (after not in known or tenant not in (None, known[WorkloadId(after)].tenant)):
        message = f"no workload {after!r} to go on after."
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, message, "Begin again without after.", "query.after")
        )
    if tenant is not None:
        return _numbered(world, tenant, int(after.rpartition("-")[2]) if after else 0)
    if not after:
        return known.values()
    seq = known[WorkloadId(after)].submitted_seq
    return (work for work in known.values() if work.submitted_seq > seq)


def _numbered(world: World, tenant: TenantId, after: int) -> Iterator[Workload]:
    record = world.state.tenants.get(tenant)
    if record is None:
        return
    for number in range(after + 1, record.next_workload):
        work = world.state.workloads.get(WorkloadId(f"{tenant}-{number}"))
        if work is not None:
            yield work


def workload_view(work: Workload, waits: str = "") -> WorkloadView:
    """A workload as it goes out; ``waits`` is why it does, if that was asked."""
    spec = work.spec
    return WorkloadView(
        id=work.id,
        tenant=work.tenant,
        name=spec.name,
        type=spec.type,
        project=spec.project,
        state=work.state,
        since=rfc3339(work.since_ms),
        submitted=rfc3339(work.submitted_ms),
        nodes=spec.nodes,
        gpu=gpu_text(spec),
        priority=spec.priority,
        flex=spec.flex,
        site=work.site,
        placement=work.placement,
        attempt=work.attempt,
        reason=waits or work.reason,
        exit_codes=work.exit_codes,
        pause_wanted=work.pause_wanted,
        nodes_max=spec.nodes_max,
    )


def gpu_text(spec: WorkloadSpec) -> str:
    """The accelerators of each node as they are written: ``H100:8``, ``H100:0.5``, ``[H100:8, B200:8]``; "" for none."""
    written = [_gpu_text(need) for need in options(spec) if need.accelerators]
    return f"[{', '.join(written)}]" if len(written) > 1 else "".join(written)


def _gpu_text(need: Resources) -> str:
    if need.share_milli == WHOLE_MILLI:
        return f"{need.accelerator}:{need.accelerators}"
    return f"{need.accelerator}:{need.share_milli / WHOLE_MILLI:g}"


def _work(call: Call, ident: str) -> Workload:
    return call.world.state.workloads[WorkloadId(ident)]


def _placement(call: Call, work: Workload) -> Placement | None:
    return call.world.state.placements.get(work.placement) if work.placement else None


@workloads.get("/v1/workloads/{workload}", "workload.read", of_workload, WorkloadDetail)
async def read_workload(call: CallDep, workload: IdPath) -> Response:
    """A workload with all that was asked and where it is."""
    work = _work(call, workload)
    placement = _placement(call, work)
    spec: dict[str, Any] = to_plain(work.spec)
    spec["secrets"] = dict.fromkeys(work.spec.secrets, "(in the vault)")
    if placement is None:
        return reply(WorkloadDetail(workload_view(work), spec, verdict=work.verdict))
    ranks = tuple(
        RankView(rank, at.node, at.accelerators, at.share_milli) for rank, at in enumerate(placement.ranks)
    )
    return reply(
        WorkloadDetail(
            workload_view(work),
            spec,
            ranks,
            placement.endpoints,
            placement.isolation,
            placement.contract,
            when(placement.started_ms),
            placement.verdict,
        )
    )


@workloads.get("/v1/workloads/{workload}/explain", "workload.explain", of_workload, ExplanationView)
async def explain_workload(call: CallDep, workload: IdPath) -> Response:
    """Why it waits, runs, moved or was refused, in one line, and what would change it."""
    snapshot = call.world.snapshot(call.service.control.now_ms())
    found = explain(snapshot, WorkloadId(workload), states=call.world.state.nodes)
    refusal = found.refusal.name if found.refusal is not None else None
    return reply(
        ExplanationView(
            found.workload,
            found.state,
            refusal,
            found.line,
            found.change,
            found.removed,
            when(found.earliest_ms or 0),
        )
    )


# -- steer -------------------------------------------------------------------------------------------------------------


@workloads.write(
    "POST",
    "/v1/workloads/{workload}/stop",
    "workload.stop",
    of_workload,
    Done,
    body=json_body(NoBody, required=False),
)
async def stop(call: CallDep, workload: IdPath) -> Response:
    """Stop a workload for good."""
    await body(call.request, NoBody)
    return await _done(call, c.Stop(WorkloadId(workload)))


@workloads.write(
    "POST",
    "/v1/workloads/{workload}/pause",
    "workload.pause",
    of_workload,
    Done,
    body=json_body(NoBody, required=False),
)
async def pause(call: CallDep, workload: IdPath) -> Response:
    """Pause a workload: its processes stop, and keep what they have."""
    await body(call.request, NoBody)
    return await _done(call, c.Pause(WorkloadId(workload), pause=True))


@workloads.write(
    "POST",
    "/v1/workloads/{workload}/resume",
    "workload.pause",
    of_workload,
    Done,
    body=json_body(NoBody, required=False),
)
async def resume(call: CallDep, workload: IdPath) -> Response:
    """Let a paused workload go on."""
    await body(call.request, NoBody)
    return await _done(call, c.Pause(WorkloadId(workload), pause=False))


async def _done(call: Call, command: c.Command) -> Response:
    named, head = await carry_out(call, command)
    if not isinstance(named, c.Named):
        raise TypeError(f"{command} was answered with {named}")
    return reply(Done(named.name, named.changed, head_view(head)))


# -- logs and endpoints ------------------------------------------------------------------------------------------------


@workloads.get("/v1/workloads/{workload}/logs", "workload.logs", of_workload, LogView, errors=(409,))
async def logs(
    call: CallDep,
    workload: IdPath,
    rank: Annotated[int, Query(ge=0, le=100_000)] = 0,
    stream: Annotated[str, Query(pattern="^(stdout|stderr)$")] = "stdout",
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LOG)] = 65_536,
    attempt: Annotated[int, Query(ge=0, le=1_000_000, description="which placement; 0: the newest")] = 0,
) -> Response:
    """A piece of a rank's log, by offset. The first read of a rank by a token goes into the audit."""
    work = _work(call, workload)
    most = max(work.spec.nodes, work.spec.nodes_max)
    if rank >= most:
        last = most - 1
        step = f"its ranks are 0 to {last}." if last else "it has rank 0 alone."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"no rank {rank};", step, "query.rank"))
    number = attempt or work.attempt
    if not 1 <= number <= work.attempt:
        if attempt:
            step = f"It was placed {work.attempt} times."
            raise HeadraceError(
                Problem(ProblemCode.BAD_INPUT, f"no attempt {attempt};", step, "query.attempt")
            )
        return reply(LogView("", "", offset, offset, work.state in TERMINAL))
    await _audit(call, work.id, rank)
    placement = PlacementId(f"{work.id}.{number}")
    engines = _reconciler(call).engines_for(work)
    if not engines:
        raise _no_engine()

    def read() -> LogChunk:
        # Those that never ran it say that it has ended, and have nothing of it.
        for engine in engines[:-1]:
            found = engine.logs(placement, rank, stream, offset, limit)
            if found.data or not found.ended:
                return found
        return engines[-1].logs(placement, rank, stream, offset, limit)

    chunk = await call.service.aside(read)
    data = base64.b64encode(chunk.data).decode()
    return reply(LogView(placement, data, chunk.offset, chunk.next_offset, chunk.ended))


async def _audit(call: Call, workload: WorkloadId, rank: int) -> None:
    """Record once who reads which log: not once for each piece of it."""
    audited: dict[tuple[int, str, int], None] = call.request.app.state.audited
    seen = (call.caller.number, workload, rank)
    if seen in audited:
        return
    await call.service.run(call.caller, c.ReadLog(workload, rank))
    if len(audited) >= AUDITED_KEPT:
        audited.clear()
    audited[seen] = None


def _reconciler(call: Call) -> Reconciler:
    if call.service.reconciler is None:
        raise _no_engine()
    return call.service.reconciler


def _no_engine() -> HeadraceError:
    problem = Problem(
        ProblemCode.ENGINE_UNAVAILABLE, "no engine is connected here.", "Start it, and try again."
    )
    return HeadraceError(problem)


@workloads.get("/v1/workloads/{workload}/endpoint", "workload.key", of_workload, EndpointView, errors=(409,))
async def endpoint(call: CallDep, workload: IdPath) -> Response:
    """Where a workload answers, and the API key of its replica."""
    work = _work(call, workload)
    placement = _placement(call, work)
    if placement is None or not placement.started_ms:
        step = "Wait until it runs; 'headrace explain' says why it does not."
        message = f"workload {work.id} is {work.state}, and has no endpoint."
        raise HeadraceError(Problem(ProblemCode.CONFLICT, message, step))
    ref = work.spec.secrets.get("HEADRACE_API_KEY", "")
    key = call.service.control.reveal(ref) if ref else ""
    if key and work.spec.counters:
        key = replica_key(key, placement.id)
    return reply(EndpointView(work.id, placement.id, placement.endpoints, key))
