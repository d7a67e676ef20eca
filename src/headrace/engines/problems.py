"""What an engine says when it can't."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from headrace.core.errors import Problem, ProblemCode
from headrace.ports import EngineError


def engine_error(code: ProblemCode, message: str, next_step: str) -> EngineError:
    """An error of one problem."""
    return EngineError(Problem(code, message, next_step))


def refuse_superseded(epoch: int, fenced: int) -> None:
    """EngineError when ``epoch`` is below the one that is fenced off."""
    if epoch < fenced:
        raise engine_error(
            ProblemCode.STALE,
            f"epoch {epoch} is superseded by {fenced};",
            "another control plane has taken over; end this one.",
        )


def refuse_closed(path: Path, found: Path | None) -> None:
    """EngineError when ``found`` keeps tenants' users from ``path``."""
    if found is not None:
        wanted = "o+rx" if found.is_dir() else "o+r"
        raise engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"tenants' users can't use {path}, because {found} is closed to others;",
            f"move it to a place that all may read, or `chmod {wanted} {found}`, or run with --no-isolation.",
        )


@contextlib.contextmanager
def as_engine_error(what: str) -> Iterator[None]:
    """Turn what the operating system refuses into an EngineError that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"{what}: {reason}{where};",
            "it is tried again; look at the disk and the limits.",
        ) from error
