"""A cluster that is leased whole at a Slurm site is a reservation of its tenant's account: a real Slurm with a slurmdbd.

The tenants' people are `nobody`, of the account acme, and `games`, of globex.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from headrace.core.ids import Epoch
from headrace.engines import runner
from headrace.engines.declared import load_engines
from headrace.engines.doctor import examine
from headrace.engines.orders import why_never
from headrace.engines.slurm.client import Commands, SlurmClient
from headrace.engines.slurm.leases import Reservation, mark_of, parsed
from headrace.engines.slurm.rest import RestClient
from headrace.ports import EngineError, RankState, StartOrder
from tests.engines.contract import FIRST, LONG_GRACE_MS, SECOND, become, ended, order_of, report_of, states
from tests.engines.slurm_lease_site import (
    OURS,
    foreign,
    gone,
    harness_on,
    lease,
    lease_order,
    leasing_site,
    looked,
    ranks_of,
    reservations,
    site_has_nodes,
    state_of,
    submit,
    the_reservation,
)
from tests.engines.slurm_site import SlurmHarness, SlurmSite, slurm_site

STUBBORN = "trap '' TERM; echo begun; sleep 60 & wait; sleep 60"


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """Three nodes and a slurmrestd; two tenants' accounts, each with a user."""
    with leasing_site() as found:
        yield found


@pytest.fixture(scope="module")
def clients(site: SlurmSite) -> Iterator[dict[str, SlurmClient]]:
    """The ways to ask it."""
    commands = Commands(site.conf)
    rest = RestClient(site.address, user="root", token_file=site.folder / "token", commands=commands)
    yield {"commands": commands, "slurmrestd": rest}
    rest.close()


@pytest.fixture
def harness(site: SlurmSite, clients: dict[str, SlurmClient]) -> Iterator[SlurmHarness]:
    """An engine through Slurm's commands."""
    yield from harness_on(site, clients["commands"])


@pytest.fixture(params=["commands", "slurmrestd"])
def either(
    site: SlurmSite, clients: dict[str, SlurmClient], request: pytest.FixtureRequest
) -> Iterator[SlurmHarness]:
    """An engine through each of the ways."""
    yield from harness_on(site, clients[request.param])


# --- the lease ------------------------------------------------------------------------------------------------------


def test_a_lease_is_a_reservation_of_the_tenant_s_account_on_exactly_its_nodes(either: SlurmHarness) -> None:
    """However often it is ordered; it says how it is reached, and no job of ours is there."""
    for _ in range(3):
        either.engine.start(lease_order(first=1))
    become(either, RankState.RUNNING, RankState.RUNNING)
    found = the_reservation(either)
    assert re.fullmatch(r"hr\.acme-1\.1\.e1\.[0-9a-f]{8}", found.name)
    assert (found.hosts, found.accounts, found.users) == (("lab-0-1", "lab-0-2"), "acme", ())
    assert found.is_active
    report = report_of(either.engine)
    assert report is not None
    assert report.endpoints == {
        "reservation": found.name,
        "account": "acme",
        "cluster": "lab",
        "partition": "lab",
    }
    assert either.site.ask("squeue", "-h") == ""
    assert either.made[-1].capabilities.lease == "slurm"


def test_people_of_the_tenant_s_account_run_jobs_there_and_nobody_else(either: SlurmHarness) -> None:
    """On its nodes; another account's jobs are kept out of the reservation and off its nodes."""
    site, name = either.site, lease(either)
    job = submit(site, name, OURS, "--nodes=2", "--exclusive")
    either.until(lambda: state_of(site, job) == "RUNNING")
    assert site.ask("squeue", "-h", "-j", str(job), "-o", "%N").strip() == "lab-0-[0-1]"
    assert not site.answers(
        *("setpriv", "--reuid", "games", "--regid", "60", "--clear-groups", "sbatch", "--chdir=/"),
        *(f"--reservation={name}", "--account=globex", "--output=/dev/null", "--wrap", "sleep 60"),
    )
    outside = site.submit_other("-w", "lab-0-0", "--account=globex", user="games")
    either.pass_ms(2_500)
    assert state_of(site, outside) == "PENDING"
    # Its tenant's jobs are not foreign, as anybody's are elsewhere.
    stranger = site.submit_other("-w", "lab-0-2", "--account=globex", user="games")
    either.until(lambda: "lab-0-2" in foreign(either))
    assert foreign(either) == {"lab-0-2": f"games (job {stranger})"}
    assert state_of(site, job) == "RUNNING"


