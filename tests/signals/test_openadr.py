"""The client of a grid operator's server, against a server that is held to the published document; and against bad ones."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import openadr3
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headrace.core.ids import SiteId
from headrace.core.power.openadr_reports import Metered
from headrace.core.power.openadr_times import schedule_of
from headrace.lab.vtn import Client, Faults, Vtn
from headrace.signals.declared import VtnModel, load_signals
from headrace.signals.openadr import Ven, VenState
from headrace.signals.openadr_http import VtnClient, VtnError
from tests.lab.oracle import BASE, Judge, Judged

SITE = SiteId("fjord")
T0 = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000
CLIENTS = {"ven": Client("ven", "ven-secret", "ven"), "operator": Client("operator", "o", "operator")}
DECLARED = """
kind: vtn
name: grid
url: {url}
client: ven
secret: {secret}
ven: headrace
{more}
sites:
  fjord: {{connection: 50MW, simple: [80%, 60%, 10MW], emergency: 8MW, unreadable: 5MW, targets: [no4]}}
"""


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at_ms = T0

    def now_ms(self) -> int:
        """What it shows."""
        return self.at_ms


class OneMeter:
    """A site that draws 10 MW whenever it is asked."""

    def metered(self, _site: SiteId, from_ms: int, until_ms: int) -> Metered | None:
        """So much."""
        lasts_ms = until_ms - from_ms
        return Metered(10_000_000 * lasts_ms, 10_000_000, 12_000_000, 10_000_000, "measured")


def declared(folder: Path, url: str = BASE, more: str = "") -> VtnModel:
    """A declaration of one VTN and one site."""
    secret = folder / "secret"
    secret.write_text("ven-secret\n")
    secret.chmod(0o600)
    path = folder / "signals.yaml"
    path.write_text(DECLARED.format(url=url, secret=secret, more=more))
    path.chmod(0o644)
    (found,) = load_signals(path)
    return found


@pytest.fixture(scope="module")
def judge() -> Judge:
    """One judge for all."""
    return Judge()


class Play:
    """A VEN, a VTN, and a clock for both; all that passes between them is judged by the document."""

    def __init__(self, folder: Path, judge: Judge, more: str = "", *, is_judged: bool = True) -> None:
        self.clock = Hands()
        self.vtn = Vtn(CLIENTS, base_url=BASE, now_ms=self.clock.now_ms)
        self.program = self.vtn.put("programs", {"programName": "flex"})["id"]
        self.direct = httpx.ASGITransport(app=self.vtn.app)
        self.judged = Judged(self.direct, judge)
        self.way = self.judged if is_judged else self.direct
        self.ven = self.client(declared(folder, more=more))

    def client(self, vtn: VtnModel) -> Ven:
        """A VEN of this VTN."""
        return Ven(vtn, self.clock, OneMeter(), transport=self.way, chance=random.Random(1))

    def say(self, value: Any = 20, kind: str = "IMPORT_CAPACITY_LIMIT", **more: Any) -> str:
        """An event of an hour from now on; its id."""
        start = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.clock.at_ms)).isoformat()
        said = {
            "programID": self.program,
            "payloadDescriptors": [
                {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "units": "MW"}
            ],
            "intervalPeriod": {"start": start, "duration": "PT1H"},
            "intervals": [{"id": 0, "payloads": [{"type": kind, "values": [value]}]}],
        }
        return str(self.vtn.put("events", said | more)["id"])

    def limit(self) -> int | None:
        """What holds now, in megawatts."""
        found = self.ven.state.heard.limit_w(SITE, self.clock.at_ms)
        return None if found is None else found // 10**6


@pytest.fixture
def play(tmp_path: Path, judge: Judge) -> Play:
    """One play for a test."""
    return Play(tmp_path, judge)


def act(play: Play, body: Callable[[], Awaitable[None]]) -> None:
    """Play it; the document has nothing against anything that was said."""

    async def whole() -> None:
        await body()
        await play.ven.aclose()

    asyncio.run(whole())
    assert play.judged.wrong == []
    assert play.judged.count


def test_what_the_grid_says_holds_until_it_is_withdrawn_or_over(play: Play) -> None:
    """Given, changed, withdrawn, ended: at each poll what the list says."""

    async def body() -> None:
        assert await play.ven.listen() == 30_000
        assert play.limit() is None
        event = play.say(20)
        await play.ven.listen()
        assert play.limit() == 20
        payloads = play.vtn.all("events")[0]["intervals"][0]["payloads"]
        payloads[0]["values"] = [15]
        await play.ven.listen()
        assert play.limit() == 15
        play.vtn.remove("events", event)
        await play.ven.listen()
        assert play.limit() is None
        play.say(12)
        await play.ven.listen()
        play.clock.at_ms += HOUR
        assert play.limit() is None
        assert play.ven.state.trouble == ""
        assert play.ven.state.findings == ()

    act(play, body)


def test_each_signal_is_followed_and_reported_back(play: Play) -> None:
    """The four of them; acknowledged once, and reported on when the hour is over."""

    async def body() -> None:
        asked = [{"payloadType": "USAGE", "units": "KWH"}, {"payloadType": "OPERATING_STATE"}]
        play.say(20, reportDescriptors=asked)
        play.say(25, "DISPATCH_SETPOINT")
        play.say(2, "SIMPLE")
        play.say("frequency is low", "ALERT_GRID_EMERGENCY")
        await play.ven.listen()
        found = {one.note.split()[0]: one for one in play.ven.state.heard.instructions}
        limits = {kind: one.limit_w for kind, one in found.items()}
        assert limits == {
            "IMPORT_CAPACITY_LIMIT": 20_000_000,
            "DISPATCH_SETPOINT": 25_000_000,
            "SIMPLE": 30_000_000,
            "ALERT_GRID_EMERGENCY": 8_000_000,
        }
        assert found["ALERT_GRID_EMERGENCY"].urgency == "emergency"
        for _ in range(3):
            await play.ven.tell()
        assert [one["reportName"][:12] for one in play.vtn.all("reports")] == ["acknowledged"] * 4
        play.clock.at_ms += HOUR
        for _ in range(3):
            await play.ven.listen()
            await play.ven.tell()
        usage, state = play.vtn.all("reports")[4:]
        assert usage["resources"][0]["resourceName"] == "fjord"
        assert usage["resources"][0]["intervals"][0]["payloads"] == [
            {"type": "USAGE", "values": [10_000.0]},
            {"type": "DATA_QUALITY", "values": ["OK"]},
        ]
        assert state["resources"][0]["intervals"][0]["payloads"][0]["type"] == "OPERATING_STATE"
        assert play.ven.state.reports == 6

    act(play, body)


def test_a_restart_reports_nothing_twice(play: Play, tmp_path: Path) -> None:
    """What the VTN has of us is what was sent."""

    async def body() -> None:
        play.say(20, reportDescriptors=[{"payloadType": "USAGE"}])
        await play.ven.listen()
        play.clock.at_ms += HOUR - 1
        await play.ven.tell()
        play.clock.at_ms += 1
        await play.ven.tell()
        other = play.client(declared(tmp_path))
        await other.listen()
        await other.tell()
        assert len(play.vtn.all("reports")) == 2
        assert len(play.vtn.all("vens")) == len(play.vtn.all("resources")) == 1
        await other.aclose()

    act(play, body)


def test_it_registers_itself_and_its_sites_once(play: Play) -> None:
    """With what the connection carries; a connection that grows is told."""

    async def body() -> None:
        await play.ven.listen()
        (ven,), (resource,) = play.vtn.all("vens"), play.vtn.all("resources")
        assert (ven["venName"], resource["resourceName"]) == ("headrace", "fjord")
        assert resource["attributes"] == [{"type": "MAX_POWER_CONSUMPTION", "values": [50_000.0]}]
        play.clock.at_ms += 2 * HOUR
        resource["attributes"] = []
        await play.ven.tell()
        assert play.vtn.all("resources")[0]["attributes"] == [
            {"type": "MAX_POWER_CONSUMPTION", "values": [50_000.0]}
        ]
        assert len(play.vtn.all("vens")) == 1

    act(play, body)


def test_what_means_us_alone_is_heard_when_it_is_granted(play: Play) -> None:
    """Targets are asked for one by one, and what is shown twice is one event."""

    async def body() -> None:
        play.say(20)
        play.say(10, targets=["no4"])
        play.say(1, targets=["somebody"])
        await play.ven.listen()
        assert play.limit() == 20
        play.vtn.all("vens")[0]["targets"] = ["no4"]
        await play.ven.listen()
        assert play.limit() == 10
        assert len(play.ven.state.heard.instructions) == 2

    act(play, body)


@pytest.mark.parametrize("count", [49, 50, 51, 120])
def test_all_pages_are_read(play: Play, count: int) -> None:
    """The strictest event may stand on the last."""

    async def body() -> None:
        for number in range(count):
            play.say(40 if number < count - 1 else 7)
        await play.ven.listen()
        assert play.ven.state.heard.events == count
        assert play.limit() == 7

    act(play, body)


def test_a_server_that_gives_the_same_page_for_ever_withdraws_nothing(play: Play) -> None:
    """What may be hidden is not gone: it holds until its end, and that is told."""

    async def body() -> None:
        for _ in range(60):
            play.say(40)
        play.say(7)
        await play.ven.listen()
        assert play.limit() == 7
        play.vtn.faults.ignores_skip = True
        await play.ven.listen()
        assert play.limit() == 7
        assert [one.code for one in play.ven.state.findings] == ["partial"]
        play.clock.at_ms += HOUR
        assert play.limit() is None

    act(play, body)


def test_a_list_in_any_order_and_twice_says_the_same(play: Play) -> None:
    """Repeated and reordered, poll after poll."""

    async def body() -> None:
        for value in (40, 20, 30):
            play.say(value)
        await play.ven.listen()
        before = play.ven.state.heard.instructions
        play.vtn.faults.repeats, play.vtn.faults.shuffle = True, random.Random(7)
        for _ in range(5):
            await play.ven.listen()
            assert play.ven.state.heard.instructions == before

    act(play, body)


def test_an_event_that_is_missing_from_the_list_and_still_there_still_holds(play: Play) -> None:
    """Lists shift while they are read: what is missing counts as withdrawn when the server says that it is gone."""

    async def body() -> None:
        event = play.say(20)
        await play.ven.listen()
        play.vtn.faults.hides = frozenset({event})
        await play.ven.listen()
        assert play.limit() == 20
        assert f"GET /events/{event}" in play.vtn.asked
        play.vtn.remove("events", event)
        await play.ven.listen()
        assert play.limit() is None

    act(play, body)


def test_an_event_of_which_the_server_can_not_say_that_it_is_gone_still_holds(
    tmp_path: Path, judge: Judge
) -> None:
    """Only a plain no withdraws it; anything else is a poll that failed."""
    play = Play(tmp_path, judge, is_judged=False)

    async def body() -> None:
        event = play.say(20)
        await play.ven.listen()
        play.vtn.remove("events", event)
        play.vtn.faults.paths, play.vtn.faults.status = ("/events/",), 500
        await play.ven.listen()
        assert (play.limit(), play.ven.state.trouble) == (20, f"GET /events/{event} gave 500: Problem")
        play.vtn.faults.status = 0
        await play.ven.listen()
        assert (play.limit(), play.ven.state.trouble) == (None, "")

    asyncio.run(body())


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("it is broken", {"status": 500}, "gave 500"),
    ("it is busy", {"status": 503, "retry_after": "120"}, "gave 503"),
    ("it refuses us", {"status": 403}, "gave 403"),
    ("it knows us no more", {"status": 401}, "gave 401"),
    ("it talks nonsense", {"garbage": b"<html>"}, "no JSON"),
    ("it gives no list", {"garbage": b"{}"}, "gave no list"),
    ("it nests without end", {"garbage": b"[" * 200_000}, "no JSON"),
    ("it is slow", {"stall_s": 2}, "no answer in 100 ms"),
]


@pytest.mark.parametrize(("faults", "words"), [one[1:] for one in FAULTS], ids=[one[0] for one in FAULTS])
def test_when_it_can_not_be_heard_what_was_heard_holds_until_its_end(
    faults: dict[str, Any], words: str, tmp_path: Path, judge: Judge
) -> None:
    """And that is visible, with why; when it is back, it is heard again."""
    play = Play(tmp_path, judge, more="deadline: 100ms", is_judged=False)

    async def body() -> None:
        event = play.say(20)
        await play.ven.listen()
        good = play.ven.state
        for name, value in faults.items():
            setattr(play.vtn.faults, name, value)
        waits = [await play.ven.listen() for _ in range(9)]
        state = play.ven.state
        assert words in state.trouble
        assert state.heard == good.heard
        assert state.heard_ms == good.heard_ms
        assert "1 instructions heard 0 s ago hold until their end" in state.line(play.clock.at_ms)
        least, most = (120_000, 120_000) if "retry_after" in faults else (500, 60_000)
        assert all(least <= wait <= most for wait in waits)
        assert "retry_after" in faults or waits[-1] > waits[0]
        play.clock.at_ms += HOUR
        assert play.ven.state.instructions(play.clock.at_ms) == ()
        play.clock.at_ms -= HOUR
        for name in faults:
            setattr(play.vtn.faults, name, getattr(Faults(), name))
        play.vtn.remove("events", event)
        assert await play.ven.listen() == 30_000
        assert (play.limit(), play.ven.state.trouble) == (None, "")

    asyncio.run(body())


def test_a_token_is_fetched_once_and_renewed_when_it_is_refused_or_near_its_end(
    play: Play, tmp_path: Path
) -> None:
    """One token for many calls; a revoked one costs one more call and no poll."""
    now = [0.0]
    client = VtnClient(declared(tmp_path), play.clock.now_ms, play.judged, lambda: now[0])

    async def body() -> None:
        def tokens() -> int:
            return play.vtn.asked.count("POST /auth/token")

        for _ in range(3):
            await client.list("events")
        assert tokens() == 1
        play.vtn.revoke()
        await client.list("events")
        assert tokens() == 2
        now[0] += 3_600 * 0.8 - 1
        await client.list("events")
        assert tokens() == 2
        now[0] += 1
        await client.list("events")
        assert tokens() == 3
        await client.aclose()

    act(play, body)


def test_a_secret_that_was_changed_is_read_again(play: Play, tmp_path: Path) -> None:
    """No restart for a new secret; a wrong one is told without being shown."""

    async def body() -> None:
        (tmp_path / "secret").write_text("old-and-wrong")
        await play.ven.listen()
        assert "no token: 401" in play.ven.state.trouble
        assert "old-and-wrong" not in play.ven.state.trouble
        (tmp_path / "secret").write_text("ven-secret")
        await play.ven.listen()
        assert play.ven.state.trouble == ""

    act(play, body)


@pytest.mark.parametrize(
    "url", ["http://elsewhere.example/token", "https://elsewhere.example/token", "ftp://x", "//"]
)
def test_the_secret_goes_to_no_other_host(play: Play, url: str) -> None:
    """A VTN that sends for tokens elsewhere gets nothing, unless the operator declared that address."""

    async def body() -> None:
        play.vtn.faults.paths = ("/auth/server",)
        play.vtn.faults.garbage = f'{{"tokenURL": "{url}"}}'.encode()
        await play.ven.listen()
        assert "declare it as token_url" in play.ven.state.trouble
        assert "POST /auth/token" not in play.vtn.asked

    asyncio.run(body())


@pytest.mark.parametrize("hours", [1, -1])
def test_a_server_whose_clock_is_an_hour_off_is_named_and_held_by_both_clocks(play: Play, hours: int) -> None:
    """It is seen in each answer's Date."""

    async def body() -> None:
        play.vtn.faults.skew_ms = hours * HOUR
        play.say(20)
        await play.ven.listen()
        (one,) = play.ven.state.heard.instructions
        assert one.until_ms - one.from_ms == 2 * HOUR
        (finding,) = play.ven.state.findings
        assert finding.code == "skew"

    act(play, body)


