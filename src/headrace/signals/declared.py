"""The file that says which grid operators are listened to: documents of ``kind: vtn``.

It stands on the control plane's own host and is no document of the API: it names a secret's file and an address that the control
plane uses with its own rights, and whoever may apply an estate need not be who may say what a grid signal does to it.
"""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.core.ids import SiteId
from headrace.core.power.openadr import SiteSignals
from headrace.core.units import MS_PER_HOUR, MS_PER_SECOND, PERMILLE
from headrace.documents import values
from headrace.documents.load import checked
from headrace.documents.report import bad_input
from headrace.documents.schema import Model, Name, Text, Watts, Zone
from headrace.documents.source import Raw, parse, read_bytes, show
from headrace.documents.values import Bad
from headrace.engines.problems import refuse_writable_file

KIND = "vtn"
MOST_SECRET = 4_096
MOST_WORD = 128
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9])?) ?%")
_LEVELS = 3


@dataclass(frozen=True, slots=True)
class Share:
    """What is allowed of a connection: thousandths of it, or so many watts."""

    permille: int = 0
    watts: int | None = None

    def of(self, connection_w: int) -> int:
        """It in watts, rounded down."""
        return connection_w * self.permille // PERMILLE if self.watts is None else self.watts


def _share(value: object) -> Share:
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        permille = int(Decimal(match[1]) * 10)
        if permille > PERMILLE:
            raise Bad(f"{show(value)} is more than all.", "At most 100%.")
        return Share(permille=permille)
    try:
        return Share(watts=values.watts_or_none(value))
    except Bad as error:
        raise Bad(error.message, "Write a part of the connection like 60%, or a power like 12MW.") from None


def _levels(value: object) -> object:
    if not isinstance(value, list) or len(value) != _LEVELS:
        raise Bad(f"SIMPLE has {_LEVELS} levels above 0.", "Write what each allows, like [80%, 60%, 12MW].")
    return value


