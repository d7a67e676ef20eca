"""The asynchronous edge: answered once durable, read once durable, lost together, back by itself."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from headrace.api.app import create_app
from headrace.api.inline import call
from headrace.control import SYSTEM, Batch
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.ids import TenantId, WorkloadId
from headrace.documents import decode_workloads
from headrace.journal.sqlite import JournalUnavailable
from headrace.service import Service
from tests.api.small import FJORD, JOB, TOKENS, Small

ITEMS = decode_workloads(json.dumps({"workloads": [JOB]}).encode())


class Gate:
    """Holds commits until it is opened; counts them, and fails them as long as it is told to."""

    def __init__(self, world: Small) -> None:
        self.open = threading.Event()
        self.open.set()
        self.broken = False
        self.entered = 0
        self.sizes: list[int] = []
        self._append = world.control.append
        world.control.append = self.append  # type: ignore[method-assign]  # the seam between loop and disk

    def append(self, batch: Batch) -> None:
        self.entered += 1
        self.open.wait(20)
        if self.broken:
            raise JournalUnavailable("disk full")
        self._append(batch)
        self.sizes.append(batch.group.count if batch.group else 0)


async def ask(
    app: FastAPI, method: str, path: str, body: bytes = b"", token: str = "admin"
) -> tuple[int, Any]:
    """A request on the event loop."""
    plain, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": plain,
        "raw_path": plain.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {TOKENS[token]}".encode())],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    raw = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(raw)


async def turn(times: int = 20) -> None:
    """Let the loop turn, so that whatever could go on has gone on."""
    for _ in range(times):
        await asyncio.sleep(0)


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came")


def on_loop(world: Small, test: Callable[[Service, FastAPI], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a live service, and end it."""

    async def run() -> None:
        service = Service(world.control, world.reconciler, probe_s=0.01)
        try:
            await test(service, create_app(service))
        finally:
            await service.close()

    asyncio.run(run())


async def submit(service: Service, key: str = "") -> c.Submitted:
    return (await service.submit(SYSTEM, TenantId(FJORD), ITEMS, key, "d"))[0]


def test_nothing_is_answered_before_it_is_durable(world: Small) -> None:
    """A submission waits for the disk, and its head includes it."""
    gate = Gate(world)

    async def test(service: Service, _: FastAPI) -> None:
        gate.open.clear()
        waiting = asyncio.create_task(service.run(SYSTEM, c.Submit(FJORD, [ITEMS[0].spec])))
        await turn()
        assert not waiting.done()
        assert world.store.size() < world.control.world.state.version
        gate.open.set()
        head = (await waiting)[1]
        assert head is not None
        assert head.size == world.store.size() == world.control.world.state.version

    on_loop(world, test)


def test_commands_that_come_during_a_commit_share_the_next_one(world: Small) -> None:
    """One commit under way, and a hundred commands make one more: each is acknowledged."""
    gate = Gate(world)

    async def test(service: Service, _: FastAPI) -> None:
        gate.open.clear()
        tasks = [asyncio.create_task(submit(service))]
        await _until(lambda: gate.entered == 1)
        tasks += [asyncio.create_task(submit(service)) for _ in range(100)]
        await turn()
        gate.open.set()
        made = [one.workloads[0] for one in await asyncio.gather(*tasks)]
        assert len(set(made)) == 101
        assert len(gate.sizes) == 2

    on_loop(world, test)


def test_a_read_shows_nothing_that_could_still_be_lost(world: Small) -> None:
    """A read that saw a submission waits until that is durable; one with nothing before it answers at once."""
    gate = Gate(world)

    async def test(service: Service, app: FastAPI) -> None:
        gate.open.clear()
        writing = asyncio.create_task(submit(service))
        await turn()
        reading = asyncio.create_task(ask(app, "GET", "/v1/workloads/fjord-ai-1"))
        missing = asyncio.create_task(ask(app, "GET", "/v1/workloads/fjord-ai-2"))
        await turn()
        assert not reading.done()
        assert not missing.done()
        gate.open.set()
        assert (await reading)[0] == 200
        assert (await missing)[0] == 404
        assert (await writing).workloads == ("fjord-ai-1",)
        gate.open.clear()
        assert (await ask(app, "GET", "/v1/workloads/fjord-ai-1"))[0] == 200
        gate.open.set()

    on_loop(world, test)


def test_a_repeated_key_waits_for_the_first_ones_commit(world: Small) -> None:
    """The repetition is not acknowledged before what it repeats."""
    gate = Gate(world)

    async def test(service: Service, _: FastAPI) -> None:
        gate.open.clear()
        first = asyncio.create_task(submit(service, "k"))
        await turn()
        again = asyncio.create_task(submit(service, "k"))
        await turn()
        assert not again.done()
        gate.open.set()
        assert (await again).repeated
        assert (await again).workloads == (await first).workloads

    on_loop(world, test)


