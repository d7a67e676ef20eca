"""The OpenADR server of the lab is held to the published OpenAPI document: every request, every answer, every refusal."""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS30Validator

from headrace.lab.vtn import Client, Vtn
from tests.lab.oracle import BASE, Judge, Judged, corrected, published

CLIENTS = {
    "ven": Client("ven", "ven-secret", "ven"),
    "other": Client("other", "other-secret", "ven"),
    "operator": Client("operator", "operator-secret", "operator"),
}
UTILITY = "operator"

PERIOD = {"start": "2026-01-31T09:30:00Z", "duration": "PT1H", "randomizeStart": "PT5M"}
PAYLOAD = {"type": "IMPORT_CAPACITY_LIMIT", "values": [40, 1.5, "a", True, {"x": 1.0, "y": 2}]}
INTERVAL = {"id": 0, "intervalPeriod": PERIOD, "payloads": [PAYLOAD]}
EVENT_DESCRIPTOR = {
    "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
    "payloadType": "PRICE",
    "units": "KWH",
    "currency": "NOK",
}
REPORT_DESCRIPTOR = {
    "objectType": "REPORT_PAYLOAD_DESCRIPTOR",
    "payloadType": "USAGE",
    "readingType": "DIRECT_READ",
    "units": "KWH",
    "accuracy": 0.5,
    "confidence": 90,
}
ASKED = {
    "payloadType": "USAGE",
    "readingType": "DIRECT_READ",
    "units": "KWH",
    "targets": ["a"],
    "aggregate": False,
    "startInterval": -1,
    "numIntervals": -1,
    "historical": True,
    "frequency": -1,
    "repeat": 1,
    "reportIntervals": "INTERVALS",
}
BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "program": (
        "programs",
        UTILITY,
        {
            "programName": "flex",
            "intervalPeriod": PERIOD,
            "programDescriptions": [{"URL": "https://example.org/flex"}],
            "payloadDescriptors": [EVENT_DESCRIPTOR, REPORT_DESCRIPTOR],
            "attributes": [PAYLOAD],
            "targets": ["a", "b"],
        },
    ),
    "event": (
        "events",
        UTILITY,
        {
            "programID": "program-1",
            "eventName": "cold morning",
            "duration": "PT2H",
            "priority": 0,
            "targets": ["a"],
            "reportDescriptors": [ASKED],
            "payloadDescriptors": [EVENT_DESCRIPTOR],
            "intervalPeriod": PERIOD,
            "intervals": [INTERVAL],
        },
    ),
    "report": (
        "reports",
        "ven",
        {
            "eventID": "event-2",
            "clientName": "headrace",
            "reportName": "USAGE-0-0",
            "payloadDescriptors": [REPORT_DESCRIPTOR],
            "resources": [{"resourceName": "glomfjord", "intervalPeriod": PERIOD, "intervals": [INTERVAL]}],
        },
    ),
    "subscription": (
        "subscriptions",
        "ven",
        {
            "clientName": "headrace",
            "programID": "program-1",
            "objectOperations": [
                {
                    "objects": ["EVENT"],
                    "operations": ["CREATE", "DELETE"],
                    "callbackUrl": "https://example.org/heard",
                    "bearerToken": "t",
                }
            ],
            "targets": ["a"],
        },
    ),
    "ven of itself": (
        "vens",
        "ven",
        {"objectType": "VEN_VEN_REQUEST", "venName": "headrace", "attributes": [PAYLOAD]},
    ),
    "ven of business logic": (
        "vens",
        UTILITY,
        {
            "objectType": "BL_VEN_REQUEST",
            "clientID": "ven",
            "venName": "headrace",
            "targets": ["a"],
            "attributes": [PAYLOAD],
        },
    ),
    "resource of its ven": (
        "resources",
        "ven",
        {
            "objectType": "VEN_RESOURCE_REQUEST",
            "resourceName": "glomfjord",
            "venID": "ven-3",
            "attributes": [PAYLOAD],
        },
    ),
    "resource of business logic": (
        "resources",
        UTILITY,
        {
            "objectType": "BL_RESOURCE_REQUEST",
            "clientID": "ven",
            "resourceName": "glomfjord",
            "venID": "ven-3",
            "targets": ["a"],
            "attributes": [PAYLOAD],
        },
    ),
}
"""A body of each kind with all of its fields: to which collection it goes, and who sends it."""


@pytest.fixture(scope="module")
def judge() -> Judge:
    """One judge for all: the document takes a while to read."""
    return Judge()


