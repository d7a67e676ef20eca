"""A year of an estate, hour by hour, at the scale of planning: energy, money and carbon of each site and month. Simulated.

What draws at a site: the nodes that are commissioned by then (idle, or loaded as far as they are let), times the PUE; and the
miners of its hall, if it has one, in what the connection leaves. Miners are dispatched by the product's own rule
(:mod:`headrace.core.power.dispatch`), hour by hour at the price of the hour. What the connection doesn't carry never runs: a like
part of all that is let. An instruction lowers what may be drawn: miners stop first, whatever their minimum times; then, of the AI
load that runs, the part that may be shed; what is still above is a breach, and is told.

There is no placement here, no queue and no fault: that is the simulator's business (``headrace sim``).
"""

import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from headrace.core.contracts import Contract, PricePlan
from headrace.core.estate import Estate, Site
from headrace.core.hardware import CATALOGUE, HardwareType
from headrace.core.power.dispatch import Interval, LoadState, Rules, State, advance, greedy, settle
from headrace.core.power.hall import MJ_PER_MWH, Hall, amount_micros
from headrace.core.power.pue import meter_watts
from headrace.core.units import MICROS, MJ_PER_KWH, MS_PER_DAY, MS_PER_HOUR, PERMILLE, ceil_div, div_half_even

HOURS_PER_MONTH = 730
UG_PER_TONNE = 10**12
FREELY = 1 << 62
"""More watts than anything draws."""


@dataclass(frozen=True, slots=True)
class Curtailment:
    """At most ``limit_w`` watts at the meter of a site from ``from_ms`` until ``until_ms`` (exclusive)."""

    site: str
    from_ms: int
    until_ms: int
    limit_w: int


