"""Invoices: a query over the sums of usage, frozen once by issuing it, corrected only by a credit note.

A tenant gets one invoice per currency and period. Each line sums its quantity over the usage rows that its
``usage_key`` selects (:func:`headrace.core.metering.matches`) and is priced once, half-even. What was
recorded after an invoice was issued goes on the next part: the sums, less what the issued lines billed.

Energy is counted in microjoules at the meter: millijoules of IT load x permille of PUE is exact, so that the
only rounding of a line is that of its amount. Plans are read when the invoice is drafted, the site's
constants (price of energy, carbon, PUE) when the interval was closed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.core.contracts import Contract, PricePlan
from headrace.core.errors import Problem, ProblemCode
from headrace.core.events import CreditNoteIssued, InvoiceIssued, InvoiceLine
from headrace.core.hardware import LAB
from headrace.core.ids import ContractId, InvoiceNumber, PlanId, ProjectId, SiteId, TenantId
from headrace.core.metering import (
    CPU_MODEL,
    TOKENS_MODEL,
    UsageKey,
    UsageRow,
    UsageSum,
    UsageTotals,
    has_price,
    matches,
    month_after,
    month_start,
    worst_source,
)
from headrace.core.units import MICROS, MS_PER_DAY, MS_PER_HOUR, PERMILLE, div_half_even, format_money

UJ_PER_KWH = 3_600_000_000_000
NOT_COMPUTED = "not computed"
"""The name of a tax that no plan states a rate of."""
MAX_REASON = 500
MAX_TOTAL_MICROS = (1 << 63) - 1
"""Nine million million of a currency: the ledger's columns are 64 bits, and nobody owes more."""

_CARBON_DIVISOR = UJ_PER_KWH // MICROS
_FAMILY = {"capacity-reserved": "capacity"}
_SOURCE_WORDS = {
    "measured": "measured watts",
    "modelled": "modelled watts: catalogue x state",
    "nameplate": "nameplate watts",
    "stale": "readings were stale for a part, whose energy is not counted",
}


@dataclass(frozen=True, slots=True)
class _Price:
    micros: int
    per: int
    unit: str


@dataclass(slots=True)
class _Group:
    """Sums that share a contract, project, site and model."""

    contract: Contract
    plan: PricePlan
    project: ProjectId
    site: SiteId
    model: str
    sums: list[tuple[UsageKey, UsageSum]] = field(default_factory=list)


@dataclass(slots=True)
class _Book:
    """What earlier invoices of the period billed, and the lines of the new ones by currency."""

    billed: dict[tuple[str, str], int] = field(default_factory=dict)
    billed_rows: dict[tuple[str, str], int] = field(default_factory=dict)
    lines: dict[str, list[InvoiceLine]] = field(default_factory=dict)
    taxes: dict[str, dict[tuple[str, int | None], PlanId]] = field(default_factory=dict)
    elsewhere: dict[str, dict[str, None]] = field(default_factory=dict)

    def new(self, item: str, usage_key: str, total: int) -> int:
        """How much of ``total`` no earlier line billed; never negative."""
        return max(0, total - self.billed.get((item, usage_key), 0))

    def add(self, currency: str, plan: PricePlan, line: InvoiceLine) -> None:
        self.lines.setdefault(currency, []).append(line)
        tax = (NOT_COMPUTED, None) if plan.tax_permille is None else (plan.tax_name, plan.tax_permille)
        self.taxes.setdefault(currency, {}).setdefault(tax, plan.id)


def draft_invoices(
    tenant: TenantId,
    period: str,
    totals: UsageTotals,
    contracts: Mapping[ContractId, Contract],
    plans: Mapping[PlanId, PricePlan],
    issued: Iterable[InvoiceIssued] = (),
    notes: Sequence[str] = (),
) -> tuple[InvoiceIssued, ...] | Problem:
    """The invoices of ``tenant`` for ``period`` (``yyyy-mm``), one per currency; empty when all is billed.

    ``issued`` are invoices issued before (others' are left aside): what they billed is taken off, and the new
    ones are the next part in their currency. ``notes`` go on each as lines without an amount. A missing
    contract, plan or price is a Problem, never a line of nothing; so are two rates of tax in one currency.
    """
    try:
        month_start(period)
    except ValueError as error:
        return Problem(ProblemCode.BAD_INPUT, str(error))
    earlier = [one for one in issued if one.tenant == tenant and one.period == period]
    book = _Book()
    _subtract(book, earlier)
    groups = _groups(totals.of(tenant, period), contracts, plans)
    if isinstance(groups, Problem):
        return groups
    own = sorted((one for one in contracts.values() if one.tenant == tenant), key=lambda one: one.id)
    problem = _bill_reserved(book, period, own, plans)
    if problem is None:
        problem = _bill_usage(book, period, groups)
    if problem is not None:
        return problem
    out = []
    for currency in sorted(book.lines):
        part = sum(one.currency == currency for one in earlier)
        invoice = _assemble(book, tenant, period, currency, part, notes)
        if isinstance(invoice, Problem):
            return invoice
        out.append(invoice)
    return tuple(out)


