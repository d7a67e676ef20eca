"""`headrace cluster create --engine slurm`: a real control plane, and a real Slurm whose accounts are checked.

The person who uses the lease is `nobody`, of the account acme, which the tenant fjord-ai has there.
"""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.cli.app import run
from headrace.engines.slurm.leases import Reservation, parsed
from tests.cli.conftest import Headrace, Said
from tests.cli.plane import LAB, TENANTS, client_of
from tests.engines.slurm_site import SlurmSite, slurm_site

PATIENCE_S = 60
CREATE = ("cluster", "create", "mine", "--gpus", "8", "--gpu", "lab", "--project", "research")
SLURM = (*CREATE, "--engine", "slurm", "--countries", "NO")
ENGINES = """kind: engine
name: glomfjord-slurm
spool: {folder}/spool
slurm: {{conf: {folder}/slurm/slurm.conf, partition: lab, accounts: {{fjord-ai: acme}}}}
nodes: {{{nodes}}}
addresses: {{lab-0-0: 127.0.0.1, lab-0-1: 127.0.0.1, lab-0-2: 127.0.0.1}}
"""


class Site:
    """A control plane whose first site is a Slurm of three nodes."""

    def __init__(self, folder: Path, slurm: SlurmSite) -> None:
        self.slurm, self.state = slurm, folder / "state"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the control plane, or another one on the same state."""
        options = ("--state", str(self.state), "--port", "0", "--no-isolation", "--country", "NO")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "headrace", "up", *options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert any(line.startswith("ready") for line in self.process.stdout)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, self.slurm.ask("scontrol", "show", "reservation")
            time.sleep(0.1)

    def reservations(self) -> dict[str, Reservation]:
        """All that Slurm has."""
        said = self.slurm.ask("scontrol", "show", "reservation", "--oneliner")
        return {one.name: one for one in parsed(said)}

    def state_of(self, job: int) -> str:
        """What Slurm says of a job."""
        return self.slurm.ask("squeue", "-h", "-t", "all", "-j", str(job), "-o", "%T").strip()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """It, with the lab's estate and tenants; of six nodes in the estate Slurm has three."""
    # The path of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    folder.chmod(0o755)
    (folder / "slurm").mkdir()
    with slurm_site(folder / "slurm", nodes=3, accounting=True) as slurm:
        slurm.ask("sacctmgr", "--immediate", "--quiet", "add", "user", "nobody", "account=acme")
        made = Site(folder, slurm)
        made.state.mkdir()
        (folder / "spool").mkdir()
        absent = ", ".join(f"glomfjord/block-2/lab-0-{number}: absent-{number}" for number in range(3))
        (made.state / "engines.yaml").write_text(ENGINES.format(folder=folder, nodes=absent))
        estate = folder / "estate.yaml"
        estate.write_text(LAB.read_text().replace("engine: local", "engine: glomfjord-slurm", 1))
        try:
            made.start()
            with pytest.MonkeyPatch.context() as env:
                point(env, made.state)
                assert run(["apply", "-f", str(estate), "-f", str(TENANTS), "-y"]) == 0
            with client_of(made.state) as client:
                made.until(lambda: any(one.seen == 3 for one in client.engines()))
            yield made
        finally:
            made.end()
    shutil.rmtree(folder)


def point(env: pytest.MonkeyPatch, state: Path) -> None:
    """Let commands find the control plane."""
    env.setenv("HEADRACE_STATE", str(state))
    env.delenv("HEADRACE_URL", raising=False)
    env.delenv("HEADRACE_TOKEN", raising=False)


