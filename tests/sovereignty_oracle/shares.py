"""Whose money and whose votes it is, the slow way in exact fractions: every list of holders is a set of possible rows, and a
bound is the least (or the most) over all choices of one row for each entity.

Written from RFD 18 and the types alone; it shares no code with the core. ``lowest`` walks from choice to choice until none is
better; ``by_every_choice`` tries the corners of all of them, and is what the first is held against.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from tests.sovereignty_oracle.stated import ANY, WHOLE, Holding, Pair, Stated, Who, outward

ZERO, ONE = Fraction(0), Fraction(1)
GUARD = Fraction(1, 1_000_000)
"""RFD 18: what lies within a millionth of a ppm of a whole ppm counts as it."""
VIEWS = ((False, False), (True, False), (False, True), (True, True))
"""(votes, diluted)."""
Values = dict[str, Fraction]
Part = int | Fraction
"""In parts per million."""


@dataclass(frozen=True, slots=True)
class Row:
    """Who is on the list of an entity with what, in ppm; ``is_whole``: nobody else has anything."""

    held: Mapping[str, tuple[Part, Part]]
    is_whole: bool


def added(pairs: Sequence[Pair]) -> Pair:
    return min(WHOLE, sum(one[0] for one in pairs)), min(WHOLE, sum(one[1] for one in pairs))


def cut(row: Row) -> Row:
    """The same without what the other holders leave no room for."""
    held = dict(row.held)
    least, most = sum(one[0] for one in held.values()), sum(one[1] for one in held.values())
    for name, (low, high) in row.held.items():
        top = min(high, WHOLE - (least - low))
        bottom = max(low, WHOLE - (most - high)) if row.is_whole and most >= WHOLE else low
        held[name] = (min(bottom, top), top)
    return Row(held, row.is_whole)


def row_of(stated: Stated, of: str, *, votes: bool, diluted: bool) -> Row:
    """The list of an entity in one view."""
    shares, is_whole = _sums(stated.on("shares", of)), stated.is_complete(of, "holders")
    if votes:
        voting = _sums(stated.on("votes", of))
        if voting:
            shares = {name: voting.get(name, ANY) for name in {*shares, *voting}}
            # Votes that don't add up to all are not all the votes that there are.
            is_whole = is_whole and sum(high for _, high in shares.values()) >= WHOLE
    row = cut(Row(shares, is_whole))
    converting = [*stated.on("warrant", of), *stated.on("convertible", of)]
    counted = [one for one in converting if one.becomes.votes or not votes]
    return cut(_diluted(row, counted, is_rounded=not stated.is_truth)) if diluted and counted else row


def _sums(holdings: Sequence[Holding]) -> dict[str, Pair]:
    names = {one.holder for one in holdings}
    return {name: added([one.share for one in holdings if one.holder == name]) for name in sorted(names)}


def _diluted(row: Row, converting: Sequence[Holding], *, is_rounded: bool) -> Row:
    """``(w + x)(1 - D)/(1 + X) + d``: least with one's own parts at their least and the others' at their most; and turned."""
    parts: dict[str, dict[str, Pair]] = {"existing": {}, "diluted": {}}
    for basis, found in parts.items():
        for name in {one.holder for one in converting}:
            its = [
                one.becomes.part for one in converting if one.holder == name and one.becomes.basis == basis
            ]
            if its:
                found[name] = (sum(one[0] for one in its), sum(one[1] for one in its))
    held: dict[str, tuple[Part, Part]] = {}
    for name in sorted({*row.held, *(one.holder for one in converting)}):
        low, high = (_after(row, parts, name, side) for side in (0, 1))
        around = outward(low * WHOLE)[0], outward(high * WHOLE)[1]
        held[name] = around if is_rounded else (low * WHOLE, high * WHOLE)
    # With nobody on a complete list, what there is besides is somebody's of whom nothing is stated.
    return Row(held, row.is_whole and bool(row.held))


def _after(row: Row, parts: Mapping[str, Mapping[str, Pair]], name: str, side: int) -> Fraction:
    own = {basis: Fraction(found.get(name, (0, 0))[side], WHOLE) for basis, found in parts.items()}
    others = {
        basis: Fraction(sum(one[1 - side] for who, one in found.items() if who != name), WHOLE)
        for basis, found in parts.items()
    }
    before = Fraction(row.held.get(name, (0, 0))[side], WHOLE)
    own_diluted = min(own["diluted"], ONE - min(ONE, others["diluted"])) if side else own["diluted"]
    together = min(ONE, own_diluted + others["diluted"])
    return (before + own["existing"]) * (ONE - together) / (
        ONE + own["existing"] + others["existing"]
    ) + own_diluted


# -- what a group has ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choices:
    """What there is to choose: ``fixed`` values of those whose holders don't matter, and the rows of all others."""

    fixed: Mapping[str, Fraction]
    rows: Mapping[str, Row]


