"""The client: one method for each thing that the API can do."""

import base64
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec

from headrace.api import views as v
from headrace.api import views_devices as d
from headrace.api import views_evidence as e
from headrace.api import views_grid as g
from headrace.api import views_packs as k
from headrace.api import views_power as p
from headrace.api.views_sovereignty import LawChangesView
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.workload import TERMINAL
from headrace.evidence.closing import LONGEST_CLOSING, closing_in
from headrace.sdk.data import DataCalls
from headrace.sdk.transport import Transport
from headrace.state import StateDirectory, default_state

MAX_BATCH = 1_000
"""Workloads in one request."""
MAX_BATCH_BYTES = 4 * 1024 * 1024
POLL_S = 0.5
_PAGE = 1_000
_LOG_PIECE = 256 * 1024

_encode = msgspec.json.Encoder().encode


class Client(DataCalls):
    """A client of one control plane. Every method raises HeadraceError, whose problems say what to do next.

    It keeps the newest signed head of the journal that it saw (``head``), and raises HeadWentBack when an older one, or
    another one of the same size, is shown to it later: pass ``head`` to go on from one that was kept.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        timeout: float = 30.0,
        *,
        head: v.HeadView | None = None,
        patience_s: float = 15.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = Transport(
            base_url, token, timeout, patience_s=patience_s, transport=transport, sleep=sleep
        )
        self._api.head = head
        self._sleep = sleep
        self._tenant: str | None = None

    @classmethod
    def from_env(cls, timeout: float = 30.0) -> Self:
        """A client by ``HEADRACE_URL`` and ``HEADRACE_TOKEN``, else by what ``headrace up`` left for this user."""
        url, token = os.environ.get("HEADRACE_URL", ""), os.environ.get("HEADRACE_TOKEN", "")
        if not (url and token):
            kept = _kept(StateDirectory(default_state()).client)
            url, token = url or kept.get("url", ""), token or kept.get("token", "")
        if not (url and token):
            step = "Set HEADRACE_URL and HEADRACE_TOKEN, or run 'headrace up'."
            raise HeadraceError(
                Problem(
                    ProblemCode.UNAUTHENTICATED,
                    "it is not known where to connect, or with which token.",
                    step,
                )
            )
        return cls(url, token, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    @property
    def head(self) -> v.HeadView | None:
        """The newest head that was seen: worth keeping."""
        return self._api.head

    # -- the control plane ---------------------------------------------------------------------------------------------

    def status(self) -> v.StatusView:
        """How the control plane stands."""
        return self._api.get("/v1/status", v.StatusView)

    def whoami(self) -> v.Whoami:
        """Who the token says one is, and what it may do."""
        return self._api.get("/v1/whoami", v.Whoami)

    # -- documents -----------------------------------------------------------------------------------------------------

    def apply(
        self,
        documents: str | bytes | Sequence[Mapping[str, Any]],
        *,
        dry_run: bool = False,
        tenant: str = "",
        key: str = "",
    ) -> v.Applied:
        """Apply documents (YAML, or dicts); ``dry_run`` only says what would change. Applying twice changes nothing."""
        query: dict[str, Any] = {"dry_run": dry_run} | ({"tenant": tenant} if tenant else {})
        if isinstance(documents, str | bytes):
            raw, media = documents.encode() if isinstance(documents, str) else documents, "application/yaml"
        else:
            raw, media = _encode({"documents": documents}), "application/json"
        return self._api.send("POST", "/v1/apply", v.Applied, raw, key=key, media=media, query=query)

    def plan(
        self, documents: str | bytes | Sequence[Mapping[str, Any]] = b"", *, tenant: str = ""
    ) -> v.PlanView:
        """The plan that would be made now, beside that with ``documents`` (YAML, or dicts), which are only tried (operator)."""
        query = {"tenant": tenant} if tenant else {}
        if isinstance(documents, str | bytes):
            raw, media = documents.encode() if isinstance(documents, str) else documents, "application/yaml"
        else:
            raw, media = _encode({"documents": documents}), "application/json"
        return self._api.send("POST", "/v1/plan", v.PlanView, raw, media=media, query=query)

    def sovereignty_what_if(self, documents: str | bytes = b"", *, on: str = "") -> LawChangesView:
        """What documents (YAML), or a day to come (``on``, ISO), would newly forbid and allow; nothing is applied (operator)."""
        raw = documents.encode() if isinstance(documents, str) else documents
        path, query = "/v1/sovereignty/what-if", {"on": on} if on else {}
        return self._api.send("POST", path, LawChangesView, raw, media="application/yaml", query=query)

    def documents(self) -> tuple[v.DocumentName, ...]:
        """The documents that are applied."""
        return self._api.get("/v1/documents", v.Documents).documents

    def document(self, kind: str, name: str) -> v.DocumentView:
        """A document in its normalised form."""
        return self._api.get(f"/v1/documents/{_part(kind)}/{_part(name)}", v.DocumentView)

    def remove(self, kind: str, name: str) -> v.Applied:
        """Remove a document that nothing uses."""
        return self._api.send("DELETE", f"/v1/documents/{_part(kind)}/{_part(name)}", v.Applied, safe=False)

    # -- the estate ----------------------------------------------------------------------------------------------------

    def sites(self) -> tuple[v.SiteView, ...]:
        """Sites."""
        return self._api.get("/v1/sites", v.Sites).sites

    def nodes(self, site: str = "") -> Iterator[v.NodeView]:
        """Nodes, with their state and use."""
        after = ""
        while True:
            page = self._api.get("/v1/nodes", v.Nodes, site=site, limit=_PAGE, after=after)
            yield from page.nodes
            after = page.next
            if not after:
                return

    def engines(self) -> tuple[v.EngineView, ...]:
        """Engines, what keeps them from their clusters, and where these differ from the estate."""
        return self._api.get("/v1/engines", v.Engines).engines

    def power(self, site: str = "", *, racks: bool = True) -> Iterator[v.PowerView]:
        """The power tree, parents before children."""
        after = ""
        while True:
            page = self._api.get("/v1/power", v.Power, site=site, racks=racks, limit=_PAGE, after=after)
            yield from page.elements
            after = page.next
            if not after:
                return

    def devices(self, site: str = "", *, concerned: bool = False, limit: int = 1_000) -> d.DevicesView:
        """Controllers, meters and miners as the control plane finds them; ``concerned``: only those with something to do."""
        query = {"concerned": str(concerned).lower(), "limit": str(limit)} | ({"site": site} if site else {})
        return self._api.get("/v1/devices", d.DevicesView, **query)

    def power_impact(self, element: str) -> p.ImpactView:
        """What the loss of an element of the power tree, a rack or a node does."""
        return self._api.get("/v1/power/impact", p.ImpactView, element=element)

    def grid(self, site: str = "", *, ladders: bool = True) -> g.GridView:
        """What the grid asks of sites, what each could give up (unless ``ladders`` is false), and which VTNs are heard."""
        return self._api.get("/v1/grid", g.GridView, site=site, ladders=None if ladders else False)

    def instruct(
        self,
        site: str,
        limit: str,
        *,
        begins: str | None = None,
        until: str | None = None,
        name: str | None = None,
        urgency: str = "normal",
        note: str = "",
        binding: bool = False,
    ) -> g.Instructed:
        """Let a site draw at most ``limit`` (like ``40MW``) at its meter; times as RFC 3339 with an offset."""
        asked = {"site": site, "limit": limit, "from": begins, "until": until, "id": name}
        asked = {key: value for key, value in asked.items() if value is not None}
        more = {"urgency": urgency, "note": note, "binding": binding}
        return self._api.send("POST", "/v1/grid/instructions", g.Instructed, asked | more)

    def withdraw(self, instruction: str, reason: str = "") -> g.Instructed:
        """End an instruction now."""
        path = f"/v1/grid/instructions/{quote(instruction, safe='')}/withdraw"
        return self._api.send("POST", path, g.Instructed, {"reason": reason})

    def drain(
        self, nodes: Sequence[str] = (), *, site: str | None = None, reason: str = "", evict: bool = False
    ) -> v.Drained:
        """Place nothing more on nodes (or a whole site); with ``evict`` what runs there is moved."""
        asked = {"nodes": list(nodes), "site": site, "reason": reason, "evict": evict}
        return self._api.send("POST", "/v1/nodes/drain", v.Drained, asked)

    def undrain(self, nodes: Sequence[str] = (), *, site: str | None = None, reason: str = "") -> v.Drained:
        """Take nodes (or a whole site) back."""
        asked = {"nodes": list(nodes), "site": site, "reason": reason}
        return self._api.send("POST", "/v1/nodes/undrain", v.Drained, asked)

    # -- workloads -----------------------------------------------------------------------------------------------------

    def submit(
        self,
        workloads: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        tenant: str | None = None,
        key: str | None = None,
    ) -> v.SubmittedView:
        """Submit one workload or many, in requests of at most a thousand: each request all or none, and only once.

        ``tenant`` is that of the token unless said. After an error, submitting the same again with the same ``key``
        goes on where it stopped; a note on the error says the key that was made here.
        """
        listed = [workloads] if isinstance(workloads, Mapping) else list(workloads)
        path = f"/v1/tenants/{_part(tenant or self._own_tenant())}/workloads"
        key = key or secrets.token_hex(16)
        made: list[v.SubmittedView] = []
        for number, batch in enumerate(_batches(listed)):
            batch_key = f"{key}/{number}" if number else key
            raw = _encode({"workloads": batch})
            try:
                made.append(self._api.send("POST", path, v.SubmittedView, raw, key=batch_key))
            except HeadraceError as error:
                done = sum(len(one.workloads) for one in made)
                error.add_note(
                    f"{done} of {len(listed)} workloads are submitted; to go on, use key {key!r} again"
                )
                raise
        return v.SubmittedView(
            tuple(ident for one in made for ident in one.workloads),
            tuple(refused for one in made for refused in one.refused),
            bool(made) and all(one.repeated for one in made),
            made[-1].head if made else None,
        )

    def _own_tenant(self) -> str:
        if self._tenant is None:
            self._tenant = self.whoami().tenant
        if self._tenant is None:
            step = "Say the tenant, or use a tenant's token."
            raise HeadraceError(Problem(ProblemCode.BAD_INPUT, "this token has no tenant.", step))
        return self._tenant

    def workloads(
        self, tenant: str = "", states: Collection[str] = (), *, live: bool = False, why: bool = False
    ) -> Iterator[v.WorkloadView]:
        """Workloads in order of submission; ``live`` leaves out those that have ended, ``why`` says why the queued ones wait."""
        after = ""
        while True:
            page = self._api.get(
                "/v1/workloads",
                v.Workloads,
                tenant=tenant,
                state=list(states) or None,
                live=live,
                why=why,
                limit=_PAGE,
                after=after,
            )
            yield from page.workloads
            after = page.next
            if not after:
                return

    def workload(self, ident: str) -> v.WorkloadDetail:
        """A workload with all that was asked and where it is."""
        return self._api.get(f"/v1/workloads/{_part(ident)}", v.WorkloadDetail)

    def explain(self, ident: str) -> v.ExplanationView:
        """Why a workload waits, runs, moved or was refused, in one line."""
        return self._api.get(f"/v1/workloads/{_part(ident)}/explain", v.ExplanationView)

    def stop(self, ident: str) -> v.Done:
        """Stop a workload for good."""
        return self._api.send("POST", f"/v1/workloads/{_part(ident)}/stop", v.Done)

    def pause(self, ident: str) -> v.Done:
        """Pause a workload."""
        return self._api.send("POST", f"/v1/workloads/{_part(ident)}/pause", v.Done)

    def resume(self, ident: str) -> v.Done:
        """Let a paused workload go on."""
        return self._api.send("POST", f"/v1/workloads/{_part(ident)}/resume", v.Done)

    def endpoint(self, ident: str) -> v.EndpointView:
        """Where a workload answers, and its replica's API key."""
        return self._api.get(f"/v1/workloads/{_part(ident)}/endpoint", v.EndpointView)

    def wait(self, ident: str, states: Collection[str] = TERMINAL, timeout: float = 600.0) -> v.WorkloadView:
        """Wait until a workload is in one of ``states`` (by default: has ended).

        Raises TimeoutError after ``timeout`` seconds, or HeadraceError when it ended in none of them.
        """
        waited_s = 0.0
        while True:
            found = self.workload(ident).workload
            if found.state in states:
                return found
            if found.state in TERMINAL:
                message = f"workload {ident} is {found.state}: {found.reason or 'it has ended'}."
                raise HeadraceError(Problem(ProblemCode.CONFLICT, message, "Look at its logs."))
            if waited_s >= timeout:
                raise TimeoutError(f"workload {ident} is still {found.state} after {timeout:g} s")
            self._sleep(POLL_S)
            waited_s += POLL_S

    def logs(
        self, ident: str, rank: int = 0, stream: str = "stdout", *, follow: bool = True, attempt: int = 0
    ) -> Iterator[bytes]:
        """A rank's log in pieces, of ``attempt`` (0: the newest).

        With ``follow`` of all later ones too, until the workload has ended.
        """
        path, offset = f"/v1/workloads/{_part(ident)}/logs", 0
        while True:
            piece = self._api.get(
                path, v.LogView, rank=rank, stream=stream, offset=offset, limit=_LOG_PIECE, attempt=attempt
            )
            if piece.placement:
                attempt, offset = int(piece.placement.rpartition(".")[2]), piece.next_offset
            if piece.data:
                yield base64.b64decode(piece.data)
                continue
            if not follow:
                return
            work = self.workload(ident).workload
            if piece.ended and work.attempt > attempt:
                attempt, offset = attempt + 1, 0
            elif work.state in TERMINAL and (piece.ended or not piece.placement):
                return
            else:
                self._sleep(POLL_S)

    # -- tokens --------------------------------------------------------------------------------------------------------

    def tokens(self) -> tuple[v.TokenView, ...]:
        """Tokens, without their values."""
        return self._api.get("/v1/tokens", v.Tokens).tokens

    def issue_token(
        self,
        role: str,
        tenant: str | None = None,
        *,
        holder: str = "",
        expires_in: str | None = None,
        countries: Collection[str] = (),
    ) -> v.NewToken:
        """Make a token; ``expires_in`` like ``90d``; ``countries``: from where its holder has access.

        Its value is in this answer and nowhere else.
        """
        asked: dict[str, Any] = {"role": role, "tenant": tenant, "holder": holder, "expires_in": expires_in}
        asked |= {"countries": list(countries)} if countries else {}
        return self._api.send("POST", "/v1/tokens", v.NewToken, asked, safe=False)

    def revoke_token(self, ident: str) -> v.Done:
        """Let a token open nothing any more."""
        return self._api.send("DELETE", f"/v1/tokens/{_part(ident)}", v.Done)

    # -- money ---------------------------------------------------------------------------------------------------------

    def meter(self) -> v.Done:
        """Record the usage of every open interval up to now."""
        return self._api.send("POST", "/v1/meter", v.Done)

    def draft_invoices(self, tenant: str, period: str) -> tuple[v.InvoiceView, ...]:
        """What would be invoiced now for a period (``2026-11``)."""
        return self._api.get(f"/v1/tenants/{_part(tenant)}/invoices/{_part(period)}", v.Invoices).invoices

    def issue_invoices(self, tenant: str, period: str) -> v.InvoicesIssued:
        """Issue a tenant's invoices for a period, once and for good."""
        path = f"/v1/tenants/{_part(tenant)}/invoices"
        return self._api.send("POST", path, v.InvoicesIssued, {"period": period}, safe=False)

    def invoices(self, tenant: str = "", period: str = "") -> tuple[v.InvoiceView, ...]:
        """Issued invoices with their credit notes."""
        return self._api.get("/v1/invoices", v.Invoices, tenant=tenant, period=period).invoices

    def invoice(self, number: str) -> v.InvoiceView:
        """An issued invoice."""
        return self._api.get(f"/v1/invoices/{_part(number)}", v.InvoiceView)

    def line_events(self, number: str, line: int) -> v.LineEvents:
        """The rows of usage, and so the events, behind an invoice line (counted from 1)."""
        return self._api.get(f"/v1/invoices/{_part(number)}/lines/{line}/events", v.LineEvents)

    def credit(self, number: str, amount_micros: int, reason: str, key: str | None = None) -> v.Done:
        """Give back an amount of an issued invoice."""
        path, asked = (
            f"/v1/invoices/{_part(number)}/credit-notes",
            {"amount_micros": amount_micros, "reason": reason},
        )
        return self._api.send("POST", path, v.Done, asked, key=key or secrets.token_hex(16))

    def erase(self, tenant: str) -> v.Done:
        """Destroy a tenant's keys and logs for good."""
        return self._api.send("POST", f"/v1/tenants/{_part(tenant)}/erase", v.Done)

    # -- evidence ------------------------------------------------------------------------------------------------------

    def evidence(
        self, instruction: str, interval: str = "15m", baseline: str = "high-5-of-10"
    ) -> e.EvidenceView:
        """The settlement evidence of an instruction, as of now (operator)."""
        path = f"/v1/grid/instructions/{_part(instruction)}/evidence"
        return self._api.get(path, e.EvidenceView, interval=interval, baseline=baseline)

    def evidence_checkpoint(self, tenant: str | None = None) -> k.CheckpointView:
        """What to keep outside for a tenant (by default the token's): a later pack is compared with it."""
        return self._api.get(
            f"/v1/tenants/{_part(tenant or self._own_tenant())}/evidence/checkpoint", k.CheckpointView
        )

    def evidence_pack(
        self,
        write: Callable[[bytes], object],
        tenant: str | None = None,
        *,
        begins: str = "",
        until: str = "",
        checkpoints: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Write a tenant's evidence pack piece by piece; what it closes with. ``begins``, ``until``: RFC 3339 with an offset.

        ``checkpoints``: sizes of the journal at which it is to be compared. Raises HeadraceError, also when it broke off: then
        what was written is of no use.
        """
        asked = {"from": begins, "to": until, "checkpoint": [str(size) for size in checkpoints]}
        query = {name: value for name, value in asked.items() if value}
        last = b""
        for piece in self._api.stream(f"/v1/tenants/{_part(tenant or self._own_tenant())}/evidence", query):
            write(piece)
            last = (last + piece)[-2 * LONGEST_CLOSING :]
        closing = closing_in(last)
        if closing is None:
            step = "Ask again; if it happens again, look at what the control plane printed."
            raise HeadraceError(Problem(ProblemCode.BROKEN, "the pack broke off: its seal is missing.", step))
        return closing

    # -- the journal ---------------------------------------------------------------------------------------------------

    def journal_head(self) -> v.HeadView:
        """The newest signed head (operator)."""
        return self._api.get("/v1/journal/head", v.HeadView)

    def events(self, start: int = 0, limit: int = 100) -> v.Events:
        """Events of the journal from a number on (operator)."""
        return self._api.get("/v1/journal/events", v.Events, **{"from": start, "limit": limit})

    def proof(self, seq: int) -> v.Proof:
        """The proof that one's own event is in the journal."""
        return self._api.get(f"/v1/journal/proof/{seq}", v.Proof)


def _part(text: str) -> str:
    return quote(text, safe="")


def _batches(workloads: Sequence[Mapping[str, Any]]) -> Iterator[list[msgspec.Raw]]:
    batch: list[msgspec.Raw] = []
    size = 0
    for workload in workloads:
        raw = _encode(workload)
        if batch and (len(batch) >= MAX_BATCH or size + len(raw) > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(msgspec.Raw(raw))
        size += len(raw) + 1
    if batch:
        yield batch


def _kept(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        message = f"{path} can't be read: {error}."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, "Run 'headrace up' again.")) from None