def invoice_number(tenant: TenantId, period: str, currency: str, part: int) -> InvoiceNumber:
    """The number of an invoice: ``2026-11-acme-NOK-0``."""
    return InvoiceNumber(f"{period}-{tenant}-{currency}-{part}")


def nothing_to_invoice(tenant: TenantId, period: str, issued: Iterable[InvoiceIssued]) -> Problem:
    """The problem of issuing when nothing is left to bill, with the invoices that the period has."""
    numbers = tuple(one.invoice for one in issued if one.tenant == tenant and one.period == period)
    if not numbers:
        message = f"tenant {tenant} has no usage and no reserved capacity in {period};"
        return Problem(ProblemCode.CONFLICT, message, "there is nothing to invoice.")
    message = f"the invoice of tenant {tenant} for {period} was issued, and no usage was recorded since;"
    step = "an issued invoice is corrected by a credit note only."
    return Problem(ProblemCode.CONFLICT, message, step, related=numbers)


def credit_note(
    invoice: InvoiceIssued,
    earlier: Iterable[CreditNoteIssued],
    amount_micros: int,
    reason: str,
) -> CreditNoteIssued | Problem:
    """A credit note on ``invoice``, after its ``earlier`` ones; all of them together never exceed its total.

    ``reason`` says why in one line; it stays in the journal, so that it must not be about a person.
    """
    before = [one for one in earlier if one.invoice == invoice.invoice]
    left = invoice.total_micros - sum(one.amount_micros for one in before)
    if amount_micros <= 0:
        asked = format_money(amount_micros, invoice.currency)
        return Problem(
            ProblemCode.BAD_INPUT, f"a credit of {asked} gives nothing back;", "state an amount above zero."
        )
    if amount_micros > left:
        asked, rest = (format_money(amount, invoice.currency) for amount in (amount_micros, left))
        message = f"a credit of {asked} is more than what is left of invoice {invoice.invoice};"
        related = tuple(one.note for one in before)
        return Problem(ProblemCode.CONFLICT, message, f"at most {rest} can be credited.", related=related)
    if not reason.strip() or not reason.isprintable() or len(reason) > MAX_REASON:
        message = f"a credit note on invoice {invoice.invoice} needs its reason;"
        return Problem(
            ProblemCode.BAD_INPUT, message, f"say why in one line of at most {MAX_REASON} letters."
        )
    return CreditNoteIssued(
        note=InvoiceNumber(f"{invoice.invoice}-C{len(before) + 1}"),
        invoice=invoice.invoice,
        tenant=invoice.tenant,
        currency=invoice.currency,
        amount_micros=amount_micros,
        reason=reason.strip(),
    )


def rows_behind(line: InvoiceLine, rows: Iterable[UsageRow], skip: int = 0) -> list[UsageRow]:
    """The usage rows (by their ``seq`` the events) that ``line`` sums, of ``rows`` in the journal's order.

    ``skip`` rows were billed by the same line of earlier parts.
    """
    if not line.usage_key:
        return []
    chosen = [row for row in rows if matches(line.usage_key, row.key.text)]
    return chosen[skip : skip + line.usage_rows]


def _subtract(book: _Book, earlier: Iterable[InvoiceIssued]) -> None:
    for invoice in earlier:
        rows: dict[tuple[str, str], int] = {}
        for line in invoice.lines:
            exact = (line.item, line.usage_key)
            book.billed[exact] = book.billed.get(exact, 0) + line.quantity
            family = (_FAMILY.get(line.item, line.item), line.usage_key)
            # Two lines of one family share their rows: those within a reservation, and those above it.
            rows[family] = max(rows.get(family, 0), line.usage_rows)
        for family, count in rows.items():
            book.billed_rows[family] = book.billed_rows.get(family, 0) + count


