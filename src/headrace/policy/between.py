"""What one policy allows and another doesn't, over all facts: proven to be nothing, or shown by a request, or left open.

The method is that of :mod:`headrace.policy.check`, on the rules of both policies at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.policy.check import FULL, DisagreementError, Effort, State, all_of, any_of, no
from headrace.policy.classes import Classes, Goal, OutOfStepsError, classes_of, find
from headrace.policy.compiled import Ask, Cell, compiled
from headrace.policy.reading import Asked, PolicySet
from headrace.policy.schema import Fact, Value


@dataclass(frozen=True, slots=True)
class Gap:
    """Whether the new policy allows what the old one doesn't (``is_newly``), or the old what the new doesn't, to an action.

    ``proven``: it doesn't, whatever the facts. ``disproven``: ``facts`` are those of a request that it does allow, decided by
    Cedar under both. ``unknown``: ``why``.
    """

    is_newly: bool
    action: str
    state: State
    facts: tuple[tuple[str, Value], ...] = ()
    why: str = ""


def between(old: PolicySet, new: PolicySet, effort: Effort = FULL) -> list[Gap]:
    """For each action what ``new`` allows and ``old`` doesn't, and what ``old`` allows and ``new`` doesn't. Deterministic.

    Raises DisagreementError if Cedar decides a request that is found otherwise.
    """
    found: list[Gap] = []
    for action in old.by_action:
        pair = _Pair(old.by_action[action], new.by_action[action])
        for is_newly, (allowing, refusing) in ((True, (new, old)), (False, (old, new))):
            found.append(_gap(pair, allowing, refusing, is_newly=is_newly, effort=effort))
    return found


class _Pair:
    """The rules of two policies for one action, on one row."""

    def __init__(self, old: Asked, new: Asked) -> None:
        facts: dict[str, Fact] = {fact.name: fact for fact in (*old.facts, *new.facts)}
        slots = {name: at for at, name in enumerate(facts)}
        self.action = old.action
        self.classes: Classes = classes_of(tuple(facts.values()), (*old.questions, *new.questions))
        self.old, self.new = _allows(old, slots), _allows(new, slots)
        self.size = max(1, len(old.rules) + len(new.rules))
        self.order = sorted(range(len(facts)), key=lambda slot: len(self.classes.cells[slot]))


def _allows(asked: Asked, slots: dict[str, int]) -> Goal:
    permits: list[Ask] = []
    forbids: list[Ask] = []
    for rule, question in zip(asked.rules, asked.questions, strict=True):
        (permits if rule.is_permit else forbids).append(compiled(question, slots))
    return all_of([any_of(permits), no(any_of(forbids))])


def _gap(pair: _Pair, allowing: PolicySet, refusing: PolicySet, *, is_newly: bool, effort: Effort) -> Gap:
    here, there = (pair.new, pair.old) if is_newly else (pair.old, pair.new)
    steps = min(effort.steps, effort.evaluations // (2 * pair.size))
    try:
        row, _ = find(pair.classes, all_of([here, no(there)]), pair.order, steps)
    except OutOfStepsError:
        return Gap(is_newly, pair.action, "unknown", why=f"no answer within {steps} steps")
    if row is None:
        why = pair.classes.why
        return Gap(is_newly, pair.action, "unknown" if why else "proven", why=why)
    _confirm(pair, row, allowing, refusing)
    return Gap(is_newly, pair.action, "disproven", tuple(sorted(pair.classes.named(row).items())))


def _confirm(pair: _Pair, row: Sequence[Cell], allowing: PolicySet, refusing: PolicySet) -> None:
    facts = pair.classes.named(row)
    allowed, refused = allowing.by_cedar(pair.action, facts)[0], refusing.by_cedar(pair.action, facts)[0]
    if not allowed or refused:
        message = f"{pair.action} with {facts}: Cedar finds no difference between {allowing.name} and {refusing.name}"
        raise DisagreementError(message)
