"""From what pydantic says to problems that name the thing, its place and the next step."""

from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.documents.schema import MANY, ONE, Model
from headrace.documents.source import Place, Source, show
from headrace.documents.values import Bad

M = TypeVar("M", bound=Model)

MAX_PROBLEMS = 100

_NO_STEPS = ("[key]", ONE, MANY)
"""What pydantic puts among the steps to a place that are none: a mapping's key is wrong, or which form a value has."""
_NAMED = ("missing", "extra_forbidden")
_KINDS = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "a text",
}


def validated(model: type[M], data: Any, source: Source) -> M:
    """``data`` as ``model``; HeadraceError with a problem for everything that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # Each is explained for people, by looking for what was meant: a million of them would take minutes.
        problems = [_problem(model, detail, source) for detail in details[:MAX_PROBLEMS]]
        raise HeadraceError(*problems, *_besides(len(details) - MAX_PROBLEMS)) from None


def capped(problems: list[Problem]) -> list[Problem]:
    """No more problems than anybody reads, and how many there are besides."""
    # One more may be the sentence that says how many there are besides.
    if len(problems) <= MAX_PROBLEMS + 1:
        return problems
    return [*problems[:MAX_PROBLEMS], *_besides(len(problems) - MAX_PROBLEMS)]


def _besides(more: int) -> list[Problem]:
    if more <= 0:
        return []
    return [Problem(ProblemCode.BAD_INPUT, f"and {more} more problems.", "Mend these first.")]


def bad_input(
    message: str, next_step: str, source: Source, place: Place = (), at_key: bool = False
) -> Problem:
    """A problem at a place of a document."""
    return Problem(ProblemCode.BAD_INPUT, message, next_step, source.where(place, at_key))


def _problem(model: type[Model], detail: ErrorDetails, source: Source) -> Problem:
    place: Place = tuple(step for step in detail["loc"] if step not in _NO_STEPS)
    if detail["type"] in _NAMED:
        # The last step is a field's name here, whatever it is called.
        place = (*(step for step in detail["loc"][:-1] if step not in _NO_STEPS), detail["loc"][-1])
    at_key = "[key]" in detail["loc"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            message = f"{place[-1]} is missing."
            return bad_input(message, f"Add {place[-1]}.", source, place)
        case "extra_forbidden":
            known = _fields_at(model, place[:-1])
            return bad_input(
                f"no field {show(place[-1])} here;",
                did_you_mean(str(place[-1])[:60], known),
                source,
                place,
                True,
            )
        case "value_error" if isinstance(context.get("error"), Bad):
            bad: Bad = context["error"]
            return bad_input(bad.message, bad.next_step, source, place, at_key)
        case "too_long" | "too_short":
            return bad_input(*_length(context), source, place)
        case kind if kind in _KINDS:
            found = "this value" if "secrets" in place else show(detail["input"])
            return bad_input(f"{found} is not {_KINDS[kind]}.", f"Write {_KINDS[kind]} here.", source, place)
    return bad_input(f"{detail['msg'].lower()}.", "", source, place)


def _length(context: dict[str, Any]) -> tuple[str, str]:
    if "max_length" in context:
        return f"{context['actual_length']} are too many.", f"At most {context['max_length']}."
    empty = "an empty mapping." if context.get("field_type") == "Dictionary" else "an empty list."
    return empty, f"Write at least {context['min_length']}."


def _fields_at(model: type[BaseModel], place: Place) -> list[str]:
    """Names of the fields that the mapping at ``place`` may have."""
    here: Any = model
    for step in place:
        if isinstance(here, type) and issubclass(here, BaseModel) and step in here.model_fields:
            here = next(_models_in(here.model_fields[str(step)].annotation), None)
    if not isinstance(here, type) or not issubclass(here, BaseModel):
        return []
    return [field.alias or name for name, field in here.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
