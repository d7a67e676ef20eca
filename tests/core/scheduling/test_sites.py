"""Which site a workload gets by its tenant's preferences, and which of the accelerators that would do."""

from dataclasses import replace

import pytest

from headrace.core.contracts import Preferences, Tenant
from headrace.core.estate import Site
from headrace.core.ids import ProjectId, TenantId
from headrace.core.scheduling.plan import plan
from tests.core.scheduling.small import World, contract, fleet_of, group, nodes_of, placed, site

OTHER = TenantId("other")
PROJECTS = (ProjectId("main"),)


def metered(ident: str, price: int, carbon_g: int, pue_permille: int = 1_000) -> Site:
    """A site of four nodes with its price of energy in micros per kWh, and its carbon in grams per kWh."""
    made = site(ident, group(), price=price)
    return replace(made, carbon_g_per_kwh=carbon_g, pue_permille=pue_permille)


def minding(world: World, **wishes: Preferences) -> World:
    """The same world, where tenants mind the sites."""
    world.tenants = {
        TenantId(name): Tenant(TenantId(name), PROJECTS, preferences=wish) for name, wish in wishes.items()
    }
    world.contracts = [contract(tenant) for tenant in world.tenants]
    return world


def sites_of(world: World) -> dict[str, str]:
    """The site that each workload gets."""
    return {str(one.workload): str(one.site) for one in plan(world.snapshot()).placements}


CHEAP, CLEAN = metered("cheap", 500, 900), metered("clean", 1_500, 10)
BY_PRICE = Preferences(price_permille=1_000, carbon_micros_per_kg=0)
BY_CARBON = Preferences(price_permille=0, carbon_micros_per_kg=1)


@pytest.mark.parametrize("sites", [(CHEAP, CLEAN), (CLEAN, CHEAP)], ids=["cheap first", "clean first"])
@pytest.mark.parametrize(
    ("acme", "other", "where"),
    [(BY_PRICE, BY_CARBON, ("cheap", "clean")), (BY_CARBON, BY_PRICE, ("clean", "cheap"))],
    ids=["one by price", "one by carbon"],
)
def test_tenants_with_opposite_preferences_get_opposite_sites(
    sites: tuple[Site, Site], acme: Preferences, other: Preferences, where: tuple[str, str]
) -> None:
    """One minds the price and one the carbon, in one pass, whichever site was declared first."""
    world = minding(World(fleet_of(*sites)), acme=acme, other=other)
    one, two = world.submit(), world.submit(tenant=OTHER)
    assert sites_of(world) == dict(zip((one.id, two.id), where, strict=True))


# A kWh costs 500 and 1,500 micros, and emits 900 and 10 g. With 1,000 per mille of the price, 1,000 micros less and 0.89 kg
# more are level at 1,000 / 0.89 = 1,123.6 micros per kg.
@pytest.mark.parametrize(
    ("price_permille", "carbon_micros_per_kg", "where"),
    [
        (1_000, 0, "cheap"),
        (1_000, 1_123, "cheap"),
        (1_000, 1_124, "clean"),
        (2_000, 1_124, "cheap"),
        (2_000, 2_247, "cheap"),
        (2_000, 2_248, "clean"),
        (500, 561, "cheap"),
        (500, 562, "clean"),
        (0, 1, "clean"),
        (1, 0, "cheap"),
    ],
)
def test_the_weights_of_price_and_carbon_decide_between_a_cheap_site_and_a_clean_one(
    price_permille: int, carbon_micros_per_kg: int, where: str
) -> None:
    """1 micro of a kilogram more tips it, and twice the weight of the price takes twice the carbon's to do so."""
    wish = Preferences(price_permille, carbon_micros_per_kg)
    for sites in (CHEAP, CLEAN), (CLEAN, CHEAP):
        world = minding(World(fleet_of(*sites)), acme=wish)
        work = world.submit()
        assert sites_of(world) == {work.id: where}


def test_carbon_decides_where_prices_are_level() -> None:
    """The last of three sites emits the least; without a weight of carbon the first is as good."""
    sites = metered("a", 1_000, 400), metered("b", 1_000, 300), metered("c", 1_000, 20)
    world = minding(World(fleet_of(*sites)), acme=Preferences(carbon_micros_per_kg=100), other=Preferences())
    one, two = world.submit(), world.submit(tenant=OTHER)
    assert sites_of(world) == {one.id: "c", two.id: "a"}


