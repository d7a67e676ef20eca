"""Instructions over the API: names that nobody chose lift nothing, and what can't be met is said to be breached."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headrace.api.views_grid import GridView, Instructed
from headrace.cli.grid import _breaches, _print, _state
from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.ids import SiteId
from headrace.core.power.instruction import Instruction, InstructionId
from tests.api.small import Small
from tests.evidence.site import instruct, later, running

PATH = "/v1/grid/instructions"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Small]:
    """A control plane at work for an hour: 1,430 W of Glomfjord's 3,080 W can't be shed."""
    made = running(tmp_path)
    yield made
    made.store.close()


def seen(world: Small) -> GridView:
    """What `grid ls` sees."""
    return msgspec.convert(world.ask("GET", "/v1/grid").json, GridView)


def test_a_name_that_is_made_up_takes_nobodys_place(world: Small) -> None:
    """Neither one that somebody chose before such names were kept back, nor one that was made up."""
    number = world.control.world.state.version
    standing = [f"person-{number + more}" for more in (0, 1, 2, 4)]
    for name in standing:
        given = Instruction(InstructionId(name), SiteId("loughton"), 900, world.control.now_ms())
        world.control.execute(SYSTEM, c.Instruct(given, binding=True))
    made = [
        world.ask("POST", PATH, {"site": "loughton", "limit": "1.9kW"}).json["instruction"]["id"]
        for _ in range(4)
    ]
    assert len({*standing, *made}) == 8
    assert len(world.control.world.state.instructions) == 8


def test_names_that_are_made_up_are_kept_back(world: Small) -> None:
    """Nobody chooses one; who was given one may change what it asks by it."""
    future = f"person-{world.control.world.state.version + 1}"
    refused = world.ask("POST", PATH, {"site": "loughton", "limit": "900W", "id": future})
    assert (refused.status, refused.codes) == (400, ["bad_input"])
    assert "names like" in refused.body.decode()
    made = world.ask("POST", PATH, {"site": "loughton", "limit": "1.9kW"}).json["instruction"]["id"]
    changed = world.ask("POST", PATH, {"site": "loughton", "limit": "1.8kW", "id": made})
    assert (changed.status, changed.json["instruction"]["limit_w"]) == (200, 1_800)
    assert len(world.control.world.state.instructions) == 1


def test_what_binds_below_the_floor_is_said_to_be_breached(
    world: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it is taken, and in the list for as long as it holds: by how much, and what would help."""
    answer = instruct(world, "1kW", binding=True)
    _print(msgspec.convert(answer.json, Instructed), as_json=False)
    said = capsys.readouterr().out
    assert (
        "WARNING: evening can't be met: glomfjord can't come below 1.43 kW, which is 430 W above it." in said
    )
    later(world, 1_000, 15)
    found = seen(world)
    by_id = {one.site: one for one in found.sites}
    assert (by_id["glomfjord"].asked_w, by_id["glomfjord"].least_w) == (1_000, 1_430)
    assert (by_id["loughton"].asked_w, by_id["loughton"].least_w) == (None, 480)
    assert [_state(one, by_id[one.site]) for one in found.instructions] == ["active, BREACHED"]
    _breaches(found)
    assert capsys.readouterr().out == (
        "glomfjord can draw 430 W more than the 1 kW that it may; it can't come below 1.43 kW: "
        "stop firm work, or it is breached.\n"
    )


def test_what_is_being_met_and_what_is_met_say_so(world: Small, capsys: pytest.CaptureFixture[str]) -> None:
    """Above it at first, under it once the ladder has done its work; what comes later is only asked for."""
    instruct(world, "2kW")
    instruct(world, "1kW", "later", binding=True, **{"from": "2027-01-01T00:00Z"})
    instruct(world, "9kW", "loose")

    def states() -> dict[str, str]:
        found = seen(world)
        by_id = {one.site: one for one in found.sites}
        return {one.id: _state(one, by_id[one.site]) for one in found.instructions}

    coming = {"later": "coming, CAN'T BE MET", "loose": "active"}
    assert states() == {"evening": "active, not met yet"} | coming
    _breaches(seen(world))
    assert "1.08 kW more than the 2 kW that it may; it can come down to 1.43 kW.\n" in capsys.readouterr().out
    later(world, 1_000, 15)
    assert states() == {"evening": "active"} | coming
    _breaches(seen(world))
    assert capsys.readouterr().out == ""
