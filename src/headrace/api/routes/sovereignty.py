"""Law: what other policies, facts or owners would newly allow and forbid. Nothing is changed by asking."""

from fastapi import Response

from headrace.api.endpoint import Group, encode, json_reply
from headrace.api.guard import Call, CallDep, operators
from headrace.api.routes.documents import BODY, read_documents
from headrace.api.views_sovereignty import LawChangesView, LawChangeView
from headrace.core.changes import check_changes
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.sovereignty.judging import would_change
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
async def what_if(call: CallDep) -> Response:
    """What documents would newly forbid and newly allow to all that runs and waits, before they are applied."""
    documents = await read_documents(call)
    for one in documents:
        if one.kind == "workload":
            step = "Leave it out: workloads are judged when they are submitted, see `headrace plan`."
            raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"workload {one.name};", step, one.where()))
    return json_reply(await call.service.apart(lambda: _what_if(call, documents)))


def _what_if(call: Call, documents: list[Document]) -> bytes:
    world = call.world
    wanted = {f"{one.kind}/{one.name}": one.normalised for one in documents}
    # What would be refused can't be tried either, but for what only law forbids to what runs: that is the question.
    problems = [one for one in check_changes(world, wanted, removed=()) if one.code is not ProblemCode.IN_USE]
    if problems:
        raise HeadraceError(*problems)
    found = would_change(world, {**world.state.documents, **wanted}, call.service.control.now_ms())
    changes = tuple(
        LawChangeView(
            one.tenant,
            one.policy,
            one.site,
            one.after.allowed,
            one.before.reasons,
            one.after.reasons,
            one.running,
            one.waiting,
        )
        for one in found
    )
    judged = sum(work.state not in TERMINAL for work in world.state.workloads.values())
    return encode(LawChangesView(changes, judged))
