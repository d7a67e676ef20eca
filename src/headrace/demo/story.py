"""What the demo knows while it goes: its clients, what it submitted, and what the API says became of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.api.views import ExplanationView, WorkloadDetail
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.workload import TERMINAL, State
from headrace.demo.narrate import Narrator
from headrace.demo.plant import Plant
from headrace.documents.source import parse
from headrace.sdk import Client

POLL_S = 0.2
SETTLE_S = 20.0
_NOT_SETTLED = (None, "TIME")
_UNPLACEABLE = "UNPLACEABLE"


class Failed(Exception):
    """A chapter did not happen as it should."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the demo is told. ``strict``: the shipped estate is used, so that every outcome is known beforehand."""

    estate: Path
    tenants: Path
    workloads: Path
    prompt: str
    paragraphs: int
    strict: bool


@dataclass(slots=True)
class Outcome:
    """What became of a workload. ``ident`` is empty when it was refused without being taken in."""

    name: str
    ident: str
    state: str
    refusal: str
    line: str

    @property
    def runs(self) -> bool:
        """Whether it has processes."""
        return self.state == State.RUNNING

    @property
    def what(self) -> str:
        """One word: running, refused, waiting, or its state."""
        if self.state == State.QUEUED:
            return "waiting"
        return self.state


@dataclass(slots=True)
class Story:
    """Everything the chapters share."""

    say: Narrator
    plant: Plant
    options: Options
    operator: Client
    tenants: dict[str, Client] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    tokens_seen: int = 0

    def submit(self, name: str, tenant: str) -> Outcome:
        """Submit an example workload with its tenant's own token, and wait until the scheduler has an opinion."""
        client = self.tenants[tenant]
        try:
            made = client.submit(self.document(name))
        except HeadraceError as error:
            if error.problem.code is not ProblemCode.UNPLACEABLE:
                raise
            outcome = Outcome(name, "", State.REFUSED, _UNPLACEABLE, error.problem.line())
        else:
            outcome = settle(client, name, made.workloads[0])
        self.outcomes[name] = outcome
        return outcome

    def document(self, name: str) -> dict[str, Any]:
        """An example workload as the API takes it."""
        file = self.options.workloads / f"{name}.yaml"
        found = {
            key: value for key, value in parse(file.read_bytes(), str(file))[0].data.items() if key != "kind"
        }
        found["commands"] = [
            f"{command} --paragraphs {self.options.paragraphs}"
            if command.endswith("payloads.score")
            else command
            for command in found["commands"]
        ]
        return found

    def expect(self, outcome: Outcome, what: str, refusal: str = "") -> bool:
        """Whether it came as in the shipped estate; there, Failed when it did not. Elsewhere the sentence is enough."""
        as_told = outcome.what == what and (not refusal or outcome.refusal == refusal)
        if self.options.strict and not as_told:
            wanted = f"{what} ({refusal})" if refusal else what
            raise Failed(f"{outcome.name} should be {wanted}; the API says: {outcome.line}")
        return as_told

    def owner(self, name: str) -> Client:
        """The client of the tenant whose workload it is."""
        tenant = self.outcomes[name].ident.rpartition("-")[0]
        return self.tenants[tenant]

    def detail(self, name: str) -> WorkloadDetail:
        """A submitted workload as it is now."""
        return self.owner(name).workload(self.outcomes[name].ident)


def settle(client: Client, name: str, ident: str) -> Outcome:
    """What the API says of a workload once that does not change by itself within the second; Failed when it never does."""
    deadline = time.monotonic() + SETTLE_S
    waiting_since: float | None = None
    while time.monotonic() < deadline:
        found = client.explain(ident)
        if found.state in TERMINAL or found.state == State.RUNNING:
            return _outcome(name, found)
        if found.state == State.QUEUED and found.refusal not in _NOT_SETTLED:
            waiting_since = waiting_since or time.monotonic()
            if time.monotonic() - waiting_since >= 1.0:
                return _outcome(name, found)
        else:
            waiting_since = None
        time.sleep(POLL_S)
    raise Failed(f"{name} ({ident}) did not settle within {SETTLE_S:.0f} s: {client.explain(ident).line}")


def _outcome(name: str, found: ExplanationView) -> Outcome:
    return Outcome(name, found.workload, found.state, found.refusal or "", found.line)


def until(what: str, holds: Callable[[], bool], timeout_s: float) -> None:
    """Wait until something holds; Failed, naming it, when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() >= deadline:
            raise Failed(f"{what} did not happen within {timeout_s:.0f} s")
        time.sleep(POLL_S)
