"""Workloads over HTTP: submitted once, listed in pages, steered, read, explained."""

import base64

import pytest

from headrace.core.workload import TERMINAL
from tests.api.small import ALBION, JOB, Small


def test_the_same_key_and_body_submit_once(world: Small) -> None:
    """The second answer names the first one's workloads, and says that it repeats."""
    first = world.submit(JOB, JOB, key="k1")
    assert (first.status, first.json["repeated"]) == (201, False)
    again = world.submit(JOB, JOB, key="k1")
    assert (again.status, again.json["repeated"]) == (201, True)
    assert again.json["workloads"] == first.json["workloads"] == ["fjord-ai-1", "fjord-ai-2"]
    assert len(world.control.world.state.workloads) == 2


def test_the_same_key_with_another_body_is_a_conflict(world: Small) -> None:
    """409, and nothing more is submitted."""
    world.submit(key="k1")
    before = world.state
    answer = world.submit(dict(JOB, nodes=2), key="k1")
    assert (answer.status, answer.codes) == (409, ["idempotency_mismatch"])
    assert world.state == before


def test_one_tenants_key_never_meets_anothers(world: Small) -> None:
    """Two tenants that choose the same key get what they asked for."""
    assert world.submit(key="k", token="fjord").status == 201
    other = world.submit(dict(JOB, project="radiology"), key="k", token="albion", tenant=ALBION)
    assert (other.status, other.json["repeated"]) == (201, False)


def test_what_the_law_refuses_is_said_in_the_answer(world: Small) -> None:
    """It is submitted and refused at once, with the reason; its neighbour is queued."""
    answer = world.submit(JOB, dict(JOB, policy={"countries": ["SE"]}))
    assert answer.status == 201
    ((refused),) = answer.json["refused"]
    assert refused["workload"] == "fjord-ai-2"
    assert "SE" in refused["reason"]
    assert world.ask("GET", "/v1/workloads/fjord-ai-2").json["workload"]["state"] == "refused"


def test_an_acknowledgement_carries_the_head_that_includes_it(world: Small) -> None:
    """The head is that of the journal after the submission, signed."""
    head = world.submit().json["head"]
    assert head == world.ask("GET", "/v1/journal/head").json
    assert head["size"] == world.store.size()


@pytest.mark.parametrize("query", ["", "&tenant=fjord-ai"])
def test_pages_show_every_workload_once_in_order(world: Small, query: str) -> None:
    """Following ``next`` gives all of them, whatever the page's length."""
    world.submit(*([JOB] * 7))
    seen: list[str] = []
    after = ""
    while True:
        page = world.ask("GET", f"/v1/workloads?limit=3&after={after}{query}").json
        seen.extend(one["id"] for one in page["workloads"])
        after = page["next"]
        if not after:
            break
    assert seen == [f"fjord-ai-{number}" for number in range(1, 8)]


def test_lists_can_be_of_some_states_or_of_what_lives(world: Small) -> None:
    """``state`` may be said several times; ``live`` leaves out what has ended."""
    world.submit(JOB, dict(JOB, policy={"countries": ["SE"]}))

    def ids(query: str) -> list[str]:
        return [one["id"] for one in world.ask("GET", f"/v1/workloads?{query}").json["workloads"]]

    assert ids("state=refused") == ["fjord-ai-2"]
    assert ids("state=refused&state=queued") == ["fjord-ai-1", "fjord-ai-2"]
    assert ids("live=true") == ["fjord-ai-1"]
    assert ids("live=true&state=refused") == []


