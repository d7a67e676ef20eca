"""Every route is decided by the one authority, and a tenant meets only its own."""

import re
from typing import Any

import pytest
from fastapi.routing import APIRoute

from headrace.api.app import PUBLIC
from headrace.api.guard import GUARDS, GuardedRoute
from headrace.core.sovereignty.plain import ACTIONS
from tests.api.small import ALBION, JOB, Small


def test_every_route_declares_an_action_of_the_one_table_of_rights(world: Small) -> None:
    """A route without an action can only be one of the short list of public ones."""
    guarded = []
    for route in world.app.routes:
        path = getattr(route, "path", "")
        if path in PUBLIC:
            continue
        assert isinstance(route, GuardedRoute), f"{path} has no guard"
        assert route.guard.action in ACTIONS, f"{path} is decided as {route.guard.action}, which is no action"
        guarded.append(path)
    assert len(guarded) > 30


def test_a_route_without_an_action_cannot_be_registered(world: Small) -> None:
    """Whoever forgets the action of a new route finds out at the start."""

    async def forgotten() -> None: ...

    with pytest.raises(KeyError):
        world.app.router.add_api_route("/v1/forgotten", forgotten, route_class_override=GuardedRoute)
    assert forgotten not in GUARDS


def _paths(world: Small) -> list[tuple[str, str]]:
    names = {
        "tenant": "fjord-ai",
        "workload": "fjord-ai-1",
        "kind": "tenant",
        "name": "fjord-ai",
        "period": "2026-11",
        "number": "2026-11-fjord-ai-NOK-0",
        "line": "1",
        "token": "t-2",
        "seq": "0",
        "instruction": "evening",
        "site": "glomfjord",
    }
    found: list[tuple[str, str]] = []
    for route in world.app.routes:
        if isinstance(route, APIRoute) and route.path not in PUBLIC:
            path = re.sub(r"\{(\w+)\}", lambda match: names[match[1]], route.path)
            found.extend((method, path) for method in sorted(route.methods or ()))
    return found


