"""Clients outside the control plane: they send what the SDK sends, keep the answers, and ask again without one."""

import base64
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from headrace.api import views as v
from headrace.api import views_grid as g
from headrace.control import Caller, request_digest
from headrace.core import commands as c
from headrace.core.authority import Role
from headrace.core.codec import Core
from headrace.core.errors import ProblemCode
from headrace.core.workload import WorkloadSpec
from headrace.documents.values import moment_text
from headrace.journal.codec import Head
from headrace.sim.wire import document, workload

Items = tuple[tuple[WorkloadSpec, dict[str, str]], ...]

JSON, YAML = "application/json", "application/yaml"
_encode = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(v.ErrorView).decode
ROUTES: dict[str, tuple[str, str, type]] = {
    "Submit": ("POST", "/v1/tenants/{tenant}/workloads", v.SubmittedView),
    "Stop": ("POST", "/v1/workloads/{workload}/stop", v.Done),
    "Pause": ("POST", "/v1/workloads/{workload}/pause", v.Done),
    "Resume": ("POST", "/v1/workloads/{workload}/resume", v.Done),
    "ReadLog": ("GET", "/v1/workloads/{workload}/logs", v.LogView),
    "Drain": ("POST", "/v1/nodes/drain", v.Drained),
    "Undrain": ("POST", "/v1/nodes/undrain", v.Drained),
    "IssueToken": ("POST", "/v1/tokens", v.NewToken),
    "RevokeToken": ("DELETE", "/v1/tokens/{token}", v.Done),
    "ApplyDocuments": ("POST", "/v1/apply", v.Applied),
    "ApplyWorkload": ("POST", "/v1/apply?tenant={tenant}", v.Applied),
    "RemoveDocument": ("DELETE", "/v1/documents/{kind}/{name}", v.Applied),
    "IssueInvoices": ("POST", "/v1/tenants/{tenant}/invoices", v.InvoicesIssued),
    "IssueCreditNote": ("POST", "/v1/invoices/{number}/credit-notes", v.Done),
    "EraseTenant": ("POST", "/v1/tenants/{tenant}/erase", v.Done),
    "Instruct": ("POST", "/v1/grid/instructions", g.Instructed),
    "Withdraw": ("POST", "/v1/grid/instructions/{instruction}/withdraw", g.Instructed),
}
"""What a client may want done, by the name of the command behind it: method, path, and what answers it."""
_DECODERS: dict[str, Callable[[bytes], object]] = {
    what: msgspec.json.Decoder(view).decode for what, (_, _, view) in ROUTES.items()
}


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: a token's value, and whom the control plane takes its holder for."""

    caller: Caller
    token: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the grid asks of a site: at most so many watts at its meter; ``begins_ms`` 0: at once, ``until_ms`` 0: for good."""

    id: str
    site: str
    limit_w: int
    begins_ms: int
    until_ms: int
    urgency: str
    binding: bool


@dataclass(slots=True)
class Request:
    """One thing that a client wants done, under one idempotency key, as often as it takes.

    ``expect``: the problem code that must answer it ("" for none in particular).
    """

    who: Person
    key: str
    what: str
    path: str
    body: bytes = b""
    media: str = JSON
    items: Items = ()
    expect: str = ""
    same_as: "Request | None" = None
    acts: bool = False
    attempts: int = 0
    made: tuple[str, ...] | None = None
    head: Head | None = None
    asked: Asked | None = None

    @property
    def method(self) -> str:
        """The method of its route."""
        return ROUTES[self.what][0]

    @property
    def is_keyed(self) -> bool:
        """Whether it is done once for its key, which the journal then has."""
        return bool(self.key) and self.method != "GET"

    @property
    def digest(self) -> bytes:
        """The key as the journal has it."""
        return request_digest(self.who.caller, self.key) if self.is_keyed else b""

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, as the SDK sends them."""
        headers = {"authorization": f"Bearer {self.who.token}", "accept": JSON}
        if self.body:
            headers["content-type"] = self.media
        if self.key:
            headers["idempotency-key"] = self.key
        return headers


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered: the names of what was made, and the head; or the problem."""

    status: int
    made: tuple[str, ...] = ()
    repeated: bool = False
    token: str = ""
    head: Head | None = None
    problem: v.ProblemView | None = None


def _path(what: str, **names: str) -> str:
    return ROUTES[what][1].format(**{name: quote(text, safe="") for name, text in names.items()})


def submission(who: Person, tenant: str, items: Items, key: str) -> Request:
    """Submit workloads."""
    body = _encode({"workloads": [workload(spec, secrets) for spec, secrets in items]})
    return Request(who, key, "Submit", _path("Submit", tenant=tenant), body, items=items)


def token(who: Person, role: Role, tenant: str | None, key: str) -> Request:
    """Make a token, whose value is in the answer."""
    asked = {"role": role.value, "tenant": tenant, "holder": "", "expires_in": None}
    return Request(who, key, "IssueToken", _path("IssueToken"), _encode(asked))


def declaration(who: Person, values: list[Core], key: str, media: str = JSON) -> Request:
    """Apply documents: as JSON, or one of them as YAML."""
    return declared(who, [document(value) for value in values], key, media)


def declared(who: Person, documents: list[dict[str, Any]], key: str, media: str = JSON) -> Request:
    """Apply documents as they are written."""
    body = _yaml(documents[0]) if media == YAML else _encode({"documents": documents})
    return Request(who, key, "ApplyDocuments", _path("ApplyDocuments"), body, media)


def applied_workload(
    who: Person, tenant: str, spec: WorkloadSpec, secrets: dict[str, str], key: str
) -> Request:
    """Submit a workload as a document."""
    body = _encode({"documents": [{"kind": "workload", **workload(spec, secrets)}]})
    path = _path("ApplyWorkload", tenant=tenant)
    return Request(who, key, "ApplyWorkload", path, body, items=((spec, secrets),))


def instruction(who: Person, asked: Asked, key: str) -> Request:
    """Limit a site."""
    times = (("from", asked.begins_ms), ("until", asked.until_ms))
    body = {
        "site": asked.site,
        "limit": f"{asked.limit_w}W",
        **{name: moment_text(at_ms) for name, at_ms in times if at_ms},
        "id": asked.id,
        "urgency": asked.urgency,
        "note": "",
        "binding": asked.binding,
    }
    return Request(who, key, "Instruct", _path("Instruct"), _encode(body), asked=asked)


def withdrawal(who: Person, ident: str, key: str) -> Request:
    """End an instruction."""
    return Request(
        who, key, "Withdraw", _path("Withdraw", instruction=ident), _encode({"reason": "it is over"})
    )


def _yaml(fields: dict[str, Any]) -> bytes:
    """A flat document as YAML; its texts are quoted, so that none is taken for a number or a day."""
    return "".join(f"{name}: {_encode(value).decode()}\n" for name, value in fields.items()).encode()


def command(who: Person, one: c.Command, key: str = "") -> Request:
    """Any other command, as the request that asks for it; TypeError for one that no client has."""
    what, body, names = type(one).__name__, b"", dict[str, str]()
    match one:
        case c.Stop(workload=ident):
            names = {"workload": ident}
        case c.Pause(workload=ident, pause=pause):
            what, names = "Pause" if pause else "Resume", {"workload": ident}
        case c.ReadLog(workload=ident, rank=rank):
            path = f"{_path(what, workload=ident)}?rank={rank}"
            return Request(who, key, what, path)
        case c.SetNodes(nodes=nodes, state=state, reason=reason, evict=evict):
            what = "Drain" if state == "draining" else "Undrain"
            asked: dict[str, Any] = {"nodes": list(nodes), "site": None, "reason": reason}
            body = _encode(asked | {"evict": evict} if what == "Drain" else asked)
        case c.RevokeToken(token=ident):
            names = {"token": ident}
        case c.RemoveDocument(kind=kind, name=name):
            names = {"kind": kind, "name": name}
        case c.IssueInvoices(tenant=tenant, period=period):
            names, body = {"tenant": tenant}, _encode({"period": period})
        case c.IssueCreditNote(invoice=number, amount_micros=amount, reason=reason):
            names = {"number": number}
            body = _encode({"amount_micros": amount, "reason": reason})
        case c.EraseTenant(tenant=tenant):
            names = {"tenant": tenant}
        case _:
            raise TypeError(f"no client asks for {what}")
    return Request(who, key, what, _path(what, **names), body)


def answer_of(request: Request, status: int, body: bytes) -> Answer:
    """What a client makes of an answer; ValueError (msgspec's) for one that is not of the shape that was promised."""
    if status >= 400:
        return Answer(status, problem=_decode_error(body).error)
    match _DECODERS[request.what](body):
        case v.SubmittedView() as view:
            return Answer(status, view.workloads, view.repeated, head=_head(view.head))
        case v.NewToken() as view:
            return Answer(status, (view.id,), token=view.value, head=_head(view.head))
        case v.InvoicesIssued() as view:
            return Answer(status, view.invoices, head=_head(view.head))
        case v.Done() as view:
            return Answer(status, (view.name,), head=_head(view.head))
        case v.Applied() as view:
            made = tuple(change.workload for change in view.changes if change.workload)
            return Answer(status, made, head=_head(view.head))
        case g.Instructed() as view:
            return Answer(status, (view.instruction.id,), head=_head(view.head))
        case v.Drained() as view:
            return Answer(status, head=_head(view.head))
        case _:
            return Answer(status)


def _head(view: v.HeadView | None) -> Head | None:
    if view is None:
        return None
    return Head(view.size, view.at_ms, base64.b64decode(view.root), base64.b64decode(view.signature))


@dataclass(slots=True)
class Notebook:
    """What clients asked (each attempt counts), and were told for good."""

    answered: list[Request] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)

    def deny(self, code: str) -> None:
        """Count a request that was turned down."""
        self.denied[code] += 1


UNAVAILABLE = ProblemCode.JOURNAL_UNAVAILABLE
"""The problem after which a client asks again: nothing came of what it asked."""
