"""The SDK: typed answers, each thing done once however often the network fails, and a journal that can't go back."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from headrace.api.inline import call
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.sdk import ApiError, Client, HeadWentBack, Unreachable
from tests.api.small import FJORD, JOB, TOKENS, Small, small


class Wire(httpx.BaseTransport):
    """The network between client and app; ``faults`` says what goes wrong with each request, in turn."""

    def __init__(self, world: Small) -> None:
        self.world = world
        self.faults: list[str] = []
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "refused":
            raise httpx.ConnectError("refused")
        path = request.url.raw_path.decode()
        status, headers, body = call(
            self.world.app, request.method, path, dict(request.headers), request.read()
        )
        if fault == "lost":
            raise httpx.ReadError("the answer was lost")
        return httpx.Response(status, headers=headers, content=body)


class Made:
    """A client, its wire, and how long it slept."""

    def __init__(self, world: Small, token: str) -> None:
        self.world, self.wire = world, Wire(world)
        self.slept: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None
        self.client = Client("http://headrace", TOKENS[token], transport=self.wire, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.on_sleep()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Small]:
    found = small(tmp_path)
    yield found
    found.store.close()


@pytest.fixture
def fjord(world: Small) -> Iterator[Made]:
    made = Made(world, "fjord")
    yield made
    made.client.close()


@pytest.fixture
def admin(world: Small) -> Iterator[Made]:
    made = Made(world, "admin")
    yield made
    made.client.close()


def test_a_tenants_client_submits_to_its_own_tenant(fjord: Made) -> None:
    """Nobody has to say the tenant that the token already says."""
    made = fjord.client.submit(JOB)
    assert made.workloads == ("fjord-ai-1",)
    assert fjord.client.workload("fjord-ai-1").workload.name == "train"
    assert [one.id for one in fjord.client.workloads(live=True)] == ["fjord-ai-1"]
    assert "first in the queue" in fjord.client.explain("fjord-ai-1").line


def test_many_workloads_go_in_requests_of_a_thousand_each_with_its_own_key(fjord: Made) -> None:
    """2,500 workloads are three requests, and come back in order."""
    made = fjord.client.submit([JOB] * 2_500, tenant=FJORD, key="k")
    assert made.workloads == tuple(f"fjord-ai-{number}" for number in range(1, 2_501))
    keys = [request.headers["idempotency-key"] for request in fjord.wire.sent]
    assert keys == ["k", "k/1", "k/2"]
    assert len(list(fjord.client.workloads())) == 2_500


def test_a_large_batch_is_split_before_it_is_too_large(fjord: Made) -> None:
    """Bodies stay below the API's limit whatever the workloads hold."""
    big = dict(JOB, env={f"V{number}": "x" * 30_000 for number in range(10)})
    fjord.client.submit([big] * 40, tenant=FJORD)
    assert len(fjord.wire.sent) == 4
    assert all(len(request.content) <= 4 * 1024 * 1024 + 1_000 for request in fjord.wire.sent)


@pytest.mark.parametrize("faults", [["lost"], ["lost", "refused", "lost"], ["refused"]])
def test_a_submission_whose_answer_is_lost_is_repeated_and_happens_once(
    fjord: Made, faults: list[str]
) -> None:
    """The repetition has the same key, so that the workload exists once."""
    fjord.wire.faults = list(faults)
    made = fjord.client.submit(JOB, tenant=FJORD)
    assert made.workloads == ("fjord-ai-1",)
    assert len(fjord.world.control.world.state.workloads) == 1
    assert len(fjord.slept) == len(faults)


def test_what_is_not_safe_to_repeat_is_not_repeated(admin: Made) -> None:
    """A token whose answer was lost is not made a second time; one whose request never left is."""
    admin.wire.faults = ["lost"]
    with pytest.raises(Unreachable):
        admin.client.issue_token("tenant-member", FJORD)
    assert len(admin.wire.sent) == 1
    admin.wire.faults = ["refused"]
    assert admin.client.issue_token("tenant-member", FJORD).value.startswith("hr_")


def test_a_full_disk_is_waited_for_and_then_given_up(fjord: Made) -> None:
    """503 keeps nothing, and is tried again: with success when the disk is back, with its problem when it is not."""
    fjord.world.store.full = True

    def back() -> None:
        if len(fjord.slept) == 3:
            fjord.world.store.full = False
            fjord.world.control.recover()

    fjord.on_sleep = back
    assert fjord.client.submit(JOB, tenant=FJORD).workloads == ("fjord-ai-1",)
    fjord.on_sleep = lambda: None
    fjord.world.store.full = True
    with pytest.raises(ApiError) as caught:
        fjord.client.submit(JOB, tenant=FJORD, key="mine")
    assert caught.value.problem.code is ProblemCode.JOURNAL_UNAVAILABLE
    assert "'mine'" in caught.value.__notes__[0]


def test_an_error_has_every_problem_with_its_next_step(fjord: Made) -> None:
    """What the API said is what is raised."""
    with pytest.raises(ApiError) as caught:
        fjord.client.submit([dict(JOB, nodes=-1), dict(JOB, comands=[])])
    assert caught.value.status == 400
    assert [problem.where for problem in caught.value.problems] == [
        "/workloads/0/nodes",
        "/workloads/1/comands",
    ]
    assert "Did you mean commands?" in caught.value.problems[1].next_step


