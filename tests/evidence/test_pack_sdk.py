"""The client's methods for evidence: what is written is a whole pack, or there is an error."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.api.inline import call
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.sdk import Client
from tests.api.small import JOB, TOKENS, Small, small
from tests.evidence.packs import judged


class Broken(httpx.SyncByteStream):
    """An answer that ends, or fails, before its end."""

    def __init__(self, data: bytes, *, fails: bool) -> None:
        self.data, self.fails = data, fails

    def __iter__(self) -> Iterator[bytes]:
        yield self.data
        if self.fails:
            raise httpx.ReadError("the line was cut")


class Wire(httpx.BaseTransport):
    """The network between client and app. ``keep``: how many bytes of an answer come; ``fails``: whether an error follows."""

    def __init__(self, world: Small) -> None:
        self.world, self.fails = world, False
        self.keep: int | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        status, headers, body = call(
            self.world.app, request.method, path, dict(request.headers), request.read()
        )
        if self.keep is None:
            return httpx.Response(status, headers=headers, content=body)
        return httpx.Response(status, headers=headers, stream=Broken(body[: self.keep], fails=self.fails))


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    """A control plane with some work."""
    world = small(tmp_path)
    world.submit(JOB)
    world.run(3)
    yield Wire(world)
    world.store.close()


def _client(wire: Wire, token: str) -> Client:
    return Client("http://headrace", TOKENS[token], transport=wire, sleep=lambda _: None)


def test_a_tenants_admin_gets_its_own_pack_and_what_to_keep(wire: Wire) -> None:
    """Without saying which tenant: the token says it."""
    with _client(wire, "fjord") as client:
        kept = client.evidence_checkpoint()
        written: list[bytes] = []
        closing = client.evidence_pack(written.append, checkpoints=[kept.closing["head"]["size"]])
    lines = b"".join(written).splitlines(keepends=True)
    assert judged(lines, wire.world.control.keys.public).tenant == closing["tenant"] == "fjord-ai"
    assert closing["count"] >= kept.closing["count"] > 0


@pytest.mark.parametrize(("keep", "fails"), [(0, False), (2_000, False), (2_000, True), (-2, False)])
def test_a_pack_that_breaks_off_is_an_error(wire: Wire, keep: int, fails: bool) -> None:
    """However politely the line ends."""
    wire.keep, wire.fails = keep, fails
    with _client(wire, "fjord") as client, pytest.raises(HeadraceError) as error:
        client.evidence_pack(lambda _: None, "fjord-ai")
    assert error.value.problem.code is ProblemCode.BROKEN
    assert "broke off" in str(error.value)


def test_what_the_api_refuses_is_its_own_problem(wire: Wire) -> None:
    """With the words and the code that the API has for it; nothing is written."""
    written: list[bytes] = []
    with _client(wire, "albion") as client, pytest.raises(HeadraceError) as error:
        client.evidence_pack(written.append, "fjord-ai")
    assert error.value.problem.code is ProblemCode.NOT_FOUND
    assert written == []
