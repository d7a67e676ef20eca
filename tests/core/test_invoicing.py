"""Invoicing: an invoice is a query that can be recomputed, issued once, corrected only by credit notes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.contracts import Contract, PricePlan
from headrace.core.errors import Problem, ProblemCode
from headrace.core.events import CreditNoteIssued, InvoiceIssued, InvoiceLine
from headrace.core.ids import (
    ContractId,
    EventSeq,
    InvoiceNumber,
    PlacementId,
    PlanId,
    ProjectId,
    SiteId,
    TenantId,
    WorkloadId,
)
from headrace.core.invoicing import credit_note, draft_invoices, nothing_to_invoice, rows_behind
from headrace.core.metering import UsageKey, UsageRow, UsageTotals

ACME = TenantId("acme")
HOUR = 3_600_000
MONTH = "2026-11"
KEY = UsageKey(
    ACME,
    MONTH,
    ContractId("od"),
    ProjectId("research"),
    SiteId("glomfjord"),
    "H100",
    "modelled",
    18,
    450_000,
    "NOK",
    1_150,
)
PLAN = PricePlan(
    PlanId("standard"),
    "NOK",
    accelerator_micros_per_hour={"H100": 25_000_000},
    token_micros_per_million={"input": 2_000_000, "output": 6_000_000},
)
ON_DEMAND = Contract(ContractId("od"), ACME, PLAN.id)
RESERVED = Contract(ContractId("held"), ACME, PLAN.id, kind="reserved", model="H100", accelerators=8)


def usage(seq: int, key: UsageKey = KEY, **amounts: int) -> UsageRow:
    row = UsageRow(EventSeq(seq), 0, seq, key, WorkloadId("acme-1"), PlacementId("acme-1.1"))
    return row._replace(**amounts)  # type: ignore[arg-type]


def busy(seq: int, key: UsageKey = KEY) -> UsageRow:
    """Two accelerators for an hour, and 2 kWh."""
    return usage(seq, key, accelerator_ms=2 * HOUR, running_ms=HOUR, energy_mj=2_000 * HOUR)


def summed(*rows: UsageRow) -> UsageTotals:
    totals = UsageTotals()
    for row in rows:
        totals.add(row)
    return totals


def draft(
    *rows: UsageRow,
    plan: PricePlan = PLAN,
    contracts: tuple[Contract, ...] = (ON_DEMAND,),
    issued: tuple[InvoiceIssued, ...] = (),
) -> tuple[InvoiceIssued, ...]:
    result = try_draft(*rows, plan=plan, contracts=contracts, issued=issued)
    assert isinstance(result, tuple), result
    return result


def try_draft(
    *rows: UsageRow,
    plan: PricePlan = PLAN,
    contracts: tuple[Contract, ...] = (ON_DEMAND,),
    issued: tuple[InvoiceIssued, ...] = (),
) -> tuple[InvoiceIssued, ...] | Problem:
    by_id = {one.id: one for one in contracts}
    return draft_invoices(ACME, MONTH, summed(*rows), by_id, {plan.id: plan}, issued)


def only(invoices: tuple[InvoiceIssued, ...]) -> InvoiceIssued:
    assert len(invoices) == 1
    return invoices[0]


def line_of(invoice: InvoiceIssued, item: str) -> InvoiceLine:
    (line,) = [one for one in invoice.lines if one.item == item]
    return line


TOKENS = replace(
    KEY, model="tokens", source="replica-counters", carbon_g_per_kwh=0, energy_price_micros_per_kwh=0,
    energy_currency="", pue_permille=0,
)  # fmt: skip


def test_an_invoice_by_hand() -> None:
    """Two H100 for an hour at 25 NOK, 2 kWh at PUE 1.15 shown, 1.5 M tokens in and 0.5 M out; 25 % tax."""
    plan = replace(PLAN, tax_name="MVA", tax_permille=250)
    invoice = only(
        draft(
            busy(1),
            usage(2, TOKENS, input_tokens=1_500_000, output_tokens=500_000),
            plan=plan,
        )
    )
    assert [(line.item, line.quantity, line.amount_micros) for line in invoice.lines] == [
        ("capacity", 2 * HOUR, 50_000_000),
        ("energy", 2_300 * HOUR * 1_000, 0),
        ("carbon", 41_400_000, 0),
        ("tokens-input", 1_500_000, 3_000_000),
        ("tokens-output", 500_000, 3_000_000),
    ]
    assert invoice.invoice == "2026-11-acme-NOK-0"
    assert (invoice.net_micros, invoice.tax_micros, invoice.total_micros) == (
        56_000_000,
        14_000_000,
        70_000_000,
    )
    assert (invoice.tax_name, invoice.tax_permille) == ("MVA", 250)


def test_energy_passed_through_is_billed_in_the_sites_currency() -> None:
    """A plan in USD at a Norwegian site: capacity in USD, energy in NOK, and the one points to the other."""
    plan = replace(PLAN, currency="USD", energy_pass_through=True)
    nok, usd = draft(busy(1), plan=plan)
    energy = line_of(nok, "energy")
    assert (nok.currency, energy.amount_micros) == ("NOK", 2_300 * 450)  # 2.3 kWh at 0.45 NOK
    assert line_of(nok, "carbon").quantity == 41_400_000
    assert (usd.currency, usd.net_micros) == ("USD", 50_000_000)
    assert "see the invoice in NOK" in line_of(usd, "note").description
    assert [line.item for line in usd.lines] == ["capacity", "note"]


def test_energy_that_is_not_passed_through_is_shown_without_a_price() -> None:
    """Every tenant sees its watt-hours and grams, and that they are constants declared for the site."""
    invoice = only(draft(busy(1)))
    energy, carbon = line_of(invoice, "energy"), line_of(invoice, "carbon")
    assert energy.amount_micros == carbon.amount_micros == 0
    assert "not charged under plan standard" in energy.description
    assert "modelled watts: catalogue x state" in energy.description
    assert "PUE 1.15" in energy.description
    assert "18 g/kWh: a constant declared for the site" in carbon.description


@pytest.mark.parametrize(
    ("quantity", "price", "amount"),
    [
        (HOUR // 2, 1, 0),  # 0.5 -> 0
        (HOUR * 3 // 2, 1, 2),  # 1.5 -> 2
        (HOUR * 5 // 2, 1, 2),  # 2.5 -> 2
        (HOUR // 2 + 1, 1, 1),
        (HOUR * 5 // 2 - 1, 1, 2),
        (1, 3_600_000 * 7, 7),
        (1, 1_800_000, 0),
        (3, 1_800_000, 2),
    ],
)
def test_an_amount_is_rounded_once_half_to_even(quantity: int, price: int, amount: int) -> None:
    """At the line, after summing: cases by hand."""
    plan = replace(PLAN, accelerator_micros_per_hour={"H100": price})
    assert (
        line_of(only(draft(usage(1, accelerator_ms=quantity), plan=plan)), "capacity").amount_micros == amount
    )


def test_quantities_are_summed_before_they_are_priced() -> None:
    """A thousand rows worth half a micro each cost 500 micros, not a thousand roundings to nothing."""
    plan = replace(PLAN, accelerator_micros_per_hour={"H100": 1})
    rows = [usage(seq, accelerator_ms=HOUR // 2) for seq in range(1_000)]
    line = line_of(only(draft(*rows, plan=plan)), "capacity")
    assert (line.amount_micros, line.usage_rows) == (500, 1_000)


def test_tax_is_not_computed_unless_a_rate_is_named() -> None:
    """And the invoice says so."""
    invoice = only(draft(busy(1)))
    assert (invoice.tax_name, invoice.tax_permille, invoice.tax_micros) == ("not computed", None, 0)
    assert invoice.total_micros == invoice.net_micros


def test_a_line_carries_its_worst_source_and_whether_it_is_estimated() -> None:
    """One nameplate interval among measured ones makes the line nameplate."""
    rows = [
        busy(1, replace(KEY, source="measured")),
        busy(2, replace(KEY, source="nameplate")),
    ]
    line = line_of(only(draft(*rows)), "capacity")
    assert (line.source, line.estimated, line.quantity, line.usage_rows) == ("nameplate", False, 4 * HOUR, 2)
    rows.append(busy(3)._replace(estimated=True))
    estimated = line_of(only(draft(*rows)), "capacity")
    assert estimated.estimated
    assert "estimated" in estimated.description


def test_lab_accelerators_are_never_printed_as_anything_else() -> None:
    """Also under a price for any model."""
    plan = replace(PLAN, accelerator_micros_per_hour={"*": 1_000_000, "H100": 9_000_000})
    line = line_of(only(draft(busy(1, replace(KEY, model="lab")), plan=plan)), "capacity")
    assert line.description.startswith("lab accelerators (virtual slots")
    assert line.price_micros == 1_000_000


def test_usage_without_a_price_is_a_problem_that_names_plan_and_model() -> None:
    """It is never hidden in a line of nothing."""
    problem = try_draft(busy(1, replace(KEY, model="B200")))
    assert isinstance(problem, Problem)
    assert problem.code is ProblemCode.CONFLICT
    assert problem.line() == (
        "price plan standard of contract od has no price for B200; "
        "add B200 to its accelerator_micros_per_hour and apply it; usage is kept until then."
    )


def test_a_missing_contract_plan_or_month_is_a_problem() -> None:
    """Named, with the next step."""
    no_contract = try_draft(busy(1), contracts=())
    no_plan = draft_invoices(ACME, MONTH, summed(busy(1)), {ON_DEMAND.id: ON_DEMAND}, {})
    no_month = draft_invoices(ACME, "2026-13", UsageTotals(), {}, {})
    assert isinstance(no_contract, Problem)
    assert "no contract 'od'" in no_contract.message
    assert isinstance(no_plan, Problem)
    assert "no price plan 'standard'" in no_plan.message
    assert isinstance(no_month, Problem)
    assert no_month.code is ProblemCode.BAD_INPUT


def test_two_rates_of_tax_in_one_currency_are_a_problem() -> None:
    """One invoice per currency has one tax."""
    other = replace(PLAN, id=PlanId("other"), tax_name="MVA", tax_permille=250)
    second = Contract(ContractId("od-2"), ACME, other.id)
    rows = [busy(1), busy(2, replace(KEY, contract=second.id))]
    contracts = {ON_DEMAND.id: ON_DEMAND, second.id: second}
    problem = draft_invoices(ACME, MONTH, summed(*rows), contracts, {PLAN.id: PLAN, other.id: other})
    assert isinstance(problem, Problem)
    assert problem.related == ("other", "standard")


@pytest.mark.parametrize(
    ("starts", "ends", "days"),
    [
        ("", "", 30),
        ("2026-11-11", "", 20),
        ("2026-01-01", "2026-11-11", 10),
        ("2026-11-30", "2026-12-15", 1),
        ("2026-12-01", "", 0),
        ("", "2026-11-01", 0),
    ],
)
def test_reserved_capacity_is_billed_by_the_days_it_covers(starts: str, ends: str, days: int) -> None:
    """8 accelerators at 9000 NOK a month; November has 30 days; the end is exclusive."""
    plan = replace(PLAN, reserved_micros_per_month={"H100": 9_000_000_000})
    invoices = draft(plan=plan, contracts=(replace(RESERVED, starts=starts, ends=ends),))
    if days == 0:
        assert invoices == ()
        return
    line = line_of(only(invoices), "reserved")
    assert (line.quantity, line.amount_micros) == (8 * days, 8 * days * 300_000_000)
    assert f"8 for {days} of 30 days" in line.description


def test_usage_within_a_reservation_is_shown_and_only_what_is_above_it_is_charged() -> None:
    """8 accelerators for one day are 192 hours: of 200 used, 8 cost."""
    plan = replace(PLAN, reserved_micros_per_month={"H100": 30_000_000})
    held = replace(RESERVED, starts="2026-11-05", ends="2026-11-06")
    key = replace(KEY, contract=held.id)
    rows = [usage(1, key, accelerator_ms=190 * HOUR), usage(2, key, accelerator_ms=10 * HOUR)]
    first = only(draft(*rows, plan=plan, contracts=(held,)))
    assert line_of(first, "reserved").amount_micros == 8_000_000
    assert line_of(first, "capacity-reserved").quantity == 192 * HOUR
    assert line_of(first, "capacity").quantity == 8 * HOUR
    late = usage(3, key, accelerator_ms=HOUR)
    second = only(draft(*rows, late, plan=plan, contracts=(held,), issued=(first,)))
    assert [(line.item, line.quantity, line.usage_rows) for line in second.lines] == [("capacity", HOUR, 1)]


def test_a_reservation_without_a_monthly_price_is_a_problem() -> None:
    """Sold capacity is never free by omission."""
    problem = try_draft(contracts=(RESERVED,))
    assert isinstance(problem, Problem)
    assert "reserved_micros_per_month" in problem.next_step


def test_what_is_issued_is_never_billed_again() -> None:
    """A second draft of the same usage is empty; late usage goes on part 1, and on its own."""
    row, late = busy(1), busy(9)
    first = only(draft(row))
    assert draft(row, issued=(first,)) == ()
    problem = nothing_to_invoice(ACME, MONTH, [first])
    assert problem.code is ProblemCode.CONFLICT
    assert problem.related == ("2026-11-acme-NOK-0",)
    second = only(draft(row, late, issued=(first,)))
    assert (second.invoice, second.part) == ("2026-11-acme-NOK-1", 1)
    assert line_of(second, "capacity").quantity == 2 * HOUR
    line = line_of(second, "capacity")
    assert rows_behind(line, [row, late], skip=1) == [late]


names = st.sampled_from(["a", "b"])
usage_keys = st.builds(
    lambda contract, project, site, model, source, price, pue: replace(
        KEY,
        contract=ContractId(contract),
        project=ProjectId(project),
        site=SiteId(site),
        model=model,
        source=source,
        energy_price_micros_per_kwh=price,
        pue_permille=pue,
    ),
    names, names, names,
    st.sampled_from(["H100", "lab", "cpu"]),
    st.sampled_from(["measured", "modelled", "nameplate"]),
    st.sampled_from([0, 333_333]),
    st.sampled_from([1_000, 1_173]),
)  # fmt: skip
# A month of 300,000 accelerators is 8e14 ms; more than 2^63 micros on one invoice is refused, and tested elsewhere.
amounts = st.integers(0, 10**15)
usage_rows = st.lists(
    st.builds(
        lambda key, capacity, running, energy: usage(
            0, key, accelerator_ms=0 if key.model == "cpu" else capacity, running_ms=running, energy_mj=energy
        ),
        usage_keys, amounts, amounts, amounts,
    ),
    max_size=12,
).map(lambda rows: [row._replace(seq=EventSeq(seq)) for seq, row in enumerate(rows)])  # fmt: skip
plans = st.builds(
    lambda currency, price, passed, permille: PricePlan(
        PLAN.id,
        currency,
        {"*": price},
        energy_pass_through=passed,
        tax_name="T",
        tax_permille=permille,
    ),
    st.sampled_from(["NOK", "USD"]),
    st.integers(0, 10**9),
    st.booleans(),
    st.sampled_from([None, 0, 200, 255]),
)  # fmt: skip
TWO = (replace(ON_DEMAND, id=ContractId("a")), replace(RESERVED, id=ContractId("b"), model=""))
BY_HAND: dict[str, Callable[[UsageRow], int]] = {
    "capacity": lambda row: row.accelerator_ms,
    "process-time": lambda row: row.running_ms + row.paused_ms,
    "energy": lambda row: row.energy_mj * row.key.pue_permille,
}


@given(rows=usage_rows, plan=plans)
def test_an_invoice_recomputed_from_its_raw_rows_is_the_same(rows: list[UsageRow], plan: PricePlan) -> None:
    """A line's quantity, count and amount follow from its rows; lines sum to net; no row is left out."""
    plan = replace(plan, reserved_micros_per_month={"*": 1})
    invoices = draft(*rows, plan=plan, contracts=TWO)
    seen: Counter[str] = Counter()
    for invoice in invoices:
        assert invoice.net_micros == sum(line.amount_micros for line in invoice.lines)
        assert invoice.total_micros == invoice.net_micros + invoice.tax_micros
        for line in invoice.lines:
            behind = rows_behind(line, rows)
            assert len(behind) == line.usage_rows
            if line.item == "energy" and plan.energy_pass_through:
                constants = (line.price_micros, invoice.currency)
                assert {(row.key.energy_price_micros_per_kwh, row.key.energy_currency) for row in behind} == {
                    constants
                }
            exact = Fraction(line.quantity * line.price_micros, line.price_per)
            assert line.amount_micros == round(exact)  # Fraction rounds half to even
            seen["capacity" if line.item == "capacity-reserved" else line.item] += line.quantity
            if line.item in BY_HAND and line.contract != "b":
                assert line.quantity == sum(BY_HAND[line.item](row) for row in behind)
    for item, quantity in BY_HAND.items():
        wanted = [
            row for row in rows if (row.key.model == "cpu") == (item == "process-time") or item == "energy"
        ]
        assert seen[item] == sum(quantity(row) for row in wanted)


