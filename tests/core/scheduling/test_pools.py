"""Pools choose what arrays choose, in whatever order things happen to them."""

from random import Random

import numpy as np
import pytest

from headrace.core.scheduling.columns import Ask, Columns, columns_of, scratch_of
from headrace.core.scheduling.pool import ROOM, bits_of, each_bit, packed, packed_rest
from headrace.core.scheduling.pools import SitePools, Undecided
from headrace.core.scheduling.rank import choose
from headrace.core.scheduling.snapshot import Snapshot
from tests.core.scheduling.small import World, fleet_of, group, site, take


def some_world(chance: Random) -> tuple[Columns, Snapshot]:
    """A site of one or two kinds of nodes, with some in use, some closed and power for some of the rest."""
    groups = [group("g", "lab", chance.randint(1, 6), chance.randint(1, 6), chance.choice((0, 0, 2_100)))]
    if chance.random() < 0.4:
        groups.append(
            group("h", chance.choice(("h100-8", "lab")), chance.randint(1, 3), chance.randint(1, 4))
        )
    feed_w = chance.choice((0, 6_000, 9_000, 20_000))
    world = World(fleet_of(site("glom", *groups, feed_w=feed_w)))
    for node in world.fleet.node_ids:
        if chance.random() < 0.2:
            world.closed.add(node)
        elif chance.random() < 0.4:
            mask = chance.choice((0, 0b1, 0b11, 0b1001))
            cpu_milli = chance.choice((0, 500, 4_000))
            work = world.submit(gpus=mask.bit_count(), cpu_milli=cpu_milli)
            world.run(work, (node, mask))
    return columns_of(world.fleet), world.snapshot()


def some_ask(chance: Random) -> Ask:
    """One node or a gang; of all, some or no accelerators; now and then whole nodes."""
    model = chance.choice(("lab", "lab", "lab", "H100", ""))
    accelerators = chance.choice((0, 1, 1, 2, 4, 4, 8))
    return Ask(
        nodes=chance.choice((1, 1, 1, 2, 3, 5, 9)),
        model=model,
        accelerators=accelerators,
        cpu_milli=chance.choice((0, 0, 500, 3_000)),
        memory_mb=chance.choice((0, 0, 1_000)),
        whole=chance.random() < 0.15,
    )


def entered(columns: Columns, snapshot: Snapshot) -> SitePools:
    """Pools of the first site in a pass."""
    pools = SitePools(columns, snapshot, 0)
    pools.enter(snapshot, 1)
    return pools


@pytest.mark.parametrize("seed", range(200))
def test_pools_choose_and_take_what_arrays_do(seed: int) -> None:
    """Side by side through starts, lowered limits and closed nodes: the same nodes, the same accelerators, or none."""
    chance = Random(seed)
    columns, snapshot = some_world(chance)
    state, pools = scratch_of(snapshot, columns), entered(columns, snapshot)
    asks = [some_ask(chance) for _ in range(8)]
    sieves = {ask: pools.sieves(ask) for ask in asks}
    for _ in range(60):
        ask = chance.choice(asks)
        expected = choose(columns, state, ask, 0)
        found = pools.choose(ask, sieves[ask])
        if isinstance(found, Undecided):
            assert ask.nodes > 1
            found = None if expected is None else expected.tolist()
        assert found == (None if expected is None else expected.tolist())
        if expected is not None and found is not None:
            assert pools.take(ask, found) == take(columns, state, ask, expected)
        if chance.random() < 0.05:
            elements = chance.sample(range(len(state.head_w) - 1), 2)
            state.head_w[elements] -= chance.choice((0, 300, 900))
            pools.limit(elements, state.head_w)
        if chance.random() < 0.05:
            nodes = chance.sample(range(len(state.open)), 1)
            state.open[nodes] = False
            pools.close(nodes)


def test_most_asks_are_decided_without_arrays() -> None:
    """One node is always decided; so are whole nodes of one kind while nothing but accelerators is taken of them."""
    chance = Random(7)
    columns, snapshot = some_world(chance)
    one_kind = columns_of(fleet_of(site("glom", group("g", "lab", 4, 4))))
    calm = entered(one_kind, World(one_kind.fleet).snapshot())
    for nodes in range(1, 18):
        ask = Ask(nodes, "lab", 4, 0, 0, False)
        found = calm.choose(ask, calm.sieves(ask))
        assert not isinstance(found, Undecided)
        assert (found is None) == (nodes > 16)
    for _ in range(50):
        ask = some_ask(chance)
        if ask.nodes == 1:
            pools = entered(columns, snapshot)
            assert not isinstance(pools.choose(ask, pools.sieves(ask)), Undecided)


def test_bits_are_read_as_they_are_written() -> None:
    """A mask of any length and its positions."""
    chance = np.random.default_rng(3)
    for length in (1, 8, 9, 64, 65, 5_000):
        mask = chance.random(length) < 0.3
        assert list(each_bit(bits_of(mask))) == np.flatnonzero(mask).tolist()


def sets_of(pools: SitePools) -> list[tuple[object, ...]]:
    """All of pools that changes."""
    return [
        (one.level, one.opened, one.asleep, one.mixed, one.bits, one.rest.tolist(), one.whole, one.racks_with)
        for one in pools.pools
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_gang_takes_at_once_what_it_would_take_node_by_node(seed: int) -> None:
    """Whole nodes, in whatever racks, with or without power that is watched: pools are the same afterwards."""
    chance = Random(seed)
    columns = columns_of(fleet_of(site("glom", group("g", "lab", 4, 4), feed_w=chance.choice((0, 9_000)))))
    snapshot = World(columns.fleet).snapshot()
    together, apart = entered(columns, snapshot), entered(columns, snapshot)
    free = list(range(16))
    while free:
        nodes = sorted(chance.sample(free, min(len(free), chance.randint(2, 5))))
        free = [node for node in free if node not in nodes]
        ask = Ask(len(nodes), "lab", 4, 500, 1_000, whole=chance.random() < 0.3)
        ranks = together.take(ask, nodes)
        assert ranks == tuple(rank for node in nodes for rank in apart.take(ask, [node]))
        assert together.head == apart.head
        assert together.history == apart.history
        assert sets_of(together) == sets_of(apart)


def test_processors_and_memory_are_enough_when_both_are() -> None:
    """As one number: up to the most that a document may say, and where less than nothing is left."""
    amounts = (-(10**9), -1, 0, 1, 500, 2**20, 10**9 - 1, 10**9)
    for cpu_milli in amounts:
        for memory_mb in amounts:
            rest = int(packed_rest(np.array([cpu_milli]), np.array([memory_mb]))[0])
            for some in amounts[2:]:
                for more in amounts[2:]:
                    fits = rest - packed(some, more) & ROOM == ROOM
                    assert fits is (some <= cpu_milli and more <= memory_mb)
