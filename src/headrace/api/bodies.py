"""Bodies of requests: read with a limit, and checked by closed models that say all that is wrong, and where."""

from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import BeforeValidator, Field, WithJsonSchema

from headrace.api.guard import authenticate
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.units import MS_PER_DAY
from headrace.documents import values
from headrace.documents.fields import Country
from headrace.documents.report import validated
from headrace.documents.schema import Model, Moment, Name
from headrace.documents.source import Source
from headrace.documents.values import Bad

MAX_BODY = 8 * 1024 * 1024
"""Bytes of a body; nothing longer is ever held in memory."""
URGENCIES = ["normal", "emergency"]
ROLES = ["operator-admin", "tenant-admin", "tenant-member"]
MAX_NAMED = 10_000
MAX_LINE = 500
MAX_AMOUNT_MICROS = 10**15

M = TypeVar("M", bound=Model)
_decode = msgspec.json.Decoder().decode


async def read_body(request: Request) -> bytes:
    """The whole body; HeadraceError as soon as it is more than ``MAX_BODY``, whatever its header says."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise _too_large()
        chunks.append(chunk)
    # It came in its own time: meanwhile its token may have been revoked, or have expired.
    authenticate(request)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large() -> HeadraceError:
    message = f"the body is larger than {MAX_BODY // (1024 * 1024)} MiB."
    return HeadraceError(Problem(ProblemCode.TOO_LARGE, message, "Send it in several requests."))


def check_text(raw: bytes) -> None:
    """HeadraceError that names the byte where a body is not UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        where = f"byte {error.start}"
        message = f"the body is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}."
        problem = Problem(ProblemCode.BAD_INPUT, message, "Send it in UTF-8.", where)
        raise HeadraceError(problem) from None


def decode_json(raw: bytes) -> Any:
    """A JSON body; HeadraceError for what is none."""
    check_text(raw)
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).rstrip(".")
        message = f"the body is not JSON: {reason[:1].lower()}{reason[1:]}."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, "Send one JSON object.")) from None


async def body(request: Request, model: type[M]) -> M:
    """A JSON body as ``model``; HeadraceError with a problem for everything that is wrong with it."""
    raw = await read_body(request)
    return validated(model, decode_json(raw or b"{}"), Source())


def _line(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_LINE or not value.isprintable():
        raise Bad("not one printable line.", f"Write at most {MAX_LINE} letters in one line.")
    return value


def _long_duration(value: object) -> int:
    duration_ms = values.duration_ms(value)
    if duration_ms > 3_660 * MS_PER_DAY:
        raise Bad("longer than ten years.", "Write less, like 90d.")
    return duration_ms


def _whole(least: int, most: int, what: str) -> Any:
    return BeforeValidator(values.count(least, most, what))


Line = Annotated[str, BeforeValidator(_line), WithJsonSchema({"type": "string", "maxLength": MAX_LINE})]
NodeName = Annotated[
    str, BeforeValidator(_line), WithJsonSchema({"type": "string", "maxLength": MAX_LINE, "minLength": 1})
]
Expiry = Annotated[
    int, BeforeValidator(_long_duration), WithJsonSchema({"type": "string", "examples": ["90d"]})
]

NodeNames = Annotated[list[NodeName], Field(max_length=MAX_NAMED)]


class DrainBody(Model):
    """Nodes by name, or all of a site; with ``evict`` what runs on them is moved at once."""

    nodes: NodeNames = Field(default=[])
    site: Name | None = None
    reason: Line = ""
    evict: bool = False


class InstructionBody(Model):
    """What the grid lets a site draw at its meter, ``limit`` like 40MW, from one time until another (RFC 3339 with an offset).

    Without ``from`` it begins at once, without ``until`` it holds until it is withdrawn. ``id`` names it, so that it can be
    replaced; ``binding``: it holds even where it can't be met.
    """

    site: Name
    limit: Annotated[
        int, BeforeValidator(values.watts_or_none), WithJsonSchema({"type": "string", "examples": ["40MW"]})
    ]
    begins: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None
    id: Name | None = None
    urgency: Annotated[
        str,
        BeforeValidator(values.choice("urgency", *URGENCIES)),
        WithJsonSchema({"type": "string", "enum": URGENCIES}),
    ] = "normal"
    note: Line = ""
    binding: bool = False


class WithdrawBody(Model):
    """Why an instruction is withdrawn."""

    reason: Line = ""


class UndrainBody(Model):
    """Nodes by name, or all of a site."""

    nodes: NodeNames = Field(default=[])
    site: Name | None = None
    reason: Line = ""


class TokenBody(Model):
    """A token's role and tenant; ``holder`` says who has it, and is kept encrypted; without ``expires_in`` it never ends.

    ``countries``: from where the holder has access; policies about people ask for it.
    """

    role: Annotated[
        str, BeforeValidator(values.choice("role", *ROLES)), WithJsonSchema({"type": "string", "enum": ROLES})
    ]
    tenant: Name | None = None
    holder: Line = ""
    expires_in: Expiry | None = None
    countries: Annotated[list[Country], Field(max_length=249)] = Field(default=[])


class CopyBody(Model):
    """The site that a data set is copied to."""

    site: Name


class CreditBody(Model):
    """An amount in millionths of the invoice's currency, and why."""

    amount_micros: Annotated[
        int,
        _whole(1, MAX_AMOUNT_MICROS, "millionths"),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_AMOUNT_MICROS}),
    ]
    reason: Annotated[
        str,
        BeforeValidator(_line),
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_LINE}),
    ]


class IssueBody(Model):
    """The period to invoice."""

    period: Annotated[
        str,
        BeforeValidator(_line),
        WithJsonSchema({"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$", "examples": ["2026-11"]}),
    ]


class NoBody(Model):
    """No body, or an empty object."""
