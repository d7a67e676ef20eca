"""The text to score is real prose, and the same for every rank."""

import pytest

from headrace.payloads import corpus


def test_the_text_is_the_same_each_time() -> None:
    assert corpus.paragraphs(24) == corpus.paragraphs(24)
    assert corpus.paragraphs(24)[:8] == corpus.paragraphs(8)


def test_the_text_is_prose_without_repeats() -> None:
    texts = corpus.paragraphs(100)
    assert len(set(texts)) == 100
    assert all(len(text) >= 240 and "\n" not in text and text.endswith(".") for text in texts)


@pytest.mark.parametrize("count", [-1, 0, 10**6])
def test_more_than_there_is_cannot_be_had(count: int) -> None:
    with pytest.raises(
        ValueError, match=rf"{count} paragraphs were asked for; this Python's documentation has 1 to \d+"
    ):
        corpus.paragraphs(count)


def test_another_choice_has_another_digest() -> None:
    assert corpus.digest(["a", "b"]) == corpus.digest(["a", "b"]) != corpus.digest(["ab"])
