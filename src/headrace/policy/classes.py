"""The values of facts, split into the classes that a policy's rules can tell apart, and an exhaustive search over them.

Rules tell values apart only by their atoms: ``["NO", "SE"].contains(site.country)`` knows two sorts of countries. So for each
fact that the rules mention, one value of each sort stands for all of that sort, and a statement about all facts is decided by
going through finitely many rows:

- a **text** splits by which of the lists and patterns it is in (``unknown`` is a value among others);
- a **set** by which sorts of words it has none, one or all of;
- a **number** at the constants that it is compared with: one below, one at, one above each, and both ends of its range;
- **days** that are compared with today: today is one day in the middle of the range, the others lie relative to it, which loses
  nothing as long as days are compared with each other only by their difference;
- a least share never exceeds the greatest share of the same, nor the largest holder all holders together.

Where that doesn't hold (a fact compared with another of its own kind more than once, a pattern over names that are not a closed
list, sums of several facts) the split is called inexact: what is found in it is still true, but what is not found is not
shown not to be (``Classes.why``). The search stops after a stated number of steps, and then too nothing is concluded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from headrace.policy.algebra import (
    Atom,
    Compare,
    Question,
    TextIn,
    TextLike,
    WordsAsk,
    WordsMeet,
    atoms,
    facts_of_atom,
)
from headrace.policy.compiled import Cell
from headrace.policy.knowledge import fits
from headrace.policy.schema import UNKNOWN, Fact, Kind, Value, above

TODAY = 500_000
"""The day that stands for today where days are compared with it; in the middle of their range."""
FURTHEST_DAYS = 400_000
"""Differences up to this lie in the range wherever today is."""
MOST_CELLS = 2_000
"""Values that one fact may split into; more, and the split is cut, and inexact."""
MOST_STEPS = 100_000
"""Rows, whole or begun, that a search looks at."""
ELSEWHERE = "some-other"
"""A name that no rule mentions."""


@dataclass(slots=True)
class Classes:
    """A value of each class, by fact. ``why``: why that is not exact, "" when it is. ``pairs``: slots in order of size."""

    facts: tuple[Fact, ...]
    cells: list[list[Cell]]
    why: str = ""
    pairs: list[tuple[int, int]] = field(default_factory=list)

    def sensible(self, row: Sequence[Cell]) -> bool:
        """Whether the ordered values are in order, as far as they are there."""
        return all(
            row[low] is None or row[high] is None or row[low] <= row[high]  # type: ignore[operator]
            for low, high in self.pairs
        )

    def named(self, row: Sequence[Cell]) -> dict[str, Value]:
        """A row as the facts of a request."""
        found: dict[str, Value] = {}
        for fact, cell in zip(self.facts, row, strict=True):
            if cell is not None:
                found[fact.name] = " ".join(sorted(cell)) if isinstance(cell, frozenset) else cell
        return found


def classes_of(facts: tuple[Fact, ...], questions: Iterable[Question]) -> Classes:
    """The classes that these questions tell apart; ``facts`` are all that they ask about, in the order of a row."""
    asked: dict[str, list[Atom]] = {fact.name: [] for fact in facts}
    for question in questions:
        for atom in atoms(question):
            for fact in facts_of_atom(atom):
                asked[fact.name].append(atom)
    found = Classes(facts, [])
    days = _days(asked)
    for fact in facts:
        cells, why = _cells(fact, asked[fact.name], days)
        found.why = found.why or why
        found.cells.append(cells[:MOST_CELLS])
        if len(cells) > MOST_CELLS:
            found.why = found.why or f"{fact.name} splits into {len(cells)} values"
    _order(found)
    return found


def _cells(fact: Fact, asked: Sequence[Atom], days: "_Days") -> tuple[list[Cell], str]:
    match fact.kind:
        case Kind.TRUTH:
            return [False, True], ""
        case Kind.TEXT:
            return _texts(fact, asked)
        case Kind.WORDS:
            return _sets(fact, asked)
    return _numbers(fact, asked, days)


# -- texts ---------------------------------------------------------------------------------------------------------------


def _texts(fact: Fact, asked: Sequence[Atom]) -> tuple[list[Cell], str]:
    tests: list[Callable[[str], bool]] = []
    mentioned: set[str] = set()
    why = ""
    for atom in asked:
        match atom:
            case TextIn(_, words):
                tests.append(words.__contains__)
                mentioned |= words
            case TextLike(_, parts):
                tests.append(_fits(parts))
                mentioned.add("".join(parts))
                why = why or ("" if fact.words is not None else f"{fact.name} is asked for by a pattern")
            case _:
                why = why or f"{fact.name} is compared with another fact"
    known = {*fact.words, UNKNOWN} if fact.words is not None else {*mentioned, ELSEWHERE}
    sorts: dict[tuple[bool, ...], list[str]] = {}
    for word in sorted(known):
        sorts.setdefault(tuple(test(word) for test in tests), []).append(word)
    return [word for words in sorts.values() for word in words[: 2 if why else 1]], why


def _fits(parts: tuple[str, ...]) -> Callable[[str], bool]:
    return lambda word: fits(word, parts)


# -- sets ----------------------------------------------------------------------------------------------------------------


def _sets(fact: Fact, asked: Sequence[Atom]) -> tuple[list[Cell], str]:
    lists = [atom.words for atom in asked if isinstance(atom, WordsAsk)]
    why = (
        f"{fact.name} is compared with another fact"
        if any(isinstance(one, WordsMeet) for one in asked)
        else ""
    )
    sorts: dict[tuple[bool, ...], list[str]] = {}
    for word in sorted({*(fact.words or ()), UNKNOWN}):
        sorts.setdefault(tuple(word in words for words in lists), []).append(word)
    choices: list[list[frozenset[str]]] = []
    for signature, words in sorts.items():
        some = [frozenset[str](), frozenset(words[:1])]
        if any(signature) and len(words) > 1:
            some.append(frozenset(words))
        choices.append(some)
    found: list[Cell] = []
    for parts in product(*choices):
        found.append(frozenset().union(*parts))
        if len(found) > MOST_CELLS:
            break
    return found, why


# -- numbers -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Days:
    """Whether today is compared with other days, and with nothing else."""

    is_hub: bool = False
    why: str = ""


def _days(asked: dict[str, list[Atom]]) -> _Days:
    found = _Days()
    alone = False
    for atom in asked.get("day", ()):
        if isinstance(atom, Compare):
            found.is_hub = found.is_hub or len(atom.sum.terms) > 1
            alone = alone or len(atom.sum.terms) == 1
    if found.is_hub and alone:
        found.why = "day is compared with other days and with a constant"
    return found


def _numbers(fact: Fact, asked: Sequence[Atom], days: _Days) -> tuple[list[Cell], str]:
    if fact.name == "day" and days.is_hub:
        return [TODAY], days.why
    points, why, to_today = {fact.least, fact.most}, "", False
    is_alone = False
    for atom in asked:
        if not isinstance(atom, Compare):
            continue
        if len(atom.sum.terms) == 1:
            is_alone = True
            points |= _around(-atom.sum.constant, atom.sum.terms[0][1])
            continue
        gap = _gap(fact, atom)
        if gap is None:
            why = why or f"{fact.name} is added to another fact"
            continue
        to_today = True
        points |= {TODAY + point for point in _around(*gap)}
        if abs(gap[0]) > FURTHEST_DAYS * abs(gap[1]):
            why = why or f"{fact.name} is compared with a day that is far away"
    if to_today and is_alone:
        why = why or f"{fact.name} is compared with today and with a constant"
    return [point for point in sorted(points) if fact.least <= point <= fact.most], why


def _around(above: int, below: int) -> set[int]:
    """The integers around a quotient: every comparison with it goes one way or the other at one of them."""
    point = above // below
    return {point - 1, point, point + 1}


def _gap(fact: Fact, atom: Compare) -> tuple[int, int] | None:
    """Where a fact's distance from today decides, as a quotient; None when that is not what is asked."""
    terms = dict(atom.sum.terms)
    times = terms.pop(fact)
    if len(terms) != 1:
        return None
    ((other, other_times),) = terms.items()
    if other.name != "day" or times + other_times:
        return None
    return -atom.sum.constant, times


