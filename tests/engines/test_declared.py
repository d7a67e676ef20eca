"""The file that declares clusters: what is wrong in it is told with its place and the next step."""

import os
from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.ids import NodeId, TenantId
from headrace.engines.declared import load_engines
from headrace.engines.doctor import examine

ROOT = Path(__file__).parents[2]
SLURM = "kind: engine\nname: {name}\nspool: {spool}\nslurm: {{partition: gpu}}\n"


def write(folder: Path, text: str) -> Path:
    """A file of engines."""
    path = folder / "engines.yaml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_the_example_is_valid_and_says_what_it_shows(tmp_path: Path) -> None:
    """Whoever copies it begins with something that is right."""
    slurm, ray = load_engines(write(tmp_path, (ROOT / "examples" / "engines.yaml").read_text()))
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
    "one partition for two": (
        SLURM.format(name="a", spool="/a") + "---\n" + SLURM.format(name="b", spool="/b"),
        "engines a and b drive the same nodes of one cluster. Declare it once, or give each a partition of its own",
    ),
    "a partition and all of them": (
        "kind: engine\nname: a\nspool: /a\nslurm: {conf: /c}\n---\n"
        "kind: engine\nname: b\nspool: /b\nslurm: {conf: /c, partition: gpu}\n",
        "engines a and b drive the same nodes of one cluster.",
    ),
    "one Ray for two": (
        "kind: engine\nname: a\nspool: /a\nray: {url: 'http://h:1', tenant: t}\n---\n"
        "kind: engine\nname: b\nspool: /b\nray: {url: 'http://h:1/', tenant: u}\n",
        "engines a and b drive the same nodes of one cluster.",
    ),
    "a relative path": (SLURM.format(name="a", spool="a"), "'a' is no absolute path. Begin it with a slash."),
    "a mistyped field": (
        "kind: engine\nname: a\nspool: /a\nslurm: {partitoin: gpu}\n",
        "no field 'partitoin' here; known: accounts, conf, gres, leases, partition, rest. Did you mean partition?",
    ),
    "no address": (
        "kind: engine\nname: a\nspool: /a\nray: {url: 'head:8265', tenant: t}\n",
        "'head:8265' is no address. Write http://HOST:8265, as `ray start --head` prints it.",
    ),
    "an address of a page": (
        "kind: engine\nname: a\nspool: /a\nray: {url: 'http://head:8265/#/jobs', tenant: t}\n",
        "'http://head:8265/#/jobs' is no address. Write http://HOST:8265, as `ray start --head` prints it.",
    ),
    "an address without a host": (
        "kind: engine\nname: a\nspool: /a\nslurm: {rest: {url: 'http://'}}\n",
        "'http://' is no address. Write http://HOST:PORT, or unix:/PATH of a socket.",
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


def test_partitions_and_clusters_of_their_own_may_be_declared_beside_each_other(tmp_path: Path) -> None:
    """Two partitions of one Slurm, the same partition of another, and a Ray."""
    slurm = "kind: engine\nname: {}\nspool: /{}\nslurm: {{conf: /{}, partition: {}}}\n---\n"
    text = "".join((slurm.format("a", "a", "c", "gpu"), slurm.format("b", "b", "c", "cpu")))
    text += slurm.format("d", "d", "e", "gpu")
    text += "kind: engine\nname: f\nspool: /f\nray: {url: 'http://h:1', tenant: t}\n"
    assert [one.name for one in load_engines(write(tmp_path, text))] == ["a", "b", "d", "f"]


@pytest.mark.parametrize(("mode", "who"), [(0o666, "everybody"), (0o664, "all of group [0-9]+")])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int, who: str) -> None:
    """It names programs that run with the control plane's rights; the same for its directory, and through a link."""
    file = write(tmp_path, SLURM.format(name="a", spool="/a"))
    file.chmod(mode)
    with pytest.raises(HeadraceError, match=f"{who} may write {file}; `chmod go-w {file}`"):
        load_engines(file)
    link = tmp_path / "apart" / "engines.yaml"
    link.parent.mkdir(mode=0o700)
    link.symlink_to(file)
    with pytest.raises(HeadraceError, match=f"{who} may write {file};"):
        load_engines(link)
    file.chmod(0o644)
    assert load_engines(link)
    tmp_path.chmod(mode | 0o111)
    with pytest.raises(HeadraceError, match=f"{who} may write {tmp_path};"):
        load_engines(file)
    # As in /tmp: nobody there replaces what is another's.
    tmp_path.chmod(0o1777)
    assert load_engines(file)


def test_a_file_that_somebody_else_owns_is_refused(tmp_path: Path) -> None:
    """Its owner could change what it says; as could who owns its directory."""
    assert os.geteuid() == 0
    file = write(tmp_path, SLURM.format(name="a", spool="/a"))
    os.chown(file, 65_534, -1)
    with pytest.raises(HeadraceError, match=f"{file} belongs to user 65534; `chown -h 0 {file}`"):
        load_engines(file)
    os.chown(file, 0, -1)
    assert load_engines(file)
    os.chown(tmp_path, 65_534, -1)
    with pytest.raises(HeadraceError, match=f"{tmp_path} belongs to user 65534;"):
        load_engines(file)


def test_the_doctor_says_that_a_slurm_without_isolation_makes_tenants_root(tmp_path: Path) -> None:
    """With the next step; a Ray's jobs are not this process's."""
    assert os.geteuid() == 0
    slurm = f"kind: engine\nname: a\nspool: {tmp_path}/a\nslurm: {{conf: /none}}\n"
    ray = f"kind: engine\nname: b\nspool: {tmp_path}/b\nray: {{url: 'http://127.0.0.1:1', tenant: t}}\nisolate: false\n"
    one, other = load_engines(write(tmp_path, f"{slurm}isolate: false\n---\n{ray}"))
    (found,) = [each for each in examine(one) if each.what == "tenants"]
    assert (found.is_well, "tenants run as root" in found.detail) == (False, True)
    assert found.next_step == "Take isolate: false out, or run Headrace as another user than root."
    assert [each.is_well for each in examine(other) if each.what == "tenants"] in ([], [True])
    (isolated,) = load_engines(write(tmp_path, slurm))
    assert [each for each in examine(isolated) if each.what == "tenants"] == []


def test_the_doctor_says_who_else_could_write_a_spool(tmp_path: Path) -> None:
    """What lies there is run."""
    spool = tmp_path / "spool"
    spool.mkdir()
    spool.chmod(0o777)
    (one,) = load_engines(
        write(tmp_path, f"kind: engine\nname: a\nspool: {spool}\nslurm: {{conf: /none}}\nisolate: false\n")
    )
    (found,) = [each for each in examine(one) if each.what == "spool"]
    assert not found.is_well
    assert f"everybody may write {spool}" in found.detail
    assert found.next_step.startswith(f"`chmod go-w {spool}`")
