"""Small holdings for the tests, written as links: ``link("p", "a", 60)`` is 60 % of a's shares."""

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from headrace.core.sovereignty.graph import Graph
from headrace.core.sovereignty.holdings import (
    Coverage,
    Holdings,
    Interest,
    InterestId,
    InterestKind,
    Party,
    PartyId,
    PartyKind,
    Share,
)
from headrace.core.sovereignty.integrated import Group

DAY = "2026-01-01"


def percent(value: object) -> Share:
    """A share in per cent: a number, or a pair of bounds."""
    if isinstance(value, Share):
        return value
    if isinstance(value, tuple):
        return Share(int(Fraction(str(value[0])) * 10_000), int(Fraction(str(value[1])) * 10_000))
    return Share.exact(int(Fraction(str(value)) * 10_000))


def link(
    holder: str, subject: str, share: object, kind: InterestKind = InterestKind.SHARES, **more: object
) -> Interest:
    """What a holder has of a subject; its name says which."""
    return Interest(
        InterestId(f"{kind}:{holder}>{subject}{more.get('since', '')}"),
        kind,
        PartyId(holder),
        PartyId(subject),
        percent(share),
        **more,  # type: ignore[arg-type]  # fields of an interest, by their names
    )


def party(name: str, **more: object) -> Party:
    """A party: persons' names begin with p, states' with s-, those without a name with u; all others are companies."""
    kinds = {"p": PartyKind.PERSON, "u": PartyKind.UNNAMED}
    kind = PartyKind.STATE if name.startswith("s-") else kinds.get(name[0], PartyKind.COMPANY)
    return Party(PartyId(name), kind, **more)  # type: ignore[arg-type]  # fields of a party, by their names


def holdings(
    links: Iterable[Interest],
    *,
    complete: str = "",
    parties: Iterable[Party] = (),
    coverage: Iterable[Coverage] = (),
) -> Holdings:
    """Holdings of everybody who is in a link; the lists of those in ``complete`` (by words) are complete."""
    found = list(links)
    stated = {one.id: one for one in parties}
    names = sorted({name for one in found for name in (one.holder, one.subject)} | set(stated))
    return Holdings(
        {name: stated.get(name, party(name)) for name in names},
        tuple(found),
        (*(Coverage(PartyId(name), 0) for name in complete.split()), *coverage),
    )


def graph(links: Iterable[Interest], day: str = DAY, **more: object) -> Graph:
    """The same as of a day."""
    return Graph(holdings(links, **more), day)  # type: ignore[arg-type]  # what holdings() takes


def alone(of: Graph, name: str) -> Group:
    """A group of one party."""
    certain = np.zeros(len(of), np.bool_)
    certain[of.number[PartyId(name)]] = True
    return Group(certain, certain | of.unnamed)
