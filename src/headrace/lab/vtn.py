"""An OpenADR 3.1.1 server (a VTN) for this machine: in memory, on loopback, held to the published OpenAPI document by tests/lab.

It has all of the document's paths; of MQTT it says that it has none. Webhooks are delivered to loopback addresses alone. What a
bad server does is told to :class:`Faults`: it is for tests and for trying things out, and no server for a grid.
"""

import asyncio
import hmac
import json
import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import httpx
from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.core.power.openadr_times import schedule_of
from headrace.lab.vtn_models import BODIES, LISTS, MOST_LIMIT, QUERIES, Credentials

Role = Literal["operator", "ven"]
OBJECT_TYPES = {
    "programs": "PROGRAM",
    "events": "EVENT",
    "reports": "REPORT",
    "subscriptions": "SUBSCRIPTION",
    "vens": "VEN",
    "resources": "RESOURCE",
}
WRITERS: dict[str, tuple[Role, ...]] = {
    "programs": ("operator",),
    "events": ("operator",),
    "reports": ("ven",),
    "subscriptions": ("operator", "ven"),
    "vens": ("operator", "ven"),
    "resources": ("operator", "ven"),
}
"""Who may write: the document's scopes, by role."""
OWNED = ("reports", "subscriptions", "vens", "resources")
"""Objects with a clientID, which a VEN sees only where it is its own."""
PARENTS = {
    "events": ("programID", "programs"),
    "reports": ("eventID", "events"),
    "resources": ("venID", "vens"),
}
UNIQUE = {"programs": ("programName",), "vens": ("venName",), "resources": ("venID", "resourceName")}
UNIQUE_STATUS = {"vens": 400}
"""The document knows no 409 where a VEN is created."""
UNAUTHORISED_STATUS = {("PUT", "programs"): 403}
"""The document knows no 401 where a program is changed."""
TOKEN_S = 3_600
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ASK = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """An answer that is a problem."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


@dataclass(frozen=True, slots=True)
class Client:
    """Who may ask: business logic of the ``operator`` of the grid, or a ``ven``."""

    id: str
    secret: str
    role: Role


@dataclass(slots=True)
class Faults:
    """What a bad server does. All may be changed while it runs.

    ``status``: it answers everything so, with ``retry_after``. ``garbage``: every body is this. ``stall_s``: it answers so late.
    ``skew_ms``: its clock is ahead. ``ignores_skip``: each page is the first. ``shuffle``: lists come in another order each time.
    ``repeats``: lists have everything twice. ``hides``: ids that lists leave out. ``more_events``: these are listed besides, as
    they are, checked by nobody. ``paths``: where it is so, by their beginnings.
    """

    status: int = 0
    retry_after: str = ""
    garbage: bytes | None = None
    stall_s: float = 0
    skew_ms: int = 0
    ignores_skip: bool = False
    shuffle: random.Random | None = None
    repeats: bool = False
    hides: frozenset[str] = frozenset()
    more_events: list[Any] = field(default_factory=list)
    paths: tuple[str, ...] = ("/",)


class Vtn:
    """The server. ``app`` is its ASGI application; ``now_ms`` its clock; ``base_url`` where its tokens are to be had."""

    def __init__(
        self,
        clients: Mapping[str, Client],
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        base_url: str = "http://127.0.0.1",
        token_s: int = TOKEN_S,
    ) -> None:
        self.base_url, self.token_s = base_url, token_s
        self.faults = Faults()
        self.asked: list[str] = []
        self._clients, self._now_ms = dict(clients), now_ms
        self._tokens: dict[str, tuple[str, int]] = {}
        self._kept: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in OBJECT_TYPES}
        self._number = 0
        self._calls: set[asyncio.Task[None]] = set()
        self.app: ASGIApp = _Faulty(self, self._application())

    def now_ms(self) -> int:
        """Its clock, which may be wrong."""
        return self._now_ms() + self.faults.skew_ms

    def revoke(self) -> None:
        """Every token that was given is worth nothing from now on."""
        self._tokens.clear()

    def remove(self, kind: str, ident: str) -> None:
        """Take an object away, with what only means something with it."""
        self._drop(kind, self._kept[kind][ident])

    def all(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind, as they are kept."""
        return list(self._kept[kind].values())

    def put(self, kind: str, said: Mapping[str, Any]) -> dict[str, Any]:
        """A new object with its metadata; nobody checks it."""
        self._number += 1
        ident, now = f"{kind[:-1]}-{self._number}", _stamp(self.now_ms())
        metadata = {"createdDateTime": now, "modificationDateTime": now, "objectType": OBJECT_TYPES[kind]}
        self._kept[kind][ident] = {**said, "id": ident, **metadata}
        return self._kept[kind][ident]

    def _application(self) -> FastAPI:
        app = FastAPI(title="OpenADR 3.1.1 VTN", docs_url=None, redoc_url=None, openapi_url=None)
        app.add_exception_handler(Refused, _as_problem)
        app.add_exception_handler(HTTPException, _as_problem)
        app.add_api_route("/auth/server", self._auth_server, methods=["GET"])
        app.add_api_route("/auth/token", self._token, methods=["POST"])
        app.add_api_route("/notifiers", self._notifiers, methods=["GET"])
        app.add_api_route("/notifiers/mqtt/topics/{rest:path}", self._no_mqtt, methods=["GET"])
        for kind in OBJECT_TYPES:
            for path, methods, handler in (
                (f"/{kind}", ["GET"], self._search),
                (f"/{kind}", ["POST"], self._create),
                (f"/{kind}/{{ident}}", ["GET"], self._show),
                (f"/{kind}/{{ident}}", ["PUT"], self._change),
                (f"/{kind}/{{ident}}", ["DELETE"], self._delete),
            ):
                app.add_api_route(path, handler, methods=methods)
        return app

    async def _auth_server(self) -> Response:
        return _json(200, {"tokenURL": f"{self.base_url}/auth/token"})

    async def _token(self, request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            raise Refused(400, "send a form: application/x-www-form-urlencoded")
        try:
            said = Credentials.model_validate(dict(parse_qsl((await request.body()).decode())))
        except (ValidationError, UnicodeDecodeError) as error:
            raise Refused(400, _told(error)) from None
        client = self._clients.get(said.client_id)
        if client is None or not hmac.compare_digest(client.secret.encode(), said.client_secret.encode()):
            raise Refused(401, "the client id and its secret don't fit")
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (client.id, self._now_ms() + self.token_s * 1_000)
        return _json(200, {"access_token": token, "token_type": "Bearer", "expires_in": self.token_s})

    async def _notifiers(self, request: Request) -> Response:
        self._client_of(request, "notifiers")
        return _json(200, {"WEBHOOK": True})

    async def _no_mqtt(self, request: Request) -> Response:
        self._client_of(request, "notifiers")
        raise Refused(404, "there is no MQTT broker here; poll, or subscribe by webhook")

    def _client_of(self, request: Request, kind: str) -> Client:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        ident, until_ms = self._tokens.get(token, ("", 0)) if scheme.lower() == "bearer" else ("", 0)
        if until_ms <= self._now_ms() or ident not in self._clients:
            status = UNAUTHORISED_STATUS.get((request.method, kind), 401)
            raise Refused(status, "no token, or one that is no longer good; get one from /auth/token")
        return self._clients[ident]

    def _writer_of(self, request: Request, kind: str) -> Client:
        client = self._client_of(request, kind)
        if client.role not in WRITERS[kind]:
            raise Refused(403, f"a {client.role} may not write {kind}")
        return client

    async def _search(self, request: Request) -> Response:
        kind = _kind(request)
        client = self._client_of(request, kind)
        asked, skip, limit = _query(request, kind)
        found = [
            shown
            for one in self._kept[kind].values()
            if one["id"] not in self.faults.hides
            and (shown := self._shown(one, kind, client, asked.get("targets"))) is not None
            and self._fits(one, kind, asked)
        ]
        if kind == "events":
            found = [*found, *self.faults.more_events]
        if self.faults.repeats:
            found = [*found, *found]
        if self.faults.shuffle is not None:
            self.faults.shuffle.shuffle(found)
        skip = 0 if self.faults.ignores_skip else skip
        return _json(200, found[skip : skip + limit])

    def _fits(self, one: Mapping[str, Any], kind: str, asked: Mapping[str, Any]) -> bool:
        for name, value in asked.items():
            if name == "active":
                now_ms = self.now_ms()
                ends_ms = max((slot.end_ms for slot in schedule_of(one, now_ms).slots), default=now_ms)
                if value == "true" and ends_ms < now_ms:
                    return False
            elif name == "objects":
                objects = {each for entry in one["objectOperations"] for each in entry["objects"]}
                if not set(value) <= objects:
                    return False
            elif name == "programID" and kind == "reports":
                if self._kept["events"].get(one["eventID"], {}).get("programID") != value:
                    return False
            elif name != "targets" and one.get(name) != value:
                return False
        return True

    def _granted(self, client: Client) -> set[str]:
        """The targets that business logic gave a VEN and its resources."""
        own = (*self._kept["vens"].values(), *self._kept["resources"].values())
        return {
            target for one in own if one.get("clientID") == client.id for target in one.get("targets") or ()
        }

    def _shown(
        self, one: dict[str, Any], kind: str, client: Client, wanted: list[str] | None
    ) -> dict[str, Any] | None:
        """An object as a client may see it, None when it may not, or did not ask for it."""
        has = set(one.get("targets") or ())
        if client.role == "operator":
            return one if wanted is None or set(wanted) <= has else None
        if kind in OWNED:
            fits = wanted is None or set(wanted) <= has
            return one if fits and one.get("clientID") == client.id else None
        if not has:
            return one if wanted is None else None
        seen = has & self._granted(client) & set(wanted or ())
        # Targets that it did not ask for are hidden.
        return {**one, "targets": sorted(seen)} if seen else None

    async def _show(self, request: Request) -> Response:
        kind = _kind(request)
        client = self._client_of(request, kind)
        one = self._found(request, kind, client)
        if kind in OWNED or client.role == "operator":
            return _json(200, one)
        shown = self._shown(one, kind, client, sorted(self._granted(client)) if one.get("targets") else None)
        if shown is None:
            raise Refused(404, f"no {kind[:-1]} has this id")
        return _json(200, shown)

    def _found(self, request: Request, kind: str, client: Client) -> dict[str, Any]:
        ident = request.path_params["ident"]
        try:
            QUERIES["events"]["programID"].validate_python(ident)
        except ValidationError as error:
            raise Refused(400, _told(error)) from None
        one = self._kept[kind].get(ident)
        if one is None or (client.role == "ven" and kind in OWNED and one.get("clientID") != client.id):
            raise Refused(404, f"no {kind[:-1]} has this id")
        return one

    async def _create(self, request: Request) -> Response:
        kind = _kind(request)
        client = self._writer_of(request, kind)
        said = self._said(kind, client, await _body(request, kind))
        self._check(kind, said, "")
        one = self.put(kind, said)
        self._notify(kind, "CREATE", one)
        return _json(201, one)

    async def _change(self, request: Request) -> Response:
        kind = _kind(request)
        client = self._writer_of(request, kind)
        old = self._found(request, kind, client)
        said = self._said(kind, client, await _body(request, kind))
        if client.role == "ven" and kind in ("vens", "resources") and "targets" in old:
            said["targets"] = old["targets"]
        self._check(kind, said, old["id"])
        kept = {key: old[key] for key in ("id", "createdDateTime", "objectType")}
        one = self._kept[kind][old["id"]] = {
            **said,
            **kept,
            "modificationDateTime": _stamp(self.now_ms()),
        }
        self._notify(kind, "UPDATE", one)
        return _json(200, one)

    async def _delete(self, request: Request) -> Response:
        kind = _kind(request)
        client = self._writer_of(request, kind)
        one = self._found(request, kind, client)
        self._drop(kind, one)
        return _json(200, one)

    def _drop(self, kind: str, one: dict[str, Any]) -> None:
        """Delete an object, and what only means something with it."""
        del self._kept[kind][one["id"]]
        self._notify(kind, "DELETE", one)
        for child, (name, parent) in PARENTS.items():
            if parent == kind:
                for each in [each for each in self.all(child) if each[name] == one["id"]]:
                    self._drop(child, each)

    def _said(self, kind: str, client: Client, body: dict[str, Any]) -> dict[str, Any]:
        """A body as it is kept: whose it is comes from the token, but where business logic says it."""
        role = body.pop("objectType", "")
        if role.startswith("BL_") and client.role != "operator":
            raise Refused(403, f"a ven may not send {role}")
        if kind in OWNED and not role.startswith("BL_"):
            body["clientID"] = client.id
        return body

    def _check(self, kind: str, said: Mapping[str, Any], ident: str) -> None:
        """Refused when what it refers to is not there, or its name is taken."""
        name, parent = PARENTS.get(kind, ("", ""))
        if parent:
            found = self._kept[parent].get(said[name])
            if found is None or (kind == "resources" and found["clientID"] != said["clientID"]):
                status = 404 if kind == "resources" else 409
                raise Refused(status, f"no {parent[:-1]} has the {name} {said[name]}")
        names = UNIQUE.get(kind)
        if names is None:
            return
        for other in self.all(kind):
            if other["id"] != ident and all(other[key] == said[key] for key in names):
                status = 409 if ident else UNIQUE_STATUS.get(kind, 409)
                raise Refused(status, f"there is a {kind[:-1]} with this {names[-1]} already")

    def _notify(self, kind: str, operation: str, one: Mapping[str, Any]) -> None:
        """Call the webhooks that asked for it, without waiting for them."""
        for subscription in self.all("subscriptions"):
            client = self._clients[subscription["clientID"]]
            shown = self._shown(dict(one), kind, client, subscription.get("targets"))
            program = subscription.get("programID")
            if shown is None or (program and one.get("programID", one["id"]) != program):
                continue
            body = {"objectType": OBJECT_TYPES[kind], "operation": operation, "object": shown}
            for entry in subscription["objectOperations"]:
                if OBJECT_TYPES[kind] in entry["objects"] and operation in entry["operations"]:
                    call = asyncio.get_running_loop().create_task(_call(entry, body))
                    self._calls.add(call)
                    call.add_done_callback(self._calls.discard)

    async def settled(self) -> None:
        """Wait for the webhooks that are being called."""
        await asyncio.gather(*self._calls)


async def _call(entry: Mapping[str, Any], body: object) -> None:
    """One webhook; who does not answer misses it, as with any."""
    if urlsplit(entry["callbackUrl"]).hostname not in _LOOPBACK:
        return
    headers = {"Authorization": f"Bearer {entry['bearerToken']}"} if entry.get("bearerToken") else {}
    async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
        try:
            await http.post(entry["callbackUrl"], json=body, headers=headers)
        except httpx.HTTPError:
            return


def _kind(request: Request) -> str:
    return request.url.path.split("/")[1]


def _stamp(at_ms: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(status: int, value: object) -> Response:
    # NaN goes out as it is: it is what a bad server sends.
    return Response(json.dumps(value), status, media_type="application/json")


async def _as_problem(_request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        status, detail = error.status, error.detail
    elif isinstance(error, HTTPException):
        status, detail = error.status_code, str(error.detail)
    else:
        status, detail = 500, "broken"
    return _json(status, {"title": _TITLES.get(status, "Problem"), "status": status, "detail": detail})


_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
}


def _told(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "not UTF-8"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'/'.join(str(step) for step in first['loc']) or 'the body'}: {first['msg']}"


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


async def _body(request: Request, kind: str) -> dict[str, Any]:
    """A body by the document; of what it doesn't know nothing is kept. Refused with where it is wrong."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(400, "send JSON: application/json")
    try:
        raw = json.loads(await request.body(), parse_constant=_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON") from None
    try:
        found = BODIES[kind].validate_python(raw)
    except ValidationError as error:
        raise Refused(400, _told(error)) from None
    kept = BODIES[kind].dump_python(found, by_alias=True, exclude_unset=True)
    return dict(kept)


def _finite(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError("too large")
    return found


def _query(request: Request, kind: str) -> tuple[dict[str, Any], int, int]:
    """What a search asks for, and its page."""
    found: dict[str, Any] = {}
    for name, rule in QUERIES[kind].items():
        given = request.query_params.getlist(name)
        if not given:
            continue
        try:
            found[name] = rule.validate_python(given if name in LISTS else given[-1])
        except ValidationError as error:
            raise Refused(400, f"{name}: {_told(error)}") from None
    return found, _whole(request, "skip", 0, 2**31 - 1), _whole(request, "limit", MOST_LIMIT, MOST_LIMIT)


def _whole(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > most:
        raise Refused(400, f"{name}: a whole number from 0 to {most}")
    return int(text)


class _Faulty:
    """The application as a bad server would be, by :class:`Faults`."""

    def __init__(self, vtn: Vtn, app: ASGIApp) -> None:
        self._vtn, self._app = vtn, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        faults = self._vtn.faults
        self._vtn.asked.append(f"{scope['method']} {scope['path']}")
        date = format_datetime(datetime.fromtimestamp(self._vtn.now_ms() // 1_000, UTC), usegmt=True)

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", date.encode())]
            await send(message)

        if not scope["path"].startswith(faults.paths):
            await self._app(scope, receive, dated)
            return
        if faults.stall_s:
            await asyncio.sleep(faults.stall_s)
        if not faults.status and faults.garbage is None:
            await self._app(scope, receive, dated)
            return
        status = faults.status or 200
        answer = _json(status, {"title": _TITLES.get(status, "Problem"), "status": status})
        if faults.garbage is not None:
            answer = Response(faults.garbage, status, media_type="application/json")
        if faults.retry_after:
            answer.headers["retry-after"] = faults.retry_after
        await answer(scope, receive, dated)


def two_clients() -> dict[str, Client]:
    """A VEN called ``ven`` and business logic called ``operator``, with new secrets."""
    roles: Iterator[Role] = iter(("ven", "operator"))
    return {role: Client(role, secrets.token_urlsafe(24), role) for role in roles}
