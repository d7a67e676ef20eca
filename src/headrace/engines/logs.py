"""Reading the logs that runners write: pieces named by the offset of their first byte."""

from pathlib import Path

from headrace.engines.runner import segment_name, segments
from headrace.ports import LogChunk


def read_log(directory: Path, stream: str, offset: int, limit: int, ended: bool) -> LogChunk:
    """At most ``limit`` bytes of a log from ``offset``; ``ended`` says that its writer is gone.

    ``ended`` of the chunk is then true once it reaches the log's end.
    """
    offset = max(0, offset)
    for _ in range(8):
        starts = segments(str(directory), stream)
        later = [start for start in starts if start > offset]
        reached = len(starts) - len(later)
        try:
            if reached:
                chunk = _read_piece(directory, stream, starts[reached - 1], offset, limit)
                if chunk:
                    return LogChunk(chunk, offset, offset + len(chunk), False)
            if not later:
                return LogChunk(b"", offset, offset, ended)
            # Rotated away, or dropped while the disk was full.
            offset = later[0]
        except FileNotFoundError:
            # Rotated away between looking and reading.
            continue
    return LogChunk(b"", offset, offset, False)


def _read_piece(directory: Path, stream: str, start: int, offset: int, limit: int) -> bytes:
    with (directory / segment_name(stream, start)).open("rb") as file:
        file.seek(offset - start)
        return file.read(max(0, limit))
