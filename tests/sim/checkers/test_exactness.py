"""Promise 4 is watched: usage, invoices and the ledger, by arithmetic of the checker's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.contracts import Contract
from headrace.core.events import CreditNoteIssued, InvoiceIssued, InvoiceLine, TokensMetered
from headrace.core.hardware import LAB
from headrace.core.ids import ContractId, InvoiceNumber, PlacementId
from headrace.core.workload import RankPlace
from headrace.sim.checkers import Entry
from headrace.sim.checkers.exactness import ExactnessChecker
from headrace.sim.checkers.usage import Months, days_covered, rank_watts
from tests.sim.checkers.streams import (
    ACME,
    PLAN,
    RAW,
    Edit,
    chain,
    change,
    commit,
    document,
    drop,
    ended,
    insert,
    invoice,
    line,
    metered,
    put,
    rules,
    story,
    told,
)


def issued(name: str) -> InvoiceIssued:
    """Return an invoice of the story."""
    event = story()[name]
    assert isinstance(event, InvoiceIssued)
    return event


ACMES, BETAS = issued("invoice-acme"), issued("invoice-beta")
FIRST = ACMES.lines[0]


def lines(*changed: InvoiceLine) -> Edit:
    """Return the edit that gives the tenant's invoice other lines, and the sums that belong to them."""
    return put("invoice-acme", invoice("acme", *changed))


def first(**changes: object) -> Edit:
    """Return the edit that changes the first line: 20,000 accelerator-ms at one millionth each."""
    return lines(replace(FIRST, **changes), *ACMES.lines[1:])  # type: ignore[arg-type]


def credit(amount: int, of: str = "2026-01-acme-NOK-0", number: str = "c-1") -> CreditNoteIssued:
    """Return a credit note."""
    return CreditNoteIssued(InvoiceNumber(number), InvoiceNumber(of), ACME, "NOK", amount, "sorry")


