"""A store that is a directory: ``ROOT/TENANT/NAME`` is a copy, what is being written lies in ``ROOT/.incoming``.

Everybody who runs at the site sees it under this path. A rename is what publishes: a copy is there whole, or not at all,
whatever ends in between. Where this process is root, a copy is root's, and the tenant's own Unix group may read it.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import DataId, SiteId
from headrace.engines.runner import fsync_dir
from headrace.ports import StoredFile, StoreError
from headrace.stores.digest import by_bytes, pieces_of, walk

Answer = TypeVar("Answer")
_PART = ".part"
"""Ends the name of a file that is not whole, in a directory of its own so that it can be no file's name."""


def _publish_name(data: DataId) -> tuple[str, str]:
    tenant, _, name = data.partition(".")
    return tenant, name


class DirectoryStore:
    """The store of a site in a directory. ``privileged``: whether copies are given to the groups of tenants."""

    def __init__(self, site: SiteId, root: Path, *, privileged: bool | None = None) -> None:
        self.site, self.root = site, root
        self._privileged = os.geteuid() == 0 if privileged is None else privileged

    def _at(self, data: DataId) -> Path:
        return self.root.joinpath(*_publish_name(data))

    def _aside(self, data: DataId) -> Path:
        return self.root / ".incoming" / data

    def has(self, data: DataId) -> bool:
        """Whether a published copy is there."""
        # One that is not mounted has lost nothing.
        return self._told(lambda: self.root.stat() is not None and self._at(data).is_dir())

    def files(self, data: DataId) -> Sequence[StoredFile]:
        """The files of a published copy, by the bytes of their paths; StoreError (final) for none."""
        folder = self._at(data)
        if not self.has(data):
            problem = Problem(ProblemCode.NOT_FOUND, f"nothing is at {folder};", "Put the files there.")
            raise StoreError(problem, is_final=True)
        return self._told(lambda: _listed(folder))

    def read(self, data: DataId, path: str) -> Iterator[bytes]:
        """A file of a published copy, in pieces."""
        return self._read(self._at(data) / path)

    def pending(self, data: DataId) -> Sequence[StoredFile]:
        """The files that are whole of a copy that is not published."""
        folder = self._aside(data) / "files"
        return self._told(lambda: _listed(folder) if folder.is_dir() else ())

    def read_pending(self, data: DataId, path: str) -> Iterator[bytes]:
        """One of them, in pieces."""
        return self._read(self._aside(data) / "files" / path)

    def _read(self, place: Path) -> Iterator[bytes]:
        try:
            yield from pieces_of(place)
        except OSError as error:
            raise self._trouble(error) from None

    def write(self, data: DataId, path: str, pieces: Iterator[bytes]) -> None:
        """Write a file of a copy that is not published: whole and on disk, or not there."""
        aside = self._aside(data)
        part, place = aside / _PART, aside / "files" / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            part.rename(place)
            fsync_dir(str(place.parent))
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise self._trouble(error) from None

    def discard(self, data: DataId) -> None:
        """Forget what was written of a copy and not published."""
        self._told(lambda: _remove(self._aside(data)))

    def publish(self, data: DataId, reader: int) -> None:
        """Make what was written the copy, at once."""
        aside, place = self._aside(data), self._at(data)

        def move() -> None:
            self._open_to(aside / "files", reader)
            for parent, _, _ in os.walk(aside / "files"):
                fsync_dir(str(parent))
            self._home(place.parent, reader)
            (aside / "files").rename(place)
            fsync_dir(str(place.parent))
            _remove(aside)

        self._told(move)

    def admit(self, data: DataId, reader: int) -> None:
        """Let the tenant's group read a published copy that somebody else put there, and nobody change it."""

        def admit() -> None:
            self._home(self._at(data).parent, reader)
            self._open_to(self._at(data), reader)

        self._told(admit)

    def _home(self, folder: Path, reader: int) -> None:
        """The directory of a tenant: no other may look into it."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._privileged:
            os.chown(folder, os.geteuid(), reader)
            folder.chmod(0o710)

    def _open_to(self, folder: Path, reader: int) -> None:
        if not self._privileged:
            return
        for parent, _, files in os.walk(folder):
            os.chown(parent, os.geteuid(), reader)
            Path(parent).chmod(0o750)
            for name in files:
                os.chown(Path(parent) / name, os.geteuid(), reader)
                (Path(parent) / name).chmod(0o640)

    def drop(self, data: DataId) -> None:
        """Remove a copy, and what was written of it and not published."""
        leaving, place = self.root / ".leaving" / data, self._at(data)

        def remove() -> None:
            _remove(self._aside(data))
            # First out of sight: what is half removed must not look like a copy.
            _remove(leaving)
            if place.exists():
                leaving.parent.mkdir(parents=True, exist_ok=True)
                place.rename(leaving)
                fsync_dir(str(place.parent))
                _remove(leaving)

        self._told(remove)

    def directory(self, data: DataId) -> str:
        """Where those who run at the site find a published copy."""
        return str(self._at(data))

    def _told(self, work: Callable[[], Answer]) -> Answer:
        """Do something with files; what the system says against it as a StoreError."""
        try:
            return work()
        except OSError as error:
            raise self._trouble(error) from None
        except StoreError:
            raise
        except HeadraceError as error:
            raise StoreError(error.problem, is_final=True) from None

    def _trouble(self, error: OSError) -> StoreError:
        where = error.filename or self.root
        message = f"the store of {self.site} at {self.root}: {(error.strerror or 'error').lower()} ({where});"
        step = "It is tried again; see to space, rights and whether it is mounted."
        return StoreError(Problem(ProblemCode.ENGINE_UNAVAILABLE, message, step))


def _listed(folder: Path) -> tuple[StoredFile, ...]:
    found = [StoredFile(path, place.stat().st_size) for path, place in walk(folder)]
    return tuple(sorted(found, key=lambda one: by_bytes(one.path)))


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
