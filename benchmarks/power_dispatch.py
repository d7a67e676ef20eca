"""A hall of miners through four and a half years of NO1's prices: what was earned of what was possible."""

import os
from pathlib import Path

from benchmarks.registry import Figure
from headrace.core.units import MICROS
from headrace.documents.hall import load_hall
from headrace.replay.market import Asked, Source, read_market
from headrace.replay.power import Market, replay

PRICES = "price_nordic/NO1_nok_2022_2026.csv"
HALL = Path(__file__).resolve().parents[1] / "examples" / "halls" / "mining-30mw.yaml"
QUICK = 4_000
"""Intervals of a quick run."""


def data() -> Path:
    """Where the prices are: $HEADRACE_DATA, or shared/data beside the project."""
    return Path(os.environ.get("HEADRACE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def dispatch(quick: bool) -> Figure:
    """Profit over the bound of what anybody could have earned; not below always on or the best threshold of hindsight."""
    hall = load_hall(HALL)
    found = read_market(hall, HALL.parent, Asked(Source(data() / PRICES, "nok_per_kwh")))
    stretches = tuple(_first(one, QUICK) for one in found.stretches[:1]) if quick else found.stretches
    played = replay(hall, stretches)
    gains = {name: account.gain_micros for name, account in played.policies.items()}
    clean = played.profit_micros >= max(gains["always_on"], gains["best_threshold"])
    notes: dict[str, object] = {
        "hall": hall.name,
        "prices": Path(PRICES).name,
        "intervals": sum(len(one.starts_ms) for one in stretches),
        "policy": played.chosen,
        "profit_nok": round(played.profit_micros / MICROS),
        "optimum_nok": round(played.optimum_micros / MICROS),
        "optimum_gap": round((played.optimum_micros - max(gains.values())) / played.optimum_micros, 9),
        **{name: round(played.ratio(name) or 0.0, 5) for name in gains},
        "odd": len(found.notes),
        "wall_s": round(played.wall_s, 1),
    }
    return Figure(played.ratio() or 0.0, notes, clean=clean)


def _first(market: Market, count: int) -> Market:
    return Market(
        market.starts_ms[:count],
        market.length_ms,
        market.prices[:count],
        market.carbon[:count],
        market.paid[:count],
    )