def test_a_commit_that_fails_fails_everybody_and_keeps_nothing(world: Small) -> None:
    """Both the failed batch and the one that collected behind it are lost; reads show what is durable; then it goes on."""
    gate = Gate(world)
    durable = world.state

    async def test(service: Service, app: FastAPI) -> None:
        recovered: list[int] = []
        service.on_recovered.append(lambda: recovered.append(1))
        gate.broken = True
        gate.open.clear()
        failing = [asyncio.create_task(submit(service))]
        await _until(lambda: gate.entered == 1)
        failing += [asyncio.create_task(submit(service)) for _ in range(3)]
        reading = asyncio.create_task(ask(app, "GET", "/v1/workloads"))
        await turn()
        gate.open.set()
        for task in failing:
            with pytest.raises(HeadraceError) as caught:
                await task
            assert caught.value.problem.code is ProblemCode.JOURNAL_UNAVAILABLE
        assert (await reading)[0] == 503
        assert recovered == [1]
        assert world.state == durable
        # Still broken: reads answer and say so, commands are refused at once.
        status, shown = await ask(app, "GET", "/v1/status")
        assert (status, shown["problem"]["code"]) == (200, "journal_unavailable")
        assert (await ask(app, "GET", "/v1/workloads"))[1]["workloads"] == []
        status, refused = await ask(app, "POST", "/v1/tenants/fjord-ai/workloads", _body())
        assert (status, refused["error"]["code"]) == (503, "journal_unavailable")
        # The disk is back: a probe finds out by itself.
        gate.broken = False
        await _until(lambda: service.failure is None)
        status, made = await ask(app, "POST", "/v1/tenants/fjord-ai/workloads", _body())
        assert (status, made["workloads"]) == (201, ["fjord-ai-1"])
        assert (await ask(app, "GET", "/v1/status"))[1]["problem"] is None

    on_loop(world, test)
    world.control.recover()
    assert list(world.control.world.state.workloads) == ["fjord-ai-1"]


def _body() -> bytes:
    return json.dumps({"workloads": [JOB]}).encode()


def test_one_who_leaves_does_not_take_the_others_along(world: Small) -> None:
    """A client that hangs up cancels its own wait alone."""
    gate = Gate(world)

    async def test(service: Service, _: FastAPI) -> None:
        gate.open.clear()
        leaving, staying = (asyncio.create_task(submit(service)) for _ in range(2))
        await turn()
        leaving.cancel()
        await turn()
        gate.open.set()
        assert (await staying).workloads == ("fjord-ai-2",)
        assert WorkloadId("fjord-ai-1") in world.control.world.state.workloads

    on_loop(world, test)


def test_listeners_hear_of_a_batch_once_it_is_durable(world: Small) -> None:
    """The planner is told what it may read."""
    heard: list[bool] = []

    async def test(service: Service, _: FastAPI) -> None:
        service.on_durable.append(
            lambda batch: heard.append(
                batch.group is not None and batch.group.head.size <= world.store.size()
            )
        )
        await submit(service)
        await submit(service)

    on_loop(world, test)
    assert heard == [True, True]


def test_a_full_disk_is_503_with_when_to_try_again_and_nothing_kept(world: Small) -> None:
    """Without an event loop too: nothing is acknowledged, nothing is kept, and after recovery it works."""
    before = world.state
    world.store.full = True
    answer = world.submit()
    assert (answer.status, answer.codes) == (503, ["journal_unavailable"])
    assert answer.headers["retry-after"] == "1"
    assert "disk full" in answer.json["error"]["message"]
    assert world.state == before
    assert world.ask("GET", "/v1/workloads").json["workloads"] == []
    world.store.full = False
    world.control.recover()
    assert world.state == before
    assert world.submit().json["workloads"] == ["fjord-ai-1"]


def test_health_needs_no_token_and_says_whether_it_can_commit(world: Small) -> None:
    """For a load balancer: it answers, and knows that it can't commit."""
    assert world.ask("GET", "/healthz", token="").json == {"ok": True, "commits": True}
    world.store.full = True
    world.submit()
    assert world.ask("GET", "/healthz", token="").json == {"ok": True, "commits": False}


def test_a_call_by_hand_says_when_something_would_wait(tmp_path: Path) -> None:
    """An app that really awaits can't be driven without a loop, and says so instead of hanging."""

    class Never:
        def __await__(self) -> Any:
            yield None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        wait: Awaitable[None] = Never()
        await wait

    with pytest.raises(RuntimeError, match="waits for an event loop"):
        call(app, "GET", "/")
