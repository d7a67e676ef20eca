"""A cluster's token, in a file of its own: it is renewed by writing another, without a restart."""

import stat
from collections.abc import Callable
from pathlib import Path

from headrace.core.errors import ProblemCode
from headrace.engines.problems import engine_error
from headrace.ports import EngineError

_OPEN = ((stat.S_IROTH, "everybody can read it"), (stat.S_IWOTH | stat.S_IWGRP, "others can write it"))


class TokenFile:
    """A token in a file, read again when the file changes; its mode is looked at each time it is used.

    ``whose`` begins every error, like "Slurm's token"; ``parse`` takes it out of what the file holds ("": there is none of its
    ``kind``), and ``renew`` is the command that writes another.
    """

    def __init__(
        self, path: Path, whose: str, renew: str, *, parse: Callable[[str], str], kind: str = "token"
    ) -> None:
        self.path, self._whose, self._renew, self._parse, self._kind = path, whose, renew, parse, kind
        self._seen: tuple[int, int, int] | None = None
        self.text = ""

    def read(self) -> str:
        """The token as it stands in the file now; EngineError when it can't be had, or others can have it too."""
        try:
            found = self.path.stat()
            self._refuse_open(stat.S_IMODE(found.st_mode))
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                text = self._parse(self.path.read_bytes().decode("ascii", errors="replace").strip())
                if not text:
                    raise self.problem(f"holds no {self._kind}", self.renew())
                self.text, self._seen = text, seen
        except FileNotFoundError as error:
            # What a shell makes anew can be read by everybody, as a rule.
            step = f"make it: `install -m 600 /dev/null {self.path}`, then `{self._renew}`"
            raise self.problem("is not there", step) from error
        except OSError as error:
            raise self.problem(error.strerror or "can't be read", self.renew()) from error
        return self.text

    def renew(self) -> str:
        """The next step where it is the wrong one."""
        return f"make a new one: `{self._renew}`"

    def problem(self, what: str, step: str) -> EngineError:
        """An error about this token, which is not in it."""
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE, f"{self._whose} in {self.path} {what};", f"{step}."
        )

    def _refuse_open(self, mode: int) -> None:
        for bits, who in _OPEN:
            if mode & bits:
                what = f"has mode {mode:04o}: {who}"
                raise self.problem(what, f"`chmod 600 {self.path}`, and make a new one if somebody may have")
