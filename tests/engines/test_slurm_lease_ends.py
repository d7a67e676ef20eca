"""Whatever a tenant's people do, a leased cluster ends when it is to end, on a real Slurm: nobody keeps its nodes for nothing.

The people are `nobody`, of the account acme, and `games`, of globex.
"""

from collections.abc import Iterator

import pytest

from headrace.engines.slurm.client import Commands, SlurmClient, as_problem
from headrace.engines.slurm.rest import RestClient
from headrace.ports import RankState
from tests.engines.contract import FIRST, LONG_GRACE_MS, states
from tests.engines.slurm_lease_site import (
    OURS,
    foreign,
    gone,
    harness_on,
    lease,
    leasing_site,
    looked,
    ranks_of,
    reservations,
    site_has_nodes,
    state_of,
    submit,
    the_reservation,
)
from tests.engines.slurm_site import SlurmHarness, SlurmSite


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """Three nodes and a slurmrestd; two tenants' accounts, each with a user."""
    with leasing_site() as found:
        yield found


@pytest.fixture
def harness(site: SlurmSite) -> Iterator[SlurmHarness]:
    """An engine through Slurm's commands."""
    yield from harness_on(site, Commands(site.conf))


@pytest.fixture(params=["commands", "slurmrestd"])
def either(site: SlurmSite, request: pytest.FixtureRequest) -> Iterator[SlurmHarness]:
    """An engine through each of the ways."""
    commands = Commands(site.conf)
    rest = RestClient(site.address, user="root", token_file=site.folder / "token", commands=commands)
    client: SlurmClient = commands if request.param == "commands" else rest
    yield from harness_on(site, client)
    rest.close()


def person_runs(site: SlurmSite, *command: str) -> None:
    """Something that one of the tenant's people does."""
    site.ask("setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups", *command)


def running(harness: SlurmHarness, job: int) -> int:
    """The same job, once it runs."""
    harness.until(lambda: state_of(harness.site, job) == "RUNNING")
    return job


def is_over(site: SlurmSite, job: int) -> bool:
    """Whether it was ended."""
    return set(state_of(site, job).split()) <= {"CANCELLED", "FAILED"}


def test_a_job_that_hides_its_reservation_ends_with_the_lease(either: SlurmHarness) -> None:
    """One names it twice, one names none any more; neither is foreign, nor keeps the nodes past the grace."""
    site, name = either.site, lease(either)
    twice = running(either, submit(site, f"{name},{name}", OURS, "-wlab-0-0"))
    none = running(either, submit(site, name, OURS, "-wlab-0-1"))
    person_runs(site, "scontrol", "update", f"jobid={none}", "reservationname=")
    assert site.ask("squeue", "-h", "-j", str(none), "-o", "%v").strip() == "(null)"
    for _ in range(3):
        looked(either)
    assert foreign(either) == {}
    either.engine.stop(FIRST, 300)
    report = gone(either)
    assert is_over(site, twice)
    assert is_over(site, none)
    assert {rank.exit_code for rank in report.ranks} == {143}


def test_nothing_begins_in_a_lease_that_ends_while_a_job_hides_in_it(harness: SlurmHarness) -> None:
    """It is shut though somebody runs there who says that he is not in it."""
    site, name = harness.site, lease(harness)
    hidden = running(harness, submit(site, name, OURS, "-wlab-0-1"))
    person_runs(site, "scontrol", "update", f"jobid={hidden}", "reservationname=")
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    harness.until(lambda: the_reservation(harness).users == ("root",))
    assert not site.answers(
        *("setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups", "sbatch", "--chdir=/"),
        *(f"--reservation={name}", "--account=acme", "--output=/dev/null", "--wrap", "sleep 60"),
    )
    harness.engine.stop(FIRST, 0)
    gone(harness)
    assert is_over(site, hidden)


def test_a_lease_that_can_not_be_shut_ends_all_the_same(harness: SlurmHarness) -> None:
    """What runs in it is killed, and then it is deleted."""
    site, name = harness.site, lease(harness)
    job = running(harness, submit(site, name))
    harness.client = Unshuttable(site.conf)
    harness.engine = harness.reopened()
    harness.engine.stop(FIRST, 1_500)
    harness.until(lambda: "no shutting here" in harness.made[-1].trouble)
    gone(harness)
    assert is_over(site, job)


