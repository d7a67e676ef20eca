"""Slurm through ``slurmrestd``: one kept connection for each thread that asks, no process for any of it.

Known is the API v0.0.38, which Slurm 22.05, 23.02 and 23.11 serve. It can't change a node, so that drains go through
``scontrol``.
"""

import base64
import binascii
import json
import re
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
import msgspec

from headrace.core.errors import ProblemCode
from headrace.engines.problems import engine_error
from headrace.engines.slurm.client import (
    Commands,
    Job,
    SlurmNode,
    Submission,
    as_problem,
    gpus_of,
    unexpected,
)
from headrace.ports import EngineError

API = "v0.0.38"
_SERVED_BY = "Slurm 22.05, 23.02 and 23.11"
_TOKEN = re.compile(r"(?:SLURM_JWT=)?([A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+)")
_NOT_ACCEPTED = re.compile(r"authenticat|unauthorized", re.IGNORECASE)
_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class _Error(msgspec.Struct):
    error: str = ""
    error_number: int = 0
    error_code: int = 0


class _Version(msgspec.Struct):
    major: int | str
    minor: int | str
    micro: int | str = 0


class _Slurm(msgspec.Struct):
    version: _Version


class _Meta(msgspec.Struct):
    slurm: _Slurm = msgspec.field(name="Slurm")


class _Answer(msgspec.Struct):
    meta: _Meta
    errors: list[_Error] = []


class _Submitted(_Answer):
    job_id: int = 0


class _Job(msgspec.Struct):
    job_id: int
    job_state: str
    state_reason: str | None = None
    nodes: str | None = None
    user_name: str | None = None
    account: str | None = None
    partition: str | None = None
    name: str | None = None
    comment: str | None = None


class _Jobs(_Answer, kw_only=True):
    jobs: list[_Job]


class _Node(msgspec.Struct):
    name: str
    state: str
    state_flags: list[str]
    cpus: int
    real_memory: int
    partitions: list[str]
    gres: str | None = None
    reason: str | None = None
    slurmd_version: str | None = None


class _Nodes(_Answer, kw_only=True):
    nodes: list[_Node]


class _Partition(msgspec.Struct):
    name: str
    state: str


class _Partitions(_Answer, kw_only=True):
    partitions: list[_Partition]


_A = TypeVar("_A", bound=_Answer)
_DECODERS: dict[type[_Answer], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (_Answer, _Submitted, _Jobs, _Nodes, _Partitions)
}


class _Token:
    """A JSON web token in a file, read again when the file changes: it is renewed by writing another."""

    def __init__(self, path: Path, user: str) -> None:
        self._path, self._user = path, user
        self._seen: tuple[int, int, int] | None = None
        self._text = ""

    def read(self) -> str:
        """The token as it stands in the file now."""
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                if found.st_mode & stat.S_IROTH:
                    raise self._problem("can be read by everybody", f"`chmod 600 {self._path}`")
                self._text, self._seen = self._parse(self._path.read_bytes()), seen
        except OSError as error:
            raise self._problem(error.strerror or "can't be read", self._renew()) from error
        return self._text

    def refused(self) -> EngineError:
        """The error for a token that Slurm does not accept."""
        ended_s = _end_of(self._text)
        if ended_s is None or ended_s > time.time():
            return self._problem(f"is not accepted for user {self._user}", self._renew())
        ago = round(time.time() - ended_s)
        return self._problem(f"expired {ago} s ago", self._renew())

    def _parse(self, data: bytes) -> str:
        found = _TOKEN.fullmatch(data.decode("ascii", errors="replace").strip())
        if found is None:
            raise self._problem("holds no JSON web token", self._renew())
        return found[1]

    def _renew(self) -> str:
        return f"make a new one: `scontrol token username={self._user} lifespan=86400 > {self._path}`"

    def _problem(self, what: str, step: str) -> EngineError:
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE, f"Slurm's token in {self._path} {what};", f"{step}."
        )


