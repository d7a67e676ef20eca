"""Candidates and their order: what the choice of nodes rests on."""

from random import Random

import numpy as np
import pytest

from headrace.core.fleet import I64
from headrace.core.scheduling.columns import (
    Ask,
    Columns,
    Scratch,
    Use,
    _shift_few,
    _shift_many,
    ask_of,
    columns_of,
    empty_scratch,
    lowest_bits,
    scratch_of,
    shift,
    use_of,
)
from headrace.core.scheduling.leaving import Departures, Victims, holder_of, least_damage
from headrace.core.scheduling.rank import (
    _choose_of_few,
    _choose_of_many,
    _need_of_few,
    _need_of_many,
    _order_of_few,
    _order_of_many,
    candidates,
    choose,
    increments_w,
    suits,
)
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.topology import (
    _packs_of_few,
    _packs_of_many,
    _spread_of_few,
    _spread_of_many,
)
from tests.core.scheduling import rich
from tests.core.scheduling.small import World, fleet_of, group, site, take


def test_columns_repeat_what_the_catalogue_says_a_node_draws() -> None:
    """Watts by step and waking are `node_watts` for every use of every type."""
    fleet = fleet_of(site("a", group("g"), group("h", "h100-8"), group("i", "gb300-nvl72")))
    columns = columns_of(fleet)
    for index, kind in enumerate(fleet.node_hardware):
        hardware = fleet.hardware[kind]
        for used in range(hardware.accelerators + 1):
            more_w = hardware.node_watts(used, True) - hardware.idle_w
            assert more_w == columns.wake_w[index] + used * columns.step_w[index]


def test_paths_are_those_of_the_power_tree() -> None:
    """Every node's column lists its elements upwards and ends past the last."""
    fleet = fleet_of(site("a", group(), feed_w=9_000), site("b", group("h", racks=2)))
    columns = columns_of(fleet)
    for index, leaf in enumerate(fleet.node_leaf):
        path = [element for element in columns.paths[:, index].tolist() if element < len(fleet.power_ids)]
        assert path == fleet.path(int(leaf))


def test_finds_a_gang_its_power_even_where_the_preferred_nodes_would_waste_it() -> None:
    """Waking an idle node costs 100 W more: only the two that are awake have the power together."""
    world = World(fleet_of(site("glom", group(per_rack=3))))
    for number in (1, 2):
        world.run(world.submit(gpus=0, model=""), (f"glom/b/g-0-{number}", 0))
    world.limits_w["glom"] = 200 + 300 + 300 + 2 * 175
    snapshot, columns = world.snapshot(), columns_of(world.fleet)
    state = scratch_of(snapshot, columns)
    nodes = choose(columns, state, Ask(2, "lab", 1, 0, 0, False), 0)
    assert nodes is not None
    assert nodes.tolist() == [1, 2]
    assert choose(columns, state, Ask(3, "lab", 1, 0, 0, False), 0) is None


def test_what_is_taken_and_given_back_leaves_nothing_behind() -> None:
    """`take`, then `shift` back: every column is as before, power included."""
    world = World(fleet_of(site("glom", group(racks=2), feed_w=50_000)))
    world.run(world.submit(gpus=1), ("glom/b/g-0-0", 0b1))
    columns = columns_of(world.fleet)
    state = scratch_of(world.snapshot(), columns)
    before = state.copy()
    ask = Ask(6, "lab", 3, 500, 700, False)
    nodes = choose(columns, state, ask, 0)
    assert nodes is not None
    ranks = take(columns, state, ask, nodes)
    shift(columns, state, use_of(world.fleet, ranks), 1)
    for name in ("bits", "free", "cpu_milli", "memory_mb", "ranks"):
        assert (getattr(state, name) == getattr(before, name)).all()
    assert (state.head_w[:-1] == before.head_w[:-1]).all()


@pytest.mark.parametrize(
    ("bits", "count", "mask"), [(0b1011, 2, 0b11), (0b1010, 2, 0b1010), (1 << 63, 1, 1 << 63)]
)
def test_lowest_bits(bits: int, count: int, mask: int) -> None:
    """Of the bits that are set, the lowest."""
    assert lowest_bits(bits, count) == mask


def test_candidates_name_the_filter_that_leaves_too_few() -> None:
    """One node each falls to hardware, state, room and power."""
    world = World(fleet_of(site("glom", group("g", racks=4, per_rack=1), group("h", "h100-8"))))
    world.closed.add("glom/b/g-0-0")
    world.run(world.submit(gpus=4), ("glom/b/g-1-0", 0b1111))
    world.limits_w["glom/b/g-2"] = 250
    columns = columns_of(world.fleet)
    found = candidates(columns, scratch_of(world.snapshot(), columns), Ask(1, "lab", 1, 0, 0, False), 0)
    assert [len(nodes) for nodes in (found.suit, found.ready, found.roomy, found.powered)] == [4, 3, 2, 1]
    reasons = [found.refusal(wanted) for wanted in (5, 4, 3, 2, 1)]
    assert reasons == [Refusal.HARDWARE, Refusal.NODE_STATE, Refusal.CAPACITY, Refusal.POWER, None]