def test_a_stop_ends_the_jobs_in_it_with_the_grace_and_deletes_it(either: SlurmHarness) -> None:
    """First SIGTERM, later SIGKILL; what waits is cancelled, and nothing new begins meanwhile."""
    site, name = either.site, lease(either)
    site.folder.joinpath("out").mkdir(exist_ok=True)
    site.folder.joinpath("out").chmod(0o777)
    polite, stubborn = (site.folder / "out" / f"{name}.{one}" for one in ("polite", "stubborn"))
    soft = job_of(site, name, "trap 'echo asked; exit 0' TERM; echo begun; sleep 60 & wait", polite)
    hard = job_of(site, name, STUBBORN, stubborn)
    waits = submit(site, name, OURS, "--nodes=2", "--exclusive")
    either.until(lambda: all(file.exists() and "begun" in file.read_text() for file in (polite, stubborn)))
    began = time.monotonic()
    either.engine.stop(FIRST, 4_000)
    either.until(lambda: state_of(site, soft) != "RUNNING" and state_of(site, waits) == "CANCELLED")
    assert "asked" in polite.read_text()
    assert not site.answers(
        *("setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups", "sbatch", "--chdir=/"),
        *(f"--reservation={name}", "--account=acme", "--output=/dev/null", "--wrap", "sleep 60"),
    )
    assert (state_of(site, hard), states(either.engine)) == ("RUNNING", [RankState.RUNNING] * 2)
    report = gone(either)
    assert time.monotonic() - began >= 4
    assert [(rank.state, rank.exit_code, rank.reason) for rank in report.ranks] == [
        (RankState.EXITED, 143, "")
    ] * 2
    assert state_of(site, hard) in ("CANCELLED", "FAILED")
    assert all(rank.running_ms >= 4_000 and not rank.estimated for rank in report.ranks)


def job_of(site: SlurmSite, name: str, command: str, output: Path) -> int:
    """A job of one of the tenant's people that writes what it hears."""
    asked = ("--parsable", "--chdir=/", f"--reservation={name}", "--account=acme", f"--output={output}")
    person = ("setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups")
    return int(site.ask(*person, "sbatch", *asked, "--nodes=1", "--wrap", command))


def test_a_lease_ends_after_its_time_and_bills_no_more(harness: SlurmHarness) -> None:
    """As the reason says; its meter stops with its time and its grace, however late it was ended."""
    lease(harness, max_duration_ms=2_000, grace_ms=500)
    harness.made[-1].close()
    harness.pass_ms(3_500)
    harness.engine = harness.reopened()
    report = gone(harness)
    assert {rank.reason for rank in report.ranks} == {"max_duration"}
    assert all(2_000 <= rank.running_ms <= 2_500 for rank in report.ranks)


def test_a_lease_that_was_deleted_for_its_time_and_not_recorded_any_more_has_ended_for_that(
    harness: SlurmHarness,
) -> None:
    """A control plane that is killed between the two must not have it leased anew."""
    name = lease(harness, max_duration_ms=1_000, grace_ms=500)
    harness.made[-1].close()
    harness.pass_ms(1_200)
    harness.site.ask("scontrol", "delete", f"ReservationName={name}")
    harness.engine = harness.reopened()
    report = gone(harness)
    assert {(rank.reason, rank.exit_code, rank.estimated) for rank in report.ranks} == {
        ("max_duration", 143, True)
    }


def test_a_lease_that_is_stopped_before_it_began_leaves_nothing(harness: SlurmHarness) -> None:
    """Its reservation may come to be for a moment; it goes again."""
    harness.engine.start(lease_order())
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    assert {rank.exit_code for rank in gone(harness).ranks} == {143}
    harness.engine.forget(FIRST)
    looked(harness)
    assert reservations(harness.site) == {}


