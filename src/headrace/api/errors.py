"""One shape for every error, and one table from the kinds of problem to statuses."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from headrace.api.views import ErrorView, ProblemView
from headrace.core.errors import HeadraceError, Problem, ProblemCode

STATUS: dict[ProblemCode, int] = {
    ProblemCode.BAD_INPUT: 400,
    ProblemCode.UNAUTHENTICATED: 401,
    ProblemCode.FORBIDDEN: 403,
    ProblemCode.NOT_FOUND: 404,
    ProblemCode.CONFLICT: 409,
    ProblemCode.IN_USE: 409,
    ProblemCode.IDEMPOTENCY_MISMATCH: 409,
    ProblemCode.STALE: 409,
    ProblemCode.TOO_LARGE: 413,
    ProblemCode.UNPLACEABLE: 422,
    ProblemCode.JURISDICTION: 422,
    ProblemCode.JOURNAL_UNAVAILABLE: 503,
    ProblemCode.ENGINE_UNAVAILABLE: 503,
    ProblemCode.BROKEN: 500,
}
"""The status of each kind of problem."""
RETRY_AFTER_S = "1"
MEANING: dict[int, str] = {
    400: "The input is wrong; each problem says where.",
    401: "No token, or one that opens nothing.",
    403: "The token has no such right.",
    404: "There is no such thing, or it is another tenant's.",
    409: "It contradicts how things stand.",
    413: "The body is too large.",
    422: "It can never be placed here; the problem says why.",
    500: "A defect.",
    503: "Nothing can be committed, or an engine does not answer: try again.",
}
"""What each status means, for the OpenAPI document."""

_encode = msgspec.json.Encoder().encode


def problem_view(problem: Problem) -> ProblemView:
    """A problem as it goes out."""
    return ProblemView(problem.code, problem.message, problem.next_step, problem.where, problem.related)


def error_response(
    problems: Sequence[Problem], status: int = 0, headers: Mapping[str, str] | None = None
) -> Response:
    """The response of one or more problems; ``status`` 0 takes that of the first one."""
    views = tuple(problem_view(problem) for problem in problems)
    status = status or STATUS[problems[0].code]
    more = dict(headers or {})
    if status == 401:
        more["www-authenticate"] = 'Bearer realm="headrace"'
    elif status == 503:
        more["retry-after"] = RETRY_AFTER_S
    return Response(_encode(ErrorView(views[0], views)), status, more, "application/json")


def add_handlers(app: FastAPI) -> None:
    """Let the framework's own errors have the one shape too."""
    app.add_exception_handler(HeadraceError, _headrace)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _defect)


async def _headrace(_: Request, error: Exception) -> Response:
    problems = error.problems if isinstance(error, HeadraceError) else ()
    return error_response(problems)


async def _framework(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    if status == 404:
        message = f"no resource {request.url.path!r};"
        return error_response([Problem(ProblemCode.NOT_FOUND, message, "see /openapi.json.")])
    if status == 405:
        allowed = (headers or {}).get("Allow", "")
        message = f"{request.method} is not for {request.url.path!r};"
        return error_response([Problem(ProblemCode.BAD_INPUT, message, f"allowed: {allowed}.")], 405, headers)
    return error_response(
        [Problem(ProblemCode.BAD_INPUT, f"{error}.", "See /openapi.json.")], status, headers
    )


async def _validation(_: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    return error_response([_parameter_problem(item) for item in found])


def _parameter_problem(found: Mapping[str, Any]) -> Problem:
    where = ".".join(str(part) for part in found["loc"])
    said = str(found["msg"])
    return Problem(
        ProblemCode.BAD_INPUT, f"{where.rpartition('.')[2]}: {said[:1].lower()}{said[1:]}.", where=where
    )


async def _defect(_: Request, error: Exception) -> Response:
    # The traceback goes to the server's log, never to the caller.
    message = f"a defect in headrace ({type(error).__name__}); nothing is known of what was asked."
    return error_response(
        [Problem(ProblemCode.BROKEN, message, "Look whether it was done, and report this.")]
    )
