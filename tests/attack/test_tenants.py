"""Promise 6 under attack through the API: nothing tells a tenant of another, and no name opens what is another's."""

import base64
import json
import re
from urllib.parse import quote

import pytest

from tests.api.small import ALBION, EXAMPLES, JOB, Answer, Small

LAB = (EXAMPLES / "estates" / "lab.yaml").read_text()
SECRET_SITE = LAB.replace("  - name: loughton\n", "  - name: loughton\n    dedicated_to: albion-health\n")
TENANT = """\
kind: tenant
name: {0}
projects: [research]
---
kind: contract
name: of-{0}
tenant: {0}
plan: lab-nok
starts: 2025-01-01
"""


def _apply(world: Small, text: str) -> Answer:
    return world.ask("POST", "/v1/apply", text.encode(), headers={"content-type": "application/yaml"})


def _token(world: Small, tenant: str, role: str = "tenant-admin") -> str:
    value: str = world.ask("POST", "/v1/tokens", {"role": role, "tenant": tenant}).json["value"]
    return value


def test_a_site_that_is_another_tenants_is_nowhere_in_what_a_tenant_is_told(world: Small) -> None:
    """Not in the list of sites, in no error, in no reason, and not in the events that it may have proofs of."""
    assert _apply(world, SECRET_SITE).status == 200
    asked = [
        dict(JOB, site="loughton"),
        dict(JOB, site="nope"),
        dict(JOB, policy={"countries": ["SE"]}),
        dict(JOB, nodes=90),
        dict(JOB, resources={"gpu": "H100:8"}),
        JOB,
    ]
    told = [world.submit(job, token="member").body for job in asked]
    assert json.loads(told[0])["error"]["code"] == "not_found"
    world.run(3)
    world.ask("POST", "/v1/nodes/drain", {"site": "glomfjord", "evict": True})
    world.run(3)
    lists = ("/v1/sites", "/v1/workloads", "/v1/documents", "/v1/status")
    told += [world.ask("GET", path, token="member").body for path in lists]
    for one in world.ask("GET", "/v1/workloads", token="member").json["workloads"]:
        told.append(world.ask("GET", f"/v1/workloads/{one['id']}/explain", token="member").body)
        told.append(world.ask("GET", f"/v1/workloads/{one['id']}", token="member").body)
    proofs = [
        world.ask("GET", f"/v1/journal/proof/{seq}", token="member").json
        for seq in range(world.control.durable)
    ]
    told += [base64.b64decode(proof["payload"]) for proof in proofs if "payload" in proof]
    for body in told:
        # Heads are base64, and hold any two letters some day.
        plain = re.sub(r'"(root|signature)":"[^"]*"', "", body.decode()).replace("no site 'loughton'", "")
        assert "loughton" not in plain, plain
        assert "GB" not in plain, plain


def test_a_tenant_that_is_called_like_the_operators_role_shares_none_of_its_keys(world: Small) -> None:
    """Keys of idempotency are of a tenant, or of the operator: no name makes the two meet."""
    assert _apply(world, TENANT.format("operator-admin")).status == 200
    squatter = _token(world, "operator-admin")
    assert world.submit(tenant="operator-admin", token=squatter, key="nightly").status == 201
    mine = world.submit(key="nightly")
    assert (mine.status, mine.json["repeated"]) == (201, False)


def test_a_key_used_for_one_tenant_does_not_swallow_a_submission_for_another(world: Small) -> None:
    """`a-1-1` is the first of tenant `a-1`, and no workload of tenant `a`, whatever the operator's key was."""
    _apply(world, TENANT.format("a-1"))
    _apply(world, TENANT.format("a"))
    assert world.submit(tenant="a-1", key="k").json["workloads"] == ["a-1-1"]
    assert world.submit(tenant="a", key="k").codes == ["idempotency_mismatch"]


