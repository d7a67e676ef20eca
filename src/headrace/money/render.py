"""An invoice as a table for people, and as JSON and CSV for programs.

JSON and CSV hold the exact integers (``quantity``, ``price_micros``, ``price_per``, ``amount_micros``) beside
the words, so that every amount can be computed again. The table rounds quantities to what a person reads,
never an amount.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.console import Group
from rich.table import Table
from rich.text import Text

from headrace.core.events import CreditNoteIssued, InvoiceIssued, InvoiceLine
from headrace.core.units import MICROS, MJ_PER_WH, MS_PER_HOUR, div_half_even, format_money

_UJ_PER_WH = MJ_PER_WH * 1_000
_SHOWN = {
    "accelerator-ms": (MS_PER_HOUR, "accelerator-h"),
    "process-ms": (MS_PER_HOUR, "process-h"),
    "uJ": (_UJ_PER_WH, "Wh"),
    "ugCO2e": (MICROS, "gCO2e"),
    "token": (1, "tokens"),
    "accelerator-day": (1, "accelerator-days"),
}
"""Unit of a line to (how many of it make one of what is shown, the unit shown)."""
_DECIMALS = 4
_CSV_COLUMNS = (
    "invoice",
    "tenant",
    "period",
    "part",
    "currency",
    "line",
    "item",
    "description",
    "project",
    "site",
    "contract",
    "quantity",
    "unit",
    "quantity_shown",
    "price_micros",
    "price_per",
    "price_unit",
    "amount_micros",
    "amount",
    "source",
    "estimated",
    "usage_key",
    "usage_rows",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def invoice_table(
    invoice: InvoiceIssued, notes: Sequence[CreditNoteIssued] = (), *, draft: bool = False
) -> Group:
    """The invoice for a terminal: its head, a row for each line, its sums and its credit notes.

    ``draft`` says that it was not issued. Colour marks nothing that words don't say.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("line", justify="right")
    table.add_column("what", ratio=1)
    table.add_column("quantity", justify="right")
    table.add_column("price", justify="right")
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("source")
    table.add_column("rows", justify="right")
    for number, line in enumerate(invoice.lines, 1):
        table.add_row(*(Text(cell) for cell in _cells(number, line, invoice.currency)))
    sums = Table.grid(padding=(0, 2))
    sums.add_column(justify="right")
    sums.add_column(justify="right", no_wrap=True)
    for name, amount in _sums(invoice, notes):
        sums.add_row(Text(name), Text(amount))
    return Group(_head(invoice, draft), Text(""), table, Text(""), sums)


def invoice_json(
    invoice: InvoiceIssued, notes: Sequence[CreditNoteIssued] = (), *, draft: bool = False
) -> str:
    """The invoice as JSON: its event's fields, ``draft``, words for its lines, credit notes, what is due."""
    value = asdict(invoice)
    value["draft"] = draft
    value["tax"] = _tax_words(invoice)
    value["total"] = format_money(invoice.total_micros, invoice.currency)
    for line, shown in zip(value["lines"], invoice.lines, strict=True):
        line["quantity_shown"] = quantity_text(shown)
        line["amount"] = format_money(shown.amount_micros, invoice.currency)
    own = [note for note in notes if note.invoice == invoice.invoice]
    value["credit_notes"] = [asdict(note) for note in own]
    value["due_micros"] = due_micros(invoice, own)
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def invoice_csv(invoices: Iterable[InvoiceIssued]) -> str:
    """Invoices as one CSV: a record for each line, and one of item ``tax`` for each invoice that computes it.

    ``amount_micros`` over the records of an invoice sums to its total. A text that a spreadsheet would take
    for a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, _CSV_COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for invoice in invoices:
        head: dict[str, str | int] = {
            "invoice": invoice.invoice,
            "tenant": invoice.tenant,
            "period": invoice.period,
            "part": invoice.part,
            "currency": invoice.currency,
        }
        records = [head | _record(number, line) for number, line in enumerate(invoice.lines, 1)]
        if invoice.tax_permille is not None:
            tax: dict[str, str | int] = {
                "line": len(records) + 1,
                "item": "tax",
                "description": _tax_words(invoice),
            }
            records.append(head | tax | _amount(invoice.tax_micros))
        writer.writerows({name: _guard(value) for name, value in record.items()} for record in records)
    return out.getvalue()


def quantity_text(line: InvoiceLine) -> str:
    """A line's quantity for people, with at most four decimals: ``1.5 accelerator-h``; empty for a note."""
    if not line.unit:
        return ""
    size, unit = _SHOWN.get(line.unit, (1, line.unit))
    if size == 1:
        return f"{line.quantity:,} {unit}"
    scaled = div_half_even(line.quantity * 10**_DECIMALS, size)
    if not scaled and line.quantity:
        return f"<0.{'1'.zfill(_DECIMALS)} {unit}"
    whole, part = divmod(scaled, 10**_DECIMALS)
    decimals = f"{part:0{_DECIMALS}d}".rstrip("0")
    return f"{whole:,}{'.' + decimals if decimals else ''} {unit}"


