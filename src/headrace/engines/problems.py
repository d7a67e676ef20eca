"""What an engine says when it can't."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.ports import EngineError

IN_CLUSTER = "drained in its cluster: "
"""How the reason of a node begins that others drained."""
OWNER = "owner"
"""The file of a spool that says whose it is."""


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


def refuse_other_journal(root: Path, known: object, owner: str) -> None:
    """EngineError when the spool at ``root`` is on record as another journal's: ``known``, None for nobody's."""
    if known is not None and known != owner:
        whose = f"journal {known}" if isinstance(known, str) else "another journal"
        raise engine_error(
            ProblemCode.CONFLICT,
            f"the spool {root} belongs to the control plane of {whose}, and this one keeps journal {owner or 'unknown'};",
            "start Headrace with that journal's --state, or give this engine a spool of its own. Only if that journal is gone "
            f"for good: delete {root / OWNER}, and what still runs below it is ended.",
        )


def others_may_write(path: Path) -> tuple[str, str] | None:
    """Who else could put something else in the place of ``path``, and the step against it; None when nobody could.

    Looked at are the owner and the mode of ``path`` and of its directory, and of those that links lead to. Raises OSError.
    """
    user = os.geteuid()
    for place in dict.fromkeys((path.absolute(), path.resolve())):
        for one, found in ((place, place.lstat()), (place.parent, place.parent.stat())):
            if found.st_uid not in (0, user):
                return (
                    f"{one} belongs to user {found.st_uid}",
                    f"`chown -h {user} {one}`, or use another place.",
                )
            # In a directory like /tmp nobody replaces what is another's.
            is_shared = one != place and found.st_mode & stat.S_ISVTX
            if stat.S_ISLNK(found.st_mode) or is_shared or not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                continue
            who = "everybody" if found.st_mode & stat.S_IWOTH else f"all of group {found.st_gid}"
            return f"{who} may write {one}", f"`chmod go-w {one}`, after a look at what is in it."
    return None


def refuse_writable_file(path: Path, what: str) -> None:
    """HeadraceError when others may write a file of the host that declares something; ``what`` says what it has power over."""
    found = others_may_write(path) if path.is_file() else None
    if found is not None:
        why, step = found
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"{what}, and {why};", step, str(path)))


def refuse_writable(root: Path) -> None:
    """EngineError when others may write the spool at ``root``: what lies there is run, and is believed."""
    found = others_may_write(root)
    if found is not None:
        why, step = found
        raise engine_error(ProblemCode.ENGINE_UNAVAILABLE, f"the spool {root} is not safe: {why};", step)


def refuse_closed(path: Path, found: Path | None) -> None:
    """EngineError when ``found`` keeps tenants' users from ``path``."""
    if found is not None:
        wanted = "o+rx" if found.is_dir() else "o+r"
        raise engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"tenants' users can't use {path}, because {found} is closed to others;",
            f"move it to a place that all may read, like /opt or /var/lib, or `chmod {wanted} {found}`, or run as another user "
            "than root (with --no-isolation its tenants run as root too, and read everything).",
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
