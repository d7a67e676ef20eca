"""What the local engine shares out of one machine: ports, cores, accelerators; and what a tenant's user can read."""

import hashlib
import os
import re
import socket
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from headrace.core.units import ceil_div

LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"  # noqa: S104 - bound for a moment, never listened on
_DEVICE = re.compile(r"nvidia([0-9]+)")


def port_is_free(port: int) -> bool:
    """Whether a server could bind ``port`` now, on the loopback address and on all."""
    for address in (LOOPBACK, ANY):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # Connections that linger after their server's end don't stop the next server.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


class PortPool:
    """Hands out ports of a range in turn, so that one that was just given back rests the longest.

    Where it begins depends on its ``owner``, a directory: between being handed out and being bound a port looks free to another
    engine of the same machine, which would hand it out too.
    """

    def __init__(self, ports: range, owner: Path) -> None:
        digest = hashlib.sha256(bytes(owner.absolute())).digest()
        self._ports = ports
        self._next = int.from_bytes(digest[:8], "big") % max(1, len(ports))

    def take(self, taken: Iterable[int]) -> int | None:
        """A port that is neither in ``taken`` nor bound by anybody; None when the range is used up."""
        avoid = frozenset(taken)
        for step in range(len(self._ports)):
            port = self._ports[(self._next + step) % len(self._ports)]
            if port not in avoid and port_is_free(port):
                self._next = (self._next + step + 1) % len(self._ports)
                return port
        return None


def share_cores(cores: Sequence[int], used: Counter[int], part: int, whole: int) -> list[int]:
    """The cores for ``part`` of a node of ``whole``: as many of ``cores``, rounded up, and the least used of them."""
    if not cores or whole <= 0:
        return []
    count = max(1, min(len(cores), ceil_div(len(cores) * part, whole)))
    return sorted(sorted(cores, key=lambda core: (used[core], core))[:count])


def real_accelerators(devices: Path) -> tuple[int, ...]:
    """Numbers of the NVIDIA devices of this machine (``/dev/nvidia0``...), in order; empty without any."""
    try:
        names = os.listdir(devices)
    except OSError:
        return ()
    return tuple(sorted(int(match[1]) for match in map(_DEVICE.fullmatch, names) if match))


def first_unreadable(path: Path) -> Path | None:
    """What keeps a user with no rights of its own from using ``path``: a directory or a file that is closed to others.

    None when nothing does. Two levels below a directory are looked at: enough to tell a checkout that only its
    owner may read.
    """
    for place in {path.absolute(): None, path.resolve(): None}:
        found = first_closed(place.parent) or _unreadable_below(place, levels=2)
        if found is not None:
            return found
    return None


def first_closed(directory: Path) -> Path | None:
    """The first directory on the way into ``directory``, itself included, that others can't pass through; or None."""
    way = (*reversed(directory.parents), directory)
    return next((place for place in way if not place.stat().st_mode & stat.S_IXOTH), None)


def _unreadable_below(path: Path, levels: int) -> Path | None:
    mode = path.stat().st_mode
    needed = stat.S_IROTH | stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
    if mode & needed != needed:
        return path
    if not stat.S_ISDIR(mode) or levels == 0:
        return None
    for entry in sorted(path.iterdir()):
        # What the import system makes for itself is not needed; a dangling link is nobody's problem here.
        if entry.name != "__pycache__" and not entry.is_symlink():
            found = _unreadable_below(entry, levels - 1)
            if found is not None:
                return found
    return None