def test_price_decides_where_carbon_is_level() -> None:
    """The last of three sites costs the least; for who gives the price no weight the first is as good."""
    sites = metered("a", 1_200, 100), metered("b", 1_100, 100), metered("c", 900, 100)
    world = minding(
        World(fleet_of(*sites)), acme=Preferences(carbon_micros_per_kg=100), other=Preferences(0, 100)
    )
    one, two = world.submit(), world.submit(tenant=OTHER)
    assert sites_of(world) == {one.id: "c", two.id: "a"}


@pytest.mark.parametrize("wish", [BY_PRICE, BY_CARBON], ids=["price", "carbon"])
def test_what_a_kwh_costs_or_emits_counts_with_its_cooling(wish: Preferences) -> None:
    """A lower price and less carbon at the meter, and half as much again for the cooling, is more in all."""
    sites = metered("low", 900, 90, pue_permille=1_500), metered("lean", 1_000, 100, pue_permille=1_100)
    world = minding(World(fleet_of(*sites)), acme=wish)
    work = world.submit()
    assert sites_of(world) == {work.id: "lean"}


def test_a_tenant_without_preferences_goes_by_price() -> None:
    """Nobody declared anything of it: it gets the cheapest of three sites."""
    world = World(fleet_of(CLEAN, metered("middle", 900, 1), CHEAP))
    work = world.submit()
    assert sites_of(world) == {work.id: "cheap"}


def test_the_next_best_site_is_taken_when_the_best_is_full() -> None:
    """A tenant that minds carbon has five whole nodes to take: four where it is clean, and one where it is not."""
    world = minding(World(fleet_of(CHEAP, CLEAN)), acme=BY_CARBON)
    for _ in range(5):
        world.submit(gpus=4)
    assert list(sites_of(world).values()) == ["clean"] * 4 + ["cheap"]


LAB, H100 = ("lab", 4), ("H100", 8)


@pytest.mark.parametrize("nodes", [1, 2], ids=["single", "gang"])
@pytest.mark.parametrize("apart", [False, True], ids=["at one site", "at two sites"])
@pytest.mark.parametrize(
    ("wanted", "kind"), [((LAB, H100), "l"), ((H100, LAB), "h")], ids=["lab first", "H100 first"]
)
def test_of_accelerators_that_would_do_the_first_named_are_given_when_all_are_free(
    wanted: tuple[tuple[str, int], ...], kind: str, apart: bool, nodes: int
) -> None:
    """Neither the order of the estate nor the price of a site comes before what the job named first."""
    lab, h100 = group("l", "lab"), group("h", "h100-8")
    sites = (site("a", lab, price=1), site("b", h100, price=2)) if apart else (site("a", lab, h100),)
    world = World(fleet_of(*sites))
    (model, gpus), other = wanted
    job = world.submit(nodes=nodes, gpus=gpus, model=model, others=(other,))
    found = plan(world.snapshot())
    assert nodes_of(found, job) == [f"{kind}-0-{number}" for number in range(nodes)]
    assert [(one.workload, one.option) for one in found.placements] == [(job.id, 0)]


@pytest.mark.parametrize(
    ("wanted", "kind"), [((LAB, H100), "h"), ((H100, LAB), "l")], ids=["lab first", "H100 first"]
)
def test_the_second_named_are_given_when_the_first_are_taken(
    wanted: tuple[tuple[str, int], ...], kind: str
) -> None:
    """One node of each: who comes second with the same wish gets the other, and the third nothing."""
    world = World(fleet_of(site("a", group("l", "lab", per_rack=1), group("h", "h100-8", per_rack=1))))
    (model, gpus), other = wanted
    jobs = [world.submit(gpus=gpus, model=model, others=(other,)) for _ in range(3)]
    found = plan(world.snapshot())
    assert [one.option for one in found.placements] == [0, 1]
    assert nodes_of(found, jobs[1]) == [f"{kind}-0-0"]
    assert placed(found) == [jobs[0].id, jobs[1].id]
