"""Law: what other policies, facts or owners would newly allow and forbid. Nothing is changed by asking."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import Query, Response

from headrace.api.endpoint import Group, encode, json_reply
from headrace.api.guard import Call, CallDep, operators
from headrace.api.routes.documents import BODY, read_documents
from headrace.api.views_sovereignty import BoundView, FreedView, LawChangesView, LawChangeView
from headrace.core.changes import check_changes
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.sovereignty.judging import Changed, Difference, would_change
from headrace.core.workload import TERMINAL
from headrace.documents import Document

sovereignty = Group("sovereignty")


@sovereignty.write(
    "POST",
    "/v1/sovereignty/what-if",
    "document.apply",
    operators("documents"),
    LawChangesView,
    errors=(422,),
    body=BODY,
    keyed=False,
)
async def what_if(
    call: CallDep,
    on: Annotated[str, Query(description="a day to come, in UTC: judged as of then [default: now]")] = "",
) -> Response:
    """What documents, or a day to come, would newly forbid and newly allow to all that runs and waits, and to tenants' work."""
    at_ms = _moment(on, call.service.control.now_ms())
    documents = await read_documents(call, or_none=bool(on))
    for one in documents:
        if one.kind == "workload":
            step = "Leave it out: workloads are judged when they are submitted, see `headrace plan`."
            raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"workload {one.name};", step, one.where()))
    return json_reply(await call.service.apart(lambda: _what_if(call, documents, at_ms)))


def _moment(on: str, now_ms: int) -> int:
    """The first moment of a day in UTC, or now; HeadraceError for what is no day to come."""
    if not on:
        return now_ms
    try:
        at_ms = (
            int(datetime.fromisoformat(date.fromisoformat(on).isoformat()).replace(tzinfo=UTC).timestamp())
            * 1_000
        )
    except ValueError:
        step = "Write it like 2027-07-01."
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"{on!r} is not a day;", step, "query.on")
        ) from None
    if at_ms <= now_ms:
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"{on} has begun;", "Give a day to come.", "query.on")
        )
    return at_ms


def _what_if(call: Call, documents: list[Document], at_ms: int) -> bytes:
    world = call.world
    wanted = {f"{one.kind}/{one.name}": one.normalised for one in documents}
    # What would be refused can't be tried either, but for what only law forbids to what runs: that is the question.
    problems = [one for one in check_changes(world, wanted, removed=()) if one.code is not ProblemCode.IN_USE]
    if problems:
        raise HeadraceError(*problems)
    found = would_change(world, {**world.state.documents, **wanted}, at_ms)
    judged = sum(work.state not in TERMINAL for work in world.state.workloads.values())
    return encode(_view(found, judged))


def _view(found: Difference, judged: int) -> LawChangesView:
    return LawChangesView(
        tuple(_change(one) for one in found.changes),
        judged,
        tuple(
            FreedView(one.workload, one.tenant, one.policy, one.sites, one.starts or "", one.is_tried)
            for one in found.freed
        ),
        tuple(
            BoundView(one.workload, one.tenant, one.policy, one.site or "", one.sites) for one in found.bound
        ),
        found.classes,
    )


def _change(one: Changed) -> LawChangeView:
    reasons = one.before.reasons, one.after.reasons
    return LawChangeView(
        one.tenant, one.policy, one.site, one.after.allowed, *reasons, one.running, one.waiting
    )
