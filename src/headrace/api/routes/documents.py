"""Documents: what is declared, what applying would change, and applying it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated

from fastapi import Query, Response

from headrace.api.bodies import check_text, decode_json, read_body
from headrace.api.endpoint import Group, IdPath, carry_out, head_view, idempotency_key, reply
from headrace.api.guard import (
    Call,
    CallDep,
    callers,
    is_plan_of,
    of_document,
    operators,
    owner_of,
)
from headrace.api.views import Applied, ChangeView, Difference, DocumentName, Documents, DocumentView
from headrace.core import commands as c
from headrace.core.changes import check_changes
from headrace.core.codec import normalise
from headrace.core.contracts import Tenant
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.estate import Estate, Site
from headrace.core.ids import TenantId
from headrace.core.placing import reserve
from headrace.core.workload import TERMINAL, WorkloadSpec
from headrace.documents import Document, changes, load, parse_documents
from headrace.documents.load import ORDER
from headrace.documents.source import Place
from headrace.journal.codec import Head

documents = Group("documents")

BODY = {
    "required": True,
    "content": {
        "application/yaml": {
            "schema": {"type": "string", "description": "documents as YAML, several to a text"}
        },
        "application/json": {"schema": {"$ref": "#/components/schemas/DocumentsBody"}},
    },
}
_CONTACT = "contact"


@dataclass(frozen=True, slots=True)
class Work:
    """A workload document and the tenant that it is submitted for."""

    document: Document
    spec: WorkloadSpec
    tenant: TenantId


@documents.write(
    "POST",
    "/v1/apply",
    "document.apply",
    operators("documents"),
    Applied,
    errors=(422,),
    body=BODY,
)
async def apply(
    call: CallDep,
    dry_run: Annotated[bool, Query(description="only say what would change")] = False,
    tenant: Annotated[str, Query(max_length=63, description="whose the workloads among them are")] = "",
) -> Response:
    """Apply documents: all or none of the declarations, then the workloads among them. Twice changes nothing."""
    key = idempotency_key(call.request)
    found = sorted(await read_documents(call), key=lambda one: ORDER.index(one.kind))
    declared = [one for one in found if one.kind != "workload"]
    works = works_of(call, [one for one in found if one.kind == "workload"], tenant, declared)
    _check_engines(call, declared)
    if dry_run:
        wanted = [_without_persons(call, one, keep=False) for one in declared]
        _check(call, wanted)
        would = [_change(call, one) for one in wanted] + [_work_change(call, one) for one in works]
        return reply(Applied(tuple(would), True))
    shown, head = await _declare(call, declared, _text(call, declared, works) if key else "")
    for one in works:
        change, head = await _submit(call, one, key)
        shown.append(change)
    return reply(Applied(tuple(shown), False, head_view(head or await call.service.settled())))


def _text(call: Call, declared: list[Document], works: list[Work]) -> str:
    """All that is asked with documents; of what is private a digest, whose key is destroyed with the tenant's own."""
    digest = call.service.control.private_digest
    asked: list[tuple[object, ...]] = [
        (one.kind, one.normalised, digest(one.name, _CONTACT, repr(sorted(one.private.items()))))
        if one.private
        else (one.kind, one.normalised)
        for one in declared
    ]
    for work in works:
        private = sorted(work.document.private.items())
        digests = (digest(work.tenant, "secrets", repr(private)),) if private else ()
        asked.append((work.tenant, work.document.normalised, *digests))
    return json.dumps(asked, sort_keys=True)


async def _declare(call: Call, declared: list[Document], asked: str) -> tuple[list[ChangeView], Head | None]:
    """Apply declarations, once for an idempotency key (``asked`` is empty without one)."""
    key, control = idempotency_key(call.request), call.service.control
    if control.is_repeated(call.caller, c.ApplyDocuments, key, asked):
        return [ChangeView(one.kind, one.name, "unchanged") for one in declared], None
    wanted = [_without_persons(call, one, keep=True) for one in declared]
    shown = [_change(call, one) for one in wanted]
    # With a key also if there are none: it then stands for the workloads of this text, and for no others.
    head = (await carry_out(call, c.ApplyDocuments(tuple(wanted)), asked))[1] if wanted or key else None
    return shown, head


