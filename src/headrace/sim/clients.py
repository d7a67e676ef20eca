"""Clients outside the control plane: they remember acknowledgements, and ask again when none came."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from headrace.control import Caller, Control, request_digest
from headrace.core import commands as c
from headrace.core.ids import TenantId
from headrace.core.workload import WorkloadSpec
from headrace.journal.codec import Head

Items = tuple[tuple[WorkloadSpec, dict[str, str]], ...]


@dataclass(slots=True)
class Request:
    """One thing that a client wants done, under one idempotency key, as often as it takes.

    ``expect``: the problem code that must answer it ("" for none in particular).
    """

    caller: Caller
    key: str
    what: str
    send: Callable[[Control], c.Reply]
    items: Items = ()
    expect: str = ""
    same_as: "Request | None" = None
    version: int = 0
    acts: bool = False
    attempts: int = 0
    made: tuple[str, ...] | None = None
    head: Head | None = None

    @property
    def digest(self) -> bytes:
        """The key as the journal has it."""
        return request_digest(self.caller, self.key)


def submission(caller: Caller, tenant: TenantId, items: Items, key: str) -> Request:
    """Submit workloads."""
    body = sha256(msgspec.json.encode([spec for spec, _ in items])).hexdigest()
    return Request(
        caller, key, "Submit", lambda control: control.submit(caller, tenant, items, key, body), items
    )


def command(caller: Caller, one: c.Command, key: str = "") -> Request:
    """Any other command."""
    return Request(caller, key, type(one).__name__, lambda control: control.execute(caller, one, key))


def made_by(reply: c.Reply) -> tuple[str, ...]:
    """The names of what a reply says was made."""
    match reply:
        case c.Submitted(workloads=workloads):
            return tuple(workloads)
        case c.Named(name=name):
            return (name,)
        case tuple():
            return tuple(one if isinstance(one, str) else f"{one.kind}/{one.name}" for one in reply)
        case _:
            return ()


@dataclass(slots=True)
class Notebook:
    """What clients were told for good: requests with their answers, and the heads that came with them."""

    answered: list[Request] = field(default_factory=list)
    denied: dict[str, int] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)

    def deny(self, code: str) -> None:
        """Count a request that was turned down."""
        self.denied[code] = self.denied.get(code, 0) + 1
