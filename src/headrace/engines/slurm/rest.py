"""Slurm through ``slurmrestd``: one kept connection for each thread that asks, no process for what it does well.

Known is the API v0.0.38, which Slurm 22.05, 23.02 and 23.11 serve. It can't change a node: drains go through ``scontrol``.

Its list of jobs says all of each. Measured with 22.05.8 on two cores, 10,000 jobs of which 3,000 hold nodes: 34 MB of JSON, 5 s,
4 s of slurmrestd's processor, and each list leaves slurmrestd 400 MB larger; ``squeue`` takes 0.3 s and 0.2 s for the same. Of
2,000 jobs it is 7 MB, 1.3 s and 100 MB against 0.13 s. So jobs are listed by ``squeue`` where it is there; where it is not, the
list is asked for only when the controller says that something has changed (0.1 s when not). Nodes cost the same both ways.
"""

import base64
import binascii
import json
import pwd
import re
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
from headrace.engines.tokens import TokenFile
from headrace.ports import EngineError

API = "v0.0.38"
_SERVED_BY = "Slurm 22.05, 23.02 and 23.11"
_JWT = re.compile(r"(?:SLURM_JWT=)?([A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+)")
_SOCKET = "unix:"
_UNSPECIFIED = -1
"""What 22.05 says when the controller does not answer, and when that does not accept the token."""
_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class _Error(msgspec.Struct):
    error: str = ""
    error_number: int = 0
    errno: int = 0
    description: str = ""


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
    user_id: int
    state_reason: str | None = None
    nodes: str | None = None
    user_name: str | None = None
    account: str | None = None
    partition: str | None = None
    name: str | None = None
    comment: str | None = None
    resv_name: str | None = None
    start_time: int | None = None
    array_job_id: int | None = None
    array_task_id: int | None = None
    array_task_string: str | None = None
    het_job_id: int | None = None
    het_job_offset: int | None = None


class _Jobs(_Answer, kw_only=True):
    jobs: list[_Job]


class _Statistics(msgspec.Struct):
    req_time: int


class _Diagnosis(_Answer, kw_only=True):
    statistics: _Statistics


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
    kind: msgspec.json.Decoder(kind) for kind in (_Answer, _Submitted, _Diagnosis, _Jobs, _Nodes, _Partitions)
}


class _Token(TokenFile):
    """Slurm's JSON web token of a user."""

    def __init__(self, path: Path, user: str) -> None:
        renew = f"scontrol token username={user} lifespan=86400 > {path}"
        super().__init__(path, "Slurm's token", renew, parse=_jwt, kind="JSON web token")
        self._user = user

    def refused(self) -> EngineError:
        """The error for a token that is not accepted."""
        return self._why_not() or self.problem(f"is not accepted for user {self._user}", self.renew())

    def in_doubt(self, said: str) -> EngineError:
        """The error for an answer that does not say whether it is for the token."""
        return self._why_not() or engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"slurmrestd: {said};",
            f"`scontrol ping` says whether slurmctld is up; if it is, the token in {self.path} is not accepted, and "
            f"{self.renew()}.",
        )

    def _why_not(self) -> EngineError | None:
        """What can be seen to be wrong with the token."""
        claims = _claims_of(self.text)
        ended_s, user = claims.get("exp"), claims.get("sun")
        if not isinstance(ended_s, int | float) or not isinstance(user, str):
            return self.problem("is none of Slurm's", self.renew())
        if ended_s <= time.time():
            return self.problem(f"expired {round(time.time() - ended_s)} s ago", self.renew())
        if user != self._user:
            return self.problem(f"is for user {user}, not {self._user}", self.renew())
        return None


def _jwt(text: str) -> str:
    found = _JWT.fullmatch(text)
    return found[1] if found is not None else ""


