"""What a policy may ask about: the actions, the entities and the facts, as one table and as a Cedar schema made from it.

A fact has a name (``site.country``) and a place in the schema (``resource.country``). Facts are texts, sets of texts, integers
and booleans, so that no two processors decide differently. A fact that nobody stated has the value that means *unknown*: the
text ``unknown``, a set with ``unknown`` in it, 0 ppm to 1,000,000 ppm, a certificate that never was. Which way an integer moves
when less is known is part of the table (``Fact.drift``): from it follows whether a rule could take the unknown for clean
(:mod:`headrace.policy.knowledge`).

Facts come and go flat: ``{"site.country": "NO", "site.staff_countries": "GB NO", "site.control_max_ppm.US": 120000,
"site.control_max_ppm.*": 0}``. A set is one text, sorted, with spaces; ``*`` is every country that isn't named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal

from headrace.core.authority import digest_of
from headrace.core.countries import COUNTRIES, SLIPS
from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.core.ids import Digest
from headrace.core.units import PERMILLE

UNKNOWN = "unknown"
"""The value of a text, and the element of a set, that says that it isn't known."""
WHOLE_PPM = PERMILLE * PERMILLE
"""All of a company, in millionths."""
MOST_DAYS = 1_000_000
"""The last day that can be written, counted from 1970-01-01; keeps sums of days far from the end of an integer."""
ALL = "*"
"""In the name of a fact by country: every country that isn't named."""

Value = str | int | bool
"""A fact as it comes in a request: a set is a text of sorted words."""
Role = Literal["principal", "resource", "context"]


class Kind(StrEnum):
    """What a fact is; the values are Cedar's types."""

    TEXT = "String"
    WORDS = "Set<String>"
    NUMBER = "Long"
    TRUTH = "Bool"


class Principal(StrEnum):
    """Who asks: a class of work (or of data), or a class of people."""

    WORK = "Work"
    PERSON = "Person"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a rule may ask about.

    ``path`` is its place in the schema. ``unknown`` is its value when nobody stated it. ``words`` are all values that a text
    may have, ``unknown`` aside (None: any). A number lies in ``least`` to ``most``; ``drift`` is +1 if it grows when less is
    known, -1 if it falls, 0 if it is always known. A fact that ``is_known`` always is never taken for unknown.
    """

    name: str
    path: tuple[str, ...]
    kind: Kind
    what: str
    unknown: Value
    words: frozenset[str] | None = None
    least: int = 0
    most: int = 0
    drift: int = 0
    is_known: bool = False


ACTIONS: dict[str, str] = {
    "workload.place": "place",
    "prompt.route": "route-prompt",
    "data.copy": "copy-data",
    "backup.write": "back-up",
    "journal.replicate": "replicate",
    "logs.read": "read-logs",
    "support.access": "support-access",
}
"""Actions that a policy decides, by the name that the authority knows them by, and by Cedar's."""
GROUPS: dict[str, tuple[str, ...]] = {
    "run": ("place", "route-prompt"),
    "keep": ("copy-data", "back-up", "replicate"),
    "access": ("read-logs", "support-access"),
}
"""Groups that a rule may name instead: ``action in Action::"keep"``."""
PRINCIPAL_OF: dict[str, Principal] = {
    name: Principal.PERSON if name in GROUPS["access"] else Principal.WORK for name in ACTIONS.values()
}
"""Which kind of principal asks for an action."""

KINDS_OF_WORK = frozenset(
    (
        "job",
        "service",
        "cluster",
        "filler",
        "checkpoint",
        "weights",
        "data",
        "logs",
        "backup",
        "journal",
        "prompt",
    )
)
DATA_CLASSES = frozenset({"public", "internal", "confidential", "restricted"})
ENERGY_SOURCES = frozenset({"hydro", "wind", "solar", "nuclear", "gas", "coal", "grid-mix"})
TENANCIES = frozenset({"shared", "dedicated"})
ISOLATIONS = frozenset({"none", "uid", "container"})
ENCRYPTIONS = frozenset({"in-transit", "at-rest", "tenant-key", "in-use"})
FLAGS = frozenset({"yes", "no"})
EMPLOYERS = frozenset({"tenant", "operator", "supplier"})
CERTIFICATES = (
    "c5", "cyber_essentials_plus", "ens_high", "hds", "iso22301", "iso27001", "iso27018", "iso27701", "iso42001",
    "pci_dss", "secnumcloud", "soc2",
)  # fmt: skip
CHANNELS = ("seat", "headquarters", "control", "person", "custody")
"""Through what a jurisdiction reaches a site or a company."""
_COUNTRIES = tuple(sorted(COUNTRIES))