def filled(row: Row, values: Mapping[str, Fraction]) -> dict[str, Part]:
    """What each gets when the sum is to be least: no more than they must; of a complete list, those first that count least."""
    got = {name: low for name, (low, _) in row.held.items()}
    if row.is_whole:
        left = WHOLE - sum(got.values())
        for name in sorted(row.held, key=lambda one: (values[one], one)):
            more = min(left, row.held[name][1] - got[name])
            got[name] += more
            left -= more
    return got


def worth(got: Mapping[str, Part], values: Mapping[str, Fraction]) -> Fraction:
    return sum((Fraction(part, WHOLE) * values[name] for name, part in got.items()), ZERO)


def never(game: Choices) -> set[str]:
    """Entities of which some choice gives nothing to those that count: also whoever only hold each other."""
    zero = {name for name, value in game.fixed.items() if not value} | set(game.rows)
    while True:
        marks = {name: ZERO if name in zero else ONE for name in (*game.fixed, *game.rows)}
        out = {name for name in zero & set(game.rows) if worth(filled(game.rows[name], marks), marks)}
        if not out:
            return zero
        zero -= out


def lowest(game: Choices) -> Values:
    """The least that those that count have of everybody, over all choices, in exact fractions."""
    zero = never(game)
    values: Values = {
        name: ZERO if name in zero else game.fixed.get(name, ONE) for name in (*game.fixed, *game.rows)
    }
    open_ = [name for name in game.rows if name not in zero]
    chosen: dict[str, dict[str, Part]] = {}
    while True:
        better = {name: filled(game.rows[name], values) for name in open_}
        if all(
            name in chosen and worth(better[name], values) >= worth(chosen[name], values) for name in open_
        ):
            return values
        for name in open_:
            if name not in chosen or worth(better[name], values) < worth(chosen[name], values):
                chosen[name] = better[name]
        values |= solved(open_, chosen, values)


