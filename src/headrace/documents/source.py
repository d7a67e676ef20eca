"""Reading YAML and JSON texts, with the line and column of everything in them.

The text is composed into nodes by PyYAML and turned into plain values here, by the rules of YAML 1.2: ``NO`` is a
country and not false, ``2026-12-31`` is a text, ``1:30`` is no number in base sixty. Numbers with a fraction become
:class:`~decimal.Decimal`, so that no price ever passes through a float. JSON is read as the YAML that it is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from headrace.core.errors import HeadraceError, Problem, ProblemCode

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
"""Values in one file once aliases are followed: ten aliases of ten aliases of ... would fill the memory."""
MAX_DEPTH = 64

Step = str | int
Place = tuple[Step, ...]

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,29})")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?")
_CONSTANTS: dict[str, bool | None] = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    "null": None, "Null": None, "NULL": None, "~": None, "": None,
}  # fmt: skip


_TAGS = frozenset(
    f"tag:yaml.org,2002:{tag}"
    for tag in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge", "map", "seq")
)
"""What PyYAML's resolver gives to what has no tag; its opinion on plain scalars is not asked any further."""


def show(value: object) -> str:
    """A value in a message: escaped where it could play tricks on a terminal, cut to what fits in a line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    if isinstance(value, Decimal):
        value = f"{value:f}"
        return value if len(value) <= 60 else "a number of more than 60 digits"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:56] + "...'"


def _step(step: str) -> str:
    return step if step.isprintable() and len(step) <= 64 else show(step)


def path_text(place: Place) -> str:
    """A place in a document as people write it: ``sites[0].pue``."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{_step(step)}" if text else _step(step)
    return text


def pointer_text(place: Place) -> str:
    """A place in a JSON body as a JSON pointer (RFC 6901): ``/workloads/0/nodes``."""
    return "".join("/" + _step(str(step)).replace("~", "~0").replace("/", "~1") for step in place)


@dataclass(slots=True)
class Source:
    """Where the values of one document came from; lines and columns count from 1.

    Without ``file`` it is a JSON body, and places are JSON pointers below ``base``.
    """

    file: str = ""
    values: dict[Place, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Place, tuple[int, int]] = field(default_factory=dict)
    base: Place = ()

    def where(self, place: Place = (), at_key: bool = False) -> str:
        """``FILE:LINE:COLUMN path`` of a value (or of its key); of the nearest thing around it when it is missing."""
        if not self.file:
            return pointer_text(self.base + place)
        line, column = self._position(place, at_key)
        path = path_text(place)
        return f"{self.file}:{line}:{column}" + (f" {path}" if path else "")

    def _position(self, place: Place, at_key: bool) -> tuple[int, int]:
        if at_key and place in self.keys:
            return self.keys[place]
        while place not in self.values and place:
            place = place[:-1]
        return self.values.get(place, (1, 1))


@dataclass(frozen=True, slots=True)
class Raw:
    """One document of a text, before anything is known of its kind."""

    data: Any
    source: Source


