"""Promise 4, exactness: everything is metered once, billed once, rounded once; and it balances."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from headrace.core.contracts import Contract, PricePlan
from headrace.core.events import (
    Committed,
    CreditNoteIssued,
    InvoiceIssued,
    InvoiceLine,
    PlacementEnded,
    PlacementMade,
    TokensMetered,
    UsageMetered,
    WorkloadSubmitted,
)
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Papers
from headrace.sim.checkers.usage import (
    UJ_PER_KWH,
    Meter,
    Month,
    Months,
    Times,
    UsageOf,
    days_covered,
    days_in,
    rank_watts,
)

UNITS = {
    "capacity": "accelerator-ms",
    "capacity-reserved": "accelerator-ms",
    "process-time": "process-ms",
    "energy": "uJ",
    "carbon": "ugCO2e",
    "tokens-input": "token",
    "tokens-output": "token",
    "reserved": "accelerator-day",
}
"""The items of an invoice (but ``note``) and the unit of each."""
MS_PER_HOUR = 3_600_000
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transfer in the ledger: a debit is positive, a credit negative."""

    transfer: str
    account: str
    currency: str
    amount_micros: int


class ExactnessChecker(Checker):
    """Meters every placement again from its events, and holds each invoice to what was used before it was issued."""

    promise = 4

    def __init__(self, papers: Papers | None = None) -> None:
        self.projects: dict[str, str] = {}
        self.meters: dict[str, Meter] = {}
        self.months: dict[tuple[str, str], Month] = {}
        self.billed: dict[tuple[str, str], dict[UsageOf, Fraction]] = {}
        self.lines: dict[tuple[str, str, str, str], int] = {}
        self.parts: dict[tuple[str, str, str], int] = {}
        self.invoices: dict[str, InvoiceIssued] = {}
        self.credited: dict[str, int] = {}
        self.pending: dict[tuple[str, str], None] = {}
        self.calendar: Months | None = None
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Placements, usage, invoices."""
        return (
            (WorkloadSubmitted, self._submitted),
            (PlacementMade, self._made),
            (UsageMetered, self._metered),
            (PlacementEnded, self._ended),
            (TokensMetered, self._tokens),
            (InvoiceIssued, self._issued),
            (CreditNoteIssued, self._credit),
        )

    def _submitted(self, _committed: Committed, event: WorkloadSubmitted) -> None:
        self.projects[event.workload] = event.spec.project

    def _made(self, _committed: Committed, event: PlacementMade) -> None:
        spots = self.papers.ground.spots
        watts, model = [], ""
        for rank in event.ranks:
            spot = spots.get(rank.node)
            watts.append((0, 0) if spot is None else rank_watts(spot.hardware, rank))
            model = "cpu" if spot is None or not rank.mask else spot.hardware.accelerator
        self.meters[event.placement] = Meter(
            event.tenant,
            self.projects.get(event.workload, ""),
            event.site,
            model,
            tuple(rank.mask.bit_count() for rank in event.ranks),
            tuple(rank.share_milli for rank in event.ranks),
            tuple(watts),
            [(0, 0)] * len(event.ranks),
        )

    def _metered(self, committed: Committed, event: UsageMetered) -> None:
        self._usage(committed, event.placement, event.ranks, event.source)

    def _ended(self, committed: Committed, event: PlacementEnded) -> None:
        self._usage(committed, event.placement, event.ranks, event.source)
        meter = self.meters.get(event.placement)
        if meter is not None:
            meter.ended, meter.estimated = True, event.estimated

    def _usage(self, committed: Committed, placement: str, times: Times, source: str) -> None:
        meter = self.meters.get(placement)
        if meter is None:
            return
        if meter.ended:
            self.found("usage-after-end", placement, f"event {committed.seq} meters it after its end")
        if len(times) != len(meter.times):
            what = f"event {committed.seq} has usage of {len(times)} ranks, it has {len(meter.times)}"
            self.found("usage-ranks", placement, what)
            return
        for rank, (before, now) in enumerate(zip(meter.times, times, strict=True)):
            if now[0] < before[0] or now[1] < before[1]:
                self.found("usage-back", placement, f"rank {rank} went from {before} to {now} ms")
        site = self.papers.sites.get(meter.site)
        self._month(meter.tenant, committed.at_ms).add_times(meter, times, site, source)
        meter.times = list(times)

    def _tokens(self, committed: Committed, event: TokensMetered) -> None:
        meter = self.meters.get(event.placement)
        if meter is None:
            return
        if event.batch != meter.batch + 1:
            what = f"batch {event.batch} of tokens comes after batch {meter.batch}"
            self.found("token-batch", event.placement, what)
        now = (event.input_tokens, event.output_tokens)
        if now[0] < meter.tokens[0] or now[1] < meter.tokens[1]:
            self.found("tokens-back", event.placement, f"its counters went from {meter.tokens} to {now}")
        month = self._month(meter.tenant, committed.at_ms)
        month.add("tokens-input", meter, now[0] - meter.tokens[0])
        month.add("tokens-output", meter, now[1] - meter.tokens[1])
        meter.tokens, meter.batch = now, event.batch

    def _month(self, tenant: str, at_ms: int) -> Month:
        """The month to add to; what was issued just before is compared first, with what was used until then."""
        if self.pending:
            self._settle()
        if self.calendar is None:
            estate = self.papers.estate
            self.calendar = Months("UTC" if estate is None else estate.operator.zone)
        key = (tenant, self.calendar.of(at_ms))
        month = self.months.get(key)
        if month is None:
            month = self.months[key] = Month()
        return month

    def _issued(self, _committed: Committed, event: InvoiceIssued) -> None:
        if event.invoice in self.invoices:
            self.found("issued-twice", event.invoice, "an invoice of this number was issued before")
        self.invoices[event.invoice] = event
        part = self.parts.get((event.tenant, event.period, event.currency), 0)
        if event.part != part:
            self.found("part", event.invoice, f"it is part {event.part} of its period, after {part} others")
        self.parts[event.tenant, event.period, event.currency] = part + 1
        if not _MONTH.fullmatch(event.period):
            self.found("period", event.invoice, f"{event.period!r} is no month")
            return
        key = (event.tenant, event.period)
        billed = self.billed.setdefault(key, {})
        for line in event.lines:
            self._line(event, line)
            self._count(event, line, billed)
        self._sums(event)
        self.pending[key] = None

    def _line(self, event: InvoiceIssued, line: InvoiceLine) -> None:
        """One line by itself: priced by its plan, and rounded once."""
        if line.item == "note":
            if line.amount_micros:
                self.found("line-amount", event.invoice, f"a note costs {line.amount_micros}")
            return
        if UNITS.get(line.item) != line.unit or line.price_per <= 0:
            what = f"line {line.item} is in {line.unit} per {line.price_per}"
            self.found("line-unit", event.invoice, what)
            return
        exact = Fraction(line.quantity * line.price_micros, line.price_per)
        if line.amount_micros != round(exact):
            what = f"line {line.item} of {line.usage_key} is {line.amount_micros}, exactly {exact}"
            self.found("line-amount", event.invoice, what)
        contract = self.papers.contracts.get(line.contract)
        plan = None if contract is None else self.papers.plans.get(contract.plan)
        if contract is None or plan is None or contract.tenant != event.tenant:
            what = f"line {line.item} is under {line.contract!r}, no contract of {event.tenant} with a plan"
            self.found("line-contract", event.invoice, what)
            return
        wanted = self._prices(event, line, contract, plan)
        if Fraction(line.price_micros, line.price_per) not in wanted:
            what = (
                f"line {line.item} is at {line.price_micros} per {line.price_per}, not as plan {plan.id} says"
            )
            self.found("line-price", event.invoice, what)

    def _prices(
        self, event: InvoiceIssued, line: InvoiceLine, contract: Contract, plan: PricePlan
    ) -> tuple[Fraction, ...]:
        """What one unit of a line may cost: one price, or one for each model that was used."""
        match line.item:
            case "capacity":
                models = self.months.get((event.tenant, event.period), Month()).models
                table = plan.accelerator_micros_per_hour
                return tuple(Fraction(table.get(model, table.get("*", 0)), MS_PER_HOUR) for model in models)
            case "process-time":
                table = plan.accelerator_micros_per_hour
                return tuple(
                    Fraction(price, MS_PER_HOUR) for price in (0, table.get("cpu", table.get("*", 0)))
                )
            case "energy" if plan.energy_pass_through:
                prices = self.months.get((event.tenant, event.period), Month()).energy_prices
                return tuple(Fraction(price, UJ_PER_KWH) for site, price in prices if site == line.site)
            case "tokens-input" | "tokens-output":
                price = plan.token_micros_per_million.get(line.item.removeprefix("tokens-"), 0)
                return (Fraction(price, 1_000_000),)
            case "reserved":
                monthly = plan.reserved_micros_per_month
                price = monthly.get(contract.model, monthly.get("*", 0))
                return (Fraction(price, days_in(event.period)),)
            case _:
                return (Fraction(),)

    def _count(self, event: InvoiceIssued, line: InvoiceLine, billed: dict[UsageOf, Fraction]) -> None:
        """Add a line's quantity to what was billed of its kind."""
        if line.item in ("note", "reserved"):
            key: UsageOf = (line.item, line.contract, "")
        else:
            item = "capacity" if line.item == "capacity-reserved" else line.item
            key = (item, line.project, line.site)
        billed[key] = billed.get(key, Fraction()) + line.quantity
        count = (event.tenant, event.period, *key[:2])
        self.lines[count] = self.lines.get(count, 0) + 1

    def _sums(self, event: InvoiceIssued) -> None:
        net = sum(line.amount_micros for line in event.lines)
        tax = 0 if event.tax_permille is None else round(Fraction(net * event.tax_permille, 1000))
        given = (event.net_micros, event.tax_micros, event.total_micros)
        if given != (net, tax, net + tax):
            what = f"net, tax and total are {given}, its lines make {(net, tax, net + tax)}"
            self.found("invoice-sums", event.invoice, what)

    def _settle(self) -> None:
        """Compare what was issued with what was used until then: all of it, once."""
        for tenant, period in self.pending:
            used = dict(self.months.get((tenant, period), Month()).used)
            for contract in self.papers.contracts.values():
                days = days_covered(period, contract.starts, contract.ends)
                if contract.tenant == tenant and contract.kind == "reserved" and days:
                    used["reserved", contract.id, ""] = Fraction(contract.accelerators * days)
            billed = self.billed[tenant, period]
            for key in sorted(used.keys() | billed.keys()):
                if key[0] != "note":
                    self._settle_one(
                        tenant, period, key, used.get(key, Fraction()), billed.get(key, Fraction())
                    )
        self.pending.clear()

    def _settle_one(self, tenant: str, period: str, key: UsageOf, used: Fraction, billed: Fraction) -> None:
        # Micrograms are rounded at each line, as the quantity that is shown, and a line of none is left out; nothing else
        # is rounded before the price.
        lines = self.lines.get((tenant, period, *key[:2]), 0)
        slack = Fraction(max(lines, 1), 2) if key[0] == "carbon" else 0
        if abs(used - billed) > slack:
            what = f"{' of '.join(key)}: {billed} billed for {period}, {used} used"
            self.found("billed", tenant, what)

    def _credit(self, _committed: Committed, event: CreditNoteIssued) -> None:
        invoice = self.invoices.get(event.invoice)
        if invoice is None or (invoice.tenant, invoice.currency) != (event.tenant, event.currency):
            self.found(
                "credit", event.note, f"it corrects {event.invoice!r}, no such invoice of {event.tenant}"
            )
            return
        given = self.credited.get(event.invoice, 0) + event.amount_micros
        self.credited[event.invoice] = given
        if event.amount_micros <= 0 or given > invoice.total_micros:
            what = f"{given} given back in all, of {invoice.total_micros}"
            self.found("credit", event.note, what)

    def at_rest(self, raw: Mapping[str, Sequence[tuple[int, int]]], ledger: Iterable[Entry] = ()) -> None:
        """Compare with the engine's own records (placement to each rank's running and paused ms), and the ledger."""
        self._settle()
        for placement, meter in self.meters.items():
            self._compare(placement, meter, raw.get(placement))
        for placement, times in raw.items():
            if placement not in self.meters and any(on or off for on, off in times):
                self.found(
                    "raw", placement, f"the engine ran it for {tuple(times)} ms; the journal has no placement"
                )
        self._balance(ledger)

    def _compare(self, placement: str, meter: Meter, raw: Sequence[tuple[int, int]] | None) -> None:
        true = tuple(raw) if raw is not None else ((0, 0),) * len(meter.times)
        metered = tuple(meter.times)
        # While it runs, and when the last heartbeat stands for its end, less may be metered; never more.
        loose = meter.estimated or not meter.ended
        if len(true) != len(metered):
            self.found("raw", placement, f"the engine ran {len(true)} ranks, {len(metered)} were metered")
        elif loose and any(
            now[0] > one[0] or now[1] > one[1] for now, one in zip(metered, true, strict=True)
        ):
            self.found("raw", placement, f"{metered} ms were metered, more than the engine's {true}")
        elif not loose and metered != true:
            self.found("raw", placement, f"{metered} ms were metered, the engine ran {true}")

    def _balance(self, ledger: Iterable[Entry]) -> None:
        sums: dict[tuple[str, str], int] = {}
        for entry in ledger:
            key = (entry.transfer, entry.currency)
            sums[key] = sums.get(key, 0) + entry.amount_micros
        for (transfer, currency), amount in sums.items():
            if amount:
                self.found("unbalanced", transfer, f"its sides differ by {amount} micros of {currency}")
