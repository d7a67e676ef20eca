"""The ledger: every currency sums to nothing, always."""

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.events import CreditNoteIssued, InvoiceIssued, InvoiceLine
from headrace.core.ids import ContractId, EventSeq, InvoiceNumber, ProjectId, SiteId, TenantId
from headrace.core.ledger import (
    Account,
    Ledger,
    Transfer,
    receivable,
    transfers_for_credit_note,
    transfers_for_invoice,
)
from headrace.core.units import div_half_even

ITEMS = ("capacity", "tokens-input", "energy", "reserved", "carbon", "note")


def line(item: str, amount_micros: int) -> InvoiceLine:
    return InvoiceLine(
        item=item,
        description=item,
        project=ProjectId("research"),
        site=SiteId("glomfjord"),
        contract=ContractId("od"),
        quantity=amount_micros,
        unit="token",
        price_micros=1,
        price_per=1,
        price_unit="token",
        amount_micros=amount_micros,
        source="measured",
        estimated=False,
        usage_key="k",
        usage_rows=1,
    )


def invoice(lines: list[InvoiceLine], permille: int | None = 250, currency: str = "NOK") -> InvoiceIssued:
    net = sum(one.amount_micros for one in lines)
    tax = div_half_even(net * (permille or 0), 1_000)
    return InvoiceIssued(
        invoice=InvoiceNumber(f"2026-11-acme-{currency}-0"),
        tenant=TenantId("acme"),
        period="2026-11",
        currency=currency,
        lines=tuple(lines),
        net_micros=net,
        tax_name="MVA" if permille is not None else "not computed",
        tax_permille=permille,
        tax_micros=tax,
        total_micros=net + tax,
    )


def note(of: InvoiceIssued, number: int, amount_micros: int) -> CreditNoteIssued:
    name = InvoiceNumber(f"{of.invoice}-C{number}")
    return CreditNoteIssued(name, of.invoice, of.tenant, of.currency, amount_micros, "why")


def booked(*transfers: Transfer) -> Ledger:
    ledger = Ledger()
    for transfer in transfers:
        ledger.apply(transfer)
    return ledger


def test_an_invoice_is_booked_line_by_line_and_its_tax_apart() -> None:
    """The tenant is debited the total; revenue and tax are credited; lines of nothing aren't booked."""
    one = invoice([line("capacity", 50), line("energy", 0), line("tokens-output", 30), line("reserved", 20)])
    ledger = booked(*transfers_for_invoice(one, EventSeq(9)))
    assert ledger.balances == {
        "receivable:acme:NOK": 125,
        "revenue:capacity:NOK": -50,
        "revenue:tokens:NOK": -30,
        "revenue:reserved:NOK": -20,
        "tax:MVA:NOK": -25,
    }
    assert ledger.transfers == 4
    assert ledger.trial_balance() == {"NOK": 0}


def test_each_transfer_names_its_event_document_and_line() -> None:
    """So that a balance can be walked back."""
    transfers = transfers_for_invoice(
        invoice([line("capacity", 4), line("energy", 0), line("energy", 4)]), EventSeq(9)
    )
    assert [(one.seq, one.memo) for one in transfers] == [
        (9, "2026-11-acme-NOK-0 line 1"),
        (9, "2026-11-acme-NOK-0 line 3"),
        (9, "2026-11-acme-NOK-0 tax"),
    ]


invoices = st.builds(
    invoice,
    st.lists(st.builds(line, st.sampled_from(ITEMS), st.integers(0, 10**20)), max_size=6),
    st.sampled_from([None, 0, 120, 255]),
    st.sampled_from(["NOK", "GBP", "USD"]),
)


@given(issued=st.lists(invoices, max_size=5), shares=st.lists(st.integers(1, 10**6), max_size=5))
def test_transfers_balance_in_every_currency_after_each_of_them(
    issued: list[InvoiceIssued], shares: list[int]
) -> None:
    """Whatever is issued and credited, in whatever order of currencies."""
    ledger = Ledger()
    for one in issued:
        transfers = list(transfers_for_invoice(one, EventSeq(1)))
        earlier: list[CreditNoteIssued] = []
        for share in shares:
            given_back = note(
                one, len(earlier) + 1, (one.total_micros - sum(n.amount_micros for n in earlier)) // share
            )
            transfers += transfers_for_credit_note(given_back, one, earlier, EventSeq(2))
            earlier.append(given_back)
        for transfer in transfers:
            ledger.apply(transfer)
            assert set(ledger.trial_balance().values()) == {0}


@given(one=invoices, cuts=st.lists(st.integers(0, 10**6), max_size=6))
def test_an_invoice_credited_in_any_parts_leaves_nothing_owed_and_no_tax(
    one: InvoiceIssued, cuts: list[int]
) -> None:
    """The shares of tax of all notes sum to exactly the tax of the invoice."""
    edges = [0, *(one.total_micros * cut // 10**6 for cut in sorted(cuts)), one.total_micros]
    ledger = booked(*transfers_for_invoice(one, EventSeq(1)))
    earlier: list[CreditNoteIssued] = []
    for before, after in pairwise(edges):
        part = note(one, len(earlier) + 1, after - before)
        for transfer in transfers_for_credit_note(part, one, earlier, EventSeq(2)):
            ledger.apply(transfer)
        earlier.append(part)
    assert ledger.balance(receivable(one.tenant, one.currency)) == 0
    assert ledger.balance(Account("tax", one.tax_name, one.currency)) == 0
    assert ledger.balance(Account("adjustments", "credit-notes", one.currency)) == one.net_micros


def test_a_ledger_refuses_what_would_break_it() -> None:
    """Negative amounts, mixed currencies, invoices that don't add up, credits above the invoice."""
    owed, sold = receivable("acme", "NOK"), Account("revenue", "capacity", "NOK")
    with pytest.raises(ValueError, match="can't be negative"):
        Transfer(owed, sold, -1, "NOK", EventSeq(0), "memo")
    with pytest.raises(ValueError, match="stays in one currency"):
        Transfer(owed, replace(sold, currency="GBP"), 1, "NOK", EventSeq(0), "memo")
    good = invoice([line("capacity", 100)])
    with pytest.raises(ValueError, match="lines don't sum"):
        transfers_for_invoice(replace(good, net_micros=99), EventSeq(0))
    with pytest.raises(ValueError, match="net and tax don't sum"):
        transfers_for_invoice(replace(good, total_micros=126), EventSeq(0))
    with pytest.raises(ValueError, match="more than invoice"):
        transfers_for_credit_note(note(good, 2, 26), good, [note(good, 1, 100)], EventSeq(0))
    with pytest.raises(ValueError, match="is not of invoice"):
        transfers_for_credit_note(note(invoice([], currency="GBP"), 1, 1), good, [], EventSeq(0))


def test_a_ledger_survives_a_checkpoint() -> None:
    """Also with amounts beyond 64 bits."""
    ledger = booked(*transfers_for_invoice(invoice([line("capacity", 10**25)]), EventSeq(1)))
    assert msgspec.json.decode(msgspec.json.encode(ledger), type=Ledger) == ledger
