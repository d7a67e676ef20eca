"""Bad input as a weapon: small requests that cost much, and figures that fit no column."""

import json

import pytest

from headrace.core.ids import TenantId
from headrace.documents.report import MAX_PROBLEMS
from tests.api.small import FJORD, JOB, Small

MANY = 20_000
WORK = f"/v1/tenants/{FJORD}/workloads"
FLOODS: dict[str, tuple[str, bytes]] = {
    "unknown fields": (WORK, json.dumps({"workloads": [JOB | {f"nam{n}": 0 for n in range(MANY)}]}).encode()),
    "unknown fields of the body": (WORK, json.dumps({f"workload{n}": 0 for n in range(MANY)}).encode()),
    "variables without a name": (
        WORK,
        json.dumps({"workloads": [JOB | {"env": {f" {n}": "" for n in range(MANY)}}]}).encode(),
    ),
    "secrets without a name": (
        WORK,
        json.dumps({"workloads": [JOB | {"secrets": {f" {n}": "" for n in range(MANY)}}]}).encode(),
    ),
    "empty workloads": (WORK, json.dumps({"workloads": [{}] * 9_999}).encode()),
    "fields of a token": ("/v1/tokens", json.dumps({f"rol{n}": 0 for n in range(MANY)}).encode()),
    "lists in lists": (WORK, b"[" * 100_000),
    "objects in objects": (WORK, b'{"workloads":' * 50_000),
}


@pytest.mark.parametrize(("path", "body"), FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_of_mistakes_is_answered_with_a_page_of_them(world: Small, path: str, body: bytes) -> None:
    """Each mistake is explained at a price: nobody can order a million explanations while all others wait."""
    before = world.state
    answer = world.ask("POST", path, body, token="fjord")
    assert answer.status == 400
    assert len(answer.json["errors"]) <= MAX_PROBLEMS + 1
    assert len(answer.body) < 64 * 1024
    assert world.state == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 2**63),
        ("priority", -(2**64)),
        ("priority", 10**400),
        ("nodes", 2**31),
        ("nodes", -1),
        ("max_duration", "99999999999999999999h"),
        ("grace", "9" * 39 + "s"),
        ("ports", {"http": 2**16}),
        ("resources", {"gpu": "lab:99999999999"}),
        ("resources", {"memory": "1" * 30 + "TB"}),
        ("resources", {"cpu": 1e300}),
        ("resources", {"cpu": -0.5}),
        ("env", {"A=B": "x"}),
        ("env", {"A\nB": "x"}),
        ("env", {"A": "x\0y"}),
        ("env", {"LD_\u0410": "x"}),
        ("env", {"HEADRACE_RUN": "another's mark"}),
        ("secrets", {"RANK": "1"}),
        ("name", "tra\u0456n"),
        ("name", "train\u202e"),
        ("commands", ["echo \ud800"]),
    ],
)
def test_figures_and_names_that_cannot_be_are_refused_whole(world: Small, field: str, value: object) -> None:
    """Beyond 64 bits, NULs, look-alike letters, halves of surrogates: an error that says where, and nothing changes."""
    before = world.state
    answer = world.submit(JOB | {field: value}, token="member")
    assert answer.status == 400, answer.body
    assert world.state == before


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"0x10", b"1_000"])
def test_numbers_that_json_has_not_are_no_numbers(world: Small, number: bytes) -> None:
    """No float that compares with nothing gets into a plan."""
    body = json.dumps({"workloads": [JOB | {"priority": "N"}]}).encode().replace(b'"N"', number)
    assert world.ask("POST", WORK, body, token="member").status == 400


def test_a_price_beyond_the_ledger_is_refused_and_the_journal_goes_on(world: Small) -> None:
    """Promise 4: what 64 bits can't hold is a problem that is named, never a commit that fails for everybody."""
    text = b"""\
kind: price-plan
name: dear
currency: NOK
prices:
  reserved_per_month: {lab: 1000000000}
---
kind: contract
name: dear
tenant: fjord-ai
plan: dear
type: reserved
site: glomfjord
gpu: lab:9999
starts: 2025-01-01
"""
    assert world.ask("POST", "/v1/apply", text, headers={"content-type": "application/yaml"}).status == 200
    before = world.state
    answer = world.ask("POST", f"/v1/tenants/{FJORD}/invoices", {"period": "2026-10"})
    assert (answer.status, answer.codes) == (409, ["conflict"])
    assert answer.json["error"]["related"] == ["dear"]
    assert world.state == before
    assert world.submit(tenant=TenantId(FJORD)).status == 201
