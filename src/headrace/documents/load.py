"""The way in: texts and JSON bodies become core objects, or problems that say what, where and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from headrace.core.codec import Core, document_name, normalise
from headrace.core.errors import HeadraceError, Problem, did_you_mean
from headrace.documents.checks import check
from headrace.documents.convert import to_core
from headrace.documents.kinds import MODELS
from headrace.documents.report import bad_input, capped, validated
from headrace.documents.schema import Model
from headrace.documents.source import Place, Raw, Source, parse, read_bytes, show

M = TypeVar("M", bound=Model)

ORDER = (
    "tenant",
    "estate",
    "price-plan",
    "contract",
    "reservation",
    "maintenance",
    "policy",
    "facts",
    "ownership",
    "dataset",
    "workload",
)
"""The order to apply documents in: what others refer to comes first."""


@dataclass(frozen=True, slots=True)
class Document:
    """A valid document.

    ``normalised`` is what an event carries (:mod:`headrace.core.codec`). ``private`` holds what must not be in it: a
    workload's secrets, a tenant's ``contact``; the vault takes them, and ``value`` gets references in their place.
    ``source`` says where each value stood, for problems that are found later.
    """

    kind: str
    name: str
    value: Core
    normalised: dict[str, Any]
    private: dict[str, str] = field(repr=False)
    source: Source = field(repr=False)

    def where(self, place: Place = ()) -> str:
        """Where a value of the document stands."""
        return self.source.where(place)


def load(origin: Path | bytes, name: str = "") -> list[Document]:
    """The documents of a YAML or JSON text, in its order; ``name`` is what errors call it (by default the path).

    Raises HeadraceError with every problem found: in syntax first, and only then in what it says.
    """
    file = name or (str(origin) if isinstance(origin, Path) else "<input>")
    raws = parse(read_bytes(origin) if isinstance(origin, Path) else origin, file)
    if not raws:
        raise HeadraceError(
            bad_input("no document in it.", f"Begin with kind: {', '.join(MODELS)}.", Source(file))
        )
    return documents_of(raws)


def load_all(paths: Sequence[Path]) -> list[Document]:
    """The documents of several files, in the order to apply them; one HeadraceError for all."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            documents.extend(load(path))
        except HeadraceError as error:
            problems.extend(error.problems)
    problems.extend(_twice(documents))
    if problems:
        raise HeadraceError(*problems)
    return sorted(documents, key=lambda document: ORDER.index(document.kind))


def parse_document(data: Any, place: Place = ()) -> Document:
    """One document from a JSON body; ``place`` is where it stands in the body, for the pointers in problems."""
    return documents_of([Raw(data, Source(base=place))])[0]


def parse_documents(data: Any, place: Place = ()) -> list[Document]:
    """A list of documents from a JSON body."""
    if not isinstance(data, list) or not data:
        raise HeadraceError(bad_input("not a list of documents.", "Send at least one.", Source(base=place)))
    return documents_of([Raw(item, Source(base=(*place, number))) for number, item in enumerate(data)])


def checked(model: type[M], data: Any, source: Source) -> M:
    """``data`` as ``model``, with every check; HeadraceError with all that is wrong."""
    valid = validated(model, data, source)
    problems = [bad_input(found.message, found.next_step, source, found.place) for found in check(valid)]
    if problems:
        raise HeadraceError(*problems)
    return valid


def documents_of(raws: Sequence[Raw], *besides: str) -> list[Document]:
    """Parsed texts as documents; HeadraceError with all that is wrong with them. ``besides``: what else may stand here."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for raw in raws:
        try:
            documents.append(_document(raw, besides))
        except HeadraceError as error:
            problems.extend(error.problems)
    problems.extend(_twice(documents))
    if problems:
        raise HeadraceError(*capped(problems))
    return documents


def _document(raw: Raw, besides: Sequence[str]) -> Document:
    model = _model_of(raw, besides)
    converted = to_core(checked(model, raw.data, raw.source))
    kind, name = raw.data["kind"], document_name(converted.value)
    normalised = normalise(kind, name, converted.value)
    return Document(kind, name, converted.value, normalised, converted.private, raw.source)


def _model_of(raw: Raw, besides: Sequence[str]) -> type[Model]:
    data, source = raw.data, raw.source
    known = [*MODELS, *besides]
    kinds = ", ".join(known)
    if not isinstance(data, dict):
        raise HeadraceError(
            bad_input(f"{show(data)} is not a document.", f"Begin with kind: {kinds}.", source)
        )
    if "kind" not in data:
        raise HeadraceError(bad_input("kind is missing.", f"Add kind: {kinds}.", source))
    kind = data["kind"]
    if not isinstance(kind, str) or kind not in MODELS:
        step = did_you_mean(str(kind)[:60], known)
        raise HeadraceError(bad_input(f"no kind of document {show(kind)};", step, source, ("kind",)))
    return MODELS[kind]


def _twice(documents: Sequence[Document]) -> list[Problem]:
    first: dict[tuple[str, str], Document] = {}
    problems = []
    for document in documents:
        key = document.kind, document.name
        if key in first:
            message = f"{document.kind} {document.name} stands twice; first at {first[key].where()}."
            problems.append(bad_input(message, "Keep one of them.", document.source))
        first.setdefault(key, document)
    return problems