def test_two_tenants_have_a_reservation_each(harness: SlurmHarness) -> None:
    """Of their own accounts; one ends without the other."""
    lease(harness)
    harness.engine.start(lease_order(SECOND, nodes=1, first=2, tenant="globex"))
    become(harness, RankState.RUNNING, placement=SECOND)
    found = {one.accounts: one.hosts for one in reservations(harness.site).values()}
    assert found == {"acme": ("lab-0-0", "lab-0-1"), "globex": ("lab-0-2",)}
    harness.engine.stop(FIRST, 0)
    ended(harness)
    assert the_reservation(harness).accounts == "globex"
    assert states(harness.engine, SECOND) == [RankState.RUNNING]


def test_a_reservation_that_would_end_is_prolonged(harness: SlurmHarness) -> None:
    """What Slurm calls unlimited is a year."""
    name = lease(harness)
    harness.site.ask("scontrol", "update", f"ReservationName={name}", "EndTime=now+2days")

    def days_left() -> float:
        return ((the_reservation(harness).ends_s or 0) - time.time()) / 86_400

    harness.until(lambda: days_left() > 300)
    assert states(harness.engine) == [RankState.RUNNING] * 2


# --- restarts -------------------------------------------------------------------------------------------------------


def test_a_later_control_plane_takes_up_the_lease_and_its_meter(harness: SlurmHarness) -> None:
    """One reservation all the time; what ran in it runs on; what passed while nobody looked counts."""
    name = lease(harness)
    job = submit(harness.site, name)
    harness.until(lambda: state_of(harness.site, job) == "RUNNING")
    before_ms = ranks_of(harness)[0].running_ms
    harness.made[-1].close()
    harness.pass_ms(1_500)
    harness.engine = harness.reopened()
    harness.engine.fence(Epoch(2))
    harness.engine.start(lease_order(epoch=2))
    harness.until(lambda: ranks_of(harness)[0].running_ms >= before_ms + 1_500)
    assert (the_reservation(harness).name, state_of(harness.site, job)) == (name, "RUNNING")
    harness.engine.stop(FIRST, 0)
    assert not any(rank.estimated for rank in gone(harness).ranks)


def test_an_old_control_plane_makes_and_ends_nothing(harness: SlurmHarness) -> None:
    """Behind a later one it is told so; the lease stands, and its record is the later one's."""
    name = lease(harness)
    old = harness.made.pop()
    harness.engine = harness.reopened()
    harness.engine.fence(Epoch(2))
    with pytest.raises(EngineError, match="superseded"):
        old.start(lease_order(SECOND, nodes=1, first=2))
    with pytest.raises(EngineError, match="superseded"):
        old.stop(FIRST, 0)
    harness.until(lambda: "superseded" in old.trouble)
    old.close()
    looked(harness)
    assert (the_reservation(harness).name, states(harness.engine)) == (name, [RankState.RUNNING] * 2)


