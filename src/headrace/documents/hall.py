"""``kind: hall``: miners and accelerators on one connection, as people write it.

A hall is read by `headrace replay power` and is no document of the estate. Quotes are numbers in US dollars, as they are
everywhere (USD per PH/s and day for miners, USD per GPU-hour for accelerators), or say their currency, or are a column of a
CSV file beside the hall's own.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Tag, WithJsonSchema

from headrace.core.errors import HeadraceError
from headrace.core.power.hall import MAX_LOADS, AiLoad, Hall, MachineClass, Quote, Ramp, Switching
from headrace.core.units import MICROS, MS_PER_HOUR, PERMILLE, format_watts
from headrace.documents import values
from headrace.documents.checks import Found
from headrace.documents.fields import (
    MANY,
    ONE,
    Currency,
    Model,
    Name,
    Price,
    Text,
    Watts,
    Zone,
    few,
)
from headrace.documents.report import bad_input, validated
from headrace.documents.source import Raw, Source, parse, read_bytes, show

KIND = "hall"
DOLLAR = "USD"
MAX_MACHINES = 10_000_000
_RATE = re.compile(r"(.+?)\s*/\s*h(our)?")
_UNIT = re.compile(r"[a-z]{3}_per_[km]wh")
_NUMBER = WithJsonSchema({"type": "number"})


def _milli(what: str, example: str, most: int) -> BeforeValidator:
    """A validator of a number of more than nothing, in thousandths."""

    def validate(value: object) -> int:
        number = values.decimal(value, what, example) * PERMILLE
        if number != number.to_integral_value():
            raise values.Bad(f"{show(value)} is finer than {what} can be.", "At most three decimals.")
        if not 0 < number <= most * PERMILLE:
            raise values.Bad(f"{show(value)} can't be {what}.", f"Write it like {example}.")
        return int(number)

    return BeforeValidator(validate)


def _speed(value: object) -> int:
    """Watts per hour, of ``10MW/h``."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise values.Bad(f"{show(value)} is not a ramp.", "Write it like 10MW/h.")
    return values.watts(found[1])


class Pace(NamedTuple):
    """How fast a draw may change: ``w_per_hour``, or (0) as much as the connection carries in ``ms``."""

    w_per_hour: int
    ms: int


def _pace(value: object) -> Pace:
    return (
        Pace(_speed(value), 0)
        if not isinstance(value, str) or "/" in value
        else Pace(0, values.duration_ms(value))
    )


def _or_nothing(value: object) -> int:
    return (
        0
        if isinstance(value, str) and re.fullmatch(r"0+(\.0+)?\s*(ms|s|m|h|d)?", value)
        else values.duration_ms(value)
    )


def _unit(value: object) -> str:
    if isinstance(value, str) and _UNIT.fullmatch(value):
        return value
    raise values.Bad(
        f"no unit of prices {show(value)}.", "Write it like nok_per_kwh, eur_per_mwh or usd_per_mwh."
    )


def _rate(value: object) -> int:
    micros = values.price_micros(value)
    if not micros:
        raise values.Bad("a rate of nothing.", "Write what one of it is in the hall's currency, like 11.60.")
    return micros


def _file(value: object) -> str:
    path = values.text(value)
    if not path or "\0" in path:
        raise values.Bad(f"{show(value)} is no file.", "Write its path, from where the hall's file is.")
    return path


def _flag_word(value: object) -> bool:
    if value in ("on", "off"):
        return value == "on"
    raise values.Bad(f"{show(value)} is neither on nor off.", "Write on or off.")


Speed = Annotated[int, BeforeValidator(_speed), WithJsonSchema({"type": "string", "examples": ["10MW/h"]})]
Span = Annotated[
    int, BeforeValidator(_or_nothing), WithJsonSchema({"type": "string", "examples": ["2h", "0h"]})
]
Rate = Annotated[int, BeforeValidator(_rate), _NUMBER]


