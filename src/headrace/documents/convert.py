"""From a validated document to the core's object, with the checks that need more than one field.

Lists of named things are sorted by name (``block-2`` before ``block-10``), since their order has no meaning: two files
that say the same give the same normalised form.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from headrace.core.codec import Core
from headrace.core.contracts import (
    Contract,
    ContractKind,
    Maintenance,
    Preferences,
    PricePlan,
    Quota,
    Reservation,
    Tenant,
)
from headrace.core.estate import (
    Block,
    Claim,
    Connection,
    EnergySource,
    Estate,
    FlexibleWindow,
    NodeGroup,
    Operator,
    PowerElement,
    PowerKind,
    PueCurve,
    PuePoint,
    Redundancy,
    Site,
)
from headrace.core.hardware import HardwareType
from headrace.core.ids import ContractId, OperatorId, PlanId, ProjectId, SiteId, TenantId, WindowId
from headrace.core.power import pue
from headrace.core.units import PERMILLE, ceil_div, format_duration
from headrace.core.workload import (
    WHOLE_MILLI,
    Alternative,
    Flex,
    Level,
    PolicyRef,
    Resources,
    Topology,
    WorkloadSpec,
    WorkloadType,
    most_grace_ms,
)
from headrace.documents import data, law, schema
from headrace.documents.fields import DAYS, listed
from headrace.documents.source import Place
from headrace.documents.values import Bad

T = TypeVar("T")
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Converted:
    """A core object, and what of its document must not get into a payload: secrets, and what is about persons."""

    value: Core
    private: dict[str, str]


def to_core(model: schema.Model) -> Converted:
    """The core object of a document whose checks (:mod:`headrace.documents.checks`) found nothing."""
    match model:
        case schema.EstateModel():
            return Converted(_estate(model), {})
        case schema.TenantModel():
            return Converted(_tenant(model), {"contact": model.contact} if model.contact else {})
        case schema.PricePlanModel():
            return Converted(_price_plan(model), {})
        case schema.ContractModel():
            return Converted(_contract(model), {})
        case schema.ReservationModel():
            return Converted(_reservation(model), {})
        case schema.MaintenanceModel():
            return Converted(_maintenance(model), {})
        case law.PolicyTextModel() | law.FactsModel() | law.OwnershipModel():
            return Converted(law.core_of(model), {})
        case data.DatasetModel():
            return Converted(data.core_of(model), {})
        case schema.WorkloadModel():
            return Converted(workload_spec(model), dict(model.secrets))
    raise TypeError(f"no document: {type(model).__name__}")


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts names as people do: numbers in them by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(name)]


def _sorted(things: Iterable[T], name: str = "id") -> tuple[T, ...]:
    return tuple(sorted(things, key=lambda thing: natural(getattr(thing, name))))


def _estate(model: schema.EstateModel) -> Estate:
    operator = model.operator
    hardware = _sorted(_hardware(item) for item in model.hardware)
    return Estate(
        operator=Operator(
            OperatorId(operator.name),
            operator.title,
            operator.country,
            operator.zone,
            operator.currency,
            policy_ref(operator.journal_policy),
        ),
        sites=_sorted(site_of(site) for site in model.sites),
        hardware={item.id: item for item in hardware},
        claims=_sorted(
            Claim(
                claim.name,
                claim.country or "",
                claim.accelerators,
                claim.power or 0,
                claim.by or "",
                claim.note,
            )
            for claim in model.claims
        ),
    )


def _hardware(model: schema.HardwareModel) -> HardwareType:
    return HardwareType(
        id=model.name,
        accelerator=model.accelerator,
        accelerators=model.accelerators,
        nameplate_w=model.nameplate,
        idle_w=model.idle,
        accelerator_w=model.accelerator_power,
        accelerator_idle_w=model.accelerator_idle,
        cpu_milli=model.cpu,
        memory_mb=model.memory,
        accelerator_memory_mb=model.accelerator_memory or 0,
        cap_min_w=model.accelerator_cap,
        domain_nodes=model.domain_nodes,
        source=model.source,
        mj_per_th=model.efficiency or 0,
    )


def site_of(model: schema.SiteModel) -> Site:
    """A site as the core has it; what its power elements say about each other may still be wrong."""
    source: EnergySource = model.energy.source  # type: ignore[assignment]  # the schema allows no other word
    claims = model.claims or schema.SiteClaimsModel()
    connection = _connection(model.connection)
    curve = None if isinstance(model.pue, int) else curve_of(model.pue, connection.total_w)
    return Site(
        id=SiteId(model.name),
        country=model.country,
        zone=model.zone,
        connection=connection,
        pue_permille=model.pue if isinstance(model.pue, int) else int(pue.at_full_load(unscaled(model.pue))),
        carbon_g_per_kwh=model.energy.carbon,
        energy_price_micros_per_kwh=model.energy.price,
        currency=model.energy.currency,
        engine=model.engine,
        name=model.title,
        grid_zone=model.grid_zone,
        latitude=model.coordinates.latitude if model.coordinates else None,
        longitude=model.coordinates.longitude if model.coordinates else None,
        energy_source=source,
        dedicated_to=TenantId(model.dedicated_to) if model.dedicated_to else None,
        power=_sorted(_element(element) for element in model.power),
        blocks=_sorted(_block(block) for block in model.blocks),
        claimed_accelerators=claims.accelerators,
        claimed_w=claims.power or 0,
        note="; ".join(note for note in (model.note, claims.note) if note),
        pue_curve=curve,
        redundancy=_redundancy(model.redundancy),
    )


def _connection(model: schema.ConnectionModel) -> Connection:
    windows = [
        FlexibleWindow(tuple(sorted({DAYS.index(day) for day in one.days})), one.starts, one.until)
        for one in model.windows
    ]
    return Connection(
        model.firm,
        model.flexible,
        ramp_up_w_per_minute=model.ramp_up or 0,
        ramp_down_w_per_minute=model.ramp_down or 0,
        windows=tuple(sorted(set(windows), key=lambda one: (one.days, one.from_minute, one.until_minute))),
    )


def curve_of(model: schema.PueCurveModel, connection_w: int) -> PueCurve:
    """A curve without holes as the core has it; ``connection_w``: what a curve is meant for that states no full load."""
    curve = unscaled(model)
    full_w = model.full_load or int(connection_w * PERMILLE / pue.at_full_load(curve))
    return replace(curve, full_load_w=max(1, full_w))


def unscaled(model: schema.PueCurveModel) -> PueCurve:
    """A curve whose full load is one watt, and whose points may still leave holes."""
    points = sorted((PuePoint(one.load, one.outdoor_c, one.pue) for one in model.points), key=_by_load)
    return PueCurve(model.design_outdoor_c, 1, tuple(points))


def _by_load(point: PuePoint) -> tuple[int, int]:
    return point.load_permille, point.outdoor_c


def _redundancy(claim: str | None) -> Redundancy:
    known: Redundancy = claim or ""  # type: ignore[assignment]  # the schema allows no other word
    return known


def _fed(fed_by: str | list[str] | None) -> tuple[str, tuple[str, ...]]:
    """``fed_by`` of one feeder, ``feeders`` of several."""
    names = tuple(sorted(listed(fed_by), key=natural))
    return ("", names) if len(names) > 1 else ("".join(names), ())


def _derated(rating_w: int | None, derate: int | None) -> tuple[int, int]:
    """What may be drawn of a rating, and the rating itself where it is derated."""
    if derate is None:
        return rating_w or 0, 0
    # Not 0, which would say that there is no rating.
    return max(1, rating_w * derate // PERMILLE) if rating_w else 0, rating_w or 0


def _element(model: schema.PowerElementModel) -> PowerElement:
    kind: PowerKind = model.kind  # type: ignore[assignment]  # the schema allows no other word
    rating_w, breaker_w = _derated(model.rating, model.derate)
    fed_by, feeders = _fed(model.fed_by)
    return PowerElement(model.name, kind, rating_w, fed_by, feeders, breaker_w, _redundancy(model.redundancy))


def _block(model: schema.BlockModel) -> Block:
    rating_w, breaker_w = _derated(model.rating, model.derate)
    fed_by, feeders = _fed(model.fed_by)
    return Block(
        id=model.name,
        groups=_sorted(_group(group) for group in model.groups),
        fed_by=fed_by,
        rating_w=rating_w,
        delivered=model.delivered or "",
        commissioned=model.commissioned or "",
        feeders=feeders,
        breaker_w=breaker_w,
        redundancy=_redundancy(model.redundancy),
        engine=model.engine or "",
    )


def _group(model: schema.NodeGroupModel) -> NodeGroup:
    racks = model.racks or ceil_div(model.nodes or 1, model.nodes_per_rack)
    nodes = model.nodes or 0
    whole = nodes == racks * model.nodes_per_rack
    rating_w, breaker_w = _derated(model.rack_rating, model.rack_derate)
    return NodeGroup(
        model.name,
        model.hardware,
        racks,
        model.nodes_per_rack,
        rating_w,
        0 if whole else nodes,
        model.rail_racks or 0,
        tuple(sorted(listed(model.fed_by), key=natural)),
        breaker_w,
        _redundancy(model.redundancy),
    )


def _tenant(model: schema.TenantModel) -> Tenant:
    projects = sorted(set(model.projects), key=natural)
    shared = model.projects if isinstance(model.projects, dict) else {}
    quotas = {ProjectId(project): quota(shared[project]) for project in projects if project in shared}
    return Tenant(
        TenantId(model.name),
        tuple(ProjectId(project) for project in projects),
        model.country or "",
        policy=model.policy or "",
        quota=quota(model.quota),
        # One that says nothing is left out, so that {a: {}} and [a] mean the same.
        project_quotas={project: one for project, one in quotas.items() if one != Quota()},
        max_priority=model.max_priority,
        preferences=Preferences(
            model.preferences.price, model.preferences.carbon_per_kg, model.preferences.power_per_kwh
        ),
    )


def quota(model: schema.QuotaModel) -> Quota:
    """A quota as the core has it."""
    return Quota(model.guaranteed, model.limit or 0, model.weight)


def _price_plan(model: schema.PricePlanModel) -> PricePlan:
    return PricePlan(
        id=PlanId(model.name),
        currency=model.currency,
        accelerator_micros_per_hour=dict(sorted(model.prices.accelerator_per_hour.items())),
        reserved_micros_per_month=dict(sorted(model.prices.reserved_per_month.items())),
        token_micros_per_million=dict(sorted(model.prices.tokens_per_million.items())),
        energy_pass_through=model.energy == "pass-through",
        tax_name=model.tax.name if model.tax else "",
        tax_permille=model.tax.percent if model.tax else None,
    )


def _contract(model: schema.ContractModel) -> Contract:
    kind: ContractKind = model.type  # type: ignore[assignment]  # the schema allows no other word
    accelerator, accelerators = model.gpu or ("", 0)
    return Contract(
        id=ContractId(model.name),
        tenant=TenantId(model.tenant),
        plan=PlanId(model.plan),
        kind=kind,
        site=SiteId(model.site) if model.site else None,
        model=accelerator,
        accelerators=accelerators,
        starts=model.starts or "",
        ends=model.ends or "",
    )


def _reservation(model: schema.ReservationModel) -> Reservation:
    return Reservation(
        id=WindowId(model.name),
        tenant=TenantId(model.tenant),
        site=SiteId(model.site),
        model=model.gpu,
        nodes=model.nodes,
        starts_ms=model.starts,
        ends_ms=model.until,
    )


def _maintenance(model: schema.MaintenanceModel) -> Maintenance:
    return Maintenance(
        id=WindowId(model.name),
        site=SiteId(model.site),
        starts_ms=model.starts,
        ends_ms=model.until,
        parts=tuple(sorted(set(model.parts), key=natural)),
        reason=model.reason,
    )


def default_flex(kind: str) -> str:
    """How a workload that doesn't say may be curtailed: a filler exists to be interrupted, all else is firm."""
    return "preemptible" if kind == "filler" else "firm"


