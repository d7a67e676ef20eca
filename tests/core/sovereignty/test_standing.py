"""One changed holding re-evaluated is what a fresh evaluation finds, in random graphs with rings, ranges and rights."""

from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.sovereignty.graph import DILUTED_VOTES, SHARES, VIEWS, VOTES, Graph
from headrace.core.sovereignty.groups import group_outside
from headrace.core.sovereignty.holdings import (
    WHOLE_PPM,
    Answer,
    Conversion,
    Holdings,
    Interest,
    InterestId,
    InterestKind,
    PartyId,
    Share,
    flaws,
)
from headrace.core.sovereignty.standing import Standing
from tests.core.sovereignty.small import DAY, graph, holdings, link, party


def a_share(chance: Random, left: int) -> Share:
    ppm = chance.choice((left, left // 2, left // 3, min(left, 500_000), min(left, 500_001)))
    if chance.random() < 0.25:
        return Share(chance.randint(0, ppm), min(WHOLE_PPM, ppm + chance.choice((0, 1_000, 300_000))))
    return Share.exact(ppm)


def an_interest(chance: Random, names: list[str], number: int) -> Interest:
    subject = chance.choice([name for name in names if name.startswith("c")])
    holder = chance.choice(names)
    kind = chance.choices(
        [
            InterestKind.SHARES,
            InterestKind.VOTES,
            InterestKind.CONVERTIBLE,
            InterestKind.INFLUENCE,
            InterestKind.BOARD,
        ],
        [80, 6, 6, 4, 4],
    )[0]
    return Interest(
        InterestId(f"i{number}"), kind, PartyId(holder), PartyId(subject), a_share(chance, WHOLE_PPM),
        converts=Conversion(a_share(chance, 400_000)) if kind is InterestKind.CONVERTIBLE else None,
        decisive=chance.choice(list(Answer)),
    )  # fmt: skip


def fitting(before: Holdings, new: Interest) -> Holdings | None:
    """The holdings with an interest, if they have no flaw then."""
    made = before.with_interest(new)
    return None if list(flaws(made)) else made


def a_world(chance: Random) -> Holdings:
    size = chance.randint(2, 9)
    names = [*(f"c{number}" for number in range(size)), "p0", "p1", "u0"]
    countries = {name: chance.choice(("NO", "US", "")) for name in names}
    parties = [
        party(
            name,
            country="" if name[0] == "p" else countries[name],
            headquarters="" if name[0] == "p" else countries[name],
            residences=(countries[name],) if name[0] == "p" and countries[name] else (),
            nationalities=(countries[name],) if name[0] == "p" and countries[name] else (),
        )
        for name in names
    ]
    made = holdings([], parties=parties)
    if chance.random() < 0.6:
        # Rings that own each other wholly, some of them with complete lists.
        ring = chance.sample(names[:size], chance.randint(2, size))
        links = [link(one, ring[(at + 1) % len(ring)], 100) for at, one in enumerate(ring)]
        made = holdings(links, parties=parties, complete=" ".join(ring) if chance.random() < 0.7 else "")
    for number in range(3 * size):
        made = fitting(made, an_interest(chance, names, number)) or made
    return made


def same(one: Standing, other: Standing) -> None:
    for (name, view, found), (_, _, fresh) in zip(one.rows(), other.rows(), strict=True):
        where = name, str(view)
        for mine, theirs in zip(found.reach.shares(), fresh.reach.shares(), strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=str(where))
        for mine, theirs in zip(found.links, fresh.links, strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=str(where))
        for mine, theirs in zip(found.ranks or (), fresh.ranks or (), strict=True):
            np.testing.assert_array_equal(mine >= 0, theirs >= 0, err_msg=str(where))
    for view in (VOTES, DILUTED_VOTES):
        np.testing.assert_array_equal(one.tops(view), other.tops(view), err_msg=str(view))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_a_changed_holding_is_as_a_fresh_evaluation_finds_it(seed: int) -> None:
    """A chain of changes (shares up, down, gone, new; rings that close and open), each against all anew."""
    chance = Random(seed)
    held = a_world(chance)
    of = Graph(held, DAY)
    groups = {"outside": group_outside(of, ("NO",))}
    standing = Standing.of(of, groups)
    names = [str(name) for name in held.parties]
    for number in range(4):
        changed = chance.choice([*held.interests, an_interest(chance, names, 1_000 + number)])
        if chance.random() < 0.5:
            changed = replace(changed, share=a_share(chance, WHOLE_PPM), decisive=chance.choice(list(Answer)))
        after = fitting(held, changed)
        if after is None:
            continue
        held = after
        next_of = of.with_interest(changed)
        standing = standing.after(next_of, changed.subject)
        same(standing, Standing.of(Graph(held, DAY), groups))
        for view in VIEWS:
            assert next_of.book(view).holder.tobytes() == Graph(held, DAY).book(view).holder.tobytes()
            assert next_of.book(view).subjects.tobytes() == Graph(held, DAY).book(view).subjects.tobytes()
        of = next_of


def test_who_stands_at_the_top_of_a_chain_of_majorities() -> None:
    """p has a, a and b together have c, and c has d: p stands over all; half of e is nobody's majority."""
    of = graph(
        [
            link("p", "a", 60),
            link("p", "b", 51),
            link("a", "c", 26),
            link("b", "c", 25),
            link("c", "d", 80),
            link("c", "e", 50),
        ]
    )
    standing = Standing.of(of, {})
    tops = {name: standing.head(PartyId(name), VOTES) for name in ("a", "b", "c", "d", "e")}
    assert tops == {"a": "p", "b": "p", "c": "p", "d": "p", "e": None}


def test_the_figures_of_a_group_can_be_asked_for_one_entity() -> None:
    """Outside of Norway: half of a directly, and with it half of what a has of b."""
    of = graph(
        [link("p0", "a", 50), link("p1", "a", 50), link("a", "b", 100)],
        complete="a b",
        parties=[
            party("p0", nationalities=("US",), residences=("US",)),
            party("p1", nationalities=("NO",), residences=("NO",)),
            party("a", country="NO", headquarters="NO"),
            party("b", country="NO", headquarters="NO"),
        ],
    )
    standing = Standing.of(of, {"outside": group_outside(of, ("NO",))})
    b = PartyId("b")
    assert standing.share("outside", b, SHARES) == Share.exact(500_000)
    assert standing.link("outside", b, SHARES) == Share.exact(500_000)
    assert standing.falls_to("outside", b, SHARES) is Answer.YES
    surely, perhaps = standing.over("outside", SHARES, 390_000)
    assert surely[of.number[b]]
    assert perhaps[of.number[b]]
