"""Reading JSON that registers publish: large files, exact numbers, and problems that say where."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from headrace.core.errors import HeadraceError, Problem, ProblemCode

MAX_BYTES = 256 << 20


def read_large(path: Path) -> bytes:
    """The bytes of a file of at most 256 MiB; HeadraceError for one that can't be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"can't read it: {(error.strerror or 'unknown error').lower()}."
        step = "Check the path and the rights of the file."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, str(path))) from error
    if len(raw) > MAX_BYTES:
        step = "Split it into several files."
        raise HeadraceError(Problem(ProblemCode.TOO_LARGE, "more than 256 MiB.", step, str(path)))
    return raw


def parsed_json(raw: bytes, name: str, *, exact: bool = False) -> Any:
    """A JSON text; ``exact``: numbers with a fraction as Decimal. HeadraceError with line and column for what is none."""
    try:
        return json.loads(
            raw.decode("utf-8-sig"), parse_float=Decimal if exact else None, parse_constant=_refused
        )
    except UnicodeDecodeError as error:
        place = f"{name}: byte {error.start}"
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, "not UTF-8.", "Save the file as UTF-8.", place)
        ) from error
    except json.JSONDecodeError as error:
        place = f"{name}:{error.lineno}:{error.colno}"
        message, step = f"not JSON: {error.msg.lower()}.", "Check what stands just before."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, place)) from error
    except RecursionError as error:
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, "nested too deeply.", "Flatten it.", name)
        ) from error
    except ValueError as error:
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"not JSON: {error}.", "Write a number.", name)
        ) from error


def parsed_records(raw: bytes, name: str) -> list[tuple[str, Any]]:
    """Records of a JSON array or of lines of JSON (as large registers publish), each with its place."""
    if raw.lstrip()[:1] != b"[":
        found = []
        for number, line in enumerate(raw.splitlines(), 1):
            if line.strip():
                found.append((f"{name}:{number}", parsed_json(line, f"{name}:{number}")))
        # One record over several lines is no list of lines.
        return found
    data = parsed_json(raw, name)
    return [(f"{name}#/{number}", one) for number, one in enumerate(data)]


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is no number")
