"""What the API answers of settlement evidence."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """Settlement evidence, signed: ``signature`` (Ed25519, hexadecimal) by ``key`` over the canonical JSON of ``document``.

    Kept in a file as it comes, it is verified offline. The document's fields are those of the evidence's own format.
    """

    document: dict[str, Any]
    key: str
    signature: str
