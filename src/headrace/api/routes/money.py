"""Usage and money: metering now, drafts, invoices, the events behind a line, credit notes; erasing a tenant."""

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import Path, Query, Response

from headrace.api.bodies import CreditBody, IssueBody, NoBody, body
from headrace.api.endpoint import (
    Group,
    IdPath,
    PeriodPath,
    carry_out,
    head_view,
    json_body,
    reply,
)
from headrace.api.guard import (
    Call,
    CallDep,
    may,
    not_there,
    of_invoice,
    of_query_tenant,
    of_tenant,
    operators,
)
from headrace.api.routes.journal import reading
from headrace.api.views import Done, Invoices, InvoicesIssued, InvoiceView, LineEvents, UsageView, rfc3339
from headrace.core import commands as c
from headrace.core.authority import Target
from headrace.core.decide import drafts_of
from headrace.core.errors import HeadraceError, Problem
from headrace.core.events import InvoiceIssued, InvoiceLine
from headrace.core.ids import EventSeq, InvoiceNumber, PlacementId, TenantId, WorkloadId
from headrace.core.invoicing import rows_behind
from headrace.core.metering import UsageKey, UsageRow
from headrace.money.render import due_micros

money = Group("money")

_USAGE = """select seq, idx, at_ms, usage_key, workload, placement, accelerator_ms, running_ms, paused_ms, energy_mj,
  input_tokens, output_tokens, estimated from usage where tenant = ? and period = ? order by seq, idx"""
_FAMILY = {"capacity-reserved": "capacity"}


# -- usage -------------------------------------------------------------------------------------------------------------


@money.write(
    "POST",
    "/v1/meter",
    "usage.meter",
    operators("usage"),
    Done,
    body=json_body(NoBody, required=False),
    keyed=False,
)
async def meter(call: CallDep) -> Response:
    """Record the usage of every open interval up to now."""
    await body(call.request, NoBody)
    return reply(Done("usage", _meter_all(call), head_view(await call.service.settled())))


def _meter_all(call: Call) -> bool:
    reconciler = call.service.reconciler
    if reconciler is None:
        return False
    if call.service.failure is not None:
        raise call.service.failure
    before = call.world.state.version
    reconciler.observe(meter_all=True)
    return call.world.state.version > before


# -- invoices ----------------------------------------------------------------------------------------------------------


@money.get(
    "/v1/tenants/{tenant}/invoices/{period}",
    "invoice.read",
    of_tenant("invoices"),
    Invoices,
    errors=(409,),
)
async def draft(call: CallDep, tenant: IdPath, period: PeriodPath) -> Response:
    """What would be invoiced now, one draft for each currency; with the operator's token open intervals are metered first."""
    if may(call, "usage.meter", Target("usage")) and call.service.failure is None:
        _meter_all(call)
    drafts = drafts_of(call.world, TenantId(tenant), period)
    if isinstance(drafts, Problem):
        raise HeadraceError(drafts)
    return reply(Invoices(tuple(InvoiceView(one, True, (), one.total_micros) for one in drafts)))


@money.write(
    "POST",
    "/v1/tenants/{tenant}/invoices",
    "invoice.issue",
    of_tenant("invoices"),
    InvoicesIssued,
    status=201,
    body=json_body(IssueBody),
)
async def issue(call: CallDep, tenant: IdPath) -> Response:
    """Issue a tenant's invoices for a period, one for each currency: once, and for good."""
    asked = await body(call.request, IssueBody)
    numbers, head = await carry_out(call, c.IssueInvoices(TenantId(tenant), asked.period))
    if not isinstance(numbers, tuple):
        raise TypeError(f"invoices were answered with {numbers}")
    return reply(InvoicesIssued(tuple(str(number) for number in numbers), head_view(head)), 201)


@money.get("/v1/invoices", "invoice.read", of_query_tenant("tenant"), Invoices)
async def list_invoices(
    call: CallDep,
    tenant: Annotated[str, Query(max_length=63)] = "",
    period: Annotated[str, Query(max_length=7)] = "",
) -> Response:
    """Issued invoices with their credit notes."""
    whose = tenant or call.tenant
    found = [
        one
        for one in call.world.state.invoices.values()
        if whose in (None, one.tenant) and period in ("", one.period)
    ]
    return reply(Invoices(tuple(_view(call, one) for one in found)))


@money.get("/v1/invoices/{number}", "invoice.read", of_invoice, InvoiceView)
async def read_invoice(call: CallDep, number: IdPath) -> Response:
    """An issued invoice with its credit notes."""
    return reply(_view(call, call.world.state.invoices[InvoiceNumber(number)]))


def _view(call: Call, invoice: InvoiceIssued) -> InvoiceView:
    notes = tuple(one for one in call.world.state.credits.values() if one.invoice == invoice.invoice)
    return InvoiceView(invoice, False, notes, due_micros(invoice, notes))


