"""A Slurm whose accounts are checked, and leases on it, for tests.

The tenants' people are `nobody`, of the account acme, and `games`, of globex.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.core.ids import Epoch, NodeId, PlacementId
from headrace.core.observation import RankReport
from headrace.engines.slurm.client import SlurmClient
from headrace.engines.slurm.leases import Reservation, parsed
from headrace.ports import PlacementReport, RankState, StartOrder
from tests.engines.contract import FIRST, become, ended, order_of, report_of
from tests.engines.slurm_site import SlurmHarness, SlurmSite, slurm_site

OURS, OTHERS = ("nobody", "acme"), ("games", "globex")


@contextmanager
def leasing_site() -> Iterator[SlurmSite]:
    """Three nodes and a slurmrestd; two tenants' accounts, each with a user."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    with slurm_site(folder, nodes=3, rest=True, accounting=True) as found:
        found.write_token(folder / "token")
        found.ask("sacctmgr", "--immediate", "--quiet", "add", "account", "globex")
        for user, account in (OURS, OTHERS):
            found.ask("sacctmgr", "--immediate", "--quiet", "add", "user", user, f"account={account}")
        yield found
    shutil.rmtree(folder)


def harness_on(site: SlurmSite, client: SlurmClient) -> Iterator[SlurmHarness]:
    root = Path(tempfile.mkdtemp(prefix="headrace-"))
    root.chmod(0o711)
    made = SlurmHarness(site, root / "engine", client)
    made.engine.fence(Epoch(1))
    yield made
    made.close()
    for name in reservations(site):
        site.ask("scontrol", "delete", f"ReservationName={name}")
    shutil.rmtree(root)


def lease_order(
    placement: PlacementId = FIRST, nodes: int = 2, first: int = 0, tenant: str = "acme", **more: Any
) -> StartOrder:
    """An order of whole nodes, from the one of this number on."""
    order = order_of(placement=placement, nodes=nodes, accelerators=4, tenant=tenant, **more)
    places = [
        place._replace(node=NodeId(f"glomfjord/a/lab-0-{number}"))
        for number, place in enumerate(order.ranks, first)
    ]
    return replace(order, ranks=tuple(places), lease="slurm")


def reservations(site: SlurmSite) -> dict[str, Reservation]:
    """All that Slurm has."""
    return {one.name: one for one in parsed(site.ask("scontrol", "show", "reservation", "--oneliner"))}


def the_reservation(harness: SlurmHarness) -> Reservation:
    """The only one."""
    (found,) = reservations(harness.site).values()
    return found


def lease(harness: SlurmHarness, **order: Any) -> str:
    """Lease two nodes; the reservation's name."""
    harness.engine.start(lease_order(**order))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    return the_reservation(harness).name


def submit(site: SlurmSite, name: str, who: tuple[str, str] = OURS, *options: str) -> int:
    """A job of somebody's in a reservation."""
    return site.submit_other(f"--reservation={name}", f"--account={who[1]}", *options, user=who[0])


def state_of(site: SlurmSite, job: int) -> str:
    """What Slurm says of a job."""
    return site.ask("squeue", "-h", "-t", "all", "-j", str(job), "-o", "%T").strip()


def ranks_of(harness: SlurmHarness) -> tuple[RankReport, ...]:
    report = report_of(harness.engine)
    assert report is not None
    return report.ranks


def gone(harness: SlurmHarness) -> PlacementReport:
    """The end, with nothing left of it in Slurm."""
    report = ended(harness)
    harness.until(lambda: not reservations(harness.site))
    return report


def foreign(harness: SlurmHarness) -> dict[str, str]:
    """Who is where that was not placed here."""
    return {one.name: one.foreign for one in harness.engine.inventory() or () if one.foreign}


def looked(harness: SlurmHarness) -> None:
    """Wait until the cluster was looked at anew."""
    before = harness.made[-1]._looks
    harness.until(lambda: harness.made[-1]._looks > before)


def site_has_nodes(site: SlurmSite) -> Callable[[], bool]:
    """Whether all nodes have come back to a controller."""
    return lambda: "*" not in site.ask("sinfo", "-h", "-N", "-o", "%T")
