"""The token meter: a replica's own counters, each reading once, and a last one before it is stopped."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.ids import PlacementId
from headrace.core.observation import PlacementReport, RankReport, RankState
from headrace.core.workload import Placement, WorkloadSpec, WorkloadType
from headrace.meters import TokenMeter
from headrace.meters.tokens import LAST_LOOK_MS
from headrace.reconcile import replica_key
from headrace.service import Service
from tests.journal.small import SetClock, begun, job, place, submit

METRICS = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total {0}
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total {1}
llamacpp:prompt_seconds_total 0.156898
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total {2}
llamacpp:requests_processing 0
llamacpp:requests_deferred 0
"""
"""As the server of llama.cpp prints it."""
PATIENCE_S = 20.0


@dataclass
class Replica:
    """A replica that prints its counters to whoever has its key; ``counters`` are prompt, of them cached, generated."""

    key: str = ""
    counters: tuple[int, int, int] = (0, 0, 0)
    asked: int = 0
    refused: int = 0
    address: str = ""
    server: ThreadingHTTPServer | None = field(default=None, repr=False)


@pytest.fixture
def replica() -> Iterator[Replica]:
    one = Replica()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"Bearer {one.key}" and self.path == "/metrics"
            one.asked += known
            one.refused += not known
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(METRICS.format(*one.counters).encode() if known else b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        one.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield one
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def control(tmp_path: Path, clock: SetClock) -> Iterator[Control]:
    made = begun(tmp_path, clock=clock)
    yield made
    made.store.close()


def started(control: Control, address: str = "", **more: Any) -> PlacementId:
    """A service that runs, with its endpoint at ``address``."""
    values: dict[str, Any] = {"type": WorkloadType.SERVICE, "counters": "llamacpp", "ports": {"http": 0}}
    spec: WorkloadSpec = job("chat", **(values | more))
    submit(control, spec.name, spec)
    (placement,) = place(control)
    endpoints = {"http": address} if address else {}
    report = PlacementReport(
        placement, control.world.state.epoch, (RankReport(0, RankState.RUNNING),), endpoints
    )
    control.execute(SYSTEM, c.Observe((report,), isolation="none"))
    control.commit()
    return placement


def key_of(control: Control, placement: PlacementId) -> str:
    work = control.world.state.workloads[control.world.state.placements[placement].workload]
    return replica_key(control.reveal(work.spec.secrets["HEADRACE_API_KEY"]), placement)


def billed(control: Control) -> tuple[int, int]:
    sums = control.world.state.usage.by_key.values()
    return sum(one.input_tokens for one in sums), sum(one.output_tokens for one in sums)


def run(control: Control, test: Callable[[Service, TokenMeter], Coroutine[Any, Any, None]]) -> None:
    """Run a test on an event loop, with a service and a meter."""

    async def main() -> None:
        service = Service(control)
        try:
            await test(service, TokenMeter(control, service))
        finally:
            await service.close()

    asyncio.run(main())


async def until(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not what():
            await asyncio.sleep(0.01)


def test_each_reading_is_a_batch_and_only_what_is_new_in_it_counts(
    control: Control, replica: Replica
) -> None:
    """Prompt tokens count with those that were cached; a reading without news makes no event."""
    placement = started(control, replica.address)
    replica.key = key_of(control, placement)
    held = control.world.state.placements[placement]

    async def test(_: Service, meter: TokenMeter) -> None:
        for counters, batches in (
            ((0, 0, 0), 0),
            ((35, 33, 40), 1),
            ((35, 33, 40), 1),
            ((100, 50, 90), 2),
        ):
            replica.counters = counters
            await meter.read(held)
            assert held.token_batches == batches

    run(control, test)
    assert billed(control) == (150, 90)
    assert control.durable == control.world.state.version


def test_a_replica_that_has_another_key_or_is_gone_is_not_billed_by_guess(
    control: Control, replica: Replica
) -> None:
    """It is read again later."""
    placement = started(control, replica.address)
    held = control.world.state.placements[placement]
    replica.key, replica.counters = "another's", (5, 0, 5)

    async def test(_: Service, meter: TokenMeter) -> None:
        await meter.read(held)
        assert replica.refused == 1
        held.endpoints = {"http": "127.0.0.1:1"}
        await meter.read(held)

    run(control, test)
    assert billed(control) == (0, 0)
    assert held.token_batches == 0


def test_counters_that_go_back_raise_an_alarm_and_take_nothing_back(
    control: Control, replica: Replica
) -> None:
    """What was counted stands, and somebody is told."""
    placement = started(control, replica.address)
    replica.key = key_of(control, placement)
    held = control.world.state.placements[placement]

    async def test(_: Service, meter: TokenMeter) -> None:
        for counters in ((10, 0, 10), (3, 0, 2)):
            replica.counters = counters
            await meter.read(held)

    run(control, test)
    assert billed(control) == (10, 10)
    (alarm,) = [one for _, one in control.world.state.alarms]
    assert (alarm.promise, alarm.subject) == (4, placement)
    assert "went back from (10, 10) to (3, 2)" in alarm.detail


def test_a_replica_is_looked_at_once_more_before_it_is_stopped(control: Control, replica: Replica) -> None:
    """By the running meter: what it served between the last reading and the stop is billed."""
    placement = started(control, replica.address)
    replica.key, replica.counters = key_of(control, placement), (1, 0, 1)
    held = control.world.state.placements[placement]

    async def test(service: Service, meter: TokenMeter) -> None:
        running = asyncio.create_task(meter.run())
        await until(lambda: held.token_batches == 1)
        replica.counters = (7, 0, 8)
        await service.run(SYSTEM, c.Stop(held.workload))
        assert not meter.may_stop(held)
        await until(lambda: meter.may_stop(held))
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    run(control, test)
    assert billed(control) == (7, 8)


def test_a_reading_from_before_the_stop_is_no_last_look(control: Control, replica: Replica) -> None:
    """The stop comes while a reading is under way: it is read again."""
    placement = started(control, replica.address)
    replica.key = key_of(control, placement)
    held = control.world.state.placements[placement]

    async def test(service: Service, meter: TokenMeter) -> None:
        reading = asyncio.create_task(meter.read(held))
        await asyncio.sleep(0)
        await service.run(SYSTEM, c.Stop(held.workload))
        assert not meter.may_stop(held)
        await reading
        assert not meter.may_stop(held)
        await meter.read(held)
        assert meter.may_stop(held)

    run(control, test)


def test_a_replica_that_does_not_answer_holds_its_stop_back_for_a_moment_only(
    control: Control, clock: SetClock
) -> None:
    """It is stopped without the last reading."""
    placement = started(control, "127.0.0.1:1")
    held: Placement = control.world.state.placements[placement]

    async def test(service: Service, meter: TokenMeter) -> None:
        await service.run(SYSTEM, c.Stop(held.workload))
        assert not meter.may_stop(held)
        await meter.read(held)
        clock.at_ms += LAST_LOOK_MS
        assert not meter.may_stop(held)
        clock.at_ms += 1
        assert meter.may_stop(held)

    run(control, test)


@pytest.mark.parametrize(
    ("address", "more"), [("127.0.0.1:1", {"counters": ""}), ("", {})], ids=["no counters", "no endpoint"]
)
def test_what_has_no_counters_to_read_is_stopped_at_once(
    address: str, more: dict[str, Any], control: Control
) -> None:
    """There is nothing to wait for."""
    placement = started(control, address, **more)
    held = control.world.state.placements[placement]

    async def test(service: Service, meter: TokenMeter) -> None:
        await service.run(SYSTEM, c.Stop(held.workload))
        assert meter.may_stop(held)

    run(control, test)
