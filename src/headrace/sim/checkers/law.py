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


class LawChecker(Checker):
    """Judges every placement by the policy itself, and the verdict that it refers to by what it says."""

    promise = 2

    def __init__(self, papers: Papers | None = None) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.specs: dict[str, tuple[str, WorkloadSpec]] = {}
        self.refused: set[str] = set()
        self.meaning: dict[str, object] = {}
        self.digests: dict[object, str] = {}
        self.facts: dict[tuple[str, str], object] = {}
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

    def _made(self, committed: Committed, event: PlacementMade) -> None:
        tenant, spec = self.specs.get(event.workload, ("", None))
        if event.workload in self.refused:
            self.found("refused-placed", event.workload, f"refused, yet placed as {event.placement}")
        if spec is None:
            return
        self._country(committed, event, tenant, spec)
        self._verdict(committed, event, tenant, spec)

    def _country(self, committed: Committed, event: PlacementMade, tenant: str, spec: WorkloadSpec) -> None:
        site = self.papers.sites.get(event.site)
        if site is None or not site.country:
            self.found(
                "unknown-country", event.workload, f"placed at {event.site}, whose country is not known"
            )
        elif not self.papers.allows(spec.policy, tenant, site, committed.at_ms):
            name = self.papers.laws.name_of(spec.policy, self.papers.tenants.get(tenant))
            said = name or f"countries {', '.join(spec.policy.countries)}"
            what = f"placed at {site.id} in {site.country}, where its policy ({said}) does not allow it now"
            self.found("jurisdiction", event.workload, what)

    def _verdict(self, committed: Committed, event: PlacementMade, tenant: str, spec: WorkloadSpec) -> None:
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
        self._digests(committed, event, tenant, spec, verdict)

    def _digests(
        self, committed: Committed, event: PlacementMade, tenant: str, spec: WorkloadSpec, verdict: Verdict
    ) -> None:
        """A digest of a policy, or of facts, stands for one thing: else the verdict is not of this law, or this place."""
        papers, declared = self.papers, self.papers.tenants.get(tenant)
        meaning = papers.laws.meaning(spec.policy, declared)
        if self.meaning.setdefault(verdict.policy, meaning) != meaning:
            what = f"its verdict is by policy {verdict.policy[:12]}, which once said something else"
            self.found("verdict-policy", event.placement, what)
        # A name beside what it says: the digest covers both, or the text alone.
        named = (papers.laws.name_of(spec.policy, declared), meaning)
        if self.digests.setdefault(named, verdict.policy) != verdict.policy:
            self.found("verdict-policy", event.placement, "the same policy has another digest than before")
        site = papers.sites.get(event.site)
        if site is None or papers.estate is None:
            return
        facts = papers.laws.facts_for(
            spec.policy, declared, site, committed.at_ms, papers.estate.operator.country
        )
        # A list of countries may also be written as rules, which are asked with all that is known.
        if self.facts.setdefault((verdict.policy, verdict.facts), facts) != facts:
            what = f"its verdict is by facts {verdict.facts[:12]}, which are not those of {site.id} now"
            self.found("verdict-facts", event.placement, what)
