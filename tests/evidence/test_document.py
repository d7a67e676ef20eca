"""Evidence over the API: made from the journal alone, and of nobody's affairs but the grid's and the operator's."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.ids import SiteId
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.units import MS_PER_MINUTE, MS_PER_SECOND
from headrace.evidence.verify import verify
from tests.api.small import Small
from tests.evidence.site import evidence, instruct, later, running, settled


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Small]:
    """A control plane at work for an hour."""
    made = running(tmp_path)
    yield made
    made.store.close()


def test_it_says_what_was_asked_drawn_saved_and_who_confirmed(tmp_path: Path) -> None:
    """3,080 W before; 1,403 W during: the job paused, the miner ended; both orders and both confirmations are there."""
    world, data = settled(tmp_path)
    document = json.loads(data)["document"]
    first, *middle, last = document["intervals"]
    assert [one["energy_mj"] // 300_000 for one in middle] == [middle[0]["delivered_w"]] * len(middle)
    assert all(one["compliance"] == "yes" for one in document["intervals"])
    assert {one["baseline_w"] for one in document["intervals"]} == {first["highest_w"]}
    assert document["baseline"]["method"] == "meter-before"
    assert document["baseline"]["reasons"][0].startswith("high-5-of-10: 0 of 10 working days")
    kinds = [one["kind"] for one in document["events"]]
    assert kinds[:2] == ["JournalOpened", "InstructionReceived"]
    for kind in (
        "EvictionRequested",
        "CurtailmentOrdered",
        "PauseObserved",
        "PlacementEnded",
        "CurtailmentLifted",
    ):
        assert kind in kinds, kinds
    assert kinds.index("CurtailmentOrdered") < kinds.index("PauseObserved")
    assert kinds.index("InstructionWithdrawn") < kinds.index("CurtailmentLifted")
    assert document["final"]
    assert last["coming_ms"] == 0
    saved = sum(
        one["baseline_w"] * one["held_known_ms"] - one["held_energy_mj"] for one in document["intervals"]
    )
    assert document["totals"]["reduction_mj"] == saved > 0
    # What a tenant runs, and who it is, is nobody's business here.
    assert b"fjord-ai" not in data
    shown = [one["kind"] for one in document["events"] if one["payload"]]
    assert set(shown) == {"JournalOpened", "InstructionReceived", "InstructionWithdrawn"}
    # What the control plane answered is what lies in its store: asked again, all but the time is the same.
    again = evidence(world, query="?interval=5m").json["document"]
    assert [again[one] for one in ("intervals", "totals", "readings")] == [
        document[one] for one in ("intervals", "totals", "readings")
    ]
    world.store.close()


def test_one_that_goes_on_is_settled_so_far(world: Small) -> None:
    """It says that it is not final, and verifies all the same."""
    instruct(world)
    later(world, 3 * MS_PER_MINUTE)
    answer = evidence(world)
    document = answer.json["document"]
    assert not document["final"]
    assert document["until_ms"] == document["as_of_ms"]
    assert document["intervals"][-1]["coming_ms"] > 0
    assert verify(answer.body, world.control.keys.public).wrong == []


def test_every_version_of_an_instruction_counts_for_its_time(world: Small) -> None:
    """Given again with another limit while it stands; what another instruction asked meanwhile is shown beside it."""
    instruct(world, "2.5kW")
    later(world, 10 * MS_PER_MINUTE)
    instruct(world, "2kW")
    instruct(world, "3kW", "other")
    later(world, 10 * MS_PER_MINUTE)
    answer = evidence(world, query="?interval=5m&baseline=minute-before")
    document = answer.json["document"]
    assert [one["limit_w"] for one in document["instruction"]["versions"]] == [2_500, 2_000]
    assert [one["id"] for one in document["overlapping"]] == ["other"]
    limits = {(one["instructed_least_w"], one["instructed_most_w"]) for one in document["intervals"]}
    assert {(2_500, 2_500), (2_000, 2_500)} & limits
    assert document["baseline"] | {"reasons": []} == {
        "asked": "minute-before", "method": "minute-before", "take": 1, "adjustment": None, "reasons": [],
    }  # fmt: skip
    assert verify(answer.body, world.control.keys.public).wrong == []


def test_whoever_else_held_meanwhile_is_named_to_who_verifies(world: Small) -> None:
    """The stricter one has what was delivered, the other has none of it and says who covered it; the verifier names each."""
    instruct(world, "2kW")
    instruct(world, "3kW", "other")
    later(world, 10 * MS_PER_MINUTE)
    for name, others in (("evening", "other (at most 3000 W)"), ("other", "evening (at most 2000 W)")):
        found = verify(evidence(world, name).body, world.control.keys.public)
        assert found.wrong == []
        assert any(f"1 other held meanwhile: {others}" in one for one in found.unproven)
    strict, loose = (
        evidence(world, one, "?baseline=minute-before").json["document"] for one in ("evening", "other")
    )
    assert (strict["totals"]["covered_ms"], loose["totals"]["held_ms"]) == (0, 0)
    assert loose["totals"]["covered_ms"] == strict["totals"]["held_ms"] > 0
    assert {tuple(one["covered_by"]) for one in loose["intervals"] if one["covered_ms"]} == {("evening",)}
    assert loose["totals"]["reduction_mj"] == 0 < strict["totals"]["reduction_mj"]


def test_a_limit_above_the_connection_has_reduced_nothing(world: Small) -> None:
    """What the miner and the job shed meanwhile was asked by another: none of it is this one's."""
    instruct(world, "10kW", "loose")
    instruct(world, "2kW")
    later(world, MS_PER_SECOND, 15)
    later(world, 10 * MS_PER_MINUTE)
    answer = evidence(world, "loose")
    assert answer.json["document"]["totals"]["reduction_mj"] == 0
    assert evidence(world).json["document"]["totals"]["reduction_mj"] > 0
    assert verify(answer.body, world.control.keys.public).wrong == []


