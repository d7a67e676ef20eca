"""Idempotency keys over REST: every request that changes something takes one, and stands by its first answer."""

from typing import Any

import pytest

from headrace.api.app import GROUPS
from headrace.api.endpoint import IDEMPOTENCY_KEY
from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.ids import DataId, SiteId
from tests.api.small import EXAMPLES, FJORD, JOB, Answer, Small

HEADERS = {"idempotency-key": "k"}
Asked = tuple[str, Any]
TENANT = {"kind": "tenant", "name": "new", "projects": ["p"]}
DATA = {
    "kind": "dataset",
    "tenant": FJORD,
    "site": "glomfjord",
    "digest": "d" * 64,
    "size": 10,
    "policy": {"countries": ["NO", "GB"]},
}
NOTES = "/v1/invoices/{invoice}/credit-notes"
REQUESTS: dict[tuple[str, str], tuple[Asked, Asked]] = {
    ("POST", "/v1/tenants/{tenant}/workloads"): (
        (f"/v1/tenants/{FJORD}/workloads", {"workloads": [JOB]}),
        (f"/v1/tenants/{FJORD}/workloads", {"workloads": [JOB, JOB]}),
    ),
    ("POST", "/v1/workloads/{workload}/stop"): (
        ("/v1/workloads/fjord-ai-1/stop", {}),
        ("/v1/workloads/fjord-ai-2/stop", {}),
    ),
    ("POST", "/v1/workloads/{workload}/pause"): (
        ("/v1/workloads/fjord-ai-1/pause", {}),
        ("/v1/workloads/fjord-ai-1/resume", {}),
    ),
    ("POST", "/v1/workloads/{workload}/resume"): (
        ("/v1/workloads/fjord-ai-1/resume", {}),
        ("/v1/workloads/fjord-ai-1/pause", {}),
    ),
    ("POST", "/v1/nodes/drain"): (
        ("/v1/nodes/drain", {"site": "{site}", "reason": "a fan"}),
        ("/v1/nodes/drain", {"site": "{site}", "reason": "a pump"}),
    ),
    ("POST", "/v1/nodes/undrain"): (
        ("/v1/nodes/undrain", {"site": "{site}"}),
        ("/v1/nodes/drain", {"site": "{site}"}),
    ),
    ("POST", "/v1/apply"): (
        ("/v1/apply", {"documents": [TENANT]}),
        ("/v1/apply", {"documents": [TENANT | {"projects": ["q"]}]}),
    ),
    ("DELETE", "/v1/documents/{kind}/{name}"): (
        ("/v1/documents/contract/albion-on-demand", b""),
        ("/v1/documents/contract/fjord-on-demand", b""),
    ),
    ("POST", "/v1/tenants/{tenant}/invoices"): (
        (f"/v1/tenants/{FJORD}/invoices", {"period": "2026-11"}),
        (f"/v1/tenants/{FJORD}/invoices", {"period": "2026-10"}),
    ),
    ("POST", "/v1/invoices/{number}/credit-notes"): (
        (NOTES, {"amount_micros": 1_000, "reason": "late"}),
        (NOTES, {"amount_micros": 1_000, "reason": "later"}),
    ),
    ("POST", "/v1/tenants/{tenant}/erase"): (
        ("/v1/tenants/idle/erase", {}),
        ("/v1/tenants/idler/erase", {}),
    ),
    ("POST", "/v1/tokens"): (
        ("/v1/tokens", {"role": "tenant-member", "tenant": FJORD, "holder": "Ada"}),
        ("/v1/tokens", {"role": "tenant-member", "tenant": FJORD, "holder": "Eve"}),
    ),
    ("POST", "/v1/grid/instructions"): (
        ("/v1/grid/instructions", {"site": "{site}", "limit": "10kW"}),
        ("/v1/grid/instructions", {"site": "{site}", "limit": "11kW"}),
    ),
    ("POST", "/v1/grid/instructions/{instruction:path}/withdraw"): (
        ("/v1/grid/instructions/evening/withdraw", {"reason": "it is over"}),
        ("/v1/grid/instructions/morning/withdraw", {"reason": "it is over"}),
    ),
    ("POST", "/v1/tenants/{tenant}/data"): (
        (f"/v1/tenants/{FJORD}/data", {"documents": [DATA | {"name": "more"}]}),
        (f"/v1/tenants/{FJORD}/data", {"documents": [DATA | {"name": "yet-more"}]}),
    ),
    ("POST", "/v1/tenants/{tenant}/data/{name}/copies"): (
        (f"/v1/tenants/{FJORD}/data/corpus/copies", {"site": "loughton"}),
        (f"/v1/tenants/{FJORD}/data/scans/copies", {"site": "loughton"}),
    ),
    ("DELETE", "/v1/tenants/{tenant}/data/{name}/copies/{site}"): (
        (f"/v1/tenants/{FJORD}/data/corpus/copies/glomfjord?last=true", b""),
        (f"/v1/tenants/{FJORD}/data/scans/copies/glomfjord?last=true", b""),
    ),
    ("DELETE", "/v1/tokens/{token}"): (("/v1/tokens/t-3", b""), ("/v1/tokens/t-4", b"")),
}
"""For each route: a request, and another one."""
ONE_ANSWER = ("/v1/tokens",)
"""What is answered once: the answer has what is told to nobody twice."""


