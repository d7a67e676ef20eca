"""``headrace doctor``: what can be wrong with a cluster is said, with the step that helps; what is well is called so."""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headrace.core.ids import NodeId, TenantId
from headrace.engines.declared import load_engines
from headrace.engines.doctor import Finding, Known, examine, examine_here, examine_sites
from headrace.engines.slurm.client import configuration
from tests.engines.slurm_site import SlurmSite, slurm_site

PATIENCE_S = 60


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """Two nodes and a slurmrestd."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    with slurm_site(folder, nodes=2, rest=True) as found:
        yield found
    shutil.rmtree(folder)


@pytest.fixture
def spool() -> Iterator[Path]:
    """One that the nodes' users may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-"))
    folder.chmod(0o711)
    (folder / "spool").mkdir(mode=0o711)
    yield folder / "spool"
    shutil.rmtree(folder)


def told(spool: Path, cluster: str, more: str = "", known: Known | None = None) -> list[Finding]:
    """What the doctor finds of an engine."""
    file = spool.parent / "engines.yaml"
    file.write_text(f"kind: engine\nname: a\nspool: {spool}\n{cluster}\n{more}\n")
    file.chmod(0o600)
    (one,) = load_engines(file)
    return examine(one, known)


def wrong(found: list[Finding]) -> list[Finding]:
    """What is not well; each has a next step."""
    bad = [one for one in found if not one.is_well]
    assert all(one.next_step for one in bad), bad
    return bad


def slurm(site: SlurmSite, more: str = "") -> str:
    """A declaration of the site."""
    return f"slurm: {{conf: {site.conf}, partition: lab, leases: false{more}}}"


# --- Slurm ----------------------------------------------------------------------------------------------------------


def test_a_slurm_that_is_well_is_called_so_and_its_jobs_are_counted(site: SlurmSite, spool: Path) -> None:
    """Through its commands and through slurmrestd; where a control plane runs, names are compared too."""
    token = spool.parent / "token"
    site.write_token(token)
    rest = f", rest: {{url: '{site.address}', token: {token}}}"
    nodes = {NodeId("glom/b/lab-0-0"): "a", NodeId("glom/b/lab-0-1"): "a", NodeId("lough/b/x"): "local"}
    for cluster in (slurm(site), slurm(site, rest)):
        found = told(spool, cluster, known=Known(nodes, [TenantId("acme")]))
        assert wrong(found) == []
        said = {one.what: one.detail for one in found}
        assert said["jobs"] == "0 of Headrace, none of others on its nodes"
        assert said["names"] == "2 nodes of the estate; no name in the file is nobody's"
        assert said["controller"] == "Slurm 22.05.8 answers"


def test_a_job_of_somebody_else_is_a_finding(site: SlurmSite, spool: Path) -> None:
    """With who, where, and what it does to the promise of power; one that says it is ours is not believed."""
    job = site.submit_other("-wlab-0-1", "--comment=headrace placement=acme-1.1 epoch=1 mark=0123")
    try:
        give_up = time.monotonic() + PATIENCE_S
        while not (found := [one for one in wrong(told(spool, slurm(site))) if one.what == "jobs"]):
            assert time.monotonic() < give_up
            time.sleep(0.1)
    finally:
        site.ask("scancel", str(job))
    (one,) = found
    assert one.detail == f"1 run on its nodes that were not placed from here: root (job {job}) on lab-0-1"
    assert one.next_step.startswith(
        "Their nodes count at nameplate and get no work. Let them end, or `scancel`"
    )
    # What it has in its own spool is its own.
    (spool / "marks").mkdir()
    (spool / "marks" / "0123").touch()
    assert wrong(told(spool, slurm(site))) == []


NODES = {NodeId("glom/b/lab-0-0"): "a", NodeId("glom/b/lab-0-1"): "a", NodeId("lough/b/lab-0-0"): "local"}
NAMES: dict[str, tuple[str, str, str]] = {
    # What the file says of names; what is found, and the step.
    "a node that the cluster does not have": (
        "nodes: {glom/b/lab-0-0: lab-0-9}",
        "its cluster has no node lab-0-9",
        "Write what `sinfo --Node` calls them as nodes: of the engine; known: lab-0-0, lab-0-1. Did you mean lab-0-",
    ),
    "a node that the estate does not have": (
        "nodes: {glom/b/lab-0-o: lab-0-0}",
        "nodes: no node of the estate 'glom/b/lab-0-o'",
        "Known: glom/b/lab-0-0, glom/b/lab-0-1. Did you mean glom/b/lab-0-",
    ),
    "a node of another engine's site": (
        "nodes: {lough/b/lab-0-0: lab-0-0}",
        "nodes: no node of this engine 'lough/b/lab-0-0'",
        "Its site has another engine: take it out, or name this one there.",
    ),
    "an address of no node": (
        "addresses: {lab-0-7: 10.0.0.7}",
        "addresses: no node that is called so 'lab-0-7'",
        "Known: lab-0-0, lab-0-1. Did you mean lab-0-",
    ),
}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_that_is_nobody_s_is_a_finding_with_the_one_that_is_meant(
    site: SlurmSite, spool: Path, what: str
) -> None:
    """Mistyped, it would be silent: the node would be asked for under its own name, or nobody would be charged."""
    more, detail, step = NAMES[what]
    found = wrong(told(spool, slurm(site), more, Known(NODES, [])))
    assert [one.what for one in found] == ["names"] * len(found)
    assert [one for one in found if one.detail == detail and one.next_step.startswith(step)], found


