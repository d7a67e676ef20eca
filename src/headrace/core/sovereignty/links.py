"""The weakest link: how strong the strongest chain of holdings from a group to an entity is at its weakest place.

Chains are not added up. Summing them, as some of the literature does, lets two companies that hold each other lend
each other strength that neither has; the strongest single chain is well defined in any cycle, and is a path that can
be shown.
"""

import numpy as np

from headrace.core.sovereignty.book import Book, Flags, Ints
from headrace.core.sovereignty.holdings import WHOLE_PPM


def links(book: Book, seeds: Flags, *, unnamed: Flags | None) -> Ints:
    """The weakest link of the strongest chain from ``seeds`` to each entity, in ppm: at least; or at most, where
    ``unnamed`` is given.

    ``unnamed``: who has no name, and may be any other holder of the same entity as well: what both have would be one
    link.
    """
    found = np.where(seeds, WHOLE_PPM, 0)
    start = book.held_by(np.flatnonzero(seeds)) if unnamed is None else np.arange(book.size)
    _rise(book, found, seeds, start, unnamed)
    return found


def links_after(before: Ints, book: Book, seeds: Flags, rows: Ints, *, unnamed: Flags | None) -> Ints:
    """The same where some rows differ."""
    found = before.copy()
    lost = rows[~seeds[rows]]
    gone = np.zeros(book.size, np.bool_)
    while len(lost):
        gone[lost] = True
        near = book.held_by(lost)
        near = near[~gone[near] & ~seeds[near]]
        lost = near[_leans_on(book, before, near, gone, unnamed)]
    found[gone] = 0
    _rise(book, found, seeds, np.flatnonzero(gone), unnamed)
    return found


def _leans_on(book: Book, values: Ints, rows: Ints, gone: Flags, unnamed: Flags | None) -> Flags:
    """Whether an entity's strongest chain may be one through those that are gone."""
    edges, which = book.edges_of(rows)
    holders = book.holder[edges]
    carries = np.minimum(_strength(book, rows, edges, which, unnamed), values[holders]) >= values[rows[which]]
    found = np.zeros(len(rows), np.bool_)
    found[which[gone[holders] & carries]] = True
    return found & (values[rows] > 0)


def _strength(book: Book, rows: Ints, edges: Ints, which: Ints, unnamed: Flags | None) -> Ints:
    """How strong links can be: at least what the holder has, or at most what it may have under no name too."""
    if unnamed is None:
        return book.least[edges]
    hidden = np.zeros(len(rows), np.int64)
    secret = unnamed[book.holder[edges]]
    np.add.at(hidden, which[secret], book.most[edges][secret])
    found: Ints = np.minimum(WHOLE_PPM, book.most[edges] + np.where(secret, 0, hidden[which]))
    return found


def _rise(book: Book, found: Ints, seeds: Flags, active: Ints, unnamed: Flags | None) -> None:
    active = active[~seeds[active]]
    while len(active):
        edges, which = book.edges_of(active)
        best = np.zeros(len(active), np.int64)
        strength = _strength(book, active, edges, which, unnamed)
        np.maximum.at(best, which, np.minimum(strength, found[book.holder[edges]]))
        if unnamed is not None:
            # Somebody of the group may be among those who aren't on the list.
            best = np.maximum(best, np.minimum(book.spare[active], book.above[active]))
        higher = best > found[active]
        found[active[higher]] = best[higher]
        active = book.held_by(active[higher])
        active = active[~seeds[active]]


def chain(book: Book, values: Ints, seeds: Flags, row: int, *, upper: bool) -> list[tuple[int, int]]:
    """The strongest chain to an entity, as (holder, subject) from the group down; none when there is none on the lists."""
    column = book.most if upper else book.least
    hops = _hops(book, values, seeds, row, upper=upper)
    found: list[tuple[int, int]] = []
    here = row
    while not seeds[here]:
        span = range(int(book.start[here]), int(book.start[here + 1]))
        on = [
            int(book.holder[edge])
            for edge in span
            if int(book.holder[edge]) in hops
            and hops[int(book.holder[edge])] < hops.get(here, 0)
            and min(int(column[edge]), int(values[book.holder[edge]])) >= values[row]
        ]
        if not on:
            return []
        nearest = min(on, key=lambda holder: (hops[holder], holder))
        found.append((nearest, here))
        here = nearest
    return found[::-1]


def _hops(book: Book, values: Ints, seeds: Flags, row: int, *, upper: bool) -> dict[int, int]:
    """How far those over an entity are from the group, along links that are as strong as its strongest chain."""
    column = book.most if upper else book.least
    strength = int(values[row])
    if not strength:
        return {}
    over = np.zeros(book.size, np.bool_)
    over[book.over(row)] = True
    wave = np.flatnonzero(seeds & over)
    found = dict.fromkeys(wave.tolist(), 0)
    distance = 0
    while len(wave) and row not in found:
        distance += 1
        near = book.held_by(wave)
        near = near[over[near]]
        edges, which = book.edges_of(near)
        strong = (column[edges] >= strength) & np.isin(book.holder[edges], wave)
        reached = sorted(set(near[which[strong]].tolist()) - found.keys())
        found.update(dict.fromkeys(reached, distance))
        wave = np.array(reached, np.int64)
    return found