@given(rows=usage_rows, plan=plans, cuts=st.lists(st.integers(0, 12), max_size=3))
def test_parts_of_a_period_bill_each_quantity_exactly_once(
    rows: list[UsageRow], plan: PricePlan, cuts: list[int]
) -> None:
    """However often it is issued while usage comes in, the quantities of the parts sum to those of one."""
    plan = replace(plan, reserved_micros_per_month={"*": 1})
    issued: tuple[InvoiceIssued, ...] = ()
    for cut in [*sorted(cuts), len(rows)]:
        issued += draft(*rows[:cut], plan=plan, contracts=TWO, issued=issued)
    assert len({one.invoice for one in issued}) == len(issued)
    assert all(line.quantity > 0 for one in issued for line in one.lines if line.item != "note")
    assert quantities(issued) == quantities(draft(*rows, plan=plan, contracts=TWO))


def quantities(invoices: tuple[InvoiceIssued, ...]) -> Counter[tuple[str, str]]:
    out: Counter[tuple[str, str]] = Counter()
    for invoice in invoices:
        for line in invoice.lines:
            # Which rows a reservation covers depends on when they were billed; how much it covers does not.
            within = line.item == "capacity-reserved" or (line.item == "capacity" and line.contract == "b")
            out[line.item, "" if within else line.usage_key] += line.quantity
    return out


