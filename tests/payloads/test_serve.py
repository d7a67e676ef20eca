"""A replica serves the OpenAI protocol, counts each token once, and leaves without cutting answers."""

import signal
import socket
import threading
import time
from collections.abc import Iterator

import openai
import pytest

from headrace.payloads.counters import (
    CountersUnreadableError,
    TokenCounters,
    read_counters,
    read_requests_in_flight,
)
from headrace.payloads.model import MODEL_NAME
from tests.payloads.conftest import Process, StartPayload

API_KEY = "of this replica alone"
QUESTION = "What does water do when it falls?"


@pytest.fixture
def replica(start_payload: StartPayload, free_port: int) -> Process:
    # Long enough for an answer on a busy machine.
    patient = ("serve", "--drain-seconds", "60")
    process = start_payload(*patient, HEADRACE_PORT_HTTP=str(free_port), HEADRACE_API_KEY=API_KEY)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"serving {MODEL_NAME} on http://127.0.0.1:{free_port}/v1: ")
    return process


@pytest.fixture
def url(free_port: int) -> str:
    return f"http://127.0.0.1:{free_port}"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=API_KEY, max_retries=0) as client:
        yield client


@pytest.mark.model
@pytest.mark.usefixtures("replica")
def test_the_official_client_is_served_and_what_it_is_told_is_what_was_counted(
    client: openai.OpenAI, url: str
) -> None:
    assert [model.id for model in client.models.list()] == [MODEL_NAME]
    assert read_counters(url, API_KEY) == TokenCounters(prompt=0, generated=0)
    told = [ask(client), ask(client)]
    counters = read_counters(url, API_KEY)
    assert counters.prompt == sum(usage.prompt_tokens for usage in told) > 0
    assert counters.generated == sum(usage.completion_tokens for usage in told) == 32
    # The second time the question was still known.
    assert counters.prompt_cached > 0


@pytest.mark.model
@pytest.mark.usefixtures("replica")
def test_another_key_gets_neither_answers_nor_counters(client: openai.OpenAI, url: str) -> None:
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="of another").models.list()
    with pytest.raises(openai.AuthenticationError):
        ask(client.with_options(api_key="of another"))
    with pytest.raises(CountersUnreadableError, match="not this replica's"):
        read_counters(url, "of another")


@pytest.mark.model
@pytest.mark.usefixtures("replica")
def test_an_answer_that_the_caller_breaks_off_is_counted_as_far_as_it_went(
    client: openai.OpenAI, url: str
) -> None:
    stream = client.chat.completions.create(
        model=MODEL_NAME, messages=[{"role": "user", "content": QUESTION}], max_tokens=1500, stream=True
    )
    for heard, _chunk in enumerate(stream):
        if heard == 10:
            break
    stream.close()
    deadline = time.monotonic() + 10
    while read_requests_in_flight(url, API_KEY) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert 10 <= read_counters(url, API_KEY).generated < 1500


@pytest.mark.model
def test_a_stop_lets_an_answer_come_to_its_end(replica: Process, client: openai.OpenAI, url: str) -> None:
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(ask(client, max_tokens=40).completion_tokens))
    asking.start()
    while asking.is_alive() and not read_requests_in_flight(url, API_KEY):
        time.sleep(0.01)
    replica.send_signal(signal.SIGTERM)
    said, _log = replica.communicate()
    asking.join()
    assert answers == [40]
    assert (replica.returncode, said.splitlines()[-1]) == (0, "stopped")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"HEADRACE_PORT_HTTP": "8000"}, "HEADRACE_API_KEY is not set"),
        ({"HEADRACE_API_KEY": "key"}, "HEADRACE_PORT_HTTP=''"),
        ({"HEADRACE_API_KEY": "key", "HEADRACE_PORT_HTTP": "0"}, "HEADRACE_PORT_HTTP='0'"),
    ],
)
def test_a_replica_without_port_or_key_does_not_start(
    start_payload: StartPayload, environment: dict[str, str], named: str
) -> None:
    process = start_payload("serve", **environment)
    assert named in process.communicate()[1]
    assert process.returncode == 2


@pytest.mark.model
def test_a_port_that_is_taken_is_named(start_payload: StartPayload, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        process = start_payload("serve", HEADRACE_PORT_HTTP=str(free_port), HEADRACE_API_KEY=API_KEY)
        assert f"can't be served on 127.0.0.1:{free_port}: is the port taken?" in process.communicate()[1]
    assert process.returncode == 2


def ask(client: openai.OpenAI, max_tokens: int = 16) -> openai.types.CompletionUsage:
    answer = client.chat.completions.create(
        model=MODEL_NAME,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=max_tokens,
        temperature=0,
        # So that the answer is as long as was asked for.
        logit_bias={"2": -100},
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    return answer.usage
