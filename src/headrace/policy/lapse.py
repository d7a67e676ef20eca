"""When a decision ends by itself: the first day on which, all other facts unchanged, other rules determine it."""

from collections.abc import Iterator, Mapping

from headrace.policy.algebra import Compare, atoms
from headrace.policy.compiled import Cell
from headrace.policy.reading import Asked, PolicySet
from headrace.policy.schema import MOST_DAYS, Value


def changes_on(policy: PolicySet, action: str, facts: Mapping[str, Value]) -> int | None:
    """The first day after the ``day`` of the facts on which the decision, or what determines it, is another; None: never.

    ``action`` by Cedar's name. A certificate whose last day is day 100 gives 101. Exact: between the days at which a comparison
    with today turns, nothing can change, and all of those are looked at.
    """
    asked = policy.by_action[action]
    slots = {fact.name: at for at, fact in enumerate(asked.facts)}
    if "day" not in slots:
        return None
    row = asked.read(facts)
    today = row[slots["day"]]
    now = asked.decide(row)
    turns = sorted({day for day in _turns(asked, slots, row) if _int(today) < day <= MOST_DAYS})
    for day in turns:
        row[slots["day"]] = day
        if asked.decide(row) != now:
            return day
    return None


def _turns(asked: Asked, slots: Mapping[str, int], row: list[Cell]) -> Iterator[int]:
    """Days around which a comparison with today turns; more than are needed."""
    for question in asked.questions:
        for atom in atoms(question):
            if not isinstance(atom, Compare):
                continue
            rest, of_day = atom.sum.constant, 0
            for fact, times in atom.sum.terms:
                if fact.name == "day":
                    of_day += times
                else:
                    rest += times * _int(row[slots[fact.name]])
            if of_day:
                point = -rest // of_day
                yield from (point, point + 1)


def _int(cell: Cell) -> int:
    if not isinstance(cell, int):
        raise AssertionError(f"{cell!r} is not a number")
    return cell