class Talk:
    """A conversation with a server, judged: as whom, and what."""

    def __init__(self, judge: Judge, *, requests: bool = True) -> None:
        self.vtn = Vtn(CLIENTS, base_url=BASE)
        self.judged = Judged(httpx.ASGITransport(app=self.vtn.app), judge, requests=requests)
        self.http = httpx.AsyncClient(transport=self.judged, base_url=BASE)
        self.tokens: dict[str, str] = {}

    async def ask(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        """One call as a client; "": as nobody."""
        if who and who not in self.tokens:
            client = CLIENTS[who]
            form = {
                "grant_type": "client_credentials",
                "client_id": client.id,
                "client_secret": client.secret,
            }
            self.tokens[who] = (await self.http.post("/auth/token", data=form)).json()["access_token"]
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return await self.http.request(method, path, headers=headers, **more)

    async def furnish(self) -> None:
        """A program, an event and a VEN, for what refers to them."""
        for kind in ("program", "event", "ven of itself"):
            path, who, body = BODIES[kind]
            answer = await self.ask(who, "POST", f"/{path}", json=body)
            assert answer.status_code == 201, answer.text


def run(judge: Judge, body: Callable[[Talk], Awaitable[None]], *, requests: bool = True) -> list[str]:
    """What the document has against a conversation."""
    talk = Talk(judge, requests=requests)
    asyncio.run(body(talk))  # type: ignore[arg-type]
    return talk.judged.wrong


def test_the_document_contradicts_itself_in_what_is_mended_here() -> None:
    """No ven and no resource can be as it says: should a later document be mended, its own words are to judge again."""
    schemas = published()["components"]["schemas"]
    for name, request in (("ven", "BlVenRequest"), ("resource", "BlResourceRequest")):
        meta = set(schemas["objectTypes"]["enum"])
        own = set(schemas[request]["properties"]["objectType"]["enum"])
        assert schemas[name]["allOf"] == [
            {"$ref": "#/components/schemas/objectMetadata"},
            {"$ref": f"#/components/schemas/{request}"},
        ]
        assert not meta & own
    slip = schemas["BlVenRequest"]["properties"]["targets"]
    assert slip["type"] == "array"
    assert isinstance(slip["default"], str)
    told_apart = schemas["programRequest"]["properties"]["payloadDescriptors"]["items"]["discriminator"]
    assert "mapping" not in told_apart
    assert schemas["eventPayloadDescriptor"]["properties"]["objectType"]["enum"][0] not in schemas


def test_everything_that_the_document_has_can_be_done_and_is_answered_as_it_says(judge: Judge) -> None:
    """Each of its paths and methods, judged on the way there and back."""

    async def body(talk: Talk) -> None:
        assert (await talk.ask("", "GET", "/auth/server")).json() == {"tokenURL": f"{BASE}/auth/token"}
        made: list[tuple[str, str, str, dict[str, Any]]] = []
        for kind in ("program", "event", "ven of itself", "resource of its ven", "report", "subscription"):
            path, who, said = BODIES[kind]
            answer = await talk.ask(who, "POST", f"/{path}", json=said)
            assert answer.status_code == 201, answer.text
            made.append((path, who, answer.json()["id"], said))
        for path, who, ident, said in made:
            assert (await talk.ask(who, "GET", f"/{path}/{ident}")).status_code == 200
            assert (await talk.ask(UTILITY, "GET", f"/{path}")).json()[0]["id"] == ident
            assert (await talk.ask(who, "PUT", f"/{path}/{ident}", json=said)).status_code == 200
        assert (await talk.ask("ven", "GET", "/notifiers")).json() == {"WEBHOOK": True}
        for path in published()["paths"]:
            if path.startswith("/notifiers/mqtt"):
                asked = path.replace("{programID}", "program-1").replace("{venID}", "ven-3")
                assert (await talk.ask("ven", "GET", asked)).status_code == 404
        for path, who, ident, _ in reversed(made):
            assert (await talk.ask(who, "DELETE", f"/{path}/{ident}")).status_code == 200
            assert (await talk.ask(who, "GET", f"/{path}/{ident}")).status_code == 404

    assert run(judge, body) == []
    collections = {path.split("/")[1] for path in published()["paths"]}
    assert {path for _, path, _ in judge.seen} == collections


def mutations(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each place of a body, and what could stand there instead; the marker ``...``: nothing at all."""
    if place:
        yield place, ...
        others: list[Any] = [None, "", 0, 1.0, 1.5, -1, 101, 2**31, True, [], {}, [None]]
        if isinstance(value, str):
            others += [
                "a b",
                "x" * 129,
                "x" * 8001,
                "PT1H",
                "P9999Y",
                "PT",
                "-P1D",
                "P1DT",
                "1h",
                "PRICE",
                "BL_VEN_REQUEST",
            ]
            others += [
                f"2026-{rest}"
                for rest in ("01-31T09:30:00Z", "01-31T09:30:00", "13-31T09:30:00Z", "01-31 09:30:00Z")
            ]
            others += ["0001-01-01T00:00:00Z", "0001-01-01"]
        yield from ((place, other) for other in others)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from mutations(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from mutations(inner, (*place, number))


def changed(body: dict[str, Any], place: tuple[Any, ...], other: Any) -> dict[str, Any]:
    """A body with something else in one place."""
    found = copy.deepcopy(body)
    holder: Any = found
    for step in place[:-1]:
        holder = holder[step]
    if other is ...:
        del holder[place[-1]]
    else:
        holder[place[-1]] = other
    return found


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_is_refused_when_the_document_refuses_it_and_only_then(kind: str, judge: Judge) -> None:
    """Each field left out, null, of another type, too long, or beyond its bounds: two minds that agree on every one."""
    path, who, body = BODIES[kind]
    differ: list[str] = []
    refused = 0

    async def ask_all(talk: Talk) -> None:
        nonlocal refused
        await talk.furnish()
        for place, other in mutations(body):
            said = changed(body, place, other)
            request = talk.http.build_request("POST", f"/{path}", json=said)
            wrong = judge.request(request)
            answer = await talk.ask(who, "POST", f"/{path}", json=said)
            is_400 = answer.status_code == 400 and "already" not in answer.text
            refused += is_400
            if is_400 != bool(wrong):
                differ.append(
                    f"{place} = {other!r}: {answer.status_code} {answer.text}; document: {wrong[:200]!r}"
                )

    assert run(judge, ask_all, requests=False) == []
    assert differ == []
    assert refused > 50


QUERIES = [
    ("/events", {"limit": "50"}, True),
    ("/events", {"limit": "51"}, False),
    ("/events", {"limit": "-1"}, False),
    ("/events", {"limit": "many"}, False),
    ("/events", {"skip": "0"}, True),
    ("/events", {"skip": "-1"}, False),
    ("/events", {"active": "true"}, True),
    ("/events", {"active": "perhaps"}, False),
    ("/events", {"programID": "no such"}, False),
    ("/events", {"programID": "program-1"}, True),
    ("/events", {"targets": ["a", "b"]}, True),
    ("/events", {"targets": "x" * 129}, False),
    ("/reports", {"clientName": "x" * 129}, False),
    ("/reports", {"eventID": "event-2"}, True),
    ("/subscriptions", {"objects": "EVENT"}, True),
    ("/subscriptions", {"objects": "SUN"}, False),
    ("/vens", {"venName": "headrace"}, True),
    ("/resources", {"venID": "a/b"}, False),
    ("/resources", {"resourceName": "glomfjord"}, True),
    ("/events/no such", {}, False),
]


@pytest.mark.parametrize(("path", "query", "is_good"), QUERIES)
def test_a_query_is_refused_when_the_document_refuses_it(
    path: str, query: dict[str, Any], is_good: bool, judge: Judge
) -> None:
    """Limits, ids, names and enumerations in addresses."""

    async def body(talk: Talk) -> None:
        answer = await talk.ask(UTILITY, "GET", path, params=query)
        assert (answer.status_code == 200) is is_good
        assert (judge.request(answer.request) == "") is is_good

    assert run(judge, body, requests=False) == []


def test_what_is_no_json_is_refused(judge: Judge) -> None:
    """NaN and what isn't finite, half a body, another type: 400, with a problem."""

    async def body(talk: Talk) -> None:
        await talk.ask(UTILITY, "GET", "/programs")
        for content in (
            b"{",
            b'{"programName": NaN}',
            b'{"programName": "a", "x": 1e999}',
            b"\xff",
            b"[" * 100_000,
        ):
            headers = {"content-type": "application/json"}
            headers["authorization"] = f"Bearer {talk.tokens[UTILITY]}"
            answer = await talk.http.post("/programs", content=content, headers=headers)
            assert answer.status_code == 400
        answer = await talk.ask(UTILITY, "POST", "/programs", data={"programName": "a"})
        assert answer.status_code == 400

    assert run(judge, body, requests=False) == []


def scopes(method: str, path: str) -> set[str]:
    """What the document asks of who does something."""
    entry = published()["paths"][path][method.lower()]["security"]
    return {scope for each in entry for scope in each.get("oAuth2ClientCredentials", ())}


def test_who_may_write_what_is_what_the_scopes_of_the_document_say(judge: Judge) -> None:
    """A VEN writes neither programs nor events, business logic no reports, nobody without a token anything."""
    ven = {"write_reports", "write_subscriptions", "write_vens"}
    bl = {"write_programs", "write_events", "write_subscriptions", "write_vens"}

    async def body(talk: Talk) -> None:
        await talk.furnish()
        for kind in ("program", "event", "report", "subscription", "ven of itself"):
            path, _, said = BODIES[kind]
            needed = scopes("POST", f"/{path}")
            for who, has in (("ven", ven), (UTILITY, bl)):
                status = (await talk.ask(who, "POST", f"/{path}", json=said)).status_code
                assert (status == 403) is not bool(needed & has), (who, path, status)
            assert (await talk.ask("", "POST", f"/{path}", json=said)).status_code == 401
        answer = await talk.ask("ven", "POST", "/vens", json=BODIES["ven of business logic"][2])
        assert answer.status_code == 403
        unknown = await talk.ask("", "PUT", "/programs/program-1", json=BODIES["program"][2])
        assert unknown.status_code == 403

    assert run(judge, body) == []


def test_a_ven_sees_what_is_its_own_and_what_means_it(judge: Judge) -> None:
    """Targets are shown to whom they were granted, if it asks for them, and none that it did not ask for."""

    async def body(talk: Talk) -> None:
        await talk.furnish()
        open_event = {"programID": "program-1"}
        await talk.ask(UTILITY, "POST", "/events", json=open_event)
        assert len((await talk.ask("ven", "GET", "/events")).json()) == 1
        assert (await talk.ask("ven", "GET", "/events", params={"targets": "a"})).json() == []
        granted = BODIES["ven of business logic"][2] | {"targets": ["a", "b"]}
        assert (await talk.ask(UTILITY, "PUT", "/vens/ven-3", json=granted)).status_code == 200
        (shown,) = (await talk.ask("ven", "GET", "/programs", params={"targets": "a"})).json()
        assert shown["targets"] == ["a"]
        assert (await talk.ask("ven", "GET", "/events", params={"targets": "a"})).json()[0]["id"] == "event-2"
        assert (await talk.ask("other", "GET", "/events", params={"targets": "a"})).json() == []
        assert (await talk.ask("other", "GET", "/events/event-2")).status_code == 404
        assert (await talk.ask("other", "GET", "/vens")).json() == []
        assert (await talk.ask("other", "GET", "/vens/ven-3")).status_code == 404
        # What business logic granted stays when the VEN describes itself again.
        await talk.ask("ven", "PUT", "/vens/ven-3", json=BODIES["ven of itself"][2])
        assert (await talk.ask("ven", "GET", "/vens/ven-3")).json()["targets"] == ["a", "b"]

    assert run(judge, body) == []


def test_pages_hold_all_of_a_list_once(judge: Judge) -> None:
    """Skip and limit walk through it."""

    async def body(talk: Talk) -> None:
        await talk.furnish()
        for _ in range(7):
            await talk.ask(UTILITY, "POST", "/events", json={"programID": "program-1"})
        found = []
        for skip in range(0, 9, 3):
            page = await talk.ask(UTILITY, "GET", "/events", params={"skip": skip, "limit": 3})
            found += [one["id"] for one in page.json()]
        assert len(found) == len(set(found)) == 8

    assert run(judge, body) == []


def test_names_are_taken_once_and_what_is_referred_to_must_be_there(judge: Judge) -> None:
    """409 where the document has it, 400 for the name of a VEN, 404 for the VEN of a resource."""

    async def body(talk: Talk) -> None:
        await talk.furnish()
        for kind, status in (("program", 409), ("ven of itself", 400)):
            path, who, said = BODIES[kind]
            assert (await talk.ask(who, "POST", f"/{path}", json=said)).status_code == status
        gone = BODIES["event"][2] | {"programID": "gone"}
        assert (await talk.ask(UTILITY, "POST", "/events", json=gone)).status_code == 409
        gone = BODIES["resource of its ven"][2] | {"venID": "gone"}
        assert (await talk.ask("ven", "POST", "/resources", json=gone)).status_code == 404
        await talk.ask(UTILITY, "DELETE", "/programs/program-1")
        assert (await talk.ask(UTILITY, "GET", "/events")).json() == []

    assert run(judge, body) == []


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"grant_type": "client_credentials", "client_id": "ven", "client_secret": "ven-secret"}, 200),
        ({"grant_type": "client_credentials", "client_id": "ven", "client_secret": "wrong"}, 401),
        ({"grant_type": "client_credentials", "client_id": "who", "client_secret": "ven-secret"}, 401),
        ({"grant_type": "password", "client_id": "ven", "client_secret": "ven-secret"}, 400),
        ({"grant_type": "client_credentials", "client_id": "ven"}, 400),
    ],
)
def test_a_token_is_given_to_who_knows_the_secret(form: dict[str, str], status: int, judge: Judge) -> None:
    """And a form is refused that the document refuses."""

    async def body(talk: Talk) -> None:
        answer = await talk.http.post("/auth/token", data=form)
        assert answer.status_code == status
        assert bool(judge.request(answer.request)) is (status == 400)

    assert run(judge, body, requests=False) == []


