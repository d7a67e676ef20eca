"""What is wrong with a document beyond its single fields: names twice, cycles, days that run backwards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.core.errors import did_you_mean
from headrace.core.hardware import CATALOGUE
from headrace.core.power import pue
from headrace.core.power.redundancy import Contradiction, contradictions
from headrace.core.power.tree import graph_of
from headrace.core.units import PERMILLE
from headrace.documents import law, schema
from headrace.documents.convert import problems_of, site_of, unscaled, workload_spec
from headrace.documents.fields import listed
from headrace.documents.source import Place
from headrace.documents.values import moment_text

MAX_NODES = 1_000_000
"""Nodes of one estate: above it the columns of the fleet would not fit the memory that is promised."""

MOST_ABOVE = 100
"""Elements on the paths from one block up, where there are several: each is taken away, and all paths are walked again."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something wrong at a place of a document."""

    place: Place
    message: str
    next_step: str


def check(model: schema.Model) -> Iterator[Found]:
    """Everything that is wrong with a document beyond its single fields."""
    match model:
        case schema.EstateModel():
            yield from _estate(model)
        case schema.PricePlanModel():
            yield from _price_plan(model)
        case schema.TenantModel():
            yield from _tenant(model)
        case schema.ContractModel():
            yield from _contract(model)
        case schema.ReservationModel() | schema.MaintenanceModel():
            yield from _window(model)
        case law.PolicyTextModel() | law.FactsModel() | law.OwnershipModel():
            yield from (Found(*one) for one in law.problems_of(model))
        case schema.WorkloadModel():
            yield from _workload(model)
        case schema.BatchModel():
            yield from _batch(model)


def _batch(model: schema.BatchModel) -> Iterator[Found]:
    for number, workload in enumerate(model.workloads):
        for found in _workload(workload):
            yield Found(("workloads", number, *found.place), found.message, found.next_step)


def _workload(model: schema.WorkloadModel) -> Iterator[Found]:
    for place, bad in problems_of(workload_spec(model)):
        yield Found(place, bad.message, bad.next_step)
    for name in sorted(set(model.env) & set(model.secrets)):
        yield Found(("secrets", name), f"{name} is in env too.", "Keep one of them.")


def _price_plan(model: schema.PricePlanModel) -> Iterator[Found]:
    if not (model.prices.model_fields_set or model.energy == "pass-through"):
        yield Found((), "a price plan without prices.", "Add prices, or energy: pass-through.")


def _contract(model: schema.ContractModel) -> Iterator[Found]:
    if model.type == "reserved" and model.gpu is None:
        yield Found((), "a reserved contract without accelerators.", "Add gpu, like H100:64.")
    if model.type == "dedicated" and model.site is None:
        yield Found((), "a dedicated contract without a site.", "Add site.")
    if model.starts and model.ends and model.ends <= model.starts:
        yield Found(
            ("ends",),
            f"it ends {model.ends}, but starts {model.starts}.",
            "The end is exclusive: write a later day.",
        )


def _tenant(model: schema.TenantModel) -> Iterator[Found]:
    if not isinstance(model.projects, dict) or not model.quota.guaranteed:
        return
    promised = sum(quota.guaranteed for quota in model.projects.values())
    if promised > model.quota.guaranteed:
        message = f"its projects are guaranteed {promised} together, but the tenant {model.quota.guaranteed}."
        yield Found(("projects",), message, "Guarantee the projects less, or the tenant more.")


def _window(model: schema.ReservationModel | schema.MaintenanceModel) -> Iterator[Found]:
    if model.until <= model.starts:
        message = f"it ends {moment_text(model.until)}, but starts {moment_text(model.starts)}."
        yield Found(("until",), message, "Write a later time.")
    parts = model.parts if isinstance(model, schema.MaintenanceModel) else []
    for number, part in enumerate(parts):
        if not part.startswith(f"{model.site}/"):
            step = "Write another window for the other site."
            yield Found(("parts", number), f"{part} is not at site {model.site}.", step)


