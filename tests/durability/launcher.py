"""A real control plane as a process of its own.

python -m tests.durability.launcher STATE PORT [METER_EVERY_MS [FILE_LIMIT]]
"""

import resource
import sys
from pathlib import Path

from headrace.core.errors import HeadraceError
from headrace.server import Server, Settings

READY = "ready"


def main() -> int:
    """Serve until SIGTERM; ``FILE_LIMIT`` bytes is the most that any file may have (a disk that is full by itself)."""
    state, port, *more = sys.argv[1:]
    meter_every_ms, file_limit = [int(one) for one in [*more, "3600000", "0"][:2]]
    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    settings = Settings(
        Path(state), port=int(port), isolate=False, meter_every_ms=meter_every_ms, keep_records=True
    )
    try:
        server = Server(settings)
    except HeadraceError as error:
        sys.stderr.write(f"{error.problem.line()}\n")
        return 1
    server.run(_say_ready)
    return 0


def _say_ready() -> None:
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
