"""Asking a replica with the official OpenAI client, as any program would."""

import time
from dataclasses import dataclass

from openai import APIConnectionError, DefaultHttpxClient, InternalServerError, OpenAI

READY_S = 60.0
MAX_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, how many tokens the protocol counted, and how long the answer took."""

    model: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


def ask(base_url: str, api_key: str, prompt: str) -> Answer:
    """Ask, once the replica has loaded its model; raises openai.OpenAIError when it never answers."""
    # Not by a proxy of the environment: the replica is on this machine.
    with DefaultHttpxClient(trust_env=False) as http:
        client = OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=READY_S, http_client=http)
        model = _loaded(client)
        began = time.perf_counter()
        said = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], max_tokens=MAX_TOKENS, temperature=0
        )
        seconds = time.perf_counter() - began
    text = " ".join((said.choices[0].message.content or "").split())
    cut = "..." if said.choices[0].finish_reason == "length" else ""
    used = said.usage
    return Answer(
        model, text + cut, used.prompt_tokens if used else 0, used.completion_tokens if used else 0, seconds
    )


def _loaded(client: OpenAI) -> str:
    """The name of the model that the replica serves, once it does."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            return client.models.list().data[0].id
        except (APIConnectionError, InternalServerError):
            # Not listening yet, or listening and still loading (503).
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)
