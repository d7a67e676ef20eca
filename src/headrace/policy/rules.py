"""Rules as Headrace decides them: Cedar's syntax tree, typed, reduced to questions about single facts.

Cedar parses and validates (:mod:`headrace.policy.cedar`); what it has taken is turned here, for each action, into a small
algebra (:mod:`headrace.policy.algebra`). From it decisions are compiled (:mod:`headrace.policy.compiled`), rules are examined
(:mod:`headrace.policy.check`), and it is shown that the unknown is never taken for clean (:mod:`headrace.policy.knowledge`).

What the algebra has no room for (records, tags, dates, addresses, ``has``) is refused with its place: it has no use on facts that
are texts, sets, integers and booleans. Arithmetic can't overflow: facts have bounds, and sums that could leave 64 bits are
refused. So a rule never fails to evaluate, and no error skips a ``forbid``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cedarpy import pst

from headrace.core.countries import COUNTRIES
from headrace.core.errors import did_you_mean
from headrace.policy import schema
from headrace.policy.algebra import (
    Const,
    Question,
    SetOf,
    Sum,
    TextIn,
    TextLike,
    TextSame,
    Truth,
    WordsAsk,
    WordsMeet,
    added,
    alike,
    both,
    chosen,
    compared,
    either,
    negated,
    times,
)
from headrace.policy.schema import ACTIONS, GROUPS, PRINCIPAL_OF, Fact, Kind, Principal

LONG = 2**63 - 1


class WrongError(ValueError):
    """Something in a rule that can't be meant: what, what to write instead, and the node of Cedar's tree that it is in.

    ``word``: the text in quotes that is wrong, where it is one.
    """

    def __init__(self, node: object, message: str, step: str = "", word: str = "") -> None:
        super().__init__(f"{message} {step}".strip())
        self.node, self.message, self.step, self.word = node, message, step, word


# -- from Cedar's tree ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Path:
    """A place of the schema below which facts lie."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Action:
    """The request's action, or one that is written out."""

    name: str


