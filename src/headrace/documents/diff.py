"""What changes between two normalised documents, for people to see before they agree."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headrace.core.units import format_duration, format_watts
from headrace.documents.values import moment_text

_ABSENT = None
_MOMENTS = ("starts_ms", "ends_ms")


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is added (``before`` None), removed (``after`` None) or changed.

    ``path`` names things by their ids: ``sites[glomfjord].connection.firm_w``.
    """

    path: str
    before: Any
    after: Any

    @property
    def action(self) -> str:
        """added, removed or changed."""
        if self.before is _ABSENT:
            return "added"
        return "removed" if self.after is _ABSENT else "changed"

    def line(self) -> str:
        """The change in one line, with units: ``~ sites[glomfjord].connection.firm_w: 3.7 kW -> 2 kW``."""
        field = self.path.rsplit(".", 1)[-1]
        match self.action:
            case "added":
                return f"+ {self.path}: {_shown(field, self.after)}"
            case "removed":
                return f"- {self.path}: {_shown(field, self.before)}"
        return f"~ {self.path}: {_shown(field, self.before)} -> {_shown(field, self.after)}"


def changes(old: dict[str, Any] | None, new: dict[str, Any]) -> list[Change]:
    """What applying ``new`` over ``old`` changes; empty when they mean the same; one for a new document."""
    if old is None:
        return [Change("", None, new)]
    return list(_between("", old, new))


def _between(path: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _mappings(path, old, new, "." if path else "")
    elif _named(old) and _named(new):
        yield from _mappings(path, _by_id(old), _by_id(new), "[]")
    elif old != new:
        yield Change(path, old, new)


def _mappings(path: str, old: dict[str, Any], new: dict[str, Any], joint: str) -> Iterator[Change]:
    # Both in order, the old first: a set of keys would come in another order in another process.
    for key in dict.fromkeys([*old, *new]):
        inner = f"{path}[{key}]" if joint == "[]" else f"{path}{joint}{key}"
        if key not in new:
            yield Change(inner, old[key], None)
        elif key not in old:
            yield Change(inner, None, new[key])
        else:
            yield from _between(inner, old[key], new[key])


def _named(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "id" in item for item in value)
    )


def _by_id(things: list[dict[str, Any]]) -> dict[str, Any]:
    return {thing["id"]: thing for thing in things}


def _shown(field: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        if field.endswith("_w"):
            return format_watts(value)
        if field.endswith("_w_per_minute"):
            return f"{format_watts(value)} a minute"
        if field in _MOMENTS:
            return moment_text(value)
        if field.endswith("_ms"):
            return format_duration(value)
    if isinstance(value, dict):
        ident = value.get("id") or value.get("name")
        if not ident:
            return ", ".join(f"{key} {_shown(key, item)}" for key, item in value.items())
        return f"{ident} ({len(value)} fields)"
    if isinstance(value, list):
        return ", ".join(_shown("", item) for item in value) or "none"
    return str(value)