@given(rows=usage_rows, plan=plans, order=st.permutations(range(12)))
def test_an_invoice_does_not_depend_on_the_order_of_its_rows(
    rows: list[UsageRow], plan: PricePlan, order: list[int]
) -> None:
    """The same usage in any order, and contracts in any order, give the same lines."""
    plan = replace(plan, reserved_micros_per_month={"*": 1})
    shuffled = [rows[index] for index in order if index < len(rows)]
    assert draft(*shuffled, plan=plan, contracts=TWO[::-1]) == draft(*rows, plan=plan, contracts=TWO)


def test_a_year_of_300_megawatts_is_billed_exactly() -> None:
    """The quantity exceeds 64 bits, and its amount is exact."""
    plan = replace(PLAN, energy_pass_through=True)
    year_mj = 300_000_000 * 365 * 86_400_000
    line = line_of(only(draft(usage(1, energy_mj=year_mj), plan=plan)), "energy")
    assert line.quantity == year_mj * 1_150
    assert line.quantity > 2**64
    assert line.amount_micros == 300_000 * 365 * 24 * 1_150 * 450  # kWh x PUE x 0.45 NOK


INVOICE = only(draft(busy(1), plan=replace(PLAN, tax_name="MVA", tax_permille=250)))


def credited(amount_micros: int, *earlier: CreditNoteIssued) -> CreditNoteIssued:
    note = credit_note(INVOICE, earlier, amount_micros, "the fabric was down")
    assert isinstance(note, CreditNoteIssued), note
    return note