def _claims_of(token: str) -> dict[str, Any]:
    """What a token says of itself, as far as it can be read."""
    payload = token.split(".")[1]
    try:
        found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
        self._jobs: list[Job] = []
        self._listed_s = 0

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    @property
    def user(self) -> str:
        """As whom it asks."""
        return self._user

    @property
    def uid(self) -> int:
        """That user's number here; EngineError for a user whom this host doesn't know."""
        try:
            return pwd.getpwnam(self._user).pw_uid
        except KeyError as error:
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"this host knows no user {self._user}, as whom slurmrestd is asked;",
                "name one of `getent passwd`: whose a job is, is told by the user's number.",
            ) from error

    @property
    def trouble(self) -> str:
        """What the commands left out: an answer of slurmrestd is understood in full, or is an error."""
        return "" if self._commands is None else self._commands.trouble

    def submit(self, job: Submission) -> int:
        """Through ``job/submit``."""
        content = msgspec.json.encode({"script": job.script, "job": _job(job)})
        if self._commands is not None:
            self._commands.changed()
        return self._submitted(self._ask("POST", "/job/submit", _Submitted, content))

    def _submitted(self, answer: _Submitted) -> int:
        if answer.job_id <= 0:
            raise unexpected("slurmrestd", f"job {answer.job_id}")
        return answer.job_id

    def cancel(self, jobs: Sequence[int]) -> None:
        """One by one: the API has no list of them."""
        if jobs and self._commands is not None:
            self._commands.changed()
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

    def run(self, command: str, *arguments: str) -> str:
        """Through the commands: this API lists reservations and makes none."""
        return self._scontrol("lease nodes or resume jobs").run(command, *arguments)

    def interrupt(self) -> None:
        """End what the commands do; what is sent to slurmrestd has its time."""
        if self._commands is not None:
            self._commands.interrupt()

    def _scontrol(self, what: str = "drain nodes") -> Commands:
        if self._commands is None:
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"slurmrestd's {API} can't {what};",
                "install Debian's slurm-client here, or do it with scontrol by hand.",
            )
        return self._commands

    def jobs(self) -> list[Job]:
        """Through ``commands`` if there are any, else through ``jobs``, read again only when something has changed."""
        if self._commands is not None:
            return self._commands.jobs()
        # By the controller's clock, and before the list is made: what changes meanwhile is in the next one.
        now_s = self._ask("GET", "/diag/", _Diagnosis).statistics.req_time
        found = self._ask_changed("/jobs/", _Jobs, self._listed_s)
        if found is not None:
            self._jobs = [_known(one) for one in found.jobs]
        self._listed_s = now_s
        return self._jobs

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
        return self._read(self._send(method, path, content), kind)

    def _ask_changed(self, path: str, kind: type[_A], since_s: int) -> _A | None:
        """The answer; None when nothing has changed since then."""
        answer = self._send("GET", f"{path}?update_time={since_s}" if since_s else path, None)
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return None
        return self._read(answer, kind)

    def _send(self, method: str, path: str, content: bytes | None) -> httpx.Response:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._address.startswith(_SOCKET) and not Path(self._address.removeprefix(_SOCKET)).is_socket():
            raise self._unreachable("there is no such socket")
        if self._token is not None:
            headers |= {"X-SLURM-USER-NAME": self._user, "X-SLURM-USER-TOKEN": self._token.read()}
        try:
            answer = self._http.request(method, f"/slurm/{API}{path}", content=content, headers=headers)
        except httpx.HTTPError as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise self._not_accepted()
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise self._unknown_api()
        return answer

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
        said = dict.fromkeys(text for one in errors for text in (one.description, one.error) if text)
        # Nodes and partitions have the number under another name.
        numbers = (errors[-1].error_number, errors[-1].errno) if errors else ()
        if self._token is not None and _UNSPECIFIED in numbers:
            return self._token.in_doubt("; ".join(said))
        return as_problem("slurmrestd", "; ".join(said) or f"status {answer.status_code}")

    def _not_accepted(self) -> EngineError:
        if self._token is not None:
            return self._token.refused()
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"slurmrestd at {self._address} wants a token;",
            "name the file of one, or run it with `-a rest_auth/local` on a socket of this user.",
        )

    def _unreachable(self, what: str) -> EngineError:
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"slurmrestd at {self._address} does not answer: {what};",
            "look whether it runs, and compare url: with the address that it was started with; it is tried again.",
        )

    def _unknown_api(self) -> EngineError:
        return engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"what is at {self._address} does not serve {API}, the API of {_SERVED_BY};",
            "load slurmrestd's plugin openapi/v0.0.38, or use Slurm's commands here.",
        )


def _decode(answer: httpx.Response, kind: type[_Answer]) -> _Answer:
    """An answer as ``kind``, or with its errors alone."""
    # Slurm passes on whatever bytes a user wrote.
    content = answer.content.decode(errors="replace").encode()
    try:
        return cast(_Answer, _DECODERS[kind].decode(content))
    except msgspec.ValidationError:
        # What went wrong stands in an answer that lacks what was asked for.
        found = cast(_Answer, _DECODERS[_Answer].decode(content))
        if not found.errors:
            raise
        return found


def _known(job: _Job) -> Job:
    return Job(
        id=job.job_id,
        full_id=_full_id(job),
        state=job.job_state,
        reason=job.state_reason or "None",
        nodes=job.nodes or "",
        uid=job.user_id,
        user=job.user_name or "",
        account=job.account or "",
        partition=job.partition or "",
        reservation=job.resv_name or "",
        began_s=float(job.start_time) if job.start_time and job.job_state != "PENDING" else None,
        name=job.name or "",
        comment=job.comment or "",
    )


def _full_id(job: _Job) -> str:
    """As squeue writes it."""
    if job.het_job_id:
        return f"{job.het_job_id}+{job.het_job_offset or 0}"
    if not job.array_job_id:
        return str(job.job_id)
    if job.array_task_string:
        return f"{job.array_job_id}_[{job.array_task_string}]"
    return f"{job.array_job_id}_{job.array_task_id or 0}"


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
        # `requeue: false` is taken and changes nothing.
        "no_requeue": True,
        "environment": _ENV,
        "partition": job.partition,
        "account": job.account,
        "reservation": job.reservation,
        "gres": job.gres,
        "memory_per_node": job.memory_mb,
        "exclusive": "exclusive" if job.exclusive else "",
    }
    return {name: value for name, value in wanted.items() if value}


def _http(address: str, timeout_s: float) -> httpx.Client:
    """A client of an address; EngineError for what is none."""
    if address.startswith(f"{_SOCKET}/"):
        transport = httpx.HTTPTransport(uds=address.removeprefix(_SOCKET))
        return httpx.Client(
            transport=transport, base_url="http://localhost", timeout=timeout_s, trust_env=False
        )
    if address.startswith(("http://", "https://")) and httpx.URL(address).host:
        # What the environment says of proxies is not for a token.
        return httpx.Client(base_url=address, timeout=timeout_s, trust_env=False)
    raise engine_error(
        ProblemCode.BAD_INPUT,
        f"{address!r} is no address of slurmrestd;",
        "write http://host:6820 or unix:/path/to/socket.",
    )