def test_a_workload_is_explained_run_paused_resumed_and_stopped(world: Small) -> None:
    """The whole life of a job over HTTP."""
    world.submit()
    assert "first in the queue" in world.ask("GET", "/v1/workloads/fjord-ai-1/explain").json["line"]
    world.run()
    detail = world.ask("GET", "/v1/workloads/fjord-ai-1").json
    assert detail["workload"]["state"] == "running"
    assert detail["ranks"][0]["accelerators"] == 1
    assert world.ask("POST", "/v1/workloads/fjord-ai-1/pause").json["changed"] is True
    world.run()
    assert world.ask("GET", "/v1/workloads/fjord-ai-1").json["workload"]["state"] == "paused"
    assert world.ask("POST", "/v1/workloads/fjord-ai-1/resume").json["changed"] is True
    world.run()
    assert world.ask("POST", "/v1/workloads/fjord-ai-1/stop").json["changed"] is True
    world.run(20)
    assert world.ask("GET", "/v1/workloads/fjord-ai-1").json["workload"]["state"] == "stopped"
    assert world.ask("POST", "/v1/workloads/fjord-ai-1/stop").json["changed"] is False


def test_secrets_are_named_and_never_shown(world: Small) -> None:
    """Neither an answer nor the journal holds a secret's value; the engine's order does."""
    world.submit(dict(JOB, secrets={"HF_TOKEN": "very-secret"}))
    world.run()
    shown = world.ask("GET", "/v1/workloads/fjord-ai-1")
    assert shown.json["spec"]["secrets"] == {"HF_TOKEN": "(in the vault)"}
    events = world.ask("GET", "/v1/journal/events?limit=1000").body
    assert b"very-secret" not in shown.body + events


def test_reading_a_log_is_audited_once_and_not_for_each_piece(world: Small) -> None:
    """One event for a token, a workload and a rank, however often it reads on; another token makes another."""
    world.submit(dict(JOB, commands=["echo hello", "sleep 3600"]))
    world.run()

    def read_events() -> int:
        events = world.ask("GET", "/v1/journal/events?limit=1000").json["events"]
        return sum(event["kind"] == "LogRead" for event in events)

    offset = 0
    for _ in range(3):
        piece = world.ask("GET", f"/v1/workloads/fjord-ai-1/logs?offset={offset}&limit=3", token="fjord").json
        assert piece["placement"] == "fjord-ai-1.1"
        assert piece["next_offset"] == offset + len(base64.b64decode(piece["data"]))
        offset = piece["next_offset"]
    assert read_events() == 1
    world.ask("GET", "/v1/workloads/fjord-ai-1/logs", token="member")
    assert read_events() == 2


def test_a_workload_that_was_never_placed_has_an_empty_log(world: Small) -> None:
    """No error, nothing yet, and not the end; a rank that it has not is an error."""
    world.submit()
    piece = world.ask("GET", "/v1/workloads/fjord-ai-1/logs").json
    assert (piece["data"], piece["ended"]) == ("", False)
    assert world.ask("GET", "/v1/workloads/fjord-ai-1/logs?rank=1").status == 400
    assert world.ask("GET", "/v1/workloads/fjord-ai-1/logs?attempt=1").status == 400


def test_an_endpoint_has_an_address_and_a_key_of_its_own_once_it_runs(world: Small) -> None:
    """Two replicas have two keys; before it runs there is none; a member may ask, another tenant may not."""
    service = dict(JOB, type="service", ports={"http": "auto"}, counters="llamacpp")
    world.submit(service, service)
    assert world.ask("GET", "/v1/workloads/fjord-ai-1/endpoint").status == 409
    world.run()
    found = [
        world.ask("GET", f"/v1/workloads/fjord-ai-{number}/endpoint", token="member").json
        for number in (1, 2)
    ]
    assert all(set(one["endpoints"]) == {"http"} for one in found)
    assert len({one["api_key"] for one in found}) == 2
    assert all(len(one["api_key"]) == 48 for one in found)
    assert world.ask("GET", "/v1/workloads/fjord-ai-1/endpoint", token="albion").status == 404