def solved(
    open_: Sequence[str], chosen: Mapping[str, Mapping[str, Part]], known: Mapping[str, Fraction]
) -> Values:
    """The values of ``open_`` under one choice, by elimination."""
    at = {name: number for number, name in enumerate(open_)}
    size = len(open_)
    rows = []
    for name in open_:
        row = [ZERO] * (size + 1)
        row[at[name]] = ONE
        for holder, part in chosen[name].items():
            if holder in at:
                row[at[holder]] -= Fraction(part, WHOLE)
            else:
                row[size] += Fraction(part, WHOLE) * known[holder]
        rows.append(row)
    for column in range(size):
        pivot = next(number for number in range(column, size) if rows[number][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = rows[column][column]
        rows[column] = [value / scale for value in rows[column]]
        for number in range(size):
            if number != column and rows[number][column]:
                by = rows[number][column]
                rows[number] = [one - by * two for one, two in zip(rows[number], rows[column], strict=True)]
    return {name: rows[number][size] for name, number in at.items()}


def corners(row: Row) -> Iterator[dict[str, Part]]:
    """Every corner of what a list allows: all holders at a bound, but one who takes up the slack of a complete list."""
    names = sorted(row.held)
    seen = set()
    for bounds in product(*({0, 1} for _ in names)):
        got = {name: row.held[name][side] for name, side in zip(names, bounds, strict=True)}
        options = [got]
        if row.is_whole:
            options = [{**got, name: WHOLE - (sum(got.values()) - got[name])} for name in names]
        for one in options:
            is_inside = all(row.held[name][0] <= part <= row.held[name][1] for name, part in one.items())
            key = tuple(one.values())
            if is_inside and sum(one.values()) <= WHOLE and key not in seen:
                seen.add(key)
                yield one


def by_every_choice(game: Choices) -> Values:
    """The same as :func:`lowest`, by trying the corners of every list with those of all others."""
    names = sorted(game.rows)
    best: Values = {}
    for choice in product(*(list(corners(game.rows[name])) for name in names)):
        fixed_rows = {
            name: Row({holder: (part, part) for holder, part in got.items()}, is_whole=False)
            for name, got in zip(names, choice, strict=True)
        }
        found = lowest(Choices(game.fixed, fixed_rows))
        best = {name: min(value, best.get(name, value)) for name, value in found.items()}
    return best


@dataclass(frozen=True, slots=True)
class Group:
    """Who is in a group for certain, and who may be (the certain ones among them)."""

    certain: frozenset[str]
    possible: frozenset[str]


def least_game(stated: Stated, view: tuple[bool, bool], entity: str, group: Group) -> Choices:
    """What a group has at least: who is certain counts, and what is not listed is nobody's."""
    fixed, rows = {}, {}
    for name in over(stated, view, entity):
        who = stated.who[name]
        if name != entity and name in group.certain:
            fixed[name] = ONE
        elif not who.is_held:
            fixed[name] = ZERO
        else:
            rows[name] = row_of(stated, name, votes=view[0], diluted=view[1])
    return Choices(fixed, rows)


def most_game(stated: Stated, view: tuple[bool, bool], entity: str, group: Group) -> Choices:
    """What others have at least: who surely is none of the group counts, and what is not listed is the group's.

    A complete list with nobody on it has nobody behind it: that is no part of the group either."""
    fixed, rows = {}, {}
    for name in over(stated, view, entity):
        who = stated.who[name]
        if name != entity and (name in group.possible or who.kind == "unnamed"):
            fixed[name] = ZERO if name in group.possible else ONE
        elif not who.is_held:
            fixed[name] = ONE
        else:
            row = row_of(stated, name, votes=view[0], diluted=view[1])
            if row.is_whole and not row.held:
                fixed[name] = ONE
            else:
                rows[name] = row
    return Choices(fixed, rows)


def over(stated: Stated, view: tuple[bool, bool], entity: str) -> list[str]:
    """Everybody from whom a chain leads to an entity, itself included."""
    found, todo = {entity}, [entity]
    while todo:
        name = todo.pop()
        if not stated.who[name].is_held:
            continue
        for holder in row_of(stated, name, votes=view[0], diluted=view[1]).held:
            if holder not in found:
                found.add(holder)
                todo.append(holder)
    return sorted(found)


def part_of(stated: Stated, view: tuple[bool, bool], entity: str, group: Group) -> tuple[Fraction, Fraction]:
    """What a group has of an entity, the entity itself aside: exact bounds as parts of one."""
    least = lowest(least_game(stated, view, entity, group))[entity]
    most = ONE - lowest(most_game(stated, view, entity, group))[entity]
    return least, most


def whole_ppm(value: Fraction, *, up: bool) -> int:
    """A part of one in whole ppm, outwards, but for what is as good as a whole one."""
    ppm = value * WHOLE
    near = round(ppm)
    if abs(ppm - near) <= GUARD:
        return near
    return outward(ppm)[up]


# -- who belongs to a country -------------------------------------------------------------------------------------------


def tied(who: Who, country: str) -> str:
    """Whether a party is tied to a country: yes, no or unknown."""
    if who.kind == "unnamed":
        return "unknown"
    ties = who.ties.values()
    if any(country in one for one in ties):
        return "yes"
    return "unknown" if any(not one for one in ties) else "no"


def outside(who: Who, inside: Collection[str]) -> str:
    """Whether a party stands outside of some countries: by seat, headquarters or a residence there, by nationality when none
    is inside."""
    if who.kind == "unnamed":
        return "unknown"
    for tie, found in who.ties.items():
        out = [one not in inside for one in found]
        if found and (all(out) if tie == "nationality" else any(out)):
            return "yes"
    return "unknown" if any(not one for one in who.ties.values()) else "no"


def group(stated: Stated, answers: Mapping[str, str]) -> Group:
    return Group(
        frozenset(name for name, answer in answers.items() if answer == "yes"),
        frozenset(name for name, answer in answers.items() if answer != "no"),
    )
