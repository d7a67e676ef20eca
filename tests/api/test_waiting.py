"""A list says why each workload waits, when asked; a refused one says what would change it; names lead to their lists."""

from typing import Any

from headrace.api.waiting import MOST_EXPLAINED
from tests.api.small import ALBION, JOB, Small

BOTH = dict(JOB, nodes=2, resources={"gpu": "lab:3"}, policy={"countries": ["GB"]}, project="radiology")
"""Takes something of both nodes at Loughton, and leaves too little for another."""


def reasons(world: Small, query: str = "?why=true") -> dict[str, str]:
    """What the list says of each workload."""
    listed = world.ask("GET", f"/v1/workloads{query}").json["workloads"]
    return {one["id"]: one["reason"] for one in listed}


def test_a_list_says_why_each_workload_waits_as_explain_does(world: Small) -> None:
    """The reason's name and what is lacking; what would change it is left to `explain`."""
    world.submit(BOTH, BOTH, tenant=ALBION)
    world.run()
    said = reasons(world)
    assert said["albion-health-1"] == ""
    whole = world.ask("GET", "/v1/workloads/albion-health-2/explain").json["line"]
    assert said["albion-health-2"].startswith("CAPACITY: site loughton: needs 2 nodes")
    assert whole.startswith(f"waits: {said['albion-health-2']}; would start if ")
    assert "waits" not in "".join(said.values())


def test_a_list_that_is_not_asked_explains_nothing(world: Small) -> None:
    """Whoever pages through everything does not pay for reasons."""
    world.submit(BOTH, BOTH, tenant=ALBION)
    assert set(reasons(world, "").values()) == {""}


def test_of_several_that_would_fit_the_first_is_told_apart(world: Small) -> None:
    """They ask for the same, but one of them is next."""
    world.submit(JOB, JOB, JOB)
    first, second, third = reasons(world).values()
    assert first == "NEXT: it fits at site glomfjord and is first in the queue"
    assert second == third == "RANK: it fits at site glomfjord, but others go first"


def test_one_that_backs_off_has_its_own_reason(world: Small) -> None:
    """What waits for a moment is not taken for its like that waits for room."""
    world.submit(JOB, JOB)
    work = next(iter(world.control.world.state.workloads.values()))
    work.not_before_ms = world.clock.at_ms + 60_000
    first, second = reasons(world).values()
    assert first.startswith("TIME: it is backing off")
    assert second.startswith("NEXT: ")


def test_what_differs_in_shape_alone_has_its_own_reason(world: Small) -> None:
    """A gang that may have fewer nodes or others is not taken for its like that may not."""
    shapes: list[dict[str, Any]] = [
        {"nodes": "1..2"},
        {"resources": {"gpu": ["lab:3", "lab:2"]}},
        {"resources": {"gpu": "lab:0.5"}},
    ]
    world.submit(BOTH, tenant=ALBION)
    world.run()
    world.submit(BOTH, *(BOTH | shape for shape in shapes), tenant=ALBION)
    said = reasons(world, "?why=true&state=queued")
    assert len(said) == 4
    for ident, reason in said.items():
        assert world.ask("GET", f"/v1/workloads/{ident}/explain").json["line"].startswith(f"waits: {reason}")
    assert len(set(said.values())) > 1


def test_a_page_explains_no_more_different_asks_than_it_may(world: Small) -> None:
    """Each costs a look at every node; those alike cost one."""
    different = [
        dict(JOB, resources={"gpu": "lab:1", "memory": f"{size}MB"}) for size in range(1, MOST_EXPLAINED + 6)
    ]
    world.submit(*different, *([dict(different[0])] * 5))
    said = list(reasons(world).values())
    assert sum(not one for one in said) == 5
    assert all(said[-5:])


def test_what_the_law_refused_is_told_where_it_would_run_and_under_which_policy(world: Small) -> None:
    """The countries that have room now, each with the narrowest profile that allows it."""
    world.submit(dict(JOB, policy={"countries": ["SE"]}))
    explain = "/v1/workloads/fjord-ai-1/explain"
    change = world.ask("GET", explain).json["change"]
    assert change == (
        "submitted again it would start now in GB (policy uk-only or {countries: [GB]}) "
        "or in NO (policy nordic-only or {countries: [NO]})"
    )
    world.submit(BOTH, tenant=ALBION)
    world.run()
    world.submit(dict(BOTH, project="research", policy={"countries": ["SE"]}))
    change = world.ask("GET", "/v1/workloads/fjord-ai-2/explain").json["change"]
    assert "would start now in NO" in change
    assert "GB" not in change


def test_what_the_law_refused_where_no_place_is_left_is_told_what_would_wait(world: Small) -> None:
    """Full is not the same as forbidden."""
    world.submit(BOTH, tenant=ALBION)
    world.run()
    pinned = dict(BOTH, project="research", site="loughton", policy={"countries": ["SE"]})
    world.submit(pinned)
    change = world.ask("GET", "/v1/workloads/fjord-ai-1/explain").json["change"]
    assert change == "submitted again it would wait for room in GB (policy uk-only or {countries: [GB]})"


def test_an_unknown_name_leads_to_the_command_that_lists_the_known(world: Small) -> None:
    """For people who only have the error."""
    rows = [
        ("GET", "/v1/workloads/nope", "headrace ps --all"),
        ("GET", "/v1/workloads?tenant=nope", "headrace documents"),
        ("GET", "/v1/documents/tenant/nope", "headrace documents"),
        ("DELETE", "/v1/tokens/t-99", "headrace token ls"),
        ("GET", "/v1/invoices/nope", "headrace invoice ls"),
        ("GET", "/v1/journal/proof/99999", "headrace journal events"),
    ]
    for method, path, command in rows:
        answer = world.ask(method, path)
        assert (answer.status, f"'{command}'" in answer.json["error"]["next_step"]) == (404, True), path
    drained = world.ask("POST", "/v1/nodes/drain", {"nodes": ["nope"]})
    assert drained.json["error"]["next_step"] == "'headrace nodes' lists those there are."
    kind = world.ask("GET", "/v1/documents/tenannt/nope")
    assert kind.status == 404
    assert kind.json["error"]["next_step"].endswith("Did you mean tenant?")


def test_the_status_has_the_billing_period_of_the_operators_zone(world: Small) -> None:
    """Where the operator is, the month begins before it does in UTC."""
    world.clock.at_ms = 1_796_079_600_000 - 60_000
    assert world.ask("GET", "/v1/status", token="member").json["period"] == "2026-11"
    world.clock.at_ms += 60_000
    status = world.ask("GET", "/v1/status", token="member").json
    assert (status["period"], status["now"][:10]) == ("2026-12", "2026-11-30")


def test_a_problem_of_a_workload_among_documents_stands_at_its_field(world: Small) -> None:
    """Line and column of the site that there is not, not of the document."""
    text = "kind: workload\nname: w\ntype: job\nproject: research\nsite: glomfjrd\ncommands: [x]\n"
    answer = world.ask("POST", "/v1/apply", text.encode(), headers={"content-type": "application/yaml"})
    assert answer.json["error"]["where"] == "body:5:7 site"
