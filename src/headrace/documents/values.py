"""Single values as people write them, turned into the core's integers, exactly.

Each function takes whatever stood in the document (a text, an int, a Decimal; a float from a JSON body) and returns
the core's value or raises :class:`Bad`, which says what is wrong and what to write instead.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from zoneinfo import available_timezones

from headrace.core.errors import did_you_mean
from headrace.core.hardware import CATALOGUE
from headrace.core.ids import NAME_RULE, is_name
from headrace.core.sovereignty.plain import PROFILES
from headrace.core.units import (
    MICROS,
    MS_PER_DAY,
    PERMILLE,
    format_duration,
    parse_duration_ms,
    parse_memory_mb,
    parse_watts,
)
from headrace.core.workload import LEVELS, WHOLE_MILLI
from headrace.documents.countries import COUNTRIES, SLIPS
from headrace.documents.source import show

MAX_WATTS = 10**12
MAX_MEMORY_MB = 10**9
MAX_DURATION_MS = 3_660 * MS_PER_DAY
MAX_NODES = 100_000
MAX_PRIORITY = 1_000
MAX_COMMAND = 65_536
MAX_COMMANDS = 256
MAX_ENV = 256
MAX_DATA = 64
"""Data sets that a workload uses at most."""
MAX_ENV_VALUE = 32_768
MAX_TEXT = 1_000
MAX_PRICE = 10**9
MAX_FACTOR = 1_000
MAX_ALTERNATIVES = 8
ENGINE_ENV = frozenset(
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES"}
)
"""Variables that the engine sets for each rank, with all whose name begins with ``HEADRACE_``."""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_GPU = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,31})(?::([0-9]{1,4}))?")
_GPU_PART = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,31}):([0-9]{1,4})\.([0-9]{1,30})")
_RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})")
_PART = re.compile(r"[a-z0-9-]{1,63}/[a-z0-9-]{1,63}(/[a-z0-9-]{1,90})?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,3})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_MODELS = {hardware.accelerator.lower(): hardware.accelerator for hardware in CATALOGUE.values()}


class Bad(ValueError):
    """A value that can't be meant: what is wrong with it, and what to write instead."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(f"{message} {next_step}".strip())
        self.message = message
        self.next_step = next_step


def _text(value: object, what: str, example: str) -> str:
    if isinstance(value, str):
        return value
    raise Bad(f"{show(value)} is not {what}.", f"Write it like {example}.")


def _quantity(value: object, parse: Callable[[str], int], what: str, example: str, most: int) -> int:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        if value < 0:
            raise Bad(f"{show(value)} is negative.", f"Write it like {example}.")
        raise Bad(f"{show(value)} has no unit.", f"Write it like {example}.")
    text = _text(value, what, example)
    if text.lstrip().startswith("-"):
        raise Bad(f"{show(text)} is negative.", f"Write it like {example}.")
    if len(text) > 40:
        raise Bad(f"{show(text)} is not {what}.", f"Write it like {example}.")
    try:
        amount = parse(text)
    except ValueError as error:
        raise Bad(f"{show(text)} is not {what}.", f"Write it like {example}.") from error
    if not 0 < amount <= most:
        side = "too small" if amount <= 0 else "too large"
        raise Bad(f"{show(text)} is {side}.", f"Write {what} like {example}.")
    return amount


def watts(value: object) -> int:
    """A power of more than nothing: ``40MW``."""
    return _quantity(value, parse_watts, "a power", "700W, 12kW or 50MW", MAX_WATTS)


def watts_or_none(value: object) -> int:
    """A power that may be zero: ``0W``."""
    if isinstance(value, str) and re.fullmatch(r"\s*0+(\.0+)?\s*[kMGkmg]?[Ww]\s*", value):
        return 0
    return watts(value)


def memory_mb(value: object) -> int:
    """A size of memory: ``64GB``."""
    return _quantity(value, parse_memory_mb, "a size of memory", "512MB, 64GB or 2TiB", MAX_MEMORY_MB)


def duration_ms(value: object) -> int:
    """A duration: ``2h``, ``1h30m``; at most about ten years."""
    return _quantity(value, parse_duration_ms, "a duration", "90s, 30m, 2h or 1h30m", MAX_DURATION_MS)


