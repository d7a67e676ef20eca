"""The algebra that rules are reduced to: and, or, not, choices over atoms, each of which asks about one fact or two.

Everything that is decided, examined or shown about rules is a function over it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from headrace.policy.schema import Fact


@dataclass(frozen=True, slots=True)
class Const:
    """True or false, whatever the facts."""

    value: bool


@dataclass(frozen=True, slots=True)
class Not:
    """Not ``one``."""

    one: "Question"


@dataclass(frozen=True, slots=True)
class Both:
    """``left`` and ``right``."""

    left: "Question"
    right: "Question"


@dataclass(frozen=True, slots=True)
class Either:
    """``left`` or ``right``."""

    left: "Question"
    right: "Question"


@dataclass(frozen=True, slots=True)
class Choice:
    """``then`` where ``cond`` is true, else ``other``."""

    cond: "Question"
    then: "Question"
    other: "Question"


@dataclass(frozen=True, slots=True)
class Alike:
    """``left`` and ``right`` are both true or both false."""

    left: "Question"
    right: "Question"


@dataclass(frozen=True, slots=True)
class Truth:
    """A fact that is a boolean."""

    fact: Fact
    node: object


@dataclass(frozen=True, slots=True)
class TextIn:
    """A text is one of some words."""

    fact: Fact
    words: frozenset[str]
    node: object


@dataclass(frozen=True, slots=True)
class TextLike:
    """A text fits a pattern: parts of it in order, with anything between them."""

    fact: Fact
    parts: tuple[str, ...]
    node: object


@dataclass(frozen=True, slots=True)
class TextSame:
    """Two texts are equal."""

    fact: Fact
    other: Fact
    node: object


SetOf = Literal["has", "has_all", "has_any", "within", "is", "empty"]


@dataclass(frozen=True, slots=True)
class WordsAsk:
    """What a set has of some words: ``has_all`` or ``has_any`` of them, is ``within`` them, ``is`` them, or is ``empty``."""

    fact: Fact
    ask: SetOf
    words: frozenset[str]
    node: object


@dataclass(frozen=True, slots=True)
class WordsMeet:
    """A set and another one (``has_all``, ``has_any``, ``is``), or a set and a text that it ``has``."""

    fact: Fact
    ask: SetOf
    other: Fact
    node: object


@dataclass(frozen=True, slots=True)
class Sum:
    """``constant`` and facts, each so many times."""

    constant: int
    terms: tuple[tuple[Fact, int], ...] = ()

    def bounds(self) -> tuple[int, int]:
        """The least and the most that it can be."""
        least = most = self.constant
        for fact, times in self.terms:
            ends = (fact.least * times, fact.most * times)
            least, most = least + min(ends), most + max(ends)
        return least, most


@dataclass(frozen=True, slots=True)
class Compare:
    """A sum is below zero (``<``), not above it (``<=``), or zero (``==``)."""

    op: Literal["<", "<=", "=="]
    sum: Sum
    node: object


Atom: TypeAlias = Truth | TextIn | TextLike | TextSame | WordsAsk | WordsMeet | Compare
Question: TypeAlias = Const | Not | Both | Either | Choice | Alike | Atom


def negated(one: Question) -> Question:
    """Not ``one``, simplified."""
    match one:
        case Const(value):
            return Const(not value)
        case Not(inner):
            return inner
    return Not(one)


def both(left: Question, right: Question) -> Question:
    """``left`` and ``right``, simplified."""
    if isinstance(left, Const):
        return right if left.value else left
    if isinstance(right, Const):
        return left if right.value else right
    return Both(left, right)


def either(left: Question, right: Question) -> Question:
    """``left`` or ``right``, simplified."""
    if isinstance(left, Const):
        return left if left.value else right
    if isinstance(right, Const):
        return right if right.value else left
    return Either(left, right)


def chosen(cond: Question, then: Question, other: Question) -> Question:
    """``then`` where ``cond`` is true, else ``other``; simplified."""
    if isinstance(cond, Const):
        return then if cond.value else other
    return Choice(cond, then, other)


def alike(left: Question, right: Question) -> Question:
    """Whether both are true or both false; simplified."""
    if isinstance(left, Const):
        return right if left.value else negated(right)
    if isinstance(right, Const):
        return left if right.value else negated(left)
    return Alike(left, right)


def atoms(question: Question) -> Iterator[Atom]:
    """All questions about facts in it, in the order of the text."""
    match question:
        case Const():
            return
        case Not(one):
            yield from atoms(one)
        case Both(left, right) | Either(left, right) | Alike(left, right):
            yield from atoms(left)
            yield from atoms(right)
        case Choice(cond, then, other):
            yield from atoms(cond)
            yield from atoms(then)
            yield from atoms(other)
        case _:
            yield question


def facts_of(question: Question) -> dict[str, Fact]:
    """The facts that it asks about, by name, in the order of the text."""
    found: dict[str, Fact] = {}
    for one in atoms(question):
        for fact in facts_of_atom(one):
            found[fact.name] = fact
    return found


def facts_of_atom(one: Atom) -> tuple[Fact, ...]:
    """The facts that an atom asks about."""
    match one:
        case TextSame(fact, other) | WordsMeet(fact, _, other):
            return fact, other
        case Compare(_, total):
            return tuple(fact for fact, _ in total.terms)
    return (one.fact,)


def added(left: Sum, right: Sum) -> Sum:
    """The sum of two."""
    terms: dict[Fact, int] = {}
    for fact, count in (*left.terms, *right.terms):
        terms[fact] = terms.get(fact, 0) + count
    return Sum(left.constant + right.constant, tuple((fact, count) for fact, count in terms.items() if count))


def times(one: Sum, by: int) -> Sum:
    """A sum so many times."""
    return Sum(one.constant * by, tuple((fact, count * by) for fact, count in one.terms if by))


def compared(op: Literal["<", "<=", "=="], left: Sum, right: Sum, node: object) -> Question:
    """``left`` is below, not above, or equal to ``right``."""
    total = added(left, times(right, -1))
    if total.terms:
        return Compare(op, total, node)
    return Const(SIGNS[op](total.constant))


SIGNS: dict[str, Callable[[int], bool]] = {
    "<": lambda number: number < 0,
    "<=": lambda number: number <= 0,
    "==": lambda number: number == 0,
}
"""What an operator asks of a sum."""