def test_drained_nodes_get_nothing_and_come_back(world: Small) -> None:
    """With both sites drained a job waits and says so; taken back, it runs."""
    for site in ("glomfjord", "loughton"):
        drained = world.ask("POST", "/v1/nodes/drain", {"site": site, "reason": "new switch"})
        assert drained.status == 200
        assert drained.json["nodes"]
    world.submit()
    world.run()
    assert "NODE_STATE" in world.ask("GET", "/v1/workloads/fjord-ai-1/explain").json["line"]
    nodes = world.ask("GET", "/v1/nodes?site=glomfjord").json["nodes"]
    assert {(node["state"], node["reason"]) for node in nodes} == {("draining", "new switch")}
    world.ask("POST", "/v1/nodes/undrain", {"nodes": [nodes[0]["id"]]})
    world.run()
    assert world.ask("GET", "/v1/workloads/fjord-ai-1").json["workload"]["state"] == "running"
    node = world.ask("GET", "/v1/nodes?site=glomfjord&limit=1").json["nodes"][0]
    assert (node["used"], node["watts"], node["watts_source"]) == (1, 475, "modelled")


def test_admitted_power_is_that_of_the_running_and_the_idle(world: Small) -> None:
    """Glomfjord's six idle nodes draw 1,200 W; one accelerator more is 275 W more, up to the connection."""

    def admitted() -> int:
        elements = world.ask("GET", "/v1/power?site=glomfjord&racks=false").json["elements"]
        return next(int(one["admitted_w"]) for one in elements if one["id"] == "glomfjord")

    assert admitted() == 1_200
    world.submit()
    world.run()
    assert admitted() == 1_475


def test_states_that_are_final_are_those_that_the_core_says(world: Small) -> None:
    """``live`` means what the core means by not terminal."""
    world.submit()
    for state in TERMINAL:
        assert world.ask("GET", f"/v1/workloads?live=true&state={state}").json["workloads"] == []


@pytest.mark.parametrize(
    ("asked", "gpu", "nodes"),
    [
        ({"resources": {"gpu": "lab:2"}, "nodes": 2}, "lab:2", (2, 0)),
        ({"resources": {"gpu": "lab:0.5"}}, "lab:0.5", (1, 0)),
        ({"resources": {"gpu": "lab:0.125"}}, "lab:0.125", (1, 0)),
        ({"resources": {"gpu": ["lab:4", "H100:8"]}, "nodes": "1..3"}, "[lab:4, H100:8]", (1, 3)),
        ({"resources": {"gpu": ["H100:0.5", "lab:0.5"]}}, "[H100:0.5, lab:0.5]", (1, 0)),
        ({"resources": {}}, "", (1, 0)),
    ],
)
def test_shapes_are_shown_as_they_are_written(
    world: Small, asked: dict[str, object], gpu: str, nodes: tuple[int, int]
) -> None:
    """Parts of an accelerator, alternatives, and how many nodes at least and at most."""
    assert world.submit(dict(JOB, **asked)).status == 201
    shown = world.ask("GET", "/v1/workloads/fjord-ai-1").json["workload"]
    assert shown["gpu"] == gpu
    assert (shown["nodes"], shown["nodes_max"]) == nodes


def test_a_rank_says_which_part_of_an_accelerator_it_has(world: Small) -> None:
    """Two halves of one accelerator: each rank shows its share, and one accelerator of the node is in use."""
    half = dict(JOB, resources={"gpu": "lab:0.5"})
    world.submit(half, half)
    world.run()
    ranks = [world.ask("GET", f"/v1/workloads/fjord-ai-{one}").json["ranks"][0] for one in (1, 2)]
    assert [(rank["accelerators"], rank["share_milli"]) for rank in ranks] == [(1, 500), (1, 500)]
    assert ranks[0]["node"] == ranks[1]["node"]
    nodes = world.ask("GET", "/v1/nodes").json["nodes"]
    assert sum(node["used"] for node in nodes) == 1


def test_the_last_rank_that_elastic_work_could_have_has_a_log(world: Small) -> None:
    """Beyond it there is none, and what there is is said."""
    world.submit(dict(JOB, nodes="1..3"))
    assert world.ask("GET", "/v1/workloads/fjord-ai-1/logs?rank=2").status == 200
    answer = world.ask("GET", "/v1/workloads/fjord-ai-1/logs?rank=3")
    assert answer.json["error"]["next_step"] == "its ranks are 0 to 2."
