"""Planning: what would be placed now, and what if the estate or the queue were otherwise. Nothing is changed by it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import Query, Response

from headrace.api.bodies import check_text, decode_json, read_body
from headrace.api.endpoint import Group, encode, json_reply
from headrace.api.guard import Call, CallDep, operators
from headrace.api.routes.documents import Work, works_of
from headrace.api.routes.workloads import gpu_text
from headrace.api.views import (
    EvictionView,
    OutcomeView,
    PlanView,
    RefusedView,
    StartView,
    WaitingView,
    rfc3339,
)
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import WorkloadId
from headrace.core.planning.whatif import Changes, Outcome, plan_now, what_if
from headrace.core.workload import options
from headrace.documents.whatif import WhatIf, load_what_if, parse_what_if

planning = Group("planning")
MOST_TRIED = 10_000
"""Workloads that one question tries."""

_BODY = {
    "required": False,
    "content": {
        "application/yaml": {
            "schema": {"type": "string", "description": "documents as YAML, one of kind what-if among them"}
        },
        "application/json": {"schema": {"$ref": "#/components/schemas/PlanBody"}},
    },
}


@planning.write(
    "POST",
    "/v1/plan",
    "plan.read",
    operators("plan"),
    PlanView,
    errors=(422,),
    body=_BODY,
    keyed=False,
)
async def plan(
    call: CallDep,
    tenant: Annotated[str, Query(max_length=63, description="whose the workloads are")] = "",
) -> Response:
    """The plan that would be made now; with documents also that of a world with them. Nothing is applied or submitted."""
    raw = await read_body(call.request)
    tried = _tried(call, raw) if raw else None
    works = _works(call, tried, tenant) if tried is not None else []
    lock: asyncio.Lock = call.request.app.state.planning
    # One at a time: each may take as much memory as the world has.
    async with lock:
        now_ms = call.service.control.now_ms()
        if tried is None:
            return json_reply(await call.service.apart(lambda: _plan(call, now_ms)))
        changes = _changes(tried, works)
        try:
            return json_reply(await call.service.apart(lambda: _what_if(call, changes, now_ms)))
        except HeadraceError as error:
            raise HeadraceError(*(_placed(one, tried, works) for one in error.problems)) from None


def _plan(call: Call, now_ms: int) -> bytes:
    return encode(PlanView(_outcome(plan_now(call.world, now_ms)), rfc3339(now_ms)))


def _what_if(call: Call, changes: Changes, now_ms: int) -> bytes:
    found = what_if(call.world, changes, now_ms)
    before = {work.id for work, _ in found.now.starts}
    after = {work.id for work, _ in found.then.starts}
    return encode(
        PlanView(
            _outcome(found.now),
            rfc3339(found.at_ms),
            _outcome(found.then, found.new),
            found.conflicts,
            found.moved,
            tuple(RefusedView(ident, reason) for ident, reason in found.refused),
            tuple(work.id for work, _ in found.then.starts if work.id not in before),
            tuple(work.id for work, _ in found.now.starts if work.id not in after),
        )
    )


def _tried(call: Call, raw: bytes) -> WhatIf:
    if call.request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        check_text(raw)
        return load_what_if(raw, "body")
    data = decode_json(raw)
    if not isinstance(data, dict) or set(data) != {"documents"}:
        message = "the body is not an object with documents alone."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, 'Send {"documents": [...]}.', "/"))
    return parse_what_if(data["documents"], ("documents",))


def _works(call: Call, tried: WhatIf, tenant: str) -> list[Work]:
    declared = [one for one in tried.documents if one.kind != "workload"]
    works = works_of(call, [one for one in tried.documents if one.kind == "workload"], tenant, declared)
    if len(works) > MOST_TRIED:
        message = f"{len(works)} workloads are too many to try at once."
        raise HeadraceError(Problem(ProblemCode.TOO_LARGE, message, f"Try at most {MOST_TRIED}."))
    return works


def _changes(tried: WhatIf, works: Sequence[Work]) -> Changes:
    return Changes(
        tuple(
            c.NormalisedDocument(one.kind, one.name, one.normalised)
            for one in tried.documents
            if one.kind != "workload"
        ),
        tuple((one.tenant, one.spec) for one in works),
        tried.remove,
        tried.drain,
        tried.evict,
        tried.at_ms,
    )


def _placed(problem: Problem, tried: WhatIf, works: Sequence[Work]) -> Problem:
    """A problem with its place in the body."""
    if problem.where in ("at", "evict"):
        return replace(problem, where=tried.where((problem.where,)))
    head, _, rest = problem.where.partition("]")
    name, _, number = head.partition("[")
    if not number.isdecimal() or name not in ("workloads", "remove", "drain"):
        return problem
    if name != "workloads":
        return replace(problem, where=tried.where((name, int(number))))
    field = rest.strip(".")
    return replace(problem, where=works[int(number)].document.where(tuple(field.split(".")) if field else ()))


def _outcome(found: Outcome, new: Sequence[WorkloadId] = ()) -> OutcomeView:
    known = frozenset(new)
    starts = []
    for work, where in found.starts:
        need = options(work.spec)[where.option]
        gpu = gpu_text(replace(work.spec, resources=need, alternatives=()))
        nodes = tuple(rank.node for rank in where.ranks)
        starts.append(
            StartView(work.id, work.spec.name, work.tenant, where.site, gpu, nodes, work.id in known)
        )
    evictions = tuple(
        EvictionView(one.workload.id, one.workload.spec.name, one.workload.tenant, one.waiting)
        for one in found.evictions
    )
    waits = tuple(
        WaitingView(
            one.count,
            one.example.id,
            one.example.spec.name,
            one.example.tenant,
            one.refusal,
            one.reason,
        )
        for one in found.waits
    )
    return OutcomeView(tuple(starts), evictions, waits, found.waiting)