async def apply_data(call: Call, tenant: TenantId, *, dry_run: bool) -> Response:
    """Apply documents that are a tenant's data sets alone."""
    wanted = [c.NormalisedDocument(one.kind, one.name, one.normalised) for one in await read_documents(call)]
    shown = tuple(_change(call, one) for one in wanted)
    if dry_run:
        _check(call, wanted)
        return reply(Applied(shown, True))
    _, head = await carry_out(call, c.ApplyData(tenant, tuple(wanted)))
    return reply(Applied(shown, False, head_view(head)))


async def read_documents(call: Call, *, or_none: bool = False) -> list[Document]:
    """The documents of a request's body, YAML or JSON; HeadraceError with all that is wrong. ``or_none``: it may be empty."""
    raw = await read_body(call.request)
    if or_none and not raw:
        return []
    if call.request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        check_text(raw)
        # A policy is looked at for half a second.
        return await call.service.aside(lambda: load(raw, "body"))
    data = decode_json(raw)
    if not isinstance(data, dict) or set(data) != {"documents"}:
        message = "the body is not an object with documents alone."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, 'Send {"documents": [...]}.', "/"))
    return await call.service.aside(lambda: parse_documents(data["documents"], ("documents",)))


def _without_persons(call: Call, document: Document, *, keep: bool) -> c.NormalisedDocument:
    """The document with a reference in place of what is about a person, the same as before when that has not changed."""
    contact = document.private.get(_CONTACT)
    if contact is None or not isinstance(document.value, Tenant):
        return c.NormalisedDocument(document.kind, document.name, document.normalised)
    control = call.service.control
    ref = str(control.world.state.documents.get(f"tenant/{document.name}", {}).get(_CONTACT, ""))
    if not ref or _revealed(call, ref) != contact:
        ref = control.keep(document.name, _CONTACT, contact) if keep else "vault:new"
    value = replace(document.value, contact=ref)
    return c.NormalisedDocument(document.kind, document.name, normalise("tenant", document.name, value))


def _revealed(call: Call, ref: str) -> str | None:
    try:
        return call.service.control.reveal(ref)
    except HeadraceError:
        return None


def _change(call: Call, wanted: c.NormalisedDocument) -> ChangeView:
    old = call.world.state.documents.get(f"{wanted.kind}/{wanted.name}")
    differences = changes(old, wanted.document)
    what = "created" if old is None else "changed" if differences else "unchanged"
    shown = tuple(Difference(one.path, one.before, one.after) for one in differences)
    return ChangeView(wanted.kind, wanted.name, what, shown)


def _check(call: Call, wanted: list[c.NormalisedDocument]) -> None:
    world, now_ms = call.world, call.service.control.now_ms()
    world.at(now_ms)
    documents = {f"{one.kind}/{one.name}": one.document for one in wanted}
    changed = {key: one for key, one in documents.items() if world.state.documents.get(key) != one}
    problems = check_changes(world, documents, removed=()) or reserve(world, changed, now_ms)[1]
    if problems:
        raise HeadraceError(*problems)


def _check_engines(call: Call, declared: list[Document]) -> None:
    """Raise for sites and blocks whose engine is not connected here: nothing could ever start there."""
    engines = call.service.reconciler.engines if call.service.reconciler is not None else {}
    problems = [
        replace(unknown("engine", name, engines), where=document.where(("sites", number, *place, "engine")))
        for document in declared
        if isinstance(document.value, Estate) and engines
        for number, site in enumerate(document.value.sites)
        for place, name in _engines_of(site)
        if name not in engines
    ]
    if problems:
        raise HeadraceError(*problems)


def _engines_of(site: Site) -> Iterator[tuple[Place, str]]:
    """Engines that a site names, and where it does."""
    yield (), site.engine
    for number, block in enumerate(site.blocks):
        if block.engine:
            yield ("blocks", number), block.engine


# -- workloads among them ----------------------------------------------------------------------------------------------