def test_a_revoked_token_and_one_that_ended_are_worth_nothing(judge: Judge) -> None:
    """401, by the server's clock."""
    now = [0]
    vtn = Vtn(CLIENTS, base_url=BASE, now_ms=lambda: now[0], token_s=10)

    async def body(talk: Talk) -> None:
        talk.vtn = vtn
        talk.http = httpx.AsyncClient(
            transport=Judged(httpx.ASGITransport(app=vtn.app), judge), base_url=BASE
        )
        assert (await talk.ask("ven", "GET", "/events")).status_code == 200
        now[0] = 10_000
        assert (await talk.ask("ven", "GET", "/events")).status_code == 401
        talk.tokens.clear()
        assert (await talk.ask("ven", "GET", "/events")).status_code == 200
        vtn.revoke()
        assert (await talk.ask("ven", "GET", "/events")).status_code == 401

    assert run(judge, body) == []


@pytest.mark.parametrize(
    "garbage",
    [b"{}", b'[{"id": "e"}]', b'[{"id": "e", "objectType": "SUN"}]', b"nothing"],
)
def test_the_judge_would_notice_a_server_that_does_not_keep_to_the_document(
    garbage: bytes, judge: Judge
) -> None:
    """The tests above can fail: each such answer is wrong, and is told."""

    async def body(talk: Talk) -> None:
        await talk.ask(UTILITY, "GET", "/programs")
        talk.vtn.faults.garbage = garbage
        await talk.ask(UTILITY, "GET", "/events")

    (said,) = run(judge, body)
    assert said.startswith("response GET")


