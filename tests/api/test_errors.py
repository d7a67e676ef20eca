"""One shape for every error, the right status, the thing named, the next step; and nothing changed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Request

from headrace.api.bodies import MAX_BODY, read_body
from headrace.api.errors import STATUS
from headrace.core.errors import HeadraceError, ProblemCode
from tests.api.small import JOB, Small

SUBMIT = "/v1/tenants/fjord-ai/workloads"
WRONG: list[tuple[str, str, str, Any, int, str]] = [
    ("no JSON", "POST", SUBMIT, b'{"workloads": [', 400, "not JSON"),
    ("no object", "POST", SUBMIT, b"[]", 400, "not a mapping"),
    ("no UTF-8", "POST", SUBMIT, b'{"workloads": [{"name": "\xff\xfe"}]}', 400, "byte 25 is 0xff"),
    ("no UTF-8 in YAML", "POST", "/v1/apply", b"kind: ten\xffant", 400, "byte 9 is 0xff"),
    ("nothing", "POST", SUBMIT, b"", 400, "not JSON"),
    ("no workloads", "POST", SUBMIT, {"workloads": []}, 400, "empty list"),
    (
        "a field mistyped",
        "POST",
        SUBMIT,
        {"workloads": [dict(JOB, comands=["x"])]},
        400,
        "Did you mean commands?",
    ),
    ("negative nodes", "POST", SUBMIT, {"workloads": [dict(JOB, nodes=-3)]}, 400, "-3"),
    (
        "a project mistyped",
        "POST",
        SUBMIT,
        {"workloads": [dict(JOB, project="reserch")]},
        404,
        "Did you mean research?",
    ),
    (
        "a site mistyped",
        "POST",
        SUBMIT,
        {"workloads": [dict(JOB, site="glomfjrd")]},
        404,
        "Did you mean glomfjord?",
    ),
    ("never fits", "POST", SUBMIT, {"workloads": [dict(JOB, nodes=99)]}, 422, "can never be placed"),
    (
        "a tenant unknown",
        "POST",
        "/v1/tenants/nobody/workloads",
        {"workloads": [JOB]},
        404,
        "no tenant 'nobody'",
    ),
    ("a token's role", "POST", "/v1/tokens", {"role": "king"}, 400, "king"),
    ("a body's field", "POST", "/v1/nodes/drain", {"nods": ["x"]}, 400, "Did you mean nodes?"),
    ("no nodes named", "POST", "/v1/nodes/drain", {}, 400, "not said which nodes"),
    (
        "a node unknown",
        "POST",
        "/v1/nodes/drain",
        {"nodes": ["glomfjord/block-1/lab-0-9"]},
        404,
        "Did you mean",
    ),
    ("a site unknown", "POST", "/v1/nodes/drain", {"site": "glomfjrd"}, 404, "Did you mean glomfjord?"),
    ("a page too long", "GET", "/v1/workloads?limit=100000", b"", 400, "1000"),
    ("a page of nothing", "GET", "/v1/workloads?limit=-1", b"", 400, "limit"),
    ("a parameter mistyped", "GET", "/v1/workloads?stat=queued", b"", 400, "Did you mean state?"),
    ("a parameter too many", "GET", "/v1/whoami?x=1", b"", 400, "no parameter 'x'"),
    ("a state unknown", "GET", "/v1/workloads?state=asleep", b"", 400, "state"),
    ("after nothing", "GET", "/v1/workloads?after=fjord-ai-77", b"", 400, "fjord-ai-77"),
    ("a period", "GET", "/v1/tenants/fjord-ai/invoices/2026-13", b"", 400, "period"),
    ("a workload unknown", "GET", "/v1/workloads/fjord-ai-9", b"", 404, "no workload 'fjord-ai-9'"),
    ("no such resource", "GET", "/v1/wrklds", b"", 404, "no resource '/v1/wrklds'"),
    ("a wrong method", "PUT", "/v1/status", b"", 405, "allowed: GET"),
    ("an estate in use", "DELETE", "/v1/documents/price-plan/lab-nok", b"", 409, "fjord-on-demand"),
    ("documents no list", "POST", "/v1/apply", {"documents": 3}, 400, "list of documents"),
    (
        "nothing to invoice",
        "POST",
        "/v1/tenants/fjord-ai/invoices",
        {"period": "2020-01"},
        409,
        "nothing to invoice",
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_bad_input_is_told_what_is_wrong_and_changes_nothing(
    world: Small, method: str, path: str, body: Any, status: int, says: str
) -> None:
    """A clear error in the one shape, the right status, and the world as it was."""
    before = world.state
    yaml = {"content-type": "application/yaml"} if path == "/v1/apply" and isinstance(body, bytes) else {}
    answer = world.ask(method, path, body, headers=yaml)
    assert answer.status == status, answer.body
    found = answer.json
    assert set(found) == {"error", "errors"}
    assert found["error"] == found["errors"][0]
    for problem in found["errors"]:
        assert set(problem) == {"code", "message", "next_step", "where", "related"}
        assert problem["message"]
    assert says in answer.body.decode()
    assert world.state == before


def test_every_problem_of_a_body_is_said_at_once(world: Small) -> None:
    """Two wrong workloads are two problems, each with its place."""
    answer = world.submit(dict(JOB, nodes=0), JOB, dict(JOB, type="jbo"))
    assert [one["where"] for one in answer.json["errors"]] == ["/workloads/0/nodes", "/workloads/2/type"]


def test_every_kind_of_problem_has_a_status() -> None:
    """A new kind of problem can't be forgotten in the table."""
    assert set(STATUS) == set(ProblemCode)
    assert all(400 <= status < 600 for status in STATUS.values())


def test_a_body_of_50_mb_is_refused_by_its_header_without_being_read(world: Small) -> None:
    """413 before a byte of it is taken."""
    headers = {"content-length": str(50_000_000)}
    answer = world.ask("POST", SUBMIT, b"{}", headers=headers)
    assert (answer.status, answer.codes) == (413, ["too_large"])


class _Endless:
    """A body that hides its length and never ends; counts what was taken of it."""

    def __init__(self) -> None:
        self.taken = 0

    async def stream(self) -> AsyncIterator[bytes]:
        while True:
            self.taken += 1 << 20
            yield b"x" * (1 << 20)


def test_a_body_that_hides_its_length_is_cut_off_at_the_limit() -> None:
    """No more than the limit and one piece is ever taken from it."""
    endless = _Endless()

    class Hidden(Request):
        async def stream(self) -> Any:
            async for chunk in endless.stream():
                yield chunk

    reading = read_body(Hidden({"type": "http", "headers": []}))
    with pytest.raises(HeadraceError) as caught:
        reading.send(None)
    assert caught.value.problem.code is ProblemCode.TOO_LARGE
    assert endless.taken <= MAX_BODY + (1 << 20)


@pytest.mark.parametrize("key", ["", "x" * 201, "tab\there", "\xff"])
def test_an_idempotency_key_that_can_not_be_one_is_refused(world: Small, key: str) -> None:
    """Empty, too long, not printable: 400, and nothing is submitted."""
    answer = world.ask("POST", SUBMIT, {"workloads": [JOB]}, headers={"idempotency-key": key})
    assert answer.status == 400
    assert not world.control.world.state.workloads