def test_what_a_grid_operators_server_asked_has_evidence_by_its_own_name(world: Small) -> None:
    """Such names have slashes and more than a hundred letters; slashes may stand as they are, or quoted."""
    name = f"openadr:lab-grid/{'event-' + 'x' * 90}/0.0/glomfjord"
    one = Instruction(InstructionId(name), SiteId("glomfjord"), 2_000, world.control.now_ms(), 0, "openadr")
    world.control.execute(SYSTEM, c.Instruct(one, binding=True))
    later(world, 3 * MS_PER_MINUTE)
    for spelt in (name, quote(name, safe="")):
        answer = evidence(world, spelt)
        assert answer.status == 200, answer.body
        assert answer.json["document"]["instruction"]["id"] == name
        assert verify(answer.body, world.control.keys.public).wrong == []


def test_a_name_that_is_given_again_after_its_end_is_another_instruction(world: Small) -> None:
    """The evidence is of the last one that had it."""
    instruct(world)
    later(world, 2 * MS_PER_MINUTE)
    world.ask("POST", "/v1/grid/instructions/evening/withdraw")
    later(world, 20 * MS_PER_MINUTE)
    instruct(world, "2.2kW")
    later(world, 2 * MS_PER_MINUTE)
    answer = evidence(world)
    document = answer.json["document"]
    assert [one["limit_w"] for one in document["instruction"]["versions"]] == [2_200]
    assert [one["limit_w"] for one in document["overlapping"]] == []
    assert verify(answer.body, world.control.keys.public).wrong == []


def test_the_journal_remembers_what_the_control_plane_has_forgotten(world: Small) -> None:
    """An instruction that is past is dropped once another comes: its evidence is made from its events, to the watt."""
    instruct(world)
    later(world, 2 * MS_PER_MINUTE)
    assert world.ask("POST", "/v1/grid/instructions/evening/withdraw").status == 200
    later(world, 20 * MS_PER_MINUTE)
    instruct(world, "3kW", "other")
    assert "evening" not in world.control.world.state.instructions
    answer = evidence(world)
    assert answer.status == 200
    assert verify(answer.body, world.control.keys.public).wrong == []
    later(world, MS_PER_SECOND)
    (site,) = world.ask("GET", "/v1/grid?site=glomfjord").json["sites"]
    last = evidence(world, "other").json["document"]["readings"][-1]
    assert (last[1], last[2]) == (site["draws_w"], "modelled")


def test_a_limit_that_was_not_met_is_a_breach_with_its_alarm(world: Small) -> None:
    """A binding limit below what can't be shed: above it in every interval, and the alarm is among the events."""
    instruct(world, "1kW", binding=True)
    later(world, MS_PER_SECOND, 15)
    later(world, 20 * MS_PER_MINUTE)
    answer = evidence(world)
    document = answer.json["document"]
    assert {one["compliance"] for one in document["intervals"] if one["due_ms"]} == {"no"}
    assert "AlarmRaised" in [one["kind"] for one in document["events"]]
    assert verify(answer.body, world.control.keys.public).wrong == []


@pytest.mark.parametrize(
    ("name", "query", "status", "said"),
    [
        ("mourning", "", 404, "Did you mean morning"),
        ("morning", "", 409, "it is not in force yet"),
        ("gone", "", 409, "it never was in force"),
        ("morning", "?interval=7m", 400, "'5m', '15m', '30m' or '60m'"),
        ("morning", "?baseline=guess", 400, "'high-5-of-10'"),
        ("morning", "?base=guess", 400, "no parameter 'base'"),
    ],
)
def test_what_can_not_be_settled_is_refused_with_the_reason(
    world: Small, name: str, query: str, status: int, said: str
) -> None:
    """An unknown name, one that is still to come or never was, and words that it does not know."""
    instruct(world, name="morning", **{"from": "2027-01-01T00:00Z"})
    instruct(world, name="gone", **{"from": "2027-01-01T00:00Z"})
    world.ask("POST", "/v1/grid/instructions/gone/withdraw")
    answer = evidence(world, name, query)
    assert answer.status == status
    assert said in answer.body.decode()


def test_only_the_operator_may_have_it(world: Small) -> None:
    """A tenant is refused, as of everything about the grid."""
    instruct(world)
    answer = world.ask("GET", "/v1/grid/instructions/evening/evidence", token="fjord")
    assert (answer.status, answer.codes) == (403, ["forbidden"])
