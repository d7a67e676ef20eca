"""Devices over the API: what is asked of them, what they say, what meters see; to the operator alone."""

from pathlib import Path

import pytest

from headrace.actuate import DeviceStates, Limited, Mined
from headrace.actuate_meters import Metered
from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.apply import apply
from headrace.core.events import Committed
from headrace.core.ids import NodeId, PowerNodeId, SiteId
from headrace.core.power.instruction import InstructionId
from headrace.core.power.reading import PowerReading
from headrace.core.power.telemetry import Doubt
from headrace.devices import MinerState
from tests.api.small import Small, small

CAPPED, IDLE, MUTE = (NodeId(f"glomfjord/block-1/lab-0-{number}") for number in range(3))
STRANGE = NodeId("glomfjord/block-9/lab-0-0")
FEED, HALL = PowerNodeId("glomfjord/feed-a"), PowerNodeId("glomfjord/feed-b")
AT_MS = 1_795_000_000_000


def states() -> DeviceStates:
    """Four controllers, a meter that is believed and one that is not, and a miner."""
    return DeviceStates(
        (
            Limited(CAPPED, "control", 600, 700, 700, AT_MS, AT_MS, ""),
            Limited(IDLE, "legacy", 1, None, None, 0, 0, ""),
            Limited(MUTE, "", None, None, None, 0, 0, "no answer from http://127.0.0.1:1 within 5 s; look."),
            Limited(STRANGE, "environment", 600, None, None, 0, 0, ""),
        ),
        (
            Metered("a", FEED, PowerReading(1_234, AT_MS, "measured", "a"), 0, Doubt.NONE, "", 300, True),
            Metered(
                "b",
                HALL,
                PowerReading(3_000, AT_MS, "stale", "b"),
                9_000,
                Doubt.FROZEN,
                "meter b: it stands.",
                0,
                True,
            ),
        ),
        (Mined("m", HALL, MinerState(True, 3_300, None, AT_MS), ""), Mined("n", HALL, None, "no answer")),
        ("no node 'glomfjord/block-9/lab-0-0'; known: x. Did you mean x?",),
    )


@pytest.fixture
def world(tmp_path: Path) -> Small:
    made = small(tmp_path)
    made.app.state.service.devices = states
    made.control.execute(SYSTEM, c.DeclareLimiters({CAPPED: 600}))
    # As the ladder orders it.
    order = ev.CapsOrdered(SiteId("glomfjord"), InstructionId("evening"), ((CAPPED, 700),))
    apply(made.control.world, Committed(made.control.world.state.version, AT_MS, order))
    made.control.world.state.caps[CAPPED].enforced_w = 700
    return made


def test_every_device_says_what_is_asked_of_it_and_what_it_does(world: Small) -> None:
    """And what its node counts for because of that."""
    found = world.ask("GET", "/v1/devices").json
    rows = {one["node"]: one for one in found["limiters"]}
    assert {node: one["state"] for node, one in rows.items()} == {
        CAPPED: "capped",
        IDLE: "idle",
        MUTE: "troubled",
        STRANGE: "unknown",
    }
    capped = rows[CAPPED]
    assert (capped["wanted_w"], capped["enforced_w"], capped["counts_w"]) == (700, 700, 714)
    assert capped["instruction"] == "evening"
    assert rows[MUTE]["trouble"].startswith("no answer")
    assert found["counts"] == {
        "limiters": 4, "capped": 1, "troubled": 1, "meters": 2, "doubted": 1, "miners": 2,
    }  # fmt: skip
    first, second = found["meters"]
    assert (first["watts"], first["source"], first["doubt"], first["excess_w"]) == (
        1_234,
        "measured",
        "",
        300,
    )
    assert first["counted_w"] == int(world.control.world.power_w[world.control.world.fleet.power_index[FEED]])
    assert (second["source"], second["doubt"], second["detail"]) == ("stale", "frozen", "meter b: it stands.")
    assert [(one["mining"], one["power_w"], one["trouble"]) for one in found["miners"]] == [
        (True, 3_300, ""),
        (None, None, "no answer"),
    ]
    assert "Did you mean" in found["strangers"][0]


@pytest.mark.parametrize(
    ("query", "nodes", "more"),
    [
        ("concerned=true", [CAPPED, MUTE], 0),
        ("limit=1", [CAPPED], 3),
        ("site=loughton", [], 0),
        ("site=glomfjord&concerned=true&limit=1", [CAPPED], 1),
    ],
)
def test_what_is_left_out_is_asked_for_and_counted(
    world: Small, query: str, nodes: list[str], more: int
) -> None:
    """By site, by concern, and by number."""
    found = world.ask("GET", f"/v1/devices?{query}").json
    assert [one["node"] for one in found["limiters"]] == nodes
    assert found["more"] == more


def test_devices_are_the_operators_and_a_site_that_is_not_there_is_named(world: Small) -> None:
    """No tenant learns where meters stand; nor does a name that nothing has give an empty list."""
    assert world.ask("GET", "/v1/devices", token="fjord").status == 403
    answer = world.ask("GET", "/v1/devices?site=glomfjrd")
    assert (answer.status, answer.codes) == (404, ["not_found"])
    assert "Did you mean glomfjord?" in answer.body.decode()


def test_a_control_plane_that_looks_after_none_says_so(tmp_path: Path) -> None:
    """An empty answer, not an error."""
    found = small(tmp_path).ask("GET", "/v1/devices").json
    assert (found["limiters"], found["meters"], found["counts"]["limiters"]) == ([], [], 0)