def test_an_account_of_no_tenant_is_a_finding(site: SlurmSite, spool: Path) -> None:
    """Its jobs would be charged to the account of its own name, which need not be there."""
    cluster = slurm(site, ", accounts: {fjord-a: fjord}")
    (one,) = wrong(told(spool, cluster, known=Known(NODES, [TenantId("fjord-ai"), TenantId("acme")])))
    assert one.detail == "tenants: no tenant 'fjord-a'"
    assert one.next_step == "Known: acme, fjord-ai. Did you mean fjord-ai?"
    # Nobody has applied tenants yet: nothing is known.
    assert wrong(told(spool, cluster, known=Known(NODES, []))) == []


def test_an_engine_that_a_site_names_and_nobody_declares_is_a_finding() -> None:
    """The control plane would not reach what runs there."""
    known = Known({NodeId("glom/b/x"): "narvik-slrm", NodeId("lough/b/x"): "local"}, [])
    (one,) = examine_sites((), known)
    assert (one.engine, one.what, one.is_well) == ("narvik-slrm", "file", False)


def test_a_configuration_that_is_not_there_is_found_at_once(spool: Path) -> None:
    """Slurm's own commands would look for another for a minute."""
    began = time.monotonic()
    (one,) = wrong(told(spool, "slurm: {conf: /nowhere/slurm.conf}"))
    assert (one.what, one.detail) == ("configuration", "/nowhere/slurm.conf is not there")
    assert one.next_step == "Write the path of the cluster's slurm.conf as conf:."
    assert time.monotonic() - began < PATIENCE_S / 2


