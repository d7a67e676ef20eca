"""Where data lies and may lie, once more, for :mod:`~headrace.core.scheduling.check`.

Lists of countries are read here again. What rules say is an input, as what pays for work is: the authority is asked about the
class of work, which its data is part of, and a plan that goes against its answer is found.
"""

from collections.abc import Iterator

from headrace.core.errors import HeadraceError
from headrace.core.ids import DataId
from headrace.core.scheduling.ground import countries_of
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import PolicyRef, Workload

Wrong = Iterator[tuple[str, str]]
"""Rules that are broken, by their names, and how."""


def wrong_with_data(snapshot: Snapshot, workload: Workload, number: int) -> Wrong:
    """Why a workload may not be at site ``number``, for the data sets that it uses."""
    for name in workload.spec.policy.data:
        yield from _wrong_with(snapshot, workload, number, name)


def _wrong_with(snapshot: Snapshot, workload: Workload, number: int, name: str) -> Wrong:
    site, ident = snapshot.fleet.sites[number], DataId(f"{workload.tenant}.{name}")
    declared = snapshot.datasets.get(ident)
    if declared is None:
        yield "data", f"nobody declared its data set {name!r}"
        return
    policy, tenant = declared.policy, snapshot.tenants.get(workload.tenant)
    if not policy.profile and not policy.countries and tenant is not None:
        policy = PolicyRef(profile=tenant.policy)
    countries = countries_of(policy)
    if countries is None and not _is_allowed(snapshot, workload, number):
        yield "jurisdiction", f"policy {policy.profile} of its data set {name} forbids {site.id}"
    elif countries and site.country not in countries:
        allowed = ", ".join(countries)
        yield (
            "jurisdiction",
            f"{site.id} is in {site.country}; the policy of its data set {name} allows {allowed}",
        )
    copy = snapshot.copies.get(ident, {}).get(site.id)
    if copy is None or copy.state != "present":
        yield "data", f"its data set {name} is not at {site.id}"
    elif copy.digest != declared.digest:
        yield (
            "data",
            f"the copy of {name} at {site.id} has the digest {copy.digest[:16]}, not {declared.digest[:16]}",
        )


def _is_allowed(snapshot: Snapshot, workload: Workload, number: int) -> bool:
    try:
        return snapshot.place_verdict(workload.tenant, workload.spec.policy, number).allowed
    except HeadraceError:
        return False
