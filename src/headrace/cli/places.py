"""From the places that the API names in a body back to what people wrote: a file's line and column, or a flag."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from headrace.core.errors import HeadraceError, Problem
from headrace.documents import Document
from headrace.documents.source import Place, Source

_POINTER = re.compile(r"/workloads/(\d+)((?:/.*)?)")
_PATH = re.compile(r"workloads\[(\d+)\](.*)")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_BODY = re.compile(r"body:(\d+):(\d+)(.*)", re.DOTALL)
_DOCUMENT = re.compile(r"([a-z-]+) ([a-z0-9-]+)")
_UNKNOWN = re.compile(r"no (tenant|price-plan|site|node at site \S+ with|block, rack or node) '")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line in YAML."""
_FIELDS = {"tenant": "tenant", "price-plan": "plan", "site": "site", "node": "gpu", "block,": "parts"}
"""The field of a contract or a window that names each kind of thing, by its first word in a message."""
BETWEEN = "\n---\n"
"""What stands between the texts of two files in one body."""


def place_of(where: str) -> tuple[int, Place] | None:
    """The number of a workload in a body and the place in it, from ``/workloads/0/nodes`` or ``workloads[0].nodes``."""
    if found := _POINTER.fullmatch(where):
        steps = found[2].split("/")[1:]
        return int(found[1]), tuple(
            int(step) if step.isdecimal() else step.replace("~1", "/").replace("~0", "~") for step in steps
        )
    if found := _PATH.fullmatch(where):
        pairs = _STEP.findall(found[2])
        return int(found[1]), tuple(int(number) if number else name for number, name in pairs)
    return None


def in_files(error: HeadraceError, sources: Sequence[Source]) -> HeadraceError:
    """An error about workloads that came from files, with ``FILE:LINE:COLUMN path`` for each place."""

    def moved(problem: Problem) -> Problem:
        found = place_of(problem.where)
        if found is None or found[0] >= len(sources):
            return problem
        return replace(problem, where=sources[found[0]].where(found[1]))

    return _with(error, map(moved, error.problems))


def in_flags(error: HeadraceError, flags: Mapping[str, str]) -> HeadraceError:
    """An error about a workload that came from flags, with the flag for each place; ``flags`` by field."""

    def moved(problem: Problem) -> Problem:
        found = place_of(problem.where)
        if found is None:
            return problem
        names = [str(step) for step in found[1] if not isinstance(step, int)]
        known = [flags[name] for name in reversed(names) if name in flags]
        return replace(problem, where=known[0] if known else "")

    return _with(error, map(moved, error.problems))


def in_texts(
    error: HeadraceError, texts: Sequence[tuple[str, str]], documents: Iterable[Document]
) -> HeadraceError:
    """An error about files that were sent as one text: ``texts`` are the files' names and what stands in them."""
    by_name = {(one.kind, one.name): one for one in documents}

    def moved(problem: Problem) -> Problem:
        if found := _BODY.fullmatch(problem.where):
            name, line = _in_text(texts, int(found[1]))
            return replace(problem, where=f"{name}:{line}:{found[2]}{found[3]}")
        stands = _DOCUMENT.fullmatch(problem.where)
        document = by_name.get((stands[1], stands[2])) if stands else None
        if document is None:
            return problem
        unknown = _UNKNOWN.match(problem.message)
        return replace(problem, where=document.where((_FIELDS[unknown[1].split()[0]],) if unknown else ()))

    return _with(error, map(moved, error.problems))


def _in_text(texts: Sequence[tuple[str, str]], line: int) -> tuple[str, int]:
    """The file of a line of all texts, and the line's number in it."""
    for name, text in texts[:-1]:
        lines = len(_BREAK.findall(text)) + len(_BREAK.findall(BETWEEN))
        if line <= lines:
            return name, line
        line -= lines
    return texts[-1][0], line


def _with(error: HeadraceError, problems: Iterable[Problem]) -> HeadraceError:
    made = HeadraceError(*problems)
    for note in getattr(error, "__notes__", ()):
        made.add_note(note)
    return made