def _absolute(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise Bad(f"{show(value)} is no absolute path.", "Begin it with a slash.")
    return Path(value)


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_plain = not (parts.username or parts.query or parts.fragment) and len(text) <= values.MAX_TEXT
    return is_host and is_plain and text.startswith(("http://", "https://"))


def _url(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if not _is_address(text):
        raise Bad(f"{show(value)} is no address of a VTN.", "Write it like https://vtn.example.org/openadr3.")
    if text.startswith("http:") and not is_loopback(text):
        raise Bad(
            f"{show(value)} is not encrypted.",
            "Write https://; plain http is for this machine alone, for a secret goes there.",
        )
    return text.rstrip("/")


def _within(least_ms: int, most_ms: int, what: str) -> BeforeValidator:
    def validate(value: object) -> int:
        found = values.duration_ms(value)
        if not least_ms <= found <= most_ms:
            raise Bad(f"{show(value)} is {'too short' if found < least_ms else 'too long'} for {what}.", "")
        return found

    return BeforeValidator(validate)


def _word(value: object) -> str:
    found = values.text(value)
    if not found.strip() or len(found) > MOST_WORD:
        raise Bad(f"{show(value)} is no name for OpenADR.", f"From 1 to {MOST_WORD} letters.")
    return found


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
VtnUrl = Annotated[str, BeforeValidator(_url)]
Part = Annotated[Share, BeforeValidator(_share)]
Word = Annotated[str, BeforeValidator(_word)]


class SiteModel(Model):
    """What the signals of a VTN mean for a site; all limits at its meter.

    ``simple``: what levels 1, 2 and 3 of SIMPLE allow; level 0 is no limit. ``emergency``: what ALERT_GRID_EMERGENCY allows.
    ``unreadable``: what holds where a limit is meant and can't be read; by default the least of these. ``resource``: what the
    site is called as a resource there (by default its name); ``targets``: by what else events mean it. ``zone`` reads times
    without an offset. ``setpoint``: which way DISPATCH_SETPOINT counts upwards.
    """

    connection: Watts
    simple: Annotated[list[Part], BeforeValidator(_levels)]
    emergency: Part
    unreadable: Part | None = None
    resource: Word | None = None
    targets: list[Word] = Field(default=[], max_length=20)
    zone: Zone = "UTC"
    setpoint: Literal["consumption", "generation"] = "consumption"


class VtnModel(Model):
    """A VTN, and the sites that it speaks to.

    ``client`` and the file ``secret`` are what the grid operator gave; the file is read again for each token. ``token_url``:
    where tokens are had, if not where the VTN says on its own host. ``ca``: who signed its certificate, if no public authority.
    ``ven``: what we are called there. ``programs``: those that are followed, by name; none: all. ``poll``: how often it is
    asked; ``deadline``: how long one answer may take. ``acknowledge``: each event that was read is answered with a report.
    """

    kind: Literal["vtn"]
    name: Name
    url: VtnUrl
    client: Text
    secret: AbsolutePath
    ven: Word
    token_url: VtnUrl | None = None
    ca: AbsolutePath | None = None
    programs: list[Word] = Field(default=[], max_length=50)
    poll: Annotated[int, _within(MS_PER_SECOND, MS_PER_HOUR, "polling: 1s to 1h")] = 30 * MS_PER_SECOND
    deadline: Annotated[int, _within(100, 300 * MS_PER_SECOND, "an answer: 100ms to 5m")] = 10 * MS_PER_SECOND
    acknowledge: bool = True
    sites: Annotated[dict[Name, SiteModel], Field(min_length=1, max_length=1_000)]

    @property
    def resources(self) -> dict[SiteId, str]:
        """What each site is called as a resource."""
        return {SiteId(name): one.resource or name for name, one in self.sites.items()}

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets that are asked for, each once."""
        return tuple(sorted({target for one in self.sites.values() for target in one.targets}))

    def signals(self) -> list[SiteSignals]:
        """What each site does with which signal, in watts."""
        return [_signals(SiteId(name), one) for name, one in sorted(self.sites.items())]


def _signals(site: SiteId, one: SiteModel) -> SiteSignals:
    first, second, third = (share.of(one.connection) for share in one.simple)
    emergency_w = one.emergency.of(one.connection)
    least_w = min(third, emergency_w)
    return SiteSignals(
        site=site,
        connection_w=one.connection,
        simple_w=(first, second, third),
        emergency_w=emergency_w,
        unreadable_w=least_w if one.unreadable is None else one.unreadable.of(one.connection),
        targets=frozenset({*one.targets, one.resource or site}),
        zone=one.zone,
        is_generation_positive=one.setpoint == "generation",
    )


def load_signals(path: Path) -> list[VtnModel]:
    """The VTNs that a file declares; raises HeadraceError with every problem found, or when others may write the file."""
    refuse_writable_file(path, "it says what a grid signal does")
    found: dict[str, VtnModel] = {}
    problems: list[Problem] = []
    for raw in parse(read_bytes(path), str(path)):
        try:
            one = _vtn(raw)
        except HeadraceError as error:
            problems.extend(error.problems)
            continue
        if one.name in found:
            text = f"there is a vtn {one.name} already."
            problems.append(bad_input(text, "Give it another name.", raw.source, ("name",)))
        found[one.name] = one
        problems.extend(_contradictions(one, raw))
    if not found and not problems:
        problems.append(Problem(ProblemCode.BAD_INPUT, "no vtn in it.", "Begin with kind: vtn.", str(path)))
    if problems:
        raise HeadraceError(*problems)
    return list(found.values())


def _vtn(raw: Raw) -> VtnModel:
    data: Any = raw.data
    if not isinstance(data, dict) or data.get("kind") != KIND:
        kind = data.get("kind") if isinstance(data, dict) else data
        step = did_you_mean(str(kind)[:60], [KIND])
        raise HeadraceError(bad_input(f"{show(kind)} is no source of signals;", step, raw.source, ("kind",)))
    return checked(VtnModel, data, raw.source)


def _contradictions(vtn: VtnModel, raw: Raw) -> Sequence[Problem]:
    """Limits that can't be meant: above the connection, or looser where they should be stricter."""
    problems = []
    for name, one in vtn.sites.items():
        place = ("sites", name)
        limits = [share.of(one.connection) for share in one.simple]
        if sorted(limits, reverse=True) != limits:
            step = "Write what levels 1, 2 and 3 allow, from most to least."
            text = "a higher level of SIMPLE allows more than a lower one."
            problems.append(bad_input(text, step, raw.source, (*place, "simple")))
        named = {"simple": max(limits), "emergency": one.emergency.of(one.connection)}
        if one.unreadable is not None:
            named["unreadable"] = one.unreadable.of(one.connection)
        problems.extend(
            bad_input("it allows more than the connection.", "Lower it.", raw.source, (*place, key))
            for key, limit_w in named.items()
            if limit_w > one.connection
        )
    return problems


def read_secret(path: Path) -> str:
    """The secret in a file that its user alone may read; HeadraceError that names the file and the step, and never the secret."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _bad_secret(path, "is no file", "name the file that holds it")
            if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise _bad_secret(path, "may be read by others than its user", f"`chmod 600 {path}`")
            if found.st_uid not in (0, os.geteuid()):
                raise _bad_secret(path, f"belongs to user {found.st_uid}", f"`chown {os.geteuid()} {path}`")
            text = file.read(MOST_SECRET + 2).decode("ascii").strip()
    except OSError as error:
        raise _bad_secret(
            path, f"can't be read: {error.strerror}", "put the secret there, with mode 600"
        ) from None
    except UnicodeDecodeError:
        raise _bad_secret(path, "holds no text of plain letters", "put the secret there alone") from None
    if not text or len(text) > MOST_SECRET or not text.isprintable():
        raise _bad_secret(path, "holds no secret of one line", "put the secret there alone")
    return text


def _bad_secret(path: Path, what: str, step: str) -> HeadraceError:
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, f"the secret {path} {what};", f"{step}.", str(path)))
