"""How a route is written down: method, path, action, whose, what it answers; one list of them for each group."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from fastapi import Path, Query, Request, Response

from headrace.api.guard import GUARDS, Call, Guard, TargetOf
from headrace.api.views import HeadView
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.journal.codec import Head

Handler = Callable[..., Coroutine[Any, Any, Response]]
MAX_PAGE = 1_000
MAX_KEY = 200

IdPath = Annotated[str, Path(min_length=1, max_length=100)]
PeriodPath = Annotated[str, Path(pattern="^[0-9]{4}-(0[1-9]|1[0-2])$")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
After = Annotated[str, Query(max_length=200)]

READ_ERRORS = (400, 401, 403, 404, 503)
WRITE_ERRORS = (*READ_ERRORS, 409, 413)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route. ``body`` are the schemas of its body by media type, ``view`` the class that it answers with.

    ``media``: what it answers with instead of JSON.
    """

    method: str
    path: str
    handler: Handler
    view: type
    status: int
    errors: tuple[int, ...]
    action: str
    body: dict[str, Any] | None
    tag: str
    parameters: tuple[dict[str, Any], ...] = ()
    media: str = ""


@dataclass(slots=True)
class Group:
    """Routes that belong together, in the order in which they are matched."""

    tag: str
    endpoints: list[Endpoint] = field(default_factory=list)

    def get(
        self,
        path: str,
        action: str,
        target: TargetOf,
        view: type,
        *,
        errors: Sequence[int] = (),
        media: str = "",
    ) -> Callable[[Handler], Handler]:
        """Register a reading route."""

        def register(handler: Handler) -> Handler:
            GUARDS[handler] = Guard(action, target)
            known = (*READ_ERRORS, *errors)
            found = Endpoint("GET", path, handler, view, 200, known, action, None, self.tag, media=media)
            self.endpoints.append(found)
            return handler

        return register

    def write(  # noqa: PLR0913 - one argument for each fact of a route
        self,
        method: str,
        path: str,
        action: str,
        target: TargetOf,
        view: type,
        *,
        status: int = 200,
        errors: Sequence[int] = (),
        body: dict[str, Any] | None = None,
        keyed: bool = True,
    ) -> Callable[[Handler], Handler]:
        """Register a route that changes something; ``body`` is its ``requestBody`` for the OpenAPI document.

        ``keyed``: it takes an idempotency key, which its handler leaves to :func:`carry_out`.
        """
        parameters = (IDEMPOTENCY_KEY,) if keyed else ()

        def register(handler: Handler) -> Handler:
            GUARDS[handler] = Guard(action, target)
            known = (*WRITE_ERRORS, *errors)
            self.endpoints.append(
                Endpoint(method, path, handler, view, status, known, action, body, self.tag, parameters)
            )
            return handler

        return register


def json_body(model: type, *, required: bool = True) -> dict[str, Any]:
    """The ``requestBody`` of a JSON body; its schema is put among the document's components."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"required": required, "content": {"application/json": {"schema": schema}}}


IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and request again (for two days) gives the first answer, and does nothing twice;"
    " the same key and another request is refused with 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
}


def idempotency_key(request: Request) -> str:
    """The key of a request, empty without one; HeadraceError for one that can't be a key."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return ""
    if not 1 <= len(key) <= MAX_KEY or not (key.isascii() and key.isprintable()):
        message = "this idempotency key can't be one."
        step = f"Send 1 to {MAX_KEY} printable ASCII characters."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, "header Idempotency-Key"))
    return key


async def carry_out(call: Call, command: c.Command, asked: str = "") -> tuple[c.Reply, Head | None]:
    """Carry out a request's command, once for its idempotency key; see ``Control.execute`` for ``asked``."""
    return await call.service.run(call.caller, command, idempotency_key(call.request), asked)


encode = msgspec.json.Encoder().encode


def reply(value: object, status: int = 200) -> Response:
    """A JSON response of a view."""
    return json_reply(encode(value), status)


def json_reply(body: bytes, status: int = 200) -> Response:
    """The same of a view that is encoded already."""
    return Response(body, status, media_type="application/json")


def head_view(head: Head | None) -> HeadView | None:
    """A head as it goes out."""
    if head is None:
        return None
    plain = head.as_json()
    return HeadView(head.size, head.at_ms, str(plain["root"]), str(plain["signature"]))
