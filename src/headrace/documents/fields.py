"""What the fields of documents are made of: the base of all models, and single values in the words of documents.

Values are parsed by :mod:`headrace.documents.values`, so that a validated model holds the core's integers.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from headrace.core.estate import MINUTES_PER_DAY
from headrace.core.units import PERMILLE
from headrace.documents import values
from headrace.documents.source import show

MAX_LIST = 1_000
MAX_FEEDERS = 8
ONE, MANY = "[one]", "[many]"
"""Tags of values with two forms; they are no steps to a place in a document."""


def few(most: int) -> Callable[[object], object]:
    """A validator of how many fields or entries there are, before each of a million is found to be wrong."""

    def validate(value: object) -> object:
        if isinstance(value, dict) and len(value) > most:
            raise values.Bad(f"{len(value)} are too many.", f"At most {most}.")
        return value

    return validate


class Model(BaseModel):
    """The base of all: strict, closed, unchangeable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, data: object) -> object:
        return few(MAX_LIST)(data)


def form(value: object) -> str:
    """The tag of a value that is one thing, or a list of them."""
    return MANY if isinstance(value, list) else ONE


def schema(kind: str, **more: Any) -> WithJsonSchema:
    """What a field is in the published schema."""
    return WithJsonSchema({"type": kind, **more})


def number(least: int, most: int, what: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """A whole number of something between two bounds, both included."""
    return BeforeValidator(values.count(least, most, what)), schema("integer", minimum=least, maximum=most)


def word(what: str, *options: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """One of a few words."""
    return BeforeValidator(values.choice(what, *options)), schema("string", enum=list(options))


_NAME_SCHEMA = {"pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "maxLength": 63}
Name = Annotated[str, BeforeValidator(values.name), schema("string", **_NAME_SCHEMA)]
Text = Annotated[str, BeforeValidator(values.text), schema("string", maxLength=values.MAX_TEXT)]
Watts = Annotated[int, BeforeValidator(values.watts), schema("string", examples=["40MW"])]
WattsOrNone = Annotated[int, BeforeValidator(values.watts_or_none), schema("string", examples=["0W"])]
Memory = Annotated[int, BeforeValidator(values.memory_mb), schema("string", examples=["64GB"])]
Duration = Annotated[int, BeforeValidator(values.duration_ms), schema("string", examples=["1h30m"])]
Grace = Annotated[int, BeforeValidator(values.grace_ms), schema("string", examples=["10s"])]
Country = Annotated[str, BeforeValidator(values.country), schema("string", pattern="^[A-Z]{2}$")]
SiteCountry = Annotated[str, BeforeValidator(values.site_country), schema("string")]
Zone = Annotated[str, BeforeValidator(values.zone), schema("string", examples=["Europe/Oslo"])]
Currency = Annotated[str, BeforeValidator(values.currency), schema("string", pattern="^[A-Z]{3}$")]
Day = Annotated[str, BeforeValidator(values.day), schema("string", format="date")]
Moment = Annotated[int, BeforeValidator(values.moment_ms), schema("string", format="date-time")]
Price = Annotated[int, BeforeValidator(values.price_micros), WithJsonSchema({"type": ["number", "string"]})]
AcceleratorModel = Annotated[str, BeforeValidator(values.model), schema("string")]
Profile = Annotated[str, BeforeValidator(values.profile), schema("string", examples=["nordic-only"])]
ModelOrAny = Annotated[str, BeforeValidator(values.model_or_any), schema("string")]


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def _minute(value: object) -> int:
    """A time of the day, ``22:00``, as a minute of it; ``24:00`` is its end."""
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None and value != "24:00":
        raise values.Bad(f"{show(value)} is not a time of the day.", "Write it like 06:30.")
    return MINUTES_PER_DAY if match is None else int(match[1]) * 60 + int(match[2])


Minute = Annotated[int, BeforeValidator(_minute), schema("string", examples=["06:30"])]
Weekday = Annotated[str, *word("day of the week", *DAYS)]


def _derate(value: object) -> int:
    """The part of a breaker's rating that may be drawn all the time, in thousandths."""
    permille = values.factor_permille(value)
    if not 0 < permille <= PERMILLE:
        step = "The part of the rating that may be drawn all the time: above 0, at most 1, like 0.8."
        raise values.Bad(f"a derating of {show(value)} can't be.", step)
    return permille


def _feeders(value: list[str]) -> list[str]:
    twice = sorted({name for name in value if value.count(name) > 1})
    if twice:
        raise values.Bad(f"{', '.join(twice)} stands twice among the feeders.", "Name each feeder once.")
    return value


Derate = Annotated[int, BeforeValidator(_derate), schema("number", exclusiveMinimum=0, maximum=1)]
_Feeders = Annotated[list[Name], Field(min_length=1, max_length=MAX_FEEDERS), AfterValidator(_feeders)]
FedBy = Annotated[Annotated[Name, Tag(ONE)] | Annotated[_Feeders, Tag(MANY)], Discriminator(form)]
"""What feeds something: one element, or several among which its load splits equally."""
RedundancyClaim = Annotated[str, *word("redundancy", "single", "N+1", "2N", "distributed")]


def listed(fed_by: str | list[str] | None) -> tuple[str, ...]:
    """All feeders of something; none: the connection itself."""
    return (fed_by,) if isinstance(fed_by, str) else tuple(fed_by or ())


def _degrees(value: object) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not -60 <= value <= 60:  # type: ignore[operator]  # it is an int here
        raise values.Bad(
            f"{show(value)} is not a temperature outside.", "Write whole degrees Celsius, -60 to 60."
        )
    return value  # type: ignore[return-value]


def _load(value: object) -> int:
    permille = values.factor_permille(value)
    if not 0 < permille <= PERMILLE:
        step = "Write the part of the full load: above 0, at most 1, like 0.25."
        raise values.Bad(f"a load of {show(value)} can't be.", step)
    return permille


Degrees = Annotated[int, BeforeValidator(_degrees), schema("integer", minimum=-60, maximum=60)]
Load = Annotated[int, BeforeValidator(_load), schema("number", exclusiveMinimum=0, maximum=1)]
Pue = Annotated[int, BeforeValidator(values.pue_permille), schema("number", minimum=1, maximum=3)]


def curved(value: object) -> str:
    """The tag of a PUE: one number, or a curve."""
    return MANY if isinstance(value, dict) else ONE
