"""A plant as a process: physics in step with the wall clock, behind its servers; and the files that say where they are.

In its directory stand ``devices.yaml`` (what a control plane reads), the passwords that it names, ``plant.json`` (where the
control channel is, and the plant's clock) and the channel's ``token``.
"""

import asyncio
import contextlib
import errno
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.fleet import Fleet
from headrace.plant import loopback
from headrace.plant.control import Truth
from headrace.plant.miner_server import Miners
from headrace.plant.modbus_server import UNITS, MeterGateways
from headrace.plant.physics import MinerPlace
from headrace.plant.redfish_server import Controllers
from headrace.plant.site import Options, make_meters, make_physics

STEP_MS = 100
"""Between two steps of the physics at the speed of the real world, by the plant's clock."""
FASTEST_MS = 20
"""Between two steps at a higher speed, by the wall clock."""
USER = "headrace"
DEVICES, PLANT, TOKEN, CONTROLLER_PASSWORD, MINER_PASSWORD = (
    "devices.yaml",
    "plant.json",
    "token",
    "controllers.password",
    "miners.password",
)


@dataclass(frozen=True, slots=True)
class PlantClock:
    """The plant's clock: from ``origin_ms`` on it runs ``speed`` times as fast as the wall clock.

    Who controls a plant that is faster than the world must go by its clock: ``plant.json`` has both numbers.
    """

    origin_ms: int
    speed: int

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC, as the plant has it."""
        return self.origin_ms + (time.time_ns() // 1_000_000 - self.origin_ms) * self.speed

    @classmethod
    def of(cls, directory: Path) -> Self:
        """The clock of the plant whose directory this is."""
        said = json.loads((directory / PLANT).read_text(encoding="utf-8"))
        return cls(int(said["origin_ms"]), int(said["speed"]))


class Plant:
    """A running plant; an asynchronous context manager."""

    def __init__(self, fleet: Fleet, options: Options, directory: Path) -> None:
        self.fleet, self.options, self.directory = fleet, options, directory
        self.clock = PlantClock(time.time_ns() // 1_000_000, options.speed)
        self.physics = make_physics(fleet, options, self.clock.now_ms())
        self.meters = make_meters(fleet, options.racks)
        self.control_url = self.redfish_url = ""
        self.network = loopback.FIRST_NETWORK
        self._tasks: list[asyncio.Task[None]] = []
        self._webs: list[_Web] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen everywhere, write the files, and let time pass. HeadraceError when something is in the way."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            words = [secrets.token_urlsafe(12), secrets.token_hex(4), secrets.token_urlsafe(24)]
            for name, word in zip((CONTROLLER_PASSWORD, MINER_PASSWORD, TOKEN), words, strict=True):
                _write(self.directory / name, f"{word}\n", 0o600)
            await self._listen(*words)
        except OSError as error:
            await self.stop()
            text = f"the plant can't start: {error.strerror or error};"
            raise HeadraceError(
                Problem(
                    ProblemCode.CONFLICT, text, "Is another one running? Choose another --port-base or --out."
                )
            ) from error
        self._tasks.append(asyncio.create_task(self._pass_time()))

    async def _listen(self, password: str, miner_password: str, token: str) -> None:
        options, physics = self.options, self.physics
        base = options.port_base
        await self._listen_for_miners(miner_password)
        controllers = Controllers(physics, USER, password, options.way, options.speed)
        sockets = loopback.listen(self.network, len(self.fleet.node_ids), base)
        files = _certificate(self.directory) if options.tls else None
        self._serve(controllers, sockets, controllers.protocol(), files)
        self.gateways = MeterGateways(physics, self.meters, options.lag_ms)
        count = -(-len(self.meters) // UNITS)
        ports = await self.gateways.start("127.0.0.1", [base + 2 + n if base else 0 for n in range(count)])
        truth = Truth(physics, self.meters, options.lag_ms, options.speed, token)
        control = socket.create_server(("127.0.0.1", base + 1 if base else 0))
        self._serve(truth.app(), [control], "httptools", None)
        self.control_url = f"http://127.0.0.1:{control.getsockname()[1]}"
        port = sockets[0].getsockname()[1]
        await asyncio.gather(*(web.is_up() for web in self._webs))
        fingerprint = "" if files is None else files.fingerprint
        _write(self.directory / DEVICES, self._devices(port, ports, fingerprint), 0o644)
        said = {"control": self.control_url, "token": str(self.directory / TOKEN), "speed": options.speed}
        said |= {"origin_ms": self.clock.origin_ms, "site": str(self.fleet.sites[0].id), "pid": os.getpid()}
        _write(self.directory / PLANT, json.dumps(said, indent=1) + "\n", 0o644)

    async def _listen_for_miners(self, password: str) -> None:
        """Take the first network whose miners' addresses nobody has: by listening, since who only looks may lose it."""
        for self.network in loopback.networks():
            self.miners = Miners(self.physics, self.network, password, self.options.speed)
            try:
                return await self.miners.start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError("every network from 127.64 to 127.127 is taken by another plant")

    def _serve(self, app: Any, sockets: list[socket.socket], protocol: Any, files: "_Files | None") -> None:
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            lifespan="off",
            http=protocol,
            ws="none",
            backlog=4_096,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=1,
            ssl_certfile=None if files is None else str(files.certificate),
            ssl_keyfile=None if files is None else str(files.key),
        )
        web = _Web(config)
        self._webs.append(web)
        self._tasks.append(asyncio.create_task(web.serve(sockets=sockets)))

    async def stop(self) -> None:
        """Listen no more; files stay."""
        for web in self._webs:
            web.should_exit = True
        if hasattr(self, "miners"):
            await self.miners.stop()
        if hasattr(self, "gateways"):
            await self.gateways.stop()
        for task in self._tasks[len(self._webs) :]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def run(self, until: asyncio.Event) -> None:
        """Go on until the event, or until something of it ends that should not."""
        waiting = [*self._tasks, asyncio.create_task(until.wait())]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        waiting[-1].cancel()
        for task in done:
            task.result()

    async def _pass_time(self) -> None:
        every_s = max(FASTEST_MS, STEP_MS // self.options.speed) / 1_000
        while True:
            self.physics.advance(self.clock.now_ms())
            await asyncio.sleep(every_s)

    # -- the devices file -----------------------------------------------------------------------------------

    def _devices(self, port: int, ports: list[int], fingerprint: str) -> str:
        """Each entry is a line of its own, as JSON, which is YAML: a thousand nodes are a thousand lines."""
        site, fleet, physics = self.fleet.sites[0].id, self.fleet, self.physics
        # A site's load can't change by more than its nameplate in the time that a load or a cap takes.
        ramp_ms = min(self.options.speeds.load_ramp_ms, self.options.speeds.cap_lag_ms)
        meters = [
            {
                "name": one.name,
                "element": str(fleet.power_ids[one.element]),
                "address": f"127.0.0.1:{ports[one.gateway]}",
                "unit": one.unit,
                "map": "plant",
                "nameplate": f"{round(float(physics.most_w[one.element]))}W",
                "lag": f"{max(1, self.options.lag_ms)}ms",
                "max_age": f"{self.options.lag_ms + 4_000 * self.options.speed}ms",
                "ramp": f"{round(float(physics.most_w[one.element]) * 1_000 / ramp_ms)}W",
            }
            for one in self.meters
        ]
        scheme = "https" if fingerprint else "http"
        trust = {"trust": "plant"} if fingerprint else {}
        servers = [
            {
                "node": str(name),
                "url": f"{scheme}://{loopback.node_address(self.network, number)}:{port}",
                "login": "controllers",
            }
            | trust
            for number, name in enumerate(fleet.node_ids)
            if physics.is_server[number]
        ]
        miners = [
            self._which(one) | {"address": loopback.miner_address(self.network, number), "login": "miners"}
            for number, one in enumerate(physics.miners)
        ]
        return "\n".join(
            [
                "# The devices of a simulated site, written by `headrace plant`. It goes with the plant.",
                "kind: devices",
                f"site: {site}",
                f"maps: {json.dumps(REGISTER_MAPS)}",
                f"logins: {json.dumps(self._logins())}",
                f"trusts: {json.dumps({'plant': {'fingerprint': fingerprint}} if fingerprint else {})}",
                *_lines("meters", meters),
                *_lines("servers", servers),
                *_lines("miners", miners),
                "",
            ]
        )

    def _which(self, one: MinerPlace) -> dict[str, str]:
        """Which miner it is: a node of the estate, or one that hangs at an element."""
        if one.node >= 0:
            return {"node": one.name}
        hall, element = f"{self.fleet.sites[0].id}/hall", str(self.fleet.power_ids[one.element])
        return {"name": one.name, "hall": hall, "element": element, "nameplate": f"{one.nameplate_w}W"}

    def _logins(self) -> dict[str, Any]:
        here = self.directory.absolute()
        return {
            "controllers": {"user": USER, "password": str(here / CONTROLLER_PASSWORD)},
            "miners": {"password": str(here / MINER_PASSWORD)},
        }


REGISTER_MAPS = {
    "plant": {
        "power": {"at": 0, "type": "int32"},
        "energy": {"at": 2, "type": "uint64"},
        "clock": {"at": 6, "type": "uint64"},
        "sequence": {"at": 10, "type": "uint32"},
    }
}
"""How the plant's meters show themselves (:data:`headrace.plant.meters.REGISTERS`)."""


def _lines(name: str, entries: list[dict[str, Any]] | list[dict[str, str]]) -> Iterator[str]:
    yield f"{name}:" if entries else f"{name}: []"
    for one in entries:
        yield f"  - {json.dumps(one)}"


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)


@dataclass(frozen=True, slots=True)
class _Files:
    certificate: Path
    key: Path
    fingerprint: str


def _certificate(directory: Path) -> _Files:
    """A certificate that signed itself, as controllers come with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "headrace plant (simulated)")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    files = _Files(directory / "plant.crt", directory / "plant.key", made.fingerprint(hashes.SHA256()).hex())
    _write(files.certificate, made.public_bytes(serialization.Encoding.PEM).decode(), 0o644)
    _write(files.key, text.decode(), 0o600)
    return files


class _Web(uvicorn.Server):
    """uvicorn without its own signal handlers: whoever runs the plant decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def is_up(self) -> None:
        """Return when it listens."""
        while not self.started:
            await asyncio.sleep(0.005)


def read_plant(directory: Path) -> Mapping[str, Any]:
    """What ``plant.json`` says: ``control``, ``token`` (a file), ``speed``, ``origin_ms``, ``site``, ``pid``."""
    found: Mapping[str, Any] = json.loads((directory / PLANT).read_text(encoding="utf-8"))
    return found
