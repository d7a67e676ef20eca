"""Score a text with the example model: a batch job of as many ranks as there are.

    python -m headrace.payloads.score --paragraphs 24

Every rank loads the model, takes its share of the paragraphs and asks, token by token, how likely
the model held the one that really comes next. Rank 0 gathers the log-probabilities and prints the
perplexity: the lower, the less the text surprised the model. How many ranks there are changes how
long it takes, not what comes out.
"""

import argparse
import http.client
import json
import math
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headrace.payloads import corpus
from headrace.payloads.gang import Gang, GangBrokenError, meet
from headrace.payloads.model import ModelUnavailableError, Serving, start
from headrace.payloads.place import EnvironmentRefusedError, Place, place_from, usable_cores

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_ANSWER_S = 120.0

Say = Callable[[str], None]
# Asks the model's server: path and body in, the parsed answer out.
Ask = Callable[[str, dict[str, Any]], Any]


class ScoringError(RuntimeError):
    """The model gave an answer that can't be a score."""


@dataclass(frozen=True, slots=True)
class Score:
    """One paragraph: how many tokens were scored, and the sum of their natural log-probabilities."""

    paragraph: int
    tokens: int
    log_probability: float


@dataclass(frozen=True, slots=True)
class Work:
    """How much to do: which texts, how many tokens of each, and when to begin no further one."""

    texts: tuple[str, ...]
    max_tokens: int
    budget_s: float

    @property
    def task(self) -> str:
        """What all ranks must agree on."""
        return f"score {len(self.texts)} paragraphs of {corpus.digest(self.texts)}, {self.max_tokens} tokens each"


def perplexity(scores: Sequence[Score]) -> float:
    """Return the perplexity over all tokens of the scores. Raises ScoringError when there are none."""
    tokens = sum(score.tokens for score in scores)
    if not tokens:
        raise ScoringError("no paragraph was scored: give --seconds more time")
    return math.exp(-math.fsum(score.log_probability for score in scores) / tokens)


def score_paragraph(ask: Ask, index: int, text: str, max_tokens: int) -> Score:
    """Score the tokens of a text after its first, up to `max_tokens` in all. Raises ScoringError."""
    tokens: list[int] = ask("/tokenize", {"content": text, "add_special": False})["tokens"][:max_tokens]
    if len(tokens) < 2:
        raise ScoringError(f"paragraph {index} has {len(tokens)} tokens: nothing to predict")
    answer = ask(
        "/completion",
        {
            "prompt": tokens[:1],
            "n_predict": len(tokens) - 1,
            # The server gives probabilities only of what it generates, so the grammar lets it
            # generate this text and nothing else. They are taken before the grammar has its say.
            "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in tokens[1:]),
            "n_probs": 1,
            "cache_prompt": False,
        },
    )
    steps = answer["completion_probabilities"]
    if [step["id"] for step in steps] != tokens[1:]:
        raise ScoringError(
            f"the model left the text of paragraph {index}: {len(steps)} of {len(tokens) - 1} tokens"
        )
    return Score(index, len(steps), math.fsum(step["logprob"] for step in steps))


def score_share(ask: Ask, place: Place, work: Work, say: Say) -> list[Score]:
    """Score this rank's paragraphs, every `world_size`-th, until they or the budget end."""
    begun_s = time.monotonic()
    share = range(place.rank, len(work.texts), place.world_size)
    scores: list[Score] = []
    for done, index in enumerate(share, start=1):
        if work.budget_s and time.monotonic() - begun_s >= work.budget_s:
            say(f"stopping at {done - 1} of {len(share)} paragraphs: {work.budget_s:.0f} s are over")
            break
        before_s = time.monotonic()
        score = score_paragraph(ask, index, work.texts[index], work.max_tokens)
        rate = score.tokens / (time.monotonic() - before_s)
        say(
            f"paragraph {done}/{len(share)}: {score.tokens} tokens, "
            f"perplexity {perplexity([score]):.1f}, {rate:.0f} tokens/s"
        )
        scores.append(score)
    return scores


