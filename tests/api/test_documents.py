"""Documents over HTTP: shown before they are applied, applied twice without a change, refused whole."""

import json
from typing import Any

import pytest

from tests.api.small import EXAMPLES, JOB, Small

TENANT: dict[str, Any] = {"kind": "tenant", "name": "new", "projects": ["p"], "contact": "ada@example.com"}
WINDOW: dict[str, Any] = {"from": "2030-01-07T08:00:00+01:00", "until": "2030-01-09T08:00:00+01:00"}
RESERVATION: dict[str, Any] = {
    "kind": "reservation",
    "name": "winter",
    "tenant": "fjord-ai",
    "site": "glomfjord",
    "gpu": "lab",
    "nodes": 2,
    **WINDOW,
}
MAINTENANCE: dict[str, Any] = {"kind": "maintenance", "name": "fans", "site": "loughton", **WINDOW}


def apply(world: Small, text: bytes | dict[str, Any], query: str = "", key: str = "") -> Any:
    media = "application/yaml" if isinstance(text, bytes) else "application/json"
    headers = {"content-type": media} | ({"idempotency-key": key} if key else {})
    return world.ask("POST", f"/v1/apply{query}", text, headers=headers)


def whats(answer: Any) -> list[tuple[str, str, str]]:
    return [(one["kind"], one["name"], one["what"]) for one in answer.json["changes"]]


def test_a_dry_run_says_each_difference_and_changes_nothing(world: Small) -> None:
    """The path, the value before and the value after, as applying would make them."""
    text = (EXAMPLES / "estates/lab.yaml").read_bytes().replace(b"firm: 3700W", b"firm: 4500W")
    before = world.state
    shown = apply(world, text, "?dry_run=true")
    ((change,)) = shown.json["changes"]
    assert change["what"] == "changed"
    assert change["differences"] == [
        {"path": "sites[glomfjord].connection.firm_w", "before": 3_700, "after": 4_500}
    ]
    assert world.state == before
    applied = apply(world, text)
    assert applied.json["changes"] == shown.json["changes"]
    assert world.state != before


def test_applying_twice_changes_nothing_persons_and_workloads_included(world: Small) -> None:
    """The second time everything is unchanged, and no event but the verdicts is made."""
    work = dict(JOB, kind="workload", project="p", policy="public", secrets={"A": "b"})
    contract = {"kind": "contract", "name": "new-demand", "tenant": "new", "plan": "lab-nok"}
    body = {"documents": [work, contract, TENANT]}
    first = apply(world, body)
    assert first.status == 200, first.body
    assert [what for _, _, what in whats(first)] == ["created"] * 3
    before = world.state
    again = apply(world, body)
    assert [what for _, _, what in whats(again)] == ["unchanged"] * 3
    assert again.json["changes"][-1]["workload"] == "new-1"
    assert world.state == before


def test_who_to_call_is_kept_in_the_vault_alone(world: Small) -> None:
    """A tenant's contact is a reference everywhere else; changing it is a change."""
    apply(world, {"documents": [TENANT]})
    shown = world.ask("GET", "/v1/documents/tenant/new").json["document"]
    assert world.control.reveal(shown["contact"]) == "ada@example.com"
    assert b"ada@example.com" not in world.ask("GET", "/v1/journal/events?limit=1000").body
    changed = apply(world, {"documents": [dict(TENANT, contact="grace@example.com")]})
    assert whats(changed) == [("tenant", "new", "changed")]


def test_the_same_key_submits_the_workloads_of_a_text_once(world: Small) -> None:
    """Each workload has a key of its own, made from the request's: both come, and neither twice."""
    text = b"".join(
        (EXAMPLES / f"workloads/{name}.yaml").read_bytes() + b"\n---\n" for name in ("score", "mine")
    )
    first = apply(world, text, key="k")
    assert [one["workload"] for one in first.json["changes"]] == ["fjord-ai-1", "albion-health-1"]
    again = apply(world, text, key="k")
    assert [one["what"] for one in again.json["changes"]] == ["unchanged", "unchanged"]
    assert len(world.control.world.state.workloads) == 2


