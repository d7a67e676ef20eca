"""Commands that run for a while, and that somebody else can end."""

import subprocess
from collections.abc import Mapping, Sequence


class Running:
    """The commands that run at this moment, so that somebody else can end them."""

    def __init__(self) -> None:
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def run(
        self, command: Sequence[str], script: bytes, env: Mapping[str, str], timeout_s: float
    ) -> tuple[int, bytes, bytes]:
        """Run one: its exit code and what it printed. Raises what :func:`subprocess.run` does."""
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=env) as process:
            self._processes[process.pid] = process
            try:
                out, err = process.communicate(script, timeout_s)
            except BaseException:
                process.kill()
                raise
            finally:
                del self._processes[process.pid]
            return process.returncode, out, err

    def kill(self) -> None:
        """End all of them."""
        for process in list(self._processes.values()):
            process.kill()