def report(gathered: Sequence[dict[str, Any]], work: Work, elapsed_s: float) -> str:
    """Return the gang's result as one line. Raises ScoringError when nothing was scored."""
    scores = [Score(**item) for result in gathered for item in result["scores"]]
    # In the order of the text, so that the sum is the same however many ranks there were.
    scores.sort(key=lambda score: score.paragraph)
    tokens = sum(score.tokens for score in scores)
    return (
        f"perplexity {perplexity(scores):.2f} over {tokens} tokens of {len(scores)}/{len(work.texts)} paragraphs, "
        f"ranks: {len(gathered)}, {elapsed_s:.1f} s, {tokens / elapsed_s:.0f} tokens/s, "
        f"text {corpus.digest(work.texts)}"
    )


def run(place: Place, work: Work, say: Say, *, timeout_s: float) -> None:
    """Meet, score, gather; rank 0 says the result. Raises what stands in the way."""
    begun_s = time.monotonic()
    # The ranks of a gang share the node's cores: one each, or they would wait for one another.
    threads = 1 if place.world_size > 1 else usable_cores()
    serving = Serving(
        port=0,
        api_key=secrets.token_urlsafe(24),
        threads=threads,
        slots=1,
        context_tokens_per_slot=work.max_tokens + 1,
    )
    with meet(place, work.task, timeout_s=timeout_s, say=say) as gang:
        server = start(serving)
        say(f"model loaded after {time.monotonic() - begun_s:.1f} s, {threads} threads; {work.task}")
        scores = score_share(_asker(server.listening_address, serving.api_key), place, work, say)
        del server
        _hand_in(gang, scores, work, begun_s, say, timeout_s=timeout_s)


def _hand_in(
    gang: Gang, scores: Sequence[Score], work: Work, begun_s: float, say: Say, *, timeout_s: float
) -> None:
    # The slowest rank may be a whole share behind the fastest.
    patience_s = timeout_s + 4 * (time.monotonic() - begun_s)
    gathered = gang.gather({"scores": [asdict(score) for score in scores]}, patience_s)
    if gang.place.is_leader:
        say(report(gathered, work, time.monotonic() - begun_s))


def _asker(base_url: str, api_key: str) -> Ask:
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    def ask(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(base_url + path, json.dumps(body).encode(), headers)  # noqa: S310
        try:
            with _DIRECT.open(request, timeout=_ANSWER_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as refused:
            with refused:
                raise ScoringError(f"{path} answered {refused.code}: {refused.read(400)!r}") from None
        except (OSError, http.client.HTTPException) as broken:
            raise ScoringError(f"{path} did not answer: {broken}") from broken

    return ask


def main(arguments: Sequence[str] | None = None) -> int:
    """Score; return 0 with a result, 1 when the gang or the model broke, 2 for bad arguments."""
    options = _parser().parse_args(arguments)
    try:
        place = place_from(os.environ)
        work = Work(corpus.paragraphs(options.paragraphs), options.max_tokens, options.seconds)
    except (EnvironmentRefusedError, ValueError) as refused:
        print(f"score: {refused}", file=sys.stderr, flush=True)
        return 2

    def say(line: str) -> None:
        print(f"rank {place.rank}: {line}", flush=True)

    try:
        run(place, work, say, timeout_s=options.timeout)
    except (GangBrokenError, ModelUnavailableError, ScoringError) as broken:
        print(f"rank {place.rank}: {broken}", file=sys.stderr, flush=True)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m headrace.payloads.score", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--paragraphs", type=int, default=24, help="how many to score, over all ranks (default 24)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=128, help="score at most this much of each (default 128)"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="begin no paragraph after this long (default: no limit)"
    )
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds that ranks wait for each other (default 60)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