def _groups(
    sums: Sequence[tuple[UsageKey, UsageSum]],
    contracts: Mapping[ContractId, Contract],
    plans: Mapping[PlanId, PricePlan],
) -> list[_Group] | Problem:
    out: dict[tuple[str, str, str, str], _Group] = {}
    for key, total in sums:
        name = (key.contract, key.project, key.site, key.model)
        if name not in out:
            contract = contracts.get(key.contract)
            if contract is None:
                return _missing("contract", key.contract, f"usage in {key.period}")
            plan = plans.get(contract.plan)
            if plan is None:
                return _missing("price plan", contract.plan, f"contract {contract.id}")
            out[name] = _Group(contract, plan, key.project, key.site, key.model)
        out[name].sums.append((key, total))
    return list(out.values())


def _bill_reserved(
    book: _Book, period: str, contracts: Sequence[Contract], plans: Mapping[PlanId, PricePlan]
) -> Problem | None:
    month_days = (month_after(period) - month_start(period)).days
    for contract in contracts:
        days = _days_covered(contract, period)
        if not days or not contract.accelerators or contract.kind == "on-demand":
            continue
        plan = plans.get(contract.plan)
        if plan is None:
            return _missing("price plan", contract.plan, f"contract {contract.id}")
        price_micros = _monthly_price(plan, contract)
        if price_micros is None:
            if contract.kind == "dedicated":
                continue
            return _no_price(plan, contract.model or "any model", contract, "reserved_micros_per_month")
        usage_key = f"contract/{contract.id}/{period}"
        quantity = book.new("reserved", usage_key, contract.accelerators * days)
        if quantity:
            place = f" at {contract.site}" if contract.site else ""
            span = f"{contract.accelerators} for {days} of {month_days} days"
            what = f"{_model_words(contract.model)} reserved{place}: {span}"
            price = _Price(price_micros, month_days, f"accelerator and month of {month_days} days")
            line = InvoiceLine(
                item="reserved",
                description=what,
                project=ProjectId(""),
                site=contract.site or SiteId(""),
                contract=contract.id,
                quantity=quantity,
                unit="accelerator-day",
                price_micros=price.micros,
                price_per=price.per,
                price_unit=price.unit,
                amount_micros=div_half_even(quantity * price.micros, price.per),
                source="contract",
                estimated=False,
                usage_key=usage_key,
                usage_rows=0,
            )
            book.add(plan.currency, plan, line)
    return None


def _bill_usage(book: _Book, period: str, groups: Sequence[_Group]) -> Problem | None:
    left: dict[ContractId, int] = {}
    for group in groups:
        contract = group.contract.id
        if contract not in left:
            left[contract] = _allowance_ms(book, period, group, groups)
        if group.model == TOKENS_MODEL:
            _bill_tokens(book, group)
            continue
        if group.model == CPU_MODEL:
            _bill_process_time(book, group)
        else:
            used = _bill_capacity(book, group, left[contract])
            if isinstance(used, Problem):
                return used
            left[contract] -= used
        _bill_energy(book, group)
    return None


def _allowance_ms(book: _Book, period: str, group: _Group, groups: Sequence[_Group]) -> int:
    """Accelerator-milliseconds of the period that a contract reserves and no earlier invoice used up."""
    contract, plan = group.contract, group.plan
    if contract.kind == "on-demand" or _monthly_price(plan, contract) is None:
        return 0
    whole = contract.accelerators * _days_covered(contract, period) * MS_PER_DAY
    keys = {one.sums[0][0].selector() for one in groups if one.contract.id == contract.id}
    spent = sum(book.billed.get(("capacity-reserved", key), 0) for key in sorted(keys))
    return max(0, whole - spent)


def _bill_capacity(book: _Book, group: _Group, left_ms: int) -> int | Problem:
    """Bill accelerator-time; returns how much of what is left of a reservation (``left_ms``) it took."""
    usage_key = group.sums[0][0].selector()
    total = sum(one.accelerator_ms for _, one in group.sums)
    total -= book.billed.get(("capacity-reserved", usage_key), 0)
    new = book.new("capacity", usage_key, total)
    within = min(new, left_ms)
    words = _model_words(group.model)
    if within:
        text = f"{words}, held within the reservation {group.contract.id}"
        price = _Price(0, MS_PER_HOUR, "accelerator-hour")
        line = _line(book, group, "capacity-reserved", text, within, "accelerator-ms", price, usage_key)
        book.add(group.plan.currency, group.plan, line)
    if new > within:
        if not has_price(group.plan, group.model):
            return _no_price(group.plan, group.model, group.contract, "accelerator_micros_per_hour")
        text = f"{words}, held{' above the reservation' if group.contract.kind != 'on-demand' else ''}"
        price = _Price(_hourly_price(group.plan, group.model), MS_PER_HOUR, "accelerator-hour")
        line = _line(book, group, "capacity", text, new - within, "accelerator-ms", price, usage_key)
        book.add(group.plan.currency, group.plan, line)
    return within