def test_a_key_stands_for_all_of_a_text_and_for_no_other(world: Small) -> None:
    """What was changed since stays so when the first text comes again; another text, or another's contact, is refused."""
    first = {"documents": [dict(TENANT, contact="ada@example.com")]}
    work = (EXAMPLES / "workloads/score.yaml").read_bytes()
    assert whats(apply(world, first, key="k")) == [("tenant", "new", "created")]
    apply(world, {"documents": [dict(TENANT, contact="grace@example.com")]})
    before, kept = world.state, len(world.store.query("select * from vault"))
    for _ in range(2):
        assert whats(apply(world, first, key="k")) == [("tenant", "new", "unchanged")]
        nobody = {name: value for name, value in TENANT.items() if name != "contact"}
        for tenant in (nobody, dict(TENANT, contact="eve@example.com")):
            assert apply(world, {"documents": [tenant]}, key="k").codes == ["idempotency_mismatch"]
        assert apply(world, work, key="k").codes == ["idempotency_mismatch"]
        assert (world.state, len(world.store.query("select * from vault"))) == (before, kept)
        world.control.recover()
    assert apply(world, work, key="works").status == 200
    assert apply(world, first, key="works").codes == ["idempotency_mismatch"]


def test_one_wrong_document_keeps_all_of_them_out(world: Small) -> None:
    """Nothing of a text is applied when any of it is wrong, and the line is said."""
    before = world.state
    text = b"kind: tenant\nname: fine\nprojects: [p]\n---\nkind: tenant\nname: wrong\nprojcts: [p]\n"
    answer = apply(world, text)
    assert answer.status == 400
    assert {one["where"].split()[0] for one in answer.json["errors"]} == {"body:5:1", "body:7:1"}
    assert "Did you mean projects?" in answer.body.decode()
    assert world.state == before


def test_what_is_in_use_is_not_removed_and_says_by_whom(world: Small) -> None:
    """A tenant with a living workload and tokens stays; who uses it is listed."""
    world.submit()
    contract = world.ask("DELETE", "/v1/documents/contract/fjord-on-demand")
    assert contract.status == 200
    answer = world.ask("DELETE", "/v1/documents/tenant/fjord-ai")
    assert (answer.status, answer.codes) == (409, ["in_use"])
    assert {"fjord-ai-1", "t-2", "t-3"} <= set(answer.json["error"]["related"])


def test_a_workload_of_a_project_that_two_tenants_have_needs_its_tenant(world: Small) -> None:
    """It is not guessed whose it is; said, it is submitted for that one."""
    work = dict(JOB, kind="workload")
    apply(world, {"documents": [{"kind": "tenant", "name": "new", "projects": ["research"]}]})
    answer = apply(world, {"documents": [work]})
    assert answer.status == 400
    assert answer.json["error"]["related"] == ["fjord-ai", "new"]
    assert (
        apply(world, {"documents": [work]}, "?tenant=fjord-ai").json["changes"][0]["workload"] == "fjord-ai-1"
    )


def test_a_tenant_reads_its_own_documents_and_the_plans_that_it_pays_by(world: Small) -> None:
    """Its tenant, its contracts, their price plans; not the estate."""
    listed = world.ask("GET", "/v1/documents", token="fjord").json["documents"]
    names = {(one["kind"], one["name"]) for one in listed}
    assert names == {("tenant", "fjord-ai"), ("contract", "fjord-on-demand"), ("price-plan", "lab-nok")}
    for kind, name in names:
        assert world.ask("GET", f"/v1/documents/{kind}/{name}", token="fjord").status == 200


def test_a_dry_run_finds_what_applying_would_refuse(world: Small) -> None:
    """A site that shrinks below what idles on it is refused in both, with the same words."""
    world.submit(dict(JOB, nodes=2))
    world.run()
    text = (EXAMPLES / "estates/lab.yaml").read_bytes().replace(b"firm: 3700W", b"firm: 1350W")
    dry, wet = apply(world, text, "?dry_run=true"), apply(world, text)
    assert dry.status == wet.status == 409
    assert dry.json == wet.json
    assert json.loads(dry.body)["error"]["related"] == ["fjord-ai-1"]