@pytest.fixture
def headrace(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Headrace]:
    """Run a command as a user would; no cluster is left."""
    point(monkeypatch, site.state)

    def call(*arguments: str | Path) -> Said:
        capsys.readouterr()
        code = run([str(one) for one in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    yield call
    with client_of(site.state) as client:
        for work in client.workloads(live=True):
            client.stop(work.id)
            client.wait(work.id, timeout=PATIENCE_S)
    for name in site.reservations():
        site.slurm.ask("scontrol", "delete", f"ReservationName={name}")


def test_a_tenant_s_people_use_the_nodes_that_were_leased_and_nothing_is_left_of_it(
    site: Site, headrace: Headrace
) -> None:
    """What is handed out is all that they need; their jobs are nobody's intrusion, and end with the lease."""
    made = headrace(*SLURM, "--for", "1h")
    assert made.code == 0, made
    ((name, found),) = site.reservations().items()
    assert (found.accounts, len(found.hosts)) == ("acme", 2)
    assert made.out.splitlines()[1:] == [
        "cluster     lab",
        "partition   lab",
        f"reservation {name}",
        "account     acme",
        f"use         sbatch --reservation={name} --account=acme",
    ]
    use = made.out.split("sbatch ")[1].split()
    job = site.slurm.submit_other(*use, "--nodes=2", "--exclusive", user="nobody")
    site.until(lambda: site.state_of(job) == "RUNNING")
    # Two looks of the engine later nobody is told of as foreign, and nothing runs there but this.
    time.sleep(3)
    assert "intruded" not in headrace("nodes").out
    assert headrace("cluster", "ls").out.split()[-5:] == ["mine", "running", "2", "lab:4", "glomfjord"]
    ident = headrace("cluster", "ls").out.split()[-6]
    assert headrace("pause", ident).code != 0
    assert headrace("cluster", "delete", "mine").code == 0
    assert headrace("wait", ident, "--for", "stopped", "--timeout", "60s").code == 0
    assert site.reservations() == {}
    site.until(lambda: site.state_of(job) in ("CANCELLED", "FAILED"))


def test_a_lease_outlives_a_control_plane_that_is_killed_and_is_billed_for_that_time(
    site: Site, headrace: Headrace
) -> None:
    """The next one takes it up: the same reservation, the same job, and no second without its meter."""
    access = json.loads(headrace(*SLURM, "--json").out)
    assert access["use"] == f"sbatch --reservation={access['reservation']} --account=acme"
    began = time.monotonic()
    job = site.slurm.submit_other(*access["use"].split()[1:], user="nobody")
    site.until(lambda: site.state_of(job) == "RUNNING")
    site.end(signal.SIGKILL)
    time.sleep(3)
    site.start()
    assert headrace("cluster", "ls").out.split()[-4:] == ["running", "2", "lab:4", "glomfjord"]
    assert (list(site.reservations()), site.state_of(job)) == ([access["reservation"]], "RUNNING")
    headrace("cluster", "delete", "mine")
    lasted_s = time.monotonic() - began
    assert headrace("wait", access["workload"], "--for", "stopped", "--timeout", "60s").code == 0
    events = [json.loads(line) for line in headrace("journal", "events", "--json").out.splitlines()]
    (ended,) = (one for one in events if f"{access['workload']}.1" in str(one) and "exit_codes" in str(one))
    ranks = (ended.get("event") or ended.get("payload") or ended)["ranks"]
    assert all(running_ms >= lasted_s * 1_000 for running_ms, _ in ranks), (ranks, lasted_s)
    assert site.reservations() == {}


def test_a_lease_is_not_placed_where_the_engine_can_not(headrace: Headrace) -> None:
    """Processes of this machine are no cluster to reserve."""
    here = ("--project", "radiology", "--site", "loughton", "--gpus", "4")
    said = headrace(*CREATE, "--engine", "slurm", *here)
    assert said.code == 7
    assert "ENGINE" in said.err
    assert "loughton: its engine local leases no nodes through Slurm" in said.err


def test_nodes_that_somebody_else_reserved_are_told_with_the_next_step(
    site: Site, headrace: Headrace
) -> None:
    """By who creates the cluster, and by `explain`; bare clusters are leased all the same."""
    site.slurm.ask(
        *("scontrol", "create", "reservation", "ReservationName=upgrade", "Accounts=acme"),
        *("Nodes=ALL", "StartTime=now+1hours", "Duration=60"),
    )
    said = headrace(*SLURM, "--wait", "60s")
    assert said.code == 7
    reason = "reservation upgrade of acme has lab-0-0, lab-0-1; wait for its end, or end it with"
    assert reason in said.err
    # While it waits for its next try.
    site.until(lambda: reason in headrace("explain", "mine").out)
    headrace("cluster", "delete", "mine")


def test_a_lease_whose_time_is_over_is_told_as_that(site: Site, headrace: Headrace) -> None:
    """It did what was asked, and failed in nothing."""
    ident = json.loads(headrace(*SLURM, "--for", "3s", "--json").out)["workload"]
    said = "ended after its time of 3.0s; create it again"
    # Not by its reservation: there is none before it begins either.
    site.until(lambda: said in " ".join(headrace("explain", ident).out.split()))
    assert site.reservations() == {}