@dataclass(frozen=True, slots=True)
class SitePlan:
    """What is assumed of a site: prices (millionths of its currency per MWh) and carbon (micrograms per kWh), hour by hour.

    ``hall`` are its miners, paid ``hashprice_micros`` per PH/s and day; ``sources`` say where prices and carbon are from.
    """

    site: Site
    prices: Sequence[int]
    carbon: Sequence[int]
    hall: Hall | None = None
    curtailments: tuple[Curtailment, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Of what no contract holds ``let_permille`` is let; what is let draws ``load_permille`` of its way from idle to nameplate.

    ``shed_permille`` of that may be shed by an instruction, after the miners.
    """

    let_permille: int = PERMILLE
    load_permille: int = PERMILLE
    shed_permille: int = 0


_SUMS = (
    "hours", "ai_mj", "miner_mj", "shed_mj", "unpowered_mj", "breach_mj", "breach_hours", "carbon_ug", "energy_cost", "fees",
    "restart_cost",
)  # fmt: skip


@dataclass(slots=True)
class Month:
    """Sums of a site in a month. Energy in millijoules at the meter, carbon in micrograms, money in millionths.

    Of the AI load ``shed`` is what instructions took, ``unpowered`` what the connection never carried; ``breach`` what was drawn
    above an instruction because nothing more could be shed. ``fees`` are what a hall pays for its miners' energy besides the
    price, its price on carbon included; they are part of ``energy_cost``.
    """

    hours: int = 0
    ai_mj: int = 0
    miner_mj: int = 0
    shed_mj: int = 0
    unpowered_mj: int = 0
    breach_mj: int = 0
    breach_hours: int = 0
    peak_w: int = 0
    carbon_ug: int = 0
    energy_cost: int = 0
    fees: int = 0
    restart_cost: int = 0
    earned: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Month") -> None:
        """Count another month's sums too."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.peak_w = max(self.peak_w, other.peak_w)
        for currency, micros in other.earned.items():
            self.earned[currency] = self.earned.get(currency, 0) + micros

    def figures(self, currency: str) -> dict[str, object]:
        """All of it, ready for JSON: MWh, tonnes, and money in whole units."""
        return {
            "ai_mwh": round(self.ai_mj / MJ_PER_MWH, 3),
            "miner_mwh": round(self.miner_mj / MJ_PER_MWH, 3),
            "shed_mwh": round(self.shed_mj / MJ_PER_MWH, 3),
            "unpowered_mwh": round(self.unpowered_mj / MJ_PER_MWH, 3),
            "breach_mwh": round(self.breach_mj / MJ_PER_MWH, 3),
            "breach_hours": self.breach_hours,
            "peak_mw": round(self.peak_w / MICROS, 3),
            "carbon_tonnes": round(self.carbon_ug / UG_PER_TONNE, 3),
            "currency": currency,
            "energy_cost": round(self.energy_cost / MICROS, 2),
            "fees": round(self.fees / MICROS, 2),
            "restart_cost": round(self.restart_cost / MICROS, 2),
            "earned": {name: round(micros / MICROS, 2) for name, micros in sorted(self.earned.items())},
        }


@dataclass(frozen=True, slots=True)
class Year:
    """What the year came to: months (``2027-01``, in the operator's zone) of each site."""

    sites: Mapping[str, Mapping[str, Month]]
    plans: Mapping[str, SitePlan]
    hours: int
    wall_s: float

    def figures(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        sites: dict[str, object] = {}
        for name, months in self.sites.items():
            plan = self.plans[name]
            whole = Month()
            for month in months.values():
                whole.add(month)
            currency = plan.site.currency
            sites[name] = {
                "sources": dict(plan.sources),
                "year": whole.figures(currency),
                "months": {label: month.figures(currency) for label, month in months.items()},
            }
        return {"power": "simulated", "hours": self.hours, "sites": sites, "wall_s": round(self.wall_s, 3)}


def hours_of(year: int, zone: str) -> tuple[int, ...]:
    """When each hour of a year begins in a zone, milliseconds UTC."""
    first, end = (datetime(one, 1, 1, tzinfo=ZoneInfo(zone)).timestamp() for one in (year, year + 1))
    return tuple(range(int(first) * 1_000, int(end) * 1_000, MS_PER_HOUR))


def simulate(
    estate: Estate,
    plans: Sequence[SitePlan],
    contracts: Sequence[Contract],
    price_plans: Mapping[str, PricePlan],
    starts_ms: Sequence[int],
    assumed: Assumptions,
) -> Year:
    """Every site through every hour of ``starts_ms``; prices and carbon of a plan have one value for each."""
    began = clock.perf_counter()
    hardware = CATALOGUE | estate.hardware
    labels = _labels(starts_ms, estate.operator.zone)
    sites: dict[str, dict[str, Month]] = {}
    for plan in plans:
        months = {label: Month() for label in labels}
        capacity = _Capacity(plan.site, hardware, contracts, price_plans, assumed)
        _run(plan, capacity, starts_ms, labels, months, assumed)
        sites[plan.site.id] = dict(months)
    return Year(sites, {plan.site.id: plan for plan in plans}, len(starts_ms), clock.perf_counter() - began)


def _labels(starts_ms: Sequence[int], zone: str) -> list[str]:
    """The month of every hour, in a zone."""
    local = ZoneInfo(zone)
    return [datetime.fromtimestamp(at_ms / 1_000, local).strftime("%Y-%m") for at_ms in starts_ms]


# -- a site's load ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Draw:
    """The AI of a day: watts of IT load, of which ``above_idle_w`` are due to work; earned each hour, by currency."""

    it_w: int
    above_idle_w: int
    earned: Mapping[str, int]


class _Capacity:
    """What the nodes of a site draw and earn on a day."""

    def __init__(
        self,
        site: Site,
        hardware: Mapping[str, HardwareType],
        contracts: Sequence[Contract],
        price_plans: Mapping[str, PricePlan],
        assumed: Assumptions,
    ) -> None:
        # Of a site whose country nobody knows nothing is ever placed, and a connection of nothing carries nothing.
        runs = bool(site.country) and site.connection.total_w > 0
        self._groups = [
            (block.commissioned, hardware[group.hardware], group.node_count)
            for block in site.blocks
            if block.commissioned and runs
            for group in block.groups
        ]
        self._contracts = [one for one in contracts if one.site == site.id and one.accelerators]
        self._price_plans, self._assumed = price_plans, assumed

    def draw(self, day: str) -> _Draw:
        """What is drawn on an ISO day."""
        held: dict[str, int] = {}
        earned: dict[str, int] = {}
        for contract in self._contracts:
            if contract.starts <= day and (not contract.ends or day < contract.ends):
                held[contract.model] = held.get(contract.model, 0) + contract.accelerators
                plan = self._price_plans.get(contract.plan)
                if plan is not None:
                    hourly = _hourly_micros(plan, contract.model) * contract.accelerators
                    earned[plan.currency] = earned.get(plan.currency, 0) + hourly
        idle_w = above_w = 0
        for commissioned, kind, nodes in self._groups:
            if commissioned > day:
                continue
            accelerators = nodes * kind.accelerators
            taken = min(held.get(kind.accelerator, 0), accelerators)
            held[kind.accelerator] = held.get(kind.accelerator, 0) - taken
            let = taken * PERMILLE + (accelerators - taken) * self._assumed.let_permille
            idle_w += nodes * kind.idle_w
            span_w = nodes * (kind.nameplate_w - kind.idle_w)
            # A node without accelerators is let by its processors, all or none.
            whole = max(1, accelerators) * PERMILLE
            above_w += (
                span_w * (let if accelerators else whole) * self._assumed.load_permille // (whole * PERMILLE)
            )
        return _Draw(idle_w + above_w, above_w, earned)


def _hourly_micros(plan: PricePlan, model: str) -> int:
    """What an accelerator of a reserved contract earns an hour."""
    monthly = plan.reserved_micros_per_month.get(model)
    if monthly is not None:
        return div_half_even(monthly, HOURS_PER_MONTH)
    prices = plan.accelerator_micros_per_hour
    return prices.get(model, prices.get("*", 0))


# -- a site's hours -----------------------------------------------------------------------------------------------------


def _run(
    plan: SitePlan,
    capacity: _Capacity,
    starts_ms: Sequence[int],
    labels: Sequence[str],
    months: Mapping[str, Month],
    assumed: Assumptions,
) -> None:
    site = plan.site
    miners = _Miners(plan) if plan.hall is not None else None
    meter = lru_cache(maxsize=64)(lambda it_w: meter_watts(site, it_w))
    limits = _limits(plan, starts_ms)
    draw, today = _Draw(0, 0, {}), -1
    for number, at_ms in enumerate(starts_ms):
        if at_ms // MS_PER_DAY != today:
            today = at_ms // MS_PER_DAY
            draw = capacity.draw(
                (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=today)).date().isoformat()
            )
        month = months[labels[number]]
        carried_w, told_w = limits[number]
        hour = _hour(draw, meter, carried_w, told_w, assumed.shed_permille)
        _count_ai(month, draw, hour)
        miner_w = 0
        if miners is not None:
            miner_w = miners.hour(month, number, at_ms, max(0, min(carried_w, told_w) - hour.ai_w))
        month.peak_w = max(month.peak_w, hour.ai_w + miner_w)
        energy_mj = (hour.ai_w + miner_w) * MS_PER_HOUR
        month.energy_cost += amount_micros(energy_mj, plan.prices[number])
        month.carbon_ug += div_half_even(energy_mj * plan.carbon[number], MJ_PER_KWH)


@dataclass(frozen=True, slots=True)
class _Hour:
    """An hour of AI, in watts at the meter: what all that is let wants, what is carried of it, drawn, and told to be the most."""

    full_w: int
    admitted_w: int
    ai_w: int
    told_w: int


def _hour(draw: _Draw, meter: Callable[[int], int], carried_w: int, told_w: int, shed_permille: int) -> _Hour:
    full_w = meter(draw.it_w)
    admitted_w = ai_w = min(full_w, carried_w)
    if admitted_w > told_w:
        least_w = meter(draw.it_w - draw.above_idle_w * shed_permille // PERMILLE)
        # Of what was admitted a like part: shedding begins from what runs, and never adds to it.
        ai_w = max(told_w, ceil_div(least_w * admitted_w, full_w))
    return _Hour(full_w, admitted_w, ai_w, told_w)


def _count_ai(month: Month, draw: _Draw, hour: _Hour) -> None:
    month.hours += 1
    month.ai_mj += hour.ai_w * MS_PER_HOUR
    month.shed_mj += (hour.admitted_w - hour.ai_w) * MS_PER_HOUR
    month.unpowered_mj += (hour.full_w - hour.admitted_w) * MS_PER_HOUR
    if hour.ai_w > hour.told_w:
        month.breach_mj += (hour.ai_w - hour.told_w) * MS_PER_HOUR
        month.breach_hours += 1
    for currency, micros in draw.earned.items():
        # What was shed is not paid.
        due = div_half_even(micros * hour.ai_w, hour.full_w) if hour.full_w else 0
        month.earned[currency] = month.earned.get(currency, 0) + due


def _limits(plan: SitePlan, starts_ms: Sequence[int]) -> list[tuple[int, int]]:
    """What the connection carries in every hour, and what instructions allow (:data:`FREELY` without one); watts at the meter."""
    connection, zone = plan.site.connection, plan.site.zone
    plain = not connection.windows or not connection.flexible_w
    found = []
    for at_ms in starts_ms:
        limit_w = connection.total_w if plain else connection.limit_w(at_ms, zone)
        told = [
            one.limit_w
            for one in plan.curtailments
            if one.from_ms < at_ms + MS_PER_HOUR and at_ms < one.until_ms
        ]
        # An hour in which an instruction holds for a part only is one in which it holds.
        found.append((limit_w, min(told, default=FREELY)))
    return found


class _Miners:
    """The miners of a site from hour to hour, in what its connection leaves them."""

    def __init__(self, plan: SitePlan) -> None:
        if plan.hall is None:
            raise ValueError(f"{plan.site.id} has no hall")
        self._hall, self._plan = plan.hall, plan
        self._loads = tuple(load for load in plan.hall.loads() if load.kind == "miner")
        self._rate = plan.hall.rate_micros(plan.site.currency)
        paid = tuple(quote.constant_micros for quote in plan.hall.quotes())
        self._values = plan.hall.values_micros_per_mwh(paid)[len(plan.hall.ai) :]
        self._state: State = tuple(
            LoadState(load.count if plan.hall.starts_on else 0) for load in self._loads
        )

    def hour(self, month: Month, number: int, at_ms: int, room_w: int) -> int:
        """Dispatch an hour into ``room_w`` watts; the watts that are drawn."""
        hall = self._hall
        price = div_half_even(self._plan.prices[number] * self._rate, MICROS)
        interval = Interval(
            at_ms, MS_PER_HOUR, hall.cost_micros_per_mwh(price, self._plan.carbon[number]), self._values
        )
        on_w = sum(load.draw_w * now.on for load, now in zip(self._loads, self._state, strict=True))
        must_fall = on_w > room_w
        if must_fall:
            # Whoever must stop stops, whatever it costs: no minimum time and no ramp stands against a limit.
            self._state = tuple(LoadState(now.on) for now in self._state)
        ramp = type(hall.ramp)() if must_fall else hall.ramp
        rules = Rules(self._loads, min(hall.connection_w, room_w), ramp)
        counts = greedy(rules, self._state, interval)
        settled = settle(rules, self._state, interval, counts)
        self._state = advance(rules, self._state, interval, counts)
        month.miner_mj += settled.energy_mj
        currency = self._plan.site.currency
        month.earned[currency] = month.earned.get(currency, 0) + self._home(settled.earned_micros)
        fees = self._home(settled.energy_micros - amount_micros(settled.energy_mj, price))
        month.fees += fees
        month.energy_cost += fees
        month.restart_cost += self._home(settled.restart_micros)
        return rules.draw_w(counts)

    def _home(self, micros: int) -> int:
        """An amount in the hall's currency in that of the site."""
        return div_half_even(micros * MICROS, self._rate)