def test_an_engine_that_is_not_connected_is_refused_in_a_dry_run_and_in_earnest(world: Small) -> None:
    """Nothing could ever start there; the place of it is named."""
    text = (EXAMPLES / "estates/lab.yaml").read_bytes().replace(b"engine: local", b"engine: nonesuch", 1)
    dry, wet = apply(world, text, "?dry_run=true"), apply(world, text)
    assert dry.status == wet.status == 404
    assert dry.json == wet.json
    assert "no engine 'nonesuch'" in json.loads(dry.body)["error"]["message"]
    assert json.loads(dry.body)["error"]["where"] == "body:40:13 sites[0].engine"


def test_a_dry_run_finds_a_reservation_that_would_be_broken_and_one_that_does_not_fit(world: Small) -> None:
    """In the words of applying."""
    estate = (EXAMPLES / "estates/lab.yaml").read_bytes().replace(b"firm: 3700W", b"firm: 1350W")
    too_many = {"documents": [dict(RESERVATION, nodes=99)]}
    assert apply(world, {"documents": [RESERVATION]}).status == 200
    for text in (estate, too_many):
        dry, wet = apply(world, text, "?dry_run=true"), apply(world, text)
        assert dry.status == wet.status == 409
        assert dry.json == wet.json
        assert "reservation winter" in json.loads(dry.body)["error"]["message"]


def test_windows_of_time_are_documents_like_any_other(world: Small) -> None:
    """Applied twice they change nothing; a moved one is shown in times; removed they are gone."""
    text = (EXAMPLES / "windows.yaml").read_bytes()
    created = [("reservation", "winter-training", "created"), ("maintenance", "loughton-fans", "created")]
    assert whats(apply(world, text)) == created
    assert [what for _, _, what in whats(apply(world, text))] == ["unchanged", "unchanged"]
    moved = apply(world, text.replace(b"2030-01-09", b"2030-01-10"), "?dry_run=true").json["changes"][0]
    (difference,) = moved["differences"]
    assert (difference["path"], difference["after"] - difference["before"]) == ("ends_ms", 86_400_000)
    for kind, name, _ in created:
        assert world.ask("DELETE", f"/v1/documents/{kind}/{name}").status == 200
        assert world.ask("GET", f"/v1/documents/{kind}/{name}").status == 404


@pytest.mark.parametrize(
    ("body", "where", "words"),
    [
        (RESERVATION | {"tenant": "fjord"}, "reservation winter", "Did you mean fjord-ai?"),
        (RESERVATION | {"site": "glomfjrd"}, "reservation winter", "Did you mean glomfjord?"),
        (
            RESERVATION | {"gpu": "H100"},
            "reservation winter",
            "no node at site glomfjord with 'H100'; known: lab.",
        ),
        (MAINTENANCE | {"site": "luton"}, "maintenance fans", "no site 'luton'"),
        (
            MAINTENANCE | {"parts": ["loughton/block-1", "loughton/block-2"]},
            "maintenance fans",
            "no block, rack or node 'loughton/block-2'; known: loughton/block-1, loughton/block-1/lab-0.",
        ),
        (MAINTENANCE | {"parts": ["loughton/feed-a"]}, "maintenance fans", "no block, rack or node"),
    ],
)
def test_a_window_names_what_there_is(world: Small, body: dict[str, Any], where: str, words: str) -> None:
    """Tenant, site, hardware and parts; what nothing has is said with what was probably meant."""
    answer = apply(world, {"documents": [body]})
    assert (answer.status, answer.codes) == (404, ["not_found"])
    error = answer.json["error"]
    assert error["where"] == where
    assert words in f"{error['message']} {error['next_step']}"