@dataclass(frozen=True, slots=True)
class _Entity:
    """An entity that is written out."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class _Words:
    """A set that is written out, of texts or entities."""

    members: tuple[object, ...]


_Meaning: TypeAlias = Question | _Path | Fact | Sum | str | _Words | _Action | _Entity


def question_of(rule: pst.Template, action: str) -> Question:
    """What a rule asks when ``action`` is requested; raises WrongError for what Headrace's facts can't answer."""
    found = both(_principal(rule, action), both(_action(rule, action), _resource(rule)))
    if found == Const(False):
        return found
    reader = _Reader(action)
    for clause in rule.clauses:
        asked = reader.truth(clause.expr)
        found = both(found, asked if isinstance(clause, pst.When) else negated(asked))
    return found


def _principal(rule: pst.Template, action: str) -> Question:
    match rule.principal:
        case pst.ScopeAny():
            return Const(True)
        case pst.ScopeIs(entity_type=kind):
            return Const(_principal_type(kind, rule.principal) is PRINCIPAL_OF[action])
    step = "Rules are about classes: write principal, principal is Work or principal is Person."
    raise WrongError(rule.principal, "a rule about a single principal;", step)


def _principal_type(kind: pst.EntityType, node: object) -> Principal:
    try:
        return Principal(str(kind))
    except ValueError:
        raise WrongError(
            node, f"no principal is a '{kind}';", did_you_mean(str(kind), list(Principal))
        ) from None


def _action(rule: pst.Template, action: str) -> Question:
    match rule.action:
        case pst.ScopeAny():
            return Const(True)
        case pst.ActionEq(entity=entity):
            name = _known_action(entity, rule.action)
            if name in GROUPS:
                step = f'Write action in Action::"{name}".'
                raise WrongError(rule.action, f"'{name}' is a group of actions;", step)
            return Const(action == name)
        case pst.ActionIn(entities=entities):
            names = [_known_action(one, rule.action) for one in entities]
            return Const(any(_is_in(action, name) for name in names))
    raise WrongError(rule.action, "an action that Headrace doesn't ask for.")


def _known_action(entity: pst.EntityUid, node: object) -> str:
    known = (*ACTIONS.values(), *GROUPS)
    if str(entity.type) != "Action" or entity.id not in known:
        raise WrongError(node, f"no action {entity.id!r};", did_you_mean(entity.id, known))
    return entity.id


def _is_in(action: str, name: str) -> bool:
    """Whether an action is the named one, or in the named group."""
    return action == name or action in GROUPS.get(name, ())


def _resource(rule: pst.Template) -> Question:
    match rule.resource:
        case pst.ScopeAny():
            return Const(True)
        case pst.ScopeIs(entity_type=kind):
            return Const(_is_site(kind, rule.resource))
        case pst.ScopeEq(entity=pst.EntityUid() as entity) | pst.ScopeIn(entity=pst.EntityUid() as entity):
            return _site_is(entity, rule.resource)
        case pst.ScopeIsIn(entity_type=kind, entity=pst.EntityUid() as entity):
            return both(Const(_is_site(kind, rule.resource)), _site_is(entity, rule.resource))
    raise WrongError(rule.resource, "a rule with a slot;", 'Write the site out: Site::"glomfjord".')


def _is_site(kind: pst.EntityType, node: object) -> bool:
    if str(kind) != "Site":
        raise WrongError(node, f"no resource is a '{kind}';", "Resources are sites: resource is Site.")
    return True


def _site_is(entity: pst.EntityUid, node: object) -> Question:
    if str(entity.type) != "Site":
        raise WrongError(node, f"no resource is a '{entity.type}';", "Resources are sites.")
    return TextIn(_fact(("resource", "id")), frozenset({entity.id}), node)


def _fact(path: tuple[str, ...]) -> Fact:
    fact = schema.by_path(path)
    if fact is None:
        raise AssertionError(f"no fact at {'.'.join(path)}")
    return fact


_COMPARE: Mapping[str, tuple[Literal["<", "<="], bool]] = {
    "less": ("<", False), "less_eq": ("<=", False), "greater": ("<", True), "greater_eq": ("<=", True),
}  # fmt: skip
_NO_USE = "Facts are texts, sets of texts, integers and booleans."


class _Reader:
    """Reads expressions for one action."""

    def __init__(self, action: str) -> None:
        self.action = action

    def truth(self, node: pst.Expr) -> Question:
        """An expression that is true or false."""
        found = self._read(node)
        if isinstance(found, Fact) and found.kind is Kind.TRUTH:
            return Truth(found, node)
        if isinstance(found, Question):
            return found
        raise WrongError(node, f"{_said(found)} is not true or false;", "Compare it with something.")

    def _read(self, node: pst.Expr) -> _Meaning:
        match node:
            case pst.BoolLit() | pst.LongLit() | pst.StringLit() | pst.EntityLit():
                return self._literal(node)
            case pst.Var(name=name):
                return _Action(self.action) if name == "action" else _Path((name,))
            case pst.GetAttr(base=base, attr=attr):
                return self._attribute(base, attr, node)
            case pst.Set(elements=elements):
                return _Words(tuple(self._member(one) for one in elements))
            case pst.UnaryOp():
                return self._unary(node)
            case pst.BinaryOp():
                return self._binary(node)
        return self._special(node)

    def _special(self, node: pst.Expr) -> Question:
        match node:
            case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
                return self._if(self.truth(cond), then, other)
            case pst.Like(base=base, pattern=pattern):
                return TextLike(self._fact(base, Kind.TEXT), _parts(pattern), node)
            case pst.Is(base=base, entity_type=kind, in_expr=inner):
                is_inside = self._in(base, inner, node) if inner is not None else Const(True)
                return both(self._is(base, str(kind), node), is_inside)
            case pst.HasAttr():
                raise WrongError(node, "has: every fact is always there;", "Ask for its value instead.")
        raise WrongError(node, f"{type(node).__name__.lower()} has no use here;", _NO_USE)

    def _literal(self, node: pst.BoolLit | pst.LongLit | pst.StringLit | pst.EntityLit) -> _Meaning:
        match node:
            case pst.BoolLit(value=value):
                return Const(value)
            case pst.LongLit(value=number):
                return Sum(number)
            case pst.StringLit(value=text):
                return text
        return self._entity(node.value, node)

    def _entity(self, uid: pst.EntityUid, node: object) -> _Meaning:
        if str(uid.type) == "Action":
            return _Action(_known_action(uid, node))
        return _Entity(str(uid.type), uid.id)

    def _member(self, node: pst.Expr) -> object:
        found = self._read(node)
        if isinstance(found, str | _Entity | _Action):
            return found
        raise WrongError(node, f"{_said(found)} in a list;", 'Lists hold texts, like ["NO", "GB"].')

    def _if(self, cond: Question, then: pst.Expr, other: pst.Expr) -> Question:
        if isinstance(cond, Const):
            return self.truth(then if cond.value else other)
        return chosen(cond, self.truth(then), self.truth(other))

    # -- facts ---------------------------------------------------------------------------------------------------------

    def _attribute(self, base: pst.Expr, attr: str, node: pst.Expr) -> _Meaning:
        found = self._read(base)
        if not isinstance(found, _Path):
            raise WrongError(node, f"{_said(found)} has no {attr!r};", _NO_USE)
        path = (*found.path, attr)
        self._check_principal(path, node)
        fact = schema.by_path(path)
        if fact is not None:
            return fact
        if schema.is_inner(path):
            return _Path(path)
        known = schema.below(found.path)
        where = ".".join(found.path)
        if known and known[0] in COUNTRIES:
            raise WrongError(node, f"no country {attr!r} in {where};", schema.country_step(attr))
        raise WrongError(node, f"no fact {attr!r} in {where};", did_you_mean(attr, known, limit=20))

    def _check_principal(self, path: tuple[str, ...], node: object) -> None:
        fact = schema.by_path(path)
        if path[0] != "principal" or (fact is None and not schema.is_inner(path)):
            return
        is_work = path == ("principal", "kind")
        kind = PRINCIPAL_OF[self.action]
        if is_work != (kind is Principal.WORK):
            other = Principal.WORK if is_work else Principal.PERSON
            step = f"Ask first: principal is {other} && .., or name the actions in the rule's head."
            message = f"who asks to {self.action} is a {kind} and has no {path[1]!r};"
            raise WrongError(node, message, step)

    def _fact(self, node: pst.Expr, kind: Kind) -> Fact:
        found = self._read(node)
        if isinstance(found, Fact) and found.kind is kind:
            return found
        raise WrongError(node, f"{_said(found)} is not a fact of the type {kind};", _NO_USE)

    # -- operators -----------------------------------------------------------------------------------------------------

    def _binary(self, node: pst.BinaryOp) -> _Meaning:
        match node.op:
            case "and" | "or":
                return self._logic(node)
            case "eq":
                return self._equal(node)
            case "not_eq":
                return negated(self._equal(node))
            case "in":
                return self._in(node.left, node.right, node)
            case "less" | "less_eq" | "greater" | "greater_eq":
                op, is_turned = _COMPARE[node.op]
                one, two = self._sum(node.left), self._sum(node.right)
                return compared(op, two, one, node) if is_turned else compared(op, one, two, node)
            case "add" | "sub" | "mul":
                return self._arithmetic(node)
            case "contains" | "contains_all" | "contains_any":
                return self._contains(node)
        raise WrongError(node, f"{node.op} has no use here;", _NO_USE)

    def _logic(self, node: pst.BinaryOp) -> Question:
        left = self.truth(node.left)
        is_and = node.op == "and"
        # As in Cedar's validator: what can't be reached is not looked at.
        if left == Const(not is_and):
            return left
        return (both if is_and else either)(left, self.truth(node.right))

    def _unary(self, node: pst.UnaryOp) -> _Meaning:
        match node.op:
            case "not":
                return negated(self.truth(node.arg))
            case "neg":
                return _bounded(times(self._sum(node.arg), -1), node)
            case "is_empty":
                return WordsAsk(self._fact(node.arg, Kind.WORDS), "empty", frozenset(), node)
        raise WrongError(node, f"{node.op} has no use here;", _NO_USE)

    def _sum(self, node: pst.Expr) -> Sum:
        found = self._read(node)
        if isinstance(found, Sum):
            return found
        if isinstance(found, Fact) and found.kind is Kind.NUMBER:
            return Sum(0, ((found, 1),))
        raise WrongError(node, f"{_said(found)} is not a number;", "Compare numbers with numbers.")

    def _arithmetic(self, node: pst.BinaryOp) -> Sum:
        left, right = self._sum(node.left), self._sum(node.right)
        match node.op:
            case "add":
                return _bounded(added(left, right), node)
            case "sub":
                return _bounded(added(left, times(right, -1)), node)
        if left.terms and right.terms:
            raise WrongError(node, "two facts multiplied;", "Multiply by a number that is written out.")
        by, other = (left.constant, right) if not left.terms else (right.constant, left)
        return _bounded(times(other, by), node)

    def _equal(self, node: pst.BinaryOp) -> Question:
        left, right = self._read(node.left), self._read(node.right)
        if isinstance(right, Fact) and not isinstance(left, Fact):
            left, right = right, left
        if isinstance(left, _Words) and isinstance(right, Fact):
            left, right = right, left
        match left, right:
            case (Fact(kind=Kind.TEXT) as fact, str(word)):
                return TextIn(fact, _vocabulary(fact, [word], node), node)
            case (Fact(kind=Kind.TEXT) as fact, Fact(kind=Kind.TEXT) as other):
                return Const(True) if fact == other else TextSame(fact, other, node)
            case (Fact(kind=Kind.WORDS) as fact, _Words() as words):
                return WordsAsk(fact, "is", _vocabulary(fact, words.members, node), node)
            case (Fact(kind=Kind.WORDS) as fact, Fact(kind=Kind.WORDS) as other):
                return Const(True) if fact == other else WordsMeet(fact, "is", other, node)
            case (str(), str()) | (_Action(), _Action()):
                return Const(left == right)
        if _is_number(left) and _is_number(right):
            return compared("==", self._sum(node.left), self._sum(node.right), node)
        if _is_truth(left) and _is_truth(right):
            return alike(self.truth(node.left), self.truth(node.right))
        return self._same_entity(left, right, node)

    def _same_entity(self, left: _Meaning, right: _Meaning, node: object) -> Question:
        if isinstance(left, _Entity):
            left, right = right, left
        match left, right:
            case (_Path(path), _Entity(kind, ident)) if (kind, path) in _IDENTITIES:
                return TextIn(_fact(_IDENTITIES[kind, path]), frozenset({ident}), node)
        message = f"{_said(left)} compared with {_said(right)};"
        raise WrongError(node, message, "Compare texts with texts, numbers with numbers.")

    def _in(self, left: pst.Expr, right: pst.Expr, node: object) -> Question:
        group, member = self._read(right), self._read(left)
        wanted = group.members if isinstance(group, _Words) else (group,)
        found: Question = Const(False)
        for one in wanted:
            match member, one:
                case (_Action(name), _Action(other)):
                    found = either(found, Const(_is_in(name, other)))
                case (_Path(), _Entity()):
                    found = either(found, self._same_entity(member, one, node))
                case _:
                    step = "in is for actions, sites and tenants; for texts write [..].contains(..)."
                    raise WrongError(node, f"{_said(member)} in {_said(group)};", step)
        return found

    def _is(self, base: pst.Expr, kind: str, node: object) -> Question:
        found = self._read(base)
        match found:
            case _Path(("principal",)):
                return Const(kind == PRINCIPAL_OF[self.action])
            case _Path(("resource",)):
                return Const(kind == "Site")
            case _Path(("context", "tenant")):
                return Const(kind == "Tenant")
        raise WrongError(node, f"{_said(found)} is {kind};", "is tells who asks: principal is Person.")

    def _contains(self, node: pst.BinaryOp) -> Question:
        left, right = self._read(node.left), self._read(node.right)
        match left, right, node.op:
            case (_Words(), Fact(kind=Kind.TEXT) as fact, "contains"):
                return TextIn(fact, _vocabulary(fact, left.members, node), node)
            case (Fact(kind=Kind.WORDS) as fact, str(word), "contains"):
                return WordsAsk(fact, "has", _vocabulary(fact, [word], node), node)
            case (Fact(kind=Kind.WORDS) as fact, Fact(kind=Kind.TEXT) as other, "contains"):
                return WordsMeet(fact, "has", other, node)
            case (Fact(kind=Kind.WORDS) as fact, _Words() as words, "contains_all" | "contains_any"):
                ask: SetOf = "has_all" if node.op == "contains_all" else "has_any"
                return WordsAsk(fact, ask, _vocabulary(fact, words.members, node), node)
            case (_Words() as words, Fact(kind=Kind.WORDS) as fact, "contains_all" | "contains_any"):
                ask = "within" if node.op == "contains_all" else "has_any"
                return WordsAsk(fact, ask, _vocabulary(fact, words.members, node), node)
            case (
                Fact(kind=Kind.WORDS) as one,
                Fact(kind=Kind.WORDS) as two,
                "contains_all" | "contains_any",
            ):
                return WordsMeet(one, "has_all" if node.op == "contains_all" else "has_any", two, node)
            case (_Words() as words, _Path() | _Action() | _Entity() as member, "contains"):
                return self._among(words, member, node)
        raise WrongError(node, f"{_said(left)} asked whether it contains {_said(right)};", _NO_USE)

    def _among(self, words: _Words, member: _Meaning, node: object) -> Question:
        found: Question = Const(False)
        for one in words.members:
            if isinstance(member, _Action) and isinstance(one, _Action):
                found = either(found, Const(member == one))
            elif isinstance(one, _Entity):
                found = either(found, self._same_entity(member, one, node))
            else:
                raise WrongError(node, f"{_said(member)} in such a list;", _NO_USE)
        return found


_IDENTITIES: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {
    ("Site", schema.SITE_PATH): ("resource", "id"),
    ("Tenant", schema.TENANT_PATH): ("context", "tenant", "id"),
}


def _is_number(found: _Meaning) -> bool:
    return isinstance(found, Sum) or (isinstance(found, Fact) and found.kind is Kind.NUMBER)


def _is_truth(found: _Meaning) -> bool:
    return isinstance(found, Question) or (isinstance(found, Fact) and found.kind is Kind.TRUTH)


def _vocabulary(fact: Fact, words: Iterable[object], node: object) -> frozenset[str]:
    """Words that are compared with a fact; raises WrongError for one that it can never be."""
    found: set[str] = set()
    for word in words:
        if not isinstance(word, str):
            raise WrongError(node, f"{fact.name} is made of texts;", 'Write them in quotes, like "NO".')
        if fact.words is not None and word != schema.UNKNOWN and word not in fact.words:
            raise WrongError(node, f"{fact.name} can't be {word!r};", schema.word_step(fact, word), word)
        found.add(word)
    return frozenset(found)


def _parts(pattern: tuple[pst.PatternElem, ...]) -> tuple[str, ...]:
    parts = [""]
    for one in pattern:
        if isinstance(one, pst.Wildcard):
            parts.append("")
        else:
            parts[-1] += one.value
    return tuple(parts)


def _bounded(one: Sum, node: object) -> Sum:
    """A sum that fits in 64 bits whatever its facts; WrongError for any other."""
    least, most = one.bounds()
    if least < -LONG or most > LONG:
        raise WrongError(node, "a sum that could leave 64 bits;", "Use smaller numbers.")
    return one


def _said(found: _Meaning) -> str:
    """A meaning in a message."""
    match found:
        case Fact():
            return found.name
        case _Path(path):
            return ".".join(path)
        case str():
            return f'"{found}"'
        case Sum(constant, ()):
            return str(constant)
        case _Action(name):
            return f"the action {name}"
        case _Entity(kind, ident):
            return f'{kind}::"{ident}"'
        case _Words():
            return "a list"
        case Sum():
            return "a sum"
    return "something that is true or false"