def _order(found: Classes) -> None:
    """Pairs of facts of which one can't exceed the other: both get the values of both."""
    slots = {fact.name: at for at, fact in enumerate(found.facts)}
    for name, low in slots.items():
        high = slots.get(above(name))
        if high is not None:
            together = sorted({*found.cells[low], *found.cells[high]})  # type: ignore[type-var]
            found.cells[low] = found.cells[high] = [*together]
            found.pairs.append((low, high))


# -- the search ----------------------------------------------------------------------------------------------------------

Goal = Callable[[Sequence[Cell]], bool | None]


class OutOfStepsError(Exception):
    """The search looked at as many rows as it may, and decided nothing."""


def find(
    classes: Classes, goal: Goal, order: Sequence[int], steps: int = MOST_STEPS
) -> tuple[list[Cell] | None, int]:
    """A row that fulfils a goal, with all cells filled, None when no row of the classes does; and how many steps it took.

    ``order``: the slots that the goal looks at, those first that decide most. A goal answers None as long as empty cells can
    change it; as soon as it is False, nothing below is looked at. OutOfStepsError when that was not enough steps.
    """
    row: list[Cell] = [None] * len(classes.facts)
    left = [steps]
    found = _find(classes, goal, order, row, 0, left)
    return None if found is None else _filled(classes, found), steps - left[0]


def _find(
    classes: Classes, goal: Goal, order: Sequence[int], row: list[Cell], depth: int, left: list[int]
) -> list[Cell] | None:
    left[0] -= 1
    if left[0] < 0:
        raise OutOfStepsError
    if not classes.sensible(row):
        return None
    answer = goal(row)
    if answer is not None:
        return [*row] if answer else None
    slot = order[depth]
    for cell in classes.cells[slot]:
        row[slot] = cell
        found = _find(classes, goal, order, row, depth + 1, left)
        if found is not None:
            return found
    row[slot] = None
    return None


def _filled(classes: Classes, row: list[Cell]) -> list[Cell]:
    """A row with something sensible in its empty cells: ordered facts have the same cells, so that one always fits."""
    for slot, cells in enumerate(classes.cells):
        if row[slot] is not None:
            continue
        for cell in cells:
            row[slot] = cell
            if classes.sensible(row):
                break
    return row


def spread(classes: Classes, most: int) -> Iterator[list[Cell]]:
    """At most ``most`` sensible rows, spread evenly over all of them; all of them where there are no more."""
    count = 1
    for cells in classes.cells:
        count *= len(cells)
    step = max(1, count // most) if most else count
    # An even step that shares no factor with the sizes reaches all values of each fact.
    while count > most and any(step % len(cells) == 0 for cells in classes.cells if len(cells) > 1):
        step += 1
    for number in range(0, min(count, step * most), step):
        row: list[Cell] = []
        rest = number
        for cells in classes.cells:
            rest, at = divmod(rest, len(cells))
            row.append(cells[at])
        if classes.sensible(row):
            yield row
