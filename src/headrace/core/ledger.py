"""The ledger: double entry in integer millionths of a currency unit.

A transfer moves an amount from the account that it credits to the account that it debits, within one
currency, so that the balances of a currency always sum to zero. A balance is debits less credits: what a
tenant owes is positive, revenue and tax are negative.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from headrace.core.events import CreditNoteIssued, InvoiceIssued
from headrace.core.ids import EventSeq
from headrace.core.units import div_half_even

AccountKind = Literal["receivable", "revenue", "tax", "adjustments"]

REVENUE_OF = {
    "capacity": "capacity",
    "capacity-reserved": "reserved",
    "process-time": "capacity",
    "tokens-input": "tokens",
    "tokens-output": "tokens",
    "energy": "energy",
    "reserved": "reserved",
}
"""The revenue account of an invoice line's item; any other item is credited to one of its own name."""


@dataclass(frozen=True, slots=True)
class Account:
    """What is owed or earned.

    ``receivable`` of a tenant, ``revenue`` of a kind, ``tax`` of a name, ``adjustments`` by credit notes.
    """

    kind: AccountKind
    owner: str
    currency: str

    @property
    def text(self) -> str:
        """The account's name in a balance: ``receivable:acme:NOK``."""
        return f"{self.kind}:{self.owner}:{self.currency}"


@dataclass(frozen=True, slots=True)
class Transfer:
    """``amount_micros`` (never negative) from ``credit`` to ``debit``, because of event ``seq``.

    ``memo`` names the document and its line. Raises ValueError for a negative amount, or accounts of another
    currency.
    """

    debit: Account
    credit: Account
    amount_micros: int
    currency: str
    seq: EventSeq
    memo: str

    def __post_init__(self) -> None:
        if self.amount_micros < 0:
            raise ValueError(
                f"{self.memo}: a transfer can't be negative; debit and credit change places instead"
            )
        if not self.debit.currency == self.credit.currency == self.currency:
            raise ValueError(
                f"{self.memo}: a transfer stays in one currency, not {self.debit.text} and {self.credit.text}"
            )


@dataclass(slots=True)
class Ledger:
    """Balances in micros by the text of their account; owned and mutated by the world, encodable."""

    balances: dict[str, int] = field(default_factory=dict)
    transfers: int = 0

    def apply(self, transfer: Transfer) -> None:
        """Book one transfer."""
        debit, credit = transfer.debit.text, transfer.credit.text
        self.balances[debit] = self.balances.get(debit, 0) + transfer.amount_micros
        self.balances[credit] = self.balances.get(credit, 0) - transfer.amount_micros
        self.transfers += 1

    def balance(self, account: Account) -> int:
        """Debits less credits of an account, in micros; 0 for one that nothing was booked to."""
        return self.balances.get(account.text, 0)

    def trial_balance(self) -> dict[str, int]:
        """The sum of all balances by currency: every one of them is 0, or the ledger is broken."""
        out: dict[str, int] = {}
        for text, balance in sorted(self.balances.items()):
            currency = text.rpartition(":")[2]
            out[currency] = out.get(currency, 0) + balance
        return out


def receivable(tenant: str, currency: str) -> Account:
    """What ``tenant`` owes in ``currency``."""
    return Account("receivable", tenant, currency)


def transfers_for_invoice(invoice: InvoiceIssued, seq: EventSeq) -> tuple[Transfer, ...]:
    """One transfer for each line that costs something, and one for tax; they sum to the invoice's total.

    Raises ValueError for an invoice whose lines don't add up: it must not get into a ledger.
    """
    if sum(line.amount_micros for line in invoice.lines) != invoice.net_micros:
        raise ValueError(f"invoice {invoice.invoice}: its lines don't sum to its net amount")
    if invoice.net_micros + invoice.tax_micros != invoice.total_micros:
        raise ValueError(f"invoice {invoice.invoice}: net and tax don't sum to its total")
    owed = receivable(invoice.tenant, invoice.currency)
    out = []
    for number, line in enumerate(invoice.lines, 1):
        if line.amount_micros:
            revenue = Account("revenue", REVENUE_OF.get(line.item, line.item), invoice.currency)
            memo = f"{invoice.invoice} line {number}"
            out.append(Transfer(owed, revenue, line.amount_micros, invoice.currency, seq, memo))
    if invoice.tax_micros:
        tax, memo = _tax_account(invoice), f"{invoice.invoice} tax"
        out.append(Transfer(owed, tax, invoice.tax_micros, invoice.currency, seq, memo))
    return tuple(out)


def transfers_for_credit_note(
    note: CreditNoteIssued, invoice: InvoiceIssued, earlier: Iterable[CreditNoteIssued], seq: EventSeq
) -> tuple[Transfer, ...]:
    """What a credit note gives back of ``invoice`` after its ``earlier`` ones: a share of tax, and the rest.

    The share of tax is taken of all that was credited so far, so that an invoice credited in any number of
    parts gives back exactly its tax. Raises ValueError when the notes exceed the invoice, or the note is
    another invoice's.
    """
    if note.invoice != invoice.invoice or note.currency != invoice.currency:
        raise ValueError(f"credit note {note.note} is not of invoice {invoice.invoice} in {invoice.currency}")
    before = sum(one.amount_micros for one in earlier if one.invoice == invoice.invoice)
    after = before + note.amount_micros
    if after > invoice.total_micros:
        raise ValueError(
            f"credit note {note.note} would give back more than invoice {invoice.invoice} asked for"
        )
    tax_micros = _tax_within(invoice, after) - _tax_within(invoice, before)
    owed = receivable(invoice.tenant, invoice.currency)
    rest = Account("adjustments", "credit-notes", invoice.currency)
    parts = ((_tax_account(invoice), tax_micros, "tax"), (rest, note.amount_micros - tax_micros, "net"))
    return tuple(
        Transfer(account, owed, amount, invoice.currency, seq, f"{note.note} {what}")
        for account, amount, what in parts
        if amount
    )


def _tax_within(invoice: InvoiceIssued, credited_micros: int) -> int:
    if not invoice.total_micros:
        return 0
    return div_half_even(credited_micros * invoice.tax_micros, invoice.total_micros)


def _tax_account(invoice: InvoiceIssued) -> Account:
    return Account("tax", invoice.tax_name or "tax", invoice.currency)
