"""Who holds one entity on one day: its shares or votes, as they are or fully diluted, in exact arithmetic.

Votes follow shares where nobody has stated votes in the entity. Where votes are stated for one holder, those of a
shareholder for whom none are stated are unknown.

Fully diluted means: every warrant and convertible has become capital, at once. With ``X`` the sum of the parts of
existing capital that they become and ``D`` the sum of the parts of diluted capital, a holder of ``w`` before who
converts ``x`` and ``d`` has ``(w + x)(1 - D)/(1 + X) + d`` after. That grows with the holder's own conversions and
shrinks with the others', so that its bounds are where those stand at their own. Bounds are rounded outwards to whole
ppm. A part that nobody has stated may be anything from nothing to all. What nobody has stated at all is not
converted: a list that isn't complete may lack an option pool, and the report says so.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace.core.sovereignty.holdings import (
    CONVERTING,
    NOTHING,
    UNKNOWN,
    WHOLE_PPM,
    Basis,
    Conversion,
    Interest,
    InterestKind,
    PartyId,
    Share,
)
from headrace.core.units import ceil_div


@dataclass(frozen=True, slots=True)
class Row:
    """Who is on the list of an entity's holders with what, and what somebody who is not may hold at most (``above_ppm``)."""

    held: Mapping[PartyId, Share]
    above_ppm: int

    @property
    def is_complete(self) -> bool:
        """Whether nobody is missing on the list."""
        return self.above_ppm == 0


def row_of(interests: Iterable[Interest], above_ppm: int, *, votes: bool, diluted: bool) -> Row:
    """The row of an entity of which ``interests`` are all that there is on a day."""
    held = list(interests)
    shares = _summed(one for one in held if one.kind is InterestKind.SHARES)
    stated = _summed(one for one in held if one.kind is InterestKind.VOTES)
    if votes and stated:
        shares = {**dict.fromkeys(shares, UNKNOWN), **stated}
        if sum(share.most_ppm for share in shares.values()) < WHOLE_PPM:
            # The list of shareholders may be complete: that of votes, as stated, can't be.
            above_ppm = WHOLE_PPM
    row = tightened(Row(shares, above_ppm))
    converting = [one for one in held if one.kind in CONVERTING and _counts(one, votes=votes)]
    if diluted and converting:
        # With nobody on a complete list, what there is besides is somebody's of whom nothing is stated.
        return tightened(_diluted(row if row.held else Row({}, WHOLE_PPM), converting))
    return row


def _counts(one: Interest, *, votes: bool) -> bool:
    return not votes or (one.converts or Conversion()).has_votes


def _summed(interests: Iterable[Interest]) -> dict[PartyId, Share]:
    found: dict[PartyId, Share] = {}
    for one in interests:
        before = found.get(one.holder, NOTHING)
        least = before.least_ppm + one.share.least_ppm
        if least > WHOLE_PPM:
            raise ValueError(f"{one.subject}: {one.holder} holds {least} ppm of its {one.kind}")
        found[one.holder] = Share(least, min(WHOLE_PPM, before.most_ppm + one.share.most_ppm))
    return found


def tightened(row: Row) -> Row:
    """The row with its ranges cut to what the others leave: no sum is above all, and that of a complete list is all.

    Raises ValueError for one that can't be (:func:`~headrace.core.sovereignty.holdings.flaws` reports it earlier).
    """
    least = sum(share.least_ppm for share in row.held.values())
    most = sum(share.most_ppm for share in row.held.values())
    if least > WHOLE_PPM or (row.is_complete and row.held and most < WHOLE_PPM):
        raise ValueError(f"shares from {least} to {most} ppm can't be all")
    held = {
        party: Share(
            max(share.least_ppm, WHOLE_PPM - most + share.most_ppm) if row.is_complete else share.least_ppm,
            min(share.most_ppm, WHOLE_PPM - least + share.least_ppm),
        )
        for party, share in row.held.items()
    }
    return Row(held, row.above_ppm)


class _Claims:
    """What converts, in ppm: least and most of existing capital, least and most of diluted capital."""

    __slots__ = ("diluted", "existing")

    def __init__(self) -> None:
        self.existing = [0, 0]
        self.diluted = [0, 0]

    def add(self, conversion: Conversion) -> None:
        sums = self.diluted if conversion.basis is Basis.DILUTED else self.existing
        sums[0] += conversion.part.least_ppm
        sums[1] += conversion.part.most_ppm


def _diluted(row: Row, converting: Iterable[Interest]) -> Row:
    everybody = _Claims()
    claims: dict[PartyId, _Claims] = defaultdict(_Claims)
    for one in converting:
        conversion = one.converts or Conversion()
        everybody.add(conversion)
        claims[one.holder].add(conversion)
    if everybody.diluted[0] > WHOLE_PPM:
        raise ValueError("what converts is more than all of the diluted capital")
    # Who converts and isn't on the list may have shares all the same, as anybody else who isn't.
    off = Share(0, min(row.above_ppm, WHOLE_PPM - sum(share.least_ppm for share in row.held.values())))
    held: dict[PartyId, Share] = {}
    for party in {**row.held, **claims}:
        share, own = row.held.get(party, off), claims.get(party, _NO_CLAIMS)
        low, under = _after(share.least_ppm, own, everybody, 0)
        high, over = _after(share.most_ppm, own, everybody, 1)
        least = min(WHOLE_PPM, low // under)
        held[party] = Share(least, max(least, min(WHOLE_PPM, ceil_div(high, over))))
    above, over = _after(row.above_ppm, _NO_CLAIMS, everybody, 1)
    return Row(held, min(WHOLE_PPM, ceil_div(above, over)))


_NO_CLAIMS = _Claims()


def _after(before_ppm: int, own: _Claims, everybody: _Claims, bound: int) -> tuple[int, int]:
    """A holder's part of the diluted capital, in ppm, as a fraction: its least (``bound`` 0), or its most (1).

    The holder's own conversions are at the bound that is asked for, the others' at the other one.
    """
    others = 1 - bound
    new = own.existing[bound] + everybody.existing[others] - own.existing[others]
    gone = own.diluted[bound] + everybody.diluted[others] - own.diluted[others]
    under = WHOLE_PPM + new
    return (before_ppm + own.existing[bound]) * max(0, WHOLE_PPM - gone) + own.diluted[bound] * under, under
