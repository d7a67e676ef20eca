"""Tokens: made here once, known by their SHA-256 alone ever after."""

import base64

from fastapi import Response

from headrace.api.bodies import TokenBody, body
from headrace.api.endpoint import (
    Group,
    IdPath,
    carry_out,
    head_view,
    idempotency_key,
    json_body,
    reply,
)
from headrace.api.guard import TOKEN_PREFIX, Call, CallDep, callers, of_token, require, token_hash
from headrace.api.views import Done, NewToken, Tokens, TokenView, when
from headrace.core import commands as c
from headrace.core.authority import Role, Target
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import TenantId, TokenId
from headrace.core.state import Token

tokens = Group("tokens")
TOKEN_BYTES = 32
_HOLDERS = "token-holders"
_OPERATOR = "@operator"
"""Whose the operator's own names are in the vault: no tenant can be called so, and have them erased with its own."""


def token_value(random: bytes) -> str:
    """A token's value from 32 random bytes."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


@tokens.write(
    "POST", "/v1/tokens", "token.issue", callers("tokens"), NewToken, status=201, body=json_body(TokenBody)
)
async def issue(call: CallDep) -> Response:
    """Make a token; its value is in this answer and nowhere else: by the same idempotency key it is not told again."""
    asked = await body(call.request, TokenBody)
    role = Role(asked.role)
    tenant = TenantId(asked.tenant) if asked.tenant is not None else call.tenant
    # Asked before anything is kept: the vault takes no name for who has no right to give one.
    require(call, "token.issue", Target("tenant", tenant, tenant or ""))
    if (tenant is None) != (role is Role.OPERATOR_ADMIN):
        message = f"a token of role {role} {'needs its' if tenant is None else 'has no'} tenant."
        step = "Roles tenant-admin and tenant-member have a tenant; operator-admin has none."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, "/tenant"))
    control = call.service.control
    expires_ms = control.now_ms() + asked.expires_in if asked.expires_in else 0
    value = token_value(call.request.app.state.random(TOKEN_BYTES))
    known = tenant is None or tenant in call.world.tenants
    named_holder = asked.holder if known else ""
    text = _text(call, asked, tenant, named_holder)
    holder = control.keep(tenant or _OPERATOR, _HOLDERS, named_holder) if named_holder else ""
    command = c.IssueToken(
        token_hash(value), role, tenant, holder, expires_ms, tuple(sorted(set(asked.countries)))
    )
    named, head = await carry_out(call, command, text)
    if not isinstance(named, c.Named):
        raise TypeError(f"{command} was answered with {named}")
    return reply(NewToken(named.name, value, role, tenant, when(expires_ms), head_view(head)), 201)


def _text(call: Call, asked: TokenBody, tenant: TenantId | None, holder: str) -> str:
    """What was asked, without what every attempt makes anew. HeadraceError for a key by which a token was made already."""
    key, control = idempotency_key(call.request), call.service.control
    if not key:
        return ""
    private = control.private_digest(tenant or _OPERATOR, _HOLDERS, holder) if holder else ""
    text = f"{private} {asked.model_dump_json(exclude_defaults=True, exclude={'holder'})}"
    if control.is_repeated(call.caller, c.IssueToken, key, text):
        message = "by this idempotency key a token was made already, and its value was told once."
        step = "If the value is lost, revoke the token ('headrace token list', 'headrace token revoke'), and use a new key."
        raise HeadraceError(Problem(ProblemCode.CONFLICT, message, step))
    return text


@tokens.get("/v1/tokens", "token.read", callers("tokens"), Tokens)
async def list_tokens(call: CallDep) -> Response:
    """Tokens, without their values; a tenant's are its own."""
    found = [one for one in call.world.state.tokens.values() if call.tenant in (None, one.tenant)]
    return reply(Tokens(tuple(_view(call, one) for one in found)))


def _view(call: Call, token: Token) -> TokenView:
    holder = ""
    if token.holder:
        try:
            holder = call.service.control.reveal(token.holder)
        except HeadraceError:
            holder = "(erased)"
    expires = when(token.expires_ms)
    return TokenView(token.id, token.role, token.tenant, holder, expires, token.revoked, token.countries)


@tokens.write("DELETE", "/v1/tokens/{token}", "token.revoke", of_token, Done)
async def revoke(call: CallDep, token: IdPath) -> Response:
    """Let a token open nothing any more."""
    named, head = await carry_out(call, c.RevokeToken(TokenId(token)))
    if not isinstance(named, c.Named):
        raise TypeError(f"a revocation was answered with {named}")
    return reply(Done(named.name, named.changed, head_view(head)))