def _bill_process_time(book: _Book, group: _Group) -> None:
    usage_key = group.sums[0][0].selector()
    new = book.new("process-time", usage_key, sum(one.running_ms + one.paused_ms for _, one in group.sums))
    if new:
        micros = group.plan.accelerator_micros_per_hour.get(CPU_MODEL, 0)
        text = "processes without accelerators" + (
            "" if micros else f": not charged under plan {group.plan.id}"
        )
        price = _Price(micros, MS_PER_HOUR, "process-hour")
        line = _line(book, group, "process-time", text, new, "process-ms", price, usage_key)
        book.add(group.plan.currency, group.plan, line)


def _bill_tokens(book: _Book, group: _Group) -> None:
    usage_key = group.sums[0][0].selector()
    counts = {
        "input": sum(one.input_tokens for _, one in group.sums),
        "output": sum(one.output_tokens for _, one in group.sums),
    }
    for direction, total in counts.items():
        item = f"tokens-{direction}"
        new = book.new(item, usage_key, total)
        if new:
            micros = group.plan.token_micros_per_million.get(direction)
            text = f"{direction} tokens, by the replicas' own counters"
            text += f": not charged under plan {group.plan.id}" if micros is None else ""
            price = _Price(micros or 0, MICROS, "million tokens")
            line = _line(book, group, item, text, new, "token", price, usage_key)
            book.add(group.plan.currency, group.plan, line)


def _bill_energy(book: _Book, group: _Group) -> None:
    """Energy and carbon at the meter: billed in the site's currency, or shown without price; always once."""
    by_price: dict[str, list[tuple[UsageKey, UsageSum]]] = {}
    for key, total in group.sums:
        by_price.setdefault(key.selector(by_price=True), []).append((key, total))
    for usage_key, sums in by_price.items():
        constants = sums[0][0]
        passed = group.plan.energy_pass_through
        currency = constants.energy_currency if passed else group.plan.currency
        part = _Group(group.contract, group.plan, group.project, group.site, group.model, sums)
        energy_uj = sum(one.energy_mj * key.pue_permille for key, one in sums)
        new = book.new("energy", usage_key, energy_uj)
        if new:
            price = _Price(constants.energy_price_micros_per_kwh if passed else 0, UJ_PER_KWH, "kWh")
            line = _line(book, part, "energy", _energy_words(part, passed), new, "uJ", price, usage_key)
            book.add(currency, group.plan, line)
            if currency != group.plan.currency:
                book.elsewhere.setdefault(group.plan.currency, {})[currency] = None
        weighted = sum(one.energy_mj * key.pue_permille * key.carbon_g_per_kwh for key, one in sums)
        carbon = book.new("carbon", usage_key, div_half_even(weighted, _CARBON_DIVISOR))
        if carbon:
            rates = _span(sorted({str(key.carbon_g_per_kwh) for key, _ in sums}, key=int))
            text = f"CO2 equivalent of that energy, at {rates} g/kWh: a constant declared for the site"
            line = _line(book, part, "carbon", text, carbon, "ugCO2e", _Price(0, MICROS, "gCO2e"), usage_key)
            book.add(currency, group.plan, line)


def _line(
    book: _Book, group: _Group, item: str, text: str, quantity: int, unit: str, price: _Price, usage_key: str
) -> InvoiceLine:
    estimated = any(one.estimated for _, one in group.sums)
    rows = sum(one.rows for _, one in group.sums)
    return InvoiceLine(
        item=item,
        description=text + (" (estimated: an end was not seen)" if estimated else ""),
        project=group.project,
        site=group.site,
        contract=group.contract.id,
        quantity=quantity,
        unit=unit,
        price_micros=price.micros,
        price_per=price.per,
        price_unit=price.unit,
        amount_micros=div_half_even(quantity * price.micros, price.per),
        source=worst_source(key.source for key, _ in group.sums),
        estimated=estimated,
        usage_key=usage_key,
        usage_rows=max(0, rows - book.billed_rows.get((_FAMILY.get(item, item), usage_key), 0)),
    )


