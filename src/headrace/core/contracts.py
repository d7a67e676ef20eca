"""What was sold and at which price."""

from dataclasses import dataclass, field
from typing import Literal

from headrace.core.ids import ContractId, PlanId, ProjectId, SiteId, TenantId

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
class Tenant:
    """Who buys; ``contact`` is a reference into the vault, since it is about a person. ``policy`` is
    the profile that its workloads are under unless they name another ("" for none).
    """

    id: TenantId
    projects: tuple[ProjectId, ...]
    country: str = ""
    contact: str = ""
    policy: str = ""