@pytest.mark.parametrize("part", ["loughton/block-1", "loughton/block-1/lab-0", "loughton/block-1/lab-0-1"])
def test_blocks_racks_and_nodes_can_be_maintained(world: Small, part: str) -> None:
    """By the names that the list of nodes prints."""
    assert apply(world, {"documents": [MAINTENANCE | {"parts": [part]}]}).status == 200


def test_a_window_that_is_over_holds_nothing_up(world: Small) -> None:
    """A part that is gone since is no reason to refuse what comes later."""
    old = {"from": "2025-01-07T08:00:00Z", "until": "2025-01-08T08:00:00Z", "parts": ["loughton/block-9"]}
    assert apply(world, {"documents": [MAINTENANCE | old]}).status == 200
    assert apply(world, {"documents": [TENANT]}).status == 200


def test_a_reservation_in_use_stays_as_it_is(world: Small) -> None:
    """While a living workload names it, it is not removed nor given to another; its end may move."""
    apply(world, {"documents": [RESERVATION]})
    assert world.submit(dict(JOB, reservation="winter")).status == 201
    removed = world.ask("DELETE", "/v1/documents/reservation/winter")
    assert (removed.status, removed.codes) == (409, ["in_use"])
    assert removed.json["error"]["related"] == ["fjord-ai-1"]
    given = apply(world, {"documents": [RESERVATION | {"tenant": "albion-health"}]})
    assert given.codes == ["conflict"]
    longer = RESERVATION | {"until": "2030-01-10T08:00:00+01:00"}
    assert whats(apply(world, {"documents": [longer]})) == [("reservation", "winter", "changed")]
    world.ask("POST", "/v1/workloads/fjord-ai-1/stop", {})
    assert world.ask("DELETE", "/v1/documents/reservation/winter").status == 200


def test_a_tenant_with_a_reservation_stays_and_so_does_its_site(world: Small) -> None:
    """Whoever names them is said."""
    apply(world, {"documents": [TENANT, RESERVATION | {"tenant": "new"}]})
    answer = world.ask("DELETE", "/v1/documents/tenant/new")
    assert (answer.codes, answer.json["error"]["related"]) == (["in_use"], ["winter"])
    assert "reservations" in answer.json["error"]["message"]
    estate = world.ask("DELETE", "/v1/documents/estate/headrace-lab")
    assert estate.status == 404
    assert "reservation winter" in [one["where"] for one in estate.json["errors"]]


def test_a_tenant_sees_its_own_reservations_and_no_others(world: Small) -> None:
    """Nor does it see when the operator works on its sites."""
    apply(world, {"documents": [RESERVATION, MAINTENANCE]})
    mine, other = (
        {(one["kind"], one["name"]) for one in world.ask("GET", "/v1/documents", token=who).json["documents"]}
        for who in ("fjord", "albion")
    )
    assert ("reservation", "winter") in mine
    assert not {("reservation", "winter"), ("maintenance", "fans")} & other
    assert ("maintenance", "fans") not in mine
    assert world.ask("GET", "/v1/documents/reservation/winter", token="fjord").status == 200
    assert world.ask("GET", "/v1/documents/reservation/winter", token="albion").status == 404


def test_quotas_and_preferences_change_one_by_one(world: Small) -> None:
    """Each is a line of what applying changes, by its own name."""
    apply(world, {"documents": [TENANT]})
    shared = dict(
        TENANT,
        projects={"p": {"guaranteed": 8}},
        quota={"guaranteed": 64, "limit": 256},
        max_priority=10,
        preferences={"carbon_per_kg": 0.08},
    )
    answer = apply(world, {"documents": [shared]}, "?dry_run=true")
    paths = [one["path"] for one in answer.json["changes"][0]["differences"]]
    assert paths == ["quota", "project_quotas", "max_priority", "preferences"]
    apply(world, {"documents": [shared]})
    answer = apply(
        world, {"documents": [dict(shared, quota={"guaranteed": 64, "limit": 512})]}, "?dry_run=true"
    )
    (difference,) = answer.json["changes"][0]["differences"]
    assert difference == {"path": "quota.limit", "before": 256, "after": 512}
