"""The file that says which devices a site has: documents of ``kind: devices``.

It stands on the control plane's own host and is no document of the API: it names addresses that the control plane gives orders
to, and files with passwords. Passwords themselves are never in it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.core.ids import NodeId, PowerNodeId
from headrace.core.power.telemetry import MeterRules
from headrace.core.units import MJ_PER_WH
from headrace.devices.credentials import Login, SecretFile
from headrace.devices.miners import Make, MinerAddress
from headrace.devices.modbus import MeterAddress, Register, RegisterKind, RegisterMap, RegisterType
from headrace.devices.redfish import ServerAddress, Way
from headrace.devices.web import Trust
from headrace.documents.load import checked
from headrace.documents.report import bad_input, capped
from headrace.documents.schema import Duration, Model, Name, Text, Watts, WattsOrNone
from headrace.documents.source import Raw, parse, read_bytes, show
from headrace.documents.values import Bad
from headrace.engines.declared import AbsolutePath
from headrace.engines.problems import refuse_writable_file

MODBUS_PORT = 502


def _url(value: object) -> str:
    if not isinstance(value, str) or not value.startswith(("http://", "https://")) or len(value) > 300:
        raise Bad(f"{show(value)} is no address.", "Write https://HOST, what stands before /redfish/v1.")
    return value.rstrip("/")


def _host_port(value: object) -> tuple[str, int]:
    """``HOST`` or ``HOST:PORT``; port 0 where none is given."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if isinstance(value, str) and not host:
        host, port = value, "0"
    if not host or "/" in host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise Bad(f"{show(value)} is no address.", "Write HOST or HOST:PORT, like 10.20.0.7:502.")
    return host, int(port)


