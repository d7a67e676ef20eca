"""The plant's management controllers: a Redfish service at the address of each node.

Each has one of the three generations of power limits (:data:`WAYS`), node by node. The first wants an ETag with each change,
the second minds a wrong one, the third has none: as controllers differ.
"""

import asyncio
import base64
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.plant.loopback import node_of
from headrace.plant.physics import Failure, Physics, Power

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Reply = tuple[int, Any, dict[str, str]]

WAYS = ("environment", "control", "legacy")
ROOT = "/redfish/v1"
CHASSIS = f"{ROOT}/Chassis/1"
SYSTEM = f"{ROOT}/Systems/1"
LIMITS = {
    "environment": f"{CHASSIS}/EnvironmentMetrics",
    "control": f"{CHASSIS}/Controls/PowerLimit",
    "legacy": f"{CHASSIS}/Power",
}
SESSIONS = f"{ROOT}/SessionService/Sessions"
MOST_SESSIONS = 16
"""Sessions that one controller has room for, as some do: who never logs out finds it full."""
RESETS = ("On", "ForceOff", "GracefulShutdown")
_STATES = {Power.ON: "On", Power.OFF: "Off", Power.TURNING_ON: "PoweringOn", Power.TURNING_OFF: "PoweringOff"}


class Controllers:
    """All controllers of a plant, as one ASGI application."""

    def __init__(self, physics: Physics, user: str, password: str, way: str, speed: int) -> None:
        self.physics, self.user, self.speed = physics, user, speed
        self._password = password
        self._basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        count = len(physics.fleet.node_ids)
        self.ways = [way if way in WAYS else WAYS[node % len(WAYS)] for node in range(count)]
        self.asked_w: list[int | None] = [None] * count
        self.changes = [1] * count
        self.requests = 0
        self._sessions: list[dict[str, str]] = [{} for _ in range(count)]

    def is_gone(self, address: str) -> bool:
        """Whether nothing answers at an address: no node, one that is told so, or one without power."""
        node = node_of(address)
        if not 0 <= node < len(self.ways) or self.physics.failure[node] == Failure.GONE:
            return True
        return bool(self.physics.tripped.any() and self.physics.dark[self.physics.fleet.node_leaf[node]])

    def protocol(self) -> type[HttpToolsProtocol]:
        """uvicorn's protocol, that hangs up where nothing answers."""
        gone = self.is_gone

        class Line(HttpToolsProtocol):
            """A connection to one controller."""

            def data_received(self, data: bytes) -> None:
                """Hang up, or go on."""
                if self.server is None or gone(self.server[0]):
                    self.transport.abort()
                else:
                    super().data_received(data)

        return Line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        self.requests += 1
        node = node_of(scope["server"][0])
        body = b""
        while (part := await receive())["type"] == "http.request":
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        failure = self.physics.failure[node]
        if failure == Failure.SILENT:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if failure == Failure.SLOW:
            await asyncio.sleep(self.physics.speeds.slow_ms / 1_000 / self.speed)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"].rstrip("/")
        status, data, extra = self._answer(node, scope["method"], path, headers, body)
        raw = b"" if data is None else msgspec.json.encode(data)
        shown = {
            "content-type": "application/json",
            "content-length": str(len(raw)),
            "odata-version": "4.0",
        } | extra
        pairs = [(name.encode(), value.encode()) for name, value in shown.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": raw})

    def _answer(self, node: int, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path == ROOT and method == "GET":
            return 200, _root(), {}
        if path == SESSIONS and method == "POST":
            return self._log_in(node, body)
        token = headers.get("x-auth-token", "")
        is_known = token in self._sessions[node]
        if not is_known and not secrets.compare_digest(headers.get("authorization", ""), self._basic):
            return _error(
                401, "NoValidSession", "There is no valid session established with the implementation."
            )
        match method:
            case "GET":
                found = self._resource(node, path)
                if found is None:
                    return _error(404, "ResourceMissingAtURI", f"The resource at {path} was not found.")
                tag = (
                    {"etag": self._tag(node)}
                    if path == LIMITS[self.ways[node]] and self.ways[node] != "legacy"
                    else {}
                )
                return 200, found, tag
            case "PATCH" if path == LIMITS[self.ways[node]]:
                return self._change(node, headers.get("if-match", ""), body)
            case "DELETE" if path.startswith(f"{SESSIONS}/"):
                held = self._sessions[node]
                self._sessions[node] = {one: uri for one, uri in held.items() if uri != path}
                return 204, None, {}
            case "POST" if path == f"{SYSTEM}/Actions/ComputerSystem.Reset":
                return self._reset(node, body)
        return _error(405, "OperationNotAllowed", f"{method} is not allowed at {path}.")

    def _log_in(self, node: int, body: bytes) -> Reply:
        asked = _decoded(body)
        if asked.get("UserName") != self.user or asked.get("Password") != self._password:
            return _error(401, "ResourceAtUriUnauthorized", "The user name or the password is wrong.")
        if len(self._sessions[node]) >= MOST_SESSIONS:
            return _error(503, "SessionLimitExceeded", "The number of simultaneous sessions is exceeded.")
        token, where = secrets.token_hex(16), f"{SESSIONS}/{secrets.token_hex(4)}"
        self._sessions[node][token] = where
        return 201, {"@odata.id": where, "UserName": self.user}, {"x-auth-token": token, "location": where}

    def _tag(self, node: int) -> str:
        return f'W/"{self.changes[node]}"'

    # -- resources ------------------------------------------------------------------------------------------

    def _resource(self, node: int, path: str) -> Any:
        way = self.ways[node]
        if path == f"{ROOT}/Chassis":
            return {"@odata.id": path, "Members": [{"@odata.id": CHASSIS}], "Members@odata.count": 1}
        if path == f"{ROOT}/Systems":
            return {"@odata.id": path, "Members": [{"@odata.id": SYSTEM}], "Members@odata.count": 1}
        if path == CHASSIS:
            link = {"environment": "EnvironmentMetrics", "control": "Controls", "legacy": "Power"}[way]
            kind = {
                "@odata.id": CHASSIS,
                "@odata.type": "#Chassis.v1_25_0.Chassis",
                "Id": "1",
                "ChassisType": "RackMount",
            }
            return kind | {link: {"@odata.id": f"{CHASSIS}/{link}"}}
        if path == SYSTEM:
            return self._system(node)
        if path == f"{CHASSIS}/Controls" and way == "control":
            return {
                "@odata.id": path,
                "Members": [{"@odata.id": LIMITS["control"]}],
                "Members@odata.count": 1,
            }
        return self._limit(node, path) if path == LIMITS[way] else None

    def _system(self, node: int) -> Any:
        action = {
            "target": f"{SYSTEM}/Actions/ComputerSystem.Reset",
            "ResetType@Redfish.AllowableValues": list(RESETS),
        }
        return {
            "@odata.id": SYSTEM,
            "@odata.type": "#ComputerSystem.v1_22_0.ComputerSystem",
            "Id": "1",
            "Name": f"{self.physics.fleet.node_ids[node]} (simulated)",
            "PowerState": _STATES[Power(int(self.physics.power[node]))],
            "Actions": {"#ComputerSystem.Reset": action},
        }

    def _limit(self, node: int, path: str) -> Any:
        physics, asked_w = self.physics, self.asked_w[node]
        drawn_w = round(float(physics.drawn_w[node]))
        least_w, most_w = int(physics.floor_w[node]), int(physics.nameplate_w[node])
        point = {
            "SetPoint": asked_w if asked_w is not None else most_w,
            "ControlMode": "Disabled" if asked_w is None else "Automatic",
            "AllowableMin": least_w,
            "AllowableMax": most_w,
        }
        match self.ways[node]:
            case "environment":
                kind = {
                    "@odata.id": path,
                    "@odata.type": "#EnvironmentMetrics.v1_3_1.EnvironmentMetrics",
                    "Id": "EnvironmentMetrics",
                }
                celsius = {"Reading": round(float(physics.celsius[node]), 1)}
                return kind | {
                    "PowerWatts": {"Reading": drawn_w},
                    "PowerLimitWatts": point,
                    "TemperatureCelsius": celsius,
                }
            case "control":
                kind = {"@odata.id": path, "@odata.type": "#Control.v1_5_1.Control", "Id": "PowerLimit"}
                more = {"ControlType": "Power", "SetPointUnits": "W", "Sensor": {"Reading": drawn_w}}
                return kind | more | point
        entry = {
            "MemberId": "0",
            "PowerConsumedWatts": drawn_w,
            "PowerCapacityWatts": most_w,
            "PowerLimit": {"LimitInWatts": asked_w, "LimitException": "NoAction", "CorrectionInMs": 1_000},
        }
        return {
            "@odata.id": path,
            "@odata.type": "#Power.v1_7_3.Power",
            "Id": "Power",
            "PowerControl": [entry],
        }

    # -- orders ---------------------------------------------------------------------------------------------

    def _change(self, node: int, tag: str, body: bytes) -> Reply:
        way = self.ways[node]
        if self.physics.failure[node] == Failure.REFUSES:
            return _error(503, "ServiceTemporarilyUnavailable", "The service is temporarily unavailable.")
        if way == "environment" and not tag:
            return _error(428, "PreconditionRequired", "A precondition header or annotation is required.")
        if way != "legacy" and tag not in ("", "*", self._tag(node)):
            return _error(412, "PreconditionFailed", "The ETag supplied did not match the current ETag.")
        try:
            watts = _asked(way, _decoded(body))
        except (LookupError, TypeError, ValueError):
            return _error(400, "PropertyUnknown", "There is no power limit in the body of the request.")
        least_w, most_w = self.physics.floor_w[node], self.physics.nameplate_w[node]
        if watts is not None and not least_w <= watts <= most_w:
            words = f"The value {watts} is not within the range from {least_w:.0f} to {most_w:.0f}."
            return _error(400, "PropertyValueOutOfRange", words)
        self.asked_w[node] = watts
        self.changes[node] += 1
        self.physics.set_cap(node, watts)
        return 200, self._limit(node, LIMITS[way]), {} if way == "legacy" else {"etag": self._tag(node)}

    def _reset(self, node: int, body: bytes) -> Reply:
        kind = _decoded(body).get("ResetType")
        if self.physics.failure[node] == Failure.REFUSES:
            return _error(503, "ServiceTemporarilyUnavailable", "The service is temporarily unavailable.")
        if kind not in RESETS:
            return _error(400, "ActionParameterNotSupported", f"ResetType {str(kind)[:40]} is not supported.")
        self.physics.reset(node, kind)
        return 204, None, {}


def _root() -> Any:
    found = {"@odata.id": ROOT, "@odata.type": "#ServiceRoot.v1_16_1.ServiceRoot", "RedfishVersion": "1.20.0"}
    found |= {"Id": "RootService", "Name": "Headrace plant (simulated)"}
    return found | {
        name: {"@odata.id": f"{ROOT}/{name}"} for name in ("Chassis", "Systems", "SessionService")
    }


def _asked(way: str, data: dict[str, Any]) -> int | None:
    """The limit in a body, None for none; raises LookupError, TypeError or ValueError when there is none in it."""
    if way == "legacy":
        watts = data["PowerControl"][0]["PowerLimit"]["LimitInWatts"]
        return None if watts is None else int(watts)
    point = data["PowerLimitWatts"] if way == "environment" else data
    if point.get("ControlMode") == "Disabled":
        return None
    return int(point["SetPoint"])


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _error(status: int, ident: str, words: str) -> Reply:
    info = [{"MessageId": f"Base.1.18.{ident}", "Message": words, "MessageSeverity": "Critical"}]
    return (
        status,
        {"error": {"code": f"Base.1.18.{ident}", "message": words, "@Message.ExtendedInfo": info}},
        {},
    )