TOTAL = ACMES.total_micros
BROKEN: dict[str, tuple[str, Edit]] = {
    "usage that goes back": ("usage-back", insert("meter-4", metered("acme-3", (1_999, 0)))),
    "a pause that goes back": ("usage-back", insert("meter-2", metered("beta-1", (3_000, 499)))),
    "usage of a rank too few": ("usage-ranks", insert("meter-1", metered("acme-1", (1_000, 0)))),
    "usage after the end": ("usage-after-end", insert("end-1", metered("acme-1", (5_000, 0), (4_900, 100)))),
    "tokens that go back": (
        "tokens-back",
        insert("tokens-2", TokensMetered(PlacementId("beta-1.1"), 1, 99, 51)),
    ),
    "a batch taken twice": (
        "token-batch",
        insert("tokens-2", TokensMetered(PlacementId("beta-1.1"), 0, 100, 50)),
    ),
    "a batch left out": (
        "token-batch",
        insert("tokens-2", TokensMetered(PlacementId("beta-1.1"), 2, 100, 50)),
    ),
    "an amount one too high": ("line-amount", first(amount_micros=20_001)),
    "a half rounded up to odd": (
        "line-amount",
        first(quantity=1, price_micros=1_800_000, amount_micros=1),
    ),
    "a price that no plan has": ("line-price", first(price_micros=7_200_000, amount_micros=40_000)),
    "energy at another site's price": (
        "line-price",
        lines(
            *(
                replace(one, price_micros=1, amount_micros=0) if one.item == "energy" else one
                for one in ACMES.lines
            )
        ),
    ),
    "energy that is not passed through": (
        "line-price",
        put("plan", document("price-plan", replace(PLAN, energy_pass_through=False))),
    ),
    "a price by the minute": ("line-price", first(price_per=60_000, amount_micros=1_200_000)),
    "another unit": ("line-unit", first(unit="accelerator-h")),
    "a line of no kind": ("line-unit", first(item="kindness")),
    "another tenant's contract": ("line-contract", first(contract=ContractId("beta-all"))),
    "a note that costs": ("line-amount", first(item="note")),
    "one ms too much": ("billed", first(quantity=20_001, amount_micros=20_001)),
    "one ms too little": ("billed", first(quantity=19_999, amount_micros=19_999)),
    "a line left out": ("billed", lines(*ACMES.lines[1:])),
    "a line twice": ("billed", lines(*ACMES.lines, FIRST)),
    "energy without cooling": (
        "billed",
        lines(
            *(
                line("energy", 2_000_000_000, 2_000, "south") if one is ACMES.lines[4] else one
                for one in ACMES.lines
            )
        ),
    ),
    "a gram too much": (
        "billed",
        lines(*(line("carbon", 49_602) if one is ACMES.lines[2] else one for one in ACMES.lines)),
    ),
    "a month that is billed again": ("billed", insert("invoice-acme", invoice("acme", FIRST, part=1))),
    "a reservation left out": ("billed", lines(*ACMES.lines[:-1])),
    "a reservation for a day too many": (
        "billed",
        lines(*ACMES.lines[:-1], line("reserved", 22, 22_000_000, "", "acme-held")),
    ),
    "a reservation sold for longer": (
        "billed",
        put(
            "acme-held",
            document(
                "contract",
                Contract(
                    ContractId("acme-held"),
                    ACME,
                    PLAN.id,
                    "reserved",
                    None,
                    "lab",
                    2,
                    "2026-01-01",
                    "2026-01-12",
                ),
            ),
        ),
    ),
    "tokens that are free": (
        "billed",
        put("invoice-beta", invoice("beta", *BETAS.lines[:-1])),
    ),
    "energy that nobody used": (
        "billed",
        insert("invoice-acme", invoice("acme", line("energy", 1_000_000, 1), part=1)),
    ),
    "a net that is off": ("invoice-sums", change("invoice-acme", net_micros=TOTAL + 1)),
    "a tax that is off": ("invoice-sums", change("invoice-acme", tax_permille=250)),
    "a total without tax": (
        "invoice-sums",
        change("invoice-acme", tax_permille=1_000, tax_micros=TOTAL),
    ),
    "an invoice issued again": ("issued-twice", insert("invoice-acme", ACMES)),
    "a part that is missing": ("part", change("invoice-acme", part=1)),
    "no month": ("period", change("invoice-acme", period="2026-13")),
    "more credit than was billed": ("credit", insert("invoice-acme", credit(TOTAL), credit(1, number="c-2"))),
    "a credit of nothing": ("credit", insert("invoice-acme", credit(0))),
    "a credit for another's invoice": ("credit", insert("invoice-beta", credit(1, "2026-01-beta-NOK-0"))),
}
CLEAN: dict[str, Edit] = {
    "the story": lambda steps: steps,
    "late usage on another part": chain(
        insert(
            "invoice-beta",
            metered("acme-3", (2_100, 0)),
            invoice(
                "acme",
                line("capacity", 400, 400, "south"),
                line("energy", 120_000_000, 120, "south"),
                line("carbon", 1_200, 0, "south"),
                part=1,
            ),
        ),
    ),
    "a month in two parts": chain(
        insert("end-1", invoice("acme", *ACMES.lines[:3], ACMES.lines[-1])),
        put("invoice-acme", invoice("acme", *ACMES.lines[3:6], part=1)),
    ),
    "usage within a reservation": lines(
        replace(
            FIRST, item="capacity-reserved", contract=ContractId("acme-held"), price_micros=0, amount_micros=0
        ),
        *ACMES.lines[1:],
    ),
    "all of it given back": insert("invoice-acme", credit(TOTAL - 1), credit(1, number="c-2")),
    "a tax that is right": change(
        "invoice-acme", tax_permille=250, tax_micros=round(TOTAL / 4), total_micros=TOTAL + round(TOTAL / 4)
    ),
    "an end that was not seen": chain(
        put("end-1", ended("acme-1", (5_000, 0), (4_900, 100), estimated=True)),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_exact_is_found(name: str) -> None:
    """Promise 4: by one millisecond, one microgram, one millionth."""
    rule, edit = BROKEN[name]
    checkers = told(edit)
    checkers.exactness.at_rest(RAW)
    found = [one.rule for one in checkers.exactness.violations if one.rule != "raw"]
    # A line that is wrong by itself is not the usage either: what is wrong first is what was broken.
    assert found[0] == rule
    assert set(found) <= {rule, "billed", "invoice-sums", "part", "line-price"}


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_exact_is_found_clean(name: str) -> None:
    """Parts, reservations, credits and taxes that add up."""
    checker = ExactnessChecker()
    for committed in commit(CLEAN[name](story())):
        checker.observe(committed)
    checker.at_rest(RAW | {"acme-3.1": [(2_100, 0)]})
    assert checker.violations == []


RAWS: dict[str, dict[str, list[tuple[int, int]] | None]] = {
    "one ms more than was metered": {"acme-1.1": [(5_001, 0), (4_900, 100)]},
    "one ms less than was metered": {"acme-1.1": [(5_000, 0), (4_899, 100)]},
    "paused, and metered as running": {"acme-1.1": [(5_000, 0), (4_800, 200)]},
    "less than a running one was metered": {"acme-3.1": [(1_999, 0)]},
    "a rank more": {"acme-1.1": [(5_000, 0), (4_900, 100), (0, 0)]},
    "work that nobody billed": {"acme-9.1": [(1, 0)]},
    "no record of what was metered": {"acme-3.1": None},
}


@pytest.mark.parametrize("name", RAWS)
def test_the_engines_own_records_differ_by_nothing(name: str) -> None:
    """Promise 4: what the runners measured is what was metered."""
    checker = told().exactness
    raw = {key: times for key, times in {**RAW, **RAWS[name]}.items() if times is not None}
    checker.at_rest(raw)
    assert [one.subject for one in checker.violations] == list(RAWS[name])
    assert rules(checker.violations) == {"raw"}


def test_a_transfer_balances_in_each_currency() -> None:
    """Double entry: the sides of one transfer sum to nothing, currency by currency."""
    sides = [Entry("t-1", "a", "NOK", 5), Entry("t-1", "b", "NOK", -5), Entry("t-2", "a", "NOK", 7)]
    checker = told().exactness
    checker.at_rest(RAW, [*sides, Entry("t-2", "b", "NOK", -7)])
    assert checker.violations == []
    checker.at_rest(RAW, [*sides, Entry("t-2", "b", "USD", -7)])
    assert [(one.rule, one.subject) for one in checker.violations] == [
        ("unbalanced", "t-2"),
        ("unbalanced", "t-2"),
    ]


def test_stale_readings_bill_time_and_no_energy() -> None:
    """A gap is not billed as energy; the accelerators were held all the same."""
    stale = chain(
        change("meter-4", source="stale"),
        lines(*(one for one in ACMES.lines if one.site != "south" or one.item == "capacity")),
    )
    checkers = told(stale)
    checkers.exactness.at_rest(RAW)
    assert checkers.exactness.violations == []


def test_a_rank_draws_its_part() -> None:
    """Of nameplate and idle by accelerators; by processors, of what the node draws without accelerators."""
    assert rank_watts(LAB, RankPlace("n", 0b0111, 0, 0)) == (750, 150)
    assert rank_watts(LAB, RankPlace("n", 0, 1_000, 0)) == (50, 50)
    assert rank_watts(LAB, RankPlace("n", 0, 9_999, 0)) == (200, 200)


def test_months_are_those_of_the_operators_zone() -> None:
    """To the millisecond, in summer and in winter time."""
    oslo = Months("Europe/Oslo")
    assert [oslo.of(at) for at in (1_782_856_799_999, 1_782_856_800_000)] == ["2026-06", "2026-07"]
    assert [oslo.of(at) for at in (1_798_757_999_999, 1_798_758_000_000)] == ["2026-12", "2027-01"]
    assert Months("No/Where").of(0) == "1970-01"


@pytest.mark.parametrize(
    ("starts", "ends", "days"),
    [
        ("", "", 28),
        ("2026-02-28", "", 1),
        ("", "2026-02-01", 0),
        ("2026-01-01", "2026-02-11", 10),
        ("2026-03-01", "", 0),
    ],
)
def test_a_window_covers_days(starts: str, ends: str, days: int) -> None:
    """Its end is exclusive."""
    assert days_covered("2026-02", starts, ends) == days


def test_usage_without_an_invoice_is_nobodys_mistake() -> None:
    """What is used in a month is owed once its invoice is issued, not before."""
    checkers = told(drop("invoice-acme", "invoice-beta"))
    checkers.exactness.at_rest(RAW)
    assert checkers.exactness.violations == []
