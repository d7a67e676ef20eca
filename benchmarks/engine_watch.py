"""Who runs on this machine, by what /proc says: independent of what anybody recorded."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.engine_judge import Evidence, Sighting

SEEN_EVERY_S = 0.2


class Watch(threading.Thread):
    """Looks at all processes that a runner started, again and again: who runs, and when."""

    def __init__(self, witness: Path, evidence: Evidence) -> None:
        super().__init__(daemon=True)
        self.mark = f"WITNESS={witness}".encode()
        self.evidence = evidence
        self.ending = threading.Event()
        self._known: dict[tuple[int, str], tuple[str, int, int] | None] = {}

    def run(self) -> None:
        """Look until told to end."""
        while not self.ending.wait(SEEN_EVERY_S):
            self.look()

    def look(self) -> list[tuple[str, int, int]]:
        """Look once; who runs."""
        now: dict[tuple[str, int, int], None] = {}
        known: dict[tuple[int, str], tuple[str, int, int] | None] = {}
        for name in os.listdir("/proc"):
            if name.isdecimal():
                with suppress(OSError):
                    who = self._who(int(name), known)
                    if who is not None:
                        now[who] = None
        self._known = known
        at_ms, boot_ms = time.time_ns() // 1_000_000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        for who in now:
            seen = self.evidence.seen.setdefault(who, Sighting(at_ms, at_ms, boot_ms, boot_ms))
            seen.last_ms, seen.last_boot_ms = at_ms, boot_ms
        return list(now)

    def _who(
        self, pid: int, known: dict[tuple[int, str], tuple[str, int, int] | None]
    ) -> tuple[str, int, int] | None:
        data = Path(f"/proc/{pid}/stat").read_text()
        name, _, rest = data.rpartition(")")
        fields = rest.split()
        # The name is in it: a child that has yet to become the rank's shell has another environment.
        key = (pid, f"{fields[19]} {name}")
        if fields[0] in "ZX":
            return None
        if key in self._known:
            found = self._known[key]
        else:
            found = self._read(pid, int(fields[3]))
        known[key] = found
        return found

    def _read(self, pid: int, session: int) -> tuple[str, int, int] | None:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if self.mark not in entries:
            return None
        env = dict(one.decode(errors="replace").partition("=")[::2] for one in entries)
        if "HEADRACE_RUN" not in env:
            return None
        return env["HEADRACE_PLACEMENT"], int(env["RANK"]), session


def sweep(folder: Path) -> None:
    """Kill what is left that has ``folder`` in its environment or command line: a run that failed leaves nothing behind."""
    wanted = f"{folder}/".encode()
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            with suppress(OSError):
                process = Path("/proc", name)
                said = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
                if wanted in said:
                    os.kill(int(name), signal.SIGKILL)