class Unshuttable(Commands):
    """Slurm's commands, but reservations can't be changed."""

    def run(self, command: str, *arguments: str) -> str:
        """As ever, or not at all."""
        if arguments[0] == "update":
            raise as_problem("scontrol", "no shutting here")
        return super().run(command, *arguments)


def test_an_array_in_a_lease_has_its_grace_and_what_waits_of_it_is_cancelled(harness: SlurmHarness) -> None:
    """An element that runs is told to end, and ends in its own time; so do the parts of a heterogeneous job."""
    site, name = harness.site, lease(harness)
    folder = site.folder / "out"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    said = folder / f"{name}.array"
    script = f"trap 'sleep 1; echo ended >> {said}; exit 0' TERM; echo begun >> {said}; sleep 60 & wait"
    asked = ("--parsable", "--chdir=/", f"--reservation={name}", "--account=acme", "--output=/dev/null")
    person = ("setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups", "sbatch", *asked)
    array = site.ask(*person, "--mem=10", "--array=1-6%2", "--wrap", script).strip()
    second = (":", f"--reservation={name}", "--account=acme", "-n1", "--mem=10")
    parts = site.ask(*person, "-n1", "--mem=10", *second, "--wrap", script)
    harness.until(lambda: said.exists() and said.read_text().count("begun") == 3)
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    gone(harness)
    assert said.read_text().split() == ["begun"] * 3 + ["ended"] * 3
    # What waited was one record, and still is.
    assert sorted(states_of(site, array)) == ["CANCELLED", "COMPLETED", "COMPLETED"]
    assert "RUNNING" not in states_of(site, parts.strip())


def states_of(site: SlurmSite, job: str) -> list[str]:
    """What Slurm says of each part of a job."""
    return site.ask("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T").split()


def test_a_heterogeneous_job_that_hears_nothing_is_killed_with_the_lease(harness: SlurmHarness) -> None:
    """All of its parts, and the elements of an array too."""
    site, name = harness.site, lease(harness)
    more = (f"--reservation={name}", "--account=acme")
    parts = submit(site, name, OURS, "-n1", "--mem=10", ":", *more, "-n1", "--mem=10")
    array = submit(site, name, OURS, "--array=1-3%1", "--mem=10")
    harness.until(lambda: states_of(site, str(parts)) == ["RUNNING"] * 2)
    harness.engine.stop(FIRST, 0)
    gone(harness)
    assert set(states_of(site, str(parts)) + states_of(site, str(array))) <= {"CANCELLED", "FAILED"}


def test_the_meter_runs_until_the_nodes_are_free(harness: SlurmHarness) -> None:
    """A node that stands still ends nothing: past the time and the grace it is used, and counts."""
    site = harness.site
    name = lease(harness, max_duration_ms=2_000, grace_ms=300)
    running(harness, submit(site, name, OURS, "-wlab-0-0"))
    with site.standing_still("lab-0-0"):
        harness.until(lambda: ranks_of(harness)[0].running_ms >= 3_500)
        assert states(harness.engine) == [RankState.RUNNING] * 2
    report = gone(harness)
    assert {rank.reason for rank in report.ranks} == {"max_duration"}
    harness.until(site_has_nodes(site))


def test_what_did_not_come_through_the_lease_outlives_it(harness: SlurmHarness) -> None:
    """A job of the same account on a node that was taken out, and one in an administrator's own reservation of a node."""
    site, name = harness.site, lease(harness)
    site.ask("scontrol", "update", f"ReservationName={name}", "Nodes=lab-0-0")
    outside = running(harness, site.submit_other("-wlab-0-1", "--account=acme", user="nobody"))
    inside = running(harness, submit(site, name, OURS, "-wlab-0-0", "--mem=10"))
    site.ask(
        *("scontrol", "create", "reservation", "ReservationName=repair", "Accounts=acme", "Nodes=lab-0-0"),
        *("StartTime=now", "Duration=60", "Flags=MAINT,OVERLAP,IGNORE_JOBS"),
    )
    repair = running(harness, submit(site, "repair", OURS, "-wlab-0-0", "--mem=10"))
    harness.engine.stop(FIRST, 0)
    harness.until(lambda: name not in reservations(site))
    assert is_over(site, inside)
    assert [state_of(site, job) for job in (outside, repair)] == ["RUNNING"] * 2
