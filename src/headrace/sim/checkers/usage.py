"""Usage once more, from the events of placements: what each tenant used in each month, in whole numbers.

Capacity and process time are in milliseconds, energy in microjoules at the meter (millijoules of IT load x PUE in
permille), carbon in micrograms as a fraction, tokens in tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headrace.core.estate import Site
from headrace.core.hardware import HardwareType
from headrace.core.workload import RankPlace

UJ_PER_KWH = 3_600_000_000_000
Times = tuple[tuple[int, int], ...]
"""For each rank, cumulative milliseconds running and paused."""
UsageOf = tuple[str, str, str]
"""What was used (an invoice line's item), the project, the site."""


def rank_watts(hardware: HardwareType, rank: RankPlace) -> tuple[int, int]:
    """Watts attributed to a rank while it runs and while it is paused, each rounded down.

    By accelerators: their part of the node's nameplate, and of its idle draw. A rank without any has its part of the
    processors: of what the node draws without its accelerators, and of its idle draw.
    """
    count = rank.mask.bit_count()
    if count:
        whole = max(1, hardware.accelerators)
        return hardware.nameplate_w * count // whole, hardware.idle_w * count // whole
    processors = max(1, hardware.cpu_milli)
    part = min(rank.cpu_milli, processors)
    base_w = max(0, hardware.nameplate_w - hardware.accelerators * hardware.accelerator_w)
    return base_w * part // processors, hardware.idle_w * part // processors


class Months:
    """Which month of the operator's zone a moment is in; it remembers the last, since events come in order."""

    def __init__(self, zone: str) -> None:
        try:
            self._zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            self._zone = ZoneInfo("UTC")
        self._last = ("", 0, 0)

    def of(self, at_ms: int) -> str:
        """The month (``yyyy-mm``) of a moment."""
        name, start_ms, end_ms = self._last
        if start_ms <= at_ms < end_ms:
            return name
        local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self._zone)
        start = datetime(local.year, local.month, 1, tzinfo=self._zone)
        end = datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=self._zone)
        name = f"{local.year:04d}-{local.month:02d}"
        self._last = (name, round(start.timestamp() * 1000), round(end.timestamp() * 1000))
        return name


def days_in(period: str) -> int:
    """How many days a month (``yyyy-mm``) has."""
    year, month = int(period[:4]), int(period[5:7])
    return (
        datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC) - datetime(year, month, 1, tzinfo=UTC)
    ).days


def days_covered(period: str, starts: str, ends: str) -> int:
    """How many days of a month lie in a window of ISO days, whose end is exclusive ("": open)."""
    days = (f"{period}-{day:02d}" for day in range(1, days_in(period) + 1))
    return sum(1 for day in days if starts <= day and (not ends or day < ends))


@dataclass(slots=True)
class Meter:
    """One placement as it is metered: who uses what, the times so far, the tokens so far."""

    tenant: str
    project: str
    site: str
    model: str
    accelerators: tuple[int, ...]
    shares_milli: tuple[int, ...]
    watts: tuple[tuple[int, int], ...]
    times: list[tuple[int, int]]
    tokens: tuple[int, int] = (0, 0)
    batch: int = -1
    ended: bool = False
    estimated: bool = False

    def sums(self, times: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
        """Accelerator-milliseconds, milliseconds of processes without any, and millijoules, of times from the beginning."""
        capacity_ms = process_ms = energy_mj = 0
        ranks = zip(self.accelerators, self.shares_milli, self.watts, times, strict=False)
        for count, milli, (on_w, off_w), (on_ms, off_ms) in ranks:
            capacity_ms += count * milli * (on_ms + off_ms) // 1_000
            process_ms += 0 if count else on_ms + off_ms
            energy_mj += milli * (on_w * on_ms + off_w * off_ms) // 1_000
        return capacity_ms, process_ms, energy_mj


@dataclass(slots=True)
class Month:
    """What one tenant used in one month, of which models, and what energy cost at which sites meanwhile."""

    used: dict[UsageOf, Fraction] = field(default_factory=dict)
    models: dict[str, None] = field(default_factory=dict)
    energy_prices: dict[tuple[str, int], None] = field(default_factory=dict)

    def add(self, item: str, meter: Meter, amount: int | Fraction) -> None:
        """Add to one kind of usage."""
        if amount:
            key = (item, meter.project, meter.site)
            self.used[key] = self.used.get(key, Fraction()) + amount

    def add_times(self, meter: Meter, now: Times, site: Site | None, source: str) -> None:
        """Add what the ranks ran and paused since ``meter.times``: a stale reading bills time, but no energy.

        Both are sums from the beginning, and so is what they are turned into: a part of an accelerator has its part of
        those sums, rounded down.
        """
        after, before = meter.sums(now), meter.sums(meter.times)
        capacity_ms, process_ms, energy_mj = (new - old for new, old in zip(after, before, strict=True))
        self.models[meter.model] = None
        self.add("capacity", meter, capacity_ms)
        self.add("process-time", meter, process_ms)
        if site is not None and source != "stale":
            self.energy_prices[site.id, site.energy_price_micros_per_kwh] = None
            energy_uj = energy_mj * site.pue_permille
            self.add("energy", meter, energy_uj)
            self.add("carbon", meter, Fraction(energy_uj * site.carbon_g_per_kwh * 1_000_000, UJ_PER_KWH))