def grace_ms(value: object) -> int:
    """How long a process has between being told to end and being killed; at most a day."""
    ms = duration_ms(value)
    if ms > MS_PER_DAY:
        raise Bad(f"{show(value)} of grace is too long.", f"At most {format_duration(MS_PER_DAY)}.")
    return ms


def decimal(value: object, what: str, example: str) -> Decimal:
    """A number, exactly as written; from 0 to 10^18."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise Bad(f"{show(value)} is not {what}.", f"Write it like {example}.")
    try:
        number = Decimal(show(value) if isinstance(value, float) else value)
    except (InvalidOperation, ValueError) as error:
        raise Bad(f"{show(value)} is not {what}.", f"Write it like {example}.") from error
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise Bad(f"{show(value)} is not {what}.", f"Write it like {example}.")
    if not number.is_finite() or number > 10**18:
        raise Bad(f"{show(value)} is too large.", f"Write {what} like {example}.")
    if number < 0:
        raise Bad(f"{show(value)} is negative.", f"Write {what} like {example}.")
    return number


def _scaled(value: object, scale: int, decimals: str, what: str, example: str) -> int:
    scaled = decimal(value, what, example) * scale
    if scaled != scaled.to_integral_value():
        raise Bad(f"{show(value)} is finer than {what} can be.", f"At most {decimals} decimals.")
    return int(scaled)


def price_micros(value: object) -> int:
    """A price in a plan's currency, in millionths, exactly; at most six decimals."""
    micros = _scaled(value, MICROS, "six", "a price", "12.50")
    if micros > MAX_PRICE * MICROS:
        raise Bad(f"{show(value)} is too large for a price.", f"At most {MAX_PRICE}.")
    return micros


def pue_permille(value: object) -> int:
    """Power usage effectiveness, 1.0 to 3.0, in thousandths."""
    permille = _scaled(value, PERMILLE, "three", "a PUE", "1.15")
    if not PERMILLE <= permille <= 3 * PERMILLE:
        raise Bad(
            f"a PUE of {show(value)} can't be.",
            "Watts at the meter for each watt of IT: 1.0 to 3.0, like 1.15.",
        )
    return permille


def percent_permille(value: object) -> int:
    """A rate in percent, 0 to 100, in thousandths."""
    permille = _scaled(value, 10, "one", "a rate in percent", "25 or 7.5")
    if permille > PERMILLE:
        raise Bad(f"{show(value)} percent is too much.", "At most 100.")
    return permille


def factor_permille(value: object) -> int:
    """A factor, 0 to 1,000, in thousandths."""
    permille = _scaled(value, PERMILLE, "three", "a factor", "1.0")
    if permille > MAX_FACTOR * PERMILLE:
        raise Bad(f"{show(value)} is too large for a factor.", f"At most {MAX_FACTOR}.")
    return permille


def efficiency_mj_per_th(value: object) -> int:
    """What a terahash takes: ``29.5 J/TH``, or ``29.5``, in millijoules."""
    text = value.removesuffix("J/TH").rstrip() if isinstance(value, str) else value
    found = _scaled(text, 1_000, "three", "an efficiency in J/TH", "29.5 J/TH")
    if not 0 < found <= 10_000_000:
        raise Bad(f"{show(value)} can't be an efficiency in J/TH.", "Write it like 29.5 J/TH.")
    return found


