"""What may be said to an OpenADR 3.1.1 server: request bodies and queries, as its OpenAPI document has them.

Written from the document by hand, and held to it by tests/lab: a body is refused here when the document refuses it. Fields
that the document doesn't know are ignored, as it allows. A field that may be left out but not be null has the default ABSENT.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, TypeAdapter

ABSENT: Any = None
"""The default of a field that may be left out, but not be null: a default is not validated."""
MOST_LIMIT = 50
_DURATION = re.compile(
    r"(-?)P(?=\d|T\d)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)([DW]))?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_RFC_3339 = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
)
ObjectId = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]*$", min_length=1, max_length=128)]
Named = Annotated[str, Field(min_length=1, max_length=128)]
Address = Annotated[str, Field(min_length=2, max_length=8000)]
Target = Named


def _duration(value: object) -> object:
    if isinstance(value, str) and not _DURATION.fullmatch(value):
        raise ValueError("no ISO 8601 duration, like PT1H")
    return value


def _date_time(value: object) -> object:
    if isinstance(value, str):
        if not _RFC_3339.fullmatch(value):
            raise ValueError("no RFC 3339 time, like 2026-01-31T09:30:00Z")
        datetime.fromisoformat(value[:19].upper())
    return value


Duration = Annotated[str, BeforeValidator(_duration)]
DateTime = Annotated[str, BeforeValidator(_date_time)]
Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
ObjectType = Literal["PROGRAM", "EVENT", "REPORT", "SUBSCRIPTION", "VEN", "RESOURCE"]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join("ID" if part == "id" else part.title() for part in rest)


class Body(BaseModel):
    """The base of all: strict, and open to fields that it doesn't know."""

    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=_camel)


class Point(Body):
    """A pair of numbers."""

    x: float
    y: float


class ValuesMap(Body):
    """Values of one type."""

    type: Named
    values: list[int | float | str | StrictBool | Point]


class IntervalPeriod(Body):
    """When an interval, or a set of them, is."""

    start: DateTime = ABSENT
    duration: Duration = ABSENT
    randomize_start: Duration = ABSENT


class Interval(Body):
    """A time with payloads."""

    id: Int32
    interval_period: IntervalPeriod = ABSENT
    payloads: list[ValuesMap]


class EventPayloadDescriptor(Body):
    """In what an event's payloads count."""

    object_type: Literal["EVENT_PAYLOAD_DESCRIPTOR"]
    payload_type: Named
    units: Named | None = None
    currency: str | None = None


class ReportPayloadDescriptor(Body):
    """In what a report's payloads count."""

    object_type: Literal["REPORT_PAYLOAD_DESCRIPTOR"]
    payload_type: Named
    reading_type: Named | None = None
    units: Named | None = None
    accuracy: float | None = None
    confidence: Annotated[Int32, Field(ge=0, le=100)] | None = None


class ReportDescriptor(Body):
    """A report that an event asks for."""

    payload_type: Named
    reading_type: Named | None = None
    units: Named | None = None
    targets: list[Target] | None = None
    aggregate: StrictBool = ABSENT
    start_interval: Int32 = ABSENT
    num_intervals: Int32 = ABSENT
    historical: StrictBool = ABSENT
    frequency: Int32 = ABSENT
    repeat: Int32 = ABSENT
    report_intervals: Literal["INTERVALS", "SUB_INTERVALS", "OPEN_INTERVALS"] = ABSENT


class _Description(Body):
    url: Address = Field(alias="URL")


def _described(value: object) -> object:
    """The document asks for a URL in an object, and does not ask for an object."""
    if not isinstance(value, dict):
        return value
    return _Description.model_validate(value).model_dump(by_alias=True)


class Program(Body):
    """A program, as who runs it describes it."""

    program_name: Named
    interval_period: IntervalPeriod = ABSENT
    program_descriptions: list[Annotated[Any, BeforeValidator(_described)]] | None = None
    payload_descriptors: list[EventPayloadDescriptor | ReportPayloadDescriptor] | None = None
    attributes: list[ValuesMap] | None = None
    targets: list[Target] | None = None


