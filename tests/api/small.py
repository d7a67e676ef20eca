"""A control plane for API tests: the lab's estate and tenants, a clock that is set by hand, a fake engine, no event loop."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from headrace.api.app import create_app
from headrace.api.inline import call
from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.authority import Role
from headrace.core.ids import TenantId
from headrace.core.scheduling.plan import plan
from headrace.documents import load
from headrace.engines.fake import FakeEngine
from headrace.journal.keys import Keys
from headrace.journal.sqlite import JournalUnavailable, SqliteStore
from headrace.policy.engine import policies
from headrace.reconcile import Reconciler
from headrace.service import InlineService

EXAMPLES = Path(__file__).parents[2] / "examples"
FJORD, ALBION = TenantId("fjord-ai"), TenantId("albion-health")
JOB: dict[str, Any] = {
    "name": "train",
    "type": "job",
    "project": "research",
    "resources": {"gpu": "lab:1"},
    "commands": ["sleep 3600"],
}
TOKENS = {"admin": "hr_admin", "fjord": "hr_fjord", "member": "hr_member", "albion": "hr_albion"}


@dataclass
class HandClock:
    """A clock that is set by hand."""

    at_ms: int = 1_795_000_000_000

    def now_ms(self) -> int:
        return self.at_ms


class FailingStore(SqliteStore):
    """A store whose disk can be full."""

    full = False

    def append(self, *args: Any, **more: Any) -> None:
        if self.full:
            raise JournalUnavailable("disk full")
        super().append(*args, **more)


@dataclass
class Answer:
    """What a request was answered with."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        return [problem["code"] for problem in self.json["errors"]]


@dataclass
class Small:
    """The control plane, and requests to it."""

    control: Control
    store: FailingStore
    clock: HandClock
    engine: FakeEngine
    reconciler: Reconciler
    app: FastAPI
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | object = b"",
        *,
        token: str = "admin",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A request with one of the tokens (or none, with an empty one); a body that is not bytes is sent as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json"} | dict(headers or {})
        if token:
            sent["authorization"] = f"Bearer {TOKENS.get(token, token)}"
        answer = Answer(*call(self.app, method, path, sent, raw))
        self.asked.append((method, path, answer.status))
        return answer

    def submit(
        self, *jobs: dict[str, Any], tenant: str = FJORD, token: str = "admin", key: str = ""
    ) -> Answer:
        headers = {"idempotency-key": key} if key else {}
        body = {"workloads": list(jobs) or [JOB]}
        return self.ask("POST", f"/v1/tenants/{tenant}/workloads", body, token=token, headers=headers)

    def run(self, seconds: int = 5) -> None:
        """Let the loop plan, act and look at the engine, second by second."""
        for _ in range(seconds):
            snapshot = self.control.world.snapshot(self.control.now_ms())
            self.control.execute(SYSTEM, c.AdoptPlan(plan(snapshot)))
            self.control.commit()
            self.reconciler.act()
            self.clock.at_ms += 1_000
            self.reconciler.observe()
            self.control.commit()

    @property
    def state(self) -> str:
        """All that the world holds but recorded verdicts, to see that nothing changed."""
        return repr(replace(self.control.world.state, version=0, verdicts={}))


def documents(name: str) -> tuple[c.NormalisedDocument, ...]:
    """An example's documents, ready to apply."""
    found = load(EXAMPLES / name)
    return tuple(c.NormalisedDocument(one.kind, one.name, one.normalised) for one in found)


def small(folder: Path) -> Small:
    """A new control plane with its state in ``folder``."""
    clock = HandClock()
    store = FailingStore(folder / "journal.sqlite")
    control = Control(store, Keys.open(folder / "keys"), clock, policies=policies())
    control.execute(SYSTEM, c.StartControl("small", "test"))
    control.execute(SYSTEM, c.ApplyDocuments((*documents("tenants.yaml"), *documents("estates/lab.yaml"))))
    for name, role, tenant in (
        ("admin", Role.OPERATOR_ADMIN, None),
        ("fjord", Role.TENANT_ADMIN, FJORD),
        ("member", Role.TENANT_MEMBER, FJORD),
        ("albion", Role.TENANT_ADMIN, ALBION),
    ):
        digest = sha256(TOKENS[name].encode()).hexdigest()
        control.execute(SYSTEM, c.IssueToken(digest, role, tenant))
    control.commit()
    engine = FakeEngine(clock, heartbeat_ms=1_000)
    reconciler = Reconciler(control, {"local": engine})
    reconciler.fence()
    app = create_app(InlineService(control, reconciler))
    return Small(control, store, clock, engine, reconciler, app)
