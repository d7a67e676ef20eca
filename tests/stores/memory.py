"""A store in memory, for tests: it holds the same contract, and can be full, be away, or stop its caller at any step."""

from collections.abc import Iterator, Sequence

from headrace.core.errors import Problem, ProblemCode
from headrace.core.ids import DataId
from headrace.ports import StoredFile, StoreError

PIECE = 4


class KilledError(BaseException):
    """The process was killed: nobody catches it."""


class MemoryStore:
    """Copies as dictionaries. ``full_after``: so many bytes fit; ``steps``: so many steps until the caller is killed."""

    def __init__(self, full_after: int | None = None) -> None:
        self.copies: dict[DataId, dict[str, bytes]] = {}
        self.aside: dict[DataId, dict[str, bytes]] = {}
        self.full_after = full_after
        self.steps: int | None = None
        self.written = 0

    def _step(self) -> None:
        if self.steps is not None:
            self.steps -= 1
            if self.steps < 0:
                raise KilledError

    def has(self, data: DataId) -> bool:
        self._step()
        return data in self.copies

    def files(self, data: DataId) -> Sequence[StoredFile]:
        self._step()
        if data not in self.copies:
            problem = Problem(ProblemCode.NOT_FOUND, f"nothing is at {data};", "Put the files there.")
            raise StoreError(problem, is_final=True)
        return _listed(self.copies[data])

    def read(self, data: DataId, path: str) -> Iterator[bytes]:
        raw = self.copies[data][path]
        for at in range(0, len(raw), PIECE):
            self._step()
            yield raw[at : at + PIECE]

    def pending(self, data: DataId) -> Sequence[StoredFile]:
        self._step()
        return _listed(self.aside.get(data, {}))

    def read_pending(self, data: DataId, path: str) -> Iterator[bytes]:
        self._step()
        yield self.aside[data][path]

    def write(self, data: DataId, path: str, pieces: Iterator[bytes]) -> None:
        raw = b""
        for piece in pieces:
            self._step()
            raw += piece
            if self.full_after is not None and self.written + len(raw) > self.full_after:
                raise StoreError(Problem(ProblemCode.ENGINE_UNAVAILABLE, "no space left;", "Make room."))
        self._step()
        self.written += len(raw)
        self.aside.setdefault(data, {})[path] = raw

    def discard(self, data: DataId) -> None:
        self._step()
        self.aside.pop(data, None)

    def publish(self, data: DataId, reader: int) -> None:
        self._step()
        self.copies[data] = self.aside.pop(data)
        self._step()

    def admit(self, data: DataId, reader: int) -> None:
        self._step()

    def drop(self, data: DataId) -> None:
        self._step()
        self.copies.pop(data, None)
        self.aside.pop(data, None)
        self._step()

    def directory(self, data: DataId) -> str:
        return f"memory:{data}"


def _listed(files: dict[str, bytes]) -> tuple[StoredFile, ...]:
    return tuple(StoredFile(path, len(files[path])) for path in sorted(files, key=str.encode))
