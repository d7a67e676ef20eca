"""One authority: every right of a person and every place of a workload is asked of ``decide``.

A decision is (class of subject, action, place, digests): it is stored once by its content and named by its digest,
so that a million placements of one class refer to one verdict. Replay uses the recorded verdicts.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from headrace.core.ids import Digest, TenantId

if TYPE_CHECKING:
    from headrace.core.sovereignty.exposure import Place
    from headrace.core.sovereignty.graph import Graph
    from headrace.core.sovereignty.holdings import PartyId


class Role(StrEnum):
    """What a token may do; a tenant's roles are bound to that tenant."""

    OPERATOR_ADMIN = "operator-admin"
    TENANT_ADMIN = "tenant-admin"
    TENANT_MEMBER = "tenant-member"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks: a token's principal, or the control plane itself (``SYSTEM``), or a class of workload, of data or of people.

    ``countries``: from where a token's holder has access, as far as that is stated.
    """

    kind: str
    id: str
    role: Role
    tenant: TenantId | None = None
    countries: tuple[str, ...] = ()

    @property
    def klass(self) -> str:
        """The class that a verdict is stored under: no verdict is about one person."""
        return f"{self.role}@{self.tenant}" if self.tenant else str(self.role)


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked about: a kind of thing, whose it is (None: the operator's), and which one."""

    kind: str
    tenant: TenantId | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with its reasons; ``policy`` and ``facts`` are digests of what decided it."""

    subject: str
    action: str
    place: str
    allowed: bool
    reasons: tuple[str, ...]
    policy: Digest
    facts: Digest

    @property
    def id(self) -> Digest:
        """The digest of the content, by which events refer to the verdict."""
        return _verdict_id(self)


# A class of decisions has one verdict, which is named by everything that is placed under it.
@lru_cache(maxsize=4_096)
def _verdict_id(verdict: Verdict) -> Digest:
    return digest_of(
        [
            verdict.subject,
            verdict.action,
            verdict.place,
            verdict.allowed,
            verdict.reasons,
            verdict.policy,
            verdict.facts,
        ]
    )


def digest_of(value: object) -> Digest:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Digest(hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules for an action: which roles may, or in which countries a workload may be placed (empty: in any).

    ``text``: rules in the language of a policy engine. ``is_shipped``: the engine itself has the rules under this name.
    """

    name: str
    countries: tuple[str, ...] = ()
    text: str = ""
    is_shipped: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it says no more than a list of countries."""
        return not self.text and not self.is_shipped

    @property
    def digest(self) -> Digest:
        """The digest of the rules."""
        said = ["policy", self.name, sorted(self.countries)]
        return digest_of(said if self.is_plain else [*said, self.text])


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy engine is asked: may ``subject`` do ``action`` to ``target``, given ``facts``."""

    subject: Subject
    action: str
    target: Target
    facts: dict[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a policy with rules from allowing something: ``why`` has the rule and the facts that decide, ``change`` what
    stating an unknown one would do ("": nothing that decides is unknown)."""

    why: str
    change: str


class PolicyEngine(Protocol):
    """Evaluates a policy: deterministic, without clock, I/O or chance."""

    @property
    def profiles(self) -> Collection[str]:
        """Policies that it brings along as rules, by name."""
        ...

    def evaluate(self, policy: Policy, request: Request) -> Verdict:
        """Judge ``request`` by ``policy``."""
        ...

    def obstacle(self, policy: Policy, request: Request) -> Obstacle | None:
        """What keeps ``policy`` from allowing ``request``; None where it allows it, and where reasons say all there is."""
        ...

    def minds_the_day(self, policy: Policy) -> bool:
        """Whether ``policy`` asks what day it is: else a verdict of today is one of tomorrow."""
        ...

    def describe(
        self, graph: "Graph", place: "Place", owner: "PartyId | None"
    ) -> Mapping[str, str | int | bool]:
        """The facts of a site that follow from who holds what of whoever operates, owns and supplies it."""
        ...
