"""Clients and people reach the control plane through the API alone, and what fails on the way fails as it does live."""

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from headrace.api.inline import Exchange, Message, Pause, call
from headrace.core.authority import Role
from headrace.sim.clients import ROUTES, Answer, Request
from headrace.sim.faults import Crash
from headrace.sim.plant import JournalUnavailable
from headrace.sim.run import run_seed
from headrace.sim.script import SHORT
from headrace.sim.world import Simulation


async def waiting(
    _scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """An application that waits before it answers with what it was sent, or with why the wait failed."""
    body = (await receive())["body"]
    try:
        await Pause()
    except OSError as error:
        body = str(error).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-found", b"1")]})
    await send({"type": "http.response.body", "body": body})


class Told:
    """What clients of a prepared world are told."""

    def __init__(self, folder: Path) -> None:
        self.sim = Simulation(5, SHORT, folder)
        self.plant = self.sim.plant
        self.sim.prepare()
        self.answered: list[tuple[Request, Answer]] = []
        self.again: list[Request] = []
        self.plant.on_answer = lambda request, answer: self.answered.append((request, answer))
        self.plant.on_unavailable = self.again.append

    def token(self) -> Request:
        """A request for a token of the first tenant."""
        return self.sim.people.token(Role.TENANT_MEMBER, next(iter(self.sim.people.members)))


def test_an_exchange_waits_until_somebody_goes_on_with_it() -> None:
    """It is answered by the second step, not by the first."""
    exchange = Exchange(waiting, "POST", "/x?y=1", {"A": "b"}, b"hello")
    assert not exchange.go_on()
    assert exchange.go_on()
    assert exchange.reply == (200, {"x-found": "1"}, b"hello")


def test_an_exchange_goes_on_with_the_error_of_what_it_waited_for() -> None:
    """The error is raised where it waits."""
    exchange = Exchange(waiting, "POST", "/x")
    assert not exchange.go_on()
    assert exchange.go_on(OSError("the disk is gone"))
    assert exchange.reply[2] == b"the disk is gone"


def test_a_call_must_not_wait() -> None:
    """Nobody would go on with it."""
    with pytest.raises(RuntimeError, match="waits for an event loop"):
        call(waiting, "POST", "/x")


def test_requests_share_a_commit_and_are_answered_after_it(tmp_path: Path) -> None:
    """Two that were decided get one head, and no answer before it."""
    told = Told(tmp_path)
    for _ in range(2):
        told.plant.handle(told.token())
    assert told.answered == []
    told.plant.commit()
    (first, one), (second, two) = told.answered
    assert first is not second
    assert one.made != two.made
    assert one.head is not None
    assert one.head == two.head


def test_a_failed_commit_is_told_to_all_who_wait_for_it(tmp_path: Path) -> None:
    """Nothing is left of what they asked, and by the same key it is done once."""
    told = Told(tmp_path)
    request = told.token()
    told.plant.handle(request)
    told.sim.switches.fail_commits = 1
    with pytest.raises(JournalUnavailable):
        told.plant.commit()
    assert (told.again, told.answered) == ([request], [])
    told.plant.handle(request)
    assert told.again == [request, request]
    assert told.plant.recover()
    told.plant.handle(request)
    told.plant.commit()
    assert [one for one, _ in told.answered] == [request]
    assert told.plant.witness.violations == []


def test_a_crash_leaves_clients_without_an_answer(tmp_path: Path) -> None:
    """Between the commit and the reply: it is done, and the same key does not do it again."""
    told = Told(tmp_path)
    request = told.token()
    told.plant.handle(request)
    told.sim.switches.armed = ["crash-after-append"]
    with pytest.raises(Crash):
        told.plant.commit()
    assert told.plant.die() == [request]
    told.plant.boot()
    request.expect = "conflict"
    told.plant.handle(request)
    told.plant.commit()
    assert told.answered == []
    assert told.plant.witness.violations == []
    assert told.plant.witness.notebook.denied["IssueToken: conflict"] == 1


def test_every_kind_of_request_is_made_again_and_again() -> None:
    """Forty short worlds make nearly all; two that are long, all that is common."""
    asked: Counter[str] = Counter()
    for seed in range(40):
        asked.update(run_seed(seed, "short").requests)
    assert set(ROUTES) - set(asked) <= {"IssueCreditNote", "RevokeToken"}
    worlds: Counter[str] = Counter()
    for seed in (0, 4):
        worlds.update(run_seed(seed, "long").requests)
    assert set(ROUTES) - set(worlds) <= {"IssueCreditNote", "EraseTenant", "ApplyWorkload"}
    assert worlds["Submit"] >= 60
    assert worlds["Stop"] >= 160