def _estate(model: schema.EstateModel) -> Iterator[Found]:
    yield from _repeated(("hardware",), model.hardware, "types of hardware are")
    yield from _repeated(("sites",), model.sites, "sites are")
    yield from _repeated(("claims",), model.claims, "claims are")
    for number, hardware in enumerate(model.hardware):
        yield from _hardware(("hardware", number), hardware)
    models = {one.id: one.accelerator for one in CATALOGUE.values()}
    models |= {one.name: one.accelerator for one in model.hardware}
    nodes = 0
    for number, site in enumerate(model.sites):
        yield from _site(("sites", number), site, set(models))
        yield from _engines(("sites", number), site, models)
        nodes += sum(_nodes(group) for block in site.blocks for group in block.groups)
    if nodes > MAX_NODES:
        yield Found(("sites",), f"{nodes:,} nodes are too many for one estate.", f"At most {MAX_NODES:,}.")


def _nodes(group: schema.NodeGroupModel) -> int:
    return group.nodes or (group.racks or 1) * group.nodes_per_rack


def _repeated(place: Place, things: Sequence[Any], what: str) -> Iterator[Found]:
    first: dict[str, int] = {}
    for number, thing in enumerate(things):
        if thing.name in first:
            message = (
                f"two {what} called {thing.name!r}; the first is number {first[thing.name] + 1} of the list."
            )
            yield Found((*place, number, "name"), message, "Rename one of them.")
        first.setdefault(thing.name, number)


MOST_NODE_W = 10_000_000
"""No node draws 10 MW: a figure beyond is a slip of the unit, and would not fit into a row of usage."""


def _hardware(place: Place, model: schema.HardwareModel) -> Iterator[Found]:
    if model.nameplate > MOST_NODE_W:
        yield Found((*place, "nameplate"), "no node draws more than 10 MW.", "Write the watts of one node.")
    if model.idle > model.nameplate:
        yield Found((*place, "idle"), "it draws more when idle than at nameplate.", "Write less.")
    if model.accelerators * model.accelerator_power > model.nameplate:
        message = "its accelerators together draw more than its nameplate."
        yield Found(
            (*place, "accelerator_power"), message, "Nameplate is the most that the whole node draws."
        )
    if max(model.accelerator_idle, model.accelerator_cap) > model.accelerator_power:
        yield Found(
            place,
            "an accelerator's idle or capped draw is above its most.",
            "Write less than accelerator_power.",
        )
    if model.efficiency and model.accelerators != 1:
        step = "A mining machine is one accelerator: write accelerators: 1."
        yield Found((*place, "accelerators"), "an efficiency, and several accelerators.", step)


def _site(place: Place, site: schema.SiteModel, hardware: set[str]) -> Iterator[Found]:
    yield from _names_of_site(place, site)
    wrong = [*_power_tree(place, site), *_curve((*place, "pue"), site.pue), *_windows(place, site)]
    yield from wrong
    for number, block in enumerate(site.blocks):
        here = (*place, "blocks", number)
        yield from _repeated((*here, "groups"), block.groups, f"groups of block {block.name} are")
        if block.delivered and block.commissioned and block.commissioned < block.delivered:
            message = f"commissioned {block.commissioned}, before it is delivered ({block.delivered})."
            yield Found((*here, "commissioned"), message, "Write the day of delivery or a later one.")
        for index, group in enumerate(block.groups):
            yield from _group((*here, "groups", index), group, hardware)
        if block.derate and not block.rating:
            yield Found((*here, "derate"), "a derating of no rating.", "Add rating, or leave derate out.")
    # What is claimed is held against the paths once there are paths.
    if not wrong:
        yield from _redundancy(place, site)


