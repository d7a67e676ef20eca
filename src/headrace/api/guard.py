"""Who asks, and may they: every route declares its action and whose thing it is about, or can't be registered.

The decision comes before anything else of a request is looked at: nobody without the right learns what was wrong with
the rest. A tenant's token meets what is not its own as if it were not there.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic.fields import FieldInfo

from headrace.api.listing import where_listed
from headrace.control import Caller
from headrace.core.authority import Subject, Target
from headrace.core.codec import DOCUMENT_TYPES
from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.core.ids import InvoiceNumber, TenantId, TokenId, WorkloadId
from headrace.core.state import Token
from headrace.core.world import World
from headrace.service import InlineService

CALL = "headrace.call"
TOKEN_PREFIX = "hr_"  # noqa: S105 - what a token begins with, so that a leaked one is found


@dataclass(slots=True)
class Call:
    """An authenticated, permitted request."""

    request: Request
    service: InlineService
    caller: Caller
    token: Token

    @property
    def world(self) -> World:
        """The world as it is now; never keep it over an await."""
        return self.service.control.world

    @property
    def tenant(self) -> TenantId | None:
        """The tenant that the token is bound to; None for the operator's."""
        return self.caller.subject.tenant


async def current_call(request: Request) -> Call:
    """The call that the guard made."""
    call: Call = request.scope[CALL]
    return call


CallDep = Annotated[Call, Depends(current_call)]
TargetOf = Callable[[Call], Target]


@dataclass(frozen=True, slots=True)
class Guard:
    """What a route is decided as: an action of the one table of rights, and whose thing it is about."""

    action: str
    target: TargetOf


GUARDS: dict[object, Guard] = {}
"""The guard of each endpoint function."""


class GuardedRoute(APIRoute):
    """A route that can't be without a guard."""

    @property
    def guard(self) -> Guard:
        """What the route is decided as; raises KeyError for an endpoint that nobody gave an action."""
        return GUARDS[self.endpoint]

    @property
    def _is_plain(self) -> bool:
        """Whether nothing but names in the path is to be taken from the request: then FastAPI's resolving is left out."""
        wanted = self.dependant
        others = (wanted.query_params, wanted.header_params, wanted.cookie_params, wanted.body_params)
        names = (one.field_info for one in wanted.path_params)
        # What has a pattern is checked by FastAPI; a name is looked up by the guard.
        return not any(others) and all(one.annotation is str and not _has_pattern(one) for one in names)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint behind its guard; what it read is durable before it is answered."""
        inner, guard, reads = super().get_route_handler(), self.guard, "GET" in (self.methods or ())
        endpoint, plain = self.endpoint, self._is_plain
        known = frozenset(one.alias for one in self.dependant.query_params)

        async def handle(request: Request) -> Response:
            call = authenticate(request)
            try:
                permit(call, guard)
                if request.scope["query_string"]:
                    check_query(request, known)
                request.scope[CALL] = call
                response: Response = await (
                    endpoint(call, **request.path_params) if plain else inner(request)
                )
            except HeadraceError:
                await call.service.settled()
                raise
            if reads:
                await call.service.settled()
            return response

        return handle


def check_query(request: Request, known: frozenset[str]) -> None:
    """HeadraceError for a query's parameter that the route has not: mistyped, it would silently do nothing."""
    for name in request.query_params:
        if name not in known:
            shown = name if len(name) <= 60 else f"{name[:60]}..."
            step = did_you_mean(shown, known) if known else "It takes none."
            problem = Problem(ProblemCode.BAD_INPUT, f"no parameter {shown!r};", step, f"query.{shown}")
            raise HeadraceError(problem)


def _has_pattern(info: FieldInfo) -> bool:
    return any(getattr(one, "pattern", None) is not None for one in info.metadata)


# -- who ---------------------------------------------------------------------------------------------------------------


def token_hash(value: str) -> str:
    """What the world knows a token by."""
    return sha256(value.encode()).hexdigest()


def authenticate(request: Request) -> Call:
    """The caller of a request; raises HeadraceError without a valid token."""
    service: InlineService = request.app.state.service
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if not value or scheme.lower() != "bearer":
        raise _unauthenticated("no token.", "Send 'Authorization: Bearer hr_...'.")
    token = service.control.world.state.tokens.get(token_hash(value.strip()))
    if token is None:
        raise _unauthenticated("this token is not known.", "Check it, or ask for a new one.")
    if token.revoked:
        raise _unauthenticated(f"token {token.id} was revoked.", "Ask for a new one.")
    if token.expires_ms and service.control.now_ms() >= token.expires_ms:
        raise _unauthenticated(f"token {token.id} has expired.", "Ask for a new one.")
    caller = Caller(Subject("token", token.id, token.role, token.tenant, token.countries), token.number)
    return Call(request, service, caller, token)


