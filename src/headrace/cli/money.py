"""Usage and invoices."""

from decimal import Decimal, InvalidOperation

import typer

from headrace.api.views import InvoiceView, UsageView
from headrace.cli.common import client, console, print_json, print_table, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.units import MICROS, MJ_PER_WH, format_duration, format_money
from headrace.money.render import invoice_csv, invoice_json, invoice_table
from headrace.sdk import Client

app = typer.Typer(rich_markup_mode=None)
invoice = typer.Typer(rich_markup_mode=None)
app.add_typer(invoice, name="invoice")
TENANT = typer.Argument(..., help="The tenant.")
PERIOD = typer.Argument("", help="The month, like 2026-11 [default: this one].")


@app.command()
def meter() -> None:
    """Record the usage of everything that runs up to now."""
    with client() as control:
        done = control.meter()
    say("metered." if done.changed else "nothing to meter.")


@invoice.callback()
def invoice_group() -> None:
    """Invoices: show, issue, credit, and the events behind a line."""


@invoice.command()
def show(
    tenant: str = typer.Argument(..., help="The tenant, or an invoice's number."),
    period: str = PERIOD,
    form: str = typer.Option("table", "--format", help="table, json or csv."),
    line: int | None = typer.Option(None, min=1, help="The events behind this line of an issued invoice."),
) -> None:
    """Show a tenant's invoices of a month, and as a draft what is not invoiced yet."""
    if form not in ("table", "json", "csv"):
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"no format {form!r};", "known: table, json, csv.")
        )
    with client() as control:
        found = find(control, tenant, period)
        if line is not None:
            _show_events(control, found, line)
            return
    _print(found, form)


def find(control: Client, name: str, period: str) -> list[InvoiceView]:
    """The invoice of that number; or those of a tenant for a month, then the drafts of what is left."""
    if not period:
        for one in control.invoices():
            if one.invoice.invoice == name:
                return [control.invoice(name)]
    month = period or this_month(control)
    return [*control.invoices(name, month), *control.draft_invoices(name, month)]


def this_month(control: Client) -> str:
    """The billing period that it is by the control plane's clock, in the operator's zone."""
    return control.status().period


def _print(found: list[InvoiceView], form: str) -> None:
    if form == "csv":
        say(invoice_csv(one.invoice for one in found).rstrip())
    elif form == "json":
        texts = (invoice_json(one.invoice, one.credit_notes, draft=one.draft).rstrip() for one in found)
        say("[" + ",\n".join(texts) + "]")
    elif not found:
        say("nothing to invoice.")
    for one in found if form == "table" else ():
        console().print(invoice_table(one.invoice, one.credit_notes, draft=one.draft))
        say("")


def _show_events(control: Client, found: list[InvoiceView], line: int) -> None:
    issued = [one.invoice.invoice for one in found if not one.draft]
    if len(issued) != 1:
        message = f"{len(issued)} issued invoices match;" if issued else "no invoice is issued yet;"
        step = "Name one by its number." if issued else "Issue it first: headrace invoice issue TENANT."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, related=tuple(issued)))
    rows = control.line_events(issued[0], line).rows
    columns = (
        "EVENT",
        "AT",
        "PLACEMENT",
        "RAN",
        "PAUSED",
        "ACCELERATOR TIME",
        "IT ENERGY",
        "TOKENS IN",
        "OUT",
        "SOURCE",
    )
    empty = f"no usage is behind line {line}: it bills a reservation, or says something."
    print_table(columns, map(usage_cells, rows), empty, columns[3:9])


def usage_cells(row: UsageView) -> tuple[object, ...]:
    """A row of usage as cells."""
    return (
        row.seq,
        row.at,
        row.placement,
        format_duration(row.running_ms),
        format_duration(row.paused_ms),
        format_duration(row.accelerator_ms),
        f"{row.energy_mj / MJ_PER_WH:.3f} Wh",
        row.input_tokens,
        row.output_tokens,
        row.source + (" (estimated)" if row.estimated else ""),
    )


@invoice.command()
def issue(tenant: str = TENANT, period: str = PERIOD) -> None:
    """Issue a tenant's invoices for a month, one for each currency: once and for good."""
    with client() as control:
        control.meter()
        numbers = control.issue_invoices(tenant, period or this_month(control)).invoices
    for number in numbers:
        say(f"issued {number}")


@invoice.command("ls")
def list_invoices(
    tenant: str = typer.Option("", help="Only this tenant's."),
    period: str = typer.Option("", help="Only of this month."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List issued invoices and what is left to pay of them."""
    with client() as control:
        found = control.invoices(tenant, period)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.invoice.invoice,
            one.invoice.tenant,
            one.invoice.period,
            format_money(one.invoice.total_micros, one.invoice.currency),
            format_money(one.due_micros, one.invoice.currency),
        )
        for one in found
    ]
    columns = ("NUMBER", "TENANT", "PERIOD", "TOTAL", "LEFT TO PAY")
    print_table(columns, rows, "no invoices are issued.", ("TOTAL", "LEFT TO PAY"))


@invoice.command()
def credit(
    number: str = typer.Argument(..., help="The invoice's number."),
    amount: str = typer.Argument(..., help="How much to give back, in the invoice's currency, like 12.50."),
    reason: str = typer.Option(..., help="Why; it stands on the credit note."),
    key: str | None = typer.Option(None, help="Idempotency key: the same again gives nothing twice."),
) -> None:
    """Correct an issued invoice by a credit note: the only way there is."""
    with client() as control:
        done = control.credit(number, micros_of(amount), reason, key)
    say(f"issued {done.name}")


def micros_of(amount: str) -> int:
    """An amount in millionths; raises HeadraceError for what is none."""
    try:
        micros = Decimal(amount) * MICROS
    except InvalidOperation:
        micros = Decimal("NaN")
    if not micros.is_finite() or micros != int(micros) or micros <= 0:
        step = "Write more than zero with at most six decimals, like 12.50."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"{amount!r} is no amount.", step))
    return int(micros)
