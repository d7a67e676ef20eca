"""The commands `plant` and `devices`: what is wrong on the command line is one line with the next step."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.plant import app
from headrace.core.errors import HeadraceError
from headrace.plant.site import Options, make_physics, overloads, read_estate, site_fleet
from tests.plant.small import estate_file, plant_apart

RUN = CliRunner()


def failed(*arguments: str) -> str:
    """What a command line that fails says."""
    done = RUN.invoke(app, list(arguments))
    assert done.exit_code != 0
    return str(done.exception) if isinstance(done.exception, HeadraceError) else done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--way", "oem"), "'oem' is none of environment, control, legacy, mixed."),
        (("--fail-as", "silent,asleep"), "'asleep' is none of silent, refuses, ignores, slow, gone."),
        (("--site", "narvik"), "no site 'narvik'; known: fjord."),
        (("--speed", "0"), "--speed"),
        (("--miners", "1", "--miners-at", "fjord/x"), "no power element 'fjord/x'"),
    ],
)
def test_a_wrong_option_of_plant_is_named(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """Before anything listens."""
    assert said in failed("plant", str(estate_file(tmp_path)), "--out", str(tmp_path / "out"), *arguments)


def test_more_than_an_element_carries_is_said_with_its_figures(tmp_path: Path) -> None:
    """Miners of 6.6 kW at a feed of 3 kW, beside nodes; up to the transformer and the connection, and of no other element."""
    lab = Path(__file__).parents[2] / "examples" / "estates" / "lab.yaml"
    fleet = site_fleet(read_estate(lab), "")
    options = Options(miners=2, miners_at="glomfjord/feed-b")
    said = overloads(fleet, make_physics(fleet, options, 0))
    assert [line.split(". ")[0] for line in said[1:]] == [
        "warning: glomfjord/transformer-1 carries 6 kW, and 10.8 kW hang on it (nodes 4.2 kW, miners 6.6 kW)",
        "warning: glomfjord/feed-b carries 3 kW, and 8.7 kW hang on it (nodes 2.1 kW, miners 6.6 kW)",
    ]
    assert said[0].startswith("warning: glomfjord carries 3.7 kW, and ")
    assert overloads(fleet, make_physics(fleet, Options(load_permille=0), 0)) == []


def test_a_file_that_is_no_estate_or_not_there_is_named(tmp_path: Path) -> None:
    """Neither is a traceback."""
    assert "can't read it" in failed("plant", str(tmp_path / "nothing.yaml"))
    assert "can't read it" in failed("devices", str(tmp_path / "nothing.yaml"))
    tenant = tmp_path / "tenant.yaml"
    tenant.write_text("kind: tenant\nname: acme\nprojects: [a]\ncountry: NO\n")
    assert "0 estates in" in failed("plant", str(tenant))


def test_devices_are_asked_ordered_and_named(tmp_path: Path) -> None:
    """All that a file declares, as JSON; a limit that is set and one that is refused; names that nothing has."""
    tmp_path.chmod(0o755)
    with plant_apart(tmp_path / "plant", estate_file(tmp_path), "--way", "environment") as folder:
        file = str(folder / "devices.yaml")
        done = RUN.invoke(app, ["devices", file, "--json", "--limit", "all=700W"])
        assert done.exit_code == 0, done.output
        rows = json.loads(done.output)
        orders = [one for one in rows if one["kind"] == "order"]
        assert [one["says"] for one in orders] == ["limit 700 W confirmed"] * 6
        meters = [one["says"] for one in rows if one["kind"] == "meter"]
        assert len(meters) == 5
        assert all(re.fullmatch(r"[0-9.]+ k?W measured", one) for one in meters)
        limits = [one["says"] for one in rows if one["kind"] == "redfish environment"]
        assert all(one.startswith("limit 700 W, draws ") for one in limits)
        done = RUN.invoke(app, ["devices", file, "--limit", "fjord/b1/n-0-0=10W"])
        assert done.exit_code == 1
        assert "not within the range from 600 to 1000" in done.output
        assert "no node 'fjord/b1/n-0-7'" in failed("devices", file, "--limit", "fjord/b1/n-0-7=700W")
        assert "--limit" in failed("devices", file, "--limit", "fjord/b1/n-0-0=much")
        assert "no miner 'm1'" in failed("devices", file, "--stop", "m1")
