"""Cedar itself, asked with a request's facts as its own entities: what the compiled rules are held equal to."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass

import cedarpy
from cedarpy import pst

from headrace.policy.compiled import Cell, reader
from headrace.policy.schema import GROUPS, PRINCIPAL_OF, Value, by_name, by_path


def by_cedar(
    handle: cedarpy.PolicySet, action: str, facts: Mapping[str, Value], names: Iterable[str]
) -> tuple[bool, list[int]]:
    """Allowed or not, and the numbers of the rules that determine it; ``names`` are the facts that the rules ask about.

    AssertionError if a rule could not be evaluated.
    """
    request, entities = request_of(action, facts, names)
    found = cedarpy.is_authorized(request, handle, entities)
    if found.diagnostics.errors or found.decision is cedarpy.Decision.NoDecision:
        raise AssertionError(f"Cedar could not decide: {found.diagnostics.errors}")
    return found.allowed, sorted(int(one.removeprefix("policy")) for one in found.diagnostics.reasons)


def mentions(rules: Iterable[pst.Template]) -> tuple[str, ...]:
    """All facts that rules ask Cedar for, also where the answer can't matter: Cedar wants them to be there."""
    found = {fact.name for rule in rules for path in _paths(rule) if (fact := by_path(path)) is not None}
    return tuple(sorted(found))


def _paths(node: object) -> Iterator[tuple[str, ...]]:
    """Every path below a node, the beginnings of paths among them."""
    if isinstance(node, pst.GetAttr):
        yield _path(node)
    if is_dataclass(node):
        for one in fields(node):
            yield from _paths(getattr(node, one.name))
    elif isinstance(node, tuple):
        for one in node:
            yield from _paths(one)


def _path(node: pst.Expr) -> tuple[str, ...]:
    if isinstance(node, pst.GetAttr):
        return (*_path(node.base), node.attr)
    return (node.name,) if isinstance(node, pst.Var) else ("",)


def request_of(
    action: str, facts: Mapping[str, Value], names: Iterable[str]
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """A request and its entities as Cedar takes them, with the named facts."""
    uids = {
        "principal": {"type": str(PRINCIPAL_OF[action]), "id": "asking"},
        "resource": {"type": "Site", "id": str(facts.get("site.id", ""))},
        "tenant": {"type": "Tenant", "id": str(facts.get("tenant.id", ""))},
    }
    trees: dict[str, dict[str, object]] = {"principal": {}, "resource": {}, "context": {}, "tenant": {}}
    companies: dict[tuple[str, str], dict[str, object]] = {}
    for name in names:
        fact = by_name(name)
        if fact is None:
            raise AssertionError(f"no fact {name}")
        root, *path = fact.path
        tree = trees[root]
        if root == "context" and path[0] == "tenant":
            tree, path = trees["tenant"], path[1:]
        elif path[0] in ("operator", "owner", "company"):
            tree = companies.setdefault((root, path[0]), {})
            path = path[1:]
        _put(tree, path, _plain(reader((fact,))(facts)[0]))
    trees["context"]["tenant"] = {"__entity": uids["tenant"]}
    entities: list[dict[str, object]] = []
    for (root, part), attributes in companies.items():
        uid = {"type": "Company", "id": f"{root}.{part}"}
        trees[root][part] = {"__entity": uid}
        entities.append({"uid": uid, "attrs": attributes, "parents": []})
    entities += [{"uid": uids[one], "attrs": trees[one], "parents": []} for one in uids]
    request = {
        "principal": uids["principal"],
        "action": {"type": "Action", "id": action},
        "resource": uids["resource"],
        "context": trees["context"],
    }
    return request, [*entities, *_groups()]


def _groups() -> list[dict[str, object]]:
    """The actions with the groups that they are in: Cedar takes them from the entities where no schema is passed."""
    from_schema = {action: group for group, members in GROUPS.items() for action in members}
    return [
        {"uid": {"type": "Action", "id": action}, "attrs": {}, "parents": [{"type": "Action", "id": group}]}
        for action, group in from_schema.items()
    ]


def _put(tree: dict[str, object], path: list[str], value: object) -> None:
    for step in path[:-1]:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):
            raise AssertionError(f"{step} is a fact and has others below it")
        tree = below
    tree[path[-1]] = value


def _plain(cell: Cell) -> object:
    return sorted(cell) if isinstance(cell, frozenset) else cell