def test_an_order_that_waits_when_a_later_control_plane_comes_is_made_by_that_alone(
    harness: SlurmHarness,
) -> None:
    """Its nodes are busy; then they are free, and the old one still there."""
    blocker = harness.site.submit_other("-w", "lab-0-0", "--account=acme", user="nobody")
    harness.until(lambda: state_of(harness.site, blocker) == "RUNNING")
    harness.engine.start(lease_order())
    old = harness.made.pop()
    harness.until(lambda: "Slurm still has jobs on lab-0-0, lab-0-1" in old.trouble)
    harness.engine = harness.reopened()
    harness.engine.fence(Epoch(2))
    harness.site.ask("scancel", str(blocker))
    harness.until(lambda: harness.site.ask("squeue", "-h") == "")
    harness.pass_ms(1_500)
    assert reservations(harness.site) == {}
    harness.engine.start(lease_order(epoch=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    assert len(reservations(harness.site)) == 1
    old.close()


def test_a_lease_stopped_while_nobody_looked_is_ended_by_the_next_control_plane(
    harness: SlurmHarness,
) -> None:
    """The order to stop is on disk; who comes back carries it out."""
    name = lease(harness)
    job = submit(harness.site, name)
    harness.until(lambda: state_of(harness.site, job) == "RUNNING")
    harness.made[-1].close()
    harness.engine.stop(FIRST, 0)
    harness.engine = harness.reopened()
    assert {rank.exit_code for rank in gone(harness).ranks} == {143}


def stands_in(file: Path, word: str) -> bool:
    """Whether a file is there, and has a word somewhere."""
    return file.exists() and word.encode() in file.read_bytes()


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_restart_of_the_controller_is_survived(harness: SlurmHarness, way: str) -> None:
    """Silence ends nothing: the reservation is there again with it, and what runs in it runs on."""
    site, name = harness.site, lease(harness)
    job = submit(site, name)
    harness.until(lambda: state_of(site, job) == "RUNNING")
    # What it knew it writes within seconds; one that is killed forgets the rest, and one that is killed while it writes goes
    # back to what it wrote before. So the job has to stand in both.
    kept = site.folder / "state" / "job_state"
    for comment in ("seen-to-run", "seen-again"):
        site.ask("scontrol", "update", f"jobid={job}", f"comment={comment}")
        harness.until(partial(stands_in, kept, comment))
    getattr(site, way)("slurmctld")
    harness.until(lambda: harness.made[-1].trouble != "")
    assert states(harness.engine) == [RankState.RUNNING] * 2
    site.start_controller()
    harness.until(lambda: harness.made[-1].trouble == "")
    assert (the_reservation(harness).name, state_of(site, job)) == (name, "RUNNING")
    assert states(harness.engine) == [RankState.RUNNING] * 2
    harness.until(site_has_nodes(site))


# --- ends that nobody ordered ---------------------------------------------------------------------------------------


def test_a_node_that_goes_down_takes_its_rank_and_the_others_end_by_a_stop(either: SlurmHarness) -> None:
    """As of any gang: the core orders the stop."""
    lease(either)
    either.site.ask("scontrol", "update", "nodename=lab-0-1", "state=down", "reason=smoke")
    become(either, RankState.RUNNING, RankState.LOST)
    assert ranks_of(either)[1].detail == "lab-0-1: smoke"
    either.engine.stop(FIRST, 0)
    report = gone(either)
    assert [rank.state for rank in report.ranks] == [RankState.EXITED, RankState.LOST]
    either.site.ask("scontrol", "update", "nodename=lab-0-1", "state=resume")
    either.until(site_has_nodes(either.site))


def test_a_node_that_went_down_is_lost_though_the_lease_is_to_end_anyway(harness: SlurmHarness) -> None:
    """Both are seen at once; what was lost is not told as ended."""
    lease(harness)
    harness.made[-1].close()
    harness.engine.stop(FIRST, 0)
    harness.site.ask("scontrol", "update", "nodename=lab-0-1", "state=down", "reason=smoke")
    harness.engine = harness.reopened()
    assert [rank.state for rank in gone(harness).ranks] == [RankState.EXITED, RankState.LOST]
    harness.site.ask("scontrol", "update", "nodename=lab-0-1", "state=resume")
    harness.until(site_has_nodes(harness.site))


def test_a_reservation_that_somebody_deletes_ends_the_lease_as_lost_and_says_so(
    harness: SlurmHarness,
) -> None:
    """What was counted when it was last seen is its end."""
    name = lease(harness)
    harness.pass_ms(600)
    harness.site.ask("scontrol", "delete", f"ReservationName={name}")
    for rank in ended(harness).ranks:
        assert (rank.state, rank.exit_code, rank.estimated) == (RankState.LOST, None, True)
        assert rank.detail == f"its reservation {name} is not in Slurm any more: somebody deleted it there"
        assert rank.running_ms >= 200


def test_a_node_that_is_taken_out_of_the_reservation_is_lost(harness: SlurmHarness) -> None:
    """Whoever changes it by hand is found out."""
    name = lease(harness)
    harness.site.ask("scontrol", "update", f"ReservationName={name}", "Nodes=lab-0-0")
    become(harness, RankState.RUNNING, RankState.LOST)
    assert ranks_of(harness)[1].detail == "lab-0-1: its node was taken out of the reservation"


def test_a_reservation_that_comes_back_after_its_end_goes_again(harness: SlurmHarness) -> None:
    """A controller that was killed may know it still; a restart here has not forgotten whose it was."""
    name = lease(harness)
    harness.engine.stop(FIRST, 0)
    gone(harness)
    harness.made[-1].close()
    harness.engine.forget(FIRST)
    harness.site.ask(
        *("scontrol", "create", "reservation", f"ReservationName={name}", "Accounts=acme"),
        *("Nodes=lab-0-0", "StartTime=now", "Duration=UNLIMITED"),
    )
    other = name[:-8] + "0" * 8
    harness.site.ask(
        *("scontrol", "create", "reservation", f"ReservationName={other}", "Accounts=acme"),
        *("Nodes=lab-0-1", "StartTime=now", "Duration=UNLIMITED"),
    )
    harness.engine = harness.reopened()
    harness.until(lambda: name not in reservations(harness.site))
    assert list(reservations(harness.site)) == [other]


def test_a_reservation_that_comes_back_while_the_engine_runs_goes_too(harness: SlurmHarness) -> None:
    """Long after it was seen for the last time, as looks go; with the job that is in it."""
    name = lease(harness)
    harness.engine.stop(FIRST, 0)
    gone(harness)
    harness.engine.forget(FIRST)
    for _ in range(5):
        looked(harness)
    harness.site.ask(
        *("scontrol", "create", "reservation", f"ReservationName={name}", "Accounts=acme"),
        *("Nodes=lab-0-0", "StartTime=now", "Duration=UNLIMITED"),
    )
    harness.until(lambda: not reservations(harness.site))


# --- what can't be --------------------------------------------------------------------------------------------------


def refused(harness: SlurmHarness, order: StartOrder) -> str:
    """Why an order ends at once; it leaves nothing."""
    harness.engine.start(order)
    report = ended(harness, order.placement)
    assert {(rank.state, rank.exit_code, rank.reason) for rank in report.ranks} == {
        (RankState.EXITED, 126, "start_failed")
    }
    return report.ranks[0].detail


def test_an_account_that_does_not_exist_is_refused_with_the_next_step(harness: SlurmHarness) -> None:
    """Others are leased all the same."""
    said = refused(harness, lease_order(tenant="initech"))
    assert said.startswith("Slurm refuses the reservation: Error creating the reservation: Invalid account")
    assert "`sacctmgr add account initech`, or map the tenant to another under accounts:" in said
    harness.engine.start(lease_order(SECOND))
    become(harness, RankState.RUNNING, RankState.RUNNING, placement=SECOND)


def test_nodes_that_somebody_else_reserved_are_refused_with_who_has_them(harness: SlurmHarness) -> None:
    """By name, and what can be done."""
    harness.site.ask(
        *("scontrol", "create", "reservation", "ReservationName=upgrade", "Accounts=globex"),
        *("Nodes=lab-0-1", "StartTime=now+1hours", "Duration=60"),
    )
    said = refused(harness, lease_order())
    assert said == (
        "reservation upgrade of globex has lab-0-1; wait for its end, or end it with `scontrol delete "
        "ReservationName=NAME`; drain these nodes until then."
    )
    assert list(reservations(harness.site)) == ["upgrade"]


def test_a_user_who_may_not_reserve_is_told_which_right_it_lacks(
    harness: SlurmHarness, site: SlurmSite
) -> None:
    """A control plane that is no operator of Slurm."""
    harness.client = Unprivileged(site.conf)
    harness.engine = harness.reopened()
    said = refused(harness, lease_order())
    assert "Slurm refuses the reservation: Error creating the reservation: Invalid user id" in said
    assert "`sacctmgr modify user root set adminlevel=Operator`" in said


class Unprivileged(Commands):
    """Slurm's commands, those that change anything as somebody who may not."""

    def run(self, command: str, *arguments: str) -> str:
        """As `nobody`."""
        if arguments[0] != "create":
            return super().run(command, *arguments)
        return super().run(
            "setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups", command, *arguments
        )


def test_two_tenants_of_one_account_lease_nothing(harness: SlurmHarness) -> None:
    """They would share the reservation."""
    harness.settings = {"accounts": {"acme": "all", "globex": "all"}}
    harness.engine = harness.reopened()
    said = refused(harness, lease_order())
    assert said.startswith("account all is tenant globex's too, and a reservation of it would be both's;")


def test_an_account_that_another_tenant_was_given_is_nobody_else_s_by_its_name(harness: SlurmHarness) -> None:
    """Else who leases as its only tenant would share with whoever is called like it, who is written nowhere."""
    harness.settings = {"accounts": {"initech": "acme"}}
    harness.engine = harness.reopened()
    said = refused(harness, lease_order())
    assert said == (
        "account acme is tenant initech's here; write which account tenant acme has under accounts: of the engine"
    )
    harness.engine.start(order_of("true", placement=SECOND))
    assert ended(harness, SECOND).ranks[0].detail == said


def test_an_engine_that_was_told_not_to_leases_nothing(harness: SlurmHarness) -> None:
    """It says so before, and refuses what comes all the same."""
    harness.settings = {"leases": False}
    harness.engine = harness.reopened()
    assert harness.made[-1].capabilities.lease == ""
    assert refused(harness, lease_order()) == "this engine leases no nodes through Slurm"
    assert why_never(lease_order(), None) == "this engine leases no nodes through Slurm"


def test_where_slurm_does_not_check_accounts_nothing_is_leased() -> None:
    """Anybody could say to be of the account: a Slurm without accounting."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    with slurm_site(folder, nodes=1) as bare:
        harness = SlurmHarness(bare, folder / "engine", Commands(bare.conf))
        said = refused(harness, lease_order(nodes=1))
        harness.close()
        told = examined(folder, bare)
    shutil.rmtree(folder)
    assert told.startswith("bare nodes alone: Slurm does not check who uses an account;")
    assert said.startswith("Slurm does not check here who may use an account, so that anybody could use")
    assert "set AccountingStorageEnforce=associations in slurm.conf, which needs a slurmdbd;" in said


def examined(folder: Path, site: SlurmSite, more: str = "") -> str:
    """What `headrace doctor` says of leases; it is no fault that there are none."""
    file = folder / "engines.yaml"
    file.write_text(f"kind: engine\nname: a\nspool: {folder}\nslurm: {{conf: {site.conf}{more}}}\n")
    (found,) = (one for one in examine(load_engines(file)[0]) if one.what == "leases")
    assert found.is_well
    return found.detail


def test_the_doctor_says_whether_reservations_can_be_leased(site: SlurmSite, tmp_path: Path) -> None:
    """Where accounts are checked they can, unless the operator says otherwise."""
    assert examined(tmp_path, site).startswith("bare nodes, and reservations of a tenant's account,")
    assert examined(tmp_path, site, ", leases: false") == "bare nodes alone: leases: false"


# --- the record -----------------------------------------------------------------------------------------------------


def test_over_a_reboot_of_its_host_the_wall_clock_counts(harness: SlurmHarness) -> None:
    """The boot-time clock of another boot says nothing: what is on record, and what the wall clock says since."""
    lease(harness)
    harness.made[-1].close()
    for rank in range(2):
        path = harness.root / "placements" / FIRST / str(rank) / runner.RECORD
        record = harness.record(FIRST, rank)
        earlier_ms = record["heartbeat_wall_ms"] - 3_600_000
        runner.write_atomic(
            str(path), record | {"boot_id": "another", "heartbeat_ms": 5, "heartbeat_wall_ms": earlier_ms}
        )
    harness.engine = harness.reopened()
    harness.until(lambda: ranks_of(harness)[0].running_ms >= 3_600_000)
    assert ranks_of(harness)[0].running_ms < 3_660_000
    assert harness.record(FIRST, 0)["boot_id"] == runner.boot_id()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("hr.acme-1.1.e12.0123abcd", (12, "0123abcd")),
        ("hr.acme-1.1.e12.0123abc", None),
        ("maintenance", None),
        ("xhr.a.e1.0123abcd", None),
    ],
)
def test_a_reservation_of_ours_is_known_by_its_name(name: str, found: tuple[int, str] | None) -> None:
    """It tells the epoch and the mark."""
    assert mark_of(name) == found


def test_a_list_of_reservations_is_read_with_what_later_slurms_add() -> None:
    """Nothing but its own fields counts; no reservation is no error."""
    line = (
        "ReservationName=a StartTime=1795426893 EndTime=Unknown Nodes=(null) Users=x,y Accounts=(null) "
        "State=INACTIVE Comment=on two words State=ACTIVE\u2028ReservationName=b State=ACTIVE"
    )
    assert parsed(line) == [Reservation("a", (), "", ("x", "y"), False, None, 1_795_426_893)]
    assert parsed("No reservations in the system\n") == []
