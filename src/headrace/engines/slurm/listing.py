"""What one of Slurm's commands lists, made into something: only what is new, since mostly all is as it was."""

import re
import secrets
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

_T = TypeVar("_T")
_COUNTS = re.compile(
    r"^(Data since|Jobs (?:submitted|started|completed|canceled|failed):)(.*)$", re.MULTILINE
)
_KINDS = 6


class Listing(Generic[_T]):
    """The lines of ``columns`` that a ``command`` lists, each made into something. One that it said before is not made again.

    ``strange``: how those lines begin that nothing can be made of.
    """

    def __init__(
        self, command: str, columns: Sequence[str], make: Callable[[Sequence[str]], _T | None]
    ) -> None:
        self.command, self.strange = command, list[str]()
        self._columns, self._make = columns, make
        # Stands in for each question's own, so that answers can be compared. Who knew it could forge a line: nobody is told.
        self._secret = secrets.token_hex(8)
        self._said, self._made, self._found = "", dict[str, _T | None](), list[_T]()

    def form(self, secret: str) -> str:
        """The format to ask for: each line and column framed by ``secret``, which is chosen for this one question."""
        return f"{secret}<{f'{secret}|'.join(self._columns)}{secret}>"

    def read(self, said: str, secret: str) -> list[_T]:
        """What is listed in an answer to :meth:`form`; the very list of the last time when nothing changed.

        Raises ValueError with what does not belong to any line.
        """
        own, made = self._secret, self._made
        said = said.replace(secret, own)
        if said == self._said:
            return self._found
        *lines, rest = said.split(f"{own}>\n")
        if rest.strip():
            raise ValueError(rest.strip().replace(own, ""))
        now = {line: made[line] if line in made else self._make(self._parts(line)) for line in lines}
        found = [now[line] for line in lines]
        self.strange = [
            repr(self._parts(line)[0][:40].replace(own, "")) for line in lines if now[line] is None
        ]
        self._said, self._made, self._found = said, now, [one for one in found if one is not None]
        return self._found

    def _parts(self, line: str) -> list[str]:
        return line.partition(f"{self._secret}<")[2].split(f"{self._secret}|")


def counts(said: str) -> str:
    """What sdiag ``said`` of how many jobs there were of each kind, and since when it counts; "" when that is not all there."""
    found = _COUNTS.findall(said)
    return repr(found) if len(found) == _KINDS else ""
