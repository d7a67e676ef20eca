"""The end of an evidence pack, for who passes it on or receives it: the standard library and nothing else."""

import json
from typing import Any

CLOSING = b"closing "
LONGEST_CLOSING = 8_192
"""No closing line is longer: whoever passes a pack on holds back as much, and knows it when it comes."""


def closing_in(end: bytes) -> dict[str, Any] | None:
    """What the closing says in the last bytes of a pack; None when they are not a pack's last bytes."""
    body, mark, seal = end.rpartition(b"\nseal ")
    closing = body.rpartition(b"\n" + CLOSING)[2]
    if not mark or len(seal) != 129 or not seal.endswith(b"\n"):
        return None
    try:
        found = json.loads(closing)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
