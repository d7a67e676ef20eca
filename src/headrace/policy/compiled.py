"""Questions compiled to closures over a row of values: what decides in production, held equal to Cedar itself by tests.

A row has a slot for each fact that a policy asks about. A slot may be empty (None) while rules are examined; then an answer may
be None: it depends on what is in the empty slots. With a full row every answer is true or false.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.policy.algebra import (
    SIGNS,
    Alike,
    Both,
    Choice,
    Compare,
    Const,
    Either,
    Not,
    Question,
    TextIn,
    TextLike,
    TextSame,
    Truth,
    WordsAsk,
    WordsMeet,
)
from headrace.policy.knowledge import fits
from headrace.policy.schema import Fact, Kind, Value, rest_of

Cell: TypeAlias = str | int | bool | frozenset[str] | None
Row: TypeAlias = Sequence[Cell]
Ask: TypeAlias = Callable[[Row], bool | None]
Slots: TypeAlias = Mapping[str, int]

_TYPES: dict[Kind, type] = {Kind.TEXT: str, Kind.WORDS: str, Kind.NUMBER: int, Kind.TRUTH: bool}


def reader(facts: Sequence[Fact]) -> Callable[[Mapping[str, Value]], list[Cell]]:
    """What takes a row from a request's facts: what nobody stated has the value that means unknown, and so has an empty text.

    Raises HeadraceError for a fact of the wrong type; words and sizes are checked where facts come in.
    """
    plan = tuple(
        (
            one.name,
            rest_of(one.name),
            one.unknown,
            _TYPES[one.kind],
            one.kind is Kind.WORDS,
            one.kind is Kind.TEXT,
        )
        for one in facts
    )

    def read(given: Mapping[str, Value]) -> list[Cell]:
        row: list[Cell] = []
        for name, rest, unknown, kind, is_set, is_text in plan:
            value = given.get(name)
            if value is None:
                value = given.get(rest, unknown) if rest else unknown
            if type(value) is not kind:
                raise _wrong_type(name, value)
            if is_set:
                row.append(frozenset(value.split()))  # type: ignore[union-attr]
            else:
                row.append(unknown if is_text and not value else value)
        return row

    return read


def _wrong_type(name: str, value: object) -> HeadraceError:
    step = "Pass facts through headrace.policy.schema.checked."
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, f"the fact {name} can't be {value!r}.", step, name))


def compiled(question: Question, slots: Slots) -> Ask:
    """A question as a function of a row."""
    match question:
        case Const(value):
            return lambda _row: value
        case Not(one):
            return _not(compiled(one, slots))
        case Both(left, right):
            return _both(compiled(left, slots), compiled(right, slots))
        case Either(left, right):
            return _either(compiled(left, slots), compiled(right, slots))
        case Choice(cond, then, other):
            return _choice(compiled(cond, slots), compiled(then, slots), compiled(other, slots))
        case Alike(left, right):
            return _alike(compiled(left, slots), compiled(right, slots))
        case Truth(fact):
            return _truth(slots[fact.name])
        case Compare():
            return _compare(question, slots)
        case TextIn() | TextLike() | TextSame():
            return _text(question, slots)
    return _set(question, slots)


def _not(one: Ask) -> Ask:
    def ask(row: Row) -> bool | None:
        found = one(row)
        return None if found is None else not found

    return ask


def _both(left: Ask, right: Ask) -> Ask:
    def ask(row: Row) -> bool | None:
        first = left(row)
        if first is False:
            return False
        second = right(row)
        return second if first or second is False else None

    return ask


def _either(left: Ask, right: Ask) -> Ask:
    def ask(row: Row) -> bool | None:
        first = left(row)
        if first:
            return True
        second = right(row)
        return second if first is False or second else None

    return ask


def _choice(cond: Ask, then: Ask, other: Ask) -> Ask:
    def ask(row: Row) -> bool | None:
        found = cond(row)
        if found is None:
            one, two = then(row), other(row)
            return one if one is two else None
        return then(row) if found else other(row)

    return ask


def _alike(left: Ask, right: Ask) -> Ask:
    def ask(row: Row) -> bool | None:
        one, two = left(row), right(row)
        return None if one is None or two is None else one is two

    return ask


def _truth(slot: int) -> Ask:
    return lambda row: row[slot]  # type: ignore[return-value]


def _compare(one: Compare, slots: Slots) -> Ask:
    terms = tuple((slots[fact.name], times) for fact, times in one.sum.terms)
    constant, holds = one.sum.constant, SIGNS[one.op]
    if len(terms) == 1:
        return _compare_one(*terms[0], constant, holds)

    def ask(row: Row) -> bool | None:
        total = constant
        for slot, times in terms:
            value = row[slot]
            if value is None:
                return None
            total += value * times  # type: ignore[operator]
        return holds(total)

    return ask


def _compare_one(slot: int, times: int, constant: int, holds: Callable[[int], bool]) -> Ask:
    def ask(row: Row) -> bool | None:
        value = row[slot]
        return None if value is None else holds(value * times + constant)  # type: ignore[operator]

    return ask


def _text(one: TextIn | TextLike | TextSame, slots: Slots) -> Ask:
    slot = slots[one.fact.name]
    match one:
        case TextIn(_, words):

            def ask_in(row: Row) -> bool | None:
                value = row[slot]
                return None if value is None else value in words

            return ask_in
        case TextLike(_, parts):

            def ask_like(row: Row) -> bool | None:
                value = row[slot]
                return None if value is None else fits(str(value), parts)

            return ask_like
    return _pair(slot, slots[one.other.name], lambda left, right: left == right)


def _pair(slot: int, other: int, holds: Callable[..., bool]) -> Ask:
    def ask(row: Row) -> bool | None:
        left, right = row[slot], row[other]
        return None if left is None or right is None else holds(left, right)

    return ask


_SETS: dict[str, Callable[..., bool]] = {
    "has": lambda value, word: word in value,
    "has_all": lambda value, words: words <= value,
    "has_any": lambda value, words: not words.isdisjoint(value),
    "within": lambda value, words: value <= words,
    "is": lambda value, words: value == words,
    "empty": lambda value, _words: not value,
}


def _set(one: WordsAsk | WordsMeet, slots: Slots) -> Ask:
    slot = slots[one.fact.name]
    holds = _SETS[one.ask]
    if isinstance(one, WordsMeet):
        return _pair(slot, slots[one.other.name], holds)
    words: frozenset[str] | str = next(iter(one.words)) if one.ask == "has" else one.words

    def ask(row: Row) -> bool | None:
        value = row[slot]
        return None if value is None else holds(value, words)

    return ask
