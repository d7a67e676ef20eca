"""The way to an OpenADR 3.1 server: tokens, pages, deadlines; nothing that it says is believed before it is read.

Each call has a deadline for the whole of it, an answer a largest size. Certificates are verified; redirects are not followed,
and the secret goes to no other host than the VTN's unless the operator declares one. What goes wrong is a :class:`VtnError`.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from headrace.core.errors import HeadraceError
from headrace.core.units import MS_PER_SECOND
from headrace.signals.declared import VtnModel, is_loopback, read_secret

PAGE = 50
"""Objects of a page: the most that the document lets a client ask for."""
MOST_PAGES = 400
MOST_BYTES = 16 << 20
MOST_RETRY_AFTER_MS = 300 * MS_PER_SECOND
DEFAULT_TOKEN_S = 300
"""How long a token is good that doesn't say."""
_MOST_TEXT = 200
_UNAUTHORISED = (401, 403)
_TOO_BUSY = (429, 503)


class VtnError(Exception):
    """A server that can't be used now: why, in one line. ``status`` 0: no answer. ``retry_after_ms``: how long it wants rest."""

    def __init__(self, message: str, status: int = 0, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.status, self.retry_after_ms = status, retry_after_ms


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of objects as a server has them; ``is_whole``: no more of them can be hidden behind its pages."""

    objects: tuple[Any, ...]
    is_whole: bool = True


@dataclass(slots=True)
class _Token:
    text: str
    renew_at_s: float


class VtnClient:
    """One server. ``skew_ms``: how far its clock is ahead of ours, as of its last answer."""

    def __init__(
        self,
        vtn: VtnModel,
        now_ms: Callable[[], int],
        transport: httpx.AsyncBaseTransport | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vtn, self._now_ms, self._monotonic_s = vtn, now_ms, monotonic_s
        self._token: _Token | None = None
        self.skew_ms = 0
        self._http = httpx.AsyncClient(
            transport=transport,
            verify=_trust(vtn),
            timeout=vtn.deadline / MS_PER_SECOND,
            follow_redirects=False,
            # What the environment says of proxies is not for a secret.
            trust_env=False,
            headers={"Accept": "application/json"},
        )

    async def aclose(self) -> None:
        """End its connections."""
        await self._http.aclose()

    async def list(self, kind: str, asked: Sequence[tuple[str, str]] = ()) -> Listed:
        """All objects of a kind, page by page. A page that brings nothing new ends it: the rest may be hidden then."""
        found: dict[str, Any] = {}
        skip = 0
        for _ in range(MOST_PAGES):
            query = [*asked, ("skip", str(skip)), ("limit", str(PAGE))]
            page = await self.ask("GET", f"/{kind}", query=query)
            if not isinstance(page, list):
                raise VtnError(f"GET /{kind} gave no list")
            if not page:
                return Listed(tuple(found.values()))
            before = len(found)
            found.update((json.dumps(one, sort_keys=True), one) for one in page)
            if len(found) == before:
                # A server that ignores skip: behind a page that is exactly full there may be more.
                return Listed(tuple(found.values()), is_whole=len(page) != PAGE)
            skip += len(page)
        return Listed(tuple(found.values()), is_whole=False)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """One call with a good token; what it gives, decoded. A refused token is renewed once."""
        for attempt in (0, 1):
            token = await self._good_token(renew=attempt > 0)
            headers = {"Authorization": f"Bearer {token}"}
            status, content, retry_ms = await self._call(
                method, f"{self._vtn.url}{path}", headers, query=query, body=body
            )
            if status in _UNAUTHORISED and not attempt:
                continue
            if not 200 <= status < 300:
                raise VtnError(f"{method} {path} gave {status}{_detail(content)}", status, retry_ms)
            return _decoded(content, f"{method} {path}")
        raise AssertionError("unreachable")

    async def _good_token(self, *, renew: bool) -> str:
        if self._token is None or renew or self._monotonic_s() >= self._token.renew_at_s:
            self._token = await self._new_token()
        return self._token.text

    async def _new_token(self) -> _Token:
        try:
            secret = read_secret(self._vtn.secret)
        except HeadraceError as error:
            raise VtnError(error.problem.line()) from None
        url = await self._token_url()
        form = {
            "grant_type": "client_credentials",
            "client_id": self._vtn.client,
            "client_secret": secret,
        }
        status, content, retry_ms = await self._call("POST", url, {}, form=form)
        if status != 200:
            hint = "; look at client and secret" if status in (400, *_UNAUTHORISED) else ""
            raise VtnError(f"no token: {status}{_detail(content)}{hint}", status, retry_ms)
        found = _decoded(content, "the token's address")
        text = found.get("access_token") if isinstance(found, dict) else None
        if (
            not isinstance(text, str)
            or not text.isascii()
            or not text.isprintable()
            or not text
            or " " in text
        ):
            raise VtnError("the token's address gave no token")
        lasts = found.get("expires_in")
        lasts_s = lasts if isinstance(lasts, int) and not isinstance(lasts, bool) else DEFAULT_TOKEN_S
        # A fifth before its end, for clocks differ and calls take time.
        return _Token(text, self._monotonic_s() + max(1, min(lasts_s, 86_400)) * 0.8)

    async def _token_url(self) -> str:
        if self._vtn.token_url is not None:
            return self._vtn.token_url
        status, content, retry_ms = await self._call("GET", f"{self._vtn.url}/auth/server", {})
        if status == 404:
            return f"{self._vtn.url}/auth/token"
        if status != 200:
            raise VtnError(f"GET /auth/server gave {status}{_detail(content)}", status, retry_ms)
        found = _decoded(content, "GET /auth/server")
        url = found.get("tokenURL") if isinstance(found, dict) else None
        if not isinstance(url, str):
            raise VtnError("GET /auth/server gave no tokenURL")
        ours, theirs = urlsplit(self._vtn.url), urlsplit(url)
        is_safe = theirs.scheme == "https" or (theirs.scheme == "http" and is_loopback(url))
        if theirs.hostname != ours.hostname or not is_safe:
            raise VtnError(
                f"the VTN sends for tokens to {url[:_MOST_TEXT]}, another host or not encrypted; "
                "if that is right, declare it as token_url"
            )
        return url

    async def _call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, int]:
        """Status, content and Retry-After of one call; VtnError when there is no answer in time, or too much of it."""
        what = f"{method} {urlsplit(url).path}"
        try:
            async with (
                asyncio.timeout(self._vtn.deadline / MS_PER_SECOND),
                self._http.stream(
                    method, url, params=list(query), headers=dict(headers), json=body, data=form
                ) as answer,
            ):
                content = bytearray()
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > MOST_BYTES:
                        raise VtnError(f"{what} gave more than {MOST_BYTES >> 20} MiB")
        except TimeoutError:
            raise VtnError(f"{what}: no answer in {self._vtn.deadline} ms") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise VtnError(f"{what}: {_why(error)}") from None
        self._compare_clocks(answer.headers.get("date", ""))
        return answer.status_code, bytes(content), _retry_after_ms(answer)

    def _compare_clocks(self, date: str) -> None:
        try:
            theirs_ms = int(parsedate_to_datetime(date).timestamp() * 1_000)
        except (ValueError, OverflowError):
            return
        self.skew_ms = theirs_ms - self._now_ms()


def _trust(vtn: VtnModel) -> ssl.SSLContext:
    """Certificates are always verified: by public authorities, or by the one that is declared."""
    try:
        return ssl.create_default_context(cafile=None if vtn.ca is None else str(vtn.ca))
    except OSError as error:
        raise VtnError(f"the authority {vtn.ca} can't be read: {error.strerror or error}") from None


def _why(error: Exception) -> str:
    words = str(error) or type(error).__name__
    return f"can't be reached: {words[:_MOST_TEXT]}"


def _retry_after_ms(answer: httpx.Response) -> int:
    text = answer.headers.get("retry-after", "")
    if answer.status_code not in _TOO_BUSY or not text.isascii() or not text.isdigit():
        return 0
    return min(MOST_RETRY_AFTER_MS, int(text[:9]) * MS_PER_SECOND)


def _decoded(content: bytes, what: str) -> Any:
    # NaN and the like are read, for they are told apart where values are: one of them shouldn't hide all others.
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise VtnError(f"{what} gave no JSON") from None


def _detail(content: bytes) -> str:
    """What a problem says, in a few words."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    text = found.get("detail") or found.get("title") if isinstance(found, dict) else None
    if not isinstance(text, str):
        return ""
    return ": " + "".join(letter for letter in text[:_MOST_TEXT] if letter.isprintable())
