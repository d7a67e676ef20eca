"""How a route is written down: method, path, action, whose, what it answers; one list of them for each group."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from fastapi import Path, Query, Response

from headrace.api.guard import GUARDS, Guard, TargetOf
from headrace.api.views import HeadView
from headrace.journal.codec import Head

Handler = Callable[..., Coroutine[Any, Any, Response]]
MAX_PAGE = 1_000

IdPath = Annotated[str, Path(min_length=1, max_length=100)]
PeriodPath = Annotated[str, Path(pattern="^[0-9]{4}-(0[1-9]|1[0-2])$")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
After = Annotated[str, Query(max_length=200)]

READ_ERRORS = (400, 401, 403, 404, 503)
WRITE_ERRORS = (*READ_ERRORS, 409, 413)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route. ``body`` are the schemas of its body by media type, ``view`` the class that it answers with."""

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


@dataclass(slots=True)
class Group:
    """Routes that belong together, in the order in which they are matched."""

    tag: str
    endpoints: list[Endpoint] = field(default_factory=list)

    def get(
        self, path: str, action: str, target: TargetOf, view: type, *, errors: Sequence[int] = ()
    ) -> Callable[[Handler], Handler]:
        """Register a reading route."""

        def register(handler: Handler) -> Handler:
            GUARDS[handler] = Guard(action, target)
            known = (*READ_ERRORS, *errors)
            self.endpoints.append(Endpoint("GET", path, handler, view, 200, known, action, None, self.tag))
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
        parameters: Sequence[dict[str, Any]] = (),
    ) -> Callable[[Handler], Handler]:
        """Register a route that changes something; ``body`` is its ``requestBody`` for the OpenAPI document."""

        def register(handler: Handler) -> Handler:
            GUARDS[handler] = Guard(action, target)
            known = (*WRITE_ERRORS, *errors)
            self.endpoints.append(
                Endpoint(
                    method, path, handler, view, status, known, action, body, self.tag, tuple(parameters)
                )
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
    "description": "The same key and body again (for two days) gives the first answer, and does nothing twice.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}

_encode = msgspec.json.Encoder().encode


def reply(value: object, status: int = 200) -> Response:
    """A JSON response of a view."""
    return Response(_encode(value), status, media_type="application/json")


def head_view(head: Head | None) -> HeadView | None:
    """A head as it goes out."""
    if head is None:
        return None
    plain = head.as_json()
    return HeadView(head.size, head.at_ms, str(plain["root"]), str(plain["signature"]))
