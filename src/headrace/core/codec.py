"""Documents in their normalised form: plain dicts that JSON can hold, and back.

This is what a ``DocumentApplied`` event carries. The form is canonical: one meaning has one dict, so that applying a
document twice shows no change. Fields at their default are left out, so that a field added later (with a default)
does not change documents that were applied before it existed.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import lru_cache, partial
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from headrace.core.contracts import Contract, Maintenance, PricePlan, Reservation, Tenant
from headrace.core.data.model import Dataset
from headrace.core.estate import Estate
from headrace.core.sovereignty.law import PolicyText, SiteFacts
from headrace.core.sovereignty.owning import Ownership
from headrace.core.workload import WorkloadSpec

T = TypeVar("T")
Core = (
    Estate
    | Tenant
    | PricePlan
    | Contract
    | Reservation
    | Maintenance
    | PolicyText
    | SiteFacts
    | Ownership
    | Dataset
    | WorkloadSpec
)

DOCUMENT_TYPES: dict[str, type[Core]] = {
    "estate": Estate,
    "tenant": Tenant,
    "price-plan": PricePlan,
    "contract": Contract,
    "reservation": Reservation,
    "maintenance": Maintenance,
    "policy": PolicyText,
    "facts": SiteFacts,
    "ownership": Ownership,
    "dataset": Dataset,
    "workload": WorkloadSpec,
}
"""The kinds of document and the core type of each."""


def document_name(value: Core) -> str:
    """The name that a document is applied under: an estate's is its operator's."""
    match value:
        case Estate():
            return value.operator.id
        case WorkloadSpec():
            return value.name
        case _:
            return value.id


def normalise(kind: str, name: str, value: Core) -> dict[str, Any]:
    """The normalised form of a document; ValueError when ``value`` is not of ``kind`` or not called ``name``."""
    wanted = DOCUMENT_TYPES.get(kind)
    if wanted is None or not isinstance(value, wanted):
        raise ValueError(f"a {type(value).__name__} is no document of kind {kind!r}")
    if document_name(value) != name:
        raise ValueError(f"the document {kind}/{name} calls itself {document_name(value)!r}")
    plain: dict[str, Any] = to_plain(value)
    return plain


def from_normalised(kind: str, document: Mapping[str, Any]) -> Core:
    """The core object of a normalised document; ValueError for one that this version can't have written."""
    wanted = DOCUMENT_TYPES.get(kind)
    if wanted is None:
        raise ValueError(f"no kind of document {kind!r}; known: {', '.join(DOCUMENT_TYPES)}")
    return from_plain(wanted, document)


def to_plain(value: Any) -> Any:
    """A core value as dicts, lists, strings, numbers and None; fields at their default are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: to_plain(part) for field, part in pairs if not _is_default(field, part)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [to_plain(part) for part in value]
    return value


def from_plain(wanted: type[T], data: Any) -> T:
    """A value of type ``wanted`` from its plain form; ValueError that names the type that did not fit."""
    value: T = _builder(wanted)(data)
    return value


def _is_default(field: Field[Any], value: Any) -> bool:
    if field.default is not MISSING:
        return bool(value == field.default)
    return field.default_factory is not MISSING and bool(value == field.default_factory())


Builder = Callable[[Any], Any]
"""Makes a value of one type from its plain form."""


@lru_cache(maxsize=256)
def _parts(wanted: type) -> dict[str, Builder]:
    """What makes each field of a dataclass."""
    return {name: _builder(part) for name, part in get_type_hints(wanted).items()}


def _builder(wanted: Any) -> Builder:
    """What makes values of a type."""
    wanted = getattr(wanted, "__supertype__", wanted)
    if is_dataclass(wanted) and isinstance(wanted, type):
        # Its fields are looked at when it is first made: a type may hold others of itself.
        return partial(_build_dataclass, wanted)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return wanted
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return lambda data: _checked(data in parts, wanted, data)
    if origin in (Union, types.UnionType):
        if all(part in (str, int, bool) for part in parts):
            return lambda data: _checked(type(data) in parts, wanted, data)
        inner = _builder(next(part for part in parts if part is not type(None)))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        return partial(_build_tuple, wanted, _builder(parts[0]))
    if origin is dict:
        return partial(_build_dict, wanted, _builder(parts[1]))
    return partial(_scalar, wanted)


def _build_tuple(wanted: Any, build: Builder, data: Any) -> Any:
    _checked(isinstance(data, list | tuple), wanted, data)
    return tuple([build(part) for part in data])


def _build_dict(wanted: Any, build: Builder, data: Any) -> Any:
    _checked(isinstance(data, Mapping), wanted, data)
    return {key: build(part) for key, part in data.items()}


def _scalar(wanted: type, data: Any) -> Any:
    if wanted is float and type(data) is int:
        return float(data)
    return _checked(type(data) is wanted, wanted, data)


def _build_dataclass(wanted: type, data: Any) -> Any:
    _checked(isinstance(data, Mapping), wanted, data)
    parts = _parts(wanted)
    strange = sorted(set(data) - set(parts))
    if strange:
        raise ValueError(f"{wanted.__name__} has no field {strange[0]!r}: was it written by a newer version?")
    try:
        return wanted(**{key: parts[key](part) for key, part in data.items()})
    except TypeError as error:
        raise ValueError(f"{wanted.__name__}: {error}") from error


def _checked(fits: bool, wanted: Any, data: Any) -> Any:
    if not fits:
        raise ValueError(f"{type(data).__name__} where {getattr(wanted, '__name__', wanted)} belongs")
    return data
