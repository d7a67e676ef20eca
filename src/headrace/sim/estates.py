"""The ground of a simulated world: an estate, tenants, price plans and contracts, from chance alone."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

from headrace.core.contracts import MOST_PRIORITY, Contract, PricePlan, Quota, Tenant
from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, PowerElement, PowerKind, Site
from headrace.core.hardware import CATALOGUE, HardwareType
from headrace.core.ids import ContractId, OperatorId, PlanId, ProjectId, SiteId, TenantId
from headrace.core.sovereignty.plain import PROFILES as PROFILES_OF
from headrace.core.workload import PolicyRef

COUNTRIES = ("NO", "GB", "SE", "DE")
HARDWARE = ("lab", "h100-8", "b200-8", "gb200-nvl72")
PROFILES = ("", "", "", "", "public", "public", "nordic-only", "uk-only", "eea-only")
TENANTS = ("acme", "borealis", "cygnus", "delta")
PROJECTS = (ProjectId("core"), ProjectId("research"))
CURRENCIES = {"NO": "NOK", "GB": "GBP", "SE": "SEK", "DE": "EUR", "": "NOK"}
OPERATOR = OperatorId("sim")


@dataclass(slots=True)
class Ground:
    """What is declared before the first workload."""

    estate: Estate
    tenants: list[Tenant]
    plans: list[PricePlan]
    contracts: list[Contract]

    def open_to(self, tenant: str, policy: PolicyRef) -> list[Site]:
        """Sites that a workload of a tenant may ever use; what it asks for is mostly chosen from there."""
        own = next((one.policy for one in self.tenants if one.id == tenant), "")
        listed = PROFILES_OF.get(policy.profile or own or "public")
        countries = policy.countries or (listed.countries if listed is not None else ())
        return [
            site
            for site in self.estate.sites
            if site.country
            and (not countries or site.country in countries)
            and site.dedicated_to in (None, tenant)
        ]

    def groups(self, sites: list[Site]) -> list[tuple[SiteId, HardwareType, int]]:
        """Nodes by site and type at some sites (none: at all) that have a day of commissioning."""
        return [
            (site.id, CATALOGUE[group.hardware], group.node_count)
            for site in sites or self.estate.sites
            for block in site.blocks
            if block.commissioned
            for group in block.groups
        ]


def aside(chance: Random) -> Random:
    """Chance of its own that follows from another, whose next draw stays what it was."""
    twin = Random()
    twin.setstate(chance.getstate())
    return Random(twin.getrandbits(64))


def iso_day(at_ms: int, days: int = 0) -> str:
    """The ISO day of a moment, ``days`` later."""
    return (datetime.fromtimestamp(at_ms / 1000, UTC) + timedelta(days=days)).date().isoformat()


def make_ground(chance: Random, start_ms: int, *, is_long: bool) -> Ground:
    """An estate with tight power, and who may use it."""
    count = chance.randint(2, 4) if is_long else chance.randint(1, 3)
    tenants = _tenants(chance, count)
    sites = _sites(chance, start_ms, is_long=is_long)
    if len(sites) > 1 and chance.random() < 0.3:
        sites[-1] = replace(sites[-1], dedicated_to=tenants[0].id)
    zone = chance.choice(("Europe/Oslo", "Europe/London", "UTC"))
    operator = Operator(OPERATOR, "Simulated", "NO", zone, "NOK")
    # One rate of tax: an invoice in one currency can't have two.
    tax_permille = chance.choice((None, 250, 77))
    plans = [_plan(chance, name, tax_permille) for name in ("list", "special")]
    contracts = _contracts(chance, tenants, sites, plans, start_ms)
    return Ground(Estate(operator, tuple(sites)), tenants, plans, contracts)


def _tenants(chance: Random, count: int) -> list[Tenant]:
    more = aside(chance)
    plain = [Tenant(TenantId(name), PROJECTS, "NO", "", chance.choice(PROFILES)) for name in TENANTS[:count]]
    return [with_quotas(more, tenant) for tenant in plain]


def with_quotas(chance: Random, tenant: Tenant) -> Tenant:
    """The same tenant, with other quotas than before: often none."""
    drawn = {project: _quota(chance) for project in PROJECTS if chance.random() < 0.3}
    projects = {project: quota for project, quota in drawn.items() if quota != Quota()}
    # What its projects are guaranteed is a part of what the tenant is.
    least = sum(quota.guaranteed for quota in projects.values())
    quota = _quota(chance, least) if least or chance.random() < 0.4 else Quota()
    # Work has a priority of 10 at most.
    most = chance.choice((5, 9)) if chance.random() < 0.1 else MOST_PRIORITY
    return replace(tenant, quota=quota, project_quotas=projects, max_priority=most)


def _quota(chance: Random, least: int = 0) -> Quota:
    limit = chance.choice((0, 0, 3, 8, 20, 60))
    guaranteed = max(least, min(chance.choice((0, 0, 2, 8)), limit or 8))
    return Quota(guaranteed, max(limit, guaranteed) if limit else 0, chance.choice((1, 1, 2, 5)))


def _plan(chance: Random, name: str, tax_permille: int | None) -> PricePlan:
    return PricePlan(
        id=PlanId(name),
        currency=chance.choice(("NOK", "GBP", "EUR")),
        accelerator_micros_per_hour={"*": chance.randrange(1, 40_000_000)},
        reserved_micros_per_month={"*": chance.randrange(1, 10**10)},
        token_micros_per_million={"input": chance.randrange(10**6), "output": chance.randrange(10**7)},
        energy_pass_through=chance.random() < 0.6,
        tax_name="" if tax_permille is None else "MVA",
        tax_permille=tax_permille,
    )


def _contracts(
    chance: Random, tenants: list[Tenant], sites: list[Site], plans: list[PricePlan], start_ms: int
) -> list[Contract]:
    out = []
    yesterday = iso_day(start_ms, -40)
    for tenant in tenants:
        ends = iso_day(start_ms, 1) if chance.random() < 0.08 else ""
        ident = ContractId(f"{tenant.id}-demand")
        out.append(Contract(ident, tenant.id, chance.choice(plans).id, starts=yesterday, ends=ends))
        if chance.random() < 0.35:
            site = chance.choice(sites)
            model = CATALOGUE[site.blocks[0].groups[0].hardware].accelerator
            ident = ContractId(f"{tenant.id}-reserved")
            held = chance.randint(1, 12)
            plan = chance.choice(plans).id
            out.append(Contract(ident, tenant.id, plan, "reserved", site.id, model, held, yesterday))
    return out


def _sites(chance: Random, start_ms: int, *, is_long: bool) -> list[Site]:
    count = chance.randint(1, 4) if is_long else chance.randint(1, 3)
    nodes = chance.randint(22, 48) if is_long else chance.randint(4, 12)
    countries = chance.sample(COUNTRIES, count)
    if count > 1 and chance.random() < 0.3:
        countries[-1] = ""
    share = max(2, -(-nodes // count))
    return [
        _site(chance, f"site-{index}", country, share, start_ms) for index, country in enumerate(countries)
    ]


def _site(chance: Random, name: str, country: str, nodes: int, start_ms: int) -> Site:
    elements, feeders = _tree(chance)
    blocks = _blocks(chance, feeders, nodes, start_ms)
    load_w = {element.id: 0 for element in elements}
    fed_by = {element.id: element.fed_by for element in elements}
    total_w = idle_w = 0
    floor_w = dict(load_w)
    for block in blocks:
        whole_w, rest_w = _block_w(block)
        total_w, idle_w = total_w + whole_w, idle_w + rest_w
        above = block.fed_by
        while above:
            load_w[above] += whole_w
            floor_w[above] += rest_w
            above = fed_by[above]
    pue = chance.choice((1_000, 1_080, 1_200, 1_333))
    rated = tuple(
        replace(element, rating_w=_tight(chance, load_w[element.id], floor_w[element.id]))
        for element in elements
    )
    meter_w = -(-_tight(chance, total_w, idle_w) * pue // 1_000)
    flexible_w = meter_w // 5 if chance.random() < 0.3 else 0
    return Site(
        id=SiteId(name),
        country=country,
        zone="Europe/Oslo",
        connection=Connection(meter_w - flexible_w, flexible_w),
        pue_permille=pue,
        carbon_g_per_kwh=chance.randrange(400),
        energy_price_micros_per_kwh=chance.randrange(1, 2_000_000),
        currency=CURRENCIES[country],
        engine="fake",
        power=rated,
        blocks=tuple(blocks),
    )


def _tight(chance: Random, full_w: int, idle_w: int) -> int:
    """A limit that often can't carry everything below it, and always what idles there."""
    return max(int(idle_w + (full_w - idle_w) * chance.choice((0.3, 0.5, 0.7, 0.9, 1.1))), idle_w + 1, 1)