def problems_of(spec: WorkloadSpec) -> Iterator[tuple[Place, Bad]]:
    """What the fields of a workload say about each other that can't be: the place, and why."""
    kind, flex = spec.type, spec.flex
    yield from _problems_of_nothing_to_run(spec)
    if kind is WorkloadType.FILLER and flex not in (Flex.PREEMPTIBLE, Flex.PAUSABLE):
        message = f"a filler can't be {flex}: it exists to be interrupted."
        yield ("flex",), Bad(message, "Write preemptible or pausable.")
    if spec.counters and "http" not in spec.ports:
        message = "token counters are read from the port http."
        yield ("counters",), Bad(message, "Add ports: {http: auto}.")
    if spec.nodes_max and kind not in (WorkloadType.JOB, WorkloadType.SERVICE):
        message = f"a {kind} can't be elastic: only a job or a service takes as many nodes as there are."
        yield ("nodes",), Bad(message, "Write one number.")
    if spec.resources.accelerator_memory_mb and not spec.resources.accelerator:
        yield ("resources", "gpu_memory"), Bad("gpu_memory without gpu.", "Add gpu, like H100:1.")
    if spec.resources.share_milli != WHOLE_MILLI and kind is WorkloadType.CLUSTER:
        message = "a cluster has whole nodes, and no part of an accelerator."
        yield ("resources", "gpu"), Bad(message, "Write the model alone, like H100.")
    yield from _problems_of_a_lease(spec)
    most_ms = most_grace_ms(kind, flex)
    if spec.grace_ms > most_ms:
        what = "a filler" if kind is WorkloadType.FILLER else f"what is {flex}"
        message = f"{format_duration(spec.grace_ms)} of grace are too long for {what}: others wait for it to make room."
        other = "type" if kind is WorkloadType.FILLER else "flex"
        yield ("grace",), Bad(message, f"At most {format_duration(most_ms)}, or another {other}.")
    if 0 < spec.max_duration_ms < spec.expected_ms:
        longest = format_duration(spec.max_duration_ms)
        message = (
            f"it is expected to take {format_duration(spec.expected_ms)}, but is stopped after {longest}."
        )
        yield ("expected",), Bad(message, "Write a longer max_duration, or expect less.")