class QuoteModel(Model):
    """What work is paid: ``constant``, or a ``column`` of a CSV ``file``; in ``currency``."""

    constant: Price | None = None
    file: Annotated[str, BeforeValidator(_file)] = ""
    column: Text = ""
    currency: Currency = DOLLAR


class RampModel(Model):
    """How fast the draw may rise and fall, in watts per hour."""

    up: Speed | None = None
    down: Speed | None = None


class FeesModel(Model):
    """What is paid for energy besides its price, in the hall's currency."""

    per_kwh: Price = 0


class CarbonModel(Model):
    """What carbon weighs in a decision, and in the account, in the hall's currency."""

    per_tonne: Price = 0


def _quote_form(value: object) -> str:
    return MANY if isinstance(value, dict) else ONE


AnyRamp = Annotated[
    Annotated[Pace, PlainValidator(_pace), Tag(ONE)] | Annotated[RampModel, Tag(MANY)],
    Discriminator(_quote_form),
]
AnyQuote = Annotated[
    Annotated[Price, Tag(ONE)] | Annotated[QuoteModel, Tag(MANY)], Discriminator(_quote_form)
]


class MachineModel(Model):
    """A class of equal miners: J/TH at the meter and TH/s of each."""

    name: Name
    count: Annotated[int, BeforeValidator(values.count(1, MAX_MACHINES, "machines")), _NUMBER]
    efficiency: Annotated[int, _milli("an efficiency in J/TH", "17.5", 10_000), _NUMBER]
    hashrate: Annotated[int, _milli("a hash rate in TH/s", "200", 1_000_000), _NUMBER]
    restart_cost: Price = 0
    min_up: Span = 0
    min_down: Span = 0


class AiModel(Model):
    """Accelerators that are let: facility watts per GPU, and what a GPU-hour is paid."""

    name: Name
    gpus: Annotated[int, BeforeValidator(values.count(1, MAX_MACHINES, "GPUs")), _NUMBER]
    power_per_gpu: Watts
    price_per_gpu_hour: AnyQuote
    firm: Annotated[bool, BeforeValidator(values.flag)] = False
    restart_cost: Price = 0
    min_up: Span = 0
    min_down: Span = 0


class HallModel(Model):
    """``kind: hall``."""

    kind: Literal["hall"]
    name: Name
    zone: Zone
    currency: Currency
    price_unit: Annotated[str, BeforeValidator(_unit)] = ""
    exchange: Annotated[dict[Currency, Rate], BeforeValidator(few(100)), Field(default_factory=dict)]
    connection: Watts
    ramp: AnyRamp | None = None
    fees: FeesModel = FeesModel()
    carbon: CarbonModel = CarbonModel()
    hashprice: AnyQuote
    initially: Annotated[bool, BeforeValidator(_flag_word)] = False
    machines: list[MachineModel] = Field(default=[], max_length=MAX_LOADS)
    ai: list[AiModel] = Field(default=[], max_length=MAX_LOADS)
    note: Text = ""


def load_hall(path: Path) -> Hall:
    """The hall of a YAML or JSON file; HeadraceError with every problem found, each with its place."""
    return parse_hall(read_bytes(path), str(path))


def parse_hall(raw: bytes, name: str) -> Hall:
    """The hall of a text, which errors call ``name``."""
    found = parse(raw, name)
    if len(found) != 1:
        message = "no document in it." if not found else f"{len(found)} documents, and not one."
        raise HeadraceError(
            bad_input(
                message, "Give one document, of kind: hall.", found[0].source if found else Source(name)
            )
        )
    return _hall_of(found[0])


def _hall_of(raw: Raw) -> Hall:
    data, source = raw.data, raw.source
    if not isinstance(data, dict) or data.get("kind") != KIND:
        kind = show(data.get("kind")) if isinstance(data, dict) else show(data)
        raise HeadraceError(bad_input(f"{kind} is not a hall.", "Begin with kind: hall.", source))
    model = validated(HallModel, data, source)
    hall = _converted(model)
    problems = [bad_input(one.message, one.next_step, source, one.place) for one in _wrong(model, hall)]
    if problems:
        raise HeadraceError(*problems)
    return hall


