"""The file that declares devices: read as the adapters need it, and every mistake named with its place and the next step."""

from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.units import MJ_PER_WH
from headrace.devices.declared import hall_of, load_devices, without_hall

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "devices.yaml"
GOOD = """\
kind: devices
site: fjord
maps:
  m: {power: {at: 52, type: float32, kind: input}, energy: {at: 72, type: float32, kind: input, scale: 1000}}
logins:
  bmc: {user: root, password: /etc/headrace/bmc}
trusts:
  own: {fingerprint: "00:11"}
meters:
  - {name: a, element: fjord/feed-a, address: "10.0.0.1:1502", unit: 3, map: m, nameplate: 2MW, ramp: 500kW}
  - {name: b, element: fjord, address: 10.0.0.2, map: m, nameplate: 4MW}
servers:
  - {node: fjord/b1/n-0-0, url: "https://10.1.0.1/", login: bmc, trust: own, chassis: Self, limit: legacy}
miners:
  - {name: m1, hall: h, element: fjord/feed-b, address: 10.2.0.1, nameplate: 3.4kW, login: bmc}
"""


def write(folder: Path, text: str, mode: int = 0o644) -> Path:
    folder.chmod(0o755)
    path = folder / "devices.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_is_read_as_the_adapters_take_it(tmp_path: Path) -> None:
    """Addresses, maps, rules, logins: nothing is asked, and no password is read yet."""
    (site,) = load_devices(write(tmp_path, GOOD))
    first, second = site.meters
    assert (first.host, first.port, first.unit, second.port, second.unit) == ("10.0.0.1", 1502, 3, 502, 1)
    assert (first.rules.nameplate_w, first.rules.ramp_w_per_s, first.rules.max_age_ms) == (
        2_000_000,
        500_000,
        6_000,
    )
    assert first.rules.energy_step_mj == MJ_PER_WH
    (server,) = site.servers
    assert (server.url, server.chassis, server.way) == ("https://10.1.0.1", "Self", "legacy")
    assert server.login is not None
    assert (server.login.user, server.login.secret.path) == ("root", Path("/etc/headrace/bmc"))
    (miner,) = site.miners
    assert (miner.nameplate_w, miner.make, miner.port) == (3_400, "whatsminer", 0)


def test_the_example_is_read(tmp_path: Path) -> None:
    """The file that stands in examples/ is a valid one."""
    (site,) = load_devices(write(tmp_path, EXAMPLE.read_text()))
    assert site.meters
    assert site.servers
    assert site.miners


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: devices", "kind: device", "'device' are no devices; known: devices. Did you mean devices?"),
        ("map: m, nameplate: 2MW", "map: n, nameplate: 2MW", "no map 'n'; known: m."),
        ("login: bmc, trust", "login: bcm, trust", "no login 'bcm'; known: bmc. Did you mean bmc?"),
        ("trust: own", "trust: other", "no trust 'other'; known: own."),
        (
            "element: fjord/feed-a",
            "element: narvik/feed-a",
            "narvik/feed-a is not of site fjord. Write fjord/...",
        ),
        ("unit: 3", "unit: 300", "a whole number from 0 to 255"),
        ('"10.0.0.1:1502"', '"10.0.0.1:99999"', "is no address. Write HOST or HOST:PORT"),
        ('"https://10.1.0.1/"', "10.1.0.1", "is no address. Write https://HOST"),
        ("at: 52", "at: -1", "a whole number from 0 to 65535"),
        ("scale: 1000", "scale: 0", "is no scale"),
        ("limit: legacy", "limit: oem", "input should be 'environment', 'control' or 'legacy'"),
        ("nameplate: 2MW", "nameplate: 2", "has no unit"),
        ("password: /etc/headrace/bmc", "password: hunter2", "is no absolute path"),
        ("name: b,", "name: a,", "a stands twice; first at meters[0]"),
        ("password:", "pasword:", "Did you mean password?"),
        ("address: 10.2.0.1,", 'address: "10.2.0.1:99", make: auto,', "name the make"),
        (
            "nameplate: 3.4kW, login",
            "login",
            "it is no node, and not all is said of it. Add nameplate; or node",
        ),
        (
            "{name: m1, hall: h, element: fjord/feed-b",
            "{node: narvik/h/n-0-0",
            "narvik/h/n-0-0 is not of site fjord.",
        ),
        (GOOD, "", "no devices in it. Begin with kind: devices."),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_next_step(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    """One line for each, in the words of the file."""
    assert old in GOOD
    with pytest.raises(HeadraceError) as caught:
        load_devices(write(tmp_path, GOOD.replace(old, new)))
    assert said in str(caught.value)
    assert "devices.yaml" in str(caught.value)


def test_two_nodes_behind_one_controller_are_refused(tmp_path: Path) -> None:
    """Each would be capped by the other's limit."""
    entry = next(line for line in GOOD.splitlines() if "node: fjord" in line)
    text = GOOD.replace(entry, f"{entry}\n{entry.replace('n-0-0', 'n-0-1')}")
    with pytest.raises(HeadraceError, match=r"stands twice; first at servers\[0\]"):
        load_devices(write(tmp_path, text))


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Whoever may write it decides whom the control plane gives orders to."""
    with pytest.raises(HeadraceError, match=r"everybody may write .* `chmod go-w"):
        load_devices(write(tmp_path, GOOD, 0o666))


def test_a_miner_that_is_a_node_says_no_more_and_stands_in_its_rack(tmp_path: Path) -> None:
    """What it draws its hardware says; it is the engine's, and all others are watched alone."""
    old = "{name: m1, hall: h, element: fjord/feed-b, address: 10.2.0.1, nameplate: 3.4kW"
    assert old in GOOD
    text = GOOD.replace(old, "{node: fjord/h/n-0-1, address: 10.2.0.1")
    sites = load_devices(write(tmp_path, text))
    (miner,) = hall_of(sites)
    assert (miner.name, miner.node, miner.element) == ("fjord/h/n-0-1", "fjord/h/n-0-1", "fjord/h/n-0")
    assert [len(one.miners) for one in without_hall(sites)] == [0]
    others = load_devices(write(tmp_path, GOOD))
    assert not hall_of(others)
    assert without_hall(others) == others
