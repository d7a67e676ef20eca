"""What a Ray cluster is asked and what it says, over HTTP alone: its dashboard's Jobs API and state API.

Nothing of Ray is installed here, and nothing that a dashboard says is believed before it has the shape that is known.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx

from headrace.core.errors import ProblemCode
from headrace.engines.agent import Refused
from headrace.engines.problems import engine_error
from headrace.ports import EngineError

OLDEST = (2, 51)
"""The oldest release that puts bundles where labels say."""
MOST_BYTES = 256 << 20
"""A single answer is never longer."""
_MOST_ROWS = 10_000
_ALIVE = frozenset({"PENDING", "RUNNING"})
_ENDED = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
_ADDRESS = re.compile(r"https?://[^/?#@\s]+/?")
_RELEASE = re.compile(r"([0-9]+)\.([0-9]+)\b")
_Row = TypeVar("_Row")
_Read = Callable[[Mapping[str, Any]], _Row]


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to submit. ``id`` is the submitter's to choose: a second one of the same id is the same job."""

    id: str
    entrypoint: str
    metadata: Mapping[str, str]
    runtime_env: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RayJob:
    """A job as Ray has it. ``id`` is what it is stopped by, "" for a driver that nobody submitted; ``number``: Ray's own of its
    driver, "" as long as it has none. ``status`` as Ray writes it, like RUNNING; ``ended_ms``: by the head's clock, 0 for never.
    """

    id: str
    number: str
    status: str
    message: str
    metadata: Mapping[str, str]
    ended_ms: int

    @property
    def is_alive(self) -> bool:
        """Whether it may run yet, or does."""
        return self.status in _ALIVE


@dataclass(frozen=True, slots=True)
class RayNode:
    """A node as Ray has it, dead ones too. ``id`` is of this life of its raylet; ``why``: what Ray says of its state."""

    id: str
    name: str
    address: str
    is_alive: bool
    why: str
    resources: Mapping[str, float]
    started_ms: int


@dataclass(frozen=True, slots=True)
class Holder:
    """An actor, a running task or a bundle of a placement group, of a ``job`` by its number, on a node by its id."""

    job: str
    node: str
    name: str