def test_credit_notes_are_numbered_and_never_exceed_their_invoice() -> None:
    """62.50 NOK: 60 are given back, then 2.50, then nothing more."""
    first = credited(60_000_000)
    second = credited(2_500_000, first)
    assert (first.note, second.note) == ("2026-11-acme-NOK-0-C1", "2026-11-acme-NOK-0-C2")
    too_much = credit_note(INVOICE, [first], 2_500_001, "a typo")
    assert isinstance(too_much, Problem)
    assert too_much.code is ProblemCode.CONFLICT
    assert too_much.next_step == "at most 2.50 NOK can be credited."
    assert isinstance(credit_note(INVOICE, [first, second], 1, "one more"), Problem)


@pytest.mark.parametrize(
    ("amount", "reason"),
    [(0, "nothing"), (-1, "less"), (1, ""), (1, "  "), (1, "two\nlines"), (1, "x" * 501)],
)
def test_a_credit_note_needs_an_amount_and_a_reason(amount: int, reason: str) -> None:
    """Neither nothing nor a page."""
    problem = credit_note(INVOICE, [], amount, reason)
    assert isinstance(problem, Problem)
    assert problem.code is ProblemCode.BAD_INPUT


def test_credit_notes_of_another_invoice_do_not_count() -> None:
    """The whole of this one is left."""
    other = replace(credited(60_000_000), invoice=InvoiceNumber("2026-11-acme-NOK-1"))
    assert credited(62_500_000, other).note == "2026-11-acme-NOK-0-C1"