def _note(text: str) -> InvoiceLine:
    return InvoiceLine(
        item="note",
        description=text,
        project=ProjectId(""),
        site=SiteId(""),
        contract=ContractId(""),
        quantity=0,
        unit="",
        price_micros=0,
        price_per=1,
        price_unit="",
        amount_micros=0,
        source="",
        estimated=False,
        usage_key="",
        usage_rows=0,
    )


def _assemble(
    book: _Book, tenant: TenantId, period: str, currency: str, part: int, notes: Sequence[str]
) -> InvoiceIssued | Problem:
    taxes = book.taxes[currency]
    if len(taxes) > 1:
        plans = tuple(sorted(taxes.values()))
        message = (
            f"the price plans of tenant {tenant} in {currency} name different taxes, and one invoice has one;"
        )
        return Problem(
            ProblemCode.CONFLICT, message, "give them the same tax_name and tax_permille.", related=plans
        )
    ((tax_name, tax_permille),) = taxes
    texts = [*notes]
    if currency in book.elsewhere:
        others = " and ".join(sorted(book.elsewhere[currency]))
        texts.append(f"energy is passed through in the site's currency: see the invoice in {others}")
    lines = (*book.lines[currency], *(_note(text) for text in texts))
    net_micros = sum(line.amount_micros for line in lines)
    tax_micros = div_half_even(net_micros * tax_permille, PERMILLE) if tax_permille else 0
    if net_micros + tax_micros > MAX_TOTAL_MICROS:
        message = f"an invoice of {format_money(net_micros + tax_micros, currency)} can't be meant;"
        plans = tuple(sorted(taxes.values()))
        return Problem(ProblemCode.CONFLICT, message, "look for a wrong price in its plans.", related=plans)
    return InvoiceIssued(
        invoice=invoice_number(tenant, period, currency, part),
        tenant=tenant,
        period=period,
        currency=currency,
        lines=lines,
        net_micros=net_micros,
        tax_name=tax_name,
        tax_permille=tax_permille,
        tax_micros=tax_micros,
        total_micros=net_micros + tax_micros,
        part=part,
    )


def _days_covered(contract: Contract, period: str) -> int:
    first, after = month_start(period).isoformat(), month_after(period).isoformat()
    starts = max(contract.starts, first)
    ends = min(contract.ends or after, after)
    if starts >= ends:
        return 0
    return _ordinal(ends) - _ordinal(starts)


def _ordinal(day: str) -> int:
    return month_start(day[:7]).toordinal() + int(day[8:]) - 1


def _hourly_price(plan: PricePlan, model: str) -> int:
    prices = plan.accelerator_micros_per_hour
    return prices[model] if model in prices else prices["*"]


def _monthly_price(plan: PricePlan, contract: Contract) -> int | None:
    prices = plan.reserved_micros_per_month
    return prices.get(contract.model, prices.get("*"))


def _no_price(plan: PricePlan, model: str, contract: Contract, where: str) -> Problem:
    message = f"price plan {plan.id} of contract {contract.id} has no price for {model};"
    return Problem(
        ProblemCode.CONFLICT, message, f"add {model} to its {where} and apply it; usage is kept until then."
    )


def _missing(what: str, name: str, user: str) -> Problem:
    # The known names are not listed: they may be another tenant's.
    step = "apply its document again; usage is kept until then."
    return Problem(ProblemCode.NOT_FOUND, f"no {what} {name!r}, but {user} is billed by it;", step)


def _model_words(model: str) -> str:
    if model == LAB.accelerator:
        return "lab accelerators (virtual slots, no such hardware)"
    return f"{model} accelerators" if model else "accelerators"


def _energy_words(group: _Group, passed: bool) -> str:
    pue = _span([_permille(one) for one in sorted({key.pue_permille for key, _ in group.sums})])
    watts = _SOURCE_WORDS[worst_source(key.source for key, _ in group.sums)]
    ending = "at the site's declared price" if passed else f"shown, not charged under plan {group.plan.id}"
    what = "processes" if group.model == CPU_MODEL else _model_words(group.model)
    return f"energy for {what}, PUE {pue}; {watts}; {ending}"


def _permille(value: int) -> str:
    return f"{value // PERMILLE}.{value % PERMILLE:03d}".rstrip("0").rstrip(".")


def _span(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"