class RayClient:
    """Ray through the dashboard at ``address``, like ``http://head:8265``. ``token`` says the cluster's, if it asks for one.

    Every call raises EngineError when the dashboard can't be asked now or says what is not understood.
    """

    def __init__(
        self, address: str, *, token: Callable[[], str] | None = None, timeout_s: float = 30
    ) -> None:
        if not _ADDRESS.fullmatch(address):
            raise engine_error(
                ProblemCode.BAD_INPUT,
                f"{address!r} is no address of a Ray dashboard;",
                "write it like http://head:8265; `ray start --head` prints it.",
            )
        self._address, self._timeout_s = address.rstrip("/"), timeout_s
        self._is_known, self._token = False, token
        # What the environment says of proxies is for the world outside.
        self._http = httpx.Client(
            base_url=self._address,
            timeout=timeout_s,
            trust_env=False,
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def version(self) -> str:
        """Its release, like 2.60.0; EngineError for one that is too old."""
        said = self._mapping("/api/version", self._get("/api/version"))
        release = str(said.get("ray_version"))
        found = _RELEASE.match(release)
        if found is None:
            raise self._unexpected("/api/version", said)
        if (int(found[1]), int(found[2])) < OLDEST:
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"{self._address} runs Ray {release}, which is too old;",
                f"upgrade the cluster to {OLDEST[0]}.{OLDEST[1]} or later.",
            )
        return release

    def submit(self, job: Submission) -> None:
        """Submit a job; nothing when there is one of its id. Refused when Ray will never take it."""
        self._check()
        body = {
            "submission_id": job.id,
            "entrypoint": job.entrypoint,
            "metadata": dict(job.metadata),
            "runtime_env": dict(job.runtime_env),
        }
        status, text = self._exchange("POST", "/api/jobs/", body)
        if status == httpx.codes.OK or "already exists" in text:
            return
        if status == httpx.codes.BAD_REQUEST:
            problem = engine_error(
                ProblemCode.UNPLACEABLE, f"Ray refuses it: {_last_line(text)};", "see the dashboard's log."
            )
            raise Refused(*problem.problems)
        raise self._failed("/api/jobs/", status, text)

    def stop(self, job: str) -> None:
        """End a job; nothing when it is not there or has ended."""
        self._change("POST", f"/api/jobs/{quote(job, safe='')}/stop")

    def delete(self, job: str) -> None:
        """Let Ray forget an ended job; nothing when it is not there."""
        self._change("DELETE", f"/api/jobs/{quote(job, safe='')}")

    def jobs(self) -> list[RayJob]:
        """All jobs, ended ones for as long as Ray keeps them, and drivers that nobody submitted."""
        self._check()
        return self._rows("/api/jobs/", self._get("/api/jobs/"), _job)

    def nodes(self) -> list[RayNode]:
        """All nodes, dead ones too."""
        return self._state("nodes", {"detail": "1"}, _node)

    def holders(self, kind: Literal["actors", "tasks", "placement_groups"]) -> list[Holder]:
        """What holds nodes: living actors, running tasks, or the bundles of placement groups."""
        wanted = {"actors": "ALIVE", "tasks": "RUNNING", "placement_groups": "CREATED"}[kind]
        only = {"filter_keys": "state", "filter_predicates": "=", "filter_values": wanted}
        if kind != "placement_groups":
            return self._state(kind, only, _holder)
        found = self._state(kind, only | {"detail": "1"}, _bundles)
        return [holder for holders in found for holder in holders]

    # --- asking ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Whether it is a Ray that is known: once, and again after it did not answer."""
        if not self._is_known:
            self.version()
            self._is_known = True

    def _state(self, kind: str, query: Mapping[str, str], read: _Read[_Row]) -> list[_Row]:
        self._check()
        path = f"/api/v0/{kind}"
        answer = self._get(
            path, {"limit": str(_MOST_ROWS), "timeout": str(max(1, int(self._timeout_s)))} | dict(query)
        )
        data = self._mapping(path, self._mapping(path, answer).get("data"))
        return self._rows(path, self._mapping(path, data.get("result")).get("result"), read)

    def _rows(self, path: str, rows: Any, read: _Read[_Row]) -> list[_Row]:
        if not isinstance(rows, list):
            raise self._unexpected(path, rows)
        found = []
        for row in rows:
            try:
                found.append(read(self._mapping(path, row)))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise self._unexpected(path, row) from error
        return found

    def _mapping(self, path: str, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._unexpected(path, value)
        return value

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        status, text = self._exchange("GET", path, query=query)
        if status != httpx.codes.OK:
            raise self._failed(path, status, text)
        try:
            return json.loads(text)
        except ValueError as error:
            raise self._unexpected(path, text) from error

    def _change(self, method: str, path: str) -> None:
        self._check()
        status, text = self._exchange(method, path)
        if status not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
            raise self._failed(path, status, text)

    def _exchange(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Status and text of an answer, which is there in time as a whole or not at all."""
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token()}"}
        give_up = time.monotonic() + self._timeout_s
        text = bytearray()
        try:
            with self._http.stream(method, path, json=body, params=query, headers=headers) as answer:
                for piece in answer.iter_bytes():
                    text += piece
                    if time.monotonic() > give_up:
                        raise httpx.ReadTimeout("it says something, but never ends")
                    if len(text) > MOST_BYTES:
                        raise self._unexpected(path, f"more than {MOST_BYTES >> 20} MiB")
        except httpx.TimeoutException as error:
            self._is_known = False
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"Ray's dashboard at {self._address} did not answer {path} in {self._timeout_s:g} s;",
                "it is tried again; `ray status` on the cluster's head says whether it is up.",
            ) from error
        except httpx.HTTPError as error:
            self._is_known = False
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"Ray's dashboard at {self._address} can't be reached: {str(error) or type(error).__name__};",
                "`ray status` on the cluster's head says whether it is up; if it is, compare url: with what `ray start --head` "
                "printed there. It is tried again.",
            ) from error
        return answer.status_code, text.decode(errors="replace")

    def _failed(self, path: str, status: int, text: str) -> EngineError:
        self._is_known = False
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"Ray's dashboard at {self._address} refuses us: {_last_line(text)};",
                "put what `ray get-auth-token` prints into a file of mode 600, and name that as token: of the engine.",
            )
        if path == "/api/version":
            return self._unexpected(path, text)
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"Ray's dashboard at {self._address} answers {path} with {status}: {_last_line(text)};",
            "it is tried again; dashboard.log on the cluster's head says more.",
        )

    def _unexpected(self, path: str, value: Any) -> EngineError:
        self._is_known = False
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"{self._address}{path} says what is not understood: {str(value)[:120]!r};",
            "give the address of a Ray dashboard, like http://head:8265; "
            f"Ray {OLDEST[0]}.{OLDEST[1]} or later is known.",
        )


# --- what it says ---------------------------------------------------------------------------------------------------


def _job(row: Mapping[str, Any]) -> RayJob:
    status = _text(row, "status")
    if status not in _ALIVE | _ENDED:
        raise ValueError(status)
    metadata = row["metadata"] or {}
    if not isinstance(metadata, dict):
        raise TypeError(metadata)
    return RayJob(
        id=_text(row, "submission_id"),
        number=_text(row, "job_id"),
        status=status,
        message=_last_line(_text(row, "message")),
        metadata={str(name): str(value) for name, value in metadata.items()},
        ended_ms=int(row["end_time"] or 0),
    )


def _node(row: Mapping[str, Any]) -> RayNode:
    return RayNode(
        id=_known_text(row, "node_id"),
        name=_known_text(row, "node_name"),
        address=_known_text(row, "node_ip"),
        is_alive=_known_text(row, "state") == "ALIVE",
        why=_text(row, "state_message"),
        resources={str(name): float(value) for name, value in row["resources_total"].items()},
        started_ms=int(row["start_time_ms"] or 0),
    )


def _holder(row: Mapping[str, Any]) -> Holder:
    return Holder(_known_text(row, "job_id"), _text(row, "node_id"), _text(row, "name"))


def _bundles(row: Mapping[str, Any]) -> list[Holder]:
    job, name = _known_text(row, "creator_job_id"), _text(row, "name")
    return [Holder(job, _text(bundle, "node_id"), name) for bundle in row["bundles"] or ()]


def _text(row: Mapping[str, Any], name: str) -> str:
    """A text that may be missing."""
    value = row[name]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _known_text(row: Mapping[str, Any], name: str) -> str:
    """A text that may not be empty."""
    value = _text(row, name)
    if not value:
        raise ValueError(name)
    return value


def _last_line(text: str) -> str:
    """Where a traceback, or the end of a log, says what went wrong."""
    lines = text.strip().splitlines() or ["it says nothing more"]
    return lines[-1].strip()[:300]