def _scale(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not value:
        raise Bad(f"{show(value)} is no scale.", "Write a number other than 0, like 1000 for kilowatts.")
    return float(value)


def _whole(least: int, most: int) -> BeforeValidator:
    def validate(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Bad(f"{show(value)} is none.", f"Write a whole number from {least} to {most}.")
        return value

    return BeforeValidator(validate)


Url = Annotated[str, BeforeValidator(_url)]
HostPort = Annotated[tuple[str, int], BeforeValidator(_host_port)]
Scale = Annotated[float, BeforeValidator(_scale)]


class RegisterModel(Model):
    """A register: ``at`` counts from 0. ``scale`` makes watts, watt-hours, milliseconds or counts of what it says."""

    at: Annotated[int, _whole(0, 65_535)]
    type: RegisterType
    scale: Scale = 1.0
    kind: RegisterKind = "holding"
    words: Literal["big", "little"] = "big"

    def core(self) -> Register:
        """As the adapter takes it."""
        return Register(self.at, self.type, self.scale, self.kind, self.words)


class MapModel(Model):
    """What a make of meter tells: ``power``, and what shows that it is alive. ``sign`` -1: what is drawn counts as negative."""

    power: RegisterModel
    energy: RegisterModel | None = None
    clock: RegisterModel | None = None
    sequence: RegisterModel | None = None
    sign: Annotated[int, _whole(-1, 1)] = 1

    def core(self) -> RegisterMap:
        """As the adapter takes it."""
        energy, clock, sequence = (
            None if one is None else one.core() for one in (self.energy, self.clock, self.sequence)
        )
        return RegisterMap(self.power.core(), energy, clock, sequence, -1 if self.sign < 0 else 1)


class LoginModel(Model):
    """Who to be: ``password`` is a file with mode 0600. ``session`` false: the password goes with each request."""

    user: Text = "admin"
    password: AbsolutePath
    session: bool = True


class TrustModel(Model):
    """Whose certificates to believe: a file ``ca``, or the SHA-256 ``fingerprint`` of the one certificate."""

    ca: AbsolutePath | None = None
    fingerprint: Text = ""


class MeterModel(Model):
    """A meter: the ``element`` of the power tree whose watts it measures, and where it is. ``nameplate``: the most that is below.

    ``lag``: how far it lies behind; ``max_age``: what is older is no reading; ``ramp``: the most its load changes in a second.
    """

    name: Text
    element: Text
    address: HostPort
    unit: Annotated[int, _whole(0, 255)] = 1
    map: Name
    nameplate: Watts
    lag: Duration = 2_000
    max_age: Duration = 6_000
    ramp: WattsOrNone = 0


class ServerModel(Model):
    """A node's management controller. ``limit``: which of the three it should be set by; else the first that it has."""

    node: Text
    url: Url
    system: Text = ""
    chassis: Text = ""
    login: Name | None = None
    trust: Name | None = None
    limit: Way | None = None


class MinerModel(Model):
    """A miner. ``make`` auto: pyasic finds it out.

    Either ``node``: the node of the estate that it is, of a block whose engine is ``miners``. Or it is watched alone: its
    ``name``, ``hall`` and ``nameplate``, and the ``element`` of the power tree that it hangs at.
    """

    node: Text | None = None
    name: Text | None = None
    hall: Text | None = None
    element: Text | None = None
    address: HostPort
    nameplate: Watts | None = None
    make: Make = "whatsminer"
    login: Name | None = None

    @property
    def called(self) -> str:
        """Its name: its node's where it is one."""
        return self.name or self.node or ""

    @property
    def places(self) -> list[tuple[str, str]]:
        """What it says of where it is, by field."""
        return [(field, name) for field in ("node", "element") if (name := getattr(self, field)) is not None]

    @property
    def half_said(self) -> list[tuple[str, str]]:
        """What lacks of either way to say which miner it is, with the next step."""
        lacking = [
            field for field in ("name", "hall", "element", "nameplate") if getattr(self, field) is None
        ]
        if self.node is not None or not lacking:
            return []
        step = f"Add {', '.join(lacking)}; or node, if it is one of the estate."
        return [("it is no node, and not all is said of it.", step)]


class DevicesModel(Model):
    """The devices of one site."""

    kind: Literal["devices"]
    site: Name
    maps: dict[Name, MapModel] = Field(default={})
    logins: dict[Name, LoginModel] = Field(default={})
    trusts: dict[Name, TrustModel] = Field(default={})
    meters: list[MeterModel] = Field(default=[])
    servers: list[ServerModel] = Field(default=[])
    miners: list[MinerModel] = Field(default=[])


@dataclass(frozen=True, slots=True)
class SiteDevices:
    """The devices of one site, as the adapters take them."""

    site: str
    meters: tuple[MeterAddress, ...]
    servers: tuple[ServerAddress, ...]
    miners: tuple[MinerAddress, ...]


def load_devices(path: Path) -> list[SiteDevices]:
    """The devices that a file declares, site by site; HeadraceError with every problem, or when others may write it."""
    refuse_writable_file(path, "the control plane gives orders to what it names")
    found: list[SiteDevices] = []
    problems: list[Problem] = []
    for raw in parse(read_bytes(path), str(path)):
        try:
            found.append(_site(raw))
        except HeadraceError as error:
            problems.extend(error.problems)
    if not found and not problems:
        problems.append(
            Problem(ProblemCode.BAD_INPUT, "no devices in it.", "Begin with kind: devices.", str(path))
        )
    if problems:
        raise HeadraceError(*capped(problems))
    return found


def _site(raw: Raw) -> SiteDevices:
    kind = raw.data.get("kind") if isinstance(raw.data, dict) else raw.data
    if kind != "devices":
        step = did_you_mean(str(kind)[:60], ["devices"])
        raise HeadraceError(bad_input(f"{show(kind)} are no devices;", step, raw.source, ("kind",)))
    one = checked(DevicesModel, raw.data, raw.source)
    problems = [*_names(one, raw), *_twice(one, raw)]
    if problems:
        raise HeadraceError(*problems)
    maps = {name: made.core() for name, made in one.maps.items()}
    logins = {
        name: Login(made.user, SecretFile(made.password), made.session) for name, made in one.logins.items()
    }
    trusts = {name: Trust(made.ca, made.fingerprint) for name, made in one.trusts.items()}
    return SiteDevices(
        one.site,
        tuple(_meter(meter, maps[meter.map]) for meter in one.meters),
        tuple(
            ServerAddress(
                NodeId(server.node),
                server.url,
                server.system,
                server.chassis,
                logins.get(server.login or ""),
                trusts.get(server.trust or ""),
                server.limit,
            )
            for server in one.servers
        ),
        tuple(_miner(miner, logins) for miner in one.miners),
    )


def _meter(meter: MeterModel, registers: RegisterMap) -> MeterAddress:
    host, port = meter.address
    step = 1.0 if registers.energy is None else abs(registers.energy.scale)
    if registers.energy is not None and not registers.energy.is_integer:
        # Of a float the least step is not known from its type; makes give them in thousandths at best.
        step /= 1_000
    rules = MeterRules(
        nameplate_w=meter.nameplate,
        max_age_ms=meter.max_age,
        lag_ms=meter.lag,
        ramp_w_per_s=meter.ramp,
        energy_step_mj=max(1, round(step * MJ_PER_WH)),
        noise_w=max(50, meter.nameplate // 500),
    )
    return MeterAddress(
        meter.name, PowerNodeId(meter.element), host, port or MODBUS_PORT, meter.unit, registers, rules
    )


def _miner(miner: MinerModel, logins: dict[str, Login]) -> MinerAddress:
    host, port = miner.address
    rack = "" if miner.node is None else miner.node.rpartition("-")[0]
    return MinerAddress(
        miner.called,
        miner.hall or rack.rpartition("/")[0],
        PowerNodeId(miner.element or rack),
        host,
        miner.nameplate or 0,
        miner.make,
        port,
        logins.get(miner.login or ""),
        None if miner.node is None else NodeId(miner.node),
    )


def hall_of(sites: Sequence[SiteDevices]) -> list[MinerAddress]:
    """The miners that are nodes of the estate."""
    return [one for site in sites for one in site.miners if one.node is not None]


def without_hall(sites: Sequence[SiteDevices]) -> list[SiteDevices]:
    """The devices, but for those miners that an engine drives."""
    return [replace(site, miners=tuple(one for one in site.miners if one.node is None)) for site in sites]


def _names(one: DevicesModel, raw: Raw) -> list[Problem]:
    """Names of maps, logins and trusts that nothing has, and elements of other sites."""
    found = []
    asked: list[tuple[str, int, str, str | None, Collection[str]]]
    asked = [("meters", number, "map", meter.map, one.maps.keys()) for number, meter in enumerate(one.meters)]
    for number, server in enumerate(one.servers):
        asked.append(("servers", number, "login", server.login, one.logins.keys()))
        asked.append(("servers", number, "trust", server.trust, one.trusts.keys()))
    for number, miner in enumerate(one.miners):
        asked.append(("miners", number, "login", miner.login, one.logins.keys()))
        if miner.make == "auto" and miner.address[1]:
            text, step = (
                "a port, and make: auto;",
                "pyasic looks for makes at their own ports: name the make.",
            )
            found.append(bad_input(text, step, raw.source, ("miners", number, "address")))
    for kind, number, field, name, known in asked:
        if name is not None and name not in known:
            text = f"no {field} {name!r};"
            found.append(bad_input(text, did_you_mean(name, known), raw.source, (kind, number, field)))
    places = [("meters", n, "element", meter.element) for n, meter in enumerate(one.meters)]
    places += [("servers", n, "node", server.node) for n, server in enumerate(one.servers)]
    for number, miner in enumerate(one.miners):
        places += [("miners", number, field, name) for field, name in miner.places]
        found += [bad_input(*text, raw.source, ("miners", number)) for text in miner.half_said]
    for kind, number, field, name in places:
        if name != one.site and not name.startswith(f"{one.site}/"):
            text = f"{name} is not of site {one.site}."
            found.append(bad_input(text, f"Write {one.site}/...", raw.source, (kind, number, field)))
    return found


def _twice(one: DevicesModel, raw: Raw) -> list[Problem]:
    found = []
    seen: dict[tuple[str, str], int] = {}
    names = [("meters", "name", n, meter.name) for n, meter in enumerate(one.meters)]
    names += [("servers", "node", n, server.node) for n, server in enumerate(one.servers)]
    # Two nodes behind one address would be capped by each other's limits.
    names += [("servers", "url", n, f"{s.url} {s.chassis}") for n, s in enumerate(one.servers)]
    names += [("miners", "name", n, miner.called) for n, miner in enumerate(one.miners)]
    names += [("miners", "address", n, f"{m.address[0]}:{m.address[1]}") for n, m in enumerate(one.miners)]
    for kind, field, number, name in names:
        first = seen.setdefault((f"{kind} {field}", name), number)
        if first != number:
            text, step = f"{name.strip()} stands twice; first at {kind}[{first}].", "Keep one of them."
            found.append(bad_input(text, step, raw.source, (kind, number, field)))
    return found
