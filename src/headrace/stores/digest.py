"""The digest of a data set: of its list of files, as ``sha256sum`` prints it.

So that whoever has the files can compute it without us:
``find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum``.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from headrace.core.errors import HeadraceError, Problem, ProblemCode

PIECE_BYTES = 1 << 20
"""So much is read of a file at once."""


def by_bytes(path: str) -> bytes:
    """What files are sorted by."""
    return path.encode()


def manifest_digest(digests: Mapping[str, str]) -> str:
    """The digest of a data set, from the SHA-256 of each of its files by path."""
    lines = (f"{digests[path]}  {path}\n" for path in sorted(digests, key=by_bytes))
    return sha256("".join(lines).encode()).hexdigest()


def file_digest(pieces: Iterable[bytes]) -> tuple[str, int]:
    """The SHA-256 of a file, and how many bytes it has."""
    found, size = sha256(), 0
    for piece in pieces:
        found.update(piece)
        size += len(piece)
    return found.hexdigest(), size


def is_plain_path(path: str) -> bool:
    """Whether a file of this path can be part of a data set: its name stands for itself in a list of files."""
    if not path or "\\" in path or any(ord(letter) < 32 for letter in path):
        return False
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a directory, by their paths within it, sorted; HeadraceError for links, devices and odd names."""
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        for name in (*folders, *files):
            place = Path(parent) / name
            path = place.relative_to(folder).as_posix()
            if place.is_symlink() or not (place.is_dir() or place.is_file()) or not is_plain_path(path):
                step = "Data sets are plain files in directories: put the file itself there, or rename it."
                message = f"{path!r} is a link, no file, or has a name that no list of files can have;"
                raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step))
            if name in files:
                found.append((path, place))
    yield from sorted(found, key=lambda one: by_bytes(one[0]))


def _raise(error: OSError) -> None:
    raise error


def digest_of(folder: Path) -> tuple[str, int, int]:
    """The digest of a directory as a data set, its bytes, and how many files it has; HeadraceError where it can't be one."""
    digests: dict[str, str] = {}
    total = 0
    try:
        for path, place in walk(folder):
            digests[path], size = file_digest(pieces_of(place))
            total += size
    except OSError as error:
        message = f"can't read {error.filename or folder}: {error.strerror}."
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, message, "Give a directory that you may read.")
        ) from None
    if not digests:
        message = f"{folder} has no files."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, "Give a directory with at least one."))
    return manifest_digest(digests), total, len(digests)


def pieces_of(place: Path) -> Iterator[bytes]:
    """A file in pieces."""
    with place.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
