"""Where the nodes of Cedar's tree stand in the text: the tree has no places, the tokens have, and both are in one order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cedarpy import pst

from headrace.policy.text import KEYWORDS, Piece, Token, named_in

_METHODS = {"contains": "contains", "contains_all": "containsAll", "contains_any": "containsAny", "is_empty": "isEmpty",
            "get_tag": "getTag", "has_tag": "hasTag"}  # fmt: skip


class _OutOfStepError(Exception):
    """The tree and the tokens differ: what the rule says is written in a way that isn't followed here."""


@dataclass(slots=True)
class Places:
    """The tokens of one rule's nodes, by the node's identity; nothing for a rule that could not be followed."""

    piece: Piece
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    leaves: Sequence[Token] = ()

    def of(self, node: object, word: str = "", hint: str = "") -> Token:
        """Where a node stands; in it the text ``word``, where that is given; else what ``hint`` names; else the rule."""
        span = self.spans.get(id(node))
        if span is None:
            return named_in(self.piece, hint)
        inside = self.leaves[span[0] : span[1]]
        for token in inside if word else ():
            if token.kind == "text" and token.text[1:-1] == word:
                return token
        if isinstance(node, pst.GetAttr):
            return inside[-1]
        return inside[0]


def places_of(rule: pst.Template, piece: Piece) -> Places:
    """The places of a rule's nodes."""
    leaves = [
        token
        for token in piece.body
        if token.kind != "mark" and not (token.kind == "name" and token.text in KEYWORDS)
    ]
    walk = _Walk(leaves)
    try:
        for clause in rule.clauses:
            walk.go(clause.expr)
    except _OutOfStepError:
        # What came before was in step.
        pass
    return Places(piece, walk.spans, leaves)


class _Walk:
    """Goes through a tree and its tokens in step."""

    def __init__(self, leaves: Sequence[Token]) -> None:
        self.leaves, self.at = leaves, 0
        self.spans: dict[int, tuple[int, int]] = {}

    def go(self, node: pst.Expr) -> None:
        """A node and all below it."""
        began = self.at
        try:
            for one in _parts(node):
                if isinstance(one, tuple):
                    self._take(*one)
                else:
                    self.go(one)
        finally:
            if began < len(self.leaves):
                self.spans[id(node)] = (began, max(self.at, began + 1))

    def _take(self, kind: str, text: str) -> None:
        if self.at == len(self.leaves) or self.leaves[self.at].kind not in kind.split("|"):
            raise _OutOfStepError
        token = self.leaves[self.at]
        if text and token.kind == "name" and token.text != text:
            raise _OutOfStepError
        self.at += 1


_Part = tuple[str, str] | pst.Expr


def _parts(node: pst.Expr) -> Iterator[_Part]:
    """What a node is made of, in the order of the text: tokens, as (kind, text), and nodes."""
    match node:
        case pst.Var(name=name):
            yield "name", name
        case pst.BoolLit(value=value):
            yield "name", "true" if value else "false"
        case pst.LongLit():
            yield "number", ""
        case pst.StringLit():
            yield "text", ""
        case pst.EntityLit(value=uid):
            yield from (("name", part) for part in (*uid.type.namespace, uid.type.basename))
            yield "text", ""
        case pst.GetAttr(base=base, attr=attr):
            yield base
            yield "name|text", attr
        case pst.Set(elements=elements):
            yield from elements
        case _:
            yield from _operands(node)


def _operands(node: pst.Expr) -> Iterator[_Part]:
    match node:
        case pst.UnaryOp(op="ip" | "decimal" | "datetime" | "duration" as op, arg=arg):
            yield "name", op
            yield arg
        case pst.UnaryOp(op=op, arg=arg):
            yield arg
            if op in _METHODS:
                yield "name", _METHODS[op]
        case pst.BinaryOp(op=op, left=left, right=right):
            yield left
            if op in _METHODS:
                yield "name", _METHODS[op]
            yield right
        case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
            yield from (cond, then, other)
        case pst.Like(base=base):
            yield base
            yield "text", ""
        case pst.Is(base=base, entity_type=kind, in_expr=inner):
            yield base
            yield from (("name", part) for part in (*kind.namespace, kind.basename))
            if inner is not None:
                yield inner
        case _:
            raise _OutOfStepError
