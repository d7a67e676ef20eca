"""An outside client: plain HTTP, no code of headrace. It keeps what was acknowledged, and repeats what was not."""

import base64
import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_S = 10.0
RETRY_S = 0.05
MOST_HELD = 3


@dataclass(frozen=True)
class Head:
    """A head as an acknowledgement brought it."""

    size: int
    at_ms: int
    root: bytes
    signature: bytes


@dataclass(frozen=True)
class Acknowledged:
    """A submission that was answered with 201: its key, what was asked, the ids, the head."""

    key: str
    tenant: str
    asked: tuple[dict[str, Any], ...]
    ids: tuple[str, ...]
    head: Head


@dataclass
class Kept:
    """All that the clients hold; violations are what an answer itself gave away."""

    submitted: list[Acknowledged] = field(default_factory=list)
    steered: list[tuple[str, str, Head]] = field(default_factory=list)
    """(workload, stop | pause | resume, head)."""
    heads: list[Head] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    retries: int = 0
    refused: int = 0


class Unanswered(Exception):
    """No answer came: it may have been done or not."""


class Api:
    """Requests to one control plane that comes and goes at one address."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token

    def call(
        self, method: str, path: str, body: object = None, key: str = "", raw: bytes | None = None
    ) -> tuple[int, Any]:
        """One request: status and JSON; Unanswered when the connection broke before the whole answer was there."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            raise Unanswered(str(error)) from error
        finally:
            connection.close()

    def apply(self, documents: str) -> None:
        """Apply documents in YAML; RuntimeError unless that worked."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/yaml"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        connection.request("POST", "/v1/apply", documents.encode(), headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"the documents were not applied: {said!r}")


def head_of(data: dict[str, Any]) -> Head:
    """The head of an answer."""
    head = data["head"]
    root, signature = base64.b64decode(head["root"]), base64.b64decode(head["signature"])
    return Head(head["size"], head["at_ms"], root, signature)


class Client(threading.Thread):
    """One user: submits alone and in batches, repeats with the same key until answered, stops and pauses some."""

    def __init__(
        self, number: int, api: Api, kept: Kept, chance: random.Random, witness: str, pace_s: float
    ) -> None:
        super().__init__(daemon=True)
        self.number, self.api, self.kept, self.chance = number, api, kept, chance
        self.witness, self.pace_s = witness, pace_s
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self._mine: list[str] = []
        self._services: list[str] = []
        self._paused: list[str] = []
        self._count = 0

    def run(self) -> None:
        """Work until told to end; what is under way is still brought to its acknowledgement."""
        try:
            while not self.ending.is_set():
                self._step()
                self.ending.wait(self.chance.uniform(0, 2 * self.pace_s))
        except BaseException as error:  # noqa: BLE001 - the harness says it
            self.failure = error

    def _step(self) -> None:
        # Services and what is paused hold their nodes until somebody lets go.
        if len(self._services) > MOST_HELD:
            self._steer("stop", self._services.pop(0))
        elif len(self._paused) > MOST_HELD:
            self._steer("resume", self._paused.pop(0))
        else:
            self._draw()

    def _draw(self) -> None:
        draw = self.chance.random()
        if draw < 0.70 or not self._mine:
            self._submit()
        elif draw < 0.80:
            self._steer("stop", self._some())
        elif draw < 0.86:
            self._steer("pause", self._some())
        elif draw < 0.95:
            self._steer("resume", self._some())
        else:
            self._again()

    def _until_answered(self, method: str, path: str, body: object = None, key: str = "") -> tuple[int, Any]:
        while True:
            try:
                status, data = self.api.call(method, path, body, key)
            except Unanswered:
                status, data = 503, {}
            if status != 503:
                return status, data
            self.kept.retries += 1
            time.sleep(RETRY_S)

    def _submit(self) -> None:
        self._count += 1
        key = f"client-{self.number}-{self._count}"
        tenant = self.chance.choice(TENANTS)
        count = self.chance.choice((1, 1, 1, 2, 3))
        asked = tuple(self._workload(f"w-{self.number}-{self._count}-{index}") for index in range(count))
        path = f"/v1/tenants/{tenant}/workloads"
        status, data = self._until_answered("POST", path, {"workloads": asked}, key)
        if status != 201:
            self.kept.violations.append(f"{key} was answered with {status}: {data}")
            return
        done = Acknowledged(key, tenant, asked, tuple(data["workloads"]), head_of(data))
        self.kept.submitted.append(done)
        self.kept.heads.append(done.head)
        self.kept.refused += len(data["refused"])
        self._mine.extend(done.ids)
        pairs = zip(asked, done.ids, strict=False)
        self._services.extend(ident for one, ident in pairs if one["type"] == "service")
        if len(done.ids) != count:
            self.kept.violations.append(f"{key}: {count} were asked, {len(done.ids)} acknowledged")
        if self.chance.random() < 0.1:
            self._repeat(done)

    def _again(self) -> None:
        """Any older submission once more: the same key must give the same answer, days of crashes later."""
        self._repeat(self.chance.choice(self.kept.submitted))

    def _repeat(self, done: Acknowledged) -> None:
        path = f"/v1/tenants/{done.tenant}/workloads"
        status, data = self._until_answered("POST", path, {"workloads": done.asked}, done.key)
        if status != 201 or tuple(data["workloads"]) != done.ids or not data["repeated"]:
            self.kept.violations.append(
                f"{done.key} again was answered with {status}: {data}, not {done.ids}"
            )

    def _some(self) -> str:
        return self._mine[-1] if self.chance.random() < 0.5 else self.chance.choice(self._mine[-30:])

    def _steer(self, what: str, workload: str) -> None:
        status, data = self._until_answered("POST", f"/v1/workloads/{workload}/{what}")
        if status == 200:
            head = head_of(data)
            self.kept.steered.append((workload, what, head))
            self.kept.heads.append(head)
            if what == "pause":
                self._paused.append(workload)
        elif status != 409:
            self.kept.violations.append(f"{what} {workload} was answered with {status}: {data}")

    def _workload(self, name: str) -> dict[str, Any]:
        draw = self.chance.random()
        seen = 'echo "$$" >> "$WITNESS/$HEADRACE_PLACEMENT.$RANK"'
        work: dict[str, Any] = {
            "name": name,
            "type": "job",
            "project": "main",
            "resources": {"gpu": "lab:1", "cpu": 0.25, "memory": "16MB"},
            "env": {"WITNESS": self.witness, "NAME": name},
            "commands": [seen, f"sleep {self.chance.uniform(0.05, 1.2):.2f}"],
        }
        if draw < 0.15:
            work["commands"] = [seen, "exit 3"]
        elif draw < 0.30:
            work |= {"nodes": 2}
        elif draw < 0.36:
            work |= {"type": "service", "commands": [seen, "exec sleep 60"]}
        elif draw < 0.42:
            work |= {"commands": [seen, "sleep 30"], "max_duration": "2s"}
        elif draw < 0.47:
            work |= {"policy": {"countries": ["SE"]}}
        elif draw < 0.55:
            work["resources"] = {"cpu": 0.5, "memory": "16MB"}
        return work


TENANTS = ("acme", "borealis")
