"""A real control plane in a process of its own, for tests of what talks to it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.sdk import Client
from headrace.state import StateDirectory

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "examples" / "estates" / "lab.yaml"
TENANTS = ROOT / "examples" / "tenants.yaml"


@contextmanager
def control_plane(state: Path) -> Iterator[Path]:
    """`headrace up` on a free port until the block ends; what still runs then is stopped."""
    arguments = ["up", "--state", str(state), "--port", "0", "--no-isolation", "--country", "NO"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "headrace", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("ready"):
            break
    else:
        raise AssertionError(f"the control plane did not start: {said}")
    try:
        yield state
        with client_of(state) as client:
            live = [work.id for work in client.workloads(live=True)]
            for ident in live:
                client.stop(ident)
            for ident in live:
                client.wait(ident, timeout=30)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def client_of(state: Path) -> Client:
    """The operator's client of a control plane of this machine."""
    known = StateDirectory(state).read_client()
    assert known is not None
    return Client(known.url, known.token)


def processes_of(state: Path) -> list[str]:
    """Command lines and folders of the processes that have to do with a state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = os.readlink(entry / "cwd")
        except OSError:
            continue  # It has ended meanwhile.
        if str(state) in command or where.startswith(str(state)):
            found.append(f"{entry.name} in {where}: {command}")
    return found
