"""The state directory: one control plane at a time holds it."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.core.errors import HeadraceError, Problem, ProblemCode


@dataclass(frozen=True, slots=True)
class ClientFile:
    """How a client on this machine finds the control plane: written for the user who started it."""

    url: str
    token: str


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Where everything lies: ``journal.sqlite``, ``checkpoints/``, ``keys/``, ``engine/``, ``miners/``, ``client.json``."""

    path: Path

    @property
    def journal(self) -> Path:
        """The store's file."""
        return self.path / "journal.sqlite"

    @property
    def keys(self) -> Path:
        """The operator's keys."""
        return self.path / "keys"

    @property
    def engine(self) -> Path:
        """The local engine's runs and logs."""
        return self.path / "engine"

    @property
    def miners(self) -> Path:
        """What the engine of miners was ordered, and saw."""
        return self.path / "miners"

    @property
    def client(self) -> Path:
        """Address and admin token, for clients of this user."""
        return self.path / "client.json"

    def hold(self) -> int:
        """Make the directory and take its lock until the process ends; raises HeadraceError when another holds it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Tenants' processes pass through to the engine's folders; everything else in here is closed by itself.
            self.path.chmod(0o711)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            step = "Name a directory that you may write with --state."
            raise HeadraceError(
                Problem(ProblemCode.BAD_INPUT, f"no state can be kept in {self.path}: {error}.", step)
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            step = "Stop it first, or start this one with another --state."
            message = f"the state in {self.path} is in use by process {holder or 'unknown'}."
            raise HeadraceError(Problem(ProblemCode.IN_USE, message, step)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def write_client(self, client: ClientFile) -> None:
        """Remember how to reach the control plane; mode 0600."""
        temporary = self.client.with_suffix(f".{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(client))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.client)

    def read_client(self) -> ClientFile | None:
        """How to reach the control plane, or None when it never ran here (or the file is not readable)."""
        try:
            return msgspec.json.decode(self.client.read_bytes(), type=ClientFile)
        except (OSError, msgspec.MsgspecError):
            return None


def engines_file(state: Path, given: Path | None) -> Path | None:
    """The file that declares clusters: the one that was given, else ``engines.yaml`` in the state directory, if it is there."""
    found = state / "engines.yaml"
    if given is not None:
        return given.absolute()
    return found if found.exists() else None


def default_state() -> Path:
    """``HEADRACE_STATE``, else ``.headrace`` in the user's home."""
    return Path(os.environ.get("HEADRACE_STATE") or Path.home() / ".headrace")
