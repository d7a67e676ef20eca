"""What if: documents that are tried, and one of kind ``what-if`` that says what else would be otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from headrace.core.errors import HeadraceError
from headrace.documents.load import Document, checked, documents_of
from headrace.documents.report import bad_input
from headrace.documents.schema import Model, Moment, Text
from headrace.documents.source import Place, Raw, Source, parse

KIND = "what-if"


class WhatIfModel(Model):
    """What is gone (documents as ``kind/name``, workloads), where nothing starts, and when it is planned.

    With ``evict`` what runs on drained parts has to go elsewhere.
    """

    kind: Literal["what-if"]
    remove: list[Text] = Field(default=[])
    drain: list[Text] = Field(default=[])
    evict: bool = False
    at: Moment = 0


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What is tried: documents, and what else is otherwise; ``source`` says where that stands."""

    documents: list[Document]
    remove: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    evict: bool = False
    at_ms: int = 0
    source: Source = field(default_factory=Source, repr=False)

    def where(self, place: Place) -> str:
        """Where a part of the what-if document stands."""
        return self.source.where(place)


def load_what_if(raw: bytes, name: str) -> WhatIf:
    """What a YAML or JSON text tries; raises HeadraceError with every problem found."""
    return _what_if(parse(raw, name))


def parse_what_if(data: Any, place: Place = ()) -> WhatIf:
    """What a list of documents from a JSON body tries."""
    if not isinstance(data, list):
        raise HeadraceError(bad_input("not a list of documents.", "Send a list.", Source(base=place)))
    return _what_if([Raw(item, Source(base=(*place, number))) for number, item in enumerate(data)])


def _what_if(raws: Sequence[Raw]) -> WhatIf:
    own = [one for one in raws if isinstance(one.data, dict) and one.data.get("kind") == KIND]
    others = documents_of([one for one in raws if one not in own], KIND)
    if not own:
        return WhatIf(others)
    if len(own) > 1:
        raise HeadraceError(bad_input("what-if stands twice.", "Keep one of them.", own[1].source))
    told = checked(WhatIfModel, own[0].data, own[0].source)
    return WhatIf(others, tuple(told.remove), tuple(told.drain), told.evict, told.at, own[0].source)