def works_of(call: Call, found: list[Document], tenant: str, declared: list[Document]) -> list[Work]:
    """Whose each workload is: the named tenant's, or of the only one with its project."""
    projects = {ident: one.projects for ident, one in call.world.tenants.items()}
    projects |= {one.value.id: one.value.projects for one in declared if isinstance(one.value, Tenant)}
    out = []
    for document in found:
        spec = document.value
        if not isinstance(spec, WorkloadSpec):
            raise TypeError(f"workload {document.name} is {spec}")
        having = [ident for ident, own in projects.items() if spec.project in own]
        if not tenant and len(having) != 1:
            count = f"{len(having)} tenants have" if having else "no tenant has"
            message = f"workload {document.name}: {count} a project {spec.project!r};"
            step = "say whose it is with ?tenant=."
            where = document.where(("project",))
            raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where, tuple(sorted(having))))
        out.append(Work(document, spec, TenantId(tenant) if tenant else having[0]))
    return out


def _work_change(call: Call, one: Work) -> ChangeView:
    live = _live(call, one)
    what = "unchanged" if live else "created"
    shown = () if live else (Difference("", None, one.document.normalised),)
    return ChangeView("workload", one.document.name, what, shown, live)


def _live(call: Call, one: Work) -> str:
    """A workload of the same tenant, name and spec that has not ended: applying it again would be a second one."""
    for work in call.world.state.workloads.values():
        if work.tenant == one.tenant and work.state not in TERMINAL and work.spec.name == one.spec.name:
            given = {name for name in work.spec.secrets if name != "HEADRACE_API_KEY"}
            declared = {name for name in one.document.private if name != "HEADRACE_API_KEY"}
            if given == declared and replace(work.spec, secrets={}) == replace(one.spec, secrets={}):
                return work.id
    return ""


async def _submit(call: Call, one: Work, key: str) -> tuple[ChangeView, Head | None]:
    change = _work_change(call, one)
    if not key and change.workload:
        return change, None
    name = one.document.name
    derived = f"{key}/{one.tenant}/{name}" if key else ""
    digest = sha256(
        repr((one.document.normalised, sorted(one.document.private.items()))).encode()
    ).hexdigest()
    items = [(one.spec, one.document.private)]
    try:
        made, head = await call.service.submit(call.caller, one.tenant, items, derived, digest)
    except HeadraceError as error:
        first = error.problem
        # It was submitted alone: of ``workloads[0].site`` the field is what stands in the document.
        field = first.where.removeprefix("workloads[0]").strip(".")
        where = one.document.where(tuple(field.split(".")) if field else ())
        step = f"{first.next_step} What was declared beside it is applied."
        raise HeadraceError(
            replace(first, next_step=step.strip(), where=where), *error.problems[1:]
        ) from None
    what = "unchanged" if made.repeated else "refused" if made.refused else "created"
    reason = made.refused[0][1] if made.refused else ""
    shown = () if made.repeated else change.differences
    return ChangeView("workload", name, what, shown, made.workloads[0], reason), head


# -- read and remove ---------------------------------------------------------------------------------------------------


@documents.get("/v1/documents", "document.read", callers("documents"), Documents)
async def list_documents(call: CallDep) -> Response:
    """The documents that are applied; a tenant sees its own, its contracts, their price plans, its reservations."""
    names = [key.partition("/") for key in call.world.state.documents]
    found = [DocumentName(kind, name) for kind, _, name in names if _may_see(call, kind, name)]
    return reply(Documents(tuple(found)))


def _may_see(call: Call, kind: str, name: str) -> bool:
    if call.tenant is None or owner_of(call.world, kind, name) == call.tenant:
        return True
    return kind == "price-plan" and is_plan_of(call.world, name, call.tenant)


@documents.get("/v1/documents/{kind}/{name}", "document.read", of_document, DocumentView)
async def read_document(call: CallDep, kind: IdPath, name: IdPath) -> Response:
    """A document in its normalised form."""
    return reply(DocumentView(kind, name, call.world.state.documents[f"{kind}/{name}"]))


@documents.write("DELETE", "/v1/documents/{kind}/{name}", "document.remove", operators("documents"), Applied)
async def remove_document(call: CallDep, kind: IdPath, name: IdPath) -> Response:
    """Remove a document that nothing uses."""
    _, head = await carry_out(call, c.RemoveDocument(kind, name))
    change = ChangeView(kind, name, "removed")
    return reply(Applied((change,), False, head_view(head)))
