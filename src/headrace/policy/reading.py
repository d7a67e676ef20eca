"""Reading a policy: Cedar parses and validates its text, then its rules are typed, checked and compiled, once.

Cedar (by ``cedarpy``) stays the reference: :meth:`PolicySet.by_cedar` asks it. What decides in production is compiled from
Cedar's own syntax tree (:mod:`headrace.policy.compiled`) and held equal to it by tests.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version

import cedarpy
from cedarpy import pst

from headrace.core.authority import digest_of
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import Digest
from headrace.policy import text
from headrace.policy.algebra import Both, Const, Question, facts_of
from headrace.policy.compiled import Ask, Cell, Row, compiled, reader
from headrace.policy.knowledge import Way, advice, careless
from headrace.policy.places import Places, places_of
from headrace.policy.reference import by_cedar, mentions
from headrace.policy.rules import WrongError, question_of
from headrace.policy.schema import ACTIONS, Fact, Value, schema_digest, schema_text

ENGINE = f"cedarpy {version('cedarpy')}; headrace 1"
"""What decides, in every policy's digest: Cedar's version, and that of the compiled form."""
MAX_REASON = 300
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MOST_FACTS = 4
"""So many facts are named where no rule permits."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its ``@id``, its ``@reason`` ("" for none), and where it stands."""

    id: str
    reason: str
    is_permit: bool
    where: str
    number: int
    """Its place in the text, from 0; Cedar calls it ``policyN``."""

    @property
    def said(self) -> str:
        """The rule in a verdict's reasons."""
        return f"{self.id}: {self.reason}" if self.reason else self.id

    @property
    def effect(self) -> str:
        """permit or forbid."""
        return "permit" if self.is_permit else "forbid"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a policy asks for one action: its facts in the order of a row's slots, and the rules that can hold at all.

    ``questions`` and ``asks`` are by the rule's place in ``rules``; forbids stand before permits.
    """

    action: str
    facts: tuple[Fact, ...]
    rules: tuple[Rule, ...]
    questions: tuple[Question, ...]
    asks: tuple[Ask, ...]
    read: Callable[[Mapping[str, Value]], list[Cell]]
    forbids: tuple[tuple[Rule, Ask], ...]
    permits: tuple[tuple[Rule, Ask], ...]
    needs: tuple[tuple[tuple[int, ...], Ask], ...]
    """The parts of permits that must all hold, each with the slots that it looks at."""

    def decide(self, row: Row) -> tuple[bool, tuple[Rule, ...]]:
        """Allowed or not, and the rules that determine it: every forbid that holds, else every permit that holds."""
        against = tuple(rule for rule, ask in self.forbids if ask(row))
        if against:
            return False, against
        found = tuple(rule for rule, ask in self.permits if ask(row))
        return bool(found), found

    def in_the_way(self, row: Row) -> str:
        """The facts for which no permit holds, as ``site.country is GB``; "" where no permit is about this action."""
        found = {slot for slots, ask in self.needs if not ask(row) for slot in slots}
        listed = sorted(f"{self.facts[slot].name} is {shown(row[slot])}" for slot in found)
        more = [f"and {len(listed) - MOST_FACTS} more"] if len(listed) > MOST_FACTS else []
        return "; ".join(listed[:MOST_FACTS] + more)


def shown(cell: Cell) -> str:
    """A value of a row as people read it."""
    if isinstance(cell, frozenset):
        return " ".join(sorted(cell)) or "none"
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell) if cell not in ("", None) else "not stated"


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A policy's rules, read, typed and compiled. ``where`` is its file."""

    name: str
    text: str = field(repr=False)
    where: str
    rules: tuple[Rule, ...]
    digest: Digest
    by_action: Mapping[str, Asked] = field(repr=False)
    handle: cedarpy.PolicySet = field(repr=False)
    mentions: tuple[str, ...] = field(repr=False)
    """All facts that stand in the text: what Cedar itself must be given."""

    def decide(self, action: str, facts: Mapping[str, Value]) -> tuple[bool, tuple[Rule, ...]]:
        """Allowed or not by the compiled rules, and which determine it; ``action`` by Cedar's name."""
        asked = self.by_action[action]
        return asked.decide(asked.read(facts))

    def by_cedar(self, action: str, facts: Mapping[str, Value]) -> tuple[bool, tuple[Rule, ...]]:
        """The same by Cedar itself: the reference. AssertionError if a rule could not be evaluated."""
        allowed, numbers = by_cedar(self.handle, action, facts, self.mentions)
        return allowed, tuple(self.rules[number] for number in numbers)


