"""Control of a graph of 100,000 entities with cycles, and the same after one holding has changed."""

import statistics
import time
from dataclasses import replace
from random import Random

from benchmarks.registry import Figure
from benchmarks.scheduling import as_in_the_planner
from headrace.core.sovereignty.graph import DILUTED_VOTES, SHARES, VOTES, Graph
from headrace.core.sovereignty.groups import group_outside
from headrace.core.sovereignty.holdings import (
    WHOLE_PPM,
    Answer,
    Conversion,
    Holdings,
    Interest,
    InterestId,
    InterestKind,
    Party,
    PartyId,
    PartyKind,
    Share,
)
from headrace.core.sovereignty.standing import Standing

DAY = "2026-01-01"
EUROPE = ("AT", "BE", "DE", "DK", "ES", "FI", "FR", "IE", "IT", "NL", "NO", "PL", "SE")
COUNTRIES = (*EUROPE, "GB", "US", "JP", "AE", "")
COMPANIES = 6
"""Of ten parties how many are companies; the others are persons."""
CORE = 1_347
"""Companies that hold each other: as many as in the largest such knot that the literature has found in a real graph
of this kind.
"""
CHANGES = 200


def _party(name: str, is_company: bool, country: str) -> Party:
    known = (country,) if country else ()
    if is_company:
        return Party(PartyId(name), PartyKind.COMPANY, country=country, headquarters=country)
    return Party(PartyId(name), PartyKind.PERSON, nationalities=known, residences=known)


def world(parties: int, seed: int = 1) -> Holdings:
    """Chains, small rings and one large knot; a seventh of the shares are ranges, and most lists are not complete."""
    chance = Random(seed)
    names = [f"c{number:06d}" for number in range(parties * COMPANIES // 10)]
    persons = [f"p{number:06d}" for number in range(parties - len(names))]
    made = [_party(name, True, chance.choice(COUNTRIES)) for name in names]
    made += [_party(name, False, chance.choice(COUNTRIES)) for name in persons]
    core = min(CORE, len(names) // 4)
    interests: list[Interest] = []
    for at, name in enumerate(names):
        left = WHOLE_PPM
        count = chance.choice((1, 1, 1, 2, 2, 3, 5))
        for number in range(count):
            holder = _holder(chance, names, persons, at, core)
            part = left if number == count - 1 and chance.random() < 0.5 else chance.randint(1, max(1, left))
            if holder == name or not left:
                continue
            left -= part
            share = Share.exact(part) if chance.random() < 0.85 else Share(max(0, part - 50_000), part)
            interests.append(_interest(len(interests), InterestKind.SHARES, holder, name, share))
    for name in names:
        if chance.random() < 0.01:
            votes = Share.exact(chance.randint(0, WHOLE_PPM))
            interests.append(_interest(len(interests), InterestKind.VOTES, chance.choice(names), name, votes))
        if chance.random() < 0.02:
            note = _interest(
                len(interests), InterestKind.CONVERTIBLE, chance.choice(persons), name, Share.exact(0)
            )
            interests.append(replace(note, converts=Conversion(Share.exact(chance.randint(0, 200_000)))))
    return Holdings({one.id: one for one in made}, tuple(interests))


def _holder(chance: Random, names: list[str], persons: list[str], at: int, core: int) -> str:
    if at < core and chance.random() < 0.8:
        return names[chance.randrange(core)]
    if at >= core and chance.random() < 0.55:
        return names[
            chance.randrange(max(1, at - 200), at) if chance.random() < 0.9 else chance.randrange(at)
        ]
    if at >= core and chance.random() < 0.05:
        return names[min(len(names) - 1, at + chance.randint(1, 3))]
    return chance.choice(persons)


def _interest(number: int, kind: InterestKind, holder: str, subject: str, share: Share) -> Interest:
    return Interest(InterestId(f"i{number:07d}"), kind, PartyId(holder), PartyId(subject), share)


def _standing(held: Holdings) -> Standing:
    graph = Graph(held, DAY)
    return Standing.of(graph, {"outside": group_outside(graph, EUROPE)})


def graph(quick: bool) -> Figure:
    """Seconds (median of three) from holdings to every measure of a group in every entity, in four views."""
    held = world(20_000 if quick else 100_000)
    took = []
    found = _standing(held)
    for _ in range(3):
        with as_in_the_planner():
            start = time.perf_counter()
            found = _standing(held)
            took.append(time.perf_counter() - start)
    return Figure(
        statistics.median(took),
        _notes(held, found),
        clean=all(one.reach.is_settled for _, _, one in found.rows()),
    )


def _notes(held: Holdings, found: Standing) -> dict[str, object]:
    surely, perhaps = found.over("outside", VOTES, 390_000)
    return {
        "parties": len(held.parties),
        "interests": len(held.interests),
        "knot": CORE,
        "over_39_percent": int(surely.sum()),
        "unknown_whether": int((perhaps & ~surely).sum()),
        "falls_by_cascade": sum(
            found.falls_to("outside", one, SHARES) is Answer.YES for one in list(held.parties)[:1_000]
        ),
        "made": "generated",
    }


def change(quick: bool) -> Figure:
    """Milliseconds (the slowest of many) from one changed holding to every measure in every entity that it reaches."""
    held = world(20_000 if quick else 100_000)
    chance = Random(2)
    standing = _standing(held)
    knot = [one for one in held.interests[: 2 * CORE] if one.kind is InterestKind.SHARES]
    took, exact = [], True
    for number in range(CHANGES):
        one = chance.choice(knot if number % 2 else held.interests)
        new = replace(one, share=Share(one.share.least_ppm // 2, one.share.most_ppm))
        if number % 4 == 3:
            # Another holder: the structure changes, and not only a figure.
            new = replace(one, holder=chance.choice(knot).holder)
        with as_in_the_planner():
            start = time.perf_counter()
            changed = standing.graph.with_interest(new)
            after = standing.after(changed, new.subject)
            took.append((time.perf_counter() - start) * 1_000)
        if number == CHANGES - 1:
            exact = _same(after, Standing.of(Graph(held.with_interest(new), DAY), standing.groups))
    notes: dict[str, object] = {
        "parties": len(held.parties),
        "changes": CHANGES,
        "median_ms": round(statistics.median(took), 1),
        "in_the_knot": CHANGES // 2,
        "as_evaluated_anew": exact,
    }
    return Figure(max(took), notes, clean=exact)


def _same(one: Standing, other: Standing) -> bool:
    same = all((one.tops(view) == other.tops(view)).all() for view in (VOTES, DILUTED_VOTES))
    for (_, _, mine), (_, _, theirs) in zip(one.rows(), other.rows(), strict=True):
        pairs = [
            *zip(mine.reach.shares(), theirs.reach.shares(), strict=True),
            *zip(mine.links, theirs.links, strict=True),
        ]
        same = same and all((left == right).all() for left, right in pairs)
    return same
