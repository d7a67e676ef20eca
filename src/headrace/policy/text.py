"""The text of a policy: its limits, and where in it something stands.

Cedar's parser recurses, and a text that nests deeply enough ends the whole process; its Python binding gives no places. So a
text is cut into tokens here first: that bounds how deep it can nest before anybody parses it, and it finds the line and column
of what the parser and the validator then complain about. Nothing here decides what a text means: that is Cedar's.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headrace.core.errors import HeadraceError, Problem, ProblemCode

MAX_BYTES = 256 * 1024
MAX_RULES = 500
MAX_NESTING = 50
"""Brackets within brackets. Cedar's parser overflows the stack between 500 and 1,000."""
MAX_OPERATORS = 400
"""Operators in one rule: however they are chained, a tree of them can't be deeper."""

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<number>[0-9]+)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>::|==|!=|<=|>=|&&|\|\||[^\s])""",
    re.VERBOSE,
)
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_OPERATORS = frozenset(
    (
        "==",
        "!=",
        "<=",
        ">=",
        "<",
        ">",
        "&&",
        "||",
        "!",
        "+",
        "-",
        "*",
        ".",
        "(",
        "[",
        "{",
        "if",
        "in",
        "is",
        "has",
        "like",
        "?",
    )
)
KEYWORDS = frozenset(("if", "then", "else", "in", "is", "has", "like", "when", "unless"))


@dataclass(frozen=True, slots=True)
class Token:
    """A token: ``kind`` is text, number, name or mark; ``line`` and ``column`` count from 1; it ends before ``end``."""

    kind: str
    text: str
    line: int
    column: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One rule's tokens, its ``;`` among them; the last piece of a text may lack it."""

    tokens: tuple[Token, ...]

    @property
    def body(self) -> tuple[Token, ...]:
        """What follows the head, ``permit (...)``: the conditions."""
        depth = 0
        for at, token in enumerate(self.tokens):
            if token.kind == "name" and depth == 0 and token.text in ("permit", "forbid"):
                return self.tokens[_after_brackets(self.tokens, at + 1) :]
            if token.text in _OPENING and token.kind == "mark":
                depth += 1
            elif token.text in _CLOSING and token.kind == "mark":
                depth -= 1
        return ()

    @property
    def first(self) -> Token:
        """Where it begins: at ``permit`` or ``forbid`` where there is one."""
        names = (one for one in self.tokens if one.kind == "name" and one.text in ("permit", "forbid"))
        return next(names, self.tokens[0])


def _after_brackets(tokens: Sequence[Token], at: int) -> int:
    depth = 0
    for index in range(at, len(tokens)):
        if tokens[index].kind != "mark":
            continue
        if tokens[index].text in _OPENING:
            depth += 1
        elif tokens[index].text in _CLOSING:
            depth -= 1
            if depth <= 0:
                return index + 1
    return len(tokens)


def decoded(raw: bytes, file: str) -> str:
    """The text of a policy file; HeadraceError when it is too large or not UTF-8."""
    if len(raw) > MAX_BYTES:
        step = "Split it into several profiles."
        message = f"a policy of more than {MAX_BYTES // 1024} KiB."
        raise HeadraceError(Problem(ProblemCode.TOO_LARGE, message, step, file))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        message = f"not UTF-8: byte 0x{raw[error.start]:02x}."
        where = f"{file}:{line}:1"
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, message, "Save the file as UTF-8.", where)
        ) from error


def pieces_of(text: str, file: str) -> tuple[Piece, ...]:
    """A text cut into its rules; HeadraceError when it is longer or nests deeper than Cedar's parser may be given."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        step = "Split it into several profiles."
        raise HeadraceError(
            Problem(ProblemCode.TOO_LARGE, f"a policy of more than {MAX_BYTES // 1024} KiB.", step, file)
        )
    pieces: list[Piece] = []
    rule: list[Token] = []
    depth = operators = 0
    for token in _tokens(text):
        rule.append(token)
        if token.kind not in ("mark", "name"):
            continue
        operators += token.text in _OPERATORS
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if depth > MAX_NESTING or operators > MAX_OPERATORS:
            raise _too_deep(token, file, is_nested=depth > MAX_NESTING)
        if token.text == ";":
            pieces.append(Piece(tuple(rule)))
            rule, depth, operators = [], 0, 0
            _check_count(pieces, token, file)
    if rule:
        pieces.append(Piece(tuple(rule)))
    return tuple(pieces)


def _check_count(pieces: Sequence[Piece], token: Token, file: str) -> None:
    if len(pieces) > MAX_RULES:
        message = f"more than {MAX_RULES} rules."
        step = "Join rules that differ in one value: [..].contains(..)."
        raise HeadraceError(
            Problem(ProblemCode.TOO_LARGE, message, step, f"{file}:{token.line}:{token.column}")
        )


def _too_deep(token: Token, file: str, *, is_nested: bool) -> HeadraceError:
    step = "Write it as several rules: each permit adds to what is allowed, each forbid takes away."
    what = f"brackets nested more than {MAX_NESTING} levels deep."
    if not is_nested:
        what = f"more than {MAX_OPERATORS} operators in one rule."
    return HeadraceError(Problem(ProblemCode.TOO_LARGE, what, step, f"{file}:{token.line}:{token.column}"))


def _tokens(text: str) -> Iterator[Token]:
    lines = [0, *(match.end() for match in re.finditer("\n", text))]
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "mark"
        if kind == "space":
            continue
        line = bisect_left(lines, match.start() + 1) - 1
        yield Token(kind, match[0], line + 1, match.start() - lines[line] + 1, match.start(), match.end())


END = "unexpected end of input"
"""What Cedar says of a text that is the beginning of a right one."""


def first_wrong(text: str, piece: Piece, complaint: Callable[[str], str]) -> Token:
    """The token at which Cedar's parser gives up on a rule that it doesn't take.

    ``complaint`` gives what the parser says of a text, "" when it takes it. Before the token, the rule is the beginning of a
    right one, and the parser says so; some way behind it, it says something else. So the place is found by halving, and is
    that place or, where the complaint names a token, the last such one before it.
    """
    start = piece.tokens[0].start
    low, high = 0, len(piece.tokens) - 1
    while low < high:
        middle = (low + high) // 2
        said = complaint(text[start : piece.tokens[middle].end])
        if said in ("", END):
            low = middle + 1
        else:
            high = middle
    said = complaint(text[start : piece.tokens[low].end])
    named = [*re.findall(r"`([^`]+)`", said), said.rpartition(": ")[2]]
    for token in reversed(piece.tokens[: low + 1]):
        if token.text in named:
            return token
    return piece.tokens[low]


def named_in(piece: Piece, complaint: str) -> Token:
    """The token that a complaint names between backticks or quotes; else the first of the rule."""
    for words in re.findall(r"`([^`]+)`", complaint):
        parts = [part for part in re.findall(r"[A-Za-z_][A-Za-z0-9_-]*", words) if part]
        for token in reversed(parts):
            for one in piece.tokens:
                if one.text in (token, f'"{token}"'):
                    return one
    return piece.first