@lru_cache(maxsize=1)
def cedar_schema() -> cedarpy.Schema:
    """The schema, parsed once."""
    return cedarpy.Schema.from_str(schema_text())


def load(source: str, name: str, where: str = "", *, may_guess: bool = False) -> PolicySet:
    """A policy from its text; HeadraceError with everything that is wrong with it, each with line and column.

    Wrong is: what Cedar's parser and validator refuse; what Headrace's facts can't answer; a rule without an id of its own;
    a rule that takes the unknown for clean; a text without a rule, which would forbid everything. ``may_guess`` lets the last but
    one through: for comparing with Cedar, never for deciding.
    """
    where = where or name
    pieces = text.pieces_of(source, where)
    try:
        handle = cedarpy.PolicySet.from_str(source)
    except ValueError as error:
        raise _not_cedar(source, pieces, where, str(error)) from None
    rules = _rules(source, pieces, where)
    reading = _Reading(where, pieces, rules, may_guess=may_guess)
    reading.check_types(source)
    if reading.problems:
        raise HeadraceError(*reading.problems)
    named = tuple(
        Rule(
            one.annotations["id"],
            one.annotations.get("reason", ""),
            one.effect == "permit",
            reading.at(number),
            number,
        )
        for number, one in enumerate(rules)
    )
    by_action = {
        action: _asked(action, named, [reading.questions[number, action] for number in range(len(rules))])
        for action in ACTIONS.values()
    }
    hashed = hashlib.sha256(source.encode()).hexdigest()
    digest = digest_of(["cedar", ENGINE, schema_digest(), hashed])
    return PolicySet(name, source, where, named, digest, by_action, handle, mentions(rules))


def _not_cedar(source: str, pieces: tuple[text.Piece, ...], where: str, said: str) -> HeadraceError:
    """Where Cedar's parser stumbled, and over what."""
    for piece in pieces:
        start, end = piece.tokens[0].start, piece.tokens[-1].end
        complaint = _complaint(source[start:end])
        if complaint:
            token = text.first_wrong(source, piece, _complaint)
            if complaint == text.END:
                token = piece.tokens[-1]
            return HeadraceError(_problem(where, token, f"not Cedar: {complaint}.", _step(complaint, token)))
    step = "Check it with the Cedar command line."
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, f"not Cedar: {said}.", step, where))


def _complaint(source: str) -> str:
    try:
        cedarpy.PolicySet.from_str(source)
    except ValueError as error:
        return str(error)
    return ""


def _step(complaint: str, token: text.Token) -> str:
    if complaint == text.END:
        return "Close it: every rule ends in a semicolon."
    return f"Check what stands just before {token.text[:40]}."


def _problem(where: str, token: text.Token, message: str, step: str) -> Problem:
    return Problem(ProblemCode.BAD_INPUT, message, step, f"{where}:{token.line}:{token.column}")


def _rules(source: str, pieces: tuple[text.Piece, ...], where: str) -> list[pst.Template]:
    """Cedar's trees of the rules, in the order of the text."""
    try:
        tree = cedarpy.policies_to_pst(source)
    except ValueError:
        raise _too_deep(source, pieces, where) from None
    if tree.templates:
        number = min(int(one.removeprefix("policy")) for one in tree.templates)
        token = next((one for one in pieces[number].tokens if one.text == "?"), pieces[number].first)
        raise HeadraceError(_problem(where, token, "a rule with a slot.", "Write the value out."))
    if not tree.static_policies:
        step = "Write at least one permit; 'headrace policy check public' shows one."
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, "no rule in it: it forbids everything.", step, where)
        )
    return [tree.static_policies[f"policy{number}"] for number in range(len(tree.static_policies))]


def _too_deep(source: str, pieces: tuple[text.Piece, ...], where: str) -> HeadraceError:
    """Which rule's tree is deeper than Cedar's binding hands out."""
    deep = pieces[0].first
    for piece in pieces:
        try:
            cedarpy.policies_to_pst(source[piece.tokens[0].start : piece.tokens[-1].end])
        except ValueError:
            deep = piece.first
            break
    step = "Write it as several rules, or several conditions: when { .. } when { .. }."
    place = f"{where}:{deep.line}:{deep.column}"
    return HeadraceError(
        Problem(
            ProblemCode.TOO_LARGE, "a rule whose expressions nest more than 100 levels deep.", step, place
        )
    )


