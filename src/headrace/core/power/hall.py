"""A hall of miners and accelerators on one connection, as it is declared.

All loads are in watts at the meter: what cools a machine is in its watts. Money is in millionths of the hall's currency,
prices of energy per MWh. Signs: what is earned and what is paid are both positive; a gain is the one less the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from headrace.core.units import MICROS, MS_PER_HOUR, PERMILLE, ceil_div, div_half_even

MJ_PER_MWH = 3_600_000_000_000
HOURS_PER_DAY = 24
MAX_LOADS = 64

LoadKind = Literal["miner", "ai"]


@dataclass(frozen=True, slots=True)
class Quote:
    """What a unit of work is paid, in ``currency``: ``constant_micros``, or column ``column`` of the CSV file ``file``.

    For miners per PH/s and day (the hashprice), for accelerators per GPU-hour.
    """

    currency: str
    constant_micros: int = 0
    file: str = ""
    column: str = ""


@dataclass(frozen=True, slots=True)
class Switching:
    """What holds for each machine of a class when it is turned on or off.

    A machine that starts stays on for ``min_up_ms`` at least, one that stops stays off for ``min_down_ms`` at least. Each
    start costs ``restart_micros``, due in the interval in which the machine is on again.
    """

    restart_micros: int = 0
    min_up_ms: int = 0
    min_down_ms: int = 0


@dataclass(frozen=True, slots=True)
class MachineClass:
    """Equal miners: ``count`` of ``hashrate_gh`` GH/s each, which take ``efficiency_mj_per_th`` millijoules per terahash."""

    name: str
    count: int
    efficiency_mj_per_th: int
    hashrate_gh: int
    switching: Switching = Switching()

    @property
    def draw_w(self) -> int:
        """What one draws at the meter, rounded up."""
        return ceil_div(self.efficiency_mj_per_th * self.hashrate_gh, MICROS)


@dataclass(frozen=True, slots=True)
class AiLoad:
    """Accelerators that are let: ``gpus`` of ``gpu_w`` facility watts each, paid per hour that they run.

    ``is_firm``: a contract says that they always run, before the first interval too.
    """

    name: str
    gpus: int
    gpu_w: int
    price: Quote
    is_firm: bool = False
    switching: Switching = Switching()


@dataclass(frozen=True, slots=True)
class Ramp:
    """By how many watts the draw of the hall may rise or fall in an hour; 0: as one likes."""

    up_w_per_hour: int = 0
    down_w_per_hour: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What a dispatch decides over: ``count`` equal machines of ``draw_w`` watts each, miners or accelerators."""

    name: str
    kind: LoadKind
    count: int
    draw_w: int
    switching: Switching
    is_firm: bool = False


@dataclass(frozen=True, slots=True)
class Hall:
    """Miners and accelerators behind one connection of ``connection_w`` watts.

    ``rates_micros`` has millionths of the hall's ``currency`` for one unit of another. ``price_unit`` is that of price files
    which don't say theirs. ``fee_micros_per_mwh`` is paid on top of the price of energy, ``carbon_micros_per_tonne`` for what
    energy emits. ``starts_on``: before the first interval everything is on, and free to stop; else off, and free to start
    (but firm loads, which always run).
    """

    name: str
    zone: str
    currency: str
    connection_w: int
    machines: tuple[MachineClass, ...]
    hashprice: Quote
    ai: tuple[AiLoad, ...] = ()
    price_unit: str = ""
    rates_micros: Mapping[str, int] = field(default_factory=dict)
    ramp: Ramp = Ramp()
    fee_micros_per_mwh: int = 0
    carbon_micros_per_tonne: int = 0
    starts_on: bool = False

    def loads(self) -> tuple[Load, ...]:
        """Everything that draws: the accelerators, then the miners, each in the order of the declaration."""
        ai = (Load(one.name, "ai", one.gpus, one.gpu_w, one.switching, one.is_firm) for one in self.ai)
        miners = (
            Load(one.name, "miner", one.count, one.draw_w, one.switching, False) for one in self.machines
        )
        return (*ai, *miners)

    def quotes(self) -> tuple[Quote, ...]:
        """What the work of each load is paid, in the order of :meth:`loads`."""
        return (*(one.price for one in self.ai), *(self.hashprice for _ in self.machines))

    def firm_w(self) -> int:
        """What the firm loads draw, always."""
        return sum(one.count * one.draw_w for one in self.loads() if one.is_firm)

    def total_w(self) -> int:
        """What everything together would draw."""
        return sum(one.count * one.draw_w for one in self.loads())

    def rate_micros(self, currency: str) -> int:
        """Millionths of the hall's currency for one unit of ``currency``; KeyError when no rate is stated."""
        return MICROS if currency == self.currency else self.rates_micros[currency]

    def values_micros_per_mwh(self, paid_micros: tuple[int, ...]) -> tuple[int, ...]:
        """What a MWh of each load earns, when its work is paid ``paid_micros`` (in the currency of its quote)."""
        ai = tuple(
            ai_mwh_micros(paid, one.gpu_w, self.rate_micros(one.price.currency))
            for one, paid in zip(self.ai, paid_micros, strict=False)
        )
        rate = self.rate_micros(self.hashprice.currency)
        miners = tuple(
            miner_mwh_micros(paid, one.efficiency_mj_per_th, rate)
            for one, paid in zip(self.machines, paid_micros[len(self.ai) :], strict=True)
        )
        return ai + miners

    def cost_micros_per_mwh(self, price_micros_per_mwh: int, carbon_ug_per_kwh: int = 0) -> int:
        """What a MWh costs: its price, the fee, and what its carbon (micrograms per kWh) weighs."""
        # A microgram per kWh is a milligram per MWh: 10^9 of them are a tonne.
        carbon = div_half_even(carbon_ug_per_kwh * self.carbon_micros_per_tonne, 10**9)
        return price_micros_per_mwh + self.fee_micros_per_mwh + carbon


def miner_mwh_micros(hashprice_micros: int, efficiency_mj_per_th: int, rate_micros: int = MICROS) -> int:
    """What a MWh of mining earns: 1000 x hashprice / (24 x J per TH), at ``rate_micros`` for the hashprice's currency."""
    paid = PERMILLE * hashprice_micros * rate_micros * PERMILLE
    return div_half_even(paid, HOURS_PER_DAY * efficiency_mj_per_th * MICROS)


def ai_mwh_micros(price_micros_per_gpu_hour: int, gpu_w: int, rate_micros: int = MICROS) -> int:
    """What a MWh of accelerators earns: the price of a GPU-hour over the facility's MW per GPU."""
    return div_half_even(price_micros_per_gpu_hour * rate_micros, gpu_w)


def amount_micros(energy_mj: int, micros_per_mwh: int) -> int:
    """What an energy earns or costs at so much per MWh, half-even."""
    return div_half_even(energy_mj * micros_per_mwh, MJ_PER_MWH)


def ramp_w(rate_w_per_hour: int, length_ms: int) -> int:
    """By how many watts the draw may change into an interval of ``length_ms``, rounded down; 0 is no limit, and stays so."""
    return max(1, rate_w_per_hour * length_ms // MS_PER_HOUR) if rate_w_per_hour else 0
