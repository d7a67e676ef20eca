"""The power tree over the API, where there are several ways up: what each element carries, may, and would."""

from pathlib import Path

import pytest

from headrace.control import SYSTEM
from headrace.core import commands as c
from tests.api.small import Small, documents, small


@pytest.fixture
def world(tmp_path: Path) -> Small:
    made = small(tmp_path)
    made.control.execute(SYSTEM, c.ApplyDocuments(documents("estates/redundant.yaml")))
    made.control.commit()
    return made


def test_every_element_says_what_it_would_carry_if_another_were_lost(world: Small) -> None:
    """Six idle nodes: 600 W on each side, 1.2 kW when the other is gone; the hall may have what one side carries."""
    elements = world.ask("GET", "/v1/power?site=glomfjord&racks=false").json["elements"]
    by_id = {one["id"]: one for one in elements}
    side = by_id["glomfjord/feed-a"]
    assert (side["admitted_w"], side["worst_w"], side["lost"]) == (600, 1_200, "glomfjord/transformer-b")
    assert (side["limit_w"], side["breaker_w"], side["parent"]) == (4_000, 5_000, "glomfjord/transformer-a")
    hall = by_id["glomfjord/feed-a+feed-b"]
    assert (hall["kind"], hall["limit_w"], hall["admitted_w"]) == ("allotment", 4_000, 1_200)
    assert by_id["glomfjord/block-1"]["parent"] == "glomfjord/feed-a+feed-b"


def test_the_tree_comes_page_by_page_parents_first(world: Small) -> None:
    """The same elements whatever the length of a page, each once, each after its parent."""
    whole = world.ask("GET", "/v1/power").json
    pages, after = [], ""
    while True:
        page = world.ask("GET", f"/v1/power?limit=3&after={after.replace('+', '%2B')}").json
        pages.extend(page["elements"])
        after = page["next"]
        if not after:
            break
    assert pages == whole["elements"]
    assert len(pages) == whole["total"] == len({one["id"] for one in pages})
    seen = {""}
    for one in pages:
        assert one["parent"] in seen
        seen.add(one["id"])


def test_a_loss_is_answered_with_who_is_hit(world: Small) -> None:
    """With the workload, its tenant and its contract; two sides darken nothing."""
    world.submit()
    world.run()
    placed = world.ask("GET", "/v1/workloads/fjord-ai-1").json["ranks"][0]["node"]
    hit = world.ask("GET", f"/v1/power/impact?element={placed}").json
    (work,) = hit["workloads"]
    assert (work["workload"], work["tenant"], work["nodes"]) == ("fjord-ai-1", "fjord-ai", 1)
    assert hit["contracts"] == [work["contract"]]
    assert hit["nodes"] == [placed]
    side = world.ask("GET", "/v1/power/impact?element=glomfjord/transformer-a").json
    assert (side["nodes_dark"], side["dark"]) == (0, ["glomfjord/feed-a"])
    assert [one["id"] for one in side["survivors"]] == ["glomfjord/transformer-b", "glomfjord/feed-b"]


@pytest.mark.parametrize(
    ("element", "status", "said"),
    [
        ("glomfjord/feed-c", 404, "Did you mean glomfjord/feed-"),
        ("nowhere/feed-a", 404, "no site 'nowhere'"),
        ("glomfjord/feed-a%2Bfeed-b", 400, "is an allotment"),
        ("", 400, "element"),
    ],
)
def test_what_is_not_there_cannot_be_lost(world: Small, element: str, status: int, said: str) -> None:
    """The problem names it and what was meant."""
    answer = world.ask("GET", f"/v1/power/impact?element={element}")
    assert answer.status == status
    assert said in answer.body.decode()