class _Reading:
    """What is found while the rules of one text are read."""

    def __init__(
        self, where: str, pieces: tuple[text.Piece, ...], rules: list[pst.Template], *, may_guess: bool
    ) -> None:
        self.where, self.pieces, self.rules, self.may_guess = where, pieces, rules, may_guess
        self.problems: list[Problem] = []
        self.questions: dict[tuple[int, str], Question] = {}

    def check_types(self, source: str) -> None:
        """Everything that can be wrong with a rule that Cedar could parse; one problem for each rule."""
        found = cedarpy.validate_policies(source, cedar_schema())
        said: dict[int, str] = {}
        for one in found.errors:
            said.setdefault(int(one.policy_id.removeprefix("policy")), one.error)
        seen: dict[str, int] = {}
        for number, rule in enumerate(self.rules):
            before = len(self.problems)
            self._check_id(number, rule, seen)
            self._read(number, rule)
            if len(self.problems) == before and number in said:
                message = said[number].replace(f"for policy `policy{number}`, ", "")
                token = text.named_in(self.pieces[number], message)
                step = "The schema's facts are in the guide."
                self.problems.append(_problem(self.where, token, f"{message}.", step))

    def at(self, number: int) -> str:
        """Where a rule stands."""
        token = self.pieces[number].first
        return f"{self.where}:{token.line}:{token.column}"

    def _check_id(self, number: int, rule: pst.Template, seen: dict[str, int]) -> None:
        ident = rule.annotations.get("id", "")
        reason = rule.annotations.get("reason", "")
        first = self.pieces[number].first
        if len(reason) > MAX_REASON or not reason.isprintable():
            message = f"a @reason of more than one line or {MAX_REASON} characters."
            self.problems.append(_problem(self.where, first, message, "Say it in a sentence."))
        if not ident:
            step = 'Write @id("a-name") before it: decisions name the rules that made them.'
            self.problems.append(_problem(self.where, first, "a rule without an @id.", step))
        elif not _ID.fullmatch(ident):
            step = "Use letters, digits, dots, dashes and underscores, at most 63."
            self.problems.append(_problem(self.where, first, "an @id that is not a name.", step))
        elif ident in seen:
            line = self.pieces[seen[ident]].first.line
            message = f"two rules have the id {ident!r}; the first is in line {line}."
            self.problems.append(_problem(self.where, first, message, "Give it another @id."))
        seen.setdefault(ident, number)

    def _read(self, number: int, rule: pst.Template) -> None:
        places = places_of(rule, self.pieces[number])
        for action in ACTIONS.values():
            try:
                question = question_of(rule, action)
            except WrongError as wrong:
                token = places.of(wrong.node, wrong.word, _hint(wrong))
                self.problems.append(_problem(self.where, token, wrong.message, wrong.step))
                return
            self.questions[number, action] = question
        if not self.may_guess:
            self._check_unknown(number, rule, places)

    def _check_unknown(self, number: int, rule: pst.Template, places: Places) -> None:
        way: Way = "fades" if rule.effect == "permit" else "spreads"
        for action in ACTIONS.values():
            atom = careless(self.questions[number, action], way)
            if atom is not None:
                names = " and ".join(sorted(facts_of(atom)))
                message = f"this {rule.effect} would take an unknown {names} for clean."
                token = places.of(atom.node)
                self.problems.append(_problem(self.where, token, message, advice(atom, rule.effect)))
                return


def _hint(wrong: WrongError) -> str:
    return wrong.message.replace("'", "`")


def _asked(action: str, rules: tuple[Rule, ...], questions: list[Question]) -> Asked:
    """What is asked for one action, compiled; rules that can't hold whatever the facts are left out."""
    live = [(rule, one) for rule, one in zip(rules, questions, strict=True) if one != Const(False)]
    live.sort(key=lambda pair: (pair[0].is_permit, pair[0].number))
    facts: dict[str, Fact] = {}
    for _, question in live:
        facts |= facts_of(question)
    slots = {name: at for at, name in enumerate(facts)}
    asks = tuple(compiled(question, slots) for _, question in live)
    needs = [part for rule, question in live if rule.is_permit for part in _parts(question)]
    pairs = [(rule, ask) for (rule, _), ask in zip(live, asks, strict=True)]
    return Asked(
        action=action,
        facts=tuple(facts.values()),
        rules=tuple(rule for rule, _ in live),
        questions=tuple(question for _, question in live),
        asks=asks,
        read=reader(tuple(facts.values())),
        forbids=tuple(pair for pair in pairs if not pair[0].is_permit),
        permits=tuple(pair for pair in pairs if pair[0].is_permit),
        needs=tuple((tuple(slots[name] for name in facts_of(one)), compiled(one, slots)) for one in needs),
    )


def _parts(question: Question) -> Iterator[Question]:
    if isinstance(question, Both):
        yield from _parts(question.left)
        yield from _parts(question.right)
    else:
        yield question
