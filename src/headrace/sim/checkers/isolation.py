"""Promise 6, isolation: a tenant sees its own, an accelerator has one holder, a dedicated site serves one tenant."""

import re
from collections.abc import Iterable

from headrace.core.events import (
    Committed,
    DocumentApplied,
    InvoiceIssued,
    PlacementEnded,
    PlacementMade,
    TokenIssued,
    WorkloadSubmitted,
)
from headrace.core.workload import RankPlace
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Papers
from headrace.sim.checkers.wishes import WHOLE

_WORD = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class IsolationChecker(Checker):
    """Knows whose each thing is, and reads every answer that a tenant's token got.

    Names that two tenants share (projects are called alike) say nothing about anybody, and are not looked for.
    """

    promise = 6

    def __init__(self, papers: Papers | None = None) -> None:
        self.owners: dict[bytes, set[str]] = {}
        self.tenants: dict[bytes, str] = {}
        self.uids: dict[int, str] = {}
        self.uid_of: dict[str, int] = {}
        self.on_node: dict[str, dict[str, tuple[str, RankPlace]]] = {}
        self.live: dict[str, tuple[str, str, tuple[RankPlace, ...]]] = {}
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Whatever makes a thing of a tenant's, and placements."""
        return (
            (DocumentApplied, self._applied),
            (WorkloadSubmitted, self._submitted),
            (TokenIssued, self._token),
            (InvoiceIssued, self._invoice),
            (PlacementMade, self._made),
            (PlacementEnded, self._ended),
        )

    def _own(self, name: str, tenant: str) -> None:
        self.owners.setdefault(name.encode(), set()).add(tenant)

    def _applied(self, _committed: Committed, event: DocumentApplied) -> None:
        if event.kind == "tenant":
            self.tenants[event.name.encode()] = event.name
            self._own(event.name, event.name)
        elif event.kind == "contract" and event.name in self.papers.contracts:
            self._own(event.name, self.papers.contracts[event.name].tenant)
        elif event.kind == "estate":
            self._alone()

    def _alone(self) -> None:
        """A site can't become one tenant's while others still run there."""
        for placement, (tenant, site, _) in self.live.items():
            self._dedicated(placement, tenant, site)

    def _submitted(self, _committed: Committed, event: WorkloadSubmitted) -> None:
        self._own(event.workload, event.tenant)

    def _token(self, _committed: Committed, event: TokenIssued) -> None:
        if event.tenant is not None:
            self._own(event.token, event.tenant)

    def _invoice(self, _committed: Committed, event: InvoiceIssued) -> None:
        self._own(event.invoice, event.tenant)

    def _made(self, _committed: Committed, event: PlacementMade) -> None:
        self._dedicated(event.placement, event.tenant, event.site)
        if event.placement in self.live:
            return
        self.live[event.placement] = (event.tenant, event.site, event.ranks)
        for rank in event.ranks:
            others = self.on_node.setdefault(rank.node, {})
            self._holders(event, rank, [one for one in others.values() if one[1].mask & rank.mask])
            others[event.placement] = (event.tenant, rank)

    def _holders(self, event: PlacementMade, rank: RankPlace, others: list[tuple[str, RankPlace]]) -> None:
        """An accelerator has one holder, or parts of it are one tenant's."""
        if not others:
            return
        if rank.share_milli >= WHOLE or any(other.share_milli >= WHOLE for _, other in others):
            what = f"accelerators of {rank.mask:#x} of {rank.node} have another holder"
            self.found("accelerator-taken", event.placement, what)
            return
        sharers = [tenant for tenant, _ in others if tenant != event.tenant]
        if sharers:
            what = f"accelerator {rank.mask:#x} of {rank.node} is shared with {sharers[0]}"
            self.found("accelerator-shared", event.placement, what)
        milli = rank.share_milli + sum(other.share_milli for _, other in others)
        if milli > WHOLE:
            what = f"{milli} thousandths of accelerator {rank.mask:#x} of {rank.node} are taken"
            self.found("accelerator-over", event.placement, what)

    def _dedicated(self, placement: str, tenant: str, site: str) -> None:
        declared = self.papers.sites.get(site)
        if declared is not None and declared.dedicated_to not in (None, tenant):
            what = f"{tenant} runs at {site}, which serves {declared.dedicated_to} alone"
            self.found("dedicated", placement, what)

    def _ended(self, _committed: Committed, event: PlacementEnded) -> None:
        _, _, ranks = self.live.pop(event.placement, ("", "", ()))
        for rank in ranks:
            self.on_node[rank.node].pop(event.placement, None)

    def uid_seen(self, tenant: str, uid: int) -> None:
        """An engine was told to run a tenant's work as a user."""
        holder = self.uids.setdefault(uid, tenant)
        if holder != tenant:
            self.found("uid", tenant, f"user {uid} is of {holder}, too")
        before = self.uid_of.setdefault(tenant, uid)
        if before != uid:
            self.found("uid", tenant, f"it runs as user {uid}, and ran as {before}")

    def answer_seen(self, tenant: str, body: bytes) -> None:
        """The API answered a token of ``tenant``: the answer names nothing that is another tenant's alone."""
        told: set[bytes] = set()
        for word in _WORD.findall(body):
            if word in told:
                continue
            told.add(word)
            owner = self._owner(word)
            if owner and tenant not in owner:
                name = word.decode()
                self.found(
                    "told", tenant, f"an answer names {name!r}, which is of {', '.join(sorted(owner))}"
                )

    def _owner(self, word: bytes) -> set[str]:
        """Whose a name is, none for a word that names nothing: ``acme-7.2`` is of acme, and ``acme-999`` too."""
        for name in (word, word.split(b".")[0]):
            owner = self.owners.get(name)
            if owner:
                return owner
        stem, _, number = word.split(b".")[0].rpartition(b"-")
        if number.isdigit() and stem in self.tenants:
            return {self.tenants[stem]}
        return set()
