"""Servers over Redfish: a power limit, read back; off and on.

Three generations of the standard have a limit for a whole server, and controllers have one, several or none of them:

- ``environment``: ``Chassis/ID/EnvironmentMetrics``, ``PowerLimitWatts`` with ``SetPoint`` and ``ControlMode``;
- ``control``: a ``Control`` resource of ``ControlType`` Power below ``Chassis/ID/Controls``;
- ``legacy``: ``Chassis/ID/Power``, ``PowerControl[].PowerLimit.LimitInWatts`` (deprecated since 2020, and still in service).

They are looked for in this order, once. Changes carry ``If-Match`` where the controller gave an ETag.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from headrace.core.ids import NodeId
from headrace.devices import DeviceError, DeviceFault, LimitRange, LimitReading
from headrace.devices.credentials import Login
from headrace.devices.web import Answer, Trust, Web
from headrace.ports import Clock

Way = Literal["environment", "control", "legacy"]
WAYS: tuple[Way, ...] = ("environment", "control", "legacy")
_ACTING_MODES = (None, "Automatic", "Override")
"""Modes of a control in which it acts by itself. Manual holds the number and does nothing; Disabled limits nothing."""
_STALE_TAG = (412, 428)
"""The ETag is not the present one, or is wanted and was not sent."""
_USUAL_RESETS = ("ForceOff", "GracefulShutdown", "On", "ForceOn", "PushPowerButton")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a node's management controller is.

    ``url``: all before ``/redfish/v1``. ``system`` and ``chassis``: their ids there; "": the only one. ``way`` None: the first
    that it has.
    """

    node: NodeId
    url: str
    system: str = ""
    chassis: str = ""
    login: Login | None = None
    trust: Trust | None = None
    way: Way | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Where a controller's limit is: the ``way``, the resource, and for ``legacy`` which entry of its list."""

    way: Way
    uri: str
    entry: int = 0


