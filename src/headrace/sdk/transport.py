"""Requests with safe retries, errors as problems, and the newest head of the journal that was ever seen."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import httpx
import msgspec

from headrace.api.views import ErrorView, HeadView
from headrace.core.errors import HeadraceError, Problem, ProblemCode

V = TypeVar("V")

_PIECE = 1 << 20
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0

_decode_error = msgspec.json.Decoder(ErrorView).decode
_encode = msgspec.json.Encoder().encode


class ApiError(HeadraceError):
    """The API said no; ``status`` is its HTTP status."""

    def __init__(self, status: int, *problems: Problem) -> None:
        super().__init__(*problems)
        self.status = status


class Unreachable(HeadraceError):
    """No control plane answered."""


class HeadWentBack(HeadraceError):
    """The journal that answers is not the one that answered before: its head went back, or forked."""

    def __init__(self, seen: HeadView, now: HeadView) -> None:
        what = (
            f"was at {seen.size} events and is at {now.size}" if now.size != seen.size else "has another root"
        )
        step = "Was an old backup restored, or another state directory started? Ask the operator."
        super().__init__(
            Problem(ProblemCode.BROKEN, f"the journal {what}: it is not the same journal.", step)
        )


class Transport:
    """One connection pool to one control plane.

    A request is repeated when nothing can have come of it (it was not sent, or the answer was 503: nothing kept), and
    otherwise only when it is ``safe`` to be carried out twice; for at most ``patience_s`` seconds.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        timeout: float,
        *,
        patience_s: float = 15.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
        # Never by a proxy of the environment: tokens and secrets go to the control plane alone.
        self._http = httpx.Client(
            base_url=base_url, headers=headers, timeout=timeout, transport=transport, trust_env=False
        )
        self._sleep = sleep
        self._patience_s = patience_s
        self.head: HeadView | None = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, view: type[V], **query: Any) -> V:
        """Read something; query values that are None or empty are left out."""
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return self._view(self._send("GET", path, params=given), view)

    def send(
        self,
        method: str,
        path: str,
        view: type[V],
        content: bytes | object = None,
        *,
        key: str = "",
        safe: bool = True,
        media: str = "application/json",
        query: Mapping[str, Any] | None = None,
    ) -> V:
        """Change something; ``content`` is encoded as JSON unless it is bytes. With a ``key`` it is safe to repeat."""
        raw = content if isinstance(content, bytes) else b"" if content is None else _encode(content)
        headers = {"content-type": media} if raw else {}
        if key:
            headers["idempotency-key"] = key
        response = self._send(
            method, path, content=raw, headers=headers, params=dict(query or {}), safe=safe or bool(key)
        )
        return self._view(response, view)

    def stream(self, path: str, query: Mapping[str, Any]) -> Iterator[bytes]:
        """Read something long in pieces, as it comes; never asked for twice. Raises HeadraceError, also when it breaks off."""
        try:
            with self._http.stream("GET", path, params=dict(query)) as response:
                if not response.is_success:
                    response.read()
                    raise _api_error(response)
                yield from response.iter_bytes(_PIECE)
        except httpx.ConnectError as failed:
            raise self._unreachable(failed) from failed
        except httpx.TransportError as failed:
            message = f"the answer broke off ({type(failed).__name__})."
            step = "Ask again; if it happens again, look at what the control plane printed."
            raise HeadraceError(Problem(ProblemCode.BROKEN, message, step)) from failed

    def _view(self, response: httpx.Response, view: type[V]) -> V:
        value = msgspec.json.decode(response.content, type=view)
        head = value if isinstance(value, HeadView) else getattr(value, "head", None)
        if isinstance(head, HeadView):
            self._keep(head)
        return value

    def _keep(self, head: HeadView) -> None:
        seen = self.head
        if seen is not None and (
            head.size < seen.size or (head.size == seen.size and head.root != seen.root)
        ):
            raise HeadWentBack(seen, head)
        self.head = head

    def _send(self, method: str, path: str, *, safe: bool = True, **request: Any) -> httpx.Response:
        waited_s, wait_s = 0.0, FIRST_WAIT_S
        while True:
            error: HeadraceError
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError as failed:
                error = self._unreachable(failed)
                if not safe and not isinstance(failed, httpx.ConnectError | httpx.ConnectTimeout):
                    raise error from failed
            else:
                if response.is_success:
                    return response
                error = _api_error(response)
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    raise error
            if waited_s + wait_s > self._patience_s:
                raise error
            self._sleep(wait_s)
            waited_s, wait_s = waited_s + wait_s, min(wait_s * 2, LONGEST_WAIT_S)

    def _unreachable(self, failed: httpx.TransportError) -> Unreachable:
        message = f"no control plane answers at {self._http.base_url} ({type(failed).__name__})."
        step = "Is 'headrace up' running there? HEADRACE_URL says where to look."
        return Unreachable(Problem(ProblemCode.ENGINE_UNAVAILABLE, message, step))


def _api_error(response: httpx.Response) -> ApiError:
    try:
        found = _decode_error(response.content)
        problems = [
            Problem(ProblemCode(one.code), one.message, one.next_step, one.where, one.related)
            for one in found.errors
        ]
    except (msgspec.MsgspecError, ValueError):
        message = (
            f"{response.request.method} {response.request.url.path} was answered with {response.status_code}."
        )
        step = "Is that address a headrace control plane, of the same version?"
        problems = [Problem(ProblemCode.BROKEN, message, step)]
    return ApiError(response.status_code, *problems)