def _text(name: str, path: str, what: str, words: frozenset[str] | None, *, is_known: bool = False) -> Fact:
    return Fact(
        name, tuple(path.split(".")), Kind.TEXT, what, "" if is_known else UNKNOWN, words, 0, 0, 0, is_known
    )


def _words(name: str, path: str, what: str, words: frozenset[str]) -> Fact:
    return Fact(name, tuple(path.split(".")), Kind.WORDS, what, UNKNOWN, words)


def _reach(name: str, path: str, whose: str) -> Iterator[tuple[str, str, Fact]]:
    """The facts by country of a site or a company: (family's name, family's path, what each of it is)."""
    shares = (
        ("control_min_ppm", "at least so much of {} is controlled from there, in millionths", 0, -1),
        ("control_max_ppm", "at most so much of {} is controlled from there, in millionths", WHOLE_PPM, 1),
    )
    for part, what, unknown, drift in shares:
        fact = Fact("", (), Kind.NUMBER, what.format(whose), unknown, None, 0, WHOLE_PPM, drift)
        yield f"{name}.{part}", f"{path}.{part}", fact
    for channel in ("", *CHANNELS):
        part = f"exposure_{channel}" if channel else "exposure"
        through = f"through its {channel}" if channel else "through anything"
        fact = Fact("", (), Kind.TEXT, f"whether its law reaches {whose} {through}", UNKNOWN, FLAGS)
        yield f"{name}.{part}", f"{path}.{part}", fact


def _outside(name: str, path: str, whose: str) -> tuple[Fact, Fact]:
    """How much is controlled from outside the European Union, whatever is unknown counted as outside."""

    def fact(part: str, what: str) -> Fact:
        place = tuple(f"{path}.{part}".split("."))
        return Fact(f"{name}.{part}", place, Kind.NUMBER, what, WHOLE_PPM, None, 0, WHOLE_PPM, 1)

    return (
        fact("outside_eu_ppm", f"at most so much of {whose} is controlled from outside the EU, all together"),
        fact(
            "outside_eu_largest_ppm", "and at most so much by the largest single holder from outside the EU"
        ),
    )


_SINGLE = (
    _text("work.kind", "principal.kind", "what kind of work or data it is", KINDS_OF_WORK),
    _text("person.works_for", "principal.works_for", "whose people they are", EMPLOYERS),
    _words("person.countries", "principal.countries", "from where they have access", COUNTRIES),
    _text("person.company.seat", "principal.company.seat", "where their employer has its seat", COUNTRIES),
    _text("site.id", "resource.id", "the site's name", None, is_known=True),
    _text("site.country", "resource.country", "where the site is", COUNTRIES),
    _text("site.energy_source", "resource.energy_source", "what feeds it", ENERGY_SOURCES),
    _text("site.tenancy", "resource.tenancy", "dedicated: it serves this tenant alone", TENANCIES),
    _text("site.isolation", "resource.isolation", "what its engine keeps tenants apart with", ISOLATIONS),
    _words("site.encryption", "resource.encryption", "what is encrypted there", ENCRYPTIONS),
    _words("site.staff_countries", "resource.staff_countries", "where its staff with access live and belong", COUNTRIES),
    _text("site.operator.seat", "resource.operator.seat", "where its operator has its seat", COUNTRIES),
    _text("site.owner.seat", "resource.owner.seat", "where its owner has its seat", COUNTRIES),
    _text("tenant.id", "context.tenant.id", "whose work or data it is", None, is_known=True),
    _text("tenant.country", "context.tenant.country", "where that tenant has its seat", COUNTRIES),
    _text("data.class", "context.data_class", "how sensitive the data is", DATA_CLASSES),
    Fact("day", ("context", "day"), Kind.NUMBER, "today, in days since 1970-01-01 UTC", 0, None, 0, MOST_DAYS, 0, True),
    Fact("consent", ("context", "consent"), Kind.TRUTH, "the tenant agreed to this access", False),
    *_outside("site", "resource", "the site"),
    *_outside("site.operator", "resource.operator", "its operator"),
    *_outside("site.owner", "resource.owner", "its owner"),
    *_outside("person.company", "principal.company", "their employer"),
)  # fmt: skip
_FAMILIES = {
    name: (tuple(path.split(".")), fact)
    for name, path, fact in (
        *_reach("site", "resource", "the site"),
        *_reach("site.operator", "resource.operator", "its operator"),
        *_reach("site.owner", "resource.owner", "its owner"),
        *_reach("person.company", "principal.company", "their employer"),
    )
}
_CERTIFIED = "site.certified_until"
_CERTIFICATE = Fact(
    "",
    (),
    Kind.NUMBER,
    "the last day of the certificate, in days since 1970-01-01",
    0,
    None,
    0,
    MOST_DAYS,
    -1,
)
_BY_NAME = {fact.name: fact for fact in _SINGLE}
_BY_PATH = {fact.path: fact for fact in _SINGLE}
_FAMILY_OF_PATH = {path: (name, fact) for name, (path, fact) in _FAMILIES.items()}
_INNER = {path[:size] for path in (*_BY_PATH, *_FAMILY_OF_PATH) for size in range(1, len(path))}
_INNER |= set(_FAMILY_OF_PATH) | {("resource", "certified_until")}
TENANT_PATH, SITE_PATH = ("context", "tenant"), ("resource",)
"""Where an entity stands whose identity a rule may ask about."""


