"""The plan of now, and what if: tried on a copy, for the operator alone."""

from typing import Any

import pytest

from tests.api.small import FJORD, JOB, Small

WHOLE = dict(JOB, resources={"gpu": "lab:3"}, nodes=2, policy={"countries": ["GB"]})


def tried(world: Small, *documents: dict[str, Any]) -> Any:
    """What is answered to some documents; the world is as it was."""
    before = world.state
    answer = world.ask("POST", "/v1/plan?tenant=fjord-ai", {"documents": list(documents)})
    assert world.state == before
    return answer.json


def work(**more: Any) -> dict[str, Any]:
    """A workload's document."""
    return {"kind": "workload"} | WHOLE | more


def test_without_documents_it_is_the_plan_of_now(world: Small) -> None:
    """What starts where, and nothing has started."""
    world.submit(JOB, WHOLE, WHOLE)
    before = world.state
    found = world.ask("POST", "/v1/plan").json
    assert world.state == before
    assert [one["site"] for one in found["now"]["starts"]] == ["glomfjord", "loughton"]
    assert found["then"] is None
    (waits,) = found["now"]["waits"]
    assert (waits["count"], waits["refusal"]) == (1, "CAPACITY")
    assert waits["reason"].startswith("CAPACITY: site loughton: needs 2 nodes")


def test_what_would_be_otherwise_is_told(world: Small) -> None:
    """More work, a workload that is gone, a drained site, each beside the plan of now."""
    world.submit(WHOLE)
    found = tried(world, work(name="second"))
    assert [one["is_new"] for one in found["then"]["starts"]] == [False]
    assert found["then"]["waiting"] == 1
    found = tried(world, work(name="second"), {"kind": "what-if", "remove": ["fjord-ai-1"]})
    assert found["lost"] == ["fjord-ai-1"]
    assert [one["name"] for one in found["then"]["starts"]] == ["second"]
    found = tried(world, {"kind": "what-if", "drain": ["loughton"]})
    assert found["lost"] == ["fjord-ai-1"]
    assert found["then"]["waits"][0]["refusal"] == "NODE_STATE"


def test_what_runs_on_a_drained_site_goes_elsewhere_with_evict(world: Small) -> None:
    """And without it stays where it is."""
    world.submit(dict(JOB, policy={"countries": ["GB", "NO"]}))
    world.run()
    here = world.ask("GET", "/v1/workloads/fjord-ai-1").json["workload"]["site"]
    assert tried(world, {"kind": "what-if", "drain": [here]})["moved"] == []
    found = tried(world, {"kind": "what-if", "drain": [here], "evict": True})
    assert found["moved"] == ["fjord-ai-1"]
    assert [one["site"] for one in found["then"]["starts"]] == [
        {"glomfjord", "loughton"}.difference({here}).pop()
    ]


@pytest.mark.parametrize(
    ("text", "status", "where"),
    [
        ("kind: what-if\nremove: [acme-9]\n", 404, "body:2:10 remove[0]"),
        ("kind: what-if\ndrain:\n- loughton\n- nowhere\n", 404, "body:4:3 drain[1]"),
        ("kind: what-if\ndrian: []\n", 400, "body:2:1 drian"),
        ("kind: what-if\n---\nkind: what-if\n", 400, "body:3:1"),
        ("kind: what-if\nat: 2020-01-01T00:00:00Z\n", 400, "body:2:5 at"),
        ("kind: what-if\nat: 9999-12-31T23:59:59Z\n", 400, "body:2:5 at"),
        ("kind: what-if\nevict: true\n", 400, "body:2:8 evict"),
        (
            "kind: workload\nname: w\ntype: job\nproject: research\nnodes: 99\ncommands: [x]\n",
            422,
            "body:1:1",
        ),
        (
            "kind: workload\nname: w\ntype: job\nproject: research\nsite: nope\ncommands: [x]\n",
            404,
            "body:5:7 site",
        ),
    ],
)
def test_what_is_wrong_is_named_by_line_and_column(world: Small, text: str, status: int, where: str) -> None:
    """As everywhere; nothing was tried."""
    answer = world.ask("POST", "/v1/plan", text.encode(), headers={"content-type": "application/yaml"})
    assert (answer.status, answer.json["error"]["where"]) == (status, where), answer.json


def test_its_own_kind_is_among_those_that_are_known(world: Small) -> None:
    """Written without its hyphen it is guessed; where documents are applied it is not one of them."""
    text = b"kind: whatif\n"
    said = world.ask("POST", "/v1/plan", text, headers={"content-type": "application/yaml"}).json["error"]
    assert "Did you mean what-if?" in said["next_step"]
    said = world.ask("POST", "/v1/apply", text, headers={"content-type": "application/yaml"}).json["error"]
    assert "what-if" not in said["next_step"]


def test_only_the_operator_may_ask(world: Small) -> None:
    """What others have waiting is in every plan."""
    for token in ("fjord", "member"):
        assert world.ask("POST", "/v1/plan", token=token).status == 403
    assert FJORD not in world.ask("POST", "/v1/plan", token="fjord").json["error"]["message"]
