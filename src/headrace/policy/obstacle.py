"""What keeps rules from allowing something: which rule, which facts decide, and what stating an unknown one would do."""

from collections.abc import Iterator, Mapping
from datetime import date
from itertools import islice, product

from headrace.core.authority import Obstacle
from headrace.policy.algebra import facts_of
from headrace.policy.classes import Classes, classes_of
from headrace.policy.compiled import Cell
from headrace.policy.reading import MOST_FACTS, Asked, PolicySet, Rule, shown
from headrace.policy.schema import MOST_DAYS, UNKNOWN, Fact, Value

MOST_TOGETHER = 4_096
"""Values of several unknown facts that are tried together."""
_EPOCH = date(1970, 1, 1).toordinal()
_A_YEAR = 365


def obstacle_of(rules: PolicySet, action: str, facts: Mapping[str, Value]) -> Obstacle | None:
    """What keeps a policy from allowing ``action`` (by Cedar's name); None where it allows it."""
    asked = rules.by_action[action]
    row = asked.read(facts)
    allowed, against = asked.decide(row)
    if allowed:
        return None
    if against:
        said = "; ".join(f"rule {one.said} forbids it: {_asked_by(asked, one, row)}" for one in against)
    else:
        way, permits = asked.in_the_way(row), ", ".join(one.id for one, _ in asked.permits)
        said = (
            f"does not permit it: {way} (rule {permits})"
            if way
            else f"does not permit it: it has no permit for {action}"
        )
    unknown = [slot for slot, fact in enumerate(asked.facts) if _is_unknown(fact, row[slot], facts)]
    return Obstacle(
        f"policy {rules.name} {said}" if not against else f"policy {rules.name}: {said}",
        _stated(asked, row, unknown),
    )


def _asked_by(asked: Asked, rule: Rule, row: list[Cell]) -> str:
    """The facts that a rule asks for, as they are."""
    question = asked.questions[asked.rules.index(rule)]
    slots = {fact.name: at for at, fact in enumerate(asked.facts)}
    named = sorted(f"{name} is {shown(row[slots[name]])}" for name in facts_of(question))
    more = [f"and {len(named) - MOST_FACTS} more"] if len(named) > MOST_FACTS else []
    return "; ".join(named[:MOST_FACTS] + more)


def _is_unknown(fact: Fact, cell: Cell, facts: Mapping[str, Value]) -> bool:
    """Whether nobody stated a fact, or not all of it; nobody states what today is, or who asks."""
    if fact.is_known or not fact.name.startswith("site."):
        return False
    if isinstance(cell, frozenset):
        return UNKNOWN in cell
    family = f"{fact.name.rpartition('.')[0]}.*"
    is_stated = fact.name in facts or family in facts
    return cell == UNKNOWN or (not is_stated and cell == fact.unknown)


def _stated(asked: Asked, row: list[Cell], unknown: list[int]) -> str:
    """What stating the unknown facts would do; "" where nothing that decides is unknown."""
    if not unknown:
        return ""
    classes = classes_of(asked.facts, asked.questions)
    tries = {slot: list(_cells(asked, row, classes, slot)) for slot in unknown}
    for slots in [[slot] for slot in unknown] + ([unknown] if len(unknown) > 1 else []):
        for cells in islice(product(*(tries[slot] for slot in slots)), MOST_TOGETHER):
            then = list(row)
            for slot, cell in zip(slots, cells, strict=True):
                then[slot] = cell
            if asked.decide(then)[0]:
                pairs = zip(slots, cells, strict=True)
                said = " and ".join(
                    f"{asked.facts[at].name} were {_named(asked.facts[at], cell)}" for at, cell in pairs
                )
                return f"would be allowed if {said}, say, which nobody states"
    names = ", ".join(asked.facts[slot].name for slot in unknown[:MOST_FACTS])
    return f"stating what is unknown ({names}) would not be enough by itself"


def _cells(asked: Asked, row: list[Cell], classes: Classes, slot: int) -> Iterator[Cell]:
    """Values of a fact that rules tell apart, those that say least last."""
    fact = asked.facts[slot]
    if fact.most == MOST_DAYS:
        names = [one.name for one in asked.facts]
        today = row[names.index("day")] if "day" in names else None
        yield (today if isinstance(today, int) else 0) + _A_YEAR
    cells = [
        one
        for one in classes.cells[slot]
        if one != UNKNOWN and not (isinstance(one, frozenset) and UNKNOWN in one)
    ]
    yield from sorted(cells, key=lambda one: one in ("", frozenset()))


def _named(fact: Fact, cell: Cell) -> str:
    """A value as it is stated in a document."""
    if fact.most == MOST_DAYS and isinstance(cell, int):
        return date.fromordinal(_EPOCH + cell).isoformat()
    return shown(cell)