def _member(family: str, path: tuple[str, ...], fact: Fact, key: str) -> Fact:
    whose = "each country" if key == ALL else key
    return Fact(
        f"{family}.{key}", (*path, key), fact.kind, f"{whose}: {fact.what}", fact.unknown, fact.words,
        fact.least, fact.most, fact.drift,
    )  # fmt: skip


@lru_cache(maxsize=8_192)
def by_path(path: tuple[str, ...]) -> Fact | None:
    """The fact at a place of the schema; None where there is none."""
    if path in _BY_PATH:
        return _BY_PATH[path]
    family = _FAMILY_OF_PATH.get(path[:-1])
    if family is not None and path[-1] in COUNTRIES:
        return _member(family[0], path[:-1], family[1], path[-1])
    if path[:-1] == ("resource", "certified_until") and path[-1] in CERTIFICATES:
        return _member(_CERTIFIED, path[:-1], _CERTIFICATE, path[-1])
    return None


@lru_cache(maxsize=8_192)
def by_name(name: str) -> Fact | None:
    """The fact of a name, ``site.control_max_ppm.*`` among them; None where there is none."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    family, _, key = name.rpartition(".")
    if family in _FAMILIES and (key in COUNTRIES or key == ALL):
        path, fact = _FAMILIES[family]
        return _member(family, path, fact, key)
    if family == _CERTIFIED and key in CERTIFICATES:
        return by_path(("resource", "certified_until", key))
    return None


@lru_cache(maxsize=8_192)
def rest_of(name: str) -> str:
    """What stands for a fact by country that isn't named itself: ``site.exposure.*``; "" for any other fact."""
    family, _, key = name.rpartition(".")
    return f"{family}.{ALL}" if family in _FAMILIES and key != ALL else ""


def is_inner(path: tuple[str, ...]) -> bool:
    """Whether something lies below a place of the schema."""
    return path in _INNER


def below(path: tuple[str, ...]) -> tuple[str, ...]:
    """What can follow a place of the schema."""
    if path in _FAMILY_OF_PATH:
        return _COUNTRIES
    if path == ("resource", "certified_until"):
        return CERTIFICATES
    whole = (*_BY_PATH, *_FAMILY_OF_PATH, ("resource", "certified_until"))
    found = {one[len(path)] for one in whole if len(one) > len(path) and one[: len(path)] == path}
    return tuple(sorted(found))


def names() -> tuple[str, ...]:
    """Every name of a fact, with ``*`` for those by country."""
    certified = (f"{_CERTIFIED}.{key}" for key in CERTIFICATES)
    return tuple(sorted((*_BY_NAME, *(f"{family}.{ALL}" for family in _FAMILIES), *certified)))


def country_step(word: str) -> str:
    """What to write instead of a word that isn't a country."""
    slip = SLIPS.get(word.upper())
    if slip is None and word.upper() in COUNTRIES:
        slip = word.upper()
    step = "Countries are ISO 3166 alpha-2 codes in capitals, like NO or GB."
    return f"{step} Did you mean {slip}?" if slip else step


def word_step(fact: Fact, word: str) -> str:
    """What to write instead of a word that a fact never has."""
    if fact.words is COUNTRIES:
        return country_step(word)
    return did_you_mean(word.lower(), fact.words or ())


def checked(facts: Mapping[str, object], where: str = "") -> dict[str, Value]:
    """Facts as they should be, sets sorted; HeadraceError with every one that has no such name, type, word or size."""
    found: dict[str, Value] = {}
    problems: list[Problem] = []
    for name, value in facts.items():
        fact = by_name(name)
        try:
            if fact is None:
                raise _BadFactError(f"no fact {name!r};", _name_step(name))
            found[name] = _value(fact, value)
        except _BadFactError as bad:
            problems.append(Problem(ProblemCode.BAD_INPUT, bad.message, bad.step, where or name))
    problems += [
        Problem(ProblemCode.BAD_INPUT, one, "Exchange or correct them.", where) for one in _crossed(found)
    ]
    if problems:
        raise HeadraceError(*problems)
    return dict(sorted(found.items()))


