"""Unknown is not clean: shows that no rule of a policy allows more when less is known.

For each question it is worked out whether knowing less can only turn it from true to false (it *fades*), only from false to true
(it *spreads*), neither, or both (the question asks about nothing that can be unknown). A permit must fade, a forbid must
spread: then a request that is refused with all facts known is refused with any of them unknown, and an allowed one is allowed
whatever the unknown turns out to be. The proof is by the form of the rule, in time proportional to its length; a rule whose form
doesn't show it is refused with the question that is in the way, also where it happens to be harmless.

What less knowledge does to a fact: a text becomes ``unknown``; a set loses words and gains ``unknown``; a number goes the way of
its drift; the truth of a boolean becomes false.
"""

from typing import Literal, NamedTuple

from headrace.policy import schema
from headrace.policy.algebra import (
    Alike,
    Atom,
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
    atoms,
)

Way = Literal["fades", "spreads"]


class Ways(NamedTuple):
    """Whether a question fades, and whether it spreads, when less is known; both: nothing in it can be unknown."""

    fades: bool
    spreads: bool


_FADES, _SPREADS = Ways(True, False), Ways(False, True)
_KNOWN, _NEITHER = Ways(True, True), Ways(False, False)


def ways_of(question: Question) -> Ways:
    """Which way a question goes when less is known."""
    match question:
        case Const():
            return _KNOWN
        case Not(one):
            found = ways_of(one)
            return Ways(found.spreads, found.fades)
        case Both(left, right) | Either(left, right):
            return _together(ways_of(left), ways_of(right))
        case Choice(cond, then, other):
            return _together(ways_of(then), ways_of(other)) if ways_of(cond) == _KNOWN else _NEITHER
        case Alike(left, right):
            return _KNOWN if ways_of(left) == ways_of(right) == _KNOWN else _NEITHER
    return _of_atom(question)


def _together(left: Ways, right: Ways) -> Ways:
    return Ways(left.fades and right.fades, left.spreads and right.spreads)


def _of_atom(one: Atom) -> Ways:
    match one:
        case Truth():
            return _FADES
        case TextIn(fact, words):
            return _KNOWN if fact.is_known else _of_words(schema.UNKNOWN in words)
        case TextLike(fact, parts):
            return _KNOWN if fact.is_known else _of_words(fits(schema.UNKNOWN, parts))
        case TextSame(fact, other):
            return _KNOWN if fact.is_known and other.is_known else _NEITHER
        case WordsAsk(_, ask, words):
            return _of_set(ask, schema.UNKNOWN in words)
        case WordsMeet():
            return _NEITHER
        case Compare():
            return _of_compare(one)


def _of_words(is_true_of_unknown: bool) -> Ways:
    return _SPREADS if is_true_of_unknown else _FADES


def _of_set(ask: str, has_unknown: bool) -> Ways:
    """A set that is less known has fewer of the words, and ``unknown``."""
    if not has_unknown:
        return _FADES
    return _SPREADS if ask in ("has", "has_any", "within") else _NEITHER


def _of_compare(one: Compare) -> Ways:
    moves = [fact.drift * times for fact, times in one.sum.terms if not fact.is_known]
    if not moves:
        return _KNOWN
    if one.op == "==" or not all(moves):
        return _NEITHER
    if all(move > 0 for move in moves):
        return _FADES
    return _SPREADS if all(move < 0 for move in moves) else _NEITHER


def fits(text: str, parts: tuple[str, ...]) -> bool:
    """Whether a text is the parts in order, with anything between them."""
    first, *rest = parts
    if not rest:
        return text == first
    if not text.startswith(first) or not text.endswith(rest[-1]):
        return False
    at, end = len(first), len(text) - len(rest[-1])
    for part in rest[:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end


def careless(question: Question, way: Way) -> Atom | None:
    """The first question about a fact that doesn't go the way that a rule must go; None when the rule goes it."""
    found = ways_of(question)
    if found.fades if way == "fades" else found.spreads:
        return None
    other: Way = "spreads" if way == "fades" else "fades"
    match question:
        case Not(one):
            return careless(one, other)
        case Both(left, right) | Either(left, right):
            return careless(left, way) or careless(right, way)
        case Choice(cond, then, other_branch):
            if ways_of(cond) != _KNOWN:
                return next(one for one in atoms(cond) if ways_of(one) != _KNOWN)
            return careless(then, way) or careless(other_branch, way)
        case Alike():
            return next(one for one in atoms(question) if ways_of(one) != _KNOWN)
        case Const():
            return None
    return question


def advice(one: Atom, effect: str) -> str:
    """What to write instead of a question that takes the unknown for clean."""
    if isinstance(one, Truth):
        return "Ask that it is true in a permit, or after unless in a forbid."
    if isinstance(one, Compare):
        return (
            "Ask that control_max_ppm is low, that control_min_ppm is high, that a certificate lasts: in a permit's when, "
            "or in a forbid's unless."
        )
    if effect == "forbid" and isinstance(one, TextIn | WordsAsk):
        return 'Put "unknown" into the list, or say what is right instead: forbid .. unless { it is what it should be }.'
    if effect == "forbid":
        return "Say what is right instead: forbid .. unless { it is what it should be }."
    return "Say what is right instead: permit .. when { it is what it should be }."
