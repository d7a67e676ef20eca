"""What a plant simulates of an estate: which sites, which meters stand where, how many miners, how things fail."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np

from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.estate import Estate, Site
from headrace.core.fleet import Fleet, compile_fleet
from headrace.core.units import format_watts
from headrace.documents.load import load
from headrace.plant.meters import PlantMeter
from headrace.plant.modbus_server import UNITS
from headrace.plant.physics import Failure, MinerPlace, Physics, Speeds

MAX_NODES = 25_000
MOST_WARNED = 20
"""So many elements that carry too little are named."""
METERED = ("connection", "transformer", "feed", "ups", "busway", "block", "row")
"""Kinds of element that have a meter, unless racks are asked for too."""
FAILURES = (Failure.SILENT, Failure.REFUSES, Failure.IGNORES, Failure.SLOW, Failure.GONE)


@dataclass(frozen=True, slots=True)
class Options:
    """What a plant is started with. ``load_permille``: what each node wants of its nameplate. ``miners`` hang at ``miners_at``
    ("": the connection). ``fail_permille`` of controllers and miners fail from the start, in ways that the ``seed`` draws from
    ``fail_as`` (none: all five). ``port_base`` 0: free ports.
    """

    site: str = ""
    speed: int = 1
    port_base: int = 0
    fail_permille: int = 0
    fail_as: tuple[Failure, ...] = ()
    seed: int = 1
    load_permille: int = 700
    miners: int = 0
    miner_w: int = 3_300
    miners_at: str = ""
    racks: bool = False
    lag_ms: int = 2_000
    way: str = "mixed"
    tls: bool = False
    speeds: Speeds = field(default_factory=Speeds)


def read_estate(path: Path) -> Estate:
    """The estate in a file; HeadraceError when there is none, or more than one."""
    estates = [one.value for one in load(path) if isinstance(one.value, Estate)]
    if len(estates) != 1:
        text = f"{len(estates)} estates in {path};"
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, "Give a file with one kind: estate."))
    return estates[0]


def site_fleet(estate: Estate, name: str) -> Fleet:
    """The site called ``name`` ("": the only one, or the first) as a fleet of its own; HeadraceError when there is none."""
    chosen: Sequence[Site] = [one for one in estate.sites if name in ("", one.id)]
    if not chosen:
        raise HeadraceError(unknown("site", name, [str(one.id) for one in estate.sites]))
    fleet = compile_fleet(Estate(estate.operator, (chosen[0],), estate.hardware))
    count = len(fleet.node_ids)
    if not 0 < count <= MAX_NODES:
        text = f"site {chosen[0].id} has {count} nodes;"
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, f"A plant carries 1 to {MAX_NODES}."))
    return fleet


def make_physics(fleet: Fleet, options: Options, now_ms: int) -> Physics:
    """The site's physics, loaded and with its failures."""
    element = options.miners_at or str(fleet.sites[0].id)
    if element not in fleet.power_index:
        raise HeadraceError(unknown("power element", element, [str(one) for one in fleet.power_ids]))
    at = fleet.power_index[fleet.power_ids[[str(one) for one in fleet.power_ids].index(element)]]
    site = fleet.sites[0].id
    miners = [
        MinerPlace(f"{site}/hall/m{number:04d}", at, options.miner_w) for number in range(options.miners)
    ]
    miners += _hall(fleet)
    physics = Physics(fleet, miners, options.speeds, options.seed, now_ms)
    physics.demand_w[:] = (physics.nameplate_w * options.load_permille / 1_000).clip(
        physics.idle_w, physics.nameplate_w
    )
    physics.settle()
    chance = Random(options.seed)
    kinds = options.fail_as or FAILURES
    for column in (physics.failure, physics.miner_failure):
        # Exactly so many, for a figure that says "5 % of the actuators" should mean it.
        failing = chance.sample(range(len(column)), len(column) * options.fail_permille // 1_000)
        for number in failing:
            column[number] = chance.choice(kinds)
    return physics


def overloads(fleet: Fleet, physics: Physics) -> list[str]:
    """Elements that carry less than what hangs on them draws from the start, each in a line with its figures.

    Nodes as they are loaded, and miners; the connection at its meter, with what cooling takes.
    """
    site, found = fleet.sites[0], []
    count = len(fleet.power_ids)
    for number, name in enumerate(fleet.power_ids):
        is_root = fleet.power_parent[number] < 0
        rating_w = site.connection.total_w if is_root else int(fleet.power_limit_w[number])
        draws_w = round(float(physics.element_w[number]))
        if draws_w <= rating_w:
            continue
        below = [one for one in range(count) if number in _above(fleet, one)]
        nodes_w = float(physics.drawn_w[np.isin(fleet.node_leaf, below)].sum())
        miners_w = float(physics.miner_w[np.isin(physics.miner_element, below)].sum())
        parts = f"nodes {format_watts(round(nodes_w))}, miners {format_watts(round(miners_w))}"
        parts += ", and its cooling" if is_root else ""
        found.append(
            f"warning: {name} carries {format_watts(rating_w)}, and {format_watts(draws_w)} hang on it ({parts}). "
            "Raise its rating, give fewer --miners or hang them elsewhere with --miners-at, or give less --load."
        )
        if len(found) == MOST_WARNED:
            break
    return found


def _above(fleet: Fleet, element: int) -> list[int]:
    """An element and all above it."""
    found = []
    while element >= 0:
        found.append(element)
        element = int(fleet.power_parent[element])
    return found


def _hall(fleet: Fleet) -> list[MinerPlace]:
    """The nodes of a fleet that are mining machines."""
    kinds = [fleet.hardware[number] for number in fleet.node_hardware.tolist()]
    return [
        MinerPlace(
            str(fleet.node_ids[node]), int(fleet.node_leaf[node]), one.nameplate_w, node, one.mj_per_th
        )
        for node, one in enumerate(kinds)
        if one.is_miner
    ]


def make_meters(fleet: Fleet, racks: bool) -> list[PlantMeter]:
    """A meter at each element of the tree above the racks, and with ``racks`` at those too."""
    wanted = (*METERED, "rack") if racks else METERED
    places = [number for number, kind in enumerate(fleet.power_kind) if kind in wanted]
    return [
        PlantMeter(f"{fleet.power_ids[element]}/meter", element, number // UNITS, number % UNITS + 1)
        for number, element in enumerate(places)
    ]