def test_erasing_a_tenant_that_is_called_operator_erases_nothing_of_the_operators(world: Small) -> None:
    """The operator's own names are kept under a name that no tenant can have."""
    assert _apply(world, TENANT.format("operator")).status == 200
    made = world.ask("POST", "/v1/tokens", {"role": "operator-admin", "holder": "Ada Byron"})
    assert made.status == 201
    assert world.ask("POST", "/v1/tenants/operator/erase").status == 200
    assert world.ask("GET", "/v1/tokens").json["tokens"][-1]["holder"] == "Ada Byron"


def test_a_contract_can_not_be_handed_to_another_tenant_with_what_was_used_under_it(world: Small) -> None:
    """Its price plan, its usage and its name would be shown to whoever gets it."""
    world.submit()
    world.run(3)
    text = next(
        one for one in (EXAMPLES / "tenants.yaml").read_text().split("---\n") if "fjord-on-demand" in one
    )
    before = world.state
    answer = _apply(world, text.replace("tenant: fjord-ai", "tenant: albion-health"))
    assert (answer.status, answer.codes) == (409, ["conflict"])
    assert world.state == before


@pytest.mark.parametrize("which", [("fjord-ai", "albion-health"), ("albion-health", "fjord-ai")])
@pytest.mark.parametrize("path", ["/v1/workloads", "/v1/invoices"])
def test_a_tenant_named_twice_in_a_query_opens_nothing(
    world: Small, path: str, which: tuple[str, str]
) -> None:
    """What the guard judged is what the route answers: one of two values is never judged and the other shown."""
    world.submit(dict(JOB, project="radiology"), tenant=ALBION)
    first, second = which
    answer = world.ask("GET", f"{path}?tenant={first}&tenant={second}", token="fjord")
    assert answer.status in (404, 200)
    assert "albion-health-1" not in answer.body.decode()


@pytest.mark.parametrize(
    "name",
    [
        "fjord-ai-1/../albion-health-1",
        "albion-health-1%00",
        "albion-health-1/",
        "ALBION-HEALTH-1",
        "albion-health-1.1",
    ],
)
@pytest.mark.parametrize("what", ["", "/logs", "/explain", "/endpoint", "/logs?rank=0&attempt=1"])
def test_no_spelling_of_a_name_leads_to_another_tenants_workload(world: Small, what: str, name: str) -> None:
    """Dots, slashes, NULs, capitals and names of placements are names of nothing."""
    world.submit(dict(JOB, project="radiology", commands=["echo private"]), tenant=ALBION)
    world.run(3)
    for spelt in (name, quote(name, safe=""), quote(name, safe="%")):
        answer = world.ask("GET", f"/v1/workloads/{spelt}{what}", token="fjord")
        assert answer.status == 404, answer.body
        assert b"radiology" not in answer.body


def test_a_token_that_was_revoked_while_its_request_was_on_the_way_does_nothing(world: Small) -> None:
    """A body may take hours to come: who may no longer do it when it is there does not."""
    from headrace.api.inline import call  # noqa: PLC0415 - what is replaced is one message of it

    made = world.ask("POST", "/v1/tokens", {"role": "tenant-member", "tenant": "fjord-ai"}).json
    late = iter([True])

    async def app(scope: object, receive: object, send: object) -> None:
        async def slow() -> object:
            if next(late, False):
                world.ask("DELETE", f"/v1/tokens/{made['id']}")
            return await receive()  # type: ignore[operator]

        await world.app(scope, slow, send)  # type: ignore[arg-type]

    headers = {"authorization": f"Bearer {made['value']}", "content-type": "application/json"}
    body = json.dumps({"workloads": [JOB]}).encode()
    status, _, raw = call(app, "POST", "/v1/tenants/fjord-ai/workloads", headers, body)
    assert status == 401, raw
    assert not world.control.world.state.workloads


def test_logs_of_a_site_that_was_given_up_are_not_found(world: Small) -> None:
    """An operator's change of the estate is no defect of a tenant's request."""
    world.submit(dict(JOB, commands=["echo hi"]))
    world.run(5)
    start, end = LAB.index("  - name: glomfjord"), LAB.index("  - name: loughton")
    assert _apply(world, LAB[:start] + LAB[end:]).status == 200
    assert world.ask("GET", "/v1/workloads/fjord-ai-1/logs", token="fjord").codes == ["not_found"]