_ORDERED = (("control_min_ppm", "control_max_ppm"), ("outside_eu_largest_ppm", "outside_eu_ppm"))
"""Facts of which the first can't exceed the second."""


def above(name: str) -> str:
    """The fact that a fact can't exceed: what is controlled at most, of what is controlled at least; "" for none."""
    for less, more in _ORDERED:
        if less in name:
            return name.replace(less, more)
    return ""


def _crossed(facts: Mapping[str, Value]) -> Iterator[str]:
    for name, value in facts.items():
        high = above(name)
        if not high:
            continue
        most = facts.get(high, facts.get(rest_of(high), WHOLE_PPM))
        if isinstance(value, int) and isinstance(most, int) and value > most:
            yield f"{name} is {value} and {high} is {most};"


class _BadFactError(ValueError):
    def __init__(self, message: str, step: str) -> None:
        super().__init__(message)
        self.message, self.step = message, step


def _name_step(name: str) -> str:
    family, _, key = name.rpartition(".")
    if family in _FAMILIES:
        return country_step(key)
    if family == _CERTIFIED:
        return did_you_mean(key, CERTIFICATES)
    return did_you_mean(name, names(), limit=6)


def _value(fact: Fact, value: object) -> Value:
    match fact.kind:
        case Kind.TRUTH if isinstance(value, bool):
            return value
        case Kind.NUMBER if isinstance(value, int) and not isinstance(value, bool):
            if not fact.least <= value <= fact.most:
                raise _BadFactError(f"{fact.name} is {value};", f"It lies in {fact.least} to {fact.most}.")
            return value
        case Kind.TEXT if isinstance(value, str):
            _check_word(fact, value)
            return value
        case Kind.WORDS if isinstance(value, str | list | tuple | set | frozenset):
            words = value.split() if isinstance(value, str) else [str(word) for word in value]
            for word in words:
                _check_word(fact, word)
            return " ".join(sorted(set(words)))
    raise _BadFactError(f"{fact.name} is {value!r};", f"Give {_KINDS[fact.kind]}.")


_KINDS = {
    Kind.TEXT: "a text",
    Kind.WORDS: "a list of texts, or one text with spaces",
    Kind.NUMBER: "a whole number",
    Kind.TRUTH: "true or false",
}


def _check_word(fact: Fact, word: str) -> None:
    if fact.words is not None and word != UNKNOWN and word not in fact.words:
        raise _BadFactError(f"{fact.name} can't be {word!r};", word_step(fact, word))


# -- the same as a Cedar schema ------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def schema_text() -> str:
    """The schema in Cedar's own syntax: what ``cedar validate`` takes."""
    shares = ", ".join(f"{code}: Long" for code in _COUNTRIES)
    flags = ", ".join(f"{code}: String" for code in _COUNTRIES)
    days = ", ".join(f"{key}: Long" for key in CERTIFICATES)
    parts = [
        "// Made from headrace.policy.schema; what each fact means stands there and in the guide.",
        f"type Shares = {{{shares}}};",
        f"type Flags = {{{flags}}};",
        f"type Days = {{{days}}};",
        _entity("Tenant", _fields(TENANT_PATH)),
        _entity("Company", _fields(("resource", "operator"))),
        _entity("Work", {"kind": "String"}),
        _entity("Person", {"works_for": "String", "countries": "Set<String>", "company": "Company"}),
        _entity("Site", _fields(SITE_PATH)),
    ]
    parts += [f'action "{group}";' for group in GROUPS]
    context = "{day: Long, consent: Bool, data_class: String, tenant: Tenant}"
    for action in ACTIONS.values():
        group = next(name for name, members in GROUPS.items() if action in members)
        applies = f"principal: {PRINCIPAL_OF[action]}, resource: Site, context: {context}"
        parts.append(f'action "{action}" in ["{group}"] appliesTo {{{applies}}};')
    return "\n".join(parts) + "\n"


def _fields(path: tuple[str, ...]) -> dict[str, str]:
    """The attributes of the entity at a place of the schema, with their types in Cedar."""
    found: dict[str, str] = {}
    for name in below(path):
        here = (*path, name)
        fact = by_path(here)
        if fact is not None:
            found[name] = str(fact.kind)
        elif here in _FAMILY_OF_PATH:
            found[name] = "Shares" if _FAMILY_OF_PATH[here][1].kind is Kind.NUMBER else "Flags"
        else:
            found[name] = "Days" if name == "certified_until" else "Company"
    return found


def _entity(name: str, fields: Mapping[str, str]) -> str:
    return f"entity {name} = {{{', '.join(f'{key}: {kind}' for key, kind in fields.items())}}};"


@lru_cache(maxsize=1)
def schema_digest() -> Digest:
    """The digest of the schema's text."""
    return digest_of(schema_text())