def test_one_gang_is_evicted_rather_than_two_larger_fillers() -> None:
    """The fewest, though neither age nor size says so: only trying shows that the old gang alone is enough."""
    world = World(fleet_of(site("glom", group(per_rack=4))))
    gang = world.run(world.submit("filler", 2, 2), ("glom/b/g-0-0", 0b11), ("glom/b/g-0-1", 0b11))
    for number in (2, 3):
        world.run(world.submit("filler", gpus=4), (f"glom/b/g-0-{number}", 0b1111))
    job = world.submit(nodes=2, gpus=4)
    snapshot, columns = world.snapshot(), columns_of(world.fleet)
    state, ask = scratch_of(snapshot, columns), ask_of(job.spec)
    holders = [holder_of(snapshot, placement) for placement in world.placements.values()]

    def fit(now: object) -> I64 | None:
        return choose(columns, state, ask, 0)

    departures = Departures(columns, state, fit)
    victims = Victims.of([holder for holder in holders if holder is not None], snapshot.now_ms)
    found = least_damage(departures, ask, 0, victims)
    assert found is not None
    assert [holder.placement.id for holder in found.holders] == [gang.id]
    departures.reset()
    assert (state.free == scratch_of(snapshot, columns).free).all()


def test_the_empty_estate_draws_idle_watts_for_what_is_there_today() -> None:
    """Four nodes today, four of next year: the connection carries what it carries now."""
    fleet = fleet_of(
        site("now", group(), power_w=5_000), site("then", group(), commissioned="2031-01-01", power_w=5_000)
    )
    state = empty_scratch(columns_of(fleet), 20260101)
    roots = [fleet.power_index[place.id] for place in fleet.sites]  # type: ignore[index]
    assert state.head_w[roots].tolist() == [4_200, 5_000]
    assert np.all(state.open)


def _busy_world(chance: Random) -> tuple[World, Columns, Scratch, list[Use]]:
    """Two racks and more with something on most nodes, and the rows of all that."""
    world = World(fleet_of(site("glom", group(racks=5, per_rack=chance.randint(1, 7)), feed_w=90_000)))
    used = []
    for node in world.fleet.node_ids:
        for mask in (0b1, 0b110):
            if chance.random() < 0.5:
                world.run(world.submit(gpus=mask.bit_count()), (node, mask))
                used.append(Use(world.fleet.node_index[node], mask, 0, 0))
    columns = columns_of(world.fleet)
    return world, columns, scratch_of(world.snapshot(), columns), used


@pytest.mark.parametrize("seed", range(40))
def test_few_and_many_nodes_are_treated_alike(seed: int) -> None:
    """Cell by cell and by arrays: the same order of a gang, the same needs, the same state once given back."""
    chance = Random(seed)
    _, columns, state, used = _busy_world(chance)
    nodes = np.flatnonzero(state.free >= 1)
    wanted = chance.randint(1, len(nodes))
    few, many = (order(columns, state, nodes, wanted) for order in (_order_of_few, _order_of_many))
    assert few.tolist() == many.tolist()
    added = increments_w(columns, state, Ask(1, "lab", 1, 0, 0, False), nodes)
    needs = [need(columns, nodes, added) for need in (_need_of_few, _need_of_many)]
    past = len(columns.fleet.power_ids)
    maps = [{e: w for e, w in zip(*map(np.ndarray.tolist, need), strict=True) if e != past} for need in needs]
    assert maps[0] == maps[1]
    one, other = state.copy(), state.copy()
    _shift_few(columns, one, used, 1)
    node, mask, cpu_milli, memory_mb, *_ = zip(*used, strict=True)
    _shift_many(columns, other, node, mask, cpu_milli, memory_mb, 1)
    for name in ("bits", "free", "cpu_milli", "memory_mb", "ranks"):
        assert (getattr(one, name) == getattr(other, name)).all()
    assert (one.head_w[:-1] == other.head_w[:-1]).all()


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_a_small_site_is_searched_node_by_node_as_a_large_one_is_by_arrays(first: int) -> None:
    """The same nodes for everything that waits in worlds of all shapes, at each of their sites."""
    asked = found = 0
    for seed in range(first, first + 50):
        world = rich.make(seed).world
        snapshot, columns = world.snapshot(), columns_of(world.fleet)
        state = scratch_of(snapshot, columns)
        for work in world.queue():
            ask = ask_of(work.spec)
            if ask.is_fraction:
                continue
            for number, span in enumerate(columns.spans):
                suit = suits(columns, ask, number)
                few = _choose_of_few(columns, state, ask, span, suit)
                many = _choose_of_many(columns, state, ask, number, suit)
                assert (few is None) == (many is None)
                if few is not None and many is not None:
                    assert few.tolist() == many.tolist()
                    found += 1
                asked += 1
    assert 0 < found < asked


@pytest.mark.parametrize("seed", range(40))
def test_few_and_many_nodes_are_packed_and_spread_alike(seed: int) -> None:
    """The same groups in the same order, and the same turns."""
    chance = np.random.default_rng(seed)
    count = int(chance.integers(1, 40))
    groups, added, free = (chance.integers(0, most, count) for most in (6, 3, 4))
    nodes, wanted = np.sort(chance.permutation(100)[:count]), int(chance.integers(1, 5))
    few = [each.tolist() for each in _packs_of_few(groups.tolist(), free.tolist(), wanted)]
    assert few == [each.tolist() for each in _packs_of_many(groups, free, wanted)]
    rows = list(zip(groups.tolist(), added.tolist(), free.tolist(), nodes.tolist(), strict=True))
    for required in (False, True):
        one_by_one = _spread_of_few(rows, required=required)
        assert one_by_one == _spread_of_many(groups, added, free, nodes, required=required).tolist()
