"""Examines a policy: what each rule can and can't do, decided over all facts, or left open and said so.

Method: the facts that the rules mention split into the classes that the rules can tell apart
(:mod:`headrace.policy.classes`); a search goes through all of them. Where it ends without a row, the statement is *proven* for
all facts; where it finds a row, that row is shown and was decided again by Cedar itself; where the split is inexact or the
search was stopped, the answer is *unknown*, with the reason.

Types, ids and the unknown are checked before, when the policy is read (:mod:`headrace.policy.reading`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Literal

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.policy.algebra import facts_of
from headrace.policy.classes import MOST_STEPS, Classes, Goal, OutOfStepsError, classes_of, find, spread
from headrace.policy.compiled import Ask, Cell
from headrace.policy.reading import Asked, PolicySet, Rule, load
from headrace.policy.reference import by_cedar
from headrace.policy.schema import Value

LEAST_EVALUATIONS = 1_000
"""What each search may take, however many there are."""
MOST_SIZE = 20_000
"""Rows that Cedar decides too, times the rules and facts of the policy: what that takes grows with both."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is looked at.

    ``steps`` of one search, ``evaluations`` of rules in all of them together, ``rows`` of each action that Cedar decides too;
    ``is_shown``: whether each request that disproves something is decided by Cedar too.
    """

    steps: int = MOST_STEPS
    evaluations: int = 4_000_000
    rows: int = 300
    is_shown: bool = True


FULL = Effort()
"""Where somebody asks for a report."""
BRIEF = Effort(evaluations=400_000, rows=60, is_shown=False)
"""Where others wait for a policy to be accepted."""


class Claim(StrEnum):
    """What may be wrong with a rule, or with a whole policy."""

    NEVER = "never holds"
    ALWAYS = "always holds"
    OVERRIDDEN = "is always overridden by a forbid"
    IDLE = "never takes anything away"
    FORBIDS_ALL = "allows nothing"
    ALLOWS_ALL = "allows everything"


State = Literal["proven", "disproven", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a claim is true of a rule (None: of the policy), for all facts.

    ``action`` and ``facts``: a request that disproves it, decided by Cedar too. ``why``: why it is unknown. ``actions``: those
    that the claim is about.
    """

    claim: Claim
    state: State
    rule: Rule | None
    actions: tuple[str, ...] = ()
    action: str = ""
    facts: tuple[tuple[str, Value], ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All answers about a policy; ``compared``: rows on which the compiled rules and Cedar decided alike."""

    policy: PolicySet
    answers: tuple[Answer, ...]
    compared: int

    @property
    def errors(self) -> tuple[Answer, ...]:
        """What is proven and can't be meant: apply refuses a policy with one."""
        return tuple(one for one in self.answers if one.state == "proven" and is_error(one))

    @property
    def warnings(self) -> tuple[Answer, ...]:
        """What is proven and may be meant, and what could not be decided."""
        return tuple(
            one
            for one in self.answers
            if (one.state == "proven" and not is_error(one)) or one.state == "unknown"
        )


def is_error(one: Answer) -> bool:
    """Whether a proven claim is an error: a rule without any effect, a contradiction, a policy that allows nothing at all."""
    if one.claim is Claim.FORBIDS_ALL:
        return not one.actions
    return one.claim in (Claim.NEVER, Claim.OVERRIDDEN)


class DisagreementError(HeadraceError):
    """The compiled rules and Cedar decided a request differently: a defect of Headrace, never of the policy."""

    def __init__(self, message: str) -> None:
        step = "Do not use the policy, and report it with its text."
        super().__init__(Problem(ProblemCode.BROKEN, f"{message}.", step))


def check(policy: PolicySet, effort: Effort = FULL) -> Report:
    """Every answer about a policy. Deterministic. Raises DisagreementError if Cedar decides any of the rows differently."""
    groups = _alike(policy)
    claims = len(groups) * (3 * len(policy.rules) + 1)
    evaluations = max(LEAST_EVALUATIONS, effort.evaluations // claims)
    rows = min(effort.rows, MOST_SIZE // (len(policy.rules) + len(policy.mentions)))
    share = replace(effort, evaluations=evaluations, rows=rows)
    examined = [_Examined(policy, alike, share) for alike in groups]
    answers: list[Answer] = []
    for rule in policy.rules:
        of_rule = [one for one in examined if one.has(rule)]
        answers += [_never(rule, of_rule), _always(rule, of_rule)]
        if answers[-2].state != "proven":
            answers.append(_overridden(rule, of_rule) if rule.is_permit else _idle(rule, of_rule))
    answers += _of_policy(examined)
    return Report(policy, tuple(answers), sum(one.compare() for one in examined))


@lru_cache(maxsize=64)
def accepted(source: str, name: str, where: str = "") -> Report:
    """A policy that may be applied, from its text; HeadraceError with everything that is wrong with it, or proven to be.

    It looks at less than :func:`check` does by itself, so that nobody waits long: what that leaves open is no error.
    """
    report = check(load(source, name, where), BRIEF)
    problems = problems_of(report)
    if problems:
        raise HeadraceError(*problems)
    return report


def problems_of(report: Report) -> list[Problem]:
    """The errors of a report, each with its place and what to do."""
    return [_problem(report, one) for one in report.errors]


def _problem(report: Report, one: Answer) -> Problem:
    if one.rule is None:
        step = "Write a permit that holds for something, or take a forbid back."
        message = f"policy {report.policy.name} {one.claim}: it forbids everything, whatever the facts."
        return Problem(ProblemCode.BAD_INPUT, message, step, report.policy.where)
    message = f"the {one.rule.effect} {one.rule.id!r} {one.claim}, whatever the facts."
    return Problem(ProblemCode.BAD_INPUT, message, "Change it, or leave it out.", one.rule.where)


def _alike(policy: PolicySet) -> list[list[Asked]]:
    """The actions, those together for which the same is asked."""
    found: dict[tuple[object, object], list[Asked]] = {}
    for asked in policy.by_action.values():
        found.setdefault((asked.rules, asked.questions), []).append(asked)
    return list(found.values())


@dataclass(slots=True)
class _Found:
    """What a search came to for some actions: a row, none, or no answer."""

    state: State
    actions: tuple[str, ...]
    facts: tuple[tuple[str, Value], ...] = ()
    why: str = ""


class _Examined:
    """The rules for actions for which the same is asked, with the classes of their facts."""

    def __init__(self, policy: PolicySet, alike: Sequence[Asked], effort: Effort) -> None:
        self.policy, self.asked, self.effort = policy, alike[0], effort
        self.actions = tuple(one.action for one in alike)
        self.classes: Classes = classes_of(self.asked.facts, self.asked.questions)
        self.by_number = {
            rule.number: ask for rule, ask in zip(self.asked.rules, self.asked.asks, strict=True)
        }
        self._overridden: dict[int, _Found] = {}
        slots = {fact.name: at for at, fact in enumerate(self.asked.facts)}
        self.slots = {
            rule.number: tuple(slots[name] for name in facts_of(question))
            for rule, question in zip(self.asked.rules, self.asked.questions, strict=True)
        }
        self.uses = Counter(slot for found in self.slots.values() for slot in found)
        self.permits = [rule.number for rule, _ in self.asked.permits]
        self.forbids = [rule.number for rule, _ in self.asked.forbids]

    def has(self, rule: Rule) -> bool:
        """Whether a rule can hold for these actions at all."""
        return rule.number in self.by_number

    def asks(self, numbers: Sequence[int]) -> list[Ask]:
        """What some rules ask."""
        return [self.by_number[number] for number in numbers]

    def _order(self, numbers: Sequence[int]) -> list[int]:
        """The slots of some rules: those of the first, then what most rules ask about; fewer cells first."""

        def key(slot: int) -> tuple[int, int]:
            return -self.uses[slot], len(self.classes.cells[slot])

        of_first = set(self.slots[numbers[0]]) if numbers else set()
        rest = {slot for number in numbers for slot in self.slots[number]} - of_first
        return sorted(of_first, key=key) + sorted(rest, key=key)

    def search(self, goal: Goal, numbers: Sequence[int]) -> _Found:
        """Whether any facts fulfil a goal about some rules: ``proven`` that none do, or ``disproven`` by a row."""
        steps = min(self.effort.steps, self.effort.evaluations // max(1, len(numbers)))
        try:
            row, _ = find(self.classes, goal, self._order(numbers), steps)
        except OutOfStepsError:
            return _Found("unknown", self.actions, why=f"no answer within {steps} steps")
        if row is None:
            why = self.classes.why
            return _Found("unknown" if why else "proven", self.actions, why=why)
        if goal(row) is not True:
            raise AssertionError(f"{self.policy.name}: {row} does not fulfil what it was found for")
        if self.effort.is_shown:
            self._agree(row, self.actions[0])
        return _Found("disproven", self.actions, tuple(sorted(self.classes.named(row).items())))

    def overridden(self, number: int) -> _Found:
        """Whether a forbid holds wherever a permit does."""
        known = self._overridden.get(number)
        if known is None:
            goal = all_of([self.by_number[number], no(any_of(self.asks(self.forbids)))])
            known = self._overridden[number] = self.search(goal, [number, *self.forbids])
        return known

    def compare(self) -> int:
        """Decide rows by Cedar too; how many."""
        rows = list(spread(self.classes, self.effort.rows))
        for row in rows:
            for action in self.actions:
                self._agree(row, action)
        return len(rows) * len(self.actions)

    def _agree(self, row: Sequence[Cell], action: str) -> None:
        facts = self.classes.named(row)
        ours = self.asked.decide(row)
        allowed, numbers = by_cedar(self.policy.handle, action, facts, self.policy.mentions)
        if (allowed, numbers) != (ours[0], sorted(rule.number for rule in ours[1])):
            message = (
                f"policy {self.policy.name}, {action} with {facts}: {ours} and Cedar {allowed} {numbers}"
            )
            raise DisagreementError(message)


def _together(claim: Claim, rule: Rule | None, found: Sequence[_Found]) -> Answer:
    """A claim about several actions: proven where it is for each, disproven by any."""
    actions = tuple(action for one in found for action in one.actions)
    for state in ("disproven", "unknown"):
        for one in found:
            if one.state == state:
                return Answer(claim, one.state, rule, actions, one.actions[0], one.facts, one.why)
    return Answer(claim, "proven", rule, actions)


def _never(rule: Rule, examined: Sequence[_Examined]) -> Answer:
    found = [one.search(one.by_number[rule.number], [rule.number]) for one in examined]
    return _together(Claim.NEVER, rule, found)


def _always(rule: Rule, examined: Sequence[_Examined]) -> Answer:
    found = [one.search(no(one.by_number[rule.number]), [rule.number]) for one in examined]
    if not found:
        return Answer(Claim.ALWAYS, "disproven", rule, why="no action that it is about")
    return _together(Claim.ALWAYS, rule, found)


def _overridden(rule: Rule, examined: Sequence[_Examined]) -> Answer:
    return _together(Claim.OVERRIDDEN, rule, [one.overridden(rule.number) for one in examined])


def _idle(rule: Rule, examined: Sequence[_Examined]) -> Answer:
    """Whether a forbid never meets a permit, or only where another forbid holds as well."""
    found = []
    for one in examined:
        others = [number for number in one.forbids if number != rule.number]
        asks = [one.by_number[rule.number], any_of(one.asks(one.permits)), no(any_of(one.asks(others)))]
        found.append(one.search(all_of(asks), [rule.number, *one.permits, *others]))
    return _together(Claim.IDLE, rule, found)


def _of_policy(examined: Sequence[_Examined]) -> list[Answer]:
    """Whether it allows nothing, in all or for some actions, or everything."""
    allows, refuses = [], []
    for one in examined:
        allows.append(_allows(one))
        every = [*one.permits, *one.forbids]
        allowed = all_of([any_of(one.asks(one.permits)), no(any_of(one.asks(one.forbids)))])
        refuses.append(one.search(no(allowed), every))
    everything = _together(Claim.ALLOWS_ALL, None, refuses)
    nothing = [one for one in allows if one.state == "proven"]
    if len(nothing) == len(allows):
        return [Answer(Claim.FORBIDS_ALL, "proven", None), everything]
    found = _together(Claim.FORBIDS_ALL, None, allows)
    shut = tuple(action for one in nothing for action in one.actions)
    partly = [Answer(Claim.FORBIDS_ALL, "proven", None, shut)] if shut else []
    return [*partly, found, everything]


def _allows(one: _Examined) -> _Found:
    """Nothing is allowed exactly if every permit is always overridden, or never holds."""
    found = [one.overridden(number) for number in one.permits]
    for state in ("disproven", "unknown"):
        for answer in found:
            if answer.state == state:
                return answer
    return _Found("proven", one.actions)


def no(ask: Ask | Goal) -> Goal:
    """Not; None as long as that is open."""

    def goal(row: Sequence[Cell]) -> bool | None:
        found = ask(row)
        return None if found is None else not found

    return goal


def all_of(asks: Sequence[Goal]) -> Goal:
    """All of several; None as long as that is open."""

    def goal(row: Sequence[Cell]) -> bool | None:
        found: bool | None = True
        for ask in asks:
            one = ask(row)
            if one is False:
                return False
            found = found if one else None
        return found

    return goal


def any_of(asks: Sequence[Ask]) -> Goal:
    """Any of several; None as long as that is open."""
    return no(all_of([no(ask) for ask in asks]))