@money.get("/v1/invoices/{number}/lines/{line}/events", "invoice.read", of_invoice, LineEvents)
async def line_events(
    call: CallDep,
    number: IdPath,
    line: Annotated[int, Path(ge=1, le=100_000, description="counted from 1")],
) -> Response:
    """The rows of usage that a line sums; ``seq`` is the journal's event that each of them is from."""
    invoices = call.world.state.invoices
    invoice = invoices[InvoiceNumber(number)]
    if line > len(invoice.lines):
        raise not_there(f"line of invoice {number}", str(line))
    one = invoice.lines[line - 1]
    earlier = []
    for other in invoices.values():
        if other.invoice == invoice.invoice:
            break
        if other.tenant == invoice.tenant and other.period == invoice.period:
            earlier.append(other)
    rows = await call.service.aside(_usage_rows(call, invoice.tenant, invoice.period))
    behind = rows_behind(one, rows, _rows_billed(one, earlier))
    return reply(LineEvents(number, line, tuple(_usage_view(row) for row in behind)))


def _usage_rows(call: Call, tenant: TenantId, period: str) -> Callable[[], list[UsageRow]]:
    path = call.service.control.store.path

    def read() -> list[UsageRow]:
        with reading(path) as store:
            return [_usage_row(values) for values in store.query(_USAGE, (tenant, period))]

    return read


def _usage_row(values: Sequence[object]) -> UsageRow:
    seq, part, at_ms, key, workload, placement, *numbers = values
    accelerator, running, paused, energy, tokens_in, tokens_out, estimated = (
        int(str(one)) for one in numbers
    )
    return UsageRow(
        seq=EventSeq(int(str(seq))),
        part=int(str(part)),
        at_ms=int(str(at_ms)),
        key=UsageKey.parse(str(key)),
        workload=WorkloadId(str(workload)),
        placement=PlacementId(str(placement)),
        accelerator_ms=accelerator,
        running_ms=running,
        paused_ms=paused,
        energy_mj=energy,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        estimated=bool(estimated),
    )


def _rows_billed(line: InvoiceLine, earlier: Sequence[InvoiceIssued]) -> int:
    """Rows of the line's usage that earlier invoices billed; two lines of one family share their rows."""
    family = _FAMILY.get(line.item, line.item)
    return sum(
        max(
            (
                one.usage_rows
                for one in invoice.lines
                if one.usage_key == line.usage_key and _FAMILY.get(one.item, one.item) == family
            ),
            default=0,
        )
        for invoice in earlier
    )


def _usage_view(row: UsageRow) -> UsageView:
    return UsageView(
        seq=row.seq,
        part=row.part,
        at=rfc3339(row.at_ms),
        workload=row.workload,
        placement=row.placement,
        source=row.key.source,
        accelerator_ms=row.accelerator_ms,
        running_ms=row.running_ms,
        paused_ms=row.paused_ms,
        energy_mj=row.energy_mj,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        estimated=row.estimated,
    )


@money.write(
    "POST",
    "/v1/invoices/{number}/credit-notes",
    "invoice.credit",
    of_invoice,
    Done,
    status=201,
    body=json_body(CreditBody),
)
async def credit(call: CallDep, number: IdPath) -> Response:
    """Give back an amount of an issued invoice."""
    asked = await body(call.request, CreditBody)
    command = c.IssueCreditNote(InvoiceNumber(number), asked.amount_micros, asked.reason)
    named, head = await carry_out(call, command)
    if not isinstance(named, c.Named):
        raise TypeError(f"a credit note was answered with {named}")
    return reply(Done(named.name, named.changed, head_view(head)), 201)


# -- the right to be forgotten -----------------------------------------------------------------------------------------


@money.write(
    "POST",
    "/v1/tenants/{tenant}/erase",
    "tenant.erase",
    of_tenant("tenant"),
    Done,
    body=json_body(NoBody, required=False),
)
async def erase(call: CallDep, tenant: IdPath) -> Response:
    """Destroy a tenant's keys, then its logs; what accounting must keep stays."""
    await body(call.request, NoBody)
    named, head = await carry_out(call, c.EraseTenant(TenantId(tenant)))
    if not isinstance(named, c.Named):
        raise TypeError(f"an erasure was answered with {named}")
    await call.service.aside(_erase_logs(call, TenantId(tenant)))
    return reply(Done(named.name, named.changed, head_view(head)))


def _erase_logs(call: Call, tenant: TenantId) -> Callable[[], None]:
    reconciler = call.service.reconciler
    engines = list(reconciler.engines.values()) if reconciler is not None else []
    placements = [
        PlacementId(f"{work.id}.{attempt}")
        for work in call.world.state.workloads.values()
        if work.tenant == tenant
        for attempt in range(1, work.attempt + 1)
    ]

    def erase_all() -> None:
        for engine in engines:
            for placement in placements:
                engine.erase_logs(placement)

    return erase_all