def _engines(place: Place, site: schema.SiteModel, models: Mapping[str, str]) -> Iterator[Found]:
    """Nodes with accelerators of one model at one site have one engine: so a gang, which is of one model, never has two."""
    first: dict[str, tuple[str, str]] = {}
    for number, block in enumerate(site.blocks):
        engine = block.engine or site.engine
        for model in {models.get(group.hardware, "") for group in block.groups} - {""}:
            other, other_block = first.setdefault(model, (engine, block.name))
            if other != engine:
                message = f"{model} accelerators of block {block.name} are driven by {engine}, of block {other_block} by {other}."
                step = "Accelerators of one model at one site have one engine: name the same one."
                yield Found((*place, "blocks", number, "engine"), message, step)


def _group(place: Place, group: schema.NodeGroupModel, hardware: set[str]) -> Iterator[Found]:
    if group.hardware not in hardware:
        yield Found(
            (*place, "hardware"), f"no hardware {group.hardware!r};", did_you_mean(group.hardware, hardware)
        )
    if group.rack_derate and not group.rack_rating:
        step = "Add rack_rating, or leave rack_derate out."
        yield Found((*place, "rack_derate"), "a derating of no rating.", step)
    room = (group.racks or group.nodes or 1) * group.nodes_per_rack
    if group.nodes and group.nodes > room:
        message = f"{group.nodes} nodes don't fit {group.racks} racks of {group.nodes_per_rack}."
        yield Found((*place, "nodes"), message, "Add racks, or leave racks out.")


def _names_of_site(place: Place, site: schema.SiteModel) -> Iterator[Found]:
    yield from _repeated((*place, "power"), site.power, f"power elements of site {site.name} are")
    yield from _repeated((*place, "blocks"), site.blocks, f"blocks of site {site.name} are")
    elements = {element.name for element in site.power}
    for number, block in enumerate(site.blocks):
        if block.name in elements:
            message = f"block {block.name!r} is called like a power element of its site."
            yield Found((*place, "blocks", number, "name"), message, "Rename one of them.")


def _power_tree(place: Place, site: schema.SiteModel) -> Iterator[Found]:
    feeders = {element.name: listed(element.fed_by) for element in site.power}
    for inside, fed_by in _fed(site):
        for number, feeder in enumerate(listed(fed_by)):
            here = (*place, *inside, "fed_by", *(() if isinstance(fed_by, str) else (number,)))
            if feeder not in feeders:
                step = did_you_mean(feeder, feeders) + " Leave fed_by out for the connection itself."
                yield Found(here, f"no power element {feeder!r} at site {site.name};", step)
    numbers = {element.name: number for number, element in enumerate(site.power)}
    for cycle in _cycles(feeders):
        if len(cycle) == 1:
            message = f"{cycle[0]} is fed by itself: the power tree has a cycle: {cycle[0]} -> {cycle[0]}."
        else:
            message = f"the power tree has a cycle: {' -> '.join((*cycle, cycle[0]))}."
        step = "Let one of them be fed by the connection: leave its fed_by out."
        yield Found((*place, "power", numbers[cycle[0]], "fed_by"), message, step)
    for number, block in enumerate(site.blocks):
        yield from _fed_in_parts((*place, "blocks", number), block)


def _fed(site: schema.SiteModel) -> Iterator[tuple[Place, str | list[str] | None]]:
    """Everything of a site that has feeders, by its place in the site."""
    for number, element in enumerate(site.power):
        yield ("power", number), element.fed_by
    for number, block in enumerate(site.blocks):
        yield ("blocks", number), block.fed_by
        for index, group in enumerate(block.groups):
            yield ("blocks", number, "groups", index), group.fed_by


def _fed_in_parts(place: Place, block: schema.BlockModel) -> Iterator[Found]:
    """Either a block says what feeds it, or each of its groups does."""
    said = [number for number, group in enumerate(block.groups) if group.fed_by]
    if said and block.fed_by:
        message = (
            f"block {block.name} says what feeds it, and its group {block.groups[said[0]].name} does too."
        )
        yield Found((*place, "groups", said[0], "fed_by"), message, "Say it in one of the two places.")
    elif said and len(said) < len(block.groups):
        silent = next(number for number in range(len(block.groups)) if number not in said)
        message = (
            f"nothing says what feeds group {block.groups[silent].name}, but other groups of its block do."
        )
        yield Found((*place, "groups", silent), message, "Add fed_by to each group, or to the block alone.")


