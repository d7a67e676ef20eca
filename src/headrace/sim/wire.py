"""What people and clients send: the core's values written as the documents and bodies that the API takes."""

from decimal import Decimal
from typing import Any

from headrace.core.codec import Core
from headrace.core.contracts import (
    MOST_PRIORITY,
    Contract,
    Maintenance,
    Preferences,
    PricePlan,
    Quota,
    Reservation,
    Tenant,
)
from headrace.core.estate import Block, Estate, NodeGroup, Site
from headrace.core.units import MICROS, PERMILLE
from headrace.core.workload import WHOLE_MILLI, Resources, Topology, WorkloadSpec
from headrace.documents.values import moment_text

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
        case Reservation():
            return _reservation(value)
        case Maintenance():
            return _maintenance(value)
        case WorkloadSpec():
            return workload(value, {})
        case _:
            raise TypeError(f"no simulated client has a {type(value).__name__}")


def workload(spec: WorkloadSpec, secrets: dict[str, str]) -> Document:
    """A workload as a tenant writes it, with the values of its secrets."""
    out: Document = {
        "name": spec.name,
        "type": spec.type.value,
        "project": spec.project,
        "nodes": f"{spec.nodes}..{spec.nodes_max}" if spec.nodes_max else spec.nodes,
        "resources": _resources(spec),
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
    if spec.checkpoint_ms:
        out["checkpoint"] = {"every": _ms(spec.checkpoint_ms), **_filled(restart=_ms(spec.restart_ms))}
    return out | _filled(
        policy=spec.policy.profile,
        site=spec.site,
        contract=spec.contract,
        counters=spec.counters,
        reservation=spec.reservation,
        lease=spec.lease,
        expected=_ms(spec.expected_ms),
        topology=_topology(spec.topology) if spec.topology else None,
    )


def _resources(spec: WorkloadSpec) -> Document:
    need = spec.resources
    resources: Document = {"cpu": f"{need.cpu_milli}m", "memory": f"{need.memory_mb}MB"}
    if need.accelerator:
        other = [_gpu(need, one.accelerator, one.accelerators) for one in spec.alternatives]
        first = _gpu(need, need.accelerator, need.accelerators)
        resources["gpu"] = [first, *other] if other else first
    if need.accelerator_memory_mb:
        resources["gpu_memory"] = f"{need.accelerator_memory_mb}MB"
    return resources


def _gpu(need: Resources, model: str, number: int) -> str:
    whole = need.share_milli == WHOLE_MILLI
    return f"{model}:{number}" if whole else f"{model}:{Decimal(need.share_milli) / WHOLE_MILLI:f}"


def _topology(wish: Topology) -> Document:
    return {"required": wish.required, **_filled(pack=wish.pack, spread=wish.spread)}


def _ms(duration_ms: int) -> str:
    return f"{duration_ms}ms" if duration_ms else ""


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
    line = site.connection
    connection = {"firm": _watts(line.firm_w), "flexible": _watts(line.flexible_w)}
    if line.ramp_up_w_per_minute:
        connection["ramp_up"] = _watts(line.ramp_up_w_per_minute)
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
        **_filled(rack_rating=rack_rating, nodes=group.nodes or None, rail_racks=group.rail_racks or None),
    }


def _tenant(tenant: Tenant) -> Document:
    quotas = tenant.project_quotas
    out: Document = {
        "kind": "tenant",
        "name": tenant.id,
        "projects": {one: _quota(quotas.get(one, Quota())) for one in tenant.projects}
        if quotas
        else list(tenant.projects),
        **_filled(country=tenant.country, policy=tenant.policy),
    }
    if tenant.quota != Quota():
        out["quota"] = _quota(tenant.quota)
    if tenant.max_priority != MOST_PRIORITY:
        out["max_priority"] = tenant.max_priority
    if tenant.preferences != Preferences():
        wishes = tenant.preferences
        out["preferences"] = {
            "price": f"{Decimal(wishes.price_permille) / PERMILLE:f}",
            "carbon_per_kg": _price(wishes.carbon_micros_per_kg),
            "power_per_kwh": _price(wishes.power_micros_per_kwh),
        }
    return out


def _quota(quota: Quota) -> Document:
    limit = {"limit": quota.limit} if quota.limit else {}
    return {"guaranteed": quota.guaranteed, "weight": quota.weight, **limit}


def _reservation(reservation: Reservation) -> Document:
    return {
        "kind": "reservation",
        "name": reservation.id,
        "tenant": reservation.tenant,
        "site": reservation.site,
        "gpu": reservation.model,
        "nodes": reservation.nodes,
        "from": moment_text(reservation.starts_ms),
        "until": moment_text(reservation.ends_ms),
    }


def _maintenance(window: Maintenance) -> Document:
    return {
        "kind": "maintenance",
        "name": window.id,
        "site": window.site,
        "parts": list(window.parts),
        "from": moment_text(window.starts_ms),
        "until": moment_text(window.ends_ms),
        "reason": window.reason,
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