def cpu_milli(value: object) -> int:
    """Processors in thousandths: ``4``, ``0.5`` or ``500m``."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}m", value):
        milli = int(value[:-1])
    else:
        milli = _scaled(value, 1_000, "three", "a number of processors", "4, 0.5 or 500m")
    if milli > 10**9:
        raise Bad(f"{show(value)} processors are too many.", "At most a million.")
    return milli


def degrees(most: int) -> Callable[[object], float]:
    """A validator of a latitude (``most`` 90) or a longitude (180)."""

    def validate(value: object) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | Decimal)
            or not -most <= value <= most
        ):
            raise Bad(f"{show(value)} is not in -{most} to {most} degrees.", "Write it like 66.81.")
        return float(value)

    return validate


def count(least: int, most: int, what: str) -> Callable[[object], int]:
    """A validator of a whole number of ``what`` between two bounds, both included."""

    def validate(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Bad(
                f"{show(value)} is not a number of {what}.", f"Write a whole number, {least} to {most}."
            )
        if not least <= value <= most:
            raise Bad(f"{show(value)} {what} can't be.", f"Write a whole number, {least} to {most}.")
        return value

    return validate


_nodes = count(1, MAX_NODES, "nodes")


def workload_nodes(value: object) -> tuple[int, int]:
    """Nodes as ``4``, or ``4..16`` for what may have more: the least, and the most (0: exactly so many)."""
    if not isinstance(value, str):
        return _nodes(value), 0
    match = _RANGE.fullmatch(value)
    if match is None:
        step = f"Write a whole number, 1 to {MAX_NODES}, or a range like 4..16."
        raise Bad(f"{show(value)} is not a number of nodes.", step)
    least, most = _nodes(int(match[1])), _nodes(int(match[2]))
    if least > most:
        raise Bad(f"{show(value)} ends before it begins.", f"Write {most}..{least}.")
    return least, most if most > least else 0


priority = count(-MAX_PRIORITY, MAX_PRIORITY, "priority")


def choice(what: str, *options: str) -> Callable[[object], str]:
    """A validator of one of a few words."""

    def validate(value: object) -> str:
        if isinstance(value, str) and value in options:
            return value
        raise Bad(f"no {what} {show(value)};", did_you_mean(str(value)[:60], options))

    return validate


def name(value: object) -> str:
    """The name of a thing, a DNS label."""
    if isinstance(value, str) and is_name(value):
        return value
    raise Bad(f"{show(value)} can't be a name.", f"Names have {NAME_RULE}{_name_hint(value)}.")


def _name_hint(value: object) -> str:
    if not isinstance(value, str):
        return ""
    better = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].strip("-")
    return f", like {better}" if better and is_name(better) else ""


def profile(value: object) -> str:
    """The name of a policy; whether there is one the control plane knows, which has those that were applied."""
    try:
        return name(value)
    except Bad as bad:
        step = did_you_mean(str(value)[:60], PROFILES) + " Or write {countries: [NO]}."
        raise Bad(f"{show(value)} is no name of a policy;", step) from bad


def text(value: object) -> str:
    """A short text for people; no control characters, which could play tricks on a terminal."""
    if not isinstance(value, str):
        raise Bad(f"{show(value)} is not a text.", "Put it in quotes.")
    if len(value) > MAX_TEXT:
        raise Bad(f"a text of {len(value)} characters is too long.", f"At most {MAX_TEXT}.")
    if _CONTROL.search(value):
        raise Bad(f"{show(value)} has control characters.", "Remove them.")
    return " ".join(value.split())


def country(value: object) -> str:
    """An ISO 3166 alpha-2 code."""
    if isinstance(value, str) and value in COUNTRIES:
        return value
    upper = str(value).strip().upper() if isinstance(value, str) else ""
    meant = SLIPS.get(upper) or (upper if upper in COUNTRIES else "")
    hint = f"Did you mean {meant}?" if meant else "Write an ISO 3166 code of two letters, like NO or GB."
    raise Bad(f"no country {show(value)}.", hint)


def site_country(value: object) -> str:
    """A country, or ``unknown``, which the core writes as an empty text: nothing is ever placed there."""
    return "" if value == "unknown" else country(value)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def zone(value: object) -> str:
    """An IANA time zone."""
    known = _zones()
    if isinstance(value, str) and value in known:
        return value
    if not known:
        raise Bad("this machine has no time zones.", "Install the Python package tzdata.")
    near = difflib.get_close_matches(value, sorted(known), n=1) if isinstance(value, str) else []
    hint = f"Did you mean {near[0]}?" if near else "Write an IANA name, like Europe/Oslo."
    raise Bad(f"no time zone {show(value)}.", hint)


def currency(value: object) -> str:
    """A currency's ISO 4217 code."""
    if isinstance(value, str) and _CURRENCY.fullmatch(value):
        return value
    upper = value.upper() if isinstance(value, str) else ""
    hint = f"Did you mean {upper}?" if _CURRENCY.fullmatch(upper) else "Write three letters, like NOK or GBP."
    raise Bad(f"{show(value)} is not a currency.", hint)