def _end_of(token: str) -> float | None:
    """Seconds since 1970 when a token ends, as far as it says so."""
    payload = token.split(".")[1]
    try:
        found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(found["exp"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None


class RestClient:
    """Slurm through ``slurmrestd`` at ``address``: ``http://host:6820``, ``https://...`` or ``unix:/path``.

    ``user`` and ``token_file`` are sent with each question; without a file the socket must be one of ``rest_auth/local``, which
    serves its own user alone. ``commands`` do what the API can't.
    """

    def __init__(
        self,
        address: str,
        *,
        user: str,
        token_file: Path | None = None,
        commands: Commands | None = None,
        timeout_s: float = 60,
    ) -> None:
        self._address, self._user, self._commands = address, user, commands
        self._token = None if token_file is None else _Token(token_file, user)
        self._http = _http(address, timeout_s)

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    @property
    def user(self) -> str:
        """As whom it asks."""
        return self._user

    def submit(self, job: Submission) -> int:
        """Through ``job/submit``."""
        content = msgspec.json.encode({"script": job.script, "job": _job(job)})
        return self._submitted(self._ask("POST", "/job/submit", _Submitted, content))

    def _submitted(self, answer: _Submitted) -> int:
        if answer.job_id <= 0:
            raise unexpected("slurmrestd", f"job {answer.job_id}")
        return answer.job_id

    def cancel(self, jobs: Sequence[int]) -> None:
        """One by one: the API has no list of them."""
        for job in jobs:
            try:
                self._ask("DELETE", f"/job/{job}", _Answer)
            except EngineError as error:
                if not re.search("invalid job id|already complet", str(error), re.IGNORECASE):
                    raise

    def drain(self, nodes: Mapping[str, str]) -> None:
        """Through ``scontrol``: this API reads nodes and changes none."""
        if nodes:
            self._scontrol().drain(nodes)

    def undrain(self, nodes: Sequence[str]) -> None:
        """Through ``scontrol``."""
        if nodes:
            self._scontrol().undrain(nodes)

    def _scontrol(self) -> Commands:
        if self._commands is None:
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"slurmrestd's {API} can't drain nodes;",
                "install Debian's slurm-client here, or drain them with scontrol by hand.",
            )
        return self._commands

    def jobs(self) -> list[Job]:
        """Through ``jobs``: everything that Slurm knows of each, of which a little is kept."""
        return [
            Job(
                one.job_id,
                one.job_state,
                one.state_reason or "None",
                one.nodes or "",
                one.user_name or "",
                one.account or "",
                one.partition or "",
                one.name or "",
                one.comment or "",
            )
            for one in self._ask("GET", "/jobs/", _Jobs).jobs
        ]

    def nodes(self) -> list[SlurmNode]:
        """Through ``nodes`` and ``partitions``."""
        states = {
            one.name: one.state.lower() for one in self._ask("GET", "/partitions/", _Partitions).partitions
        }
        return [
            SlurmNode(
                name=one.name,
                state=one.state.lower(),
                is_silent="NOT_RESPONDING" in one.state_flags,
                is_drained="DRAIN" in one.state_flags or "MAINTENANCE" in one.state_flags,
                accelerators=gpus_of(one.gres or ""),
                cpus=one.cpus,
                memory_mb=one.real_memory,
                version=one.slurmd_version or "",
                partition=partition,
                partition_state=states.get(partition, ""),
                reason=one.reason or "",
            )
            for one in self._ask("GET", "/nodes/", _Nodes).nodes
            for partition in one.partitions
        ]

    def version(self) -> str:
        """As it says with every answer."""
        found = self._ask("GET", "/ping/", _Answer).meta.slurm.version
        return f"{found.major}.{int(found.minor):02d}.{found.micro}"

    # --- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, kind: type[_A], content: bytes | None = None) -> _A:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token is not None:
            headers |= {"X-SLURM-USER-NAME": self._user, "X-SLURM-USER-TOKEN": self._token.read()}
        try:
            answer = self._http.request(method, f"/slurm/{API}{path}", content=content, headers=headers)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise self._not_accepted()
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise self._unknown_api()
        return self._read(answer, kind)

    def _read(self, answer: httpx.Response, kind: type[_A]) -> _A:
        try:
            found = cast(_A, _decode(answer, kind))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise unexpected("slurmrestd", answer.text) from error
        if found.errors or answer.is_error:
            raise self._said(answer, found.errors)
        return found

    def _said(self, answer: httpx.Response, errors: Sequence[_Error]) -> EngineError:
        """What Slurm says instead of what it was asked."""
        said = "; ".join(one.error for one in errors if one.error) or f"status {answer.status_code}"
        if self._token is not None and _NOT_ACCEPTED.search(said):
            return self._token.refused()
        return as_problem("slurmrestd", said)

    def _not_accepted(self) -> EngineError:
        if self._token is not None:
            return self._token.refused()
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"slurmrestd at {self._address} wants a token;",
            "name the file of one, or run it with `-a rest_auth/local` on a socket of this user.",
        )

    def _unreachable(self, error: httpx.HTTPError) -> EngineError:
        what = str(error) or type(error).__name__
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"slurmrestd at {self._address} does not answer: {what};",
            "compare the address with how it was started, and look whether it runs; it is tried again.",
        )

    def _unknown_api(self) -> EngineError:
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"what is at {self._address} does not serve {API}, the API of {_SERVED_BY};",
            "load slurmrestd's plugin openapi/v0.0.38, or use Slurm's commands here.",
        )


def _decode(answer: httpx.Response, kind: type[_Answer]) -> _Answer:
    """An answer as ``kind``, or with its errors alone."""
    try:
        return cast(_Answer, _DECODERS[kind].decode(answer.content))
    except msgspec.ValidationError:
        # What went wrong stands in an answer that lacks what was asked for.
        found = cast(_Answer, _DECODERS[_Answer].decode(answer.content))
        if not found.errors:
            raise
        return found


def _job(job: Submission) -> dict[str, Any]:
    """A submission as the API has it."""
    hosts = len(job.nodes)
    wanted: dict[str, Any] = {
        "name": job.name,
        "comment": job.comment,
        "nodelist": ",".join(job.nodes),
        "nodes": [hosts, hosts],
        "tasks": hosts,
        "tasks_per_node": 1,
        "cpus_per_task": max(1, job.cpus),
        "standard_output": job.output,
        "current_working_directory": "/",
        "requeue": False,
        "environment": _ENV,
        "partition": job.partition,
        "account": job.account,
        "reservation": job.reservation,
        "gres": job.gres,
        "memory_per_node": job.memory_mb,
        "exclusive": "true" if job.exclusive else "",
    }
    return {name: value for name, value in wanted.items() if value not in ("", 0) or name == "requeue"}


def _http(address: str, timeout_s: float) -> httpx.Client:
    """A client of an address; EngineError for what is none."""
    scheme, _, rest = address.partition(":")
    if scheme == "unix" and rest.startswith("/"):
        transport = httpx.HTTPTransport(uds=rest)
        return httpx.Client(transport=transport, base_url="http://localhost", timeout=timeout_s, trust_env=False)
    if scheme in ("http", "https") and httpx.URL(address).host:
        # What the environment says of proxies is not for a token.
        return httpx.Client(base_url=address, timeout=timeout_s, trust_env=False)
    raise engine_error(
        ProblemCode.BAD_INPUT,
        f"{address!r} is no address of slurmrestd;",
        "write http://host:6820 or unix:/path/to/socket.",
    )
