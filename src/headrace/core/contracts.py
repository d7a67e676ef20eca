"""What was sold and at which price."""

from dataclasses import dataclass, field
from typing import Literal

from headrace.core.ids import ContractId, PlanId, ProjectId, SiteId, TenantId, WindowId

MOST_PRIORITY = 1_000
"""The highest priority that there is."""

ContractKind = Literal["on-demand", "reserved", "dedicated"]


@dataclass(frozen=True, slots=True)
class PricePlan:
    """Prices in one currency.

    ``accelerator_micros_per_hour`` by accelerator model ("*": any other); ``reserved_micros_per_month`` per accelerator by
    model; ``token_micros_per_million`` by ``input`` and ``output``; ``energy_pass_through`` bills energy at the site's price, in
    the site's currency; ``miscellaneous`` notes go on the invoice. ``tax_permille`` None means "not computed".
    """

    id: PlanId
    currency: str
    accelerator_micros_per_hour: dict[str, int] = field(default_factory=dict)
    reserved_micros_per_month: dict[str, int] = field(default_factory=dict)
    token_micros_per_million: dict[str, int] = field(default_factory=dict)
    energy_pass_through: bool = False
    tax_name: str = ""
    tax_permille: int | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """What was sold to a tenant: a price plan, for a kind of capacity, from ``starts`` until ``ends`` (ISO days, end exclusive).

    ``accelerators`` of ``model`` are what a reserved contract holds, for workloads that name it;
    ``site`` limits it to one site (None: at any).
    """

    id: ContractId
    tenant: TenantId
    plan: PlanId
    kind: ContractKind = "on-demand"
    site: SiteId | None = None
    model: str = ""
    accelerators: int = 0
    starts: str = ""
    ends: str = ""


@dataclass(frozen=True, slots=True)
class Quota:
    """What a tenant, or one of its projects, may have of the accelerators that no contract reserves.

    Up to ``guaranteed`` of them go before whoever borrows. More may be borrowed while they are free, up to ``limit`` (0: any).
    Who borrows goes by shares: ``weight`` is the part that it is due against its equals.
    """

    guaranteed: int = 0
    limit: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Preferences:
    """What makes one site better than another for a tenant: all in micros per kWh at the meter, the least sum first.

    ``price_permille`` weighs the site's price of energy; ``carbon_micros_per_kg`` is what a kilogram of CO2 counts for;
    ``power_micros_per_kwh`` is added in proportion to the part of the connection that is in use.
    """

    price_permille: int = 1_000
    carbon_micros_per_kg: int = 0
    power_micros_per_kwh: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """Whole nodes with accelerators of ``model`` that are a tenant's alone at a site from ``starts_ms`` until ``ends_ms``.

    It is admitted when it is applied, against all others and against power; workloads that name it run there.
    """

    id: WindowId
    tenant: TenantId
    site: SiteId
    model: str
    nodes: int
    starts_ms: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Nothing runs on ``parts`` of a site (names of nodes, racks, blocks; none: all) from ``starts_ms`` until ``ends_ms``."""

    id: WindowId
    site: SiteId
    starts_ms: int
    ends_ms: int
    parts: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who buys; ``contact`` is a reference into the vault, since it is about a person. ``policy`` is
    the profile that its workloads are under unless they name another ("" for none). No workload of it has a
    higher priority than ``max_priority``. ``project_quotas`` share out what the tenant has.
    """

    id: TenantId
    projects: tuple[ProjectId, ...]
    country: str = ""
    contact: str = ""
    policy: str = ""
    quota: Quota = Quota()
    project_quotas: dict[ProjectId, Quota] = field(default_factory=dict)
    max_priority: int = MOST_PRIORITY
    preferences: Preferences = Preferences()