class Event(Body):
    """An event, as who runs its program describes it."""

    program_id: ObjectId
    event_name: str | None = None
    duration: Duration = ABSENT
    priority: Annotated[int, Field(ge=0)] | None = None
    targets: list[Target] | None = None
    report_descriptors: list[ReportDescriptor] | None = None
    payload_descriptors: list[EventPayloadDescriptor] | None = None
    interval_period: IntervalPeriod = ABSENT
    intervals: list[Interval] = ABSENT


class _ReportResource(Body):
    resource_name: Named
    interval_period: IntervalPeriod = ABSENT
    intervals: list[Interval]


class Report(Body):
    """A report, as a client gives it."""

    event_id: ObjectId
    client_name: Named
    report_name: str | None = None
    payload_descriptors: list[ReportPayloadDescriptor] | None = None
    resources: list[_ReportResource]


class _ObjectOperation(Body):
    objects: list[ObjectType]
    operations: list[Literal["READ", "CREATE", "UPDATE", "DELETE"]]
    callback_url: Address
    bearer_token: str | None = None


class Subscription(Body):
    """A subscription, as a client asks for it."""

    client_name: Named
    program_id: ObjectId = ABSENT
    object_operations: list[_ObjectOperation]
    targets: list[Target] | None = None


class VenByVen(Body):
    """A VEN, as it describes itself."""

    object_type: Literal["VEN_VEN_REQUEST"]
    ven_name: Named
    attributes: list[ValuesMap] | None = None


class VenByOperator(Body):
    """A VEN, as business logic describes it: with the targets that are granted to it."""

    object_type: Literal["BL_VEN_REQUEST"]
    client_id: Named
    ven_name: Named
    targets: list[Target] | None = None
    attributes: list[ValuesMap] | None = None


class ResourceByVen(Body):
    """A resource, as its VEN describes it."""

    object_type: Literal["VEN_RESOURCE_REQUEST"]
    resource_name: Named
    ven_id: ObjectId
    attributes: list[ValuesMap] | None = None


class ResourceByOperator(Body):
    """A resource, as business logic describes it."""

    object_type: Literal["BL_RESOURCE_REQUEST"]
    client_id: Named
    resource_name: Named
    ven_id: ObjectId
    targets: list[Target] | None = None
    attributes: list[ValuesMap] | None = None


class Credentials(Body):
    """Who asks for a token; the names are OAuth's."""

    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=None)

    grant_type: Literal["client_credentials"]
    client_id: Annotated[str, Field(min_length=1, max_length=4096)]
    client_secret: Annotated[str, Field(min_length=1, max_length=4096)]
    scope: Annotated[str, Field(max_length=4096)] = ABSENT


BODIES: dict[str, TypeAdapter[Any]] = {
    "programs": TypeAdapter(Program),
    "events": TypeAdapter(Event),
    "reports": TypeAdapter(Report),
    "subscriptions": TypeAdapter(Subscription),
    "vens": TypeAdapter(VenByVen | VenByOperator),
    "resources": TypeAdapter(ResourceByVen | ResourceByOperator),
}
"""What a body may be, by the collection that it is sent to."""

_IDENT, _NAME, _TARGETS = TypeAdapter(ObjectId), TypeAdapter(Named), TypeAdapter(list[Target])
QUERIES: dict[str, dict[str, TypeAdapter[Any]]] = {
    "programs": {"targets": _TARGETS},
    "events": {"programID": _IDENT, "targets": _TARGETS, "active": TypeAdapter(Literal["true", "false"])},
    "reports": {"programID": _IDENT, "eventID": _IDENT, "clientName": _NAME},
    "subscriptions": {
        "programID": _IDENT,
        "clientName": _NAME,
        "objects": TypeAdapter(list[ObjectType]),
    },
    "vens": {"venName": _NAME, "targets": _TARGETS},
    "resources": {"resourceName": _NAME, "venID": _IDENT, "targets": _TARGETS},
}
"""What a search may ask for, besides ``skip`` and ``limit``, by collection."""
LISTS = ("targets", "objects")
"""Queries that may stand more than once."""