@pytest.mark.parametrize("token", ["", "hr_wrong", "Basic"])
def test_no_route_answers_without_a_token_that_opens_it(world: Small, token: str) -> None:
    """Without a token, or with a wrong one, every route says 401 and how to do better, and nothing changes."""
    before = world.state
    for method, path in _paths(world):
        answer = world.ask(method, path, token=token)
        assert answer.status == 401, (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert world.state == before


def test_a_revoked_token_and_an_expired_one_open_nothing(world: Small) -> None:
    """Both are told apart from a token that never was."""
    made = world.ask(
        "POST", "/v1/tokens", {"role": "tenant-member", "tenant": "fjord-ai", "expires_in": "1h"}
    ).json
    assert world.ask("GET", "/v1/whoami", token=made["value"]).json["tenant"] == "fjord-ai"
    world.clock.at_ms += 3_600_000
    expired = world.ask("GET", "/v1/whoami", token=made["value"])
    assert expired.status == 401
    assert "expired" in expired.json["error"]["message"]
    assert world.ask("DELETE", "/v1/tokens/t-4").status == 200
    revoked = world.ask("GET", "/v1/whoami", token="albion")
    assert revoked.status == 401
    assert "revoked" in revoked.json["error"]["message"]


OPERATORS = [
    ("GET", "/v1/nodes", None),
    ("GET", "/v1/power", None),
    ("GET", "/v1/power/impact?element=glomfjord", None),
    ("POST", "/v1/nodes/drain", {"site": "glomfjord"}),
    ("POST", "/v1/apply", {"documents": [{"kind": "tenant", "name": "x", "projects": ["p"]}]}),
    ("DELETE", "/v1/documents/tenant/fjord-ai", None),
    ("POST", "/v1/meter", None),
    ("GET", "/v1/journal/head", None),
    ("GET", "/v1/journal/events", None),
    ("POST", "/v1/tenants/fjord-ai/erase", None),
    ("POST", "/v1/tenants/fjord-ai/invoices", {"period": "2026-11"}),
]


@pytest.mark.parametrize(("method", "path", "body"), OPERATORS)
def test_a_tenant_may_not_do_what_is_the_operators(world: Small, method: str, path: str, body: Any) -> None:
    """It is refused with 403, and nothing changes."""
    before = world.state
    answer = world.ask(method, path, b"" if body is None else body, token="fjord")
    assert (answer.status, answer.codes) == (403, ["forbidden"])
    assert world.state == before


def test_what_is_another_tenants_answers_as_what_does_not_exist(world: Small) -> None:
    """The answers are the same to the letter but for the name, so that nobody learns what others have."""
    assert world.submit().status == 201
    pairs = [
        ("GET", "/v1/workloads/{}", "fjord-ai-1", "fjord-ai-9"),
        ("GET", "/v1/workloads/{}/explain", "fjord-ai-1", "fjord-ai-9"),
        ("GET", "/v1/workloads/{}/logs", "fjord-ai-1", "fjord-ai-9"),
        ("GET", "/v1/workloads/{}/endpoint", "fjord-ai-1", "fjord-ai-9"),
        ("POST", "/v1/workloads/{}/stop", "fjord-ai-1", "fjord-ai-9"),
        ("POST", "/v1/workloads/{}/pause", "fjord-ai-1", "fjord-ai-9"),
        ("GET", "/v1/documents/tenant/{}", "fjord-ai", "nobody"),
        ("GET", "/v1/documents/contract/{}", "fjord-on-demand", "nothing"),
        ("GET", "/v1/documents/price-plan/{}", "lab-nok", "nothing"),
        ("GET", "/v1/documents/estate/{}", "headrace-lab", "nothing"),
        ("GET", "/v1/workloads?tenant={}", "fjord-ai", "nobody"),
        ("GET", "/v1/invoices?tenant={}", "fjord-ai", "nobody"),
        ("GET", "/v1/tenants/{}/invoices/2026-11", "fjord-ai", "nobody"),
        ("POST", "/v1/tenants/{}/workloads", "fjord-ai", "nobody"),
        ("DELETE", "/v1/tokens/{}", "t-2", "t-99"),
    ]
    before = world.state
    for method, path, theirs, nobodys in pairs:
        there = world.ask(method, path.format(theirs), token="albion")
        nowhere = world.ask(method, path.format(nobodys), token="albion")
        assert there.status == nowhere.status == 404, (method, path, there.body)
        assert there.body.decode().replace(theirs, "X") == nowhere.body.decode().replace(nobodys, "X")
    assert world.state == before


def test_lists_hold_a_tenants_own_alone(world: Small) -> None:
    """Workloads, documents, tokens and counts are those of the token's tenant."""
    world.submit()
    world.submit(dict(JOB, project="radiology"), tenant=ALBION)
    for token, own, other in (("fjord", "fjord-ai", "albion"), ("albion", "albion-health", "fjord")):
        for path in ("/v1/workloads", "/v1/documents", "/v1/tokens", "/v1/invoices"):
            answer = world.ask("GET", path, token=token)
            assert answer.status == 200
            assert other not in answer.body.decode(), path
        listed = world.ask("GET", "/v1/workloads", token=token).json["workloads"]
        assert [one["tenant"] for one in listed] == [own]
        assert world.ask("GET", "/v1/status", token=token).json["workloads"] == {"queued": 1}
    assert len(world.ask("GET", "/v1/workloads").json["workloads"]) == 2


def test_a_member_of_a_tenant_works_but_makes_no_tokens(world: Small) -> None:
    """A member submits and stops; tokens are its admin's."""
    assert world.submit(token="member").status == 201
    assert world.ask("POST", "/v1/workloads/fjord-ai-1/stop", token="member").status == 200
    asked = {"role": "tenant-member", "tenant": "fjord-ai"}
    assert world.ask("POST", "/v1/tokens", asked, token="member").status == 403
    assert world.ask("POST", "/v1/tokens", asked, token="fjord").status == 201


@pytest.mark.parametrize(
    ("role", "tenant", "status"),
    [
        ("operator-admin", "fjord-ai", 400),
        ("operator-admin", None, 400),
        ("tenant-admin", "albion-health", 404),
        ("system", None, 400),
    ],
)
def test_a_tenants_admin_cannot_make_a_token_that_is_more_than_its_own(
    world: Small, role: str, tenant: str | None, status: int
) -> None:
    """No token is made whose role or tenant is beyond that of who makes it."""
    before = world.state
    answer = world.ask("POST", "/v1/tokens", {"role": role, "tenant": tenant}, token="fjord")
    assert answer.status == status
    assert world.state == before


def test_a_tokens_value_is_said_once_and_kept_nowhere(world: Small) -> None:
    """Neither a list nor any byte of the store holds it, nor the name of who has it."""
    made = world.ask(
        "POST", "/v1/tokens", {"role": "tenant-admin", "tenant": "fjord-ai", "holder": "Ada Byron"}
    ).json
    assert made["value"].startswith("hr_")
    assert len(made["value"]) == 3 + 43
    assert made["value"] not in world.ask("GET", "/v1/tokens").body.decode()
    assert world.ask("GET", "/v1/tokens").json["tokens"][-1]["holder"] == "Ada Byron"
    folder = world.store.path.parent
    stored = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    assert made["value"].encode() not in stored
    assert b"Ada Byron" not in stored