def _cycles(feeders: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Of every start in the order of the file the first cycle that is reached, each once, along what feeds what."""
    done: set[str] = set()
    for start in feeders:
        path: list[str] = []
        steps: list[Iterator[str]] = []
        here: str | None = start if start not in done else None
        while here is not None:
            if here in path:
                yield path[path.index(here) :]
            elif here in feeders and here not in done:
                path.append(here)
                steps.append(iter(feeders[here]))
            here = None
            while steps and here is None:
                here = next(steps[-1], None)
                if here is None:
                    steps.pop()
                    done.add(path.pop())


def _redundancy(place: Place, site: schema.SiteModel) -> Iterator[Found]:
    places: dict[tuple[str, str], Place] = {("site", site.name): ()}
    places |= {("element", element.name): ("power", number) for number, element in enumerate(site.power)}
    for number, block in enumerate(site.blocks):
        places["block", block.name] = "blocks", number
        for index, group in enumerate(block.groups):
            places["group", f"{block.name}/{group.name}"] = "blocks", number, "groups", index
    made = site_of(site)
    graph = graph_of(made)
    deep = [leaf.block for leaf in graph.leaves if len(graph.ancestors(leaf.feeders)) > MOST_ABOVE]
    if deep and not graph.is_tree:
        message = f"more than {MOST_ABOVE} power elements stand over {deep[0]}."
        yield Found((*place, *places["block", deep[0]]), message, "Leave out those that limit nothing.")
        return
    for one in contradictions(made):
        yield Found((*place, *places[one.kind, one.what], "redundancy"), _said(one), one.next_step)


def _said(one: Contradiction) -> str:
    return one.message if one.kind == "site" else f"{one.what}: {one.message}"


def _windows(place: Place, site: schema.SiteModel) -> Iterator[Found]:
    here = (*place, "connection", "windows")
    if site.connection.windows and not site.connection.flexible:
        step = "Add flexible, or leave windows out."
        yield Found(here, "windows of a connection that has no flexible part.", step)
    for number, window in enumerate(site.connection.windows):
        if window.starts == window.until:
            step = "Write another time, or leave both out for the whole day."
            yield Found((*here, number, "until"), "a window that ends when it begins.", step)


def _curve(place: Place, curve: int | schema.PueCurveModel) -> Iterator[Found]:
    if isinstance(curve, int):
        return
    points = [(point.load, point.outdoor_c) for point in curve.points]
    for number, point in enumerate(points):
        if point in points[:number]:
            step = "Keep one of them."
            yield Found((*place, "points", number), f"two points at {_at(*point)}.", step)
    found = unscaled(curve)
    wrong = [f"it has a hole: there is no point at {_at(*hole)}." for hole in pue.holes(found)[:3]]
    if max(load for load, _ in points) < PERMILLE:
        wrong.append(f"it ends at load {max(load for load, _ in points) / PERMILLE:g}.")
    for message in wrong:
        yield Found((*place, "points"), message, "Give a PUE for each load, up to 1, at each temperature.")
    coldest, hottest = min(at for _, at in points), max(at for _, at in points)
    if not coldest <= curve.design_outdoor_c <= hottest:
        message = f"{curve.design_outdoor_c} °C lie outside of the curve ({coldest} to {hottest} °C)."
        yield Found((*place, "design_outdoor_c"), message, "Limits are kept for it: add points there.")
    for one in () if wrong else pue.falling(found):
        message = f"between load {one.from_permille / PERMILLE:g} and {one.to_permille / PERMILLE:g}, at {one.outdoor_c} °C,"
        step = "Its PUE falls faster than the load grows: mend one of the two points."
        yield Found((*place, "points"), f"{message} more IT load would draw less at the meter.", step)


def _at(load_permille: int, outdoor_c: int) -> str:
    return f"load {load_permille / PERMILLE:g} and {outdoor_c} °C"