def read_bytes(path: Path) -> bytes:
    """The bytes of a file; HeadraceError for one that can't be read or is too large."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise HeadraceError(
            Problem(
                ProblemCode.BAD_INPUT,
                f"can't read it: {(error.strerror or 'unknown error').lower()}.",
                "Check the path and the rights of the file.",
                str(path),
            )
        ) from error
    return raw


def parse(raw: bytes, file: str) -> list[Raw]:
    """The documents of a text, empty ones left out; HeadraceError with every problem found in it."""
    text = _decode(raw, file)
    documents: list[Raw] = []
    problems: list[Problem] = []
    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            builder = _Builder(Source(file))
            try:
                data = builder.value(node, ())
            except _TooMuch as much:
                problems.append(_problem(builder.source.file, node.start_mark, str(much), _SPLIT))
                continue
            problems.extend(builder.problems)
            if data is not None:
                documents.append(Raw(data, builder.source))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.append(
            _problem(file, mark, f"not YAML: {_sentence(error)}.", "Check what stands just before.")
        )
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"{file}:{before.count(chr(10)) + 1}:{error.position - before.rfind(chr(10))}"
        message = f"the character U+{ord(text[error.position]):04X} can't stand in YAML."
        problems.append(Problem(ProblemCode.BAD_INPUT, message, "Remove it.", place))
    except RecursionError:
        problems.append(
            Problem(
                ProblemCode.BAD_INPUT, "nested too deeply.", f"At most {MAX_DEPTH} levels.", f"{file}:1:1"
            )
        )
    if problems:
        raise HeadraceError(*problems)
    return documents


_SPLIT = "Split the file, or write fewer aliases."


class _TooMuch(Exception):
    """The document is larger than anybody writes: reading on could only hurt."""


def _decode(raw: bytes, file: str) -> str:
    if len(raw) > MAX_BYTES:
        raise HeadraceError(
            Problem(
                ProblemCode.TOO_LARGE,
                f"more than {MAX_BYTES // 1024} KiB.",
                "Split it into several files.",
                file,
            )
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise HeadraceError(
            Problem(
                ProblemCode.BAD_INPUT,
                f"not UTF-8: byte 0x{raw[error.start]:02x}.",
                "Save the file as UTF-8.",
                f"{file}:{before.count(10) + 1}:{column}",
            )
        ) from error
    # JSON may be indented with tabs, YAML may not; JSON has no tabs in its strings, so that this changes nothing else.
    return text.replace("\t", " ") if text.lstrip()[:1] in ("{", "[") else text


def _sentence(error: yaml.MarkedYAMLError) -> str:
    return " ".join(f"{error.problem or error.context or 'syntax error'}".split())


def _problem(file: str, mark: Any, message: str, step: str = "", path: str = "") -> Problem:
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    where = f"{file}:{line}:{column}" + (f" {path}" if path else "")
    return Problem(ProblemCode.BAD_INPUT, message, step, where)


class _Builder:
    """Turns the nodes of one document into plain values, noting where each stands."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._count = 0

    def value(self, node: yaml.Node, place: Place) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _TooMuch(f"more than {MAX_VALUES} values, once aliases are followed.")
        if len(place) > MAX_DEPTH:
            raise _TooMuch(f"nested more than {MAX_DEPTH} levels deep.")
        mark = node.start_mark
        self.source.values[place] = (mark.line + 1, mark.column + 1)
        if node.tag not in _TAGS:
            self._wrong(mark, place, f"the tag {show(node.tag)} is not known here.", "Remove it.")
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, place))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(part, (*place, number)) for number, part in enumerate(node.value)]
        return self._scalar(node, place)

    def _pairs(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, place)
            if key is None:
                continue
            mark = key_node.start_mark
            if key in seen:
                self._wrong(
                    mark,
                    (*place, key),
                    f"{key!r} stands twice; first in line {seen[key].line + 1}.",
                    "Keep one of them.",
                )
                continue
            seen[key] = mark
            self.source.keys[(*place, key)] = (mark.line + 1, mark.column + 1)
            yield key, self.value(value_node, (*place, key))

    def _key(self, node: yaml.Node, place: Place) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._wrong(
                node.start_mark, place, "a key must be a text, not a list or a mapping.", "Write name: value."
            )
            return None
        if node.tag == "tag:yaml.org,2002:merge" and node.style is None:
            self._wrong(node.start_mark, place, "merge keys (<<) are not read.", "Write the fields out.")
            return None
        if node.style is None and not isinstance(_plain(node.value), str):
            self._wrong(
                node.start_mark,
                place,
                f"the key {node.value or 'null'} is not a text.",
                "Put it in quotes if it is meant.",
            )
            return None
        return str(node.value)

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        text = _joined(str(node.value))
        if text is None:
            self._wrong(node.start_mark, place, "half of a surrogate pair.", "Write the character itself.")
            return ""
        return _plain(text) if getattr(node, "style", None) is None else text

    def _wrong(self, mark: Any, place: Place, message: str, step: str) -> None:
        self.problems.append(_problem(self.source.file, mark, message, step, path_text(place)))


def _joined(text: str) -> str | None:
    r"""``text`` with the pairs of surrogates joined that JSON writes (``\\ud83d\\ude00``); None when one is alone."""
    if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None


def _plain(text: str) -> str | int | bool | Decimal | None:
    """An unquoted scalar by YAML 1.2's core rules, without octals and infinities."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if not text.isdigit() and _DECIMAL.fullmatch(text):
        return Decimal(text)
    return text
