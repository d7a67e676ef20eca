"""Money over HTTP: drafts, invoices, the events behind each line, credit notes; proofs; erasure."""

import base64
from hashlib import sha256
from typing import Any

import pytest

from headrace.journal.merkle import root_from_inclusion
from tests.api.small import FJORD, JOB, Small

PERIOD = "2026-11"


@pytest.fixture
def used(world: Small) -> Small:
    """A job of two ranks that ran for a while, and still runs."""
    world.submit(dict(JOB, nodes=2))
    world.run(30)
    return world


def _issue(world: Small) -> str:
    world.ask("POST", "/v1/meter")
    issued = world.ask("POST", "/v1/tenants/fjord-ai/invoices", {"period": PERIOD})
    assert issued.status == 201, issued.body
    (number,) = issued.json["invoices"]
    return str(number)


def test_a_draft_counts_up_to_now_for_the_operator_and_is_the_invoice_when_issued(used: Small) -> None:
    """The operator's draft meters what runs; issuing the same moment gives the same lines."""
    (draft,) = used.ask("GET", f"/v1/tenants/fjord-ai/invoices/{PERIOD}").json["invoices"]
    assert draft["draft"] is True
    assert draft["invoice"]["total_micros"] > 0
    number = _issue(used)
    issued = used.ask("GET", f"/v1/invoices/{number}", token="fjord").json
    assert issued["draft"] is False
    assert issued["invoice"]["lines"] == draft["invoice"]["lines"]
    assert used.ask("GET", f"/v1/invoices/{number}", token="albion").status == 404


def test_a_tenants_own_draft_reads_and_makes_no_event(used: Small) -> None:
    """A tenant may look, and moves nothing by looking."""
    before = used.control.world.state.version
    assert used.ask("GET", f"/v1/tenants/fjord-ai/invoices/{PERIOD}", token="fjord").status == 200
    assert used.control.world.state.version == before


def test_an_invoice_is_issued_once(used: Small) -> None:
    """Without new usage a second one is refused, and names the first."""
    number = _issue(used)
    again = used.ask("POST", "/v1/tenants/fjord-ai/invoices", {"period": PERIOD})
    assert again.status == 409
    assert again.json["error"]["related"] == [number]


def test_each_line_is_the_sum_of_the_events_behind_it_over_every_part(used: Small) -> None:
    """The rows of a line sum to its quantity, none is billed twice, and each has a proof under the newest head."""
    numbers = [_issue(used)]
    used.run(30)
    numbers.append(_issue(used))
    seen: dict[str, list[tuple[int, int]]] = {}
    for number in numbers:
        lines = used.ask("GET", f"/v1/invoices/{number}").json["invoice"]["lines"]
        for index, line in enumerate(lines, 1):
            if line["item"] != "capacity":
                continue
            rows = used.ask("GET", f"/v1/invoices/{number}/lines/{index}/events", token="fjord").json["rows"]
            assert sum(row["accelerator_ms"] for row in rows) == line["quantity"]
            assert len(rows) == line["usage_rows"]
            seen.setdefault(line["usage_key"], []).extend((row["seq"], row["part"]) for row in rows)
    assert seen
    for rows in seen.values():
        assert len(rows) == len(set(rows))
        _prove(used, rows[0][0])


def _prove(world: Small, seq: int) -> None:
    proof = world.ask("GET", f"/v1/journal/proof/{seq}", token="fjord").json
    part: dict[str, Any] = {
        name: base64.b64decode(proof[name]) for name in ("header", "salt", "payload", "leaf")
    }
    body = sha256(part["salt"] + part["payload"]).digest()
    assert sha256(b"\x00" + part["header"] + body).digest() == part["leaf"]
    path = [base64.b64decode(one) for one in proof["path"]]
    root = root_from_inclusion(part["leaf"], seq, proof["head"]["size"], path)
    assert root == base64.b64decode(proof["head"]["root"])
    assert world.ask("GET", f"/v1/journal/proof/{seq}", token="albion").status == 404


def test_proofs_are_given_of_every_event_to_the_operator_and_of_none_that_is_not(used: Small) -> None:
    """Also after the journal has grown since the last proof; beyond its end there is nothing."""
    for _ in range(2):
        size = used.store.size()
        for seq in range(size):
            proof = used.ask("GET", f"/v1/journal/proof/{seq}").json
            path = [base64.b64decode(one) for one in proof["path"]]
            root = root_from_inclusion(base64.b64decode(proof["leaf"]), seq, size, path)
            assert base64.b64encode(root or b"").decode() == proof["head"]["root"]
        assert used.ask("GET", f"/v1/journal/proof/{size}").status == 404
        used.submit()


def test_a_credit_note_is_given_once_for_its_key_and_never_beyond_the_total(used: Small) -> None:
    """Repeated it is the same note; another amount under the key is a conflict; too much is refused."""
    number = _issue(used)
    total = used.ask("GET", f"/v1/invoices/{number}").json["invoice"]["total_micros"]
    path, key = f"/v1/invoices/{number}/credit-notes", {"idempotency-key": "c"}
    asked = {"amount_micros": total // 2, "reason": "an outage"}
    notes = [used.ask("POST", path, asked, headers=key) for _ in range(2)]
    assert [note.status for note in notes] == [201, 201]
    assert notes[0].json["name"] == notes[1].json["name"]
    other = used.ask("POST", path, dict(asked, amount_micros=1), headers=key)
    assert (other.status, other.codes) == (409, ["idempotency_mismatch"])
    assert used.ask("POST", path, dict(asked, amount_micros=total)).status == 409
    assert used.ask("POST", path, dict(asked, amount_micros=-5)).status == 400
    shown = used.ask("GET", f"/v1/invoices/{number}").json
    assert shown["due_micros"] == total - total // 2
    assert len(shown["credit_notes"]) == 1


def test_an_erased_tenants_secrets_and_logs_are_gone_and_its_invoices_stay(used: Small) -> None:
    """Refused while something lives; then keys and logs go, and what accounting keeps stays."""
    used.submit(dict(JOB, commands=["echo private"], secrets={"A": "very-secret"}))
    used.run(10)
    number = _issue(used)
    live = used.ask("POST", "/v1/tenants/fjord-ai/erase")
    assert (live.status, live.codes) == (409, ["in_use"])
    for ident in ("fjord-ai-1", "fjord-ai-2"):
        used.ask("POST", f"/v1/workloads/{ident}/stop")
    used.run(30)
    assert used.ask("POST", "/v1/tenants/fjord-ai/erase").status == 200
    assert used.control.world.state.tenants[FJORD].erased
    ref = used.control.world.state.workloads["fjord-ai-2"].spec.secrets["A"]  # type: ignore[index]
    with pytest.raises(Exception, match="erased"):
        used.control.reveal(ref)
    assert used.ask("GET", "/v1/workloads/fjord-ai-2/logs", token="fjord").json["data"] == ""
    assert used.ask("GET", f"/v1/invoices/{number}").status == 200


def test_a_line_that_is_not_there_is_not_found(used: Small) -> None:
    """Lines count from 1 to as many as there are."""
    number = _issue(used)
    assert used.ask("GET", f"/v1/invoices/{number}/lines/99/events").status == 404
    assert used.ask("GET", f"/v1/invoices/{number}/lines/0/events").status == 400