def test_a_hostile_list_is_survived(tmp_path: Path, judge: Judge) -> None:
    """NaN, no ids, no objects, absurd numbers and 10,000 events: the good one among them holds, nothing raises."""
    play = Play(tmp_path, judge, is_judged=False)

    async def body() -> None:
        play.say(20)
        bad = play.vtn.all("events")[0]
        payloads = [{"type": "IMPORT_CAPACITY_LIMIT", "values": [float("nan")]}]
        play.vtn.faults.more_events = [
            7, None, [], {}, {"id": 7}, {"id": "../../vens"}, {**bad, "id": "n", "intervals": [{"id": 0, "payloads": payloads}]},
            *({**bad, "id": f"e{number}"} for number in range(10_000)),
        ]  # fmt: skip
        await play.ven.listen()
        assert play.ven.state.trouble == ""
        assert play.limit() == 5
        assert {"unreadable", "no_id", "too_many"} <= {one.code for one in play.ven.state.findings}
        await play.ven.tell()

    asyncio.run(body())


def test_an_answer_without_end_is_cut_off(tmp_path: Path) -> None:
    """More than 16 MiB is not read; neither is what trickles beyond the deadline."""

    async def body() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(40):
                await send({"type": "http.response.body", "body": b" " * (1 << 20), "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        client = VtnClient(declared(tmp_path), Hands().now_ms, httpx.ASGITransport(app=app))
        with pytest.raises(VtnError, match="more than 16 MiB"):
            await client.list("events")
        await client.aclose()

    asyncio.run(body())


def test_programs_that_are_declared_are_followed_alone_and_a_missing_one_is_told(
    tmp_path: Path, judge: Judge
) -> None:
    """By name; one that is hidden later is still asked for by its id."""
    play = Play(tmp_path, judge, more="programs: [flex, gone]")

    async def body() -> None:
        other = play.vtn.put("programs", {"programName": "other"})["id"]
        play.say(20)
        play.say(1, programID=other)
        await play.ven.listen()
        assert play.limit() == 20
        (finding,) = play.ven.state.findings
        assert "shows us no program 'gone'" in finding.message
        play.vtn.all("programs")[0]["programName"] = "renamed"
        await play.ven.listen()
        assert play.limit() == 20
        assert len(play.ven.state.findings) == 2

    act(play, body)


def test_reports_that_are_refused_are_told_and_not_tried_for_ever(play: Play) -> None:
    """And they keep nobody from hearing."""

    async def body() -> None:
        event = play.say(20)
        play.say(30)
        await play.ven.listen()
        # A report on what was withdrawn meanwhile is refused.
        play.vtn.remove("events", event)
        for _ in range(3):
            await play.ven.tell()
        assert play.vtn.asked.count("POST /reports") == 2
        assert play.ven.state.reports == 1
        (finding,) = play.ven.state.findings
        assert "is refused: POST /reports gave 409" in finding.message
        await play.ven.listen()
        assert play.limit() == 30

    act(play, body)


def test_reports_that_can_not_be_sent_keep_nobody_from_hearing_and_are_sent_later(
    tmp_path: Path, judge: Judge
) -> None:
    """Told as a finding until they went through."""
    play = Play(tmp_path, judge, is_judged=False)

    async def body() -> None:
        play.say(20)
        await play.ven.listen()
        play.vtn.faults.paths, play.vtn.faults.status = ("/reports",), 500
        await play.ven.tell()
        (finding,) = play.ven.state.findings
        assert "reports can't be sent" in finding.message
        await play.ven.listen()
        assert (play.limit(), play.ven.state.trouble) == (20, "")
        play.vtn.faults.status = 0
        await play.ven.tell()
        assert (play.ven.state.reports, play.ven.state.findings) == (1, ())

    asyncio.run(body())


# Over sockets.


@contextmanager
def served(vtn: Vtn, **ssl_files: Any) -> Iterator[int]:
    """The server on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        vtn.base_url = f"{'https' if ssl_files else 'http'}://127.0.0.1:{port}"
        config = uvicorn.Config(vtn.app, log_level="critical", lifespan="off", date_header=False, **ssl_files)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(10)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file


def test_a_certificate_that_nobody_vouches_for_is_refused_and_a_declared_authority_is_taken(
    tmp_path: Path,
) -> None:
    """TLS is verified, and there is no way to turn that off."""
    key, signed = certificate(tmp_path)
    vtn = Vtn(CLIENTS)
    vtn.put("programs", {"programName": "flex"})
    with served(vtn, ssl_keyfile=str(key), ssl_certfile=str(signed)) as port:
        url = f"https://127.0.0.1:{port}"

        async def state(more: str) -> VenState:
            ven = Ven(declared(tmp_path, url, more), Hands())
            await ven.listen()
            await ven.aclose()
            return ven.state

        assert "CERTIFICATE_VERIFY_FAILED" in asyncio.run(state("")).trouble
        assert asyncio.run(state(f"ca: {signed}")).trouble == ""


def test_an_independent_client_reads_and_writes_the_same_server(tmp_path: Path) -> None:
    """Two minds agree on the protocol: what another library announces we hear, and what we report it reads."""
    vtn = Vtn(CLIENTS)
    with served(vtn) as port:
        url = f"http://127.0.0.1:{port}"
        with openadr3.OpenADRClient(url, openadr3.fetch_token(url, "operator", "o")) as grid:
            program = grid.create_program({"programName": "flex"}).json()["id"]
            now = datetime.now(UTC)
            said = {
                "programID": program,
                "eventName": "cold morning",
                "payloadDescriptors": [
                    {
                        "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
                        "payloadType": "IMPORT_CAPACITY_LIMIT",
                        "units": "KW",
                    }
                ],
                "intervalPeriod": {"start": now.isoformat(), "duration": "PT1H"},
                "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [20_000]}]}],
            }
            assert openadr3.success(grid.create_event(said))

            async def listen() -> VenState:
                clock = Hands()
                clock.at_ms = int(time.time() * 1000)
                ven = Ven(declared(tmp_path, url), clock)
                await ven.listen()
                await ven.tell()
                await ven.aclose()
                return ven.state

            state = asyncio.run(listen())
            assert [one.limit_w for one in state.heard.instructions] == [20_000_000]
            (event,) = grid.events()
            (window,) = event.resolved_intervals()
            assert window.interval_period is not None
            assert window.interval_period.period is not None
            begin, end = (int(each.timestamp() * 1000) for each in window.interval_period.period)
            assert (state.heard.instructions[0].from_ms, state.heard.instructions[0].until_ms) == (begin, end)
            (report,) = grid.reports()
            assert report.client_name == "headrace"
            assert report.resources[0].intervals[0].payloads[0].values == ["RUNNING_CURTAILED"]
            (ven,), (resource,) = grid.vens(), grid.resources()
            assert (ven.ven_name, resource.resource_name) == ("headrace", "fjord")
            assert openadr3.success(grid.delete_event(event.id or ""))
        with openadr3.OpenADRClient(url, openadr3.fetch_token(url, "ven", "ven-secret")) as other:
            assert other.create_event(said).status_code == 403
            assert [one.program_name for one in other.programs()] == ["flex"]


def times_of(said: dict[str, Any]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """From when until when each interval of an event is: as we read it, and as another library does."""
    ours = [(slot.latest_ms, slot.end_ms) for slot in schedule_of(said, T0).slots]
    theirs = []
    event = openadr3.Event.from_raw(said)
    assert isinstance(event, openadr3.Event)
    for one in event.resolved_intervals():
        assert one.interval_period is not None
        assert one.interval_period.period is not None
        begin, end = one.interval_period.period
        theirs.append((int(begin.timestamp() * 1000), int(end.timestamp() * 1000)))
    return ours, theirs


@pytest.mark.parametrize("seed", range(40))
def test_an_independent_library_gives_intervals_the_same_times(seed: int) -> None:
    """Starts and durations that intervals say themselves or take over, one after another."""
    chance = random.Random(seed)
    # Whole seconds: theirs drops the parts of them.
    lengths = ["PT1H", "PT90M", "P1D", "P1W", "PT5S", "P2DT3H4M5S"]
    listed: list[dict[str, Any]] = []
    for number in range(chance.randrange(1, 6)):
        own = {"duration": chance.choice(lengths)} if chance.random() < 0.5 else {}
        listed.append({"id": number, "payloads": []} | ({"intervalPeriod": own} if own else {}))
    # Its own start: in the last alone, for theirs adds up the durations before an interval and forgets starts on the way.
    if chance.random() < 0.5:
        listed[-1]["intervalPeriod"] = {"start": "2026-03-29T02:30:00+01:00"}
    period = {"start": "2026-01-31T12:00:00+01:00", "duration": chance.choice(lengths)}
    ours, theirs = times_of({"id": "e", "programID": "p", "intervalPeriod": period, "intervals": listed})
    assert ours == theirs
    assert len(ours) == len(listed)


@pytest.mark.parametrize("start", ["2026-01-31T12:00:00Z", "2024-02-29T00:00:00Z", "2026-12-31T23:59:59Z"])
@pytest.mark.parametrize("length", ["P1M", "P2M", "P1Y", "P1Y2M3DT4H", "P12M1D"])
def test_an_independent_library_counts_months_and_years_alike(start: str, length: str) -> None:
    """The 31st of a month that has none is its last day."""
    period = {"start": start, "duration": length}
    ours, theirs = times_of(
        {"id": "e", "programID": "p", "intervalPeriod": period, "intervals": [{"id": 0, "payloads": []}]}
    )
    assert ours == theirs