def _unauthenticated(message: str, step: str) -> HeadraceError:
    return HeadraceError(Problem(ProblemCode.UNAUTHENTICATED, message, step))


# -- may they ----------------------------------------------------------------------------------------------------------


def permit(call: Call, guard: Guard) -> None:
    """Ask the authority; raises HeadraceError when it denies."""
    require(call, guard.action, guard.target(call))


def require(call: Call, action: str, target: Target) -> None:
    """Ask the authority about one action; raises HeadraceError when it denies."""
    subject = call.caller.subject
    verdict = call.world.right(subject, action, target)[0]
    if verdict.allowed:
        return
    if subject.tenant is not None and target.tenant != subject.tenant and target.id:
        # What one may not see does not exist for one.
        raise not_there(target.kind, target.id)
    step = "Use a token with that right; see 'headrace whoami'."
    raise HeadraceError(Problem(ProblemCode.FORBIDDEN, f"{verdict.reasons[0]}.", step))


def may(call: Call, action: str, target: Target) -> bool:
    """Whether the authority allows it."""
    return call.world.right(call.caller.subject, action, target)[0].allowed


def not_there(kind: str, ident: str) -> HeadraceError:
    """The error of a thing that does not exist, the same for one that is another tenant's."""
    shown = ident if len(ident) <= 100 else f"{ident[:100]}..."
    return HeadraceError(Problem(ProblemCode.NOT_FOUND, f"no {kind} {shown!r}.", where_listed(kind)))


# -- whose -------------------------------------------------------------------------------------------------------------


def operators(kind: str) -> TargetOf:
    """The operator's own thing."""
    return lambda _: Target(kind)


def callers(kind: str) -> TargetOf:
    """What the caller has: a tenant's token is about its tenant, the operator's about everything."""
    return lambda call: Target(kind, call.tenant)


def of_tenant(kind: str) -> TargetOf:
    """A thing of the tenant in the path."""

    def target(call: Call) -> Target:
        tenant = TenantId(call.request.path_params["tenant"])
        if call.tenant is None and tenant not in call.world.state.tenants:
            raise not_there("tenant", tenant)
        return Target(kind, tenant, tenant)

    return target


def of_query_tenant(kind: str) -> TargetOf:
    """What the tenant of the query ``?tenant=`` has; without one, what the caller has."""

    def target(call: Call) -> Target:
        tenant = call.request.query_params.get("tenant") or call.tenant
        if call.tenant is None and tenant and tenant not in call.world.state.tenants:
            raise not_there("tenant", tenant)
        return Target(kind, TenantId(tenant) if tenant else None, tenant or "")

    return target


def of_workload(call: Call) -> Target:
    """The workload in the path."""
    ident = WorkloadId(call.request.path_params["workload"])
    work = call.world.state.workloads.get(ident)
    if work is None:
        raise not_there("workload", ident)
    return Target("workload", work.tenant, ident)


def of_token(call: Call) -> Target:
    """The token in the path."""
    ident = TokenId(call.request.path_params["token"])
    for token in call.world.state.tokens.values():
        if token.id == ident:
            return Target("token", token.tenant, ident)
    raise not_there("token", ident)


def of_invoice(call: Call) -> Target:
    """The invoice in the path."""
    number = InvoiceNumber(call.request.path_params["number"])
    invoice = call.world.state.invoices.get(number)
    if invoice is None:
        raise not_there("invoice", number)
    return Target("invoice", invoice.tenant, number)


def of_document(call: Call) -> Target:
    """The document in the path: a tenant's are its own, its contracts and their price plans, and its reservations."""
    kind, name = call.request.path_params["kind"], call.request.path_params["name"]
    if kind not in DOCUMENT_TYPES:
        shown = kind if len(kind) <= 60 else f"{kind[:60]}..."
        step = did_you_mean(shown, DOCUMENT_TYPES)
        raise HeadraceError(Problem(ProblemCode.NOT_FOUND, f"no kind of document {shown!r};", step))
    if f"{kind}/{name}" not in call.world.state.documents:
        raise not_there(kind, name)
    target = Target(kind, owner_of(call.world, kind, name), name)
    if kind == "price-plan" and call.tenant is not None and is_plan_of(call.world, name, call.tenant):
        return replace(target, tenant=call.tenant)
    return target


def owner_of(world: World, kind: str, name: str) -> TenantId | None:
    """Whose a document is; None for the operator's."""
    if kind == "tenant":
        return TenantId(name)
    if kind == "dataset":
        return TenantId(name.partition(".")[0])
    if kind == "contract":
        return next((one.tenant for one in world.contracts.values() if one.id == name), None)
    if kind == "reservation":
        return next((one.tenant for one in world.reservations.values() if one.id == name), None)
    return None


def is_plan_of(world: World, plan: str, tenant: TenantId) -> bool:
    """Whether a contract of the tenant names the price plan."""
    return any(one.plan == plan and one.tenant == tenant for one in world.contracts.values())
