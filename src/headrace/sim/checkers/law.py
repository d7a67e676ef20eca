"""Promise 2, sovereignty: nothing is placed where its policy forbids, and the verdict that allowed it is on record."""

import hashlib
import json
from collections.abc import Iterable

from headrace.core.authority import Verdict
from headrace.core.events import (
    Committed,
    CreditNoteIssued,
    DecisionRecorded,
    DocumentApplied,
    DocumentRemoved,
    EvidenceExported,
    InvoiceIssued,
    LogRead,
    NodeStateChanged,
    PauseRequested,
    PlacementMade,
    StopRequested,
    TenantErased,
    TokenIssued,
    TokenRevoked,
    WorkloadRefused,
    WorkloadSubmitted,
)
from headrace.core.sovereignty.plain import PROFILES
from headrace.core.workload import WorkloadSpec
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Papers

Guarded = (
    DocumentApplied
    | DocumentRemoved
    | TokenIssued
    | TokenRevoked
    | WorkloadSubmitted
    | StopRequested
    | PauseRequested
    | NodeStateChanged
    | InvoiceIssued
    | CreditNoteIssued
    | TenantErased
    | LogRead
    | EvidenceExported
)
"""Events that refer to the verdict of the right they happened by."""


def content_digest(verdict: Verdict) -> str:
    """The name of a verdict: SHA-256 of the canonical JSON of its seven fields, in their order."""
    fields = [
        verdict.subject,
        verdict.action,
        verdict.place,
        verdict.allowed,
        list(verdict.reasons),
        verdict.policy,
        verdict.facts,
    ]
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def allowed_countries(spec: WorkloadSpec, papers: Papers, tenant: str) -> frozenset[str] | None:
    """The countries that a workload may run in, None for all: its own policy's, else that of its tenant.

    A profile that nobody declared allows none.
    """
    if spec.policy.countries:
        return frozenset(spec.policy.countries)
    declared = papers.tenants.get(tenant)
    profile = spec.policy.profile or (declared.policy if declared is not None else "")
    if not profile:
        return None
    policy = PROFILES.get(profile)
    if policy is None:
        return frozenset()
    return frozenset(policy.countries) or None


class LawChecker(Checker):
    """Judges every placement by the policy itself, and the verdict that it refers to by what it says."""

    promise = 2

    def __init__(self, papers: Papers | None = None) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.specs: dict[str, tuple[str, WorkloadSpec]] = {}
        self.refused: set[str] = set()
        self.meaning: dict[str, frozenset[str] | None] = {}
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Verdicts, whatever refers to one, and placements."""
        yield DecisionRecorded, self._recorded
        yield WorkloadSubmitted, self._submitted
        yield WorkloadRefused, self._refused
        yield PlacementMade, self._made
        for kind in Guarded.__args__:
            yield kind, self._guarded

    def _recorded(self, _committed: Committed, event: DecisionRecorded) -> None:
        self.verdicts[content_digest(event.verdict)] = event.verdict

    def _submitted(self, _committed: Committed, event: WorkloadSubmitted) -> None:
        self.specs[event.workload] = (event.tenant, event.spec)

    def _refused(self, _committed: Committed, event: WorkloadRefused) -> None:
        self.refused.add(event.workload)
        for ident in event.verdicts:
            if ident not in self.verdicts:
                self.found("verdict-unknown", event.workload, f"refused by a verdict never recorded: {ident}")

    def _guarded(self, committed: Committed, event: Guarded) -> None:
        if not event.verdict:
            return
        verdict = self.verdicts.get(event.verdict)
        name = f"event {committed.seq} ({type(event).__name__})"
        if verdict is None:
            self.found("verdict-unknown", name, f"it refers to a verdict never recorded: {event.verdict}")
        elif not verdict.allowed:
            self.found("verdict-denies", name, f"it happened by a verdict that denies it: {verdict.reasons}")

    def _made(self, _committed: Committed, event: PlacementMade) -> None:
        tenant, spec = self.specs.get(event.workload, ("", None))
        if event.workload in self.refused:
            self.found("refused-placed", event.workload, f"refused, yet placed as {event.placement}")
        if spec is None:
            return
        countries = allowed_countries(spec, self.papers, tenant)
        self._country(event, countries)
        self._verdict(event, tenant, countries)

    def _country(self, event: PlacementMade, countries: frozenset[str] | None) -> None:
        site = self.papers.sites.get(event.site)
        country = "" if site is None else site.country
        if not country:
            self.found(
                "unknown-country", event.workload, f"placed at {event.site}, whose country is not known"
            )
        elif countries is not None and country not in countries:
            allowed = ", ".join(sorted(countries)) or "no country"
            self.found("jurisdiction", event.workload, f"placed in {country}; its policy allows {allowed}")

    def _verdict(self, event: PlacementMade, tenant: str, countries: frozenset[str] | None) -> None:
        verdict = self.verdicts.get(event.verdict)
        if verdict is None:
            self.found(
                "verdict-unknown", event.placement, f"no verdict {event.verdict!r} was recorded before"
            )
            return
        if not verdict.allowed:
            self.found("verdict-denies", event.placement, f"the verdict denies it: {verdict.reasons}")
        if verdict.action != "workload.place" or verdict.place != f"site:{event.site}":
            what = f"the verdict is of {verdict.action} at {verdict.place}, not of placing at {event.site}"
            self.found("verdict-elsewhere", event.placement, what)
        if verdict.subject.rpartition("@")[2] != tenant:
            what = f"the verdict is for {verdict.subject}, the workload is of {tenant}"
            self.found("verdict-elsewhere", event.placement, what)
        # Two policies that allow different countries can't have one digest: then a verdict of another policy was used.
        if self.meaning.setdefault(verdict.policy, countries) != countries:
            what = f"its verdict is by policy {verdict.policy[:12]}, which allowed others other countries"
            self.found("verdict-policy", event.placement, what)
