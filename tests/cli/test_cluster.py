"""`headrace cluster`: whole nodes of one's own, and a real Ray on them that ends with the lease."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from headrace.lab.ray import PYTHON
from tests.cli.conftest import Headrace

RAY = PYTHON.with_name("ray")
BOTH = ("--gpus", "8", "--gpu", "lab", "--project", "research", "--countries", "NO")
TRIES = 4
"""Ray gives a client's server half a minute to start, which on a busy machine is not enough; whoever asks again gets one."""
USE = """
import ray
ray.init("{address}")

@ray.remote(num_gpus=1)
def where():
    return ray.get_runtime_context().get_node_id()

print(ray.cluster_resources()["GPU"], len(set(ray.get([where.remote() for _ in range(8)]))))
"""


def use(access: dict[str, str], token: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """What a tenant's own program gets from the cluster, with a token."""
    env = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    command = [str(PYTHON), "-c", USE.format(address=access["address"])]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds, check=False)


def directories_of(token: str) -> set[Path]:
    """What the processes of the Ray that has this token keep on disk, one directory for each of its nodes."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        # Who ends meanwhile has no environment left to read.
        with contextlib.suppress(OSError):
            pairs = (process / "environ").read_bytes().split(b"\0")
            env = dict(pair.decode(errors="replace").split("=", 1) for pair in pairs if b"=" in pair)
            if env.get("RAY_AUTH_TOKEN") == token and "RAY_TMPDIR" in env:
                found.add(Path(env["RAY_TMPDIR"]))
    return found


def test_a_tenant_s_own_ray_runs_on_its_nodes_answers_its_token_and_ends_with_the_lease(
    headrace: Headrace,
) -> None:
    """Two whole nodes with all that they have; nothing of it is left on the machine."""
    made = headrace(
        "cluster", "create", "mine", *BOTH, "--engine", "ray", "--ray", RAY, "--for", "1h", "--json"
    )
    assert made.code == 0, made
    access = json.loads(made.out)
    assert (access["state"], access["address"][:6]) == ("running", "ray://")
    tries = [use(access, access["token"])]
    while tries[-1].returncode and len(tries) < TRIES:
        tries.append(use(access, access["token"]))
    assert tries[-1].stdout.strip() == "8.0 2", tries[-1].stderr[-2_000:]
    directories = directories_of(access["token"])
    assert len(directories) == 2
    assert all(one.is_dir() for one in directories)
    with pytest.raises(subprocess.TimeoutExpired):
        use(access, "another", seconds=10)
    assert "lab:4" in headrace("cluster", "ls").out
    assert headrace("cluster", "delete", "mine").out == f"deleting {access['workload']}\n"
    assert headrace("wait", access["workload"], "--for", "stopped", "--timeout", "60s").code == 0
    assert not [one for one in directories if one.exists()]
    assert directories_of(access["token"]) == set()


def test_the_token_of_a_ray_is_on_no_record(headrace: Headrace, plane: Path) -> None:
    """It is a secret of the workload: not in the journal, and no command shows it again."""
    made = headrace(
        "cluster", "create", "secret", *BOTH, "--engine", "ray", "--ray", RAY, "--wait", "0", "--json"
    )
    access = json.loads(made.out)
    token = access["token"].encode()
    assert len(token) >= 32
    headrace("cluster", "delete", access["workload"])
    headrace("wait", access["workload"], "--for", "stopped", "--timeout", "60s")
    files = [file for file in plane.glob("*.sqlite*") if file.is_file()]
    assert files
    assert not any(token in file.read_bytes() for file in files)
    assert access["token"] not in headrace("journal", "events").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--engine", "rya"), "no engine 'rya'; known: none, ray, slurm. Did you mean ray?"),
        (("--gpu", "lba"), "--gpu: no model 'lba'; known: "),
        (
            ("--gpu", "lab:x"),
            "--gpu: 'lab:x' is no model and number of a node's accelerators. Write it like H100:8.",
        ),
        (("--project", "nope"), "no tenant has the project 'nope';"),
        (("--gpus", "0"), "Input should be greater than or equal to 1."),
        (("--gpus", "800"), "can never be placed"),
    ],
)
def test_what_is_wrong_with_a_lease_is_told_with_the_next_step(
    headrace: Headrace, arguments: tuple[str, ...], said: str
) -> None:
    """Before anything is submitted, or by the name of what can never be."""
    found = headrace("cluster", "create", "wrong", *BOTH, *arguments)
    assert found.code in (2, 7)
    assert said in found.err


def test_only_a_cluster_is_deleted(headrace: Headrace) -> None:
    """A job that has the name is left alone."""
    headrace("submit", "--name", "nap", "--project", "research", "--gpu", "lab:1", "-c", "sleep 60")
    said = headrace("cluster", "delete", "nap")
    assert said.code == 2
    assert "is no cluster. Use 'headrace stop " in said.err
    headrace("stop", "nap")
    assert headrace("wait", "nap", "--for", "stopped", "--timeout", "60s").code == 0