def _converted(model: HallModel) -> Hall:
    return Hall(
        name=model.name,
        zone=model.zone,
        currency=model.currency,
        connection_w=model.connection,
        machines=tuple(
            MachineClass(one.name, one.count, one.efficiency, one.hashrate, _switching(one))
            for one in model.machines
        ),
        hashprice=_quote(model.hashprice),
        ai=tuple(
            AiLoad(
                one.name,
                one.gpus,
                one.power_per_gpu,
                _quote(one.price_per_gpu_hour),
                one.firm,
                _switching(one),
            )
            for one in model.ai
        ),
        price_unit=model.price_unit,
        rates_micros=dict(model.exchange),
        ramp=_ramp(model),
        fee_micros_per_mwh=model.fees.per_kwh * 1_000,
        carbon_micros_per_tonne=model.carbon.per_tonne,
        starts_on=model.initially,
    )


def _switching(model: MachineModel | AiModel) -> Switching:
    return Switching(model.restart_cost, model.min_up, model.min_down)


def _quote(model: int | QuoteModel) -> Quote:
    if isinstance(model, int):
        return Quote(DOLLAR, model)
    return Quote(model.currency, model.constant or 0, model.file, model.column)


def _ramp(model: HallModel) -> Ramp:
    ramp = model.ramp
    if ramp is None:
        return Ramp()
    if isinstance(ramp, RampModel):
        return Ramp(ramp.up or 0, ramp.down or 0)
    rate = ramp.w_per_hour or max(1, model.connection * MS_PER_HOUR // ramp.ms)
    return Ramp(rate, rate)


def _wrong(model: HallModel, hall: Hall) -> Iterator[Found]:
    if not model.machines and not model.ai:
        yield Found((), "a hall without machines.", "Add machines, or ai.")
    names = [*(one.name for one in model.ai), *(one.name for one in model.machines)]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield Found(("machines",), f"{twice} stands twice.", "Give each class a name of its own.")
    if hall.firm_w() > hall.connection_w:
        firm, most = format_watts(hall.firm_w()), format_watts(hall.connection_w)
        message = f"firm accelerators draw {firm}, and the connection carries {most}."
        yield Found(("connection",), message, "Write fewer firm GPUs, or a larger connection.")
    if model.currency in model.exchange and model.exchange[model.currency] != MICROS:
        message = f"one {model.currency} is one {model.currency}."
        yield Found(("exchange", model.currency), message, "Remove it: it is the hall's own currency.")
    yield from _wrong_quotes(model)


def _wrong_quotes(model: HallModel) -> Iterator[Found]:
    quotes: list[tuple[tuple[str | int, ...], int | QuoteModel]] = [
        (("ai", number, "price_per_gpu_hour"), one.price_per_gpu_hour) for number, one in enumerate(model.ai)
    ]
    if model.machines:
        quotes.append((("hashprice",), model.hashprice))
    for place, quote in quotes:
        currency = DOLLAR if isinstance(quote, int) else quote.currency
        if currency != model.currency and currency not in model.exchange:
            message = f"it is in {currency}, and no rate is stated for that."
            step = f"Add exchange: {{{currency}: ...}}, what one is in {model.currency}; or a currency here."
            yield Found(place, message, step)
        if isinstance(quote, QuoteModel):
            yield from _wrong_quote(place, quote)


def _wrong_quote(place: tuple[str | int, ...], quote: QuoteModel) -> Iterator[Found]:
    if (quote.constant is None) == (not quote.file):
        yield Found(place, "a quote is a constant, or a column of a file.", "Write one of both.")
    if bool(quote.file) != bool(quote.column):
        yield Found(place, "file and column go together.", "Write both, or neither.")


__all__ = ["KIND", "HallModel", "load_hall", "parse_hall"]