def test_the_judge_would_notice_an_answer_of_another_status_and_a_bad_request(judge: Judge) -> None:
    """A status that the document hasn't, and a body that it hasn't."""

    async def body(talk: Talk) -> None:
        await talk.ask(UTILITY, "POST", "/programs", json={"programName": ""})
        talk.vtn.faults.status = 418
        await talk.ask(UTILITY, "GET", "/events")

    request, response = run(judge, body)
    assert request.startswith("request POST")
    assert response.startswith("response GET")


def test_webhooks_say_what_happened_as_the_document_has_it() -> None:
    """A subscriber on this machine hears of events that mean it, with its token; the notification is the document's."""
    heard: list[tuple[str, dict[str, Any]]] = []

    async def body() -> None:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            heard.append((head, json.loads(await reader.readexactly(length))))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(take, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        talk = Talk(Judge())
        await talk.furnish()
        said = copy.deepcopy(BODIES["subscription"][2])
        del said["targets"]
        said["objectOperations"][0]["callbackUrl"] = f"http://127.0.0.1:{port}/heard"
        await talk.ask("ven", "POST", "/subscriptions", json=said)
        made = await talk.ask(UTILITY, "POST", "/events", json={"programID": "program-1"})
        await talk.vtn.settled()
        await talk.ask(UTILITY, "PUT", f"/events/{made.json()['id']}", json={"programID": "program-1"})
        await talk.ask(UTILITY, "DELETE", f"/events/{made.json()['id']}")
        await talk.vtn.settled()
        server.close()
        await server.wait_closed()

    asyncio.run(body())
    # UPDATE was not asked for.
    assert [one["operation"] for _, one in heard] == ["CREATE", "DELETE"]
    document = corrected()
    for head, one in heard:
        assert "authorization: bearer t" in head
        event = {"$ref": "#/components/schemas/event", "components": document["components"]}
        assert list(OAS30Validator(event).iter_errors(one["object"])) == []
        assert one["objectType"] == "EVENT"
