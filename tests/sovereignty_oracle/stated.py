"""What documents state of who holds what, read by the oracle itself from the documents as people write them.

Shares are pairs of whole parts per million, widened outwards where they are finer; an exclusive bound moves by one. Days are ISO
texts, an interest is there from its first day to before its last.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import Any

WHOLE = 1_000_000
Pair = tuple[int, int]
ANY: Pair = (0, WHOLE)
Doc = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Who:
    """A party. ``ties`` of a company are its seat and its headquarters, of a state its seat, of a person its
    nationalities and its residences; one that isn't known is empty."""

    name: str
    kind: str
    seat: frozenset[str] = frozenset()
    headquarters: frozenset[str] = frozenset()
    nationality: frozenset[str] = frozenset()
    residence: frozenset[str] = frozenset()

    @property
    def is_held(self) -> bool:
        """Whether somebody can hold it."""
        return self.kind not in ("person", "state")

    @property
    def ties(self) -> dict[str, frozenset[str]]:
        """Its ties by what they are."""
        if self.kind == "person":
            return {"nationality": self.nationality, "residence": self.residence}
        if self.kind == "state":
            return {"seat": self.seat}
        return {"seat": self.seat, "headquarters": self.headquarters}


@dataclass(frozen=True, slots=True)
class Becomes:
    """What a warrant or convertible becomes."""

    part: Pair = ANY
    basis: str = "diluted"
    votes: bool = True


@dataclass(frozen=True, slots=True)
class Holding:
    """What ``holder`` has in ``of``."""

    kind: str
    holder: str
    of: str
    share: Pair = ANY
    since: str = ""
    until: str = ""
    becomes: Becomes = Becomes()
    decisive: str = "unknown"
    custody: tuple[str, ...] = ()

    def is_there(self, day: str) -> bool:
        return self.since <= day and (not self.until or day < self.until)


@dataclass(frozen=True, slots=True)
class Listing:
    """That a list (of holders, staff or suppliers) of ``of`` has all above ``above`` ppm."""

    of: str
    what: str
    above: int
    since: str = ""
    until: str = ""

    def is_there(self, day: str) -> bool:
        return self.since <= day and (not self.until or day < self.until)


@dataclass(frozen=True, slots=True)
class Run:
    """Who operates a site, and who supplies it with what in hand."""

    operator: str
    supplies: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(slots=True)
class Stated:
    """All that is stated on one day: only what is there that day is in it."""

    who: dict[str, Who] = field(default_factory=dict)
    held: list[Holding] = field(default_factory=list)
    above: dict[tuple[str, str], int] = field(default_factory=dict)
    """The least that a list (of, what) has everybody above."""
    runs: dict[str, Run] = field(default_factory=dict)
    is_truth: bool = False
    """Nothing of it is unknown, and nothing is rounded."""

    def on(self, kind: str, of: str) -> list[Holding]:
        """Interests of a kind in a party."""
        return [one for one in self.held if one.kind == kind and one.of == of]

    def is_complete(self, of: str, what: str) -> bool:
        return self.above.get((of, what), WHOLE) == 0


_NUMBER = r"([0-9.]+)\s*%?"
_RANGE = re.compile(rf"(>?)\s*{_NUMBER}\s*\.\.\s*(<?)\s*{_NUMBER}")
_SIDE = re.compile(rf"(>=|<=|>|<)\s*{_NUMBER}")


def pair(text: str | None) -> Pair:
    """A share as it is written, in whole ppm."""
    if text is None or text == "unknown":
        return ANY
    text = text.strip()
    if "/" in text:
        over, under = text.split("/")
        return outward(Fraction(int(over), int(under)) * WHOLE)
    if found := _RANGE.fullmatch(text):
        low, high = Fraction(found[2]) * 10_000, Fraction(found[4]) * 10_000
        return floor(low) + bool(found[1]), ceil(high) - bool(found[3])
    if found := _SIDE.fullmatch(text):
        at = Fraction(found[2]) * 10_000
        if found[1][0] == ">":
            return floor(at) + (found[1] == ">"), WHOLE
        return 0, ceil(at) - (found[1] == "<")
    return outward(Fraction(text.rstrip("% ")) * 10_000)


def outward(value: Fraction) -> Pair:
    """The whole ppm around a value."""
    return floor(value), ceil(value)


def _one(country: object) -> frozenset[str]:
    return frozenset() if country in (None, "", "unknown") else frozenset({str(country)})


def _who(one: Doc) -> Who:
    return Who(
        one["name"],
        one["type"],
        _one(one.get("country")),
        _one(one.get("headquarters")),
        frozenset(one.get("nationality", ())),
        frozenset(one.get("residence", ())),
    )


def _becomes(one: Doc | None) -> Becomes:
    if one is None:
        return Becomes()
    part = pair(one.get("share"))
    if "cap" in one:
        part = outward(Fraction(one["amount"], one["cap"]) * WHOLE)
    return Becomes(part, one.get("of", "diluted"), one.get("votes", True))


def _holding(one: Doc) -> Holding:
    return Holding(
        one["type"],
        one["holder"],
        one["of"],
        pair(one.get("share")),
        one.get("since", ""),
        one.get("until", ""),
        _becomes(one.get("becomes")),
        one.get("decisive", "unknown"),
        tuple(one.get("custody", ())),
    )


def stated_on(documents: Iterable[Doc], day: str) -> Stated:
    """What ``kind: ownership`` documents state together, on a day."""
    found = Stated()
    for document in documents:
        found.who |= {one["name"]: _who(one) for one in document["parties"]}
        found.held += [made for one in document.get("interests", ()) if (made := _holding(one)).is_there(day)]
        for one in document.get("coverage", ()):
            above = 0 if one.get("complete") else pair(one.get("above"))[1]
            listed = Listing(
                one["of"], one.get("list", "holders"), above, one.get("since", ""), one.get("until", "")
            )
            if listed.is_there(day):
                key = (listed.of, listed.what)
                found.above[key] = min(above, found.above.get(key, WHOLE))
        for one in document.get("sites", ()):
            supplies = tuple(
                (each["supplier"], tuple(each.get("custody", ()))) for each in one.get("suppliers", ())
            )
            before = found.runs.get(one["name"])
            found.runs[one["name"]] = (
                Run(one["operator"], supplies)
                if before is None
                else Run(before.operator, (*before.supplies, *supplies))
            )
    return found