def _problems_of_nothing_to_run(spec: WorkloadSpec) -> Iterator[tuple[Place, Bad]]:
    """Only a cluster does without commands; and a filler that names what it mines with."""
    if spec.commands or spec.type is WorkloadType.CLUSTER:
        return
    if spec.type is not WorkloadType.FILLER or not spec.resources.accelerator:
        yield ("commands",), Bad(f"a {spec.type} without commands does nothing.", "Write at least one.")
    elif spec.ports or spec.env:
        place = "ports" if spec.ports else "env"
        yield (
            (place,),
            Bad("a filler without commands runs nothing that could use it.", f"Leave {place} out."),
        )


def _problems_of_a_lease(spec: WorkloadSpec) -> Iterator[tuple[Place, Bad]]:
    if not spec.lease:
        return
    if spec.type is not WorkloadType.CLUSTER:
        message = f"a {spec.type} has no lease: only a cluster is handed over to its tenant."
        yield ("lease",), Bad(message, "Write type: cluster, or leave lease out.")
        return
    if spec.commands:
        message = f"nothing of ours runs on nodes leased through {spec.lease.capitalize()}."
        yield ("commands",), Bad(message, "Leave commands out, or lease.")
    if spec.ports:
        yield ("ports",), Bad("a lease listens on no ports.", "Leave ports out, or lease.")
    if spec.flex is Flex.PAUSABLE:
        message = "a lease can't be pausable: its tenant's own jobs run on its nodes."
        yield ("flex",), Bad(message, "Write firm, or preemptible.")


