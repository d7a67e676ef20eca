"""What is shown of an invoice says what the invoice says."""

import csv
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from headrace.core.events import CreditNoteIssued, InvoiceIssued, InvoiceLine
from headrace.core.ids import ContractId, InvoiceNumber, ProjectId, SiteId, TenantId
from headrace.money.render import due_micros, invoice_csv, invoice_json, invoice_table, quantity_text

CAPACITY = InvoiceLine(
    item="capacity",
    description="lab accelerators (virtual slots, no such hardware), held",
    project=ProjectId("research"),
    site=SiteId("glomfjord"),
    contract=ContractId("od"),
    quantity=5_400_000,
    unit="accelerator-ms",
    price_micros=25_000_000,
    price_per=3_600_000,
    price_unit="accelerator-hour",
    amount_micros=37_500_000,
    source="modelled",
    estimated=False,
    usage_key="acme/2026-11/od/research/glomfjord/lab/*/*/*/*/*",
    usage_rows=12,
)
NOTE = replace(
    CAPACITY,
    item="note",
    description="tenants are not isolated",
    quantity=0,
    unit="",
    amount_micros=0,
    usage_key="",
)
INVOICE = InvoiceIssued(
    invoice=InvoiceNumber("2026-11-acme-NOK-0"),
    tenant=TenantId("acme"),
    period="2026-11",
    currency="NOK",
    lines=(CAPACITY, NOTE),
    net_micros=37_500_000,
    tax_name="MVA",
    tax_permille=255,
    tax_micros=9_562_500,
    total_micros=47_062_500,
)
CREDIT = CreditNoteIssued(
    InvoiceNumber("2026-11-acme-NOK-0-C1"),
    INVOICE.invoice,
    INVOICE.tenant,
    "NOK",
    7_000_000,
    "the fabric was down",
)


def shown(invoice: InvoiceIssued, *notes: CreditNoteIssued, draft: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(invoice_table(invoice, notes, draft=draft))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        "Invoice 2026-11-acme-NOK-0",
        "lab accelerators (virtual slots",
        "project research site glomfjord contract od",
        "1.5 accelerator-h",
        "25.00 NOK per accelerator-hour",
        "37.50 NOK",
        "modelled",
        "MVA 25.5 %",
        "9.5625 NOK",
        "47.0625 NOK",
        "tenants are not isolated",
        "credit note 2026-11-acme-NOK-0-C1: the fabric was down",
        "left to pay",
        "40.0625 NOK",
    ],
)
def test_the_table_says(words: str) -> None:
    """Quantity, price, amount, source, tax, credits: in words and numbers, amounts never rounded."""
    assert words in shown(INVOICE, CREDIT)


def test_a_draft_and_a_tax_that_is_not_computed_say_so() -> None:
    """Nothing that wasn't issued looks like it was."""
    untaxed = replace(
        INVOICE, tax_name="not computed", tax_permille=None, tax_micros=0, total_micros=37_500_000
    )
    text = shown(untaxed, draft=True)
    assert "Draft of invoice" in text
    assert "tax: not computed" in text


def test_words_in_an_invoice_are_no_markup() -> None:
    """A bracket in a name is printed, not obeyed."""
    assert "[red]x[/red]" in shown(replace(INVOICE, lines=(replace(CAPACITY, description="[red]x[/red]"),)))


def test_json_holds_the_exact_integers_and_the_words() -> None:
    """Also a quantity beyond 64 bits."""
    value = json.loads(
        invoice_json(replace(INVOICE, lines=(replace(CAPACITY, quantity=10**30),)), [CREDIT], draft=True)
    )
    assert value["lines"][0]["quantity"] == 10**30
    assert value["lines"][0]["amount"] == "37.50 NOK"
    assert value["draft"] is True
    assert value["credit_notes"][0]["amount_micros"] == 7_000_000
    assert value["due_micros"] == 40_062_500


def test_csv_records_sum_to_the_invoices_total() -> None:
    """A record for each line and one for the tax, with every column of each."""
    records = list(csv.DictReader(io.StringIO(invoice_csv([INVOICE]))))
    assert [record["item"] for record in records] == ["capacity", "note", "tax"]
    assert sum(int(record["amount_micros"]) for record in records) == INVOICE.total_micros
    assert records[0]["amount"] == "37.500000"
    assert records[0]["quantity_shown"] == "1.5 accelerator-h"
    assert {record["invoice"] for record in records} == {"2026-11-acme-NOK-0"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_csv_never_holds_what_a_spreadsheet_would_run(start: str) -> None:
    """A text that starts like a formula gets an apostrophe before it; numbers stay numbers."""
    evil = f"{start}HYPERLINK(1)"
    line = replace(CAPACITY, description=evil, project=ProjectId(evil), contract=ContractId(evil))
    (record,) = csv.DictReader(
        io.StringIO(invoice_csv([replace(INVOICE, lines=(line,), tax_permille=None)]), newline="")
    )
    assert [record[name] for name in ("description", "project", "contract")] == [f"'{evil}"] * 3
    assert record["quantity"] == "5400000"


def test_csv_quotes_separators_and_line_ends() -> None:
    """A comma or a quote in a text does not move a column."""
    line = replace(CAPACITY, description='a, "b"\nc')
    (record, _) = csv.DictReader(io.StringIO(invoice_csv([replace(INVOICE, lines=(line,))]), newline=""))
    assert record["description"] == 'a, "b"\nc'


@pytest.mark.parametrize(
    ("quantity", "unit", "text"),
    [
        (5_400_000, "accelerator-ms", "1.5 accelerator-h"),
        (3_600_000_000 * 2_300, "uJ", "2,300 Wh"),
        (1, "uJ", "<0.0001 Wh"),
        (41_400_000, "ugCO2e", "41.4 gCO2e"),
        (1_234_567, "token", "1,234,567 tokens"),
        (160, "accelerator-day", "160 accelerator-days"),
        (3_600_000, "process-ms", "1 process-h"),
        (7, "unheard-of", "7 unheard-of"),
        (0, "", ""),
    ],
)
def test_a_quantity_is_shown_in_a_unit_for_people(quantity: int, unit: str, text: str) -> None:
    """Something is never shown as nothing."""
    assert quantity_text(replace(CAPACITY, quantity=quantity, unit=unit)) == text


def test_what_is_due_counts_only_notes_on_this_invoice() -> None:
    """A credit on another invoice changes nothing."""
    other = replace(CREDIT, invoice=InvoiceNumber("2026-11-acme-GBP-0"))
    assert due_micros(INVOICE, [CREDIT, other]) == 40_062_500