class RedfishServer:
    """One server's :class:`~headrace.devices.Limiter` and :class:`~headrace.devices.Switch`."""

    def __init__(self, address: ServerAddress, web: Web, clock: Clock) -> None:
        self.address, self._web, self._clock = address, web, clock
        self._token = self._session_uri = ""
        self._found: Found | None = None
        # None: not known; "": it gives none.
        self._tag: str | None = None
        self._range = LimitRange(None, None)
        self._reset: tuple[str, tuple[str, ...]] | None = None
        self._system_uri = ""
        self.is_troubled = False
        """Whether it did not answer the last question."""

    @property
    def node(self) -> NodeId:
        """The node of the estate."""
        return self.address.node

    @property
    def way(self) -> Way | None:
        """By which of the three its limit is set; None until it was looked for."""
        return None if self._found is None else self._found.way

    # -- the limit ------------------------------------------------------------------------------------------

    async def discover(self) -> Found:
        """Look which of the three it has, once; DeviceError when none, or when it can't be asked."""
        if self._found is None:
            chassis = await self._member("Chassis", self.address.chassis)
            for way in WAYS if self.address.way is None else (self.address.way,):
                found = await self._look(way, chassis)
                if found is not None:
                    self._found = found
                    break
            else:
                raise self._error(
                    DeviceFault.UNSUPPORTED,
                    f"has no power limit ({self.address.way or 'EnvironmentMetrics, Controls or PowerControl'});",
                    "Update its firmware, or count it at nameplate and switch it off instead.",
                )
        return self._found

    async def set_limit(self, watts: int | None) -> None:
        """See :class:`~headrace.devices.Limiter`."""
        found = await self.discover()
        body = _change(found, watts)
        answer = await self._patch(found.uri, body)
        if answer.status in _STALE_TAG:
            # Somebody else changed it in between: what was asked holds all the same.
            await self._read(found.uri)
            answer = await self._patch(found.uri, body)
        if not answer.is_ok:
            self._tag = None
            raise self._refused(answer, f"a limit of {'none' if watts is None else f'{watts} W'}")
        if self._tag != "":
            # It is another after each change; some say which, of others it is read again.
            self._tag = answer.headers.get("etag")

    async def limit(self) -> LimitReading:
        """See :class:`~headrace.devices.Limiter`."""
        found = await self.discover()
        data = await self._read(found.uri)
        reading, self._range = self._parse(found, data)
        return reading

    async def range(self) -> LimitRange:
        """See :class:`~headrace.devices.Limiter`."""
        await self.discover()
        return self._range

    async def _look(self, way: Way, chassis: Any) -> Found | None:
        link = {"environment": "EnvironmentMetrics", "control": "Controls", "legacy": "Power"}[way]
        uri = _link(chassis, link)
        if not uri:
            return None
        if way != "control":
            return self._if_limit(way, uri, await self._get(uri))
        for member in _links(await self._get(uri), "Members"):
            found = self._if_limit(way, member, await self._get(member))
            if found is not None:
                return found
        return None

    def _if_limit(self, way: Way, uri: str, answer: Answer) -> Found | None:
        data = answer.data
        if not answer.is_ok or not isinstance(data, dict):
            return None
        entry = _entry(way, data)
        if entry is None:
            return None
        found = Found(way, uri, entry)
        self._tag = _tag_of(answer)
        _, self._range = self._parse(found, data)
        return found

    def _parse(self, found: Found, data: Any) -> tuple[LimitReading, LimitRange]:
        try:
            return _reading(found, data, self._clock.now_ms())
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._error(
                DeviceFault.UNEXPECTED,
                f"{found.uri} has another shape than the {found.way} limit it had;",
                "Look at it with a browser; its firmware may have been changed.",
            ) from error

    # -- off and on -----------------------------------------------------------------------------------------

    async def off(self, *, at_once: bool = False) -> None:
        """See :class:`~headrace.devices.Switch`."""
        await self._switch(("ForceOff",) if at_once else ("GracefulShutdown", "ForceOff"), "off")

    async def on(self) -> None:
        """See :class:`~headrace.devices.Switch`."""
        await self._switch(("On", "ForceOn"), "on")

    async def is_on(self) -> bool:
        """See :class:`~headrace.devices.Switch`."""
        data = await self._system()
        state = data.get("PowerState") if isinstance(data, dict) else None
        if state not in ("On", "Off", "PoweringOn", "PoweringOff", "Paused"):
            raise self._error(
                DeviceFault.UNEXPECTED,
                f"says PowerState {str(state)[:40]!r};",
                "Count it as on, and look at its controller.",
            )
        return bool(state != "Off")

    async def _switch(self, wanted: Sequence[str], what: str) -> None:
        if self._reset is None:
            data = await self._system()
            action = _dig(data, "Actions", "#ComputerSystem.Reset")
            target = action.get("target") if isinstance(action, dict) else None
            if not isinstance(target, str):
                raise self._error(
                    DeviceFault.UNSUPPORTED, "has no reset action;", "Use the sockets of its rack."
                )
            allowed = action.get("ResetType@Redfish.AllowableValues")
            known = tuple(str(one) for one in allowed) if isinstance(allowed, list) else _USUAL_RESETS
            self._reset = target, known
        target, known = self._reset
        kind = next((one for one in wanted if one in known), None)
        if kind is None:
            step = f"It knows {', '.join(known) or 'no kind of reset'}."
            raise self._error(DeviceFault.UNSUPPORTED, f"can't be turned {what};", step)
        answer = await self._ask("POST", target, {"ResetType": kind})
        if not answer.is_ok:
            raise self._refused(answer, kind)

    async def _system(self) -> Any:
        if not self._system_uri:
            member = await self._member("Systems", self.address.system)
            self._system_uri = str(member.get("@odata.id", "")) if isinstance(member, dict) else ""
            return member
        return await self._read(self._system_uri, tags=False)

    # -- asking ---------------------------------------------------------------------------------------------

    async def _member(self, collection: str, ident: str) -> Any:
        """The member of a collection that was declared, else the only one."""
        root = f"/redfish/v1/{collection}"
        if ident:
            return await self._read(f"{root}/{ident}", tags=False)
        members = _links(await self._get(root), "Members")
        if len(members) != 1:
            names = ", ".join(one.rpartition("/")[2] for one in members[:12]) or "none"
            raise self._error(
                DeviceFault.UNEXPECTED,
                f"has {len(members)} {collection}: {names};",
                f"Say which one is this node, as `{'chassis' if collection == 'Chassis' else 'system'}`.",
            )
        return await self._read(members[0], tags=False)

    async def _read(self, uri: str, *, tags: bool = True) -> Any:
        answer = await self._get(uri)
        if not answer.is_ok:
            raise self._refused(answer, f"GET {uri}")
        if not isinstance(answer.data, dict):
            raise self._error(
                DeviceFault.UNEXPECTED, f"{uri} is no JSON object;", "Check its address: is it Redfish?"
            )
        if tags:
            self._tag = _tag_of(answer)
        return answer.data

    async def _get(self, uri: str) -> Answer:
        return await self._ask("GET", uri)

    async def _patch(self, uri: str, body: object) -> Answer:
        if self._tag is None:
            # Some refuse a change without one.
            await self._read(uri)
        return await self._ask("PATCH", uri, body, {"If-Match": self._tag} if self._tag else {})

    async def _ask(
        self, method: str, uri: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        answer = await self._send(method, uri, body, headers or {})
        login = self.address.login
        if answer.status == 401 and login is not None and login.session and self._token:
            # Sessions end when nobody uses them, and when the controller starts again.
            self._token = ""
            answer = await self._send(method, uri, body, headers or {})
        if answer.status == 401:
            raise self._unauthorised(login)
        return answer

    async def _send(self, method: str, uri: str, body: object, headers: dict[str, str]) -> Answer:
        if not uri.startswith("/"):
            step = "Look at what it answers: links of Redfish begin with a slash."
            raise self._error(DeviceFault.UNEXPECTED, f"links to {uri[:60]!r};", step)
        wanted = {"Accept": "application/json", "OData-Version": "4.0"} | headers | await self._credentials()
        return await self._reach(method, self.address.url + uri, wanted, body)

    async def _credentials(self) -> dict[str, str]:
        login = self.address.login
        if login is None:
            return {}
        if not login.session:
            pair = f"{login.user}:{login.secret.read(self.node)}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        if not self._token:
            self._token = await self._log_in(login)
        return {"X-Auth-Token": self._token}

    async def _log_in(self, login: Login) -> str:
        answer = await self._reach(
            "POST",
            f"{self.address.url}/redfish/v1/SessionService/Sessions",
            {"Accept": "application/json", "OData-Version": "4.0"},
            {"UserName": login.user, "Password": login.secret.read(self.node)},
        )
        token = answer.headers.get("x-auth-token", "")
        if answer.status in (400, 401, 403):
            raise self._unauthorised(login)
        if not answer.is_ok or not token:
            raise self._error(
                DeviceFault.UNSUPPORTED,
                f"gives no session (status {answer.status});",
                "Write `session: false` for its login, to send the password with each request.",
            )
        # Some give the whole address, and some the path alone.
        self._session_uri = "/" + answer.headers.get("location", "").removeprefix(self.address.url).lstrip(
            "/"
        )
        return token

    async def log_out(self) -> None:
        """End the session, if there is one: controllers have room for few, and keep those that nobody ends for long."""
        if self._token and self._session_uri != "/":
            token, self._token = self._token, ""
            headers = {"X-Auth-Token": token, "OData-Version": "4.0"}
            await self._reach("DELETE", self.address.url + self._session_uri, headers, None)

    async def _reach(self, method: str, url: str, headers: dict[str, str], body: object) -> Answer:
        # Until it has answered: whoever is cancelled in the middle was not answered either.
        self.is_troubled = True
        answer = await self._web.ask(
            self.node, method, url, headers=headers, body=body, trust=self.address.trust
        )
        self.is_troubled = False
        return answer

    # -- errors ---------------------------------------------------------------------------------------------

    def _error(self, fault: DeviceFault, message: str, step: str) -> DeviceError:
        return DeviceError(self.node, fault, message, step)

    def _unauthorised(self, login: Login | None) -> DeviceError:
        if login is None:
            return self._error(DeviceFault.CREDENTIALS, "wants a password;", "Declare a login for it.")
        return self._error(
            DeviceFault.CREDENTIALS,
            f"does not accept user {login.user} with the password in {login.secret.path};",
            "Correct the file; after several failures a controller may lock the account for minutes.",
        )

    def _refused(self, answer: Answer, what: str) -> DeviceError:
        said = _said(answer.data)
        words = f": {said}" if said else ""
        match answer.status:
            case 400 | 422:
                fault, step = DeviceFault.RANGE, "Ask for a limit that it takes (`range` says which)."
            case 403:
                fault, step = DeviceFault.CREDENTIALS, "Give its user the right ConfigureManager."
            case 404:
                fault, step = DeviceFault.UNEXPECTED, "Check the ids of its system and chassis."
            case 405 | 501:
                fault, step = (
                    DeviceFault.UNSUPPORTED,
                    "Its firmware only shows this limit: declare another way.",
                )
            case _:
                fault, step = (
                    DeviceFault.REFUSED,
                    "It is asked again; count it at nameplate until it takes it.",
                )
        return self._error(fault, f"refuses {what} (status {answer.status}){words};", step)


def _entry(way: Way, data: dict[str, Any]) -> int | None:
    """Which entry of a resource's list has the limit (0 where it has no list); None when it has none."""
    match way:
        case "environment":
            return 0 if isinstance(data.get("PowerLimitWatts"), dict) else None
        case "control":
            return 0 if data.get("ControlType") == "Power" and "SetPoint" in data else None
        case "legacy":
            entries = data.get("PowerControl")
            for number, one in enumerate(entries if isinstance(entries, list) else []):
                if isinstance(one, dict) and isinstance(one.get("PowerLimit"), dict):
                    return number
            return None


def _change(found: Found, watts: int | None) -> object:
    """The body that sets a limit, or lifts it."""
    point: dict[str, object] = {"ControlMode": "Disabled"}
    if watts is not None:
        point = {"SetPoint": watts, "ControlMode": "Automatic"}
    match found.way:
        case "environment":
            return {"PowerLimitWatts": point}
        case "control":
            return point
        case "legacy":
            # A list is changed by place: entries before it are left as they are by an empty object.
            entry = {"PowerLimit": {"LimitInWatts": watts}}
            return {"PowerControl": [*({} for _ in range(found.entry)), entry]}


def _reading(found: Found, data: Any, at_ms: int) -> tuple[LimitReading, LimitRange]:
    if found.way == "legacy":
        entry = data["PowerControl"][found.entry]
        limit_w, drawn_w = (
            _whole(entry["PowerLimit"]["LimitInWatts"]),
            _whole(entry.get("PowerConsumedWatts")),
        )
        most_w = _whole(entry.get("PowerAllocatedWatts") or entry.get("PowerCapacityWatts"))
        return LimitReading(limit_w, at_ms, limit_w is not None, drawn_w), LimitRange(None, most_w)
    point = data["PowerLimitWatts"] if found.way == "environment" else data
    mode, limit_w = point.get("ControlMode"), _whole(point["SetPoint"])
    sensor = data.get("PowerWatts") if found.way == "environment" else data.get("Sensor")
    drawn_w = _whole(sensor.get("Reading")) if isinstance(sensor, dict) else None
    allowed = LimitRange(
        _whole(point.get("AllowableMin", point.get("SettingMin"))),
        _whole(point.get("AllowableMax", point.get("SettingMax"))),
    )
    if mode == "Disabled":
        limit_w = None
    return LimitReading(limit_w, at_ms, limit_w is not None and mode in _ACTING_MODES, drawn_w), allowed


def _whole(value: object) -> int | None:
    """Watts, rounded up; None for null or nothing. Raises TypeError for what is no number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number of watts")
    return ceil(value)


def _dig(data: Any, *names: str) -> Any:
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _link(data: Any, name: str) -> str:
    found = _dig(data, name, "@odata.id")
    return found if isinstance(found, str) else ""


def _links(answer: Answer, name: str) -> list[str]:
    members = _dig(answer.data, name) if answer.is_ok else None
    found = [_dig(one, "@odata.id") for one in members] if isinstance(members, list) else []
    return [one for one in found if isinstance(one, str)]


def _tag_of(answer: Answer) -> str:
    found = answer.headers.get("etag") or _dig(answer.data, "@odata.etag")
    return found if isinstance(found, str) else ""


def _said(data: Any) -> str:
    """What the controller says of its refusal, in its own words, without what could play tricks on a terminal."""
    info = _dig(data, "error", "@Message.ExtendedInfo")
    first = info[0] if isinstance(info, list) and info else None
    text = _dig(first, "Message") or _dig(data, "error", "message")
    return "".join(letter for letter in str(text)[:160] if letter.isprintable()).rstrip(".") if text else ""
