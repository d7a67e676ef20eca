"""The application: every route behind its guard, one shape of error, OpenAPI 3.1."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Response

from headrace import __version__
from headrace.api.endpoint import Endpoint
from headrace.api.errors import MEANING, add_handlers
from headrace.api.guard import GuardedRoute
from headrace.api.openapi import complete
from headrace.api.proofs import Leaves
from headrace.api.routes.data import data
from headrace.api.routes.devices import devices
from headrace.api.routes.documents import documents
from headrace.api.routes.estate import estate
from headrace.api.routes.evidence import evidence
from headrace.api.routes.grid import grid
from headrace.api.routes.journal import journal
from headrace.api.routes.money import money
from headrace.api.routes.packs import packs
from headrace.api.routes.planning import planning
from headrace.api.routes.sovereignty import sovereignty
from headrace.api.routes.system import health, system
from headrace.api.routes.tokens import tokens
from headrace.api.routes.workloads import workloads
from headrace.api.views import ErrorView, Health
from headrace.service import InlineService

# The busiest first: routes are tried in this order.
GROUPS = (
    workloads,
    system,
    estate,
    documents,
    data,
    money,
    tokens,
    journal,
    planning,
    grid,
    evidence,
    devices,
    packs,
    sovereignty,
)
PUBLIC = ("/healthz", "/openapi.json")
"""What is answered without a token."""


def create_app(service: InlineService, *, random: Callable[[int], bytes] = secrets.token_bytes) -> FastAPI:
    """The API of a service, live (:class:`~headrace.service.Service`) or inline; ``random`` gives the tokens' bytes."""
    app = FastAPI(
        title="Headrace",
        version=__version__,
        description="The control plane of a sovereign AI cloud: estates, workloads, evidence, invoices.",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        # A redirect would name whatever host the request named, to anybody.
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.service = service
    app.state.random = random
    app.state.audited = {}
    app.state.leaves = Leaves()
    app.state.planning = asyncio.Lock()
    for group in GROUPS:
        for endpoint in group.endpoints:
            _add(app, endpoint)
    app.add_api_route(
        "/healthz", health, response_model=None, responses={200: {"model": Health}}, tags=["system"]
    )
    add_handlers(app)
    plain = app.openapi
    app.openapi = lambda: complete(app, plain)  # type: ignore[method-assign]  # how FastAPI says to extend it
    return app


def _add(app: FastAPI, endpoint: Endpoint) -> None:
    responses: dict[int | str, dict[str, Any]] = {endpoint.status: {"model": endpoint.view}}
    kind: dict[str, Any] = {}
    if endpoint.media:
        content = {endpoint.media: {"schema": {"type": "string"}}}
        responses[endpoint.status], kind = {"content": content}, {"response_class": Response}
    for status in sorted({*endpoint.errors, 500}):
        responses[status] = {"model": ErrorView, "description": MEANING[status]}
    extra: dict[str, Any] = {"security": [{"bearer": []}], "x-headrace-action": endpoint.action}
    if endpoint.body is not None:
        extra["requestBody"] = endpoint.body
    if endpoint.parameters:
        extra["parameters"] = list(endpoint.parameters)
    app.router.add_api_route(
        endpoint.path,
        endpoint.handler,
        methods=[endpoint.method],
        status_code=endpoint.status,
        response_model=None,
        responses=responses,
        tags=[endpoint.tag],
        openapi_extra=extra,
        route_class_override=GuardedRoute,
        **kind,
    )
