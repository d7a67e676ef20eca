"""What the API answers of evidence packs, besides the packs themselves, which are text."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """What a tenant keeps outside, signed: the journal's signed head, and how many events were the tenant's by then.

    Kept in a file as it comes, a later pack is compared with it offline. ``closing`` has ``tenant``, ``journal``, ``key``,
    ``head``, ``count`` and ``leaf`` (the last of them, in hexadecimal); ``signature`` (Ed25519, hexadecimal) is by that key.
    """

    format: str
    pack: str
    closing: dict[str, Any]
    signature: str
