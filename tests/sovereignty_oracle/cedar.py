"""Cedar, as its language reference has it, for the rules that the worlds here make: trees, their text, and what they say.

A tree is a tuple of an operator's name and its operands. Nothing of it is taken from ``headrace.policy``: facts are looked up by
a callable, so that the same tree can be asked about what is computed, about a completion, or about Cedar's own request.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import cast

Tree = tuple[object, ...]
Value = str | int | bool | Fraction | frozenset[str]
Facts = Callable[[str], Value]
"""A fact by its path: ``resource.operator.seat``."""
IN_GROUP = {"run": {"place", "route-prompt"}, "keep": {"copy-data", "back-up", "replicate"}}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: ``actions`` are what it is about (none: all), ``when`` and ``unless`` its conditions."""

    ident: str
    is_permit: bool
    actions: tuple[str, ...] = ()
    kind: str = ""
    when: tuple[Tree, ...] = ()
    unless: tuple[Tree, ...] = ()

    def text(self) -> str:
        scope = "action"
        if len(self.actions) == 1 and self.actions[0] in IN_GROUP:
            scope = f'action in Action::"{self.actions[0]}"'
        elif len(self.actions) == 1:
            scope = f'action == Action::"{self.actions[0]}"'
        elif self.actions:
            scope = "action in [" + ", ".join(f'Action::"{one}"' for one in self.actions) + "]"
        who = f"principal is {self.kind}" if self.kind else "principal"
        lines = [
            f'@id("{self.ident}") @reason("{self.ident}")',
            f"{'permit' if self.is_permit else 'forbid'} ({who}, {scope}, resource)",
        ]
        lines += [f"when {{ {said(one)} }}" for one in self.when]
        lines += [f"unless {{ {said(one)} }}" for one in self.unless]
        return "\n".join(lines) + ";\n"

    def is_about(self, action: str, kind: str) -> bool:
        named = {action for name in self.actions for action in IN_GROUP.get(name, {name})}
        return (not self.actions or action in named) and self.kind in ("", kind)


def text_of(rules: Sequence[Rule]) -> str:
    return "\n".join(rule.text() for rule in rules)


def allows(rules: Sequence[Rule], facts: Facts, action: str = "place", kind: str = "Work") -> bool:
    """Default deny, and forbid over permit whatever the order."""
    holding = [one for one in rules if one.is_about(action, kind) and holds(one, facts)]
    return any(one.is_permit for one in holding) and all(one.is_permit for one in holding)


def holds(rule: Rule, facts: Facts) -> bool:
    """All ``when`` hold, and none of ``unless``."""
    return all(truth(one, facts) for one in rule.when) and not any(truth(one, facts) for one in rule.unless)


def truth(tree: Tree, facts: Facts) -> bool:
    found = value(tree, facts)
    if not isinstance(found, bool):
        raise TypeError(f"{said(tree)} is no truth")
    return found


def value(tree: Tree, facts: Facts) -> Value:
    """What an expression is."""
    name, *rest = tree
    match name:
        case "fact":
            return facts(str(rest[0]))
        case "lit":
            return cast(Value, rest[0])
        case "words":
            return cast(frozenset[str], rest[0])
        case "and":
            return all(truth(one, facts) for one in _trees(rest))
        case "or":
            return any(truth(one, facts) for one in _trees(rest))
        case "not":
            return not truth(_trees(rest)[0], facts)
        case "if":
            cond, then, other = _trees(rest)
            return value(then if truth(cond, facts) else other, facts)
        case "like":
            return fnmatchcase(str(value(_trees(rest[:1])[0], facts)), str(rest[1]))
    return _of_two(str(name), [value(one, facts) for one in _trees(rest)])


def _trees(rest: Sequence[object]) -> list[Tree]:
    return [one for one in rest if isinstance(one, tuple)]


def _of_two(name: str, values: Sequence[Value]) -> Value:
    one, two = values
    if name in ("==", "!="):
        return (one == two) is (name == "==")
    if isinstance(one, frozenset):
        return _of_sets(name, one, two)
    if isinstance(one, int | Fraction) and isinstance(two, int | Fraction):
        return _of_numbers(name, one, two)
    raise TypeError(f"{name} of {one!r} and {two!r}")


def _of_sets(name: str, one: frozenset[str], two: Value) -> bool:
    if name == "contains":
        return two in one
    if not isinstance(two, frozenset):
        raise TypeError(f"{name} of {two!r}")
    return two <= one if name == "containsAll" else bool(two & one)


def _of_numbers(name: str, one: int | Fraction, two: int | Fraction) -> Value:
    match name:
        case "<":
            return one < two
        case "<=":
            return one <= two
        case ">":
            return one > two
        case ">=":
            return one >= two
        case "+":
            return one + two
        case "-":
            return one - two
    return one * two


def said(tree: Tree) -> str:
    """The text of an expression."""
    name, *rest = tree
    match name:
        case "fact":
            return str(rest[0])
        case "lit":
            return _literal(rest[0])
        case "entity":
            return str(rest[0])
        case "words":
            return "[" + ", ".join(f'"{one}"' for one in sorted(cast(frozenset[str], rest[0]))) + "]"
        case "and" | "or":
            return "(" + (" && " if name == "and" else " || ").join(said(one) for one in _trees(rest)) + ")"
        case "not":
            return f"!({said(_trees(rest)[0])})"
        case "if":
            cond, then, other = (said(one) for one in _trees(rest))
            return f"(if {cond} then {then} else {other})"
        case "like":
            return f'{said(_trees(rest[:1])[0])} like "{rest[1]}"'
        case "contains" | "containsAll" | "containsAny":
            one, two = (said(one) for one in _trees(rest))
            return f"{one}.{name}({two})"
    one, two = (said(one) for one in _trees(rest))
    return f"({one} {name} {two})"


def _literal(found: object) -> str:
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found) if isinstance(found, int) else f'"{found}"'


def facts_in(rules: Sequence[Rule]) -> frozenset[str]:
    """The paths of all facts that rules ask for."""
    return frozenset(path for rule in rules for tree in (*rule.when, *rule.unless) for path in _paths(tree))


def _paths(tree: Tree) -> list[str]:
    if tree[0] == "fact":
        return [str(tree[1])]
    return [path for one in _trees(tree[1:]) for path in _paths(one)]
