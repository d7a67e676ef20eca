"""The file that declares clusters: what is wrong in it is told with its place and the next step."""

from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.ids import NodeId, TenantId
from headrace.engines.declared import load_engines

ROOT = Path(__file__).parents[2]
SLURM = "kind: engine\nname: {name}\nspool: {spool}\nslurm: {{partition: gpu}}\n"


def write(folder: Path, text: str) -> Path:
    """A file of engines."""
    path = folder / "engines.yaml"
    path.write_text(text)
    return path


def test_the_example_is_valid_and_says_what_it_shows() -> None:
    """Whoever copies it begins with something that is right."""
    slurm, ray = load_engines(ROOT / "examples" / "engines.yaml")
    assert (slurm.name, slurm.type, slurm.isolate) == ("narvik-slurm", "slurm", True)
    assert slurm.node_names == {NodeId("narvik/block-1/gb300-0-0"): "n001"}
    assert slurm.tenant_accounts == {TenantId("fjord-ai"): "fjord"}
    assert (ray.name, ray.type, ray.isolate) == ("sandnes-ray", "ray", False)
    assert ray.ray is not None
    assert ray.ray.tenant == "fjord-ai"


WRONG: dict[str, tuple[str, str]] = {
    "another kind": ("kind: site\nname: a\n", "engines.yaml:1:7 kind: 'site' is no engine; known: engine."),
    "no cluster": (
        "kind: engine\nname: a\nspool: /a\n",
        "which cluster it drives is not said, or twice. Write slurm: or ray:",
    ),
    "two clusters": (
        "kind: engine\nname: a\nspool: /a\nslurm: {}\nray: {url: 'http://h:1', tenant: t}\n",
        "which cluster it drives is not said, or twice",
    ),
    "a name that is taken": (SLURM.format(name="local", spool="/a"), "there is an engine local already."),
    "a name twice": (
        SLURM.format(name="a", spool="/a") + "---\n" + SLURM.format(name="a", spool="/b"),
        "engines.yaml:7:7 name: there is an engine a already. Give it another name.",
    ),
    "one spool for two": (
        SLURM.format(name="a", spool="/a") + "---\n" + SLURM.format(name="b", spool="/a"),
        "engines a and b have one spool, /a. Give each a directory of its own.",
    ),
    "a relative path": (SLURM.format(name="a", spool="a"), "'a' is no absolute path. Begin it with a slash."),
    "a mistyped field": (
        "kind: engine\nname: a\nspool: /a\nslurm: {partitoin: gpu}\n",
        "no field 'partitoin' here; known: accounts, conf, gres, leases, partition, rest. Did you mean partition?",
    ),
    "no address": (
        "kind: engine\nname: a\nspool: /a\nray: {url: 'head:8265', tenant: t}\n",
        "'head:8265' is no address. Write http://HOST:PORT, or unix:/PATH of a socket.",
    ),
    "a Ray of nobody": (
        "kind: engine\nname: a\nspool: /a\nray: {url: 'http://head:8265'}\n",
        "tenant is missing. Add tenant.",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_its_place_and_the_next_step(tmp_path: Path, what: str) -> None:
    """Nothing is guessed: an engine that was half understood would run things where nobody meant them."""
    text, said = WRONG[what]
    with pytest.raises(HeadraceError) as raised:
        load_engines(write(tmp_path, text))
    assert said in str(raised.value)


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    """Not one by one, start after start."""
    text = SLURM.format(name="a", spool="a") + "---\n" + SLURM.format(name="b", spool="b")
    with pytest.raises(HeadraceError) as raised:
        load_engines(write(tmp_path, text))
    assert len(raised.value.problems) == 2
