"""A year of twelve sites, hour by hour: each with AI under contract, miners, an instruction a week, prices and carbon."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.power_event import data
from benchmarks.registry import Figure
from headrace.core.power.hall import MJ_PER_MWH
from headrace.replay.year import Assumptions, simulate
from headrace.replay.year_files import Asked, read_year

SITES = 12
ZONES = ("NO1", "NO2", "NO3", "NO4", "NO5", "GB", "PT", "FI", "SE1", "SE2", "IE", "FR")
COLUMNS = (
    "NO-NO1", "NO-NO2", "NO-NO3", "NO-NO4", "NO-NO5", "GB", "PT", "FI", "SE-SE1", "SE-SE2", "IE", "FR",
)  # fmt: skip
YEAR = 2023
HEAD = """kind: tenant
name: lab
projects: [one]
country: NO
---
kind: price-plan
name: plan
currency: NOK
prices: {accelerator_per_hour: {H100: 25}}
---
kind: estate
operator: {name: twelve, title: Twelve sites, country: NO, zone: Europe/Oslo, currency: NOK}
sites:
"""
SITE = """  - name: site-{number}
    country: NO
    zone: Europe/Oslo
    grid_zone: {zone}
    energy: {{source: grid-mix, carbon: 100, price: 0.50, currency: NOK}}
    connection: {{firm: 60MW}}
    pue: 1.15
    blocks:
      - name: one
        commissioned: 2022-06-01
        groups: [{{name: h100, hardware: h100-8, nodes_per_rack: 4, nodes: 2000}}]
      - name: two
        commissioned: 2023-07-01
        groups: [{{name: h100, hardware: h100-8, nodes_per_rack: 4, nodes: 1000}}]
"""
CONTRACT = """---
kind: contract
name: held-{number}
tenant: lab
plan: plan
type: reserved
site: site-{number}
gpu: H100:9000
starts: 2022-06-01
ends: 2030-01-01
"""
HALL = Path(__file__).resolve().parents[1] / "examples" / "halls" / "mining-30mw.yaml"


def seconds(quick: bool) -> Figure:
    """From files to the figures of every site and month."""
    numbers = range(1, SITES + 1)
    with TemporaryDirectory() as folder:
        estate, told, prices = (Path(folder) / name for name in ("estate.yaml", "told.csv", "prices.csv"))
        sites = "".join(SITE.format(number=number, zone=ZONES[number - 1]) for number in numbers)
        estate.write_text(HEAD + sites + "".join(CONTRACT.format(number=number) for number in numbers))
        told.write_text("site,from,until,limit\n" + "".join(_instructions(number) for number in numbers))
        prices.write_text((data() / "price_nordic" / "NO1_nok_2022_2026.csv").read_text())
        asked = Asked(
            estate,
            prices,
            data() / "carbon_2022" / "ci_hourly_2022.csv",
            {f"site-{number}": "nok_per_kwh" for number in numbers},
            halls={f"site-{number}": HALL for number in numbers},
            instructions=told,
            year=YEAR,
            series_year=2022,
        )
        began = time.perf_counter()
        read = read_year(asked)
        found = simulate(
            read.estate,
            read.plans,
            read.contracts,
            read.price_plans,
            read.starts_ms,
            Assumptions(900, 700, 500),
        )
        figures = found.figures()
        took = time.perf_counter() - began
    months = [month for site in found.sites.values() for month in site.values()]
    notes: dict[str, object] = {
        "sites": len(found.sites),
        "hours": found.hours,
        "ai_gwh": round(sum(month.ai_mj for month in months) / MJ_PER_MWH / 1_000, 1),
        "miner_gwh": round(sum(month.miner_mj for month in months) / MJ_PER_MWH / 1_000, 1),
        "shed_mwh": round(sum(month.shed_mj for month in months) / MJ_PER_MWH, 1),
        "simulated": figures["power"],
    }
    busy = all(month.ai_mj and month.hours for month in months) and any(month.miner_mj for month in months)
    return Figure(took, notes, clean=busy and len(found.sites) == SITES)


def _instructions(number: int) -> str:
    """One a week, of six hours."""
    days = [(month, day) for month in range(1, 13) for day in (2, 9, 16, 23)]
    return "".join(
        f"site-{number},{YEAR}-{month:02}-{day:02}T16:00Z,{YEAR}-{month:02}-{day:02}T22:00Z,20MW\n"
        for month, day in days
    )