def day(value: object) -> str:
    """An ISO 8601 day that exists."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            date.fromisoformat(value)
        except ValueError as error:
            raise Bad(f"there is no day {show(value)}.", "Write it like 2026-12-31.") from error
        return value
    raise Bad(f"{show(value)} is not a day.", "Write it like 2026-12-31.")


def moment_ms(value: object) -> int:
    """A time as RFC 3339 with its offset (seconds may be left out), in milliseconds since 1970."""
    example = "Write it like 2026-12-01T08:00:00+01:00."
    match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not isinstance(value, str):
        raise Bad(f"{show(value)} is not a time.", example)
    if match[3] is None:
        raise Bad(f"{show(value)} has no offset.", f"{example} Z is for UTC.")
    try:
        at = datetime.fromisoformat(value.upper())
    except ValueError as error:
        raise Bad(f"there is no time {show(value)}.", example) from error
    ms = (at - _EPOCH) // timedelta(milliseconds=1)
    if ms <= 0:
        raise Bad(f"{show(value)} is before 1970.", example)
    return ms


def moment_text(at_ms: int) -> str:
    """A time as people read it: ``2026-12-01T07:00:00+00:00``."""
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds" if at_ms % 1_000 else "seconds")


def part(value: object) -> str:
    """The name of a block, rack or node, as `headrace nodes` prints them: it begins with its site."""
    if isinstance(value, str) and _PART.fullmatch(value):
        return value
    step = "Name blocks, racks or nodes as 'headrace nodes' prints them, like glomfjord/block-1."
    raise Bad(f"{show(value)} can't be a part of a site.", step)


def flag(value: object) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise Bad(f"{show(value)} is neither true nor false.", "Write true or false.")


def model(value: object) -> str:
    """The model of an accelerator; those of the catalogue in any case."""
    if isinstance(value, str) and value.lower() == "any":
        raise Bad(f"{show(value)} is no model of accelerator.", _NAME_MODELS)
    if isinstance(value, str) and value.isdecimal():
        raise Bad(
            f"{show(value)} is a number, not a model of accelerator.", f"Write both, like H100:{value}."
        )
    if isinstance(value, str) and _MODEL.fullmatch(value):
        return _MODELS.get(value.lower(), value)
    raise Bad(f"{show(value)} is not a model of accelerator.", "Write it like H100 or GB300.")


_NAME_MODELS = "Name it; several that would do are a list, like gpu: [H100:8, B200:8]."


def node_model(value: object) -> str:
    """The model of the accelerators of whole nodes: without a number."""
    if isinstance(value, str) and ":" in value:
        raise Bad(
            f"{show(value)} has a number, but whole nodes are meant.", "Write the model alone, like H100."
        )
    return model(value)


def model_or_any(value: object) -> str:
    """The model of an accelerator, or ``*`` for any other."""
    return "*" if value == "*" else model(value)


def gpu(most: int) -> Callable[[object], tuple[str, int]]:
    """A validator of accelerators as ``H100:8`` (``H100`` is one), at most ``most``: (model, number)."""

    def validate(value: object) -> tuple[str, int]:
        match = _GPU.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise Bad(f"{show(value)} is not an accelerator.", "Write model and number, like H100:8.")
        number = int(match[2] or 1)
        if not 1 <= number <= most:
            raise Bad(f"{show(value)} asks for {number} accelerators.", f"Write 1 to {most}, like H100:8.")
        return model(match[1]), number

    return validate


_whole_gpu = gpu(64)


def node_gpu(value: object) -> tuple[str, int, int]:
    """Accelerators of a node as ``H100:8``, or a part of one as ``H100:0.5``: (model, number, thousandths of each)."""
    match = _GPU_PART.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return *_whole_gpu(value), WHOLE_MILLI
    if len(match[3]) > 3:
        step = "At most three decimals, like H100:0.125."
        raise Bad(f"{show(value)} is finer than a thousandth of an accelerator.", step)
    share_milli = int(match[2]) * WHOLE_MILLI + int(match[3].ljust(3, "0"))
    if not 1 <= share_milli < WHOLE_MILLI:
        step = "Write 0.001 to 0.999 of one, or whole ones, like H100:8."
        raise Bad(f"{show(value)} is not a part of one accelerator.", step)
    return model(match[1]), 1, share_milli


def alternatives(options: Sequence[tuple[str, int, int]]) -> None:
    """Raise for a list of accelerators that would do and that can't be meant."""
    if not options:
        raise Bad("an empty list.", "Write at least 1.")
    at_most(len(options), MAX_ALTERNATIVES, "alternatives")
    twice = first_repeated(f"{name}:{number}" for name, number, _ in options)
    if twice:
        name, number, share_milli = options[twice[0]]
        part = number if share_milli == WHOLE_MILLI else f"{share_milli / WHOLE_MILLI:g}"
        raise Bad(f"{name}:{part} stands twice among the alternatives.", "Keep one of them.")
    if len({share_milli for _, _, share_milli in options}) > 1:
        step = "Write the same part for each, like [H100:0.5, B200:0.5]."
        raise Bad("alternatives that differ in the part of an accelerator.", step)


