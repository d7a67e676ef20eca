"""HTTP to a thousand small servers at once: kept connections, a deadline for each question, named errors.

aiohttp, because it costs 0.2 ms of a core for a request on a kept connection and finds that connection at once: httpx looks
through all of them each time, and with a thousand servers no longer keeps a deadline of seconds (RFD 14 has the figures).
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from headrace.devices import DeviceError, DeviceFault

DEADLINE_S = 5.0
KEPT_S = 120.0
"""How long a connection that nobody uses is kept. A management controller closes it earlier if it wants to."""
LARGEST = 1 << 20
"""Bytes of an answer; one that is longer is none that was asked for."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe behind ``https``: certificates of ``ca``, or the one with this SHA-256 ``fingerprint``.

    Neither: those of the operating system's authorities.
    """

    ca: Path | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: ``data`` is its JSON, None when there is none; ``headers`` with names in lower case."""

    status: int
    headers: dict[str, str]
    data: Any

    @property
    def is_ok(self) -> bool:
        """Whether it did, or will do, what it was asked."""
        return 200 <= self.status < 300


class Web:
    """One pool of connections for all servers; made and closed within one event loop."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None
        self._trusted: dict[Trust, ssl.SSLContext | aiohttp.Fingerprint] = {}

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        device: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: object = None,
        trust: Trust | None = None,
    ) -> Answer:
        """Ask a server; DeviceError in the name of ``device`` when no answer comes within the deadline.

        When the server closed the kept connection in between, another is made: but not for a POST, which may have been heard.
        """
        raw = None if body is None else msgspec.json.encode(body)
        try:
            async with asyncio.timeout(self.deadline_s):
                tls = self._tls(trust) if url.startswith("https:") else True
                try:
                    return await self._once(device, method, url, dict(headers), raw, tls)
                except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                    if method == "POST":
                        raise
                    return await self._once(device, method, url, dict(headers), raw, tls)
        except TimeoutError:
            what = f"no answer from {url} within {self.deadline_s:g} s;"
            raise DeviceError(
                device, DeviceFault.TIMEOUT, what, "look whether its management controller is up."
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _named(device, url, error) from error

    async def _once(
        self,
        device: str,
        method: str,
        url: str,
        headers: dict[str, str],
        raw: bytes | None,
        tls: ssl.SSLContext | aiohttp.Fingerprint | bool,
    ) -> Answer:
        if raw is not None:
            headers["Content-Type"] = "application/json"
        options: dict[str, Any] = {"headers": headers, "data": raw, "ssl": tls, "allow_redirects": False}
        async with self._open().request(method, url, **options) as response:
            found = await response.content.read(LARGEST)
            while len(found) < LARGEST and (more := await response.content.read(LARGEST - len(found))):
                found += more
            named = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, named, _json(device, url, response.status, found))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # How many are asked at once is the caller's to bound: a limit here would count waiting as the server's delay.
            pool = aiohttp.TCPConnector(limit=0, limit_per_host=2, keepalive_timeout=KEPT_S)
            self._session = aiohttp.ClientSession(
                connector=pool, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout()
            )
        return self._session

    def _tls(self, trust: Trust | None) -> ssl.SSLContext | aiohttp.Fingerprint:
        key = trust or Trust()
        if key not in self._trusted:
            if key.fingerprint:
                self._trusted[key] = aiohttp.Fingerprint(bytes.fromhex(key.fingerprint.replace(":", "")))
            else:
                self._trusted[key] = ssl.create_default_context(cafile=key.ca)
        return self._trusted[key]


def _json(device: str, url: str, status: int, raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if status >= 400:
            return None
        raise DeviceError(
            device,
            DeviceFault.UNEXPECTED,
            f"{url} answers, and not with JSON;",
            "check its address: another program may listen there.",
        ) from None


def _named(device: str, url: str, error: Exception) -> DeviceError:
    """What kept it from answering, and the next step."""
    match error:
        case aiohttp.ServerFingerprintMismatch():
            text = f"the certificate at {url} is not the one that was declared;"
            step = "Somebody may stand between; if it was renewed, declare the new fingerprint."
            return DeviceError(device, DeviceFault.TLS, text, step)
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "it is not trusted"
            step = "Declare the ca that signed it, or its fingerprint."
            return DeviceError(
                device, DeviceFault.TLS, f"the certificate at {url} is refused: {reason};", step
            )
        case aiohttp.ClientSSLError() | ssl.SSLError():
            step = "Check whether it speaks https on this port, and TLS 1.2 or later."
            return DeviceError(device, DeviceFault.TLS, f"no TLS with {url};", step)
        case aiohttp.ClientConnectorDNSError():
            return DeviceError(
                device,
                DeviceFault.UNREACHABLE,
                f"no address for the name in {url};",
                "Correct it, or ask DNS.",
            )
        case aiohttp.ClientConnectorError():
            reason = (error.os_error.strerror or "no connection").lower()
            step = "Check address and port, and the management network."
            return DeviceError(
                device, DeviceFault.UNREACHABLE, f"no connection to {url}: {reason.split(' [')[0]};", step
            )
        case aiohttp.InvalidURL() | ValueError():
            return DeviceError(
                device, DeviceFault.UNREACHABLE, f"{url} is no address;", "Correct it in the devices file."
            )
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError():
            step = "Its management controller may be starting; it is asked again."
            return DeviceError(
                device, DeviceFault.UNREACHABLE, f"{url} closed the connection without an answer;", step
            )
    step = "Check its address: another program may listen there."
    return DeviceError(device, DeviceFault.UNEXPECTED, f"{url} answers, and not by HTTP;", step)