def test_no_configuration_at_all_is_found(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither conf: nor the environment's nor one in its place: the commands ask the network for one, for so long."""
    assert configuration(None) is None
    other = spool.parent / "bin"
    other.mkdir()
    (other / "scontrol").write_text("#!/bin/sh\nexec sleep 1000\n")
    (other / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(other), prepend=":")
    (one,) = wrong(told(spool, "slurm: {leases: false}"))
    assert one.detail == "Slurm's configuration is in none of its places, and scontrol found none in 10 s;"
    assert one.next_step.startswith("write the path of the cluster's slurm.conf as conf: of the engine")


def test_the_environment_names_a_configuration(
    site: SlurmSite, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does for Slurm's own commands."""
    monkeypatch.setenv("SLURM_CONF", str(site.conf))
    assert wrong(told(spool, "slurm: {leases: false}")) == []


def test_a_controller_at_a_wrong_address_is_found(site: SlurmSite, spool: Path) -> None:
    """A configuration that is not the cluster's."""
    conf = spool.parent / "slurm.conf"
    lines = [line for line in site.conf.read_text().splitlines() if not line.startswith("SlurmctldPort")]
    conf.write_text("\n".join((*lines, "SlurmctldPort=1\n")))
    (one,) = wrong(told(spool, f"slurm: {{conf: {conf}, leases: false}}"))
    assert (one.what, "Unable to contact slurm controller" in one.detail) == ("controller", True)
    assert "compare SlurmctldHost and SlurmctldPort in conf: with its own" in one.next_step


def test_a_slurmrestd_at_a_wrong_address_is_found(site: SlurmSite, spool: Path) -> None:
    """Before anything else is asked of it."""
    token = spool.parent / "token"
    site.write_token(token)
    rest = f", rest: {{url: 'http://127.0.0.1:1', token: {token}}}"
    (one,) = wrong(told(spool, slurm(site, rest)))
    assert (one.what, one.detail[:48]) == ("controller", "slurmrestd at http://127.0.0.1:1 does not answer")
    assert one.next_step.startswith("look whether it runs, and compare url: with the address")


def test_a_token_that_expired_or_is_open_is_found_with_its_file(site: SlurmSite, spool: Path) -> None:
    """And the command that makes a new one."""
    token = spool.parent / "token"
    site.write_token(token, lifespan_s=1)
    rest = f", rest: {{url: '{site.address}', token: {token}}}"
    give_up = time.monotonic() + PATIENCE_S
    while not (found := wrong(told(spool, slurm(site, rest)))):
        assert time.monotonic() < give_up
        time.sleep(0.2)
    assert found[0].detail.startswith(f"Slurm's token in {token} expired ")
    assert f"`scontrol token username=root lifespan=86400 > {token}`" in found[0].next_step
    token.chmod(0o644)
    (one,) = wrong(told(spool, slurm(site, rest)))
    assert one.detail == f"Slurm's token in {token} has mode 0644: everybody can read it;"


COMMANDS: dict[str, tuple[str, str, str, str, str]] = {
    # Which command says what instead; which finding that is, what it says, and the step.
    "too old": (
        "scontrol",
        'echo "SLURM_VERSION           = 20.11.9"',
        "controller",
        "Slurm 20.11.9 is older than supported;",
        "upgrade to 22.05 or later.",
    ),
    "a version of another shape": (
        "scontrol",
        "echo Welcome",
        "controller",
        "scontrol says what is not understood: 'Welcome",
        "Slurm 22.05 or later is known: look whether it is that, and nothing stands before it",
    ),
    "nodes of another shape": (
        "sinfo",
        "echo Welcome",
        "nodes",
        "sinfo says what is not understood: 'Welcome'",
        "Slurm 22.05 or later is known",
    ),
    "jobs of another shape": (
        "squeue",
        "echo Welcome",
        "jobs",
        "squeue says what is not understood: 'Welcome'",
        "Slurm 22.05 or later is known",
    ),
    "a job of another shape": (
        "squeue",
        'printf "%s\\n" "$SQUEUE_FORMAT"',
        "jobs",
        "squeue says of 1 jobs what is not understood: '%i'; they are left out",
        "`squeue --all` shows whose they are.",
    ),
    "a key of another cluster": (
        "scontrol",
        'echo "slurm_load_ctl_conf error: Protocol authentication error" >&2; exit 1',
        "controller",
        "scontrol: slurm_load_ctl_conf error: Protocol authentication error;",
        "munged must run here with the cluster's key: `munge -n | unmunge` tries it.",
    ),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_commands_that_are_too_old_or_say_something_else_are_found(
    site: SlurmSite, spool: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Nothing is guessed of what is not understood."""
    name, script, finding, detail, step = COMMANDS[what]
    other = spool.parent / "bin"
    other.mkdir()
    (other / name).write_text(f"#!/bin/sh\n{script}\n")
    (other / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(other), prepend=":")
    (one,) = wrong(told(spool, slurm(site)))
    assert (one.what, one.detail[: len(detail)]) == (finding, detail)
    assert one.next_step.startswith(step)


# --- Ray ------------------------------------------------------------------------------------------------------------

NODE = {
    "node_id": "n1", "node_name": "lab-0-0", "node_ip": "127.0.0.1", "state": "ALIVE", "state_message": None,
    "resources_total": {"CPU": 4, "lab": 4, "memory": 1 << 30}, "start_time_ms": 1,
}  # fmt: skip
JOB: dict[str, object] = {
    "submission_id": "one", "job_id": None, "status": "RUNNING", "message": "", "metadata": {},
    "end_time": None,
}  # fmt: skip
SOUND = {
    "/api/version": json.dumps({"ray_version": "2.60.0"}),
    "/api/jobs/": "[]",
    "/api/v0/nodes": json.dumps({"data": {"result": {"result": [NODE]}}}),
}
DASHBOARDS: dict[str, tuple[dict[str, str], str, str, str]] = {
    # What it says instead; which finding that is, what it says, and the step.
    "too old": (
        {"/api/version": json.dumps({"ray_version": "2.9.3"})},
        "dashboard",
        "runs Ray 2.9.3, which is too old;",
        "upgrade the cluster to 2.51 or later.",
    ),
    "something else": (
        {"/api/version": "<html>Welcome</html>"},
        "dashboard",
        "/api/version says what is not understood: '<html>Welcome</html>'",
        "give the address of a Ray dashboard, like http://head:8265;",
    ),
    "nodes of another shape": (
        {"/api/v0/nodes": "{}"},
        "cluster",
        "/api/v0/nodes says what is not understood",
        "give the address of a Ray dashboard",
    ),
    "jobs of another shape": (
        {"/api/jobs/": json.dumps([JOB | {"status": "DREAMING"}])},
        "cluster",
        "/api/jobs/ says what is not understood",
        "give the address of a Ray dashboard",
    ),
    "a job of somebody else": (
        {
            "/api/jobs/": json.dumps(
                [JOB | {"metadata": {"headrace-placement": "../x", "headrace-mark": "y"}}]
            )
        },
        "jobs",
        "1 run on its nodes that were not placed from here: one",
        "Their nodes count at nameplate and get no work. Let them end, or `ray job stop` them;",
    ),
    "no node": (
        {"/api/v0/nodes": json.dumps({"data": {"result": {"result": [NODE | {"state": "DEAD"}]}}})},
        "nodes",
        "none is alive",
        "`ray status` on its head says why;",
    ),
    "no accelerators of that name": (
        {
            "/api/v0/nodes": json.dumps(
                {"data": {"result": {"result": [NODE | {"resources_total": {"CPU": 4, "node:x": 1}}]}}}
            )
        },
        "nodes",
        "none has a resource 'lab'; they have CPU",
        "Write what accelerators are called there as resource:",
    ),
}


class Answers(BaseHTTPRequestHandler):
    """A dashboard that says what it is told to, to whoever has its token."""

    said: dict[str, str] = SOUND
    token = ""

    def do_GET(self) -> None:
        """Answer."""
        body = self.said[self.path.partition("?")[0]].encode()
        allowed = not self.token or self.headers["Authorization"] == f"Bearer {self.token}"
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its base calls it
        """Nothing."""


@contextmanager
def dashboard(said: dict[str, str], token: str = "") -> Iterator[str]:
    """A declaration of one."""
    kind = type("Told", (Answers,), {"said": SOUND | said, "token": token})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"url: 'http://127.0.0.1:{server.server_port}', tenant: acme, resource: lab"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("what", DASHBOARDS)
def test_a_ray_that_is_too_old_or_says_something_else_is_found(spool: Path, what: str) -> None:
    """Nothing is guessed of what is not understood."""
    said, finding, detail, step = DASHBOARDS[what]
    with dashboard(said) as ray:
        (one,) = wrong(told(spool, f"ray: {{{ray}}}"))
    assert (one.what, detail in one.detail) == (finding, True), one
    assert one.next_step.startswith(step), one


def test_a_ray_that_is_well_is_called_so(spool: Path) -> None:
    """Its jobs are counted; names that it does not have are told."""
    with dashboard({}) as ray:
        found = told(spool, f"ray: {{{ray}}}")
        assert wrong(found) == []
        assert "0 of Headrace, none of others on its nodes" in [one.detail for one in found]
        (one,) = wrong(told(spool, f"ray: {{{ray}}}", "nodes: {glom/b/x: lab-0-o}"))
    assert one.detail == "its cluster has no node lab-0-o"
    assert (
        one.next_step
        == "Write what `ray list nodes` calls them as nodes: of the engine; known: lab-0-0. Did you mean lab-0-0?"
    )


def test_a_ray_at_a_wrong_address_is_found(spool: Path) -> None:
    """With what its head would say."""
    (one,) = wrong(told(spool, "ray: {url: 'http://127.0.0.1:1', tenant: acme}"))
    assert (one.what, "http://127.0.0.1:1 can't be reached" in one.detail) == ("dashboard", True)
    assert "compare url: with what `ray start --head` printed there" in one.next_step


def test_the_token_of_a_ray_is_its_user_s_alone_and_read_again(spool: Path) -> None:
    """As that of a Slurm; a file that is not there keeps nobody from starting."""
    token = spool.parent / "token"
    with dashboard({}, token="right") as ray:
        cluster = f"ray: {{{ray}, token: {token}}}"
        looks: list[tuple[Callable[[], object], str]] = [
            (lambda: None, f"Ray's token in {token} is not there;"),
            (lambda: token.write_text("two words"), "has mode 0644: everybody can read it;"),
            (lambda: token.chmod(0o600), f"Ray's token in {token} holds no token;"),
            (lambda: token.write_text("wrong\n"), "refuses us"),
        ]
        for change, said in looks:
            change()
            (one,) = wrong(told(spool, cluster))
            assert said in one.detail
        token.write_text("right\n")
        assert wrong(told(spool, cluster)) == []


def test_what_tenants_users_can_not_reach_is_named_beside_the_folder_that_is_closed(tmp_path: Path) -> None:
    """Somebody who reads that a folder is closed wants to know what lies in it."""
    state = tmp_path / "closed" / "state"
    state.mkdir(parents=True)
    state.parent.chmod(0o700)
    tmp_path.chmod(0o755)
    found = next(one for one in examine_here(state) if one.what == "tenants")
    assert not found.is_well
    assert str(state) in found.detail
    assert "is closed to others" in found.detail
