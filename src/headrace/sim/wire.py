"""What people and clients send: the core's values written as the documents and bodies that the API takes."""

from decimal import Decimal
from typing import Any

from headrace.core.codec import Core
from headrace.core.contracts import Contract, PricePlan, Tenant
from headrace.core.estate import Block, Estate, NodeGroup, Site
from headrace.core.units import MICROS
from headrace.core.workload import WorkloadSpec

Document = dict[str, Any]


def document(value: Core) -> Document:
    """A document that says what a value says; values at their default are left out."""
    match value:
        case Estate():
            return _estate(value)
        case Tenant():
            return _tenant(value)
        case PricePlan():
            return _price_plan(value)
        case Contract():
            return _contract(value)
        case WorkloadSpec():
            return workload(value, {})


def workload(spec: WorkloadSpec, secrets: dict[str, str]) -> Document:
    """A workload as a tenant writes it, with the values of its secrets."""
    need = spec.resources
    resources: Document = {"cpu": f"{need.cpu_milli}m", "memory": f"{need.memory_mb}MB"}
    if need.accelerator:
        resources["gpu"] = f"{need.accelerator}:{need.accelerators}"
    out: Document = {
        "name": spec.name,
        "type": spec.type.value,
        "project": spec.project,
        "nodes": spec.nodes,
        "resources": resources,
        "commands": list(spec.commands),
        "env": spec.env,
        "priority": spec.priority,
        "grace": f"{spec.grace_ms}ms",
        "flex": spec.flex.value,
    }
    if secrets:
        out["secrets"] = secrets
    if spec.ports:
        out["ports"] = {name: port or "auto" for name, port in spec.ports.items()}
    if spec.max_duration_ms:
        out["max_duration"] = f"{spec.max_duration_ms}ms"
    if spec.policy.countries:
        out["policy"] = {"countries": list(spec.policy.countries)}
    return out | _filled(
        policy=spec.policy.profile, site=spec.site, contract=spec.contract, counters=spec.counters
    )


def _filled(**fields: object) -> Document:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _watts(watts: int) -> str:
    return f"{watts}W"


def _price(micros: int) -> str:
    return f"{Decimal(micros) / MICROS:f}"


def _estate(estate: Estate) -> Document:
    operator = estate.operator
    return {
        "kind": "estate",
        "operator": {
            "name": operator.id,
            "title": operator.name,
            "country": operator.country,
            "zone": operator.zone,
            "currency": operator.currency,
        },
        "sites": [_site(site) for site in estate.sites],
    }


def _site(site: Site) -> Document:
    connection = {"firm": _watts(site.connection.firm_w), "flexible": _watts(site.connection.flexible_w)}
    energy = {
        "source": site.energy_source,
        "carbon": site.carbon_g_per_kwh,
        "price": _price(site.energy_price_micros_per_kwh),
        "currency": site.currency,
    }
    power = [
        {"name": one.id, "kind": one.kind, "rating": _watts(one.rating_w), **_filled(fed_by=one.fed_by)}
        for one in site.power
    ]
    return {
        "name": site.id,
        "country": site.country or "unknown",
        "zone": site.zone,
        "energy": energy,
        "connection": connection,
        "pue": f"{Decimal(site.pue_permille) / 1_000:f}",
        "engine": site.engine,
        "power": power,
        "blocks": [_block(block) for block in site.blocks],
        **_filled(dedicated_to=site.dedicated_to),
    }


def _block(block: Block) -> Document:
    rating = _watts(block.rating_w) if block.rating_w else ""
    groups = [_group(group) for group in block.groups]
    return {
        "name": block.id,
        "groups": groups,
        **_filled(fed_by=block.fed_by, rating=rating, commissioned=block.commissioned),
    }


def _group(group: NodeGroup) -> Document:
    rack_rating = _watts(group.rack_rating_w) if group.rack_rating_w else ""
    return {
        "name": group.id,
        "hardware": group.hardware,
        "racks": group.racks,
        "nodes_per_rack": group.nodes_per_rack,
        **_filled(rack_rating=rack_rating, nodes=group.nodes or None),
    }


def _tenant(tenant: Tenant) -> Document:
    return {
        "kind": "tenant",
        "name": tenant.id,
        "projects": list(tenant.projects),
        **_filled(country=tenant.country, policy=tenant.policy),
    }


def _price_plan(plan: PricePlan) -> Document:
    prices = {
        "accelerator_per_hour": _prices(plan.accelerator_micros_per_hour),
        "reserved_per_month": _prices(plan.reserved_micros_per_month),
        "tokens_per_million": _prices(plan.token_micros_per_million),
    }
    out: Document = {
        "kind": "price-plan",
        "name": plan.id,
        "currency": plan.currency,
        "prices": prices,
        "energy": "pass-through" if plan.energy_pass_through else "included",
    }
    if plan.tax_permille is not None:
        out["tax"] = {"name": plan.tax_name, "percent": f"{Decimal(plan.tax_permille) / 10:f}"}
    return out


def _prices(micros: dict[str, int]) -> dict[str, str]:
    return {name: _price(one) for name, one in micros.items()}


def _contract(contract: Contract) -> Document:
    gpu = f"{contract.model}:{contract.accelerators}" if contract.model else ""
    return {
        "kind": "contract",
        "name": contract.id,
        "tenant": contract.tenant,
        "plan": contract.plan,
        "type": contract.kind,
        **_filled(site=contract.site, gpu=gpu, starts=contract.starts, ends=contract.ends),
    }