def _tree(chance: Random) -> tuple[list[PowerElement], list[str]]:
    """Elements of a power tree (ratings come later), and the names of those that blocks may hang on."""
    shape = chance.choice(("flat", "feeds", "deep", "mixed"))
    if shape == "flat":
        return [], [""]
    if shape == "feeds":
        return [PowerElement("feed-a", "feed", 1), PowerElement("feed-b", "feed", 1)], ["feed-a", "feed-b"]
    chain: tuple[tuple[str, PowerKind], ...] = (
        ("tr-1", "transformer"),
        ("ups-1", "ups"),
        ("bus-1", "busway"),
    )
    elements, above = [], ""
    for name, kind in chain:
        elements.append(PowerElement(name, kind, 1, above))
        above = name
    return elements, [above] if shape == "deep" else [above, "tr-1", ""]


def _blocks(chance: Random, feeders: list[str], nodes: int, start_ms: int) -> list[Block]:
    more = aside(chance)
    count = min(chance.randint(1, 3), nodes)
    out = []
    for index in range(count):
        share = nodes // count + (index < nodes % count)
        per_rack = chance.randint(1, min(4, share))
        hardware = chance.choice(HARDWARE)
        group = NodeGroup(
            "g",
            hardware,
            -(-share // per_rack),
            per_rack,
            nodes=share if share % per_rack else 0,
            rail_racks=more.choice((0, 0, 1, 2)),
        )
        if chance.random() < 0.3:
            full_w = CATALOGUE[hardware].nameplate_w * per_rack
            rating_w = _tight(chance, full_w, CATALOGUE[hardware].idle_w * per_rack)
            group = replace(group, rack_rating_w=rating_w)
        block = Block(f"b{index}", (group,), chance.choice(feeders))
        if chance.random() < 0.3:
            block = replace(block, rating_w=_tight(chance, *_block_w(block)))
        out.append(replace(block, commissioned=_commissioned(chance, start_ms, first=index == 0)))
    return out


def _commissioned(chance: Random, start_ms: int, *, first: bool) -> str:
    if first or chance.random() < 0.7:
        return iso_day(start_ms, -30)
    return chance.choice((iso_day(start_ms, 1), iso_day(start_ms, 2), ""))


def _block_w(block: Block) -> tuple[int, int]:
    """Watts of a block's nodes at nameplate, and idle."""
    full_w = sum(CATALOGUE[group.hardware].nameplate_w * group.node_count for group in block.groups)
    idle_w = sum(CATALOGUE[group.hardware].idle_w * group.node_count for group in block.groups)
    return full_w, idle_w