def due_micros(invoice: InvoiceIssued, notes: Iterable[CreditNoteIssued]) -> int:
    """What is left of an invoice's total after the credit notes on it."""
    return invoice.total_micros - sum(note.amount_micros for note in notes if note.invoice == invoice.invoice)


def _head(invoice: InvoiceIssued, draft: bool) -> Text:
    part = f", part {invoice.part}: usage recorded after the part before was issued" if invoice.part else ""
    text = Text(f"{'Draft of invoice' if draft else 'Invoice'} {invoice.invoice}", style="bold")
    text.append(f"\n{invoice.tenant}, {invoice.period}, in {invoice.currency}{part}", style="not bold")
    return text


def _cells(number: int, line: InvoiceLine, currency: str) -> tuple[str, ...]:
    if line.item == "note":
        return (str(number), line.description, "", "", "", "", "")
    where = " ".join(
        f"{name} {value}"
        for name, value in (("project", line.project), ("site", line.site), ("contract", line.contract))
        if value
    )
    price = f"{format_money(line.price_micros, currency)} per {line.price_unit}" if line.price_micros else "-"
    return (
        str(number),
        f"{line.description}\n{where}",
        quantity_text(line),
        price,
        format_money(line.amount_micros, currency),
        line.source,
        str(line.usage_rows) if line.usage_key and line.usage_rows else "-",
    )


def _sums(invoice: InvoiceIssued, notes: Sequence[CreditNoteIssued]) -> list[tuple[str, str]]:
    out = [
        ("net", format_money(invoice.net_micros, invoice.currency)),
        (
            _tax_words(invoice),
            "-" if invoice.tax_permille is None else format_money(invoice.tax_micros, invoice.currency),
        ),
        ("total", format_money(invoice.total_micros, invoice.currency)),
    ]
    own = [note for note in notes if note.invoice == invoice.invoice]
    out.extend(
        (f"credit note {note.note}: {note.reason}", format_money(-note.amount_micros, note.currency))
        for note in own
    )
    if own:
        out.append(("left to pay", format_money(due_micros(invoice, own), invoice.currency)))
    return out


def _tax_words(invoice: InvoiceIssued) -> str:
    if invoice.tax_permille is None:
        return "tax: not computed"
    whole, part = divmod(invoice.tax_permille, 10)
    return f"{invoice.tax_name or 'tax'} {whole}{f'.{part}' if part else ''} %"


def _record(number: int, line: InvoiceLine) -> dict[str, str | int]:
    record: dict[str, str | int] = asdict(line)
    record["line"] = number
    record["quantity_shown"] = quantity_text(line)
    record["estimated"] = "yes" if line.estimated else "no"
    return record | _amount(line.amount_micros)


def _amount(amount_micros: int) -> dict[str, str | int]:
    # No thousands separators and no currency: a column that sums.
    sign, rest = ("-" if amount_micros < 0 else ""), abs(amount_micros)
    return {"amount_micros": amount_micros, "amount": f"{sign}{rest // MICROS}.{rest % MICROS:06d}"}


def _guard(value: str | int) -> str | int:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