def policy_ref(model: schema.PolicyModel | None, used: tuple[str, ...] = ()) -> PolicyRef:
    """The policy that a document names, with the data sets that it is about."""
    if model is None:
        return PolicyRef(data=used)
    return PolicyRef(model.profile or "", tuple(sorted(set(model.countries or []))), used)


def workload_spec(model: schema.WorkloadModel) -> WorkloadSpec:
    """The spec of a workload; its secrets stay outside until they are in the vault."""
    nodes, nodes_max = model.nodes
    policy = policy_ref(model.policy, tuple(sorted(set(model.data))))
    resources, alternatives = _resources(model.resources)
    return WorkloadSpec(
        name=model.name,
        type=WorkloadType(model.type),
        project=ProjectId(model.project),
        resources=resources,
        commands=tuple(model.commands),
        nodes=nodes,
        env=dict(sorted(model.env.items())),
        secrets={},
        ports=dict(sorted(model.ports.items())),
        priority=model.priority,
        max_duration_ms=model.max_duration or 0,
        grace_ms=model.grace,
        flex=Flex(model.flex or default_flex(model.type)),
        policy=policy,
        site=SiteId(model.site) if model.site else None,
        contract=ContractId(model.contract) if model.contract else None,
        counters=model.counters,
        alternatives=alternatives,
        nodes_max=nodes_max,
        topology=topology_of(model.topology) if model.topology else None,
        expected_ms=model.expected or 0,
        checkpoint_ms=model.checkpoint.every if model.checkpoint else 0,
        restart_ms=(model.checkpoint.restart or 0) if model.checkpoint else 0,
        reservation=WindowId(model.reservation) if model.reservation else None,
        lease="slurm" if model.lease else "",
    )


def _resources(model: schema.ResourcesModel) -> tuple[Resources, tuple[Alternative, ...]]:
    first, *others = model.options or [schema.GpuOption("", 0, WHOLE_MILLI)]
    gpu_memory_mb = model.gpu_memory or 0
    resources = Resources(
        first.model, first.number, model.cpu, model.memory, first.share_milli, gpu_memory_mb
    )
    return resources, tuple(Alternative(other.model, other.number) for other in others)


def topology_of(model: schema.TopologyModel) -> Topology:
    """A topology as the core has it."""
    pack: Level | None = model.pack  # type: ignore[assignment]  # the schema allows no other word
    spread: Level | None = model.spread  # type: ignore[assignment]  # the schema allows no other word
    return Topology(pack or "", spread or "", model.required)
