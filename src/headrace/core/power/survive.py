"""The second opinion on promise 1 where there are several ways up: is anything overloaded, whatever single element is lost?

It takes the estate as it was declared and what its groups of nodes draw, and walks every path anew for every loss. Nothing here
is shared with :mod:`headrace.core.power.allot`, which sets the limits that make it so, nor with the paths that that walks.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from headrace.core.estate import Site


@dataclass(frozen=True, slots=True)
class Overload:
    """``element`` would carry ``carried_w`` watts (rounded up) when ``lost`` ("": nothing) is lost, but is rated ``rating_w``.

    Both are named with their site (``glomfjord/feed-a``); the site alone is its connection, in watts at the meter.
    """

    element: str
    lost: str
    carried_w: int
    rating_w: int


def overloads(site: Site, group_w: Mapping[str, int]) -> Iterator[Overload]:
    """Every element above the blocks that is over its rating, in every case; ``group_w``: watts of IT load by ``block/group``."""
    fed = {
        element.id: element.feeders or ((element.fed_by,) if element.fed_by else ()) for element in site.power
    }
    ratings = {element.id: element.rating_w for element in site.power}
    drawn, unit = _drawn(site, group_w), _unit(fed, _hung(site))
    yield from _at_the_meter(site, sum(group_w.values()))
    for lost in ("", *fed):
        live = _reached(fed, lost)
        for name, carried in _carried(fed, drawn, live, unit).items():
            if carried > ratings[name] * unit:
                gone = f"{site.id}/{lost}" if lost else ""
                yield Overload(f"{site.id}/{name}", gone, -(-carried // unit), ratings[name])


def _unit(fed: Mapping[str, tuple[str, ...]], hung: Mapping[str, tuple[str, ...]]) -> int:
    """A watt in parts so small that every share of it on the way up is whole: it is divided once at each step of a path."""
    most = max((len(above) for above in (*fed.values(), *hung.values())), default=1)
    steps, front = 1, {name for name, above in fed.items() if not above}
    while front and steps <= len(fed):
        steps += 1
        front = {name for name, above in fed.items() if any(feeder in front for feeder in above)}
    unit: int = lcm(*range(1, most + 1)) ** steps
    return unit


def dark(site: Site, lost: str) -> tuple[str, ...]:
    """Groups (``block/group``) that no path from the connection reaches when an element (without its site's name) is lost."""
    fed = {
        element.id: element.feeders or ((element.fed_by,) if element.fed_by else ()) for element in site.power
    }
    live = _reached(fed, lost)
    return tuple(
        name for name, above in _hung(site).items() if above and not any(one in live for one in above)
    )


def above(site: Site, groups: Collection[str]) -> set[str]:
    """Every element on a path from some groups (``block/group``) up, with its site's name, and the connection."""
    fed = {
        element.id: element.feeders or ((element.fed_by,) if element.fed_by else ()) for element in site.power
    }
    front = {name for group, hangs in _hung(site).items() if group in groups for name in hangs}
    found: set[str] = set()
    while front:
        found |= front
        front = {feeder for name in front for feeder in fed[name]} - found
    return {site.id, *(f"{site.id}/{name}" for name in found)}


def several_ways(site: Site) -> bool:
    """Whether anything at a site is fed by more than one."""
    fed = any(element.feeders for element in site.power)
    return fed or any(block.feeders or any(group.feeders for group in block.groups) for block in site.blocks)


def _hung(site: Site) -> dict[str, tuple[str, ...]]:
    """What each group hangs on, by ``block/group``; nothing: the connection."""
    return {
        f"{block.id}/{group.id}": group.feeders or block.feeders or ((block.fed_by,) if block.fed_by else ())
        for block in site.blocks
        for group in block.groups
    }


def _drawn(site: Site, group_w: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    drawn: dict[tuple[str, ...], int] = {}
    for name, above in _hung(site).items():
        drawn[above] = drawn.get(above, 0) + group_w.get(name, 0)
    return drawn


def _reached(fed: Mapping[str, tuple[str, ...]], lost: str) -> set[str]:
    """Elements that power reaches from the connection, downwards from those that hang on it."""
    below: dict[str, list[str]] = {}
    for name, above in fed.items():
        for feeder in above:
            below.setdefault(feeder, []).append(name)
    front = {name for name, above in fed.items() if not above and name != lost}
    reached: set[str] = set()
    while front:
        reached |= front
        front = {name for over in front for name in below.get(over, ()) if name != lost} - reached
    return reached


def _carried(
    fed: Mapping[str, tuple[str, ...]], drawn: Mapping[tuple[str, ...], int], live: set[str], unit: int
) -> dict[str, int]:
    """What each live element carries, in parts of a watt: it passes its load on once all that it feeds has been counted."""
    # In the order of the estate: that of a set differs between processes.
    carried = {name: 0 for name in fed if name in live}
    for hangs, watts in drawn.items():
        _spread(carried, hangs, watts * unit)
    # Of each live element the live ones that it still waits for.
    waits = dict.fromkeys(carried, 0)
    for name in live:
        for feeder in fed[name]:
            if feeder in live:
                waits[feeder] += 1
    ready = [name for name, count in waits.items() if not count]
    while ready:
        name = ready.pop()
        _spread(carried, fed[name], carried[name])
        for feeder in fed[name]:
            if feeder in live:
                waits[feeder] -= 1
                if not waits[feeder]:
                    ready.append(feeder)
    return carried


def _spread(carried: dict[str, int], above: tuple[str, ...], parts: int) -> None:
    sharing = [feeder for feeder in above if feeder in carried]
    for feeder in sharing:
        carried[feeder] += parts // len(sharing)


def _at_the_meter(site: Site, it_w: int) -> Iterator[Overload]:
    curve, limit_w = site.pue_curve, site.connection.total_w
    if curve is None:
        meter_w = -(-it_w * site.pue_permille // 1_000)
    else:
        points = {(one.load_permille, one.outdoor_c): one.pue_permille for one in curve.points}
        meter_w = _by_curve(points, curve.design_outdoor_c, curve.full_load_w, it_w)
    if meter_w > limit_w:
        yield Overload(site.id, "", meter_w, limit_w)


def _by_curve(points: Mapping[tuple[int, int], int], degrees: int, full_w: int, it_w: int) -> int:
    """Watts at the meter at the design temperature; under the curve's least load its overhead stays what it is there."""
    loads = sorted({load for load, _ in points})
    outdoor = sorted({at for _, at in points})
    warm = next(at for at in outdoor if at >= degrees)
    cool = max([at for at in outdoor if at <= degrees], default=warm)
    weight = Fraction(degrees - cool, warm - cool) if warm > cool else Fraction(0)
    column = {load: points[load, cool] * (1 - weight) + points[load, warm] * weight for load in loads}
    load = Fraction(1_000 * it_w, full_w)
    if load <= loads[0]:
        least_w = Fraction(full_w * loads[0], 1_000)
        return -int(-(it_w + least_w * (column[loads[0]] - 1_000) / 1_000) // 1)
    low = max(one for one in loads if one < load)
    high = next((one for one in loads if one >= load), low)
    pue = (
        column[low]
        if high == low
        else column[low] + (column[high] - column[low]) * (load - low) / (high - low)
    )
    return -int(-(it_w * pue / 1_000) // 1)