def _lived_in(world: Small) -> dict[str, str]:
    """Two workloads that run, one invoice, two tenants without anything; the names that requests are made with."""
    for name in ("idle", "idler"):
        world.ask("POST", "/v1/apply", {"documents": [TENANT | {"name": name}]})
    world.submit(JOB, JOB)
    for _ in range(2):
        # The second time for what a request may invoice.
        world.ask("POST", f"/v1/tenants/{FJORD}/invoices", {"period": "2026-11"})
        world.run(30)
        world.ask("POST", "/v1/meter")
    invoice = world.ask("GET", "/v1/invoices").json["invoices"][0]["invoice"]["invoice"]
    site = world.ask("GET", "/v1/sites").json["sites"][0]["id"]
    for name in ("evening", "morning"):
        world.ask("POST", "/v1/grid/instructions", {"site": site, "limit": "12kW", "id": name})
    world.control.execute(SYSTEM, c.DeclareStores((SiteId("glomfjord"), SiteId("loughton"))))
    for name in ("corpus", "scans"):
        applied = world.ask("POST", f"/v1/tenants/{FJORD}/data", {"documents": [DATA | {"name": name}]})
        assert applied.status == 200, applied.body
        report = c.CopyReport(DataId(f"{FJORD}.{name}"), SiteId("glomfjord"), "present", "d" * 64, 10)
        world.control.execute(SYSTEM, c.ReportCopies((report,)))
    world.control.commit()
    return {"invoice": invoice, "site": site}


def _ask(world: Small, method: str, asked: Asked, names: dict[str, str]) -> Answer:
    path, body = asked
    for name, value in names.items():
        path = path.replace(f"{{{name}}}", value)
        if isinstance(body, dict):
            body = {key: value if one == f"{{{name}}}" else one for key, one in body.items()}
    return world.ask(method, path, body, headers=HEADERS)


def _told(answer: Answer) -> dict[str, Any]:
    """What an answer names: neither the head it came with, nor whether it changed something."""
    passing = ("head", "changed", "repeated", "changes")
    return {name: value for name, value in answer.json.items() if name not in passing}


def test_every_route_that_changes_something_takes_a_key() -> None:
    """But metering, which says what has been used by now however often it is asked, and what is only tried."""
    writing = {
        (one.method, one.path): IDEMPOTENCY_KEY in one.parameters
        for group in GROUPS
        for one in group.endpoints
        if one.method != "GET"
    }
    assert {route for route, keyed in writing.items() if keyed} == set(REQUESTS)
    assert [path for (_, path), keyed in writing.items() if not keyed] == [
        "/v1/meter",
        "/v1/plan",
        "/v1/sovereignty/what-if",
    ]


@pytest.mark.parametrize(("route", "requests"), REQUESTS.items(), ids=lambda one: " ".join(map(str, one)))
def test_a_key_has_its_first_answer_again_and_is_refused_for_another_request(
    world: Small, route: tuple[str, str], requests: tuple[Asked, Asked]
) -> None:
    """Also by another route, and after a restart; nothing is done, and the refusal says what to do."""
    names = _lived_in(world)
    first, other = requests
    answer = _ask(world, route[0], first, names)
    assert answer.status in (200, 201, 202), answer.body
    before = world.state
    unlike: Asked = ("/v1/workloads/fjord-ai-2/stop", {})
    for _ in range(2):
        again = _ask(world, route[0], first, names)
        if route[1] in ONE_ANSWER:
            assert (again.status, again.codes) == (409, ["conflict"])
            assert "revoke" in again.json["error"]["next_step"]
        else:
            assert (again.status, _told(again)) == (answer.status, _told(answer))
        for method, asked in ((route[0], other), ("POST", unlike)):
            refused = _ask(world, method, asked, names)
            assert (refused.status, refused.codes) == (409, ["idempotency_mismatch"]), asked
            assert "Use a new key" in refused.json["error"]["next_step"]
        assert world.state == before
        world.control.recover()


def test_a_drain_of_a_site_is_the_same_request_when_the_site_has_grown(world: Small) -> None:
    """What was asked is the site; the nodes that it has by the second attempt are no other request."""
    site = _lived_in(world)["site"]
    asked = {"site": site, "reason": "a fan"}
    first = world.ask("POST", "/v1/nodes/drain", asked, headers=HEADERS)
    lab = (EXAMPLES / "estates/lab.yaml").read_bytes()
    grown = lab.replace(b"racks: 1, nodes_per_rack: 3", b"racks: 1, nodes_per_rack: 4")
    assert world.ask("POST", "/v1/apply", grown, headers={"content-type": "application/yaml"}).status == 200
    again = world.ask("POST", "/v1/nodes/drain", {"reason": "a fan", "site": site}, headers=HEADERS)
    assert _told(again) == _told(first)