def topology(pack: str, spread: str) -> None:
    """Raise for a wish that no nodes could fulfil, or that asks for nothing."""
    levels: tuple[str, ...] = LEVELS
    if not pack and not spread:
        raise Bad("a topology without pack and spread.", "Write {pack: rack} or {spread: rack}.")
    if spread == "site":
        raise Bad("the nodes of a workload are all at one site.", "Spread over domain, rack, rail or pod.")
    if pack and spread and levels.index(pack) <= levels.index(spread):
        step = "Pack wider than you spread, like {pack: pod, spread: rack}."
        raise Bad(f"nodes in one {pack} can't each be in another {spread}.", step)


def port(value: object) -> int:
    """A port: ``auto`` (0: the engine chooses) or a number that needs no privilege."""
    if value == "auto":
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 1_024 <= value <= 65_535:
        return value
    raise Bad(f"{show(value)} can't be a port.", "Write auto, or a number from 1024 to 65535.")


def command(value: object) -> str:
    """One line (or script) for the shell."""
    if not isinstance(value, str):
        raise Bad(f"{show(value)} is not a command.", "Put it in quotes.")
    if not value.strip():
        raise Bad("an empty command.", "Remove it.")
    if "\0" in value or len(value) > MAX_COMMAND or not _is_utf8(value):
        raise Bad(
            "this command can't be run.",
            f"At most {MAX_COMMAND} characters, none of them NUL or half of a surrogate.",
        )
    return value


def env_name(value: object) -> str:
    """The name of a variable that the engine doesn't set itself."""
    if not isinstance(value, str) or not _ENV_NAME.fullmatch(value):
        raise Bad(
            f"{show(value)} can't name a variable.", "Letters, digits and _, not beginning with a digit."
        )
    if value in ENGINE_ENV or value.startswith("HEADRACE_"):
        raise Bad(f"{value} is set by the engine.", "Choose another name.")
    return value


def secret_name(value: object) -> str:
    """The name of a secret's variable: also the key that a replica answers to, which the engine passes on."""
    return "HEADRACE_API_KEY" if value == "HEADRACE_API_KEY" else env_name(value)


def env_value(value: object) -> str:
    """The value of a variable; a whole number may stand without quotes. Never shown: it may be a misplaced secret."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64:
        return str(value)
    if not isinstance(value, str):
        raise Bad("the value of a variable must be a text.", "Put it in quotes.")
    if "\0" in value or len(value) > MAX_ENV_VALUE or not _is_utf8(value):
        raise Bad(
            "this value can't be passed.",
            f"At most {MAX_ENV_VALUE} characters, none of them NUL or half of a surrogate.",
        )
    return value


def secret_value(value: object) -> str:
    """The value of a secret: a text that is not empty; never shown."""
    plain = env_value(value)
    if not plain:
        raise Bad("an empty secret.", "Write its value, or remove it.")
    return plain


def at_most(number: int, most: int, what: str) -> None:
    """Raise when there are more of something than anybody needs."""
    if number > most:
        raise Bad(f"{number} {what} are too many.", f"At most {most}.")


def first_repeated(names: Iterable[str]) -> tuple[int, int] | None:
    """Where a name stands that stood before, and where it stood first."""
    seen: dict[str, int] = {}
    for number, item in enumerate(names):
        if item in seen:
            return number, seen[item]
        seen[item] = number
    return None


def _is_utf8(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
