"""A score is what the model really thought of a text, and doesn't depend on how many ranks there were."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.payloads.place import Place
from headrace.payloads.score import (
    Score,
    ScoringError,
    Work,
    perplexity,
    report,
    score_paragraph,
    score_share,
)
from tests.payloads.conftest import StartPayload

HALF = math.log(0.5)


def ask_coin(path: str, body: dict[str, Any]) -> Any:
    """Stand in for a model that holds every next token as likely as a coin's side: a token a letter."""
    if path == "/tokenize":
        return {"tokens": [ord(letter) for letter in body["content"]]}
    forced = [int(token) for token in re.findall(r"<\[(\d+)\]>", body["grammar"])]
    return {"completion_probabilities": [{"id": token, "logprob": HALF} for token in forced]}


def ask_rambler(path: str, body: dict[str, Any]) -> Any:
    """Stand in for a model that doesn't keep to the grammar."""
    answer = ask_coin(path, body)
    if path == "/completion":
        answer["completion_probabilities"][-1]["id"] += 1
    return answer


def test_each_token_after_the_first_is_scored() -> None:
    assert score_paragraph(ask_coin, 7, "water", 128) == Score(7, 4, 4 * HALF)
    assert score_paragraph(ask_coin, 7, "water", 3) == Score(7, 2, 2 * HALF)
    assert perplexity([score_paragraph(ask_coin, 0, "water", 128)]) == pytest.approx(2)


def test_a_model_that_leaves_the_text_gives_no_score() -> None:
    with pytest.raises(ScoringError, match="left the text of paragraph 3"):
        score_paragraph(ask_rambler, 3, "water", 128)


def test_a_text_of_one_token_has_nothing_to_predict() -> None:
    with pytest.raises(ScoringError, match="paragraph 3 has 1 tokens"):
        score_paragraph(ask_coin, 3, "w", 128)


def test_without_a_score_there_is_no_perplexity() -> None:
    with pytest.raises(ScoringError, match="--seconds"):
        perplexity([])


@given(texts=st.lists(st.text(min_size=2, max_size=9), min_size=1, max_size=9), world_size=st.integers(1, 5))
def test_ranks_share_the_text_without_gap_or_overlap(texts: list[str], world_size: int) -> None:
    work = Work(tuple(texts), 128, 0)
    shares = [
        score_share(ask_coin, Place(rank, world_size, rank, "127.0.0.1", 1, 0), work, lambda _line: None)
        for rank in range(world_size)
    ]
    assert sorted(score.paragraph for share in shares for score in share) == list(range(len(texts)))


def test_a_budget_ends_the_work_and_the_report_says_so() -> None:
    work = Work(("water", "falls"), 128, 1e-9)
    said: list[str] = []
    assert score_share(ask_coin, Place(0, 1, 0, "127.0.0.1", 0, 0), work, said.append) == []
    assert said == ["stopping at 0 of 2 paragraphs: 0 s are over"]
    partial = {"scores": [{"paragraph": 0, "tokens": 4, "log_probability": 4 * HALF}]}
    assert report([partial], work, 2.0).startswith(
        "perplexity 2.00 over 4 tokens of 1/2 paragraphs, ranks: 1, 2.0 s"
    )


@pytest.mark.model
def test_two_ranks_come_to_the_result_of_one(start_payload: StartPayload, free_port: int) -> None:
    small = ("score", "--paragraphs", "3", "--max-tokens", "24")
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)}
    ranks = [start_payload(*small, RANK=str(rank), **together) for rank in range(2)]
    said = [rank.communicate() for rank in ranks]
    alone = start_payload(*small)
    said.append(alone.communicate())
    assert [process.returncode for process in (*ranks, alone)] == [0, 0, 0], said
    by_two, by_one = (result(output) for output, _log in (said[0], said[2]))
    assert by_two == by_one
    # Each paragraph was scored by one rank only.
    assert [len(re.findall(r"paragraph \d", output)) for output, _log in said] == [2, 1, 3]


def result(output: str) -> tuple[str, ...]:
    found = re.fullmatch(
        r"rank 0: perplexity (\d+\.\d\d) over (\d+) tokens of 3/3 paragraphs, ranks: \d, .*, text (\w{12})",
        output.splitlines()[-1],
    )
    assert found, output
    return found.groups()


def test_arguments_that_cannot_be_are_refused(start_payload: StartPayload) -> None:
    process = start_payload("score", "--paragraphs", "0")
    assert "score: 0 paragraphs were asked for" in process.communicate()[1]
    assert process.returncode == 2