def test_an_address_where_nobody_answers_is_named(fjord: Made) -> None:
    """After its patience the client says where it looked and what may be wrong."""
    fjord.wire.faults = ["refused"] * 100
    with pytest.raises(Unreachable, match="http://headrace"):
        fjord.client.status()
    assert sum(fjord.slept) <= 15


def test_an_answer_that_is_none_of_ours_is_said_to_be_none() -> None:
    """Another server at that address gives an error, not a crash."""
    transport = httpx.MockTransport(lambda _: httpx.Response(418, text="<html>teapot</html>"))
    with Client("http://other", "t", transport=transport) as client, pytest.raises(ApiError, match="418"):
        client.status()


def test_a_head_that_goes_back_or_forks_is_refused(tmp_path: Path, world: Small) -> None:
    """A client that saw a journal's head notices another journal, shorter or as long, and says so."""
    first = Made(world, "fjord")
    first.client.submit([JOB] * 5)
    kept = first.client.head
    assert kept is not None
    (tmp_path / "other").mkdir()
    other = small(tmp_path / "other")
    for jobs in (1, 4):
        again = Made(other, "fjord")
        again.client._api.head = kept
        with pytest.raises(HeadWentBack):
            again.client.submit([JOB] * jobs)
        again.client.close()
    first.client.close()
    other.store.close()


def test_logs_are_followed_to_the_end_of_the_workload(fjord: Made) -> None:
    """All that was written comes, in order, and the iterator ends when the workload has."""
    fjord.client.submit(dict(JOB, commands=["echo hello", "sleep 5"]))
    fjord.on_sleep = lambda: fjord.world.run(1)
    text = b"".join(fjord.client.logs("fjord-ai-1"))
    assert fjord.client.workload("fjord-ai-1").workload.state in ("succeeded", "failed")
    assert text == b"".join(fjord.client.logs("fjord-ai-1", follow=False))


def test_waiting_ends_with_the_state_or_says_why_not(fjord: Made) -> None:
    """It returns in the state; another end is an error; a state that never comes is a timeout."""
    fjord.client.submit([JOB, JOB])
    fjord.on_sleep = lambda: fjord.world.run(1)
    assert fjord.client.wait("fjord-ai-1", {"running"}).state == "running"
    with pytest.raises(TimeoutError, match="still running"):
        fjord.client.wait("fjord-ai-1", {"succeeded"}, timeout=3)
    fjord.client.stop("fjord-ai-1")
    with pytest.raises(HeadraceError, match="is stopped"):
        fjord.client.wait("fjord-ai-1", {"succeeded"})


def test_the_operators_client_sees_and_steers_the_estate(admin: Made) -> None:
    """Sites, nodes, power, documents, draining: typed."""
    assert [site.id for site in admin.client.sites()] == ["glomfjord", "loughton"]
    nodes = list(admin.client.nodes())
    assert len(nodes) == 8
    assert admin.client.drain([nodes[0].id], reason="test").nodes == (nodes[0].id,)
    assert next(iter(admin.client.nodes())).state == "draining"
    assert admin.client.undrain([nodes[0].id]).nodes == (nodes[0].id,)
    assert next(iter(admin.client.power("loughton"))).kind == "connection"
    shown = admin.client.apply("kind: tenant\nname: new\nprojects: [p]\n", dry_run=True)
    assert (shown.dry_run, shown.changes[0].what) == (True, "created")
    assert (
        admin.client.apply([{"kind": "tenant", "name": "new", "projects": ["p"]}]).changes[0].what
        == "created"
    )
    assert admin.client.document("tenant", "new").document["projects"] == ["p"]
    assert admin.client.remove("tenant", "new").changes[0].what == "removed"


def test_money_is_typed_from_the_draft_to_the_credit_note(admin: Made) -> None:
    """A draft, an invoice, its lines' events, a credit note, what is due."""
    admin.client.submit(JOB, tenant=FJORD)
    admin.world.run(20)
    (draft,) = admin.client.draft_invoices(FJORD, "2026-11")
    (number,) = admin.client.issue_invoices(FJORD, "2026-11").invoices
    invoice = admin.client.invoice(number)
    assert invoice.invoice.lines == draft.invoice.lines
    assert admin.client.line_events(number, 1).rows
    admin.client.credit(number, 1_000, "goodwill")
    assert admin.client.invoice(number).due_micros == invoice.due_micros - 1_000
    assert admin.client.proof(admin.client.line_events(number, 1).rows[0].seq).path


def test_where_to_connect_comes_from_the_environment_or_from_what_up_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment goes first; without both it is said what to set."""
    for name in ("HEADRACE_URL", "HEADRACE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADRACE_STATE", str(tmp_path))
    with pytest.raises(HeadraceError, match="HEADRACE_URL"):
        Client.from_env()
    (tmp_path / "client.json").write_text(json.dumps({"url": "http://left:1", "token": "hr_left"}))
    with Client.from_env() as client:
        assert "left" in str(client._api._http.base_url)
    monkeypatch.setenv("HEADRACE_URL", "http://said:2")
    monkeypatch.setenv("HEADRACE_TOKEN", "hr_said")
    with Client.from_env() as client:
        assert "said" in str(client._api._http.base_url)
    monkeypatch.delenv("HEADRACE_TOKEN")
    (tmp_path / "client.json").write_text("{")
    with pytest.raises(HeadraceError, match="can't be read"):
        Client.from_env()
