"""Who holds accelerators when they are shared in time: what must hold of every decision."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.ids import WorkloadId
from headrace.core.scheduling.timeshare import (
    Contender,
    Decision,
    Layout,
    NodeRoom,
    Standing,
    class_of,
    decide,
)
from headrace.core.units import MS_PER_HOUR

MANY = settings(max_examples=150, deadline=None)
HOUR = MS_PER_HOUR


def job(name: str, accelerators: int, index: int, nodes: int = 1, **more: object) -> Contender:
    """One that waits unless it says ``on``; its turn by name."""
    return replace(
        Contender(WorkloadId(name), accelerators, nodes, index, ord(name[0])),
        **more,  # type: ignore[arg-type]
    )


def layout_of(found: Decision, contenders: Sequence[Contender]) -> Layout:
    on = {one.id: one.on for one in contenders}
    return {ident: on[ident] for ident in found.keep} | found.start | found.later


def after(found: Decision, contenders: Sequence[Contender]) -> list[Contender]:
    """The contenders once all has been carried out."""
    layout = layout_of(found, contenders)
    return [replace(one, on=layout.get(one.id, ())) for one in contenders]


def rooms_after(
    rooms: Sequence[NodeRoom], before: Sequence[Contender], now: Sequence[Contender]
) -> list[NodeRoom]:
    free = [room.free + room.leaving for room in rooms]
    for sign, contenders in ((1, before), (-1, now)):
        for one in contenders:
            for node in one.on:
                free[node] += sign * one.accelerators
    return [NodeRoom(each) for each in free]


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[Contender], list[NodeRoom]]:
    """Nodes of any size; jobs of any shape, some of which run already, some protected; stated durations, estimates or both."""
    sizes = draw(st.lists(st.integers(1, 8), min_size=1, max_size=6))
    exact = draw(st.sampled_from([{False}, {True}, {False, True}]))
    free = list(sizes)
    contenders = []
    for number in range(draw(st.integers(0, 14))):
        accelerators, nodes = draw(st.integers(1, 8)), draw(st.sampled_from([1, 1, 1, 2, 3]))
        room = [node for node, left in enumerate(free) if left >= accelerators]
        runs = len(room) >= nodes and draw(st.booleans())
        on = tuple(sorted(draw(st.permutations(room))[:nodes])) if runs else ()
        for node in on:
            free[node] -= accelerators
        contenders.append(
            Contender(
                WorkloadId(f"w-{number}"),
                accelerators,
                nodes,
                draw(st.sampled_from([1, 5, 64, 70, 1_000, 9_999])) * 1_000 * accelerators * nodes,
                number,
                draw(st.sampled_from([0, 0, 1, 500])),
                draw(st.sampled_from(sorted(exact))),
                on,
                protected=bool(on) and draw(st.integers(0, 5)) == 0,
            )
        )
    leaving = [draw(st.integers(0, left)) for left in free]
    return contenders, [NodeRoom(left - less, less) for left, less in zip(free, leaving, strict=True)]


@MANY
@given(groups())
def test_never_gives_more_than_there_is_and_gangs_whole(
    group: tuple[list[Contender], list[NodeRoom]],
) -> None:
    """Each has all its nodes, different ones, or none; no node holds more than it has; what starts now needs nobody to leave."""
    contenders, rooms = group
    found = decide(contenders, rooms, 0)
    shape = {one.id: one for one in contenders}
    for ident, nodes in layout_of(found, contenders).items():
        assert len(set(nodes)) == len(nodes) == shape[ident].nodes
    assert all(room.free >= 0 for room in rooms_after(rooms, contenders, after(found, contenders)))
    free = [room.free for room in rooms]
    for ident, nodes in found.start.items():
        assert not shape[ident].on
        for node in nodes:
            free[node] -= shape[ident].accelerators
    assert min(free) >= 0


@MANY
@given(groups())
def test_names_everybody_once(group: tuple[list[Contender], list[NodeRoom]]) -> None:
    """Who runs stays or is evicted; who is given nodes either starts or waits for them; protected ones stay."""
    contenders, rooms = group
    found = decide(contenders, rooms, 0)
    running = [one.id for one in contenders if one.on]
    assert sorted((*found.keep, *found.evict)) == sorted(running)
    assert not found.start.keys() & found.later.keys()
    assert {one.id for one in contenders if one.protected} <= set(found.keep)


@MANY
@given(groups())
def test_a_decision_carried_out_is_confirmed(group: tuple[list[Contender], list[NodeRoom]]) -> None:
    """Deciding again at the same instant changes nothing: no ping-pong."""
    contenders, rooms = group
    now = after(decide(contenders, rooms, 0), contenders)
    again = decide(now, rooms_after(rooms, contenders, now), 0)
    assert (again.start, again.later, again.evict) == ({}, {}, ())


@MANY
@given(groups())
def test_who_runs_stays_unless_a_better_class_needs_the_room(
    group: tuple[list[Contender], list[NodeRoom]],
) -> None:
    """Of estimates: one that has to wait again does so for one of a strictly better class that gets nodes."""
    contenders, rooms = group
    contenders = [replace(one, exact=False) for one in contenders]
    found = decide(contenders, rooms, 0)
    given_nodes = found.start | found.later
    lead = {one.id: one.lead for one in contenders}
    for ident in found.evict:
        if ident not in given_nodes:
            assert min((lead[other] for other in given_nodes), default=lead[ident]) < lead[ident]


@MANY
@given(groups())
def test_nobody_waits_who_fits_beside_all_others(group: tuple[list[Contender], list[NodeRoom]]) -> None:
    """What is left over is too little for any that waits."""
    contenders, rooms = group
    now = after(decide(contenders, rooms, 0), contenders)
    free = [room.free for room in rooms_after(rooms, contenders, now)]
    for one in now:
        if not one.on:
            assert sum(left >= one.accelerators for left in free) < one.nodes


@MANY
@given(groups(), st.randoms(use_true_random=False))
def test_the_order_in_which_they_are_given_does_not_matter(
    group: tuple[list[Contender], list[NodeRoom]],
    chance: object,
) -> None:
    """The same contenders in any order: the same nodes for the same ones."""
    contenders, rooms = group
    mixed = sorted(contenders, key=lambda one: (chance.random(), one.id))  # type: ignore[attr-defined]
    first, second = decide(contenders, rooms, 0), decide(mixed, rooms, 0)
    assert layout_of(first, contenders) == layout_of(second, mixed)


@st.composite
def even_groups(draw: st.DrawFn) -> tuple[list[Contender], list[NodeRoom]]:
    """Nodes of eight and jobs in powers of two, which pack whenever they are few enough."""
    free = [8] * draw(st.integers(1, 4))
    contenders = []
    for number in range(draw(st.integers(0, 14))):
        nodes = draw(st.sampled_from([1, 1, 1, 2]))
        accelerators = 8 if nodes > 1 else draw(st.sampled_from([1, 2, 4, 8]))
        room = [node for node, left in enumerate(free) if left >= accelerators]
        runs = len(room) >= nodes and draw(st.booleans())
        on = tuple(room[:nodes]) if runs else ()
        for node in on:
            free[node] -= accelerators
        index = draw(st.sampled_from([1, 5, 64, 70, 1_000, 9_999])) * 1_000 * accelerators * nodes
        contenders.append(
            Contender(
                WorkloadId(f"w-{number}"), accelerators, nodes, index, number, draw(st.integers(0, 3)), on=on
            )
        )
    return contenders, [NodeRoom(left) for left in free]


@MANY
@given(even_groups())
def test_while_those_evicted_are_leaving_nobody_else_is_and_nobody_slips_in(
    group: tuple[list[Contender], list[NodeRoom]],
) -> None:
    """The room that is being freed stays with those for whom it is freed."""
    contenders, rooms = group
    found = decide(contenders, rooms, 0)
    free, leaving = [room.free for room in rooms], [0] * len(rooms)
    now = []
    for one in contenders:
        on = found.start.get(one.id, () if one.id in found.evict else one.on)
        for node in one.on if one.id in found.evict else ():
            leaving[node] += one.accelerators
        for node in found.start.get(one.id, ()):
            free[node] -= one.accelerators
        now.append(replace(one, on=on))
    again = decide(now, [NodeRoom(*each) for each in zip(free, leaving, strict=True)], 0)
    assert again.evict == ()
    assert sorted((*again.start, *again.later)) == sorted(found.later)


def test_classes_are_powers_of_two_of_accelerator_seconds() -> None:
    """An estimate counts by the class that it is in, a stated duration exactly."""
    assert [class_of(index) for index in (999, 1_000, 1_999, 2_000, 7_999)] == [0, 1_000, 1_000, 2_000, 4_000]
    assert job("a", 1, 7_999).lead == 4_000
    assert job("a", 1, 7_999, exact=True).lead == 7_999


def test_an_estimate_that_is_a_little_better_evicts_nobody() -> None:
    """Within a class who runs goes on; of stated durations the shorter one goes first."""
    rooms = [NodeRoom(0)]
    for exact, evicted in ((False, ()), (True, ("r",))):
        contenders = [job("r", 8, 60_000, on=(0,), exact=exact), job("w", 8, 50_000, exact=exact)]
        assert decide(contenders, rooms, 0).evict == evicted


def test_one_that_does_not_fit_blocks_nobody() -> None:
    """The gang of two nodes is first in line, but one node is protected: the small one starts beside it."""
    contenders = [
        job("g", 8, 1_000, nodes=2),
        job("p", 8, 9_000_000, on=(0,), protected=True),
        job("s", 1, 500_000),
    ]
    found = decide(contenders, [NodeRoom(0), NodeRoom(8)], 0)
    assert (found.keep, found.start, found.evict) == (("p",), {"s": (1,)}, ())


def test_moves_only_when_one_that_is_chosen_finds_no_room_otherwise() -> None:
    """Two halves on two nodes: a whole one makes one of them move; another half does not."""
    halves = [job("a", 4, 1_000, on=(0,)), job("b", 4, 1_000, on=(1,))]
    rooms = [NodeRoom(4), NodeRoom(4)]
    whole = decide([*halves, job("w", 8, 9_000)], rooms, 0)
    assert (whole.keep, whole.evict, whole.start) == (("b",), ("a",), {})
    assert whole.later == {"w": (0,), "a": (1,)}
    half = decide([*halves, job("w", 4, 9_000)], rooms, 0)
    assert (half.keep, half.evict, half.start) == (("a", "b"), (), {"w": (0,)})


def test_best_fit_leaves_whole_nodes_whole() -> None:
    """A small one goes where least is left."""
    rooms = [NodeRoom(8), NodeRoom(3), NodeRoom(4)]
    assert decide([job("s", 3, 1_000)], rooms, 0).start == {"s": (1,)}


def test_what_leaves_is_counted_but_not_given_yet() -> None:
    """Nobody is evicted for room that is about to be free; who is chosen waits for it."""
    contenders = [job("r", 4, 9_000_000, on=(0,)), job("w", 4, 1_000)]
    found = decide(contenders, [NodeRoom(0, 4)], 0)
    assert (found.keep, found.start, found.later, found.evict) == (("r",), {}, {"w": (0,)}, ())


def _short_and_wide(waiting: int) -> list[Contender]:
    """On 16 accelerators: eight jobs run for 8.5 hours more; one of nine would end in an hour; some of 100 hours wait."""
    running = [job(f"r{number}", 1, 17 * HOUR // 2, exact=True, on=(0,)) for number in range(8)]
    wide = job("w", 9, 9 * HOUR, exact=True)
    return [*running, wide, *(job(f"z{number}", 1, 100 * HOUR, exact=True) for number in range(waiting))]


def test_exchanges_narrow_ones_for_a_short_wide_one_that_is_worth_more() -> None:
    """All of eight and one more make way for the wide one; but not while so little waits that its turn comes soon anyway."""
    few = decide(_short_and_wide(14), [NodeRoom(8)], 0)
    assert (len(few.keep), len(few.start), few.evict) == (8, 8, ())
    many = decide(_short_and_wide(15), [NodeRoom(8)], 0)
    assert (many.start, many.later, many.evict) == ({}, {"w": (0,)}, ("r7",))
    slow = [replace(one, index=9 * 8 * HOUR) if one.id == "w" else one for one in _short_and_wide(15)]
    assert decide(slow, [NodeRoom(8)], 0).evict == ()


def test_says_when_one_that_runs_falls_behind() -> None:
    """At the first edge of the outlook where its class is worse than the best that waits; the delay comes on top."""
    outlook = ((10_000, 9_000), (20_000, 40_000), (40_000, 900_000))
    runs = job("r", 8, 8_000, on=(0,), attained_ms=5_000, outlook=outlook, delay_ms=70)
    waits = job("w", 8, 33_000, ripens_ms=1 << 50)
    assert decide([runs, waits], [NodeRoom(0)], 1_000_000).again_ms == 1_000_000 + 70 + 35_000
    assert decide([runs], [NodeRoom(0)], 1_000_000).again_ms is None
    carried_on = replace(runs, attained_ms=40_000, index=900_000)
    assert decide([carried_on, waits], [NodeRoom(0)], 1_035_070).evict == ("r",)


def test_says_when_one_that_waits_comes_before_one_that_runs() -> None:
    """By ageing alone, if half of its index is a better class than the worst that runs."""
    runs, waits = job("r", 8, 8_000, on=(0,)), job("w", 8, 15_000, ripens_ms=77)
    assert decide([runs, waits], [NodeRoom(0)], 5).again_ms == 77
    assert decide([replace(runs, index=4_000), waits], [NodeRoom(0)], 5).again_ms is None


def test_standing_gives_the_foremost_of_each_shape() -> None:
    """As many as there is room for; put again, one stands once, at its new place; ripe ones are named."""
    standing = Standing()
    for name, index in (("a", 9_000), ("b", 3_000), ("c", 5_000)):
        standing.put(job(name, 4, index * 4, ripens_ms=index))
    standing.put(job("g", 8, 1_000, nodes=2))
    assert [one.id for one in standing.foremost(8)] == ["b", "c"]
    assert [one.id for one in standing.foremost(16)] == ["b", "c", "a", "g"]
    assert standing.ripe(5_000) == ["b", "c"]
    standing.put(job("a", 4, 1_000))
    standing.drop(WorkloadId("b"))
    standing.drop(WorkloadId("b"))
    assert [one.id for one in standing.foremost(8)] == ["a", "c"]
    assert (len(standing), "a" in standing, "b" in standing) == (3, True, False)


@MANY
@given(groups())
def test_the_foremost_are_enough(group: tuple[list[Contender], list[NodeRoom]]) -> None:
    """Of estimates: the decision is the same without those that stand too far behind."""
    contenders, rooms = group
    contenders = [replace(one, exact=False) for one in contenders]
    standing = Standing()
    for one in contenders:
        if not one.on:
            standing.put(one)
    capacity = sum(room.free + room.leaving for room in rooms)
    capacity += sum(one.size for one in contenders if one.on)
    few = [*(one for one in contenders if one.on), *standing.foremost(capacity)]
    first, second = decide(contenders, rooms, 0), decide(few, rooms, 0)
    assert layout_of(first, contenders) == layout_of(second, few)


def test_one_that_would_have_to_move_waits_behind_an_equal_that_came_before_it() -> None:
    """It leaves first, and whoever leaves waits: no room is promised to it that the other is given a moment later."""
    stays = [job(name, 2, 2_000, on=(0,)) for name in "abc"]
    large, earlier, mover = job("d", 8, 8_000), job("e", 2, 128_000), job("f", 2, 128_000, on=(1,))
    found = decide([*stays, large, earlier, mover], [NodeRoom(2), NodeRoom(6)], 0)
    assert (found.start, found.later, found.evict) == ({"e": (0,)}, {"d": (1,)}, ("f",))
