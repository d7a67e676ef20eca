"""A text that comes with every Python, to have something real to score: the language reference."""

import hashlib
from collections.abc import Sequence
from pydoc_data.topics import topics

_SHORTEST = 240
_PROSE_PERMILLE = 930


def paragraphs(count: int) -> tuple[str, ...]:
    """Return `count` different paragraphs of prose, always the same ones on the same Python.

    Raises ValueError, naming how many there are.
    """
    prose = {
        text for topic in topics.values() for text in map(_one_line, topic.split("\n\n")) if _is_prose(text)
    }
    # In the order of their digests: a fixed shuffle, so that a few of them come from many topics.
    chosen = sorted(prose, key=lambda text: hashlib.sha256(text.encode()).digest())
    if not 0 < count <= len(chosen):
        raise ValueError(
            f"{count} paragraphs were asked for; this Python's documentation has 1 to {len(chosen)}"
        )
    return tuple(chosen[:count])


def digest(texts: Sequence[str]) -> str:
    """Name a choice of texts: results are comparable only where this is the same."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_prose(text: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in text)
    return len(text) >= _SHORTEST and text.endswith(".") and letters * 1000 >= _PROSE_PERMILLE * len(text)
