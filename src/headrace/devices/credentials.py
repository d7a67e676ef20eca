"""Passwords of devices: they stand in files of their own, and in no error, log or devices file."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from headrace.devices import DeviceError, DeviceFault


class SecretFile:
    """A password in a file that nobody else may read; read again when the file changes, for it is renewed by writing another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._text = ""

    def read(self, device: str) -> str:
        """The password as it stands in the file now; DeviceError in the name of ``device``."""
        try:
            found = self.path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._refuse_open(device, found)
                self._text, self._seen = self.path.read_text(encoding="utf-8").rstrip("\r\n"), seen
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise self._error(
                device, f"can't be read: {(why or 'unknown error').lower()}", "Check its path and rights."
            ) from error
        if not self._text:
            raise self._error(device, "is empty", "Write the password into it, as one line.")
        return self._text

    def _refuse_open(self, device: str, found: os.stat_result) -> None:
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise self._error(device, "can be used by others", f"`chmod 600 {self.path}`.")
        if found.st_uid not in (0, os.geteuid()):
            step = f"`chown {os.geteuid()} {self.path}`, or use another file."
            raise self._error(device, f"belongs to user {found.st_uid}", step)

    def _error(self, device: str, what: str, step: str) -> DeviceError:
        return DeviceError(device, DeviceFault.CREDENTIALS, f"its password file {self.path} {what};", step)


@dataclass(frozen=True, slots=True)
class Login:
    """Who to be at a device. ``session``: log in once and use a token (Redfish), instead of the password with each request."""

    user: str
    secret: SecretFile
    session: bool = True
