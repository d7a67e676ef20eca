"""How many processors processes use, by what the kernel counts of them in ``/proc``."""

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def used_s(pid: int) -> tuple[float, float]:
    """Processor seconds that a process has used, and all below it: those that live and those that it waited for."""
    below: dict[int, list[int]] = defaultdict(list)
    used: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            data = Path(f"/proc/{name}/stat").read_text()
        except OSError:
            continue
        # After the name, which may have anything in it: state, parent, nine others, then user, system, and of children.
        fields = data[data.rindex(")") + 2 :].split()
        below[int(fields[1])].append(int(name))
        own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        used[int(name)] = own, children
    own, children = used.get(pid, (0, 0))
    todo = list(below[pid])
    while todo:
        one = todo.pop()
        children += sum(used.get(one, (0, 0)))
        todo += below[one]
    return own / TICKS, children / TICKS


def machine_s() -> float:
    """Processor seconds that the whole machine has used."""
    user, nice, system, _, _, interrupt, soft, *_ = Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    return sum(map(int, (user, nice, system, interrupt, soft))) / TICKS


class Watch:
    """Processors in use by names, on the mean from its beginning on. A process that ends is to be told before it does."""

    def __init__(self) -> None:
        self._began_s, self._machine_s = time.monotonic(), machine_s()
        self._pids: dict[str, tuple[int, float]] = {}
        self._used: dict[str, float] = defaultdict(float)

    def add(self, name: str, pid: int, *, below: bool = False) -> None:
        """Count a process from now on; with ``below`` those that it started, and not itself."""
        self._pids[f"{name} below" if below else name] = pid, used_s(pid)[below]

    def end(self, name: str) -> None:
        """It is about to end."""
        for one in (name, f"{name} below"):
            if one in self._pids:
                pid, before_s = self._pids.pop(one)
                self._used[one] += used_s(pid)[one != name] - before_s

    def processors(self) -> Mapping[str, float]:
        """Processors in use, by name; ``machine`` is all of it, whoever used it."""
        for name, (pid, before_s) in list(self._pids.items()):
            is_below = name.endswith(" below")
            now_s = used_s(pid)[is_below]
            self._used[name] += now_s - before_s
            self._pids[name] = pid, now_s
        passed_s = time.monotonic() - self._began_s
        found = {name: round(one_s / passed_s, 2) for name, one_s in self._used.items()}
        return found | {"machine": round((machine_s() - self._machine_s) / passed_s, 2)}
