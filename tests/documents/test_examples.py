"""The numbers of the example estates hold: what the demo shows follows from them, and from nothing else."""

from pathlib import Path

import pytest

from headrace.core.contracts import Contract, Maintenance, PricePlan, Reservation, Tenant
from headrace.core.estate import Estate, Site
from headrace.core.fleet import NEVER_DAY, compile_fleet
from headrace.core.hardware import LAB
from headrace.core.ids import TenantId
from headrace.core.sovereignty.law import Laws
from headrace.core.sovereignty.plain import PlainPolicies, decide_place
from headrace.core.units import facility_watts
from headrace.core.workload import WorkloadSpec
from headrace.documents import load

EXAMPLES = Path(__file__).parents[2] / "examples"


def _lab() -> Estate:
    value = load(EXAMPLES / "estates" / "lab.yaml")[0].value
    assert isinstance(value, Estate)
    return value


def _site(name: str) -> Site:
    return next(site for site in _lab().sites if site.id == name)


def _workload(name: str) -> WorkloadSpec:
    value = load(EXAMPLES / "workloads" / f"{name}.yaml")[0].value
    assert isinstance(value, WorkloadSpec)
    return value


def _meter_w(site: Site, used: list[int]) -> int:
    """Watts at the meter with so many accelerators taken on the site's nodes, the rest of them idle."""
    nodes = sum(group.node_count for block in site.blocks for group in block.groups)
    busy_w = sum(LAB.node_watts(accelerators, busy=True) for accelerators in used)
    return facility_watts(busy_w + (nodes - len(used)) * LAB.node_watts(0, busy=False), site.pue_permille)


@pytest.mark.parametrize(
    ("used", "watts", "fits"),
    [
        ([], 1_320, True),
        ([1], 1_623, True),
        ([1, 1, 1], 2_228, True),
        ([1, 1, 1, 4, 4], 3_988, False),
        ([2, 1, 4, 4], 3_878, False),
        ([1, 4, 4], 3_383, True),
        ([4, 4], 3_080, True),
    ],
)
def test_the_arithmetic_of_the_lab_is_what_its_comments_say(used: list[int], watts: int, fits: bool) -> None:
    """Service, gang, the big job beside them, and the big job once the gang has ended."""
    site = _site("glomfjord")
    assert _meter_w(site, used) == watts
    assert (watts <= site.connection.total_w) is fits


def test_the_big_job_waits_for_power_alone() -> None:
    """Whole nodes are free beside service and gang: only the watts are lacking; at Loughton it can never run."""
    big, assistant, score = _workload("big"), _workload("assistant"), _workload("score")
    nodes = sum(group.node_count for block in _site("glomfjord").blocks for group in block.groups)
    assert nodes - assistant.nodes - score.nodes >= big.nodes
    assert big.resources.accelerators == LAB.accelerators
    assert _meter_w(_site("loughton"), [4, 4]) > _site("loughton").connection.total_w
    assert _meter_w(_site("loughton"), [1]) <= _site("loughton").connection.total_w


@pytest.mark.parametrize(
    ("workload", "sites"),
    [("assistant", ["glomfjord"]), ("score", ["glomfjord"]), ("mine", ["loughton"]), ("train-se", []),
     ("big", ["glomfjord"])],
)  # fmt: skip
def test_each_workload_of_the_demo_may_run_where_the_demo_says(workload: str, sites: list[str]) -> None:
    """The one for Sweden nowhere."""
    spec = _workload(workload)
    policy = Laws().resolve(spec.policy, PlainPolicies())
    verdicts = {site.id: decide_place(PlainPolicies(), TenantId("t"), policy, site) for site in _lab().sites}
    assert [site for site, verdict in verdicts.items() if verdict.allowed] == sites


def test_every_contract_of_the_examples_names_a_tenant_and_a_plan_that_exist() -> None:
    """And each tenant has one that covers what it uses on demand."""
    values = [document.value for document in load(EXAMPLES / "tenants.yaml")]
    tenants = {value.id for value in values if isinstance(value, Tenant)}
    plans = {value.id: value for value in values if isinstance(value, PricePlan)}
    contracts = [value for value in values if isinstance(value, Contract)]
    assert {contract.tenant for contract in contracts if contract.kind == "on-demand"} == tenants
    assert all(contract.plan in plans for contract in contracts)
    assert {plan.currency for plan in plans.values()} == {"NOK", "GBP"}
    assert all(plan.energy_pass_through for plan in plans.values())
    projects = {project for value in values if isinstance(value, Tenant) for project in value.projects}
    assert {_workload(path.stem).project for path in (EXAMPLES / "workloads").glob("*.yaml")} <= projects


def test_the_windows_of_the_examples_are_of_the_lab() -> None:
    """Their tenant, sites, hardware and parts are there, and what is reserved fits the connection."""
    fleet = compile_fleet(_lab())
    tenants = {one.name for one in load(EXAMPLES / "tenants.yaml") if one.kind == "tenant"}
    reservation, maintenance = (document.value for document in load(EXAMPLES / "windows.yaml"))
    assert isinstance(reservation, Reservation)
    assert isinstance(maintenance, Maintenance)
    assert reservation.tenant in tenants
    assert reservation.model == LAB.accelerator
    site = _site(reservation.site)
    assert _meter_w(site, [LAB.accelerators] * reservation.nodes) <= site.connection.total_w
    assert set(maintenance.parts) <= {*fleet.node_ids}
    assert {part.split("/")[0] for part in maintenance.parts} == {maintenance.site}


def test_the_public_record_compiles_to_three_hundred_thousand_accelerators() -> None:
    """Its roadmap stands in countries nobody knows, where no node can ever be placed on."""
    documents = load(EXAMPLES / "estates" / "nordic-atlantic.yaml")
    estate = documents[-1].value
    assert isinstance(estate, Estate)
    fleet = compile_fleet(estate)
    assert len(fleet.node_ids) * 4 == 300_000
    days = zip(fleet.node_site, fleet.node_from_day, strict=True)
    never = [fleet.sites[site].id for site, day in days if day == NEVER_DAY]
    assert sorted(set(never)) == ["roadmap-europe", "roadmap-middle-east", "roadmap-north-america"]
    assert len(never) * 4 == 126_000
    assert {site.dedicated_to for site in estate.sites if site.dedicated_to} == {"openai", "microsoft"}
    assert {"openai", "microsoft"} <= {document.name for document in documents}
